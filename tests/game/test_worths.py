"""Planted answers, invariances and every error of the hot loop."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from readers import MASKS, SIDE, M, Net, band_reader, some_images, some_labels
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside.backend.fingerprints import fingerprint
from iaside.game.exact import coalition_images, coalition_worths
from iaside.shapley import coalitions, least_squares_values, non_additivity, shapley_values
from iaside.spectral import band_masks, split_bands
from iaside.tables import Worths


def spoiled():
    net = Net().eval()
    net.head.bias.data[1] = torch.nan
    return net


def measure(model, n=4, **settings):
    settings = {"masks": MASKS, "batch_size": 8, "progress": False} | settings
    return coalition_worths(model, some_images(n), some_labels(n), **settings)


@pytest.mark.parametrize("band", range(M))
def test_a_model_that_reads_one_band_gives_it_all_the_value(band):
    w = measure(band_reader(band))
    psi = shapley_values(w.table)
    whole = w.table[-1] - w.table[0]
    assert np.abs(whole).min() > 1e-3
    assert np.abs(psi[band] - whole).max() < 1e-5
    assert np.abs(np.delete(psi, band, axis=0)).max() < 1e-5


def test_an_additive_game_is_recovered_exactly():
    """Worth = sum of weighted band energies: values are the terms, nothing is left over."""
    weights = torch.tensor([3.0, -2.0, 0.5])

    def energies(x):
        return split_bands(x.float().contiguous(), MASKS).square().sum(dim=(2, 3, 4)).T

    w = measure(lambda x: energies(x) @ weights[:, None], value=lambda out, labels: out[:, 0])
    expected = (energies(some_images()) * weights).T.numpy()
    assert np.allclose(shapley_values(w.table), expected, rtol=1e-4)
    assert np.allclose(least_squares_values(w.table), expected, rtol=1e-4)
    assert non_additivity(w.table).max() < 1e-9


def test_every_row_is_the_coalition_of_its_binary_code():
    """Against filtering each coalition by its own pair of FFTs."""
    net = Net().eval()
    w = measure(net)
    x, y = some_images(), some_labels()
    for row, members in enumerate(coalitions(M)):
        keep = (MASKS * torch.tensor(members)[:, None, None]).sum(0)
        filtered = torch.fft.irfft2(torch.fft.rfft2(x) * keep, s=x.shape[-2:])
        expected = net(filtered).log_softmax(-1).gather(1, y[:, None])[:, 0]
        assert np.allclose(w.table[row], expected.detach(), atol=1e-5)


@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement", "mean"])
def test_absence_fills_the_missing_bands_only(absence):
    """Worth = the pixel sum of one band: what an absent band holds is read off directly."""
    x, y = some_images(), some_labels()
    seen = []

    def spy(batch):
        seen.append(batch.clone())
        return torch.zeros(len(batch), 2)

    how = dict(absence=absence, sigma=0.5, seed=3)
    coalition_worths(spy, x, y, MASKS, batch_size=1, progress=False, **how)
    first, rest = torch.cat(seen[: -4 * (2**M - 1)]), torch.cat(seen[-4 * (2**M - 1) :])
    assert torch.equal(first[6:], x), "after the probe, the images themselves"
    by_image = torch.cat([rest.view(4, 2**M - 1, 3, SIDE, SIDE), x[:, None]], 1)
    shown = coalition_images(x, MASKS, coalitions(M), **how)
    assert torch.allclose(shown.transpose(0, 1), by_image, atol=1e-6), "what the model is shown"
    assert torch.allclose(by_image[:, -1], x, atol=1e-5), "the full coalition is the image"
    fill = by_image[:, 0]
    expected = split_bands(x, MASKS)[1] + split_bands(fill, MASKS)[[0, 2]].sum(0)
    assert torch.allclose(by_image[:, 0b010], expected, atol=1e-5)
    if absence == "zero":
        assert torch.equal(fill, torch.zeros_like(fill))
    if absence == "mean":
        assert torch.allclose(fill, x.mean((0, 2, 3), keepdim=True).expand_as(fill), atol=1e-5)
    if absence == "gaussian":
        assert abs(fill.std() - 0.5) < 0.03 and abs(fill.mean()) < 0.05
        assert not torch.allclose(fill[0], fill[1])
    if absence == "replacement":
        donors = [int((x - f).abs().amax((1, 2, 3)).argmin()) for f in fill]
        assert sorted(donors) == [0, 1, 2, 3] and all(d != i for i, d in enumerate(donors))


def test_coalition_images_are_equation_5():
    """On the full plane, with complex transforms: F(x) where a band is, F(b) where it is not."""
    x, members = some_images(), coalitions(M)[[0b001, 0b110, 0b010]]
    fill = coalition_images(x, MASKS, coalitions(M)[:1], "gaussian", sigma=0.3, seed=5)[0]
    pictures = coalition_images(x, MASKS, members, "gaussian", sigma=0.3, seed=5)
    for row, shown in zip(members, pictures, strict=True):
        half = MASKS[torch.tensor(row)].sum(0)
        mirrored = half[(-torch.arange(SIDE)) % SIDE, 1 : SIDE // 2].flip(1)
        T = torch.cat([half, mirrored], 1)
        spectrum = torch.fft.fft2(x.double()) * T + torch.fft.fft2(fill.double()) * (1 - T)
        expected = torch.fft.ifft2(spectrum)
        assert expected.imag.abs().max() < 1e-12
        assert torch.allclose(shown.double(), expected.real, atol=1e-6)
    with pytest.raises(ValueError, match="absence='grey' is not known"):
        coalition_images(x, MASKS, members, "grey")


@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement", "mean"])
def test_a_subset_is_those_columns_of_the_whole(absence):
    net = Net().eval()
    whole = measure(net, n=6, absence=absence)
    some = measure(net, n=6, absence=absence, subset=[1, 4])
    assert some.table.shape == (8, 2) and some.provenance["n_images"] == 2
    assert np.array_equal(some.table, whole.table[:, [1, 4]])


@pytest.mark.parametrize(
    "subset",
    [
        (1, 4),
        range(1, 7, 3),
        np.array([4, 1])[::-1],
        torch.tensor([1, -2]),
        [1, np.int64(4)],
        [False, True, False, False, True, False],
        np.arange(6) % 3 == 1,
    ],
)
def test_a_subset_is_named_by_places_or_by_a_mask(subset):
    whole = measure(Net().eval(), n=6)
    some = measure(Net().eval(), n=6, subset=subset, batch_size=np.int64(3))
    assert np.array_equal(some.table, whole.table[:, [1, 4]])


def test_value_functions_agree_with_their_definitions():
    net = Net(classes=3).eval()
    double = lambda outputs, labels: 2 * outputs[:, 0]  # noqa: E731
    double.__name__ = "double"
    names = ["log_likelihood", "probability", "accuracy", "margin", "embedding", double]
    w = measure(net, value=names, temperature=2.0)
    assert list(w.tables) == [*names[:-1], "double"]
    out = net(some_images()).detach()
    y = some_labels()
    rows = torch.arange(4)
    full = {name: table[-1] for name, table in w.tables.items()}
    assert np.allclose(full["log_likelihood"], out.log_softmax(1)[rows, y], atol=1e-5)
    assert np.allclose(full["probability"], (out / 2).softmax(1)[rows, y], atol=1e-5)
    assert np.array_equal(full["accuracy"], (out.argmax(1) == y).double())
    others = out.clone()
    others[rows, y] = -torch.inf
    assert np.allclose(full["margin"], out[rows, y] - others.amax(1), atol=1e-5)
    assert np.allclose(full["embedding"], 1, atol=1e-5)
    assert np.allclose(full["double"], 2 * out[:, 0], atol=1e-5)
    assert w.tables["embedding"][0].max() < 1 - 1e-6


def test_log_likelihood_does_not_underflow():
    w = measure(lambda x: torch.tensor([[0.0, 200.0]]).expand(len(x), 2))
    assert np.allclose(w.table, np.where(some_labels() == 0, -200.0, 0.0))


def test_with_its_own_answers_as_soft_labels_no_coalition_is_worth_more_than_the_image():
    """Gibbs' inequality: a cross-entropy is never below the entropy."""
    net = Net(classes=5).eval()
    with torch.no_grad():
        soft = (9 * net(some_images())).softmax(1)
    how = dict(batch_size=8, progress=False)
    w = coalition_worths(lambda x: 9 * net(x), some_images(), soft, MASKS, **how)
    entropy = -(soft * soft.log()).sum(1)
    assert np.allclose(w.table[-1], -entropy, atol=1e-5)
    assert (w.table <= w.table[-1] + 1e-6).all() and (w.table[0] < w.table[-1]).all()


def test_one_hot_soft_labels_are_the_hard_ones_and_soft_ones_the_mean():
    net = Net().eval()
    hard = measure(net).table
    eye = torch.eye(2)[some_labels()]
    args = dict(masks=MASKS, batch_size=8, progress=False)
    assert np.allclose(coalition_worths(net, some_images(), eye, **args).table, hard, atol=1e-6)
    other = coalition_worths(net, some_images(), 1 - some_labels(), **args).table
    even = coalition_worths(net, some_images(), torch.full((4, 2), 0.5), **args).table
    assert np.allclose(even, (hard + other) / 2, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20, 64])
def test_batch_size_does_not_matter(batch_size):
    net = Net().eval()
    assert np.allclose(measure(net, batch_size=batch_size).table, measure(net).table, atol=1e-6)


def test_an_image_does_not_depend_on_its_mates():
    net = Net().eval()
    one = coalition_worths(
        net, some_images()[2:3], some_labels()[2:3], MASKS, batch_size=8, progress=False
    )
    assert np.array_equal(one.table[:, 0], measure(net).table[:, 2])


def test_the_forward_passes_announced_are_the_ones_made(capsys):
    net = Net().eval()
    w = measure(net, progress=True)
    assert w.forwards == 2**M * 4
    assert "8 coalitions x 4 images = 32 forward passes, 0 already done" in capsys.readouterr().err
    net.seen = 0
    measure(net)
    assert net.seen == 32 + 6, "six more for the probe"


@pytest.mark.slow
def test_a_killed_measurement_goes_on_where_it_was(tmp_path):
    net = Net().eval()
    whole = measure(net).table
    net.seen = 0

    class Killed(Exception):
        pass

    def die_after_26_images(module, args):  # a probe, 4 images and 18 coalitions
        if module.seen >= 26:
            raise Killed

    hook = net.register_forward_pre_hook(die_after_26_images)
    with pytest.raises(Killed):
        measure(net, resume=tmp_path, batch_size=4)
    hook.remove()
    net.seen = 0
    w = measure(net, resume=tmp_path, batch_size=4)
    assert w.forwards == 32 - 22 and net.seen == 10 + 6
    assert np.array_equal(w.table, measure(net, batch_size=4).table)
    assert np.allclose(w.table, whole, atol=1e-6)
    w.save(tmp_path / "w.npz")
    assert len(list(tmp_path.glob("worths-*"))) == 1, "whoever keeps the result clears it away"
    assert measure(net, resume=tmp_path).forwards == 0


def test_opening_a_finished_measurement_again_writes_nothing(tmp_path):
    measure(Net().eval(), resume=tmp_path)
    before = sorted(tmp_path.rglob("*.rows"))
    for _ in range(2):
        assert measure(Net().eval(), resume=tmp_path).forwards == 0
    assert sorted(tmp_path.rglob("*.rows")) == before


def test_a_resume_file_cut_to_half_or_zeroed_is_not_believed(tmp_path):
    whole = measure(Net().eval(), resume=tmp_path, batch_size=4).table
    [path] = tmp_path.glob("worths-*/*.rows")
    data = path.read_bytes()
    for spoilt in (data[: len(data) // 2], data[:200] + bytes(len(data) - 200)):
        path.write_bytes(spoilt)
        with pytest.warns(RuntimeWarning, match=f"{path.name} is damaged.*made again"):
            w = measure(Net().eval(), resume=tmp_path, batch_size=4)
        assert np.array_equal(w.table, whole) and w.forwards > 8
        for other in set(tmp_path.glob("worths-*/*.rows")) - {path}:
            other.unlink()


TOGETHER = """
import sys, time
from pathlib import Path
import numpy as np
import test_worths

class Slow(test_worths.Net):
    def forward(self, x):
        time.sleep(0.005)
        return super().forward(x)

Slow.__name__ = "Net"
folder, own, other = map(Path, sys.argv[1:])
net = Slow().eval()
own.touch()
while not other.exists():
    time.sleep(0.001)
np.save(f"{own}.npy", test_worths.measure(net, resume=folder, batch_size=1, n=8).table)
"""


@pytest.mark.slow
def test_two_processes_on_one_resume_folder_give_the_right_table(tmp_path):
    flags = [tmp_path / "a", tmp_path / "b"]
    paths = [str(folder) for folder in Path(__file__).parents[:3]]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, *map(str, (tmp_path / "partial", *order))], env=env
        )
        for order in (flags, flags[::-1])
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(list(tmp_path.glob("partial/worths-*/*.rows"))) == 2, "each has written"
    right = measure(Net().eval(), batch_size=1, n=8).table
    for flag in flags:
        assert np.allclose(np.load(f"{flag}.npy"), right, rtol=0, atol=1e-6)
    assert measure(Net().eval(), resume=tmp_path / "partial", n=8).forwards == 0


def test_resuming_with_another_batch_size_makes_only_what_is_missing(tmp_path):
    net = Net().eval()

    def interrupt(module, args):
        if module.seen >= 14:
            raise KeyboardInterrupt

    hook = net.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(net, resume=tmp_path, batch_size=2)
    hook.remove()
    done, net.seen = net.seen - 6, 0
    w = measure(net, resume=tmp_path, batch_size=8)
    assert w.forwards == 32 - done and net.seen == w.forwards + 6


@pytest.mark.parametrize("absence", ["zero", "mean"])
def test_coalitions_are_put_together_in_pieces_and_shown_in_batches(absence, tmp_path):
    net, seen = Net().eval(), []
    net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    settings = {"n": 2, "masks": band_masks(5, (SIDE, SIDE)), "batch_size": 3, "absence": absence}
    whole = measure(net, **settings)
    games = 2 * ([3] * 10 + [1])
    assert seen == [2, 1, 1, 2, 2, *games], "a probe, the images, 31 other coalitions of each"

    def die(module, args):
        if len(seen) > 48:
            raise KeyboardInterrupt

    net.register_forward_pre_hook(die)
    with pytest.raises(KeyboardInterrupt):
        measure(net, resume=tmp_path, **settings)
    seen.clear()
    rest = measure(net, resume=tmp_path, **settings)
    assert rest.forwards == 62 - 31 - 5 * 3, "every batch is kept as it comes"
    assert np.array_equal(rest.table, whole.table)


def test_a_batch_is_as_large_as_what_is_done_for_each_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    largest = []

    def slow(outputs, labels):
        largest.append(len(outputs))
        time.sleep(0.02)
        return outputs[:, 0]

    measure(Net().eval(), value=slow, batch_size=None, n=1)
    assert max(largest) >= 64, "20 ms for each batch are to be shared by many images"


def test_labels_of_any_integer_kind_and_images_with_gradients_will_do():
    net = Net().eval()
    for labels in (some_labels().byte(), some_labels().bool()):
        w = coalition_worths(
            net, some_images().requires_grad_(), labels, MASKS, batch_size=8, progress=False
        )
        assert np.array_equal(w.table, measure(net).table)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images():
    """At 224 px and M = 8, beyond the photographs themselves: below 2 GiB whatever K is."""
    script = """
import torch
from pathlib import Path
from iaside.spectral import band_energy, band_masks
from iaside.game.exact import coalition_worths
def peak():
    # of this process alone; getrusage begins with what the one that started it had
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
x = torch.rand(200, 3, 224, 224)
net = lambda x: x.mean((2, 3))
coalition_worths(net, x, torch.zeros(200).long(), band_masks(8, (224, 224)), batch_size=16,
                 progress=False, subset=range(0, 200, 50))
masks = band_masks(8, (224, 224), spacing="equal_energy", images=x)
assert band_energy(x, masks).shape == (8, 200)
assert peak() < 2, peak()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_resuming_never_mixes_settings_models_or_images(tmp_path):
    net = Net().eval()
    measure(net, resume=tmp_path)
    for change in (dict(absence="mean"), dict(value="margin"), dict(precision="bfloat16")):
        assert measure(net, resume=tmp_path, **change).forwards == 32
    assert measure(net, n=3, resume=tmp_path).forwards == 24
    with torch.no_grad():
        net.head.bias[0] += 1e-3
    assert measure(net, resume=tmp_path).forwards == 32
    assert measure(net, resume=tmp_path).forwards == 0


def test_a_number_hidden_in_a_module_makes_it_another_model(tmp_path):
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.net, self.factor = Net().eval(), factor

        def forward(self, x):
            return self.factor * self.net(x)

    measure(Scaled(1).eval(), resume=tmp_path)
    assert measure(Scaled(9).eval(), resume=tmp_path).forwards == 32


def test_save_and_load_give_the_same_table_and_equal_runs_equal_bytes(tmp_path):
    net = Net().eval()
    for name in ("a", "b"):
        measure(net, value=["log_likelihood", "accuracy"]).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    w = Worths.load(tmp_path / "a.npz")
    assert list(w.tables) == ["log_likelihood", "accuracy"]
    assert w.provenance["precision"] == "float32" and w.provenance["n_images"] == 4
    assert np.array_equal(w.table, measure(net).table)
    with pytest.raises(FileNotFoundError, match="no worths table at .*; measure it first"):
        Worths.load(tmp_path / "c.npz")


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.npz"
    good = Worths({"v": np.zeros((2, 1))}, {"values": ["v"]})
    good.save(path)
    before = path.read_bytes()

    class Unwritable:
        def __array__(self, *args, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Worths({"v": Unwritable()}, {"values": ["v"]}).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["w.npz"]


def test_a_callable_partition_is_played_like_masks():
    net = Net().eval()
    as_callable = measure(net, masks=lambda x: split_bands(x, MASKS))
    assert np.array_equal(as_callable.table, measure(net).table)


def test_batch_size_is_measured_once_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    net = Net().eval()
    first = measure(net, batch_size=None)
    assert (tmp_path / "iaside" / "fastest_batch.json").exists()
    net.seen = 0
    second = measure(net, batch_size=None)
    assert net.seen == 38, "no second calibration"
    assert np.array_equal(first.table, second.table)


BFLOAT16 = """
import sys, torch
import iaside as ia
x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
net, masks = ia.folded(ia.load_model("squeezenet1_1")), ia.band_masks(3, (64, 64))
ia.coalition_worths(net, x, torch.zeros(2).long(), masks, precision="bfloat16",
                    progress=False).save(sys.argv[1])
"""


@pytest.mark.slow
def test_bfloat16_at_a_measured_batch_size_is_equal_bytes_too(data, tmp_path):
    def measured(name):
        env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", BFLOAT16, tmp_path / name], env=env, check=True)
        return (tmp_path / name).read_bytes()

    first = measured("first.npz")
    assert (tmp_path / "iaside" / "fastest_batch.json").exists()
    assert measured("second.npz") == first


def test_bfloat16_is_used_recorded_and_close():
    w = measure(Net().eval(), precision="bfloat16")
    full = measure(Net().eval())
    assert w.provenance["precision"] == "bfloat16"
    assert 0 < np.abs(w.table - full.table).max() < 0.02


def test_pictures_to_look_at_stay_on_a_gpu(monkeypatch):
    """Without a GPU: on a pretended one."""
    monkeypatch.setattr(
        "iaside.game.exact.check_images", lambda images, **_: images
    )  # looks at values
    monkeypatch.setattr("iaside.game.exact.check_masks", lambda masks, images: (masks, M))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        x = torch.rand(2, 3, SIDE, SIDE)
        for absence in ("zero", "mean"):  # the others look at values of their own
            shown = coalition_images(x, MASKS, coalitions(M), absence)
            assert shown.shape == (8, 2, 3, SIDE, SIDE) and shown.device.type == "cuda"


def bad(match, error=ValueError, model=None, images=None, labels=None, masks=MASKS, **settings):
    return pytest.param(match, error, model, images, labels, masks, settings, id=match[:40])


@pytest.mark.parametrize(
    ("match", "error", "model", "images", "labels", "masks", "settings"),
    [
        bad(
            "range from 0 to 255; pixels must be in",
            images=torch.tensor([0.0, 255.0]).repeat(4, 3, SIDE, SIDE // 2),
        ),
        bad("divide by 255", TypeError, images=torch.zeros(4, 3, SIDE, SIDE).byte()),
        bad("must be a tensor", TypeError, images=np.zeros((4, 3, SIDE, SIDE))),
        bad("images is empty", images=torch.zeros(0, 3, SIDE, SIDE), labels=torch.zeros(0).long()),
        bad("range from 0 to 7, but the model has 2 classes", labels=torch.tensor([0, 1, 0, 7])),
        bad("3 labels for 4 images", labels=torch.zeros(3).long()),
        bad("image 1 is 1.7; class indices must be integers", labels=torch.tensor([0, 1.7, 1, 0])),
        bad("image 0 are not one-hot: several labels", labels=torch.ones(4, 2)),
        bad("soft labels must be probabilities", labels=torch.full((4, 2), 0.9)),
        bad("soft labels must be probabilities", labels=torch.full((4, 2), torch.nan)),
        bad("soft labels have 5 classes and the model 2", labels=torch.eye(5)[:4]),
        bad("training mode; call model.eval", model=Net()),
        bad(
            "training mode; call model.eval",
            model=nn.Sequential(Net().eval(), nn.Dropout()).train(False).append(nn.Dropout()),
        ),
        bad("subset=\\[\\] leaves no image", subset=[]),
        bad("subset= names image 9, and there are", subset=[9]),
        bad("subset= names image 1 twice", subset=[1, 0, 1]),
        bad("subset= are torch.float64 of shape", subset=[0.5]),
        bad("subset= are torch.bool of shape", subset=[True]),
        bad("subset= are a str", TypeError, subset="a"),
        bad("subset= are a slice", TypeError, subset=slice(2)),
        bad("batch_size=2.5 must be at least 1", batch_size=2.5),
        bad("batch_size='3' must be at least 1", batch_size="3"),
        bad("give a callable", TypeError, model="resnet18"),
        bad("nan or inf for the first image", model=lambda x: x.mean((2, 3)) * torch.nan),
        bad("must return \\(2, classes\\)", model=lambda x: x.mean()),
        bad("must return \\(B, classes\\) logits", model=lambda x: x),
        bad("value='loglik' is not known; choose from", value="loglik"),
        bad("value=\\[\\] names nothing", value=[]),
        bad("absence='black' is not known", absence="black"),
        bad("sigma=0 must be a number above 0", absence="gaussian", sigma=0),
        bad("sigma=inf must be a number above 0", absence="gaussian", sigma=torch.inf),
        bad("temperature=0 must be a number above 0", temperature=0),
        bad("temperature=inf must be a number above 0", temperature=torch.inf),
        bad(
            "masks hold nan or infinity; give every",
            masks=MASKS * torch.nan,
            model=lambda x: x.nan_to_num().mean((2, 3)),
        ),
        bad("weights of the model hold nan: head.bias", model=spoiled()),
        bad("precision='half' is not known", precision="half"),
        bad("batch_size=0 must be at least 1", batch_size=0),
        bad("workers='lokal' must be a number of processes", workers="lokal"),
        bad(
            "15 bands make .* 32,768 coalitions .* at most 14 bands",
            masks=lambda x: torch.stack([x / 15] * 15),
        ),
        bad("do not fit images", masks=band_masks(2, (8, 8))),
        bad("give at least 2", images=some_images(1), labels=some_labels(1), absence="replacement"),
        bad("margin' needs one class per image", value="margin", labels=torch.eye(2)[[0, 1, 0, 1]]),
    ],
)
def test_bad_input_is_named_before_the_long_computation(
    match, error, model, images, labels, masks, settings
):
    model = Net().eval() if model is None else model
    images = some_images() if images is None else images
    labels = some_labels() if labels is None else labels
    with pytest.raises(error, match=match):
        coalition_worths(
            model, images, labels, masks, progress=False, **{"batch_size": 8} | settings
        )


def test_nan_logits_do_not_pass_as_an_accuracy():
    with pytest.raises(ValueError, match="nan or infinite worths"):
        measure(
            lambda x: x.flatten(1)[:, :2] / x.flatten(1).abs().sum(1, keepdim=True),
            value="accuracy",
        )


def test_value_functions_need_names_of_their_own(tmp_path):
    first, second = lambda outputs, labels: outputs[:, 0], lambda outputs, labels: outputs[:, 1]
    with pytest.raises(ValueError, match="recorded as '<lambda>'; .* a __name__ of its own"):
        measure(Net().eval(), value=[first, second])
    first.__name__ = "accuracy"
    with pytest.raises(ValueError, match="other than the built-in ones"):
        measure(Net().eval(), value=first)
    with pytest.raises(ValueError, match="cannot tell one version of the function"):
        measure(Net().eval(), value=second, resume=tmp_path)


def test_nan_in_the_middle_ends_the_run():
    def breaks_on_black(x):
        return x.flatten(1)[:, :2] / x.flatten(1).abs().sum(1, keepdim=True)

    with pytest.raises(ValueError, match="nan or infinite worths for images 0;"):
        measure(breaks_on_black)


def test_labels_may_be_missing_for_embeddings_only():
    args = dict(masks=MASKS, batch_size=8, progress=False)
    w = coalition_worths(Net(classes=8).eval(), some_images(), None, value="embedding", **args)
    assert np.allclose(w.table[-1], 1, atol=1e-5)
    with pytest.raises(ValueError, match="labels=None is possible for value='embedding' and"):
        coalition_worths(Net().eval(), some_images(), None, **args)


def test_fingerprints_see_shape_dtype_and_content():
    x = torch.zeros(4, 4)
    prints = {fingerprint(t) for t in (x, x.view(2, 8), x.double(), x + 1)}
    assert len(prints) == 4
