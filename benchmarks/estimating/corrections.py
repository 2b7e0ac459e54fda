"""Corrections of the score and the SID for the bias of the smallest of noisy mean values."""

import numpy as np

from iaside.estimate.resampling import draws
from iaside.score import robustness_score

BANDS = 8
TILT = robustness_score(np.eye(BANDS), signed=True, norm="tight")  # its sum over bands cancels
HALVES, RESAMPLES, INNER = 30, 300, 30


def profile(mean, weakest):
    """The signed score and the SID (..., 1 + M) of means (..., M), given their smallest (...)."""
    lowest = np.asarray(weakest)[..., None]
    share = (mean - lowest) / (mean - lowest).sum(-1, keepdims=True)
    return np.concatenate([share @ TILT[:, None], share], -1)


def plain(mean):
    return profile(mean, mean.min(-1))


def as_likely(mean, noise):
    """The weakest value, each band weighted by how often it is the weakest of noisy means."""
    weakest = (mean[:, None] + noise).argmin(-1)
    often = (weakest[..., None] == np.arange(BANDS)).mean(1)
    return (often * mean).sum(-1)


def to_a_line(mean, covariance):
    """Means drawn to the straight line through them as far as their noise allows (James, Stein)."""
    x = np.vander(np.arange(BANDS), 2)
    line = mean @ (x @ np.linalg.pinv(x)).T
    off = ((mean - line) ** 2).sum(-1, keepdims=True)
    noise = np.trace(covariance, axis1=1, axis2=2)[:, None] / BANDS
    return line + np.maximum(0, 1 - (BANDS - 4) * noise / off) * (mean - line)


def every_estimate(psi):
    """Name -> the signed score and the SID, (R, 1 + M), that each makes of samples (R, M, n)."""
    n, mean = psi.shape[2], psi.mean(2)
    deviation = psi - mean[:, :, None]
    covariance = deviation @ deviation.transpose(0, 2, 1) / (n - 1) / n
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(RESAMPLES // 2, BANDS))
    root = np.linalg.cholesky(covariance + 1e-12 * covariance.max() * np.eye(BANDS))
    noise = np.concatenate([noise, -noise]) @ root.transpose(0, 2, 1)  # (R, resamples, M)
    noisy = mean[:, None] + noise

    def of_weighted(weight):  # images (n, resamples) -> mean over the resamples
        return plain((psi @ weight).transpose(0, 2, 1)).mean(1)

    half = rng.permuted(np.tile(np.arange(n) < n // 2, (HALVES, 1)), axis=1)
    half = np.concatenate([half, ~half])
    first = draws(n, RESAMPLES)
    second = np.concatenate([rng.multinomial(n, p, INNER) / n for p in first.T[:HALVES]])
    left_out = (1 - np.eye(n)) / (n - 1)
    found, weakest = plain(mean), mean.min(-1)
    resampled, parametric = of_weighted(first), plain(noisy).mean(1)
    likely = as_likely(mean, noise)
    weighted = profile(mean, likely)
    error = plain(noisy).std(1)
    size = np.abs(weighted - found) / np.where(error > 0, error, np.inf)
    soft = np.exp((weakest[:, None] - mean) / noise.std((1, 2))[:, None])
    return {
        "plain": found,
        "jackknife": n * found - (n - 1) * of_weighted(left_out),
        "half-samples": 2 * found - of_weighted((half / half.sum(1, keepdims=True)).T),
        "bootstrap": 2 * found - resampled,
        "double bootstrap": 3 * found - 3 * resampled + of_weighted(second.T),
        "Gaussian bootstrap": 2 * found - parametric,
        "half of the Gaussian bootstrap": 1.5 * found - 0.5 * parametric,
        "weakest less its bias": profile(mean, 2 * weakest - noisy.min(-1).mean(1)),
        "weakest as likely": weighted,
        "weakest as likely, noise / 1.4": profile(mean, as_likely(mean, noise / 2**0.5)),
        "weakest as likely, noise * 1.4": profile(mean, as_likely(mean, noise * 2**0.5)),
        "weakest half as likely": profile(mean, (weakest + likely) / 2),
        "weakest as likely, where it matters": (
            found + (weighted - found) * np.clip((size - 0.3) / 0.4, 0, 1)
        ),
        "smooth minimum": profile(mean, (soft * mean).sum(-1) / soft.sum(-1)),
        "drawn to a line": plain(to_a_line(mean, covariance)),
    }
