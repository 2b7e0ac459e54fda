"""When two results are the same object to a program: one rule for everything that holds arrays.

What can be unpacked (`NamedTuple`: an interval, a comparison) is equal by content, as tuples are,
with `by_content`. What holds tables and provenance (`dataclass(eq=False)`: worths, responses, an
explanation) is equal to itself alone. Either can be put into sets and found in lists.
"""

from __future__ import annotations

import numpy as np


def by_content(kind: type) -> type:
    """Decorate a NamedTuple that may hold arrays or tensors: equal, and hashed, by its content.

    nan is equal to nan, so that a result equals the copy that another process sends back.

    >>> from typing import NamedTuple
    >>> @by_content
    ... class Pair(NamedTuple):
    ...     a: np.ndarray
    ...     b: float
    >>> Pair(np.arange(2), np.nan) == Pair(np.arange(2), float("nan"))
    True
    >>> len({Pair(np.arange(2), 0.0), Pair(np.arange(2), -0.0), Pair(np.arange(3), 0.0)})
    2
    """

    def equal(self, other):
        return alike(self, other) if isinstance(other, tuple) else NotImplemented

    kind.__eq__, kind.__ne__ = equal, object.__ne__  # a tuple has one of its own
    kind.__hash__ = lambda self: hash(tuple(map(_hashable, self)))
    for name in ("__lt__", "__le__", "__gt__", "__ge__"):
        setattr(kind, name, _in_order(name))
    return kind


def _in_order(name: str):
    """A tuple's own comparison, which says so where arrays have none."""

    def compare(self, other):
        try:
            return getattr(tuple, name)(self, other)
        except (ValueError, RuntimeError) as error:  # NumPy's and torch's
            raise TypeError(
                f"{type(self).__name__} holds arrays, which have no order; compare entries of them"
            ) from error

    return compare


def alike(a: object, b: object) -> bool:
    """Whether two values are equal, arrays by shape and content, nan equal to nan.

    >>> alike((1, np.array([np.nan])), (1, np.array([np.nan]))), alike(np.zeros(2), np.zeros(1))
    (True, False)
    """
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    a, b = _array(a), _array(b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        both = a.dtype.kind in "fc" and b.dtype.kind in "fc"
        return np.array_equal(a, b, equal_nan=both)
    return a is b or (not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray) and a == b)


def _array(value: object) -> object:
    """Numbers, arrays and tensors as an array; anything else as it is."""
    if hasattr(value, "detach"):  # a tensor, without importing torch
        value = value.detach().cpu().double().numpy()
    return np.asarray(value) if isinstance(value, float | int | np.generic) else value


def _hashable(value: object) -> object:
    """A hashable stand-in, equal for values that are alike."""
    value = _array(value)
    if not isinstance(value, np.ndarray):
        return value
    numbers = ["nan" if v != v else v for v in value.ravel().tolist()]
    return (value.shape, *numbers) if value.ndim else numbers[0]  # one number as in a plain tuple
