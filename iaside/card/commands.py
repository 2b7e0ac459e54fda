"""The command line: iaside report CKPT FOLDER -o card.html, iaside explain CKPT FOLDER."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import iaside as ia
from iaside.backend.engine import installed
from iaside.card.card import check_ending
from iaside.card.measure import MINUTES
from iaside.inputs.images import count_images
from iaside.inputs.listing import PACKAGED
from iaside.inputs.weights import ENDINGS

PICTURES = 50
EPILOG = """CKPT: weights (.safetensors, .pt, .pth, ...) of --architecture, or with a recipe beside
them (x.json) or in --recipe; a folder saved by timm or transformers; or a network's name (timm's,
torchvision's, or hf-hub:owner/name). Several CKPT are compared on one page. FOLDER: one folder per
class, a folder with labels.csv, an .npz, or any pictures with --unlabelled."""
# What messages of the library call an argument, and what it is called here.
HERE = {"classes=": "--classes", "recipe=": "--recipe", "architecture=": "--architecture"}


def parser() -> argparse.ArgumentParser:
    """The two commands and their options."""
    top = argparse.ArgumentParser("iaside", description=__doc__)
    top.add_argument("--version", action="version", version=f"iaside {ia.__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in (
        ("report", "a page on a model, or on several"),
        ("explain", "its bands, as a table"),
    ):
        one = commands.add_parser(name, help=what, epilog=EPILOG)
        one.add_argument("ckpt", metavar="CKPT", nargs="+" if name == "report" else None)
        one.add_argument("folder", metavar="FOLDER")
        one.add_argument(
            "--architecture",
            help="of timm or torchvision: its recipe is taken, for the classes, channels and size "
            "of the weights",
        )
        one.add_argument("--recipe", help="JSON file that says what the network is")
        one.add_argument("--factory", help="who builds an architecture of one's own: nets.py:build")
        one.add_argument("-n", type=int, help=f"pictures (up to {PICTURES})")
        one.add_argument("--bands", type=int, default=8, help="bands (8)")
        one.add_argument("--seed", type=int, default=0, help="draws the pictures (0)")
        one.add_argument("--unlabelled", action="store_true", help="take the model's own classes")
        one.add_argument(
            "--classes",
            help="which label a class folder has: 'numbers' (its name), 'words' (its place in "
            "sorted order), names in the network's order (cat,dog,fox), or a JSON file with a list "
            "of them or a dict from name to label",
        )
        one.add_argument("--engine", default=_engine(), help=f"who answers ({_engine()})")
    report, explain = commands.choices["report"], commands.choices["explain"]
    report.add_argument("-o", "--out", default="card.html", help="page (.html) or numbers (.json)")
    report.add_argument("--budget", type=float, default=MINUTES, help=f"minutes ({MINUTES:g})")
    beside = report.add_mutually_exclusive_group()
    beside.add_argument(
        "--reference",
        help="a network to compare with under the same perturbations (one at hand that fits)",
    )
    beside.add_argument("--no-reference", action="store_true", help="compare with none")
    report.add_argument(
        "--deployment", help="folder of degraded pictures, or with clean/ and degraded/"
    )
    explain.add_argument("--json", action="store_true", help="all numbers as JSON")
    explain.add_argument("--csv", action="store_true", help="the table as CSV")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 with a line on what is wrong."""
    asked = parser().parse_args(argv)
    with warnings.catch_warnings(), _in_a_line():
        try:
            return {"report": _report, "explain": _explain}[asked.command](asked)
        except (ValueError, TypeError, OSError, ImportError) as error:
            print(f"iaside {asked.command}: {error}", file=sys.stderr)
            if options := [option for name, option in HERE.items() if name in str(error)]:
                print(f"(here: {', '.join(options)}; see iaside --help)", file=sys.stderr)
            return 2


@contextlib.contextmanager
def _in_a_line() -> Iterator[None]:
    """Inside, a warning is a line that says it, and not where in the library it comes from."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _engine() -> str:
    """OpenVINO where it is installed: faster on a CPU."""
    return "openvino" if "openvino" in installed() else "torch"


def _model(ckpt: str, asked: argparse.Namespace | None = None) -> ia.Classifier:
    """What CKPT and the options beside it name; without these a file with its recipe, or a name."""
    how = {key: getattr(asked, key, None) for key in ("recipe", "factory", "architecture")}
    path = Path(ckpt)
    if path.exists() or path.suffix in ENDINGS:
        name = path.name.removesuffix(".tar").removesuffix(path.suffix).removesuffix(".pth")
        return ia.load_model(name, weights=path, **how)
    return ia.load_model(ckpt, **how)


def _loaded(model: ia.Classifier, asked: argparse.Namespace) -> tuple:
    """Images, labels and the mapping of classes, the last two None where they are not wanted.

    Damaged pictures are left out, which is said.
    """
    classes = None if asked.classes is None else _classes(asked.classes)
    like, labels = (None, False) if asked.unlabelled else (model, True)
    folder = asked.folder
    if folder in PACKAGED and Path(folder).exists():  # what lies here comes before that set
        folder = os.path.abspath(folder)
    total = count_images(folder, like, classes, labels)
    n = asked.n or (None if total <= PICTURES else PICTURES)
    how = {"like": model, "n": n, "seed": asked.seed, "skip_unreadable": True}
    if asked.unlabelled:
        return ia.load_images(folder, labels=False, **how), None, None
    return ia.load_images(folder, classes=classes, return_classes=True, **how)


def _classes(said: str) -> str | list | dict:
    """What --classes says, as ``load_images`` takes it."""
    if said in ("numbers", "words"):
        return said
    if not said.endswith(".json"):
        return said.split(",")
    try:
        return json.loads(Path(said).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--classes {said} is not JSON: {error}") from error


def _report(asked: argparse.Namespace) -> int:
    check_ending(Path(asked.out))
    models = dict(zip(_names(asked.ckpt), (_model(c, asked) for c in asked.ckpt), strict=True))
    reference = _model(asked.reference) if asked.reference else None
    loaded = {name: _loaded(model, asked) for name, model in models.items()}
    images = {name: found[0] for name, found in loaded.items()}
    _, labels, classes = next(iter(loaded.values()))
    if labels is not None and any(not labels.equal(found[1]) for found in loaded.values()):
        raise ValueError("the networks number the classes differently: make a card for each")
    about = {"made again by": shlex.join(["iaside", *sys.argv[1:]])}
    if classes and all(name == str(label) for name, label in classes.items()):
        classes = None  # labels without names
    if classes:
        about["classes"] = _mapping(classes)
    name, *others = models
    card = ia.report(
        models if others else models[name],
        images if others else images[name],
        labels,
        name=None if others else name,
        n_bands=asked.bands,
        reference=False if asked.no_reference else reference,
        deployment=asked.deployment,
        classes=classes,
        budget=asked.budget,
        engine=asked.engine,
        seed=asked.seed,
        about=about,
    )
    card.save(asked.out)
    print("\n".join([str(card), asked.out]))
    return 0


def _names(ckpts: Sequence[str]) -> list[str]:
    """What a page calls models: the names of their files, with folders where these are equal."""
    paths = map(Path, ckpts)
    stems = [path.stem if path.is_file() else path.name for path in paths]
    if len(set(ckpts)) < len(ckpts):
        raise ValueError(f"a checkpoint is given twice: {', '.join(ckpts)}; give different ones")
    return stems if len(set(stems)) == len(stems) else list(ckpts)


def _mapping(classes: Mapping[str, int]) -> str:
    """Names of classes and their labels, the first six."""
    shown = [f"{name} = {label}" for name, label in classes.items()]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:6], f"{len(shown)} in all"])


def _explain(asked: argparse.Namespace) -> int:
    model = _model(asked.ckpt, asked)
    images, labels, _ = _loaded(model, asked)
    labels = "predicted" if labels is None else labels
    found = ia.explain(model, images, labels, n_bands=asked.bands, engine=asked.engine)
    if asked.json:
        print(json.dumps(found.to_frame().to_dict("records"), indent=1))
    else:
        print(found.to_frame().to_csv(index=False) if asked.csv else found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
