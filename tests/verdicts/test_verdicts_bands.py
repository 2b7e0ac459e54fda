"""Verdicts on bands: spectra of a known form, and cells that can be counted."""

import numpy as np
import pytest

from iaside.spectral import band_masks, cells_per_band
from iaside.verdicts import bands
from iaside.verdicts.rules import gather
from iaside.verdicts.shown import data_words, parts_table, verdict_table

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("low", "verdict"), [(0.7, "supported"), (0.3, "contradicted"), (0.5, "undecided")]
)
def test_where_the_energy_lies(low, verdict):
    share = np.clip(low + 0.1 * RNG.normal(size=40), 0, 1)
    energy = np.stack([share / 2, share / 2, (1 - share) / 2, (1 - share) / 2])
    row = bands.low_energy_majority(energy, "these")
    assert row["verdict"] == verdict and row["value"] == pytest.approx(share.mean())
    assert (row["n"], row["unit"], row["data"]) == (40, "photographs", "these")


def test_an_odd_number_of_bands_has_a_middle_that_is_not_low():
    energy = np.repeat([[0.4], [0.3], [0.3]], 9, axis=1)
    assert bands.low_energy_majority(energy)["value"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(20.0, "supported"), (-20.0, "contradicted"), (0.0, "undecided")]
)
def test_which_decay_fits(gain, verdict):
    noise = RNG.normal(size=30)
    row = bands.esd_power_law(gain + 10 * (noise - noise.mean()))
    assert row["verdict"] == verdict and row["n"] == 30
    assert bands.esd_power_law(gain + np.arange(4.0))["verdict"] == "undecided", "4 photographs"


def test_counts_of_cells_are_exact():
    side, wide = 224, 8
    linf = cells_per_band(band_masks(wide, (side, side)), side).numpy()
    corner = cells_per_band(band_masks(wide, (side, side), "l2_corner"), side).numpy()
    assert bands.linf_density(linf, side)["verdict"] == "supported"
    assert bands.linf_equal_cells(linf)["verdict"] == "contradicted"
    assert bands.l2_density(corner, side)["verdict"] == "supported"
    for row in (bands.linf_density(linf, side), bands.l2_density(corner, side)):
        assert row["low"] == row["value"] == row["high"] and (row["n"], row["unit"]) == (8, "bands")
    rings = bands.rings(wide, side)
    assert rings.sum() == side**2 and rings[0] == 28**2
    even = bands.l2_density(np.pi / 2 * rings, side)
    assert even["verdict"] == "contradicted" and even["value"] == pytest.approx(0)
    values = np.array([1.0, 2.0, 4.0])
    found = bands.linf_equal_cells(values)["value"]
    assert found == pytest.approx(values.std(ddof=1) / values.mean())


def test_tables_of_verdicts_say_what_n_and_unit_are():
    rows = [bands.linf_equal_cells([9, 9]), bands.esd_power_law(np.full(7, 3.0), "digits")]
    table = verdict_table(rows)
    assert table["measured"].tolist() == ["0 (exact), n = 2 bands", "3 [3, 3], n = 7 photographs"]
    assert table["data"].tolist() == ["formula", "digits"] and table["claimed"][1] == "> 0"
    few = verdict_table([bands.esd_power_law(np.ones(2))])
    assert few["measured"][0] == "1 (no interval), n = 2 photographs"
    assert "5 are needed" in few["note"][0]
    assert verdict_table([]).empty and parts_table(rows[:1]) is None
    assert {r["id"] for r in gather([{"stage": "bands", "claims": rows}]) if r["n"]} == {
        "linf_equal_cells",
        "esd_power_law",
    }


def test_data_have_names():
    assert data_words("data/images/photographs") == "ImageNet photographs"
    assert data_words("data/images/mnist_5k.npz", classes=10) == "MNIST digits"
    assert data_words(None, classes=1000) == "ImageNet photographs"
    assert data_words("mine/cats", classes=1000) == "ImageNet photographs", "by its labels"
    assert data_words("mine/cats", classes=3) == "images of cats"
    assert data_words(classes=7) == "images of 7 classes"
