"""What a report is: notebooks without outputs, normalised ones with, their HTML, the index page."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
import warnings
from functools import partial
from pathlib import Path

from iaside.backend.files import as_object, put, reading, temporary_folder, write_text
from iaside.backend.keys import code_hash, imported
from iaside.study import recorded
from iaside.study.parameters import UsageError, read_yaml

# When JupyterLab is installed, importing nbformat pulls this in and compiles a grammar (2 s).
sys.modules.setdefault("rfc3987_syntax", None)


def strip(source: str | Path, target: str | Path) -> None:
    """Copy notebooks without outputs, counts and volatile metadata; tags are kept.

    `target` is replaced as a whole, so a notebook that is gone leaves no copy; the same folder
    twice cleans in place. What cannot be read is left out with a RuntimeWarning, so that it stops
    no other notebook.  Errors: in place a ValueError naming it; UsageError where there is none.
    """
    source, target = Path(source), Path(target)
    in_place = target.exists() and target.samefile(source)
    stripped = {}
    for path in sorted(source.glob("*.ipynb")):
        remedy = f"get it back with `git checkout {path}`"
        try:
            with reading(path, "a notebook", remedy):
                stripped[path.name] = _stripped(as_object(path.read_text(encoding="utf-8")))
        except ValueError as error:
            if in_place:
                raise
            warnings.warn(f"{error}; it is left out", RuntimeWarning, stacklevel=2)
    if not stripped:
        raise UsageError(f"no notebooks in {source}")
    if in_place:
        for name, text in stripped.items():
            if (target / name).read_text(encoding="utf-8") != text + "\n":
                write_text(target / name, text + "\n")
        return
    with temporary_folder(target.parent) as temporary:
        for name, text in stripped.items():
            write_text(temporary / "new" / name, text + "\n")
        put(temporary / "new", target)


def write_code_hashes(notebooks: str | Path, target: str | Path) -> None:
    """Write for each notebook one file with the hash of the code of iaside that it imports.

    A stage depends on that file, so that a docstring measures nothing again and a changed line
    does. `target` is replaced as a whole. A notebook whose code cannot be parsed has no file: a
    RuntimeWarning names it, and no other notebook is stopped.
    """
    hashes = {}
    for path in sorted(Path(notebooks).glob("*.ipynb")):
        cells = as_object(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        try:
            hashes[path.stem] = code_hash(*sorted(imported(code)))
        except SyntaxError as error:
            warnings.warn(
                f"{path.name} or what it imports is no Python: {error}; it is left out",
                RuntimeWarning,
                stacklevel=2,
            )
    with temporary_folder(Path(target).parent) as temporary:
        for name, text in hashes.items():
            write_text(temporary / "new" / name, text + "\n")
        put(temporary / "new", Path(target))


def _stripped(notebook: dict) -> str:
    """The text of a notebook without what `strip` leaves out. Errors: of many kinds."""
    if notebook.get("nbformat") != 4:
        raise ValueError(f"its format is {notebook.get('nbformat')}, needed is 4")
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)


def normalise(notebook, root: Path):
    """Drop from an executed notebook what differs between equal runs; returns it, changed in place.

    Gone: times, random cell ids, stderr (progress bars, warnings), memory addresses, and `root`,
    the path of the project on this machine.
    """

    def clean(text):
        text = "".join(text) if isinstance(text, list) else text
        text = text.replace(f"{root}{os.sep}", "").replace(str(root), ".")
        return re.sub(r"\bat 0x[0-9a-f]+", "at 0x0", text)

    language = notebook.metadata.get("language_info", {})
    notebook.metadata = type(notebook.metadata)(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python", "version": language.get("version", "")},
    )
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)  # the version that knows cell ids
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = type(cell.metadata)({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            if "text" in output:
                output.text = clean(output.text)
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = clean(value)
    return notebook


def to_text(notebook) -> str:
    """The text of an .ipynb file."""
    import nbformat

    return nbformat.writes(notebook) + "\n"


STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 60rem; color: #1f2328;
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1rem 0 .6rem; }
h2 { font-size: 1.35rem; margin: 2.2rem 0 .5rem; } h3 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
a { color: #0b5cad; } a.anchor-link, .prompt { display: none; }
img, svg { max-width: 100%; height: auto; }
pre, code { font: .86em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; white-space: pre-wrap; margin: .4rem 0; }
.output, .rendered_html { overflow-x: auto; }
.input { display: none; background: #f6f8fa; border-left: 3px solid #d0d7de;
  padding: .3rem .8rem; margin: .6rem 0; }
#code:checked ~ main .input { display: block; }
.toggle { float: right; color: #59636e; font-size: .85rem; cursor: pointer; }
table { border-collapse: collapse; margin: .7rem 0; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; border: 0; border-bottom: 1px solid #d8dee4; text-align: right;
  vertical-align: top; }
thead th { border-bottom: 2px solid #8c959f; } .text td, .text th { text-align: left; }
blockquote { margin: .8rem 0; padding: .1rem 1rem; border-left: 4px solid #d0d7de; color: #59636e; }
hr { border: 0; border-top: 1px solid #d8dee4; margin: 2rem 0 1rem; }
.muted { color: #59636e; } .lead { border: 1px solid #d0d7de; border-left: 5px solid #0b5cad;
  border-radius: 6px; padding: .1rem 1.2rem .9rem; margin: 1.2rem 0; }
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


def _page(title: str, body: str, style: str = "") -> str:
    """A whole HTML page that needs nothing from anywhere else."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{POLICY}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n"
        f"<body>\n{_ACTIVE.sub('&lt;', body)}\n</body>\n</html>\n"
    )


def _mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML; what cannot be read as TeX is shown as it is rather than losing a report."""
    from latex2mathml.converter import convert

    try:
        made = convert(html.unescape(tex), display=display)
    except Exception:  # the library lets all kinds through
        return f"<code>{html.escape(tex)}</code>"
    # In HTML the namespace is implied; named, it turns into tags no browser knows (in headings).
    return re.sub(r' xmlns="[^"]*"', "", made)


def _markdown(text: str, escape: bool = True) -> str:
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


def to_html(notebook) -> str:
    """An executed notebook as one HTML page: offline, mathematics as MathML, code on demand."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True)
    exporter.register_filter("markdown2html", partial(_markdown, escape=False))
    body, _ = exporter.from_notebook_node(notebook)
    toggle = (  # a checkbox and CSS: code can be looked at without a script
        '<input type="checkbox" id="code" hidden>'
        '<label class="toggle" for="code">show / hide code</label>'
    )
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    title = re.sub(r"[$`*\\]", "", _title(notebook)[0])
    return _page(title, f"{toggle}\n<main>\n{body}\n</main>", code)


def _title(notebook: dict) -> tuple[str, str]:
    """First heading of a notebook and the first paragraph below it."""
    text = "\n".join(
        "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    )
    found = re.search(r"^#+ +(?P<title>.+)\n*(?P<lead>(?:[^#\n].*\n?)*)", text, re.MULTILINE)
    if not found:
        return "Report", ""
    return found["title"].strip(), " ".join(found["lead"].split())


def outputs_of_study(root: Path) -> list[Path]:
    """All outs of the present dvc.yaml and params.yaml, in that order, relative to the root."""
    from dvc.repo import Repo  # DVC alone knows which outs its templates and matrices stand for

    with Repo(str(root)) as repo:
        return [Path(out.fs_path).relative_to(root) for out in repo.index.outs]


def prune(root: Path) -> list[Path]:
    """Remove from results/ what dvc.lock says an earlier study made and the present one does not.

    DVC keeps copies, so going back to that study brings them back; other files are left alone.
    """
    lock = root / "dvc.lock"
    if not lock.is_file():
        return []
    stages = read_yaml(lock.read_text(encoding="utf-8"), "dvc.lock")["stages"]
    made = {Path(out["path"]) for stage in stages.values() for out in stage.get("outs", [])}
    stale = [p for p in sorted(made - set(outputs_of_study(root))) if p.parts[0] == "results"]
    for path in stale:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink(missing_ok=True)
    return stale


def index_html(root: Path) -> str:
    """The page that leads to every report of the present study, in the order of dvc.yaml.

    Only what the present dvc.yaml and params.yaml name is listed, never whatever lies in results/.
    """
    pages: dict[str, list[Path]] = {}
    for out in outputs_of_study(root):
        if out.suffix == ".html" and out.parts[0] == "results" and len(out.parts) == 3:
            if (root / out).is_file():
                pages.setdefault(out.parts[1], []).append(out)
    order = sorted(pages, key=lambda noun: noun != "importance")  # the headline first
    parts = ["<h1>Which frequency bands does each network live on?</h1>"]
    for noun in order:
        page = root / pages[noun][0].with_suffix(".ipynb")
        with reading(page, "a report", f"run `dvc repro -f {noun}`"):
            title, lead = _title(as_object(page.read_text(encoding="utf-8")))
        lead = re.split(r"(?<=[.?!]) ", lead)[0]
        links = {page: html.escape(page.relative_to("results").as_posix()) for page in pages[noun]}
        if len(links) == 1 and pages[noun][0].stem == "report":
            heading, items = f'<a href="{links[pages[noun][0]]}">{html.escape(title)}</a>', ""
        else:
            heading = html.escape(title)
            items = " · ".join(
                f'<a href="{link}">{html.escape(page.stem)}</a>' for page, link in links.items()
            )
            items = f"<p>{items}</p>"
        css = ' class="lead"' if noun == "importance" else ""
        parts.append(f"<section{css}><h2>{heading}</h2>\n{_markdown(lead)}{items}</section>")
        if noun == "claims":
            parts.append(_claims(root / "results" / "claims" / "claims.json"))
            parts.append(_recorded(root))
    if not order:
        parts.append("<p>No report yet: run <code>make repro</code>.</p>")
    return _page("iaside: reports", "\n".join(parts))


def _recorded(root: Path) -> str:
    """Links to the runs in results/recorded that params.yaml names, and what they found."""
    from iaside.verdicts.rules import count_verdicts  # with SciPy: the runner imports this module

    params = read_yaml((root / "params.yaml").read_text(encoding="utf-8"), "params.yaml")
    parts = []
    names = params.get("claims", {}).get("recorded", [])
    for name, run in recorded.runs(root, names).items():
        links = " · ".join(
            f'<a href="{html.escape(f"recorded/{name}/{noun}.html")}">{html.escape(noun)}</a>'
            for noun in map(str, run["reports"])
        )
        counts = count_verdicts(run["rows"])
        found = html.escape(" · ".join(f"{n} {v}" for v, n in counts.items() if n))
        title, date = (html.escape(str(run[key])) for key in ("title", "date"))
        parts.append(
            f"<section><h2>Recorded: {title}</h2>\n<p>{date}, kept with "
            f"fields renamed only; not made again by <code>make repro</code>. {links}</p>\n"
            f"<p>{found}</p>"
            "</section>"
        )
    return "\n".join(parts)


def _claims(path: Path) -> str:
    """How many claims got which verdict, and the tested ones, from results/claims/claims.json."""
    from iaside.verdicts.shown import data_of, measured  # with pandas, as above

    if not path.is_file():
        return ""
    verdicts = ["supported", "contradicted", "undecided"]
    with reading(path, "claims", "run `dvc repro -f claims`"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        tested = [row for row in rows if not row["verdict"].startswith("not tested")]
        if strange := {row["verdict"] for row in tested} - set(verdicts):
            raise ValueError(f"{min(strange)!r} is no verdict")
        told = [(row, measured(row), data_of(row)) for row in tested]
    counts = [f"{sum(r['verdict'] == v for r in tested)} {v}" for v in verdicts]
    counts.append(f"{len(rows) - len(tested)} not tested by this study")
    cells = "\n".join(
        f"<tr><td>{html.escape(row['verdict'])}</td><td>{_markdown(row['statement'])}</td>"
        f"<td>{html.escape(number)}</td><td>{html.escape(data)}</td>"
        f"<td>{html.escape(row['source'])}</td></tr>"
        for row, number, data in sorted(told, key=lambda each: verdicts.index(each[0]["verdict"]))
    )
    return (
        f"<p>{' · '.join(counts)}</p>\n<table class='text'>\n<thead><tr><th>verdict</th>"
        f"<th>claim</th><th>measured</th><th>data</th><th>source</th></tr></thead>\n{cells}\n</table>"
    )
