"""What there is to do about a damaged band, what is done in a study, and the table of that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.content import by_content
from iaside.backend.files import reading
from iaside.tables import Condition, checked, load_table, save_table
from iaside.training.plans import BANDS

REMEDIES = {  # remedy -> the penalty of a plan, its usual strength, and what that is
    "augmentation": ("white_noise", 0.1, "root mean square of the noise, up to 1"),
    "dropout": ("coalition_dropout", 0.5, "probability that the band is left out, below 1"),
    "penalty": ("band_share", 0.5, "weight of the band's share of the input gradient"),
}
ELSEWHERE = "_elsewhere"  # the same remedy, in the band that is damaged least
ARMS = {  # what is done, in words
    "none": "no remedy",
    "adversarial": "PGD training",
    "white_noise": "noise in all bands",
    "augmentation": "noise in the band",
    "augmentation_elsewhere": "noise in another band",
    "dropout": "dropout of the band",
    "dropout_elsewhere": "dropout of another band",
    "penalty": "penalty on the band",
    "penalty_elsewhere": "penalty on another band",
}


def arm_factors(arm: str, diagnosis: Diagnosis, strengths: Mapping[str, float]) -> dict:
    """What an arm changes of a plan's factors, for a network that was diagnosed so.

    strengths: remedy -> its strength; that of augmentation is the noise in all bands too.

    >>> found = Diagnosis(*[np.zeros(8)] * 3, band=7, elsewhere=1)
    >>> arm_factors("dropout_elsewhere", found, {"dropout": 0.5})
    {'penalty': 'coalition_dropout', 'strength': 0.5, 'band': 1}
    """
    if arm == "none":
        return {}
    if arm == "adversarial":
        return {"adversary": "pgd"}
    if arm == "white_noise":
        return remedy_factors("augmentation", None, strengths["augmentation"])
    remedy = arm.removesuffix(ELSEWHERE)
    band = diagnosis.elsewhere if arm.endswith(ELSEWHERE) else diagnosis.band
    return remedy_factors(remedy, band, strengths[remedy])


def arm_name(factors: Mapping) -> str:
    """The name of the network that an arm leads to; arms that do the same share it.

    >>> arm_name({}), arm_name({"adversary": "pgd"}), arm_name(remedy_factors("penalty", 3))
    ('none', 'pgd', 'band_share-band3')
    """
    parts = [factors.get("adversary"), factors.get("penalty")]
    if factors.get("band") is not None:
        parts.append(f"band{factors['band']}")
    return "-".join(filter(None, parts)) or "none"


@by_content
class Diagnosis(NamedTuple):
    """What a deployment does to a network, band by band, each (M,), and where it hurts."""

    survival: np.ndarray  # share of each band that is left, w
    values: np.ndarray  # Shapley value of each band, psi, in nats
    damage: np.ndarray  # (1 - w) max(psi, 0), in nats
    band: int  # of the largest damage: what a remedy is targeted at
    elsewhere: int  # of the least: where the same remedy must not help


def diagnose(values: ArrayLike, survival: ArrayLike) -> Diagnosis:
    """Find the band that a deployment damages most, and the one that it damages least.

    Of bands that are damaged alike, the least damaged is the one farthest from the most damaged.

    Shapes: values (M, N) of the bands of every image, survival (M, n) of these or other images
    (`survival_per_image`).
    Errors: ValueError for shapes that differ, fewer than two bands, and where nothing is damaged.
    Source: docs/methods.md, Mending.

    >>> values = np.array([[2.0], [1.0], [3.0]]) + np.zeros((3, 9))
    >>> found = diagnose(values, np.array([[0.9], [0.5], [0.5]]) + np.zeros((3, 9)))
    >>> found.damage.round(2).tolist(), found.band, found.elsewhere
    ([0.2, 0.5, 1.5], 2, 0)
    """
    values, survival = np.asarray(values, dtype=float), np.asarray(survival, dtype=float)
    if values.ndim != 2 or survival.ndim != 2 or len(values) != len(survival) or len(values) < 2:
        raise ValueError(
            f"values and survival must be (M, N) and (M, n), M >= 2, of the same bands; got "
            f"{values.shape} and {survival.shape}"
        )
    w, psi = survival.mean(1), values.mean(1)
    damage = (1 - w) * np.maximum(psi, 0)
    if not damage.any():
        raise ValueError(
            "the deployment damages no band that the network gains anything by: there is nothing "
            "to mend; is it the network, and are these the pictures, that you mean?"
        )
    band = int(damage.argmax())
    least = np.flatnonzero(damage == damage.min())
    elsewhere = int(least[np.abs(least - band).argmax()])
    return Diagnosis(w, psi, damage, band, elsewhere)


def remedy_factors(remedy: str, band: int | None, strength: float | None = None) -> dict:
    """The factors of a plan that a remedy in a band stands for; no band: in all of them.

    Errors: ValueError for a remedy that is not known or a strength that it cannot have.

    >>> remedy_factors("augmentation", 7)
    {'penalty': 'white_noise', 'strength': 0.1, 'band': 7}
    """
    if remedy not in REMEDIES:
        raise ValueError(f"remedy={remedy!r} is not known; choose one of {', '.join(REMEDIES)}")
    penalty, usual, what = REMEDIES[remedy]
    strength = usual if strength is None else strength
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not number or not 0 < strength <= (1e6 if remedy == "penalty" else 1):
        raise ValueError(f"strength={strength!r} of {remedy} must be above 0: it is the {what}")
    return {"penalty": penalty, "strength": float(strength), "band": band}


@dataclass(eq=False)
class Mending:
    """What every arm did to one network, for every deployment D that was diagnosed.

    deployments: in their order, with strengths;  correct (A, D, 1 + D, n) bool and log_likelihood
    (A, D, 1 + D, n): of the arms in the order of ``ARMS``, fine-tuned for a deployment and asked
    about clean images and all deployments;  before (1 + D, n), before_log: of the network as it
    was;  survival, damage (D, M), values (M,), band, elsewhere (D,): the diagnoses;  place (D,):
    the mean band of each deployment's change, from 0 to 1;  passes (A, D, 2): of the fine-tuning.
    """

    deployments: list[Condition]
    correct: np.ndarray
    log_likelihood: np.ndarray
    before: np.ndarray
    before_log: np.ndarray
    values: np.ndarray
    survival: np.ndarray
    damage: np.ndarray
    band: np.ndarray
    elsewhere: np.ndarray
    place: np.ndarray
    passes: np.ndarray
    provenance: dict

    def gain(self, arm: str, other: str, deployment: int, under: int | None = None) -> np.ndarray:
        """Right answers of one arm less those of another, of every image, (n,).

        deployment: of the diagnosis;  under: the deployment that is asked about, -1 for clean
        images, None for the same.
        """
        at = 1 + (deployment if under is None else under)
        one, two = (self.correct[list(ARMS).index(a), deployment, at] for a in (arm, other))
        return one.astype(float) - two

    def opposite(self, deployment: int) -> int:
        """The deployment that changes pictures farthest from where this one does."""
        return int(np.abs(self.place - self.place[deployment]).argmax())

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one npz, whole or not at all."""
        note = self.provenance | {"deployments": [list(c) for c in self.deployments]}
        save_table(path, note, {name: getattr(self, name) for name in _SHAPES})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Mending:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        with reading(path, "a table of mending", "measure it (85_mend)"):
            provenance, arrays = load_table(path)
            conditions = [Condition(*c) for c in provenance.pop("deployments")]
            d, n = len(conditions), arrays["before"].shape[-1]
            sizes = {"A": len(ARMS), "D": d, "C": 1 + d, "M": BANDS, "n": n, "2": 2}
            for name, (shape, kinds) in _SHAPES.items():
                checked(arrays[name], name, tuple(sizes[k] for k in shape), kinds)
            return cls(conditions, **{k: arrays[k] for k in _SHAPES}, provenance=provenance)


_SHAPES = {  # array -> its dimensions, and kinds of numbers
    "correct": ("ADCn", "b"),
    "log_likelihood": ("ADCn", "f"),
    "before": ("Cn", "b"),
    "before_log": ("Cn", "f"),
    "values": ("M", "f"),
    "survival": ("DM", "f"),
    "damage": ("DM", "f"),
    "band": ("D", "i"),
    "elsewhere": ("D", "i"),
    "place": ("D", "f"),
    "passes": ("AD2", "iu"),
}
