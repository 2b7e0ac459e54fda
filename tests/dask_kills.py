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

from iaside import cluster
from iaside.spectral import band_masks
from iaside.worths import coalition_worths

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


def play(client=None):
    x = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return coalition_worths(Slow(), x, torch.zeros(N).long(), band_masks(M, (SIDE, SIDE)),
                            batch_size=4, progress=False, client=client).table  # fmt: skip


def kill_workers(client, moment: float) -> dict:
    """Play while all workers are killed after some seconds: how long it took, whether it is right.

    client: of ``cluster.connect("local")``.
    """
    while len(pids := list(client.client.run(os.getpid).values())) < 2:
        time.sleep(0.2)
    killer = threading.Timer(moment, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
    start = time.monotonic()
    killer.start()
    same = bool((play(client) == play()).all())
    took = time.monotonic() - start
    killer.join()
    while client.threads < 2:  # they are back for the next one
        time.sleep(0.2)
    return {"moment": moment, "seconds": took, "same": same}


def kill_scheduler(moment: float) -> str:
    """Play while the scheduler is killed after some seconds: all that this says on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://127.0.0.1:{port}"
    commands = [[*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
                *[[*dask, "worker", address, "--nthreads", "1", "--no-nanny"]] * 2]  # fmt: skip
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
    cluster.PATIENCE = 60  # until the scheduler is there
    with cluster.connect(address) as client:
        while client.threads < 2:
            time.sleep(0.2)
        threading.Timer(moment, os.kill, (scheduler, signal.SIGKILL)).start()
        play(client)


def kills(n: int, seed: int = 0) -> list[dict]:
    """Kill all workers n times, at random moments of a game."""
    rng = random.Random(seed)
    before, cluster._places = cluster._places, lambda device: 2
    try:
        with cluster.connect("local") as client:
            return [kill_workers(client, rng.uniform(0.05, 1.5)) for _ in range(n)]
    finally:
        cluster._places = before


if __name__ == "__main__":
    _play_at(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
