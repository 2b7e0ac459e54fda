"""Pictures that stay on the disk as bytes, and come from it a batch at a time."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iaside.backend.files import folder_to_remove


class Photographs:
    """A set of pictures on the disk, read as the tensor float32 (N, C, H, W) in [0, 1] would be.

    What ``load_images`` gives with ``on_disk``. ``len``, ``shape``, ``dtype`` and ``device`` are
    those of that tensor; a slice, an index or several give the tensors that they would of it, bit
    for bit, and read no more than these. What is measured of the set takes as much memory as a
    batch. The file goes with this object; a copy that was sent to another process reads the same.

    Errors: OSError for a file that has gone or is too short.

    >>> with Writer(None, room_for=2) as written:
    ...     written[7], written[3] = torch.ones(3, 4, 4), torch.zeros(3, 4, 4)
    ...     found = written.photographs()  # in the order of their numbers
    ...     found.shape, found[:1].mean(), found[[0, 1]].mean()
    (torch.Size([2, 3, 4, 4]), tensor(0.), tensor(0.5000))
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, path: Path, kind: type, shape: tuple[int, ...], rows: list[int]) -> None:
        """path: of uint8 or float32, picture after picture;  rows: which is the k-th of the set."""
        self.path, self.kind, self.rows = path, kind, np.asarray(rows)
        self.shape = torch.Size([len(rows), *shape])

    def __getstate__(self) -> dict:
        """The file is the business of the process that made it."""
        return {k: v for k, v in vars(self).items() if k != "_gone"}

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> Tensor:
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        chosen = self.rows[index]  # IndexError as of a tensor
        pixels = np.empty((*np.shape(chosen), *self.shape[1:]), self.kind)
        places = pixels.reshape(-1, self.shape[1:].numel())
        with open(self.path, "rb", buffering=0) as file:
            for row, place in zip(np.ravel(chosen), places, strict=True):
                file.seek(int(row) * place.nbytes)
                if file.readinto(place) != place.nbytes:
                    raise OSError(f"{self.path} is too short: load the pictures again")
        found = torch.from_numpy(pixels)
        return found.float().div_(255) if self.kind is np.uint8 else found

    def split(self, n: int) -> Iterator[Tensor]:
        """The pictures in order, so many at a time."""
        return (self[k : k + n] for k in range(0, len(self), n))


class Writer(dict):
    """Takes pictures in any order, each with its number, and gives them in that of the numbers.

    As a dictionary from number to picture would, but that they go to the disk.
    """

    def __init__(self, folder: str | os.PathLike | None, room_for: int) -> None:
        """room_for: so many pictures; OSError at the first where the disk has not."""
        super().__init__()
        self.room_for, self.kind = room_for, np.uint8
        folder, self.remove = folder_to_remove(folder)
        self.folder = folder.absolute()  # for processes that are elsewhere
        self.file = open(self.folder / "bytes", "wb")
        self.found: Photographs | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_) -> None:
        """Remove the file if no Photographs were made of it."""
        self.file.close()
        if self.found is None:
            self.remove()

    def __setitem__(self, k: int, picture: Tensor) -> None:
        pixels = (picture * 255).round().to(torch.uint8)
        if self.kind is np.uint8 and not torch.equal(pixels.float() / 255, picture):
            self._widen()
        pixels = (pixels if self.kind is np.uint8 else picture).numpy()
        if not self:
            self.shape = tuple(picture.shape)
            self._make_room(self.room_for * pixels.nbytes)
        super().__setitem__(k, len(self))
        self.file.write(pixels.tobytes())

    def _widen(self) -> None:
        """Bytes do not hold these pictures: floats do."""
        self.kind = np.float32
        if self:
            self.file.close()
            so_far = Photographs(Path(self.file.name), np.uint8, self.shape, range(len(self)))
            self.file = open(self.folder / "floats", "wb")
            self._make_room(self.room_for * so_far[0].nbytes)
            for part in so_far.split(64):
                self.file.write(part.numpy().tobytes())
            so_far.path.unlink()

    def _make_room(self, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):  # macOS finds out as it goes
            return
        try:
            os.posix_fallocate(self.file.fileno(), 0, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.room_for:,} pictures take {size / 1e9:.1f} GB, which "
                f"{self.folder.parent} has no room for ({error.strerror}): name another on_disk=",
            ) from error

    def photographs(self) -> Photographs:
        """All images that were written; they own their file."""
        self.file.close()
        self.found = Photographs(
            Path(self.file.name), self.kind, self.shape, [self[k] for k in sorted(self)]
        )
        self.found._gone = weakref.finalize(self.found, _in(os.getpid(), self.remove))
        return self.found


def _in(process: int, remove: Callable[[], None]) -> Callable[[], None]:
    """Remove in that process alone: one that was forked from it has this object, too."""
    return lambda: remove() if os.getpid() == process else None
