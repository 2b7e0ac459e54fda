"""Can this study run? Asked before anything long: python -m iaside.study.check [params.yaml].

`make plan`, `make repro` and the stage `data` ask. What is wrong is said in one line: the value,
the rule, what to do. First come sections, keys and paths, which takes no library; then every
parameter of every stage against the rules of the modules that take it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from iaside.backend.files import try_room
from iaside.study.notebook import project_root
from iaside.study.parameters import (
    SHARED,
    UsageError,
    check_plain,
    closest,
    command_values,
    commands,
    image_sources,
    one_line,
    placed,
    read_notebooks,
    read_pipeline,
    read_study,
    read_yaml,
    runs,
)

PROJECT = Path(__file__).resolve().parents[2]
# iaside.inputs.images downloads these into data/images/<name>
DOWNLOADABLE = ("caltech101", "stl10", "cifar10", "cifar100", "svhn", "tiny_imagenet")
ROOM = 16 * 2**20  # bytes that must be free, or nothing that runs could even say why it ends
DESIGN = ("family", "training")  # what `designs` may say of a network
PATIENCE = 2.0  # seconds that dvc.lock may take to be whole
FILES = 256  # open files at a time: DVC, a kernel's sockets and the pipes of processes
MAY_BE_EMPTY = (
    "architecture.transformers",
    "attributions.alphas",
    "claims.recorded",
    "robustness.strong_eps",
    "robustness.band_eps",
    "correlation.ours",
)
Rule = tuple[str, Callable[[Any], bool]]  # in words, and as a test


def check(study: Mapping, root: Path) -> None:
    """Refuse a study that a stage would refuse, or that could not be reported.

    study: the sections of a params.yaml;  root: the project, whose stages, notebooks and images
    count. Images that are still to be downloaded are not counted. Errors: UsageError.
    """
    check_lock(root)
    pipeline, notebooks = read_pipeline(root), read_notebooks(root)
    there = {path.stem.partition("_")[2] for path in (root / "notebooks").glob("*_*.ipynb")}
    check_sections(study, notebooks, there)
    check_designs(study)
    check_place(root)
    check_paths(study, root)
    values = {
        stage: (
            runs(command).notebook.partition("_")[2],
            command_values(command, notebooks, dict(study)),
        )
        for stage, command in commands(pipeline, study)
    }
    rules = _rules()
    for section, parameters in values.values():
        for name, value in parameters.items():
            where = placed(section, name)
            _check_value(where, value, rules.get(where, rules.get(name)))
    _check_value("runtime.workers", (study["runtime"] or {}).get("workers"), rules["workers"])
    _check_training(study["training"])
    _check_networks(study, root)
    count = functools.cache(functools.partial(_count, root=root))  # stages share images
    for section, parameters in values.values():
        _check_together(section, parameters, study, root, count)


def check_lock(root: Path) -> None:
    """Refuse a dvc.lock that a kill cut off while DVC wrote it, which DVC does in place.

    What its stages made is in DVC's cache, and not made again where the file is an older one, or
    none. Errors: UsageError.
    """
    path = root / "dvc.lock"
    for _ in range(10):
        if not path.exists() or _is_whole(path):
            return
        time.sleep(PATIENCE / 10)  # DVC may be about to write it, of a stage beside this one
    raise UsageError(
        "dvc.lock is cut off, as by a kill while DVC wrote it; take that of git (git checkout "
        "dvc.lock), or remove it: what was made is in .dvc/cache and is not made again"
    )


def _is_whole(path: Path) -> bool:
    try:
        stages = read_yaml(path.read_text(encoding="utf-8"), "dvc.lock")["stages"]
        whole = all({"cmd", "outs"} <= set(stage) for stage in stages.values())
        return whole and all(
            "md5" in out for stage in stages.values() for out in stage["outs"] if "hash" in out
        )
    except (OSError, UsageError, UnicodeDecodeError, TypeError, KeyError, AttributeError):
        return False


# -- sections, keys and paths: no library is needed ------------------------------------------------


def check_sections(study: Mapping, notebooks: Mapping, own: Collection[str] = ()) -> None:
    """Refuse a study with a section too few or too many, and keys that can name no file.

    notebooks: those that a stage runs, each of which needs its section;  own: sections that there
    may be besides, of notebooks that no stage runs.
    """
    nouns = {name.partition("_")[2]: name for name in notebooks}
    for section in study:
        if section not in (*SHARED, *nouns, *own):
            raise UsageError(
                f"no notebook is called {section!r}, a section of the study; "
                f"{closest(section, (*SHARED, *nouns))}"
            )
    for section in (*SHARED, *nouns):
        if section not in study:
            reads = f"the notebook {nouns[section]} reads" if section in nouns else "all share"
            raise UsageError(
                f"the study has no section {section!r}, which {reads}: copy it from "
                "studies/default.yaml"
            )
        check_plain(section, study[section])
        if section != "seed" and not isinstance(study[section], dict | None):
            raise UsageError(
                f"`{section}` must hold `name: value` lines, got {study[section]!r}: copy it "
                "from studies/default.yaml"
            )
    for section, items in _items(study):
        for key, entry in items.items():
            check_key(section, key)
            if not isinstance(entry, dict):
                raise UsageError(
                    f"`{section}.{key}` is {entry!r}, but must hold `{{name: value, ...}}`: copy "
                    "one from studies/default.yaml"
                )


def check_designs(study: Mapping) -> None:
    """Refuse a design of a network that is none of the study's, or that says what nothing reads."""
    models, sample = study["models"] or {}, "{family: resnet, training: standard}"
    if study["designs"] is None:
        raise UsageError("`designs` is empty: write `designs: {}` where names tell the families")
    for key, entry in study["designs"].items():
        where = f"`designs.{key}`"
        if key not in models:
            raise UsageError(f"{where} is of no network in `models`; {closest(key, models)}")
        if not isinstance(entry, dict):
            raise UsageError(f"{where} is {entry!r}, but must be as {sample}")
        if unknown := [name for name in entry if name not in DESIGN]:
            raise UsageError(
                f"{where} sets {unknown[0]!r}, which nothing reads; {closest(unknown[0], DESIGN)}"
            )
        for name, value in entry.items():
            if not isinstance(value, str) or not value:
                raise UsageError(f"{where}: {name} is {value!r}, but must be a word, as {sample}")


def _items(study: Mapping) -> Iterator[tuple[str, Mapping]]:
    """What the pipeline has a stage for each of: (dotted path, key -> entry)."""
    for section, values in study.items():
        for name in ("networks", "plans"):
            if isinstance(values, dict) and name in values:
                path, items = f"{section}.{name}", values[name]
                if not isinstance(items, dict) or not items:
                    raise UsageError(
                        f"`{path}` must hold `key: ...` lines, at least one, got {items!r}"
                    )
                yield path, items


TRAINED = "results/training/networks/"


def to_be_trained(entry: Mapping) -> bool:
    """Whether a plan of the study makes the weights of an entry of `models`.

    >>> to_be_trained({"weights": "results/training/networks/clean/small_cnn-seed0/final.pt"})
    True
    """
    return entry["weights"].startswith(TRAINED)


MODEL_LINE = (
    "`resnet18: {name: resnet18, weights: data/weights/resnet18.safetensors,"
    " recipe: data/weights/resnet18.json}`"
)


def check_paths(study: Mapping, root: Path) -> None:
    """Fail at once if the images, weights or recipes that the study names cannot be had."""
    packaged = packaged_files()
    sets = {Path(path).stem: f"data/{path}" for path in packaged if path.startswith("images/")}
    places = ", ".join(sorted(sets.values()))
    for section, values in study.items():
        for source in image_sources(values):
            if not isinstance(source, str) or not source:
                raise UsageError(
                    f"`images` of section `{section}` holds {source!r}: it must be a path "
                    f"such as {places}."
                )
            if source in sets:  # load_images knows the name, but a stage depends on a path
                raise UsageError(
                    f"`images` of section `{section}` is {source!r}, but a study needs a path: did "
                    f"you mean {sets[source]}?"
                )
            place = root / source
            around = place.is_dir() and root.resolve().is_relative_to(place.resolve())  # as .. is
            if around or in_data(place, root) in (".", "images"):
                raise UsageError(
                    f"`images` of section `{section}` is {source!r}, which holds sets of images "
                    f"and is none: name one of {places}, or another folder"
                )
            if place.exists() or in_data(place, root) in packaged or downloadable(source, root):
                continue
            hint = (
                " Put ImageNet's validation folder there (one folder per class, torchvision's "
                "ImageFolder layout),"
                if "imagenet" in source.lower()
                else (
                    " Put the images there (one folder per class, or files and a labels.csv with"
                    " the columns file,label),"
                )
            )
            raise UsageError(
                f"there are no images at {source!r} (`images` of section `{section}`; looked "
                f"for {place}).{hint} or name another folder or a packaged set "
                f"({places}) under `images`. Nothing was downloaded."
            )
    for key, entry in study_models(study).items():
        check_key("models", key)
        if to_be_trained(entry):  # _check_networks looks for its plan
            continue
        weights, recipe = root / entry["weights"], root / entry["recipe"]
        ours = in_data(weights, root) in packaged
        # packaged, or the library's own, which has none of an architecture of one's own
        fetched = ours or ("factory" not in entry and in_data(weights, root).startswith("weights/"))
        if fetched and in_data(recipe, root) != in_data(weights.with_suffix(".json"), root):
            raise UsageError(
                f"model `{key}`: the recipe of {entry['weights']!r} is fetched beside it, so "
                f"`recipe` must be {Path(entry['weights']).with_suffix('.json').as_posix()!r}, got "
                f"{entry['recipe']!r}. Own files belong into a folder outside data/."
            )
        if not fetched and not weights.is_file():
            raise UsageError(
                f"there are no weights at {entry['weights']!r} (model `{key}`; looked for "
                f"{weights}). Put the file there or correct `weights`. Nothing was downloaded."
            )
        # Where it is to be fetched both files may be absent; weights alone are somebody's own, and
        # fetching would overwrite them.
        if weights.is_file() and not recipe.is_file() and not ours:
            raise UsageError(
                f"{entry['weights']!r} (model `{key}`) has no recipe at {entry['recipe']!r} "
                f"(looked for {recipe}). Put it there (data/README.md shows one) or correct "
                "`recipe`. Nothing was downloaded."
            )


def downloadable(source: object, root: Path) -> bool:
    return isinstance(source, str) and in_data(root / source, root) in {
        f"images/{name}" for name in DOWNLOADABLE
    }


def study_models(study: Mapping) -> dict[str, dict]:
    """The `models` of a study, each of which says name, weights, recipe and perhaps factory."""
    models = study.get("models") or {}
    if not isinstance(models, dict):
        raise UsageError(f"`models` of the study must hold {MODEL_LINE}; got {models!r}.")
    for key, entry in models.items():
        if (
            not isinstance(entry, dict)
            or set(entry) - {"factory"} != {"name", "weights", "recipe"}
            or not all(isinstance(value, str) and value for value in entry.values())
        ):
            raise UsageError(
                f"model `{key}` of the study is {entry!r}; it must have name, weights and recipe, "
                f"in one line {MODEL_LINE}, and `factory: nets.py:build` where the network is "
                "built by code of your own in architectures/."
            )
    return models


def in_data(path: Path, root: Path) -> str:
    """The path inside data/ as sources.yaml writes it, or "" if it lies elsewhere."""
    path, data = Path(os.path.normpath(path)), root / "data"
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else ""


def packaged_files() -> set[str]:
    """The paths inside data/ of what data/fetch.py makes from package files and those of a url."""
    sources = read_yaml((PROJECT / "data/sources.yaml").read_text("utf-8"), "data/sources.yaml")
    return {path for output in sources["outputs"].values() for path in output["becomes"]}


def check_key(where: str, key: object) -> None:
    """Refuse a key that cannot name a stage and its files."""
    if not isinstance(key, str) or not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_-]*", key):
        raise UsageError(
            f"the key {key!r} under `{where}` becomes the name of files and stages: use only "
            "letters, digits, _ and - (not first). The `name` of a model may hold anything, as "
            "resnet18.a1_in1k."
        )


# -- the machine -----------------------------------------------------------------------------------


def check_place(root: Path) -> None:
    """Refuse a project that cannot be written to, a full disk, and a shell of too few open files.

    Nothing is left behind: what is written on trial has no name, or loses it at once.
    """
    for name in ("results", ".partial", ".build", ".dvc"):
        place = root / name
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is no folder: move it away, results are to be written there")
        for folder in _folders(place) if place.is_dir() else [root]:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise UsageError(f"{folder} cannot be written to: `chmod u+rwx {folder}`")
        try:
            try_room(place if place.is_dir() else root, ROOM)
        except OSError as error:
            raise UsageError(
                f"{place} cannot be written to: {error.strerror} ({ROOM >> 20} MB were tried); "
                "free some space on that disk, or make the folder writable"
            ) from error
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        raise UsageError(
            f"this shell allows {soft} open files, but must allow {FILES} at least: run "
            "`ulimit -n 1024` in it first"
        )


def _folders(place: Path) -> Iterator[str]:
    """A folder and what is below it, of .dvc only the first level: its cache has many."""
    for folder, below, _ in os.walk(place):
        yield folder
        if place.name == ".dvc":
            below.clear()


# -- values ----------------------------------------------------------------------------------------


def _check_value(where: str, value: Any, rule: Rule | None) -> None:
    """Refuse a parameter (of a list: each) that breaks the rule of its name."""
    if value == [] and where not in MAY_BE_EMPTY:
        raise UsageError(f"{where} is an empty list: name one at least, in the study")
    if isinstance(value, list):
        times = Counter(v if isinstance(v, str | int | float) else repr(v) for v in value)
        if twice := [v for v, n in times.items() if n > 1]:
            raise UsageError(f"{where} names {twice[0]!r} more than once: leave the others out")
    if rule is None:
        return
    words, holds = rule
    for v in value if isinstance(value, list) and not where.startswith("runtime.") else [value]:
        try:
            fine = holds(v)
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise UsageError(f"{where} is {v!r}, but must be {words}: correct it in the study")


def _rules() -> dict[str, Rule]:
    """Name of a parameter -> what it may be. Most names mean the same in all notebooks."""
    from iaside.attribution import baselines, maps
    from iaside.attribution.faithfulness import SUBSTRATES
    from iaside.backend.device import pick_device
    from iaside.backend.engine import ENGINES, installed
    from iaside.game.absence import ABSENCES
    from iaside.game.exact import MAX_BANDS
    from iaside.game.values import VALUES
    from iaside.inputs.recipes import LARGEST_SIDE
    from iaside.score import spectral_importance
    from iaside.spectral import METRICS, SPACINGS

    def one_of(*names: str) -> Rule:
        return f"one of {', '.join(names)}", lambda v: v in names

    def whole(least: int, most: int = 1_000_000) -> Rule:
        words = f"a whole number from {least} to {most:,}"
        return words, lambda v: type(v) is int and least <= v <= most

    def between(low: float, high: float, words: str) -> Rule:
        return words, lambda v: type(v) in (int, float) and low < v < high

    def each(rule: Rule, *names: str) -> dict[str, Rule]:
        return dict.fromkeys(names, rule)

    tiny = 5e-324  # so that an end belongs to a range
    share = between(-tiny, 1 + 1e-12, "a share from 0 to 1")
    positive = between(0, 1e6 + 1e-9, "a number above 0 and up to 1,000,000")
    odd = "an odd whole number from 1", lambda v: type(v) is int and v > 0 and v % 2 == 1
    own = [f.__name__ for f in baselines.METHODS]
    methods = [*(name for name in maps.METHODS if name not in own), *own]
    return {
        "metric": one_of(*METRICS),
        "spacing": one_of(*SPACINGS),
        "absence": one_of(*ABSENCES),
        "values": one_of(*VALUES),
        "substrate": one_of(*SUBSTRATES),
        "methods": one_of(*methods),
        "prior": one_of(*methods),
        "precision": one_of("float32", "bfloat16"),
        "engine": (
            "torch, or openvino where it is installed (pip install 'iaside[engine]')",
            lambda v: v in installed(),
        ),
        "worths.engine": (
            "torch or openvino, both installed (pip install 'iaside[engine]'): the "
            "controls compare them",
            lambda v: v in ENGINES and len(installed()) == len(ENGINES),
        ),
        "normalise": (
            "minmax, share, positive or softmax",
            lambda v: v != "none" and spectral_importance([2.0, 1.0], v) is not None,
        ),
        "severities": whole(1, 5),
        "n_bands": whole(2, MAX_BANDS),
        "mosaic_bands": whole(3, MAX_BANDS),
        "seed": whole(0, 2**31 - 1),  # as NumPy, torch and the corruptions take it, and a few more
        **each(
            whole(1),
            "steps",
            "samples",
            "path_steps",
            "class_steps",
            "epochs",
            "attributions.classes",
            "insertion_steps",
            "n_draws",
            "n_intervals",
            "sizes",
            "interval_sizes",
            "n_initialisations",
            "resolution.bands",
            "grid_steps",
            "grid_samples",
            "n_beta",
        ),
        **each(whole(1, 10**9), "n_images", "budget"),
        "side": whole(1, LARGEST_SIDE),
        "batch": whole(2),
        "training.classes": (
            "null, a whole number from 1, or a list of their names",
            lambda v: v is None or (type(v) is int and v > 0) or (isinstance(v, str) and v != ""),
        ),
        **each(
            ("a name", lambda v: isinstance(v, str) and v != ""),
            "claims.recorded",
            "claims.reports",
            "summaries.train",
            "summaries.test",
        ),
        **each(
            whole(0),
            "n_control",
            "n_attack",
            "n_sparse",
            "n_heat",
            "n_twin",
            "n_shown",
            "n_grid",
            "infidelity_samples",
            "warm_up",
        ),
        **each(whole(100), "n_resamples", "interval_resamples"),
        **each(odd, "kernel", "blur_kernels", "heat_grid"),
        **each(between(0, 1, "a number between 0 and 1, both excluded"), "beta", "held_out"),
        **each(share, "alpha", "alphas", "grid_alphas", "amount"),
        **each(
            between(0, 1 + 1e-12, "a share above 0 and up to 1"),
            "kappa",
            "grid_kappas",
            "energy",
            "contrast",
        ),
        **each(
            between(0, 1 + 1e-12, "above 0 and up to 1, as pixels are"),
            "attack_eps",
            "strong_eps",
            "band_eps",
            "band_noise",
            "noise_sigma",
            "noise_sd",
            "sigma",
        ),
        **each(positive, "photons", "heat_norm", "recommended"),
        "eps": between(0, 255 + 1e-9, "above 0 and up to 255, in 1/255"),
        "device": (
            "auto, or a device that is here: cpu, cuda, mps",
            lambda v: pick_device(v) is not None,
        ),
        **each(
            ("null or a whole number from 1 to 1,000,000", lambda v: v is None or whole(1)[1](v)),
            "batch_size",
        ),
        "workers": (
            "null, a number of processes from 1, or the address of a Dask scheduler, such "
            "as tcp://host:8786",
            lambda v: (
                v is None or whole(1)[1](v)
                if not isinstance(v, str)
                else re.fullmatch(r"[a-z]+://[^/\s]+", v)
            ),
        ),
    }


def _check_training(section: Mapping) -> None:
    """Refuse plans that stand for no networks, and settings that none can be trained with."""
    from iaside.training.data import complete
    from iaside.training.plans import networks
    from iaside.training.training import check_settings

    shared = {name: value for name, value in section.items() if name != "plans"}
    try:
        found = networks(section["plans"])
        check_settings({name: complete(s, shared) for name, s in found.items()})
    except (KeyError, TypeError) as error:
        raise UsageError(f"training: {error!r}; compare with studies/default.yaml") from error
    except ValueError as error:
        raise UsageError(f"training: {error}") from error


def _check_networks(study: Mapping, root: Path) -> None:
    """Refuse a network whose weights are nowhere: not there, not fetched, not trained."""
    from iaside.training.plans import networks

    trained = {
        f"{TRAINED}{settings['plan']}/{name}/"
        for name, settings in networks(study["training"]["plans"]).items()
    }
    models = study["models"].items()
    made = {key: entry for key, entry in models if to_be_trained(entry)}
    known = {entry["weights"]: entry["recipe"] for key, entry in models if key not in made}
    for section, items in [("models", made), *_items(study)]:
        for key, entry in items.items() if section.endswith(("networks", "models")) else ():
            model = entry.get("model", entry) if isinstance(entry, dict) else entry
            entries = study_models({"models": {key: model}})
            path, recipe = entries[key]["weights"], entries[key]["recipe"]
            there = path in known or (root / path).is_file()
            ours = f"{Path(path).parent.as_posix()}/" in trained
            if not there and not ours:
                raise UsageError(
                    f"there are no weights at {path!r} (`{section}.{key}`): no entry of `models` "
                    "has them, no plan of `training` trains them, and no such file is there; "
                    "correct `weights`"
                )
            _check_factory(f"{section}.{key}", entries[key], root)
            beside = known.get(path, Path(path).with_suffix(".json").as_posix())
            if recipe != beside and (path in known or not (root / recipe).is_file()):
                raise UsageError(
                    f"`{section}.{key}` has the recipe {recipe!r}, but that of {path!r} is "
                    f"{beside!r}: correct `recipe`"
                )
            if there and not ours and path not in known:
                own = "factory" in entries[key]
                _check_files(f"{section}.{key}", root / path, root / recipe, own)
    packaged = packaged_files()
    for key, entry in models:
        if key in made:
            continue
        _check_factory(f"models.{key}", entry, root)
        path = root / entry["weights"]
        if path.is_file():
            _check_files(f"models.{key}", path, root / entry["recipe"], "factory" in entry)
        elif in_data(path, root) not in packaged:
            from iaside.inputs.libraries import recipe_of  # which takes seconds to import

            try:
                recipe_of(entry["name"])
            except ValueError as error:
                raise UsageError(
                    f"there are no weights at {entry['weights']!r} (model `{key}`; looked for "
                    f"{path}), and no library has them to fetch: put the file there, or correct "
                    f"`weights` or `name` ({error})"
                ) from error


def _check_factory(where: str, entry: Mapping, root: Path) -> None:
    """Refuse a factory that is not there, or not where the pipeline sees it change."""
    if "factory" not in entry:
        return
    from iaside.inputs.factories import code_of

    try:
        code_of(entry["factory"], root)
    except (ValueError, OSError, SyntaxError) as error:
        raise UsageError(f"`{where}`: {error}") from error


def factories(study: Mapping, of: str, root: Path) -> dict[str, str | None]:
    """The code that builds each network of ``models`` or ``<section>.networks``, as a hash.

    Stages depend on it: None for a network of a library, and a hash that changes with the code.
    """
    from iaside.inputs.factories import code_of

    found = study
    for name in of.split("."):
        found = found[name]
    models = {key: entry.get("model", entry) for key, entry in found.items()}
    named = {key: model.get("factory") for key, model in models.items()}
    return {key: name and code_of(name, root) for key, name in named.items()}


def _check_files(where: str, weights: Path, recipe: Path, own: bool) -> None:
    """Refuse weights that hold nothing, and a recipe that no network can be made of.

    own: an architecture of one's own, of which the recipe need say nothing.
    """
    from safetensors import SafetensorError, safe_open

    from iaside.inputs.recipes import read_recipe

    try:
        if weights.suffix not in (".safetensors", ".pt", ".pth"):
            raise ValueError("the file must end in .safetensors, .pt or .pth")
        if not weights.stat().st_size:
            raise ValueError("the file is empty")
        if weights.suffix == ".safetensors":
            with safe_open(weights, "pt"):  # compares the sizes that it promises with its own
                pass
    except (ValueError, SafetensorError) as error:
        raise UsageError(
            f"the weights of `{where}`, {weights}, cannot be read: {error}; put the file there "
            "again, or correct `weights`"
        ) from error
    try:
        if recipe.is_file() and not read_recipe(recipe, own)["num_classes"]:
            raise ValueError(f"the recipe {recipe} has num_classes 0: a study scores classes")
    except (ValueError, TypeError) as error:
        raise UsageError(f"`{where}`: {error}") from error


def _check_together(
    section: str, values: Mapping, study: Mapping, root: Path, count: Callable[[str], int | None]
) -> None:
    """Refuse parameters that do not fit each other, or the images that are there, so many."""
    from iaside.game.sampling import MAX_BANDS, MIN_BANDS
    from iaside.game.surrogate import passes_per_image
    from iaside.study import recorded

    def refuse(name: str, rule: str) -> None:
        raise UsageError(f"{section}.{name} is {values[name]!r}, but must be {rule}")

    most = {
        "n_control": "n_images",
        "n_attack": "n_images",
        "n_heat": "n_images",
        "n_sparse": "n_attack",
        "n_twin": "n_images",
        "n_shown": "n_images",
        "n_grid": "n_images",
    }
    for part, of in most.items():
        if part in values and of in values and values[part] > values[of]:
            refuse(part, f"at most {of}, which is {values[of]}: they are some of those")
    if section == "worths" and values["n_bands"] < MIN_BANDS:
        refuse("n_bands", f"{MIN_BANDS} or more: of fewer bands the controls have no sample")
    for name in ("transformers", "ours"):
        if wrong := [m for m in values.get(name, ()) if m not in study["models"]]:
            refuse(
                name,
                f"names of `models`: {wrong[0]!r} is none; {closest(wrong[0], study['models'])}",
            )
    if section == "attributions" and values["precision"] != "float32":
        if "deeplift" in values["methods"]:
            refuse("precision", "float32 where methods name deeplift, which adds up in no other")
    if section == "resolution":
        coarse = study["worths"]["n_bands"]
        if wrong := [M for M in values["bands"] if M % coarse or not coarse < M <= MAX_BANDS]:
            refuse(
                "bands",
                f"multiples of {coarse}, the n_bands of `worths`, above it and up to "
                f"{MAX_BANDS}: {wrong[0]} is none",
            )
        least = values["n_images"] * passes_per_image(max(values["bands"]))
        if values["budget"] < least:
            refuse(
                "budget",
                f"at least {least}: {values['n_images']} images, each visited once "
                f"with {max(values['bands'])} bands",
            )
        for name in ("images", "n_images", "metric", "precision", "engine"):
            if values[name] != study["worths"][name]:
                refuse(
                    name,
                    f"{study['worths'][name]!r}, as in `worths`, whose tables are the coarse end",
                )
    if section == "rivals" and values["noise_sd"] != sorted(values["noise_sd"]):
        refuse("noise_sd", "in rising order: thresholds are looked for between them")
    if section in ("robustness", "rivals"):
        worths = study["worths"]
        if values["n_bands"] != worths["n_bands"]:
            refuse(
                "n_bands", f"{worths['n_bands']}, as in `worths`: both are compared band by band"
            )
        if values["n_images"] == worths["n_images"] and values["images"] != worths["images"]:
            refuse(
                "images",
                f"{worths['images']!r}, as in `worths`: scores and robustness are to "
                "be of the same photographs",
            )
    if section == "convergence_report":
        for key, network in study["convergence"]["networks"].items():
            most = network["n_images"] // 2
            if len({size for size in values["sizes"] if size <= most}) < 2:
                refuse(
                    "sizes",
                    f"two different sizes or more that are at most {most}, half of "
                    f"the n_images of convergence.networks.{key}",
                )
    if section == "claims":
        recorded.runs(root, values["recorded"])
        testing = _testing(root)
        if wrong := [noun for noun in values["reports"] if noun not in testing]:
            raise UsageError(
                f"claims.reports holds {wrong[0]!r}, which tests no claims; "
                f"{closest(str(wrong[0]), testing)}"
            )
    if isinstance(values.get("images"), str) and "n_images" in values:
        held = count(values["images"])
        if held is not None and values["n_images"] > held:
            refuse("n_images", f"at most {held}: {values['images']!r} holds no more")
        if held is not None and "model" in values:
            _check_labels(values["images"], root / values["model"].get("recipe", ""), root)
    if "untrained" in values.get("variants", ()) or values.get("n_twin"):
        if values["n_images"] < 2:
            refuse("n_images", "2 or more: batch norms of an untrained twin need a variance")
    if section == "profiles":
        held = _fewest_held_out(values["plan"], values["item"], study["training"])
        if held is not None and values["n_images"] > held:
            refuse(
                "n_images",
                f"at most {held}: no more images are held out for the plan {values['item']!r}",
            )


def _testing(root: Path) -> list[str]:
    """The reports that say of claims what was found, by dvc.yaml; without the one of them all."""
    files = [
        Path(file)
        for stage in read_pipeline(root)["stages"].values()
        for metric in stage.get("metrics", [])
        for file in metric
    ]
    nouns = [file.parent.name for file in files if file.name == "claims.json"]
    return [noun for noun in nouns if noun != "claims"]


def _count(images: str, root: Path) -> int | None:
    """How many images load_images finds, None where they are still to be fetched."""
    from iaside.inputs.images import count_images

    if not (root / images).exists():
        return None
    try:
        return count_images(root / images)
    except (ValueError, OSError) as error:
        raise UsageError(f"the images at {images!r} cannot be used: {error}") from error


@functools.cache
def _check_labels(images: str, recipe: Path, root: Path) -> None:
    """Refuse images whose labels are not those of a network, where its recipe is there to tell."""
    from iaside.inputs.images import check_labels

    if not recipe.is_file():
        return
    classes = json.loads(recipe.read_text("utf-8"))["num_classes"]
    try:
        check_labels(root / images, classes)
    except (ValueError, OSError) as error:
        raise UsageError(f"the images at {images!r} cannot be used: {error}") from error


def _fewest_held_out(plan: Mapping, item: str, section: Mapping) -> int | None:
    """Held-out images of the networks of a plan, the fewest; None for images still to come."""
    from iaside.inputs.splits import split_size
    from iaside.training.data import complete
    from iaside.training.plans import networks

    shared = {name: value for name, value in section.items() if name != "plans"}
    found = [complete(s, shared) for s in networks({item: plan}).values()]
    sizes = {(s["images"], s["held_out"], str(s["classes"])): s for s in found}
    try:
        return min(split_size(s["images"], s["held_out"], s["classes"])[1] for s in sizes.values())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"training.plans.{item}: {error}") from error


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 for a study that cannot run."""
    parser = argparse.ArgumentParser(prog="python -m iaside.study.check", description=__doc__)
    parser.add_argument("study", nargs="?", help="a file such as studies/caltech101.yaml")
    a = parser.parse_args(argv)
    try:
        root = project_root()
        file = Path(a.study) if a.study else root / "params.yaml"
        check(read_study(file), root)
    except (ValueError, TypeError, OSError) as error:  # whatever it is, nothing was begun
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
