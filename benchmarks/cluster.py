"""How much faster two workers of one thread are than one, for each measuring loop.

One worker and two, each a process of this machine, in alternation, on the same work: the exact
game, a sampled game, answers to perturbed images, and the trainings of a plan. Both have started,
and are warm, before the time is taken. On two idle cores a ratio cannot exceed 2.

Beside the ratio of times stands that of processor seconds, those of the one worker over those of
the busier of the two, each with those of the process that asks them, which works while nobody else
does: what idle cores would give, where others compute on the machine as well.

    python benchmarks/cluster.py [model] [--pairs 3] [--images 16] [--only exact responses]

The last line is JSON: for each loop the ratios of the pairs, and their medians.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from iaside.backend.processes import Processes
from iaside.game.exact import coalition_worths
from iaside.game.sampling import sampled_worths
from iaside.game.surrogate import passes_per_image
from iaside.inputs.classifier import load_model
from iaside.inputs.folding import folded
from iaside.robustness.responses import responses
from iaside.spectral import band_masks
from iaside.tables import Condition
from iaside.training.plans import networks
from iaside.training.training import train_plan

TICK = os.sysconf("SC_CLK_TCK")
CONDITIONS = [
    *(Condition("white_noise", 0.02 * k) for k in range(1, 9)),
    *(Condition("white_noise", 0.1, band) for band in range(4)),
    *(Condition("gaussian_blur", k) for k in (3, 5, 7, 9)),
    *(Condition("fgsm", 0.01 * k) for k in range(1, 5)),
]
TRAINING = {
    "classes": None,
    "side": 32,
    "held_out": 0.2,
    "epochs": 1,
    "batch": 64,
    "lr": 0.05,
    "schedule": "cosine",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "flip": False,
    "eps": 8.0,
    "steps": 2,
    "warm_up": 0,
    "precision": "float32",
}


def loops(model: str, n: int, n_bands: int, batch_size: int) -> dict:
    net = folded(load_model(model))
    x = torch.rand(n, 3, *net.input_size, generator=torch.Generator().manual_seed(0))
    y, masks = torch.zeros(n, dtype=torch.long), band_masks(n_bands, net.input_size)
    fine, visits = band_masks(4 * n_bands, net.input_size), n * passes_per_image(4 * n_bands)
    how = {"batch_size": batch_size, "progress": False}
    digits = Path(__file__).parents[1] / "data/images/mnist_5k.npz"
    few = {"p": {"architecture": "small_cnn", "seed": list(range(4)), "fraction": 0.25}}

    def trainings(workers) -> None:
        with tempfile.TemporaryDirectory() as at:
            train_plan(
                networks(few),
                TRAINING | {"images": str(digits)},
                f"{at}/nets",
                f"{at}/p",
                device="cpu",
                workers=workers,
                progress=False,
            )

    return {
        "exact": lambda w: coalition_worths(net, x, y, masks, workers=w, **how),
        "sampled": lambda w: sampled_worths(net, x, y, fine, budget=visits, workers=w, **how),
        "responses": lambda w: responses(
            net, x, y, CONDITIONS, masks, {"fgsm": range(n // 4)}, workers=w, **how
        ),
        "trainings": trainings,
    }


def seconds(workers) -> np.ndarray:
    """Processor time of each worker so far."""
    stats = [Path(f"/proc/{p.pid}/stat").read_text() for p in workers._processes]
    return np.array([sum(map(int, s.rsplit(")", 1)[1].split()[11:13])) / TICK for s in stats])


def timed(loop, workers) -> tuple[float, float]:
    before, own, start = seconds(workers), time.process_time(), time.perf_counter()
    loop(workers)
    took = time.perf_counter() - start
    return took, time.process_time() - own + float((seconds(workers) - before).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="squeezenet1_1")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--bands", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=None)
    a = parser.parse_args()
    warnings.simplefilter("ignore")  # noise is no photograph
    torch.set_num_threads(1)
    of = loops(a.model, a.images, a.bands, a.batch_size)
    of = {name: loop for name, loop in of.items() if a.only is None or name in a.only}
    found: dict = {}
    with Processes(1) as one, Processes(2) as two:
        for name, loop in of.items():
            for workers in (one, two):  # warm up: they start, and are sent the network
                loop(workers)
            pairs = [[timed(loop, workers) for workers in (one, two)] for _ in range(a.pairs)]
            times = [a[0] / b[0] for a, b in pairs]
            processor = [a[1] / b[1] for a, b in pairs]
            found[name] = {
                "time": round(statistics.median(times), 3),
                "processor": round(statistics.median(processor), 3),
                "times": [round(t, 3) for t in times],
                "processors": [round(t, 3) for t in processor],
                "one_s": round(statistics.median(p[0][0] for p in pairs), 2),
            }
            print(name, found[name], flush=True)
    print(
        json.dumps(
            {
                "two_workers_over_one": found,
                "model": a.model,
                "images": a.images,
                "bands": a.bands,
                "pairs": a.pairs,
                "batch_size": a.batch_size,
            }
        )
    )


if __name__ == "__main__":
    main()
