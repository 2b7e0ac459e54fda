"""Families: which networks share a design, and which are trainings of one network."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike


def family(architecture: str) -> str:
    """Return the design that an architecture's name says it is of, in small letters.

    A library's prefix (``tf_``), a tag (``.a1_in1k``), sizes and widths are left out; versions
    (``_v2``) are designs of their own, as are ``lite`` and ``edgetpu``. Names that say nothing of a
    design (``cnn_a``) are to be grouped by hand.

    >>> [family(name) for name in ("tf_efficientnet_lite0", "resnet18.a1_in1k", "mobilenet_v2")]
    ['efficientnet_lite', 'resnet', 'mobilenetv2']
    """
    name = re.sub(r"^((tf|keras|mcu|timm)_)+", "", architecture.lower().partition(".")[0])
    name = re.sub(r"_v(?=\d)", "v", name)
    found = re.match(r"(?:wide_)?[a-z]+?(?:v\d+|(?=\d|_|$))(?:_(?:lite|edgetpu)(?![a-z]))?", name)
    return re.sub(r"^regnet[xyz]$", "regnet", found[0]) if found and found[0] else name


def families_of(
    models: Mapping[str, Mapping], designs: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return the family of each network: the one that ``designs`` says, or that its name tells.

    models, designs: the sections of a study, key of a network -> its entry.

    >>> models = {"a": {"name": "cnn_a"}, "b": {"name": "resnet18"}}
    >>> families_of(models, {"a": {"family": "challenge"}})
    ['challenge', 'resnet']
    """
    return [
        designs.get(key, {}).get("family") or family(model.get("name", key))
        for key, model in models.items()
    ]


def trainings_of(
    models: Mapping[str, Mapping], designs: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return how each network was trained: as ``designs`` says, or ``standard``.

    Arguments as of `families_of`.

    >>> trainings_of({"a": {}, "b": {}}, {"b": {"training": "adversarial"}})
    ['standard', 'adversarial']
    """
    return [designs.get(key, {}).get("training") or "standard" for key in models]


def family_means(scores: ArrayLike, families: Sequence[Hashable]) -> np.ndarray:
    """Return the mean of each family in the order of appearance: (K, ...) -> (families, ...).

    >>> family_means([1.0, 3.0, 5.0], ["a", "a", "b"]).tolist()
    [2.0, 5.0]
    """
    scores, g = np.asarray(scores, dtype=float), numbered(families)
    return np.stack([scores[g == k].mean(0) for k in range(g.max() + 1)])


def several(families: Sequence[Hashable]) -> Sequence[Hashable] | None:
    """The families, or None where each has one network: then nothing is to be taken out.

    >>> several(["resnet", "vgg"]), several(["vgg", "vgg"])
    (None, ['vgg', 'vgg'])
    """
    return None if len(set(families)) == len(families) else families


def numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """Groups as whole numbers, in the order in which they appear."""
    names = list(dict.fromkeys(groups))
    return np.array([names.index(group) for group in groups])
