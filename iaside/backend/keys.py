"""The code that makes a value, as one hash: what older code measured is not taken for today's.

A module counts with every module of iaside that it imports, directly or not, also inside functions.
What counts is its syntax tree, without comments, docstrings and statements that do nothing: a
comment, a docstring or another format measure nothing again, and any change of code does.

The hash belongs into the keys of what is unfinished or kept beside the results, not into the
provenance of results: whether these are those of today's code is what DVC knows of them, and equal
numbers are equal bytes whichever code made them. Nothing here needs more than Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# As they are when a process begins: what is edited later, it does not run.
# By name, as `shapley` or `verdicts.rules`.
HERE = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(HERE).with_suffix("").parts): path.read_bytes()
    for path in sorted(HERE.rglob("*.py"))
}
# Public name -> its module: what `ia.explain` or `from iaside import explain` imports.
PUBLIC = {
    alias.name: node.module
    for node in ast.parse((HERE / "__init__.pyi").read_bytes()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
# What a module reads beside its own text, as much its code as that.
DATA = {"verdicts.rules": (HERE / "verdicts/claims.yaml").read_bytes()}
# How a notebook is run, where it is, what it costs, how files are read, written and named, and how
# its report looks; no number depends on these, and no stage of dvc.yaml.
MACHINERY = {"__init__", "backend.files", "backend.keys"} | {
    *(f"backend.{name}" for name in ("parallel", "executors", "processes", "sending", "worker")),
    *("backend.cluster", "backend.memory"),
    *(name for name in SOURCES if name.startswith("study.") or name.endswith(".__init__")),
}


@functools.cache
def code_hash(*modules: str) -> str:
    """A hash of some modules of iaside and all that they import, but the ``MACHINERY``.

    modules: names, as ``shapley`` or ``game.exact`` (``__name__``). The same on every version of
    Python, wherever iaside is installed. Errors: ValueError for a module that there is none of.

    >>> code_hash("shapley") == code_hash("iaside.shapley") != code_hash("game.exact")
    True
    """
    names = [module.removeprefix("iaside.") for module in modules]
    if unknown := [name for name in names if name not in SOURCES]:
        raise ValueError(
            f"iaside has no module {unknown[0]!r} with a source; it has {', '.join(SOURCES)}"
        )
    digests = {name: _digest(name) for name in sorted(closure(names))}
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def closure(modules: Iterable[str]) -> set[str]:
    """These modules and all of iaside that they import, directly or not, but the ``MACHINERY``.

    >>> sorted(closure(["shapley"])), "inputs.probe" in closure(["game.sampling"])
    (['shapley'], True)
    """
    found, new = set(), set(modules)
    while new:
        found |= new
        new = set().union(*map(_imports, new)) - found
    return found - MACHINERY


def imported(source: str | bytes) -> set[str]:
    """The modules of iaside that some Python text imports, by any way of writing it.

    >>> sorted(imported("from iaside import explain, plots\\nimport iaside.score as s"))
    ['explanation', 'plots', 'score']
    """
    return _imported(ast.parse(source))


def _imported(tree: ast.AST) -> set[str]:
    names, package = set(), set()  # package: what iaside itself is called
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, _, rest = alias.name.partition(".")
                if first == "iaside":
                    names.add(rest)
                    if not (rest and alias.asname):
                        package.add(alias.asname or first)
        elif isinstance(node, ast.ImportFrom):
            module = f"iaside.{node.module or ''}" if node.level else node.module
            first, _, rest = module.partition(".")
            if first == "iaside":
                inner = {f"{rest}.{alias.name}".lstrip(".") for alias in node.names}
                names |= inner if not rest or inner & set(SOURCES) else {rest}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {node.attr} if node.value.id in package else set()
    homes = {
        PUBLIC.get(name, name if name in SOURCES else name.partition(".")[0]) for name in names
    }
    return homes & set(SOURCES)


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module])


@functools.cache
def _imports(module: str) -> set[str]:
    return _imported(_tree(module))


@functools.cache
def _digest(module: str) -> str:
    code = said(_tree(module)).encode() + DATA.get(module, b"")
    return hashlib.sha256(code).hexdigest()


def said(tree: ast.AST) -> str:
    """A syntax tree in words, without what does nothing: equal for code that does the same.

    >>> said(ast.parse("x = 1  # one")) == said(ast.parse("x=1")) != said(ast.parse("x"))
    True
    """
    words: list[str] = []
    _say(tree, words.append)
    return " ".join(words)


def _say(what: object, say) -> None:
    """Say a syntax tree in words that are the same on every version of Python.

    Not ``ast.dump``: which empty fields it leaves out depends on the version, as do the fields.
    """
    if isinstance(what, ast.Constant):
        say(f"{type(what.value).__name__} {what.value!a}")
    elif isinstance(what, ast.AST):
        say(f"({type(what).__name__}")
        for name in what._fields:
            value = getattr(what, name, None)
            if isinstance(value, ast.expr_context) or name in ("kind", "type_comment"):
                continue
            if isinstance(value, list):
                value = _without_idle(what, value)
            if value is not None and value != []:
                say(name)
                _say(value, say)
        say(")")
    elif isinstance(what, list):
        say("[")
        for item in what:
            _say(item, say)
        say("]")
    else:
        say(ascii(what))


def _without_idle(node: ast.AST, items: list) -> list:
    """A list of a tree without what is another way to write the same, or does nothing."""
    if isinstance(node, ast.JoinedStr):
        return list(_joined(items))
    if isinstance(node, ast.Delete) and len(items) == 1 and isinstance(items[0], ast.Tuple):
        return items[0].elts
    return [
        item
        for item in items
        if not isinstance(item, ast.Pass)
        and not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
    ]


def _joined(values: list[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string, as few as can be: Python 3.11 splits them otherwise than 3.12."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant):
            text += value.value
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield value
    if text:
        yield ast.Constant(text)
