"""The command line: iaside report CKPT FOLDER -o card.html, iaside explain CKPT FOLDER."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import iaside as ia
from iaside.backend.engine import installed
from iaside.card.measure import MINUTES, predicted
from iaside.inputs.images import count_images
from iaside.inputs.libraries import recipe_of
from iaside.inputs.recipes import saved_by_timm
from iaside.inputs.weights import read_state

PICTURES = 50
EPILOG = """CKPT: weights (.safetensors, .pt, .pth, ...) with a recipe beside them (x.json) or in
--recipe, or a network's name (timm or torchvision). FOLDER: one folder per class, a folder with
labels.csv, or any pictures with --unlabelled."""


def parser() -> argparse.ArgumentParser:
    """The two commands and their options."""
    top = argparse.ArgumentParser("iaside", description=__doc__)
    top.add_argument("--version", action="version", version=f"iaside {ia.__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in (("report", "a page on one model"), ("explain", "its bands, as a table")):
        one = commands.add_parser(name, help=what, epilog=EPILOG)
        one.add_argument("ckpt", metavar="CKPT")
        one.add_argument("folder", metavar="FOLDER")
        one.add_argument("--architecture", help="of timm or torchvision; its recipe is taken")
        one.add_argument("--recipe", help="JSON file that says what the network is")
        one.add_argument("--factory", help="who builds an architecture of one's own: nets.py:build")
        one.add_argument("-n", type=int, help=f"pictures (up to {PICTURES})")
        one.add_argument("--bands", type=int, default=8, help="bands (8)")
        one.add_argument("--seed", type=int, default=0, help="draws the pictures (0)")
        one.add_argument("--unlabelled", action="store_true", help="take the model's own classes")
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
    try:
        return {"report": _report, "explain": _explain}[asked.command](asked)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"iaside {asked.command}: {error}", file=sys.stderr)
        return 2


def _engine() -> str:
    """OpenVINO where it is installed: faster on a CPU."""
    return "openvino" if "openvino" in installed() else "torch"


def _model(ckpt: str, asked: argparse.Namespace | None = None) -> ia.Classifier:
    """What CKPT and the options beside it name; without these a file with its recipe, or a name."""
    recipe, factory, architecture = (
        getattr(asked, option, None) for option in ("recipe", "factory", "architecture")
    )
    path = Path(ckpt)
    if path.is_dir():
        path, recipe = saved_by_timm(path)
    if not path.is_file():
        return ia.load_model(ckpt, recipe=recipe, factory=factory)
    if architecture is not None:
        recipe = recipe_of(architecture) | {"num_classes": _classes(read_state(path))}
    return ia.load_model(path.stem, weights=path, recipe=recipe, factory=factory)


def _classes(state: dict) -> int:
    """How many classes weights are for: as many as their last vector has entries."""
    vectors = [len(tensor) for tensor in state.values() if tensor.ndim == 1]
    return vectors[-1] if vectors else 0


def _loaded(asked: argparse.Namespace) -> tuple:
    model = _model(asked.ckpt, asked)
    n = asked.n or min(PICTURES, count_images(asked.folder))
    loaded = ia.load_images(
        asked.folder, like=model, n=n, seed=asked.seed, labels=not asked.unlabelled
    )
    return model, *((loaded, None) if asked.unlabelled else loaded)


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
