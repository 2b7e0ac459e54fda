"""The clone that holds the package, where data/ and architectures/ are looked for from any folder.

A package that was installed from a wheel has none: it looks in the current folder alone, and its
messages name nothing of a clone.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CLONE = not any(PROJECT.glob("iaside-*.dist-info"))  # which pip puts beside an installed package


def places(path: Path, inside: str = "") -> list[Path]:
    """Where a path may be meant: from here, then in the clone (notebooks run elsewhere)."""
    return [path, PROJECT / inside / path] if CLONE else [path]


def looked() -> str:
    """Where that is, in words."""
    return f"looked in {Path.cwd()}" + (f" and {PROJECT}" if CLONE else "")


def find_file(path: Path, what: str, folders: bool = False) -> Path:
    """The file, or a folder where these will do. Errors: FileNotFoundError."""
    for candidate in places(path):
        if candidate.is_file() or (folders and candidate.is_dir()):
            return candidate
    raise FileNotFoundError(
        f"no {what} file {str(path)!r} ({looked()}). Put the file there, or correct the path."
    )
