"""Bands that do not add up to the image are refused by every call that takes masks, and named."""

import re

import numpy as np
import pytest
import torch

import iaside as ia
from iaside.spectral import band_energy, band_masks, band_radii, cells_per_band, check_masks
from iaside.spectral import split_bands as cut
from iaside.training.penalties import coalition_dropout

SIDE, M = 16, 4
MASKS = band_masks(M, (SIDE, SIDE))
X = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
Y = torch.ones(6, dtype=torch.long)


def brightness(x):
    return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)


def calls(masks, model=brightness):
    """Every public call that takes masks, by name; those that take no callable come last."""
    quiet = dict(progress=False, batch_size=8)
    return {
        "explain": lambda: ia.explain(model, X, Y, masks=masks, **quiet).values,
        "share": lambda: ia.explain(model, X, Y, masks=masks, normalise="share", **quiet).values,
        "worths": lambda: ia.coalition_worths(model, X, Y, masks, **quiet).table,
        "sampled": lambda: ia.sampled_worths(model, X, Y, masks, budget=96, **quiet).coalition,
        "shown": lambda: ia.coalition_images(X, masks, np.eye(M, dtype=bool), "replacement"),
        "noise": lambda: ia.perturb(X, "white_noise", sigma=1, band=0, masks=masks),
        "pgd": lambda: ia.perturb(X, "pgd", model=model, labels=Y, eps=1, band=0, masks=masks),
        "split_bands": lambda: cut(X, masks),
        "dropout": lambda: coalition_dropout(X, masks, 0.5, torch.Generator().manual_seed(0)),
        "responses": lambda: ia.responses(model, X, Y, [], masks, **quiet).clean_energy,
        "energy": lambda: band_energy(X, masks),
        "cells": lambda: cells_per_band(masks, SIDE),
        "radii": lambda: band_radii(masks, SIDE),
    }


CALLS = list(calls(MASKS))
OF_TENSORS = CALLS[-4:]


def never(x):
    pytest.fail("nothing is to be shown to the model")


def changed(mask, ky, kx, value):
    masks = MASKS.clone()
    masks[mask, ky, kx] = value
    return masks


def tilted(column):
    """Sums to 1 everywhere, but the bands of ky = 3 and -3 in a column are two different ones."""
    masks = MASKS.clone()
    masks[:, 3, column] = masks[:, 3, column].roll(1)
    return masks


NOT_WHOLE = {
    "one forgotten": (MASKS[[0, 1, 3]], "sum to 0 at ky = 0, kx = 4 "),
    "all twice": (torch.cat([MASKS, MASKS]), "sum to 2 at ky = 0, kx = 0 "),
    "halved": (MASKS / 2, "sum to 0.5 at"),
    "one frequency": (changed(1, -3, 2, 1.5), "sum to 1.5 at ky = -3, kx = 2 "),
    "just off": (changed(1, 2, 1, 1.00011), "sum to 1.00011 at ky = 2, kx = 1 "),
    "none": (MASKS[:0], "sum to 0 at"),
    "bytes": ((255 * MASKS).byte(), "sum to 255 at"),
    "tilted at 0": (tilted(0), "mask 1 is 0 at ky = 3, kx = 0 .*and 1 at the opposite ky"),
    "tilted at Nyquist": (tilted(-1), "mask 0 is 1 at ky = 3, kx = 8 .*and 0 at the opposite ky"),
    "nan": (changed(0, 1, 1, torch.nan), "nan or infinity"),
    "other size": (band_masks(M, (SIDE, SIDE + 2)), "do not fit images of 16x16"),
    "full spectrum": (torch.ones(1, SIDE, SIDE), "do not fit images of 16x16"),
    "one mask": (  # sixteen of a signal, to whom nothing says the size of images
        MASKS[0],
        r"shape \(16, 9\) are not \(M, H, W//2 \+ 1\)|sum to 3 at k = 0 \(cycles per signal\)",
    ),
    "a list": (list(MASKS), "masks are a list; .*torch.stack"),
    "complex": (MASKS.to(torch.complex64), "give real numbers"),
    "meta": (MASKS.to("meta"), "on meta; give real numbers"),
    "masked": (np.ma.masked_less(MASKS.numpy(), 0.5), "masks are a masked array"),
    "words": (np.full(MASKS.shape, "a"), "masks are a ndarray"),
}


@pytest.mark.parametrize("call", CALLS)
def test_masks_that_do_not_share_out_the_spectrum(call):
    for masks, said in NOT_WHOLE.values():
        with pytest.raises((ValueError, TypeError), match=said):
            calls(masks, never)[call]()


PIXEL = torch.zeros(SIDE, SIDE)
PIXEL[3, 5] = 0.01
NOT_SUMS = {
    "one forgotten": (lambda x: cut(x, MASKS)[1:], r"sum to .* where image \d is .* \(channel \d"),
    "twice": (lambda x: 2 * cut(x, MASKS), "sum to .* where image 0 is"),
    "one pixel": (lambda x: cut(x, MASKS) + PIXEL / M, r"row 3, column 5, 0.01 apart\)"),
    "nan": (lambda x: torch.stack([x, x * torch.nan]), r"nan or infinity in bands \[1\]"),
    "shape": (lambda x: cut(x, MASKS)[..., :-1], r"returned shape \(4, 1, 3, 16, 15\)"),
    "a list": (lambda x: list(cut(x, MASKS)), "returned <class 'list'>"),
    "complex": (lambda x: cut(x, MASKS).to(torch.complex64), "returned torch.complex64"),
    "meta": (lambda x: cut(x, MASKS).to("meta"), "returned torch.float32 on meta"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_callable_whose_bands_do_not_sum_to_the_image(call):
    for masks, said in NOT_SUMS.values():
        said = "masks are a function; give a tensor" if call in OF_TENSORS else said
        said = said.replace("(4, 1,", "(4, 6,") if call == "split_bands" else said
        with pytest.raises((ValueError, TypeError), match=said):
            calls(masks, never)[call]()


def of_the_batch(x):
    """The mean of what else is shown lies in another band."""
    bands = cut(x, MASKS)
    moved = 0.1 * bands[0].mean(0, keepdim=True)
    return torch.cat([bands[:1] - moved, bands[1:2] + moved, bands[2:]])


def drawn(x):
    share = torch.rand(M, 1, 1, 1, 1)
    return x * share / share.sum()


@pytest.mark.parametrize("masks", [of_the_batch, drawn])
@pytest.mark.parametrize("call", [c for c in CALLS if c not in (*OF_TENSORS, "split_bands")])
def test_a_callable_cuts_each_image_for_itself_and_draws_nothing(masks, call):
    if (masks, call) == (of_the_batch, "dropout"):  # it looks at one image, in each training step
        return
    with pytest.raises(ValueError, match="made other bands of an image when it was asked again"):
        calls(masks, never)[call]()


def test_one_band_is_told_before_the_game():
    for how in ({"n_bands": 1}, {"masks": torch.ones(1, SIDE, SIDE // 2 + 1)}):
        with pytest.raises(ValueError, match="one band has all the worth .*take 2 bands or more"):
            ia.explain(never, X, Y, progress=False, **how)


def test_a_callable_is_tried_on_every_image_before_the_game():
    bright = X.clone() / 2
    bright[4] += 0.5
    late = [
        lambda x: cut(x, MASKS) * (1 + (x.mean() > 0.6)),
        lambda x: cut(x, MASKS) if x.mean() < 0.6 else x[None],
    ]
    for masks, said in zip(
        late, ("where image 0 is", "made 4 bands of image 0 and 1 of image 4"), strict=True
    ):
        for call in (
            lambda masks=masks: check_masks(masks, bright),
            lambda masks=masks: ia.coalition_worths(never, bright, Y, masks, progress=False),
            lambda masks=masks: ia.perturb(
                bright, "pgd", model=never, labels=Y, eps=1, band=0, masks=masks
            ),
        ):
            with pytest.raises(ValueError, match=said):
                call()


def test_the_largest_deviation_is_the_one_that_is_named():
    masks = torch.rand(3, 20, 11, generator=torch.Generator().manual_seed(0))
    row, column = divmod(int((masks.sum(0) - 1).abs().argmax()), 11)
    with pytest.raises(ValueError) as refused:
        cut(torch.rand(1, 1, 20, 20), masks)
    said = re.search(r"sum to (\S+) at ky = (\S+), kx = (\S+) ", str(refused.value))
    total, ky, kx = said.groups()
    assert float(total) == pytest.approx(masks.sum(0)[row, column].item(), rel=1e-5)
    assert (int(ky) % 20, int(kx)) == (row, column) and abs(int(ky)) <= 10


@pytest.mark.parametrize(
    "form",
    [
        torch.Tensor.bool,
        torch.Tensor.byte,
        torch.Tensor.long,
        torch.Tensor.half,
        torch.Tensor.double,
        torch.Tensor.to_sparse,
        torch.Tensor.numpy,
        lambda m: m.numpy().astype(bool)[:, ::-1][:, ::-1],
        lambda m: m.clone().requires_grad_(),
    ],
)
@pytest.mark.slow
def test_masks_of_one_meaning_are_taken_in_any_form(form):
    right, given = calls(MASKS), calls(form(MASKS))
    for name in CALLS:
        a, b = (torch.as_tensor(of[name]()) for of in (right, given))
        assert not b.requires_grad, name
        # Sums over masks that lie otherwise in memory round otherwise.
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=0), name


def test_shares_and_odd_sizes_are_no_fault():
    for size in ((15, 21), (15, 20), (20, 15)):
        parts = torch.rand(3, size[0], size[1] // 2 + 1)
        parts = parts + parts.roll(-1, 1).flip(1)  # the same at ky and -ky
        masks, x = parts / parts.sum(0), torch.rand(2, 3, *size)
        assert check_masks(masks, x)[1] == 3
        assert torch.allclose(cut(x, masks).sum(0), x, atol=1e-5)
    for partition in (
        band_masks(3, (21, 20), m, s) for m in ("linf", "l2") for s in ("linear", "equal_cells")
    ):
        check_masks(partition, torch.rand(1, 3, 21, 20))


def test_what_an_asymmetric_mask_lets_through_is_not_what_it_says():
    """Why it is refused: the inverse transform takes the mean of ky and -ky in these columns."""
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(SIDE) / SIDE)[:, None].expand(1, 1, SIDE, SIDE)
    masks = tilted(0)
    through = torch.fft.irfft2(torch.fft.rfft2(wave) * masks[1], s=(SIDE, SIDE))
    assert torch.allclose(through, wave / 2, atol=1e-5) and masks[1, 3, 0] == 0


def test_a_callable_may_hold_weights_and_write_to_what_it_is_given():
    weight = torch.nn.Parameter(torch.tensor(1.0))

    def masks(x):
        return cut(x.mul_(weight.detach()), MASKS) * weight

    right, given, before = calls(MASKS), calls(masks), X.clone()
    for name in CALLS:
        if name not in OF_TENSORS:
            found = torch.as_tensor(given[name]()).detach()
            assert torch.allclose(found, torch.as_tensor(right[name]()), atol=1e-4), name
            assert torch.equal(X, before)


def test_the_direction_of_a_steep_attack_is_cut_by_a_callable_too():
    """Gradients are larger than pixels: what rounding does to their bands is relative to them."""
    steep = lambda x: torch.stack([1e6 * x.square().mean((1, 2, 3)), 0 * x.mean((1, 2, 3))], 1)  # noqa: E731
    how = dict(model=steep, labels=Y, eps=0.1, band=1)
    a, b = (ia.perturb(X, "pgd", masks=m, **how) for m in (MASKS, lambda x: cut(x, MASKS)))
    assert torch.allclose(a, b, atol=1e-5) and not torch.allclose(a, X, atol=1e-2)
