"""Try to break what the kit promises: nothing lost, changed, left behind, hanging or unclear.

    make campaign            60 minutes; again: it goes on where it was
    make campaign QUICK=1    10 minutes
    make campaign SEED=7     other kills, other damages

Five parts, each a module beside this one: kills of the whole pipeline, crashes and a full disk at
single file operations, hostile input, kills of a cluster. A try is a function of its number and the
seed. What was found is kept in .partial/campaign, a line a try; tries of older code are made again.
The last line printed is JSON: the number of tries, and of each kind of broken promise, 0 of which
is the aim. (Not part of the tests: it kills processes at random moments.)
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE.parent / "backend")]  # of `test_files`

import cluster  # noqa: E402
import hostile  # noqa: E402
import kills  # noqa: E402
import operations  # noqa: E402
from child import COLUMNS  # noqa: E402

from iaside.backend.keys import code_hash  # noqa: E402

PARTS = {  # name -> module, tries, tries of a quick campaign
    "kills": (kills, 60, 4),
    "crashes": (operations, 300, 60),
    "full disk": (operations, 60, 20),
    "hostile input": (hostile, 300, 100),
    "cluster": (cluster, 11, 2),  # the first is of the scheduler
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make campaign", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10 minutes instead of 60")
    parser.add_argument("--seed", type=int, default=0, help="what is drawn; one is one campaign")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    a = parser.parse_args(argv)
    place = ROOT / ".partial" / "campaign"
    parts = {name: part for name, part in PARTS.items() if a.only in (None, name)}
    wanted = {name: part[2 if a.quick else 1] for name, part in parts.items()}
    end = time.monotonic() + (10 if a.quick else 60) * 60
    done = Ledger(place / f"seed-{a.seed}-{code_hash(*MODULES)}.jsonl")
    while time.monotonic() < end:
        left = {name: n - len(done.of(name)) for name, n in wanted.items()}
        name = max(left, key=lambda name: left[name] / wanted[name])  # none waits for another
        if not left[name]:
            break
        k = next(k for k in range(wanted[name]) if k not in done.of(name))
        found = parts[name][0].attempt(name, k, a.seed, place)
        done.add(name, k, found)
        bad = ", ".join(f"{found[c]} {c}" for c in COLUMNS if found[c])
        print(f"{name} {k}: {bad or 'nothing'} ({found['what']})", flush=True)
    shutil.rmtree(place / "tries", ignore_errors=True)
    return show(done, wanted)


# Whatever it tries; a change of any makes another campaign.
MODULES = sorted(path.stem for path in (ROOT / "iaside").glob("*.py") if path.stem != "__init__")


class Ledger:
    """What the tries have found, in a file: a line each, of which a kill can tear the last."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            self.rows[row["part"], row["k"]] = row

    def of(self, part: str) -> dict[int, dict]:
        return {k: row for (name, k), row in self.rows.items() if name == part}

    def add(self, part: str, k: int, found: dict) -> None:
        row = {"part": part, "k": k, **found}
        self.rows[part, k] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def show(done: Ledger, wanted: dict[str, int]) -> int:
    """Print a line a part and the sums; returns 0 when no promise was broken."""
    print(f"\n{'':14s}{'tries':>8s}" + "".join(f"{c:>11s}" for c in COLUMNS))
    total = dict.fromkeys(("tries", *COLUMNS), 0)
    for name in wanted:
        rows = done.of(name).values()
        counts = {"tries": len(rows)} | {c: sum(row[c] for row in rows) for c in COLUMNS}
        total = {c: n + counts[c] for c, n in total.items()}
        shown = "".join(f"{counts[c]:11d}" for c in COLUMNS)
        print(f"{name:14s}{counts['tries']:8d}{shown}   of {wanted[name]}")
    if total["tries"] < sum(wanted.values()):
        print("not all tries were made in this time: the same command goes on")
    print(json.dumps(total))
    return int(any(total[c] for c in COLUMNS))


if __name__ == "__main__":
    sys.exit(main())
