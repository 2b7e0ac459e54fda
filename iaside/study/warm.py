"""Processes that begin with the libraries imported: forks of one that has done nothing else.

A stage costs seconds before it does anything: the runner, its kernel and their imports. Under
`make repro` one process imports the libraries once, and each runner and kernel is a fork of it.
What starts one gets this file instead of a new interpreter: it hands its arguments, environment
and streams to that process, and stands for the fork that this makes, with its signals and its end.
Nothing of iaside is imported beforehand, so that an edit is never run late; and where no process is
warm, or it was started with other settings of its libraries, a new interpreter runs as ever.

This file runs as a script, at the start of every stage: it needs the standard library alone.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator

SOCKET = "IASIDE_WARM"  # environment: where the warm process listens
FORKED = "IASIDE_FORKED"  # environment: the process that was forked
# What stages import, and what imports nothing but code: no thread, no device. Not pandas nor
# Matplotlib, which look at their import whether they are in a notebook.
LIBRARIES = (
    "papermill",
    "nbclient",
    "nbconvert",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "latex2mathml.converter",
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "tqdm",
    "PIL.Image",
    "torch",
    "torchvision",
    "timm",
    "safetensors.torch",
)
# What libraries read when they are loaded, or the interpreter when it starts.
READ_EARLY = ("OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_", "GLIBC_", "MALLOC_", "LD_", "PYTHON")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command(arguments: list[str], on_end: int = signal.SIGTERM) -> list[str]:
    """The command of a Python process with these arguments (-m module ..., -c text ...).

    on_end: the signal that it gets when its parent has ended.

    >>> command(["-c", ""]) == [sys.executable, "-c", ""] or SOCKET in os.environ
    True
    """
    if SOCKET not in os.environ:
        return [sys.executable, *arguments]
    return [sys.executable, "-S", "-P", __file__, str(int(on_end)), *arguments]


def become(module: str, arguments: list[str]) -> None:
    """Let a fork of the warm process do what this one is about to do; returns where none is."""
    if SOCKET in os.environ and not is_fork():
        os.execv(sys.executable, command(["-m", module, *arguments]))


def is_fork() -> bool:
    """Whether this process is a fork of the warm one."""
    return os.environ.get(FORKED) == str(os.getpid())


def end_with(parent: int, number: int) -> None:
    """Let this process get a signal when its parent ends, on Linux whatever it is at."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


# -- the process that stands for a fork ------------------------------------------------------------


def stand_for(arguments: list[str], on_end: int) -> int:
    """Have it forked, pass signals on to it, and end as it does; returns its exit code."""
    end_with(os.getppid(), on_end)
    fork, early = [], []

    def pass_on(number, _):
        if not fork:
            early.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(fork[0], number)

    ignored = [n for n in PASSED_ON if signal.getsignal(n) == signal.SIG_IGN]
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(os.environ[SOCKET])
        except OSError:
            return _cold(arguments)
        for number in set(PASSED_ON) - set(ignored):
            signal.signal(number, pass_on)
        asked = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "ignored": [int(n) for n in ignored],
        }
        _send(server, asked, (0, 1, 2))
        with server.makefile("r") as answers:
            for line in answers:
                answer = json.loads(line)
                if "process" in answer:
                    fork.append(answer["process"])
                    for number in early:
                        pass_on(number, None)
                elif "refused" in answer:
                    return _cold(arguments)
                else:
                    fork.clear()
                    return _ended(answer["code"])
    print("the process that had the libraries imported is gone", file=sys.stderr)
    return 1


def _cold(arguments: list[str]) -> int:
    os.environ.pop(SOCKET, None)
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *arguments])


def _ended(code: int) -> int:
    """End as another process has: with its exit code, or by its signal."""
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        with contextlib.suppress(ImportError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), -code)
    return code


def _send(connection: socket.socket, message: dict, files: tuple[int, ...]) -> None:
    """Send a JSON object, its length before it, and open files with the first byte."""
    data = json.dumps(message).encode()
    head = len(data).to_bytes(8, "big")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    connection.sendmsg([head], rights)
    connection.sendall(data)


def _receive(connection: socket.socket) -> tuple[dict, list[int]]:
    files = array.array("i")
    head, rights, _, _ = connection.recvmsg(8, socket.CMSG_LEN(3 * files.itemsize))
    for level, kind, data in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    data = b""
    while head and len(data) < int.from_bytes(head, "big"):
        piece = connection.recv(2**20)
        if not piece:
            raise EOFError
        data += piece
    return json.loads(data), list(files)


# -- the warm process ------------------------------------------------------------------------------


@contextlib.contextmanager
def libraries_imported(folder: str) -> Iterator[None]:
    """A warm process for all that is started inside, where the system can have one (Linux).

    folder: for its socket. It ends afterwards, or with this process, and its forks with it.
    """
    import subprocess

    if sys.platform != "linux" or not hasattr(os, "pidfd_open") or SOCKET in os.environ:
        yield
        return
    path = os.path.join(folder, "warm")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        process = subprocess.Popen(
            [sys.executable, __file__, "serve", str(listening.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
    os.environ[SOCKET] = path
    try:
        yield
    finally:
        del os.environ[SOCKET]
        process.stdin.close()
        process.wait()


def serve(listening: socket.socket) -> list[str] | None:
    """Import the libraries, then fork for whoever asks, until standard input ends.

    Returns in a fork, with its arguments; None in the warm process, at its end.
    """
    import gc
    import importlib
    import selectors

    before = {number: signal.getsignal(number) for number in PASSED_ON}
    for number in PASSED_ON:  # of a whole group: the forks end first
        signal.signal(number, signal.SIG_IGN)
    del sys.path[0]  # the folder of this file
    sys.modules["rfc3987_syntax"] = None  # as in iaside.study.report
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork that looked through all of this would copy it
    sound = len(os.listdir("/proc/self/task")) == 1  # a fork has none of its parent's threads

    forks: dict[int, tuple[int, socket.socket]] = {}  # process handle -> process, who asked
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ, "end")
        selector.register(listening, selectors.EVENT_READ, "ask")

        def over(handle: int) -> None:
            process, connection = forks.pop(handle)
            selector.unregister(handle)
            os.close(handle)
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(connection)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"code": code}).encode() + b"\n")
            connection.close()

        ending = False
        while not ending or forks:
            for key, _ in selector.select():
                match key.data:
                    case "end":
                        ending = True
                        selector.unregister(0)
                    case "ask":
                        connection, _ = listening.accept()
                        try:
                            asked, files = _receive(connection)
                        except (EOFError, OSError, ValueError):
                            connection.close()
                            continue
                        if not sound or not _fits(asked["environment"]):
                            connection.sendall(b'{"refused": true}\n')
                            connection.close()
                            for file in files:
                                os.close(file)
                            continue
                        server, process = os.getpid(), os.fork()
                        if not process:
                            for each in (listening, connection, *(c for _, c in forks.values())):
                                each.close()
                            for handle in forks:
                                os.close(handle)
                            _begin(asked, files, before, server)
                            return asked["arguments"]
                        for file in files:
                            os.close(file)
                        handle = os.pidfd_open(process)
                        forks[handle] = process, connection
                        selector.register(handle, selectors.EVENT_READ, "over")
                        selector.register(connection, selectors.EVENT_READ, handle)
                        with contextlib.suppress(OSError):
                            told = json.dumps({"process": process}).encode() + b"\n"
                            connection.sendall(told)
                    case "over":
                        if key.fd in forks:
                            over(key.fd)
                    case handle if handle in forks:  # who asked has gone
                        selector.unregister(key.fileobj)
                        os.kill(forks[handle][0], signal.SIGKILL)
    return None


def _fits(environment: dict[str, str]) -> bool:
    """Whether libraries loaded in that environment would be as they are here."""

    def early(where) -> dict[str, str]:
        return {name: value for name, value in where.items() if name.startswith(READ_EARLY)}

    return early(environment) == early(os.environ)


def _begin(asked: dict, files: list[int], before: dict, server: int) -> None:
    """Make a fork what a new process would be: streams, signals, folder, environment."""
    end_with(server, signal.SIGKILL)
    os.setsid()  # what a terminal sends comes from who stands for it, once
    for number, how in before.items():
        signal.signal(number, signal.SIG_IGN if number in asked["ignored"] else how)
    for target, file in enumerate(files):
        os.dup2(file, target)
    for file in files:
        if file > 2:
            os.close(file)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ |= asked["environment"] | {FORKED: str(os.getpid())}
    os.environ.pop("JPY_PARENT_PID", None)  # which is not its parent


def _run(arguments: list[str]) -> None:
    """What the interpreter does with -m module ... or -c text ..., also after -P."""
    import runpy

    safe = arguments[0] == "-P"
    flag, what, *rest = arguments[safe:]
    sys.argv = [flag, *rest]
    if not safe:
        sys.path.insert(0, os.getcwd() if flag == "-m" else "")
    if flag == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def _run_to_its_end(arguments: list[str]) -> None:
    """The rest of a fork's life, but for taking apart the libraries, which takes longest."""
    import atexit
    import threading

    code = 0
    try:
        _run(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with socket.socket(fileno=int(sys.argv[2])) as _listening:
            _arguments = serve(_listening)
        if _arguments is not None:
            _run_to_its_end(_arguments)
    else:
        sys.exit(stand_for(sys.argv[2:], int(sys.argv[1])))
