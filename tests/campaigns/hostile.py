"""Studies, recipes, tables and folders that nobody should write, and somebody will.

Each is taken, or refused in one line that says what and why; nothing else, in seconds.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import test_files
import yaml
from child import drawn, in_child, nothing, unclear
from PIL import Image

from iaside.inputs.classifier import load_model, save_weights, untrained
from iaside.inputs.images import load_images
from iaside.study import check
from iaside.study.overlays import written_out

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30  # seconds
VALUES = (
    None,
    math.nan,
    math.inf,
    -1,
    0,
    1.5,
    10**30,
    1e308,
    True,
    "",
    " ",
    "x" * 5000,
    "../../etc",
    "nul\0",
    "[1]",
    [],
    {},
    [[]],
    [None],
    ["a", 1],
    {"a": {"b": []}},
    [1] * 3000,
    -0.0,
    "1e9",
    "data",
    "/",
    "~",
    ".",
    "ä ö",
    "\u202e",
    {1: 2},
    [math.nan],
    [-1],
    [10**9],
    "auto",
    "null",
)


# -- how they are made -----------------------------------------------------------------------------


def places(tree: object, path: tuple = ()) -> Iterator[tuple]:
    """The way to everything in nested dictionaries and lists."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else (enumerate(tree) if isinstance(tree, list) else ())
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated(tree: object, draw: random.Random) -> object:
    """The same with something replaced, removed, renamed or doubled."""
    tree = copy.deepcopy(tree)
    *way, last = draw.choice(list(places(tree)))
    parent = functools.reduce(lambda part, key: part[key], way, tree)
    kind = draw.choice(("replace", "replace", "replace", "remove", "rename"))
    if kind == "replace":
        parent[last] = draw.choice(VALUES)
    elif kind == "rename" and isinstance(parent, dict):
        parent[draw.choice(("x", "", str(last) + "s", str(last)[:-1], "a.b", "../x"))] = parent.pop(
            last
        )
    else:
        del parent[last]
    return tree


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The same bytes with some changed, cut off, put in or zeroed."""
    data, at = bytearray(data), draw.randrange(max(1, len(data)))
    kind = draw.choice(("flip", "flip", "cut", "insert", "zero", "random"))
    if kind == "flip":
        for _ in range(draw.choice((1, 1, 3, 30))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = draw.randbytes(draw.choice((1, 8, 1000)))
    elif kind == "zero":
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    else:
        data[:] = draw.randbytes(len(data))
    return bytes(data)


def studies(draw: random.Random, folder: Path) -> Callable[[], object]:
    text = written_out(ROOT / "studies/smoke.yaml")
    path = folder / "study.yaml"
    kind = draw.choice(("tree", "tree", "tree", "bytes", "strange"))
    if kind == "tree":
        path.write_text(yaml.safe_dump(mutated(yaml.safe_load(text), draw), allow_unicode=True))
    elif kind == "bytes":
        path.write_bytes(damaged(text.encode(), draw))
    else:
        bomb = "a0: &a0 [x, x]\n" + "".join(
            f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 30)
        )
        path.write_bytes(
            draw.choice(
                (
                    b"",
                    b"[]",
                    b"3",
                    b"- 1\n- 2\n",
                    text.encode("utf-16"),
                    b"\xff" + text.encode(),
                    text.replace(" ", "\t").encode(),
                    b"[" * 20_000,
                    b"{a: " * 20_000,
                    bomb.encode(),
                    b"a: &a [*a]\n" + text.encode(),
                    (text + text).encode(),
                    b"\0" * 1000,
                    b"!!python/object/apply:os.system ['touch hostile']\n",
                )
            )
        )
    return lambda: check.main([str(path)])


@functools.cache
def network() -> tuple[bytes, dict]:
    """The weights and the recipe of a network of our own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_weights(untrained("small_cnn", 3, 16, 0), path)
        return path.read_bytes(), json.loads(path.with_suffix(".json").read_text())


def recipes(draw: random.Random, folder: Path) -> Callable[[], object]:
    weights, recipe = network()
    path = folder / "net.safetensors"
    spoiled = draw.random() < 0.3
    path.write_bytes(damaged(weights, draw) if spoiled else weights)
    text = json.dumps(recipe if spoiled else mutated(recipe, draw)).encode()
    path.with_suffix(".json").write_bytes(text if draw.random() < 0.8 else damaged(text, draw))
    return lambda: load_model("small_cnn", weights=path, recipe=path.with_suffix(".json")) and 0


def tables(draw: random.Random, folder: Path) -> Callable[[], object]:
    save, load, _ = test_files.LOADERS[draw.choice(list(test_files.LOADERS))]
    path = folder / "answers.npz"
    save(path)
    before = said(load(path))
    path.write_bytes(damaged(path.read_bytes(), draw))
    return lambda: 0 if said(load(path)) == before else 3


def said(loaded: object) -> str:
    """All that a table holds, numbers to the last digit."""
    if isinstance(loaded, np.ndarray) or hasattr(loaded, "numpy"):
        return np.asarray(loaded).tobytes().hex()
    if isinstance(loaded, dict):
        return str(sorted((str(key), said(value)) for key, value in loaded.items()))
    if isinstance(loaded, list | tuple):
        return str([said(value) for value in loaded])
    return said(vars(loaded)) if hasattr(loaded, "__dict__") else repr(loaded)


def folders(draw: random.Random, folder: Path) -> Callable[[], object]:
    top = folder / "images"
    for k in range(draw.randrange(5)):
        inside = top / draw.choice(("a", "b", "n01440764", "c/d", ".hidden", "ä", "0", "x" * 200))
        inside.mkdir(parents=True, exist_ok=True)
        for name in draw.sample(
            ("1.png", "2.JPEG", "3.jpg", "4.txt", "5.png", "6.webp", ".7.png"), draw.randrange(4)
        ):
            one_file(draw, inside / f"{k}{name}", top)
    top.mkdir(exist_ok=True)
    if draw.random() < 0.3:
        (top / "labels.csv").write_bytes(
            draw.choice(
                (
                    b"",
                    b"file,label\n",
                    b"file,label\na/01.png,0\n",
                    b"\xff\xfe",
                    b"file,label\nx,-1\n",
                    b"a,b,c\n1,2,3\n",
                    b"file,label\n../../etc/passwd,0\n",
                )
            )
        )
    n = draw.choice((1, 4, 0, -1, 10**9, 1.5))
    return lambda: load_images(top, n) and 0


def one_file(draw: random.Random, path: Path, top: Path) -> None:
    """A picture, or what only has the name of one."""
    kind = draw.choice(
        (
            "picture",
            "picture",
            "damaged",
            "empty",
            "text",
            "loop",
            "broken",
            "pipe",
            "tiny",
            "deep",
            "endless",
        )
    )
    if kind in ("picture", "damaged"):
        size = draw.choice((8, 32)), draw.choice((8, 40))
        Image.new("RGB", size, tuple(draw.randbytes(3))).save(path, format="PNG")
    if kind == "damaged":
        path.write_bytes(damaged(path.read_bytes(), draw))
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "loop":
        path.with_suffix("").symlink_to(top, target_is_directory=True)
    elif kind == "broken":
        path.symlink_to("not/there")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "tiny":
        Image.new("L", (1, 1)).save(path, format="PNG")
    elif kind == "deep":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path, format="PNG")
    elif kind == "endless":
        path.symlink_to("/dev/zero")


KINDS = (studies, studies, recipes, tables, folders)


# -- what becomes of them --------------------------------------------------------------------------


def attempt(part: str, k: int, seed: int, place: Path) -> dict:
    """One hostile input, given to what reads it."""
    draw, kind = drawn(seed, part, k), KINDS[k % len(KINDS)]
    folder = place / "tries" / f"hostile-{k}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        ended = in_child(kind(draw, folder), LIMIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = nothing(f"{kind.__name__}, {'taken' if ended.code == 0 else 'refused'}")
    said = f"{kind.__name__}: {ended.text[-300:]}"
    if ended.code is None:
        return found | {"hangs": 1, "what": said}
    if ended.code == 3:  # other numbers, without a word
        return found | {"changed": 1, "what": said}
    if ended.code and (ended.code < 0 or unclear(ended.text)):
        return found | {"unclear": 1, "what": f"{ended.code} {said}"}
    return found
