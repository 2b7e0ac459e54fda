"""Executors: hand jobs to workers, collect results, and hand out again what was lost."""

from __future__ import annotations

import contextlib
import itertools
import queue
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import torch

from iaside.backend.log import log
from iaside.backend.precision import caller
from iaside.backend.sending import Unsendable
from iaside.backend.worker import do, results_of

SETTING = "IASIDE_WORKERS"  # of the environment: what `executor` takes where nothing is said
TIMEOUT = 10  # seconds in which a scheduler has to answer, or a finished result to arrive
NO_WORKER_TIMEOUT = 120  # seconds without any worker until a loop gives up
MAX_TRIES = 5  # of a job whose workers die


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, so that no byte depends on how many there could be."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Executor:
    """Runs jobs, ``workers`` at a time."""

    workers: int

    def each(
        self,
        work: Callable,
        common: object,
        jobs: Iterable[tuple],
        device: str | torch.device = "cpu",
        report: Callable | None = None,
        name: Callable[..., str] = lambda *job: str(job[0]),
    ) -> Iterator[tuple[tuple, object]]:
        """Call ``work(common, *job)`` for every job; yields jobs and results, as they come.

        work: a function of a module. One that yields has several results of a job, in order.
        common: what all jobs need, sent to a worker once: tensors on any device, networks, lambdas.
        device: of the loop: on a worker, networks in ``common`` are on its own (`own_device`).
        report: called in this process with whatever a job calls its last argument with, which it
        has then (on a cluster when it has ended).
        name: of a job, for errors.

        Errors: those of a job, as they are here, when the jobs that already run have ended;
        RuntimeError for one at which workers die again and again.
        """
        raise NotImplementedError


class Here(Executor):
    """This process, in as many threads as it has or in one."""

    workers = 1

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def each(self, work, common, jobs, device=None, report=None, name=None):
        more = () if report is None else (report,)
        with one_thread() if self.threads == 1 else contextlib.nullcontext():
            for job in jobs:
                for result in results_of(work(common, *job, *more)):
                    yield job, result


def in_one_thread(pool: Executor) -> Executor:
    """The executor, in one thread if it is this process: no byte may depend on threads."""
    return Here(1) if isinstance(pool, Here) else pool


@contextlib.contextmanager
def failing(name: str) -> Iterator[None]:
    """Name the job that an error ends. Errors: RuntimeError."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{name} failed: {type(error).__name__}: {error}") from error


class Lost(Exception):
    """A job was lost with its worker; the argument counts workers where those are too many."""


class Gone(Exception):
    """No worker is left that could run a job."""


class Elsewhere(Executor):
    """Other processes: each in a way of its own, but with the same care."""

    def each(self, work, common, jobs, device="cpu", report=None, name=lambda *job: str(job[0])):
        try:
            shared = self.share(common, torch.device(device).type)
        except Unsendable as error:
            log.info("%s: computing in this process, in one thread", error)
            yield from Here(1).each(work, common, jobs, report=report)
            return
        modes, waiting, failed = caller(), iter(jobs), None
        done: queue.SimpleQueue = queue.SimpleQueue()  # of futures, and of what jobs report
        running: dict = {}  # future -> job, how often it was lost
        tell = None if report is None else (lambda *row: done.put(row))

        def start(job: tuple, lost: int = 0) -> None:
            future = self.submit(do, shared, work, job, modes, report=tell)
            running[future] = job, lost
            future.add_done_callback(done.put)

        try:
            seen = time.monotonic()  # when there was a worker, or a result, for the last time
            while True:
                # Few at a time: nobody is to hold all jobs, and workers may join.
                if failed is None:
                    for job in itertools.islice(waiting, max(0, self.most() - len(running))):
                        start(job)
                if not running:
                    break
                seen = time.monotonic() if self.workers else seen
                if time.monotonic() - seen > NO_WORKER_TIMEOUT:
                    raise RuntimeError(
                        f"for {NO_WORKER_TIMEOUT} s there has been no worker; what was measured is "
                        "kept where resume= was given: start workers and run this again"
                    )
                try:
                    future = done.get(timeout=TIMEOUT)
                except queue.Empty:
                    lost = self.lost(running)
                else:
                    if isinstance(future, tuple):
                        report(*future)
                        continue
                    if future not in running:  # it was cancelled
                        continue
                    job, lost = running[future][0], []
                    try:
                        results, said, reported = self.result(future)
                    except Lost as error:
                        if error.args:
                            raise RuntimeError(died(name(*job), *error.args)) from error
                        lost = [future]
                    except Gone as error:
                        raise RuntimeError(str(error)) from error
                    except Exception as error:
                        del running[future]
                        failed = failed or error
                        for other in [f for f in running if self.take_back(f)]:
                            del running[other]
                    else:
                        del running[future]
                        for row in reported:
                            report(*row)
                        for message, category in said:
                            warnings.warn(message, category, stacklevel=4)
                        for result in results:
                            yield job, result
                for future in lost:
                    job, before = running.pop(future)
                    if before + 1 == MAX_TRIES:
                        raise RuntimeError(died(name(*job), MAX_TRIES))
                    start(job, before + 1)
            if failed is not None:
                raise failed
        finally:
            self.stop(list(running))
            self.unshare(shared)

    def most(self) -> int:
        """Jobs that are handed out at a time."""
        return 2 * self.workers + 2

    def lost(self, running: Iterable) -> list:
        """Futures of which nothing will be heard any more."""
        return []


def died(job: str, n: int) -> str:
    """The error message for a job that no worker survives."""
    return (
        f"every worker that was given {job} died ({n} of them). The usual cause is too little "
        "memory: lower `batch_size` or `workers` under `runtime:`, or give workers more; their "
        "logs say what it was"
    )
