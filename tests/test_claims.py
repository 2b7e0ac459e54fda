"""Claims: the rule of the verdict, records, combination, gathering, and the list itself."""

import ast
import doctest
import inspect
import itertools
import json
import math
import random
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from iaside import claims
from iaside.claims import CLAIMS, as_document, count_verdicts, find, gather, record, verdict, worst

INF, NAN = math.inf, math.nan
GREATER = SimpleNamespace(id="g", kind="greater", threshold=0.1)
LESS = SimpleNamespace(id="l", kind="less", threshold=0.1)
NULL = SimpleNamespace(id="n", kind="null", threshold=0.1)


# --- the rule ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "low", "high", "expected"),
    [
        (GREATER, 0.11, 0.5, "supported"),
        (GREATER, -0.5, 0.09, "contradicted"),
        (GREATER, 0.05, 0.5, "undecided"),
        (GREATER, 0.1, 0.5, "undecided"),  # touching decides nothing
        (GREATER, -0.5, 0.1, "undecided"),
        (LESS, -0.5, 0.09, "supported"),
        (LESS, 0.11, 0.5, "contradicted"),
        (LESS, 0.05, 0.5, "undecided"),
        (NULL, -0.05, 0.05, "supported"),
        (NULL, -0.1, 0.1, "supported"),  # |statistic| <= margin includes the margin
        (NULL, 0.11, 0.5, "contradicted"),
        (NULL, -0.5, -0.11, "contradicted"),
        (NULL, 0.05, 0.5, "undecided"),
        (NULL, -0.5, 0.5, "undecided"),  # wider than the margin is no evidence of absence
        (GREATER, 0.2, 0.2, "supported"),  # an exact number
        (NULL, 0.2, 0.2, "contradicted"),
    ],
)
def test_verdict_rule(claim, low, high, expected):
    assert verdict(claim, (low + high) / 2, low, high) == expected


def test_less_is_the_mirror_image_of_greater():
    rng = random.Random(0)
    seen = set()
    for _ in range(2000):
        threshold = rng.uniform(-1, 1)
        low, high = sorted(rng.uniform(-2, 2) for _ in range(2))
        greater = SimpleNamespace(id="g", kind="greater", threshold=threshold)
        less = SimpleNamespace(id="l", kind="less", threshold=-threshold)
        said = verdict(greater, low, low, high)
        assert said == verdict(less, -low, -high, -low)
        seen.add(said)
    assert seen == {"supported", "contradicted", "undecided"}


@pytest.mark.parametrize("claim", [GREATER, LESS, NULL])
@pytest.mark.parametrize(
    "numbers", [(NAN, 0.2, 0.3), (0.2, NAN, 0.3), (0.2, 0.15, NAN), (0.2, 0.15, INF),
                (-0.2, -INF, -0.15), (INF, 0.2, 0.3), (0, NAN, NAN)]
)  # fmt: skip
def test_nothing_unbounded_or_nan_decides(claim, numbers):
    assert verdict(claim, *numbers) == "undecided"


def test_false_decisions_are_as_rare_as_the_interval_misses():
    # Truth exactly on the threshold: any decision is an error, and 95 % intervals err in 5 %.
    rng = random.Random(1)
    draws = [rng.gauss(0.1, 1) for _ in range(4000)]
    for claim in (GREATER, LESS):
        decided = [verdict(claim, x, x - 1.96, x + 1.96) != "undecided" for x in draws]
        assert 0.04 < sum(decided) / len(decided) < 0.06
    # Truth on the margin of a null claim, with an interval narrow enough to decide: the same.
    narrow = [0.1 + (x - 0.1) * 0.01 for x in draws]
    decided = [verdict(NULL, x, x - 0.0196, x + 0.0196) != "undecided" for x in narrow]
    assert 0.04 < sum(decided) / len(decided) < 0.06


def test_reversed_interval_is_an_error():
    with pytest.raises(ValueError, match=r"low 0\.3 exceeds high 0\.2"):
        verdict(GREATER, 0.25, 0.3, 0.2)


# --- records -------------------------------------------------------------------------------


def test_record_says_what_was_claimed_and_measured():
    row = record("k200_l1", 0.004, 0.003, 0.006, n=50, note="resnet18")
    claim = find("k200_l1")
    assert (row["verdict"], row["claimed"], row["note"]) == ("supported", "< 0.007", "resnet18")
    assert (row["estimate"], row["low"], row["high"], row["n"]) == (0.004, 0.003, 0.006, 50)
    assert row["statement"] == claim.statement and row["source"] == claim.source


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_units_decide_nothing(n):
    assert record("src_mce", -0.5, -0.6, -0.4, n=n)["verdict"] == "undecided"
    assert record("src_mce", 0.5, 0.4, 0.6, n=n)["verdict"] == "undecided"
    assert record("src_mce", -0.5, -0.6, -0.4, n=2)["verdict"] == "supported"


def test_records_are_strict_json_whatever_number_type_comes_in():
    row = record("src_mce", np.float32(-0.5), np.float64(-INF), NAN, n=np.int64(7))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["low"], row["high"], row["verdict"]) == (None, None, "undecided")
    combined = worst("src_mce", {"a": (np.float64(NAN), NAN, NAN, 3), "b": (-1, -1, -1, 3)})
    assert json.loads(json.dumps(combined, allow_nan=False)) == combined


def test_unknown_id_names_the_close_ones():
    with pytest.raises(ValueError, match="'src_mec'; did you mean src_mce"):
        record("src_mec", 0, 0, 0, n=2)
    with pytest.raises(ValueError, match="iaside.claims.CLAIMS"):
        find("???")


@pytest.mark.parametrize(
    ("numbers", "n", "error", "message"),
    [
        ((None, 0, 1), 3, TypeError, "estimate of claim 'src_mce' must be a number, got None"),
        ((0, "0", 1), 3, TypeError, "low of claim 'src_mce' must be a number, got '0'"),
        ((0, 0, 1), 2.5, TypeError, "n of claim 'src_mce' must be an integer, got 2.5"),
        ((0, 0, 1), -1, ValueError, "n of claim 'src_mce' must be 0 or more, got -1"),
    ],
)
def test_record_refuses_what_is_no_number(numbers, n, error, message):
    with pytest.raises(error, match=re.escape(message)):
        record("src_mce", *numbers, n)


# --- several parts -------------------------------------------------------------------------

# Intervals that are supported, undecided and contradicted for each kind of claim.
BY_KIND = {
    "src_mce": {"s": (-0.6, -0.8, -0.4), "u": (0, -0.2, 0.2), "c": (0.6, 0.4, 0.8)},
    "snr_power_law": {"s": (6, 4, 8), "u": (0, -2, 2), "c": (-6, -8, -4)},
    "parameter_count": {"s": (0, -0.1, 0.1), "u": (0, -0.5, 0.5), "c": (-0.6, -0.8, -0.4)},
}


@pytest.mark.parametrize("claim_id", BY_KIND)
def test_worst_is_all_for_supported_and_any_for_contradicted(claim_id):
    for kinds in itertools.product("suc", repeat=3):
        parts = {f"part{i}": (*BY_KIND[claim_id][k], 9) for i, k in enumerate(kinds)}
        if all(k == "s" for k in kinds):
            expected = "supported"
        else:
            expected = "contradicted" if "c" in kinds else "undecided"
        row = worst(claim_id, parts)
        assert row["verdict"] == expected
        assert [part["part"] for part in row["parts"]] == list(parts)
        named = row["note"].removeprefix("worst of 3: ")
        part = next(part for part in row["parts"] if part["part"] == named)
        assert part["verdict"] == expected and part["low"] == row["low"]


def test_worst_reports_the_part_that_reaches_least_into_the_claimed_side():
    assert worst("src_mce", {"a": (-5, -6, -0.1, 9), "b": (-1, -1, -0.9, 9)})["high"] == -0.1
    assert worst("snr_power_law", {"a": (5, 1, 9, 9), "b": (2, 2, 2, 9)})["low"] == 1
    row = worst("parameter_count", {"a": (0.1, 0, 0.1, 9), "b": (-0.2, -0.2, 0, 9)}, note="x")
    assert row["low"] == -0.2 and row["note"] == "worst of 2: b; x"
    # A part without an interval is worse than any undecided one, and never hides a contradiction.
    nothing = (NAN, NAN, NAN, 9)
    assert worst("src_mce", {"a": (0, -1, 1, 9), "b": nothing})["note"] == "worst of 2: b"
    assert worst("src_mce", {"a": (1, 0.5, 2, 9), "b": nothing})["verdict"] == "contradicted"
    # Too few units make a part undecided, and with it the whole.
    assert worst("src_mce", {"a": (-1, -1, -1, 9), "b": (-1, -1, -1, 1)})["verdict"] == "undecided"


def test_worst_refuses_nothing_and_malformed_parts():
    with pytest.raises(ValueError, match="'src_mce' has no parts"):
        worst("src_mce", {})
    with pytest.raises(ValueError, match=r"part 'a' .* must be \(estimate, low, high, n\)"):
        worst("src_mce", {"a": (0, 0, 1)})


# --- gathering -----------------------------------------------------------------------------


def test_gather_lists_every_claim_once_and_in_order():
    documents = [
        as_document("bands", [record("esd_power_law", 9, 5, 12, n=24)]),
        as_document("zoo", [record("src_mce", 0.5, 0.2, 0.8, n=19),
                            worst("src_corruptions", {"noise": (0, -1, 1, 19)})]),
    ]  # fmt: skip
    rows = gather(json.loads(json.dumps(documents)))  # as read back from the files
    assert [row["id"] for row in rows] == [claim.id for claim in CLAIMS]
    assert len({tuple(row) for row in rows}) == 1  # the same columns in every row
    by_id = {row["id"]: row for row in rows}
    assert by_id["esd_power_law"]["verdict"] == "supported"
    mce = by_id["src_mce"]
    assert (mce["verdict"], mce["stage"], mce["n"]) == ("contradicted", "zoo", 19)
    assert by_id["src_corruptions"]["parts"][0]["part"] == "noise"
    untested = by_id["shufflenet_robust"]
    assert untested["verdict"] == f"not tested: needs {find('shufflenet_robust').needs}"
    assert untested["estimate"] is None and untested["stage"] == "architecture"
    assert count_verdicts(rows) == {
        "supported": 1, "contradicted": 1, "undecided": 1, "not tested": len(CLAIMS) - 3
    }  # fmt: skip
    json.dumps(rows, allow_nan=False)


def test_a_claim_recorded_twice_names_both_stages():
    once = as_document("correlation", [record("src_mce", -0.5, -0.6, -0.4, n=9)])
    again = as_document("zoo", [record("src_mce", 0.5, 0.4, 0.6, n=20)])
    with pytest.raises(ValueError, match="'src_mce' .* stage 'correlation' and by stage 'zoo'"):
        gather([once, again])
    with pytest.raises(ValueError, match="recorded twice"):
        as_document("zoo", once["claims"] + again["claims"])


def test_gather_refuses_a_record_of_no_claim():
    row = record("src_mce", 0, -1, 1, n=9) | {"id": "src_mpe"}
    with pytest.raises(ValueError, match="unknown claim id 'src_mpe'; did you mean"):
        gather([{"stage": "correlation", "claims": [row]}])


# --- the list ------------------------------------------------------------------------------

STAGES = {  # the reporting notebooks of all planned studies
    "bands", "importance", "snr_report", "correlation", "architecture", "match", "choices_report",
    "convergence_report", "resolution_report", "label_noise", "dynamics", "data_size", "jafr",
    "attribution_report",
}  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_is_complete(claim):
    assert re.fullmatch(r"[a-z][a-z0-9_]{2,39}", claim.id)
    assert claim.statement.endswith(".") and ". " not in claim.statement  # one sentence
    assert re.match(r"seed 00[0-4] \S", claim.source)
    assert claim.stage in STAGES
    assert claim.kind in {"greater", "less", "null"}
    assert claim.kind != "null" or claim.threshold > 0  # a null claim needs room to be supported
    assert claim.statistic and claim.needs and not claim.needs.endswith(".")


def test_the_list_is_sorted_by_seed_and_free_of_repetition():
    seeds = [claim.source[:8] for claim in CLAIMS]
    assert seeds == sorted(seeds) and set(seeds) == {f"seed 00{i}" for i in range(5)}
    for field in ("id", "statement"):
        assert len({getattr(claim, field) for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.stage for claim in CLAIMS} == STAGES  # every study has something to decide


def test_the_easily_forgotten_claims_are_listed():
    expected = {
        "beta_075_best": ("greater", 0),
        "efficientnet_over_older": ("greater", 0),
        "shufflenet_robust": ("greater", 0),
        "k200_l1": ("less", 0.007),
        "m8_suffices": ("null", 0.1),
        "absences_alike": ("null", 0.1),
        "linf_density": ("null", 0.05),
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
        "parameter_count": ("null", 0.3),
        "untrained_uniform": ("null", 0.05),
    }
    assert {i: (find(i).kind, find(i).threshold) for i in expected} == expected


def exact(claim_id, value, n=8):
    return record(claim_id, value, value, value, n)["verdict"]


def test_exact_claims_about_the_score():
    # The printed SRC of all importance in one band, seed 002 Eq. 11, M = 8 and beta = 0.75.
    beta = 0.75 ** np.arange(8)
    mean, norm = beta.mean(), np.linalg.norm(beta)
    src = np.abs(beta - mean) / (norm - mean)
    assert src[0] == pytest.approx(0.5217, abs=1e-4)
    assert exact("src_range", 1 - src.max()) == "contradicted"
    assert exact("src_prefers_low", (src[:-1] - src[1:]).min(), n=7) == "contradicted"
    signed = (beta - mean) / (1 - mean)  # the tight, signed score keeps both promises
    assert exact("src_range", 1 - signed.max()) == "supported"
    assert exact("src_prefers_low", (signed[:-1] - signed[1:]).min(), n=7) == "supported"


def test_exact_claims_about_the_density_of_bands():
    # Cells per band at 224 px, M = 8, against the areas of square rings and annuli.
    linf = np.array([729, 2296, 3864, 5432, 7000, 8568, 10136, 12151])
    l2_corner = np.array([1225, 3696, 6144, 8632, 11044, 12130, 5632, 1673])
    ring = (2 * np.arange(8) + 1) * (224 / 8) ** 2

    def variation(x):
        return x.std(ddof=1) / x.mean()

    assert exact("linf_density", variation(linf / ring)) == "supported"
    assert exact("linf_equal_cells", variation(linf)) == "contradicted"
    assert exact("l2_density", variation(l2_corner / (ring * np.pi / 2))) == "supported"


def test_module_needs_only_the_standard_library_and_its_examples_run():
    tree = ast.parse(inspect.getsource(claims))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert imported and imported <= sys.stdlib_module_names
    result = doctest.testmod(claims)
    assert result.attempted >= 8 and result.failed == 0
