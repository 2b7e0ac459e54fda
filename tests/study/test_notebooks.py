"""Notebooks are pages: the answer first, no logic in long cells, nothing twice."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from iaside.study.notebook import answer, say
from iaside.study.pages import common

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINES, SAME = 25, 4  # lines of a cell; consecutive lines that may stand in two notebooks
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind=None):
    """(id, source) of the cells of a kind, without the parameters."""
    found = json.loads(path.read_text())["cells"]
    found = [c for c in found if "parameters" not in c["metadata"].get("tags", [])]
    return [(c["id"], "".join(c["source"])) for c in found if kind in (None, c["cell_type"])]


def functions(path):
    return [
        node
        for _, source in cells(path, "code")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]


def faults(path):
    """What is wrong with the order of a page: answer, figure, how to read, provenance, footer."""
    page = cells(path)
    code = dict(cells(path, "code"))
    told = next((k for k, (_, source) in enumerate(page) if "answer(" in source), None)
    if told is None:
        return ["no answer"]
    said = page[told][1]
    said = said[said.index("answer(") :]
    found = [] if re.match(r"answer\((?:[\w.]+\(|[^#]*\{)", said) else ["no number in the answer"]
    before, after = page[1:told], page[told + 1 :]
    if any(name not in code for name, _ in before):
        found.append("words before the answer")
    draws = re.compile(r"\b(?:plots|figures)\.(?!LABELS)\w+\(|\bpage\.\w*pictures\(")
    drawn = [k for k, (name, source) in enumerate(after) if name in code and draws.search(source)]
    if any(draws.search(source) for _, source in before):
        found.append("a figure before the answer")
    reads = [k for k, (_, source) in enumerate(after) if source.startswith("## How to read this")]
    if drawn and (not reads or not drawn[0] < reads[0] <= (*drawn, len(after))[1]):
        found.append("how to read this does not follow the first figure")
    if not any(source.startswith("## Provenance") for _, source in page[-3:-1]):
        found.append("provenance is not last")
    return found


@each
def test_notebooks_are_committed_clean(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            assert not re.search(r"(?m)^\s*[!%]", "".join(cell["source"])), "no shell, no magic"
    first = "".join(notebook["cells"][0]["source"])
    assert first.startswith("# ") and "**Question.**" in first
    assert "footer(" in "".join(notebook["cells"][-1]["source"])


@each
def test_parameters_carry_a_comment(path):
    found = json.loads(path.read_text())["cells"]
    cell = next(c for c in found if "parameters" in c["metadata"].get("tags", []))
    assert all("#" in line for line in "".join(cell["source"]).splitlines())


@each
def test_cells_are_short_and_hold_no_logic(path):
    long = {name: k for name, s in cells(path, "code") if (k := len(s.splitlines())) > LINES}
    assert not long
    for node in functions(path):
        assert not isinstance(node, ast.ClassDef)
        assert node.end_lineno - node.lineno < 5, node.name


@each
def test_the_answer_stands_first_and_the_provenance_last(path):
    assert not faults(path)


@each
def test_sources_have_authors_and_years(path):
    text = "\n".join(source for _, source in cells(path, "markdown"))
    assert not re.search(r"\b[Ss]eeds? 00\d|methods \d", text)


def test_no_function_stands_in_two_notebooks():
    names = Counter(name for path in NOTEBOOKS for name in {node.name for node in functions(path)})
    assert not [name for name, k in names.items() if k > 1]


def test_no_lines_stand_in_two_notebooks():
    """Imports apart: what two pages do alike is a function."""
    seen = {}
    for path in NOTEBOOKS:
        for _, source in cells(path, "code"):
            nodes = ast.parse(source).body
            if isinstance(nodes[0], ast.Import | ast.ImportFrom):
                continue
            lines = [line.strip() for line in source.splitlines() if line.strip()]
            for k in range(len(lines) - SAME):
                seen.setdefault(tuple(lines[k : k + SAME + 1]), set()).add(path.stem)
    assert not {run: where for run, where in seen.items() if len(where) > 1}


def test_order_of_a_page_is_held(tmp_path):
    """Each fault is found in a page that has it."""
    page = [
        ("markdown", "# Title"),
        ("code", "load()"),
        ("code", 'answer(f"{x} of them")'),
        ("code", "plots.bars(frame)"),
        ("markdown", "## How to read this"),
        ("markdown", "## Provenance"),
        ("code", "footer(n=n)"),
    ]

    def of(*order):
        cells = [
            {"id": str(k), "cell_type": kind, "source": source, "metadata": {}}
            for k, (kind, source) in enumerate(page[k] for k in order)
        ]
        path = tmp_path / "page.ipynb"
        path.write_text(json.dumps({"cells": cells}))
        return faults(path)

    assert of(0, 1, 2, 3, 4, 5, 6) == []
    assert of(0, 1, 3, 4, 5, 6) == ["no answer"]
    assert "a figure before the answer" in of(0, 1, 3, 2, 4, 5, 6)
    assert of(0, 4, 2, 3, 4, 5, 6) == ["words before the answer"]
    assert of(0, 1, 2, 4, 3, 5, 6) == ["how to read this does not follow the first figure"]
    assert of(0, 1, 2, 3, 4, 6) == ["provenance is not last"]
    page[2] = ("code", 'answer("many of them")')
    assert of(0, 1, 2, 3, 4, 5, 6) == ["no number in the answer"]


def test_what_is_said_is_shown_as_markdown(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda text: shown.append(text.data))
    say(f"{x}." for x in "ab")
    say("one line")
    answer("three of four")
    answer(f"{x}." for x in "ab")
    end = ["**Answer.** three of four", "**Answer.**  \na.  \nb."]
    assert shown == ["a.  \nb.", "one line", *end]


def test_lines_are_marked_on_one_axis_and_on_several():
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2)
    common.mark(axes, y=0.5)
    common.mark(axes[0], x=2, style="--")
    assert [len(axis.lines) for axis in axes] == [2, 1]
    assert list(axes[0].lines[0].get_ydata()) == [0.5, 0.5]
    assert list(axes[0].lines[1].get_xdata()) == [2, 2]
    plt.close(figure)
