"""The recipe of weights of which only the architecture is known: the rest is read from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from iaside.backend.log import log
from iaside.inputs.libraries import build, recipes_of
from iaside.inputs.weights import unwrapped

_CLASSES = 9973  # of a network that is built to find its head: no layer has so many of anything


def recipe_for(architecture: str, state: Mapping[str, Tensor], whose: Path | str) -> dict:
    """The recipe of a library's network, for as many classes and channels as weights have.

    The classes are those of the head, the channels those of the first convolution, and the size of
    the images follows from the position embedding, where a transformer has one. What differs from
    the library's own is said on stderr; how pictures are normalised is nowhere in weights, and is
    the library's (of other than three colours their mean).
    Errors: ValueError for a name that no library knows.

    >>> import timm
    >>> net = timm.create_model("resnet18", num_classes=7, in_chans=1)
    >>> recipe = recipe_for("resnet18.a1_in1k", net.state_dict(), "mine.pth")
    >>> recipe["num_classes"], recipe["input_size"]
    (7, [1, 224, 224])
    """
    for recipe in recipes_of(architecture):
        with torch.device("meta"):
            own = build(recipe | {"num_classes": _CLASSES}).state_dict()
        state = unwrapped(state, own, whose)
        if own.keys() <= state.keys():  # else another library's network of that name
            break
    found = {
        "num_classes": _classes(own, state, recipe["num_classes"]),
        "input_size": [_channels(own, state), *_size(own, state, recipe["input_size"][1:])],
    }
    different = {field: value for field, value in found.items() if value != recipe[field]}
    if (channels := found["input_size"][0]) != 3:
        for field in ("mean", "std"):
            different[field] = [round(sum(recipe[field]) / 3, 6)] * channels
    if different:
        said = ", ".join(f"{field} {value}" for field, value in different.items())
        log.info(f"{whose} as {architecture}: {said}; if that is wrong, give a recipe")
    return {k: list(v) if isinstance(v, tuple) else v for k, v in (recipe | different).items()}


def _classes(own: Mapping[str, Tensor], state: Mapping[str, Tensor], usual: int) -> int:
    heads = [(k, v.shape.index(_CLASSES)) for k, v in own.items() if _CLASSES in v.shape]
    return next((state[k].shape[place] for k, place in heads if k in state), usual)


def _channels(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> int:
    firsts = [k for k, v in own.items() if v.ndim == 4 and v.shape[1] == 3]
    fits = firsts and firsts[0] in state and state[firsts[0]].ndim == 4
    return state[firsts[0]].shape[1] if fits else 3


def _size(own: Mapping[str, Tensor], state: Mapping[str, Tensor], usual: list) -> list[int]:
    """Square images whose patches a position embedding (1, tokens, width) is for."""
    for name, mine in own.items():
        if "pos_embed" not in name or mine.ndim != 3 or name not in state:
            continue
        grid = math.isqrt(mine.shape[1])
        others = mine.shape[1] - grid**2  # tokens of classes, of distillation, registers
        patches = state[name].shape[1] - others
        if patches > 0 and (side := math.isqrt(patches)) ** 2 == patches:
            return [side * usual[0] // grid] * 2
    return list(usual)
