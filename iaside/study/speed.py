"""How fast networks are: timed on this machine, or at the rates of a GPU that is named."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from iaside.backend.batch import MAX_BATCH, remembered_batch_size
from iaside.backend.executors import one_thread
from iaside.backend.precision import arithmetic
from iaside.inputs.classifier import Classifier, load_model, untrained
from iaside.inputs.folding import folded
from iaside.inputs.probe import probe
from iaside.robustness.perturb import perturb
from iaside.study.parameters import UsageError, closest
from iaside.study.parts import BATCH, Network, Part
from iaside.tables import CORRUPTIONS

BACKWARD = 2  # forward passes that a gradient counts as, in the column of passes
SECONDS = 2.0  # to time one network, at most about so long


class Speed(NamedTuple):
    """Seconds an image forward, and forward and back; bytes of weights, of an image, of the largest
    activation of a pass and of all of them; images a pass they were measured with."""

    forward: float
    both: float
    weights: int
    image: int
    largest: int
    activations: int
    batch: int

    def seconds(self, passes: np.ndarray) -> float:
        """A gradient comes after a pass of its own, and where there are more, costs the rest."""
        forward, back = passes
        pairs, rest = min(forward, back), max(self.both - self.forward, 0)
        return pairs * self.both + (forward - pairs) * self.forward + (back - pairs) * rest


def build(network: Network) -> Classifier:
    """A network with random weights: they change no time. Errors: UsageError for an unknown one."""
    try:
        if network.side:
            return untrained(network.name, network.classes, network.side, 0)
        recipe = network.recipe
        return load_model(
            network.name, recipe=recipe, pretrained=False, packaged=False, factory=network.factory
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def calibrate(part: Part, device: torch.device, gradients: bool) -> Speed:
    """Time a network: forward, and with gradients, each in the precision that the part says.

    Who answers without gradients is the engine of the part, if it takes the network, random weights
    and all; stderr says where it does not. On a CPU the time of the processor counts where that is
    less: a busy machine delays, but the network needs no more of it.
    """
    model = build(part.network)
    model = (model if part.trains else folded(model)).to(device)
    fewest = 2 if part.trains else 1  # batch norm takes no fewer
    image = torch.rand(1, 3, *model.input_size, device=device)

    def run(n: int, back: bool) -> float:
        x = image.expand(n, *image.shape[1:]).contiguous(memory_format=torch.channels_last)
        x.requires_grad_(back)
        used = part.gradients if back else part.precision
        start, cpu = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(back), arithmetic(used, device):
            out = (model if back else asked)(x).float().logsumexp(1).sum()
        if back:
            out.backward()
            model.zero_grad(set_to_none=True)
        out.cpu()  # waits for the device
        took = time.perf_counter() - start
        return min(took, time.process_time() - cpu) if device.type == "cpu" else took

    def each(back: bool) -> tuple[float, int]:
        end = time.perf_counter() + SECONDS / 2
        run(fewest, back)  # the first pass also allocates and compiles
        best = run(fewest, back) / fewest
        n = max(fewest, min(batch, int(SECONDS / 8 / max(best, 1e-6))))
        while time.perf_counter() + best * n < end:
            best = min(best, run(n, back) / n)
        return best, n

    with one_thread() if part.alone and device.type == "cpu" else contextlib.nullcontext():
        largest, activations = _activations(model, image)
        asked, answers = _asked(model, image, part)
        known = part.batch or remembered_batch_size(model, image, f"{part.precision} {answers}")
        batch = known or BATCH
        if part.trains:
            model.net.train().requires_grad_(True)
        forward, n = each(False)
        both = each(True)[0] if gradients else forward
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Speed(forward, both, weights, image[0].numel() * 4, largest, activations, n)


def _asked(model: Classifier, image: torch.Tensor, part: Part) -> tuple[Callable, str]:
    """Who answers without gradients, and what that is called."""
    if part.engine != "torch":
        with contextlib.suppress(ValueError):  # random weights may give no numbers
            found = probe(model, image, precision=part.precision, engine=part.engine)
            return found, found.answers
    return model, "torch"


# -- what another machine could do -----------------------------------------------------------------

# TFLOP/s: outside of and on the matrix units, dense, by NVIDIA's data sheets of the SXM versions.
GPUS = {
    "A100": {"float32": 19.5, "bfloat16": 312},
    "H100": {"float32": 67, "bfloat16": 989},
    "H200": {"float32": 67, "bfloat16": 989},
    "L40S": {"float32": 91.6, "bfloat16": 362},
}
# What convolutional networks reach of that: taken, not measured. True float32 leaves matrix units
# idle; in bfloat16 memory is what they wait for.
REACHED = {"float32": 0.5, "bfloat16": 0.2}


class Gpu(NamedTuple):
    """What networks reach on a GPU, in FLOP/s."""

    name: str
    float32: float
    bfloat16: float


def named_gpu(text: str) -> Gpu:
    """The rates of a GPU of the list, or of one of one's own, as ``name:TFLOPs``: what it reaches.

    Errors: UsageError for a name that is not listed, or a rate that is none.

    >>> named_gpu("A100").float32 / 1e12, named_gpu("mine:30").bfloat16 / 1e12
    (9.75, 30.0)
    """
    name, colon, rate = text.partition(":")
    if not colon:
        if name not in GPUS:
            raise UsageError(
                f"no GPU {name!r} is known; {closest(name, GPUS)} One of your own: "
                f"{name}:30, if networks reach 30 TFLOP/s on it"
            )
        return Gpu(name, *(1e12 * GPUS[name][p] * share for p, share in REACHED.items()))
    try:
        reached = float(rate)
    except ValueError:
        reached = 0.0
    if not 0 < reached < 1e6:
        raise UsageError(f"{rate!r} of {text!r} must be a number above 0, in TFLOP/s: mine:30")
    return Gpu(name, 1e12 * reached, 1e12 * reached)


def rated(part: Part, gpu: Gpu) -> Speed:
    """What a network's operations take at the rates of a GPU; none is run.

    A gradient counts as ``BACKWARD`` passes: that of pixels alone takes one.
    """
    flops, weights, image, largest, activations = _operations(part.network)
    forward = flops / getattr(gpu, part.precision)
    both = (1 + BACKWARD) * flops / getattr(gpu, part.gradients)
    return Speed(forward, both, weights, image, largest, activations, part.batch or MAX_BATCH)


@functools.lru_cache(None)
@torch.no_grad()
def _operations(network: Network) -> tuple[int, int, int, int, int]:
    """FLOP of a pass of one image; bytes of weights, of an image, of the largest and of all outputs
    of layers. Nothing is computed: tensors on the meta device have shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = build(network)
    model = model.to("meta")
    image = torch.empty(1, 3, *model.input_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        largest, activations = _activations(model, image)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return counter.get_total_flops(), weights, image[0].numel() * 4, largest, activations


@torch.enable_grad()  # without, packed convolutions do not ask their parts
def _activations(model: Classifier, image: torch.Tensor) -> tuple[int, int]:
    """Bytes of the largest output of a layer, and of all outputs, for one image."""
    sizes: list[int] = []
    hooks = [
        m.register_forward_hook(lambda m, args, out: sizes.append(out.numel() * 4))
        for m in model.modules()
        if not list(m.children()) and not isinstance(m, torch.nn.Identity | torch.nn.Sequential)
    ]
    model(image)
    for hook in hooks:
        hook.remove()
    return max(sizes), sum(sizes)


@functools.lru_cache
def corrupting() -> float:
    """Seconds a pixel that the 15 corruptions take in one process, at severity 3."""
    for side in (32, 224):  # the first also imports and compiles
        x, start = torch.rand(1, 3, side, side), time.perf_counter()
        for name in CORRUPTIONS:
            perturb(x, name, severity=3)
    return (time.perf_counter() - start) / side**2
