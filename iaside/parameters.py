"""From params.yaml and the command line to the parameters of one notebook, strictly."""

from __future__ import annotations

import ast
import difflib
import json

SHARED = ("seed", "models", "runtime")  # the sections of params.yaml that belong to no notebook


class UsageError(ValueError):
    """Something is wrong with the request; it is reported in one line before any kernel starts."""


def read_yaml(text: str, name: str):
    """Parse YAML 1.2, as DVC does: 1e-3 is a number, yes and on are words.

    Raises UsageError, with `name` for where the text is from.

    >>> read_yaml("[1e-3, yes, null, 007]", "an example")
    [0.001, 'yes', None, 7]
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{name} is not YAML: {' '.join(str(error).split())}") from error


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
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(known) or 'none'}"


def _take(params: dict, path: str):
    """The value at a dotted path; names in params.yaml may hold dots themselves."""
    value, rest = params, path
    while rest:
        if not isinstance(value, dict):
            raise UsageError(f"--take {path}: nothing lies below {path.removesuffix('.' + rest)}")
        fits = [str(key) for key in value if rest == str(key) or rest.startswith(f"{key}.")]
        if not fits:
            raise UsageError(f"--take {path}: params.yaml has no {rest!r}; {closest(rest, value)}")
        key = max(fits, key=len)
        value, rest = value[key], rest[len(key) + 1 :]
    return value


def _check_type(where: str, value, default) -> None:
    """Refuse a value of another kind than the literal default; a default of None takes all."""
    try:
        json.dumps(value)
    except TypeError:
        raise UsageError(f"{where}: {value!r} is no plain value; quote it if it is text") from None
    if default is None or type(value) is type(default):
        return
    if type(default) is float and type(value) is int:
        return
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
        if section not in (*SHARED, *nouns):
            raise UsageError(
                f"params.yaml: no notebook is called {section!r}; {closest(section, nouns)}"
            )
    if noun not in params:
        raise UsageError(f"params.yaml has no section {noun!r} (it may be empty: `{noun}: {{}}`)")
    section, runtime = params[noun] or {}, params.get("runtime") or {}
    for name, value in ((noun, section), ("runtime", runtime)):
        if not isinstance(value, dict):
            raise UsageError(f"params.yaml: {name} must hold `name: value` lines, got {value!r}")
    # These are the items that DVC runs a notebook for, one by one.
    items = ("networks", "plans")
    section = {k: v for k, v in section.items() if k not in items or k in defaults}
    # What belongs to all notebooks is passed only to those that ask for it.
    shared = {name: params[name] for name in ("seed", "models") if name in params} | runtime
    values = {name: value for name, value in shared.items() if name in defaults}
    sources = {name: "params.yaml" for name in values}
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
    if unset := [name for name in defaults if name not in values]:
        raise UsageError(
            f"the notebook {noun!r} declares {', '.join(unset)}, which nothing sets: add it to the "
            f"section {noun!r} of params.yaml (there is: {', '.join(section) or 'nothing'}), "
            f"or give -p {unset[0]} VALUE"
        )
    for name, value in values.items():
        _check_type(f"{noun}.{name}", value, defaults[name])
    return {name: values[name] for name in defaults}
