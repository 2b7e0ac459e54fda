"""The partition is one, the bands add up, the spectra are those of known signals."""

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

from iaside.spectral import (
    METRICS,
    band_energy,
    band_masks,
    band_radii,
    cells_per_band,
    decay_fits,
    esd,
    spectral_snr,
    split_bands,
)

COUNTS = {
    (224, "linf"): [729, 2296, 3864, 5432, 7000, 8568, 10136, 12151],
    (224, "l2"): [609, 1840, 3072, 4320, 5520, 6768, 8016, 20031],
    (224, "l2_corner"): [1225, 3696, 6144, 8632, 11044, 12130, 5632, 1673],
    (32, "linf"): [9, 40, 72, 104, 136, 168, 200, 295],
    (64, "linf"): [49, 176, 304, 432, 560, 688, 816, 1071],
}


@pytest.mark.parametrize(("side", "metric"), COUNTS)
def test_cells_per_band_are_the_known_counts(side, metric):
    masks = band_masks(8, (side, side), metric)
    assert cells_per_band(masks, side).tolist() == COUNTS[side, metric]


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (32, 47), (47, 32), (31, 40)])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spacing", ["linear", "log2", "equal_cells", "equal_energy"])
def test_bands_are_a_partition_and_add_up(size, metric, spacing):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    masks = band_masks(4, size, metric, spacing, images=x)
    assert ((masks == 0) | (masks == 1)).all() and (masks.sum(0) == 1).all()
    assert int(cells_per_band(masks, size[1]).sum()) == size[0] * size[1]
    assert masks[0, 0, 0] == 1, "DC belongs to band 0"
    bands = split_bands(x, masks)
    assert bands.shape == (4, 2, 3, *size)
    assert (bands.sum(0) - x).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(32, 32), (31, 40)])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spacing", ["linear", "log2", "equal_cells"])
def test_band_radii_are_those_of_the_full_plane(size, metric, spacing):
    masks = band_masks(4, size, metric, spacing)
    radii, cells = band_radii(masks, size[1]), cells_per_band(masks, size[1])
    axes = [2 * torch.fft.fftfreq(side, dtype=torch.float64) for side in size]
    radius = torch.hypot(axes[0][:, None], axes[1][None])
    whole = torch.cat(
        [masks, masks[:, (-torch.arange(size[0])) % size[0]][:, :, 1 : (size[1] + 1) // 2].flip(2)],
        2,
    ).bool()
    expected = torch.stack([radius[band].mean() for band in whole])
    assert torch.allclose(radii, expected) and (radii.diff() > 0).all()
    # However it is cut, the frequencies are the same.
    assert math.isclose((cells * radii).sum() / cells.sum(), radius.mean())


@pytest.mark.parametrize("size", [(32, 32), (31, 40)])
@pytest.mark.parametrize("metric", METRICS)
def test_masks_are_hermitian(size, metric):
    """The full-plane mask passes a real image as a real image: no imaginary residue."""
    height, width = size
    x = torch.rand(1, 1, height, width, dtype=torch.float64)
    masks = band_masks(5, size, metric)
    for mask, band in zip(masks, split_bands(x, masks), strict=True):
        full = torch.zeros(height, width)
        full[:, : width // 2 + 1] = mask
        for v in range(width // 2 + 1, width):
            full[:, v] = mask[(-torch.arange(height)) % height, width - v]
        filtered = torch.fft.ifft2(torch.fft.fft2(x) * full)
        assert filtered.imag.abs().max() < 1e-14
        assert torch.allclose(filtered.real, band, atol=1e-14)


@pytest.mark.parametrize("side", [164, 188, 196, 220, 244])
def test_linear_edges_do_not_misround(side):
    """Sides at which M * r in floating point puts an edge frequency into the wrong band."""
    masks = band_masks(8, (side, side))
    for k in range(side // 2 + 1):
        assert masks[:, 0, k].argmax() == min(16 * k // side, 7)


def test_octaves_double():
    masks = band_masks(4, (64, 64), spacing="log2")
    starts = [int(masks[i, 0].nonzero()[0]) for i in range(4)]
    assert starts == [0, 4, 8, 16]


def test_equal_spacings_are_as_equal_as_shells_allow():
    cells = cells_per_band(band_masks(8, (224, 224), spacing="equal_cells"), 224).double()
    assert (cells / cells.mean() - 1).abs().max() < 0.12
    noise = torch.randn(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft2(noise)
    radius = band_radius(128)
    x = torch.fft.irfft2(spectrum / radius.clamp(min=1), s=(128, 128))
    masks = band_masks(4, (128, 128), spacing="equal_energy", images=x)
    energy = split_bands(x - x.mean((2, 3), keepdim=True), masks).square().sum(dim=(1, 2, 3, 4))
    assert (energy / energy.mean() - 1).abs().max() < 0.25
    crowded = band_masks(8, (128, 128), spacing="equal_energy", images=x)
    assert cells_per_band(crowded, 128).min() > 0, "one shell outweighs a share"
    linear = split_bands(x - x.mean((2, 3), keepdim=True), band_masks(4, (128, 128)))
    assert linear.square().sum(dim=(1, 2, 3, 4))[0] / energy.sum() > 0.5


def band_radius(side):
    ky = torch.fft.fftfreq(side)[:, None] * side
    kx = torch.fft.rfftfreq(side)[None] * side
    return (ky**2 + kx**2).sqrt()


def test_natural_like_energy_per_band():
    """1/f images at 64 px: the shares of AC energy per band of docs/methods.md, Bands."""
    noise = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    x = torch.fft.irfft2(torch.fft.rfft2(noise) / band_radius(64).clamp(min=1), s=(64, 64))
    x = x - x.mean((2, 3), keepdim=True)
    energy = split_bands(x, band_masks(8, (64, 64))).square().sum(dim=(1, 2, 3, 4))
    expected = torch.tensor([0.446, 0.192, 0.106, 0.075, 0.057, 0.047, 0.040, 0.038])
    assert (energy / energy.sum() - expected).abs().max() < 0.02


def test_bands_are_orthogonal_and_differentiable():
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    masks = band_masks(4, (32, 32))
    bands = split_bands(x, masks)
    gram = torch.einsum("ibchw,jbchw->ij", bands, bands)
    assert (gram - gram.diag().diag()).abs().max() < 1e-9
    bands[2].square().sum().backward()
    assert torch.allclose(x.grad, 2 * bands[2].detach(), atol=1e-10)


def test_a_callable_may_stand_in_for_masks():
    x = torch.rand(2, 3, 16, 16)
    by_channel = lambda t: torch.stack([t * (torch.arange(3) == c).view(3, 1, 1) for c in range(3)])  # noqa: E731,E501
    assert torch.equal(split_bands(x, by_channel).sum(0), x)
    with pytest.raises(ValueError, match="must return .* bands that sum to x"):
        split_bands(x, lambda t: torch.stack([t, t]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: band_masks(8, (14, 32)), "n_bands=8 needs images of at least 16 .* got 14x32"),
        (lambda: band_masks(0, (32, 32)), "n_bands=0 must be a whole number, at least 1"),
        (lambda: band_masks(2.0, (32, 32)), "n_bands=2.0 must be a whole number"),
        (lambda: band_masks("3", (32, 32)), "n_bands='3' must be a whole number"),
        (lambda: band_masks(True, (32, 32)), "n_bands=True must be a whole number"),
        (lambda: band_masks(2, (32.0, 32)), r"size=\(32.0, 32\) must be \(H, W\), two whole"),
        (lambda: band_masks(2, (3, 32, 32)), r"size=\(3, 32, 32\) must be \(H, W\), two whole"),
        (lambda: band_masks(4, (32, 32), metric="l3"), "metric='l3' is not known; choose one of"),
        (lambda: band_masks(4, (32, 32), spacing="x"), "spacing='x' is not known; choose one of"),
        (lambda: band_masks(4, (32, 32), spacing="equal_energy"), "needs images="),
        (lambda: band_masks(8, (32, 32), spacing="log2"), "leave band 0|leave band 1"),
        (lambda: split_bands(torch.rand(1, 1, 16, 16), band_masks(2, (8, 8))), "do not fit images"),
        (lambda: spectral_snr(torch.rand(1, 1, 8, 8), torch.rand(2, 1, 8, 8)), "same images"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [0.3, 1.0, 1 / 3, 1e9])
def test_a_constant_profile_speaks_for_neither_law(value):
    steps = torch.randint(-1, 2, (65,), generator=torch.Generator().manual_seed(0))
    flat = value * (1 + steps.double() * torch.finfo(torch.float64).eps)
    for profile in (flat, torch.full((65,), value, dtype=torch.float64)):
        exponent, rate, gain = decay_fits(profile)
        assert exponent.abs() < 1e-12 and rate.abs() < 1e-12 and gain == 0


def test_half_precision_images_are_refused():
    with pytest.raises(TypeError, match="float32 or float64"):
        split_bands(torch.rand(1, 1, 8, 8).bfloat16(), band_masks(2, (8, 8)))


@pytest.mark.parametrize("size", [(64, 64), (63, 48)])
def test_white_noise_has_its_variance_as_density(size):
    noise = 0.3 * torch.randn(200, 3, *size, generator=torch.Generator().manual_seed(0))
    density = esd(noise).mean(0)
    assert density.shape == (min(size) // 2 + 1,)
    assert (density / 0.09 - 1).abs().max() < 0.25
    assert abs(density[1:].mean() / 0.09 - 1) < 0.01


def test_snr_of_white_noise_on_a_natural_spectrum_falls_by_20_db_a_decade():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 1, 128, 128, generator=generator)
    x = torch.fft.irfft2(torch.fft.rfft2(noise) / band_radius(128).clamp(min=1), s=(128, 128))
    y = x + torch.randn(x.shape, generator=generator)
    snr = spectral_snr(x, y)[1:]
    slope = torch.linalg.lstsq(
        torch.stack([torch.arange(1, 65.0).log10(), torch.ones(64)], 1), 10 * snr.log10()[:, None]
    ).solution[0]
    assert abs(slope + 20) < 1


def test_decay_fits_tell_a_power_law_from_an_exponential():
    r = torch.arange(0.0, 65.0)
    a, b, gain = decay_fits(torch.stack([r.clamp(min=1) ** -2.5, torch.exp(-0.1 * r)]))
    assert math.isclose(a[0], 2.5, abs_tol=1e-6) and gain[0] > 100
    assert math.isclose(b[1], 0.1, abs_tol=1e-6) and gain[1] < -100


@pytest.mark.parametrize("size", [(32, 32), (31, 40)])
def test_energy_of_a_band_is_that_of_its_frequencies(size):
    """Parseval, on the full plane: every frequency by its own larger coordinate."""
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    power = torch.fft.fft2(x, norm="ortho").abs().square().sum(1)
    power[:, 0, 0] = 0  # the mean does not count
    expected = torch.zeros(4, 2, dtype=torch.float64)
    for u in range(size[0]):
        for v in range(size[1]):
            ky, kx = min(u, size[0] - u), min(v, size[1] - v)
            band = max(2 * ky * 4 // size[0], 2 * kx * 4 // size[1])
            expected[min(band, 3)] += power[:, u, v]
    energy = band_energy(x, band_masks(4, size))
    assert torch.allclose(energy, expected)
    without_mean = x - x.mean((2, 3), keepdim=True)
    assert torch.allclose(energy.sum(0), without_mean.square().sum((1, 2, 3)))
    many = x.repeat(20, 1, 1, 1)
    assert torch.allclose(band_energy(many, band_masks(4, size)), energy.repeat(1, 20)), "pieces"


def test_white_noise_has_energy_as_a_band_has_frequencies():
    noise = torch.randn(50, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = band_masks(8, (64, 64))
    share = band_energy(noise, masks).sum(1) / noise.square().sum()
    assert (share / (cells_per_band(masks, 64) / 64**2) - 1).abs().max() < 0.03


def test_energies_stay_where_the_images_are(monkeypatch):
    masks = band_masks(3, (16, 16))
    monkeypatch.setattr("iaside.spectral.check_partition", lambda m, *size: m)  # looks at values
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.rand(2, 3, 16, 16, device="cuda")
        assert band_energy(x, masks).device.type == "cuda"


def test_the_exponent_of_a_ratio_is_the_difference_of_the_exponents():
    """Why "the SNR decays" and "the perturbation is flatter than the image" are one statement."""
    x, change = torch.rand(2, 5, 65, dtype=torch.float64) + 0.1
    ratio, own, other = (decay_fits(p)[0] for p in (x / change, x, change))
    assert torch.allclose(ratio, own - other)
