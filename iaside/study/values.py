"""What each parameter of a study may be, by the rules of the modules that take it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from iaside.study.parameters import UsageError

MAY_BE_EMPTY = (
    "architecture.transformers",
    "attributions.alphas",
    "claims.recorded",
    "robustness.strong_eps",
    "profiles.strong_eps",
    "robustness.band_eps",
    "correlation.ours",
)
Rule = tuple[str, Callable[[Any], bool]]  # in words, and as a test


def check_value(where: str, value: Any, rule: Rule | None) -> None:
    """Refuse a parameter (of a list: each) that breaks the rule of its name."""
    if value == [] and where not in MAY_BE_EMPTY:
        raise UsageError(f"{where} is an empty list: name one at least, in the study")
    if isinstance(value, list):
        times = Counter(v if isinstance(v, str | int | float) else repr(v) for v in value)
        if twice := [v for v, n in times.items() if n > 1]:
            raise UsageError(f"{where} names {twice[0]!r} more than once: leave the others out")
    if rule is None:
        return
    words, holds = rule
    for v in value if isinstance(value, list) and not where.startswith("runtime.") else [value]:
        try:
            fine = holds(v)
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise UsageError(f"{where} is {v!r}, but must be {words}: correct it in the study")


def rules() -> dict[str, Rule]:
    """Name of a parameter -> what it may be. Most names mean the same in all notebooks."""
    from iaside.attribution import baselines, maps
    from iaside.attribution.faithfulness import SUBSTRATES
    from iaside.backend.device import pick_device
    from iaside.backend.engine import ENGINES, installed
    from iaside.game.absence import ABSENCES
    from iaside.game.exact import MAX_BANDS
    from iaside.game.players import PLAYERS, wavelet_bands
    from iaside.game.values import VALUES
    from iaside.inputs.recipes import LARGEST_SIDE
    from iaside.score import spectral_importance
    from iaside.spectral import METRICS, SPACINGS
    from iaside.tables import CORRUPTIONS

    def one_of(*names: str) -> Rule:
        return f"one of {', '.join(names)}", lambda v: v in names

    def whole(least: int, most: int = 1_000_000) -> Rule:
        words = f"a whole number from {least} to {most:,}"
        return words, lambda v: type(v) is int and least <= v <= most

    def between(low: float, high: float, words: str) -> Rule:
        return words, lambda v: type(v) in (int, float) and low < v < high

    def each(rule: Rule, *names: str) -> dict[str, Rule]:
        return dict.fromkeys(names, rule)

    tiny = 5e-324  # so that an end belongs to a range
    share = between(-tiny, 1 + 1e-12, "a share from 0 to 1")
    positive = between(0, 1e6 + 1e-9, "a number above 0 and up to 1,000,000")
    odd = "an odd whole number from 1", lambda v: type(v) is int and v > 0 and v % 2 == 1
    own = [f.__name__ for f in baselines.METHODS]
    methods = [*(name for name in maps.METHODS if name not in own), *own]
    return {
        "metric": one_of(*METRICS),
        "spacing": one_of(*SPACINGS),
        "worths.players": one_of(*PLAYERS),
        "wavelet": ("a discrete wavelet of PyWavelets", lambda v: wavelet_bands(v) is not None),
        "absence": one_of(*ABSENCES),
        "values": one_of(*VALUES),
        "substrate": one_of(*SUBSTRATES),
        "methods": one_of(*methods),
        "prior": one_of(*methods),
        "precision": one_of("float32", "bfloat16"),
        "engine": (
            "torch, or openvino where it is installed (pip install 'iaside[engine]')",
            lambda v: v in installed(),
        ),
        "worths.engine": (
            "torch or openvino, both installed (pip install 'iaside[engine]'): the "
            "controls compare them",
            lambda v: v in ENGINES and len(installed()) == len(ENGINES),
        ),
        "normalise": (
            "minmax, share, positive or softmax",
            lambda v: v != "none" and spectral_importance([2.0, 1.0], v) is not None,
        ),
        "severities": whole(1, 5),
        "n_bands": whole(2, MAX_BANDS),
        "mosaic_bands": whole(3, MAX_BANDS),
        "seed": whole(0, 2**31 - 1),  # as NumPy, torch and the corruptions take it, and a few more
        **each(
            whole(1),
            "steps",
            "samples",
            "path_steps",
            "class_steps",
            "epochs",
            "attributions.classes",
            "insertion_steps",
            "n_draws",
            "n_intervals",
            "sizes",
            "interval_sizes",
            "n_initialisations",
            "n_judged",
            "resolution.bands",
            "grid",
            "grid_steps",
            "grid_samples",
            "n_beta",
        ),
        **each(whole(1, 10**9), "n_images", "budget"),
        "side": whole(1, LARGEST_SIDE),
        "batch": whole(2),
        "training.classes": (
            "null, a whole number from 1, or a list of their names",
            lambda v: v is None or (type(v) is int and v > 0) or (isinstance(v, str) and v != ""),
        ),
        **each(
            ("a name", lambda v: isinstance(v, str) and v != ""),
            "claims.recorded",
            "claims.reports",
            "summaries.train",
            "summaries.test",
        ),
        **each(
            whole(0),
            "n_control",
            "n_attack",
            "n_sparse",
            "n_heat",
            "n_twin",
            "n_shown",
            "n_grid",
            "infidelity_samples",
            "warm_up",
        ),
        **each(whole(100), "n_resamples", "interval_resamples"),
        **each(odd, "kernel", "blur_kernels", "heat_grid"),
        **each(between(0, 1, "a number between 0 and 1, both excluded"), "beta", "held_out"),
        **each(share, "alpha", "alphas", "grid_alphas", "amount"),
        **each(
            between(0, 1 + 1e-12, "a share above 0 and up to 1"),
            "kappa",
            "grid_kappas",
            "energy",
            "contrast",
        ),
        **each(
            between(0, 1 + 1e-12, "above 0 and up to 1, as pixels are"),
            "attack_eps",
            "strong_eps",
            "band_eps",
            "band_noise",
            "noise_sigma",
            "noise_sd",
            "sigma",
            "noise",
        ),
        **each(positive, "photons", "heat_norm", "recommended"),
        "dropout": between(0, 1, "a probability between 0 and 1, both excluded"),
        **each(positive, "mend.lr", "weight"),
        "deployments": (
            f"`corruption: severity` pairs, a severity from 1 to 5 of each of some of "
            f"{', '.join(CORRUPTIONS)}",
            lambda v: bool(v) and all(c in CORRUPTIONS and whole(1, 5)[1](s) for c, s in v.items()),
        ),
        "eps": between(0, 255 + 1e-9, "above 0 and up to 255, in 1/255"),
        "device": (
            "auto, or a device that is here: cpu, cuda, mps",
            lambda v: pick_device(v) is not None,
        ),
        **each(
            ("null or a whole number from 1 to 1,000,000", lambda v: v is None or whole(1)[1](v)),
            "batch_size",
        ),
        "published": (
            "null, or the folder of ImageNet-C or CIFAR-10-C as published",
            lambda v: v is None or (isinstance(v, str) and v != ""),
        ),
        "workers": (
            "null, a number of processes from 1, or the address of a Dask scheduler, such "
            "as tcp://host:8786",
            lambda v: (
                v is None or whole(1)[1](v)
                if not isinstance(v, str)
                else re.fullmatch(r"[a-z]+://[^/\s]+", v)
            ),
        ),
    }
