"""The published filter, with the defects that docs/methods.md, Bands and Absent bands measured."""

import numpy as np
import pytest
import torch

from iaside.game.published import (
    published_filter,
    published_mask,
    published_passes,
    published_worths,
)
from iaside.shapley import coalitions


def test_boxes_tile_the_square_in_the_published_shares():
    masks = torch.stack([published_mask(m, (224, 224)) for m in np.eye(8, dtype=bool)])
    assert masks.sum((1, 2)).tolist() == [784, 2352, 3920, 5488, 7056, 8624, 10192, 11760]
    assert (masks.sum(0) == 1).all()
    any_two = published_mask(coalitions(8)[0b10010], (224, 224))
    assert torch.equal(any_two, masks[1] + masks[4])


def test_innermost_box_runs_from_minus_four_to_three():
    inside = published_mask(np.eye(8, dtype=bool)[0], (64, 64)).any(1).nonzero()[:, 0] - 32
    assert inside.tolist() == list(range(-4, 4))


def natural_like(n=64, side=64):
    noise = torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(0))
    ky, kx = torch.fft.fftfreq(side)[:, None] * side, torch.fft.rfftfreq(side)[None] * side
    radius = (ky**2 + kx**2).sqrt().clamp(min=1)
    x = torch.fft.irfft2(torch.fft.rfft2(noise) / radius, s=(side, side))
    x = x - x.amin((1, 2, 3), keepdim=True)
    return x / x.amax((1, 2, 3), keepdim=True)


@pytest.mark.parametrize(("band", "share"), [(3, 0.126), (7, 0.214)])
def test_the_magnitude_moves_most_energy_out_of_the_band(band, share):
    x = natural_like()
    keep = torch.fft.ifftshift(published_mask(np.eye(8, dtype=bool)[band], (64, 64)))
    passed = torch.fft.ifft2(torch.fft.fft2(x) * keep)

    def in_band(image):
        power = torch.fft.fft2(image).abs().square()
        power[..., 0, 0] = 0
        return (power * keep).sum() / power.sum()

    assert abs(in_band(passed.abs()) - share) < 0.02
    assert in_band(passed.real) > 0.9


def test_an_image_depends_on_its_batch_mates():
    x = natural_like(4)
    members = np.array([True, False, True, True])
    alone = published_filter(x[:1], members)
    among = published_filter(torch.cat([x[:1], 3 * x[1:]]), members)[:1]
    assert (alone - among).abs().max() > 0.1
    assert among.min() >= 0 and among.max() <= 1


def test_a_killed_measurement_goes_on(tmp_path):
    x, y, seen = torch.rand(12, 3, 16, 16), torch.arange(12) % 3, []

    def model(t):
        seen.append(len(t))
        if len(seen) == 10:
            raise KeyboardInterrupt
        return 5 * t.mean((2, 3))

    with pytest.raises(KeyboardInterrupt):
        published_worths(model, x, y, 2, resume=tmp_path)
    done = len(seen)
    table = published_worths(model, x, y, 2, resume=tmp_path)
    looks = 4  # of six pictures
    assert len(seen) - done == looks + 8 - (done - looks - 1), "the rest, and one look at the model"
    assert np.array_equal(table, published_worths(lambda t: 5 * t.mean((2, 3)), x, y, 2))
    with pytest.raises(ValueError, match="precision='bf16' is not known"):
        published_worths(model, x, y, 2, precision="bf16")


class Told(torch.nn.Module):
    """Classes by mean colour, as probabilities; writes to its input and counts what it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, t):
        self.seen += len(t)
        return t.mul_(5).mean((2, 3)).softmax(1)


def test_the_published_code_asks_as_every_loop_does():
    x, y, net = torch.rand(12, 3, 16, 16), torch.arange(12) % 3, Told().eval()
    with pytest.raises(ValueError, match="say outputs='probabilities'"):
        published_worths(net, x, y, 2)
    net.seen, before = 0, x.clone()
    told = published_worths(net, x, y.tolist(), 2, outputs="probabilities")
    assert net.seen == published_passes(2, 12) and torch.equal(x, before)
    right = published_worths(lambda t: 5 * t.mean((2, 3)), x, y, 2)
    assert np.allclose(told, right, atol=1e-5)
    for images, labels, text in (
        (255 * x, y, "images range from"),
        (x, y + 1, "has 3 classes"),
        ((255 * x).byte(), y, "divide by 255"),
    ):
        with pytest.raises((ValueError, TypeError), match=text):
            published_worths(lambda t: 5 * t.mean((2, 3)), images, labels, 2)

    def breaks(t):
        return t.mean((2, 3)) / (t.amax((1, 2, 3), keepdim=True)[:, 0, 0] > 0)

    with pytest.raises(ValueError, match="nan or infinite worths for images 0 to 9"):
        published_worths(breaks, x, y, 2)


def test_worths_are_the_log_likelihood_in_batches_of_ten():
    x = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 3
    table = published_worths(lambda t: 5 * t.mean((2, 3)), x, y, 2)
    assert table.shape == (4, 12) and table.dtype == np.float64
    batch = published_filter(x[10:], np.array([False, True]))
    expected = (5 * batch.mean((2, 3))).log_softmax(1)[torch.arange(2), y[10:]]
    assert np.allclose(table[2, 10:], expected, atol=1e-6)
    assert np.allclose(table[0], np.log(1 / 3))


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="8x8 pixels: the published code needs 16"):
        published_mask(np.ones(2, dtype=bool), (8, 8))


def test_an_image_without_contrast_is_black_not_nan():
    one = np.array([False, True])
    assert torch.equal(
        published_filter(torch.full((2, 3, 16, 16), 0.5), one).isnan(),
        torch.zeros(2, 3, 16, 16, dtype=torch.bool),
    )
