"""Networks that a recipe lists operation by operation, as converters of other formats give them.

``graph``: a list of {op, inputs, outputs, params, attributes} in the order in which they run.
Inputs and outputs are names of tensors, "image" the normalised picture (N, 3, H, W), the last
output the logits; params says which entry of the weights file has which part in the operation.
``tensors``: the shape of every entry of the weights file. Paddings are [left, right, top, bottom].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {
    "none": nn.Identity(),
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}


def build(recipe: dict) -> nn.Module:
    """The network of a recipe, its parameters 0 until weights are loaded."""
    return GraphNet(recipe["graph"], recipe["tensors"])


class GraphNet(nn.Module):
    """(N, 3, H, W) normalised pixels -> logits, node by node."""

    def __init__(self, graph: list[dict], tensors: dict[str, list[int]]):
        super().__init__()
        if unknown := sorted({node["op"] for node in graph} - set(OPERATIONS)):
            raise ValueError(f"graph.py has no operation {unknown[0]!r}; add it to OPERATIONS")
        self.graph = graph
        for name, shape in tensors.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        last = {name: i for i, node in enumerate(graph) for name in node["inputs"]}
        self.last_uses = [{n for n in v["inputs"] if last[n] == i} for i, v in enumerate(graph)]

    def forward(self, image: Tensor) -> Tensor:
        values = {"image": image}
        for node, last_uses in zip(self.graph, self.last_uses, strict=True):
            settings = dict(node["attributes"])
            activation = ACTIVATIONS[settings.pop("act", "none")]
            parameters = {role: getattr(self, name) for role, name in node["params"].items()}
            inputs = [values[name] for name in node["inputs"]]
            result = activation(OPERATIONS[node["op"]](*inputs, **parameters, **settings))
            for name in last_uses:  # their memory is free for what follows
                del values[name]
            values[node["outputs"][0]] = result
        return result


def _padded(x: Tensor, pad: list[int], value: float = 0.0) -> Tensor:
    return F.pad(x, pad, value=value) if any(pad) else x


def _conv(x, weight, stride, pad, groups, bias=None):
    left, right, top, bottom = pad
    if (left, top) == (right, bottom):
        return F.conv2d(x, weight, bias, stride, (top, left), groups=groups)
    return F.conv2d(_padded(x, pad), weight, bias, stride, groups=groups)


def _max_pool(x, kernel, stride, pad, ceil):
    return F.max_pool2d(_padded(x, pad, -torch.inf), kernel, stride, ceil_mode=ceil)


def _mean_pool(x, kernel, stride, pad):
    """A window that hangs over the edge averages what of it lies inside, as in TensorFlow."""
    sums = F.avg_pool2d(_padded(x, pad), kernel, stride)
    if not any(pad):
        return sums
    return sums / F.avg_pool2d(_padded(torch.ones_like(x[:1, :1]), pad), kernel, stride)


def _shuffle(x, groups):
    n, channels, *sides = x.shape
    return x.reshape(n, groups, channels // groups, *sides).transpose(1, 2).reshape(x.shape)


OPERATIONS = {
    "conv": _conv,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "affine": lambda x, weight, bias: weight * x + bias,
    "act": lambda x: x,
    "add": lambda *terms: sum(terms[1:], terms[0]),
    "mul": lambda a, b: a * b,
    "concat": lambda *parts: torch.cat(parts, 1),
    "slice": lambda x, start, stop: x[:, start:stop],
    "pad": lambda x, pad, value: _padded(x, pad, value),
    "maxpool": _max_pool,
    "avgpool": _mean_pool,
    "globalpool": lambda x: x.mean((2, 3), keepdim=True),
    "shuffle": _shuffle,
    "flatten": lambda x: x.flatten(1),
    "softmax": lambda x: x.softmax(1),
}
