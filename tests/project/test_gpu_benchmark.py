"""benchmarks/gpu.py, which needs a GPU, as far as it runs without one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/gpu.py"


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so_and_ends_well(gpu, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 0
    said, last = capsys.readouterr().out.splitlines()
    assert said == "There is no CUDA device here: nothing was checked."
    assert json.loads(last) == {"cuda": False, "checked": False}


def test_what_does_not_hold_is_said(gpu, capsys):
    check = gpu.Checks()
    check("a", 1.5, True)
    check("b", 0.5, False, "(1 wanted)")
    assert check.wrong == ["b"] and check.found == {"a": 1.5, "b": 0.5}
    assert "WRONG  b: 0.5 (1 wanted)" in capsys.readouterr().out


@pytest.mark.slow
def test_numbers_that_differ_from_the_cpus_are_wrong(gpu, monkeypatch):
    """A device that is off by 2e-3 nats in one place, and not the same twice."""
    import torch

    from iaside.inputs.classifier import untrained

    real, calls = gpu.coalition_worths, []

    def off(*args, **how):
        worths = real(*args, **how)
        calls.append(worths)
        if len(calls) > 1:
            worths.table[2, 0] += 2e-3 * len(calls)
        return worths

    monkeypatch.setattr(gpu, "coalition_worths", off)
    check = gpu.Checks()
    gpu.check_numbers(check, "net", untrained("resnet8", 10, 32, 0), torch.device("cpu"), 3)
    assert check.wrong == ["net exact nats", "net games twice the same"]


@pytest.mark.slow
def test_on_tiny_networks_all_of_it_holds_and_few_packages_are_needed():
    """Hidden is what a machine with torch, torchvision, timm, NumPy, SciPy and pandas may lack."""
    names = {
        "matplotlib",
        "seaborn",
        "sklearn",
        "captum",
        "torchattacks",
        "imagecorruptions",
        "ruamel",
        "dvc",
        "papermill",
        "nbformat",
        "nbconvert",
        "IPython",
        "dask",
        "distributed",
        "skimage",
        "cv2",
        "numba",
    }
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({names})); "
        f"sys.argv = ['gpu.py', '--cpu']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["ok"] and last["checked"] and not last["cuda"]
    for name in (
        "resnet8 exact nats",
        "test_vit sampled nats",
        "test_vit bfloat16 of bare",
        "training bfloat16 loss",
        "training float32 twice the same",
    ):
        assert name in last
