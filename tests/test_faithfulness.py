"""Insertion and deletion in closed form, sanity measures, and examinations that survive a kill."""

import numpy as np
import pytest
import torch
from torch import nn

from iaside import faithfulness
from iaside.attribution import attribute
from iaside.faithfulness import (
    Examination,
    completeness_gap,
    curve_area,
    deletion,
    examine,
    infidelity,
    insertion,
    map_similarity,
)
from iaside.gradients import predictions

SIDE = 8
PIXELS = SIDE * SIDE


def some_images(n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.8 * torch.rand(n, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


class Linear(nn.Module):
    """Two classes, class 0 a weighted sum of the values; counts the images it is shown."""

    def __init__(self, side=SIDE, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = (3, side, side)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        self.input_size, self.seen = (side, side), 0
        self.eval()

    def forward(self, x):
        self.seen += len(x)
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


def zeros(n=3):
    return torch.zeros(n, dtype=torch.long)


def cumulated(contributions, order):
    """Sigmoid of the sum of the pixels that are in, one more at each point."""
    sums = torch.take_along_dim(contributions, order, 1).cumsum(1)
    return torch.cat([torch.zeros(len(sums), 1), sums], 1).sigmoid().numpy()


def test_insertion_of_a_linear_model_in_closed_form():
    net, x = Linear(), some_images()
    with torch.no_grad():
        a = x * net.weight
    pixels = a.sum(1).flatten(1)
    perfect = insertion(net, x, zeros(), a, steps=PIXELS)
    worst = insertion(net, x, zeros(), -a, steps=PIXELS)
    order = torch.argsort(pixels, descending=True)
    assert np.allclose(perfect, cumulated(pixels, order))
    assert np.allclose(worst, cumulated(pixels, order.flip(1)))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    random = insertion(net, x, zeros(), noise.double(), steps=PIXELS)
    assert (perfect >= random - 1e-12).all() and (random >= worst - 1e-12).all()
    areas = [curve_area(c) for c in (perfect, random, worst)]
    assert (areas[0] > areas[1]).all() and (areas[1] > areas[2]).all()
    # taking the best out first is putting the worst in first, read backwards
    assert np.allclose(deletion(net, x, zeros(), a, steps=PIXELS), worst[:, ::-1])


def test_points_are_equal_shares_of_the_pixels_and_batches_change_nothing():
    net, x = Linear(), some_images()
    a = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double()
    fine = insertion(net, x, zeros(), a, steps=PIXELS)
    for steps in (1, 4, 16):
        few = insertion(net, x, zeros(), a, steps=steps, batch_size=3)
        assert few.shape == (3, steps + 1)
        assert np.allclose(few, fine[:, :: PIXELS // steps])
    shown = []
    insertion(lambda z: shown.append(z) or net(z), x[:1], zeros(1), a[:1], steps=7)
    shown = torch.cat(shown[4:])  # after the probe
    counts = (shown != 0).any(1).flatten(1).sum(1)
    assert counts.tolist() == (torch.arange(8) * PIXELS / 7).round().tolist()


def test_channels_can_be_ranked_for_themselves():
    net, x = Linear(), some_images(1)
    with torch.no_grad():
        a = x * net.weight
    sums = a[0].flatten(1).sort(1, descending=True).values.cumsum(1).sum(0)
    found = insertion(net, x, zeros(1), a, steps=PIXELS, rank="channel")
    assert np.allclose(found[0, 1:], sums.sigmoid())


def test_substrates():
    net, x = Linear(), some_images()
    a = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double()
    starts = {"zero": 0 * x, "mean": x.mean((2, 3), keepdim=True).expand_as(x)}
    for substrate, start in starts.items():
        curve = insertion(net, x, zeros(), a, steps=4, substrate=substrate)
        with torch.no_grad():
            assert np.allclose(curve[:, 0], net(start).softmax(1)[:, 0])
            assert np.allclose(curve[:, -1], net(x).softmax(1)[:, 0])
        assert np.allclose(deletion(net, x, zeros(), a, 4, substrate)[:, ::4], curve[:, ::-4])
    flat = torch.full_like(x, 0.4)
    blurred = insertion(net, flat, zeros(), a, steps=4, substrate="blur")
    assert np.allclose(blurred, blurred[:, :1])  # a blurred constant is itself


def test_areas():
    assert curve_area(np.full((2, 9), 0.3)) == pytest.approx(0.3)
    assert curve_area(np.linspace(0, 1, 5)) == pytest.approx(0.5)
    assert curve_area([0, 0, 0, 0, 1.0]) == pytest.approx(1 / 8)


def test_infidelity_is_smallest_for_the_map_of_a_linear_model():
    net, x = Linear(), some_images()
    net.weight.data *= 0.01  # the probability is linear too
    slope = attribute(net, x, zeros(), "saliency")
    right = infidelity(net, x, zeros(), slope)  # sum over the noise, as captum multiplies it
    wrong = infidelity(net, x, zeros(), torch.rand_like(x))
    assert (right < 1e-3 * wrong).all()
    assert np.allclose(right, infidelity(net, x, zeros(), 7 * slope), atol=1e-9), "its unit"
    part = infidelity(net, x[1:], zeros(2), torch.rand(3, 3, SIDE, SIDE).double()[1:], first=1)
    assert part.shape == (2,)


def test_similarity_of_maps():
    a = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    b = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert np.allclose(map_similarity(a, -3 * a), 1)
    assert np.abs(map_similarity(a, b)).max() < 0.1
    assert np.isnan(map_similarity(a, torch.zeros_like(a))).all()


def test_a_map_that_varies_by_rounding_is_a_constant_one():
    drawn = torch.Generator().manual_seed(0)
    other = torch.rand(2, 3, 8, 8, generator=drawn)
    steps = torch.randint(-1, 2, (2, 3, 8, 8), generator=drawn)
    for dtype, value in ((torch.float32, 0.3), (torch.float64, 1 / 3), (torch.float32, 40.0)):
        still = torch.full((2, 3, 8, 8), value, dtype=dtype)
        still = still * (1 + steps.to(dtype) * torch.finfo(dtype).eps)
        assert np.isnan(map_similarity(still, other)).all()
        assert np.isnan(map_similarity(other, still)).all()
    assert np.allclose(map_similarity(1 + 1e-4 * other, other), 1, atol=1e-3)


def test_nothing_to_explain_has_no_completeness_gap():
    gap = completeness_gap(torch.ones(3, 1, 2, 2), torch.tensor([0.0, 4.0, 2.0]))
    assert np.isnan(gap[0]) and gap[1:].tolist() == [0, 1]


def test_completeness_gap():
    a = torch.ones(2, 3, 4, 4)
    assert np.allclose(completeness_gap(a, torch.tensor([48.0, -48.0])), [0, 2])


VARIANTS = {  # not in the order of the alphabet
    "saliency": {"method": "saliency"},
    "fampe": {"method": "fampe", "steps": 2, "samples": 2},
    "clean": {"method": "clean"},
    "pgd": {"method": "pgd", "eps": 0.2, "steps": 2},
    "attexplore": {"method": "attexplore", "steps": 2, "samples": 2},
    "integrated_gradients": {"method": "integrated_gradients", "steps": 20},
}
HOW = dict(only={"attexplore": 1}, n_twin=1, n_shown=2, steps=8, infidelity_samples=2,
           progress=False)  # fmt: skip


def examined(net=None, resume=None, **how):
    judges = {"self": Linear(), "other": Linear(side=12, seed=5)}
    x = some_images().float()
    return examine(net or Linear().float(), x, zeros(), VARIANTS,
                   {name: judge.float() for name, judge in judges.items()},
                   Linear(seed=7).float(), resume=resume, **HOW | how)  # fmt: skip


def test_an_examination_asks_what_it_should_and_comes_back_from_disk(tmp_path):
    e = examined()
    x, net = some_images().float(), Linear().float()
    y = predictions(net, x)
    a = attribute(net, x, y, "saliency")
    assert np.allclose(e.rows("saliency")["insertion"], curve_area(insertion(net, x, y, a, 8)))
    assert np.allclose(e.rows("saliency")["deletion"], curve_area(deletion(net, x, y, a, 8)))
    assert np.allclose(e.rows("saliency")["total"], a.sum((1, 2, 3)))
    assert e.rows("saliency")["passes"].tolist() == [1, 1, 1]
    assert e.rows("fampe")["passes"].tolist() == [4, 4, 4]
    clean, fampe = e.rows("clean"), e.rows("fampe")
    assert clean["correct self"].tolist() == (y == 0).tolist()
    assert set(clean["correct other"]) <= {0, 1} and np.isnan(clean["insertion"]).all()
    assert np.isfinite(fampe["correct other"]).all(), "resized for a judge of another size"
    assert (fampe["change"] >= 0).all() and np.isfinite(fampe["radius"]).all()
    promise = e.rows("integrated_gradients")
    assert np.allclose(promise["total"], promise["change"], rtol=1e-3)
    assert np.isfinite(fampe["similarity"]).tolist() == [True, False, False]
    coarse = e.rows("attexplore")
    assert np.isfinite(coarse["insertion"]).tolist() == [True, False, False]
    assert np.isnan(coarse["infidelity"]).all() and np.isnan(coarse["correct self"]).all()
    shown = np.abs(e.maps).max((2, 3))
    assert np.array_equal(shown[[0, 1, 5]], np.ones((3, 2))) and np.isnan(shown[2:5]).all()

    e.save(tmp_path / "a.npz", worths=np.arange(3))
    back, more = Examination.load(tmp_path / "a.npz")
    assert list(back.variants) == list(VARIANTS), "rows keep their names"
    assert more["worths"].tolist() == [0, 1, 2]
    for name in VARIANTS:
        for quantity, row in e.rows(name).items():
            assert np.array_equal(row, back.rows(name)[quantity], equal_nan=True)
    with pytest.raises(ValueError, match="'lime' was not examined; there is: saliency, fampe"):
        back.rows("lime")


class Rounding(Linear):
    """Rounds bright images, and gives them no gradient."""

    def forward(self, x):
        bright = (x.detach().mean((1, 2, 3)) > 0.5).view(-1, 1, 1, 1)
        return super().forward(torch.where(bright, (255 * x).round() / 255, x))


def test_what_no_gradient_showed_the_way_to_is_not_judged():
    """Nothing was attacked there, and a judge that still is right has withstood nothing."""
    net, x = Rounding().float(), some_images().float() / 3
    x[1] += 0.6
    judges = {"self": net, "other": Linear(seed=5).float()}
    with pytest.warns(RuntimeWarning) as said:
        e = examine(net, x, zeros(), VARIANTS, judges, **HOW | {"n_twin": 0})
    (zero,) = (str(w.message) for w in said if "zero everywhere" in str(w.message))
    assert "left out: saliency 1 of 3, fampe 1 of 3" in zero, "once, and counted"
    for v in ("saliency", "fampe"):
        rows = e.rows(v)
        for quantity in ("insertion", "deletion", "infidelity", "total"):
            assert np.isnan(rows[quantity]).tolist() == [False, True, False], quantity
        assert np.isfinite(rows["passes"]).all()
    for v in ("pgd", "fampe"):
        for quantity in ("correct self", "correct other"):
            assert np.isnan(e.rows(v)[quantity]).tolist() == [False, True, False]
    assert np.isnan(e.rows("fampe")["success"]).tolist() == [False, True, False]
    assert np.isfinite(e.rows("clean")["correct self"]).all()


def test_deeplift_is_held_to_the_change_of_the_logit():
    net = Linear()
    net.weight.data.abs_()  # predicts class 0, whose logit is not constant
    e = examine(net, some_images(), zeros(), {"deeplift": {"method": "deeplift"}}, steps=4,
                infidelity_samples=0, progress=False)  # fmt: skip
    rows = e.rows("deeplift")
    assert np.allclose(rows["total"], rows["change"], rtol=1e-4) and (rows["change"] != 0).all()


def test_a_kill_loses_one_map_and_changes_no_byte(tmp_path, monkeypatch):
    whole = examined()
    made, once = [], faithfulness._examined

    def dying(*args):
        made.append(args)
        if len(made) == 7:
            raise KeyboardInterrupt
        return once(*args)

    monkeypatch.setattr(faithfulness, "_examined", dying)
    with pytest.raises(KeyboardInterrupt):
        examined(resume=tmp_path)
    again = examined(resume=tmp_path)
    assert len(made) == 7 + (16 - 6), "16 maps, 6 of them done"
    examined(resume=tmp_path)
    assert len(made) == 17, "all there"
    whole.save(tmp_path / "whole.npz")
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    examined(resume=tmp_path, seed=1)
    assert len(made) == 17 + 16, "another seed is another measurement"


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("substrate='noise' is not known", {"substrate": "noise"}),
        ("rank='row' is not known", {"rank": "row"}),
        ("steps=0 must be from 1 to 64", {"steps": 0}),
        ("steps=65 must be from 1 to 64", {"steps": 65}),
        ("attributions are .* and images", {"attribution": torch.zeros(3, 1, SIDE, SIDE)}),
        ("attributions must be finite", {"attribution": torch.full((3, 3, SIDE, SIDE), torch.nan)}),
        ("images range from", {"images": 2 + some_images()}),
        ("labels range from 5 to 5", {"targets": zeros() + 5}),
    ],
)
def test_impossible_requests_are_refused(match, change):
    given = {"model": Linear(), "images": some_images(), "targets": zeros(),
             "attribution": some_images(), "steps": 16}  # fmt: skip
    for function in (insertion, deletion):
        with pytest.raises(ValueError, match=match):
            function(**given | change)


def test_impossible_examinations_and_tables_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only= names 'lime'; there is: saliency"):
        examined(only={"lime": 1})
    with pytest.raises(ValueError, match="labels range from 9"):
        examine(Linear(), some_images(), zeros() + 9, VARIANTS, progress=False)
    with pytest.raises(FileNotFoundError, match="measure it"):
        Examination.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", provenance=np.array("{}"))
    with pytest.raises(ValueError, match="cannot be read as an attribution table"):
        Examination.load(tmp_path / "other.npz")
