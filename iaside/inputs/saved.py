"""Networks as libraries save them: a folder with config.json and the weights, or a name of the Hub.

timm's own loader reads its folders and names; the weights are read as all others are, no code is
run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from torch import nn

from iaside.inputs.recipes import RECIPE_FIELDS, checked_recipe

HUB = ("hf-hub:", "hf_hub:")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Saved(NamedTuple):
    """A recipe, and what its weights are in: a file, or the network that another library made."""

    recipe: dict
    weights: Path | None = None
    net: nn.Module | None = None


def from_folder(folder: Path) -> Saved:
    """What timm or transformers saved.

    Errors: ValueError for a folder of another library, or without config.json or the weights.
    """
    config = folder / "config.json"
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if not config.is_file() or weights is None:
        raise ValueError(
            f"{folder} is a folder without config.json and {_WEIGHTS[0]} in it, as timm and "
            "transformers save a network: give the file of the weights"
        )
    try:
        about = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{config} is not JSON ({error}): save the network again") from error
    if "architecture" in about:
        from timm.models._hub import load_model_config_from_path

        return Saved(recipe_of_timm(*load_model_config_from_path(folder), str(config)), weights)
    if "model_type" not in about:
        raise ValueError(
            f"{folder} is not saved by timm or transformers (its config.json names no architecture "
            "and no model_type): load the network with its own library and give ia.report a "
            "callable pixels -> logits"
        )
    return _of_transformers(folder, weights)


def from_hub(name: str) -> dict:
    """The recipe of a name of the Hugging Face Hub, ``hf-hub:owner/name``; the network is timm's.

    Errors: FileNotFoundError where the Hub cannot be reached or has no such network; ValueError for
    one that is not timm's.
    """
    from timm.models import load_model_config_from_hf

    try:
        config = load_model_config_from_hf(name[len(HUB[0]) :])
    except KeyError as error:
        raise ValueError(
            f"{name!r} is not a network of timm (its config.json has no {error}): load it with its "
            "own library, save it with save_pretrained('folder'), and give that folder"
        ) from error
    except Exception as error:  # the Hub has its own family of network errors
        raise FileNotFoundError(
            f"{name!r} could not be had from https://huggingface.co ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0][:200]}). Without internet give the folder of a copy"
            " that has its config.json and model.safetensors"
        ) from error
    return recipe_of_timm(*config, name)


def recipe_of_timm(config: dict, architecture: str, arguments: dict, whose: str) -> dict:
    """Of what timm's loader makes of a config.json."""
    import timm

    how = timm.data.resolve_data_config(pretrained_cfg=config)
    recipe = {"library": "timm", "architecture": architecture, "num_classes": config["num_classes"]}
    recipe |= {field: how[field] for field in RECIPE_FIELDS[3:]}
    channels = recipe["input_size"][0]
    for field in ("mean", "std"):
        if len(recipe[field]) != channels:  # as timm writes it for colours
            recipe[field] = [round(sum(recipe[field]) / len(recipe[field]), 6)] * channels
    if how["crop_mode"] == "squash":
        recipe["crop_mode"] = "squash"
    if arguments:
        recipe["model_args"] = arguments
    return checked_recipe(recipe, f"the recipe in {whose}")


def _of_transformers(folder: Path, weights: Path) -> Saved:
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise ValueError(
            f"{folder} is saved by transformers, which is not installed here: pip install "
            "transformers"
        ) from error
    from iaside.inputs.transforms import recipe_of

    if weights.suffix != ".safetensors":
        raise ValueError(
            f"{folder} has pickled weights ({weights.name}), which may run any code: if you trust "
            "them, load the network and save it again, net.save_pretrained('folder')"
        )
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        net = AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"transformers does not take {folder} for a classifier of images: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    net = net.float().eval()
    return Saved(recipe_of(transform=processor, num_classes=net.config.num_labels), net=net)
