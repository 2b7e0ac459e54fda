"""Corrupted photographs: made once for all networks, stored, and resized for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from iaside.backend.executors import in_one_thread
from iaside.backend.files import alone, held, remove_unused
from iaside.backend.fingerprints import fingerprint
from iaside.backend.keys import code_hash
from iaside.backend.parallel import executor
from iaside.backend.resume import keep_array, kept_array
from iaside.inputs.asked import recipe_of
from iaside.inputs.corrupted_sets import CorruptedSet
from iaside.robustness.conditions import condition_name
from iaside.robustness.corruptions import VERSION
from iaside.robustness.perturb import perturb
from iaside.tables import Condition


def fitter(model: Callable, images: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from pictures to the size of the images."""
    size, how = tuple(images.shape[-2:]), interpolation_of(model)
    there = images.device, images.dtype
    return lambda x: (x if x.shape[-2:] == size else resize(x, size, how)).to(*there)


def interpolation_of(model: Callable) -> str:
    return recipe_of(model).get("interpolation", "bilinear")


def resize(x: Tensor, size: tuple[int, int], how: str) -> Tensor:
    from torchvision.transforms import functional as F  # here: it takes a second to import

    options = {"size": list(size), "interpolation": F.InterpolationMode(how), "antialias": True}
    if how in ("box", "hamming", "lanczos"):  # of PIL, which knows floats channel by channel only
        channels = [
            F.resize(Image.fromarray(channel.numpy()), **options)
            for channel in x.cpu().float().flatten(0, 1)
        ]
        resized = torch.from_numpy(np.stack(channels)).unflatten(0, x.shape[:2]).to(x)
    else:
        resized = torch.cat([F.resize(part, **options) for part in x.split(1)])
    return resized.clamp(0, 1)  # bicubic and lanczos overshoot


def in_bytes(x: Tensor) -> Tensor:
    return (x * 255).round() / 255


def corrupted_pictures(
    condition: Condition,
    pictures: Tensor,
    chosen,
    seed: int,
    cache,
    published: CorruptedSet | None = None,
) -> Tensor:
    """The chosen pictures, corrupted: as published; or here, picture i of the set by (seed, i)."""
    if published is not None:
        made = published.pictures(condition.source, int(condition.strength), chosen)
        return made.to(pictures) / 255
    if cache is not None:
        path = _corrupted_folder(cache, pictures, seed) / _file_of(condition)
        corrupted = kept_array(path, pictures.shape, "u1")
        if corrupted is None:
            raise FileNotFoundError(f"{path} has gone since it was made; run this again")
        return torch.from_numpy(corrupted[chosen]).to(pictures) / 255
    severity = int(condition.strength)
    return torch.cat(
        [
            perturb(
                pictures[i : i + 1], condition.source, first=int(i), severity=severity, seed=seed
            )
            for i in chosen
        ]
    )


@contextlib.contextmanager
def corruptions(images, conditions, folder, seed, workers, progress) -> Iterator[None]:
    """Have the corrupted images there, in a folder if there is one, as long as they are needed.

    What other code has made goes from that folder, but for what another process has in use.
    """
    if folder is None or not conditions:
        yield
        return
    place = _corrupted_folder(folder, images, seed)
    with held(place):
        os.utime(place)  # what was not in use for long goes, too: see iaside.study.notebook.tidy
        for other in place.parent.glob("corrupted-*"):
            if not other.name.endswith(_made_by()):
                remove_unused(other)
        with alone(place.parent):  # another stage makes the same ones
            _corrupt_missing(place, images, conditions, seed, workers, progress)
        yield


def _corrupt_missing(place: Path, images, conditions, seed, workers, progress) -> None:
    todo = [c for c in conditions if kept_array(place / _file_of(c), images.shape, "u1") is None]
    if not todo:
        return
    made = in_one_thread(executor(workers)).each(
        _corrupt_to, (images, place, seed), [(c,) for c in todo], name=condition_name
    )
    for _ in tqdm(
        made, total=len(todo), disable=not progress, unit="corruption", desc="corrupting"
    ):
        pass


def _corrupt_to(of: tuple[Tensor, Path, int], condition: Condition) -> None:
    images, place, seed = of
    y = perturb(images.cpu(), condition.source, severity=int(condition.strength), seed=seed)
    keep_array(place / _file_of(condition), (y * 255).round().to(torch.uint8).numpy())


def _corrupted_folder(folder, images: Tensor, seed: int) -> Path:
    return Path(folder) / f"corrupted-{fingerprint(images)}-{seed}-{VERSION}{_made_by()}"


def _made_by() -> str:
    """How the names of what today's code has corrupted end."""
    return f"-{code_hash(__name__)[:16]}"


def _file_of(condition: Condition) -> str:
    return f"{condition.source}-{int(condition.strength)}.npz"
