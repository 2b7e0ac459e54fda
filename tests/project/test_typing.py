"""Editors and type checkers know every public name, its arguments and what it returns."""

import re
import subprocess
import sys

import pytest
from smoke import ROOT

import iaside as ia

USE = ROOT / "tests/typed_use.py"


def checked(path, folder):
    command = [sys.executable, "-m", "mypy", "--cache-dir", folder / "cache", path]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_public_name_is_in_the_checked_file():
    assert set(re.findall(r"\bia\.(\w+)", USE.read_text())) == set(ia.__all__)


@pytest.mark.slow
def test_the_public_surface_has_types_and_a_wrong_use_is_seen(tmp_path):
    done = checked(USE, tmp_path)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import iaside as ia\n"
        "ia.band_masks('8', (32, 32))\n"
        "ia.explian\n"
        "ia.load_model('x').input_sizes + ia.coalitions(8).shapes\n"
    )
    done = checked(wrong, tmp_path)
    lines = [int(n) for n in re.findall(r"wrong\.py:(\d+): error", done.stdout)]
    assert done.returncode == 1 and {2, 3, 4} <= set(lines), done.stdout
