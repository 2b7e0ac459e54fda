"""Verdicts on the spectra of perturbations (Luo et al. 2023 and 2024, reports of 16_snr_report).

Every argument maps a source of perturbations to numbers (networks, photographs), nan where a
network did not measure a photograph. Networks share photographs: what is measured on one is
averaged over the networks that saw it first, and n counts photographs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from iaside.verdicts.photographs import over_photographs
from iaside.verdicts.rules import decide

Sources = Mapping[str, ArrayLike]


def mean_of_networks(values: ArrayLike) -> np.ndarray:
    """The mean over the networks that measured a photograph: (networks, ...) -> (...).

    >>> mean_of_networks([[1.0, np.nan], [3.0, 5.0]]).tolist()
    [2.0, 5.0]
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")  # nobody did: nan
        return np.nanmean(np.asarray(values, dtype=float), axis=0)


def snr_decays(slopes: Sources, data: str = "") -> dict:
    """Whether the SNR falls with frequency under every source: slopes in dB per decade.

    Source: Luo et al. 2024, Fig. 2.

    >>> slopes = {"FGSM": -20 + np.random.default_rng(0).normal(size=(2, 9))}
    >>> snr_decays(slopes)["verdict"]
    'supported'
    """
    parts = {name: over_photographs(mean_of_networks(values)) for name, values in slopes.items()}
    return decide("snr_decays", parts, data=data)


def snr_power_law(gains: Sources, data: str = "") -> dict:
    """Whether a power law describes the SNR better: AIC of the exponential minus the power law's.

    Source: Luo et al. 2024, Sec. 1.

    >>> gains = {"FGSM": 90 + np.random.default_rng(0).normal(size=(2, 9))}
    >>> snr_power_law(gains)["verdict"], snr_exponential(gains)["verdict"]
    ('supported', 'contradicted')
    """
    return decide("snr_power_law", over_photographs(_of_all(gains)), data=data)


def snr_exponential(gains: Sources, data: str = "") -> dict:
    """Whether an exponential describes the SNR better; gains as in `snr_power_law`.

    Source: Luo et al. 2024, abstract.

    >>> gains = {"FGSM": np.random.default_rng(0).normal(size=(2, 9))}
    >>> snr_exponential(gains)["verdict"]
    'undecided'
    """
    return decide("snr_exponential", over_photographs(-_of_all(gains)), data=data)


def perturbations_flatter(differences: Sources, data: str = "") -> dict:
    """Whether spectra of perturbations fall less steeply: log-log slopes minus the photographs'.

    Source: Luo et al. 2024, Sec. 1.

    >>> differences = {"FGSM": 2 + np.random.default_rng(0).normal(size=(2, 9))}
    >>> perturbations_flatter(differences)["n"]
    9
    """
    return decide("perturbations_flatter", over_photographs(_of_all(differences)), data=data)


def adversarial_high_frequency(shares: Sources, white: ArrayLike, data: str = "") -> dict:
    """Whether attacks have more of their energy in the high bands than white noise would.

    shares: of the energy; white: white noise's, one for each network, as sizes differ
    (`white_share`).
    Source: Luo et al. 2023, Sec. 4.4, Fig. 7; docs/methods.md, Verdicts (not against one half: most
    frequencies are high).

    >>> shares = {"FGSM": 0.6 + 0.1 * np.random.default_rng(0).random((2, 9))}
    >>> adversarial_high_frequency(shares, [0.754, 0.754])["verdict"]
    'contradicted'
    """
    white = np.asarray(white, dtype=float)[:, None]
    parts = {
        name: over_photographs(mean_of_networks(np.asarray(values) - white))
        for name, values in shares.items()
    }
    return decide("adversarial_high_frequency", parts, data=data)


def white_share(cells: ArrayLike) -> float:
    """White noise's share of energy in the upper half of the bands, from their frequencies, (M,).

    Source: docs/methods.md, Verdicts; `iaside.spectral.cells_per_band` counts.

    >>> round(white_share([9, 40, 72, 104, 136, 168, 200, 295]), 3)
    0.78
    """
    cells = np.asarray(cells, dtype=float)
    return float(cells[len(cells) - len(cells) // 2 :].sum() / cells.sum())


def _of_all(sources: Sources) -> np.ndarray:
    """The mean over sources of each photograph that all of them were measured on, else nan."""
    return np.mean([mean_of_networks(values) for values in sources.values()], axis=0)
