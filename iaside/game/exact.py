"""All coalitions of bands: their worths as a table, and their pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.executors import Here
from iaside.backend.log import log
from iaside.backend.precision import undisturbed
from iaside.backend.resume import Table
from iaside.estimate.clean import at_floor, warn_of_chance
from iaside.game.absence import fill_images
from iaside.game.bands import Bands
from iaside.game.game import Game, Settings
from iaside.game.values import Value, clean_looks
from iaside.inputs.checks import check_images
from iaside.inputs.probe import PROBE
from iaside.shapley import check_coalitions, coalitions
from iaside.spectral import Masks, check_masks
from iaside.tables import Worths

MAX_BANDS = 14


@undisturbed
def exact(game: Game, resume: str | os.PathLike | None = None, progress: bool = True) -> Worths:
    """Measure all coalitions of a game: ``Worths`` with tables (2**M, N).

    The answers to the images themselves, which are asked for first, are the last row, v(all), and
    ``clean`` in the provenance says how many are classified right.
    resume: a folder for the measurement in progress; a later call for the same model, images
    and settings computes only what is missing there. It may go when the result has been kept.
    progress: say what it will cost before, then show a bar, on stderr.

    Errors: ValueError for more than 14 bands, for ``resume`` with a function of one's own as value,
    and for nan or infinite outputs, which end the run.
    RuntimeWarning where the clean images are not clearly classified better than by chance,
    v(all) - v(none) is not clearly above 0, or probabilities were floored.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> game = Game(brightness, torch.rand(5, 3, 16, 16), torch.zeros(5).long(),
    ...             band_masks(2, (16, 16)), value="margin", batch_size=4)
    >>> exact(game, progress=False).table.shape
    (4, 5)
    """
    n_bands, provenance = game.n_players, game.provenance
    if n_bands > MAX_BANDS:
        raise ValueError(
            f"{n_bands} bands make 2**{n_bands} = {2**n_bands:,} coalitions of every image; "
            f"take at most {MAX_BANDS} bands, or sample them (sampled_worths)"
        )
    path = game.unfinished(resume, "worths", provenance, __name__)
    tables = Table(path, (len(game.values), 2**n_bands, len(game.images)))
    missing = int(np.isnan(tables.values).any(axis=0).sum())
    if progress and missing:
        _announce(game, missing)
    with tqdm(total=missing, disable=not progress, unit="pass", smoothing=0.1) as bar:
        whole, clean, forwards = game.clean(resume)
        known = ~np.isnan(tables[:, -1]).any(axis=0)
        if not known.all():  # or each call would add a file
            bar.update(int((~known).sum()))
            tables[:, -1] = whole
        for found, made in game.measure(tables, coalitions(n_bands)):
            forwards += made
            bar.update(found)
    warn_of_chance(clean, tables[0, -1] - tables[0, 0])
    named = dict(zip(game.values, tables.values, strict=True))
    return Worths(named, provenance | clean | at_floor(provenance, named), forwards)


def coalition_worths(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    masks: Masks,
    value: Value | Sequence[Value] = "log_likelihood",
    absence: str = "zero",
    *,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    **settings: Unpack[Settings],
) -> Worths:
    """Evaluate a model on every coalition of frequency bands of every image: `exact` of a `Game`.

    Takes what these two take, and raises what they raise.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> w = coalition_worths(brightness, torch.rand(5, 3, 16, 16), torch.zeros(5).long(),
    ...                      band_masks(2, (16, 16)), value="margin", batch_size=4, progress=False)
    >>> w.table.shape
    (4, 5)
    """
    return exact(Game(model, images, labels, masks, value, absence, **settings), resume, progress)


def coalition_passes(n_bands: int, n_images: int, values: Sequence[str] = ()) -> int:
    """Forward passes of ``coalition_worths``, without those that only time the network.

    The clean images are the last coalition. values: what is asked for, as some values also see
    every clean image, to compare with.

    >>> coalition_passes(8, 24)  # six to see what the model does first
    6150
    """
    return (2**n_bands + clean_looks(values)) * n_images + PROBE


def _announce(game: Game, missing: int) -> None:
    rows, images = 2**game.n_players, len(game.images)
    pool = game.pool
    shared = "" if isinstance(pool, Here) else f" here, shared by {pool.workers} workers"
    log.info(
        f"{rows} coalitions x {images} images = {rows * images:,} forward passes, "
        f"{rows * images - missing:,} already done; {game.how_long(missing)}{shared}"
    )


@undisturbed
def coalition_images(
    images: Tensor,
    masks: Masks,
    members: np.ndarray,
    absence: str = "zero",
    sigma: float = 0.25,
    seed: int = 0,
) -> Tensor:
    """The pixels that a `Game` shows a model, to look at.

    Shapes: images (N, C, H, W) in [0, 1] or signals (N, C, T); masks as there; members (K, M) bool,
    the bands that are present, such as rows of ``coalitions(M)``; returns (K, *images.shape), not
    clipped to [0, 1].
    absence, sigma, seed: what stands in absent bands, as there.

    Errors: those of `Game` for images, masks, absence and coalitions.
    Source: Luo et al. 2024, Eq. 5, Figs. 5 and 12.

    >>> from iaside.spectral import band_masks
    >>> x = torch.rand(2, 3, 16, 16)
    >>> shown = coalition_images(x, band_masks(2, (16, 16)), coalitions(2), "replacement")
    >>> torch.allclose(shown[-1], x, atol=1e-5), torch.allclose(shown[0], x.flip(0), atol=1e-5)
    (True, True)
    """
    images = check_images(images, signals=True).detach()
    masks, n_bands = check_masks(masks, images)
    members = torch.from_numpy(np.ascontiguousarray(check_coalitions(members, n_bands)))
    fill = fill_images(images, absence, sigma, seed)
    filled = None if fill is None else fill(torch.arange(len(images)))
    return Bands(images, filled, masks).coalitions(members).reshape(len(members), *images.shape)
