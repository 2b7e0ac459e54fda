"""How fast the attribution methods are, and what FAMPE costs beyond AttEXplore.

For each model: gradients per second of every method, and images per second at one budget of
gradients for all (methods that stop early or need only one gradient are scaled to it). FAMPE and
AttEXplore are timed in interleaved pairs with equal settings, within one process.

    python benchmarks/attribution.py [model ...] [--pairs 5] [--images 2] [--gradients 20]

Prints one JSON line per model and method; the last line holds the median overhead of FAMPE over
AttEXplore over models, in percent (claimed: below 10).
"""

import argparse
import json
import statistics
import time

import torch

from iaside.attribution.maps import METHODS, attribute
from iaside.backend.device import pick_device
from iaside.backend.gradients import predictions
from iaside.inputs.classifier import load_model
from iaside.inputs.folding import folded

PACKAGED = ["squeezenet1_1", "tf_efficientnet_lite0"]


def settings(gradients: int, x: torch.Tensor) -> dict[str, dict]:
    """Options that make each method take about that many gradients, where it can."""
    steps = max(1, gradients // 4)
    return {
        "fampe": {"steps": steps, "samples": 4},
        "attexplore": {"steps": steps, "samples": 4},
        "smoothgrad": {"samples": gradients},
        "integrated_gradients": {"steps": gradients},
        "guided_ig": {"steps": gradients},
        "mfaba": {"steps": gradients},
        "expected_gradients": {"samples": gradients, "references": x.flip(3)},
        "big": {"steps": gradients // 2, "path_steps": gradients // 2},
        "agi": {"classes": 4, "steps": steps},
        "la": {"classes": 4, "steps": steps},
    }


def timed(net, x, targets, method: str, options: dict) -> tuple[float, int]:
    """Seconds, and images that the network was shown with gradients."""
    seen = []
    hook = net.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]) if torch.is_grad_enabled() else 0)
    )
    start = time.perf_counter()
    attribute(net, x, targets, method, **options).sum().cpu()  # the copy waits for the device
    seconds = time.perf_counter() - start
    hook.remove()
    return seconds, sum(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=PACKAGED)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--gradients", type=int, default=20)
    a = parser.parse_args()
    device = pick_device()
    overheads = []
    for name in a.models:
        net = folded(load_model(name)).to(device)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(a.images, 3, *net.input_size, generator=generator).to(device)
        targets = predictions(net, x)
        options = settings(a.gradients, x)
        both = ("attexplore", "fampe")
        for method in (*both, "saliency"):
            timed(net, x, targets, method, options.get(method, {}))  # warm up
        pairs = [[timed(net, x, targets, m, options[m])[0] for m in both] for _ in range(a.pairs)]
        overheads.append(100 * (statistics.median(fampe / other for other, fampe in pairs) - 1))
        for method in METHODS:
            own = options.get(method, {})
            if method in both:
                seconds = statistics.median(pair[both.index(method)] for pair in pairs)
                gradients = a.images * a.gradients // 4 * 4
            else:
                seconds, gradients = timed(net, x, targets, method, own)
            print(
                json.dumps(
                    {
                        "model": name,
                        "method": method,
                        "gradients_per_image": gradients / a.images,
                        "gradients_per_s": round(gradients / seconds, 1),
                        f"images_per_s_at_{a.gradients}_gradients": round(
                            gradients / seconds / a.gradients, 3
                        ),
                    }
                ),
                flush=True,
            )
        print(json.dumps({"model": name, "fampe_overhead_percent": round(overheads[-1], 1)}))
    print(json.dumps({"fampe_overhead_percent": round(statistics.median(overheads), 1)}))


if __name__ == "__main__":
    main()
