"""Outside a clone: a card without what only the pipeline needs, and messages that fit there."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from smoke import ROOT

import iaside as ia
from iaside.card.commands import main
from iaside.inputs import project
from iaside.tables import Worths

PIPELINE = "jupyterlab notebook ipykernel IPython nbformat nbconvert nbclient papermill dvc".split()
EXTRAS = (
    "torchattacks captum sklearn openvino imagecorruptions skimage cv2 dask distributed".split()
)
NETS = """
import torch


def build(recipe):
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    return net.append(torch.nn.Linear(12, recipe["num_classes"]))
"""
RECIPE = {"num_classes": 2, "input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
RECIPE |= {"crop_pct": 1.0, "interpolation": "bilinear"}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with what somebody has: a checkpoint, code that builds it, a folder with flaws."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    net.append(torch.nn.Linear(12, 2))
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"state_dict": state}, "own.pth")
    Path("own.json").write_text(json.dumps(RECIPE))
    draw = np.random.default_rng(0)
    for k in range(10):
        place = Path("pictures", "ab"[k % 2], *["deep"] * (k > 7))
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).convert(["RGB", "L", "CMYK", "RGB"][k % 4])
        picture.save(place / f"{k}.jpg")
    pixels = draw.integers(0, 2**16, (40, 50), dtype=np.uint16)
    Image.fromarray(pixels).save("pictures/a/deep.png")
    whole = Path("pictures/a/0.jpg").read_bytes()
    Path("pictures/a/broken.jpg").write_bytes(whole[: len(whole) // 2])
    Path("pictures/b/notes.txt").write_text("x")
    return tmp_path


@pytest.mark.slow
def test_a_card_is_made_where_neither_the_pipeline_nor_an_extra_is_installed(elsewhere):
    words = ["report", "own.pth", "pictures", "--factory", "nets.py:build", "--bands", "2"]
    code = (
        "import sys, json\n"
        f"sys.modules |= dict.fromkeys({PIPELINE + EXTRAS})\n"  # which None makes absent
        "from iaside.card.commands import main\n"
        f"done = main({[*words, '-o', 'card.html']})\n"
        "print(json.dumps([done, [m for m in sys.modules if m.startswith('iaside')]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended, modules = json.loads(done.stdout.splitlines()[-1])
    assert ended == 0, done.stderr
    page = Path("card.html").read_text(encoding="utf-8")
    assert "needs torchattacks; run: pip install --no-deps torchattacks==" in page
    assert "1 unreadable images left out" in done.stderr and "broken.jpg" in done.stderr
    assert ".py:" not in done.stderr, "a warning is a line of its own"
    assert not [m for m in modules if m.startswith(("iaside.study", "iaside.verdicts"))]
    assert not [line for m in modules for line in of_a_clone(m)]


OF_A_CLONE = re.compile(r"dvc|params\.yaml|notebooks/|studies/|data/|make (repro|test)|\.build")
SAID_IN_A_CLONE = {  # where project.CLONE is asked first
    "iaside.inputs.libraries": {" outside data/ (the pipeline may restore data/weights)"},
    "iaside.inputs.listing": {
        "data/images/photographs",
        "data/images/mnist_5k.npz",
        "data/images",
        "): run `python data/fetch.py`.",
    },
}


def of_a_clone(module):
    """Strings of a module, docstrings apart, that name what only a clone has."""
    path = ROOT / (module.replace(".", "/") + ".py")
    if not path.is_file():
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    stated = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            known = SAID_IN_A_CLONE.get(module, set())
            if id(node) not in stated and node.value not in known:
                if OF_A_CLONE.search(node.value):
                    yield f"{module}: {node.value!r}"


def tried(call):
    with pytest.raises((OSError, ValueError)) as error:
        call()
    return str(error.value)


def test_messages_name_nothing_of_a_clone(elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(project, "CLONE", False)
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *a, **k: 1 / 0)
    monkeypatch.setenv("TORCH_HOME", str(elsewhere / "hub"))
    said = [
        tried(lambda: ia.load_images("nowhere")),
        tried(lambda: ia.load_images("photographs")),
        tried(lambda: ia.load_model("resnet81")),
        tried(lambda: ia.load_model("resnet18")),
        tried(lambda: ia.load_model("mine", weights="nothing.pth")),
        tried(lambda: ia.load_model("mine", weights="own.pth", factory="none.py:build")),
        tried(lambda: Worths.load("nothing.npz")),
        tried(lambda: ia.Explanation.load("nothing.npz")),
    ]
    for words in (["explain", "nothing", "pictures"], ["explain", "own.pth", "nowhere"]):
        assert main(words) == 2
        said.append(capsys.readouterr().err)
    for line in said:
        assert not OF_A_CLONE.search(line) and str(ROOT) not in line, line


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [  # what is changed, more words, what is said
        (lambda: Path("own.json").unlink(), [], r"own.pth has no recipe.*--recipe, --architecture"),
        (lambda: Path("pictures/c").mkdir(), [], r"'c' of pictures holds no images.*such as a,b.*"),
        (lambda: None, ["--classes", "a,x"], r"no index for 'b'.*here: --classes"),
        (
            lambda: None,
            ["--architecture", "resnet18"],
            r"architecture='resnet18' says what weights",
        ),
        (lambda: Path("own.pth").write_text("<html>"), [], "web page"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_its_own_words(
    elsewhere, change, words, said, capsys
):
    change()
    given = ["explain", "own.pth", "pictures", "--bands", "2", "--factory", "nets.py:build"]
    assert main([*given, *words]) == 2
    assert re.search(said, capsys.readouterr().err, re.S)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clone", [True, False])
def test_a_folder_here_comes_before_a_packaged_set_of_its_name(
    elsewhere, clone, monkeypatch, capsys
):
    monkeypatch.setattr(project, "CLONE", clone)
    Path("pictures").rename("photographs")
    given = ["explain", "own.pth", "photographs", "--bands", "2", "--factory", "nets.py:build"]
    assert main([*given, "--csv"]) == 0, capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_an_empty_class_folder_is_counted_or_named_away(elsewhere, capsys):
    Path("pictures/0 empty").mkdir()
    given = ["explain", "own.pth", "pictures", "--bands", "2", "--factory", "nets.py:build"]
    assert main([*given, "--classes", "a,b", "--csv"]) == 0
    err = capsys.readouterr().err
    assert "labels of its 2 classes: a=0, b=1" in err
    recipe = RECIPE | {"num_classes": 3}
    Path("own.json").write_text(json.dumps(recipe))
    net = torch.nn.Linear(12, 3)
    torch.save({"2.weight": net.weight, "2.bias": net.bias}, "own.pth")
    assert main([*given, "--csv"]) == 0
    assert "a=1, b=2" in capsys.readouterr().err
