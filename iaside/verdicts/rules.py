"""Every testable claim of the sources, and the verdict on it, by rules fixed beforehand.

A function of a module beside this one turns data into parts, each a function from a level to an
`Estimate`, and `decide` makes a record of them. A report writes the records of its stage with
`as_document` to results/<stage>/claims.json; `gather` turns those files into one row per claim,
those that nobody tested included. The claims themselves are data: claims.yaml.

The rules (docs/methods.md, Verdicts; `benchmarks/verdicts.py` counts how often they are wrong):

* supported: the 95 % limits of every part lie on the claimed side; of a null claim, within the
  margin. All parts have to succeed, so that each may have its own level.
* contradicted: the limits of some part, at 1 - .05 / (number of parts), lie wholly on the other
  side; of a null claim, outside the margin. One part suffices, hence Bonferroni's level.
* undecided: anything else; too few of the unit; limits that are not finite.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import LEAST, Levels

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_TESTED = "not tested"
CLOSE = 0.1  # half-widths from the threshold: said beside a verdict
RISK = 0.05  # of a false verdict, for a claim exactly at its threshold
# Risks at which a contradiction is tried again, for its p value: finest where Holm's correction
# over a page of 50 to 100 claims asks.
RISKS = (
    0.05,
    0.03,
    0.02,
    0.01,
    5e-3,
    3e-3,
    2e-3,
    1.5e-3,
    1.2e-3,
    1e-3,
    9e-4,
    8e-4,
    7e-4,
    6e-4,
    5e-4,
    3e-4,
    2e-4,
    1e-4,
    1e-5,
    1e-6,
)
NEAR = "close to the threshold"
NUMBERS = ("value", "se", "low", "high", "n")  # of a part, in its record


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One falsifiable sentence of a source and how it is put to the test: an entry of claims.yaml.

    `kind` is "greater" or "less" (the statistic is claimed to lie beyond `threshold`) or "null"
    (its absolute value is claimed to be at most `threshold`). `stage` is the report that decides
    it, `unit` what is drawn and counted, `needs` what a study must contain for that.
    """

    id: str
    statement: str
    source: str
    stage: str
    statistic: str
    unit: str
    needs: str
    kind: str = "greater"
    threshold: float = 0.0
    why: str = ""
    claimed_on: str = ""
    readings: Mapping | None = None
    requires: Mapping | None = None
    until: str = ""
    cannot: str = ""

    @property
    def claimed(self) -> str:
        """The claimed side as text: "> 0", "< 0.007" or "|.| <= 0.3"."""
        sign = {"greater": ">", "less": "<", "null": "|.| <="}[self.kind]
        return f"{sign} {self.threshold:g}"

    def side(self, e: Estimate) -> str:
        """The side on which limits lie: SUPPORTED, CONTRADICTED, or UNDECIDED across.

        >>> find("src_mce").side(Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks"))
        'supported'
        """
        if not all(map(math.isfinite, (e.value, e.low, e.high))):
            return UNDECIDED
        if self.kind == "null":
            inside = -self.threshold <= e.low and e.high <= self.threshold
            outside = e.high < -self.threshold or e.low > self.threshold
            return SUPPORTED if inside else CONTRADICTED if outside else UNDECIDED
        above, below = e.low > self.threshold, e.high < self.threshold
        as_claimed, opposite = (above, below) if self.kind == "greater" else (below, above)
        return SUPPORTED if as_claimed else CONTRADICTED if opposite else UNDECIDED

    def close(self, e: Estimate) -> bool:
        """Whether a limit lies within a tenth of its half-width of what it is compared with.

        >>> find("src_mce").close(Estimate(-0.5, 0.2, -0.99, -0.01, 19, "networks"))
        True
        """
        edges = (-self.threshold, self.threshold) if self.kind == "null" else (self.threshold,)
        half = (e.high - e.low) / 2
        return half > 0 and any(
            abs(limit - edge) <= CLOSE * half for limit in (e.low, e.high) for edge in edges
        )


@functools.cache
def claims() -> dict[str, Claim]:
    """The claims by id, in the order of claims.yaml.

    >>> next(iter(claims().values())).source.startswith("Practice note, ")
    True
    """
    from ruamel.yaml import YAML

    text = (Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8")
    read = YAML(typ="safe", pure=True).load(text)
    return {entry["id"]: Claim(**entry) for entry in read}


def find(claim_id: str) -> Claim:
    """Return the claim of that id. Errors: ValueError, which names the closest ones.

    >>> find("src_mce").claimed
    '< 0'
    """
    if claim_id in claims():
        return claims()[claim_id]
    close = difflib.get_close_matches(str(claim_id), claims(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "the ids are in claims.yaml"
    raise ValueError(f"unknown claim id {claim_id!r}; {hint}")


def decide(
    claim_id: str,
    parts: Levels | Mapping[str, Levels],
    note: str = "",
    data: str = "",
    short: str = "",
    exact: bool = False,
) -> dict:
    """Judge a claim by its parts (models, attacks, bands, ...), and put it on record for JSON.

    parts: one, or name -> one; each maps a level to an `Estimate` of one number with limits at
    that level (`intervals.at_levels`, or a partial function of its argument `level`).  note, data:
    words; on what it was decided.  short: why nothing can be decided, where the estimate cannot
    say so (2 trainings in a cell).  exact: the number has no error, and n needs no minimum.

    The record carries the numbers of its worst part, named in the note, and lists every part; a
    verdict whose deciding limit lies within a tenth of its half-width of the threshold says so.
    ``joint_low``, ``joint_high``: of a contradiction by one of several parts, the limits of the
    worst part that hold for all parts together and decide; None of anything else. ``p`` bounds
    the p value of a contradiction (0 of an exact one), and is None of anything else.
    Errors: ValueError for an unknown id, no parts, or a unit that is not that of the claim.

    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> row = decide("src_mce", lambda level: one)
    >>> row["verdict"], row["claimed"], row["n"], row["unit"], row["close"]
    ('supported', '< 0', 19, 'networks', False)
    >>> few = Estimate(-0.6, 0.1, -0.8, -0.3, 3, "networks")
    >>> row = decide("src_mce", {"a": lambda level: one, "b": lambda level: few})
    >>> row["verdict"], row["note"]
    ('undecided', 'worst of 2: b; n = 3 networks, 4 are needed')
    """
    claim = find(claim_id)
    parts = dict(parts) if isinstance(parts, Mapping) else {"": parts}
    if not parts:
        raise ValueError(f"claim {claim_id!r} has no parts to combine; pass at least one")
    risk = RISK / len(parts)
    shown = {name: part(1 - RISK) for name, part in parts.items()}
    joint = {
        name: part(1 - risk) if len(parts) > 1 else shown[name] for name, part in parts.items()
    }
    judged, reasons = {}, {}
    for name, e in shown.items():
        if e.unit != claim.unit:
            raise ValueError(
                f"{claim_id!r} is decided over {claim.unit}, but its estimate{f' {name!r}'} counts "
                f"{e.unit}; give one over {claim.unit}"
            )
        few = 0 if exact else LEAST.get(e.unit, 2)
        reasons[name] = short or (f"n = {e.n} {e.unit}, {few} are needed" if e.n < few else "")
        against = claim.side(joint[name]) == CONTRADICTED
        own = claim.side(e)
        judged[name] = (
            UNDECIDED
            if reasons[name]
            else CONTRADICTED
            if against
            else (SUPPORTED if own == SUPPORTED else UNDECIDED)
        )
    verdict = _of_all(judged.values())
    worst = min(parts, key=lambda name: _strength(claim, judged[name], shown[name]))
    deciding = joint if verdict == CONTRADICTED else shown
    close = any(
        claim.close(deciding[name])
        for name in parts
        if not reasons[name] and (verdict != CONTRADICTED or judged[name] == CONTRADICTED)
    )
    said = [f"worst of {len(parts)}: {worst}"] if len(parts) > 1 else []
    said += [reasons[worst]] if reasons[worst] else []
    said += [NEAR] if close else []
    against = [parts[name] for name in parts if judged[name] == CONTRADICTED]
    return {
        **{key: getattr(claim, key) for key in ("id", "statement", "source", "statistic")},
        **{key: getattr(claim, key) for key in ("claimed", "kind", "unit")},
        "data": data,
        "verdict": verdict,
        **_numbers(shown[worst]),
        "close": close,
        **_joint(joint[worst] if verdict == CONTRADICTED and len(parts) > 1 else None),
        "exact": exact,
        "p": min((0.0 if exact else _p(claim, part, len(parts)) for part in against), default=None),
        "note": "; ".join([*said, *([note] if note else [])]),
        "parts": [
            {"part": name, "verdict": judged[name], **_numbers(e)} for name, e in shown.items()
        ]
        if len(parts) > 1
        else [],
    }


def withheld(part: Levels, why: str) -> Levels:
    """A part that nothing is decided by, as it is biased: its value without limits, if there is a
    reason why.

    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> decide("src_mce", withheld(lambda level: one, "a tie"))["verdict"]
    'undecided'
    """

    def bare(level: float) -> Estimate:
        e = part(level)
        return Estimate.unsure(e.value, e.n, e.unit, e.se)

    return bare if why else part


def every_reading(records: Mapping[str, dict]) -> dict:
    """Judge a claim whose source leaves readings open: a verdict needs all of them.

    records: reading -> what `decide` made of it. The record is the first's, with the verdict that
    all share (else undecided), and the readings among its parts. It is close only where the
    verdict would be another one without the readings that are.

    >>> one, other = (Estimate(s, 0.1, s - 0.2, s + 0.2, 19, "networks") for s in (-0.6, 0.0))
    >>> rows = {"a": decide("src_mce", lambda _: one), "b": decide("src_mce", lambda _: other)}
    >>> every_reading(rows)["verdict"], len(every_reading(rows)["parts"])
    ('undecided', 2)
    """
    shown, first = next(iter(records.items()))
    found: dict[str, list[str]] = {}
    for name, record in records.items():
        found.setdefault(record["verdict"], []).append(name)
    agreed = first["verdict"] if len(found) == 1 else UNDECIDED
    said = (
        [f"{agreed} in all {len(records)} readings"]
        if len(found) == 1
        else [f"{verdict} in {' / '.join(names)}" for verdict, names in found.items()]
    )
    said.append(f"shown: {shown}")
    near = [name for name, record in records.items() if record["close"]]
    close = _may_turn(agreed, records.values())
    said += [f"close to the threshold: {' / '.join(near)}"] if close else []
    # What `decide` says of the first alone is no word on all of them.
    said += [part for part in first["note"].split("; ") if part and part != NEAR]
    ps = [record["p"] for record in records.values()]
    parts = []
    for name, record in records.items():
        own = record["parts"] or [{"part": "", **{k: record[k] for k in ("verdict", *NUMBERS)}}]
        parts += [row | {"part": f"{name}, {row['part']}" if row["part"] else name} for row in own]
    return first | {
        "verdict": agreed,
        "close": close,
        **(_joint(None) if agreed != CONTRADICTED else {}),
        "p": max(ps) if agreed == CONTRADICTED else None,  # all have to be contradicted
        "note": "; ".join(said),
        "parts": parts,
    }


def as_document(stage: str, records: Iterable[dict]) -> dict:
    """Wrap the records of one reporting stage as the content of its `claims.json`.

    Errors: ValueError for two records of one id.

    >>> one = decide("src_mce", lambda _: Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks"))
    >>> as_document("correlation", [one])["stage"]
    'correlation'
    """
    document = {"stage": stage, "claims": list(records)}
    _recorded([document])
    return document


def gather(documents: Iterable[dict]) -> list[dict]:
    """Turn the `claims.json` contents of a study into one row per claim of the sources, in order.

    A claim that nobody recorded reads "not tested: needs ..." and has no numbers. `stage` is the
    stage that recorded the claim, or the one that would.
    Errors: ValueError for two records of one claim (both stages are named), or an unknown id.

    >>> [row["verdict"] for row in gather([]) if row["id"] == "k200_representative"]
    ['not tested: needs a labelled image set with at least 2,200 images']
    """
    recorded = _recorded(documents)
    untested = {
        "data": "",
        **dict.fromkeys((*NUMBERS, "p")),
        "close": False,
        "note": "",
        "parts": [],
    }
    later = _joint(None)  # of which older records have none
    rows = []
    for claim in claims().values():
        row = {
            **asdict(claim),
            "claimed": claim.claimed,
            "verdict": f"{NOT_TESTED}: needs {claim.needs}",
            **untested,
            **later,
            "exact": False,
        }
        if claim.id in recorded:
            stage, found = recorded[claim.id]
            row |= {key: found[key] for key in ("verdict", "unit", *untested)} | {"stage": stage}
            row |= {key: found.get(key) for key in later}
            alike = found["low"] is not None and found["low"] == found["high"]
            row["exact"] = found.get("exact", alike)
        rows.append(row)
    return rows


def count_verdicts(rows: Iterable[dict]) -> dict[str, int]:
    """Count the rows of `gather` by verdict, all four kinds always present.

    >>> count_verdicts(gather([]))["supported"]
    0
    """
    counts = dict.fromkeys((SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED), 0)
    for row in rows:
        counts[row["verdict"].split(":")[0]] += 1
    return counts


def holm(rows: Iterable[dict], tried: int | None = None) -> list[str]:
    """The ids of the contradicted claims that survive Holm's correction over the whole page.

    rows: as of `gather`; tried: how many verdicts were (None: all that were tested).

    >>> rows = [{"id": k, "verdict": CONTRADICTED, "p": p} for k, p in zip("ab", (1e-6, 0.04))]
    >>> holm(rows, tried=20)
    ['a']
    """
    rows = [row for row in rows if not row["verdict"].startswith(NOT_TESTED)]
    tried, kept = len(rows) if tried is None else tried, []
    ordered = sorted(
        (row for row in rows if row["verdict"] == CONTRADICTED), key=lambda row: row["p"]
    )
    for k, row in enumerate(ordered):
        if row["p"] > RISK / (tried - k):
            break
        kept.append(row["id"])
    return kept


def _recorded(documents: Iterable[dict]) -> dict[str, tuple[str, dict]]:
    """Map claim id -> (stage, record); an id recorded twice is an error that names both stages."""
    found: dict[str, tuple[str, dict]] = {}
    for document in documents:
        for row in document["claims"]:
            claim_id, stage = find(row["id"]).id, document["stage"]
            if claim_id in found:
                raise ValueError(
                    f"claim {claim_id!r} is recorded twice, by stage {found[claim_id][0]!r} and "
                    f"by stage {stage!r}; one stage decides a claim, of several parts if need be"
                )
            found[claim_id] = stage, row
    return found


def _of_all(verdicts: Iterable[str]) -> str:
    verdicts = set(verdicts)
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if verdicts == {SUPPORTED} else UNDECIDED


def _p(claim: Claim, part: Levels, n_parts: int) -> float:
    """The smallest of `RISKS`, shared among all parts, down to which a part contradicts: no
    smaller than the p value."""
    found = RISK
    for risk in RISKS[1:]:
        if claim.side(part(1 - risk / n_parts)) != CONTRADICTED:
            break
        found = risk
    return found


def _may_turn(agreed: str, records: Iterable[dict]) -> bool:
    """Whether other draws of the readings that are close may give all of them another verdict."""
    records = list(records)
    if agreed != UNDECIDED:
        return any(record["close"] for record in records)
    return any(
        all(record["close"] for record in records if record["verdict"] != verdict)
        for verdict in (SUPPORTED, CONTRADICTED)
    )


def _joint(e: Estimate | None) -> dict:
    """The limits at the level that all parts share, as the record has them."""
    low, high = (None, None) if e is None else (float(e.low), float(e.high))
    return {"joint_low": low, "joint_high": high}


def _strength(claim: Claim, verdict: str, e: Estimate) -> tuple[int, float]:
    """Order parts: by verdict first, then by how far the limits reach into the claimed side."""
    rank = (CONTRADICTED, UNDECIDED, SUPPORTED).index(verdict)
    if not (math.isfinite(e.low) and math.isfinite(e.high)):
        return rank, -math.inf
    if claim.kind == "null":
        return rank, claim.threshold - max(abs(e.low), abs(e.high))
    if claim.kind == "less":
        return rank, claim.threshold - e.high
    return rank, e.low - claim.threshold


def _numbers(e: Estimate) -> dict:
    """JSON has no NaN: what is not finite is None."""
    found = {name: float(part) for name, part in zip(NUMBERS, e, strict=False)} | {"n": int(e.n)}
    return {name: x if math.isfinite(x) else None for name, x in found.items()}
