"""The pipeline at smoke size, killed anywhere, and run again.

The study is run once, undisturbed. A try runs one stage of it anew, sends SIGKILL to all of it or
to one of its processes after a random time, waits until nothing of it is alive, runs the stage
again and compares every file of the project with the undisturbed ones. Of the corrupted pictures,
which .partial keeps for other stages, those that are there must be the same.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import smoke
from child import contents, differences, drawn, nothing

MARK = "IASIDE_CAMPAIGN"  # in the environment of all that a try starts: whose they are
NOT_OURS = (".venv", ".dvc", "__pycache__", "data", "logs")  # what DVC, Python and tests keep
KEPT = ".partial/corrupted-"
GRACE, LIMIT = 20, 400  # seconds until all must have ended; and for a stage that goes on
DVC = [sys.executable, "-m", "dvc", "repro", "-s"]


def attempt(part: str, k: int, seed: int, place: Path) -> dict:
    """One stage, killed and run again."""
    project, wanted, stages = prepared(place)
    draw = drawn(seed, part, k)
    stage = stages[k % len(stages)] if k < len(stages) else draw.choice(stages)
    mark = f"{uuid.uuid4().hex}"
    seconds = stages_take(project, stage, place)
    after, whom = draw.random() * seconds, draw.choice(("all", "dvc", "runner", "kernel"))
    found = nothing(f"{stage}, {whom} after {after:.1f} of {seconds:.1f} s")
    begin_anew(project, stage)
    started = start([*DVC, "-f", stage], project, mark)
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(after)
    for process in victims(mark, whom):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    end = time.monotonic() + GRACE
    while (alive := processes(mark)) and time.monotonic() < end:
        time.sleep(0.2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(0)
    found["orphans"] = len(alive)
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    started.wait()
    # Forced, as after an edit: else DVC restores the files from its cache, and nothing goes on.
    again = start([*DVC, "-f", stage], project, mark, text=True)
    try:
        text, _ = again.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        for process in processes(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        again.wait()
        return renewed(place, found | {"hangs": 1})
    if again.returncode and "'./dvc.lock' validation failed" in text:
        # DVC writes it in place; make repro says so (study.check_lock), and what to do
        shutil.copy(place / "whole/dvc.lock", project / "dvc.lock")
        again = start([*DVC, "-f", stage], project, mark, text=True)
        text, _ = again.communicate()
    if again.returncode:
        what = f"{found['what']}: {text[-500:]}"
        return renewed(
            place, found | {"lost": 1, "unclear": int("Traceback" in text), "what": what}
        )
    now = contents(project, NOT_OURS)
    wanted = {n: h for n, h in wanted.items() if n in now or not n.startswith(KEPT)}
    broken = {c: n for c, n in differences(now, wanted).items() if n}
    if broken:
        found |= {c: len(names) for c, names in broken.items()}
        return renewed(place, found | {"what": f"{found['what']}: {broken}"})
    return found


# -- the project -----------------------------------------------------------------------------------


def prepared(place: Path) -> tuple[Path, dict[str, str], list[str]]:
    """A finished smoke study, what it holds, and the names of its stages."""
    project = place / "project"
    if not (place / "project.ready").exists():
        shutil.rmtree(project, ignore_errors=True)
        smoke.run(smoke.ROOT, sys.executable, "data/fetch.py")
        print("the smoke study, undisturbed: about five minutes", flush=True)
        smoke.copy_project(project, smoke.ROOT / "data")
        smoke.dvc(project, "repro")
        shutil.rmtree(place / "whole", ignore_errors=True)
        shutil.copytree(project, place / "whole", symlinks=True)
        (place / "project.ready").touch()
    names = smoke.dvc(project, "stage", "list", "--name-only").split()
    measuring = [n for n in names if n.partition("@")[0] not in ("data", "images", "strip")]
    return project, contents(place / "whole", NOT_OURS), measuring


def renewed(place: Path, found: dict) -> dict:
    """What was found, and the project as it was before."""
    shutil.rmtree(place / "project", ignore_errors=True)
    shutil.copytree(place / "whole", place / "project", symlinks=True)
    return found


def begin_anew(project: Path, stage: str) -> None:
    """Remove what a stage would find done, also when it is forced: pictures and networks."""
    shutil.rmtree(project / ".partial", ignore_errors=True)
    name, _, plan = stage.partition("@")
    if name == "training":
        shutil.rmtree(project / "results/training/networks" / plan, ignore_errors=True)


TIMES: dict[str, float] = {}


def stages_take(project: Path, stage: str, place: Path) -> float:
    """How long the stage takes undisturbed, which is seen once."""
    if stage not in TIMES:
        begin_anew(project, stage)
        before = time.monotonic()
        smoke.dvc(project, "repro", "-s", "-f", stage)
        TIMES[stage] = time.monotonic() - before
    return TIMES[stage]


# -- processes -------------------------------------------------------------------------------------


def start(command: list[str], project: Path, mark: str, text: bool = False) -> subprocess.Popen:
    out = subprocess.PIPE if text else subprocess.DEVNULL
    return subprocess.Popen(
        command,
        cwd=project,
        env=smoke.environment(project) | {MARK: mark},
        stdout=out,
        stderr=subprocess.STDOUT,
        text=text,
        start_new_session=True,
    )


def processes(mark: str) -> dict[int, str]:
    """Those alive that carry the mark: number -> command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            dead = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not dead and f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    return found


def victims(mark: str, whom: str) -> list[int]:
    """The processes to kill; all of them where there is none of the kind."""
    word = {"dvc": "dvc repro", "runner": "iaside.study.run", "kernel": "ipykernel"}.get(whom, "")
    alive = processes(mark)
    return [n for n, command in alive.items() if word in command] or list(alive)
