# The public names of iaside, in the order of the story, for lazy_loader, editors and type checkers.
# ruff: noqa: I001
__version__: str

from .inputs.classifier import (
    load_model as load_model,
    Classifier as Classifier,
    save_weights as save_weights,
)
from .inputs.headless import without_head as without_head
from .inputs.transforms import recipe_of as recipe_of
from .inputs.folding import folded as folded
from .game.controls import calibrated as calibrated, untrained_control as untrained_control
from .inputs.images import load_images as load_images
from .inputs.corrupted_sets import corrupted_set as corrupted_set
from .spectral import (
    band_masks as band_masks,
    cells_per_band as cells_per_band,
    split_bands as split_bands,
    band_energy as band_energy,
    esd as esd,
    spectral_snr as spectral_snr,
)
from .game.players import wavelet_bands as wavelet_bands, orientation_bands as orientation_bands
from .shapley import coalitions as coalitions
from .game.game import Game as Game
from .game.exact import (
    exact as exact,
    coalition_worths as coalition_worths,
    coalition_images as coalition_images,
)
from .tables import Worths as Worths
from .game.sampling import sample as sample, sampled_worths as sampled_worths
from .game.samples import SampledWorths as SampledWorths
from .shapley import (
    shapley_values as shapley_values,
    owen_values as owen_values,
    interaction_values as interaction_values,
    banzhaf_values as banzhaf_values,
    least_squares_values as least_squares_values,
    leave_one_out as leave_one_out,
    only_one_in as only_one_in,
)
from .score import spectral_importance as spectral_importance, robustness_score as robustness_score
from .estimate.estimate import Estimate as Estimate
from .score import score_estimate as score_estimate, sid_estimate as sid_estimate
from .estimate.shares import centroid as centroid, entropy as entropy
from .explanation import explain as explain, Explanation as Explanation, compare as compare
from .game.published import published_worths as published_worths
from .robustness.perturb import perturb as perturb
from .robustness.energy import match_energy as match_energy
from .robustness.responses import responses as responses
from .tables import Responses as Responses, Condition as Condition
from .attribution.maps import attribute as attribute, explore as explore
from .attribution.faithfulness import insertion as insertion, deletion as deletion
from .robustness.measures import (
    mean_prediction_error as mean_prediction_error,
    mean_corruption_error as mean_corruption_error,
)
from .estimate.correlation import correlation as correlation
from .card.card import Card as Card
from .card.measure import report as report
from .card.several import Cards as Cards
from .training.mend import mend as mend, Mended as Mended
from .estimate.comparison import Comparison as Comparison
