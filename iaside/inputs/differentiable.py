"""Gradients of a model with respect to pixels, or the reason why there are none."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from iaside.backend.checks import in_a_line
from iaside.backend.precision import arithmetic
from iaside.inputs.asked import Asked
from iaside.inputs.labels import class_labels
from iaside.inputs.probe import probe

_NO_GRADIENT = (  # what autograd says of a model whose outputs do not depend on the pixels for it
    "does not require grad",
    "doesn't require grad",
    "been used in the graph",
    "Can't call numpy() on Tensor that requires grad",
    "nference tensor",
    "Can't export tensors that require gradient",
)
_BACKWARD = torch.autograd.graph._engine_run_backward.__code__  # all backward passes go through it


@contextlib.contextmanager
def differentiable(model: Asked, method: str, device: torch.device) -> Iterator[Asked]:
    """Gradients with respect to pixels, in true float32, whatever the caller's mode, and to nothing
    else.

    A model that gives no gradient at all is refused in the name of the method.
    """
    model = _out_of_inference(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in trained:
            p.requires_grad_(False)
        with torch.enable_grad(), arithmetic("float32", device):
            yield model
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if "use_reentrant" in str(error):
            raise ValueError(
                f"{method} needs gradients with respect to the pixels alone, which re-entrant "
                "checkpointing does not give; let the model call torch.utils.checkpoint.checkpoint("
                "..., use_reentrant=False)"
            ) from error
        if "nference tensor" in str(error):
            why = (
                "it uses tensors made in torch.inference_mode, which take part in none: make or "
                "load it outside of that"
            )
        elif any(text in str(error) for text in _NO_GRADIENT):
            why = (
                "it computes in NumPy, ONNX, torch.no_grad or after detach: give the torch model "
                "itself"
            )
        elif any(f.f_code is _BACKWARD for f, _ in traceback.walk_tb(error.__traceback__)):
            why = f"its backward pass fails, {in_a_line(error)}"
        else:
            raise
        raise ValueError(
            f"{method} needs gradients with respect to the pixels, and the model gives none ({why})"
            "; or take what asks for no gradient: pixle, noise, blur and corruptions, the game of "
            "bands"
        ) from error
    finally:
        for p in trained:
            p.requires_grad_(True)


def _out_of_inference(model: Asked) -> Asked:
    """The model, or its copy where weights were made in inference mode, which forbids gradients."""
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        with contextlib.suppress(RuntimeError):  # torch cannot copy what it has computed
            return copy.deepcopy(model)
    return model


def probed_with_labels(
    model: Callable, x: Tensor, labels, outputs: str = "logits"
) -> tuple[Asked, Tensor]:
    """The model as it is to be asked, and the labels beside the images, when both fit these."""
    labels = class_labels(labels, len(x)).to(x.device)
    return probe(model, x, labels, outputs=outputs), labels
