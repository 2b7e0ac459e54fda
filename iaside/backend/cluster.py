"""Workers of a Dask scheduler, for `backend.parallel`: on other machines, and their GPUs.

The data that all jobs share go to every worker once, also to one that joins later or replaces a
dead one. The results stay here, so that a worker that dies loses only its current job.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator

import torch

from iaside.backend import executors, sending
from iaside.backend.device import become_worker, pick_device
from iaside.backend.executors import MAX_TRIES, Elsewhere, Executor, Gone, Lost
from iaside.backend.parallel import executor, places
from iaside.backend.processes import Processes
from iaside.backend.sending import Packed, Shared, packed

GONE = (
    "the Dask scheduler is gone; what was measured is kept where resume= was given: start it and "
    "run this again"
)
TOLD_HERE = ("distributed.client", "distributed.scheduler", "distributed.nanny", "asyncio")


@contextlib.contextmanager
def connect(workers: object = None, device: str = "auto") -> Iterator[Executor]:
    """The ``workers`` of every loop that takes them, for as long as the block lasts.

    workers: the address of a Dask scheduler (``tcp://host:8786``); a cluster object, such as
    dask_jobqueue's, or a Dask ``Client``; ``local``, processes of this machine, one per
    accelerator, or on a CPU one per core; a number of such processes; None as in
    ``iaside.backend.parallel.executor``.
    device: on which ``local`` computes, as in ``pick_device``.

    Errors: ModuleNotFoundError without Dask, ValueError for another word, ConnectionError where no
    scheduler answers.

    >>> with connect(1) as workers:
    ...     print(workers.workers)
    1
    """
    device = pick_device(device)
    if workers is None or isinstance(workers, int | Executor):
        n = None if isinstance(workers, bool) or not isinstance(workers, int) else workers
        if n is None or n < 2:
            yield executor(workers, device)
            return
        with Processes(n) as pool:
            yield pool
    elif workers == "local":
        n = places(device)
        with Processes(n) if n > 1 else contextlib.nullcontext(executor(1, device)) as pool:
            yield pool
    else:
        with _dask(workers) as found:
            yield found


_connections: dict[str, tuple[contextlib.ExitStack, Dask]] = {}


def connected(address: str) -> Dask:
    """The workers of a scheduler, connected once, until this process ends."""
    if address not in _connections:
        stack = contextlib.ExitStack()
        _connections[address] = stack, stack.enter_context(_dask(address))
    return _connections[address][1]


@contextlib.contextmanager
def _dask(cluster: object) -> Iterator[Dask]:
    if isinstance(cluster, str) and "://" not in cluster:
        raise ValueError(
            f"workers={cluster!r} must be a number, 'local' (this machine), or the address of a "
            "Dask scheduler such as tcp://host:8786"
        )
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"workers={cluster!r} needs Dask: pip install 'iaside[cluster]', here and on every "
            "worker; or leave it null to compute in this process"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if not isinstance(cluster, distributed.Client):
            try:
                cluster = stack.enter_context(
                    distributed.Client(cluster, timeout=executors.TIMEOUT)
                )
            except OSError as error:
                raise ConnectionError(
                    f"no Dask scheduler answers at {cluster}; start one with `dask scheduler`, or "
                    "correct `workers` under `runtime:`"
                ) from error
        yield Dask(cluster)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what Dask says of workers and schedulers that are gone: one line says it here."""
    loggers = [logging.getLogger(name) for name in TOLD_HERE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


class Dask(Elsewhere):
    """The workers of a Dask client."""

    def __init__(self, client) -> None:
        self.client = client
        self.sent: dict[str, str] = {}  # token -> name of the plugin that carries it

    @property
    def workers(self) -> int:
        """How many jobs run at the same time; workers may still come and go."""
        return sum(self._asked(self.client.nthreads).values())

    def submit(self, function: Callable, shared: Shared, *args, report: Callable | None = None):
        return self._asked(
            lambda: self.client.submit(
                _on_worker, function, shared, *args, report is not None, pure=False
            )
        )

    def share(self, common: object, kind: str) -> Sent:
        head, models = packed(common)
        token = f"common-{self.client.id}-{time.monotonic_ns()}"
        for old in set(self.sent) - set(models):
            self._take(old)
        for one, content in (models | {token: head}).items():
            if one not in self.sent:
                self._give(one, content)
        return Sent(token, kind, dict(self.sent))

    def unshare(self, shared: Sent) -> None:
        self._take(shared.token)

    def _give(self, token: str, content: Packed) -> None:
        """To all workers, whenever they start; again where some die while they are given it."""
        from distributed import WorkerPlugin

        plugin, name = WorkerPlugin(), f"iaside-{token}"
        plugin.head, plugin.beside = content.head, [bytearray(part) for part in content.beside]
        plugin.torch = torch.__version__
        for left in reversed(range(MAX_TRIES)):
            try:
                self._check()
                self.client.register_plugin(plugin, name)
                self.sent[token] = name
                return
            except (OSError, TimeoutError) as error:
                if not left:
                    raise RuntimeError(GONE) from error
                time.sleep(1)

    def _take(self, token: str) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # nobody is there any more
            name = self.sent.pop(token, None)
            if name is not None and self.client.status == "running":
                self.client.unregister_worker_plugin(name)

    def result(self, future):
        """The results of a job. Errors: those of the job; Lost with its worker; Gone."""
        from distributed import CancelledError, KilledWorker

        try:
            return future.result(timeout=executors.TIMEOUT)
        except TimeoutError:  # Dask asks the dead for minutes
            raise Lost from None
        except KilledWorker as error:
            raise Lost(error.allowed_failures + 1) from error
        except CancelledError as error:
            raise Gone(GONE) from error

    def lost(self, running: Iterable) -> list:
        """Futures that were given to workers and are on none, though there are workers."""
        at_work = self._asked(self.client.processing)
        known = {key for keys in at_work.values() for key in keys}
        return [f for f in running if f.key not in known] if at_work and not known else []

    def take_back(self, future) -> bool:
        return False

    def stop(self, running: list) -> None:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):  # nobody is there
            self.client.cancel(running)

    def _check(self) -> None:
        if self.client.status != "running":
            raise RuntimeError(GONE)

    def _asked(self, question: Callable):
        """The scheduler's answer. Errors: RuntimeError if it is gone."""
        self._check()
        try:
            return question()
        except (OSError, TimeoutError) as error:
            raise RuntimeError(GONE) from error


# -- on a worker ---------------------------------------------------------------------------------


class Sent(Shared):
    """In plugins of the worker.  names: of these, by token."""

    def __init__(self, token: str, kind: str, names: dict[str, str]) -> None:
        self.token, self.kind, self.names = token, kind, names

    def read(self, token: str) -> Packed:
        from distributed import get_worker

        worker = get_worker()
        plugin = worker.plugins.get(self.names[token])
        if plugin is None:  # seen for a job that was cancelled, too
            raise RuntimeError(
                "the workers were sent something else: a client runs one loop at a time"
            )
        if plugin.torch != torch.__version__:
            raise RuntimeError(
                f"the worker at {worker.address} has torch {torch.__version__}, and torch "
                f"{plugin.torch} asks it: install the same, or results may differ"
            )
        return Packed(plugin.head, plugin.beside)


def _on_worker(function: Callable, shared: Sent, *args) -> tuple:
    """A function on the worker of a cluster; what it reports comes with its results."""
    from distributed import get_worker

    *args, reports = args
    become_worker(get_worker().name)
    torch.set_num_threads(1)
    rows: list[tuple] = []
    report = (lambda *row: rows.append(row)) if reports else None
    # On a GPU one at a time: whether TF32 is allowed is the same for all threads.
    with sending.LOCK if shared.kind != "cpu" else contextlib.nullcontext():
        results, said, _ = function(shared, *args, report)
    return results, said, rows
