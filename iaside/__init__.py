"""Which frequency bands an image classifier lives on, and whether that tells how it breaks.

The names below are the public contract, in the order of the story: a model and images, the
spectrum cut into bands, the game of bands, its values, the score. Each is imported from its
module when it is used, so that `import iaside` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_HOME = {  # public name -> its module
    "load_model": "models",
    "Classifier": "models",
    "save_weights": "models",
    "folded": "folding",
    "calibrated": "controls",
    "untrained_control": "controls",
    "load_images": "images",
    "band_masks": "spectral",
    "cells_per_band": "spectral",
    "split_bands": "spectral",
    "band_energy": "spectral",
    "esd": "spectral",
    "spectral_snr": "spectral",
    "coalitions": "shapley",
    "coalition_worths": "worths",
    "coalition_images": "worths",
    "Worths": "tables",
    "sampled_worths": "sampling",
    "SampledWorths": "estimator",
    "shapley_values": "shapley",
    "owen_values": "shapley",
    "interaction_values": "shapley",
    "banzhaf_values": "shapley",
    "least_squares_values": "shapley",
    "leave_one_out": "shapley",
    "only_one_in": "shapley",
    "spectral_importance": "score",
    "robustness_score": "score",
    "Estimate": "estimate",
    "score_estimate": "score",
    "sid_estimate": "score",
    "centroid": "score",
    "entropy": "score",
    "explain": "explain",
    "Explanation": "explain",
    "compare": "explain",
    "Comparison": "explain",
    "published_worths": "published",
    "perturb": "perturb",
    "match_energy": "perturb",
    "responses": "responses",
    "Responses": "tables",
    "Condition": "tables",
    "attribute": "attribution",
    "explore": "attribution",
    "insertion": "faithfulness",
    "deletion": "faithfulness",
    "mean_prediction_error": "robustness",
    "mean_corruption_error": "robustness",
    "correlation": "correlation",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"iaside has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"iaside.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Python binds a submodule to its package's attribute: keep `ia.explain` the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
