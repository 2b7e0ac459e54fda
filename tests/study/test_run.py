"""The runner: strict parameters, equal bytes, honest failures, nothing left behind."""

import ctypes
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from smoke import edit
from smoke import run as smoke

from iaside.study import report, run
from iaside.study.notebook import enter_project, footer, save_json
from iaside.study.parameters import UsageError, read_parameters, read_yaml, resolve_parameters

ROOT = Path(__file__).resolve().parents[2]
PARAMS = """\
seed: 3
models:
  net: {name: net}
  net.a1: {name: other}
runtime: {device: cpu, batch_size: null}
bands: {n: 8, rate: 1e-3}
importance: {}
"""


def notebook(*cells):
    """A notebook as it lies on disk; a cell is (kind, source, *tags)."""
    made = []
    for kind, source, *tags in cells:
        cell = {"cell_type": kind, "source": source, "metadata": {"tags": tags} if tags else {}}
        if kind == "code":
            cell |= {"outputs": [], "execution_count": None}
        made.append(cell | {"id": f"c{len(made)}"})
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}


def parameters(source):
    return ("code", source, "parameters")


def project(folder, params=PARAMS, **notebooks):
    (folder / ".build/notebooks").mkdir(parents=True)
    (folder / "params.yaml").write_text(params)
    defaults = {
        "bands": notebook(parameters("n = 4\nrate = 0.1")),
        "importance": notebook(parameters("seed = 0")),
    }
    for number, (noun, content) in enumerate((defaults | notebooks).items(), start=1):
        path = folder / f".build/notebooks/{number}0_{noun}.ipynb"
        path.write_text(json.dumps(content))
    return folder


# ---------------------------------------------------------------- parameters


def test_yaml_is_read_as_dvc_reads_it():
    values = read_yaml("{a: 1e-3, b: yes, c: null, d: 007, e: 1:30, f: 0o17, g: false}", "x")
    assert values == {"a": 0.001, "b": "yes", "c": None, "d": 7, "e": "1:30", "f": 15, "g": False}
    with pytest.raises(UsageError, match="x is not YAML.*duplicate key"):
        read_yaml("a: 1\na: 2", "x")


def test_parameters_cell_is_the_schema():
    cell = 'seed = 0  # a seed\nname = "a=b"\nrates = [\n  0.1,  # first\n  -2,\n]\noptions = {}'
    assert read_parameters(notebook(parameters(cell)), "nb") == {
        "seed": 0,
        "name": "a=b",
        "rates": [0.1, -2],
        "options": {},
    }
    with pytest.raises(UsageError, match="0 cells tagged"):
        read_parameters(notebook(("code", "a = 1")), "nb")
    for source in ("a = range(3)", "import os", "a, b = 1, 2", "a ="):
        with pytest.raises(UsageError, match="nb: the parameters cell may hold only"):
            read_parameters(notebook(parameters(source)), "nb")


def resolve(defaults, noun="bands", **more):
    params = read_yaml(more.pop("params", PARAMS), "params.yaml")
    return resolve_parameters(noun, defaults, params, ["bands", "importance"], **more)


def test_each_name_comes_from_its_place():
    defaults = dict(item="", model={}, models={}, seed=0, n=1, rate=1.0, batch_size=None, x=None)
    values = resolve(
        defaults, item="net.a1", take={"model": "models.net.a1"}, given={"x": [1], "rate": 2}
    )
    assert values == {
        "item": "net.a1",
        "model": {"name": "other"},  # not the key `a1` inside `net`
        "models": {"net": {"name": "net"}, "net.a1": {"name": "other"}},
        "seed": 3,
        "n": 8,
        "rate": 2,  # -p wins, and a whole number is fine where a float is declared
        "batch_size": None,
        "x": [1],
    }
    assert list(values) == list(defaults)
    # runtime, seed and models are passed only to those that declare them
    assert resolve({"n": 1, "rate": 1.0}) == {"n": 8, "rate": 0.001}
    taken = resolve({"n": 1, "rate": 1.0, "models": {}}, take={"models": "models.net"})
    assert taken["models"] == {"name": "net"}
    # so are the networks of a section: DVC runs the notebook for each of them
    items = "bands: {n: 8, rate: 1, networks: {net: {name: net}}}"
    assert resolve({"n": 1, "rate": 1.0}, params=items) == {"n": 8, "rate": 1}
    assert "networks" in resolve({"n": 1, "rate": 1.0, "networks": {}}, params=items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defaults": {"n": 1, "rates": 1.0}}, "bands sets 'rate'.*did you mean 'rates'"),
        ({"defaults": {"n": 1, "rate": 1.0, "m": 1}}, "declares m, which nothing sets.*n, rate"),
        ({"given": {"nn": 1}}, "-p sets 'nn'.*did you mean 'n'"),
        ({"item": "net"}, "--item sets 'item'"),
        ({"take": {"n": "seed"}}, "n is set twice: by bands and by --take"),
        ({"take": {"x": "models.nit"}}, "no 'nit'; did you mean 'net'"),
        ({"take": {"x": "seed.a"}}, "nothing lies below seed"),
        ({"noun": "importance", "params": "seed: 0"}, "no section 'importance'"),
        ({"params": PARAMS + "bandz: {}"}, "no notebook is called 'bandz'; did you mean 'bands'"),
        ({"params": "bands: [n]"}, "bands must hold `name: value` lines"),
        ({"params": "bands: {n: 8.5, rate: 1}"}, "bands.n: 8.5 is float, but .* int"),
        ({"params": "bands: {n: yes, rate: 1}"}, "bands.n: 'yes' is str"),
        ({"params": "bands: {n: true, rate: 1}"}, "bands.n: True is bool"),
        ({"params": "bands: {n: null, rate: 1}"}, "bands.n is null, .* int; give one, such as 1"),
        ({"params": "bands: {n: 2020-01-01, rate: 1}"}, "no plain value; quote it"),
        ({"params": "bands: {n: 1, rate: .nan}"}, "bands.rate is nan, but every number must be"),
        ({"params": "runtime: {batchsize: 8}\nbands: {}"}, "'batchsize'.*mean 'batch_size'"),
        ({"params": "runtime: {}\nbands: {}", "defaults": {"device": None}}, "lacks 'device'"),
    ],
)
def test_whatever_is_unknown_missing_or_of_another_type_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        resolve(**({"defaults": {"n": 1, "rate": 1.0}} | change))


def test_command_line_refuses_in_one_line_before_any_kernel(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "execute", lambda *_: pytest.fail("a kernel was started"))
    monkeypatch.chdir(tmp_path)
    requests = {
        ("10_bands",): "no params.yaml in",
        ("10_bandz",): "no notebook '10_bandz'.*did you mean '10_bands'",
        ("10_bands", "--notebooks", "nowhere"): "no notebooks in nowhere: run `dvc repro strip`",
        ("10_bands", "--params", "other.yaml"): "no file .*other.yaml",
        ("10_bands", "-p", "n", "[1"): "-p n is not YAML",
        ("10_bands", "-p", "n", "two"): "'two' is str",
        ("10_bands", "--item", "a/b"): "--item 'a/b' is to name a file",
    }
    for arguments, message in requests.items():
        assert run.main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1, error
        if message.startswith("no params"):
            project(tmp_path)
    for arguments in ([], ["10_bands", "--index"]):
        with pytest.raises(SystemExit):
            run.main(arguments)


# ---------------------------------------------------------------- running

REPORT = notebook(
    ("markdown", "# Bands & $\\alpha$\n\nWhich bands? All.\n\n$$\\sum_i x_i \\ne 1$$"),
    parameters("seed = 0"),
    (
        "code",
        "import os, pathlib, sys, time\nroot = pathlib.Path.cwd()\n"
        "print(seed, os.getcwd(), root / 'a', object(), flush=True)\n"
        "print('no' + 'ise', time.time(), file=sys.stderr)",
    ),
    ("code", "from IPython.display import HTML\nHTML(f'<p>{root}/b</p>')"),
    (
        "code",
        "import resource\nfaults = []\nfor _ in range(12):\n    block = b'x' * 2**26\n"
        "    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)\n"
        "print(faults[-1] - faults[1] < 10 * 2**26 / 4096 / 4)",
    ),
)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The same notebook in two folders of different names."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "another")]
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            project(folder, importance=REPORT)
            patch.chdir(folder)
            assert run.main(["20_importance"]) == 0
    return folders


@pytest.mark.slow
def test_equal_runs_are_equal_bytes(two_runs):
    for name in ("report.ipynb", "report.html"):
        first, second = (f / "results/importance" / name for f in two_runs)
        assert first.read_bytes() == second.read_bytes()
        assert str(two_runs[0]) not in first.read_text()
    executed = json.loads((two_runs[0] / "results/importance/report.ipynb").read_text())
    shown = "".join(executed["cells"][3]["outputs"][0]["text"])
    assert shown == "3 . a <object object at 0x0>\n"  # the seed of params.yaml, paths from the root
    assert "noise" not in json.dumps(executed)
    assert executed["cells"][1]["metadata"]["tags"] == ["parameters"]
    assert not list((two_runs[0] / ".partial").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_memory_that_is_given_back_and_taken_again_is_not_mapped_anew(two_runs):
    executed = json.loads((two_runs[0] / "results/importance/report.ipynb").read_text())
    assert executed["cells"][5]["outputs"][0]["text"] == ["True\n"], "4096 bytes a fault"


@pytest.mark.slow
def test_html_is_complete_and_offline(two_runs):
    page = (two_runs[0] / "results/importance/report.html").read_text()
    assert "<title>Bands &amp; alpha</title>" in page
    assert page.count("<math") == 2 and "math:" not in page and "$" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page and "<link" not in page
    page = page.replace('<a href="../index.html">', "", 1)  # a way back, which loads nothing
    assert not re.findall(r"""(?:src|href)=["']?(?!#|data:)[^"'>]+|url\(|@import""", page)
    assert "print" in page  # code is there to look at, hidden at first
    assert re.search(r"\.input \{ display: none", page)


def test_failing_cell(tmp_path, monkeypatch, capfd):
    source = "# count\nraise ValueError(f'no band {seed},\\n only 2')"
    project(tmp_path, importance=notebook(parameters("seed = 0"), ("code", source)))
    (tmp_path / "results/importance").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run.main(["20_importance"]) == 1
    lines = capfd.readouterr().err.strip().splitlines()[-3:]
    assert lines == [
        "20_importance failed in the cell In [3], which starts: # count",
        "  ValueError: no band 3, only 2",
        "  The notebook as far as it ran, with the traceback: .partial/importance.ipynb",
    ]
    assert "no band 3" in (tmp_path / ".partial/importance.ipynb").read_text()
    assert not list((tmp_path / "results/importance").iterdir())


def dies(folder, monkeypatch, capfd, source, **notebooks):
    """What is said of a kernel that ends in a cell."""
    project(folder, importance=notebook(parameters("seed = 0"), ("code", source)))
    monkeypatch.chdir(folder)
    assert run.main(["20_importance"]) == 1
    lines = capfd.readouterr().err.strip().splitlines()[-3:]
    assert lines[0] == "20_importance failed: its kernel died"
    assert lines[2] == "  The notebook as far as it ran: .partial/importance.ipynb"
    return lines[1].strip()


KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("source", "kills", "said"),
    [
        (
            KILLED,
            [3, 3],
            "SIGKILL ended it, though the system has ended no process for want of mem",
        ),
        pytest.param(
            KILLED,
            [3, 4],
            "SIGKILL ended it as the system ran out of memory: lower `batch_size` or",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            KILLED,
            [None],
            "SIGKILL ended it, which is mostly for want of memory: lower `batch_size`",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import os; os.abort()",
            [3],
            "SIGABRT ended it (a fault in the compiled code of a library)",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGUSR1)",
            [3],
            "SIGUSR1 ended it (from out",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import os; os._exit(7)",
            [3],
            "it ended itself, with exit code 7: the lines above may say",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_dead_kernel_is_said_to_have_ended_as_it_did(
    tmp_path, monkeypatch, capfd, source, kills, said
):
    counts = iter(kills)
    monkeypatch.setattr(run, "_memory_kills", lambda: next(counts))
    found = dies(tmp_path, monkeypatch, capfd, source)
    assert said in found and ("memory" in found) == (source == KILLED)


@pytest.mark.parametrize(
    "broken",
    [
        "raise ImportError('a torn file')",
        pytest.param("import os; os._exit(3)", marks=pytest.mark.slow),
    ],
)
def test_a_kernel_that_never_begins_is_said_to_have_ended(tmp_path, monkeypatch, capfd, broken):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "ipykernel_launcher.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    said = dies(tmp_path / "project", monkeypatch, capfd, "")
    assert said.startswith("it ended itself, with exit code ") and "memory" not in said


def test_a_missing_ipykernel_is_named(tmp_path, monkeypatch, capfd):
    from jupyter_client.kernelspec import NoSuchKernel

    def none(*args, **how):
        raise NoSuchKernel("python3")

    monkeypatch.setattr("papermill.execute_notebook", none)
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run.main(["10_bands"]) == 1
    said = capfd.readouterr().err.strip()
    assert "ipykernel is not installed: pip install" in said and "memory" not in said


def test_what_the_system_counts_is_read():
    counted = run._memory_kills()
    assert counted is None or counted >= 0
    assert counted is not None or not re.search("(?m)^oom_kill", Path("/proc/vmstat").read_text())


@pytest.mark.slow
def test_what_runtime_says_is_in_no_report(tmp_path, monkeypatch):
    """It changes the speed, so that two machines make the same bytes."""
    cell = "seed = 0\ndevice = 'auto'\nbatch_size = None"
    seen = "import os\nprint(seed)\nopen('seen', 'a').write(os.environ['IASIDE_WORKERS'])"
    content = notebook(parameters(cell), ("code", seen))
    pages = []
    for runtime in (
        "{device: auto, batch_size: null, workers: 1}",
        "{device: cpu, batch_size: 64, workers: 2}",
    ):
        folder = tmp_path / f"run{len(pages)}"
        params = re.sub("runtime: .*", f"runtime: {runtime}", PARAMS)
        project(folder, params, importance=content)
        monkeypatch.chdir(folder)
        assert run.main(["20_importance"]) == 0
        assert (folder / "seen").read_text() == str(len(pages) + 1), "but the kernel has it"
        assert "IASIDE_WORKERS" not in os.environ
        reports = folder / "results/importance"
        pages.append([(reports / name).read_bytes() for name in ("report.ipynb", "report.html")])
    assert pages[0] == pages[1]
    assert b"seed = 3" in pages[0][0], "what the study says is there"


@pytest.mark.slow
def test_two_runtimes_make_equal_bytes_of_the_shipped_notebooks(smoke_project):
    """The smoke study's training, in one process and in two, and a network's answers."""
    found = []
    asked = (
        "68_training --item clean --take plan training.plans.clean",
        "40_robustness --item squeezenet1_1 --take model models.squeezenet1_1",
    )
    for how in ({"device": "auto", "workers": 1}, {"device": "cpu", "workers": 2}):
        edit(smoke_project, **how)
        for words in asked:
            smoke(
                smoke_project,
                sys.executable,
                "-m",
                "iaside.study.run",
                *words.split(),
                "--notebooks",
                "notebooks",
            )
        made = smoke_project / "results"
        files = [p for p in sorted(made.rglob("*")) if p.is_file() and "recorded" not in p.parts]
        found.append({p.relative_to(made): p.read_bytes() for p in files})
        shutil.rmtree(made / "training")
        shutil.rmtree(made / "robustness")
    assert len(found[0]) > 8 and found[0] == found[1]


@pytest.mark.skipif(sys.platform != "linux", reason="of signals of Unix")
def test_what_is_ignored_from_the_start_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    told = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a library that ran before may hold it
    try:
        with run._end_with_parent():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # told again, it goes on with ending
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, told)
        ctypes.CDLL(None).prctl(1, 0)


def gone(pid, seconds=15):
    """Whether a process ends within some seconds; one that nobody has waited for has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the death of a parent is told on Linux only")
@pytest.mark.parametrize(
    "cell",
    [
        "for _ in range(600): time.sleep(0.1)",
        "__import__('re').match('(a+)+b', 'a' * 40)",  # never lets go of the interpreter
    ],
    ids=["sleeps", "holds"],
)
@pytest.mark.parametrize(
    "how",
    ["runner gets SIGTERM", "runner gets SIGHUP", "runner gets SIGKILL", "parent gets SIGKILL"],
)
@pytest.mark.slow
def test_nothing_lives_on_when_stopped(tmp_path, how, cell):
    source = "import os, time\nopen('pids', 'w').write(f'{os.getppid()} {os.getpid()} .')\n"
    source += cell
    project(tmp_path, importance=notebook(parameters("seed = 0"), ("code", source)))
    runner = [sys.executable, "-m", "iaside.study.run", "20_importance"]
    # `parent` stands for dvc: a process that starts the runner and is killed
    parent = f"import subprocess; subprocess.run({runner})"
    command = [sys.executable, "-c", parent] if "parent" in how else runner
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    pids, end = tmp_path / "pids", time.monotonic() + 60
    while not (pids.exists() and pids.read_text().endswith(".")):
        assert time.monotonic() < end and process.poll() is None, "the kernel did not start"
        time.sleep(0.1)
    runner_pid, kernel_pid = map(int, pids.read_text().split()[:2])
    process.send_signal(getattr(signal, how.split()[-1]))
    assert process.wait(20) == (-9 if "KILL" in how else 130)
    assert gone(runner_pid) and gone(kernel_pid)
    assert not (tmp_path / "results").exists()


# ---------------------------------------------------------------- chores


def test_strip_drops_outputs_and_keeps_tags(tmp_path):
    source, target = tmp_path / "notebooks", tmp_path / ".build/notebooks"
    source.mkdir()
    content = notebook(parameters("a = 1"), ("code", "a"), ("markdown", "text"))
    content["metadata"] = {"kernelspec": {"name": "my-env"}, "widgets": {}}
    clean = json.loads(json.dumps(content))
    content["cells"][1] |= {"execution_count": 7, "outputs": [{"output_type": "stream"}]}
    content["cells"][1]["metadata"] = {"execution": {"t": 1}, "collapsed": True}
    for name, made in (("10_a", content), ("20_b", clean)):
        (source / f"{name}.ipynb").write_text(json.dumps(made))
    report.strip(source, target)
    stripped = [(target / f"{name}.ipynb").read_text() for name in ("10_a", "20_b")]
    assert stripped[0] == stripped[1]  # what running left behind is all that was dropped
    result = json.loads(stripped[0])
    assert result["cells"] == [c | {"source": c["source"]} for c in clean["cells"]]
    assert result["metadata"]["kernelspec"]["name"] == "python3"
    # a notebook that is gone leaves no copy, and nothing else is left beside the copies
    (source / "20_b.ipynb").unlink()
    report.strip(source, target)
    assert [path.name for path in target.iterdir()] == ["10_a.ipynb"]
    assert [path.name for path in target.parent.iterdir()] == ["notebooks"]
    report.strip(source, source)
    assert (source / "10_a.ipynb").read_text() == stripped[0]
    spoilt = ('{"nbformat": 4}', '{"nbformat": 4, "cells": [7]}', '{"nbformat": 4, "cells": 7}')
    for text in ("", '{"nbformat": 3}', *spoilt, "[" * 20_000):  # somebody's own stops no other
        (source / "95_mine.ipynb").write_text(text)
        with pytest.warns(RuntimeWarning, match=r"95_mine\.ipynb.* left out"):
            report.strip(source, target)
        assert [path.name for path in target.iterdir()] == ["10_a.ipynb"]
        with pytest.raises(ValueError, match=r"95_mine\.ipynb"):
            report.strip(source, source)
    with pytest.raises(UsageError, match="no notebooks in"):
        report.strip(tmp_path, target)
    assert target.is_dir()


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_notebook_finds_the_project_from_below_it(tmp_path, monkeypatch):
    project(tmp_path)
    monkeypatch.chdir(tmp_path / ".build/notebooks")
    assert enter_project("10_bands", {}) == Path.cwd() == tmp_path.resolve()
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(FileNotFoundError, match="no params.yaml in .*--use default"):
        enter_project("10_bands", {})


def test_save_json_gives_equal_bytes_and_plain_numbers(tmp_path):
    import numpy as np

    path = tmp_path / "new/metrics.json"
    save_json(path, {"b": np.float32(1 / 3), "a": [np.int64(2), float("inf"), np.array([1.5])]})
    assert json.loads(path.read_text()) == {"b": 0.333333, "a": [2, None, [1.5]]}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_json(path, {"a": object()})
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_footer_names_the_commit_and_whether_it_is_what_ran(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert import_module("iaside.spectral").torch, "as a report that measures"
    assert "commit unknown" in footer(n=24, precision="bfloat16", device="cpu").data
    for name in ("params.yaml", "dvc.lock", "results/metrics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    # what a run itself writes does not make the commit another one
    (tmp_path / "dvc.lock").write_text("b")
    (tmp_path / "results/metrics.json").write_text("b")
    text = footer(n=24, precision="bfloat16", device="cpu").data
    assert re.search(r"n = 24 · bfloat16 · cpu \(.+torch \d.+commit [0-9a-f]{10}\*$", text), text
    (tmp_path / "params.yaml").write_text("b")
    assert "+ uncommitted changes" in footer(n=24, precision="bfloat16", device="cpu").data
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card of {device}")
    assert "cuda (card of cuda:0) · Python" in footer(n=2, precision="a", device="cuda:0").data
    assert "· mps · Python" in footer(n=2, precision="a", device="mps").data
    for name, module in [*sys.modules.items()]:  # a report that only reads tables
        if name.startswith("iaside.") and "torch" in vars(module):
            monkeypatch.delitem(sys.modules, name)
    assert "bfloat16 · cuda · Python" in footer(n=24, precision="bfloat16", device="cuda:0").data


INDEX_PIPELINE = """\
stages:
  bands:
    cmd: echo
    outs: [results/bands/report.html, results/bands/report.ipynb]
  worths:
    matrix:
      model: ${models}
    cmd: echo
    outs:
      - results/worths/${item.model}.html
      - results/worths/${item.model}.ipynb
  importance:
    cmd: echo
    outs: [results/importance/report.html, results/importance/report.ipynb]
  claims:
    cmd: echo
    outs: [results/claims/report.html, results/claims/report.ipynb]
  index:
    cmd: echo
    deps: [results/importance/report.html, results/bands/report.html, results/claims/report.html]
    outs: [results/index.html]
"""


def test_prune_removes_files_and_folders_of_an_earlier_study_only(tmp_path, monkeypatch):
    pytest.importorskip("dvc")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n no_scm = true\n analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  training:\n    foreach: ${plans}\n    do:\n      cmd: echo\n"
        "      outs: ['results/training/${item}', 'results/training/${item}.html']\n"
    )
    (tmp_path / "params.yaml").write_text("plans: [new]")
    names = ("old", "old.html", "old.json", "new", "new.html")
    outs = [f"results/training/{k}" for k in names]
    stages = {"s": {"cmd": "echo", "outs": [{"path": path} for path in outs]}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    for name in ("old", "new", "mine"):
        (tmp_path / f"results/training/{name}").mkdir(parents=True)
        (tmp_path / f"results/training/{name}.html").write_text("")
    (tmp_path / "results/training/old.json").write_text("{}")
    for words in (["init", "-q"], ["add", "results/training/old.json"]):
        subprocess.run(["git", *words], check=True)
    assert run.main(["--prune"]) == 0
    left = sorted(path.name for path in (tmp_path / "results/training").iterdir())
    assert left == ["mine", "mine.html", "new", "new.html", "old.json"], "git has old.json"


def test_index_lists_the_present_study_and_nothing_stale(tmp_path, monkeypatch):
    pytest.importorskip("dvc")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n no_scm = true\n analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(INDEX_PIPELINE)
    (tmp_path / "params.yaml").write_text("models: [net, net.a1]")
    pages = ["bands/report", "importance/report", "claims/report", "worths/net", "worths/net.a1"]
    pages += ["worths/old", "gone/report"]  # of another study, of a stage that is no more
    for page in pages:
        path = tmp_path / f"results/{page}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"# About {path.parent.name}\n\nWhich $x_1$ & `y`? More.\n\n## Next\nthat"
        path.write_text(json.dumps(notebook(("markdown", text))))
        path.with_suffix(".html").write_text("")
    rows = [{"verdict": v} for v in ("supported", "not tested: needs more", "undecided")]
    (tmp_path / "results/claims/claims.json").write_text(json.dumps(rows))
    assert run.main(["--index"]) == 0
    page = (tmp_path / "results/index.html").read_text()
    links = re.findall(r'href="(.+?)"', page)
    assert links == [f"{p}.html" for p in (pages[1], pages[0], *pages[2:5])]
    assert all((tmp_path / "results" / link).is_file() for link in links)
    assert "About bands" in page and "<math" in page and "<code>y</code>" in page
    assert "More." not in page and "& " not in page
    counts = json.loads((tmp_path / "results/metrics.json").read_text())["claims"]
    assert counts == {"not tested": 1, "supported": 1, "undecided": 1}
    assert "http" not in page.replace("http-equiv", "")
    assert run.main(["--index"]) == 0
    assert (tmp_path / "results/index.html").read_text() == page


@pytest.mark.slow
def test_every_figure_of_a_notebook_is_in_its_page(tmp_path, monkeypatch):
    """Each cell that draws shows its figure below itself, whichever drew first."""
    setup = (
        "import pandas as pd\nfrom iaside import plots\nplots.use_style()\n"
        "frame = pd.DataFrame({'model': 'a', 'band': [0, 1], 'psi': [1.0, 2.0],"
        " 'psi_low': 0.5, 'psi_high': 2.5})"
    )
    draw = "_ = plots.importance(frame, 'psi')"
    cells = [parameters("seed = 0"), ("code", setup), *[("code", draw)] * 3]
    project(tmp_path, importance=notebook(*cells))
    monkeypatch.chdir(tmp_path)
    assert run.main(["20_importance"]) == 0
    made = json.loads((tmp_path / "results/importance/report.ipynb").read_text())
    drawn = [cell["outputs"] for cell in made["cells"] if draw in "".join(cell["source"])]
    pictures = [sum("image/png" in out.get("data", {}) for out in outputs) for outputs in drawn]
    assert pictures == [1, 1, 1]
