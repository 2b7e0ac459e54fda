"""State dicts: read from files that hold tensors only, and loaded where they fit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a readable safetensors file ({error}): "
                "it may be incomplete; copy or download it again."
            ) from error
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"weights {str(path)!r}: the file must end in .safetensors, .pt or .pth.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip have a dozen kinds for damaged bytes
        raise ValueError(
            f"{path} holds more than tensors, or is damaged ({type(error).__name__}). "
            "Save it as torch.save(net.state_dict(), path) or as safetensors."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{path} holds no state dict; save it as torch.save(net.state_dict(), path)."
        )
    return state


def load_state(net: nn.Module, state: dict[str, Tensor], whose: Path | str) -> None:
    own = net.state_dict()
    state = {
        k: v
        for k, v in state.items()
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
