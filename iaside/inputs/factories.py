"""Architectures of one's own: ``nets.py:build`` is the function ``build`` of the file ``nets.py``.

Such a file is code, and runs when a network is loaded: it is named by whoever loads the network, in
an argument or in ``models`` of params.yaml, never by a recipe, which comes with the weights.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from iaside.backend.keys import said
from iaside.inputs import project

if TYPE_CHECKING:  # the pipeline hashes code, without a second for torch
    from torch import nn

FOLDER = "architectures"  # the pipeline watches it
FORM = "'nets.py:build', a file and in it a function build(recipe) -> torch.nn.Module"


def build(factory: str | Callable[[dict], nn.Module], recipe: dict) -> nn.Module:
    """The network that a function of one's own makes of a recipe, on the CPU unless it says else.

    factory: ``nets.py:build``, a file here or in the project's folder ``architectures`` and a
        function in it; or the function. It gets a copy of the recipe.
    Errors: FileNotFoundError for a file that is nowhere; ValueError for a function that is not in
    it; TypeError for what gives no torch module. What the code itself raises passes through.

    >>> from torch import nn
    >>> build(lambda recipe: nn.Linear(2, recipe["num_classes"]), {"num_classes": 3})
    Linear(in_features=2, out_features=3, bias=True)
    """
    from torch import nn

    function, name = factory, getattr(factory, "__name__", repr(factory))
    if isinstance(factory, str):
        clone = [project.PROJECT / FOLDER] if project.CLONE else []
        path, name = find(factory, Path.cwd(), *clone)
        function = getattr(_module(path), name, None)
    if not callable(function):
        raise ValueError(f"factory={factory!r}: there is no function {name!r}; write {FORM}")
    net = function(dict(recipe))
    if not isinstance(net, nn.Module):
        raise TypeError(
            f"factory={factory!r} gave a {type(net).__name__} instead of a torch.nn.Module: "
            f"{name}(recipe) must return the network"
        )
    return net


def find(factory: str, *folders: Path) -> tuple[Path, str]:
    """The file and the function that a factory names. Errors: as for ``build``."""
    file, _, name = factory.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(f"factory={factory!r}: write {FORM}")
    for folder in folders:
        if (path := folder / file).is_file():
            return path.resolve(), name
    raise FileNotFoundError(
        f"factory={factory!r}: there is no file {file!r} in {' or '.join(map(str, folders))}; put "
        "it there, or correct the name"
    )


def code_of(factory: str, root: Path) -> str:
    """A hash of a factory's name, its file in the folder of a project, and what that imports there.

    As ``keys.code_hash``: a comment changes nothing. Errors: as for ``build``; SyntaxError.
    """
    folder = root / FOLDER
    path, name = find(factory, folder)
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"factory={factory!r} lies outside {FOLDER}/: put the file there")
    if name not in _names(ast.parse(path.read_bytes(), str(path))):
        raise ValueError(f"factory={factory!r}: {path.name} defines no {name!r}; write {FORM}")
    digests = {p.name: hashlib.sha256(said(tree).encode()).hexdigest() for p, tree in _files(path)}
    return hashlib.sha256(repr((name, sorted(digests.items()))).encode()).hexdigest()


def _files(first: Path) -> Iterator[tuple[Path, ast.Module]]:
    """A file and those beside it that it imports, directly or not, with their syntax trees."""
    found, new = set(), {first}
    while new:
        found |= new
        trees = [(path, ast.parse(path.read_bytes(), str(path))) for path in sorted(new)]
        yield from trees
        beside = {first.with_name(f"{name}.py") for _, tree in trees for name in _imported(tree)}
        new = {path for path in beside if path.is_file()} - found


def _names(tree: ast.Module) -> Iterator[str]:
    """The names that a file defines or imports at its top level."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _module(path: Path) -> types.ModuleType:
    """The file as a module, which may import those beside it; run again for each network.

    Other processes, which cannot import these, are sent their code with a network.
    """
    import cloudpickle

    spec = importlib.util.spec_from_file_location(f"iaside_factory_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    for each in [*sys.modules.values()]:
        file = getattr(each, "__file__", None)
        if file and Path(file).parent == path.parent and isinstance(each, types.ModuleType):
            cloudpickle.register_pickle_by_value(each)
    return module
