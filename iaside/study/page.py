"""One HTML page: no script, nothing from elsewhere; for screens light and dark, phones, paper."""

from __future__ import annotations

import html
import re

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --muted: #59636e; --line: #d0d7de;
  --soft: #f6f8fa; --link: #0b5cad; }
body { margin: 0 auto; padding: 1rem 1.25rem 4rem; max-width: 60rem; color: var(--ink);
  background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1rem 0 .6rem; }
h2 { font-size: 1.35rem; margin: 2.2rem 0 .5rem; } h3 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
h1, h2, h3, p, li { overflow-wrap: break-word; }
a { color: var(--link); } a.anchor-link, .prompt { display: none; }
img, svg { max-width: 100%; height: auto; } img { background: #fff; border-radius: 4px; }
pre, code { font: .86em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; white-space: pre-wrap; margin: .4rem 0; }
.output, .rendered_html, .scroll { overflow-x: auto; } math[display=block] { overflow-x: auto; }
.bar, .bar a { color: var(--muted); font-size: .85rem; }
.input { display: none; background: var(--soft); border-left: 3px solid var(--line);
  padding: .3rem .8rem; margin: .6rem 0; }
#code:checked ~ main .input { display: block; }
table { border: 0; border-collapse: collapse; margin: .7rem 0; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; border: 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
thead th { border-bottom: 2px solid var(--muted); } .text td, .text th { text-align: left; }
blockquote { margin: .8rem 0; padding: .1rem 1rem; border-left: 4px solid var(--line);
  color: var(--muted); }
hr { border: 0; border-top: 1px solid var(--line); margin: 2rem 0 1rem; }
.muted { color: var(--muted); }
.lead { border: 1px solid var(--line); border-left: 5px solid var(--link); border-radius: 6px;
  padding: .1rem 1.2rem; margin: 1.2rem 0; }
@media (max-width: 40rem) {
  body { padding: .7rem .8rem 3rem; } h1 { font-size: 1.45rem; } h2 { font-size: 1.2rem; }
  table { font-size: .8rem; } th, td { padding: .25rem .4rem; } ul, ol { padding-left: 1.3rem; }
  .lead { padding: .1rem .8rem; }
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181b; --muted: #9aa4ae; --line: #3d444d; --soft: #202429;
    --link: #79b8ff; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --muted: #444; --line: #bbb;
    --soft: #fff; --link: #000; }
  @page { margin: 14mm 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h1 { font-size: 17pt; } h2 { font-size: 13pt; } h1, h2, h3 { break-after: avoid; }
  .bar, #code { display: none; } .output, .rendered_html, .scroll, pre { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .12rem .3rem; overflow-wrap: anywhere; min-width: 3.4em; }
  th:first-child, td:first-child { min-width: 6.6em; }
  tr, img, svg, .lead { break-inside: avoid; } thead { display: table-header-group; }
  img { max-height: 240mm; }
}
"""

# Pages need no script and nothing from elsewhere: whatever a notebook or a table holds, a browser
# runs and loads nothing of it but styles and figures that stand in the page.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)
# What would act by itself; a browser that knows no policy shows it as text.
_ACTIVE = re.compile(
    r"<(?=/?(?:script|iframe|frame|object|embed|applet|base|meta|link|form)\b)", re.IGNORECASE
)


def page(title: str, body: str, style: str = "") -> str:
    """A whole HTML page that needs nothing from anywhere else."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{POLICY}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n"
        f"<body>\n{_ACTIVE.sub('&lt;', body)}\n</body>\n</html>\n"
    )


def markdown(text: str, escape: bool = True) -> str:
    """Markdown, mathematics included, as HTML; HTML in it as text unless it is a notebook's own."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body):
            return _mathml(body, "block")

        def inline_math(self, body):
            return _mathml(body)

        def latex_environment(self, name, body):
            return _mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    return MarkdownWithMath(renderer=Renderer(escape, allow_harmful_protocols=False)).render(text)


def _mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML; what cannot be read as TeX is shown as it is rather than losing a report."""
    from latex2mathml.converter import convert

    try:
        made = convert(html.unescape(tex), display=display)
    except Exception:  # the library lets all kinds through
        return f"<code>{html.escape(tex)}</code>"
    # In HTML the namespace is implied; named, it turns into tags no browser knows (in headings).
    return re.sub(r' xmlns="[^"]*"', "", made)
