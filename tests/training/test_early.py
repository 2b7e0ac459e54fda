"""Early signs: the checkpoint, the leaning and the trade are those planted; kinds are counted."""

import numpy as np
import pytest

from iaside.shapley import coalitions
from iaside.tables import CLEAN, Condition, Responses, Worths
from iaside.training.early import early_epoch, early_signs, leaning
from iaside.training.plans import FACTORS, Profile
from iaside.verdicts.dynamics import tradeoffs_early

N, M = 40, 4
SOURCES = {"fog": 0, "brightness": 0, "contrast": 1, "shot_noise": 3, "impulse_noise": 3}
CONDITIONS = [CLEAN, *(Condition(c, 5.0) for c in SOURCES)]


def network(kind, seed, lean, trade, epochs=(1, 5), asked=CONDITIONS):
    """Leans to low bands by `lean` at the first checkpoint, and loses `trade` more under low."""
    psi = np.array([1 + lean, 1 + lean, 1 - lean, 1 - lean])[:, None] * np.ones(N)
    games = {e: coalitions(M).astype(float) @ (psi if e == 1 else psi[::-1]) for e in epochs}
    worths = {e: Worths({"log_likelihood": game}, {}) for e, game in games.items()}
    correct = np.ones((len(CONDITIONS), N))
    correct[1:3, : round(trade * N)] = 0  # fog and brightness
    change = 0.1 + 0.1 * np.random.default_rng(0).random((len(CONDITIONS), M, N))
    for row, band in enumerate(SOURCES.values(), 1):
        change[row, band] += 1
    rows = [CONDITIONS.index(c) for c in asked]
    answers = Responses(list(asked), {"correct": correct[rows]}, np.ones((M, N)), change[rows], {})
    settings = FACTORS | {"architecture": kind, "seed": seed}
    return Profile(f"{kind}-seed{seed}", settings, list(epochs), worths, {}, answers)


def study(*networks):
    return {p.name: p for p in networks}


def test_the_checkpoint_lies_within_the_first_fifth():
    assert early_epoch([1, 2, 3, 4, 5]) == 1
    assert early_epoch([3, 6, 9, 12, 15]) == 3
    assert early_epoch([1, 2, 3, 10]) == 2, "the last one of these"
    assert early_epoch([5], share=1) is None, "the end is not early"
    assert early_epoch([5]) is early_epoch([2, 4, 6]) is None


def test_leaning_is_of_sizes_and_has_the_sign_of_the_low_bands():
    assert leaning([1.0, 1.0, 0.0, 0.0]) == 1
    assert leaning([0.0, 0.0, -1.0, 1.0]) == -1
    assert leaning([1.0, 0.0, 0.0, -1.0]) == 0


def test_both_numbers_are_those_planted_and_the_final_profile_does_not_count():
    found = early_signs(study(network("a", 0, 0.5, 0.25), network("b", 0, -0.5, 0.0)))
    assert found.leaning[:, 0] == pytest.approx([0.5, -0.5])
    assert found.trade[:, 0] == pytest.approx([0.25, 0.0])
    assert found.epochs == [1, 1]
    assert "low" in {found.groups["fog"], found.groups["brightness"]}
    assert "high" in {found.groups["shot_noise"], found.groups["impulse_noise"]}


def test_networks_without_an_early_checkpoint_or_of_other_images_take_no_part():
    late, other = network("a", 0, 0.5, 0.2, epochs=(3, 5)), network("b", 0, 0.5, 0.2)
    other.settings["images"] = "elsewhere"
    unasked = network("d", 0, 0.5, 0.2)
    unasked.responses = None
    some = study(late, other, unasked, network("c", 0, 0.1, 0.1))
    assert early_signs(some) is None
    assert early_signs(some | study(network("e", 0, 0.1, 0.1))).names == ["c-seed0", "e-seed0"]


def test_corruptions_of_one_kind_show_no_trade():
    fog = [network(k, 0, 0.5, 0.2, asked=CONDITIONS[:2]) for k in "ab"]
    assert early_signs(study(*fog)) is None


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "contradicted")])
def test_kinds_are_counted_not_networks(sign, verdict):
    kinds = [
        network(f"k{k}", seed, 0.1 * (k + 0.1 * seed) - 0.4, 0.4 + sign * 0.05 * (k - 4))
        for k in range(9)
        for seed in range(2)
    ]
    row = tradeoffs_early(early_signs(study(*kinds)))
    assert (row["verdict"], row["n"], row["unit"]) == (verdict, 9, "networks")
    assert "of 18 networks" in row["note"]


def test_four_kinds_decide_nothing():
    kinds = [network(f"k{k}", 0, 0.1 * k, 0.1 * k) for k in range(4)]
    row = tradeoffs_early(early_signs(study(*kinds)))
    assert row["verdict"] == "undecided" and "4 kinds of training, 5 are needed" in row["note"]
    assert tradeoffs_early(None) is None
