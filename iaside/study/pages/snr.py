"""Tables of 16_snr_report: spectra of perturbations, and what follows from each network's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from iaside.backend.files import reading
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import mean_interval
from iaside.spectral import band_masks, cells_per_band, decay_fits
from iaside.study.pages.common import columns
from iaside.tables import load_table
from iaside.verdicts.snr import mean_of_networks, white_share

COUNTS = ["measured", "left unchanged", "classified correctly before", "of these not after"]


def load_spectra(models: Mapping) -> tuple[dict, dict]:
    """Provenance and tables of each network; what an attack left unchanged has no spectrum: nan.

    Adds to the tables `measured` (sources, photographs) and `counts` (`COUNTS`, sources).
    """
    about, tables = {}, {}
    for m in models:
        path = f"results/snr/tables/{m}.npz"
        with reading(path, "measured spectra", "run `dvc repro -f snr`"):
            about[m], tables[m] = load_table(path)
    for t in tables.values():
        unchanged, asked = t["energy"].sum(2) == 0, ~np.isnan(t["correct"])
        before = asked & ~unchanged & t["image_correct"]
        per_source = [asked, unchanged, before, before & (t["correct"] == 0)]
        t["counts"], t["measured"] = np.stack([v.sum(1) for v in per_source]), asked & ~unchanged
        t["esd"][unchanged] = t["energy"][unchanged] = np.nan
    return about, tables


def decibels(t: Mapping[str, np.ndarray]) -> np.ndarray:
    """Spectral SNR of each photograph (sources, photographs, radii) in dB."""
    return 10 * np.log10(t["image_esd"] / t["esd"])


def ratio_of_means(tables: Sequence[Mapping], radii: int) -> np.ndarray:
    """SNR of the mean spectra over photographs, (sources, radii - 1) in dB, without DC.

    Source: Luo et al. (2024), Eqs. 1 and 2.
    """
    signal = mean_of_networks([(t["image_esd"] + 0 * t["esd"])[..., 1:radii] for t in tables])
    noise = mean_of_networks([t["esd"][..., 1:radii] for t in tables])
    return 10 * np.log10(np.nanmean(signal, 1) / np.nanmean(noise, 1))


def slope(profile: ArrayLike, r: ArrayLike) -> np.ndarray:
    """Least-squares slope of profiles (..., radii) against log10 of the radius.

    >>> slope(-20 * np.log10([1.0, 10.0, 100.0]), [1.0, 10.0, 100.0])
    np.float64(-20.0)
    """
    centred = np.log10(r) - np.log10(r).mean()
    return (profile * centred).sum(-1) / (centred**2).sum()


def measures(t: Mapping[str, np.ndarray], about: Mapping, level: float) -> dict[str, np.ndarray]:
    """What is judged of one network's spectra: numbers (sources, photographs), shares (..., M).

    level: in dB, below which a perturbation overwhelms the photograph.
    """
    every, db, M = np.arange(1, t["esd"].shape[2]), decibels(t)[..., 1:], about["n_bands"]
    half, total = len(every) // 2, t["energy"].sum(2)
    decay, _, gain = decay_fits(torch.from_numpy(t["image_esd"] / t["esd"]))
    own, image = (decay_fits(torch.from_numpy(t[key]))[0].numpy() for key in ["esd", "image_esd"])
    touched = t["energy"] > 1e-6 * total[..., None]
    high = t["energy"][..., -(M // 2) :].sum(2) / total
    return {
        "slope": -10 * decay.numpy(),
        "lower": slope(db[..., :half], every[:half]),
        "upper": slope(db[..., half:], every[half:]),
        "gain": gain.numpy(),
        "own": own,
        "image": image + 0 * own,
        "flatter": image - own,
        "high": high,
        "above white": high - white_energy(about),
        "above": np.where(np.isnan(db[..., 0]), np.nan, (db > level).mean(2)),
        "share": t["energy"] / total[..., None],
        "band_snr": np.where(touched, 10 * np.log10(t["image_energy"] / t["energy"]), np.nan),
        "lost": np.where(t["measured"] & t["image_correct"], 1 - t["correct"], np.nan),
    }


def white_energy(about: Mapping) -> float:
    """The share of the energy of white noise that lies in the high bands of a network's input."""
    masks = band_masks(about["n_bands"], about["input_size"], about["metric"])
    return white_share(cells_per_band(masks, about["input_size"][1]))


def mean_curve(name: str, profiles: np.ndarray, **about: ArrayLike) -> pd.DataFrame | None:
    """Mean of profiles (photographs, radii) with limits, over those that have all of them.

    >>> mean_curve("snr", np.arange(10.0).reshape(5, 2), radius=[1, 2])["snr"].tolist()
    [4.0, 5.0]
    """
    kept = profiles[np.isfinite(profiles).all(1)]
    return pd.DataFrame(about | columns(name, mean_interval(kept.T))) if len(kept) else None


def laws(mean: np.ndarray, radius: np.ndarray) -> dict[str, np.ndarray]:
    """The power law and the exponential that fit an SNR (radii,) in dB best, DC left out."""
    linear = torch.from_numpy(10 ** (np.insert(mean, 0, 0) / 10))
    a, b, _ = (f.item() for f in decay_fits(linear))
    log_r = np.log10(radius)
    return {
        "power law": mean.mean() - 10 * a * (log_r - log_r.mean()),
        "exponential": mean.mean() - 10 * b * np.log10(np.e) * (radius - radius.mean()),
    }


def attacks_over_noise(tables: Mapping, about: Mapping, names: Sequence[str]) -> pd.DataFrame:
    """ESD of attacks over that of white noise of the same energy, in dB, network by network."""
    rows = []
    for m, t in tables.items():
        flat = t["energy"].sum(2) / (3 * np.prod(about[m]["input_size"]))
        relative = 10 * np.log10(t["esd"][..., 1:] / flat[..., None])
        for name in names:
            line = np.nanmean(relative[about[m]["sources"].index(name)], 0)
            part = {"radius": 1 + np.arange(len(line)), "relative": line}
            rows.append(pd.DataFrame(part | {"source": name, "model": m}))
    return pd.concat(rows)


def high_band_words(of: Callable[[str, str], Estimate], shown: Sequence[str], white: list) -> str:
    """Which share of the energy of perturbations lies in the high bands, beside white noise's."""
    portions = [f"{share:.3f}" for share in white]
    own = "; ".join(f"{name} {of('high', name).limits('.0%')}" for name in shown)
    counts = {share: portions.count(share) for share in portions}
    noise = ", ".join(f"{p} in {k} of {len(white)} networks" for p, k in counts.items())
    beyond = "; ".join(f"{m} {of('above white', m).limits('+.2f')}" for m in ["FGSM", "PGD"])
    return (
        f"{own}. White noise has there the share of the frequencies, {noise}. Compared with that: "
        f"{beyond} (below 0: the attack is of lower frequency than noise)."
    )
