"""The documentation as a site: `make docs` writes it to .build/docs, without a network.

Pages are Markdown; the reference of the public names and the list of notebooks are made here,
from docstrings, notebooks, dvc.yaml and claims.yaml, so that they cannot fall behind.
"""

import inspect
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from sphinx.util.docutils import nodes

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
import generated  # noqa: E402

import iaside  # noqa: E402

project, author = "iaside", "the iaside authors"
release = version = iaside.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
suppress_warnings = [
    "myst.xref_missing"
]  # links into the repository, from pages that git shows too
default_role = "code"
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"  # its fonts are the system's: no page loads anything from elsewhere
html_title = "iaside"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_math_renderer = "mathml"
pygments_dark_style = "github-dark"
autodoc_typehints = "none"  # the signature has them, and docstrings say shapes
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
SECTIONS = {"Shapes", "Errors", "Raises", "Returns", "Source"}


def as_rst(app, what, name, obj, options, lines):
    """Docstrings are plain text: a paragraph for each argument, nothing else is markup."""
    try:
        names = set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        names = set()
    made, under, listed, example = [], False, False, False
    for before, line in zip(["", *lines], lines, strict=False):
        text = line.strip()
        example = text.startswith(">>>") or (example and bool(text))
        argument = re.match(r"(\w+(?:, \w+)*)(?: \([^)]*\))?:(?: |$)", text)
        item = under and re.match(r'("?\w+"?) {2,}(.*)', text)
        if example:
            made.append(line)
        elif argument and (names & set(argument[1].split(", ")) or argument[1] in SECTIONS):
            under, listed = True, False
            made += ["", f"**{argument[0].strip()}** " + _escaped(text[argument.end() :])]
        elif item:
            made += ["", f"* ``{item[1]}`` " + _escaped(item[2])]
            listed = True
        elif under and line[:1] == " " and before.endswith((";", " one of")):
            made += ["", f"* {_escaped(text)}"]
            listed = True
        else:
            under = under and bool(text)
            listed = listed and under
            made.append("  " * listed + _escaped(text if under else line))
    lines[:] = made


def _escaped(text: str) -> str:
    parts = re.split(r"(``[^`]+``|`[^`]+`)", text)
    markup = re.compile(r"[\\*|]|(?<=\w)_(?!\w)")
    return "".join(p if p[:1] == "`" else markup.sub(r"\\\g<0>", p) for p in parts)


def no_alias(app, what, name, obj, skip, options):
    """Fields of a named tuple are in its signature."""
    return str(getattr(obj, "__doc__", "")).startswith("Alias for field") or None


def _math(self, node, display):
    formula = convert(node.astext(), display=display)
    self.body.append(f'<div class="formula">{formula}</div>' if display == "block" else formula)
    raise nodes.SkipNode


def setup(app):
    generated.write(HERE.parent / ".build" / "pages")
    app.add_html_math_renderer(  # MathML, which browsers show themselves
        "mathml",
        (lambda self, node: _math(self, node, "inline"), None),
        (lambda self, node: _math(self, node, "block"), None),
    )
    app.connect("autodoc-process-docstring", as_rst)
    app.connect("autodoc-skip-member", no_alias)
