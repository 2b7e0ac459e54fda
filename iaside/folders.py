"""Folder -> its image files in order, the label of each, and which index each class name has."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
_HEIF = {".heic", ".heif"}
_FILE_COLUMNS = ("file", "filename", "path", "image")
_LABEL_COLUMNS = ("label", "class")


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
        if self.classes is not None and not isinstance(self.classes, str):
            return self._given(places, where)
        if self.classes not in (None, "numbers", "words"):
            raise ValueError(
                f"classes={self.classes!r} must be 'numbers', 'words', the names in the order of "
                "the network's classes, or a dict from name to index."
            )
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
        if not self.own and (ids := _imagenet_ids(names)) and self.n_classes != len(names):
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
                raise ValueError(f"classes={list(self.classes)[:5]} names a class twice.")
        if absent := [name for name in places if name not in given]:
            raise ValueError(
                f"classes= gives no index for {', '.join(map(repr, absent[:3]))} "
                f"({len(absent)} of {len(places)} classes of {where}); it names "
                f"{', '.join(map(repr, [*given][:3]))}, ..."
            )
        for name in places:
            if not isinstance(given[name], int) or isinstance(given[name], bool):
                raise ValueError(
                    f"classes= gives {name!r} the index {given[name]!r}: it must be 0, 1, ..."
                )
        return {name: given[name] for name in places}

    def _of_integers(self, places: dict, numbers: dict, where: Path) -> dict[str, int]:
        n_classes = len(places) if self.own else self.n_classes
        complete = sorted(numbers.values()) == list(range(len(numbers)))
        if numbers == places or (complete and n_classes == len(numbers)):
            return numbers
        same_order = sorted(places, key=numbers.get) == list(places)
        if self.own or (same_order and self.n_classes in (None, 0, len(places))):
            return places
        known = f"the network knows {self.n_classes}" if self.n_classes else "no network is known"
        raise ValueError(
            f"the {len(places)} classes of {where} are named by numbers ({', '.join(places)[:40]} "
            f"...), which are not those of all classes ({known}): give classes='numbers' if each "
            "is its class index, 'words' if the network counts them in alphabetical order, as "
            "torchvision's ImageFolder does."
        )


def _imagenet_ids(names: Sequence[str]) -> dict[str, int]:
    """Their usual index where all names are ids of ImageNet's 1,000 classes, else nothing."""
    if not all(re.fullmatch("n[0-9]+", name) for name in names):
        return {}
    from timm.data import ImageNetInfo

    known = {name: k for k, name in enumerate(ImageNetInfo().label_names())}
    return {name: known[name] for name in names} if set(names) <= set(known) else {}


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
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return False


def _find_images(folder: Path, deep: bool = True) -> tuple[list[Path], Counter]:
    """The images in a folder, sorted, and how many other files there are of each ending."""
    images, others = [], Counter()
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        if is_hidden(path, folder) or not path.is_file():
            continue
        if _is_image(path):
            images.append(path)
        else:
            others[path.suffix.lower() or "without an ending"] += 1
    return images, others


def _said(left_out: Counter) -> str:
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(left_out.items()))
    heif = "; `pip install pillow-heif` lets it read .heic" if _HEIF & set(left_out) else ""
    return f"{left_out.total()} files left out, which Pillow does not read here: {counts}{heif}"


def _warn_left_out(folder: Path, left_out: Counter) -> None:
    if left_out:
        warnings.warn(f"{folder}: {_said(left_out)}.", RuntimeWarning, stacklevel=2)


def read_image(path: Path) -> Image.Image:
    """An image file upright, as its EXIF orientation says, in 8-bit grey or RGB.

    Grey stays grey, so that 28-pixel digits can be told from small pictures.
    Raises OSError (SyntaxError: a broken PNG) where it cannot be read.
    """
    try:
        image = Image.open(path)
    except UnidentifiedImageError as error:
        if path.suffix.lower() in _HEIF:
            raise OSError("`pip install pillow-heif` lets Pillow read it") from error
        raise
    with image:
        if image.mode[:1] in "IF":
            raise OSError(f"{image.mode} pixels have more than 8 bits; convert them to 8-bit RGB")
        pixels = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    try:
        return ImageOps.exif_transpose(pixels)
    except SyntaxError:  # EXIF that is none: such pictures are shown as they are stored
        return pixels


# --- the three layouts ---------------------------------------------------------------------------


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
    members, left_out = {}, Counter()
    for name in sorted(only or found):
        members[name], others = _find_images(folder / name)
        left_out += others
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
    if strays := _find_images(folder, deep=False)[0]:
        left_out["images outside the class folders"] = len(strays)
    _warn_left_out(folder, left_out)
    index = numbering.index(list(members), folder)
    pairs = [(path, index[name]) for name, files in members.items() for path in files]
    return Labelled([path for path, _ in pairs], [label for _, label in pairs], index)


def tiny_imagenet(root: Path, split: str, numbering: Numbering) -> Labelled:
    """train/<wnid>/images/*, or val/images/* with the wnid of each in val_annotations.txt.

    Its 200 classes are numbered in sorted order, unless the network knows ImageNet's 1,000.
    """
    train = root / "train"
    names = [p.name for p in train.iterdir() if p.is_dir() and not is_hidden(p, train)]
    index = replace(numbering, n_classes=numbering.n_classes or len(names)).index(names, root)
    if split == "train":
        pairs = [(p, name) for name in sorted(names) for p in _find_images(train / name)[0]]
    else:
        lines = (root / "val" / "val_annotations.txt").read_text().splitlines()
        rows = [line.split("\t")[:2] for line in lines]
        pairs = [(root / "val" / "images" / name, wnid) for name, wnid in rows]
    return Labelled([path for path, _ in pairs], [index[name] for _, name in pairs], index)


def labelled_files(folder: Path, numbering: Numbering) -> Labelled:
    """Images and a labels.csv."""
    table = folder / "labels.csv"
    name_of = {}
    rows = _rows(table)
    for file, label in rows:
        # Windows writes backslashes.
        path = folder / (file if (folder / file).is_file() else file.replace("\\", "/"))
        name_of[path] = label
    if len(name_of) < len(rows):
        raise ValueError(f"{table} names some file twice: keep one row per file.")
    if absent := [p.name for p in name_of if not p.is_file()]:
        raise FileNotFoundError(
            f"{table} names {len(absent)} files that are not there: "
            f"{', '.join(absent[:3])}. Add them or remove their rows."
        )
    images, left_out = _find_images(folder)
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


def _given_indices(name_of: dict[Path, str], table: Path) -> dict[str, int]:
    """The class indices that labels.csv gives as its labels; nothing where these are names."""
    # 3.0: as pandas writes whole numbers of a column in which some were missing
    numbers = {name: int(name.partition(".")[0]) for name in sorted(set(name_of.values()))
               if re.fullmatch(r"[0-9]+(\.0+)?", name)}  # fmt: skip
    numeric = any(re.fullmatch(r"[-+]?[0-9.]+", name) for name in name_of.values())
    odd = [(path, name) for path, name in name_of.items() if name not in numbers]
    if odd and (numeric or "" in name_of.values()):
        path, name = next(((p, n) for p, n in odd if not n), odd[0])
        raise ValueError(
            f"{table}: the label of {path.name!r} is {name!r}, it must be a class index "
            "(0, 1, ...), or all labels be names."
        )
    return numbers


def _rows(table: Path) -> list[tuple[str, str]]:
    """(file, label) of each row, whatever program wrote the table."""
    content = table.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")  # Excel's, in the west
    for delimiter in ",;\t":
        header, *rows = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)] or [[]]
        places = {name.strip().lower(): k for k, name in reversed([*enumerate(header)])}
        columns = [
            next((places[name] for name in names if name in places), None)
            for names in (_FILE_COLUMNS, _LABEL_COLUMNS)
        ]
        rows = [[cell.strip() for cell in row] for row in rows if any(row)]
        if None not in columns and rows:
            if short := [row for row in rows if len(row) <= max(columns)]:
                raise ValueError(f"{table}: the row {short[0]} lacks a file or a label.")
            return [(row[columns[0]], row[columns[1]]) for row in rows]
    columns = re.split("[,;\t]", text.partition("\n")[0].strip())
    raise ValueError(
        f"{table} must have a header with the columns file,label (or "
        f"{', '.join(_FILE_COLUMNS[1:])}; {', '.join(_LABEL_COLUMNS[1:])}) and at least one row; "
        f"its columns are {', '.join(columns) or 'none'}."
    )
