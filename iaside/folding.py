"""A classifier whose batch norms and paddings are part of its convolutions: what is measured."""

from __future__ import annotations

import copy
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from iaside.machine import arithmetic
from iaside.models import Classifier

FOLD = 2  # passes of one image by which `folded` checks itself


def folded(model: Classifier) -> Classifier:
    """A copy whose batch norms are part of the convolutions before them: the same function, faster.

    In eval mode a batch norm multiplies and adds, which the weights of a convolution can do where
    its output goes nowhere else. timm's `Conv2dSame` pads its input in a pass of its own, on one
    side more than on the other: a row of zeros in its kernel does the same, at the model's input
    size. Numbers differ as by rounding in the precision that it runs in.
    The copy is to be measured, not trained or saved. Where it should give other logits for a
    random image, `model` itself is returned. What it gains: benchmarks/throughput.py.

    >>> from iaside.models import load_model
    >>> model = load_model("tf_efficientnet_lite0", pretrained=False)
    >>> x = torch.rand(1, 3, 224, 224)
    >>> torch.allclose(folded(model)(x), model(x), rtol=1e-3, atol=1e-3)
    True
    """
    net, uses = copy.deepcopy(model.net), _Uses()
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # tensors are kept, so that no id comes again
    follows: dict[nn.Module, tuple[nn.Module, int]] = {}  # norm -> convolution, id of its output

    sizes: dict[nn.Module, set] = defaultdict(set)  # of what a convolution is given

    def note_output(conv, given, out):
        sizes[conv].add(given[0].shape[-2:])
        made[id(out)] = conv, out
        uses.of[id(out)] = 0  # an id may have been that of a tensor that is gone

    def note_input(norm, given):
        if id(given[0]) in made:
            follows[norm] = made[id(given[0])][0], id(given[0])

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not is_parametrized(module):
            hooks.append(module.register_forward_hook(note_output))
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(note_input))
    device = model.mean.device
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(1, 3, *model.input_size, generator=generator, device="cpu").to(device)
    with torch.no_grad(), arithmetic("float32", device), uses:
        logits = Classifier(net, model.recipe, model.name)(probe)
    for hook in hooks:
        hook.remove()
    names = {module: name for name, module in net.named_modules()}
    for norm, (conv, output) in follows.items():
        if uses.of[output] == 1:
            net.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
            net.set_submodule(names[norm], nn.Sequential(*norm.children()))  # timm's activations
    # Without timm in memory there is none: our own networks do without its import.
    uneven = getattr(sys.modules.get("timm.layers"), "Conv2dSame", ())
    for conv, seen in sizes.items():
        if isinstance(conv, uneven) and conv.dilation == (1, 1) and len(seen) == 1:
            net.set_submodule(names[conv], _Same(net.get_submodule(names[conv]), *seen))
    found = Classifier(net, model.recipe, model.name)
    with torch.no_grad(), arithmetic("float32", device):
        same = torch.allclose(found(probe), logits, rtol=1e-3, atol=1e-4 * logits.abs().max())
    return found if same else model


class _Same(nn.Module):
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
            conv.in_channels, conv.out_channels, (kernel[0] + rows, kernel[1] + columns), stride,
            after, dilation, conv.groups, bias=False, device="meta",  # draws no weights
        )  # fmt: skip
        self.plain.weight = nn.Parameter(F.pad(conv.weight, [columns, 0, rows, 0]), False)
        self.plain.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return (self.plain if x.shape[-2:] == self.size else self.conv)(x)


class _Uses(TorchFunctionMode):
    """Counts, by the id of a tensor, the functions that make tensors of it."""

    def __init__(self):
        super().__init__()
        self.of: Counter[int] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if next(_tensors(out), None) is not None:  # else it asked for a shape
            self.of.update({id(tensor) for tensor in _tensors([*args, *kwargs.values()])})
        return out


def _tensors(value) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
