"""The 15 corruptions of ImageNet-C, with the strengths of CIFAR-10-C and Tiny ImageNet-C besides.

Each picture has a generator of its own, made from its seed: no global state, so that corruptions
may be made in several threads. They compute in 8 bits, as published: what comes out is cut off to
bytes, not rounded. Where the published code can be told from its description, this follows the
code: glass blur copies pixels where it means to swap them. Motion blur and the blur of snow
imitate ImageMagick's, by which the published files were made.

The published files were then stored as JPEG at quality 85. That is not done here, so that errors
under little noise are not quite those of the published files.

Source: Hendrycks and Dietterich 2019 (hendrycks/robustness: make_imagenet_c, make_tinyimagenet_c,
make_cifar_c); docs/methods.md, Corruptions.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from scipy import ndimage

VERSION = 1  # of the numbers that come out: raise it when they change
SETS = {32: "CIFAR-10-C", 64: "Tiny ImageNet-C", 224: "ImageNet-C"}
# ImageNet-C's cut, as `like` of load_images: the shorter side to 256, the centre of 224.
CUT = SimpleNamespace(
    recipe={"input_size": (3, 224, 224), "crop_pct": 224 / 256, "interpolation": "bilinear"}
)
TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

_SMALL_ZOOM = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
# corruption -> side -> what it takes at the severities 1 to 5
STRENGTHS: dict[str, dict[int, tuple]] = {
    "gaussian_noise": {  # standard deviation
        32: (0.04, 0.06, 0.08, 0.09, 0.10),
        64: (0.04, 0.08, 0.12, 0.15, 0.18),
        224: (0.08, 0.12, 0.18, 0.26, 0.38),
    },
    "shot_noise": {  # photons at pixel value 1
        32: (500, 250, 100, 75, 50),
        64: (250, 100, 50, 30, 15),
        224: (60, 25, 12, 5, 3),
    },
    "impulse_noise": {  # share of the values that become 0 or 1
        32: (0.01, 0.02, 0.03, 0.05, 0.07),
        64: (0.01, 0.02, 0.05, 0.08, 0.14),
        224: (0.03, 0.06, 0.09, 0.17, 0.27),
    },
    "defocus_blur": {  # radius of the disk, sigma that softens its edge
        32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        64: ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        224: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    },
    "glass_blur": {  # sigma, reach, rounds
        32: ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        64: ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        224: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    },
    "motion_blur": {  # radius, sigma
        32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        64: ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    },
    "zoom_blur": {  # end (excluded) and step of the factors from 1
        32: _SMALL_ZOOM,
        64: _SMALL_ZOOM,
        224: ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    },
    "snow": {  # mean, sd, zoom, threshold, radius and sigma of the blur, share of the picture
        32: (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        64: (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        224: (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    },
    "frost": {  # scale of the texture, weight of the picture, weight of the texture
        32: ((0.2, 1, 0.2), (0.2, 1, 0.3), (0.2, 0.9, 0.4), (0.2, 0.85, 0.4), (0.2, 0.75, 0.45)),
        64: ((0.3, 1, 0.3), (0.3, 0.9, 0.4), (0.3, 0.8, 0.45), (0.3, 0.75, 0.5), (0.3, 0.7, 0.55)),
        224: ((1, 1, 0.4), (1, 0.8, 0.6), (1, 0.7, 0.7), (1, 0.65, 0.7), (1, 0.6, 0.75)),
    },
    "fog": {  # amount, decay of its fine structure
        32: ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        64: ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        224: ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    },
    "brightness": {  # added to the largest of the three colours
        32: (0.05, 0.1, 0.15, 0.2, 0.3),
        64: (0.1, 0.2, 0.3, 0.4, 0.5),
        224: (0.1, 0.2, 0.3, 0.4, 0.5),
    },
    "contrast": {  # share of it that is left
        32: (0.75, 0.5, 0.4, 0.3, 0.15),
        64: (0.4, 0.3, 0.2, 0.1, 0.05),
        224: (0.4, 0.3, 0.2, 0.1, 0.05),
    },
    "elastic_transform": {  # alpha, sigma, affine, all in pixels
        32: tuple(
            tuple(32 * v for v in c)
            for c in (
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            )
        ),
        64: tuple(
            tuple(64 * v for v in c)
            for c in (
                (0, 0, 0.08),
                (0.05, 0.3, 0.06),
                (0.1, 0.08, 0.06),
                (0.1, 0.03, 0.03),
                (0.16, 0.03, 0.02),
            )
        ),
        224: tuple(
            tuple(244 * v for v in c)
            for c in (  # 244: as published
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
    },
    "pixelate": {  # of the side
        32: (0.95, 0.9, 0.85, 0.75, 0.65),
        64: (0.9, 0.8, 0.7, 0.6, 0.5),
        224: (0.6, 0.5, 0.4, 0.3, 0.25),
    },
    "jpeg_compression": {  # quality
        32: (80, 65, 58, 50, 40),
        64: (65, 58, 50, 40, 25),
        224: (25, 18, 15, 10, 7),
    },
}


def strengths_for(height: int, width: int) -> int:
    """The side, 32, 64 or 224, whose strengths pictures of this size get: the nearest by ratio.

    Shapes: the shorter side counts. Source: docs/methods.md, Corruptions (other sizes: a choice of
    ours).

    >>> strengths_for(260, 260), strengths_for(97, 61), strengths_for(33, 47)
    (224, 64, 32)
    """
    side = min(height, width)
    return min(STRENGTHS["fog"], key=lambda known: abs(math.log(side / known)))


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupt a picture as ImageNet-C, Tiny ImageNet-C or CIFAR-10-C do, by its size.

    Shapes: image (H, W, 3) uint8, sides of at least 32; returns the same.
    Errors: KeyError for an unknown name; ImportError where frost has no textures.
    Source: see the module.

    >>> grey = np.full((32, 32, 3), 100, np.uint8)
    >>> corrupt(grey, "brightness", 1, seed=0)[0, 0].tolist()  # 0.05 more, cut off to bytes
    [112, 112, 112]
    """
    strength = STRENGTHS[name][strengths_for(*image.shape[:2])][severity - 1]
    changed = _MAKERS[name](image / 255.0, strength, np.random.RandomState(seed))
    # Sums and means of bytes that should be whole numbers must not fall just below them.
    return np.uint8(np.clip(changed, 0, 1) * 255 + 1e-6)


# -- noise: picture (H, W, 3) in [0, 1], its strength and a generator -> picture -------------------


def _gaussian_noise(x: np.ndarray, sigma: float, rng) -> np.ndarray:
    return x + rng.normal(size=x.shape, scale=sigma)


def _shot_noise(x: np.ndarray, photons: float, rng) -> np.ndarray:
    return rng.poisson(x * photons) / photons


def _impulse_noise(x: np.ndarray, amount: float, rng) -> np.ndarray:
    u = rng.uniform(size=x.shape)
    return np.where(u < amount / 2, 0.0, np.where(u >= 1 - amount / 2, 1.0, x))


# -- blur ------------------------------------------------------------------------------------------


def _defocus_blur(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    radius, sigma = strength
    reach = max(8, math.ceil(radius))
    y2 = np.arange(-reach, reach + 1) ** 2
    disk = (y2[:, None] + y2 <= radius**2).astype(float)
    soft = ndimage.gaussian_filter(
        disk / disk.sum(), sigma, mode="mirror", radius=1 if radius <= 8 else 2
    )
    return ndimage.correlate(x, soft[:, :, None], mode="mirror")


def _glass_blur(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    sigma, reach, rounds = strength
    height, width = x.shape[:2]
    rows = np.arange(height - reach, reach, -1)[:, None]
    columns = np.arange(width - reach, reach, -1)
    places = (rows * width + columns).ravel().tolist()
    source = list(range(height * width))  # of each pixel, in turn: faster than moving the pixels
    for _ in range(rounds):
        dx, dy = np.moveaxis(rng.randint(-reach, reach, (len(places), 2)), 1, 0)
        for here, away in zip(places, (dy * width + dx).tolist(), strict=True):
            source[here] = source[here + away]
    blurred = np.uint8(_smoothed(x, sigma) * 255 + 1e-6) / 255.0
    return _smoothed(blurred.reshape(-1, 3)[source].reshape(x.shape), sigma)


def _smoothed(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def _motion_blur(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    return _moved(x, *strength, rng.uniform(-45, 45))


def _moved(x: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """The weighted mean of a picture drawn along a line, half a Gaussian, edges repeated."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    down = -np.ceil(steps * math.sin(math.radians(degrees)) - 0.5).astype(int)
    right = -np.ceil(steps * math.cos(math.radians(degrees)) - 0.5).astype(int)
    height, width = x.shape[:2]
    total = np.zeros_like(x)
    for weight, dy, dx in zip(weights / weights.sum(), down, right, strict=True):
        rows = (np.arange(height) - dy).clip(0, height - 1)
        columns = (np.arange(width) - dx).clip(0, width - 1)
        total += weight * x[rows][:, columns]
    return total


def _zoom_blur(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    end, step = strength
    factors = np.arange(1, end, step)
    single = x.astype(np.float32)  # as published; half the time
    return (x + sum(_zoomed(single, factor) for factor in factors)) / (len(factors) + 1)


def _zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of a picture (H, W, channels), enlarged to the whole."""
    sides = np.array(x.shape[:2])
    kept = np.ceil(sides / factor).astype(int)
    top, left = (sides - kept) // 2
    x = ndimage.zoom(x[top : top + kept[0], left : left + kept[1]], (factor, factor, 1), order=1)
    top, left = (np.array(x.shape[:2]) - sides) // 2  # what is too much goes on both sides
    return x[top : top + sides[0], left : left + sides[1]]


# -- weather ---------------------------------------------------------------------------------------


def _snow(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    mean, sd, zoom, threshold, radius, sigma, share = strength
    flakes = _zoomed(rng.normal(size=(*x.shape[:2], 1), loc=mean, scale=sd), zoom)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = np.round(_moved(flakes, radius, sigma, rng.uniform(-135, -45)) * 255) / 255
    grey = x @ [[0.299], [0.587], [0.114]]
    whiter = share * x + (1 - share) * np.maximum(x, 1.5 * grey + 0.5)
    return whiter + flakes + np.rot90(flakes, 2)


def _frost(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    scale, of_picture, of_texture = strength
    number = rng.randint(len(TEXTURES))
    height, width = x.shape[:2]
    texture = _texture(number, scale)
    if (short := max((height + 1) / texture.shape[0], (width + 1) / texture.shape[1])) > 1:
        texture = _texture(number, scale * short * 1.1)  # a large picture
    top = rng.randint(texture.shape[0] - height)
    left = rng.randint(texture.shape[1] - width)
    return of_picture * x + of_texture * texture[top : top + height, left : left + width]


@functools.lru_cache(maxsize=16)
def _texture(number: int, scale: float) -> np.ndarray:
    """A picture of frost, (H, W, 3) in [0, 1]; bilinear without antialiasing, as published."""
    found = importlib.util.find_spec("imagecorruptions")  # for its files alone
    if found is None:
        raise ImportError(
            "frost needs the textures of imagecorruptions-imaug; "
            "run: pip install 'iaside[corruptions]'"
        )
    path = Path(found.submodule_search_locations[0]) / "frost" / TEXTURES[number]
    with Image.open(path) as image:
        x = np.asarray(image.convert("RGB"))
    if scale == 1:
        return x / 255.0
    rows, columns = (
        ((np.arange(round(side * scale)) + 0.5) / scale - 0.5).clip(0, side - 1)
        for side in x.shape[:2]
    )
    at = np.meshgrid(rows, columns, indexing="ij")
    return np.round(_looked_up(x.astype(float), at, "nearest")) / 255


def _fog(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    amount, decay = strength
    height, width = x.shape[:2]
    field = _plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)
    brightest = x.max()
    foggy = x + amount * field[:height, :width, None]
    return foggy * brightest / (brightest + amount)


def _plasma(side: int, decay: float, rng) -> np.ndarray:
    """A rough height map in [0, 1] by midpoint displacement, (side, side), a power of two.

    Squares and diamonds in turn get the mean of their corners and a jolt, which shrinks by
    ``decay`` when the grid is halved; opposite edges meet.
    """
    field = np.zeros((side, side), np.float32)
    step, jolt = side, 100.0

    def with_jolt(total: np.ndarray) -> np.ndarray:
        return total / 4 + jolt * rng.uniform(-jolt, jolt, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        field[half::step, half::step] = with_jolt(pairs + np.roll(pairs, -1, 1))
        middles = field[half::step, half::step]
        across = corners + np.roll(corners, -1, 1) + middles + np.roll(middles, 1, 0)
        field[::step, half::step] = with_jolt(across)
        along = corners + np.roll(corners, -1, 0) + middles + np.roll(middles, 1, 1)
        field[half::step, ::step] = with_jolt(along)
        step, jolt = half, jolt / decay
    field -= field.min()
    return field / field.max()


def _brightness(x: np.ndarray, more: float, rng) -> np.ndarray:
    """V of hue, saturation and value: colours keep their proportions, black turns grey."""
    value = x.max(2, keepdims=True)
    brighter = (value + more).clip(0, 1)
    return np.divide(x * brighter, value, out=brighter.repeat(3, 2), where=value > 0)


# -- digital ---------------------------------------------------------------------------------------


def _contrast(x: np.ndarray, share: float, rng) -> np.ndarray:
    mean = x.mean((0, 1), keepdims=True)
    return mean + share * (x - mean)


def _elastic_transform(x: np.ndarray, strength: tuple, rng) -> np.ndarray:
    alpha, sigma, affine = strength
    height, width = x.shape[:2]
    centre, third = np.array([width // 2, height // 2]), min(height, width) // 3
    corners = centre + third * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-affine, affine, corners.shape)
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)  # (x, y, 1) -> (x, y)
    rows, columns = np.mgrid[:height, :width].astype(float)
    came_from = np.stack([columns, rows, np.ones((height, width))], -1) @ back
    x = _looked_up(x, (came_from[..., 1], came_from[..., 0]), "mirror")
    right, down = (
        alpha * ndimage.gaussian_filter(rng.uniform(-1, 1, (height, width)), sigma, truncate=3)
        for _ in range(2)
    )
    return _looked_up(x, (rows + down, columns + right), "reflect")


def _looked_up(x: np.ndarray, at, mode: str) -> np.ndarray:
    """A picture (H, W, 3) between its pixels, at (rows, columns), bilinear."""
    return np.stack(
        [ndimage.map_coordinates(x[..., k], at, order=1, mode=mode) for k in range(3)], -1
    )


def _pixelate(x: np.ndarray, share: float, rng) -> np.ndarray:
    image = _as_image(x)
    small = image.resize([int(side * share) for side in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX)) / 255.0


def _jpeg_compression(x: np.ndarray, quality: int, rng) -> np.ndarray:
    file = io.BytesIO()
    _as_image(x).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image) / 255.0


def _as_image(x: np.ndarray) -> Image.Image:
    return Image.fromarray(np.uint8(np.round(x * 255)))


_MAKERS: dict[str, Callable] = {name: globals()[f"_{name}"] for name in STRENGTHS}
