"""What a study costs before it runs: python -m iaside.study.plan [STUDY], which changes nothing.

DVC says which stages there are and which are up to date, ``costs`` how many images a network will
see, and two seconds with each network say how long that takes here; for a GPU that is named
(--gpu A100) its rate does, and the operations of each network, of which none runs.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import heapq
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from iaside.backend.batch import MAX_BATCH, remembered_batch_size
from iaside.backend.device import pick_device
from iaside.backend.executors import one_thread
from iaside.backend.files import temporary_folder
from iaside.backend.parallel import places
from iaside.backend.precision import arithmetic
from iaside.game.game import PIECE
from iaside.inputs.classifier import Classifier, load_model, untrained
from iaside.inputs.folding import folded
from iaside.robustness.perturb import perturb
from iaside.study.check import check
from iaside.study.costs import AT_MOST, BATCH, COSTS, Network, Part, Study
from iaside.study.notebook import project_root
from iaside.study.parameters import (
    UsageError,
    closest,
    command_values,
    one_line,
    read_notebooks,
    read_study,
    reports_asked,
    runs,
)
from iaside.study.run import study_file
from iaside.tables import CORRUPTIONS

BACKWARD = 2  # forward passes that a gradient counts as, in the column of passes
SECONDS = 2.0  # to time one network, at most about so long
PROCESS = 0.6e9  # bytes: Python, torch and the libraries of a notebook, measured

# -- what DVC knows --------------------------------------------------------------------------------


class Stage(NamedTuple):
    """A stage as DVC has resolved it, whether it would run, and which it directly waits for."""

    name: str
    command: str
    state: str
    after: tuple[str, ...] = ()


def expand(root: Path, params_file: Path) -> list[Stage]:
    """The stages of dvc.yaml with these parameters, in its order, and how each of them stands.

    ``up to date``; ``cached``: an equal run is kept, and only copied; ``to run``; ``to run, after
    training``: its network does not exist yet. What an earlier stage may change is not foreseen.
    Errors: UsageError with DVC's words.
    """
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo
    from dvc.stage.cache import RunCacheNotFoundError

    def state(repo, stage) -> str:
        if stage.name not in changed:
            return "up to date"
        with contextlib.suppress(RunCacheNotFoundError, DependencyDoesNotExistError):
            stage.save_deps()
            repo.stage_cache.restore(stage, dry=True)
            return "cached"
        trained = [dep for dep in stage.deps if "results/training" in str(dep)]
        return "to run" if all(d.exists for d in trained) else "to run, after training"

    try:
        with _resolved(root, params_file) as where, contextlib.chdir(where), Repo() as repo:
            # or it speaks of what it only would do
            with set_loggers_level(logging.WARNING), _parsed_once():
                changed, graph = set(repo.status()), repo.index.graph
                return [
                    Stage(s.name, str(s.cmd), state(repo, s), tuple(d.name for d in graph[s]))
                    for s in repo.index.stages
                ]
    except DvcException as error:
        raise UsageError(f"DVC: {' '.join(str(error).split())}") from error


def needed(stages: list[Stage], targets: Iterable[str]) -> list[Stage]:
    """The stages that make these targets, in their order; all where there are none.

    >>> a, b, c = Stage("a", "", ""), Stage("b", "", "", ("a",)), Stage("c", "", "", ("a",))
    >>> [stage.name for stage in needed([a, b, c], ["b"])]
    ['a', 'b']
    """
    after, names = {stage.name: stage.after for stage in stages}, set()
    left = list(targets)
    if not left:
        return stages
    while left:
        name = left.pop()
        left += [n for n in after.get(name, ()) if n not in names]
        names.add(name)
    return [stage for stage in stages if stage.name in names]


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """Let DVC parse params.yaml once: it does so for every stage that has run, a second for ten."""
    from dvc.utils.serialize import LOADERS

    parse, known = LOADERS[".yaml"], {}

    def load(path, *args, **how):
        if path not in known:
            known[path] = parse(path, *args, **how)
        return copy.deepcopy(known[path])

    LOADERS[".yaml"] = load
    try:
        yield
    finally:
        LOADERS[".yaml"] = parse


@contextlib.contextmanager
def _resolved(root: Path, params_file: Path) -> Iterator[Path]:
    """The project, or one of links to it whose params.yaml is another file."""
    if params_file.read_bytes() == (root / "params.yaml").read_bytes():
        yield root
        return
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
    with temporary_folder() as links:
        for path in root.iterdir():
            if path.name not in ("params.yaml", ".dvc", ".git"):
                (links / path.name).symlink_to(path)
        (links / "params.yaml").write_bytes(params_file.read_bytes())
        (links / ".dvc").mkdir()
        (links / ".dvc" / "config").write_text(
            f"[core]\nno_scm = true\nanalytics = false\n[cache]\ndir = {cache}\n"
        )
        yield links


# -- what this machine can do ----------------------------------------------------------------------


class Speed(NamedTuple):
    """Seconds an image forward, and forward and back; bytes of weights, of an image, of the largest
    activation of a pass and of all of them; images a pass they were measured with."""

    forward: float
    both: float
    weights: int
    image: int
    largest: int
    activations: int
    batch: int

    def seconds(self, passes: np.ndarray) -> float:
        """A gradient comes after a pass of its own, and where there are more, costs the rest."""
        forward, back = passes
        pairs, rest = min(forward, back), max(self.both - self.forward, 0)
        return pairs * self.both + (forward - pairs) * self.forward + (back - pairs) * rest


def build(network: Network) -> Classifier:
    """A network with random weights: they change no time. Errors: UsageError for an unknown one."""
    try:
        if network.side:
            return untrained(network.name, network.classes, network.side, 0)
        recipe = network.recipe
        return load_model(
            network.name, recipe=recipe, pretrained=False, packaged=False, factory=network.factory
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def calibrate(part: Part, device: torch.device, gradients: bool) -> Speed:
    """Time a network: forward, and with gradients, each in the precision that the part says.

    On a CPU the time of the processor counts where that is less: a busy machine delays, but the
    network needs no more of it.
    """
    model = build(part.network)
    model = (model if part.trains else folded(model)).to(device)
    fewest = 2 if part.trains else 1  # batch norm takes no fewer
    image = torch.rand(1, 3, *model.input_size, device=device)
    batch = part.batch or remembered_batch_size(model, image, f"{part.precision} torch") or BATCH

    def run(n: int, back: bool) -> float:
        x = image.expand(n, *image.shape[1:]).contiguous(memory_format=torch.channels_last)
        x.requires_grad_(back)
        used = part.gradients if back else part.precision
        start, cpu = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(back), arithmetic(used, device):
            out = model(x).float().logsumexp(1).sum()
        if back:
            out.backward()
            model.zero_grad(set_to_none=True)
        out.cpu()  # waits for the device
        took = time.perf_counter() - start
        return min(took, time.process_time() - cpu) if device.type == "cpu" else took

    def each(back: bool) -> tuple[float, int]:
        end = time.perf_counter() + SECONDS / 2
        run(fewest, back)  # the first pass also allocates and compiles
        best = run(fewest, back) / fewest
        n = max(fewest, min(batch, int(SECONDS / 8 / max(best, 1e-6))))
        while time.perf_counter() + best * n < end:
            best = min(best, run(n, back) / n)
        return best, n

    with one_thread() if part.alone and device.type == "cpu" else contextlib.nullcontext():
        largest, activations = _activations(model, image)
        if part.trains:
            model.net.train().requires_grad_(True)
        forward, n = each(False)
        both = each(True)[0] if gradients else forward
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Speed(forward, both, weights, image[0].numel() * 4, largest, activations, n)


# -- what another machine could do -----------------------------------------------------------------

# TFLOP/s: outside of and on the matrix units, dense, by NVIDIA's data sheets of the SXM versions.
GPUS = {
    "A100": {"float32": 19.5, "bfloat16": 312},
    "H100": {"float32": 67, "bfloat16": 989},
    "H200": {"float32": 67, "bfloat16": 989},
    "L40S": {"float32": 91.6, "bfloat16": 362},
}
# What convolutional networks reach of that: taken, not measured. True float32 leaves matrix units
# idle; in bfloat16 memory is what they wait for.
REACHED = {"float32": 0.5, "bfloat16": 0.2}


class Gpu(NamedTuple):
    """What networks reach on a GPU, in FLOP/s."""

    name: str
    float32: float
    bfloat16: float


def named_gpu(text: str) -> Gpu:
    """The rates of a GPU of the list, or of one of one's own, as ``name:TFLOPs``: what it reaches.

    Errors: UsageError for a name that is not listed, or a rate that is none.

    >>> named_gpu("A100").float32 / 1e12, named_gpu("mine:30").bfloat16 / 1e12
    (9.75, 30.0)
    """
    name, colon, rate = text.partition(":")
    if not colon:
        if name not in GPUS:
            raise UsageError(
                f"no GPU {name!r} is known; {closest(name, GPUS)} One of your own: "
                f"{name}:30, if networks reach 30 TFLOP/s on it"
            )
        return Gpu(name, *(1e12 * GPUS[name][p] * share for p, share in REACHED.items()))
    try:
        reached = float(rate)
    except ValueError:
        reached = 0.0
    if not 0 < reached < 1e6:
        raise UsageError(f"{rate!r} of {text!r} must be a number above 0, in TFLOP/s: mine:30")
    return Gpu(name, 1e12 * reached, 1e12 * reached)


def rated(part: Part, gpu: Gpu) -> Speed:
    """What a network's operations take at the rates of a GPU; none is run.

    A gradient counts as ``BACKWARD`` passes: that of pixels alone takes one.
    """
    flops, weights, image, largest, activations = _operations(part.network)
    forward = flops / getattr(gpu, part.precision)
    both = (1 + BACKWARD) * flops / getattr(gpu, part.gradients)
    return Speed(forward, both, weights, image, largest, activations, part.batch or MAX_BATCH)


@functools.lru_cache(None)
@torch.no_grad()
def _operations(network: Network) -> tuple[int, int, int, int, int]:
    """FLOP of a pass of one image; bytes of weights, of an image, of the largest and of all outputs
    of layers. Nothing is computed: tensors on the meta device have shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = build(network)
    model = model.to("meta")
    image = torch.empty(1, 3, *model.input_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        largest, activations = _activations(model, image)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return counter.get_total_flops(), weights, image[0].numel() * 4, largest, activations


@torch.enable_grad()  # without, packed convolutions do not ask their parts
def _activations(model: Classifier, image: torch.Tensor) -> tuple[int, int]:
    """Bytes of the largest output of a layer, and of all outputs, for one image."""
    sizes: list[int] = []
    hooks = [
        m.register_forward_hook(lambda m, args, out: sizes.append(out.numel() * 4))
        for m in model.modules()
        if not list(m.children()) and not isinstance(m, torch.nn.Identity | torch.nn.Sequential)
    ]
    model(image)
    for hook in hooks:
        hook.remove()
    return max(sizes), sum(sizes)


@functools.lru_cache
def corrupting() -> float:
    """Seconds a pixel that the 15 corruptions take in one process, at severity 3."""
    for side in (32, 224):  # the first also imports and compiles
        x, start = torch.rand(1, 3, side, side), time.perf_counter()
        for name in CORRUPTIONS:
            perturb(x, name, severity=3)
    return (time.perf_counter() - start) / side**2


# -- the table -------------------------------------------------------------------------------------


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
    return noun, COSTS[noun](command_values(stage.command, notebooks, study.params), study)


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
            print(f"timing {part.network.name} ({key[1]})", file=sys.stderr, flush=True)
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
    measured = (
        f"{device.type}, {' and '.join(precisions)}, "
        f"threads: {torch.get_num_threads()}, small networks at a time: {workers}, "
        f"{len(speeds)} timings of about {SECONDS:g} s{_untimed(alike.values())}"
    )
    return pd.DataFrame(rows, columns=columns), measured


def _key(part: Part) -> tuple:
    """What is timed once; images by themselves take longer than in batches."""
    kind = part.alone, part.trains, part.batch == 1
    return _structure(part.network), part.precision, part.gradients, *kind


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
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
