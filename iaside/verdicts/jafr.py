"""Verdicts on the effects of JaFR, adversarial training and augmentation, from matched pairs.

study: the networks, as `pairs.Treatments` sorts them; recommended: the strengths of JaFR above 0
that decide, one for each kind of training. Every part is a mean over pairs of trainings. None where
the study has no such networks, or did not ask them that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import Levels
from iaside.training.pairs import (
    KINDS,
    Couples,
    Treatments,
    accuracy_gain,
    bias_difference,
    score_difference,
    share_of_wins,
)
from iaside.training.trends import unclear
from iaside.verdicts.rules import decide, withheld
from iaside.verdicts.shown import data_words

LOW, HIGH, ALL = "low corruptions", "high corruptions", "all corruptions"
Parts = dict[tuple[str | None, str], Levels]  # (data set, words) -> one


def adversarial_training_tradeoff(study: Treatments) -> dict | None:
    """Judge whether PGD training gains accuracy under PGD and loses it on low corruptions."""
    parts: Parts = {}
    for d in study.data_sets:
        both = study.couples(d, ("pgd", 0.0), ("none", 0.0))
        parts |= _gain(study, d, "gain under PGD", both, "PGD")
        parts |= _gain(study, d, "loss on low", both, LOW, sign=-1)
    return _judge("adversarial_training_tradeoff", study, parts)


def augmentation_low_reliance(study: Treatments, beta: float = 0.75) -> dict | None:
    """Judge whether augmentation raises the signed SRC and loses accuracy on low corruptions."""
    parts, note = {}, ""
    for d in study.data_sets:
        both = study.couples(d, ("none", 0.0, True), ("none", 0.0, False))
        own = _of(d, "rise of SRC", both, score_difference, beta)
        parts |= {name: withheld(part, _unclear(both)) for name, part in own.items()}
        parts |= _gain(study, d, "loss on low", both, LOW, sign=-1)
        note = note or _unclear(both)
    return _judge("augmentation_low_reliance", study, parts, note)


def jafr_high_gain(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR gains accuracy on high corruptions, in every kind of training."""
    parts: Parts = {}
    for d, kind, both in _with_and_without(study, recommended):
        parts |= _gain(study, d, KINDS[kind], both, HIGH)
    return _judge("jafr_high_gain", study, parts)


def jafr_low_loss(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR loses accuracy on low corruptions, in every kind of training."""
    parts: Parts = {}
    for d, kind, both in _with_and_without(study, recommended):
        parts |= _gain(study, d, KINDS[kind], both, LOW)
    return _judge("jafr_low_loss", study, parts)


def jafr_mirrored(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR below 0 gains on low and loses on high corruptions, standard training."""
    parts: Parts = {}
    for d in study.data_sets:
        if "none" in (best := study.best(d, recommended)):
            both = study.couples(d, ("none", -best["none"]), ("none", 0.0))
            parts |= _gain(study, d, "gain on low", both, LOW)
            parts |= _gain(study, d, "loss on high", both, HIGH, sign=-1)
    return _judge("jafr_mirrored", study, parts)


def jafr_shifts_spectrum(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR raises the low-frequency bias of the input gradient."""
    parts: Parts = {}
    for d, kind, both in _with_and_without(study, recommended):
        parts |= _of(d, KINDS[kind], both, bias_difference)
    return _judge("jafr_shifts_spectrum", study, parts)


def jafr_corruptions(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR gains accuracy over all corruptions, standard training."""
    parts: Parts = {}
    for d, kind, both in _with_and_without(study, recommended):
        if kind == "none":
            parts |= _gain(study, d, "", both, ALL)
    return _judge("jafr_corruptions", study, parts)


def jafr_adversarial(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR gains accuracy under PGD, FGSM training."""
    parts: Parts = {}
    for d, kind, both in _with_and_without(study, recommended):
        if kind == "fgsm":
            parts |= _gain(study, d, "", both, "PGD")
    return _judge("jafr_adversarial", study, parts)


def jafr_over_pgd(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether JaFR is more accurate than PGD training under most corruptions."""
    parts: Parts = {}
    for d, both in _against_pgd(study, recommended):
        asked = study.conditions[d][ALL]
        if each := [[c for c in asked if c.source == name] for name in study.groups[d]]:
            parts |= _of(d, "", both, share_of_wins, each)
    return _judge("jafr_over_pgd", study, parts)


def jafr_less_low_than_pgd(
    study: Treatments, recommended: Sequence[float], beta: float = 0.75
) -> dict | None:
    """Judge whether the signed SRC is lower with JaFR than with PGD training."""
    parts: Parts = {}
    note = ""
    for d, both in _against_pgd(study, recommended):
        own = _of(d, "", both, score_difference, beta)
        parts |= {name: withheld(part, _unclear(both)) for name, part in own.items()}
        note = note or _unclear(both)
    return _judge("jafr_less_low_than_pgd", study, parts, note)


def jafr_large_lambda(study: Treatments, recommended: Sequence[float]) -> dict | None:
    """Judge whether the largest strength does worse overall than the recommended one."""
    parts: Parts = {}
    for d in study.data_sets:
        for kind, s in study.best(d, recommended).items():
            largest = max(t for own, k, t in study.cells if (own, k) == (d, kind))
            both = study.couples(d, (kind, largest), (kind, s)) if largest > s else []
            parts |= _gain(study, d, KINDS[kind], both, "clean", ALL, "PGD")
    return _judge("jafr_large_lambda", study, parts)


def _with_and_without(
    study: Treatments, recommended: Sequence[float]
) -> Iterator[tuple[str | None, str, Couples]]:
    """Data set, kind of training and its matched pairs with JaFR, as recommended, and without."""
    for d in study.data_sets:
        for kind, s in study.best(d, recommended).items():
            yield d, kind, study.couples(d, (kind, s), (kind, 0.0))


def _against_pgd(
    study: Treatments, recommended: Sequence[float]
) -> Iterator[tuple[str | None, Couples]]:
    """Data set and the matched pairs of standard training with JaFR and PGD training without."""
    for d in study.data_sets:
        if "none" in (best := study.best(d, recommended)):
            yield d, study.couples(d, ("none", best["none"]), ("pgd", 0.0))


def _gain(study: Treatments, d, words: str, couples: Couples, *under: str, sign: int = 1) -> Parts:
    asked = [study.conditions[d].get(u, []) for u in under]
    if all(asked):
        return _of(d, words, couples, accuracy_gain, *asked, sign=sign)
    # A part that was not asked is missing, not fulfilled: the claim needs it.
    nothing = Estimate.unsure(np.nan, 0, "trainings")
    return {(d, f"{words} (not asked)".strip()): lambda level: nothing} if couples else {}


def _of(d, words: str, couples: Couples, measure: Callable, *args, sign: int = 1) -> Parts:
    """A part for `decide`, if there are such pairs; sign -1: a loss where a gain is measured."""
    if not couples:
        return {}
    return {(d, words): lambda level: sign * measure(couples, *args, level=level)}


def _unclear(couples: Couples) -> str:
    return unclear(p for pair in couples for p in pair)


def _judge(claim: str, study: Treatments, parts: Parts, note: str = "") -> dict | None:
    if not parts:
        return None
    several = len(study.data_sets) > 1
    named = {
        ", ".join(w for w in (study.title(d) if several else "", words) if w): part
        for (d, words), part in parts.items()
    }
    data = data_words(*(d or study.images for d, _ in parts))
    return decide(claim, named, note=note, data=data)
