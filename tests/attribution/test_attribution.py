"""Oracles, planted answers and every error of the attribution methods."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from iaside.attribution import baselines, explorers, frequency, maps, options
from iaside.attribution.frequency import band_weights, energy_cutoff, frequency_samples
from iaside.attribution.maps import EXPLORERS, METHODS, attribute, explore
from iaside.backend.gradients import predictions
from iaside.inputs.classifier import load_model
from iaside.inputs.folding import folded
from iaside.inputs.images import load_images

SIDE = 16
FEW = {  # small settings that exercise everything
    "fampe": {"steps": 2, "samples": 3},
    "attexplore": {"steps": 2, "samples": 3},
    "smoothgrad": {"samples": 4},
    "integrated_gradients": {"steps": 6},
    "guided_ig": {"steps": 5},
    "big": {"steps": 4, "path_steps": 5},
    "agi": {"classes": 2, "steps": 3},
    "la": {"classes": 3, "steps": 3},
    "mfaba": {"steps": 4},
}


def some_images(n=3, side=SIDE, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.8 * torch.rand(n, 3, side, side, generator=generator, dtype=dtype)


def natural(n=8, side=128):
    """Images with the 1/f amplitudes of photographs."""
    noise = torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(0)).double()
    k = frequency._radii(noise).clamp(min=1)
    x = torch.fft.irfft2(torch.fft.rfft2(noise) / k, s=(side, side))
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)


class Core(nn.Module):
    """A small smooth classifier, with gain as its distance from a linear one."""

    def __init__(self, gain=1.0, classes=4):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.Softplus()
            self.head = nn.Linear(6 * SIDE * SIDE, classes)
        self.gain = gain
        self.eval()

    def forward(self, x):
        return self.gain * self.head(self.act(self.conv(x)).flatten(1))


def Net(**how):
    return Core(**how).double()


def linear(gain=1e-3, classes=3):
    """Linear logits, so small that the probability is linear too."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(classes, 3 * SIDE * SIDE, generator=generator, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], classes, bias=False)).double()
    net[1].weight.data = gain * weight
    return net.eval()


def probability(net, x, y):
    return net(x).softmax(1).gather(1, y[:, None])[:, 0]


def made(net, x, method, **options):
    own = {"references": some_images(4, seed=9)} if method == "expected_gradients" else {}
    return attribute(net, x, method=method, **FEW.get(method, {}) | own | options)


# --- the cutoff and the samples of FAMPE -----------------------------------------------------


def test_the_cutoff_holds_the_share_of_the_energy_and_no_shell_less():
    x = natural()
    power = torch.fft.fft2(x).abs().square().sum(1)
    power[:, 0, 0] = 0
    radius = frequency._radii(x, full=True)
    found = []
    for kappa in (0.5, 0.8, 0.9, 0.95):
        cutoff = energy_cutoff(x, kappa)
        for p, c in zip(power, cutoff, strict=True):
            assert p[radius <= c].sum() >= kappa * p.sum() * (1 - 1e-9)
            assert p[radius < c].sum() < kappa * p.sum()
        found.append(cutoff.mean().item())
    # 1/f images of 128 pixels, methods 7.11
    assert np.allclose(found, [5, 25, 42, 55], atol=4)


def test_the_cutoff_of_planted_waves_and_of_edge_cases():
    t = torch.arange(32) * (2 * torch.pi / 32)
    two = 0.5 + 0.3 * torch.cos(3 * t) + 0.1 * torch.cos(11 * t)  # energies 9 : 1
    x = two.expand(1, 1, 32, 32)
    assert energy_cutoff(x, 0.89).item() == 3 and energy_cutoff(x, 0.91).item() == 11
    assert energy_cutoff(x, 0.5, include_dc=True).item() == 0
    wide = torch.cos(torch.arange(64) * (2 * torch.pi * 10 / 64)).expand(1, 1, 32, 64) / 2 + 0.5
    assert energy_cutoff(wide).item() == 5  # cycles per shorter side
    assert energy_cutoff(natural(1), 1.0).isfinite().all()
    assert energy_cutoff(torch.full((1, 1, 8, 8), 0.5)).isfinite().all()


def band_change(x, alpha, kappa=0.8, **how):
    """Energy of the change of each band over the energy of the band, (low, high), mean of many."""
    draws = [torch.Generator().manual_seed(i) for i in range(len(x))]
    y = frequency_samples(x, band_weights(x, alpha, kappa), draws, samples=20, sigma=0.0, **how)
    assert y.dtype == x.dtype and y.shape == (20, *x.shape)
    change, clean = torch.fft.fft2(y - x).abs().square(), torch.fft.fft2(x).abs().square()
    clean[..., 0, 0] = 0
    low = frequency._radii(x, full=True) <= energy_cutoff(x, kappa)[:, None, None, None]
    return [
        (change * m).sum((-3, -2, -1)).mean(0) / (clean * m).sum((-3, -2, -1)) for m in (low, ~low)
    ]


@pytest.mark.parametrize("mode", ["multiplicative", "additive"])
def test_alpha_weights_the_low_band_and_leaves_the_other_alone_at_its_ends(mode):
    x = natural(2, side=64)
    whole = {"multiplicative": 0.25 / 3, "additive": 0.25}[mode]
    low, high = band_change(x, 0.0, mode=mode)
    assert low.max() < 1e-25 and torch.allclose(high, torch.full_like(high, whole), rtol=0.1)
    low, high = band_change(x, 1.0, mode=mode)
    assert high.max() < 1e-25 and torch.allclose(low, torch.full_like(low, whole), rtol=0.25)
    low, high = band_change(x, 0.1, mode=mode)
    assert torch.allclose(low, torch.full_like(low, whole / 81), rtol=0.25)
    assert torch.allclose(high, torch.full_like(high, whole), rtol=0.1)


def test_alpha_of_one_half_is_the_all_pass_mask_whatever_the_cutoff():
    x = natural(2, side=64)
    for kappa in (0.5, 0.95):
        weights = band_weights(x, 0.5, kappa)
        assert (weights.flatten(2)[..., 1:] == 1).all() and (weights[..., 0, 0] == 0).all()
        assert (band_weights(x, 0.5, kappa, include_dc=True) == 1).all()
        for change in band_change(x, 0.5, kappa):
            assert torch.allclose(change, torch.full_like(change, 0.25 / 3), rtol=0.25)
    a, b = (explore(Net(), some_images(1), alpha=0.5, kappa=k, **FEW["fampe"]) for k in (0.5, 0.95))
    assert a.attribution.equal(b.attribution)


# --- the way ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EXPLORERS)
@pytest.mark.parametrize("eps", [0.02, 0.3])
def test_the_way_stays_in_the_ball_and_in_the_pixels_and_raises_the_loss(method, eps):
    x = some_images()
    e = explore(Net(), x, method=method, steps=4, samples=4, eps=eps)
    assert e.path.shape == (5, *x.shape) and e.path[0].equal(x) and e.adversarial is not None
    assert (e.path - x).abs().max() <= eps + 1e-12
    assert e.path.min() >= 0 and e.path.max() <= 1
    assert (e.loss_change > 0).all()
    after = predictions(Net(), e.adversarial)
    assert e.success.tolist() == (after != predictions(Net(), x)).tolist()


def test_the_attribution_is_complete_when_nothing_is_random_and_steps_are_small():
    """Sum of the attribution -> change of the loss, methods 7.11."""
    plain = dict(samples=1, sigma=0.0, rho=0.0, diversity=0.0, smooth=False, momentum=0.0)
    gaps = []
    for steps in (4, 16, 64):
        e = explore(Net(), some_images(), steps=steps, eps=0.1, **plain)
        gaps.append(((e.attribution.sum((1, 2, 3)) - e.loss_change) / e.loss_change).abs().max())
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] and gaps[2] < 0.02


def test_attexplore_ascends_and_its_published_code_descends():
    x = some_images()
    up = explore(Net(), x, method="attexplore", steps=3, samples=4)
    down = explore(Net(), x, method="attexplore", steps=3, samples=4, compat="published")
    assert (up.loss_change > 0).all() and (down.loss_change < 0).all()
    for e in (up, down):  # a step is along the sign of what it is multiplied with
        assert (e.attribution >= 0).all() and e.radius.isnan().all()


@pytest.mark.parametrize("method", EXPLORERS)
def test_an_attack_has_the_maps_of_both_products(method):
    """It is the same for both: what moves are multiplied with does not move anything."""
    x, few = some_images(), {"steps": 3, "samples": 2}
    found = {p: explore(Net(), x, method=method, product=p, **few) for p in options.PRODUCTS}
    gradient, update = found["gradient"], found["update"]
    assert gradient.path.equal(update.path)
    for e in (gradient, update, explore(Net(), x, method=method, **few)):
        assert e.by_gradient.equal(gradient.attribution)
        assert e.by_update.equal(update.attribution)
    assert not gradient.attribution.equal(update.attribution)
    with pytest.raises(ValueError, match="product='sum' is not possible; it must be gradient or"):
        explore(Net(), x, method=method, product="sum", **few)


def test_the_dct_is_the_dct():
    x = some_images(1)[0, 0]
    matrix = explorers._dct_matrix(SIDE)
    assert np.allclose(matrix @ x @ matrix.T, dctn(x.numpy(), norm="ortho"))
    assert torch.allclose(matrix @ matrix.T, torch.eye(SIDE).double())


class Sized(nn.Module):
    """Mean logits of any size, or of one; keeps the images that it is shown with gradients."""

    def __init__(self, sides=None):
        super().__init__()
        self.sides, self.seen = sides, []
        self.eval()

    def forward(self, x):
        if self.sides and tuple(x.shape[-2:]) != self.sides:
            raise AssertionError(f"Input size {tuple(x.shape[-2:])} doesn't match {self.sides}")
        if torch.is_grad_enabled():
            self.seen += [image.detach() for image in x]
        return torch.cat([x, x[:, :1] ** 2], 1).sum((2, 3)) / x[0].numel()


WHITE = torch.ones(1, 3, 40, 60)


@pytest.mark.parametrize("method", EXPLORERS)
def test_diversity_enlarges_half_of_the_copies_onto_black(method):
    net = Sized()
    explore(net, WHITE, method=method, steps=4, samples=50, sigma=0.0, rho=0.0, eps=1e-9, seed=1)
    sizes = [tuple(image.shape[-2:]) for image in net.seen]
    assert set(sizes) == {(40, 60), (46, 69)}, "int(1.15 H), int(1.15 W)"
    assert 0.4 < sizes.count((46, 69)) / len(sizes) < 0.6
    heights, tops = set(), set()
    for image in net.seen:
        if image.shape[-2:] == (40, 60):
            assert (image - 1).abs().max() < 1e-5, "as it is"
            continue
        rows, columns = ((image[0] > 0.5).any(k).nonzero()[:, 0] for k in (1, 0))
        h, w = len(rows), len(columns)
        assert 40 <= h < 46 and 60 <= w < 69
        assert abs((w - 60) / 9 - (h - 40) / 6) < 1 / 6, "one share of the room"
        box = image[:, rows[0] : rows[0] + h, columns[0] : columns[0] + w]
        assert (box - 1).abs().max() < 1e-5 and image.sum().item() == pytest.approx(3 * h * w)
        heights.add(h)
        tops.add(rows[0].item())
    assert heights == set(range(40, 46)) and tops == set(range(6))


def test_the_published_frame_is_257_pixels_for_224():
    x = torch.zeros(1, 3, 224, 224)
    assert explorers._frame(x) == [257, 257]
    places = explorers._places([torch.Generator().manual_seed(0)], 3000, 1.0, x)
    assert {p[0] for p in places} == {p[1] for p in places} == set(range(224, 257))
    assert all(p[2] + p[0] < 257 and p[3] + p[1] < 257 for p in places)
    tiny = explorers._places([torch.Generator()], 5, 1.0, torch.zeros(1, 3, 4, 4))
    assert set(tiny) == {(4, 4, 0, 0)}


def test_a_network_of_one_size_gets_the_enlarged_copies_resized_back():
    net = Sized((40, 60))
    explore(net, WHITE, steps=1, samples=200, sigma=0.0, rho=0.0)
    assert len(net.seen) == 200 and {image.shape[-2:] for image in net.seen} == {(40, 60)}
    share = torch.stack(net.seen).mean((1, 2, 3))
    assert 0.4 < (share < 0.999).double().mean() < 0.6
    assert share.min() == pytest.approx((40 * 60) / (46 * 69), abs=0.01)


class Unpooled(Sized):
    """A class for each row of pixels: 40 at its own size, 46 at the larger."""

    def forward(self, x):
        if torch.is_grad_enabled():
            self.seen += [image.detach() for image in x]
        return x.mean((1, 3))


def test_a_network_of_other_classes_at_another_size_gets_copies_resized_back():
    net = Unpooled()
    explore(net, WHITE, torch.tensor([0]), steps=1, samples=50, sigma=0.0, rho=0.0)
    assert {image.shape[-2:] for image in net.seen} == {(40, 60)}


def test_gradients_of_enlarged_copies_arrive_at_the_pixels_they_came_from():
    """Of a mean over the frame: every pixel has a share of it, all together the image's area."""
    x, places = torch.rand(2, 3, 40, 60).double(), [(43, 64, 1, 2), None]
    weights = lambda logits, y: logits[:, 0]  # noqa: E731
    net, y = Sized(), torch.zeros(2, dtype=torch.long)
    slopes = explorers._slopes(net, x, weights, y, 1, places, larger=True)
    assert slopes[0, 0].sum().item() == pytest.approx(43 * 64 / (3 * 46 * 69))
    assert slopes[1, 0].sum().item() == pytest.approx(1 / 3)
    assert (slopes[:, 0] > 0).all() and (slopes[:, 1:] == 0).all()
    corner = lambda logits, y: logits  # noqa: E731
    probe = lambda images: images[:, 0, 1:2, 2]  # noqa: E731  where the image begins
    slopes = explorers._slopes(probe, x[:1], corner, y[:1], 1, places[:1], larger=True)
    assert slopes[0, 0, 0, 0] > 0.5 and slopes[0].count_nonzero() <= 4


def test_enlarged_copies_are_drawn_by_the_seed_in_passes_of_any_size():
    x, how = some_images(2, side=40), {"steps": 2, "samples": 4}
    assert attribute(Sized(), x, **how).equal(attribute(Sized(), x, **how))
    assert not attribute(Sized(), x, **how).equal(attribute(Sized(), x, seed=1, **how))
    other = attribute(Sized(), x, batch_size=3, **how)
    assert torch.allclose(attribute(Sized(), x, **how), other, rtol=1e-9)
    alone = attribute(Sized(), x[1:], first=1, **how)
    assert attribute(Sized(), x, **how)[1:].equal(alone)


# --- the baselines ------------------------------------------------------------------------------


def test_where_the_probability_is_linear_all_paths_from_black_agree():
    net, x = linear(), some_images()
    expected = made(net, x, "saliency") * x
    scale = expected.abs().max()
    for method in ("integrated_gradients", "guided_ig"):
        assert (made(net, x, method) - expected).abs().max() < 0.02 * scale, method
    weights = net[1].weight[predictions(net, x)].view_as(x)
    assert torch.allclose(made(net, x, "deeplift"), weights * x), "of the logit"
    loss = made(net, x, "fast_ig")  # d CE = - dp / p
    assert (loss + expected * 3).abs().max() < 0.1 * 3 * scale
    noisy = made(net, x, "smoothgrad")
    assert (noisy * x - expected).abs().max() < 0.02 * scale
    references = some_images(1, seed=9)
    one = attribute(net, x, method="expected_gradients", references=references)
    assert (one - made(net, x, "saliency") * (x - references)).abs().max() < 0.02 * scale


@pytest.mark.slow
def test_integrated_gradients_agree_with_captum_and_add_up():
    x = some_images()
    net, y = Net(), predictions(Net(), some_images())
    change = probability(net, x, y) - probability(net, 0 * x, y)
    captums = made(net, x, "integrated_gradients", steps=100)
    own = baselines.straight_path(net, x, torch.zeros_like(x), y, 10, 100)
    assert (own - captums).abs().max() < 0.01 * own.abs().max()
    guided = made(net, x, "guided_ig", steps=50)
    for found in (captums, own, guided):
        assert torch.allclose(found.sum((1, 2, 3)), change, rtol=0.02, atol=1e-3)
    free = made(net, x, "guided_ig", steps=60, max_dist=1.0)
    assert torch.allclose(free.sum((1, 2, 3)), change, rtol=0.1, atol=2e-3)
    assert (free - own).abs().max() > 10 * (guided - own).abs().max()  # another way


def gaps(net, x, steps, eps):
    """Of every method that promises a sum: method -> (B,), relative to what it should sum to."""
    y, change = predictions(net, x), {}
    plain = dict(samples=1, sigma=0.0, rho=0.0, diversity=0.0, smooth=False, momentum=0.0)
    e = explore(net, x, y, steps=steps // 4, eps=eps, **plain)
    found, change["fampe"] = {"fampe": e.attribution}, e.loss_change
    starts, path = [], baselines.straight_path

    def spy(net, x, baseline, *rest):
        starts.append(baseline)
        return path(net, x, baseline, *rest)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(baselines, "straight_path", spy)
        found["big"] = attribute(net, x, y, "big", steps=8, path_steps=steps, eps=[16 / 255])
        change["big"] = probability(net, x, y) - probability(net, torch.cat(starts), y)
        found["integrated_gradients"] = attribute(net, x, y, "integrated_gradients", steps=steps)
        change["integrated_gradients"] = probability(net, x, y) - probability(net, 0 * x, y)
        found["deeplift"] = attribute(net, x, y, "deeplift")
        change["deeplift"] = (net(x) - net(0 * x)).gather(1, y[:, None])[:, 0]
    sums = {method: maps.double().sum((1, 2, 3)) for method, maps in found.items()}
    return {m: ((sums[m] - change[m]).abs() / change[m].abs()).numpy() for m in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "tf_efficientnet_lite0"])
def test_what_promises_a_sum_keeps_it_on_the_default_networks(data, name):
    net = folded(load_model(name))
    x, _ = load_images(data / "images/photographs", like=net, n=2, seed=0)
    for method, gap in gaps(net, x[1:], steps=80, eps=0.05 / 255).items():
        assert gap.max() < (1e-4 if method == "deeplift" else 0.06), method


@pytest.mark.parametrize(
    "act", [F.silu, F.hardswish, F.gelu, F.relu, nn.ReLU6(), nn.Hardswish(inplace=True)]
)
@pytest.mark.slow
def test_what_promises_a_sum_keeps_it_whatever_the_activation(act):
    net = Net()
    del net.act
    net.act = act
    for method, gap in gaps(net.eval(), some_images(), steps=200, eps=0.05).items():
        assert gap.max() < (1e-9 if method == "deeplift" else 0.02), method


def test_guided_ig_moves_the_pixels_of_the_smallest_gradients_first():
    """Equal pixels, four steps, no leash: each step goes a quarter of the way of all together."""
    net, x, seen = linear(classes=2), torch.full((1, 3, SIDE, SIDE), 0.5).double(), []
    slope = attribute(net, x, method="saliency").abs().flatten()
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().flatten()))
    y = predictions(net, x)
    seen.clear()
    baselines.guided_ig(net, x, y, None, 1, steps=4, max_dist=1.0)
    assert len(seen) == 4
    for k, z in enumerate(seen):
        moved = z[slope.argsort()] / 0.5
        assert moved.mean().item() == pytest.approx(k / 4, abs=1e-6)
        assert (moved.diff() <= 1e-12).all(), "none before one of a smaller gradient"
    assert (seen[1] > 0).sum() <= len(slope) * 7 / 16 + 1  # a quarter, and one of what is left


@pytest.mark.slow
def test_big_adds_up_from_an_example_that_another_class_wins():
    net, x = Net(gain=0.3), some_images()
    y = predictions(net, x)
    found = made(net, x, "big", steps=40, path_steps=60, eps=[0.3, 0.1])
    start = []

    def spy(net, x, baseline, *rest):
        start.append(baseline)
        return torch.zeros_like(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "straight_path", spy)
        made(net, x, "big", steps=40, eps=[0.3, 0.1])
        made(net, x, "big", steps=40, eps=[0.3])
    near, far = torch.cat(start[:3]), torch.cat(start[3:])
    assert (predictions(net, near) != y).all()
    assert ((near - x).flatten(1).norm(dim=1) <= (far - x).flatten(1).norm(dim=1) + 1e-9).all()
    change = probability(net, x, y) - probability(net, near, y)
    assert torch.allclose(found.sum((1, 2, 3)), change, rtol=0.02)


@pytest.mark.slow
def test_mfaba_adds_up_to_what_the_probability_loses():
    net, x = Net(gain=0.3), some_images()
    for variant in ("sharp", "smooth"):
        found = made(net, x, "mfaba", steps=200, variant=variant).sum((1, 2, 3))
        assert (found > 0.01).all() and (found < probability(net, x, predictions(net, x))).all()


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize(("method", "size"), [("agi", 0.05), ("la", None)])
def test_walks_to_the_other_class_have_a_closed_form_where_the_probability_is_linear(
    method, size, target
):
    """Two classes: every step is the same move along the sign, times the same gradient."""
    net, x = linear(classes=2), some_images()
    if target == 0:
        net[1].weight.data = net[1].weight.data.flip(0)
    assert (predictions(net, x) == target).all()
    slope = made(net, x, "saliency")
    step = x / 20 if size is None else size
    move = (x - step * slope.sign()).clamp(0, 1) - x
    if method == "agi":
        assert (predictions(net, x + move) != predictions(net, x)).all()
    times = {"agi": 1, "la": 3 + 3}[method]  # agi stops there, la goes away from the target too
    found = made(net, x, method, classes=2)
    assert torch.allclose(found, -times * slope * move, rtol=0.02, atol=1e-9)


# --- seeds, batches, devices --------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_image_gets_the_same_map_in_any_company(method):
    net, x = Net().float(), some_images(dtype=torch.float32)
    numpys, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()
    own = {"references": some_images(4, dtype=torch.float32)}
    options = FEW.get(method, {}) | (own if method == "expected_gradients" else {})
    whole = attribute(net, x, method=method, seed=3, **options)
    assert whole.shape == x.shape and whole.isfinite().all() and whole.abs().max() > 0
    parts = [
        attribute(net, x[i : i + 1], method=method, seed=3, first=i, **options) for i in range(3)
    ]
    assert whole.equal(torch.cat(parts)), "bytes"
    assert np.array_equal(numpys, np.random.get_state()[1]), "numpy's global generator moved"
    assert torchs.equal(torch.get_rng_state()), "torch's global generator moved"
    random = method in ("fampe", "attexplore", "smoothgrad", "expected_gradients", "agi", "la")
    again = attribute(net, x, method=method, seed=4, **options)
    assert whole.equal(again) != random


@pytest.mark.parametrize("method", METHODS)
def test_images_of_one_pass_do_not_mix(method, monkeypatch):
    """As on an accelerator, where a pass holds several images: equal but for rounding."""
    net, x = Net(), some_images()
    alone = made(net, x, method)
    monkeypatch.setattr(maps, "_together", lambda device, at_once, copies: 3)
    for batch_size in (2, 64):
        assert torch.allclose(made(net, x, method, batch_size=batch_size), alone, rtol=1e-6)


def test_the_model_and_the_callers_modes_are_left_as_they_were():
    net = Net()
    with torch.inference_mode():
        x = some_images()
        a = attribute(net, x, **FEW["fampe"])
        b = made(net, x, "integrated_gradients")
    assert a.shape == b.shape == x.shape
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    relu = (
        nn.Sequential(
            nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2 * 14 * 14, 3)
        )
        .double()
        .eval()
    )
    made(relu, some_images(), "deeplift")
    assert relu[1].inplace


def test_explicit_targets_count():
    x, net = some_images(), Net()
    y = predictions(net, x)
    default, other = (attribute(net, x, t, "saliency") for t in (None, (y + 1) % 4))
    assert default.equal(attribute(net, x, y, "saliency")) and not default.equal(other)


@pytest.mark.slow
def test_everything_runs_where_the_images_are(monkeypatch):
    """Placement on an accelerator, without one (autograd's engine would look for it)."""
    places = [None, (17, 17, 0, 0)] * 3  # numbers: fake draws have none
    monkeypatch.setattr(explorers, "_places", lambda *how: places)
    monkeypatch.setattr(
        "torch.autograd.grad", lambda loss, xs, retain_graph: (torch.zeros_like(xs) + loss * 0,)
    )
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        net = Core()
        x, y = torch.rand(2, 3, SIDE, SIDE), torch.zeros(2, dtype=torch.long)
        draws = [torch.Generator().manual_seed(i) for i in range(2)]
        for function in (explorers.fampe, explorers.attexplore):
            e = function(net, x, y, draws, 3, steps=2, samples=3)
            assert {t.device.type for t in e} == {"cuda"} and e.attribution.shape == x.shape
        for function in (baselines.fast_ig, baselines.la):
            assert function(net, x, y, draws, 3).device.type == "cuda"
        for mode in ("multiplicative", "additive"):
            weights = band_weights(x)
            if mode == "multiplicative":  # the other looks at values
                assert frequency_samples(x, weights, draws, 2, mode=mode).device.type == "cuda"


# --- gradients that are nan, zero, or not there -------------------------------------------------


class Broken(Core):
    """The logits of a Core, with a gradient of nan for bright images."""

    def forward(self, x):
        dark = (x.detach().mean((1, 2, 3)) < 0.5).to(x)
        return super().forward(x) + ((0 * x).sum((1, 2, 3)) + dark).sqrt()[:, None]


class Rounding(Core):
    def forward(self, x):
        return super().forward(x + ((255 * x).round() / 255 - x).detach() - x + x.detach())


class WithoutGrad(Core):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class InNumpy(Core):
    def forward(self, x):
        z = torch.from_numpy(x.numpy().copy())
        return super().forward(z).detach()


ONE_BRIGHT = some_images(3) * 0.4 + torch.tensor([0.0, 0.55, 0.0]).double().view(3, 1, 1, 1)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "big"])
def test_maps_that_are_no_numbers_are_refused_naming_method_and_images(method):
    if method in ("guided_ig", "integrated_gradients", "expected_gradients"):
        # their paths begin in the dark, and reach what is bright
        match = f"the {method} maps of images .[56].* are nan or inf.*mend the model"
    else:
        match = rf"the {method} maps of images \[6\] are nan or inf.*leave these images out"
    with pytest.raises(ValueError, match=match):
        made(Broken().double(), ONE_BRIGHT, method, first=5)


def test_big_is_refused_too_where_the_image_itself_has_no_gradient():
    with pytest.raises(ValueError, match=r"the big maps of images \[1\] are nan"):
        attribute(Broken().double(), ONE_BRIGHT, method="big", eps=[1e-3], steps=2, path_steps=2)


def test_exploring_is_refused_too():
    with pytest.raises(ValueError, match=r"the fampe maps of images \[1\] are nan"):
        explore(Broken().double(), ONE_BRIGHT, steps=2, samples=2)


def test_guided_ig_ends_where_every_gradient_is_nan():
    """The norm of a black image, where the path begins, has the gradient 0 / 0."""
    net = nn.Sequential(nn.Flatten(), Divided(), nn.Linear(12, 2)).double().eval()
    with pytest.raises(ValueError, match=r"guided_ig maps of images \[0\] are nan or inf"):
        attribute(net, some_images(1, side=2), method="guided_ig")


@pytest.mark.parametrize("method, same", [("guided_ig", False), ("integrated_gradients", True)])
def test_the_map_of_guided_ig_hangs_on_rounding_where_maxima_tie(method, same):
    """As its docstring says: in a black image all values that a max-pooling compares are equal.

    What another order of sums changes is planted, as 1e-12.
    """
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)]
    net, x = nn.Sequential(*layers).double().eval(), some_images(1)
    rounding = 1e-12 * torch.randn_like(x)
    models = net, lambda z: net(z + rounding)
    first, second = (attribute(model, x, torch.tensor([0]), method) for model in models)
    alike = np.corrcoef(first.flatten(), second.flatten())[0, 1]
    assert (alike > 1 - 1e-6) == same


class Divided(nn.Module):
    def forward(self, v):
        return v / (v.pow(2).sum(1, keepdim=True).sqrt() + 1e-6)


def test_maps_of_zeros_are_named():
    with pytest.warns(RuntimeWarning, match=r"saliency maps of images \[4, 5\] are zero every"):
        attribute(Rounding().double(), some_images(2), method="saliency", first=4)


@pytest.mark.parametrize("method", EXPLORERS)
def test_explorations_that_no_gradient_showed_the_way_of_are_named(method):
    x = some_images(2)
    with pytest.warns(RuntimeWarning, match=rf"{method} maps of images \[4, 5\] are zero every"):
        e = explore(Rounding().double(), x, method=method, first=4, **FEW[method])
    assert not e.success.any() and e.adversarial.equal(x)


@pytest.mark.parametrize("kind", [WithoutGrad, InNumpy])
@pytest.mark.parametrize("method", METHODS)
def test_models_that_give_no_gradient_are_refused_by_the_name_of_the_method(method, kind):
    with pytest.raises(ValueError, match=f"^{method} needs gradients.*NumPy.*give the torch model"):
        made(kind().double(), some_images(1), method)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "method", "options"),
    [
        ("method='lime' is not known; choose one of fampe, attexplore", "lime", {}),
        ("steps= means nothing to saliency; it takes no options", "saliency", {"steps": 3}),
        ("loss= means nothing to fampe", "fampe", {"loss": None}),
        ("alpha=1.5 is not possible; it must be from 0", "fampe", {"alpha": 1.5}),
        ("kappa=0 is not possible", "fampe", {"kappa": 0}),
        ("eps=16 is not possible; .*16/255, not 16", "fampe", {"eps": 16}),
        ("eps=0.1: big takes a list", "big", {"eps": 0.1}),
        (r"eps=\[0.1\]: agi takes one", "agi", {"eps": [0.1]}),
        ("steps=0 is not possible", "mfaba", {"steps": 0}),
        ("variant='blunt' is not possible", "mfaba", {"variant": "blunt"}),
        ("mode='louder' is not possible", "fampe", {"mode": "louder"}),
        ("compat='ours' is not possible", "attexplore", {"compat": "ours"}),
        ("seed=-1 is not possible", "saliency", {"seed": -1}),
        ("batch_size=0 must be at least 1", "saliency", {"batch_size": 0}),
        ("expected_gradients needs references=", "expected_gradients", {}),
    ],
)
def test_impossible_requests_are_refused(match, method, options):
    with pytest.raises(ValueError, match=match):
        attribute(Net(), some_images(1), method=method, **options)


def test_impossible_images_targets_and_models_are_refused():
    net, x = Net(), some_images(1)
    with pytest.raises(ValueError, match="images range from"):
        attribute(net, x * 255)
    with pytest.raises(ValueError, match="one integer class index per image"):
        attribute(net, x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="labels range from 7 to 7"):
        attribute(net, x, torch.tensor([7]))
    with pytest.raises(ValueError, match="training mode"):
        attribute(Net().train(), x)
    with pytest.raises(ValueError, match="method='saliency' is no attack"):
        explore(net, x, method="saliency")
