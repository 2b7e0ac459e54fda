"""The benchmark of verdicts: what it counts, and that every rule runs."""

import importlib
import json
import math
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import stdtrit
from sweeps import few

import iaside.verdicts
from iaside.estimate.convergence import random_orders
from iaside.estimate.crossed import crossed_difference
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import at_levels, mean_interval
from iaside.verdicts.convergence import sid_distances
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, UNDECIDED, claims, decide

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("verdicts")


@pytest.fixture(scope="module")
def rules(bench):
    return importlib.import_module("verdict_rules")


@pytest.fixture(scope="module")
def worlds(bench):
    return importlib.import_module("verdict_rules.worlds")


def test_every_claim_is_tried_by_a_rule_or_says_why_not(rules):
    tried = [claim for rule in rules.RULES.values() for claim in rule.claims]
    assert set(tried) | set(rules.NOT_TRIED) == set(claims())
    assert not set(tried) & set(rules.NOT_TRIED)
    assert all(rules.NOT_TRIED.values())


def test_a_claim_without_a_verdict_has_none_and_all_others_have(rules):
    modules = [
        importlib.import_module(f"iaside.verdicts.{found.name}")
        for found in pkgutil.iter_modules(iaside.verdicts.__path__)
    ]
    judged = {name for name in claims() if any(hasattr(m, name) for m in modules)}
    without = {name for name, why in rules.NOT_TRIED.items() if "no verdict yet" in why}
    assert set(claims()) - judged == without


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [["an exact number", "2 x 2 readings of the best of 30 cells"], []]
)
def test_rules_run_and_the_last_line_says_how_often_they_are_wrong(bench, rules, names):
    command = [sys.executable, str(BENCHMARKS / "verdicts.py"), "--worlds", "1", "--processes", "1"]
    command += ["--rules", *names] if names else []
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(BENCHMARKS.parent)}
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    last = json.loads(out.splitlines()[-1])
    assert set(last) == {"false_verdicts", "worst", "power"}
    assert set(last["false_verdicts"]) == {*(names or rules.RULES), bench.PAGE}
    for rate, low, high in last["false_verdicts"].values():
        assert 0 <= low <= rate <= high <= 1
    assert last["worst"] == max(rate for rate, _, _ in last["false_verdicts"].values())
    for name, power in last["power"].items():
        # Of the best of many nothing contradicts that it stands out.
        alone = {SUPPORTED} if "best of 30" in name else {SUPPORTED, CONTRADICTED}
        assert set(power) == alone
        assert all(0 <= p <= 1 for pair in power.values() for p in pair)


def column(bench, verdicts, truth, leads, name="all parts", p=None):
    cases = [bench.Case(v, False, p, x) for v, x in zip(verdicts, leads, strict=True)]
    return bench.Column(name, truth, cases)


def test_every_decided_verdict_at_the_threshold_is_false_and_the_worst_case_counts(bench):
    good = column(bench, [UNDECIDED] * 20, bench.AT, np.zeros(20), "one part")
    bad = column(
        bench,
        [SUPPORTED] * 3 + [CONTRADICTED] * 2 + [UNDECIDED] * 15,
        bench.AT,
        np.linspace(-4, 4, 20),
    )
    found = bench.summary([], [good, bad])
    assert found["rate"][0] == 5 / 20
    assert found["where"] == "all parts"
    assert found["rate"][1] < 5 / 20 < found["rate"][2]


def test_drawn_again_is_the_worst_and_what_may_be_wrong_too_often(bench):
    def wrong(n, truth=bench.AT):
        verdicts = [SUPPORTED] * n + [UNDECIDED] * (200 - n)
        return column(bench, verdicts, truth, np.zeros(200))

    assert bench.to_draw_again([wrong(2), wrong(0), wrong(90, SUPPORTED), wrong(1)]) == [0]
    assert bench.to_draw_again([wrong(8), wrong(0), wrong(12), wrong(7)]) == [2, 0]
    assert bench.to_draw_again([wrong(0), wrong(0)]) == [0]


def test_the_naive_rule_is_raised_until_it_holds_and_never_lowered(bench):
    rng = np.random.default_rng(0)
    wide, narrow = 3 * rng.normal(size=4000), 0.1 * rng.normal(size=4000)
    for leads, expected in ((wide, 3 * 1.96), (narrow, 1.96)):
        at = column(bench, [UNDECIDED] * 4000, bench.AT, leads)
        well = column(bench, [SUPPORTED] * 1000 + [UNDECIDED] * 3000, SUPPORTED, 1 + leads)
        found = bench.summary([well], [at])
        assert found["raised"] == pytest.approx(expected, rel=0.05)
        ours, naive, _ = found["power"][SUPPORTED]
        assert ours == 0.25
        assert naive == np.mean(1 + leads > found["raised"])


@pytest.mark.parametrize(
    ("claim", "parts", "k", "n"),
    [("src_mce", 0, 1, 24), ("low_bands_preferred", 4, 4, 24), ("fampe_best", 12, 3, 10)],
)
def test_students_rule_shares_the_level_among_the_parts_of_a_reading(bench, claim, parts, k, n):
    record = {"id": claim, "n": n, "parts": [{}] * parts}
    above, below = stdtrit(n - 1, 0.975), stdtrit(n - 1, 1 - 0.025 / k)
    found = [
        bench.by_student(record, lead)
        for lead in (above * 1.01, above * 0.99, -below * 0.99, -below * 1.01)
    ]
    assert found == [SUPPORTED, UNDECIDED, UNDECIDED, CONTRADICTED]


def test_readings_may_be_one_and_the_same_at_the_threshold_alone(rules):
    for name, alike in (
        ("2 x 2 readings, 10 photographs", "100%"),
        ("2 x 2 readings of 3", "alike"),
    ):
        (rule,) = (rule for key, rule in rules.RULES.items() if key.startswith(name))
        made = [world for world in rule.worlds() if alike in world.name]
        assert made
        assert {world.truth for world in made} == {"at the threshold"}
        record, _ = made[0].draw(np.random.default_rng(0))
        values = np.reshape([part["value"] for part in record["parts"]], (4, -1))  # by reading
        np.testing.assert_allclose(values, values[[0] * 4])


def test_networks_at_the_threshold_have_no_coefficient_however_they_depend(rules):
    """The mean over many draws of what the records say; of folded scores, that of some reading."""
    for name in ("a correlation, 21 networks", "a correlation, some scores folded"):
        for world in rules.RULES[name].worlds():
            if world.truth != "at the threshold":
                continue
            records = [world.draw(np.random.default_rng(seed))[0] for seed in range(60)]
            values = np.array([[part["value"] for part in r["parts"]] for r in records])
            printed, signed = values.mean(0)
            assert abs(printed) < 3 * 0.25 / np.sqrt(60), world.name
            if "half folded" in world.name:
                assert abs(signed) > 0.7, world.name
                continue
            assert abs(signed) < 3 * 0.25 / np.sqrt(60), world.name


def test_a_lead_of_nothing_without_an_error_is_none(worlds):
    leads = worlds.lead_of(claims()["src_mce"], np.array([0.0, -0.1, 0.1]), np.zeros(3))
    assert leads.tolist() == [0.0, np.inf, -np.inf]


def drawn(bench, made, n):
    """Draws of worlds, as the benchmark makes them."""
    found = []
    for world in made:
        records = [world.draw(np.random.default_rng(seed)) for seed in range(n)]
        cases = [bench.Case(r["verdict"], r["close"], r["p"], float(x)) for r, x in records]
        found.append(bench.Column(world.name, world.truth, cases))
    return found, [c for c in found if c.truth == bench.AT]


def known(values, share=1.0):
    """Parts with the limits of a known normal spread, or of a share of it."""

    def part(x):
        def limits(level):
            reach = share * stats.norm.ppf((1 + level) / 2)
            return Estimate(x, 1.0, x - reach, x + reach, 24, "photographs")

        return limits

    return {str(i): part(x) for i, (x,) in enumerate(values)}


@pytest.mark.slow
def test_a_part_of_known_spread_is_decided_as_often_as_theory_says(bench, worlds):
    """One number with the limits of a known normal spread: 5 % false, 80 % power."""
    made = worlds.of_means(
        "snr_power_law",
        1,
        1.0,
        lambda rng: rng.normal(size=(1, 1)),
        lambda values: decide("snr_power_law", known(values)),
        naive=lambda v: (v[:, 0], 1.0),
    )
    found = bench.summary(*drawn(bench, made, 1000))
    assert found["rate"][1] < 0.05 < found["rate"][2]
    for ours, naive, _ in found["power"].values():
        assert ours == pytest.approx(0.8, abs=0.04)
        assert naive == pytest.approx(0.8, abs=0.04)


def test_a_rule_that_is_too_bold_is_found_out(bench, worlds):
    """Limits a third as wide as they should be, of three parts."""
    made = worlds.of_means(
        "low_bands_preferred",
        3,
        1.0,
        lambda rng: rng.normal(size=(3, 1)),
        lambda values: decide("low_bands_preferred", known(values, 1 / 3)),
        naive=lambda v: (v[:, 0], 1.0),
    )
    assert bench.summary(*drawn(bench, made, 60))["rate"][1] > 0.3


def test_moving_worlds_to_a_margin_and_beyond_it(bench, worlds):
    """A null claim of two parts without any spread: at the margin nothing else is decided."""

    def verdict(values):
        parts = {
            str(i): lambda level, x=x: Estimate(x, 1e-3, x - 1e-3, x + 1e-3, 12, "photographs")
            for i, (x,) in enumerate(values)
        }
        return decide("absences_alike", parts)

    made = worlds.of_means(
        "absences_alike",
        2,
        1e-3,
        lambda rng: np.zeros((2, 1)),
        verdict,
        naive=lambda v: (v[:, 0], 1e-3),
    )
    found, at = drawn(bench, made, 1)
    assert [c.cases[0].verdict for c in at] == [UNDECIDED] * 2
    assert all(math.isclose(c.cases[0].lead, 0, abs_tol=1e-9) for c in at)
    of = {(c.name, c.truth): c.cases[0].verdict for c in found}
    assert of["all parts", SUPPORTED] == SUPPORTED
    assert of["one part", CONTRADICTED] == CONTRADICTED


def test_errors_of_all_resamples_are_those_of_one_after_the_other(bench):
    procedures = importlib.import_module("verdict_rules.procedures")
    rng = np.random.default_rng(0)
    psi, orders = rng.normal(size=(3, 8, 40)) + np.arange(8)[:, None], random_orders(40, 10, rng)
    one_by_one = [sid_distances(values, orders, [5, 12])[1] for values in psi]
    np.testing.assert_allclose(procedures.sid_errors(psi, orders, [5, 12]), one_by_one)


def test_a_page_counts_only_false_contradictions_that_survive(bench):
    at = column(bench, [CONTRADICTED] * 2 + [UNDECIDED] * 8, bench.AT, np.zeros(10), p=0.04)
    out = column(bench, [CONTRADICTED] * 10, CONTRADICTED, -np.ones(10), p=1e-6)
    found = bench.page([at], [out])
    assert found["rate"][0] == 0
    assert found["survived"] == found["decided"] == 1
    sure = at._replace(cases=[c._replace(p=1e-6) for c in at.cases])
    assert bench.page([sure], [out])["rate"][0] == 1


@pytest.mark.parametrize("spreads", [(1, 1), (4, 1), (1, 4)])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 5), (4, 9)])
@pytest.mark.parametrize("level", few([0.95, 0.9995], 1))
def test_limits_of_two_small_groups_hold_whichever_scatters_more(sizes, spreads, level):
    """Normal scores: rates from 20,000 draws, with three standard errors of room. Welch's degrees
    of freedom fail at (3, 5) with the first scattering more, and by far at 99.95 %."""
    rng, repeats = np.random.default_rng(0), 20_000
    groups = [s * rng.normal(size=(repeats, m)) for m, s in zip(sizes, spreads, strict=True)]
    pairs = zip(*(g[:1000] for g in groups), strict=True)
    reach = [
        crossed_difference(
            np.repeat(a[:, None], 3, 1), np.repeat(b[:, None], 3, 1), 24, level, "trainings"
        )
        for a, b in pairs
    ]
    own = [stdtrit(m - 1, (1 + level) / 2) ** 2 / m for m in sizes]
    by_hand = np.sqrt(sum(f * g.var(1, ddof=1) for f, g in zip(own, groups, strict=True)))
    np.testing.assert_allclose([(e.high - e.low) / 2 for e in reach], by_hand[:1000])
    gap = groups[0].mean(1) - groups[1].mean(1)
    asked = 1 - level
    assert np.mean(np.abs(gap) > by_hand) < asked + 3 * np.sqrt(asked / repeats)


@pytest.mark.parametrize("n", [5, 14, 15, 24, 100])
@pytest.mark.parametrize("level", [0.95, 0.999])
def test_limits_of_a_mean_reach_as_far_as_students_at_every_n(n, level):
    """Which hold for normal values exactly, where resamples alone are wrong too often."""
    for seed in range(20):
        values = np.random.default_rng([n, seed]).normal(size=(1, n))
        found = at_levels(values, lambda mean: mean, 1000)(level)
        student = mean_interval(values, level)
        assert found.low[0] <= student.low[0] + 1e-12
        assert found.high[0] >= student.high[0] - 1e-12
