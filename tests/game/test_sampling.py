"""Sampled worths: planted answers, reasons to stop, what a kill leaves, and memory."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from readers import SIDE, Net, band_reader, some_images, some_labels

import iaside as ia
from iaside.game import sampling
from iaside.game.exact import coalition_worths
from iaside.game.samples import SampledWorths
from iaside.game.sampling import sampled_worths
from iaside.inputs.probe import PROBE
from iaside.shapley import shapley_values
from iaside.spectral import band_masks, split_bands

M = 5
MASKS = band_masks(M, (SIDE, SIDE))
PER_IMAGE = 8  # the ends and three pairs


def measure(model, n=12, **settings):
    settings = {"masks": MASKS, "batch_size": 8, "progress": False} | settings
    if "tolerance" not in settings:
        settings = {"budget": PER_IMAGE * n} | settings
    return sampled_worths(model, some_images(n), torch.zeros(n).long(), **settings)


def exact(model, n=12, **settings):
    return coalition_worths(
        model,
        some_images(n),
        torch.zeros(n).long(),
        MASKS,
        batch_size=8,
        progress=False,
        **settings,
    )


def sharp(band=1):
    return band_reader(band, MASKS, gain=0.1)


def test_a_model_that_reads_one_band_gives_it_all_the_value():
    w = measure(sharp(), n=40)
    e, psi = ia.Explanation(w), shapley_values(exact(sharp(), n=40).table).mean(1)
    whole = psi.sum()
    assert whole > 0.1 and psi[1] / whole > 0.999
    np.testing.assert_allclose(e.psi.estimate.sum(), whole, rtol=1e-4)
    these = e.these_images()
    assert (np.abs(these.estimate - psi) < 4 * these.se + 1e-6).all(), "null bands too"
    assert (these.se < 0.2 * whole).all() and (these.low <= psi).sum() >= 4


def test_every_row_is_the_worth_of_its_coalition():
    """Against the exact table, for all absences and values, and with repeated coalitions."""
    net = Net().eval()
    for absence in ("zero", "gaussian", "replacement", "mean"):
        settings = dict(absence=absence, value=["log_likelihood", "accuracy", "embedding"])
        w, whole = measure(net, **settings), exact(net, **settings)
        for name in settings["value"]:
            expected = whole.tables[name][w.coalition.astype(int), w.image]
            assert np.allclose(w.tables[name], expected, atol=1e-6), (absence, name)
        known = {k: whole.provenance[k] for k in whole.provenance}
        assert {k: w.provenance[k] for k in known} == known
    assert w.coalition.dtype == np.uint64 and (np.bincount(w.image) >= PER_IMAGE).all()
    assert w.draw[:PER_IMAGE].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    distinct = {(i, c) for i, c in zip(w.image.tolist(), w.coalition.tolist(), strict=True)}
    assert w.forwards == len(distinct) <= len(w.image), "drawn again, measured once"


def test_a_tolerance_is_kept_and_fewer_images_visited_when_it_is_loose():
    net = Net().eval()
    tight = measure(net, n=40, tolerance=2e-4)
    loose = measure(net, n=40, tolerance=1.0)
    for w, limit in ((tight, 2e-4), (loose, 1.0)):
        assert w.provenance["stopped"] == "tolerance"
        assert ia.Explanation(w).psi.se.max() <= limit
        assert f"within {limit:.3g}" in w.provenance["message"]
        assert f"{len(w.images)} of 40 images" in w.provenance["message"]
    assert len(loose.images) == 16 < len(tight.images)
    assert loose.images.tolist() != list(range(16)), "a random sample, not the first ones"
    assert loose.forwards < tight.forwards


def test_a_relative_tolerance_is_a_share_of_the_whole():
    w = measure(sharp(), n=40, tolerance=0.05, relative=True)
    e = ia.Explanation(w)
    assert w.provenance["stopped"] == "tolerance"
    limit = 0.05 * e.psi.estimate.sum()
    assert e.psi.se.max() <= limit and f"within {limit:.3g}:" in w.provenance["message"]


def test_a_share_of_nothing_is_no_tolerance():
    """One of two bands alone is worth 1, neither nor both 0."""

    def exclusive(x):
        present = split_bands(x, MASKS)[1:3].abs().mean((2, 3, 4)) > 1e-4
        return torch.stack([(present[0] != present[1]).float(), 0 * x[:, 0, 0, 0]], 1)

    how = dict(n=40, value=lambda outputs, labels: outputs[:, 0])
    with pytest.raises(ValueError, match="v.all. - v.none. is 0 .* without relative=True"):
        measure(exclusive, tolerance=0.1, relative=True, **how)
    assert measure(exclusive, tolerance=0.1, **how).provenance["stopped"] == "tolerance"


def test_a_budget_is_not_exceeded_and_says_so():
    net = Net().eval()
    w = measure(net, n=20, budget=101)
    assert 101 - PER_IMAGE < w.forwards <= 101 and w.provenance["stopped"] == "budget"
    assert re.search(
        r"budget of 101 forward passes is spent \(\d+ made, 1[2-9] of 20 images\)",
        w.provenance["message"],
    )
    with pytest.warns(RuntimeWarning, match="standard error is .*, not 1e-09"):
        w = measure(net, n=20, budget=101, tolerance=1e-9)
    more = measure(net, n=20, budget=400)
    assert (np.bincount(more.image) > PER_IMAGE).any(), "after the last image a second round"
    np.testing.assert_allclose(
        more.estimates.values.sum(0),
        (exact(net, 20).table[-1] - exact(net, 20).table[0])[more.images],
        atol=1e-6,
    )


def test_every_round_draws_anew_for_every_image():
    w = measure(Net().eval(), n=4, budget=4 * 32)
    per_image = [w.coalition[w.image == i][2:].reshape(-1, 6) for i in range(4)]
    rounds = np.concatenate(per_image)
    assert len(per_image[0]) >= 4 and len(np.unique(rounds, axis=0)) > 0.8 * len(rounds)


def test_a_tolerance_that_the_budget_just_reaches_is_reached():
    """The budget ends the run before the next look at the error."""
    net = Net().eval()
    reached = ia.Explanation(measure(net, n=40, budget=180)).psi.se.max()
    w = measure(net, n=40, tolerance=reached * (1 + 1e-9), budget=180)
    assert w.provenance["stopped"] == "tolerance"


def test_images_that_cannot_reach_a_tolerance_are_told():
    text = "these 12 images cannot reach .* more than .* images"
    with pytest.warns(RuntimeWarning, match=text) as told:
        w = measure(sharp(), tolerance=0.001)
    assert told[0].filename == __file__, "the line that asked for it"
    assert w.provenance["stopped"] == "images"
    spread = shapley_values(exact(sharp()).table).std(1, ddof=1).max() / 12**0.5
    needed = int(w.provenance["message"].split("more than ")[1].split(" ")[0].replace(",", ""))
    assert 0.2 < needed / (12 * (spread / 0.001) ** 2) < 5


def test_sampling_ends_where_the_exact_game_costs_no_more():
    net = Net().eval()
    w = measure(net, n=6, masks=band_masks(3, (SIDE, SIDE)), budget=10_000)
    assert w.provenance["stopped"] == "exact" and w.forwards <= 8 * 6
    assert "all 2**3 coalitions of 6 images" in w.provenance["message"]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [5, 20])
def test_a_killed_measurement_goes_on_and_ends_with_the_same_bytes(tmp_path, batch_size):
    net, how = Net().eval(), dict(tolerance=2e-4, n=24, batch_size=batch_size)
    whole = measure(net, **how)
    assert (np.bincount(whole.image) > PER_IMAGE).all(), "more than one round"
    whole.save(tmp_path / "whole.npz")

    class Killed(Exception):
        pass

    def die(module, args):
        if module.seen >= 100:
            raise Killed

    hook = net.register_forward_pre_hook(die)
    for _ in range(2):  # in the first round and in the second
        net.seen = 0
        with pytest.raises(Killed):
            measure(net, **how, resume=tmp_path / "partial")
    hook.remove()
    w = measure(net, **how, resume=tmp_path / "partial")
    w.save(tmp_path / "resumed.npz")
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert w.forwards <= whole.forwards - 2 * (100 - PROBE), "all but the probe, each time, is kept"
    assert measure(net, **how, resume=tmp_path / "partial").forwards == 0


def test_worths_of_other_coalitions_are_not_taken_for_these(tmp_path, monkeypatch):
    """Random streams may differ from one version of NumPy to the next."""
    net = Net().eval()
    first = measure(net, resume=tmp_path)
    draw = sampling.draw_pairs
    monkeypatch.setattr(sampling, "draw_pairs", lambda *how: draw(*how)[::-1])
    assert measure(net, resume=tmp_path).forwards == first.forwards


def test_one_image_has_values_and_no_standard_error(capsys):
    w = measure(Net().eval(), n=1, progress=True)
    assert w.estimates.values.shape == (M, 1)
    assert "1 of 1 images): one image alone has no standard error" in capsys.readouterr().err


def test_a_later_call_may_want_more(tmp_path):
    net = Net().eval()
    first = measure(net, budget=50, resume=tmp_path)
    more, fresh = measure(net, budget=150, resume=tmp_path), measure(net, budget=150)
    assert more.forwards == fresh.forwards - first.forwards
    assert np.array_equal(more.tables["log_likelihood"], fresh.tables["log_likelihood"])
    assert measure(net, budget=50, absence="mean", resume=tmp_path).forwards == first.forwards


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64])
def test_batch_size_does_not_matter(batch_size):
    net = Net().eval()
    w, other = measure(net, batch_size=batch_size), measure(net)
    assert np.array_equal(w.coalition, other.coalition) and np.array_equal(w.image, other.image)
    assert np.allclose(w.tables["log_likelihood"], other.tables["log_likelihood"], atol=1e-6)
    assert w.forwards == other.forwards


@pytest.mark.parametrize("batch_size", [1, 24, 64])
def test_where_a_tolerance_ends_it_does_not_depend_on_the_batch_size(batch_size):
    net = Net().eval()
    first = ia.Explanation(measure(net, n=40, budget=16 * PER_IMAGE)).psi.se.max()
    w, other = (measure(net, n=40, tolerance=0.85 * first, batch_size=b) for b in (batch_size, 8))
    assert 16 < len(other.images) < 40, "a second look, and not after the last image"
    assert np.array_equal(w.coalition, other.coalition) and np.array_equal(w.image, other.image)
    assert w.provenance["message"] == other.provenance["message"]


def test_equal_runs_are_equal_bytes_and_come_back_from_disk(tmp_path):
    net = Net().eval()
    for name in ("a", "b"):
        measure(net, value=["log_likelihood", "accuracy"]).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    w, back = measure(net), SampledWorths.load(tmp_path / "a.npz")
    assert list(back.tables) == ["log_likelihood", "accuracy"]
    assert np.array_equal(back.estimates.values, w.estimates.values)
    assert not np.array_equal(measure(net, seed=1).coalition[:8], w.coalition[:8])
    exact(net).save(tmp_path / "exact.npz")
    with pytest.raises(ValueError, match="it has no 'coalition'; .*exact ones: Worths.load"):
        SampledWorths.load(tmp_path / "exact.npz")
    with pytest.raises(FileNotFoundError, match="no sampled worths at"):
        SampledWorths.load(tmp_path / "c.npz")


def test_an_explanation_is_the_same_thing_as_of_exact_worths(tmp_path):
    args = dict(n_bands=M, batch_size=8, progress=False, bias="none")
    data = some_images(40), torch.zeros(40).long()
    e = ia.explain(sharp(), *data, budget=40 * PER_IMAGE, **args)
    whole = ia.explain(sharp(), *data, **args)
    assert e.values.shape == whole.values.shape and "40 images, 5 bands, float32, sampled" in str(e)
    assert np.abs(e.sid.estimate - whole.sid.estimate).max() < 0.15
    assert list(e.per_class()) == [0] and len(e.to_frame()) == M
    assert e.these_images().se.max() < e.psi.se.max() / 10
    assert whole.these_images().se.tolist() == [0] * M
    e.save(tmp_path / "e.npz")
    again = ia.Explanation(SampledWorths.load(tmp_path / "e.npz"), bias="none")
    assert str(again) == str(e)
    gap = ia.compare(e, whole).psi
    assert ((gap.low < 1e-6) & (gap.high > -1e-6)).sum() >= 4
    some = ia.explain(Net().eval(), *data, tolerance=1.0, **args)
    assert some.values.shape == (M, 16) and len(some.labels) == 16
    with pytest.raises(ValueError, match="of 16 images and the other of 40, not all the same"):
        ia.compare(some, whole)
    with pytest.raises(ValueError, match="relative=True says how to read tolerance="):
        ia.explain(sharp(), *data, relative=True, **args)


@pytest.mark.slow
def test_64_bands_at_224_pixels_stay_in_memory():
    """Beyond the photographs: bands of one image at a time, whatever the batch."""
    script = """
import torch
from pathlib import Path
from iaside.game.sampling import sampled_worths
from iaside.spectral import band_masks
def peak():
    # of this process alone; getrusage begins with what the one that started it had
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
torch.set_num_threads(1)
x = torch.rand(8, 3, 224, 224)
net = lambda x: x.flatten(2)[:, :, ::99].mean(2)
masks, before = band_masks(64, (224, 224)), peak()
w = sampled_worths(net, x, torch.zeros(8).long(), masks, budget=8 * 68, batch_size=136,
                   progress=False)
assert len(w.images) == 8 and int(w.coalition.max()) == 2**64 - 1
assert w.estimates.values.shape[0] == 64
assert peak() - before < 0.55, peak() - before  # the bands of all images would be 0.3 more
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("match", "settings"),
    [
        ("give tolerance= .* or budget=", dict(budget=None, batch_size=None)),
        ("tolerance=-1 must be a standard error above 0", dict(tolerance=-1, batch_size=None)),
        ("tolerance=nan must be", dict(tolerance=float("nan"))),
        ("budget=39 is too small: 8 forward passes for each of 5 images make 40", dict(budget=39)),
        ("2 bands cannot be sampled: take 3 to 64", dict(masks=band_masks(2, (SIDE, SIDE)))),
        ("65 bands cannot be sampled", dict(masks=lambda x: torch.stack([x / 65] * 65))),
        ("at least 2 images", dict(tolerance=0.1, subset=[3])),
        ("value='loglik' is not known", dict(value="loglik")),
        ("absence='black' is not known", dict(absence="black")),
    ],
)
def test_bad_input_is_named_before_the_long_computation(match, settings):
    net = Net().eval()
    with pytest.raises(ValueError, match=match):
        measure(net, **settings)
    assert net.seen <= 6


def test_too_many_bands_for_the_exact_game_are_pointed_here():
    with pytest.raises(ValueError, match="at most 14 bands, or sample them"):
        coalition_worths(
            Net().eval(),
            some_images(),
            some_labels(),
            lambda x: torch.stack([x / 15] * 15),
            batch_size=8,
            progress=False,
        )


def test_nan_in_the_middle_ends_the_run():
    def breaks_on_black(x):
        return x.flatten(1)[:, :2] / x.flatten(1).abs().sum(1, keepdim=True)

    with pytest.raises(ValueError, match="nan or infinite worths for images"):
        measure(breaks_on_black)


def test_what_it_costs_is_announced_and_how_it_ended(capsys):
    measure(Net().eval(), progress=True)
    text = capsys.readouterr().err
    assert "8 of 32 coalitions x up to 12 images a round = 96 forward passes" in text
    assert "budget of 96 forward passes is spent" in text
