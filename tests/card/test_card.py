"""The card of one's own model: it names a planted weakness, and says nothing that is not clear."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from smoke import ROOT

import iaside as ia
from iaside.card import advice, record
from iaside.card.commands import main
from iaside.card.measure import beside_reference

SIDE, M, N = 32, 4, 16


class ByEnergy(torch.nn.Module):
    """Class 1 where a picture has energy in one band, class 0 where it has none."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x):
        part = torch.fft.irfft2(torch.fft.rfft2(x) * self.mask, s=x.shape[-2:])
        much = 4000 * (part.square().mean((1, 2, 3)) - 5e-4)
        return torch.stack([-much / 2, much / 2], 1)


def planted(band, seed=0):
    """A model that decides by one band alone, and images of its two classes."""
    draw = torch.Generator().manual_seed(seed)
    masks = ia.band_masks(M, (SIDE, SIDE))
    noise = torch.randn(1 + N, 3, SIDE, SIDE, generator=draw)
    pattern = ia.split_bands(noise[:1], masks)[band]
    pattern = 0.06 * pattern / pattern.square().mean().sqrt()
    labels = torch.arange(N) % 2
    images = 0.5 + 0.02 * noise[1:] + labels.view(-1, 1, 1, 1) * pattern
    return ByEnergy(masks[band]).eval(), images.clamp(0, 1), labels


def made(band=1, **how):
    model, images, labels = planted(band)
    return ia.report(model, images, labels, name="planted", n_bands=M, progress=False, **how)


@pytest.fixture(scope="module")
def card():
    return made(reference=planted(2)[0])


@pytest.mark.parametrize("band", [1, 3])
def test_a_planted_weakness_is_named_and_moves_with_it(band):
    said = made(band).advice
    assert said[0].startswith(f"Band {band} (") and "matters most" in said[0]
    assert any(f"costs most in band {band} (" in line for line in said)


def test_each_sentence_has_a_number_whose_interval_does_not_hold_zero(card):
    for line in card.advice:
        low, high = map(float, re.search(r"\[(-?[\d.]+)%?, (-?[\d.]+)%?\]", line).groups())
        assert not low <= 0 <= high, line


def test_nothing_is_advised_where_nothing_is_clear():
    """A model that knows nothing of its pictures: no sentence but the one that says so."""
    images = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    still = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, 2))
    with torch.no_grad():
        still[1].weight.zero_()
    with pytest.warns(RuntimeWarning):
        card = ia.report(still.eval(), images, torch.arange(N) % 2, n_bands=M, progress=False)
    assert card.advice == [advice.NONE]


def test_a_model_without_gradients_has_no_attack_and_the_page_says_so():
    model, images, labels = planted(1)
    blind = torch.no_grad()(lambda x: model(x))
    card = ia.report(blind, images, labels, n_bands=M, progress=False)
    assert not any("PGD" in harm.name for harm in card.harms)
    assert "the model gives no gradient" in card.to_html()


def test_without_labels_the_models_own_classes_are_taken_and_said():
    model, images, labels = planted(1)
    given, own = made(1), ia.report(model, images, n_bands=M, progress=False)
    assert "model itself" in own.about["labels"]
    np.testing.assert_allclose(own.explanation.psi.value, given.explanation.psi.value)


def test_the_reference_is_compared_picture_by_picture(card):
    beside = beside_reference(card)
    assert set(beside) == {harm.name for harm in card.harms} & set(beside) and len(beside) > 5
    name = "noise in band 1 only"
    [own] = [h for h in card.harms if h.name == name]
    [other] = [h for h in card.reference.harms if h.name == name]
    assert beside[name].value == pytest.approx(own.nats_lost.value - other.nats_lost.value)


def test_a_deployment_is_measured_and_foreseen(tmp_path):
    """Noise of half the energy of band 1, for a model that knows band 1 alone."""
    model, images, labels = planted(1)
    masks = ia.band_masks(M, (SIDE, SIDE))
    noisy = ia.perturb(images, "white_noise", sigma=0.06, band=1, masks=masks)
    for kind, pictures in (("clean", images), ("degraded", noisy)):
        (tmp_path / kind).mkdir()
        for k, x in enumerate(pictures):
            pixels = (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / kind / f"{k}.png")
    card = ia.report(model, images, labels, n_bands=M, deployment=tmp_path, progress=False)
    kept = card.deployment.survival
    assert kept[1] < 0.8 and (np.delete(kept, 1) > kept[1]).all()
    assert card.deployment.n == N and card.deployment.predicted.value > 0
    assert "share that survives" in card.to_html()


def test_a_budget_that_is_too_small_is_refused_and_a_small_one_samples():
    model, images, labels = planted(1)
    with pytest.raises(ValueError, match="budget=1e-09 minutes are too few"):
        ia.report(model, images, labels, n_bands=M, budget=1e-9, progress=False)


def test_the_page_stands_alone_is_escaped_and_says_what_its_figures_show(card, tmp_path):
    card.name = "<b>mine</b> & yours"
    page = card.to_html()
    assert "<script" not in page and "<b>mine" not in page and "http" not in page
    alts = re.findall(r'<img[^>]* alt="([^"]*)"', page)
    assert len(alts) == 1 + len(card.pictures) and all(len(alt) > 20 for alt in alts)
    card.save(tmp_path / "card.html")
    assert (tmp_path / "card.html").read_text() == page
    card.save(tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text())["advice"] == card.advice
    with pytest.raises(ValueError, match="not 'card.pdf'"):
        card.save(tmp_path / "card.pdf")


def test_a_score_is_put_beside_networks_of_like_image_size():
    sides = {int(row["side"]) for row in record.rows()}
    assert 32 in sides and all(-1 <= float(row["score"]) <= 1 for row in record.rows())


def test_what_is_on_record_is_what_the_runs_on_record_say():
    for row in record.rows():
        run = ROOT / "results/recorded" / row["run"] / "importance.metrics.json"
        score = json.loads(run.read_text())[row["network"]]["score"]["signed"]["value"]
        assert float(row["score"]) == score


def test_a_run_takes_the_place_of_what_it_had_on_record(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "TABLE", tmp_path / "record.csv")
    record.TABLE.write_text("run,network,side,score\na,x,32,0.5\nb,y,224,0.25\n")
    record.put_on_record("a", [{"network": "z", "side": 64, "score": 0.125}])
    assert [row["network"] for row in record.rows()] == ["y", "z"]


@pytest.fixture
def own_files(tmp_path):
    model = ia.load_model("small_cnn", pretrained=False, recipe=RECIPE)
    ia.save_weights(model, tmp_path / "net.safetensors")
    for k in range(6):
        folder = tmp_path / "pictures" / "ab"[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return tmp_path


RECIPE = {
    "library": "iaside",
    "architecture": "small_cnn",
    "num_classes": 2,
    "input_size": [3, 32, 32],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}


@pytest.mark.filterwarnings("ignore")
def test_two_words_make_a_page_and_a_table(own_files, capsys, monkeypatch):
    monkeypatch.chdir(own_files)
    given = ["net.safetensors", "pictures", "--bands", "3", "--engine", "torch"]
    monkeypatch.setattr(sys, "argv", ["iaside", "report", *given])
    assert main(["report", *given, "-o", "card.html"]) == 0
    assert "iaside report net.safetensors" in (own_files / "card.html").read_text()
    capsys.readouterr()
    assert main(["explain", *given, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["explain", *given, "--csv", "--unlabelled"]) == 0
    assert capsys.readouterr().out.startswith("band,")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "nothing.pth", "pictures"], "nothing"),
        (["report", "net.safetensors", "nowhere"], "nowhere"),
        (["report", "net.safetensors", "pictures", "-o", "card.pdf"], "card.pdf"),
        (["report", "net.safetensors", "pictures", "-n", "99"], "99"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_before_anything_long(
    own_files, words, said, capsys, monkeypatch
):
    monkeypatch.chdir(own_files)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
