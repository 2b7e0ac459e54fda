"""Worker processes of this machine, of one thread each.

Two threads of one process synchronise in every layer, and slow down badly when anything else runs;
two processes of one thread do not. A local worker is a fresh interpreter that receives its jobs and
does not run the caller's script again: a script, a cell of a notebook and `python -c` need no
`if __name__ == "__main__"`. It ends with its parent, however that ends. The data that all jobs
share lie in a file that all local workers map: in memory once.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

from iaside.backend.executors import SETTING, Elsewhere, Lost
from iaside.backend.files import temporary_folder
from iaside.backend.memory import GLIBC_TUNABLES
from iaside.backend.sending import CACHED_MODELS, Mapped, packed, remove, write_packed
from iaside.backend.worker import send

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
from iaside.backend.worker import serve
serve(inbox, said, number)
"""


_ONE = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


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
        """A handle with which a worker finds the shared data."""
        head, models = packed(common)
        with self._lock:
            for token, content in models.items():
                path = self._models.pop(token, None)  # and behind the others again
                self._models[token] = path or write_packed(self._folder / token, content)
            self._used.update(list(models))
            for token in list(self._models)[:-CACHED_MODELS]:
                if not self._used[token]:
                    remove(self._models.pop(token))
            token = uuid.uuid4().hex
            files = {t: self._models[t] for t in models} | {token: self._folder / token}
            write_packed(files[token], head)
        return Mapped(token, kind, files)

    def unshare(self, shared: Mapped) -> None:
        with self._lock:
            self._used.subtract([t for t in shared.files if t != shared.token])
            remove(shared.files[shared.token])

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
        env.setdefault("GLIBC_TUNABLES", GLIBC_TUNABLES)
        process = self._processes[number] = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )
        send(process.stdin, pickle.dumps((sys.path, number)))
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
                send(process.stdin, message)
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
