"""Mending: a planted weakness is found, and the remedy in its band helps where another does not."""

import numpy as np
import pytest
import torch
from torch import nn

import iaside as ia
from iaside.spectral import band_energy, band_masks
from iaside.training import mend as module
from iaside.training.mend import mend
from iaside.training.penalties import band_share, noise_in
from iaside.training.plans import BANDS
from iaside.training.remedies import REMEDIES, diagnose, remedy_factors
from iaside.training.updates import loss_of

SIDE, CLASSES = 16, 2
SHORTCUT, FEATURE, NOTHING = 6, 2, 4  # bands: easily read, less easily read, without a signal
STRONG, WEAK = 0.06, 0.02
MASKS = band_masks(BANDS, (SIDE, SIDE))


def wave(band):
    """A wave of a band, of root mean square 1: of 16 pixels a cycle an image is a band."""
    ramp = torch.arange(SIDE) / SIDE
    return (2**0.5 * torch.sin(2 * torch.pi * band * ramp)).expand(3, SIDE, SIDE)


def pictures(n=400, seed=0):
    """Grey noise in which the sign of two waves tells the class: a strong one and a weaker one."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    sign = (2.0 * y - 1)[:, None, None, None]
    x = 0.5 + 0.02 * torch.randn(n, 3, SIDE, SIDE, generator=g)
    return x + sign * (STRONG * wave(SHORTCUT) + WEAK * wave(FEATURE)), y


def in_its_band(x, seed=1):
    """The deployment: more of the shortcut's wave, of a sign that says nothing."""
    g = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, (len(x), 1, 1, 1), generator=g) * 2.0 - 1
    return x + 2 * STRONG * sign * wave(SHORTCUT)


@pytest.fixture(scope="module")
def planted():
    """A linear network that has learnt to depend on the shortcut."""
    x, y = pictures()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))
    nn.init.zeros_(net[1].weight)
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(x - 0.5), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # it takes pixels as they are
        net[1].bias -= 0.5 * net[1].weight.sum(1)
    return net.eval()


HOW = {"epochs": 20, "lr": 0.1, "batch": 20, "progress": False}
STRONGLY = {  # enough to unlearn the shortcut
    "augmentation": {"strength": 1.0, "lr": 1.0},
    "dropout": {"strength": 0.9, "lr": 0.5},
    "penalty": {"strength": 0.5, "lr": 0.1},
}


def gain(planted, monkeypatch, remedy, band):
    """In accuracy at the deployment, of a remedy in a band that is not what was diagnosed."""
    with monkeypatch.context() as patched:
        patched.setattr(module, "diagnose", lambda *a: diagnose(*a)._replace(band=band))
        how = HOW | {"remedy": remedy} | STRONGLY[remedy]
        return mend(planted, *pictures(), deployment=in_its_band, **how).changes["deployment"].gain


def test_the_planted_band_is_diagnosed(planted):
    found = mend(planted, *pictures(), deployment=in_its_band, **HOW | {"epochs": 1}).diagnosis
    assert found.band == SHORTCUT
    assert found.damage[SHORTCUT] > 0.9 * found.damage.sum()
    assert found.survival[SHORTCUT] < 0.3 and found.survival[FEATURE] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("remedy", REMEDIES)
def test_the_targeted_remedy_mends_and_the_mistargeted_one_does_not(planted, monkeypatch, remedy):
    assert gain(planted, monkeypatch, remedy, SHORTCUT).low > 0.3
    assert abs(gain(planted, monkeypatch, remedy, NOTHING).value) < 0.05


def test_the_copy_is_mended_and_the_network_is_left_as_it_was(planted):
    before = {k: v.clone() for k, v in planted.state_dict().items()}
    x, y = pictures(100)
    mended = mend(planted, x, y, deployment=in_its_band(x), **HOW | {"epochs": 1})
    assert all(torch.equal(v, before[k]) for k, v in planted.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in mended.model.state_dict().items())
    asked = [[p.requires_grad for p in net.parameters()] for net in (planted, mended.model)]
    assert asked[0] == asked[1] and not mended.model.training
    assert list(mended.to_frame().index) == ["clean", "deployment"]
    assert "band 6" in str(mended) and mended.changes["clean"].gain.n == 20
    again = mend(planted, x, y, deployment=in_its_band, **HOW | {"epochs": 1})
    assert all(
        torch.equal(v, again.model.state_dict()[k]) for k, v in mended.model.state_dict().items()
    )


def test_pictures_of_the_deployment_are_not_trained_on(planted, monkeypatch):
    x, y = pictures(100)
    shown, real = [], module.train_epoch

    def spied(net, optimizer, images, *rest):
        shown.append(images)
        return real(net, optimizer, images, *rest)

    monkeypatch.setattr(module, "train_epoch", spied)
    mend(planted, x, y, deployment=in_its_band, **HOW | {"epochs": 1})
    assert len(shown[0]) == 60
    assert all((one == x).flatten(1).all(1).any() for one in shown[0])


# --- the rule -------------------------------------------------------------------------------------


def test_damage_is_what_is_lost_of_bands_that_are_worth_something():
    values = np.array([[4.0, 2.0], [1, 1], [-5, -5], [2, 2]])
    survival = np.array([[0.9, 0.9], [0.2, 0.4], [0.0, 0.0], [0.5, 0.5]])
    found = diagnose(values, survival)
    assert found.damage == pytest.approx([0.3, 0.7, 0, 1])
    assert (found.band, found.elsewhere) == (3, 2)


def test_of_bands_damaged_alike_the_farthest_is_where_it_must_not_help():
    survival = np.ones((8, 5))
    survival[3] = 0.5
    assert diagnose(np.ones((8, 5)), survival)[3:] == (3, 7)
    survival[7] = 0.9
    assert diagnose(np.ones((8, 5)), survival).elsewhere == 0


@pytest.mark.parametrize(
    ("values", "survival", "message"),
    [
        (np.ones((3, 5)), np.ones((3, 5)), "damages no band"),
        (-np.ones((3, 5)), np.zeros((3, 5)), "damages no band"),
        (np.ones((3, 5)), np.ones((2, 5)), r"\(3, 5\) and \(2, 5\)"),
    ],
)
def test_what_cannot_be_diagnosed_is_said(values, survival, message):
    with pytest.raises(ValueError, match=message):
        diagnose(values, survival)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remedy": "prayer"}, "remedy='prayer' is not known; choose one of augmentation"),
        ({"strength": 0}, "strength=0 of augmentation must be above 0"),
        ({"strength": 2}, "root mean square of the noise, up to 1"),
        ({"epochs": 0}, "epochs=0 must be a whole number from 1"),
        ({"lr": -1}, "lr=-1 must be above 0"),
        ({"batch": 1}, "batch=1 must be"),
        ({"held_out": 1}, "held_out=1 must be a share"),
        ({"held_out": 0.01}, "leave 0 to diagnose"),
        ({"deployment": lambda x: x[:3]}, "the same images as it has them"),
        ({"deployment": lambda x: x}, "changes no image"),
        ({"deployment": 5}, "got int"),
        ({"labels": None}, "labels=None: give the class of each image"),
    ],
)
def test_what_cannot_be_mended_is_said_before(planted, change, message):
    images, labels = pictures(40)
    how = {"labels": labels, "deployment": in_its_band} | HOW | change
    with pytest.raises(ValueError, match=message):
        mend(planted, images, **how)


def test_only_networks_can_be_mended():
    with pytest.raises(TypeError, match="torch module, got a function"):
        mend(lambda x: x, *pictures(40), deployment=in_its_band)


# --- remedies in a band ---------------------------------------------------------------------------


def test_noise_in_a_band_stays_there_and_has_the_size_of_noise_in_all():
    x = torch.rand(3, 3, SIDE, SIDE)
    g = [torch.Generator().manual_seed(0) for _ in range(3)]
    for band in (1, 7):
        change = noise_in(x, 0.2, band, g[0]) - x
        energy = band_energy(change, MASKS)
        assert (energy[band] / energy.sum(0)).min() > 0.9999
        assert change.square().mean((1, 2, 3)).sqrt() == pytest.approx(0.2, rel=1e-4)
    white = noise_in(x, 0.2, None, g[1]) - x
    assert torch.equal(white, noise_in(x, 0.2, generator=g[2]) - x)
    assert white.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)


def test_the_share_of_a_band_is_that_of_a_known_gradient():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    with torch.no_grad():
        net[1].weight[0] = (3 * wave(2) + wave(6)).flatten()
        net[1].weight[1] = 0
    x, y = torch.rand(4, 3, SIDE, SIDE), torch.tensor([0, 1, 0, 1])
    shares = [band_share(net, x, y, band=b).item() for b in range(BANDS)]
    assert shares == pytest.approx([0, 0, 0.9, 0, 0, 0, 0.1, 0], abs=1e-4)
    with pytest.raises(ValueError, match="bands 0 to 7"):
        band_share(net, x, y, band=8)


def shown_of(settings, x):
    """What the network is shown of images, in training with these settings."""
    shown = []

    class Seen(nn.Module):
        def forward(self, x):
            shown.append(x)
            return x.mean((2, 3))[:, :2]

    settings = settings | {"eps": 1, "adversary": "none"}
    loss_of(Seen(), x, torch.zeros(len(x)).long(), settings, torch.Generator().manual_seed(0))
    return shown[0]


def test_each_band_is_left_out_as_often_as_its_strength_says():
    x, chances = torch.rand(400, 3, SIDE, SIDE), (0, 0, 0.2, 0, 0.5, 0, 1, 0.8)
    for strength in (chances, list(chances)):  # as of plans, and as JSON has it
        settings = {"penalty": "coalition_dropout", "strength": strength, "band": None}
        kept = band_energy(shown_of(settings, x), MASKS) / band_energy(x, MASKS)
        assert (kept < 0.5).float().mean(1).tolist() == pytest.approx(chances, abs=0.07)


def test_a_band_is_left_out_alone():
    x = torch.rand(200, 3, SIDE, SIDE)
    shown = shown_of(remedy_factors("dropout", 6, 0.9), x)
    kept, whole = band_energy(shown, MASKS), band_energy(x, MASKS)
    others = [b for b in range(BANDS) if b != 6]
    assert torch.allclose(kept[others], whole[others], rtol=1e-3, atol=1e-3)
    assert (kept[6] < 0.5 * whole[6]).float().mean() == pytest.approx(0.9, abs=0.06)


def test_it_is_public():
    assert ia.mend is mend
