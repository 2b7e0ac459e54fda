"""Name or path -> a classifier that takes pixels in [0, 1] and carries its own recipe.

A *recipe* is the dict that says how a network wants its images: library ("timm", "torchvision", or
"iaside" for those of architectures.py), architecture, num_classes, input_size (3, H, W), mean, std,
crop_pct, interpolation, and for the few timm networks that squash instead of crop, crop_mode.
`outputs` says what a network gives, unless logits: probabilities or binary (`inputs.probe`). It
travels with the weights as a JSON file. Other fields are notes; a name that is nearly one of these
is refused. With a factory (`iaside.inputs.factories`) library and architecture are notes, too.
"""

from __future__ import annotations

import difflib
import json
import numbers
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from iaside.backend.answers import OUTPUTS, logits_of, not_as_said, place_of, taken
from iaside.backend.files import replacing, write_text
from iaside.backend.precision import undisturbed
from iaside.inputs import factories
from iaside.inputs.architectures import ARCHITECTURES
from iaside.inputs.probe import check_weights

PROJECT = Path(__file__).resolve().parents[2]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
LARGEST_SIDE = 8192  # pixels: a picture of so many a side takes 800 MB
WHAT_IT_IS = ("library", "architecture")  # what a network is; the rest, how it wants its images
RECIPE_FIELDS = (
    *WHAT_IT_IS,
    "num_classes",
    "input_size",
    "mean",
    "std",
    "crop_pct",
    "interpolation",
)


class Classifier(nn.Module):
    """A network that takes pixels in [0, 1]: normalisation inside, eval mode, frozen parameters.

    net: any module (B, 3, H, W) -> (B, K);  recipe: the dict described at the top of this file,
    which need not say library and architecture;
    name: what tables and figures call it.
    Attributes: net, recipe, name, input_size (H, W), mean and std (1, 3, 1, 1).

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
        self.recipe = _checked(recipe, name, given=True)
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
        """Logits.  x: (B, 3, H, W) pixels in [0, 1];  returns (B, K) in the net's dtype.

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
        return values.view(1, 3, 1, 1)

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
) -> Classifier:
    """Load an image classifier that takes pixels in [0, 1].

    name: a timm or torchvision name. A name both know (resnet18) is torchvision's with its
        IMAGENET1K_V1 weights, which the papers used; timm's have a tag (resnet18.a1_in1k). With
        `weights` the recipe says what the network is, and `name` is only what reports call it.
    weights: a .safetensors, .pt or .pth file of a state dict, with its recipe beside it (x.json) or
        in `recipe`. A relative path is looked for here, then in the project's folder.
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

    Raises ValueError (unknown name, recipe incomplete, weights that do not fit) and
    FileNotFoundError (no such weights or recipe file, or weights that cannot be downloaded).
    Source of the untrained control: seed 002 Fig. 6.

    >>> model = load_model("squeezenet1_1", pretrained=False)
    >>> model.input_size, model(torch.rand(1, 3, 224, 224)).shape
    ((224, 224), torch.Size([1, 1000]))
    """
    stored = PROJECT / "data" / "weights" / f"{name}.safetensors"
    own = factory is not None
    if isinstance(recipe, str | Path):
        recipe = _read_recipe(_found(Path(recipe), "recipe"), own)
    if weights is not None:
        path = _found(Path(weights), "weights")
        recipe = _checked(recipe or _recipe_beside(path, own), f"the recipe of {path}", own)
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
        recipe = _recipe_beside(path)
    else:
        path = None
        recipe = _checked(recipe or _recipe_of_library(name, stored), f"the recipe of {name}", own)

    # On the CPU whatever the default device is: the seed then means the same network everywhere.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        net = _build(recipe) if factory is None else factories.build(factory, recipe)
        if not pretrained:
            _kaiming(net)
            # That initialisation keeps the scale of its input, whereas trained weights may be made
            # for any: pixels up to 255, and an untrained network is certain of random classes.
            recipe = recipe | IMAGENET
    if pretrained:
        state = _read_state(path) if path else _libraries().download(name, recipe)
        _load_state(net, state, path or name)
    return Classifier(net, recipe, name)


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


def _found(path: Path, what: str) -> Path:
    """The file, looked for here, then in the project's folder (notebooks run elsewhere)."""
    for candidate in (path, PROJECT / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"no {what} file {str(path)!r} (looked in {Path.cwd()} and {PROJECT}). "
        "Put the file there, or correct the path."
    )


def _recipe_beside(path: Path, given: bool = False) -> dict:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise ValueError(
            f"{path} has no recipe: put a {beside.name} beside it, or pass recipe=dict(...) or "
            f"recipe='file.json', with the fields {', '.join(RECIPE_FIELDS)}. Without it nobody "
            "knows how to size and normalise the images."
        )
    return _read_recipe(beside, given)


def _recipe_of_library(name: str, stored: Path) -> dict:
    try:
        return _libraries().recipe_of(name)
    except ValueError as error:
        raise ValueError(f"there is no weights file {stored}, and {error}") from error


def _read_recipe(path: Path, given: bool = False) -> dict:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}); it must be one object with the fields "
            f"{', '.join(RECIPE_FIELDS)}."
        ) from error
    return _checked(recipe, f"the recipe {path}", given)


def _is_whole(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_share(value) -> bool:
    """Whether this is a number in [0, 1], which NaN is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value <= 1


def _are(holds: Callable[[object], bool], value, *lengths: int) -> bool:
    return isinstance(value, list | tuple) and len(value) in lengths and all(map(holds, value))


# What a field must be; crop_mode alone may be absent.
_FIELD_RULES = {
    "architecture": (lambda v: isinstance(v, str) and v, "the name of a network"),
    "num_classes": (
        lambda v: _is_whole(v) and 0 <= v <= 1_000_000,
        "a whole number up to 1,000,000, 0 for a network without its head",
    ),
    "input_size": (
        lambda v: (
            _are(lambda side: _is_whole(side) and 0 < side <= LARGEST_SIDE, v, 2, 3)
            and (v[0] == 3) == (len(v) == 3)
        ),
        f"(3, H, W) or (H, W) in whole pixels up to {LARGEST_SIDE:,}, such as [3, 224, 224]",
    ),
    "mean": (
        lambda v: _are(_is_share, v, 3),
        "three numbers in [0, 1], as pixels are (of pixels up to 255, divide it by 255)",
    ),
    "std": (
        lambda v: _are(lambda std: _is_share(std) and std >= 1e-6, v, 3),
        "three numbers from 1e-6 to 1, as pixels are in [0, 1] (of pixels up to 255, divide it by "
        "255; 1/255 each for a network that takes such pixels as they are)",
    ),
    "crop_pct": (  # above 1 a black frame, as the largest VOLO of timm have
        lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and 0.1 <= v <= 1.2,
        "a number from 0.1 to 1.2, such as 0.875",
    ),
    "interpolation": (lambda v: v in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
    "crop_mode": (lambda v: v in ("center", "squash"), "'center' or 'squash'"),
    "outputs": (lambda v: v in OUTPUTS, f"one of {', '.join(OUTPUTS)}"),
}


def _checked(recipe: dict, whose: str, given: bool = False) -> dict:
    """A copy with lists for tuples (as JSON gives them), or an error that says what is wrong.

    given: the network, or who builds it, is there: the recipe need not say what it is.
    """
    if not isinstance(recipe, dict):
        raise TypeError(
            f"{whose} must be a dict with the fields {', '.join(RECIPE_FIELDS)}, "
            f"got {type(recipe).__name__}."
        )
    needed = [field for field in RECIPE_FIELDS if not (given and field in WHAT_IT_IS)]
    if missing := [field for field in needed if field not in recipe]:
        hint = ""
        if "library" in missing and "factory" in recipe:
            hint = (
                f" It names the factory {recipe['factory']!r}, which is code, and a recipe cannot "
                f"choose that: if you trust that file, give factory={recipe['factory']!r}."
            )
        raise ValueError(
            f"{whose} lacks {', '.join(missing)}; the fields are {', '.join(RECIPE_FIELDS)}.{hint}"
        )
    if not given and recipe["library"] not in ("timm", "torchvision", "iaside"):
        raise ValueError(
            f"{whose}: library {recipe['library']!r} must be 'timm', 'torchvision' or 'iaside'. "
            "Any other network needs factory='nets.py:build', or is wrapped by hand: "
            "Classifier(net, recipe, name)."
        )
    known = {*RECIPE_FIELDS, *_FIELD_RULES}
    for field in recipe.keys() - known:  # others may be notes
        if close := difflib.get_close_matches(str(field).lower(), known, 1, cutoff=0.8):
            raise ValueError(
                f"{whose} has a field {field!r}, which says nothing: write {close[0]!r} if that is "
                "meant, or rename it."
            )
    for field, (holds, rule) in _FIELD_RULES.items():
        if given and field in WHAT_IT_IS:
            continue
        if field in recipe and not holds(recipe[field]):
            raise ValueError(f"{whose}: {field} must be {rule}; got {recipe[field]!r}.")
    return {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.items()}


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
    return ARCHITECTURES[name](recipe["num_classes"])


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


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a readable safetensors file ({error}): "
                "it may be incomplete; copy or download it again."
            ) from error
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"weights {str(path)!r}: the file must end in .safetensors, .pt or .pth.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip have a dozen kinds for damaged bytes
        raise ValueError(
            f"{path} holds more than tensors, or is damaged ({type(error).__name__}). "
            "Save it as torch.save(net.state_dict(), path) or as safetensors."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{path} holds no state dict; save it as torch.save(net.state_dict(), path)."
        )
    return state


def _load_state(net: nn.Module, state: dict[str, Tensor], whose: Path | str) -> None:
    own = net.state_dict()
    state = {
        k: v
        for k, v in state.items()
        if k in own or not k.startswith(("aux1.", "aux2.", "AuxLogits."))
    }
    missing, surplus = [k for k in own if k not in state], [k for k in state if k not in own]
    wrong = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    if missing or surplus or wrong:
        parts = [
            f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
            for what, keys in (
                ("missing", missing),
                ("unexpected", surplus),
                ("of another shape", wrong),
            )
            if keys
        ]
        raise ValueError(
            f"the weights of {whose} do not fit the architecture: {'; '.join(parts)}. Check "
            "`library`, `architecture` and `num_classes` in the recipe."
        )
    # Through the net's own state dict, because it carries the format versions that safetensors does
    # not keep and without which MNASNet refuses to load.
    own.update(state)
    net.load_state_dict(own)
