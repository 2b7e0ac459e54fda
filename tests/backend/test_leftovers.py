"""What a kill leaves half-written is part of no hash, and gone when a run starts or writes."""

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import crashes
import numpy as np
import pytest
import torch
from smoke import ROOT
from sweeps import few

from iaside.backend import batch, files
from iaside.backend.files import (
    TEMPORARY,
    held,
    put,
    remove_unused,
    replacing,
    sweep,
    temporary_folder,
)
from iaside.robustness.responses import corrupt_all
from iaside.study import notebook
from iaside.study.notebook import tidy
from iaside.tables import Condition

QUICK = {"json"}


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("then", few(["tidy", "again"], 1))
@pytest.mark.parametrize(
    "writer",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in crashes.WRITERS
    ],
)
def test_a_kill_at_any_file_operation_leaves_nothing(writer, then, tmp_path):
    command = [sys.executable, str(ROOT / "tests/crashes.py"), writer, then, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["operations"] > 10 and found["left"] > 5, "some kills did leave something"


def test_what_is_being_written_has_a_name_that_git_and_dvc_ignore(tmp_path):
    ignored = [(ROOT / name).read_text().split() for name in (".dvcignore", ".gitignore")]
    with replacing(tmp_path / ("x" * 200 + ".npz")), temporary_folder(tmp_path):
        found = names(tmp_path)
    assert len(found) == 2
    assert all(
        any(fnmatch.fnmatch(name, rule) for rule in rules) for name in found for rules in ignored
    )


@pytest.mark.slow
def test_a_folder_that_dvc_hashes_is_the_same_with_what_a_kill_left(tmp_path):
    def dvc(*words):
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.stdout + done.stderr

    dvc("init", "--no-scm")
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    files.write_text(tmp_path / "tables/a.txt", "a")
    dvc("add", "tables")
    assert "up to date" in dvc("status")
    with replacing(tmp_path / "tables/b.txt") as file, temporary_folder(tmp_path / "tables") as new:
        file.write(b"half")
        files.write_text(new / "c.txt", "c")
        assert len(names(tmp_path / "tables")) == 3 and "up to date" in dvc("status")
    assert "modified" in dvc("status"), "b.txt is whole now"


def test_what_a_process_that_lives_is_writing_is_left_alone(tmp_path):
    with replacing(tmp_path / "a") as file, temporary_folder(tmp_path) as folder:
        file.write(b"a")
        sweep(tmp_path)
        files.write_text(tmp_path / "b", "b")
        assert folder.is_dir() and len(names(tmp_path)) == 3
    assert names(tmp_path) == ["a", "b"] and (tmp_path / "a").read_bytes() == b"a"


def test_only_what_has_the_name_is_swept(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    folder = tmp_path / "folder"
    (folder / f"deep/.x{TEMPORARY}").mkdir(parents=True)
    (folder / f".link{TEMPORARY}").symlink_to(elsewhere)
    (folder / f".gone{TEMPORARY}").write_text("half")
    (folder / f".full{TEMPORARY}/a").mkdir(parents=True)
    (folder / ".hidden").write_text("mine")
    sweep(folder)
    assert names(folder) == [".hidden", f".link{TEMPORARY}", "deep"]
    assert (elsewhere / "mine").is_file() and names(folder / "deep") == [f".x{TEMPORARY}"]
    sweep(tmp_path / "not there")


@pytest.mark.parametrize(("module", "late"), [(files, "_lock"), (files.fcntl, "flock")])
def test_what_was_swept_before_it_was_locked_is_made_once_more(module, late, tmp_path, monkeypatch):
    function, swept = getattr(module, late), []

    def after_the_sweep(*args):
        if not swept:
            swept.extend(tmp_path.glob(f".*{TEMPORARY}"))
            swept[0].unlink()
        return function(*args)

    monkeypatch.setattr(module, late, after_the_sweep)
    files.write_text(tmp_path / "a", "a")
    assert len(swept) == 1 and names(tmp_path) == ["a"]


def test_without_locks_everything_is_written_and_nothing_swept(tmp_path, monkeypatch):
    """As on Windows, or on a disk of the network that has none."""

    def refuse(*_):
        raise OSError("no locks available")

    (tmp_path / f".x{TEMPORARY}").touch()
    for patch in ((files, "fcntl", None), (files.fcntl, "flock", refuse)):
        with monkeypatch.context() as context:
            context.setattr(*patch)
            files.write_text(tmp_path / "a", "a")
            with held(tmp_path / "b"):
                sweep(tmp_path)
    assert names(tmp_path) == [f".x{TEMPORARY}", "a", "b"]


def test_a_folder_whose_successor_cannot_come_is_back_in_its_place(tmp_path):
    files.write_text(tmp_path / "set/a", "old")
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "nothing", tmp_path / "set")
    assert names(tmp_path) == ["set"] and names(tmp_path / "set") == ["a"]


def test_a_folder_that_steps_aside_is_not_put_back_by_another_process(tmp_path, monkeypatch):
    move, swept = files.move, []

    def after_the_sweep(source, target):
        swept.extend(names(tmp_path))
        sweep(tmp_path)
        move(source, target)

    for name in ("set", "new"):
        files.write_text(tmp_path / name / "a", name)
    monkeypatch.setattr(files, "move", after_the_sweep)
    put(tmp_path / "new", tmp_path / "set")
    assert names(tmp_path) == ["set"] and (tmp_path / "set/a").read_text() == "new"
    assert [name for name in swept if name.endswith(files.ASIDE)]


def test_the_memory_of_batch_sizes_is_swept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, x = torch.nn.Flatten(), torch.rand(1, 3, 4, 4)
    for _ in range(2):
        batch.fastest_batch_size(lambda batch: 1e-2 * len(batch), model, x, "float32")
        (tmp_path / f"iaside/.fastest_batch.json.x{TEMPORARY}").touch()
    batch.fastest_batch_size(lambda batch: 1e-2 * len(batch), model, x, "float32")
    assert names(tmp_path / "iaside") == ["fastest_batch.json"]


# -- .partial: kept for a time --------------------------------------------------------------------


def old(path, days):
    for each in (*path.rglob("*"), path):
        os.utime(each, times=(time.time() - days * 86400,) * 2)


def test_what_is_unfinished_is_kept_for_its_days_as_a_whole(tmp_path):
    partial = tmp_path / ".partial"
    for name in (
        "worths-a/worths-k/x.rows",
        "worths-b/worths-k/x.rows",
        "worths-b/worths-l/y.rows",
        "renamed.ipynb",
        "failed.ipynb",
        "hand/results/a/m.json",
        "hand/results/b/m.json",
        "hand/.partial/corrupted-x/1.npz",
        "corrupted-y/1.npz",
    ):
        files.write_text(partial / name, "x")
    old(partial, notebook.DAYS + 1)
    recent = [
        partial / name
        for name in ("worths-b/worths-l/y.rows", "failed.ipynb", "hand/results/b/m.json")
    ]
    for path in recent:
        old(path, notebook.DAYS - 1)
    with held(partial / "corrupted-y"):
        tidy(tmp_path)
    left = {path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file()}
    assert left == {
        "worths-b/worths-k/x.rows",
        "worths-b/worths-l/y.rows",
        "failed.ipynb",
        "hand/results/b/m.json",
        "corrupted-y/1.npz",
    }
    tidy(tmp_path)
    assert not (partial / "corrupted-y").exists()


def test_a_study_on_another_disk_is_swept_there(tmp_path):
    files.write_text(tmp_path / f"disk/worths/tables/.x{TEMPORARY}", "half")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/results").symlink_to(tmp_path / "disk")
    tidy(tmp_path / "project")
    assert not names(tmp_path / "disk/worths/tables")


def test_corruptions_of_other_code_go_at_once_unless_in_use(tmp_path, monkeypatch):
    x, wanted = torch.rand(2, 3, 32, 32), [Condition("contrast", 1.0)]
    module = sys.modules["iaside.robustness.corrupted_photographs"]
    monkeypatch.setattr(module, "_corrupt_missing", lambda place, *_: (place / "made").touch())
    for code in ("first", "second", "today"):
        monkeypatch.setattr(module, "code_hash", lambda name, code=code: f"{code:_>16}{name}")
        corrupt_all(x, wanted, tmp_path)
        [made] = tmp_path.iterdir()
        assert made.name.endswith(code)
    with held(tmp_path / "corrupted-in-use-by-older-code"):
        corrupt_all(1 - x, wanted, tmp_path)
        assert len(names(tmp_path)) == 3, "other pictures of this code, and what is in use"
    corrupt_all(x, wanted, tmp_path)
    assert len(names(tmp_path)) == 2
    old(tmp_path, 100)
    corrupt_all(x, wanted, tmp_path)
    assert time.time() - made.stat().st_mtime < 60, "in use today, so not old"


def test_what_is_held_is_not_removed_by_another_process(tmp_path):
    code = "import sys; from iaside.backend.files import remove_unused; remove_unused(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with held(tmp_path / "a"), held(tmp_path / "a"):
        subprocess.run(command, env=environment, check=True)
        assert (tmp_path / "a").is_dir()
    subprocess.run(command, env=environment, check=True)
    assert not (tmp_path / "a").exists()
    remove_unused(tmp_path / "a")
    np.savez(tmp_path / "b.npz", a=1)
    remove_unused(tmp_path / "b.npz")
    assert not names(tmp_path)
