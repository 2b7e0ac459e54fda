"""What timm and torchvision know: names of networks, their recipes, their weights.

A name both know (resnet18) is torchvision's. Recipes are described in recipes.py.
"""

from __future__ import annotations

import difflib

import timm
import torchvision
from torch import Tensor, nn

from iaside.inputs import project
from iaside.inputs.headless import take_off
from iaside.inputs.recipes import channels_of
from iaside.inputs.saved import HUB, from_hub, recipe_of_timm

# These two carry training-only heads. Their pretrained builders also set transform_input: it turns
# ImageNet-normalised pixels into (x - 0.5) / 0.5; a recipe with mean = std = 0.5 is the same thing.
_AUXILIARY = ("googlenet", "inception_v3")
_FROM_ELSEWHERE = ("pretrained", "checkpoint_path", "cache_dir")  # of create_model's arguments


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _timm_config(name: str):
    """timm's configuration of a name, None if it has no such network or no such weights of it."""
    try:
        return timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # a known network with an unknown tag
        return None


def _torchvision_weights(name: str):
    choices = torchvision.models.get_model_weights(name)
    # A few large networks (vit_h_14) exist only with other weights: take their first.
    return getattr(choices, "IMAGENET1K_V1", next(iter(choices)))


def recipe_of(name: str) -> dict:
    """The recipe of a library's own pretrained weights; nothing is downloaded for it.

    Raises ValueError for a name that neither library knows.

    >>> recipe_of("resnet18")["library"], recipe_of("resnet18.a1_in1k")["library"]
    ('torchvision', 'timm')
    """
    return recipes_of(name)[0]


def recipes_of(name: str) -> list[dict]:
    """The same of both libraries where both know the name, torchvision's first.

    >>> [recipe["library"] for recipe in recipes_of("convnext_tiny")]
    ['torchvision', 'timm']
    """
    if name.startswith(HUB):
        return [from_hub(name)]
    found = [_of_torchvision(name)] if name in _torchvision_names() else []
    if (config := _timm_config(name)) is not None:
        found.append(recipe_of_timm(config.to_dict(), name, {}, f"timm's {name}"))
    if not found:
        known = sorted({*_torchvision_names(), *timm.list_models(), *timm.list_pretrained()})
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise ValueError(
            f"no model {name!r} in torchvision {torchvision.__version__} or timm "
            f"{timm.__version__}. Close: {', '.join(close) or 'none'}. For own weights "
            "pass weights='file.safetensors' with its recipe beside it."
        )
    return found


def _of_torchvision(name: str) -> dict:
    weights = _torchvision_weights(name)
    preset = weights.transforms()
    size, half = preset.crop_size[0], [0.5] * 3
    return {
        "library": "torchvision",
        "architecture": name,
        "num_classes": len(weights.meta["categories"]),
        "input_size": [3, size, size],
        "mean": half if name in _AUXILIARY else list(preset.mean),
        "std": half if name in _AUXILIARY else list(preset.std),
        "crop_pct": size / preset.resize_size[0],
        "interpolation": preset.interpolation.value,
    }


def build(recipe: dict) -> nn.Module:
    """The architecture of a recipe with the library's own random initialisation.

    Raises ValueError where its library does not know it.

    >>> import torch
    >>> build(recipe_of("squeezenet1_1") | {"num_classes": 7})(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 7])
    """
    name, classes = recipe["architecture"], recipe["num_classes"]
    if recipe["library"] == "timm":
        if _timm_config(name) is None:
            raise ValueError(
                f"timm {timm.__version__} has no architecture {name!r}; "
                "correct `architecture` in the recipe."
            )
        return timm.create_model(name, pretrained=False, **_timm_arguments(recipe))
    if name not in _torchvision_names():
        raise ValueError(
            f"torchvision {torchvision.__version__} has no classifier {name!r}; "
            "correct `architecture` in the recipe."
        )
    options = {"aux_logits": False, "init_weights": False} if name in _AUXILIARY else {}
    if name.startswith("vit_"):
        options["image_size"] = recipe["input_size"][-1]
    if classes:
        options["num_classes"] = classes
    net = _of_channels(
        torchvision.models.get_model(name, weights=None, **options), channels_of(recipe)
    )
    if not classes:
        take_off(net)
    return net


def _timm_arguments(recipe: dict) -> dict:
    """What timm is told of channels, and of the size of images where a network is for one."""
    config, size = _timm_config(recipe["architecture"]), list(recipe["input_size"][-2:])
    told = {"num_classes": recipe["num_classes"]}
    if channels_of(recipe) != 3:
        told["in_chans"] = channels_of(recipe)
    if config.fixed_input_size and size != list(config.input_size[1:]):
        told["img_size"] = size
    kept = {k: v for k, v in recipe.get("model_args", {}).items() if k not in _FROM_ELSEWHERE}
    return kept | told


def _of_channels(net: nn.Module, channels: int) -> nn.Module:
    """A network of torchvision, whose first convolution is one for so many channels."""
    if channels != 3:
        name, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
        how = ("out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
        settings = {key: getattr(first, key) for key in how} | {"bias": first.bias is not None}
        net.set_submodule(name, nn.Conv2d(channels, **settings))
    return net


def download(name: str, recipe: dict) -> dict[str, Tensor]:
    """The state dict of the library's own pretrained weights.

    Raises FileNotFoundError where they cannot be had.
    """
    torchvisions = recipe["library"] == "torchvision"
    host = "download.pytorch.org" if torchvisions else "huggingface.co"
    try:
        if torchvisions:
            return _torchvision_weights(name).get_state_dict(progress=False, check_hash=True)
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # each library has its own family of network errors
        outside, packaged = "", "."
        if project.CLONE:
            outside = " outside data/ (the pipeline may restore data/weights)"
            packaged = (
                ", or take another model: tf_efficientnet_lite0, tf_efficientnet_lite1,"
                " tf_efficientnet_lite2 and squeezenet1_1 are packaged."
            )
        raise FileNotFoundError(
            f"the pretrained weights of {name!r} are not here, and {recipe['library']} could not"
            f" get them from https://{host} ({type(error).__name__}:"
            f" {str(error).partition(chr(10))[0][:200]}). With internet access run this again;"
            f" without it, put {name}.safetensors and its recipe {name}.json (iaside.save_weights"
            f" writes both) into a folder of your own{outside} and give"
            f" weights='../own/{name}.safetensors'{packaged}"
        ) from error
