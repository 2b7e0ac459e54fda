"""What a model does, seen before a long loop believes it; and the one way in which loops ask it.

Two pictures are shown together, each alone, and together again: six picture passes, once per model
and loop. The two are not alike, not even mirrored: among its like a picture finds its own mean and
variance, and a batch norm that takes them from the batch would go unseen. Nor are they stored alike
when they are shown again: a model may read memory and not pixels. `probe` refuses what would give
wrong numbers without a word and returns the model as the loop is to ask it, `Asked`, which every
other loop takes as it is.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from iaside.backend.answers import (
    NARROW,
    OUTPUTS,
    SPREAD,
    Place,
    logits_of,
    not_as_said,
    place_of,
    said,
    taken,
)
from iaside.backend.checks import ROUNDED, not_finite, told_apart
from iaside.backend.engine import Engine, check_engine, converted, named, outside
from iaside.backend.inside import in_training, networks
from iaside.backend.precision import arithmetic, as_outside, undisturbed
from iaside.inputs.photographs import Photographs

PROBE = 6  # pictures that a probe shows a model
LEAST = 1e-6  # of answers to the same: the tolerance, as well as SPREAD
WIDE = torch.float32, torch.float64
WHOLE_NUMBERS = torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64
ABOUT_DTYPE = re.compile(r"dtype|scalar type|Input type|same type|data type")


class Way(NamedTuple):
    """How a model is asked: what it is shown, and where in its answer the logits are.

    dtype: of the pixels, None as they are;  channels_last: how they lie in memory, contiguous
    otherwise;  singly: one picture at a time;  place: as in ``iaside.backend.answers``.
    """

    dtype: torch.dtype | None = None
    channels_last: bool = True
    singly: bool = False
    place: Place = ()


USUAL = Way()


class Asked(nn.Module):
    """A model as loops ask it: it is shown a copy of the pixels and answers with logits.

    model: any callable (B, C, H, W) -> (B, ...);  outputs: what that gives (`probe`);  way: how it
    is asked;  classes: of its answers, None where they have none;  answer: its own to the first
    picture, (1, ...) on the CPU;  engine: who answers where no gradient is wanted, None for the
    model itself, and ``answers``, who that is, in words;  narrow: whether it computes in bfloat16
    (autocast) however it is asked, gradients too, and answers in float32.
    A copy, because a model may write to its input, and its answer too, because it may keep that as
    a buffer. Gradients pass. Pixels that are not finite are refused (ValueError): a network may
    turn them into finite answers.

    >>> Asked(lambda x: x.sub_(0.5).mean((2, 3)))(torch.full((1, 2, 4, 4), 0.5))
    tensor([[0., 0.]])
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        outputs: str = "logits",
        way: Way = USUAL,
        classes: int | None = None,
        answer: Tensor | None = None,
        engine: Engine | None = None,
        answers: str = "torch",
    ) -> None:
        super().__init__()
        self.training = False  # of this one alone: the model stays as it is
        self.model, self.outputs, self.way = model, outputs, way
        self.classes, self.answer, self.narrow = classes, answer, False
        self.engine, self.answers = engine, answers

    @property
    def gives(self) -> str:
        """What the network itself gives: ``outputs``, or what its recipe says that it has turned
        into logits."""
        named = recipe_of(self).get("outputs", "logits")
        return named if self.outputs == "logits" else self.outputs

    @property
    def about(self) -> dict:
        """What a provenance keeps of it: ``outputs``, the ``engine``, how it is ``asked`` where
        that is not as usual."""
        shown = [
            *["contiguous pixels"] * (not self.way.channels_last),
            *["one picture at a time"] * self.way.singly,
            *[f"model(x){said(self.way.place)} taken"] * bool(self.way.place),
        ]
        about = {"outputs": self.gives, "engine": self.answers}
        return about | ({"asked": ", ".join(shown)} if shown else {})

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:  # who follows gradients looks at what these lead to
            check_shown(x)
        if self.narrow:
            with torch.autocast(x.device.type, torch.bfloat16):
                answer = answered(self.model, x, self.way).float()
        else:
            answer = self._answer(x)
        return logits_of(answer, self.outputs)

    def _answer(self, x: Tensor) -> Tensor:
        if self.engine is None or not self.engine.takes(x):
            return answered(self.model, x, self.way)
        found, others = self.engine(x), outside(x)
        if others:
            found[others] = answered(self.model, x[others], self.way)
        return found


def recipe_of(model: object) -> dict:
    """The recipe of a classifier; {} of others, whose attributes mean what their authors meant.

    >>> net = nn.ReLU()
    >>> net.recipe = "mine"
    >>> recipe_of(net)
    {}
    """
    net = model.model if isinstance(model, Asked) else model
    found = inspect.getattr_static(net, "recipe", None)
    return found if isinstance(found, dict) and "input_size" in found else {}


def answered(model: Callable[[Tensor], object], x: Tensor, way: Way) -> Tensor:
    """The tensor that a model answers with to a copy of the pixels."""
    return _joined(_answers(model, x, way), way)


def _joined(answers: list, way: Way) -> Tensor:
    found = [taken(answer, way.place) for answer in answers]
    if not torch.is_grad_enabled():  # a model may have switched them on
        found = [one.detach() for one in found]
    if not way.singly:
        return found[0]
    for one in found:
        _check_length(one, 1)
    return torch.cat(found)


def _answers(model: Callable[[Tensor], object], x: Tensor, way: Way) -> list:
    """What a model answers to a copy of the pixels, once or for each picture."""
    shown, model = copied(x, way), as_outside(model)
    return [model(part) for part in (shown.split(1) if way.singly else [shown])]


def copied(x: Tensor, way: Way) -> Tensor:
    """The same pixels in memory of their own, in the layout that the model takes."""
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    return x.to(way.dtype or x.dtype, copy=True, memory_format=layout)


@undisturbed
@torch.no_grad()
def probe(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None = None,
    *,
    outputs: str = "logits",
    precision: str = "float32",
    device: str | torch.device | None = None,
    class_outputs: bool = True,
    engine: str = "torch",
    known_values: bool = True,
) -> Asked:
    """See what a model does with two pictures, and return it as loops are to ask it.

    Shapes: images (N, C, H, W) in [0, 1], of which the first is shown and the first that differs
    from it, or its own mirror image at half the brightness; labels (N,) class indices or
    (N, classes) probabilities, None for none.
    outputs: what the model gives: ``logits`` (log-probabilities are logits), ``probabilities``, of
    which the logarithm is taken, floored at 1e-12 (of one column p, that of 1 - p and p), or
    ``binary``, one logit z that becomes the two logits 0 and z: label 1 is the positive class.
    class_outputs: False where the answers need not be classes, such as embeddings.
    A model that does not take pixels which lie channels last, or reads memory in its order, is
    shown contiguous ones, and one that takes no two pictures one at a time. An answer may be a
    tuple, a dictionary, an object: what is called logits is taken, or the first tensor (B, classes)
    in it, which stderr names. ``Asked.about`` says so, and hence every provenance and report.
    engine: who answers where no gradient is wanted, ``torch`` or ``openvino`` (`backend.engine`). A
    model that OpenVINO cannot answer for as PyTorch does is left to PyTorch, which stderr says.
    known_values: False where something else is made of the answers than probabilities of classes,
    which is all that engines are held to.
    device: where to show them, None where they are. An ``Asked`` has been seen and is not shown
    anything; only the labels are held against its classes.

    Errors: TypeError for what cannot be called; ValueError for a model in training mode, on the
    meta device or of an odd dtype; for answers that are not finite, of another shape than (B,
    classes), different when asked again or with other pictures beside, that are probabilities
    unless ``outputs`` says so, or one column unless it says binary; for labels out of range.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Softmax(1)).eval()
    >>> probe(net, torch.rand(2, 3, 2, 2))
    Traceback (most recent call last):
    ValueError: the model gives probabilities, and logits are expected: say outputs='probabilities'
    >>> probe(net, torch.rand(2, 3, 2, 2), outputs="probabilities").classes
    5
    """
    if isinstance(model, Asked):
        _check_range(labels, model.classes)
        return model
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs={outputs!r} is not known; choose one of {', '.join(OUTPUTS)}")
    check_engine(engine)
    images = check_images(images, on_disk=True)
    _check_model(model)
    device = torch.device(images.device if device is None else device)
    pair = _pair(images).detach().to(device)

    with arithmetic(precision, device):
        together, first_way = _first(model, pair, outputs, class_outputs)
        _check_rows(together, 2)
        alone = _alone(model, pair, first_way)
        again, way = _again(model, pair, first_way, together, SPREAD[precision])
        if way.channels_last != first_way.channels_last:  # it reads memory
            together, alone = again, _alone(model, pair, way)
    _check_arithmetic(model, together.dtype, precision)
    _check_same(model, together, alone, again, SPREAD[precision])
    classes = None
    if class_outputs or outputs != "logits":
        classes = _classes(together, outputs)
        _check_range(labels, classes)
    if way.dtype == pair.dtype:
        way = way._replace(dtype=None)
    if way.place:
        print(
            f"the model answers with more than a tensor: model(x){said(way.place)} is taken",
            file=sys.stderr,
        )
    chosen, answers = None, "torch"
    if engine != "torch":
        why = _unusual(way, precision, known_values and classes is not None)
        chosen, answers = _engine(engine, model, pair, together, outputs, way.place, why)
    return Asked(model, outputs, way, classes, alone[:1].cpu(), chosen, answers)


def _engine(
    engine: str, model: Callable, pair: Tensor, answer: Tensor, outputs: str, place: Place, why: str
) -> tuple[Engine | None, str]:
    """Who answers where no gradient is wanted, and what a provenance says of that."""
    found = None
    if not why:
        found, why = converted(model, pair, answer, outputs, place)
    if found is not None:
        return found, named(engine)
    _say_once(f"the model is asked by PyTorch, not by {engine}: {why}")
    return None, f"torch, not {named(engine)}: {why}"


@functools.cache
def _say_once(line: str) -> None:
    """On stderr; of the many loops and checkpoints of a process one says it for all."""
    print(line, file=sys.stderr)


def _unusual(way: Way, precision: str, of_classes: bool) -> str:
    """Why a model is asked by PyTorch, whatever it is; "" where there is no reason."""
    if precision != "float32":
        return f"precision is {precision}"
    if not of_classes:
        return "what is measured of it is none of the values of classes"
    return "" if way._replace(place=()) == USUAL else "it takes pixels in a way of its own"


def _pair(images: Tensor) -> Tensor:
    """The first picture, and one whose mean and variance are others."""
    first = images[:1]
    others = (images[i : i + 1] for i in range(1, len(images)))
    differs = (other for other in others if not torch.equal(other, first))
    return torch.cat([first, next(differs, first.flip(-1) / 2)])


def _first(model: Callable, pair: Tensor, outputs: str, class_outputs: bool) -> tuple[Tensor, Way]:
    """The answer to two pictures in the first way that the model takes, and that way.

    Pixels lie channels last, which is fastest, unless the model takes them contiguous only (a
    ``view`` after a convolution); networks exported for a batch of one are shown one at a time.
    """
    refusals = []
    for singly, channels_last in ((False, True), (False, False), (True, True), (True, False)):
        for dtype in dict.fromkeys((pair.dtype, *WIDE)):
            way = Way(dtype, channels_last, singly)
            try:
                answers = _answers(model, pair, way)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # each runtime has its own for what it does not take
                refusals.append((way, error))
                if not ABOUT_DTYPE.search(str(error)):
                    break
            else:
                rows = 1 if singly else len(pair)
                place = place_of(answers[0], rows, outputs, class_outputs)
                way = way._replace(place=place)
                return _joined(answers, way), way
    own = [error for way, error in refusals if not (way.singly or way.channels_last)]
    if all(ABOUT_DTYPE.search(str(error)) for error in own):
        raise ValueError(_narrow(model, "takes neither float32 nor float64 pixels")) from own[0]
    raise _failing(model, pair, own[-1]) from own[-1]


def _alone(model: Callable, pair: Tensor, way: Way) -> Tensor:
    """The answers to each picture alone."""
    answers = []
    for one in pair.split(1):
        try:
            answers.append(answered(model, one, way).clone())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if "more than 1 value" in str(error):  # batch norm in training mode takes no single one
                raise ValueError(_beside(model)) from error
            raise _failing(model, one, error) from error
        _check_rows(answers[-1], 1)
    return torch.cat(answers)


def _again(
    model: Callable, pair: Tensor, way: Way, together: Tensor, spread: float
) -> tuple[Tensor, Way]:
    """The answer to the two pictures again, which lie otherwise in memory now, and the way to ask.

    Where the answers differ the model is random, or it reads memory in its order (``as_strided``,
    a pointer, ``numpy().ravel("K")``). Then it repeats itself in the same layout, and the pixels
    that it means lie contiguous, as all tensors do at first.
    """
    other = way._replace(channels_last=False)
    try:
        again = answered(model, pair, other).clone()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # it takes them channels last only
        other, again = way, answered(model, pair, way).clone()
    _check_rows(again, 2)
    if _same(together, again, spread):
        return again, way
    if spread > SPREAD["float32"]:  # a layout alone moves bfloat16 by up to 5 % of the spread
        with arithmetic("float32", pair.device):
            found = [answered(model, pair, each).clone() for each in (way, other)]
        if _same(*found, SPREAD["float32"]):
            return answered(model, pair, way).clone(), way
    once_more = answered(model, pair, other).clone()
    return again, other if _same(again, once_more, spread) else way


def _check_arithmetic(model, dtype: torch.dtype, precision: str) -> None:
    """Refuse answers that were not computed in the precision they would be recorded under."""
    if precision == "float32" and dtype in NARROW:
        raise ValueError(_narrow(model, f"answers in {str(dtype)[6:]}, not float32"))
    if precision == "bfloat16" and dtype == torch.float64:
        raise ValueError(
            "the model answers in float64, which precision='bfloat16' does not change; use "
            "model.float() and float32 images, or leave precision out"
        )


def _narrow(model: Callable, does: str) -> str:
    weights = sorted(
        {
            str(p.dtype).removeprefix("torch.")
            for m in networks(model)
            for p in m.parameters()
            if p.is_floating_point()
        }
    )
    whose = f" (its weights are {', '.join(weights)})" if weights else ""
    remedy = "take its autocast out" if weights == ["float32"] else "use model.float()"
    return f"the model {does}{whose}; {remedy}, with precision='bfloat16' where it is to be fast"


# -- images and labels -------------------------------------------------------------------------


def check_images(images: Tensor, wide: bool = False, on_disk: bool = False) -> Tensor:
    """Pixels (N, C, H, W) in [0, 1], as they are given; refuse what are none.

    What rounding has put just outside, as resizing does, is clipped.
    wide: only float32 or float64, as what is returned to the caller shall be.
    on_disk: whether ``Photographs`` will do, as they do where a batch is looked at at a time.

    >>> check_images(torch.tensor([0.5, 1.0000002]).view(2, 1, 1, 1)).flatten()
    tensor([0.5000, 1.0000])
    """
    if isinstance(images, Photographs):
        if on_disk:
            return images
        raise TypeError("images are on the disk, and all are needed here; give some, images[:64]")
    if not isinstance(images, Tensor) or images.ndim != 4:
        shape = tuple(images.shape) if hasattr(images, "shape") else type(images).__name__
        raise TypeError(f"images must be a tensor (N, C, H, W), got {shape}")
    if images.numel() == 0:
        raise ValueError(f"images is empty, {tuple(images.shape)}; give at least one image")
    check_here(images, "images are")
    if images.layout != torch.strided:
        raise TypeError("images are sparse; give images.to_dense()")
    if not images.is_floating_point():
        real = "divide by 255" if images.dtype in WHOLE_NUMBERS else "give real numbers"
        raise TypeError(f"images are {images.dtype}; {real} to get pixels in [0, 1]")
    if wide and images.dtype not in WIDE:
        raise TypeError(f"images are {images.dtype}; give float32 or float64 pixels in [0, 1]")
    low, high = images.min().item(), images.max().item()
    if low >= 0 and high <= 1:
        return images
    if not (low >= -ROUNDED and high <= 1 + ROUNDED):
        raise ValueError(
            f"images range from {told_apart(low, 0)} to {told_apart(high, 1)}; pixels must be in "
            "[0, 1], with any normalisation inside the model"
        )
    return images.clamp(0, 1)


def widened(images: Tensor) -> Tensor:
    """Images in float32, or float64 where they are that, which spectra are computed in."""
    if isinstance(images, Photographs):
        return images
    return (images if images.dtype == torch.float64 else images.float()).detach()


def check_shown(x: Tensor) -> None:
    """Refuse pixels (B, ...) that are not finite, of which a network might make finite answers.

    >>> check_shown(torch.tensor([[0.5], [torch.nan]]))
    Traceback (most recent call last):
    ValueError: nan or inf in pictures [1] of the 2 that the model was to be shown; what made them \
has no number there: check masks, and take smaller strengths
    """
    # One sum sees nan and inf; where it is too large itself, the pixels are looked at one by one.
    if x.sum().isfinite() or x.isfinite().all():
        return
    raise ValueError(
        f"nan or inf in pictures {not_finite(x)} of the {len(x)} that the model was to be shown; "
        "what made them has no number there: check masks, and take smaller strengths"
    )


def _check_range(labels: Tensor | None, classes: int | None) -> None:
    if labels is None or classes is None:
        return
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise ValueError(
            f"soft labels have {labels.shape[1]} classes and the model {classes}; they must agree"
        )
    if labels.ndim == 1 and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"labels range from {labels.min().item()} to {labels.max().item()}, but the model has "
            f"{classes} classes, 0 to {classes - 1}; give the labels this model was trained with"
        )


# -- the model -----------------------------------------------------------------------------------


def check_here(tensor: Tensor, what: str) -> None:
    """Refuse a tensor that has no values."""
    if tensor.is_meta:
        raise ValueError(
            f"{what} on the meta device, where numbers are not kept; make them on the CPU"
        )


def _check_model(model: object) -> None:
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}; give a callable pixels -> outputs")
    if type(model).__name__ == "ExportedProgram":
        raise TypeError("model is an ExportedProgram, which cannot be called; give model.module()")
    for network in networks(model):
        if in_training(network):
            inside = "" if network is model else f"{type(network).__name__} inside "
            raise ValueError(f"{inside}the model is in training mode; call model.eval() first")
    if isinstance(model, nn.Module):
        check_weights(model)


@torch.no_grad()
def check_weights(network: nn.Module) -> None:
    """Refuse weights that have no values, hold nan, or are infinite parameters, by their name.

    A buffer may hold infinities: masks of attention do.

    >>> net = nn.Linear(2, 1).requires_grad_(False)
    >>> check_weights(net)
    >>> net.bias[0] = torch.nan
    >>> check_weights(net)
    Traceback (most recent call last):
    ValueError: the weights of the model hold nan: bias; load them again, or train it anew
    """
    parameters = dict(network.named_parameters())
    for name, tensor in (*parameters.items(), *network.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                "the model has layers without weights yet (Lazy...); call it once on a batch of "
                "the right size, or load its weights"
            )
        check_here(tensor, "the weights of the model are")
        if tensor.dtype not in (*WIDE, *NARROW) or tensor.is_sparse:
            continue
        if tensor.sum().isfinite() or tensor.isfinite().all():
            continue
        holds = "nan" if tensor.isnan().any() else "inf"
        if holds == "nan" or name in parameters:
            raise ValueError(
                f"the weights of the model hold {holds}: {name}; load them again, or train it anew"
            )


# -- its answers ---------------------------------------------------------------------------------


def _check_rows(answer: Tensor, n: int) -> None:
    check_here(answer, "the answers of the model are")
    _check_length(answer, n)
    if answer.is_complex() or answer.layout != torch.strided:
        kind = answer.dtype if answer.is_complex() else answer.layout
        raise ValueError(f"the model returned {kind} numbers; it must return real, dense ones")
    if not answer.isfinite().all():
        raise ValueError(
            "the model returned nan or inf for the first images; check its weights, "
            "and try precision='float32'"
        )


def _check_length(answer: Tensor, n: int) -> None:
    if answer.ndim < 1 or len(answer) != n:
        raise ValueError(
            f"the model returned {tuple(answer.shape)} for {n} image{'s' * (n > 1)}; it must "
            f"return ({n}, classes)"
        )


def in_a_line(error: Exception) -> str:
    """The kind of an error and the line that says most.

    >>> in_a_line(OSError("disk full\\nand more"))
    'OSError: disk full'
    """
    text = str(error).strip()
    line = text.splitlines()[-1 if isinstance(error, torch.jit.Error) else 0] if text else ""
    return f"{type(error).__name__}: {line[:200]}"


def _failing(model: Callable, x: Tensor, error: Exception) -> ValueError:
    """What a model that takes no pictures raises, in one line."""
    for network in networks(model):
        check_weights(network)
    return ValueError(
        f"the model fails for {len(x)} picture{'s' * (len(x) > 1)} {tuple(x.shape)}: "
        f"{in_a_line(error)}; it must take batches (B, C, H, W) of any B, or of "
        "1 (torch.export, ONNX: with a dynamic first dimension)"
    )


def _same(together: Tensor, other: Tensor, spread: float) -> bool:
    """Whether answers are those to the same, but for rounding."""
    together, other = together.double(), other.double()
    tolerance = max(LEAST, spread * together.std(correction=0).item())
    return together.shape == other.shape and bool((other - together).abs().max() <= tolerance)


def _check_same(model, together: Tensor, alone: Tensor, again: Tensor, spread: float) -> None:
    if not _same(together, again, spread):
        raise ValueError(
            "the model answers differently when it is asked the same again: something in it is "
            "random, such as F.dropout(x) without training=self.training, or a network in training "
            "mode; call eval() on it, and take out what draws"
        )
    if not _same(together, alone, spread):
        raise ValueError(_beside(model))


def _beside(model: object) -> str:
    without = [
        f"{type(m).__name__} {name!r} keeps no running statistics (track_running_stats=False)"
        for network in networks(model)
        for name, m in network.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None
    ]
    cause = (
        without[0]
        if without
        else (
            "a network in training mode, a batch norm without running statistics, or dynamic "
            "quantisation, whose scale is that of a batch"
        )
    )
    return (
        f"the model's answer to a picture depends on the pictures beside it: {cause}; "
        "call eval() on a network that has running statistics"
    )


def _classes(answer: Tensor, outputs: str) -> int:
    """How many classes the answers (2, ...) have, as logits."""
    single = answer.numel() == len(answer)
    if wrong := not_as_said(answer, outputs):
        raise ValueError(f"outputs={outputs!r}, but {wrong}; leave it out for logits")
    if single and outputs == "logits":
        raise ValueError(
            "the model gives one number per image, of which every softmax is 1: if it is the logit "
            "of the positive class (label 1), say outputs='binary', if its probability, "
            "outputs='probabilities'"
        )
    if not single and answer.ndim != 2:
        raise ValueError(
            f"the model returned {tuple(answer.shape)} for 2 images; it must return "
            "(B, classes) logits, or use value='embedding'"
        )
    if outputs == "logits" and not not_as_said(answer, "probabilities"):
        raise ValueError(
            "the model gives probabilities, and logits are expected: say outputs='probabilities'"
        )
    if outputs == "binary" and answer.min() >= 0 and answer.max() <= 1 and answer.std() > 0:
        _warn(
            "the first answers lie between 0 and 1: outputs='binary' takes the number before the "
            "sigmoid, not after it, which is outputs='probabilities'"
        )
    if outputs == "logits" and answer.min() > 0 and answer.max() < 1:
        _warn(
            "the first answers lie between 0 and 1 and do not sum to 1, as those of a sigmoid: "
            "they are taken for logits; give what is before it"
        )
    return 2 if single else answer.shape[1]


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=6)
