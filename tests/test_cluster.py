"""Games played by other processes: the same bytes, whatever happens to the processes."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import dask_kills
import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside import cluster
from iaside.spectral import band_masks
from iaside.worths import Setup, _Scorer, coalition_worths

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
def client():
    pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_places", lambda device: 2)
        with cluster.connect("local") as client:
            assert client.threads == 2
            yield client


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
        {"value": ["margin", "embedding", twice]},
        {"absence": "replacement", "subset": [5, 0, 3]},
        {"absence": "mean", "batch_size": 20},  # two images a batch
        {"absence": "gaussian", "precision": "bfloat16"},
        {"masks": lambda x: torch.stack([x / 2, x / 2])},
    ],
    ids=["several values", "replacement", "mean", "gaussian", "own bands"],
)
def test_the_table_has_the_same_bytes(settings, client, log, tmp_path):
    net = Net(log.path)
    here, there = measure(net, **settings), measure(net, client=client, **settings)
    assert same_bytes(tmp_path, here, there) and here.forwards == there.forwards
    played = there.forwards - there.table.shape[1]  # the images themselves are shown here
    assert sum(log.lines("shown")) >= played, "it was the workers that played"


def test_a_worker_killed_in_the_middle_changes_no_byte(client, log, tmp_path):
    net = Net(log.path, die="once")
    there = measure(net, client=client, resume=tmp_path)
    assert log.path.with_suffix(".dead").exists()
    assert same_bytes(tmp_path, measure(net), there)


def test_images_that_kill_every_worker_are_named(client, log, monkeypatch):
    monkeypatch.setattr(client.client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(RuntimeError, match=r"images \d to \d died \(1 of them\).* too little mem"):
        measure(Net(log.path, die="always"), client=client)


def test_a_result_that_is_lost_with_its_worker_is_made_again(client, log, monkeypatch, tmp_path):
    from distributed import Future

    result, asked = Future.result, []

    def lost(self, timeout=None):
        asked.append(timeout)
        if len(asked) in (1, 4):
            raise TimeoutError
        return result(self, timeout)

    monkeypatch.setattr(Future, "result", lost)
    net = Net(log.path)
    there = measure(net, client=client)
    assert None not in asked and len(asked) == N + 2
    assert same_bytes(tmp_path, measure(net), there)


def test_what_is_lost_again_and_again_is_named(client, log, monkeypatch):
    from distributed import Future

    def lost(self, timeout=None):
        raise TimeoutError

    monkeypatch.setattr(Future, "result", lost)
    with pytest.raises(RuntimeError, match=r"images \d to \d died \(5 of them\)"):
        measure(Net(log.path), client=client)


def test_workers_that_die_while_they_are_sent_something_are_sent_it_again(client, log, monkeypatch):
    register, tries = client.client.register_plugin, []

    def closed(*given):
        tries.append(1)
        if len(tries) == 1:
            raise OSError("Stream is closed")
        return register(*given)

    monkeypatch.setattr(client.client, "register_plugin", closed)
    net = Net(log.path, die="")  # one that they do not have
    with torch.no_grad():
        net.head.bias += 3
    assert np.array_equal(measure(net, client=client).table, measure(net).table)


def test_workers_that_are_gone_for_good_are_not_waited_for_for_ever(log, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "ALONE", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as nobody:
        with cluster.connect(nobody) as alone:
            monkeypatch.setattr(cluster, "PATIENCE", 0.5)
            with pytest.raises(RuntimeError, match="there has been no worker; .* start workers"):
                measure(Net(log.path), client=alone)


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


class Interrupted:
    """A client whose master stops after three tasks."""

    def __init__(self, client):
        self.client = client

    def play(self, *args):
        for k, played in enumerate(self.client.play(*args)):
            if k == 3:
                raise KeyboardInterrupt
            yield played


def test_what_was_measured_is_not_measured_again(client, log, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measure(Net(tmp_path / "stopped"), resume=tmp_path, client=Interrupted(client))
    net = Net(log.path)  # the same network: what was running may still be written to the other log
    w = measure(net, resume=tmp_path, client=client)
    assert w.forwards == sum(log.lines("shown")) == (N - 3) * (2**M - 1)
    assert measure(net, resume=tmp_path).forwards == 0, "nor when no client is there"
    assert same_bytes(tmp_path, measure(net), w)


def test_a_model_is_sent_to_a_worker_once(client, log):
    net = Net(log.path)
    for absence in ("zero", "mean"):
        measure(net, client=client, absence=absence)
    there = log.lines("unpacked")
    assert len(there) == len(set(there)) <= 2
    with torch.no_grad():
        net.head.bias += 1
    assert np.array_equal(measure(net, client=client).table, measure(net).table)
    assert len(log.lines("unpacked")) > len(there), "another one is"


def test_functions_that_agree_on_the_first_image_are_not_confused(client):
    constant = lambda x: torch.zeros(len(x), 2)  # noqa: E731
    brightest = lambda x: (x.mean((1, 2, 3)) > 0.505)[:, None] * torch.tensor([1.0, 0.0])  # noqa: E731
    for model in (constant, brightest):
        assert np.array_equal(measure(model, client=client).table, measure(model).table)


def test_an_error_of_a_worker_is_the_one_that_is_seen_here(client):
    mean = float(pictures()[5].mean())

    def breaks_at_the_sixth(x):
        means = x.mean((1, 2, 3))
        broken = (means - mean).abs() < 1e-6
        return torch.stack([means.masked_fill(broken, torch.nan), means], 1)

    with pytest.raises(ValueError, match="nan or infinite worths for images 5 to 5; check"):
        measure(breaks_at_the_sixth, client=client)
    assert measure(lambda x: x.mean((2, 3)), client=client).forwards == N * 2**M, "and it goes on"


def test_the_cost_is_said_before_with_who_shares_it(client, log, capsys):
    measure(Net(log.path), client=client, progress=True)
    said = capsys.readouterr().err
    assert "8 coalitions x 7 images = 56 forward passes" in said
    assert "here, shared by 2 threads of workers" in said and "56/56" in said


def test_no_cluster_is_no_client_and_a_wrong_one_is_said(monkeypatch):
    with cluster.connect(None) as client:
        assert client is None
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    for word, error, match in [
        ("lokal", ValueError, "must be null .* 'local' .* or the address of a Dask scheduler"),
        ("tcp://127.0.0.1:9", ConnectionError, "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ]:
        with pytest.raises(error, match=match), cluster.connect(word):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'iaside\[cluster\]'"):
        with cluster.connect("local"):
            pass


def test_another_torch_or_another_game_on_a_worker_is_refused():
    plugin = SimpleNamespace(packed=b"", torch="1.0", token="this")
    worker = SimpleNamespace(address="tcp://there:1", plugins={"model": plugin})
    with pytest.raises(RuntimeError, match="tcp://there:1 has torch .*, and torch 1.0 asks it"):
        cluster._received(worker, "model", "this")
    for name, token in (("model", "that"), ("game", "this")):
        with pytest.raises(RuntimeError, match="another game: a client plays one at a time"):
            cluster._received(worker, name, token)


def test_every_worker_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    """Without a GPU: on two pretended ones, by turns."""
    monkeypatch.setattr("iaside.probe.check_shown", lambda x: None)  # looks at values
    with monkeypatch.context() as two:
        gpu = torch.device("cuda")
        two.setattr("torch.accelerator.current_accelerator", lambda check_available=False: gpu)
        two.setattr("torch.accelerator.device_count", lambda: 2)
        assert cluster._places("auto") == 2 and cluster._places("cpu") >= 1
        devices = [cluster.own_device("cuda", name) for name in (0, 1, "2", "SLURMCluster-3")]
        assert devices == [torch.device("cuda", k) for k in (0, 1, 0, 0)]
        assert cluster.own_device("cpu", 1) == torch.device("cpu")
        with pytest.raises(RuntimeError, match="on mps .* worker 1 has no such device"):
            cluster.own_device("mps", 1)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, index = torch.rand(2, 3, SIDE, SIDE), torch.arange(2)
        for device in devices[:2]:
            net = cluster.placed(nn.BatchNorm2d(3, affine=False).eval(), device)
            scorer = _Scorer(net, {}, device, "float32")
            setup = Setup(x, index, MASKS, index, x.__getitem__, scorer, 4, {"n_bands": M})
            batch = setup.game(slice(0, 2)).coalitions(torch.ones(4, M))
            assert batch.device == setup.targets(slice(0, 2)).device == device
            assert net.running_mean.device == scorer.outputs(batch).device == device
