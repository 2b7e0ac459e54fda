"""Who answers where no gradient is wanted: PyTorch, or OpenVINO, which is faster on a CPU.

A network is converted once and compiled for one number of pictures, so that the answer to one
depends on nothing else: not on the pictures beside it, nor on the number of threads, each of which
answers by itself. What could be answered otherwise than by PyTorch is not converted (`converted`
names the reason): OpenVINO's activations make a number of nan, so nothing that makes nan of
numbers is taken, and pictures or networks near the largest float32 are left to PyTorch.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iaside.backend.answers import Place, logits_of, taken
from iaside.backend.fingerprints import fingerprint_model
from iaside.backend.inside import is_sealed
from iaside.backend.precision import as_outside

ENGINES = ("torch", "openvino")
TOLERANCE = 1e-4  # of log-probabilities, or of as much of what they are
PIXELS = 2**16  # of the pictures answered at a time: of 224 x 224 one, and no time is lost
NEAR = 2**23  # bytes of weights that stay in a cache; more are read anew each time, so for two
TOGETHER = 16  # pictures that are asked for together, at least: what each costs besides is shared
KEPT = 4  # networks that are in memory, ready to answer
BRIGHTEST = 1e3  # of pixels: sums of bands leave [0, 1] by little
LARGEST = 1e12  # inside a network, of the first pictures: far from 3e38, where numbers end
TELLING = set(
    "__array__ __bool__ __contains__ __float__ __index__ __int__ allclose equal is_nonzero item "
    "nonzero numpy tolist".split()
)  # functions by which Python is told a number
HARMLESS = set(
    "Abs AdaptiveAvgPool AdaptiveMaxPool Add AvgPool BatchNormInference Broadcast Ceiling Clamp "
    "Concat Constant Convert Convolution Elu Erf Floor Gather Gelu GroupConvolution HSigmoid "
    "HSwish HardSigmoid Interpolate MVN MatMul MaxPool Maximum Minimum Mish Multiply Negative "
    "PRelu Pad Parameter ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Result Roll "
    "ScaledDotProductAttention Selu ShapeOf Sigmoid Slice SoftPlus SoftSign Softmax Split "
    "Squeeze StridedSlice Subtract Swish Tanh Tile Transpose Unsqueeze VariadicSplit".split()
)  # operations that make finite numbers of finite ones
BY_CONSTANTS = {"Divide", "FloorMod", "Mod"}  # these, where they divide by a constant


def check_engine(engine: str) -> None:
    """Refuse an engine that is not known, or not installed.

    Errors: ValueError; ModuleNotFoundError that says what to install.

    >>> check_engine("torch")
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r} is not known; choose one of {', '.join(ENGINES)}")
    if engine not in installed():
        raise ModuleNotFoundError(
            "engine='openvino' needs the package openvino: pip install 'iaside[engine]', or "
            "choose engine='torch'"
        )


def installed() -> list[str]:
    """Engines that are here.

    >>> "torch" in installed()
    True
    """
    return [e for e in ENGINES if importlib.util.find_spec(e) is not None]


def named(engine: str) -> str:
    """An engine with its version, as provenances and resume keys hold it; PyTorch has none there.

    >>> named("torch")
    'torch'
    """
    return engine if engine == "torch" else f"{engine} {importlib.metadata.version(engine)}"


class Engine:
    """A converted network: pictures (n, C, H, W) float32 -> answers (n, ...), as the network gives.

    It is converted when it is first asked, in each process, and by its content only once. Copies
    and what is sent to another process take the network along, and not what was compiled.
    """

    def __init__(self, model: Callable, place: Place, shape: tuple, content: str) -> None:
        self.model, self.place, self.shape, self.content = model, place, tuple(shape), content
        self.named = named("openvino")
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        self.batch = max(2 if weights > NEAR else 1, PIXELS // (shape[-1] * shape[-2]))
        self.together = self.batch * -(-TOGETHER // self.batch)  # no place of a batch is left empty

    def takes(self, x: Tensor) -> bool:
        """Whether these pictures are for it, and nobody asks for gradients or lower precision."""
        return (
            x.shape[1:] == self.shape
            and x.dtype == torch.float32
            and x.device.type == "cpu"
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )

    def __call__(self, x: Tensor) -> Tensor:
        return _ready(self)(x)


def converted(
    model: Callable, pair: Tensor, answer: Tensor, outputs: str, place: Place
) -> tuple[Engine | None, str]:
    """A network for OpenVINO, or None and why PyTorch answers.

    Shapes: pair (2, C, H, W) float32, the first pictures;  answer (2, classes), what the network
    gives for them;  outputs and place: as in ``iaside.backend.answers``.
    The answers to the first pictures must agree in their log-probabilities to 1e-4, or that share.
    """
    if why := _unfit(model, pair):
        return None, why
    content = fingerprint_model(model, answer)
    engine = Engine(model, place, pair.shape[1:], content)
    try:
        _check_inside(model, pair)
        found = engine(pair)
    except _Unfit as unfit:
        return None, str(unfit)
    except Exception as error:  # whatever its converter does not know
        return None, f"it cannot be converted ({type(error).__name__})"
    if found.shape != answer.shape:
        return None, "its first answers have another shape"
    found, wanted = (logits_of(a, outputs).double().log_softmax(1) for a in (found, answer))
    off = (found - wanted).abs() / wanted.abs().clamp(min=1)
    if not off.max() <= TOLERANCE:
        return None, "its first answers differ"
    return engine, ""


def outside(x: Tensor) -> list[int]:
    """Which pictures (n, C, H, W) have pixels so bright that float32 may end inside a network.

    >>> outside(torch.tensor([0.5, -1e6, torch.nan]).view(3, 1, 1, 1))
    [1, 2]
    """
    if not len(x):
        return []
    if x.amin() >= -BRIGHTEST and x.amax() <= BRIGHTEST:
        return []
    return (~(x.flatten(1).abs().amax(1) <= BRIGHTEST)).nonzero().flatten().tolist()


class _Unfit(Exception):
    """Why a network is left to PyTorch."""


def _unfit(model: Callable, pair: Tensor) -> str:
    """Why a network is not even tried."""
    if not isinstance(model, nn.Module):
        return "it is no torch module"
    if is_sealed(model):
        return "it is TorchScript or was exported"
    tensors = [*model.parameters(), *model.buffers()]
    if pair.device.type != "cpu" or any(t.device.type != "cpu" for t in tensors):
        return "it is not on the CPU"
    if any(t.is_floating_point() and t.dtype != torch.float32 for t in (*tensors, pair)):
        return "it is not in float32"
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
        return "it has hooks"
    return ""


class _Seen(TorchFunctionMode):
    """The largest number that a function of torch gives, and whether Python was told one."""

    largest, told = 0.0, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.told |= getattr(func, "__name__", "") in TELLING
        out = func(*args, **kwargs or {})
        if isinstance(out, Tensor) and out.is_floating_point() and out.numel():
            with torch._C.DisableTorchFunction():
                size = out.detach().abs().max().item()
            self.largest = size if not size <= self.largest else self.largest  # nan, too
        return out


def _check_inside(model: Callable, pair: Tensor) -> None:
    """Refuse a network that other pictures may take another path through, or to no number."""
    # With gradients, as packed convolutions then ask their parts, which are seen.
    with torch.enable_grad(), _Seen() as seen:
        as_outside(model)(pair.clone())
    if seen.told:
        raise _Unfit("its path may depend on what it is shown")
    if not seen.largest <= LARGEST:
        raise _Unfit("numbers inside it are near the largest there are")


# -- OpenVINO --------------------------------------------------------------------------------------

_compiled: dict[tuple, _Compiled] = {}
_lock = threading.Lock()


def _ready(engine: Engine) -> _Compiled:
    """The compiled network of this process."""
    key = engine.content, engine.place, engine.shape, torch.get_num_threads(), os.getpid()
    with _lock:
        found = _compiled.pop(key, None) or _Compiled(engine, torch.get_num_threads())
        _compiled[key] = found  # the last one asked is the last to go
        while len(_compiled) > KEPT:
            del _compiled[next(iter(_compiled))]
    return found


class _Compiled:
    """One request for each thread, each for so many pictures at a time."""

    def __init__(self, engine: Engine, threads: int) -> None:
        check_engine("openvino")
        if engine.named != (here := named("openvino")):
            raise RuntimeError(
                f"this worker has {here}, and {engine.named} is asked: install the same, or "
                "results may differ"
            )
        openvino = _openvino()
        self.tensor, self.batch, self.lock = openvino.Tensor, engine.batch, threading.Lock()
        network = openvino.Core().compile_model(
            _graph(openvino, engine),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",  # left alone it takes bfloat16
                "NUM_STREAMS": threads,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # or every process would take the same cores
            },
        )
        self.requests = [network.create_infer_request() for _ in range(threads)]
        self.precision = network.get_property("INFERENCE_PRECISION_HINT")

    def __call__(self, x: Tensor) -> Tensor:
        pictures = x.permute(0, 2, 3, 1).contiguous()  # as they lie in memory, if channels last
        answers: list[Tensor] = []
        with self.lock:
            running: list = []  # requests in the order of their pictures, and these
            for part in pictures.split(self.batch):
                free = len(running) < len(self.requests)
                request = self.requests[len(running)] if free else self._ended(running, answers)
                shown = part
                if len(part) < self.batch:
                    shown = part.new_zeros(self.batch, *part.shape[1:])
                    shown[: len(part)] = part
                request.set_input_tensor(self.tensor(shown.numpy(), shared_memory=True))
                request.start_async()
                running.append((request, shown, len(part)))
            while running:
                self._ended(running, answers)
        return torch.cat(answers)

    def _ended(self, running: list, answers: list[Tensor]):
        """Wait for the request that was started first, and keep its answers; it is free now."""
        request, _, n = running.pop(0)
        request.wait()
        answers.append(torch.from_numpy(request.get_output_tensor(0).data[:n].copy()))
        return request


def _openvino():
    """The package, which says nothing to anybody about being imported or used."""
    ours = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if ours:
        sys.modules["openvino_telemetry"] = None  # it does without
    try:
        import openvino
    finally:
        if ours:
            del sys.modules["openvino_telemetry"]
    return openvino


def _graph(openvino, engine: Engine):
    """A network as OpenVINO's, for pictures that lie channels last."""
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    generator = torch.Generator().manual_seed(0)
    x = torch.rand(engine.batch, *engine.shape, generator=generator)
    network = _Alone(engine.model, engine.place).eval()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, x, check_trace=False)
    # Not `convert_model`, which reports its use.
    front = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=x)  # which must outlive `load`
    graph = front.convert(front.load(decoder))
    graph.reshape([engine.batch, *engine.shape])
    if (made := _may_break(graph)) is not None:
        raise _Unfit(f"its {made} may make nan")
    steps = openvino.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


class _Alone(nn.Module):
    """A network that gives nothing but the tensor that is asked for."""

    def __init__(self, model: Callable, place: Place) -> None:
        super().__init__()
        self.model, self.place = model, place

    def forward(self, x: Tensor) -> Tensor:
        return taken(as_outside(self.model)(x), self.place)


def _may_break(graph) -> str | None:
    """The first operation on pixels that may make nan of numbers, None where there is none."""
    of_pixels = set()
    for op in graph.get_ordered_ops():
        kind = op.get_type_name()
        given = [
            op.input_value(i).get_node().get_name() in of_pixels for i in range(op.get_input_size())
        ]
        if kind == "Parameter" or (any(given) and kind != "ShapeOf"):
            of_pixels.add(op.get_name())
            divides = kind in BY_CONSTANTS and not given[1]
            if kind not in HARMLESS and not divides:
                return kind
    return None
