"""Independent jobs in several processes of one thread each: their progress, their errors."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, so that no byte depends on how many there could be."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_processes(
    work: Callable,
    jobs: Mapping[str, tuple],
    common: object,
    at_a_time: int,
    report: Callable = lambda *row: None,
) -> None:
    """Run ``work(*job, common, report)`` for every job, a few at a time.

    work: a function of a module;  jobs: name -> its arguments;  common: what all need, sent to a
    process once: numpy arrays, not tensors;  report: called in this process with whatever a job
    calls its own with. With one at a time no process is started.

    Errors: RuntimeError naming the job that failed; jobs that already run end first.
    """
    if at_a_time <= 1:
        with one_thread():
            for name, job in jobs.items():
                try:
                    work(*job, common, report)
                except Exception as error:
                    raise _failed(name, error) from error
        return
    context = get_context("spawn")  # a forked child of a process with torch threads may hang
    said = context.Queue()
    with ProcessPoolExecutor(at_a_time, context, _start, (common, said)) as pool:
        running = {name: pool.submit(_run, work, job) for name, job in jobs.items()}
        while running:
            with contextlib.suppress(queue.Empty):
                report(*said.get(timeout=0.2))
            for name in [name for name, future in running.items() if future.done()]:
                try:
                    running.pop(name).result()
                except Exception as error:
                    pool.shutdown(cancel_futures=True)
                    raise _failed(name, error) from error
        with contextlib.suppress(queue.Empty):
            while True:
                report(*said.get(timeout=0.2))


def _failed(name: str, error: Exception) -> RuntimeError:
    return RuntimeError(f"{name} failed: {type(error).__name__}: {error}")


_here: dict = {}  # of a process that works: what all its jobs need


def _start(common: object, said) -> None:
    # When the parent is killed nobody else would end this process.
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    torch.set_num_threads(1)
    _here.update(common=common, report=lambda *row: said.put(row))


def _run(work: Callable, job: tuple) -> None:
    work(*job, _here["common"], _here["report"])
