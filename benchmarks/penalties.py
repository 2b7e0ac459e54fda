"""What each spectral penalty costs a training step, as a ratio to plain training.

For each network: seconds of a training step (forward, backward, SGD) with the penalty against
those of a plain step on the same batch, in interleaved pairs within one process.

    python benchmarks/penalties.py [network ...] [--pairs 7] [--batch 128] [--side 32] [--steps 1]

networks: torchvision names. Prints one JSON line per network and penalty; the last line holds the
median ratio over networks of every penalty.
"""

import argparse
import json
import statistics
import time
from functools import partial

import torch
import torchvision
from torch import nn

from iaside.backend.device import pick_device
from iaside.spectral import band_masks
from iaside.training.penalties import PENALTIES, band_share, coalition_dropout


def seconds_per_step(net, descent, x, y, steps: int, penalty=None, masks=None) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        shown = x if masks is None else coalition_dropout(x, masks, keep=0.5)
        loss = nn.functional.cross_entropy(net(shown), y)
        if penalty is not None:
            loss = loss + 0.001 * penalty(net, x, y)
        descent.zero_grad()
        loss.backward()
        descent.step()
    loss.item()  # waits for the device
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["resnet18"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1)
    a = parser.parse_args()
    device = pick_device()
    torch.manual_seed(0)
    masks = band_masks(8, (a.side, a.side)).to(device)
    kinds = {name: {"penalty": penalty} for name, penalty in PENALTIES.items()}
    kinds["band_share"] = {"penalty": partial(band_share, band=7)}
    kinds["coalition_dropout"] = {"masks": masks}
    ratios = {name: [] for name in kinds}
    for network in a.networks:
        net = torchvision.models.get_model(network, num_classes=10).to(device).train()
        descent = torch.optim.SGD(net.parameters(), lr=1e-4)
        x = torch.rand(a.batch, 3, a.side, a.side, device=device)
        y = torch.arange(a.batch, device=device) % 10
        for name, kind in kinds.items():
            timed = (net, descent, x, y, a.steps)
            seconds_per_step(*timed, **kind)  # warm up
            pairs = [
                (seconds_per_step(*timed), seconds_per_step(*timed, **kind)) for _ in range(a.pairs)
            ]
            ratio = statistics.median(penalised / plain for plain, penalised in pairs)
            ratios[name].append(ratio)
            print(
                json.dumps(
                    {
                        "network": network,
                        "penalty": name,
                        "batch": a.batch,
                        "side": a.side,
                        "pairs": a.pairs,
                        "plain_s": round(statistics.median(p for p, _ in pairs), 4),
                        "penalised_s": round(statistics.median(q for _, q in pairs), 4),
                        "ratio": round(ratio, 2),
                    }
                ),
                flush=True,
            )
    print(json.dumps({name: round(statistics.median(r), 2) for name, r in ratios.items()}))


if __name__ == "__main__":
    main()
