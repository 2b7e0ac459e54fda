"""What a model answers: where the numbers are in it, and the logits that these are.

Libraries answer with tuples, dictionaries, dataclasses; the heads of a network stand beside each
other. The place is found once (`place_of`), and every further answer is read there (`taken`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from iaside.backend.checks import told_apart

OUTPUTS = ("logits", "probabilities", "binary")
FLOOR = 1e-12  # of probabilities: the logarithm of 0 is no number to average
SPREAD = {"float32": 1e-3, "bfloat16": 3e-2}  # of answers to the same, in that of all of them
NARROW = torch.bfloat16, torch.float16
DEPTH = 2  # containers in each other that are looked into
NAMES = (
    "logits",
    "class_logits",
    "out",
    "output",
    "outputs",
    "predictions",
    "prediction",
    "preds",
    "pred",
    "scores",
)  # of what a model answers, the plainest first

Step = tuple[str, object]  # ("attribute", name), ("item", key or index), ("flatten", 1)
Place = tuple[Step, ...]


def taken(answer: object, place: Place) -> Tensor:
    """The tensor at a place of an answer.

    Errors: ValueError where there is none, as the model answers now so and now otherwise.

    >>> taken({"aux": None, "logits": torch.ones(1, 2)}, (("item", "logits"),))
    tensor([[1., 1.]])
    """
    found = answer
    try:
        for how, key in place:
            match how:
                case "attribute":
                    found = getattr(found, key)
                case "item":
                    found = found[key]
                case "flatten":
                    found = found.flatten(key)
    except (AttributeError, LookupError, TypeError):
        found = None
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the model answered with {type(answer).__name__} where model(x){said(place)} was a "
            "tensor before; let it answer alike for every batch"
        )
    return found


def said(place: Place) -> str:
    """A place as it is written.

    >>> said((("attribute", "heads"), ("item", 0), ("flatten", 1)))
    '.heads[0].flatten(1)'
    """
    written = {"attribute": ".{}", "item": "[{!r}]", "flatten": ".flatten({})"}
    return "".join(written[how].format(key) for how, key in place)


def place_of(answer: object, rows: int, outputs: str, class_outputs: bool) -> Place:
    """The place of the logits in an answer to so many pictures.

    Of several: what is called logits, then what has another name of ``NAMES``, then the first.
    One row of numbers a picture comes before one number, unless ``outputs`` says binary; where no
    classes are needed any tensor of one entry a picture will do. A RuntimeWarning names what was
    taken where others that may as well be meant have another number of classes.
    Errors: ValueError with the line that mends it.

    >>> place_of((torch.zeros(2, 3, 8, 8), torch.zeros(2, 5)), 2, "logits", True)
    (('item', 1),)
    """
    tensors = [(place, t) for place, t in _leaves(answer, DEPTH) if isinstance(t, Tensor)]
    if isinstance(answer, Tensor):
        wide = class_outputs and _is_wide(answer, rows) and answer.ndim > 2
        return (("flatten", 1),) if wide else ()
    of_rows = [(p, t) for p, t in tensors if t.is_floating_point() and t.shape[:1] == (rows,)]
    single = [(p, t) for p, t in of_rows if t.numel() == rows]
    kinds = (
        [single]
        if outputs == "binary"
        else [[(p, t) for p, t in of_rows if _is_wide(t, rows)], single]
    )
    for known in kinds if class_outputs else [*kinds, of_rows]:
        if known:
            ranks = [_rank(place) for place, _ in known]
            best = [one for one, rank in zip(known, ranks, strict=True) if rank == min(ranks)]
            place, tensor = best[0]
            _warn_of_others(best)
            return (*place, ("flatten", 1)) if class_outputs and tensor.ndim > 2 else place
    raise ValueError(
        f"the model returned {type(answer).__name__}; it must return a tensor ({rows}, classes)"
        f"{_remedy(answer, rows)}"
    )


def _leaves(answer: object, depth: int, place: Place = ()) -> Iterator[tuple[Place, object]]:
    parts = list(_parts(answer)) if depth else []
    if not parts:
        yield place, answer
    for step, part in parts:
        yield from _leaves(part, depth - 1, (*place, step))


def _parts(answer: object) -> Iterator[tuple[Step, object]]:
    if isinstance(answer, Tensor | str | bytes | type) or hasattr(type(answer), "__array__"):
        return
    if isinstance(answer, Mapping):
        yield from ((("item", key), part) for key, part in answer.items())
    elif hasattr(type(answer), "_fields"):  # a named tuple
        yield from ((("attribute", name), getattr(answer, name)) for name in answer._fields)
    elif isinstance(answer, list | tuple):
        yield from ((("item", i), part) for i, part in enumerate(answer))
    else:
        fields = dataclasses.fields(answer) if dataclasses.is_dataclass(answer) else ()
        of_class = [name for name in NAMES if hasattr(type(answer), name)]  # slots, properties
        names = dict.fromkeys([f.name for f in fields] + of_class)
        names |= getattr(answer, "__dict__", {})
        yield from ((("attribute", name), getattr(answer, name)) for name in names)


def _is_wide(t: Tensor, rows: int) -> bool:
    """One row of numbers a picture, maybe as a map of one pixel."""
    return t.ndim >= 2 and len(t) == rows and t.shape[1] > 1 and t.numel() == rows * t.shape[1]


def _rank(place: Place) -> int:
    """0 for what is called logits, 1 for another known name, 2 for the rest."""
    names = {key for _, key in place if isinstance(key, str)}
    return 0 if "logits" in names else 1 if names & set(NAMES) else 2


def _warn_of_others(known: list[tuple[Place, Tensor]]) -> None:
    (place, tensor), *others = known
    widths = {said(p): t[0].numel() for p, t in others if t[0].numel() != tensor[0].numel()}
    if widths:
        beside = ", ".join(f"model(x){where} of {n}" for where, n in widths.items())
        warnings.warn(
            f"the model answers with several tensors: model(x){said(place)} of {tensor[0].numel()} "
            f"columns is taken, and not {beside}; if another is meant, give "
            f"lambda x: model(x){next(iter(widths))}",
            RuntimeWarning,
            stacklevel=6,
        )


def _remedy(answer: object, rows: int) -> str:
    """The line that makes a tensor of an answer, as far as one can be seen."""
    leaves = list(_leaves(answer, DEPTH))
    if (
        isinstance(answer, list | tuple)
        and len(answer) == rows
        and all(isinstance(t, Tensor) and t.ndim == 1 for t in answer)
    ):
        return ": wrap it, lambda x: torch.stack(list(model(x)))"
    for place, part in leaves:
        if type(part).__module__ == "numpy" and getattr(part, "ndim", 0):
            return f": wrap it, lambda x: torch.from_numpy(model(x){said(place)})"
        if hasattr(part, "__array__") and not isinstance(part, Tensor):
            return f": wrap it, lambda x: torch.as_tensor(numpy.asarray(model(x){said(place)}))"
    if all(isinstance(part, float) for _, part in leaves):
        return ": wrap it, lambda x: torch.tensor(model(x))"
    for place, part in leaves:
        if isinstance(part, Tensor):
            return (
                f": wrap it so that it does, lambda x: f(model(x){said(place)}), which is a tensor "
                f"{tuple(part.shape)}"
            )
    return ""


# -- as logits -----------------------------------------------------------------------------------


def logits_of(answer: Tensor, outputs: str) -> Tensor:
    """A copy of a model's answer, as logits.

    >>> logits_of(torch.tensor([[2.0]]), "binary").tolist()
    [[0.0, 2.0]]
    >>> logits_of(torch.tensor([[1.0, 0.0]]), "probabilities").exp().tolist()[0][0]
    1.0
    """
    if outputs == "probabilities":
        p = answer.to(torch.promote_types(answer.dtype, torch.float32))
        if p.numel() == len(p):
            p = torch.cat([1 - p.reshape(-1, 1), p.reshape(-1, 1)], 1)
        return p.clamp(min=FLOOR).log()
    if outputs == "binary":
        z = answer.reshape(len(answer), 1)
        return torch.cat([torch.zeros_like(z), z], 1)
    return answer.clone()


def not_as_said(answer: Tensor, outputs: str) -> str:
    """Why an answer (B, ...) cannot be what it is said to be; "" where it can, or is not finite.

    >>> not_as_said(torch.tensor([[0.5, 0.9]]), "probabilities")
    'answers range from 0.5 to 0.9 and sum to 1 only within 0.4'
    """
    single = answer.numel() == len(answer)
    if outputs == "binary" and not single:
        return f"that is one logit per image, and the model gives {tuple(answer.shape[1:])}"
    if outputs == "probabilities" and answer.isfinite().all():
        slack = SPREAD["bfloat16" if answer.dtype in NARROW else "float32"]
        low, high = answer.min().item(), answer.max().item()
        off = 0.0 if single else (answer.double().sum(1) - 1).abs().max().item()
        if low < 0 or high > 1 + slack or off > slack:
            sums = "" if single else f" and sum to 1 only within {off:.3g}"
            return f"answers range from {told_apart(low, 0)} to {told_apart(high, 1)}{sums}"
    return ""
