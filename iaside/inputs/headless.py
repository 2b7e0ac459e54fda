"""Networks without their classifier: what they give is then an embedding."""

from __future__ import annotations

import copy

from torch import nn

from iaside.backend.precision import undisturbed
from iaside.inputs.classifier import Classifier, check_classifier


@undisturbed
def without_head(model: Classifier) -> Classifier:
    """A copy of a network that gives features (B, K) in the place of logits: an embedding.

    A network of timm loses what its ``reset_classifier(0)`` takes off, another its last linear
    layer, SqueezeNet its last convolution. One that has no head (``num_classes`` 0) is returned.
    Errors: TypeError for what is no Classifier; ValueError for a network in which that layer is
    not one for its classes.

    >>> import torch
    >>> from iaside.inputs.classifier import load_model
    >>> net = without_head(load_model("squeezenet1_1", pretrained=False))
    >>> net(torch.rand(2, 3, 224, 224)).shape, net.recipe["num_classes"]
    (torch.Size([2, 512]), 0)
    """
    check_classifier(model, "without_head")
    classes = model.recipe["num_classes"]
    if not classes:
        return model
    net = copy.deepcopy(model.net)
    head = take_off(net)
    given = getattr(head, "out_features", getattr(head, "out_channels", classes))
    if given != classes:
        raise ValueError(
            f"{model.name}: its last layer has {given} outputs and the recipe {classes} classes, "
            "so it is not the head; take that off yourself: "
            "Classifier(net, recipe | {'num_classes': 0}, name)"
        )
    recipe = {k: v for k, v in model.recipe.items() if k != "outputs"}
    return Classifier(net, recipe | {"num_classes": 0}, model.name)


def take_off(net: nn.Module) -> nn.Module:
    """Take the classifier off a network, and return it.

    timm's networks know theirs; of others it is the last linear layer (SqueezeNet has none: its
    last convolution). Errors: ValueError where there is no such layer.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    >>> take_off(net), net[1]
    (Linear(in_features=12, out_features=5, bias=True), Identity())
    """
    if hasattr(net, "reset_classifier") and hasattr(net, "get_classifier"):
        head = net.get_classifier()
        net.reset_classifier(0)
        return head
    layers = list(net.named_modules())
    heads = [n for n, m in layers if isinstance(m, nn.Linear)] or [
        n for n, m in layers if isinstance(m, nn.Conv2d)
    ]
    if not heads:
        raise ValueError(
            f"{type(net).__name__} has no linear layer and no convolution, so none is its head"
        )
    head = net.get_submodule(heads[-1])
    net.set_submodule(heads[-1], nn.Identity())
    return head
