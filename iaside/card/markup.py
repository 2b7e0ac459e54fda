"""The parts of a page: no script, nothing from elsewhere; for screens, phones, paper, dark."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from iaside import plots


def page(title: str, inside: str) -> str:
    """The whole document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}: frequency card</title>{style()}</head>"
        f'<body><main class="iaside-card">{inside}</main></body></html>\n'
    )


def style() -> str:
    """The style sheet, for the page and for a card in a notebook."""
    return """<style>
body:has(> .iaside-card) { margin: 0; }
.iaside-card { --ink: #1a1a1a; --paper: #fff; --line: #ccc; --soft: #f3f3f3;
  color-scheme: light dark; color: var(--ink); background: var(--paper);
  font: 16px/1.45 system-ui, sans-serif;
  max-width: 60rem; margin: 0 auto; padding: 1rem; box-sizing: border-box; }
.iaside-card h1 { font-size: 1.5em; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.iaside-card h2 { font-size: 1.1em; margin: 1.4rem 0 .4rem; }
.iaside-card p { margin: .4rem 0; }
.iaside-card .advice { background: var(--soft); margin: 0; padding: .6rem 1rem .6rem 2rem; }
.iaside-card .table { overflow-x: auto; }
.iaside-card table { border-collapse: collapse; width: 100%; font-size: .9em; }
.iaside-card td, .iaside-card th { text-align: left; border-bottom: 1px solid var(--line);
  padding: .2rem .7rem .2rem 0; vertical-align: top; font-variant-numeric: tabular-nums; }
.iaside-card td:first-child { min-width: 6.5em; }
.iaside-card .settings td { overflow-wrap: anywhere; }
.iaside-card .figures { display: flex; flex-wrap: wrap; gap: .6rem; }
.iaside-card img.figure { flex: 1 1 20rem; min-width: 0; max-width: 40rem; width: 100%;
  height: auto; background: #fff; border-radius: 4px; }
.iaside-card .pictures { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.iaside-card figure { margin: 0; font-size: .8em; }
.iaside-card figure img { width: 100%; image-rendering: auto; }
.iaside-card small { opacity: .8; }
@media (prefers-color-scheme: dark) { .iaside-card { --ink: #eee; --paper: #151515;
  --line: #444; --soft: #222; } body:has(> .iaside-card) { background: #151515; }
  .iaside-card img.figure { filter: invert(1) hue-rotate(180deg); } }
@media (max-width: 30rem) { .iaside-card .pictures { grid-template-columns: 1fr 1fr; }
  .iaside-card table { font-size: .7em; }
  .iaside-card td, .iaside-card th { padding-right: .3rem; }
  .iaside-card td:first-child { min-width: 5em; } }
@media print { @page { margin: 12mm; }
  .iaside-card { --ink: #000; --paper: #fff; --line: #bbb; --soft: #fff; color-scheme: light;
    font-size: 9pt; line-height: 1.3; max-width: none; padding: 0; }
  body:has(> .iaside-card) { background: #fff; }
  .iaside-card h2 { margin: .7rem 0 .2rem; break-after: avoid; }
  .iaside-card tr, .iaside-card ul, .iaside-card .figures, .iaside-card .pictures {
    break-inside: avoid; }
  .iaside-card img.figure { flex-basis: 8cm; max-height: 4.6cm; object-fit: contain; }
  .iaside-card img.figure { filter: none; }
  .iaside-card .advice { padding: 0 0 0 1.2rem; }
  .iaside-card .pictures { grid-template-columns: repeat(6, 1fr); gap: .3rem; }
  .iaside-card td, .iaside-card th { padding: .08rem .7rem .08rem 0; } }
</style>"""


def heading(title: str, text: str) -> str:
    return f"<h1>{html.escape(title)}</h1>{paragraph(text)}"


def section(title: str, *inside: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{''.join(inside)}</section>"


def sentences(said: Sequence[str]) -> str:
    return f'<ul class="advice">{"".join(f"<li>{html.escape(s)}</li>" for s in said)}</ul>'


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def note(text: str) -> str:
    return f"<p><small>{html.escape(text)}</small></p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "table") -> str:
    """Rows of cells; an interval stays on one line."""

    def line(cells, tag):
        return f"<tr>{''.join(f'<{tag}>{_whole(html.escape(c))}</{tag}>' for c in cells)}</tr>"

    top = line(head, "th") if any(head) else ""
    return f'<div class="{kind}"><table>{top}{"".join(line(r, "td") for r in rows)}</table></div>'


def _whole(cell: str) -> str:
    return re.sub(r"(\[[-\d.%]+), ", "\\1,\u00a0", cell)


def figures(*drawn: tuple[Figure, str]) -> str:
    """Figures with what they show in words, side by side where there is room."""
    shown = "".join(
        f'<img class="figure" alt="{html.escape(alt)}" src="{plots.data_uri(figure)}">'
        for figure, alt in drawn
    )
    return f'<div class="figures">{shown}</div>'


def picture(pixels: np.ndarray, said: str) -> str:
    """A photograph (H, W, 3) uint8 with what is said of it below."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    said = html.escape(said)
    return (
        f'<figure><img alt="{said}" src="data:image/png;base64,{data}">'
        f"<figcaption>{said}</figcaption></figure>"
    )
