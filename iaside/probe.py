"""What a model does, seen before a long loop believes it; and the one way in which loops ask it.

Two pictures are shown together, each alone, and together again: six picture passes, once per model
and loop. `probe` refuses what would give wrong numbers without a word and returns the model as the
loop is to ask it, `Asked`, which every other loop takes as it is.
"""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from iaside.machine import arithmetic

OUTPUTS = ("logits", "probabilities", "binary")
PROBE = 6  # pictures that a probe shows a model
FLOOR = 1e-12  # of probabilities: the logarithm of 0 is no number to average
LEAST, SPREAD = 1e-6, {"float32": 1e-3, "bfloat16": 3e-2}  # of answers to the same: the tolerance
WIDE = (torch.float32, torch.float64)
ABOUT_DTYPE = re.compile(r"dtype|scalar type|Input type|same type")


class Asked(nn.Module):
    """A model as loops ask it: it is shown a copy of the pixels and answers with logits.

    model: any callable (B, C, H, W) -> (B, ...);  outputs: what that gives (`probe`);  dtype: of
    the pixels it takes, None as they are;  classes: of its answers, None where they have none;
    answer: its own to the first picture, (1, ...) on the CPU.
    A copy, because a model may write to its input, and its answer too, because it may keep that as
    a buffer. Gradients pass.

    >>> Asked(lambda x: x.sub_(0.5).mean((2, 3)))(torch.full((1, 2, 4, 4), 0.5))
    tensor([[0., 0.]])
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        outputs: str = "logits",
        dtype: torch.dtype | None = None,
        classes: int | None = None,
        answer: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.training = False  # of this one alone: the model stays as it is
        self.model, self.outputs, self.dtype = model, outputs, dtype
        self.classes, self.answer = classes, answer

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.model(copied(x, self.dtype)), self.outputs)


def copied(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The same pixels in memory of their own, in the layout of ``channels_last``."""
    return x.to(dtype or x.dtype, copy=True, memory_format=torch.channels_last)


def logits_of(answer: Tensor, outputs: str) -> Tensor:
    """A copy of a model's answer, as logits.

    >>> logits_of(torch.tensor([[2.0]]), "binary").tolist()
    [[0.0, 2.0]]
    >>> logits_of(torch.tensor([[1.0, 0.0]]), "probabilities").exp().tolist()[0][0]
    1.0
    """
    if outputs == "probabilities":
        return answer.to(torch.promote_types(answer.dtype, torch.float32)).clamp(min=FLOOR).log()
    if outputs == "binary":
        z = answer.reshape(len(answer), 1)
        return torch.cat([torch.zeros_like(z), z], 1)
    return answer.clone()


def n_floored(logits: Tensor) -> Tensor:
    """How many probabilities of each row became the floor, (B, classes) -> (B,)."""
    return (logits.exp() < 1.01 * FLOOR).sum(-1)


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
) -> Asked:
    """See what a model does with two pictures, and return it as loops are to ask it.

    Shapes: images (N, C, H, W) in [0, 1], of which the first two are shown, or the first and its
    mirror image; labels (N,) class indices or (N, classes) probabilities, None for none.
    outputs: what the model gives: ``logits`` (log-probabilities are logits), ``probabilities``, of
    which the logarithm is taken, floored at 1e-12, or ``binary``, one logit z that becomes the two
    logits 0 and z: label 1 is the positive class.
    class_outputs: False where the answers need not be classes, such as embeddings.
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
    check_here(images, "images are")
    _check_model(model)
    device = torch.device(images.device if device is None else device)
    x = images[:2].detach().to(device)
    pair = x if len(x) == 2 else torch.cat([x, x.flip(-1)])

    with arithmetic(precision, device):
        together, dtype = _first(model, pair)
        _check_rows(together, 2)
        try:
            alone = [model(copied(one, dtype)).clone() for one in pair.split(1)]
        except ValueError as error:  # batch norm in training mode takes no single value
            raise ValueError(_beside(model)) from error
        again = model(copied(pair, dtype)).clone()
    for answer, n in ((alone[0], 1), (alone[1], 1), (again, 2)):
        _check_rows(answer, n)
    low = together.dtype in (torch.bfloat16, torch.float16)
    spread = SPREAD["bfloat16" if low else precision]
    _check_same(model, together.double(), torch.cat(alone).double(), again.double(), spread)
    classes = None
    if class_outputs or outputs != "logits":
        classes = _classes(together, outputs, spread)
        _check_range(labels, classes)
    return Asked(model, outputs, dtype if dtype != x.dtype else None, classes, alone[0].cpu())


def _first(model: Callable, pair: Tensor) -> tuple[Tensor, torch.dtype]:
    """The answer to pixels of the first dtype that the model takes, and that dtype."""
    refused = None
    for dtype in dict.fromkeys((pair.dtype, *WIDE)):
        try:
            answer = model(copied(pair, dtype))
        except RuntimeError as error:
            if not ABOUT_DTYPE.search(str(error)):
                raise
            refused = refused or error
        else:
            if not isinstance(answer, Tensor):
                _check_rows(answer, len(pair))
            return answer.clone(), dtype
    weights = sorted({
        str(p.dtype).removeprefix("torch.")
        for m in _networks(model) for p in m.parameters() if p.is_floating_point()
    })  # fmt: skip
    whose = f" (its weights are {', '.join(weights)})" if weights else ""
    raise ValueError(
        f"the model takes neither float32 nor float64 pixels{whose}; use model.float(), with "
        "precision='bfloat16' where it is to be fast"
    ) from refused


# -- labels ------------------------------------------------------------------------------------


def class_labels(labels, n: int, soft: bool = False) -> Tensor:
    """Labels of n images as a tensor: (n,) int64, or (n, classes) probabilities where soft.

    Lists and arrays are taken too. Errors: ValueError/TypeError for other numbers or shapes.

    >>> class_labels([3, 1], 2)
    tensor([3, 1])
    """
    labels = torch.as_tensor(labels)
    if len(labels.shape) not in ((1, 2) if soft else (1,)) or len(labels) != n:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}: {len(labels)} labels for "
            f"{n} images; give one integer class index per image"
            if labels.ndim else f"labels={labels.item()!r} is one number; give one label per image"
        )
    if labels.ndim == 1:
        if labels.is_floating_point():
            raise TypeError(f"labels are {labels.dtype}; class indices must be integers")
        return labels.long()
    sums = labels.double().sum(1)
    if labels.min() < 0 or (sums - 1).abs().max() > 1e-3:
        raise ValueError("soft labels must be probabilities: non-negative, each row sums to 1")
    return labels


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
    for network in _networks(model):
        if any(m.training for m in network.modules()):
            inside = "" if network is model else f"{type(network).__name__} inside "
            raise ValueError(f"{inside}the model is in training mode; call model.eval() first")
        for tensor in (*network.parameters(), *network.buffers()):
            check_here(tensor, "the weights of the model are")


def _networks(model: object) -> Iterator[nn.Module]:
    """The networks that a callable is, or that can be seen inside it."""
    if isinstance(model, nn.Module):
        yield model
    elif isinstance(model, functools.partial):
        for part in (model.func, *model.args, *model.keywords.values()):
            yield from _networks(part)
    elif inspect.ismethod(model):
        yield from _networks(model.__self__)
    elif inspect.isfunction(model):
        seen = inspect.getclosurevars(model)
        for part in (*seen.nonlocals.values(), *seen.globals.values()):
            if isinstance(part, nn.Module):
                yield part


# -- its answers ---------------------------------------------------------------------------------


def _check_rows(answer: object, n: int) -> None:
    if not isinstance(answer, Tensor) or answer.ndim < 1 or len(answer) != n:
        what = tuple(answer.shape) if hasattr(answer, "shape") else type(answer).__name__
        raise ValueError(
            f"the model returned {what} for {n} image{'s' * (n > 1)}; it must return ({n}, classes)"
        )
    if not answer.isfinite().all():
        raise ValueError(
            "the model returned nan or inf for the first images; check its weights, "
            "and try precision='float32'"
        )


def _check_same(model, together: Tensor, alone: Tensor, again: Tensor, spread: float) -> None:
    tolerance = max(LEAST, spread * together.std(correction=0).item())
    if again.shape != together.shape or (again - together).abs().max() > tolerance:
        raise ValueError(
            "the model answers differently when it is asked the same again: something in it is "
            "random, such as F.dropout(x) without training=self.training, or a network in training "
            "mode; call eval() on it, and take out what draws"
        )
    if alone.shape != together.shape or (alone - together).abs().max() > tolerance:
        raise ValueError(_beside(model))


def _beside(model: object) -> str:
    without = [
        f"{type(m).__name__} {name!r} keeps no running statistics (track_running_stats=False)"
        for network in _networks(model) for name, m in network.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None
    ]  # fmt: skip
    cause = without[0] if without else (
        "a network in training mode, or a batch norm without running statistics"
    )
    return (
        f"the model's answer to a picture depends on the pictures beside it: {cause}; "
        "call eval() on a network that has running statistics"
    )


def _classes(answer: Tensor, outputs: str, slack: float) -> int:
    """How many classes the answers (2, ...) have, as logits."""
    if outputs == "binary":
        if answer.numel() != len(answer):
            raise ValueError(
                f"outputs='binary' is one logit per image, and the model gives "
                f"{tuple(answer.shape[1:])}; leave it out"
            )
        if ((answer >= 0) & (answer <= 1)).all() and answer.std(correction=0) > 0:
            warnings.warn(
                "the first answers lie between 0 and 1: outputs='binary' takes the number before "
                "the sigmoid, not after it",
                RuntimeWarning, stacklevel=4,
            )  # fmt: skip
        return 2
    if answer.numel() == len(answer):
        raise ValueError(
            "the model gives one number per image, of which every softmax is 1: if it is the logit "
            "of the positive class (label 1), say outputs='binary'"
        )
    if answer.ndim != 2:
        raise ValueError(
            f"the model returned {tuple(answer.shape)} for 2 images; it must return "
            "(B, classes) logits, or use value='embedding'"
        )
    off = (answer.double().sum(1) - 1).abs().max().item()
    probable = answer.min() >= 0 and off <= slack
    if outputs == "probabilities" and not probable:
        raise ValueError(
            f"outputs='probabilities', but answers range from {answer.min().item():.4g} to "
            f"{answer.max().item():.4g} and sum to 1 only within {off:.3g}; leave it out for logits"
        )
    if outputs == "logits" and probable:
        raise ValueError(
            "the model gives probabilities, and logits are expected: say outputs='probabilities'"
        )
    return answer.shape[1]
