"""A try in a process of its own, and what folders hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("lost", "changed", "orphans", "leftovers", "hangs", "unclear")
PYTHONS_OWN = re.compile(  # what no user can act on
    r"Traceback|object has no attribute|unhashable|not supported between|object is not |"
    r"unexpected keyword|positional argument|list index|truth value|NoneType"
)


def nothing(what: str) -> dict:
    """A try that broke no promise."""
    return dict.fromkeys(COLUMNS, 0) | {"what": what}


def drawn(seed: int, part: str, k: int) -> random.Random:
    return random.Random(f"{seed} {part} {k}")


class Ended(NamedTuple):
    """How a child ended: its exit code (negative: the signal), None where it was taking too long,
    what it wrote, and in how many seconds."""

    code: int | None
    text: str
    seconds: float


def in_child(function: Callable[[], object], limit: float = 60) -> Ended:
    """Run a function in a forked process. An error is its last line and ends it with 1.

    limit: seconds, without those in which it waited for a processor.
    """
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if not child:
            _run(function, out.fileno())
        status = None
        while status is None and time.monotonic() - start - queued(child) < limit:
            done, ended = os.waitpid(child, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(ended)
            else:
                time.sleep(0.002)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        out.seek(0)
        text = out.read().decode(errors="replace")
    return Ended(status, text, time.monotonic() - start)


def queued(process: int) -> float:
    """Seconds in which others had the processors that it could have used; 0 where nobody says."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _run(function: Callable[[], object], out: int) -> None:
    """The life of a child: no handler, buffer or destructor of its parent is used at its end."""
    code = 1
    with contextlib.suppress(BaseException):
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        warnings.simplefilter("ignore")
        try:
            code = function() or 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
    os._exit(code)


def unclear(text: str) -> bool:
    """Whether the last line of a refusal, which is all of its message, helps nobody."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) != 1 or len(lines[0]) < 30 or bool(PYTHONS_OWN.search(lines[0]))


def contents(folder: Path, left_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Every file below a folder, with the hash of its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part in left_out for part in Path(name).parts):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(after: dict[str, str], wanted: dict[str, str]) -> dict[str, list[str]]:
    """What is lost, changed and left over, by name."""
    return {
        "lost": sorted(set(wanted) - set(after)),
        "changed": sorted(n for n in set(wanted) & set(after) if wanted[n] != after[n]),
        "leftovers": sorted(set(after) - set(wanted)),
    }
