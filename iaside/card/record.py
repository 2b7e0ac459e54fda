"""What is on record, made from results/recorded: networks, which a score is put beside
(record.csv), and remedies that a study has shown to help (remedies.csv)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaside.backend.files import write_text

if TYPE_CHECKING:
    from iaside.card.card import Card

TABLE = Path(__file__).with_name("record.csv")
REMEDIES = Path(__file__).with_name("remedies.csv")
NETWORKS = ("run", "network", "side", "score")
HELPING = ("run", "claim", "side", "data", "n", "value", "low", "high")
N_BANDS = 8  # of the games on record


def rows(table: Path | None = None) -> list[dict]:
    """One row a network: run, network, side of its images (pixels), score (signed); or those of
    another table, all as text."""
    with (table or TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def put_on_record(run: str, networks: list[dict]) -> None:
    """Put the networks of a run (network, side, score) in the place of those it had before."""
    _put(TABLE, NETWORKS, run, networks)


def put_remedies(run: str, supported: list[dict]) -> None:
    """The same of the claims that a run supports, on what a remedy of ``ia.mend`` gains: claim,
    side of the images, data, and n trainings, value, low and high of what was measured."""
    _put(REMEDIES, HELPING, run, supported)


def helping(card: Card) -> list[dict]:
    """The remedies on record for networks of like image size."""
    return [row for row in rows(REMEDIES) if _alike(int(row["side"]), _side(card))]


def _put(table: Path, fields: Sequence[str], run: str, found: list[dict]) -> None:
    kept = [row for row in rows(table) if row["run"] != run]
    file = io.StringIO()
    written = csv.DictWriter(file, fields, lineterminator="\n")
    written.writeheader()
    written.writerows([*kept, *({"run": run} | row for row in found)])
    write_text(table, file.getvalue())


def _side(card: Card) -> int:
    return min(map(int, card.about["image size"].split("x")))


def placed(card: Card) -> str:
    """Among how many networks of its image size the score lies where; "" where none is alike."""
    score = card.explanation.src("signed")
    alike = [float(r["score"]) for r in rows() if _alike(int(r["side"]), _side(card))]
    if score is None or not alike or len(card.explanation.values) != N_BANDS:
        return ""
    below = sum(one < score.value for one in alike)
    return f"It lies above {below} of the {len(alike)} networks on record of that image size."


def _alike(recorded: int, side: int) -> bool:
    """Image sizes that are one kind of task: a band then holds like things."""
    return 0.5 < recorded / side < 2
