"""The verdict on the value of absent bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from iaside.estimate.intervals import distance_at_levels
from iaside.score import spectral_importance
from iaside.shapley import banzhaf_values, least_squares_values, leave_one_out, only_one_in
from iaside.verdicts.rules import decide

DECOMPOSITIONS = {  # other ways to share out the worth than Shapley's
    "Banzhaf": banzhaf_values,
    "least squares (001)": least_squares_values,
    "leave one out": leave_one_out,
    "only one in": only_one_in,
}


def absences_alike(
    psi: Mapping[str, Mapping[str, ArrayLike]],
    choices: Sequence[str] = ("gaussian", "replacement"),
    reference: str = "reference",
    note: str = "",
    data: str = "",
) -> dict:
    """Judge whether SIDs under other absence schemes are alike that under zero absence.

    Shapes: psi maps networks to what they have under each choice, values (M, N) of the same
    photographs; each choice is compared with the reference, a part for each network and choice.

    >>> import numpy as np
    >>> values = np.array([[3.0], [2.0], [0.0]]) + np.zeros(9)
    >>> psi = {"net": dict.fromkeys(["reference", "gaussian", "replacement"], values)}
    >>> absences_alike(psi)["verdict"]
    'supported'
    """
    parts = {
        f"{name}, {choice}": distance_at_levels(
            values[choice], values[reference], spectral_importance
        )
        for name, values in psi.items()
        for choice in choices
    }
    return decide("absences_alike", parts, note, data)
