"""Checks of options and numbers, and the wording of their errors."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor

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


def is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


ALLOWED = {  # option -> (what is allowed, in words and as a test)
    "seed": ("an integer from 0", lambda v: is_number(Integral, v) and v >= 0),
    "first": ("an integer from 0", lambda v: is_number(Integral, v) and v >= 0),
    "norm": ("a number from 0", lambda v: is_number(Real, v) and v >= 0),
    "sigma": ("a number from 0", lambda v: is_number(Real, v) and v >= 0),
    "photons": ("a number above 0", lambda v: is_number(Real, v) and v > 0),
    "amount": ("a share of the pixels, from 0 to 1", lambda v: is_number(Real, v) and 0 <= v <= 1),
    "kernel": ("an odd integer", lambda v: is_number(Integral, v) and v > 0 and v % 2 == 1),
    "severity": ("1, 2, 3, 4 or 5", lambda v: is_number(Integral, v) and 1 <= v <= 5),
    "eps": (
        "from 0 to 1, as pixels are: 4/255, not 4",
        lambda v: is_number(Real, v) and 0 <= v <= 1,
    ),
    "steps": ("an integer from 1", lambda v: is_number(Integral, v) and v >= 1),
    "batch_size": ("an integer from 1", lambda v: is_number(Integral, v) and v >= 1),
    "energy": (
        "a number above 0, as a share of the image's",
        lambda v: is_number(Real, v) and v > 0,
    ),
}


def check_values(given: dict, allowed: dict = ALLOWED) -> None:
    """Refuse values that are not allowed, by their option: by default strengths and seeds.

    >>> check_values({"sigma": float("nan")})
    Traceback (most recent call last):
    ValueError: sigma=nan is not possible; it must be a number from 0
    """
    for option, (words, holds) in allowed.items():
        if option in given and not holds(given[option]):
            raise ValueError(f"{option}={given[option]!r} is not possible; it must be {words}")


def in_a_line(error: Exception) -> str:
    """The kind of an error and the line that says most.

    >>> in_a_line(OSError("disk full\\nand more"))
    'OSError: disk full'
    """
    text = str(error).strip()
    line = text.splitlines()[-1 if isinstance(error, torch.jit.Error) else 0] if text else ""
    return f"{type(error).__name__}: {line[:200]}"
