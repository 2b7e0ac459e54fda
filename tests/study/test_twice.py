"""What has been measured and trained once, measured and trained again."""

import shutil

import pytest
from smoke import dvc

FINISHED = True


@pytest.mark.slow
def test_equal_runs_are_equal_bytes(project):
    stages = ["robustness@squeezenet1_1", "attributions@squeezenet1_1"]
    stages += ["training@clean", "profiles@clean"]
    kinds = (".npz", ".json", ".csv", ".safetensors")
    folders = [project / "results" / stage.partition("@")[0] for stage in stages]
    small = [p for folder in folders for p in folder.rglob("*") if p.suffix in kinds]
    before = {p: p.read_bytes() for p in small}
    assert len(before) > 8
    shutil.rmtree(project / ".partial", ignore_errors=True)
    # what is finished would not be trained again
    shutil.rmtree(project / "results/training/networks/clean")
    assert dvc(project, "repro", "-f", "-s", *stages).count("Running stage") == len(stages)
    for path, content in before.items():
        assert path.read_bytes() == content, path
