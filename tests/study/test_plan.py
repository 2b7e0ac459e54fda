"""What the plan foresees is what happens: every pass of a network is counted and compared."""

import contextlib
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sweeps import few
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside.attribution import baselines
from iaside.attribution.examination_table import Examination
from iaside.attribution.maps import EXPLORERS, attribute, map_passes
from iaside.game.sampling import sampled_passes, sampled_worths
from iaside.inputs import architectures
from iaside.inputs.classifier import Classifier, save_weights, untrained
from iaside.robustness.perturb import attack_passes, perturb
from iaside.spectral import band_masks
from iaside.study import plan
from iaside.study.costs import AT_MOST, COSTS
from iaside.study.overlays import read_study
from iaside.study.parameters import UsageError, read_parameters, read_yaml, runs
from iaside.study.parts import Network, Part, Study
from iaside.study.speed import build
from iaside.tables import CORRUPTIONS
from iaside.training.data import Data
from iaside.training.penalties import PENALTIES
from iaside.training.training import checkpoint_count, train_network, training_passes

ROOT = Path(__file__).resolve().parents[2]
STAGES = read_yaml((ROOT / "dvc.yaml").read_text(), "dvc.yaml")["stages"]
SIDE, CLASSES = 32, 12
SEEN = np.zeros(2, np.int64)  # images forward, gradients back


class Counted(torch.autograd.Function):
    """The identity; counts the gradients that pass, and those of gradients."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        SEEN[1] += len(slope)
        return Counted.apply(slope)


class Counting(nn.Module):
    """A small network that counts what it is shown, whichever copy of it."""

    def __init__(self, classes):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, 4),
            nn.Softplus(),
            nn.AdaptiveAvgPool2d(2),
            nn.BatchNorm2d(4),
            nn.Flatten(),
            nn.Linear(16, classes),
        )

    def forward(self, x):
        SEEN[0] += len(x)
        return Counted.apply(self.net(x))


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "counting", Counting)
    SEEN[:] = 0


@pytest.fixture
def net():
    return untrained("counting", CLASSES, SIDE, 0)


def pictures(n, seed=0):
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def predicted(net, x):
    """The classes that a network predicts, not counted."""
    before = SEEN.copy()
    labels = net(x).argmax(1)
    SEEN[:] = before
    return labels


# -- functions beside the loops --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd_restarts", "confined", "sparsefool", "pixle"])
def test_attacks_make_the_passes_that_are_foreseen(net, name):
    x = pictures(3)
    more = {} if name in ("sparsefool", "pixle") else {"eps": 0.1}
    if name == "confined":
        more |= {"band": 1, "masks": band_masks(4, (SIDE, SIDE))}
    if name in ("sparsefool", "confined", "pgd_restarts"):
        more["steps"] = 2
    kind = "pgd" if name == "confined" else name
    labels = predicted(net, x)
    for part in (slice(0, 2), slice(2, 3)):
        perturb(x[part], kind, model=net, labels=labels[part], **more)
    foreseen = attack_passes(kind, 3, more.get("steps"), at_once=2)
    if kind in ("sparsefool", "pixle", "pgd_restarts"):
        assert 0 < SEEN[0] <= foreseen[0] and SEEN[1] <= foreseen[1]
    else:
        assert SEEN.tolist() == foreseen.tolist()


def test_the_bounds_of_attacks_are_reached_by_a_network_that_is_never_fooled(net):
    def stubborn(x):  # class 0, whatever it is shown
        others = net(x)[:, 1:]
        return torch.cat([others.amax(1, keepdim=True) + 1, others], 1)

    x, labels = pictures(1), torch.zeros(1, dtype=torch.long)
    for kind, steps, more in (
        ("pixle", None, {}),
        ("sparsefool", 1, {}),
        ("pgd_restarts", 2, {"eps": 0.1}),
    ):
        SEEN[:] = 0
        perturb(x, kind, model=stubborn, labels=labels, steps=steps, **more)
        assert SEEN.tolist() == attack_passes(kind, steps=steps).tolist()


SMALL = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 3},
    "guided_ig": {"steps": 3},
    "expected_gradients": {"samples": 3, "references": pictures(2)},
    "big": {"steps": 3, "path_steps": 2, "eps": [0.1, 0.2]},
    "agi": {"classes": 3, "steps": 2},
    "la": {"classes": 3, "steps": 2},
    "mfaba": {"steps": 3},
    **dict.fromkeys(EXPLORERS, {"steps": 2, "samples": 3}),
}


@pytest.mark.parametrize("method", [*EXPLORERS, *(f.__name__ for f in baselines.METHODS)])
def test_attributions_make_the_passes_that_are_foreseen(net, method):
    x, options = pictures(1), SMALL.get(method, {})
    attribute(net, x, predicted(net, x), method, **options)
    foreseen = map_passes(method, **{k: v for k, v in options.items() if k != "references"})
    if method in ("big", "agi", "mfaba"):  # end when the model is fooled
        assert (foreseen / 4 <= SEEN).all() and (SEEN <= foreseen).all()
    else:
        assert SEEN.tolist() == foreseen.tolist()


@pytest.mark.parametrize(
    ("adversary", "penalty"),
    few(
        [
            ("none", "none"),
            ("fgsm", "none"),
            ("pgd", "jafr"),
            ("none", "coalition_dropout"),
            *(("none", penalty) for penalty in PENALTIES),
        ],
        4,
    ),
)
def test_training_makes_the_passes_that_are_foreseen(tmp_path, adversary, penalty):
    settings = {
        "architecture": "counting",
        "side": SIDE,
        "seed": 0,
        "batch": 4,
        "epochs": 2,
        "every": 1,
        "fraction": 0.5,
        "noise": 0.0,
        "lr": 0.01,
        "schedule": "constant",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "augment": False,
        "flip": False,
        "precision": "float32",
        "eps": 8.0,
        "steps": 3,
        "band": 2 if penalty == "band_share" else None,
        "warm_up": 0,
        "adversary": adversary,
        "penalty": penalty,
        "strength": 0.1,
    }
    images = (pictures(18) * 255).to(torch.uint8)
    labels = torch.arange(18) % 2
    data = Data(images[:13], labels[:13], images[13:], labels[13:])
    train_network("small", settings, data, tmp_path / "net", tmp_path / "partial")
    assert SEEN.tolist() == training_passes(settings, 13, 5).tolist()
    kept = {p.stem for p in (tmp_path / "net").glob("*.safetensors")} - {"best"}
    assert len(kept) == checkpoint_count(settings)


def test_a_sample_of_coalitions_stays_within_its_budget(net):
    x = pictures(6)
    for bands, budget in ((5, 70), (4, 10_000)):
        SEEN[:] = 0
        done = sampled_worths(
            net,
            x,
            predicted(net, x),
            band_masks(bands, (SIDE, SIDE)),
            budget=budget,
            batch_size=4,
            progress=False,
        )
        assert 0.5 * sampled_passes(bands, 6, budget) < SEEN[0] <= sampled_passes(bands, 6, budget)
        assert done.forwards == SEEN[0] - 6


# -- whole notebooks -------------------------------------------------------------------------------


@pytest.fixture
def workplace(monkeypatch, tmp_path, net):
    """A project with one network; its notebooks run here, corruptions change nothing in them."""
    save_weights(net, tmp_path / "net.safetensors")
    images = (pictures(40) * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(40) % 2)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(tmp_path)

    def load_images(source, like, n, seed, on_disk=None):
        x = pictures(n)
        return x, predicted(like, x)

    def harmless(x, name, **how):
        return x if name in CORRUPTIONS else perturb(x, name, **how)

    monkeypatch.setattr("iaside.inputs.images.load_images", load_images)
    monkeypatch.setattr("iaside.study.subject.load_images", load_images)
    module = importlib.import_module("iaside.robustness.corrupted_photographs")
    monkeypatch.setattr(module, "perturb", harmless)
    monkeypatch.setattr("iaside.game.game.Game.seconds", lambda self, passes: 0.0)
    return tmp_path


def run_cells(notebook, given):
    """Run a notebook's cells with its defaults and what is given; returns all its parameters."""
    document = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    values = read_parameters(document, notebook)
    values |= {name: value for name, value in given.items() if name in values}
    space = dict(values)
    SEEN[:] = 0
    for cell in document["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            exec("".join(cell["source"]), space)
    return values


NOTEBOOKS = {
    "15_snr": {"n_sparse": 0, "n_images": 3, "n_attack": 2},
    "20_worths": {
        "item": "net-all",
        "n_initialisations": 3,
        "n_images": 3,
        "variants": ["trained", "untrained", "other_engine", "published"],
        "values": ["margin", "embedding", "retrieval"],
    },
    "44_player_worths": {"n_images": 3, "n_bands": 4, "wavelet": "haar"},
    "46_embedding_worths": {"n_images": 3},
    "40_robustness": {"n_images": 3, "n_attack": 2, "severities": [1, 5]},
    "42_rivals": {"n_images": 6, "noise_sd": [0.04, 0.16]},
    "67_resolution": {"n_images": 6, "bands": [4, 8], "budget": 75},
    "60_choices": {"n_images": 3, "n_bands": 4},  # of 3, two partitions are one
    "65_convergence": {"n_images": 3},
    "80_attributions": {
        "n_images": 3,
        "n_twin": 2,
        "methods": ["saliency", "integrated_gradients", "la", "attexplore", "deeplift"],
    },
}


@pytest.mark.parametrize("notebook", few(NOTEBOOKS))
def test_a_notebook_makes_the_passes_that_are_foreseen(workplace, notebook):
    model = {"name": "net", "weights": "net.safetensors", "recipe": "net.json"}
    common = {"item": "net", "model": model, "networks": {"a": model, "b": model}}
    common |= {"precision": "float32", "device": "cpu", "batch_size": 4}
    values = run_cells(notebook, common | NOTEBOOKS[notebook])
    noun = notebook.partition("_")[2]
    parts = COSTS[noun](values, Study({}, workplace))
    seen, foreseen = SEEN.tolist(), sum(part.passes for part in parts).tolist()
    if noun in ("worths", "player_worths", "resolution"):  # a coalition drawn twice costs one pass
        assert 0.8 * foreseen[0] < seen[0] <= foreseen[0] and seen[1] == foreseen[1] == 0
    else:
        assert seen == foreseen
    assert all(part.network.recipe == str(workplace / "net.json") for part in parts)
    written = 0
    for path in (workplace / "results").rglob("*.npz"):
        with np.load(path) as arrays:
            written += sum(a.nbytes for a in arrays.values() if a.dtype == np.float64)
    # Other tables depend on the side, or on what was drawn.
    if noun in ("robustness", "rivals", "choices", "convergence"):
        assert sum(part.disk for part in parts) <= written <= 1.2 * sum(part.disk for part in parts)


def test_without_a_twin_one_photograph_is_enough(workplace):
    model = {"name": "net", "weights": "net.safetensors", "recipe": "net.json"}
    values = run_cells(
        "80_attributions",
        {
            "item": "net",
            "model": model,
            "networks": {"net": model},
            "device": "cpu",
            "n_images": 1,
            "n_twin": 0,
            "methods": ["saliency"],
        },
    )
    (part,) = COSTS["attributions"](values, Study({}, workplace))
    assert SEEN.tolist() == part.passes.tolist()


def test_networks_that_deeplift_refuses_do_without(workplace, monkeypatch, capsys):
    monkeypatch.setattr("iaside.attribution.baselines.Rescale", contextlib.nullcontext)  # no rule
    model = {"name": "net", "weights": "net.safetensors", "recipe": "net.json"}
    given = {"item": "net", "model": model, "networks": {"net": model}, "device": "cpu"}
    run_cells("80_attributions", given | {"methods": ["deeplift", "saliency"]})
    assert "left out: deeplift does not add up for" in capsys.readouterr().out
    found, _ = Examination.load(workplace / "results/attributions/tables/net.npz")
    assert "deeplift" not in found.variants and "saliency" in found.variants


def test_networks_without_a_usable_control_do_without(workplace, monkeypatch, capsys):
    monkeypatch.setattr("iaside.game.controls.LOGIT_SD", (1e6, 1e7))
    model = {"name": "net", "weights": "net.safetensors", "recipe": "net.json"}
    common = {"item": "net", "model": model, "device": "cpu", "precision": "float32"}
    run_cells("20_worths", common | {"item": "net-controls", "variants": ["untrained", "float32"]})
    assert "no usable control: logit sd" in capsys.readouterr().out
    metrics = json.loads((workplace / "results/worths/net-controls.metrics.json").read_text())
    assert metrics["untrained"]["initialisations"] == 0 and metrics["float32"]["n"] == 2
    run_cells("80_attributions", common | {"networks": {"net": model}, "methods": ["saliency"]})
    assert "no usable control: logit sd" in capsys.readouterr().out
    with np.load(workplace / "results/attributions/tables/net.npz") as arrays:
        assert np.isnan(arrays["similarity"]).all() and np.isfinite(arrays["insertion"]).any()


@pytest.mark.slow
def test_training_and_profiles_make_the_passes_that_are_foreseen(workplace):
    section = {
        "images": "set.npz",
        "classes": None,
        "side": SIDE,
        "held_out": 0.25,
        "epochs": 2,
        "batch": 4,
        "lr": 0.01,
        "schedule": "constant",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "flip": False,
        "eps": 8.0,
        "steps": 2,
        "warm_up": 0,
        "precision": "float32",
    }
    of_plan = {"architecture": "counting", "seed": [0, 1], "every": 1, "adversary": "fgsm"}
    study = Study({"training": section | {"plans": {"p": of_plan}}}, workplace)
    common = {"item": "p", "plan": of_plan, "device": "cpu"}
    values = run_cells("68_training", section | common)
    parts = COSTS["training"](values, study)
    assert SEEN.tolist() == sum(part.passes for part in parts).tolist()
    assert {part.network for part in parts} == {Network("counting", None, 2, SIDE)}
    values = run_cells("69_profiles", common | {"n_images": 6, "n_attack": 3, "severities": [1, 2]})
    parts = COSTS["profiles"](values, study)
    assert SEEN.tolist() == sum(part.passes for part in parts).tolist()
    for side, cut in ((SIDE, False), (224, False), (240, True)):  # as pictures_of has it
        of = Study({"training": section | {"side": side, "plans": {"p": of_plan}}}, workplace)
        assert {part.corrupt[0][-1] for part in COSTS["profiles"](values, of)} == {cut}
    weights = "results/training/networks/p/counting-fgsm-seed1/final.safetensors"
    assert study.network({"name": "x", "weights": weights, "recipe": "not/there.json"}).side == SIDE
    with pytest.raises(UsageError, match="training.plans"):
        study.network({"name": "x", "weights": weights.replace("seed1", "seed7")})


def test_every_stage_that_measures_has_a_cost_and_no_report_has_one():
    """Stages of several items measure or train; the others read tables."""
    of = {name: stage.get("do", stage)["cmd"] for name, stage in STAGES.items()}
    notebooks = {name: runs(cmd).notebook for name, cmd in of.items() if isinstance(cmd, str)}
    nouns = {name: notebook.partition("_")[2] for name, notebook in notebooks.items() if notebook}
    measuring = {noun for name, noun in nouns.items() if "foreach" in STAGES[name]}
    assert measuring <= set(COSTS)
    assert not set(COSTS) & {n for name, n in nouns.items() if "foreach" not in STAGES[name]}
    assert AT_MOST <= set(COSTS)


# -- the whole plan --------------------------------------------------------------------------------


@pytest.fixture
def small_project(tmp_path, monkeypatch):
    """A project of three stages that DVC runs in a moment."""
    from dvc.repo import Repo

    root = tmp_path / "small"
    (root / "others").mkdir(parents=True)
    (root / "results/training").mkdir(parents=True)
    for name, models in (("one", "a: {w: 1}"), ("two", "a: {w: 1}, b: {w: 2}")):
        text = f"models: {{{models}}}\nn: 1\n"
        (root / "others" / f"{name}.yaml").write_text(text)
    (root / "params.yaml").write_text((root / "others/one.yaml").read_text())
    (root / "dvc.yaml").write_text(
        "stages:\n"
        "  m:\n    foreach: ${models}\n    do:\n      cmd: echo ${n} > ${key}.txt\n"
        '      params: [n, "models.${key}"]\n      outs: ["${key}.txt"]\n'
        "  late:\n    cmd: cp results/training/x late.txt\n"
        "    deps: [results/training/x]\n    outs: [late.txt]\n"
    )
    Repo.init(str(root), no_scm=True).close()
    monkeypatch.chdir(root)
    return root


@pytest.mark.slow
def test_dvc_says_which_stages_there_are_and_how_they_stand(small_project):
    from dvc.repo import Repo

    root, params = small_project, small_project / "params.yaml"

    def states(file):
        return {s.name: s.state for s in plan.expand(root, file)}

    assert states(params) == {"m@a": "to run", "late": "to run, after training"}
    more = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(more + "  last:\n    cmd: 'true'\n    deps: [late.txt, a.txt]\n")
    after = {s.name: set(s.after) for s in plan.expand(root, params)}
    assert after == {"m@a": set(), "late": set(), "last": {"m@a", "late"}}
    (root / "dvc.yaml").write_text(more)
    with Repo(str(root)) as repo:
        repo.reproduce("m@a")
    assert states(params)["m@a"] == "up to date"
    before = content(root)
    two = states(root / "others/two.yaml")
    assert states(params)["m@a"] == "up to date"
    assert content(root) == before, "a plan changes nothing"
    assert two == {"m@a": "up to date", "m@b": "to run", "late": "to run, after training"}
    one = params.read_text()
    params.write_text(one.replace("n: 1", "n: 2"))
    with Repo(str(root)) as repo:
        repo.reproduce("m@a")
    params.write_text(one)
    assert states(params)["m@a"] == "cached"
    shutil.move(root / ".dvc/cache", root.parent / "elsewhere")
    (root / ".dvc/config.local").write_text(f"[cache]\ndir = {root.parent / 'elsewhere'}\n")
    params.write_text(one.replace("n: 1", "n: 3"))
    (root / "others/one.yaml").write_text(one)
    assert states(root / "others/one.yaml")["m@a"] == "cached", "wherever the cache is"
    params.write_text(one)
    (root / "results/training/x").write_text("x")
    assert states(params)["late"] == "to run"
    params.write_text("n: 1\n")
    with pytest.raises(UsageError, match="DVC"):
        plan.expand(root, params)


@pytest.mark.slow
def test_the_study_is_parsed_once_however_many_stages_have_run(small_project, monkeypatch):
    from dvc.repo import Repo
    from dvc.utils.serialize import LOADERS

    root, params = small_project, small_project / "params.yaml"
    keys = [f"k{n}" for n in range(12)]
    params.write_text(f"n: 1\nmodels: {{{', '.join(f'{k}: {{w: 1}}' for k in keys)}}}\n")
    with Repo(str(root)) as repo:
        repo.reproduce("m")
    parse, seen = LOADERS[".yaml"], []

    def counting(path, **how):
        seen.append(path)
        return parse(path, **how)

    monkeypatch.setitem(LOADERS, ".yaml", counting)
    found = {s.name: s.state for s in plan.expand(root, params)}
    assert [found[f"m@{k}"] for k in keys] == ["up to date"] * 12
    assert len(seen) <= 2, "once, and once as the project is opened"
    assert LOADERS[".yaml"] is counting


def content(root):
    """Every file of a project but what DVC keeps for itself."""
    files = [p for p in root.rglob("*") if p.is_file() and not {"tmp", "cache"} & set(p.parts)]
    return {p: p.read_bytes() for p in files}


SPEED = plan.Speed(0.1, 0.3, 10**6, 4 * 3 * SIDE**2, 10**5, 10**6, 4)


@pytest.mark.parametrize("name", few(["default", "paper-iaside", "paper-noise", "paper-fampe"], 1))
def test_every_stage_of_a_study_can_be_foreseen(name, monkeypatch, capsys):
    """Without its weights and data, and without a look at what DVC has of it."""
    params = read_study(ROOT / f"studies/{name}.yaml")
    stages = []
    for stage, body in STAGES.items():
        if isinstance(body.get("foreach"), dict):  # asks no network
            continue
        items = body.get("foreach", "${}").strip("${}")
        found = params
        for key in filter(None, items.split(".")):
            found = found[key]
        for key in found if items else [None]:
            state = "to run" if "training" in stage else "up to date"
            command = str(body.get("do", body)["cmd"]).replace("${key}", str(key))
            stages.append(plan.Stage(f"{stage}@{key}" if items else stage, command, state))
    monkeypatch.setattr(plan, "expand", lambda root, file: stages)
    monkeypatch.setattr(plan, "needed", lambda stages, targets: stages)  # all, whatever it names
    timed = []
    monkeypatch.setattr(plan, "calibrate", lambda part, *args: timed.append(part) or SPEED)
    monkeypatch.setattr(plan, "corrupting", lambda: 1e-6)
    monkeypatch.chdir(ROOT)
    frame, measured = plan.costs(ROOT, ROOT / f"studies/{name}.yaml")
    study, notebooks = Study(params, ROOT), plan.read_notebooks(ROOT)
    assert {t.engine for t in timed if not t.trains} == {params["worths"]["engine"]}
    assert {t.engine for t in timed if t.trains} <= {"torch"}
    for part in (part for stage in stages for part in plan.parts_of(stage, study, notebooks)[1]):
        alike = [
            t.batch or 0
            for t in timed
            if t.network.structure() == part.network.structure()
            and (t.precision, t.engine) == (part.precision, part.engine)
            and t.alone == part.alone
            and (t.batch == 1) == (part.batch == 1)
        ]
        assert max(alike) >= (part.batch or 0), "timed with the largest batch, and singly if so"
    of_items = frame["stage"].str.contains("@") & ~frame["stage"].str.startswith("judges@")
    assert frame.loc[of_items].notna().all(axis=None)
    assert frame.loc[~of_items, "passes"].isna().all()
    text = plan.to_text(frame, measured)
    todo = text[text.index("Still to run") :]
    assert "training" in todo and "worths" not in todo, "only what is to run is added up"
    total = f"<={frame.loc[frame['section'] == 'training', 'passes'].sum():,.0f}"
    assert total in todo.replace(" ", "")


@pytest.fixture
def many(monkeypatch, tmp_path):
    """A made-up study of one stage for each of 101 networks, of which 100 share one file."""
    recipe = {
        "library": "timm",
        "architecture": "x.a1",
        "num_classes": 10,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "input_size": [3, 32, 32],
        "crop_pct": 1.0,
    }
    others = {
        "tag": {"architecture": "x.b2", "mean": [0.1] * 3},
        "wide": {"input_size": [3, 64, 64]},
        "few": {"num_classes": 2},
        "own": {"library": "iaside"},
    }
    for name, change in ({"one": {}} | others).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(recipe | change))
    names = {f"n{k:03}": "one" for k in range(100)} | {name: name for name in others}
    found = {
        name: Part(Network(name, str(tmp_path / f"{file}.json")), np.array([5, 0]), "float32")
        for name, file in names.items()
    }
    timed = []
    stages = [plan.Stage(f"worths@{name}", "", "to run") for name in found]
    monkeypatch.setattr(plan, "read_study", lambda file: {})
    monkeypatch.setattr(plan, "read_notebooks", lambda root: {})
    monkeypatch.setattr(plan, "expand", lambda root, file: stages)
    monkeypatch.setattr(
        plan, "parts_of", lambda stage, *_: ("worths", [found[stage.name.partition("@")[2]]])
    )
    monkeypatch.setattr(plan, "calibrate", lambda part, *_: timed.append(part) or SPEED)
    return timed, found


def test_an_architecture_is_timed_once_however_many_networks_have_it(many, capsys):
    timed, _ = many
    frame, measured = plan.costs(ROOT, ROOT / "params.yaml")
    assert sorted(part.network.name for part in timed) == ["few", "n000", "own", "wide"]
    assert "4 timings of about 2 s; not timed, of the same architecture and input " in measured
    assert "n001, n002, n003 and 97 more as n000" in measured, "the tag says which weights, too"
    assert (frame["seconds"] == SPEED.seconds(np.array([5, 0]))).all() and len(frame) == 104
    assert capsys.readouterr().err.count("timing ") == 4


def test_what_is_all_timed_is_not_said_to_be_left_out(many, monkeypatch):
    timed, found = many
    stages = [plan.Stage(f"worths@{name}", "", "to run") for name in ("n000", "few", "own", "wide")]
    monkeypatch.setattr(plan, "expand", lambda root, file: stages)
    assert plan.costs(ROOT, ROOT / "params.yaml")[1].endswith("4 timings of about 2 s")


def test_a_network_still_to_be_trained_is_timed_with_its_trained_self(tmp_path):
    recipe = untrained("small_cnn", 10, 32, 0).recipe
    (tmp_path / "final.json").write_text(json.dumps(recipe))
    trained = Network("mine", str(tmp_path / "final.json"))
    assert trained.structure() == Network("small_cnn", None, 10, 32).structure()
    assert trained.structure() != Network("small_cnn", None, 10, 64).structure()
    assert Network("resnet18").structure() == ("torchvision", "resnet18", 1000, (224, 224))


def test_memory_is_that_of_the_batches_of_a_stage():
    few, many = (Part(Network("counting"), np.array([1, 0]), "float32", n) for n in (16, 116))
    assert plan._memory(many, SPEED) - plan._memory(few, SPEED) == 100 * (
        SPEED.image + 2 * SPEED.largest
    )


def test_sums_are_of_what_is_to_run(monkeypatch):
    rows = [
        ("worths", "worths@a", "to run", 2000, 60.0, 1e9, 1e6),
        ("worths", "worths@b", "up to date", 9000, 60.0, 3e9, 1e6),
        ("training", "training@c", "to run, after training", 3000, 7200.0, 2e9, 2e6),
        ("claims", "claims", "to run", *[np.nan] * 4),
    ]
    frame = pd.DataFrame(
        rows, columns=["section", "stage", "state", "passes", "seconds", "memory", "disk"]
    )
    frame["after"] = [(), (), (), ("worths@a", "training@c")]
    text = plan.to_text(frame, "a toaster", workers=2)
    assert "2 workers, a stage each at a time: 2.0 h; the longest stage is training@c" in text
    last = [line for line in text.splitlines() if "in all" in line]
    assert last[0].split()[2:] == ["<=5,000", "2.0", "h", "2.0", "GB", "3.0", "MB"]


def test_workers_share_stages_and_wait_for_those_that_come_before():
    alone = {name: (1.0, ()) for name in "abcdef"}
    assert [plan.side_by_side(alone, n) for n in (1, 2, 4, 9)] == [6, 3, 2, 1]
    chain = {"b": (1.0, ("a",)), "a": (1.0, ("done before",)), "c": (1.0, ("b",))}
    assert plan.side_by_side(chain, 8) == 3, "whatever their order in the pipeline"
    longest_first = {"a": (1.0, ()), "b": (1.0, ()), "c": (2.0, ())}
    assert plan.side_by_side(longest_first, 2) == 2
    after_both = {"a": (5.0, ()), "b": (1.0, ()), "ab": (1.0, ("a", "b")), "bb": (1.0, ("b",))}
    assert plan.side_by_side(after_both, 2) == 6


def test_a_gpu_that_is_named_runs_nothing_and_counts_operations():
    gpu = plan.named_gpu("mine:2")  # 2e12 FLOP a second
    network = Network("resnet8", None, 10, 32)
    model = untrained("resnet8", 10, 32, 0)
    flops, shapes = 0, []
    for layer in model.modules():  # 2 for each multiplication and addition
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda m, args, out: shapes.append(2 * out.numel() * m.weight[0].numel())
            )
        elif isinstance(layer, nn.Linear):
            flops += 2 * layer.weight.numel()
    model(pictures(1))
    flops += sum(shapes)
    part = Part(network, np.array([5, 2]), "float32", 4)
    speed = plan.rated(part, gpu)
    assert speed.forward == pytest.approx(flops / 2e12) and speed.both == 3 * speed.forward
    assert speed.seconds(part.passes) == pytest.approx((5 + 2 * plan.BACKWARD) * speed.forward)
    a100 = plan.named_gpu("A100")
    wide, narrow = (plan.rated(part._replace(precision=p), a100) for p in gpu._fields[1:])
    assert wide.forward / narrow.forward == pytest.approx(a100.bfloat16 / a100.float32)
    assert wide.both == narrow.both, "gradients have a precision of their own"
    assert plan.rated(part._replace(gradients="bfloat16"), a100).both < wide.both
    for wrong in ("B52", "mine:", "mine:0", "mine:nan"):
        with pytest.raises(UsageError, match="B52|mine"):
            plan.named_gpu(wrong)


def test_penalties_are_in_float32_whatever_the_training_is_in(workplace):
    section = {
        "images": "set.npz",
        "classes": None,
        "side": SIDE,
        "held_out": 0.25,
        "epochs": 2,
        "batch": 4,
        "steps": 2,
        "precision": "bfloat16",
    }
    of_plan = {"architecture": "counting", "penalty": "jafr", "strength": 0.1}
    study = Study({"training": section | {"plans": {"p": of_plan}}}, workplace)
    whole, penalty = COSTS["training"]({"item": "p", "plan": of_plan}, study)
    assert (whole.precision, whole.gradients, penalty.precision) == ("bfloat16",) * 2 + ("float32",)
    assert penalty.gradients == "float32" and not penalty.images and not penalty.checkpoints
    assert penalty.passes.tolist() == [2 * 28, 2 * 28 * 3]


def test_a_network_is_timed_at_the_size_it_will_have(monkeypatch):
    monkeypatch.setattr("iaside.study.speed.SECONDS", 0.2)
    network = Network("counting", None, CLASSES, SIDE)
    seen = []
    for trains in (False, True):
        part = Part(network, np.array([1, 1]), "float32", 6, alone=True, trains=trains)
        SEEN[:] = 0
        speed = plan.calibrate(part, torch.device("cpu"), True)
        assert speed.forward > 0 and speed.both > 0 and 1 <= speed.batch <= 6
        assert speed.image == 4 * 3 * SIDE**2 and SEEN[1] > 0
        assert speed.largest == 4 * 4 * 8**2  # the convolution's four channels
        seen.append(speed.activations)
    assert seen[0] == seen[1], "folded or not, the same layers have outputs"
    assert plan.Speed(1, 3, 0, 0, 0, 0, 1).seconds((5, 2)) == 2 * 3 + 3
    assert plan.Speed(1, 3, 0, 0, 0, 0, 1).seconds((2, 4)) == 2 * 3 + 2 * 2


def test_the_engine_that_a_study_names_is_timed(monkeypatch):
    """Where no gradient is asked for, and not where there is."""
    engine = pytest.importorskip("iaside.backend.engine")
    if "openvino" not in engine.installed():
        pytest.skip("openvino is not installed")
    monkeypatch.setattr("iaside.study.speed.SECONDS", 0.02)
    shown, ask = [], engine.Engine.__call__
    monkeypatch.setattr(engine.Engine, "__call__", lambda e, x: shown.append(len(x)) or ask(e, x))
    part = Part(Network("small_cnn", None, 10, SIDE), np.array([1, 1]), "float32", 7)
    for named in ("torch", "openvino"):
        shown.clear()
        assert plan.calibrate(part._replace(engine=named), torch.device("cpu"), True).both > 0
        asked = [n for n in shown if n != 2]  # and not the pair of the first look
        assert bool(asked) == (named == "openvino")
    one, other = (plan._key(part._replace(engine=named)) for named in ("torch", "openvino"))
    assert one != other, "each is timed"


def test_a_network_is_timed_where_it_will_run(monkeypatch):
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *args, **how: True)
    monkeypatch.setattr("iaside.study.speed.SECONDS", 0.02)
    placed = []
    counted = Counting.forward
    monkeypatch.setattr(Counting, "forward", lambda net, x: placed.append(x) or counted(net, x))
    part = Part(Network("counting", None, CLASSES, SIDE), np.array([1, 1]), "float32", 4)
    recipe, sent = build(part.network).recipe, []
    monkeypatch.setattr(Classifier, "to", lambda net, device: sent.append(device) or net)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):  # a fake network cannot be moved
            model = Classifier(Counting(CLASSES), recipe, "there")
        monkeypatch.setattr("iaside.study.speed.build", lambda network: model)
        monkeypatch.setattr(
            "iaside.study.speed.folded", lambda model: model
        )  # compares: fakes have no numbers
        plan.calibrate(part, torch.device("cuda"), False)  # no gradients: they need a real one
    assert sent == [torch.device("cuda")] and {x.device.type for x in placed} == {"cuda"}


def test_an_unknown_study_is_said_in_one_line(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert plan.main(["smok"]) == 2
    assert "did you mean 'smoke'?" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no model"):
        build(Network("resnet1808"))


def test_sizes_of_data_sets_that_are_not_there(tmp_path, monkeypatch):
    from iaside.inputs.splits import split_size

    monkeypatch.setattr("iaside.inputs.project.PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert split_size("data/images/cifar100", 0.5) == (50_000, 10_000, 100)
    assert split_size("data/images/caltech101", 0.2) == (6942, 1735, 101)
    assert split_size("data/images/caltech101", 0.2, ("one", "two")) == (137, 34, 2)
    with pytest.raises(FileNotFoundError):
        split_size("mine")
