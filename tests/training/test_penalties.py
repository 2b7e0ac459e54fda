"""Published numbers, planted gradients and finite differences of the spectral penalties."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from iaside.game.exact import coalition_images
from iaside.inputs.classifier import Classifier
from iaside.spectral import band_masks, cells_per_band, esd, split_bands
from iaside.training import penalties
from iaside.training.penalties import (
    band_share,
    coalition_dropout,
    fourier_sensitivity,
    gradalign,
    input_gradient,
    jafr,
    jafr_radial,
    low_frequency_bias,
)

SIDE = 16
PENALTIES = penalties.PENALTIES | {"band_share": partial(band_share, band=1)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_batch(n=6, side=SIDE, dtype=torch.float32, classes=3):
    return torch.rand(n, 3, side, side, generator=seeded(), dtype=dtype), torch.arange(n) % classes


def small_net(dtype=torch.float32):
    """Smooth, so that finite differences of the gradient exist; batch norm included."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, dtype=dtype),
            nn.BatchNorm2d(3, dtype=dtype),
            nn.Tanh(),
            nn.AvgPool2d(3),
            nn.Flatten(),
            nn.Linear(3 * (SIDE // 3) ** 2, 3, dtype=dtype),
        )
    return net.train()


def reader(pattern):
    """A two-class model whose input gradient is `pattern` (C, H, W), but for each image's size."""
    return lambda x: torch.stack([(x * pattern).sum((1, 2, 3)), torch.zeros(len(x)).to(x)], 1)


def wave(ky, kx, side=32):
    rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cos(2 * math.pi * (ky * rows + kx * cols) / side).expand(3, side, side)


def noise_spectrum(exponent, n=128, side=32):
    """Mean |rfft2| of n colour images of noise whose amplitude falls as 1/r^exponent."""
    ky, kx = torch.fft.fftfreq(side)[:, None] * side, torch.fft.rfftfreq(side) * side
    noise = torch.fft.rfft2(torch.randn(n, 3, side, side, generator=seeded()))
    x = torch.fft.irfft2(noise / ky.hypot(kx).clamp(min=1) ** exponent, s=(side, side))
    return torch.fft.rfft2(x).abs().mean((0, 1))


# -- low-frequency bias ----------------------------------------------------------------------------


def direct(spectrum, reduce):
    """As published: products of powers. Overflows soon; hence float64 and few frequencies."""
    fourier_map = spectrum[: 1 + spectrum.shape[0] // 2]
    powers = torch.linspace(1, -1, len(fourier_map), dtype=torch.float64) + 1e-5
    rows = ((fourier_map + 1e-5) ** powers[None]).prod(1)
    columns = ((fourier_map + 1e-5) ** powers[:, None]).prod(0)
    if reduce == "sum":
        return (rows.sum() + columns.sum()).log()
    return (rows.prod() * columns.prod()).log()


@pytest.mark.parametrize("reduce", ["sum", "product"])
@pytest.mark.parametrize("exponent", [0, 1])
def test_log_sum_exp_is_the_published_product(reduce, exponent):
    spectrum = noise_spectrum(exponent).double()
    expected = direct(spectrum, reduce)
    assert expected.isfinite()
    assert torch.isclose(low_frequency_bias(spectrum, reduce), expected, rtol=0, atol=1e-6)


def test_sum_of_logarithms_is_both_directions_of_it():
    spectrum = noise_spectrum(0.5).double()
    weights = torch.linspace(1, -1, 17, dtype=torch.float64) + 1e-5
    log = (spectrum[:17] + 1e-5).log()
    expected = (log * (weights[None] + weights[:, None])).sum()
    assert torch.isclose(low_frequency_bias(spectrum, "sumlog"), expected)
    assert torch.isclose(low_frequency_bias(spectrum, "product"), expected)


def test_it_does_not_overflow_where_the_product_does():
    steep = torch.full((224, 113), 1e-5)
    steep[:, :40] = 1e20
    assert low_frequency_bias(steep).isfinite()
    assert not direct(steep.double(), "sum").isfinite()


def test_bias_of_known_slopes_and_scales():
    """The values of docs/methods.md, Penalties: 1/r^a noise, three channels, batch of 128, 32 x
    32."""
    spectra = torch.stack([noise_spectrum(a) for a in (-1, -0.5, 0, 0.5, 1, 2)])
    bias = low_frequency_bias(spectra)
    assert torch.allclose(
        bias, torch.tensor([1.25, 2.19, 3.52, 6.06, 9.79, 18.0]), rtol=0, atol=0.05
    )
    assert (bias.diff() > 0).all(), "monotone in the slope"
    assert [round(low_frequency_bias(c * spectra[2]).item(), 3) for c in (1, 1000)] == [
        3.516,
        3.517,
    ]


def test_one_strong_row_is_nearly_all_for_the_sum_but_not_for_the_sum_of_logarithms():
    """Flaw (a) of docs/methods.md, Penalties, kept: the best row dominates."""
    low_pass = torch.ones(17)
    low_pass[:8], low_pass[9:] = 10, 0.1
    one, all_rows = torch.ones(32, 17), low_pass.expand(32, 17)
    one[3] = low_pass
    share = {
        r: low_frequency_bias(one, r) / low_frequency_bias(all_rows, r) for r in ("sum", "sumlog")
    }
    assert share["sum"] > 0.8 and share["sumlog"] < 0.1


def test_axes_of_unequal_length_have_their_own_weights():
    spectrum = torch.rand(16, 17, generator=seeded()) + 0.1  # of 16 x 32 images
    turned = torch.cat([spectrum[:9].T, torch.ones(15, 9)])  # 32 x 16: the same quadrant turned
    assert torch.isclose(low_frequency_bias(spectrum), low_frequency_bias(turned))


# -- quadrants -------------------------------------------------------------------------------------


def test_one_diagonal_is_invisible_to_jafr_and_seen_by_the_radial_variant():
    """Flaw (b) of docs/methods.md, Penalties, kept: a wave at (-5, 5) is nothing, at (5, 5)
    much."""
    flat = torch.zeros(3, 32, 32)
    flat[:, 0, 0] = 1  # an impulse: all frequencies alike
    x, y = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)

    def change(penalty, pattern):
        with torch.no_grad():
            return (penalty(reader(flat + pattern), x, y) - penalty(reader(flat), x, y)).item()

    assert abs(change(jafr, wave(-5, 5))) < 1e-4
    assert change(jafr, wave(5, 5)) < -0.4
    assert change(jafr_radial, wave(-5, 5)) < -2
    assert math.isclose(
        change(jafr_radial, wave(-5, 5)), change(jafr_radial, wave(5, 5)), rel_tol=1e-4
    )


def test_radial_ratio_of_planted_waves():
    x, y = some_batch(side=32, classes=2)
    for low, high in ((1.0, 2.0), (3.0, 0.5)):
        found = jafr_radial(reader(1e-3 * (low * wave(3, -4) + high * wave(-12, 9))), x, y)
        assert math.isclose(found.item(), -2 * math.log(low / high), abs_tol=1e-3)
    impulse = torch.zeros(3, 32, 32)
    impulse[:, 0, 0] = 1e-3
    low, high = cells_per_band(band_masks(2, (32, 32), "l2"), 32).tolist()
    found = jafr_radial(reader(impulse), x, y).item()
    assert math.isclose(found, math.log(high / (low - 1)), abs_tol=1e-3), "all but DC alike"


# -- Fourier sensitivity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "shares"),  # of lsf, msf, hsf at 32 pixels: cuts at 5 and 10 cycles
    [(5, (0, 1, 1)), (6, (1, 0, 1)), (10, (1, 0, 1)), (11, (1, 1, 0)), (16, (1, 1, 0))],
)
def test_sensitivity_penalties_know_where_a_planted_gradient_is(k, shares):
    x, y = some_batch(side=32, classes=2)
    found = [PENALTIES[name](reader(1e-3 * wave(0, k)), x, y) for name in ("lsf", "msf", "hsf")]
    assert torch.allclose(torch.stack(found), torch.tensor(shares).float(), atol=1e-5)


def test_entropy_penalty_of_planted_gradients():
    x, y = some_batch(side=32, classes=2)
    assert abs(PENALTIES["asf"](reader(1e-3 * wave(0, 3)), x, y).item()) < 1e-4
    flat = sum(wave(0, k) for k in range(1, 9)) + 5 * wave(16, 16)  # beyond 16 does not count
    assert math.isclose(PENALTIES["asf"](reader(1e-3 * flat), x, y).item(), -3, abs_tol=1e-3)


def test_sensitivity_is_the_radial_power_of_each_image():
    gradient = torch.randn(4, 1, 32, 32, generator=seeded()) * torch.tensor(
        [1, 10, 1e-3, 1e-25]
    ).view(4, 1, 1, 1)
    sensitivity = fourier_sensitivity(gradient)
    assert sensitivity.shape == (23,) and torch.isclose(sensitivity.sum(), torch.tensor(1.0))
    unit = gradient / gradient.abs().amax((2, 3), keepdim=True)
    key = torch.fft.fftfreq(32) * 32
    radius = key[:, None].hypot(key).round()
    count = torch.stack([(radius == r).sum() for r in range(1, 17)])
    power = esd(unit)[:, 1:] * count  # esd is the mean over the frequencies of a radius
    power = power / (unit - unit.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))[:, None]
    assert torch.allclose(sensitivity[:16], power.mean(0), rtol=1e-4)
    with_none = torch.cat([gradient, torch.zeros(3, 1, 32, 32)])
    assert torch.allclose(fourier_sensitivity(with_none), sensitivity), "none, not counted"
    assert fourier_sensitivity(torch.randn(1, 1, 31, 48)).sum().item() == pytest.approx(1)


# -- gradients of gradients ------------------------------------------------------------------------


def test_input_gradient_is_that_of_the_mean_loss():
    x, y = some_batch(dtype=torch.float64)
    net = small_net(torch.float64).eval()
    gradient = input_gradient(net, x, y)
    step = torch.randn(x.shape, generator=seeded(2), dtype=torch.float64)
    loss = [nn.functional.cross_entropy(net(x + h * step), y) for h in (1e-6, -1e-6)]
    assert torch.isclose((gradient * step).sum(), (loss[0] - loss[1]) / 2e-6, rtol=1e-6)
    assert torch.allclose(input_gradient(net, x, y, reduction="sum"), len(x) * gradient)
    assert not gradient.requires_grad and x.grad is None and not x.requires_grad


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_are_finite_differences(name):
    x, y = some_batch(3, dtype=torch.float64)
    net = small_net(torch.float64)
    names = list(dict(net.named_parameters()))

    def penalty(*parameters):
        weights = dict(zip(names, parameters, strict=True))
        options = {"generator": seeded()} if name == "gradalign" else {}
        return PENALTIES[name](
            lambda images: torch.func.functional_call(net, weights, images), x, y, **options
        )

    parameters = [p.detach().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(penalty, parameters, fast_mode=True, atol=1e-6)


def test_jafr_is_the_published_product_of_the_mean_spectrum():
    x, y = some_batch(dtype=torch.float64)
    net = small_net(torch.float64)
    spectrum = torch.fft.rfft2(input_gradient(net, x, y)).abs().mean((0, 1))
    assert torch.isclose(jafr(net, x, y), -direct(spectrum, "sum"), rtol=0, atol=1e-6)
    found = jafr(net, x, y, reduce="product")
    assert torch.isclose(found, -direct(spectrum, "product"), rtol=0, atol=1e-6)


def unfrozen_classifier(net=None, side=SIDE):
    recipe = dict(
        library="torchvision",
        architecture="mine",
        num_classes=3,
        input_size=(3, side, side),
        mean=(0.4,) * 3,
        std=(0.2,) * 3,
        crop_pct=1.0,
        interpolation="bilinear",
    )
    return Classifier(net or small_net(), recipe, "mine").requires_grad_().train()


@pytest.mark.parametrize("name", PENALTIES)
def test_a_classifier_in_training_gets_a_gradient(name):
    x, y = some_batch()
    model = unfrozen_classifier()
    before = model.net[1].running_mean.clone()
    value = PENALTIES[name](model, x, y)
    value.backward()
    slopes = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert value.shape == () and value.dtype == torch.float32
    assert slopes.isfinite().all() and slopes.abs().max() > 0
    assert not torch.equal(model.net[1].running_mean, before), "batch norm in train mode"
    assert x.grad is None


@pytest.mark.parametrize("name", PENALTIES)
def test_float32_inside_autocast_and_no_graph_without_grad(name):
    x, y = some_batch()
    model = unfrozen_classifier()

    def value():
        return PENALTIES[name](
            model, x, y, **({"generator": seeded()} if name == "gradalign" else {})
        )

    with torch.no_grad():
        expected = value()
        assert not expected.requires_grad
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(value(), expected)
            found = input_gradient(model, x, y)
    assert torch.equal(found, input_gradient(model, x, y))


@pytest.mark.parametrize("name", PENALTIES)
def test_images_without_a_gradient_make_no_nan(name):
    """A network so confident that its softmax is exact, on all images and on some."""
    x, y = some_batch(classes=3)
    certain = 1e4 * nn.functional.one_hot(y, 3)
    for doubtful in (torch.zeros(6, 1), torch.tensor([1.0, 0, 1, 0, 1, 0])[:, None]):
        net = small_net()

        def model(images, net=net, doubtful=doubtful):
            return net(images) * doubtful + certain * (1 - doubtful)

        value = PENALTIES[name](model, x, y)
        value.backward()
        assert value.isfinite() and all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ["jafr", "jafr_radial"])
def test_steps_against_the_penalty_move_the_bias_where_it_says(name):
    x, y = some_batch(16)
    moved = {}
    for strength in (1, -1):
        model = unfrozen_classifier()
        descent = torch.optim.SGD(model.parameters(), lr=0.05)
        bias = []
        for _ in range(10):
            gradient = input_gradient(model, x, y)
            bias.append(low_frequency_bias(torch.fft.rfft2(gradient).abs().mean((0, 1))))
            descent.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            (loss + strength * PENALTIES[name](model, x, y)).backward()
            descent.step()
        moved[strength] = (bias[-1] - bias[0]).item()
    assert moved[1] > 0.2 and moved[-1] < -0.2, moved


def test_gradalign_is_zero_for_a_linear_model_and_the_cosine_else():
    x, y = some_batch(classes=2)
    assert abs(gradalign(reader(1e-2 * wave(2, 3, SIDE)), x, y)) < 1e-5
    net = small_net().eval()
    noise = torch.rand(x.shape, generator=seeded(3)) * 2 - 1
    pair = [input_gradient(net, at, y).flatten(1) for at in (x, x + 0.5 * noise)]
    cosine = torch.stack([a @ b / a.norm() / b.norm() for a, b in zip(*pair, strict=True)])
    found = gradalign(net, x, y, eps=0.5, generator=seeded(3))
    assert torch.isclose(found, 1 - cosine.mean(), atol=1e-5) and found > 1e-3
    # Images on which the network is certain have no gradient, and do not count.
    doubt = torch.tensor([1.0, 0, 0, 1, 1, 0])[:, None]
    certain = 1e4 * nn.functional.one_hot(y, 3) * (1 - doubt)
    found = gradalign(lambda at: net(at) * doubt + certain, x, y, eps=0.5, generator=seeded(3))
    assert torch.isclose(found, 1 - cosine[doubt[:, 0] > 0].mean(), atol=1e-5)


# -- coalition dropout -----------------------------------------------------------------------------


def test_coalition_dropout_shows_coalitions_of_the_game():
    x = torch.rand(64, 3, SIDE, SIDE, generator=seeded())
    masks = band_masks(3, (SIDE, SIDE))
    assert torch.allclose(coalition_dropout(x, masks, 1), x, atol=1e-5)
    empty = coalition_images(x, masks, torch.zeros(1, 3, dtype=torch.bool).numpy())[0]
    assert torch.equal(coalition_dropout(x, masks, 0), empty)
    shown = coalition_dropout(x, masks, 0.5, seeded())
    assert torch.equal(shown, coalition_dropout(x, masks, 0.5, seeded()))
    members = [
        [
            (split_bands(image[None], masks)[i] - band[None]).abs().max() < 1e-5
            for i, band in enumerate(split_bands(part[None], masks)[:, 0])
        ]
        for image, part in zip(x, shown, strict=True)
    ]
    expected = torch.rand(64, 3, generator=seeded()) < 0.5
    assert torch.equal(torch.tensor(members), expected)
    by_callable = coalition_dropout(x, lambda t: split_bands(t, masks), 0.5, seeded())
    assert torch.allclose(by_callable, shown, atol=1e-6)


def test_coalition_dropout_keeps_each_band_as_often_as_asked():
    keep, n = (1.0, 0.2, 0.7), 4000
    masks = band_masks(3, (SIDE, SIDE))
    x = torch.rand(1, 1, SIDE, SIDE, generator=seeded())
    mean = coalition_dropout(x.expand(n, -1, -1, -1), masks, keep, seeded()).mean(0)
    bands, shown = split_bands(x, masks)[:, 0], split_bands(mean[None], masks)[:, 0]
    share = (bands * shown).sum((1, 2, 3)) / bands.square().sum((1, 2, 3))
    assert (share - torch.tensor(keep)).abs().max() < 4 * 0.5 / n**0.5


# -- placement and errors --------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_stays_where_the_images_are(monkeypatch):
    # Without a GPU no backward pass on one, and a fake tensor has no numbers to be finite.
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, x, create_graph: [torch.rand_like(x)])
    monkeypatch.setattr(penalties, "_refuse_non_finite", lambda gradient: None)
    masks, halves = band_masks(3, (SIDE, SIDE)), band_masks(2, (SIDE, SIDE))
    monkeypatch.setattr(penalties, "band_masks", lambda *a, **k: halves)  # looks at numbers, too
    monkeypatch.setattr("iaside.spectral.check_partition", lambda m, *size: m)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        net = unfrozen_classifier()
        x, y = torch.rand(6, 3, SIDE, SIDE), torch.zeros(6, dtype=torch.long)
        for default in ("cuda", "cpu"):
            with torch.device(default):
                for penalty in PENALTIES.values():
                    value = penalty(net, x, y)
                    assert value.device.type == "cuda" and value.dtype == torch.float32
                for generator in (None, torch.Generator()):
                    shown = coalition_dropout(x, masks, [0.5, 0.6, 0.7], generator)
                    assert shown.device.type == "cuda"
                    assert gradalign(net, x, y, generator=generator).device.type == "cuda"


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("dead", ["head", "rectifier", "norm", "all"])
def test_a_dead_network_has_finite_penalties_and_slopes(name, dead):
    """No pixel changes its answer: roots and quotients of its input gradient are of 0."""
    net, (x, y) = small_net(), some_batch()
    net[2] = nn.ReLU()
    with torch.no_grad():
        if dead == "head":
            net[5].weight.zero_()
        elif dead == "rectifier":
            net[1].bias.fill_(-100)
        elif dead == "norm":
            net[1].weight.zero_()
        else:
            for parameter in net.parameters():
                parameter.zero_()
    value = PENALTIES[name](net, x, y)
    assert value.isfinite()
    if value.requires_grad:
        slopes = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
        assert all(slope.isfinite().all() for slope in slopes if slope is not None)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: low_frequency_bias(torch.ones(8, 5), "mean"),
            ValueError,
            "reduce='mean' is not known; choose one of sum, sumlog, product",
        ),
        (lambda: low_frequency_bias(torch.ones(1, 5)), ValueError, "at least 2x2 pixels"),
        (
            lambda: low_frequency_bias(torch.fft.rfft2(torch.ones(8, 8))),
            TypeError,
            "give its magnitude",
        ),
        (
            lambda: PENALTIES["lsf"](
                reader(torch.ones(3, 5, 8)),
                torch.rand(1, 3, 5, 8),
                torch.zeros(1, dtype=torch.long),
            ),
            ValueError,
            "images of 5x8 pixels .* at least 6x6",
        ),
        (
            lambda: jafr_radial(None, torch.rand(1, 3, 3, 3), None),
            ValueError,
            "at least 4 pixels a side",
        ),
        (
            lambda: jafr(lambda x: x.flatten(1)[:, :2] * torch.nan, *some_batch(classes=2)),
            ValueError,
            "nan or infinite values: .* lower the learning rate",
        ),
        (
            lambda: gradalign(small_net(), *some_batch(), eps=8),
            ValueError,
            "eps=8 must be above 0 and at most 1",
        ),
        (
            lambda: coalition_dropout(torch.rand(1, 3, 8, 8), band_masks(2, (8, 8)), 1.5),
            ValueError,
            "keep=1.5 must be one probability from 0 to 1",
        ),
        (
            lambda: coalition_dropout(torch.rand(1, 3, 8, 8), band_masks(2, (8, 8)), [1, 1, 1]),
            ValueError,
            "or one for each of 2 bands",
        ),
        (
            lambda: coalition_dropout(torch.rand(1, 3, 9, 8), band_masks(2, (8, 8)), 1),
            ValueError,
            "do not fit images",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
