"""Whether a GPU gives the numbers of a CPU, and as fast as the bare network: under five minutes.

    python benchmarks/gpu.py            # needs torch 2.11, torchvision, timm, NumPy, SciPy, pandas
    python benchmarks/gpu.py --cpu      # tiny networks on the CPU: does this script itself run?

A ResNet-50 and a ViT-B/16 with random weights, and photographs made of noise: nothing is fetched.
Held are: worths of all and of sampled coalitions within 1e-3 nats of the CPU's in float32; the game
at .9 of the bare network's speed or more, at its own batch size, in float32 and bfloat16; attacks
inside their ball that raise the loss; an attribution map like the CPU's; a training with a penalty;
the same bytes twice. The attacks are those of adversarial training and the method is fast_ig, which
need no further package. Prints a line for each; the last one is JSON. Exit code 0 where all hold,
and where there is no CUDA device, which it says; 1 otherwise.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package need not be installed

from iaside.attribution.maps import attribute
from iaside.backend.batch import remembered_batch_size
from iaside.backend.precision import arithmetic
from iaside.game.controls import calibrated
from iaside.game.exact import coalition_worths
from iaside.game.sampling import sampled_worths
from iaside.inputs.classifier import load_model, untrained
from iaside.inputs.folding import folded
from iaside.shapley import shapley_values
from iaside.spectral import band_masks
from iaside.training.data import Data
from iaside.training.training import train_network
from iaside.training.updates import attacked

NATS = 1e-3  # the game on the GPU against the CPU's, in float32
SPEED = 0.9  # the game against the bare network
ALIKE = 0.99  # correlation of attribution maps
TURNS, SPAN = 3, 3.0  # of each of two that are timed, in turns, of about so many seconds
BATCH = 32  # images a pass where the game remembers none
SETTINGS = {
    "side": 32,
    "seed": 0,
    "batch": 64,
    "epochs": 1,
    "every": 0,
    "fraction": 1.0,
    "noise": 0.0,
    "lr": 0.1,
    "schedule": "cyclic",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "augment": True,
    "flip": True,
    "eps": 8.0,
    "steps": 2,
    "warm_up": 0,
    "adversary": "pgd",
    "penalty": "jafr",
    "strength": 1e-3,
}


class Checks:
    """What was found: a line for each check, and all of it for the last line."""

    def __init__(self) -> None:
        self.found, self.wrong, self.start = {}, [], time.perf_counter()

    def __call__(self, name: str, value, holds: bool = True, rule: str = "") -> None:
        self.found[name] = value
        self.wrong += [] if holds else [name]
        said = "ok" if holds else "WRONG"
        at = time.perf_counter() - self.start
        print(f"{at:6.1f} s  {said:5}  {name}: {value} {rule}".rstrip(), flush=True)


def pictures(n: int, side: int) -> torch.Tensor:
    """Smooth noise, (n, 3, side, side) in [0, 1]: most of its energy at low frequencies."""
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return (0.8 * smooth + 0.2 * fine).clamp(0, 1)


def networks(tiny: bool) -> dict:
    """Random weights; batch norms know the pictures, or answers would be in the thousands."""
    if tiny:
        found = {
            name: untrained(name, 10, side, 0)
            for name, side in (("resnet8", 32), ("test_vit", 160))
        }
    else:
        found = {
            name: load_model(name, pretrained=False, packaged=False)
            for name in ("resnet50", "vit_b_16")
        }
    return {
        name: folded(calibrated(net, pictures(8, net.input_size[0]))) for name, net in found.items()
    }


def check_numbers(check: Checks, name: str, net, device: torch.device, bands: int) -> None:
    """Games, attacks and a map on the device against those of the CPU, in float32."""
    x, masks = pictures(6, net.input_size[0]), band_masks(bands, net.input_size)
    with torch.no_grad():
        y = net(x).argmax(1)
    few = x[:3], y[:3]
    played = []
    for place in ("cpu", device, device):  # on the device twice
        net.to(place)
        exact = coalition_worths(net, *few, masks, batch_size=32, progress=False).table
        sampled = sampled_worths(net, x, y, masks, budget=90, batch_size=32, progress=False)
        played.append((exact, sampled.estimates.values))
    cpu, here, again = played
    for kind, one, other in zip(("exact", "sampled"), here, cpu, strict=True):
        far = float(np.abs(one - other).max())
        check(f"{name} {kind} nats", far, far <= NATS, f"(at most {NATS:g} from the CPU's)")
    off = float(np.abs(shapley_values(here[0]).sum(0) - (here[0][-1] - here[0][0])).max())
    check(f"{name} efficiency", off, off <= 1e-9, "(values add up)")
    same = all(np.array_equal(a, b) for a, b in zip(again, here, strict=True))
    check(f"{name} games twice the same", same, same)

    def losses(shown: torch.Tensor) -> float:
        with torch.no_grad(), arithmetic("float32", device):
            logits = net(shown.to(device))
        return torch.nn.functional.cross_entropy(logits, few[1].to(device)).item()

    for attack in ("fgsm", "pgd"):
        with arithmetic("float32", device):
            shown = attacked(net, *(t.to(device) for t in few), attack, eps=4 / 255, steps=10).cpu()
        far, gain = (shown - few[0]).abs().max().item(), losses(shown) - losses(few[0])
        holds = far <= 4 / 255 + 1e-6 and gain > 0
        check(f"{name} {attack} loss", gain, holds, f"(raised, no pixel by more than {far:.4f})")
    maps = [
        attribute(net.to(place), few[0].to(place), few[1], "fast_ig").cpu().flatten().double()
        for place in ("cpu", device)
    ]
    alike = torch.corrcoef(torch.stack(maps))[0, 1].item()
    check(f"{name} fast_ig", alike, alike >= ALIKE, f"(like the CPU's, {ALIKE} wanted)")


@torch.no_grad()
def bare(net, batch: torch.Tensor, passes: int, precision: str) -> float:
    """Images a second of the network alone, on a batch that is there already."""
    with arithmetic(precision, batch.device):
        start = time.perf_counter()
        for _ in range(max(1, passes // len(batch))):
            outputs = net(batch)
        outputs.float().cpu()  # waits for the device
    return max(1, passes // len(batch)) * len(batch) / (time.perf_counter() - start)


def check_speed(
    check: Checks, name: str, net, device: torch.device, bands: int, most: int, hold: bool
) -> None:
    """The game against the bare network at the batch that the game takes, in turns.

    most: images, of which as many play as take about ``SPAN``.
    """
    x, masks = pictures(most, net.input_size[0]), band_masks(bands, net.input_size)
    y, net = torch.zeros(most, dtype=torch.long), net.to(device)

    def game(n: int, precision: str) -> float:
        start = time.perf_counter()
        played = coalition_worths(net, x[:n], y[:n], masks, precision=precision, progress=False)
        return played.forwards / (time.perf_counter() - start)

    for precision in ("float32", "bfloat16"):
        game(2, precision)  # finds its batch
        size = remembered_batch_size(net, x[:1].to(device), precision) or BATCH
        batch = x[:1].expand(size, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
        batch = batch.to(device)
        bare(net, batch, size, precision)  # warms up
        n = math.ceil(SPAN * bare(net, batch, 4 * size, precision) / 2**bands)
        n = max(2, min(n, most))
        pairs = [
            (bare(net, batch, n * 2**bands, precision), game(n, precision)) for _ in range(TURNS)
        ]
        ratio = statistics.median(own / alone for alone, own in pairs)
        check(f"{name} {precision} images/s", round(statistics.median(own for _, own in pairs), 1))
        check(
            f"{name} {precision} of bare",
            round(ratio, 3),
            ratio >= SPEED or not hold,
            f"(batches of {size}; {SPEED} wanted)",
        )


def check_training(check: Checks, device: torch.device, architecture: str, n: int) -> None:
    """An epoch against an adversary with a penalty, in float32 and bfloat16, twice to the byte."""
    images = (pictures(n + 40, 32) * 255).to(torch.uint8)
    labels = (images.float().mean((1, 2, 3)) > images.float().mean()).long()
    data = Data(images[:n], labels[:n], images[n:], labels[n:])
    for precision in ("float32", "bfloat16"):
        weights, start = [], time.perf_counter()
        for _ in range(2):
            with tempfile.TemporaryDirectory() as at:
                settings = SETTINGS | {"architecture": architecture, "precision": precision}
                log = train_network("net", settings, data, f"{at}/net", f"{at}/partial", device)
                weights.append(Path(f"{at}/net/final.safetensors").read_bytes())
        loss = log[-1]["loss"]
        check(f"training {precision} loss", loss, bool(np.isfinite(loss)))
        check(f"training {precision} seconds", round((time.perf_counter() - start) / 2, 2))
        same = weights[0] == weights[1]
        check(f"training {precision} twice the same", same, same)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="tiny networks on the CPU, at any speed")
    a = parser.parse_args(argv)
    if not (a.cpu or torch.cuda.is_available()):
        print("There is no CUDA device here: nothing was checked.")
        print(json.dumps({"cuda": False, "checked": False}))
        return 0
    # Of networks that have learnt nothing: shares that mean nothing, answers no better than chance.
    warnings.simplefilter("ignore", RuntimeWarning)
    device = torch.device("cpu" if a.cpu else "cuda")
    check = Checks()
    bands, speed_bands, most = (3, 3, 2) if a.cpu else (5, 8, 128)
    for name, net in networks(a.cpu).items():
        check_numbers(check, name, net, device, bands)
        check_speed(check, name, net, device, speed_bands, most, hold=not a.cpu)
    check_training(check, device, *(("small_cnn", 128) if a.cpu else ("preactresnet18", 4096)))
    if not a.cpu:
        peak = torch.cuda.max_memory_allocated() / 2**30
        room = torch.cuda.get_device_properties(0).total_memory / 2**30
        check("GiB at most", round(peak, 2), peak < room, f"(of {room:.0f})")
    seconds = time.perf_counter() - check.start
    check("seconds", round(seconds, 1), a.cpu or seconds < 300, "(under 300 wanted)")
    about = {
        "cuda": not a.cpu,
        "checked": True,
        "ok": not check.wrong,
        "wrong": check.wrong,
        "device": "cpu" if a.cpu else torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    print(json.dumps(about | check.found))
    return 1 if check.wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the same bytes twice
    sys.exit(main())
