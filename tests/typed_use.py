"""The public names as a type checker sees them; nothing runs this file.

mypy reads it: tests/project/test_typing.py.
"""

from pathlib import Path
from typing import assert_type

import numpy as np
import pandas as pd
from torch import Tensor, nn

import iaside as ia


def a_model_and_images(images: Tensor, labels: Tensor) -> None:
    model = ia.load_model("small_cnn")
    assert_type(model, ia.Classifier)
    ia.load_model("mine", weights="mine.pth", architecture="resnet18")
    assert_type(ia.folded(model), ia.Classifier)
    assert_type(ia.without_head(model), ia.Classifier)
    assert_type(ia.calibrated(model, images), ia.Classifier)
    ia.untrained_control("small_cnn", images)
    ia.save_weights(model, Path("x.safetensors"))
    ia.load_images("folder", like=model, n=24)
    assert_type(ia.recipe_of(model.net), dict)


def a_card(model: ia.Classifier, images: Tensor, labels: Tensor) -> None:
    card = ia.report(model, images, labels)
    assert_type(card, ia.Card)
    assert_type(ia.report(model, images, "predicted"), ia.Card)
    assert_type(ia.report({"a": model, "b": model}, images, labels), ia.Cards)
    assert_type(card.advice, list[str])


def the_spectrum(x: Tensor, labels: Tensor) -> None:
    masks = ia.band_masks(8, (32, 32))
    assert_type(masks, Tensor)
    assert_type(ia.cells_per_band(masks, 32), Tensor)
    assert_type(ia.split_bands(x, masks), Tensor)
    assert_type(ia.band_energy(x, masks), Tensor)
    assert_type(ia.esd(x), Tensor)
    assert_type(ia.spectral_snr(x, x), Tensor)
    assert_type(ia.split_bands(x, ia.wavelet_bands("db4", levels=4, kind="packets")), Tensor)
    assert_type(ia.split_bands(x, ia.orientation_bands(angles=4, rings=2)), Tensor)


def the_game(model: ia.Classifier, images: Tensor, labels: Tensor, masks: Tensor) -> None:
    game = ia.Game(model, images, labels, masks, value=["accuracy", "margin"], absence="mean")
    assert_type(game(ia.coalitions(8)), np.ndarray)
    assert_type(game.per_image(ia.coalitions(8)), np.ndarray)
    assert_type(ia.exact(game, resume="folder"), ia.Worths)
    assert_type(ia.sample(game, tolerance=0.1), ia.SampledWorths)
    worths = ia.coalition_worths(model, images, labels, masks, batch_size=8)
    assert_type(worths, ia.Worths)
    assert_type(worths.table, np.ndarray)
    assert_type(ia.coalition_images(images, masks, ia.coalitions(8)), Tensor)
    assert_type(ia.sampled_worths(model, images, labels, masks, budget=99), ia.SampledWorths)
    assert_type(ia.published_worths(model, images, labels, 8), np.ndarray)


def values_and_scores(table: np.ndarray, psi: np.ndarray) -> None:
    assert_type(ia.coalitions(8), np.ndarray)
    assert_type(ia.shapley_values(table), np.ndarray)
    assert_type(ia.owen_values(table, [0, 0, 1]), np.ndarray)
    assert_type(ia.banzhaf_values(table), np.ndarray)
    assert_type(ia.least_squares_values(table), np.ndarray)
    assert_type(ia.interaction_values(table), np.ndarray)
    assert_type(ia.leave_one_out(table), np.ndarray)
    assert_type(ia.only_one_in(table), np.ndarray)
    sid = ia.spectral_importance(psi)
    assert_type(sid, np.ndarray)
    assert_type(ia.robustness_score(sid), np.ndarray)
    assert_type(ia.centroid(sid), np.ndarray)
    assert_type(ia.entropy(sid), np.ndarray)
    assert_type(ia.score_estimate(psi), ia.Estimate | None)
    assert_type(ia.sid_estimate(psi), ia.Estimate | None)


def one_call(model: ia.Classifier, images: Tensor, labels: Tensor) -> None:
    first = ia.explain(model, images, labels, resume="folder", workers=2)
    ia.explain(model, images, "predicted")
    assert_type(first, ia.Explanation)
    assert_type(first.psi, ia.Estimate)
    assert_type(first.score, ia.Estimate | None)
    assert_type(first.to_frame(), pd.DataFrame)
    assert_type(first.plot(), np.ndarray)
    assert_type(ia.Explanation.load("mine.npz"), ia.Explanation)
    assert_type(first.to_dict(), dict)
    second = ia.compare(first, first)
    assert_type(second, ia.Comparison)
    assert_type(second.score, ia.Estimate | None)


def robustness(model: ia.Classifier, x: Tensor, labels: Tensor, masks: Tensor) -> None:
    y = ia.perturb(x, "pgd", model=model, labels=labels, eps=4 / 255)
    assert_type(y, Tensor)
    assert_type(ia.match_energy(x, y, 1.0), Tensor)
    published = ia.corrupted_set("ImageNet-C", "val", n=24, like=model)
    answers = ia.responses(model, x, labels, [ia.Condition("clean")], masks, published=published)
    assert_type(answers, ia.Responses)
    assert_type(ia.mean_prediction_error([0.9], [0.8]), np.ndarray)
    assert_type(ia.mean_corruption_error({"fog": [0.5]}), float)
    assert_type(ia.correlation([1.0, 2.0], [2.0, 3.0]), ia.Estimate)


def mending(model: ia.Classifier, x: Tensor, labels: Tensor) -> None:
    mended = ia.mend(model, x, labels, deployment=lambda x: x / 2, remedy="dropout")
    ia.mend(model, "folder", deployment="clean and degraded", classes=["cat", "dog"])
    assert_type(mended, ia.Mended)
    assert_type(mended.model, nn.Module)
    assert_type(mended.to_frame(), pd.DataFrame)


def attribution(model: ia.Classifier, x: Tensor, labels: Tensor) -> None:
    maps = ia.attribute(model, x, labels)
    assert_type(maps, Tensor)
    assert_type(ia.explore(model, x, labels).attribution, Tensor)
    assert_type(ia.insertion(model, x, labels, maps), np.ndarray)
    assert_type(ia.deletion(model, x, labels, maps), np.ndarray)
