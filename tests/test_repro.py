"""The whole pipeline at smoke size, in a copy: run, killed, run again, switched and back."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".build", ".partial", "cache", "tmp", "config.local", "results", "images",
    "weights", "imagenet", "__pycache__", ".pytest_cache", ".ruff_cache", "*.egg-info", "dvc.lock",
)


@pytest.fixture(scope="module")
def project(data, tmp_path_factory):
    """A copy of the project with its data, set to the smoke study."""
    root = tmp_path_factory.mktemp("project") / "iaside"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    for folder in ("weights", "images"):
        shutil.copytree(Path(data) / folder, root / "data" / folder)
    run(root, sys.executable, "-m", "dvc", "config", "--local", "core.no_scm", "true")
    run(root, sys.executable, "-m", "iaside.run", "--use", "smoke")
    return root


@pytest.fixture(autouse=True)
def smoke_again(project):
    yield
    shutil.copy(project / "studies/smoke.yaml", project / "params.yaml")


def environment(root):
    """Without SHELL, as under cron: DVC then takes sh, which may stay between it and a stage."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if name != "SHELL"}
    return plain | {"PATH": path, "PYTHONPATH": str(root)}


def run(root, *command, code=0):
    done = subprocess.run(command, cwd=root, env=environment(root), text=True,
                          capture_output=True, timeout=300)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    return text


def dvc(root, *words, code=0):
    return run(root, sys.executable, "-m", "dvc", *words, code=code)


def edit(root, **changes):
    text = (root / "params.yaml").read_text()
    for name, value in changes.items():
        text = re.sub(rf"(?m)^(  {name}:) *\S+", rf"\1 {value}", text)
    (root / "params.yaml").write_text(text)


def test_a_killed_repro_loses_no_forward_pass(project):
    edit(project, n_bands=6, n_images=6, batch_size=1)
    command = [sys.executable, "-m", "dvc", "repro", "worths@squeezenet1_1"]
    log = (project / "killed.log").open("w")
    process = subprocess.Popen(command, cwd=project, env=environment(project), stdout=log,
                               stderr=log)
    deadline, done = time.monotonic() + 120, 0
    while done < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
        assert process.poll() is None, (project / "killed.log").read_text()
        done = measured(project)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = settled(project)
    assert 10 <= done < 384, "it was to be killed in the middle"
    assert not list((project / "results").rglob("*.npz")), "nothing counts as done"

    text = dvc(project, "repro", "worths@squeezenet1_1")
    assert f"64 coalitions x 6 images = 384 forward passes, {done} already done" in text
    assert re.search(rf"\b{384 - done}/{384 - done}\b", text), "only the missing ones were made"
    with np.load(project / "results/worths/tables/squeezenet1_1-trained.npz") as table:
        assert np.isfinite(table["log_likelihood"]).all()
    assert not (project / ".partial/worths-squeezenet1_1-trained").exists(), "nothing is left"
    run(project, sys.executable, "-m", "iaside.run", "--use", "default", code=2)


def settled(project):
    """The worths measured when nothing is added any more: the kernel dies a little later."""
    before = -1
    while (now := measured(project)) != before:
        before = now
        time.sleep(2)
    return now


def measured(project):
    files = list(project.glob(".partial/worths-*/worths-*.npy"))
    return int(np.isfinite(np.load(files[0])).all(axis=0).sum()) if files else 0


def test_everything_runs_at_smoke_size_and_a_second_run_does_nothing(project):
    dvc(project, "repro")
    for noun in ("bands", "snr_report", "importance", "correlation", "architecture", "match",
                 "choices_report", "convergence_report", "claims"):
        assert (project / f"results/{noun}/report.html").stat().st_size > 10_000
        assert json.loads((project / f"results/{noun}/claims.json").read_text())
    index = (project / "results/index.html").read_text()
    assert "importance/report.html" in index and "squeezenet1_1-trained" in index
    assert "up to date" in dvc(project, "status")
    start = time.monotonic()
    assert "Data and pipelines are up to date" in dvc(project, "repro")
    assert time.monotonic() - start < 10
    for path in (project / "results").rglob("*.html"):
        assert str(project) not in path.read_text() and "https://" not in path.read_text()


def test_equal_runs_are_equal_bytes(project):
    dvc(project, "repro")
    small = [p for p in (project / "results").rglob("*") if p.suffix in (".npz", ".json")]
    before = {p: p.read_bytes() for p in small}
    shutil.rmtree(project / ".partial", ignore_errors=True)
    measuring = [f"{stage}@squeezenet1_1" for stage in
                 ("snr", "worths", "worths_controls", "robustness", "choices",
                  "convergence")]
    dvc(project, "repro", "-f", "-s", *measuring, "bands", "importance", "correlation")
    assert len(before) > 8
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_a_colour_measures_nothing_and_a_band_measures_again(project):
    with (project / "iaside/plots.py").open("a") as file:
        file.write("\n# another colour\n")
    status = dvc(project, "status")
    assert "importance" in status and "worths@" not in status and "worths_" not in status
    assert "convergence_report" in status and "convergence@" not in status
    assert "choices_report" in status and "choices@" not in status
    shutil.copy(ROOT / "iaside/plots.py", project / "iaside/plots.py")
    edit(project, n_control=1)
    status = dvc(project, "status")
    assert "worths_controls@" in status and "worths@" not in status
    edit(project, n_bands=2)
    assert "worths@" in dvc(project, "status")
    shutil.copy(project / "studies/smoke.yaml", project / "params.yaml")
    edit(project, device="cpu")
    assert "up to date" in dvc(project, "status"), "runtime: belongs to no stage"


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


def test_bfloat16_at_a_measured_batch_size_is_equal_bytes_too(project):
    edit(project, precision="bfloat16", batch_size="null")
    table = project / "results/worths/tables/squeezenet1_1-trained.npz"
    dvc(project, "repro", "worths@squeezenet1_1")
    before = table.read_bytes()
    dvc(project, "repro", "-f", "-s", "worths@squeezenet1_1")
    assert table.read_bytes() == before


def test_a_late_failure_loses_no_forward_pass(project):
    path = project / "notebooks/20_worths.ipynb"
    whole = path.read_text()
    edit(project, n_images=3)
    notebook = json.loads(whole)
    notebook["cells"][-1]["source"] = ["raise OSError('disk full')"]
    path.write_text(json.dumps(notebook))
    assert "disk full" in dvc(project, "repro", "worths@squeezenet1_1", code=255)
    path.write_text(whole)
    assert "24 forward passes" not in dvc(project, "repro", "worths@squeezenet1_1")


def test_a_wrong_name_in_params_stops_before_anything_runs(project):
    (project / "params.yaml").write_text(
        (project / "params.yaml").read_text().replace("  mosaic_bands:", "  mosiac_bands:")
    )
    text = dvc(project, "repro", "bands", code=255)
    assert "mosiac_bands" in text and "mosaic_bands" in text


def test_a_missing_image_folder_is_said_at_once(project):
    edit(project, images="data/imagenet/val")
    start = time.monotonic()
    text = dvc(project, "repro", "data", code=255)
    assert "data/imagenet/val" in text and "one folder per class" in text
    assert time.monotonic() - start < 20
