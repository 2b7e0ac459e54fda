"""Worths of a sample of coalitions, measured until the mean Shapley values are known well enough.

Images are visited in a random order, each with its empty and its full coalition and a few
complementary pairs (`game.surrogate`): about M + 4 forward passes where the exact game takes 2^M.
When all have been visited and that is not enough, each gets as many pairs again.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Unpack

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.checks import told_apart
from iaside.backend.device import own_device
from iaside.backend.log import log
from iaside.backend.outside import outside
from iaside.backend.precision import undisturbed
from iaside.backend.resume import Table
from iaside.estimate.clean import at_floor, clean_summary, warn_of_chance
from iaside.game.bands import Bands
from iaside.game.game import Game, Settings
from iaside.game.samples import SampledWorths
from iaside.game.surrogate import (
    draw_pairs,
    members,
    pairs_per_image,
    passes_per_image,
    sampled_values,
    whole,
)
from iaside.game.values import finite, scores_of
from iaside.inputs.probe import PROBE
from iaside.spectral import Masks

LEAST = 5  # images for an interval
FIRST = 16  # images before the first look at the error: fewer do not know it
MIN_BANDS, MAX_BANDS = 3, 64  # fewer have no more coalitions than a sample; a code has 64 bits


@undisturbed
def sample(
    game: Game,
    tolerance: float | None = None,
    budget: int | None = None,
    relative: bool = False,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
) -> SampledWorths:
    """Measure coalitions of a game until its mean Shapley values are known well enough.

    For 3 to 64 bands, and with one of these or both:
    tolerance: the standard error, in the unit of the worths, that no band's mean value (of the
    first value asked for) shall exceed, for images and draws together; ``relative``: as a share of
    the mean v(all) - v(none). budget: the most forward passes of coalitions, those made before a
    resume included (``embedding`` and ``retrieval`` see clean images besides).
    It ends within the tolerance, at the budget, where the images at hand cannot reach the
    tolerance however many coalitions are drawn, or where all coalitions would take no more passes;
    ``stopped`` and ``message`` in the provenance say which, and a RuntimeWarning if the tolerance
    was not reached. The seed of the game is also that of the order of the images and of the
    coalitions, which go by the position in ``subset``: its columns are estimates of their own.
    resume, progress: as in ``exact``; a later call may have another tolerance or budget and goes
    on.

    Errors and warnings: those of ``exact``; ValueError for neither tolerance nor budget,
    one that is not positive, a budget too small for 5 images, fewer than 3 bands, or ``relative``
    to 0.
    Source: Luo et al. 2024, Eq. 3, estimated as in ``iaside.game.surrogate``.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> game = Game(brightness, torch.rand(9, 3, 16, 16), torch.zeros(9).long(),
    ...             band_masks(4, (16, 16)), batch_size=4)
    >>> w = sample(game, budget=72, progress=False)
    >>> w.estimates.values.shape, w.provenance["stopped"]
    ((4, 9), 'budget')
    """
    n, n_bands = len(game.images), game.n_players
    per_image = passes_per_image(n_bands)
    check_request(tolerance, budget)
    _check_size(tolerance, budget, n, n_bands, per_image)
    found = _Sample(game, resume)
    if progress:
        log.info(
            f"{per_image} of {2**n_bands:,} coalitions x up to {n} images a round = "
            f"{per_image * n:,} forward passes; {game.how_long(per_image * n)}"
        )
    with tqdm(total=budget, disable=not progress, unit="pass", smoothing=0.1) as bar:
        stopped, message = _run(found, tolerance, relative, budget, bar)
    if tolerance is not None and stopped != "tolerance":
        warnings.warn(message, RuntimeWarning, stacklevel=outside())
    elif progress:
        log.info(message)
    clean, gain = found.clean()
    warn_of_chance(clean, gain)
    return found.rows(
        clean
        | dict(
            stopped=stopped, message=message, tolerance=tolerance, relative=relative, budget=budget
        )
    )


def sampled_worths(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    masks: Masks,
    tolerance: float | None = None,
    budget: int | None = None,
    relative: bool = False,
    *,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    **settings: Unpack[Settings],
) -> SampledWorths:
    """Evaluate a model on sampled coalitions of frequency bands: `sample` of a `Game`.

    Takes what these two take, and raises what they raise.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> w = sampled_worths(brightness, torch.rand(9, 3, 16, 16), torch.zeros(9).long(),
    ...                    band_masks(4, (16, 16)), budget=72, batch_size=4, progress=False)
    >>> len(w.images)
    9
    """
    check_request(tolerance, budget)
    game = Game(model, images, labels, masks, **settings)
    return sample(game, tolerance, budget, relative, resume, progress)


def sampled_passes(n_bands: int, n_images: int, budget: int) -> int:
    """Forward passes of ``sampled_worths`` at most, without those that only time the network.

    >>> sampled_passes(32, 24, budget=5000), sampled_passes(4, 24, budget=5000)
    (5006, 390)
    """
    return min(budget, 2**n_bands * n_images) + PROBE


def _run(sample: _Sample, tolerance, relative, budget, bar) -> tuple[str, str]:
    """Visit images, round after round, until there is a reason to stop; which, and in words."""
    n, n_bands = len(sample.order), sample.n_bands
    group = max(1, sample.game.batch_size // sample.width)
    look, passes, spent = n if tolerance is None else min(n, FIRST), 0, False
    for k in range(max(1, (2**n_bands - 2) // (sample.width - 2))):
        sample.open_round()
        start = 0
        while start < n:
            visits = []
            while start < look and not spent:
                # None reaches beyond a look: where it all ends must not depend on the batch size.
                here = sample.order[start : min(start + group, look)]
                cost = np.array([len(sample.fresh(i)) for i in here]).cumsum()
                if budget is not None and passes + cost[-1] > budget:
                    here = here[passes + cost <= budget]
                    spent = True
                visits.append(here)
                passes += int(cost[len(here) - 1]) if len(here) else 0
                start += len(here)
            sample.measure(visits, bar)
            seen = n if k > 0 else start
            if not spent and tolerance is None:
                continue
            error, wanted, floor = sample.error(tolerance, relative)
            if error <= wanted:
                return "tolerance", (
                    f"the largest standard error, {error:.3g}, is within {wanted:.3g}: "
                    f"{seen} of {n} images, {passes:,} forward passes"
                )
            if spent:
                return "budget", (
                    f"the budget of {budget:,} forward passes is spent ({passes:,} made, "
                    f"{seen} of {n} images): {_known(error, wanted)}"
                )
            if seen == n and floor > wanted:
                needed = int(np.ceil(n * (floor / wanted) ** 2))
                return "images", (
                    f"these {n} images cannot reach a standard error of {wanted:.3g}: it is "
                    f"{told_apart(error, wanted, 3)}, and with all coalitions measured would still "
                    f"be about {told_apart(floor, wanted, 3)}; it takes more than {needed:,} images"
                )
            look = int(np.clip(np.ceil(seen * (error / wanted) ** 2), seen + 1, 2 * seen))
            look = min(look, n)
    error, wanted, _ = sample.error(tolerance, relative)
    return "exact", (
        f"after {passes:,} forward passes {_known(error, wanted)}, and "
        f"all 2**{n_bands} coalitions of {n} images would take hardly more: leave out tolerance "
        "and budget"
    )


def _known(error: float, wanted: float) -> str:
    """wanted: nan where nothing was."""
    if np.isnan(error):
        return "one image alone has no standard error"
    unmet = "" if np.isnan(wanted) else f", not {wanted:.3g}"
    return f"the largest standard error is {told_apart(error, wanted, 3)}{unmet}"


class _Sample:
    """Coalitions drawn so far, round by round, and what is known of their worths."""

    def __init__(self, game: Game, resume) -> None:
        # The full coalition is the image itself, where it is seen what the model knows.
        self.game, self.resume = game, resume
        self.n_bands, self.values = game.n_players, list(game.watched)
        self.pairs, self.width = pairs_per_image(self.n_bands), passes_per_image(self.n_bands)
        n = len(game.images)
        self.order = np.random.default_rng([game.seed, n]).permutation(n)
        self.codes = np.empty((n, 0), np.uint64)
        self.worths = np.empty((len(self.values), n, 0))  # NaN: not measured
        self.file: Table | None = None  # of the round that is open
        self.rounds, self.start = 0, 0  # opened so far; first column of the last one
        self.forwards = 0

    def open_round(self) -> None:
        """Draw as many pairs again for every image, the same ones whoever asks."""
        n, seed = len(self.order), self.game.seed
        drawn = [
            draw_pairs(self.n_bands, self.pairs, np.random.default_rng([seed, self.rounds, i]))
            for i in range(n)
        ]
        ends = np.tile(np.array([0, whole(self.n_bands)], np.uint64), (n, self.rounds == 0))
        self.start = self.codes.shape[1]
        self.codes = np.concatenate([self.codes, ends, drawn], axis=1)
        asked = hashlib.sha256(self.codes[:, self.start :].tobytes()).hexdigest()
        about = self.game.provenance | {"round": self.rounds, "coalitions": asked}
        self.rounds += 1
        path = self.game.unfinished(self.resume, "sampled", about, __name__)
        self.file = Table(path, (len(self.values), n, self.codes.shape[1] - self.start))
        self.worths = np.concatenate([self.worths, np.full(self.file.shape, np.nan)], axis=2)

    def fresh(self, image: int) -> np.ndarray:
        """The columns of this round whose coalition this image has not had before."""
        first = np.unique(self.codes[image], return_index=True)[1]
        return np.sort(first[first >= self.start])

    @property
    def _alike(self) -> int:
        """The columns of this round, from the first on, that are one picture of all images."""
        return int(self.start == 0 and self.game.one_nothing)

    def measure(self, visits: list[np.ndarray], bar) -> None:
        """Fill this round's columns of some images: those of a visit are in batches together."""
        jobs, game = [], self.game
        for here in visits:
            batches = []
            if self._alike and len(here):
                if np.isnan(self.file[:, here, 0]).any():
                    self.file[:, here, 0], made = game.nothing(game.watched, here)
                    self.forwards += made
                self.worths[:, here, 0] = self.file[:, here, 0]
                bar.update(len(here))
            for owner, column in self._batches(here):
                kept = slice(None), owner, column - self.start
                if np.isnan(self.file[kept]).any():
                    batches.append((owner, column, self.codes[owner, column]))
                else:
                    self.worths[:, owner, column] = self.file[kept]
                    bar.update(len(owner))
            if batches:
                jobs.append((here, batches))
        name = lambda here, _: _images(here)  # noqa: E731
        found = game.pool.each(visit, game, jobs, game.device, name=name) if jobs else ()
        for _, (owner, column, scores) in found:
            self.file[:, owner, column - self.start] = scores
            self.worths[:, owner, column] = scores
            self.forwards += len(owner)
            bar.update(len(owner))
        for i in np.concatenate([np.empty(0, int), *visits]):
            found, first, again = np.unique(self.codes[i], return_index=True, return_inverse=True)
            if np.isnan(self.file[:, i]).any():  # a coalition drawn again costs nothing
                self.file[:, i] = self.worths[:, i, first[again][self.start :]]
            self.worths[:, i, self.start :] = self.file[:, i]

    def _batches(self, here: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images and columns of this round, each of a coalition that its image has not had."""
        fresh = [self.fresh(i)[self._alike :] for i in here]
        owner = np.repeat(here, [len(f) for f in fresh])
        column = np.concatenate([np.empty(0, int), *fresh])
        size = self.game.batch_size if len(here) == 1 else max(1, len(owner))
        for first in range(0, len(owner), size):
            yield owner[first : first + size], column[first : first + size]

    def error(self, tolerance, relative) -> tuple[float, float, float]:
        """The largest standard error, the one wanted, and what more draws cannot go below."""
        worths = self.worths[0]
        seen = np.isfinite(worths).any(1)
        values, variance = sampled_values(self.codes[seen], worths[seen], self.n_bands)
        n = values.shape[1]
        if n < 2:
            return np.nan, np.nan, np.nan
        together = values.var(1, ddof=1) / n
        floor = np.maximum(together - variance.sum(1) / n**2, 0)
        unit = abs((worths[seen, 1] - worths[seen, 0]).mean()) if relative else 1.0
        if unit == 0 and together.any():
            raise ValueError(
                "the mean of v(all) - v(none) is 0 for these images, so no error is a share of it; "
                "give tolerance= in the unit of the worths, without relative=True"
            )
        wanted = np.nan if tolerance is None else tolerance * unit
        return float(np.sqrt(together.max())), float(wanted), float(np.sqrt(floor.max()))

    def clean(self) -> tuple[dict, np.ndarray]:
        """What is known of the answers to the images visited, and v(all) - v(none) of each."""
        worths = self.worths[:, np.isfinite(self.worths[0]).any(1)]
        known = dict(zip(self.values, worths[:, :, 1], strict=True))
        return clean_summary(known, self.game.asked.classes), worths[0, :, 1] - worths[0, :, 0]

    def rows(self, ended: dict) -> SampledWorths:
        """Everything measured, as rows."""
        image, column = np.nonzero(np.isfinite(self.worths[0]))
        tables = {v: t[image, column] for v, t in zip(self.game.values, self.worths, strict=False)}
        ended |= at_floor(self.game.provenance, tables)
        return SampledWorths(
            image,
            column // 2,
            self.codes[image, column],
            tables,
            self.game.provenance | ended,
            self.forwards,
        )


def visit(
    game: Game, here: np.ndarray, batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Evaluate coalitions of some images, batch by batch.

    batches: image, column and code of each coalition;  yields images, columns and their scores
    (watched values, coalitions).
    """
    game.device = own_device(game.device)
    images = torch.from_numpy(here)
    targets, reference = game.targets(images), game.reference(images)
    known: dict = {}  # the bands of one image, for all its batches
    for owner, column, codes in batches:
        pictures = []
        for i in dict.fromkeys(owner.tolist()):
            if i not in known:
                known.clear()  # before there are others
                known[i] = game.bands(slice(i, i + 1))
            pictures.append(_pictures(game, known[i], i, codes[owner == i]))
        which = torch.from_numpy((here == owner[:, None]).argmax(1))
        beside = (t if t is None else t[which] for t in (targets, reference))
        outputs = game.outputs(torch.cat(pictures))
        yield owner, column, finite(scores_of(game.watched, outputs, *beside), owner)


def _pictures(game: Game, bands: Bands, image: int, codes: np.ndarray) -> Tensor:
    """One picture per coalition."""
    shown = bands.coalitions(torch.from_numpy(members(codes, game.n_players)).to(game.device))
    # The image itself, not a sum of bands, which rounds.
    shown[np.flatnonzero(codes == whole(game.n_players))] = game.images[image].to(shown)
    return shown


def _images(places: np.ndarray) -> str:
    return f"images {', '.join(map(str, np.unique(places)))}"


def check_request(tolerance: float | None, budget: int | None) -> None:
    """Refuse what says not when a sample is large enough. Errors: ValueError.

    >>> check_request(tolerance=0.1, budget=None)
    """
    if tolerance is None and budget is None:
        raise ValueError(
            "give tolerance= (a standard error) or budget= (forward passes), or both; "
            "coalition_worths measures all coalitions"
        )
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} must be a standard error above 0")


def _check_size(tolerance, budget, n, n_bands, per_image) -> None:
    if not MIN_BANDS <= n_bands <= MAX_BANDS:
        raise ValueError(
            f"{n_bands} bands cannot be sampled: take {MIN_BANDS} to {MAX_BANDS}; "
            f"of fewer, coalition_worths measures all coalitions"
        )
    if tolerance is not None and n < 2:
        raise ValueError("tolerance= needs at least 2 images: one alone has no standard error")
    least = min(n, LEAST) * per_image
    if budget is not None and budget < least:
        raise ValueError(
            f"budget={budget} is too small: {per_image} forward passes for each of "
            f"{min(n, LEAST)} images make {least}"
        )
