"""Pixels that rounding has put outside [0, 1], and messages that must not contradict themselves."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import iaside as ia
from iaside.backend.answers import not_as_said
from iaside.backend.checks import told_apart
from iaside.backend.fingerprints import fingerprint
from iaside.game.published import published_worths
from iaside.game.sampling import _known
from iaside.inputs import sizing
from iaside.inputs.checks import check_images
from iaside.robustness.measures import mean_corruption_error, mean_prediction_error
from iaside.tables import CORRUPTIONS, Condition

SIDE = 16
MASKS = ia.band_masks(3, (SIDE, SIDE))
Y = torch.tensor([0, 1, 0, 1, 0])
ROUNDED = [(0.0, 1.0000002), (-1e-6, 1.0), (-9e-6, 1.000009)]


def pictures(low, high):
    x = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x[:, :, 2, 2], x[:, :, 3, 3] = low, high
    return x


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)
        ).eval()


def doors(net, x):
    """Every public call that takes pixels: name -> what it gives, as arrays and a provenance."""
    quiet = dict(progress=False, batch_size=8)

    def worths(found):
        return [*found.tables.values(), str(found.provenance)]

    bands, noise = np.eye(3, dtype=bool), [Condition("white_noise", 0.1)]
    map_of = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    return {
        "worths": lambda: worths(ia.coalition_worths(net, x, Y, MASKS, **quiet)),
        "mean": lambda: worths(ia.coalition_worths(net, x, Y, MASKS, absence="mean", **quiet)),
        "sampled": lambda: worths(ia.sampled_worths(net, x, Y, MASKS, budget=60, **quiet)),
        "explain": lambda: worths(
            ia.explain(net, x, Y, n_bands=3, spacing="equal_energy", **quiet).worths
        ),
        "shown": lambda: [ia.coalition_images(x, MASKS, bands)],
        "published": lambda: [published_worths(net, x, Y, 2)],
        "responses": lambda: worths(ia.responses(net, x, Y, noise, MASKS, **quiet)),
        "noise": lambda: [ia.perturb(x, "white_noise", sigma=0.1, clamp=False)],
        "pgd": lambda: [ia.perturb(x, "pgd", model=net, labels=Y, eps=0.1)],
        "attribute": lambda: [ia.attribute(net, x, Y, "fast_ig", progress=False)],
        "insertion": lambda: [ia.insertion(net, x, Y, map_of, steps=4)],
        "deletion": lambda: [ia.deletion(net, x, Y, map_of, steps=4)],
    }


@pytest.mark.parametrize("call", doors(None, pictures(0, 1)))
@pytest.mark.parametrize(("low", "high"), ROUNDED)
def test_what_rounding_puts_outside_is_clipped_before_it_is_measured(call, low, high):
    net, x = network(), pictures(low, high)
    before = x.clone()
    found, right = doors(net, x)[call](), doors(net, x.clamp(0, 1))[call]()
    assert torch.equal(x, before), "the caller's own stay as they are"
    for a, b in zip(found, right, strict=True):
        assert a == b if isinstance(a, str) else np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("call", doors(None, pictures(0, 1)))
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.00002), (-0.00002, 1.0), (-1.1e-5, 1.0), (0.0, 1.000011)]
)
def test_what_lies_further_out_is_refused_in_so_many_digits(call, low, high):
    with pytest.raises(ValueError, match="pixels must be in") as said:
        doors(network(), pictures(low, high))[call]()
    told = [float(v) for v in re.search("from (.*) to (.*); ", str(said.value)).groups()]
    assert told == pytest.approx([low, high], abs=1e-6)
    assert [told[0] < 0, told[1] > 1] == [low < 0, high > 1], "or it says that they are inside"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_pixels_that_are_inside_are_not_even_copied(dtype):
    x = pictures(0, 1).to(dtype)
    assert check_images(x) is x
    out = x.double() + 1e-9
    assert fingerprint(check_images(out)) == fingerprint(out.clamp(max=1))


def test_single_pictures_are_clipped_and_refused_alike():
    white = torch.full((3, 40, 40), 1.0000002)
    assert torch.equal(sizing._as_rgb(white), torch.ones(3, 40, 40))
    with pytest.raises(ValueError, match=r"from 1 to 1\.0000(19|2)\d*: divide"):
        sizing._as_rgb(torch.tensor([1.0, 1.00002]).expand(3, 4, 2))


@pytest.mark.parametrize("limit", [0.0, 1.0, 0.1, 3.0, 1e-9])
def test_a_number_beyond_a_limit_never_reads_like_it(limit):
    for step in (1e-3, 1e-6, 1e-9, 1e-13):
        for value in (limit + step, limit - step):
            text = told_apart(value, limit)
            assert (float(text) > limit) == (value > limit) and float(text) != limit
    assert told_apart(limit, limit) == f"{limit:.4g}"
    assert told_apart(0.5, limit) == "0.5", "no digits that are not needed"


def test_messages_do_not_contradict_themselves():
    assert _known(0.10000001, 0.1) == "the largest standard error is 0.10000001, not 0.1"
    said = not_as_said(torch.tensor([[1.00002, 0.5]]), "probabilities")
    assert said.startswith("answers range from 0.5 to 1.00002 ")
    with pytest.raises(ValueError, match="from 0 to 1, got 1.0000001"):
        mean_prediction_error([0.5], [1.0000001])
    errors = dict.fromkeys(CORRUPTIONS, 0.5) | {"fog": [0.5] * 4 + [1 + 1e-12]}
    with pytest.raises(ValueError, match="between 0 and 1, got .*1.000000000001"):
        mean_corruption_error(errors)
