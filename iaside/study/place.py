"""Can the machine take a study: a whole dvc.lock, folders to write to, room, open files."""

from __future__ import annotations

import functools
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from iaside.backend.files import try_room
from iaside.study.parameters import UsageError

ROOM = 16 * 2**20  # bytes that must be free, or nothing that runs could even say why it ends
PATIENCE = 10.0  # seconds that dvc.lock may take to be whole, on a busy machine
FILES = 256  # open files at a time: DVC, a kernel's sockets and the pipes of processes


def check_lock(root: Path) -> None:
    """Refuse a dvc.lock that a kill cut off while DVC wrote it, which DVC does in place.

    What its stages made is in DVC's cache, and not made again where the file is an older one, or
    none. Errors: UsageError.
    """
    path = root / "dvc.lock"
    for _ in range(50):
        with suppress(OSError, UnicodeDecodeError):
            if not path.exists() or _is_whole(path.read_text("utf-8")):
                return
        time.sleep(PATIENCE / 50)  # DVC may be about to write it, of a stage beside this one
    raise UsageError(
        "dvc.lock is cut off, as by a kill while DVC wrote it; take that of git (git checkout "
        "dvc.lock), or remove it: what was made is in .dvc/cache and is not made again"
    )


@functools.lru_cache(1)
def _is_whole(text: str) -> bool:
    import yaml

    try:  # by libyaml where it is there: thousands of lines take a second in Python
        stages = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
        whole = all({"cmd", "outs"} <= set(stage) for stage in stages.values())
        return whole and all(
            "md5" in out for stage in stages.values() for out in stage["outs"] if "hash" in out
        )
    except (yaml.YAMLError, TypeError, KeyError, AttributeError):
        return False


def check_place(root: Path) -> None:
    """Refuse a project that cannot be written to, a full disk, and a shell of too few open files.

    Nothing is left behind: what is written on trial has no name, or loses it at once.
    """
    for name in ("results", ".partial", ".build", ".dvc"):
        place = root / name
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is no folder: move it away, results are to be written there")
        for folder in _folders(place) if place.is_dir() else [root]:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise UsageError(f"{folder} cannot be written to: `chmod u+rwx {folder}`")
        try:
            try_room(place if place.is_dir() else root, ROOM)
        except OSError as error:
            raise UsageError(
                f"{place} cannot be written to: {error.strerror} ({ROOM >> 20} MB were tried); "
                "free some space on that disk, or make the folder writable"
            ) from error
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        raise UsageError(
            f"this shell allows {soft} open files, but must allow {FILES} at least: run "
            "`ulimit -n 1024` in it first"
        )


def _folders(place: Path) -> Iterator[str]:
    """A folder and what is below it, of .dvc only the first level: its cache has many."""
    for folder, below, _ in os.walk(place):
        yield folder
        if place.name == ".dvc":
            below.clear()
