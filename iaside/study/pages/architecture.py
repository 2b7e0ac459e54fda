"""Tables of 55_architecture: the score against the size of networks, maps of their SIDs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.manifold import MDS, TSNE

from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.correlation import between_families, correlation, correlation_row
from iaside.estimate.families import several
from iaside.robustness.measures import corruption_error
from iaside.robustness.testbed import PGD, join, of_torchvision, read
from iaside.tables import CLEAN, CORRUPTIONS, Condition, Responses
from iaside.verdicts.coefficients import range_words, why_no_limits

TESTBED = "data/published/imagenet_testbed.csv"
DASH = "–"


def size_rows(
    scores: Mapping[str, ArrayLike], parameters: ArrayLike, families: Sequence[str], n_images: int
) -> dict[tuple[str, str], dict]:
    """Spearman's coefficient of each score with size: over networks, within families, of means.

    Shapes: scores (K, 1 + R) on the photographs and on resamples, parameters (K,).
    """
    groups, rows = several(families), {}
    ways = {"all networks": None} | ({"within families": groups} if groups else {})
    for how, score in scores.items():
        for over, g in ways.items():
            row = correlation_row(score, parameters, groups=g, n_images=n_images)
            found = correlation(score, parameters, groups=g, n_images=n_images)
            rows[how, over] = {
                "Spearman rho with size": f"{found:+.2f}",
                "p": round(row["p"], 2),
                "without one network": range_words(row),
                "independent networks": row["independent"],
                "why no limits": why_no_limits(row),
            }
        if groups:
            means = between_families(score, parameters, families, n_images=n_images)
            few = "" if np.isfinite(means.low) else f"{means.n} families, 5 needed"
            found = {"Spearman rho with size": f"{means:+.2f}", "why no limits": few}
            rows[how, "family means"] = found
    return rows


def projections(sids: np.ndarray, clouds: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Maps of SIDs in two dimensions: PCA, MDS on L1 distances, t-SNE of four networks or more.

    Shapes: sids (K, M), clouds (K, R, M), SIDs on resampled photographs; maps are (K (1 + R), 2),
    networks first, that of t-SNE (K, 2).
    """
    n, found = len(sids), {}
    everything = np.concatenate([sids, clouds.reshape(-1, sids.shape[1])])
    if n > 1:
        found["PCA"] = PCA(2).fit(everything).transform(everything)
        distances = np.abs(everything[:, None] - everything[None]).sum(-1)
        scaling = MDS(2, metric="precomputed", n_init=4, init="random", random_state=seed)
        found["MDS of L1 distances"] = scaling.fit_transform(distances)
    if n >= 4:
        tsne = TSNE(2, perplexity=min(5, (n - 1) / 3), init="pca", random_state=seed)
        found[f"t-SNE, n = {n}: not to be trusted"] = tsne.fit_transform(sids)
    return found


def bench(
    models: Mapping, answers: Mapping[str, Responses], parameters: Sequence[float]
) -> pd.DataFrame:
    """What torchvision and the ImageNet testbed publish of the networks, beside what is here.

    A row a network, with a dash where nothing is published of its very weights. parameters: of the
    networks here, in millions.
    """
    theirs, testbed = of_torchvision(models), join(models, read(TESTBED))
    rows = {}
    for (m, r), size in zip(answers.items(), parameters, strict=True):
        known, robust = (t.loc[m] if m in t.index else {} for t in (theirs, testbed))
        corrupted = all(r.rows(name) for name in CORRUPTIONS)
        rows[m] = {
            "top-1, here": accuracy_interval(r.tables["correct"][r.row(CLEAN)]).limits(".1%"),
            "top-1, torchvision": _known(known.get("top-1"), ".1f", " %"),
            "parameters, here": f"{size:.2f} M",
            "parameters, torchvision": _known(known.get("parameters", np.nan) / 1e6, ".2f", " M"),
            "mCE, here": corruption_error(r).limits(".0f") if corrupted else DASH,
            "mCE, testbed": _known(robust.get("mCE"), ".1f", ""),
        } | {
            f"accuracy under PGD {eps:g}/255, testbed": _known(robust.get(eps), ".1f", " %")
            for eps in PGD
        }
    return pd.DataFrame(rows).T


def _known(number: float | None, spec: str, unit: str) -> str:
    return DASH if number is None or np.isnan(number) else f"{number:{spec}}{unit}"


def attack_changes(
    answers: Mapping[str, Responses], names: Sequence[str], eps: float
) -> dict[str, list[np.ndarray]]:
    """Attack -> (2, N) of each network: change of the true class's probability, and it unattacked.

    At softmax temperature 2, on the photographs for which all networks had a usable gradient;
    without attacks for which there is none.
    """
    found = {}
    for source in ("fgsm", "pgd"):
        attack = Condition(source, eps)
        images = reduce(
            np.intersect1d, (r.measured_images(r.row(attack)) for r in answers.values())
        )
        if not len(images):
            continue
        found[source] = []
        for r in map(answers.get, names):
            p = r.tables["probability_t2"][:, images]
            clean = p[r.row(CLEAN)]
            found[source].append(np.stack([np.abs(p[r.row(attack)] - clean), clean]))
    return found
