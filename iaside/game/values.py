"""What a coalition is worth: functions of a model's outputs for a batch, and of the labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from iaside.inputs.labels import class_labels, plain

OF_CLASSES = ("log_likelihood", "probability", "accuracy", "margin")  # of logits of classes
OF_EMBEDDINGS = ("embedding", "retrieval")  # of any answers, beside those to the clean images
VALUES = OF_CLASSES + OF_EMBEDDINGS
TEMPERATURE = 0.07  # of retrieval
WATCHED = ("log_likelihood", "accuracy")  # of the clean images, whatever else is asked for
Value = str | Callable[[Tensor, Tensor], Tensor]


def value_functions(value: Value | Sequence[Value], temperature: float) -> dict[str, Callable]:
    """Name -> function (outputs (B, ...), labels) -> (B,); ``embedding`` and ``retrieval`` take the
    outputs for the clean images in the place of labels. Errors: ValueError for what is none.

    >>> list(value_functions(["margin", "accuracy"], 1.0))
    ['margin', 'accuracy']
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature} must be a number above 0")

    def probability(outputs: Tensor, labels: Tensor) -> Tensor:
        return _expected((outputs / temperature).softmax(-1), labels)

    known = {
        "log_likelihood": lambda outputs, labels: _expected(outputs.log_softmax(-1), labels),
        "probability": probability,
        "accuracy": _accuracy,
        "margin": _margin,
        "embedding": lambda outputs, clean: torch.cosine_similarity(
            outputs.flatten(1), clean.float().flatten(1)
        ),
        "retrieval": retrieval,
    }
    functions = {}
    for v in [value] if isinstance(value, str) or callable(value) else value:
        if not callable(v) and v not in known:
            raise ValueError(
                f"value={v!r} is not known; choose from {', '.join(VALUES)}, "
                "or give a function (outputs, labels) -> (B,)"
            )
        name = getattr(v, "__name__", "") if callable(v) else v
        if not name or name in functions or (callable(v) and name in known):
            raise ValueError(
                f"value function {v!r} would be recorded as {name!r}; "
                "give every function a __name__ of its own, other than the built-in ones"
            )
        functions[name] = v if callable(v) else known[v]
    if not functions:
        raise ValueError("value=[] names nothing to record; give at least one value function")
    return functions


def retrieval(outputs: Tensor, clean: Tensor, among: Tensor | None = None) -> Tensor:
    """How surely an image is found again by its embedding, log-probabilities (B,) in nats.

    Shapes: outputs and clean (B, ...), of images as they are shown and as they are; among (N, ...),
    of all clean images, these B by default. The probability is a softmax of the cosines to all, at
    temperature 0.07: -log N where nothing is known. Plus log N, its mean over images is a lower
    bound of what the embedding tells of which image it is, in nats.
    Source: Wu et al. 2018, Eq. 2 and section 4.1 (temperature); van den Oord et al. 2018, section
    2.3 (bound).

    >>> clean = torch.eye(4)
    >>> retrieval(clean, clean).exp(), retrieval(torch.zeros(4, 4), clean).exp()
    (tensor([1.0000, 1.0000, 1.0000, 1.0000]), tensor([0.2500, 0.2500, 0.2500, 0.2500]))
    """
    among = clean if among is None else among.to(outputs.device)
    shown, clean, among = (
        torch.nn.functional.normalize(t.float().flatten(1)) / TEMPERATURE**0.5
        for t in (outputs, clean, among)
    )
    return (shown * clean).sum(1) - (shown @ among.T).logsumexp(1)


def clean_looks(values: Sequence[str]) -> int:
    """How often each clean image is looked at besides as the last coalition.

    >>> [clean_looks(v) for v in (["margin"], ["embedding"], ["embedding", "retrieval"])]
    [0, 1, 2]
    """
    return 2 if "retrieval" in values else int("embedding" in values)


def labels_for(values: dict, labels, n: int) -> Tensor | None:
    """Labels of n images as these values take them; functions alone take any numbers, (n, ...).

    Errors: ValueError, TypeError.
    """
    if labels is None:
        if not set(values) <= set(OF_EMBEDDINGS):
            raise ValueError(
                "labels=None is possible for value='embedding' and 'retrieval' only; give labels, "
                "or take those that the model gives: explain(..., labels='predicted')"
            )
        return None
    if set(values).isdisjoint(VALUES):
        labels = plain(labels, "labels")
        if labels.ndim < 1 or len(labels) != n:
            raise ValueError(
                f"labels are of shape {tuple(labels.shape)}; give a row for each image"
            )
        return labels
    labels = class_labels(labels, n, soft=True)
    if labels.ndim == 2 and "margin" in values:
        raise ValueError("value='margin' needs one class per image; give hard labels")
    return labels


def scores_of(
    values: dict[str, Callable], outputs: Tensor, targets: Tensor | None, reference: Tensor | None
) -> Tensor:
    """Outputs (k * B, ...), targets and reference of B images -> (values, k * B), nan where outputs
    are not finite."""
    outputs = outputs.float()
    repeats = len(outputs) // len(targets if targets is not None else reference)
    targets, reference = (
        None if t is None else t.repeat(repeats, *[1] * (t.ndim - 1)) for t in (targets, reference)
    )
    scores = torch.stack(
        [f(outputs, reference if name in OF_EMBEDDINGS else targets) for name, f in values.items()]
    )
    # An accuracy, say, would not show it.
    broken = ~outputs.flatten(1).isfinite().all(1)
    return scores.masked_fill(broken, torch.nan)


def finite(scores: Tensor, images: np.ndarray) -> np.ndarray:
    """Scores (values, k * B) as float64. Errors: ValueError that names those of the B images, given
    by their numbers, of which one is nan or infinite."""
    scores = scores.cpu().double().numpy()
    broken = ~np.isfinite(scores).all(0)
    if broken.any():
        named = np.unique(np.resize(images, len(broken))[broken])
        raise ValueError(
            f"the model returned nan or infinite worths for images {', '.join(map(str, named))}; "
            "check its weights, and try precision='float32'"
        )
    return scores


def _expected(scores: Tensor, labels: Tensor) -> Tensor:
    """The score of the label, or its mean under a soft label."""
    if labels.ndim == 2:
        return (scores * labels.to(scores)).sum(-1)
    return scores.gather(-1, labels[:, None]).squeeze(-1)


def _accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    predicted = torch.nn.functional.one_hot(outputs.argmax(-1), outputs.shape[-1]).to(outputs)
    return _expected(predicted, labels)


def _margin(outputs: Tensor, labels: Tensor) -> Tensor:
    others = outputs.scatter(-1, labels[:, None], -torch.inf)
    return _expected(outputs, labels) - others.amax(-1)
