"""Pages run nothing and load nothing, whatever stands in the notebooks and tables they show."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pytest

from iaside.backend.files import DamagedError
from iaside.estimate.estimate import Estimate
from iaside.study import recorded, report
from iaside.verdicts import rules

HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "'><img src=x onerror=alert(1)>",
    '<svg onload="alert(1)"><script>alert(1)</script></svg>',
    "[a](javascript:alert(1))",
    '<iframe src="javascript:alert(1)"></iframe>',
    "<object data=x></object><embed src=x>",
    '<base href="https://elsewhere/">',
    '<meta http-equiv="refresh" content="0;url=https://else">',
    '<link rel="stylesheet" href="https://elsewhere/a.css">',
    "</title><script>alert(1)</script>",
]
ACTIVE = {"script", "iframe", "object", "embed", "base", "link", "form", "applet"}


class Seen(HTMLParser):
    """The tags of a page, in order."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def check(page, plain=True):
    """Nothing acts by itself, and the policy comes before all that could; plain: without HTML."""
    tags = Seen(page).tags
    metas = [given for tag, given in tags if tag == "meta"]
    assert [given.get("http-equiv") for given in metas] == [None, "Content-Security-Policy", None]
    rules = dict(rule.split(maxsplit=1) for rule in metas[1]["content"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.index("Content-Security-Policy") < page.index("<title") < page.index("<style")
    assert not ACTIVE & {tag for tag, _ in tags}
    for _, given in tags:
        assert not any(
            value and value.strip().startswith("javascript:") for value in given.values()
        )
        assert not plain or not any(name.startswith("on") for name in given)


def notebook(*cells, outputs=()):
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_markdown_cell(cell) for cell in cells]
    if outputs:
        made.cells.append(nbformat.v4.new_code_cell("1", outputs=list(outputs)))
    return made


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.slow
def test_nothing_in_a_notebook_acts_by_itself(text):
    kinds = ["text/html", "text/markdown", "image/svg+xml", "text/plain", "text/latex"]
    outputs = [nbformat.v4.new_output("display_data", {kind: text}) for kind in kinds]
    outputs.append(nbformat.v4.new_output("stream", text=text))
    outputs.append(nbformat.v4.new_output("error", ename=text, evalue=text, traceback=[text]))
    script = {"application/javascript": "alert(1)"}
    outputs.append(nbformat.v4.new_output("display_data", script))
    page = report.to_html(notebook(f"# {text}\n\n{text}", f"${text}$", outputs=outputs))
    check(page, plain=False)  # the policy keeps attributes of a notebook's own HTML from running
    assert page.count("alert(1)") or "alert" not in text, "what it said can be read"


def test_figures_styles_and_tables_of_a_notebook_stay():
    styled = '<style>#a {color: red}</style><table id="a"><tr><td>1</td></tr></table>'
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": styled}),
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}),
    ]
    page = report.to_html(notebook("# A\n\nx<br>y <b>z</b> [b](b.html) $x^2$", outputs=outputs))
    check(page)
    assert styled in page and "data:image/png;base64,iVBORw0KGgo=" in page
    assert "x<br/>y <b>z</b>" in page and 'href="b.html"' in page and "<msup>" in page


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A project of two reports, whose index shows claims and a recorded run."""
    (tmp_path / "params.yaml").write_text("claims: {reports: [bands], recorded: [mine]}")
    pages = []
    for noun in ("bands", "claims"):
        page = tmp_path / "results" / noun / "report.html"
        page.parent.mkdir(parents=True)
        page.write_text("<html>\n<body>\n</body></html>")
        page.with_suffix(".ipynb").write_text(json.dumps(notebook("# A\n\nB?")))
        pages.append(page.relative_to(tmp_path))
    share = Estimate(0.75, 0.06, 0.625, 0.875, 24, "photographs")
    row = rules.decide("low_energy_majority", lambda level: share)
    document = rules.as_document("bands", [row])
    (tmp_path / "results/bands/claims.json").write_text(json.dumps(document))
    (tmp_path / "results/bands/metrics.json").write_text("{}")
    (tmp_path / "results/claims/claims.json").write_text(json.dumps(rules.gather([document])))
    monkeypatch.setattr(report, "outputs_of_study", lambda root: pages)
    recorded.record(tmp_path, "mine", "Title")
    check(report.index_html(tmp_path))
    return tmp_path


def test_the_index_says_what_was_measured_and_on_which_data(study):
    path = study / "results/claims/claims.json"
    rows = json.loads(path.read_text())
    next(row for row in rows if row["verdict"] == "supported")["data"] = "MNIST digits"
    path.write_text(json.dumps(rows))
    shown = report.index_html(study)
    assert "<td>0.75 [0.625, 0.875], n = 24 photographs</td><td>MNIST digits</td>" in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_no_field_that_the_index_reads_back_acts(text, study):
    about = study / "results/recorded/mine/run.json"
    given = json.loads(about.read_text())
    given |= {"title": text, "date": text, "commit": text}
    about.write_text(json.dumps(given))
    rows = json.loads((study / "results/claims/claims.json").read_text())
    row = next(row for row in rows if row["verdict"] == "supported")
    row |= {"statement": text, "source": text, "data": text, "unit": text}
    (study / "results/claims/claims.json").write_text(json.dumps([row]))
    page = study / "results/bands/report.ipynb"
    page.write_text(json.dumps(notebook(f"# {text}\n\n{text}")))
    shown = report.index_html(study)
    check(shown)
    for tag in re.findall(r"<\w+", text):
        assert f"&lt;{tag[1:]}" in shown, "it is shown as text"


def test_names_that_a_record_lists_lead_nowhere_else(study):
    about = study / "results/recorded/mine/run.json"
    given = json.loads(about.read_text())
    noun = '"onload="x'
    source = study / "results/recorded/mine/bands.claims.json"
    (source.parent / f"{noun}.claims.json").write_text(source.read_text())
    about.write_text(json.dumps(given | {"reports": [noun]}))
    check(report.index_html(study))


def test_a_verdict_that_is_none_is_refused(study):
    row = {"verdict": "<script>", "statement": "a", "source": "b"}
    (study / "results/claims/claims.json").write_text(json.dumps([row]))
    with pytest.raises(DamagedError, match=r"'<script>' is no verdict"):
        report.index_html(study)


@pytest.mark.parametrize("text", ["{}", '{"cells": [3]}', '{"cells": [{}]}', "[]", "[" * 20_000])
def test_a_tampered_report_is_refused_by_its_name(text, study):
    (study / "results/bands/report.ipynb").write_text(text)
    with pytest.raises(DamagedError, match=r"bands/report.ipynb cannot be .*dvc repro -f bands"):
        report.index_html(study)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_recorded_cannot_act(text):
    about = {"date": text, "commit": text, "title": text, "reports": [text]}
    page = report.to_html(notebook("# A"))
    check(recorded._marked(page, about))
    row = {
        "verdict": "supported",
        "statement": text,
        "claimed": text,
        "value": 1.0,
        "low": 0.0,
        "high": 2.0,
        "n": 3,
        "unit": text,
        "data": text,
    }
    assert not re.search(r"<\w", recorded._readme(about, [row]))
