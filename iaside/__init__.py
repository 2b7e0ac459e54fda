"""Which frequency bands an image classifier lives on, and whether that tells how it breaks.

The names below are the public contract, in the order of the story: a model and images, the
spectrum cut into bands, the game of bands, its values, the score. Each is imported from its
module when it is used, so that `import iaside` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {  # public name -> its module
    "load_model": "inputs.models",
    "Classifier": "inputs.models",
    "save_weights": "inputs.models",
    "folded": "inputs.folding",
    "calibrated": "game.controls",
    "untrained_control": "game.controls",
    "load_images": "inputs.images",
    "band_masks": "spectral",
    "cells_per_band": "spectral",
    "split_bands": "spectral",
    "band_energy": "spectral",
    "esd": "spectral",
    "spectral_snr": "spectral",
    "coalitions": "shapley",
    "Game": "game.game",
    "exact": "game.exact",
    "coalition_worths": "game.exact",
    "coalition_images": "game.exact",
    "Worths": "tables",
    "sample": "game.sampling",
    "sampled_worths": "game.sampling",
    "SampledWorths": "game.samples",
    "shapley_values": "shapley",
    "owen_values": "shapley",
    "interaction_values": "shapley",
    "banzhaf_values": "shapley",
    "least_squares_values": "shapley",
    "leave_one_out": "shapley",
    "only_one_in": "shapley",
    "spectral_importance": "score",
    "robustness_score": "score",
    "Estimate": "estimate.estimate",
    "score_estimate": "score",
    "sid_estimate": "score",
    "centroid": "score",
    "entropy": "score",
    "explain": "explanation",
    "Explanation": "explanation",
    "compare": "explanation",
    "Comparison": "explanation",
    "published_worths": "game.published",
    "perturb": "robustness.perturb",
    "match_energy": "robustness.perturb",
    "responses": "robustness.responses",
    "Responses": "tables",
    "Condition": "tables",
    "attribute": "attribution.explorers",
    "explore": "attribution.explorers",
    "insertion": "attribution.faithfulness",
    "deletion": "attribution.faithfulness",
    "mean_prediction_error": "robustness.measures",
    "mean_corruption_error": "robustness.measures",
    "correlation": "estimate.correlation",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"iaside has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"iaside.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
