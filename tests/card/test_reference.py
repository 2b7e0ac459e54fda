"""The network beside a model on its card: which one is chosen, why none is, what it costs."""

import json
from pathlib import Path

import pytest
import torch
from planted import SIDE, M, planted

import iaside as ia
from iaside.card import budget, commands, measure, reference
from iaside.card.budget import Speed, plan, plan_beside
from iaside.inputs import project
from iaside.inputs.asked import Asked

N, CLASSES = 12, reference.CLASSES


class Light(torch.nn.Module):
    """1000 classes, of which the label says how light a picture is; in another order if shifted."""

    def __init__(self, scale, shift=0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(float(scale)), requires_grad=False)
        self.register_buffer("order", (torch.arange(CLASSES) - shift) % CLASSES)
        self.eval()

    def forward(self, x):
        light = N * x.mean((1, 2, 3)) - 0.5
        return -self.scale * (light[:, None] - self.order).square()


IMAGES = (torch.arange(N).view(N, 1, 1, 1) + 0.5).expand(N, 3, SIDE, SIDE) / N
IMAGES = IMAGES + 0.01 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(0))
IMAGES, LABELS = IMAGES.clamp(0, 1), torch.arange(N)


@pytest.fixture
def at_hand(monkeypatch):
    """Puts networks at hand: name -> (network, side), the smallest first."""

    def put(**networks):
        sizes = {name: (side, side) for name, (_, side) in networks.items()}
        monkeypatch.setattr(reference, "at_hand", lambda: sizes)
        monkeypatch.setattr(reference, "load_model", lambda name: named(name, networks[name][0]))

    return put


def named(name, network):
    network.name = name
    return network


def chosen(model, labels=LABELS):
    return reference.chosen(Asked(model, classes=CLASSES), IMAGES, labels)


def test_the_smallest_that_fits_is_chosen_and_why_the_others_are_not(at_hand):
    own = Light(9)
    at_hand(large=(Light(1), 2 * SIDE), same=(Light(9), SIDE), other=(Light(2, 5), SIDE))
    network, why = chosen(own)
    assert network is None and why == (
        f"none that takes {SIDE}x{SIDE} pixels is at hand (large takes {2 * SIDE}x{2 * SIDE} "
        f"pixels; same is the network itself; other knows other classes, 0 of {N} right)"
    )
    at_hand(same=(Light(9), SIDE), first=(Light(2), SIDE), second=(Light(3), SIDE))
    network, why = chosen(own)
    assert network.name == "first" and f"{N} of {N} right" in why
    assert chosen(own, None) == (None, "the labels are answers of the model itself")
    at_hand()
    assert chosen(own)[1] == f"none that takes {SIDE}x{SIDE} pixels is at hand"


@pytest.mark.slow
def test_a_card_has_it_beside_its_harms_says_why_and_can_do_without(at_hand):
    at_hand(first=(Light(2), SIDE))
    how = {"n_bands": M, "progress": False}
    card = ia.report(Light(9), IMAGES, LABELS, **how)
    assert card.reference.name == "first" and not card.left_out
    assert [h.name for h in card.harms] == [h.name for h in card.reference.harms]
    page = card.to_html()
    assert "more than first (nats)" in page and f"Beside it first: {card.reference.why}." in page
    assert card.to_dict()["reference"]["harms"][0]["name"] == card.harms[0].name
    alone = ia.report(Light(9), IMAGES, LABELS, reference=False, **how)
    assert alone.reference is None and "reference" not in alone.to_html()
    own = ia.report(Light(9), IMAGES, "predicted", **how)
    assert own.reference is None
    assert "No reference network: the labels are answers of the model itself." in own.left_out


@pytest.mark.slow
def test_a_model_of_other_classes_has_none_and_its_card_says_so():
    model, images, labels = planted(1)
    card = ia.report(model, images, labels, n_bands=M, progress=False)
    assert card.reference is None
    assert "No reference network: those that may be at hand know the 1000 classes" in card.to_html()


@pytest.mark.parametrize("minutes", [2.0, 3.0, 4.0, 6.0, 30.0])
@pytest.mark.parametrize("a_step", [0.02, 0.3])
def test_it_is_the_first_to_go_where_the_minutes_are_short(minutes, a_step):
    size = Speed(0.01, a_step), 50, 8, minutes, 400
    beside, fits = plan_beside(*size, Speed(0.05, 0.1), 400, "other")
    alone = plan(*size)
    assert beside[:3] == alone[:3], "nothing of the model itself is lost to it"
    spent = sum(beside.parts.values())
    if fits:
        cost = (400 + 8 * 50) * 0.05 + beside.attacked * 2 * budget.STEPS * 0.1
        assert beside.parts["reference"] == pytest.approx(cost / 60) and spent <= minutes
    else:
        assert "reference" not in beside.parts
        assert beside.left_out[-1].startswith("The reference network other: left out, for want of")
    if minutes in (2.0, 30.0):
        assert fits == (minutes == 30.0)


@pytest.mark.slow
def test_what_is_left_out_for_want_of_time_is_said(at_hand, monkeypatch):
    at_hand(first=(Light(2), SIDE))
    speeds = iter([Speed(1e-4, 1e-4), Speed(9.0, 1.0)])
    monkeypatch.setattr(measure, "speed_of", lambda *_: next(speeds))
    card = ia.report(Light(9), IMAGES, LABELS, n_bands=M, progress=False)
    assert card.reference is None
    assert "The reference network first: left out, for want of" in card.to_html()


def test_at_hand_is_what_a_clone_has_fetched_and_torch_has_downloaded(tmp_path, monkeypatch):
    """Files alone are looked at: nothing is loaded, nothing downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(project, "PROJECT", tmp_path)
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *a, **k: 1 / 0)
    stored, cached = tmp_path / "data/weights", tmp_path / "torch/hub/checkpoints"
    for folder in (stored, cached):
        folder.mkdir(parents=True)
    assert reference.at_hand() == {}
    recipe = {"library": "timm", "architecture": "x", "input_size": [3, 240, 240]}
    recipe |= {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9, "interpolation": "bicubic"}
    for name, classes in {"ours": CLASSES, "digits": 10}.items():
        (stored / f"{name}.safetensors").write_bytes(b"0" * 100)
        (stored / f"{name}.json").write_text(json.dumps(recipe | {"num_classes": classes}))
    (cached / "resnet18-f37072fd.pth").write_bytes(b"0" * 50)
    assert list(reference.at_hand().items()) == [("resnet18", (224, 224)), ("ours", (240, 240))]
    monkeypatch.setattr(project, "CLONE", False)
    assert [*reference.at_hand()] == ["resnet18"]


def test_the_command_line_can_do_without(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = commands.parser().parse_args(["report", "x", "y", "--no-reference"])
    assert asked.no_reference and asked.reference is None
    given = {}

    class Stop(Exception):
        pass

    def report(*_, reference, **__):
        given["reference"] = reference
        raise Stop

    monkeypatch.setattr(ia, "report", report)
    monkeypatch.setattr(commands, "_model", lambda *_: "net")
    monkeypatch.setattr(commands, "_loaded", lambda *_: (IMAGES, LABELS, None))
    for words, taken in {(): None, ("--no-reference",): False, ("--reference", "z"): "net"}.items():
        with pytest.raises(Stop):
            commands.main(["report", str(Path("x.pth")), "y", *words])
        assert given["reference"] == taken
