"""Tables of 47_embeddings: what an embedding rests on, beside the classifier on top of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, paired_distance, paired_interval
from iaside.score import mean_score, score_range
from iaside.shapley import shapley_values
from iaside.study.pages.common import columns
from iaside.study.pages.players import agreement, range_words, shares
from iaside.tables import Worths, check_same_pictures

FIRST = "retrieval"
GAMES = {FIRST: "retrieval", "embedding": "cosine", "log_likelihood": "classifier"}  # in words
Values = Mapping[str, Mapping[str, np.ndarray]]  # network -> game in words -> (M, N)


def load_worths(models: Iterable[str]) -> dict[str, Worths]:
    """The games of every network. Errors: ValueError where photographs are not the same."""
    found = {m: Worths.load(f"results/embedding_worths/tables/{m}.npz") for m in models}
    first = next(iter(found.values()))
    for w in found.values():
        check_same_pictures(first.provenance, w.provenance)
    return found


def values_of(worths: Mapping[str, Worths]) -> dict[str, dict[str, np.ndarray]]:
    """Shapley values (M, N) of every game of every network; one without a head has no classifier.

    >>> w = Worths({"retrieval": np.ones((4, 9)), "embedding": np.ones((4, 9))}, {})
    >>> list(values_of({"net": w})["net"])
    ['retrieval', 'cosine']
    """
    return {
        m: {said: shapley_values(w.tables[g]) for g, said in GAMES.items() if g in w.tables}
        for m, w in worths.items()
    }


def clear(psi: Values) -> dict[str, dict[str, np.ndarray]]:
    """Those in which v(all) - v(none) is clearly above 0, so that there are shares of it."""
    return {m: {g: v for g, v in of.items() if not may_be_zero(v.sum(0))} for m, of in psi.items()}


def share_bars(told: Values) -> pd.DataFrame:
    """Each band's share of v(all) - v(none) with limits, as `plots.importance` takes it."""
    frames = [
        pd.DataFrame({"band": range(len(v)), "model": m, "worth": g, **columns("share", found)})
        for m, of in told.items()
        for g, v in of.items()
        for found in [interval(v, shares)]
    ]
    return pd.concat(frames)


def top_share(values: ArrayLike) -> tuple[int, Estimate]:
    """The band with the largest mean value, and its share of v(all) - v(none)."""
    band = int(np.mean(values, axis=1).argmax())
    return band, interval(values, lambda mean: shares(mean)[band])


def gaps(told: Values) -> dict[str, dict[str, Estimate]]:
    """L1 distance of shares from those of retrieval, for every network and other game told.

    >>> values = np.array([[3.0], [1.0]]) + np.zeros(9)
    >>> gaps({"net": {"retrieval": values, "cosine": values}})["net"]["cosine"].value
    np.float64(0.0)
    """
    return {
        m: {g: paired_distance(v, of[FIRST], shares) for g, v in of.items() if g != FIRST}
        for m, of in told.items()
        if FIRST in of
    }


def scores(psi: Values, beta: float) -> dict[str, dict[str, Estimate]]:
    """The signed score, plain, of every network and game."""
    score = mean_score(beta, "signed")
    return {
        m: {
            g: interval(v, score).within(*score_range(len(v), beta, "signed"))
            for g, v in of.items()
        }
        for m, of in psi.items()
    }


def leads(psi: Values, beta: float) -> dict[str, dict[str, Estimate]]:
    """The signed score of retrieval minus that of each other game, paired over photographs."""
    score = mean_score(beta, "signed")
    return {
        m: {g: paired_interval(of[FIRST], v, score) for g, v in of.items() if g != FIRST}
        for m, of in psi.items()
    }


def compared(psi: Values, told: Values, beta: float) -> pd.DataFrame:
    """Retrieval beside the other games of each network, as text."""
    apart, ahead = gaps(told), leads(psi, beta)
    rows = {
        (m, g): {
            "rank agreement with retrieval": agreement(of[FIRST], of[g]).limits(),
            "L1 distance of shares": apart[m][g].limits() if g in apart.get(m, {}) else "not told",
            "signed SRC of retrieval, minus this one's": lead.limits("+.3f"),
        }
        for m, of in psi.items()
        for g, lead in ahead[m].items()
    }
    return pd.DataFrame(rows).T.rename_axis(["network", "worth"])


def known(w: Worths) -> Estimate:
    """Nats that an embedding tells at least of which photograph it is, by low-pass prefix.

    The prefixes are {}, {0}, {0, 1}, ...; at most log N can be shown. Source: van den Oord et al.
    2018, section 2.3.

    >>> known(Worths({"retrieval": np.log([[1 / 8] * 8, [1 / 2] * 8])}, {})).value.round(2)
    array([0.  , 1.39])
    """
    table = w.tables[FIRST]
    prefix = [2**k - 1 for k in range(len(table).bit_length())]
    most = np.log(table.shape[1])
    return interval(table[prefix] + most, lambda mean: mean)


def known_curves(worths: Mapping[str, Worths]) -> pd.DataFrame:
    """`known` of every network, as `plots.curves` takes it."""
    rows = [
        pd.DataFrame({"prefix": range(len(e.value)), "model": m, **columns("known", e)})
        for m, w in worths.items()
        for e in [known(w)]
    ]
    return pd.concat(rows)


def answer_words(told: Values) -> tuple[str, list[str]]:
    """What the page answers: where embeddings have most of their worth, and how far the classifiers
    on top of them are from that; a line for each network where there are several."""
    found, lines, tops = gaps(told), [], []
    for m, of in told.items():
        if FIRST not in of:
            lines.append(f"{m}: v(all) - v(none) of its embedding may be 0, so nothing is told")
            continue
        band, share = top_share(of[FIRST])
        tops.append(band)
        line = f"{m}: band {band} has most of the worth of its embedding, {share.limits('.0%')}"
        if "classifier" in of:
            top, part = top_share(of["classifier"])
            line += f", and band {top} of that of its classifier, {part.limits('.0%')}"
            line += f"; the two profiles are {found[m]['classifier'].limits()} apart in L1"
        lines.append(f"{line} (n = {share.n} {share.unit})")
    if len(lines) == 1 or not tops:
        return f"{lines[0]}.", lines[1:]
    band, count = Counter(tops).most_common(1)[0]
    text = f"{count} of {len(told)} embeddings have most of their worth from band {band}"
    if apart := [of["classifier"] for of in found.values() if "classifier" in of]:
        text += f"; classifiers on top of them have profiles {range_words(apart)} apart in L1"
    return f"{text} (n = {share.n} {share.unit}).", lines
