"""One game at several numbers of bands: what finer values add up to.

Bands of equal width nest: each of M bands is cut into k parts when there are k * M. Its Shapley
value is not the sum of theirs, because what bands achieve only together is shared out by heads.
(Owen values, `iaside.shapley.owen_values`, would add up.)
"""

import numpy as np
from numpy.typing import ArrayLike


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
