"""State dicts: read from files that hold tensors only, and loaded where they fit."""

from __future__ import annotations

import argparse
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
# What checkpoints call the averaged weights, which are the ones that are deployed; then the others.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATES = (*AVERAGED, "state_dict", "model_state_dict", "model", "net", "network", "module")
# What wrappers put before every name: DataParallel, torch.compile, Lightning modules, averages.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
# What trainers leave beside the tensors; building these runs no code of the file.
_PLAIN = [
    argparse.Namespace,
    np.dtype,
    np._core.multiarray.scalar,
    *(
        getattr(np.dtypes, f"{name}DType")
        for name in ("Float64", "Float32", "Int64", "Int32", "Bool")
    ),
]


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of weights, or in a trainer's checkpoint; no code in it is run.

    Of a checkpoint the averaged weights (EMA) are taken where it has some, which stderr says, else
    the usual entries (``STATES``). Errors: ValueError for another ending, a damaged file, or what
    holds more than tensors, numbers and names.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(
            f"weights {str(path)!r}: the file must end in {', '.join(ENDINGS[:-1])} or .pth.tar"
        )
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a readable safetensors file ({error}): "
                "it may be incomplete; copy or download it again."
            ) from error
    try:
        with torch.serialization.safe_globals(_PLAIN):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refused(path, str(error))) from None
    except Exception as error:  # zip and pickle have a dozen kinds for damaged bytes
        raise ValueError(
            f"{path} is damaged, or no file of torch ({type(error).__name__}): copy or download it "
            "again"
        ) from error
    return _state_in(path, found)


def _refused(path: Path, why: str) -> str:
    """What is in the file that is not unpickled, and the line that makes a file without it."""
    kind = re.search(r"GLOBAL ([\w.]+)", why)
    what = f"an object of {kind[1]}" if kind else "more than tensors"
    whole = kind and ("torch.nn" in kind[1] or kind[1].startswith("__main__"))
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
            print(f"{path}: its averaged weights are taken, {name!r}", file=sys.stderr)
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


def _unwrapped(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefixes of wrappers, where the network's own names show then."""
    while not own.keys() & state.keys():
        prefix = next((p for p in PREFIXES if any(k.startswith(p) for k in state)), None)
        if prefix is None:
            return state
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state


def load_state(net: nn.Module, state: dict[str, Tensor], whose: Path | str) -> None:
    """Give a network the weights of a state dict, with or without a wrapper's prefixes.

    Errors: ValueError that names what is missing, unexpected or of another shape.
    """
    own = net.state_dict()
    state = {
        k: v
        for k, v in _unwrapped(state, own).items()
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
