"""Which networks a training study has, and what was measured of each."""

from __future__ import annotations

import csv
import difflib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from iaside.backend.files import read_npz, reading
from iaside.tables import Responses, Worths, checked

ADVERSARIES = ("none", "fgsm", "pgd")
PENALTIES = (
    "none",
    "jafr",
    "jafr_radial",
    "lsf",
    "msf",
    "hsf",
    "asf",
    "coalition_dropout",
    "gradalign",
    "band_share",
    "white_noise",
)
BANDS = 8  # that training knows: `band_masks`, linf
IN_A_BAND = ("coalition_dropout", "band_share", "white_noise")  # those that `band` may confine
FACTORS = {  # what tells one network from another, in the order of their names: the default
    "architecture": None,
    "images": None,
    "noise": 0.0,
    "fraction": 1.0,
    "adversary": "none",
    "penalty": "none",
    "strength": 0.0,
    "band": None,
    "augment": False,
    "seed": 0,
}
SHARED = (  # settings of the study that a plan may have its own value of
    "classes",
    "side",
    "epochs",
    "every",
    "batch",
    "lr",
    "schedule",
    "momentum",
    "weight_decay",
    "flip",
    "eps",
    "steps",
    "warm_up",
)
_ALLOWED = {  # factor -> (the rule in words, the rule)
    "architecture": ("a name", lambda v: isinstance(v, str) and v != ""),
    "images": ("a name or a path", lambda v: v is None or isinstance(v, str)),
    "noise": ("a share of the labels, from 0 to 1", lambda v: 0 <= v <= 1),
    "fraction": ("a share of the training set, above 0 and up to 1", lambda v: 0 < v <= 1),
    "adversary": (f"one of {', '.join(ADVERSARIES)}", lambda v: v in ADVERSARIES),
    "penalty": (f"one of {', '.join(PENALTIES)}", lambda v: v in PENALTIES),
    "strength": (
        f"a number, or a list of {BANDS} in the list of strengths, one for each band",
        lambda v: all(map(math.isfinite, v if isinstance(v, list) else [v])),
    ),
    "band": (
        f"null, or one of the {BANDS} bands of training, 0 to {BANDS - 1}",
        lambda v: v is None or (type(v) is int and 0 <= v < BANDS),
    ),
    "augment": ("true or false", lambda v: isinstance(v, bool)),
    "seed": ("a whole number from 0", lambda v: type(v) is int and v >= 0),
}


def networks(plans: Mapping[str, Mapping]) -> dict[str, dict]:
    """The networks that some plans stand for, by name, in the order of the plans.

    plans: name -> {factor or shared setting: a value, or a list of values of a factor}; a plan
    stands for the cross product of its lists. The settings of a network hold every factor of
    ``FACTORS``, ``plan``, ``every`` and the shared settings that its plan has for itself. The
    strength of coalition dropout may be a list in the list, one for each band. A name
    is the architecture and what differs from the defaults, e.g. "small_cnn-noise0.4-seed1".

    Errors: ValueError for a factor that is unknown, missing or out of range, and for a network
    that two plans (or one twice) would train.

    >>> list(networks({"clean": {"architecture": "small_cnn", "seed": [0, 1]}}))
    ['small_cnn-seed0', 'small_cnn-seed1']
    """
    found: dict[str, dict] = {}
    for plan, given in plans.items():
        for name in given:
            if name not in (*FACTORS, *SHARED):
                close = difflib.get_close_matches(name, (*FACTORS, *SHARED), n=1)
                raise ValueError(
                    f"plan {plan!r} sets {name!r}, which is no factor or shared setting; "
                    + (
                        f"did you mean {close[0]!r}?"
                        if close
                        else f"there is: {', '.join((*FACTORS, *SHARED))}"
                    )
                )
            if name in SHARED and isinstance(given[name], list):
                raise ValueError(
                    f"plan {plan!r} has a list for {name!r}: only factors may vary in a plan; "
                    "give one value, and a plan of its own to each other value"
                )
        if "architecture" not in given:
            raise ValueError(f"plan {plan!r} names no architecture; add `architecture: small_cnn`")
        own = {name: value for name, value in given.items() if name in SHARED}
        lists = [_values(plan, name, given.get(name, FACTORS[name])) for name in FACTORS]
        for values in product(*lists):
            factors = dict(zip(FACTORS, values, strict=True))
            _check_penalty(plan, factors)
            name = _name(factors)
            if name in found:
                raise ValueError(
                    f"{name} is in plan {found[name]['plan']!r} and again in {plan!r}: it would "
                    "be trained twice. List it in one of them; reports find it by its factors"
                )
            found[name] = {**factors, "every": 0, **own, "plan": plan}
    return found


def _values(plan: str, name: str, value) -> list:
    values = value if isinstance(value, list) else [value]
    rule, holds = _ALLOWED[name]
    for v in values:
        try:
            fine = holds(v)
        except TypeError:
            fine = False
        if not fine:
            raise ValueError(f"plan {plan!r} has {name}: {v!r}; it must be {rule}")
    if not values:
        raise ValueError(f"plan {plan!r} has an empty list for {name}: it would train nothing")
    if type(FACTORS[name]) is not float:
        return values
    # 1 and 1.0 are one network
    return [tuple(map(float, v)) if isinstance(v, list) else float(v) for v in values]


def _check_penalty(plan: str, factors: dict) -> None:
    penalty, strength = factors["penalty"], factors["strength"]
    if (penalty == "none") != (strength == 0):
        raise ValueError(
            f"plan {plan!r} has penalty {penalty!r} with strength {strength!r}: the strength is "
            "to be 0 exactly where the penalty is none; give networks without one their own plan"
        )
    by_band = isinstance(strength, tuple)
    if by_band and (penalty != "coalition_dropout" or factors["band"] is not None):
        raise ValueError(
            f"plan {plan!r} has a strength for each band with penalty {penalty!r}, band "
            f"{factors['band']}: only coalition_dropout without a band takes one, "
            "`strength: [[0, ...]]`"
        )
    if by_band and not (len(strength) == BANDS and all(0 <= p <= 1 for p in strength)):
        raise ValueError(
            f"plan {plan!r} has coalition_dropout with strength {list(strength)}: it must be the "
            f"probability that a band is left out, from 0 to 1, of each of the {BANDS} bands"
        )
    if by_band and len(set(strength)) == 1:
        raise ValueError(
            f"plan {plan!r} has coalition_dropout with the same strength in every band, "
            f"{list(strength)}: give the one number"
        )
    if penalty == "coalition_dropout" and not (by_band or 0 < strength < 1):
        raise ValueError(
            f"plan {plan!r} has coalition_dropout with strength {strength!r}: it is the "
            "probability that a band is left out, between 0 and 1"
        )
    if penalty == "white_noise" and not 0 < strength <= 1:
        raise ValueError(
            f"plan {plan!r} has white_noise with strength {strength!r}: it is the root mean square "
            "of the noise, above 0 and up to 1, as pixels are"
        )
    if factors["band"] is not None and penalty not in IN_A_BAND:
        raise ValueError(
            f"plan {plan!r} has band {factors['band']} with penalty {penalty!r}: only "
            f"{', '.join(IN_A_BAND)} can be confined to a band"
        )
    if penalty == "band_share" and factors["band"] is None:
        raise ValueError(f"plan {plan!r} has band_share without a band: name it, `band: 7`")


def _name(factors: dict) -> str:
    parts = [factors["architecture"]]
    if factors["images"]:
        parts.append(Path(factors["images"]).stem)
    for name in ("noise", "fraction"):
        if factors[name] != FACTORS[name]:
            parts.append(f"{name}{factors[name]:g}")
    if factors["adversary"] != "none":
        parts.append(factors["adversary"])
    if factors["penalty"] != "none":
        strength = factors["strength"]
        each = strength if isinstance(strength, tuple) else [strength]
        parts.append(factors["penalty"] + "_".join(f"{s:g}" for s in each))
    if factors["band"] is not None:
        parts.append(f"band{factors['band']}")
    if factors["augment"]:
        parts.append("augment")
    return "-".join([*parts, f"seed{factors['seed']}"])


@dataclass(eq=False)
class Profile:
    """One trained network: its settings and measurements.

    name, settings: as ``networks`` gives them;  epochs: those measured, the last is the final one;
    worths: epoch -> the game on held-out photographs;  answers: the arrays of answers.npz;
    responses: of the final network, None if not measured;  log: a dict per epoch of training.
    """

    name: str
    settings: dict
    epochs: list[int] = field(default_factory=list)
    worths: dict[int, Worths] = field(default_factory=dict)
    answers: dict[str, np.ndarray] = field(default_factory=dict)
    responses: Responses | None = None
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def final(self) -> Worths:
        """The game of the final network."""
        return self.worths[self.epochs[-1]]


def select(profiles: Mapping[str, Profile], **factors) -> dict[str, Profile]:
    """The profiles whose factors are the given ones, all others being at their default.

    A list, tuple or set of values means any of them; architecture and seed are free unless given.

    Errors: ValueError for an unknown factor.

    >>> made = networks({"a": {"architecture": "small_cnn", "noise": [0, 0.4]}})
    >>> profiles = {name: Profile(name, settings) for name, settings in made.items()}
    >>> list(select(profiles)), list(select(profiles, noise=[0, 0.2, 0.4]))
    (['small_cnn-seed0'], ['small_cnn-seed0', 'small_cnn-noise0.4-seed0'])
    """
    if unknown := sorted(set(factors) - set(FACTORS)):
        raise ValueError(f"{unknown[0]!r} is no factor; the factors are {', '.join(FACTORS)}")
    wanted = {n: v for n, v in FACTORS.items() if n not in ("architecture", "seed")} | factors
    any_of = {
        n: list(v) if isinstance(v, Iterable) and not isinstance(v, str) else [v]
        for n, v in wanted.items()
    }
    return {
        name: profile
        for name, profile in profiles.items()
        if all(profile.settings[n] in values for n, values in any_of.items())
    }


def load_profiles(
    plans: Mapping[str, Mapping],
    folder: str | os.PathLike = "results/profiles/tables",
    logs: str | os.PathLike = "results/training/networks",
) -> dict[str, Profile]:
    """Read what was measured of every network of some plans, by name.

    Errors: those of ``networks``; FileNotFoundError for a network that was not trained or
    measured, naming its plan and the stage to run.
    """
    return {
        name: _load(name, settings, Path(folder), Path(logs))
        for name, settings in networks(plans).items()
    }


def _load(name: str, settings: dict, folder: Path, logs: Path) -> Profile:
    plan = settings["plan"]
    log, measured = logs / plan / name / "log.csv", folder / plan / name
    for path, stage in ((log, "training"), (measured / "answers.npz", "profiles")):
        if not path.is_file():
            raise FileNotFoundError(
                f"no {path} of the network {name} of plan {plan!r}; run `dvc repro {stage}@{plan}`"
            )
    path = measured / "answers.npz"
    with reading(path, "answers of a network", f"run `dvc repro -f profiles@{plan}`"):
        answers = read_npz(path)
        answers.pop("provenance", None)
        epochs = checked(answers["epochs"], "epochs", (None,), "iu").tolist()
        checked(answers["correct"], "correct", (len(epochs), None), "b")
    files = [f"epoch-{epoch:03d}.npz" for epoch in epochs[:-1]] + ["final.npz"]
    worths = {
        epoch: Worths.load(measured / file) for epoch, file in zip(epochs, files, strict=True)
    }
    path = measured / "responses.npz"
    found = Responses.load(path) if path.is_file() else None
    return Profile(name, settings, epochs, worths, answers, found, load_log(log))


def load_log(path: str | os.PathLike) -> list[dict[str, float]]:
    """The rows of a network's log.csv, one per epoch. Errors: ValueError naming a damaged file."""
    with (
        reading(path, "the log of a training", "delete its folder and train again (68_training)"),
        open(path, newline="", encoding="utf-8") as file,
    ):
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("it holds no epoch")
        return rows
