"""The rescale rule of DeepLIFT, for whatever functions a network is made of.

Shrikumar et al. 2017. A network is shown images and their references in one batch, images first,
and every nonlinearity passes on, instead of its slope at the image, the change of its output over
the change of its input from the reference. What is linear passes its gradient, so that the
contributions add up to the change of the output. Functions are replaced as they are called, not as
modules: a module may be used twice, work in place, or be a plain function.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NEXT_TO_NOTHING = 1e-6  # changes of an input below which its slope stands for the ratio, as in SHAP
ELEMENTWISE = (
    "relu",
    "relu6",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "silu",
    "mish",
    "gelu",
    "sigmoid",
    "tanh",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "prelu",
    "rrelu",
    "softplus",
    "softsign",
    "logsigmoid",
    "hardshrink",
    "softshrink",
    "tanhshrink",
    "threshold",
    "clamp",
    "clamp_min",
    "clamp_max",
    "clip",
    "abs",
    "exp",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "square",
    "pow",
    "erf",
)
POOLS = ("max_pool1d", "max_pool2d", "max_pool3d")
ADAPTIVE = ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")


def _called(names: tuple[str, ...]) -> dict:
    """function -> name, for all the ways to call each."""
    ways = [
        (space, f"{name}{end}", name)
        for space in (torch, F, Tensor)
        for end in ("", "_")
        for name in names
    ]
    called = {getattr(space, way): name for space, way, name in ways if hasattr(space, way)}
    packets = [
        (getattr(torch.ops.aten, way), name)
        for _, way, name in ways
        if hasattr(torch.ops.aten, way)
    ]
    exported = {
        getattr(packet, overload): name
        for packet, name in packets
        for overload in packet.overloads()
        if not overload.endswith("out")
    }
    return called | exported


_ELEMENTWISE = _called(ELEMENTWISE)
_POOLS = _called(POOLS + ADAPTIVE)


class Rescale(TorchFunctionMode):
    """Inside, gradients of a network are the multipliers of DeepLIFT.

    The batch is images and then as many references; only the images have gradients.

    >>> image = torch.tensor([[3.0, -1.0]], requires_grad=True)
    >>> with Rescale():
    ...     outputs = torch.relu(torch.cat([image, torch.tensor([[-1.0, 1.0]])]))
    >>> torch.autograd.grad(outputs[0].sum(), image)[0].tolist()  # 3 of 4 and -1 of -2
    [[0.75, 0.5]]
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        rule = _rescaled if func in _ELEMENTWISE else _pooled if func in _POOLS else None
        x = args[0] if args else None
        paired = isinstance(x, Tensor) and x.requires_grad and x.dim() > 1 and len(x) % 2 == 0
        if rule is None or not paired or kwargs.get("return_indices"):
            return func(*args, **kwargs)
        return rule(func, x, *args[1:], **kwargs)


def _rescaled(func, x: Tensor, *args, **kwargs) -> Tensor:
    leaf = x.detach().requires_grad_()
    given = leaf.clone()
    out = func(given, *args, **kwargs)
    slope = torch.autograd.grad(out.sum(), leaf)[0].chunk(2)[0]
    change, out_change = (image - reference for image, reference in map(_halves, (x, out)))
    ratio = torch.where(change.abs() > NEXT_TO_NOTHING, out_change / change, slope)
    linear = _passing(out, x, torch.cat([ratio, torch.zeros_like(ratio)]))
    return x.copy_(linear) if out is given else linear  # in place


def _pooled(func, x: Tensor, *args, **kwargs) -> Tensor:
    """The change of each window's maximum goes to the pixel that made the larger of the two maxima.

    That is the winner of the image or of the reference, and of overlapping windows a pixel gets
    the sum. The change of that pixel is never smaller than that of the maximum. Where the image's
    winner is one of several in the reference (of black, all are) it is taken for the reference's.
    """
    pool = getattr(F, f"{_POOLS[func]}_with_indices")
    out, winners = pool(x.detach(), *args, **kwargs)
    own, other = winners.flatten(2).chunk(2)
    top, reference_top = out.flatten(2).chunk(2)
    image, reference = (half.flatten(2) for half in x.chunk(2))
    same = reference.gather(2, own) == reference_top
    pixel = torch.where(same | (top >= reference_top), own, other)
    image, reference = image.gather(2, pixel), reference.gather(2, pixel)
    ratio = (top - reference_top) / (image - reference).detach()
    ratio = torch.where(same, 1.0, torch.where(top == reference_top, 0.0, ratio))
    return torch.cat([_passing(top, image, ratio), reference_top]).view(out.shape)


def _halves(t: Tensor) -> tuple[Tensor, Tensor]:
    return t.detach().chunk(2)


def _passing(value: Tensor, x: Tensor, multiplier: Tensor) -> Tensor:
    """The value, with a multiplier as its gradient with respect to x."""
    return value.detach() + multiplier * (x - x.detach())
