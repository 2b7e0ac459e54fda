"""The page of claims says how many verdicts were tried, how many may be wrong, and which stand."""

import ast
import contextlib
import json
import re

import numpy as np
import pytest
from scipy import stats
from smoke import ROOT

from iaside.estimate.correlation import MIN_MODELS
from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import LEAST
from iaside.study.overlays import read_studies
from iaside.verdicts import page, rules
from iaside.verdicts.needs import unmet
from iaside.verdicts.rules import as_document, decide, gather


def normal(value, se, unit="photographs", n=400):
    """A part whose limits are those of a normal estimate at every level."""

    def at(level):
        reach = stats.norm.ppf((1 + level) / 2) * se
        return Estimate(value, se, value - reach, value + reach, n, unit)

    return at


def rows_of(**z):
    """The rows of a page: claim id -> the distance of its estimate from its threshold in standard
    errors, above 0 on the claimed side."""
    records = []
    for claim_id, distance in z.items():
        claim = rules.find(claim_id)
        sign = 1 if claim.kind == "greater" else -1
        value = claim.threshold + sign * 0.01 * distance
        records.append(decide(claim_id, normal(value, 0.01, claim.unit), data="MNIST digits"))
    return gather([as_document("any", records)])


TRIED = {
    "low_energy_majority": 9,
    "src_mce": -9,
    "snr_decays": -2.2,
    "esd_power_law": 0.5,
    "noise_lowers_accuracy": -3.9,
    "low_bands_preferred": 2.0,
}


def test_the_answer_counts_what_was_tried_and_what_may_be_wrong():
    said = page.in_short(rows_of(**TRIED))
    total = len(rules.claims())
    assert said.startswith(f"of {total} claims this study tried 6: **2** are ")
    assert "**3** contradicted, **1** undecided" in said and f"{total - 6} it could not" in said
    assert "Of the 6, 0 rest on numbers without an error and 0 have too few" in said
    assert "of the other 6, up to 5% are to be expected to be wrong (0.3, if" in said
    exact = decide("src_range", lambda _: Estimate.exact(0.0, 8, "bands"), exact=True)
    rows = gather([as_document("a", [exact])])
    said = page.in_short(rows)
    assert "Of the 1, 1 rest on numbers without an error" in said and "of the other 0, " in said


def test_what_has_too_few_of_its_unit_cannot_be_wrong():
    few = decide("src_mce", lambda _: Estimate.unsure(-0.9, 2, "networks"))
    wide = decide("src_adversarial", normal(-0.01, 0.01, "networks"))
    said = page.in_short(gather([as_document("a", [few, wide])]))
    assert "**2** undecided" in said and "0 rest on numbers without an error and 1 have" in said
    assert f"of the other 1, up to 5% are to be expected to be wrong ({0.05:.1f}, if" in said


def test_exact_contradictions_are_counted_apart_from_those_that_holm_corrects():
    exact = decide("src_range", lambda _: Estimate.exact(0.5, 8, "bands"), exact=True)
    assert exact["verdict"] == "contradicted" and exact["p"] == 0
    weak = decide("src_mce", normal(0.022, 0.01, "networks"))
    many = [c.id for c in rules.claims().values() if c.kind == "greater" and c.unit != "bands"][:20]
    rest = [r for r in rows_of(**dict.fromkeys(many, 9)) if page.is_tested(r)]
    rows = gather([as_document("a", [exact, weak, *rest])])
    said = page.in_short(rows)
    assert "Of the 2 contradictions 1 are exact; of the 1 measured, **0** survive" in said
    first, other = said.index("by exact numbers:"), said.index("but not after it:")
    assert first < said.index(exact["statement"]) < other < said.index(weak["statement"])
    row = page.table_of_tested(rows).set_index("claim").loc[exact["statement"]]
    assert row["data"] == "formula" and row["measured"] == "0.5 (exact), n = 8 bands"


def test_contradictions_are_told_apart_by_holm_over_the_page():
    said = page.in_short(rows_of(**TRIED))
    assert "of the 3 measured, **2** survive Holm's correction over the whole page." in said
    safe, unsafe = said.index("also after Holm"), said.index("but not after it")
    close = said.index("Close to the threshold")
    at = {i: said.index(rules.find(i).statement) for i in ("src_mce", "snr_decays")}
    assert safe < at["src_mce"] < unsafe < at["snr_decays"] < close
    notes = page.table_of_tested(rows_of(**TRIED)).set_index("claim")["note"]
    flagged = [i for i in TRIED if "not after Holm" in notes[rules.find(i).statement]]
    assert flagged == ["snr_decays"]


def test_on_a_page_of_many_verdicts_a_lone_weak_contradiction_does_not_stand():
    # Holm: the same p of a contradiction that stands alone is chance among twenty tries.
    alone = rows_of(src_mce=-2.6)
    assert "of the 1 measured, **1** survive" in page.in_short(alone)
    many = [c.id for c in rules.claims().values() if c.kind != "null" and c.id != "src_mce"][:20]
    rows = rows_of(src_mce=-2.6, **dict.fromkeys(many, 9))
    assert "of the 1 measured, **0** survive" in page.in_short(rows)


def test_what_lies_close_to_its_threshold_is_listed_whatever_its_verdict():
    rows = rows_of(low_energy_majority=2.0, src_mce=-2.0, esd_power_law=1.9, snr_decays=9)
    close = page.in_short(rows).partition("Close to the threshold")[2]
    told = [i for i in TRIED if rules.find(i).statement in close]
    assert told == ["low_energy_majority", "src_mce", "esd_power_law"]
    assert all(f"*{verdict}*" in close for verdict in ("supported", "contradicted", "undecided"))
    assert "Close to" not in page.in_short(rows_of(snr_decays=9))


def test_a_verdict_names_its_unit_and_the_data_it_was_decided_on():
    table = page.table_of_tested(rows_of(**TRIED)).set_index("claim")
    row = table.loc[rules.find("noise_lowers_accuracy").statement]
    assert row["measured"] == "0.039 [0.0194, 0.0586], n = 400 trainings"
    assert (row["data"], row["claimed for"]) == ("MNIST digits", "Caltech101")
    assert "on MNIST digits" in page.in_short(rows_of(src_mce=-9))


def test_an_undecided_claim_says_what_it_would_take():
    undecided = page.table_of_tested(rows_of(jafr_over_pgd=0.1))
    assert f"until: {rules.find('jafr_over_pgd').until}" in undecided["note"][0]
    assert "until" not in page.table_of_tested(rows_of(jafr_over_pgd=9))["note"][0]


def test_what_was_not_tested_says_what_it_needs_and_until_when():
    table = page.table_of_untested(rows_of(**TRIED)).set_index("claim")
    assert len(table) == len(rules.claims()) - len(TRIED)
    for claim_id, word in (
        ("jafr_over_pgd", "until: "),
        ("parameter_count", "cannot: "),
        ("sid_linear", ""),
    ):
        row = table.loc[rules.find(claim_id).statement]
        assert row["for want of"].startswith(word) and bool(row["for want of"]) == bool(word)
        assert row["needs"] == rules.find(claim_id).needs


def test_a_study_that_decides_what_this_one_did_not_is_named():
    studies = read_studies(ROOT)
    table = page.table_of_untested(gather([]), studies)
    assert (table["for want of"] != "").all(), "each has a study, waits for one, or never will"
    named = table.set_index("claim")["for want of"]
    assert "paper-iaside" in named[rules.find("shufflenet_robust").statement]
    for row in table.itertuples():
        claim = next(c for c in rules.claims().values() if c.statement == row.claim)
        if claim.requires and not (claim.until or claim.cannot):
            able = row[4].removeprefix("another study: ").split(", ")
            assert all((unmet(claim, studies[name]) == []) == (name in able) for name in studies)


def test_the_limits_that_contradict_are_shown_beside_those_of_the_part():
    parts = {k: normal(z * 0.01, 0.01, "networks") for k, z in zip("abc", (3, 1, -9), strict=True)}
    record = decide("src_adversarial", parts)
    assert record["verdict"] == "contradicted"
    assert 0 < record["joint_low"] < record["low"] < record["high"] < record["joint_high"]
    reach = stats.norm.ppf(1 - 0.05 / 6) * 0.01
    assert record["joint_low"] == pytest.approx(0.03 - reach)
    shown = page.table_of_tested(gather([as_document("a", [record])]))["measured"][0]
    own, joint = "0.03 [0.0104, 0.0496], n = 400 networks", "[0.00606, 0.0539]"
    assert shown == f"{own}; {joint} for all 3 parts together"
    agreed = rules.every_reading({"x": record, "y": decide("src_adversarial", parts["c"])})
    assert agreed["verdict"] == "undecided" and agreed["joint_low"] is None


def test_recorded_runs_stand_beside_the_verdict_of_the_study():
    kept = {"old": {"rows": [r for r in rows_of(src_mce=9, sid_linear=0) if page.is_tested(r)]}}
    table = page.table_of_recorded(kept, rows_of(src_mce=-9)).set_index("claim")
    assert len(table) == 2 and set(table["run"]) == {"old"}
    mce = table.loc[rules.find("src_mce").statement]
    assert (mce["verdict"], mce["here"], mce["data"]) == (
        "supported",
        "contradicted",
        "MNIST digits",
    )
    assert table.loc[rules.find("sid_linear").statement, "here"] == "not tested"


@pytest.mark.parametrize("maker", ["tested", "recorded", "untested"])
def test_empty_tables_are_tables(maker):
    made = {
        "tested": lambda: page.table_of_tested(gather([])),
        "recorded": lambda: page.table_of_recorded({}, gather([])),
        "untested": lambda: page.table_of_untested([]),
    }[maker]()
    assert len(made) == 0 and "claim" in made and "<table" in page.styled(made, "x").to_html()


def test_the_notebook_reads_the_records_of_the_reports_and_answers_first(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *what: shown.extend(what))
    (tmp_path / "params.yaml").write_text("claims: {}")
    split = {"correlation": ["src_mce"], "bands": ["low_energy_majority", "esd_power_law"]}
    for stage, ids in split.items():
        rows = [decide(i, normal(-0.9, 0.01, rules.find(i).unit), data="here") for i in ids]
        (tmp_path / "results" / stage).mkdir(parents=True)
        (tmp_path / "results" / stage / "claims.json").write_text(
            json.dumps(as_document(stage, rows))
        )
    (tmp_path / "results/recorded").symlink_to(ROOT / "results/recorded")
    space, last = {}, []
    with contextlib.chdir(tmp_path):
        for cell in json.loads((ROOT / "notebooks/90_claims.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                *body, end = ast.parse("".join(cell["source"])).body
                exec(compile(ast.Module(body, []), "90_claims", "exec"), space)
                if isinstance(end, ast.Expr):  # what a notebook shows of a cell
                    last.append(
                        eval(compile(ast.Expression(end.value), "90_claims", "eval"), space)
                    )
                else:
                    exec(compile(ast.Module([end], []), "90_claims", "exec"), space)
            if "parameters" in cell["metadata"].get("tags", []):
                space |= {"reports": list(split)}
                space |= {"recorded": ["cifar10_zoo", "imagenet_zoo", "caltech101"]}
    rows = json.loads((tmp_path / "results/claims/claims.json").read_text())
    verdicts = {row["id"]: row["verdict"] for row in rows if page.is_tested(row)}
    assert verdicts == {
        "src_mce": "supported",
        "low_energy_majority": "contradicted",
        "esd_power_law": "contradicted",
    }
    assert shown[0].data.startswith("**Answer.** Of ") and "tried 3: **1**" in shown[0].data
    pages = [style.to_html() for style in last if hasattr(style, "to_html")]
    assert len(pages) == 3 and "n = 400 networks" in pages[0]
    assert "Caltech-101" in pages[1] and "contradicted" in pages[1]
    assert "until: " in pages[2]


def test_the_page_states_the_minima_that_the_rules_have():
    text = (ROOT / "notebooks/90_claims.ipynb").read_text()
    said = re.search(
        r"fewer than (\d) photographs, (\d) trainings, (\d) initialisations, "
        r"(\d) networks a group or (\d) in a correlation",
        text,
    )
    units = ("photographs", "trainings", "initialisations", "networks")
    assert [int(n) for n in said.groups()] == [*(LEAST[unit] for unit in units), MIN_MODELS]


@pytest.mark.slow
def test_false_verdicts_are_no_more_than_the_page_says():
    # Worlds in which every claim of the page lies exactly at its threshold: all verdicts are false.
    rng = np.random.default_rng(0)
    ids = [c.id for c in rules.claims().values() if c.kind != "null"][:25]
    false, wrongly_safe, worlds = 0, 0, 120
    for _ in range(worlds):
        rows = rows_of(**dict(zip(ids, rng.normal(size=len(ids)), strict=True)))
        false += sum(r["verdict"] in ("supported", "contradicted") for r in rows)
        wrongly_safe += bool(rules.holm(rows))
    promised = float(re.search(r"expected to be wrong \((\d+\.\d+), if", page.in_short(rows))[1])
    assert promised == pytest.approx(0.05 * len(ids), abs=0.06)
    spread = np.sqrt(promised / worlds)
    assert false / worlds < promised + 3 * spread and false / worlds > promised - 3 * spread
    assert wrongly_safe / worlds < 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds)
