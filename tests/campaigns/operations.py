"""Everything that writes files, killed or out of disk space at each of its file operations.

Python tells an audit hook of every file that is opened, renamed, made or removed; fsync is wrapped.
A scenario is run once to count its operations. A try ends it at one of them, in a process of its
own, by SIGKILL or by "No space left on device" from then on; then it is run again, and what it
leaves must be what an undisturbed run leaves, byte for byte and no file more. (`crashes.py` beside
the tests is of the writers in `iaside.backend.files` by themselves, at every one of their calls.)
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from child import contents, differences, drawn, in_child, nothing
from torch import nn

from iaside.attribution.examine import examine
from iaside.backend.executors import one_thread
from iaside.explanation import Explanation
from iaside.game.exact import coalition_worths
from iaside.game.sampling import sampled_worths
from iaside.robustness.responses import responses
from iaside.spectral import band_masks
from iaside.study import run
from iaside.study.notebook import tidy
from iaside.study.report import strip
from iaside.tables import Condition
from iaside.training.plans import networks
from iaside.training.training import train_plan

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32
MASKS = band_masks(3, (SIDE, SIDE))
PARTIAL = Path(".partial")
OPERATIONS = {  # event -> which of its arguments is the path that is written
    "os.rename": 1,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.mkdir": 0,
    "os.chmod": 0,
    "os.truncate": 0,
    "os.link": 1,
    "os.symlink": 1,
}
FREEING = ("os.remove", "os.rmdir", "os.truncate")


def game():
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        ).eval()
    return net, torch.rand(4, 3, SIDE, SIDE, generator=generator), torch.tensor([0, 1, 2, 0])


def exact(folder: Path) -> None:
    found = coalition_worths(*game(), MASKS, batch_size=4, resume=PARTIAL, progress=False)
    found.save(folder / "worths.npz")
    Explanation(found).save(folder / "explanation")


def sampled(folder: Path) -> None:
    masks = band_masks(6, (SIDE, SIDE))
    found = sampled_worths(*game(), masks, budget=200, batch_size=4, resume=PARTIAL, progress=False)
    found.save(folder / "sampled.npz")


def answers(folder: Path) -> None:
    conditions = [Condition("white_noise", 0.1), Condition("fog", 1.0), Condition("contrast", 2.0)]
    found = responses(
        *game(),
        conditions,
        MASKS,
        resume=PARTIAL,
        workers=1,
        cache=PARTIAL / "corrupted",
        progress=False,
    )
    found.save(folder / "responses.npz")


def maps(folder: Path) -> None:
    variants = {"a": {"method": "saliency"}, "b": {"method": "fast_ig"}}
    found = examine(
        *game(), variants, steps=4, n_shown=1, infidelity_samples=2, resume=PARTIAL, progress=False
    )
    found.save(folder / "maps.npz")


def training(folder: Path) -> None:
    images = folder / "colours.npz"  # a relative path: it is written down
    if not images.exists():
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 255, (24, SIDE, SIDE, 3), dtype=np.uint8)
        np.savez(images, images=pixels, labels=np.arange(24) % 3)
    shared = dict(
        images=str(images),
        classes=None,
        side=SIDE,
        held_out=0.25,
        epochs=2,
        batch=8,
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        flip=False,
        eps=8,
        steps=2,
        warm_up=0,
        precision="float32",
    )
    plans = {"p": {"architecture": "small_cnn", "seed": [0, 1], "every": 1}}
    train_plan(
        networks(plans),
        shared,
        folder / "networks",
        PARTIAL,
        device="cpu",
        workers=1,
        progress=False,
    )


def chores(folder: Path) -> None:
    strip(ROOT / "notebooks", folder / "notebooks")
    run.digest(folder / "digest.json", ROOT / "params.yaml")


SCENARIOS: dict[str, Callable[[Path], None]] = {
    f.__name__: f for f in (exact, sampled, answers, maps, training, chores)
}


def attempt(part: str, k: int, seed: int, place: Path) -> dict:
    """One scenario, ended at one file operation, and run again."""
    draw = drawn(seed, part, k)
    name = list(SCENARIOS)[k % len(SCENARIOS)]
    wanted, operations = undisturbed(name)
    point = draw.randrange(operations)
    full = part == "full disk"
    found = nothing(f"{name}, operation {point + 1} of {operations}")
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        folder = Path(folder)
        ended = in_child(lambda: disturbed(name, folder, point, full))
        if ended.code is None:
            return found | {"hangs": 1}
        if full and ended.code and not clear(ended.text):
            found |= {"unclear": 1, "what": f"{found['what']}: {ended.text[-300:]}"}
        again = in_child(lambda: whole(name, folder))
        if again.code is None:
            return found | {"hangs": 1}
        if again.code:
            return found | {"lost": 1, "what": f"{found['what']}: {again.text[-300:]}"}
        broken = {c: names for c, names in differences(contents(folder), wanted).items() if names}
    return (
        found
        | {c: len(names) for c, names in broken.items()}
        | ({"what": f"{found['what']}: {broken}"} if broken else {})
    )


def clear(text: str) -> bool:
    """Whether a run on a full disk has said so, in one line of its own."""
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and os.strerror(errno.ENOSPC) in lines[-1]


@functools.cache
def undisturbed(name: str) -> tuple[dict[str, str], int]:
    """What a scenario leaves, and how many file operations it takes."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        ended = in_child(lambda: disturbed(name, Path(folder), None, False))
        if ended.code:
            raise RuntimeError(f"{name} fails without being disturbed: {ended.text}")
        return contents(Path(folder)), int(ended.text.split()[-1])


def whole(name: str, folder: Path) -> None:
    """The scenario as the pipeline runs it: what is unfinished is removed at the end."""
    os.chdir(folder)
    Path("results").mkdir(exist_ok=True)
    tidy(folder)  # as the runner does before it runs a notebook
    with one_thread():
        SCENARIOS[name](Path("results"))
    shutil.rmtree(PARTIAL, ignore_errors=True)


def disturbed(name: str, folder: Path, point: int | None, full: bool) -> None:
    """The same, ended at an operation; without one it prints how many there are."""
    count, sync = itertools.count(), os.fsync

    def operation(event: str) -> None:
        k = next(count)
        if point is None or k < point:
            return
        if not full:
            os.kill(os.getpid(), signal.SIGKILL)
        if event not in FREEING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    def hook(event: str, args: tuple) -> None:
        path = written(event, args)
        if path is not None and Path(os.path.abspath(os.fsdecode(path))).is_relative_to(folder):
            operation(event)

    def fsync(handle: int) -> None:
        operation("fsync")
        sync(handle)

    os.fsync = fsync
    sys.addaudithook(hook)
    whole(name, folder)
    if point is None:
        print(next(count))


def written(event: str, args: tuple) -> str | bytes | None:
    """The path that an audit event is about to write to, None for any other."""
    if event in OPERATIONS:
        path = args[OPERATIONS[event]]
        return path if isinstance(path, str | bytes) else None
    if event != "open" or not isinstance(args[0], str | bytes):
        return None
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    return args[0] if (args[2] or 0) & writes or set(args[1] or "") & set("wax+") else None
