"""Cases of which the first stand for all in a quick run."""

from collections.abc import Iterable

import pytest


def few(cases: Iterable, quick: int = 2) -> list:
    """The first cases as they are, the others as a sweep."""
    cases = list(cases)
    rest = [pytest.param(*_values(case), marks=pytest.mark.sweep) for case in cases[quick:]]
    return cases[:quick] + rest


def _values(case) -> tuple:
    return case if isinstance(case, tuple) else (case,)
