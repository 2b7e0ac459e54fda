"""How often verdicts are wrong: worlds in which a claim sits exactly at its threshold.

For every rule that decides a claim (`verdict_rules`), worlds of the size of the default study are
drawn and judged by the verdict's own function. Counted as false is

* of a claim with one number exactly at its threshold: any verdict that is decided;
* of a claim with parts, some at the threshold and all others far on the claimed side: the same.
  *Contradicted* is false, since every part is at or beyond the threshold on the claimed side;
  *supported* is false, since some part is not beyond it;
* of a page of claims: a false *contradicted* that survives Holm's correction.

Each rule is tried with one part at the threshold, with all of them, and with all but one; in
several populations (normal, skewed, heavy-tailed, of few values; networks that depend on each other
without a coefficient), or with several shares of the scatter that trainings or networks have beside
photographs. A twentieth of the worlds screens these cases. Then the worst of them, and the next one
where the screening does not show it to be below 5 %, are drawn anew in as many worlds as asked: the
worse of these counts.

Power is that of an effect that a test of known normal spread, at .05 / (number of parts), finds in
80 % of cases: all parts so far on the claimed side (*supported* is right), and one part so far on
the other (*contradicted* is right); of null claims, no effect and one so far outside the margin;
of coefficients, .8. It is a mean over populations, of the screening, and stands beside that of the
naive rule: each part by its estimate over its standard error (of a mean: the plain one over
photographs; of coefficients: over networks, whatever their design), with one critical value, from
1.96 up, for both verdicts and all parts, raised until that rule, too, is wrong in at most 5 % of
each of the same worlds. The raised value is an oracle's: it knows what no study does, the spread,
the shape and the correlations of these worlds. Beside it stands the same rule with Student's
critical values, Bonferroni's over parts for *contradicted*, which hold whatever normal worlds
scatter by and share: what can be reached without that knowledge, where photographs are the unit.
(Of trainings these plain standard errors leave the scatter out.)

    python benchmarks/verdicts.py [--worlds 4000] [--rules NAME ...] [--processes 2]

Every world has its own seed, so that the number of processes changes nothing. To save time limits
rest on fewer resamples and permutations than a report's. Prints a line per rule: its rate of false
verdicts in the worst case, with limits (Wilson's, at 95 % for both cases that were drawn anew at
once), and that case; the rate of the naive rule at 1.96, and the value it is raised to; power; the
share of decided verdicts that say they are close to the threshold. The last line is JSON: these
rates, the largest of them, and power (ours, the raised naive rule's, Student's).
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from scipy import stats
from verdict_rules import RULES
from verdict_rules.worlds import AT, World, with_fewer_resamples

from iaside.estimate.clean import wilson
from iaside.verdicts.rules import CONTRADICTED, RISK, SUPPORTED, UNDECIDED, find, holm

SCREENED = 20  # one of so many worlds screens
PAGE = "Holm over a page of 69"
NORMAL = stats.norm.ppf(1 - RISK / 2)


class Case(NamedTuple):
    """What was decided of one draw of a world, and the lead of its worst part on the claimed side
    in the naive rule's standard errors."""

    verdict: str
    close: bool
    p: float | None
    lead: float
    student: str = UNDECIDED  # what the naive rule decides with Student's critical values


class Column(NamedTuple):
    """Draws of one world."""

    name: str
    truth: str
    cases: list[Case]

    def decided(self) -> float:
        return float(np.mean([case.verdict != UNDECIDED for case in self.cases]))

    def leads(self) -> np.ndarray:
        return np.array([case.lead for case in self.cases])


# -- drawing ---------------------------------------------------------------------------------------


@functools.cache
def worlds_of(rule: str) -> list[World]:
    return list(RULES[rule].worlds())


def draw(rule: str, world: int, seeds: range) -> list[Case]:
    """What is decided of draws of one world of a rule, each from a seed of its own."""
    with_fewer_resamples(RULES[rule].parts)
    number, found = sum(map(ord, rule)), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        one = worlds_of(rule)[world].draw
        for seed in seeds:
            record, lead = one(np.random.default_rng([number, world, seed]))
            student = by_student(record, lead)
            found.append(
                Case(record["verdict"], record["close"], record["p"], float(lead), student)
            )
    return found


def by_student(record: Mapping, lead: float) -> str:
    """What the naive rule decides with the critical values that hold for normal numbers whatever
    their spread and correlation: Student's, Bonferroni's over parts for *contradicted*."""
    readings = map(len, (find(record["id"]).readings or {}).values())
    k, df = max(1, len(record["parts"]) // math.prod(readings)), max(1, record["n"] - 1)
    if lead > stats.t.ppf(1 - RISK / 2, df):
        return SUPPORTED
    return CONTRADICTED if -lead > stats.t.ppf(1 - RISK / 2 / k, df) else UNDECIDED


def columns(pool, rule: str, which: Sequence[int], seeds: range) -> list[Column]:
    """Draws of some worlds of a rule, made by the processes of a pool."""
    size = max(1, min(100, len(seeds) // 2))
    parts = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    asked = [[pool.submit(draw, rule, world, part) for part in parts] for world in which]
    return [
        Column(*worlds_of(rule)[world][:2], [case for part in found for case in part.result()])
        for world, found in zip(which, asked, strict=True)
    ]


def judged(pool, rule: str, n_worlds: int) -> tuple[list[Column], list[Column]]:
    """Every world of a rule, screened; and n new draws of the worst at the threshold and of those
    that may be wrong in more than 5 %."""
    n = max(1, n_worlds // SCREENED)
    screened = columns(pool, rule, range(len(worlds_of(rule))), range(n))
    again = to_draw_again(screened)
    return screened, columns(pool, rule, again, range(n, n + n_worlds))


def to_draw_again(screened: Sequence[Column]) -> list[int]:
    """Of the worlds at the threshold the one that is wrong most often, and the next one where it
    is not shown to be wrong in less than 5 %."""
    at = [k for k, column in enumerate(screened) if column.truth == AT]
    rates = {k: screened[k].decided() for k in at}
    worst, *others = sorted(at, key=lambda k: -rates[k])
    n = len(screened[0].cases)
    return [worst, *(k for k in others[:1] if n >= 100 and wilson(rates[k], n)[1] >= RISK)]


# -- what is made of them --------------------------------------------------------------------------


def summary(screened: Sequence[Column], again: Sequence[Column]) -> dict:
    """Rate of false verdicts of the worst case with its limits; power, ours and that of the naive
    rule with its critical value raised; share of the decided that say they are close."""
    false = [column.decided() for column in again]
    worst = int(np.argmax(false))
    # The worst of several cases is partly bad luck: limits that hold for all of them at once.
    n = len(again[worst].cases)
    low, high = (float(x) for x in wilson(false[worst], n, 1 - RISK / len(again)))
    leads = [np.abs(c.leads()) for c in [*screened, *again] if c.truth == AT]
    raised = max(NORMAL, *(np.quantile(x, 1 - RISK) for x in leads))
    power = {}
    for truth, sign in ((SUPPORTED, 1), (CONTRADICTED, -1)):
        if those := [c for column in screened for c in column.cases if column.truth == truth]:
            power[truth] = [
                float(np.mean([c.verdict == truth for c in those])),
                float(np.mean([sign * c.lead > raised for c in those])),
                float(np.mean([c.student == truth for c in those])),
            ]
    decided = [
        c.close for column in [*screened, *again] for c in column.cases if c.verdict != UNDECIDED
    ]
    return {
        "rate": [false[worst], low, high],
        "where": again[worst].name,
        "naive": float(max(np.mean(x > NORMAL) for x in leads)),
        "raised": float(raised),
        "power": power,
        "close": float(np.mean(decided)) if decided else 0.0,
    }


def page(
    at: Sequence[Column], against: Sequence[Column], n_claims: int = 69, n_true: int = 9
) -> dict:
    """Whole pages of claims, as `summary` gives a rule: of those that sit at their threshold, some
    *contradicted* survives Holm's correction; power: the share that survives of a few that are
    rightly contradicted (without it / with it).

    Page k takes draw k of every world in turn, and later draws once all worlds had their turn.
    """
    n, false, right, survived = min(len(column.cases) for column in at), 0, 0, 0
    for k in range(n):
        rows = []
        for i in range(n_claims):
            side = at if i >= n_true else against
            drawn = side[i % len(side)].cases
            case = drawn[(k + i // len(side) * 37) % len(drawn)]
            rows.append({"id": str(i), "verdict": case.verdict, "p": case.p})
        kept = {int(name) for name in holm(rows, tried=n_claims)}
        false += any(i >= n_true for i in kept)
        right += sum(row["verdict"] == CONTRADICTED for row in rows[:n_true])
        survived += sum(i < n_true for i in kept)
    low, high = (float(x) for x in wilson(false / n, n))
    return {
        "rate": [false / n, low, high],
        "decided": right / n / n_true,
        "survived": survived / n / n_true,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4000, help="of each rule's worst case")
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES), metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    a = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    false, powers, at, against = {}, {}, [], []
    with ProcessPoolExecutor(a.processes, mp_context=get_context("spawn")) as pool:
        for name in a.rules:
            start = time.perf_counter()
            screened, again = judged(pool, name, a.worlds)
            s = summary(screened, again)
            at += again
            against += [column for column in screened if column.truth == CONTRADICTED]
            false[name], powers[name] = s["rate"], s["power"]
            print(line(name, s, time.perf_counter() - start), flush=True)
    if against:
        s = page(at, against)
        false[PAGE] = s["rate"]
        print(
            f"{PAGE:32} {limits(s['rate']):22} of 9 rightly contradicted "
            f"{s['survived']:.2f} survive, {s['decided']:.2f} without it"
        )
    worst = max(rate for rate, _, _ in false.values())
    print(json.dumps({"false_verdicts": false, "worst": worst, "power": powers}))


def line(name: str, s: Mapping, seconds: float) -> str:
    power = "; ".join(
        f"{truth} {ours:.2f} (naive {naive:.2f}, Student's {student:.2f})"
        for truth, (ours, naive, student) in s["power"].items()
    )
    return (
        f"{name:32} {limits(s['rate']):22} {s['where']}; naive {s['naive']:.1%}, raised to "
        f"{s['raised']:.1f}; power: {power}; {s['close']:.0%} close; {seconds:.0f} s"
    )


def limits(rate: Sequence[float]) -> str:
    return "{:.1%} [{:.1%}, {:.1%}]".format(*rate)


if __name__ == "__main__":
    main()
