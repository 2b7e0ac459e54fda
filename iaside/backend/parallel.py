"""The executor of a loop: this process, worker processes of this machine, or a cluster.

A loop gives a function, the data that all its jobs share, and the jobs, cut in a way that does not
depend on the workers; results come back in any order, each with its job, and the loop stores them.
Hence any number of workers gives the same bytes, and a worker that is killed costs one job.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path

import torch

from iaside.backend.executors import SETTING, Executor, Here
from iaside.backend.processes import Processes


def executor(workers: object = None, device: str | torch.device = "cpu") -> Executor:
    """The executor that runs the jobs of a loop.

    workers: 1, this process in one thread; a number of processes of this machine, of one thread
    each; ``local``, one per core, or one per accelerator where the loop computes on these; the
    address of a Dask scheduler (``tcp://host:8786``); what ``backend.cluster.connect`` gives; None
    for what the environment variable IASIDE_WORKERS says, and without it this process as it is.
    device: of the loop, as in ``pick_device``. On accelerators a number is at most one for each.
    Processes stay for the next loop, until this process ends or another number is asked for.

    Errors: ValueError for other words or a number below 1; those of ``backend.cluster.connect``.

    >>> executor().workers, executor(1).workers
    (1, 1)
    """
    if isinstance(workers, Executor):
        return workers
    said = f"workers={workers!r}"
    if workers is None:
        workers = os.environ.get(SETTING, "").strip() or None
        said = f"{SETTING}={workers}"
    if workers is None:
        return Here()
    if isinstance(workers, str) and "://" in workers:
        from iaside.backend.cluster import connected

        return connected(workers)
    kind = torch.device(device).type
    try:
        n = places(device) if workers == "local" else int(workers)
        n = n if kind == "cpu" else min(n, places(device))
        if n < 1 or isinstance(workers, bool | float):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"{said} must be a number of processes from 1, 'local' (as many as this machine has "
            "room for), the address of a Dask scheduler such as tcp://host:8786, or None"
        ) from None
    if n == 1 or getattr(sys, "frozen", False) or not sys.executable:
        return Here(1 if kind == "cpu" else None)
    return _pool(n)


def places(device: str | torch.device = "cpu") -> int:
    """Workers that this machine has room for: its accelerators, or the cores it may use.

    Two threads of one core share its arithmetic units, so that a core is counted once.

    >>> places() >= 1
    True
    """
    if torch.device(device).type != "cpu":
        return torch.accelerator.device_count()
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    known = os.sched_getaffinity(0)
    cores = set()
    for cpu in known:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(cpu)
    with contextlib.suppress(OSError, ValueError):  # a container may be given less
        most, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
        return max(1, min(len(cores), most // period))
    return len(cores)


_kept: Processes | None = None


def _pool(n: int) -> Processes:
    """The processes of the last loop, if they are as many."""
    global _kept
    if _kept is None or (_kept.workers, _kept.owner) != (n, os.getpid()):
        _forget()
        _kept = Processes(n)
    return _kept


@atexit.register
def _forget() -> None:
    global _kept
    if _kept is not None and _kept.owner == os.getpid():
        _kept.close()
    _kept = None
