"""The rules of verdicts: sides, parts, readings, records, the page, and the list of claims."""

import itertools
import json
import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats
from sweeps import few

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import at_levels, mean_interval
from iaside.estimate.resampling import LEAST
from iaside.verdicts import rules
from iaside.verdicts.rules import (
    CONTRADICTED,
    RISK,
    SUPPORTED,
    UNDECIDED,
    Claim,
    as_document,
    claims,
    count_verdicts,
    decide,
    every_reading,
    find,
    gather,
    holm,
)

INF, NAN = math.inf, math.nan
ABOUT = dict(statement="", source="", stage="", statistic="", unit="networks", needs="")
GREATER, LESS, NULL = (
    Claim(id=kind, kind=kind, threshold=0.1, **ABOUT) for kind in ("greater", "less", "null")
)


def fixed(value, low, high, n=9, unit="networks"):
    """A part whose limits are the same at every level."""
    return lambda level: Estimate(value, 0.1, low, high, n, unit)


# -- sides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "low", "high", "expected"),
    [
        (GREATER, 0.11, 0.5, SUPPORTED),
        (GREATER, -0.5, 0.09, CONTRADICTED),
        (GREATER, 0.05, 0.5, UNDECIDED),
        (GREATER, 0.1, 0.5, UNDECIDED),  # touching decides nothing
        (GREATER, -0.5, 0.1, UNDECIDED),
        (LESS, -0.5, 0.09, SUPPORTED),
        (LESS, 0.11, 0.5, CONTRADICTED),
        (LESS, 0.05, 0.5, UNDECIDED),
        (NULL, -0.05, 0.05, SUPPORTED),
        (NULL, -0.1, 0.1, SUPPORTED),  # |statistic| <= margin includes the margin
        (NULL, 0.11, 0.5, CONTRADICTED),
        (NULL, -0.5, -0.11, CONTRADICTED),
        (NULL, 0.05, 0.5, UNDECIDED),
        (NULL, -0.5, 0.5, UNDECIDED),  # wider than the margin is no evidence of absence
        (GREATER, 0.2, 0.2, SUPPORTED),  # an exact number
        (NULL, 0.2, 0.2, CONTRADICTED),
    ],
)
def test_sides(claim, low, high, expected):
    assert claim.side(fixed((low + high) / 2, low, high)(0.95)) == expected


def test_less_is_the_mirror_image_of_greater():
    rng, seen = random.Random(0), set()
    for _ in range(2000):
        threshold = rng.uniform(-1, 1)
        low, high = sorted(rng.uniform(-2, 2) for _ in range(2))
        greater = Claim(id="g", kind="greater", threshold=threshold, **ABOUT)
        less = Claim(id="l", kind="less", threshold=-threshold, **ABOUT)
        e = Estimate(low, 0.1, low, high, 9, "networks")
        assert greater.side(e) == less.side(-e)
        seen.add(greater.side(e))
    assert seen == {SUPPORTED, CONTRADICTED, UNDECIDED}


@pytest.mark.parametrize("claim", [GREATER, LESS, NULL])
@pytest.mark.parametrize(
    "numbers",
    [
        (NAN, 0.2, 0.3),
        (0.2, NAN, 0.3),
        (0.2, 0.15, NAN),
        (0.2, 0.15, INF),
        (-0.2, -INF, -0.15),
        (INF, 0.2, 0.3),
        (0, NAN, NAN),
    ],
)
def test_nothing_unbounded_or_nan_decides(claim, numbers):
    assert claim.side(fixed(*numbers)(0.95)) == UNDECIDED


# -- parts -----------------------------------------------------------------------------------------

# Limits that are supported, undecided and contradicted for each kind of claim.
BY_KIND = {
    "src_mce": {"s": (-0.6, -0.8, -0.4), "u": (0, -0.2, 0.2), "c": (0.6, 0.4, 0.8)},
    "transformers_more_robust": {"s": (6, 4, 8), "u": (0, -2, 2), "c": (-6, -8, -4)},
    "parameter_count": {"s": (0, -0.1, 0.1), "u": (0, -0.5, 0.5), "c": (-0.6, -0.8, -0.4)},
}


@pytest.mark.parametrize("claim_id", BY_KIND)
def test_all_parts_support_and_any_part_contradicts(claim_id):
    for kinds in itertools.product("suc", repeat=3):
        parts = {f"part{i}": fixed(*BY_KIND[claim_id][k]) for i, k in enumerate(kinds)}
        expected = CONTRADICTED if "c" in kinds else SUPPORTED if set(kinds) == {"s"} else UNDECIDED
        row = decide(claim_id, parts)
        assert row["verdict"] == expected
        assert [part["part"] for part in row["parts"]] == list(parts)
        named = row["note"].removeprefix("worst of 3: ").partition(";")[0]
        part = next(part for part in row["parts"] if part["part"] == named)
        assert part["verdict"] == expected and part["low"] == row["low"]


def test_the_worst_part_reaches_least_into_the_claimed_side():
    assert decide("src_mce", {"a": fixed(-5, -6, -0.1), "b": fixed(-1, -1, -0.9)})["high"] == -0.1
    parts = {"a": fixed(0.1, 0, 0.1), "b": fixed(-0.2, -0.2, 0)}
    row = decide("parameter_count", parts, note="x")
    assert row["low"] == -0.2 and row["note"] == "worst of 2: b; x"
    # A part without limits is worse than any undecided one, and never hides a contradiction.
    nothing = fixed(NAN, NAN, NAN)
    assert decide("src_mce", {"a": fixed(0, -1, 1), "b": nothing})["note"] == "worst of 2: b"
    assert decide("src_mce", {"a": fixed(1, 0.5, 2), "b": nothing})["verdict"] == CONTRADICTED


def test_one_part_of_many_contradicts_at_bonferronis_level_and_supports_at_its_own():
    asked = []

    def part(level):
        asked.append(round(1 - level, 12))
        reach = 1.0 if level > 0.975 else 0.4
        return Estimate(0.5, 0.2, 0.5 - reach, 0.5 + reach, 9, "networks")

    assert decide("src_mce", part)["verdict"] == CONTRADICTED, "src_mce is claimed below 0"
    assert decide("src_mce", {k: part for k in "abcd"})["verdict"] == UNDECIDED
    assert RISK / 4 in asked
    assert decide("src_mce", {k: lambda level: -part(level) for k in "abcd"})["verdict"] == (
        SUPPORTED
    ), "all parts have to succeed: each at its own level"


@pytest.mark.parametrize("unit", ["photographs", "trainings", "initialisations", "networks"])
def test_fewer_than_the_unit_takes_decide_nothing_and_say_so(unit):
    claim_id = next(
        c.id
        for c in claims().values()
        if c.unit == unit
        and c.kind == "null"
        or c.unit == unit
        and c.kind != "null"
        and c.threshold == 0
    )
    claim = find(claim_id)
    far = -9.0 if claim.kind == "less" else 0.0 if claim.kind == "null" else 9.0
    enough, few = (fixed(far, far, far, n, unit) for n in (LEAST[unit], LEAST[unit] - 1))
    assert decide(claim_id, enough)["verdict"] == SUPPORTED
    row = decide(claim_id, few)
    assert row["verdict"] == UNDECIDED
    assert row["note"] == f"n = {LEAST[unit] - 1} {unit}, {LEAST[unit]} are needed"
    assert decide(claim_id, few, exact=True)["verdict"] == SUPPORTED
    assert decide(claim_id, enough, short="one plan")["verdict"] == UNDECIDED
    # nor does a part of too few contradict
    wrong = fixed(*([-99.0 if claim.kind != "less" else 99.0] * 3), LEAST[unit] - 1, unit)
    assert decide(claim_id, {"a": enough, "b": wrong})["verdict"] == UNDECIDED


def test_what_is_counted_is_what_the_claim_is_about():
    with pytest.raises(ValueError, match="'src_mce' is decided over networks, .* photographs"):
        decide("src_mce", fixed(-1, -1, -1, 24, "photographs"))
    with pytest.raises(ValueError, match="'src_mce' has no parts"):
        decide("src_mce", {})


def test_a_verdict_near_its_threshold_says_so():
    for low, close in ((0.001, True), (0.5, False)):
        e = (low + 1, low, low + 2)
        row = decide("transformers_more_robust", fixed(*e))
        assert row["close"] == close == ("close to the threshold" in row["note"])
    assert not decide("parameter_count", fixed(0.0, -0.1, 0.1))["close"]
    assert decide("parameter_count", fixed(0.0, -0.29, 0.29))["close"]
    assert decide("parameter_count", fixed(0.0, -0.31, 0.29))["close"], "undecided by a hair"
    far = fixed(9.0, 8.0, 10.0)
    near = fixed(1.001, 0.001, 2.001)
    assert decide("transformers_more_robust", {"a": far, "b": near})["close"]


def test_the_p_value_of_a_contradiction_is_bounded_from_above():
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 1, (1, 40))
    part = at_levels(values, lambda mean: mean[0], unit="networks")
    row = decide("src_mce", part)
    t = values.mean() / values.std(ddof=1) * 40**0.5
    own = 2 * stats.t.sf(t, 39)
    assert row["verdict"] == CONTRADICTED and own <= row["p"] * 2 and row["p"] <= RISK
    parts = {k: part for k in "abc"}
    assert 3 * own <= decide("src_mce", parts)["p"] <= 3 * own * 2, "Bonferroni"
    assert decide("src_mce", fixed(1, 1, 1), exact=True)["p"] == 0, "a number without an error"
    assert decide("src_mce", fixed(1, 1, 1))["p"] > 0, "a sample without a spread is none"
    assert decide("src_mce", fixed(-1, -1, -1))["p"] is None


def test_false_verdicts_are_as_rare_as_limits_miss():
    """Truth exactly at the threshold: any verdict is false, in 5 % of cases."""
    rng = np.random.default_rng(0)
    found = [
        decide(
            "transformers_more_robust",
            partial(
                lambda v, level: mean_interval(v, level, "networks")[0], rng.normal(0, 1, (1, 8))
            ),
        )["verdict"]
        for _ in range(2000)
    ]
    assert 0.035 < np.mean([v != UNDECIDED for v in found]) < 0.065


def test_records_are_strict_json_whatever_number_type_comes_in():
    row = decide("src_mce", fixed(np.float32(-0.5), np.float64(-INF), NAN, np.int64(7)))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["low"], row["high"], row["verdict"]) == (None, None, UNDECIDED)
    both = decide("src_mce", {"a": fixed(np.float64(NAN), NAN, NAN), "b": fixed(-1, -1, -1)})
    assert json.loads(json.dumps(both, allow_nan=False)) == both


def test_a_record_says_what_was_claimed_and_measured():
    part = fixed(0.004, 0.003, 0.006, 50, "photographs")
    row, claim = decide("k200_l1", part, note="resnet18", data="ImageNet"), find("k200_l1")
    assert (row["verdict"], row["claimed"], row["note"]) == (SUPPORTED, "< 0.007", "resnet18")
    assert (row["value"], row["low"], row["high"], row["n"]) == (0.004, 0.003, 0.006, 50)
    assert (row["unit"], row["data"]) == ("photographs", "ImageNet")
    assert row["statement"] == claim.statement and row["source"] == claim.source


# -- readings --------------------------------------------------------------------------------------


def test_a_verdict_needs_every_reading():
    for kinds in itertools.product("suc", repeat=2):
        rows = {
            f"reading {i}": decide("src_mce", fixed(*BY_KIND["src_mce"][k]))
            for i, k in enumerate(kinds)
        }
        row = every_reading(rows)
        agreed = {"s": SUPPORTED, "c": CONTRADICTED}.get(kinds[0]) if len(set(kinds)) == 1 else None
        assert row["verdict"] == (agreed or UNDECIDED)
        assert [part["part"] for part in row["parts"]] == ["reading 0", "reading 1"]
        assert (row["p"] is None) == (row["verdict"] != CONTRADICTED)
    inner = decide("src_mce", {k: fixed(-1, -1, -1) for k in "ab"})
    said = every_reading({"x, y": inner, "z": inner})["note"]
    assert said == "supported in all 2 readings; shown: x, y; worst of 2: a"
    other = every_reading({"x": inner, "y": decide("src_mce", fixed(0, -1, 1)), "z": inner})
    assert other["note"].startswith("supported in x / z; undecided in y; shown: x")
    row = every_reading({"x": inner, "y": inner})
    assert [part["part"] for part in row["parts"]] == ["x, a", "x, b", "y, a", "y, b"]


def test_readings_are_close_only_where_another_draw_may_turn_the_verdict():
    """An undecided claim stays so whatever one of its readings does, if others hold it back."""
    kinds = {
        "s": (-0.6, -0.8, -0.4),
        "S": (-0.2, -0.399, -0.001),
        "u": (0, -0.2, 0.2),
        "U": (-0.2, -0.401, 0.001),
        "c": (0.6, 0.4, 0.8),
    }
    rows = {k: decide("src_mce", fixed(*limits)) for k, limits in kinds.items()}
    assert {k: row["close"] for k, row in rows.items()} == {k: k in "SU" for k in kinds}
    expected = {"ss": 0, "sS": 1, "sU": 1, "UU": 1, "uU": 0, "uS": 0, "cU": 1, "cs": 0, "cS": 1}
    for word, close in expected.items():
        row = every_reading({f"reading {i}": rows[k] for i, k in enumerate(word)})
        assert row["close"] == bool(close), word
        near = " / ".join(f"reading {i}" for i, k in enumerate(word) if k in "SU")
        assert (f"close to the threshold: {near}" in row["note"]) == bool(close)
        assert row["note"].count("close to the threshold") == close


# -- the page --------------------------------------------------------------------------------------


def test_gather_lists_every_claim_once_and_in_order():
    documents = [
        as_document("bands", [decide("esd_power_law", fixed(9, 5, 12, 24, "photographs"))]),
        as_document(
            "plans",
            [
                decide("src_mce", fixed(0.5, 0.2, 0.8, 19)),
                decide(
                    "src_corruptions", {"noise": fixed(0, -1, 1, 19), "blur": fixed(0, -1, 1, 19)}
                ),
            ],
        ),
    ]
    rows = gather(json.loads(json.dumps(documents)))  # as read back from the files
    assert [row["id"] for row in rows] == list(claims())
    assert len({tuple(row) for row in rows}) == 1  # the same columns in every row
    by_id = {row["id"]: row for row in rows}
    assert by_id["esd_power_law"]["verdict"] == SUPPORTED
    mce = by_id["src_mce"]
    assert (mce["verdict"], mce["stage"], mce["n"]) == (CONTRADICTED, "plans", 19)
    assert by_id["src_corruptions"]["parts"][0]["part"] == "noise"
    untested = by_id["shufflenet_robust"]
    assert untested["verdict"] == f"not tested: needs {find('shufflenet_robust').needs}"
    assert untested["value"] is None and untested["stage"] == "architecture"
    assert count_verdicts(rows) == {
        SUPPORTED: 1,
        CONTRADICTED: 1,
        UNDECIDED: 1,
        "not tested": len(claims()) - 3,
    }
    json.dumps(rows, allow_nan=False)


def test_holm_lets_few_of_many_stand():
    def row(name, p, verdict=CONTRADICTED):
        return {"id": name, "verdict": verdict, "p": p}

    others = [row(str(k), None, SUPPORTED) for k in range(17)]
    rows = [row("a", 1e-5), row("b", 0.0027), row("c", 0.02), *others]
    assert holm(rows) == ["a"], ".0027 is more than .05 / 19"
    rows[1]["p"] = 0.0026
    assert holm(rows) == ["a", "b"], "the second needs .05 / 19, the third .05 / 18"
    assert holm(rows, tried=60) == ["a"]
    assert holm([*rows, row("d", None, "not tested: needs more")]) == ["a", "b"]


def test_a_claim_recorded_twice_names_both_stages():
    once = as_document("correlation", [decide("src_mce", fixed(-0.5, -0.6, -0.4))])
    again = as_document("plans", [decide("src_mce", fixed(0.5, 0.4, 0.6))])
    with pytest.raises(ValueError, match="'src_mce' .* stage 'correlation' and by stage 'plans'"):
        gather([once, again])
    with pytest.raises(ValueError, match="recorded twice"):
        as_document("plans", once["claims"] + again["claims"])


def test_unknown_claims_name_the_close_ones():
    with pytest.raises(ValueError, match="'src_mec'; did you mean src_mce"):
        decide("src_mec", fixed(0, 0, 0))
    with pytest.raises(ValueError, match=r"claims\.yaml"):
        find("???")
    row = decide("src_mce", fixed(0, -1, 1)) | {"id": "src_mpe"}
    with pytest.raises(ValueError, match="unknown claim id 'src_mpe'; did you mean"):
        gather([{"stage": "correlation", "claims": [row]}])


def exact(claim_id, value, n=8):
    return decide(claim_id, fixed(value, value, value, n, "bands"), exact=True)["verdict"]


def test_exact_claims_about_the_score():
    # The printed SRC of all importance in one band, Luo et al. 2024, Eq. 11, M = 8 and beta = 0.75.
    beta = 0.75 ** np.arange(8)
    mean, norm = beta.mean(), np.linalg.norm(beta)
    src = np.abs(beta - mean) / (norm - mean)
    assert src[0] == pytest.approx(0.5217, abs=1e-4)
    assert exact("src_range", 1 - src.max()) == CONTRADICTED
    assert exact("src_prefers_low", (src[:-1] - src[1:]).min(), n=7) == CONTRADICTED
    signed = (beta - mean) / (1 - mean)  # the tight, signed score keeps both promises
    assert exact("src_range", 1 - signed.max()) == SUPPORTED
    assert exact("src_prefers_low", (signed[:-1] - signed[1:]).min(), n=7) == SUPPORTED


def test_exact_claims_about_the_density_of_bands():
    # Cells per band at 224 px, M = 8, against the areas of square rings and annuli.
    linf = np.array([729, 2296, 3864, 5432, 7000, 8568, 10136, 12151])
    l2_corner = np.array([1225, 3696, 6144, 8632, 11044, 12130, 5632, 1673])
    ring = (2 * np.arange(8) + 1) * (224 / 8) ** 2

    def variation(x):
        return x.std(ddof=1) / x.mean()

    assert exact("linf_density", variation(linf / ring)) == SUPPORTED
    assert exact("linf_equal_cells", variation(linf)) == CONTRADICTED
    assert exact("l2_density", variation(l2_corner / (ring * np.pi / 2))) == SUPPORTED


def test_the_rules_need_no_network_and_no_figure():
    from iaside.backend.keys import closure

    assert closure(["verdicts.rules"]) == {
        "verdicts.rules",
        "estimate.estimate",
        "estimate.resampling",
        "backend.content",
        "backend.outside",
    }
    assert rules.RISKS[0] == RISK


def normal(z, unit="networks", n=99, threshold=0.0):
    """A part z standard errors above a threshold, with the limits of a normal estimate."""

    def at(level):
        reach = stats.norm.ppf((1 + level) / 2)
        return Estimate(threshold + z, 1.0, threshold + z - reach, threshold + z + reach, n, unit)

    return at


@pytest.mark.parametrize("rho", few([0.0, 0.9], 1))
@pytest.mark.parametrize("k", few([1, 2, 8]))
@pytest.mark.parametrize("margin", [None, 6.0, 0.05])
def test_false_verdicts_are_rare_however_many_parts_lie_at_the_threshold(
    monkeypatch, k, rho, margin
):
    """Normal parts that go together, one, all but one, or all at the threshold, the rest far on the
    claimed side; of a null claim in the middle of its margin, however many errors it is wide."""
    claim = replace(
        find("parameter_count" if margin else "transformers_more_robust"), threshold=margin or 0.0
    )
    monkeypatch.setattr(rules, "claims", lambda: {claim.id: claim})
    rng, worlds, far = np.random.default_rng(k), 400, 0.0 if margin else 99.0
    for at in {1, k - 1, k} - {0}:
        z = np.sqrt(rho) * rng.normal(size=(worlds, 1))
        z = z + np.sqrt(1 - rho) * rng.normal(size=(worlds, k))
        z += np.where(np.arange(k) < at, claim.threshold, far)
        said = [decide(claim.id, {str(i): normal(x) for i, x in enumerate(row)}) for row in z]
        wrong = np.mean([row["verdict"] != UNDECIDED for row in said])
        assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds), (at, wrong)
        if at == k > 1 and rho == 0:
            assert wrong > 0.01, "and no rarer than two limits for each need to be"


def test_p_over_readings_is_that_of_the_weakest():
    strong, weak = (decide("src_mce", normal(z)) for z in (9, 2.1))
    assert strong["p"] < weak["p"]
    assert every_reading({"a": strong, "b": weak})["p"] == weak["p"]
    parts = decide("src_mce", {"x": normal(9), "y": normal(9)})
    named = [part["part"] for part in every_reading({"a": parts, "b": strong})["parts"]]
    assert named == ["a, x", "a, y", "b"]
