"""Arithmetic that is what it says, and batch sizes that are close to the best."""

import pytest
import torch

from iaside.machine import _measure_batch_size, arithmetic, pick_device, resolve_precision


@pytest.mark.parametrize(
    "cost",  # seconds of a pass of n images
    [
        lambda n: 1e-3 * n,  # flat: any size is as good
        lambda n: 0.02 + 1e-4 * n,  # the larger the better
        lambda n: 0.01 + 1e-3 * n + 1e-4 * max(0, n - 8) ** 1.5,  # best at 8 or so
        lambda n: 3.0 * n,  # one image is slow enough
    ],
)
def test_the_batch_size_is_within_five_per_cent_of_the_best(cost):
    asked = []

    def seconds(batch):
        asked.append(len(batch))
        return cost(len(batch))

    size = _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8))
    best = min(cost(n) / n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256))
    assert cost(size) / size <= 1.05 * best
    assert max(asked) <= 256


def test_a_calibration_does_not_try_what_does_not_pay():
    asked = []

    def seconds(batch):
        asked.append(len(batch))
        return 1e-3 * len(batch)

    assert _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8)) == 1
    assert max(asked) <= 4, "flat throughput: two sizes that gain nothing are enough"


def test_memory_that_runs_out_ends_the_search():
    def seconds(batch):
        if len(batch) > 8:
            raise torch.OutOfMemoryError
        return 1.0 / len(batch)

    assert _measure_batch_size(seconds, torch.zeros(1, 3, 8, 8)) == 8


def test_float32_is_not_replaced_by_tf32_and_settings_come_back():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    with arithmetic("float32", torch.device("cpu")):
        assert not cudnn.allow_tf32 and not matmul.allow_tf32
        assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(KeyboardInterrupt), arithmetic("bfloat16", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
        raise KeyboardInterrupt
    assert (cudnn.allow_tf32, matmul.allow_tf32) == before
    assert not torch.is_autocast_enabled("cpu")


def test_precision_and_device_by_name():
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"
    able = torch.cpu.get_capabilities()
    native = any(able.get(k) for k in ("avx512_bf16", "amx_bf16", "bf16"))
    assert resolve_precision("auto", "cpu") == ("bfloat16" if native else "float32")
    assert resolve_precision("auto", "mps") == "float32"
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps", "xpu")
    with pytest.raises(ValueError, match="precision='half' is not known"):
        resolve_precision("half", "cpu")
