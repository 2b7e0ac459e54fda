import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from iaside.architectures import ARCHITECTURES
from iaside.folding import folded
from iaside.models import Classifier, load_model, untrained


def norms(net):
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def with_statistics(model, seed=0):
    """The model with batch norms that do something, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize(
    ("name", "left"),  # batch norms that follow a sum, a concatenation, or what goes elsewhere too
    [("tf_efficientnet_lite0", 0), ("resnet18", 0), ("densenet121", 62), ("squeezenet1_1", 0),
     *((name, {"preactresnet18": 9}.get(name, 0)) for name in ARCHITECTURES)],
)  # fmt: skip
def test_a_folded_network_is_the_same_function(name, left):
    own = name in ARCHITECTURES
    model = untrained(name, 10, 32, 0) if own else load_model(name, pretrained=False)
    model = with_statistics(model).double()  # float32 would let some ReLUs flip
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    faster = folded(model)
    assert torch.equal(torch.get_rng_state(), random), "no global random state moves"
    assert norms(faster) == left and faster is not model
    x = torch.rand(2, 3, *model.input_size, dtype=torch.double, requires_grad=True)
    for out in (nn.Identity(), lambda logits: torch.autograd.grad(logits[:, 1].sum(), x)[0]):
        wanted, found = out(model(x)), out(faster(x))
        assert (found - wanted).norm() < 1e-9 * wanted.norm()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not any(p.requires_grad for p in faster.parameters()) and not faster.training
    assert faster.recipe == model.recipe and faster.name == model.name


class Pads(TorchFunctionMode):
    """Counts the paddings that are a pass of their own."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.n += func is nn.functional.pad
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("side", [224, 64, 75])  # the size that it is for, and others
def test_paddings_of_timm_are_part_of_the_convolutions_at_the_size_of_the_model(side):
    model = with_statistics(load_model("tf_efficientnet_lite0", pretrained=False)).double()
    faster, x = folded(model), torch.rand(1, 3, side, side, dtype=torch.double)
    wanted = model(x)
    with Pads() as pads:
        found = faster(x)
    assert (found - wanted).norm() < 1e-9 * wanted.norm()
    assert pads.n == (0 if side == 224 else 5)


class Odd(nn.Module):
    """A batch norm that follows a convolution, as ``path`` says."""

    def __init__(self, path):
        super().__init__()
        self.path, self.conv, self.norm = path, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.path(self, x).mean((2, 3)))


def beside(net, x):
    x = net.conv(x)
    return x + net.norm(x)


def listed(net, x):
    x = net.conv(x)
    return torch.cat([x, net.norm(x)], 2)


def in_place(net, x):
    return net.norm(net.conv(x).relu_())


def twice(net, x):
    return net.other(net.conv(net.norm(net.conv(x))))


def simple(net, x):
    return net.norm(net.conv(x))


@pytest.mark.parametrize("path", [beside, listed, in_place, twice, simple])
def test_only_what_can_be_folded_is(path):
    recipe = load_model("squeezenet1_1", pretrained=False).recipe
    model = with_statistics(Classifier(Odd(path), recipe, "odd"))
    faster, x = folded(model), torch.rand(2, 3, 8, 8)
    assert norms(faster) == (1 if path is simple else 2)  # `other` is not always asked
    assert faster is not model and torch.allclose(faster(x), model(x), atol=1e-5)


def test_a_wrong_result_is_not_given(monkeypatch):
    monkeypatch.setattr("iaside.folding.fuse_conv_bn_eval", lambda conv, norm: conv)
    recipe = load_model("squeezenet1_1", pretrained=False).recipe
    model = with_statistics(Classifier(Odd(simple), recipe, "odd"))
    assert folded(model) is model
