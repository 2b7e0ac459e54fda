"""Class names -> class indices: as given, as ImageNet numbers them, or in sorted order."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

_CLASSES = (
    "'numbers', 'words', a list of the names in the order of the network's classes, or a dict from "
    "name to index"
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
