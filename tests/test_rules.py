"""The rules of verdicts: sides, parts, minima, closeness, readings, gathering, Holm."""

import itertools
import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from iaside.estimate import Estimate
from iaside.intervals import LEAST
from iaside.verdicts import rules
from iaside.verdicts.rules import (
    RISK,
    RISKS,
    as_document,
    count_verdicts,
    decide,
    every_reading,
    find,
    gather,
    holm,
)

INF, NAN = math.inf, math.nan
CLAIM = find("src_mce")
GREATER, LESS, NULL = (
    replace(CLAIM, id=kind[0], kind=kind, threshold=0.1) for kind in ("greater", "less", "null")
)


def estimate(low, high, n=9, unit="networks", value=None):
    return Estimate((low + high) / 2 if value is None else value, 1.0, low, high, n, unit)


def fixed(low, high, n=9, unit="networks"):
    return lambda level: estimate(low, high, n, unit)


def normal(z, unit="networks", n=99, threshold=0.0):
    """A part z standard errors above a threshold, with the limits of a normal estimate."""

    def at(level):
        reach = stats.norm.ppf((1 + level) / 2)
        return Estimate(threshold + z, 1.0, threshold + z - reach, threshold + z + reach, n, unit)

    return at


# --- one interval ---------------------------------------------------------------------------------


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
def test_the_side_of_an_interval(claim, low, high, expected):
    assert claim.side(estimate(low, high)) == expected


def test_less_is_the_mirror_image_of_greater():
    rng = random.Random(0)
    seen = set()
    for _ in range(2000):
        threshold = rng.uniform(-1, 1)
        e = estimate(*sorted(rng.uniform(-2, 2) for _ in range(2)))
        said = replace(GREATER, threshold=threshold).side(e)
        assert said == replace(LESS, threshold=-threshold).side(-e)
        seen.add(said)
    assert seen == {"supported", "contradicted", "undecided"}


@pytest.mark.parametrize("claim", [GREATER, LESS, NULL], ids=lambda claim: claim.kind)
@pytest.mark.parametrize(
    "numbers", [(NAN, 0.2, 0.3), (0.2, NAN, 0.3), (0.2, 0.15, NAN), (0.2, 0.15, INF),
                (-0.2, -INF, -0.15), (INF, 0.2, 0.3), (0, NAN, NAN)]
)  # fmt: skip
def test_nothing_unbounded_or_nan_decides(claim, numbers):
    value, low, high = numbers
    assert claim.side(estimate(low, high, value=value)) == "undecided"
    row = decide("src_mce", lambda level: estimate(low, high, value=value))
    assert row["verdict"] == "undecided"
    assert json.loads(json.dumps(row, allow_nan=False)) == row  # what is not finite is null


# --- several parts --------------------------------------------------------------------------------

# Limits that are supported, undecided and contradicted at every level, for each kind of claim.
BY_KIND = {
    "src_mce": {"s": (-0.8, -0.4), "u": (-0.2, 0.2), "c": (0.4, 0.8)},
    "snr_power_law": {"s": (4, 8), "u": (-2, 2), "c": (-8, -4)},
    "parameter_count": {"s": (-0.1, 0.1), "u": (-0.5, 0.5), "c": (-0.8, -0.4)},
}


@pytest.mark.parametrize("claim_id", BY_KIND)
def test_all_parts_support_and_any_contradicts(claim_id):
    unit = find(claim_id).unit
    for kinds in itertools.product("suc", repeat=3):
        parts = {f"part{i}": fixed(*BY_KIND[claim_id][k], unit=unit) for i, k in enumerate(kinds)}
        expected = "contradicted" if "c" in kinds else "undecided" if "u" in kinds else "supported"
        row = decide(claim_id, parts)
        assert row["verdict"] == expected
        assert [part["part"] for part in row["parts"]] == list(parts)
        named = row["note"].removeprefix("worst of 3: ").partition(";")[0]
        part = next(part for part in row["parts"] if part["part"] == named)
        assert part["verdict"] == expected and part["low"] == row["low"]


def test_the_worst_part_reaches_least_into_the_claimed_side():
    assert decide("src_mce", {"a": fixed(-6, -0.1), "b": fixed(-1, -0.9)})["high"] == -0.1
    null = {"a": fixed(0, 0.1), "b": fixed(-0.2, 0)}
    row = decide("parameter_count", null, note="x")
    assert row["low"] == -0.2 and row["note"] == "worst of 2: b; x"
    nothing = lambda level: Estimate.unsure(0.5, 9, "networks")  # noqa: E731
    assert decide("src_mce", {"a": fixed(-1, 1), "b": nothing})["note"] == "worst of 2: b"
    # A part without limits never hides a contradiction.
    assert decide("src_mce", {"a": fixed(0.5, 2), "b": nothing})["verdict"] == "contradicted"


def test_support_needs_95_percent_of_each_part_and_contradiction_bonferronis():
    # z = 2.2 is two-sided p = .028: enough alone, and not as one of two parts.
    alone, enough = normal(2.2), normal(2.5)
    assert decide("src_mce", alone)["verdict"] == "contradicted"
    assert decide("src_mce", {"a": alone, "b": normal(-9)})["verdict"] == "undecided"
    assert decide("src_mce", {"a": enough, "b": normal(-9)})["verdict"] == "contradicted"
    many = {f"part{k}": normal(-9) for k in range(7)}
    assert decide("src_mce", many | {"a": enough})["verdict"] == "undecided"
    support = {f"part{k}": normal(-2.0) for k in range(8)}
    assert decide("src_mce", support)["verdict"] == "supported"


def test_false_contradictions_are_rare_however_many_parts_lie_at_the_threshold():
    rng = np.random.default_rng(0)
    for k, least in ((1, 0.012), (8, 0.010)):
        # One-sided half of 5 %: a claim at its threshold is contradicted by chance in 2.5 %.
        said = [
            decide("src_mce", {str(i): normal(z) for i, z in enumerate(rng.normal(size=k))})
            for _ in range(800)
        ]
        rate = np.mean([row["verdict"] == "contradicted" for row in said])
        assert least < rate < 0.025 + 3 * math.sqrt(0.025 / 800)


def test_too_few_of_the_unit_decide_nothing_and_say_so():
    for claim_id in ("src_mce", "low_energy_majority", "untrained_uniform", "jafr_high_gain"):
        claim = find(claim_id)
        side = (-9, -8) if claim.kind == "less" else (8, 9) if claim.kind == "greater" else (0, 0)
        least = LEAST[claim.unit]
        enough = decide(claim_id, fixed(*side, least, claim.unit))
        few = decide(claim_id, fixed(*side, least - 1, claim.unit))
        assert (enough["verdict"], few["verdict"]) == ("supported", "undecided")
        assert f"n = {least - 1} {claim.unit}, {least} are needed" in few["note"]
    # Also where another part is large enough, and where it would contradict.
    both = {"a": fixed(-9, -8), "b": fixed(8, 9, n=3)}
    assert decide("src_mce", both)["verdict"] == "undecided"
    three = Estimate.exact(0.5, 3, "photographs")  # of a number without an error any n will do
    assert decide("efficiency", lambda _: three, exact=True)["verdict"] == "contradicted"
    assert decide("efficiency", lambda _: three)["verdict"] == "undecided"
    short = decide("src_mce", fixed(-9, -8), short="3 independent networks, 5 are needed")
    assert short["verdict"] == "undecided" and "3 independent networks" in short["note"]


def test_a_unit_that_is_not_the_claims_is_refused():
    with pytest.raises(ValueError, match="decided over networks, .* 'a' counts photographs"):
        decide("src_mce", {"a": fixed(-1, -0.5, unit="photographs")})
    with pytest.raises(ValueError, match="'src_mce' has no parts"):
        decide("src_mce", {})
    with pytest.raises(ValueError, match="'src_mec'; did you mean src_mce"):
        find("src_mec")
    with pytest.raises(ValueError, match=r"claims\.yaml"):
        find("???")


# --- closeness and p ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "verdict", "close"),
    [(-1.96 * 1.2, "supported", False), (-1.96 * 1.05, "supported", True),
     (-1.96 * 0.95, "undecided", True), (-1.96 * 0.8, "undecided", False),
     (1.96 * 1.05, "contradicted", True), (1.96 * 1.2, "contradicted", False)],
)  # fmt: skip
def test_close_is_within_a_tenth_of_the_half_width(z, verdict, close):
    row = decide("src_mce", normal(z))
    assert (row["verdict"], row["close"]) == (verdict, close)
    assert ("close to the threshold" in row["note"]) == close
    # A contradiction by one of several parts is as close as its own limits, at its own level.
    other = decide("src_mce", {"a": normal(z), "b": normal(-9)})
    reach = stats.norm.ppf(1 - RISK / 4)
    if other["verdict"] == "contradicted":
        assert other["close"] == (abs(z - reach) <= 0.1 * reach)


def test_p_of_a_contradiction_is_no_smaller_than_it_is():
    for z in (2.0, 2.5, 3.2, 4.1, 6.0):
        for k in (1, 4):
            parts = {"a": normal(z)} | {str(i): normal(-9) for i in range(k - 1)}
            row = decide("src_mce", parts)
            true = k * 2 * stats.norm.sf(z)
            if row["verdict"] != "contradicted":
                assert true > RISK and row["p"] is None
                continue
            assert row["p"] >= min(true, k * RISKS[-1]) and row["p"] <= RISK
            tighter = [k * r for r in RISKS if k * r < row["p"]]
            assert all(r <= max(true, 0) for r in tighter)  # no risk below it would do
    assert decide("src_mce", normal(-3))["p"] is None


def test_holm_is_the_step_down_procedure():
    rng = np.random.default_rng(0)
    for _ in range(300):
        ps, tried = 10 ** rng.uniform(-5, -1.3, 6), int(rng.integers(6, 40))
        rows = [{"id": str(k), "verdict": "contradicted", "p": p} for k, p in enumerate(ps)]
        # Adjusted p: the running maximum of (tried - rank) p over the ordered ones.
        order = np.argsort(ps)
        adjusted = np.maximum.accumulate((tried - np.arange(6)) * ps[order])
        assert holm(rows, tried) == [str(k) for k in order[adjusted <= RISK]]
    padded = [
        *rows,
        *({"id": f"u{k}", "verdict": "undecided", "p": None} for k in range(tried - 6)),
    ]
    untested = [{"id": "n", "verdict": "not tested: needs x", "p": None}]
    assert holm(padded + untested) == holm(rows, tried)  # undecided were tried, untested were not


# --- readings -------------------------------------------------------------------------------------


def test_a_verdict_needs_every_reading():
    rows = {k: decide("src_mce", fixed(*BY_KIND["src_mce"][k])) for k in "suc"}
    names = {"s": "supported", "u": "undecided", "c": "contradicted"}
    for kinds in itertools.product("suc", repeat=3):
        row = every_reading({f"reading {i}": rows[k] for i, k in enumerate(kinds)})
        expected = names[kinds[0]] if len(set(kinds)) == 1 else "undecided"
        assert row["verdict"] == expected
        assert (row["p"] is None) == (expected != "contradicted")
        assert [part["part"] for part in row["parts"]] == [f"reading {i}" for i in range(3)]
        assert all(f"reading {i}: {names[k]}" in row["note"] for i, k in enumerate(kinds))
        json.dumps(row, allow_nan=False)


def test_p_over_readings_is_that_of_the_weakest():
    strong, weak = (decide("src_mce", normal(z)) for z in (9, 2.1))
    assert strong["p"] < weak["p"]
    assert every_reading({"a": strong, "b": weak})["p"] == weak["p"]
    parts = decide("src_mce", {"x": normal(9), "y": normal(9)})
    named = [part["part"] for part in every_reading({"a": parts, "b": strong})["parts"]]
    assert named == ["a, x", "a, y", "b"]


# --- gathering ------------------------------------------------------------------------------------


def test_gather_lists_every_claim_once_and_in_order():
    documents = [
        as_document("bands", [decide("esd_power_law", fixed(5, 12, 24, "photographs"))]),
        as_document("zoo", [decide("src_mce", fixed(0.2, 0.8, 19), data="CIFAR-10"),
                            decide("src_corruptions", {k: fixed(-1, 1, 19) for k in "ab"})]),
    ]  # fmt: skip
    rows = gather(json.loads(json.dumps(documents)))  # as read back from the files
    assert [row["id"] for row in rows] == list(rules.claims())
    assert len({tuple(row) for row in rows}) == 1  # the same columns in every row
    by_id = {row["id"]: row for row in rows}
    assert by_id["esd_power_law"]["verdict"] == "supported"
    mce = by_id["src_mce"]
    assert (mce["verdict"], mce["stage"], mce["n"]) == ("contradicted", "zoo", 19)
    assert (mce["unit"], mce["data"]) == ("networks", "CIFAR-10")
    assert by_id["src_corruptions"]["parts"][0]["part"] == "a"
    untested = by_id["shufflenet_robust"]
    assert untested["verdict"] == f"not tested: needs {find('shufflenet_robust').needs}"
    assert untested["value"] is None and untested["stage"] == "architecture"
    assert count_verdicts(rows) == {
        "supported": 1, "contradicted": 1, "undecided": 1, "not tested": len(rows) - 3
    }  # fmt: skip
    json.dumps(rows, allow_nan=False)


def test_a_record_keeps_the_unit_that_it_was_made_with():
    # Runs on record were counted by the rules of their date.
    row = decide("src_mce", fixed(0.2, 0.8, 19)) | {"unit": "corruptions"}
    [found] = [r for r in gather([as_document("a", [row])]) if r["id"] == "src_mce"]
    assert found["unit"] == "corruptions"


def test_a_claim_recorded_twice_names_both_stages():
    once = as_document("correlation", [decide("src_mce", fixed(-0.6, -0.4))])
    again = as_document("zoo", [decide("src_mce", fixed(0.4, 0.6))])
    with pytest.raises(ValueError, match="'src_mce' .* stage 'correlation' and by stage 'zoo'"):
        gather([once, again])
    with pytest.raises(ValueError, match="recorded twice"):
        as_document("zoo", once["claims"] + again["claims"])


def test_gather_refuses_a_record_of_no_claim():
    row = decide("src_mce", fixed(-1, 1)) | {"id": "src_mpe"}
    with pytest.raises(ValueError, match="unknown claim id 'src_mpe'; did you mean"):
        gather([{"stage": "correlation", "claims": [row]}])
