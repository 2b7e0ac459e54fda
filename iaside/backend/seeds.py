"""Random numbers for each image, derived from a seed and its index in the set."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import check_values

_GLOBAL_NUMPY = threading.Lock()  # pixle of torchattacks draws from numpy's global generator


def generators(seeds: list[int]) -> Iterator[torch.Generator]:
    """Random generators on the CPU, so that every device sees the same numbers."""
    return (torch.Generator().manual_seed(seed) for seed in seeds)


def seeds_of(seed: int, first: int, n: int) -> list[int]:
    """Seeds of n images: image i draws from (seed, first + i)."""
    check_values({"seed": seed, "first": first})
    return [int(np.random.SeedSequence((seed, first + i)).generate_state(1)[0]) for i in range(n)]


def descending(values: Tensor, generator: torch.Generator) -> Tensor:
    """The places of values (P,), the largest first, in random order where values are equal.

    Ordered by place, equal pixels would be whole rows of an image, which look like one.
    """
    order = torch.randperm(len(values), generator=generator, device="cpu").to(values.device)
    return order[values[order].argsort(descending=True, stable=True)]


def normal_like(x: Tensor, seeds: list[int]) -> Tensor:
    return torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators(seeds)]).to(x)


@contextlib.contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global generator, seeded inside and as it was afterwards, for one at a time."""
    with _GLOBAL_NUMPY:
        before, state = np.random.get_bit_generator(), np.random.get_state()
        np.random.set_bit_generator(np.random.MT19937())  # no other kind can be seeded
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_bit_generator(before)
            np.random.set_state(state)


def random_like(kind: Callable, draws, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(n, B, ...) random numbers of shape (n, ...) for each image, made on the CPU."""
    return torch.stack([kind(shape, generator=g, device="cpu") for g in draws], 1).to(like)
