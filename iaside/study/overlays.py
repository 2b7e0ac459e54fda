"""The files of studies/: one that is complete, and overlays that hold only what differs.

studies/default.yaml holds every value. Any other is an overlay of it, or of the study that it names
under `base:`: each name that a section holds takes the place of that of the base. A value is
replaced whole, lists, `networks`, `plans`, `models` and `designs` too: what is to go is not listed.
`without: [jafr]` leaves out reports, and what only they need.

`game` holds what measurements share: a section whose notebook declares one of its names has that
value, unless it says another. params.yaml is one of the studies with every value written out, as
DVC has to see it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from iaside.backend.files import replacing
from iaside.study.notebook import git, project_root
from iaside.study.parameters import (
    LARGEST,
    WITHOUT,
    UsageError,
    closest,
    one_line,
    read_notebooks,
    read_pipeline,
    read_sections,
    runs,
)

FOLDER, COMPLETE = "studies", "default"
WHOLE = ("seed", "models", "designs")  # sections that are values
HEADER = """\
# The study `{study}`, every value written out, as `make repro STUDY={study}` does.
# For one of your own write what differs from studies/default.yaml into studies/mine.yaml, as the
# others there do, and run `make repro STUDY=mine`. Or edit this file: no other study takes its
# place then before it is committed.
# sha256 of the rest: {hash}
"""


def study_file(study: str, root: Path) -> Path:
    """The file of a study. Raises UsageError for an unknown one, or one that is in parts."""
    studies = {path.stem: path for path in sorted((root / FOLDER).glob("*.yaml"))}
    if study not in studies:
        if parts := [name for name in studies if name.startswith(f"{study}-")]:
            raise UsageError(f"the study {study!r} is in parts: take one of {', '.join(parts)}")
        raise UsageError(f"no study {study!r} in studies/; {closest(study, studies)}")
    return studies[study]


def read_study(path: Path) -> dict:
    """The sections of a study: of a file in studies/ with all that it does not say itself.

    Errors: FileNotFoundError; UsageError, one line, for what is no study.
    """
    path = path.absolute()
    if path.parent.name != FOLDER:
        return _left_out(read_sections(path))
    root = path.parents[1]
    study: dict = {}
    for layer in reversed(_layers(path, root)):
        study = merged(study, read_sections(layer))
    study.pop("base", None)
    return _left_out(inherited(study, root))


def _left_out(study: dict) -> dict:
    """A study whose claims are not asked of the reports that it leaves out."""
    left, claims = study.get(WITHOUT), study.get("claims")
    if isinstance(left, list) and isinstance(claims, dict) and claims.get("reports"):
        kept = [noun for noun in claims["reports"] if noun not in left]
        study["claims"] = claims | {"reports": kept}
    return study


def read_studies(root: Path) -> dict[str, dict]:
    """Every study of a project, by name."""
    return {path.stem: read_study(path) for path in sorted((root / FOLDER).glob("*.yaml"))}


def _layers(path: Path, root: Path) -> list[Path]:
    """A study's file, that of its base, ... down to the complete one."""
    found = [path]
    while found[-1].stem != COMPLETE:
        base = read_sections(found[-1]).get("base", COMPLETE)
        try:
            found.append(study_file(str(base), root))
        except UsageError as error:
            raise UsageError(f"`base` of {found[-1].name}: {error}") from error
        if found[-1] in found[:-1]:
            raise UsageError(f"`base` of {found[-2].name} is {base!r}, which is based on it")
    return found


def merged(base: Mapping, overlay: Mapping) -> dict:
    """A study and what an overlay puts in its place, value by value.

    >>> base = {"seed": 0, "models": {"a": {}}, "worths": {"n_bands": 8, "values": ["margin"]}}
    >>> merged(base, {"models": {"b": {}}, "worths": {"n_bands": 4}})
    {'seed': 0, 'models': {'b': {}}, 'worths': {'n_bands': 4, 'values': ['margin']}}
    """
    found = dict(base)
    for section, values in overlay.items():
        old = found.get(section)
        by_name = isinstance(old, dict) and isinstance(values, dict | None)
        found[section] = old | (values or {}) if by_name and section not in WHOLE else values
    return found


def inherited(study: dict, root: Path) -> dict:
    """A study whose sections have what they share: `game` itself is gone.

    Errors: UsageError where `game` holds a name that no notebook declares.
    """
    game = study.pop("game", None) or {}
    declared: set[str] = set()
    for notebook, names in _declared(root).items() if game else ():
        noun = notebook.partition("_")[2]
        declared |= names
        if noun in study and isinstance(section := study[noun] or {}, dict):
            study[noun] = {k: v for k, v in game.items() if k in names} | section
    for name in game:
        if name not in declared:
            raise UsageError(
                f"`game` sets {name!r}, which no notebook declares; {closest(name, declared)}"
            )
    return study


def _declared(root: Path) -> dict[str, set[str]]:
    """NN_noun -> what its parameters cell declares and its stage takes from nowhere else."""
    notebooks, found = read_notebooks(root), {}
    for stage in read_pipeline(root)["stages"].values():
        command = stage.get("do", stage)["cmd"]
        if isinstance(command, str) and (a := runs(command)).notebook:
            found[a.notebook] = set(notebooks[a.notebook]) - {name for name, _ in a.take}
    return found


# -- params.yaml -----------------------------------------------------------------------------------


def written_out(path: Path) -> str:
    """The params.yaml of a study: every value, with the comments of its files."""
    root = path.absolute().parents[1]
    comments: dict[tuple, str] = {}
    for layer in reversed(_layers(path.absolute(), root)):
        comments |= _comments(layer.read_text("utf-8"))
    return _headed(path.stem, "\n".join(_lines(read_study(path), comments)) + "\n")


def _headed(study: str, body: str) -> str:
    return HEADER.format(study=study, hash=hashlib.sha256(body.encode()).hexdigest()[:16]) + body


def _comments(text: str) -> dict[tuple, str]:
    """(section, name, ...) -> the comment at the end of its line."""
    found, path = {}, []
    for line in text.splitlines():
        if match := re.match(r"( *)([\w-]+):(?:.*? +(# .*))?", line):
            depth = len(match[1]) // 2
            path = [*path[:depth], match[2]]
            if match[3]:
                found[tuple(path)] = match[3]
    return found


def _lines(values: Mapping, comments: Mapping, path: tuple = ()) -> Iterator[str]:
    """A line for each value; of sections, and of what holds items, one for each of theirs."""
    for name, value in values.items():
        here = (*path, name)
        comment = comments.get(here) or (comments.get(("game", name)) if len(here) == 2 else None)
        parts = list(value.values()) if isinstance(value, dict) else []
        block = parts if not path else len(here) == 2 and any(isinstance(v, dict) for v in parts)
        if not path:
            yield ""
        line = f"{_flow(name)}:" if block else f"{_flow(name)}: {_flow(value)}"
        yield f"{line:<{18 if len(here) == 2 else 0}}   {comment}" if comment else line
        if block:
            yield from (f"  {line}" for line in _lines(value, comments, here))


def _flow(value: object) -> str:
    """A value in one line of YAML 1.2, of which JSON is a part.

    >>> _flow({"methods": ["big", "true", "a b"], "eps": 1e-05, "classes": None})
    '{methods: [big, "true", "a b"], eps: 1e-05, classes: null}'
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(k)}: {_flow(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    word = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value)
    if word and value.lower() not in ("null", "true", "false"):
        return value
    return json.dumps(value, default=str)


def made_of(params: Path) -> str | None:
    """The study that a params.yaml was made of, None where somebody has edited it since."""
    with params.open("rb") as file:
        text = file.read(LARGEST).decode("utf-8", "replace")
    study = re.match("# The study `([^`]+)`", text)
    body = text.partition("\n# sha256 ")[2].partition("\n")[2]
    return study[1] if study and text == _headed(study[1], body) else None


def use(study: str) -> str:
    """Write the params.yaml of a study; returns what was done, in one sentence.

    Refuses (UsageError) when that would lose work: a params.yaml that is neither committed nor as
    it was made of one of the studies.
    """
    root = Path.cwd() if Path(FOLDER).is_dir() else project_root()
    params, file = root / "params.yaml", study_file(study, root)
    try:
        text = written_out(file).encode()
    except UsageError as error:
        raise UsageError(told(error, file)) from error
    if params.exists():
        if params.read_bytes() == text:
            return f"params.yaml is already the study {study!r}."
        tracked = git("ls-files", "params.yaml", cwd=root)
        changes = git("status", "--porcelain", "--", "params.yaml", cwd=root)
        committed = bool(tracked) and changes == ""
        if made_of(params) is None and not committed:
            raise UsageError(
                "params.yaml has edits that are neither committed nor in studies/: they would be "
                "lost. Keep them as a study of their own (cp params.yaml studies/mine.yaml), or "
                "commit them, or drop them (git checkout params.yaml); then try again"
            )
    with replacing(params) as new:
        new.write(text)
    return f"params.yaml is now the study {study!r}."


def told(error: Exception, path: Path | None) -> str:
    """What is wrong with a study, in one line that names the file to correct it in.

    path: what it was read from; of a params.yaml as it was made the study that it was made of.
    """
    if path is None:
        return one_line(error)
    file = path.name if path.absolute().parent.name != FOLDER else f"{FOLDER}/{path.name}"
    with suppress(OSError):
        if path.is_file() and (study := made_of(path)):
            file = f"{FOLDER}/{study}.yaml"
    return one_line(ValueError(f"{error} ({file})"))
