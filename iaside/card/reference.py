"""Another network on the same photographs: a column beside what hurts a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import scipy
import torch
from torch import Tensor, nn

from iaside.backend.content import by_content
from iaside.backend.fingerprints import fingerprint
from iaside.card.harms import Harm
from iaside.inputs import project
from iaside.inputs.asked import Asked
from iaside.inputs.classifier import Classifier, load_model
from iaside.inputs.predicted import answers
from iaside.inputs.recipes import read_recipe

CLASSES = 1000  # ImageNet's, of every network that may be at hand
WEIGHTS = "IMAGENET1K_V1"  # those of torchvision that load_model takes
BY_CHANCE = 0.001  # a network that is right as often as this by chance knows other classes


@by_content
class Reference(NamedTuple):
    """What the same perturbations cost another network; why: which one it is and why that one."""

    name: str
    why: str
    harms: list[Harm]

    def to_dict(self) -> dict:
        """Its numbers as JSON takes them."""
        return {
            "name": self.name,
            "why": self.why,
            "harms": [harm.to_dict() for harm in self.harms],
        }


def chosen(asked: Asked, images: Tensor, labels: Tensor | None) -> tuple[Classifier | None, str]:
    """The smallest network at hand that fits, and why; or None, and why none does.

    One fits that takes images of this size, is another than the model, and knows the labels: it is
    right more often than by chance. Nothing is downloaded.
    Shapes: images (N, C, H, W), labels (N,), None where they are the model's own answers.
    """
    if labels is None:
        return None, "the labels are answers of the model itself"
    size = "x".join(map(str, images.shape[-2:]))
    if asked.classes != CLASSES or images.shape[1] != 3:
        return None, f"those that may be at hand know the {CLASSES} classes of ImageNet, in colour"
    reasons = {}
    for name, takes in at_hand().items():
        if takes != tuple(images.shape[-2:]):
            reasons[name] = f"takes {'x'.join(map(str, takes))} pixels"
            continue
        network = load_model(name)
        if _same(network, asked.model):
            reasons[name] = "is the network itself"
            continue
        right = (answers(Asked(network), images).argmax(1) == labels).sum().item()
        if scipy.stats.binomtest(right, len(labels), 1 / CLASSES, "greater").pvalue < BY_CHANCE:
            return network, (
                f"the smallest other network at hand that takes {size} pixels and knows these "
                f"classes, {right} of {len(labels)} right"
            )
        reasons[name] = f"knows other classes, {right} of {len(labels)} right"
    why = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
    return None, f"none that takes {size} pixels is at hand" + (f" ({why})" if why else "")


def at_hand() -> dict[str, tuple[int, int]]:
    """Names of networks whose weights lie here, and the image size of each, the smallest first.

    Those that a clone has fetched, and those of torchvision that have been downloaded before.
    """
    found: dict[str, tuple[Path, tuple[int, int]]] = {}
    if project.CLONE:
        for path in (project.PROJECT / "data" / "weights").glob("*.safetensors"):
            recipe = path.with_suffix(".json")
            if recipe.is_file() and (fields := read_recipe(recipe)).get("num_classes") == CLASSES:
                found[path.stem] = path, tuple(fields["input_size"][-2:])
    for name, weights in _of_torchvision():
        path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
        if path.is_file() and name not in found:
            found[name] = path, 2 * tuple(weights.transforms().crop_size)
    smallest = sorted(found, key=lambda name: (found[name][0].stat().st_size, name))
    return {name: found[name][1] for name in smallest}


def _of_torchvision():
    from torchvision import models

    for name in models.list_models(module=models):
        if weights := getattr(models.get_model_weights(name), WEIGHTS, None):
            yield name, weights


def _same(network: nn.Module, model: Callable) -> bool:
    """Whether two networks have the same parameters, whatever their names."""
    return isinstance(model, nn.Module) and _content(network) == _content(model)


def _content(network: nn.Module) -> list[str]:
    return sorted(fingerprint(p) for p in network.parameters())
