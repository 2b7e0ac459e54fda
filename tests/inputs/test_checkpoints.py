"""Checkpoints as trainers leave them: the deployed network is loaded, and no code is run."""

import argparse
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import iaside as ia
from iaside.inputs.recipes import saved_by_timm
from iaside.inputs.weights import load_state, read_state

RECIPE = {
    "library": "iaside",
    "architecture": "small_cnn",
    "num_classes": 3,
    "input_size": [3, 32, 32],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}


def net(seed):
    return ia.load_model("small_cnn", recipe=RECIPE, pretrained=False, seed=seed).net


def prefixed(prefix, seed=0):
    return {prefix + name: tensor for name, tensor in net(seed).state_dict().items()}


FORMS = {
    "plain": lambda: prefixed(""),
    "model": lambda: {"model": prefixed(""), "epoch": 3},
    "model_state_dict": lambda: {"model_state_dict": prefixed(""), "optimizer": {"lr": 0.1}},
    "net": lambda: {"net": prefixed(""), "acc": 0.9},
    "DataParallel": lambda: {"state_dict": prefixed("module.")},
    "compiled": lambda: prefixed("_orig_mod."),
    "compiled in DataParallel": lambda: prefixed("module._orig_mod."),
    "Lightning": lambda: {
        "state_dict": prefixed("model.") | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "timm's EMA": lambda: {"state_dict": prefixed("", 1), "state_dict_ema": prefixed("")},
    "model_ema": lambda: {"model": prefixed("", 1), "model_ema": {"module": prefixed("")}},
    "torch's average": lambda: prefixed("module.") | {"n_averaged": torch.tensor(9)},
    "arguments beside it": lambda: {
        "model": prefixed(""),
        "args": argparse.Namespace(lr=0.1, name="x"),
        "best": np.float64(0.5),
        "step": np.int64(7),
    },
}


@pytest.mark.parametrize(
    ("form", "ending"),
    [*((form, "pth") for form in FORMS), *(("Lightning", e) for e in ("ckpt", "bin", "pth.tar"))],
)
def test_the_network_in_a_checkpoint_is_the_one_that_was_saved(form, ending, tmp_path):
    path = tmp_path / f"mine.{ending}"
    torch.save(FORMS[form](), path)
    model = ia.load_model("mine", weights=path, recipe=RECIPE)
    for name, tensor in net(0).state_dict().items():
        assert torch.equal(model.net.state_dict()[name], tensor), name


def test_averaged_weights_are_said_to_be_taken(tmp_path, capsys):
    torch.save(FORMS["timm's EMA"](), tmp_path / "a.pth")
    read_state(tmp_path / "a.pth")
    assert "'state_dict_ema'" in capsys.readouterr().err
    torch.save(FORMS["model"](), tmp_path / "b.pth")
    read_state(tmp_path / "b.pth")
    assert capsys.readouterr().err == ""


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_pickled_is_run_and_the_line_that_mends_it_is_given(tmp_path):
    torch.save({"state_dict": prefixed(""), "bomb": Bomb(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"may run any code.*torch.save\(found\['state_dict'\]"):
        read_state(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(ValueError):
        read_state(tmp_path / "b.pth")
    assert not (tmp_path / "ran").exists()
    torch.save(net(0), tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"torch.nn.*torch.save\(found.state_dict\(\)"):
        read_state(tmp_path / "c.pth")


def test_what_holds_no_state_dict_says_what_it_has(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds no state dict: it has epoch, lr"):
        read_state(tmp_path / "a.pth")


def test_a_prefix_is_not_taken_from_a_network_whose_own_names_have_it():
    inner = torch.nn.Module()
    inner.model = torch.nn.Linear(2, 2)
    load_state(inner, inner.state_dict(), "itself")
    with pytest.raises(ValueError, match="do not fit"):
        load_state(inner, {"other.weight": torch.ones(2, 2)}, "another")


def test_a_folder_saved_by_timm_brings_its_recipe(tmp_path):
    cfg = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
    cfg |= {"crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center"}
    about = {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="model.safetensors"):
        saved_by_timm(tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    path, recipe = saved_by_timm(tmp_path)
    assert path.name == "model.safetensors" and recipe["num_classes"] == 7
    assert recipe["library"] == "timm" and recipe["input_size"] == [3, 64, 64]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match="not saved by timm"):
        saved_by_timm(tmp_path)
