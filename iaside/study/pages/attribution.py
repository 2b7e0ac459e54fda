"""Tables of 81_attribution_report: which maps find the pixels that a prediction rests on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iaside.attribution.examination_table import Examination
from iaside.attribution.faithfulness import RANKS
from iaside.attribution.frequency import band_weights, energy_cutoff, frequency_samples
from iaside.attribution.options import PRODUCTS
from iaside.estimate.accuracy import accuracy_difference
from iaside.estimate.estimate import Estimate
from iaside.shapley import shapley_values
from iaside.verdicts import figures
from iaside.verdicts.attribution import best_cell, lead
from iaside.verdicts.photographs import over_photographs

READINGS = list(itertools.product(PRODUCTS, RANKS))  # what the sources leave open
INSERTION = {"pixel": "insertion", "channel": "insertion_channel"}


class Maps:
    """What 80_attributions found of each network, by network, variant and quantity.

    prior: the method that gains are measured against.
    """

    def __init__(self, models: Sequence[str], prior: str) -> None:
        read = {m: Examination.load(f"results/attributions/tables/{m}.npz") for m in models}
        self.prior = prior
        self.found = {m: examination for m, (examination, _) in read.items()}
        self.games = {m: more["worths"] for m, (_, more) in read.items()}
        self.about = next(iter(self.found.values())).provenance
        self.n, self.alpha = self.about["n_images"], self.about["alpha"]
        self.variants = {v: d for e in self.found.values() for v, d in e.variants.items()}
        fampe = [d for v, d in self.variants.items() if v.startswith("fampe")]
        self.alphas = sorted({d["alpha"] for d in fampe})
        without = {"clean", "pgd", *self.about["only"]}
        self.methods = [v for v in self.variants if v not in without]
        self.baselines = [v for v in self.methods if not v.startswith("fampe")]

    def fampe(self, alpha: float, product: str = "gradient") -> str:
        """The variant of FAMPE at an alpha."""
        name = "fampe" if alpha == self.alpha else f"fampe alpha={alpha:g}"
        return name if product == "gradient" else f"{name}, update"

    def values(self, m: str, v: str, quantity: str = "insertion") -> np.ndarray:
        """A quantity of each photograph; nan where a map is zero everywhere, or there is none."""
        e = self.found[m]
        return e.rows(v)[quantity] if v in e.variants else np.full(self.n, np.nan)

    def every_network(self, v: str, rank: str) -> np.ndarray:
        """The Insertion Score of each network and photograph."""
        return np.stack([self.values(m, v, INSERTION[rank]) for m in self.found])

    def one(self, m: str, v: str, quantity: str = "insertion") -> Estimate:
        """The mean of a quantity over photographs, with limits."""
        return over_photographs(self.values(m, v, quantity))(0.95).within(0, 1)

    def paired(self, m: str, first: str, second: str, quantity: str = "insertion") -> Estimate:
        """How far one variant is above another, in pairs over photographs."""
        pair = self.values(m, first, quantity), self.values(m, second, quantity)
        return lead(*pair)(0.95).within(-1, 1)

    def paired_both(self, m: str, first: str, second: str) -> Estimate:
        """The same of insertion minus deletion."""
        return lead(self.both(m, first), self.both(m, second))(0.95).within(-2, 2)

    def both(self, m: str, v: str) -> np.ndarray:
        """Insertion minus deletion of each photograph."""
        return self.values(m, v) - self.values(m, v, "deletion")

    def left_out(self) -> list[str]:
        """Maps that are none, network by network, in words."""
        text = []
        for m, v in itertools.product(self.found, self.methods):
            if v not in self.found[m].variants:
                text.append(f"{m}: there is no {v} of this network; left out")
            elif none := int(np.isnan(self.values(m, v)).sum()):
                text.append(
                    f"{m}: {none} of {self.n} maps of {v} are zero everywhere, which are no maps: "
                    "left out"
                )
        return text

    def best(self, m: str) -> list[str]:
        """The methods of the highest mean Insertion Score; [] where no map is one."""
        means = np.array([self.one(m, v).value for v in self.methods])
        return [v for v, mean in zip(self.methods, means, strict=True) if mean == np.nanmax(means)]

    def row(self, m: str, v: str) -> dict[str, str]:
        """All that is shown of one network's maps of one method, as text."""
        total, change = (self.values(m, v, q) for q in ("total", "change"))
        gaps = np.abs(total - change) / np.abs(change)  # few methods promise a sum
        gain = self.paired(m, v, self.prior).limits("+.3f") if v != self.prior else ""
        return {
            "insertion": self.one(m, v).limits(".3f"),
            "the same by channel": self.one(m, v, "insertion_channel").limits(".3f"),
            "deletion": self.one(m, v, "deletion").limits(".3f"),
            "insertion - deletion": over_photographs(self.both(m, v))(0.95)
            .within(-1, 1)
            .limits(".3f"),
            f"insertion, minus {self.prior}": gain,
            "tied pixels": self._mean(m, v, "ties", ".1%"),
            "infidelity": self._mean(m, v, "infidelity", ".2g"),
            "like the control's map": self._mean(m, v, "similarity", "+.2f"),
            "completeness gap": f"{np.nanmedian(gaps):.0%}" if np.isfinite(gaps).any() else "",
            "gradients per map": self._mean(m, v, "passes", ".0f"),
        }

    def _mean(self, m: str, v: str, quantity: str, spec: str) -> str:
        mean = np.nanmean(self.values(m, v, quantity))
        return f"{mean:{spec}}" if np.isfinite(mean) else "none"

    def oracle(self, m: str) -> tuple[np.ndarray, np.ndarray]:
        """The highest Insertion Score of any alpha, and which alphas have it, by photograph."""
        scores = np.array([self.values(m, self.fampe(a)) for a in self.alphas])
        highest = scores.max(0)
        return highest, scores == highest

    def oracle_row(self, m: str) -> dict[str, str]:
        """What the best alpha of every photograph, after the fact, would gain."""
        highest, best = self.oracle(m)
        prior, fixed = self.values(m, self.prior), self.values(m, "fampe")
        counts = zip(self.alphas, best.sum(1), strict=True)
        return {
            f"fixed alpha, minus {self.prior}": self.paired(m, "fampe", self.prior).limits("+.3f"),
            f"oracle alpha, minus {self.prior}": lead(highest, prior)(0.95)
            .within(-1, 1)
            .limits("+.3f"),
            "oracle, minus fixed alpha": lead(highest, fixed)(0.95).within(-1, 1).limits("+.3f"),
            "photographs for which each alpha is best": ", ".join(f"{a:g}: {k}" for a, k in counts),
        }

    def cells(self) -> list[tuple[float, float]]:
        """The grid: alpha, and the share of the energy below the cutoff."""
        return list(itertools.product(self.about["grid_alphas"], self.about["grid_kappas"]))

    def grid(self, m: str, product: str, rank: str) -> np.ndarray:
        """Insertion Scores of the grid, (cells, photographs)."""
        end = "" if product == "gradient" else ", update"
        names = [f"grid alpha={a:g} kappa={k:g}{end}" for a, k in self.cells()]
        rows = [self.values(m, v, INSERTION[rank])[: self.about["n_grid"]] for v in names]
        return np.stack(rows)

    def best_of_grid(self, m: str) -> dict:
        """For each reading the best cells, their score, and how far it is above all cells' mean."""
        return {reading: best_cell(self.grid(m, *reading)) for reading in READINGS}

    def attackable(self, m: str, v: str) -> np.ndarray:
        """Photographs that a network classifies correctly and an attack had a gradient for."""
        right = self.found[m].rows("clean")[f"correct {m}"] == 1
        return right & ~np.isnan(self.found[m].rows(v)[f"correct {m}"])

    def answers(self, source: str, judge: str, v: str) -> tuple[np.ndarray, np.ndarray]:
        """Whether a judge is right on photographs as they are, and as attacked through a source."""
        rows, some = self.found[source].rows, self.attackable(source, v)
        clean, attacked = (rows(u)[f"correct {judge}"][some] for u in ("clean", v))
        return clean, attacked

    def drop(self, source: str, judge: str, v: str) -> Estimate:
        """The accuracy that a judge loses by an attack on another network."""
        return accuracy_difference(*self.answers(source, judge, v))

    def without_gradient(self, attacks: Mapping[str, str]) -> list[str]:
        """Attacks without a usable gradient, network by network, in words."""
        text = []
        for m, (name, v) in itertools.product(self.found, attacks.items()):
            if none := int(np.isnan(self.found[m].rows(v)[f"correct {m}"]).sum()):
                text.append(
                    f"{m}: {none} of {self.n} photographs gave no usable gradient under {name}: "
                    "left out, not robust"
                )
        return text

    def leaning(self, m: str) -> np.ndarray:
        """How far each prediction leans on low bands: 1, on them only, to -1, on high ones only."""
        psi = shapley_values(self.games[m])
        half = len(psi) // 2
        return (psi[:half].sum(0) - psi[len(psi) - half :].sum(0)) / np.abs(psi).sum(0)

    def gain(self, m: str, low: float, product: str, rank: str) -> np.ndarray:
        """Insertion Score at the study's alpha minus that at a low one, by photograph."""
        pair = (self.fampe(a, product) for a in (self.alpha, low))
        return np.subtract(*(self.values(m, v, INSERTION[rank]) for v in pair))


def perturbed_pictures(x: Tensor, about: Mapping) -> None:
    """Draw a photograph (1, C, H, W), its low and high part, and what FAMPE makes of it."""
    cutoff, size = energy_cutoff(x, about["kappa"]), x.shape[-2:]
    kept = (band_weights(x, 1.0, about["kappa"]) > 0).float()
    low = x.mean((2, 3), keepdim=True) + torch.fft.irfft2(torch.fft.rfft2(x) * kept, s=size)

    def spectrum(image: Tensor) -> Tensor:
        return torch.fft.fftshift(torch.fft.fft2(image).abs().mean(0)).log1p()

    def drawn(alpha: float) -> Tensor:
        weights = band_weights(x, alpha, about["kappa"])
        draw = [torch.Generator().manual_seed(about["seed"])]
        return frequency_samples(x, weights, draw, samples=1, sigma=0.0)[0, 0]

    alpha = about["alpha"]
    copies = {
        "low changed (alpha = 1)": drawn(1.0),
        "high changed (alpha = 0)": drawn(0.0),
        f"both (alpha = {alpha:g})": drawn(alpha),
    }
    parts = [x[0], low[0], x[0] - low[0]]
    names = ["photograph", f"low: up to {cutoff.item():.0f} cycles", "high: beyond"]
    figures.mosaic(
        [*map(spectrum, parts), *copies.values(), *parts[:2], 0.5 + parts[2]]
        + [0.5 + 4 * (c - x[0]) for c in copies.values()],
        [*(f"spectrum: {s}" for s in names), *copies, *names, *["the change, x4"] * 3],
        columns=6,
        size=2.0,
    )


def bridge_points(lean: Mapping, gain: Mapping) -> pd.DataFrame:
    """A row for each network, reading and photograph: its leaning, and what alpha gains there."""
    rows = []
    for m, of in gain.items():
        for reading, gains in of.items():
            part = {"model": m, "panel": ", ".join(reading), "lean": lean[m], "gain": gains}
            rows.append(pd.DataFrame(part))
    limits = dict.fromkeys(("lean_low", "lean_high", "gain_low", "gain_high"), np.nan)
    return pd.concat(rows, ignore_index=True).assign(**limits).dropna(subset=["gain"])
