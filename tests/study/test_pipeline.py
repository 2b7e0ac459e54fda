"""The pipeline cannot rot: dependencies follow the imports, parameters follow the notebooks."""

import ast
import functools
import json
import re
import sys
from pathlib import Path

import pytest
from smoke import run
from timm import is_model
from torchvision.models import list_models

from iaside.backend.keys import code_hash, imported
from iaside.inputs.architectures import ARCHITECTURES
from iaside.study.overlays import read_study, written_out
from iaside.study.parameters import read_parameters, read_sections, read_yaml, resolve_parameters
from iaside.study.report import write_code_hashes
from iaside.training.data import complete
from iaside.training.plans import networks
from iaside.training.training import check_settings

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
STAGES = read_yaml((ROOT / "dvc.yaml").read_text(), "params")["stages"]
WITHOUT_NOTEBOOK = {"data", "images", "strip", "factories", "judges", "index"}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code(path):
    cells = [c for c in load(path)["cells"] if c["cell_type"] == "code"]
    return "\n".join("".join(c["source"]) for c in cells)


def stage_body(stage):
    return stage.get("do", stage)


def at(params, path):
    for name in path.split("."):
        params = params[name]
    return params


def notebook_stages():
    bodies = {name: stage_body(s) for name, s in STAGES.items() if name not in WITHOUT_NOTEBOOK}
    run = r"iaside.study.run (\S+)"
    return [(name, re.search(run, body["cmd"])[1], body) for name, body in bodies.items()]


each_notebook_stage = pytest.mark.parametrize(
    ("name", "notebook", "body"), notebook_stages(), ids=[n for n, *_ in notebook_stages()]
)


@each_notebook_stage
def test_a_stage_depends_on_its_notebook_and_on_the_hash_of_what_that_imports(name, notebook, body):
    deps = [d for d in body["deps"] if d.startswith((".build/notebooks", ".build/code"))]
    assert deps == [f".build/notebooks/{notebook}.ipynb", f".build/code/{notebook}"]
    assert not [d for d in body["deps"] if d.startswith(("notebooks", "iaside"))]


@pytest.mark.slow
def test_each_notebook_has_the_hash_of_the_code_that_it_imports(tmp_path):
    write_code_hashes(ROOT / "notebooks", tmp_path / "code")
    found = {path.name: path.read_text().strip() for path in (tmp_path / "code").iterdir()}
    assert found == {p.stem: code_hash(*sorted(imported(code(p)))) for p in NOTEBOOKS}


@each_notebook_stage
def test_a_stage_tracks_its_section_and_writes_to_its_folder(name, notebook, body):
    noun = notebook.partition("_")[2]
    assert name == noun or name.startswith(f"{noun}_")
    sections = {p.split(".")[0] for p in body["params"]}
    assert noun in sections and "runtime" not in sections
    outs = [
        next(iter(o)) if isinstance(o, dict) else o for o in body["outs"] + body.get("metrics", [])
    ]
    assert all(o.startswith(f"results/{noun}/") for o in outs)
    declared = read_parameters(load(ROOT / "notebooks" / f"{notebook}.ipynb"), notebook)
    assert ("seed" in declared) == ("seed" in sections)
    tracked = {p for p in body["params"] if p.startswith(f"{noun}.")}
    if tracked:  # single keys: all but those that say how many controls there are
        study = read_yaml((ROOT / "params.yaml").read_text(), "params")[noun]
        assert {p.split(".")[1] for p in tracked} == set(study) - {"n_control", "n_initialisations"}


def test_every_notebook_has_a_stage_and_its_own_number():
    in_stages = {notebook for _, notebook, _ in notebook_stages()}
    assert in_stages == {p.stem for p in NOTEBOOKS}
    questions = {p.stem.removesuffix("_report") for p in NOTEBOOKS}  # a report may share a number
    assert len({question[:2] for question in questions}) == len(questions)


def test_reports_never_read_an_executed_notebook():
    for name, _, body in notebook_stages():
        assert not [
            d
            for d in body["deps"]
            if d.endswith((".ipynb", ".html")) and not d.startswith(".build/")
        ], name


once_read = functools.cache(read_study)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_study_sets_every_parameter_of_every_notebook(path):
    nouns = [p.stem.partition("_")[2] for p in NOTEBOOKS]
    defaults = read_parameters(load(path), path.stem)
    cmd = next(body["cmd"] for _, notebook, body in notebook_stages() if notebook == path.stem)
    items = re.search(r"--take (?:model|plan) (\S+?)\.\$\{key\}", cmd)
    given = {"variants": ["trained"]} if "variants" in defaults else {}
    for study in STUDIES:
        params = once_read(study)
        key = next(iter(at(params, items[1]))) if items else None
        take = dict(re.findall(r"--take (\S+) (\S+)", cmd.replace("${key}", str(key))))
        noun = path.stem.partition("_")[2]
        values = resolve_parameters(noun, defaults, params, nouns, key, take, given)
        assert set(values) == set(defaults), study.stem


@pytest.mark.parametrize("study", STUDIES, ids=lambda p: p.stem)
def test_every_model_of_a_study_names_its_weights(study):
    params = read_study(study)
    for key, model in params["models"].items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", key), "keys are names of files and stages"
        assert set(model) - {"factory"} == {"name", "weights", "recipe"}
        assert model["recipe"] == model["weights"].replace(".safetensors", ".json")


@pytest.mark.parametrize("study", STUDIES, ids=lambda p: p.stem)
def test_networks_of_a_section_are_entries_of_models_or_trained(study):
    """So that data/fetch.py gets them, with `models`."""
    params = read_study(study)
    sections = [section for section in params.values() if isinstance(section, dict)]
    for key, network in (item for s in sections for item in s.get("networks", {}).items()):
        model = network.get("model", network)
        trained = [
            f"results/training/networks/{settings['plan']}/{name}/final.safetensors"
            for name, settings in networks(params["training"]["plans"]).items()
        ]
        assert model == params["models"].get(key) or model["weights"] in trained, key


@pytest.mark.parametrize("study", STUDIES, ids=lambda p: p.stem)
def test_plans_of_a_study_can_be_trained(study):
    section = read_study(study)["training"]
    found = networks(section.pop("plans"))
    every = {name: complete(settings, section) for name, settings in found.items()}
    with pytest.MonkeyPatch.context() as patch:  # building the large ones takes seconds
        patch.setattr("iaside.training.training.untrained", lambda *args: None)
        check_settings(every)
    for name in {settings["architecture"] for settings in every.values()} - set(ARCHITECTURES):
        assert is_model(name) or name in list_models()


def test_params_is_the_default_study():
    assert (ROOT / "params.yaml").read_text() == written_out(ROOT / "studies/default.yaml")


@pytest.mark.slow
def test_reports_that_only_read_tables_do_without_torch():
    """It takes seconds to import; these others cut or show photographs, or compute with tensors."""
    others = {
        "10_bands",
        "16_snr_report",
        "58_match",
        "61_choices_report",
        "67_resolution_report",
        "81_attribution_report",
    }

    def measures(source):
        return "pick_device" in source or "load_subject" in source

    reports = {path.stem: code(path) for path in NOTEBOOKS if not measures(code(path))}
    assert others < set(reports) and "30_importance" in reports
    nodes = [n for name in set(reports) - others for n in ast.parse(reports[name]).body]
    lines = [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    check = "; import sys; assert not {'torch', 'timm'} & set(sys.modules)"
    run(ROOT, sys.executable, "-c", "; ".join(dict.fromkeys(lines)) + check)


def test_the_documented_own_study_gives_own_photographs_to_own_networks_alone():
    """Labels 0, 1, ... of one's own folders are other classes to a packaged ImageNet network."""
    text = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(models:.*?)```", text, re.S)
    study = read_yaml(block, "studies.md")
    default = read_sections(ROOT / "studies/default.yaml")
    assert set(study) <= set(default) and len(study["models"]) >= 2
    for name, section in study.items():
        entries = section if name == "models" else section.get("networks", {})
        assert ("networks" in section) == ("networks" in default[name])
        for entry in entries.values():
            assert entry.get("model", entry)["weights"].startswith("../somewhere/"), name
    # a section that names networks names these, as the packaged ones have lost their marks; those
    # that a plan trains are there in any study with the plan
    named = {n for n, s in default.items() if isinstance(s, dict) and "networks" in s}
    assert named - {"mend"} <= set(study)


@pytest.mark.slow
def test_pictures_that_no_network_is_shown_need_no_labels():
    """Of folders 0 ... 999 labels are refused where the number of classes is unknown."""
    texts = {path.name: code(path) for path in NOTEBOOKS}
    texts |= {path.name: path.read_text() for path in (ROOT / "iaside/study").rglob("*.py")}
    calls = [
        (name, {k.arg: ast.unparse(k.value) for k in node.keywords})
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_images"
    ]
    assert len(calls) > 5
    for name, given in calls:
        assert given.get("like") == "net" or given.get("labels") == "False", name
