"""Worlds whose score is known, and what each correction, threshold and user is told in them.

Mean values have no bias, but the SID subtracts the smallest of them. In each world photographs are
drawn with replacement from a population whose score is known: the tables of `--populations`, their
values exact or each time sampled anew (12 passes a photograph at 8 bands), and planted ones,
Gaussian and skewed, some with two bands or seven that are equally weak. One JSON line for each
world and estimator: of psi, the signed score and the SID (of bands the one that is worst off) bias,
spread, bias over spread, root mean square error over that of the plain estimate, and coverage of
the plain 95 % interval moved by the correction. "paper" and "tight" are the signed score without
its sign, times 0.522 and 1: away from 0 the ratios are those of the signed score.

Then what a threshold of `score.CLEAR` does, for every kind: a score is given in a share of the
samples only, and the rest of the line is of these. The last of these lines says which thresholds
do both: give a score in at most a tenth of the samples where the two weakest bands are tied (or the
signed score is 0, where the sign is dropped), and keep the bias within a quarter of the spread in
all worlds where most samples get a score. Last what a user is told (`score_estimate`,
`sid_estimate`): in which share of the samples, and how often its limits, and plain ones, hold the
truth in these, in up to 250 of them.
"""

import json
from functools import partial

import numpy as np

from estimating.corrections import BANDS, TILT, every_estimate, plain
from estimating.games import bands
from iaside.estimate.intervals import interval
from iaside.game.surrogate import pairs_per_image, resampled_table
from iaside.score import (
    CLEAR,
    no_score,
    no_sid,
    robustness_score,
    score_estimate,
    sid_estimate,
    spectral_importance,
    weakest_gap,
)
from iaside.shapley import shapley_values
from iaside.tables import Worths

THRESHOLDS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)
COVERED = 250  # samples whose intervals are made: what they show is known to 3 % or so
REAL = 60  # photographs that a table must have to stand for a population


def worlds(populations):
    """Name -> (kind, what samples are drawn from), and whether the two weakest bands are tied."""
    found = {}
    for path in populations:
        table = Worths.load(path).table
        if table.shape[1] >= REAL and bands(table) == BANDS:
            name = f"{path.stem.removesuffix('-trained')}, {table.shape[1]} photographs"
            found[f"{name}, exact"] = "exact", table, False
            found[f"{name}, sampled"] = "sampled", table, False
    falling = np.array([1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0])
    tied, one = np.r_[falling[:-2], 0, 0], np.eye(BANDS)[0]
    apart, steep = np.r_[falling[:-1], -0.4], 4 * 2.0 ** -np.arange(BANDS)
    level = np.r_[0.5, 0.4, 0.4, 0.4, 0.5, 0.5, 0.5, 0]
    level[4] -= TILT @ level / TILT[4]
    for name, mean, sd, alike, is_tied in (
        ("weakest 1.2 errors apart", falling, 0.8, 0.5, False),
        ("weakest 1.2 errors apart, high bands count", falling[::-1], 0.8, 0.5, False),
        ("weakest 3.7 errors apart", apart, 0.8, 0.5, False),
        ("falling steeply", steep, steep, 0.3, False),
        ("signed score 0", level, 0.4, 0.5, False),
        ("two tied", tied, 0.8, 0.5, True),
        ("two tied, noisy", tied, 1.6, 0.2, True),
        ("two tied, clear otherwise", tied, 0.3, 0.5, True),
        ("seven tied", one, 0.8, 0.2, True),
    ):
        covariance = np.outer(sd * np.ones(BANDS), sd * np.ones(BANDS))
        covariance *= alike + (1 - alike) * np.eye(BANDS)
        for how in ("Gaussian", "skewed"):
            found[f"{name}, {how}"] = how, (mean, np.linalg.cholesky(covariance)), is_tied
    return found


def drawn(how, source, n, repeats):
    """Samples of values (R, M, n) from a population, and its mean values (M,)."""
    rng = np.random.default_rng([n, 18])
    if how in ("Gaussian", "skewed"):
        mean, root = source
        shape = repeats, BANDS, n
        each = rng.normal(size=shape) if how == "Gaussian" else rng.exponential(size=shape) - 1
        return mean[:, None] + root @ each, mean
    chosen = rng.integers(source.shape[1], size=(repeats, n))
    values = shapley_values(source)
    if how == "exact":
        return values[:, chosen].transpose(1, 0, 2), values.mean(1)
    size = pairs_per_image(BANDS)
    psi = [resampled_table(source[:, c], size, rng)[0].values for c in chosen]
    return np.stack(psi), values.mean(1)


def judged(estimate, truth, other, low, high):
    """Of estimates (R, K), the one of the K that is worst off, and the error of all K together;
    limits (C, K) are of the first samples.

    One without spread is left aside: the weakest band's share, 0 in every sample.
    """
    bias, spread = estimate.mean(0) - truth, estimate.std(0)
    moves = np.flatnonzero(spread > 1e-9)
    worst = moves[np.argmax(np.abs(bias[moves]) / spread[moves])]
    error, others = (((x - truth) ** 2).mean() ** 0.5 for x in (estimate, other))
    held = ((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean(0)[moves]
    found = {
        "bias": bias[worst],
        "spread": spread[worst],
        "bias/spread": bias[worst] / spread[worst],
        "rmse/plain": error / others,
        "coverage": held[np.argmax(np.abs(held - 0.95))],
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def in_a_world(name, how, source, tied, n, repeats):
    """All lines about one world."""
    psi, mean = drawn(how, source, n, repeats)
    truth, values = plain(mean), psi.mean(2)
    parts = [every_estimate(psi[k : k + 200]) for k in range(0, repeats, 200)]
    estimates = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    found = estimates["plain"]

    def statistic(means):  # of (M, R): psi, the signed score, the SID, the score without its sign
        sid = spectral_importance(means)
        return np.concatenate([means, (TILT @ sid)[None], sid, np.abs(TILT @ sid)[None]])

    made = [interval(each, statistic, n_resamples=500) for each in psi[:COVERED]]
    of_psi, of_profile, of_score = np.s_[:, :BANDS], np.s_[:, BANDS:-1], np.s_[:, -1:]
    limits = [np.stack([getattr(e, end) for e in made]) for end in ("low", "high")]
    head = {"world": name, "n": n, "repeats": repeats, "score": round(float(truth[0]), 4)}
    lines = [head | {"psi": judged(values, mean, values, *(x[of_psi] for x in limits))}]
    for key, estimate in estimates.items():
        moved = [x[of_profile] + (estimate - found)[:COVERED] for x in limits]
        lines.append(
            head
            | {"estimator": key}
            | {
                what: judged(estimate[part], truth[part[1]], found[part], *(x[part] for x in moved))
                for what, part in (("signed", np.s_[:, :1]), ("sid", np.s_[:, 1:]))
            }
        )
    gaps = np.array([weakest_gap(each) for each in psi])
    numerator = TILT @ psi  # of the signed score, per image
    far = np.abs(numerator.mean(1)) / numerator.std(1, ddof=1) * n**0.5
    shrunk = robustness_score(np.eye(BANDS)[0])  # "paper" over "tight"
    for threshold in THRESHOLDS:
        clear = gaps >= threshold
        sure = clear & (far >= threshold)
        for kind, estimate, goal, given, ends in (
            ("signed", found[:, :1], truth[:1], clear, [x[of_profile][:, :1] for x in limits]),
            ("sid", found[:, 1:], truth[1:], clear, [x[of_profile][:, 1:] for x in limits]),
            ("tight", np.abs(found[:, :1]), np.abs(truth[:1]), sure, [x[of_score] for x in limits]),
        ):
            line = head | {"threshold": threshold, "kind": kind, "tied": tied}
            line["given"] = round(float(given.mean()), 4)
            if given[:COVERED].sum() >= 20:
                some, first = estimate[given], [x[given[:COVERED]] for x in ends]
                line |= judged(some, goal, some, *first)
            lines.append(line)
            if kind == "tight":
                paper = {k: round(line[k] * shrunk, 4) for k in ("bias", "spread") if k in line}
                lines.append(line | paper | {"kind": "paper"})
    return lines + [head | line for line in told(psi, truth)]


def told(psi, truth):
    """What a user is told of samples (R, M, n), one line for each kind: of bands the worst held."""
    lines = []
    for kind, goal in (("signed", truth[0]), ("tight", abs(truth[0])), ("sid", truth[1:])):
        of = sid_estimate if kind == "sid" else partial(score_estimate, kind=kind)
        why = no_sid if kind == "sid" else partial(no_score, kind=kind)
        given = [each for each in psi if why(each) == ""]
        line = {"told": kind, "given": round(len(given) / len(psi), 4)}
        if len(given) >= 20:
            line["of"] = min(COVERED, len(given))
            widths = []
            for bias, name in (("corrected", "coverage"), ("none", "plain_coverage")):
                found = [of(each, bias=bias, n_resamples=500) for each in given[:COVERED]]
                low, high = (
                    np.stack([np.ravel(getattr(e, end)) for e in found]) for end in ("low", "high")
                )
                moves = (high - low).min(0) > 1e-9  # not the share of a band that is the weakest
                held = ((low <= goal + 1e-9) & (goal - 1e-9 <= high)).mean(0)
                line[name] = round(float(held[moves].min()), 4)
                widths.append(np.median(high - low, 0)[moves])
            line["width/plain"] = round(float((widths[0] / widths[1]).max()), 2)
        lines.append(line)
    return lines


def thresholds(lines):
    """What each threshold does: how often a score is given where it must not be, and how good it is
    where most samples are given one."""
    found = {}
    for threshold in THRESHOLDS:
        for kind in ("signed", "tight"):
            rows = [r for r in lines if r.get("threshold") == threshold and r["kind"] == kind]
            flat = [r["given"] for r in rows if r["tied"] or (kind == "tight" and not r["score"])]
            most = [r for r in rows if r["given"] > 0.5]
            bias = max((abs(r["bias/spread"]) for r in most), default=0.0)
            covered = [r["coverage"] for r in most]
            found.setdefault(str(threshold), {})[kind] = {
                "given_where_not_to_be": max(flat),
                "worlds_mostly_given": len(most),
                "worst_bias/spread": bias,
                "coverage": [min(covered), max(covered)],
                "does": max(flat) <= 0.1 and bias <= 0.25 and len(most) > 0,
            }
    return found


def scores(pool, populations, repeats, n=24):
    tasks = worlds(populations)
    runs = [pool.submit(in_a_world, name, *task, n, repeats) for name, task in tasks.items()]
    lines = []
    for run in runs:
        for line in run.result():
            print(json.dumps(line), flush=True)
            lines.append(line)
    print(json.dumps({"score_thresholds": thresholds(lines), "chosen": CLEAR}))
    held = {
        kind: [r["coverage"] for r in lines if r.get("told") == kind and "coverage" in r]
        for kind in ("signed", "tight", "sid")
    }
    print(json.dumps({"coverage_where_told": {k: [min(v), max(v)] for k, v in held.items() if v}}))
