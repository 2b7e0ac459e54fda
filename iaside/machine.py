"""The machine: where a model runs, in which arithmetic, how many images at a time; and what a
measurement is of: content hashes of models and images.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from iaside.files import as_object, sweep, write_text

SPAN = 0.1  # seconds in which a size is tried up to five times: one short pass is luck
LONG = 0.25  # seconds a pass: what a pass costs besides its images is nothing beside that
LARGEST = 1024  # images a batch


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is the accelerator where there is one, else the CPU.

    Errors: RuntimeError from torch for a name it does not know.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name != "auto":
        return torch.device(name)
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def device_of(model: object, device: str | torch.device | None) -> torch.device:
    """Where the model's parameters are, unless a device is named (which must be the same)."""
    at = next(iter(model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    if device is None:
        return at.device if at is not None else torch.device("cpu")
    device = torch.device(device)
    if at is not None and at.device.type != device.type:
        raise ValueError(f"the model is on {at.device}, not on {device}; use model.to('{device}')")
    return device


def channels_last(x: Tensor) -> Tensor:
    """The same images, stored pixel by pixel: the layout in which convolutions are fastest.

    >>> channels_last(torch.rand(2, 3, 4, 4)).stride()
    (48, 1, 12, 3)
    """
    return x.contiguous(memory_format=torch.channels_last)


def check_precision(precision: str) -> None:
    """Refuse what is neither ``float32`` nor ``bfloat16``.

    Errors: ValueError. There is no ``auto``: a number must not depend on what a processor can do.

    >>> check_precision("float32")
    """
    if precision in ("float32", "bfloat16"):
        return
    if precision == "auto":
        raise ValueError(
            "precision='auto' is gone, as numbers must not depend on what a processor can do; "
            "leave it out for float32, or name bfloat16"
        )
    raise ValueError(f"precision={precision!r} is not known; choose float32 or bfloat16")


@contextlib.contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 (autocast) or in true float32: no TF32 in its place on a GPU."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep the memory that a pass frees, inside, for the next one, instead of mapping it anew.

    That takes a fifth off a pass on a CPU. It is a setting of the whole process, made where the C
    library is glibc and has not been told how to deal with memory (GLIBC_TUNABLES, as the runner
    tells its kernels). At the end what is kept is given back.

    >>> with kept_memory():
    ...     torch.rand(2).shape
    torch.Size([2])
    """
    told = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    library = None if told or sys.platform != "linux" else ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    trim, map_from, map_most = -1, -3, -4  # numbers of the options in malloc.h
    library.mallopt(map_most, 0)
    library.mallopt(trim, 2**31 - 1)
    try:
        yield
    finally:  # where glibc gets by itself in a program that frees large blocks
        library.mallopt(map_most, 65536)
        library.mallopt(map_from, 32 * 2**20)
        library.mallopt(trim, 64 * 2**20)
        library.malloc_trim(0)


def fastest_batch_size(
    seconds: Callable[[Tensor], float], model: Callable, x: Tensor, precision: str
) -> int:
    """The smallest power of two within 3 % of the best throughput, remembered per machine.

    seconds: times a batch, with all that is done for each;  x (1, C, H, W): an image on the
    model's device. Remembered, because a batch of another size may differ in the last bits, and
    the same study on the same machine must give the same bytes.
    """
    if not isinstance(model, torch.nn.Module):  # nothing to know it by
        return _measure_batch_size(seconds, x)
    path, known, key = _batch_sizes(model, x, precision)
    sweep(path.parent)
    if key not in known:
        size = _measure_batch_size(seconds, x)
        known = _batch_sizes(model, x, precision)[1] | {key: size}  # others have measured meanwhile
        with contextlib.suppress(OSError):  # a read-only home only means measuring again
            write_text(path, json.dumps(known, indent=1, sort_keys=True))
    return known[key]


def remembered_batch_size(model: torch.nn.Module, x: Tensor, precision: str) -> int | None:
    """What ``fastest_batch_size`` has found on this machine, None where it has not been asked."""
    _, known, key = _batch_sizes(model, x, precision)
    return known.get(key)


def _batch_sizes(model: torch.nn.Module, x: Tensor, precision: str) -> tuple[Path, dict, str]:
    """The file of what is remembered, what it holds, and this model's key there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home / "iaside" / "fastest_batch.json"
    name = (
        torch.cuda.get_device_name(x.device) if x.device.type == "cuda"
        else f"{torch.cpu.get_capabilities().get('cpu_name', 'cpu')} x{torch.get_num_threads()}"
    )
    architecture = hashlib.sha256(str(model).encode()).hexdigest()[:12]
    size = "x".join(map(str, x.shape[1:]))
    key = f"{name} {torch.__version__} {architecture} {size} {precision}"
    known = {}
    try:
        known = as_object(path.read_text())
    except OSError:
        pass  # not there yet, or not to be read
    except (ValueError, RecursionError) as error:
        warnings.warn(
            f"{path} holds no batch sizes ({error}): they are measured again", RuntimeWarning,
            stacklevel=2,
        )
    return path, {k: n for k, n in known.items() if type(n) is int and 0 < n <= LARGEST}, key


def _measure_batch_size(seconds: Callable[[Tensor], float], x: Tensor, rounds: int = 2) -> int:
    """Double the batch until it has stopped to pay, then compare the best ones in turn."""

    def per_image(size: int) -> float:
        passes: list[float] = []
        while len(passes) < 5 and sum(passes) < SPAN:
            passes.append(seconds(x.expand(size, *x.shape[1:])))
        return min(passes) / size  # what else the machine does only makes a pass longer

    times: dict[int, float] = {}  # batch size -> shortest seconds per image
    best, idle, size = float("inf"), 0, 1
    while idle < 2 and size <= (256 if x.device.type == "cpu" else LARGEST):
        try:
            seconds(x.expand(size, *x.shape[1:]))  # the first pass also allocates and compiles
            times[size] = per_image(size)
        except torch.OutOfMemoryError:
            break
        idle = idle + 1 if times[size] > 0.97 * best else 0
        best = min(best, times[size])
        if size * times[size] > LONG:
            break
        size *= 2
    near = [s for s, t in times.items() if t <= 1.2 * best]
    for _ in range(rounds):
        for s in near:
            times[s] = min(times[s], per_image(s))
    return min(s for s in near if times[s] <= 1.03 * min(times.values()))


# -- what a measurement was made of ----------------------------------------------------------------


def fingerprint(tensor: Tensor) -> str:
    """Content hash of a tensor: shape, dtype and bytes.

    >>> fingerprint(torch.zeros(3)) == fingerprint(torch.zeros(3))
    True
    """
    data = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(data.shape)} {data.dtype}".encode())
    digest.update(data.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def look(images: Tensor) -> str:
    """What pictures look like from afar, whatever a network's recipe made of them.

    The grey of a 4 x 4 grid of each, as bytes in hexadecimal (32 digits a picture), for
    ``tables.check_same_pictures``: crops for two networks have different fingerprints.

    Shapes: images (N, C, H, W) in [0, 1].

    >>> look(torch.ones(1, 3, 8, 8))
    'ffffffffffffffffffffffffffffffff'
    """
    grids = [
        torch.nn.functional.adaptive_avg_pool2d(piece.detach().cpu().float().mean(1), 4)
        for piece in images.split(256)
    ]  # in pieces: no copy of a large set
    return (torch.cat(grids) * 255).round().clamp(0, 255).to(torch.uint8).numpy().tobytes().hex()


def fingerprint_model(model: Callable, outputs: Tensor) -> str:
    """Content hash of a model: its outputs for an image and, of a module, structure and weights."""
    digest = hashlib.sha256(fingerprint(outputs).encode())
    if not isinstance(model, torch.nn.Module):
        return digest.hexdigest()[:16]
    digest.update(str(model).encode())
    # Not the state dict: it leaves out buffers such as a normalisation's mean.
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(f"{name} {fingerprint(tensor)}".encode())
    return digest.hexdigest()[:16]
