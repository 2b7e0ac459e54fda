"""What is measured again is the same to the byte."""

import shutil

from smoke import dvc


def test_equal_runs_are_equal_bytes(smoke_project):
    stages = ["robustness@squeezenet1_1", "attributions@squeezenet1_1"]
    stages += ["training@clean", "profiles@clean"]
    dvc(smoke_project, "repro", *stages)
    kinds = (".npz", ".json", ".csv", ".safetensors")
    small = [p for p in (smoke_project / "results").rglob("*") if p.suffix in kinds]
    before = {p: p.read_bytes() for p in small}
    shutil.rmtree(smoke_project / ".partial", ignore_errors=True)
    # what is finished would not be trained again
    shutil.rmtree(smoke_project / "results/training/networks/clean")
    dvc(smoke_project, "repro", "-f", "-s", *stages)
    assert len(before) > 8
    for path, content in before.items():
        assert path.read_bytes() == content, path
