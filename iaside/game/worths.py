"""The one hot loop: images x coalitions of bands -> worths, for any callable model.

Filtering is linear, so an image is split into M bands once and each coalition is a sum of bands:
all coalitions of an image come from one (2^M x M) by (M x pixels) matrix product, made in pieces
of a batch or a few. Bands are kept channels-last, the layout in which convolutions are fastest.
"""

from __future__ import annotations

import copy
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.answers import logits_of
from iaside.backend.batch import fastest_batch_size
from iaside.backend.device import device_of, own_device
from iaside.backend.executors import Executor, Here
from iaside.backend.fingerprints import fingerprint, fingerprint_model, look
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.resume import Table, unfinished
from iaside.estimate.clean import at_floor, clean_summary, warn_of_chance
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images, widened
from iaside.inputs.labels import class_labels, places
from iaside.inputs.probe import PROBE, probe
from iaside.shapley import coalitions
from iaside.spectral import Masks, bands_of, check_masks
from iaside.tables import Worths

ABSENCES = ("zero", "gaussian", "replacement", "mean")
VALUES = ("log_likelihood", "probability", "accuracy", "margin", "embedding")
OF_CLASSES = VALUES[:-1]  # what these say of answers needs logits of classes
WATCHED = ("log_likelihood", "accuracy")  # of the clean images, whatever else is asked for
MAX_BANDS = 14
JOB = 256  # coalitions of some images that are one job
PIECE = 16  # coalitions put together at a time: of one alone nearly all bands are read, too
Value = str | Callable[[Tensor, Tensor], Tensor]
Job = tuple[slice, np.ndarray]  # some images, some rows of the table


@undisturbed
def coalition_worths(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    masks: Masks,
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
) -> Worths:
    """Evaluate a model on every coalition of frequency bands of every image.

    Shapes: images (N, C, H, W) in [0, 1]; labels (N,) class indices or (N, classes)
    probabilities (None if ``embedding`` is the only value); masks (M, H, W//2 + 1) or a callable
    x -> (M, B, C, H, W); returns ``Worths`` with tables (2**M, N).

    value: ``log_likelihood`` log Q(y|x) in nats, ``probability`` Q(y|x) at ``temperature``,
    ``accuracy`` 0 or 1, ``margin`` logit of y minus the largest other, ``embedding`` cosine of
    the output to that of the clean image (one more pass per image), or a function (outputs
    (B, ...), labels) -> (B,); several in a list cost one pass.
    absence: what stands in a missing band: ``zero`` nothing, ``gaussian`` the same band of white
    noise with standard deviation ``sigma`` (seeded per image), ``replacement`` of another image
    of the set (seeded, the same for all coalitions), ``mean`` of the set's mean colour.
    precision: ``float32`` or ``bfloat16`` (autocast: faster on some machines, and less accurate).
    batch_size: images per forward pass, or None for the fastest, measured once per machine and
    remembered.
    device: where to compute; None is where the model is. seed: of noise and donors.
    subset: indices of the images to measure; what stands in absent bands (mean colour, donors,
    noise) is still that of the whole set, so a column is the same as in the whole table.
    progress: say what it will cost before, then show a bar, on stderr.
    resume: a folder for the measurement in progress; a later call with the same model, images
    and settings computes only what is missing there. It may go when the result has been kept.
    workers: who plays, as in ``parallel.executor``: by default this process. The batches are
    the same, so the table is, where torch has as many threads (one in workers) and the same
    hardware.
    outputs: what the model gives, ``logits``, ``probabilities`` or ``binary``, one logit for label
    1 (``inputs.probe``). The clean images are asked about first: their answers are the last row,
    v(all), and ``clean`` in the provenance says how many are classified right.
    engine: who answers, ``torch`` or ``openvino``, which is faster on a CPU in float32
    (``backend.engine``); a model that it cannot answer for alike, an embedding or a function as
    value are left to PyTorch, which stderr and ``engine`` in the provenance say.

    Errors: ValueError/TypeError before any long computation for images outside [0, 1], labels
    that do not fit, bands that do not add up to the image (``split_bands``), more than 14 of them,
    and for a model that ``iaside.inputs.probe`` refuses; nan or infinite outputs end the run.
    RuntimeWarning where the clean images are not clearly classified better than by chance,
    v(all) - v(none) is not clearly above 0, or probabilities were floored.
    Source: seed 002 Eqs. 5, 7 and 8 (the constant C is row 0 of the table, not subtracted).

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> w = coalition_worths(brightness, torch.rand(5, 3, 16, 16), torch.zeros(5).long(),
    ...                      band_masks(2, (16, 16)), value="margin", batch_size=4, progress=False)
    >>> w.table.shape
    (4, 5)
    """
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
    )
    images, provenance = setup.images, setup.provenance
    values, n_bands = provenance["values"], provenance["n_bands"]
    path = unfinished(resume, "worths", provenance, __name__)
    tables = Table(path, (len(values), 2**n_bands, len(images)))
    missing = int(np.isnan(tables.values).any(axis=0).sum())
    if progress and missing:
        _announce(tables.shape[1:], missing, setup, pool)

    with tqdm(total=missing, disable=not progress, unit="pass", smoothing=0.1) as bar:
        whole, clean, forwards = _clean_pass(setup, resume)
        known = ~np.isnan(tables[:, -1]).any(axis=0)
        if not known.all():  # or each call would add a file
            bar.update(int((~known).sum()))
            tables[:, -1] = whole
        jobs = _missing(tables, setup.group, setup.rows)
        played = pool.each(play, setup, jobs, setup.device, name=setup.named)
        for (here, _), (rows, scores) in played:
            tables[:, rows, here] = scores
            forwards += scores[0].size
            bar.update(scores[0].size)
    warn_of_chance(clean, tables[0, -1] - tables[0, 0])
    named = dict(zip(values, tables.values, strict=True))
    return Worths(named, provenance | clean | at_floor(provenance, named), forwards)


def _clean_pass(setup: Setup, resume) -> tuple[np.ndarray, dict, int]:
    """v(all) of every value and image, what is known of the answers, and the passes it took."""
    watched = setup.watched()
    names = list(watched.scorer.values)
    path = unfinished(resume, "clean", setup.provenance, __name__)
    table = Table(path, (len(names), len(setup.images)))
    forwards = 0
    for start in range(0, table.shape[1], setup.batch_size):
        here = slice(start, min(start + setup.batch_size, table.shape[1]))
        if np.isnan(table[:, here]).any():
            x = setup.images[here].to(setup.device)
            table[:, here] = watched.clean_scores(x, setup.targets(here), start)
            forwards += len(x)
    known = dict(zip(names, table.values, strict=True))
    found = table[: len(setup.scorer.values)]
    return found, clean_summary(known, setup.classes), forwards


def _missing(tables: Table, group: int, rows: int) -> Iterator[Job]:
    """The images that belong in one batch, and their coalitions that are not measured yet, so many
    at a time."""
    for start in range(0, tables.shape[2], group):
        here = slice(start, min(start + group, tables.shape[2]))
        todo = np.flatnonzero(np.isnan(tables[:, :, here]).any(axis=(0, 2)))
        for first in range(0, len(todo), rows):
            yield here, todo[first : first + rows]


def play(setup: Setup, here: slice, todo: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Play coalitions of some images: batch by batch, rows and scores (values, rows, images)."""
    setup = setup.at_home()
    members = torch.from_numpy(coalitions(setup.provenance["n_bands"])).float().to(setup.device)
    game, targets, reference = setup.begun(here)
    for first_row in range(0, len(todo), setup.piece):
        pictures = game.coalitions(members[todo[first_row : first_row + setup.piece]])
        for batch in pictures.split(setup.chunk * (here.stop - here.start)):
            rows, first_row = todo[first_row : first_row + setup.chunk], first_row + setup.chunk
            scores = setup.scores(batch, targets, reference, setup.named(here))
            yield rows, scores.reshape(len(scores), len(rows), -1)


def coalition_passes(n_bands: int, n_images: int, embedding: bool = False) -> int:
    """Forward passes of ``coalition_worths``, without those that only time the network.

    The clean images are the last coalition. embedding: whether that value is asked for, which also
    sees every clean image, to compare with.

    >>> coalition_passes(8, 24)  # six to see what the model does first
    6150
    """
    return (2**n_bands + embedding) * n_images + PROBE


@undisturbed
def coalition_images(
    images: Tensor,
    masks: Masks,
    members: np.ndarray,
    absence: str = "zero",
    sigma: float = 0.25,
    seed: int = 0,
) -> Tensor:
    """The pixels that ``coalition_worths`` shows a model, to look at.

    Shapes: images (N, C, H, W) in [0, 1]; masks as there; members (K, M) bool, the bands that are
    present, such as rows of ``coalitions(M)``; returns (K, N, C, H, W), not clipped to [0, 1].
    absence, sigma, seed: what stands in absent bands, as in ``coalition_worths``.

    Errors: those of ``coalition_worths`` for images, masks and absence; ValueError for members of
    another number of bands.
    Source: seed 002 Eq. 5, Figs. 5 and 12.

    >>> from iaside.spectral import band_masks
    >>> x = torch.rand(2, 3, 16, 16)
    >>> shown = coalition_images(x, band_masks(2, (16, 16)), coalitions(2), "replacement")
    >>> torch.allclose(shown[-1], x, atol=1e-5), torch.allclose(shown[0], x.flip(0), atol=1e-5)
    (True, True)
    """
    images = check_images(images).detach()
    masks, _ = check_masks(masks, images)
    members = members.cpu() if isinstance(members, Tensor) else torch.from_numpy(np.array(members))
    fill = _fill_images(images, absence, sigma, seed)
    filled = None if fill is None else fill(torch.arange(len(images)))
    game = _Assembler(images, filled, masks)
    if members.ndim != 2 or members.shape[1] != len(game.bands):
        raise ValueError(
            f"members are {tuple(members.shape)}, and there are {len(game.bands)} bands: give (K, "
            f"{len(game.bands)}), a row for each coalition"
        )
    return game.coalitions(members).reshape(len(members), *images.shape)


class _Assembler:
    """Sums of the bands of a few images, channels-last, with the fill in the absent bands."""

    @torch.no_grad()  # a callable given as masks may hold weights
    def __init__(self, x: Tensor, fill: Tensor | None, masks: Masks) -> None:
        self.shape = x.shape
        bands = self._flat(bands_of(x, masks))
        self.base = None
        if fill is not None:
            fill_bands = self._flat(bands_of(fill, masks))
            bands = bands - fill_bands
            self.base = fill_bands.sum(0, keepdim=True)
        self.bands = bands
        self.buffer: Tensor | None = None

    @staticmethod
    def _flat(bands: Tensor) -> Tensor:
        return bands.permute(0, 1, 3, 4, 2).reshape(len(bands), -1)

    @torch.no_grad()  # masks may ask for gradients
    def coalitions(self, members: Tensor) -> Tensor:
        """(k, M) of 0.0 and 1.0 -> (k * B, C, H, W), coalition by coalition."""
        n, c, h, w = self.shape
        if self.buffer is None or len(self.buffer) != len(members):
            self.buffer = self.bands.new_empty(len(members), self.bands.shape[1])
        members = members.to(self.bands)
        if self.base is None:
            torch.mm(members, self.bands, out=self.buffer)
        else:
            torch.addmm(self.base, members, self.bands, out=self.buffer)
        return self.buffer.view(-1, h, w, c).permute(0, 3, 1, 2)


class _Scorer:
    """Batch of pixels -> one score per value and image, in the chosen precision."""

    def __init__(self, model, values, device, precision) -> None:
        self.asked = model if isinstance(model, Asked) else Asked(model)
        self.values, self.device, self.precision = values, device, precision

    @property
    def model(self):
        """The model as it was given."""
        return self.asked.model

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        with arithmetic(self.precision, self.device):
            return self.asked(x)

    def scores(self, x: Tensor, labels: Tensor | None, reference: Tensor | None) -> Tensor:
        """x (k * B, C, H, W), labels and reference of B images -> (values, k * B)."""
        return self.judge(self.outputs(x), labels, reference)

    def judge(self, outputs: Tensor, labels: Tensor | None, reference: Tensor | None) -> Tensor:
        """Outputs (k * B, ...) -> (values, k * B), nan where they are not finite."""
        outputs = outputs.float()
        repeats = len(outputs) // len(labels if labels is not None else reference)
        labels, reference = (
            None if t is None else t.repeat(repeats, *[1] * (t.ndim - 1))
            for t in (labels, reference)
        )
        scores = torch.stack(
            [
                f(outputs, reference if name == "embedding" else labels)
                for name, f in self.values.items()
            ]
        )
        # An accuracy, say, would not show it.
        broken = ~outputs.flatten(1).isfinite().all(1)
        return scores.masked_fill(broken, torch.nan)

    def seconds(self, batch: Tensor, labels: Tensor | None, reference: Tensor | None) -> float:
        """Time of one forward pass and its scores, of a batch of one image over and over."""
        start = time.perf_counter()
        self.scores(batch, labels, reference).cpu()  # the copy waits for the device
        return time.perf_counter() - start


@dataclass(eq=False)
class Setup:
    """What measuring a game starts from, all its coalitions or a sample of them (`prepare`)."""

    images: Tensor
    labels: Tensor | None
    masks: Masks
    index: Tensor  # of the images in the set that absent bands are filled from
    fill: Callable | None
    scorer: _Scorer
    batch_size: int
    provenance: dict
    kept: dict = field(default_factory=dict)  # of each thread, what it has begun with

    @property
    def device(self) -> torch.device:
        return self.scorer.device

    @property
    def classes(self) -> int | None:
        return self.scorer.asked.classes

    @property
    def group(self) -> int:
        """Images in a batch: several only when games are small."""
        return max(1, self.batch_size // 2 ** self.provenance["n_bands"])

    @property
    def chunk(self) -> int:
        """Coalitions in a batch."""
        return max(1, min(2 ** self.provenance["n_bands"], self.batch_size // self.group))

    @property
    def piece(self) -> int:
        """Coalitions that are put together at a time: whole batches."""
        return self.chunk * max(1, PIECE // self.chunk)

    @property
    def rows(self) -> int:
        """Coalitions in a job: whole pieces."""
        return self.piece * max(1, JOB // self.piece)

    def at_home(self) -> Setup:
        """The same on the device of the process that it is in (`own_device`)."""
        scorer = copy.copy(self.scorer)
        scorer.device = own_device(self.device)
        return replace(self, scorer=scorer)

    @staticmethod
    def named(here: slice, *_) -> str:
        """What messages call some images."""
        return f"images {here.start} to {here.stop - 1}"

    def begun(self, here: slice) -> tuple[_Assembler, Tensor | None, Tensor | None]:
        """The game of some images, their targets and reference, also for their next coalitions."""
        thread = threading.get_ident()
        if thread not in self.kept or self.kept[thread][0] != here:
            self.kept.pop(thread, None)  # before there are others
            begun = self.game(here), self.targets(here), self.reference(here)
            self.kept[thread] = here, begun
        return self.kept[thread][1]

    def game(self, here: slice) -> _Assembler:
        """The bands of some images, to be put together."""
        fill = None if self.fill is None else self.fill(self.index[here]).to(self.device)
        return _Assembler(self.images[here].to(self.device), fill, self.masks)

    def targets(self, here: slice) -> Tensor | None:
        return None if self.labels is None else self.labels[here].to(self.device)

    def reference(self, here: slice) -> Tensor | None:
        """Outputs for the clean images, where a value compares with them."""
        if "embedding" not in self.scorer.values:
            return None
        return self.scorer.outputs(self.images[here].to(self.device))

    def scores(self, batch, targets, reference, whose: str) -> np.ndarray:
        """Scores (values, len(batch)) float64. Errors: ValueError where one is not finite."""
        return _finite(self.scorer.scores(batch, targets, reference), whose)

    def clean_scores(self, x: Tensor, targets: Tensor | None, start: int) -> np.ndarray:
        """Those of the images themselves, which are the reference where one is wanted."""
        outputs = self.scorer.outputs(x)
        scores = self.scorer.judge(outputs, targets, outputs)
        broken = (start + (~scores.isfinite()).any(0).nonzero().flatten()).tolist() or [start]
        return _finite(scores, f"images {broken[0]} to {broken[-1]}")

    def watched(self) -> Setup:
        """The same with the two values that say whether the model knows its classes."""
        if self.classes is None or self.labels is None:
            return self
        scorer, more = copy.copy(self.scorer), _value_functions(WATCHED, 1.0)
        scorer.values = scorer.values | {n: f for n, f in more.items() if n not in scorer.values}
        return replace(self, scorer=scorer)

    def seconds(self, passes: int) -> float:
        """How long so many forward passes will take."""
        one = slice(0, 1)
        x = self.images[one].to(self.device).expand(self.batch_size, *self.images.shape[1:])
        known = self.targets(one), self.reference(one)
        return min(self.scorer.seconds(x, *known) for _ in range(3)) / self.batch_size * passes


def _finite(scores: Tensor, whose: str) -> np.ndarray:
    scores = scores.cpu().double().numpy()
    if not np.isfinite(scores).all():
        raise ValueError(
            f"the model returned nan or infinite worths for {whose}; "
            "check its weights, and try precision='float32'"
        )
    return scores


def prepare(
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
    sampled=False,
) -> Setup:
    """Check everything that `coalition_worths` takes and resolve what is left open."""
    images = widened(check_images(images, on_disk=True))
    device = device_of(model, device)
    check_precision(precision)
    values = _value_functions(value, temperature)
    labels = _labels(labels, len(images), values)
    fill = _fill_images(images, absence, sigma, seed)
    if resume is not None and (own := [name for name in values if name not in VALUES]):
        raise ValueError(
            f"resume= cannot tell one version of the function {own[0]!r} from another; "
            f"use resume=None with functions, or one of {', '.join(VALUES)}"
        )
    everything = fingerprint(images) if fill is not None else None
    index = torch.arange(len(images))
    if subset is not None:
        index = places(subset, len(images))
        images, labels = images[index], None if labels is None else labels[index]
    masks, n_bands = check_masks(masks, images)
    if n_bands > MAX_BANDS and not sampled:
        raise ValueError(
            f"{n_bands} bands make 2**{n_bands} = {2**n_bands:,} coalitions of every image; "
            f"take at most {MAX_BANDS} bands, or sample them (sampled_worths)"
        )

    asked = probe(
        model,
        images,
        labels,
        outputs=outputs,
        precision=precision,
        device=device,
        class_outputs=not set(values).isdisjoint(OF_CLASSES),
        engine=engine,
        known_values=set(values) <= set(OF_CLASSES),
    )
    if "embedding" in values and asked.outputs == "logits" and asked.answer.numel() == 1:
        raise ValueError(
            "value='embedding' compares the directions of outputs, and of one number per image "
            "there are but two; give a model that returns a feature vector (B, features)"
        )
    scorer = _Scorer(asked, values, device, precision)
    if batch_size is None:
        first_label = None if labels is None else labels[:1].to(device)
        reference = logits_of(asked.answer.to(device), asked.outputs)
        seconds = partial(scorer.seconds, labels=first_label, reference=reference)
        used = f"{precision} {asked.answers}"
        padded = asked.engine.batch if asked.engine else 1
        one = images[:1].to(device)
        batch_size = fastest_batch_size(seconds, scorer.model, one, used, padded)
    elif not isinstance(batch_size, Integral) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be at least 1, or None to measure it")

    provenance = {
        "model": fingerprint_model(scorer.model, asked.answer),
        **asked.about,
        "images": fingerprint(images),
        "look": look(images),
        "labels": fingerprint(labels) if labels is not None else None,
        "masks": fingerprint(bands_of(images[:1], masks) if callable(masks) else masks),
        "n_bands": n_bands,
        "n_images": len(images),
        "values": list(values),
        "temperature": temperature,
        "absence": absence,
        "absence_from": everything,
        "sigma": sigma if absence == "gaussian" else None,
        "seed": seed,
        "precision": precision,
        "device": device.type,
    }
    return Setup(images, labels, masks, index, fill, scorer, int(batch_size), provenance)


# -- value functions -----------------------------------------------------------------------------


def _value_functions(value: Value | Sequence[Value], temperature: float) -> dict[str, Callable]:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature} must be a number above 0")

    def probability(outputs: Tensor, labels: Tensor) -> Tensor:
        return _expected((outputs / temperature).softmax(-1), labels)

    known = {
        "log_likelihood": lambda outputs, labels: _expected(outputs.log_softmax(-1), labels),
        "probability": probability,
        "accuracy": _accuracy,
        "margin": _margin,
        "embedding": lambda outputs, clean: torch.cosine_similarity(
            outputs.flatten(1), clean.float().flatten(1)
        ),
    }
    functions = {}
    for v in [value] if isinstance(value, str) or callable(value) else value:
        if not callable(v) and v not in known:
            raise ValueError(
                f"value={v!r} is not known; choose from {', '.join(VALUES)}, "
                "or give a function (outputs, labels) -> (B,)"
            )
        name = getattr(v, "__name__", "") if callable(v) else v
        if not name or name in functions or (callable(v) and name in known):
            raise ValueError(
                f"value function {v!r} would be recorded as {name!r}; "
                "give every function a __name__ of its own, other than the built-in ones"
            )
        functions[name] = v if callable(v) else known[v]
    if not functions:
        raise ValueError("value=[] names nothing to record; give at least one value function")
    return functions


def _expected(scores: Tensor, labels: Tensor) -> Tensor:
    """The score of the label, or its mean under a soft label."""
    if labels.ndim == 2:
        return (scores * labels.to(scores)).sum(-1)
    return scores.gather(-1, labels[:, None]).squeeze(-1)


def _accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    predicted = torch.nn.functional.one_hot(outputs.argmax(-1), outputs.shape[-1]).to(outputs)
    return _expected(predicted, labels)


def _margin(outputs: Tensor, labels: Tensor) -> Tensor:
    others = outputs.scatter(-1, labels[:, None], -torch.inf)
    return _expected(outputs, labels) - others.amax(-1)


# -- absence -------------------------------------------------------------------------------------


def _fill_images(images: Tensor, absence: str, sigma: float, seed: int):
    """None for ``zero``, else a function: indices (B,) -> fill images (B, C, H, W)."""
    if absence not in ABSENCES:
        raise ValueError(f"absence={absence!r} is not known; choose one of {', '.join(ABSENCES)}")
    if absence == "zero":
        return None
    if absence == "mean":
        colour = _mean_colour(images).to(images.dtype).view(1, -1, 1, 1)
        return lambda index: colour.expand(len(index), *images.shape[1:])
    if absence == "replacement":
        if len(images) < 2:
            raise ValueError("absence='replacement' takes bands of other images: give at least 2")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        donor = torch.empty_like(order)
        donor[order] = order.roll(-1)  # one cycle: nobody is his own donor
        return lambda index: images[donor[index]]
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma} must be a number above 0 for absence='gaussian'")

    def noise(index: Tensor) -> Tensor:
        draws = [
            torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed + 7919 * i))
            for i in index.tolist()
        ]
        return sigma * torch.stack(draws).to(images[:1])

    return noise


def _mean_colour(images: Tensor) -> Tensor:
    """Of all pixels, in float64, a mean for each channel."""
    if isinstance(images, Tensor):
        return images.double().mean(dim=(0, 2, 3))
    sums = sum(part.double().sum(dim=(0, 2, 3)) for part in images.split(16))
    return sums / (len(images) * images.shape[2:].numel())


# -- checks --------------------------------------------------------------------------------------


def _labels(labels, n: int, values: dict) -> Tensor | None:
    if labels is None:
        if set(values) != {"embedding"}:
            raise ValueError("labels=None is possible for value='embedding' only; give labels")
        return None
    labels = class_labels(labels, n, soft=True)
    if labels.ndim == 2 and "margin" in values:
        raise ValueError("value='margin' needs one class per image; give hard labels")
    return labels


# -- what it will cost -----------------------------------------------------------------------------


def _announce(shape, missing, setup: Setup, pool: Executor) -> None:
    done = shape[0] * shape[1] - missing
    shared = "" if isinstance(pool, Here) else f" here, shared by {pool.workers} workers"
    print(
        f"{shape[0]} coalitions x {shape[1]} images = {shape[0] * shape[1]:,} forward passes, "
        f"{done:,} already done; {how_long(setup, missing)}{shared}",
        file=sys.stderr,
        flush=True,
    )


def how_long(setup: Setup, passes: int) -> str:
    seconds = setup.seconds(passes)
    took = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
    about = setup.provenance
    return (
        f"{about['precision']} on {about['device']}, {setup.batch_size} images a pass: about {took}"
    )
