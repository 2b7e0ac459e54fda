"""The whole pipeline at smoke size: run, run again, changed."""

import json
import resource
import shutil

import pytest
from smoke import ROOT, dvc, edit, take_study

FINISHED = True


@pytest.mark.smoke
@pytest.mark.slow
def test_everything_runs_at_smoke_size_and_a_second_run_does_nothing(project, finished):
    for noun in (
        "bands",
        "snr_report",
        "importance",
        "embeddings",
        "correlation",
        "architecture",
        "match",
        "choices_report",
        "convergence_report",
        "resolution_report",
        "label_noise",
        "dynamics",
        "data_size",
        "jafr",
        "mend_report",
        "attribution_report",
        "claims",
    ):
        assert (project / f"results/{noun}/report.html").stat().st_size > 10_000
        assert json.loads((project / f"results/{noun}/claims.json").read_text())
    priced = json.loads((project / "results/rivals_report/metrics.json").read_text())
    assert priced["verdict"] == "cannot be told" and priced["passes"]["SRC, signed"] == 8
    claims = json.loads((project / "results/importance/claims.json").read_text())["claims"]
    exact = {"efficiency", "src_range", "src_prefers_low"}  # no sample can change them
    decided = {c["id"] for c in claims if c["verdict"] != "undecided"}
    assert decided <= exact, "two photographs decide nothing else"
    found = json.loads((project / "results/importance/metrics.json").read_text())["squeezenet1_1"]
    assert found["precision"] == "float32"
    assert 0 < found["engine_gap"] < 1e-3, "the same game, in nats"
    index = (project / "results/index.html").read_text()
    assert "importance/report.html" in index and "squeezenet1_1-trained" in index
    assert "up to date" in dvc(project, "status")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert "Data and pipelines are up to date" in dvc(project, "repro")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert spent < 10, "seconds of the processor, which nothing beside it delays"
    for path in (project / "results").rglob("*.html"):
        assert str(finished) not in path.read_text() and "https://" not in path.read_text()


@pytest.mark.slow
def test_a_colour_measures_nothing_and_a_band_measures_again(project):
    with (project / "iaside/plots.py").open("a") as file:
        file.write("\n# another colour\n")
    dvc(project, "repro", "strip")
    assert "up to date" in dvc(project, "status"), "a comment"
    with (project / "iaside/plots.py").open("a") as file:
        file.write("\nCOLOUR = 0\n")
    dvc(project, "repro", "strip")
    status = dvc(project, "status")
    assert "importance" in status and "worths@" not in status and "worths_" not in status
    assert "convergence_report" in status and "convergence@" not in status
    assert "choices_report" in status and "choices@" not in status
    assert "resolution_report" in status and "resolution@" not in status
    assert "training@" not in status and "profiles@" not in status
    assert "attribution_report" in status and "attributions@" not in status
    shutil.copy(ROOT / "iaside/plots.py", project / "iaside/plots.py")
    dvc(project, "repro", "strip")
    edit(project, n_control=1)
    status = dvc(project, "status")
    assert "worths_controls@" in status and "worths@" not in status
    edit(project, n_bands=2)
    status = dvc(project, "status")
    assert "worths@" in status and "profiles@" in status
    assert "training@" not in status, "M trains nothing"
    take_study(project)
    edit(project, device="cpu")
    assert "up to date" in dvc(project, "status"), "runtime: belongs to no stage"
