"""The card of one model: what was measured, as an object that prints, saves and shows itself."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from iaside.backend.files import write_text
from iaside.card.advice import advise
from iaside.card.deployment import Deployment
from iaside.card.harms import Clean, Harm, both
from iaside.card.pictures import Picture
from iaside.card.reference import Reference
from iaside.estimate.clean import clean_line
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.explanation import Explanation


class Written:
    """What has numbers (``to_dict``) and a page (``title``, ``body``), and is saved as either."""

    def to_html(self) -> str:
        """The page, complete in itself: no script, nothing from elsewhere."""
        from iaside.card.markup import page

        return page(self.title, self.body())

    def save(self, path: str | os.PathLike) -> None:
        """Write the page (.html) or the numbers (.json), whole or not at all."""
        path = Path(path)
        check_ending(path)
        as_json = json.dumps(self.to_dict(), indent=1) + "\n"
        write_text(path, self.to_html() if path.suffix == ".html" else as_json)

    def _repr_html_(self) -> str:
        from iaside.card.markup import style

        return f'<div class="iaside-card">{style()}{self.body()}</div>'


def check_ending(path: Path) -> None:
    """Refuse what is neither a page nor numbers."""
    if path.suffix not in (".html", ".json"):
        raise ValueError(f"a card is saved as .html or .json, not {path.name!r}")


@dataclass(eq=False)
class Card(Written):
    """One model's frequency profile, what hurts it and what follows, as a page.

    explanation: values, SID and score with intervals; clean: answers to the photographs as they
    are; harms: under perturbations; left_out: what was not measured, and why; pictures: one
    photograph in bands; reference: another network under the same; deployment: of
    ``report(deployment=...)``; advice: sentences, each with the number it rests on; about:
    settings, versions and hashes.

    ``str(card)`` is the summary, ``card.save("card.html")`` the page, in Jupyter it shows itself.
    """

    name: str
    explanation: Explanation
    clean: Clean
    harms: list[Harm]
    left_out: list[str]
    pictures: list[Picture]
    about: dict
    reference: Reference | None = None
    deployment: Deployment | None = None
    advice: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.advice = advise(self)

    @property
    def title(self) -> str:
        return self.name

    @property
    def what_was_tested(self) -> str:
        """Classes, n, top-1 with its interval, log-likelihood beside that of guessing."""
        return clean_line(self.explanation.worths.provenance).replace("\n", " ")

    def to_dict(self) -> dict:
        """All numbers as JSON takes them."""
        bands = self.explanation.to_frame().replace({np.nan: None})
        score = self.explanation.src("signed")
        return {
            "name": self.name,
            "tested": self.what_was_tested,
            "bands": bands.to_dict("records"),
            "signed_score": score and score.as_dict(),
            "harms": [harm.to_dict() for harm in self.harms],
            "left_out": self.left_out,
            "deployment": self.deployment and self.deployment.to_dict(),
            "reference": self.reference and self.reference.to_dict(),
            "advice": self.advice,
            "about": self.about,
        }

    def body(self) -> str:
        from iaside.card.page import body

        return body(self)

    def __str__(self) -> str:
        return "\n".join([self.name, str(self.explanation), *self.advice])


def beside_reference(card: Card) -> dict[str, Estimate]:
    """By how many nats the model loses more than its reference on the same photographs."""
    other = {} if card.reference is None else {harm.name: harm for harm in card.reference.harms}
    pairs = {h.name: both(h.rows, other[h.name].rows) for h in card.harms if h.name in other}
    return {
        name: interval(pair, lambda mean: mean[0] - mean[1])
        for name, pair in pairs.items()
        if pair.size
    }
