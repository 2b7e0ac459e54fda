"""A model as every loop calls it: a copy of the pixels in, logits out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iaside.backend.answers import Place, logits_of, said, taken
from iaside.backend.engine import Engine, outside
from iaside.backend.precision import as_outside
from iaside.inputs.checks import check_shown


class Way(NamedTuple):
    """How a model is asked: what it is shown, and where in its answer the logits are.

    dtype: of the pixels, None as they are;  channels_last: how they lie in memory, contiguous
    otherwise;  singly: one picture at a time;  place: as in ``iaside.backend.answers``.
    """

    dtype: torch.dtype | None = None
    channels_last: bool = True
    singly: bool = False
    place: Place = ()


USUAL = Way()


class Asked(nn.Module):
    """A model as loops ask it: it is shown a copy of the pixels and answers with logits.

    model: any callable (B, C, H, W) -> (B, ...);  outputs: what that gives (`probe`);  way: how it
    is asked;  classes: of its answers, None where they have none;  answer: its own to the first
    picture, (1, ...) on the CPU;  engine: who answers where no gradient is wanted, None for the
    model itself, and ``answers``, who that is, in words;  narrow: whether it computes in bfloat16
    (autocast) however it is asked, gradients too, and answers in float32.
    A copy, because a model may write to its input, and its answer too, because it may keep that as
    a buffer. Gradients pass. Pixels that are not finite are refused (ValueError): a network may
    turn them into finite answers.

    >>> Asked(lambda x: x.sub_(0.5).mean((2, 3)))(torch.full((1, 2, 4, 4), 0.5))
    tensor([[0., 0.]])
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        outputs: str = "logits",
        way: Way = USUAL,
        classes: int | None = None,
        answer: Tensor | None = None,
        engine: Engine | None = None,
        answers: str = "torch",
    ) -> None:
        super().__init__()
        self.training = False  # of this one alone: the model stays as it is
        self.model, self.outputs, self.way = model, outputs, way
        self.classes, self.answer, self.narrow = classes, answer, False
        self.engine, self.answers = engine, answers

    @property
    def gives(self) -> str:
        """What the network itself gives: ``outputs``, or what its recipe says that it has turned
        into logits."""
        named = recipe_of(self).get("outputs", "logits")
        return named if self.outputs == "logits" else self.outputs

    @property
    def about(self) -> dict:
        """What a provenance keeps of it: ``outputs``, the ``engine``, how it is ``asked`` where
        that is not as usual."""
        shown = [
            *["contiguous pixels"] * (not self.way.channels_last),
            *["one picture at a time"] * self.way.singly,
            *[f"model(x){said(self.way.place)} taken"] * bool(self.way.place),
        ]
        about = {"outputs": self.gives, "engine": self.answers}
        return about | ({"asked": ", ".join(shown)} if shown else {})

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:  # who follows gradients looks at what these lead to
            check_shown(x)
        if self.narrow:
            with torch.autocast(x.device.type, torch.bfloat16):
                answer = answered(self.model, x, self.way).float()
        else:
            answer = self._answer(x)
        return logits_of(answer, self.outputs)

    def _answer(self, x: Tensor) -> Tensor:
        if self.engine is None or not self.engine.takes(x):
            return answered(self.model, x, self.way)
        found, others = self.engine(x), outside(x)
        if others:
            found[others] = answered(self.model, x[others], self.way)
        return found


def recipe_of(model: object) -> dict:
    """The recipe of a classifier; {} of others, whose attributes mean what their authors meant.

    >>> net = nn.ReLU()
    >>> net.recipe = "mine"
    >>> recipe_of(net)
    {}
    """
    net = model.model if isinstance(model, Asked) else model
    found = inspect.getattr_static(net, "recipe", None)
    return found if isinstance(found, dict) and "input_size" in found else {}


def answered(model: Callable[[Tensor], object], x: Tensor, way: Way) -> Tensor:
    """The tensor that a model answers with to a copy of the pixels."""
    return joined(answers_of(model, x, way), way)


def joined(answers: list, way: Way) -> Tensor:
    found = [taken(answer, way.place) for answer in answers]
    if not torch.is_grad_enabled():  # a model may have switched them on
        found = [one.detach() for one in found]
    if not way.singly:
        return found[0]
    for one in found:
        check_length(one, 1)
    return torch.cat(found)


def answers_of(model: Callable[[Tensor], object], x: Tensor, way: Way) -> list:
    """The answers of a model to a copy of the pixels, once or for each picture."""
    shown, model = copied(x, way), as_outside(model)
    return [model(part) for part in (shown.split(1) if way.singly else [shown])]


def copied(x: Tensor, way: Way) -> Tensor:
    """A copy of the pixels in the layout that the model takes."""
    last = way.channels_last and x.ndim == 4  # signals lie contiguous
    layout = torch.channels_last if last else torch.contiguous_format
    return x.to(way.dtype or x.dtype, copy=True, memory_format=layout)


def check_length(answer: Tensor, n: int) -> None:
    if answer.ndim < 1 or len(answer) != n:
        raise ValueError(
            f"the model returned {tuple(answer.shape)} for {n} image{'s' * (n > 1)}; it must "
            f"return ({n}, classes)"
        )
