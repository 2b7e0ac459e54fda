"""How fast the exact game of all coalitions is, against what could be had on this machine.

For each network, images per second of `coalition_worths` as the default study plays it (folded,
engine="openvino", float32, its own batch size; splitting, assembling, scoring, bookkeeping and a
first look included), in turn with, in one process: the bare network in PyTorch; in OpenVINO and in
ONNX Runtime (where the packages onnx and onnxruntime are installed, which the kit does without),
the faster of one picture at a time and of a batch; an earlier state of this kit, from a folder; and
a product of float32 matrices, whose rate times the network's FLOP is the roofline.

    git worktree add ../before COMMIT
    python benchmarks/throughput.py [model ...] [--before ../before] [--rounds 5] [--images 6]

Prints a line of rates per network. The last line is JSON: for each network the medians over rounds
of game / bare engine, game / bare ONNX Runtime, game / game before, game / roofline, game / bare
PyTorch, and what folding gains with gradients.
"""

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from iaside.backend.engine import _openvino
from iaside.backend.precision import arithmetic
from iaside.game.exact import coalition_worths
from iaside.inputs.classifier import load_model
from iaside.inputs.folding import folded
from iaside.spectral import band_masks

PACKAGED = [
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "squeezenet1_1",
]
BATCH = 16  # pictures, of what is asked bare
SIDE = 2048  # of the matrices


def kit_at(folder: str) -> tuple[Callable, Callable, Callable]:
    """load_model, folded and coalition_worths of another state of this package, beside this one."""

    def ours() -> dict:
        return {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "iaside"}

    here = ours()
    for name in here:
        del sys.modules[name]
    sys.path.insert(0, str(Path(folder).resolve()))
    try:
        kit = importlib.import_module("iaside")
        assert Path(kit.__file__).is_relative_to(Path(folder).resolve()), kit.__file__
        return kit.load_model, kit.folded, kit.coalition_worths
    finally:
        sys.path.pop(0)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(here)


def bare_torch(net, batch) -> Callable:
    @torch.no_grad()
    def run():
        with arithmetic("float32", batch.device):
            net(batch)

    return run


def bare_openvino(net, batch, at_once: int) -> Callable:
    """Requests as OpenVINO advises: a stream per thread for one picture, all threads for many."""
    openvino, threads = _openvino(), torch.get_num_threads()
    pictures = batch.contiguous()
    network = openvino.convert_model(net, example_input=pictures[:at_once])
    network.reshape([at_once, *batch.shape[1:]])
    compiled = openvino.Core().compile_model(
        network,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads if at_once == 1 else 1,
            "ENABLE_CPU_PINNING": False,
        },
    )
    queue = openvino.AsyncInferQueue(compiled, threads if at_once == 1 else 1)

    def run():
        for part in pictures.split(at_once):
            queue.start_async([part.numpy()], share_inputs=True)
        queue.wait_all()

    return run


def bare_onnxruntime(net, batch, at_once: int) -> Callable | None:
    try:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/net.onnx"
            torch.onnx.export(net, (batch[:at_once].contiguous(),), path, dynamo=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(path, options)
    except (ImportError, torch.onnx.errors.OnnxExporterError) as error:
        print(f"no ONNX Runtime: {error}", file=sys.stderr)
        return None
    name, pictures = session.get_inputs()[0].name, batch.contiguous()

    def run():
        for part in pictures.split(at_once):
            session.run(None, {name: part.numpy()})

    return run


def gradients(net, batch) -> Callable:
    def run():
        x = batch[:4].clone().requires_grad_()
        torch.autograd.grad(net(x).sum(), x)

    return run


def per_second(run: Callable, n: int, seconds: float) -> float:
    """How many of n a call are done a second, over calls for so long.

    With one thread the time of the processor counts where that is less: a busy machine delays.
    """
    start, cpu, calls = time.perf_counter(), time.process_time(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        run()
        calls += 1
    took = time.perf_counter() - start
    if torch.get_num_threads() == 1:
        took = min(took, time.process_time() - cpu)
    return n * calls / took


def measured(name: str, given: argparse.Namespace, before) -> dict:
    whole = load_model(name)
    net = folded(whole)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(given.images, 3, *net.input_size, generator=generator)
    labels = torch.zeros(given.images, dtype=torch.long)
    masks = band_masks(given.bands, net.input_size)
    batch = torch.rand(BATCH, *x.shape[1:], generator=generator)
    batch = batch.contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        whole(batch[:1])
    matrices = torch.rand(2, SIDE, SIDE)

    def game(worths, network, **how):
        return lambda n=given.images: worths(
            network, x[:n], labels[:n], masks, progress=False, **how
        )

    games = {"game": game(coalition_worths, net, engine="openvino")}
    if before:
        load, fold, worths = before
        games["before"] = game(worths, fold(load(name)))
    passes = given.images * 2**given.bands
    calls = {
        "torch": (bare_torch(whole, batch), BATCH),
        "openvino": (bare_openvino(whole, batch, 1), BATCH),
        "openvino_batch": (bare_openvino(whole, batch, BATCH), BATCH),
        "onnxruntime": (bare_onnxruntime(whole, batch, 1), BATCH),
        "onnxruntime_batch": (bare_onnxruntime(whole, batch, BATCH), BATCH),
        "gradient": (gradients(whole, batch), 4),
        "gradient_folded": (gradients(net, batch), 4),
        "matrices": (lambda: matrices[0] @ matrices[1], 2 * SIDE**3),
    }
    calls = {key: call for key, call in calls.items() if call[0]}
    for run, _ in calls.values():
        run()
    for play in games.values():
        play(1)  # it also finds its batch size
    rounds = []
    for _ in range(given.rounds):
        rates = {}
        for key, play in games.items():
            rates[key] = per_second(play, passes, 0)
            rates |= {
                k: per_second(run, n, given.seconds)
                for k, (run, n) in calls.items()
                if k not in rates
            }
        rates["roofline"] = rates["matrices"] / counter.get_total_flops()
        rounds.append(rates)
    print(
        name,
        {
            k: round(statistics.median(r[k] for r in rounds), 1)
            for k in rounds[0]
            if k != "matrices"
        },
        flush=True,
    )

    def ratio(of: Callable) -> float:
        return round(statistics.median(map(of, rounds)), 3)

    return {
        "of_engine": ratio(lambda r: r["game"] / max(r["openvino"], r["openvino_batch"])),
        "of_onnxruntime": ratio(lambda r: r["game"] / max(r["onnxruntime"], r["onnxruntime_batch"]))
        if "onnxruntime" in rounds[0]
        else None,
        "of_before": ratio(lambda r: r["game"] / r["before"]) if before else None,
        "of_roofline": ratio(lambda r: r["game"] / r["roofline"]),
        "of_torch": ratio(lambda r: r["game"] / r["torch"]),
        "folded_gradient": ratio(lambda r: r["gradient_folded"] / r["gradient"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=PACKAGED)
    parser.add_argument("--before", help="a folder that holds an earlier state of this project")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each bare rate in a round")
    given = parser.parse_args()
    before = kit_at(given.before) if given.before else None
    print(json.dumps({name: measured(name, given, before) for name in given.models}))


if __name__ == "__main__":
    main()
