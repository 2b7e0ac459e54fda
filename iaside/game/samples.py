"""Samples of a game as they lie on disk: `SampledWorths` of one network (all coalitions:
`iaside.tables`), `Controls` of several initialisations of one architecture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from iaside.backend.files import reading
from iaside.game.surrogate import Estimates, sampled_values, whole
from iaside.tables import checked, load_table, save_table


@dataclass(eq=False)
class SampledWorths:
    """Worths of sampled coalitions, one row for each.

    image (K,): index in the set, or in ``subset`` where one was given; draw (K,): 0 for the empty
    and the full coalition, then the number of the pair; coalition (K,) uint64: bit i = band i;
    tables: value name -> (K,) float64. Rows are sorted by image, draw and position in the pair.
    provenance: as in ``Worths``, and how the measurement ended (``stopped``: tolerance, budget,
    images or exact; ``message``: in words). forwards: passes made for it this time.
    """

    image: np.ndarray
    draw: np.ndarray
    coalition: np.ndarray
    tables: dict[str, np.ndarray]
    provenance: dict
    forwards: int = 0

    @property
    def images(self) -> np.ndarray:
        """The indices of the images that were visited, (n,): the columns of the values."""
        return np.unique(self.image)

    @cached_property
    def estimates(self) -> Estimates:
        """Values of every image and their variance from the draws, (M, n), of the first value."""
        start = np.flatnonzero(np.diff(self.image, prepend=-1))
        count = np.diff(start, append=len(self.image))
        column = np.arange(len(self.image)) - np.repeat(start, count)
        row = np.repeat(np.arange(len(start)), count)
        codes = np.zeros((len(start), count.max()), np.uint64)
        worths = np.full(codes.shape, np.nan)
        codes[row, column], worths[row, column] = self.coalition, next(iter(self.tables.values()))
        return sampled_values(codes, worths, self.provenance["n_bands"])

    def save(self, path: str | os.PathLike) -> None:
        """Write all rows and the provenance to one npz, whole or not at all."""
        rows = {"image": self.image, "draw": self.draw, "coalition": self.coalition}
        save_table(path, self.provenance, rows | self.tables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> SampledWorths:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        remedy = "measure them first (exact ones: Worths.load)"
        with reading(path, "sampled worths", remedy):
            provenance, arrays = load_table(path)
            return cls.of(arrays, provenance)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], provenance: dict, prefix: str = ""):
        """From arrays whose names start with ``prefix``. Errors: KeyError, ValueError."""
        found = {name.removeprefix(prefix): array for name, array in arrays.items()}
        (rows,) = checked(found["coalition"], "coalition", (None,), "u").shape
        n_bands = provenance["n_bands"]
        if type(n_bands) is not int or not 2 <= n_bands <= 64:
            raise ValueError(f"its n_bands is {n_bands!r}, not a whole number from 2 to 64")
        if not rows:
            raise ValueError("it holds no coalition")
        if found["coalition"].max() > whole(n_bands):
            raise ValueError(f"coalition {found['coalition'].max()} has more than {n_bands} bands")
        for name in ("image", "draw"):
            checked(found[name], name, (rows,), "iu")
        tables = {v: checked(found[v], v, (rows,)) for v in provenance["values"]}
        return cls(found["image"], found["draw"], found["coalition"], tables, provenance)


@dataclass(eq=False)
class Controls:
    """Sampled worths of a network's untrained twins, one of each initialisation: the unit.

    samples: K of them; logit_sd: the spread of each one's logits on the photographs; refused: why
    the network has no usable control, in words, and there are then no samples.

    Errors: ValueError for neither samples nor a reason, and for both.

    >>> Controls([], [], "no usable control: logit sd 7.1").samples
    []
    """

    samples: list[SampledWorths]
    logit_sd: list[float]
    refused: str = ""

    def __post_init__(self) -> None:
        if bool(self.samples) == bool(self.refused):
            raise ValueError("controls are samples, or refused with a reason")

    @cached_property
    def values(self) -> np.ndarray:
        """Mean Shapley values over the photographs, (M, K): a column per initialisation."""
        return np.stack([s.estimates.values.mean(1) for s in self.samples], 1)

    def save(self, path: str | os.PathLike) -> None:
        """Write all rows and where they are from to one npz, whole or not at all."""
        about = {"logit_sd": self.logit_sd, "refused": self.refused}
        tables = {}
        for k, sample in enumerate(self.samples):
            rows = {"image": sample.image, "draw": sample.draw, "coalition": sample.coalition}
            tables |= {f"{k}/{name}": table for name, table in (rows | sample.tables).items()}
        save_table(path, about | {"samples": [s.provenance for s in self.samples]}, tables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Controls:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        with reading(path, "untrained controls", "measure them again"):
            about, arrays = load_table(path)
            samples = [
                SampledWorths.of(arrays, provenance, f"{k}/")
                for k, provenance in enumerate(about["samples"])
            ]
            return cls(samples, about["logit_sd"], about["refused"])
