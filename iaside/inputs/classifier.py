"""Name or path -> a classifier that takes pixels in [0, 1] and carries its own recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from iaside.backend.answers import logits_of, not_as_said, place_of, taken
from iaside.backend.files import replacing, write_text
from iaside.backend.precision import undisturbed
from iaside.inputs import factories, project, robustbench, saved
from iaside.inputs.architectures import ARCHITECTURES
from iaside.inputs.checks import check_weights
from iaside.inputs.project import find_file
from iaside.inputs.recipes import channels_of, checked_recipe, read_recipe, recipe_beside
from iaside.inputs.weights import load_state, read_state

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IMAGENET_GREY = {field: round(sum(values) / 3, 6) for field, values in IMAGENET.items()}


class Classifier(nn.Module):
    """A network that takes pixels in [0, 1]: normalisation inside, eval mode, frozen parameters.

    net: any module (B, C, H, W) -> (B, K), of the channels that the recipe says, mostly 3;
    recipe: the dict of ``inputs.recipes``, which need not say library and architecture;
    name: what tables and figures call it.
    Attributes: net, recipe, name, input_size (H, W), mean and std (1, C, 1, 1).

    >>> recipe = dict(num_classes=2, input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3,
    ...               crop_pct=1.0, interpolation="bilinear")
    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    >>> Classifier(net, recipe, "mine")(torch.rand(5, 3, 32, 32)).shape
    torch.Size([5, 2])
    """

    def __init__(self, net: nn.Module, recipe: dict, name: str):
        super().__init__()
        if not isinstance(net, nn.Module):
            raise TypeError(
                f"{name}: net is a {type(net).__name__}, and a Classifier holds a torch module; "
                "give other callables to the loops as they are"
            )
        self.net = net
        self.recipe = checked_recipe(recipe, name, given=True)
        self.name = name
        self.input_size = tuple(recipe["input_size"][-2:])
        for key in ("mean", "std"):  # they are in the recipe, hence not in the state dict
            self.register_buffer(key, self._exact(key), persistent=False)
        try:
            self.eval()
        except NotImplementedError:  # of what torch.export made, which has no modes
            for module in self.modules():
                module.training = False
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits.  x: (B, C, H, W) pixels in [0, 1];  returns (B, K) in the net's dtype.

        ValueError where the net does not give what the recipe's ``outputs`` says.
        """
        floating = (p.dtype for p in self.net.parameters() if p.is_floating_point())
        given = self.net(((x - self.mean) / self.std).to(next(floating, x.dtype)))
        outputs = self.recipe.get("outputs", "logits")
        if outputs == "logits":
            return given
        if not isinstance(given, Tensor):
            given = taken(given, place_of(given, len(x), outputs, class_outputs=True))
        if wrong := not_as_said(given, outputs):
            raise ValueError(
                f"{self.name}: the recipe says outputs {outputs!r}, but {wrong}; correct that field"
            )
        return logits_of(given, outputs)

    def _exact(self, key: str) -> Tensor:
        parameter = next(self.net.parameters(), torch.empty(0, device="cpu"))
        values = torch.tensor(self.recipe[key], dtype=torch.float32, device=parameter.device)
        return values.view(1, -1, 1, 1)

    def _apply(self, fn, recurse=True):
        # .to(bfloat16) must not round mean and std: up to 0.4 %, the same way in all images.
        super()._apply(fn, recurse)
        self.mean, self.std = self._exact("mean"), self._exact("std")
        return self


@undisturbed
def load_model(
    name: str,
    weights: str | Path | None = None,
    recipe: dict | str | Path | None = None,
    pretrained: bool = True,
    seed: int = 0,
    packaged: bool = True,
    factory: str | Callable[[dict], nn.Module] | None = None,
    architecture: str | None = None,
) -> Classifier:
    """Load an image classifier that takes pixels in [0, 1].

    name: a timm or torchvision name. A name both know (resnet18) is torchvision's with its
        IMAGENET1K_V1 weights, which the papers used; timm's have a tag (resnet18.a1_in1k), and of
        the Hugging Face Hub its networks are hf-hub:owner/name, and of RobustBench, where that is
        installed, robustbench:Standard or robustbench:imagenet/Linf/Salman2020Do_R18. With
        `weights` the recipe says what the network is, and `name` is only what reports call it.
    weights: a file of a state dict (.safetensors, .pth, ...) or a trainer's checkpoint, of which
        the averaged weights are taken where it has some; with its recipe beside it (x.json) or in
        `recipe`; or a folder as timm and transformers save it (config.json, model.safetensors). A
        relative path is looked for here, then in the project's folder.
        None takes data/weights/<name>.safetensors where it exists (packaged, or fetched for a
        study), else the library's own pretrained weights (a download).
    recipe: a dict, or the path of a JSON file (looked for as `weights` are), instead of the file
        beside the weights;  num_classes 0 means a network without its classifier head.
    pretrained: False gives the untrained control: the same network on the same crops, convolutions
        and linear layers initialised as He et al. (2015), their biases 0, norm layers reset, all
        else as the library initialises it; ImageNet's mean and std, whatever the recipe says.
        A function of `seed` alone; no global random state moves. Nothing normalises yet what
        passes through it: `untrained_control` gives its batch norms the statistics of images.
    packaged: False passes over data/weights when `weights` is None.
    factory: who builds an architecture of one's own: "nets.py:build", a file here or in the
        project's folder architectures and a function (recipe) -> torch.nn.Module in it, or the
        function. The file is run: a recipe that came with weights names none (`inputs.factories`).
    architecture: the timm or torchvision name of what the weights are of, in place of a recipe: it
        is the library's, for the classes, channels and image size that the weights have
        (`inputs.fitting`).

    Raises ValueError (unknown name, recipe incomplete, weights that do not fit) and
    FileNotFoundError (no such weights or recipe file, or weights that cannot be downloaded).
    Source of the untrained control: Luo et al. 2024, Fig. 6.

    >>> model = load_model("squeezenet1_1", pretrained=False)
    >>> model.input_size, model(torch.rand(1, 3, 224, 224)).shape
    ((224, 224), torch.Size([1, 1000]))
    """
    stored = project.PROJECT / "data" / "weights" / f"{name}.safetensors"
    own = factory is not None
    if architecture is not None and (weights is None or recipe is not None or own):
        raise ValueError(
            f"architecture={architecture!r} says what weights= are of, in place of recipe= and "
            "factory=: give it with weights= alone"
        )
    if name.startswith(robustbench.PREFIX) and weights is None:
        if recipe is not None or own or not pretrained:
            raise ValueError(
                f"load_model({name!r}) takes RobustBench's network and recipe as they are, and its "
                "weights: leave recipe=, factory= and pretrained= out"
            )
        return Classifier(*robustbench.load(name), name)
    if isinstance(recipe, str | Path):
        recipe = read_recipe(find_file(Path(recipe), "recipe"), own)
    if weights is not None:
        path, recipe, made = _given(Path(weights), recipe, own, architecture)
        if made is not None:
            return Classifier(made, recipe, name)
    elif own and recipe is None:
        raise ValueError(
            f"load_model({name!r}, factory=...) without weights or recipe: give weights= with its "
            "recipe beside it, or recipe= and pretrained=False"
        )
    elif recipe is not None and pretrained:
        raise ValueError(
            f"load_model({name!r}, recipe=...) without weights: a recipe describes a "
            "weights file. Give weights='file.safetensors' too, or pretrained=False."
        )
    elif packaged and stored.is_file() and recipe is None:
        path = stored
        recipe = recipe_beside(path)
    else:
        path = None
        recipe = checked_recipe(
            recipe or _recipe_of_library(name, stored), f"the recipe of {name}", own
        )

    # On the CPU whatever the default device is: the seed then means the same network everywhere.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        net = _build(recipe) if factory is None else factories.build(factory, recipe)
        if not pretrained:
            _kaiming(net)
            # That initialisation keeps the scale of its input, whereas trained weights may be made
            # for any: pixels up to 255, and an untrained network is certain of random classes.
            recipe = recipe | _imagenet(channels_of(recipe))
    if pretrained:
        state = read_state(path) if path else _libraries().download(name, recipe)
        load_state(net, state, path or name)
    return Classifier(net, recipe, name)


def _given(
    weights: Path, recipe: dict | None, own: bool, architecture: str | None
) -> tuple[Path | None, dict, nn.Module | None]:
    """The file and recipe of somebody's weights; or the network, where another library builds it.

    own: whether a factory does.
    """
    path = find_file(weights, "weights", folders=True)
    if path.is_dir():
        found = saved.from_folder(path)
        path = found.weights
        if found.net is not None:
            return None, found.recipe, found.net
        recipe = recipe or found.recipe
    elif architecture is not None:
        from iaside.inputs.fitting import recipe_for

        recipe = recipe_for(architecture, read_state(path), path)
    recipe = recipe or recipe_beside(path, own)
    return path, checked_recipe(recipe, f"the recipe of {path}", own), None


def _imagenet(channels: int) -> dict:
    """Its mean and std, of grey or other channels the mean of those of its colours."""
    if channels == 3:
        return IMAGENET
    return {field: [value] * channels for field, value in IMAGENET_GREY.items()}


def save_weights(model: Classifier, path: str | Path) -> None:
    """Write a model's weights (safetensors) and its recipe (JSON, beside it), each atomically.

    path: ends in .safetensors; its folder is made when it does not exist.

    >>> import tempfile
    >>> model = load_model("squeezenet1_1", pretrained=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(model, f"{folder}/mine.safetensors")
    ...     load_model("mine", weights=f"{folder}/mine.safetensors").recipe == model.recipe
    True
    """
    check_classifier(model, "save_weights")
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"save_weights writes .safetensors, got {str(path)!r}: change the ending.")
    state = model.net.state_dict()
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            raise ValueError(
                f"save_weights writes dense tensors, and {key!r} is none (of a quantised "
                "network?); save this one with torch.save"
            )
    # clone: safetensors refuses tensors that share memory
    state = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    # The recipe first: weights without a recipe are of no use, a recipe alone does no harm.
    write_text(path.with_suffix(".json"), json.dumps(model.recipe, indent=2) + "\n")
    with replacing(path) as file:
        file.write(save(state))


def check_classifier(model: object, what: str) -> None:
    """Refuse what is no Classifier, or one whose weights have no values."""
    if not isinstance(model, Classifier):
        raise TypeError(
            f"{what} takes a Classifier, got a {type(model).__name__}; wrap a torch module: "
            "Classifier(module, recipe, name)"
        )
    check_weights(model)


@undisturbed
def untrained(name: str, num_classes: int, side: int, seed: int) -> Classifier:
    """A network to be trained on pixels as they are, as its library initialises it.

    name: one of architectures.py, or of torchvision or timm;  side: of the images, in pixels.
    A function of the arguments alone; no global random state moves.
    Raises ValueError for an unknown name.

    >>> untrained("small_cnn", num_classes=10, side=32, seed=0)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    iasides = name in ARCHITECTURES
    recipe = {
        "library": "iaside" if iasides else _libraries().recipe_of(name)["library"],
        "architecture": name,
        "num_classes": num_classes,
        "input_size": [3, side, side],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    }
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return Classifier(_build(recipe), recipe, name)


def _build(recipe: dict) -> nn.Module:
    """The architecture of a recipe with the library's own random initialisation, on the CPU."""
    name = recipe["architecture"]
    if recipe["library"] != "iaside":
        return _libraries().build(recipe)
    if name not in ARCHITECTURES:
        raise ValueError(f"iaside has no architecture {name!r}; it has {', '.join(ARCHITECTURES)}.")
    net = ARCHITECTURES[name](recipe["num_classes"] or 1)
    if not recipe["num_classes"]:
        from iaside.inputs.headless import take_off  # which imports this module

        take_off(net)
    return net


def _recipe_of_library(name: str, stored: Path) -> dict:
    try:
        return _libraries().recipe_of(name)
    except ValueError as error:
        there = f"there is no weights file {stored}, and " if project.CLONE else ""
        raise ValueError(f"{there}{error}") from error


def _libraries():
    """timm and torchvision, which take seconds to import and which our own networks do not need."""
    from iaside.inputs import libraries

    return libraries


def _kaiming(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            module.reset_parameters()
