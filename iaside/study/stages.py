"""The stages of dvc.yaml as DVC resolves them for a study, which runs nothing."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from iaside.backend.files import temporary_folder
from iaside.study.overlays import read_study
from iaside.study.parameters import UsageError


class Stage(NamedTuple):
    """A stage as DVC has resolved it, whether it would run, and which it directly waits for."""

    name: str
    command: str
    state: str
    after: tuple[str, ...] = ()


def expand(root: Path, params_file: Path) -> list[Stage]:
    """The stages of dvc.yaml with these parameters, in its order, and how each of them stands.

    ``up to date``; ``cached``: an equal run is kept, and only copied; ``to run``; ``to run, after
    training``: its network does not exist yet. What an earlier stage may change is not foreseen.
    Errors: UsageError with DVC's words.
    """
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo
    from dvc.stage.cache import RunCacheNotFoundError

    def state(repo, stage) -> str:
        if stage.name not in changed:
            return "up to date"
        with contextlib.suppress(RunCacheNotFoundError, DependencyDoesNotExistError):
            stage.save_deps()
            repo.stage_cache.restore(stage, dry=True)
            return "cached"
        trained = [dep for dep in stage.deps if "results/training" in str(dep)]
        return "to run" if all(d.exists for d in trained) else "to run, after training"

    try:
        with _resolved(root, params_file) as where, contextlib.chdir(where), Repo() as repo:
            # or it speaks of what it only would do
            with set_loggers_level(logging.WARNING), _parsed_once():
                changed, graph = set(repo.status()), repo.index.graph
                return [
                    Stage(s.name, str(s.cmd), state(repo, s), tuple(d.name for d in graph[s]))
                    for s in repo.index.stages
                ]
    except DvcException as error:
        raise UsageError(f"DVC: {' '.join(str(error).split())}") from error


def needed(stages: list[Stage], targets: Iterable[str]) -> list[Stage]:
    """The stages that make these targets, in their order; all where there are none.

    >>> a, b, c = Stage("a", "", ""), Stage("b", "", "", ("a",)), Stage("c", "", "", ("a",))
    >>> [stage.name for stage in needed([a, b, c], ["b"])]
    ['a', 'b']
    """
    after, names = {stage.name: stage.after for stage in stages}, set()
    left = list(targets)
    if not left:
        return stages
    while left:
        name = left.pop()
        left += [n for n in after.get(name, ()) if n not in names]
        names.add(name)
    return [stage for stage in stages if stage.name in names]


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """Let DVC parse params.yaml once: it does so for every stage that has run, a second for ten."""
    from dvc.utils.serialize import LOADERS

    parse, known = LOADERS[".yaml"], {}

    def load(path, *args, **how):
        if path not in known:
            known[path] = parse(path, *args, **how)
        return copy.deepcopy(known[path])

    LOADERS[".yaml"] = load
    try:
        yield
    finally:
        LOADERS[".yaml"] = parse


@contextlib.contextmanager
def _resolved(root: Path, params_file: Path) -> Iterator[Path]:
    """The project, or one of links to it whose params.yaml is another study."""
    study = read_study(params_file)
    try:
        same = read_study(root / "params.yaml") == study
    except (ValueError, OSError):
        same = False
    if same:
        yield root
        return
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
    with temporary_folder() as links:
        for path in root.iterdir():
            if path.name not in ("params.yaml", ".dvc", ".git"):
                (links / path.name).symlink_to(path)
        (links / "params.yaml").write_text(json.dumps(study, default=str))
        (links / ".dvc").mkdir()
        (links / ".dvc" / "config").write_text(
            f"[core]\nno_scm = true\nanalytics = false\n[cache]\ndir = {cache}\n"
        )
        yield links
