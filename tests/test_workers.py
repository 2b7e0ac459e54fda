"""Jobs in processes: with one at a time none is started; `tests/test_training.py` starts two."""

import pytest
import torch

from iaside.workers import in_processes


def work(k, name, common, report):
    if k == 3:
        raise ValueError("no third")
    report(name, k * common, torch.get_num_threads())


def test_jobs_run_in_order_in_one_thread():
    said, threads = [], torch.get_num_threads()
    jobs = {name: (k, name) for k, name in enumerate("abc")}
    in_processes(work, jobs, 10, 1, lambda *row: said.append(row))
    assert said == [("a", 0, 1), ("b", 10, 1), ("c", 20, 1)]
    assert torch.get_num_threads() == threads
    with pytest.raises(RuntimeError, match="d failed: ValueError: no third"):
        in_processes(work, {"d": (3, "d")}, 10, 1)
    assert torch.get_num_threads() == threads
