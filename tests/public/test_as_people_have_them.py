"""Models as people have them, at every door: what a plain module gives, or one line of refusal."""

import functools
import warnings
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import iaside as ia
from iaside.attribution.examine import examine
from iaside.attribution.faithfulness import infidelity
from iaside.attribution.maps import METHODS
from iaside.inputs.classifier import Classifier
from iaside.inputs.probe import probe
from iaside.tables import Condition

SIDE, CLASSES, N = 16, 5, 2
MASKS = ia.band_masks(3, (SIDE, SIDE))


@functools.cache
def pictures():
    return torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def drawn(make):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().eval()


def body():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Softplus(), nn.Flatten())


@functools.cache
def plain():
    return drawn(lambda: nn.Sequential(*body(), nn.Linear(196, CLASSES)))


def own():
    return drawn(lambda: nn.Sequential(*body(), nn.Linear(196, CLASSES)))


@functools.cache
def flat():
    return drawn(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)))


# -- kinds of models: each the same function as `plain`, or as what stands beside it ---------------


class Of(nn.Module):
    """A module whose forward is a function of a network and pixels."""

    def __init__(self, net, forward, **attributes):
        super().__init__()
        self.net, self.how = net, forward
        self.__dict__.update(attributes)
        self.eval()

    def forward(self, x):
        return self.how(self.net, x)


def of(forward, **attributes):
    return lambda: Of(own(), forward, **attributes)


def wraps(wrap):
    """A module that answers with something around its logits."""
    return of(lambda net, x: wrap(net(x), net[:3](x)))


@dataclass
class Output:
    loss: object
    logits: torch.Tensor


class ModelOutput(dict):
    __getattr__ = dict.__getitem__


Heads = namedtuple("Heads", "logits aux")


def with_view(net, x):
    return net[3](net[1](net[0](x)).view(-1, 196))


def through_rows(x):
    """The same, by a way that only pixels which lie channels last go."""
    return x.permute(0, 2, 3, 1).view(-1, 3).view(len(x), SIDE, SIDE, 3).permute(0, 3, 1, 2)


def reads_strides(net, x):
    return net[1](x.as_strided((len(x), x[0].numel()), (x[0].numel(), 1)))


def reads_memory(net, x):
    memory = torch.from_numpy(x.detach().numpy().ravel("K"))
    return net[1](memory.view(len(x), -1))


def export(net, n, **how):
    return torch.export.export(net, (torch.rand(n, 3, SIDE, SIDE),), **how).module()


def dynamic():
    return export(own(), 2, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(own())


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(own(), pictures())


def frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.script(own()))


def closure():
    net = own()

    def model(x):
        return net(x)

    return model


def closure_over_no_value():
    net = own()

    def model(x):
        return net(x) if len(x) else late

    if net.training:
        late = 0
    return model


class Predictor:
    def __init__(self):
        self.net = own()

    def predict(self, x):
        return self.net(x)


def made_in_inference_mode():
    with torch.inference_mode():
        return own()


def lazy():
    net = drawn(lambda: nn.Sequential(*body(), nn.LazyLinear(CLASSES)))
    net(pictures())
    net.load_state_dict(own().state_dict())
    return net


def normed():
    net = own()
    parametrizations.weight_norm(net[0])
    parametrizations.weight_norm(net[3])
    return net.eval()


def hooked():
    net = own()
    net.seen = []
    net[0].register_forward_hook(lambda module, given, out: net.seen.append(out.mean()))
    net[1].register_forward_hook(lambda module, given, out: out + 0)
    net[3].register_full_backward_hook(lambda module, into, out: None)
    return net


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        raise NotImplementedError("nobody has\nwritten it")


def hook_that_raises():
    def raises(module, into, out):
        raise KeyError("layer 1")

    net = own()
    net[1].register_full_backward_hook(raises)
    return net


class Anything:
    def __init__(self, net):
        self.net = net

    def __getattr__(self, name):
        raise OSError(f"no connection to ask for {name}")

    def __call__(self, x):
        return self.net(x)


def functional():
    net, values = own().to("meta"), dict(own().named_parameters())
    return lambda x: torch.func.functional_call(net, values, (x,))


def convolutional():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Softplus(), nn.Conv2d(4, CLASSES, 7)).eval()
    net[0].load_state_dict(own()[0].state_dict())
    net[2].weight.data = own()[3].weight.data.view(CLASSES, 4, 7, 7)
    net[2].bias.data = own()[3].bias.data
    return net


KINDS = {  # kind -> how it is made
    "plain": own,
    "frozen parameters": lambda: own().requires_grad_(False),
    "view after a convolution": of(with_view),
    "permute and view": of(lambda net, x: net(through_rows(x))),
    "reads strides": lambda: Of(flat(), reads_strides),
    "reads memory": lambda: Of(flat(), reads_memory),
    "reads memory one by one": lambda: Of(flat(), lambda net, x: one_only(net, x, reads_memory)),
    "view one by one": of(lambda net, x: one_only(net, x, with_view)),
    "exported": dynamic,
    "exported for one": lambda: export(own(), 1),
    "exported, wrapped": lambda: Holding(dynamic()),
    "unflattened": lambda: torch.export.unflatten(
        torch.export.export(own(), (pictures()[:1],))
    ).eval(),
    "scripted": scripted,
    "scripted view": lambda: torch.jit.trace(Of(own(), with_view), pictures()),
    "traced": traced,
    "frozen script": frozen,
    "fx": lambda: torch.fx.symbolic_trace(own()),
    "compiled": lambda: torch.compile(own(), backend="eager"),
    "compiled view": lambda: torch.compile(of(with_view)(), backend="eager"),
    "tuple": wraps(lambda out, more: (out, more[:, :CLASSES])),
    "tuple, nested": wraps(lambda out, more: ((out, None), {"a": 1})),
    "tuple, after a map": wraps(lambda out, more: (more.view(-1, 4, 7, 7), out)),
    "tuple one by one": of(lambda net, x: (one_only(net, x, lambda net, x: net(x)), None)),
    "list": wraps(lambda out, more: [out]),
    "dictionary": wraps(lambda out, more: {"features": more, "logits": out}),
    "dictionary, out and aux": wraps(lambda out, more: {"aux": 2 * out, "out": out}),
    "model output": wraps(lambda out, more: ModelOutput(hidden=more, logits=out)),
    "dataclass": wraps(lambda out, more: Output(None, out)),
    "named tuple": wraps(lambda out, more: Heads(out, 2 * out)),
    "one pixel maps": convolutional,
    "tuple of maps": lambda: Of(convolutional(), lambda net, x: (net(x),)),
    "data parallel": lambda: nn.DataParallel(own()).eval(),
    "partial": lambda: functools.partial(lambda net, x: net(x), own()),
    "lambda": lambda: (lambda net: lambda x: net(x))(own()),
    "bound method": lambda: Predictor().predict,
    "closure": closure,
    "closure over no value": closure_over_no_value,
    "re-entrant": of(lambda net, x: checkpoint(net, x, use_reentrant=True)),
    "checkpoint": of(lambda net, x: checkpoint(net, x, use_reentrant=False)),
    "float64": lambda: own().double(),
    "half": lambda: own().half(),
    "made in inference mode": made_in_inference_mode,
    "without gradient": lambda: torch.no_grad()(closure()),
    "inference mode inside": lambda: torch.inference_mode()(closure()),
    "numpy inside": of(lambda net, x: net(torch.from_numpy(x.numpy()))),
    "numpy answers": of(lambda net, x: net(x).detach().numpy()),
    "numpy in a dictionary": of(lambda net, x: {"p": net(x).detach().numpy()}),
    "autocast inside": of(lambda net, x: torch.autocast("cpu", torch.bfloat16)(net)(x)),
    "no tensor": of(lambda net, x: None),
    "rows": of(lambda net, x: list(net(x))),
    "numbers": of(lambda net, x: net(x).tolist()),
    "complex": of(lambda net, x: net(x) * 1j),
    "sparse": of(lambda net, x: net(x).to_sparse()),
    "broken": of(lambda net, x: net(x[:, :1])),
    "compiled for a backward pass": lambda: torch.compile(own(), backend="aot_eager"),
    "switches gradients on": of(lambda net, x: (torch.set_grad_enabled(True), net(x))[1]),
    "switches gradients off": of(lambda net, x: (net(x), torch.set_grad_enabled(False))[0]),
    "sets a dtype": of(lambda net, x: (torch.set_default_dtype(torch.float64), net(x))[1]),
    "no backward pass": of(lambda net, x: net(OneWay.apply(x))),
    "a hook that raises": hook_that_raises,
    "weight norm": normed,
    "lazy": lazy,
    "lazy, not yet called": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)).eval(),
    "hooks": hooked,
    "more attributes": of(
        lambda net, x: net(x),
        config={"a": [1]},
        training_set=object(),
        fn=len,
        recipe="mine",
        input_size=SIDE,
        name=0,
        outputs="binary",
    ),
    "answers for every attribute": lambda: Anything(own()),
    "quantized": lambda: quantized(),
    "exported for four": lambda: export(own(), 4),
    "exported program": lambda: torch.export.export(own(), (pictures(),)),
    "functional": functional,
}


def one_only(net, x, forward):
    if len(x) != 1:
        raise RuntimeError(f"got {len(x)}, expected 1")
    return forward(net, x)


class Holding(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(own(), {nn.Linear}).eval()


@functools.cache
def made(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KINDS[kind]()


# -- every call that takes a model -----------------------------------------------------------------

GAME = dict(batch_size=4, progress=False)
EASY = {  # options that make a method short
    "fampe": dict(steps=2, samples=2),
    "attexplore": dict(steps=2, samples=2),
    "smoothgrad": dict(samples=2),
    "integrated_gradients": dict(steps=4),
    "guided_ig": dict(steps=2),
    "big": dict(steps=2, path_steps=2),
    "agi": dict(classes=2, steps=2),
    "la": dict(classes=2, steps=2),
    "mfaba": dict(steps=2),
}


def maps():
    return torch.rand(pictures().shape, generator=torch.Generator().manual_seed(2))


def responses(m, x, y):
    conditions = [Condition("white_noise", 0.1), Condition("fgsm", 0.05)]
    return ia.responses(m, x, y, conditions, MASKS, progress=False).tables["log_likelihood"]


def examined(m, x, y):
    variants = {"s": {"method": "saliency"}, "c": {"method": "clean"}}
    how = dict(steps=4, infidelity_samples=1, progress=False)
    return examine(m, x, y, variants, {"own": m}, **how).tables["insertion"]


def attribute(method):
    how = EASY.get(method, {})
    if method == "expected_gradients":
        how = {"samples": 2, "references": pictures()}
    return lambda m, x, y: ia.attribute(m, x, y, method, **how)


NO_GRADIENT = {  # call -> what it gives of a model, pictures and labels
    "explain": lambda m, x, y: ia.explain(m, x, y, 2, **GAME).values,
    "explain, shares": lambda m, x, y: (
        ia.explain(m, x[:1], y[:1], 2, normalise="share", **GAME).values
    ),
    "coalition_worths": lambda m, x, y: ia.coalition_worths(m, x, y, MASKS, **GAME).table,
    "embedding": lambda m, x, y: ia.coalition_worths(m, x, None, MASKS, "embedding", **GAME).table,
    "batch size": lambda m, x, y: ia.coalition_worths(m, x, y, MASKS, progress=False).table,
    "sampled_worths": lambda m, x, y: ia.sampled_worths(m, x, y, MASKS, budget=12, **GAME).tables[
        "log_likelihood"
    ],
    "published_worths": lambda m, x, y: ia.published_worths(m, x, y, 2),
    "pixle": lambda m, x, y: ia.perturb(x, "pixle", model=m, labels=y),
    "insertion": lambda m, x, y: ia.insertion(m, x, y, maps(), steps=4),
    "deletion": lambda m, x, y: ia.deletion(m, x, y, maps(), steps=4),
    "infidelity": lambda m, x, y: infidelity(m, x, y, maps(), samples=2),
    "probe": lambda m, x, y: probe(m, x, y).answer,
}
GRADIENT = {
    "responses": responses,
    "fgsm": lambda m, x, y: ia.perturb(x, "fgsm", model=m, labels=y, eps=0.05),
    "pgd": lambda m, x, y: ia.perturb(x, "pgd", model=m, labels=y, eps=0.05, steps=2),
    "pgd in a band": lambda m, x, y: ia.perturb(
        x, "pgd", model=m, labels=y, eps=0.05, steps=2, band=0, masks=MASKS
    ),
    "sparsefool": lambda m, x, y: ia.perturb(x, "sparsefool", model=m, labels=y, steps=1),
    "attribute, own targets": lambda m, x, y: ia.attribute(m, x, None, "fast_ig"),
    "explore": lambda m, x, y: ia.explore(m, x, y, **EASY["fampe"]).attribution,
    "examine": examined,
    **{method: attribute(method) for method in METHODS},
}
CALLS = NO_GRADIENT | GRADIENT

# -- what is not possible, and what is said of it --------------------------------------------------

EVERY = tuple(CALLS)
OF_GRADIENTS = tuple(GRADIENT)
REFUSED = {  # kind -> (calls, what is said)
    "reads memory": (OF_GRADIENTS, "needs gradients .*detach"),
    "reads memory one by one": (OF_GRADIENTS, "needs gradients .*detach|one picture at a time"),
    "view one by one": (("deeplift",), "one picture at a time"),
    "tuple one by one": (("deeplift",), "one picture at a time"),
    "exported for one": (("deeplift",), "one picture at a time"),
    "unflattened": (("deeplift",), "one picture at a time"),
    "scripted": (("deeplift",), "deeplift .*TorchScript"),
    "scripted view": (("deeplift",), "deeplift .*TorchScript"),
    "traced": (("deeplift",), "deeplift .*TorchScript"),
    "frozen script": (("deeplift",), "deeplift .*TorchScript"),
    "checkpoint": (("deeplift",), "deeplift .*checkpoint"),
    "re-entrant": (OF_GRADIENTS, "use_reentrant=False"),
    "no backward pass": (OF_GRADIENTS, "its backward pass fails, NotImplementedError: nobody has"),
    "a hook that raises": (OF_GRADIENTS, "its backward pass fails, KeyError: 'layer 1'"),
    "half": (EVERY, r"weights are float16.*model.float\(\)"),
    "without gradient": (OF_GRADIENTS, "needs gradients"),
    "inference mode inside": (OF_GRADIENTS, "needs gradients"),
    "numpy inside": (OF_GRADIENTS, "needs gradients"),
    "numpy answers": (EVERY, r"lambda x: torch.from_numpy\(model\(x\)\)"),
    "numpy in a dictionary": (EVERY, r"lambda x: torch.from_numpy\(model\(x\)\['p'\]\)"),
    "autocast inside": (EVERY, "answers in bfloat16, not float32.*autocast"),
    "no tensor": (EVERY, "returned NoneType; it must return a tensor"),
    "rows": (EVERY, r"lambda x: torch.stack\(list\(model\(x\)\)\)"),
    "numbers": (EVERY, r"returned list; .*lambda x: torch.tensor\(model\(x\)\)"),
    "complex": (EVERY, "complex64 numbers; it must return real"),
    "sparse": (EVERY, "sparse_coo numbers; it must return real, dense"),
    "broken": (EVERY, "the model fails for 2 pictures .*expected input.*any B"),
    "lazy, not yet called": (EVERY, "without weights yet"),
    "quantized": (EVERY, "beside it.*quantisation"),
    "exported for four": (EVERY, "the model fails for 2 pictures.*dynamic first dimension"),
    "exported program": (EVERY, r"give model.module\(\)"),
}


@pytest.fixture(scope="module", autouse=True)
def no_batch_size_is_remembered(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@functools.cache
def right(kind, call):
    return CALLS[call](flat() if kind.startswith("reads") else plain(), pictures(), labels(kind))


def labels(kind):
    with torch.no_grad():
        return (flat() if kind.startswith("reads") else plain())(pictures()).argmax(1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_what_a_plain_module_gives_or_one_line(kind, call):
    calls, text = REFUSED.get(kind, ((), ""))
    if call in calls:
        with pytest.raises((ValueError, TypeError), match=text) as error:
            CALLS[call](made(kind), pictures(), labels(kind))
        assert "\n" not in str(error.value)
        return
    found = CALLS[call](made(kind), pictures(), labels(kind))
    expected = right(kind.split(",")[0] if kind.startswith("reads") else "plain", call)
    assert np.allclose(np.asarray(found), np.asarray(expected), 1e-3, 1e-5, equal_nan=True)


# -- classifiers -----------------------------------------------------------------------------------

RECIPE = dict(
    library="torchvision",
    architecture="mine",
    num_classes=CLASSES,
    input_size=(3, SIDE, SIDE),
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    crop_pct=1.0,
    interpolation="bilinear",
)
OF_CLASSIFIERS = {
    "folded": lambda c, x, path: ia.folded(c),
    "calibrated": lambda c, x, path: ia.calibrated(c, x),
    "saved": lambda c, x, path: ia.save_weights(c, path) or c,
    "as it is": lambda c, x, path: c,
}
NOT_AS_CLASSIFIERS = {  # call -> kinds that it refuses, and what is said
    "folded": {},
    "calibrated": dict.fromkeys(
        [
            "exported",
            "exported, wrapped",
            "exported for one",
            "unflattened",
            "scripted",
            "traced",
            "scripted view",
            "frozen script",
        ],
        "out of reach; give the torch network itself",
    ),
    "saved": {"quantized": "writes dense tensors.*quantised"},
    "as it is": {},
}
LEFT_OUT = [kind for kind, (calls, _) in REFUSED.items() if calls == EVERY and kind != "quantized"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", OF_CLASSIFIERS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LEFT_OUT])
@pytest.mark.slow
def test_a_classifier_of_such_a_network_or_one_line(kind, call, tmp_path):
    net, x = KINDS[kind](), pictures()
    if not isinstance(net, nn.Module):
        with pytest.raises(TypeError, match="net is a .*, and a Classifier holds a torch module"):
            Classifier(net, RECIPE, "mine")
        return
    if kind == "quantized" and call != "saved":
        net, x = Of(net, lambda net, x: one_only(net, x, lambda net, x: net(x))), x[:1]
    given = Classifier(net, RECIPE, "mine")
    if text := NOT_AS_CLASSIFIERS[call].get(kind):
        with pytest.raises(ValueError, match=text) as error:
            OF_CLASSIFIERS[call](given, x, tmp_path / "w.safetensors")
        assert "\n" not in str(error.value)
        return
    found = probe(OF_CLASSIFIERS[call](given, x, tmp_path / "w.safetensors"), x).answer
    right = (flat() if kind.startswith("reads") else plain())(x[:1])
    assert torch.allclose(found.float(), right, 1e-3, 0.02 if kind == "quantized" else 1e-5)


@pytest.mark.parametrize("call", ["folded", "calibrated", "saved"])
def test_what_is_no_classifier_is_refused_by_name(call, tmp_path):
    for kind in ("plain", "scripted", "closure", "exported"):
        with pytest.raises(TypeError, match="takes a Classifier, got a .*Classifier.module, rec"):
            OF_CLASSIFIERS[call](made(kind), pictures(), tmp_path / "w.safetensors")


def test_probabilities_of_a_classifier_are_found_in_its_answer():
    soft = Of(own(), lambda net, x: {"p": net(x).softmax(1)})
    c = Classifier(soft, RECIPE | {"outputs": "probabilities"}, "mine")
    assert torch.allclose(c(pictures()), plain()(pictures()).log_softmax(1), atol=1e-5)


# -- layouts ---------------------------------------------------------------------------------------


def asked(kind):
    how = dict(batch_size=4, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ia.explain(made(kind), pictures(), labels(kind), 3, **how)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("view after a convolution", "contiguous pixels"),
        ("reads strides", "contiguous pixels"),
        ("reads memory", "contiguous pixels"),
        ("view one by one", "contiguous pixels, one picture at a time"),
        ("exported for one", "one picture at a time"),
        ("dictionary", "model(x)['logits'] taken"),
        ("dataclass", "model(x).logits taken"),
        ("named tuple", "model(x).logits taken"),
        ("tuple, nested", "model(x)[0][0] taken"),
        ("tuple of maps", "model(x)[0].flatten(1) taken"),
        ("plain", None),
        ("fx", None),
    ],
)
def test_the_report_says_how_a_model_was_asked_where_that_is_not_as_usual(kind, text):
    e = asked(kind)
    assert e.worths.provenance.get("asked") == text
    assert (f"\nasked with {text}\n" in str(e)) if text else ("asked with" not in str(e))


def test_a_model_is_shown_the_layout_that_it_reads_and_no_more_pictures_than_before():
    shown = []
    net = own()
    net.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    way = probe(net, pictures()).way
    assert way.channels_last and [len(x) for x in shown] == [2, 1, 1, 2]
    lies = [x.is_contiguous() for x in shown]
    assert lies == [False, False, False, True], "again, and contiguous"
    assert not probe(made("reads memory"), pictures()).way.channels_last
    assert not probe(made("view after a convolution"), pictures()).way.channels_last


def test_a_model_that_takes_channels_last_only_is_shown_no_other():
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        made("permute and view")(pictures())
    asked = probe(made("permute and view"), pictures())
    assert asked.way.channels_last
    assert torch.allclose(asked(pictures()), plain()(pictures()), atol=1e-5)


def test_what_is_random_is_no_reader_of_memory():
    net = own()
    with pytest.raises(ValueError, match="asked the same again"):
        probe(lambda x: net(x) + 0.1 * torch.rand(len(x), 1), pictures())
    drift = iter(range(100))
    with pytest.raises(ValueError, match="asked the same again"):
        probe(lambda x: net(x) * (1 + next(drift)), pictures())


def test_rounding_in_bfloat16_is_no_reader_of_memory():
    """Layouts alone move real networks by up to 5 % of the spread of their logits."""
    net = own()

    def model(x):
        rounds = 0.0 if x.is_contiguous() or not torch.is_autocast_enabled("cpu") else 0.1
        return net(x) * (1 + rounds)

    assert probe(model, pictures(), precision="bfloat16").way.channels_last
    for kind in ("reads strides", "reads memory"):
        assert not probe(made(kind), pictures(), precision="bfloat16").way.channels_last


# -- answers ---------------------------------------------------------------------------------------


def test_the_tensor_that_is_taken_is_named_and_others_are_warned_of(capsys):
    net = own()
    probe(lambda x: (net(x), None), pictures())
    assert "model(x)[0] is taken" in capsys.readouterr().err
    probe(net, pictures())
    assert capsys.readouterr().err == ""
    text = r"\[0\] of 9 columns is taken, and not .*\[1\] of 5; .*lambda x: model\(x\)\[1\]"
    with pytest.warns(RuntimeWarning, match=text):
        assert probe(lambda x: (net[:3](x)[:, :9], net(x)), pictures()).classes == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = probe(lambda x: {"features": net[:3](x), "logits": net(x)}, pictures())
    assert named.classes == CLASSES


def test_no_numbers_of_a_picture_are_refused_by_their_shape():
    net = own()
    for model in (
        lambda x: net(x).mean(),
        lambda x: one_only(net, x, lambda net, x: net(x)[0]),
        lambda x: one_only(net, x, lambda net, x: net(x).mean()),
    ):
        with pytest.raises(ValueError, match=r"model returned \((5,)?\) for [12] image"):
            probe(model, pictures())


def test_one_number_and_embeddings_are_found_too():
    net = own()
    one = lambda x: (net[:3](x).view(-1, 4, 7, 7), net(x)[:, :1])  # noqa: E731
    assert probe(one, pictures(), outputs="binary").classes == 2
    with pytest.raises(ValueError, match="one number per image.*outputs='binary'"):
        probe(one, pictures())
    cube = lambda x: {"last": net[0](x)}  # noqa: E731
    found = probe(cube, pictures(), class_outputs=False)
    assert found.answer.shape == (1, 4, 7, 7)
    with pytest.raises(ValueError, match=r"f\(model\(x\)\['last'\]\), which is a tensor \(2, 4, 7"):
        probe(cube, pictures())


def test_one_number_of_a_picture_is_no_embedding():
    net = own()
    for model in (lambda x: net(x)[:, 0], lambda x: net(x)[:, :1], lambda x: net(x).argmax(1)):
        with pytest.raises(ValueError, match="of one number per image there are but two"):
            ia.coalition_worths(model, pictures(), None, MASKS, "embedding", **GAME)


def test_a_model_that_answers_now_so_and_now_otherwise_is_refused():
    net = own()
    sometimes = lambda x: (net(x),) if len(x) == 2 else {"a": net(x)}  # noqa: E731
    with pytest.raises(ValueError, match=r"answered with dict where model\(x\)\[0\] was a tensor"):
        probe(sometimes, pictures())
    for kind in (net, lambda x: net(x)):
        known = probe(kind, pictures())
        net.register_forward_hook(lambda module, given, out: (out,))
        with pytest.raises(ValueError, match="answered with tuple where"):
            known(pictures())
        net._forward_hooks.clear()
