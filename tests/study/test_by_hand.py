"""A notebook opened in JupyterLab shows the study and leaves it alone."""

import ast
import json
import re
import shutil

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from smoke import ROOT, dvc, run

from iaside.inputs.photographs import Photographs
from iaside.study import notebook
from iaside.study.notebook import RUNNER, enter_project, output, save_json
from iaside.study.parameters import commands, read_notebooks, read_yaml, runs

FINISHED = True
NOTEBOOKS = read_notebooks(ROOT)
STAGES = read_yaml((ROOT / "dvc.yaml").read_text(), "dvc.yaml")
MEASURING = {
    name
    for stage, command in commands(
        STAGES, read_yaml((ROOT / "params.yaml").read_text(), "params.yaml")
    )
    if "@" in stage
    for name in [runs(command).notebook]
}
# of the networks of another section
TAKEN = ("47_embeddings", "61_choices_report", "81_attribution_report")
REPORTS = sorted(set(NOTEBOOKS) - MEASURING)


@pytest.fixture
def by_hand(monkeypatch):
    monkeypatch.delenv(RUNNER)
    monkeypatch.setattr(notebook, "_outputs", notebook._outputs)


def cells(name):
    found = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A project whose study is not what the notebooks have in their cells."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for file in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / file, tmp_path / file)
    monkeypatch.chdir(tmp_path / "notebooks")
    return read_yaml((tmp_path / "params.yaml").read_text(), "params.yaml")


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.slow
def test_a_notebook_enters_under_its_own_name_and_takes_its_section(name, study, by_hand):
    parameters, text = cells(name)[0], "\n".join(cells(name))
    assert re.search(rf'(enter_project|open_page)\("{name}", globals\(\)\)\n', text)
    assert text.index("globals()") < min(
        (
            text.find(f"{word}(")
            for word in ("load_images", "load_model", "load_subject", "networks")
            if f"{word}(" in text
        ),
        default=len(text),
    )
    space = {}
    exec(parameters, space)
    enter_project(name, space)
    section = study[name.partition("_")[2]]
    for key, value in section.items():
        if key not in ("networks", "plans"):
            assert space[key] == value, key
    if "models" in space and name not in TAKEN:
        assert space["models"] == study["models"]
    if "model" in space:
        known = study["models"] | (section.get("networks", {}) if name == "85_mend" else {})
        assert space["model"] in [*known.values()]
        assert space["item"].removesuffix("-trained") in known
    assert space.get("seed", 0) == study["seed"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_path_below_results_is_read_or_sent_aside(name):
    """Each is an argument of what reads, of save_json, or of output."""
    fine = {"output", "save_json", "load", "read_json", "Path" if name == "90_claims" else ""}
    for source in cells(name):
        tree = ast.parse(source)
        inside = {
            id(arg): ast.unparse(call.func).split(".")[-1]
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            for arg in [*call.args, *(k.value for k in call.keywords)]
        }
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Constant | ast.JoinedStr) else ""
            if text.lstrip("f'\"").startswith(("results/", ".partial")) and id(node) in inside:
                assert inside[id(node)] in fine, text


def test_by_hand_results_go_aside_and_under_the_runner_they_do_not(study, by_hand, monkeypatch):
    enter_project("10_bands", {})
    save_json("results/bands/metrics.json", {"a": 1})
    assert output(".partial/x").as_posix() == ".partial/hand/.partial/x"
    root = notebook.project_root()
    assert not (root / "results").exists()
    assert (root / ".partial/hand/results/bands/metrics.json").is_file()
    space = {"n_bands": 3}
    monkeypatch.setenv(RUNNER, "1")
    enter_project("10_bands", space)
    assert space == {"n_bands": 3}, "papermill has set them"
    save_json("results/bands/metrics.json", {"a": 1})
    assert (root / "results/bands/metrics.json").is_file()


@pytest.mark.slow
def test_every_report_run_by_hand_leaves_the_study_as_it_was(project, by_hand, monkeypatch):
    def git(*words):
        return run(project, "git", "-c", "user.name=a", "-c", "user.email=a@b", *words)

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "a finished study")
    before = {p: p.read_bytes() for p in (project / "results").rglob("*") if p.is_file()}
    models = read_yaml((project / "params.yaml").read_text(), "params.yaml")["models"]
    matplotlib.use("Agg")
    for name in REPORTS:
        space = {}
        monkeypatch.chdir(project / "notebooks")
        for source in cells(name):
            exec(compile(source, name, "exec"), space)
        plt.close("all")
        if "models" in space and name.startswith(("16", "30", "5")):
            assert list(space["models"]) == list(models)
        aside = project / ".partial/hand/results" / name.partition("_")[2]
        made = "claims.json" if name == "90_claims" else "metrics.json"
        same = project / "results" / name.partition("_")[2] / made
        assert json.loads((aside / made).read_text()) == json.loads(same.read_text()), name
    after = {p: p.read_bytes() for p in (project / "results").rglob("*") if p.is_file()}
    assert after == before
    assert git("status", "--porcelain") == ""
    assert "up to date" in dvc(project, "status")


@pytest.mark.slow
def test_robustness_of_many_photographs_is_that_of_few(project, by_hand, monkeypatch):
    monkeypatch.chdir(project / "notebooks")
    of = {}
    for most in ("2000", "1"):
        shutil.rmtree(project / ".partial", ignore_errors=True)  # or it would be taken up
        space = {}
        for source in cells("40_robustness"):
            exec(compile(source.replace("> 2000 else", f"> {most} else"), "40", "exec"), space)
        of[most] = space
    there = [isinstance(of["1"][name], Photographs) for name in ("x", "pictures")]
    assert there == [True, True] and of["2000"]["aside"] is None
    few, many = (of[most]["table"] for most in ("2000", "1"))
    assert many.provenance == few.provenance and many.conditions == few.conditions
    for name, numbers in few.tables.items():
        np.testing.assert_array_equal(many.tables[name], numbers, err_msg=name)
