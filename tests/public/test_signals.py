"""Signals (N, C, T): their bands against numpy's FFT, the game on them, what is refused."""

import numpy as np
import pytest
import torch

import iaside as ia
from iaside.spectral import band_radii

M, T = 4, 64
MASKS = ia.band_masks(M, (T,))
Y = torch.arange(8) % 2
QUIET = dict(batch_size=32, progress=False)


def noise(n=8, channels=2, length=T, seed=0):
    return torch.randn(n, channels, length, generator=torch.Generator().manual_seed(seed))


def hears(cycles, length=T):
    """A network of two classes that decides by the tone of so many cycles, of phase 0, alone."""
    tone = torch.cos(2 * torch.pi * cycles * torch.arange(length) / length) / length
    return lambda x: torch.stack([-(x @ tone).sum(1), (x @ tone).sum(1)], 1)


def with_tones(cycles, length=T):
    """Noise, and a tone whose sign is the class."""
    tone = torch.cos(2 * torch.pi * cycles * torch.arange(length) / length)
    return 0.1 * noise(length=length) + (2 * Y.view(-1, 1, 1) - 1) * tone


def bands_by_hand(x, n_bands):
    """Each frequency of numpy's full FFT goes to the band of its share of the Nyquist frequency."""
    x = x.double().numpy()
    spectrum, length = np.fft.fft(x), x.shape[-1]
    radius = np.abs(np.fft.fftfreq(length)) * 2  # 1 is half the sampling rate
    band = np.minimum(np.floor(radius * n_bands + 1e-9), n_bands - 1)
    return np.stack([np.fft.ifft(spectrum * (band == i)).real for i in range(n_bands)])


@pytest.mark.parametrize("length", [64, 63, 50, 17])
@pytest.mark.parametrize("n_bands", [1, 3, 8])
def test_bands_are_those_of_numpys_fft_and_sum_to_the_signal(length, n_bands):
    x = noise(length=length)
    masks = ia.band_masks(n_bands, (length,))
    bands = ia.split_bands(x, masks)
    assert masks.shape == (n_bands, length // 2 + 1) and bands.shape == (n_bands, *x.shape)
    np.testing.assert_allclose(bands, bands_by_hand(x, n_bands), atol=1e-5)
    assert (bands.sum(0) - x).abs().max() < 1e-5
    energy = (x - x.mean(2, keepdim=True)).square().sum((1, 2))
    torch.testing.assert_close(ia.band_energy(x, masks).sum(0), energy)


def test_the_last_band_ends_at_half_the_sampling_rate():
    assert MASKS[:, -1].tolist() == [0, 0, 0, 1]  # T/2 cycles
    assert MASKS.argmax(0)[:-1].tolist() == [k // 8 for k in range(32)]
    assert ia.cells_per_band(MASKS, T).tolist() == [15, 16, 16, 17]
    assert band_radii(MASKS, T)[1].item() == pytest.approx((8 + 15) / 2 / 32)
    octaves = ia.band_masks(M, (T,), spacing="log2")
    assert octaves.argmax(0)[[3, 4, 7, 8, 15, 16, 32]].tolist() == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("spacing", ["linear", "log2", "equal_cells", "equal_energy"])
def test_metrics_of_one_axis_are_one(spacing):
    found = [ia.band_masks(M, (T,), m, spacing, noise()) for m in ("linf", "l2", "l2_corner")]
    assert all(torch.equal(found[0], masks) for masks in found)
    assert (found[0].sum(0) == 1).all() and found[0].any(1).all()


def test_equal_energy_and_density_of_signals():
    x = noise(64)
    energy = ia.band_energy(x, ia.band_masks(M, (T,), spacing="equal_energy", images=x)).sum(1)
    assert (energy / energy.sum()).tolist() == pytest.approx([1 / M] * M, abs=0.03)
    assert ia.esd(x).shape == (64, T // 2 + 1)
    assert ia.esd(x)[:, 1:].mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("band", range(M))
def test_a_planted_tone_gets_its_band(band):
    cycles = 8 * band + 3
    e = ia.explain(hears(cycles), with_tones(cycles), Y, masks=MASKS, value="margin", **QUIET)
    values = e.values.mean(1)
    whole = e.worths.table[-1].mean() - e.worths.table[0].mean()
    assert values[band] == pytest.approx(whole, rel=1e-5)
    assert np.abs(np.delete(values, band)).max() < 1e-5 * whole


@pytest.mark.parametrize("absence", ["zero", "mean", "replacement", "gaussian"])
def test_what_the_network_is_shown_are_sums_of_bands(absence):
    x, members = noise(), np.array([[True, False, True, False]])
    (shown,) = ia.coalition_images(x, MASKS, members, absence)
    kept = bands_by_hand(x, M)[[0, 2]].sum(0)
    if absence in ("zero", "mean"):  # a mean is in band 0, which is there
        np.testing.assert_allclose(shown, kept, atol=1e-5)
    else:
        rest = ia.split_bands(shown, MASKS)
        np.testing.assert_allclose(rest[[0, 2]].sum(0), kept, atol=1e-5)
        assert rest[[1, 3]].abs().amax((1, 2, 3)).min() > 0.1
    game = ia.Game(hears(3), x, Y, MASKS, value="margin", absence=absence, batch_size=4)
    seen = hears(3)(shown)
    margin = seen.gather(1, Y[:, None])[:, 0] - seen.gather(1, 1 - Y[:, None])[:, 0]
    np.testing.assert_allclose(game.per_image(members)[0], margin, atol=1e-5)


def test_a_network_of_one_dimension_plays_by_sampling_too():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv1d(2, 4, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(240, 2)
        ).eval()
    game = ia.Game(net, noise(), Y, MASKS, batch_size=32)
    assert "asked" not in game.provenance  # as usual, although pixels cannot lie channels last
    worths = ia.exact(game, progress=False)
    bands = ia.split_bands(noise(), MASKS)
    with torch.no_grad():
        by_hand = net(bands[1] + bands[3]).log_softmax(1).gather(1, Y[:, None])[:, 0]
    np.testing.assert_allclose(worths.table[0b1010], by_hand, atol=1e-5)
    assert ia.sample(game, budget=8 * 16, progress=False).images.size == 8


def test_intervals_of_signals_are_over_signals(tmp_path):
    how = {"masks": MASKS, "value": "margin", "bias": "none"} | QUIET
    e = ia.explain(hears(3), with_tones(3), Y, **how)
    e.save(tmp_path / "e")
    both = ia.compare(e, ia.Explanation.load(tmp_path / "e"))
    told = [e.psi, e.sid, e.score, e.shares, e.these_images(), e.src("signed"), both.psi, both.sid]
    told += [e.per_class()[1]] if 1 in e.per_class() else []
    assert {one.unit for one in told} == {"signals"}
    assert str(e).startswith("8 signals, 4 bands")
    image = ia.explain(lambda x: x.flatten(1)[:, :2], torch.rand(6, 3, 8, 8), Y[:6], 2, **QUIET)
    assert image.psi.unit == "photographs" and "unit" not in image.worths.provenance
    assert str(image).startswith("6 images, 2 bands")


def test_other_signals_are_not_compared():
    first, second = (
        ia.explain(hears(3), x, Y, masks=MASKS, value="margin", **QUIET)
        for x in (with_tones(3), 2 * with_tones(3))
    )
    assert ia.compare(first, first).psi.value == pytest.approx(0)
    with pytest.raises(ValueError, match="measurements of different photographs"):
        ia.compare(first, second)


BAD = {
    "too short": (lambda: ia.band_masks(M, (7,)), "signals of at least 8 samples, got 7 samples;"),
    "no size": (lambda: ia.band_masks(M, ()), r"size=\(\) must be .* or \(T,\), one of samples"),
    "empty": (lambda: ia.band_masks(8, (16,), spacing="log2"), "of 16 samples leave band . empty"),
    "other length": (
        lambda: ia.split_bands(noise(length=60), MASKS),
        r"do not fit signals of 60 samples; make them with band_masks\(n_bands, \(60,\)\)",
    ),
    "masks of images": (
        lambda: ia.split_bands(noise(), ia.band_masks(2, (T, T))),
        r"\(2, 64, 33\) are not \(M, T//2 \+ 1\), one for each band of signals",
    ),
    "masks of signals": (
        lambda: ia.split_bands(torch.rand(1, 1, T, T), MASKS),
        r"\(4, 33\) are not \(M, H, W//2 \+ 1\), one for each band of images",
    ),
    "one forgotten": (
        lambda: ia.split_bands(noise(), MASKS[1:]),
        r"they sum to 0 at k = 0 \(cycles per signal\) and must sum to 1",
    ),
    "a callable": (
        lambda: ia.split_bands(noise(), lambda x: torch.stack([x, x])),
        r"sum to .* sample \d+, .* apart\); it must return \(M, B, C, T\) bands that sum to x",
    ),
    "wavelets": (
        lambda: ia.split_bands(noise(channels=64), ia.wavelet_bands("haar", 2)),
        r"wavelet levels are of images \(B, C, H, W\).*band_masks\(n_bands, \(64,\)\)",
    ),
    "nan": (
        lambda: ia.Game(hears(3), noise().where(noise() < 2, torch.nan), Y, MASKS),
        r"nan or inf in signals \[.*\]; leave them out",
    ),
    "no masks": (
        lambda: ia.explain(hears(3), noise(), Y, n_bands=2),
        r"\(8, 2, 64\) are signals .* masks=band_masks\(2, \(64,\)\), or grey .* images\[:, None\]",
    ),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_input_is_named(call):
    do, message = BAD[call]
    with pytest.raises(ValueError, match=message):
        do()


def test_only_the_game_takes_signals():
    for call in (
        lambda: ia.perturb(noise(), "white_noise", sigma=0.1),
        lambda: ia.responses(hears(3), noise(), Y, [], MASKS, progress=False),
    ):
        with pytest.raises(TypeError, match=r"images must be a tensor \(N, C, H, W\), got \(8, 2"):
            call()
