"""Networks by RobustBench's names: a stand-in of the package, laid out as 1.1.1 is."""

import enum
import os
import pickle
import sys
import types

import pytest
import torch
from torch import nn
from torchvision import transforms

import iaside as ia
from iaside.inputs.images import load_images

SHOWN = []


class Net(nn.Module):
    """Brightness of three channels: normalisation inside, as theirs."""

    def __init__(self, classes=10):
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        return self.head((x.mean((2, 3)) - 0.5) / 0.2)


class Data(enum.Enum):
    cifar_10 = "cifar10"
    imagenet = "imagenet"


class Threat(enum.Enum):
    Linf = "Linf"
    L2 = "L2"


ZOO = {
    Data.cifar_10: {Threat.Linf: {"Standard": Net, "Carmon2019Unlabeled": Net}},
    Data.imagenet: {Threat.Linf: {"Salman2020Do_R18": Net, "Wong2020Fast": Net}},
}
STEPS = {
    "Salman2020Do_R18": [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()],
    "Wong2020Fast": [transforms.CenterCrop(288), transforms.ToTensor()],
}


def load_model(name, folder, data, threat):
    """As theirs: the file is where it was downloaded to, and read by somebody who trusts it."""
    state = torch.load(f"{folder}/{data}/{threat}/{name}.pt", weights_only=False)
    net = Net(1000 if data == "imagenet" else 10)
    net.load_state_dict(state)
    return net.eval()


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The stand-in of RobustBench; where it keeps its files."""
    parts = {
        "robustbench": {},
        "robustbench.data": {
            "get_preprocessing": lambda data, threat, name, given: transforms.Compose(STEPS[name])
        },
        "robustbench.model_zoo": {"model_dicts": ZOO},
        "robustbench.model_zoo.enums": {"BenchmarkDataset": Data, "ThreatModel": Threat},
        "robustbench.utils": {"load_model": load_model},
    }
    for name, held in parts.items():
        module = types.ModuleType(name)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    for place in ("cifar10/Linf", "imagenet/Linf"):
        (tmp_path / "robustbench" / place).mkdir(parents=True)
    return tmp_path / "robustbench"


@pytest.mark.parametrize("name", ["Standard", "cifar10/Linf/Standard"])
def test_a_network_takes_pixels_as_its_recipe_says(installed, name):
    net = Net()
    torch.save(net.state_dict(), installed / "cifar10/Linf/Standard.pt")
    model = ia.load_model(f"robustbench:{name}")
    x = torch.rand(4, 3, 32, 32)
    assert torch.equal(model(x), net(x)) and model.input_size == (32, 32)
    assert not model.training and model.recipe["num_classes"] == 10
    images, _ = load_images([(x[0], 3), (x[1], 9)], like=model)
    assert torch.equal(images, x[:2]), "as they are"
    e = ia.explain(model, x, torch.arange(4), n_bands=2, batch_size=8, progress=False)
    assert e.values.shape == (2, 4)


def test_the_recipe_of_photographs_is_read_from_their_preprocessing(installed):
    torch.save(Net(1000).state_dict(), installed / "imagenet/Linf/Salman2020Do_R18.pt")
    recipe = ia.load_model("robustbench:imagenet/Linf/Salman2020Do_R18").recipe
    assert recipe["input_size"] == [3, 224, 224] and recipe["num_classes"] == 1000
    assert recipe["crop_pct"] == 224 / 256 and recipe["interpolation"] == "bilinear"
    assert recipe["mean"] == [0, 0, 0] and recipe["std"] == [1, 1, 1]


def run():
    SHOWN.append("code of a pickle")


class Evil:
    def __reduce__(self):
        return run, ()


def test_no_pickle_is_run_whatever_robustbench_asks_for(installed, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state": Evil()}, installed / "cifar10/Linf/Standard.pt")
    with pytest.raises(ValueError, match="holds more than tensors, .* code to run"):
        ia.load_model("robustbench:Standard")
    (installed / "cifar10/Linf/Standard.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="holds more than tensors"):
        ia.load_model("robustbench:Standard")
    assert not SHOWN
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1", "as it was before"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_names_that_it_does_not_have_are_named(installed):
    for name, said in {
        "Standart": "no 'Standart' of cifar10/Linf. Close: Standard",
        "cifar10/L2/Standard": "no cifar10/L2; it has cifar10/Linf, imagenet/Linf",
        "imagenet/Standard": "names no network of RobustBench: write robustbench:Standard",
        "": "names no network of RobustBench",
    }.items():
        with pytest.raises(ValueError, match=said):
            ia.load_model(f"robustbench:{name}")
    with pytest.raises(ValueError, match="CenterCrop|crop|recipe"):  # of pictures of any size
        ia.load_model("robustbench:imagenet/Linf/Wong2020Fast")
    with pytest.raises(FileNotFoundError, match="could not get its weights .*Standard.pt"):
        ia.load_model("robustbench:Standard")
    with pytest.raises(ValueError, match="leave recipe=, factory= and pretrained= out"):
        ia.load_model("robustbench:Standard", pretrained=False)


def test_without_robustbench_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(
        ImportError, match="'robustbench:Standard' is of RobustBench .*--no-deps rob"
    ):
        ia.load_model("robustbench:Standard")
