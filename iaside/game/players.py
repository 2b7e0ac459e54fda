"""Other players than rings of the spectrum: wavelet levels and packets, orientations.

Each is a callable for ``masks=``, x (B, C, H, W) -> bands (M, B, C, H, W) that sum to x, so the
game is the same. ``ordered`` says whether players go from low to high frequencies, without which
there is no spectral robustness score.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import is_whole
from iaside.backend.precision import undisturbed
from iaside.spectral import Masks, band_energy, band_masks, bands_of, split_bands

PLAYERS = ("fourier", "wavelet", "orientation")  # what `players_of` makes
KINDS = ("levels", "orientation", "packets")


@dataclass(frozen=True)
class WaveletBands:
    """Parts of an image in the subbands of a discrete wavelet transform, as `wavelet_bands` says.

    names (M,): of the players;  ordered: whether they go from low to high frequencies.
    """

    wavelet: str
    levels: int
    kind: str

    @property
    def names(self) -> list[str]:
        if self.kind == "packets":
            return [f"packets {i}" for i in range(2**self.levels)]
        deepest_first = range(self.levels, 0, -1)
        if self.kind == "levels":
            return ["approximation", *(f"details {j}" for j in deepest_first)]
        directions = ("horizontal", "vertical", "diagonal")
        return ["approximation", *(f"{d} {j}" for j in deepest_first for d in directions)]

    @property
    def ordered(self) -> bool:
        return self.kind != "orientation"

    @undisturbed
    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> their parts (M, B, C, H, W), which sum to them."""
        if x.ndim != 4:
            raise ValueError(
                f"wavelet levels are of images (B, C, H, W), got {tuple(x.shape)}; cut signals "
                f"into bands with band_masks(n_bands, ({x.shape[-1]},))"
            )
        self.check_size(*x.shape[-2:])
        packets = self.kind == "packets"
        down, across = (
            torch.from_numpy(_low_passes(side, self.wavelet, self.levels, packets)).to(x)
            for side in x.shape[-2:]
        )
        first, high = slice(None, -1), slice(1, None)
        low = torch.stack([a @ x @ b.T for a, b in zip(down, across, strict=True)])
        if self.kind != "orientation":
            return torch.cat([low[:1], low[high] - low[first]])
        details = [
            part
            for a, b, up, right in zip(
                down[first], across[first], down.diff(dim=0), across.diff(dim=0), strict=True
            )
            for part in (up @ x @ b.T, a @ x @ right.T, up @ x @ right.T)
        ]
        return torch.stack([low[0], *details])

    def check_size(self, height: int, width: int) -> None:
        """Refuse images too small for so many levels. Errors: ValueError."""
        import pywt

        taps = pywt.Wavelet(self.wavelet).dec_len
        most = pywt.dwt_max_level(min(height, width), taps)
        if self.levels > most:
            raise ValueError(
                f"levels={self.levels} of {self.wavelet} ({taps} taps) do not fit images of "
                f"{height}x{width} pixels: take at most {most}, a shorter wavelet such as haar, or "
                "larger images"
            )


@functools.lru_cache(16)
def _low_passes(side: int, wavelet: str, levels: int, packets: bool) -> np.ndarray:
    """What keeps the lowest, the two lowest, ... bands of a side, all of them last: (M, N, N).

    A transform in two dimensions is one of rows and one of columns, so that these matrices are all
    there is to it. Bands are wavelet levels, or packets in the order of their frequencies.
    """
    import pywt

    whole = -(-side // 2**levels) * 2**levels
    mirrored = [*range(side), *range(side - 1, 0, -1)][:whole]
    pixels = np.eye(side)[mirrored]
    if packets:
        tree = pywt.WaveletPacket(pixels, wavelet, "periodization", levels, axis=0)
        bands = []
        for node in tree.get_level(levels, order="freq"):
            alone = pywt.WaveletPacket(None, wavelet, "periodization", levels, axis=0)
            alone[node.path] = node.data
            bands.append(alone.reconstruct(update=False))
        low = np.cumsum(bands, 0)
    else:
        subbands = pywt.wavedec(pixels, wavelet, "periodization", levels, axis=0)
        low = [
            pywt.waverec(
                [c * (i <= k) for i, c in enumerate(subbands)], wavelet, "periodization", 0
            )
            for k in range(len(subbands))
        ]
    return np.array([*low[:-1], pixels])[:, :side]


def wavelet_bands(wavelet: str = "db4", levels: int = 4, kind: str = "levels") -> WaveletBands:
    """Players that are the levels, the subbands, or rings of packets of a wavelet transform.

    Periodic at the borders, so that an orthogonal wavelet splits the energy of an image, too; sides
    that 2**levels does not divide are mirrored up to the next that it does, and cropped.

    kind: ``levels`` the approximation and each level's details, J + 1 players from low to high
    frequencies; ``orientation`` the approximation and each level's horizontal, vertical and
    diagonal details, 3J + 1 players, without order and so without a score; ``packets`` the 4**J
    wavelet packets in 2**J rings of equal width, as ``band_masks`` in the metric linf.
    wavelet: of ``pywt.wavelist(kind="discrete")``. Needs ``pip install 'iaside[wavelets]'``.

    Returns a callable x (B, C, H, W) -> (M, B, C, H, W) for ``masks=``.
    Errors: ModuleNotFoundError without PyWavelets; ValueError for an unknown name, levels < 1, and
    when called for images too small (db4 takes 2 levels at 32 pixels, 5 at 224).
    Source: Mallat 1989; the transform is that of PyWavelets (Lee et al. 2019).

    >>> x = torch.rand(2, 3, 64, 64)
    >>> bands = wavelet_bands("db4", levels=3)(x)
    >>> bands.shape, torch.allclose(bands.sum(0), x, atol=1e-5)
    (torch.Size([4, 2, 3, 64, 64]), True)
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
    if not is_whole(levels) or levels < 1:
        raise ValueError(f"levels={levels!r} must be a whole number, at least 1")
    if importlib.util.find_spec("pywt") is None:
        raise ModuleNotFoundError(
            "wavelets need the package PyWavelets: pip install 'iaside[wavelets]', or take "
            "orientation_bands or band_masks"
        )
    import pywt

    if wavelet not in (known := pywt.wavelist(kind="discrete")):
        raise ValueError(f"wavelet={wavelet!r} is not known; choose one of {', '.join(known)}")
    return WaveletBands(wavelet, int(levels), kind)


@dataclass(frozen=True)
class OrientationBands:
    """Parts of an image in sectors of its spectrum, as `orientation_bands` says."""

    angles: int
    rings: int
    ordered = False

    @property
    def names(self) -> list[str]:
        sectors = [f"{180 * a / self.angles:g} degrees" for a in range(self.angles)]
        if self.rings == 1:
            return ["mean", *sectors]
        return ["mean", *(f"ring {r}, {s}" for r in range(self.rings) for s in sectors)]

    @undisturbed
    def masks(self, size: tuple[int, int]) -> Tensor:
        """Masks (M, H, W//2 + 1) of the sectors, for images of that size."""
        height, width = size
        ky = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
        kx = torch.fft.rfftfreq(width, dtype=torch.float64)[None]
        # At the Nyquist frequency of an axis both signs are one frequency of a real image.
        ky = torch.where((kx == 0.5) | (ky == -0.5), ky.abs(), ky)
        turn = torch.atan2(ky, kx.expand(height, -1)) / math.pi * self.angles
        sector = (turn + 0.5).mul(2**30).round().div(2**30).floor().long() % self.angles
        ring = band_masks(self.rings, size).argmax(0)
        player = 1 + ring * self.angles + sector
        player[0, 0] = 0
        return torch.nn.functional.one_hot(player, len(self.names)).movedim(-1, 0).float()

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> their parts (M, B, C, H, W), which sum to them."""
        return bands_of(x, self.masks(tuple(x.shape[-2:])))


def orientation_bands(angles: int = 4, rings: int = 1) -> OrientationBands:
    """Players that are sectors of the spectrum, cut into rings: which directions, at which scale.

    The first player is the mean (DC), which has no direction; then ring by ring, lowest first, one
    for each angle. Angle 0 has waves along the rows (vertical stripes) and is the middle of its
    sector; angles grow from x towards y (downwards) and are the same modulo 180 degrees, so a real
    image stays real. Rings are those of ``band_masks`` (linf, linear).

    Returns a callable x (B, C, H, W) -> (angles * rings + 1, B, C, H, W) for ``masks=``; players
    have no order from low to high, so there is no score.
    Errors: ValueError for angles or rings below 1, and when called as ``band_masks`` for rings.
    Source: steerable pyramids' split by orientation (Simoncelli and Freeman 1995), with ideal
    sectors.

    >>> stripes = torch.cos(torch.pi / 4 * torch.arange(32.0)).expand(1, 1, 32, 32)
    >>> orientation_bands(angles=4)(stripes).square().mean((1, 2, 3, 4)).round(decimals=3).tolist()
    [0.0, 0.5, 0.0, 0.0, 0.0]
    """
    for name, number in (("angles", angles), ("rings", rings)):
        if not is_whole(number) or number < 1:
            raise ValueError(f"{name}={number!r} must be a whole number, at least 1")
    return OrientationBands(int(angles), int(rings))


@dataclass(frozen=True)
class Cells:
    """The bands of other players, each cut into ``grid`` x ``grid`` parts of the picture.

    >>> Cells(orientation_bands(1), grid=2)(torch.rand(1, 3, 8, 8)).shape
    torch.Size([8, 1, 3, 8, 8])
    """

    players: WaveletBands | OrientationBands
    grid: int
    ordered = False

    @property
    def names(self) -> list[str]:
        places = range(self.grid)
        return [f"{n} at {i}, {j}" for n in self.players.names for i in places for j in places]

    def __call__(self, x: Tensor) -> Tensor:
        bands = self.players(x)
        out = bands.new_zeros(len(bands), self.grid, self.grid, *x.shape)
        edges = [[side * i // self.grid for i in range(self.grid + 1)] for side in x.shape[-2:]]
        for i in range(self.grid):
            for j in range(self.grid):
                rows, columns = (slice(e[k], e[k + 1]) for e, k in zip(edges, (i, j), strict=True))
                out[:, i, j, ..., rows, columns] = bands[..., rows, columns]
        return out.flatten(0, 2)


def about_players(masks: Masks) -> dict:
    """What a provenance says of players that are not bands of the spectrum.

    >>> about_players(orientation_bands(1))
    {'players': ['mean', '0 degrees'], 'ordered': False}
    """
    kinds = WaveletBands | OrientationBands | Cells
    return {"players": masks.names, "ordered": masks.ordered} if isinstance(masks, kinds) else {}


def players_of(
    players: str,
    n_bands: int,
    size: tuple[int, int],
    metric: str = "linf",
    spacing: str = "linear",
    wavelet: str = "db4",
    images: Tensor | None = None,
) -> Masks:
    """So many players of a kind: ``fourier`` bands, ``wavelet`` levels or ``orientation`` sectors.

    metric, spacing, images: of ``fourier`` (``band_masks``);  wavelet: of ``wavelet``, whose levels
    are n_bands - 1.  Errors: those of ``band_masks``, ``wavelet_bands`` and ``orientation_bands``.

    >>> players_of("orientation", 5, (32, 32)).angles
    4
    """
    if players not in PLAYERS:
        raise ValueError(f"players={players!r} is not known; choose one of {', '.join(PLAYERS)}")
    if players == "fourier":
        return band_masks(n_bands, size, metric, spacing, images)
    if players == "orientation":
        return orientation_bands(n_bands - 1)
    made = wavelet_bands(wavelet, n_bands - 1)
    made.check_size(*size)
    return made


@undisturbed
def player_energy(x: Tensor, masks: Masks) -> Tensor:
    """``band_energy`` of any players: the squared norm of each part without its mean, (M, B).

    >>> x = torch.rand(2, 3, 16, 16)
    >>> masks = band_masks(4, (16, 16))
    >>> torch.allclose(player_energy(x, lambda x: split_bands(x, masks)), band_energy(x, masks))
    True
    """
    if not callable(masks):
        return band_energy(x, masks)
    parts = [split_bands(one, masks) for one in x.split(1)]
    return torch.cat([(p - p.mean((3, 4), keepdim=True)).square().sum((2, 3, 4)) for p in parts], 1)
