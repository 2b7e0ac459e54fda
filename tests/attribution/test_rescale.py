"""DeepLIFT's rule: by hand, against captum where captum is right, and what it adds up to."""

import warnings

import pytest
import torch
from captum.attr import DeepLift
from torch import nn
from torch.nn import functional as F

from iaside.attribution.baselines import DoesNotAddUp
from iaside.attribution.maps import attribute
from iaside.attribution.rescale import ELEMENTWISE, Rescale
from iaside.backend.gradients import predictions
from iaside.inputs.classifier import load_model
from iaside.inputs.folding import folded
from iaside.inputs.images import load_images

SIDE = 16


def images(n=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.8 * torch.rand(n, 3, SIDE, SIDE, generator=generator, dtype=dtype)


class Net(nn.Module):
    """Two convolutions, what is asked after both of them, and a pool whose windows overlap or not.

    bias: not 0, so that black is no fixed point.
    """

    def __init__(self, act, pool=None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, stride=2)
            self.head = nn.Linear(8, 4)
        self.act, self.pool = act, pool or nn.MaxPool2d(3, 2, padding=1)
        self.double().eval()

    def forward(self, x):
        y = self.second(self.act(3 * self.first(x)))
        return self.head(self.pool(self.act(3 * y)).mean((2, 3)))


def logit_change(net, x, y):
    logits = [net(z).gather(1, y[:, None])[:, 0] for z in (x, torch.zeros_like(x))]
    return (logits[0] - logits[1]).detach()


def assert_adds_up(net, x, rtol=1e-9):
    y = predictions(net, x)
    total = attribute(net, x, y, "deeplift").double().sum((1, 2, 3))
    assert torch.allclose(total, logit_change(net, x, y).double(), rtol=rtol)


def multipliers(function, image, reference):
    image = image.clone().requires_grad_()
    with Rescale():
        out = function(torch.cat([image, reference]))
    return torch.autograd.grad(out[: len(image)].sum(), image)[0]


def test_the_rule_by_hand():
    row = lambda *values: torch.tensor([[list(values)]])  # noqa: E731
    ratio = multipliers(F.relu6, row(8.0, 3.0, -1.0, 2.0), row(2.0, -1.0, -2.0, 2.0))
    assert torch.allclose(ratio, row(4 / 6, 3 / 4, 0.0, 1.0)), "the slope where nothing changes"
    # Windows (5, 4), (4, 1), (1, 2) have maxima 5, 4, 2; those of the reference 3, 7, 7.
    pool = lambda x: F.max_pool1d(x, 2, 1)  # noqa: E731
    found = multipliers(pool, row(5.0, 4.0, 1.0, 2.0), row(3.0, 0.0, 7.0, 6.0))
    # The first window has one winner, the third pixel answers for both others: -3 and -5 of -6.
    assert torch.allclose(found, row(1.0, 0.0, 8 / 6, 0.0))


FREE_OF_SIGN = [name for name in ELEMENTWISE if name not in ("log", "log1p", "sqrt", "rsqrt")]
ARGUMENTS = {
    "threshold": (0.1, 0.0),
    "clamp": (-0.5, 1.0),
    "clip": (-0.5, 1.0),
    "pow": (2,),
    "clamp_min": (0.1,),
    "clamp_max": (0.4,),
    "prelu": (torch.full((1,), 0.2).double(),),
}


@pytest.mark.parametrize("name", FREE_OF_SIGN)
def test_every_nonlinearity_adds_up_as_a_function(name):
    function = next(getattr(space, name) for space in (F, torch) if hasattr(space, name))
    assert_adds_up(Net(lambda x: function(x, *ARGUMENTS.get(name, ()))), images())


@pytest.mark.parametrize("name", ["log", "log1p", "sqrt", "rsqrt"])
def test_those_of_positive_numbers_too(name):
    assert_adds_up(Net(lambda x: getattr(torch, name)(x.relu() + 0.1)), images())


@pytest.mark.parametrize(
    "act",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True),
        nn.SiLU(),
        nn.SiLU(inplace=True),
        nn.Hardswish(),
        nn.Hardswish(inplace=True),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.Mish(),
        nn.ELU(),
        nn.LeakyReLU(0.1),
        nn.Softplus(),
        nn.PReLU(),
        nn.Hardsigmoid(),
        nn.Threshold(0.1, 0.0),
        lambda x: x.relu_(),
        lambda x: (F.relu_(x), x)[1],
        lambda x: x.clamp(min=0),
        lambda x: torch.sigmoid(x).square(),
    ],
)
def test_modules_used_twice_in_place_and_functions_add_up(act):
    assert_adds_up(Net(act), images())


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(3, 1, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(2, 1, dilation=2),
        nn.AvgPool2d(3, 1),
        nn.AdaptiveMaxPool2d(4),
        nn.AdaptiveMaxPool2d(1),
        nn.AdaptiveAvgPool2d(2),
        lambda x: torch.max_pool2d(x, 3, 2),
        lambda x: F.max_pool2d(x, kernel_size=3, stride=1),
    ],
)
@pytest.mark.parametrize("act", [nn.ReLU(), nn.Identity()])
def test_pools_add_up_where_windows_overlap(pool, act):
    assert_adds_up(Net(act, pool), images())


def test_captum_agrees_on_modules_used_once_without_a_max_pool():
    net = (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 8, 3),
            nn.ELU(),
            nn.BatchNorm2d(8),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(8 * 36, 4),
        )
        .double()
        .eval()
    )
    x = images()
    y = predictions(net, x)
    with warnings.catch_warnings(action="ignore"):  # of its hooks
        captums = DeepLift(net).attribute(x, torch.zeros_like(x), target=y).detach()
    assert torch.allclose(attribute(net, x, y, "deeplift"), captums, atol=1e-12)


def test_windows_apart_add_up_one_by_one():
    shift = torch.linspace(0, 40, 3 * SIDE**2).sin().double().view(3, SIDE, SIDE)
    head, x = nn.Linear(192, 4).double().eval(), images()
    parts = lambda x: F.max_pool2d(x + shift, 2).sigmoid()  # noqa: E731
    y = torch.tensor([0, 1, 2])
    found = attribute(lambda x: head(parts(x).flatten(1)), x, y, "deeplift")
    weights = head.weight[y].view(3, 3, 8, 8)
    expected = (weights * (parts(x) - parts(torch.zeros_like(x)))).detach()
    assert torch.allclose(4 * F.avg_pool2d(found, 2), expected)


def test_a_winner_of_the_image_wins_in_a_reference_that_is_flat():
    image, flat = torch.tensor([[[[0.1, 0.3], [0.2, 0.0]]]]), torch.full((1, 1, 2, 2), 0.5)
    for layout in (torch.contiguous_format, torch.channels_last):
        pool = lambda x: F.max_pool2d(x.contiguous(memory_format=layout), 2)  # noqa: E731, B023
        assert multipliers(pool, image, flat).tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


def test_residuals_and_shared_tensors_add_up():
    conv = Net(nn.ReLU()).first.eval()
    inner = nn.Conv2d(6, 6, 3, padding=1).double().eval()

    def net(x):
        y = F.relu(conv(x), inplace=True)
        y = y + F.hardswish(inner(y))
        y = torch.cat([y, F.max_pool2d(y, 3, 1, 1)], 1)
        return F.adaptive_avg_pool2d(F.relu_(y - 0.2), 1).flatten(1)

    assert_adds_up(net, images())


class Gate(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


@pytest.mark.parametrize(
    "act",
    [
        Gate(),
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda x: x * x.sigmoid(),
        lambda x: x.softmax(1),
        lambda x: x / (1 + x.square()),
        torch.sin,
    ],
    ids=["gate", "norm", "product", "softmax", "quotient", "sine"],
)
def test_what_has_no_rule_is_refused_by_name(act):
    net = Net(act)
    net.name = "gated_net"
    match = r"deeplift does not add up for gated_net: a map sums to \S+ where the logit changes by"
    with pytest.raises(ValueError, match=match) as error:
        attribute(net, images(), method="deeplift")
    assert "take integrated_gradients" in str(error.value) and "\n" not in str(error.value)


def test_a_refusal_says_which_photograph_showed_it():
    x = torch.cat([0 * images()[:1], images()[:1]])  # in black there is nothing to add up
    with pytest.raises(DoesNotAddUp, match=r"\(images \[8\]\)$") as found:
        attribute(Net(Gate()), x, method="deeplift", first=7)
    assert found.value.places == [8]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("as_it_is", [True, False])
def test_maps_of_the_default_networks_sum_to_the_logits_difference(data, name, as_it_is):
    net = load_model(name) if as_it_is else folded(load_model(name))
    x, _ = load_images(data / "images/photographs", like=net, n=3, seed=0)
    assert_adds_up(net, x, rtol=1e-4)
