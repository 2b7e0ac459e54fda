"""What is killed or fails in the middle of the pipeline goes on where it was; what cannot work is
said before."""

import json
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
from smoke import dvc, edit, environment, run

from iaside.backend.resume import Table


def test_a_killed_repro_loses_no_forward_pass(project):
    edit(project, n_bands=6, n_images=6, batch_size=1, bands="[18,", budget=1000)
    command = [sys.executable, "-m", "dvc", "repro", "worths@squeezenet1_1"]
    log = (project / "killed.log").open("w")
    process = subprocess.Popen(
        command, cwd=project, env=environment(project), stdout=log, stderr=log
    )
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
    run(project, sys.executable, "-m", "iaside.study.run", "--use", "default", code=2)


def settled(project):
    """The worths measured when nothing is added any more: the kernel dies a little later."""
    before = -1
    while (now := measured(project)) != before:
        before = now
        time.sleep(2)
    return now


def measured(project):
    files = list(project.glob(".partial/worths-*/worths-*/*.rows"))
    if not files:
        return 0
    shape = json.loads(files[0].read_bytes().partition(b"\n")[0])["shape"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a record may be in the writing
        return int(np.isfinite(Table(files[0].parent, shape).values).all(axis=0).sum())


def test_a_late_failure_loses_no_forward_pass(project):
    path = project / "notebooks/20_worths.ipynb"
    whole = path.read_text()
    edit(project, n_images=3, n_attack=3, budget=1000)
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
