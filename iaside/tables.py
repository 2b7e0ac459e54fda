"""What was measured, as tables on disk: known by the content of what it was measured on, resumed
where a kill left it.

Reports read these and compute the rest with NumPy: nothing here needs torch, which takes seconds
to import. (Samples of a game are in `iaside.estimator`, attribution maps in `iaside.faithfulness`.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

CORRUPTIONS = (  # the 15 of ImageNet-C, in the order of its papers
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
FOURIER = "fourier"
TABLES = ("log_likelihood", "probability_t2", "correct", "confidence")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` only when it has been written whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def settings_key(provenance: Mapping) -> str:
    """A name for a measurement, the same for the same content hashes and settings.

    >>> settings_key({"seed": 0, "n": 2}) == settings_key({"n": 2, "seed": 0})
    True
    """
    return hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()[:20]


def open_table(path: str | os.PathLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """A table in which a number not measured yet is nan; on disk, so that a kill loses nothing.

    Opened again it is as it was left. Without a path it lives in memory only.
    """
    if path is None:
        return np.full(shape, np.nan)
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.lib.format.write_array(file, np.full(shape, np.nan), allow_pickle=False)
    return np.lib.format.open_memmap(path, mode="r+")


def save_table(
    path: str | os.PathLike, provenance: Mapping, tables: Mapping[str, np.ndarray]
) -> None:
    """Write tables and where they are from to one npz, whole or not at all.

    Equal tables and provenance (stored as JSON, in the array of that name) are equal bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = json.dumps(provenance, sort_keys=True)
    with replacing(path) as file:
        np.savez(file, provenance=np.array(note), **tables)


# -- of the game of bands --------------------------------------------------------------------------


@dataclass
class Worths:
    """The game of every image: one row per coalition, one column per image.

    tables: value name -> (2**M, N) float64; row k is the coalition whose binary code is k (bit i
    = band i), row 0 the empty one. provenance: content hashes of model, images and masks, and all
    settings; no time, so that equal runs are equal bytes. forwards: passes made for it this time.

    >>> w = Worths({"log_likelihood": np.zeros((4, 3))}, {"n_bands": 2})
    >>> w.table.shape
    (4, 3)
    """

    tables: dict[str, np.ndarray]
    provenance: dict
    forwards: int = 0

    @property
    def table(self) -> np.ndarray:
        """The table of the first value that was asked for, (2**M, N) float64."""
        return next(iter(self.tables.values()))

    def save(self, path: str | os.PathLike) -> None:
        """Write all tables and the provenance to one npz, whole or not at all."""
        save_table(path, self.provenance, self.tables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Worths:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"no worths table at {path}; measure it first: `make repro`")
        with np.load(path, allow_pickle=False) as data:
            if "provenance" not in data:
                raise ValueError(f"{path} is not a worths table: it has no provenance")
            provenance = json.loads(str(data["provenance"]))
            return cls({name: data[name] for name in provenance["values"]}, provenance)


# -- of perturbed images ---------------------------------------------------------------------------


class Condition(NamedTuple):
    """What was done to the images. place: the band, or the cell of the heat map; -1 for neither."""

    source: str
    strength: float = 0.0
    place: int = -1


CLEAN = Condition("clean")
CLEAN_CUT = Condition("clean_cut")  # what corrupted images are compared with, where not with CLEAN


@dataclass
class Responses:
    """A network's answers: a row per condition, a column per image, nan where nothing was asked.

    tables: ``log_likelihood`` of the true class in nats, ``probability_t2`` its probability at
    softmax temperature 2, ``correct`` 0 or 1, ``confidence`` the largest probability; each (K, N).
    clean_energy (M, N), change_energy (K, M, N): energy of the image and of the perturbation in
    each band, DC excluded; nan for the heat map. The row ``clean_cut``, where there is one, is of
    what was corrupted, before that: its change_energy is the energy of these pictures.

    >>> energies = np.ones((2, 3)), np.zeros((1, 2, 3))
    >>> r = Responses([CLEAN], {"correct": np.ones((1, 3))}, *energies, {})
    >>> r.rows("clean")
    [0]
    """

    conditions: list[Condition]
    tables: dict[str, np.ndarray]
    clean_energy: np.ndarray
    change_energy: np.ndarray
    provenance: dict

    def rows(self, source: str, strength: float | None = None, place: int | None = None):
        """The rows of a source, optionally of one strength and place, in the order measured."""
        return [
            k for k, c in enumerate(self.conditions)
            if c.source == source and strength in (None, c.strength) and place in (None, c.place)
        ]  # fmt: skip

    def row(self, condition: Condition) -> int:
        """The row of one condition. Errors: ValueError naming those that were measured."""
        if condition not in self.conditions:
            of_source = [c for c in self.conditions if c.source == condition.source]
            raise ValueError(
                f"{condition} was not measured; there is: {of_source or 'nothing of that source'}"
            )
        return self.conditions.index(condition)

    def partner(self, condition: Condition) -> int:
        """The row of the same images without the perturbation, for differences in pairs."""
        cut = condition.source in CORRUPTIONS and CLEAN_CUT in self.conditions
        return self.row(CLEAN_CUT if cut else CLEAN)

    def partner_energy(self, condition: Condition) -> np.ndarray:
        """Energy of the partner's images in each band, DC excluded, (M, N)."""
        k = self.partner(condition)
        return self.clean_energy if self.conditions[k] == CLEAN else self.change_energy[k]

    def corrupted_as(self) -> str:
        """How the corruptions were made, in words: whose strengths, at which size."""
        made = self.provenance.get("corruptions")
        if not made:
            return "no corruptions"
        height, width = made["picture_size"]
        words = f"corruptions: strengths of {made['strengths']}, made at {height} x {width} pixels"
        if made["interpolation"]:
            height, width = self.provenance["size"]
            words += f", then resized to {height} x {width} ({made['interpolation']})"
        return words

    def asked(self, rows: int | Sequence[int]) -> np.ndarray:
        """The images that were measured under all these conditions."""
        correct = self.tables["correct"][np.atleast_1d(rows)]
        return np.flatnonzero(~np.isnan(correct).any(0))

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one npz, whole or not at all."""
        source, strength, place = map(np.array, zip(*self.conditions, strict=True))
        conditions = {"source": source, "strength": strength, "place": place}
        energies = {"clean_energy": self.clean_energy, "change_energy": self.change_energy}
        save_table(path, self.provenance, conditions | energies | self.tables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Responses:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"no robustness table at {path}; measure it (40_robustness)")
        with np.load(path, allow_pickle=False) as data:
            if "change_energy" not in data:
                raise ValueError(f"{path} is not a robustness table: it has no change_energy")
            triples = zip(
                data["source"].tolist(), data["strength"].tolist(), data["place"].tolist(),
                strict=True,
            )  # fmt: skip
            return cls(
                [Condition(*triple) for triple in triples], {t: data[t] for t in TABLES},
                data["clean_energy"], data["change_energy"], json.loads(str(data["provenance"])),
            )  # fmt: skip


def heat_frequencies(side: int, grid: int) -> list[int]:
    """The signed frequencies, in cycles per image, of the rows or columns of a heat map.

    >>> heat_frequencies(224, 5)
    [-112, -56, 0, 56, 112]
    """
    return [round(side * (i / (grid - 1) - 0.5)) for i in range(grid)]
