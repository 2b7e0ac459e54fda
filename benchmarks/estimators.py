"""How many forward passes an estimate of the mean Shapley values costs, against other estimators.

On exact tables of worths, where every estimator can look up what it would have measured. The error
of an estimate of the mean values of n images in general has two parts: the images are a sample
(variance V / n, V that of the exact values over images), and so are the coalitions (mean squared
error of the mean over the images of the table, in repeated draws; a bias counts). The exact game
has the first part only, but spends 2^M passes on each image. A speed-up is how many times fewer
passes reach the same standard error, root mean square over bands; for the worst band alone it is
printed too, since that is what `tolerance=` bounds. The empty and the full coalition are measured
once per image for everyone, a coalition that is drawn again costs nothing, and each peer has that
budget per image, of several, that suits it best on that table in the first fifth of the repeats
(which count in what is reported, too).

    python benchmarks/estimators.py [tables] [--repeats 100] [--models squeezenet1_1 ...]

Repeats are shared among processes, one per core; each repeat has its own seed, so that the number
of processes changes nothing.

`tables` is a folder with <model>-trained.npz, or one npz. The first part, alone with --scores,
takes a few minutes: what is made of the values (`estimating/worlds.py` says what it prints). Then
come the coverage of the 95 % intervals that `explain` gives, on a population of games whose values
are known (over all bands, and of the bands with the lowest and the highest): images visited once,
four times, and until a tolerance is reached, so that the data say where to stop. Then one JSON line
per model and estimator; the last line holds the speed-ups of the root mean square error. Each has
the signed score, too, of 24 images drawn from the table: bias, with its error, spread, and how
often 95 % limits hold the score of the table (none for values that are pooled). A sampled score
lies too low where an exact one does not: the minimum of noisy values does.

`estimating/peers.py` has what is compared, and says what was tried and does not pay.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from estimating.coverage import CASES, coverage, intervals
from estimating.peers import ESTIMATORS
from estimating.speedups import best_of, bias_and_coverage, src
from estimating.worlds import scores

from iaside.tables import Worths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="?", type=Path, default=Path("results/worths/tables"))
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--repeats", type=int, default=100, help="at least 10")
    parser.add_argument("--drawn", type=int, default=400, metavar="REPEATS", help="for the score")
    parser.add_argument("--coverage", type=int, default=1000, metavar="REPEATS")
    parser.add_argument("--scores", action="store_true", help="only what is made of the values")
    parser.add_argument("--populations", type=Path, default=Path("results/convergence/tables"))
    parser.add_argument("--samples", type=int, default=1000, metavar="REPEATS")
    a = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    found = [a.tables] if a.tables.is_file() else sorted(a.tables.glob("*-trained.npz"))
    tables = {p.stem.removesuffix("-trained"): Worths.load(p).table for p in found}
    tables = {m: t for m, t in tables.items() if a.models is None or m in a.models}
    if a.repeats < 10:
        parser.error(f"--repeats {a.repeats}: give at least 10, of which a fifth choose a budget")
    if not tables and not a.scores:
        parser.error(f"no tables of worths in {a.tables}; run the stage `worths` first")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        scores(pool, sorted(a.populations.glob("*.npz")), a.samples)
        if a.scores:
            return

        def shared(task, seeds):
            parts = [seeds[i : i + 10] for i in range(0, len(seeds), 10)]
            return [run for part in pool.map(task, parts) for run in part]

        for case, (n, how) in CASES.items():
            held = coverage(shared(partial(intervals, case), range(a.coverage)))
            found = {"coverage": case, "n": n} | how | held | {"repeats": a.coverage}
            print(json.dumps(found), flush=True)

        def of_scores(table, name, size=None):
            return bias_and_coverage(table, shared(partial(src, table, name, size), range(a.drawn)))

        speedups = {"exact": dict.fromkeys(tables, 1.0)}
        for model, table in tables.items():
            print(json.dumps({"model": model, "estimator": "exact"} | of_scores(table, "exact")))
            for name in ESTIMATORS:
                size, of_size = best_of(table, name, a.repeats, shared)
                best, low, high, worst, passes = of_size
                speedups.setdefault(name, {})[model] = best
                print(
                    json.dumps(
                        {
                            "model": model,
                            "n": table.shape[1],
                            "estimator": name,
                            "repeats": a.repeats,
                            "passes_per_image": round(passes, 1),
                            "speedup": best,
                            "interval": [low, high],
                            "speedup_worst_band": round(worst, 2),
                        }
                        | of_scores(table, name, size)
                    ),
                    flush=True,
                )
    print(json.dumps({"speedup_vs_exact": speedups}))


if __name__ == "__main__":
    main()
