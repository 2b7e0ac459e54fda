"""What is kept is known by the code that made it: any change of code, and nothing but that."""

import ast
import functools
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from smoke import ROOT

from iaside.backend import keys, resume
from iaside.backend.keys import MACHINERY, SOURCES, closure, code_hash, imported
from iaside.training import plans, training

CACHES = (keys._tree, keys._imports, keys._digest, keys.code_hash)


@pytest.fixture
def edited(monkeypatch):
    """A function: the hash of a module when the text of some modules is another."""
    monkeypatch.setattr(keys.ast, "parse", functools.cache(ast.parse))

    def clear():
        for cache in CACHES:
            cache.cache_clear()

    def hashed(*modules, **texts):
        with monkeypatch.context() as patch:
            for name, text in texts.items():
                data = text if isinstance(text, bytes) else text.encode()
                patch.setitem(keys.SOURCES, name, data)
            clear()
            return code_hash(*modules)

    yield hashed
    clear()


def digest(text):
    said = []
    keys._say(ast.parse(text), said.append)
    return " ".join(said)


def text_of(module):
    return SOURCES[module].decode()


CODE = '''"""A module."""
import math

NAMES = ("a", "b")


@cache
def f(x, y=0.5, *, z=None):
    """A function."""
    if x > y and z is not None:
        return f"{x:.3f} of {math.pi!r}, {{}} {y}"
    with open(x) as a, open(y) as b:
        del a, b
    return [x, -1, "a b"]


class A(Exception):
    """A class."""
'''
SAME = {
    "a comment": ("import math", "import math  # for pi"),
    "a docstring": ('"""A function."""', '"""Another\n\n    >>> f(1)\n    """'),
    "no docstring": ('    """A function."""\n', ""),
    "pass for a docstring": ('    """A class."""', "    pass"),
    "a docstring of a variable": ('("a", "b")\n', '("a", "b")\n"""Names."""\n'),
    "blank lines": ("import math\n", "\n\nimport math\n\n"),
    "ends of lines": ("\n", "\r\n"),
    "trailing commas": ("z=None)", "z=None,\n)"),
    "quotes": ('"a", "b"', "'a', 'b'"),
    "pieces of a string": ('"a b"', '"a" " b"'),
    "pieces of an f-string": ("of {math", 'of " f"{math'),
    "spaces in an f-string": ("{math.pi!r}", "{ math.pi !r}"),
    "parentheses": ("x > y and", "(x > y) and"),
    "parentheses of with": ("open(x) as a, open(y) as b:", "(open(x) as a, open(y) as b):"),
    "parentheses of del": ("del a, b", "del (a, b)"),
    "a number": ("0.5", "5e-1"),
    "a line that goes on": ("if x > y and", "if x > y \\\n       and"),
}
OTHER = {
    "a constant": ("0.5", "0.25"),
    "a sign": ("-1", "+1"),
    "an operator": ("x > y", "x >= y"),
    "and, or": ("y and z", "y or z"),
    "is not": ("z is not", "z is"),
    "a string": ('"a b"', '"a  b"'),
    "a type": ("-1", "-1.0"),
    "text of an f-string": (" of {", " from {"),
    "a brace of an f-string": ("{{}} ", ""),
    "a name in an f-string": ("math.pi!r", "math.e!r"),
    "a format in an f-string": (".3f", ".4f"),
    "a conversion in an f-string": ("!r", "!s"),
    "a default": ("z=None", "z=0"),
    "an argument": (", *, z", ", z"),
    "a decorator": ("@cache\n", ""),
    "an import": ("import math", "import cmath as math"),
    "the order": ('("a", "b")', '("b", "a")'),
    "nothing for None": ('return [x, -1, "a b"]', "return"),
    "a base": ("(Exception)", "(ValueError)"),
    "a string that is used": ('    """A class."""', '    about = """A class."""'),
}


@pytest.mark.parametrize("what", SAME)
def test_another_way_to_write_the_same_is_the_same(what):
    before, after = SAME[what]
    assert before in CODE and CODE.replace(before, after) != CODE
    assert digest(CODE.replace(before, after)) == digest(CODE)


@pytest.mark.parametrize("what", OTHER)
def test_another_code_is_another(what):
    before, after = OTHER[what]
    assert CODE.count(before) == 1
    assert digest(CODE.replace(before, after)) != digest(CODE)


def test_no_word_of_a_module_can_be_another_without_a_trace():
    """Each name, number and string of a module is changed in its syntax tree, one at a time."""
    tree = ast.parse(SOURCES["spectral"])
    whole, changed = digest(text_of("spectral")), 0
    idle = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}  # docstrings
    nodes = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Name | ast.Constant | ast.Attribute) and id(n) not in idle
    ]
    for node in random.Random(0).sample(nodes, 60):
        name = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value"}[type(node)]
        value = getattr(node, name)
        setattr(node, name, "changed" if isinstance(value, str) else 12345)
        said = []
        keys._say(tree, said.append)
        changed += " ".join(said) != whole
        setattr(node, name, value)
    assert changed == 60


@pytest.mark.slow
def test_a_formatter_changes_nothing(tmp_path):
    """The whole package by ruff, with other lengths of lines, quotes and commas than ours."""
    shutil.copytree(ROOT / "iaside", tmp_path / "iaside", ignore=shutil.ignore_patterns("__*__"))
    style = {
        "line-length": 60,
        "format.quote-style": "'single'",
        "format.skip-magic-trailing-comma": "true",
    }
    command = [sys.executable, "-m", "ruff", "format", "--isolated", str(tmp_path)]
    for name, value in style.items():
        command += ["--config", f"{name} = {value}"]
    subprocess.run(command, check=True, capture_output=True)
    others = {
        ".".join(path.relative_to(tmp_path / "iaside").with_suffix("").parts): path.read_text()
        for path in (tmp_path / "iaside").rglob("*.py")
    }
    assert len(others) > 40 and sum(text_of(name) != others[name] for name in others) > 40
    for name, text in others.items():
        assert digest(text) == digest(text_of(name)), name


IN_WORDS = (
    "from iaside.backend.keys import code_hash\n"
    "print(code_hash('game.exact'), code_hash('training.training'))"
)


def said_by(python, package):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", IN_WORDS],
        env=environment | {"PYTHONPATH": str(package)},
        cwd=package,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.mark.slow
def test_every_python_in_every_place_says_the_same(tmp_path):
    here = [code_hash("game.exact"), code_hash("training.training")]
    shutil.copytree(ROOT / "iaside", tmp_path / "iaside", ignore=shutil.ignore_patterns("__*__"))
    for path in (tmp_path / "iaside").glob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    shutil.copy(ROOT / "iaside/__init__.py", tmp_path / "iaside")
    assert said_by(sys.executable, tmp_path) == here
    for minor in range(11, 16):
        python = shutil.which(f"python3.{minor}")
        found = said_by(python, tmp_path) if python else []
        assert found in ([], here), python  # what does not start says nothing


@pytest.mark.parametrize(
    "line",
    [
        "import iaside.score",
        "import iaside.score as s",
        "from iaside.score import robustness_score",
        "from iaside import score",
        "from iaside import score as s",
        "from . import score",
        "from .score import robustness_score",
        "from iaside import robustness_score",
        "import iaside as ia\nia.robustness_score(x)",
        "import iaside\niaside.score.robustness_score(x)",
        "def f():\n    if x:\n        from iaside.score import robustness_score",
        "try:\n    import iaside.score\nexcept ImportError:\n    pass",
    ],
)
def test_every_way_to_import_is_seen(line):
    assert imported(line) == {"score"}
    assert imported(line.replace("iaside", "aside").replace("from .", "from aside")) == set()


@pytest.mark.parametrize("module", ["explanation", "training.training"])
@pytest.mark.slow
def test_a_module_counts_with_all_that_it_imports(module, edited):
    before = code_hash(module)
    for name in closure([module]):
        assert edited(module, **{name: text_of(name) + "\nEDITED = 1\n"}) != before, name
    no_code = {name: text_of(name) + "\n# edited\n" for name in closure([module])}
    assert edited(module, **no_code) == before
    others = {name: text_of(name) + "\nEDITED = 1\n" for name in MACHINERY | {"training.trends"}}
    assert edited(module, **others) == before, "no number depends on these"
    lazily = "\ndef f():\n    from iaside.training.trends import slope\n"
    [used] = {"explanation": ["score"], "training.training": ["inputs.libraries"]}[module]
    assert edited(module, **{used: text_of(used) + lazily}) != before


def test_imports_within_functions_and_those_of_others_count():
    assert {"game.sampling", "game.exact"} <= closure(["explanation"]), "within functions"
    assert "from iaside.game.sampling" not in text_of("explanation").partition("\ndef ")[0]
    direct = imported(SOURCES["training.training"])
    assert "inputs.libraries" in closure(["training.training"]) - direct, "of models"


def test_modules_are_imported_by_name():
    """Else their code would count for nothing."""
    for name in set(SOURCES) - MACHINERY:
        assert "import_module" not in text_of(name) and "__import__" not in text_of(name)


def test_a_module_that_is_none_is_refused():
    with pytest.raises(ValueError, match="iaside has no module 'worth' .* game.exact"):
        code_hash("worth")


@pytest.mark.slow
def test_a_process_reads_its_code_once(monkeypatch, edited):
    edited("training.profiles")
    first = code_hash("training.profiles", "training.training")
    monkeypatch.setattr(keys.ast, "parse", None)
    assert code_hash("training.profiles", "training.training") == first


# -- in use ---------------------------------------------------------------------------------------


@pytest.fixture
def a_plan(tmp_path):
    """A function: train a plan of one network, said in names; its settings, too."""
    rng = np.random.default_rng(0)
    path = tmp_path / "x.npz"
    np.savez(
        path,
        images=rng.integers(0, 255, (20, 16, 16, 3)).astype("uint8"),
        labels=rng.permutation(20) % 2,
    )
    shared = dict(
        images=str(path),
        classes=None,
        side=16,
        held_out=0.2,
        epochs=1,
        batch=8,
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        flip=False,
        eps=8,
        steps=2,
        warm_up=0,
        precision="float32",
    )
    networks = plans.networks({"p": {"architecture": "small_cnn"}})

    def train():
        return training.train_plan(
            networks,
            shared,
            tmp_path / "networks",
            tmp_path / "partial",
            device="cpu",
            workers=1,
            progress=False,
        )

    return train


@pytest.mark.slow
def test_a_docstring_trains_nothing_again_and_code_does(a_plan, monkeypatch, edited):
    def now(**texts):
        monkeypatch.setattr(training, "code_hash", lambda *names: edited(*names, **texts))
        return a_plan()

    assert now() == ["small_cnn-seed0"] and now() == []
    commented = text_of("training.training").replace(
        '"""Train the networks', '"""Train all the networks'
    )
    assert commented != text_of("training.training")
    assert now(**{"training.training": commented}) == []
    assert now(**{"inputs.splits": text_of("inputs.splits") + "\nEDITED = 1\n"}) == [
        "small_cnn-seed0"
    ]


@pytest.mark.slow
def test_the_code_of_networks_counts_for_what_is_measured_of_them(monkeypatch, edited):
    """What they are known by, weights and the answer to an image, is not all that they do."""

    def place(**texts):
        monkeypatch.setattr(resume, "code_hash", lambda *names: edited(*names, **texts))
        return resume.unfinished("x", "worths", {"seed": 0}, "game.exact")

    for module in ("architectures", "convolutions", "folding", "classifier"):
        module = f"inputs.{module}"
        assert place() == place() != place(**{module: text_of(module) + "\nEDITED = 1\n"})
    assert place(**{"training.trends": text_of("training.trends") + "\nEDITED = 1\n"}) == place()


MEASURE = '''
import sys
from pathlib import Path
import numpy as np
import torch
import iaside as ia
from iaside.attribution.examine import examine
from iaside.inputs.probe import probe
from iaside.game.published import published_worths
from iaside.robustness.responses import responses
from iaside.robustness.snr import perturbation_spectra
from iaside.tables import Condition, save_table

torch.set_num_threads(1)
SIDE = 8


class Line(torch.nn.Module):
    """Is killed after some images."""

    def __init__(self, left):
        super().__init__()
        self.left = left
        weight = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x):
        self.left -= len(x)
        if self.left < 0:
            raise KeyboardInterrupt
        return x.mean((2, 3)) @ self.weight.T


X = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 2
MASKS, MORE = ia.band_masks(3, (SIDE, SIDE)), ia.band_masks(4, (SIDE, SIDE))
Q = {"progress": False}
SAVE = "log_likelihood"


def snr(net, at):
    asked = probe(net, X, Y)
    sources = {"a": (range(6), {"name": "white_noise", "energy": 0.1})}
    return perturbation_spectra(asked, X, Y, sources, 0.1, MASKS, 0, {"a": 1}, resume=at, **Q)


def corrupted(net, at):
    wanted = [Condition("brightness", 1), Condition("brightness", 2)]
    big, masks = X.repeat(1, 1, 4, 4), ia.band_masks(3, (32, 32))
    return responses(net, big, Y, wanted, masks, cache=at, workers=1, **Q).tables[SAVE]


MEASURED = {  # and after how many images the network is killed
    "worths": (40, lambda net, at: ia.coalition_worths(
        net, X, Y, MASKS, resume=at, batch_size=4, **Q).table),
    "sampled": (50, lambda net, at: ia.sampled_worths(
        net, X, Y, MORE, budget=60, resume=at, batch_size=4, **Q).tables[SAVE]),
    "published": (40, lambda net, at: published_worths(
        net, X.repeat(1, 1, 2, 2), Y, 3, resume=at)),
    "robustness": (40, lambda net, at: responses(
        net, X, Y, [Condition("white_noise", s / 10) for s in range(1, 9)], MASKS, resume=at,
        batch_size=2, **Q).tables[SAVE]),
    "examination": (60, lambda net, at: np.stack([*examine(
        net, X, Y, {"a": {"method": "saliency"}}, steps=4, n_shown=1, resume=at, **Q
        ).tables.values()])),
    "snr": (10, snr),
    "corrupted": (1000, corrupted),
}
if __name__ == "__main__":  # not in the processes that corrupt
    for at, out in zip(sys.argv[1::2], sys.argv[2::2]):
        for name, (left, measured) in MEASURED.items():
            try:
                table = measured(Line(1e9 if out != "killed" else left).eval(), Path(at))
                save_table(Path(out, f"{name}.npz"), {}, {"table": table})
            except KeyboardInterrupt:
                pass
'''
FAULTS = {  # module -> what is wrong in it at first
    "game/values": (
        '"log_likelihood": lambda outputs, labels: _expected(outputs.log_softmax(-1)',
        '"log_likelihood": lambda outputs, labels: 2 * _expected(outputs.log_softmax(-1)',
    ),
    "game/published": ("logits.float().log_softmax(-1)", "2 * logits.float().log_softmax(-1)"),
    "robustness/responses": ("log_p.gather(1, label)[:, 0],", "2 * log_p.gather(1, label)[:, 0],"),
    "attribution/examine": ('found["total"] = a.cpu()', 'found["total"] = 2 * a.cpu()'),
    "robustness/snr": (
        "match_energy(one, changed, energy)",
        "match_energy(one, changed, 2 * energy)",
    ),
    "robustness/corruptions": (
        "brighter = (value + more).clip(0, 1)",
        "brighter = (value + more / 2)",
    ),
}


@pytest.mark.slow
def test_nothing_of_faulty_code_remains_once_it_is_corrected(tmp_path):
    """Killed in the middle, corrected, gone on with: as from an empty folder, to the byte."""
    copy = tmp_path / "iaside"
    shutil.copytree(ROOT / "iaside", copy, ignore=shutil.ignore_patterns("__pycache__"))
    right = {module: (copy / f"{module}.py").read_text() for module in FAULTS}
    (tmp_path / "measure.py").write_text(MEASURE)

    def measure(*places):
        command = [sys.executable, "measure.py", *places]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return {path.name: path.read_bytes() for path in (tmp_path / places[-1]).glob("*.npz")}

    for module, (good, bad) in FAULTS.items():
        assert right[module].count(good) == 1, module
        (copy / f"{module}.py").write_text(right[module].replace(good, bad))
    faulty = measure("used", "killed", "faulty", "whole")
    killed = [path.name for path in (tmp_path / "killed").glob("*.npz")]
    assert killed == ["corrupted.npz"], "the others are not done"
    kept = {path.name.partition("-")[0] for path in (tmp_path / "used").glob("*")}
    assert kept == {
        "worths",
        "clean",
        "sampled",
        "published",
        "robustness",
        "examination",
        "snr",
        "corrupted",
    }
    for module, text in right.items():
        (copy / f"{module}.py").write_text(text)
    fresh = measure("used", "gone-on", "empty", "fresh")
    gone_on = {p.name: p.read_bytes() for p in (tmp_path / "gone-on").glob("*.npz")}
    assert len(fresh) == 7 and gone_on == fresh
    assert not [name for name in fresh if faulty[name] == fresh[name]], "each fault has an effect"
    assert len(list((tmp_path / "used").glob("corrupted-*"))) == 1, "those of the fault are gone"
