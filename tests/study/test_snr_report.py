"""Verdicts on the spectra of perturbations: planted numbers, by themselves and in the report."""

import numpy as np
import pytest
import torch
from made_up import report

from iaside.robustness.snr import spectra
from iaside.spectral import band_energy, band_masks, cells_per_band
from iaside.tables import save_table
from iaside.verdicts import snr
from iaside.verdicts.photographs import over_photographs

N = 24
SOURCES = [
    "white noise",
    "Poisson",
    "salt and pepper",
    "Gaussian blur",
    "FGSM",
    "PGD",
    "SparseFool",
    "Pixle",
    "white noise in band 0",
    "PGD in band 0",
]


def drawn(centre, networks=2, n=N, seed=0):
    return centre + np.random.default_rng(seed).normal(size=(networks, n))


@pytest.mark.parametrize(
    ("side", "metric", "wanted"),
    [(224, "linf", 0.754), (64, "linf", 0.765), (32, "linf", 0.780), (64, "l2_corner", None)],
)
def test_white_noise_has_the_share_of_the_frequencies(side, metric, wanted):
    """As counted, as published (docs/methods.md, Verdicts), and as measured of noise, within four
    errors."""
    masks = band_masks(8, (side, side), metric)
    share = snr.white_share(cells_per_band(masks, side))
    assert wanted is None or share == pytest.approx(wanted, abs=5e-4)
    draw = torch.Generator().manual_seed(0)
    energy = band_energy(torch.randn(40, 3, side, side, generator=draw), masks)
    measured = (energy[4:].sum(0) / energy.sum(0)).numpy()
    assert abs(measured.mean() - share) < 4 * measured.std() / np.sqrt(40)
    assert snr.white_share([1, 2, 3]) == 0.5, "of three bands the highest"


def test_white_noise_is_of_no_higher_frequency_than_white_noise():
    """The claim was read against one half before, and white noise then supported it."""
    shares, white = {"FGSM": [], "PGD": []}, []
    for k, side in enumerate((32, 64)):  # networks of different sizes, and shares
        masks = band_masks(8, (side, side))
        white.append(snr.white_share(cells_per_band(masks, side)))
        for j, rows in enumerate(shares.values()):
            draw = torch.Generator().manual_seed(10 * k + j)
            energy = band_energy(torch.randn(N, 1, side, side, generator=draw), masks)
            rows.append((energy[4:].sum(0) / energy.sum(0)).numpy())
    row = snr.adversarial_high_frequency(shares, white)
    assert row["verdict"] == "undecided" and abs(row["value"]) < 0.005 and row["n"] == N
    higher = {name: np.array(rows) + 0.05 for name, rows in shares.items()}
    assert snr.adversarial_high_frequency(higher, white)["verdict"] == "supported"
    lower = higher | {"PGD": np.array(shares["PGD"]) - 0.05}
    row = snr.adversarial_high_frequency(lower, white)
    assert row["verdict"] == "contradicted" and "worst of 2: PGD" in row["note"]


def test_every_source_has_to_decay():
    slopes = {name: drawn(-20, seed=k) for k, name in enumerate(SOURCES[:8])}
    row = snr.snr_decays(slopes)
    assert row["verdict"] == "supported" and row["n"] == N and len(row["parts"]) == 8
    slopes["Pixle"] = drawn(20)
    assert snr.snr_decays(slopes)["verdict"] == "contradicted"
    slopes["Pixle"] = np.full((2, N), np.nan)
    slopes["Pixle"][0, :4] = [-20, -21, -19, -20]
    row = snr.snr_decays(slopes)
    assert row["verdict"] == "undecided" and "n = 4 photographs, 5 are needed" in row["note"]


def test_both_laws_are_judged_by_one_number_of_two_signs():
    gains = {name: drawn(30, seed=k) for k, name in enumerate(SOURCES[:8])}
    assert snr.snr_power_law(gains)["verdict"] == "supported"
    assert snr.snr_exponential(gains)["verdict"] == "contradicted"
    opposite = {name: -values for name, values in gains.items()}
    assert snr.snr_power_law(opposite)["verdict"] == "contradicted"
    assert snr.snr_exponential(opposite)["verdict"] == "supported"
    gains["FGSM"][:, 7:] = np.nan
    row = snr.snr_power_law(gains)
    assert row["n"] == 7, "photographs that all sources were measured on"
    mean = np.mean([values[:, :7] for values in gains.values()])
    assert row["value"] == pytest.approx(mean)


def test_a_photograph_counts_once_however_many_networks_saw_it():
    values = drawn(1, networks=3)
    values[1, :5] = values[2] = np.nan
    values[:, 9] = np.nan
    pooled = snr.mean_of_networks(values)
    assert pooled[:5] == pytest.approx(values[0, :5])
    assert pooled[5] == pytest.approx(values[:2, 5].mean()) and np.isnan(pooled[9])
    assert over_photographs(pooled)(0.95).n == N - 1
    flat = {name: values for name in SOURCES[:8]}
    assert snr.perturbations_flatter(flat)["n"] == N - 1


def write_spectra(root, name, side, high=1.0, bands=4):
    """Photographs of 1/f**2 under noise: attacks with `high` times the power in the high bands."""
    rng = torch.Generator().manual_seed(side)
    masks = band_masks(bands, (side, side))
    radius = 1 + side * torch.fft.fftfreq(side).abs()
    f = torch.fft.rfft2(torch.randn(N, 3, side, side, generator=rng))
    x = torch.fft.irfft2(f / torch.outer(radius, radius[: side // 2 + 1]), s=(side, side))
    radii = spectra(x, masks).shape[1] - bands
    table = np.full((len(SOURCES), N, radii + bands + 1), np.nan)
    for s, source in enumerate(SOURCES):
        f = torch.fft.rfft2(torch.randn(N, 3, side, side, generator=rng))
        attack = source in ("FGSM", "PGD")
        louder = 1 + attack * (high**0.5 - 1) * masks[bands // 2 :].sum(0)
        table[s, :, :-1] = spectra(torch.fft.irfft2(f * louder, s=(side, side)), masks)
        table[s, :, -1] = 1
    about = {
        "sources": SOURCES,
        "energy": 0.1,
        "n_bands": bands,
        "metric": "linf",
        "input_size": [side, side],
        "precision": "float32",
        "device": "cpu",
    }
    save_table(
        root / f"results/snr/tables/{name}.npz",
        about,
        {
            "image_esd": spectra(x, masks)[:, :radii],
            "image_energy": spectra(x, masks)[:, radii:],
            "image_correct": np.ones(N, bool),
            "esd": table[..., :radii],
            "energy": table[..., radii:-1],
            "correct": table[..., -1],
        },
    )


@pytest.mark.parametrize(("high", "verdict"), [(0.5, "contradicted"), (2.0, "supported")])
@pytest.mark.slow
def test_planted_spectra_are_found_and_judged(tmp_path, high, verdict):
    (tmp_path / "params.yaml").write_text("")
    models = {}
    for name, side in (("a", 32), ("b", 48)):
        write_spectra(tmp_path, name, side, high)
        models[name] = {"name": name}
    found, metrics = report(tmp_path, "16_snr_report", models=models)
    row = found["adversarial_high_frequency"]
    assert row["verdict"] == verdict and {p["part"] for p in row["parts"]} == {"FGSM", "PGD"}
    share = snr.white_share(cells_per_band(band_masks(4, (32, 32)), 32))
    wanted = high * share / (high * share + 1 - share) - share
    assert metrics["FGSM"]["above white"]["value"] == pytest.approx(wanted, abs=0.01)
    white = metrics["white noise"]["above white"]
    assert abs(white["value"]) < 0.005 and white["n"] == N and white["unit"] == "photographs"
    assert found["snr_decays"]["verdict"] == "supported", "photographs fall, noise does not"
    assert found["perturbations_flatter"]["verdict"] == "supported"
    assert {r["data"] for r in found.values()} == {"ImageNet photographs"}
