"""What is inside a callable, as far as it can be seen: networks, their modes, their kinds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn

DEPTH = 6  # of attributes, closures and containers in which networks are looked for


def in_training(network: nn.Module) -> bool:
    """Whether a part of it is in training mode, as far as it has modes.

    Frozen TorchScript has none. What torch.export made says that it is in training, whatever it
    was made of, and its own ``eval`` raises, as then does that of all that it is a part of.
    """
    exported = [m for m in network.modules() if "eval" in vars(m)]
    inside = {part for m in exported for part in m.modules()}
    return any(
        getattr(m, "training", False) and m not in inside and inside.isdisjoint(m.modules())
        for m in network.modules()
    )


def is_scripted(model: object) -> bool:
    """Whether TorchScript is in a callable, whose functions nothing in Python sees.

    >>> is_scripted(torch.jit.trace(nn.ReLU(), torch.ones(1))), is_scripted(nn.ReLU())
    (True, False)
    """
    kinds = torch.jit.ScriptModule | torch.jit.ScriptFunction
    return any(isinstance(part, kinds) for part in _everything(model))


def is_sealed(model: object) -> bool:
    """Whether there is a network in a callable whose layers are no modules any more: TorchScript,
    or what torch.export made.

    >>> is_sealed(nn.ReLU())
    False
    """
    return is_scripted(model) or any(
        _is_exported(part) for part in _everything(model) if isinstance(part, nn.Module)
    )


def _is_exported(module: nn.Module) -> bool:
    return "eval" in vars(module) or type(module).__module__.startswith("torch.export")


def _everything(model: object) -> Iterator[object]:
    """The objects that a callable holds, and the modules of its networks."""
    for part in _parts(model):
        yield part
        if isinstance(part, nn.Module):
            yield from part.modules()


def networks(model: object) -> Iterator[nn.Module]:
    """The networks that a callable is, or that can be seen inside it."""
    return (part for part in _parts(model) if isinstance(part, nn.Module))


def _parts(model: object) -> Iterator[object]:
    """A callable and what can be seen inside it; of a network, itself and not its modules."""
    level, seen = [model], {}
    for _ in range(DEPTH):
        deeper = []
        for part in level:
            if id(part) in seen:
                continue
            seen[id(part)] = part  # kept: an id is used again when its object has gone
            yield part
            if isinstance(part, nn.Module):
                seen.update((id(m), m) for m in part.modules())
            deeper += _inside(part)
        level = deeper


def _inside(part: object) -> list:
    """The objects that a callable may use: closure, attributes, bound arguments."""
    if isinstance(part, nn.Module):
        return [
            value
            for m in part.modules()
            for name, value in vars(m).items()
            if name not in _OF_MODULES and not _is_exported(m)  # which keeps what it does not run
        ]
    if isinstance(part, list | tuple):
        return list(part)
    if isinstance(part, dict):
        return list(part.values())
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if inspect.ismethod(part):
        return [part.__self__, part.__func__]
    if inspect.isfunction(part):
        if (part.__module__ or "").split(".")[0] == "torch":
            return []
        names = [name for name in part.__code__.co_names if name in part.__globals__]
        known = [part.__kwdefaults__ or {}, vars(part), {n: part.__globals__[n] for n in names}]
        given = [*(part.__defaults__ or ()), *map(_held, part.__closure__ or ())]
        return [*given, *(v for names in known for v in names.values())]
    if isinstance(part, Tensor | type) or inspect.ismodule(part):
        return []
    return list(getattr(part, "__dict__", {}).values())


def _held(cell) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that has no value yet
        return None


_OF_MODULES = set(vars(nn.Module()))  # hooks, parameters, and modules, which are seen anyway
