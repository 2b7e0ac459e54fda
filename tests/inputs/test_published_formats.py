"""Data sets as they are published: stand-ins in their formats, few pictures each."""

import pickle
import struct
import tarfile
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from sweeps import few
from timm.data import ImageNetInfo
from torchvision.datasets import imagenet

from iaside.inputs.images import check_labels, count_images, load_images
from iaside.inputs.splits import load_split, split_size

WNIDS = ImageNetInfo().label_names()  # in the order of the usual indices
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@pytest.fixture(autouse=True)
def no_other_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- ImageNet's validation photographs in one folder ----------------------------------------------


def write_devkit(folder, wnids):
    """meta.mat with the classes 1, 2, ... in this order, and beyond them one that has children."""
    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    synsets = np.zeros((len(wnids) + 1, 1), [(field, object) for field in fields])
    for k, wnid in enumerate([*wnids, "n00001740"]):
        inner = k == len(wnids)
        synsets[k, 0] = (k + 1, wnid, f"a {k}, b {k}", "...", 2 * inner, [1, 2] * inner, 0, 1300)
    savemat(folder / "meta.mat", {"synsets": synsets})


@pytest.fixture
def val(tmp_path):
    """Six pictures, number k of grey k and class 7 k; the classes in an order of the devkit's."""
    folder = tmp_path / "val"
    folder.mkdir()
    for k in range(1, 7):
        path = folder / f"ILSVRC2012_val_{k:08d}.JPEG"
        Image.new("RGB", (8, 8), (40 * k,) * 3).save(path)
    return folder


SHOWN = [7 * k for k in range(1, 7)]
LISTS = {
    "imagenet_2012_validation_synset_labels.txt": [WNIDS[c] for c in SHOWN],
    "LOC_val_solution.csv": ["ImageId,PredictionString"]
    + [f"ILSVRC2012_val_{k:08d},{WNIDS[c]} 85 1 499 272 " for k, c in enumerate(SHOWN, 1)][::-1],
    "val.txt": [f"ILSVRC2012_val_{k:08d}.JPEG {c}" for k, c in enumerate(SHOWN, 1)],
}


def network(n_classes):
    return SimpleNamespace(
        recipe={
            "input_size": (8, 8),
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "num_classes": n_classes,
        }
    )


def by_grey(folder, **how):
    images, labels = load_images(folder, **how)
    greys = (images[:, 0, 0, 0] * 255 / 40).round().int().tolist()
    return dict(zip(greys, labels.tolist(), strict=True))


def permuted(folder):
    """The devkit's files for a shuffled order of the classes; that order."""
    order = np.random.default_rng(0).permutation(1000)
    write_devkit(folder, [WNIDS[c] for c in order])
    (folder / TRUTH).write_text("".join(f"{order.tolist().index(c) + 1}\n" for c in SHOWN))
    return order


def test_the_devkits_numbers_are_not_the_usual_indices(val, tmp_path, monkeypatch):
    permuted(val)
    assert by_grey(val) == by_grey(val, like=network(1000)) == dict(enumerate(SHOWN, 1))
    assert count_images(val) == 6
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with tarfile.open(theirs / "devkit.tar.gz", "w:gz") as archive:
        for name in ("meta.mat", TRUTH):
            archive.add(val / name, f"ILSVRC2012_devkit_t12/data/{name}")
    monkeypatch.setattr(imagenet, "_verify_archive", lambda *_: None)
    imagenet.parse_devkit_archive(theirs, "devkit.tar.gz")
    assert [WNIDS.index(w) for w in imagenet.load_meta_file(theirs)[1]] == SHOWN


def test_the_ground_truth_alone_says_nothing(val, tmp_path):
    with pytest.raises(ValueError, match=f"nothing that says what .* LOC_val_solution.*{TRUTH}"):
        count_images(val)
    permuted(val)
    (val / "meta.mat").rename(tmp_path / "meta.mat")
    with pytest.raises(ValueError, match=r"1 to 1000 .* only meta.mat .*: put it beside it"):
        load_images(val)
    (val / "meta.mat").write_bytes((tmp_path / "meta.mat").read_bytes()[:5000])
    with pytest.raises(ValueError, match="meta.mat is not the devkit's, or damaged"):
        count_images(val)
    write_devkit(val, WNIDS[:998])
    with pytest.raises(ValueError, match="meta.mat is not the devkit's, or damaged .*1000"):
        count_images(val)


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_the_classes_are_read(val, name):
    (val / name).write_text("\n".join(LISTS[name]) + "\n")
    assert by_grey(val, like=network(1000)) == dict(enumerate(SHOWN, 1))
    (val / "ILSVRC2012_val_00000002.JPEG").unlink()  # a line belongs to a number, not to a place
    assert by_grey(val) == {k: c for k, c in enumerate(SHOWN, 1) if k != 2}
    if name == "val.txt":
        with pytest.raises(ValueError, match="labels from 7 to 42, .* below the network's 6"):
            check_labels(val, 6)
    else:
        assert set(by_grey(val, like=network(5)).values()) == set(range(5))
    (val / "val.txt").touch()
    (val / TRUTH).touch()
    with pytest.raises(ValueError, match=f"val.txt and {TRUTH}, which both say"):
        load_images(val)


ODD = "ILSVRC2012_val_00000006.JPEG"


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    few(
        [
            ("val.txt", [], "is empty"),
            ("val.txt", LISTS["val.txt"][:5], "no line for 1 pictures, such as .*00000006.JPEG"),
            ("val.txt", [*LISTS["val.txt"][:5], f"{ODD} 1000"], "from 7 to 1000"),
            ("val.txt", [*LISTS["val.txt"], f"{ODD} n01440764"], "line 7: .*alike"),
            ("val.txt", ["7"] * 6, "line 1: '7' must be picture and class"),
            ("val.txt", ["a.png 7"] * 6, "line 1: 'a.png 7' must be"),
            (TRUTH, ["7"] * 5 + ["0"], "from 0 to 7, but the devkit's ILSVRC2012_IDs go from 1"),
            (TRUTH, ["7"] * 5 + ["1001"], "from 7 to 1001"),
            (TRUTH, ["7", "x"], "line 2: 'x' must be an ILSVRC2012_ID"),
            (TRUTH, ["7"] * 5, "no line for 1 pictures"),
        ],
        3,
    ),
)
def test_a_damaged_list_is_one_line(val, name, lines, said):
    write_devkit(val, WNIDS)
    (val / name).write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"{name}.*{said}") as error:
        load_images(val)
    assert "\n" not in str(error.value)


def test_what_else_lies_beside_the_photographs_is_counted(val):
    permuted(val)
    Image.new("RGB", (8, 8)).save(val / "cat.png")
    (val / "notes.txt").touch()
    with pytest.warns(RuntimeWarning, match="2 files left out: 1 .txt, 1 images of other names"):
        assert by_grey(val) == dict(enumerate(SHOWN, 1))


# --- what torchvision can download ----------------------------------------------------------------


def pixels(n, *shape):
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def cifar(root, folder, key, meta, parts, tests):
    where = root / folder
    where.mkdir()
    for k, name in enumerate([*parts, *tests]):
        n = 20 - k  # every file has other pictures
        batch = {"data": pixels(n, 3072), key: [i % 10 for i in range(n)], "filenames": ["x"] * n}
        (where / name).write_bytes(pickle.dumps(batch))
    (where / meta[0]).write_bytes(pickle.dumps({meta[1]: [str(k) for k in range(10)]}))
    return pixels(n, 3072).reshape(-1, 3, 32, 32), [i % 10 for i in range(n)]


def cifar10(root):
    parts = [f"data_batch_{k}" for k in range(1, 6)]
    return cifar(
        root,
        "cifar-10-batches-py",
        "labels",
        ("batches.meta", "label_names"),
        parts,
        ["test_batch"],
    )


def cifar100(root):
    return cifar(
        root, "cifar-100-python", "fine_labels", ("meta", "fine_label_names"), ["train"], ["test"]
    )


def stl10(root):
    where = root / "stl10_binary"
    where.mkdir()
    for part, n in (("train", 12), ("test", 20), ("unlabeled", 3)):
        (where / f"{part}_X.bin").write_bytes(pixels(n, 3, 96, 96).tobytes())
        (where / f"{part}_y.bin").write_bytes(bytes(i % 10 + 1 for i in range(n)))  # from 1
    (where / "unlabeled_y.bin").unlink()
    # Columns first, as MATLAB wrote them.
    return pixels(20, 3, 96, 96).swapaxes(2, 3), [i % 10 for i in range(20)]


def svhn(root):
    for part, n in (("train", 12), ("test", 20)):
        digits = np.array([[i % 10 + 1] for i in range(n)])  # 1 to 10, which is the digit 0
        savemat(
            root / f"{part}_32x32.mat",
            {"X": pixels(n, 32, 32, 3).transpose(1, 2, 3, 0), "y": digits},
        )
    return pixels(20, 32, 32, 3).transpose(0, 3, 1, 2), [(i + 1) % 10 for i in range(20)]


def mnist(root):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 12), ("t10k", 20)):
        for kind, array in (("images-idx3", pixels(n, 28, 28)), ("labels-idx1", np.arange(n) % 10)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    framed = np.pad(pixels(20, 28, 28), ((0, 0), (2, 2), (2, 2)))
    return framed[:, None].repeat(3, 1), [i % 10 for i in range(20)]


def tiny_imagenet(root):
    root = root / "tiny-imagenet-200"
    wnids = sorted(np.random.default_rng(0).permutation(WNIDS)[:10])
    for c, wnid in enumerate(wnids):
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").touch()
        for k, picture in enumerate(pixels(c + 1, 64, 64, 3)[:2]):
            path = root / "train" / wnid / "images" / f"{wnid}_{k}.png"
            Image.fromarray(picture).save(path)
    (root / "val/images").mkdir(parents=True)
    shown = pixels(20, 64, 64, 3)
    for k, picture in enumerate(shown):
        Image.fromarray(picture).save(root / f"val/images/val_{k:02d}.png")
    (root / "val/val_annotations.txt").write_text(
        "".join(f"val_{k:02d}.png\t{wnids[k % 10]}\t0\t0\t62\t62\n" for k in range(20))
    )
    for name in ("wnids.txt", "words.txt"):
        (root / name).write_text("".join(f"{wnid}\n" for wnid in wnids))
    return shown.transpose(0, 3, 1, 2), [k % 10 for k in range(20)]


def caltech101(root):
    """It has no split, so all of it is the answer."""
    names = ["Faces", "ant", "BACKGROUND_Google"]
    for name in names:
        folder = root / "caltech101/101_ObjectCategories" / name
        folder.mkdir(parents=True)
        for k, picture in enumerate(pixels(len(name), 40, 50, 3)):
            Image.fromarray(picture).save(folder / f"image_{k + 1:04d}.png")
    (root / "caltech101/Annotations/Faces_2").mkdir(parents=True)
    shown = np.concatenate([pixels(len(name), 40, 50, 3) for name in names[:2]])
    return shown.transpose(0, 3, 1, 2), [0] * 5 + [1] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [cifar10, cifar100, stl10, svhn, mnist, tiny_imagenet, caltech101],
    ids=lambda make: make.__name__,
)
def test_a_set_is_read_as_it_is_published(make, tmp_path, monkeypatch):
    from torchvision.datasets import cifar, stl10, svhn

    for module in (cifar, stl10, svhn):  # which know the sums of the real files
        monkeypatch.setattr(module, "check_integrity", lambda path, md5: True)
    expected, labels = make(tmp_path)
    images, found = load_images(tmp_path)
    assert images.dtype == torch.float32 and found.tolist() == labels
    np.testing.assert_array_equal((images * 255).round().byte().numpy(), expected)
    assert count_images(tmp_path) == len(labels)
    check_labels(tmp_path, max(labels) + 1)
    few, those = load_images(tmp_path, n=4, input_size=24)
    assert few.shape == (4, 3, 24, 24) and len(set(those.tolist())) == min(4, max(labels) + 1)
    x, y, held_x, held_y = load_split(tmp_path, 0.25)
    train, held, classes = split_size(tmp_path, 0.25)
    assert (train, held, classes) == (len(x), len(held_x), max(labels) + 1)
    if make is not caltech101:
        np.testing.assert_array_equal(held_x.numpy(), expected)
        assert held_y.tolist() == labels
    assert set(y.tolist()) == set(labels) and x.dtype == torch.uint8
