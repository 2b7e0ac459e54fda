"""What the pages of reports share: how they open, speak, mark zero, and save what they found."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from iaside import plots
from iaside.estimate.clean import clean_line
from iaside.estimate.estimate import Estimate
from iaside.explanation import Explanation
from iaside.study.notebook import enter_project, save_json
from iaside.study.pages.alt import describe_figures
from iaside.tables import Responses, Worths, check_same_pictures, without_gradient
from iaside.verdicts.rules import as_document
from iaside.verdicts.shown import verdict_table


def open_page(name: str, space: dict) -> Path:
    """`enter_project`, with the style of figures and tables, figures described; returns the root.

    Warnings of too few photographs are silent: each stands on the page as a number without limits.
    """
    root = enter_project(name, space)
    plots.use_style()
    describe_figures()
    pd.set_option("display.max_colwidth", None)
    warnings.simplefilter("ignore", RuntimeWarning)
    return root


def listed(words: Sequence[object]) -> str:
    """Words as in a sentence.

    >>> listed("abc"), listed([8]), listed([])
    ('a, b and c', '8', '')
    """
    words = [str(word) for word in words]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def span(numbers: Iterable[float], spec: str = "") -> str:
    """The smallest to the largest number, once where they read alike.

    >>> span([3, 1, 2]), span([0.121, 0.119], ".0%")
    ('1 to 3', '12%')
    """
    numbers = list(numbers)
    return " to ".join(dict.fromkeys(f"{x:{spec}}" for x in (min(numbers), max(numbers))))


def decided(e: Estimate, above: str, below: str, neither: str) -> str:
    """What the limits of an estimate say of its sign, in the words given.

    >>> one = Estimate(0.25, 0.1, 0.0625, 0.5, 24, "photographs")
    >>> decided(one, "more", "less", "cannot be told")
    'more'
    """
    return above if e.low > 0 else below if e.high < 0 else neither


def clear_words(found: Mapping[str, Estimate], what: str, spec: str) -> str:
    """How many estimates have limits that exclude 0, and these.

    >>> one = Estimate(0.25, 0.1, 0.0625, 0.5, 24, "photographs")
    >>> clear_words({"a": one, "b": one - 0.25}, "gains", "+.2f")
    '1 of 2 gains has limits that exclude 0: a, +0.25 [+0.06, +0.50], n = 24 photographs'
    """
    clear = [f"{name}, {e:{spec}}" for name, e in found.items() if e.low > 0 or e.high < 0]
    counts = f"{len(clear)} of {len(found)} {what} {'has' if len(clear) == 1 else 'have'}"
    return f"{counts} limits that exclude 0" + (f": {'; '.join(clear)}" if clear else "")


def columns(name: str, e: Estimate, unit: float = 1.0) -> dict:
    """An estimate and its limits as columns that `plots` reads, divided by a unit.

    >>> columns("sid", Estimate(0.25, 0.1, 0.0625, 0.5, 24, "photographs"), unit=0.5)
    {'sid': 0.5, 'sid_low': 0.125, 'sid_high': 1.0}
    """
    return {name: e.value / unit, f"{name}_low": e.low / unit, f"{name}_high": e.high / unit}


def mark(axes, *, x: float | None = None, y: float | None = None, style: str = "-") -> None:
    """A thin black line through one axis or each of several, at a value of x or of y."""
    for axis in getattr(axes, "flat", [axes]):
        draw, at = (axis.axhline, y) if x is None else (axis.axvline, x)
        draw(at, color="black", linewidth=0.8, linestyle=style)


def load_networks(models: Iterable[str], beta: float) -> tuple[dict, dict]:
    """What was measured of each network: its `Explanation` and its `Responses`, by name.

    Errors: ValueError where the two tables are not of the same photographs.
    """
    explained, answers = {}, {}
    for m in models:
        worths = Worths.load(f"results/worths/tables/{m}-trained.npz")
        explained[m] = Explanation(worths, beta=beta, bias="none")
        answers[m] = Responses.load(f"results/robustness/tables/{m}.npz")
        check_same_pictures(worths.provenance, answers[m].provenance)
    return explained, answers


def print_clean(tables: Mapping[str, object]) -> None:
    """How each network answers on the clean photographs, of tables or of their provenances."""
    for m, table in tables.items():
        if line := clean_line(getattr(table, "provenance", table)):
            print(f"{m}: {line}")


def print_unattacked(answers: Mapping[str, Responses]) -> None:
    """Which attacks had no usable gradient, network by network: left out, not robust."""
    for m, r in answers.items():
        for line in without_gradient(r):
            print(f"{m}: {line}")


def save_report(noun: str, records: Sequence[dict], metrics: Mapping) -> pd.DataFrame:
    """Write results/<noun>/claims.json and metrics.json; returns the table of the verdicts."""
    save_json(f"results/{noun}/claims.json", as_document(noun, records))
    save_json(f"results/{noun}/metrics.json", metrics)
    return verdict_table(records)
