import csv
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch.utils.data import Dataset

from iaside.inputs import downloads, libraries, project
from iaside.inputs import images as module
from iaside.inputs.images import count_images, load_images, load_pairs
from iaside.inputs.splits import load_split


def square(value, side=40):
    """An 8-bit RGB picture of one grey, so that a loaded image tells which file it was."""
    return Image.new("RGB", (side, side), (value,) * 3)


@pytest.fixture
def labelled(tmp_path):
    """12 pictures of labels 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2; picture k has grey 10 k."""
    labels = [0] * 6 + [1] * 4 + [2] * 2
    rows = ["file,label,note"]
    for k, label in enumerate(labels):
        square(10 * k).save(tmp_path / f"{k:02d}.png")
        rows.append(f"{k:02d}.png,{label},ignored")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def greys(images):
    return (images[:, 0, 0, 0] * 25.5).round().int().tolist()


def test_labels_csv_gives_files_in_order_with_their_labels(labelled):
    images, labels = load_images(labelled)
    assert images.shape == (12, 3, 40, 40) and images.dtype == torch.float32
    assert labels.tolist() == [0] * 6 + [1] * 4 + [2] * 2 and labels.dtype == torch.int64
    assert greys(images) == list(range(12))


@pytest.mark.parametrize(
    "n, counts", [(3, [1, 1, 1]), (6, [2, 2, 2]), (8, [3, 3, 2]), (12, [6, 4, 2])]
)
def test_drawing_is_even_over_labels_as_far_as_they_go(labelled, n, counts):
    images, labels = load_images(labelled, n=n)
    found = labels.bincount(minlength=3)
    assert sorted(found.tolist(), reverse=True) == counts
    assert greys(images) == sorted(greys(images)) and len(set(greys(images))) == n


def test_drawing_is_seeded_and_nested(labelled):
    five, again, other = (load_images(labelled, n=5, seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(five, again) and not torch.equal(five, other)
    assert set(greys(five)) < set(greys(load_images(labelled, n=9, seed=1)[0]))


def test_every_image_of_a_label_is_equally_likely(labelled):
    drawn = np.zeros(12)
    for seed in range(300):
        order = module._drawing_order([0] * 6 + [1] * 4 + [2] * 2, seed)
        drawn[order[:3]] += 1
    # binomial, 300 draws of 1/6, 1/4, 1/2: five standard deviations
    for k, p in enumerate([1 / 6] * 6 + [1 / 4] * 4 + [1 / 2] * 2):
        assert abs(drawn[k] - 300 * p) < 5 * (300 * p * (1 - p)) ** 0.5


def test_only_the_drawn_images_are_decoded(labelled):
    order = module._drawing_order([0] * 6 + [1] * 4 + [2] * 2, 0)
    for k in order[4:]:
        (labelled / f"{k:02d}.png").write_bytes(b"never opened")
    assert greys(load_images(labelled, n=4)[0]) == sorted(order[:4])


def test_damaged_images_are_named_and_skipped_only_if_asked(labelled):
    order = module._drawing_order([0] * 6 + [1] * 4 + [2] * 2, 0)
    bad = labelled / f"{order[1]:02d}.png"
    bad.write_bytes(bad.read_bytes()[:60])  # a real header, then nothing
    with pytest.raises(ValueError, match=rf"{bad.name} cannot be read.*skip_unreadable=True"):
        load_images(labelled, n=4)
    with pytest.warns(UserWarning, match=f"1 unreadable images left out: .*{bad.name}"):
        images, labels = load_images(labelled, n=4, skip_unreadable=True)
    assert greys(images) == sorted([order[0], *order[2:5]])  # the next in line takes its place
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="only 11 of 12 images can be read"),
    ):
        load_images(labelled, n=12, skip_unreadable=True)
    with pytest.warns(UserWarning):
        assert len(load_images(labelled, skip_unreadable=True)[0]) == 11


def test_sixteen_bit_images_are_refused(labelled):
    Image.fromarray(np.full((40, 40), 40000, np.uint16)).save(labelled / "00.png")
    with pytest.raises(ValueError, match="00.png cannot be read .*more than 8 bits"):
        load_images(labelled)


def test_image_folder_labels_are_places_in_sorted_order(tmp_path):
    for name, value in (("zebra", 30), ("ant", 10), ("bee", 20)):
        (tmp_path / name).mkdir()
        square(value).save(tmp_path / name / "x.png")
    images, labels = load_images(tmp_path)
    assert labels.tolist() == [0, 1, 2] and greys(images) == [1, 2, 3]
    theirs = torchvision.datasets.ImageFolder(tmp_path)
    assert [y for _, y in theirs.samples] == labels.tolist()


def test_imagenet_ids_keep_the_usual_index(tmp_path):
    for wnid in ("n01443537", "n15075141", "n02123045"):  # goldfish 1, toilet tissue 999, tabby 281
        (tmp_path / wnid).mkdir()
        square(0).save(tmp_path / wnid / "x.JPEG")
    assert load_images(tmp_path)[1].tolist() == [1, 281, 999]


def test_resize_and_crop_follow_a_non_square_size():
    # a picture whose left half is black and right half white stays so under a centre crop
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 50:] = 255
    images, _ = load_images([(Image.fromarray(picture), 0)], input_size=(32, 48))
    assert images.shape == (1, 3, 32, 48)
    assert images[..., :22].max() < 0.01 and images[..., 26:].min() > 0.99


def test_an_image_of_the_size_asked_for_is_taken_as_it_is_but_for_a_crop():
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    pixels = torch.from_numpy(picture).permute(2, 0, 1) / 255
    recipe = {"input_size": [3, 32, 48], "crop_pct": 0.8, "interpolation": "bicubic"}
    for image in (Image.fromarray(picture), pixels):
        assert torch.equal(load_images([(image, 0)], input_size=(32, 48))[0][0], pixels)
        larger = load_images([(image, 0)], like=SimpleNamespace(recipe=recipe))[0][0]
        assert larger.shape == pixels.shape and not torch.allclose(larger, pixels, atol=0.1)


@pytest.mark.sweep
@pytest.mark.parametrize("size", [(517, 391), (61, 97), (300, 300), (90, 1000)])
@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",  # 224 / 0.95
        "tf_efficientnet_lite1",  # 240 / 0.882
        "tf_efficientnet_lite2",  # 260 / 0.89
        "inception_v3.tf_in1k",  # 299 / 0.875
        "nasnetalarge.tf_in1k",  # 331 / 0.911
        "mobilenetv3_large_100.miil_in21k_ft_in1k",  # bilinear
        "convnext_tiny.in12k_ft_in1k_384",  # squashed
        "vit_base_patch16_sapiens2.fb",  # 1024 x 768
        "volo_d5_512.sail_in1k",  # 512 / 1.15: a black frame
    ],
)
def test_pixels_are_those_of_timms_own_transform(name, size):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    *cut, _ = timm.data.create_transform(**config, is_training=False).transforms  # normalises
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    theirs = torchvision.transforms.Compose(cut)(picture)
    like = SimpleNamespace(recipe=libraries.recipe_of(name) | {"num_classes": 1})
    ours, _ = load_images([(picture, 0)], like=like)
    assert ours.shape == (1, *config["input_size"]) and torch.equal(ours[0], theirs)


def test_npz_and_28_pixel_digits(tmp_path):
    digits = np.arange(4 * 784, dtype=np.uint32).reshape(4, 28, 28).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", images=digits, labels=np.array([3, 1, 3, 1]))
    images, labels = load_images(tmp_path / "digits.npz")
    assert images.shape == (4, 3, 32, 32) and labels.tolist() == [3, 1, 3, 1]
    np.testing.assert_array_equal((images[:, 1, 2:-2, 2:-2] * 255).round().numpy(), digits)
    assert not images[..., :2].any() and not images[:, :, -2:].any()
    np.savez(tmp_path / "floats.npz", images=np.float32(digits / 255), labels=np.arange(4))
    assert torch.equal(load_images(tmp_path / "floats.npz")[0], images)
    np.savez(tmp_path / "small.npz", images=np.full((2, 9, 11, 3), 0.25), labels=np.array([0, 1]))
    images, _ = load_images(tmp_path / "small.npz")
    assert images.shape == (2, 3, 9, 11) and (images == 0.25).all()
    np.savez(tmp_path / "bare.npz", pictures=digits)
    with pytest.raises(ValueError, match="lacks images, labels; it has pictures"):
        load_images(tmp_path / "bare.npz")
    np.savez(tmp_path / "odd.npz", images=digits, labels=np.arange(3))
    with pytest.raises(ValueError, match="labels must be 4 whole numbers"):
        load_images(tmp_path / "odd.npz")


@pytest.mark.parametrize("mode, padded", [("L", 1), ("LA", 1), ("1", 1), ("RGB", 0)])
def test_28_pixel_grey_files_are_padded_too(tmp_path, mode, padded):
    white = Image.new("L", (28, 28), 255).convert(mode)
    white.save(tmp_path / "digit.png")
    (tmp_path / "labels.csv").write_text("file,label\ndigit.png,7")
    images, _ = load_images(tmp_path)
    side = 28 + 4 * padded
    assert images.shape == (1, 3, side, side) and images.sum() == 3 * 28 * 28
    if padded:
        assert (images[..., 2:-2, 2:-2] == 1).all()
    Image.new("L", (30, 30), 9).save(tmp_path / "digit.png")
    assert load_images(tmp_path)[0].shape == (1, 3, 30, 30)  # only 28-pixel squares


def test_items_of_more_than_8_bits_are_refused_as_files_are():
    for mode in ("I;16", "I", "F"):
        with pytest.raises(ValueError, match=f"item 0 of .*{mode} pixels have more than 8 bits"):
            load_images([(Image.new(mode, (8, 8), 900), 0)])


@pytest.mark.parametrize("label", [float("inf"), float("nan"), 2**63, 1.5, None])
def test_labels_of_items_are_indices(label):
    with pytest.raises(ValueError, match="the label of item 0 of this list is .*class index"):
        load_images([(torch.zeros(3, 8, 8), label)])


def test_items_are_pairs():
    x = torch.zeros(3, 8, 8)
    for item, text in (
        ({"picture": x, "label": 0}, r"dict with 'picture', 'label': .*item\['picture'\]"),
        ((x, 0, "meta"), r"tuple of 3: it must be a pair .*\[\(item\[0\], item\[1\]\)"),
        ({"label": 0, "x": x}, r"dict with 'label', 'x': .*item\['x'\], item\['label'\]"),
        ((x,), r"tuple of 1: it must be a pair .*list\(zip\(images, labels\)\)"),
        (x, r"Tensor: it must be a pair .*list\(zip\(images, labels\)\)"),
    ):
        with pytest.raises(TypeError, match=f"item 0 of the source is a {text}"):
            load_images([item])


class Columns(list):
    """Rows as Hugging Face's datasets give them: by number, and a column by its name."""

    def __getitem__(self, k):
        return [row[k] for row in self] if isinstance(k, str) else super().__getitem__(k)


def test_images_as_people_have_them(tmp_path):
    """Ways to hold the same eight pictures of two classes."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    names, numbers = ["cat", "dog"] * 4, [0, 1] * 4
    pictures = [Image.fromarray(one) for one in pixels]
    paths = [tmp_path / f"{k}.png" for k in range(8)]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    rows = [{"image": one, "label": k} for one, k in zip(pictures, numbers, strict=True)]
    expected = load_images(list(zip(pictures, numbers, strict=True)))
    for source in (
        (pixels, np.array(numbers)),
        (pixels, names),
        (paths, names),
        (list(map(str, paths)), numbers),
        (pictures, torch.tensor(numbers)),
        (tensors, numbers),
        list(zip(paths, names, strict=True)),
        rows,
        Columns(rows),
        torch.utils.data.DataLoader(list(zip(pictures, numbers, strict=True)), batch_size=3),
    ):
        images, labels = load_images(source)
        assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])
    for source in ((pixels, numbers[1:]), (paths[:2], names)):
        with pytest.raises(ValueError, match="images and . labels: give one for each"):
            load_images(source)


class Splits(dict):
    """Data sets by split, as Hugging Face's datasets give them where no split was asked for."""

    column_names = {"train": ["image", "label"]}


def test_a_stream_is_no_data_set():
    rows = ({"image": Image.new("RGB", (8, 8)), "label": k} for k in range(4))
    with pytest.raises(TypeError, match=r"a generator, which .* no length: give .*islice"):
        load_images(rows)
    assert load_images(list(rows))[1].tolist() == [0, 1, 2, 3]  # nothing of it was used up


@pytest.mark.parametrize(
    "source", [{"train": []}, Splits(train=[]), pd.DataFrame({"file": ["a"], "label": [0]})]
)
def test_what_has_names_for_items_is_no_data_set(source):
    with pytest.raises(TypeError, match=f"source is a {type(source).__name__} of .*: give"):
        load_images(source)


class Lazy(Dataset):
    """Ten items of labels 0, 1, 0, ...; what it keeps under `targets` is something else."""

    targets = [3] * 10

    def __len__(self):
        return 10

    def __getitem__(self, k):
        if k >= 10:
            raise IndexError(k)
        return torch.full((1, 8, 8), k / 10), k % 2


def test_torch_data_sets():
    images, labels = load_images(Lazy(), n=4)
    assert images.shape == (4, 3, 8, 8) and labels.bincount().tolist() == [2, 2]


@pytest.fixture
def three_classes(tmp_path):
    for k, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        square(10 * k).save(tmp_path / name / "x.png")
    return tmp_path


def test_labels_of_a_data_set_are_what_its_items_say(three_classes):
    plain = torchvision.datasets.ImageFolder(three_classes)
    translate = [7, 5, 9].__getitem__
    translated = torchvision.datasets.ImageFolder(three_classes, target_transform=translate)

    class Translated(torchvision.datasets.ImageFolder):
        def __getitem__(self, k):
            picture, label = super().__getitem__(k)
            return picture, label + 4

    edited = torchvision.datasets.ImageFolder(three_classes)
    edited.samples = edited.samples[::-1]
    for source in (
        plain,
        translated,
        edited,
        Translated(three_classes),
        torch.utils.data.Subset(translated, [2, 0]),
        torch.utils.data.ConcatDataset([translated, Translated(three_classes)]),
        [(square(0), np.int64(3)), (square(1), torch.tensor(2)), (square(2), 1.0)],
    ):
        labels = load_images(source)[1].tolist()
        assert labels == [int(source[k][1]) for k in range(len(source))]
    assert load_images(translated)[1].tolist() == [7, 5, 9]
    for label in (0.5, [0, 2], None, torch.tensor([1, 1]), float("nan"), 1.7, {"a": 1}):
        with pytest.raises(ValueError, match="the label of item 0 of this list is .*class index"):
            load_images([(square(0), label)])


def test_only_the_drawn_images_of_torchvisions_sets_are_decoded(three_classes):
    decoded = []

    def loader(path):
        decoded.append(Path(path).parent.name)
        return Image.open(path)

    dataset = torchvision.datasets.ImageFolder(three_classes, loader=loader)
    assert load_images(torch.utils.data.Subset(dataset, [2, 1]), n=2)[1].tolist() == [2, 1]
    assert sorted(decoded) == ["b", "c"]


def test_shrinking_does_not_alias():
    stripes = torch.zeros(3, 64, 64)
    stripes[..., ::2] = 1  # the finest there are: gone after halving, not turned into coarse ones
    picture = torchvision.transforms.functional.to_pil_image(stripes)
    for image in (stripes, picture):
        small = load_images([(image, 0)], input_size=24)[0][..., 2:-2]
        assert small.min() > 0.35 and small.max() < 0.65


def test_resized_tensors_stay_in_range_and_normalised_ones_are_refused():
    step = torch.zeros(3, 20, 20)
    step[..., 10:] = 1
    images, _ = load_images([(step, 0)], input_size=37)  # bicubic overshoots at a step
    assert images.min() == 0 and images.max() == 1
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], got \(3, 20, 20\) from 0 to 2"):
        load_images([(2 * step, 0)], input_size=37)
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\]"):
        load_images([(step - 0.5, 0)])


# --- torchvision's layouts ------------------------------------------------------------------------


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_mnist_in_torchvisions_layout(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    digits = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    for part, count in (("train", 2), ("t10k", 5)):
        write_idx(raw / f"{part}-images-idx3-ubyte", digits[:count])
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    images, labels = load_images(tmp_path)
    assert labels.tolist() == [0, 1, 2, 3, 4]  # the test split
    np.testing.assert_array_equal((images[:, 0, 2:-2, 2:-2] * 255).round().numpy(), digits)
    assert torch.equal(load_images(tmp_path / "MNIST")[0], images)


def test_caltech101_equals_torchvisions(tmp_path):
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    for name in ("Faces", "BACKGROUND_Google", "ant"):
        (folder / name).mkdir(parents=True)
        for k in (1, 2):
            square(len(name) * 10 + k).save(folder / name / f"image_{k:04d}.jpg")
    theirs = torchvision.datasets.Caltech101(tmp_path)
    for source in (tmp_path, tmp_path / "caltech101", folder):
        images, labels = load_images(source)
        assert labels.tolist() == theirs.y
        by_hand = [torchvision.transforms.functional.to_tensor(theirs[k][0]) for k in range(4)]
        assert torch.equal(images, torch.stack(by_hand))


def test_a_damaged_torchvision_set_is_reported(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    for source in (tmp_path, tmp_path / "cifar-10-batches-py"):
        with pytest.raises(ValueError, match="torchvision cannot read .*cifar-10-batches-py"):
            load_images(source)


# --- errors ---------------------------------------------------------------------------------------


def test_missing_sources_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no images at 'nowhere'.*photographs, mnist_5k"):
        load_images("nowhere")
    monkeypatch.setattr(project, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="'photographs' are not there yet.*python data/fetch.py"
    ):
        load_images("photographs")
    with pytest.raises(ValueError, match="no images in .*labels.csv"):
        load_images(tmp_path)
    with pytest.raises(TypeError, match="source must be a name, a path or a Dataset"):
        load_images(7)
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="is a file, but not .npz"):
        load_images("a.txt")


@pytest.mark.parametrize("n", [0, -1, 13, 2.5, "2", True, float("nan")])
def test_asking_for_more_than_exist(labelled, n):
    with pytest.raises(
        ValueError, match=rf"n={n!r} images asked of .*, which holds 12: take n between"
    ):
        load_images(labelled, n=n)


@pytest.mark.parametrize("seed", [-1, 1.5, None, "1", True])
def test_a_seed_is_a_whole_number(labelled, seed):
    for load, how in ((load_images, {"n": 2}), (load_split, {})):
        with pytest.raises(ValueError, match=f"seed={seed!r} is not possible; it must be an int"):
            load(labelled, seed=seed, **how)


@pytest.mark.parametrize("size", [0, -1, (8,), (8, 8, 8), "8", "88", 3.5, (0, 8), True, {8, 9}])
def test_a_size_is_two_whole_sides(labelled, size):
    with pytest.raises(ValueError, match=r"input_size=.* is not possible; it must be \(H, W\)"):
        load_images(labelled, input_size=size)


@pytest.mark.parametrize("size", [np.int64(8), 8.0, [8, 8], np.array([8, 8]), torch.Size([8, 8])])
def test_a_size_may_be_any_two_whole_numbers(labelled, size):
    assert load_images(labelled, n=np.int64(2), input_size=size)[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("kind", [">f4", np.longdouble])
def test_npz_may_hold_any_real_numbers(tmp_path, kind):
    pixels = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images=pixels.astype(kind), labels=[0, 1])
    assert np.array_equal(load_images(tmp_path / "a.npz")[0], pixels.transpose(0, 3, 1, 2))


def test_labels_that_do_not_match_the_files(labelled):
    table = labelled / "labels.csv"
    text = table.read_text()
    square(0).save(labelled / "stray.png")
    with pytest.raises(ValueError, match="1 images in .* have no row in labels.csv: stray.png"):
        load_images(labelled)
    (labelled / "stray.png").unlink()
    table.write_text(text + "\ngone.png,1,")
    with pytest.raises(FileNotFoundError, match="names 1 files that are not there: gone.png"):
        load_images(labelled)
    table.write_text(text + "\n00.png,1,")
    with pytest.raises(ValueError, match="names some file twice"):
        load_images(labelled)
    table.write_text(text.replace("00.png,0", "00.png,cat"))
    with pytest.raises(ValueError, match="the label of '00.png' is 'cat'"):
        load_images(labelled)
    table.write_text("name,class\n00.png,1")
    with pytest.raises(ValueError, match="columns file,label .*its columns are name, class"):
        load_images(labelled)


def test_images_of_different_sizes_need_a_size(labelled):
    square(0, side=50).save(labelled / "00.png")
    with pytest.raises(ValueError, match=r"images of 2 sizes \(\(40, 40\) to \(50, 50\)"):
        load_images(labelled)
    assert load_images(labelled, input_size=32)[0].shape == (12, 3, 32, 32)


def test_like_must_carry_a_recipe(labelled):
    nets = [torch.nn.Linear(2, 2) for _ in range(3)]
    nets[1].recipe, nets[2].recipe = "mine", {"input_size": [8, 8]}
    for net in nets:
        with pytest.raises(TypeError, match="like must be a Classifier .*got Linear; .*input_size"):
            load_images(labelled, like=net)


# --- the packaged sets ----------------------------------------------------------------------------


def test_packaged_photographs_and_digits(data):
    with open(data / "images" / "photographs" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "set"]
    assert [r["set"] for r in rows].count("foolbox") == 20 and len(rows) == 70
    images, labels = load_images("photographs", n=3, input_size=64)
    assert torch.equal(load_images(data / "images" / "photographs", n=3, input_size=64)[0], images)
    digits, labels = load_images("mnist_5k", n=50)
    assert digits.shape == (50, 3, 32, 32) and labels.bincount().tolist() == [5] * 10
    assert 0.05 < digits.mean() < 0.2  # ink on black


# --- both halves ----------------------------------------------------------------------------------


def numbered(n, classes=4, side=8):
    """n different images: the k-th has k in its first pixels."""
    images = np.zeros((n, side, side, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(n) % 256, np.arange(n) // 256
    return images, np.arange(n) % classes


def contents(images):
    return {image.numpy().tobytes() for image in images}


def test_the_halves_are_stratified_and_never_share_an_image(tmp_path):
    images, labels = numbered(403)
    images[7] = images[400]  # twice in the set
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    split = [load_split(tmp_path / "set.npz", 0.25, seed) for seed in range(8)]
    for x, y, held_x, held_y in split:
        assert x.dtype == torch.uint8 and len(held_x) == round(0.25 * 403)
        assert not contents(x) & contents(held_x)
        assert len(contents(x) | contents(held_x)) == 402
        assert held_y.bincount().max() - held_y.bincount().min() <= 1
        assert len(x) in (302, 301), "a copy of a held-out image is not trained on"
        assert {len(x), len(y)} == {len(x)} and len(held_x) == len(held_y)
    assert {len(x) for x, *_ in split} == {301, 302}
    assert not torch.equal(split[0][2], split[1][2])
    again = load_split(tmp_path / "set.npz", 0.25, 0)
    assert all(torch.equal(a, b) for a, b in zip(split[0], again, strict=True))


def test_a_class_subset_is_numbered_from_0(tmp_path):
    for name, count in (("cat", 10), ("dog", 20), ("elk", 10)):
        (tmp_path / name).mkdir()
        for k in range(count):
            pixels = np.full((8, 8, 3), k + 40 * (ord(name[0]) - ord("b")), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    *_, labels = load_split(tmp_path, 0.2, classes=["elk", "dog"])
    assert labels.bincount().tolist() == [4, 2]
    _, labels, *_ = load_split(tmp_path, 0.2, classes=2)
    assert labels.bincount().tolist() == [8, 16]
    with pytest.raises(ValueError, match="no class 'cow' in .*it has cat, dog, elk"):
        load_split(tmp_path, classes=["cow", "elk"])
    with pytest.raises(ValueError, match="classes=4: .* has 3"):
        load_split(tmp_path, classes=4)
    with pytest.raises(ValueError, match="held_out=1 must be a share"):
        load_split(tmp_path, held_out=1)


def test_tiny_imagenet_keeps_its_own_split(tmp_path):
    images, _ = numbered(12)
    for w, wnid in enumerate(("n02", "n01")):
        folder = tmp_path / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for k in range(4):
            Image.fromarray(images[4 * w + k]).save(folder / f"{wnid}_{k}.png")
    (tmp_path / "val/images").mkdir(parents=True)
    for k in range(4):
        Image.fromarray(images[8 + k]).save(tmp_path / f"val/images/val_{k}.png")
    lines = [f"val_{k}.png\t{('n01', 'n02')[k % 2]}\t0\t0\t7\t7\n" for k in range(4)]
    (tmp_path / "val/val_annotations.txt").write_text("".join(lines))
    x, y, held_x, held_y = load_split(tmp_path)
    assert y.bincount().tolist() == [4, 4] and held_y.tolist() == [0, 1, 0, 1]
    assert held_x[:, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert sorted(x[y == 0][:, 0, 0, 0].tolist()) == [4, 5, 6, 7]
    shown, labels = load_images(tmp_path)
    assert torch.equal((shown * 255).to(torch.uint8), held_x) and torch.equal(labels, held_y)


def test_a_set_that_cannot_be_downloaded_says_where_to_put_it(tmp_path, monkeypatch):
    def refuse(root):
        raise OSError("no route to host")

    monkeypatch.setattr(project, "PROJECT", tmp_path)
    monkeypatch.setitem(downloads.DOWNLOADS, "cifar10", refuse)
    for source in ("cifar10", "data/images/cifar10"):
        with pytest.raises(FileNotFoundError, match="downloading them failed.*no route to host"):
            load_split(source)
    assert not list((tmp_path / "data/images").iterdir())

    def give(root):
        images, labels = numbered(20)
        np.savez(Path(root) / "never.npz", images=images, labels=labels)
        (Path(root) / "labels.csv").write_text("file,label\n")

    monkeypatch.setitem(downloads.DOWNLOADS, "svhn", give)
    downloads.fetch_images("svhn")
    assert (tmp_path / "data/images/svhn/never.npz").is_file()
    assert [p.name for p in (tmp_path / "data/images").iterdir()] == ["svhn"]


@pytest.mark.parametrize("source", ["", "  "])
def test_no_name_is_not_the_current_folder(source, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,0\n")
    monkeypatch.chdir(tmp_path)
    for call in (load_images, count_images, load_pairs):
        with pytest.raises(ValueError, match="which names nothing: give the path of a folder"):
            call(source)
    assert len(load_images(".")[0]) == 1, "the folder itself may be asked for"
