"""How much of a network's bare speed the exact game of all coalitions keeps.

For each model: forward passes per second of the bare network on a batch that is there already,
against those of `coalition_worths` (splitting, assembling, scoring and bookkeeping included), at
the same precision and batch size, in interleaved pairs within one process.

    python benchmarks/throughput.py [model ...] [--pairs 7] [--images 2] [--bands 8]

Prints one JSON line per model; the last line holds the median ratio over models.
"""

import argparse
import json
import statistics
import time

import torch

from iaside.machine import arithmetic, pick_device, resolve_precision
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


@torch.no_grad()
def bare_per_second(net, batch, passes: int, precision: str) -> float:
    with arithmetic(precision, batch.device):
        start = time.perf_counter()
        for _ in range(passes // len(batch)):
            outputs = net(batch)
        outputs.float().cpu()
        return passes / (time.perf_counter() - start)


def exact_per_second(net, x, labels, masks, precision: str, batch_size: int) -> float:
    start = time.perf_counter()
    worths = coalition_worths(net, x, labels, masks, precision=precision, batch_size=batch_size,
                              progress=False)
    return worths.forwards / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=PACKAGED)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    a = parser.parse_args()
    device = pick_device()
    precision = resolve_precision(a.precision, device)
    ratios = []
    for name in a.models:
        net = load_model(name).to(device)
        x = torch.rand(a.images, 3, *net.input_size, generator=torch.Generator().manual_seed(0))
        labels = torch.zeros(a.images, dtype=torch.long)
        masks = band_masks(a.bands, net.input_size)
        size = fastest_batch(net, x, labels, masks, precision, device)
        batch = x[:1].expand(size, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
        batch, passes = batch.to(device), 2**a.bands * a.images
        bare_per_second(net, batch, size, precision)  # warm up
        pairs = [
            (bare_per_second(net, batch, passes, precision),
             exact_per_second(net, x, labels, masks, precision, size))
            for _ in range(a.pairs)
        ]
        ratio = statistics.median(exact / bare for bare, exact in pairs)
        ratios.append(ratio)
        print(json.dumps({
            "model": name, "precision": precision, "batch_size": size, "pairs": a.pairs,
            "bare_per_s": round(statistics.median(b for b, _ in pairs), 1),
            "exact_per_s": round(statistics.median(e for _, e in pairs), 1),
            "ratio": round(ratio, 3),
        }), flush=True)
    print(json.dumps({"ratio": round(statistics.median(ratios), 3)}))


if __name__ == "__main__":
    main()
