"""Pages run nothing and load nothing, whatever stands in the notebooks and tables they show."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pytest

from iaside.backend.files import DamagedError
from iaside.estimate.estimate import Estimate
from iaside.study import recorded, report
from iaside.study.index import index_html
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


def test_a_page_prints_follows_dark_screens_frames_the_answer_and_describes_figures():
    png = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    png.metadata = {"image/png": {"alt": "nats against <band>"}}
    said = nbformat.v4.new_output("display_data", {"text/markdown": "**Answer.** So."})
    page = report.to_html(notebook("# A", outputs=[said, png]))
    assert "@media print" in page and "prefers-color-scheme: dark" in page
    assert '<div class="lead"><p><strong>Answer.</strong> So.</p>' in page
    (figure,) = (given for tag, given in Seen(page).tags if tag == "img")
    assert figure["alt"] == "nats against <band>"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A project of two reports and a measurement, whose index shows a recorded run."""
    (tmp_path / "params.yaml").write_text("claims: {reports: [correlation], recorded: [mine]}")
    nouns, pages = ("correlation", "claims"), []
    named = {"index": {"cmd": "", "deps": [f"results/{noun}/report.html" for noun in nouns]}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": named}))
    for place in ("worths/net", *(f"{noun}/report" for noun in nouns)):
        page = tmp_path / "results" / f"{place}.html"
        page.parent.mkdir(parents=True)
        page.write_text("<html>\n<body>\n</body></html>")
        page.with_suffix(".ipynb").write_text(json.dumps(notebook(f"# Of {place}\n\nB?")))
        pages.append(page.relative_to(tmp_path))
    rho = Estimate(-0.75, 0.06, -0.875, -0.625, 24, "networks")
    document = rules.as_document("correlation", [rules.decide("src_mce", lambda level: rho)])
    (tmp_path / "results/correlation/claims.json").write_text(json.dumps(document))
    (tmp_path / "results/correlation/metrics.json").write_text("{}")
    monkeypatch.setattr("iaside.study.index.outputs_of_study", lambda *_: pages)
    recorded.record(tmp_path, "mine", "Title")
    check(index_html(tmp_path))
    return tmp_path


def test_the_index_opens_with_the_answers_the_central_one_first(study):
    page = study / "results/claims/report.ipynb"
    told = "**Answer.** Of 3 claims 1.5 hold. The rest does not."
    output = nbformat.v4.new_output("display_data", {"text/markdown": told})
    page.write_text(json.dumps(notebook("# Claims\n\nWhich hold?", outputs=[output])))
    shown = index_html(study)
    places = [shown.index(words) for words in ("Of correlation", "Claims", "Of worths")]
    assert places == sorted(places)
    assert "<p>Of 3 claims 1.5 hold.</p>" in shown and "The rest" not in shown
    assert "Which hold?" not in shown and "<p>B?</p>" in shown, "a question only for want of both"
    assert "<td>supported: -0.75 [-0.875, -0.625], n = 24 networks</td>" * 2 in shown
    assert '<a href="worths/net.html">net</a>' in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_no_field_that_the_index_reads_back_acts(text, study):
    about = study / "results/recorded/mine/run.json"
    given = json.loads(about.read_text())
    given |= {"title": text, "date": text, "commit": text}
    about.write_text(json.dumps(given))
    path = study / "results/correlation/claims.json"
    document = json.loads(path.read_text())
    document["claims"][0] |= {"statement": text, "verdict": text}
    path.write_text(json.dumps(document))
    answer = nbformat.v4.new_output("display_data", {"text/markdown": f"**Answer.** {text}"})
    for noun, outputs in (("claims", []), ("correlation", [answer])):
        page = study / f"results/{noun}/report.ipynb"
        page.write_text(json.dumps(notebook(f"# {text}\n\n{text}", outputs=outputs)))
    shown = index_html(study)
    check(shown)
    for tag in re.findall(r"<\w+", text):
        assert f"&lt;{tag[1:]}" in shown, "it is shown as text"


def test_names_that_a_record_lists_lead_nowhere_else(study):
    about = study / "results/recorded/mine/run.json"
    given = json.loads(about.read_text())
    noun = '"onload="x'
    source = study / "results/recorded/mine/correlation.claims.json"
    (source.parent / f"{noun}.claims.json").write_text(source.read_text())
    about.write_text(json.dumps(given | {"reports": [noun]}))
    check(index_html(study))


@pytest.mark.parametrize("text", ["{}", '{"cells": [3]}', '{"cells": [{}]}', "[]", "[" * 20_000])
def test_a_tampered_report_is_refused_by_its_name(text, study):
    (study / "results/correlation/report.ipynb").write_text(text)
    with pytest.raises(DamagedError, match=r"correlation/report.ipynb cannot .*-f correlation"):
        index_html(study)


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
