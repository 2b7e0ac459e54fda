"""The reports on many networks, on made-up tables with a planted answer."""

import shutil

import numpy as np
import pandas as pd
import pytest
from made_up import report
from made_up_networks import MODELS, NAMES, M, N, make_networks
from scipy.stats import spearmanr

from iaside.robustness.summaries import OUTCOMES
from iaside.robustness.testbed import published_mce, read
from iaside.shapley import shapley_values
from iaside.tables import CLEAN_CUT, CORRUPTIONS, TABLES, Condition, Responses, Worths


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_networks(tmp_path_factory.mktemp("networks"))


@pytest.mark.slow
def test_a_score_that_predicts_robustness_is_supported(project):
    found, metrics = report(project, "50_correlation", models=MODELS)
    for claim in ("src_mce", "src_adversarial", "src_adversarial_t2", "src_corruptions"):
        row = found[claim]
        assert row["value"] < -0.9 and row["verdict"] == "supported", claim
        assert (row["n"], row["unit"], row["data"]) == (9, "networks", "ImageNet photographs")
    assert found["high_bands_fragile"]["verdict"] == "supported"
    assert {p["part"] for p in found["low_frequency_attacks"]["parts"]} == set(NAMES)
    # fgsm and pgd at the papers' strengths, by the printed and by the signed score
    assert len(found["src_adversarial"]["parts"]) == 8
    assert "supported in all 2 readings" in found["src_mce"]["note"]
    assert "also supported by accuracy left and relative accuracy" in found["src_mce"]["note"]
    assert found["beta_075_best"]["verdict"] != "supported", "here every beta does as well"
    assert metrics["src_mce"]["spearman"]["independent"] == 9
    assert len(set(metrics["families"].values())) == 9
    rows = pd.read_csv(project / "results/correlation/networks.csv", index_col="network")
    assert rows.index.tolist() == NAMES and set(OUTCOMES) < set(rows)
    worths = Worths.load(project / f"results/worths/tables/{NAMES[3]}-trained.npz")
    psi = shapley_values(worths.tables["log_likelihood"])
    assert rows.loc[NAMES[3], [f"psi_{i}" for i in range(M)]].to_numpy(float) == pytest.approx(
        psi.mean(1), rel=1e-4
    )
    r = Responses.load(project / f"results/robustness/tables/{NAMES[3]}.npz")
    right = r.tables["correct"][[k for k, c in enumerate(r.conditions) if c.source in CORRUPTIONS]]
    clean = r.tables["correct"][0].mean()
    assert rows.loc[NAMES[3], OUTCOMES[0]] == pytest.approx(right.mean() / clean, rel=1e-4)
    assert (rows["parameters"].diff().dropna() == 1e6).all() and (rows["input_size"] == 32).all()


@pytest.mark.slow
def test_one_design_in_many_trainings_is_shown_with_and_without(project, capsys):
    """Six trainings of one design: one of them lives on one band, one was trained for the study."""
    models = {m: MODELS[m] for m in NAMES[:7]}
    known = {m: {"family": "cnn_a", "training": f"kind {k % 2}"} for k, m in enumerate(NAMES[:6])}
    path = project / f"results/worths/tables/{NAMES[0]}-trained.npz"
    whole, w = path.read_bytes(), Worths.load(path)
    w.tables["log_likelihood"] = -7.0 + np.outer(np.arange(2**M) % 2, np.full(N, 6.0))
    w.save(path)
    capsys.readouterr()
    metrics = report(project, "50_correlation", models=models, designs=known, ours=[NAMES[2]])[1]
    path.write_bytes(whole)
    assert metrics["nearly_constant"] == {NAMES[0]: "band 0 has 100 % of its SID"}
    assert [metrics["trainings"][m] for m in (NAMES[1], NAMES[6])] == ["kind 1", "standard"]
    said = capsys.readouterr().out
    assert f"nearly a constant game: {NAMES[0]}, band 0 has 100 %" in said
    assert f"{NAMES[0]}, {NAMES[2]}" in said and "nobody" in said
    assert set(metrics["reliability"]) == {"signed", "printed"}


@pytest.mark.slow
def test_claims_about_architectures_are_judged_where_their_networks_are(project):
    found = report(project, "55_architecture", models=MODELS, transformers=NAMES[-3:])[0]
    assert found["parameter_count"]["verdict"] == "contradicted", "size decides here, by design"
    for claim in ("transformers_more_robust", "transformers_cluster"):
        assert found[claim]["verdict"] == "undecided" and found[claim]["value"] > 0
        assert "n = 3 networks, 4 are needed" in found[claim]["note"]
    assert found["efficientnet_over_older"]["verdict"] == "supported"
    assert found["efficientnet_comparable"]["value"] < 0
    assert found["shufflenet_robust"]["n"] == N
    assert {p["part"] for p in found["shufflenet_adversarial"]["parts"]} == {"fgsm", "pgd"}


@pytest.mark.slow
def test_a_fourth_transformer_decides(project):
    found = report(project, "55_architecture", models=MODELS, transformers=NAMES[-4:])[0]
    assert found["transformers_more_robust"]["verdict"] == "supported"
    assert found["transformers_more_robust"]["n"] == 4 == found["transformers_cluster"]["n"]


@pytest.mark.slow
def test_sizes_of_one_design_are_said_to_be_too_few_networks(project, capsys):
    """Three sizes of two designs each: nothing is said of networks, and why is said."""
    models = {m: {"name": f"vgg{k}" if k < 5 else f"resnet{k}"} for k, m in enumerate(NAMES[:7])}
    found, metrics = report(project, "50_correlation", models=models)
    assert set(metrics["families"].values()) == {"vgg", "resnet"}
    assert metrics["src_mce_within_families"]["independent"] == 6
    assert "within designs: 7 networks of 2 families, 6 of them" in found["src_mce"]["note"]
    few = {m: {"name": f"vgg{k}"} for k, m in enumerate(NAMES[:4])}
    found = report(project, "50_correlation", models=few)[0]
    for claim in ("src_mce", "src_adversarial", "beta_075_best"):
        assert found[claim]["verdict"] == "undecided", claim
    assert "4 independent networks, 5 are needed" in found["src_mce"]["note"]


@pytest.mark.parametrize("networks", [1, 4, 9])
@pytest.mark.slow
def test_rivals_stand_beside_the_score_with_their_price(project, networks, monkeypatch):
    from IPython import display

    said = []
    monkeypatch.setattr(display, "display", lambda shown: said.append(getattr(shown, "data", "")))
    models = {name: MODELS[name] for name in NAMES[:networks]}
    found, metrics = report(project, "52_rivals_report", models=models)
    assert not found and metrics["n"] == networks
    assert metrics["passes"]["SRC, signed"] == 2**4 and metrics["passes"]["clean error"] == 1
    assert metrics["passes"]["masking, centre"] == 17
    assert metrics["passes"]["leave one band out"] == 5
    table = pd.read_csv(project / "results/rivals_report/coefficients.csv", keep_default_na=False)
    unders = {"all corruptions", "white_noise 0.1", "gaussian_blur 5", "pgd 0.2"}
    assert set(table["under"]) == unders and len(set(table["predictor"])) == 10
    (opening,) = (words for words in said if "forward passes a photograph" in words)
    opening = opening.removeprefix("**Answer.** ")
    if networks < 9:
        assert opening.startswith("**It cannot be told**"), "four networks are too few"
        assert "An interval takes 5 independent networks: here it is" in opening
        return
    # The lean decides what is lost, and clean images are the same to all: the score adds to them.
    score = table[(table["predictor"] == "SRC, signed") & (table["given"] == "")]
    by_kind = score.set_index(["measure", "under"])["value"].astype(float)
    assert by_kind["loss in nats"].min() > 0.9 and by_kind["mPE"].min() > 0.9
    low = table[(table["predictor"] == "gradient, low share") & (table["given"] == "")]
    assert low["value"].astype(float).median() > 0.9, "planted as the score is"
    assert opening.startswith(("**Yes**", "**In part**")) and "16 forward passes" in opening


@pytest.mark.parametrize("notebook", ["50_correlation", "55_architecture", "58_match"])
@pytest.mark.slow
def test_families_are_those_that_the_study_says(project, notebook):
    models, known = {m: MODELS[m] for m in NAMES[:2]}, {NAMES[1]: {"family": "alexnet"}}
    metrics = report(project, notebook, models=models, designs=known)[1]
    assert metrics["families"] == dict.fromkeys(models, "alexnet")


@pytest.mark.slow
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
    out = capsys.readouterr().out
    assert said in out
    # all five are in the table of published numbers; their scores have the order of the names
    table, order = read().loc[list(some)], np.arange(5)
    for name, y in (
        ("mCE", published_mce(read())[list(some)]),
        ("accuracy under PGD 2/255", table["pgd_linf_eps2"]),
    ):
        rho = spearmanr(order, y).statistic
        assert f"SRC with the published {name}: {rho:+.2f} [" in out
    path.write_bytes(whole)


@pytest.mark.slow
def test_matching_is_judged_over_corruptions_and_networks(project, monkeypatch):
    from IPython import display

    said = []
    monkeypatch.setattr(display, "display", lambda shown: said.append(getattr(shown, "data", "")))
    found, metrics = report(project, "58_match", models=MODELS)
    assert set(found) >= {"profile_predicts_loss", "profile_beats_score"}
    assert found["profile_beats_score"]["n"] == len(NAMES)
    assert found["profile_over_accuracy"]["value"] > 0, "accuracy says nothing here"
    groups = ["sensor noise", "blur", "weather", "digital"]
    for choices in metrics["choices"].values():
        assert {g: c["best"] for g, c in choices.items()} == dict.fromkeys(groups, NAMES[-1])
    # The lean decides what is lost, by design, and the score tells it; accuracy is the same.
    told = metrics["methods"]
    assert told["score"]["low"] > 0.9 and told["clean accuracy"]["low"] < 0
    (recommended,) = (words for words in said if "Recommended by" in words)
    assert "score" in recommended and "accuracy" not in recommended.partition("**:")[0]
    assert not any("better by" in words for words in said)


@pytest.mark.slow
def test_no_network_is_recommended_by_a_method_that_did_not_predict(project, monkeypatch, tmp_path):
    """The same losses, dealt out to other networks: no profile, score or accuracy tells them."""
    from IPython import display

    shutil.copytree(project / "results/worths", tmp_path / "results/worths")
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "data/images/photographs").mkdir(parents=True)
    names, tables = NAMES[:4], tmp_path / "results/robustness/tables"
    for name, other in zip(names, (NAMES[2], NAMES[0], NAMES[3], NAMES[1]), strict=True):
        r = Responses.load(project / f"results/robustness/tables/{other}.npz")
        r.tables["correct"][0] = 1.0  # clean images are the same to all
        r.save(tables / f"{name}.npz")
    said = []
    monkeypatch.setattr(display, "display", lambda shown: said.append(getattr(shown, "data", "")))
    _, metrics = report(tmp_path, "58_match", models={name: MODELS[name] for name in names})
    assert metrics["methods"]["clean accuracy"]["value"] is None
    assert not any((found["low"] or -1) > 0 for found in metrics["methods"].values())
    assert any("No method can be recommended" in words for words in said)
    (compared,) = (words for words in said if "bare energy" in words)
    low, high = (metrics["over_energy"][end] for end in ("low", "high"))
    word = "better" if low > 0 else "worse" if high < 0 else "cannot be told"
    assert f"**{word}**" in compared


@pytest.mark.slow
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
    tables = {
        t: np.insert(rows, 1, rows[0] + (t == "log_likelihood"), axis=0)
        for t, rows in r.tables.items()
    }
    Responses(
        r.conditions, tables, r.clean_energy, np.insert(r.change_energy, 1, 0, axis=0), r.provenance
    ).save(path)
    report(project, "58_match", models=MODELS, images="phone")
    path.write_bytes(whole)
    one, other = (
        out.partition("predicted log-likelihood")[2].splitlines()[: 1 + len(NAMES)]
        for out in (plain, capsys.readouterr().out)
    )
    assert len(one) == 1 + len(NAMES) and one == other
    (project / "phone/degraded/2.png").unlink()
    with pytest.raises(ValueError, match=r"the same names: 2 \(1 in all\)"):
        report(project, "58_match", models=MODELS, images="phone")
    (project / "phone/degraded/2.heic").touch()  # a name, but no picture
    with pytest.raises(ValueError, match="degraded: 1 files left out.*1 .heic"):
        report(project, "58_match", models=MODELS, images="phone")
