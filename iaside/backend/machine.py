"""The machine: where a model runs, in which arithmetic, how many images at a time; and what a
measurement is of: content hashes of models and images.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import hashlib
import json
import operator
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from iaside.backend.files import alone, as_object, sweep, write_text

F = TypeVar("F", bound=Callable)
SPAN = 0.1  # seconds in which a size is tried up to five times: one short pass is luck
LONG = 0.25  # seconds a pass: what a pass costs besides its images is nothing beside that
LARGEST = 1024  # images a batch
MOST_ON_CPU = 256  # there
_KINDS = ("cpu", "cuda", "xpu", "mps")  # of devices that autocast may be on for


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is the accelerator where there is one, else the CPU.

    Errors: ValueError for a device that is not here, or that keeps no numbers.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        if isinstance(name, str | torch.device) and torch.zeros(1, device=name).item() == 0:
            return torch.device(name)
        why = "it must be a name"
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has all of these
        why = str(error).partition("\n")[0].rstrip(".")
    raise ValueError(
        f"device={name!r} is not here ({why}): choose auto, cpu, or the accelerator of this machine"
    )


def device_of(model: object, device: str | torch.device | None) -> torch.device:
    """Where the model's parameters are, unless a device is named (which must be the same)."""
    at = next(iter(model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    if device is None:
        return at.device if at is not None else torch.device("cpu")
    device = pick_device(device)
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


# -- what a caller has set for a thread or the whole process ---------------------------------------

_SWITCHES = (  # of how float32 is computed, those that others inherit from first
    "backends",
    "backends.cudnn",
    "backends.cuda.matmul",
    "backends.cudnn.conv",
    "backends.cudnn.rnn",
    "backends.mkldnn.matmul",
    "backends.mkldnn.conv",
    "backends.mkldnn.rnn",
)


class Held:
    """Settings of the whole process, made by the first thread that wants them and put back by the
    last: what one thread puts back must not be what another still needs."""

    def __init__(self, make: Callable[[contextlib.ExitStack], None]) -> None:
        self.make, self.lock, self.holders = make, threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if self.holders == 0:
                with contextlib.ExitStack() as undo:
                    self.make(undo)
                    self.undo = undo.pop_all()
            self.holders += 1

    def __exit__(self, *_) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                self.undo.close()


def _true_float32(undo: contextlib.ExitStack) -> None:
    """No TF32 or bfloat16 in the place of float32, on a GPU or a CPU.

    A switch that inherits is set through its parent, or it would be none that inherits afterwards.
    The older names of these switches are left alone: torch refuses whoever mixes the two.
    """
    places = [operator.attrgetter(name)(torch) for name in _SWITCHES]
    undo.callback(_unpin, [(place, place.fp32_precision) for place in places])
    for place in places:
        if (before := place.fp32_precision) != "ieee":
            undo.callback(setattr, place, "fp32_precision", before)
            place.fp32_precision = "ieee"


def _unpin(found: list[tuple[object, str]]) -> None:
    """Let switches inherit again that have been set to what they had inherited.

    torch.compile does so to a switch when it compiles, which was none that we had set.
    """
    for place, before in found:
        if place.fp32_precision != before:
            place.fp32_precision = "none"
        if place.fp32_precision != before:
            place.fp32_precision = before


def _plain_torch(undo: contextlib.ExitStack) -> None:
    """Numbers without a dtype are float32, and a gradient may be nan without torch's complaint."""
    undo.callback(torch.set_default_dtype, torch.get_default_dtype())
    undo.callback(
        torch.autograd.set_detect_anomaly,
        torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(),
    )
    torch.set_default_dtype(torch.float32)
    torch.autograd.set_detect_anomaly(False)


_TRUE_FLOAT32, _PLAIN_TORCH = Held(_true_float32), Held(_plain_torch)


class _Modes(NamedTuple):
    """Of a caller, what its model may rest on."""

    dtype: torch.dtype
    device: torch.device
    inference: bool


_outside: contextvars.ContextVar[_Modes | None] = contextvars.ContextVar("outside", default=None)


@contextlib.contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 (autocast) or in true float32, whatever the process has been set to."""
    with (
        _TRUE_FLOAT32,
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        yield


def undisturbed(function: F) -> F:
    """A function whose numbers do not depend on what its caller has set.

    Inside there is no autocast, inference mode, anomaly mode, other default device or dtype, no
    TF32 or bfloat16 in the place of float32, and NumPy raises no floating-point errors. Tensors
    made in inference mode are copied, as they take part in no gradient. All of it is as it was
    afterwards; the model is asked as its caller would (``as_outside``).

    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     undisturbed(torch.mm)(torch.eye(2), torch.eye(2)).dtype
    torch.float32
    """

    @functools.wraps(function)
    def inside(*args, **kwargs):
        if _outside.get() is not None:
            return function(*args, **kwargs)
        with _on_our_own():
            return function(*map(_ordinary, args), **{k: _ordinary(v) for k, v in kwargs.items()})

    return cast(F, inside)


@contextlib.contextmanager
def _on_our_own() -> Iterator[None]:
    modes = _Modes(
        torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled()
    )
    token = _outside.set(modes)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
            )
            stack.enter_context(_TRUE_FLOAT32)
            stack.enter_context(_PLAIN_TORCH)
            if modes.device.type != "cpu":
                stack.enter_context(torch.device("cpu"))
            for kind in _KINDS:
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            if modes.inference:  # leaving it switches gradients on
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
            yield
    finally:
        _outside.reset(token)


def as_outside(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A model asked as the caller of ``undisturbed`` would: with its default dtype and device, and
    in inference mode where it was in that and no gradient is wanted."""

    def ask(x: Tensor) -> Tensor:
        with _back_outside():
            return model(x)

    return ask


@contextlib.contextmanager
def _back_outside() -> Iterator[None]:
    modes = _outside.get()
    if modes is None:
        yield
        return
    token = _outside.set(None)  # what of this package a model uses is on its own again
    try:
        with contextlib.ExitStack() as stack:
            # What it leaves set is not ours to go on with.
            stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))
            stack.callback(torch.set_default_dtype, torch.float32)
            torch.set_default_dtype(modes.dtype)
            if modes.device.type != "cpu":
                stack.enter_context(modes.device)
            if modes.inference and not torch.is_grad_enabled():
                stack.enter_context(torch.inference_mode())
            yield
    finally:
        _outside.reset(token)


def _ordinary(value: object) -> object:
    """A tensor made in inference mode as one that was not."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def caller() -> _Modes | None:
    """What the caller of ``undisturbed`` has set, for ``as_caller``; None outside of it."""
    return _outside.get()


@contextlib.contextmanager
def as_caller(modes: _Modes) -> Iterator[None]:
    """In another process: what the caller had set in this one, to which the model is used."""
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(modes.dtype)
        if modes.device.type != "cpu":
            stack.enter_context(modes.device)
        if modes.inference:
            stack.enter_context(torch.inference_mode())
        yield


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
    seconds: Callable[[Tensor], float], model: Callable, x: Tensor, precision: str, least: int = 1
) -> int:
    """The smallest power of two within 3 % of the best throughput, remembered per machine.

    seconds: times a batch, with all that is done for each;  x (1, C, H, W): an image on the
    model's device;  least: how many images take as long as one, of which sizes are multiples then.
    Remembered, because a batch of another size may differ in the last bits, and the same study on
    the same machine must give the same bytes.
    """
    least = min(least, MOST_ON_CPU)
    if not isinstance(model, torch.nn.Module):  # nothing to know it by
        return _measure_batch_size(seconds, x, least)
    path, known, key = _batch_sizes(model, x, precision)
    if path is not None:
        sweep(path.parent)
    if known.get(key, 0) < least:
        with contextlib.ExitStack() as stack:
            if path is not None:  # a stage beside this one would find another size meanwhile
                with contextlib.suppress(OSError):
                    stack.enter_context(alone(path.parent))
            known = _batch_sizes(model, x, precision)[1]
            size = known.get(key, 0)
            size = size if size >= least else _measure_batch_size(seconds, x, least)
            known = _batch_sizes(model, x, precision)[1] | {key: size}  # others have measured
            try:
                if path is not None:
                    write_text(path, json.dumps(known, indent=1, sort_keys=True))
            except OSError as error:
                _do_without_cache(f"{path.parent} cannot be written ({error.strerror})")
    return known[key]


def remembered_batch_size(model: torch.nn.Module, x: Tensor, precision: str) -> int | None:
    """What ``fastest_batch_size`` has found on this machine, None where it has not been asked."""
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
    return path, {k: n for k, n in known.items() if type(n) is int and 0 < n <= LARGEST}, key


def _cache_folder() -> Path | None:
    """Where this machine remembers what it has measured; None for a user without a home."""
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


def _measure_batch_size(
    seconds: Callable[[Tensor], float], x: Tensor, least: int = 1, rounds: int = 2
) -> int:
    """Double the batch until it has stopped to pay, then compare the best ones in turn."""

    def per_image(size: int) -> float:
        passes: list[float] = []
        while len(passes) < 5 and sum(passes) < SPAN:
            passes.append(seconds(x.expand(size, *x.shape[1:])))
        return min(passes) / size  # what else the machine does only makes a pass longer

    times: dict[int, float] = {}  # batch size -> shortest seconds per image
    best, idle, size = float("inf"), 0, least
    while idle < 2 and size <= (MOST_ON_CPU if x.device.type == "cpu" else LARGEST):
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


# -- numbers at a limit ----------------------------------------------------------------------------

ROUNDED = 1e-5  # outside [0, 1]: as far as resizing takes pixels by rounding alone


def told_apart(value: float, limit: float, digits: int = 4) -> str:
    """A number in as few digits, from these on, as do not read like the limit that it has passed.

    >>> told_apart(255.0, 1), told_apart(1.00002, 1), told_apart(0.10002, 0.1, digits=3)
    ('255', '1.00002', '0.10002')
    """
    texts = (f"{value:.{d}g}" for d in range(digits, 17))
    return next((t for t in texts if t != f"{limit:.{digits}g}"), f"{value:.{digits}g}")


def not_finite(x: Tensor) -> list[int]:
    """Which entries of the first dimension hold nan or infinity.

    >>> not_finite(torch.tensor([[0.0, 1.0], [torch.nan, 1.0]]))
    [1]
    """
    return (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()


# -- what a measurement was made of ----------------------------------------------------------------


def fingerprint(tensor: Tensor) -> str:
    """Content hash of a tensor, or of photographs as one: shape, dtype and bytes.

    >>> fingerprint(torch.zeros(3)) == fingerprint(torch.zeros(3))
    True
    """
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    for part in [tensor] if isinstance(tensor, Tensor) else tensor.split(16):
        data = part.detach().cpu().contiguous()
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
    grids, done = torch.empty(len(images), 4, 4), 0  # a list of small ones would scatter memory
    for piece in images.split(16):  # in pieces: no copy of a large set
        grey = piece.detach().cpu().float().mean(1)
        grids[done : done + len(piece)] = torch.nn.functional.adaptive_avg_pool2d(grey, 4)
        done += len(piece)
    return (grids * 255).round().clamp(0, 255).to(torch.uint8).numpy().tobytes().hex()


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
