"""Data sets that can be downloaded, and their sizes."""

from __future__ import annotations

from pathlib import Path

from iaside.backend.files import move, temporary_folder
from iaside.inputs import project


def datasets():
    """torchvision's data sets: it takes seconds to import, and arrays of digits do without it."""
    from torchvision import datasets

    return datasets


_TINY = "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
# What can be downloaded into data/images/<name>: a function of that folder.
DOWNLOADS = {
    "caltech101": lambda root: datasets().Caltech101(root, download=True),
    "stl10": lambda root: datasets().STL10(root, download=True),
    "cifar10": lambda root: datasets().CIFAR10(root, download=True),
    "cifar100": lambda root: datasets().CIFAR100(root, download=True),
    "svhn": lambda root: [
        datasets().SVHN(root, split=split, download=True) for split in ("train", "test")
    ],
    "tiny_imagenet": lambda root: datasets().utils.download_and_extract_archive(
        _TINY[0], root, md5=_TINY[1]
    ),
}
# Training images, held-out images (0: no split of its own) and classes of those.
SIZES = {
    "caltech101": (8677, 0, 101),
    "stl10": (5000, 8000, 10),
    "cifar10": (50_000, 10_000, 10),
    "cifar100": (50_000, 10_000, 100),
    "svhn": (73_257, 26_032, 10),
    "tiny_imagenet": (100_000, 10_000, 200),
}


def fetch_images(source) -> None:
    """Download a set of ``DOWNLOADS`` into data/images/<name> if it is not there yet.

    source: its name or that path; anything else, and what is there, is left alone.
    Raises FileNotFoundError, saying how to come by it without internet.
    """
    if not isinstance(source, str | Path) or Path(source).name not in DOWNLOADS:
        return
    name = Path(source).name
    place = project.PROJECT / "data" / "images" / name
    if Path(source).exists() or (project.PROJECT / source).resolve() not in (
        place,
        project.PROJECT / name,
    ):
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
