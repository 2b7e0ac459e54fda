"""One set of versions, whichever way it is installed, and nothing of anybody's machine in it."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from iaside.backend.files import TEMPORARY

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# heif: for those who bring such photographs; the kit's own environment does without.
EXTRAS = {k: v for k, v in PROJECT["optional-dependencies"].items() if k != "heif"}
TORCHATTACKS = "pip install --no-deps torchattacks=="


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def pins():
    """What constraints.txt pins for this Python: name -> version."""
    lines = [line for line in read("constraints.txt").splitlines() if line and line[0] != "#"]
    found = {}
    for line in lines:
        pin = Requirement(line)
        (only,) = pin.specifier
        assert only.operator == "==", f"{line} is no exact version"
        if not pin.marker or pin.marker.evaluate():
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice"
            found[name] = only.version
    return found


def wanted():
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        requirement = Requirement(line)
        if not requirement.marker or requirement.marker.evaluate():
            yield requirement


def test_every_dependency_is_pinned_to_a_version_that_it_allows():
    for requirement in wanted():
        pin = pins().get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt lacks {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow {pin}"


def test_pip_conda_and_make_install_the_same():
    dependencies = YAML(typ="safe", pure=True).load(read("environment.yml"))["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    everything = f".[{','.join(EXTRAS)}]"
    assert pip == ["-c constraints.txt", f"-e {everything}"]
    assert f"-c constraints.txt \\\n\t  -e '{everything}'" in read("Makefile")
    # nothing comes from conda that pyproject.toml names: it would be another version
    conda = {entry.split("=")[0] for entry in dependencies if isinstance(entry, str)}
    assert conda == {"python", "pip", "git", "make"}
    (python,) = [entry for entry in dependencies if str(entry).startswith("python=")]
    from packaging.specifiers import SpecifierSet

    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert "sys.version_info" in read("Makefile") and "(3, 11)" in read("Makefile")
    assert PROJECT["requires-python"] == ">=3.11"


def test_torchattacks_comes_second_and_without_its_pins_everywhere():
    line = TORCHATTACKS + pins()["torchattacks"]
    for name in ("environment.yml", "Makefile", "README.md", "docs/running.md"):
        if (ROOT / name).exists():
            assert line in read(name), f"{name} lacks `{line}`"
    assert "torchattacks" not in {requirement.name for requirement in wanted()}


def test_installed_versions_are_the_pinned_ones():
    """A resolver that meets torchattacks' pins would quietly take another JupyterLab."""
    different = {}
    for name, pin in pins().items():
        try:
            if version(name).partition("+")[0] != pin:  # a local build says so after a plus
                different[name] = (version(name), pin)
        except PackageNotFoundError:
            continue
    if different and sys.prefix != str(ROOT / ".venv"):
        pytest.skip(f"not the kit's own environment, which differs: {different}")
    assert not different, f"installed, pinned: {different}; run make again, or pip as in README"


def test_version_is_one():
    import iaside

    assert PROJECT["version"] == iaside.__version__
    citation = YAML(typ="safe", pure=True).load(read("CITATION.cff"))
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]


def tracked():
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git clone")
    names = done.stdout.decode().split("\0")[:-1]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


# Assembled, so that this file does not hold what it looks for.
HERE = r"(^|[^.\w])/" + "(?:work|farm|root|home|tmp|Users)/"
INDEX = r"(?:--|PIP_)?(?:extra[-_])?(?:index[-_]url|find[-_]links)\s*[ =]"


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("see /ho" + "me/me/x", True),
        ("pip install --index" + "-url=x", True),
        ("a/home/x, ../work/y, data/tmp/z", False),
        ("the index of urls", False),
    ],
)
def test_the_search_below_finds_what_it_should(text, is_found):
    assert bool(re.search(f"{HERE}|{INDEX}", text, re.MULTILINE | re.IGNORECASE)) == is_found


@pytest.mark.slow
def test_nothing_tracked_names_a_machine_or_a_package_index():
    found = []
    for path in tracked():
        if path.name == "params.yaml":  # may well name the reader's own folders
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for match in re.finditer(f"{HERE}|{INDEX}", text, re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0].strip()}")
    assert not found


def test_tracked_files_are_small_and_generated_ones_are_not_tracked():
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        # a page on record has a card for each of its networks
        most = 3 if re.match(r"results/recorded/.*html", name) else 1
        size = path.stat().st_size / 2**20
        assert size < most, f"{name} is over {most} MiB: results belong to DVC"
        assert not re.match(r"\.build/|\.partial/|\.venv/", name) and "__pycache__" not in name
        if name.startswith("results/") and not name.startswith("results/recorded/"):
            assert name.endswith(("metrics.json", "claims.json")), f"{name} belongs to DVC"
            json.loads(path.read_text())


def test_git_and_dvc_ignore_what_they_should():
    """Small numbers belong to git, tables to DVC, unfinished work to neither."""
    names = {
        "results/bands/metrics.json": False,
        "results/worths/net.metrics.json": False,
        "results/claims/claims.json": False,
        "results/recorded/paper/table.npz": False,
        "data/sources.yaml": False,
        "results/worths/tables/net.npz": True,
        "results/bands/report.html": True,
        "results/index.html": True,
        "data/weights/net.safetensors": True,
        ".partial/x/part.npz": True,
        "results/bands/.metrics.json.x.iaside-tmp": True,
        "results/recorded/.ia.x.iaside-tmp": True,
        ".build/notebooks/10_bands.ipynb": True,
        "iaside/__pycache__/run.pyc": True,
    }
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--no-index", *names], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        pytest.skip("git is not installed")
    if done.returncode not in (0, 1):
        pytest.skip("not a git clone")
    assert set(done.stdout.split()) == {name for name, ignored in names.items() if ignored}
    dvcignore = read(".dvcignore").split("\n")
    kept_out = {"__pycache__/", "*.pyc", ".ipynb_checkpoints/", ".partial/", ".venv/"}
    assert kept_out | {f"*{TEMPORARY}"} <= set(dvcignore)
    assert ".build/" not in dvcignore  # it is an out
    assert "analytics = false" in read(".dvc/config")


# ---------------------------------------------------------------- make


def make(folder, *arguments):
    command = ["make", "-f", str(ROOT / "Makefile"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small project with something of everything that `make clean` may or may not take."""
    if subprocess.run(["make", "--version"], capture_output=True).returncode:
        pytest.skip("make is not installed")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("MAKEFLAGS", "ALL"):  # of `make test ALL=1`
        monkeypatch.delenv(name, raising=False)
    files = ["results/a/x.npz", "results/a/two words.html", "results/index.html"]
    files += ["results/a/metrics.json", "results/a/x.metrics.json", "results/a/claims.json"]
    files += ["results/recorded/y.npz", ".partial/z", ".build/n.ipynb", ".dvc/cache/c", "own.txt"]
    files += [".venv/bin/x", "data/weights/packaged.safetensors", "data/weights/own.safetensors"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "data/sources.yaml").write_text("becomes: {weights/packaged.safetensors: abc}")
    return tmp_path


def there(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def test_clean_says_what_it_frees_and_takes_only_that(clone):
    before = there(clone)
    done = make(clone, "clean")
    assert done.returncode == 0, done.stderr
    gone = {"results/a/x.npz", "results/a/two words.html", "results/index.html"}
    gone |= {".partial/z", ".build/n.ipynb", ".dvc/cache/c"}
    assert before - there(clone) == gone
    for what in ("results/ (3 files)", ".partial", ".build", ".dvc/cache"):
        assert re.search(rf"freed \S+ in {re.escape(what)}", done.stdout), done.stdout
    done = make(clone, "clean", "ALL=1")
    assert before - there(clone) - gone == {".venv/bin/x", "data/weights/packaged.safetensors"}
    done = make(clone, "clean", "ALL=1")
    assert done.returncode == 0 and "freed" not in done.stdout


def test_clean_takes_nothing_that_git_holds(clone):
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    subprocess.run(["git", "add", "-f", "results/a/x.npz"], cwd=clone, check=True)
    assert make(clone, "clean").returncode == 0
    assert "results/a/x.npz" in there(clone) and "results/index.html" not in there(clone)


def test_an_old_python_or_a_failed_installation_leaves_no_stamp(clone):
    for name in ("pyproject.toml", "constraints.txt"):
        (clone / name).write_text("")
    old = clone / "old-python"
    old.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "import sys\nsys.version_info = (3, 9)\n$2"\n'
    )
    old.chmod(0o755)
    done = make(clone, "test", f"PYTHON={old}")
    assert done.returncode and "Python 3.11 or newer is needed" in done.stderr, done.stderr
    broken = clone / "broken-python"  # passes the check, but cannot make an environment
    broken.write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    broken.chmod(0o755)
    assert make(clone, "test", f"PYTHON={broken}").returncode
    assert not (clone / ".venv/ready").exists()
