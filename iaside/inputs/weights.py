"""State dicts: read from files that hold tensors only, and loaded where they fit."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from iaside.backend.log import log

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
# What checkpoints call the averaged weights, which are the ones that are deployed; then the others.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATES = (*AVERAGED, "state_dict", "model_state_dict", "model", "net", "network", "module")
# Other people's endings: what such a file is, and who takes it.
_OTHERS = {
    ".onnx": "an ONNX network: give its session as a callable pixels -> logits",
    ".pt2": "what torch.export saved: give torch.export.load(path).module() as the model",
    ".h5": "TensorFlow's: give the network as a callable pixels -> logits",
    ".keras": "TensorFlow's: give the network as a callable pixels -> logits",
    ".pkl": "a pickle, which may run any code: save the state dict with torch.save",
}
_BUILTIN = ("bool", "dict", "float", "int", "list", "str")  # as types of settings
# Whose objects trainers leave beside the tensors: `_Unread` stands there, and no code is run.
_UNREAD = (
    "argparse.Namespace",
    "numpy.",
    "pytorch_lightning.utilities.parsing.",
    "lightning.pytorch.utilities.parsing.",
    "lightning_fabric.utilities.data.",
    "lightning.fabric.utilities.data.",
    "omegaconf.",
    "pathlib.",
    "collections.defaultdict",
    "types.SimpleNamespace",
    "typing.Any",
    "datetime.",
    *(f"{module}.{kind}" for module in ("builtins", "__builtin__") for kind in _BUILTIN),
)
_IN_OLD_FILES = (  # of torch before 1.6, which cannot be asked for the names in them
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of weights, or in a trainer's checkpoint; no code in it is run.

    Of a checkpoint the averaged weights (EMA) are taken where it has some, which stderr says, else
    the usual entries (``STATES``). Settings of Lightning, OmegaConf and the like are passed over.
    Errors: ValueError for another ending, a damaged file, or what holds more than tensors, numbers
    and names, with the line that mends it.
    """
    if path.suffix not in ENDINGS:
        what = f": {path.suffix} is {_OTHERS[path.suffix]}" if path.suffix in _OTHERS else ""
        raise ValueError(
            f"weights {str(path)!r}: the file must end in {', '.join(ENDINGS[:-1])} or .pth.tar"
            f"{what}"
        )
    _refuse_what_is_none(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a readable safetensors file ({error}): "
                "it may be incomplete; copy or download it again."
            ) from error
    try:
        with torch.serialization.safe_globals(_stand_ins(path)):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refused(path, str(error))) from None
    except Exception as error:  # zip and pickle have a dozen kinds for damaged bytes
        raise ValueError(
            f"{path} is damaged, or no file of torch ({type(error).__name__}): copy or download it "
            "again"
        ) from error
    return _state_in(path, found)


class _Unread:
    """Stands where a checkpoint has an object of another library, and keeps nothing of it."""

    def __init__(self, *args, **more) -> None: ...

    def __new__(cls, *args, **more):
        return super().__new__(cls)

    def __setstate__(self, state) -> None: ...


class _AsDict:
    """The same for dictionaries: a plain one stands there."""

    def __new__(cls, *args, **more):
        return {}


def _stand_ins(path: Path) -> list[tuple[type, str]]:
    """What is put in the place of settings, with the names that the file calls them by."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # damaged, too: what is wrong is said when it is loaded
        named = _IN_OLD_FILES
    return [
        (_AsDict if name.lower().endswith("dict") else _Unread, name)
        for name in named
        if name.startswith(_UNREAD)
    ]


def _refuse_what_is_none(path: Path) -> None:
    """Say what a file is that only looks like weights."""
    with path.open("rb") as file:
        start = file.read(100)
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is Git LFS's pointer to weights: get them with `git lfs pull`")
    if start.lstrip()[:1] == b"<":
        raise ValueError(f"{path} is a web page and no weights: download the file itself")
    if not start:
        raise ValueError(f"{path} is damaged, it is empty: copy or download it again")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if any(name.endswith("/constants.pkl") for name in file.namelist()):
                raise ValueError(
                    f"{path} is a TorchScript program, not weights: in Python give the program as "
                    f"the model, ia.report(torch.jit.load({str(path)!r}).eval(), images, labels)"
                )


def _refused(path: Path, why: str) -> str:
    """What is in the file that is not unpickled, and the line that makes a file without it."""
    kind = re.search(r"GLOBAL ([\w.]+)", why)
    what = f"an object of {kind[1]}" if kind else "more than tensors"
    whole = kind and ("torch.nn" in kind[1] or kind[1].startswith(("__main__", "timm.", "torchvi")))
    take = "found.state_dict()" if whole else "found['state_dict']"
    return (
        f"{path} holds {what}, or is damaged. Unpickling may run any code: if you trust the file, "
        f"make one of tensors alone: found = torch.load({str(path)!r}, weights_only=False); "
        f"torch.save({take}, 'weights.pth')"
    )


def _state_in(path: Path, found: object) -> dict[str, Tensor]:
    name = ""
    while isinstance(found, dict) and not _is_state(found):
        names = [n for n in STATES if isinstance(found.get(n), dict)]
        if not names:
            break
        name = f"{name}.{names[0]}".lstrip(".")
        if names[0] in AVERAGED:
            log.info(f"{path}: its averaged weights are taken, {name!r}")
        found = found[names[0]]
    if not _is_state(found):
        entries = f": it has {', '.join(map(str, found))!s:.200}" if isinstance(found, dict) else ""
        raise ValueError(
            f"{path} holds no state dict{entries}; save it as torch.save(net.state_dict(), path)."
        )
    return found


def _is_state(found: object) -> bool:
    """Tensors by name, and nothing else; an average counts its updates beside them."""
    return (
        isinstance(found, dict)
        and bool(found)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items())
    )


def unwrapped(state: dict[str, Tensor], own: Iterable[str], whose: Path | str) -> dict[str, Tensor]:
    """A state dict without what wrappers put before a network's own names.

    DataParallel, torch.compile, Lightning and averages do: ``module.``, ``_orig_mod.``, ``model.``.
    Of several networks in it the averaged one is taken, which stderr says.
    Errors: ValueError where two others fit.

    >>> list(unwrapped({"module.w": torch.ones(1), "loss.w": torch.ones(1)}, ["w"], "a.pth"))
    Traceback (most recent call last):
    ValueError: a.pth holds 2 networks that fit, 'loss.' and 'module.': keep one, such as \
torch.save({k[5:]: v for k, v in state.items() if k.startswith('loss.')}, 'weights.pth')
    """
    own = list(own)
    found = {p: sum(p + name in state for name in own) for p in _prefixes(state, own)}
    best = sorted(prefix for prefix, n in found.items() if n == max(found.values()))
    if not best or "" in best:
        return state
    averaged = [prefix for prefix in best if "ema" in prefix.lower()]
    if len(best) > 1 and len(averaged) != 1:
        raise ValueError(
            f"{whose} holds {len(best)} networks that fit, {' and '.join(map(repr, best))}: keep "
            f"one, such as torch.save({{k[{len(best[0])}:]: v for k, v in state.items() if "
            f"k.startswith({best[0]!r})}}, 'weights.pth')"
        )
    if len(best) > 1:
        log.info(f"{whose}: its averaged weights are taken, {averaged[0]!r}")
    prefix = (averaged if len(best) > 1 else best)[0]
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _prefixes(state: Iterable[str], own: list[str]) -> set[str]:
    """What stands before the first and last names of a network, of which a file may lack one."""
    ends = own[:1] + own[-1:]
    return {
        key.removesuffix(name)
        for key in state
        for name in ends
        if key == name or key.endswith(f".{name}")
    }


def load_state(net: nn.Module, state: dict[str, Tensor], whose: Path | str) -> None:
    """Give a network the weights of a state dict, with or without a wrapper's prefixes.

    Errors: ValueError that names what is missing, unexpected or of another shape.
    """
    own = net.state_dict()
    state = {
        k: v
        for k, v in unwrapped(state, own, whose).items()
        if k in own or not k.startswith(("aux1.", "aux2.", "AuxLogits."))
    }
    missing, surplus = [k for k in own if k not in state], [k for k in state if k not in own]
    wrong = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    if missing or surplus or wrong:
        parts = [
            f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
            for what, keys in (
                ("missing", missing),
                ("unexpected", surplus),
                ("of another shape", wrong),
            )
            if keys
        ]
        raise ValueError(
            f"the weights of {whose} do not fit the architecture: {'; '.join(parts)}. Check "
            "`library`, `architecture` and `num_classes` in the recipe."
        )
    # Through the net's own state dict, because it carries the format versions that safetensors does
    # not keep and without which MNASNet refuses to load.
    own.update(state)
    net.load_state_dict(own)
