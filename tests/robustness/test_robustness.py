"""Planted answers, invariances, independent oracles and every error of robustness."""

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.correlation import correlation, correlation_row
from iaside.inputs.recipes import INTERPOLATIONS
from iaside.robustness import measures
from iaside.robustness.conditions import fourier_noise, heat_cells
from iaside.robustness.corrupted_photographs import resize
from iaside.robustness.measures import (
    ALEXNET,
    MEASURES,
    band_survival,
    corruption_error,
    heat_map,
    image_rows,
    mean_corruption_error,
    mean_prediction_error,
    measure,
    predicted_loss,
    trivial_predictors,
)
from iaside.robustness.responses import _answerer, response_passes, responses
from iaside.spectral import band_energy, band_masks, split_bands
from iaside.tables import (
    CLEAN,
    CLEAN_CUT,
    CORRUPTIONS,
    FOURIER,
    TABLES,
    Condition,
    Responses,
    heat_frequencies,
    without_gradient,
)
from iaside.training.pairs import share_right

SIDE, M = 32, 4
MASKS = band_masks(M, (SIDE, SIDE))


def some_images(n=4, seed=0):
    x = torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return 0.25 + 0.5 * x


def some_labels(n=4):
    return torch.arange(n) % 3


class Linear(nn.Module):
    """A linear classifier of pixels, as smooth as an attack may wish."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(3, 3 * SIDE * SIDE, generator=generator) / 30)
        self.eval()
        self.passes = 0

    def forward(self, x):
        self.passes += len(x)
        return (x.flatten(1) - 0.5) @ self.weight.T


class Curved(Linear):
    """Where PGD ends depends on where it started."""

    def forward(self, x):
        h = super().forward(x)
        return torch.stack([(9 * h[:, 0]).sin(), (7 * h[:, 1]).cos(), h.square().sum(1)], 1)


# -- the two means ---------------------------------------------------------------------------------


def test_identical_images_have_no_prediction_error():
    p = np.random.default_rng(0).random((2, 5))
    assert mean_prediction_error(p, p).tolist() == [0, 0]
    assert mean_prediction_error([1.0, 0.0], [0.0, 1.0]) == 1
    with pytest.raises(ValueError, match="same images"):
        mean_prediction_error([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="p_perturbed must hold probabilities"):
        mean_prediction_error([0.5], [1.5])


def test_alexnet_has_an_mce_of_100_and_half_its_errors_50():
    own = dict(zip(CORRUPTIONS, ALEXNET, strict=True))
    assert mean_corruption_error(own) == pytest.approx(100)
    assert mean_corruption_error({c: [e / 2] * 5 for c, e in own.items()}) == pytest.approx(50)
    assert CORRUPTIONS[0] == "gaussian_noise" and ALEXNET[10] == 0.564592  # brightness
    with pytest.raises(ValueError, match="missing: fog; unknown: mist"):
        mean_corruption_error({("mist" if c == "fog" else c): e for c, e in own.items()})
    with pytest.raises(ValueError, match="errors under snow must lie between 0 and 1"):
        mean_corruption_error(own | {"snow": 42.0})


# -- the measurement -------------------------------------------------------------------------------

SOME = [
    Condition("white_noise", 0.1),
    Condition("gaussian_blur", 3),
    Condition("fgsm", 0.05),
    Condition("pgd", 0.05),
    Condition("white_noise", 0.05, 1),
    Condition("pgd", 0.05, 0),
    Condition(FOURIER, 2.0, 3),
]


def ask(model, conditions=SOME, n=4, **settings):
    settings = dict(heat_grid=3, progress=False) | settings
    return responses(model, some_images(n), some_labels(n), conditions, MASKS, **settings)


def test_rows_are_the_answers_of_the_model():
    model, x, y = Linear(), some_images(), some_labels()
    r = ask(model)
    assert r.conditions[0] == CLEAN and len(r.conditions) == len(SOME) + 1
    log_p = model(x).log_softmax(-1).detach()
    own = log_p.gather(1, y[:, None])[:, 0].double()
    assert np.allclose(r.tables["log_likelihood"][0], own, atol=1e-6)
    at_t2 = (model(x).detach() / 2).softmax(-1).gather(1, y[:, None])[:, 0]
    assert np.allclose(r.tables["probability_t2"][0], at_t2, atol=1e-6)
    assert np.array_equal(r.tables["correct"][0], (log_p.argmax(1) == y).double())
    assert np.allclose(r.tables["confidence"][0], log_p.exp().amax(1), atol=1e-6)


def test_energies_are_those_of_the_change_and_stay_in_their_band():
    r = ask(Linear())
    assert np.allclose(r.clean_energy, band_energy(some_images(), MASKS))
    assert not r.change_energy[0].any()
    for source, band in (("white_noise", 1), ("pgd", 0)):
        [row] = r.rows(source, place=band)
        energy = r.change_energy[row].sum(1)
        assert energy[band] > 0 and np.delete(energy, band).max() < 1e-6 * energy[band]
    [noise] = r.rows("white_noise", place=1)
    # rms 0.05, and no DC in band 1
    assert np.allclose(r.change_energy[noise][1], 0.05**2 * 3 * SIDE**2, rtol=1e-4)


def test_neither_batch_size_nor_the_other_conditions_matter():
    model = Linear()
    whole, parts = ask(model, batch_size=8), ask(model, SOME[::-1], batch_size=3)
    for c in SOME:
        for t in TABLES:
            a, b = whole.tables[t][whole.row(c)], parts.tables[t][parts.row(c)]
            assert np.allclose(a, b, atol=1e-6), (c, t)


@pytest.mark.parametrize("c", [SOME[0], SOME[3], SOME[5], SOME[6]], ids=str)
def test_an_image_is_perturbed_alike_in_a_subset(c):
    whole, subset = ask(Curved()), ask(Curved(), subset={c.source: [1, 3]})
    assert subset.measured_images(subset.row(c)).tolist() == [1, 3]
    assert np.allclose(
        subset.tables["log_likelihood"][subset.row(c)][[1, 3]],
        whole.tables["log_likelihood"][whole.row(c)][[1, 3]],
        atol=1e-6,
    )


def test_a_mask_of_images_is_no_list_of_the_places_0_and_1():
    c = SOME[0]
    whole = ask(Curved())
    mask = np.arange(len(whole.tables["correct"][0])) % 3 == 2
    some = ask(Curved(), subset={c.source: mask.tolist()}, batch_size=np.int64(3))
    assert some.measured_images(some.row(c)).tolist() == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"subset": {SOME[0].source: [0.5]}}, "subset= are torch.float64"),
        ({"subset": {SOME[0].source: [99]}}, "subset= names image 99, and there are"),
        ({"subset": {SOME[0].source: [2, 2]}}, "subset= names image 2 twice"),
        ({"batch_size": 2.5}, "batch_size=2.5 is not possible"),
        ({"batch_size": 0}, "batch_size=0 is not possible"),
        ({"seed": -1}, "seed=-1 is not possible"),
    ],
)
def test_settings_are_refused_before_anything_is_shown(how, said):
    with pytest.raises(ValueError, match=said):
        ask(lambda x: pytest.fail("nothing is to be shown"), **how)


def test_equal_images_get_random_numbers_of_their_own():
    x, y = some_images(1).repeat(2, 1, 1, 1), torch.zeros(2).long()
    r = responses(Curved(), x, y, [SOME[0], SOME[3]], MASKS, progress=False)
    clean, noise, pgd = r.tables["log_likelihood"]
    assert clean[0] == clean[1] and noise[0] != noise[1] and pgd[0] != pgd[1]


def test_channels_of_a_wave_have_signs_of_their_own():
    x = torch.full((20, 3, SIDE, SIDE), 0.5)
    signs = (fourier_noise(x, 1.0, 5, 3) - x)[:, :, 0, 0].sign()
    assert len(signs.unique(dim=0)) > 4
    assert not signs.equal((fourier_noise(x, 1.0, 5, 3, seed=1) - x)[:, :, 0, 0].sign())


def test_attacks_do_harm_and_pgd_is_the_stronger():
    r = ask(Linear(), [Condition(s, 0.02) for s in ("fgsm", "pgd")], n=8)
    clean, fgsm, pgd = r.tables["log_likelihood"]
    assert (fgsm < clean).all() and (pgd < clean).all()
    assert pgd.mean() <= fgsm.mean() + 1e-6  # a linear model: one step is already the best


class Rounding(Linear):
    """Rounds bright images, which give it no gradient then."""

    def forward(self, x):
        bright = (x.detach().mean((1, 2, 3)) > 0.5).view(-1, 1, 1, 1)
        return super().forward(torch.where(bright, (255 * x).round() / 255, x))


class Unusable(Linear):
    """A gradient of nan, everywhere."""

    def forward(self, x):
        return super().forward(x) + (0 * x).sum((1, 2, 3)).sqrt()[:, None]


ATTACKED = [Condition("fgsm", 0.02), Condition("pgd", 0.02), Condition("pgd", 0.02, 0)]


@pytest.mark.parametrize("attack_batch", [1, 4])
def test_an_image_without_a_usable_gradient_is_not_counted_as_robust(attack_batch, tmp_path):
    x, y = some_images(6) / 3, torch.zeros(6).long()
    x[[1, 4]] += 0.6
    conditions = [*ATTACKED, Condition("white_noise", 0.1)]
    r = responses(
        Rounding(),
        x,
        y,
        conditions,
        MASKS,
        progress=False,
        attack_batch=attack_batch,
        subset={"fgsm": [0, 1, 2]},
    )
    r.save(tmp_path / "r.npz")
    r = Responses.load(tmp_path / "r.npz")
    none = r.tables["no_gradient"]
    for c in ATTACKED:
        few = c.source == "fgsm"
        expected = [0, 1, 0, *[np.nan] * 3] if few else [0, 1, 0, 0, 1, 0]
        assert np.array_equal(none[r.row(c)], expected, equal_nan=True)
        left = [0, 2] if few else [0, 2, 3, 5]
        assert r.measured_images(r.row(c)).tolist() == left
        for t in TABLES[:-1]:
            assert np.flatnonzero(~np.isnan(r.tables[t][r.row(c)])).tolist() == left
        assert np.isnan(r.change_energy[r.row(c)][:, [1, 4]]).all()
        clean, attacked = (r.tables["correct"][r.row(k)][left] for k in (CLEAN, c))
        found = measure(r, "accuracy drop", c)
        assert found.estimate == (clean - attacked).mean()
        for kind, n in (("accuracy left", attacked.mean()), ("relative accuracy", clean.mean())):
            rows = image_rows(r, kind, c)[-1]
            assert np.nanmean(rows) == n and np.flatnonzero(~np.isnan(rows)).tolist() == left
    assert not none[[r.row(CLEAN), r.row(conditions[-1])]].any()
    assert without_gradient(r) == [
        "1 of 3 images gave no usable gradient under fgsm 0.02: left out, not robust",
        "2 of 6 images gave no usable gradient under pgd 0.02: left out, not robust",
        "2 of 6 images gave no usable gradient under pgd 0.02, band 0: left out, not robust",
    ]


def test_a_network_without_any_usable_gradient_has_no_robustness():
    """It looked perfect: the images came back unchanged, and the answers with them."""
    x, y = some_images(6), torch.zeros(6).long()
    r = responses(Unusable(), x, y, ATTACKED, MASKS, progress=False)
    assert np.array_equal(r.tables["no_gradient"][1:], np.ones((3, 6)))
    for kind in MEASURES:
        for asked in (ATTACKED[0], ATTACKED):
            assert np.isnan([*measure(r, kind, asked)]).all()
    right = share_right(r, ATTACKED)
    assert np.isnan(right).all()
    drops = [measure(r, "mPE", c).estimate for c in ATTACKED]
    assert np.isnan(correlation([1, 2, 3], drops).estimate)
    row = correlation_row([1, 2, 3, 4, 5], [1, 2, 3, 4, np.nan])
    assert np.isnan([row[k] for k in ("value", "low", "p", "loo_low")]).all(), "loo neither"


def test_an_interrupted_measurement_goes_on_and_the_same_bytes_come_out(tmp_path):
    class Dies(Linear):
        budget = 60

        def forward(self, x):
            if self.passes > self.budget:
                raise KeyboardInterrupt
            return super().forward(x)

    whole = Linear()
    ask(whole).save(tmp_path / "whole.npz")
    with pytest.raises(KeyboardInterrupt):
        ask(Dies(), resume=tmp_path)
    [folder] = tmp_path.glob("robustness-*")
    done = len(list(folder.iterdir()))
    assert 1 < done < len(SOME) + 1

    class Goes(Linear):
        pass

    Goes.__name__ = Goes.__qualname__ = "Dies"  # the same model by content
    again = Goes()
    r = ask(again, resume=tmp_path)
    assert again.passes < whole.passes
    for t in TABLES:
        assert np.array_equal(
            Responses.load(tmp_path / "whole.npz").tables[t], r.tables[t], equal_nan=True
        )


def test_a_table_survives_saving(tmp_path):
    r = ask(Linear())
    r.save(tmp_path / "r.npz")
    back = Responses.load(tmp_path / "r.npz")
    assert back.conditions == r.conditions and back.provenance == r.provenance
    assert np.array_equal(back.change_energy, r.change_energy, equal_nan=True)
    first = (tmp_path / "r.npz").read_bytes()
    ask(Linear()).save(tmp_path / "r.npz")
    assert (tmp_path / "r.npz").read_bytes() == first, "equal runs are equal bytes"


@pytest.mark.slow
def test_corrupted_images_are_made_once_for_all_models(tmp_path, monkeypatch):
    wanted = [Condition(c, 1) for c in ("brightness", "contrast")]
    fresh = ask(Linear(), wanted, n=2)
    kept = ask(Linear(), wanted, n=2, cache=tmp_path, workers=2)
    for t in TABLES:
        assert np.allclose(fresh.tables[t], kept.tables[t], atol=1e-6)

    def never(*_, **__):
        raise AssertionError("made a second time")

    monkeypatch.setattr(sys.modules["iaside.robustness.corrupted_photographs"], "perturb", never)
    other = Linear()
    other.weight.data *= 2
    r = ask(other, wanted, n=2, cache=tmp_path)
    assert not np.allclose(r.tables["log_likelihood"], kept.tables["log_likelihood"])


def test_placement_on_another_device():
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        seen = []
        net.register_forward_pre_hook(lambda m, args: seen.append(args[0].device.type))
        answer = _answerer(net, "float32", torch.device("cuda"), 2)
        with torch.device("cpu"):
            x, y = some_images(2), torch.zeros(2, dtype=torch.long)
        with pytest.raises((RuntimeError, TypeError, AttributeError)):
            answer(x, y)  # a fake tensor has no numbers to say whether they are finite
    assert seen == ["cuda"]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (Condition("sparsefool", 1), "no source of perturbations that has a strength"),
        (Condition("white_noise", 0.1, 9), "place must be below 4"),
        *(
            (Condition("fog", severity), "it must be 1, 2, 3, 4 or 5")
            for severity in (1.5, 6, 0, -1, math.nan)
        ),
        *(
            (Condition("gaussian_blur", side), "it must be an odd integer")
            for side in (2, 3.5, -1, math.inf)
        ),
        *(
            (Condition(source, strength), "it must be (a number )?from 0")
            for source in ("fgsm", "pgd", "white_noise")
            for strength in (-1, math.nan)
        ),
        (Condition(FOURIER, math.nan, 4), "it must be a number from 0"),
        (Condition(FOURIER, 1.0, 9), "place must be below 9"),
        (Condition(FOURIER, 1.0), "place must be below 9"),
        (Condition("fgsm", 0.1, 0), "place must be below 0"),
        (Condition("fgsm", 4), "4/255, not 4"),
        (Condition("fgsm", -1), "eps=-1 is not possible"),
        (Condition("pgd", math.nan), "eps=nan is not possible"),
        (Condition("white_noise", math.inf), "sigma=inf is not possible"),
        (Condition("gaussian_blur", math.nan), "kernel=nan is not possible; it must be an odd"),
        (Condition("gaussian_blur", 4), "kernel=4 is not possible; it must be an odd"),
        (Condition("snow", 1.5), "severity=1.5 is not possible; it must be 1, 2, 3, 4 or 5"),
        (Condition("snow", 6), "severity=6 is not possible"),
        (Condition(FOURIER, math.nan, 0), "norm=nan is not possible"),
        (Condition(FOURIER, math.inf, 0), "norm=inf is not possible"),
    ],
)
def test_impossible_conditions_are_refused_before_anything_is_asked(condition, said):
    model, asked = Linear(), []
    model.register_forward_hook(lambda *_: asked.append(1))
    with pytest.raises(ValueError, match=said):
        ask(model, [Condition("white_noise", 0.1), condition])
    assert not asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"norm": math.nan}, "norm=nan is not possible; it must be a number from 0"),
        ({"norm": -math.inf}, "norm=-inf"),
        ({"norm": -1.0}, "norm=-1.0"),
        ({"seed": -1}, "seed=-1"),
        ({"grid": 4}, "heat_grid=4 must be an odd number"),
        ({"cell": 9}, "cells count from 0 to 8"),
        ({"index": [0]}, "1 places of 2 images"),
        ({"x": torch.full((2, 3, 8, 8), math.nan)}, "range from nan"),
    ],
)
def test_a_wave_that_is_none_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        fourier_noise(
            **{"x": torch.full((2, 3, 8, 8), 0.5), "norm": 1.0, "grid": 3, "cell": 4} | arguments
        )


def test_other_errors_name_the_way_out(tmp_path):
    broken = Linear()
    broken.weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="weights of the model hold nan: weight; load them again"):
        ask(broken)
    r = ask(Linear(), SOME[:1])
    with pytest.raises(ValueError, match="was not measured; there is"):
        r.row(Condition("white_noise", 0.7))
    with pytest.raises(ValueError, match="no heat map was measured"):
        heat_map(r)
    with pytest.raises(ValueError, match="gaussian_noise, shot_noise"):
        corruption_error(r)
    with pytest.raises(ValueError, match="choose one of accuracy drop, mPE"):
        measure(r, "mpe", SOME[0])
    with pytest.raises(FileNotFoundError, match="40_robustness"):
        Responses.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match="cannot be read as a robustness table"):
        Responses.load(tmp_path / "other.npz")


# -- the heat map ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [0, 3, 7, 12])
def test_a_wave_has_one_frequency_and_its_norm(cell):
    grid = 5
    x = torch.full((2, 3, SIDE, SIDE), 0.5)
    wave = fourier_noise(x, 2.0, grid, cell) - x
    assert torch.allclose(wave.flatten(2).norm(dim=2), torch.tensor(2.0), atol=1e-4)
    power = torch.fft.fft2(wave.double()).abs().square()
    ky, kx = (heat_frequencies(SIDE, grid)[k] for k in divmod(cell, grid))
    there = power[..., ky % SIDE, kx % SIDE] + power[..., -ky % SIDE, -kx % SIDE]
    both = 1 if (2 * ky % SIDE == 0 and 2 * kx % SIDE == 0) else 2
    share = there / power.sum((2, 3)) / (2 if both == 1 else 1)
    assert torch.allclose(share, torch.ones_like(share), atol=1e-6)


@pytest.mark.parametrize("size", [(33, 47), (97, 61), (32, 33), (15, 15), (16, 31)])
@pytest.mark.parametrize("grid", [5, 15])
def test_cells_of_any_size_are_distinct_waves_of_unit_norm(size, grid):
    x = torch.full((1, 1, *size), 0.5, dtype=torch.float64)
    cells, last = heat_cells(grid), grid**2 - 1
    waves = torch.stack([(fourier_noise(x, 1.0, grid, c) - x).flatten() for c in cells])
    mirrored = torch.stack([(fourier_noise(x, 1.0, grid, last - c) - x).flatten() for c in cells])
    assert torch.allclose(waves.norm(dim=1), torch.ones(len(cells)).to(waves))
    assert torch.allclose(waves, mirrored, atol=1e-9), "a map is symmetric about DC"
    ky, kx = (
        np.array([heat_frequencies(side, grid)[k] for k in places])
        for side, places in zip(size, np.divmod(cells, grid), strict=True)
    )
    same = np.zeros((len(cells), len(cells)), bool)  # the same frequency, or the one reflected
    for sign in (1, -1):
        across = np.subtract.outer(ky, sign * ky) % size[0] == 0
        same |= across & (np.subtract.outer(kx, sign * kx) % size[1] == 0)
    assert np.allclose((waves @ waves.T).abs(), same, atol=1e-9)
    if size[0] % 2 and size[1] % 2:  # else -Nyquist and Nyquist are one
        assert np.array_equal(same, np.eye(len(cells))), "no cell is measured twice"


def test_a_wave_is_its_own_reflection_so_half_the_map_is_enough():
    x, grid = some_images(1), 5
    last = grid**2 - 1
    for cell in range(grid**2):
        a, b = fourier_noise(x, 1.0, grid, cell), fourier_noise(x, 1.0, grid, last - cell)
        assert torch.allclose(a, b, atol=1e-5)
    assert heat_cells(grid) == list(range(13))
    with pytest.raises(ValueError, match="heat_grid=4 must be an odd number"):
        heat_cells(4)


def test_the_map_shows_the_one_frequency_that_disturbs():
    grid, cell = 5, 7
    ky, kx = (heat_frequencies(SIDE, grid)[k] for k in divmod(cell, grid))

    def model(x):
        there = torch.fft.fft2(x.float()).abs()[..., ky % SIDE, kx % SIDE].amax(1)
        return torch.stack([10 - there, torch.zeros_like(there)], 1)

    x = torch.full((2, 3, SIDE, SIDE), 0.5)
    r = responses(
        model,
        x,
        torch.zeros(2).long(),
        [Condition(FOURIER, 2.0, c) for c in heat_cells(grid)],
        MASKS,
        heat_grid=grid,
        progress=False,
    )
    expected = np.zeros((grid, grid))
    expected[cell // grid, cell % grid] = expected[-1 - cell // grid, -1 - cell % grid] = 1
    assert np.array_equal(heat_map(r), expected)


# -- what tables say -------------------------------------------------------------------------------


def planted(clean, changed, n_bands=2):
    """A table of two conditions with given log-likelihoods of the true class."""
    found = np.stack([clean, changed]).astype(float)
    tables = {
        "log_likelihood": found,
        "probability_t2": np.exp(found) ** 0.5,
        "correct": (found > math.log(0.5)).astype(float),
        "confidence": np.exp(found),
    }
    n = found.shape[1]
    noise = Condition("white_noise", 0.1)
    return noise, Responses(
        [CLEAN, noise], tables, np.ones((n_bands, n)), np.zeros((2, n_bands, n)), {}
    )


def test_measures_by_hand():
    before, after = [0.9, 0.8, 0.6, 0.9, 0.8, 0.4], [0.4, 0.4, 0.8, 0.9, 0.3, 0.2]
    noise, r = planted(np.log(before), np.log(after))
    assert measure(r, "mPE", noise).estimate == pytest.approx(1.8 / 6)
    assert measure(r, "relative mPE", noise).estimate == pytest.approx(1.8 / 4.4)
    assert measure(r, "accuracy drop", noise).estimate == pytest.approx(3 / 6)
    gap = np.log([0.9 / 0.4, 2, 0.75, 1, 0.8 / 0.3, 2]).mean()
    assert measure(r, "loss in nats", noise).estimate == pytest.approx(gap)
    for kind in measures.MEASURES:
        found = measure(r, kind, noise)
        assert found.low <= found.estimate <= found.high
        unharmed = {"accuracy left": 5 / 6, "relative accuracy": 1}.get(kind, 0)
        assert measure(r, kind, CLEAN).estimate == pytest.approx(unharmed)
    assert measure(r, "accuracy left", noise).estimate == pytest.approx(2 / 6)
    assert measure(r, "relative accuracy", noise).estimate == pytest.approx(2 / 5)
    assert measure(r, "accuracy left", noise).low == accuracy_interval([0, 0, 1, 1, 0, 0]).low
    drop = measure(r, "accuracy drop", [noise, noise])
    assert drop.estimate == pytest.approx(0.5) and -1 <= drop.low <= 0.5 <= drop.high <= 1


def test_the_mce_of_a_table_is_that_of_its_errors():
    rng = np.random.default_rng(0)
    conditions = [CLEAN] + [Condition(c, float(s)) for c in CORRUPTIONS for s in range(1, 6)]
    correct = (rng.random((len(conditions), 9)) < 0.5).astype(float)
    tables = {t: correct for t in TABLES}
    r = Responses(conditions, tables, np.ones((2, 9)), np.zeros((len(conditions), 2, 9)), {})
    errors = {c: 1 - correct[r.rows(c)].mean(1) for c in CORRUPTIONS}
    found = corruption_error(r)
    assert found.estimate == pytest.approx(mean_corruption_error(errors))
    assert found.low < found.estimate < found.high


# -- correlation over models -----------------------------------------------------------------------


def test_trivial_predictors_by_hand():
    _, r = planted(np.log([0.9, 0.8, 0.3, 0.9]), np.zeros(4))
    accuracies = np.zeros((2**8, 4))
    accuracies[3, :3] = 1  # the lowest two of eight bands
    found = trivial_predictors(r, accuracies)
    assert found["clean error"] == 0.25 and found["low-pass accuracy"] == 0.75
    assert found["confidence"] == pytest.approx(0.725)


# -- matching --------------------------------------------------------------------------------------


def test_what_survives_of_a_band_and_what_its_loss_costs():
    x = some_images(3)
    bands = split_bands(x, MASKS)
    gone = band_survival(band_energy(x, MASKS), band_energy(0.5 * bands[2], MASKS))
    assert np.allclose(gone, [1, 1, 0.8, 1], atol=1e-5)  # s = 4: a quarter of the energy
    psi = np.array([3.0, 1.0, 2.0, -1.0])
    assert predicted_loss(psi, gone[None]) == pytest.approx([0.4], abs=1e-4)
    assert predicted_loss(psi, np.ones((1, 4))) == 0
    with pytest.raises(ValueError, match="0 or more"):
        band_survival([[-1.0]], [[1.0]])


# -- corruptions are made at 224 pixels, and compared with what was corrupted ----------------------


class Bright(nn.Module):
    """Two classes by the mean brightness, at any size: a network that no resizing changes."""

    def __init__(self, interpolation="bilinear"):
        super().__init__()
        self.recipe = {"interpolation": interpolation, "input_size": [3, 128, 128]}
        self.eval()

    def forward(self, x):
        z = 40 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([z, -z], 1)


def large_pictures(n=6, side=224):
    grey = torch.linspace(0.35, 0.6, n)[:, None, None, None]
    noise = torch.rand(n, 3, 14, 14, generator=torch.Generator().manual_seed(1)) - 0.5
    wide = nn.functional.interpolate(noise, scale_factor=16)
    return ((grey + 0.2 * wide).clamp(0, 1) * 255).round()[..., :side, :side] / 255


FEW = [Condition(c, float(s)) for c in ("brightness", "contrast", "shot_noise") for s in (1, 5)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
def test_corruption_errors_do_not_depend_on_the_input_size(how, tmp_path):
    """A network of mean brightness is wrong about the same corrupted pictures at every size."""
    pictures, y = large_pictures(), torch.tensor([1, 1, 1, 0, 0, 0])
    found = {}
    for side in (128, 224, 288):
        own = pictures[..., 20:-20, 20:-20]  # its own cut: another one
        own = nn.functional.interpolate(own, (side, side))
        masks = band_masks(4, (side, side))
        found[side] = responses(
            Bright(how),
            own,
            y,
            FEW,
            masks,
            pictures=pictures,
            progress=False,
            cache=tmp_path,
            workers=1,
        )
        r = found[side]
        assert r.conditions[:2] == [CLEAN, CLEAN_CUT]
        assert len(list(tmp_path.iterdir())) == 1, "made once for all sizes"
    for r in found.values():
        for c in FEW:
            for t in ("log_likelihood", "correct"):
                assert np.allclose(r.tables[t][r.row(c)], found[224].tables[t][r.row(c)], atol=0.05)
    wrong = [corruption_error(r, ["brightness", "contrast"]).estimate for r in found.values()]
    assert wrong[0] == wrong[1] == wrong[2] > 0
    assert found[224].provenance["corruptions"]["interpolation"] is None
    assert found[128].provenance["corruptions"]["interpolation"] == how
    assert "ImageNet-C" in found[128].corrupted_as() and "128 x 128" in found[128].corrupted_as()


def test_every_difference_is_of_the_corrupted_and_the_clean_cut():
    """The network's own cut is half as bright: no part of what a corruption does."""
    pictures, y = large_pictures(), torch.zeros(6).long()
    own = nn.functional.interpolate(pictures, (160, 160)) / 2
    masks = band_masks(4, (160, 160))
    noise, weak = Condition("white_noise", 0.01), Condition("contrast", 1.0)
    r = responses(Bright(), own, y, [noise, weak], masks, pictures=pictures, progress=False)
    assert r.partner(noise) == r.row(CLEAN) and r.partner(weak) == r.row(CLEAN_CUT) == 1
    # contrast keeps the mean, and with it every answer
    assert abs(measure(r, "loss in nats", weak).estimate) < 0.1
    gap = (r.tables["log_likelihood"][0] - r.tables["log_likelihood"][1]).mean()
    assert abs(gap) > 5, "the two cuts differ, else this decides nothing"
    both = measure(r, "mPE", [noise, weak]).estimate
    alone = [measure(r, "mPE", c).estimate for c in (noise, weak)]
    assert both == pytest.approx(np.mean(alone))
    # contrast 1 leaves 0.4: the change has 0.6**2 of the energy of the cut in every band
    share = r.change_energy[r.row(weak)].sum(1) / r.partner_energy(weak).sum(1)
    assert np.allclose(share, 0.36, atol=0.02)
    assert r.partner_energy(noise) is r.clean_energy


def test_pictures_of_their_own_size_need_no_partner():
    """32 and 64 pixels: corrupted as they are, at the strengths of their own published set."""
    for side, name in ((32, "CIFAR-10-C"), (64, "Tiny ImageNet-C")):
        x = large_pictures(side=side)
        c = Condition("contrast", 1.0)
        r = responses(
            Bright(), x, torch.zeros(6).long(), [c], band_masks(4, (side, side)), progress=False
        )
        assert r.conditions == [CLEAN, c] and r.partner(c) == 0
        left = {32: 0.25, 64: 0.6}[side]
        share = r.change_energy[1].sum(1) / r.clean_energy.sum(1)
        assert np.allclose(share, left**2, atol=0.03)
        assert name in r.corrupted_as()


@pytest.mark.parametrize("given", [False, True])
def test_the_passes_of_the_clean_cut_are_foreseen(given):
    x, y = large_pictures(side=160), torch.zeros(6).long()
    shown = []

    class Counting(Bright):
        def forward(self, x):
            shown.append(len(x))
            return super().forward(x)

    fewer = [c for c in FEW if c.source == "contrast"]
    responses(
        Counting(),
        x,
        y,
        fewer,
        band_masks(4, (160, 160)),
        progress=False,
        pictures=large_pictures() if given else None,
    )
    known = 1  # the fingerprint of the model
    expected = response_passes({"contrast": 2}, 6, cut=True)[0]
    assert sum(shown) - expected in (0, known)


@pytest.mark.parametrize("how", INTERPOLATIONS)
def test_pictures_are_resized_by_every_interpolation_of_a_recipe(how):
    """Constants stay; a ramp is kept by all that average what is under a pixel, in any dtype."""
    x = torch.linspace(0, 1, 60, dtype=torch.float64).repeat(2, 3, 40, 1)
    x[1] = 0
    small = resize(x, (20, 30), how)
    assert small.shape == (2, 3, 20, 30) and small.dtype == x.dtype and not small[1].any()
    if "nearest" not in how:
        middles = (x[0, 0, 0, ::2] + x[0, 0, 0, 1::2])[3:-3] / 2
        assert torch.allclose(small[0, :, :, 3:-3], middles.expand(3, 20, 24), atol=1e-3)


def test_pictures_must_be_those_of_the_images():
    with pytest.raises(ValueError, match="there are 5 pictures of 6 images; load both"):
        responses(
            Bright(),
            large_pictures(side=64),
            torch.zeros(6).long(),
            FEW,
            band_masks(4, (64, 64)),
            pictures=large_pictures(5),
            progress=False,
        )
