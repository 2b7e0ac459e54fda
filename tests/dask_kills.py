"""Kills of Dask workers, all at once, and of a scheduler, in the middle of a game."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import torch
from torch import nn

from iaside.backend import cluster, executors
from iaside.game.exact import coalition_worths
from iaside.spectral import band_masks

SIDE, N, M = 33, 8, 3


class Slow(nn.Module):
    """A small classifier that takes its time."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 2, 3)
        self.eval()

    def forward(self, x):
        time.sleep(0.05)
        return self.conv(x).relu().mean((2, 3))


def play(workers=1):
    x = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return coalition_worths(
        Slow(),
        x,
        torch.zeros(N).long(),
        band_masks(M, (SIDE, SIDE)),
        batch_size=4,
        progress=False,
        workers=workers,
    ).table


def kill_workers(workers, moment: float) -> dict:
    """Play while all workers are killed after some seconds: how long it took, whether it is right.

    workers: two, of ``cluster.connect``.
    """
    while len(pids := list(workers.client.run(os.getpid).values())) < 2:
        time.sleep(0.2)
    killer = threading.Timer(moment, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
    start = time.monotonic()
    killer.start()
    same = bool((play(workers) == play()).all())
    took = time.monotonic() - start
    killer.join()
    back = time.monotonic() + 120
    while workers.workers < 2:  # they are back for the next one
        if time.monotonic() > back:
            raise TimeoutError("the workers that were killed are not back after two minutes")
        time.sleep(0.2)
    return {"moment": moment, "seconds": took, "same": same}


def kill_scheduler(moment: float) -> str:
    """Play while the scheduler is killed after some seconds: all that this says on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://127.0.0.1:{port}"
    commands = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        *[[*dask, "worker", address, "--nthreads", "1", "--no-nanny"]] * 2,
    ]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    started = [subprocess.Popen(command, **quiet) for command in commands]
    try:
        told = [sys.executable, __file__, address, str(started[0].pid), str(moment)]
        return subprocess.run(told, env=env, text=True, capture_output=True, timeout=120).stderr
    finally:
        for process in started:
            process.kill()
            process.wait()


def _play_at(address: str, scheduler: int, moment: float) -> None:
    executors.TIMEOUT = 60  # until the scheduler is there
    with cluster.connect(address) as workers:
        while workers.workers < 2:
            time.sleep(0.2)
        threading.Timer(moment, os.kill, (scheduler, signal.SIGKILL)).start()
        play(workers)


def kills(n: int, seed: int = 0) -> list[dict]:
    """Kill all workers n times, at random moments of a game."""
    import dask
    from distributed import LocalCluster

    rng = random.Random(seed)
    # Dask gives a worker up that was killed and does not come back within 15 s, too little for the
    # import of torch on a busy machine.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "120 s"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
        ) as here,
        cluster.connect(here) as workers,
    ):
        return [kill_workers(workers, rng.uniform(0.05, 1.5)) for _ in range(n)]


if __name__ == "__main__":
    _play_at(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
