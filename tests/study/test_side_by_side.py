"""Stages that need nothing of each other run at once, and DVC cannot tell that they did."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from smoke import ROOT
from test_run import notebook, parameters

from iaside.backend.files import alone
from iaside.study import warm
from iaside.study.index import keep_runs
from iaside.study.parameters import read_yaml

pytest.importorskip("dvc")
# `a` and `b` meet, or fail after a while; `importance` needs both; `broken` stops only `after`.
STAGES = """\
stages:
  a:
    cmd: python meet.py a b
    deps: [meet.py]
    outs: [a.txt]
  b:
    cmd: python meet.py b a
    deps: [meet.py]
    outs: [b.txt]
  importance:
    cmd: cat a.txt b.txt > importance.txt
    deps: [a.txt, b.txt]
    outs: [importance.txt]
  broken:
    cmd: "false"
    outs: [broken.txt]
  after:
    cmd: touch after.txt
    deps: [broken.txt]
    outs: [after.txt]
  other:
    cmd: cp a.txt other.txt
    deps: [a.txt]
    params: [seed]
    outs: [other.txt]
"""
MEET = """\
import os, pathlib, sys, time
own, other = sys.argv[1:]
pathlib.Path(f"{own}.here").touch()
end = time.monotonic() + float(os.environ["PATIENCE"])
while not pathlib.Path(f"{other}.here").exists():
    if time.monotonic() > end:
        sys.exit("alone")
    time.sleep(0.02)
pathlib.Path(f"{own}.txt").write_text(os.environ.get("IASIDE_WORKERS", ""))
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "meet.py").write_text(MEET)
    (tmp_path / "params.yaml").write_text("seed: 0\nruntime: {workers: 6}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n no_scm = true\n analytics = false\n")
    return tmp_path


def repro(folder, patience=60, module="iaside.study.repro", words=(), code=0):
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": path,
        "PATIENCE": str(patience),
        warm.SOCKET: "/nowhere",
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=env,
        text=True,
        capture_output=True,
        timeout=200,
    )
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    return text


@pytest.mark.slow
def test_stages_run_side_by_side_and_what_fails_stops_only_what_needs_it(project):
    text = repro(project, code=1)
    order = [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]
    assert {"a", "b"} == set(order[:2]) and order[2] == "importance", "the headline first"
    assert set(order[3:]) == {"broken", "other"} and not (project / "after.txt").exists()
    assert "Stage 'after' will be skipped" in text and "failed to reproduce" in text
    # its share of the six: of two stages side by side, of three where `broken` was beside them
    assert {(project / f"{name}.txt").read_text() for name in "ab"} <= {"3", "6"}
    locked = read_yaml((project / "dvc.lock").read_text(), "dvc.lock")["stages"]
    assert set(locked) == {"a", "b", "importance", "other"}

    again = repro(project, patience=0, code=1)  # and nobody meets again
    assert again.count("Running stage") == 1 and "Running stage 'broken'" in again
    assert repro(project, 0, "dvc", ["status", "a", "b", "importance", "other"]).count("up to date")

    # what plain DVC writes of the same files is the same
    whole = (project / "dvc.lock").read_bytes()
    (project / "dvc.lock").unlink()
    shutil.rmtree(project / ".dvc/cache/runs", ignore_errors=True)
    repro(project, 60, "dvc", ["commit", "-f", "a", "b", "importance", "other"])
    assert read_yaml((project / "dvc.lock").read_text(), "dvc.lock") == read_yaml(
        whole.decode(), "dvc.lock"
    )


@pytest.mark.slow
def test_a_run_with_an_output_for_git_is_taken_from_the_cache_as_any_other(project, monkeypatch):
    """Which DVC's own loop does for metrics alone: after it, whoever makes the index does."""
    (project / "dvc.yaml").write_text(
        "stages:\n  importance:\n    cmd: cp meet.py importance.txt\n    deps: [meet.py]\n"
        "    outs: [importance.txt: {cache: false}]\n"
    )

    def gone():
        for name in ("dvc.lock", "importance.txt"):
            (project / name).unlink()
        return project

    cached = "Stage 'importance' is cached - skipping run"
    assert "Running stage 'importance'" in repro(project)
    assert cached in repro(gone())
    assert (project / "importance.txt").read_text() == MEET
    shutil.rmtree(gone() / ".dvc/cache")
    assert cached not in repro(project, 0, "dvc", ["repro"])
    monkeypatch.chdir(project)  # as the runner is
    keep_runs(project)
    assert cached in repro(gone(), 0, "dvc", ["repro"])


@pytest.mark.slow
def test_where_all_is_up_to_date_nothing_is_run(project):
    whole = STAGES[: STAGES.index("  broken:")] + STAGES[STAGES.index("  other:") :]
    (project / "dvc.yaml").write_text(whole)
    repro(project)
    written = (project / "dvc.lock").stat().st_mtime_ns
    assert repro(project, patience=0) == "Everything is up to date: nothing was run.\n"
    assert (project / "dvc.lock").stat().st_mtime_ns == written
    (project / "params.yaml").write_text("seed: 1\nruntime: {workers: 6}\n")
    assert repro(project, patience=0).count("Running stage") == 1, "its text is read again"


@pytest.mark.slow
def test_a_study_of_some_reports_makes_these_and_what_they_need(project):
    claims = (
        "  claims:\n    cmd: exit 1\n    deps: [results/other/claims.json, results/x/claims.json]\n"
    )
    index = "  index:\n    cmd: exit 1\n    deps: [results/other/report.html]\n"
    (project / "dvc.yaml").write_text(STAGES + claims + index)
    (project / "params.yaml").write_text("seed: 0\nclaims: {reports: [other]}\n")
    page = notebook(parameters("reports = []"), ("code", "print('claims')"))
    (project / ".build/notebooks").mkdir(parents=True)
    (project / ".build/notebooks/90_claims.ipynb").write_text(json.dumps(page))
    (project / "b.here").touch()  # who meets `a`
    text = repro(project)
    order = [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]
    assert order == ["a", "other"]
    assert "No report yet" in (project / "results/index.html").read_text()
    said = "Everything is up to date: nothing was run.\n"
    assert repro(project, patience=0) == said, "the page of claims neither, which no stage made"
    (project / "params.yaml").write_text("seed: 0\nclaims: {reports: [other], recorded: []}\n")
    again = repro(project, patience=0, code=1)
    assert again.startswith(said) and "recorded" in again, "its settings are other ones"


@pytest.mark.slow
def test_with_one_process_one_stage_runs_at_a_time(project):
    (project / "params.yaml").write_text("seed: 0\nruntime: {workers: 1}\n")
    text = repro(project, patience=0.5, code=1)
    assert "alone" in text and "IASIDE" not in text


def test_one_process_at_a_time_is_alone(tmp_path):
    text = (
        "import sys, time; from iaside.backend.files import alone\nwith alone(sys.argv[1]):\n"
        " print('in', flush=True); time.sleep(0.5); print('out', flush=True)"
    )
    with alone(tmp_path / "new"):
        other = subprocess.Popen(
            [sys.executable, "-c", text, tmp_path / "new"],
            text=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        time.sleep(1)
        os.set_blocking(other.stdout.fileno(), False)
        assert not other.stdout.readline()
        os.set_blocking(other.stdout.fileno(), True)
    assert other.stdout.readline() == "in\n"
    with alone(tmp_path / "new"):
        assert other.stdout.readline() == "out\n"
    assert other.wait(20) == 0
