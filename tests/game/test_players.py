"""Wavelet and orientation players: they add up, agree with PyWavelets, find what was planted."""

import re
from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from torch._subclasses import FakeTensorMode

import iaside as ia
from iaside.game.game import Game
from iaside.game.players import Cells, OrientationBands, player_energy, players_of, wavelet_bands

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(2, 3, 64, 64, generator=GENERATOR)
KINDS = [("db4", 3, "levels"), ("haar", 4, "orientation"), ("sym4", 2, "packets")]


def subbands(x, wavelet, levels):
    """What each subband of PyWavelets' transform in two dimensions gives back alone."""
    found = pywt.wavedec2(x.numpy(), wavelet, "periodization", levels, axes=(-2, -1))
    for k in range(1 + 3 * levels):
        alone = [found[0] * (k == 0)]
        alone += [
            tuple(c * (3 * i - 2 + j == k) for j, c in enumerate(found[i]))
            for i in range(1, levels + 1)
        ]
        yield pywt.waverec2(alone, wavelet, "periodization", axes=(-2, -1))


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (61, 50)])
@pytest.mark.parametrize(("wavelet", "levels", "kind"), KINDS)
def test_wavelet_players_add_up(wavelet, levels, kind, size):
    x = torch.rand(1, 3, *size, generator=GENERATOR)
    players = wavelet_bands(wavelet, min(levels, 2), kind)
    bands = ia.split_bands(x, players)
    assert (bands.sum(0) - x).abs().max() < 1e-5
    assert len(players.names) == len(bands) == len(set(players.names))


@pytest.mark.parametrize("side", [227, 260])
def test_sides_that_do_not_divide_by_16_are_padded(side):
    x = torch.rand(1, 1, side, side, generator=GENERATOR)
    assert (ia.wavelet_bands()(x).sum(0) - x).abs().max() < 1e-5


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior2.2"])
@pytest.mark.parametrize("size", [(64, 64), (32, 64)])
def test_subbands_are_those_of_pywavelets(wavelet, size):
    x = torch.rand(1, 2, *size, generator=GENERATOR, dtype=torch.float64)
    theirs = np.stack([*subbands(x, wavelet, 2)])
    ours = wavelet_bands(wavelet, 2, "orientation")(x).numpy()
    assert np.abs(ours - theirs).max() < 1e-12
    levels = wavelet_bands(wavelet, 2, "levels")(x).numpy()
    assert np.abs(levels - [theirs[0], theirs[1:4].sum(0), theirs[4:].sum(0)]).max() < 1e-12


def test_packets_are_rings_of_pywavelets_leaves():
    x = torch.rand(64, 64, generator=GENERATOR, dtype=torch.float64)
    tree = pywt.WaveletPacket2D(x.numpy(), "db4", "periodization", 2)
    rings = np.zeros((4, 64, 64))
    for i, row in enumerate(tree.get_level(2, order="freq")):
        for j, node in enumerate(row):
            alone = pywt.WaveletPacket2D(None, "db4", "periodization", 2)
            alone[node.path] = node.data
            rings[max(i, j)] += alone.reconstruct(update=False)
    ours = wavelet_bands("db4", 2, "packets")(x[None, None])[:, 0, 0].numpy()
    assert np.abs(ours - rings).max() < 1e-12


@pytest.mark.parametrize(("wavelet", "levels", "kind"), KINDS)
def test_orthogonal_wavelets_split_the_energy(wavelet, levels, kind):
    bands = wavelet_bands(wavelet, levels, kind)(X.double())
    assert bands.square().sum().isclose(X.double().square().sum())


def test_levels_lie_where_octaves_do():
    """A wave at 13/16 of an octave is of the level of that octave, and packets are rings."""
    at = torch.arange(128.0)
    for octave, player in ((1, 3), (2, 2), (3, 1)):
        wave = torch.cos(torch.pi * 0.8125 * 2.0 ** (1 - octave) * at).expand(1, 1, 128, 128)
        share = player_energy(wave, wavelet_bands("db8", 3))[:, 0]
        assert share.argmax() == player and share.max() > 0.8 * share.sum()
        rings = player_energy(wave, wavelet_bands("db8", 3, "packets"))[:, 0]
        assert rings.argmax() == int(0.8125 * 2.0 ** (1 - octave) * 8)


@pytest.mark.parametrize(("angles", "rings"), [(1, 1), (4, 1), (2, 2), (6, 3)])
@pytest.mark.parametrize("size", [(32, 32), (31, 33), (24, 40)])
def test_sectors_add_up_and_a_real_image_stays_real(angles, rings, size):
    height, width = size
    players = ia.orientation_bands(angles, rings)
    masks = players.masks(size)
    assert len(masks) == angles * rings + 1 == len(players.names)
    assert ((masks == 0) | (masks == 1)).all() and (masks.sum(0) == 1).all()
    assert masks[0].sum() == masks[0, 0, 0] == 1
    whole = torch.zeros(len(masks), height, width)
    whole[:, :, : width // 2 + 1] = masks
    opposite = masks[:, -torch.arange(height) % height]
    for column in range(width // 2 + 1, width):
        whole[:, :, column] = opposite[:, :, width - column]
    x = torch.rand(1, 3, height, width, generator=GENERATOR, dtype=torch.float64)
    filtered = torch.fft.ifft2(torch.fft.fft2(x) * whole[:, None, None])
    assert filtered.imag.abs().max() < 1e-12
    assert torch.allclose(filtered.real, ia.split_bands(x, players))


@pytest.mark.parametrize("angle", range(0, 180, 13))
@pytest.mark.parametrize("angles", [2, 4, 12])
def test_a_planted_orientation_gets_its_sector(angle, angles):
    turn = angle / 180 * angles
    if abs(turn % 1 - 0.5) < 0.05:
        return  # next to the border of two
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    theta = torch.tensor(angle * torch.pi / 180)
    kx, ky = (20 * theta.cos()).round(), (20 * theta.sin()).round()
    wave = torch.cos(2 * torch.pi * (kx * columns + ky * rows) / 96)
    energy = player_energy(wave[None, None], ia.orientation_bands(angles))[:, 0]
    assert energy[1 + round(turn) % angles] > 0.999 * energy.sum()


def test_rings_are_those_of_band_masks():
    masks = ia.orientation_bands(angles=3, rings=2).masks((32, 32))
    rings = ia.band_masks(2, (32, 32))
    assert (masks[1:4].sum(0) + masks[0] == rings[0]).all() and (masks[4:].sum(0) == rings[1]).all()


def test_cells_are_where_they_say():
    x = torch.zeros(1, 1, 8, 8)
    x[..., :4, 4:] = 1  # up on the right
    cells = Cells(ia.orientation_bands(1), grid=2)
    bands = ia.split_bands(x, cells)
    both = bands.unflatten(0, (2, 2, 2)).sum(0)[:, :, 0, 0]
    assert torch.equal(both[0, 1].round(decimals=5), x[0, 0]) and len(cells.names) == 8
    assert both[0, 0].abs().max() < 1e-6


@pytest.mark.parametrize(
    "players", [ia.wavelet_bands("haar", 2), ia.wavelet_bands("haar", 1, "packets")]
)
def test_players_stay_where_the_images_are(players, monkeypatch):
    """Without a GPU: on a pretended one, and what is remembered is not pretended."""
    masks = ia.orientation_bands(3).masks((16, 16))  # values are looked at
    monkeypatch.setattr(OrientationBands, "masks", lambda self, size: masks)
    for callable_ in (players, ia.orientation_bands(3)):
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
            bands = callable_(torch.rand(2, 3, 16, 16))
            assert bands.device.type == "cuda" and bands.shape[1:] == (2, 3, 16, 16)
        assert callable_(torch.rand(1, 3, 16, 16)).device.type == "cpu"


def test_a_gradient_passes_through_players():
    x = X[:1].clone().requires_grad_()
    ia.wavelet_bands("db4", 2)(x)[1].square().sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0


def reader(part):
    """A classifier that reads the energy of one of four sectors, or of one level."""

    def model(x):
        energy = player_energy(x, part.players)[part.k] / 100
        return torch.stack([energy, 0 * energy], 1)

    return model


class Part:
    def __init__(self, players, k):
        self.players, self.k = players, k


@pytest.mark.parametrize(
    ("players", "k"),
    [
        (ia.orientation_bands(4), 2),
        (ia.wavelet_bands("db4", 3), 2),
        (ia.wavelet_bands("haar", 1, "orientation"), 3),
    ],
)
@pytest.mark.filterwarnings("ignore:an interval needs")
def test_the_game_finds_the_player_that_is_read(players, k):
    found = ia.explain(
        reader(Part(players, k)), X, torch.zeros(2).long(), masks=players, value="margin",
        batch_size=32, progress=False,
    )  # fmt: skip
    others = np.delete(found.psi.value, k)
    assert found.psi.value[k] > 0.1 and np.abs(others).max() < 1e-3 * found.psi.value[k]
    about = found.worths.provenance
    assert about["players"] == players.names


def scored(players, n=12):
    x = torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    model = lambda x: torch.stack([x.mean((1, 2, 3)), x.var((1, 2, 3))], 1)  # noqa: E731
    labels = torch.zeros(n).long()
    return ia.explain(model, x, labels, masks=players, bias="none", batch_size=64, progress=False)


def test_a_score_needs_an_order():
    levels, sectors = scored(ia.wavelet_bands("haar", 2)), scored(ia.orientation_bands(2))
    assert levels.score is not None and ia.compare(levels, levels).score is not None
    assert sectors.score is None and ia.compare(sectors, sectors).score is None
    assert "score not given: the players have no order" in str(sectors)
    assert scored(ia.wavelet_bands("haar", 1, "orientation")).score is None
    assert sectors.sid is not None and sectors.psi.value.shape == (3,)


def test_what_was_measured_of_other_players_is_no_answer():
    images, labels = X[:, :, :16, :16], torch.zeros(2).long()
    model = lambda x: x.mean((2, 3))  # noqa: E731
    made = [
        Game(model, images, labels, players, batch_size=4).provenance["masks"]
        for players in (
            ia.band_masks(3, (16, 16)), ia.wavelet_bands("haar", 2), ia.wavelet_bands("db2", 2),
            ia.orientation_bands(2),
        )
    ]  # fmt: skip
    assert len(set(made)) == 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ia.wavelet_bands("db4", kind="rings"), "kind='rings' is not known; choose one of"),
        (lambda: ia.wavelet_bands("morl"), "wavelet='morl' is not known; choose one of bior1.1"),
        (lambda: ia.wavelet_bands(levels=0), "levels=0 must be a whole number"),
        (lambda: ia.wavelet_bands("db4", 3)(X[..., :32, :32]), "take at most 2, a shorter wavelet"),
        (lambda: ia.orientation_bands(0), "angles=0 must be a whole number, at least 1"),
        (lambda: ia.orientation_bands(2, rings=1.5), "rings=1.5 must be a whole number"),
        (lambda: ia.orientation_bands(2, 40)(X), "n_bands=40 needs images of at least 80 pixels"),
        (lambda: players_of("gabor", 4, (32, 32)), "players='gabor' is not known; choose one of"),
        (lambda: players_of("wavelet", 8, (32, 32)), "levels=7 of db4"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(ValueError, match=said.replace("(", "\\(")):
        make()


def test_without_pywavelets_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'iaside\[wavelets\]'"):
        ia.wavelet_bands()


def test_the_page_on_players_runs(capsys):
    page = (Path(__file__).parents[2] / "docs/players.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    psi = names["found"].psi.value
    assert psi[3] < psi[[1, 2, 4]].min() / 5, "of changes along the rows"
    tone = names["heard"].values.mean(1)
    assert tone[2] > 0.99 * np.abs(tone).sum(), "a tone of 2500 Hz"
    assert "score not given: the players have no order" in capsys.readouterr().out


def test_db4_takes_two_levels_at_32_pixels_and_five_at_224():
    ia.wavelet_bands("db4", 2).check_size(32, 32)
    ia.wavelet_bands("db4", 5).check_size(224, 224)
    for levels, side in ((3, 32), (6, 224)):
        with pytest.raises(ValueError, match=f"take at most {levels - 1}"):
            ia.wavelet_bands("db4", levels).check_size(side, side)
