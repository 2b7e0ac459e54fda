"""The game of frequency bands: images x coalitions of bands -> worths, for any callable model.

Filtering is linear, so an image is split into M bands once and each coalition is a sum of bands:
all coalitions of an image come from one (2^M x M) by (M x pixels) matrix product, made in pieces
of a batch or a few. Bands are kept channels-last, the layout in which convolutions are fastest.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from numbers import Integral
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from iaside.backend.answers import logits_of
from iaside.backend.batch import fastest_batch_size
from iaside.backend.device import device_of, own_device
from iaside.backend.fingerprints import fingerprint, fingerprint_model, look
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.resume import Table, unfinished
from iaside.estimate.clean import clean_summary
from iaside.game.absence import fill_images
from iaside.game.bands import Bands
from iaside.game.players import about_players
from iaside.game.values import (
    OF_CLASSES,
    OF_EMBEDDINGS,
    VALUES,
    WATCHED,
    Value,
    finite,
    labels_for,
    retrieval,
    scores_of,
    value_functions,
)
from iaside.inputs.checks import check_images, widened
from iaside.inputs.labels import places
from iaside.inputs.probe import probe
from iaside.shapley import check_coalitions
from iaside.spectral import Masks, bands_of, check_masks

JOB = 256  # coalitions of some images that are one job
PIECE = 16  # coalitions put together at a time: of one alone nearly all bands are read, too


class Settings(TypedDict, total=False):
    """What `Game` takes besides a model, images, labels and masks."""

    value: Value | Sequence[Value]
    absence: str
    precision: str
    device: str | torch.device | None
    batch_size: int | None
    temperature: float
    sigma: float
    seed: int
    subset: Sequence[int] | None
    workers: object
    outputs: str
    engine: str


class Game:
    """The cooperative game that a model plays on images: its players are frequency bands.

    Called with coalitions (K, M) bool it gives their mean worths (K,) over the images, as shapiq's
    approximators ask; ``per_image`` gives those of every image. ``exact`` measures all coalitions
    and keeps them, ``sample`` as many as a precision takes.

    Shapes: images (N, C, H, W) in [0, 1], or signals (N, C, T) of any finite numbers, and with
    masks (M, T//2 + 1) all else is as for images; labels (N,) class indices or (N, classes)
    probabilities (None for ``embedding`` and ``retrieval`` alone, any numbers (N, ...) if all
    values are functions); masks (M, H, W//2 + 1) or a callable
    x -> (M, B, C, H, W).

    value: ``log_likelihood`` log Q(y|x) in nats, ``probability`` Q(y|x) at ``temperature``,
    ``accuracy`` 0 or 1, ``margin`` logit of y minus the largest other, ``embedding`` cosine of
    the output to that of the clean image (one more pass per image), ``retrieval`` how surely it is
    found by that among all images (`values.retrieval`; two more), or a function (outputs (B, ...),
    labels) -> (B,); several in a list cost one pass, and the first is what calls give.
    absence: what stands in a missing band: ``zero`` nothing, ``gaussian`` the same band of white
    noise with standard deviation ``sigma`` (seeded per image), ``replacement`` of another image
    of the set (seeded, the same for all coalitions), ``mean`` of the set's mean colour.
    precision: ``float32`` or ``bfloat16`` (autocast: faster on some machines, and less accurate).
    device: where to compute; None is where the model is. seed: of noise and donors.
    batch_size: images per forward pass, or None: what the engine takes at a time; of PyTorch the
    fastest, measured when it is first needed, once per machine, and remembered.
    subset: indices of the images to measure; what stands in absent bands (mean colour, donors,
    noise) is still that of the whole set, so a column is the same as in the whole table.
    workers: who evaluates, as in ``parallel.executor``: by default this process. The batches are
    the same, so the worths are, where torch has as many threads (one in workers) and the same
    hardware.
    outputs: what the model gives, ``logits``, ``probabilities`` or ``binary``, one logit for label
    1 (``inputs.probe``).
    engine: who answers, ``torch`` or ``openvino``, which is faster on a CPU in float32
    (``backend.engine``); a model that it cannot answer for alike, an embedding or a function as
    value are left to PyTorch, which stderr and ``engine`` in the provenance say. Its answers depend
    on nothing beside a picture: with ``zero`` it is shown the empty coalition, which is the same
    picture of all images, once.

    n_players: M;  provenance: content hashes of model, images and masks, and all settings.

    Errors: ValueError/TypeError before any long computation for images outside [0, 1], labels
    that do not fit, bands that do not add up to the image (``split_bands``), and for a model that
    ``iaside.inputs.probe`` refuses; nan or infinite outputs end an evaluation.
    Source: Luo et al. 2024, Eqs. 5, 7 and 8 (the constant C, the worth of no band, is not
    subtracted).

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> game = Game(brightness, torch.ones(5, 3, 16, 16), torch.zeros(5).long(),
    ...             band_masks(2, (16, 16)), value="margin", batch_size=4)
    >>> game
    Game(2 bands, 5 images, margin, absence zero, float32 on cpu)
    >>> game(np.array([[False, False], [False, True], [True, True]])).round(3)
    array([0., 0., 1.])
    """

    @undisturbed
    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor | None,
        masks: Masks,
        value: Value | Sequence[Value] = "log_likelihood",
        absence: str = "zero",
        precision: str = "float32",
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        temperature: float = 1.0,
        sigma: float = 0.25,
        seed: int = 0,
        subset: Sequence[int] | None = None,
        workers: object = None,
        outputs: str = "logits",
        engine: str = "torch",
    ) -> None:
        self.device, self.precision, self.seed = device_of(model, device), precision, seed
        self.pool = executor(workers, self.device)
        images = widened(check_images(images, on_disk=True, signals=True))
        check_precision(precision)
        self.values = value_functions(value, temperature)
        labels = labels_for(self.values, labels, len(images))
        self.fill = fill_images(images, absence, sigma, seed)
        everything = fingerprint(images) if self.fill is not None else None
        whole_set = images
        self.index = torch.arange(len(images))  # in the set that absent bands are filled from
        if subset is not None:
            self.index = places(subset, len(images))
            images, labels = images[self.index], None if labels is None else labels[self.index]
        self.images, self.labels = images, labels
        self.masks, self.n_players = check_masks(masks, images)
        self.asked = probe(
            model,
            images,
            labels,
            outputs=outputs,
            precision=precision,
            device=self.device,
            class_outputs=not set(self.values).isdisjoint(OF_CLASSES),
            engine=engine,
            known_values=set(self.values) <= set(OF_CLASSES),
        )
        answer = self.asked.answer
        compared = [name for name in self.values if name in OF_EMBEDDINGS]
        if compared and self.asked.outputs == "logits" and answer.numel() == 1:
            raise ValueError(
                f"value={compared[0]!r} compares the directions of outputs, and of one number per "
                "image there are but two; give a model that returns a feature vector (B, features)"
            )
        if batch_size is not None:
            if not isinstance(batch_size, Integral) or batch_size is True or batch_size < 1:
                raise ValueError(
                    f"batch_size={batch_size!r} must be at least 1, or None to measure it"
                )
            self.batch_size = int(batch_size)
        among = {}  # which images, for retrieval
        if "retrieval" in self.values:
            among["among"] = fingerprint(whole_set)
            known = [self.outputs(x.to(self.device)).cpu() for x in whole_set.split(PIECE)]
            self.values["retrieval"] = partial(retrieval, among=torch.cat(known))
        self.watched = self.values  # with the two that say whether the model knows its classes
        if self.asked.classes is not None and labels is not None:
            self.watched = self.values | value_functions(WATCHED, 1.0) | self.values
        self.provenance = {
            "model": fingerprint_model(self.asked.model, answer),
            **self.asked.about,
            "images": fingerprint(images),
            "look": look(images),
            **among,
            "labels": fingerprint(labels) if labels is not None else None,
            "masks": fingerprint(
                bands_of(images[:1], self.masks) if callable(self.masks) else self.masks
            ),
            "n_bands": self.n_players,
            **about_players(self.masks),
            **({"unit": "signals"} if images.ndim == 3 else {}),
            "n_images": len(images),
            "values": list(self.values),
            "temperature": temperature,
            "absence": absence,
            "absence_from": everything,
            "sigma": sigma if absence == "gaussian" else None,
            "seed": seed,
            "precision": precision,
            "device": self.device.type,
        }
        self._begun: dict = {}  # of each thread, the images that it is at
        self._clean: np.ndarray | None = None
        self._nothing: Tensor | None = None  # the answer to the empty coalition

    def __repr__(self) -> str:
        about = self.provenance
        return (
            f"Game({self.n_players} bands, {len(self.images)} images, {', '.join(self.values)}, "
            f"absence {about['absence']}, {about['precision']} on {about['device']})"
        )

    def __getstate__(self) -> dict:
        """Without what belongs to this process."""
        return vars(self) | {"pool": None, "_begun": {}}

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """The mean worths (K,) of coalitions (K, M) bool; one alone, (M,), gives (1,)."""
        return self.per_image(coalitions).mean(1)

    @undisturbed
    def per_image(self, coalitions: np.ndarray) -> np.ndarray:
        """The worths of coalitions (K, M) bool for every image, (K, N) float64.

        A coalition that is asked twice is evaluated once; that of all bands is the image itself,
        and is known from the first time on.
        Errors: TypeError for what is not boolean, ValueError for another number of bands.

        >>> from iaside.spectral import band_masks
        >>> game = Game(lambda x: 9 * x.flatten(1), torch.rand(3, 1, 8, 8), torch.zeros(3).long(),
        ...             band_masks(2, (8, 8)), batch_size=4)
        >>> game.per_image(np.array([[True, False], [True, True]])).shape
        (2, 3)
        """
        found = check_coalitions(coalitions, self.n_players)
        # In the order of their codes, so that all of them are in the batches of `exact`.
        members, place = np.unique(found[:, ::-1], axis=0, return_inverse=True)
        members = members[:, ::-1].copy()
        table = np.full((len(self.values), len(members), len(self.images)), np.nan)
        whole = members.all(1)
        if whole.any():
            table[:, whole] = self.clean()[0][:, None]
        for _ in self.measure(table, members):
            pass
        return table[0, place.ravel()]

    # -- for `exact` and `sample` ------------------------------------------------------------------

    @cached_property
    @undisturbed
    def batch_size(self) -> int:
        """Images per forward pass."""
        if self.asked.engine:
            return self.asked.engine.together
        used = f"{self.precision} {self.asked.answers}"
        one = self.images[:1].to(self.device)
        return fastest_batch_size(self._seconds, self.asked.model, one, used)

    def unfinished(self, resume: str | os.PathLike | None, kind: str, about: dict, module: str):
        """Where a measurement in progress is kept (`backend.resume`).

        Errors: ValueError for a function as value, of which no version is known.
        """
        if resume is not None and (own := [name for name in self.values if name not in VALUES]):
            raise ValueError(
                f"resume= cannot tell one version of the function {own[0]!r} from another; "
                f"use resume=None with functions, or one of {', '.join(VALUES)}"
            )
        return unfinished(resume, kind, about, module)

    def clean(self, resume: str | os.PathLike | None = None) -> tuple[np.ndarray, dict, int]:
        """v(all) of every value and image, what is known of the answers, and the passes it took."""
        names, forwards = list(self.watched), 0
        if self._clean is None:
            path = self.unfinished(resume, "clean", self.provenance, __name__)
            table = Table(path, (len(names), len(self.images)))
            for start in range(0, len(self.images), self.batch_size):
                here = slice(start, min(start + self.batch_size, len(self.images)))
                if np.isnan(table[:, here]).any():
                    x = self.images[here].to(self.device)
                    # They are the reference, too, where one is wanted.
                    outputs = self.outputs(x)
                    scores = scores_of(self.watched, outputs, self.targets(here), outputs)
                    table[:, here] = finite(scores, np.arange(here.start, here.stop))
                    forwards += len(x)
            self._clean = table.values
        known = dict(zip(names, self._clean, strict=True))
        return self._clean[: len(self.values)], clean_summary(known, self.asked.classes), forwards

    def measure(self, table: Table | np.ndarray, members: np.ndarray) -> Iterator[tuple[int, int]]:
        """Fill in what is missing of a table (values, K, N) of coalitions (K, M), batch by batch.

        Yields how many worths were found, and how many passes that took.
        """
        for row in np.flatnonzero(~members.any(1)) if self.one_nothing else ():
            if unknown := int(np.isnan(table[:, row]).any(0).sum()):
                table[:, row], made = self.nothing(self.values, np.arange(len(self.images)))
                yield unknown, made
        jobs = self._jobs(table, members)
        found = self.pool.each(evaluate, self, jobs, self.device, name=self.named)
        for (here, *_), (rows, scores) in found:
            table[:, rows, here] = scores
            yield scores[0].size, scores[0].size

    @property
    def one_nothing(self) -> bool:
        """Whether one answer to the empty coalition is, in every byte, that of all images."""
        return self.fill is None and self.asked.engine is not None

    def nothing(self, values: dict, images: np.ndarray) -> tuple[np.ndarray, int]:
        """The worths of the empty coalition where it is one picture, (values, images), and the
        passes it took: one, the first time."""
        made = self._nothing is None
        if made:
            self._nothing = self.outputs(torch.zeros_like(self.images[:1], device=self.device))
        outputs, targets = self._nothing, self.targets(torch.from_numpy(images))
        scores = scores_of(values, outputs.repeat(len(images), 1), targets, None)
        return finite(scores, images), int(made)

    def _jobs(self, table: Table | np.ndarray, members: np.ndarray) -> Iterator[tuple]:
        """The images that belong in one batch, their coalitions that are not measured yet, so many
        at a time, and how many make a batch."""
        count, n = table.shape[1:]
        # Several images only when games are small; their bands take no more memory than a batch.
        group = max(1, self.batch_size // max(count, self.n_players))
        chunk = max(1, min(count, self.batch_size // group))
        job = _piece(chunk) * max(1, JOB // _piece(chunk))
        for start in range(0, n, group):
            here = slice(start, min(start + group, n))
            todo = np.flatnonzero(np.isnan(table[:, :, here]).any(axis=(0, 2)))
            for rows in np.split(todo, range(job, len(todo), job)):
                if len(rows):
                    yield here, rows, members[rows], chunk

    @staticmethod
    def named(here: slice, *_) -> str:
        """What messages call some images."""
        return f"images {here.start} to {here.stop - 1}"

    def begun(self, here: slice) -> tuple[Bands, Tensor | None, Tensor | None]:
        """The bands of some images, their targets and reference, also for their next coalitions."""
        thread = threading.get_ident()
        if thread not in self._begun or self._begun[thread][0] != here:
            self._begun.pop(thread, None)  # before there are others
            begun = self.bands(here), self.targets(here), self.reference(here)
            self._begun[thread] = here, begun
        return self._begun[thread][1]

    def bands(self, here: slice) -> Bands:
        """The bands of some images, to be put together."""
        fill = None if self.fill is None else self.fill(self.index[here]).to(self.device)
        return Bands(self.images[here].to(self.device), fill, self.masks)

    def targets(self, here: slice | Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels[here].to(self.device)

    def reference(self, here: slice | Tensor) -> Tensor | None:
        """Outputs for the clean images, where a value compares with them."""
        if set(self.values).isdisjoint(OF_EMBEDDINGS):
            return None
        return self.outputs(self.images[here].to(self.device))

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """What the model answers, as logits, in the chosen precision."""
        with arithmetic(self.precision, self.device):
            return self.asked(x)

    def _seconds(self, batch: Tensor) -> float:
        """Time of one forward pass and its scores, of a batch of the first image over and over."""
        targets = self.targets(slice(0, 1))
        reference = logits_of(self.asked.answer.to(self.device), self.asked.outputs)
        start = time.perf_counter()
        scores = scores_of(self.values, self.outputs(batch), targets, reference)
        scores.cpu()  # waits for the device
        return time.perf_counter() - start

    def seconds(self, passes: int) -> float:
        """How long so many forward passes will take."""
        one = self.images[:1].to(self.device)
        batch = one.expand(self.batch_size, *one.shape[1:])
        return min(self._seconds(batch) for _ in range(3)) / self.batch_size * passes

    def how_long(self, passes: int) -> str:
        """The same in words, and what it depends on."""
        seconds = self.seconds(passes)
        took = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
        where = f"{self.precision} on {self.device.type}"
        return f"{where}, {self.batch_size} images a pass: about {took}"


def evaluate(
    game: Game, here: slice, rows: np.ndarray, members: np.ndarray, chunk: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Evaluate coalitions (k, M) of some images: rows and scores (values, rows, images) of each
    batch, which holds ``chunk`` of them."""
    game.device = own_device(game.device)
    members = torch.from_numpy(members).float().to(game.device)
    bands, targets, reference = game.begun(here)
    images, piece = np.arange(here.start, here.stop), _piece(chunk)
    for first in range(0, len(rows), piece):
        pictures = bands.coalitions(members[first : first + piece])
        for k, batch in enumerate(pictures.split(chunk * len(images))):
            start = first + k * chunk
            scores = finite(scores_of(game.values, game.outputs(batch), targets, reference), images)
            yield rows[start : start + chunk], scores.reshape(len(scores), -1, len(images))


def _piece(chunk: int) -> int:
    """Coalitions that are put together at a time: whole batches."""
    return chunk * max(1, PIECE // chunk)
