"""The card of one's own model: it names a planted weakness, and says nothing that is not clear."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from planted import SIDE, M, N, made, planted
from smoke import ROOT
from sweeps import few

import iaside as ia
from iaside.card import advice, record
from iaside.card.card import beside_reference
from iaside.card.commands import main
from iaside.card.deployment import PAIRED, Deployment
from iaside.estimate.estimate import Estimate
from iaside.study import recorded
from iaside.training.remedies import REMEDIES


@pytest.fixture(scope="module")
def card():
    return made(reference=planted(2)[0])


@pytest.mark.parametrize("band", few([1, 3], 1))
def test_a_planted_weakness_is_named_and_moves_with_it(band):
    said = made(band).advice
    assert said[0].startswith(f"Band {band} (") and "matters most" in said[0]
    assert any(f"costs most in band {band} (" in line for line in said)


@pytest.mark.slow
def test_the_card_of_squeezenet_names_the_lowest_band_and_what_hurts_it_most():
    model = ia.load_model("squeezenet1_1")
    images, labels = ia.load_images("photographs", like=model, n=16)
    card = ia.report(model, images, labels, n_bands=4, progress=False)
    assert card.advice[0].startswith("Band 0 (below 28 cycles per image) matters most: ")
    assert any("The largest loss, attacks apart, is under" in line for line in card.advice)
    low, high = (card.explanation.psi[k] for k in (0, 3))
    assert low.low > high.high


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


@pytest.mark.slow
def test_without_labels_the_models_own_classes_are_taken_and_said():
    model, images, labels = planted(1)
    given = made(1)
    own = ia.report(model, images, "predicted", n_bands=M, progress=False)
    assert "model itself" in own.about["labels"]
    np.testing.assert_allclose(own.explanation.psi.value, given.explanation.psi.value)


def test_the_reference_is_compared_picture_by_picture(card):
    beside = beside_reference(card)
    assert set(beside) == {harm.name for harm in card.harms} & set(beside) and len(beside) > 5
    name = "noise in band 1"
    [own] = [h for h in card.harms if h.name == name]
    [other] = [h for h in card.reference.harms if h.name == name]
    assert beside[name].value == pytest.approx(own.nats_lost.value - other.nats_lost.value)


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_several_checkpoints_make_one_page_with_the_deployment_of_all(own_files, monkeypatch):
    monkeypatch.chdir(own_files)
    for k, folder in enumerate(("first", "second")):
        torch.manual_seed(k)
        net = ia.load_model("small_cnn", pretrained=False, recipe=RECIPE)
        (own_files / folder).mkdir()
        ia.save_weights(net, own_files / folder / "best.safetensors")
    own_files.joinpath("night").mkdir()
    for k in range(6):
        Image.new("RGB", (40, 40), (40 * k, 10, 10)).save(own_files / "night" / f"{k}.png")
    given = ["first/best.safetensors", "second/best.safetensors", "pictures", "--bands", "3"]
    more = ["--engine", "torch", "--deployment", "night", "-o", "both.html"]
    assert main(["report", *given, *more]) == 0
    page = (own_files / "both.html").read_text()
    assert "A is first/best.safetensors, B is second/best.safetensors" in page
    assert (
        "a = 0, b = 1" in page
        and "In the deployment night" in page
        and "as there are no labels" in page
    )


@pytest.mark.filterwarnings("ignore")
def test_pictures_alone_need_no_folders_of_classes(own_files, monkeypatch):
    monkeypatch.chdir(own_files)
    given = ["net.safetensors", "pictures/a", "--bands", "3", "--engine", "torch", "--unlabelled"]
    assert main(["report", *given, "-o", "card.json"]) == 0
    assert json.loads((own_files / "card.json").read_text())["bands"][0]["band"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "net.safetensors", "net.safetensors", "pictures"], "given twice"),
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


MENDING = ROOT / "results/recorded/cifar10_mending/mend_report.claims.json"
NIGHT = Deployment(
    "night", N, PAIRED, np.array([1, 0.4, 0.9, 1]), Estimate(0.6, 0.1, 0.4, 0.8, N, "photographs"),
    Estimate(0.5, 0.1, 0.3, 0.7, N, "photographs"), None, np.zeros(N), np.ones((2, 17)),
)  # fmt: skip


def test_remedies_on_record_are_those_that_the_runs_on_record_support():
    supported = {
        (file.parent.name, row["id"])
        for file in ROOT.glob("results/recorded/*/mend_report.claims.json")
        for row in json.loads(file.read_text())["claims"]
        if row["verdict"] == "supported" and row["id"] in advice.REMEDY
    }
    assert {(r["run"], r["claim"]) for r in record.rows(record.REMEDIES)} == supported


@pytest.mark.parametrize("claim", advice.REMEDY)
def test_a_remedy_that_a_record_supports_is_named_where_a_deployment_costs(
    claim, card, tmp_path, monkeypatch
):
    """From a made-up record to the sentence on the page; without support there is none."""
    made_up = json.loads(MENDING.read_text())
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / MENDING.name

    def page(deployment=NIGHT):
        file.write_text(json.dumps(made_up))
        record.put_remedies("mine", recorded._helping({"training": {"side": SIDE}}, file.parent))
        shown = dataclasses.replace(card, deployment=deployment)
        named = [line for line in shown.advice if "ia.mend" in line]
        assert named == [line for line in [advice.remedy(shown)] if line]
        return named, shown.to_html()

    monkeypatch.setattr(record, "REMEDIES", tmp_path / "remedies.csv")
    record.REMEDIES.write_text(",".join(record.HELPING) + "\n")
    named, html = page()  # as it is today: undecided
    assert not named and "has not been shown" in html and "ia.mend" not in html
    [row] = [row for row in made_up["claims"] if row["id"] == claim]
    row |= {"verdict": "supported", "value": 0.05, "low": 0.02, "high": 0.08}
    [sentence], html = page()
    assert "in band 1 (" in sentence and "which night damages most" in sentence
    assert "by 5.0% [2.0%, 8.0%] of accuracy over" in sentence and "3 trainings" in sentence
    assert advice.REMEDY[claim][0] in REMEDIES
    assert f"remedy=&quot;{advice.REMEDY[claim][0]}&quot;" in html and "No remedy" not in html
    nothing = NIGHT._replace(measured=Estimate(0.1, 0.1, -0.1, 0.3, N, "photographs"))
    for clear in (None, nothing):
        named, html = page(clear)
        assert not named and "there is no deployment that clearly costs" in html
    with record.REMEDIES.open() as table:
        of_large = table.read().replace(f",{SIDE},", f",{7 * SIDE},")
    record.REMEDIES.write_text(of_large)
    assert not advice.remedy(dataclasses.replace(card, deployment=NIGHT)), "of other networks"
    row["verdict"] = "undecided"
    assert not page()[0], "a run that is recorded again takes back what it said"
