"""Games whose values are known: tables of worths, and a `Game` that looks its worths up in one."""

import numpy as np
import torch

from iaside.game.game import Game
from iaside.shapley import coalitions, shapley_values


def bands(table):
    return len(table).bit_length() - 1


def population(rng, n_bands, n):
    """Exact tables (2**M, n) of images whose common game is known, and its values (M,)."""
    x = coalitions(n_bands).astype(float)
    share = 2.0 ** -np.arange(n_bands)
    common = 4 * (1 - np.exp(-x @ share))  # low bands matter most, and the worth saturates
    own = (x[:, :, None] * x[:, None] * share[:, None] * share).reshape(len(x), -1)
    strength = rng.exponential(size=(own.shape[1], n)) - 1  # mean 0, skewed
    table = common[:, None] + own @ strength + 0.1 * rng.normal(size=(len(x), n))
    return table - table[0], shapley_values(common)


def game_of(table, seed=0, kind=Game):
    """The game whose worths are an exact table: image i is grey, band k its row k."""
    n_bands, n = bands(table), table.shape[1]
    images = (torch.arange(1, n + 1) / (n + 1)).expand(3, n_bands, n_bands, n).permute(3, 0, 1, 2)
    rows = torch.eye(n_bands)[:, None, None, :, None]
    known = torch.from_numpy(table)

    def look_up(x):
        code = (x[:, 0, :, 0] > 0).long() @ (1 << torch.arange(n_bands))
        worth = known[code, (x.amax((1, 2, 3)) * (n + 1)).round().long() - 1]
        return torch.stack([worth, 0 * worth], 1)

    return kind(
        look_up,
        images,
        torch.zeros(n).long(),
        lambda x: x * rows,
        seed=seed,
        value=lambda outputs, labels: outputs[:, 0],
        batch_size=60,
    )
