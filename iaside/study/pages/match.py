"""Tables of 58_match: predicted and measured losses, and which network each method chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, paired_interval
from iaside.explanation import Explanation
from iaside.inputs.images import load_pairs
from iaside.robustness.measures import (
    band_survival,
    on_resamples,
    predicted_loss,
    survival_per_image,
)
from iaside.spectral import band_energy, band_masks
from iaside.tables import CLEAN, CORRUPTIONS, Responses

GROUPS = {
    "sensor noise": CORRUPTIONS[:3],
    "blur": CORRUPTIONS[3:7],
    "weather": CORRUPTIONS[7:11],
    "digital": CORRUPTIONS[11:],
}
COLUMNS = ["by", "for", "choose", "reached", "best was", "cost in nats"]


def under(r: Responses, corruption: str, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Clean and corrupted answers of every photograph, mean over severities: two of (N,)."""
    rows = r.rows(corruption)
    return r.tables[table][r.partner(r.conditions[rows[0]])], r.tables[table][rows].mean(0)


def energies(r: Responses, corruption: str) -> tuple[np.ndarray, np.ndarray]:
    """Energy per band of every photograph and of its change: (M, N), (severities, M, N)."""
    rows = r.rows(corruption)
    return r.partner_energy(r.conditions[rows[0]]), r.change_energy[rows]


def relative_energy(r: Responses, corruption: str) -> float:
    """The size of a corruption: mean energy of the change, over that of the photographs."""
    clean, change = energies(r, corruption)
    return change.sum(1).mean(0).sum() / clean.sum()


def survival(r: Responses) -> np.ndarray:
    """The share of its use that each band keeps under each corruption: (corruptions, M, N)."""
    return np.stack([survival_per_image(*energies(r, c)).mean(0) for c in CORRUPTIONS])


def over_all(answers: Mapping[str, Responses], of: Callable, seed: int) -> np.ndarray:
    """A number per photograph of each network and corruption: (K, corruptions, 1 + resamples).

    of: maps `Responses` and the name of a corruption to (N,).
    """
    found = [
        on_resamples([of(r, c)[None] for r in answers.values()], seed=seed)[0] for c in CORRUPTIONS
    ]
    return np.stack(found, axis=1)


def choices(
    guess: np.ndarray, reached: Mapping[tuple[str, str], np.ndarray], names: Sequence[str]
) -> dict[str, dict]:
    """For each group of corruptions: the network with the highest guess, the best, and the cost.

    Shapes: guess (K, corruptions, 1 + R); reached: network and group -> log-likelihoods (N,).
    """
    found = {}
    for g, members in GROUPS.items():
        ordered = guess[:, [CORRUPTIONS.index(c) for c in members], 0].mean(1)
        chosen = names[int(ordered.argmax())]
        best = max(names, key=lambda m, g=g: reached[m, g].mean())
        pair = reached[best, g][None], reached[chosen, g][None]
        cost = paired_interval(*pair, lambda mean: mean[0])
        found[g] = {"chosen": chosen, "best": best, "cost": cost}
    return found


def choice_rows(
    method: str, picks: Mapping[str, Mapping], reached: Mapping[tuple[str, str], np.ndarray]
) -> list[dict]:
    """The choices of one method as a table, with a word on those that are clearly not the best."""
    rows = []
    for g, pick in picks.items():
        chosen, best, cost = pick["chosen"], pick["best"], pick["cost"]
        refuted = ": clearly not the best here" if best != chosen and cost.low > 0 else ""
        price = "0 (it was the best)" if best == chosen else f"{cost:+.2f}"
        kept = round(reached[chosen, g].mean(), 2)
        rows.append(
            dict(zip(COLUMNS, (method, g, chosen + refuted, kept, best, price), strict=True))
        )
    return rows


def own_losses(
    folder: str, explained: Mapping[str, Explanation], answers: Mapping[str, Responses], metric: str
) -> pd.DataFrame:
    """Predicted losses on one's own photographs, of a folder with `clean` and `degraded` ones.

    The predicted log-likelihood is that of whole photographs, as one's own are.
    """
    rows = {}
    for m, r in answers.items():
        x, z = load_pairs(folder, input_size=tuple(r.provenance["size"]))
        masks = band_masks(len(explained[m].values), x.shape[-2:], metric)
        kept = band_survival(band_energy(x, masks), band_energy(z - x, masks))
        loss: Estimate = interval(explained[m].values, lambda mean, s=kept: predicted_loss(mean, s))
        whole = r.tables["log_likelihood"][r.row(CLEAN)].mean()
        rows[m] = {"predicted loss": loss.limits(), "photographs": loss.n}
        rows[m]["predicted log-likelihood"] = whole - loss.value
    frame = pd.DataFrame(rows).T
    return frame.sort_values("predicted log-likelihood", ascending=False)
