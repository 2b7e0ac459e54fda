"""One game at several numbers of bands: are the tables comparable, and what finer values add up to.

Bands of equal width nest: each of M bands is cut into k parts when there are k * M. Its Shapley
value is not the sum of theirs, because what bands achieve only together is shared out by heads.
(Owen values, `iaside.shapley.owen_values`, would add up.)
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.fingerprints import fingerprint
from iaside.spectral import band_masks


def pooled_values(values: ArrayLike, n_bands: int) -> np.ndarray:
    """Add up the values of finer bands (k * M, ...) within M wider ones: (M, ...).

    Raises ValueError if the number of finer bands is no multiple of M.

    >>> pooled_values([1.0, 2.0, 3.0, 4.0], 2)
    array([3., 7.])
    """
    values = np.asarray(values, float)
    if n_bands < 1 or len(values) % n_bands:
        raise ValueError(
            f"{len(values)} bands do not nest in {n_bands}: `bands` of the section `resolution` "
            f"must be multiples of {n_bands}, the n_bands of `worths`"
        )
    return values.reshape(n_bands, -1, *values.shape[1:]).sum(1)


def check_same_game(name: str, exact: Mapping, sampled: Mapping) -> None:
    """Refuse tables of other images, of another game, or of no finer bands, by their provenances.

    name: of the network; exact: of `Worths`; sampled: of `SampledWorths`, with the names `metric`
    and `input_size` of its bands besides. Whether both are of the same weights is not asked:
    fingerprints of weights hold outputs, which differ between machines in the last bits.

    Raises ValueError that says what differs and which settings must agree.
    """
    remedy = (
        "give the sections `worths` and `resolution` of params.yaml the same images, n_images, "
        "metric and precision, `worths` linear spacing, zero absence and log_likelihood first "
        "among its values, and measure again"
    )
    masks = band_masks(exact["n_bands"], sampled["input_size"], sampled["metric"])
    pooled_values(np.zeros(sampled["n_bands"]), exact["n_bands"])
    if sampled["n_bands"] == exact["n_bands"]:
        raise ValueError(
            f"{name}: {exact['n_bands']} bands are what `worths` measures exactly; leave that "
            "number out of `bands` of the section `resolution`"
        )
    pairs = {
        key: (exact.get(key), sampled[key])
        for key in ("images", "labels", "precision", "absence", "temperature")
    }
    pairs["value"] = exact["values"][0], sampled["values"][0]
    pairs["partition of the spectrum"] = exact.get("masks"), fingerprint(masks)
    for what, (there, here) in pairs.items():
        if there != here:
            raise ValueError(
                f"{name}: the tables of {exact['n_bands']} and {sampled['n_bands']} bands differ "
                f"in their {what} ({there} and {here}); {remedy}"
            )
