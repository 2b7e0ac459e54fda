"""The result type: a value with its standard error, interval, and number of units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.content import alike


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value, its standard error, its limits, and how many of what were drawn.

    Shapes: value, se, low, high are floats or arrays of one shape; n and unit are the same for all
    of them. unit: what was drawn, hence what the limits allow for (``photographs``, ``signals``,
    ``trainings``, ``initialisations``, ``networks``). NaN limits: none can be given. It iterates as
    (value, se, low, high), and `estimate` is another name of `value`.

    >>> print(Estimate(0.25, 0.1, 0.0625, 0.5, 24, "photographs"))
    0.25 [0.06, 0.50], n = 24 photographs
    >>> f"{Estimate(0.25, np.nan, np.nan, np.nan, 2, 'trainings'):.1f}"
    '0.2 (no interval), n = 2 trainings'
    """

    value: float | np.ndarray
    se: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    n: int
    unit: str

    @classmethod
    def exact(cls, value: ArrayLike, n: int, unit: str) -> Estimate:
        """An estimate without error: its limits are the value itself."""
        value = np.asarray(value, dtype=float)[()]
        return cls(value, 0.0 * value, value, value, n, unit)

    @classmethod
    def unsure(cls, value: ArrayLike, n: int, unit: str, se: ArrayLike = np.nan) -> Estimate:
        """A value without limits: too few were drawn to give any."""
        value = np.asarray(value, dtype=float)[()]
        none = np.full(np.shape(value), np.nan)[()]
        return cls(value, np.broadcast_to(se, np.shape(value))[()], none, none, n, unit)

    @property
    def estimate(self) -> float | np.ndarray:
        return self.value

    def __iter__(self) -> Iterator:
        return iter((self.value, self.se, self.low, self.high))

    def __getitem__(self, index) -> Estimate:
        return replace(self, **{name: part[index] for name, part in self._numbers().items()})

    def __neg__(self) -> Estimate:
        return replace(self, value=-self.value, low=-self.high, high=-self.low)

    def __add__(self, other: float) -> Estimate:
        _one_number(other)
        moved = {name: getattr(self, name) + other for name in ("value", "low", "high")}
        return replace(self, **moved)

    def __sub__(self, other: float) -> Estimate:
        return self + -other

    def __mul__(self, factor: float) -> Estimate:
        _one_number(factor)
        ends = (self.low * factor, self.high * factor)
        low, high = ends if factor >= 0 else ends[::-1]
        se = self.se * abs(factor)
        return replace(self, value=self.value * factor, se=se, low=low, high=high)

    def __rsub__(self, other: float) -> Estimate:
        return -self + other

    def __truediv__(self, divisor: float) -> Estimate:
        return self * (1 / divisor)

    __rmul__, __radd__ = __mul__, __add__

    def within(self, lowest: ArrayLike, highest: ArrayLike) -> Estimate:
        """Clip the limits to the range of the quantity, which resampling does not know.

        >>> Estimate(0.9, 0.1, 0.7, 1.1, 24, "photographs").within(0, 1).high
        np.float64(1.0)
        """
        low, high = (np.clip(limit, lowest, highest) for limit in (self.low, self.high))
        return replace(self, low=low, high=high)

    def limits(self, spec: str = ".2f") -> str:
        """The value and its limits, without n: for tables that say it once.

        >>> Estimate(0.25, 0.1, 0.0625, 0.5, 24, "photographs").limits(".0%")
        '25% [6%, 50%]'
        """
        if np.ndim(self.value):
            each = zip(*(np.ravel(part) for part in self), strict=True)
            return ", ".join(Estimate(*one, self.n, self.unit).limits(spec) for one in each)
        if np.isnan(self.value):
            return "none"
        if np.isnan(self.low) or np.isnan(self.high):
            return f"{self.value:{spec}} (no interval)"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def as_dict(self) -> dict:
        """All fields by name, as JSON takes them.

        >>> Estimate(np.array([1.0, 2.0]), 0.0, 1.0, 2.0, 8, "bands").as_dict()["value"]
        [1.0, 2.0]
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.asarray(part).tolist() for name, part in named.items()}

    def __format__(self, spec: str) -> str:
        return f"{self.limits(spec or '.2f')}, n = {self.n:,} {self.unit}"

    def __str__(self) -> str:
        return format(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate):
            return NotImplemented
        return alike((*self, self.n, self.unit), (*other, other.n, other.unit))

    def __hash__(self) -> int:
        numbers = (np.asarray(part, dtype=float) + 0.0 for part in self)  # -0.0 equals 0.0
        return hash((*(np.where(np.isnan(x), np.nan, x).tobytes() for x in numbers), self.n))

    def _numbers(self) -> dict:
        return {name: np.asarray(getattr(self, name)) for name in ("value", "se", "low", "high")}


def _one_number(other: object) -> None:
    if isinstance(other, Estimate) or np.ndim(other):
        raise TypeError(
            "an estimate is moved or scaled by one number that is known; the difference of two "
            "estimates has limits of its own: use `intervals.paired_interval`"
        )
