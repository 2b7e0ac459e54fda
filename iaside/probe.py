"""What a model does, seen before a long loop believes it; and the one way in which loops ask it.

Two pictures are shown together, each alone, and together again: six picture passes, once per model
and loop. The two are not alike, not even mirrored: among its like a picture finds its own mean and
variance, and a batch norm that takes them from the batch would go unseen. `probe` refuses what
would give wrong numbers without a word and returns the model as the loop is to ask it, `Asked`,
which every other loop takes as it is.
"""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from iaside.machine import arithmetic

OUTPUTS = ("logits", "probabilities", "binary")
PROBE = 6  # pictures that a probe shows a model
DEPTH = 6  # of attributes, closures and containers in which networks are looked for
FLOOR = 1e-12  # of probabilities: the logarithm of 0 is no number to average
LEAST, SPREAD = 1e-6, {"float32": 1e-3, "bfloat16": 3e-2}  # of answers to the same: the tolerance
WIDE, NARROW = (torch.float32, torch.float64), (torch.bfloat16, torch.float16)
ABOUT_DTYPE = re.compile(r"dtype|scalar type|Input type|same type")


class Asked(nn.Module):
    """A model as loops ask it: it is shown a copy of the pixels and answers with logits.

    model: any callable (B, C, H, W) -> (B, ...);  outputs: what that gives (`probe`);  dtype: of
    the pixels it takes, None as they are;  classes: of its answers, None where they have none;
    answer: its own to the first picture, (1, ...) on the CPU;  singly: whether it is shown one
    picture at a time, as it takes no more.
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
        dtype: torch.dtype | None = None,
        classes: int | None = None,
        answer: Tensor | None = None,
        singly: bool = False,
    ) -> None:
        super().__init__()
        self.training = False  # of this one alone: the model stays as it is
        self.model, self.outputs, self.dtype = model, outputs, dtype
        self.classes, self.answer, self.singly = classes, answer, singly

    @property
    def gives(self) -> str:
        """What the network itself gives: ``outputs``, or what its recipe says that it has turned
        into logits."""
        recipe = getattr(self.model, "recipe", None) or {}
        return recipe.get("outputs", "logits") if self.outputs == "logits" else self.outputs

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:  # who follows gradients looks at what these lead to
            check_shown(x)
        ask = one_by_one(self.model) if self.singly else self.model
        return logits_of(ask(copied(x, self.dtype)), self.outputs)


def one_by_one(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same answers of a model that takes one picture at a time, as some exported ones do."""
    return lambda x: torch.cat([model(one) for one in x.split(1)])


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
        p = answer.to(torch.promote_types(answer.dtype, torch.float32))
        if p.numel() == len(p):
            p = torch.cat([1 - p.reshape(-1, 1), p.reshape(-1, 1)], 1)
        return p.clamp(min=FLOOR).log()
    if outputs == "binary":
        z = answer.reshape(len(answer), 1)
        return torch.cat([torch.zeros_like(z), z], 1)
    return answer.clone()


def not_as_said(answer: Tensor, outputs: str) -> str:
    """Why an answer (B, ...) cannot be what it is said to be; "" where it can, or is not finite.

    >>> not_as_said(torch.tensor([[0.5, 0.9]]), "probabilities")
    'answers range from 0.5 to 0.9 and sum to 1 only within 0.4'
    """
    single = answer.numel() == len(answer)
    if outputs == "binary" and not single:
        return f"that is one logit per image, and the model gives {tuple(answer.shape[1:])}"
    if outputs == "probabilities" and answer.isfinite().all():
        slack = SPREAD["bfloat16" if answer.dtype in NARROW else "float32"]
        low, high = answer.min().item(), answer.max().item()
        off = 0.0 if single else (answer.double().sum(1) - 1).abs().max().item()
        if low < 0 or high > 1 + slack or off > slack:
            sums = "" if single else f" and sum to 1 only within {off:.3g}"
            return f"answers range from {low:.4g} to {high:.4g}{sums}"
    return ""


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

    Shapes: images (N, C, H, W) in [0, 1], of which the first is shown and the first that differs
    from it, or its own mirror image at half the brightness; labels (N,) class indices or
    (N, classes) probabilities, None for none.
    outputs: what the model gives: ``logits`` (log-probabilities are logits), ``probabilities``, of
    which the logarithm is taken, floored at 1e-12 (of one column p, that of 1 - p and p), or
    ``binary``, one logit z that becomes the two logits 0 and z: label 1 is the positive class.
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
    check_images(images)
    _check_model(model)
    device = torch.device(images.device if device is None else device)
    pair = _pair(images.detach()).to(device)

    with arithmetic(precision, device):
        ask = model
        try:
            together, dtype = _first(ask, pair)
        except Exception as error:  # each runtime has its own for a batch that it does not take
            ask = one_by_one(model)
            try:
                together, dtype = _first(ask, pair)
            except Exception:
                raise error from None
        _check_rows(together, 2)
        try:
            alone = [ask(copied(one, dtype)).clone() for one in pair.split(1)]
        except ValueError as error:  # batch norm in training mode takes no single value
            raise ValueError(_beside(model)) from error
        again = ask(copied(pair, dtype)).clone()
    for answer, n in ((alone[0], 1), (alone[1], 1), (again, 2)):
        _check_rows(answer, n)
    _check_arithmetic(model, together.dtype, precision)
    spread = SPREAD[precision]
    _check_same(model, together.double(), torch.cat(alone).double(), again.double(), spread)
    classes = None
    if class_outputs or outputs != "logits":
        classes = _classes(together, outputs)
        _check_range(labels, classes)
    return Asked(
        model, outputs, dtype if dtype != pair.dtype else None, classes, alone[0].cpu(),
        singly=ask is not model,
    )  # fmt: skip


def _pair(images: Tensor) -> Tensor:
    """The first picture, and one whose mean and variance are others."""
    first = images[:1]
    others = (images[i : i + 1] for i in range(1, len(images)))
    differs = (other for other in others if not torch.equal(other, first))
    return torch.cat([first, next(differs, first.flip(-1) / 2)])


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
    raise ValueError(_narrow(model, "takes neither float32 nor float64 pixels")) from refused


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
    weights = sorted({
        str(p.dtype).removeprefix("torch.")
        for m in _networks(model) for p in m.parameters() if p.is_floating_point()
    })  # fmt: skip
    whose = f" (its weights are {', '.join(weights)})" if weights else ""
    return (
        f"the model {does}{whose}; use model.float(), with precision='bfloat16' where it is to be "
        "fast"
    )


# -- images and labels -------------------------------------------------------------------------


def check_images(images: Tensor) -> None:
    """Refuse what are not pixels (N, C, H, W) in [0, 1]."""
    if not isinstance(images, Tensor) or images.ndim != 4:
        shape = tuple(images.shape) if hasattr(images, "shape") else type(images).__name__
        raise TypeError(f"images must be a tensor (N, C, H, W), got {shape}")
    if len(images) == 0:
        raise ValueError("images is empty; give at least one image")
    check_here(images, "images are")
    if not images.is_floating_point():
        raise TypeError(f"images are {images.dtype}; divide by 255 to get pixels in [0, 1]")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images range from {low:.4g} to {high:.4g}; pixels must be in [0, 1], "
            "with any normalisation inside the model"
        )


@torch.no_grad()
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
    broken = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    raise ValueError(
        f"nan or inf in pictures {broken} of the {len(x)} that the model was to be shown; what "
        "made them has no number there: check masks, and take smaller strengths"
    )


def class_labels(labels, n: int, soft: bool = False) -> Tensor:
    """Labels of n images as a tensor: (n,) int64, or (n, classes) probabilities where soft.

    Lists and arrays are taken too. Errors: ValueError/TypeError for other numbers or shapes.

    >>> class_labels([3, 1], 2)
    tensor([3, 1])
    """
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # strings, rows of several lengths
        raise TypeError(
            f"labels {str(labels)[:40]!r} are no numbers; give one integer class index per image"
        ) from error
    check_here(labels, "labels are")
    if labels.shape[1:] == (1,) and not labels.is_floating_point():
        labels = labels[:, 0]
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
        check_weights(network)


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
        check_here(tensor, "the weights of the model are")
        if tensor.dtype not in (*WIDE, *NARROW) or is_lazy(tensor) or tensor.is_sparse:
            continue
        if tensor.sum().isfinite() or tensor.isfinite().all():
            continue
        holds = "nan" if tensor.isnan().any() else "inf"
        if holds == "nan" or name in parameters:
            raise ValueError(
                f"the weights of the model hold {holds}: {name}; load them again, or train it anew"
            )


def _networks(model: object) -> Iterator[nn.Module]:
    """The networks that a callable is, or that can be seen inside it."""
    level, seen = [model], {}
    for _ in range(DEPTH):
        deeper = []
        for part in level:
            if id(part) in seen:
                continue
            seen[id(part)] = part  # kept: an id is used again when its object has gone
            if isinstance(part, nn.Module):
                yield part
                seen.update((id(m), m) for m in part.modules())
            deeper += _inside(part)
        level = deeper


def _inside(part: object) -> list:
    """What a callable may use of what it holds."""
    if isinstance(part, nn.Module):
        return [v for m in part.modules() for k, v in vars(m).items() if k not in _OF_MODULES]
    if isinstance(part, list | tuple):
        return list(part)
    if isinstance(part, dict):
        return list(part.values())
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if inspect.ismethod(part):
        return [part.__self__, part.__func__]
    if inspect.isfunction(part):
        if (part.__module__ or "").split(".")[0] == "torch":
            return []
        used = inspect.getclosurevars(part)
        known = [used.nonlocals, used.globals, part.__kwdefaults__ or {}, vars(part)]
        return [*(part.__defaults__ or ()), *(v for names in known for v in names.values())]
    if isinstance(part, Tensor | type) or inspect.ismodule(part):
        return []
    return list(getattr(part, "__dict__", {}).values())


_OF_MODULES = set(vars(nn.Module()))  # hooks, parameters, and modules, which are seen anyway


# -- its answers ---------------------------------------------------------------------------------


def _check_rows(answer: object, n: int) -> None:
    if not isinstance(answer, Tensor):
        raise ValueError(
            f"the model returned {type(answer).__name__}; it must return a tensor ({n}, classes)"
            f"{_remedy(answer)}"
        )
    if answer.ndim < 1 or len(answer) != n:
        raise ValueError(
            f"the model returned {tuple(answer.shape)} for {n} image{'s' * (n > 1)}; it must "
            f"return ({n}, classes)"
        )
    if not answer.isfinite().all():
        raise ValueError(
            "the model returned nan or inf for the first images; check its weights, "
            "and try precision='float32'"
        )


def _remedy(answer: object) -> str:
    if type(answer).__module__ == "numpy":
        return ": wrap it, lambda x: torch.from_numpy(model(x))"
    if hasattr(answer, "logits"):
        return ": wrap it, lambda x: model(x).logits"
    if isinstance(answer, list | tuple):
        return ": wrap it, lambda x: model(x)[0]"
    return ""


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
    warnings.warn(text, RuntimeWarning, stacklevel=5)
