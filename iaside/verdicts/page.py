"""The page of claims: what was tested, with which power, and the tables of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from iaside.verdicts.needs import unmet
from iaside.verdicts.rules import (
    CONTRADICTED,
    NOT_TESTED,
    RISK,
    SUPPORTED,
    UNDECIDED,
    count_verdicts,
    find,
    holm,
)
from iaside.verdicts.shown import data_of, is_exact, measured

COLOURS = {"supported": "#dbe9f6", "contradicted": "#fbe0cf", "undecided": "#eeeeee"}


def is_tested(row: Mapping) -> bool:
    """Whether a row of `rules.gather` has a verdict, be it *undecided*."""
    return not row["verdict"].startswith(NOT_TESTED)


def in_short(rows: Iterable[Mapping]) -> str:
    """A summary of the verdicts of a study in Markdown, first how many may be wrong.

    A verdict on a claim that lies exactly at its threshold is wrong in 5 % of studies, and on any
    other claim in fewer; a number without an error cannot be wrong, nor can *undecided* where the
    rules leave no choice, as there are no limits.
    Source: docs/methods.md, Verdicts (Holm over the page).

    >>> from iaside.estimate.estimate import Estimate
    >>> from iaside.verdicts.rules import as_document, decide, gather
    >>> one = decide("src_mce", lambda _: Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks"))
    >>> in_short(gather([as_document("correlation", [one])])).partition(" claims")[2][:21]
    ' this study tried 1: '
    """
    rows = list(rows)
    tried = [row for row in rows if is_tested(row)]
    counts, safe = count_verdicts(rows), holm(rows)
    exact, few = sum(map(is_exact, tried)), sum(row["low"] is None for row in tried)
    rest = len(tried) - exact - few
    against = [row for row in tried if row["verdict"] == CONTRADICTED]
    by_formula = [row for row in against if is_exact(row)]
    by_data = [row for row in against if not is_exact(row)]
    stand = [row for row in by_data if row["id"] in safe]
    lines = [
        f"of {len(rows)} claims this study tried {len(tried)}: "
        f"**{counts[SUPPORTED]}** are supported, **{len(against)}** contradicted, "
        f"**{counts[UNDECIDED]}** undecided; {counts[NOT_TESTED]} it could not test. Of the "
        f"{len(tried)}, {exact} rest on numbers without an error and {few} have too few of their "
        f"unit to decide; of the other {rest}, up to {RISK:.0%} are to be expected to be wrong "
        f"({RISK * rest:.1f}, if every claim lay exactly at its threshold). Of the "
        f"{len(against)} contradictions {len(by_formula)} are exact; of the {len(by_data)} "
        f"measured, **{len(stand)}** survive Holm's correction over the whole page."
    ]
    near = (
        "Close to the threshold (a limit lies within a tenth of its half-width of what it is "
        "compared with, so that another draw may turn the verdict; of several parts the limits "
        "that contradict hold for all of them together, and are wider than those of one)"
    )
    groups = {
        "Contradicted by exact numbers": by_formula,
        "Contradicted by measurement, also after Holm's correction": stand,
        "Contradicted, but not after it": [r for r in by_data if r["id"] not in safe],
        near: [r for r in tried if r["close"]],
    }
    for title, some in groups.items():
        if some:
            lines += [f"\n{title}:\n", *(f"* {_told(row)}" for row in some)]
    return "\n".join(lines)


def _told(row: Mapping) -> str:
    where = f", on {row['data']}" if row["data"] else ""
    numbers = f"{measured(row)}, claimed {row['claimed']}{where}"
    return f"{row['statement']} *{row['verdict']}*: {numbers}"


def table_of_tested(rows: Iterable[Mapping]) -> pd.DataFrame:
    """A line for each claim with a verdict: what was measured, on what, and what was claimed."""
    rows = list(rows)
    safe = holm(rows)
    lines = []
    for row in filter(is_tested, rows):
        notes = [row["note"]] if row["note"] else []
        if row["verdict"] == CONTRADICTED and row["id"] not in safe:
            notes.append("not after Holm's correction over the page")
        if row["verdict"] == UNDECIDED and (missing := _missing(row)):
            notes.append(missing)
        lines.append(
            {
                "verdict": row["verdict"],
                "claim": row["statement"],
                "measured": measured(row),
                "note": "; ".join(notes),
                "claimed": row["claimed"],
                "data": data_of(row),
                "claimed for": row["claimed_on"],
                "source": row["source"],
                "what was measured": row["statistic"],
            }
        )
    columns = [
        "verdict",
        "claim",
        "measured",
        "note",
        "claimed",
        "data",
        "claimed for",
        "source",
        "what was measured",
    ]
    return pd.DataFrame(lines, columns=columns)


def table_of_recorded(runs: Mapping[str, Mapping], rows: Iterable[Mapping]) -> pd.DataFrame:
    """A line for each claim that a recorded run has a verdict on, and the verdict of this study.

    runs: as `recorded.runs` returns them; rows: of this study.
    """
    here = {row["id"]: row["verdict"].partition(":")[0] for row in rows}
    lines = [
        {
            "run": name,
            "claim": row["statement"],
            "verdict": row["verdict"],
            "here": here[row["id"]],
            "measured": measured(row),
            "claimed": row["claimed"],
            "data": data_of(row),
        }
        for name, run in runs.items()
        for row in run["rows"]
    ]
    columns = ["run", "claim", "verdict", "here", "measured", "claimed", "data"]
    return pd.DataFrame(lines, columns=columns)


def table_of_untested(
    rows: Iterable[Mapping], studies: Mapping[str, Mapping] | None = None
) -> pd.DataFrame:
    """A line for each claim that this study could not test: what it needs, and what will bring it.

    *Until* is said of claims that no study of this project can decide yet, *cannot* of those that
    none will; of all others the studies that have what it takes.

    studies: name -> a parsed params.yaml.
    """
    studies = studies or {}
    lines = [
        {
            "claim": row["statement"],
            "claimed": row["claimed"],
            "needs": row["needs"],
            "for want of": _missing(row) or _deciding(row["id"], studies),
            "source": row["source"],
        }
        for row in rows
        if not is_tested(row)
    ]
    return pd.DataFrame(lines, columns=["claim", "claimed", "needs", "for want of", "source"])


def _missing(row: Mapping) -> str:
    """What no study has yet or ever, "" where some study in studies/ decides the claim."""
    return next((f"{word}: {row[word]}" for word in ("until", "cannot") if row[word]), "")


def _deciding(claim_id: str, studies: Mapping[str, Mapping]) -> str:
    able = [name for name, study in studies.items() if not unmet(find(claim_id), study)]
    return f"another study: {', '.join(able)}" if able else ""


def styled(frame: pd.DataFrame, name: str):
    """A table of claims as the page shows it: verdicts in colour, text at the top left."""
    verdicts = [column for column in ("verdict", "here") if column in frame]
    style = frame.style.set_uuid(name).hide(axis="index")
    ink = "; color: black"  # on dark pages, too
    style = style.map(
        lambda v: f"background-color: {COLOURS[v]}{ink}" if v in COLOURS else "", subset=verdicts
    )
    style = style.set_table_styles([{"selector": "th", "props": "text-align: left"}])
    return style.set_properties(
        **{"text-align": "left", "vertical-align": "top", "white-space": "normal"}
    )
