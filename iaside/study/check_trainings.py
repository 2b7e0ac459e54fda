"""Checks of what a study trains, and of what measures or mends the networks that it trains."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from iaside.study.parameters import UsageError
from iaside.study.sections import TRAINED, to_be_trained


def check_training(section: Mapping) -> None:
    """Refuse plans that stand for no networks, and settings that none can be trained with."""
    from iaside.training.data import complete
    from iaside.training.plans import networks
    from iaside.training.training import check_settings

    shared = {name: value for name, value in section.items() if name != "plans"}
    try:
        found = networks(section["plans"])
        check_settings({name: complete(s, shared) for name, s in found.items()})
    except (KeyError, TypeError) as error:
        raise UsageError(f"training: {error!r}; compare with studies/default.yaml") from error
    except ValueError as error:
        raise UsageError(f"training: {error}") from error


def check_profiles(values: Mapping, training: Mapping) -> None:
    """Refuse profiles on more images than are held out for a plan."""
    held = _fewest_held_out(values["plan"], values["item"], training)
    if held is not None and values["n_images"] > held:
        raise UsageError(
            f"profiles.n_images is {values['n_images']!r}, but must be at most {held}: no more "
            f"images are held out for the plan {values['item']!r}"
        )


def check_mend(values: Mapping, training: Mapping) -> None:
    """Refuse to mend a network that no plan trains, or on more images than are held out."""
    from iaside.training.mend_study import check_images_held

    weights = values["model"]["weights"]
    if not to_be_trained(values["model"]):
        raise UsageError(
            f"mend.networks has the weights {weights!r}, but must have networks that a plan of "
            f"`training` trains ({TRAINED}<plan>/<network>/final.safetensors): mending goes on "
            "with their training"
        )
    plan = Path(weights).parts[3]
    held = _fewest_held_out(training["plans"][plan], plan, training)
    if held is not None:
        try:
            check_images_held(values["n_images"], values["n_judged"], held)
        except ValueError as error:
            raise UsageError(f"mend: {error}") from error


def _fewest_held_out(plan: Mapping, item: str, section: Mapping) -> int | None:
    """Held-out images of the networks of a plan, the fewest; None for images still to come."""
    from iaside.training.data import complete
    from iaside.training.plans import networks

    shared = {name: value for name, value in section.items() if name != "plans"}
    found = [complete(s, shared) for s in networks({item: plan}).values()]
    only = [s["classes"] for s in found]
    sets = {
        (s["images"], s["held_out"], tuple(c) if isinstance(c, list) else c)
        for s, c in zip(found, only, strict=True)
    }
    try:
        return min(images_held(*of) for of in sets)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"training.plans.{item}: {error}") from error


@functools.cache
def images_held(images: str, held_out: float, classes: int | tuple | None) -> int:
    """Held-out images of a data set, whose folders are looked through once in a check.

    Errors: FileNotFoundError for one that is not there.
    """
    from iaside.inputs.listing import find_source
    from iaside.inputs.splits import split_size

    find_source(images)  # or the sizes of classes that are still to be downloaded would be guessed
    return split_size(images, held_out, classes)[1]
