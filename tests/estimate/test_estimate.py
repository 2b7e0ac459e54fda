"""The one result type: how it reads, what may be done to it, and when two are the same."""

import json

import numpy as np
import pytest

from iaside.estimate.estimate import Estimate

ONE = Estimate(0.25, 0.1, 0.0625, 0.5, 24, "photographs")
NAN = float("nan")


def three():
    return Estimate(
        np.array([0.25, 1.0, NAN]),
        np.array([0.1, 0.2, NAN]),
        np.array([0.0625, NAN, NAN]),
        np.array([0.5, NAN, NAN]),
        1234,
        "networks",
    )


def test_it_reads_with_limits_n_and_unit():
    assert str(ONE) == f"{ONE}" == "0.25 [0.06, 0.50], n = 24 photographs"
    assert f"{ONE:+.1f}" == "+0.2 [+0.1, +0.5], n = 24 photographs"
    assert f"{ONE:.0%}" == "25% [6%, 50%], n = 24 photographs"
    assert ONE.limits() == "0.25 [0.06, 0.50]" and ONE.limits(".3f") == "0.250 [0.062, 0.500]"
    assert f"{three():.1f}" == "0.2 [0.1, 0.5], 1.0 (no interval), none, n = 1,234 networks"
    half = Estimate(1.0, 0.1, NAN, 2.0, 3, "trainings")
    assert half.limits(".0f") == "1 (no interval)", "one limit alone is none"


def test_a_table_of_them_is_read_like_single_ones():
    many = Estimate(*(np.full((2, 2), x) for x in (0.5, 0.1, 0.25, 0.75)), 8, "bands")
    assert many.limits(".1f") == ", ".join(["0.5 [0.2, 0.8]"] * 4)


def test_it_unpacks_into_four_numbers_and_estimate_is_its_value():
    value, se, low, high = ONE
    assert (value, se, low, high) == (0.25, 0.1, 0.0625, 0.5)
    assert ONE.estimate == ONE.value == 0.25
    assert ONE.estimate is ONE.value


def test_arithmetic_moves_and_scales_limits_and_errors():
    assert -ONE == Estimate(-0.25, 0.1, -0.5, -0.0625, 24, "photographs")
    there = -ONE
    assert -there == ONE
    assert ONE - 0.25 == Estimate(0.0, 0.1, -0.1875, 0.25, 24, "photographs")
    assert ONE + 1 == 1 + ONE == Estimate(1.25, 0.1, 1.0625, 1.5, 24, "photographs")
    assert 4 * ONE == ONE * 4 == Estimate(1.0, 0.4, 0.25, 2.0, 24, "photographs")
    assert -1 * ONE == -ONE, "a negative factor exchanges the limits"
    assert (0 * ONE).high == (0 * ONE).se == 0
    twice = 2 * three()
    np.testing.assert_array_equal(twice.value, [0.5, 2, NAN])
    np.testing.assert_array_equal((-three()).low, [-0.5, NAN, NAN])


def test_two_estimates_are_not_subtracted_as_if_they_were_numbers():
    for work in (lambda: ONE - ONE, lambda: ONE + ONE, lambda: ONE * ONE):
        with pytest.raises(TypeError, match="paired_interval|unary|bad operand"):
            work()
    for other in (np.ones(2), [1.0, 2.0]):
        with pytest.raises(TypeError, match="one number that is known"):
            ONE * other


def test_entries_are_estimates_of_the_same_number():
    many = three()
    assert many[0] == Estimate(0.25, 0.1, 0.0625, 0.5, 1234, "networks")
    assert many[:2].value.tolist() == [0.25, 1.0] and many[[True, False, False]].n == 1234
    with pytest.raises(IndexError):
        ONE[0]


def test_limits_are_cut_where_the_quantity_cannot_lead():
    wide = Estimate(0.9, 0.1, -0.2, 1.1, 24, "photographs")
    cut = wide.within(0, 1)
    assert (cut.low, cut.high, cut.value, cut.se, cut.n) == (0, 1, 0.9, 0.1, 24)
    assert ONE.within(0, 1) == ONE
    many = Estimate(np.zeros(2), np.zeros(2), np.full(2, -2.0), np.full(2, 2.0), 8, "bands")
    np.testing.assert_array_equal(many.within([-1, -3], [1, 3]).low, [-1, -2])


def test_what_is_exact_and_what_is_unsure():
    exact = Estimate.exact([1, 2], 8, "bands")
    for limit in (exact.value, exact.low, exact.high):
        np.testing.assert_array_equal(limit, [1, 2])
    np.testing.assert_array_equal(exact.se, 0)
    assert str(Estimate.exact(2, 8, "bands")) == "2.00 [2.00, 2.00], n = 8 bands"
    unsure = Estimate.unsure([1.0, 2.0], 2, "trainings", se=0.5)
    assert unsure.limits(".0f") == "1 (no interval), 2 (no interval)"
    np.testing.assert_array_equal(unsure.se, [0.5, 0.5])
    assert np.isnan(Estimate.unsure(1.0, 2, "trainings").se)
    assert Estimate.unsure(NAN, 0, "photographs").limits() == "none"


def test_json_takes_it_and_gives_it_back():
    many = three()[:2]
    read = json.loads(json.dumps(many.as_dict()))
    assert list(read) == ["value", "se", "low", "high", "n", "unit"]
    numbers = (np.array(read[k]) for k in ("value", "se", "low", "high"))
    back = Estimate(*numbers, read["n"], read["unit"])
    assert back == many
    assert ONE.as_dict() == {
        "value": 0.25,
        "se": 0.1,
        "low": 0.0625,
        "high": 0.5,
        "n": 24,
        "unit": "photographs",
    }


def test_equal_by_content_and_hashed_alike():
    assert three() == three() and hash(three()) == hash(three()), "nan equals nan"
    zero = Estimate(0.0, 0.0, 0.0, 0.0, 5, "bands")
    assert zero == -zero and hash(zero) == hash(-zero), "0 and -0"
    as_arrays = Estimate(*(np.float64(x) for x in ONE), 24, "photographs")
    assert as_arrays == ONE and hash(as_arrays) == hash(ONE)
    assert len({ONE, as_arrays, three()}) == 2 and ONE in [three(), ONE]


@pytest.mark.parametrize(
    "changed",
    [
        Estimate(0.26, 0.1, 0.0625, 0.5, 24, "photographs"),
        Estimate(0.25, 0.2, 0.0625, 0.5, 24, "photographs"),
        Estimate(0.25, 0.1, NAN, 0.5, 24, "photographs"),
        Estimate(0.25, 0.1, 0.0625, 0.6, 24, "photographs"),
        Estimate(0.25, 0.1, 0.0625, 0.5, 25, "photographs"),
        Estimate(0.25, 0.1, 0.0625, 0.5, 24, "networks"),
        (0.25, 0.1, 0.0625, 0.5),
        0.25,
        None,
    ],
)
def test_any_other_field_makes_another_estimate(changed):
    assert ONE != changed


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        ONE.value = 1.0
