import copy
import pickle
import platform

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from iaside.backend.device import channels_last
from iaside.backend.precision import arithmetic
from iaside.inputs.architectures import ARCHITECTURES
from iaside.inputs.classifier import Classifier, load_model, untrained
from iaside.inputs.convolutions import LAYOUTS, PrepackedConv2d, _native
from iaside.inputs.folding import folded


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
    [
        ("tf_efficientnet_lite0", 0),
        ("resnet18", 0),
        ("densenet121", 62),
        ("squeezenet1_1", 0),
        *((name, {"preactresnet18": 9}.get(name, 0)) for name in ARCHITECTURES),
    ],
)
@pytest.mark.slow
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
@pytest.mark.slow
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


def test_a_norm_without_statistics_is_left_alone():
    recipe = load_model("squeezenet1_1", pretrained=False).recipe
    net = Odd(simple)
    net.norm = nn.BatchNorm2d(3, track_running_stats=False)
    model, x = Classifier(net, recipe, "odd"), torch.rand(2, 3, 8, 8)
    faster = folded(model)
    assert norms(faster) == 2 and torch.allclose(faster(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    "path",
    [
        lambda net, x: net.conv(x) * net.conv.weight.mean(),
        lambda net, x: net.conv(x).view(len(x), -1, 1, 1)[:, :3],
    ],
    ids=["its weight", "the layout of its output"],
)
def test_a_network_that_looks_into_its_convolutions_still_works(path):
    recipe = load_model("squeezenet1_1", pretrained=False).recipe
    model, x = Classifier(Odd(path), recipe, "odd"), torch.rand(2, 3, 8, 8)
    faster = folded(model)
    with torch.no_grad():
        assert torch.allclose(faster(x), model(x), atol=1e-5)


def test_a_wrong_result_is_not_given(monkeypatch):
    monkeypatch.setattr("iaside.inputs.folding.fuse_conv_bn_eval", lambda conv, norm: conv)
    recipe = load_model("squeezenet1_1", pretrained=False).recipe
    model = with_statistics(Classifier(Odd(simple), recipe, "odd"))
    assert folded(model) is model


# -- weights laid out once -------------------------------------------------------------------------

x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="weights are packed on x86 alone"
)


def packed(net):
    return [module for module in net.modules() if isinstance(module, PrepackedConv2d)]


@x86
@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "squeezenet1_1", "resnet18", "small_cnn", "resnet8"]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.slow
def test_packed_weights_give_what_those_of_the_network_do(name, precision):
    if precision not in _native():
        pytest.skip("bfloat16 is not native here")
    own = name in ARCHITECTURES
    model = untrained(name, 10, 32, 0) if own else load_model(name, pretrained=False)
    net = folded(with_statistics(model))
    n_convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert len(packed(net)) == n_convolutions
    asked = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *args: asked.append(1))
    side = model.input_size[0]
    shapes = [(1, side), (3, side), (1, side), (2, side - 9)]
    for (n, size), layout in zip(shapes, [channels_last, torch.Tensor.contiguous] * 2, strict=True):
        x = layout(torch.rand(n, 3, size, size))
        with arithmetic(precision, torch.device("cpu")):
            wanted = net(x.clone().requires_grad_()).detach()
            assert len(asked) == n_convolutions, "with gradients they are the network's own"
            asked.clear()
            with torch.no_grad():
                found = net(x)
        assert found.dtype == wanted.dtype
        assert size != side or not asked, "without, they are those with packed weights"
        asked.clear()
        limit = 1e-5 if precision == "float32" else 0.02
        assert (found - wanted).abs().max() <= limit * wanted.abs().max()


@x86
def test_a_network_with_packed_weights_can_be_copied_and_sent():
    net, x = folded(untrained("small_cnn", 10, 32, 0)), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for n in (1, 2, 1, 2):
            found = net(x[:n])
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(other(x), found)


@x86
def test_layouts_come_and_go():
    net, x = folded(untrained("small_cnn", 10, 32, 0)), torch.rand(9, 3, 32, 32)
    wanted = net(x.clone().requires_grad_()).detach()
    for n in [*range(1, 10), 1]:
        with torch.no_grad():
            assert torch.allclose(net(x[:n]), wanted[:n], atol=1e-5)
    assert {len(m.packed) for m in packed(net)} == {LAYOUTS}


@x86
def test_packed_weights_follow_the_precision_of_the_module_and_of_its_input():
    net, x = folded(untrained("small_cnn", 10, 32, 0)), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        net(x)  # leaves weights in float32
        exact = net.double()(x.double())
        assert exact.dtype == torch.double
        assert torch.allclose(exact, net.float()(x).double(), atol=1e-5)
        assert net.bfloat16()(x).dtype == torch.bfloat16
        rounded = net.float()(x)  # as its weights are now
    assert torch.allclose(rounded, net(x.requires_grad_()), atol=1e-5)


@x86
def test_packed_weights_follow_those_of_the_network():
    net, x = folded(untrained("small_cnn", 10, 32, 0)), torch.rand(2, 3, 32, 32)
    other = folded(untrained("small_cnn", 10, 32, 1))

    def both():
        with torch.no_grad():
            found = net(x)
        wanted = net(x.clone().requires_grad_()).detach()
        assert torch.allclose(found, wanted, atol=1e-5)
        return found

    before = both()
    net.load_state_dict(other.state_dict())
    assert not torch.allclose(before, both(), atol=1e-2)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.5)
    both()
    net.requires_grad_(True)
    net(x).sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    both()


# -- nan stays nan ---------------------------------------------------------------------------------


class Fires(nn.Module):
    """As SqueezeNet: convolutions, ReLUs, a largest of neighbours, two branches side by side."""

    def __init__(self):
        super().__init__()
        self.start = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)
        )
        self.one = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(8, 5, 1), nn.ReLU(inplace=True))

    def forward(self, x):
        x = self.start(x)
        return self.head(torch.cat([self.one(x), self.three(x)], 1)).mean((2, 3))


class Bottleneck(nn.Module):
    """As EfficientNet-Lite: uneven paddings, batch norms, ReLU6, depthwise, a way around."""

    def __init__(self):
        super().__init__()
        from timm.layers import Conv2dSame

        self.start = nn.Sequential(
            Conv2dSame(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        )
        self.deep = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 1),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.start(x)
        return self.head((x + self.deep(x)).mean((2, 3)))


def spoiled(side):
    """Pictures with one pixel, a channel, or everything that is not finite; a sound one, last."""
    pictures = []
    for value in (torch.nan, torch.inf, -torch.inf):
        for where in ((1, 5, 5), (2,), ()):
            picture = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
            picture[where] = value
            pictures.append(picture)
    pictures.append(torch.rand(3, side, side, generator=torch.Generator().manual_seed(1)))
    return torch.stack(pictures)


def tiny(net):
    recipe = load_model("squeezenet1_1", pretrained=False).recipe | {"input_size": [3, 32, 32]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return with_statistics(Classifier(net(), recipe, "tiny"))


@torch.no_grad()
def finite(model, x, precision="float32"):
    """Which answers are finite; images one by one and all together, which are other layouts."""
    with arithmetic(precision, torch.device("cpu")):
        together, alone = model(channels_last(x)), torch.cat([model(one) for one in x.split(1)])
    assert torch.equal(together.isfinite(), alone.isfinite())
    return together.isfinite()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("net", [Fires, Bottleneck])
def test_a_folded_network_makes_no_number_of_what_is_none(net, precision):
    model = tiny(net)
    plain, fast = (finite(each, spoiled(32), precision) for each in (model, folded(model)))
    assert plain[-1].all() and fast[-1].all()
    assert not plain[:3].any(), "nan reaches every answer"
    assert not fast[~plain].any()


@pytest.mark.parametrize(
    "name",
    ["squeezenet1_1", "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"],
)
@pytest.mark.slow
def test_a_packaged_network_makes_no_number_of_what_is_none(name, data):
    model = load_model(name)
    x = spoiled(model.input_size[0])[[0, 2, 3, 8, 9]]
    with torch.no_grad():
        plain, fast = (net(x).isfinite() for net in (model, folded(model)))
    assert plain.any(1).tolist() == fast.any(1).tolist() == [False] * 4 + [True]


def test_what_overflows_inside_is_as_in_the_plain_network():
    model, x = tiny(Fires), spoiled(32)[-1:]
    faster = folded(model)
    with torch.no_grad():
        for net in (model, faster):  # infinities of both signs meet in the next convolution
            for p in net.parameters():
                p *= 1e20
    assert not finite(model, x).any()
    assert not finite(faster, x).any()


@pytest.mark.parametrize(("value", "word"), [(torch.nan, "nan"), (torch.inf, "inf")])
def test_weights_that_are_no_numbers_are_named(value, word):
    model = tiny(Bottleneck)
    model.net.head.weight[2, 3] = value
    with pytest.raises(ValueError, match=f"of the model hold {word}: net.head.weight; load"):
        folded(model)


def test_statistics_that_are_no_numbers_are_named():
    model = tiny(Bottleneck)
    model.net.deep[1].running_var[1] = torch.nan
    with pytest.raises(ValueError, match=r"hold nan: net\.deep\.1\.running_var"):
        folded(model)


def test_a_network_whose_answers_overflow_is_left_as_it_is():
    model = tiny(Bottleneck)
    model.net.head.weight *= 1e38
    model.net.head.weight.clamp_(-3e38, 3e38)
    model.net.deep[3].weight *= 100
    assert not model(torch.rand(1, 3, 32, 32)).isfinite().all()
    assert folded(model) is model
