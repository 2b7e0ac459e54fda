"""How much of a network's bare speed the exact game of all coalitions keeps, and what folding adds.

For each model: forward passes per second of the bare network on a batch that is there already,
against those of `coalition_worths` (splitting, assembling, scoring and bookkeeping included), at
the same precision and batch size, in interleaved pairs within one process, the bare network before
and after. What is done once for all images (content hashes, a first look) is part of the game. The
network is measured as the notebooks do, `folded` (batch norms, uneven paddings, and without
gradients on an x86 CPU the layout of weights); against the one that is not: forward
passes at that precision and batch size, and gradients of four images in float32.

    python benchmarks/throughput.py [model ...] [--pairs 9] [--images 6] [--bands 8]

Prints one JSON line per model; the last line holds the median ratios over models.
"""

import argparse
import json
import statistics
import time

import torch

from iaside.folding import folded
from iaside.machine import arithmetic, check_precision, kept_memory, pick_device
from iaside.models import load_model
from iaside.spectral import band_masks
from iaside.worths import coalition_worths

PACKAGED = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2",
            "squeezenet1_1"]


def fastest_batch(net, x, labels, masks, precision, device) -> int:
    """The batch size that coalition_worths picks by itself."""
    sizes = []
    hook = net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    coalition_worths(net, x[:1], labels[:1], masks, precision=precision, progress=False)
    hook.remove()
    return sizes[-1]


@kept_memory()  # as the game is played
@torch.no_grad()
def bare_per_second(net, batch, passes: int, precision: str) -> float:
    with arithmetic(precision, batch.device):
        start = time.perf_counter()
        for _ in range(passes // len(batch)):
            outputs = net(batch)
        outputs.float().cpu()
        return passes / (time.perf_counter() - start)


@kept_memory()
def gradients_per_second(net, batch, passes: int) -> float:
    start = time.perf_counter()
    for _ in range(passes // len(batch)):
        x = batch.clone().requires_grad_()
        torch.autograd.grad(net(x).sum(), x)[0].cpu()
    return passes / (time.perf_counter() - start)


def exact_per_second(net, x, labels, masks, precision: str, batch_size: int) -> float:
    start = time.perf_counter()
    worths = coalition_worths(net, x, labels, masks, precision=precision, batch_size=batch_size,
                              progress=False)
    return worths.forwards / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=PACKAGED)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--precision", default="float32")
    given = parser.parse_args()
    device = pick_device()
    precision = given.precision
    check_precision(precision)
    ratios = []
    for name in given.models:
        whole = load_model(name)
        net, whole = folded(whole).to(device), whole.to(device)
        x = torch.rand(given.images, 3, *net.input_size, generator=torch.Generator().manual_seed(0))
        labels = torch.zeros(given.images, dtype=torch.long)
        masks = band_masks(given.bands, net.input_size)
        size = fastest_batch(net, x, labels, masks, precision, device)
        batch = x[:1].expand(size, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
        batch, passes = batch.to(device), 2 * 2**given.bands
        few = batch[:1].expand(4, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
        for each in (net, whole):  # warm up
            bare_per_second(each, batch, size, precision)
            gradients_per_second(each, few, 4)
        rows = [
            (bare_per_second(net, batch, passes, precision),
             exact_per_second(net, x, labels, masks, precision, size),
             bare_per_second(net, batch, passes, precision),
             bare_per_second(whole, batch, passes, precision),
             gradients_per_second(net, few, 40),
             gradients_per_second(whole, few, 40))
            for _ in range(given.pairs)
        ]
        ratios.append({
            "ratio": statistics.median(2 * exact / (before + after)
                                       for before, exact, after, *_ in rows),
            "folded": statistics.median(bare / plain for _, _, bare, plain, *_ in rows),
            "folded_gradient": statistics.median(fast / plain for *_, fast, plain in rows),
        })
        print(json.dumps({
            "model": name, "precision": precision, "batch_size": size, "pairs": given.pairs,
            "bare_per_s": round(statistics.median((a + b) / 2 for a, _, b, *_ in rows), 1),
            "exact_per_s": round(statistics.median(exact for _, exact, *_ in rows), 1),
        } | {key: round(value, 3) for key, value in ratios[-1].items()}), flush=True)
    print(json.dumps({key: round(statistics.median(row[key] for row in ratios), 3)
                      for key in ratios[0]}))


if __name__ == "__main__":
    main()
