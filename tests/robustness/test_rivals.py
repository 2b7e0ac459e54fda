"""Rivals of the score: noise of one octave, and networks whose gradient or octave is planted."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside.robustness.rivals import (
    _masked,
    _Questions,
    gradient_shares,
    grey,
    octave_noise,
    octaves,
    rival_passes,
    rivals,
)
from iaside.spectral import band_masks
from iaside.tables import Rivals

SIDE, M, N = 32, 4, 6
MASKS = band_masks(M, (SIDE, SIDE))
X = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
Q = {"progress": False}


class Line(nn.Module):
    """Two classes by one direction of pixels, whose gradient is that direction."""

    def __init__(self, direction, left=math.inf):
        super().__init__()
        self.direction = nn.Parameter(direction)
        self.left = left
        self.passes = 0
        self.eval()

    def forward(self, x):
        self.passes += len(x)
        if self.passes > self.left:
            raise KeyboardInterrupt
        z = ((x - 0.5) * self.direction).sum((1, 2, 3))
        return torch.stack([z, -z], 1)


class Listens(nn.Module):
    """Class 0 unless the energy of one octave of the grey picture is above a limit."""

    def __init__(self, octave, limit):
        super().__init__()
        _, masks = octaves(SIDE, SIDE)
        self.mask = nn.Parameter(masks[octave])
        self.limit = limit
        self.eval()

    def forward(self, x):
        heard = torch.fft.irfft2(torch.fft.rfft2(x.mean(1)) * self.mask, s=x.shape[-2:])
        z = self.limit - heard.square().mean((1, 2)).clamp(min=1e-12).sqrt()
        return 100 * torch.stack([z, -z], 1)


def wave(ky, kx, side=SIDE):
    rows = torch.arange(side)[:, None] * ky + torch.arange(side) * kx
    return (2 * math.pi * rows / side).cos()


# -- noise and pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (48, 33), (64, 100)])
def test_octaves_part_the_spectrum_but_for_its_lowest_frequencies(size):
    centres, masks = octaves(*size)
    assert np.allclose(np.log2(np.array(centres) / 1.75), range(len(centres)))
    assert centres[-1] <= min(size) / 2 < 2 * centres[-1]
    assert ((masks == 0) | (masks == 1)).all() and (masks.sum(0) <= 1).all()
    assert (masks.sum((1, 2)) > 0).all() and not masks[:, 0, :2].any()
    if size == (224, 224):
        assert (masks.sum(0) == 0).sum() == 5, "DC, its neighbours, and the farthest corner"


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_the_energy_of_noise_is_in_its_octave_by_the_whole_transform(size):
    centres, _ = octaves(*size)
    ky, kx = (np.fft.fftfreq(side) * side for side in size)
    radius = np.hypot(ky[:, None], kx)
    for k, centre in enumerate(centres):
        noise = octave_noise(*size, k, seed=3, n=4)[:, 0].double().numpy()
        power = np.abs(np.fft.fft2(noise)) ** 2
        inside = (radius >= centre / 2**0.5) & (radius < centre * 2**0.5)
        assert np.allclose(power[:, inside].sum(1), power.sum((1, 2)), rtol=1e-6)
        assert np.allclose((noise**2).mean((1, 2)), 1, rtol=1e-5)


def test_noise_is_each_pictures_own_and_the_same_whatever_is_drawn_with_it():
    four = octave_noise(SIDE, SIDE, 1, seed=2, n=4)
    assert torch.equal(octave_noise(SIDE, SIDE, 1, seed=2, first=2, n=2), four[2:])
    assert not torch.allclose(four[0], four[1])
    assert not torch.allclose(octave_noise(SIDE, SIDE, 1, seed=3, n=4), four)
    with pytest.raises(ValueError, match="octave=4: 32x32 pixels hold 0 to 3"):
        octave_noise(SIDE, SIDE, 4)


def test_grey_pictures_keep_their_structure_at_a_contrast():
    luma = (X * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    y = grey(X, 0.2)
    assert torch.allclose(y[:, 0].std((1, 2)), 0.2 * luma.std((1, 2)), rtol=1e-4)
    assert torch.allclose(y.mean((1, 2, 3)), torch.tensor(0.5), atol=1e-5)
    assert y[:, 1].equal(y[:, 2]) and grey(X[:, :1]).shape == (N, 1, SIDE, SIDE)


# -- planted networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("octave", range(4))
def test_a_network_that_listens_to_one_octave_is_disturbed_there_alone(octave):
    r = rivals(Listens(octave, 0.06), X, torch.zeros(N).long(), MASKS, **Q)
    assert r.octaves.tolist() == [1.75, 3.5, 7.0, 14.0]
    assert r.noise_sd.tolist() == [0, 0.02, 0.04, 0.08, 0.16]
    right = r.tables["correct"]
    assert (right[:, :3] == 1).all() and (right[octave, 3:] == 0).all()
    assert (np.delete(right, octave, 0) >= 5 / 6).all(), "but for what clipping spreads"
    log_p = r.tables["log_likelihood"].mean(2)
    assert (np.diff(log_p[octave]) < 0).all(), "more noise, less likely"
    assert np.ptp(log_p[:, 0]) == 0, "without noise the octaves are one"


def test_what_is_shown_is_grey_plus_noise_of_its_size():
    shown = []

    def model(x):
        shown.append(x.clone())
        return x.mean((2, 3))[:, :2]

    sds = [0.01, 0.3]  # of which clipping takes some
    rivals(model, X, torch.zeros(N).long(), MASKS, noise_sd=sds, seed=7, batch_size=4, **Q)
    shown = torch.cat([x for x in shown if len(x) in (4, 2)])
    shown = shown[[torch.allclose(x[0], x[1]) for x in shown]]  # grey ones
    assert len(shown) == N * 9
    for k, (octave, sd) in enumerate((o, s) for o in range(4) for s in sds):
        noise = sd * octave_noise(SIDE, SIDE, octave, 7, 0, N)
        expected = (grey(X) + noise).clamp(0, 1)
        assert torch.allclose(shown[N * (k + 1) :][:N], expected, atol=1e-6)
    assert torch.allclose(shown[:N], grey(X))


def test_the_gradient_of_a_linear_network_has_the_spectrum_of_its_weights():
    low, high = wave(1, 2), wave(0, 13)
    direction = torch.stack([low + 5, 2 * high, 0 * low])  # the mean says nothing
    r = rivals(Line(1e-3 * direction), X, torch.zeros(N).long(), MASKS, **Q)
    assert np.allclose(r.gradient_share[[0, 3]], [[0.2], [0.8]], atol=1e-6)
    assert np.allclose(r.gradient_share[1:3], 0, atol=1e-9)


def test_a_gradient_that_is_none_has_no_spectrum():
    slope = torch.stack([wave(1, 1), wave(1, 1) * 1e-30, 0 * wave(1, 1) + 3, 0 * wave(1, 1)])
    slope = torch.cat([slope, slope[:1] * torch.nan, slope[:1] + torch.inf])[:, None]
    shares = gradient_shares(slope, MASKS)
    assert np.allclose(shares[:, :2], [[1], [0], [0], [0]], atol=1e-9)
    assert np.isnan(shares[:, 2:]).all()

    def rounds(x):
        return Line(torch.ones(3, SIDE, SIDE))((x * 255).round() / 255)

    r = rivals(rounds, X, torch.zeros(N).long(), MASKS, **Q)
    assert np.isnan(r.gradient_share).all() and np.isfinite(r.tables["correct"]).all()


# -- the loop --------------------------------------------------------------------------------------


def test_as_many_passes_as_are_foreseen_and_none_twice(tmp_path):
    whole, y = Line(torch.randn(3, SIDE, SIDE)), torch.zeros(N).long()
    how = Q | {"resume": tmp_path, "batch_size": 4}
    r = rivals(whole, X, y, MASKS, **Q)
    r.save(tmp_path / "whole.npz")
    assert whole.passes == rival_passes(SIDE, SIDE, 4, N)[0]
    dies = Line(whole.direction.data.clone(), left=60)
    with pytest.raises(KeyboardInterrupt):
        rivals(dies, X, y, MASKS, **how)
    goes = Line(whole.direction.data.clone())
    rivals(goes, X, y, MASKS, **how).save(tmp_path / "again.npz")
    assert 0 < goes.passes < whole.passes - 40
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    once_more = Line(whole.direction.data.clone())
    rivals(once_more, X, y, MASKS, **how)
    assert once_more.passes == 6, "but for the first look"


@pytest.mark.slow
def test_workers_give_the_same_table():
    net, y = Listens(1, 0.06), torch.zeros(N).long()
    here, there = (rivals(net, X, y, MASKS, noise_sd=[0.1], workers=w, **Q) for w in (1, 2))
    for t in here.tables:
        assert np.array_equal(here.tables[t], there.tables[t])
    assert np.array_equal(here.gradient_share, there.gradient_share)


def test_a_table_survives_saving_and_others_are_refused(tmp_path):
    r = rivals(Listens(0, 0.1), X, torch.zeros(N).long(), MASKS, noise_sd=[0.1], **Q)
    r.save(tmp_path / "r.npz")
    back = Rivals.load(tmp_path / "r.npz")
    assert back.provenance == r.provenance and back.provenance["clean"]["n"] == N
    assert np.array_equal(back.tables["correct"], r.tables["correct"])
    assert np.array_equal(back.gradient_share, r.gradient_share)
    r.noise_sd = r.noise_sd[:1]
    r.save(tmp_path / "cut.npz")
    with pytest.raises(ValueError, match="cannot be read as a table of rivals"):
        Rivals.load(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError, match="42_rivals"):
        Rivals.load(tmp_path / "none.npz")


def test_placement_on_another_device():
    """Pictures are made on the CPU, the network sees them where it is."""
    seen = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        net.register_forward_pre_hook(lambda m, args: seen.append(args[0].device.type))
        of = _Questions(
            net, X, torch.zeros(N).long().cpu(), MASKS, 0.2, 0, "float32", torch.device("cuda"), 4
        )
        with torch.device("cpu"), pytest.raises((RuntimeError, TypeError, AttributeError)):
            _masked(of, 0, 0, 0.1)  # a fake tensor has no numbers to say whether they are finite
        slope = torch.rand(2, 3, SIDE, SIDE)
        with pytest.raises((RuntimeError, TypeError, AttributeError)):
            gradient_shares(slope, MASKS)
    assert seen == ["cuda"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"noise_sd": [0.1, 0.1]}, r"noise_sd=\[0.1, 0.1\] must be numbers above 0, the least"),
        ({"noise_sd": [0.2, 0.1]}, "the least first"),
        ({"noise_sd": []}, "the least first"),
        ({"noise_sd": [0.0, 0.1]}, "above 0"),
        ({"noise_sd": [math.nan]}, "sigma=nan"),
        ({"contrast": 0}, "contrast=0 leaves nothing"),
        ({"contrast": 1.5}, "amount=1.5"),
        ({"precision": "half"}, "precision='half'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"images": X[:, :, :6, :6], "masks": band_masks(2, (6, 6))}, "hold no two octaves"),
        ({"images": X + 1}, "range"),
        ({"labels": torch.zeros(2).long()}, "labels"),
        ({"masks": band_masks(2, (16, 16))}, "masks"),
    ],
)
def test_bad_input_is_refused_before_the_network_is_asked(arguments, said):
    net = Line(torch.ones(3, SIDE, SIDE))
    given = {"images": X, "labels": torch.zeros(N).long(), "masks": MASKS} | arguments
    with pytest.raises(ValueError, match=said):
        rivals(net, **given, **Q)
    assert net.passes == 0


def test_a_network_without_gradients_or_with_broken_answers_is_refused():
    y = torch.zeros(N).long()

    def in_numpy(x):
        return torch.from_numpy(x.detach().numpy().mean((2, 3)) - 0.5)

    with pytest.raises(ValueError, match="the input gradient needs gradients with respect to the"):
        rivals(in_numpy, X, y, MASKS, noise_sd=[0.1], **Q)

    def breaks(x):
        z = x.mean((1, 2, 3))
        grey_ones = torch.isclose(x[:, 0], x[:, 1]).all((1, 2))
        return torch.stack([z.masked_fill(grey_ones, torch.nan), -z], 1)

    with pytest.raises(ValueError, match="nan or infinite logits"):
        rivals(breaks, X, y, MASKS, noise_sd=[0.1], **Q)
