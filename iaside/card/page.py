"""A card as one HTML page: no script, nothing from elsewhere; for screens, phones and paper."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from PIL import Image

from iaside import plots
from iaside.card.advice import where
from iaside.card.record import placed
from iaside.robustness.attacks import INSTALL

if TYPE_CHECKING:
    from iaside.card.measure import Card, Harm
    from iaside.estimate.estimate import Estimate

ONE_SCORE = (
    "A score alone says little: over the 28 CIFAR-10 networks on record a higher one went with "
    "more corruption error, not less."
)


def page(card: Card) -> str:
    """The whole document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(card.name)}: frequency card</title>{style()}</head>"
        f'<body><main class="iaside-card">{body(card)}</main></body></html>\n'
    )


def style() -> str:
    """The style sheet, for the page and for a card in a notebook."""
    return """<style>
.iaside-card { --ink: #1a1a1a; --paper: #fff; --line: #ccc; --soft: #f3f3f3;
  color: var(--ink); background: var(--paper); font: 16px/1.45 system-ui, sans-serif;
  max-width: 60rem; margin: 0 auto; padding: 1rem; box-sizing: border-box; }
.iaside-card h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.iaside-card h2 { font-size: 1.1rem; margin: 1.4rem 0 .4rem; }
.iaside-card .advice { background: var(--soft); padding: .6rem 1rem .6rem 2rem; }
.iaside-card table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.iaside-card td, .iaside-card th { text-align: left; border-bottom: 1px solid var(--line);
  padding: .2rem .5rem .2rem 0; vertical-align: top; overflow-wrap: anywhere; }
.iaside-card img.figure { width: 100%; height: auto; background: #fff; border-radius: 4px; }
.iaside-card .pictures { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.iaside-card figure { margin: 0; font-size: .8rem; } .iaside-card figure img { width: 100%; }
.iaside-card small { color: inherit; opacity: .75; }
@media (prefers-color-scheme: dark) { .iaside-card { --ink: #eee; --paper: #151515;
  --line: #444; --soft: #222; } body:has(> .iaside-card) { background: #151515; } }
@media print { .iaside-card { --ink: #000; --paper: #fff; --line: #bbb; --soft: #fff;
  font-size: 10pt; max-width: none; padding: 0; } .iaside-card section { break-inside: avoid; }
  .iaside-card .pictures { grid-template-columns: repeat(6, 1fr); } @page { margin: 14mm; } }
</style>"""


def body(card: Card) -> str:
    """What the page shows, answer first."""
    parts = [
        f"<h1>{html.escape(card.name)}</h1><p>{html.escape(card.what_was_tested)}</p>",
        _section("What follows", _list(card.advice)),
        _section("By which frequencies it decides", _profile(card)),
        _section("One photograph, in bands", _pictures(card)),
        _section("What hurts it", _harms(card)),
    ]
    if card.deployment is not None:
        parts.append(_section(f"In {card.deployment.name}", _deployment(card)))
    return "".join([*parts, _section("Settings", _settings(card))])


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{inside}</section>"


def _list(sentences: list[str]) -> str:
    return f'<ul class="advice">{"".join(f"<li>{html.escape(s)}</li>" for s in sentences)}</ul>'


def _profile(card: Card) -> str:
    e = card.explanation
    score = e.src("signed")
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots(1, 2)
    kinds = ("psi", "sid") if e.sid is not None else ("psi",)
    for axis, kind in zip(axes, kinds, strict=False):
        e.plot(kind, axis)
    for axis in axes[len(kinds) :]:
        axis.set_axis_off()
        axis.text(0, 0.5, "SID and score are not given:\ntoo few pictures to tell the weakest band")
    strongest = int(e.psi.value.argmax())
    alt = (
        f"Shapley value of each band with 95 % intervals; the largest, {e.psi[strongest].limits()} "
        f"nats, has band {strongest}, {where(card, strongest)}."
    )
    text = "No score is given: the pictures do not show its sign or the weakest band."
    if score is not None:
        text = f"Signed spectral robustness score {score.limits()}. {placed(card)} {ONE_SCORE}"
    return f"{_image(figure, alt)}<p>{html.escape(text)}</p>"


def _pictures(card: Card) -> str:
    figures = []
    for picture in card.pictures:
        file = io.BytesIO()
        Image.fromarray(picture.pixels).save(file, "PNG", optimize=True)
        said = f"{picture.title}: confidence in its class {picture.confidence:.0%}"
        figures.append(
            f'<figure><img alt="{html.escape(said)}" src="{_data(file.getvalue())}">'
            f"<figcaption>{html.escape(said)}</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(figures)}</div>'


def _harms(card: Card) -> str:
    from iaside.card.measure import ATTACK, N_ATTACK, beside_reference

    beside = beside_reference(card)
    head = ["", "pictures no longer right", "log-likelihood lost (nats)"]
    if beside:
        head.append(f"more than {card.reference.name} (nats)")
    more = {h.name: [_limits(beside.get(h.name))] if beside else [] for h in card.harms}
    rows = [[h.name, *_lost(h), *more[h.name]] for h in card.harms]
    note = f"Attacks: on {min(N_ATTACK, card.explanation.psi.n)} pictures."
    if not any(h.condition.source == "pgd" for h in card.harms):
        note = "No attack was made: the model gives no gradient."
    elif not any(h.condition in ATTACK.values() for h in card.harms):
        note += f" PGD on all pixels was left out: it needs torchattacks ({INSTALL})."
    return f"{_table(head, rows)}<p><small>{note} Intervals: 95 %, over pictures.</small></p>"


def _lost(harm: Harm) -> list[str]:
    return [_limits(harm.accuracy_lost, ".0%"), _limits(harm.nats_lost)]


def _limits(estimate: Estimate | None, spec: str = ".2f") -> str:
    return "" if estimate is None else estimate.limits(spec)


def _deployment(card: Card) -> str:
    placed_there = card.deployment
    rows = [
        [f"{k}: {where(card, k)}", f"{share:.0%}"] for k, share in enumerate(placed_there.survival)
    ]
    text = (
        f"Predicted from the spectra: {placed_there.predicted.limits()} nats lost; measured on "
        f"{placed_there.n} pictures, for the class given to the clean one: "
        f"{placed_there.measured.limits()}."
    )
    return f"<p>{html.escape(text)}</p>{_table(['band', 'share that survives'], rows)}"


def _settings(card: Card) -> str:
    return _table(["", ""], [[key, str(value)] for key, value in card.about.items()])


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells, tag):
        return f"<tr>{''.join(f'<{tag}>{html.escape(c)}</{tag}>' for c in cells)}</tr>"

    top = line(head, "th") if any(head) else ""
    return f"<table>{top}{''.join(line(row, 'td') for row in rows)}</table>"


def _image(figure: Figure, alt: str) -> str:
    return f'<img class="figure" alt="{html.escape(alt)}" src="{plots.data_uri(figure)}">'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
