"""Sections, keys and paths of a study, for which no library is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from iaside.study.parameters import (
    SHARED,
    WITHOUT,
    UsageError,
    check_plain,
    closest,
    image_sources,
    read_pipeline,
    read_yaml,
)

PROJECT = Path(__file__).resolve().parents[2]
# iaside.inputs.images downloads these into data/images/<name>
DOWNLOADABLE = ("caltech101", "stl10", "cifar10", "cifar100", "svhn", "tiny_imagenet")
DESIGN = ("family", "training")  # what `designs` may say of a network


def check_sections(study: Mapping, notebooks: Mapping, own: Collection[str] = ()) -> None:
    """Refuse a study with a section too few or too many, and keys that can name no file.

    notebooks: those that a stage runs, each of which needs its section;  own: sections that there
    may be besides, of notebooks that no stage runs.
    """
    nouns = {name.partition("_")[2]: name for name in notebooks}
    for section in study:
        if section not in (*SHARED, WITHOUT, *nouns, *own):
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
    for section, items in items_of(study):
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


def items_of(study: Mapping) -> Iterator[tuple[str, Mapping]]:
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


def reports_testing(root: Path) -> list[str]:
    """The reports that say of claims what was found, in the order of dvc.yaml."""
    deps = read_pipeline(root)["stages"].get("claims", {}).get("deps", [])
    return [Path(dep).parent.name for dep in deps if Path(dep).name == "claims.json"]


def reports_listed(root: Path) -> list[str]:
    """All reports but the one of the claims, in the order in which the page of them is read."""
    deps = map(Path, read_pipeline(root)["stages"]["index"]["deps"])
    nouns = [dep.parent.name for dep in deps if dep.name == "report.html"]
    return [noun for noun in nouns if noun != "claims"]


def reports_asked(study: Mapping, root: Path) -> list[str]:
    """The reports that a study is to make, [] where these are all of them.

    Either those named under `claims`, or all but those named under `without`.
    """
    asked, left = (study.get("claims") or {}).get("reports") or [], study.get(WITHOUT) or []
    if not set(reports_testing(root)) <= {*asked, *left}:
        return list(asked)
    return [noun for noun in reports_listed(root) if noun not in left] if left else []


def check_key(where: str, key: object) -> None:
    """Refuse a key that cannot name a stage and its files."""
    if not isinstance(key, str) or not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_-]*", key):
        raise UsageError(
            f"the key {key!r} under `{where}` becomes the name of files and stages: use only "
            "letters, digits, _ and - (not first). The `name` of a model may hold anything, as "
            "resnet18.a1_in1k."
        )
