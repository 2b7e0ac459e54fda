"""Claims as data: the list itself, and that each can be decided by some study that there is."""

import ast
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from iaside.estimate.correlation import MIN_MODELS
from iaside.estimate.resampling import LEAST
from iaside.score import robustness_score
from iaside.spectral import band_masks
from iaside.study.overlays import read_studies
from iaside.verdicts import needs, rules
from iaside.verdicts.needs import unmet

ROOT = Path(__file__).parents[2]
CLAIMS = list(rules.claims().values())
STUDIES = read_studies(ROOT)
SOURCES = [  # as docs/sources.md cites them, in the order of the list
    "Practice note",
    "Luo et al. 2023",
    "Luo et al. 2024",
    "Yavari et al. 2025",
    "Chan et al. 2022",
]
STAGES = {  # the reports of all studies
    "bands",
    "importance",
    "snr_report",
    "correlation",
    "architecture",
    "match",
    "choices_report",
    "convergence_report",
    "resolution_report",
    "label_noise",
    "dynamics",
    "data_size",
    "jafr",
    "mend_report",
    "attribution_report",
}
UNITS = {"photographs", "trainings", "initialisations", "networks", "draws", "bands"}


# --- the list -------------------------------------------------------------------------------------


def test_every_claim_is_complete():
    for claim in CLAIMS:
        assert re.fullmatch(r"[a-z][a-z0-9_]{2,39}", claim.id)
        assert claim.statement.endswith(".") and ". " not in claim.statement  # one sentence
        assert re.match(rf"({'|'.join(SOURCES)}), \S", claim.source)
        assert claim.stage in STAGES
        assert claim.kind in {"greater", "less", "null"} and claim.unit in UNITS
        # A null claim needs room to be supported.
        assert claim.kind != "null" or claim.threshold > 0
        assert claim.statistic and claim.needs and not claim.needs.endswith(".")
        assert not (claim.until and claim.cannot)


def test_the_list_is_sorted_by_source_and_free_of_repetition():
    first = [claim.source.partition(",")[0] for claim in CLAIMS]
    assert list(dict.fromkeys(first)) == SOURCES and first == sorted(first, key=SOURCES.index)
    page = (ROOT / "docs/sources.md").read_text(encoding="utf-8")
    assert all(f"\n| {source} | " in page for source in SOURCES)
    for field in ("id", "statement"):
        assert len({getattr(claim, field) for claim in CLAIMS}) == len(CLAIMS)
    entries = (ROOT / "iaside/verdicts/claims.yaml").read_text().count("\n- id: ")
    assert entries == len(CLAIMS)  # of two entries with one id the second would hide the first
    assert {claim.stage for claim in CLAIMS} == STAGES  # each report decides something


def test_the_easily_forgotten_claims_are_listed():
    expected = {
        "beta_075_best": ("greater", 0),
        "efficientnet_over_older": ("greater", 0),
        "shufflenet_robust": ("greater", 0),
        "k200_l1": ("less", 0.007),
        "m8_suffices": ("null", 0.1),
        "absences_alike": ("null", 0.1),
        "linf_density": ("null", 0.05),
        "linf_equal_cells": ("null", 0.05),  # the other reading of the same words
        "second_stage_tradeoff": ("greater", 0),
        "noise_lowers_accuracy": ("less", 0),
        "jafr_corruptions": ("greater", 0),
        "jafr_adversarial": ("greater", 0),
        "jafr_over_pgd": ("greater", 0.5),
        "jafr_high_gain": ("greater", 0),
        "jafr_low_loss": ("less", 0),
        "jafr_large_lambda": ("less", 0),
        "fampe_over_attexplore": ("greater", 0),
        "fampe_high_matters": ("greater", 0),
        "fampe_cutoff_grid": ("greater", 0),
        "parameter_count": ("null", 0.3),
        "untrained_uniform": ("null", 0.05),
        "targeted_beats_generic": ("greater", 0),
        "tradeoffs_early": ("greater", 0),
        "penalty_mends": ("greater", 0),
        "profile_over_accuracy": ("greater", 0),
        "information_identity": ("null", 0.002),
    }
    found = {i: (rules.find(i).kind, rules.find(i).threshold) for i in expected}
    assert found == expected


def test_a_statement_is_counted_in_what_it_generalises_over():
    for claim in CLAIMS:
        said = f"{claim.statistic} {claim.needs}"
        if re.search(r"training study|three trainings|over seeds", said):
            assert claim.unit == "trainings", claim.id
        if re.search(r"Spearman rho[^,;]*,? over (models|networks)|over networks", said):
            assert claim.unit == "networks", claim.id
        if "exact, n = M" in said:
            assert claim.unit == "bands", claim.id
        if "initialisations, which are the unit" in said:
            assert claim.unit == "initialisations", claim.id


def test_null_claims_of_a_kind_have_one_margin():
    for words, margin in (("rank correlation|Spearman", 0.3), ("L1 distance", 0.1)):
        of = {c.threshold for c in CLAIMS if c.kind == "null" and re.search(words, c.statistic)}
        assert of == {margin}
    # As far as a SID that is a margin away from another can move the score, M = 8, beta = .75.
    ends = robustness_score(np.eye(8)[:, [0, 7]], 0.75, signed=True, norm="tight")
    moved = 0.1 / 2 * (ends[0] - ends[1])
    assert rules.find("efficientnet_comparable").threshold == pytest.approx(moved, abs=0.005)


def test_where_a_source_leaves_two_readings_open_both_are_named():
    both = {"product": ["gradient", "update"], "rank": ["pixel", "channel"]}
    score = {"score": ["printed", "signed"]}
    for claim in CLAIMS:  # an attack has neither a product nor a ranking
        read = both if "Insertion Score" in claim.statistic else None
        read = score if claim.id.startswith(("src_mce", "src_adv", "src_corr")) else read
        assert claim.readings == read, claim.id


@pytest.mark.parametrize(("side", "share"), [(224, 0.754), (64, 0.765), (32, 0.780)])
def test_white_noise_has_three_quarters_of_its_energy_in_the_high_bands(side, share):
    # Why adversarial perturbations are compared with white noise: half would be no high share.
    assert f"{share:.3f}".lstrip("0") in rules.find("adversarial_high_frequency").why
    assert rules.find("adversarial_high_frequency").threshold == 0
    half = band_masks(8, (side, side)).flatten(1).double()
    columns = np.full(side // 2 + 1, 2.0)  # the half-plane stands for its mirror image too,
    columns[[0, -1]] = 1  # but for the two columns that are their own
    cells = half.numpy() @ np.tile(columns, side)
    assert cells[4:].sum() / cells.sum() == pytest.approx(share, abs=5e-4)


# --- what decides it ------------------------------------------------------------------------------


def complaint(claim, studies):
    """What is wrong with what a claim says about the studies that there are; nothing: ''."""
    lacks = {name: unmet(claim, study) for name, study in studies.items()}
    deciding = [name for name, lines in lacks.items() if not lines]
    if deciding and claim.until:
        return f"{deciding[0]} decides it now: delete its `until`"
    if deciding and claim.cannot:
        return f"{deciding[0]} decides it after all: delete its `cannot`"
    if not deciding and not (claim.until or claim.cannot):
        closest = min(lacks, key=lambda name: len(lacks[name]))
        return f"no study decides it (of {closest}: {'; '.join(lacks[closest])}); say `until`"
    return ""


def test_some_study_decides_every_claim_or_the_claim_says_why_not():
    assert {claim.id: said for claim in CLAIMS if (said := complaint(claim, STUDIES))} == {}


def test_every_claim_that_some_study_decides_has_a_function_in_the_module_of_its_report():
    judged = [
        (node.name, path.stem)
        for path in (ROOT / "iaside/verdicts").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name in rules.claims()
    ]
    assert len(judged) == len(set(judged))
    for claim in CLAIMS:
        one = claim.id, claim.stage.removesuffix("_report")  # as CONTRIBUTING says
        assert one in judged or claim.until or claim.cannot, claim.id


def test_what_is_required_are_settings_that_studies_have():
    # A setting that is misspelt would be lacking for ever, and no `until` ever be noticed as met.
    planned = {"worths.posterior"}
    kinds = {"independent", "groups", "trainings", "wins", "levels"}
    for claim in CLAIMS:
        for path in set(claim.requires) - kinds - planned:
            section, _, setting = path.partition(".")
            there = section == "models" or setting.split(".")[0] in STUDIES["default"][section]
            assert there, (claim.id, path)


def test_a_claim_that_no_study_decides_has_to_say_so():
    claim = replace(rules.find("parameter_count"), cannot="")
    assert "no study decides it" in complaint(claim, STUDIES)
    own, claim = {"own": STUDIES["default"]}, rules.find("jafr_high_gain")
    assert "2 seeds that were trained with all of" in complaint(claim, own)


def test_an_until_that_has_come_is_noticed():
    studies = deepcopy(STUDIES)
    for name in ("jafr", "adversarial"):
        studies["default"]["training"]["plans"][name]["seed"] = list(range(6))
    now = {c.id for c in CLAIMS if "delete its `until`" in complaint(c, studies)}
    assert now == {"jafr_over_pgd"}
    iaside = STUDIES["paper-iaside"]
    more = iaside["models"] | {f"net{k}": {} for k in range(25)}
    studies = STUDIES | {"large": iaside | {"models": more}}
    assert "delete its `cannot`" in complaint(rules.find("parameter_count"), studies)


# --- needs, put to small studies ------------------------------------------------------------------


def lacks(study, **requires):
    claim = replace(rules.find("src_mce"), requires=requires or {})
    return unmet(claim, study)


def test_a_number_is_a_least_and_counts_lists_and_mappings():
    study = {"a": {"n": 4, "list": [1, 2, 3], "map": {"x": {"n": 9}, "y": {"n": 2}}}}
    assert lacks(study, **{"a.n": 4, "a.list": 3, "a.map": 2, "a.map.*.n": 9, "a.map.x.n": 9}) == []
    assert lacks(study, **{"a.n": 5}) == ["a.n is 4, below 5"]
    assert lacks(study, **{"a.list": 4}) == ["a.list is 3, below 4"]
    assert lacks(study, **{"a.map.*.n": 10}) == ["a.map.*.n is 9, below 10"]
    assert lacks(study, **{"a.map.y.n": 3}) == ["a.map.y.n is 2, below 3"]
    assert lacks(study, **{"a.m": 1, "b.n": 1}) == ["there is no a.m", "there is no b.n"]


def test_values_are_all_needed_and_settings_of_one_value_are_lists_of_it():
    study = {"a": {"eps": [0.1, 0.1961], "rank": "pixel", "nets": {"vgg": {}}}}
    assert lacks(study, **{"a.eps": [0.1], "a.rank": ["pixel"], "a.nets": ["vgg"]}) == []
    assert lacks(study, **{"a.eps": [0.1, 0.15, 0.2]}) == ["a.eps has no 0.15, 0.2"]
    assert lacks(study, **{"a.rank": ["pixel", "channel"]}) == ["a.rank has no channel"]


@pytest.mark.parametrize("word", LEAST)
def test_words_stand_for_the_minima_of_the_rules(word):
    least = LEAST[word]
    assert lacks({"a": {"n": least}}, **{"a.n": word}) == []
    assert lacks({"a": {"n": least - 1}}, **{"a.n": word}) == [
        f"a.n is {least - 1}, below {least} ({word})"
    ]


def models(*names):
    return {"models": {f"net{k}": {"name": name} for k, name in enumerate(names)}}


def test_independent_networks_are_those_beyond_the_first_of_each_family():
    vgg, four = [f"vgg{k}" for k in (11, 13, 16, 19)], ["alexnet", "googlenet", "vit_b_16"]
    two = models(*vgg, "resnet18", "resnet50")
    assert lacks(two, independent="networks") == []  # 6 less the second family's mean
    assert lacks(two, independent="networks given accuracy") == [
        "4 independent networks given accuracy in models, below 5"
    ]
    # Networks alone in their family say nothing within designs, however many there are.
    assert lacks(models(*vgg, *four), independent="networks") == [
        "4 independent networks in models, below 5"
    ]
    # What a study says of their designs goes before what their names say.
    known = two | {"designs": {f"net{k}": {"family": f"own{k}"} for k in range(4)}}
    assert lacks(known, independent="networks") == ["2 independent networks in models, below 5"]
    alone = models(*four, "alexnet_v2", "squeezenet1_0", "mnasnet1_0")
    assert lacks(alone, independent="networks") == []  # where all are, nothing is taken out
    assert lacks(alone, independent="families") == []
    assert lacks(models(*vgg, "alexnet"), independent="families") == [
        f"2 independent families in models, below {MIN_MODELS}"
    ]


def test_groups_are_the_families_listed_and_all_others():
    names = [
        "vit_b_16",
        "swin_b",
        "maxvit_t",
        "deit_s",
        "vgg11",
        "resnet18",
        "alexnet",
        "googlenet",
    ]
    study = models(*names) | {"architecture": {"transformers": [f"net{k}" for k in range(4)]}}
    assert lacks(study, groups="architecture.transformers") == []
    study["models"]["net7"] = {"name": "vgg19"}  # of a family that is there
    few = "families of {} in models, below 4"
    assert lacks(study, groups="architecture.transformers") == ["3 " + few.format("others")]
    study["architecture"]["transformers"] = ["net0", "elsewhere1", "elsewhere2", "elsewhere3"]
    assert lacks(study, groups="architecture.transformers") == ["1 " + few.format("transformers")]


def plans(**of):
    return {
        "training": {"plans": {name: {"architecture": "a"} | p for name, p in of.items()}},
        "jafr": {"recommended": [0.01]},
    }


THRICE = {"seed": [0, 1, 2]}


def test_cells_of_trainings_differ_in_their_factors_and_seeds_only():
    cells = [{"adversary": "pgd"}, {"adversary": "none"}]
    words = "seeds that were trained with all of adversary pgd; adversary none, below 3"
    pgd, moved = THRICE | {"adversary": "pgd"}, THRICE | {"augment": True}
    assert lacks(plans(a=THRICE, b=pgd), trainings=cells) == []
    assert lacks(plans(a=moved, b=moved | {"adversary": "pgd"}), trainings=cells) == []
    for b, shared in (
        ({"adversary": "pgd", "seed": [0, 1]}, 2),
        ({"adversary": "pgd", "seed": [1, 2, 3, 4]}, 2),  # taken seed by seed
        ({"adversary": "pgd", "architecture": ["a", "b", "c"]}, 1),
        (pgd | {"architecture": "b"}, 0),
        (moved | {"adversary": "pgd"}, 0),
        (pgd | {"noise": 0.5}, 0),
        ({"architecture": "b", "seed": [0, 1], "adversary": ["none", "pgd"]}, 2),
    ):
        assert lacks(plans(a=THRICE, b=b), trainings=cells) == [f"{shared} {words}"]
    noisy = plans(a=THRICE | {"noise": 0.5}, b=pgd | {"noise": 0.5})
    assert lacks(noisy, trainings=cells) == [f"0 {words}"]  # comparisons are made at the defaults


def test_lambdas_are_those_that_the_report_recommends():
    jafr = {"penalty": "jafr"} | THRICE
    small, large = {"penalty": "jafr", "strength": "recommended"}, {"strength": "> recommended"}
    assert lacks(plans(a=jafr | {"strength": [0.01, 0.1]}), trainings=[small, large]) == []
    for strengths in (0.01, [0.01, -0.1], [0.1, 0.2]):
        assert lacks(plans(a=jafr | {"strength": strengths}), trainings=[small, large])
    several = plans(a=jafr | {"strength": [0.01, 0.05]})
    several["jafr"]["recommended"] = [0.01, 0.1]  # for two kinds of training: larger than both
    assert lacks(several, trainings=[small, large])
    mirrored = [{"penalty": "jafr", "strength": "-recommended"}, {"penalty": "none"}]
    both = plans(a=THRICE, b=jafr | {"strength": -0.01})
    assert lacks(both, trainings=mirrored) == []
    assert lacks(plans(a=THRICE, b=jafr | {"strength": 0.01}), trainings=mirrored)
    # Two lambdas of three trainings each make no cell of six, nor three lambdas of one a cell.
    thinly = plans(a={"penalty": "jafr", "strength": [0.01, 0.1, 0.2, 0.3]})
    assert "1 seeds" in lacks(thinly, trainings=[small, large])[0]


def test_levels_are_of_one_factor_with_all_others_alike():
    noise = plans(a=THRICE | {"noise": [0.2, 0.4]}, b=THRICE)
    assert lacks(noise, levels={"noise": 3}) == []
    assert lacks(noise, levels={"noise": 4}) == [
        "3 values of noise in trainings alike but for it, below 4"
    ]
    apart = plans(a=THRICE | {"noise": [0.2, 0.4]}, b=THRICE | {"noise": 0.6, "architecture": "b"})
    assert "2 values of noise" in lacks(apart, levels={"noise": 3})[0]
    fewer = plans(a=THRICE | {"noise": [0.2, 0.4]}, b={"seed": [0, 1, 5]})
    assert lacks(fewer, levels={"noise": 3}) == [
        "2 seeds that were trained with all of 3 values of noise, below 3"
    ]
    assert len(lacks({}, levels={"noise": 3}, trainings=[{"every": "> 0"}])) == 2


@pytest.mark.parametrize(
    "requires",
    [
        {"a.n": "photograph"},
        {"trainings": [{"lambda": 1}]},
        {"levels": {"noise": 3, "seed": 2}},
        {"groups": "transformers"},
        {"independent": "models"},
    ],
)
def test_a_requirement_that_cannot_be_read_names_its_claim(requires):
    study = plans(a=THRICE) | {"a": {"n": 3}}
    with pytest.raises(ValueError, match="'src_mce' requires .* kinds of requirements are in"):
        lacks(study, **requires)


def test_needs_names_every_kind_of_requirement_in_its_description():
    kinds = {k for c in CLAIMS for k in c.requires if "." not in k and k != "models"}
    assert kinds == {"independent", "groups", "trainings", "wins", "levels"}
    assert all(f"`{kind}:" in needs.__doc__ for kind in kinds)


def test_a_study_that_attacks_no_profile_lacks_an_attack():
    study = STUDIES["default"]
    without = study | {"profiles": study["profiles"] | {"attack_eps": []}}
    claims = [c for c in CLAIMS if "profiles.n_attack" in c.requires]
    assert claims
    for claim in claims:
        assert "profiles.attack_eps is 0, below 1" in unmet(claim, without), claim.id
