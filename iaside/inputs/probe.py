"""What a model does, seen before a long loop believes it.

Two pictures are shown together, each alone, and together again: six picture passes, once per model
and loop. The two are not alike, not even mirrored: among its like a picture finds its own mean and
variance, and a batch norm that takes them from the batch would go unseen. Nor are they stored alike
when they are shown again: a model may read memory and not pixels. `probe` refuses what would give
wrong numbers without a word and returns the model as the loop is to ask it, `Asked`, which every
other loop takes as it is.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from iaside.backend.answers import NARROW, OUTPUTS, SPREAD, Place, not_as_said, place_of, said
from iaside.backend.checks import in_a_line
from iaside.backend.engine import Engine, check_engine, converted, named
from iaside.backend.inside import in_training, networks
from iaside.backend.log import log
from iaside.backend.precision import arithmetic, undisturbed
from iaside.inputs.asked import USUAL, Asked, Way, answered, answers_of, check_length, joined
from iaside.inputs.checks import WIDE, check_here, check_images, check_range, check_weights

PROBE = 6  # pictures that a probe shows a model
LEAST = 1e-6  # of answers to the same: the tolerance, as well as SPREAD
ABOUT_DTYPE = re.compile(r"dtype|scalar type|Input type|same type|data type")


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

    Shapes: images (N, C, H, W) in [0, 1] or signals (N, C, T), of which the first is shown and the
    first that differs from it, or its own mirror image at half the brightness; labels (N,) class
    indices or (N, classes) probabilities, None for none.
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
        check_range(labels, model.classes)
        return model
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs={outputs!r} is not known; choose one of {', '.join(OUTPUTS)}")
    check_engine(engine)
    images = check_images(images, on_disk=True, signals=True)
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
        check_range(labels, classes)
    if way.dtype == pair.dtype:
        way = way._replace(dtype=None)
    if way.place:
        log.info(f"the model answers with more than a tensor: model(x){said(way.place)} is taken")
    chosen, answers = None, "torch"
    if engine != "torch":
        why = _unusual(way, precision, known_values and classes is not None)
        chosen, answers = _engine(engine, model, pair, together, outputs, way.place, why)
    return Asked(model, outputs, way, classes, alone[:1].cpu(), chosen, answers)


def _engine(
    engine: str, model: Callable, pair: Tensor, answer: Tensor, outputs: str, place: Place, why: str
) -> tuple[Engine | None, str]:
    """The engine that answers without gradients, and its entry in the provenance."""
    found = None
    if not why:
        found, why = converted(model, pair, answer, outputs, place)
    if found is not None:
        return found, named(engine)
    _say_once(f"the model is asked by PyTorch, not by {engine}: {why}")
    return None, f"torch, not {named(engine)}: {why}"


@functools.cache
def _say_once(line: str) -> None:
    """Of the many loops and checkpoints of a process one says it for all."""
    log.info(line)


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
                answers = answers_of(model, pair, way)
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
                return joined(answers, way), way
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


def _check_rows(answer: Tensor, n: int) -> None:
    check_here(answer, "the answers of the model are")
    check_length(answer, n)
    if answer.is_complex() or answer.layout != torch.strided:
        kind = answer.dtype if answer.is_complex() else answer.layout
        raise ValueError(f"the model returned {kind} numbers; it must return real, dense ones")
    if not answer.isfinite().all():
        raise ValueError(
            "the model returned nan or inf for the first images; check its weights, "
            "and try precision='float32'"
        )


def _failing(model: Callable, x: Tensor, error: Exception) -> ValueError:
    """The error for a model that fails on pictures, in one line."""
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
