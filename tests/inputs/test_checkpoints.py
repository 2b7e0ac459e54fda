"""Checkpoints as trainers leave them: the deployed network is loaded, and no code is run."""

import argparse
import os
import pickle
import sys
import types

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import transforms as T

import iaside as ia
from iaside.inputs.saved import from_folder
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


class Settings(dict):
    """Of a library that is not installed; Lightning's is a dict whose entries are attributes."""


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "omegaconf.dictconfig.DictConfig",
        "numpy.matrixlib.defmatrix.matrix",
    ],
)
def test_settings_of_another_library_are_passed_over_and_not_built(name, tmp_path, monkeypatch):
    module, kind = name.rsplit(".", 1)
    theirs = types.ModuleType(module)
    monkeypatch.setitem(sys.modules, module, theirs)
    parts = module.split(".")
    for k in range(1, len(parts)):
        if (above := ".".join(parts[:k])) not in sys.modules:
            monkeypatch.setitem(sys.modules, above, types.ModuleType(above))
    settings = type(kind, (Settings,) if kind == "AttributeDict" else (), {"__module__": module})
    setattr(theirs, kind, settings)
    one = settings()
    if kind == "AttributeDict":
        one["lr"] = 0.1
    else:
        one.lr = 0.1
    torch.save({"state_dict": prefixed("model."), "hyper_parameters": one}, tmp_path / "a.ckpt")
    delattr(theirs, kind)
    assert read_state(tmp_path / "a.ckpt").keys() == prefixed("model.").keys()


def test_of_two_networks_the_average_is_taken_and_others_are_refused(tmp_path, capsys):
    both = prefixed("model.", 1) | prefixed("ema_model.module.")
    torch.save({"state_dict": both}, tmp_path / "a.ckpt")
    model = ia.load_model("mine", weights=tmp_path / "a.ckpt", recipe=RECIPE)
    assert all(torch.equal(model.net.state_dict()[k], v) for k, v in net(0).state_dict().items())
    assert "averaged weights are taken, 'ema_model.module.'" in capsys.readouterr().err
    torch.save(prefixed("teacher.") | prefixed("student."), tmp_path / "b.pth")
    with pytest.raises(
        ValueError, match=r"2 networks that fit, 'student.' and 'teacher.'.*k\[8:\]"
    ):
        ia.load_model("mine", weights=tmp_path / "b.pth", recipe=RECIPE)


def test_what_only_looks_like_weights_is_said(tmp_path):
    program = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    torch.jit.save(program, tmp_path / "script.pt")
    (tmp_path / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "empty.ckpt").touch()
    for name, said in {
        "script.pt": "TorchScript program.*torch.jit.load",
        "lfs.pth": "git lfs pull",
        "page.safetensors": "web page",
        "empty.ckpt": "it is empty",
        "net.onnx": "ONNX network: give its session",
        "net.h5": "TensorFlow's",
    }.items():
        with pytest.raises(ValueError, match=said):
            read_state(tmp_path / name)


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


def test_a_folder_saved_by_timm_is_the_network_that_was_saved(tmp_path):
    """By timm's own save, with another number of channels, size and classes."""
    net = timm.create_model("vit_tiny_patch16_224", num_classes=7, in_chans=1, img_size=64).eval()
    how = {"model_args": {"in_chans": 1, "img_size": 64}}
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True, **how)
    model = ia.load_model("mine", weights=tmp_path)
    assert model.recipe["input_size"] == [1, 64, 64] and model.recipe["num_classes"] == 7
    x = torch.rand(2, 1, 64, 64)
    assert torch.equal(model(x), net((x - model.mean) / model.std))
    ia.save_weights(model, tmp_path / "again.safetensors")
    assert torch.equal(ia.load_model("again", weights=tmp_path / "again.safetensors")(x), model(x))


def test_a_folder_that_is_none_says_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="without config.json and model.safetensors"):
        from_folder(tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not saved by timm or transformers"):
        from_folder(tmp_path)


def test_a_name_of_the_hub_is_what_its_folder_is(tmp_path, monkeypatch):
    """The Hub's download replaced by a folder; and by no connection."""
    net = timm.create_model("test_resnet", num_classes=5).eval()
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    hub = sys.modules["timm.models._hub"]
    monkeypatch.setattr(hub, "hf_hub_download", lambda repo_id, filename, **k: tmp_path / filename)
    for name in ("hf-hub:mine/net", "hf_hub:mine/net"):
        model = ia.load_model(name)
        assert model.recipe["num_classes"] == 5 and model.recipe["architecture"] == "test_resnet"
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(model(x), net((x - model.mean) / model.std))

    def refuse(*args, **more):
        raise OSError("Name or service not known")

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    with pytest.raises(FileNotFoundError, match="huggingface.co.*Without internet give the folder"):
        ia.load_model("hf-hub:mine/net")


def test_a_folder_of_transformers_asks_for_it_and_is_loaded_by_it(tmp_path, monkeypatch):
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install transformers"):
        from_folder(tmp_path)
    pixels = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    pixels.config = types.SimpleNamespace(num_labels=3)
    how = dict(size={"height": 8, "width": 8}, image_mean=[0.5] * 3, image_std=[0.5] * 3)

    class Processor(types.SimpleNamespace):
        def __call__(self, picture, return_tensors):
            steps = T.Compose([T.Resize((8, 8)), T.ToTensor(), T.Normalize([0.5] * 3, [0.5] * 3)])
            return {"pixel_values": steps(picture)[None]}

    stand_in = types.SimpleNamespace(
        AutoImageProcessor=types.SimpleNamespace(from_pretrained=lambda *a, **k: Processor(**how)),
        AutoModelForImageClassification=types.SimpleNamespace(
            from_pretrained=lambda *a, **k: pixels
        ),
    )
    monkeypatch.setitem(sys.modules, "transformers", stand_in)
    model = ia.load_model("mine", weights=tmp_path)
    assert model.recipe["crop_mode"] == "squash" and model.recipe["num_classes"] == 3
    assert torch.allclose(model(torch.full((1, 3, 8, 8), 0.75)), torch.tensor(0.5))
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights.*save_pretrained"):
        from_folder(tmp_path)
