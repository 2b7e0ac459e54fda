"""What notebooks import besides the method: where they are, how they save, how they end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from iaside.backend.files import remove_unused, sweep, write_text
from iaside.study import warm
from iaside.study.parameters import study_values

RUNNER = "IASIDE_RUN"  # set by the runner for its kernels; a notebook opened by hand is without
DAYS = 30  # that something unfinished is kept
_outputs = Path()


def project_root(start: str | Path = ".") -> Path:
    """The nearest folder, from `start` upwards, that holds params.yaml.

    Raises FileNotFoundError when there is none.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "params.yaml").write_text("seed: 0")
    ...     pathlib.Path(folder, "notebooks").mkdir()
    ...     project_root(folder + "/notebooks") == pathlib.Path(folder).resolve()
    True
    """
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if (folder / "params.yaml").exists():
            return folder
    raise FileNotFoundError(
        f"no params.yaml in {start} or any folder above it: start from inside the project, or "
        "run `python -m iaside.study.run --use default` beside studies/default.yaml"
    )


def enter_project(name: str, space: dict) -> Path:
    """Change to the project root, so that a notebook works alike in JupyterLab and in the runner.

    name: of the notebook;  space: its variables. Opened by hand it gets the parameters of
    params.yaml in place of its own (of the first item, where the pipeline runs it for many), and
    ``output`` sends what it writes aside. Errors: UsageError for a study that does not fit.
    """
    global _outputs
    root = project_root()
    os.chdir(root)
    _outputs = Path()
    if RUNNER not in os.environ:
        tidy(root)
        space |= study_values(name, root)
        _outputs = Path(".partial/hand")
        print(
            f"Opened by hand: the parameters are those of params.yaml, and all that is written "
            f"goes to {_outputs}/"
        )
    return root


def end_with(runner: int) -> None:
    """Let the kernel end when its runner does; the runner calls it.

    IPython's own watch is a thread, which a cell that never lets go of the interpreter keeps out.
    """
    warm.end_with(runner, signal.SIGKILL)


def output(path: str | Path) -> Path:
    """Where a notebook writes what belongs at `path`: there, or by hand below .partial/hand.

    >>> output("results/bands/metrics.json").as_posix()
    'results/bands/metrics.json'
    """
    return _outputs / path


def tidy(root: Path) -> None:
    """Remove what killed runs have left in a project, but for what a process has in use.

    Half-written files and folders go at once. What lies in .partial, which is what a measurement
    in progress has, corrupted pictures, a notebook that failed and what was written by hand, goes
    when nothing of it has been written or used for ``DAYS`` days.
    """
    for place in (".", "notebooks", "data", "data/images", "data/weights"):
        sweep(root / place)
    for place in ("results", ".build", ".partial"):
        for folder, _, _ in os.walk(root / place):
            sweep(folder)
    _forget(root / ".partial", time.time() - DAYS * 24 * 3600)


def _forget(folder: Path, before: float) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in ("hand", "results", ".partial"):  # of hand, piece by piece
            _forget(path, before)
        elif _last_used(path) < before:
            remove_unused(path)


def _last_used(path: Path) -> float:
    """When a file, or the last one of those in a folder, was written."""
    latest = 0.0
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished with it
            latest = max(latest, each.lstat().st_mtime)
    return latest


def say(text: str | Iterable[str], between: str = "  \n") -> None:
    """Show Markdown; of several sentences each begins a line."""
    import IPython.display

    text = text if isinstance(text, str) else between.join(text)
    IPython.display.display(IPython.display.Markdown(text))


def answer(text: str | Iterable[str]) -> None:
    """Show what a page found, as `say` does: the first thing that stands on it."""
    say(["**Answer.** " + text] if isinstance(text, str) else ["**Answer.**", *text])


def save_json(path: str | Path, obj) -> None:
    """Write small results (to ``output(path)``) as JSON, the same bytes for the same numbers.

    Keys are sorted, floats rounded to 6 significant digits, NaN and infinities written as null,
    numpy values as plain ones; a reader never sees half a file.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_json(folder + "/metrics.json", {"b": 1 / 3, "a": float("nan")})
    ...     print(pathlib.Path(folder, "metrics.json").read_text(), end="")
    {
     "a": null,
     "b": 0.333333
    }
    """

    def plain(value):
        if hasattr(value, "tolist"):  # numpy scalars and arrays
            value = value.tolist()
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, float):
            return float(f"{value:.6g}") if math.isfinite(value) else None
        return value

    text = json.dumps(plain(obj), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(output(path), text)


def footer(*, n: int, precision: str, device: str = "cpu"):
    """The last output of a report: n, precision, device, versions and commit, as Markdown.

    device: where the numbers were computed. The hardware is that of this machine, and is named
    where torch is loaded: most reports only read tables, which may be from another.

    Only what is the same in an equal run is named: no time and no path.
    """
    from importlib.metadata import PackageNotFoundError, version

    from IPython.display import Markdown

    def installed(name):
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    # Reports that only read tables do without, though the runner may have it imported for them.
    own = [module for name, module in sys.modules.items() if name.startswith("iaside.")]
    torch = next((module.torch for module in own if "torch" in vars(module)), None)
    where = device.partition(":")[0]
    if torch is not None and where == "cpu":
        where += f" ({torch.backends.cpu.get_cpu_capability()})"
    elif torch is not None and where == "cuda" and torch.cuda.is_available():
        where += f" ({torch.cuda.get_device_name(device)})"
    versions = [f"Python {sys.version.split()[0]}"]
    versions += [f"{name} {installed(name)}" for name in ("torch", "torchvision", "timm", "iaside")]
    return Markdown(
        f"---\n*n = {n} · {precision} · {where} · {' · '.join(versions)} · commit {commit()}*"
    )


def commit(*besides: str) -> str:
    """Short commit, and whether anything that decides results, besides some files, differs."""
    # A run itself rewrites results/ and dvc.lock: they say nothing about what was run.
    changed = git(
        "status",
        "--porcelain",
        "-uno",
        "--",
        ".",
        ":!results",
        ":!dvc.lock",
        *(f":!{path}" for path in besides),
    )
    commit = git("rev-parse", "--short=10", "HEAD")
    if commit is None or changed is None:
        return "unknown"
    return commit.strip() + (" + uncommitted changes" if changed.strip() else "")


def git(*words: str, cwd: str | Path | None = None) -> str | None:
    """The output of a git command, or None when git cannot answer."""
    try:
        return subprocess.run(
            ["git", *words], cwd=cwd, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
