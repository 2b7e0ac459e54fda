"""The command line: iaside report CKPT FOLDER -o card.html, iaside explain CKPT FOLDER."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import iaside as ia
from iaside.backend.engine import installed
from iaside.card.measure import MINUTES, predicted
from iaside.inputs.images import count_images
from iaside.inputs.weights import ENDINGS

PICTURES = 50
EPILOG = """CKPT: weights (.safetensors, .pt, .pth, ...) of --architecture, or with a recipe beside
them (x.json) or in --recipe; a folder saved by timm or transformers; or a network's name (timm's,
torchvision's, or hf-hub:owner/name). FOLDER: one folder per class, a folder with labels.csv, an
.npz, or any pictures with --unlabelled."""
# What messages of the library call an argument, and what it is called here.
HERE = {"classes=": "--classes", "recipe=": "--recipe", "architecture=": "--architecture"}


def parser() -> argparse.ArgumentParser:
    """The two commands and their options."""
    top = argparse.ArgumentParser("iaside", description=__doc__)
    top.add_argument("--version", action="version", version=f"iaside {ia.__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in (("report", "a page on one model"), ("explain", "its bands, as a table")):
        one = commands.add_parser(name, help=what, epilog=EPILOG)
        one.add_argument("ckpt", metavar="CKPT")
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
    report.add_argument("--reference", help="another network, tested on the same pictures")
    report.add_argument("--deployment", help="folder with clean/ and degraded/ pictures")
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


def _loaded(asked: argparse.Namespace) -> tuple:
    """The model, its pictures and their labels; damaged pictures are left out, which is said."""
    model = _model(asked.ckpt, asked)
    total = count_images(asked.folder)
    n = asked.n or (None if total <= PICTURES else PICTURES)
    how = {"n": n, "seed": asked.seed, "skip_unreadable": True}
    if asked.unlabelled:
        return model, ia.load_images(asked.folder, like=model, labels=False, **how), None
    classes = None if asked.classes is None else _classes(asked.classes)
    return model, *ia.load_images(asked.folder, like=model, classes=classes, **how)


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


def _measured(asked: argparse.Namespace, **more) -> ia.Card:
    model, images, labels = _loaded(asked)
    return ia.report(
        model,
        images,
        labels,
        name=model.name,
        n_bands=asked.bands,
        budget=asked.budget,
        engine=asked.engine,
        seed=asked.seed,
        about={"made again by": shlex.join(["iaside", *sys.argv[1:]])},
        **more,
    )


def _report(asked: argparse.Namespace) -> int:
    if Path(asked.out).suffix not in (".html", ".json"):
        raise ValueError(f"-o {asked.out}: a card is saved as .html or .json")
    reference = asked.reference and _model(asked.reference)
    card = _measured(asked, reference=reference, deployment=asked.deployment)
    card.save(asked.out)
    print("\n".join([card.what_was_tested, *card.advice, asked.out]))
    return 0


def _explain(asked: argparse.Namespace) -> int:
    model, images, labels = _loaded(asked)
    if labels is None:
        labels = predicted(model, images)
    found = ia.explain(model, images, labels, n_bands=asked.bands, engine=asked.engine)
    if asked.json:
        print(json.dumps(found.to_frame().to_dict("records"), indent=1))
    else:
        print(found.to_frame().to_csv(index=False) if asked.csv else found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
