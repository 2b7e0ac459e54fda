"""A fork of the warm process is, to whoever started it, the process that it stands for."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from smoke import ROOT
from test_run import notebook, parameters, project

from iaside.study import run as run_module
from iaside.study import warm

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "pidfd_open"), reason="elsewhere nothing is warm"
)
SERVER = """
import socket, sys, time
from iaside.study import warm
warm.LIBRARIES = ("colorsys",)
with socket.socket(fileno=int(sys.argv[1])) as listening:
    arguments = warm.serve(listening)
if arguments is not None:
    warm._run_to_its_end(arguments)
"""
WAITS = "import sys, time; print('here', flush=True); time.sleep(60)"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A warm process with one small library, in place of those that take seconds."""
    path = str(tmp_path / "warm")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(listening.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
    monkeypatch.setenv(warm.SOCKET, path)
    yield process
    process.stdin.close()
    process.wait(20)


def run(text, *words, **how):
    how = {"text": True, "capture_output": True, "timeout": 60} | how
    return subprocess.run(warm.command(["-c", text, *words]), **how)


def begun(text=WAITS, **how):
    process = subprocess.Popen(warm.command(["-c", text]), stdout=subprocess.PIPE, **how)
    assert process.stdout.readline() == b"here\n"
    return process


def forks(server):
    found = subprocess.run(
        ["ps", "-o", "stat=", "--ppid", str(server.pid)], text=True, capture_output=True
    ).stdout.split()
    return [state for state in found if not state.startswith("Z")]


def gone(server, seconds=10):
    end = time.monotonic() + seconds
    while forks(server):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_it_has_the_streams_arguments_folder_environment_and_end_of_its_own(server, tmp_path):
    text = (
        "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['MINE']);"
        "print(sys.stdin.read(), file=sys.stderr);"
        "print('colorsys' in sys.modules, os.environ['IASIDE_FORKED'] == str(os.getpid()));"
        "import atexit; atexit.register(print, 'last'); sys.exit(3)"
    )
    done = run(text, "a", "b c", cwd=tmp_path, env=os.environ | {"MINE": "yes"}, input="said")
    assert done.stdout == f"['a', 'b c'] {tmp_path} yes\nTrue True\nlast\n"
    assert done.stderr == "said\n" and done.returncode == 3
    failed = run("1 / 0")
    assert failed.returncode == 1 and "ZeroDivisionError" in failed.stderr
    assert run("import sys; sys.exit('why')").stderr == "why\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_signal_that_ends_it_ends_who_stands_for_it(server, number):
    done = run(f"import os; os.kill(os.getpid(), {int(number)})")
    assert done.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_signals_are_passed_on(server, number):
    text = (
        f"import signal, sys, time; signal.signal({int(number)}, lambda *_: sys.exit(7));"
        "print('here', flush=True); time.sleep(60)"
    )
    before = signal.signal(number, signal.SIG_DFL)  # a suite in the background ignores Ctrl-C
    try:
        process = begun(text)
    finally:
        signal.signal(number, before)
    process.send_signal(number)
    assert process.wait(20) == 7


def test_what_is_ignored_stays_ignored(server):
    text = f'exec nohup {sys.executable} -S -P {warm.__file__} 15 -c "$0"'
    process = subprocess.Popen(["sh", "-c", text, WAITS], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    assert gone(server)


def test_it_ends_with_who_stands_for_it_and_with_whoever_started_that(server):
    process = begun()
    process.kill()
    process.wait()
    assert gone(server)
    command = warm.command(["-c", WAITS])
    text = f"import subprocess; subprocess.run({command})"
    parent = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"here\n"
    parent.kill()
    parent.wait()
    assert gone(server)


def test_where_the_warm_process_dies_so_do_its_forks(server):
    process = begun()
    server.kill()
    assert process.wait(20) == 1


def test_it_ends_where_nobody_can_ask_any_more_but_not_before_its_forks(server):
    process = begun("import time; print('here', flush=True); time.sleep(1); print('done')")
    server.stdin.close()
    assert process.stdout.read() == b"done\n" and process.wait(20) == 0
    assert server.wait(20) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"OMP_NUM_THREADS": "7"},
        {"GLIBC_TUNABLES": "glibc.malloc.perturb=1"},
        {"PYTHONPATH": f"{ROOT}:/nowhere"},
        {warm.SOCKET: "/nowhere"},
    ],
)
def test_what_libraries_would_read_otherwise_starts_an_interpreter_of_its_own(server, change):
    text = "import os, sys; print('colorsys' in sys.modules, 'IASIDE_FORKED' in os.environ)"
    assert run(text, env=os.environ | change).stdout == "False False\n"


def test_forks_do_not_see_each_other(server, tmp_path):
    """Each is a session of its own, with no file but its streams."""
    text = (
        "import os; files = sorted(map(int, os.listdir('/proc/self/fd')))[:-1];"
        "print(os.getsid(0) == os.getpid(), files)"
    )
    first = begun()
    assert run(text).stdout == "True [0, 1, 2]\n"
    first.kill()
    first.wait()


@pytest.mark.slow
def test_no_library_that_is_imported_beforehand_starts_a_thread_or_is_ours():
    assert not [name for name in warm.LIBRARIES if name.split(".")[0] == "iaside"]
    text = Path(warm.__file__).read_text()
    assert "from iaside" not in text and "import iaside" not in text
    names = [name for name in warm.LIBRARIES if not name.startswith(("torch", "timm"))]
    code = (
        f"import importlib, os\nfor n in {names}: importlib.import_module(n)\n"
        "import sys; early = {'pandas', 'matplotlib'} & {*sys.modules}\n"
        "print(len(os.listdir('/proc/self/task')), early)"
    )
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=env, text=True, capture_output=True
    )
    assert done.stdout == "1 set()\n", done.stderr


def test_a_report_that_only_reads_tables_says_no_hardware_though_torch_is_imported():
    code = (
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n"
        "from iaside.study.notebook import footer\n"
        "print(footer(n=2, precision='float32').data)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, env=env)
    assert " · cpu · Python" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_report_made_in_forks_is_the_same_bytes(tmp_path, monkeypatch):
    """Figures, tables and numbers: what libraries decide when imported is decided alike."""
    setup = (
        "import matplotlib.pyplot as plt, numpy as np, pandas as pd, sys, torch\n"
        "from iaside import plots\nplots.use_style()"
    )
    wide = "pd.DataFrame(np.ones((2, 30))).add_prefix('a rather long name ')"
    cells = [
        parameters("seed = 0"),
        ("code", setup),
        ("code", wide),
        ("code", f"{wide}.iloc[:, :9]"),
        ("code", "_ = plt.plot([1, 2])"),
        ("code", "print(torch.ones(2) / 3, sys.flags)"),
    ]
    pages = []
    for kind in ("cold", "warm"):
        project(tmp_path / kind, importance=notebook(*cells))
        monkeypatch.chdir(tmp_path / kind)
        run_module.set_environment()
        folder = tmp_path / f"s{kind}"
        folder.mkdir()
        with warm.libraries_imported(str(folder)) if kind == "warm" else nullcontext():
            command = [sys.executable, "-m", "iaside.study.run", "20_importance"]
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run(command, check=True, env=env)
        made = tmp_path / kind / "results/importance"
        pages.append([(made / name).read_bytes() for name in ("report.ipynb", "report.html")])
    assert pages[0] == pages[1] and b"image/png" in pages[0][0]
