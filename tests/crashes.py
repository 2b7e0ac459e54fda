"""Kill a writer at every one of its file operations: `python crashes.py WRITER tidy|again FOLDER`.

Each time in a fork that ends at once, as by SIGKILL, before its operation k; then what a run does
first (`tidy`), or the same writer `again`. Prints how many operations there are and what is wrong.
These are small writers, ended between any two calls, also of those that change no file;
`campaigns/operations.py` ends whole measurements, at points that are drawn, and fills the disk.
"""

import builtins
import fcntl
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from iaside.backend import files
from iaside.backend.files import TEMPORARY, put, replacing, temporary_folder, write_text
from iaside.study import recorded, report, run
from iaside.study.notebook import save_json, tidy
from iaside.study.overlays import written_out
from iaside.tables import save_table

FUNCTIONS = {
    os: (
        "open",
        "close",
        "mkdir",
        "rmdir",
        "rename",
        "replace",
        "unlink",
        "remove",
        "fsync",
        "chmod",
        "listdir",
        "scandir",
    ),
    fcntl: ("flock",),
    builtins: ("open",),
}


def end_before(k):
    """End this process before its operation k, and count writes among these."""
    left = [k]

    def step():
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)

    class Counted(io.BufferedWriter):
        def write(self, data):
            step()
            return super().write(data)

    def counted(function):
        def call(*args, **how):
            step()
            return function(*args, **how)

        return call

    for module, names in FUNCTIONS.items():
        for name in names:
            function = getattr(module, name)
            setattr(module, name, counted(function))
            for known in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
                if function in known:
                    known.add(getattr(module, name))
    os.fdopen = lambda handle, mode: Counted(io.FileIO(handle, mode))


NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "metadata": {"x": 1},
            "source": "1",
            "outputs": [],
            "execution_count": 7,
        }
    ],
}


def project(root):
    for name in ("smoke", "default"):
        write_text(root / f"studies/{name}.yaml", f"claims: {{reports: [bands]}}  # {name}\n")
    write_text(root / "params.yaml", written_out(root / "studies/default.yaml"))
    for name in ("10_a", "20_b"):
        write_text(root / f"notebooks/{name}.ipynb", json.dumps(NOTEBOOK))
        write_text(root / f".build/notebooks/{name}.ipynb", "{}")
    for name in ("a.npz", "b.npz"):
        write_text(root / f"results/tables/{name}", "old")
    write_text(root / "data/images/set/a.png", "old")
    write_text(root / "results/recorded/mine/run.json", "{}")
    for name, text in {
        "report.html": "<html><body></body></html>",
        "metrics.json": "{}",
        "claims.json": '{"claims": []}',
    }.items():
        write_text(root / "results/bands" / name, text)


def streamed(root):
    with replacing(root / "results/tables/a.npz") as file:
        for part in (b"one", b"two", b"three"):
            file.write(part)


def folder_put(root):
    with temporary_folder(root / "data") as work:
        write_text(work / "built/set/a.png", "new")
        write_text(work / "built/set/b.png", "new")
        put(work / "built/set", root / "data/images/set")


def downloaded(root):
    if (root / "data/images/new").exists():
        return
    with temporary_folder(root / "data/images") as work:
        write_text(work / "x.bin", "new")
        files.move(work, root / "data/images/new")


def in_folder(function):
    def write(root):
        os.chdir(root)
        function(root)

    return write


WRITERS = {
    "table": lambda root: save_table(root / "results/tables/b.npz", {}, {"a": np.arange(9)}),
    "json": lambda root: save_json(root / "results/bands/metrics.json", {"a": 1}),
    "new folder": lambda root: write_text(root / "results/new/x/a.txt", "new"),
    "streamed": streamed,
    "put": folder_put,
    "downloaded": downloaded,
    "strip": lambda root: report.strip(root / "notebooks", root / ".build/notebooks"),
    "strip in place": lambda root: report.strip(root / "notebooks", root / "notebooks"),
    "use": in_folder(lambda root: run.use("smoke")),
    "digest": in_folder(lambda root: run.digest(root / ".build/judges.json", Path("params.yaml"))),
    "record": in_folder(lambda root: recorded.record(root, "mine", "A run")),
}


def content(root):
    """Every file but what is being written, and the names of that."""
    paths = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    being = [p for p in paths if any(part.endswith(TEMPORARY) for part in p.parts)]
    kept = {
        str(p): (root / p).read_bytes() for p in paths if (root / p).is_file() and p not in being
    }
    return kept, [str(p) for p in being]


def forked(*steps):
    pid = os.fork()
    if not pid:
        try:
            for step in steps:
                step()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(writer, then, folder):
    os.fsync = lambda handle: None  # no power fails here, and it takes most of the time
    write, base = WRITERS[writer], Path(folder)
    before, after, root = base / "before", base / "after", base / "killed"
    project(before)
    shutil.copytree(before, after)
    write(after)  # in this process: its forks have what it imported and read
    old, new = content(before)[0], content(after)[0]
    assert old != new and not content(after)[1]
    wrong, left = [], 0
    for k in range(10_000):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(before, root)
        ended = forked(lambda k=k: end_before(k), lambda: write(root))
        if ended == 0:
            break
        assert ended == 9, ended
        being = content(root)[1]
        left += bool(being)
        if then == "tidy":
            assert forked(lambda: tidy(root)) == 0
        else:
            assert forked(lambda: write(root)) == 0
        now, rest = content(root)
        one_by_one = {name: now.get(name) for name in new} if writer == "strip in place" else {}
        fine = (
            now == new
            or then == "tidy"
            and (
                now == old
                or one_by_one
                and all(data in (old[name], new[name]) for name, data in one_by_one.items())
            )
        )
        if rest or not fine:
            wrong.append([k, being, rest, sorted(set(now) ^ set(new))])
    print(json.dumps({"operations": k, "left": left, "wrong": wrong}))


if __name__ == "__main__":
    main(*sys.argv[1:])
