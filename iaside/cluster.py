"""The game of all coalitions on other processes, GPUs and machines, through a Dask scheduler.

The images are the tasks: those of one batch are sent with their coalitions, and their columns come
back in any order. The table stays here, so that a worker that dies loses only what it was at. Dask
sends the model to each worker once, also to one that joins later or takes a dead one's place.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from iaside.machine import Held, device_of, pick_device
from iaside.worths import Job, Played, Setup, play

PATIENCE = 10  # seconds in which a scheduler has to answer, or a finished result to arrive
ALONE = 120  # seconds after which workers that have all gone are not waited for any more
TOLD_HERE = ("distributed.client", "distributed.scheduler", "distributed.nanny", "asyncio")
TRIES = 5  # of images whose result is lost with its worker


@contextlib.contextmanager
def connect(cluster: object = None, device: str = "auto") -> Iterator[Workers | None]:
    """The ``client`` of ``coalition_worths`` for as long as the block lasts.

    cluster: None for no client (it yields None); the address of a Dask scheduler
    (``tcp://host:8786``); a cluster object, such as dask_jobqueue's, or a Dask ``Client``; or
    ``local``: processes of this machine, one per accelerator, or on a CPU one per core.
    device: what ``local`` counts, as in ``pick_device``.

    Errors: ModuleNotFoundError without Dask, ValueError for another word, ConnectionError where no
    scheduler answers.

    >>> with connect(None) as client:
    ...     print(client)
    None
    """
    if cluster is None:
        yield None
        return
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"cluster={cluster!r} needs Dask: pip install 'iaside[cluster]', here and on every "
            "worker; or leave it null to compute in this process"
        ) from error
    if isinstance(cluster, str) and cluster != "local" and "://" not in cluster:
        raise ValueError(
            f"cluster={cluster!r} must be null (this process), 'local' (this machine), "
            "or the address of a Dask scheduler such as tcp://host:8786"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if cluster == "local":
            import dask

            # Dask gives a worker up that was killed and does not come back within 15 s, too little
            # for the import of torch on a busy machine.
            stack.enter_context(dask.config.set(
                {"distributed.deploy.lost-worker-timeout": f"{ALONE} s"}
            ))
            # A share of the memory for each, beyond which Dask holds a worker up, is no help here.
            cluster = distributed.LocalCluster(
                n_workers=_places(device), threads_per_worker=1, memory_limit=0,
                worker_class=_nanny(), dashboard_address="127.0.0.1:0",
            )
            stack.callback(_close, cluster)
        if not isinstance(cluster, distributed.Client):
            try:
                cluster = stack.enter_context(distributed.Client(cluster, timeout=PATIENCE))
            except OSError as error:
                raise ConnectionError(
                    f"no Dask scheduler answers at {cluster}; start one with `dask scheduler`, or "
                    "correct `cluster` under `runtime:`"
                ) from error
        workers = Workers(cluster)
        stack.callback(workers.forget)
        yield workers


def _nanny() -> type:
    """What starts a worker, here without running the caller's script in it: that may have no
    `if __name__ == "__main__"`, and a worker needs nothing of it, as Dask sends what is made there.
    """
    import distributed

    class Nanny(distributed.Nanny):
        async def instantiate(self):
            with _NO_SCRIPT:
                return await super().instantiate()

    return Nanny


def _no_script(undo: contextlib.ExitStack) -> None:
    """The script as multiprocessing finds it in an interactive session: without a file."""
    main = sys.modules["__main__"]
    for name in ("__spec__", "__file__"):
        if hasattr(main, name):
            undo.callback(setattr, main, name, getattr(main, name))
            setattr(main, name, None)


_NO_SCRIPT = Held(_no_script)


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


def _close(cluster) -> None:
    """End a cluster of this machine; by force where Dask waits for workers that were killed."""
    try:
        cluster.close(timeout=PATIENCE)
    except TimeoutError:
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            with contextlib.suppress(ProcessLookupError, TypeError):  # it has none at the moment
                os.kill(nanny.pid, signal.SIGKILL)


def _places(device: str) -> int:
    """Workers that this machine has room for."""
    if pick_device(device).type != "cpu":
        return torch.accelerator.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Workers:
    """The workers of a Dask client, as ``coalition_worths`` wants them."""

    def __init__(self, client) -> None:
        self.client = client
        self.sent: dict[str, tuple] = {}  # name of a plugin -> key and token of what it carries

    @property
    def threads(self) -> int:
        """How many tasks run at the same time; workers may still come and go."""
        return sum(self._asked(self.client.nthreads).values())

    def play(self, setup: Setup, jobs: Iterable[Job]) -> Iterator[Played]:
        """What ``iaside.worths.play`` yields, a job at a time, in the order of completion.

        What is lost with a worker is played again. Errors: those of a worker as they are here;
        RuntimeError for images at which workers die again and again, workers that have all gone and
        do not come back, or a scheduler that is gone.
        """
        sent = self._send_model(setup), self._send_game(setup)
        jobs, running, tries, done = iter(jobs), {}, Counter(), queue.SimpleQueue()
        seen = time.monotonic()  # when there was a worker, or a result, for the last time

        def start(job: Job) -> None:
            future = self.client.submit(_play, *sent, *_part(setup, *job), pure=False)
            running[future] = job
            future.add_done_callback(done.put)

        try:
            while True:
                threads = self.threads
                # Few at a time: a scheduler is not to hold all images, and workers may join.
                for job in itertools.islice(jobs, max(0, 2 * threads + 2 - len(running))):
                    start(job)
                if not running:
                    return
                seen = time.monotonic() if threads else seen
                if time.monotonic() - seen > ALONE:
                    raise RuntimeError(
                        f"for {ALONE} s there has been no worker; what was measured is kept where "
                        "resume= was given: start workers and run this again"
                    )
                try:
                    future = done.get(timeout=PATIENCE)
                except queue.Empty:
                    lost = self._lost(running)
                else:
                    if future not in running:  # it was cancelled
                        continue
                    here, rows = running[future]
                    scores = _result(future, here)
                    if scores is not None:
                        del running[future]
                        yield here, rows, scores
                        continue
                    lost = [future]
                for future in lost:
                    job = running.pop(future)
                    self.client.cancel([future])
                    tries[job[0].start] += 1
                    if tries[job[0].start] == TRIES:
                        raise RuntimeError(_died(job[0], TRIES))
                    start(job)
        except (OSError, TimeoutError) as error:
            raise _scheduler_gone() from error
        finally:
            with contextlib.suppress(OSError, TimeoutError, RuntimeError):  # nobody is there
                self.client.cancel(list(running))

    def _asked(self, question: Callable):
        """What the scheduler answers. Errors: RuntimeError where there is none any more."""
        if self.client.status != "running":
            raise _scheduler_gone()
        return question()

    def _lost(self, running: Iterable) -> list:
        """Tasks that were given to workers and are on none, though there are workers."""
        at_work = self._asked(self.client.processing)
        known = {key for keys in at_work.values() for key in keys}
        return [f for f in running if f.key not in known] if at_work and not known else []

    def forget(self) -> None:
        """Take the model from the workers."""
        with contextlib.suppress(OSError, TimeoutError):  # nobody is there any more
            for name in self.sent if self.client.status == "running" else ():
                self.client.unregister_worker_plugin(name)
        self.sent = {}

    def _send_model(self, setup: Setup) -> tuple[str, str]:
        model = setup.scorer.model
        if not isinstance(model, torch.nn.Module):
            return self._send("model", model)
        # The object too: a fingerprint does not see everything that a module may hold.
        return self._send("model", model, (setup.provenance["model"], model))

    def _send_game(self, setup: Setup) -> tuple[str, str]:
        """All but the model and the images."""
        masks = setup.masks.cpu() if isinstance(setup.masks, torch.Tensor) else setup.masks
        scorer = setup.scorer.asking(None)
        return self._send("game", replace(setup, images=None, labels=None, index=None, fill=None,
                                          masks=masks, scorer=scorer))

    def _send(self, what: str, content: object, key: tuple = ()) -> tuple[str, str]:
        """Give all workers something, unless the key says that they have it; its name and token."""
        from distributed import WorkerPlugin

        packed = None if key else _packed(content)
        key = key or (hashlib.sha256(packed).hexdigest(),)
        name = f"iaside-{what}-{self.client.id}"
        if name not in self.sent or self.sent[name][0] != key:
            plugin = WorkerPlugin()  # Dask gives it to every worker, whenever that starts
            plugin.packed, plugin.torch = packed or _packed(content), torch.__version__
            plugin.token = uuid.uuid4().hex
            self._register(plugin, name)
            self.sent[name] = key, plugin.token
        return name, self.sent[name][1]

    def _register(self, plugin, name: str) -> None:
        """Give it to all workers; again where some die while they are given it."""
        for left in reversed(range(TRIES)):
            try:
                return self._asked(lambda: self.client.register_plugin(plugin, name))
            except (OSError, TimeoutError) as error:
                if not left:
                    raise _scheduler_gone() from error
                time.sleep(1)


def _packed(content: object) -> bytes:
    """Pickled, functions of a notebook too; a module on the CPU, as it may go to any device."""
    import cloudpickle

    if isinstance(content, torch.nn.Module) and device_of(content, None).type != "cpu":
        content = copy.deepcopy(content).cpu()
    return cloudpickle.dumps(content)


def _part(setup: Setup, here: slice, rows: np.ndarray) -> tuple:
    """What a task is sent. Arrays, since a slice of a tensor would be pickled with all the rest."""
    fill = None if setup.fill is None else setup.fill(setup.index[here])
    parts = setup.images[here], None if setup.labels is None else setup.labels[here], fill
    arrays = [None if part is None else part.cpu().numpy() for part in parts]
    return here.start, rows, *arrays


def _result(future, here: slice) -> np.ndarray | None:
    """What a task gave; None where it is lost with its worker."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result(timeout=PATIENCE)
    except TimeoutError:  # Dask asks the dead for minutes
        return None
    except KilledWorker as error:
        raise RuntimeError(_died(here, error.allowed_failures + 1)) from error
    except CancelledError as error:
        raise _scheduler_gone() from error


def _died(here: slice, n: int) -> str:
    return (
        f"every worker that was given images {here.start} to {here.stop - 1} died ({n} of them). "
        "The usual cause is too little memory: lower `batch_size` under `runtime:`, or give "
        "workers more; their logs say what it was"
    )


def _scheduler_gone() -> RuntimeError:
    return RuntimeError(
        "the Dask scheduler is gone; what was measured is kept where resume= was given: start it "
        "and run this again"
    )


# -- on a worker ---------------------------------------------------------------------------------

_lock = threading.Lock()  # a worker may have several threads


def _play(model, game, first: int, rows, images, labels, fill) -> np.ndarray:
    """Scores (values, rows, images) of some images that were sent."""
    from distributed import get_worker

    torch.set_num_threads(1)
    worker = get_worker()
    setup = _received(worker, *game)
    device = own_device(setup.device.type, worker.name)
    scorer = setup.scorer.asking(_received(worker, *model, device))
    scorer.device = device
    images, labels, fill = (
        None if array is None else torch.tensor(array) for array in (images, labels, fill)
    )
    setup = replace(setup, images=images, labels=labels, index=torch.arange(len(images)),
                    fill=None if fill is None else lambda index: fill[index], scorer=scorer,
                    first=first)
    # On a GPU one at a time: whether TF32 is allowed is the same for all threads.
    with _lock if device.type != "cpu" else contextlib.nullcontext():
        played = play(setup, [(slice(0, len(images)), rows)])
        return np.concatenate([scores for _, _, scores in played], axis=1)


def _received(worker, name: str, token: str, device: torch.device | None = None):
    """What the workers were sent under this name, unpacked when it is first asked for."""
    plugin = worker.plugins.get(name)
    if plugin is None or plugin.token != token:  # seen for a task that was cancelled, too
        raise RuntimeError("the workers were sent another game: a client plays one at a time")
    with _lock:
        if plugin.packed is not None:
            if plugin.torch != torch.__version__:
                raise RuntimeError(
                    f"the worker at {worker.address} has torch {torch.__version__}, and torch "
                    f"{plugin.torch} asks it: install the same, or results may differ"
                )
            plugin.content = placed(pickle.loads(plugin.packed), device)
            plugin.packed = None
        return plugin.content


def placed(content, device: torch.device | None):
    """A module on its device; anything else as it is."""
    return content.to(device) if isinstance(content, torch.nn.Module) else content


def own_device(kind: str, name: object) -> torch.device:
    """The device of a worker: worker 0 of a machine has cuda:0, worker 1 cuda:1, and round again.

    kind: cpu, cuda, mps;  name: of the worker, 0 if it is no number (`dask worker --name 1`).
    Errors: RuntimeError for a kind that the worker's machine has not.

    >>> own_device("cpu", 3)
    device(type='cpu')
    """
    if kind == "cpu":
        return torch.device(kind)
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is None or there.type != kind:
        raise RuntimeError(
            f"the model was on {kind} where this was started, and the worker {name!r} has no such "
            "device; start both on machines of one kind, or set `device` under `runtime:`"
        )
    number = int(name) if str(name).isdigit() else 0
    return torch.device(kind, number % torch.accelerator.device_count())
