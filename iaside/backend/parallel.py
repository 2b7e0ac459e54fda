"""Independent jobs, in this process, in others of this machine, or on a cluster: for every loop.

A loop gives a function, what all its jobs need, and the jobs, cut in a way that does not depend on
who does them; results come back in any order, each with its job, and the loop writes them down. So
the same bytes come from any number of workers, and a worker that is killed costs its job again.

Two threads of one process wait for each other in every layer, and collapse when anything else runs;
two processes of one thread do not. A local worker is a fresh interpreter that is sent its jobs, not
one that runs the caller's script again: a script, a cell of a notebook and `python -c` need no
`if __name__ == "__main__"`. It ends when nobody can send it anything any more, so with its parent,
however that ends. What all jobs need lies in a file that all local workers map: in memory once.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import inspect
import io
import itertools
import mmap
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from iaside.backend.files import temporary_folder
from iaside.backend.machine import as_caller, caller, kept_memory, undisturbed

SETTING = "IASIDE_WORKERS"  # of the environment: what `executor` takes where nothing is said
PATIENCE = 10  # seconds in which a scheduler has to answer, or a finished result to arrive
ALONE = 120  # seconds after which workers that have all gone are not waited for any more
TRIES = 5  # of a job whose workers die
KEPT = 8  # models that a worker keeps unpacked
APART = 4096  # bytes from which an array lies beside what is pickled

# What a process runs. One thread reads what it is sent, and does nothing else, not even unpickle
# it, which may import for seconds: where nothing more can come, it ends the process.
_PROCESS = """
import os, pickle, queue, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
asked, said = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)  # what a job prints is no answer
inbox = queue.SimpleQueue()
def read():
    try:
        while True:
            inbox.put(pickle.load(asked))
    finally:
        os._exit(1)
threading.Thread(target=read, daemon=True).start()
sys.path[:], number = pickle.loads(inbox.get())
from iaside.backend.parallel import _serve
_serve(inbox, said, number)
"""
_ONE = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def executor(workers: object = None, device: str | torch.device = "cpu") -> Executor:
    """Who does the jobs of a loop.

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
    """Who does jobs: ``workers`` of them at a time."""

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
                for result in _results(work(common, *job, *more)):
                    yield job, result


def in_one_thread(pool: Executor) -> Executor:
    """The same, for jobs of which no byte is to depend on the threads that there are here."""
    return Here(1) if isinstance(pool, Here) else pool


@contextlib.contextmanager
def failing(name: str) -> Iterator[None]:
    """Name the job that an error ends. Errors: RuntimeError."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{name} failed: {type(error).__name__}: {error}") from error


class Lost(Exception):
    """A job is gone with its worker; with as many as are named, where that is too often."""


class Gone(Exception):
    """There is nobody any more who could do a job."""


class Unsendable(Exception):
    """Something that no other process can be sent."""


class Elsewhere(Executor):
    """Other processes: each in a way of its own, but with the same care."""

    def each(self, work, common, jobs, device="cpu", report=None, name=lambda *job: str(job[0])):
        try:
            shared = self.share(common, torch.device(device).type)
        except Unsendable as error:
            print(f"{error}: computing in this process, in one thread", file=sys.stderr, flush=True)
            yield from Here(1).each(work, common, jobs, report=report)
            return
        modes, waiting, failed = caller(), iter(jobs), None
        done: queue.SimpleQueue = queue.SimpleQueue()  # of futures, and of what jobs report
        running: dict = {}  # future -> job, how often it was lost
        tell = None if report is None else (lambda *row: done.put(row))

        def start(job: tuple, lost: int = 0) -> None:
            future = self.submit(_do, shared, work, job, modes, report=tell)
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
                if time.monotonic() - seen > ALONE:
                    raise RuntimeError(
                        f"for {ALONE} s there has been no worker; what was measured is kept where "
                        "resume= was given: start workers and run this again"
                    )
                try:
                    future = done.get(timeout=PATIENCE)
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
                    if before + 1 == TRIES:
                        raise RuntimeError(died(name(*job), TRIES))
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
    """What is said of a job that no worker survives."""
    return (
        f"every worker that was given {job} died ({n} of them). The usual cause is too little "
        "memory: lower `batch_size` or `workers` under `runtime:`, or give workers more; their "
        "logs say what it was"
    )


# -- processes of this machine ---------------------------------------------------------------------


class Processes(Elsewhere):
    """Processes of this machine, of one thread each, started when there is something to do.

    n: how many; for a loop on accelerators each takes the next one.
    """

    def __init__(self, n: int) -> None:
        self.workers, self.owner = n, os.getpid()
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._at: list[Future | None] = [None] * n  # what each process is at
        self._processes: list[subprocess.Popen | None] = [None] * n
        self._stack, self._lock = contextlib.ExitStack(), threading.Lock()
        self._folder = self._stack.enter_context(temporary_folder())
        self._models: dict[str, Path] = {}  # the files of the last ones
        self._used: Counter[str] = Counter()
        for number in range(n):
            threading.Thread(target=self._feed, args=(number,), daemon=True).start()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def submit(self, function: Callable, *args, report: Callable | None = None) -> Future:
        """A future of ``function(*args, report)``."""
        future: Future = Future()
        self._tasks.put((future, pickle.dumps((function, args, report is not None)), report))
        return future

    def share(self, common: object, kind: str) -> Mapped:
        """What a process needs to know to have what all jobs need."""
        head, models = packed(common)
        with self._lock:
            for token, content in models.items():
                path = self._models.pop(token, None)  # and behind the others again
                self._models[token] = path or _write(self._folder / token, content)
            self._used.update(list(models))
            for token in list(self._models)[:-KEPT]:
                if not self._used[token]:
                    _remove(self._models.pop(token))
            token = uuid.uuid4().hex
            files = {t: self._models[t] for t in models} | {token: self._folder / token}
            _write(files[token], head)
        return Mapped(token, kind, files)

    def unshare(self, shared: Mapped) -> None:
        with self._lock:
            self._used.subtract([t for t in shared.files if t != shared.token])
            _remove(shared.files[shared.token])

    def result(self, future: Future):
        return future.result()

    def take_back(self, future: Future) -> bool:
        return future.cancel()

    def stop(self, running: Iterable[Future]) -> None:
        """Have nobody work on these any more: who does is ended, and another started."""
        for future in running:
            future.cancel()
        for process, at in zip(self._processes, self._at, strict=True):
            if at is not None and at in running and process is not None:
                process.kill()

    def close(self) -> None:
        """End all processes, whatever they do."""
        with contextlib.suppress(queue.Empty):
            while True:
                if (task := self._tasks.get_nowait()) is not None:
                    task[0].cancel()
        for process in self._processes:
            self._tasks.put(None)
            if process is not None:
                process.kill()
        if self.owner == os.getpid():  # not a fork of that
            self._stack.close()

    def _start(self, number: int) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if k != SETTING} | _ONE
        process = self._processes[number] = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )
        _send(process.stdin, pickle.dumps((sys.path, number)))
        return process

    def _feed(self, number: int) -> None:
        """Send a process job after job, and pass on what it says."""
        process = None
        while (task := self._tasks.get()) is not None:
            future, message, report = task
            if not future.set_running_or_notify_cancel():
                continue
            self._at[number] = future
            try:
                process = process or self._start(number)
                _send(process.stdin, message)
                while (said := pickle.load(process.stdout))[0] == "report":
                    report(*said[1])
            except (EOFError, OSError, pickle.UnpicklingError):  # it has gone
                said = "failed", Lost()
            except Exception as error:  # what does not come back
                said = "failed", error
            if said[0] == "failed" and isinstance(said[1], Lost):
                _end(process)
                process = None
            self._at[number] = None
            if said[0] == "done":
                future.set_result(said[1])
            else:
                future.set_exception(said[1])
        _end(process)


def _end(process: subprocess.Popen | None) -> None:
    if process is None:
        return
    process.kill()
    process.wait()
    with contextlib.suppress(OSError):  # what it was not sent any more
        process.stdin.close()
    process.stdout.close()


def _send(file: BinaryIO, message: object) -> None:
    pickle.dump(message, file)
    file.flush()


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


# -- what all jobs need ----------------------------------------------------------------------------


class Packed(NamedTuple):
    """Something pickled, and large arrays of it beside."""

    head: bytes
    beside: list[memoryview]


def packed(content: object) -> tuple[Packed, dict[str, Packed]]:
    """Something to send, functions of a notebook too, and the networks in it by what they are.

    Tensors are on the CPU afterwards. Errors: Unsendable.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def __init__(self, file, models: dict | None) -> None:
            self.models, self.known, self.beside = models, {}, []
            super().__init__(file, protocol=5, buffer_callback=self.put)

        def put(self, buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= APART:
                self.beside.append(raw)
            return raw.nbytes < APART  # true: with the rest

        def persistent_id(self, obj: object) -> str | None:
            if self.models is None or not isinstance(obj, nn.Module):
                return None
            if id(obj) not in self.known:
                model = pack(obj, None)
                token = hashlib.sha256(model.head)
                for part in model.beside:
                    token.update(part)
                self.known[id(obj)] = token.hexdigest()
                self.models[token.hexdigest()] = model
            return self.known[id(obj)]

        def reducer_override(self, obj: object):
            if type(obj) is not Tensor or obj.layout != torch.strided or obj.is_quantized:
                return super().reducer_override(obj)
            there = obj.cpu()
            simple = not (obj.requires_grad or obj.is_complex() or obj.is_neg() or obj.__dict__)
            if not simple or not obj.numel():
                return there.__reduce_ex__(5)
            last = sum((n - 1) * step for n, step in zip(there.shape, there.stride(), strict=True))
            if last + 1 != obj.numel():  # part of another one, or with holes
                there = there.contiguous()
            # Its stride, too: how a convolution computes may depend on it.
            flat = there.as_strided((obj.numel(),), (1,)).view(torch.uint8).numpy()
            return _tensor, (flat, obj.dtype, obj.shape, there.stride())

    def pack(content: object, models: dict | None) -> Packed:
        file = io.BytesIO()
        pickler = Pickler(file, models)
        pickler.dump(content)
        return Packed(file.getvalue(), pickler.beside)

    models: dict[str, Packed] = {}
    try:
        return pack(content, models), models
    except Exception as error:  # pickle has no kind of its own for what it does not take
        line = str(error).strip().partition("\n")[0]
        raise Unsendable(
            f"this cannot be sent to another process ({type(error).__name__}: {line})"
        ) from error


def _tensor(flat: np.ndarray, dtype: torch.dtype, shape: torch.Size, stride: tuple) -> Tensor:
    return torch.from_numpy(flat).view(dtype).as_strided(shape, stride)


class Shared:
    """What all jobs of a loop need, as a worker finds it.

    token: of that;  kind: of the device to compute on.
    """

    token: str
    kind: str

    def read(self, token: str) -> Packed:
        raise NotImplementedError

    def content(self) -> object:
        with _lock:
            if self.token not in _loaded:
                _loaded.clear()
                _loaded[self.token] = self._unpack(self.token)
            return _loaded[self.token]

    def _unpack(self, token: str) -> object:
        head, beside = self.read(token)
        unpickler = pickle.Unpickler(io.BytesIO(head), buffers=beside)
        unpickler.persistent_load = self._model
        return unpickler.load()

    def _model(self, token: str) -> nn.Module:
        key = token, self.kind
        model = _models.pop(key, None)  # and behind the others again
        _models[key] = model or self._unpack(token).to(own_device(self.kind))
        for old in list(_models)[:-KEPT]:
            del _models[old]
        return _models[key]


class Mapped(Shared):
    """In files, which all processes that read them have in memory once."""

    def __init__(self, token: str, kind: str, files: dict[str, Path]) -> None:
        self.token, self.kind, self.files = token, kind, files

    def read(self, token: str) -> Packed:
        with self.files[token].open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        size = int.from_bytes(whole[:8], "little")
        places = pickle.loads(whole[8 : 8 + size])
        parts = [whole[start:end] for start, end in places]
        return Packed(bytes(parts[0]), parts[1:])


def _write(path: Path, content: Packed) -> Path:
    """A file of the places of all parts, and these, each where a tensor would begin in memory."""
    parts, places, end = [memoryview(content.head), *content.beside], [], 0
    room = 4096 + 64 * len(parts)  # the places do not take more
    for part in parts:
        start = end or room
        end = start + part.nbytes
        places.append((start, end))
        end += -end % 64
    index = pickle.dumps(places)
    with path.open("wb") as file:
        file.write(len(index).to_bytes(8, "little") + index)
        for (start, _), part in zip(places, parts, strict=True):
            file.seek(start)
            file.write(part)
    return path


def _remove(path: Path) -> None:
    """Who maps a file has it still; where that keeps it, it goes with its folder."""
    with contextlib.suppress(OSError):
        path.unlink()


# -- on a worker -----------------------------------------------------------------------------------

_lock = threading.RLock()  # a worker of a cluster may have several threads
_loaded: dict[str, object] = {}  # what all jobs of the last loop need
_models: dict[tuple[str, str], nn.Module] = {}  # the last ones
_number: object = None  # of this worker; None where nothing was sent to anybody


def _do(shared: Shared, work: Callable, job: tuple, modes, report: Callable | None) -> tuple:
    """The results of a job, and what it warned of."""
    more = () if report is None else (report,)

    def results() -> list:
        return list(_results(work(shared.content(), *job, *more)))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if modes is None:
            found = results()
        else:
            with as_caller(modes):
                found = undisturbed(results)()
    return found, [(str(one.message), one.category) for one in said], []


def _results(found: object) -> Iterable:
    return found if inspect.isgenerator(found) else [found]


def _serve(inbox: queue.SimpleQueue, said: BinaryIO, number: int) -> None:
    """What a process of this machine does: job after job."""
    global _number
    _number = number
    torch.set_num_threads(1)
    with kept_memory():
        while True:
            function, args, reports = pickle.loads(inbox.get())
            report = (lambda *row: _send(said, ("report", row))) if reports else None
            try:
                answer = "done", function(*args, report)
            except Exception as error:
                answer = "failed", _sendable(error)
            _send(said, answer)


def _sendable(error: Exception) -> Exception:
    """The error, or one of the same words where pickle does not bring it back."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def own_device(device: str | torch.device) -> torch.device:
    """The device of that kind on which this process computes: worker 0 of a machine has cuda:0,
    worker 1 cuda:1, and round again; who is no worker has the one that is named.

    Errors: RuntimeError for a kind that the worker's machine has not.

    >>> own_device("cpu")
    device(type='cpu')
    """
    device = torch.device(device)
    if _number is None or device.type == "cpu":
        return device
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is None or there.type != device.type:
        raise RuntimeError(
            f"the model was on {device.type} where this was started, and the worker {_number!r} "
            "has no such device; start both on machines of one kind, or set `device` under "
            "`runtime:`"
        )
    number = int(_number) if str(_number).isdigit() else 0
    return torch.device(device.type, number % torch.accelerator.device_count())
