"""The root of the clone that holds the package, where data/ is looked for from any folder.

A wheel has no data/ beside it: what is looked for there is then not found.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def find_file(path: Path, what: str) -> Path:
    """The file, looked for here, then in the project's folder (notebooks run elsewhere)."""
    for candidate in (path, PROJECT / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"no {what} file {str(path)!r} (looked in {Path.cwd()} and {PROJECT}). "
        "Put the file there, or correct the path."
    )
