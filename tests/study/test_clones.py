"""Several clones with one cache, what one has run, the others have; and archives without git."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from smoke import LEFT_OUT, ROOT, dvc, edit, run


@pytest.mark.slow
def test_two_clones_that_share_a_cache_share_what_they_have_run(project, data, tmp_path):
    """As in docs/cluster.md: at the same time, with files for git among it (cache: false), but
    without folders that stay (persist: true), which come with dvc.lock."""

    def git(root, *words):
        run(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", *words)

    dvc(project, "repro", "training@clean")
    edit(project, mosaic_bands=4, n_control=1)
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "other bands, other worths")
    clone, worths = tmp_path / "clone", "worths@squeezenet1_1"
    git(tmp_path, "clone", "-q", project, clone)
    for folder in ("weights", "images"):
        shutil.copytree(data / folder, clone / "data" / folder)
    dvc(clone, "cache", "dir", "--local", str(project / ".dvc/cache"))
    with ThreadPoolExecutor(2) as pool:
        here = pool.submit(dvc, project, "repro", "bands")
        there = pool.submit(dvc, clone, "repro", worths)
        assert "Running stage 'bands'" in here.result()
        assert f"Running stage '{worths}'" in there.result()
    dvc(project, "commit", "-f", "bands")
    dvc(clone, "commit", "-f", worths)
    assert "Stage 'bands' is cached - skipping run" in dvc(clone, "repro", "bands")
    assert f"Stage '{worths}' is cached - skipping run" in dvc(project, "repro", worths)
    for name in (
        "bands/metrics.json",
        "bands/claims.json",
        "bands/report.html",
        "worths/squeezenet1_1-trained.metrics.json",
        "worths/tables/squeezenet1_1-trained.npz",
    ):
        mine, theirs = project / "results" / name, clone / "results" / name
        assert mine.read_bytes() == theirs.read_bytes(), name
    git(project, "add", "-A")
    git(project, "commit", "-qm", "results")
    git(clone, "fetch", "-q")
    git(clone, "reset", "-q", "--hard", "@{u}")
    dvc(clone, "checkout", "training@clean")
    ran = re.findall("Running stage '(.*)'", dvc(clone, "repro", "training@clean", worths))
    assert all(stage.startswith("images@") for stage in ran), "the data sets that a clone lacks"


@pytest.mark.slow
def test_plain_dvc_does_without_git_in_an_unpacked_archive(tmp_path):
    shutil.copytree(ROOT, tmp_path / "iaside", ignore=LEFT_OUT)
    status = dvc(tmp_path / "iaside", "status", "bands")
    assert "bands" in status, "nothing has been run there"


STAGES = """
stages:
  measure:
    cmd: mkdir -p tables && echo 1 > tables/one.txt && echo 2 > tables/two.txt
    outs: [tables/one.txt, tables/two.txt]
  report:
    cmd: cat tables/*.txt > report.txt
    deps: [tables]
    outs: [report.txt]
"""


@pytest.mark.slow
def test_what_dvc_tells_git_is_no_part_of_a_folder(tmp_path, monkeypatch):
    """Where DVC sees git it writes .gitignore beside outputs; a clone has what it hashed or not."""
    from dvc.repo import Repo
    from dvc.scm import Git

    first, clone = tmp_path / "first", tmp_path / "clone"
    first.mkdir()
    Git.init(str(first)).close()
    Repo.init(str(first)).close()
    shutil.copy(ROOT / ".dvcignore", first)
    (first / "dvc.yaml").write_text(STAGES)
    monkeypatch.chdir(first)
    with Repo() as repo:
        repo.reproduce()
        assert (first / "tables/.gitignore").exists(), "or there is nothing to test"
        assert repo.status() == {}
        (first / "tables/.gitignore").write_text("/more\n")
        assert repo.status() == {}
    clone.mkdir()
    shutil.copytree(first / ".dvc", clone / ".dvc")  # as git has it, with the cache
    for name in (".dvcignore", "dvc.yaml", "dvc.lock"):
        shutil.copy(first / name, clone)
    Git.init(str(clone)).close()
    monkeypatch.chdir(clone)
    with Repo() as repo:
        repo.checkout(force=True)
        assert repo.status() == {}
        (clone / "tables/one.txt").unlink()
        (clone / "tables/one.txt").write_text("3\n")
        assert set(repo.status()) == {"measure", "report"}, "of its outputs every byte counts"
