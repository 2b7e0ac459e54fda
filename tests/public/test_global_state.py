"""What a caller has set of torch, NumPy, Python, matplotlib and the machine: it reaches no number,
and is left as it was found."""

import contextlib
import copy
import locale
import logging
import os
import pwd
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from own_processes import precisions, switch
from PIL import Image
from torch import nn

import iaside as ia
from iaside.attribution.examine import examine
from iaside.attribution.faithfulness import infidelity, map_similarity
from iaside.backend import batch
from iaside.backend.precision import as_outside, undisturbed
from iaside.backend.seeds import numpy_seeded
from iaside.robustness.conditions import fourier_noise
from iaside.tables import CORRUPTIONS

SIDE, BACKENDS = 16, torch.backends
MASKS = ia.band_masks(2, (SIDE, SIDE))
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(3, 3, SIDE, SIDE, generator=GENERATOR)
MAPS = torch.randn(X.shape, generator=GENERATOR)
ROOT = Path(__file__).parents[2]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(), nn.Linear(1568, 4)
        )
    with torch.no_grad():
        net[-1].weight *= 8
    return net.eval()


NET = network()
Y = NET(X).argmax(1)
GAME = {"batch_size": 4, "progress": False}
TABLE = np.random.default_rng(0).normal(size=(8, 12))


def attributed(method, **options):
    return lambda net, x, y, maps: ia.attribute(net, x, y, method, **options)


def perturbed(name, **options):
    return lambda net, x, y, maps: ia.perturb(x, name, model=net, labels=y, **options)


MAPPED = {
    "fampe": {"steps": 2, "samples": 2},
    "attexplore": {"steps": 2, "samples": 2},
    "saliency": {},
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 3},
    "fast_ig": {},
    "guided_ig": {"steps": 3},
    "deeplift": {},
    "big": {"steps": 3, "path_steps": 3},
    "agi": {"classes": 2, "steps": 2},
    "la": {"classes": 2, "steps": 2},
    "mfaba": {"steps": 3},
}
GRADIENTS = {name: attributed(name, **options) for name, options in MAPPED.items()} | {
    "expected_gradients": lambda net, x, y, maps: ia.attribute(
        net, x, y, "expected_gradients", samples=2, references=x
    ),
    "explore": lambda net, x, y, maps: ia.explore(net, x, y, steps=2, samples=2).path,
    "fgsm": perturbed("fgsm", eps=0.1),
    "pgd": perturbed("pgd", eps=0.1, steps=2),
    "pgd in a band": perturbed("pgd", eps=0.1, steps=2, band=1, masks=MASKS),
    "sparsefool": perturbed("sparsefool", steps=2),
}
CALLS = GRADIENTS | {
    "pixle": perturbed("pixle"),
    "white_noise": lambda net, x, y, maps: ia.perturb(x, "white_noise", sigma=0.1),
    "poisson": lambda net, x, y, maps: ia.perturb(x, "poisson", photons=9),
    "salt": lambda net, x, y, maps: ia.perturb(x, "salt_and_pepper", amount=0.1),
    "blur": lambda net, x, y, maps: ia.perturb(x, "gaussian_blur", kernel=3),
    "match_energy": lambda net, x, y, maps: ia.match_energy(x, x + 0.1 * maps, 0.1),
    "band_masks": lambda *_: ia.band_masks(3, (SIDE, SIDE), "l2", "log2"),
    "equal_energy": lambda net, x, *_: ia.band_masks(2, (SIDE, SIDE), "linf", "equal_energy", x),
    "cells_per_band": lambda *_: ia.cells_per_band(MASKS, SIDE),
    "split_bands": lambda net, x, *_: ia.split_bands(x, MASKS),
    "band_energy": lambda net, x, *_: ia.band_energy(x, MASKS),
    "esd": lambda net, x, *_: ia.esd(x),
    "spectral_snr": lambda net, x, y, maps: ia.spectral_snr(x, x + maps),
    "coalition_images": lambda net, x, *_: ia.coalition_images(
        x, MASKS, ia.coalitions(2), "gaussian"
    ),
    "coalition_worths": lambda net, x, y, maps: (
        ia.coalition_worths(
            net, x, y, MASKS, ["log_likelihood", "embedding"], "gaussian", **GAME
        ).table
    ),
    "sampled_worths": lambda net, x, y, maps: (
        ia.sampled_worths(
            net, x, y, ia.band_masks(3, (SIDE, SIDE)), budget=24, **GAME
        ).estimates.values
    ),
    "Game": lambda net, x, y, maps: ia.Game(
        net, x, y, MASKS, absence="gaussian", batch_size=4
    ).per_image(ia.coalitions(2)),
    "exact": lambda net, x, y, maps: (
        ia.exact(ia.Game(net, x, y, MASKS, "margin", batch_size=4), progress=False).table
    ),
    "sample": lambda net, x, y, maps: (
        ia.sample(
            ia.Game(net, x, y, ia.band_masks(3, (SIDE, SIDE)), batch_size=4),
            budget=24,
            progress=False,
        ).estimates.values
    ),
    "published_worths": lambda net, x, y, maps: ia.published_worths(net, x, y, 2),
    "explain": lambda net, x, y, maps: (
        ia.explain(net, x, y, n_bands=2, bias="none", **GAME).sid.estimate
    ),
    "responses": lambda net, x, y, maps: ia.responses(
        net,
        x,
        y,
        [
            ia.Condition("white_noise", 0.1),
            ia.Condition("pgd", 0.1),
            ia.Condition("fourier", 2.0, 3),
        ],
        MASKS,
        heat_grid=3,
        progress=False,
    ).tables["log_likelihood"],
    "insertion": lambda net, x, y, maps: ia.insertion(net, x, y, maps, steps=4),
    "deletion": lambda net, x, y, maps: ia.deletion(net, x, y, maps, 4, "blur"),
    "infidelity": lambda net, x, y, maps: infidelity(net, x, y, maps, samples=3),
    "map_similarity": lambda net, x, y, maps: map_similarity(maps, x),
    "fourier_noise": lambda net, x, *_: fourier_noise(x, 1.0, 3, 1),
    "examine": lambda net, x, y, maps: examine(
        net, x, y, {"f": {"method": "fampe", "steps": 1, "samples": 2}}, steps=4, progress=False
    ).tables["insertion"],
    "values": lambda *_: np.concatenate(
        [
            ia.shapley_values(TABLE),
            ia.banzhaf_values(TABLE),
            ia.least_squares_values(TABLE),
            ia.leave_one_out(TABLE),
            ia.only_one_in(TABLE),
            ia.owen_values(TABLE, [0, 0, 1]),
        ]
    ),
    "interactions": lambda *_: ia.interaction_values(TABLE),
    "explanation": lambda *_: np.hstack(
        [
            e := ia.Explanation(ia.Worths({"v": TABLE}, {}), bias="none"),
            e.src(beta=[0.5, 0.9]).low,
            e.sid.low,
            e.psi.high,
        ][1:]
    ),
    "correlation": lambda *_: np.array([*ia.correlation(TABLE[0], TABLE[1])]),
    "score_estimate": lambda *_: np.array([*ia.score_estimate(TABLE[:3], bias="none")]),
    "sid_estimate": lambda *_: np.array([*ia.sid_estimate(TABLE[:3], bias="none")]),
    "errors": lambda *_: np.asarray(
        ia.mean_prediction_error(1 / (1 + TABLE[0] ** 2), 1 / (2 + TABLE[1:3] ** 2))
    ),
    "scores": lambda *_: np.array(
        [ia.centroid([0.2, 0.8]), ia.entropy([1.0, 0.0]), ia.robustness_score([0.0, 1.0])]
    ),
}


def array(found):
    return found.detach().double().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


@pytest.fixture(scope="module")
def plain():
    """What every call gives where nothing is set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: array(call(NET, X, Y, MAPS)) for name, call in CALLS.items()}


# -- settings -------------------------------------------------------------------------------------


@contextlib.contextmanager
def precision(name, value):
    """Set, and put back as nothing but a new process would be: through the same switch."""
    before, switch(name).fp32_precision = switch(name).fp32_precision, value
    try:
        yield
    finally:
        switch(name).fp32_precision = before


@contextlib.contextmanager
def called(function, value, before):
    function(value)
    try:
        yield
    finally:
        function(before)


@contextlib.contextmanager
def anomalies():
    with torch.autograd.detect_anomaly():
        yield


HOSTILE = {
    "tf32": lambda: precision("", "tf32"),
    "bf16": lambda: precision("", "bf16"),
    "matmul bf16": lambda: precision("mkldnn.matmul", "bf16"),
    "conv bf16": lambda: precision("mkldnn.conv", "bf16"),
    "medium": lambda: called(torch.set_float32_matmul_precision, "medium", "highest"),
    "float64": lambda: called(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: called(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta": lambda: called(torch.set_default_device, "meta", None),
    "deterministic": lambda: called(torch.use_deterministic_algorithms, True, False),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "anomaly": anomalies,
    "denormal": lambda: called(torch.set_flush_denormal, True, False),
    "numpy": lambda: np.errstate(all="raise"),
    "three threads": lambda: called(torch.set_num_threads, 3, torch.get_num_threads()),
    "benchmark": lambda: BACKENDS.cudnn.flags(benchmark=True, deterministic=True),
}


def state():
    """All that belongs to the process."""
    return {
        "precisions": precisions(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "cudnn": (BACKENDS.cudnn.benchmark, BACKENDS.cudnn.deterministic, BACKENDS.cudnn.enabled),
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "random": random.getstate(),
        "errors": np.geterr(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": (logging.root.level, logging.root.handlers[:], logging.root.disabled),
        "loggers": {
            name: logger.level
            for name, logger in logging.root.manager.loggerDict.items()
            if isinstance(logger, logging.Logger) and logger.level
        },
        "matplotlib": dict(matplotlib.rcParams),
        "figures": plt.get_fignums(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "path": sys.path[:],
        "alive": {t.name for t in threading.enumerate() if not t.daemon},
        "hooks": (sys.excepthook, threading.excepthook),
    }


@pytest.mark.parametrize("setting", [None, *HOSTILE])
@pytest.mark.slow
def test_settings_reach_no_number_and_are_left_as_they_were(setting, plain):
    net = network()
    with warnings.catch_warnings(), HOSTILE[setting]() if setting else contextlib.nullcontext():
        warnings.simplefilter("ignore")
        for name, call in CALLS.items():
            before = state()
            found = call(net, X, Y, MAPS)
            after = state()
            changed = [what for what in before if before[what] != after[what]]
            assert not changed, (name, changed)
            if isinstance(found, torch.Tensor):
                assert not found.is_inference(), name
            found = array(found)
            assert np.allclose(found, plain[name], rtol=1e-5, atol=1e-6, equal_nan=True), name
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("setting", [None, *HOSTILE])
@pytest.mark.slow
def test_settings_are_left_as_they_were_after_an_error_too(setting):
    def fails(x):
        if len(seen) == 8:
            raise OSError("disk full")
        seen.append(x)
        return NET(x)

    with HOSTILE[setting]() if setting else contextlib.nullcontext():
        for name in ("coalition_worths", "fgsm", "fampe", "insertion", "responses"):
            seen, before = [], state()
            for _ in range(5):
                with contextlib.suppress(OSError, ValueError):
                    CALLS[name](fails, X, Y, MAPS)
            assert len(seen) == 8, name
            assert [k for k, v in state().items() if v != before[k]] == [], name


# -- what takes a classifier, files or explanations -----------------------------------------------

RECIPE = dict(
    library="iaside",
    architecture="resnet8",
    num_classes=3,
    input_size=[3, 32, 32],
    mean=[0.485] * 3,
    std=[0.229] * 3,
    crop_pct=1.0,
    interpolation="bilinear",
)
PHOTOGRAPHS = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def untrained(path, seed=0):
    return ia.load_model("own", recipe=RECIPE, pretrained=False, seed=seed)


def saved_and_loaded(path):
    ia.save_weights(untrained(path), path / "net.safetensors")
    return ia.load_model("own", weights=path / "net.safetensors")


def pictures_of_a_folder(path):
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(path / "a.png")
    (path / "labels.csv").write_text("file,label\na.png,1\n")
    x, y = ia.load_images(path, like=untrained(path), input_size=24)
    return x + y


def explanation(shift=0.0):
    worths = ia.Worths({"v": TABLE + shift * TABLE[::-1]}, {"values": ["v"]})
    return ia.Explanation(worths, bias="none")


def plotted(path):
    axes = explanation().plot()
    heights = [bar.get_height() for bar in axes[0].patches]
    plt.close(axes[0].figure)
    return heights + [float(y) for line in axes[0].lines for y in line.get_ydata()]


REST = {
    "Classifier": lambda path: ia.Classifier(copy.deepcopy(NET), RECIPE, "n"),
    "load_model": untrained,
    "save_weights": saved_and_loaded,
    "load_images": pictures_of_a_folder,
    "folded": lambda path: ia.folded(untrained(path)),
    "calibrated": lambda path: ia.calibrated(untrained(path), PHOTOGRAPHS),
    "without_head": lambda path: ia.without_head(untrained(path)),
    "untrained_control": lambda path: ia.untrained_control("own", PHOTOGRAPHS, recipe=RECIPE).model,
    "compare": lambda path: tuple(ia.compare(explanation(), explanation(0.5)).score),
    "plot": plotted,
    "written": lambda path: (
        explanation().save(path / "e.npz") or ia.Worths.load(path / "e.npz").table
    ),
    "spectral_importance": lambda path: ia.spectral_importance(TABLE[:4]),
    "mean_corruption_error": lambda path: ia.mean_corruption_error(dict.fromkeys(CORRUPTIONS, 0.3)),
}


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {k: answered(f(tmp_path_factory.mktemp("plain"))) for k, f in REST.items()}


def answered(found):
    """Numbers as they are, and what a network answers where nothing is set any more."""
    if not isinstance(found, nn.Module):
        return array(found)
    with torch.no_grad():
        return array(found(X if found.name == "n" else PHOTOGRAPHS))


@pytest.mark.parametrize(
    "setting", [None, "bf16", "bfloat16", "meta", "inference", "autocast", "anomaly", "numpy"]
)
@pytest.mark.slow
def test_what_takes_classifiers_and_files_is_as_careful(setting, rest, tmp_path):
    found = {}
    with warnings.catch_warnings(), HOSTILE[setting]() if setting else contextlib.nullcontext():
        warnings.simplefilter("ignore")
        for name, call in REST.items():
            before = state()
            found[name] = call(tmp_path)
            after = state()
            assert [what for what in before if before[what] != after[what]] == [], name
    for name, value in found.items():
        assert np.allclose(answered(value), rest[name], 1e-4, 1e-5, equal_nan=True), name


def test_no_public_name_is_left_out():
    own = Path(__file__).read_text()
    results = {"Responses", "SampledWorths", "Comparison", "Estimate", "Card", "Cards"}
    results |= {
        "recipe_of",
        "corrupted_set",
        "report",
        "wavelet_bands",
        "orientation_bands",
        "mend",
        "Mended",
    }  # no numbers of its own; made of the calls above
    assert {name for name in ia.__all__ if f"ia.{name}(" not in own} == results


# -- true float32 ---------------------------------------------------------------------------------


INHERITED = """
import torch
from iaside.backend.precision import arithmetic
from own_processes import SWITCHES, precisions, switch
bottom, start = [s for s in SWITCHES if "." in s], precisions()
if {name!r} is not None:
    switch({name!r}).fp32_precision = "tf32"
before = precisions()
try:
    with arithmetic("float32", torch.device("cpu")):
        for precision in ("bfloat16", "float32"):
            with arithmetic(precision, torch.device("cpu")):
                assert {{precisions()[s] for s in bottom}} == {{"ieee"}}
            assert {{precisions()[s] for s in bottom}} == {{"ieee"}}
        raise KeyboardInterrupt
except KeyboardInterrupt:
    assert precisions() == before
switch("").fp32_precision = "tf32"
assert set(precisions().values()) == {{"tf32"}}, "none is pinned to what it had inherited"
"""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(None, marks=pytest.mark.slow),
        pytest.param("", marks=pytest.mark.slow),
        *(
            pytest.param(name, marks=pytest.mark.sweep)
            for name in ("cudnn", "cuda.matmul", "mkldnn.conv")
        ),
    ],
)
def test_true_float32_whatever_switch_is_on_which_inherits_as_before(name):
    """In a process of its own: nobody can make a switch inherit again that was set once."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    subprocess.run(
        [sys.executable, "-c", INHERITED.format(name=name)],
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


@pytest.mark.slow
def test_a_compiler_pins_no_switch_to_what_it_finds_set():
    """torch.compile puts a switch back to what it has read, which was ours for that time."""
    torch._dynamo.reset()
    torch.backends.cuda.matmul.fp32_precision = "none"  # another test may have compiled
    before = precisions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ia.explain(torch.compile(network(), backend="eager"), X, Y, n_bands=2, **GAME)
    assert before["cuda.matmul"] == "none" and precisions() == before


@pytest.mark.slow
def test_the_older_switches_are_not_mixed_with_the_newer():
    code = (
        "import torch; torch.backends.cuda.matmul.allow_tf32 = True; "
        "torch.backends.cudnn.allow_tf32 = False\n"
        "from iaside.backend.precision import arithmetic\n"
        "with arithmetic('float32', torch.device('cpu')): pass\n"
        "print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]


def test_threads_that_end_at_other_times_put_back_what_was_before_all():
    entered, go = threading.Barrier(2, timeout=20), threading.Event()
    found = []

    @undisturbed
    def long():
        entered.wait()
        go.wait(20)
        found.append((torch.get_default_dtype(), precisions()["mkldnn.matmul"]))

    @undisturbed
    def short():
        entered.wait()

    with precision("", "tf32"), HOSTILE["float64"]():
        threads = [threading.Thread(target=f) for f in (short, long)]
        for thread in threads:
            thread.start()
        threads[0].join()
        go.set()
        threads[1].join()
        assert found == [(torch.float32, "ieee")]
        assert torch.get_default_dtype() == torch.float64 and precisions()[""] == "tf32"


def test_autocast_reaches_neither_spectra_nor_what_is_made_of_pixels():
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.mm(X[0, 0], X[0, 0]).dtype == torch.bfloat16, "it is on"
        for name in ("esd", "band_energy", "spectral_snr", "coalition_images"):
            assert CALLS[name](NET, X, Y, MAPS).dtype == torch.float32, name


def test_a_model_is_asked_as_its_caller_would_ask_it():
    told = []

    def model(x):
        told.append(
            (
                torch.get_default_dtype(),
                torch.get_default_device().type,
                torch.is_inference_mode_enabled(),
                torch.ones(1).dtype,
            )
        )
        return NET(x)

    for setting, wanted in (
        ("float64", (torch.float64, "cpu", False, torch.float64)),
        ("meta", (torch.float32, "meta", False, torch.float32)),
        ("inference", (torch.float32, "cpu", True, torch.float32)),
    ):
        told.clear()
        with HOSTILE[setting]():
            ia.coalition_worths(model, X, Y, MASKS, **GAME)
            as_outside(model)(X)
        assert set(told) == {wanted}


# -- inference mode -------------------------------------------------------------------------------


@pytest.mark.parametrize("asked_inside", [False, True])
@pytest.mark.slow
def test_what_was_made_in_inference_mode_is_as_good(asked_inside, plain):
    with torch.inference_mode():
        net, x, y, maps = copy.deepcopy(NET), X.clone(), Y.clone(), MAPS.clone()
        for module in net.modules():  # a copy of parameters is made outside, so to say
            for name, p in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(p.clone()))
    assert all(t.is_inference() for t in (*net.parameters(), x, y, maps))
    mode = torch.inference_mode() if asked_inside else contextlib.nullcontext()
    with warnings.catch_warnings(), mode:
        warnings.simplefilter("ignore")
        for name, call in CALLS.items():
            found = array(call(net, x, y, maps))
            assert np.allclose(found, plain[name], rtol=1e-5, atol=1e-6, equal_nan=True), name
    assert all(p.is_inference() for p in net.parameters()), "the model is as it was"


def test_weights_that_cannot_be_copied_are_refused_in_one_sentence():
    with torch.inference_mode():
        weights = torch.randn(4, X[0].numel())
        labels = (X.flatten(1) @ weights.T).argmax(1)
    said = set()
    for name, call in GRADIENTS.items():
        with pytest.raises(ValueError, match="made in torch.inference_mode") as found:
            call(lambda x: (x.flatten(1) @ weights.T).tanh(), X, labels, MAPS)
        said.add(re.sub(r"^\S+ needs", "it needs", str(found.value)))
        assert "make or load it outside" in str(found.value), name
    assert len(said) == 1


# -- NumPy's generator ----------------------------------------------------------------------------


def test_a_generator_of_another_kind_is_the_callers_again():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(7))
    try:
        own = np.random.get_bit_generator()
        held = own.state
        with numpy_seeded(5):
            drawn = np.random.rand(3)
        assert np.random.get_bit_generator() is own and own.state == held
    finally:
        np.random.set_bit_generator(before)
    assert np.array_equal(drawn, np.random.RandomState(5).rand(3))


# -- no home --------------------------------------------------------------------------------------


def nobody(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def unwritable(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))


def nowhere(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))


@pytest.mark.parametrize("home", [nobody, unwritable, nowhere])
def test_a_cache_that_cannot_be_had_is_done_without_and_that_is_said_once(
    home, tmp_path, monkeypatch
):
    home(monkeypatch, tmp_path)
    batch._do_without_cache.cache_clear()
    monkeypatch.setattr(batch, "_measure_batch_size", lambda seconds, x: 2)
    with pytest.warns(RuntimeWarning, match="batch sizes are not remembered.*batch_size=") as told:
        for _ in range(3):
            ia.explain(NET, X, Y, n_bands=2, progress=False)
    assert sum("not remembered" in str(w.message) for w in told) == 1
    assert batch.remembered_batch_size(NET, X[:1], "float32") is None


BARE = """
import os, pwd, sys
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
sys.path.insert(0, {root!r})
import torch, iaside as ia
x, y = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 0])
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2)).eval()
ia.explain(net, x, y, n_bands=2, progress=False)
ia.responses(net, x, y, [ia.Condition("fgsm", 0.1), ia.Condition("brightness", 1.0)],
             ia.band_masks(2, (32, 32)), progress=False, cache="cache", workers=2)
ia.attribute(net, x, y, "saliency")
own = ia.load_model("own", weights=sys.argv[1])
ia.explain(own, torch.rand(2, 3, *own.input_size), y[:2], n_bands=2, progress=False).plot()
print(sorted(os.listdir(".")))
"""


@pytest.mark.slow
def test_a_user_without_home_or_name(tmp_path):
    from iaside.inputs.classifier import save_weights, untrained

    save_weights(untrained("squeezenet1_0", 2, 32, 0), tmp_path / "net.safetensors")
    (tmp_path / "here").mkdir()
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            BARE.format(root=str(ROOT)),
            str(tmp_path / "net.safetensors"),
        ],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip() == "['cache']", "and nothing is put where it happens to stand"


# -- processes ------------------------------------------------------------------------------------

SCRIPT = """
print("begins", flush=True)
import sys
sys.path.insert(0, {root!r})
import torch, iaside as ia
x, net = torch.rand(3, 3, 32, 32), torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2)).eval()
r = ia.responses(net, x, torch.tensor([0, 1, 0]),
                 [ia.Condition(c, 1.0) for c in ("contrast", "brightness")],
                 ia.band_masks(2, (32, 32)), cache={cache!r}, workers=2, progress=False)
print(len(r.conditions), "ends", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a file", "-c", "-"])
def test_a_script_without_a_main_guard(how, tmp_path):
    code = SCRIPT.format(root=str(ROOT), cache=str(tmp_path / "cache"))
    (tmp_path / "first.py").write_text(code)
    run = subprocess.run(
        [sys.executable, *{"a file": ["first.py"], "-c": ["-c", code], "-": ["-"]}[how]],
        input=code if how == "-" else None,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["begins", "3", "ends"], "once"
    assert len(list((tmp_path / "cache").rglob("*-1.npz"))) == 2


CLUSTER = """
print("begins", flush=True)
import sys
sys.path.insert(0, {root!r})
import torch, iaside as ia
from iaside.backend.cluster import connect
class Mine(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
x = torch.rand(3, 3, 8, 8)
with connect(2) as workers:
    w = ia.coalition_worths(Mine().eval(), x, x.mean((2, 3)).argmax(1), ia.band_masks(2, (8, 8)),
                            batch_size=4, workers=workers, progress=False)
print(w.table.shape, __file__, __spec__)
"""


@pytest.mark.slow
def test_a_cluster_of_this_machine_in_a_script_without_a_main_guard(tmp_path):
    (tmp_path / "first.py").write_text(CLUSTER.format(root=str(ROOT)))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "first.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == ["begins", f"(4, 3) {tmp_path / 'first.py'} None"], "once"


PARENT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from own_processes import naps
from iaside.backend.parallel import executor
print("ready", flush=True)
list(executor(2).each(naps, None, [(600,)] * 2, report=lambda pid: print(pid, flush=True)))
"""


def children(parent):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(status.read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "how"),
    [(0.0, "SIGKILL"), (0.3, "SIGKILL"), (None, "SIGKILL"), (None, "SIGINT"), (1.5, "SIGINT")],
)  # None: when they work
def test_processes_end_with_their_parent(after, how):
    code = PARENT.format(root=str(ROOT), tests=str(ROOT / "tests"))
    run, quiet = [sys.executable, "-c", code], subprocess.DEVNULL
    # A suite in the background ignores Ctrl-C, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        parent = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=quiet, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with parent:
        assert parent.stdout.readline() == "ready\n"
        limit = time.monotonic() + 60
        while len(children(parent.pid)) < 2 and time.monotonic() < limit:
            time.sleep(0.01)
        if after is None:
            for _ in range(2):
                parent.stdout.readline()
        else:
            time.sleep(after)
        begun = children(parent.pid)
        os.kill(parent.pid, getattr(signal, how))
        assert len(begun) == 2
        limit = time.monotonic() + 15
        while any(map(alive, begun)) and time.monotonic() < limit:
            time.sleep(0.05)
        left = [pid for pid in begun if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left
