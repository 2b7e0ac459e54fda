"""The table that an examination of attribution methods fills, and its number of passes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from iaside.attribution.faithfulness import RANKS
from iaside.attribution.maps import EXPLORERS, map_passes
from iaside.backend.files import reading
from iaside.inputs.probe import PROBE
from iaside.robustness.perturb import attack_passes
from iaside.tables import checked, load_table, save_table

# What they should add up to is the change from black of the probability, of deeplift the logit's.
# Guided IG does so on smooth networks: its points see slopes that are the smallest before a move.
FROM_BLACK = ("integrated_gradients", "guided_ig", "deeplift")
QUANTITIES = (
    "insertion",
    "insertion_channel",
    "deletion",
    "infidelity",
    "total",
    "change",
    "success",
    "passes",
    "similarity",
    "radius",
    "ties",
    "ties_channel",
)


@dataclass(eq=False)
class Examination:
    """Metrics of each variant of a method on each image: a row per variant, a column per image.

    tables (K, N) float64, nan where it was not asked or means nothing: ``insertion``, ``deletion``
    areas; ``ties`` the share of the pixels whose order there is random, as another one has the same
    attribution; ``insertion_channel`` and ``ties_channel``, where every channel is ordered for
    itself; ``infidelity``; ``total`` the sum of the attribution and ``change`` what it
    should sum to; ``success`` whether the attack along the way changed the prediction;
    ``passes`` images that the model saw with gradients; ``similarity`` to the map of the randomly
    initialised control; ``radius`` the cutoff; ``correct <judge>`` whether that network classifies
    the attacked image correctly. The last and ``success`` are nan too where the attack had no
    usable gradient, and so is everything but ``passes`` and ``radius`` where a map is all zero.
    maps (K, S, H, W) float16, heat maps of the first S images, scaled to a largest absolute value
    of 1; variants: name -> method and options.

    >>> e = Examination({"a": {"method": "saliency"}}, {"insertion": np.ones((1, 2))}, {}, None)
    >>> e.rows("a")
    {'insertion': array([1., 1.])}
    """

    variants: dict[str, dict]
    tables: dict[str, np.ndarray]
    provenance: dict
    maps: np.ndarray | None

    def rows(self, variant: str) -> dict[str, np.ndarray]:
        """All quantities of one variant, (N,) each. Errors: ValueError naming those measured."""
        if variant not in self.variants:
            raise ValueError(f"{variant!r} was not examined; there is: {', '.join(self.variants)}")
        k = list(self.variants).index(variant)
        return {name: table[k] for name, table in self.tables.items()}

    def save(self, path: str | os.PathLike, **more: np.ndarray) -> None:
        """Write everything, and further arrays, to one npz, whole or not at all."""
        save_table(path, self.provenance, self.tables | {"maps": self.maps} | more)

    @classmethod
    def load(cls, path: str | os.PathLike) -> tuple[Examination, dict[str, np.ndarray]]:
        """Read what ``save`` wrote, and the further arrays.

        Errors: FileNotFoundError, or ValueError for another file, or one without a quantity.
        """
        with reading(path, "an attribution table", "measure it (80_attributions)"):
            provenance, arrays = load_table(path)
            variants = {name: provenance["variants"][name] for name in provenance["rows"]}
            k, n = len(variants), arrays["insertion"].shape[-1]
            tables = {
                name: checked(arrays.pop(name), name, (k, n))
                for name in dict.fromkeys((*QUANTITIES, *provenance["quantities"]))
            }
            maps = checked(arrays.pop("maps"), "maps", (k, None, None, None))
            return cls(variants, tables, provenance, maps), arrays


def examination_passes(
    variants: Mapping[str, Mapping],
    n_images: int,
    n_judges: int = 0,
    only: Mapping[str, int] | None = None,
    n_twin: int = 0,
    steps: int = 224,
    infidelity_samples: int = 10,
) -> np.ndarray:
    """Images that ``examine`` shows model, control and judges, and gradients it asks, (2,) int64.

    An upper bound where a method of the variants has one (``map_passes``).

    >>> examination_passes({"a": {"method": "saliency"}}, 2, steps=4, infidelity_samples=0).tolist()
    [40, 2]
    """
    looks = PROBE * (1 + (n_twin > 0) + n_judges)
    total = np.array([looks + n_images, 0])  # with what is predicted
    curve, attacked = np.array([steps + 1, 0]), {}  # images, by the attack
    for name, variant in variants.items():
        n, whole = (only or {}).get(name, n_images), name not in (only or {})
        options = dict(variant)
        method = options.pop("method")
        attacks = method in ("clean", "pgd", *EXPLORERS)
        each = np.array([n_judges if whole and attacks else 0, 0])
        if method == "pgd":
            each += attack_passes("pgd", steps=options.get("steps"), at_once=None)
        elif method != "clean":
            a_map = map_passes(method, **options) - (PROBE, 0)  # the model has been seen
            asked = {"model": n, "twin": min(n, n_twin) if whole else 0}
            for net, images in asked.items():
                attack = (net, *attack_of(variant)) if method in EXPLORERS else (net, name)
                before = attacked.get(attack, 0)
                total += max(0, images - before) * a_map
                attacked[attack] = max(images, before)
            each += curve * (len(RANKS) + whole)
            each[0] += 2 if method in FROM_BLACK else 0
            if whole:
                each[0] += infidelity_samples + 1 if infidelity_samples else 0
        total += n * each
    return total


def attack_of(variant: Mapping) -> tuple:
    """The options that determine the attack behind a map of FAMPE or AttEXplore."""
    return tuple(sorted((name, repr(v)) for name, v in variant.items() if name != "product"))
