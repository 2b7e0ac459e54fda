"""Several models on one page: planted differences are found, in pairs, and nothing else is said."""

import json
import re

import numpy as np
import pytest
import torch
from planted import M, N, planted

import iaside as ia
from iaside.card import several


@pytest.fixture(scope="module")
def cards():
    """One model that decides by band 1, one by band 2; images where both bands tell the class."""
    (first, images, labels), (second, others, _) = planted(1), planted(2)
    both = (images + others - 0.5).clamp(0, 1)
    models = {"one": first, "two": second}
    return ia.report(models, both, labels, n_bands=M, progress=False)


def test_the_bands_that_differ_are_those_that_were_planted(cards):
    found = cards.differences["two"]
    assert found.clear and set(found.clear) <= {1, 2}
    assert found.psi.high[1] < 0 < found.psi.low[2]
    said = {1: "less to two than to one", 2: "more to two than to one"}
    for band in found.clear:
        assert any(f"Band {band} (" in line and said[band] in line for line in cards.advice)


def test_differences_are_those_of_the_two_cards_photograph_by_photograph(cards):
    one, two = cards.cards.values()
    found = cards.differences["two"]
    np.testing.assert_allclose(
        found.psi.value, two.explanation.psi.value - one.explanation.psi.value
    )
    assert found.log_likelihood.value == pytest.approx(
        (two.clean.log_likelihood - one.clean.log_likelihood).mean()
    )
    name = "noise in band 2"
    lost = {c.name: next(h for h in c.harms if h.name == name) for c in (one, two)}
    nats, accuracy = found.harms[name]
    assert nats.value == pytest.approx(lost["two"].nats_lost.value - lost["one"].nats_lost.value)
    assert accuracy.value == pytest.approx(lost["two"].right.mean() - lost["one"].right.mean())
    assert nats.n == accuracy.n == N


def test_sentences_on_losses_say_who_loses_more(cards):
    found = cards.differences["two"].harms
    form = r"Under (.+) two loses .+ nats (more|less) than one"
    lines = [line for line in (re.match(form, said) for said in cards.advice) if line]
    assert lines
    for line in lines:
        nats, _ = found[line[1]]
        assert (nats.value > 0) == (line[2] == "more"), line[0]


@pytest.mark.slow
def test_a_paired_difference_is_narrower_than_an_unpaired_one(cards):
    """What photographs have in common cancels: the second model is the first, a little colder."""
    model, images, labels = planted(1)
    colder = ia.report([model, lambda x: 0.9 * model(x)], images, labels, n_bands=M, progress=False)
    [found] = colder.differences.values()
    alone = colder.first.explanation.psi[1]
    width = found.psi[1].high - found.psi[1].low
    assert width < 0.5 * (alone.high - alone.low) and 1 in found.clear


@pytest.mark.slow
def test_equal_models_differ_in_nothing():
    model, images, labels = planted(1)
    same = ia.report([model, model], images, labels, n_bands=M, progress=False)
    assert list(same.cards) == ["ByEnergy (1)", "ByEnergy (2)"]
    assert same.advice == [several.ALIKE]
    [found] = same.differences.values()
    assert (found.psi.value == 0).all() and found.accuracy.value == 0


def test_each_sentence_has_a_number_whose_interval_does_not_hold_zero(cards):
    for line in cards.advice:
        low, high = map(float, re.search(r"\[(-?[\d.]+)%?, (-?[\d.]+)%?\]", line).groups())
        assert not low <= 0 <= high, line


def test_the_page_has_all_models_and_is_complete_in_itself(cards, tmp_path):
    cards.save(tmp_path / "cards.html")
    page = (tmp_path / "cards.html").read_text()
    assert "A is one, B is two" in page and "<script" not in page and "http" not in page
    assert "B - A" in page and all(h.name in page for h in cards.first.harms)
    cards.save(tmp_path / "cards.json")
    assert json.loads((tmp_path / "cards.json").read_text())["first"] == "one"


def test_models_of_other_classes_or_without_images_are_refused_before_anything_long():
    model, images, labels = planted(1)
    three = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3)).eval()
    with pytest.raises(ValueError, match="three has 3 classes and one 2"):
        ia.report({"one": model, "three": three}, images, labels)
    with pytest.raises(ValueError, match="no entry for 'two'"):
        ia.report({"one": model, "two": model}, {"one": images}, labels)
    with pytest.raises(ValueError, match="reference= is for one model"):
        ia.report([model, model], images, labels, reference=model)
    with pytest.raises(ValueError, match="1 models in a list"):
        ia.report([model], images, labels)


@pytest.mark.slow
def test_without_labels_the_first_models_own_classes_are_everyones():
    (first, images, _), (second, _, _) = planted(1), planted(2)
    models = {"one": first, "two": second}
    cards = ia.report(models, images, n_bands=M, progress=False)
    assert all("one itself" in card.about["labels"] for card in cards.cards.values())
    assert cards.first.clean.right.all()
