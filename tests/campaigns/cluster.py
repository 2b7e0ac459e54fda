"""A game whose Dask workers are all killed in the middle of it, and one whose scheduler is.

The table must come out the same, and a scheduler that is gone must be said in one line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from child import drawn, nothing, unclear
from kills import MARK, processes

ROOT = Path(__file__).resolve().parents[2]
LIMIT, GRACE = 240, 20  # seconds for a game with a kill in it, and until all processes have ended
PLAY = "import dask_kills, json; print(json.dumps(dask_kills.kills(1, {})))"
SCHEDULER = "import dask_kills, sys; sys.stderr.write(dask_kills.kill_scheduler({}))"


def attempt(part: str, k: int, seed: int, place: Path) -> dict:
    """The first try kills the scheduler, the others all workers."""
    draw, mark = drawn(seed, part, k), uuid.uuid4().hex
    moment = draw.uniform(0.05, 1.5)
    code = SCHEDULER.format(moment) if k == 0 else PLAY.format(draw.randrange(2**30))
    found = nothing("the scheduler" if k == 0 else "all workers")
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests"))
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": paths, MARK: mark},
    )
    try:
        out, said = started.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        found["hangs"] = 1
    else:
        # Python shows where an error came from; what it says itself is the last line.
        if k == 0 and (unclear(said.strip().splitlines()[-1]) or "asyncio" in said):
            found |= {"unclear": 1, "what": said[-300:]}
        elif k and started.returncode:
            found |= {"lost": 1, "what": said[-300:]}
        elif k and not json.loads(out.splitlines()[-1])[0]["same"]:
            found["changed"] = 1
    end = time.monotonic() + (0 if found["hangs"] else GRACE)
    while (alive := processes(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    for process in alive:
        os.kill(process, signal.SIGKILL)
    started.wait()
    return found | ({} if found["hangs"] else {"orphans": len(alive)})
