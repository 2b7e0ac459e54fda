"""The reports about many networks, on made-up tables with a planted answer."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import report
from made_up_networks import M, N, make_networks
from smoke import ROOT

from iaside.estimate.clean import clean_line
from iaside.estimate.intervals import interval
from iaside.shapley import coalitions, interaction_values
from iaside.study.pages import importance
from iaside.tables import Worths
from iaside.verdicts import figures


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_networks(tmp_path_factory.mktemp("reports"))


def test_planted_substitutes_and_complements_are_named_and_drawn():
    """Bands 0 and 2 are worth something together only, of 1 and 3 either is enough."""
    cells = json.loads((ROOT / "notebooks/30_importance.ipynb").read_text())["cells"]
    source = next("".join(cell["source"]) for cell in cells if cell["id"] == "interactions-1")
    present, said = coalitions(M).astype(bool), []
    game = 2.0 * present[:, [0, 2]].all(1) + 3.0 * present[:, [1, 3]].any(1)
    table = game[:, None] * np.linspace(0.8, 1.2, N)
    trained = {"net": SimpleNamespace(worths=SimpleNamespace(table=table))}
    space = {
        "np": np,
        "figures": figures,
        "page": importance,
        "interval": interval,
        "M": M,
        "n": N,
        "interaction_values": interaction_values,
        "trained": trained,
        "unit": "nats",
        "say": said.extend,
    }
    exec(source, space)
    (text,) = said
    assert text.startswith("**net**: of 6 pairs 1 are clearly substitutes, 1 clearly complements; ")
    assert "strongest substitutes: 1 and 3, -3.00 [" in text
    assert "strongest complements: 0 and 2, 2.00 [" in text
    assert text.endswith(f"(n = {N} photographs).")
    axis = space["axes"][0]
    rows, columns = (
        [tick.get_text() for tick in ticks]
        for ticks in (axis.get_yticklabels(), axis.get_xticklabels())
    )
    drawn = {
        (columns[int(t.get_position()[0])], rows[int(t.get_position()[1])]): t.get_text()
        for t in axis.texts
    }
    assert drawn.pop(("0", "2")) == "2.00" and drawn.pop(("1", "3")) == "-3.00"
    assert len(drawn) == 4 and set(drawn.values()) <= {"(0.00)", "(-0.00)"}


@pytest.fixture
def said(monkeypatch):
    """What a report says in its texts."""
    texts = []
    monkeypatch.setattr("IPython.display.Markdown", lambda text: texts.append(text) or text)
    return texts


def opposites(values):
    """Values (M, N) of photographs that are worth nothing on average, all but exactly."""
    half = values[:, : N // 2]
    return np.c_[half, -half] + 1e-3


def write_choices(root, name, nothing):
    rng, bands = np.random.default_rng(3), 3
    psi = np.array([[4.0], [1.5], [0.5]]) + 0.3 * rng.normal(size=(bands, N))
    psi = opposites(psi) if nothing else psi
    filled, cut = ["gaussian", "replacement", "gaussian as published"], ["l2"]
    names = ["log_likelihood", *filled, *cut, "probability", "published"]
    tables = {
        c: coalitions(bands).astype(float) @ (psi + 0.01 * k * rng.normal(size=psi.shape))
        for k, c in enumerate(names)
    }
    about = {
        "values": names,
        "precision": "float32",
        "device": "cpu",
        "seed": 0,
        "sigma": 0.25,
        "published_sigma": 0.02,
        "input_size": [32, 32],
        "choices": {
            "absence": filled,
            "partition": cut,
            "value": ["probability"],
            "filter": ["published"],
        },
        "cells": {p: [100, 300, 624] for p in ("reference", *cut)},
        "radius": {p: [0.2, 0.5, 0.9] for p in ("reference", *cut)},
        "games": {"reference": {"clean": CLEAN_ANSWERS}},
    }
    Worths(tables, about).save(root / f"results/choices/tables/{name}.npz")


CLEAN_ANSWERS = {"classes": 10, "n": N, "correct": 9.0, "log_likelihood": -0.5}


def test_choices_tell_no_share_of_a_worth_that_may_be_0(tmp_path, said):
    for name in ("sees", "blind"):
        write_choices(tmp_path, name, name == "blind")
    (tmp_path / "params.yaml").write_text("")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    np.savez(tmp_path / "two.npz", images=pixels, labels=np.arange(2))
    drawn = []

    class Frame(pd.DataFrame):
        def __init__(self, data=None, *args, **kwargs):
            drawn.append(data)
            super().__init__(data, *args, **kwargs)

    models = {name: {"name": name} for name in ("sees", "blind")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pd, "DataFrame", Frame)
        report(tmp_path, "61_choices_report", models=models, images="two.npz")
    assert "**blind**: v(all) - v(none) may be 0, so no share of it is told." in said
    (table,) = (
        d
        for d in drawn
        if isinstance(d, dict) and ("sees", "l2") in d and "mean radius (shares)" in d["sees", "l2"]
    )
    for column in ("mean radius (shares)", "radius (shares), the same"):
        assert table["blind", "l2"][column] == "v(all) - v(none) may be 0"
        float(table["sees", "l2"][column].split()[0])
    float(table["blind", "l2"]["mean radius (SID)"].split()[0])
    curves = [set(d) for d in drawn if isinstance(d, dict) and "reached" in d]
    assert len(curves) == 2, "the reference and l2, of the network that sees"
    (first,) = (d for d in drawn if isinstance(d, dict) and "photographs" in d.get("sees", {}))
    assert first["sees"]["on the clean photographs"].startswith("10 classes; clean images: top-1 9")


@pytest.mark.parametrize(
    "name",
    [
        "15_snr",
        "16_snr_report",
        "20_worths",
        "30_importance",
        "40_robustness",
        "42_rivals",
        "44_player_worths",
        "45_players",
        "46_embedding_worths",
        "47_embeddings",
        "50_correlation",
        "60_choices",
        "61_choices_report",
        "65_convergence",
        "66_convergence_report",
        "67_resolution",
        "67_resolution_report",
        "80_attributions",
        "81_attribution_report",
    ],
)
def test_what_was_seen_of_the_clean_images_stands_with_every_result(name):
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    assert any("clean_line(" in line or "print_clean(" in line for line in lines)


def test_a_measurement_that_was_not_seen_on_clean_images_says_nothing_of_them(capsys):
    cells = json.loads((ROOT / "notebooks/20_worths.ipynb").read_text())["cells"]
    source = next("".join(c["source"]) for c in cells if "clean_line(w" in "".join(c["source"]))
    seen = SimpleNamespace(provenance={"clean": CLEAN_ANSWERS})
    worths = {"trained": seen, "published": SimpleNamespace(provenance={}), "untrained": seen}
    told = source[source.index("seen = {") : source.index('if "untrained"')]
    exec(told, {"clean_line": clean_line, "worths": worths})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("trained: 10 classes") and len(said) == 2


def test_a_report_shows_the_clean_answers_once():
    for name in ("30_importance", "81_attribution_report"):
        text = (ROOT / f"notebooks/{name}.ipynb").read_text()
        assert text.count("on the clean photographs") == 1
        assert not any(
            row in text
            for row in ("found by the probe", "top-1 on them", '\\"classified correctly\\":')
        )


def write_convergence(root, name, n_bands, labels):
    """Bands that add up, photographs that scatter around it: all that is printed is known."""
    rng = np.random.default_rng(len(name))
    values = np.array([[4.0], [2.0], [1.0], [-3.0]])[:n_bands] + rng.normal(size=(n_bands, 60))
    table = -7 + coalitions(n_bands).astype(float) @ values
    about = {
        "precision": "float32",
        "device": "cpu",
        "classes": 1000,
        "labels": labels,
        "images": labels,
        "values": ["log_likelihood", "probability"],
    }
    tables = {"log_likelihood": table, "probability": np.exp(table / 10)}
    Worths(tables, about).save(root / f"results/convergence/tables/{name}.npz")
    return values


@pytest.mark.slow
def test_all_that_is_printed_is_put_to_the_test(tmp_path, capsys):
    """Paired differences only where two networks saw the same photographs."""
    for name, labels in (("a", "one"), ("bb", "one"), ("ccc", "other")):
        write_convergence(tmp_path, name, M, labels)
    (tmp_path / "params.yaml").write_text("")
    networks = {name: {"model": {"name": name}} for name in ("a", "bb", "ccc")}
    how = dict(
        sizes=[6, 12, 24],
        n_draws=40,
        n_resamples=100,
        interval_sizes=[20],
        n_intervals=60,
        interval_resamples=100,
    )
    found, metrics = report(tmp_path, "66_convergence_report", networks=networks, **how)
    assert found["errors_converge"]["verdict"] == "supported"
    assert found["error_bound_holds"]["verdict"] == "supported"
    assert found["errors_converge"]["data"] == "ImageNet photographs"
    assert {p["part"] for p in found["errors_converge"]["parts"]} == set(networks)
    assert set(metrics) == {*networks, "a minus bb"}
    quantities = {"Shapley values (nats)", "SID", "shares of v(all) - v(none)"}
    kinds = [f"SRC {kind}" for kind in ("paper", "tight", "signed")]
    quantities |= {*kinds, *(f"{kind}, sampled game" for kind in kinds)}
    table = pd.DataFrame(metrics["a"]["intervals"])
    assert set(table["quantity"]) == quantities and (table["told"] == 1).all()
    assert table.groupby("quantity")["coverage"].mean().min() > 0.8
    ratio = table["estimated"] / table["observed"]
    assert ratio[table["quantity"] == "Shapley values (nats)"].between(0.75, 1.3).all()
    pair = pd.DataFrame(metrics["a minus bb"]["intervals"])
    both = ("Shapley values (nats)", "SID", *kinds)
    assert set(pair["quantity"]) == {f"{quantity}, paired" for quantity in both}
    assert pair["coverage"].mean() > 0.85
    capsys.readouterr()
    report(tmp_path, "66_convergence_report", networks={"a": networks["a"]}, **how)
    assert "paired differences are not put to the test" in capsys.readouterr().out
