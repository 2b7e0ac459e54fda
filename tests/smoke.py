"""A copy of the project set to the smoke study, and what tests do with it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from iaside.study.overlays import written_out

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".build",
    ".partial",
    "cache",
    "tmp",
    "config.local",
    "results",
    "images",
    "weights",
    "imagenet",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    "*.egg-info",
    "dvc.lock",
)


def copy_project(root, data):
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    shutil.copytree(ROOT / "results" / "recorded", root / "results" / "recorded")
    for folder in ("weights", "images"):
        shutil.copytree(Path(data) / folder, root / "data" / folder)
    run(root, sys.executable, "-m", "iaside.study.run", "--use", "smoke")


def take_study(root, study="smoke"):
    (root / "params.yaml").write_text(written_out(root / f"studies/{study}.yaml"))


def environment(root):
    """Without SHELL, as under cron: DVC then takes sh, which may stay between it and a stage."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if name != "SHELL"}
    return plain | {"PATH": path, "PYTHONPATH": str(root)}


def run(root, *command, code=0):
    done = subprocess.run(
        command, cwd=root, env=environment(root), text=True, capture_output=True, timeout=900
    )
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    return text


def dvc(root, *words, code=0):
    return run(root, sys.executable, "-m", "dvc", *words, code=code)


def edit(root, **changes):
    text = (root / "params.yaml").read_text()
    for name, value in changes.items():
        text = re.sub(rf"(?m)^(  {name}:) *\S+", rf"\1 {value}", text)
    (root / "params.yaml").write_text(text)
