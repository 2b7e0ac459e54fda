"""The benchmark of verdicts: what it counts, and that every rule runs."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtrit

from iaside.intervals import at_levels, crossed_difference, mean_interval
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, UNDECIDED

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "verdicts.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_verdicts", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_rule_runs_and_the_last_line_says_how_often_it_is_wrong(bench):
    command = [sys.executable, str(SCRIPT), "--worlds", "2", "--processes", "1"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    last = json.loads(out.splitlines()[-1])
    assert set(last) == {"false_verdicts", "worst", "power"}
    assert set(last["false_verdicts"]) == {*bench.RULES, "Holm over a page of 69"}
    for rate, low, high in last["false_verdicts"].values():
        assert 0 <= low <= rate <= high <= 1
    assert last["worst"] == max(rate for rate, _, _ in last["false_verdicts"].values())
    assert set(last["power"]) == set(bench.RULES)
    for power in last["power"].values():
        assert set(power) in ({SUPPORTED, CONTRADICTED}, set()), "of some only false verdicts"
        assert all(0 <= p <= 1 for pair in power.values() for p in pair)


def made(bench, verdicts, truth, leads, name="all parts", p=None):
    return [bench.Case(name, truth, v, False, p, x) for v, x in zip(verdicts, leads, strict=True)]


def test_every_decided_verdict_at_the_threshold_is_false_and_the_worst_case_counts(bench):
    good = made(bench, [UNDECIDED] * 20, bench.AT, np.zeros(20), "one part")
    bad = made(bench, [SUPPORTED] * 3 + [CONTRADICTED] * 2 + [UNDECIDED] * 15, bench.AT,
               np.linspace(-4, 4, 20))  # fmt: skip
    found = bench.summary(list(zip(good, bad, strict=True)))
    assert found["rate"][0] == 5 / 20
    assert found["where"] == "all parts"
    assert found["rate"][1] < 5 / 20 < found["rate"][2]


def test_the_naive_rule_is_raised_until_it_holds_and_never_lowered(bench):
    rng = np.random.default_rng(0)
    wide, narrow = 3 * rng.normal(size=4000), 0.1 * rng.normal(size=4000)
    for leads, expected in ((wide, 3 * 1.96), (narrow, 1.96)):
        at = made(bench, [UNDECIDED] * 4000, bench.AT, leads)
        well = made(bench, [SUPPORTED] * 1000 + [UNDECIDED] * 3000, SUPPORTED, 1 + leads)
        found = bench.summary(list(zip(at, well, strict=True)))
        assert found["raised"] == pytest.approx(expected, rel=0.05)
        ours, naive = found["power"][SUPPORTED]
        assert ours == 0.25
        assert naive == np.mean(1 + leads > found["raised"])


def test_a_part_of_known_spread_is_decided_as_often_as_theory_says(bench):
    """One number with the limits of a known normal spread: 5 % false, 80 % power."""
    rng = np.random.default_rng(0)

    def one(level, x):
        reach = bench.stats.norm.ppf((1 + level) / 2)
        return bench.Estimate(x, 1.0, x - reach, x + reach, 24, "photographs")

    worlds = [
        bench.cases("snr_power_law", [lambda level, x=x: one(level, x)], [1.0], 1.0)
        for x in rng.normal(size=2000)
    ]
    found = bench.summary(worlds)
    assert found["rate"][1] < 0.05 < found["rate"][2]
    for ours, naive in found["power"].values():
        assert ours == pytest.approx(0.8, abs=0.03)
        assert naive == pytest.approx(0.8, abs=0.03)


def test_a_rule_that_is_too_bold_is_found_out(bench):
    """Limits a third as wide as they should be, of three parts."""
    rng = np.random.default_rng(0)

    def bold(level, x):
        reach = bench.stats.norm.ppf((1 + level) / 2) / 3
        return bench.Estimate(x, 1.0, x - reach, x + reach, 24, "photographs")

    worlds = [
        bench.cases("low_bands_preferred", [lambda level, x=x: bold(level, x) for x in row],
                    np.ones(3), 1.0)
        for row in rng.normal(size=(400, 3))
    ]  # fmt: skip
    assert bench.summary(worlds)["rate"][1] > 0.3


def test_moving_worlds_to_a_margin_and_beyond_it(bench):
    """A null claim of two parts without any spread: at the margin nothing else is decided."""
    def sure(level):
        return bench.Estimate(0.0, 1e-3, -1e-3, 1e-3, 12, "photographs")

    found = {
        (c.name, c.truth): c
        for c in bench.cases("absences_alike", [sure, sure], [1e-3, 1e-3], se=1e-3)
    }
    at = [c for (_, truth), c in found.items() if truth == bench.AT]
    assert [c.verdict for c in at] == [UNDECIDED] * 2
    assert all(math.isclose(c.lead, 0, abs_tol=1e-9) for c in at)
    assert found["all parts", SUPPORTED].verdict == SUPPORTED
    assert found["one part", CONTRADICTED].verdict == CONTRADICTED


def test_a_page_counts_only_false_contradictions_that_survive(bench):
    at = made(bench, [CONTRADICTED] * 2 + [UNDECIDED] * 8, bench.AT, np.zeros(10), p=0.04)
    out = made(bench, [CONTRADICTED] * 10, CONTRADICTED, -np.ones(10), p=1e-6)
    found = bench.page({"rule": list(zip(at, out, strict=True))})
    assert found["rate"][0] == 0
    assert found["survived"] == found["decided"] == 1
    sure = [c._replace(p=1e-6) for c in at]
    assert bench.page({"rule": list(zip(sure, out, strict=True))})["rate"][0] == 1


@pytest.mark.parametrize("spreads", [(1, 1), (4, 1), (1, 4)])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 5), (4, 9)])
@pytest.mark.parametrize("level", [0.95, 0.9995])
def test_limits_of_two_small_groups_hold_whichever_scatters_more(sizes, spreads, level):
    """Normal scores: rates from 20,000 draws, with three standard errors of room. Welch's degrees
    of freedom fail at (3, 5) with the first scattering more, and by far at 99.95 %."""
    rng, repeats = np.random.default_rng(0), 20_000
    groups = [s * rng.normal(size=(repeats, m)) for m, s in zip(sizes, spreads, strict=True)]
    pairs = zip(*(g[:1000] for g in groups), strict=True)
    reach = [
        crossed_difference(np.repeat(a[:, None], 3, 1), np.repeat(b[:, None], 3, 1), 24, level,
                           "trainings")  # fmt: skip
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
