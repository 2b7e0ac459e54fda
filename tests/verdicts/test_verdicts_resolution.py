"""Verdicts on resolution: planted distances, of SIDs and of draws."""

import numpy as np
import pytest

from iaside.verdicts.resolution import m8_suffices, mean_of_draws, sampling_inaccurate

MEAN = np.array([5.0, 3, 2, 1, 1, 1, 0.5, 0])


def values(mean, seed, spread=0.02, n=24):
    return np.asarray(mean)[:, None] + spread * np.random.default_rng(seed).normal(size=(8, n))


def test_finer_values_that_add_up_or_do_not():
    exact = {name: values(MEAN, 0) for name in ("a, M = 16", "a, M = 32")}
    same = {name: values(MEAN, 1) for name in exact}
    row = m8_suffices(same, exact, "these")
    assert (row["verdict"], row["n"], row["data"]) == ("supported", 24, "these")
    moved = MEAN + np.array([-2.0, 0, 0, 0, 0, 0, 0, 0]) + np.array([0, 0, 0, 0, 0, 0, 2.0, 0])
    row = m8_suffices(same | {"a, M = 32": values(moved, 1)}, exact)
    assert row["verdict"] == "contradicted" and "a, M = 32" in row["note"]
    assert row["value"] == pytest.approx(4 / 13.5, abs=0.01)
    assert [part["verdict"] for part in row["parts"]] == ["supported", "contradicted"]


def test_errors_of_sampling_are_judged_over_draws():
    rng = np.random.default_rng(0)
    small, large = 0.03 + 0.01 * rng.random(12), 0.3 + 0.01 * rng.random(12)
    row = sampling_inaccurate({"a": large, "b": large}, 24, "these")
    assert (row["verdict"], row["n"], row["unit"]) == ("supported", 12, "draws")
    assert "of the same 24 photographs" in row["note"] and row["data"] == "these"
    assert sampling_inaccurate({"a": large, "b": small}, 24)["verdict"] == "contradicted"
    assert sampling_inaccurate({"a": 0.1 + 0.1 * rng.normal(size=12)}, 24)["verdict"] == "undecided"
    few = sampling_inaccurate({"a": large}, 4)
    assert few["verdict"] == "undecided" and "n = 4 photographs, 5 are needed" in few["note"]
    assert sampling_inaccurate({"a": large[:4]}, 24)["verdict"] == "undecided", "4 draws"


def test_limits_over_draws_are_students():
    from scipy import stats

    found, errors = mean_of_draws([0.1, 0.2, 0.4, 0.2, 0.3], 0.99), [0.1, 0.2, 0.4, 0.2, 0.3]
    expected = stats.ttest_1samp(errors, 0).confidence_interval(0.99)
    assert [found.low, found.high] == pytest.approx(list(expected)) and found.unit == "draws"
