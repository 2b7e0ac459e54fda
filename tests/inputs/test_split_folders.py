"""Halves of a data set that lies in train/ and test/, a folder per class in each."""

import shutil

import numpy as np
import pytest
from PIL import Image

from iaside.inputs.splits import _parts, load_split, split_size

CLASSES = {"cat": 3, "dog": 2}


def make(root, split, classes):
    rng = np.random.default_rng(len(split))
    for name, n in classes.items():
        (root / split / name).mkdir(parents=True)
        for k in range(n):
            pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / name / f"{k}.png")


@pytest.fixture
def folder(tmp_path):
    make(tmp_path, "train", CLASSES)
    make(tmp_path, "test", {"dog": 1, "cat": 1})
    return tmp_path


def test_each_folder_is_a_half_and_labels_are_the_same_in_both(folder):
    x, y, held, labels = load_split(folder)
    assert (y.tolist(), labels.tolist()) == ([0, 0, 0, 1, 1], [0, 1])
    assert x.shape == (5, 3, 16, 16) and held.shape == (2, 3, 16, 16)
    assert split_size(folder) == (5, 2, 2)


def test_some_of_the_classes_are_some_of_both_halves(folder):
    for classes in (["dog"], ["dog", "cat"]):
        _, y, _, labels = load_split(folder, classes=classes)
        assert len(set(y.tolist())) == len(set(labels.tolist())) == len(classes)


def test_halves_of_different_classes_are_refused(folder):
    make(folder, "test", {"eel": 1})
    with pytest.raises(ValueError, match="different classes.*eel"):
        load_split(folder)


def test_the_first_classes_are_those_of_both_halves(folder):
    make(folder, "train", {"eel": 1})
    make(folder, "test", {"eel": 1})
    _, y, _, labels = load_split(folder, classes=2)
    assert (y.tolist(), labels.tolist()) == ([0, 0, 0, 1, 1], [0, 1])


def test_a_picture_of_both_halves_is_not_trained_on(folder):
    shutil.copy(folder / "train/cat/1.png", folder / "test/dog/copy.png")
    x, y, held, _ = load_split(folder)
    assert len(held) == 3 and y.tolist() == [0, 0, 1, 1]
    assert not any((one == two).all() for one in x for two in held)


def test_one_folder_alone_and_sets_of_another_layout_are_no_halves(folder):
    assert _parts(folder) == [folder / "train", folder / "test"]
    (folder / "val").mkdir()
    (folder / "val/val_annotations.txt").touch()  # Tiny ImageNet has both folders, too
    assert _parts(folder) == []
    shutil.rmtree(folder / "val")
    shutil.rmtree(folder / "test")
    assert _parts(folder) == _parts([("a", 0)]) == []
