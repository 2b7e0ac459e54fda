"""Networks and pictures of a url: downloaded, checked, converted, against a server of our own."""

import contextlib
import functools
import http.server
import json
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import building
import numpy as np
import packages
import pytest
import torch
from safetensors.torch import load_file
from smoke import ROOT
from torch import nn

from iaside.inputs import factories
from iaside.study.parameters import UsageError
from iaside.study.sections import check_paths

LONGER = 64 * 2**20  # bytes, of a file that does not end where it should
PARTS, FEW = ["x.npy", "y.npy", "t.csv"], "images/few.npz"
CNN_A = {"architecture": "cnn_a", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; a first part of the path says what goes wrong."""

    def do_GET(self):
        how, _, name = self.path[1:].rpartition("/")
        self.server.asked.append(name)
        if how == "moved":
            self.send_response(302)
            self.send_header("Location", f"file://{self.directory}/{name}")
            self.end_headers()
        elif how in ("cut", "stalls", "long", "named"):
            body = Path(self.directory, name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + LONGER * (how == "long")))
            self.send_header("Content-Disposition", "attachment; filename=../../../named.pth")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body[:99] if how in ("cut", "stalls") else body)
                for _ in range(LONGER // 2**16 if how == "long" else 0):
                    self.wfile.write(bytes(2**16))
                    self.server.more += 2**16
            if how == "stalls":
                self.server.stalled.set()
                self.server.go_on.wait(60)
        else:
            self.path = f"/{name}"
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    found = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    found.asked, found.stalled, found.go_on = [], threading.Event(), threading.Event()
    found.more = 0
    found.folder, found.url = folder, f"http://127.0.0.1:{found.server_port}"
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.go_on.set()
    found.shutdown()
    found.server_close()


def network(architecture, **args):
    """A network of the zoo with random weights and, where it has them, statistics."""
    torch.manual_seed(0)
    recipe = {"architecture": architecture, "num_classes": 10, "args": args}
    return factories.build(str(ROOT / "architectures/cifar10.py:build"), recipe).eval()


@pytest.fixture
def sources(tmp_path, server, fetch, monkeypatch):
    """A table with networks a and b on the server, each the state dict of a CNN-A, and pictures."""
    monkeypatch.setattr(fetch, "PROJECT", ROOT)
    table = {"packages": {}, "outputs": {}}
    for k, name in enumerate("ab"):
        theirs = nn.Sequential(
            *(m for m in network("cnn_a").modules() if isinstance(m, nn.Conv2d | nn.Linear))
        )
        with torch.no_grad():
            theirs[0].bias += k
        add(table, server, fetch, name, {"state_dict": [theirs.state_dict()]}, tmp_path)
    add_pictures(table, server, fetch, tmp_path)
    path = tmp_path / "sources.json"  # JSON is YAML

    def run(*names, into=tmp_path / "data", named=(), changes=None, becomes=None):
        changed = json.loads(json.dumps(table))
        changed["packages"]["a.pth"] |= changes or {}
        changed["outputs"]["a"]["becomes"] |= becomes or {}
        path.write_text(json.dumps(changed))
        return fetch.fetch_packaged(into, names or None, named, path)

    run.table, run.into, run.path = table, tmp_path / "data", path
    return run


def add(table, server, fetch, name, checkpoint, tmp_path):
    torch.save(checkpoint, server.folder / f"{name}.pth")
    table["packages"][f"{name}.pth"] = package(server, fetch, f"{name}.pth")
    made = convert(
        building.build_cifar10_torch, server.folder / f"{name}.pth", tmp_path / "expected", CNN_A
    )
    table["outputs"][name] = {
        "from": [f"{name}.pth"],
        "recipe": "cifar10_torch",
        "network": CNN_A,
        "becomes": {f"weights/zoo/{name}{p.suffix}": fetch.content_hash(p) for p in made},
    }


def pictures():
    """Five pictures (5, 32, 32, 3) uint8 and their labels, three of the first kind."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 5)


def write_pictures(folder):
    """As their sources have them: floats and labels, then a table."""
    shown, labels = pictures()
    np.save(folder / "x.npy", shown[:3].astype(np.float32) / np.float32(255))
    np.save(folder / "y.npy", labels[:3])
    rows = np.concatenate([labels[3:, None], shown[3:].reshape(2, -1)], axis=1)
    np.savetxt(folder / "t.csv", rows, "%d", delimiter=",")
    return [[folder / name] for name in PARTS]


def add_pictures(table, server, fetch, tmp_path):
    building.build_cifar10_exact("few", write_pictures(server.folder), tmp_path / "expected")
    table["packages"] |= {name: package(server, fetch, name) for name in PARTS}
    sha = fetch.content_hash(tmp_path / "expected" / FEW)
    table["outputs"]["few"] = {"from": PARTS, "recipe": "cifar10_exact", "becomes": {FEW: sha}}


def package(server, fetch, name):
    path = server.folder / name
    sha, size = fetch.content_hash(path), path.stat().st_size
    return {"form": "url", "url": f"{server.url}/{name}", "bytes": size, "sha256": sha}


def convert(build, file, into, network):
    build(file.stem, [[file]], into, **network)
    path = into / "weights/zoo" / f"{file.stem}.safetensors"
    return path, path.with_suffix(".json")


def there(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


A = ["weights/zoo/a.json", "weights/zoo/a.safetensors"]


def test_a_network_is_fetched_once_and_only_where_it_is_named(sources, server):
    assert sources() == [] and server.asked == []
    assert sources(named=["weights/else.safetensors", "", A[1]]) == ["a"]
    assert there(sources.into) == A and server.asked == ["a.pth"]
    recipe = json.loads((sources.into / A[0]).read_text())
    assert recipe["mean"] == CNN_A["mean"] and recipe["input_size"] == [3, 32, 32]
    server.shutdown()
    server.server_close()
    assert sources(named=[A[1]]) == [] == sources("a"), "there is nothing left to do"


def test_files_put_there_by_hand_are_taken_as_they_are(sources, tmp_path, server):
    (sources.into / "weights").mkdir(parents=True)
    (tmp_path / "expected/weights/zoo").rename(sources.into / "weights/zoo")
    assert sources("a", "b") == [] and server.asked == []
    (sources.into / A[0]).write_text("{}")
    other = [
        sources.table["outputs"]["a"]["becomes"][A[0]],
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ]
    assert sources("a", becomes={A[0]: other}) == [], "one of several hashes"
    assert sources("a") == ["a"] and json.loads((sources.into / A[0]).read_text())["std"]


def test_a_wrong_hash_leaves_nothing(sources, server, fetch):
    right = sources.table["packages"]["a.pth"]["sha256"]
    said = f"wrong hash of {server.url}/a.pth: expected sha256 {'0' * 64}.*found {right}.*try again"
    with pytest.raises(fetch.FetchError, match=said) as e:
        sources("a", changes={"sha256": "0" * 64})
    assert not isinstance(e.value, fetch.Unreachable) and there(sources.into) == []


def test_what_converts_otherwise_is_not_put_in_place(sources, fetch):
    with pytest.raises(fetch.FetchError, match="a.json was made from the right files but differs"):
        sources("a", becomes={A[0]: "0" * 64})
    assert there(sources.into) == []


@pytest.mark.parametrize(
    "path, said",
    [("nowhere.pth", "404"), ("cut/a.pth", "ended after 99 of "), ("moved/a.pth", "file")],
)
def test_a_server_that_has_it_not_or_not_whole(path, said, sources, server, fetch):
    with pytest.raises(fetch.Unreachable, match=f"{server.url}/{path} could not be.*{said}") as e:
        sources("b", "a", changes={"url": f"{server.url}/{path}"})
    assert all(f"weights/zoo/a.{end}" in str(e.value) for end in ("safetensors", "json"))
    assert "by hand" in str(e.value) and str(sources.into) in str(e.value)
    assert there(sources.into) == []


def test_what_was_fetched_before_a_server_went_is_kept(sources, server, fetch):
    gone = {"url": "http://127.0.0.1:9/a.pth"}  # nobody listens
    sources.table["outputs"] = dict(reversed(sources.table["outputs"].items()))
    with pytest.raises(fetch.Unreachable, match="a.pth.*refused.*network.*Still wanted") as e:
        sources("a", "b", changes=gone)
    assert there(sources.into) == [p.replace("a.", "b.") for p in A]
    assert "zoo/b" not in str(e.value).partition("Still wanted")[2]


def test_a_file_longer_than_it_should_be_is_not_read_to_its_end(sources, server, fetch):
    with pytest.raises(fetch.FetchError, match="more than its [0-9,]+ bytes.*replaced"):
        sources("a", changes={"url": f"{server.url}/long/a.pth"})
    assert there(sources.into) == [] and server.more < LONGER / 2


def test_a_server_that_drips_is_given_up(sources, server, fetch, monkeypatch):
    for name, value, said in (("SILENCE", 0.2, "timed out"), ("DEADLINE", -1, "not whole")):
        with monkeypatch.context() as patch:
            patch.setattr(packages, name, value)
            with pytest.raises(fetch.Unreachable, match=said):
                sources("a", changes={"url": f"{server.url}/stalls/a.pth"})
    assert there(sources.into) == []


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_with_code_in_it_is_not_run(how, sources, server, fetch, tmp_path):
    target, mark = server.folder / "evil.pth", tmp_path / "it-ran"
    checkpoint = {"state_dict": {}, "other": Evil(mark)}
    if how == "torch":
        torch.save(checkpoint, target)
        torch.load(target, weights_only=False)
    else:
        target.write_bytes(pickle.dumps(checkpoint, protocol=2))
        pickle.loads(target.read_bytes())
    assert mark.exists(), "or this proves nothing"
    mark.unlink()
    with pytest.raises(fetch.FetchError, match="a: .*could run as code.*Do not use it"):
        sources("a", changes=package(server, fetch, "evil.pth"))
    assert not mark.exists() and there(sources.into) == []


def test_an_array_with_code_in_it_is_not_run(fetch, tmp_path):
    files, mark = write_pictures(tmp_path), tmp_path / "it-ran"
    np.save(tmp_path / "x.npy", np.array([Evil(mark)], dtype=object))
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert mark.exists(), "or this proves nothing"
    mark.unlink()
    with pytest.raises(fetch.FetchError, match="few: .*could run as code.*Do not use it"):
        building.build_cifar10_exact("few", files, tmp_path / "built")
    assert not mark.exists() and not (tmp_path / "built").exists()


def test_pictures_are_fetched_where_they_are_named_and_again_once_deleted(
    sources, server, fetch, tmp_path, monkeypatch
):
    monkeypatch.setattr(fetch, "PROJECT", tmp_path)
    monkeypatch.setattr(fetch, "SOURCES", sources.path)
    monkeypatch.setattr(fetch, "check", lambda *a: None)
    sources()  # writes the table
    file, study = tmp_path / "study.yaml", {"seed": 0, "snr": {"images": "data/images/photographs"}}
    named = study | {"worths": {"images": f"data/{FEW}"}}
    run = ["--study", str(file), "--into", str(tmp_path / "data")]
    for asked, content in ([], study), (sorted(PARTS), named), (sorted(PARTS), named):
        file.write_text(json.dumps(content))
        assert fetch.main(run) == 0 and server.asked == asked
    with np.load(tmp_path / "data" / FEW) as found:
        for part, expected in zip(("images", "labels"), pictures(), strict=True):
            assert found[part].dtype == expected.dtype and np.array_equal(found[part], expected)
    fetch.fetch_section(named, "snr")
    fetch.fetch_section(named, "worths")
    assert server.asked == sorted(PARTS), "it is there"
    (tmp_path / "data" / FEW).unlink()
    assert fetch.main(["--check", str(file)]) == 0
    assert there(tmp_path / fetch.NOTES) == ["snr"], "DVC runs the stage whose output is missing"
    fetch.fetch_section(named, "worths")
    assert there(tmp_path / "data") == [FEW] and server.asked == 2 * sorted(PARTS)
    assert there(tmp_path / fetch.NOTES) == ["snr", "worths"]


def test_the_bytes_of_pictures_are_always_the_same(tmp_path, monkeypatch):
    """Whatever the day; and read as load_images does."""
    from iaside.inputs.images import load_images

    files = write_pictures(tmp_path)
    building.build_cifar10_exact("few", files, tmp_path / "once")
    monkeypatch.setattr("time.time", lambda: 2e9)
    building.build_cifar10_exact("few", files, tmp_path / "twice")
    assert (tmp_path / "once" / FEW).read_bytes() == (tmp_path / "twice" / FEW).read_bytes()
    shown, labels = load_images(tmp_path / "once" / FEW)
    assert labels.tolist() == pictures()[1].tolist()
    assert np.array_equal((shown * 255).round().byte().permute(0, 2, 3, 1), pictures()[0])


def test_no_path_leads_out_of_the_data_folder(sources, server, fetch, tmp_path):
    for path in ("../own.json", "weights/../../own.json", str(tmp_path / "own.json")):
        with pytest.raises(fetch.FetchError, match=f"'{path}' points outside the data folder"):
            sources("a", becomes={path: "0" * 64})
    for url in (f"file://{server.folder}/a.pth", "ftp://127.0.0.1/a.pth", "a.pth"):
        with pytest.raises(fetch.FetchError, match=f"'{url}', which must be https"):
            sources("a", changes={"url": url})
    assert sources("a", changes={"url": f"{server.url}/named/a.pth"}) == ["a"]
    assert there(sources.into) == A and not list(tmp_path.rglob("named.pth"))


@pytest.mark.slow
def test_an_interrupt_leaves_no_half_file(sources, server):
    sources(changes={"url": f"{server.url}/stalls/a.pth"})  # only writes the table
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import fetch;"
        "fetch.fetch_packaged(Path(sys.argv[2]), ['a'], (), Path(sys.argv[3]))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, ROOT / "data", sources.into, sources.path],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert server.stalled.wait(60)
    assert any(sources.into.iterdir()), "it is at work"
    run.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in run.communicate(timeout=60)[1] and run.returncode
    assert list(sources.into.rglob("*")) == []


# --- conversions: the same network in its source's layout, and back -------------------------------


def same(found, net):
    """The converted files are the weights of this network; its normalisation is the recipe's."""
    weights, recipe = found
    state = load_file(weights)
    assert state.keys() == net.state_dict().keys()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    assert {"mean", "std", "args"} <= json.loads(recipe.read_text()).keys()


def test_a_torch_network_keeps_its_tensors(tmp_path):
    net = network("cnn_deep")
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    theirs = {f"{3 * k}.{n}": p for k, m in enumerate(layers) for n, p in m.state_dict().items()}
    other = {key: value + 1 for key, value in theirs.items()}
    spec = CNN_A | {"architecture": "cnn_deep"}
    forms = theirs, {"state_dict": theirs}, {"state_dict": [theirs, other]}
    for k, checkpoint in enumerate(forms):
        torch.save(checkpoint, tmp_path / f"{k}.pth")
        same(convert(building.build_cifar10_torch, tmp_path / f"{k}.pth", tmp_path, spec), net)
    net = network("resnet_2b")  # its blocks in the order that its source calls layer1.0, layer1.1
    order = {
        "stem": "conv1",
        "blocks.0": "layer1.0",
        "blocks.1": "layer1.1",
        "shortcut": "shortcut.0",
        "fc1": "linear1",
        "fc2": "linear2",
    }
    theirs = {
        functools.reduce(lambda t, p: t.replace(*p), order.items(), key): value
        for key, value in net.state_dict().items()
    }
    torch.save({"state_dict": theirs}, tmp_path / "r.pth")
    spec = CNN_A | {"architecture": "resnet_2b"}
    same(convert(building.build_cifar10_torch, tmp_path / "r.pth", tmp_path, spec), net)


def test_a_torch_network_with_batch_norm_goes_by_names(tmp_path):
    net = network("cifar_resnet", depth=8)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
    theirs = {f"module.{k}": v for k, v in net.state_dict().items() if "batches" not in k}
    torch.save({"state_dict": dict(reversed(theirs.items()))}, tmp_path / "n.th")
    spec = CNN_A | {"architecture": "cifar_resnet", "args": {"depth": 8}}
    same(convert(building.build_cifar10_torch, tmp_path / "n.th", tmp_path, spec), net)


class Sum(nn.Module):
    """A block as MN-BaB keeps it: two paths, whose sum goes through a ReLU."""

    def __init__(self, inputs, channels):
        super().__init__()
        self.path_b = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.path_a = nn.Sequential(
            nn.Identity(), nn.Conv2d(inputs, channels, 1, 2, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x):
        return (self.path_a(x) + self.path_b(x)).relu()


def test_a_torch_network_answers_as_before_its_batch_norm_was_folded(tmp_path):
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Sequential(Sum(16, 32)),
        nn.Sequential(Sum(32, 64)),
        nn.Flatten(),
        nn.Linear(1024, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    ).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value in (*module.parameters(), module.running_mean, module.running_var):
                    value.copy_(torch.rand(len(value)) + 0.2)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "n.pth")
    spec = CNN_A | {"architecture": "resnet_2b2"}
    weights, _ = convert(building.build_cifar10_torch, tmp_path / "n.pth", tmp_path, spec)
    found = network("resnet_2b2")
    found.load_state_dict(load_file(weights))
    assert torch.equal(found.fc2.weight, net[8].weight)
    x = torch.rand(4, 3, 32, 32).double()
    torch.testing.assert_close(found.double()(x), net.double()(x), rtol=1e-5, atol=1e-5)


def test_a_keras_network_answers_as_before_its_batch_norm_was_folded(tmp_path):
    """Keras' layers in torch: convolution, then batch norm with its epsilon, from the same file."""
    h5py = pytest.importorskip("h5py")
    torch.manual_seed(3)
    net = network("resnet_8").double()
    plain = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    order = [
        "stem",
        "first.0",
        "second.0",
        "first.1",
        "second.1",
        "shortcut.1",
        "first.2",
        "second.2",
        "shortcut.2",
    ]
    assert set(order) == set(plain)
    norms = 0
    with h5py.File(tmp_path / "k.h5", "w") as h5:

        def write(layer, number, **parts):
            layer += f"_{number}" if number else ""
            for part, value in parts.items():
                h5[f"model_weights/{layer}/{layer}/{part}:0"] = value.detach().float().numpy()

        for k, name in enumerate(order):
            conv = plain[name]
            with torch.no_grad():  # as float32, which is what the file has
                for p in conv.parameters():
                    p.copy_(p.float())
            write("conv2d", k, kernel=conv.weight.permute(2, 3, 1, 0), bias=conv.bias)
            if "shortcut" not in name:
                norm = nn.BatchNorm2d(conv.out_channels, eps=1e-3).double()
                with torch.no_grad():
                    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                        value.copy_((torch.rand(len(value)) + 0.2).float())
                write(
                    "batch_normalization",
                    norms,
                    gamma=norm.weight,
                    beta=norm.bias,
                    moving_mean=norm.running_mean,
                    moving_variance=norm.running_var,
                )
                norm.eval()
                conv.register_forward_hook(lambda m, x, y, norm=norm: norm(y))
                norms += 1
        write("dense", 0, kernel=net.linear.weight.T, bias=net.linear.bias)
    spec = CNN_A | {"architecture": "resnet_8"}
    weights, _ = convert(building.build_cifar10_keras, tmp_path / "k.h5", tmp_path, spec)
    found = network("resnet_8")
    found.load_state_dict(load_file(weights))
    x = torch.rand(4, 3, 32, 32).double()
    torch.testing.assert_close(found.double()(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_matlab_network_answers_as_one_whose_channels_are_last(tmp_path):
    """As TensorFlow flattens: rows, columns, channels."""
    from scipy.io import savemat

    net = network("cnn_a")
    fc1 = net.fcs[0].weight.detach().reshape(100, 32, 8, 8).permute(0, 2, 3, 1).reshape(100, -1)
    theirs = {"weights_fc1": fc1.T, "weights_fc2": net.fcs[1].weight.T}
    for k in (1, 2):
        theirs[f"weights_conv{k}"] = net.convs[k - 1].weight.permute(2, 3, 1, 0)
        theirs[f"biases_conv{k}"] = net.convs[k - 1].bias[None]
        theirs[f"biases_fc{k}"] = net.fcs[k - 1].bias[None]
    savemat(tmp_path / "m.mat", {key: value.detach().numpy() for key, value in theirs.items()})
    same(convert(building.build_cifar10_matlab, tmp_path / "m.mat", tmp_path, CNN_A), net)
    x = torch.rand(2, 3, 32, 32)
    last = net.convs[1](net.convs[0](x).relu()).relu().permute(0, 2, 3, 1).flatten(1)
    logits = net.fcs[1]((last @ fc1.T + net.fcs[0].bias).relu())
    torch.testing.assert_close(logits, net(x), rtol=1e-4, atol=1e-5)


# --- the zoo of CIFAR-10 --------------------------------------------------------------------------


def zoo(fetch):
    outputs = fetch.read(fetch.SOURCES)["outputs"]
    return {k: output for k, output in outputs.items() if "network" in output}


def test_the_zoo_is_what_lies_beside_the_project(fetch):
    folder = ROOT.parent / "shared/zoo/cifar10"
    if not folder.is_dir():
        pytest.skip("needs ../shared/zoo, which is not beside this clone")
    theirs = {entry["key"]: entry for entry in json.loads((folder / "PROVENANCE.json").read_text())}
    packages = fetch.read(fetch.SOURCES)["packages"]
    found = zoo(fetch)
    assert found.keys() == theirs.keys()
    for name, output in found.items():
        [source] = output["from"]
        assert packages[source]["sha256"] == theirs[name]["sha256"]
        repository = theirs[name]["repository"].removeprefix("github:")
        assert f"/{repository}/" in packages[source]["url"]
        for path, sha in output["becomes"].items():
            assert fetch.as_pinned(folder / Path(path).name, sha), path


def test_the_pictures_are_those_beside_the_project(fetch, tmp_path):
    file = ROOT.parent / "shared/data/cifar10-exact/cifar10_exact.npz"
    if not file.is_file():
        pytest.skip("needs ../shared/data, which is not beside this clone")
    [(path, [ours, by_hand])] = fetch.read(fetch.SOURCES)["outputs"]["cifar10_exact"][
        "becomes"
    ].items()
    assert fetch.as_pinned(file, by_hand)
    with np.load(file) as arrays:
        building.save_images("cifar10_exact", dict(arrays), tmp_path)
    assert fetch.as_pinned(tmp_path / path, ours), "the same arrays, not compressed"


def test_all_that_the_study_of_the_zoo_names_is_fetched(fetch, tmp_path):
    """It passes the check of paths where nothing is there yet."""
    study = fetch.read(ROOT / "studies/cifar10_zoo.yaml")
    check_paths(study, tmp_path)
    made = {
        path
        for output in fetch.read(fetch.SOURCES)["outputs"].values()
        for path in output["becomes"]
    }
    named = {path for path in fetch.named_in_data(study) if path}
    assert named - made == {"images/cifar10"}, "which torchvision downloads"


def entry(name):
    path = f"data/weights/zoo/{name}"
    return {
        "name": name,
        "weights": f"{path}.safetensors",
        "recipe": f"{path}.json",
        "factory": "cifar10.py:build",
    }


def test_a_study_may_name_the_zoo_before_it_is_there(fetch, tmp_path, monkeypatch):
    names = list(zoo(fetch))
    check_paths({"models": {name: entry(name) for name in names}}, tmp_path)
    with pytest.raises(UsageError, match="no weights at 'data/weights/zoo/mine.s.*Put the file"):
        check_paths({"models": {"mine": entry("mine")}}, tmp_path)
    path = tmp_path / "data/weights/zoo/mine.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(UsageError, match="mine.safetensors'.*has no recipe"):
        check_paths({"models": {"mine": entry("mine")}}, tmp_path)
    path.with_suffix(".json").touch()
    check_paths({"models": {"mine": entry("mine")}}, tmp_path)


def test_the_pictures_of_cifar10_come_whole_and_without_loss(fetch, server, tmp_path, monkeypatch):
    """A study that names them, torchvision's own download, and the folder that is then read."""
    from test_published_formats import cifar10
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import calculate_md5

    from iaside.inputs import images, project

    expected, labels = cifar10(server.folder)
    batches = {p.name: calculate_md5(p) for p in (server.folder / CIFAR10.base_folder).iterdir()}
    archive = shutil.make_archive(
        server.folder / "cifar-10-python", "gztar", server.folder, CIFAR10.base_folder
    )
    monkeypatch.setattr(CIFAR10, "url", f"{server.url}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", calculate_md5(archive))
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": batches[CIFAR10.meta["filename"]]})
    for part in ("train_list", "test_list"):
        known = [[name, batches[name]] for name, _ in getattr(CIFAR10, part)]
        monkeypatch.setattr(CIFAR10, part, known)
    for module in (fetch, project):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    study = {"worths": {"images": "data/images/cifar10"}}
    fetch.fetch_section(study, "worths")
    asked = len(server.asked)
    fetch.fetch_section(study, "worths")
    assert set(server.asked) == {CIFAR10.filename} and len(server.asked) == asked
    shown, found = images.load_images(tmp_path / "data/images/cifar10")
    assert found.tolist() == labels and (shown * 255).round().byte().numpy().tolist() == (
        expected.tolist()
    )
    shutil.rmtree(tmp_path / "data/images/cifar10")
    monkeypatch.setattr(CIFAR10, "url", f"{server.url}/gone.tar.gz")
    with pytest.raises(fetch.FetchError, match="worths: .*cifar10.*put torchvision's folder there"):
        fetch.fetch_section(study, "worths")
    assert not (tmp_path / "data/images/cifar10").exists()


def test_the_command_fetches_what_its_study_names(
    sources, server, fetch, tmp_path, monkeypatch, capsys
):
    """From the study to the files, a server that is gone, and a network still to be trained."""
    monkeypatch.setattr(fetch, "PROJECT", tmp_path)
    monkeypatch.setattr(fetch, "SOURCES", sources.path)
    monkeypatch.setattr(fetch, "check", lambda *a: None)
    (tmp_path / "architectures").symlink_to(ROOT / "architectures")
    sources(named=())  # writes the table
    trained = {
        "name": "cnn_a",
        "weights": "results/training/networks/p/x/final.safetensors",
        "recipe": "results/training/networks/p/x/final.json",
    }
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps({"models": {"n": entry("a"), "trained": trained}}))
    assert fetch.main(["--study", str(study), "--into", str(tmp_path / "data")]) == 0
    assert there(tmp_path / "data") == A and server.asked == ["a.pth"]
    study.write_text(json.dumps({"models": {"n": entry("b")}}))
    server.shutdown()
    server.server_close()
    assert fetch.main(["--study", str(study), "--into", str(tmp_path / "data")]) == 1
    said = capsys.readouterr().err
    assert "weights/zoo/b.safetensors" in said and "by hand" in said and said.count("\n") == 1
