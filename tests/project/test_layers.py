"""Each layer of the package imports only from those below it (pyproject.toml, importlinter)."""

import os
import shutil
import subprocess

import pytest
from smoke import ROOT


def lint(folder):
    return subprocess.run(
        ["lint-imports", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
    )


def test_no_layer_imports_from_one_above_it():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("score", "from iaside.robustness.perturb import perturb", "iaside.score"),
        ("robustness/perturb", "import papermill", "papermill"),
    ],
)
def test_an_import_from_above_is_seen(tmp_path, module, line, said):
    shutil.copytree(ROOT / "iaside", tmp_path / "iaside")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / f"iaside/{module}.py").open("a") as file:
        file.write(line + "\n")
    done = lint(tmp_path)
    assert done.returncode == 1 and said in done.stdout
