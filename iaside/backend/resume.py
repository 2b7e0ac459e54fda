"""Unfinished measurements: found again by their settings and code, and resumed after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from iaside.backend.files import move, read_npz, replacing
from iaside.backend.keys import code_hash


def settings_key(provenance: Mapping) -> str:
    """A name for a measurement, the same for the same content hashes and settings.

    >>> settings_key({"seed": 0, "n": 2}) == settings_key({"n": 2, "seed": 0})
    True
    """
    return hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()[:20]


def unfinished(
    resume: str | os.PathLike | None, kind: str, about: Mapping, module: str
) -> Path | None:
    """The path of a measurement in progress in the folder ``resume``; None without one.

    It is found again by what it is of and by the code that makes its numbers: ``module``, a
    measuring module's ``__name__``, and what folds networks, with all that they import
    (``backend.keys``). What a network is known by, its weights and an answer, is not all it does.

    >>> module = "game.exact"
    >>> unfinished("x", "worths", {"seed": 0}, module) == unfinished("x", "worths", {}, module)
    False
    """
    if resume is None:
        return None
    code = code_hash(module, "inputs.folding")
    return Path(resume) / f"{kind}-{settings_key({**about, 'code': code})}"


def measure_again(path: str | os.PathLike, why: str) -> None:
    """Warn that part of a file is damaged, and measured again."""
    warnings.warn(
        f"{path} {' '.join(why.split())}: what is missing is made again",
        RuntimeWarning,
        stacklevel=3,
    )


class Table:
    """Numbers as they are measured, nan where not yet; in a folder, so that a kill loses nothing.

    What is assigned is appended to a file of this process alone, with a checksum: a kill can only
    tear the last record, and two processes at one measurement do not disturb each other. Opened
    again it is as it was left, without records that are not as they were written: a file with such
    is put aside (*.damaged) when the rest of it has been taken over.

    >>> table = Table(None, (2, 3))
    >>> table[:, 1] = 7
    >>> np.isnan(table[0])
    array([ True, False,  True])
    """

    HEAD = struct.Struct("<4sIQ")  # of a record: mark, checksum of the rest, numbers
    MARK = b"row\n"

    def __init__(self, folder: str | os.PathLike | None, shape: tuple[int, ...]) -> None:
        self.shape, self.values = tuple(shape), np.full(shape, np.nan)
        self.file = folder and Path(folder) / f"{uuid.uuid4().hex}.rows"
        self.first = json.dumps({"shape": self.shape}).encode() + b"\n"
        damaged = []
        for path in sorted(Path(folder).glob("*.rows")) if folder else ():
            found, wrong = self._records(path)
            for place, numbers in found:
                self.values.ravel()[place] = numbers
            if wrong:
                measure_again(path, wrong)
                damaged.append((path, found))
        for path, found in damaged:  # what is good of it is kept elsewhere: the next time is silent
            for place, numbers in found:
                self._append(place, numbers)
            move(path, path.with_suffix(".damaged"))

    def __getitem__(self, index) -> np.ndarray:
        return self.values[index]

    def __setitem__(self, index, values) -> None:
        self.values[index] = values
        if self.file is not None:
            self._append(self._places(index), self.values[index])

    def _append(self, place: np.ndarray, numbers: np.ndarray) -> None:
        """Write a record of numbers and their places in the flat table."""
        numbers = np.ascontiguousarray(numbers, "<f8")
        body = place.astype("<i8").tobytes() + numbers.tobytes()
        count = struct.pack("<Q", numbers.size)
        head = self.HEAD.pack(self.MARK, zlib.crc32(body, zlib.crc32(count)), numbers.size)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "ab") as file:
            file.write((b"" if file.tell() else self.first) + head + body)

    def _places(self, index) -> np.ndarray:
        """Flat positions of the entries of an index."""
        place = 0
        for axis, n in enumerate(self.shape):
            steps = np.arange(n).reshape([-1 if k == axis else 1 for k in range(len(self.shape))])
            place = place * n + np.broadcast_to(steps, self.shape)[index]  # no copy of the whole
        return np.asarray(place)

    def _records(self, path: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
        """Places and numbers of the records that are as they were written, and what is wrong."""
        if path.is_dir():
            return [], "is a folder"
        data, found = path.read_bytes(), []
        if not data.startswith(self.first):
            return [], f"holds no rows of a table {self.shape}"
        at, broken = len(self.first), False
        while at < len(data):
            end = at + self.HEAD.size
            mark, checksum, n = self.HEAD.unpack(data[at:end].ljust(self.HEAD.size, b"\0"))
            if mark != self.MARK or end + 16 * n > len(data):
                broken = True  # where the next one begins is not known
                break
            body = memoryview(data)[end : end + 16 * n]
            if zlib.crc32(body, zlib.crc32(struct.pack("<Q", n))) == checksum:
                found.append(
                    (np.frombuffer(body[: 8 * n], "<i8"), np.frombuffer(body[8 * n :], "<f8"))
                )
            else:
                broken = True
            at = end + 16 * n
        rest = f" from byte {at:,} on" if at < len(data) else ""
        return found, f"is damaged, or was not written to its end{rest}" if broken else ""


def keep_array(path: Path, array: np.ndarray) -> None:
    """Write an array as npz, which has a checksum."""
    with replacing(path) as file:
        np.savez(file, array=array)


def kept_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
    """Read what ``keep_array`` wrote; None if absent, or, with a warning, if damaged."""
    if not path.exists():
        return None
    try:
        array = read_npz(path)["array"]
        if array.shape != tuple(shape) or array.dtype != dtype:
            raise ValueError(f"{array.dtype} {array.shape} instead of {dtype} {tuple(shape)}")
        return array
    except Exception as error:  # zipfile, zlib and NumPy have a dozen kinds for damaged bytes
        measure_again(path, f"cannot be read ({error})")
        return None
