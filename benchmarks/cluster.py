"""How much faster two workers of one thread play the exact game than one.

For a network: forward passes per second of `coalition_worths` over a Dask client with one worker
and with two, each one process of one thread on this machine, in alternation; both have the model
before the time is taken. On two idle cores the ratio cannot exceed 2.

    python benchmarks/cluster.py [model] [--pairs 5] [--images 16] [--bands 6]

The last line is JSON: the median ratio of the pairs, and the rates.
"""

import argparse
import json
import statistics
import time

import torch
from distributed import LocalCluster

from iaside.cluster import connect
from iaside.folding import folded
from iaside.models import load_model
from iaside.spectral import band_masks
from iaside.worths import coalition_worths


def per_second(client, net, x, masks, batch_size: int) -> float:
    labels = torch.zeros(len(x), dtype=torch.long)
    start = time.perf_counter()
    worths = coalition_worths(net, x, labels, masks, batch_size=batch_size, progress=False,
                              client=client)
    return worths.forwards / (time.perf_counter() - start)


def workers(n: int) -> LocalCluster:
    return LocalCluster(n_workers=n, threads_per_worker=1, memory_limit=0, dashboard_address=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="squeezenet1_1")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--bands", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    a = parser.parse_args()
    net = folded(load_model(a.model))
    x = torch.rand(a.images, 3, *net.input_size, generator=torch.Generator().manual_seed(0))
    masks = band_masks(a.bands, net.input_size)
    with (workers(1) as few, workers(2) as many, connect(few) as one, connect(many) as two):
        for client in (one, two):  # warm up: the model is sent, torch is imported
            per_second(client, net, x[:4], masks, a.batch_size)
        pairs = [
            [per_second(client, net, x, masks, a.batch_size) for client in (one, two)]
            for _ in range(a.pairs)
        ]
    print(json.dumps({
        "two_workers_over_one": round(statistics.median(two / one for one, two in pairs), 3),
        "one_per_s": round(statistics.median(one for one, _ in pairs), 1),
        "two_per_s": round(statistics.median(two for _, two in pairs), 1),
        "model": a.model, "images": a.images, "bands": a.bands, "pairs": a.pairs,
        "batch_size": a.batch_size,
    }))


if __name__ == "__main__":
    main()
