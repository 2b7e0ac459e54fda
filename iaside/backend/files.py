"""Files: written whole or not at all, whatever fails; read with one line on what is wrong.

What is being written has a name that ends in ``TEMPORARY``, which DVC and git ignore, beside the
place where it belongs, and is locked by the process that writes it. A lock ends with its process,
however that ends: what is not locked was left by a kill, and goes when the next file is written in
its folder, or when a run starts (`iaside.study.notebook.tidy`).

Nothing here needs torch, which takes seconds to import, nor NumPy but for arrays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked and so nothing swept
    fcntl = None

if TYPE_CHECKING:
    import numpy as np

TEMPORARY = ".iaside-tmp"
ASIDE = f".was{TEMPORARY}"  # a folder that makes place for its successor
DEFLATE = 1032  # no compressed byte becomes more bytes than these


class DamagedError(ValueError):
    """A file does not hold what it should; the message is one line: which, what, and the remedy."""


# -- writing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` only when it has been written whole.

    Its bytes are on the disk before it has the name: after a power loss there is the old file or
    the new one. The folder is made when it does not exist.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/new/a.txt") as file:
    ...         _ = file.write(b"whole")
    ...     Path(folder, "new", "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name, lock = _temporary(path, tempfile.mkstemp)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # temporary files are private, results are not
        move(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        _release(lock)


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike | None = None) -> Iterator[Path]:
    """A folder to make something in, gone afterwards; in ``parent``, or where the system has them.

    >>> with temporary_folder() as folder:
    ...     folder.is_dir()
    True
    >>> folder.exists()
    False
    """
    folder, remove = folder_to_remove(parent)
    try:
        yield folder
    finally:
        remove()


def folder_to_remove(parent: str | os.PathLike | None = None) -> tuple[Path, Callable[[], None]]:
    """A temporary folder that outlives a block, and a function that removes it, once."""
    parent = Path(parent or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _, name, lock = _temporary(parent / "ia", lambda **how: (None, tempfile.mkdtemp(**how)))

    def remove() -> None:
        shutil.rmtree(name, ignore_errors=True)
        _release(lock)

    return Path(name), remove


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def try_room(folder: str | os.PathLike, size: int) -> None:
    """Write so many bytes into a folder, in a file that is gone at once. Errors: OSError.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try_room(folder, 1000)
    ...     os.listdir(folder)
    []
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))
        file.flush()


def move(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Rename what has been written, file or folder, and put the new name on the disk."""
    os.replace(source, target)
    with contextlib.suppress(OSError):  # not every file system can do that with a folder
        sync(Path(target).parent)


def put(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Move a file or folder to its place.

    A folder that is there cannot be replaced in one step: it steps aside first, and a kill before
    the second step leaves it to ``sweep``, which puts it back.
    """
    target = Path(target)
    sweep(target.parent)
    if not target.is_dir():
        move(source, target)
        return
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{ASIDE}")
    with held(target):
        move(target, aside)
        try:
            move(source, target)
        except OSError:
            move(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def sync(path: str | os.PathLike) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- what is in use, and what a kill left ----------------------------------------------------------


@contextlib.contextmanager
def held(folder: str | os.PathLike) -> Iterator[None]:
    """Keep ``remove_unused`` of every process from a folder, which is made where there is none."""
    lock = None
    while lock is None:
        os.makedirs(folder, exist_ok=True)
        lock = _lock(folder)
    try:
        yield
    finally:
        _release(lock)


@contextlib.contextmanager
def alone(folder: str | os.PathLike) -> Iterator[None]:
    """Let one process at a time do what is inside, of all that name the same folder.

    The folder is made where there is none. Not every file system has locks; then nobody waits.

    >>> with temporary_folder() as folder, alone(folder / "new"):
    ...     (folder / "new").is_dir()
    True
    """
    os.makedirs(folder, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY) if fcntl else -1
    try:
        with contextlib.suppress(OSError):
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        _release(handle)


def remove_unused(path: str | os.PathLike) -> None:
    """Remove a file or folder, unless a process holds it or it cannot be removed."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(handle, path):
                return
            name, _, _ = Path(path).name[1:].removesuffix(ASIDE).rpartition(".")
            if str(path).endswith(ASIDE) and not os.path.lexists(Path(path).with_name(name)):
                os.rename(path, Path(path).with_name(name))
            elif os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        finally:
            os.close(handle)


def sweep(folder: str | os.PathLike) -> None:
    """Remove from a folder, not from those in it, what processes that are gone left unfinished.

    >>> with temporary_folder() as folder:
    ...     _ = write_text(folder / "a.txt", "whole"), (folder / ".b.txt.x.iaside-tmp").touch()
    ...     sweep(folder)
    ...     [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith(TEMPORARY):
                remove_unused(Path(folder) / name)


def _temporary(path: Path, make) -> tuple[int | None, str, int]:
    """Handle, name and lock of something new beside a path; what was left there goes first."""
    sweep(path.parent)
    while True:
        how = {"dir": path.parent, "prefix": f".{path.name[:40]}.", "suffix": TEMPORARY}
        handle, name = make(**how)
        lock = _lock(name)
        if lock is not None:
            return handle, name, lock
        if handle is not None:  # another process swept it before it was locked
            os.close(handle)


def _lock(path: str | os.PathLike) -> int | None:
    """A lock that ends with this process, -1 where there are none; None if nothing is there."""
    if fcntl is None:
        return -1
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # not every file system has locks; then nothing is swept
        fcntl.flock(handle, fcntl.LOCK_SH)
    if _is_at(handle, path):
        return handle
    os.close(handle)
    return None


def _release(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def _is_at(handle: int, path: str | os.PathLike) -> bool:
    """Whether what is open is still what has this name."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False


# -- reading ---------------------------------------------------------------------------------------


def content_hash(path: Path) -> str | None:
    """sha256 of a file; of a folder, of the sorted lines "<sha256>  <name>"; None if absent."""
    if path.is_dir():
        lines = sorted(
            f"{content_hash(p)}  {p.relative_to(path).as_posix()}\n"
            for p in path.rglob("*")
            if p.is_file()
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def reading(path: str | os.PathLike, what: str, remedy: str) -> Iterator[None]:
    """Say of any error in reading a file which file, what is wrong with it, and what to do.

    what: it should be ("a worths table"). Errors: FileNotFoundError or DamagedError (a ValueError).

    >>> with reading("up.json", "a plan", "make it"):
    ...     {}["seed"]
    Traceback (most recent call last):
        ...
    iaside.backend.files.DamagedError: up.json cannot be read as a plan: it has no 'seed'; make it
    """
    try:
        yield
    except FileNotFoundError as error:
        noun = what.removeprefix("a ").removeprefix("an ")
        raise FileNotFoundError(f"no {noun} at {path}; {remedy}") from error
    except Exception as error:  # zipfile, zlib, json and NumPy have a dozen kinds for damaged bytes
        text = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        why = " ".join(text.split())[:200] or type(error).__name__
        raise DamagedError(f"{path} cannot be read as {what}: {why}; {remedy}") from error


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an npz file; their checksums, which zip files have, and sizes are checked.

    Nothing is allocated for an array that is larger than what the file holds.
    Errors: of many kinds (see ``reading``), ValueError for objects and for sizes that do not fit.
    """
    import numpy as np

    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            room = info.compress_size * (DEFLATE if info.compress_type else 1)
            if info.compress_size > os.path.getsize(path) or info.file_size > room:
                raise ValueError(f"{name} promises {info.file_size:,} bytes, more than there are")
            with archive.open(info) as file:
                shape, dtype = _header(file, name)
                size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if size != info.file_size - file.tell():
                    raise ValueError(
                        f"{name} promises {size:,} bytes, and there are "
                        f"{info.file_size - file.tell():,}"
                    )
            with archive.open(info) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
                file.read()  # to the end, where the checksum is compared
    return arrays


def _header(file, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in npy format, and the file where its numbers begin."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version > (2, 0):  # for names of columns, which no array of ours has
        raise ValueError(f"{name} is in version {version} of the npy format")
    shape, _, dtype = getattr(npy, f"read_array_header_{version[0]}_{version[1]}")(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, not numbers")
    return shape, dtype


def read_json(path: str | os.PathLike, what: str, remedy: str) -> dict:
    """The object of a JSON file. Errors: those of ``reading``; ValueError for a list or number."""
    with reading(path, what, remedy):
        return as_object(Path(path).read_text(encoding="utf-8"))


def as_object(text: str) -> dict:
    """A JSON text that is an object. Errors: ValueError.

    >>> as_object('{"seed": 0}')
    {'seed': 0}
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not an object with names")
    return found
