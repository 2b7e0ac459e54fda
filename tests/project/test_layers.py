"""Each layer of the package imports only from those below it (pyproject.toml, importlinter)."""

import os
import re
import shutil
import subprocess
import tomllib

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


def test_the_layers_that_contributing_draws_are_those_of_the_contract():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where things")[2]
    drawn = [re.split(" {2,}", line)[0] for line in page.split("```")[1].split("\n")[1:-1]]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert drawn == settings["tool"]["importlinter"]["contracts"][0]["layers"]


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
