"""Tiny ImageNet's layout, and ImageNet's validation photographs in one folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from iaside.inputs.image_files import find_images, is_hidden, warn_left_out
from iaside.inputs.labels_csv import read_text
from iaside.inputs.numbering import Labelled, Numbering

# ImageNet's validation photographs as they are published, all in one folder, and who lists their
# classes: TensorFlow, Kaggle, Caffe, and the devkit, whose numbers only its meta.mat explains.
_VAL = re.compile(r"ILSVRC2012_val_([0-9]{8})\.jpe?g", re.IGNORECASE)
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_LISTS = ("imagenet_2012_validation_synset_labels.txt", "LOC_val_solution.csv", "val.txt", _TRUTH)
_VAL_LINE = re.compile(
    r"(?:(?:\S*/)?ILSVRC2012_val_([0-9]{8})(?:\.jpe?g)?[\s,]+)?(n[0-9]{8}|[0-9]{1,4})(?:\s.*)?",
    re.IGNORECASE,
)


def tiny_imagenet(root: Path, split: str, numbering: Numbering) -> Labelled:
    """train/<wnid>/images/*, or val/images/* with the wnid of each in val_annotations.txt.

    Its 200 classes are numbered in sorted order, unless the network knows ImageNet's 1,000.
    """
    train = root / "train"
    if not train.is_dir():
        raise ValueError(f"{root} lacks train/, whose folders are Tiny ImageNet's classes: add it.")
    names = [p.name for p in train.iterdir() if p.is_dir() and not is_hidden(p, train)]
    index = replace(numbering, n_classes=numbering.n_classes or len(names)).index(names, root)
    if split == "train":
        found = {name: find_images(train / name, within=train) for name in sorted(names)}
        text = {".txt": len(names)}  # each class has a table of boxes
        left_out = sum((others for _, others in found.values()), Counter()) - Counter(text)
        pairs = [(p, name) for name, (images, _) in found.items() for p in images]
    else:
        pairs, left_out = _validation(root / "val", index)
    warn_left_out(root, left_out)
    if not pairs:
        raise ValueError(f"no images in {root}, which has Tiny ImageNet's layout: copy it again.")
    return Labelled([path for path, _ in pairs], [index[name] for _, name in pairs], index)


def _validation(val: Path, known: Mapping[str, int]) -> tuple[list[tuple[Path, str]], Counter]:
    """(file, class) of each line of val_annotations.txt; what else lies in images/, counted."""
    table = val / "val_annotations.txt"
    pairs = []
    for k, line in enumerate(table.read_text("utf-8", errors="replace").splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if not wnid:
            raise ValueError(f"{table}, line {k}: {line!r:.60} must be file, tab, class, tab, ...")
        if wnid not in known:
            raise ValueError(f"{table}, line {k}: the class {wnid!r} is no folder of train/.")
        pairs.append((val / "images" / name, wnid))
    if absent := [path for path, _ in pairs if not path.is_file()]:
        raise FileNotFoundError(f"{table} names {absent[0].name!r}, which is not in images/.")
    images, left_out = find_images(val / "images")
    left_out += Counter({"images that are not in the table": len(set(images) - dict(pairs).keys())})
    return pairs, left_out


def is_flat_val(folder: Path) -> bool:
    """Whether a folder holds ImageNet's validation photographs, and no folders of classes."""
    entries = [path for path in folder.iterdir() if not is_hidden(path, folder)]
    return any(_VAL.fullmatch(p.name) for p in entries) and not any(p.is_dir() for p in entries)


def flat_val(folder: Path, numbering: Numbering) -> Labelled:
    """ILSVRC2012_val_00000001.JPEG, ... and a list of their classes beside them.

    A list of WordNet ids, a line for each picture, with or without its name; Caffe's val.txt, whose
    numbers from 0 are ImageNet's usual; or the devkit's ground truth with its meta.mat.
    """
    images, left_out = find_images(folder, deep=False)
    number = {path: int(named[1]) for path in images if (named := _VAL.fullmatch(path.name))}
    lists = [folder / name for name in _LISTS if (folder / name).is_file()]
    if len(lists) != 1:
        found = " and ".join(path.name for path in lists)
        raise ValueError(
            f"{folder} holds {found}, which both say what its pictures show: keep one of them."
            if lists
            else f"{folder} holds ImageNet's validation photographs, and nothing that says what "
            f"they show: put one of {', '.join(_LISTS[:-1])} there, or {_TRUTH} and {_META} of the "
            "devkit; or sort them into folders by class."
        )
    left_out += Counter({"images of other names": len(images) - len(number)})
    left_out -= Counter(p.suffix for p in (*lists, folder / _META) if p.is_file())
    warn_left_out(folder, left_out)
    class_of = _val_classes(lists[0])
    if absent := [path.name for path, k in number.items() if k not in class_of]:
        raise ValueError(
            f"{lists[0]} has no line for {len(absent)} pictures, such as {absent[0]}: it must be "
            "whole, as it was published."
        )
    classes = [class_of[k] for k in number.values()]
    if isinstance(classes[0], int):
        return Labelled([*number], classes, None)
    index = numbering.index(sorted(set(classes)), lists[0])
    return Labelled([*number], [index[wnid] for wnid in classes], index)


def _val_classes(table: Path) -> dict[int, str | int]:
    """Of each picture, by its number, the WordNet id of its class or ImageNet's usual index."""
    lines = [line.strip() for line in read_text(table).splitlines()]
    if lines and lines[0].startswith("ImageId,"):
        del lines[0]
    if not lines:
        raise ValueError(f"{table} is empty: copy it again.")
    ids = table.name == _TRUTH
    found, kinds = {}, set()
    for k, line in enumerate(lines, 1):
        parts = _VAL_LINE.fullmatch(line)
        picture, name = parts.groups() if parts else (None, "")
        kinds.add((picture is None, name.isdecimal()))
        if not name or len(kinds) > 1 or (name.isdecimal() and (picture is None) != ids):
            raise ValueError(
                f"{table}, line {k}: {line!r:.60} must be "
                + (
                    "an ILSVRC2012_ID, 1 to 1000."
                    if ids
                    else "picture and class, or a WordNet id, as n01440764, and all lines be alike."
                )
            )
        found[k if picture is None else int(picture)] = name.lower()
    if not name.isdecimal():
        return found
    numbers = {k: int(name) for k, name in found.items()}
    low, high = min(numbers.values()), max(numbers.values())
    if low < ids or high > 999 + ids:
        raise ValueError(
            f"{table} has classes from {low} to {high}, but "
            + (
                "the devkit's ILSVRC2012_IDs go from 1 to 1000."
                if ids
                else "Caffe's go from 0 to 999, in the order of the WordNet ids."
            )
        )
    if not ids:
        return numbers
    wnid_of = _devkit(table.with_name(_META))
    return {k: wnid_of[number] for k, number in numbers.items()}


def _devkit(meta: Path) -> dict[int, str]:
    """ILSVRC2012_ID, 1 to 1000 in an order of its own -> WordNet id."""
    if not meta.is_file():
        raise ValueError(
            f"{meta.with_name(_TRUTH)} numbers the classes from 1 to 1000 in an order that only "
            f"{_META} of the devkit tells: put it beside it (from "
            "ILSVRC2012_devkit_t12/data), or a list of WordNet ids in place of both."
        )
    from scipy.io import loadmat

    try:
        synsets = loadmat(meta, squeeze_me=True, variable_names=["synsets"])["synsets"]
        wnid_of = {
            int(k): str(wnid)
            for k, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        }
        return {k: wnid_of[k] for k in range(1, 1001)}
    except Exception as error:  # SciPy has a dozen kinds for damaged bytes
        raise ValueError(
            f"{meta} is not the devkit's, or damaged ({type(error).__name__}: {error!s:.80}): copy "
            "it again."
        ) from error
