"""Independent jobs in several processes of one thread each: their progress, their errors.

A process is a fresh interpreter that is sent its jobs, not one that runs the caller's script again:
a script, a cell of a notebook and `python -c` need no `if __name__ == "__main__"`. It ends when
nobody can send it anything any more, so with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import torch

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
sys.path[:] = pickle.loads(inbox.get())
from iaside.workers import _serve
_serve(inbox, said)
"""


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
    calls its own with. With one at a time no process is started, nor in a frozen program, whose
    executable is no interpreter.

    Errors: RuntimeError naming the job that failed; jobs that already run end first.
    """
    at_a_time = min(at_a_time, len(jobs))
    if at_a_time <= 1 or getattr(sys, "frozen", False) or not sys.executable:
        with one_thread():
            for name, job in jobs.items():
                try:
                    work(*job, common, report)
                except Exception as error:
                    raise _failed(name, error) from error
        return
    waiting, said = queue.SimpleQueue(), queue.SimpleQueue()
    for item in jobs.items():
        waiting.put(item)
    start = pickle.dumps((work, common))
    with contextlib.ExitStack() as processes:
        for _ in range(at_a_time):
            process = processes.enter_context(_process())
            threading.Thread(
                target=_feed, args=(process, start, waiting, said), daemon=True
            ).start()
        running, failed = at_a_time, []
        while running:
            match said.get():
                case ("report", row):
                    report(*row)
                case ("failed", name, error):
                    failed.append((name, error))
                    with contextlib.suppress(queue.Empty):
                        while True:
                            waiting.get_nowait()
                case ("idle",):
                    running -= 1
    if failed:
        name, error = failed[0]
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> RuntimeError:
    return RuntimeError(f"{name} failed: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _process() -> Iterator[subprocess.Popen]:
    """A process that waits for jobs, ended at the end whatever it does."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):  # what it was not sent any more
            process.stdin.close()
        process.stdout.close()


def _feed(process, start: bytes, waiting, said) -> None:
    """Send a process job after job, and pass on what it says."""
    name = "a process"
    try:
        _send(process.stdin, pickle.dumps(sys.path))
        _send(process.stdin, start)
        while True:
            name, job = waiting.get_nowait()
            _send(process.stdin, pickle.dumps(job))
            while (message := pickle.load(process.stdout))[0] == "report":
                said.put(message)
            if message[0] == "failed":
                said.put(("failed", name, message[1]))
    except queue.Empty:
        pass
    except (EOFError, OSError):  # it has gone
        said.put(("failed", name, OSError(
            f"its process ended (exit code {process.wait()}); was there too little memory?"
        )))  # fmt: skip
    except Exception as error:  # what cannot be pickled
        said.put(("failed", name, error))
    finally:
        said.put(("idle",))


def _send(file: BinaryIO, message: object) -> None:
    pickle.dump(message, file)
    file.flush()


# -- in a process ----------------------------------------------------------------------------------


def _serve(inbox: queue.SimpleQueue, said: BinaryIO) -> None:
    torch.set_num_threads(1)
    work, common = pickle.loads(inbox.get())
    while True:
        job = pickle.loads(inbox.get())
        try:
            work(*job, common, lambda *row: _send(said, ("report", row)))
            answer = ("done",)
        except Exception as error:
            answer = ("failed", _sendable(error))
        _send(said, answer)


def _sendable(error: Exception) -> Exception:
    """The error, or one of the same words where pickle does not bring it back."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
