"""Can this study run? Asked before anything long: python -m iaside.study.check [params.yaml].

`make plan`, `make repro` and the stage `data` ask. What is wrong is said in one line: the value,
the rule, what to do. First come sections, keys and paths, which takes no library; then every
parameter of every stage against the rules of the modules that take it.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from iaside.study.check_trainings import check_mend, check_profiles, check_training, images_held
from iaside.study.notebook import project_root
from iaside.study.overlays import read_study, told
from iaside.study.parameters import (
    WITHOUT,
    UsageError,
    closest,
    command_values,
    commands,
    placed,
    read_notebooks,
    read_pipeline,
    runs,
)
from iaside.study.place import check_lock, check_place
from iaside.study.sections import (
    TRAINED,
    check_designs,
    check_paths,
    check_sections,
    in_data,
    items_of,
    packaged_files,
    reports_listed,
    reports_testing,
    study_models,
    to_be_trained,
)
from iaside.study.values import check_value, rules

# what must be as in `worths`, where tables of two sections are compared
SAME = {
    "robustness": ("n_bands", "metric"),
    "rivals": ("n_bands", "metric"),
    "match": ("metric",),
    "resolution": ("images", "n_images", "metric", "precision", "engine"),
}
COARSE = {
    "spacing": "linear", "players": "fourier", "absence": "zero", "values": "log_likelihood",
}  # fmt: skip
PLAYED = ("worths", "player_worths")  # sections whose players need not be bands
RADIAL = ("match", "resolution_report")  # reports that take players for bands of the spectrum
SCORED = ("correlation", "rivals_report", "architecture")  # for players from low to high


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
    _check_left_out(study, root)
    check_place(root)
    check_paths(study, root)
    values = {
        stage: (
            runs(command).notebook.partition("_")[2],
            command_values(command, notebooks, dict(study)),
        )
        for stage, command in commands(pipeline, study)
    }
    ruled = rules()
    for section, parameters in values.values():
        for name, value in parameters.items():
            where = placed(section, name)
            check_value(where, value, ruled.get(where, ruled.get(name)))
    check_value("runtime.workers", (study["runtime"] or {}).get("workers"), ruled["workers"])
    check_training(study["training"])
    _check_networks(study, root)
    count = functools.cache(functools.partial(_count, root=root))  # stages share images
    images_held.cache_clear()
    for section, parameters in values.values():
        _check_together(section, parameters, study, root, count)


def _check_left_out(study: Mapping, root: Path) -> None:
    """Refuse to leave out what is no report."""
    left, reports = study.get(WITHOUT) or [], reports_listed(root)
    if not isinstance(left, list):
        raise UsageError(f"`{WITHOUT}` is {left!r}, but must be a list of reports, as [jafr]")
    if wrong := [noun for noun in left if noun not in reports]:
        raise UsageError(
            f"`{WITHOUT}` holds {wrong[0]!r}, which is no report; {closest(wrong[0], reports)} "
            "What only a report needs is not measured without it."
        )


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
    for section, items in [("models", made), *items_of(study)]:
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
        classless = recipe.is_file() and not read_recipe(recipe, own)["num_classes"]
        if classless and not where.startswith("embedding_worths."):
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
    if section in PLAYED and values["n_bands"] < MIN_BANDS:
        why = "the controls have no sample" if section == "worths" else "none is above the lowest"
        refuse("n_bands", f"{MIN_BANDS} or more: of fewer bands {why}")
    if section in PLAYED:
        _check_players(section, values, study, root)
    for name in ("transformers", "ours"):
        if wrong := [m for m in values.get(name, ()) if m not in study["models"]]:
            refuse(
                name,
                f"names of `models`: {wrong[0]!r} is none; {closest(wrong[0], study['models'])}",
            )
    if section == "attributions" and values["precision"] != "float32":
        if "deeplift" in values["methods"]:
            refuse("precision", "float32 where methods name deeplift, which adds up in no other")
    if section == "player_worths":
        cells = (values["n_bands"] - 1) * values["grid"] ** 2
        if not MIN_BANDS <= cells <= MAX_BANDS:
            refuse(
                "grid", f"such that {values['n_bands'] - 1} * grid**2 is {MIN_BANDS} to {MAX_BANDS}"
            )
        if values["budget"] < (least := passes_per_image(cells)):
            refuse("budget", f"at least {least} for {cells} cells")
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
    if section == "rivals" and values["noise_sd"] != sorted(values["noise_sd"]):
        refuse("noise_sd", "in rising order: thresholds are looked for between them")
    if section == "robustness" and values["published"]:
        _check_published(values["published"], values["images"], values["n_images"], root)
    same = list(SAME.get(section, ()))
    if section in ("robustness", "rivals") and values["n_images"] == study["worths"]["n_images"]:
        same.append("images")
    for name in same:
        if values[name] != (of_worths := study["worths"][name]):
            refuse(name, f"{of_worths!r}, as in `worths`: their tables are compared")
    if section == "resolution_report" and section in study["claims"]["reports"]:
        for name, needed in COARSE.items():
            found = study["worths"][name]
            if (found[0] if isinstance(found, list) else found) != needed:
                raise UsageError(
                    f"worths.{name} is {found!r}, but must be {needed} (of several the first), "
                    "where bands nest: correct it, or leave resolution_report out of claims.reports"
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
        testing = reports_testing(root)
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
    if section == "mend":
        check_mend(values, study["training"])
    if section == "profiles":
        check_profiles(values, study["training"])


def _check_players(section: str, values: Mapping, study: Mapping, root: Path) -> None:
    """Refuse players that images are too small for, or that a report could not read."""
    from iaside.game.players import players_of

    players = values.get("players", "wavelet")
    recipe = root / (values["model"].get("recipe") or "")
    if players != "fourier" and recipe.is_file():
        size = tuple(json.loads(recipe.read_text("utf-8"))["input_size"][-2:])
        try:
            players_of(players, values["n_bands"], size, wavelet=values["wavelet"])
        except (ValueError, ModuleNotFoundError) as error:
            raise UsageError(
                f"{section}.n_bands is {values['n_bands']}, for {players} players of "
                f"{recipe.stem}: {error} (levels are n_bands - 1)"
            ) from error
    unread = RADIAL if players == "wavelet" else (*RADIAL, *SCORED)
    asked = [noun for noun in study["claims"]["reports"] if noun in unread]
    if section == "worths" and players != "fourier" and asked:
        raise UsageError(
            f"worths.players is {players!r}, but must be fourier for {', '.join(asked)}: correct "
            "it, or leave these out of claims.reports"
        )


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


@functools.cache
def _check_published(folder: str, images: str, n: int, root: Path) -> None:
    """Refuse published corruptions that are not there, or not of these photographs."""
    from iaside.inputs.corrupted_sets import corrupted_set

    try:
        corrupted_set(root / folder, root / images if (root / images).exists() else images, n)
    except (ValueError, OSError) as error:
        raise UsageError(f"robustness.published is {folder!r}: {error}") from error


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 for a study that cannot run."""
    parser = argparse.ArgumentParser(prog="python -m iaside.study.check", description=__doc__)
    parser.add_argument("study", nargs="?", help="a file such as studies/caltech101.yaml")
    a = parser.parse_args(argv)
    file = Path(a.study) if a.study else None
    try:
        root = project_root()
        file = file or root / "params.yaml"
        check(read_study(file), root)
    except (ValueError, TypeError, OSError) as error:  # whatever it is, nothing was begun
        print(f"error: {told(error, file)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
