"""A study that cannot run, or not be reported, is refused before anything long, in one line."""

import json
import os
import re
import shutil
import sys
import threading
import time

import pytest
from PIL import Image
from smoke import ROOT, run
from sweeps import few

from iaside.inputs import libraries
from iaside.inputs.classifier import save_weights, untrained
from iaside.inputs.downloads import DOWNLOADS
from iaside.inputs.headless import without_head
from iaside.inputs.images import count_images, load_images
from iaside.study import check, check_trainings, plan, sections
from iaside.study.overlays import read_study, written_out
from iaside.study.parameters import RUNTIME, UsageError, read_notebooks, read_yaml, study_values

TEXT = (ROOT / "params.yaml").read_text()
RECORDED = re.search(r"  recorded: (\[.*?\])", TEXT)[1]
LITE0 = "data/weights/tf_efficientnet_lite0"
WORTHS, ROBUSTNESS, CHOICES = "worths:   #", "robustness:   #", "choices:   #"
RIVALS, MEND = "rivals:   #", "mend:   #"
ATTRIBUTIONS, RESOLUTION, PROFILES = "attributions:   #", "resolution:   #", "profiles:   #"
# (the section's first words, what is there, what is put there, what the line must hold)
BAD = [
    (WORTHS, "metric: linf", "metric: l3", "worths.metric is 'l3'", "linf, l2, l2_corner"),
    (WORTHS, "spacing: linear", "spacing: mel", "worths.spacing is 'mel'", "equal_energy"),
    (WORTHS, "absence: zero", "absence: noise", "worths.absence is 'noise'", "replacement"),
    (WORTHS, "[log_likelihood]", "[logit]", "worths.values is 'logit'", "margin"),
    (WORTHS, "n_images: 24", "n_images: 200", "worths.n_images is 200", "at most 70"),
    (WORTHS, "n_images: 24", "n_images: 0", "worths.n_images is 0", "from 1"),
    (WORTHS, "n_images: 24", "n_images: many", "worths.n_images: 'many' is str", "int"),
    (WORTHS, "n_control: 5", "n_control: 25", "worths.n_control is 25", "at most n_images"),
    (WORTHS, "n_bands: 8", "n_bands: 2", "worths.n_bands is 2", "3 or more"),
    (WORTHS, "n_bands: 8", "n_bands: 15", "worths.n_bands is 15", "from 2 to 14"),
    (WORTHS, "n_bands: 8", "n_bnads: 8", "'n_bnads'", "did you mean 'n_bands'"),
    (WORTHS, "players: fourier", "players: wavelet", "worths.n_bands is 8, for wavelet", "levels"),
    (WORTHS, "players: fourier", "players: orientation", "'orientation', but must be", "fourier"),
    (MEND, "n_judged: 900", "n_judged: 901", "n_images=100 and n_judged=901", "1000 are held out"),
    (WORTHS, "photographs ", "photos ", "no images at 'data/images/photos'", "name another"),
    ("importance:", "minmax", "none", "importance.normalise is 'none'", "softmax"),
    ("importance:", "beta: 0.75", "beta: 1.5", "importance.beta is 1.5", "between 0 and 1"),
    ("bands:", "bands:   #", "bandz:   #", "no notebook is called 'bandz'", "did you mean 'bands'"),
    (
        "dynamics:",
        TEXT[TEXT.index("dynamics:   #") : TEXT.index("data_size:   #")],
        "",
        "no section 'dynamics'",
        "72_dynamics reads",
    ),
    (ROBUSTNESS, "[1, 2, 3, 4, 5]", "[1, 6]", "robustness.severities is 6", "from 1 to 5"),
    (ROBUSTNESS, "heat_grid: 15", "heat_grid: 14", "robustness.heat_grid is 14", "odd"),
    (ROBUSTNESS, "n_attack: 8", "n_attack: 80", "robustness.n_attack is 80", "which is 24"),
    (ROBUSTNESS, "eps: [0.0039216", "eps: [4", "robustness.attack_eps is 4", "up to 1"),
    (CHOICES, "    squeezenet1_1: {", "    squeeze.net: {", "'squeeze.net'", "choices.networks"),
    ("convergence:   #", "    small_cnn: {", "    small cnn: {", "'small cnn'", "only letters"),
    (
        "convergence:   #",
        "small_cnn-seed0/final.s",
        "small_cnn-seed9/final.s",
        "small_cnn-seed9",
        "no plan of `training`",
    ),
    ("convergence:   #", "n_images: 2400", "n_images: 5001", "is 5001", "at most 5000"),
    ("robustness:   #", "published: null", "published: 7", "published is 7", "or the folder"),
    ("robustness:   #", "published: null", "published: data", "published is 'data'", "ImageNet-C"),
    (ATTRIBUTIONS, "    squeezenet1_1: {", "    sq/net: {", "'sq/net'", "attributions.networks"),
    (ATTRIBUTIONS, "substrate: zero", "substrate: one", "attributions.substrate is 'one'", "blur"),
    (ATTRIBUTIONS, "mfaba, big", "mfabba, big", "attributions.methods is 'mfabba'", "saliency"),
    (ATTRIBUTIONS, "alpha: 0.1", "alpha: 2.0", "attributions.alpha is 2.0", "from 0 to 1"),
    (
        ATTRIBUTIONS,
        "precision: float32",
        "precision: bfloat16",
        "attributions.precision is 'bfloat16'",
        "deeplift",
    ),
    (RESOLUTION, "[16, 32, 64]", "[16, 20]", "resolution.bands is [16, 20]", "multiples of 8"),
    (RESOLUTION, "budget: 1700", "budget: 170", "resolution.budget is 170", "at least"),
    ("training:   #", "schedule: cyclic", "schedule: step", "schedule='step'", "cosine"),
    ("training:   #", "held_out: 0.2", "held_out: 1.0", "training.held_out is 1.0", "excluded"),
    ("training:   #", "noise: [0.2", "noise: [2", "noise: 2", "from 0 to 1"),
    ("training:   #", "    clean: {", "    cle.an: {", "'cle.an'", "training.plans"),
    (PROFILES, "n_images: 100", "n_images: 5000", "profiles.n_images is 5000", "at most 10"),
    ("runtime:", "device: auto", "device: gpu", "device is 'gpu'", "cuda"),
    (
        WORTHS,
        "n_initialisations: 5",
        "n_initialisations: 0",
        "worths.n_initialisations is 0",
        "from 1",
    ),
    (WORTHS, "n_initialisations: 5", "n_initialisations: -1", "is -1", "from 1"),
    (WORTHS, "[log_likelihood]", "[]", "worths.values is an empty list", "one at least"),
    (ROBUSTNESS, "n_bands: 8", "n_bands: 7", "robustness.n_bands is 7", "8, as in `worths`"),
    (
        ROBUSTNESS,
        "data/images/photographs",
        "data/images/mnist_5k.npz",
        "robustness.images is 'data/images/mnist_5k.npz'",
        "as in `worths`",
    ),
    (ROBUSTNESS, "[1, 2, 3, 4, 5]", "[]", "robustness.severities is an empty list", "one at"),
    (ROBUSTNESS, "strong_eps: [0", "strong_eps: [4", "robustness.strong_eps is 4", "up to 1"),
    (RIVALS, "[0.02, 0.04, 0.08", "[0.04, 0.02, 0.08", "rivals.noise_sd is [0.04, 0.02,", "rising"),
    (RIVALS, "noise_sd: [0.02", "noise_sd: [-1", "rivals.noise_sd is -1", "above 0"),
    (RIVALS, "contrast: 0.2", "contrast: 0", "rivals.contrast is 0", "above 0 and up to 1"),
    (RIVALS, "n_bands: 8", "n_bands: 7", "rivals.n_bands is 7", "8, as in `worths`"),
    (
        RIVALS,
        "data/images/photographs",
        "data/images/mnist_5k.npz",
        "rivals.images is 'data/images/mnist_5k.npz'",
        "as in `worths`",
    ),
    (ROBUSTNESS, "blur_kernels: [3, 5, 7]", "blur_kernels: []", "blur_kernels is an empty", "one"),
    ("bands:   #", "mosaic_bands: 4", "mosaic_bands: 2", "bands.mosaic_bands is 2", "from 3"),
    ("match:   #", "data/images/photographs", "7", "`match` holds 7", "must be a path"),
    ("match:   #", "data/images/photographs", '""', "`match` holds ''", "must be a path"),
    (
        "match:   #",
        "data/images/photographs",
        "data/images",
        "`match` is 'data/images'",
        "holds sets of images",
    ),
    (
        "convergence_report:   #",
        "sizes: [5, 8, 12, 17, 24, 35, 50, 100, 200]",
        "sizes: [5]",
        "convergence_report.sizes is [5]",
        "at most 35, half of",
    ),
    (
        "convergence_report:   #",
        "sizes: [5, 8, 12, 17, 24, 35, 50, 100, 200]",
        "sizes: []",
        "convergence_report.sizes is an empty list",
        "one at least",
    ),
    (
        "convergence_report:   #",
        "sizes: [5, 8, 12, 17, 24, 35, 50, 100, 200]",
        "sizes: [5000]",
        "convergence_report.sizes is [5000]",
        "two different sizes",
    ),
    (
        "convergence_report:   #",
        "sizes: [5, 8, 12, 17, 24, 35, 50, 100, 200]",
        "sizes: [5, 5]",
        "convergence_report.sizes names 5 more",
        "than once",
    ),
    ("match:   #", "data/images/photographs", "..", "`match` is '..'", "holds sets of images"),
    ("match:   #", "data/images/photographs", "/", "`match` is '/'", "holds sets of images"),
    ("match:   #", "data/images/photographs", ".", "`match` is '.'", "holds sets of images"),
    (ROBUSTNESS, "[1, 2, 3, 4, 5]", "[1, 2, 1]", "robustness.severities names 1 more", "once"),
    (ROBUSTNESS, "blur_kernels: [3, 5, 7]", "blur_kernels: [3, 3.0]", "names 3 more", "once"),
    (WORTHS, "[log_likelihood]", "[log_likelihood, log_likelihood]", "worths.values names", "once"),
    (
        RESOLUTION,
        "data/images/photographs",
        "data/images/mnist_5k.npz",
        "resolution.images is",
        "as in `worths`",
    ),
    (RESOLUTION, "n_images: 24", "n_images: 23", "resolution.n_images is 23", "24, as in `worths`"),
    (RESOLUTION, "metric: linf", "metric: l2", "resolution.metric is 'l2'", "as in `worths`"),
    (RESOLUTION, "precision: float32", "precision: bfloat16", "precision is 'bfloat16'", "as in"),
    (RESOLUTION, "[16, 32, 64]", "[]", "resolution.bands is an empty list", "one at least"),
    (RESOLUTION, "[16, 32, 64]", '["16"]', "resolution.bands is '16'", "a whole number"),
    (RESOLUTION, "[16, 32, 64]", "[16.0]", "resolution.bands is 16.0", "a whole number"),
    ("claims:   #", RECORDED, "[nope]", "recorded as 'nope'", "imagenet_zoo"),
    (
        "claims:   #",
        "[bands, snr_report, importance,",
        "[bands, snr_report, importence,",
        "claims.reports holds 'importence'",
        "did you mean 'importance'",
    ),
    ("runtime:", "device: auto", "device: cuda:9", "device is 'cuda:9'", "that is here"),
    ("runtime:", "device: auto", "device: meta", "device is 'meta'", "that is here"),
    ("models:", "  tf_efficientnet_lite1: {", "  -p: {", "the key '-p'", "(not first)"),
    ("summaries:", "train: cifar10_zoo", "train: ''", "summaries.train is ''", "a name"),
    ("correlation:   #", "ours: []", "ours: [alexnet]", "'alexnet' is none", "names of `models`"),
    ("designs:", "{}", "", "`designs` is empty", "write `designs: {}`"),
    ("designs:", "{}", "[squeezenet1_1]", "`designs` must hold", "name: value"),
    ("designs:", "{}", "{squeezenet: {family: a}}", "`designs.squeezenet`", "'squeezenet1_1'"),
    ("designs:", "{}", "{squeezenet1_1: fire}", "is 'fire', but must be as", "{family: resnet"),
    ("designs:", "{}", "{squeezenet1_1: {famly: fire}}", "sets 'famly'", "mean 'family'"),
    ("designs:", "{}", "{squeezenet1_1: {family: 7}}", "family is 7, but must be a word", "resnet"),
    ("designs:", "{}", "{squeezenet1_1: {training: ''}}", "training is '', but must", "a word"),
    (
        "models:",
        f"name: tf_efficientnet_lite0, weights: {LITE0}",
        "name: mine, weights: data/weights/mine",
        "recipe of 'data/weights/mine.safetensors'",
        "data/weights/mine.json",
    ),
    (ROBUSTNESS, "[1, 2, 3, 4, 5]", "[1.5]", "robustness.severities is 1.5", "from 1 to 5"),
    (ROBUSTNESS, "[1, 2, 3, 4, 5]", '["1"]', "robustness.severities is '1'", "from 1 to 5"),
    (ROBUSTNESS, "[1, 2, 3, 4, 5]", "[true]", "robustness.severities is True", "from 1 to 5"),
    (ROBUSTNESS, "eps: [0.0039216", "eps: [-1", "robustness.attack_eps is -1", "above 0 and up to"),
    (ROBUSTNESS, "eps: [0.0039216", "eps: [true", "robustness.attack_eps is True", "above 0 and"),
    (ROBUSTNESS, "eps: [0.0039216", "eps: [.inf", "robustness.attack_eps is inf", "be finite"),
    (ROBUSTNESS, "heat_norm: 15.7", "heat_norm: .nan", "robustness.heat_norm is nan", "be finite"),
    (ROBUSTNESS, "heat_norm: 15.7", "heat_norm: 1e30", "heat_norm is 1e+30", "up to 1,0"),
    (ROBUSTNESS, "n_images: 24", "n_images: -3", "robustness.n_images is -3", "from 1"),
    (ROBUSTNESS, "n_images: 24", 'n_images: "24"', "robustness.n_images: '24' is str", "int"),
    (ROBUSTNESS, "n_images: 24", "n_images: yes", "robustness.n_images: 'yes' is str", "int"),
    ("seed:", "seed: 0", "seed: -1", "seed is -1", "a whole number from 0"),
    ("seed:", "seed: 0", "seed: 1.0", "seed: 1.0 is float", "int"),
    ("seed:", "seed: 0", 'seed: "0"', "seed: '0' is str", "int"),
    ("seed:", "seed: 0", "seed: 2147483648", "seed is 2147483648", "to 2,147,483,647"),
    ("snr_report:   #", "level: 0.0", "level: .nan", "snr_report.level is nan", "be finite"),
    ("snr:   #", "energy: 0.1", "energy: 1.5", "snr.energy is 1.5", "above 0 and up to 1"),
    (CHOICES, "sigma: 0.25", "sigma: 25", "choices.sigma is 25", "up to 1"),
    (WORTHS, "data/images/photographs", "5", "`worths` holds 5", "must be a path"),
    (WORTHS, "n_images: 24", "n_images: 2020-01-01", "n_images: datetime.date(2020", "quote"),
    (RESOLUTION, "[16, 32, 64]", "[7]", "resolution.bands is [7]", "multiples of 8"),
    (RESOLUTION, "[16, 32, 64]", "[1" + "0" * 30 + "]", "resolution.bands is 1000", "from 1 to"),
    ("training:   #", "classes: null", "classes: 1.5", "training.classes is 1.5", "list of"),
    ("training:   #", "side: 32 ", "side: 32000 ", "training.side is 32000", "to 8,192"),
    ("training:   #", "epochs: 6 ", "epochs: -6 ", "training.epochs is -6", "from 1"),
    ("training:   #", "lr: 0.1 ", "lr: .inf ", "training.lr is inf", "be finite"),
    (
        "training:   #",
        "    clean: {",
        "    clean: abc\n    cleaner: {",
        "`training.plans.clean`",
        "must hold `{name: value, ...}`",
    ),
    (
        "training:   #",
        TEXT[TEXT.index("  plans:") : TEXT.index("profiles:   #")],
        "  plans: abc\n\n",
        "`training.plans` must hold",
        "got 'abc'",
    ),
    (
        "architecture:   #",
        "transformers: []",
        "transformers: [vit]",
        "transformers is ['vit']",
        "names of `models`",
    ),
    ("claims:   #", RECORDED, "[1.5]", "claims.recorded is 1.5", "a name"),
    (
        CHOICES,
        "squeezenet1_1: {name: squeezenet1_1, weights",
        "squeezenet1_1: 5  # {",
        "`choices.networks.squeezenet1_1` is 5",
        "must hold `{name: value, ...}`",
    ),
    (
        "convergence:   #",
        "seed0/final.json",
        "seed1/final.json",
        "`convergence.networks.small_cnn`",
        "correct `recipe`",
    ),
    ("runtime:", "batch_size: null", "batchsize: null", "'batchsize'", "did you mean 'batch_size'"),
    ("runtime:", "workers: null", "threads: 2", "'threads'", "batch_size, device"),
    ("runtime:", "  batch_size: null ", "  # ", "`runtime` lacks 'batch_size'", "copy the line"),
    ("runtime:", "batch_size: null", "batch_size: 0", "runtime.batch_size is 0", "from 1"),
    ("runtime:", "batch_size: null", "batch_size: [8]", "runtime.batch_size is [8]", "from 1"),
    ("runtime:", "workers: null", "workers: 1.5", "runtime.workers is 1.5", "from 1"),
    ("runtime:", "workers: null", "workers: here", "runtime.workers is 'here'", "tcp://host:8786"),
    ("runtime:", "workers: null", "workers: true", "runtime.workers is True", "from 1"),
    (
        "runtime:",
        TEXT[TEXT.index("runtime:   #") :],
        "runtime: fast\n",
        "`runtime` must hold",
        "'fast'",
    ),
    ("runtime:", TEXT[TEXT.index("runtime:   #") :], "", "no section 'runtime'", "all share"),
    ("runtime:", "runtime:   #", "7: {}\nruntime:   #", "no notebook is called 7", "there is"),
    ("runtime:", "runtime:   #", "runtimes: {}\nruntime:   #", "'runtimes'", "did you mean"),
]
# What a file may hold instead of a study -> what the line must hold
FILES = {
    "nothing": (b"", "is empty"),
    "a list": (b"[1, 2]", "holds a list"),
    "a word": (b"a", "a str"),
    "latin-1": ("# café\n".encode("latin-1"), "not text in utf-8 (byte 6 cannot be)"),
    "utf-16": (TEXT.encode("utf-16"), "not text in utf-8"),
    "utf-16 without mark": (TEXT.encode("utf-16-le"), "U+0000"),
    "bytes": (bytes(range(256)), "utf-8"),
    "itself in a list": (b"a: &a [*a]\n", "stands inside what it is the name of"),
    "itself in a mapping": (b"a: &a {b: [1, *a]}\n", "stands inside what it is the name of"),
    "nobody": (b"a: *b\n", "undefined alias"),
    "laughs": (
        b"a0: &a0 [lol, lol]\n"
        + b"".join(
            b"a%d: &a%d [%s]\n" % (k, k, b", ".join([b"*a%d" % (k - 1)] * 9)) for k in range(1, 30)
        ),
        "more than 100,000 entries",
    ),
    "laughs that merge": (
        b"a0: &a0 {k: 1}\n"
        + b"".join(
            b"a%d: &a%d {<<: [%s]}\n" % (k, k, b", ".join([b"*a%d" % (k - 1)] * 9))
            for k in range(1, 30)
        ),
        "more than 100,000 entries",
    ),
    "depth of lists": (b"[" * 20_000, "deeper than 32 levels"),
    "depth of mappings": (b"{a: " * 20_000, "deeper than 32 levels"),
    "depth of dashes": (b"- " * 20_000, "deeper than 32 levels"),
    "a megabyte": (b"# and so on\n" * 200_000, "more than 1,000,000 bytes"),
    "the same twice": (b"seed: 0\nbands: {}\nseed: 1\n", 'duplicate key "seed"'),
    "tabs": (b"bands:\n\tn_images: 70\n", "(line 2, column 1): indent with spaces"),
    "two studies": (b"a: 1\n---\nb: 2\n", "another document"),
    "an open quote": (b"a: 'b\n", "unexpected end of stream"),
    "code": (b"a: !!python/object/apply:os.getcwd []\n", "python/object/apply:os.getcwd"),
    "a long number": (b"seed: " + b"9" * 5000, "4300 digits"),
    "no date": (b"a: 2020-13-45\n", "month must be in 1..12"),
}


PARTS = ("n_control", "n_attack", "n_heat", "n_sparse", "n_twin", "n_shown", "n_grid")


def changed(start, old, new):
    at = TEXT.index(f"\n{start}") + 1
    before, rest = TEXT[:at], TEXT[at:]
    assert old in rest, old
    return before + rest.replace(old, new, 1)


def refused(text, tmp_path, monkeypatch, capsys, how):
    if text is not None:
        (tmp_path / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(ROOT)
    if how == "plan":
        monkeypatch.setattr(plan, "study_file", lambda *a: tmp_path / "bad.yaml")
        monkeypatch.setattr(plan, "costs", lambda *a: pytest.fail("it was not checked"))
        code = plan.main(["bad"])
    else:
        code = check.main([str(tmp_path / "bad.yaml")])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1, said
    return said


def called(bad):
    return bad if isinstance(bad, str) else f"{bad[0].strip(': #')}-{bad[3][:24]}"


EACH = [("check", bad) for bad in BAD] + [("plan", bad) for bad in BAD[::9]]


@pytest.mark.parametrize(("how", "bad"), EACH, ids=called)
@pytest.mark.slow
def test_a_bad_study_is_refused_in_one_line(how, bad, data, tmp_path, monkeypatch, capsys):
    start, old, new, value, rule = bad
    said = refused(changed(start, old, new), tmp_path, monkeypatch, capsys, how)
    assert value in said and rule in said


@pytest.mark.parametrize("how", ["plan", "check"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_study_is_refused_in_one_line(name, how, tmp_path, monkeypatch, capsys):
    content, words = FILES[name]
    start = time.process_time()
    said = refused(content, tmp_path, monkeypatch, capsys, how)
    assert "bad.yaml" in said and words in said and len(said) < 400
    assert time.process_time() - start < 5, "however much it stands for"


@pytest.mark.parametrize("how", ["plan", "check"])
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "locked", "gone"])
def test_what_is_no_file_is_refused_in_one_line(kind, how, tmp_path, monkeypatch, capsys):
    path = tmp_path / "bad.yaml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":  # reading it would wait for ever
        os.mkfifo(path)
    elif kind == "locked":
        path.write_text(TEXT)
        real = type(path).open

        def locked(self, *args, **how):
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **how)

        monkeypatch.setattr(type(path), "open", locked)
    said = refused(None, tmp_path, monkeypatch, capsys, how)
    words = {"a folder": "is a folder", "a pipe": "is no file", "gone": "there is no file"}
    assert words.get(kind, "cannot be read: Permission denied") in said and "bad.yaml" in said


def test_a_params_yaml_that_is_a_folder_is_said_to_be_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").mkdir()
    monkeypatch.chdir(tmp_path)
    for call in (check.main, plan.main):
        assert call([]) == 2
        assert "params.yaml is a folder: `make repro STUDY=default`" in capsys.readouterr().err


@pytest.mark.slow
def test_a_long_value_is_not_printed_whole(tmp_path, monkeypatch, capsys):
    many = "&a [" + ", ".join(["what"] * 9000) + "]"
    said = refused(f"{TEXT}\nmine: {many}\nmodels2: *a\n", tmp_path, monkeypatch, capsys, "check")
    assert "no notebook is called 'mine'" in said
    long = changed("seed:", "seed: 0", f"seed: {many}")
    said = refused(long, tmp_path, monkeypatch, capsys, "check")
    assert "seed: ['what', 'what'" in said and "but the notebook's" in said and len(said) < 820


def test_aliases_of_one_network_are_no_bomb():
    keys = ", ".join(f"k{n}: *a" for n in range(999))
    found = read_yaml(f"a: &a {{name: x, weights: y, recipe: z}}\nb: {{{keys}}}", "many")
    assert len(found["b"]) == 999 and found["b"]["k7"] is found["a"]


# -- the machine -----------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    (tmp_path / "results/worths/tables").mkdir(parents=True)
    return tmp_path


def everything(root):
    return sorted(root.rglob("*"))


def test_a_place_that_can_be_written_to_is_left_as_it_is(place):
    before = everything(place)
    check.check_place(place)
    assert everything(place) == before


def test_a_full_disk_is_refused_before_anything_runs(place, monkeypatch):
    def full(*args, **how):
        raise OSError(28, "No space left on device")

    before = everything(place)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        with pytest.raises(UsageError, match="results cannot be written to: No space .*free some"):
            check.check_place(place)
    assert everything(place) == before


@pytest.mark.slow
def test_a_limit_of_the_shell_is_a_full_disk(place):
    """A real one: no file may have more than a megabyte."""
    before = everything(place)
    line = f"ulimit -f 1000; exec {sys.executable} -m iaside.study.check"
    said = run(ROOT, "bash", "-c", line, code=2)
    assert "results cannot be written to: File too large (16 MB were tried)" in said
    assert said.count("\n") == 1 and everything(place) == before


def test_results_that_cannot_be_written_to_are_refused(place, monkeypatch):
    tables, real = place / "results/worths/tables", os.access
    monkeypatch.setattr(os, "access", lambda p, mode: str(p) != str(tables) and real(p, mode))
    with pytest.raises(UsageError, match="results/worths/tables cannot be written to: `chmod u"):
        check.check_place(place)
    monkeypatch.undo()
    (place / ".partial").write_text("")
    with pytest.raises(UsageError, match=r"\.partial is no folder"):
        check.check_place(place)


@pytest.mark.slow
def test_a_shell_of_few_open_files_is_refused():
    line = f"ulimit -n 48; exec {sys.executable} -m iaside.study.check"
    said = run(ROOT, "bash", "-c", line, code=2)
    assert "allows 48 open files, but must allow 256 at least: run `ulimit -n 1024`" in said
    assert said.count("\n") == 1


def test_the_place_is_checked_with_the_study(monkeypatch):
    def full(root):
        raise UsageError("full")

    monkeypatch.setattr(check, "check_place", full)
    with pytest.raises(UsageError, match="^full$"):
        check.check(read_yaml(TEXT, "x"), ROOT)


def test_what_may_stand_under_runtime_is_what_notebooks_declare():
    for file in (ROOT / "studies").glob("*.yaml"):
        assert set(read_study(file)["runtime"]) == set(RUNTIME), file
    declared = set().union(*read_notebooks(ROOT).values())
    assert set(RUNTIME) <= declared | {"workers"}, "which the runner takes"


@pytest.mark.parametrize("how", ["plan", "check"])
def test_weights_that_are_nowhere_are_missed_by_their_path(
    how, data, tmp_path, monkeypatch, capsys
):
    model = "name: mine, weights: data/weights/mine.safetensors, recipe: data/weights/mine.json"
    text = changed("models:", "  squeezenet1_1: {", f"  mine: {{{model}}}\n  squeezenet1_1: {{")
    said = refused(text, tmp_path, monkeypatch, capsys, how)
    assert "no weights at 'data/weights/mine.safetensors' (model `mine`; looked for " in said
    assert "put the file there" in said


@pytest.mark.parametrize("spoilt", ["weights", "recipe", "classes"])
def test_own_files_are_looked_into_wherever_a_study_names_them(
    spoilt, data, tmp_path, monkeypatch, capsys
):
    path, beside = tmp_path / "own.safetensors", tmp_path / "own.json"
    save_weights(untrained("small_cnn", 1000, 32, 0), path)
    if spoilt == "weights":
        path.write_bytes(path.read_bytes()[:-9])
    elif spoilt == "recipe":
        beside.write_text("[" * 20_000)
    else:
        beside.write_text(json.dumps(json.loads(beside.read_text()) | {"num_classes": 0}))
    own = f"{{name: small_cnn, weights: {path}, recipe: {beside}}}"
    own = f"own: {{model: {own}, images: data/images/photographs, n_images: 24}}"
    text = changed("convergence:   #", "    small_cnn: {", f"    {own}\n    small_cnn: {{")
    said = refused(text, tmp_path, monkeypatch, capsys, "check")
    assert "`convergence.networks.own`" in said
    assert str(path if spoilt == "weights" else beside) in said


def test_a_network_without_classes_is_for_embeddings_only(tmp_path):
    path = tmp_path / "own.safetensors"
    save_weights(without_head(untrained("small_cnn", 10, 32, 0)), path)
    files = path, path.with_suffix(".json"), False
    check._check_files("embedding_worths.networks.own", *files)
    with pytest.raises(UsageError, match="choices.networks.own.*num_classes 0: a study scores"):
        check._check_files("choices.networks.own", *files)


@pytest.mark.parametrize("text", ["[]", "", "stages: 3", "stages: {a: 3}", "stages: {a: {do: x}}"])
def test_a_pipeline_that_is_none_is_said(text, own_notebooks, monkeypatch, capsys):
    (own_notebooks / "dvc.yaml").write_text(text)
    monkeypatch.chdir(own_notebooks)
    assert check.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: dvc.yaml: ") and "git checkout" in said


def test_the_pipelines_first_stage_checks_too(fetch, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fetch, "fetch_packaged", lambda *a: pytest.fail("it was not checked"))
    (tmp_path / "bad.yaml").write_text(changed(WORTHS, "metric: linf", "metric: l3"))
    for flag in ("--check", "--study"):
        assert fetch.main([flag, str(tmp_path / "bad.yaml")]) == 2
        assert "worths.metric is 'l3'" in capsys.readouterr().err
    stage = read_yaml((ROOT / "dvc.yaml").read_text(), "dvc.yaml")["stages"]["data"]
    assert stage["cmd"][0] == "exec python data/fetch.py --study params.yaml"
    assert set(stage["params"]) == set(read_yaml(TEXT, "study")) - {"runtime"}, "or it is not asked"


SHIPPED = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))
SHIPPED.sort(key=lambda name: name not in ("default", "smoke"))  # these in a quick run


@pytest.mark.parametrize("name", few(SHIPPED))
def test_shipped_studies_pass(name, data, tmp_path):
    text = written_out(ROOT / f"studies/{name}.yaml")
    # With photographs for images that are not packaged, and a packaged network for each of the zoos
    # that is not fetched.
    for images in ("data/imagenet/val", "data/images/imagenet-sample"):
        text = text.replace(images, "data/images/photographs")
    params = read_yaml(text, name)
    packaged = {
        end: f"data/weights/squeezenet1_1.{of}"
        for end, of in (("weights", "safetensors"), ("recipe", "json"))
    }
    for key, entry in params["models"].items():
        path = entry["weights"].removeprefix("data/")
        if path.startswith("weights/zoo") and path not in sections.packaged_files():
            params["models"][key] = {"name": key} | packaged
    for section in params.values():
        on_photographs = isinstance(section, dict) and "photographs" in section.get("images", "")
        if on_photographs and section.get("n_images", 0) > 70:
            section |= {"n_images": 70, **{k: 5 for k in section if k in PARTS}}
    for network in params["convergence"]["networks"].values():
        network["n_images"] = min(network["n_images"], 70)
    check.check(params, ROOT)


def test_images_are_counted_as_they_are_loaded(data):
    assert set(sections.DOWNLOADABLE) == set(DOWNLOADS)
    assert (
        count_images(data / "images/photographs")
        == len(load_images(data / "images/photographs", input_size=32)[0])
        == 70
    )


def test_weights_that_are_not_there_are_said_to_be_missing():
    from iaside.inputs.classifier import load_model

    with pytest.raises(ValueError, match="no weights file .*data/weights/mine.safetensors.*no mod"):
        load_model("mine")


def test_what_an_error_advises_is_public():
    import iaside

    with pytest.raises(ValueError, match=r"Classifier\(net, recipe, name\)"):
        iaside.load_model(
            "x",
            pretrained=False,
            recipe={**libraries.recipe_of("squeezenet1_1"), "library": "keras"},
        )
    assert iaside.Classifier is not None and "Classifier" in iaside.__all__


def test_a_study_that_holds_no_sections_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    for text in ("", "[1]", json.dumps({"models": [1]})):
        path.write_text(text)
        with pytest.raises(UsageError):
            check.check(read_study(path), ROOT)


@pytest.fixture
def own_notebooks(tmp_path):
    """A project with notebooks that no stage runs: a copy, an own one, an empty file."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for file in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / file, tmp_path / file)
    for name in ("data", "studies", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    folder = tmp_path / "notebooks"
    shutil.copy(folder / "30_importance.ipynb", folder / "30_importance-Copy1.ipynb")
    (folder / "95_mine.ipynb").write_text('{"cells": [], "metadata": {}}')
    (folder / "96_empty.ipynb").touch()
    return tmp_path


def test_notebooks_that_no_stage_runs_need_no_section_and_may_have_one(own_notebooks, data):
    params = read_yaml(TEXT, "x")
    check.check(params, own_notebooks)
    check.check(params | {"mine": {"n": 3}}, own_notebooks)
    assert study_values("30_importance", own_notebooks)["beta"] == 0.75
    with pytest.raises(UsageError, match="no notebook is called 'nine'"):
        check.check(params | {"nine": {}}, own_notebooks)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"metadata": {}}', '{"cells": 3}'])
def test_a_damaged_notebook_that_a_stage_runs_is_named_in_one_line(text, own_notebooks):
    (own_notebooks / "notebooks/20_worths.ipynb").write_text(text)
    with pytest.raises(ValueError, match=r"20_worths\.ipynb cannot be read as a notebook") as said:
        check.check(read_yaml(TEXT, "x"), own_notebooks)
    assert "\n" not in str(said.value)
    (own_notebooks / "notebooks/20_worths.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match=r"no notebook at .*20_worths\.ipynb"):
        check.check(read_yaml(TEXT, "x"), own_notebooks)


def test_a_study_that_is_no_text_is_refused_in_one_line(tmp_path, monkeypatch, capsys, fetch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "bad.yaml"
    path.write_bytes(TEXT.encode() + b"# \xff\xfe")
    monkeypatch.setattr(plan, "study_file", lambda *a: path)
    for call, words in (
        (check.main, [str(path)]),
        (plan.main, ["bad"]),
        (fetch.main, ["--check", str(path)]),
    ):
        assert call(words) == 2
        said = capsys.readouterr().err
        assert "utf-8" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    few(
        [
            ("json", "[]", "must be a dict"),
            ("json", "", "not JSON"),
            ("json", {"mean": [123.0, 117.0, 104.0]}, "mean must be three numbers in"),
            ("json", {"std": [float("nan")] * 3}, "std must be three numbers from"),
            ("json", {"input_size": 0}, "input_size must be"),
            ("json", {"crop_pct": 1e-9}, "crop_pct must be a number from 0.1"),
            ("json", {"input_size": [3, 99999, 99999]}, "input_size must be .* up to 8,192"),
            ("json", '{"a": ' * 20_000, "not JSON"),
            ("safetensors", "", "the file is empty"),
            ("safetensors", "12345678 torn", "cannot be read"),
        ],
        3,
    ),
)
def test_own_files_that_no_network_can_be_made_of_are_refused(
    name, content, said, own_notebooks, data
):
    for ending in ("json", "safetensors"):
        shutil.copy(data / f"weights/squeezenet1_1.{ending}", own_notebooks / f"mine.{ending}")
    mine = {"name": "mine", "weights": "mine.safetensors", "recipe": "mine.json"}
    params = read_yaml(TEXT, "x")
    params["models"]["mine"] = mine
    check.check(params, own_notebooks)
    path = own_notebooks / f"mine.{name}"
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as error:
        check.check(params, own_notebooks)
    assert "mine" in str(error.value) and "\n" not in str(error.value)


def test_the_hint_names_a_method_once(tmp_path, monkeypatch, capsys, data):
    bad = changed(ATTRIBUTIONS, "mfaba, big", "mfabba, big")
    said = refused(bad, tmp_path, monkeypatch, capsys, "check")
    names = said.partition("one of ")[2].partition(":")[0].split(", ")
    assert len(names) == len(set(names)) > 5


def test_labels_are_those_of_the_networks(tmp_path):
    """Folders 1 to 12 are read as words or as numbers, and 1,000 classes say neither."""
    for k in range(1, 13):
        (tmp_path / "sets" / str(k)).mkdir(parents=True)
        for name in ("a", "b"):
            Image.new("RGB", (32, 32)).save(tmp_path / "sets" / str(k) / f"{name}.png")
    changed = read_yaml(TEXT, "default")
    changed["snr"] |= {"images": str(tmp_path / "sets")}
    with pytest.raises(UsageError, match="the images at '.*sets' cannot be used: .*classes="):
        check.check(changed, ROOT)


def test_an_untrained_twin_needs_two_images():
    changed = read_yaml(TEXT, "default")
    changed["attributions"] |= {"n_images": 1, "n_twin": 1, "n_shown": 1, "n_grid": 1}
    with pytest.raises(UsageError, match="attributions.n_images is 1, but must be 2 or more"):
        check.check(changed, ROOT)


def test_a_lock_that_is_being_written_is_waited_for(tmp_path):
    """By DVC, after one stage, when the next one begins with a check."""
    whole = (ROOT / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(whole[:300])
    writer = threading.Timer(0.3, (tmp_path / "dvc.lock").write_text, [whole])
    writer.start()
    check.check_lock(tmp_path)
    writer.join()


def test_a_lock_that_a_kill_cut_off_is_refused_wherever_it_was_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("iaside.study.place.PATIENCE", 0.0)
    whole = (ROOT / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(whole)
    check.check_lock(tmp_path)
    (tmp_path / "dvc.lock").unlink()
    check.check_lock(tmp_path)  # a first run has none
    lines = whole.splitlines(keepends=True)
    places = range(3, 40)  # of the first stage, each kind of line
    for k in places:
        (tmp_path / "dvc.lock").write_text("".join(lines[:k]) + lines[k][: len(lines[k]) // 2])
        try:
            check.check_lock(tmp_path)
        except UsageError as error:
            assert "git checkout dvc.lock" in str(error)
            continue
        # what is left reads as a shorter list of whole outputs: a stage that is made again
        assert "outs:\n" in "".join(lines[:k])


# --- players and mending, whose parameters are checked against each other ------------------------


def check_players(tmp_path, players, n_bands, reports=(), section="worths", side=64, wavelet="db4"):
    (tmp_path / "net.json").write_text(json.dumps({"input_size": [3, side, side]}))
    values = {"n_bands": n_bands, "wavelet": wavelet, "model": {"recipe": "net.json"}}
    if section == "worths":
        values["players"] = players
    study = {"claims": {"reports": ["importance", *reports]}}
    check._check_players(section, values, study, tmp_path)


@pytest.mark.parametrize("section", ["worths", "player_worths"])
def test_more_levels_than_images_have_are_refused(section, tmp_path):
    """db4 has 8 taps: of 64 pixels they leave 3 levels, so 4 players; haar leaves 6."""
    check_players(tmp_path, "wavelet", 4, section=section)
    with pytest.raises(UsageError, match=rf"{section}.n_bands is 5, for wavelet players of net: "):
        check_players(tmp_path, "wavelet", 5, section=section)
    check_players(tmp_path, "wavelet", 5, section=section, wavelet="haar")
    check_players(tmp_path, "wavelet", 5, section=section, side=128)


def test_players_that_need_no_levels_are_not_counted_as_such(tmp_path):
    for players in ("fourier", "orientation"):
        check_players(tmp_path, players, 8)
    with pytest.raises(UsageError, match="worths.n_bands is 8, for wavelet players"):
        check_players(tmp_path, "wavelet", 8)


@pytest.mark.parametrize("noun", ["match", "resolution_report"])
def test_reports_that_take_players_for_bands_of_the_spectrum_are_refused(noun, tmp_path):
    check_players(tmp_path, "fourier", 4, [noun])
    for players in ("wavelet", "orientation"):
        with pytest.raises(UsageError, match=f"'{players}', but must be fourier for {noun}: corr"):
            check_players(tmp_path, players, 4, [noun])


@pytest.mark.parametrize("noun", ["correlation", "rivals_report", "architecture"])
def test_reports_of_a_score_need_players_from_low_to_high(noun, tmp_path):
    check_players(tmp_path, "wavelet", 4, [noun])  # levels have that order
    with pytest.raises(UsageError, match=f"'orientation', but must be fourier for {noun}: correct"):
        check_players(tmp_path, "orientation", 4, [noun])


def test_the_players_of_the_report_on_players_hinder_no_other(tmp_path):
    check_players(tmp_path, None, 4, ["match", "correlation"], section="player_worths")


def check_mend(weights, n_images=10, n_judged=20):
    shared = {"images": "some/images", "held_out": 0.3, "classes": None}
    training = shared | {"plans": {"clean": {"architecture": "small_cnn"}}}
    values = {"model": {"weights": weights}, "n_images": n_images, "n_judged": n_judged}
    check_trainings.check_mend(values, training)


TRAINED = "results/training/networks/clean/small_cnn-seed0/final.safetensors"


def test_networks_that_no_plan_trains_are_not_mended():
    with pytest.raises(UsageError, match="mend.networks has the weights 'data/w/a.safetensors'"):
        check_mend("data/w/a.safetensors")


def test_more_images_than_are_held_out_are_not_mended_on(monkeypatch):
    monkeypatch.setattr(
        check_trainings, "images_held", lambda images, held_out, classes: round(100 * held_out)
    )
    check_mend(TRAINED)
    with pytest.raises(UsageError, match="mend: n_images=10 and n_judged=21 are 31 .* 30 are held"):
        check_mend(TRAINED, n_judged=21)
