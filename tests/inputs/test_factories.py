"""Architectures of one's own: code that builds networks is named by who runs it, and watched."""

import json
import re
import sys

import pytest
import torch
from safetensors.torch import save_file
from smoke import ROOT, run
from torch import nn

import iaside as ia
from iaside.inputs import classifier, factories
from iaside.study import check
from iaside.study.overlays import read_study
from iaside.study.parameters import UsageError, read_yaml
from iaside.study.parts import Study

NETS = """
import torch
from parts import WIDTH


def build(recipe):
    body = torch.nn.Conv2d(3, WIDTH, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*body, torch.nn.Linear(WIDTH, recipe["num_classes"]))


def nothing(recipe):
    pass
"""
RECIPE = {
    "factory": "nets.py:build",
    "num_classes": 4,
    "input_size": [3, 16, 16],
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "note": "mine",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose folder of architectures has nets.py, and weights for what it builds."""
    folder = tmp_path / "architectures"
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "parts.py").write_text("WIDTH = 5\n")
    net = factories.build(str(folder / "nets.py:build"), RECIPE)
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    (tmp_path / "mine.json").write_text(json.dumps(RECIPE))
    monkeypatch.setattr("iaside.inputs.project.PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_of_ones_own_is_that_network(project):
    model = ia.load_model("mine", weights="mine.safetensors", factory="nets.py:build")
    net = factories.build("nets.py:build", RECIPE)
    net.load_state_dict(model.net.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(x), net((x - 0.5) / 0.25))
    assert model.recipe == RECIPE and model.name == "mine"
    # a function does as well, and a saved network is loaded as it was
    classifier.save_weights(model, project / "again.safetensors")
    again = ia.load_model("a", weights="again.safetensors", factory=lambda recipe: net)
    assert torch.equal(again(x), model(x))


def test_a_control_is_the_same_architecture_with_random_weights(project):
    how = {"weights": "mine.safetensors", "factory": "nets.py:build", "pretrained": False}
    first, same, other = (ia.load_model("mine", **how, seed=seed) for seed in (0, 0, 1))
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(first(x), same(x)) and not torch.equal(first(x), other(x))
    assert first.net[0].weight.shape == (5, 3, 3, 3)


def test_a_recipe_cannot_choose_code(project):
    (project / "architectures" / "nets.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ValueError, match="lacks library, architecture.*cannot.*factory='nets"):
        ia.load_model("mine", weights="mine.safetensors")


@pytest.mark.parametrize(
    ("factory", "error", "words"),
    [
        ("nets.py", ValueError, "write 'nets.py:build'"),
        ("nets:build", ValueError, "write 'nets.py:build'"),
        ("other.py:build", FileNotFoundError, "no file 'other.py'"),
        ("nets.py:make", ValueError, "no function 'make'"),
        ("nets.py:nothing", TypeError, "gave a NoneType instead"),
    ],
)
def test_a_factory_that_builds_nothing_is_said(factory, error, words, project):
    with pytest.raises(error, match=re.escape(words)):
        ia.load_model("mine", weights="mine.safetensors", factory=factory)


def test_what_is_missing_beside_a_factory_is_said(project):
    with pytest.raises(ValueError, match="without weights or recipe: give weights="):
        ia.load_model("mine", factory="nets.py:build")
    (project / "mine.json").write_text(json.dumps(RECIPE | {"num_classes": 5}))
    with pytest.raises(ValueError, match="do not fit the architecture: 2 of another shape"):
        ia.load_model("mine", weights="mine.safetensors", factory="nets.py:build")


def test_the_hash_of_a_factory_changes_with_what_it_does(project):
    def write(name, text):
        (project / "architectures" / name).write_text(text)
        return factories.code_of("nets.py:build", project)

    first = factories.code_of("nets.py:build", project)
    assert write("nets.py", NETS.replace("import torch", "import torch  # as usual", 1)) == first
    assert write("other.py", "WIDTH = 7") == first, "nothing imports it"
    assert write("parts.py", "WIDTH = 6") != first
    assert write("parts.py", "WIDTH = 5") == first
    assert write("nets.py", NETS.replace("3, WIDTH, 3", "3, WIDTH, 3, stride=2")) != first
    with pytest.raises(ValueError, match="defines no 'make'"):
        factories.code_of("nets.py:make", project)
    (project / "elsewhere.py").write_text(NETS)
    with pytest.raises(ValueError, match="outside architectures/"):
        factories.code_of("../elsewhere.py:build", project)


def studied(project, factory):
    entry = {"name": "mine", "weights": "mine.safetensors", "recipe": "mine.json"}
    return read_study(ROOT / "studies/smoke.yaml") | {
        "models": {"mine": entry | {"factory": factory}}
    }


def test_a_study_names_a_factory_that_is_there(project):
    section = studied(project, "nets.py:build")
    code = factories.code_of("nets.py:build", project)
    assert check.factories(section, "models", project) == {"mine": code}
    packaged = read_study(ROOT / "studies/smoke.yaml")
    assert set(check.factories(packaged, "attributions.networks", project).values()) == {None}
    for wrong in ("other.py:build", "nets.py:make", "nets"):
        entry = studied(project, wrong)["models"]["mine"]
        with pytest.raises(UsageError, match="models.mine"):
            check._check_factory("models.mine", entry, project)


def test_a_plan_builds_what_the_factory_builds(project):
    from iaside.study.speed import build

    network = Study({}, project).network(studied(project, "nets.py:build")["models"]["mine"])
    assert build(network).net[0].weight.shape == (5, 3, 3, 3)
    assert network.structure() != network._replace(factory="nets.py:other").structure()


def test_every_stage_that_reads_a_recipe_watches_who_builds_the_network():
    pipeline = read_yaml((ROOT / "dvc.yaml").read_text(), "dvc.yaml")["stages"]
    bodies = {name: stage.get("do", stage) for name, stage in pipeline.items()}
    reads = {name for name, body in bodies.items() if any(".recipe}" in d for d in body["deps"])}
    watched = {n for n, b in bodies.items() if any("build/factories/" in d for d in b["deps"])}
    reads.remove("mend")  # whose networks a plan trains, and no factory builds
    assert reads == watched and len(reads) >= 8


def test_the_pipeline_hashes_the_code_of_each_network(tmp_path):
    folder = tmp_path / "hashes"
    run(ROOT, "python", "-m", "iaside.study.run", "--factories", "choices.networks", str(folder))
    found = {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}
    assert found == dict.fromkeys(read_study(ROOT / "params.yaml")["choices"]["networks"])


# -- the files that come with the kit --------------------------------------------------------------


def node(op, inputs, output, params=(), **attributes):
    names = {role: f"{output}_{role}" for role in params}
    return {
        "op": op,
        "inputs": inputs,
        "outputs": [output],
        "params": names,
        "attributes": attributes,
    }


def test_a_graph_is_what_it_lists():
    """Against modules of torch; paddings of TensorFlow by hand."""
    both = ("weight", "bias")
    graph = [
        node("conv", ["image"], "c", both, stride=[2, 2], pad=[0, 1, 0, 1], groups=1, act="relu6"),
        node("maxpool", ["c"], "m", kernel=[3, 3], stride=[1, 1], pad=[1, 1, 1, 1], ceil=False),
        node("avgpool", ["c"], "a", kernel=[3, 3], stride=[1, 1], pad=[1, 1, 1, 1]),
        node("concat", ["m", "a"], "t"),
        node("shuffle", ["t"], "s", groups=2),
        node("slice", ["s"], "half", start=0, stop=6),
        node("affine", ["half"], "f", both, act="hardswish"),
        node("add", ["f", "half"], "sum"),
        node("globalpool", ["sum"], "g"),
        node("flatten", ["g"], "flat"),
        node("linear", ["flat"], "logits", both),
    ]
    shapes = {
        "c_weight": [6, 3, 3, 3],
        "c_bias": [6],
        "f_weight": [1, 6, 1, 1],
        "f_bias": [1, 6, 1, 1],
        "logits_weight": [4, 6],
        "logits_bias": [4],
    }
    generator = torch.Generator().manual_seed(0)
    p = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    net = factories.build("graph.py:build", {"graph": graph, "tensors": shapes})
    net.load_state_dict(p)
    x = torch.randn(2, 3, 8, 8, generator=generator)

    padded = nn.functional.pad(x, (0, 1, 0, 1))
    c = nn.functional.relu6(nn.functional.conv2d(padded, p["c_weight"], p["c_bias"], 2))
    m = nn.MaxPool2d(3, 1, 1)(c)
    a = nn.AvgPool2d(3, 1, 1, count_include_pad=False)(c)
    half = nn.ChannelShuffle(2)(torch.cat([m, a], 1))[:, :6]
    total = nn.functional.hardswish(half * p["f_weight"] + p["f_bias"]) + half
    expected = total.mean((2, 3)) @ p["logits_weight"].T + p["logits_bias"]
    assert torch.allclose(net(x), expected, atol=1e-5)


def test_a_graph_of_unknown_operations_is_refused():
    with pytest.raises(ValueError, match="no operation 'sort'"):
        factories.build("graph.py:build", {"graph": [node("sort", ["image"], "s")], "tensors": {}})


@pytest.mark.parametrize(
    ("name", "args", "parameters"),
    [  # as the sources count them
        ("cifar_resnet", {"depth": 20}, 269_722),
        ("cifar_resnet", {"depth": 56}, 853_018),
        ("resnet_8", {}, 77_706),
        ("cnn_a", {}, 214_918),
        ("cnn_base", {}, 105_966),
        ("cnn_deep", {}, 54_902),
        ("conv_small", {"activation": "sigmoid"}, 125_318),
        ("cnn_narrow", {}, 85_218),
        ("cnn_middle", {}, 165_498),
        ("cnn_broad", {}, 338_346),
        ("resnet_2b", {}, 112_006),
        ("resnet_4b", {}, 123_734),
        ("resnet_2b2", {}, 175_926),
        ("resnet_3b2", {}, 354_486),
    ],
)
def test_the_networks_of_cifar10_have_their_size(name, args, parameters):
    recipe = {"architecture": name, "args": args, "num_classes": 10}
    net = factories.build("cifar10.py:build", recipe).eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.slow
def test_the_zoos_networks_answer_as_their_own_code_does(zoo):
    """Every network of the two zoos beside the project: same weights, same logits."""
    for folder, own in (("cifar10", "cifar10.py:build"), ("imagenet", "graph.py:build")):
        theirs = f"{zoo / folder / ('nets.py' if folder == 'cifar10' else 'graph.py')}:build"
        for path in sorted((zoo / folder).glob("*.safetensors")):
            ours, reference = (
                ia.load_model(path.stem, weights=path, factory=of) for of in (own, theirs)
            )
            x = torch.rand(1, 3, *ours.input_size, generator=torch.Generator().manual_seed(0))
            assert torch.allclose(ours(x), reference(x), atol=1e-5), path.stem


@pytest.mark.slow
def test_workers_are_sent_the_code_of_an_architecture_of_ones_own(project, monkeypatch):
    """Also of what it imports beside it; they find neither file."""
    (project / "architectures" / "parts.py").write_text(
        "import torch\n\nWIDTH = 5\n\n\nclass Half(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x / 2\n"
    )
    nets = NETS.replace("import WIDTH", "import Half, WIDTH").replace("*body,", "*body, Half(),")
    (project / "architectures" / "nets.py").write_text(nets)
    monkeypatch.delitem(sys.modules, "parts", raising=False)  # of another test
    net = factories.build("nets.py:build", RECIPE)
    save_file(net.state_dict(), project / "mine.safetensors")
    model = ia.load_model("mine", weights="mine.safetensors", factory="nets.py:build")
    x, y = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    masks = ia.band_masks(3, (16, 16))
    here, there = (
        ia.coalition_worths(model, x, y, masks, workers=n, progress=False) for n in (1, 2)
    )
    assert (here.table == there.table).all()
