"""Numerical precision: float32 or bfloat16, independent of the settings of the caller."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import operator
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

F = TypeVar("F", bound=Callable)
_KINDS = ("cpu", "cuda", "xpu", "mps")  # of devices that autocast may be on for


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


class SharedContext:
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


_TRUE_FLOAT32, _PLAIN_TORCH = SharedContext(_true_float32), SharedContext(_plain_torch)


class Modes(NamedTuple):
    """Settings of a caller that its model may depend on."""

    dtype: torch.dtype
    device: torch.device
    inference: bool


_outside: contextvars.ContextVar[Modes | None] = contextvars.ContextVar("outside", default=None)


@contextlib.contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 (autocast) or in true float32, whatever the process has been set to."""
    with (
        _TRUE_FLOAT32,
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        yield


def undisturbed(function: F) -> F:
    """A function whose numbers do not depend on the settings of its caller.

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
    modes = Modes(
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


def caller() -> Modes | None:
    """The settings of the caller of ``undisturbed``, for ``as_caller``; None outside of it."""
    return _outside.get()


@contextlib.contextmanager
def as_caller(modes: Modes) -> Iterator[None]:
    """In another process: the settings that the caller had in the first one."""
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(modes.dtype)
        if modes.device.type != "cpu":
            stack.enter_context(modes.device)
        if modes.inference:
            stack.enter_context(torch.inference_mode())
        yield
