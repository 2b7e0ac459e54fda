"""How a network wants its images: the fields of a recipe, and where it is read from.

A *recipe* is a dict: library ("timm", "torchvision", or "iaside" for those of architectures.py),
architecture, num_classes, input_size (3, H, W), mean, std, crop_pct, interpolation, and for the few
timm networks that squash instead of crop, crop_mode. A network of grey pictures has the input_size
(1, H, W), one of C channels (C, H, W), and a mean and std for each. `outputs` says what a network
gives, unless logits: probabilities or binary (`inputs.probe`); `model_args` what timm's
``create_model`` was given besides. It travels with the weights as a JSON file. Other fields are
notes; a name that is nearly one of these is refused. With a factory (`iaside.inputs.factories`)
library and architecture are notes, too.
"""

from __future__ import annotations

import difflib
import json
import numbers
from collections.abc import Callable
from pathlib import Path

from iaside.backend.answers import OUTPUTS
from iaside.backend.checks import is_whole

INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
CHANNELS = 64  # at most
LARGEST_SIDE = 8192  # pixels: a picture of so many a side takes 800 MB
WHAT_IT_IS = ("library", "architecture")  # what a network is; the rest, how it wants its images
RECIPE_FIELDS = (
    *WHAT_IT_IS,
    "num_classes",
    "input_size",
    "mean",
    "std",
    "crop_pct",
    "interpolation",
)


def recipe_beside(path: Path, given: bool = False) -> dict:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise ValueError(
            f"{path} has no recipe: put a {beside.name} beside it, or give recipe='file.json', "
            f"with the fields {', '.join(RECIPE_FIELDS)} (ia.recipe_of writes it); or say which "
            "network of timm or torchvision it is, such as architecture='resnet18'. Without that "
            "nobody knows how to size and normalise the images."
        )
    return read_recipe(beside, given)


def read_recipe(path: Path, given: bool = False) -> dict:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}); it must be one object with the fields "
            f"{', '.join(RECIPE_FIELDS)}."
        ) from error
    return checked_recipe(recipe, f"the recipe {path}", given)


def _is_share(value) -> bool:
    """Whether this is a number in [0, 1], which NaN is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value <= 1


def _are(holds: Callable[[object], bool], value, *lengths: int) -> bool:
    return isinstance(value, list | tuple) and len(value) in lengths and all(map(holds, value))


# What a field must be; crop_mode alone may be absent.
_FIELD_RULES = {
    "architecture": (lambda v: isinstance(v, str) and v, "the name of a network"),
    "num_classes": (
        lambda v: is_whole(v) and 0 <= v <= 1_000_000,
        "a whole number up to 1,000,000, 0 for a network without its head",
    ),
    "input_size": (
        lambda v: (
            _are(lambda side: is_whole(side) and 0 < side <= LARGEST_SIDE, v, 2, 3)
            and (v[0] <= CHANNELS if len(v) == 3 else v[0] != 3)
        ),
        f"(3, H, W) or (H, W) in whole pixels up to {LARGEST_SIDE:,}, such as [3, 224, 224], or "
        "(1, H, W) of grey pictures",
    ),
    "mean": (
        lambda v: _are(_is_share, v, *range(1, CHANNELS + 1)),
        "three numbers in [0, 1], as pixels are (of pixels up to 255, divide it by 255)",
    ),
    "std": (
        lambda v: _are(lambda std: _is_share(std) and std >= 1e-6, v, *range(1, CHANNELS + 1)),
        "three numbers from 1e-6 to 1, as pixels are in [0, 1] (of pixels up to 255, divide it by "
        "255; 1/255 each for a network that takes such pixels as they are)",
    ),
    "crop_pct": (  # above 1 a black frame, as the largest VOLO of timm have
        lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and 0.1 <= v <= 1.2,
        "a number from 0.1 to 1.2, such as 0.875",
    ),
    "interpolation": (lambda v: v in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
    "crop_mode": (lambda v: v in ("center", "squash"), "'center' or 'squash'"),
    "outputs": (lambda v: v in OUTPUTS, f"one of {', '.join(OUTPUTS)}"),
    "model_args": (lambda v: isinstance(v, dict), "a dict of arguments of timm.create_model"),
}


def channels_of(recipe: dict) -> int:
    """How many channels the pictures of a recipe have: 3 unless its input_size says others.

    >>> channels_of({"input_size": [1, 28, 28]}), channels_of({"input_size": [32, 32]})
    (1, 3)
    """
    size = recipe["input_size"]
    return size[0] if len(size) == 3 else 3


def checked_recipe(recipe: dict, whose: str, given: bool = False) -> dict:
    """A copy with lists for tuples (as JSON gives them), or an error that says what is wrong.

    given: the network, or who builds it, is there: the recipe need not say what it is.
    """
    if not isinstance(recipe, dict):
        raise TypeError(
            f"{whose} must be a dict with the fields {', '.join(RECIPE_FIELDS)}, "
            f"got {type(recipe).__name__}."
        )
    needed = [field for field in RECIPE_FIELDS if not (given and field in WHAT_IT_IS)]
    if missing := [field for field in needed if field not in recipe]:
        hint = ""
        if "library" in missing and "factory" in recipe:
            hint = (
                f" It names the factory {recipe['factory']!r}, which is code, and a recipe cannot "
                f"choose that: if you trust that file, give factory={recipe['factory']!r}."
            )
        raise ValueError(
            f"{whose} lacks {', '.join(missing)}; the fields are {', '.join(RECIPE_FIELDS)}.{hint}"
        )
    if not given and recipe["library"] not in ("timm", "torchvision", "iaside"):
        raise ValueError(
            f"{whose}: library {recipe['library']!r} must be 'timm', 'torchvision' or 'iaside'. "
            "Any other network needs factory='nets.py:build', or is wrapped by hand: "
            "Classifier(net, recipe, name)."
        )
    known = {*RECIPE_FIELDS, *_FIELD_RULES}
    for field in recipe.keys() - known:  # others may be notes
        if close := difflib.get_close_matches(str(field).lower(), known, 1, cutoff=0.8):
            raise ValueError(
                f"{whose} has a field {field!r}, which says nothing: write {close[0]!r} if that is "
                "meant, or rename it."
            )
    for field, (holds, rule) in _FIELD_RULES.items():
        if given and field in WHAT_IT_IS:
            continue
        if field in recipe and not holds(recipe[field]):
            raise ValueError(f"{whose}: {field} must be {rule}; got {recipe[field]!r}.")
    channels = channels_of(recipe)
    for field in ("mean", "std"):
        if len(recipe[field]) != channels:
            of = {3: "three numbers", 1: "one number"}.get(channels, f"{channels} numbers")
            raise ValueError(
                f"{whose}: {field} must be {of} in [0, 1], one for each channel of input_size "
                f"{recipe['input_size']!r}; got {recipe[field]!r}."
            )
    return {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.items()}
