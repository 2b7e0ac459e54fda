import struct
import sys
import types
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import ExifTags, Image, ImageOps

from iaside.inputs import image_files, labels_csv, numbering
from iaside.inputs.images import check_labels, count_images, load_images, load_pairs
from iaside.inputs.splits import load_split, split_size


@pytest.fixture(autouse=True)
def no_other_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def put(path, value=0, **how):
    """A picture of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value,) * 3).save(path, **how)


def class_folders(root, names):
    """One picture per class; the k-th name has grey k."""
    for k, name in enumerate(names):
        put(root / name / "x.png", k)
    return root


def network(n_classes):
    return SimpleNamespace(
        recipe={
            "input_size": (8, 8),
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "num_classes": n_classes,
        }
    )


def by_grey(source, **how):
    """Grey -> label."""
    images, labels = load_images(source, **how)
    greys = (images[:, 0, 0, 0] * 255).round().int().tolist()
    return dict(zip(greys, labels.tolist(), strict=True))


# --- what is an image and what a class ------------------------------------------------------------


def test_hidden_files_and_litter_are_neither_classes_nor_images(tmp_path):
    class_folders(tmp_path, ["cat", "dog"])
    put(tmp_path / "cat/.ipynb_checkpoints/x-checkpoint.jpg")
    put(tmp_path / "@eaDir/x.jpg")
    put(tmp_path / "dog/@eaDir/x.jpg")
    (tmp_path / "__MACOSX/cat").mkdir(parents=True)
    put(tmp_path / "dog/x.jpg", 9)
    (tmp_path / "dog/x.jpg").rename(tmp_path / "dog/._x.jpg")
    for name in ("Thumbs.db", "dog/Thumbs.db", ".DS_Store", "cat/.DS_Store", "cat/desktop.ini"):
        (tmp_path / name).write_bytes(b"litter")
    assert by_grey(tmp_path) == {0: 0, 1: 1}


def test_hidden_files_are_not_missed_in_labels_csv(tmp_path):
    put(tmp_path / "x.png")
    put(tmp_path / ".trash/x.png")
    (tmp_path / "labels.csv").write_text("file,label\nx.png,4\n")
    assert by_grey(tmp_path) == {0: 4}


def test_a_stray_file_shifts_no_label_of_tiny_imagenet(tmp_path):
    class_folders(tmp_path / "train", ["n01443537", "n02123045"])
    put(tmp_path / "train/n01443537/._x.png", format="png")
    put(tmp_path / "val/images/a.png", 7)
    (tmp_path / "val/val_annotations.txt").write_text("a.png\tn02123045\t0\t0\t1\t1\n")
    for litter in (".DS_Store", "train/.DS_Store"):
        (tmp_path / litter).touch()
    (tmp_path / "train/._n").mkdir()
    assert by_grey(tmp_path) == {7: 1}
    x, y, *_ = load_split(tmp_path)
    assert x[:, 0, 0, 0].tolist() == [0, 1] and y.tolist() == [0, 1]
    assert by_grey(tmp_path, like=network(1000)) == {7: 281}  # ImageNet's tabby


def test_tiny_imagenet_says_what_is_wrong_with_it(tmp_path):
    put(tmp_path / "val/images/a.png", 7)
    table = tmp_path / "val/val_annotations.txt"
    table.write_text("a.png\tn02123045\t0\t0\t1\t1\n")
    with pytest.raises(ValueError, match="lacks train/"):
        load_images(tmp_path)
    class_folders(tmp_path / "train", ["n01443537", "n02123045"])
    with pytest.raises(ValueError, match="part of Tiny ImageNet, .*: give '[^']*0'"):
        load_images(tmp_path / "val")
    put(tmp_path / "val/images/b.png", 8)
    (tmp_path / "val/images/c.heic").touch()
    with pytest.warns(RuntimeWarning, match="1 .heic, 1 images that are not in the table"):
        assert by_grey(tmp_path) == {7: 1}
    for other in ("b.png", "c.heic"):
        (tmp_path / "val/images" / other).unlink()
    (tmp_path / "train/n01443537/boxes.txt").touch()  # as it comes
    (tmp_path / "train/n01443537/d.heic").touch()
    with pytest.warns(RuntimeWarning, match=": 1 files .*: 1 .heic"):
        split_size(tmp_path)
    for line, said in (
        ("a.png n02123045", "'a.png n02123045' must be file, tab, class"),
        ("a.png\tn00000000", "class 'n00000000' is no folder of train/"),
    ):
        table.write_text(f"a.png\tn02123045\t0\n{line}\n")
        with pytest.raises(ValueError, match=f"val_annotations.txt, line 2: .*{said}"):
            load_images(tmp_path)
    table.write_text("z.png\tn02123045\n")
    with pytest.raises(FileNotFoundError, match="names 'z.png', which is not in images/"):
        load_images(tmp_path)


def test_a_folder_without_images_is_no_class_of_its_own_accord(tmp_path):
    class_folders(tmp_path, ["cat", "dog"])
    (tmp_path / "birds").mkdir()
    with pytest.raises(ValueError, match="folder 'birds' of .* holds no images.*classes="):
        load_images(tmp_path)
    assert by_grey(tmp_path, classes=["dog", "cat", "birds"]) == {0: 1, 1: 0}


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "Test"), ("valid",)])
def test_parts_of_a_data_set_are_no_classes(tmp_path, names):
    for name in names:
        class_folders(tmp_path / name, ["cat", "dog"])
    said = " and ".join(f"{name}/" for name in sorted(names))
    for load in (load_images, load_split, split_size):
        with pytest.raises(ValueError, match=f"holds {said}, which .*: give one of them"):
            load(tmp_path)
    assert by_grey(tmp_path / names[-1]) == {0: 0, 1: 1}
    class_folders(tmp_path, ["masks"])  # beside two parts it is no class either
    if len(names) > 1:
        with pytest.raises(ValueError, match=f"holds {said}, which"):
            load_images(tmp_path)


def test_a_train_among_vehicles_is_a_class(tmp_path):
    assert by_grey(class_folders(tmp_path, ["bus", "car", "train"])) == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "dev"),
        ("train2017", "val2017"),
        ("train_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("imagenette_train", "imagenette_val"),
        ("train", "eval", "LICENSES"),
    ],
)
def test_folders_of_the_same_folders_are_parts(tmp_path, parts):
    for part in parts[:2]:
        class_folders(tmp_path / part, ["cat", "dog"])
    for other in parts[2:]:
        put(tmp_path / other / "x.png")
    for load in (load_images, load_split, split_size, count_images):
        with pytest.raises(
            ValueError, match=f"both hold folders named cat, dog: .*({parts[0]}|{parts[1]})'"
        ):
            load(tmp_path)
    assert by_grey(tmp_path / parts[1]) == {0: 0, 1: 1}
    names = [part.partition("/")[0] for part in parts]
    _, labels = load_images(tmp_path, classes=names)
    assert set(labels.tolist()) == set(range(len(parts)))


def test_classes_may_have_folders_of_their_own(tmp_path):
    class_folders(tmp_path / "cat", ["indoors", "outdoors"])
    class_folders(tmp_path / "dog", ["indoors", "beach"])  # one name in common
    assert load_images(tmp_path)[1].tolist() == [0, 0, 1, 1]
    for name in ("a", "b"):
        put(tmp_path / f"fox/{name}/x.png")
    put(tmp_path / "fox/x.png")  # and pictures beside them
    class_folders(tmp_path / "owl", ["a", "b", "c"])
    assert load_images(tmp_path)[1].bincount().tolist() == [2, 2, 3, 3]


def test_one_folder_around_the_classes_is_no_class(tmp_path):
    class_folders(tmp_path / "images/all", ["cat", "dog"])
    with pytest.raises(ValueError, match="2 folders of images/ .cat, dog.*images/all'.*classes="):
        load_images(tmp_path)
    assert load_images(tmp_path, classes=["images"])[1].tolist() == [0, 0]
    put(tmp_path / "images/x.png")
    assert load_images(tmp_path)[1].tolist() == [0, 0, 0]
    put(tmp_path / "b/cat/only/x.png")  # one class
    assert load_images(tmp_path / "b")[1].tolist() == [0]


def test_linked_pictures_and_folders_are_taken(tmp_path):
    class_folders(tmp_path / "far", ["cat", "dog"])
    put(tmp_path / "far/one.png", 9)
    put(tmp_path / "far/more/b.png", 7)
    pets = tmp_path / "pets"
    pets.mkdir()
    (pets / "cat").symlink_to(tmp_path / "far/cat")
    put(pets / "dog/a.png", 1)
    (pets / "dog/one.png").symlink_to(tmp_path / "far/one.png")
    (pets / "dog/more").symlink_to(tmp_path / "far/more")
    (pets / "dog/circle").symlink_to(pets / "dog")
    assert by_grey(pets) == {0: 0, 1: 1, 9: 1, 7: 1}
    assert count_images(pets) == 4  # the circle adds none
    (pets / "dog/gone.png").symlink_to(tmp_path / "gone.png")
    (pets / "fox").symlink_to(tmp_path / "gone")
    with pytest.warns(RuntimeWarning, match="2 files left out: 2 broken links"):
        load_images(pets)


def test_links_are_followed_as_torchvision_follows_them(tmp_path):
    """Each that ends, also when two lead to one folder."""
    from torchvision.datasets import ImageFolder

    for k in range(5):
        put(tmp_path / f"disk/more/{k}.png", k)
    put(tmp_path / "disk/x.PNG", 5)
    pets = class_folders(tmp_path / "pets", ["cat", "dog"])
    (pets / "fox").symlink_to(tmp_path / "disk")
    (pets / "dog/one").symlink_to(tmp_path / "disk/more")
    (pets / "dog/two").symlink_to(tmp_path / "disk/more")
    (pets / "dog/x2.png").symlink_to(pets / "dog/x.png")
    (tmp_path / "link").symlink_to(pets)
    for root in (pets, tmp_path / "link"):
        right = ImageFolder(root)
        assert count_images(root) == len(right) == 1 + 12 + 6
        assert load_images(root)[1].tolist() == right.targets


def test_links_in_circles_end(tmp_path):
    pets = class_folders(tmp_path / "pets", ["cat", "dog"])
    (pets / "dog/all").symlink_to(pets)  # or each cat were a dog
    (pets / "dog/self").symlink_to(".")
    (pets / "dog/cats").symlink_to(pets / "cat")
    (pets / "cat/dogs").symlink_to(pets / "dog")
    (pets / "dog/none.png").symlink_to("none.png")  # to itself: no file
    with pytest.warns(RuntimeWarning, match=": 2 files left out: 2 broken links"):
        images, labels = load_images(pets)
    greys = (images[:, 0, 0, 0] * 255).round().int().tolist()
    assert list(zip(greys, labels.tolist(), strict=True)) == [(1, 0), (0, 0), (0, 1), (1, 1)]
    (pets / "dog/none.png").unlink()
    (pets / "everything").symlink_to(pets)
    with pytest.raises(ValueError, match="the folder 'everything' .* holds no images, but would"):
        load_images(pets)


def test_a_flat_folder_is_told_of_its_pictures(tmp_path):
    for name in ("a.JPG", "b.png", ".c.png"):
        put(tmp_path / name)
    (tmp_path / "d.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="2 images outside the class folders.* labels.csv") as said:
        load_images(tmp_path)
    assert "Pillow" not in str(said.value), "which reads them"


@pytest.mark.parametrize("ending", [".gif", ".avif", ".jp2", ".jfif", ".JPG", ".webp", ".tif", ""])
def test_formats_that_pillow_opens_are_images(tmp_path, ending):
    picture = Image.new("RGB", (32, 32), (200, 200, 200))
    (tmp_path / "a").mkdir()
    kind = "jpeg" if ending in ("", ".jfif", ".JPG") else None
    picture.save(tmp_path / f"a/x{ending}", format=kind or Image.registered_extensions()[ending])
    images, _ = load_images(tmp_path)
    assert images.shape == (1, 3, 32, 32) and (images * 255 - 200).abs().max() <= 2


def test_what_is_left_out_is_counted_once_in_a_line(tmp_path):
    class_folders(tmp_path, ["cat", "dog"])
    for name in ("cat/1.heic", "cat/2.HEIC", "dog/notes.txt", "dog/LICENSE"):
        (tmp_path / name).write_text("no picture")
    put(tmp_path / "stray.png")
    with pytest.warns(RuntimeWarning) as said:
        assert by_grey(tmp_path) == {0: 0, 1: 1}
    (line,) = (str(w.message) for w in said)
    assert "5 files left out" in line and "\n" not in line and 'pip install "iaside[heif]"' in line
    for count in ("2 .heic", "1 .txt", "1 without an ending", "1 images outside the class folders"):
        assert count in line
    for name in ("cat/x.png", "dog/x.png", "stray.png"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"no images in .*4 files left out.*2 \.heic"):
        load_images(tmp_path)


def test_what_labels_csv_does_not_name_is_counted(tmp_path):
    put(tmp_path / "x.png")
    (tmp_path / "y.heic").touch()
    (tmp_path / "labels.csv").write_text("file,label\nx.png,4\n")
    with pytest.warns(RuntimeWarning, match=r": 1 files left out, .*: 1 \.heic"):
        load_images(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\nx.png,4\ny.heic,4\n")
    with pytest.raises(ValueError, match=r'y.heic cannot be read .*pip install "iaside.heif."'):
        load_images(tmp_path)


def test_pillow_heif_is_taken_where_it_is_installed(monkeypatch):
    asked = []
    stand_in = types.SimpleNamespace(register_heif_opener=lambda: asked.append(1))
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    image_files.image_endings.__wrapped__()
    assert asked == [1]


# --- EXIF -----------------------------------------------------------------------------------------

# What a camera does to an upright picture that it stores under each tag.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def store(upright, tag, path):
    """Save pixels (H, W, 3) as a camera held otherwise does."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = tag
    how = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(np.ascontiguousarray(STORED[tag](upright))).save(
        path, exif=exif, **how.get(path.suffix, {})
    )


@pytest.mark.parametrize("tag", STORED)
@pytest.mark.parametrize(
    "ending",
    [".jpg", *(pytest.param(e, marks=pytest.mark.sweep) for e in (".png", ".webp", ".tif"))],
)
def test_pictures_are_upright_whatever_the_camera_stored(tmp_path, tag, ending):
    rng = np.random.default_rng(0)
    upright = np.kron(rng.integers(0, 256, (5, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    (tmp_path / "a").mkdir()
    store(upright, tag, tmp_path / f"a/x{ending}")
    images, _ = load_images(tmp_path)
    assert images.shape == (1, 3, 40, 24)
    off = (images[0].permute(1, 2, 0) * 255 - torch.from_numpy(upright)).abs()
    assert off.max() <= (6 if ending == ".jpg" else 0.01)
    # torchvision leaves it as it lies
    theirs, _ = torchvision.datasets.ImageFolder(tmp_path)[0]
    if ending != ".tif":  # which Pillow itself turns
        assert theirs.size == ((24, 40) if tag < 5 else (40, 24))


def test_exif_that_is_none_does_no_harm(tmp_path):
    put(tmp_path / "a/x.png", 30, exif=b"Exif\0\0garbage!")
    assert by_grey(tmp_path) == {30: 0}


def test_what_fails_in_turning_does_no_harm(tmp_path, monkeypatch):
    def fail(image):
        raise ZeroDivisionError

    put(tmp_path / "a/x.png", 30)
    monkeypatch.setattr(image_files.ImageOps, "exif_transpose", fail)
    assert by_grey(tmp_path) == {30: 0}


@pytest.mark.parametrize("error", [ValueError, KeyError, ZeroDivisionError, struct.error])
def test_every_error_of_a_decoder_names_the_file(tmp_path, monkeypatch, error):
    class_folders(tmp_path, ["cat", "dog"])
    convert = Image.Image.convert

    def fail(image, *how):
        if "cat" in getattr(image, "filename", ""):
            raise error("broken")
        return convert(image, *how)

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(ValueError, match="cat/x.png cannot be read .*broken"):
        load_images(tmp_path)
    with pytest.warns(UserWarning, match="1 unreadable images left out: .*cat/x.png"):
        assert by_grey(tmp_path, skip_unreadable=True) == {1: 1}


def test_a_file_without_an_ending_that_no_decoder_takes_is_no_image(tmp_path, monkeypatch):
    class_folders(tmp_path, ["cat", "dog"])
    (tmp_path / "dog/odd").write_bytes(b"odd")
    opened = Image.open

    def fail(path, **how):
        if path.name == "odd":
            raise struct.error("unpack requires more")
        return opened(path, **how)

    monkeypatch.setattr(Image, "open", fail)
    with pytest.warns(RuntimeWarning, match="1 without an ending"):
        assert by_grey(tmp_path) == {0: 0, 1: 1}


def test_packaged_photographs_are_upright_as_they_are(data):
    files = labels_csv.labelled_files(data / "images/photographs", numbering.Numbering()).files
    assert len(files) == 70
    for path in files:
        with Image.open(path) as image:
            assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    with Image.open(files[0]) as image:
        assert image_files.read_image(files[0]) == ImageOps.exif_transpose(image).convert("RGB")


# --- names -> labels ------------------------------------------------------------------------------


def test_complete_numbers_are_numbers(tmp_path):
    names = [str(k) for k in range(12)]
    class_folders(tmp_path, names)
    assert by_grey(tmp_path, like=network(12)) == {k: k for k in range(12)}
    assert by_grey(tmp_path, classes="numbers") == {k: k for k in range(12)}
    words = {int(name): k for k, name in enumerate(sorted(names))}  # as ImageFolder
    assert by_grey(tmp_path, like=network(12), classes="words") == words
    theirs = torchvision.datasets.ImageFolder(tmp_path).class_to_idx
    assert {str(grey): label for grey, label in words.items()} == theirs
    for like in (None, network(1000)):
        with pytest.raises(
            ValueError, match="12 classes .* named by numbers .*'numbers' .*'words'"
        ):
            load_images(tmp_path, like=like, input_size=8)
    # a network that is trained on them counts as load_images then does
    x, y, *_ = load_split(class_folders(tmp_path, [f"{name}/more" for name in names]), 0.5)
    assert all(int(label) == int(image[0, 0, 0]) for image, label in zip(x, y, strict=True))


def test_a_thousand_numbers_are_imagenets(tmp_path):
    index = numbering.Numbering(n_classes=1000).index([str(k) for k in range(1000)], tmp_path)
    assert all(int(name) == label for name, label in index.items())


def test_numbers_that_agree_either_way_need_no_word(tmp_path):
    assert by_grey(class_folders(tmp_path / "a", ["0", "1", "2"])) == {0: 0, 1: 1, 2: 2}
    padded = [f"{k:03d}" for k in range(12)]
    assert by_grey(class_folders(tmp_path / "b", padded)) == {k: k for k in range(12)}
    from_one = class_folders(tmp_path / "c", ["1", "2", "3"])
    assert by_grey(from_one, like=network(3)) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(ValueError, match="named by numbers .*the network knows 1000"):
        load_images(from_one, like=network(1000))
    assert by_grey(from_one, like=network(1000), classes="numbers") == {0: 1, 1: 2, 2: 3}
    with pytest.raises(ValueError, match="not named by different numbers"):
        load_images(class_folders(tmp_path / "d", ["1", "01"]), classes="numbers")
    with pytest.raises(ValueError, match="not named by different numbers"):
        load_images(class_folders(tmp_path / "e", ["ant", "bee"]), classes="numbers")


def test_folders_of_numbers_are_counted_alike_in_training_and_measuring(tmp_path):
    names = [str(k) for k in range(1, 13)]
    class_folders(tmp_path, [f"{name}/more" for name in names])
    x, y, *_ = load_split(tmp_path, 0.5)
    trained = {int(image[0, 0, 0]): int(label) for image, label in zip(x, y, strict=True)}
    with pytest.warns(RuntimeWarning, match="order of the numbers.*ImageFolder.*'words'"):
        measured = by_grey(tmp_path, like=network(12))
    assert measured == {k: k for k in range(12)}
    assert trained.items() <= measured.items()


def test_labels_may_play_no_part(tmp_path):
    names = [str(k) for k in range(12)]
    class_folders(tmp_path, names)  # refused where labels are asked for without a network
    with pytest.raises(ValueError, match="named by numbers"):
        load_images(tmp_path)
    pictures = load_images(tmp_path, n=7, seed=3, labels=False)
    same, _ = load_images(tmp_path, n=7, seed=3, like=network(12))
    assert torch.equal(pictures, same)
    assert torch.equal(
        load_images(tmp_path, like=network(3), labels=False),
        load_images(tmp_path, like=network(12))[0],
    )
    with pytest.raises(ValueError, match="labels=False returns no labels"):
        load_images(tmp_path, labels=False, return_classes=True)


def test_without_labels_no_mapping_is_shown(tmp_path, capsys):
    load_images(class_folders(tmp_path, ["cat", "dog"]), labels=False)
    assert capsys.readouterr().err == ""


def test_labels_are_checked_without_decoding(tmp_path, monkeypatch):
    class_folders(tmp_path, ["1", "2", "3"])
    monkeypatch.setattr("iaside.inputs.listing.read_image", None)
    check_labels(tmp_path, 3)
    with pytest.raises(ValueError, match="named by numbers .*the network knows 1000"):
        check_labels(tmp_path, 1000)
    (tmp_path / "labels.csv").write_text("file,label\n1/x.png,0\n2/x.png,7\n3/x.png,1\n")
    check_labels(tmp_path, None)
    with pytest.raises(ValueError, match="labels from 0 to 7, .*the network's 7"):
        check_labels(tmp_path, 7)


@pytest.mark.slow
def test_one_name_that_is_no_imagenet_id_makes_no_other_labels(tmp_path):
    class_folders(tmp_path, ["N01443537", "n02123045-tabby", "n15075141"])
    assert by_grey(tmp_path, like=network(1000)) == {0: 1, 1: 281, 2: 999}
    for odd in ("other", "n00000001", "n021230455"):
        put(tmp_path / odd / "x.png", 9)
        for like in (network(1000), network(0), None):
            with pytest.raises(ValueError, match=f"ids of ImageNet.*but not '{odd}' .1 in all"):
                load_images(tmp_path, like=like, input_size=8)
        assert by_grey(tmp_path, like=network(4))  # in alphabetical order
        (tmp_path / odd / "x.png").unlink()
        (tmp_path / odd).rmdir()
    from timm.data import ImageNetInfo

    ids = ImageNetInfo().label_names()
    with pytest.raises(ValueError, match="but not 'other'"):
        numbering.Numbering(n_classes=1000).index([*ids[:-1], "other"], tmp_path)


@pytest.mark.parametrize("classes", [{"ant", "bee"}, 3, iter(["ant", "bee"])])
def test_classes_have_an_order(tmp_path, classes):
    class_folders(tmp_path, ["ant", "bee"])
    with pytest.raises(TypeError, match="^classes=.* must be 'numbers', 'words', a list"):
        load_images(tmp_path, classes=classes)


@pytest.mark.parametrize("classes", [np.array(["bee", "ant"]), pd.Series(["bee", "ant"])])
def test_an_array_of_names_has_an_order(tmp_path, classes):
    class_folders(tmp_path, ["ant", "bee"])
    assert by_grey(tmp_path, classes=classes) == {0: 1, 1: 0}


ACCENTS = "caf\u00e9", "cafe\u0301"  # one name, as Linux and as a Mac write it


@pytest.mark.parametrize(("on_disk", "said"), [ACCENTS, ACCENTS[::-1]])
def test_accents_are_the_same_however_they_are_written(tmp_path, on_disk, said):
    class_folders(tmp_path / "folders", [on_disk, "bee"])
    for classes in ([said, "bee"], {said: 0, "bee": 1}):
        assert by_grey(tmp_path / "folders", classes=classes) == {0: 0, 1: 1}
    put(tmp_path / "table" / f"{on_disk}.png", 7)
    (tmp_path / "table" / "labels.csv").write_text(f"file,label\n{said}.png,4\n", "utf-8")
    assert by_grey(tmp_path / "table") == {7: 4}


def test_a_row_may_name_its_file_from_the_root(tmp_path, monkeypatch):
    put(tmp_path / "a" / "x.png", 7)
    (tmp_path / "a" / "labels.csv").write_text(f"file,label\n{tmp_path}/a/../a/x.png,4\n")
    monkeypatch.chdir(tmp_path)
    assert by_grey("a") == by_grey(tmp_path / "a") == {7: 4}
    with (tmp_path / "a" / "labels.csv").open("a") as table:
        table.write("x.png,5\n")
    with pytest.raises(ValueError, match="names some file twice"):
        load_images("a")


def test_home_is_where_the_user_says(tmp_path, monkeypatch):
    class_folders(tmp_path / "pets", ["cat", "dog"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert by_grey("~/pets") == {0: 0, 1: 1}


def test_numpys_integers_are_indices(tmp_path):
    class_folders(tmp_path, ["ant", "bee"])
    where = {"ant": np.int64(310), "bee": np.int32(309)}
    assert by_grey(tmp_path, classes=where) == {0: 310, 1: 309}


# --- pairs ----------------------------------------------------------------------------------------


def test_pairs_are_of_one_name_whatever_lies_between(tmp_path):
    for k, name in enumerate("abc"):
        put(tmp_path / f"clean/{name}.png", 10 * k)
        put(tmp_path / f"degraded/{name}.bmp", 10 * k + 1)
    clean, degraded = load_pairs(tmp_path)
    assert ((degraded - clean) * 255).round().unique().tolist() == [1]
    assert load_pairs(tmp_path, input_size=(4, 6))[1].shape == (3, 3, 4, 6)
    for name in ("clean/b", "degraded/c"):  # one stem left on either side
        (picture,) = tmp_path.glob(f"{name}.*")
        picture.rename(tmp_path / f"{name}.heic")
    with pytest.raises(ValueError, match="clean: 1 files left out.*1 .heic.*nothing else"):
        load_pairs(tmp_path)
    for heic in tmp_path.rglob("*.heic"):
        heic.unlink()
    with pytest.raises(ValueError, match=r"the same names: b, c \(2 in all\)"):
        load_pairs(tmp_path)
    put(tmp_path / "clean/a.bmp")
    with pytest.raises(ValueError, match="two pictures named 'a'"):
        load_pairs(tmp_path)


def test_imagenet_ids_depend_on_the_network(tmp_path):
    class_folders(tmp_path, ["n01443537", "n02123045", "n15075141"])
    assert by_grey(tmp_path, like=network(1000)) == {0: 1, 1: 281, 2: 999}
    assert by_grey(tmp_path, like=network(3)) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(ValueError, match="3 classes named by ImageNet ids, .*knows 10: give"):
        load_images(tmp_path, like=network(10))


def test_the_mapping_is_shown_and_returned(tmp_path, capsys):
    class_folders(tmp_path, ["zebra", "ant", "bee"])
    _, labels, classes = load_images(tmp_path, return_classes=True)
    assert classes == {"ant": 0, "bee": 1, "zebra": 2} and labels.tolist() == [0, 1, 2]
    said = capsys.readouterr()
    assert "labels of its 3 classes: ant=0, bee=1, zebra=2\n" in said.err and not said.out
    where = {"zebra": 340, "ant": 310, "bee": 309}
    assert by_grey(tmp_path, like=network(1000), classes=where) == {0: 340, 1: 310, 2: 309}
    assert "bee=309, ant=310, zebra=340" in capsys.readouterr().err
    names = ["bee", "wasp", "ant", "zebra"]
    assert by_grey(tmp_path, like=network(4), classes=names) == {0: 3, 1: 2, 2: 0}
    images = [(torch.zeros(3, 8, 8), 5), (torch.zeros(3, 8, 8), 3)]
    assert load_images(images, return_classes=True)[2] == {"3": 3, "5": 5}
    with pytest.raises(ValueError, match="no index for 'zebra' .1 of 3"):
        load_images(tmp_path, classes=["ant", "bee"])
    with pytest.raises(ValueError, match="classes= gives 'ant' the index '3'"):
        load_images(tmp_path, classes={"ant": "3", "bee": 1, "zebra": 2})
    with pytest.raises(ValueError, match="names a class twice"):
        load_images(tmp_path, classes=["ant", "bee", "zebra", "ant"])
    with pytest.raises(ValueError, match="classes='letters' must be 'numbers', 'words'"):
        load_images(tmp_path, classes="letters")
    with pytest.raises(ValueError, match="this list gives labels: leave it out"):
        load_images(images, classes=["ant", "bee"])


def test_words_for_fewer_or_more_classes_than_the_network_has(tmp_path):
    class_folders(tmp_path, ["ant", "bee", "zebra"])
    with pytest.warns(RuntimeWarning, match="3 classes, the network 1000: .*classes="):
        assert by_grey(tmp_path, like=network(1000)) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(ValueError, match="3 classes with labels from 0 to 2, .*the network's 2"):
        load_images(tmp_path, like=network(2))
    assert by_grey(tmp_path, like=network(0)) == {0: 0, 1: 1, 2: 2}  # no head: labels play no part
    with pytest.raises(ValueError, match="labels from 3 to 5, .*the network's 5"):
        load_images([(torch.zeros(3, 8, 8), k) for k in (5, 3)], like=network(5))
    with pytest.raises(ValueError, match="labels from -1 to 5, .*must be 0 or more"):
        load_images([(torch.zeros(3, 8, 8), k) for k in (5, -1)])


# --- labels.csv -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "file,label\nKäse.png,7\nb.png,11\n".encode(),
        "\ufefffile;label;note\r\nKäse.png;7;x\r\nb.png;11;\r\n".encode(),
        "filename\tclass\nKäse.png\t7\nb.png\t11\n".encode(),
        "label;file\r\n7;Käse.png\r\n11;b.png\r\n".encode("cp1252"),
        "Path,Label\r\nKäse.png,7\r\n\r\n.\\b.png,11\r\n".encode("utf-16"),
        'id,image,label\n1,"Käse.png",7.0\n2, b.png ,11.0\n'.encode(),
        "\ufefffile;label\r\nKäse.png;7,0\r\nb.png;11,0\r\n".encode(),
        "\ufeffsep=;\r\nfile;label\r\nKäse.png;7\r\nb.png;11\r\n".encode(),
    ],
    ids=["plain", "bom;", "tab", "cp1252", "utf-16", "floats", "decimal comma", "sep=;"],
)
def test_labels_csv_as_other_programs_write_it(tmp_path, content):
    put(tmp_path / "Käse.png", 1)
    put(tmp_path / "b.png", 2)
    (tmp_path / "labels.csv").write_bytes(content)
    assert by_grey(tmp_path) == {1: 7, 2: 11}


def test_labels_csv_with_names(tmp_path, capsys):
    for k, name in enumerate("abc"):
        put(tmp_path / f"{name}.png", k)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na.png,dog\nb.png,cat\nc.png,dog\n")
    assert by_grey(tmp_path) == {0: 1, 1: 0, 2: 1}
    assert "cat=0, dog=1" in capsys.readouterr().err
    assert by_grey(tmp_path, classes={"dog": 207, "cat": 281}) == {0: 207, 1: 281, 2: 207}
    table.write_text("file,label\na.png,n02123045\nb.png,n01443537\nc.png,n02123045\n")
    assert by_grey(tmp_path, like=network(1000)) == {0: 281, 1: 1, 2: 281}
    table.write_text("file,label\na.png,3\nb.png,10\nc.png,3\n")
    assert by_grey(tmp_path, classes="words") == {0: 1, 1: 0, 2: 1}
    assert load_images(tmp_path, return_classes=True)[2] == {"3": 3, "10": 10}
    for odd in ("cat", "-1", "1.5", "", "1e3", "9" * 19):
        table.write_text(f"file,label\na.png,3\nb.png,{odd}\nc.png,3\n")
        with pytest.raises(ValueError, match=f"the label of 'b.png' is '{odd}', it must be"):
            load_images(tmp_path)
    table.write_text("file,label\na.png,3\nb.png\n")
    with pytest.raises(ValueError, match=r"the row \['b.png'\] lacks a file or a label"):
        load_images(tmp_path)
    for text, columns in (("", "none"), ("id;art\n1;2\n", "id, art")):
        table.write_text(text)
        with pytest.raises(ValueError, match=f"columns file,label .*its columns are {columns}"):
            load_images(tmp_path)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"file,label\na,b.png,3\n", r"the row .* has more cells than the header"),
        ("file,label\na.png,3\n".encode("utf-16")[:-1], "damaged UTF-16"),
        (b"file,label\na.png," + b"9" * 140_000 + b"\n", "field larger than field limit"),
        (b"file,label\na.png,1e3\n", "'1e3', it must be a class index"),
    ],
    ids=["cells", "utf-16", "huge", "float"],
)
def test_a_damaged_labels_csv_is_one_line(tmp_path, content, said):
    put(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"labels.csv.*{said}") as error:
        load_images(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
