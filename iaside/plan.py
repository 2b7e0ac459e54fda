"""What a study costs before it runs: python -m iaside.plan [STUDY], which changes nothing.

DVC says which stages there are and which are up to date, functions beside the loops say how many
images a network will see, and two seconds with each network say how long that takes here.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from iaside.estimator import pairs_per_image
from iaside.faithfulness import QUANTITIES, examination_passes
from iaside.images import split_size
from iaside.machine import arithmetic, pick_device, remembered_batch_size, resolve_precision
from iaside.models import Classifier, load_model, untrained
from iaside.notebook import project_root
from iaside.parameters import UsageError, read_parameters, read_yaml, resolve_parameters
from iaside.perturb import CORRUPTIONS, attack_passes, perturb
from iaside.profiles import AT_ONCE, profile_passes
from iaside.published import published_passes
from iaside.responses import FOURIER, heat_cells, response_passes
from iaside.run import command_line, study_file, values_given
from iaside.sampling import sampled_passes
from iaside.spectral import METRICS, SPACINGS
from iaside.training import checkpoint_count, complete, training_passes
from iaside.workers import one_thread
from iaside.worths import ABSENCES, VALUES, coalition_passes
from iaside.zoo import networks

BACKWARD = 2  # forward passes that a gradient counts as, in the column of passes
SECONDS = 2.0  # to time one network, at most about so long
BATCH = 8  # images to time with where no other number is known
NUMBER, HALF = 8, 2  # bytes of an entry of a table, and of a heat map
SIDE = 224  # pixels, of what little depends on it
PROCESS = 0.6e9  # bytes: Python, torch and the libraries of a notebook, measured
LOOK = 1  # a pass of one image, by which a notebook knows the network


class Network(NamedTuple):
    """An architecture. With a recipe's path or neither it is loaded, with a side it is trained."""

    name: str
    recipe: str | None = None
    classes: int = 0
    side: int = 0


class Part(NamedTuple):
    """What one network has to do in a stage.

    passes (2,): images forward, gradients back;  batch: images a pass, None for the fastest;
    grads: images a pass with gradients;  images: kept in memory;  bands: of a game;  disk: bytes
    written, checkpoints: besides, files of weights;  alone: one thread, several networks at a time;
    corrupt: (what is corrupted, images times severities), once for all stages with the same.
    """

    network: Network
    passes: np.ndarray
    precision: str
    batch: int | None = BATCH
    grads: int = 0
    images: int = 0
    bands: int = 0
    disk: int = 0
    checkpoints: int = 0
    alone: bool = False
    trains: bool = False
    corrupt: tuple | None = None


class Study(NamedTuple):
    """The sections of a params.yaml, and the project's folder, where recipes are."""

    params: dict
    root: Path

    def network(self, model: Mapping) -> Network:
        """The architecture of an entry of ``models``; of a network still to be trained, its plan's.

        Errors: UsageError for a plan or a network that the study does not have.
        """
        recipe, weights = self.root / (model.get("recipe") or ""), Path(model.get("weights") or "")
        if recipe.is_file():
            return Network(model["name"], str(recipe))
        if weights.parts[:3] != ("results", "training", "networks"):
            return Network(model["name"])
        of, name = weights.parts[3:5]
        plans = self.params["training"]["plans"]
        if of not in plans or name not in (found := self.trained({of: plans[of]})):
            raise UsageError(f"{weights} is of no network that training.plans names")
        return found[name][1]

    def trained(self, plans: Mapping) -> dict[str, tuple[dict, Network, int, int]]:
        """name -> complete settings, architecture, training images, held-out images."""
        shared = {k: v for k, v in self.params["training"].items() if k != "plans"}
        found = {}
        for name, settings in networks(plans).items():
            settings = complete(settings, shared)
            only = settings["classes"]
            n, held, classes = _split(settings["images"], settings["held_out"],
                                      tuple(only) if isinstance(only, list) else only)  # fmt: skip
            network = Network(settings["architecture"], None, classes, settings["side"])
            found[name] = settings, network, n, held
        return found


_split = functools.lru_cache(split_size)

# -- what each measuring notebook asks of a network ------------------------------------------------


def _forward(n: int) -> np.ndarray:
    return np.array([n, 0])


def _snr(p: dict, study: Study) -> list[Part]:
    n, attacked, sparse = p["n_images"], p["n_attack"], p["n_sparse"]
    passes = _forward(LOOK + n + 5 * n + 3 * attacked + 2 * sparse)  # the answers
    attacks = {"fgsm": attacked, "pgd": 2 * attacked, "sparsefool": sparse, "pixle": sparse}
    for name, times in attacks.items():
        steps = p["steps"] if name in ("pgd", "sparsefool") else None
        passes = passes + times * attack_passes(name, steps=steps)
    disk = NUMBER * 10 * n * round(SIDE * 0.71 + p["n_bands"])  # spectra of ten sources
    return [Part(study.network(p["model"]), passes, "float32", 1, 1, n, p["n_bands"], disk)]


def _worths(p: dict, study: Study) -> list[Part]:
    recorded = {*p["values"], "log_likelihood", "accuracy", "probability"}
    parts = [Part(study.network(p["model"]), _forward(LOOK), p["precision"], p["batch_size"])]
    n, bands, tables = p["n_images"], p["n_bands"], len(recorded)
    for v in p["variants"]:
        if v == "trained":
            passes = coalition_passes(bands, n, "embedding" in recorded)
            disk = tables * 2**bands * n
        elif v == "published":
            passes = published_passes(bands, p["n_control"])
            disk = 2**bands * p["n_control"]
        else:
            passes = sampled_passes(bands, n, n * (2 + 2 * pairs_per_image(bands)))
            passes += 2 * n * ("embedding" in recorded)  # a second round begins with what is left
            disk = (3 + tables) * passes
        parts.append(parts[0]._replace(
            passes=_forward(passes), images=n, bands=bands, disk=NUMBER * disk,
            precision="float32" if v == "float32" else p["precision"],
        ))  # fmt: skip
    return parts


def _robustness(p: dict, study: Study) -> list[Part]:
    eps, bands, severities = len(p["attack_eps"]), p["n_bands"], len(p["severities"])
    counts = {
        "fgsm": eps, "pgd": eps + len(p["band_eps"]) * bands,
        "white_noise": len(p["noise_sigma"]) + bands, "gaussian_blur": len(p["blur_kernels"]),
        FOURIER: len(heat_cells(p["heat_grid"])), **dict.fromkeys(CORRUPTIONS, severities),
    }  # fmt: skip
    few = {"fgsm": p["n_attack"], "pgd": p["n_attack"], FOURIER: p["n_heat"]}
    n = p["n_images"]
    return [Part(
        study.network(p["model"]), response_passes(counts, n, few), p["precision"],
        p["batch_size"] or 8, 1, n, bands,
        NUMBER * (1 + sum(counts.values())) * (4 + bands) * n,
        corrupt=((p["images"], n, p["seed"]), n * severities),
    )]  # fmt: skip


def _choices(p: dict, study: Study) -> list[Part]:
    n, bands = p["n_images"], p["n_bands"]
    games = len(ABSENCES) - 1 + 1 + len(METRICS) - 1 + len(SPACINGS) - 1  # besides the reference
    passes = coalition_passes(bands, n, embedding=True) + games * coalition_passes(bands, n)
    passes += published_passes(bands, n)
    tables = len(VALUES) + games + 1
    return [Part(study.network(p["model"]), _forward(passes), p["precision"], p["batch_size"], 0, n,
                 bands, NUMBER * tables * 2**bands * n)]  # fmt: skip


def _convergence(p: dict, study: Study) -> list[Part]:
    n, bands = p["n_images"], p["n_bands"]
    passes = _forward(coalition_passes(bands, n))
    return [Part(study.network(p["model"]), passes, p["precision"], p["batch_size"], 0, n, bands,
                 NUMBER * 2 * 2**bands * n)]  # fmt: skip


def _resolution(p: dict, study: Study) -> list[Part]:
    passes = sum(sampled_passes(bands, p["n_images"], p["budget"]) for bands in p["bands"])
    return [Part(study.network(p["model"]), _forward(passes), p["precision"], p["batch_size"], 0,
                 p["n_images"], max(p["bands"]), NUMBER * 4 * passes)]  # fmt: skip


def _training(p: dict, study: Study) -> list[Part]:
    return [
        Part(network, training_passes(settings, n, held), settings["precision"], settings["batch"],
             settings["batch"], (n + held) // 4,  # as bytes, a quarter of what pixels take
             checkpoints=1 + checkpoint_count(settings), alone=True, trains=True)
        for settings, network, n, held in study.trained({p["item"]: p["plan"]}).values()
    ]  # fmt: skip


def _profiles(p: dict, study: Study) -> list[Part]:
    n, bands, severities = p["n_images"], p["n_bands"], len(p["severities"])
    parts = []
    for settings, network, _, held in study.trained({p["item"]: p["plan"]}).values():
        kept = checkpoint_count(settings)
        parts.append(Part(
            network, profile_passes(p, held, kept), p["precision"], p["batch_size"] or 256,
            AT_ONCE, n + held // 4, bands, NUMBER * kept * (3 * 2**bands * n + 2 * held),
            alone=True, corrupt=((settings["images"], n, p["seed"]), n * severities),
        ))  # fmt: skip
    return parts


def _attributions(p: dict, study: Study) -> list[Part]:
    attack = {"steps": p["steps"], "samples": p["samples"]}
    options = {
        "smoothgrad": {"samples": p["path_steps"]},
        "integrated_gradients": {"steps": p["path_steps"]},
        "mfaba": {"steps": p["path_steps"]},
        "big": {"steps": p["path_steps"], "path_steps": p["path_steps"], "eps": [p["eps"] / 255]},
        "agi": {"classes": p["classes"], "steps": p["class_steps"]},
        "la": {"classes": p["classes"], "steps": p["class_steps"]},
        "attexplore": attack,
    }
    variants = {m: {"method": m, **options.get(m, {})} for m in p["methods"]}
    fampe = ["fampe", "product", *p["alphas"]]
    variants |= {("fampe", name): {"method": "fampe", **attack} for name in fampe}
    variants |= {"clean": {"method": "clean"}, "pgd": {"method": "pgd", "steps": p["steps"]}}
    coarse = {"method": "fampe", "steps": p["grid_steps"], "samples": p["grid_samples"]}
    grid = {(a, k): coarse for a in p["grid_alphas"] for k in p["grid_kappas"]}
    n, bands, judges = p["n_images"], p["n_bands"], len(p["networks"])
    passes = examination_passes(
        variants | grid, n, judges, dict.fromkeys(grid, p["n_grid"]), p["n_twin"],
        p["insertion_steps"], p["infidelity_samples"],
    )  # fmt: skip
    passes = passes + _forward(n + coalition_passes(bands, n))  # what is predicted, and its game
    rows = len(variants) + len(grid)
    disk = NUMBER * n * (rows * (len(QUANTITIES) + judges) + 2**bands)
    return [Part(study.network(p["model"]), passes, "float32", 16, 10, n, bands,
                 disk + HALF * rows * p["n_shown"] * SIDE**2)]  # fmt: skip


COSTS: dict[str, Callable[[dict, Study], list[Part]]] = {
    "snr": _snr,
    "worths": _worths,
    "robustness": _robustness,
    "choices": _choices,
    "convergence": _convergence,
    "resolution": _resolution,
    "training": _training,
    "profiles": _profiles,
    "attributions": _attributions,
}
# Where attacks or sampling may end early, or training images turn out to be held out as well.
AT_MOST = {"snr", "worths", "resolution", "training", "attributions"}

# -- what DVC knows --------------------------------------------------------------------------------


class Stage(NamedTuple):
    """A stage as DVC has resolved it, and whether it would run."""

    name: str
    command: str
    state: str


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
            with set_loggers_level(logging.WARNING):  # or it speaks of what it only would do
                changed = set(repo.status())
                return [Stage(s.name, str(s.cmd), state(repo, s)) for s in repo.index.stages]
    except DvcException as error:
        raise UsageError(f"DVC: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _resolved(root: Path, params_file: Path) -> Iterator[Path]:
    """The project, or one of links to it whose params.yaml is another file."""
    if params_file.read_bytes() == (root / "params.yaml").read_bytes():
        yield root
        return
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
    with tempfile.TemporaryDirectory(prefix="ia-") as folder:
        copy = Path(folder)
        for path in root.iterdir():
            if path.name not in ("params.yaml", ".dvc", ".git"):
                (copy / path.name).symlink_to(path)
        (copy / "params.yaml").write_bytes(params_file.read_bytes())
        (copy / ".dvc").mkdir()
        (copy / ".dvc" / "config").write_text(
            f"[core]\nno_scm = true\nanalytics = false\n[cache]\ndir = {cache}\n"
        )
        yield copy


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
        return load_model(network.name, recipe=recipe, pretrained=False, packaged=False)
    except ValueError as error:
        raise UsageError(str(error)) from error


def calibrate(part: Part, device: torch.device, gradients: bool) -> Speed:
    """Time a network: forward in the part's precision; with gradients in float32, unless it trains.

    On a CPU the time of the processor counts where that is less: a busy machine delays, but the
    network needs no more of it.
    """
    model = build(part.network).to(device)
    fewest = 2 if part.trains else 1  # batch norm takes no fewer
    precision = resolve_precision(part.precision, device)
    image = torch.rand(1, 3, *model.input_size, device=device)
    batch = part.batch or remembered_batch_size(model, image, precision) or BATCH

    def run(n: int, back: bool) -> float:
        x = image.expand(n, *image.shape[1:]).contiguous(memory_format=torch.channels_last)
        x.requires_grad_(back)
        used = "float32" if back and not part.trains else precision
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


@torch.no_grad()
def _activations(model: Classifier, image: torch.Tensor) -> tuple[int, int]:
    """Bytes of the largest output of a layer, and of all outputs, for one image."""
    sizes: list[int] = []
    hooks = [
        m.register_forward_hook(lambda m, args, out: sizes.append(out.numel() * 4))
        for m in model.modules() if not list(m.children())
    ]  # fmt: skip
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
    words = shlex.split(stage.command)
    if "iaside.run" not in words or words[-1] == "--index" or "--strip" in words:
        return stage.name, []
    a = command_line().parse_args(words[words.index("iaside.run") + 1 :])
    if a.notebook not in notebooks:
        return stage.name, []
    noun = a.notebook.partition("_")[2]
    if noun not in COSTS:
        return noun, []
    nouns = [name.partition("_")[2] for name in notebooks]
    values = resolve_parameters(noun, notebooks[a.notebook], study.params, nouns, a.item,
                                dict(a.take), values_given(a))  # fmt: skip
    return noun, COSTS[noun](values, study)


def read_notebooks(root: Path) -> dict[str, dict]:
    """NN_noun -> the defaults of the parameters, of every notebook."""
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return {p.stem: read_parameters(json.loads(p.read_text("utf-8")), p.stem) for p in paths}


def costs(root: Path, params_file: Path) -> tuple[pd.DataFrame, str]:
    """What each stage would cost, a row each, and how that was measured, in words.

    Columns: section, stage, state, passes (a gradient counts as two more), seconds, memory and
    disk in bytes; nan where a stage asks nothing of a network.
    Errors: UsageError, or FileNotFoundError for training images of an unknown number.
    """
    params = read_yaml(params_file.read_text("utf-8"), params_file.name)
    study, notebooks = Study(params, root), read_notebooks(root)
    stages = expand(root, params_file)
    runtime = params.get("runtime") or {}
    device = pick_device(runtime.get("device", "auto"))
    workers = runtime.get("workers") or os.cpu_count() or 1
    found = [parts_of(stage, study, notebooks) for stage in stages]
    parts = [part for _, parts in found for part in parts]
    back = {_key(part, device) for part in parts if part.passes[1]}
    speeds: dict[tuple, Speed] = {}
    for part in parts:
        if (key := _key(part, device)) not in speeds:
            print(f"timing {part.network.name} ({key[1]})", file=sys.stderr, flush=True)
            speeds[key] = calibrate(part, device, key in back)
    corrupted, rows = set(), []
    for stage, (section, parts) in zip(stages, found, strict=True):
        row = {"section": section, "stage": stage.name, "state": stage.state}
        alone = sum(part.alone for part in parts)
        at_a_time = min(alone, workers) if alone and device.type == "cpu" else 1
        seconds, memory, disk, passes = 0.0, 0.0, 0, np.zeros(2, np.int64)
        for part in parts:
            speed = speeds[_key(part, device)]
            passes = passes + part.passes
            seconds += speed.seconds(part.passes) / at_a_time
            disk += part.disk + part.checkpoints * speed.weights
            memory = max(memory, _memory(part, speed))
            if part.corrupt and (made := (part.corrupt, speed.image)) not in corrupted:
                corrupted.add(made)
                pixels = speed.image / (3 * 4)
                seconds += part.corrupt[1] * pixels * corrupting() / workers
        if parts:
            row |= {"passes": int(passes @ (1, BACKWARD)), "seconds": seconds}
            row |= {"memory": memory, "disk": disk}
        rows.append(row)
    columns = ["section", "stage", "state", "passes", "seconds", "memory", "disk"]
    measured = (
        f"{device.type}, {' and '.join(sorted({key[1] for key in speeds}))}, "
        f"threads: {torch.get_num_threads()}, small networks at a time: {workers}, "
        f"{len(speeds)} timings of about {SECONDS:g} s"
    )
    return pd.DataFrame(rows, columns=columns), measured


def _key(part: Part, device: torch.device) -> tuple:
    """What is timed once."""
    return part.network, resolve_precision(part.precision, device), part.alone, part.trains


def _memory(part: Part, speed: Speed) -> float:
    """Bytes of one process, roughly: libraries, weights, images, the bands of one, a batch."""
    games = 3 * part.bands * speed.image
    shown = speed.batch * (speed.image + 2 * speed.largest)
    slopes = part.grads * (speed.image + speed.activations)
    copies = 3 if part.trains else 1  # gradients and momentum
    return PROCESS + copies * speed.weights + part.images * speed.image + games + max(shown, slopes)


def to_text(frame: pd.DataFrame, measured: str) -> str:
    """The table for a terminal: stage by stage, then what is to run, by section and in all."""
    lines = [_table(frame, "stage"), ""]
    todo = frame[frame["state"].str.startswith("to run")]
    kinds = ", ".join(f"{n} {state}" for state, n in Counter(frame["state"]).items())
    lines += [f"{len(frame)} stages: {kinds}.", ""]
    if todo["passes"].notna().any():
        sums = todo.dropna().groupby("section", sort=False)
        sums = sums.agg({"passes": "sum", "seconds": "sum", "memory": "max", "disk": "sum"})
        sums.loc["in all"] = [*sums[["passes", "seconds"]].sum(), sums["memory"].max(),
                              sums["disk"].sum()]  # fmt: skip
        sums = sums.reset_index(names="section").assign(stage=lambda f: f["section"])
        lines += ["Still to run:", _table(sums, "stage"), ""]
    lines += [
        f"passes  images through a network; a gradient counts as {BACKWARD} more. <=: attacks,",
        "        SparseFool above all, and sampling may end early; duplicates are not trained on",
        "time    an estimate, the machine being idle: preparing images and bands left out, making",
        "        corruptions included; what is finished of an interrupted stage is not taken off",
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
    parser = argparse.ArgumentParser(prog="python -m iaside.plan", description=__doc__)
    parser.add_argument("study", nargs="?", help="one of studies/; else params.yaml as it is")
    a = parser.parse_args(argv)
    try:
        root = project_root()
        print(to_text(*costs(root, study_file(a.study, root) if a.study else root / "params.yaml")))
    except (UsageError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
