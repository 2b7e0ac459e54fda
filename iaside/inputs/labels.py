"""Labels and arrays in any common format -> plain tensors of class indices or probabilities."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import told_apart


def class_labels(labels, n: int, soft: bool = False) -> Tensor:
    """Labels of n images as a tensor: (n,) int64, or (n, classes) probabilities where soft.

    Taken are whole numbers in any tensor, array, column or list (2.0 is 2, True is 1), and one-hot
    rows (n, classes): for the classes that they name, where soft for the probabilities that they
    are. Errors: ValueError/TypeError for what names no class, or several of one image.

    >>> class_labels([3, 1], 2)
    tensor([3, 1])
    >>> class_labels(torch.tensor([[0, 1, 0], [1, 0, 0]]), 2)
    tensor([1, 0])
    """
    labels = _numbers(labels)
    if labels.shape[1:] == (1,):
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or len(labels) != n:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}: {len(labels)} labels for "
            f"{n} images; give one integer class index per image"
            if labels.ndim
            else f"labels={labels.item()!r} is one number; give one label per image"
        )
    return _of_rows(labels, soft) if labels.ndim == 2 else _indices(labels)


def plain(values, what: str) -> Tensor:
    """Real numbers as a dense tensor without a history, whatever tensor or array holds them.

    what: in words, for the errors.  A tensor that is plain already is not copied, an array is:
    torch takes no mirrored, read-only or big-endian memory.
    Errors: TypeError for what are no real numbers; ValueError for masked ones, rows of different
    lengths, and what is on the meta device.

    >>> plain(np.arange(3.0)[::-1], "maps")
    tensor([2., 1., 0.], dtype=torch.float64)
    """
    if not isinstance(values, Tensor):
        if np.ma.is_masked(values):
            raise ValueError(f"{what} are masked in places, where there is no number; fill them")
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{what} have rows of different lengths") from error
        if array.dtype.kind not in "biuf":
            kind = f"n array of {array.dtype}" if values is array else f" {type(values).__name__}"
            raise TypeError(f"{what} are a{kind}; give real numbers")
        wide = np.dtype(float) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        return torch.from_numpy(array.astype(wide))
    if values.is_complex() or values.is_quantized or values.is_nested:
        kind = "nested" if values.is_nested else values.dtype
        raise TypeError(f"{what} are {kind}; give real numbers in an ordinary tensor")
    if values.is_meta:
        raise ValueError(
            f"{what} are on the meta device, where numbers are not kept; make them on the CPU"
        )
    return values.detach().to_dense().as_subclass(Tensor)


def places(subset, n: int) -> Tensor:
    """The indices (K,) of the images, of n, that a subset names by their places or by a mask.

    Errors: TypeError/ValueError for what names none, one that is not there, or one twice.

    >>> places([-1, 0], 3), places([True, False, True], 3)
    (tensor([2, 0]), tensor([0, 2]))
    """
    index = plain(subset, "subset=")
    if index.numel() == 0:
        raise ValueError("subset=[] leaves no image; name at least one, or None for all")
    if index.dtype == torch.bool and index.shape == (n,):
        return places(index.nonzero()[:, 0], n)
    if index.ndim != 1 or index.dtype == torch.bool or index.is_floating_point():
        raise ValueError(
            f"subset= are {index.dtype} of shape {tuple(index.shape)}; give whole numbers, or one "
            f"True or False for each of the {n} images"
        )
    index = index.long().cpu()
    if index.min() < -n or index.max() >= n:
        raise ValueError(f"subset= names image {index[index.abs().argmax()]}, and there are {n}")
    index = index % n
    if len(index.unique()) < len(index):
        raise ValueError(f"subset= names image {int(index.mode().values)} twice; name each once")
    return index


def _numbers(labels) -> Tensor:
    """Labels in a plain tensor, whatever holds them."""
    found = labels
    try:
        if isinstance(found, list | tuple) and any(isinstance(one, Tensor) for one in found):
            found = torch.stack([torch.as_tensor(one) for one in found])
        elif not isinstance(found, Tensor):
            if np.ma.is_masked(found):
                found = found.astype(float).filled(np.nan)
            found = np.asarray(found)
            found = np.array(found.tolist()) if found.dtype == object else found
            found = plain(found, "labels")
            if isinstance(labels, list | tuple) and found.is_floating_point():
                found = found.to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # names, rows of lengths
        many = isinstance(labels, list | tuple) and any(
            isinstance(one, list | tuple | set | np.ndarray | Tensor) for one in labels
        )
        why = "are several labels an image" if many else "are no numbers"
        text = " ".join(str(labels).split())[:40]
        raise TypeError(f"labels {text!r} {why}; give one integer class index per image") from error
    return plain(found, "labels")


def _of_rows(labels: Tensor, soft: bool) -> Tensor:
    """Class indices of one-hot rows (n, classes), or probabilities if they are soft."""
    rows = labels if labels.is_floating_point() else labels.float()
    whole = (rows == rows.round()).all()
    if whole and (one_hot := ((rows == 1).sum(1) == 1) & ((rows != 0).sum(1) == 1)).all():
        return rows if soft else rows.argmax(1)
    if whole:
        k = int((~one_hot).nonzero()[0])
        raise ValueError(
            f"labels have {labels.shape[1]} numbers an image, and those of image {k} are not "
            "one-hot: several labels (or none) of an image are not taken; give one integer class "
            "index per image"
        )
    if not soft:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}, not one-hot: probabilities "
            "are not taken here; give one integer class index per image, as labels.argmax(1) does"
        )
    if not (rows.min() >= 0 and (rows.double().sum(1) - 1).abs().max() <= 1e-3):
        raise ValueError("soft labels must be probabilities: non-negative, each row sums to 1")
    return rows


def _indices(labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        odd = ~((labels == labels.round()) & (labels.abs() < 2**53))
        if odd.any():
            k = int(odd.nonzero()[0])
            given = labels[k].item()
            shown = told_apart(given, round(given)) if abs(given) < 2**53 else f"{given:.6g}"
            raise ValueError(f"the label of image {k} is {shown}; class indices must be integers")
    return labels.long()
