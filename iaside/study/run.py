"""Run one notebook with the parameters of params.yaml: python -m iaside.study.run NN_noun.

Also the chores around notebooks: --strip, --code-hashes, --index, --prune, --record, --digest,
--factories, --use.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from iaside.backend.files import DamagedError, content_hash, read_json, temporary_folder, write_text
from iaside.backend.memory import GLIBC_TUNABLES
from iaside.study import recorded, report, warm
from iaside.study.index import keep_runs, write_index
from iaside.study.notebook import RUNNER, project_root, tidy
from iaside.study.overlays import read_study, use
from iaside.study.parameters import (
    RUNTIME,
    UsageError,
    closest,
    command_line,
    read_parameters,
    resolve_parameters,
    values_given,
)

WORKERS = "IASIDE_WORKERS"  # of the environment: backend.parallel, which imports torch, reads it
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def _end_with_parent():
    """Let SIGTERM and SIGHUP, and on Linux the death of the parent, end this process like Ctrl-C.

    Once: a group is told to end, and then the death of the parent tells it again, which would cut
    off what ends the kernel. What is ignored from the start, as under nohup, stays ignored.
    """

    def stop(*_):
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    parent = os.getppid()
    before = {each: signal.getsignal(each) for each in ENDINGS}
    before = {each: how for each, how in before.items() if how != signal.SIG_IGN}
    for each in before:
        signal.signal(each, stop)
    warm.end_with(parent, signal.SIGTERM)  # else a killed `dvc repro` leaves us writing on
    try:
        yield
    finally:
        for each, how in before.items():
            signal.signal(each, how)


@contextmanager
def _workers(asked: object):
    """Let the kernel measure in as many processes as there are cores, unless the study (asked) or
    the environment says otherwise."""
    said = WORKERS in os.environ
    os.environ.setdefault(WORKERS, str(asked or "local"))
    try:
        yield
    finally:
        if not said:
            del os.environ[WORKERS]


def _kernels(codes: list[int]) -> type:
    """A class of kernels that note the exit code with which they ended before their time.

    They end with this process, and begin with the libraries imported where a process has them.
    """
    from jupyter_client import AsyncKernelManager

    class Noted(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            words = super().format_kernel_cmd(extra_arguments)
            if warm.SOCKET not in os.environ:
                ending = f"from iaside.study import notebook; notebook.end_with({os.getpid()})"
                return [*words, f"--IPKernelApp.exec_lines={ending}; del notebook"]
            words = [*words[words.index("-m") :], f"--IPKernelApp.parent_handle={os.getpid()}"]
            return warm.command(words, signal.SIGKILL)

        async def _async_is_alive(self) -> bool:
            alive = await super()._async_is_alive()
            process = getattr(self.provisioner, "process", None)
            if not alive and process is not None:
                codes.append(process.returncode)
            return alive

        is_alive = _async_is_alive

    return Noted


def _memory_kills() -> int | None:
    """How many processes this system has ended for want of memory; None where it does not say."""
    counts = []
    for file in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with suppress(OSError):
            counts += re.findall(r"(?m)^oom_kill (\d+)$", Path(file).read_text())
    return sum(map(int, counts)) if counts else None


def _why_it_died(code: int | None, before: int | None) -> str:
    """What is known of the end of a kernel, and what to do.

    code: its exit code, as of ``subprocess``;  before: ``_memory_kills`` when it began.
    """
    less = "lower `batch_size` or `workers` under `runtime:`"
    if code is None:
        return "how it ended is not known: run it again"
    if code == -signal.SIGKILL:
        if before is None:
            return f"SIGKILL ended it, which is mostly for want of memory: {less}"
        if _memory_kills() > before:
            return f"SIGKILL ended it as the system ran out of memory: {less}"
        return (
            "SIGKILL ended it, though the system has ended no process for want of memory: somebody "
            "or a limit of a batch system did; run it again"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        faults = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
        who = "a fault in the compiled code of a library" if name in faults else "from outside"
        return f"{name} ended it ({who}): run it again, and look at the lines above"
    if find_spec("ipykernel") is None:
        return "ipykernel is not installed: pip install -e '.[notebooks]'"
    return f"it ended itself, with exit code {code}: the lines above may say why"


def set_environment() -> None:
    """Set what kernels inherit."""
    os.environ[RUNNER] = "1"
    os.environ.setdefault("TQDM_MININTERVAL", "2")  # a line per tick would fill logs
    os.environ.setdefault("GLIBC_TUNABLES", GLIBC_TUNABLES)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the processes that measure
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small: threads delay
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # bars are text here


def execute(notebook: dict, name: str, values: dict, root: Path, partial: Path):
    """Execute a notebook at the project root; returns the executed notebook, not yet normalised.

    While it runs, and when it fails, the notebook as far as it ran lies in `partial`.
    Raises RuntimeError with three lines of text when a cell or the kernel fails.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    partial.parent.mkdir(parents=True, exist_ok=True)
    set_environment()
    shown = partial.relative_to(root)
    codes, memory_kills = [], _memory_kills()
    with temporary_folder() as runtime:
        config = Config()
        # Files as sockets: no port for others to reach, no warning. Such paths must be short.
        config.KernelManager.transport = "ipc" if len(str(runtime)) < 80 else "tcp"
        # A kernel asked politely to end in the middle of a cell prints a page about its sockets.
        config.NotebookClient.shutdown_kernel = "immediate"
        config.KernelManager.connection_file = str(runtime / "kernel.json")
        try:
            return papermill.execute_notebook(
                nbformat.from_dict(notebook),
                partial,
                parameters=values,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                cwd=root,
                config=config,
                coalesce_streams=True,
                kernel_manager_class=_kernels(codes),
            )
        except PapermillExecutionError as error:
            start = error.source.strip().partition("\n")[0][:80]
            raise RuntimeError(
                f"{name} failed in the cell In [{error.exec_count}], which starts: {start}\n"
                f"  {error.ename}: {' '.join(error.evalue.split())}\n"
                f"  The notebook as far as it ran, with the traceback: {shown}"
            ) from None
        except NoSuchKernel:
            raise RuntimeError(f"{name} failed: {_why_it_died(1, None)}") from None
        except RuntimeError as error:  # also of a kernel that never began
            if not codes and not isinstance(error, DeadKernelError):
                raise
            raise RuntimeError(
                f"{name} failed: its kernel died\n"
                f"  {_why_it_died(codes[0] if codes else None, memory_kills)}\n"
                f"  The notebook as far as it ran: {shown}"
            ) from None


def _show_parameters(executed, values: dict) -> None:
    """Let a report say these parameters: what `runtime` sets is no part of a result."""
    from papermill.translators import PythonTranslator

    for cell in executed.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = PythonTranslator.codify(values)


def run(
    name: str,
    item: str | None = None,
    take: dict[str, str] | None = None,
    given: dict | None = None,
    params_file: str | Path = "params.yaml",
    notebooks: str | Path = ".build/notebooks",
) -> Path:
    """Run notebook `name` (NN_noun) and write its report; returns the path of the HTML page.

    Writes results/<noun>/report.ipynb and report.html, or <item>.ipynb and <item>.html. Only then
    is .partial/<noun>-<item>/ removed, where a measurement in progress keeps what it has. First
    what killed runs have left is removed (`iaside.study.notebook.tidy`).
    Relative paths count from the project root. Raises UsageError before any kernel starts, or
    RuntimeError when a cell fails; then nothing is written to results/.
    """
    root = project_root()
    folder, params_file = root / notebooks, root / params_file
    paths = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        raise UsageError(
            f"no notebooks in {notebooks}: run `dvc repro strip`, or give --notebooks notebooks"
        )
    if name not in paths:
        raise UsageError(f"no notebook {name!r} in {notebooks}; {closest(name, paths)}")
    if item is not None and (not item or "/" in item or item.startswith(".")):
        raise UsageError(f"--item {item!r} is to name a file: no slash, no leading dot")
    params = read_study(params_file)
    nouns = [stem.partition("_")[2] for stem in paths]
    noun = name.partition("_")[2]
    notebook = read_json(paths[name], "a notebook", "run `dvc repro -f strip`")
    defaults = read_parameters(notebook, name)
    values = resolve_parameters(noun, defaults, params, nouns, item, take, given)

    tidy(root)
    partial = root / ".partial" / f"{noun}{f'-{item}' if item else ''}.ipynb"
    with _end_with_parent(), _workers((params.get("runtime") or {}).get("workers")):
        executed = report.normalise(execute(notebook, name, values, root, partial), root)
        _show_parameters(executed, values | {k: v for k, v in defaults.items() if k in RUNTIME})
        out = root / "results" / noun / f"{item or 'report'}.html"
        page = report.to_html(executed)
        write_text(out.with_suffix(".ipynb"), report.to_text(executed))
        write_text(out, page)
    partial.unlink()
    shutil.rmtree(partial.with_suffix(""), ignore_errors=True)
    return out


# ---------------------------------------------------------------- chores


def digest(out: Path, *files: Path) -> None:
    """Write the sha256 of some files, which changes with them and with nothing beside them."""
    found = {path.as_posix(): content_hash(path) for path in files}
    write_text(out, json.dumps(found, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 for a failed notebook, 2 for a wrong request."""
    parser = command_line(__doc__)
    a = parser.parse_args(argv)
    chores = ("strip", "code_hashes", "index", "prune", "record", "digest", "factories", "use")
    if sum(bool(getattr(a, name)) for name in ("notebook", *chores)) != 1:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in chores)
        parser.error(f"give exactly one of NN_noun, {options}")
    start = time.perf_counter()
    try:
        if a.strip:
            report.strip(*a.strip)
        elif a.code_hashes:
            report.write_code_hashes(*a.code_hashes)
        elif a.digest:
            digest(*map(Path, a.digest))
        elif a.factories:
            from iaside.study.check import factories

            of, folder = a.factories
            root = project_root()
            for key, code in factories(read_study(root / a.params), of, root).items():
                write_text(Path(folder) / f"{key}.json", json.dumps(code) + "\n")
        elif a.use:
            print(use(a.use))
        elif a.record:
            print(f"{os.path.relpath(recorded.record(project_root(), *a.record))} is written")
        elif a.prune:
            for path in report.prune(project_root()):
                print(f"{path} belongs to an earlier study: removed")
        elif a.index:
            write_index(project_root())
            keep_runs(project_root())
        else:
            out = run(a.notebook, a.item, dict(a.take), values_given(a), a.params, a.notebooks)
            print(f"{os.path.relpath(out)} ({time.perf_counter() - start:.0f} s)")
    except (UsageError, DamagedError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run it again and it goes on where it can", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].startswith("-"):  # a notebook
        warm.become("iaside.study.run", sys.argv[1:])
    sys.exit(main())
