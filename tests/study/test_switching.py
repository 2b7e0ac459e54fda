"""Another study and back."""

import json
import re

import pytest
from smoke import dvc

FINISHED = True


@pytest.mark.slow
def test_switching_studies_and_back_leaves_no_stale_row(project):
    text = (project / "params.yaml").read_text()
    renamed = re.sub(r"(?m)^( +)squeezenet1_1: ", r"\1other: ", text)  # wherever it is a key
    (project / "params.yaml").write_text(renamed)
    dvc(project, "repro", "importance")
    dvc(project, "repro", "-s", "index")
    metrics = project / "results/importance/metrics.json"
    assert list(json.loads(metrics.read_text())) == ["other"]
    assert "squeezenet1_1-trained" not in (project / "results/index.html").read_text()
    assert not list((project / "results").rglob("squeezenet1_1*")), "no stale row in any folder"
    (project / "params.yaml").write_text(text)
    again = dvc(project, "repro", "importance") + dvc(project, "repro", "-s", "index")
    assert list(json.loads(metrics.read_text())) == ["squeezenet1_1"]
    assert "forward passes" not in again, "nothing is measured twice"
    assert not list((project / "results").rglob("other-*"))
    assert len(list((project / "results/worths/tables").iterdir())) == 4
    index = (project / "results/index.html").read_text()
    assert "other-trained" not in index and "squeezenet1_1-trained" in index
