"""The networks on record, which a score is put beside: record.csv, made from results/recorded."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from iaside.backend.files import write_text

if TYPE_CHECKING:
    from iaside.card.card import Card

TABLE = Path(__file__).with_name("record.csv")
N_BANDS = 8  # of the games on record


def rows() -> list[dict]:
    """One row a network: run, network, side of its images (pixels), score (signed)."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def put_on_record(run: str, networks: list[dict]) -> None:
    """Put the networks of a run (network, side, score) in the place of those it had before."""
    kept = [row for row in rows() if row["run"] != run]
    file = io.StringIO()
    table = csv.DictWriter(file, ["run", "network", "side", "score"], lineterminator="\n")
    table.writeheader()
    table.writerows([*kept, *({"run": run} | row for row in networks)])
    write_text(TABLE, file.getvalue())


def placed(card: Card) -> str:
    """Among how many networks of its image size the score lies where; "" where none is alike."""
    score = card.explanation.src("signed")
    side = min(map(int, card.about["image size"].split("x")))
    alike = [float(r["score"]) for r in rows() if _alike(int(r["side"]), side)]
    if score is None or not alike or len(card.explanation.values) != N_BANDS:
        return ""
    below = sum(one < score.value for one in alike)
    return f"It lies above {below} of the {len(alike)} networks on record of that image size."


def _alike(recorded: int, side: int) -> bool:
    """Image sizes that are one kind of task: a band then holds like things."""
    return 0.5 < recorded / side < 2
