"""Arithmetic that is what it says, batch sizes close to the best, memory that is kept."""

import inspect
import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import iaside as ia
from iaside.backend.batch import _measure_batch_size
from iaside.backend.device import pick_device
from iaside.backend.memory import GLIBC_TUNABLES
from iaside.backend.precision import arithmetic, check_precision
from iaside.backend.processes import Processes
from iaside.study.overlays import read_study


@pytest.mark.parametrize(
    "cost",  # seconds of a pass of n images
    [
        lambda n: 1e-3 * n,  # flat: any size is as good
        lambda n: 0.02 + 1e-4 * n,  # the larger the better
        lambda n: 0.01 + 1e-3 * n + 1e-4 * max(0, n - 8) ** 1.5,  # best at 8 or so
        lambda n: 3.0 * n,  # one image is slow enough
    ],
)
def test_the_batch_size_is_within_five_per_cent_of_the_best(cost):
    asked = []

    def seconds(batch):
        asked.append(len(batch))
        return cost(len(batch))

    size = _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8))
    best = min(cost(n) / n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256))
    assert cost(size) / size <= 1.05 * best
    assert max(asked) <= 256


def test_passes_that_are_held_up_do_not_decide_the_batch_size():
    chance = random.Random(0)

    def cost(n):
        return 2e-3 + 3e-3 * n

    def seconds(batch):
        return cost(len(batch)) * (1 + (chance.random() < 0.3))

    for _ in range(20):
        size = _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8))
        assert cost(size) / size < 1.2 * 3e-3, size


def test_a_calibration_does_not_try_what_does_not_pay():
    asked = []

    def seconds(batch):
        asked.append(len(batch))
        return 1e-3 * len(batch)

    assert _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8)) == 1
    assert max(asked) <= 4, "flat throughput: two sizes that gain nothing are enough"


def test_memory_that_runs_out_ends_the_search():
    def seconds(batch):
        if len(batch) > 8:
            raise torch.OutOfMemoryError
        return 0.1 / len(batch)

    assert _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8)) == 8


def test_arithmetic_is_autocast_or_none_and_what_was_comes_back():
    with torch.autocast("cpu", torch.bfloat16), arithmetic("float32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(KeyboardInterrupt), arithmetic("bfloat16", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
        raise KeyboardInterrupt
    assert not torch.is_autocast_enabled("cpu")


def test_no_number_depends_on_what_a_processor_can_do():
    for name in ("float32", "bfloat16"):
        check_precision(name)
    with pytest.raises(ValueError, match="precision='auto' is gone.* float32, or name bfloat16"):
        check_precision("auto")
    with pytest.raises(ValueError, match="precision='half' is not known"):
        check_precision("half")
    for public in (ia.Game, ia.responses, ia.published_worths):
        assert inspect.signature(public).parameters["precision"].default == "float32"
    for study in sorted((Path(__file__).parents[2] / "studies").glob("*.yaml")):
        sections = read_study(study).items()
        named = {n: s["precision"] for n, s in sections if isinstance(s, dict) and "precision" in s}
        trained = named.pop("training")  # what a network is, not a number that is measured of it
        assert set(named.values()) == {"float32"}, study
        assert trained == ("bfloat16" if study.stem == "paper-jafr" else "float32"), study


def test_a_device_by_name():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps", "xpu")


def test_a_device_that_is_not_here_is_refused_in_one_line(monkeypatch):
    for name in ("gpu", "meta", "cuda:99", 3):
        with pytest.raises(ValueError, match=f"device={name!r} is not here .*auto") as said:
            pick_device(name)
        assert "\n" not in str(said.value)

    def zeros(*a, device):
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(ValueError, match="'cuda' is not here .Torch not compiled with CUDA"):
        pick_device("cuda")


FAULTS = """
import resource, torch

def faults(rounds, mib=40):  # more than glibc keeps
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(mib * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(16)  # it takes some rounds until blocks come back in order
print(faults(16))
"""


def faults(**more):
    """Minor page faults of 16 passes: a page that is mapped anew costs one."""
    env = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"} | more
    run = [sys.executable, "-c", FAULTS]
    return int(subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
@pytest.mark.slow
def test_memory_of_a_pass_is_kept_for_the_next():
    assert faults(GLIBC_TUNABLES=GLIBC_TUNABLES) < faults() / 10


def getenv(common, name):
    return os.environ.get(name)


@pytest.mark.slow
def test_worker_processes_keep_memory_unless_told_otherwise(monkeypatch):
    for told, found in ((None, GLIBC_TUNABLES), ("glibc.malloc.arena_max=2",) * 2):
        if told is None:
            monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
        else:
            monkeypatch.setenv("GLIBC_TUNABLES", told)
        with Processes(1) as pool:
            (done,) = pool.each(getenv, None, [("GLIBC_TUNABLES",)])
        assert done[1] == found
