"""A folder with one folder of images per class."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from iaside.inputs.image_files import find_images, is_hidden, left_out_words, warn_left_out
from iaside.inputs.numbering import Labelled, Numbering

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


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
        members[name], others = find_images(folder / name, within=folder)
        left_out += others
    strays, others = find_images(folder, deep=False)
    left_out += Counter({"images outside the class folders": len(strays)})
    left_out += Counter({"broken links": others["broken links"]})
    if not any(members.values()):
        reason = f" ({left_out_words(left_out)})" if left_out else ""
        raise ValueError(
            f"no images in {folder}{reason}: it needs a labels.csv (file,label) beside its images, "
            "or one folder of images per class."
        )
    if named:
        members = {name: files for name, files in members.items() if files or name in named}
    empty = [name for name, files in members.items() if not files]
    if empty and not named and numbering.n_classes != len(members):
        others = [name for name in members if name not in empty]
        raise ValueError(
            f"the folder {empty[0]!r} of {folder} holds no images, but would count as a class: "
            "remove it, or say with classes=[...] or a dict which classes there are, such as "
            f"{','.join(others)!s:.60}."
        )
    if not named:
        _refuse_parts(folder, members)
    warn_left_out(folder, left_out)
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
    """The first folder below that splits into several folders, and their names, or none."""
    while True:
        below = {path.relative_to(folder).parts for path in files}
        names = {parts[0] for parts in below if len(parts) > 1}
        if any(len(parts) == 1 for parts in below) or not names:
            return folder, set()
        if len(names) > 1:
            return folder, names
        (name,) = names
        folder = folder / name
