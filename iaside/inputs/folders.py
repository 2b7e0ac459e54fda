"""Folder -> its image files in order, the label of each, and which index each class name has."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import itertools
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps, UnidentifiedImageError

# Left by file managers and archives beside a user's own; so is all that begins with a dot.
_LITTER = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
# No pictures, or (EPS, WMF) pictures only with another program.
_NOT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# What is recognised without an ending; other formats take nearly any file for one of theirs.
_BY_CONTENT = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
_HEIF = {".heic", ".heif", ".hif"}
_INSTALL_HEIF = '`pip install "iaside[heif]"` lets Pillow read it'
_CLASSES = (
    "'numbers', 'words', a list of the names in the order of the network's classes, or a dict from "
    "name to index"
)
_FILE_COLUMNS = ("file", "filename", "path", "image")
_LABEL_COLUMNS = ("label", "class")
_NUMBER = re.compile(r"[-+]?[.,]?[0-9][0-9.,]*(e[-+]?[0-9]+)?", re.IGNORECASE)
# ImageNet's validation photographs as they are published, all in one folder, and who lists their
# classes: TensorFlow, Kaggle, Caffe, and the devkit, whose numbers only its meta.mat explains.
_VAL = re.compile(r"ILSVRC2012_val_([0-9]{8})\.jpe?g", re.IGNORECASE)
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_LISTS = ("imagenet_2012_validation_synset_labels.txt", "LOC_val_solution.csv", "val.txt", _TRUTH)
_VAL_LINE = re.compile(
    r"(?:(?:\S*/)?ILSVRC2012_val_([0-9]{8})(?:\.jpe?g)?[\s,]+)?(n[0-9]{8}|[0-9]{1,4})(?:\s.*)?",
    re.IGNORECASE,
)


class Labelled(NamedTuple):
    """classes: name -> index where the labels come from names, None where they are given."""

    files: list[Path]
    labels: list[int]
    classes: dict[str, int] | None


@dataclass(frozen=True)
class Numbering:
    """How names of classes become labels.

    classes: what a caller says ("numbers", "words", a sequence of names, a dict), or None.
    n_classes: how many the network knows; None or 0 where that is unknown or plays no part.
    own: the names number themselves, as no network has numbered them yet (load_split).
    """

    classes: str | Sequence[str] | Mapping[str, int] | None = None
    n_classes: int | None = None
    own: bool = False

    def index(self, names: Sequence[str], where: Path) -> dict[str, int]:
        """The index of each name.

        Raises ValueError where `classes` does not fit them, or where they may be read in two ways.

        >>> Numbering(n_classes=11).index([str(k) for k in range(11)], Path("val"))["10"]
        10
        >>> Numbering(classes="words").index([str(k) for k in range(11)], Path("val"))["10"]
        2
        """
        places = {name: k for k, name in enumerate(sorted(names))}
        if isinstance(self.classes, Mapping | Sequence) and not isinstance(self.classes, str):
            return self._given(places, where)
        if not (self.classes is None or isinstance(self.classes, str)):
            raise TypeError(f"classes={self.classes!r:.60} must be {_CLASSES}.")
        if self.classes not in (None, "numbers", "words"):
            raise ValueError(f"classes={self.classes!r} must be {_CLASSES}.")
        if self.classes == "words":
            return places
        integers = all(re.fullmatch("[0-9]+", name) for name in names)
        numbers = {name: int(name) for name in places} if integers else {}
        if self.classes == "numbers":
            if len(set(numbers.values())) < len(names):
                raise ValueError(
                    f"classes='numbers': the classes of {where} are not named by different "
                    f"numbers ({', '.join([*places][:5])}); give a list or dict of the names."
                )
            return numbers
        if numbers:
            return self._of_integers(places, numbers, where)
        ids, odd = ({}, []) if self.own else _imagenet_ids(names)
        if odd and self.n_classes in (None, 0, 1000):
            raise ValueError(
                f"some of the {len(names)} classes of {where} are named by ids of ImageNet's 1,000 "
                f"classes, but not {', '.join(map(repr, odd[:3]))} ({len(odd)} in all): remove or "
                "rename what is none, or give classes=[...] or a dict from name to index."
            )
        if ids and not odd and self.n_classes != len(names):
            if self.n_classes in (None, 0, 1000):  # also right for a folder with only some of them
                return ids
            raise ValueError(
                f"{where} has {len(names)} classes named by ImageNet ids, but the network knows "
                f"{self.n_classes}: give classes=[...] with the names in the network's order, or "
                "a dict from name to index."
            )
        if self.n_classes and len(names) < self.n_classes:
            warnings.warn(
                f"{where} has {len(names)} classes, the network {self.n_classes}: they are taken "
                f"as its first {len(names)} in alphabetical order. If they are others, give "
                "classes={'name': index, ...} or a labels.csv.",
                RuntimeWarning,
                stacklevel=2,
            )
        return places

    def _given(self, places: dict[str, int], where: Path) -> dict[str, int]:
        if isinstance(self.classes, Mapping):
            given = dict(self.classes)
        else:
            given = {name: k for k, name in enumerate(self.classes)}
            if len(given) < len(self.classes):
                raise ValueError(f"classes={[*self.classes][:5]} names a class twice.")
        # What reads as one name may be another one on disk, with accents as a Mac writes them.
        alike = {unicodedata.normalize("NFC", str(name)): index for name, index in given.items()}
        alike = {name: alike.get(unicodedata.normalize("NFC", name)) for name in places}
        given = {name: index for name, index in alike.items() if index is not None} | given
        if absent := [name for name in places if name not in given]:
            raise ValueError(
                f"classes= gives no index for {', '.join(map(repr, absent[:3]))} "
                f"({len(absent)} of {len(places)} classes of {where}); it names "
                f"{', '.join(map(repr, [*given][:3])) or 'none'}."
            )
        for name in places:
            # Integral: NumPy's integers too
            if not isinstance(given[name], Integral) or isinstance(given[name], bool):
                raise ValueError(
                    f"classes= gives {name!r} the index {given[name]!r}: it must be 0, 1, ..."
                )
        return {name: int(given[name]) for name in places}

    def _of_integers(self, places: dict, numbers: dict, where: Path) -> dict[str, int]:
        in_order = {name: k for k, name in enumerate(sorted(places, key=numbers.get))}
        complete = numbers == in_order
        if self.own:  # 0, 1, ... in any case
            return in_order
        if numbers == places or (complete and self.n_classes == len(numbers)):
            return numbers
        if in_order == places and self.n_classes in (None, 0, len(places)):
            return places
        if self.n_classes == len(places):  # as load_split numbers them
            warnings.warn(
                f"the {len(places)} classes of {where} are named by numbers "
                f"({', '.join(in_order)[:40]} ...), which are taken in the order of the numbers. "
                "If the network counts them in alphabetical order, as torchvision's ImageFolder "
                "does, give classes='words'.",
                RuntimeWarning,
                stacklevel=2,
            )
            return in_order
        known = f"the network knows {self.n_classes}" if self.n_classes else "no network is known"
        raise ValueError(
            f"the {len(places)} classes of {where} are named by numbers ({', '.join(places)[:40]} "
            f"...), which are not those of all classes ({known}): give classes='numbers' if each "
            "is its class index, 'words' if the network counts them in alphabetical order, as "
            "torchvision's ImageFolder does."
        )


def _imagenet_ids(names: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The usual index of names that are, or begin with, an id of ImageNet's 1,000 classes.

    The second are the other names, if there are such beside ids. n01440764_tench is class 0.
    """
    ids = {
        name: found[0].lower()
        for name in names
        if (found := re.match("n[0-9]{8}(?![0-9])", name, re.IGNORECASE))
    }
    if not ids:
        return {}, []
    from timm.data import ImageNetInfo

    known = {name: k for k, name in enumerate(ImageNetInfo().label_names())}
    index = {name: known[wnid] for name, wnid in ids.items() if wnid in known}
    if not index and len(ids) == len(names):  # ids of other classes only
        return {}, []
    return index, [name for name in names if name not in index]


# --- which files are images ----------------------------------------------------------------------


@functools.cache
def image_endings() -> frozenset[str]:
    """The endings of the picture formats that Pillow reads here, with pillow-heif if installed.

    >>> {".jpg", ".gif", ".webp"} <= image_endings(), ".pdf" in image_endings()
    (True, False)
    """
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    formats = set(Image.OPEN) - _NOT_PIXELS
    return frozenset(e for e, name in Image.registered_extensions().items() if name in formats)


def only_images(folder: Path) -> list[Path]:
    """The images below a folder that holds nothing else, sorted.

    Raises ValueError for other files (hidden ones apart), for none, and for two of one name but for
    their endings.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: put photographs there.")
    images, others = _find_images(folder)
    if others or not images:
        said = _said(others) if others else "no images"
        raise ValueError(f"{folder}: {said}. It must hold pictures, and nothing else.")
    twice = [path for path, n in Counter(p.with_suffix("") for p in images).items() if n > 1]
    if twice:
        raise ValueError(f"{folder} has two pictures named {twice[0].name!r}: keep one of them.")
    return images


def is_hidden(path: Path, root: Path) -> bool:
    """Whether some part of a path below `root` is hidden, or litter of a file manager.

    >>> root = Path("pets")
    >>> [is_hidden(root / p, root) for p in ("cat/1.jpg", "cat/._1.jpg", "__MACOSX/cat/1.jpg")]
    [False, True, True]
    """
    parts = path.relative_to(root).parts
    return any(part.startswith(".") or part.lower() in _LITTER for part in parts)


def _is_image(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in image_endings()
    try:
        with Image.open(path, formats=_BY_CONTENT):
            return True
    except Exception:  # each of Pillow's plugins has errors of its own for what is damaged
        return False


def _find_images(
    folder: Path, deep: bool = True, within: Path | None = None
) -> tuple[list[Path], Counter]:
    """The images in a folder, sorted, and how many other files there are of each ending.

    within: the data set that the folder is a class of; a link to all of it leads in a circle.
    """
    images, others = [], Counter()
    above = frozenset() if within is None else frozenset([os.path.realpath(within)])
    for path in sorted(_below(folder, above) if deep else folder.iterdir()):
        if is_hidden(path, folder):
            continue
        if not path.is_file():
            others["broken links"] += not path.exists()
        elif _is_image(path):
            images.append(path)
        else:
            others[path.suffix.lower() or "without an ending"] += 1
    return images, +others


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """All that is no folder in a folder and its sub-folders, linked ones too, as ImageFolder does.

    Each link is followed, but for one to a folder that it lies in: that leads in a circle.
    """
    place = os.path.realpath(folder)
    if place in above:
        return
    for path in folder.iterdir():  # a folder that may not be read is an error, not missed
        if path.is_dir():
            yield from _below(path, above | {place})
        else:
            yield path


def _said(left_out: Counter) -> str:
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(left_out.items()))
    heif = f"; {_INSTALL_HEIF}" if _HEIF & set(left_out) else ""
    files = all(kind.startswith(".") or kind == "without an ending" for kind in left_out)
    why = ", which Pillow does not read here" if files else ""
    return f"{left_out.total()} files left out{why}: {counts}{heif}"


def _warn_left_out(folder: Path, left_out: Counter) -> None:
    if left_out:
        warnings.warn(f"{folder}: {_said(left_out)}.", RuntimeWarning, stacklevel=2)


def read_image(path: Path) -> Image.Image:
    """An image file upright, as its EXIF orientation says, in 8-bit grey or RGB.

    Grey stays grey, so that 28-pixel digits can be told from small pictures.
    Raises OSError where it cannot be read.
    """
    try:
        image = Image.open(path)
        with image:
            refuse_deep(image)
            pixels = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except UnidentifiedImageError as error:
        if path.suffix.lower() in _HEIF:
            raise OSError(_INSTALL_HEIF) from error
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each of Pillow's plugins has errors of its own for what is damaged
        raise OSError(f"{type(error).__name__}: {error}") from error
    try:
        return ImageOps.exif_transpose(pixels)
    except Exception:  # EXIF that is none: such pictures are shown as they are stored
        return pixels


def refuse_deep(image: Image.Image) -> None:
    """Raise OSError for more than 8 bits a pixel, which Pillow would cut off at 255.

    >>> refuse_deep(Image.new("I;16", (8, 8)))
    Traceback (most recent call last):
        ...
    OSError: I;16 pixels have more than 8 bits; convert them to 8-bit RGB
    """
    if image.mode[:1] in "IF":
        raise OSError(f"{image.mode} pixels have more than 8 bits; convert them to 8-bit RGB")


# --- the four layouts ----------------------------------------------------------------------------


def class_folders(folder: Path, numbering: Numbering, only: list[str] | None = None) -> Labelled:
    """One folder per class.  only: the names of those to take; the others are left alone."""
    found = sorted(
        p.name
        for p in folder.iterdir()
        if p.is_dir() and p.name != "BACKGROUND_Google" and not is_hidden(p, folder)
    )
    if unknown := sorted(set(only or ()) - set(found)):
        raise ValueError(
            f"there is no class {unknown[0]!r} in {folder}; it has {', '.join(found)}."
        )
    named = only or (numbering.classes if not isinstance(numbering.classes, str) else None)
    splits = [name for name in found if name.lower() in _SPLITS]
    if (len(splits) > 1 or (splits and splits == found)) and not named:
        raise ValueError(
            f"{folder} holds {' and '.join(f'{name}/' for name in splits)}, which are parts of a "
            f"data set and no classes: give one of them, such as {str(folder / splits[-1])!r}."
        )
    if (folder / "val_annotations.txt").is_file():
        raise ValueError(
            f"{folder} is a part of Tiny ImageNet, whose class names lie beside it: give "
            f"{str(folder.parent)!r}."
        )
    members, left_out = {}, Counter()
    for name in sorted(only or found):
        members[name], others = _find_images(folder / name, within=folder)
        left_out += others
    strays, others = _find_images(folder, deep=False)
    left_out += Counter({"images outside the class folders": len(strays)})
    left_out += Counter({"broken links": others["broken links"]})
    if not any(members.values()):
        reason = f" ({_said(left_out)})" if left_out else ""
        raise ValueError(
            f"no images in {folder}{reason}: it needs a labels.csv (file,label) beside its images, "
            "or one folder of images per class."
        )
    if (empty := [name for name, files in members.items() if not files]) and not named:
        raise ValueError(
            f"the folder {empty[0]!r} of {folder} holds no images, but would count as a class: "
            "remove it, or say with classes=[...] or a dict which classes there are."
        )
    if not named:
        _refuse_parts(folder, members)
    _warn_left_out(folder, left_out)
    index = numbering.index(list(members), folder)
    pairs = [(path, index[name]) for name, files in members.items() for path in files]
    return Labelled([path for path, _ in pairs], [label for _, label in pairs], index)


def _refuse_parts(folder: Path, members: Mapping[str, list[Path]]) -> None:
    """Refuse folders of folders of pictures that look like classes one level down."""
    inner = {name: _branches(folder / name, files) for name, files in members.items()}
    parts = {name: below for name, below in inner.items() if len(below[1]) > 1}
    if len(members) == 1:
        for name, (place, below) in parts.items():
            raise ValueError(
                f"all pictures of {folder} lie in {len(below)} folders of {name}/ "
                f"({', '.join(sorted(below)[:3])}): if these are the classes, give "
                f"{str(place)!r}; if {name!r} is the only class, say so with classes=[{name!r}]."
            )
    for (a, (place, below)), (b, (_, others)) in itertools.combinations(parts.items(), 2):
        if len(both := sorted(below & others)) > 1:
            raise ValueError(
                f"{a}/ and {b}/ of {folder} both hold folders named {', '.join(both[:3])}: if "
                f"these are the classes, give one part, such as {str(place)!r}; if {a!r} and {b!r} "
                "are classes, name all classes with classes=[...]."
            )


def _branches(folder: Path, files: Sequence[Path]) -> tuple[Path, set[str]]:
    """Where the pictures of a folder part into several folders, and those; none if they do not."""
    while True:
        below = {path.relative_to(folder).parts for path in files}
        names = {parts[0] for parts in below if len(parts) > 1}
        if any(len(parts) == 1 for parts in below) or not names:
            return folder, set()
        if len(names) > 1:
            return folder, names
        (name,) = names
        folder = folder / name


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
        found = {name: _find_images(train / name, within=train) for name in sorted(names)}
        text = {".txt": len(names)}  # each class has a table of boxes
        left_out = sum((others for _, others in found.values()), Counter()) - Counter(text)
        pairs = [(p, name) for name, (images, _) in found.items() for p in images]
    else:
        pairs, left_out = _validation(root / "val", index)
    _warn_left_out(root, left_out)
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
    images, left_out = _find_images(val / "images")
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
    images, left_out = _find_images(folder, deep=False)
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
    _warn_left_out(folder, left_out)
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
    lines = [line.strip() for line in _text(table).splitlines()]
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


def labelled_files(folder: Path, numbering: Numbering) -> Labelled:
    """Images and a labels.csv."""
    table = folder / "labels.csv"
    rows = _rows(table)
    images, left_out = _find_images(folder)
    on_disk = {_place(path): path for path in images}
    name_of = {}
    for file, label in rows:
        # Windows writes backslashes.
        path = folder / (file if (folder / file).is_file() else file.replace("\\", "/"))
        name_of[on_disk.get(_place(path), path)] = label
    if len(name_of) < len(rows):
        raise ValueError(f"{table} names some file twice: keep one row per file.")
    if absent := [p.name for p in name_of if not p.is_file()]:
        raise FileNotFoundError(
            f"{table} names {len(absent)} files that are not there: "
            f"{', '.join(absent[:3])}. Add them or remove their rows."
        )
    if unlabelled := [p.name for p in images if p not in name_of]:
        raise ValueError(
            f"{len(unlabelled)} images in {folder} have no row in labels.csv: "
            f"{', '.join(unlabelled[:3])}. Add file,label rows or remove the files."
        )
    known = Counter(p.suffix.lower() or "without an ending" for p in set(name_of) - set(images))
    _warn_left_out(folder, left_out - known - Counter([table.suffix]))
    files = sorted(name_of)
    numbers = _given_indices(name_of, table) if numbering.classes in (None, "numbers") else {}
    index = numbers or numbering.index(sorted(set(name_of.values())), table)
    return Labelled(files, [index[name_of[p]] for p in files], None if numbers else index)


def _place(path: Path) -> str:
    """The same for all ways to write a path: from here or from the root, e with its accent or e
    and an accent, as the files of a Mac come."""
    return unicodedata.normalize("NFC", os.path.abspath(path))


def _given_indices(name_of: dict[Path, str], table: Path) -> dict[str, int]:
    """The class indices that labels.csv gives as its labels; nothing where these are names."""
    # 3.0: as pandas writes whole numbers of a column in which some were missing; 3,0: Excel's
    numbers = {
        name: int(re.split("[.,]", name)[0])
        for name in sorted(set(name_of.values()))
        if re.fullmatch(r"[0-9]{1,18}([.,]0+)?", name)
    }
    numeric = any(map(_NUMBER.fullmatch, name_of.values()))
    odd = [(path, name) for path, name in name_of.items() if name not in numbers]
    if odd and (numeric or "" in name_of.values()):
        path, name = next(((p, n) for p, n in odd if not n), odd[0])
        raise ValueError(
            f"{table}: the label of {path.name!r} is {name!r:.40}, it must be a class index "
            "(0, 1, ...), or all labels be names."
        )
    return numbers


def _text(table: Path) -> str:
    content = table.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            why = f"{table} is damaged UTF-16 ({error.reason}): save it again."
            raise ValueError(why) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # Excel's, in the west


def _rows(table: Path) -> list[tuple[str, str]]:
    """(file, label) of each row, whatever program wrote the table."""
    text = _text(table)
    delimiters = ",;\t"
    if said := re.match(r"sep=(.)\r?\n", text, re.IGNORECASE):  # Excel's own first line
        delimiters, text = said[1], text[said.end() :]
    for delimiter in delimiters:
        try:
            cells = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
        except csv.Error as error:
            raise ValueError(f"{table} cannot be read ({error}): look at its quotes.") from error
        header, *rows = cells or [[]]
        places = {name.strip().lower(): k for k, name in reversed([*enumerate(header)])}
        columns = [
            next((places[name] for name in names if name in places), None)
            for names in (_FILE_COLUMNS, _LABEL_COLUMNS)
        ]
        rows = [[cell.strip() for cell in row] for row in rows if any(row)]
        if None not in columns and rows:
            if short := [row for row in rows if len(row) <= max(columns)]:
                raise ValueError(f"{table}: the row {short[0]} lacks a file or a label.")
            if long := [row for row in rows if any(row[len(header) :])]:
                raise ValueError(
                    f"{table}: the row {long[0]} has more cells than the header; put names with "
                    f"a {delimiter!r} into quotes."
                )
            return [(row[columns[0]], row[columns[1]]) for row in rows]
    columns = re.split("[,;\t]", text.partition("\n")[0].strip()[:200])
    raise ValueError(
        f"{table} must have a header with the columns file,label (or "
        f"{', '.join(_FILE_COLUMNS[1:])}; {', '.join(_LABEL_COLUMNS[1:])}) and at least one row; "
        f"its columns are {', '.join(columns) or 'none'}."
    )
