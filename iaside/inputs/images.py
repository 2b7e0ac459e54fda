"""Name or path -> a fixed, ordered, seeded set of labelled images, pixels in [0, 1]."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from iaside.backend.checks import ROUNDED, told_apart
from iaside.backend.files import move, read_npz, reading, temporary_folder
from iaside.backend.precision import undisturbed
from iaside.inputs.folders import (
    Labelled,
    Numbering,
    class_folders,
    flat_val,
    is_flat_val,
    labelled_files,
    only_images,
    read_image,
    refuse_deep,
)
from iaside.inputs.folders import tiny_imagenet as tiny_imagenet_files
from iaside.inputs.labels import class_labels, plain
from iaside.inputs.photographs import Photographs, Writer

PROJECT = Path(__file__).resolve().parents[2]
PACKAGED = {"photographs": "data/images/photographs", "mnist_5k": "data/images/mnist_5k.npz"}


def _datasets():
    """torchvision's data sets: it takes seconds to import, and arrays of digits do without it."""
    from torchvision import datasets

    return datasets


# The torchvision data sets that are recognised by what lies in their folder: root, split -> data.
_TORCHVISION = {
    "cifar-10-batches-py": lambda root, split: _datasets().CIFAR10(root, train=split == "train"),
    "cifar-100-python": lambda root, split: _datasets().CIFAR100(root, train=split == "train"),
    "stl10_binary": lambda root, split: _datasets().STL10(root, split=split),
    "MNIST/raw": lambda root, split: _datasets().MNIST(root, train=split == "train"),
    "test_32x32.mat": lambda root, split: _datasets().SVHN(root, split=split),
}
_TINY = "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
# What can be downloaded into data/images/<name>: a function of that folder.
DOWNLOADS = {
    "caltech101": lambda root: _datasets().Caltech101(root, download=True),
    "stl10": lambda root: _datasets().STL10(root, download=True),
    "cifar10": lambda root: _datasets().CIFAR10(root, download=True),
    "cifar100": lambda root: _datasets().CIFAR100(root, download=True),
    "svhn": lambda root: [
        _datasets().SVHN(root, split=split, download=True) for split in ("train", "test")
    ],
    "tiny_imagenet": lambda root: _datasets().utils.download_and_extract_archive(
        _TINY[0], root, md5=_TINY[1]
    ),
}


# Of damaged files: read_image's error, and those of data sets that decode with Pillow themselves.
_UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)
# Training images, held-out images (0: no split of its own) and classes of those.
SIZES = {
    "caltech101": (8677, 0, 101),
    "stl10": (5000, 8000, 10),
    "cifar10": (50_000, 10_000, 10),
    "cifar100": (50_000, 10_000, 100),
    "svhn": (73_257, 26_032, 10),
    "tiny_imagenet": (100_000, 10_000, 200),
}


@undisturbed
def load_images(
    source,
    like=None,
    n: int | None = None,
    seed: int = 0,
    input_size: int | tuple[int, int] | None = None,
    skip_unreadable: bool = False,
    classes: str | Sequence[str] | Mapping[str, int] | None = None,
    return_classes: bool = False,
    labels: bool = True,
    on_disk: str | os.PathLike | None = None,
) -> Tensor | Photographs | tuple:
    """Load labelled images: the same ones, in the same order, for the same arguments.

    source: one of
        a packaged set: "photographs" (70 ImageNet photographs) or "mnist_5k" (5,000 digits);
        a folder of images with labels.csv (columns file,label; others are ignored): class indices
        or names, as Excel and others write it;
        a folder with one folder per class. A label is the place of its name in sorted order; the
        usual ImageNet index where every folder is, or begins with, an ImageNet id such as n01440764
        and the network does not have as many classes as there are folders; the place in the order
        of the numbers where the names are as many numbers as the network has classes;
        an .npz with `images` (N, H, W) or (N, H, W, 3), uint8 or in [0, 1], and `labels` (N,);
        a folder as torchvision lays out CIFAR-10, CIFAR-100, STL10, MNIST, SVHN (their test split)
        or Caltech101 (all, without BACKGROUND_Google), or Tiny ImageNet (its val);
        ImageNet's validation photographs in one folder, as they are published, and in it a list of
        their classes: WordNet ids (imagenet_2012_validation_synset_labels.txt, Kaggle's
        LOC_val_solution.csv), Caffe's val.txt, or the devkit's ground truth with its meta.mat;
        a torch Dataset of (image, label): PIL's or an array (C, H, W), (H, W, C) or (H, W), uint8
        or in [0, 1], and a class index or one-hot.
        A relative path is looked for here, then in the project's folder.
    like: a Classifier (or anything with .recipe): resize and centre crop by its recipe.
    n: how many, spread over the labels as evenly as they allow; None for all. Whatever n, images
        are drawn in one seeded order, so that a larger n contains the smaller; they are returned in
        the order of the source, and only they are decoded.
    input_size: (H, W) or a side; overrides the recipe's size, or without `like` resizes the shorter
        side to fit and crops the centre. With neither, all images must be of one size already.
    skip_unreadable: leave damaged images out, with a warning that names them, and draw the next.
    classes: which label a named class has: "words" (place in sorted order), "numbers" (its name), a
        sequence of names (place in it) or a dict from name to label. What holds then is one line
        on stderr, with or without it.
    return_classes: return that dict too (label as text -> label where the classes have no names).
    labels: False returns the images alone, the same ones: no network's classes are then asked for.
    on_disk: a folder where the pixels are kept as bytes, for a set that memory does not hold: the
        images are then ``Photographs``, which games, controls and ``examine`` take as a tensor.
        50,000 of 224 pixels take 7.5 GB there (four times that where pixels are no bytes).
    Returns images float32 (N, 3, H, W) in [0, 1] and labels int64 (N,).

    Files are taken as Pillow reads them, hidden ones apart, and turned upright by their EXIF
    orientation (torchvision's data sets do not); what it does not read is counted in a warning.
    Images and labels of a Dataset are what its items are.

    Grey images get three equal channels, and 28-pixel ones (MNIST) two black pixels on each side,
    to CIFAR-10's 32: the smallest size for which strengths of the corruptions are published.

    Raises FileNotFoundError (no such source) and ValueError (nothing in it, more asked for than
    exist, a damaged image, labels that do not match the files or the network, or may be read in two
    ways, images of different sizes).

    >>> source = [(torch.full((3, 8, 8), k / 10), k % 2) for k in range(10)]
    >>> images, labels = load_images(source, n=4)
    >>> images.shape, labels.bincount().tolist()
    (torch.Size([4, 3, 8, 8]), [2, 2])
    """
    recipe = getattr(like, "recipe", None)
    fields = {"input_size", "crop_pct", "interpolation"}
    if like is not None and not (isinstance(recipe, dict) and recipe.keys() >= fields):
        raise TypeError(
            f"like must be a Classifier or have its .recipe, got {type(like).__name__}; "
            "for any other model give input_size=(H, W)."
        )
    if labels:
        n_classes = recipe.get("num_classes") if recipe else None
        read, kinds, names, named = _labelled(source, n_classes, classes)
        if named:
            print(_mapping(source, named), file=sys.stderr)
    elif classes is None and not return_classes:
        read, kinds, names, named = _listing(source, Numbering(own=True))
    else:
        raise ValueError("labels=False returns no labels: leave classes= and return_classes= out.")
    total = len(kinds)
    if n is not None and not (_is_count(n) and 1 <= n <= total):
        raise ValueError(
            f"n={n!r} images asked of {_called(source)}, which holds {total}: "
            f"take n between 1 and {total}, or None for all."
        )
    fit = _fitter(recipe, input_size)

    with contextlib.ExitStack() as undo:
        pixels = {} if on_disk is None else undo.enter_context(Writer(on_disk, n or total))
        skipped, sizes = [], set()
        for k in _drawing_order(kinds, seed) if n is not None else range(total):
            try:
                picture = fit(read(k))
            except _UNREADABLE as error:
                if not skip_unreadable:
                    raise ValueError(
                        f"{names(k)} cannot be read ({error}). Repair or remove it, or leave "
                        "damaged images out with skip_unreadable=True."
                    ) from error
                skipped.append(names(k))
                continue
            pixels[k] = picture
            sizes.add(tuple(picture.shape[-2:]))
            if len(pixels) == n:
                break
        if skipped:
            warnings.warn(
                f"{len(skipped)} unreadable images left out: {', '.join(skipped)}", stacklevel=3
            )
        if not pixels or (n is not None and len(pixels) < n):
            raise ValueError(
                f"{_called(source)}: n={n} asked, but only {len(pixels)} of {total} images can be "
                "read."
            )
        if len(sizes) > 1:
            raise ValueError(
                f"{_called(source)} has images of {len(sizes)} sizes ({min(sizes)} to "
                f"{max(sizes)}, height x width): give like=model or input_size=(H, W)."
            )
        chosen = sorted(pixels)
        images = (
            torch.stack([pixels[k] for k in chosen]) if on_disk is None else pixels.photographs()
        )
    if not labels:
        return images
    chosen_kinds = torch.tensor([kinds[k] for k in chosen])
    if return_classes:
        return images, chosen_kinds, named or {str(label): label for label in sorted(set(kinds))}
    return images, chosen_kinds


def _labelled(source, n_classes: int | None, classes=None) -> Listing:
    """What a source holds, with labels that a network of so many classes may have."""
    if hasattr(classes, "tolist"):  # an array or a column of names
        classes = classes.tolist()
    found = _listing(source, Numbering(classes, n_classes))
    if found.classes is None and classes not in (None, "numbers"):
        raise ValueError(
            f"classes= is for folders and labels.csv with names of classes; {_called(source)} "
            "gives labels: leave it out."
        )
    low, high = min(found.labels), max(found.labels)
    if low < 0 or (n_classes and high >= n_classes):
        known = f" and below the network's {n_classes} classes" if n_classes else ""
        raise ValueError(
            f"{_called(source)} has {len(set(found.labels))} classes with labels from {low} to "
            f"{high}, but labels must be 0 or more{known}: give classes={{'name': index, ...}}, "
            "mend labels.csv, or take the network that these are the classes of."
        )
    return found


def check_labels(source, n_classes: int | None) -> None:
    """Check, decoding nothing, that ``load_images`` finds labels for a network of so many classes.

    Raises what that raises for labels out of range or that may be read in two ways, and warns as it
    does.

    >>> check_labels([(torch.zeros(3, 8, 8), k) for k in range(3)], n_classes=2)
    Traceback (most recent call last):
        ...
    ValueError: this list has 3 classes with labels from 0 to 2, but labels must be 0 or more and...
    """
    _labelled(source, n_classes)


@undisturbed
def load_pairs(
    source: str | Path, input_size: int | tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Photographs and the same ones degraded: the files of clean/ and degraded/ of equal names.

    Endings may differ. input_size: as in ``load_images``. Returns two (N, 3, H, W), row by row the
    same photograph. Raises ValueError for a name that is in one folder only, or twice, and for any
    file that cannot be read.

    >>> with temporary_folder() as folder:
    ...     for kind, grey in (("clean", 100), ("degraded", 90)):
    ...         (folder / kind).mkdir()
    ...         Image.new("L", (8, 8), grey).save(folder / kind / "a.png")
    ...     [(x[:, 0, 0, 0] * 255).tolist() for x in load_pairs(folder)]
    [[100.0], [90.0]]
    """
    places = [_found(source) / kind for kind in ("clean", "degraded")]
    clean, degraded = (
        {path.relative_to(place).with_suffix(""): path for path in only_images(place)}
        for place in places
    )
    if alone := sorted(map(str, clean.keys() ^ degraded.keys())):
        raise ValueError(
            f"{places[0]} and {places[1]} must hold pictures of the same names: "
            f"{', '.join(alone[:5])} ({len(alone)} in all) are in one only."
        )
    fit = _fitter(None, input_size)
    pairs = [
        [_decoded(fit, read_image, files[name], str(files[name])) for name in sorted(clean)]
        for files in (clean, degraded)
    ]
    if len(sizes := {tuple(image.shape) for image in pairs[0] + pairs[1]}) > 1:
        raise ValueError(f"{source} has images of {len(sizes)} sizes: give input_size=(H, W).")
    return torch.stack(pairs[0]), torch.stack(pairs[1])


def _mapping(source, named: dict[str, int]) -> str:
    shown = [f"{name}={label}" for name, label in sorted(named.items(), key=lambda item: item[1])]
    if len(shown) > 6:
        shown = [*shown[:4], "...", shown[-1]]
    return f"{_called(source)}: labels of its {len(named)} classes: {', '.join(shown)}"


def count_images(source) -> int:
    """How many images ``load_images`` finds in a source; decodes none. Errors: as that.

    >>> count_images([(torch.zeros(3, 8, 8), k % 2) for k in range(20)])
    20
    """
    return len(_listing(source, Numbering(own=True)).labels)


@undisturbed
def load_split(
    source: str | Path,
    held_out: float = 0.2,
    seed: int = 0,
    input_size: int | tuple[int, int] | None = None,
    classes: int | Sequence[str] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both halves of a data set: training images and labels, held-out images and labels.

    source: what ``load_images`` takes, a folder in Tiny ImageNet's layout, or one of the names
        "stl10", "cifar10", "cifar100", "svhn", "tiny_imagenet" and "caltech101", which lie in
        data/images/<name> and are downloaded when they do not.
    held_out: the share that is held out, stratified by label and drawn by `seed`; sets that come
        with a split of their own (all of these but Caltech101, and MNIST) keep theirs.
    classes: only the first so many classes, or those of these names; labels are then 0, 1, ... in
        the order of the names (of the numbers where all folders are named by numbers)
    Returns uint8 (N, 3, H, W), int64 (N,), uint8 (K, 3, H, W), int64 (K,). An image that is in both
    halves, byte for byte, is left out of the training half.

    Raises FileNotFoundError (no such source, and no download), ValueError (nothing in it, unknown
    classes, held_out outside (0, 1), a damaged image, images of different sizes).

    >>> source = [(torch.full((3, 8, 8), k / 255), k % 2) for k in range(20)]
    >>> x, y, held_out, labels = load_split(source, held_out=0.2)
    >>> x.shape, x.dtype, labels.bincount().tolist()
    (torch.Size([16, 3, 8, 8]), torch.uint8, [2, 2])
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} must be a share between 0 and 1, such as 0.2.")
    fetch_images(source)
    halves = _halves(source, held_out, seed, classes)
    fit = _fitter(None, input_size)
    (x, y), (held_x, held_y) = (_half(*half, fit, source) for half in halves)
    seen = {_content(image) for image in held_x}
    own = torch.tensor([_content(image) not in seen for image in x])
    return x[own], y[own], held_x, held_y


def split_size(
    source: str | Path, held_out: float = 0.2, classes: int | Sequence[str] | None = None
) -> tuple[int, int, int]:
    """How many training images, held-out images and classes ``load_split`` finds; decodes none.

    Of the sets that it would download, what is known of them, classes taken to be of one size.
    Duplicates, which the training half goes without, are counted.

    Raises FileNotFoundError for any other source that is not there.

    >>> split_size([(torch.zeros(3, 8, 8), k % 2) for k in range(20)])
    (16, 4, 2)
    """
    try:
        halves = _halves(source, held_out, 0, classes)
    except FileNotFoundError:
        if (name := Path(source).name) not in SIZES:
            raise
        n, held, all_classes = SIZES[name]
        kinds = classes if isinstance(classes, Integral) else len(classes or range(all_classes))
        if not held:
            held = round(held_out * n)
            n -= held
        return round(n * kinds / all_classes), round(held * kinds / all_classes), kinds
    (_, train, _), (_, held, _) = halves
    return len(train), len(held), 1 + max(label for _, label in train + held)


def _halves(source, held_out: float, seed: int, classes) -> list[tuple]:
    """(reader, [(index, label)], names) of both halves."""
    only = None if classes is None or isinstance(classes, Integral) else list(classes)
    official = not only and _layout(source) is not None
    splits = ("train", "test") if official else ("all",)
    listings = [_listing(source, Numbering(own=True), split, only) for split in splits]
    kinds = sorted(set().union(*(listing.labels for listing in listings)))
    if isinstance(classes, Integral):
        if not 2 <= classes <= len(kinds):
            raise ValueError(
                f"classes={classes}: {_called(source)} has {len(kinds)}; take 2 or more of them."
            )
        kinds = kinds[:classes]
    number = {label: k for k, label in enumerate(kinds)}
    halves = [
        (read, [(k, number[label]) for k, label in enumerate(labels) if label in number], names)
        for read, labels, names, _ in listings
    ]
    if not official:
        read, items, names = halves[0]
        order = stratified_order([label for _, label in items], seed)
        n = round(held_out * len(items))
        halves = [
            (read, [items[k] for k in sorted(part)], names) for part in (order[n:], order[:n])
        ]
    return halves


def stratified_order(labels: Sequence[int], seed: int) -> list[int]:
    """All indices in a seeded order whose every beginning has each label in proportion.

    >>> labels = [0] * 80 + [1] * 20
    >>> sum(labels[k] for k in stratified_order(labels, seed=0)[:10])
    2
    """
    labels = np.asarray(labels)
    _check_seed(seed)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")].tolist()


def _check_seed(seed: int) -> None:
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed={seed!r} is not possible; it must be an integer from 0")


def _is_count(value) -> bool:
    """Whether it is a whole number, as 2 and 2.0 are."""
    whole = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return whole and math.isfinite(value) and value == int(value)


def fetch_images(source) -> None:
    """Download a set of ``DOWNLOADS`` into data/images/<name> if it is not there yet.

    source: its name or that path; anything else, and what is there, is left alone.
    Raises FileNotFoundError, saying how to come by it without internet.
    """
    if not isinstance(source, str | Path) or Path(source).name not in DOWNLOADS:
        return
    name = Path(source).name
    place = PROJECT / "data" / "images" / name
    if Path(source).exists() or (PROJECT / source).resolve() not in (place, PROJECT / name):
        return
    if place.exists():
        return
    try:
        with temporary_folder(place.parent) as folder:
            DOWNLOADS[name](str(folder))
            folder.chmod(0o755)
            move(folder, place)
    except Exception as error:  # each server has its own family of errors
        raise FileNotFoundError(
            f"the images {name!r} are not at {place}, and downloading them failed "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0][:200]}). With internet "
            "access run this again; without it, put torchvision's folder there, or give the path "
            "of your copy under `images`."
        ) from error


def _half(read, items: list[tuple[int, int]], names, fit, source) -> tuple[Tensor, Tensor]:
    """The images of these (index, label) as bytes, (N, 3, H, W), and the labels."""
    if not items:
        raise ValueError(f"{_called(source)} leaves a half without images: change held_out.")
    pixels = []
    for k, _ in items:
        pixels.append((_decoded(fit, read, k, names(k)) * 255).round().to(torch.uint8))
    if len(sizes := {tuple(image.shape) for image in pixels}) > 1:
        raise ValueError(
            f"{_called(source)} has images of {len(sizes)} sizes: give input_size=(H, W)."
        )
    return torch.stack(pixels), torch.tensor([label for _, label in items])


def _decoded(fit, read, what, name: str) -> Tensor:
    try:
        return fit(read(what))
    except _UNREADABLE as error:
        raise ValueError(f"{name} cannot be read ({error}). Repair or remove it.") from error


def _content(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy()).digest()


def _called(source) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else f"this {type(source).__name__}"


def _drawing_order(labels: list[int], seed: int) -> list[int]:
    """All indices in the order in which they are drawn: one of each label, then a second, ..."""
    _check_seed(seed)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rank = dict.fromkeys(labels, -1)  # how many of this label came before
    keys = []
    for place, k in enumerate(shuffled.tolist()):
        rank[labels[k]] += 1
        keys.append((rank[labels[k]], place, k))
    return [k for _, _, k in sorted(keys)]


# --- what a source holds: a reader of the k-th image, all labels, a name for the k-th ------------


class Listing(NamedTuple):
    read: Callable[[int], Image.Image | Tensor]
    labels: list[int]
    name: Callable[[int], str]
    classes: dict[str, int] | None = None  # of classes that have names, their labels


def _listing(
    source, numbering: Numbering, split: str = "test", only: list[str] | None = None
) -> Listing:
    """split: of a set that comes with one; only: the classes of a folder per class."""
    if not isinstance(source, str | Path):
        if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
            within = "; give its .dataset" if hasattr(source, "dataset") else ""
            raise TypeError(
                "source must be a name, a path or a Dataset with a length and items, "
                f"got {type(source).__name__}{within}."
            )
        if isinstance(source, Mapping) or hasattr(source, "iloc"):
            raise TypeError(
                f"source is a {type(source).__name__} of {', '.join(map(str, source))!s:.60}: give "
                "a Dataset or list of pairs (image, label), such as one of its parts or "
                "list(zip(images, labels))."
            )
        return _from_dataset(source, _called(source))
    path = _found(source)
    if path.is_file():
        if only:
            raise ValueError(f"classes={only}: {path} names none; give a number of classes.")
        if path.suffix != ".npz":
            raise ValueError(
                f"{path} is a file, but not .npz: give the folder of images, or an .npz with "
                "`images` and `labels`."
            )
        return _from_npz(path)
    if (path / "labels.csv").is_file() and not only:
        return _from_files(labelled_files(path, numbering))
    if (of := _layout(path)) is not None:
        return of(split, numbering)
    if is_flat_val(path) and not only:
        return _from_files(flat_val(path, numbering))
    for folder in (path / "101_ObjectCategories", path / "caltech101" / "101_ObjectCategories"):
        path = folder if folder.is_dir() else path
    return _from_files(class_folders(path, numbering, only))


def _layout(source) -> Callable[[str, Numbering], Listing] | None:
    """A function (split, numbering) -> listing where a set comes with a split, else None."""
    if not isinstance(source, str | Path) or not (path := _found(source)).is_dir():
        return None
    for marker, dataset in _TORCHVISION.items():
        first = Path(marker).parts[0]
        root = path if (path / marker).exists() else path.parent if path.name == first else None
        if root is not None and (root / marker).exists():
            return lambda split, _, of=dataset, root=root, marker=marker: _torchvision(
                of, root, split, marker
            )
    for root in (path, path / "tiny-imagenet-200"):
        if (root / "val" / "val_annotations.txt").is_file():
            return lambda split, numbering, root=root: _from_files(
                tiny_imagenet_files(root, split, numbering)
            )
    return None


def _torchvision(dataset, root: Path, split: str, marker: str) -> Listing:
    try:
        return _from_dataset(dataset(root, split), str(root))
    except RuntimeError as error:
        raise ValueError(f"torchvision cannot read {root / marker}: {error}") from error


def _found(source: str | Path) -> Path:
    if isinstance(source, str) and not source.strip():  # to Path that is the current folder
        raise ValueError(
            f"the images are to be found at {source!r}, which names nothing: give the path of a "
            f"folder or .npz ('.' for this one), or a packaged set: {', '.join(PACKAGED)}."
        )
    path = Path(PACKAGED.get(str(source), source))
    if not path.exists():
        path = Path(os.path.expanduser(path))
    if str(source) in DOWNLOADS and not path.exists():
        path = Path("data/images") / path
    for candidate in (path, PROJECT / path):
        if candidate.exists():
            return candidate
    if str(source) in PACKAGED:
        raise FileNotFoundError(
            f"the packaged images {source!r} are not there yet (looked for "
            f"{PROJECT / path}): run `python data/fetch.py`."
        )
    raise FileNotFoundError(
        f"no images at {str(source)!r} (looked in {Path.cwd()} and {PROJECT}). Give the "
        f"path of a folder or .npz, or a packaged set: {', '.join(PACKAGED)}."
    )


def _from_files(found: Labelled) -> Listing:
    return Listing(
        lambda k: read_image(found.files[k]),
        found.labels,
        lambda k: str(found.files[k]),
        found.classes,
    )


def _from_npz(path: Path) -> Listing:
    with reading(path, "images", "write it again: np.savez(path, images=..., labels=...)"):
        arrays = read_npz(path)
    if missing := {"images", "labels"} - set(arrays):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; it has {', '.join(arrays)}.")
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"{path}: images must be (N, H, W) or (N, H, W, 3), got {images.shape}.")
    try:
        indices = class_labels(labels, len(images)).tolist()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: labels must be {len(images)} whole numbers, got {labels.dtype} "
            f"{labels.shape} ({error})."
        ) from error
    if not indices:
        raise ValueError(f"{path} holds no images.")

    def read(k):
        if images.dtype == np.uint8:
            return Image.fromarray(images[k])
        return images[k][None] if images.ndim == 3 else images[k].transpose(2, 0, 1)

    return Listing(read, indices, lambda k: f"image {k} of {path}")


# Where torchvision's own data sets keep what their items' labels are made from: class that defines
# __getitem__ -> attribute. Of any other type an attribute of such a name may hold anything.
_KEPT_LABELS = {
    "torchvision.datasets.cifar.CIFAR10": "targets",
    "torchvision.datasets.mnist.MNIST": "targets",
    "torchvision.datasets.stl10.STL10": "labels",
    "torchvision.datasets.svhn.SVHN": "labels",
    "torchvision.datasets.folder.DatasetFolder": "samples",
}


def _from_dataset(dataset, called: str) -> Listing:
    if not (labels := _indices(_item_labels(dataset), called)):
        raise ValueError(f"{called} holds no images.")
    return Listing(lambda k: dataset[k][0], labels, lambda k: f"item {k} of {called}")


def _item_labels(dataset) -> Sequence:
    """``dataset[k][1]`` of all items; where it is known what that returns, without decoding."""
    kind = next((c for c in type(dataset).__mro__ if "__getitem__" in vars(c)), type(dataset))
    if kind is torch.utils.data.Subset:
        labels = _item_labels(dataset.dataset)
        return [labels[k] for k in dataset.indices]
    if kind is torch.utils.data.ConcatDataset:
        return [label for part in dataset.datasets for label in _item_labels(part)]
    kept = getattr(dataset, _KEPT_LABELS.get(f"{kind.__module__}.{kind.__name__}", ""), None)
    if kept is None:
        return [_label_of(dataset[k], k) for k in range(len(dataset))]
    if kind.__name__ == "DatasetFolder":
        kept = [label for _, label in kept]
    transform = dataset.target_transform or (lambda label: label)
    return [transform(int(label)) for label in kept]


def _label_of(item, k: int):
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[1]
    kind, pairs = type(item).__name__, "list(zip(images, labels))"
    if isinstance(item, Mapping) and len(item) > 1:
        label = next((key for key in item if "label" in str(key).lower()), [*item][1])
        image = next(key for key in item if key != label)
        kind = f"{kind} with {', '.join(map(repr, item))}"
        pairs = f"[(item[{image!r}], item[{label!r}]) for item in data]"
    elif isinstance(item, tuple | list):
        kind = f"{kind} of {len(item)}"
        pairs = "[(item[0], item[1]) for item in data]" if len(item) > 2 else pairs
    raise TypeError(
        f"item {k} of the source is a {kind:.99}: it must be a pair (image, label); make a list "
        f"of such, {pairs}."
    )


def _indices(labels: Sequence, called: str) -> list[int]:
    """The class of every item, of whole numbers or one-hot rows."""
    if all(isinstance(label, Integral) and -(2**63) <= label < 2**63 for label in labels):
        return [int(label) for label in labels]
    try:
        return class_labels(labels, len(labels)).tolist()
    except (TypeError, ValueError) as error:
        k = next((k for k, label in enumerate(labels) if not _names_class(label)), 0)
        raise ValueError(
            f"the label of item {k} of {called} is {' '.join(repr(labels[k]).split()):.60}; it "
            "must be a class index (0, 1, ...), one for a picture, or all labels be one-hot."
        ) from error


def _names_class(label) -> bool:
    try:
        return class_labels([label], 1).ndim == 1
    except (TypeError, ValueError):
        return False


# --- from what was read to pixels of the right size ----------------------------------------------


def _fitter(recipe: dict | None, input_size) -> Callable[[Image.Image | Tensor], Tensor]:
    """A function from an image to float32 (3, H, W) in [0, 1], sized by the recipe."""
    if recipe is None and input_size is None:
        return lambda image: _pixels(_as_rgb(image))
    if input_size is None:
        size = recipe["input_size"][-2:]
    else:
        size = [input_size] * 2 if isinstance(input_size, Real) else input_size
        if (
            not isinstance(size, Sequence | np.ndarray)
            or len(size) != 2
            or not all(_is_count(side) and side >= 1 for side in size)
        ):
            raise ValueError(
                f"input_size={input_size!r:.60} is not possible; it must be (H, W) or one side, in "
                "whole pixels"
            )
    size = [int(side) for side in size]
    recipe = recipe or {"crop_pct": 1.0, "interpolation": "bicubic"}
    mode = recipe.get("crop_mode", "center")
    if mode not in ("center", "squash"):
        raise ValueError(f"crop_mode {mode!r} of the recipe must be 'center' or 'squash'.")
    # 1e-6: a quotient such as 299 / (299 / 342) must not fall below the whole number it stands for
    scaled = [math.floor(side / recipe["crop_pct"] + 1e-6) for side in size]

    def fit(image):
        image = _as_rgb(image)
        width, height = image.size if isinstance(image, Image.Image) else image.shape[:-3:-1]
        if [height, width] == scaled == size:
            return _pixels(image)
        import torchvision.transforms.functional as F

        how = F.InterpolationMode(recipe["interpolation"])
        if mode == "squash":
            target = scaled
        elif (
            scaled[0] == scaled[1]
        ):  # timm and torchvision: the shorter side, the longer in proportion
            target = scaled[0]
        else:
            ratio = max(scaled[0] / height, scaled[1] / width)
            target = [round(height * ratio), round(width * ratio)]
        # Antialiased, as both libraries' evaluation; cropped before conversion, so that a PIL image
        # is resized in 8 bits as they do it.
        return _pixels(F.center_crop(F.resize(image, target, how, antialias=True), size))

    return fit


def _as_rgb(image):
    """A picture, PIL's or an array, in three channels; 28-pixel grey squares padded."""
    if isinstance(image, Image.Image) and min(image.size) > 0:
        refuse_deep(image)
        digit = image.mode == "L" and image.size == (28, 28)
        try:
            image = image.convert("RGB")
        except ValueError as error:
            raise OSError(f"{image.mode} pixels are none that Pillow turns into RGB") from error
        return ImageOps.expand(image, 2) if digit else image
    image = _channels_first(image)
    if image.ndim != 3 or len(image) not in (1, 3) or image.numel() == 0:
        raise ValueError(
            f"an image must be (3, H, W), (1, H, W), (H, W, 3) or (H, W), got {tuple(image.shape)}."
        )
    low, high = image.min().item(), image.max().item()
    if not (low >= -ROUNDED and high <= 1 + ROUNDED):
        raise ValueError(
            f"an image must be uint8 or have pixels in [0, 1], got {tuple(image.shape)} from "
            f"{told_apart(low, 0)} to {told_apart(high, 1)}: divide by 255, and leave "
            "normalisation to the model."
        )
    digit = len(image) == 1 and image.shape[-2:] == (28, 28)
    image = image.clamp(0, 1).expand(3, -1, -1)
    return torch.nn.functional.pad(image, [2] * 4) if digit else image


def _channels_first(image) -> Tensor:
    """A tensor or array as a plain float32 tensor, (C, H, W) where it is (H, W) or (H, W, C)."""
    image = plain(image, "the pixels of an image").cpu()
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    if image.ndim == 2:
        return image[None]
    last = image.ndim == 3 and len(image) not in (1, 3) and image.shape[-1] in (1, 3)
    return image.permute(2, 0, 1) if last else image


def _pixels(image) -> Tensor:
    if isinstance(image, Image.Image):
        return torch.as_tensor(np.array(image)).permute(2, 0, 1).float() / 255
    return image.clamp(0, 1)  # bicubic overshoots; PIL cuts that off in the same way
