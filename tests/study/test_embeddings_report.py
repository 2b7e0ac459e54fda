"""The report on embeddings, on planted profiles: alike, apart, and a network without classifier."""

import json

import numpy as np
import pytest
from made_up import report

from iaside.shapley import coalitions, shapley_values
from iaside.study.pages import embeddings as page
from iaside.tables import Worths

N, M = 20, 3
LOW, HIGH = (2.0, 0.6, 0.2), (0.2, 0.6, 2.0)
CLEAN = {"clean": {"classes": 10, "n": N, "correct": 18.0, "log_likelihood": -0.5}}


def worths(classifier, seed=0):
    """Retrieval and cosine rest on low frequencies, the classifier on those that are given."""
    draw = np.random.default_rng(seed)
    planted = {"retrieval": LOW, "embedding": LOW} | (
        {"log_likelihood": classifier} if classifier else {}
    )
    empty = {"retrieval": -np.log(N)}
    tables = {
        name: empty.get(name, 0.0)
        + coalitions(M).astype(float)
        @ (np.array(psi)[:, None] + draw.normal(scale=0.02, size=(M, N)))
        for name, psi in planted.items()
    }
    about = {"values": list(tables), "n_bands": M, "precision": "float32", "device": "cpu"}
    return Worths(tables, about | {"games": {"classifier": CLEAN} if classifier else {}})


def test_a_classifier_on_the_same_bands_is_near_and_on_others_far():
    made = {"alike": worths(LOW), "apart": worths(HIGH, 1), "bare": worths(None, 2)}
    psi = page.values_of(made)
    told = page.clear(psi)
    gaps, lead = page.gaps(told), page.leads(psi, 0.75)
    assert gaps["alike"]["classifier"].value < 0.05 < 1 < gaps["apart"]["classifier"].low
    assert lead["alike"]["classifier"].value == pytest.approx(0, abs=0.05)
    assert lead["apart"]["classifier"].low > 1, "embeddings lean to low frequencies"
    assert list(gaps["bare"]) == list(lead["bare"]) == ["cosine"]
    first, lines = page.answer_words(told)
    assert first.startswith("3 of 3 embeddings have most of their worth from band 0; classifiers")
    assert lines[0].startswith("alike: band 0 has most of the worth of its embedding, 7")
    assert "and band 2 of that of its classifier, 7" in lines[1] and "classifier" not in lines[2]
    assert page.answer_words({"bare": told["bare"]})[0].startswith("bare: band 0 has most")
    frame = page.compared(psi, told, 0.75)
    assert frame.loc[("apart", "classifier"), "rank agreement with retrieval"].startswith("-1.00")


def test_a_worth_that_may_be_0_has_no_share():
    none = worths(LOW)
    none.tables["retrieval"] = none.tables["retrieval"] * np.array([1, -1] * (N // 2))
    psi = page.values_of({"net": none})
    told = page.clear(psi)
    assert "retrieval" not in told["net"] and page.gaps(told) == {}
    assert "nothing is told" in page.answer_words(told)[0]
    assert page.compared(psi, told, 0.75)["L1 distance of shares"].eq("not told").all()


def test_what_is_known_of_which_photograph_it_is_adds_up_over_prefixes():
    w = worths(None)
    found = page.known(w)
    means = shapley_values(w.tables["retrieval"]).mean(1)
    np.testing.assert_allclose(found.value, [0, *means.cumsum()], atol=1e-9)
    assert found[0].value == pytest.approx(0) and found.n == N


def test_the_page_tells_what_was_planted(tmp_path, capsys, monkeypatch):
    texts = []
    monkeypatch.setattr("IPython.display.Markdown", lambda text: texts.append(text) or text)
    for name, classifier in {"apart": HIGH, "bare": None}.items():
        worths(classifier).save(tmp_path / f"results/embedding_worths/tables/{name}.npz")
    (tmp_path / "params.yaml").write_text("")
    report(tmp_path, "47_embeddings", models={"apart": {"name": "a"}, "bare": {"name": "b"}})
    said = "\n".join(texts)
    assert "apart: band 0 has most of the worth of its embedding" in said
    assert "**bare**: 2.0" in said and f"of {np.log(N):.2f} nats from band 0 alone" in said
    metrics = json.loads((tmp_path / "results/embeddings/metrics.json").read_text())
    assert list(metrics["bare"]["signed"]) == ["cosine", "retrieval"]
    assert metrics["apart"]["signed_of_retrieval_minus"]["classifier"]["low"] > 1
