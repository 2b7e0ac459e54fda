"""Tables and figures of 45_players: wavelets and orientations beside bands of the spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside import plots
from iaside.estimate.coefficients import coefficient
from iaside.estimate.correlation import correlation
from iaside.estimate.crossed import resampled_scores
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, mean_interval, paired_distance, paired_interval
from iaside.estimate.resampling import of_resamples
from iaside.game.samples import SampledWorths
from iaside.score import mean_score
from iaside.study.pages.common import columns
from iaside.tables import Worths, check_same_pictures, load_table

GAMES = (
    "octaves",
    "levels",
    "bands",
    "packets",
    "sectors",
    "directions",
    "two bands",
    "sectors x rings",
)
ALIKE = {"levels": "octaves", "packets": "bands"}  # wavelets that should say what bands say
Values = Mapping[str, Mapping[str, np.ndarray]]  # game -> network -> (M, N)


def load_games(models: Iterable[str]) -> dict[str, dict[str, Worths]]:
    """Every game of every network. Errors: ValueError where photographs are not the same."""
    folder = Path("results/player_worths/tables")
    found = {g: {m: Worths.load(folder / m / f"{g}.npz") for m in models} for g in GAMES}
    every = [w for of_game in found.values() for w in of_game.values()]
    for w in every[1:]:
        check_same_pictures(every[0].provenance, w.provenance)
    return found


def names_of(w: Worths) -> list[str]:
    """What the players of a game are called; bands by their number."""
    return w.provenance.get("players") or [f"band {i}" for i in range(w.provenance["n_bands"])]


def agreement(first: ArrayLike, second: ArrayLike, n_resamples: int = 2000) -> Estimate:
    """Spearman's coefficient of two profiles (M, N) of the same photographs, over the M players.

    >>> values = np.arange(4.0)[:, None] + np.zeros(9)
    >>> print(agreement(values, values[::-1], 100))
    -1.00 [-1.00, -1.00], n = 9 photographs
    """

    means = resampled_scores([first, second], lambda mean: mean, n_resamples)
    found = coefficient(*means.swapaxes(1, 2))
    return of_resamples(found, np.shape(first)[1])(0.95).within(-1, 1)


def shares(mean: np.ndarray) -> np.ndarray:
    """Parts of v(all) - v(none), signed."""
    return mean / mean.sum(0)


def share_bars(values: Values, games: Iterable[str]) -> pd.DataFrame:
    """Each player's share of v(all) - v(none) with limits, a row each, as `plots.importance`."""
    frames = [
        pd.DataFrame({"band": range(len(v)), "model": m, "players": g, **columns("share", found)})
        for g in games
        for m, v in values[g].items()
        for found in [interval(v, shares)]
    ]
    return pd.concat(frames)


def agreements(values: Values) -> pd.DataFrame:
    """How far wavelets and bands agree on each network, as text, a row for each pair of games."""
    rows = {}
    for wavelets, bands in ALIKE.items():
        for m, mine in values[wavelets].items():
            theirs = values[bands][m]
            rows[m, f"{wavelets} and {bands}"] = {
                "rank agreement of the profiles": agreement(mine, theirs).limits(),
                "L1 distance of the shares": paired_distance(mine, theirs, shares).limits(),
                "largest share: wavelets": str(int(mine.mean(1).argmax())),
                "bands": str(int(theirs.mean(1).argmax())),
            }
    return pd.DataFrame(rows).T.rename_axis(["network", "players"])


def scores(values: Values, beta: float) -> dict[str, dict[str, Estimate]]:
    """The signed score, plain, of each network by players that have an order."""
    score = mean_score(beta, "signed")
    return {
        g: {m: interval(v, score) for m, v in values[g].items()} for g in (*ALIKE.values(), *ALIKE)
    }


def score_gaps(values: Values, beta: float) -> dict[str, dict[str, Estimate]]:
    """The signed score of wavelets minus that of bands, paired over the photographs."""
    score = mean_score(beta, "signed")
    return {
        w: {m: paired_interval(v, values[b][m], score) for m, v in values[w].items()}
        for w, b in ALIKE.items()
    }


def over_networks(values: Values, beta: float) -> dict[str, Estimate]:
    """Spearman's coefficient, over networks, of the signed scores of wavelets and of bands."""
    score = mean_score(beta, "signed")
    n = next(iter(values["levels"].values())).shape[1]
    drawn = {
        g: resampled_scores([*values[g].values()], score) for pair in ALIKE.items() for g in pair
    }
    return {w: correlation(drawn[w], drawn[b], n_images=n) for w, b in ALIKE.items()}


def direction_bars(values: Values) -> pd.DataFrame:
    """Values of waves by direction, in sectors of the spectrum and in details of wavelets.

    Horizontal waves (vertical stripes) are what wavelets call vertical details; both diagonal
    sectors are one.
    """
    order = {"sectors": [[1], [3], [2, 4]], "directions": [[2], [1], [3]]}
    rows = []
    for g, parts in order.items():
        for m, v in values[g].items():
            if g == "sectors" and len(v) != 5:
                continue
            found = mean_interval(np.stack([v[p].sum(0) for p in parts]))
            about = {"band": range(3), "model": m, "players": g}
            rows.append(pd.DataFrame(about | columns("psi", found)))
    return pd.concat(rows)


def contrasts(values: Values) -> pd.DataFrame:
    """Horizontal minus vertical waves, and both minus the diagonal ones, as text."""
    of = {
        "horizontal - vertical, sectors": ("sectors", [0, 1, 0, -1, 0]),
        "horizontal - vertical, wavelets": ("directions", [0, -1, 1, 0]),
        "both - diagonal, sectors": ("sectors", [0, 1, -1, 1, -1]),
        "both - diagonal, wavelets": ("directions", [0, 1, 1, -1]),
    }
    return pd.DataFrame(
        {
            m: {
                name: mean_interval((np.array(w) @ values[g][m])[None])[0].limits("+.2f")
                for name, (g, w) in of.items()
                if len(w) == len(values[g][m])
            }
            for m in values["sectors"]
        }
    ).T


def rings_of(values: np.ndarray, angles: int) -> np.ndarray:
    """Values (1 + angles * rings, N) of sectors x rings, added up in rings; the mean to the lowest.

    >>> rings_of(np.arange(5.0)[:, None], 2).ravel().tolist()
    [3.0, 7.0]
    """
    rings = values[1:].reshape(-1, angles, values.shape[1]).sum(1)
    rings[0] += values[0]
    return rings


def ring_gaps(values: Values) -> pd.DataFrame:
    """Share of the low band: of sectors x rings, added up, and of two bands, as text."""
    rows = {}
    for m, v in values["sectors x rings"].items():
        mine, two = rings_of(v, 2), values["two bands"][m]
        share = {
            "sectors x rings": interval(mine, lambda mean: shares(mean)[0]),
            "two bands": interval(two, lambda mean: shares(mean)[0]),
            "gap": paired_interval(mine, two, lambda mean: shares(mean)[0]),
        }
        rows[m] = {
            name: found.limits("+.2f" if name == "gap" else ".2f") for name, found in share.items()
        }
    return pd.DataFrame(rows).T


def load_cells(m: str) -> tuple[np.ndarray, SampledWorths]:
    """A photograph (H, W, 3) and the game of its wavelet levels cut into places."""
    folder = Path(f"results/player_worths/tables/{m}")
    return load_table(folder / "picture.npz")[1]["picture"], SampledWorths.load(
        folder / "cells.npz"
    )


def cell_maps(w: SampledWorths) -> np.ndarray:
    """Values of cells as maps (levels, grid, grid)."""
    grid = w.provenance["grid"]
    return w.estimates.values.mean(1).reshape(-1, grid, grid)


def cells_figure(models: Iterable[str]) -> None:
    """A row for each network: the photograph, then where each level of it counts."""
    found = {m: load_cells(m) for m in models}
    maps = {m: cell_maps(w) for m, (_, w) in found.items()}
    n = len(next(iter(maps.values())))
    figure, axes = plots.subplots(len(maps), 1 + n, figsize=(2.3 * (1 + n), 2.4 * len(maps)))
    for row, (m, levels) in zip(axes, maps.items(), strict=True):
        reach = np.abs(levels).max() or 1.0
        row[0].imshow(found[m][0])
        row[0].set_title(m, fontsize=9)
        named = [name.partition(" at ")[0] for name in found[m][1].provenance["players"]]
        for axis, level, name in zip(row[1:], levels, dict.fromkeys(named), strict=True):
            shown = axis.imshow(level, cmap="RdBu_r", vmin=-reach, vmax=reach)
            axis.set_title(f"{name}: {level.sum():+.1f}", fontsize=9)
        figure.colorbar(shown, ax=list(row), label="nats", shrink=0.8)
        for axis in row:
            axis.axis("off")


def strongest_cells(w: SampledWorths, k: int = 3) -> str:
    """The cells worth most, in words."""
    values, names = w.estimates.values.mean(1), w.provenance["players"]
    best = np.argsort(-values)[:k]
    return "; ".join(f"{names[i]} {values[i]:+.2f}" for i in best)


def range_words(found: Iterable[Estimate]) -> str:
    """From the smallest to the largest of several estimates, with their limits.

    >>> range_words([Estimate(0.5, 0.1, 0.3, 0.7, 9, "photographs")])
    '0.50 [0.30, 0.70]'
    """
    ends = sorted(found, key=lambda e: e.value)
    return " to ".join(dict.fromkeys(e.limits() for e in (ends[0], ends[-1])))
