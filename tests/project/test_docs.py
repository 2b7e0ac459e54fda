"""What the documentation says runs: the snippets of its first page, and the site itself."""

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
PYTHON = re.compile(r"```python\n(.*?)```", re.S)


def snippets(page):
    return PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory):
    """A folder with what the guide speaks of: own weights, a recipe, photographs of two classes."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "nets.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(1))\n"
        "    def forward(self, x):\n"
        "        light = 9 * self.scale * x.mean((1, 2, 3))\n"
        "        return torch.stack([light, -light], 1)\n"
        "def build(recipe):\n"
        "    return Net()\n"
    )
    save_file({"scale": torch.ones(1)}, folder / "mine.safetensors")
    recipe = dict(num_classes=2, input_size=[3, 32, 32], mean=[0.5] * 3, std=[0.5] * 3)
    recipe |= dict(crop_pct=1.0, interpolation="bilinear")
    (folder / "mine.json").write_text(json.dumps(recipe))
    draw = np.random.default_rng(0)
    for label, light in enumerate((200, 60)):
        where = folder / "my/photographs" / f"class {label}"
        where.mkdir(parents=True)
        for k in range(3):
            pixels = draw.normal(light, 20, (40, 50, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(where / f"{k}.png")
    return folder


class _Session:  # in place of ONNX's runtime: two lines are about its call
    def __init__(self, file):
        assert file.endswith(".onnx")

    def run(self, outputs, inputs):
        return [inputs["input"].mean((2, 3))[:, :2]]


def detector(pictures):
    """Two boxes in each picture, the surer the brighter it is, as torchvision's answer."""
    two = torch.tensor([[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 4.0, 4.0]])
    return [{"boxes": two, "scores": x.mean().expand(2)} for x in pictures]


def stand_in(code):
    """The same lines for a small network of one's own and few photographs."""
    code = code.replace('"mine.safetensors")', '"mine.safetensors", factory="nets.py:build")')
    code = code.replace("n=40", "n=6").replace(
        "n_bands=32, tolerance=0.1", "n_bands=16, budget=480"
    )
    code = code.replace('name="mine")', "n_bands=3)")
    some = "mend(model, torch.cat([images] * 10), labels.repeat(10)"
    code = re.sub(r"mend\(\s*model, images, labels", some, code)
    return re.sub(r"(ia\.explain\(.*?), labels\)", r"\1, labels, n_bands=3)", code)


@pytest.mark.parametrize(
    "page", [pytest.param("docs/guide.md", marks=pytest.mark.slow), "README.md"]
)
def test_every_snippet_runs(somewhere, monkeypatch, page, capsys):
    monkeypatch.chdir(somewhere)
    runtime = type(sys)("onnxruntime")
    runtime.InferenceSession = _Session
    names = {"torch": torch, "onnxruntime": runtime, "detector": detector}
    names["truth"] = torch.tensor([[2.0, 2.0, 30.0, 30.0]]).expand(6, 4)
    found = snippets(page)
    assert found
    for code in found:
        own = dict(names) if "onnxruntime" in code else names
        exec(compile(stand_in(code), page, "exec"), own)
    assert "band" in capsys.readouterr().out


class Encoder(torch.nn.Module):
    """Stands for CLIP: mean colours, and what they are of each text."""

    def __init__(self):
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(3.0))
        self.visual = SimpleNamespace(image_mean=(0.5,) * 3, image_std=(0.25,) * 3)

    def encode_image(self, x, normalize=False):
        means = x.mean((2, 3))
        return torch.nn.functional.normalize(means, dim=-1) if normalize else means

    def encode_text(self, tokens, normalize=False):
        found = torch.nn.functional.normalize(tokens, dim=-1)
        return found if normalize else 9 * found


def pictures_of(source, like=None, n=None, seed=0, labels=True, **more):
    """Dark and light pictures, in the place of photographs."""
    y = torch.arange(n) % 2
    x = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) / 2
    return (x + y.view(-1, 1, 1, 1) / 2, y) if labels else x


def test_the_page_on_embeddings_runs(monkeypatch, capsys):
    import iaside as ia

    def network(name):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = [torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2)]
            net += [torch.nn.Flatten(), torch.nn.Linear(24, 5)][: 1 if "dino" in name else 2]
        recipe = dict(num_classes=0 if "dino" in name else 5, input_size=[3, 32, 32])
        recipe |= dict(mean=[0.5] * 3, std=[0.5] * 3, crop_pct=1.0, interpolation="bilinear")
        return ia.Classifier(torch.nn.Sequential(*net).eval(), recipe, name)

    clip = type(sys)("open_clip")
    clip.create_model_and_transforms = lambda name, pretrained: (Encoder(), None, None)
    clip.get_tokenizer = lambda name: lambda texts: torch.tensor([[-1.0] * 3, [1.0] * 3])
    monkeypatch.setitem(sys.modules, "open_clip", clip)
    monkeypatch.setattr(ia, "load_model", network)
    monkeypatch.setattr(ia, "load_images", pictures_of)
    names = {}
    for code in snippets("docs/embeddings.md"):
        exec(compile(stand_in(code), "docs/embeddings.md", "exec"), names)
    said = capsys.readouterr().out
    assert said.count("(retrieval)") == 2 and said.count("(log_likelihood)") == 2
    assert "top-1 24 of 24" in said, "the texts know dark from light"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).exists(), target


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1500
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (ROOT / target).exists(), target
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    made = {"index.md", "reference.md", "contributing.md", "changelog.md"}  # of the site
    assert {name for name in pages - made if f"(docs/{name})" not in text} == set()
    parts = [p.name for p in (ROOT / "iaside").iterdir() if not p.name.startswith("_")]
    assert {p for p in parts if f"`{p}" not in text} - {"py.typed"} == set()


def test_every_notebook_and_every_public_name_is_on_the_site(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import generated

    import iaside

    pages, listed = generated.notebooks(), (ROOT / "docs/notebooks.md").read_text("utf-8")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert pages.count(f"## `{notebook.stem}`\n") == 1, notebook.stem
        title, _ = generated._head(notebook)
        assert re.search(rf"^\| `{notebook.stem}` \| \w+ \| {re.escape(title)} \|$", listed, re.M)
    assert "**** " not in pages  # a title for each
    reference = generated.reference()
    for name in iaside.__all__:
        assert re.search(rf":: iaside\.{name}\n", reference), name
    assert set(re.findall(r"^## (.*)", reference, re.M)) <= set(generated.PARTS.values())


def test_files_that_are_named_are_there():
    named = re.compile(r"`((?:iaside|notebooks|tests|benchmarks|studies|data|docs)/[\w./-]+\.\w+)`")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    found = {name for page in pages for name in named.findall(page.read_text(encoding="utf-8"))}
    assert len(found) > 10
    own = {"studies/mine.yaml"}  # what a reader writes
    assert not [name for name in sorted(found - own) if not (ROOT / name).exists()]


def prose():
    """Comments, docstrings and Markdown, but no strings of the program: (path, text)."""
    for path in (ROOT / "iaside").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                yield path, re.sub(r"^ *(>>>|\.\.\.).*", "", text, flags=re.M)
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield path, token.string
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            yield path, "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
    for path in [ROOT / "dvc.yaml", *(ROOT / "studies").glob("*.yaml")]:
        yield path, path.read_text(encoding="utf-8")
    for path in [ROOT / "data/README.md", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        yield path, path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_works_are_cited_by_author_and_year_and_pages_by_their_headings():
    methods = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)", methods, re.M)
    for path, text in prose():
        assert not re.search(r"seeds? 00\d|\bmethods \d", text, re.I), (path, text)
        for named in re.findall(r"docs/methods\.md,\s+(\w+)", text):
            assert any(heading.split()[0] == named for heading in headings), (path, named)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ROOT / "docs", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / ".doctrees", ignore_errors=True)
    for page in tmp_path.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]*src=\"https?:", text), page.name
        assert not re.findall(r"<link[^>]*(?:stylesheet|font)[^>]*href=\"https?:", text), page.name
    assert "<math" in (tmp_path / "methods.html").read_text(encoding="utf-8")
