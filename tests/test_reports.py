"""The reports about many networks, on made-up tables with a planted answer."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import report
from smoke import ROOT

from iaside import plots
from iaside.clean import clean_line
from iaside.faithfulness import QUANTITIES, Examination
from iaside.intervals import interval
from iaside.responses import heat_cells
from iaside.shapley import coalitions, interaction_values
from iaside.tables import (
    CLEAN,
    CLEAN_CUT,
    CORRUPTIONS,
    FOURIER,
    TABLES,
    Condition,
    Responses,
    Worths,
)

M, N = 4, 12
NAMES = [
    "alexnet", "resnet18", "vgg11", "shufflenet_v2_x0_5", "mobilenet_v2",
    "efficientnet_v2_s", "vit_b_16", "swin_b", "maxvit_t",
]  # fmt: skip
MODELS = {name: {"name": name} for name in NAMES}
PLAIN = [Condition(s, e) for s in ("fgsm", "pgd") for e in (0.03, 0.1, 0.2)]
PLAIN += [Condition("white_noise", 0.1), Condition("gaussian_blur", 5.0)]
PLAIN += [Condition("white_noise", 0.03, b) for b in range(M)]
PLAIN += [Condition("pgd", 8 / 255, b) for b in range(M)]
WAVES = [Condition(FOURIER, 2.0, cell) for cell in heat_cells(3)]


def write(root, k, name):
    """Network k leans more to low bands than network k - 1, and loses less under everything."""
    rng = np.random.default_rng(k)
    lean = 0.2 + 0.6 * k / len(NAMES)
    values = 6 * (1 - lean) ** np.arange(M) * (1 + 0.05 * rng.normal(size=(N, M)))
    table = -7 + coalitions(M).astype(float) @ values.T
    about = {
        "values": ["log_likelihood", "accuracy"], "precision": "float32", "device": "cpu",
        "parameters": 1e6 * (k + 1), "labels": "the same", "absence": "zero",
    }  # fmt: skip
    tables = {"log_likelihood": table, "accuracy": (table > -3).astype(float)}
    Worths(tables, about).save(root / f"results/worths/tables/{name}-trained.npz")

    conditions = [CLEAN, *PLAIN, *WAVES, *(Condition(c, 1.0) for c in CORRUPTIONS)]
    strength = np.array([0.0] + [0.7] * (len(conditions) - 1))
    loss = strength[:, None] * (4 - 3.5 * lean) * (1 + 0.1 * rng.random((len(conditions), N)))
    for row, c in enumerate(conditions):  # high bands are the fragile ones, in all networks
        loss[row] *= 1 + max(c.place, 0) * (c.source != FOURIER)
    log_p = math.log(0.9) - loss
    answers = {
        "log_likelihood": log_p, "probability_t2": np.exp(log_p) ** 0.5,
        "correct": (rng.random(log_p.shape) < np.exp(log_p)).astype(float),
        "confidence": np.exp(log_p), "no_gradient": np.zeros_like(log_p),
    }  # fmt: skip
    energy = np.ones((M, N)) / (1 + np.arange(M))[:, None]
    change = strength[:, None, None] * rng.random((len(conditions), M, 1)) * energy
    about = {"n_images": N, "precision": "float32", "device": "cpu", "size": [32, 32]}
    about["heat_grid"] = 3
    responses = Responses(conditions, answers, energy, change, about)
    responses.save(root / f"results/robustness/tables/{name}.npz")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("reports")
    for k, name in enumerate(NAMES):
        write(root, k, name)
    shutil.copytree(ROOT / "data/published", root / "data/published")
    (root / "data/images/photographs").mkdir(parents=True)
    (root / "params.yaml").write_text("")
    return root


def test_a_score_that_predicts_robustness_is_supported(project):
    found = report(project, "50_correlation", models=MODELS)[0]
    for claim in ("src_mce", "src_adversarial", "src_adversarial_t2", "src_corruptions"):
        assert found[claim]["estimate"] < -0.9 and found[claim]["verdict"] == "supported", claim
    assert found["high_bands_fragile"]["verdict"] == "supported"
    assert {p["part"] for p in found["low_frequency_attacks"]["parts"]} == set(NAMES)
    assert len(found["src_adversarial"]["parts"]) == 4, "fgsm and pgd at the papers' strengths"
    assert found["beta_075_best"]["verdict"] != "supported", "here every beta does as well"
    table = (project / "results/correlation/correlations.csv").read_text()
    assert "clean accuracy" in table and "low-pass accuracy" in table


def test_claims_about_architectures_are_judged_where_their_networks_are(project):
    found = report(project, "55_architecture", models=MODELS, transformers=NAMES[-3:])[0]
    assert found["parameter_count"]["verdict"] == "contradicted", "size decides here, by design"
    assert found["transformers_more_robust"]["verdict"] == "supported"
    assert found["transformers_cluster"]["n"] == N
    assert found["efficientnet_over_older"]["verdict"] == "supported"
    assert found["efficientnet_comparable"]["estimate"] < 0
    assert found["shufflenet_robust"]["n"] == N
    assert {p["part"] for p in found["shufflenet_adversarial"]["parts"]} == {"fgsm", "pgd"}


def test_images_without_a_usable_gradient_are_left_out_of_the_reports_and_said(project, capsys):
    path = project / "results/robustness/tables/alexnet.npz"
    whole, r = path.read_bytes(), Responses.load(path)
    row = r.row(Condition("pgd", 0.2))
    for t in TABLES:
        r.tables[t][row, :3] = 1.0 if t == "no_gradient" else np.nan
    r.save(path)
    some = {name: MODELS[name] for name in NAMES[:5]}
    capsys.readouterr()
    found = report(project, "55_architecture", models=some)[0]
    said = "alexnet: 3 of 12 images gave no usable gradient under pgd 0.2: left out, not robust"
    assert said in capsys.readouterr().out
    parts = {p["part"]: p["n"] for p in found["shufflenet_adversarial"]["parts"]}
    assert parts == {"fgsm": N, "pgd": N - 3}, "the images that every network was attacked on"
    report(project, "50_correlation", models=some)
    assert said in capsys.readouterr().out
    path.write_bytes(whole)


def test_matching_is_judged_over_corruptions_and_networks(project):
    found, metrics = report(project, "58_match", models=MODELS)
    assert set(found) == {"profile_predicts_loss", "profile_beats_score"}
    assert found["profile_beats_score"]["n"] == len(NAMES)
    assert {g: c["best"] for g, c in metrics["choices"].items()} == dict.fromkeys(
        ["sensor noise", "blur", "weather", "digital"], NAMES[-1]
    )


def test_an_own_deployment_is_matched_and_unpaired_files_are_refused(project, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    for folder in ("clean", "degraded"):
        (project / "phone" / folder).mkdir(parents=True)
        for k in range(3):
            pixels = rng.integers(0, 255, (40, 40, 3)).astype("uint8")
            Image.fromarray(pixels).save(project / "phone" / folder / f"{k}.png")
    capsys.readouterr()
    report(project, "58_match", models=MODELS, images="phone")
    plain = capsys.readouterr().out
    path = project / f"results/robustness/tables/{NAMES[0]}.npz"
    whole, r = path.read_bytes(), Responses.load(path)
    r.conditions.insert(1, CLEAN_CUT)  # of the smaller cut, which the user's photographs are not
    tables = {t: np.insert(rows, 1, rows[0] + (t == "log_likelihood"), axis=0)
              for t, rows in r.tables.items()}  # fmt: skip
    Responses(r.conditions, tables, r.clean_energy, np.insert(r.change_energy, 1, 0, axis=0),
              r.provenance).save(path)  # fmt: skip
    report(project, "58_match", models=MODELS, images="phone")
    path.write_bytes(whole)
    one, other = (out.partition("predicted log-likelihood")[2].splitlines()[: 1 + len(NAMES)]
                  for out in (plain, capsys.readouterr().out))  # fmt: skip
    assert len(one) == 1 + len(NAMES) and one == other
    (project / "phone/degraded/2.png").unlink()
    with pytest.raises(ValueError, match=r"the same names: 2 \(1 in all\)"):
        report(project, "58_match", models=MODELS, images="phone")
    (project / "phone/degraded/2.heic").touch()  # a name, but no picture
    with pytest.raises(ValueError, match="degraded: 1 files left out.*1 .heic"):
        report(project, "58_match", models=MODELS, images="phone")


def write_attributions(root, name, judges, unattacked=0, deeplift=None, blank=0, rounds=False):
    """FAMPE gains 0.05, and more over its low-frequency self the more an image leans low."""
    how = {"steps": 2, "samples": 1}
    fampe = {"method": "fampe", "alpha": 0.1, "kappa": 0.9, **how}
    lean, base = np.arange(N) / N, 0.3 + 0.1 * np.random.default_rng(0).random(N)
    scores = {  # in this order
        "saliency": base - 0.02, "attexplore": base, "deeplift": deeplift, "fampe": base + 0.05,
        "fampe, product of attexplore": base, "fampe alpha=0.5": base + 0.04,
        "fampe alpha=0.9": base - 0.01 * lean, "clean": None, "pgd": None,
        "grid alpha=0.1 kappa=0.5": base, "grid alpha=0.1 kappa=0.9": base + 0.02 + 0.01 * lean,
    }  # fmt: skip
    if deeplift is None:
        del scores["deeplift"]
    variants = {v: fampe | {"alpha": float(v[-3:]) if v.startswith("fampe alpha") else 0.1}
                for v in scores}  # fmt: skip
    quantities = [*QUANTITIES, *(f"correct {judge}" for judge in judges)]
    tables = {q: np.full((len(scores), N), 1.0) for q in quantities}
    for k, (v, score) in enumerate(scores.items()):
        tables["insertion"][k] = np.nan if score is None else score
        if v == "saliency":
            tables["insertion"][k, :blank] = tables["deletion"][k, :blank] = np.nan
        for judge in judges:  # the attack of FAMPE transfers, others do not
            tables[f"correct {judge}"][k] = float(v != "fampe" or judge == name)
            if rounds and v != "clean":
                tables[f"correct {judge}"][k] = np.nan
            if v == "pgd":
                tables[f"correct {judge}"][k, :unattacked] = np.nan
    if rounds:
        for quantity in ("insertion", "deletion", "infidelity", "total", "change", "similarity"):
            tables[quantity][:] = np.nan
    about = {
        "variants": variants, "rows": list(variants), "quantities": quantities, "n_images": N,
        "only": {v: N for v in scores if v.startswith("grid")}, "n_shown": 1, "steps": 4,
        "substrate": "zero", "rank": "pixel", "seed": 0, "device": "cpu", "alpha": 0.1,
        "kappa": 0.9, "eps": 16, "n_grid": N, "grid_alphas": [0.1], "grid_kappas": [0.5, 0.9],
        "input_size": [32, 32],
    }  # fmt: skip
    maps = np.ones((len(scores), 1, 32, 32), np.float16)
    game = coalitions(2).astype(float) @ np.stack([lean, 1 - lean])
    path = root / f"results/attributions/tables/{name}.npz"
    Examination(variants, tables, about, maps).save(path, worths=game)


def test_planted_gains_of_attributions_are_found_and_judged(project, capsys):
    for name in NAMES[:2]:
        write_attributions(project, name, NAMES[:2], unattacked=2)
    pixels = np.random.default_rng(0).integers(0, 255, (N, 32, 32, 3)).astype("uint8")
    labels = np.arange(N)
    np.savez(project / "data/images/planted.npz", images=pixels, labels=labels)
    found, metrics = report(project, "81_attribution_report",
                      models={name: MODELS[name] for name in NAMES[:2]},
                      images="data/images/planted.npz")  # fmt: skip
    for claim, estimate in {
        "fampe_over_attexplore": 0.05, "fampe_best": 0.05, "fampe_decoupling_helps": 0.01,
        "fampe_high_matters": 0.05 + 0.01 * np.mean(np.arange(N) / N),
        "importance_predicts_alpha": 1.0, "attack_transfers": 1.0,
    }.items():  # fmt: skip
        assert found[claim]["verdict"] == "supported", claim
        assert found[claim]["estimate"] == pytest.approx(estimate, abs=1e-5), claim
    assert [p["part"] for p in found["fampe_best"]["parts"]] == ["saliency", "attexplore"]
    base = 0.3 + 0.1 * np.random.default_rng(0).random(N)
    percent = 5 / base.mean() - 13.02
    assert found["fampe_gain_13"]["estimate"] == pytest.approx(percent, abs=1e-3)
    assert all("reconstruction" in row["note"] for row in found.values())
    said = f"{NAMES[0]}: 2 of {N} photographs gave no usable gradient under PGD: left out, not"
    assert said in capsys.readouterr().out
    for name in NAMES[:2]:
        best, half = metrics[name]["best_of_grid"], (0.02 + 0.01 * np.mean(np.arange(N) / N)) / 2
        assert best["cells"] == [{"alpha": 0.1, "kappa": 0.9}]
        assert best["above_mean"]["estimate"] == pytest.approx(half, abs=1e-6)
        assert 0 < best["above_mean"]["low"] < half < best["above_mean"]["high"]


def test_the_best_are_named_together_where_they_are_equal(project, capsys, monkeypatch):
    """Two methods, two cells and, for three photographs, two alphas; and the share of ties."""
    name = NAMES[0]
    write_attributions(project, name, NAMES[:1])
    path = project / f"results/attributions/tables/{name}.npz"
    e, more = Examination.load(path)
    at = list(e.variants).index
    score = e.tables["insertion"]
    score[at("saliency")] = score[at("fampe")]
    score[at("grid alpha=0.1 kappa=0.5")] = score[at("grid alpha=0.1 kappa=0.9")]
    score[at("fampe alpha=0.5"), :3] = score[at("fampe"), :3]
    e.tables["ties"][:] = 0.001
    e.tables["ties"][at("saliency")] = np.linspace(0.8, 1.0, N)
    e.save(path, **more)
    pixels = np.random.default_rng(0).integers(0, 255, (N, 32, 32, 3)).astype("uint8")
    np.savez(project / "data/images/planted.npz", images=pixels, labels=np.arange(N))
    tables = []
    monkeypatch.setattr("IPython.display.Markdown", str)
    monkeypatch.setattr(pd.DataFrame, "T", property(
        lambda self: tables.append(self.transpose()) or self.transpose()))  # fmt: skip
    _, metrics = report(project, "81_attribution_report", models={name: MODELS[name]},
                        images="data/images/planted.npz")  # fmt: skip
    assert "is that of *saliency and fampe*" in capsys.readouterr().out
    kappas = [cell["kappa"] for cell in metrics[name]["best_of_grid"]["cells"]]
    assert kappas == [0.5, 0.9]
    assert metrics[name]["ties"]["saliency"] == pytest.approx(0.9)
    (shares,) = (t["tied pixels"] for t in tables if "tied pixels" in t)
    assert shares[name]["saliency"] == "90.0%" and shares[name]["fampe"] == "0.1%"
    (alphas,) = (t["photographs for which each alpha is best"] for t in tables
                 if "photographs for which each alpha is best" in t)  # fmt: skip
    assert alphas[name] == f"0.1: {N}, 0.5: 3, 0.9: 0"
    (cell,) = (t["best (alpha, kappa)"] for t in tables if "best (alpha, kappa)" in t)
    assert cell[name] == "(0.1, 0.5) and (0.1, 0.9)"


def test_networks_without_a_kind_of_map_and_maps_of_zeros_are_left_out_and_said(project, capsys):
    """One network has no DeepLIFT; of the other 3 saliency maps are zero everywhere."""
    first, second = NAMES[:2]
    write_attributions(project, first, NAMES[:2])
    base = 0.3 + 0.1 * np.random.default_rng(0).random(N)
    write_attributions(project, second, NAMES[:2], deeplift=base + 0.02, blank=3)
    pixels = np.random.default_rng(0).integers(0, 255, (N, 32, 32, 3)).astype("uint8")
    np.savez(project / "data/images/planted.npz", images=pixels, labels=np.arange(N))
    found, metrics = report(project, "81_attribution_report",
                            models={name: MODELS[name] for name in NAMES[:2]},
                            images="data/images/planted.npz")  # fmt: skip
    said = capsys.readouterr().out
    assert f"{first}: there is no deeplift of this network; left out" in said
    assert f"{second}: 3 of {N} maps of saliency are zero everywhere" in said
    parts = {p["part"]: p for p in found["fampe_best"]["parts"]}
    assert parts["deeplift"]["estimate"] == pytest.approx(0.03) and parts["deeplift"]["n"] == N
    assert parts["saliency"]["estimate"] == pytest.approx(0.07) and parts["saliency"]["n"] == N - 3
    assert f"{first} has no deeplift" in found["fampe_best"]["note"]
    assert metrics[first]["insertion"]["deeplift"]["estimate"] is None
    mean = metrics[second]["insertion"]["saliency"]["estimate"]
    assert mean == pytest.approx(base[3:].mean() - 0.02)


def test_a_network_without_any_map_is_reported_and_decides_nothing(project, capsys):
    """It rounds its pixels: every map is zero everywhere, and nothing was attacked."""
    first, second = NAMES[:2]
    write_attributions(project, first, NAMES[:2])
    write_attributions(project, second, NAMES[:2], rounds=True)
    pixels = np.random.default_rng(0).integers(0, 255, (N, 32, 32, 3)).astype("uint8")
    np.savez(project / "data/images/planted.npz", images=pixels, labels=np.arange(N))
    given = {"images": "data/images/planted.npz"}
    both, metrics = report(project, "81_attribution_report",
                           models={name: MODELS[name] for name in NAMES[:2]}, **given)  # fmt: skip
    said = capsys.readouterr().out
    assert f"{second}: {N} of {N} maps of fampe are zero everywhere" in said
    assert f"{second}: {N} of {N} photographs gave no usable gradient under PGD" in said
    assert both["fampe_over_attexplore"]["estimate"] == pytest.approx(0.05), "of the other"
    assert metrics[second]["bridge"]["estimate"] is None
    alone = report(project, "81_attribution_report", models={second: MODELS[second]}, **given)[0]
    assert {row["verdict"] for row in alone.values()} <= {"undecided", "not tested"}


def test_planted_substitutes_and_complements_are_named_and_drawn():
    """Bands 0 and 2 are worth something together only, of 1 and 3 either is enough."""
    cells = json.loads((ROOT / "notebooks/30_importance.ipynb").read_text())["cells"]
    source = next("".join(cell["source"]) for cell in cells if cell["id"] == "interactions-1")
    present, said = coalitions(M).astype(bool), []
    game = 2.0 * present[:, [0, 2]].all(1) + 3.0 * present[:, [1, 3]].any(1)
    table = game[:, None] * np.linspace(0.8, 1.2, N)
    trained = {"net": SimpleNamespace(worths=SimpleNamespace(table=table))}
    space = {
        "np": np, "plots": plots, "interval": interval, "M": M, "n": N,
        "interaction_values": interaction_values, "trained": trained, "game": "log_likelihood",
        "Markdown": str, "display": said.append,
    }  # fmt: skip
    exec(source, space)
    (text,) = said
    assert text.startswith("**net**: of 6 pairs 1 are clearly substitutes, 1 clearly complements; ")
    assert "strongest substitutes: 1 and 3, -3.00 [" in text
    assert "strongest complements: 0 and 2, 2.00 [" in text and text.endswith(f"(n = {N}).")
    axis = space["axes"][0]
    rows, columns = ([tick.get_text() for tick in ticks]
                     for ticks in (axis.get_yticklabels(), axis.get_xticklabels()))  # fmt: skip
    drawn = {(columns[int(t.get_position()[0])], rows[int(t.get_position()[1])]): t.get_text()
             for t in axis.texts}  # fmt: skip
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
        "values": names, "precision": "float32", "device": "cpu", "seed": 0, "sigma": 0.25,
        "published_sigma": 0.02, "input_size": [32, 32],
        "choices": {"absence": filled, "partition": cut, "value": ["probability"],
                    "filter": ["published"]},
        "cells": {p: [100, 300, 624] for p in ("reference", *cut)},
        "radius": {p: [0.2, 0.5, 0.9] for p in ("reference", *cut)},
        "games": {"reference": {"clean": CLEAN_ANSWERS}},
    }  # fmt: skip
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
    (table,) = (d for d in drawn if isinstance(d, dict) and ("sees", "l2") in d
                and "mean radius (shares)" in d["sees", "l2"])  # fmt: skip
    for column in ("mean radius (shares)", "radius (shares), the same"):
        assert table["blind", "l2"][column] == "v(all) - v(none) may be 0"
        float(table["sees", "l2"][column].split()[0])
    float(table["blind", "l2"]["mean radius (SID)"].split()[0])
    curves = [set(d) for d in drawn if isinstance(d, dict) and "reached" in d]
    assert len(curves) == 2, "the reference and l2, of the network that sees"
    (first,) = (d for d in drawn if isinstance(d, dict) and "photographs" in d.get("sees", {}))
    assert first["sees"]["on the clean photographs"].startswith("10 classes; clean images: top-1 9")


@pytest.mark.parametrize("name", [
    "15_snr", "16_snr_report", "20_worths", "30_importance", "40_robustness", "50_correlation",
    "60_choices", "61_choices_report", "65_convergence", "66_convergence_report", "67_resolution",
    "67_resolution_report", "80_attributions", "81_attribution_report",
])  # fmt: skip
def test_what_was_seen_of_the_clean_images_stands_with_every_result(name):
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    assert any("clean_line(" in line for line in lines)


def test_a_measurement_that_was_not_seen_on_clean_images_says_nothing_of_them(capsys):
    cells = json.loads((ROOT / "notebooks/20_worths.ipynb").read_text())["cells"]
    source = next("".join(c["source"]) for c in cells if "clean_line(w" in "".join(c["source"]))
    seen = SimpleNamespace(provenance={"clean": CLEAN_ANSWERS})
    worths = {"trained": seen, "published": SimpleNamespace(provenance={}), "untrained": seen}
    exec(source[source.index("seen = {") :], {"clean_line": clean_line, "worths": worths})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("trained: 10 classes") and len(said) == 2


def test_a_report_shows_the_clean_answers_once():
    for name in ("30_importance", "81_attribution_report"):
        text = (ROOT / f"notebooks/{name}.ipynb").read_text()
        assert text.count("on the clean photographs") == 1
        assert not any(row in text for row in ("found by the probe", "top-1 on them",
                                               '\\"classified correctly\\":'))  # fmt: skip


def write_convergence(root, name, n_bands, labels):
    """Bands that add up, photographs that scatter around it: all that is printed is known."""
    rng = np.random.default_rng(len(name))
    values = np.array([[4.0], [2.0], [1.0], [0.2]])[:n_bands] + rng.normal(size=(n_bands, 60))
    table = -7 + coalitions(n_bands).astype(float) @ values
    about = {"precision": "float32", "device": "cpu", "classes": 1000, "labels": labels,
             "images": labels, "values": ["log_likelihood", "probability"]}  # fmt: skip
    tables = {"log_likelihood": table, "probability": np.exp(table / 10)}
    Worths(tables, about).save(root / f"results/convergence/tables/{name}.npz")
    return values


def test_all_that_is_printed_is_put_to_the_test(tmp_path, capsys):
    """Paired differences only where two networks saw the same photographs."""
    for name, labels in (("a", "one"), ("bb", "one"), ("ccc", "other")):
        write_convergence(tmp_path, name, M, labels)
    (tmp_path / "params.yaml").write_text("")
    networks = {name: {"model": {"name": name}} for name in ("a", "bb", "ccc")}
    how = dict(
        sizes=[6, 12, 24], n_draws=40, n_resamples=100, interval_sizes=[20], n_intervals=60,
        interval_resamples=100,
    )  # fmt: skip
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
