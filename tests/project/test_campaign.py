"""The campaign sees what it looks for: planted faults of every kind are found."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
sys.path.append(str(Path(__file__).parents[1] / "backend"))  # of `test_files`

import child
import hostile
import kills
import operations
from child import COLUMNS, contents, in_child, unclear


def half(folder):
    """Believes a file that is there, and writes it in two steps."""
    if not (folder / "a").exists():
        with open(folder / "a", "w") as file:
            file.write("one\n")
            file.flush()
            os.fsync(file.fileno())
            file.write("two\n")


def forgetful(folder):
    """Leaves its temporary file when it is killed."""
    path = folder / f"a.{os.getpid()}"
    path.write_text("whole")
    os.replace(path, folder / "a")


def stuck(folder):
    """Does not go on where another has begun."""
    os.mkdir(folder / "lock")
    (folder / "a").write_text("whole")
    os.rmdir(folder / "lock")


def whole(folder):
    (folder / "a").write_text("whole")


@pytest.mark.parametrize(
    ("scenario", "column"),
    [(half, "changed"), (forgetful, "leftovers"), (stuck, "lost"), (whole, None)],
)
@pytest.mark.slow
def test_a_planted_crash_is_found(scenario, column, monkeypatch, tmp_path):
    monkeypatch.setattr(operations, "SCENARIOS", {scenario.__name__: scenario})
    operations.undisturbed.cache_clear()
    found = [operations.attempt("crashes", k, 0, tmp_path) for k in range(8)]
    broken = {c for c in COLUMNS if any(row[c] for row in found)}
    assert broken == ({column} if column else set())


@pytest.mark.slow
def test_a_full_disk_is_to_be_said(monkeypatch, tmp_path):
    def silent(folder):
        try:
            whole(folder)
        except OSError:
            raise ValueError("something went wrong") from None

    for scenario, wanted in ((silent, 1), (whole, 0)):
        monkeypatch.setattr(operations, "SCENARIOS", {"it": scenario})
        operations.undisturbed.cache_clear()
        found = [operations.attempt("full disk", k, 0, tmp_path)["unclear"] for k in range(6)]
        assert max(found) == wanted


def test_what_helps_nobody_is_unclear_and_what_does_not_end_hangs(monkeypatch, tmp_path):
    inputs = {
        "unclear": lambda: {}["metric"],
        "hangs": lambda: time.sleep(9),
        "changed": lambda: 3,
        None: lambda: print("error: worths.metric is 'l3'; choose one of linf, l2") or 2,
    }
    monkeypatch.setattr(hostile, "LIMIT", 2)
    for column, reads in inputs.items():
        monkeypatch.setattr(hostile, "KINDS", (lambda draw, folder, reads=reads: reads,))
        found = hostile.attempt("hostile input", 0, 0, tmp_path)
        assert [c for c in COLUMNS if found[c]] == ([column] if column else [])


def test_a_child_that_dies_is_seen_and_tracebacks_are_unclear():
    assert in_child(lambda: os.kill(os.getpid(), 9)).code < 0
    assert in_child(lambda: None).code == 0
    assert unclear("Traceback (most recent call last):\n  a\nKeyError: 'a'\n")
    assert unclear("KeyError: 'metric'\n") and unclear("")
    assert unclear("AttributeError: 'list' object has no attribute 'items' in the study\n")
    assert not unclear("error: params.yaml holds a list; write sections, one a notebook\n")


def test_who_waits_for_a_processor_does_not_hang(monkeypatch):
    assert in_child(lambda: time.sleep(60), 0.3).code is None
    monkeypatch.setattr(child, "queued", lambda process: 60.0)
    assert in_child(lambda: time.sleep(0.6), 0.3).code == 0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="it is not counted")
def test_waiting_for_a_processor_is_counted_and_sleep_is_not():
    start, before = time.monotonic(), child.queued(os.getpid())
    time.sleep(0.2)
    assert 0 < before and child.queued(os.getpid()) - before < time.monotonic() - start - 0.1


STAGE = """
import os, subprocess, sys, time
from pathlib import Path

stage, first = sys.argv[-1], not Path(".dvc/begun").exists()
Path(".partial/corrupted-a").mkdir(parents=True, exist_ok=True)
Path(".partial/corrupted-a/kept.npz").write_text("kept")
left = Path(f"half.{os.getpid()}")
if stage == "leftovers":
    left.touch()
if stage == "orphans" and first:
    subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL)
if stage == "changed":
    Path("result").write_text("other")
Path(".dvc/begun").touch()
time.sleep(60 * first)
left.unlink(missing_ok=True)
if stage != "changed" or first:
    Path("result").write_text("whole")
sys.exit(stage == "lost")
"""


@pytest.mark.parametrize("column", ["lost", "changed", "orphans", "leftovers", None])
def test_what_a_killed_stage_breaks_is_found(column, monkeypatch, tmp_path):
    """A stand-in for DVC and a stage; the project is as DVC and an earlier stage leave it."""

    def begun(process):
        while not (project / ".dvc/begun").exists() and process.poll() is None:
            time.sleep(0.02)
        return process

    project, whole = tmp_path / "project", tmp_path / "whole"
    (project / ".dvc/tmp").mkdir(parents=True)
    (project / ".dvc/tmp/lock").write_text("1")
    (project / ".partial/corrupted-b").mkdir(parents=True)
    (project / ".partial/corrupted-b/kept.npz").write_text("of another stage")
    (project / ".partial/corrupted-a").mkdir()
    (project / ".partial/corrupted-a/kept.npz").write_text("kept")
    (project / "result").write_text("whole")
    (project / "stage.py").write_text(STAGE)
    shutil.copytree(project, whole)
    wanted = contents(whole, kills.NOT_OURS)
    prepared = project, wanted, [str(column)]
    monkeypatch.setattr(kills, "prepared", lambda place: prepared)
    monkeypatch.setattr(kills, "stages_take", lambda *a: 0.0)
    start = kills.start
    monkeypatch.setattr(kills, "start", lambda *a, **how: begun(start(*a, **how)))
    monkeypatch.setattr(kills, "drawn", lambda *a: Mock(random=lambda: 1, choice=lambda all: "dvc"))
    monkeypatch.setattr(kills, "DVC", [sys.executable, "-I", "stage.py", "dvc repro"])
    monkeypatch.setattr(kills, "GRACE", 0.5)
    found = kills.attempt("kills", 0, 0, tmp_path)
    assert [c for c in COLUMNS if found[c]] == ([column] if column else []), found
    assert {n for n in contents(project, kills.NOT_OURS)} <= set(wanted), "made anew where broken"


def test_what_a_try_started_is_known_by_its_mark(tmp_path):
    child = "import subprocess as s, sys; s.Popen([sys.executable, '-c', 'input()'], stdin=s.PIPE);"
    started = subprocess.Popen(
        [sys.executable, "-c", child + "input()"],
        stdin=subprocess.PIPE,
        env={kills.MARK: "me"},
        start_new_session=True,
    )
    end = time.monotonic() + 20
    while len(kills.processes("me")) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    both = kills.processes("me")
    assert len(both) == 2 and not kills.processes("you")
    for process in both:
        os.kill(process, 9)
    started.wait()
