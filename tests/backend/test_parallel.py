"""Loops on other processes: the same bytes, whatever happens to the processes."""

import os
import re
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import dask_kills
import numpy as np
import pytest
import torch
from pretended import pretended_game
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside.attribution.examine import examine
from iaside.backend import cluster, executors, parallel, sending
from iaside.backend.cluster import connect
from iaside.backend.device import own_device
from iaside.backend.processes import Processes
from iaside.game.exact import coalition_worths
from iaside.game.published import published_worths
from iaside.game.sampling import sampled_worths
from iaside.inputs.probe import probe
from iaside.robustness.responses import responses
from iaside.robustness.snr import perturbation_spectra
from iaside.spectral import band_masks
from iaside.tables import Condition
from iaside.training.plans import networks
from iaside.training.profiles import measure_plan
from iaside.training.training import train_plan

SIDE, M, N = 33, 3, 7
MASKS = band_masks(M, (SIDE, SIDE))


class Net(nn.Module):
    """A small classifier that writes down how many images it is shown, and where it is unpacked."""

    def __init__(self, log: Path, die: str = "never"):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)
        self.log, self.die, self.home = str(log), die, os.getpid()
        self.eval()

    def __setstate__(self, state):
        super().__setstate__(state)
        self.write(f"unpacked {os.getpid()}")

    def write(self, line):
        with open(self.log, "a") as file:
            file.write(f"{line}\n")

    def forward(self, x):
        if os.getpid() != self.home:
            self.write(f"shown {len(x)}")
            dead = Path(self.log).with_suffix(".dead")
            if self.die == "always" or (self.die == "once" and not dead.exists()):
                dead.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.conv(x).relu().mean((2, 3)))


class Log:
    def __init__(self, path):
        self.path = path

    def lines(self, word):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(word)]


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


@pytest.fixture(scope="module")
def one():
    with Processes(1) as workers:
        yield workers


@pytest.fixture(scope="module")
def local():
    with connect(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
        ) as here,
        connect(here) as workers,
    ):
        assert workers.workers == 2
        yield workers


@pytest.fixture(params=["local", pytest.param("dask", marks=pytest.mark.slow)])
def workers(request):
    return request.getfixturevalue(request.param)


slow_pools = [pytest.param(name, marks=pytest.mark.slow) for name in ("local", "dask")]


@pytest.fixture(params=["one", *slow_pools])
def any_workers(request):
    """To start each of several takes seconds, so that quick tests do with one."""
    return request.getfixturevalue(request.param)


def pictures():
    return torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def measure(net, **settings):
    settings = {"masks": MASKS, "batch_size": 4, "progress": False} | settings
    return coalition_worths(net, pictures(), torch.arange(N) % 2, **settings)


def twice(logits, labels):
    return 2 * logits[:, 0]


def same_bytes(tmp_path, a, b):
    for name, w in {"a": a, "b": b}.items():
        w.save(tmp_path / f"{name}.npz")
    return (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"value": ["margin", "embedding", "retrieval", twice]},
        {"absence": "replacement", "subset": [5, 0, 3]},
        {"absence": "mean", "batch_size": 20},  # two images a batch
        {"absence": "gaussian", "precision": "bfloat16"},
        {"masks": lambda x: torch.stack([x / 2, x / 2])},
    ],
    ids=["several values", "replacement", "mean", "gaussian", "own bands"],
)
@pytest.mark.slow
def test_the_table_has_the_same_bytes(settings, workers, log, tmp_path):
    net = Net(log.path)
    here, there = measure(net, **settings), measure(net, workers=workers, **settings)
    assert same_bytes(tmp_path, here, there) and here.forwards == there.forwards
    played = there.forwards - there.table.shape[1]  # the images themselves are shown here
    assert sum(log.lines("shown")) >= played, "it was the workers that played"


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_no_byte(workers, log, tmp_path):
    net = Net(log.path, die="once")
    there = measure(net, workers=workers, resume=tmp_path)
    assert log.path.with_suffix(".dead").exists()
    assert same_bytes(tmp_path, measure(net), there)


@pytest.mark.slow
def test_images_that_kill_every_worker_are_named(workers, log, monkeypatch):
    monkeypatch.setattr(executors, "MAX_TRIES", 1)
    if hasattr(workers, "client"):
        monkeypatch.setattr(workers.client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(RuntimeError, match=r"images \d to \d died \(1 of them\).* too little mem"):
        measure(Net(log.path, die="always"), workers=workers)


@pytest.mark.slow
def test_a_result_that_is_lost_with_its_worker_is_made_again(dask, log, monkeypatch, tmp_path):
    from distributed import Future

    result, asked = Future.result, []

    def lost(self, timeout=None):
        asked.append(timeout)
        if len(asked) in (1, 4):
            raise TimeoutError
        return result(self, timeout)

    monkeypatch.setattr(Future, "result", lost)
    net = Net(log.path)
    there = measure(net, workers=dask)
    assert None not in asked and len(asked) == N + 2
    assert same_bytes(tmp_path, measure(net), there)


@pytest.mark.slow
def test_what_is_lost_again_and_again_is_named(dask, log, monkeypatch):
    from distributed import Future

    def lost(self, timeout=None):
        raise TimeoutError

    monkeypatch.setattr(Future, "result", lost)
    with pytest.raises(RuntimeError, match=r"images \d to \d died \(5 of them\)"):
        measure(Net(log.path), workers=dask)


@pytest.mark.slow
def test_workers_that_die_while_they_are_sent_something_are_sent_it_again(dask, log, monkeypatch):
    register, tries = dask.client.register_plugin, []

    def closed(*given):
        tries.append(1)
        if len(tries) == 1:
            raise OSError("Stream is closed")
        return register(*given)

    monkeypatch.setattr(dask.client, "register_plugin", closed)
    net = Net(log.path, die="")  # one that they do not have
    with torch.no_grad():
        net.head.bias += 3
    assert np.array_equal(measure(net, workers=dask).table, measure(net).table)


def test_workers_that_are_gone_for_good_are_not_waited_for_for_ever(log, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "NO_WORKER_TIMEOUT", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as nobody:
        with connect(nobody) as alone:
            monkeypatch.setattr(executors, "TIMEOUT", 0.5)
            with pytest.raises(RuntimeError, match="there has been no worker; .* start workers"):
                measure(Net(log.path), workers=alone)


@pytest.mark.slow
def test_kills_of_all_workers_change_nothing_and_hang_nowhere():
    pytest.importorskip("distributed")
    for found in dask_kills.kills(10):
        assert found["same"] and found["seconds"] < 100, found


@pytest.mark.slow
def test_a_dead_scheduler_is_said_in_one_line():
    pytest.importorskip("distributed")
    said = dask_kills.kill_scheduler(0.5).strip().splitlines()
    assert said[-1].startswith("RuntimeError: the Dask scheduler is gone; what was measured is")
    assert not any("distributed" in line and "ERROR" in line for line in said), said
    assert not any("asyncio" in line or "Task" in line for line in said), said


class Interrupted(executors.Here):
    """Workers whose master stops after three jobs."""

    def __init__(self, workers):
        super().__init__()
        self.them = workers

    def each(self, *args, **named):
        for k, found in enumerate(self.them.each(*args, **named)):
            if k == 3 * 2:  # batches
                raise KeyboardInterrupt
            yield found


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(workers, log, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measure(Net(tmp_path / "stopped"), resume=tmp_path, workers=Interrupted(workers))
    net = Net(log.path)  # the same network: what was running may still be written to the other log
    w = measure(net, resume=tmp_path, workers=workers)
    assert w.forwards == sum(log.lines("shown")) == (N - 3) * (2**M - 1)
    assert measure(net, resume=tmp_path).forwards == 0, "nor when no workers are there"
    assert same_bytes(tmp_path, measure(net), w)


@pytest.mark.slow
def test_a_model_is_sent_to_a_worker_once(workers, log):
    net = Net(log.path)
    for absence in ("zero", "mean"):
        measure(net, workers=workers, absence=absence)
    there = log.lines("unpacked")
    assert len(there) == len(set(there)) <= 2
    with torch.no_grad():
        net.head.bias += 1
    assert np.array_equal(measure(net, workers=workers).table, measure(net).table)
    assert len(log.lines("unpacked")) > len(there), "another one is"


def test_functions_that_agree_on_the_first_image_are_not_confused(any_workers):
    constant = lambda x: torch.zeros(len(x), 2)  # noqa: E731
    brightest = lambda x: (x.mean((1, 2, 3)) > 0.505)[:, None] * torch.tensor([1.0, 0.0])  # noqa: E731
    for model in (constant, brightest):
        assert np.array_equal(measure(model, workers=any_workers).table, measure(model).table)


def test_an_error_of_a_worker_is_the_one_that_is_seen_here(any_workers):
    mean = float(pictures()[5].mean())

    def breaks_at_the_sixth(x):
        means = x.mean((1, 2, 3))
        broken = (means - mean).abs() < 1e-6
        return torch.stack([means.masked_fill(broken, torch.nan), means], 1)

    with pytest.raises(ValueError, match="nan or infinite worths for images 5; check"):
        measure(breaks_at_the_sixth, workers=any_workers)
    assert measure(lambda x: x.mean((2, 3)), workers=any_workers).forwards == N * 2**M, (
        "and it goes on"
    )


def test_the_cost_is_said_before_with_who_shares_it(any_workers, log, capsys):
    measure(Net(log.path), workers=any_workers, progress=True)
    said = capsys.readouterr().err
    assert "8 coalitions x 7 images = 56 forward passes" in said
    assert f"here, shared by {any_workers.workers} worker" in said and "56/56" in said


def _games(workers):
    net = Net(Path(os.devnull))
    how = {"batch_size": 4, "progress": False, "workers": workers}
    x, y = pictures(), torch.arange(N) % 2
    for settings in ({"budget": 60}, {"tolerance": 1e-4}, {"budget": 84, "value": "embedding"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield sampled_worths(net, x, y, band_masks(5, (SIDE, SIDE)), **settings, **how)


def _responses(workers):
    conditions = [
        Condition("white_noise", 0.1),
        Condition("white_noise", 0.1, 1),
        Condition("fourier", 2.0, 1),
        Condition("pgd", 0.03),
        Condition("contrast", 1.0),
    ]
    for cache in (None, tempfile.mkdtemp()):
        yield responses(
            Net(Path(os.devnull)),
            pictures(),
            torch.arange(N) % 2,
            conditions,
            MASKS,
            {"pgd": [1, 4]},
            heat_grid=3,
            cache=cache,
            workers=workers,
            progress=False,
        )


def _examination(workers):
    net, twin = Net(Path(os.devnull)), Net(Path(os.devnull))
    with torch.no_grad():
        twin.head.weight.neg_()
    attack = {"method": "fampe", "steps": 2, "samples": 2}
    variants = {
        "a": {"method": "saliency"},
        "b": attack,
        "c": attack | {"product": "update"},
        "d": {"method": "pgd", "eps": 0.1},
        "e": {"method": "clean"},
    }
    yield examine(
        net,
        pictures(),
        torch.arange(N) % 2,
        variants,
        {"net": net},
        twin,
        {"c": 3},
        n_twin=2,
        n_shown=1,
        steps=4,
        infidelity_samples=0,
        workers=workers,
        progress=False,
    )


def _arrays(found):
    """Everything that was measured, as bytes."""
    if isinstance(found, np.ndarray):
        return found.tobytes()
    with tempfile.TemporaryDirectory() as folder:
        found.save(f"{folder}/it.npz")
        return Path(folder, "it.npz").read_bytes()


def _others(workers):
    net, x, y = Net(Path(os.devnull)), pictures(), torch.arange(N) % 2
    yield published_worths(net, x, y, M, workers=workers)
    sources = {
        "noise": (range(N), {"name": "white_noise", "energy": 0.1}),
        "fgsm": ([2, 0], {"name": "fgsm", "eps": 0.1}),
    }
    yield perturbation_spectra(
        probe(net, x, y), x, y, sources, 0.1, MASKS, 0, {}, progress=False, workers=workers
    )


@pytest.mark.parametrize("loop", [_games, _responses, _examination, _others])
@pytest.mark.slow
def test_every_loop_gives_the_same_bytes_whoever_does_it(loop, local):
    asked = []
    local_each = local.each

    class Noted(executors.Here):
        workers = 2

        def each(self, *args, **named):
            asked.append(1)
            return local_each(*args, **named)

    here = [_arrays(found) for found in loop(1)]
    assert [_arrays(found) for found in loop(Noted())] == here and asked, "and it is asked"


@pytest.mark.slow  # tests/training/test_training.py trains with two
def test_trainings_and_profiles_give_the_same_bytes_whoever_does_them(local, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "set.npz",
        images=rng.integers(0, 255, (40, 32, 32, 3), np.uint8),
        labels=np.arange(40) % 2,
    )
    shared = {
        "images": str(tmp_path / "set.npz"),
        "classes": None,
        "side": 32,
        "held_out": 0.25,
        "epochs": 2,
        "batch": 8,
        "lr": 0.01,
        "schedule": "constant",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "flip": False,
        "eps": 8.0,
        "steps": 2,
        "warm_up": 0,
        "precision": "float32",
    }
    plan = networks({"p": {"architecture": "small_cnn", "seed": [0, 1], "epochs": 1}})
    settings = {
        "seed": 0,
        "n_images": 4,
        "n_attack": 2,
        "n_bands": 3,
        "metric": "linf",
        "severities": [1],
        "noise_sigma": [0.1],
        "attack_eps": [0.1],
        "strong_eps": [],
        "band_noise": 0.1,
        "band_eps": 0.05,
        "precision": "float32",
        "engine": "torch",
        "batch_size": 8,
    }
    made = []
    for workers in (1, local):
        at = tmp_path / str(len(made))
        train_plan(
            plan, shared, at / "nets", at / "p" / "t", device="cpu", workers=workers, progress=False
        )
        measure_plan(
            list(plan),
            at / "nets",
            at / "out",
            at / "p" / "m",
            settings,
            "cpu",
            workers,
            progress=False,
        )
        files = [*(at / "nets").rglob("*.*"), *(at / "out").rglob("*.*")]
        made.append({path.relative_to(at): path.read_bytes() for path in files if path.is_file()})
    assert made[0] == made[1] and len(made[0]) > 10


class Locked(nn.Module):
    """What pickle does not take."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x):
        return x.mean((2, 3)) * 10


def test_what_cannot_be_sent_is_measured_here_and_said(one, capsys):
    net = Locked().eval()
    assert np.array_equal(measure(net, workers=one).table, measure(net, workers=1).table)
    said = capsys.readouterr().err.strip()
    assert re.fullmatch(
        r"this cannot be sent to another process \(TypeError: .*lock.*\): computing in this "
        "process, in one thread",
        said,
    )


def test_what_is_sent_arrives_as_it_was(tmp_path):
    """Values, types and strides: how a convolution computes may depend on them."""
    whole = torch.rand(6, 3, 40, 40)
    content = {
        "whole": whole,
        "channels last": whole.to(memory_format=torch.channels_last),
        "depthwise": torch.rand(640, 1, 3, 3).to(memory_format=torch.channels_last),
        "slice": whole[1:3],
        "holes": whole[:, :, ::2],
        "expanded": torch.rand(1, 3, 1, 1).expand(8, 3, 9, 9),
        "few": torch.arange(3),
        "none": torch.empty(0, 2),
        "number": torch.tensor(2.5),
        "half": torch.rand(5000).bfloat16(),
        "array": np.arange(5000.0),
        "net": Net(tmp_path / "log"),
    }
    content["again"] = content["net"]
    head, models = sending.packed(content)
    assert len(models) == 1 and len(head.head) < 8000, "large arrays lie beside"
    files = {token: tmp_path / token for token in (*models, "it")}
    for token, one in (models | {"it": head}).items():
        sending.write_packed(files[token], one)
    found = sending.Mapped("it", "cpu", files).content()
    assert found["net"] is found["again"] and not found["net"].training
    assert torch.equal(found["net"].conv.weight, content["net"].conv.weight)
    assert np.array_equal(found["array"], content["array"])
    for name, one in content.items():
        if isinstance(one, torch.Tensor):
            assert torch.equal(found[name], one) and found[name].dtype == one.dtype, name
            if name not in ("holes", "expanded"):
                assert found[name].stride() == one.stride(), name
    found["whole"].add_(1)
    assert torch.equal(sending.Mapped("it", "cpu", files)._unpack("it")["whole"], whole)


def jobs_of(common, k, report):
    if k >= 3:
        raise ValueError("no third")
    report(k, torch.get_num_threads())
    for part in range(2):
        yield common[0] * k + part


def test_jobs_are_done_as_well_here():
    said, threads = [], torch.get_num_threads()
    report = lambda *row: said.append(row)  # noqa: E731
    here = parallel.executor(1)
    found = list(here.each(jobs_of, [10], [(1,), (2,)], report=report))
    assert found == [((1,), 10), ((1,), 11), ((2,), 20), ((2,), 21)]
    assert said == [(1, 1), (2, 1)] and torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="no third"):
        list(here.each(jobs_of, [10], [(3,)], report=report))
    assert torch.get_num_threads() == threads


def test_after_an_error_what_runs_is_kept_and_nothing_more_is_begun(any_workers):
    said, kept, asked = [], [], iter(range(100))
    with pytest.raises(ValueError, match="no third"):
        for (k,), _ in any_workers.each(
            jobs_of, [10], ((k,) for k in asked), report=lambda *row: said.append(row)
        ):
            kept.append(k)
    assert sorted(kept) == [0, 0, 1, 1, 2, 2] and next(asked) <= 3 + any_workers.most()
    assert sorted(said) == [(k, 1) for k in range(3)], "each in one thread"


def test_warnings_of_workers_are_those_of_the_caller(any_workers):
    with pytest.warns(RuntimeWarning, match="^mind job 1$"):
        list(any_workers.each(_warns, None, [(1,)]))


def _warns(common, k):
    warnings.warn(f"mind job {k}", RuntimeWarning, stacklevel=1)


def test_who_cannot_be_asked_is_said(monkeypatch):
    for word in ("lokal", 0, -1, 1.5, True, "0"):
        with pytest.raises(ValueError, match="must be a number of processes from 1, 'local'"):
            parallel.executor(word)
    monkeypatch.setenv(executors.SETTING, "two")
    with pytest.raises(ValueError, match="IASIDE_WORKERS=two must be a number"):
        parallel.executor()
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "TIMEOUT", 0.2)
    with pytest.raises(ValueError, match="must be a number, 'local' .* or the address of a Dask"):
        with connect("lokal"):
            pass
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        with connect("tcp://127.0.0.1:9"):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'iaside\[cluster\]'"):
        with connect("tcp://127.0.0.1:9"):
            pass


def test_another_torch_or_another_loop_on_a_worker_is_refused(monkeypatch):
    distributed = pytest.importorskip("distributed")
    plugin = SimpleNamespace(head=b"", beside=[], torch="1.0")
    worker = SimpleNamespace(address="tcp://there:1", plugins={"model": plugin})
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    shared = cluster.Sent("a", "cpu", {"a": "model", "b": "gone"})
    with pytest.raises(RuntimeError, match="tcp://there:1 has torch .*, and torch 1.0 asks it"):
        shared.read("a")
    with pytest.raises(RuntimeError, match="something else: a client runs one loop at a time"):
        shared.read("b")


@pytest.mark.slow
def test_every_worker_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    """Without a GPU: on two pretended ones, by turns."""
    with monkeypatch.context() as two:
        gpu = torch.device("cuda")
        two.setattr("torch.accelerator.current_accelerator", lambda check_available=False: gpu)
        two.setattr("torch.accelerator.device_count", lambda: 2)
        assert parallel.places("cuda") == 2 and parallel.places("cpu") >= 1
        assert isinstance(parallel.executor(1, "cuda"), executors.Here)
        assert parallel.executor(3, "cuda").workers == 2, "one process for each GPU, at most"
        assert parallel.executor("local", "cuda").workers == 2
        assert own_device("cuda:1") == torch.device("cuda:1"), "who is no worker"
        devices = []
        for name in (0, 1, "2", "SLURMCluster-3"):
            two.setattr("iaside.backend.device._number", name)
            devices.append(own_device("cuda"))
        assert devices == [torch.device("cuda", k) for k in (0, 1, 0, 0)]
        assert own_device("cpu") == torch.device("cpu")
        two.setattr("iaside.backend.device._number", 1)
        with pytest.raises(RuntimeError, match="on mps .* worker 1 has no such device"):
            own_device("mps")
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, index = torch.rand(2, 3, SIDE, SIDE), torch.arange(2)
        for device in devices[:2]:
            net = nn.BatchNorm2d(3, affine=False).eval().to(device)
            game = pretended_game(monkeypatch, net, x, index, MASKS, absence="mean", device=device)
            batch = game.bands(slice(0, 2)).coalitions(torch.ones(4, M))
            assert batch.device == game.targets(slice(0, 2)).device == device
            assert net.running_mean.device == game.outputs(batch).device == device
