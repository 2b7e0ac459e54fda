"""Faster equivalents of convolutions for inference (`folding`)."""

from __future__ import annotations

import functools
import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYOUTS = 3  # of a convolution's weights that are kept: for whole batches, a last one, one image


class SamePadConv2d(nn.Module):
    """timm's Conv2dSame as a plain convolution for one size of its input, itself for any other.

    Rows of zeros before those of the kernel make up for a padding that is the same on both sides.
    """

    def __init__(self, conv: nn.Conv2d, size: torch.Size):
        super().__init__()
        from timm.layers import get_same_padding

        kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
        pads = list(map(get_same_padding, size, kernel, stride, dilation))
        after = [pad - pad // 2 for pad in pads]  # TensorFlow's rule: the odd one last
        rows, columns = (pad % 2 for pad in pads)
        self.conv, self.size = conv, size
        self.plain = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            (kernel[0] + rows, kernel[1] + columns),
            stride,
            after,
            dilation,
            conv.groups,
            bias=False,
            device="meta",  # draws no weights
        )
        self.plain.weight = nn.Parameter(F.pad(conv.weight, [columns, 0, rows, 0]), False)
        self.plain.bias = conv.bias

    def _get_name(self) -> str:  # as recorded fingerprints of networks have it
        return "Same"

    def at(self, x: Tensor) -> nn.Conv2d:
        """The convolution for inputs of this size."""
        return self.plain if x.shape[-2:] == self.size else self.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.at(x)(x)


class PrepackedConv2d(nn.Module):
    """A convolution whose weights are laid out for the shape of its input.

    A plain convolution brings its weights into the precision and the order that suit the input in
    every pass. With gradients, and where this is not known to pay, it is the convolution that it
    was made of.
    """

    def __init__(self, conv: nn.Conv2d | SamePadConv2d):
        super().__init__()
        self.conv = conv
        self.packed = {}  # dtype and shape of the input, state of the weights -> weight, bias

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv.at(x) if isinstance(self.conv, SamePadConv2d) else self.conv
        dtype = _dtype(x)
        if dtype is None or not packable(conv):
            return conv(x)
        where = conv.padding, conv.stride, conv.dilation, conv.groups
        key = dtype, x.shape, _state(conv.weight), _state(conv.bias)
        packed = self.packed.get(key)
        if packed is None:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight.to(dtype), *where, x.shape
            )
            packed = weight, None if conv.bias is None else conv.bias.to(dtype)
            kept = list(self.packed.items())[1 - LAYOUTS :]  # the last ones
            self.packed = dict([*kept, (key, packed)])
        return torch.ops.mkldnn._convolution_pointwise(x.to(dtype), *packed, *where, "none", [], "")

    def _get_name(self) -> str:  # as recorded fingerprints of networks have it
        return "Packed"

    def _apply(self, fn, recurse=True):
        self.packed = {}  # what is new may lie where the old weights were
        return super()._apply(fn, recurse)

    def __getstate__(self):  # packed weights cannot be copied, nor sent to another process
        return self.__dict__ | {"packed": {}}


def packable(conv: nn.Module) -> bool:
    """Whether weights of this convolution can be laid out here.

    >>> packable(nn.Conv2d(3, 8, 3).double())
    False
    """
    return (
        type(conv) is nn.Conv2d
        and conv.weight.dtype == torch.float32
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and "float32" in _native()
    )


def _dtype(x: Tensor) -> torch.dtype | None:
    """The dtype of a prepacked convolution of x; None where it must not be prepacked."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return None
    if not torch.is_autocast_enabled("cpu"):
        return x.dtype if x.dtype == torch.float32 else None
    lower = torch.get_autocast_dtype("cpu") == torch.bfloat16 and "bfloat16" in _native()
    return torch.bfloat16 if lower and x.dtype in (torch.float32, torch.bfloat16) else None


def _state(tensor: Tensor | None) -> tuple[int, int] | None:
    """A key that changes when a tensor is written to or replaced."""
    if tensor is None or tensor.is_inference():  # these cannot be written to
        return None
    return tensor.data_ptr(), tensor._version


@functools.cache
def _native() -> set[str]:
    """Precisions in which this CPU gains by packed weights: known of oneDNN on x86."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not (x86 and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return set()
    able = torch.cpu.get_capabilities()
    lower = any(able.get(k) for k in ("avx512_bf16", "amx_bf16"))
    return {"float32", "bfloat16"} if lower else {"float32"}
