"""The loop of a worker process, and what a job returns: results, warnings, errors."""

from __future__ import annotations

import inspect
import pickle
import queue
import warnings
from collections.abc import Callable, Iterable
from typing import BinaryIO

import torch

from iaside.backend.device import become_worker
from iaside.backend.precision import as_caller, undisturbed
from iaside.backend.sending import Shared


def send(file: BinaryIO, message: object) -> None:
    pickle.dump(message, file)
    file.flush()


def do(shared: Shared, work: Callable, job: tuple, modes, report: Callable | None) -> tuple:
    """The results and the warnings of a job."""
    more = () if report is None else (report,)

    def results() -> list:
        return list(results_of(work(shared.content(), *job, *more)))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if modes is None:
            found = results()
        else:
            with as_caller(modes):
                found = undisturbed(results)()
    return found, [(str(one.message), one.category) for one in said], []


def results_of(found: object) -> Iterable:
    return found if inspect.isgenerator(found) else [found]


def serve(inbox: queue.SimpleQueue, said: BinaryIO, number: int) -> None:
    """The loop of a worker process: receive a job, run it, send its results."""
    become_worker(number)
    torch.set_num_threads(1)
    while True:
        function, args, reports = pickle.loads(inbox.get())
        report = (lambda *row: send(said, ("report", row))) if reports else None
        try:
            answer = "done", function(*args, report)
        except Exception as error:
            answer = "failed", _sendable(error)
        send(said, answer)


def _sendable(error: Exception) -> Exception:
    """The error, or one of the same words where pickle does not bring it back."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
