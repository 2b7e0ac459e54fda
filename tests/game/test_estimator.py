"""The estimator of sampled Shapley values: theorems over all draws, and error bars that hold."""

from math import comb

import numpy as np
import pytest

from iaside.game.surrogate import (
    ENTRIES,
    _Game,
    _kernel,
    _kernel_values,
    _learn,
    draw_pairs,
    members,
    pairs_per_image,
    passes_per_image,
    resampled_table,
    sampled_values,
    whole,
)
from iaside.shapley import coalitions, shapley_values


def drawn(table, n_pairs, seed=0):
    """Codes and worths of a sample from exact tables (2**M, n)."""
    n_bands, rng = len(table).bit_length() - 1, np.random.default_rng(seed)
    ends = np.array([0, whole(n_bands)], np.uint64)
    codes = np.stack([np.r_[ends, draw_pairs(n_bands, n_pairs, rng)] for _ in table.T])
    return codes, table[codes.astype(int), np.arange(table.shape[1])[:, None]]


def some_games(n_bands=4, n=12, seed=0):
    """Games of images: one in common, and one of each image's own."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2**n_bands, 1)) + 0.5 * rng.normal(size=(2**n_bands, n))


def every_draw(n_bands):
    """All that two pairs can be, codes (K, 4), with their probabilities (K,)."""
    size = np.array([code.bit_count() for code in range(2**n_bands)])[1:-1]
    p = 1 / (size * (n_bands - size)) / np.array([comb(n_bands, s) for s in size])
    p /= p.sum()
    code = np.arange(1, 2**n_bands - 1)
    first, second = (c.ravel() for c in np.meshgrid(code, code))
    full = 2**n_bands - 1
    return np.stack([first, full - first, second, full - second], 1), np.outer(p, p).ravel()


@pytest.mark.parametrize("n_bands", [3, 4, 5])
@pytest.mark.parametrize("case", ["noise", "null band", "fitted"])
def test_the_mean_over_all_draws_is_the_exact_value(n_bands, case):
    """Full enumeration: unbiased whatever the game, however wrong what the draws foresee."""
    table = some_games(n_bands, n=2)
    if case == "null band":
        table = np.concatenate([table[: len(table) // 2]] * 2)
    codes, p = every_draw(n_bands)
    codes = np.concatenate([np.tile([0, 2**n_bands - 1], (len(p), 1)), codes], axis=1)
    gain = table[:, 0] - table[0, 0]
    if case == "fitted":
        others = drawn(table[:, 1:], 2)
        game = _learn(*others, np.array([6]), n_bands)
    else:
        at = coalitions(n_bands)[[1, 2, 5]].astype(float)
        game = _Game(np.linspace(2, 0.1, n_bands), 0.3, at, np.array([3.0, -2.0, 1.0]))
    each = game.correct(members(codes.astype(np.uint64), n_bands), gain[codes])
    exact = shapley_values(gain)
    np.testing.assert_allclose(p @ each.mean(1), exact, atol=1e-10)
    if case == "null band":
        assert exact[-1] == 0


def test_values_of_an_image_add_up_exactly():
    table = some_games(5)
    found = sampled_values(*drawn(table, 3), 5)
    np.testing.assert_allclose(found.values.sum(0), table[-1] - table[0], atol=1e-10)
    assert found.values.shape == found.draw_variance.shape == (5, 12)


def test_what_a_kernel_is_worth_is_known_in_closed_form():
    rng = np.random.default_rng(0)
    for n_bands in (2, 5, 8):
        rates, at = rng.exponential(size=n_bands), rng.integers(0, 2, (4, n_bands)).astype(float)
        table = _kernel(coalitions(n_bands).astype(float), at, rates)
        np.testing.assert_allclose(_kernel_values(at, rates).T, shapley_values(table), atol=1e-12)
    rates, at = rng.exponential(size=64), rng.integers(0, 2, (4, 64)).astype(float)
    ends = _kernel(np.stack([np.zeros(64), np.ones(64)]), at, rates)
    np.testing.assert_allclose(_kernel_values(at, rates).sum(1), ends[1] - ends[0], atol=1e-12)


def test_no_draw_takes_part_in_its_own_prediction():
    """Against leaving a pair out by hand: one solve per pair, in the order of the definition."""
    table, n_bands = some_games(4, n=1), 4
    codes, worths = drawn(table, 3)
    rates, nugget = np.array([1.0, 0.5, 0.2, 0.7]), 0.2
    x, gain = members(codes, 4).astype(float), worths - worths[:, :1]
    game = _Game(rates, nugget, np.zeros((1, 4)), np.zeros(1))
    scale = (1 / (np.arange(1, 4) * (4 - np.arange(1, 4)))).sum()
    for k, found in enumerate(game.correct(members(codes, 4), gain)[0]):
        pair = [2 + 2 * k, 3 + 2 * k]
        rest = np.delete(np.arange(8), pair)
        gram = _kernel(x[0, rest], x[0, rest], rates) + nugget * np.eye(6)
        weight = np.linalg.solve(gram, gain[0, rest])
        left = gain[0] - _kernel(x[0], x[0, rest], rates) @ weight
        size = x[0, pair].sum(1)
        horvitz = np.where(x[0, pair] == 1, (n_bands - size)[:, None], -size[:, None]) * scale / 2
        expected = weight @ _kernel_values(x[0, rest], rates) + left[pair] @ horvitz
        np.testing.assert_allclose(found, expected + (left[1] - left[0]) / 4, atol=1e-10)


def test_no_image_takes_part_in_what_is_foreseen_of_it():
    """For a given prediction values are affine in an image's worths; a fit to them is not."""
    codes, worths = drawn(some_games(4), 3)
    found = []
    for part in (0, 0.5, 1):
        moved = worths.copy()
        moved[5] += part * np.arange(8) ** 2
        found.append(sampled_values(codes, moved, 4).values[:, 5])
    np.testing.assert_allclose(found[1], (found[0] + found[2]) / 2, atol=1e-10)
    assert np.abs(found[2] - found[0]).max() > 1


def test_pairs_are_complements_with_the_sizes_of_the_shapley_kernel():
    codes = draw_pairs(64, 500, np.random.default_rng(0))
    assert codes.dtype == np.uint64 and (codes[::2] ^ codes[1::2] == whole(64)).all()
    size = members(draw_pairs(5, 20000, np.random.default_rng(0))[::2], 5).sum(1)
    expected = np.array([1 / 4, 1 / 6, 1 / 6, 1 / 4])
    np.testing.assert_allclose(np.bincount(size)[1:] / 20000, expected / expected.sum(), atol=0.015)
    assert [pairs_per_image(m) for m in (3, 8, 64)] == [2, 5, 33]
    assert [passes_per_image(m) for m in (3, 8, 64)] == [6, 12, 68]


def test_codes_and_members_are_those_of_coalitions():
    codes = np.arange(16, dtype=np.uint64)
    assert np.array_equal(members(codes, 4), coalitions(4))


@pytest.mark.slow
def test_standard_errors_are_the_spread_of_repeated_samples():
    """Of these images: over draws. Of images in general: over images, too, whose mean is known."""
    rng, table = np.random.default_rng(1), some_games(4, n=24)
    exact = shapley_values(table).mean(1)
    mean, claimed = [], []
    for seed in range(80):
        found = sampled_values(*drawn(table, pairs_per_image(4), seed), 4)
        mean.append(found.values.mean(1))
        claimed.append(found.draw_variance.sum(1) / 24**2)
    spread = ((np.array(mean) - exact) ** 2).mean(0)
    assert 0.8 < np.mean(claimed, 0).sum() / spread.sum() < 1.4
    assert (np.abs(np.mean(mean, 0) - exact) < 4 * np.sqrt(spread / 80)).all(), "unbiased"
    common, z = some_games(4, n=1)[:, 0], []
    for seed in range(80):
        own = 0.5 * rng.normal(size=(16, 24))
        found = sampled_values(*drawn(common[:, None] + own, pairs_per_image(4), seed), 4).values
        z.append((found.mean(1) - shapley_values(common)) / (found.std(1, ddof=1) / 24**0.5))
    assert 0.87 < np.std(z) < 1.17 and np.abs(np.mean(z)) < 0.15


@pytest.mark.slow
def test_many_rounds_are_worked_off_in_small_pieces(monkeypatch):
    """What one image needs grows with the square of its draws; all of them do not at once."""
    sizes, invert = [], np.linalg.inv
    monkeypatch.setattr(np.linalg, "inv", lambda a: sizes.append(a.size) or invert(a))
    table = some_games(6, n=60)
    found = sampled_values(*drawn(table, 150), 6).values
    assert max(sizes) <= ENTRIES < 15 * 302**2, "15 images a fold, 302 worths each"
    assert np.abs(found - shapley_values(table)).mean() < 0.1 * np.abs(found).mean()


def test_more_draws_come_closer():
    table = some_games(6, n=20, seed=3)
    errors = [
        np.abs(sampled_values(*drawn(table, k), 6).values - shapley_values(table)).mean()
        for k in (4, 40)
    ]
    assert errors[1] < errors[0] / 3


def test_images_may_have_unequal_numbers_of_draws_and_one_image_is_enough():
    table = some_games(4, n=9)
    codes, worths = drawn(table, 5)
    worths[2:5, 8:] = np.nan
    found = sampled_values(codes, worths, 4)
    np.testing.assert_allclose(found.values.sum(0), table[-1] - table[0], atol=1e-10)
    alone = sampled_values(codes[:1], worths[:1], 4)
    np.testing.assert_allclose(alone.values.sum(0), (table[-1] - table[0])[:1], atol=1e-10)
    worths[3, 4:] = np.nan
    with pytest.raises(ValueError, match="image 3 has 4 measured coalitions; .* two pairs"):
        sampled_values(codes, worths, 4)


def test_a_game_that_is_zero_has_no_error():
    found = sampled_values(*drawn(np.full((16, 8), 2.5), 3), 4)
    assert (found.values == 0).all() and (found.draw_variance == 0).all()


def test_a_sample_from_an_exact_table_is_what_measuring_it_would_have_given():
    table = some_games()
    found, passes = resampled_table(table, 5, np.random.default_rng(3))
    codes, worths = drawn(table, 5, seed=3)
    np.testing.assert_array_equal(found.values, sampled_values(codes, worths, 4).values)
    assert passes == np.mean([len(set(row)) for row in codes.tolist()]) < 12, "repeats are free"
