"""make repro: what DVC is asked for, and what it tells of that. The python here is a stand-in."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from smoke import ROOT
from test_run import notebook, parameters, project

# Notes what it is called with; fails where the words are in $FAILS; a repro sleeps on $SLOW.
PYTHON = """#!/bin/bash
echo "$*" >> calls
if [[ "$*" == *"iaside.study.repro"* && -n "$SLOW" ]]; then touch started; sleep 60; fi
while read -r words; do [[ -z "$words" || "$*" != "$words" ]] || exit 1; done <<< "$FAILS"
"""
REPRO = "-m iaside.study.repro"
proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def made(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(PYTHON)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    (tmp_path / ".venv/ready").touch()

    def start(fails=(), slow=""):
        env = os.environ | {"FAILS": "\n".join(fails), "SLOW": slow}
        env = {name: value for name, value in env.items() if not name.startswith("MAKE")}
        return subprocess.Popen(
            ["make", "repro"],
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ignored in a script's `&`
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


def wait_for(path):
    end = time.monotonic() + 240
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def processes():
    """pid -> parent, of all that run."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
            if state not in "ZX":  # one that nobody has waited for has ended
                found[int(path.parent.name)] = int(parent)
    return found


def children(pid):
    return [child for child, parent in processes().items() if parent == pid]


def descendants(pid):
    found = [pid]
    for each in found:
        found += children(each)
    return found[1:]


def command(pid):
    """Its words, b"" of one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def emptied(folder, seconds=15):
    """The processes that after some seconds still have this as their folder."""
    end = time.monotonic() + seconds
    while True:
        here = []
        for pid in processes():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/cwd") == str(folder):
                    here.append(command(pid))
        if not here or time.monotonic() > end:
            return here
        time.sleep(0.1)


def repros(folder):
    return [line for line in (folder / "calls").read_text().splitlines() if "repro" in line]


@pytest.mark.parametrize("fails", [(), (REPRO,)], ids=len)
def test_what_fails_is_told(fails, made, tmp_path):
    run = made(fails)
    out, err = run.communicate(timeout=60)
    assert repros(tmp_path) == [REPRO]
    failed = REPRO in fails
    assert (run.returncode != 0) == failed == ("Some stages failed" in err), err
    assert ("Open results/index.html" in out) != failed


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_stage_and_starts_no_other(how, made, tmp_path):
    run = made(slow="1")
    wait_for(tmp_path / "started")
    os.killpg(run.pid, how)  # as a terminal does on Ctrl-C
    run.communicate(timeout=30)  # its pipes are closed: nothing lives that had them
    assert run.returncode != 0 and repros(tmp_path) == [REPRO]


@proc
@pytest.mark.parametrize("who", ["make", "shell", "dvc"])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
@pytest.mark.slow
def test_whoever_is_told_to_stop_nothing_lives_on(how, who, made, tmp_path):
    run = made(slow="1")
    wait_for(tmp_path / "started")
    found = {"make": run.pid, "shell": children(run.pid)[0]}
    found["dvc"] = next(
        pid
        for pid in children(found["shell"])
        if b"iaside.study.repro" in command(pid).split(b"\0")
    )
    if (how, who) == ("SIGINT", "dvc"):
        pytest.skip("DVC leaves Ctrl-C to its stage")
    os.kill(found[who], getattr(signal, how))
    emptied(tmp_path)  # before anybody waits for make, which is a zombie until then
    run.wait(10)
    assert emptied(tmp_path) == [] and run.returncode != 0
    assert repros(tmp_path) == [REPRO], "and nothing is started"


def test_a_finished_job_is_no_news(made):
    out, err = made().communicate(timeout=60)
    assert "[1]" not in out + err and "Done" not in out + err


STAGES = """\
stages:
  importance:
    cmd: python -m iaside.study.run 10_importance
    outs: [results/importance/report.html]
"""
CELL = """\
import pooled
from iaside.backend.parallel import executor
list(executor(2).each(pooled.sleep, None, [("a",), ("b",)]))
"""
POOLED = """\
import time
def sleep(common, name):
    open(f"working_{name}", "w").close()
    time.sleep(600)
"""


@pytest.fixture
def real(tmp_path, made):
    """A project of one stage, whose kernel has a pool of two, made by the real DVC and runner."""
    pytest.importorskip("dvc")
    project(tmp_path, importance=notebook(parameters("seed = 0"), ("code", CELL)))
    notebooks = tmp_path / ".build/notebooks"
    (notebooks / "20_importance.ipynb").rename(notebooks / "10_importance.ipynb")
    (notebooks / "10_bands.ipynb").unlink()
    (tmp_path / "pooled.py").write_text(POOLED)
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "params.yaml").write_text("importance: {}\nseed: 0\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n no_scm = true\n analytics = false\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/fetch.py").write_text("")
    python = f'#!/bin/bash\nexec env PYTHONPATH={ROOT}:{tmp_path} {sys.executable} "$@"\n'
    (tmp_path / ".venv/bin/python").write_text(python)
    return made


@proc
@pytest.mark.slow
@pytest.mark.parametrize("moment", [3.0, 6.0, "a pool works"])
@pytest.mark.parametrize(
    ("how", "who"),
    [
        ("SIGTERM", "make"),
        ("SIGINT", "make"),
        ("SIGHUP", "shell"),
        ("SIGKILL", "make"),
        ("SIGKILL", "runner"),
    ],
)
def test_kernels_and_pools_end_with_what_started_them(how, who, moment, real, tmp_path):
    run = real()
    if moment == "a pool works":
        wait_for(tmp_path / "working_a")
    else:
        time.sleep(moment)
    below = {pid: command(pid) for pid in descendants(run.pid)}
    runner = [pid for pid, words in below.items() if b"study.run" in words and b"-m" in words]
    if who == "runner" and not runner:
        who = "make"  # stands for it before there is one
    told = {"make": [run.pid], "shell": [*below], "runner": runner[::-1]}[who][0]
    theirs = {pid: words for pid, words in below.items() if pid in descendants(told)}
    os.kill(told, getattr(signal, how))
    end = time.monotonic() + 20
    while any(command(pid) == words for pid, words in theirs.items()):
        assert time.monotonic() < end, theirs
        time.sleep(0.1)
    if who == "runner":  # to DVC a stage that failed: the rest is made
        os.kill(run.pid, signal.SIGTERM)
    run.communicate(timeout=30)
    assert emptied(tmp_path) == []
    assert not (tmp_path / "results/importance/report.html").exists()
