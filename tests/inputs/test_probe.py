"""What a model does is seen before it is believed: right numbers, or a refusal."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import iaside as ia
from iaside.backend.answers import FLOOR
from iaside.estimate.clean import may_be_zero
from iaside.inputs.asked import Asked
from iaside.inputs.probe import PROBE, probe
from iaside.tables import Condition

SIDE, CLASSES = 32, 4
MASKS = ia.band_masks(3, (SIDE, SIDE))
GAME = dict(batch_size=4, progress=False)


def pictures(n=4, channels=3, seed=0):
    return torch.rand(n, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def network(channels=3, classes=CLASSES, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 5, 2),
            nn.Softplus(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, classes),
        ).eval()


def predicted(net, x):
    with torch.no_grad():
        return net(x).argmax(1)


def loops(model, x, y, **how):
    """Every loop there is, as short as can be."""
    yield lambda: ia.coalition_worths(model, x, y, MASKS, **GAME, **how)
    yield lambda: ia.sampled_worths(model, x, y, MASKS, budget=32, **GAME, **how)
    yield lambda: ia.responses(
        model, x, y, [Condition("white_noise", 0.1)], MASKS, progress=False, **how
    )
    yield lambda: ia.perturb(x, "fgsm", model=model, labels=y, eps=0.1, **how)
    yield lambda: ia.attribute(model, x, y, "fast_ig", **how)
    yield lambda: ia.attribute(model, x, None, "fast_ig", **how)
    yield lambda: ia.insertion(model, x, y, torch.rand_like(x), steps=4, **how)


# -- probabilities, one column --------------------------------------------------------------------


def test_probabilities_are_refused_and_right_when_said():
    net, x = network(), pictures()
    y, soft = predicted(net, x), nn.Sequential(net, nn.Softmax(1)).eval()
    for loop in loops(soft, x, y):
        with pytest.raises(ValueError, match="gives probabilities.*outputs='probabilities'"):
            loop()
    right = ia.coalition_worths(net, x, y, MASKS, **GAME)
    said = ia.coalition_worths(soft, x, y, MASKS, **GAME, outputs="probabilities")
    assert np.allclose(said.table, right.table, atol=1e-5)
    assert said.provenance["outputs"] == "probabilities"
    assert said.provenance["floored"] == [0, 32]
    fooled = ia.perturb(x, "pgd", model=soft, labels=y, eps=0.1, outputs="probabilities")
    assert torch.allclose(fooled, ia.perturb(x, "pgd", model=net, labels=y, eps=0.1), atol=1e-4)
    a, b = (
        ia.insertion(m, x, y, x, steps=4, outputs=o)
        for m, o in ((net, "logits"), (soft, "probabilities"))
    )
    assert np.allclose(a, b, atol=1e-6)
    logs = nn.Sequential(net, nn.LogSoftmax(1)).eval()
    assert np.allclose(ia.coalition_worths(logs, x, y, MASKS, **GAME).table, right.table, atol=1e-5)


@pytest.mark.slow
def test_squeezenet_with_a_softmax_inside(data):
    net = ia.folded(ia.load_model("squeezenet1_1"))
    x, y = ia.load_images("data/images/photographs", like=net, n=2, seed=0)
    masks, soft = ia.band_masks(3, net.input_size), nn.Sequential(net, nn.Softmax(1)).eval()
    with pytest.raises(ValueError, match="outputs='probabilities'"):
        ia.explain(soft, x, y, n_bands=3, **GAME)
    right = ia.coalition_worths(net, x, y, masks, **GAME)
    said = ia.coalition_worths(soft, x, y, masks, **GAME, outputs="probabilities")
    floor = np.maximum(right.table, np.log(FLOOR))
    assert np.abs(said.table - floor).max() < 1e-3


def test_zero_probabilities_are_floored_and_said():
    def certain(x):
        return F.one_hot((x.mean((1, 2, 3)) > 0.5).long(), 2).float()

    x, y, how = pictures(), torch.tensor([0, 1, 0, 1]), {"outputs": "probabilities"}
    with pytest.warns(RuntimeWarning, match="of 32 worths at the floor log 1e-12"):
        w = ia.coalition_worths(certain, x, y, MASKS, **GAME, **how)
    n = int((w.table < -27).sum())
    assert w.table.min() == pytest.approx(np.log(FLOOR)) and 0 < n < 32
    assert w.provenance["floored"] == [n, 32]
    assert f"{n} of 32 worths at the floor log 1e-12" in str(ia.Explanation(w))
    with pytest.warns(RuntimeWarning, match="worths at the floor"):
        s = ia.sampled_worths(certain, x, y, MASKS, budget=32, **GAME, **how)
    assert s.provenance["floored"][0] == (s.tables["log_likelihood"] < -27).sum()
    noise = [Condition("white_noise", 0.1)]
    with pytest.warns(RuntimeWarning, match="of 8 worths at the floor"):
        r = ia.responses(certain, x, y, noise, MASKS, progress=False, **how)
    assert r.provenance["floored"][0] == (r.tables["log_likelihood"] < -27).sum()
    w = ia.coalition_worths(network(), x, y, MASKS, **GAME)
    assert "floored" not in w.provenance


def test_logits_are_not_taken_for_probabilities():
    with pytest.raises(ValueError, match="answers range from .* leave it out for logits"):
        probe(network(), pictures(), outputs="probabilities")


def test_one_logit_is_refused_and_right_when_said():
    x, one = pictures(), network(classes=1)
    two = lambda x: torch.cat([0 * one(x), one(x)], 1)  # noqa: E731
    zeros = torch.zeros(4).long()
    for loop in loops(one, x, zeros):
        with pytest.raises(ValueError, match="one number per image.*outputs='binary'"):
            loop()
    for labels in (zeros, torch.tensor([0, 1, 1, 0])):
        said = ia.coalition_worths(one, x, labels, MASKS, **GAME, outputs="binary").table
        assert np.array_equal(said, ia.coalition_worths(two, x, labels, MASKS, **GAME).table)
        flat = lambda x: one(x)[:, 0]  # noqa: E731
        again = ia.coalition_worths(flat, x, labels, MASKS, **GAME, outputs="binary")
        assert np.array_equal(said, again.table)
    logit = one(x).detach()[:, 0]
    said = ia.coalition_worths(one, x, zeros, MASKS, **GAME, outputs="binary")
    assert np.allclose(said.table[-1], F.logsigmoid(-logit), atol=1e-6), "label 1 is positive"
    with pytest.raises(ValueError, match="one logit per image"):
        probe(network(), x, outputs="binary")
    with pytest.warns(RuntimeWarning, match="before the sigmoid"):
        probe(nn.Sequential(one, nn.Sigmoid()).eval(), x, outputs="binary")
    with pytest.raises(ValueError, match="outputs='probs' is not known"):
        probe(one, x, outputs="probs")


def test_a_recipe_says_what_its_network_gives():
    recipe = dict(
        library="torchvision",
        architecture="mine",
        num_classes=2,
        input_size=(3, SIDE, SIDE),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        crop_pct=1.0,
        interpolation="bilinear",
    )
    from iaside.inputs.classifier import Classifier

    x, one = pictures(), network(classes=1)
    net = Classifier(one, recipe | {"outputs": "binary"}, "mine")
    assert torch.equal(net(x), torch.cat([0 * one(x), one(x)], 1))
    assert probe(net, x, torch.tensor([0, 1, 0, 1])).classes == 2
    soft = nn.Sequential(network(), nn.Softmax(1))
    soft = Classifier(soft, recipe | {"outputs": "probabilities"}, "mine")
    assert torch.allclose(soft(x), network()(x).log_softmax(1), atol=1e-6)
    said = ia.coalition_worths(soft, x, predicted(network(), x), MASKS, **GAME)
    assert said.provenance["outputs"] == "probabilities"
    assert said.provenance["floored"] == [0, 32]
    for net, given in ((network(), "probabilities"), (network(), "binary")):
        with pytest.raises(ValueError, match=f"mine: the recipe says outputs '{given}', but"):
            Classifier(net, recipe | {"outputs": given}, "mine")(x)
    with pytest.raises(ValueError, match="outputs must be one of logits, prob"):
        Classifier(one, recipe | {"outputs": "odds"}, "mine")


# -- answers that depend on the batch or the run ---------------------------------------------------


def beside():
    return nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), network()).eval()


def drops():
    net = network()
    return lambda x: net(F.dropout(x))


def training(layer):
    net = nn.Sequential(layer, network()).train()
    return lambda x: net(x)


class Hidden:
    """A callable in which no network can be seen."""

    __slots__ = ("parts",)

    def __init__(self, layer):
        self.parts = [nn.Sequential(layer, network()).train()]

    def __call__(self, x):
        return self.parts[0](x)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (beside, r"beside it: BatchNorm2d '0' keeps no running stat.*track_running_stats=False"),
        (drops, r"asked the same again.*F.dropout"),
        (lambda: training(nn.Dropout()), "Sequential inside the model is in training mode"),
        (lambda: training(nn.BatchNorm2d(3)), "Sequential inside the model is in training mode"),
        (lambda: Hidden(nn.Dropout()), "asked the same again.*network in training mode"),
        (lambda: Hidden(nn.BatchNorm2d(3)), "beside it: a network in training mode"),
    ],
)
def test_what_depends_on_the_batch_or_the_run_is_refused_by_name(model, text):
    model, x = model(), pictures()
    for loop in loops(model, x, torch.zeros(4).long()):
        with pytest.raises(ValueError, match=text):
            loop()
    with pytest.raises(ValueError, match=text):
        ia.coalition_worths(model, x, None, MASKS, "embedding", **GAME)


# -- a model that writes to its input, or to what it gave -----------------------------------------


class Writing(nn.Module):
    """Begins by writing to its input, and gives the same buffer every time."""

    def __init__(self, net, write):
        super().__init__()
        self.net, self.write, self.buffer = net, write, {}

    def forward(self, x):
        out = self.net(x.sub_(0.5) if self.write else x - 0.5)
        if not self.write or out.requires_grad:
            return out
        return self.buffer.setdefault(len(out), torch.empty_like(out)).copy_(out)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_writes_to_its_input_changes_nothing(channels):
    x = pictures(3, channels).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    whole = ia.band_masks(3, (SIDE, SIDE))
    found = []
    for write in (False, True):
        net = Writing(network(channels), write).eval()
        y = predicted(network(channels), x - 0.5)
        maps = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
        how = {"model": net, "labels": y}
        answers = ia.responses(
            net,
            x,
            y,
            [Condition("fgsm", 0.1), Condition("white_noise", 0.1)],
            whole,
            progress=False,
        )
        found.append(
            [
                ia.coalition_worths(
                    net, x, y, whole, ["log_likelihood", "embedding"], **GAME
                ).table,
                ia.sampled_worths(net, x, y, whole, budget=24, **GAME).tables["log_likelihood"],
                answers.tables["log_likelihood"],
                ia.perturb(x, "pixle", **how),
                ia.perturb(x, "pgd", eps=0.1, **how),
                ia.perturb(x, "sparsefool", steps=2, **how),
                ia.attribute(net, x, y, "fampe", steps=2, samples=2),
                ia.attribute(net, x, y, "guided_ig", steps=2),
                ia.insertion(net, x, y, maps, steps=4),
                ia.deletion(net, x, y, maps, steps=4),
            ]
        )
        assert torch.equal(x, before)
    for right, own in zip(*found, strict=True):
        assert np.array_equal(np.asarray(right), np.asarray(own))


# -- kinds of numbers ------------------------------------------------------------------------------


def test_labels_and_images_of_other_kinds_are_converted():
    net, x = network(), pictures()
    y = predicted(net, x)
    right = ia.coalition_worths(net, x, y, MASKS, **GAME).table
    for labels in (y.numpy(), y.tolist(), y.int(), y.numpy().astype(np.uint8)):
        assert np.array_equal(ia.coalition_worths(net, x, labels, MASKS, **GAME).table, right)
        assert ia.explain(net, x, labels, 3, **GAME).labels.tolist() == y.tolist()
        for loop in loops(net, x, labels):
            loop()
    for loop in loops(net, x.double(), y):  # a float32 network
        loop()
    assert np.allclose(
        ia.coalition_worths(net, x.double(), y, MASKS, **GAME).table, right, atol=1e-5
    )
    for loop in loops(network().double(), x, y):
        loop()
    wide = ia.coalition_worths(network().double(), x, y, MASKS, **GAME).table
    assert np.allclose(wide, right, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_a_network_of_narrow_numbers_is_refused_in_one_line(dtype):
    x = pictures()
    for loop in loops(network().to(dtype), x, torch.zeros(4).long()):
        with pytest.raises(ValueError, match=f"weights are {str(dtype)[6:]}.*model.float()") as e:
            loop()
        assert "\n" not in str(e.value)


def test_the_meta_device_is_named():
    x, y = pictures(), torch.zeros(4).long()
    for loop in loops(network().to("meta"), x, y):
        with pytest.raises(ValueError, match="weights of the model are on the meta device"):
            loop()
    for loop in list(loops(network(), x.to("meta"), y)):
        with pytest.raises(ValueError, match="images are on the meta device"):
            loop()


# -- what is counted, kept and said ----------------------------------------------------------------


def test_six_pictures_once_for_each_model_and_loop():
    net, x, shown = network(), pictures(), []
    y = predicted(net, x)
    net.register_forward_pre_hook(lambda module, args: shown.append(args[0].clone()))
    asked = probe(net, x, y)
    assert [len(s) for s in shown] == [2, 1, 1, 2] and sum(map(len, shown)) == PROBE
    assert torch.equal(shown[0], x[:2]) and asked.classes == CLASSES
    shown.clear()
    assert probe(asked, x, y) is asked and not shown
    ia.perturb(x, "fgsm", model=asked, labels=y, eps=0.1)
    assert sum(map(len, shown)) == 4, "what has been seen is not looked at again"
    shown.clear()
    ia.responses(net, x, y, [Condition("fgsm", 0.1), Condition("fgsm", 0.2)], MASKS, progress=False)
    assert sum(map(len, shown)) == PROBE + 4 + 2 * (4 + 4)
    shown.clear()
    ia.coalition_worths(net, x[:1], y[:1], MASKS, **GAME)
    assert torch.equal(shown[0], torch.cat([x[:1], x[:1].flip(-1) / 2])), "one, mirrored"
    assert sum(map(len, shown)) == PROBE + 2**3
    with pytest.raises(ValueError, match="but the model has 4 classes"):
        probe(asked, x, y + 4)


def test_the_last_row_is_of_the_images_themselves():
    net, x = network(), pictures(6)
    y, shown = predicted(net, x), []
    net.register_forward_pre_hook(lambda module, args: shown.append(args[0].clone()))
    w = ia.coalition_worths(net, x, y, MASKS, ["log_likelihood", "embedding"], **GAME)
    assert torch.equal(torch.cat(shown[4:6]), x), "exactly, and first"
    with torch.no_grad():
        whole = torch.cat([net(x[:4]), net(x[4:])]).log_softmax(1).gather(1, y[:, None])[:, 0]
    assert np.array_equal(w.table[-1], whole.double().numpy())
    assert np.allclose(w.tables["embedding"][-1], 1, atol=1e-6)
    s = ia.sampled_worths(net, x, y, MASKS, budget=60, **GAME)
    assert np.allclose(s.tables["log_likelihood"][s.coalition == 7], whole, atol=1e-6)
    assert s.provenance["clean"] == w.provenance["clean"]


def predicted_worth(net, x, y):
    with torch.no_grad():
        return net(x).log_softmax(1).gather(1, y[:, None])[:, 0].numpy()


def test_a_resumed_measurement_knows_the_clean_answers_too(tmp_path):
    net, x = network(), pictures(6)
    y = predicted(net, x)
    first, again = (
        ia.coalition_worths(net, x, y, MASKS, **GAME, resume=tmp_path) for _ in range(2)
    )
    assert again.forwards == 0 and again.provenance == first.provenance
    assert first.provenance["clean"]["correct"] == 6


def test_every_result_says_how_well_the_model_knows_its_classes():
    net, x = network(), pictures(8)
    y = predicted(net, x)
    y[0] = (y[0] + 1) % CLASSES
    e = ia.explain(net, x, y, 3, **GAME)
    log_p = predicted_worth(net, x, y).mean()
    assert "4 classes; clean images: top-1 7 of 8, 88% [53%, 98%] (by chance 25%)" in str(e)
    assert f"{log_p:.3g} (of guessing -1.39)" in str(e)
    assert "v(all) - v(none) = " in str(e)
    r = ia.responses(net, x, y, [], MASKS, progress=False)
    clean = r.provenance["clean"]
    assert (clean["classes"], clean["n"], clean["correct"]) == (CLASSES, 8, 7)
    assert clean["log_likelihood"] == pytest.approx(log_p, abs=1e-5)


def test_labels_off_by_one_are_warned_of():
    net, x = network(), pictures(20)
    y = predicted(net, x)
    wrong = (y + 1) % CLASSES
    for loop in list(loops(net, x, wrong))[:3]:
        with pytest.warns(RuntimeWarning, match="not clearly better than chance.*0 of"):
            loop()


def test_a_worth_that_may_be_zero_is_warned_of_and_has_no_shares():
    def constant(x):
        return torch.tensor([[3.0, 0.0]]).repeat(len(x), 1)

    with pytest.warns(RuntimeWarning, match=r"v\(all\) - v\(none\) is 0 on average, not clearly"):
        e = ia.explain(constant, pictures(), torch.zeros(4).long(), 3, **GAME)
    assert "may be 0" in str(e)
    rng = np.random.default_rng(0)
    assert may_be_zero(rng.normal(0, 1, 30)) and not may_be_zero(rng.normal(3, 1, 30))


def test_embeddings_and_values_of_ones_own_are_held_to_less():
    x = pictures()
    cube = lambda x: x.sigmoid()  # noqa: E731  no classes at all
    w = ia.coalition_worths(cube, x, None, MASKS, "embedding", **GAME)
    assert "clean" not in w.provenance
    mine = lambda outputs, labels: outputs.flatten(1)[:, 0]  # noqa: E731
    mine.__name__ = "mine"
    one = network(classes=1)
    w = ia.coalition_worths(one, x, torch.zeros(4).int(), MASKS, mine, **GAME)
    assert w.table.shape == (8, 4)
    with pytest.raises(ValueError, match="nan or inf"):
        ia.coalition_worths(lambda x: x / 0, x, None, MASKS, "embedding", **GAME)
    with pytest.raises(ValueError, match=r"must return \(2, classes\)"):
        ia.coalition_worths(lambda x: x[:1], x, None, MASKS, "embedding", **GAME)


def test_what_is_asked_passes_gradients_and_leaves_modes_alone():
    net, x = network(), pictures(2).requires_grad_()
    Asked(net)(x)[:, 0].sum().backward()
    own = pictures(2).requires_grad_()
    net(own)[:, 0].sum().backward()
    assert torch.allclose(x.grad, own.grad) and not net.training


# -- what can hide from a first look ------------------------------------------------------------


@pytest.mark.parametrize("places", [[0], [0, 0, 2], [0, 0, 0]])
def test_two_alike_do_not_hide_a_batch(places):
    x = pictures(3)[places]
    with pytest.raises(ValueError, match="depends on the pictures beside it"):
        probe(beside(), x)
    shown = []
    probe(lambda x: shown.append(x.clone()) or network()(x), pictures(3)[[0, 0, 2]])
    assert torch.equal(shown[0], pictures(3)[[0, 2]]), "the first that differs"


class Holding:
    def __init__(self, **parts):
        self.__dict__.update(parts)

    def __call__(self, x):
        return self.parts[0]["net"](x)


def in_default(net):
    def model(x, net=net):
        return net(x)

    return model


def in_keyword(net):
    def model(x, *, net=net):
        return net(x)

    return model


def in_function(net):
    def inner(x):
        return net(x)

    return lambda x: inner(x)


class Listing(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.nets = [net]

    def forward(self, x):
        return self.nets[0](x)


@pytest.mark.parametrize(
    "hide",
    [
        in_default,
        in_keyword,
        in_function,
        lambda net: Holding(parts=[{"net": net}]),
        lambda net: Holding(parts=[{"net": net}]).__call__,
        lambda net: Listing(net).eval(),
    ],
)
def test_a_hidden_network_is_refused_before_it_is_run(hide):
    net = nn.Sequential(nn.BatchNorm2d(3), network()).train()
    before = {name: b.clone() for name, b in net.named_buffers()}
    with pytest.raises(ValueError, match="Sequential inside the model is in training mode"):
        probe(hide(net), pictures())
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())
    assert probe(hide(net.eval()), pictures()).classes == CLASSES


def test_what_holds_itself_is_looked_through_once():
    net = network()
    model = Holding(parts=[{"net": net}])
    model.self, model.many = model, [model] * 3
    assert probe(model, pictures()).classes == CLASSES


# -- answers of other kinds ---------------------------------------------------------------------


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    ("wrap", "text"),
    [
        (lambda out: out.detach().numpy(), r"ndarray.*torch.from_numpy\(model\(x\)\)"),
        (lambda out: (out[0], None), r"tuple.*lambda x: f\(model\(x\)\[0\]\).* \(4,\)"),
        (lambda out: Output(out[None]), r"Output.*lambda x: f\(model\(x\).logits\).* \(1, 2, 4\)"),
        (lambda out: None, r"NoneType; it must return a tensor \(2, classes\)$"),
    ],
)
def test_an_answer_that_is_no_tensor_says_how_to_wrap_it(wrap, text):
    net = network()
    with pytest.raises(ValueError, match=text) as error:
        probe(lambda x: wrap(net(x)), pictures())
    assert "\n" not in str(error.value)


def test_sigmoids_of_several_classes_are_warned_of():
    net = network()
    with pytest.warns(RuntimeWarning, match="between 0 and 1 and do not sum to 1.*sigmoid"):
        probe(nn.Sequential(net, nn.Sigmoid()).eval(), pictures())


def test_one_probability_is_that_of_label_1():
    x, one = pictures(), network(classes=1)
    p = nn.Sequential(one, nn.Sigmoid()).eval()
    y = torch.tensor([0, 1, 1, 0])
    right = ia.coalition_worths(one, x, y, MASKS, **GAME, outputs="binary").table
    for model in (p, lambda x: p(x)[:, 0]):
        said = ia.coalition_worths(model, x, y, MASKS, **GAME, outputs="probabilities")
        assert np.allclose(said.table, right, atol=1e-5)
    with pytest.raises(ValueError, match="answers range from .*leave it out"):
        probe(lambda x: 9 - one(x), x, outputs="probabilities")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (["cat", "dog", "cat", "dog"], "are no numbers; give one integer"),
        (torch.zeros(4, dtype=int, device="meta"), "labels are on the meta device"),
        (torch.zeros(4, 2, dtype=int), "those of image 0 are not one-hot: several labels .or none"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(labels, text):
    net, x = network(), pictures()
    told = [loop for k, loop in enumerate(loops(net, x, labels)) if k != 5]  # which has no labels
    for loop in (*told, lambda: ia.explain(net, x, labels, 3, **GAME)):
        with pytest.raises((ValueError, TypeError), match=text) as error:
            loop()
        assert "\n" not in str(error.value)


def test_a_column_of_labels_is_a_row_of_them():
    net, x = network(), pictures()
    y = predicted(net, x)
    right = ia.explain(net, x, y, 3, **GAME)
    column = ia.explain(net, x, y[:, None], 3, **GAME)
    assert column.labels.tolist() == y.tolist() and np.array_equal(column.values, right.values)


# -- images and numbers of other kinds -----------------------------------------------------------


def test_answers_to_other_images_are_refused_or_the_same():
    net, x = network(), pictures()
    y, noise = predicted(net, x), [Condition("white_noise", 0.1)]
    how = dict(masks=MASKS, progress=False)
    for images, text in (
        ((255 * x).byte(), "divide by 255"),
        (255 * x, "images range from"),
        (x > 0.5, "images are torch.bool; give real numbers"),
        (x.cfloat(), "images are torch.complex64; give real numbers"),
        (x.to_sparse(), r"images are sparse; give images.to_dense\(\)"),
        (x[:, :, :0], "images is empty, "),
    ):
        for given in ((images, None), (x, images)):
            with pytest.raises((ValueError, TypeError), match=text):
                ia.responses(net, given[0], y, noise, pictures=given[1], **how)
        with pytest.raises((ValueError, TypeError), match=text):
            probe(net, images)
    half = x.half()
    found = [ia.responses(net, own, y, noise, **how).tables for own in (half, half.float())]
    assert all(np.array_equal(found[0][t], found[1][t], equal_nan=True) for t in found[0])


def narrow(outputs=None):
    from iaside.inputs.classifier import Classifier

    return Classifier(network(), RECIPE | (outputs or {}), "mine")


RECIPE = dict(
    library="torchvision",
    architecture="mine",
    num_classes=CLASSES,
    input_size=(3, SIDE, SIDE),
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    crop_pct=1.0,
    interpolation="bicubic",
)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_a_classifier_of_narrow_numbers_is_no_float32(dtype):
    x, y = pictures(), torch.zeros(4).long()
    for loop in loops(narrow().to(dtype), x, y):
        with pytest.raises(ValueError, match=f"weights are {str(dtype)[6:]}.*model.float()"):
            loop()


def test_a_network_of_wide_numbers_is_no_bfloat16():
    for net in (narrow().double(), network().double()):
        with pytest.raises(ValueError, match="answers in float64, which precision='bfloat16'"):
            ia.coalition_worths(
                net, pictures(), torch.zeros(4).long(), MASKS, **GAME, precision="bfloat16"
            )


def test_what_has_been_asked_keeps_its_recipe():
    from iaside.robustness.corrupted_photographs import interpolation_of

    net = narrow()
    assert interpolation_of(probe(net, pictures())) == interpolation_of(net) == "bicubic"


# -- true float32 -------------------------------------------------------------------------------


def test_attacks_maps_and_predictions_ask_in_true_float32():
    """A GPU would take TF32 else; the setting is there on every machine."""
    from iaside.attribution.examine import examine

    net, x, told = network(), pictures(2), []
    y, cudnn = predicted(net, x), torch.backends.cudnn

    def model(x):
        told.append(cudnn.conv.fp32_precision != "ieee" or torch.is_autocast_enabled("cpu"))
        return net(x)

    loops = [
        partial(ia.perturb, x, name, model=model, labels=y, **more)
        for name, more in (
            ("fgsm", {"eps": 0.1}),
            ("pgd", {"eps": 0.1}),
            ("pixle", {}),
            ("sparsefool", {"steps": 1}),
        )
    ]
    loops += [
        lambda: ia.attribute(model, x, None, "integrated_gradients", steps=2),
        lambda: examine(
            model,
            x,
            y,
            {"i": {"method": "integrated_gradients", "steps": 2}, "c": {"method": "clean"}},
            {"j": model},
            steps=4,
            infidelity_samples=1,
            progress=False,
        ),
    ]
    before, cudnn.conv.fp32_precision = cudnn.conv.fp32_precision, "tf32"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            for loop in loops:
                loop()
        assert told and not any(told) and cudnn.conv.fp32_precision == "tf32"
    finally:
        cudnn.conv.fp32_precision = before


def test_a_judge_that_is_the_model_gives_what_the_model_gives():
    from iaside.attribution.examine import examine

    net, x = network(), pictures(2)
    y, soft = predicted(net, x), nn.Sequential(net, nn.Softmax(1)).eval()
    found = examine(
        soft,
        x,
        y,
        {"c": {"method": "clean"}},
        {"self": soft, "other": net},
        steps=4,
        progress=False,
        outputs="probabilities",
    )
    for judge in ("self", "other"):
        assert found.tables[f"correct {judge}"].tolist() == [[1, 1]]


def test_what_was_seen_too_deep_is_seen_again_where_it_is_near():
    net = nn.Sequential(nn.Dropout(), network()).train()
    near = Holding(parts=[{"net": net}])
    deep = near
    for _ in range(5):
        deep = [deep]
    near.first = deep
    model = Holding(a=deep, parts=[{"net": network()}], z=near)
    with pytest.raises(ValueError, match="in training mode"):
        probe(model, pictures())


def test_a_model_that_takes_one_picture_at_a_time_is_shown_one_at_a_time():
    """As networks exported for a batch of one are."""
    net, x = network(), pictures()
    y = predicted(net, x)

    def fixed(x):
        if len(x) != 1:
            raise RuntimeError(f"invalid dimensions for index 0: got {len(x)}, expected 1")
        return net(x)

    found = ia.coalition_worths(fixed, x, y, MASKS, **GAME).table
    assert np.allclose(found, ia.coalition_worths(net, x, y, MASKS, **GAME).table, atol=1e-5)
    attacked = ia.perturb(x, "fgsm", model=fixed, labels=y, eps=0.1)
    assert torch.allclose(attacked, ia.perturb(x, "fgsm", model=net, labels=y, eps=0.1))

    def broken(x):
        raise RuntimeError("no such layer")

    with pytest.raises(ValueError, match="fails for 2 pictures .*RuntimeError: no such layer"):
        ia.coalition_worths(broken, x, y, MASKS, **GAME)
