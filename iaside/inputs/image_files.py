"""Image files of a folder: which files are images, and how one is read."""

from __future__ import annotations

import functools
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

# Left by file managers and archives beside a user's own; so is all that begins with a dot.
_LITTER = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}
# No pictures, or (EPS, WMF) pictures only with another program.
_NOT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# What is recognised without an ending; other formats take nearly any file for one of theirs.
_BY_CONTENT = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
_HEIF = {".heic", ".heif", ".hif"}
_INSTALL_HEIF = '`pip install "iaside[heif]"` lets Pillow read it'


# --- which files are images ----------------------------------------------------------------------


@functools.cache
def image_endings() -> frozenset[str]:
    """The endings of the picture formats that Pillow reads here, with pillow-heif if installed.

    >>> {".jpg", ".gif", ".webp"} <= image_endings(), ".pdf" in image_endings()
    (True, False)
    """
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    formats = set(Image.OPEN) - _NOT_PIXELS
    return frozenset(e for e, name in Image.registered_extensions().items() if name in formats)


def only_images(folder: Path) -> list[Path]:
    """The images below a folder that holds nothing else, sorted.

    Raises ValueError for other files (hidden ones apart), for none, and for two of one name but for
    their endings.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: put photographs there.")
    images, others = find_images(folder)
    if others or not images:
        said = left_out_words(others) if others else "no images"
        raise ValueError(f"{folder}: {said}. It must hold pictures, and nothing else.")
    twice = [path for path, n in Counter(p.with_suffix("") for p in images).items() if n > 1]
    if twice:
        raise ValueError(f"{folder} has two pictures named {twice[0].name!r}: keep one of them.")
    return images


def is_hidden(path: Path, root: Path) -> bool:
    """Whether some part of a path below `root` is hidden, or litter of a file manager.

    >>> root = Path("pets")
    >>> [is_hidden(root / p, root) for p in ("cat/1.jpg", "cat/._1.jpg", "__MACOSX/cat/1.jpg")]
    [False, True, True]
    """
    parts = path.relative_to(root).parts
    return any(part.startswith(".") or part.lower() in _LITTER for part in parts)


def _is_image(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in image_endings()
    try:
        with Image.open(path, formats=_BY_CONTENT):
            return True
    except Exception:  # each of Pillow's plugins has errors of its own for what is damaged
        return False


def find_images(
    folder: Path, deep: bool = True, within: Path | None = None
) -> tuple[list[Path], Counter]:
    """The images in a folder, sorted, and how many other files there are of each ending.

    within: the data set that the folder is a class of; a link to all of it leads in a circle.
    """
    images, others = [], Counter()
    above = frozenset() if within is None else frozenset([os.path.realpath(within)])
    for path in sorted(_below(folder, above) if deep else folder.iterdir()):
        if is_hidden(path, folder):
            continue
        if not path.is_file():
            others["broken links"] += not path.exists()
        elif _is_image(path):
            images.append(path)
        else:
            others[path.suffix.lower() or "without an ending"] += 1
    return images, +others


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """All files in a folder and its sub-folders, linked ones too, as ImageFolder does.

    Each link is followed, but for one to a folder that it lies in: that leads in a circle.
    """
    place = os.path.realpath(folder)
    if place in above:
        return
    for path in folder.iterdir():  # a folder that may not be read is an error, not missed
        if path.is_dir():
            yield from _below(path, above | {place})
        else:
            yield path


def left_out_words(left_out: Counter) -> str:
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(left_out.items()))
    heif = f"; {_INSTALL_HEIF}" if _HEIF & set(left_out) else ""
    files = all(kind.startswith(".") or kind == "without an ending" for kind in left_out)
    why = ", which Pillow does not read here" if files else ""
    return f"{left_out.total()} files left out{why}: {counts}{heif}"


def warn_left_out(folder: Path, left_out: Counter) -> None:
    if left_out:
        warnings.warn(f"{folder}: {left_out_words(left_out)}.", RuntimeWarning, stacklevel=2)


def read_image(path: Path | io.BytesIO) -> Image.Image:
    """An image file or its bytes, upright, as its EXIF orientation says, in 8-bit grey or RGB.

    Grey stays grey, so that 28-pixel digits can be told from small pictures.
    Raises OSError where it cannot be read.
    """
    try:
        image = Image.open(path)
        with image:
            image = in_eight_bits(image)
            pixels = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except UnidentifiedImageError as error:
        if isinstance(path, Path) and path.suffix.lower() in _HEIF:
            raise OSError(_INSTALL_HEIF) from error
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each of Pillow's plugins has errors of its own for what is damaged
        raise OSError(f"{type(error).__name__}: {error}") from error
    try:
        return ImageOps.exif_transpose(pixels)
    except Exception:  # EXIF that is none: such pictures are shown as they are stored
        return pixels


def in_eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits as one of 8, rounded; any other as it is.

    65535 is white, and 4095 in a TIFF of 12 bits. Raises OSError for whole numbers of more bits and
    for floats, of which nobody knows what is white.

    >>> grey = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
    >>> np.asarray(in_eight_bits(grey)).tolist()
    [[0, 128, 255]]
    """
    if image.mode[:1] not in "IF":
        return image
    # Pillow keeps 16 bits of these two formats in 32, where a program of one's own may keep more.
    if not (image.mode.startswith("I;16") or image.format in ("PNG", "PPM")):
        raise OSError(
            f"{image.mode} pixels have more than 16 bits, of which nobody knows what is white; "
            "convert them to 8-bit RGB"
        )
    tags = getattr(image, "tag_v2", {})  # TIFF's, which Pillow does not heed in more than 8 bits
    grey = np.asarray(image) / (2 ** tags.get(BITSPERSAMPLE, (16,))[0] - 1.0)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # white is 0
        grey = 1 - grey
    found = Image.fromarray(np.rint(255 * grey.clip(0, 1)).astype(np.uint8))
    found.info = image.info  # with its orientation
    return found
