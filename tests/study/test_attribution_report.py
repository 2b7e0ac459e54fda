"""Verdicts on FAMPE and its maps: planted scores, by themselves and through the report."""

import numpy as np
import pandas as pd
import pytest
from made_up import report
from scipy import stats

from iaside.attribution.examination_table import QUANTITIES, Examination
from iaside.shapley import coalitions
from iaside.verdicts import attribution
from iaside.verdicts.attribution import best_cell, fampe, lead, relative_gain

N = 12
NAMES = ["alexnet", "resnet18"]
MODELS = {name: {"name": name} for name in NAMES}
READINGS = [(p, r) for p in ("gradient", "update") for r in ("pixel", "channel")]
DECIDE = {  # claim -> the method that FAMPE at alpha = 0.1 is compared with
    "fampe_over_attexplore": "attexplore",
    "fampe_decoupling_helps": fampe(0.5),
    "fampe_high_matters": fampe(0.9),
    "fampe_best": "attexplore",
}


def scores(gain=0.0, networks=2, n=N, noise=0.01, seed=0, **of_reading):
    """Insertion Scores with a planted gain of FAMPE at alpha = 0.1 over everything else."""
    rng = np.random.default_rng(seed)
    ease = 0.4 + 0.2 * rng.random((networks, n))  # of a photograph, for all methods
    found = {}
    for reading in READINGS:
        own = of_reading.get("_".join(reading), gain)
        others = ("attexplore", "saliency", fampe(0.5), fampe(0.9))
        found[reading] = {v: ease + noise * rng.normal(size=ease.shape) for v in others}
        found[reading][fampe(0.1)] = ease + own + noise * rng.normal(size=ease.shape)
    return found


def judged(claim, found):
    more = [["attexplore", "saliency"]] if claim == "fampe_best" else []
    return getattr(attribution, claim)(found, *more)


@pytest.mark.parametrize("claim", DECIDE)
def test_a_gain_is_judged_by_its_side_where_all_readings_agree(claim):
    assert judged(claim, scores(0.05))["verdict"] == "supported"
    row = judged(claim, scores(-0.05))
    assert row["verdict"] == "contradicted" and row["p"] < 1e-3 and row["unit"] == "photographs"
    assert judged(claim, scores(0.0))["verdict"] == "undecided"


@pytest.mark.parametrize("reading", READINGS, ids="_".join)
@pytest.mark.parametrize("claim", DECIDE)
def test_one_reading_that_says_otherwise_leaves_a_claim_undecided(claim, reading):
    row = judged(claim, scores(0.05, **{"_".join(reading): -0.05}))
    assert row["verdict"] == "undecided" and row["p"] is None
    assert f"contradicted in {', '.join(reading)}; " in row["note"] + "; "
    found = scores(0.05)
    del found[reading]
    with pytest.raises(ValueError, match=f"needs every reading, and .*{reading[1]}.* measure it"):
        judged(claim, found)


def test_methods_that_were_not_measured_are_named():
    found = {reading: {fampe(0.1): np.ones((1, N))} for reading in READINGS}
    with pytest.raises(ValueError, match="no scores of 'attexplore', but of fampe alpha=0.1"):
        attribution.fampe_over_attexplore(found)


def test_a_lead_is_the_mean_over_networks_in_pairs_over_photographs():
    """Of one row the studentised limits are t limits and more; networks share photographs."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, N))
    difference = (first - second).mean(0)
    e = lead(first, second)(0.95)
    assert e.value == pytest.approx(difference.mean()) and (e.n, e.unit) == (N, "photographs")
    assert e.se == pytest.approx(stats.sem(difference))
    reach = stats.t.ppf(0.975, N - 1) * e.se
    assert e.low <= e.value - reach and e.high >= e.value + reach, "below 15 at least Student's"
    first[1], second[0, :2] = np.nan, np.nan  # a network without a map, two photographs of another
    e = lead(first, second)(0.95)
    assert e.n == N - 2 and e.value == pytest.approx((first - second)[[0, 2], 2:].mean())
    nothing = lead(first * np.nan, second)(0.95)
    assert np.isnan(nothing.value) and nothing.n == 0


def test_the_relative_gain_is_that_of_mean_scores_of_each_network():
    first, second = 0.1 + np.random.default_rng(0).random((2, 3, N))
    percent = 100 * (first.mean(1) / second.mean(1) - 1).mean()
    assert relative_gain(first, second)(0.95).value == pytest.approx(percent)


def test_a_gain_of_13_percent_is_supported_and_others_are_not():
    for gain, verdict in ((1.1302, "supported"), (1.3, "contradicted"), (1.0, "contradicted")):
        found = scores(noise=1e-3)
        for s in found.values():
            s[fampe(0.1)] = gain * s["attexplore"]
        row = attribution.fampe_gain_13(found)
        assert row["verdict"] == verdict, gain
        assert row["value"] == pytest.approx(100 * (gain - 1) - 13.02)


def test_the_best_of_many_is_contradicted_at_the_level_of_all_of_them():
    """One of 20 methods is ahead by as much as .95 limits can tell, and 1 - .05 / 20 cannot."""
    rng = np.random.default_rng(0)
    base = rng.random((1, 40))
    ahead = rng.normal(size=(1, 40))
    ahead = 0.02 * (ahead - ahead.mean()) / stats.sem(ahead[0]) + 0.02 * 2.5  # t = 2.5
    methods = {f"method {k}": base - 1 for k in range(19)} | {"ahead": base + ahead}
    found = {reading: {fampe(0.1): base, **methods} for reading in READINGS}
    alone = attribution.fampe_best(found, ["ahead"])
    assert alone["verdict"] == "contradicted", "where it is the only other method"
    row = attribution.fampe_best(found, list(methods))
    assert row["verdict"] == "undecided" and "worst of 20: ahead" in row["note"]
    strong = {r: s | {"ahead": base + ahead + 0.05} for r, s in found.items()}  # t = 5
    assert attribution.fampe_best(strong, list(methods))["verdict"] == "contradicted"


def test_leanings_that_order_the_gains_are_supported_network_by_network():
    lean = np.linspace(-1, 1, 20)
    found = scores(n=20, noise=0)
    for s in found.values():
        s[fampe(0.1)] = s[fampe(0.9)] + np.stack([lean, lean])
    both = {"a": lean, "b": lean}
    assert attribution.importance_predicts_alpha(found, both)["verdict"] == "supported"
    row = attribution.importance_predicts_alpha(found, {"a": lean, "b": -lean})
    assert row["verdict"] == "contradicted" and "worst of 2: b" in row["note"]
    found["update", "pixel"][fampe(0.1)] = found["update", "pixel"][fampe(0.9)] - lean
    assert attribution.importance_predicts_alpha(found, both)["verdict"] == "undecided"
    few = scores(n=4)
    row = attribution.importance_predicts_alpha(few, {"a": np.arange(4), "b": np.arange(4)})
    assert row["verdict"] == "undecided" and "n = 4 photographs, 5 are needed" in row["note"]


def test_attacks_transfer_where_every_pair_loses_accuracy():
    right, wrong = np.ones(20), np.zeros(20)
    row = attribution.attack_transfers({"a to b": (right, wrong), "b to a": (right, wrong)})
    assert row["verdict"] == "supported" and row["value"] == 1
    row = attribution.attack_transfers({"a to b": (right, wrong), "b to a": (right, right)})
    assert row["verdict"] == "undecided" and "worst of 2: b to a" in row["note"]
    none = np.array([])
    row = attribution.attack_transfers({"a to b": (none, none)})
    assert row["verdict"] == "undecided" and "n = 0 photographs" in row["note"]


def grid(above, seed=0, n=N):
    """Scores of 12 cells, of which the first is above the others."""
    rng = np.random.default_rng(seed)
    rows = rng.random(n) + 0.05 * rng.normal(size=(12, n))
    rows[0] += above
    return rows


def test_a_cell_that_stands_out_is_found_in_every_reading():
    cells = {reading: grid(0.3, k) for k, reading in enumerate(READINGS)}
    row = attribution.fampe_cutoff_grid(cells)
    assert row["verdict"] == "supported" and row["value"] == pytest.approx(
        cells[READINGS[0]][0].mean() - cells[READINGS[0]].mean()
    )
    cells[READINGS[3]] = grid(0.0)
    assert attribution.fampe_cutoff_grid(cells)["verdict"] == "undecided"


@pytest.mark.slow
def test_no_cell_stands_out_of_equal_ones_however_many_there_are():
    """The best of 12 equal cells is above their mean in every sample, and the limits know."""
    out = sum(best_cell(grid(0.0, seed, 24))[2].low > 0 for seed in range(60))
    assert out <= 7, "P(more than 7 of 60 at 5 %) = .6 %"
    rows = grid(0.3)
    rows[5] = rows[0]
    assert best_cell(rows)[0] == [0, 5]
    assert best_cell(rows * np.nan)[0] == []


# -- the report ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("attributions")
    (root / "data/images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (N, 32, 32, 3)).astype("uint8")
    np.savez(root / "data/images/planted.npz", images=pixels, labels=np.arange(N))
    (root / "params.yaml").write_text("")
    return root


def write_attributions(
    root, name, judges, unattacked=0, deeplift=None, blank=0, rounds=False, channel=0.0
):
    """FAMPE gains 0.05, and more over its low-frequency self the more an image leans low.

    channel: by how much AttEXplore gains where channels are ranked.
    """
    how = {"steps": 2, "samples": 1}
    fampe = {"method": "fampe", "alpha": 0.1, "kappa": 0.9, **how}
    lean, base = np.arange(N) / N, 0.3 + 0.1 * np.random.default_rng(0).random(N)
    scores = {  # in this order
        "saliency": base - 0.02,
        "attexplore": base,
        "deeplift": deeplift,
        "fampe": base + 0.05,
        "fampe, update": base + 0.05,
        "fampe alpha=0.5": base + 0.04,
        "fampe alpha=0.9": base - 0.01 * lean,
        "clean": None,
        "pgd": None,
        "grid alpha=0.1 kappa=0.5": base,
        "grid alpha=0.1 kappa=0.9": base + 0.02 + 0.01 * lean,
    }
    scores |= {f"{v}, update": score for v, score in scores.items() if "alpha=" in v}
    if deeplift is None:
        del scores["deeplift"]
    variants = {
        v: fampe | {"alpha": float(v[12:15]) if v.startswith("fampe alpha") else 0.1}
        for v in scores
    }
    quantities = [*QUANTITIES, *(f"correct {judge}" for judge in judges)]
    tables = {q: np.full((len(scores), N), 1.0) for q in quantities}
    for k, (v, score) in enumerate(scores.items()):
        tables["insertion"][k] = np.nan if score is None else score
        if v == "saliency":
            tables["insertion"][k, :blank] = tables["deletion"][k, :blank] = np.nan
        # whatever the ranking; where each channel is ordered for itself all is a bit lower
        tables["insertion_channel"][k] = tables["insertion"][k] - 0.01
        if v == "attexplore":
            tables["insertion_channel"][k] += channel
        for judge in judges:  # the attack of FAMPE transfers, others do not
            tables[f"correct {judge}"][k] = float(v != "fampe" or judge == name)
            if rounds and v != "clean":
                tables[f"correct {judge}"][k] = np.nan
            if v == "pgd":
                tables[f"correct {judge}"][k, :unattacked] = np.nan
    if rounds:
        for quantity in (
            "insertion",
            "insertion_channel",
            "deletion",
            "infidelity",
            "total",
            "change",
            "similarity",
        ):
            tables[quantity][:] = np.nan
    about = {
        "variants": variants,
        "rows": list(variants),
        "quantities": quantities,
        "n_images": N,
        "only": {
            v: N
            for v in scores
            if v.startswith("grid") or v.endswith(", update") and v != "fampe, update"
        },
        "n_shown": 1,
        "steps": 4,
        "substrate": "zero",
        "seed": 0,
        "device": "cpu",
        "alpha": 0.1,
        "kappa": 0.9,
        "eps": 16,
        "n_grid": N,
        "grid_alphas": [0.1],
        "grid_kappas": [0.5, 0.9],
        "input_size": [32, 32],
    }
    maps = np.ones((len(scores), 1, 32, 32), np.float16)
    game = coalitions(2).astype(float) @ np.stack([lean, 1 - lean])
    path = root / f"results/attributions/tables/{name}.npz"
    Examination(variants, tables, about, maps).save(path, worths=game)


@pytest.mark.slow
def test_planted_gains_of_attributions_are_found_and_judged(project, capsys):
    for name in NAMES[:2]:
        write_attributions(project, name, NAMES[:2], unattacked=2)
    found, metrics = report(
        project,
        "81_attribution_report",
        models={name: MODELS[name] for name in NAMES[:2]},
        images="data/images/planted.npz",
    )
    for claim, estimate in {
        "fampe_over_attexplore": 0.05,
        "fampe_best": 0.05,
        "fampe_decoupling_helps": 0.01,
        "fampe_high_matters": 0.05 + 0.01 * np.mean(np.arange(N) / N),
        "importance_predicts_alpha": 1.0,
        "attack_transfers": 1.0,
    }.items():
        assert found[claim]["verdict"] == "supported", claim
        assert found[claim]["value"] == pytest.approx(estimate, abs=1e-5), claim
    parts = [
        f"{p}, {r}, {v}"
        for p in ("gradient", "update")
        for r in ("pixel", "channel")
        for v in ("saliency", "attexplore")
    ]
    assert [p["part"] for p in found["fampe_best"]["parts"]] == parts
    assert {row["data"] for row in found.values()} == {"ImageNet photographs"}
    base = 0.3 + 0.1 * np.random.default_rng(0).random(N)
    percent = 5 / base.mean() - 13.02
    assert found["fampe_gain_13"]["value"] == pytest.approx(percent, abs=1e-3)
    assert "fampe_cutoff_grid" not in found, "it is one on MaxViT-T"
    assert all("reconstruction" in row["note"] for row in found.values())
    said = f"{NAMES[0]}: 2 of {N} photographs gave no usable gradient under PGD: left out, not"
    assert said in capsys.readouterr().out
    for name in NAMES[:2]:
        half = (0.02 + 0.01 * np.mean(np.arange(N) / N)) / 2
        for reading in ("gradient, pixel", "update, channel"):
            best = metrics[name]["best_of_grid"][reading]
            assert best["cells"] == [{"alpha": 0.1, "kappa": 0.9}]
            assert best["above_mean"]["value"] == pytest.approx(half, abs=1e-6)
            assert 0 < best["above_mean"]["low"] < half < best["above_mean"]["high"]


@pytest.mark.slow
def test_a_ranking_that_says_otherwise_leaves_a_claim_undecided(project):
    """AttEXplore is far better where channels are ranked, and nothing else knows of channels."""
    write_attributions(project, NAMES[0], NAMES[:1], channel=0.2)
    given = {"models": {NAMES[0]: {"name": NAMES[0]}}, "images": "data/images/planted.npz"}
    found, metrics = report(project, "81_attribution_report", **given)
    assert found["fampe_over_attexplore"]["verdict"] == "undecided"
    note = found["fampe_over_attexplore"]["note"]
    assert "supported in gradient, pixel / update, pixel; " in note
    assert "contradicted in gradient, channel / update, channel; " in note
    assert found["fampe_best"]["verdict"] == "undecided"
    assert found["fampe_decoupling_helps"]["verdict"] == "supported", "of two that know nothing"
    gain = metrics[NAMES[0]]["insertion_channel"]["attexplore"]["value"]
    assert gain == pytest.approx(metrics[NAMES[0]]["insertion"]["attexplore"]["value"] + 0.19)


@pytest.mark.slow
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
    score[at("fampe, update")] -= 0.01
    e.tables["ties"][:] = 0.001
    e.tables["ties"][at("saliency")] = np.linspace(0.8, 1.0, N)
    e.save(path, **more)
    tables = []
    monkeypatch.setattr("IPython.display.Markdown", str)
    monkeypatch.setattr(
        pd.DataFrame,
        "T",
        property(lambda self: tables.append(self.transpose()) or self.transpose()),
    )
    _, metrics = report(
        project,
        "81_attribution_report",
        models={name: MODELS[name]},
        images="data/images/planted.npz",
    )
    assert "is that of *saliency and fampe*" in capsys.readouterr().out
    kappas = [cell["kappa"] for cell in metrics[name]["best_of_grid"]["gradient, pixel"]["cells"]]
    assert kappas == [0.5, 0.9]
    assert metrics[name]["ties"]["saliency"] == pytest.approx(0.9)
    (shares,) = (t["tied pixels"] for t in tables if "tied pixels" in t)
    assert shares[name]["saliency"] == "90.0%" and shares[name]["fampe"] == "0.1%"
    (alphas,) = (
        t["photographs for which each alpha is best"]
        for t in tables
        if "photographs for which each alpha is best" in t
    )
    assert alphas[name] == f"0.1: {N}, 0.5: 3, 0.9: 0"
    (cell,) = (t["best (alpha, kappa)"] for t in tables if "best (alpha, kappa)" in t)
    assert cell[name, "gradient, pixel"] == "(0.1, 0.5) and (0.1, 0.9)"
    assert cell[name, "update, pixel"] == "(0.1, 0.9)"


@pytest.mark.slow
def test_networks_without_a_kind_of_map_and_maps_of_zeros_are_left_out_and_said(project, capsys):
    """One network has no DeepLIFT; of the other 3 saliency maps are zero everywhere."""
    first, second = NAMES[:2]
    write_attributions(project, first, NAMES[:2])
    base = 0.3 + 0.1 * np.random.default_rng(0).random(N)
    write_attributions(project, second, NAMES[:2], deeplift=base + 0.02, blank=3)
    found, metrics = report(
        project,
        "81_attribution_report",
        models={name: MODELS[name] for name in NAMES[:2]},
        images="data/images/planted.npz",
    )
    said = capsys.readouterr().out
    assert f"{first}: there is no deeplift of this network; left out" in said
    assert f"{second}: 3 of {N} maps of saliency are zero everywhere" in said
    parts = {p["part"]: (p["value"], p["n"]) for p in found["fampe_best"]["parts"]}
    for reading in ("gradient, pixel", "update, channel"):
        assert parts[f"{reading}, deeplift"] == (pytest.approx(0.03), N)
        assert parts[f"{reading}, saliency"] == (pytest.approx(0.07), N - 3)
    assert f"{first} has no deeplift" in found["fampe_best"]["note"]
    assert metrics[first]["insertion"]["deeplift"]["value"] is None
    mean = metrics[second]["insertion"]["saliency"]["value"]
    assert mean == pytest.approx(base[3:].mean() - 0.02)


@pytest.mark.slow
def test_a_network_without_any_map_is_reported_and_decides_nothing(project, capsys):
    """It rounds its pixels: every map is zero everywhere, and nothing was attacked."""
    first, second = NAMES[:2]
    write_attributions(project, first, NAMES[:2])
    write_attributions(project, second, NAMES[:2], rounds=True)
    given = {"images": "data/images/planted.npz"}
    both, metrics = report(
        project, "81_attribution_report", models={name: MODELS[name] for name in NAMES[:2]}, **given
    )
    said = capsys.readouterr().out
    assert f"{second}: {N} of {N} maps of fampe are zero everywhere" in said
    assert f"{second}: {N} of {N} photographs gave no usable gradient under PGD" in said
    assert both["fampe_over_attexplore"]["value"] == pytest.approx(0.05), "of the other"
    assert metrics[second]["bridge"]["gradient, pixel"]["value"] is None
    alone = report(project, "81_attribution_report", models={second: MODELS[second]}, **given)[0]
    assert {row["verdict"] for row in alone.values()} <= {"undecided", "not tested"}
