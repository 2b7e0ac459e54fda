"""What a network has to do in a stage: the parts that ``costs`` counts and ``speed`` times."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iaside.backend.content import by_content
from iaside.backend.files import as_object
from iaside.inputs.architectures import ARCHITECTURES
from iaside.inputs.libraries import recipe_of
from iaside.inputs.splits import split_size
from iaside.study.parameters import UsageError
from iaside.training.data import complete
from iaside.training.plans import networks

BATCH = 8  # images to time with where no other number is known
SIDE = 224  # pixels, of what little depends on it


class Network(NamedTuple):
    """An architecture. With a recipe's path or neither it is loaded, with a side it is trained."""

    name: str
    recipe: str | None = None
    classes: int = 0
    side: int = 0
    factory: str | None = None

    def structure(self) -> tuple:
        """What decides how long a pass takes, whatever the network is called and its weights are.

        Errors: ValueError for a name that no library knows; those of a recipe that cannot be read.
        """
        if self.side:
            library = "iaside" if self.name in ARCHITECTURES else recipe_of(self.name)["library"]
            return library, self.name, self.classes, (self.side, self.side)
        recipe = as_object(Path(self.recipe).read_text("utf-8")) if self.recipe else None
        if self.factory:
            return self.factory, json.dumps(recipe, sort_keys=True)
        recipe = recipe or recipe_of(self.name)
        name, size = recipe["architecture"], tuple(recipe["input_size"][-2:])
        if recipe["library"] == "timm":  # a tag says which weights
            name = name.partition(".")[0]
        return recipe["library"], name, recipe["num_classes"], size

    def input_side(self) -> int:
        """The shorter side of what it looks at; without a side or recipe that of ImageNet's."""
        if self.recipe is None:
            return self.side or SIDE
        size = json.loads(Path(self.recipe).read_text("utf-8")).get("input_size") or [SIDE]
        return min(size[-2:])


@by_content
class Part(NamedTuple):
    """What one network has to do in a stage.

    passes (2,): images forward, gradients back;  batch: images a pass, None for the fastest;
    grads: images a pass with gradients;  images: kept in memory;  bands: of a game;  disk: bytes
    written, checkpoints: besides, files of weights;  alone: one thread, several networks at a time;
    corrupt: (what is corrupted, its pixels times severities), once for all stages with the same;
    gradients: the precision of passes that have one;  engine: who answers those that have none.
    """

    network: Network
    passes: np.ndarray
    precision: str
    batch: int | None = BATCH
    grads: int = 0
    images: int = 0
    bands: int = 0
    disk: int = 0
    checkpoints: int = 0
    alone: bool = False
    trains: bool = False
    corrupt: tuple | None = None
    gradients: str = "float32"
    engine: str = "torch"


class Study(NamedTuple):
    """The sections of a params.yaml, and the project's folder, where recipes are."""

    params: dict
    root: Path

    def network(self, model: Mapping) -> Network:
        """The architecture of an entry of ``models``; of a network still to be trained, its plan's.

        Errors: UsageError for a plan or a network that the study does not have.
        """
        recipe, weights = self.root / (model.get("recipe") or ""), Path(model.get("weights") or "")
        if recipe.is_file():
            return Network(model["name"], str(recipe), factory=model.get("factory"))
        if weights.parts[:3] != ("results", "training", "networks"):
            if "factory" in model:
                raise UsageError(
                    f"there is no {model['recipe']} yet, without which nobody knows what "
                    f"{model['factory']} builds: run `python data/fetch.py --study` with this "
                    "study first"
                )
            return Network(model["name"])
        of, name = weights.parts[3:5]
        plans = self.params["training"]["plans"]
        if of not in plans or name not in (found := self.trained({of: plans[of]})):
            raise UsageError(f"{weights} is of no network that training.plans names")
        return found[name][1]

    def trained(self, plans: Mapping) -> dict[str, tuple[dict, Network, int, int]]:
        """name -> complete settings, architecture, training images, held-out images."""
        shared = {k: v for k, v in self.params["training"].items() if k != "plans"}
        found = {}
        for name, settings in networks(plans).items():
            settings = complete(settings, shared)
            only = settings["classes"]
            n, held, classes = _split(
                settings["images"],
                settings["held_out"],
                tuple(only) if isinstance(only, list) else only,
            )
            network = Network(settings["architecture"], None, classes, settings["side"])
            found[name] = settings, network, n, held
        return found


_split = functools.lru_cache(split_size)
