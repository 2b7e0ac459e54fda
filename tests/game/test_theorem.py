"""Theorem 3.6 of Luo et al. 2024 (and its Fig. 13) where the posterior is known for every
coalition.

Two equally frequent classes, +mu and -mu, in white noise. Bands are orthogonal, so their noises are
independent and zeroing a band is exactly marginalising it: the posterior of a filtered image is the
logistic of 2 mu_S . x, which is what a network with the logit 2 mu . x makes of it.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_expit

from iaside.game.exact import coalition_worths
from iaside.shapley import coalitions, shapley_values
from iaside.spectral import band_masks, split_bands

M, SIDE, N = 3, 8, 200_000
SCALE = 0.03  # of the pixels, so that the noise stays in [0, 1]
H = np.log(2)
LENGTHS = (1.2, 0.8, 0.5)  # of mu in each band: how far the classes are apart there


@pytest.fixture(scope="module")
def world():
    """Images, labels, masks, mu without a mean (of which zeroing band 0 takes the grey away)."""
    rng = torch.Generator().manual_seed(0)
    masks = band_masks(M, (SIDE, SIDE))
    pattern = torch.randn(1, 1, SIDE, SIDE, generator=rng, dtype=torch.float64)
    bands = split_bands(pattern - pattern.mean(), masks)[:, 0]
    mu = sum(d * band / band.norm() for d, band in zip(LENGTHS, bands, strict=True))
    labels = torch.arange(N) % 2
    noise = torch.randn(N, 1, SIDE, SIDE, generator=rng, dtype=torch.float64)
    x = 0.5 + SCALE * (noise + (2 * labels.view(-1, 1, 1, 1) - 1) * mu)
    return x, labels, masks, mu


def log_likelihoods(world, sharpness=1.0, lean=0.0):
    """log Q(y | x * S), (2**M, N), by this kit, of the logit sharpness * 2 mu.x + lean."""
    x, labels, masks, mu = world

    def model(x):
        logit = sharpness * 2 * ((x / SCALE) * mu).sum((1, 2, 3)) + lean
        return torch.stack([torch.zeros_like(logit), logit], 1)

    return coalition_worths(model, x, labels, masks, batch_size=8_000, progress=False).table


def expected(integrand, distance):
    """The mean of a function of the true logit given the class +mu: it is N(2 d^2, 4 d^2)."""
    nodes = np.linspace(-9, 9, 4001)
    weights = stats.norm.pdf(nodes)
    logit = 2 * distance**2 + 2 * distance * nodes
    return float((weights * integrand(logit)).sum() / weights.sum())


def distances():
    return np.sqrt(coalitions(M).astype(float) @ np.square(LENGTHS))


def mutual_information(distance):
    """I(X * S; Y) = H(Y) - E[-log P(y | x * S)], in nats, by an integral."""
    return H + expected(log_expit, distance)


def divergence(distance, sharpness, lean):
    """E KL(P || Q) over the images of both classes, which mirror each other."""

    def kl(logit):
        p, q = expit(logit), sharpness * logit + lean
        return p * (log_expit(logit) - log_expit(q)) + (1 - p) * (log_expit(-logit) - log_expit(-q))

    return (expected(kl, distance) + expected(lambda logit: kl(-logit), distance)) / 2


@pytest.mark.slow
def test_worths_of_an_honest_network_are_the_mutual_information(world):
    """KL = 0 for every coalition: I(X * S; Y) = H(Y) + v(S) + C."""
    table = log_likelihoods(world)
    mean, error = table.mean(1), table.std(1) / N**0.5
    C = mean[0]
    v = mean - C
    assert pytest.approx(-H, abs=1e-6) == C, "an honest answer to the empty image"
    information = np.array([mutual_information(d) for d in distances()])
    assert (np.abs(H + v + C - information) < np.maximum(4 * error, 1e-6)).all()
    assert np.abs(H + v + C - information).max() < 0.005
    assert (information <= H).all() and information[-1] > 0.4, "there is something to know"
    # The Shapley values of the worths are those of the information, too.
    assert np.abs(shapley_values(table).mean(1) - shapley_values(information)).max() < 0.005


@pytest.mark.parametrize(("sharpness", "lean"), [(2.0, 0.0), (0.4, 0.0), (1.0, 1.5), (1.5, -0.7)])
@pytest.mark.slow
def test_a_misspecified_network_falls_short_by_the_divergence(world, sharpness, lean):
    """I(X * S; Y) = KL + H(Y) + v(S) + C, as Fig. 13 draws it, whatever the network."""
    table = log_likelihoods(world, sharpness, lean)
    mean, error = table.mean(1), table.std(1) / N**0.5
    C = mean[0]
    v = mean - C
    information = np.array([mutual_information(d) for d in distances()])
    kl = np.array([divergence(d, sharpness, lean) for d in distances()])
    assert (kl[1:] > 0.002).all(), "the network is wrong"
    assert (np.abs(kl + H + v + C - information) < np.maximum(4 * error, 1e-6)).all()
    assert kl[0] == pytest.approx(-H - C, abs=1e-6), "the empty image holds no information"
    assert (H + v + C - 4 * error <= information + 1e-6).all() and (information <= H).all()
    if lean:
        assert abs(v[-1] - information[-1]) > 0.02, "v alone is not the information"
