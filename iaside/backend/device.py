"""Devices: where a model runs, a worker's own accelerator, the fastest layout of images."""

from __future__ import annotations

import torch
from torch import Tensor

_number: object = None  # of this worker; None where nothing was sent to anybody


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
    """The device of the model's parameters; a device that is named must be the same."""
    at = next(iter(model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    if device is None:
        return at.device if at is not None else torch.device("cpu")
    device = pick_device(device)
    if at is not None and at.device.type != device.type:
        raise ValueError(f"the model is on {at.device}, not on {device}; use model.to('{device}')")
    return device


def channels_last(x: Tensor) -> Tensor:
    """The images in channels-last layout, in which convolutions are fastest.

    >>> channels_last(torch.rand(2, 3, 4, 4)).stride()
    (48, 1, 12, 3)
    """
    return x.contiguous(memory_format=torch.channels_last)


def become_worker(number: object) -> None:
    """Let this process be the worker of that number, which says what device is its own."""
    global _number
    _number = number


def own_device(device: str | torch.device) -> torch.device:
    """The device of that kind on which this process computes: worker 0 of a machine has cuda:0,
    worker 1 cuda:1, and round again; who is no worker has the one that is named.

    Errors: RuntimeError for a kind that the worker's machine has not.

    >>> own_device("cpu")
    device(type='cpu')
    """
    device = torch.device(device)
    if _number is None or device.type == "cpu":
        return device
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is None or there.type != device.type:
        raise RuntimeError(
            f"the model was on {device.type} where this was started, and the worker {_number!r} "
            "has no such device; start both on machines of one kind, or set `device` under "
            "`runtime:`"
        )
    number = int(_number) if str(_number).isdigit() else 0
    return torch.device(device.type, number % torch.accelerator.device_count())
