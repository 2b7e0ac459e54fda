"""Planted optima, closed forms, constants of the papers, and what must not leak or depend."""

import itertools
import random
import sys

import numpy as np
import pytest
import torch
import torchattacks
from scipy.ndimage import gaussian_filter1d
from torch import nn

from iaside.backend.seeds import numpy_seeded, seeds_of
from iaside.inputs.differentiable import probed_with_labels
from iaside.robustness.attacks import ATTACKS, _of_restart
from iaside.robustness.corruptions import _texture
from iaside.robustness.energy import match_energy
from iaside.robustness.noise import NOISES
from iaside.robustness.perturb import NAMES, perturb, perturb_noting
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
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(64, classes),
        )
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
        more = {"fgsm": {"eps": 0.02}, "pgd": {"eps": 0.02}}
        more["pgd_restarts"] = {"eps": 0.02, "steps": 3}
        return attacked | more.get(name, {})
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


def test_every_byte_of_an_8_bit_image_arrives_as_it_is():
    levels = (torch.arange(256) / 255).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    assert perturb(levels, "pixelate", severity=1).equal(levels)


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
    module = sys.modules["iaside.robustness.attacks"]
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


def test_sparsefool_changes_equally_steep_values_wherever_they_are():
    """All slopes are equal: 12 of 192 values must change, and every one is as likely."""

    def level(x):
        total = x.sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(total, 98.0), total], 1)

    n, gray = 60, torch.full((60, 3, 8, 8), 0.5)
    y = perturb(gray, "sparsefool", model=level, labels=ZEROS[:1].expand(n))
    changed = (y != gray).double()
    assert changed.flatten(1).sum(1).tolist() == [12] * n
    for dims, cells in (((0, 2, 3), 3), ((0, 1, 3), 8), ((0, 1, 2), 8)):  # channels, rows, columns
        share, error = changed.sum(dims) / (12 * n), (1 / cells * (1 - 1 / cells) / (12 * n)) ** 0.5
        assert ((share - 1 / cells).abs() < 4.5 * error).all()
    part = perturb(gray[40:], "sparsefool", model=level, labels=ZEROS[:1].expand(20), first=40)
    assert part.equal(y[40:]), "an image draws from its place in the set"


def test_the_steps_of_sparsefool_add_up_until_it_gives_up():
    """A value counts 1 at most, however steep it looks at 0, and 6.5 are needed: seven values."""

    def saturating(x):
        total = (1 - torch.exp(-20 * x)).sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(total, 6.5), total], 1)

    black = torch.zeros(1, 3, SIDE, SIDE)
    for steps, values, answer in ((1, 1, 0), (4, 4, 0), (20, 7, 1)):
        y = perturb(black, "sparsefool", model=saturating, labels=ZEROS[:1], steps=steps)
        assert (y != black).sum() == values and saturating(y).argmax(1) == answer


# Image 1 alone is bright: these models give it, and no other, no usable gradient.
ONE_BRIGHT = (X / 5 + torch.tensor([0.1, 0.7, 0.1]).view(3, 1, 1, 1)).clamp(0, 1)


def is_bright(x):
    return (x.detach().mean((1, 2, 3)) > 0.5).view(-1, 1, 1, 1)


def rounds(x):
    return NET(torch.where(is_bright(x), (255 * x).round() / 255, x))


def divides_by_zero(x):
    dark = (~is_bright(x)).to(x).flatten()
    return NET(x) + ((0 * x).sum((1, 2, 3)) + dark).sqrt()[:, None]


ALONG_GRADIENTS = {
    "fgsm": ("fgsm", {"eps": 0.02}),
    "pgd": ("pgd", {"eps": 0.02}),
    "pgd_restarts": ("pgd_restarts", {"eps": 0.02, "steps": 3}),
    "confined pgd": ("pgd", {"eps": 0.02, "band": 0, "masks": MASKS}),
    "sparsefool": ("sparsefool", {}),
}


@pytest.mark.parametrize("model", [rounds, divides_by_zero])
@pytest.mark.parametrize("name, options", ALONG_GRADIENTS.values(), ids=ALONG_GRADIENTS)
def test_images_without_a_usable_gradient_are_named_and_the_others_attacked(name, options, model):
    options = options | {"model": model, "labels": model(ONE_BRIGHT).argmax(1).detach()}
    with pytest.warns(RuntimeWarning, match=rf"^{name} found no usable gradient.*images \[1\]"):
        y = perturb(ONE_BRIGHT, name, **options)
    other = (y != ONE_BRIGHT).flatten(1).any(1)
    random_start = name in ("pgd", "pgd_restarts")
    assert other[[0, 2]].all() and (other[1] == random_start)
    alone, usable = perturb_noting(ONE_BRIGHT[1:2], name, first=1, **piece(options, 1))
    assert torch.allclose(alone, y[1:2], atol=1e-6) and usable.tolist() == [False]


class WithoutSlope(torch.autograd.Function):
    """The identity, with no slope (nan) at the first value of each image."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        slope = slope.clone()
        slope[:, 0, 0, 0] = torch.nan
        return slope


@pytest.mark.parametrize("name, options", ALONG_GRADIENTS.values(), ids=ALONG_GRADIENTS)
def test_signs_are_followed_where_one_pixel_has_no_slope_and_directions_are_not(name, options):
    """fgsm and pgd move all other pixels as if that one were not there: that is an attack."""
    broken = lambda x: NET(WithoutSlope.apply(x))  # noqa: E731
    labels = NET(X).argmax(1)
    y, usable = perturb_noting(X, name, model=broken, labels=labels, **options)
    if name == "sparsefool" or "band" in options:
        assert not usable.any()
        return
    whole = perturb(X, name, model=NET, labels=labels, **options)
    same = torch.isclose(y, whole, atol=1e-6).flatten(1)[:, 1:].double().mean()
    assert usable.all() and same > 0.99, "later gradients of pgd see that pixel where it was"


class Barrier(nn.Module):
    """Two classes by the distance from a start that is known: attacks from there climb nowhere.

    Class 0 wins but where the noise of the start is nearer to the second draw of the image than
    to the first.
    """

    def __init__(self, x, seeds, eps, needed):
        super().__init__()
        self.starts = [
            torch.stack(
                [
                    torch.empty(image.shape).uniform_(
                        -eps, eps, generator=torch.Generator().manual_seed(_of_restart(seed, k))
                    )
                    for image, seed in zip(x, seeds, strict=True)
                ]
            )
            for k in range(3)
        ]
        self.x, self.needed, self.shown = x, needed, []

    def forward(self, x):
        self.shown.append(len(x))
        place = (x[:, None] - self.x).square().sum((2, 3, 4)).argmin(1)
        move = x - self.x[place]
        near = [(move - (start[place])).square().sum((1, 2, 3)) for start in self.starts]
        of_start = torch.stack(near).argmin(0)
        broken = of_start >= self.needed[place]
        right = torch.where(broken, -1.0, 1.0 + of_start.float())
        slope = 1e-3 * move.mean((1, 2, 3))
        return torch.stack([right + slope, -right - slope], 1)


def test_a_restart_is_made_of_the_images_that_stand_and_the_first_that_breaks_one_counts():
    """The first start breaks image 0, the second image 1, none image 2: 3, 2, 1 are attacked."""
    eps, steps, x = 0.02, 1, 0.3 + 0.4 * X
    needed = torch.tensor([0, 1, 9])
    net = Barrier(x, seeds_of(5, 0, 3), eps, needed).eval()
    model, _ = probed_with_labels(net, x, ZEROS)
    net.shown.clear()
    y, usable = perturb_noting(
        x, "pgd_restarts", model=model, labels=ZEROS, eps=eps, seed=5, steps=steps
    )
    assert net.shown == [3] * (steps + 1) + [2] * (steps + 1) + [1] * (steps + 1)
    assert usable.all() and (y - x).abs().max() <= eps + 1e-6
    near = torch.stack([(y - x - s).square().sum((1, 2, 3)) for s in net.starts]).argmin(0)
    assert near.tolist() == [0, 1, 0], "of the image that stands, the one with the least margin"
    assert net(y).argmax(1).tolist() == [1, 1, 0]
    for i in range(3):  # each for itself
        alone = perturb_noting(
            x[i : i + 1],
            "pgd_restarts",
            model=model,
            labels=ZEROS[:1],
            eps=eps,
            seed=5,
            first=i,
            steps=steps,
        )[0]
        assert torch.allclose(alone, y[i : i + 1], atol=1e-6)


def test_restarts_break_what_one_start_breaks_and_more():
    """The first start is that of pgd; on a rugged network others find what it does not."""
    x = photographs(40, seed=3)
    waves = torch.randn(5, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))

    def rugged(x):
        return (5 * (x.flatten(1) - 0.5) @ waves.T).sin().cumsum(1)

    labels = rugged(x).argmax(1)
    how = {"model": rugged, "labels": labels, "eps": 0.6 / 255, "steps": 10}
    one, several = (
        rugged(perturb(x, name, **how)).argmax(1) != labels for name in ("pgd", "pgd_restarts")
    )
    assert several[one].all() and several.sum() > one.sum() + 4


def test_what_needs_no_gradient_is_not_said_to_have_none(recwarn):
    """Pixle asks for none, and SparseFool of no image that is misclassified already."""
    labels = rounds(ONE_BRIGHT).argmax(1)
    _, usable = perturb_noting(ONE_BRIGHT, "pixle", model=rounds, labels=labels)
    assert usable.all()
    wrong = (labels + 1) % CLASSES
    y, usable = perturb_noting(ONE_BRIGHT, "sparsefool", model=flat, labels=wrong % 2 + 1)
    assert usable.all() and y.equal(ONE_BRIGHT)
    assert perturb_noting(X, "white_noise", sigma=0.1)[1].all()
    assert not [w for w in recwarn if "usable" in str(w.message)]


def test_one_usable_step_is_enough():
    """Flat where pgd begins, at the image less its random start, and steep elsewhere."""
    calls = []

    def wakes(x):
        calls.append(len(x))
        return NET(x) if len(calls) > 5 else NET(x.round())

    _, usable = perturb_noting(X, "pgd", model=wakes, labels=LABELS, eps=0.02)
    assert usable.all() and len(calls) > 6


def in_numpy(x):
    return torch.from_numpy(x.numpy().mean((2, 3)))


def by_dlpack(x):
    return torch.from_numpy(np.from_dlpack(x).mean((2, 3)))


def detached(x):
    return NET(x.detach())


@torch.no_grad()
def without_grad(x):
    return NET(x)


def trained_only(x):
    """Its outputs have a gradient, but of its own weights."""
    return TRAINABLE(x.detach())


TRAINABLE = small_net().requires_grad_(True)


@pytest.mark.parametrize("model", [in_numpy, by_dlpack, detached, without_grad, trained_only])
@pytest.mark.parametrize("name, options", ALONG_GRADIENTS.values(), ids=ALONG_GRADIENTS)
def test_models_that_give_no_gradient_are_refused_by_the_name_of_the_attack(name, options, model):
    options = options | {"model": model, "labels": model(X).argmax(1)}
    with pytest.raises(ValueError, match=f"^{name} needs gradients.*pixle, noise") as found:
        perturb(X, name, **options)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("model", [in_numpy, without_grad])
def test_pixle_attacks_models_that_give_no_gradient(model):
    labels = model(X).argmax(1)
    assert not perturb(X, "pixle", model=model, labels=labels).equal(X)


def test_other_faults_of_a_model_keep_their_words():
    def breaks(x):
        if x.requires_grad:
            raise RuntimeError("out of luck")
        return NET(x)

    with pytest.raises(RuntimeError, match="^out of luck$"):
        perturb(X, "fgsm", model=breaks, labels=LABELS, eps=0.1)


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
    with numpy_seeded(int(np.random.SeedSequence((3, 2)).generate_state(1)[0])):
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
@pytest.mark.slow
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
    (X[:0], "white_noise", {"sigma": 1}, ValueError, "images is empty"),
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
    (X, "white_noise", {"sigma": 1e39}, ValueError, r"made nan or inf of images \[0, 1, 2\]"),
    (X, "white_noise", {"energy": 1e80}, ValueError, r"images \[0, 1, 2\].* too strong"),
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
    (
        X,
        "white_noise",
        {"sigma": 1, "band": 0, "masks": torch.cat([0 * MASKS[:1], MASKS])},
        ValueError,
        "empty band",
    ),
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
    (X, "pixle", AIM | {"labels": LABELS + 0.5}, ValueError, "image 0 is .*5; .*integers"),
    (X, "pixle", AIM | {"labels": LABELS + 50}, ValueError, "12 classes, 0 to 11"),
    (X, "pixle", AIM | {"labels": LABELS - 50}, ValueError, "12 classes, 0 to 11"),
    (X, "pixle", AIM | {"model": small_net().train()}, ValueError, r"training mode.*eval\(\)"),
    (X, "pixle", AIM | {"model": lambda x: x}, ValueError, r"\(2, 3, 32, 32\).*\(B, classes\)"),
    (X, "pixle", AIM | {"model": lambda x: NET(x) * torch.nan}, ValueError, "nan or inf"),
    (X[..., :31], "pixle", AIM, ValueError, "square.*32x31"),
    (X[..., :31], "snow", {"severity": 1}, ValueError, "at least 32 pixels.*32x31"),
    (X[:, :1], "snow", {"severity": 1}, ValueError, "3 channels.*got 1"),
    (
        X,
        "sparsefool",
        AIM | {"labels": (LABELS + 1) % CLASSES, "energy": 0.1},
        ValueError,
        r"images \[0, 1, 2\] are unchanged.*predictions",
    ),
    (
        X,
        "fgsm",
        {"model": flat, "labels": ZEROS, "eps": 0.1, "energy": 0.1},
        ValueError,
        r"images \[0, 1, 2\] are unchanged.*no usable gradient",
    ),
    (0 * X, "white_noise", {"energy": 0.1}, ValueError, r"\[0, 1, 2\] are black"),
    (
        SATURATED,
        "white_noise",
        {"sigma": 0.1, "band": 3, "masks": MASKS, "clamp": True},
        ValueError,
        r"images \[2\] have pixels at 0 or 1",
    ),
]


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
    _texture.cache_clear()
    with pytest.raises(ImportError, match=r"pip install --no-deps torchattacks==3\.5\.1$"):
        perturb(X, "fgsm", eps=0.1, **AIM)
    with pytest.raises(ImportError, match=r"pip install 'iaside\[corruptions\]'$"):
        perturb(X, "frost", severity=1)
    confined = {"eps": 0.1, "band": 0, "masks": MASKS}
    assert perturb(X, "pgd", **AIM, **confined).shape == X.shape  # needs neither
