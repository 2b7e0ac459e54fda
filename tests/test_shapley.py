"""Values of bands: axioms, closed forms and independent oracles."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest

from iaside.shapley import (
    banzhaf_values,
    coalitions,
    interaction_values,
    least_squares_values,
    leave_one_out,
    marginal_contributions,
    non_additivity,
    only_one_in,
    owen_values,
    shapley_values,
)

VALUES = [shapley_values, banzhaf_values, least_squares_values, leave_one_out, only_one_in]


def random_table(n_bands, n_images=3, seed=0):
    return np.random.default_rng(seed).normal(size=(2**n_bands, n_images))


def additive_table(worths):
    return coalitions(len(worths)).astype(float) @ np.asarray(worths)


def by_permutations(table):
    """Mean marginal gain over all orders in which the bands can arrive."""
    n_bands = len(table).bit_length() - 1
    orders = list(permutations(range(n_bands)))
    psi = np.zeros((n_bands, *table.shape[1:]))
    for order in orders:
        code = 0
        for band in order:
            psi[band] += table[code | 1 << band] - table[code]
            code |= 1 << band
    return psi / len(orders)


def by_orders_without_strangers(table, unions):
    """Mean marginal gain over the orders in which the bands of a union arrive together."""
    n_bands = len(unions)
    psi, count = np.zeros((n_bands, *table.shape[1:])), 0
    for order in permutations(range(n_bands)):
        arriving = [unions[band] for band in order]
        changes = sum(a != b for a, b in zip(arriving, arriving[1:], strict=False))
        if changes > len(set(unions)) - 1:
            continue
        code, count = 0, count + 1
        for band in order:
            psi[band] += table[code | 1 << band] - table[code]
            code |= 1 << band
    return psi / count


def test_coalitions_are_binary_codes():
    rows = coalitions(4)
    assert rows.shape == (16, 4) and rows.dtype == bool
    assert (rows @ 2 ** np.arange(4)).tolist() == list(range(16))


@pytest.mark.parametrize("n_bands", [1, 2, 3, 4])
def test_shapley_is_the_mean_over_all_orders(n_bands):
    table = random_table(n_bands)
    np.testing.assert_allclose(shapley_values(table), by_permutations(table), atol=1e-12)


@pytest.mark.parametrize(
    "unions", [[0], [1, 0, 1], [2, 2, 0, 7], ["b", "a", "b", "c", "b"], [0, 0, 1, 1, 1, 2]]
)
def test_owen_is_the_mean_over_orders_in_which_unions_stay_together(unions):
    table = random_table(len(unions))
    found = owen_values(table, unions)
    np.testing.assert_allclose(found, by_orders_without_strangers(table, unions), atol=1e-12)
    np.testing.assert_allclose(owen_values(table[:, 0], unions), found[:, 0], atol=1e-12)


@pytest.mark.parametrize("unions", [[0, 0, 0, 1, 1, 2, 2, 2, 2], [3, 1, 2, 1, 3, 1, 0, 0, 1]])
def test_owen_values_of_a_union_add_up_to_its_shapley_value_among_unions(unions):
    table, unions = random_table(9), np.array(unions)
    found = owen_values(table, unions)
    names = np.unique(unions)
    inside = np.searchsorted(names, unions)
    rows = coalitions(len(names))[:, inside] @ 2 ** np.arange(9)
    sums = np.stack([found[unions == name].sum(0) for name in names])
    np.testing.assert_allclose(sums, shapley_values(table[rows]), atol=1e-12)


def test_owen_values_of_singletons_and_of_one_union_are_shapley_values():
    table = random_table(6)
    for unions in ([4, 0, 1, 5, 2, 3], [1] * 6):
        np.testing.assert_allclose(owen_values(table, unions), shapley_values(table), atol=1e-12)
    for unions in ([0, 1], [[0, 1, 2, 3, 4, 5]], 3):
        with pytest.raises(ValueError, match="union of each of the 6 bands, got"):
            owen_values(table, unions)
    with pytest.raises(ValueError, match="got 6 rows"):
        owen_values(np.zeros(6), [0, 1, 1])


def test_marginal_contributions_one_by_one():
    table, others = random_table(4), coalitions(3)
    found = marginal_contributions(table)
    assert found.shape == (4, 8, 3)
    for band in range(4):
        rest = np.delete(np.arange(4), band)
        for row, member in enumerate(others):
            code = int((2 ** rest[member]).sum())
            np.testing.assert_array_equal(found[band, row], table[code | 1 << band] - table[code])


def test_what_the_error_bounds_of_the_papers_come_to():
    """Errors of values against those of the game (Luo et al. 2024, Eq. 38; Luo et al. 2023, Sec.
    3.8, mended)."""
    n_bands, worths = 5, random_table(5, n_images=50)
    error = worths - worths.mean(1, keepdims=True)  # of every image taken for the mean
    # Shapley weights sum to 1: no error exceeds the largest of a contribution. No factor 2^(M-1).
    largest = np.abs(marginal_contributions(error)).max(1)
    assert (np.abs(shapley_values(error)) <= largest + 1e-12).all()
    # The matrix that Luo et al. 2023 invert has no inverse; its pseudo-inverse bounds the mean L1
    # error.
    members = coalitions(n_bands)[1:].astype(float)
    assert np.linalg.matrix_rank(members @ members.T) == n_bands < len(members)
    norm = np.abs(np.linalg.pinv(members)).sum(1).max()
    bound = norm * n_bands * np.sqrt((worths - worths[0]).var(1).max())
    assert np.abs(least_squares_values(error)).sum(0).mean() <= bound


@pytest.mark.slow
def test_shapley_agrees_with_shapiq():
    shapiq = pytest.importorskip("shapiq")
    table = random_table(8, n_images=1)[:, 0]

    def game(rows):
        return table[np.asarray(rows) @ 2 ** np.arange(8)]

    oracle = shapiq.ExactComputer(game, 8)("SV", 1)
    expected = [oracle[(i,)] for i in range(8)]
    np.testing.assert_allclose(shapley_values(table), expected, atol=1e-10)


@pytest.mark.parametrize("n_bands", [1, 5, 8])
def test_efficiency(n_bands):
    table = random_table(n_bands) + 7.0
    np.testing.assert_allclose(shapley_values(table).sum(0), table[-1] - table[0], atol=1e-12)


def test_symmetry_bands_swapped_in_the_game_swap_their_values():
    table, rows = random_table(5), coalitions(5)
    order = np.array([3, 0, 4, 1, 2])
    renamed = table[rows[:, order] @ 2 ** np.arange(5)]  # band order[i] now plays band i's part
    for values in VALUES:
        np.testing.assert_allclose(values(renamed)[order], values(table), atol=1e-12)


def test_dummy_a_band_that_never_helps_is_worth_exactly_nothing():
    small = random_table(4)
    table = np.concatenate([small, small])  # band 4 changes nothing
    for values in (shapley_values, banzhaf_values, leave_one_out, only_one_in):
        assert (values(table)[4] == 0).all()
    np.testing.assert_allclose(shapley_values(table)[:4], shapley_values(small), atol=1e-12)


def test_interactions_are_the_definition():
    """Sum over coalitions of the other bands, written out (Grabisch and Roubens)."""
    n_bands, table = 5, random_table(5)
    found = interaction_values(table)
    assert found.shape == (5, 5, 3) and np.array_equal(found, found.swapaxes(0, 1))
    assert (found[np.arange(5), np.arange(5)] == 0).all()
    for i in range(n_bands):
        for j in range(i):
            expected = 0
            for code in range(2**n_bands):
                if code >> i & 1 or code >> j & 1:
                    continue
                s = code.bit_count()
                weight = factorial(s) * factorial(n_bands - s - 2) / factorial(n_bands - 1)
                both, one, other = code | 1 << i | 1 << j, code | 1 << i, code | 1 << j
                expected = expected + weight * (
                    table[both] - table[one] - table[other] + table[code]
                )
            np.testing.assert_allclose(found[i, j], expected, atol=1e-12)


def test_interactions_agree_with_shapiq():
    shapiq = pytest.importorskip("shapiq")
    table = random_table(8, n_images=1)[:, 0]
    oracle = shapiq.ExactComputer(lambda rows: table[np.asarray(rows) @ 2 ** np.arange(8)], 8)
    oracle, found = oracle("SII", 2), interaction_values(table)
    expected = [[oracle[tuple(sorted((i, j)))] for j in range(i)] for i in range(8)]
    for i in range(8):
        np.testing.assert_allclose(found[i, :i], expected[i], atol=1e-10)


def test_interactions_tell_complements_from_substitutes():
    rows = coalitions(4)
    both = (rows[:, 0] & rows[:, 1]).astype(float)
    either = (rows[:, 0] | rows[:, 1]).astype(float)
    for table, sign in ((both, 1), (either, -1)):
        found = interaction_values(table)
        np.testing.assert_allclose(found[0, 1], sign, atol=1e-12)
        found[0, 1] = found[1, 0] = 0
        np.testing.assert_allclose(found, 0, atol=1e-12)  # bystanders
    np.testing.assert_allclose(interaction_values(additive_table([3.0, -1.0, 2.0])), 0, atol=1e-12)
    np.testing.assert_allclose(interaction_values([0.0, 1.0, 2.0, 5.0]), [[0, 2], [2, 0]])
    # The gain from i with j present, less that without: values of the two smaller games.
    table = random_table(4)
    split = table.reshape(2, 8, 3)
    gap = shapley_values(split[1]) - shapley_values(split[0])
    np.testing.assert_allclose(interaction_values(table)[3, :3], gap, atol=1e-12)
    with pytest.raises(ValueError, match="takes two bands"):
        interaction_values([0.0, 1.0])


def test_linearity_and_a_constant_has_no_value():
    a, b = random_table(6, seed=1), random_table(6, seed=2)
    for values in VALUES:
        np.testing.assert_allclose(
            values(2 * a - 3 * b + 5), 2 * values(a) - 3 * values(b), atol=1e-11
        )
        assert (values(np.full((8, 2), -4.2)) == 0).all()


def test_norm_of_the_linear_map():
    matrix = shapley_values(np.eye(256))  # row i holds the weights of psi_i
    np.testing.assert_allclose((matrix**2).sum(1), 0.0761905, atol=5e-8)
    np.testing.assert_allclose(np.abs(matrix).sum(1), 2.0, atol=1e-12)


@pytest.mark.parametrize("n_bands", [1, 3, 8])
def test_least_squares_closed_form_is_the_fit(n_bands):
    table = random_table(n_bands)
    design, gain = coalitions(n_bands)[1:].astype(float), (table - table[0])[1:]
    fit = np.linalg.lstsq(design, gain, rcond=None)[0]
    np.testing.assert_allclose(least_squares_values(table), fit, atol=1e-12)
    expected = ((design @ fit - gain) ** 2).sum(0) / (gain**2).sum(0)
    np.testing.assert_allclose(non_additivity(table), expected, atol=1e-12)


def test_least_squares_is_banzhaf_plus_one_constant_and_not_efficient():
    table = random_table(8)
    difference = least_squares_values(table) - banzhaf_values(table)
    np.testing.assert_allclose(difference, np.broadcast_to(difference[0], (8, 3)), atol=1e-12)
    assert (np.abs(difference[0]) > 1e-4).all()
    assert (np.abs(least_squares_values(table).sum(0) - (table[-1] - table[0])) > 1e-3).all()


def test_additive_game_every_value_finds_the_contributions():
    worths = np.array([3.0, -1.0, 0.5, 0.0, 2.0])
    for values in VALUES:
        np.testing.assert_allclose(values(additive_table(worths) - 9), worths, atol=1e-12)
    assert non_additivity(additive_table(worths)) < 1e-25


def test_xor_game_shares_equally_and_is_far_from_additive():
    rows = coalitions(3)
    table = (rows[:, 0] ^ rows[:, 1]).astype(float)  # band 2 is a bystander
    np.testing.assert_allclose(shapley_values(table), 0, atol=1e-15)
    np.testing.assert_allclose(only_one_in(table), [1, 1, 0])
    np.testing.assert_allclose(leave_one_out(table), [-1, -1, 0])
    assert non_additivity(table) > 0.5
    both = shapley_values((rows[:, 0] & rows[:, 1]).astype(float))
    np.testing.assert_allclose(both, [0.5, 0.5, 0], atol=1e-15)


def test_one_image_gives_a_vector_and_the_empty_game_is_additive():
    table = random_table(4)
    for values in VALUES:
        np.testing.assert_allclose(values(table[:, 0]), values(table)[:, 0], atol=1e-14)
        assert values(table.astype(np.float32)).dtype == np.float64
    assert non_additivity(np.zeros((8, 2))).tolist() == [0, 0]


def test_fourteen_bands():
    table = random_table(14, n_images=2)
    np.testing.assert_allclose(shapley_values(table).sum(0), table[-1] - table[0], atol=1e-10)


@pytest.mark.parametrize("values", [*VALUES, non_additivity])
@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.zeros((6, 2)), ValueError, "power of two .* got 6 rows"),
        (np.zeros((1, 2)), ValueError, "got 1 rows"),
        (np.zeros(2**21, dtype=np.float32), ValueError, "got 2097152 rows"),
        (np.zeros((8, 0)), ValueError, r"N >= 1, got \(8, 0\)"),
        (np.zeros((4, 2, 2)), ValueError, r"got \(4, 2, 2\)"),
        (np.array([0, 1, np.nan, 2]), ValueError, "coalition 2 holds NaN"),
        (np.array([[0, 1], [0, -np.inf]]), ValueError, "coalition 1 holds NaN"),
        (np.array(["a", "b"]), TypeError, "dtype <U1"),
    ],
)
def test_errors_name_the_value(values, table, error, message):
    with pytest.raises(error, match=message):
        values(table)


@pytest.mark.parametrize("n_bands", [0, 21, 2.0, "8"])
def test_coalitions_errors(n_bands):
    with pytest.raises(ValueError, match="from 1 to 20"):
        coalitions(n_bands)
