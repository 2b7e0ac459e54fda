"""Differences of two explanations, and the rows that bands are printed in."""

from __future__ import annotations

from typing import NamedTuple

from iaside.backend.content import by_content
from iaside.estimate.estimate import Estimate


@by_content
class Comparison(NamedTuple):
    """Paired differences, first minus second explanation, with intervals over the images."""

    psi: Estimate
    sid: Estimate | None
    score: Estimate | None

    def __str__(self) -> str:
        lines = [f"band     psi, first - second ({self.psi.n} {self.psi.unit})"]
        lines += [f"{i:4d} {row(self.psi[i], 7)}" for i in range(len(self.psi.value))]
        score = "not given by both" if self.score is None else self.score.limits(".3f")
        return "\n".join([*lines, f"SRC, first - second: {score}"])

    __repr__ = __str__


def row(one: Estimate, width: int) -> str:
    """A value and its limits in columns, the limits as wide as those of psi."""
    return f"{one.value:{width}.3f}  [{one.low:6.3f}, {one.high:6.3f}]"
