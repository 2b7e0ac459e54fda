"""The bands of a few images, of which the pictures of coalitions are put together."""

from __future__ import annotations

import torch
from torch import Tensor

from iaside.spectral import Masks, bands_of


class Bands:
    """The bands of a few images, channels-last, to be put together; where one is not, its fill."""

    @torch.no_grad()  # a callable given as masks may hold weights
    def __init__(self, x: Tensor, fill: Tensor | None, masks: Masks) -> None:
        self.shape = x.shape
        bands = self._flat(bands_of(x, masks))
        self.base = None
        if fill is not None:
            fill_bands = self._flat(bands_of(fill, masks))
            bands = bands - fill_bands
            self.base = fill_bands.sum(0, keepdim=True)
        self.bands = bands
        self.buffer: Tensor | None = None

    @staticmethod
    def _flat(bands: Tensor) -> Tensor:
        return bands.movedim(2, -1).reshape(len(bands), -1)

    @torch.no_grad()  # masks may ask for gradients
    def coalitions(self, members: Tensor) -> Tensor:
        """(k, M) of 0.0 and 1.0 -> (k * B, C, H, W), coalition by coalition."""
        channels, *size = self.shape[1:]
        if self.buffer is None or len(self.buffer) != len(members):
            self.buffer = self.bands.new_empty(len(members), self.bands.shape[1])
        members = members.to(self.bands)
        if self.base is None:
            torch.mm(members, self.bands, out=self.buffer)
        else:
            torch.addmm(self.base, members, self.bands, out=self.buffer)
        return self.buffer.view(-1, *size, channels).movedim(-1, 1)
