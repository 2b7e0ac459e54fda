"""Made-up values of images with a known mean, for tests of scores and of their limits."""

import numpy as np

MEANS = np.array([3, 2, 1, 0.6, 0.4, 0.3, 0.2, 0.1])


def skewed_population(n_images, rng, means=MEANS, spread=1.5):
    """Per-image values with the given means: log-normal, correlated between near bands."""
    bands = np.arange(len(means))
    correlation = 0.5 ** np.abs(bands[:, None] - bands)
    z = np.linalg.cholesky(correlation) @ rng.normal(size=(len(means), n_images))
    noise = (np.exp(0.8 * z) - np.exp(0.32)) / np.sqrt((np.exp(0.64) - 1) * np.exp(0.64))
    return means[:, None] + spread * noise
