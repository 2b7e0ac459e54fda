"""Insertion and deletion in closed form, sanity measures, and examinations that survive a kill."""

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import nn

from iaside.attribution import examination_table, faithfulness
from iaside.attribution.examination_table import Examination
from iaside.attribution.examine import examine
from iaside.attribution.faithfulness import (
    curve_area,
    deletion,
    infidelity,
    insertion,
    map_similarity,
    ties,
)
from iaside.attribution.maps import attribute
from iaside.backend.gradients import predictions

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


# -- pixels of equal attribution: four pixels, worth the more the later they come in an image --

COUNT = 600


def four_pixels():
    """A linear model and many copies of an image of 2 x 2 pixels; the worth of each pixel."""
    net = Linear(side=2)
    net.weight.data = torch.tensor([-3.0, -1, 1, 5]).view(2, 2).expand(3, 2, 2).double() / 3
    return net, torch.ones(COUNT, 3, 2, 2).double(), np.array([-3.0, -1, 1, 5])


def expected(fixed, free):
    """The mean curve where some pixels come first in this order, and the others at random."""
    start = np.cumsum([0.0, *fixed])
    later = [
        np.mean(
            [1 / (1 + np.exp(-start[-1] - sum(some))) for some in itertools.combinations(free, k)]
        )
        for k in range(1, 1 + len(free))
    ]
    return np.array([*(1 / (1 + np.exp(-start))), *later])


def agree(curves, wanted):
    """Whether the mean over images is what is expected, within 4.5 standard errors."""
    error = curves.std(0, ddof=1) / len(curves) ** 0.5
    return (np.abs(curves.mean(0) - wanted) <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("value", [0.7, 0.0])
def test_a_constant_map_has_the_mean_curve_of_all_orders(value):
    net, x, worth = four_pixels()
    many, flat = zeros(COUNT), torch.full_like(x, value)
    found = insertion(net, x, many, flat, steps=4)
    assert agree(found, expected([], worth))
    assert len(np.unique(found.round(9), axis=0)) == 24, "every order comes"
    assert agree(deletion(net, x, many, flat, steps=4), expected([], worth)[::-1])
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)).double()
    assert agree(insertion(net, x, many, noise, steps=4), expected([], worth))


def test_only_the_order_of_equal_pixels_is_drawn():
    net, x, worth = four_pixels()
    sparse = torch.tensor([[0.0, -0.0], [2.0, 0.0]]).expand_as(x)
    found = insertion(net, x, zeros(COUNT), sparse, steps=4)
    assert agree(found, expected(worth[2:3], np.delete(worth, 2))) and found[:, :2].std() > 0
    assert np.ptp(found[:, :2], axis=0).max() < 1e-12, "the pixel that differs is always the first"
    a = torch.ones(3, 3, 2, 2, dtype=torch.float32)
    for place in range(4):  # by the last bit
        a.flatten(2)[:, :, place] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
        first = insertion(net, x[:3], zeros(), a, steps=4)[:, 1]
        assert np.allclose(first, 1 / (1 + np.exp(-worth[place])))
        a[:] = 1


def test_maps_without_equal_pixels_do_not_depend_on_the_seed():
    net, x = Linear(), some_images()
    a = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double()
    half = (a > 0.5) * a
    assert ties(a).max() == 0 < ties(half, "channel").min()
    for function, rank in itertools.product((insertion, deletion), ("pixel", "channel")):
        one, other = (function(net, x, zeros(), a, 16, rank=rank, seed=s) for s in (0, 7))
        assert one.tobytes() == other.tobytes()
        one, other = (function(net, x, zeros(), half, 64, rank="channel", seed=s) for s in (0, 7))
        assert (one != other).any(1).all()


def test_an_image_draws_from_its_place_in_the_set_and_disturbs_no_one():
    net, x = Linear(), some_images(4)
    flat, state = torch.ones_like(x), torch.get_rng_state()
    for rank in ("pixel", "channel"):
        whole = insertion(net, x, zeros(4), flat, PIXELS, rank=rank, seed=5)
        part = insertion(net, x[2:], zeros(2), flat[2:], PIXELS, rank=rank, seed=5, first=2)
        assert whole[2:].tobytes() == part.tobytes()
    same = insertion(net, x[:1].expand_as(x), zeros(4), flat, PIXELS)
    assert len(np.unique(same, axis=0)) == 4, "each has an order of its own"
    assert torch.equal(state, torch.get_rng_state())
    for function in (insertion, deletion, infidelity):
        for name, value in (("seed", -1), ("first", -2), ("seed", 0.5)):
            with pytest.raises(ValueError, match=f"{name}={value} is not possible.*integer from 0"):
                function(net, x, zeros(4), flat, **{name: value})


@pytest.mark.parametrize("rank", ["pixel", "channel"])
def test_insertion_and_deletion_of_a_map_take_equal_pixels_in_the_same_order(rank):
    """What is in and what is out then make the image at every point."""
    net, x = Linear(), some_images()
    how = {"steps": PIXELS, "rank": rank, "seed": 3}
    a = (some_images(seed=4) > 0.6).double()
    put, left = (f(net, x, zeros(), a, **how) for f in (insertion, deletion))
    with torch.no_grad():
        whole = net(x)[:, :1].numpy()
    logits = np.log(put / (1 - put)) + np.log(left / (1 - left))
    assert np.allclose(logits, whole, atol=1e-6)


def test_each_channel_has_ties_of_its_own_where_channels_are_ranked():
    """Two pixels, 2 ** 3 orders, of which 1 and 2 channels can have put in the better pixel."""
    net = Linear(side=2)
    net.weight.data = torch.tensor([-1.0, 1, 0, 0]).view(2, 2).expand(3, 2, 2).double()
    x = torch.ones(COUNT, 3, 2, 2).double()
    a = torch.tensor([[1.0, 1.0], [0.2, 0.1]]).expand_as(x)
    found = insertion(net, x, zeros(COUNT), a, steps=4, rank="channel")[:, 1]
    sums, counts = np.unique(np.log(found / (1 - found)).round(6), return_counts=True)
    assert sums.tolist() == [-3, -1, 1, 3]
    wanted = np.array([1, 3, 3, 1]) / 8
    assert (np.abs(counts / COUNT - wanted) < 4.5 * np.sqrt(wanted * (1 - wanted) / COUNT)).all()


def test_the_share_of_pixels_that_have_an_equal():
    rng = np.random.default_rng(0)
    maps = torch.tensor(rng.integers(0, 40, (5, 1, 6, 7)) / 8.0)
    values, counts = zip(*(np.unique(m, return_counts=True) for m in maps.numpy()), strict=True)
    assert np.allclose(ties(maps), [c[c > 1].sum() / 42 for c in counts])
    assert ties(torch.tensor([0.0, -0.0, 1.0, 2.0]).view(1, 1, 2, 2)) == [0.5]
    assert ties(torch.ones(1, 3, 1, 1)) == [0] and ties(torch.ones(1, 3, 1, 2)) == [1]
    exchanged = torch.tensor([[1.0, 2], [2, 1], [0, 0]]).view(1, 3, 1, 2)
    assert (ties(exchanged), ties(exchanged, "channel")) == ([1], pytest.approx([1 / 3]))
    with pytest.raises(ValueError, match="rank='row' is not known"):
        ties(exchanged, "row")


@pytest.mark.parametrize("channels", [1, 3, 4, 17, 64])
def test_sums_over_channels_are_the_same_at_every_place(channels):
    pixel = torch.rand(channels, generator=torch.Generator().manual_seed(0)) - 0.5
    a = pixel.view(1, channels, 1, 1).repeat(2, 1, 7, 9)
    assert ties(a).tolist() == ties(a.to(memory_format=torch.channels_last)).tolist() == [1, 1]
    other = torch.rand(2, channels, 7, 9, generator=torch.Generator().manual_seed(1))
    one, last = (
        faithfulness._places(m, "pixel", [0, 1])
        for m in (other, other.to(memory_format=torch.channels_last))
    )
    assert torch.equal(one, last), "the order depends on no layout"


def test_few_bits_make_no_ties_of_sums():
    """256 and 1 to 63 add up exactly in float32, and to 256 or 258, ... in 8 bits."""
    a = torch.stack([torch.full((63,), 256.0), torch.arange(1.0, 64)]).view(1, 2, 7, 9)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64):
        assert ties(a.to(dtype)) == [0]


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


VARIANTS = {  # not in the order of the alphabet
    "saliency": {"method": "saliency"},
    "fampe": {"method": "fampe", "steps": 2, "samples": 2},
    "clean": {"method": "clean"},
    "pgd": {"method": "pgd", "eps": 0.2, "steps": 2},
    "attexplore": {"method": "attexplore", "steps": 2, "samples": 2},
    "integrated_gradients": {"method": "integrated_gradients", "steps": 20},
}
HOW = dict(
    only={"attexplore": 1}, n_twin=1, n_shown=2, steps=8, infidelity_samples=2, progress=False
)


def examined(net=None, resume=None, **how):
    judges = {"self": Linear(), "other": Linear(side=12, seed=5)}
    x = some_images().float()
    return examine(
        net or Linear().float(),
        x,
        zeros(),
        VARIANTS,
        {name: judge.float() for name, judge in judges.items()},
        Linear(seed=7).float(),
        resume=resume,
        **HOW | how,
    )


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
    assert np.array_equal(e.rows("saliency")["ties"], ties(a)), "none: a linear model's weights"
    assert np.isnan(clean["ties"]).all() and np.isfinite(e.rows("attexplore")["ties"][0])
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


def test_an_examination_draws_ties_as_insertion_does_and_keeps_their_share():
    net, x = Linear().float(), some_images().float()
    net.weight.data[:, : SIDE // 2] = 3.0  # all alike, of pixels that are not
    net.weight.data *= 0.05
    flat = {"saliency": {"method": "saliency"}}
    e = examine(net, x, zeros(), flat, steps=16, infidelity_samples=0, seed=4, progress=False)
    rows, y = e.rows("saliency"), predictions(net, x)
    assert rows["ties"].tolist() == rows["ties_channel"].tolist() == [0.5] * 3
    a = attribute(net, x, y, "saliency")
    for name, function, rank in (
        ("insertion", insertion, "pixel"),
        ("deletion", deletion, "pixel"),
        ("insertion_channel", insertion, "channel"),
    ):
        curves = function(net, x, y, a, 16, rank=rank, seed=4)
        assert np.array_equal(rows[name], curve_area(curves))
        other = curve_area(function(net, x, y, a, 16, rank=rank, seed=5))
        assert (np.abs(other - rows[name]) > 1e-4).all(), "the order of equal pixels counts"


def test_maps_of_both_products_share_their_attack_and_are_those_of_attribute():
    """What is shared is no other map, of the model and of its twin, and costs no gradient more."""
    shown = {"model": 0, "twin": 0}

    class Seen(Linear):
        def forward(self, x):
            shown[self.name] += len(x) * torch.is_grad_enabled()
            return super().forward(x)

    net, twin, x = Seen(), Seen(seed=7), some_images()
    net.name, twin.name = shown
    y, fampe = predictions(net, x), {"method": "fampe", "steps": 2, "samples": 3, "alpha": 0.1}
    variants = {
        "update": fampe | {"product": "update"},
        "saliency": {"method": "saliency"},
        "gradient": fampe | {"product": "gradient"},
        "as it comes": fampe,
        "another": fampe | {"alpha": 0.9},
    }
    wanted = {}
    for name, how in variants.items():
        maps = attribute(net, x, y, **how)
        other = attribute(twin, x[:2], y[:2], **how)
        wanted[name] = (
            curve_area(insertion(net, x, y, maps, 4)),
            maps.sum((1, 2, 3)).numpy(),
            faithfulness.map_similarity(maps[:2], other),
        )
    shown |= {"model": 0, "twin": 0}
    e = examine(
        net,
        x,
        zeros(),
        variants,
        twin=twin,
        n_twin=2,
        steps=4,
        infidelity_samples=0,
        progress=False,
        only={"another": 1},
    )
    assert shown == {"model": 3 * (6 + 1) + 6, "twin": 2 * (6 + 1)}
    for name, (area, total, alike) in wanted.items():
        rows, n = e.rows(name), 1 if name == "another" else 3
        assert np.allclose(rows["insertion"][:n], area[:n])
        if n == 3:
            assert np.allclose(rows["total"], total) and np.allclose(rows["similarity"][:2], alike)
            assert rows["passes"].tolist() == [1 if name == "saliency" else 6] * 3
    assert np.isnan(e.rows("update")["change"]).all(), "complete with the gradient alone"
    assert np.array_equal(e.rows("gradient")["change"], e.rows("as it comes")["change"])
    with pytest.raises(ValueError, match="product='sum' is not possible"):
        examine(net, x, zeros(), {"a": fampe | {"product": "sum"}}, progress=False)


class Typed(nn.Module):
    """A small network that notes the arithmetic of its passes, and of gradients through it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        last = nn.Linear(4 * (SIDE - 2) ** 2, 2)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), last)
        self.forwards, self.backwards = set(), set()

    def forward(self, x):
        out = self.net(x)
        self.forwards.add(out.dtype)
        if out.requires_grad:
            out.register_hook(lambda slope: self.backwards.add(slope.dtype))
        return out


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_pass_of_an_examination_is_in_its_precision(precision):
    net, judge, twin = Typed().eval(), Typed().eval(), Typed().eval()
    x = some_images().float()
    e = examine(net, x, zeros(), VARIANTS, {"judge": judge}, twin, **HOW, precision=precision)
    dtype = getattr(torch, precision)
    for seen in (net.forwards, net.backwards, judge.forwards, twin.forwards, twin.backwards):
        assert seen == {dtype}
    assert e.provenance["precision"] == precision
    assert np.isfinite(e.rows("fampe")["insertion"]).all()


@pytest.mark.slow
def test_a_measurement_in_another_precision_begins_anew(tmp_path):
    """What float32 has measured is no part of a table in bfloat16."""
    one = examined(Typed().eval(), tmp_path)
    other = examined(Typed().eval(), tmp_path, precision="bfloat16")
    fresh = examined(Typed().eval(), precision="bfloat16")
    for name in ("insertion", "deletion"):
        assert np.array_equal(other.tables[name], fresh.tables[name], equal_nan=True)
    assert not np.array_equal(one.tables["deletion"], other.tables["deletion"], equal_nan=True)


def test_deeplift_adds_up_in_float32_alone():
    with pytest.raises(ValueError, match="deeplift adds up in float32 only"):
        examine(
            Typed().eval(),
            some_images().float(),
            zeros(),
            {"d": {"method": "deeplift"}},
            precision="bfloat16",
            progress=False,
        )


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
    e = examine(
        net,
        some_images(),
        zeros(),
        {"deeplift": {"method": "deeplift"}},
        steps=4,
        infidelity_samples=0,
        progress=False,
    )
    rows = e.rows("deeplift")
    assert np.allclose(rows["total"], rows["change"], rtol=1e-4) and (rows["change"] != 0).all()


@pytest.mark.slow
def test_a_kill_loses_one_map_and_changes_no_byte(tmp_path, monkeypatch):
    whole = examined()
    module = sys.modules["iaside.attribution.examine"]
    made, once = [], module._examined

    def dying(*args):
        made.append(args)
        if len(made) == 7:
            raise KeyboardInterrupt
        return once(*args)

    monkeypatch.setattr(module, "_examined", dying)
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
        ("steps=0 is not possible; it must be an integer from 1", {"steps": 0}),
        ("steps=1.5 is not possible", {"steps": 1.5}),
        ("steps='3' is not possible", {"steps": "3"}),
        ("batch_size=0 is not possible", {"batch_size": 0}),
        ("batch_size=2.5 is not possible", {"batch_size": 2.5}),
        ("steps=65 must be from 1 to 64", {"steps": 65}),
        ("attributions are .* and images", {"attribution": torch.zeros(3, 1, SIDE, SIDE)}),
        ("attributions must be finite", {"attribution": torch.full((3, 3, SIDE, SIDE), torch.nan)}),
        (r"attributions are \(3, 8, 8\); give", {"attribution": torch.zeros(3, SIDE, SIDE)}),
        ("attributions are .*complex", {"attribution": torch.ones(3, 3, SIDE, SIDE).cfloat()}),
        ("attributions are a list", {"attribution": [["a"]]}),
        ("attributions are on the meta", {"attribution": torch.ones(3, 3, 8, 8, device="meta")}),
        ("attributions are masked", {"attribution": np.ma.masked_less(np.eye(8), 1)}),
        ("images range from", {"images": 2 + some_images()}),
        ("labels range from 5 to 5", {"targets": zeros() + 5}),
    ],
)
def test_impossible_requests_are_refused(match, change):
    given = {
        "model": Linear(),
        "images": some_images(),
        "targets": zeros(),
        "attribution": some_images(),
        "steps": 16,
    }
    for function in (insertion, deletion):
        with pytest.raises((TypeError, ValueError), match=match):
            function(**given | change)


def test_a_blur_that_reaches_over_the_image_is_refused():
    x = torch.rand(1, 3, 5, 9)
    with pytest.raises(ValueError, match="substrate='blur' needs images of at least 6 pixels"):
        insertion(lambda x: x.mean((2, 3)), x, torch.tensor([0]), x, steps=4, substrate="blur")


MAPS = torch.randint(-9, 9, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
HELD = {
    "int": MAPS,
    "half": MAPS.half(),
    "array": MAPS.numpy(),
    "mirrored": MAPS.flip(3).numpy()[..., ::-1],
    "gradient": MAPS.float().requires_grad_(),
    "sparse": MAPS.float().to_sparse(),
    "big-endian": MAPS.numpy().astype(">f4"),
    "long double": MAPS.numpy().astype(np.longdouble),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_maps_are_taken_from_whatever_holds_them(held):
    x, plain = some_images(), MAPS.double()
    for one, other in [
        *(
            (
                f(Linear(), x, zeros(), held, steps=np.int64(4), batch_size=np.int64(2)),
                f(Linear(), x, zeros(), plain, steps=4),
            )
            for f in (insertion, deletion)
        ),
        (ties(held), ties(plain)),
        (map_similarity(held, x), map_similarity(plain, x)),
        (infidelity(Linear(), x, zeros(), held), infidelity(Linear(), x, zeros(), plain)),
    ]:
        assert np.allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: map_similarity(MAPS, MAPS[:1]), "attributions are .*; give two of the same"),
        (lambda: ties(MAPS * torch.nan), "attributions must be finite"),
        (lambda: curve_area([0.5]), "a curve has two points or more"),
        (lambda: curve_area([]), "a curve has two points or more"),
    ],
)
def test_what_is_no_map_or_curve_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


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


@pytest.mark.parametrize("lacking", examination_table.QUANTITIES)
def test_a_table_without_a_quantity_is_refused(tmp_path, lacking):
    """One of an older version, which knew nothing of it."""
    known = [q for q in examination_table.QUANTITIES if q != lacking]
    about = {"quantities": known, "variants": {"a": {}}, "rows": ["a"]}
    Examination(
        about["variants"], {q: np.ones((1, 2)) for q in known}, about, np.ones((1, 0, 2, 2))
    ).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=f"it has no '{lacking}'; measure it .80_attributions"):
        Examination.load(tmp_path / "a.npz")
