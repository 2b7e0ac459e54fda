"""Training: what is drawn is exact, equal runs are equal bytes, a kill changes nothing."""

import csv
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from iaside.backend.executors import one_thread
from iaside.inputs.architectures import small_cnn
from iaside.inputs.classifier import load_model, untrained
from iaside.inputs.splits import stratified_order
from iaside.spectral import band_masks
from iaside.training import data as training_data
from iaside.training import penalties, plans, training, updates
from iaside.training.data import augmented, batch_of, complete, load_data, reassign
from iaside.training.training import train_network, train_plan
from iaside.training.updates import attacked, learning_rate, loss_of

N, CLASSES, SIDE = 60, 3, 16


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """60 noisy pictures of 3 colours, and settings under which they are learned at once."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % CLASSES
    images = rng.integers(0, 120, (N, SIDE, SIDE, 3))
    images[np.arange(N), :, :, labels] += 120
    path = tmp_path_factory.mktemp("images") / "colours.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return dict(
        images=str(path),
        classes=None,
        side=SIDE,
        held_out=0.2,
        epochs=3,
        batch=8,
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        flip=False,
        eps=8,
        steps=2,
        warm_up=0,
        precision="float32",
    )


@pytest.fixture(scope="module")
def data(shared):
    return load_data(shared, seed=0)


def one(shared, **plan):
    [(name, settings)] = plans.networks({"p": {"architecture": "small_cnn"} | plan}).items()
    return name, complete(settings, shared)


def trained(shared, data, folder, **plan):
    name, settings = one(shared, **plan)
    log = train_network(name, settings, data, folder, folder / "partial")
    return (folder / "final.safetensors").read_bytes(), log


# --- what is drawn --------------------------------------------------------------------------------


def test_label_noise_is_exact_nested_and_uniform_over_all_classes():
    labels = torch.arange(5000) % 10
    before = None
    for noise in (0.0, 0.2, 0.4, 1.0):
        new, indices = reassign(labels, noise, 10, seed=3)
        assert len(indices) == round(noise * 5000) and len(set(indices.tolist())) == len(indices)
        kept = np.setdiff1d(np.arange(5000), indices)
        assert torch.equal(new[kept], labels[kept])
        if before is not None:
            assert set(before.tolist()) <= set(indices.tolist())
        before = indices
    assert (new == labels).float().mean() == pytest.approx(0.1, abs=4 * 0.3 / 5000**0.5)
    assert new.bincount().min() > 400  # of 500 expected
    assert not torch.equal(reassign(labels, 0.4, 10, seed=4)[1], reassign(labels, 0.4, 10, 3)[1])


def test_what_was_relabelled_is_stored(shared, data, tmp_path):
    trained(shared | {"epochs": 1}, data, tmp_path, noise=0.5, fraction=0.5)
    with np.load(tmp_path / "relabelled.npz") as stored:
        indices, labels = stored["indices"], stored["labels"]
    assert len(indices) == len(labels) == 12  # half of the half of 48
    shown = sorted(stratified_order(data.labels, 0)[:24])
    assert set(indices.tolist()) <= set(shown)
    again, moved = reassign(data.labels[shown], 0.5, CLASSES, 0)
    assert (np.array(shown)[moved] == indices).all() and again[moved].tolist() == labels.tolist()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_is_in_its_precision_and_its_weights_in_float32(
    shared, data, tmp_path, monkeypatch, precision
):
    seen, real = [], updates.loss_of

    def noted(*args):
        seen.append(real(*args))
        return seen[-1]

    monkeypatch.setattr(training, "loss_of", noted)
    name, settings = one(shared | {"precision": precision, "epochs": 1}, penalty="jafr", strength=1)
    train_network(name, settings, data, tmp_path, tmp_path / "partial")
    assert {(logits.dtype, extra.dtype) for _, extra, logits in seen} == {
        (getattr(torch, precision), torch.float32)  # penalties are never narrow
    }
    weights = load_model(name, weights=tmp_path / "final.safetensors").state_dict()
    assert not [k for k, v in weights.items() if v.dtype in (torch.bfloat16, torch.float16)]
    other = settings | {"precision": "float32" if precision == "bfloat16" else "bfloat16"}
    device = torch.device("cpu")
    assert training._key(settings, data, device) != training._key(other, data, device)


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.5])
def test_a_fraction_has_each_label_in_proportion_and_is_nested(fraction):
    labels = [0] * 800 + [1] * 150 + [2] * 50
    order = stratified_order(labels, seed=1)
    assert sorted(order) == list(range(1000))
    counts = np.bincount(np.array(labels)[order[: round(fraction * 1000)]], minlength=3)
    assert np.abs(counts - fraction * np.array([800, 150, 50])).max() <= 1


def test_less_data_is_shown_in_as_many_updates(shared, data, tmp_path):
    seen = {}
    for fraction in (1, 0.25):
        _, log = trained(shared, data, tmp_path / f"{fraction}", fraction=fraction)
        seen[fraction] = [row["updates"] for row in log]
    assert seen[1] == seen[0.25] == [6, 12, 18]
    # 12 images in batches of 8: an image is shown again only when all others have been
    batches = np.concatenate([batch_of(k, 8, 12, seed=0) for k in range(18)])
    assert (np.bincount(batches) == 12).all()
    assert all(sorted(batches[k : k + 12]) == list(range(12)) for k in range(0, 144, 12))


def test_schedules():
    assert learning_rate("constant", 0.3, 0.9) == 0.3
    assert learning_rate("cosine", 0.3, 0.5) == pytest.approx(0.15)
    rates = [learning_rate("cyclic", 0.3, k / 100) for k in range(101)]
    assert max(rates) == rates[40] == 0.3 and rates[70] == pytest.approx(0.15)
    with pytest.raises(ValueError, match="'step' must be one of constant, cosine, cyclic"):
        learning_rate("step", 1, 0)


def test_augmentation_shifts_by_at_most_4_pixels_and_flips_only_where_asked():
    x = torch.rand(64, 3, 16, 16)
    padded = F.pad(x, [4] * 4)

    def found(image, k):
        return any(
            torch.equal(image, padded[k, :, i : i + 16, j : j + 16])
            for i in range(9)
            for j in range(9)
        )

    moved = augmented(x, False, torch.Generator().manual_seed(0))
    assert all(found(moved[k], k) for k in range(64)) and not torch.equal(moved, x)
    moved = augmented(x, True, torch.Generator().manual_seed(0))
    flipped = sum(found(moved[k].flip(-1), k) and not found(moved[k], k) for k in range(64))
    assert 16 < flipped < 48


def test_attacks_of_training():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    x, y = torch.rand(8, 3, 8, 8) * 0.8 + 0.1, torch.arange(8) % 4
    clean = F.cross_entropy(net(x), y)
    for kind in ("fgsm", "pgd"):
        shown = attacked(net, x, y, kind, 0.05, steps=8)
        # a linear network: both end in the same corner of the cube
        assert (shown - x).abs().amax() == pytest.approx(0.05)
        assert F.cross_entropy(net(shown), y) > clean
        assert ((shown - x).abs() - 0.05).abs().mean() < 1e-3
    weak = attacked(net, x, y, "pgd", 0.05, steps=2)
    assert (weak - x).abs().amax() == pytest.approx(0.025, rel=1e-4), "steps of eps / 4"
    # a fifth of its strength: FGSM's step of 1.25 eps, and the eps that PGD's steps may not leave
    for kind, largest in (("fgsm", 1.25 * 0.05 / 5), ("pgd", 0.05 / 5)):
        young = attacked(net, x, y, kind, 0.05, steps=2, warm=0.2)
        assert (young - x).abs().amax() == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_an_adversary_that_finds_no_slope_says_so(kind):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    x, y = torch.rand(8, 3, 8, 8), torch.arange(8) % 4
    with pytest.warns(RuntimeWarning, match=f"the {kind} adversary found a gradient of zero"):
        shown = attacked(lambda z: net((255 * z).round() / 255), x, y, kind, 0.05, steps=2)
    assert shown.equal(x)
    with pytest.raises(ValueError, match="gradient"):
        attacked(lambda z: net(z) + (0 * z).sum().sqrt(), x, y, kind, 0.05, steps=2)


def test_an_adversary_warms_up_over_its_epochs(shared, data, tmp_path, monkeypatch):
    seen = []

    def watched(*given):
        seen.append(given[-1])
        return attacked(*given)

    monkeypatch.setattr(updates, "attacked", watched)
    trained(shared, data, tmp_path, adversary="fgsm", warm_up=2)
    each = len(seen) // 3  # epochs
    assert seen == pytest.approx([min(1, (k + 1) / (2 * each)) for k in range(3 * each)])
    assert seen[0] < 0.2 and seen[2 * each - 1] == 1


# --- equal runs, resuming -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_is_a_network_and_it_learns(shared, data, tmp_path):
    first, log = trained(shared, data, tmp_path / "a")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert trained(shared, data, tmp_path / "b")[0] == first
    assert torch.equal(torch.random.get_rng_state(), before), "global random state stays"
    assert trained(shared, data, tmp_path / "c", seed=1)[0] != first
    assert trained(shared, data, tmp_path / "d", noise=0.5)[0] != first
    assert log[-1]["held_out_accuracy"] > 0.9 and log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize(
    "factors",
    [
        {"augment": True, "penalty": "jafr", "strength": 0.01},
        {"adversary": "fgsm", "penalty": "gradalign", "strength": 0.2, "every": 1},
        {"penalty": "coalition_dropout", "strength": 0.3, "architecture": "resnet8"},
    ],
    ids=lambda factors: factors["penalty"],
)
@pytest.mark.slow
def test_a_kill_at_any_step_changes_no_byte(shared, data, tmp_path, monkeypatch, factors):
    whole = tmp_path / "whole"
    trained(shared, data, whole, **factors)
    steps, last = iter(range(1000)), int(np.random.default_rng().integers(7, 18))
    again = loss_of

    def dies(*args):
        if next(steps) == last:
            raise KeyboardInterrupt
        return again(*args)

    killed = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(training, "loss_of", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(shared, data, killed, **factors)
    count = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(training, "loss_of", lambda *a: (next(count), again(*a))[1])
        trained(shared, data, killed, **factors)
    assert next(count) == 18 - last // 6 * 6, f"only what was missing, from step {last}"
    names = sorted(p.name for p in whole.iterdir() if p.is_file())
    assert names == sorted(p.name for p in killed.iterdir() if p.is_file())
    assert ("epoch-002.safetensors" in names) == ("every" in factors)
    assert "epoch-003.safetensors" not in names, "the last one is the final one"
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), (name, last)


def test_a_checkpoint_is_a_model_and_the_log_tells_its_accuracy(shared, data, tmp_path):
    _, log = trained(shared, data, tmp_path)
    model = load_model("mine", weights=tmp_path / "final.safetensors")
    assert model.input_size == (SIDE, SIDE) and not model.training
    right = model(data.held_images.float() / 255).argmax(1) == data.held_labels
    assert right.float().mean().item() == pytest.approx(log[-1]["held_out_accuracy"])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows == log and [row["epoch"] for row in rows] == [1, 2, 3]
    best = load_model("best", weights=tmp_path / "best.safetensors")
    right = best(data.held_images.float() / 255).argmax(1) == data.held_labels
    most = max(row["held_out_accuracy"] for row in log)
    assert right.float().mean().item() == pytest.approx(most)


@pytest.mark.parametrize(
    "name", ["small_cnn", "resnet8", "cnn_a", "preactresnet18", "squeezenet1_1"]
)
def test_networks_to_be_trained_are_a_function_of_the_seed(name):
    first, again, other = (untrained(name, 5, 32, seed).net.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.slow
def test_our_own_networks_and_arrays_of_digits_load_without_torchvision_and_timm(tmp_path):
    """They take seconds to import, in each process that trains or measures."""
    path = tmp_path / "digits.npz"
    np.savez(path, images=np.zeros((20, 28, 28), np.uint8), labels=np.arange(20) % 2)
    how = {"images": str(path), "held_out": 0.2, "side": 32, "classes": None}
    code = f"""
import sys
from iaside.inputs import classifier
from iaside.training import data, profiles, training
data.load_data({how}, 0)
net = training.untrained("small_cnn", 2, 32, 0)
classifier.save_weights(net, {str(tmp_path / "net.safetensors")!r})
classifier.load_model("mine", {str(tmp_path / "net.safetensors")!r})
print(sorted({{"timm", "torchvision"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
    ids=["half", "empty", "zeros", "zeroed weights", "one bit"],
)
@pytest.mark.slow
def test_a_damaged_checkpoint_is_trained_anew_with_a_word(shared, data, tmp_path, spoil):
    whole, log = trained(shared, data, tmp_path, augment=False)
    state = tmp_path / "partial/state.safetensors"
    state.write_bytes(spoil(state.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"state\.safetensors is no checkpoint .*made again"):
        again, log_again = trained(shared, data, tmp_path, augment=False)
    assert again == whole and log_again == log


# --- plans ----------------------------------------------------------------------------------------


def test_a_plan_that_grew_trains_only_what_is_new(shared, tmp_path, monkeypatch):
    plan = {"architecture": "small_cnn", "seed": [0], "epochs": 1}
    places = tmp_path / "results", tmp_path / "partial"

    def run(plan, **more):
        found = plans.networks({"p": plan})
        return train_plan(found, shared | more, *places, device="cpu", workers=1, progress=False)

    assert run(plan) == ["small_cnn-seed0"]
    before = (places[0] / "small_cnn-seed0/final.safetensors").stat().st_mtime_ns
    spied = []
    real = training.train_network
    monkeypatch.setattr(
        training, "train_network", lambda name, *a: (spied.append(name), real(name, *a))[1]
    )
    grown = plan | {"seed": [0, 1]}
    assert run(grown) == spied == ["small_cnn-seed1"]
    assert (places[0] / "small_cnn-seed0/final.safetensors").stat().st_mtime_ns == before
    assert run(plan | {"seed": 1}) == []
    assert [p.name for p in places[0].iterdir()] == ["small_cnn-seed1"], "no stale network stays"
    assert run(plan | {"seed": 1}, lr=0.01) == ["small_cnn-seed1"], "other settings"
    assert json.loads((places[0] / "small_cnn-seed1/settings.json").read_text())["lr"] == 0.01
    assert not list(places[1].iterdir()), "nothing unfinished is left"
    other = tmp_path / "other.npz"
    with np.load(shared["images"]) as arrays:
        np.savez(other, images=arrays["images"] // 2, labels=arrays["labels"])
    assert run(plan | {"seed": 1}, images=str(other)) == ["small_cnn-seed1"], "other images"


def test_what_a_kill_left_in_a_folder_is_swept_and_what_is_damaged_is_trained_again(
    shared, tmp_path, monkeypatch
):
    found = plans.networks({"p": {"architecture": "small_cnn", "epochs": 1}})
    places = tmp_path / "results", tmp_path / "partial"

    def run():
        return train_plan(found, shared, *places, device="cpu", workers=1, progress=False)

    def killed(name, note, data, folder, *a):
        real(name, note, data, folder, *a)
        (folder / ".final.safetensors.k1ll3d.iaside-tmp").write_bytes(b"half")

    real = training.train_network
    with monkeypatch.context() as patched:
        patched.setattr(training, "train_network", killed)
        assert run() == ["small_cnn-seed0"]
    folder = places[0] / "small_cnn-seed0"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = json.loads(whole["settings.json"])["files"]
    assert not [name for name in whole if name.startswith(".")]
    assert set(files) == set(whole) - {"settings.json"} and run() == []
    (folder / "log.csv").write_text("")
    with pytest.warns(RuntimeWarning, match=r"log\.csv cannot be believed"):
        assert run() == ["small_cnn-seed0"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


@pytest.mark.slow
def test_workers_change_no_byte_and_their_errors_arrive(shared, data, tmp_path):
    found = plans.networks({"p": {"architecture": "small_cnn", "seed": [0, 1], "epochs": 1}})
    found["small_cnn-seed1"]["lr"] = 1e30
    message = "small_cnn-seed1 failed: ValueError: .*lower"
    with pytest.raises(RuntimeError, match=message):
        train_plan(
            found, shared, tmp_path / "r", tmp_path / "p", device="cpu", workers=2, progress=False
        )
    with one_thread():
        alone, _ = trained(shared | {"epochs": 1}, data, tmp_path / "alone")
    assert (tmp_path / "r/small_cnn-seed0/final.safetensors").read_bytes() == alone
    assert not (tmp_path / "r/small_cnn-seed1/settings.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0 of small_cnn-seed0 must be 1 or more"),
        ({"lr": 0}, "lr=0 of"),
        ({"momentum": 1}, "momentum=1 of"),
        ({"schedule": "step"}, "schedule='step' of .* one of constant, cosine, cyclic"),
        ({"eps": 300}, "eps=300"),
        ({"warm_up": -1}, "warm_up=-1 of"),
        ({"architecture": "smal_cnn"}, "no model 'smal_cnn'"),
    ],
)
def test_what_cannot_be_trained_is_said_before(shared, tmp_path, change, message):
    found = plans.networks({"p": {"architecture": change.pop("architecture", "small_cnn")}})
    with pytest.raises(ValueError, match=message):
        train_plan(found, shared | change, tmp_path / "r", tmp_path / "p", device="cpu")


def test_names_of_penalties_and_shared_settings_agree():
    named = {"none", "coalition_dropout", "white_noise", *penalties.PENALTIES}
    assert set(plans.PENALTIES) == named
    used = "".join(map(inspect.getsource, (training, training_data, updates)))
    assert all(f'"{name}"' in used for name in plans.SHARED if name != "every")


# --- where tensors are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "factors",
    [
        {"penalty": "coalition_dropout", "strength": 0.3},
        {"adversary": "pgd", "penalty": "gradalign", "strength": 0.2},
        {"adversary": "fgsm", "penalty": "jafr", "strength": 0.1},
    ],
    ids=lambda factors: factors["penalty"],
)
def test_a_step_computes_where_the_network_is(shared, monkeypatch, factors):
    """With fake CUDA tensors any step that stays on the CPU by mistake is an error."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    # Without a GPU no backward pass on one, and a fake tensor has no numbers to look at.
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, x, create_graph: [torch.rand_like(x)])
    monkeypatch.setattr(penalties, "_refuse_non_finite", lambda gradient: None)
    monkeypatch.setattr(penalties, "check_masks", lambda masks, x: (masks, len(masks)))
    monkeypatch.setattr(updates, "_warn_of_no_slope", lambda kind, change: None)
    masks = band_masks(8, (32, 32))
    monkeypatch.setattr(updates, "band_masks", lambda *args: masks)
    _, settings = one(shared, **factors)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            net = small_cnn(CLASSES)
        x = torch.rand(4, 3, 32, 32, device="cuda")
        y = torch.zeros(4, dtype=torch.long, device="cuda")
        generator = torch.Generator().manual_seed(0)
        loss, penalty, logits = loss_of(net, augmented(x, True, generator), y, settings, generator)
        assert {t.device.type for t in (loss, penalty, logits)} == {"cuda"}


def test_penalties_reach_the_loss_with_their_strength(shared):
    x, y = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    net = untrained("small_cnn", CLASSES, 32, 0).net.train().requires_grad_(True)
    _, plain = one(shared)
    loss, none, _ = loss_of(net, x, y, plain, torch.Generator())
    assert none == 0 and loss.isfinite()
    for strength in (-0.5, 0.5):
        _, settings = one(shared, penalty="jafr", strength=strength)
        total, penalty, _ = loss_of(net, x, y, settings, torch.Generator())
        assert penalty.item() == pytest.approx(penalties.jafr(net, x, y).item(), rel=1e-4)
        assert total.item() == pytest.approx(loss.item() + strength * penalty.item(), rel=1e-4)
