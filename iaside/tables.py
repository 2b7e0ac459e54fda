"""Results as tables on disk, known by the content of what they were measured on.

Reports read these and compute the rest with NumPy: nothing here needs torch, which takes seconds
to import. (Samples of a game are in `game.samples`, attribution maps in `attribution`.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from iaside.backend.files import as_object, read_npz, reading, replacing

CORRUPTIONS = (  # the 15 of ImageNet-C, in the order of its papers
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
FOURIER = "fourier"
ALIKE = 0.8  # correlation of two looks from which on they are of the same pictures
TABLES = ("log_likelihood", "probability_t2", "correct", "confidence", "no_gradient")


def save_table(
    path: str | os.PathLike, provenance: Mapping, tables: Mapping[str, np.ndarray]
) -> None:
    """Write tables and where they are from to one npz, whole or not at all.

    Equal tables and provenance (stored as JSON, in the array of that name) are equal bytes.
    Errors: TypeError for what is no array of numbers or words.
    """
    note = json.dumps(provenance, sort_keys=True)
    arrays = {name: np.asarray(table) for name, table in tables.items()}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"{objects[0]} holds Python objects, which no table keeps: give numbers")
    with replacing(path) as file:
        np.savez(file, provenance=np.array(note), **arrays)


def load_table(path: str | os.PathLike) -> tuple[dict, dict[str, np.ndarray]]:
    """Provenance and tables as ``save_table`` wrote them. Errors: see ``backend.files.reading``."""
    arrays = read_npz(path)
    return as_object(str(arrays.pop("provenance"))), arrays


def checked(array: np.ndarray, name: str, shape: tuple[int | None, ...], kinds: str = "fiu"):
    """The array. Errors: ValueError where its shape (None: any) or its dtype.kind is another.

    >>> checked(np.zeros((2, 3)), "worths", (None, 4))
    Traceback (most recent call last):
        ...
    ValueError: worths is float64 (2, 3), not (any, 4) of a kind in fiu
    """
    fits = len(array.shape) == len(shape) and all(
        n in (None, m) for m, n in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        is_now = f"{name} is {array.dtype} {array.shape}"
        raise ValueError(f"{is_now}, not ({wanted}) of a kind in {kinds}")
    return array


def check_same_pictures(first: Mapping, second: Mapping) -> None:
    """Refuse two measurements that are of different pictures, by their provenances.

    Equal fingerprints (`images`) say that they are the same. Else the networks may want them of
    another size or crop: then what they look like from afar (`look`) correlates, at 0.96 or more
    between 64 and 384 pixels and crops from 0.875 to 1, whereas that of others is at about 0.
    Tables without a look, from before it was recorded, pass; so do those of another number of
    photographs, of which the fewer may be part of the more.

    Errors: ValueError that says what is to be the same.

    >>> check_same_pictures({"images": "a", "look": 16 * "00ff"}, {"images": "a"})
    """
    looks = [p.get("look") for p in (first, second)]
    if first.get("images") == second.get("images") or None in looks:
        return
    greys = [np.frombuffer(bytes.fromhex(v), np.uint8).reshape(-1, 16).astype(float) for v in looks]
    if len(greys[0]) != len(greys[1]):
        return
    # each place against itself in the other pictures: all photographs are bright at the top
    a, b = (g - (g.mean(0) if len(g) > 1 else g.mean()) for g in greys)
    size = np.sqrt((a**2).sum() * (b**2).sum())
    if (a * b).sum() < ALIKE * size or (size == 0 and not np.array_equal(*greys)):
        raise ValueError(
            f"these are measurements of different photographs (images {first.get('images')} and "
            f"{second.get('images')}); use load_images with the same source, n and seed for both, "
            "in a study the same `images`"
        )


@dataclass(eq=False)
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
        with reading(path, "a worths table", "measure it first"):
            provenance, arrays = load_table(path)
            names = provenance["values"]
            if not isinstance(names, list) or not names:
                raise ValueError(f"its values are {names!r}, not a list of names")
            shape = arrays[names[0]].shape
            if len(shape) != 2 or shape[0] < 2 or shape[0] & (shape[0] - 1):
                raise ValueError(f"{names[0]} is {shape}, not (2**M, N)")
            if not shape[1]:
                raise ValueError("it holds no image")
            tables = {name: checked(arrays[name], name, shape) for name in names}
            if empty := [name for name, table in tables.items() if np.isnan(table).all()]:
                raise ValueError(f"{empty[0]} holds no number")
            return cls(tables, provenance)


class Condition(NamedTuple):
    """What was done to the images. place: the band, or the cell of the heat map; -1 for neither."""

    source: str
    strength: float = 0.0
    place: int = -1


CLEAN = Condition("clean")
CLEAN_CUT = Condition("clean_cut")  # what corrupted images are compared with, where not with CLEAN


@dataclass(eq=False)
class Responses:
    """A network's answers: a row per condition, a column per image, nan where nothing was asked.

    tables: ``log_likelihood`` of the true class in nats, ``probability_t2`` its probability at
    softmax temperature 2, ``correct`` 0 or 1, ``confidence`` the largest probability; each (K, N).
    ``no_gradient`` is 1 where an attack found no usable gradient (``perturb``), else 0. Such an
    image was not attacked, so that its answer would say nothing: the other tables have nan there.
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
            k
            for k, c in enumerate(self.conditions)
            if c.source == source and strength in (None, c.strength) and place in (None, c.place)
        ]

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
        how = "as published" if "published" in made else "made"
        words = f"corruptions: strengths of {made['strengths']}, {how} at {height} x {width} pixels"
        if made["interpolation"]:
            height, width = self.provenance["size"]
            words += f", then resized to {height} x {width} ({made['interpolation']})"
        return words

    def measured_images(self, rows: int | Sequence[int]) -> np.ndarray:
        """The images that were measured under all these conditions, and attacked by attacks."""
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
        with reading(path, "a robustness table", "measure it (40_robustness)"):
            provenance, arrays = load_table(path)
            k, m, n = checked(arrays["change_energy"], "change_energy", (None,) * 3).shape
            for name, shape, kinds in (
                ("source", (k,), "U"),
                ("strength", (k,), "f"),
                ("place", (k,), "i"),
                ("clean_energy", (m, n), "f"),
                *((t, (k, n), "f") for t in TABLES),
            ):
                checked(arrays[name], name, shape, kinds)
            triples = zip(
                *(arrays[c].tolist() for c in ("source", "strength", "place")), strict=True
            )
            return cls(
                [Condition(*triple) for triple in triples],
                {t: arrays[t] for t in TABLES},
                arrays["clean_energy"],
                arrays["change_energy"],
                provenance,
            )


@dataclass(eq=False)
class Rivals:
    """A network's answers under octaves of noise, and the spectrum of its input gradients.

    octaves (K,): centres in cycles an image. noise_sd (S,): standard deviations, the first 0.
    tables: ``log_likelihood`` of the true class in nats and ``correct`` 0 or 1, each (K, S, N), of
    grey pictures of low contrast; of no noise the same in all octaves. gradient_share (M, N): of
    the energy of each picture's input gradient in the bands, nan where none is usable.

    >>> tables = dict.fromkeys(("log_likelihood", "correct"), np.zeros((2, 3, 5)))
    >>> r = Rivals(np.array([1.75, 3.5]), np.array([0, 0.1, 0.2]), tables, np.ones((4, 5)) / 4, {})
    >>> r.gradient_share.shape
    (4, 5)
    """

    octaves: np.ndarray
    noise_sd: np.ndarray
    tables: dict[str, np.ndarray]
    gradient_share: np.ndarray
    provenance: dict

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one npz, whole or not at all."""
        about = {"octaves": self.octaves, "noise_sd": self.noise_sd}
        about |= {"gradient_share": self.gradient_share}
        save_table(path, self.provenance, about | self.tables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Rivals:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        with reading(path, "a table of rivals", "measure it (42_rivals)"):
            provenance, arrays = load_table(path)
            octaves = checked(arrays["octaves"], "octaves", (None,), "f")
            noise_sd = checked(arrays["noise_sd"], "noise_sd", (None,), "f")
            share = checked(arrays["gradient_share"], "gradient_share", (None, None), "f")
            shape = len(octaves), len(noise_sd), share.shape[1]
            tables = {t: checked(arrays[t], t, shape, "f") for t in ("log_likelihood", "correct")}
            if not all(shape) or noise_sd[0] != 0:
                raise ValueError("it holds no image, no octave, or no level without noise")
            return cls(octaves, noise_sd, tables, share, provenance)


def describe(condition: Condition) -> str:
    """A condition in words.

    >>> describe(Condition("pgd", 0.1, 2))
    'pgd 0.1, band 2'
    """
    band = f", band {condition.place}" if condition.place >= 0 else ""
    return f"{condition.source} {condition.strength:.3g}{band}"


def without_gradient(r: Responses) -> list[str]:
    """A line for each attack that found no usable gradient for some images: for how many.

    >>> energies = np.ones((2, 3)), np.zeros((2, 2, 3))
    >>> tables = {"no_gradient": np.array([[0, 0, 0], [1, 0, np.nan]])}
    >>> without_gradient(Responses([CLEAN, Condition("fgsm", 0.1)], tables, *energies, {}))
    ['1 of 2 images gave no usable gradient under fgsm 0.1: left out, not robust']
    """
    lines = []
    for condition, none in zip(r.conditions, r.tables["no_gradient"], strict=True):
        none = none[~np.isnan(none)]
        if none.any():
            lines.append(
                f"{none.sum():.0f} of {len(none)} images gave no usable gradient under "
                f"{describe(condition)}: left out, not robust"
            )
    return lines


def heat_frequencies(side: int, grid: int) -> list[int]:
    """The signed frequencies, in cycles per image, of the rows or columns of a heat map.

    >>> heat_frequencies(224, 5)
    [-112, -56, 0, 56, 112]
    """
    return [round(side * (i / (grid - 1) - 0.5)) for i in range(grid)]
