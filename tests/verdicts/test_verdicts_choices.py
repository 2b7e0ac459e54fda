"""The verdict on absence schemes: values whose SIDs are known to be alike, or not."""

import numpy as np
import pytest

from iaside.score import spectral_importance
from iaside.shapley import banzhaf_values, least_squares_values
from iaside.study.pages import choices as page
from iaside.tables import Worths
from iaside.verdicts.choices import absences_alike

MEAN = np.array([4.0, 2.0, 1.0, 0.0])


def values(mean, spread, seed, n=40):
    return np.asarray(mean)[:, None] + spread * np.random.default_rng(seed).normal(size=(4, n))


def planted(other, spread=0.05):
    zero = values(MEAN, spread, 0)
    return {"reference": zero, "gaussian": values(MEAN, spread, 1), "replacement": other}


def test_alike_needs_every_network_and_choice():
    near = planted(values(MEAN, 0.05, 2))
    far = planted(values(MEAN[::-1], 0.05, 2))
    row = absences_alike({"a": near, "b": near}, note="sigma 1", data="these")
    assert row["verdict"] == "supported" and row["data"] == "these" and "sigma 1" in row["note"]
    assert [p["part"] for p in row["parts"]] == [
        "a, gaussian",
        "a, replacement",
        "b, gaussian",
        "b, replacement",
    ]
    row = absences_alike({"a": near, "b": far})
    assert row["verdict"] == "contradicted" and "worst of 4: b, replacement" in row["note"]
    distance = 2 * (4 - 0 + 2 - 1) / 7
    assert row["value"] == pytest.approx(distance, abs=0.03) and row["n"] == 40
    noisy = absences_alike({"a": planted(values(MEAN, 3.0, 2), 3.0)})
    assert noisy["verdict"] == "undecided", "noise does not cancel in a distance"


def test_only_the_named_choices_count():
    far = planted(values(MEAN[::-1], 0.05, 2))
    assert absences_alike({"a": far}, choices=["gaussian"])["verdict"] == "supported"
    assert absences_alike({"a": far}, ["gaussian"], "replacement")["verdict"] == "contradicted"


def test_the_first_version_is_least_squares_and_probability_at_once():
    draw = np.random.default_rng(0)
    tables = {name: draw.random((8, 9)) for name in ("log_likelihood", "probability")}
    found = page.values_of(Worths(tables, {}), {"probability": "value"})
    both = found[page.FIRST_VERSION]
    assert np.allclose(both, least_squares_values(tables["probability"]))
    assert not np.allclose(both, found["least squares (001)"])
    assert not np.allclose(both, found["probability"])
    sids = (spectral_importance(v) for v in (both, banzhaf_values(tables["probability"])))
    assert np.allclose(*sids), "which differ by a constant for all bands"
