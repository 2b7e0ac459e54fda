"""Batch size: the fastest one, measured once for each machine and remembered."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from iaside.backend.files import alone, as_object, sweep, write_text

TRIAL_SECONDS = 0.1  # seconds in which a size is tried up to five times: one short pass is luck
MAX_PASS_SECONDS = 0.25  # the fixed cost of a pass is negligible beside that
MAX_BATCH = 1024  # images a batch
MAX_BATCH_CPU = 256


def fastest_batch_size(
    seconds: Callable[[Tensor], float], model: Callable, x: Tensor, precision: str
) -> int:
    """The smallest power of two within 3 % of the best throughput, remembered per machine.

    seconds: times a batch, with all that is done for each;  x (1, C, H, W): an image on the
    model's device.
    Remembered, because a batch of another size may differ in the last bits, and the same study on
    the same machine must give the same bytes.
    """
    if not isinstance(model, torch.nn.Module):  # nothing to know it by
        return _measure_batch_size(seconds, x)
    path, known, key = _batch_sizes(model, x, precision)
    if path is not None:
        sweep(path.parent)
    if key not in known:
        with contextlib.ExitStack() as stack:
            if path is not None:  # a stage beside this one would find another size meanwhile
                with contextlib.suppress(OSError):
                    stack.enter_context(alone(path.parent))
            known = _batch_sizes(model, x, precision)[1]
            size = known.get(key) or _measure_batch_size(seconds, x)
            known = _batch_sizes(model, x, precision)[1] | {key: size}  # others have measured
            try:
                if path is not None:
                    write_text(path, json.dumps(known, indent=1, sort_keys=True))
            except OSError as error:
                _do_without_cache(f"{path.parent} cannot be written ({error.strerror})")
    return known[key]


def remembered_batch_size(model: torch.nn.Module, x: Tensor, precision: str) -> int | None:
    """The result of ``fastest_batch_size`` on this machine, None before its first call."""
    _, known, key = _batch_sizes(model, x, precision)
    return known.get(key)


def _batch_sizes(
    model: torch.nn.Module, x: Tensor, precision: str
) -> tuple[Path | None, dict, str]:
    """The file of what is remembered, what it holds, and this model's key there."""
    folder = _cache_folder()
    path = folder and folder / "fastest_batch.json"
    name = (
        torch.cuda.get_device_name(x.device)
        if x.device.type == "cuda"
        else f"{torch.cpu.get_capabilities().get('cpu_name', 'cpu')} x{torch.get_num_threads()}"
    )
    architecture = hashlib.sha256(str(model).encode()).hexdigest()[:12]
    size = "x".join(map(str, x.shape[1:]))
    key = f"{name} {torch.__version__} {architecture} {size} {precision}"
    known = {}
    try:
        known = as_object(path.read_text()) if path else {}
    except OSError:
        pass  # not there yet, or not to be read
    except (ValueError, RecursionError) as error:
        warnings.warn(
            f"{path} holds no batch sizes ({error}): they are measured again",
            RuntimeWarning,
            stacklevel=2,
        )
    return path, {k: n for k, n in known.items() if type(n) is int and 0 < n <= MAX_BATCH}, key


def _cache_folder() -> Path | None:
    """The folder of measured batch sizes; None for a user without a home."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "iaside"
    try:
        return Path.home() / ".cache" / "iaside"
    except RuntimeError:  # no HOME, and no entry in the list of users
        _do_without_cache("there is no home folder")
        return None


@functools.cache  # once
def _do_without_cache(why: str) -> None:
    warnings.warn(
        f"batch sizes are not remembered: {why}; set XDG_CACHE_HOME to a folder to write to, or "
        "give batch_size=",
        RuntimeWarning,
        stacklevel=2,
    )


def _measure_batch_size(seconds: Callable[[Tensor], float], x: Tensor, rounds: int = 2) -> int:
    """Double the batch until it has stopped to pay, then compare the best ones in turn."""

    def per_image(size: int) -> float:
        passes: list[float] = []
        while len(passes) < 5 and sum(passes) < TRIAL_SECONDS:
            passes.append(seconds(x.expand(size, *x.shape[1:])))
        return min(passes) / size  # what else the machine does only makes a pass longer

    times: dict[int, float] = {}  # batch size -> shortest seconds per image
    best, idle, size = float("inf"), 0, 1
    while idle < 2 and size <= (MAX_BATCH_CPU if x.device.type == "cpu" else MAX_BATCH):
        try:
            seconds(x.expand(size, *x.shape[1:]))  # the first pass also allocates and compiles
            times[size] = per_image(size)
        except torch.OutOfMemoryError:
            break
        idle = idle + 1 if times[size] > 0.97 * best else 0
        best = min(best, times[size])
        if size * times[size] > MAX_PASS_SECONDS:
            break
        size *= 2
    near = [s for s, t in times.items() if t <= 1.2 * best]
    for _ in range(rounds):
        for s in near:
            times[s] = min(times[s], per_image(s))
    return min(s for s in near if times[s] <= 1.03 * min(times.values()))
