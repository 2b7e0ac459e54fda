"""Worths of a sample of coalitions, measured until the mean Shapley values are known well enough.

Images are visited in a random order, each with its empty and its full coalition and a few
complementary pairs (`game.surrogate`): about M + 4 forward passes where the exact game takes 2^M.
When all have been visited and that is not enough, each gets as many pairs again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.checks import told_apart
from iaside.backend.device import device_of
from iaside.backend.executors import Executor
from iaside.backend.parallel import executor
from iaside.backend.precision import undisturbed
from iaside.backend.resume import Table, unfinished
from iaside.estimate.clean import at_floor, clean_summary, warn_of_chance
from iaside.game.surrogate import (
    SampledWorths,
    draw_pairs,
    members,
    pairs_per_image,
    passes_per_image,
    sampled_values,
    whole,
)
from iaside.game.worths import Setup, Value, how_long, prepare
from iaside.inputs.probe import PROBE
from iaside.spectral import Masks

LEAST = 5  # images for an interval
FIRST = 16  # images before the first look at the error: fewer do not know it
MIN_BANDS, MAX_BANDS = 3, 64  # fewer have no more coalitions than a sample; a code has 64 bits


@undisturbed
def sampled_worths(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    masks: Masks,
    tolerance: float | None = None,
    budget: int | None = None,
    relative: bool = False,
    value: Value | Sequence[Value] = "log_likelihood",
    absence: str = "zero",
    precision: str = "float32",
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    temperature: float = 1.0,
    sigma: float = 0.25,
    seed: int = 0,
    subset: Sequence[int] | None = None,
    workers: object = None,
    outputs: str = "logits",
    engine: str = "torch",
) -> SampledWorths:
    """Evaluate a model on sampled coalitions until its mean Shapley values are known well enough.

    Takes what ``coalition_worths`` takes, but up to 64 bands, and one of these or both:
    tolerance: the standard error, in the unit of the worths, that no band's mean value (of the
    first value asked for) shall exceed, for images and draws together; ``relative``: as a share of
    the mean v(all) - v(none). budget: the most forward passes of coalitions, those made before a
    resume included (``embedding`` sees each clean image besides). subset: draws go by the position
    in it, so its columns are estimates of their own.
    It ends within the tolerance, at the budget, where the images at hand cannot reach the
    tolerance however many coalitions are drawn, or where all coalitions would take no more passes;
    ``stopped`` and ``message`` in the provenance say which, and a RuntimeWarning if the tolerance
    was not reached. seed: also of the order of the images and of the coalitions.
    resume: as there; a later call may have another tolerance or budget and goes on.

    Errors and warnings: those of ``coalition_worths``; ValueError for neither tolerance nor budget,
    one that is not positive, a budget too small for 5 images, fewer than 3 bands, or ``relative``
    to 0.
    Source: seed 002 Eq. 3, estimated as in ``iaside.game.surrogate``.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> w = sampled_worths(brightness, torch.rand(9, 3, 16, 16), torch.zeros(9).long(),
    ...                    band_masks(4, (16, 16)), budget=72, batch_size=4, progress=False)
    >>> w.estimates.values.shape, w.provenance["stopped"]
    ((4, 9), 'budget')
    """
    _check_request(tolerance, budget)
    pool = executor(workers, device_of(model, device))
    setup = prepare(
        model,
        images,
        labels,
        masks,
        value,
        absence,
        precision,
        device,
        batch_size,
        resume,
        temperature,
        sigma,
        seed,
        subset,
        outputs,
        engine,
        sampled=True,
    )
    n, n_bands = len(setup.images), setup.provenance["n_bands"]
    per_image = passes_per_image(n_bands)
    _check_size(tolerance, budget, n, n_bands, per_image)
    sample = _Sample(setup, resume, seed, pool)
    if progress:
        print(
            f"{per_image} of {2**n_bands:,} coalitions x up to {n} images a round = "
            f"{per_image * n:,} forward passes; {how_long(setup, per_image * n)}",
            file=sys.stderr,
            flush=True,
        )
    with tqdm(total=budget, disable=not progress, unit="pass", smoothing=0.1) as bar:
        stopped, message = _run(sample, tolerance, relative, budget, bar)
    if tolerance is not None and stopped != "tolerance":
        warnings.warn(message, RuntimeWarning, stacklevel=4)  # past the decorators
    elif progress:
        print(message, file=sys.stderr, flush=True)
    clean, gain = sample.clean()
    warn_of_chance(clean, gain)
    return sample.rows(
        clean
        | dict(
            stopped=stopped, message=message, tolerance=tolerance, relative=relative, budget=budget
        )
    )


def sampled_passes(n_bands: int, n_images: int, budget: int) -> int:
    """Forward passes of ``sampled_worths`` at most, without those that only time the network.

    >>> sampled_passes(32, 24, budget=5000), sampled_passes(4, 24, budget=5000)
    (5006, 390)
    """
    return min(budget, 2**n_bands * n_images) + PROBE


def _run(sample: _Sample, tolerance, relative, budget, bar) -> tuple[str, str]:
    """Visit images, round after round, until there is a reason to stop; which, and in words."""
    n, n_bands = len(sample.order), sample.n_bands
    group = max(1, sample.setup.batch_size // sample.width)
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

    def __init__(self, setup: Setup, resume, seed: int, pool: Executor) -> None:
        # The full coalition is the image itself, where it is seen what the model knows.
        self.setup, self.seed, self.resume = setup.watched(), seed, resume
        self.n_bands, self.values = setup.provenance["n_bands"], list(self.setup.scorer.values)
        self.pairs, self.width = pairs_per_image(self.n_bands), passes_per_image(self.n_bands)
        n = len(setup.images)
        self.order = np.random.default_rng([seed, n]).permutation(n)
        self.codes = np.empty((n, 0), np.uint64)
        self.worths = np.empty((len(self.values), n, 0))  # NaN: not measured
        self.file: Table | None = None  # of the round that is open
        self.rounds, self.start = 0, 0  # opened so far; first column of the last one
        self.pool, self.forwards = pool, 0

    def open_round(self) -> None:
        """Draw as many pairs again for every image, the same ones whoever asks."""
        n = len(self.order)
        drawn = [
            draw_pairs(self.n_bands, self.pairs, np.random.default_rng([self.seed, self.rounds, i]))
            for i in range(n)
        ]
        ends = np.tile(np.array([0, whole(self.n_bands)], np.uint64), (n, self.rounds == 0))
        self.start = self.codes.shape[1]
        self.codes = np.concatenate([self.codes, ends, drawn], axis=1)
        asked = hashlib.sha256(self.codes[:, self.start :].tobytes()).hexdigest()
        about = self.setup.provenance | {"round": self.rounds, "coalitions": asked}
        self.rounds += 1
        path = unfinished(self.resume, "sampled", about, __name__)
        self.file = Table(path, (len(self.values), n, self.codes.shape[1] - self.start))
        self.worths = np.concatenate([self.worths, np.full(self.file.shape, np.nan)], axis=2)

    def fresh(self, image: int) -> np.ndarray:
        """The columns of this round whose coalition this image has not had before."""
        first = np.unique(self.codes[image], return_index=True)[1]
        return np.sort(first[first >= self.start])

    def measure(self, visits: list[np.ndarray], bar) -> None:
        """Fill this round's columns of some images: those of a visit are in batches together."""
        jobs, setup = [], self.setup
        for here in visits:
            batches = []
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
        found = self.pool.each(visit, setup, jobs, setup.device, name=name) if jobs else ()
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
        fresh = [self.fresh(i) for i in here]
        owner = np.repeat(here, [len(f) for f in fresh])
        column = np.concatenate([np.empty(0, int), *fresh])
        size = self.setup.batch_size if len(here) == 1 else max(1, len(owner))
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
        return clean_summary(known, self.setup.classes), worths[0, :, 1] - worths[0, :, 0]

    def rows(self, ended: dict) -> SampledWorths:
        """Everything measured, as rows."""
        image, column = np.nonzero(np.isfinite(self.worths[0]))
        tables = {
            v: t[image, column]
            for v, t in zip(self.setup.provenance["values"], self.worths, strict=False)
        }
        ended |= at_floor(self.setup.provenance, tables)
        return SampledWorths(
            image,
            column // 2,
            self.codes[image, column],
            tables,
            self.setup.provenance | ended,
            self.forwards,
        )


def visit(
    setup: Setup, here: np.ndarray, batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Play coalitions of some images, batch by batch.

    batches: image, column and code of each coalition;  yields images, columns and their scores
    (values, coalitions).
    """
    setup = setup.at_home()
    images = torch.from_numpy(here)
    targets, reference = setup.targets(images), setup.reference(images)
    games: dict = {}  # the bands of one image, for all its batches
    for owner, column, codes in batches:
        pictures = []
        for i in dict.fromkeys(owner.tolist()):
            if i not in games:
                games.clear()  # before there are others
                games[i] = setup.game(slice(i, i + 1))
            pictures.append(_pictures(setup, games[i], i, codes[owner == i]))
        which = torch.from_numpy((here == owner[:, None]).argmax(1))
        known = (t if t is None else t[which] for t in (targets, reference))
        yield owner, column, setup.scores(torch.cat(pictures), *known, _images(owner))


def _pictures(setup: Setup, game, image: int, codes: np.ndarray) -> Tensor:
    """One picture per coalition."""
    present = torch.from_numpy(members(codes, setup.provenance["n_bands"])).to(setup.device)
    shown = game.coalitions(present)
    # The image itself, not a sum of bands, which rounds.
    everything = codes == whole(setup.provenance["n_bands"])
    shown[np.flatnonzero(everything)] = setup.images[image].to(shown)
    return shown


def _images(places: np.ndarray) -> str:
    return f"images {', '.join(map(str, np.unique(places)))}"


def _check_request(tolerance, budget) -> None:
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
