"""The papers' study in four parts: each decides its claims, and can be afforded."""

from pathlib import Path

import pytest

from iaside.study import plan
from iaside.study.overlays import read_study, study_file, use
from iaside.study.parameters import UsageError, commands, read_notebooks, read_pipeline
from iaside.study.parts import Study
from iaside.training.plans import networks
from iaside.verdicts import rules
from iaside.verdicts.needs import unmet

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {"training", "profiles", "label_noise", "dynamics", "data_size", "jafr", "plans"}
TRAINING |= {"mend", "mend_report"}
ATTRIBUTION = {"attributions", "attribution_report"}
ASKS = {  # part -> its own sections
    "paper-iaside": {
        "bands",
        "snr",
        "snr_report",
        "worths",
        "importance",
        "player_worths",
        "players",
        "robustness",
        "rivals",
        "correlation",
        "rivals_report",
        "architecture",
        "match",
        "choices",
        "choices_report",
        "convergence",
        "convergence_report",
        "resolution",
        "resolution_report",
    },
    "paper-noise": TRAINING - {"jafr", "plans", "mend", "mend_report"},
    "paper-jafr": TRAINING - {"label_noise", "dynamics", "data_size"},
    "paper-fampe": ATTRIBUTION,
}
STUDIES = {name: read_study(ROOT / f"studies/{name}.yaml") for name in (*ASKS, "smoke")}
ELSEWHERE = {"tradeoffs_early"}  # of networks that are attacked as well, as in cifar10
HOURS, WORKERS = 24, {"paper-jafr": 8}  # of one GPU, or so many
LONGEST = 6  # hours of a stage

each_part = pytest.mark.parametrize("name", ASKS)


@each_part
def test_a_part_decides_every_claim_of_its_reports(name):
    study = STUDIES[name]
    reports = set(study["claims"]["reports"])
    assert reports <= ASKS[name]
    for claim in rules.claims().values():
        if claim.stage in reports and not (claim.until or claim.cannot or claim.id in ELSEWHERE):
            assert unmet(claim, study) == [], claim.id


def test_the_parts_have_every_report():
    reports = [r for name in ASKS for r in STUDIES[name]["claims"]["reports"]]
    assert sorted(reports) == sorted(STUDIES["smoke"]["claims"]["reports"])


@each_part
def test_what_a_part_does_not_ask_takes_seconds(name):
    """Every notebook has its section in every study; those of other parts are the smoke study's."""
    study, smoke = STUDIES[name], STUDIES["smoke"]
    for section in set(study) - ASKS[name] - {"models", "claims", "runtime", "seed"}:
        here, there = (
            {k: v for k, v in s[section].items() if k not in ("networks", "engine")}
            for s in (study, smoke)
        )
        assert here == there, section


def test_trainings_of_seed_004_are_stages_of_their_own():
    plans = STUDIES["paper-jafr"]["training"]["plans"]
    assert len(networks(plans)) == len(plans) == 96
    cells = {}
    for s in networks(plans).values():
        cell = tuple(v for k, v in s.items() if k not in ("seed", "plan"))
        cells.setdefault(cell, []).append(s["seed"])
    assert all(sorted(seeds) == [0, 1, 2] for seeds in cells.values()) and len(cells) == 32


def test_the_whole_is_refused_by_the_names_of_its_parts(tmp_path, monkeypatch, capsys):
    words = "'paper' is in parts: take one of paper-fampe, paper-iaside, paper-jafr, paper-noise"
    for ask in (lambda: study_file("paper", ROOT), lambda: use("paper")):
        with pytest.raises(UsageError, match=words):
            ask()
    monkeypatch.chdir(ROOT)
    assert plan.main(["paper"]) == 2 and words in capsys.readouterr().err


@pytest.mark.slow
@each_part
def test_a_part_can_be_afforded(name):
    """On an A100, the slowest in float32 of the GPUs that have a rate, by operations alone."""
    study = Study(STUDIES[name], ROOT)
    notebooks, gpu, hours = read_notebooks(ROOT), plan.named_gpu("A100"), {}
    for stage, command in commands(read_pipeline(ROOT), STUDIES[name]):
        _, parts = plan.parts_of(plan.Stage(stage, command, ""), study, notebooks)
        after = (stage.replace("profiles@", "training@"),) if "profiles@" in stage else ()
        hours[stage] = sum(plan.rated(p, gpu).seconds(p.passes) for p in parts) / 3600, after
    longest = max(hours, key=hours.get)
    assert hours[longest][0] < LONGEST, longest
    assert plan.side_by_side(hours, WORKERS.get(name, 1)) < HOURS
    assert min(plan.GPUS, key=lambda name: plan.GPUS[name]["float32"]) == "A100"
