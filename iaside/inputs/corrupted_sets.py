"""Pictures that others have corrupted and published: ImageNet-C's folders, CIFAR-10-C's arrays."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iaside.inputs.image_files import find_images, read_image
from iaside.inputs.images import chosen_of, drawn_from
from iaside.inputs.listing import Listing, find_source, source_name
from iaside.tables import CORRUPTIONS

SEVERITIES = 5
LAYOUT = (
    "<corruption>/<severity>/<class>/*.JPEG, as ImageNet-C is published, or <corruption>.npy and "
    "labels.npy, as CIFAR-10-C is"
)


@dataclass(frozen=True)
class CorruptedSet:
    """Photographs as they were published corrupted, read when they are asked for.

    What ``corrupted_set`` gives, for ``responses``.
    folder: the published one;  rows: of each photograph its file below <corruption>/<severity>, or
    its place in the arrays;  n: pictures of one severity in an array, 0 where they are files.
    """

    folder: Path
    rows: tuple[str, ...] | tuple[int, ...]
    n: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def pictures(self, corruption: str, severity: int, chosen: Sequence[int]) -> Tensor:
        """The chosen ones of the photographs, corrupted: (k, 3, h, w) uint8."""
        if self.n:
            rows = [(severity - 1) * self.n + self.rows[i] for i in chosen]
            found = np.array(self._array(corruption)[rows])
        else:
            files = self._files(corruption, severity)
            found = np.stack([np.array(read_image(files[i]).convert("RGB")) for i in chosen])
        return torch.from_numpy(found).permute(0, 3, 1, 2)

    def check(self, wanted: Iterable[tuple[str, int]], size: Sequence[int]) -> str:
        """Refuse what lacks a corruption, or is of another size (h, w); a hash of all contents."""
        digest = hashlib.sha256()
        for corruption, severity in wanted:
            if self.n:
                rows = [(severity - 1) * self.n + row for row in self.rows]
                digest.update(self._array(corruption)[rows].tobytes())
            for file in self._files(corruption, severity):
                if not file.is_file():
                    raise FileNotFoundError(
                        f"there is no {file}: {self.folder} must hold every photograph under each "
                        "corruption and severity that is measured; complete it, or ask for fewer"
                    )
                digest.update(file.read_bytes())
            found = tuple(self.pictures(corruption, severity, [0]).shape[2:])
            if found != tuple(size):
                raise ValueError(
                    f"{corruption} of {self.folder} has pictures of {found[0]}x{found[1]} pixels, "
                    f"and the clean ones are of {size[0]}x{size[1]}: give pictures= cut as these "
                    "were, ImageNet-C's by load_images(..., like=CUT) of robustness.corruptions"
                )
        return digest.hexdigest()[:16]

    def _files(self, corruption: str, severity: int) -> list[Path]:
        place = _place(self.folder, corruption, severity)
        return [] if self.n else [place / row for row in self.rows]

    def _array(self, corruption: str) -> np.ndarray:
        path = self.folder / f"{corruption}.npy"
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: put the published file there")
        array = _numbers(path)
        if array.dtype != np.uint8 or array.shape != (SEVERITIES * self.n, *array.shape[1:3], 3):
            raise ValueError(
                f"{path} is {array.dtype} {array.shape}, not uint8 ({SEVERITIES * self.n}, H, W, "
                "3), the pictures of severity 1, then those of 2, to 5: take the published file"
            )
        return array


def corrupted_set(
    folder: str | os.PathLike, source, n: int | None = None, seed: int = 0, like=None
) -> CorruptedSet:
    """The published corrupted pictures of the photographs that ``load_images`` draws.

    folder: ImageNet-C as published, <corruption>/<severity>/<class>/*.JPEG (its archives may lie
        apart, as blur/ and noise/), found by the names of the clean files; or CIFAR-10-C,
        <corruption>.npy (50,000, 32, 32, 3) uint8 with the severities one after the other, and
        labels.npy, found by the places in the test set. No pickle is read.
    source, n, seed, like: as of ``load_images``, whose photographs they are.

    Errors: FileNotFoundError for a folder that is not there; ValueError for another layout, a
    photograph that is not in it, or labels in another order than those of the source.
    Source: Hendrycks and Dietterich 2019.

    >>> from PIL import Image
    >>> from iaside.backend.files import temporary_folder
    >>> with temporary_folder() as folder:
    ...     for place, grey in (("val", 100), ("C/fog/1", 90)):
    ...         (folder / place / "n01440764").mkdir(parents=True)
    ...         Image.new("RGB", (8, 8), (grey,) * 3).save(folder / place / "n01440764/a.JPEG")
    ...     corrupted_set(folder / "C", folder / "val").pictures("fog", 1, [0])[0, 0, 0, 0]
    tensor(90, dtype=torch.uint8)
    """
    folder = find_source(folder).absolute()
    found = drawn_from(source, like)
    chosen = chosen_of(found, n, seed)
    if (folder / "labels.npy").is_file():
        return _of_arrays(folder, found, chosen, source)
    places = (_place(folder, c, s) for c in CORRUPTIONS for s in range(1, SEVERITIES + 1))
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise ValueError(f"{folder} holds no corrupted pictures: it must be {LAYOUT}")
    return _of_files(folder, place, found, chosen)


def _of_arrays(folder: Path, found: Listing, chosen: Sequence[int], source) -> CorruptedSet:
    """Of arrays in the order of the test set: the same number, and the same labels."""
    labels = _numbers(folder / "labels.npy").ravel()
    total = len(found.labels)
    if len(labels) not in (total, SEVERITIES * total):
        raise ValueError(
            f"{folder / 'labels.npy'} has {len(labels):,} labels and {source_name(source)} "
            f"{total:,} pictures: give the whole test set, in its order, that they were made of"
        )
    off = np.flatnonzero(labels[:total] != np.array(found.labels))
    if len(off):
        raise ValueError(
            f"picture {off[0]} has the label {found.labels[off[0]]} in {source_name(source)} and "
            f"{labels[off[0]]} in {folder / 'labels.npy'}: give the test set in its own order, as "
            "torchvision lays it out"
        )
    return CorruptedSet(folder, tuple(int(k) for k in chosen), total)


def _of_files(folder: Path, place: Path, found: Listing, chosen: Sequence[int]) -> CorruptedSet:
    """Of files: by class and name, else by a name that is there once."""
    files = [file.relative_to(place) for file in find_images(place)[0]]
    whole = {str(file.with_suffix("")): str(file) for file in files}
    count = Counter(file.stem for file in files)
    alone = {file.stem: str(file) for file in files if count[file.stem] == 1}
    rows = []
    for k in chosen:
        clean = Path(found.name(k))
        row = whole.get(f"{clean.parent.name}{os.sep}{clean.stem}") or alone.get(clean.stem)
        if row is None:
            raise ValueError(
                f"{found.name(k)} is not in {place}: give the clean files that these pictures "
                "were made of, with their names"
            )
        rows.append(row)
    return CorruptedSet(folder, tuple(rows))


def _place(folder: Path, corruption: str, severity: int) -> Path:
    """The folder of a condition, of the set or of one of its archives."""
    inside = Path(corruption, str(severity))
    below = (path for path in folder.glob(f"*/{inside}") if path.is_dir())
    return folder / inside if (folder / inside).is_dir() else next(below, folder / inside)


def _numbers(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no array of numbers ({error}): take the published file") from (
            error
        )
