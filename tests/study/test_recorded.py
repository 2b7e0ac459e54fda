"""A finished run is kept small, whole and as it was, and nothing of a machine goes with it."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from smoke import ROOT

from iaside.estimate.estimate import Estimate
from iaside.study.index import index_html
from iaside.study.page import POLICY
from iaside.study.parameters import UsageError
from iaside.study.recorded import record, runs
from iaside.verdicts import rules
from iaside.verdicts.page import measured

PARAMS = """models:
  net: {name: net, weights: /disk/own/net.safetensors, recipe: data/weights/net.json}
worths: {images: /mnt/disk/photographs}
claims: {reports: [bands], recorded: [mine]}
"""


def picture(colours):
    """A PNG of so many colours, as base64."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (colours, 3))[np.arange(90_000) % colours].reshape(300, 300, 3)
    with io.BytesIO() as file:
        Image.fromarray(pixels.astype("uint8")).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def finished(tmp_path):
    """A project in which one report is finished."""
    out = tmp_path / "results" / "bands"
    out.mkdir(parents=True)
    (tmp_path / "params.yaml").write_text(PARAMS)
    share = Estimate(0.75, 0.06, 0.625, 0.875, 24, "photographs")
    row = rules.decide("low_energy_majority", lambda level: share, data="my own photographs")
    (out / "claims.json").write_text(json.dumps(rules.as_document("bands", [row])))
    (out / "metrics.json").write_text('{"n": 24}\n')
    (out / "table.csv").write_text("a,b\n1,2\n")
    image = picture(40)
    (out / "report.html").write_text(
        "<html>\n<body>\n<h1>Bands</h1><code>/mnt/disk/photographs</code>"
        f'<img src="data:image/png;base64,{image}"></body></html>'
    )
    return tmp_path


def test_a_record_holds_pages_tables_claims_settings_and_date(finished):
    folder = record(finished, "mine", "My own photographs")
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "bands.claims.json",
        "bands.html",
        "bands.metrics.json",
        "bands.table.csv",
        "params.yaml",
        "run.json",
    ]
    about = json.loads((folder / "run.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"]) and about["reports"] == ["bands"]
    page = (folder / "bands.html").read_text()
    assert f"Recorded on {about['date']}" in page and "<h1>Bands</h1>" in page
    said = "0.75 [0.625, 0.875], n = 24 photographs | &gt; 0.5 | my own photographs |"
    assert said in (folder / "README.md").read_text()
    [row] = runs(finished, ["mine"])["mine"]["rows"]
    assert (row["id"], row["verdict"]) == ("low_energy_majority", "supported")


def test_weights_and_images_are_recorded_by_their_content(finished):
    own = finished / "elsewhere"
    own.mkdir()
    (own / "net.safetensors").write_bytes(b"weights")
    (finished / "data/images").mkdir(parents=True)
    (finished / "data/images/1.png").write_bytes(b"1")
    text = PARAMS.replace("/disk/own/", f"{own}/").replace("/mnt/disk/photographs", "data/images")
    (finished / "params.yaml").write_text(text)
    about = json.loads((record(finished, "mine", "x") / "run.json").read_text())
    lines = f"{hashlib.sha256(b'1').hexdigest()}  1.png\n"
    assert about["sha256"] == {
        ".../elsewhere/net.safetensors": hashlib.sha256(b"weights").hexdigest(),
        "data/images": hashlib.sha256(lines.encode()).hexdigest(),
    }


def test_a_figure_of_few_colours_keeps_every_pixel(finished):
    before = (finished / "results" / "bands" / "report.html").read_text()
    after = (record(finished, "mine", "x") / "bands.html").read_text()

    def pixels(page):
        found = re.search(r"base64,([^\"]+)", page)[1]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB"))

    assert np.array_equal(pixels(before), pixels(after))
    assert len(after) < len(before)


def test_no_place_on_a_machine_is_recorded(finished):
    folder = record(finished, "mine", "x")
    text = (folder / "params.yaml").read_text()
    assert "<code>.../disk/photographs</code>" in (folder / "bands.html").read_text()
    assert "/disk" not in text.replace("/disk/photographs", "") and "/mnt" not in text
    assert ".../own/net.safetensors" in text and "data/weights/net.json" in text
    assert ".../disk/photographs" in text


def test_recording_again_replaces_the_run_and_leaves_nothing_else(finished):
    record(finished, "mine", "first")
    (finished / "results" / "bands" / "table.csv").unlink()
    folder = record(finished, "mine", "second")
    assert json.loads((folder / "run.json").read_text())["title"] == "second"
    assert not (folder / "bands.table.csv").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["mine"]


def test_what_cannot_be_recorded_or_shown_is_said(finished):
    with pytest.raises(UsageError, match="small letters"):
        record(finished, "../mine", "x")
    with pytest.raises(UsageError, match="nothing is recorded as 'mine'"):
        runs(finished, ["mine"])
    (finished / "results" / "bands" / "report.html").unlink()
    with pytest.raises(UsageError, match="dvc repro bands"):
        record(finished, "mine", "x")
    assert not list((finished / "results").glob("recorded/*"))


def test_the_index_leads_to_recorded_runs_as_such(finished, monkeypatch):
    record(finished, "mine", "My own photographs")
    (finished / "dvc.yaml").write_text('stages: {index: {cmd: "", deps: []}}')
    monkeypatch.setattr("iaside.study.index.outputs_of_study", lambda *_: [])
    assert "My own photographs" not in index_html(finished)  # no claims page, no runs beside it
    page = finished / "results" / "claims" / "report.html"
    page.parent.mkdir()
    page.write_text("")
    notebook = {"cells": [{"cell_type": "markdown", "source": "# Claims\n\nWhich hold?"}]}
    page.with_suffix(".ipynb").write_text(json.dumps(notebook))
    out = page.relative_to(finished)
    monkeypatch.setattr("iaside.study.index.outputs_of_study", lambda *_: [out])
    shown = index_html(finished)
    assert "My own photographs" in shown and "Claims: 1 supported" in shown
    assert 'href="recorded/mine/bands.html"' in shown


def test_claims_on_record_say_what_their_readme_says():
    # The documents have taken on the keys of later rules; what they say is as it was.
    words = {"no estimate": "none", ", no interval": " (no interval)"}  # of then and of now
    for folder in sorted((ROOT / "results/recorded").iterdir()):
        lines = (folder / "README.md").read_text().replace("\\|", "/").splitlines()
        table = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]
        rows = runs(ROOT, [folder.name])[folder.name]["rows"]
        assert len(rows) == len(table)
        assert rows or "Claims: none." in lines[2]
        for row, (verdict, statement, numbers, *_) in zip(rows, table, strict=True):
            assert (row["verdict"], row["statement"]) == (verdict, statement)
            for then, now in words.items():
                numbers = numbers.replace(then, now)
            numbers = re.sub(r"^(\S+) \[\1, \1\]", r"\1 (exact)", numbers)
            said = measured(row)
            assert numbers in (said, said.removesuffix(f" {row['unit']}"))  # older ones name none
            assert row["data"] or row["unit"] == "bands"  # exact: of no data


def test_pages_on_record_run_nothing():
    pages = list((ROOT / "results/recorded").glob("*/*.html"))
    assert pages and all(POLICY in page.read_text(encoding="utf-8") for page in pages)
