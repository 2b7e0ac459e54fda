"""What the commands of DVC show of a study: a small file to compare by, plots that can be drawn."""

import csv
import json
import re

import numpy as np
from dvc_render.vega import VegaRenderer
from smoke import ROOT

from iaside.explanation import Explanation
from iaside.study.index import headline
from iaside.study.parameters import read_pipeline
from iaside.tables import Worths

PIPELINE = read_pipeline(ROOT)
STAGES = [stage.get("do", stage) for stage in PIPELINE["stages"].values()]
# What has the columns of what a study makes.
MADE = {
    "correlation/networks.csv": "cifar10_zoo/correlation.networks.csv",
    "rivals_report/coefficients.csv": "cifar10_zoo/rivals_report.coefficients.csv",
}


def rows_of(source):
    """Rows as DVC reads them, which makes text of everything."""
    if source == "importance/bands.csv":
        table = np.add.outer(np.arange(8.0), np.linspace(0, 0.1, 9))
        rows = Explanation(Worths({"log_likelihood": table}, {})).to_frame().assign(network="net")
        return [{k: str(v) for k, v in row.items()} for row in rows.to_dict("records")]
    with (ROOT / "results/recorded" / MADE[source]).open() as file:
        return list(csv.DictReader(file))


def test_one_small_file_is_what_dvc_compares_studies_by():
    """Other files for git are plain outputs: `dvc metrics diff` prints all that are metrics."""
    metrics = [out for stage in STAGES for out in stage.get("metrics", [])]
    assert metrics == [{"results/metrics.json": {"cache": False}}]


def test_every_plot_is_of_a_table_that_a_stage_makes_and_can_be_drawn():
    outs = {out for stage in STAGES for out in stage.get("outs", []) if isinstance(out, str)}
    drawn = [(title, how) for plot in PIPELINE["plots"] for title, how in plot.items()]
    assert len(drawn) == 4
    for title, how in drawn:
        ((path, x),), ((same, y),) = how["x"].items(), how["y"].items()
        assert path == same and path in outs
        rows = [row | {"rev": "workspace"} for row in rows_of(path.removeprefix("results/"))]
        given = {"x": x, "y": y, "title": title, "template": how["template"]}
        renderer = VegaRenderer(rows, title, **given, template_dir=str(ROOT / ".dvc/plots"))
        spec = json.dumps(renderer.get_filled_template() | {"data": None})
        assert title in spec and "<DVC_METRIC" not in spec
        for name in re.findall(r"datum\.(\w+)|datum\['(\w+)'\]|\"field\": \"(\w+)\"", spec):
            made = {*re.findall(r'"as": "(\w+)"', spec), "rev"}
            assert (name := "".join(name)) in rows[0] or name in made, name


def test_one_screen_says_whether_a_change_moved_the_score(tmp_path):
    signed = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 24, "unit": "photographs"}
    numbers = {
        "models": {"net": {"signed_src": signed, "mce": signed}},
        "signed_src_mce_within_families": signed | {"low": None, "unit": "networks"},
    }
    verdicts = [{"verdict": v} for v in ("supported", "not tested: needs a", "not tested: needs b")]
    (tmp_path / "dvc.yaml").symlink_to(ROOT / "dvc.yaml")
    params = tmp_path / "params.yaml"
    params.write_text((ROOT / "params.yaml").read_text())
    for place, made in {"correlation/metrics": numbers, "claims/claims": verdicts}.items():
        path = tmp_path / f"results/{place}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(made))
    found = headline(tmp_path)
    assert found["net"] == {f"signed SRC, {k}": signed[k] for k in ("value", "low", "high")}
    assert found["all networks"]["signed SRC with mCE, value"] == 0.5
    assert found["claims"] == {"supported": 1, "not tested": 2}
    numbers["models"] = dict.fromkeys(map(str, range(28)), {"signed_src": signed})
    (tmp_path / "results/correlation/metrics.json").write_text(json.dumps(numbers))
    assert sum(map(len, headline(tmp_path).values())) < 40, "a line each"
    params.write_text(params.read_text() + "without: [correlation]")
    assert list(headline(tmp_path)) == ["claims"], "numbers of another study"
