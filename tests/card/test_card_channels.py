"""Cards of networks of one channel and of five."""

import numpy as np
import pytest
import torch
from planted import M, N, planted

import iaside as ia
from iaside.card.harms import PLAIN


def of_channels(k):
    """The planted model and its images with k equal channels."""
    model, images, labels = planted(1)
    grey = images.mean(1, keepdim=True)
    grey = (0.5 + 1.7 * (grey - 0.5)).clamp(0, 1)
    return model, grey.expand(-1, k, -1, -1).contiguous(), labels


@pytest.fixture(scope="module")
def grey():
    return ia.report(*of_channels(1), n_bands=M, reference=False, progress=False)


def test_a_grey_network_meets_all_that_a_colour_network_meets(grey):
    assert set(PLAIN) <= {harm.name for harm in grey.harms}
    assert any("PGD" in harm.name for harm in grey.harms) and not grey.left_out
    assert "of the 1 channels" not in grey.to_html()


@pytest.mark.slow
def test_grey_pictures_are_corrupted_as_colour_pictures_of_equal_channels(grey):
    """An independent way to the same numbers: a colour model that looks at one channel."""
    model, images, labels = of_channels(1)
    colour = ia.report(
        lambda x: model(x[:, :1]), images.expand(-1, 3, -1, -1), labels, n_bands=M, progress=False
    )
    for name in ("fog", "low contrast", "JPEG"):
        own, other = (next(h for h in c.harms if h.name == name) for c in (grey, colour))
        np.testing.assert_allclose(own.rows, other.rows, atol=0.05)


def test_pictures_of_one_channel_are_shown_in_grey(grey):
    for picture in grey.pictures:
        assert picture.pixels.shape[2] == 3
        assert (picture.pixels == picture.pixels[..., :1]).all()


@pytest.mark.slow
def test_five_channels_meet_what_is_made_of_any_and_the_page_says_what_is_left_out():
    card = ia.report(*of_channels(5), n_bands=M, progress=False)
    whole = {harm.name for harm in card.harms} & set(PLAIN)
    assert {PLAIN[name].source for name in whole} == {"white_noise", "gaussian_blur", "low_light"}
    assert len(card.explanation.values) == M and card.explanation.psi.n == N
    page = card.to_html()
    assert "mean of the 5 channels" in page and "left out: they are of colour pictures" in page


def test_pictures_of_other_channels_than_the_model_takes_are_refused_in_a_line():
    net = torch.nn.Sequential(torch.nn.Conv2d(5, 2, 3), torch.nn.AdaptiveAvgPool2d(1)).eval()
    five = torch.nn.Sequential(net, torch.nn.Flatten())
    with pytest.raises(ValueError, match="channels"):
        ia.report(five.eval(), torch.rand(6, 3, 32, 32), torch.zeros(6).long())
