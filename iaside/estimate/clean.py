"""Accuracy on clean images: what a provenance stores of it, and the warning near chance."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike


def clean_summary(known: Mapping[str, np.ndarray], classes: int | None) -> dict:
    """The entry of a provenance about clean images: {"clean": {...}}, or {}.

    known: name -> (N,), of which ``log_likelihood`` (nats) and ``accuracy`` are kept;  classes: of
    the model, None where it has none.

    >>> clean_summary({"log_likelihood": np.log([0.5, 0.5]), "accuracy": np.ones(2)}, 2)["clean"]
    {'classes': 2, 'n': 2, 'correct': 2.0, 'log_likelihood': -0.693147}
    """
    if classes is None or not {"log_likelihood", "accuracy"} <= set(known):
        return {}
    right, log_p = known["accuracy"], known["log_likelihood"]
    clean = {
        "classes": classes,
        "n": len(right),
        "correct": float(right.sum()),
        "log_likelihood": round(float(log_p.mean()), 6),
    }
    return {"clean": clean}


def at_floor(about: Mapping, tables: Mapping[str, np.ndarray]) -> dict:
    """What a provenance keeps of worths log 1e-12, to which probabilities of 0 are raised, with a
    warning where there are some: {"floored": [how many, of how many]}, or {}.

    about: the provenance, whose ``outputs`` says whether there can be any;  tables: value -> worths
    in any shape, nan where there is none.

    >>> at_floor({"outputs": "probabilities"}, {"log_likelihood": np.array([-1.0, -2.0, np.nan])})
    {'floored': [0, 2]}
    """
    if about["outputs"] != "probabilities" or "log_likelihood" not in tables:
        return {}
    log_p = np.asarray(tables["log_likelihood"])
    found = [int((log_p <= np.log(1.01e-12)).sum()), int(np.isfinite(log_p).sum())]
    if found[0]:
        warnings.warn(
            f"{_floors(found)}: the model gives probabilities too small for their numbers, and "
            "what these worths would be is not known; give the logits where there are some",
            RuntimeWarning,
            stacklevel=5,
        )
    return {"floored": found}


def _floors(found: Sequence[int]) -> str:
    return f"{found[0]:,} of {found[1]:,} worths at the floor log 1e-12"


def clean_line(about: Mapping, level: float = 0.95) -> str:
    """Say how well a model knows its classes, from a provenance; "" where that was not seen.

    >>> print(clean_line({"clean": {"classes": 2, "n": 4, "correct": 4, "log_likelihood": -0.1}}))
    2 classes; clean images: top-1 4 of 4, 100% [51%, 100%] (by chance 50%); mean log-likelihood
    -0.1 (of guessing -0.693)
    """
    clean = about.get("clean")
    if not clean:
        return ""
    classes, n, correct = clean["classes"], clean["n"], clean["correct"]
    given = about.get("outputs", "logits")
    how = "" if given == "logits" else f" from {given}"
    floors = f"; {_floors(about['floored'])}" if "floored" in about else ""
    asked = f"\nasked with {about['asked']}" if "asked" in about else ""
    if "labels_from" in about:
        asked += f"\nthe labels are those that {about['labels_from']} itself gives"
    guess = -np.log(classes)
    low, high = wilson(correct / n, n, level)
    return (
        f"{classes} classes{how}; clean images: top-1 {correct:g} of {n}, "
        f"{correct / n:.0%} [{low:.0%}, {high:.0%}] (by chance {100 / classes:.2g}%); mean "
        f"log-likelihood\n{clean['log_likelihood']:.3g} (of guessing {guess:.3g}){floors}{asked}"
    )


def warn_of_chance(about: Mapping, gain: ArrayLike | None = None, level: float = 0.95) -> None:
    """Warn where answers to the clean images are not clearly better than none.

    about: a provenance with ``clean``;  gain (N,): v(all) - v(none) of each image.
    Source: Wilson's interval of top-1 against 1 / classes, Student's of the mean gain against 0.
    """
    clean = about.get("clean")
    if clean and wilson(clean["correct"] / clean["n"], clean["n"], level)[0] <= (
        1 / clean["classes"]
    ):
        warnings.warn(
            f"not clearly better than chance: {clean_line(about, level)}; do the labels, the order "
            "of colours and the scale of pixels fit the model?".replace("\n", " "),
            RuntimeWarning,
            stacklevel=5,
        )
    if gain is not None and may_be_zero(gain, level):
        warnings.warn(
            f"v(all) - v(none) is {np.mean(gain):.3g} on average, not clearly above 0: "
            "shares of it say nothing",
            RuntimeWarning,
            stacklevel=5,
        )


def may_be_zero(gain: ArrayLike, level: float = 0.95) -> bool:
    """Whether the mean of gains (N,) is not clearly above 0, by Student's interval.

    Of one image there is none: it counts if it is above 0.

    >>> may_be_zero([1.0, 1.1, 0.9]), may_be_zero([1.0, -1.0, 0.5])
    (False, True)
    """
    gain = np.asarray(gain, dtype=float)
    if len(gain) < 2:
        return not gain.mean() > 0
    reach = scipy.stats.t.ppf((1 + level) / 2, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
    return not gain.mean() - reach > 0


def wilson(p: ArrayLike, n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits of a share p (...) of n right answers, each of its shape.

    >>> wilson(1.0, 4)[0].round(2)
    np.float64(0.51)
    """
    p = np.asarray(p, dtype=float)
    z2 = scipy.stats.norm.ppf((1 + level) / 2) ** 2 / n
    centre = (p + z2 / 2) / (1 + z2)
    reach = np.sqrt(z2 * (p * (1 - p) + z2 / 4)) / (1 + z2)
    return centre - reach, centre + reach
