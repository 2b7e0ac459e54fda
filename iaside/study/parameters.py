"""From params.yaml and the command line to the parameters of one notebook, strictly."""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import functools
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from iaside.backend.files import as_object, reading

# the sections of params.yaml that belong to no notebook; the last one is spread
SHARED = ("seed", "models", "designs", "runtime")
WITHOUT = "without"  # beside them: reports that are left out
RUNTIME = ("device", "batch_size", "workers")  # what may stand under `runtime`
LARGEST = 1_000_000  # bytes of a study; studies/paper-jafr.yaml has 20,000
DEEPEST = 32  # levels of lists and mappings inside each other
MOST = 100_000  # entries that aliases may stand for


class UsageError(ValueError):
    """Something is wrong with the request; it is reported in one line before any kernel starts."""


def one_line(error: Exception, most: int = 800) -> str:
    """What an error says, for a terminal: in one line, and of a very long one both ends.

    >>> one_line(ValueError("no\\n  such thing")), len(one_line(ValueError("x" * 10**6)))
    ('no such thing', 800)
    """
    said = " ".join(str(error).split())
    half = most // 2
    return said if len(said) <= most else f"{said[: half - 5]} ... {said[-half:]}"


def read_yaml(text: str, name: str):
    """Parse YAML 1.2, as DVC does: 1e-3 is a number, yes and on are words.

    Depth, and what aliases stand for, are bounded: no text can take all memory, or never end.
    Raises UsageError, with `name` for where the text is from.

    >>> read_yaml("[1e-3, yes, null, 007]", "an example")
    [0.001, 'yes', None, 7]
    """
    try:
        return copy.deepcopy(_parsed(text))
    except Exception as error:  # of tags and numbers that are none it has a dozen kinds
        raise UsageError(f"{name} is not YAML: {_of_yaml(error)}") from error


@functools.lru_cache(16)
def _parsed(text: str):
    """What a text stands for; a study and those below it are asked for many times in a process."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = DEEPEST
    constructor, _ = yaml.get_constructor_parser(text)
    node = constructor.composer.get_single_node()
    _refuse_swollen(node)
    return None if node is None else constructor.construct_document(node)


def _refuse_swollen(node) -> None:
    """Refuse an alias inside what it stands for, and aliases of aliases that grow without bound."""
    sizes: dict[int, int | None] = {}  # of what has been counted; None while it is

    def size(node) -> int:
        if id(node) in sizes:
            if sizes[id(node)] is None:
                raise ValueError("an alias (*name) stands inside what it is the name of")
            return sizes[id(node)]
        sizes[id(node)] = None
        parts = node.value if isinstance(node.value, list) else []
        flat = (part for item in parts for part in (item if isinstance(item, tuple) else (item,)))
        sizes[id(node)] = 1 + sum(map(size, flat))
        return sizes[id(node)]

    if node is not None and size(node) - len(sizes) > MOST:
        raise ValueError(f"its aliases (*name) stand for more than {MOST:,} entries; write fewer")


def _of_yaml(error: Exception) -> str:
    """What is wrong with a YAML text, where, and what to do, in one line."""
    if isinstance(error, RecursionError) or type(error).__name__ == "MaxDepthExceededError":
        return f"it is nested deeper than {DEEPEST} levels; a study has five"
    if type(error).__name__ == "ReaderError":
        return (
            f"it holds the character U+{error.character:04X}, which no text has; save it as "
            "text in utf-8"
        )
    words = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    remedy = ": indent with spaces" if "\\t" in words else "; correct it"
    if "duplicate key" in words:
        remedy = "; leave one of them out"
    return words + (f" (line {mark.line + 1}, column {mark.column + 1})" if mark else "") + remedy


def read_sections(path: Path) -> dict:
    """The sections of a params.yaml, whatever lies there.

    Errors: FileNotFoundError; UsageError, one line, for what is no study.
    """
    remedy = "`make repro STUDY=default` writes a params.yaml where there is none"
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is {'a folder' if path.is_dir() else 'no file'}: {remedy}")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: {remedy}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; make it readable") from error
    if len(content) > LARGEST:
        raise UsageError(f"{path} has more than {LARGEST:,} bytes, which no study needs: {remedy}")
    try:
        study = read_yaml(content.decode("utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not text in utf-8 (byte {error.start + 1} cannot be): save it as utf-8"
        ) from error
    if not isinstance(study, dict):
        what = "is empty" if study is None else f"holds a {type(study).__name__}"
        raise UsageError(f"{path} {what}, and no sections `name: ...`: {remedy}")
    return study


def read_parameters(notebook: dict, name: str) -> dict:
    """Names and literal defaults of the cell tagged `parameters`."""
    cells = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise UsageError(f"{name} has {len(cells)} cells tagged `parameters`, it needs exactly one")
    defaults = {}
    try:
        for line in ast.parse("".join(cells[0]["source"])).body:
            if isinstance(line, ast.Assign) and len(line.targets) == 1:
                defaults[line.targets[0].id] = ast.literal_eval(line.value)
            elif not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):
                raise ValueError(f"line {line.lineno} is not `name = literal`")
    except (SyntaxError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{name}: the parameters cell may hold only lines `name = literal`: {error}"
        ) from error
    return defaults


def closest(name: str, known) -> str:
    """A hint at the end of an error: the name that was probably meant, or all there are."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(known) or 'none'}"


def _take(params: dict, path: str):
    """The value at a dotted path; names in params.yaml may hold dots themselves."""
    value, rest = params, path
    while rest:
        if not isinstance(value, dict):
            raise UsageError(f"--take {path}: nothing lies below {path.removesuffix('.' + rest)}")
        fits = [str(key) for key in value if rest == str(key) or rest.startswith(f"{key}.")]
        if not fits:
            raise UsageError(f"--take {path}: the study has no {rest!r}; {closest(rest, value)}")
        key = max(fits, key=len)
        value, rest = value[key], rest[len(key) + 1 :]
    return value


def placed(noun: str, name: str) -> str:
    """Where in params.yaml a parameter of a notebook stands.

    >>> placed("worths", "n_bands"), placed("worths", "workers"), placed("worths", "seed")
    ('worths.n_bands', 'runtime.workers', 'seed')
    """
    if name in SHARED:
        return name
    return f"{'runtime' if name in RUNTIME else noun}.{name}"


def check_plain(where: str, value) -> None:
    """Refuse what no notebook can be given as a literal: dates, bytes, NaN and infinity."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_plain(f"{where}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            check_plain(where, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} is {value}, but every number must be finite: correct it")
    elif not isinstance(value, str | int | float | None):
        raise UsageError(f"{where}: {value!r} is no plain value; quote it if it is text")


def _check_type(where: str, value, default) -> None:
    """Refuse a value of another kind than the literal default; a default of None takes all."""
    check_plain(where, value)
    if default is None or type(value) is type(default):
        return
    if type(default) is float and type(value) is int:
        return
    if value is None:
        raise UsageError(
            f"{where} is null, but the notebook's parameters cell has {type(default).__name__}; "
            f"give one, such as {default!r}"
        )
    raise UsageError(
        f"{where}: {value!r} is {type(value).__name__}, but the notebook's parameters cell has "
        f"{type(default).__name__} ({default!r})"
    )


def resolve_parameters(
    noun: str,
    defaults: dict,
    params: dict,
    nouns: list[str],
    item: str | None = None,
    take: dict[str, str] | None = None,
    given: dict | None = None,
) -> dict:
    """What the notebook's parameters cell is to be set to; every name exactly, every type checked.

    noun: section of `params`;  defaults: the notebook's own names;  nouns: all notebooks';
    take: name -> dotted path in `params`;  given: name -> value, wins over everything.
    `networks` and `plans` of a section and what all share are passed only to a notebook that
    declares them.
    Raises UsageError (a ValueError) for whatever is unknown, missing or of another type.

    >>> resolve_parameters("bands", {"seed": 1, "n_bands": 4}, {"seed": 0, "bands": {"n_bands": 8}},
    ...                    ["bands"])
    {'seed': 0, 'n_bands': 8}
    """
    take, given = take or {}, given or {}
    for section in params:
        if section not in (*SHARED, WITHOUT, *nouns):
            raise UsageError(
                f"the study: no notebook is called {section!r}; {closest(section, nouns)}"
            )
    if noun not in params:
        raise UsageError(f"the study has no section {noun!r} (it may be empty: `{noun}: {{}}`)")
    section, runtime = params[noun] or {}, params.get("runtime") or {}
    for name, value in ((noun, section), ("runtime", runtime)):
        if not isinstance(value, dict):
            raise UsageError(f"the study: {name} must hold `name: value` lines, got {value!r}")
    if unknown := [name for name in runtime if name not in RUNTIME]:
        raise UsageError(
            f"the study: `runtime` sets {unknown[0]!r}, which nothing reads; "
            f"{closest(unknown[0], RUNTIME)}"
        )
    # These are the items that DVC runs a notebook for, one by one.
    items = ("networks", "plans")
    section = {k: v for k, v in section.items() if k not in items or k in defaults}
    # What belongs to all notebooks is passed only to those that ask for it.
    shared = {name: value for name, value in params.items() if name in SHARED[:-1]} | runtime
    values = {name: value for name, value in shared.items() if name in defaults}
    sources = {name: "the study" for name in values}
    more = {noun: section, "--take": {name: _take(params, path) for name, path in take.items()}}
    if item is not None:
        more["--item"] = {"item": item}
    for source, new in more.items():
        for name in new:
            if name in sources and not (source == "--take" and name == "models"):
                raise UsageError(f"{name} is set twice: by {sources[name]} and by {source}")
            sources[name] = source
        values |= new
    values |= given
    for name in values:
        if name not in defaults:
            raise UsageError(
                f"{sources.get(name, '-p')} sets {name!r}, which the parameters cell of the "
                f"notebook {noun!r} does not declare; {closest(name, defaults)}"
            )
    unset = [name for name in defaults if name not in values]
    if missing := [name for name in unset if name in RUNTIME]:
        raise UsageError(
            f"the study: `runtime` lacks {missing[0]!r}, which the notebook {noun!r} declares: "
            "copy the line from studies/default.yaml"
        )
    if unset:
        raise UsageError(
            f"the notebook {noun!r} declares {', '.join(unset)}, which nothing sets: add it to the "
            f"section {noun!r} of the study (there is: {', '.join(section) or 'nothing'}), "
            f"or give -p {unset[0]} VALUE"
        )
    for name, value in values.items():
        _check_type(placed(noun, name), value, defaults[name])
    return {name: values[name] for name in defaults}


# -- what the pipeline runs notebooks with ---------------------------------------------------------


@functools.cache
def command_line(description: str | None = None) -> argparse.ArgumentParser:
    """What the runner understands."""
    parser = argparse.ArgumentParser(prog="python -m iaside.study.run", description=description)
    parser.add_argument("notebook", nargs="?", metavar="NN_noun", help="the notebook to run")
    parser.add_argument("--item", help="run for this item; names the report, sets `item`")
    parser.add_argument(
        "--take",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "PATH"),
        help="set NAME to what params.yaml holds at the dotted PATH",
    )
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "YAML"),
        help="set NAME to a value, over everything else",
    )
    parser.add_argument("--params", default="params.yaml", help="another file of parameters")
    parser.add_argument("--notebooks", default=".build/notebooks", help="where notebooks lie")
    parser.add_argument("--strip", nargs=2, metavar=("SRC", "DST"), help="copy without outputs")
    parser.add_argument(
        "--code-hashes", nargs=2, metavar=("SRC", "DST"), help="hash the code notebooks import"
    )
    parser.add_argument("--index", action="store_true", help="write results/index.html")
    parser.add_argument(
        "--prune", action="store_true", help="remove results that only an earlier study made"
    )
    parser.add_argument(
        "--record", nargs=2, metavar=("NAME", "TITLE"), help="keep this run in results/recorded"
    )
    parser.add_argument(
        "--factories", nargs=2, metavar=("PATH", "DST"), help="hash the code that builds networks"
    )
    parser.add_argument(
        "--digest", nargs="+", metavar=("OUT", "FILE"), help="write the hashes of these files"
    )
    parser.add_argument(
        "--use", metavar="STUDY", help="write the params.yaml of studies/STUDY.yaml"
    )
    return parser


def values_given(a: argparse.Namespace) -> dict:
    """What -p sets, as values. Raises UsageError for what is not YAML."""
    return {name: read_yaml(value, f"-p {name}") for name, value in a.p}


def commands(pipeline: Mapping, params: Mapping) -> Iterator[tuple[str, str]]:
    """Stage and command line of every run of a notebook, in the order of dvc.yaml.

    pipeline: dvc.yaml as read;  Errors: UsageError where the params lack what a stage is run for.

    >>> each = {"cmd": "python -m iaside.study.run 20_a --item ${key}"}
    >>> pipeline = {"stages": {"a": {"foreach": "${models}", "do": each}}}
    >>> list(commands(pipeline, {"models": {"x": {}}}))
    [('a@x', 'python -m iaside.study.run 20_a --item x')]
    """
    for name, stage in pipeline["stages"].items():
        command = stage.get("do", stage)["cmd"]
        if not isinstance(command, str) or runs(command).notebook is None:
            continue
        if "foreach" not in stage:
            yield name, command
            continue
        path = str(stage["foreach"]).strip("${}")
        items = _take(params, path)
        if not isinstance(items, dict) or not items:
            raise UsageError(f"the study: {path} must hold `key: ...` lines, got {items!r}")
        for key in items:
            yield f"{name}@{key}", command.replace("${key}", str(key))


def runs(command: str) -> argparse.Namespace:
    """What a stage's command line asks of the runner; its `notebook` is None for any other."""
    words = shlex.split(command)
    asked = words[words.index("iaside.study.run") + 1 :] if "iaside.study.run" in words else []
    return command_line().parse_args(asked)


def command_values(command: str, notebooks: Mapping[str, dict], params: dict) -> dict:
    """The parameters that a stage's command line runs its notebook with.

    notebooks: NN_noun -> the defaults of its parameters.  Errors: UsageError of the runner.
    """
    a = runs(command)
    noun = a.notebook.partition("_")[2]
    # Sections may also belong to a notebook that no stage runs; study.check_sections knows those.
    return resolve_parameters(
        noun, notebooks[a.notebook], params, [noun, *params], a.item, dict(a.take), values_given(a)
    )


def study_values(name: str, root: Path) -> dict:
    """The parameters of a notebook in the study: of its first item, where DVC runs it for many.

    name: NN_noun;  root: the project.  Errors: UsageError.
    """
    params, pipeline = read_sections(root / "params.yaml"), read_pipeline(root)
    for _, command in commands(pipeline, params):
        if runs(command).notebook == name:
            return command_values(command, read_notebooks(root), params)
    raise UsageError(f"no stage of dvc.yaml runs the notebook {name!r}")


def read_pipeline(root: Path) -> dict:
    """dvc.yaml, whose every stage has a command. Errors: FileNotFoundError, UsageError."""
    found = read_yaml((root / "dvc.yaml").read_text("utf-8"), "dvc.yaml")
    stages = found.get("stages") if isinstance(found, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else [None]:
        each = stage.get("do", stage) if isinstance(stage, dict) else None
        if not isinstance(each, dict) or "cmd" not in each:
            raise UsageError(
                f"dvc.yaml: {stage!r} is no stage, `{{cmd: ..., deps: ..., outs: ...}}`: get the "
                "file back with `git checkout dvc.yaml`"
            )
    return found


def image_sources(section: object) -> list:
    """What a section of a study, its networks and its plans name under `images`."""
    if not isinstance(section, dict):
        return []
    images = section.get("images", [])
    own = images if isinstance(images, list) else [images]
    entries = [*(section.get("networks") or {}).values(), *(section.get("plans") or {}).values()]
    return [*own, *(e["images"] for e in entries if isinstance(e, dict) and e.get("images"))]


def read_notebooks(root: Path) -> dict[str, dict]:
    """NN_noun -> the defaults of the parameters, of every notebook that a stage runs.

    Others that lie there, copies and own ones, are nobody's business.
    Errors: FileNotFoundError, or a ValueError naming the notebook.
    """
    asked = [stage.get("do", stage)["cmd"] for stage in read_pipeline(root)["stages"].values()]
    names = {runs(command).notebook for command in asked if isinstance(command, str)} - {None}
    return {name: _defaults(root / "notebooks" / f"{name}.ipynb") for name in sorted(names)}


def _defaults(path: Path) -> dict:
    with reading(path, "a notebook", "take it from git (git checkout), or from an untouched copy"):
        return read_parameters(as_object(path.read_text("utf-8")), path.stem)
