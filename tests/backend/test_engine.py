import copy
import pickle
import socket
import sys
import warnings

import numpy as np
import pytest
import torch
from sweeps import few
from torch import nn

from iaside.attribution.examine import examine
from iaside.backend import engine
from iaside.backend.device import channels_last
from iaside.backend.engine import BRIGHTEST, Engine, check_engine, converted, named, outside
from iaside.backend.precision import arithmetic
from iaside.game.exact import coalition_worths
from iaside.game.game import Game
from iaside.game.published import published_worths
from iaside.game.sampling import sampled_worths
from iaside.inputs.architectures import ARCHITECTURES
from iaside.inputs.asked import Asked
from iaside.inputs.classifier import load_model, untrained
from iaside.inputs.folding import folded
from iaside.inputs.probe import _say_once, probe
from iaside.robustness.responses import responses
from iaside.robustness.snr import perturbation_spectra
from iaside.shapley import coalitions
from iaside.spectral import band_masks
from iaside.tables import Condition

if "openvino" not in engine.installed():
    pytest.skip("openvino is not installed", allow_module_level=True)

SIDE = 32
MASKS = band_masks(3, (SIDE, SIDE))
LABELS = torch.arange(5) % 3
COALITIONS = coalitions(3)


@pytest.fixture(autouse=True)
def nothing_said():
    """What a process says once, every test hears."""
    _say_once.cache_clear()


@pytest.fixture(scope="module")
def net():
    return untrained("small_cnn", 10, SIDE, 0)


@pytest.fixture
def x():
    return torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def asked(model, x, **how):
    with torch.no_grad():
        return probe(model, x, engine="openvino", **how)


class Bend(nn.Module):
    """Convolutions with something in between that a test is about."""

    def __init__(self, between, scale=1.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.start, self.end = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.between, self.scale = between, scale
        self.eval().requires_grad_(False)

    def forward(self, x):
        return torch.relu(self.end(self.between(self.start(x)) * self.scale)).mean((2, 3)) + 0.1


# -- the same answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "squeezenet1_1", *ARCHITECTURES])
@pytest.mark.parametrize("how", [folded, lambda model: model], ids=["folded", "plain"])
@pytest.mark.slow
def test_it_answers_as_pytorch_does(name, how):
    own = name in ARCHITECTURES
    model = how(untrained(name, 10, SIDE, 0) if own else load_model(name, pretrained=False))
    x = torch.rand(3, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    fast = asked(model, x)
    assert fast.answers == f"openvino {engine.importlib.metadata.version('openvino')}"
    with torch.no_grad():
        found, wanted = fast(x).log_softmax(1), Asked(model)(x).log_softmax(1)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "squeezenet1_1"])
@pytest.mark.slow
def test_worths_of_packaged_networks_agree_to_a_thousandth_of_a_nat(name, data):
    from iaside.inputs.images import load_images

    model = folded(load_model(name))
    x, y = load_images(data / "images/photographs", like=model, n=1)
    tables = [
        coalition_worths(
            model, x, y, band_masks(3, model.input_size), batch_size=4, progress=False, engine=name
        ).table
        for name in ("torch", "openvino")
    ]
    assert 0 < abs(tables[1] - tables[0]).max() < 1e-3


def test_games_samples_and_responses_say_who_answered(net, x):
    how = dict(batch_size=4, progress=False, engine="openvino")
    four = band_masks(4, (SIDE, SIDE))
    made = [
        coalition_worths(net, x, LABELS, MASKS, **how),
        sampled_worths(net, x, LABELS, four, budget=60, **how),
        responses(
            net, x, LABELS, [Condition("fgsm", 0.1), Condition("white_noise", 0.1)], MASKS, **how
        ),
    ]
    assert [m.provenance["engine"] for m in made] == [named("openvino")] * 3
    how["engine"] = "torch"
    plain = responses(
        net, x, LABELS, [Condition("fgsm", 0.1), Condition("white_noise", 0.1)], MASKS, **how
    )
    assert plain.provenance["engine"] == "torch"
    for name, table in plain.tables.items():
        assert np.allclose(made[2].tables[name], table, atol=1e-4), name


ATTACK = {"method": "fampe", "steps": 2, "samples": 2}


def published(net, x, **how):
    return published_worths(net, x, LABELS, 3, **how)


def examined(net, x, resume=None, engine="torch"):
    variants = {"a": {"method": "integrated_gradients", "steps": 2}, "b": ATTACK}
    found = examine(
        net,
        x[:2],
        LABELS[:2],
        variants,
        {"judge": net},
        steps=4,
        infidelity_samples=2,
        resume=resume,
        engine=engine,
        progress=False,
    )
    return np.stack([table for name, table in found.tables.items() if name != "similarity"])


def snr(net, x, resume=None, engine="torch"):
    seen = asked(net, x) if engine == "openvino" else probe(net, x)
    sources = {
        "noise": (range(5), {"name": "white_noise", "energy": 0.1}),
        "fgsm": ([1, 3], {"name": "fgsm", "eps": 0.1}),
    }
    about = {**seen.about}
    how = {"resume": resume, "progress": False}
    return perturbation_spectra(seen, x, LABELS, sources, 0.1, MASKS, 0, about, **how)


@pytest.mark.parametrize("measure", [published, examined, snr])
def test_loops_without_gradients_ask_it_and_agree_with_pytorch(
    monkeypatch, net, x, tmp_path, measure
):
    """Of filters of the published code, of curves, infidelity and judges, of equal energies."""
    wanted = measure(net, x, resume=tmp_path)
    shown, ask = [], Engine.__call__
    monkeypatch.setattr(Engine, "__call__", lambda e, x: shown.append(len(x)) or ask(e, x))
    found = measure(net, x, resume=tmp_path, engine="openvino")
    assert sum(shown) > 8, "and it is not what PyTorch has left there"
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.allclose(found, wanted, atol=1e-4, equal_nan=True)
    before = len(shown)
    again = measure(net, x, resume=tmp_path, engine="openvino")
    assert np.array_equal(again, found, equal_nan=True)
    assert len(shown) - before <= 8, "a look, and what is predicted"


def test_an_examination_says_who_answered_for_each_network(net, x):
    judges = {"fast": net, "slow": lambda x: net(x)}
    how = {"steps": 4, "infidelity_samples": 0, "progress": False, "engine": "openvino"}
    variants = {"a": {"method": "saliency"}}
    found = examine(net, x, LABELS, variants, judges, net, n_twin=1, **how)
    engines = found.provenance["engines"]
    assert engines["model"] == engines["fast"] == found.provenance["engine"] == named("openvino")
    assert engines["twin"] == "torch" and engines["slow"].endswith("it is no torch module")


def test_gradients_are_pytorchs(net, x):
    fast = asked(net, x)
    leaf = x.clone().requires_grad_()
    assert torch.equal(fast(leaf), net(channels_last(x)).clone())
    assert torch.autograd.grad(fast(leaf).sum(), leaf)[0].abs().sum() > 0


# -- of a picture alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", few([1, 4 * SIDE**2, engine.PIXELS]))
def test_an_answer_depends_on_nothing_beside_the_picture(monkeypatch, net, x, pixels):
    monkeypatch.setattr(engine, "PIXELS", pixels)
    engine._compiled.clear()
    fast = asked(net, x)
    threads = torch.get_num_threads()
    with torch.no_grad():
        whole = fast(x)
        for order in ([4, 3, 2, 1, 0], [2], [0, 0, 0, 1], [1, 3] * 70):
            assert torch.equal(fast(x[order]), whole[order])
        try:
            torch.set_num_threads(3)
            assert torch.equal(fast(x[[1, 0] * 9]), whole[[1, 0] * 9])
        finally:
            torch.set_num_threads(threads)
        assert fast(x[:0]).shape == whole[:0].shape
    engine._compiled.clear()


# -- what is no number -----------------------------------------------------------------------------


@pytest.mark.parametrize("pixels, size", [(SIDE**2, 16), (5 * SIDE**2, 20), (64 * SIDE**2, 64)])
def test_an_engine_is_asked_for_whole_batches_and_not_timed(monkeypatch, net, x, pixels, size):
    monkeypatch.setattr(engine, "PIXELS", pixels)
    monkeypatch.setattr("iaside.game.game.fastest_batch_size", None)  # nobody calls it
    engine._compiled.clear()
    game = Game(net, x, LABELS, MASKS, engine="openvino")
    assert game.asked.engine.batch == pixels // SIDE**2
    assert game.batch_size == size
    assert Game(net, x, LABELS, MASKS, engine="openvino", batch_size=3).batch_size == 3
    by_one = coalition_worths(net, x, LABELS, MASKS, engine="openvino", batch_size=1)
    assert np.array_equal(game.per_image(COALITIONS), by_one.table)
    engine._compiled.clear()


def test_weights_beyond_a_cache_are_read_for_two_pictures_and_change_no_answer(monkeypatch, net, x):
    monkeypatch.setattr(engine, "PIXELS", SIDE**2)
    weights = 4 * sum(p.numel() for p in net.parameters())
    found = []
    for near, size in ((weights, 1), (weights - 1, 2)):
        monkeypatch.setattr(engine, "NEAR", near)
        engine._compiled.clear()
        fast = asked(net, x)
        assert fast.engine.batch == size
        with torch.no_grad():
            found.append(fast(x))
    assert torch.equal(*found)
    engine._compiled.clear()


def test_pixels_that_are_no_numbers_reach_pytorch_alone(net, x):
    fast = asked(net, x)
    far = x.clone()
    far[1, 0, 3, 3] = 2 * BRIGHTEST
    with torch.no_grad():
        found = fast(far)
        assert torch.equal(found[1:2], net(channels_last(far[1:2])))
        assert torch.equal(found[[0, 2, 3, 4]], fast(x[[0, 2, 3, 4]]))
        for value in (torch.nan, torch.inf, -torch.inf):
            far[1, 0, 3, 3] = value
            assert outside(far) == [1]
            assert not fast._answer(far)[1].isfinite().any()


@pytest.mark.parametrize(
    ("between", "scale", "why"),
    [
        (lambda x: torch.log(x.abs() + 1), 1.0, "its Log may make nan"),
        (lambda x: torch.sqrt(x.abs()), 1.0, "may make nan"),
        (lambda x: x / x.sum((1, 2, 3), keepdim=True), 1.0, "its Divide may make nan"),
        (torch.relu, 1e13, "numbers inside it are near the largest there are"),
        (lambda x: x if x.mean() > 0 else -x, 1.0, "its path may depend on what it is shown"),
        (lambda x: x * x.mean().item(), 1.0, "its path may depend on what it is shown"),
    ],
)
def test_a_network_that_other_pictures_may_break_is_left_to_pytorch(x, between, scale, why):
    model = Bend(between, scale)
    with torch.no_grad():
        found, said = converted(model, x[:2], model(x[:2]), "logits", ())
    assert found is None and why in said


def test_openvino_does_make_numbers_of_nan(monkeypatch, x):
    """Why operations that make nan are not taken; may be dropped when this fails."""
    monkeypatch.setattr(engine, "HARMLESS", engine.HARMLESS | {"Log"})
    monkeypatch.setattr(engine, "_check_inside", lambda *seen: None)
    model = Bend(lambda x: torch.log(x - 10))
    with torch.no_grad():
        assert model(x).isnan().all()
        assert Engine(model, (), x.shape[1:], "log")(x).isfinite().all()


def test_what_divides_by_a_constant_is_taken(x):
    assert asked(Bend(lambda x: x / 2), x).engine is not None


# -- left to PyTorch -------------------------------------------------------------------------------


def hooked(net):
    own = copy.deepcopy(net)
    own.conv_hook = own.register_forward_hook(lambda *seen: None)
    return own


@pytest.mark.parametrize(
    ("make", "how", "why"),
    [
        (lambda net: lambda x: net(x), {}, "it is no torch module"),
        (lambda net: torch.jit.trace(net, torch.rand(2, 3, SIDE, SIDE)), {}, "it is TorchScript"),
        (lambda net: copy.deepcopy(net).double(), {}, "it is not in float32"),
        (lambda net: net, {"precision": "bfloat16"}, "precision is bfloat16"),
        (lambda net: net, {"class_outputs": False}, "none of the values of classes"),
        (lambda net: net, {"known_values": False}, "none of the values of classes"),
        (hooked, {}, "it has hooks"),
    ],
)
def test_what_it_is_not_for_is_left_to_pytorch_which_is_said(net, x, capsys, make, how, why):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = asked(make(net), x, **how)
    assert found.engine is None
    assert why in found.about["engine"] and found.about["engine"].startswith("torch, not openvino")
    assert why in capsys.readouterr().err


def test_own_values_and_embeddings_are_left_to_pytorch(net, x):
    def first(outputs, labels):
        return outputs[:, 0]

    for value in (first, "embedding", ["log_likelihood", "embedding"]):
        w = coalition_worths(
            net, x, LABELS, MASKS, value=value, batch_size=4, progress=False, engine="openvino"
        )
        assert w.provenance["engine"].startswith("torch, not openvino")


def test_first_answers_that_differ_are_not_believed(monkeypatch, net, x):
    ready, off = engine._ready, [4e-4]
    monkeypatch.setattr(engine, "_ready", lambda e: lambda x: ready(e)(x) + spoilt())

    def spoilt():
        return off[0] * (torch.arange(10) == 3)

    assert asked(net, x).about["engine"].endswith("its first answers differ")
    off[0] = 1e-4
    assert asked(net, x).engine is not None
    off[0] = torch.nan
    assert asked(net, x).engine is None


def test_a_converter_that_fails_is_no_end(monkeypatch, net, x):
    def fails(*given):
        raise RuntimeError("at 0x7f")

    monkeypatch.setattr(engine, "_graph", fails)
    engine._compiled.clear()
    assert asked(net, x).about["engine"].endswith("it cannot be converted (RuntimeError)")


# -- resume keys -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_measurement_goes_on_with_its_own_engine_and_version_only(monkeypatch, net, x, tmp_path):
    def forwards(engine):
        return coalition_worths(
            net, x, LABELS, MASKS, batch_size=4, progress=False, resume=tmp_path, engine=engine
        ).forwards

    assert (forwards("torch"), forwards("openvino")) == (40, 36)
    assert forwards("torch") == forwards("openvino") == 0
    monkeypatch.setattr("iaside.inputs.probe.named", lambda name: f"{name} 2099.1")
    assert forwards("openvino") == 36 and forwards("torch") == 0


# -- its settings ----------------------------------------------------------------------------------


def test_it_computes_in_float32_on_any_processor(net, x):
    engine._compiled.clear()
    fast = asked(net, x)
    (ready,) = engine._compiled.values()
    assert str(ready.precision) == "<Type: 'float32'>"
    assert len(ready.requests) == torch.get_num_threads()
    with torch.no_grad(), arithmetic("bfloat16", torch.device("cpu")):
        assert not fast.engine.takes(x), "who asks in bfloat16 is answered in that"


@pytest.mark.slow
def test_it_is_converted_once_by_content(monkeypatch, net, x):
    made, graph = [], engine._graph
    monkeypatch.setattr(engine, "_graph", lambda *g: (made.append(1), graph(*g))[1])
    engine._compiled.clear()
    asked(net, x), asked(copy.deepcopy(net), x)
    assert len(made) == 1
    other = copy.deepcopy(net)
    next(other.parameters()).mul_(1.01)
    asked(other, x)
    assert len(made) == 2
    for k in range(engine.KEPT + 1):
        next(other.parameters()).mul_(1 + k / 100)
        asked(other, x)
    assert len(engine._compiled) == engine.KEPT


def test_it_can_be_sent_and_asks_the_same_there(net, x):
    fast = asked(net, x)
    with torch.no_grad():
        wanted = fast(x)
        engine._compiled.clear()
        assert torch.equal(pickle.loads(pickle.dumps(fast))(x), wanted)
        assert torch.equal(copy.deepcopy(fast)(x), wanted)


def test_it_tells_nobody(monkeypatch, net, x):
    def refused(*to, **how):
        raise AssertionError(f"somebody is told: {to}")

    assert asked(net, x).engine is not None
    assert not any(m.partition(".")[0] == "openvino_telemetry" for m in sys.modules)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    engine._compiled.clear()
    assert asked(net, x).engine is not None


def test_an_engine_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(ValueError, match="engine='onnx' is not known; choose one of torch, openv"):
        check_engine("onnx")
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name == "torch" or None)
    check_engine("torch")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'iaside\[engine\]', or choose eng"):
        check_engine("openvino")


# -- the empty coalition ---------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [coalition_worths, sampled_worths])
@pytest.mark.parametrize("absence", ["zero", "mean"])
def test_the_empty_coalition_is_asked_once_where_it_is_one_picture(
    monkeypatch, net, x, tmp_path, measure, absence
):
    """And no byte differs from asking for every image: an answer depends on nothing beside it."""
    how = dict(batch_size=4, progress=False, engine="openvino", absence=absence)
    how["value"] = ["log_likelihood", "accuracy"]
    how |= {"budget": 60} if measure is sampled_worths else {}
    four = band_masks(4, (SIDE, SIDE))
    shown, ask = [], Engine.__call__
    monkeypatch.setattr(Engine, "__call__", lambda e, x: shown.extend(x) or ask(e, x))

    def empties():
        found = sum(not picture.any() for picture in shown)
        shown.clear()
        return found

    once = measure(net, x, LABELS, four, resume=tmp_path, **how)
    assert empties() == (absence == "zero")
    again = measure(net, x, LABELS, four, resume=tmp_path, **how)
    assert empties() == again.forwards == 0
    with monkeypatch.context() as patch:
        patch.setattr(Game, "one_nothing", False)
        each = measure(net, x, LABELS, four, **how)
    assert empties() == (5 if absence == "zero" else 0)
    assert each.forwards - once.forwards == (4 if absence == "zero" else 0)
    for name, table in each.tables.items():
        assert np.array_equal(once.tables[name], table)
        assert np.array_equal(again.tables[name], table)


def test_pytorch_is_shown_the_empty_coalition_of_every_image(net, x):
    """Its answer to a picture may depend on the size of the batch, in the last bits."""
    w = coalition_worths(net, x, LABELS, MASKS, batch_size=4, progress=False)
    assert w.forwards == 2**3 * 5
