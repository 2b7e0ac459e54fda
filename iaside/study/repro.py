"""`dvc repro`, independent stages side by side, the headline first: python -m iaside.study.repro.

A study that names some of the reports (`claims: reports:`) or leaves some out (`without:`) gets
these, and what they rest on.

DVC runs one stage at a time, and several `dvc repro` at once refuse each other's files. Here one
DVC process does what it always does, one thing at a time: it looks at a stage, and after its
command hashes what it made and writes dvc.lock. Only the commands run side by side, of stages none
of which needs another. Runners and kernels are forks of a process that has imported the libraries
(`warm`). Where nothing is to be done, nothing is started.
"""

from __future__ import annotations

import contextlib
import copy
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from iaside.backend.files import content_hash, temporary_folder, write_text
from iaside.study import warm
from iaside.study.index import write_index
from iaside.study.notebook import project_root
from iaside.study.overlays import read_study
from iaside.study.run import set_environment
from iaside.study.sections import reports_asked

WORKERS = "IASIDE_WORKERS"  # environment: how many processes measure in one of them
MOST = 4  # stages at once: each has its networks in memory
HEADLINE = "importance"
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
INTERRUPTED = 252  # DVC's exit code
LISTED = ".build/listed"  # of what the pages that list the others were made, where no stage did


def shares(asked: object, device: object) -> tuple[int, int | None]:
    """How many stages run at once, and how many processes these share.

    asked: `workers` under `runtime:`, or IASIDE_WORKERS;  device: of the study. None for the
    processes, where each stage has the same: those of a cluster, or one for each accelerator, which
    no other stage is to take memory from.

    >>> shares("6", "cpu"), shares(1, "cpu"), shares("tcp://host:8786", "cpu")[1]
    ((4, 6), (1, 1), None)
    """
    import torch

    from iaside.backend.parallel import places

    if device != "cpu" and torch.accelerator.is_available():
        return 1, None
    here = places()
    if str(asked).isdigit():
        return min(MOST, int(asked)), int(asked)
    return min(MOST, here), None if "://" in str(asked) else here


class Turns:
    """DVC's lock of a project, taken in turn by threads of one process."""

    def __init__(self, lock) -> None:
        self._lock, self._turn = lock, threading.RLock()

    def lock(self) -> None:
        self._turn.acquire()
        try:
            self._lock.lock()
        except BaseException:
            self._turn.release()
            raise

    def unlock(self) -> None:
        self._lock.unlock()
        self._turn.release()

    @property
    def is_locked(self) -> bool:
        return self._lock.is_locked

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Nothing else of DVC meanwhile, in this process."""
        with self._turn:
            yield


@contextlib.contextmanager
def taken_in_turn(repo) -> Iterator[Turns]:
    """Let threads take the lock of a repo, which this one holds, in turn until the end."""
    lock, reset = repo.lock, repo._reset
    turns = Turns(lock)

    def reset_in_turn() -> None:
        with turns.turn():
            reset()

    lock.unlock()
    repo.lock, repo._reset = turns, reset_in_turn
    try:
        yield turns
    finally:
        repo.lock, repo._reset = lock, reset
        lock.lock()


def side_by_side(lanes: int, cores: int | None) -> Callable:
    """DVC's loop over stages (dvc.repo.reproduce._reproduce), with several commands at once.

    cores: shared by these, unless it is None.
    """
    import dvc.repo.reproduce as dvc

    def reproduce(stages, graph, on_error, force_downstream, force, **how):  # nothing is forced
        needs = {stage: set(graph.successors(stage)) & set(stages) for stage in stages}
        waiting, running, ended = list(stages), set(), queue.SimpleQueue()
        made, failed = [], {}

        def work(stage) -> None:
            found = error = None
            try:
                stage.repo.lock.lock()
                try:
                    upstream = list(graph.successors(stage))
                    found = dvc._reproduce_stage(stage, upstream=upstream, **how)
                    if found:  # DVC itself keeps no run with an output for git (cache: false)
                        stage.repo.stage_cache.save(found)
                finally:
                    stage.repo.lock.unlock()
            except Exception as raised:  # whatever it is, as in DVC's own loop
                error = raised
            ended.put((stage, found, error))

        with taken_in_turn(stages[0].repo) as turns:
            try:
                while waiting or running:
                    ready = [s for s in waiting if not needs[s] & {*running, *waiting}]
                    if cores:
                        at_once = min(lanes, len(running) + len(ready))
                        os.environ[WORKERS] = str(max(1, cores // at_once))
                    for stage in ready[: lanes - len(running)]:
                        waiting.remove(stage)
                        running.add(stage)
                        threading.Thread(target=work, args=(stage,)).start()
                    stage, found, error = ended.get()
                    running.remove(stage)
                    made += [found] if found else []
                    if error:
                        failed[stage] = error
                        with turns.turn():
                            skipped = dvc.handle_error(graph, on_error, error, stage)
                        waiting = [s for s in waiting if s not in skipped]
            finally:  # Ctrl-C is theirs, too
                for _ in running:
                    ended.get()
        if failed:
            dvc._raise_error(None, *failed)
        return made

    return reproduce


def parse_once(load: Callable) -> Callable:
    """DVC's reader of params.yaml, which it calls for every stage: text that it has seen is not
    parsed again."""
    seen = {}

    def reader(path, fs, **how):
        with fs.open(path, "rb") as file:
            text = file.read()
        if (path, text) not in seen:
            seen.clear()
            seen[path, text] = load(path, fs, **how)
        return copy.deepcopy(seen[path, text])

    return reader


def main() -> int:
    """Make what the headline needs, then all; returns 0, 1 for a failure, 130 after Ctrl-C.

    What fails stops only what needs it.
    """
    from dvc.cli import main as dvc
    from dvc.dependency import param
    from dvc.repo import reproduce

    param.load_path = parse_once(param.load_path)
    root = project_root()
    study = read_study(root / "params.yaml")
    asked = reports_asked(study, root)
    code = dvc(["status", "-q", *(["--with-deps", *asked] if asked else [])])
    if code == INTERRUPTED:
        return 130
    if code == 0:
        print("Everything is up to date: nothing was run.")
        return _listed(root, asked, code)
    runtime = study.get("runtime") or {}
    lanes, cores = shares(os.environ.get(WORKERS) or runtime.get("workers"), runtime.get("device"))
    for name in ONE_THREAD:  # processes of one thread each, of which every stage has its share
        os.environ.setdefault(name, "1")
    set_environment()
    reproduce._reproduce = side_by_side(lanes, cores)
    with temporary_folder() as folder, warm.libraries_imported(str(folder)):
        for targets in ([HEADLINE], asked) if HEADLINE in (asked or [HEADLINE]) else (asked,):
            code = dvc(["repro", "-k", *targets])
            if code == INTERRUPTED:
                return 130
    return _listed(root, asked, code)


def _listed(root: Path, asked: list[str], code: int) -> int:
    """Make the two pages that list the others, where only some are: their stages need all reports.

    Not where they are there, of the same. Returns the exit code: 0, or 1 for a failure, now or
    before (`code`).
    """
    if asked and (code or _contents(root, asked) != _text(root / LISTED)):
        command = [sys.executable, "-m", "iaside.study.run", "90_claims"]
        code = code or subprocess.call(command, cwd=root)
        write_index(root)
        if code == 0:
            write_text(root / LISTED, _contents(root, asked))
    return int(code != 0)


def _contents(root: Path, asked: list[str]) -> str:
    """Hashes of what the two pages are made of and of themselves, a line each."""
    pages = ["results/claims", "results/index.html", "results/metrics.json"]
    reports = [f"results/{noun}" for noun in asked]
    page = [".build/notebooks/90_claims.ipynb", ".build/code/90_claims"]
    kept = ["params.yaml", "studies", "results/recorded"]
    return "\n".join(f"{x} {content_hash(root / x)}" for x in (*pages, *reports, *page, *kept))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
