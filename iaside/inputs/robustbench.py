"""Networks of RobustBench, by the names they have there, where that package is installed."""

from __future__ import annotations

import contextlib
import difflib
import os
import pickle
from collections.abc import Iterator, Mapping

import torch
from torch import nn

PREFIX = "robustbench:"
USUAL = ("cifar10", "Linf")  # of a name alone, as RobustBench's own load_model
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
# In no extra: it pins a timm that is older than the one needed here, and what it imports is on no
# index under these names.
INSTALL = (
    "it comes with no extra, as it pins another timm: `pip install --no-deps robustbench`, and "
    "then what its import asks for (autoattack from its repository, gdown, geotorch, torchdiffeq, "
    "setuptools<81)"
)


def load(name: str) -> tuple[nn.Module, dict]:
    """A pretrained network of RobustBench and its recipe; its weights are downloaded once.

    name: robustbench:Standard, of CIFAR-10 and Linf, or robustbench:<data>/<threat>/<model>, such
    as robustbench:imagenet/Linf/Salman2020Do_R18. Normalisation is inside these networks.

    RobustBench reads its files with ``torch.load``, of which some of its callers ask that it run
    what a pickle says. Here only tensors are read of any file.
    Errors: ImportError without RobustBench; ValueError for an unknown name, a preprocessing that is
    no recipe, or a file of more than tensors; FileNotFoundError where it cannot be downloaded.
    Source: Croce et al. 2021.
    """
    try:
        from robustbench.data import get_preprocessing
        from robustbench.model_zoo import model_dicts
        from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
        from robustbench.utils import load_model
    except ImportError as error:
        raise ImportError(f"{name!r} is of RobustBench ({error}): {INSTALL}") from error

    data, threat, model = _parts(name)
    zoo = {(d.value, t.value): found for d, of in model_dicts.items() for t, found in of.items()}
    if (data, threat) not in zoo:
        known = ", ".join(map("/".join, zoo))
        raise ValueError(f"{name!r}: RobustBench has no {data}/{threat}; it has {known}")
    if model not in zoo[data, threat]:
        close = difflib.get_close_matches(model, zoo[data, threat], n=5, cutoff=0.4)
        raise ValueError(
            f"{name!r}: RobustBench has no {model!r} of {data}/{threat}. Close: "
            f"{', '.join(close) or 'none'}"
        )
    recipe = _recipe(data)
    if data == "imagenet":
        from iaside.inputs.transforms import recipe_of

        steps = get_preprocessing(BenchmarkDataset(data), ThreatModel(threat), model, None)
        recipe = recipe_of(
            transform=steps, **{k: recipe[k] for k in ("num_classes", "mean", "std")}
        )
    folder = os.path.join(torch.hub.get_dir(), "robustbench")
    try:
        with _tensors_only():
            net = load_model(model, folder, data, threat)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{name!r}: RobustBench's file below {folder} holds more than tensors, which would be "
            "code to run: where you trust it, save its state dict anew (torch.save) in its place"
        ) from error
    except OSError as error:
        raise FileNotFoundError(
            f"{name!r}: RobustBench could not get its weights ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0][:200]}). With internet access run this again, or "
            f"put the file where it looks for it: {os.path.join(folder, data, threat, model)}.pt"
        ) from error
    return net, recipe


def _parts(name: str) -> tuple[str, str, str]:
    parts = name.removeprefix(PREFIX).split("/")
    if len(parts) == 1:
        parts = [*USUAL, *parts]
    if len(parts) != 3 or not all(parts):
        raise ValueError(
            f"{name!r} names no network of RobustBench: write {PREFIX}Standard, or "
            f"{PREFIX}<data>/<threat>/<model>, such as {PREFIX}imagenet/Linf/Salman2020Do_R18"
        )
    return tuple(parts)


def _recipe(data: str) -> dict:
    """Of the small pictures, which are shown as they are."""
    return {
        "num_classes": CLASSES[data],
        "input_size": [3, 32, 32],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """As long as this lasts ``torch.load`` reads tensors alone, whatever its callers say."""
    wanted = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": None}
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
