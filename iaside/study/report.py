"""What a report is: notebooks without outputs, normalised ones with, and their HTML."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from iaside.backend.files import as_object, put, reading, temporary_folder, write_text
from iaside.backend.keys import code_hash, imported
from iaside.study.notebook import git
from iaside.study.page import markdown, page
from iaside.study.parameters import UsageError, read_yaml
from iaside.study.stages import Stage, needed

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


def to_html(notebook) -> str:
    """An executed notebook as one HTML page: offline, mathematics as MathML, code on demand."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True)
    exporter.register_filter("markdown2html", _shown)
    body, _ = exporter.from_notebook_node(notebook)
    bar = (  # a checkbox and CSS: code can be looked at without a script
        '<span class="bar"><a href="../index.html">all reports</a> · </span>'
        '<input type="checkbox" id="code"><label class="bar" for="code">show code</label>'
    )
    light, dark = (
        HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")
        for style in ("default", "github-dark")
    )
    code = f"{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}"
    title = re.sub(r"[$`*\\]", "", title_of(notebook)[0])
    return page(title, f"{bar}\n<main>\n{body}\n</main>", code)


def _shown(text: str) -> str:
    """Markdown of a notebook as HTML; what answers its question stands in a frame."""
    shown = markdown(text, escape=False)
    return f'<div class="lead">{shown}</div>' if text.startswith("**Answer.**") else shown


def title_of(notebook: Mapping) -> tuple[str, str]:
    """First heading of a notebook and the first paragraph below it."""
    text = "\n".join(
        "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    )
    found = re.search(r"^#+ +(?P<title>.+)\n*(?P<lead>(?:[^#\n].*\n?)*)", text, re.MULTILINE)
    if not found:
        return "Report", ""
    return found["title"].strip(), " ".join(found["lead"].split())


def outputs_of_study(root: Path, reports: Sequence[str] = ()) -> list[Path]:
    """The outs of the present dvc.yaml and params.yaml, in that order, relative to the root.

    reports: of these and what they rest on alone, and of the two pages that list them.
    """
    from dvc.repo import Repo  # DVC alone knows which outs its templates and matrices stand for

    with Repo(str(root)) as repo:
        stages, graph = repo.index.stages, repo.index.graph
        all_ = [Stage(s.name, "", "", tuple(d.name for d in graph[s])) for s in stages]
        asked = {stage.name for stage in needed(all_, reports)} | {"claims", "index"}
        outs = [out for stage in stages if stage.name in asked for out in stage.outs]
        return [Path(out.fs_path).relative_to(root) for out in outs]


def prune(root: Path) -> list[Path]:
    """Remove from results/ what dvc.lock says an earlier study made and the present one does not.

    DVC keeps copies, so going back to that study brings them back. What git holds stays, and so
    do other files.
    """
    lock = root / "dvc.lock"
    if not lock.is_file():
        return []
    stages = read_yaml(lock.read_text(encoding="utf-8"), "dvc.lock")["stages"]
    made = {Path(out["path"]) for stage in stages.values() for out in stage.get("outs", [])}
    made -= {Path(line) for line in (git("ls-files", "results", cwd=root) or "").splitlines()}
    stale = [p for p in sorted(made - set(outputs_of_study(root))) if p.parts[0] == "results"]
    for path in stale:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink(missing_ok=True)
    return stale
