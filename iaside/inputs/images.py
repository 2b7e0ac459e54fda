"""Name or path -> a fixed, ordered, seeded set of labelled images, pixels in [0, 1]."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import check_values
from iaside.backend.log import log
from iaside.backend.precision import undisturbed
from iaside.inputs.image_files import only_images, read_image
from iaside.inputs.listing import Listing, find_source, listed, source_name
from iaside.inputs.numbering import Numbering
from iaside.inputs.photographs import Photographs, Writer
from iaside.inputs.sizing import UNREADABLE, decoded, fitter, is_count


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
        an .npz with `images` (N, H, W) or (N, H, W, C), uint8, uint16 or in [0, 1], and
        `labels` (N,);
        a folder as torchvision lays out CIFAR-10, CIFAR-100, STL10, MNIST, SVHN (their test split)
        or Caltech101 (all, without BACKGROUND_Google), or Tiny ImageNet (its val);
        ImageNet's validation photographs in one folder, as they are published, and in it a list of
        their classes: WordNet ids (imagenet_2012_validation_synset_labels.txt, Kaggle's
        LOC_val_solution.csv), Caffe's val.txt, or the devkit's ground truth with its meta.mat;
        a torch Dataset or DataLoader of (image, label): PIL's or an array (C, H, W), (H, W, C) or
        (H, W), uint8, uint16 or in [0, 1], and a class index or one-hot; of rows with an image and
        a label, such as Hugging Face's; a pair of lists or arrays (`inputs.pairs`).
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
    labels: False returns the images alone, the same ones: no network's classes are then asked for,
        and pictures in a folder, a list or an array without labels will do.
    on_disk: a folder where the pixels are kept as bytes, for a set that memory does not hold: the
        images are then ``Photographs``, which games, controls and ``examine`` take as a tensor.
        50,000 of 224 pixels take 7.5 GB there (four times that where pixels are no bytes).
    Returns images float32 (N, C, H, W), C of the recipe or 3, in [0, 1] and labels int64 (N,).

    Files are taken as Pillow reads them, hidden ones apart, and turned upright by their EXIF
    orientation (torchvision's data sets do not); what it does not read is counted in a warning.
    Images and labels of a Dataset are what its items are.

    Grey images get three equal channels, and 28-pixel ones (MNIST) two black pixels on each side,
    to CIFAR-10's 32: the smallest size for which strengths of the corruptions are published. A
    network of one channel (``like``) gets grey images as they are, and colours as Pillow turns them
    grey; one of more than three channels takes arrays, (C, H, W) or (H, W, C).

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
        read, kinds, names, named = drawn_from(source, like, classes)
        if named:
            log.info(_mapping(source, named))
    elif classes is None and not return_classes:
        read, kinds, names, named = listed(source, Numbering(own=True), labelled=False)
    else:
        raise ValueError("labels=False returns no labels: leave classes= and return_classes= out.")
    total = len(kinds)
    if n is not None and not (is_count(n) and 1 <= n <= total):
        raise ValueError(
            f"n={n!r} images asked of {source_name(source)}, which holds {total}: "
            f"take n between 1 and {total}, or None for all."
        )
    fit = fitter(recipe, input_size)

    with contextlib.ExitStack() as undo:
        pixels = {} if on_disk is None else undo.enter_context(Writer(on_disk, n or total))
        skipped, sizes = [], set()
        for k in _drawing_order(kinds, seed) if n is not None else range(total):
            try:
                picture = fit(read(k))
            except UNREADABLE as error:
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
                f"{source_name(source)}: n={n} asked, but only {len(pixels)} of {total} images can "
                "be read."
            )
        if len(sizes) > 1:
            raise ValueError(
                f"{source_name(source)} has images of {len(sizes)} sizes ({min(sizes)} to "
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
    """The listing of a source, with labels that fit a network of so many classes."""
    if hasattr(classes, "tolist"):  # an array or a column of names
        classes = classes.tolist()
    found = listed(source, Numbering(classes, n_classes))
    if found.classes is None and classes not in (None, "numbers"):
        raise ValueError(
            f"classes= is for folders and labels.csv with names of classes; {source_name(source)} "
            "gives labels: leave it out."
        )
    low, high = min(found.labels), max(found.labels)
    if low < 0 or (n_classes and high >= n_classes):
        known = f" and below the network's {n_classes} classes" if n_classes else ""
        raise ValueError(
            f"{source_name(source)} has {len(set(found.labels))} classes with labels from {low} to "
            f"{high}, but labels must be 0 or more{known}: give classes={{'name': index, ...}}, "
            "mend labels.csv, or take the network that these are the classes of."
        )
    return found


def drawn_from(source, like=None, classes=None) -> Listing:
    """What ``load_images`` draws labelled images from. Errors: as that."""
    recipe = getattr(like, "recipe", None)
    return _labelled(source, recipe.get("num_classes") if recipe else None, classes)


def chosen_of(found: Listing, n: int | None, seed: int) -> list[int]:
    """Which of a listing ``load_images`` returns, none of them damaged.

    >>> chosen_of(drawn_from([(torch.zeros(3, 8, 8), k // 5) for k in range(10)]), 4, seed=0)
    [2, 4, 6, 7]
    """
    if n is None:
        return list(range(len(found.labels)))
    return sorted(_drawing_order(found.labels, seed)[:n])


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
    source: str | Path, input_size: int | tuple[int, int] | None = None, channels: int = 3
) -> tuple[Tensor, Tensor]:
    """Photographs and the same ones degraded: the files of clean/ and degraded/ of equal names.

    Endings may differ. input_size: as in ``load_images``; channels: 3, or 1 for grey. Returns two
    (N, channels, H, W), row by row the same photograph. Raises ValueError for a name that is in one
    folder only, or twice, and for any file that cannot be read.

    >>> from PIL import Image
    >>> from iaside.backend.files import temporary_folder
    >>> with temporary_folder() as folder:
    ...     for kind, grey in (("clean", 100), ("degraded", 90)):
    ...         (folder / kind).mkdir()
    ...         Image.new("L", (8, 8), grey).save(folder / kind / "a.png")
    ...     [(x[:, 0, 0, 0] * 255).tolist() for x in load_pairs(folder)]
    [[100.0], [90.0]]
    """
    places = [find_source(source) / kind for kind in ("clean", "degraded")]
    clean, degraded = (
        {path.relative_to(place).with_suffix(""): path for path in only_images(place)}
        for place in places
    )
    if alone := sorted(map(str, clean.keys() ^ degraded.keys())):
        raise ValueError(
            f"{places[0]} and {places[1]} must hold pictures of the same names: "
            f"{', '.join(alone[:5])} ({len(alone)} in all) are in one only."
        )
    fit = fitter(None, input_size, channels)
    pairs = [
        [decoded(fit, read_image, files[name], str(files[name])) for name in sorted(clean)]
        for files in (clean, degraded)
    ]
    if len(sizes := {tuple(image.shape) for image in pairs[0] + pairs[1]}) > 1:
        raise ValueError(f"{source} has images of {len(sizes)} sizes: give input_size=(H, W).")
    return torch.stack(pairs[0]), torch.stack(pairs[1])


def _mapping(source, named: dict[str, int]) -> str:
    shown = [f"{name}={label}" for name, label in sorted(named.items(), key=lambda item: item[1])]
    if len(shown) > 6:
        shown = [*shown[:4], "...", shown[-1]]
    return f"{source_name(source)}: labels of its {len(named)} classes: {', '.join(shown)}"


def count_images(source, like=None, classes=None, labels: bool = True) -> int:
    """How many images ``load_images`` finds in a source; decodes none. Errors: as that.

    >>> count_images([(torch.zeros(3, 8, 8), k % 2) for k in range(20)])
    20
    """
    recipe = getattr(like, "recipe", None)
    known = recipe.get("num_classes") if recipe else None
    numbering = Numbering(classes, known, own=like is None)
    return len(listed(source, numbering, labelled=labels).labels)


def _drawing_order(labels: list[int], seed: int) -> list[int]:
    """All indices in the order in which they are drawn: one of each label, then a second, ..."""
    check_values({"seed": seed})
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rank = dict.fromkeys(labels, -1)  # how many of this label came before
    keys = []
    for place, k in enumerate(shuffled.tolist()):
        rank[labels[k]] += 1
        keys.append((rank[labels[k]], place, k))
    return [k for _, _, k in sorted(keys)]
