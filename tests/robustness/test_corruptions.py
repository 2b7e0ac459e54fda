"""Published strengths and changes, closed forms, an independent library, and no shared state."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iaside.inputs.images import load_images
from iaside.robustness import corruptions
from iaside.robustness.corruptions import CUT, SETS, STRENGTHS, TEXTURES, corrupt, strengths_for
from iaside.robustness.perturb import perturb
from iaside.tables import CORRUPTIONS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIDES = (32, 64, 224)


def smooth(height, width, seed=0):
    """A picture with a spectrum that falls as that of photographs does, bytes (H, W, 3)."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=(height, width, 3)), axes=(0, 1))
    radius = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width) * width)
    x = np.fft.ifft2(spectrum / radius.clip(1)[..., None], axes=(0, 1)).real
    return np.uint8(20 + 215 * (x - x.min()) / (x.max() - x.min()))


def changes(images, name, severity):
    """The root mean square change of each picture, pixels in [0, 1]."""
    made = (corrupt(x, name, severity, seed) / 255 for seed, x in enumerate(images))
    return np.array([np.sqrt(np.mean((y - x / 255) ** 2)) for x, y in zip(images, made)])  # noqa: B905


# -- which strengths -------------------------------------------------------------------------------


def test_there_are_five_strengths_of_every_corruption_at_every_size():
    assert tuple(STRENGTHS) == CORRUPTIONS and tuple(SETS) == SIDES
    for name in CORRUPTIONS:
        assert tuple(STRENGTHS[name]) == SIDES
        assert all(len(five) == 5 for five in STRENGTHS[name].values())


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((32, 32), 32),
        ((33, 47), 32),
        ((47, 33), 32),
        ((45, 45), 32),
        ((46, 46), 64),
        ((61, 97), 64),
        ((96, 96), 64),
        ((119, 119), 64),
        ((120, 120), 224),
        ((299, 260), 224),
    ],
)
def test_strengths_are_those_of_the_nearest_size_by_ratio(size, side):
    assert strengths_for(*size) == side


@pytest.mark.parametrize("side", SIDES)
def test_pictures_of_each_size_get_their_own_strengths(side):
    """Read off plain pictures, from the published lists and not from our table."""
    sigma = {32: (0.04, 0.10), 64: (0.04, 0.18), 224: (0.08, 0.38)}[side]
    amount = {32: (0.01, 0.07), 64: (0.01, 0.14), 224: (0.03, 0.27)}[side]
    more = {32: (0.05, 0.3), 64: (0.1, 0.5), 224: (0.1, 0.5)}[side]
    photons = {32: (500, 50), 64: (250, 15), 224: (60, 3)}[side]
    left = {32: (0.75, 0.15), 64: (0.4, 0.05), 224: (0.4, 0.05)}[side]
    grey, many = np.full((side, side, 3), 51, np.uint8), range(1 + 12 * 64 // side)
    halves = np.full((side, side, 3), 26, np.uint8)
    halves[: side // 2] = 230
    for k, severity in enumerate((1, 5)):
        noisy = np.stack([corrupt(grey, "gaussian_noise", severity, s) for s in many])
        above = noisy[noisy > 51] / 255 - 0.2  # the upper half is not cut off
        assert np.median(above) == pytest.approx(0.6745 * sigma[k], rel=0.05, abs=0.005)
        hit = np.stack([corrupt(grey, "impulse_noise", severity, s) for s in many])
        assert (hit != 51).mean() == pytest.approx(amount[k], rel=0.15)
        assert (hit == 0).mean() == pytest.approx(amount[k] / 2, rel=0.2)
        shot = np.stack([corrupt(grey, "shot_noise", severity, s) for s in many])
        assert (shot / 255).var() == pytest.approx(0.2 / photons[k], rel=0.15)
        assert abs(corrupt(grey, "brightness", severity, 0) / 255 - 0.2 - more[k]).max() < 1 / 255
        apart = np.ptp(corrupt(halves, "contrast", severity, 0))
        assert apart == pytest.approx(204 * left[k], abs=1)


# -- against published changes and another library -------------------------------------------------


@pytest.fixture(scope="module")
def real_pictures():
    def of(side, n):
        source = {224: "imagenet-sample", 32: "cifar10-exact/cifar10_exact.npz"}[side]
        if not (SHARED / source).exists():
            pytest.skip(f"needs ../shared/data/{source}, which is not beside this clone")
        x, _ = load_images(SHARED / source, CUT if side == 224 else None, n)
        return (x * 255).round().byte().permute(0, 2, 3, 1).numpy()

    return of


@pytest.mark.parametrize(
    ("name", "side", "published", "se"),
    [
        ("elastic_transform", 224, (0.197, 0.238, 0.115, 0.117, 0.122), 0.007),
        ("elastic_transform", 32, (0.130, 0.120, 0.107, 0.100, 0.085), 0.003),
        ("frost", 224, (0.243, 0.300, 0.320, 0.309, 0.320), 0.011),
        ("frost", 32, (0.123, 0.185, 0.205, 0.186, 0.186), 0.004),
    ],
)
@pytest.mark.slow
def test_pictures_change_as_much_as_by_the_published_code(name, side, published, se, real_pictures):
    """Root mean square change over 84 photographs and 300 exact CIFAR-10 pictures: docs/methods.md,
    Corruptions."""
    images = real_pictures(side, 24 if side == 224 else 100)
    for severity, expected in enumerate(published, 1):
        found = changes(images, name, severity)
        doubt = np.hypot(found.std() / len(found) ** 0.5, se)
        assert abs(found.mean() - expected) < 3 * doubt < 0.3 * expected


AGREE = sorted({*CORRUPTIONS} - {"impulse_noise", "snow", "frost", "elastic_transform"})


@pytest.mark.parametrize("name", [*AGREE, "snow"])
@pytest.mark.slow
def test_at_224_pixels_they_are_those_of_an_independent_library(name):
    """Same random numbers, same bytes but for rounding; imagecorruptions crops snow elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("imagecorruptions")
        for severity in (1, 3) if name == "snow" else (1, 2, 3, 4, 5):
            image = smooth(224, 224, severity)
            np.random.seed(7)
            own = {"seed": 7} if name == "glass_blur" else {}
            expected = library.corrupt(image, severity, name, **own).astype(int)
            apart = abs(corrupt(image, name, severity, 7) - expected)
            assert (apart > 1).mean() < (0.01 if name == "snow" else 1e-4), severity


# -- frost and elastic, in closed form -------------------------------------------------------------


@pytest.mark.parametrize(("side", "every", "weight"), [(224, 1, 0.75), (32, 5, 0.45)])
@pytest.mark.slow
def test_frost_on_black_is_a_piece_of_a_texture_in_its_colours(side, every, weight):
    """Scaled by 0.2 without antialiasing, a texture is every fifth of its pixels."""
    library = pytest.importorskip("imagecorruptions")
    folder = Path(library.__file__).parent / "frost"
    textures = []
    for name in TEXTURES:
        with Image.open(folder / name) as image:
            textures.append(
                np.asarray(image.convert("RGB"))[every // 2 :: every, every // 2 :: every]
            )
    black, drawn = np.zeros((side, side, 3), np.uint8), set()
    for seed in range(30):
        y = corrupt(black, "frost", 5, seed).astype(int)
        assert y[..., 2].mean() > y[..., 0].mean(), "frost is blue"
        for number, texture in enumerate(textures):
            piece = np.uint8(weight * texture + 1e-6).astype(int)
            corner = piece[: len(piece) - side + 1, : piece.shape[1] - side + 1]
            starts = np.argwhere((abs(corner - y[0, 0]) <= 1).all(-1))
            if any((abs(piece[i : i + side, j : j + side] - y) <= 1).all() for i, j in starts):
                drawn.add(number)
                break
        else:
            pytest.fail(f"seed {seed}: no piece of any texture")
    assert drawn == {0, 1, 3, 4}  # the second and third file hold the same pixels


def test_elastic_displaces_by_the_published_number_of_pixels():
    """A ramp shows where its pixels came from: 1.2, 1.7 and 2.8 px at severities 3 to 5."""
    ramp = np.tile(np.linspace(0.2, 0.8, 224)[None, :, None], (224, 1, 3))
    rows, columns = (v[50:174, 50:174].ravel() for v in np.mgrid[:224, :224])
    plane = np.column_stack([rows, columns, np.ones(len(rows))])  # what the affine part makes of it
    for severity, published in ((3, 1.2), (4, 1.7), (5, 2.8)):
        strength = STRENGTHS["elastic_transform"][224][severity - 1]
        found = []
        for seed in range(6):
            rng = np.random.RandomState(seed)
            y = corruptions._elastic_transform(ramp, strength, rng)[50:174, 50:174, 0].ravel()
            left = y - plane @ np.linalg.lstsq(plane, y, rcond=None)[0]
            found.append(np.sqrt(np.mean(left**2)) / 0.6 * 223)
        assert np.mean(found) * 2**0.5 == pytest.approx(published, rel=0.08)


def test_elastic_without_a_displacement_is_affine():
    ramp = np.tile(np.linspace(0.2, 0.8, 32)[None, :, None], (32, 1, 3))
    y = corruptions._elastic_transform(ramp, (0, 0, 2.56), np.random.RandomState(0))[8:24, 8:24, 0]
    assert abs(np.diff(y, 2, axis=0)).max() < 1e-9 and abs(np.diff(y, 2, axis=1)).max() < 1e-9
    assert abs(np.diff(y, axis=0)).max() > 1e-4


# -- every size, no shared state -------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "brightness", "contrast"])
def test_a_higher_severity_changes_a_picture_more_where_that_is_a_theorem(name, side):
    """Of the others, some are not monotone even on average: elastic transform and frost."""
    image = smooth(side, side)
    apart = [changes([image], name, severity)[0] for severity in range(1, 6)]
    assert (np.diff(apart) >= 0).all() and apart[4] > apart[0]


@pytest.mark.sweep
@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 61), (64, 300)])
def test_every_size_is_corrupted_and_a_piece_as_the_whole(name, size):
    x = np.stack(
        [smooth(*size), np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)]
    )
    x = torch.from_numpy(x).permute(0, 3, 1, 2) / 255
    for severity in range(1, 6):
        y = perturb(x, name, severity=severity, seed=3)
        assert y.shape == x.shape and y.isfinite().all() and 0 <= y.min() <= y.max() <= 1
        assert not y[0].equal(x[0])
        assert y[1:].equal(perturb(x[1:], name, severity=severity, seed=3, first=1))


def test_large_pictures_take_enlarged_frost():
    y = corrupt(np.zeros((700, 40, 3), np.uint8), "frost", 1, 0)
    assert y.shape == (700, 40, 3) and y.std() > 1


def brightness_of(x):
    z = x.mean((1, 2, 3)) + 0.01 * x[:, 0, 0, 0]
    return torch.stack([z, -z], 1)


@pytest.mark.slow
def test_four_threads_make_what_one_makes():
    x = torch.from_numpy(np.stack([smooth(32, 32, k) for k in range(3)])).permute(0, 3, 1, 2) / 255
    jobs = [(name, {"severity": s}) for s in (1, 3, 5) for name in CORRUPTIONS]
    pytest.importorskip("torchattacks")
    pixle = {"model": brightness_of, "labels": torch.zeros(1).long()}
    jobs += [("pixle", pixle)] * 3

    def made(job):
        name, options = job
        return perturb(x[:1] if name == "pixle" else x, name, seed=1, **options)

    alone = [made(job) for job in jobs]
    state = np.random.get_state()[1].tolist()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(made, jobs * 2))
    finally:
        sys.setswitchinterval(interval)
    apart = [
        job[0] for job, a, b in zip(jobs * 2, alone * 2, together, strict=True) if not a.equal(b)
    ]
    assert apart == []
    assert np.random.get_state()[1].tolist() == state
