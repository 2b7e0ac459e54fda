"""What a study costs before it runs: python -m iaside.study.plan [STUDY], which changes nothing.

DVC says which stages there are and which are up to date, ``costs`` how many images a network will
see, and two seconds with each network say how long that takes here; for a GPU that is named
(--gpu A100) its rate does, and the operations of each network, of which none runs.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from iaside.backend.device import pick_device
from iaside.backend.parallel import places
from iaside.game.game import PIECE
from iaside.study.check import check
from iaside.study.costs import AT_MOST, COSTS
from iaside.study.notebook import project_root
from iaside.study.overlays import read_study, study_file, told
from iaside.study.parameters import UsageError, command_values, read_notebooks, runs
from iaside.study.parts import Network, Part, Study
from iaside.study.sections import reports_asked
from iaside.study.speed import (
    BACKWARD,
    GPUS,
    SECONDS,
    Gpu,
    Speed,
    calibrate,
    corrupting,
    named_gpu,
    rated,
)
from iaside.study.stages import Stage, expand, needed

PROCESS = 0.6e9  # bytes: Python, torch and the libraries of a notebook, measured


def parts_of(stage: Stage, study: Study, notebooks: Mapping[str, dict]) -> tuple[str, list[Part]]:
    """The section of a stage, and what it asks of networks (nothing, where it reports).

    notebooks: NN_noun -> the defaults of its parameters. Errors: those of the runner.
    """
    notebook = runs(stage.command).notebook
    if notebook not in notebooks:
        return stage.name, []
    noun = notebook.partition("_")[2]
    if noun not in COSTS:
        return noun, []
    values = command_values(stage.command, notebooks, study.params)
    parts = COSTS[noun](values, study)
    engine = values.get("engine", "torch")
    return noun, [part if part.trains else part._replace(engine=engine) for part in parts]


def costs(root: Path, params_file: Path, gpu: Gpu | None = None) -> tuple[pd.DataFrame, str]:
    """What each stage would cost, a row each, and how that was measured, in words.

    Columns: section, stage, state, after (the stages that it waits for), passes (a gradient counts
    as two more), seconds, memory and disk in bytes; nan where a stage asks nothing of a network.
    gpu: whose seconds these are; None: those of this machine, which networks are timed on.
    Errors: UsageError, or FileNotFoundError for training images of an unknown number.
    """
    params = read_study(params_file)
    study, notebooks = Study(params, root), read_notebooks(root)
    stages = needed(expand(root, params_file), reports_asked(params, root))
    runtime = params.get("runtime") or {}
    device = pick_device(runtime.get("device", "auto"))
    said = runtime.get("workers")
    workers = said if isinstance(said, int) else places()  # those of a cluster are not known
    found = [parts_of(stage, study, notebooks) for stage in stages]
    parts = [part for _, parts in found for part in parts]
    back = {_key(part) for part in parts if part.passes[1]}
    largest: dict[tuple, Part] = {}
    alike: dict[tuple, dict[str, None]] = {}  # the networks of each structure, by name
    for part in parts:  # the largest batch of its kind is the one to time with
        key = _key(part)
        largest[key] = max(largest.get(key, part), part, key=lambda part: part.batch or 0)
        alike.setdefault(key[0], {})[part.network.name] = None
    speeds: dict[tuple, Speed] = {}
    for key, part in largest.items():
        if gpu is None:
            how = ", ".join(key[1:3])
            print(f"timing {part.network.name} ({how})", file=sys.stderr, flush=True)
        speeds[key] = rated(part, gpu) if gpu else calibrate(part, device, key in back)
    corrupted, rows = set(), []
    for stage, (section, parts) in zip(stages, found, strict=True):
        row = {"section": section, "stage": stage.name, "state": stage.state, "after": stage.after}
        alone = sum(part.alone and part.images > 0 for part in parts)  # a penalty is no network
        at_a_time = min(alone, workers) if alone and device.type == "cpu" and not gpu else 1
        seconds, memory, disk, passes = 0.0, 0.0, 0, np.zeros(2, np.int64)
        for part in parts:
            speed = speeds[_key(part)]
            passes = passes + part.passes
            seconds += speed.seconds(part.passes) / at_a_time
            disk += part.disk + part.checkpoints * speed.weights
            memory = max(memory, _memory(part, speed))
            if part.corrupt and part.corrupt not in corrupted and not gpu:
                corrupted.add(part.corrupt)
                seconds += part.corrupt[1] * corrupting() / workers
        if parts:
            row |= {"passes": int(passes @ (1, BACKWARD)), "seconds": seconds}
            row |= {"memory": memory, "disk": disk}
        rows.append(row)
    columns = ["section", "stage", "state", "after", "passes", "seconds", "memory", "disk"]
    precisions = sorted({key[1] for key in speeds})
    if gpu:
        rates = [f"{getattr(gpu, p) / 1e12:.4g} TFLOP/s in {p}" for p in precisions]
        return pd.DataFrame(rows, columns=columns), f"{gpu.name}: {' and '.join(rates)}"
    engines = sorted({key[2] for key in speeds})
    measured = (
        f"{device.type}, {' and '.join(precisions)}, {' and '.join(engines)}, "
        f"threads: {torch.get_num_threads()}, small networks at a time: {workers}, "
        f"{len(speeds)} timings of about {SECONDS:g} s{_untimed(alike.values())}"
    )
    return pd.DataFrame(rows, columns=columns), measured


def _key(part: Part) -> tuple:
    """What is timed once; images by themselves take longer than in batches."""
    kind = part.alone, part.trains, part.batch == 1
    return _structure(part.network), part.precision, part.engine, part.gradients, *kind


@functools.lru_cache(None)
def _structure(network: Network) -> tuple:
    try:
        return network.structure()
    except ValueError as error:
        raise UsageError(str(error)) from error


def _untimed(alike: Iterable[Mapping[str, None]], most: int = 3) -> str:
    """Which networks are taken to be as fast as one of the same structure, in words."""
    said = []
    for first, *others in alike:
        if others:
            more = f" and {len(others) - most} more" if len(others) > most else ""
            said.append(f"{', '.join(others[:most])}{more} as {first}")
    return f"; not timed, of the same architecture and input size: {'; '.join(said)}" * bool(said)


def _memory(part: Part, speed: Speed) -> float:
    """Bytes of one process, roughly: libraries, weights, images, the bands of one, a batch."""
    games = 3 * part.bands * speed.image
    batch = part.batch or speed.batch
    shown = max(batch, PIECE) * speed.image + batch * 2 * speed.largest
    slopes = part.grads * (speed.image + speed.activations)
    copies = 3 if part.trains else 1  # gradients and momentum
    return PROCESS + copies * speed.weights + part.images * speed.image + games + max(shown, slopes)


def side_by_side(stages: Mapping[str, tuple[float, Collection[str]]], workers: int) -> float:
    """Seconds until all stages have run, each worker on one at a time: of those that may begin
    first it takes the longest.

    stages: name -> (seconds, the stages that it waits for; others than these are done).

    >>> side_by_side({"a": (3, ()), "b": (1, ()), "c": (2, ("b",))}, 2)
    3.0
    """
    free, ends, todo = [0.0] * workers, {}, dict(stages)
    while todo:
        at = heapq.heappop(free)
        begin = {
            name: max([at, *(ends[other] for other in after if other in ends)])
            for name, (_, after) in todo.items()
            if not todo.keys() & {*after}
        }
        name = max(begin, key=lambda name: (-begin[name], todo[name][0]))
        ends[name] = begin[name] + todo.pop(name)[0]
        heapq.heappush(free, ends[name])
    return max(ends.values(), default=0.0)


def _of_workers(todo: pd.DataFrame, workers: int) -> str:
    """What so many workers make of what is to run, in a sentence."""
    timed = todo.assign(seconds=todo["seconds"].fillna(0.0))
    stages = {row.stage: (row.seconds, row.after) for row in timed.itertuples()}
    longest = timed.loc[timed["seconds"].idxmax()]
    return (
        f"{workers} workers, a stage each at a time: {duration(side_by_side(stages, workers))}; "
        f"the longest stage is {longest['stage']}, {duration(longest['seconds'])}."
    )


def to_text(frame: pd.DataFrame, measured: str, workers: int = 1) -> str:
    """The table for a terminal: stage by stage, then what is to run, by section and in all, and
    what so many workers make of it."""
    lines = [_table(frame, "stage"), ""]
    todo = frame[frame["state"].str.startswith("to run")]
    kinds = ", ".join(f"{n} {state}" for state, n in Counter(frame["state"]).items())
    lines += [f"{len(frame)} stages: {kinds}.", ""]
    if todo["passes"].notna().any():
        sums = todo.dropna(subset="passes").groupby("section", sort=False)
        sums = sums.agg({"passes": "sum", "seconds": "sum", "memory": "max", "disk": "sum"})
        sums.loc["in all"] = [
            *sums[["passes", "seconds"]].sum(),
            sums["memory"].max(),
            sums["disk"].sum(),
        ]
        sums = sums.reset_index(names="section").assign(stage=lambda f: f["section"])
        lines += ["Still to run:", _table(sums, "stage"), ""]
        lines += [_of_workers(todo, workers), ""] if workers > 1 else []
    lines += [
        f"passes  images through a network; a gradient counts as {BACKWARD} more. <=: attacks,",
        "        SparseFool above all, and sampling may end early; duplicates are not trained on",
        "time    an estimate, the machine being idle: preparing images and bands left out, making",
        "        corruptions included (not of a GPU that is named); what is finished of an",
        "        interrupted stage is not taken off",
        f"        ({measured})",
        "memory  peak of one process, roughly;  disk: tables and checkpoints",
        "-       asks no network: reads tables, in seconds",
    ]
    return "\n".join(lines)


def _table(frame: pd.DataFrame, name: str) -> str:
    def cell(show: Callable) -> Callable:
        return lambda value: "-" if pd.isna(value) else show(value)

    shown = pd.DataFrame({name: frame[name]})
    if "state" in frame:
        shown["state"] = frame["state"]
    most = frame["section"].isin([*AT_MOST, "in all"]) & frame["passes"].notna()
    passes = frame["passes"].map(cell(lambda v: f"{v:,.0f}"))
    shown["passes"] = np.where(most, "<=" + passes, passes)
    shown["time"] = frame["seconds"].map(cell(duration))
    shown["memory"] = frame["memory"].map(cell(lambda v: f"{v / 1e9:.1f} GB"))
    shown["disk"] = frame["disk"].map(cell(lambda v: f"{v / 1e6:,.1f} MB"))
    for column in shown.columns.intersection([name, "state"]):
        shown[column] = shown[column].str.ljust(shown[column].str.len().max())
    return shown.to_string(index=False)


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best.

    >>> duration(20), duration(600), duration(36_000)
    ('20 s', '10 min', '10.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 for a wrong request."""
    parser = argparse.ArgumentParser(prog="python -m iaside.study.plan", description=__doc__)
    parser.add_argument("study", nargs="?", help="one of studies/; else params.yaml as it is")
    parser.add_argument("--gpu", help=f"{', '.join(GPUS)}, or NAME:TFLOPs that one reaches")
    parser.add_argument("--workers", type=int, default=1, help="so many such machines, or GPUs")
    a = parser.parse_args(argv)
    file = None
    try:
        gpu = named_gpu(a.gpu) if a.gpu else None
        if a.workers < 1:
            raise UsageError(f"--workers is {a.workers}, but must be 1 or more")
        root = project_root()
        file = study_file(a.study, root) if a.study else root / "params.yaml"
        if gpu is None:  # another machine may have what this one has not
            check(read_study(file), root)
        frame, measured = costs(root, file, gpu)
        print(to_text(frame, measured, a.workers))
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {told(error, file)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
