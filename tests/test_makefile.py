"""make repro: what DVC is asked for, and what it tells of that. The python here is a stand-in."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from smoke import ROOT

# Notes what it is called with; fails where the words are in $FAILS; a repro sleeps on $SLOW.
PYTHON = """#!/bin/bash
echo "$*" >> calls
if [[ "$*" == *"dvc repro"* && -n "$SLOW" ]]; then touch started; sleep 60; fi
while read -r words; do [[ -z "$words" || "$*" != "$words" ]] || exit 1; done <<< "$FAILS"
"""
FIRST, ALL = "-m dvc repro -k importance", "-m dvc repro -k"
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
        return subprocess.Popen(["make", "repro"], cwd=tmp_path, env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)  # fmt: skip

    return start


def repros(folder):
    return [line for line in (folder / "calls").read_text().splitlines() if "repro" in line]


@pytest.mark.parametrize("fails", [(), (FIRST,), (ALL,), (FIRST, ALL)], ids=len)
def test_what_fails_stops_nothing_else_but_is_told(fails, made, tmp_path):
    run = made(["-m dvc status -q", *fails])
    out, err = run.communicate(timeout=60)
    assert repros(tmp_path) == [FIRST, ALL], "the headline first"
    failed = ALL in fails  # what was missing after the first is asked for again
    assert (run.returncode != 0) == failed == ("Some stages failed" in err), err
    assert ("Open results/index.html" in out) != failed


def test_where_all_is_up_to_date_nothing_is_run(made, tmp_path):
    run = made()
    assert "nothing was run" in run.communicate(timeout=60)[0]
    assert run.returncode == 0 and repros(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_stage_and_starts_no_other(how, made, tmp_path):
    run = made(["-m dvc status -q"], slow="1")
    end = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(run.pid, how)  # as a terminal does on Ctrl-C
    run.communicate(timeout=30)  # its pipes are closed: nothing lives that had them
    assert run.returncode != 0 and repros(tmp_path) == [FIRST]
