"""Planted optima, closed forms, constants of the papers, and what must not leak or depend."""

import itertools
import random
import sys

import numpy as np
import pytest
import torch
import torchattacks
from imagecorruptions import corruptions
from scipy.ndimage import gaussian_filter1d
from torch import nn

from iaside.perturb import ATTACKS, NAMES, NOISES, _numpy_seeded, match_energy, perturb
from iaside.spectral import band_masks, split_bands
from iaside.tables import CORRUPTIONS

SIDE, CLASSES, M = 32, 12, 4
MASKS = band_masks(M, (SIDE, SIDE))
EXACT = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")


def photographs(n=3, side=SIDE, seed=0):
    """Smooth images in [0.1, 0.9] with a spectrum that falls as that of photographs does."""
    noise = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
    k = torch.fft.fftfreq(side) * side
    radius = (k[:, None] ** 2 + k[None, : side // 2 + 1].abs() ** 2).sqrt().clamp(min=1)
    x = torch.fft.irfft2(torch.fft.rfft2(noise) / radius, s=(side, side))
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return 0.1 + 0.8 * (x - low) / (high - low)


def small_net(classes=CLASSES):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(64, classes),
        )  # fmt: skip
    net.eval()
    with torch.no_grad():  # sure of itself, and not always of the same class
        net[-1].weight *= 20
        net[-1].bias -= net(photographs(20, seed=9)).mean(0)
    return net


NET = small_net()
X = photographs()
LABELS = NET(X).argmax(1)
NORMAL = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
ZEROS = torch.zeros(3).long()


def plane(x):
    """Two classes on either side of a plane: the best attack on class 0 is known."""
    z = (x * NORMAL).sum(dim=(1, 2, 3))
    return torch.stack([-z, z], 1)


def flat(x):
    """A model that is sure of class 0, with a gradient of nothing but zeros."""
    return 0 * x.mean(dim=(1, 2, 3))[:, None] + torch.tensor([2.0, 1.0, 0.0])


def loss(y, net=NET, labels=LABELS):
    return nn.functional.cross_entropy(net(y), labels, reduction="none").detach()


def settings(name):
    """A strength for every name; attacks also get their model."""
    if name in CORRUPTIONS:
        return {"severity": 3}
    if name in ATTACKS:
        attacked = {"model": NET, "labels": LABELS}
        return attacked | ({"eps": 0.02} if name in ("fgsm", "pgd") else {})
    return {
        "white_noise": {"sigma": 0.1},
        "poisson": {"photons": 50},
        "salt_and_pepper": {"amount": 0.1},
        "gaussian_blur": {"kernel": 5},
    }[name]


# every plain name, and the two that can be confined to a band
FORMS = {name: (name, settings(name)) for name in NAMES} | {
    f"{name} in a band": (name, settings(name) | {"band": 2, "masks": MASKS})
    for name in ("white_noise", "pgd")
}
EVERY_FORM = pytest.mark.parametrize("name, options", FORMS.values(), ids=FORMS)


def piece(options, i):
    """The options for image i alone."""
    return options | ({"labels": options["labels"][i : i + 1]} if "labels" in options else {})


# -- what holds for all of them ------------------------------------------------------------------


@EVERY_FORM
@pytest.mark.filterwarnings("error")
def test_same_seed_same_bytes_and_nothing_leaks(name, options, capfd):
    x, states = X.clone(), (torch.get_rng_state(), np.random.get_state()[1], random.getstate())
    y = perturb(x, name, seed=3, **options)
    after = (torch.get_rng_state(), np.random.get_state()[1], random.getstate())
    assert all(np.array_equal(a, b) for a, b in zip(states[:2], after[:2], strict=True))
    assert states[2] == after[2]
    torch.manual_seed(1), np.random.seed(1)  # nor does it look at the caller's generators
    assert y.equal(perturb(x, name, seed=3, **options))
    assert x.equal(X) and not y.equal(X)
    assert y.shape == x.shape and y.dtype == x.dtype and not y.requires_grad
    assert capfd.readouterr() == ("", "")
    if "band" not in options:
        assert y.min() >= 0 and y.max() <= 1


@EVERY_FORM
def test_another_seed_is_another_perturbation(name, options):
    pair = [perturb(X, name, seed=seed, **options) for seed in (0, 1)]
    same = name in (*EXACT, "gaussian_blur", "fgsm", "sparsefool")
    assert pair[0].equal(pair[1]) is same


@EVERY_FORM
def test_an_image_does_not_depend_on_its_batch_mates(name, options):
    whole = perturb(X, name, **options)
    for i in (1, 2):
        alone = perturb(X[i : i + 1], name, first=i, **piece(options, i))
        assert (alone - whole[i]).abs().max() < 1e-5


def test_images_of_a_batch_get_different_noise():
    same = X[:1].expand(2, -1, -1, -1)
    for name in ("white_noise", "pgd", "gaussian_noise", "impulse_noise", "glass_blur", "pixle"):
        options = settings(name)
        if "labels" in options:
            options["labels"] = LABELS[:1].expand(2)
        y = perturb(same, name, **options)
        assert not y[0].equal(y[1]), name


@pytest.mark.parametrize("name", [*NOISES, "fgsm", "pgd", "fog"])
def test_double_precision_stays(name):
    options = settings(name)
    if "model" in options:
        options["model"] = small_net().double()
    assert perturb(X.double(), name, **options).dtype == torch.float64


@pytest.mark.parametrize(
    "name, options",
    [
        ("white_noise", {"sigma": 0}),
        ("salt_and_pepper", {"amount": 0}),
        ("gaussian_blur", {"kernel": 1}),
        ("fgsm", {"model": NET, "labels": LABELS, "eps": 0}),
        ("pgd", {"model": NET, "labels": LABELS, "eps": 0}),
        ("pgd", {"model": NET, "labels": LABELS, "eps": 0, "band": 1, "masks": MASKS}),
    ],
)
def test_no_strength_no_change(name, options):
    assert perturb(X, name, **options).equal(X)


# -- noise and blur ------------------------------------------------------------------------------


def test_white_noise_has_its_moments():
    d = perturb(torch.full((4, 3, 64, 64), 0.5), "white_noise", sigma=0.2, clamp=False) - 0.5
    assert abs(d.mean()) < 0.004 and abs(d.std() - 0.2) < 0.004
    assert d.min() < -0.5 and perturb(X, "white_noise", sigma=0.5).min() == 0


def test_poisson_counts_photons():
    levels = torch.tensor([0.1, 0.4, 0.8]).view(3, 1, 1, 1).expand(3, 3, 64, 64)
    y = perturb(levels, "poisson", photons=200)
    assert torch.allclose(y.mean(dim=(1, 2, 3)), levels[:, 0, 0, 0], atol=0.004)
    assert torch.allclose(y.var(dim=(1, 2, 3)), levels[:, 0, 0, 0] / 200, rtol=0.05)
    assert torch.allclose((y * 200).round(), y * 200, atol=1e-3)


def test_salt_and_pepper_hits_whole_pixels_evenly():
    x = torch.full((2, 3, 100, 100), 0.5)
    y = perturb(x, "salt_and_pepper", amount=0.2)
    assert set(y.unique().tolist()) == {0.0, 0.5, 1.0}
    assert (y == y[:, :1]).all()
    assert abs((y == 0).float().mean() - 0.1) < 0.01 and abs((y == 1).float().mean() - 0.1) < 0.01


@pytest.mark.parametrize("kernel, sigma", [(3, 0.8), (5, 1.1), (7, 1.4)])
def test_blur_is_scipys(kernel, sigma):
    expected = X.double().numpy()
    for axis in (2, 3):
        expected = gaussian_filter1d(expected, sigma, axis=axis, mode="mirror", radius=kernel // 2)
    assert np.allclose(perturb(X.double(), "gaussian_blur", kernel=kernel), expected, atol=1e-7)
    assert np.allclose(
        perturb(X.double(), "gaussian_blur", kernel=kernel, sigma=sigma), expected, atol=1e-7
    )


# -- the corruptions of ImageNet-C ---------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_five_changes_images_more_than_one(name):
    x = photographs(side=64)
    change = [(perturb(x, name, severity=s) - x).square().mean(dim=(1, 2, 3)) for s in (1, 5)]
    assert change[1].mean() > change[0].mean()
    # frost 1 adds white to the whole image, frost 5 also darkens it: a dark image may win
    assert name == "frost" or (change[1] > change[0]).all()


def test_strengths_are_those_of_imagenet_c():
    x = torch.full((1, 3, 64, 64), 0.5)
    for severity, sigma in ((1, 0.08), (2, 0.12)):
        y = perturb(x, "gaussian_noise", severity=severity)
        assert abs((y - x).std() - sigma) < 0.004
    for severity, amount in ((1, 0.03), (5, 0.27)):
        y = perturb(x, "impulse_noise", severity=severity)
        assert abs(((y == 0) | (y == 1)).float().mean() - amount) < 0.01
    x = photographs(side=64)
    grey = x.mean(dim=(2, 3), keepdim=True)
    y = perturb(x, "contrast", severity=4)
    assert torch.allclose(y, grey + 0.1 * (x - grey), atol=1.5 / 255)  # rounded in, cut off out


def test_every_byte_of_an_8_bit_image_arrives_as_it_is():
    levels = (torch.arange(256) / 255).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    assert perturb(levels, "pixelate", severity=1).equal(levels)


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_corruptions_take_small_and_oblong_images(size):
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    for name in CORRUPTIONS:
        assert perturb(x, name, severity=5).shape == x.shape


# -- attacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1 / 255, 0.05, 0.2])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_attacks_stay_in_their_ball_and_in_range(name, eps):
    y = perturb(X, name, model=NET, labels=LABELS, eps=eps)
    assert (y - X).abs().max() <= eps + 1e-6
    assert y.min() >= 0 and y.max() <= 1
    assert (loss(y) > loss(X)).all()


def test_pgd_is_at_least_as_strong_as_fgsm():
    for eps in (1 / 255, 4 / 255):
        fgsm, pgd = (
            loss(perturb(X, n, model=NET, labels=LABELS, eps=eps)) for n in ("fgsm", "pgd")
        )
        assert (pgd >= fgsm - 1e-4).all()


def test_fgsm_and_pgd_find_the_corner_that_a_linear_model_has():
    best = (X + 0.03 * NORMAL.sign()).clamp(0, 1)
    for name in ("fgsm", "pgd"):
        y = perturb(X, name, model=plane, labels=ZEROS, eps=0.03)
        assert torch.allclose(y, best, atol=1e-6)


def test_pgd_starts_at_random_and_takes_its_steps():
    one = perturb(X, "pgd", model=plane, labels=ZEROS, eps=0.03, steps=1)
    moved = ((one - X) * NORMAL.sign()) / 0.03
    # from a uniform start in (-1, 1), a quarter towards the corner, cut off at 1
    assert -0.75 - 1e-4 <= moved.min() < -0.7 and abs(moved.mean() - 0.2344) < 0.02


def test_sparsefool_fools_with_few_pixels_and_leaves_misclassified_images_alone():
    labels = LABELS.clone()
    labels[2] = (labels[2] + 1) % CLASSES
    y = perturb(X, "sparsefool", model=NET, labels=labels)
    assert (NET(y).argmax(1)[:2] != labels[:2]).all()
    changed = ((y - X).abs() > 0).any(1).float().mean(dim=(1, 2))
    assert (changed[:2] > 0).all() and (changed[:2] < 0.25).all()
    assert y[2].equal(X[2])


def test_sparsefool_sees_ten_classes_and_fools_all(monkeypatch):
    module = sys.modules["iaside.perturb"]  # iaside.perturb itself is the function
    seen, inner = [], module._deepfool
    monkeypatch.setattr(
        module, "_deepfool", lambda *args: seen.append(len(args[-1])) or inner(*args)
    )
    net = small_net(classes=200)
    labels = net(X).argmax(1)
    y = perturb(X, "sparsefool", model=net, labels=labels)
    assert set(seen) == {10}
    assert (net(y).argmax(1) != labels).all()


def test_sparsefool_changes_the_steepest_values_until_the_plane_is_reached():
    """A plane is crossed in one step: three times the distance to it, by the published solver."""
    def far(x):
        return plane(x) + torch.tensor([40.0, -40.0])

    y = perturb(X, "sparsefool", model=far, labels=ZEROS)
    for image, found in zip(X, y, strict=True):
        left, expected = 3 * (40 - (image * NORMAL).sum().item()), image.flatten().clone()
        for i in NORMAL.flatten().abs().argsort(descending=True).tolist():  # one at a time
            w = NORMAL.flatten()[i].item()
            step = min((1 - expected[i] if w > 0 else expected[i]).item(), left / abs(w))
            expected[i] += step if w > 0 else -step
            left -= step * abs(w)
            if left <= 0:
                break
        expected = (image.flatten() + 1.02 * (expected - image.flatten())).clamp(0, 1)
        assert 10 < (expected != image.flatten()).sum() < 500
        assert (found.flatten() - expected).abs().max() < 1e-3
    assert (far(y).argmax(1) == 1).all()


def test_the_steps_of_sparsefool_add_up_until_it_gives_up():
    """A value counts 1 at most, however steep it looks at 0, and 6.5 are needed: seven values."""
    def saturating(x):
        total = (1 - torch.exp(-20 * x)).sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(total, 6.5), total], 1)

    black = torch.zeros(1, 3, SIDE, SIDE)
    for steps, values, answer in ((1, 1, 0), (4, 4, 0), (20, 7, 1)):
        y = perturb(black, "sparsefool", model=saturating, labels=ZEROS[:1], steps=steps)
        assert (y != black).sum() == values and saturating(y).argmax(1) == answer


def test_pixle_only_moves_pixels():
    y = perturb(X, "pixle", model=NET, labels=LABELS)
    for before, after in zip(X, y, strict=True):
        colours = {tuple(c) for c in before.flatten(1).T.tolist()}
        assert all(tuple(c) in colours for c in after.flatten(1).T.tolist())
    assert (loss(y) > loss(X)).all()


def test_pixle_is_that_of_torchattacks_without_showing_an_image_twice_in_turn():
    shown = []

    def model(x):
        shown.append(x)
        return NET(x)

    labels = NET(X).argmax(1)
    y = perturb(X[:1], "pixle", model=model, labels=labels[:1], seed=3, first=2)
    shown = shown[1:]  # the first look at the outputs is no part of it
    assert len(shown) > 4 and not any(a.equal(b) for a, b in itertools.pairwise(shown))
    with _numpy_seeded(int(np.random.SeedSequence((3, 2)).generate_state(1)[0])):
        theirs = torchattacks.Pixle(NET)(X[:1], labels[:1])
    assert y.equal(theirs)


ATTACK_FORMS = {k: form for k, form in FORMS.items() if form[0] in ATTACKS}


@pytest.mark.parametrize("name, options", ATTACK_FORMS.values(), ids=ATTACK_FORMS)
def test_attacks_leave_the_model_and_the_callers_mode_as_they_were(name, options):
    net = small_net()
    net[0].requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    y = perturb(X, name, **options | {"model": net})
    assert [p.requires_grad for p in net.parameters()] == [False] * 2 + [True] * 6
    assert all(p.grad is None for p in net.parameters())
    assert not any(m.training for m in net.modules())
    assert all(v.equal(before[k]) for k, v in net.state_dict().items())
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = options | {"model": net, "labels": LABELS.clone()}
            assert y.equal(perturb(X.clone(), name, **inside))
            assert not torch.is_grad_enabled()
    assert y.equal(perturb(X, name, **options | {"model": lambda x: net(x)}))


def test_foolbox_agrees_with_torchattacks():
    foolbox = pytest.importorskip("foolbox", reason="a second opinion, at development only")
    x = photographs(48, seed=1)
    labels = NET(x).argmax(1)
    other = foolbox.PyTorchModel(NET, bounds=(0, 1), device="cpu")
    theirs = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack(),
        "pgd": foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=10),
    }
    for name, attack in theirs.items():
        eps = 0.5 / 255
        y = perturb(x, name, model=NET, labels=labels, eps=eps)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, z, success = attack(other, x, labels, epsilons=eps)
        ours = NET(y).argmax(1) != labels
        assert 0.1 < ours.float().mean() < 0.9, "an easy or hopeless case decides nothing"
        assert (ours == success).float().mean() >= (1 if name == "fgsm" else 0.95)
        if name == "fgsm":
            assert (y - z).abs().max() < 1e-6


def test_what_is_compiled_for_glass_blur_is_kept_for_other_processes():
    perturb(X[:1], "glass_blur", severity=1)
    assert corruptions._shuffle_pixels_njit_glass_blur.stats.cache_path is not None


# -- energy and bands ----------------------------------------------------------------------------


@EVERY_FORM
def test_energy_is_the_fraction_asked_for(name, options):
    options = {k: v for k, v in options.items() if k != "sigma" or name != "white_noise"}
    if "band" in options:
        options.pop("eps", None)
    y = perturb(X, name, energy=0.1, **options)
    ratio = (y - X).double().square().sum((1, 2, 3)) / X.double().square().sum((1, 2, 3))
    assert (ratio - 0.1).abs().max() < 1e-6


def test_energy_rescales_and_clamps_only_when_asked():
    y = perturb(X, "salt_and_pepper", amount=0.3)
    scaled = perturb(X, "salt_and_pepper", amount=0.3, energy=0.9)
    assert scaled.allclose(match_energy(X, y, 0.9)) and scaled.max() > 1
    clamped = perturb(X, "salt_and_pepper", amount=0.3, energy=0.9, clamp=True)
    assert clamped.equal(scaled.clamp(0, 1))


@pytest.mark.parametrize("band", range(M))
@pytest.mark.parametrize("masks", [MASKS, lambda x: split_bands(x, MASKS)], ids=["masks", "call"])
def test_a_confined_perturbation_has_nothing_outside_its_band(band, masks):
    forms = [
        ("white_noise", {"sigma": 0.05}),
        ("white_noise", {"energy": 0.1}),
        ("pgd", {"model": NET, "labels": LABELS, "eps": 0.05}),
        ("pgd", {"model": NET, "labels": LABELS, "energy": 0.01}),
    ]
    for name, options in forms:
        for clamp in (None, True):
            y = perturb(X, name, band=band, masks=masks, clamp=clamp, **options)
            energy = split_bands(y - X, MASKS).double().square().sum(dim=(1, 2, 3, 4))
            outside = (energy.sum() - energy[band]) / energy.sum()
            assert outside < 1e-6
            assert clamp is None or (y.min() >= 0 and y.max() <= 1)


def test_confined_noise_has_exactly_its_size_in_every_band():
    for band in range(M):
        d = perturb(X, "white_noise", sigma=0.05, band=band, masks=MASKS) - X
        assert torch.allclose(d.square().mean(dim=(1, 2, 3)).sqrt(), torch.tensor(0.05), rtol=1e-4)


@pytest.mark.parametrize("band", range(M))
def test_confined_pgd_finds_the_optimum_that_a_linear_model_has(band):
    way = split_bands(NORMAL[None], MASKS)[band]
    way = way / way.square().mean().sqrt()  # of root mean square 1
    y = perturb(X, "pgd", model=plane, labels=ZEROS, eps=0.02, steps=40, band=band, masks=MASKS)
    cosine = nn.functional.cosine_similarity((y - X).flatten(1), way.flatten(1))
    assert (cosine > 0.999).all()
    assert torch.allclose((y - X).square().mean(dim=(1, 2, 3)).sqrt(), torch.tensor(0.02))


def test_confined_pgd_is_stronger_than_noise_of_its_band_and_size():
    for band in range(M):
        confined = {"band": band, "masks": MASKS}
        y = perturb(X, "pgd", model=NET, labels=LABELS, eps=0.05, **confined)
        assert ((y - X).square().mean(dim=(1, 2, 3)).sqrt() <= 0.05 + 1e-6).all()
        assert (loss(y) > loss(perturb(X, "white_noise", sigma=0.05, **confined))).all()


def test_clamped_confined_noise_only_shrinks():
    free, fitted = (
        perturb(X, "white_noise", sigma=0.2, band=3, masks=MASKS, clamp=c) - X for c in (None, True)
    )
    assert (free + X).max() > 1
    factor = (fitted * free).sum((1, 2, 3)) / free.square().sum((1, 2, 3))
    assert torch.allclose(fitted, factor.view(3, 1, 1, 1) * free, atol=1e-6)
    assert (factor > 0.05).all() and (factor <= 1).all()
    edge = torch.minimum(X + fitted, 1 - X - fitted).amin(dim=(1, 2, 3))
    assert (edge < 1e-6).all()  # and no more than needed
    small = {"sigma": 1e-3, "band": 3, "masks": MASKS}
    free, fitted = (perturb(X, "white_noise", clamp=c, **small) for c in (None, True))
    assert fitted.allclose(free, atol=1e-6)  # what fits is left alone


# -- errors --------------------------------------------------------------------------------------


AIM = {"model": NET, "labels": LABELS}
SATURATED = torch.cat([X[:2], torch.ones_like(X[:1])])
ERRORS = [
    (X[0], "fgsm", {}, TypeError, r"\(3, 32, 32\)"),
    (X.half(), "white_noise", {"sigma": 1}, TypeError, "float16.*float32"),
    ((X * 255).byte(), "white_noise", {"sigma": 1}, TypeError, "uint8"),
    (X[:0], "white_noise", {"sigma": 1}, ValueError, "no images"),
    (2 * X, "white_noise", {"sigma": 1}, ValueError, r"range from .* to 1\.8.*\[0, 1\]"),
    (X * torch.nan, "white_noise", {"sigma": 1}, ValueError, "range from nan"),
    (X, "gauss", {}, ValueError, "'gauss'.*white_noise.*pgd.*jpeg_compression"),
    (X, "white_noise", {}, ValueError, "either sigma= or energy="),
    (X, "white_noise", {"sigma": 1, "energy": 0.1}, ValueError, "either sigma= or energy="),
    (X, "white_noise", {"severity": 1}, ValueError, "severity= means nothing.*takes sigma, band"),
    (X, "snow", {}, ValueError, "snow needs severity="),
    (X, "snow", {"severity": 3, "sigma": 1}, ValueError, "sigma= means nothing to snow"),
    (X, "snow", {"severity": 6}, ValueError, "severity=6.*1, 2, 3, 4 or 5"),
    (X, "snow", {"severity": True}, ValueError, "severity=True"),
    (X, "white_noise", {"sigma": -1}, ValueError, "sigma=-1"),
    (X, "white_noise", {"sigma": float("nan")}, ValueError, "sigma=nan"),
    (X, "poisson", {"photons": 0}, ValueError, "photons=0.*above 0"),
    (X, "salt_and_pepper", {"amount": 1.5}, ValueError, "amount=1.5"),
    (X, "gaussian_blur", {"kernel": 4}, ValueError, "kernel=4.*odd"),
    (X, "gaussian_blur", {"kernel": 65}, ValueError, "kernel=65.*at most 63"),
    (X, "gaussian_blur", {"kernel": 3, "sigma": 0}, ValueError, "sigma=0"),
    (X, "white_noise", {"sigma": 1, "seed": -1}, ValueError, "seed=-1"),
    (X, "white_noise", {"sigma": 1, "seed": None}, ValueError, "seed=None"),
    (X, "white_noise", {"sigma": 1, "first": 0.5}, ValueError, "first=0.5"),
    (X, "white_noise", {"energy": 0}, ValueError, "energy=0"),
    (X, "white_noise", {"sigma": 1, "band": 0}, ValueError, "band= and masks= go together"),
    (X, "white_noise", {"sigma": 1, "band": 4, "masks": MASKS}, ValueError, "band=4.*0 to 3"),
    (X, "white_noise", {"sigma": 1, "band": 0, "masks": band_masks(2, (8, 8))}, ValueError, "8"),
    (X, "white_noise", {"sigma": 1, "band": 0, "masks": 0 * MASKS}, ValueError, "empty band"),
    (X, "fgsm", AIM | {"eps": 0.1, "band": 0, "masks": MASKS}, ValueError, "band= means nothing"),
    (X, "fgsm", AIM | {"eps": 0.1, "steps": 3}, ValueError, "steps= means nothing to fgsm"),
    (X, "fgsm", AIM, ValueError, "fgsm needs eps="),
    (X, "fgsm", AIM | {"eps": 8}, ValueError, "eps=8.*4/255"),
    (X, "pgd", AIM, ValueError, "pgd needs eps="),
    (X, "pgd", AIM | {"eps": 0.1, "steps": 0}, ValueError, "steps=0"),
    (X, "pgd", AIM | {"band": 0, "masks": MASKS}, ValueError, "either eps= or energy="),
    (X, "pgd", {"labels": LABELS, "eps": 0.1}, ValueError, "pgd needs model="),
    (X, "pixle", {"model": NET}, ValueError, "pixle needs labels="),
    (X, "pixle", {"model": 3, "labels": LABELS}, TypeError, "int.*callable"),
    (X, "pixle", AIM | {"labels": LABELS[:2]}, ValueError, r"shape \(2,\): 2 labels for 3 images"),
    (X, "pixle", AIM | {"labels": LABELS.float()}, TypeError, "float32.*integer"),
    (X, "pixle", AIM | {"labels": LABELS + 50}, ValueError, "12 classes, 0 to 11"),
    (X, "pixle", AIM | {"labels": LABELS - 50}, ValueError, "12 classes, 0 to 11"),
    (X, "pixle", AIM | {"model": small_net().train()}, ValueError, r"training mode.*eval\(\)"),
    (X, "pixle", AIM | {"model": lambda x: x}, ValueError, r"\(2, 3, 32, 32\).*\(B, classes\)"),
    (X, "pixle", AIM | {"model": lambda x: NET(x) * torch.nan}, ValueError, "nan or inf"),
    (X[..., :31], "pixle", AIM, ValueError, "square.*32x31"),
    (X[..., :31], "snow", {"severity": 1}, ValueError, "at least 32 pixels.*32x31"),
    (X[:, :1], "snow", {"severity": 1}, ValueError, "3 channels.*got 1"),
    (X, "sparsefool", AIM | {"labels": (LABELS + 1) % CLASSES, "energy": 0.1}, ValueError,
     r"images \[0, 1, 2\] are unchanged.*predictions"),
    (X, "sparsefool", AIM | {"model": flat, "labels": ZEROS}, ValueError, "nan.*gradients"),
    (0 * X, "white_noise", {"energy": 0.1}, ValueError, r"\[0, 1, 2\] are black"),
    (SATURATED, "white_noise", {"sigma": 0.1, "band": 3, "masks": MASKS, "clamp": True},
     ValueError, r"images \[2\] have pixels at 0 or 1"),
]  # fmt: skip


@pytest.mark.parametrize("name", [*ATTACKS, "confined"])
def test_attacks_show_images_in_the_layout_that_is_fastest(name):
    def watched(x):
        assert x.is_contiguous(memory_format=torch.channels_last)
        return NET(x)

    how = {"eps": 0.1, "band": 0, "masks": MASKS} if name == "confined" else settings(name)
    how |= {"model": watched, "labels": LABELS}
    perturb(X, "pgd" if name == "confined" else name, **how)


@pytest.mark.parametrize("x, name, options, kind, text", ERRORS, ids=range(len(ERRORS)))
def test_errors_name_what_was_given_and_what_to_do(x, name, options, kind, text, capfd):
    with pytest.raises(kind, match=text):
        perturb(x, name, **options)
    assert capfd.readouterr() == ("", "")


def test_missing_packages_are_named_with_the_line_that_installs_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps torchattacks==3\.5\.1$"):
        perturb(X, "fgsm", eps=0.1, **AIM)
    with pytest.raises(ImportError, match=r"pip install 'iaside\[corruptions\]'$"):
        perturb(X, "fog", severity=1)
    confined = {"eps": 0.1, "band": 0, "masks": MASKS}
    assert perturb(X, "pgd", **AIM, **confined).shape == X.shape  # needs neither
