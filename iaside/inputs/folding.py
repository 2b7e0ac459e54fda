"""Fuse batch norm and padding into the convolutions of a classifier, for inference."""

from __future__ import annotations

import copy
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from iaside.backend.answers import place_of, taken
from iaside.backend.precision import arithmetic, undisturbed
from iaside.inputs.classifier import Classifier, check_classifier
from iaside.inputs.convolutions import PrepackedConv2d, SamePadConv2d, packable

FOLD = 2  # passes of one image by which `folded` looks and checks itself


@undisturbed
def folded(model: Classifier) -> Classifier:
    """A copy whose batch norms are part of the convolutions before them: the same function, faster.

    In eval mode a batch norm multiplies and adds, which the weights of a convolution can do where
    its output goes nowhere else. timm's `Conv2dSame` pads its input in a pass of its own, on one
    side more than on the other: a row of zeros in its kernel does the same, at the model's input
    size. Without gradients, on an x86 CPU, weights are laid out once for each size of batch.
    Numbers differ as by rounding in the precision that it runs in, and nan stays nan.
    The copy is to be measured, not trained or saved. Where it should give other logits for a
    random image, or none, or cannot be copied, `model` itself is returned. What it gains:
    benchmarks/throughput.py.

    Errors: ValueError for weights that hold nan, or infinite parameters.

    >>> from iaside.inputs.classifier import load_model
    >>> model = load_model("tf_efficientnet_lite0", pretrained=False)
    >>> x = torch.rand(1, 3, 224, 224)
    >>> torch.allclose(folded(model)(x), model(x), rtol=1e-3, atol=1e-3)
    True
    """
    check_classifier(model, "folded")
    try:
        net = copy.deepcopy(model.net)
    except (RuntimeError, TypeError):  # of a lock or a stand-in for a tensor that it holds
        return model
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(1, 3, *model.input_size, generator=generator, device="cpu")
    probe = probe.to(model.mean.device)

    def logits(net):
        with torch.no_grad(), arithmetic("float32", probe.device):
            given = Classifier(net, model.recipe, model.name)(probe)
            return taken(given, place_of(given, 1, "logits", class_outputs=False))

    seen = _Seen(net, logits)
    wanted = seen.outputs
    for norm, conv in seen.followers():
        net.set_submodule(seen.names[conv], fuse_conv_bn_eval(conv, norm))
        net.set_submodule(seen.names[norm], nn.Sequential(*norm.children()))  # timm's activations
    # Without timm in memory there is none: our own networks do without its import.
    uneven = getattr(sys.modules.get("timm.layers"), "Conv2dSame", ())
    for seen_conv, sizes in seen.sizes.items():
        name = seen.names[seen_conv]
        conv = plain = net.get_submodule(name)
        if isinstance(conv, uneven) and conv.dilation == (1, 1) and len(sizes) == 1:
            conv = SamePadConv2d(conv, *sizes)
            plain = conv.plain
        # The activation stays by itself: oneDNN's own makes numbers of nan.
        net.set_submodule(name, PrepackedConv2d(conv) if packable(plain) else conv)
    try:
        found = logits(net)
    except (AttributeError, RuntimeError):  # of a network that looks into its convolutions
        return model
    largest = wanted.abs().max()
    same = largest.isfinite() and torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * largest)
    return Classifier(net, model.recipe, model.name) if same else model


class _Seen:
    """A look at a network at work: what its convolutions are given, and who takes their outputs."""

    def __init__(self, net: nn.Module, run: Callable[[nn.Module], Tensor]):
        self.names = {module: name for name, module in net.named_modules()}
        self.sizes: dict[nn.Module, set] = defaultdict(set)  # of the inputs of a convolution
        self._calls, self._uses = Counter(), _Uses()
        # id of an output -> who made it; the output is kept, so that no id comes again
        self._made: dict[int, tuple[nn.Module, Tensor]] = {}
        self._taken: dict[nn.Module, int] = {}  # norm -> id of its input

        hooks = []
        for module in self.names:
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                hooks.append(module.register_forward_pre_hook(self._note_input))
            elif isinstance(module, nn.Conv2d) and not is_parametrized(module):
                hooks.append(module.register_forward_hook(self._note_output))
        with self._uses:
            self.outputs = run(net)
        for hook in hooks:
            hook.remove()

    def _note_output(self, conv, given, out):
        self._calls[conv] += 1
        self.sizes[conv].add(given[0].shape[-2:])
        self._made[id(out)] = conv, out
        self._uses.of[id(out)] = 0  # an id may have been that of a tensor that is gone

    def _note_input(self, norm, given):
        self._calls[norm] += 1
        if id(given[0]) in self._made and not self._uses.of[id(given[0])]:
            self._taken[norm] = id(given[0])

    def followers(self) -> Iterator[tuple[nn.BatchNorm2d, nn.Conv2d]]:
        """Norms that alone take what a convolution gives, and the convolution."""
        for norm, output in self._taken.items():
            conv = self._made[output][0]
            once = self._calls[norm] == self._calls[conv] == 1
            if self._uses.of[output] == 1 and once:
                yield norm, conv


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
