"""Name or path -> a classifier that takes pixels in [0, 1] and carries its own recipe.

A *recipe* is the dict that says how a network wants its images: library ("timm", "torchvision", or
"iaside" for those of architectures.py), architecture, num_classes, input_size (3, H, W), mean, std,
crop_pct, interpolation, and for the few timm networks that squash instead of crop, crop_mode. It
travels with the weights as a JSON file.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from iaside.architectures import ARCHITECTURES
from iaside.machine import arithmetic

FOLD = 2  # passes of one image by which `folded` checks itself
PROJECT = Path(__file__).resolve().parents[1]
RECIPE_FIELDS = (
    "library",
    "architecture",
    "num_classes",
    "input_size",
    "mean",
    "std",
    "crop_pct",
    "interpolation",
)

# These two carry training-only heads. Their pretrained builders also set transform_input: it turns
# ImageNet-normalised pixels into (x - 0.5) / 0.5; a recipe with mean = std = 0.5 is the same thing.
_AUXILIARY = ("googlenet", "inception_v3")


class Classifier(nn.Module):
    """A network that takes pixels in [0, 1]: normalisation inside, eval mode, frozen parameters.

    net: any module (B, 3, H, W) -> (B, K);  recipe: the dict described at the top of this file;
    name: what tables and figures call it.
    Attributes: net, recipe, name, input_size (H, W), mean and std (1, 3, 1, 1).

    >>> recipe = dict(library="torchvision", architecture="mine", num_classes=2,
    ...               input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0,
    ...               interpolation="bilinear")
    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    >>> Classifier(net, recipe, "mine")(torch.rand(5, 3, 32, 32)).shape
    torch.Size([5, 2])
    """

    def __init__(self, net: nn.Module, recipe: dict, name: str):
        super().__init__()
        self.net = net
        self.recipe = _checked(recipe, name)
        self.name = name
        self.input_size = tuple(recipe["input_size"][-2:])
        for key in ("mean", "std"):  # they are in the recipe, hence not in the state dict
            self.register_buffer(key, self._exact(key), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits.  x: (B, 3, H, W) pixels in [0, 1];  returns (B, K) in the net's dtype."""
        floating = (p.dtype for p in self.net.parameters() if p.is_floating_point())
        return self.net(((x - self.mean) / self.std).to(next(floating, x.dtype)))

    def _exact(self, key: str) -> Tensor:
        parameter = next(self.net.parameters(), torch.empty(0))
        return torch.tensor(self.recipe[key], device=parameter.device).view(1, 3, 1, 1)

    def _apply(self, fn, recurse=True):
        # .to(bfloat16) must not round mean and std: up to 0.4 %, the same way in all images.
        super()._apply(fn, recurse)
        self.mean, self.std = self._exact("mean"), self._exact("std")
        return self


def load_model(
    name: str,
    weights: str | Path | None = None,
    recipe: dict | str | Path | None = None,
    pretrained: bool = True,
    seed: int = 0,
    packaged: bool = True,
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
        A function of `seed` alone; no global random state moves.
    packaged: False passes over data/weights when `weights` is None.

    Raises ValueError (unknown name, recipe incomplete, weights that do not fit) and
    FileNotFoundError (no such weights or recipe file, or weights that cannot be downloaded).
    Source of the untrained control: seed 002 Fig. 6.

    >>> model = load_model("squeezenet1_1", pretrained=False)
    >>> model.input_size, model(torch.rand(1, 3, 224, 224)).shape
    ((224, 224), torch.Size([1, 1000]))
    """
    stored = PROJECT / "data" / "weights" / f"{name}.safetensors"
    if isinstance(recipe, str | Path):
        recipe = _read_recipe(_found(Path(recipe), "recipe"))
    if weights is not None:
        path = _found(Path(weights), "weights")
        recipe = _checked(recipe or _recipe_beside(path), f"the recipe of {path}")
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
        recipe = _checked(recipe or _library_recipe(name), f"the recipe of {name}")

    # On the CPU whatever the default device is: the seed then means the same network everywhere.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        net = _build(recipe)
        if not pretrained:
            _kaiming(net)
            # That initialisation keeps the scale of its input, whereas trained weights may be made
            # for any: pixels up to 255, and an untrained network is certain of random classes.
            recipe = recipe | {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    if pretrained:
        state = _read_state(path) if path else _download(name, recipe)
        _load_state(net, state, path or name)
    return Classifier(net, recipe, name)


def folded(model: Classifier) -> Classifier:
    """A copy whose batch norms are part of the convolutions before them: the same function, faster.

    In eval mode a batch norm multiplies and adds, which the weights of a convolution can do where
    its output goes nowhere else. Numbers differ as by rounding in the precision that it runs in.
    The copy is to be measured, not trained or saved. Where it should give other logits for a
    random image, `model` itself is returned. What it gains: benchmarks/throughput.py.

    >>> model = load_model("tf_efficientnet_lite0", pretrained=False)
    >>> x = torch.rand(1, 3, 224, 224)
    >>> torch.allclose(folded(model)(x), model(x), rtol=1e-3, atol=1e-3)
    True
    """
    net, uses = copy.deepcopy(model.net), _Uses()
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # tensors are kept, so that no id comes again
    follows: dict[nn.Module, tuple[nn.Module, int]] = {}  # norm -> convolution, id of its output

    def note_output(conv, given, out):
        made[id(out)] = conv, out
        uses.of[id(out)] = 0  # an id may have been that of a tensor that is gone

    def note_input(norm, given):
        if id(given[0]) in made:
            follows[norm] = made[id(given[0])][0], id(given[0])

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not is_parametrized(module):
            hooks.append(module.register_forward_hook(note_output))
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(note_input))
    device = model.mean.device
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(1, 3, *model.input_size, generator=generator, device="cpu").to(device)
    with torch.no_grad(), arithmetic("float32", device), uses:
        logits = Classifier(net, model.recipe, model.name)(probe)
    for hook in hooks:
        hook.remove()
    names = {module: name for name, module in net.named_modules()}
    for norm, (conv, output) in follows.items():
        if uses.of[output] == 1:
            net.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
            net.set_submodule(names[norm], nn.Sequential(*norm.children()))  # timm's activations
    found = Classifier(net, model.recipe, model.name)
    with torch.no_grad(), arithmetic("float32", device):
        same = torch.allclose(found(probe), logits, rtol=1e-3, atol=1e-4 * logits.abs().max())
    return found if same else model


class _Uses(TorchFunctionMode):
    """Counts, by the id of a tensor, the functions that make tensors of it."""

    def __init__(self):
        super().__init__()
        self.of: Counter[int] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if next(_tensors(out), None) is not None:  # else it asked for a shape
            self.of.update({id(tensor) for tensor in _tensors([*args, *kwargs.values()])})
        return out


def _tensors(value) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


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
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"save_weights writes .safetensors, got {str(path)!r}: change the ending.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # clone: safetensors refuses tensors that share memory
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.net.state_dict().items()}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # The recipe first: weights without a recipe are of no use, a recipe alone does no harm.
        part.write_text(json.dumps(model.recipe, indent=2) + "\n")
        os.replace(part, path.with_suffix(".json"))
        save_file(state, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _found(path: Path, what: str) -> Path:
    """The file, looked for here, then in the project's folder (notebooks run elsewhere)."""
    for candidate in (path, PROJECT / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"no {what} file {str(path)!r} (looked in {Path.cwd()} and {PROJECT}). "
        "Put the file there, or correct the path."
    )


def _recipe_beside(path: Path) -> dict:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise ValueError(
            f"{path} has no recipe: put a {beside.name} beside it, or pass recipe=dict(...) or "
            f"recipe='file.json', with the fields {', '.join(RECIPE_FIELDS)}. Without it nobody "
            "knows how to size and normalise the images."
        )
    return _read_recipe(beside)


def _read_recipe(path: Path) -> dict:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); it must be one object with the fields "
            f"{', '.join(RECIPE_FIELDS)}."
        ) from error
    return _checked(recipe, f"the recipe {path}")


def _checked(recipe: dict, whose: str) -> dict:
    """A copy with lists for tuples (as JSON gives them), or an error that says what is wrong."""
    if not isinstance(recipe, dict):
        raise TypeError(
            f"{whose} must be a dict with the fields {', '.join(RECIPE_FIELDS)}, "
            f"got {type(recipe).__name__}."
        )
    if missing := [field for field in RECIPE_FIELDS if field not in recipe]:
        raise ValueError(
            f"{whose} lacks {', '.join(missing)}; the fields are {', '.join(RECIPE_FIELDS)}."
        )
    if recipe["library"] not in ("timm", "torchvision", "iaside"):
        raise ValueError(
            f"{whose}: library {recipe['library']!r} must be 'timm', 'torchvision' or 'iaside'. "
            "Any other network can be wrapped by hand: Classifier(net, recipe, name)."
        )
    if len(recipe["mean"]) != 3 or len(recipe["std"]) != 3 or min(recipe["std"]) <= 0:
        raise ValueError(
            f"{whose}: mean and std must be three numbers each, std > 0; got "
            f"mean={recipe['mean']}, std={recipe['std']}."
        )
    if len(recipe["input_size"]) not in (2, 3) or not 0 < recipe["crop_pct"] <= 1:
        raise ValueError(
            f"{whose}: input_size must be (3, H, W) or (H, W) and crop_pct in (0, 1]; got "
            f"input_size={recipe['input_size']}, crop_pct={recipe['crop_pct']}."
        )
    return {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.items()}


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _timm_config(name: str):
    """timm's configuration of a name, None if it has no such network or no such weights of it."""
    try:
        return timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # a known network with an unknown tag
        return None


def _torchvision_weights(name: str):
    choices = torchvision.models.get_model_weights(name)
    # A few large networks (vit_h_14) exist only with other weights: take their first.
    return getattr(choices, "IMAGENET1K_V1", next(iter(choices)))


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
        "library": "iaside" if iasides else _library_recipe(name)["library"],
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


def _library_recipe(name: str) -> dict:
    """The recipe of a library's own pretrained weights; nothing is downloaded for it."""
    if name in _torchvision_names():
        weights = _torchvision_weights(name)
        preset = weights.transforms()
        size, half = preset.crop_size[0], [0.5] * 3
        return {
            "library": "torchvision",
            "architecture": name,
            "num_classes": len(weights.meta["categories"]),
            "input_size": [3, size, size],
            "mean": half if name in _AUXILIARY else list(preset.mean),
            "std": half if name in _AUXILIARY else list(preset.std),
            "crop_pct": size / preset.resize_size[0],
            "interpolation": preset.interpolation.value,
        }
    if (config := _timm_config(name)) is None:
        known = sorted({*_torchvision_names(), *timm.list_models(), *timm.list_pretrained()})
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise ValueError(
            f"no model {name!r} in torchvision {torchvision.__version__} or timm "
            f"{timm.__version__}. Close: {', '.join(close) or 'none'}. For own weights "
            "pass weights='file.safetensors' with its recipe beside it."
        )
    recipe = {"library": "timm", "architecture": name, "num_classes": config.num_classes}
    eval_config = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    if eval_config["crop_mode"] == "center":
        del eval_config["crop_mode"]
    return recipe | eval_config


def _build(recipe: dict) -> nn.Module:
    """The architecture of a recipe with the library's own random initialisation, on the CPU."""
    name, classes = recipe["architecture"], recipe["num_classes"]
    if recipe["library"] == "iaside":
        if name not in ARCHITECTURES:
            raise ValueError(
                f"iaside has no architecture {name!r}; it has {', '.join(ARCHITECTURES)}."
            )
        return ARCHITECTURES[name](classes)
    if recipe["library"] == "timm":
        if _timm_config(name) is None:
            raise ValueError(
                f"timm {timm.__version__} has no architecture {name!r}; "
                "correct `architecture` in the recipe."
            )
        return timm.create_model(name, pretrained=False, num_classes=classes)
    if name not in _torchvision_names():
        raise ValueError(
            f"torchvision {torchvision.__version__} has no classifier {name!r}; "
            "correct `architecture` in the recipe."
        )
    options = {"aux_logits": False, "init_weights": False} if name in _AUXILIARY else {}
    if classes:
        return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    net = torchvision.models.get_model(name, weights=None, **options)
    # Headless: the last linear layer (SqueezeNet has none: its last convolution) is the classifier.
    layers = list(net.named_modules())
    heads = [n for n, m in layers if isinstance(m, nn.Linear)] or [
        n for n, m in layers if isinstance(m, nn.Conv2d)
    ]
    net.set_submodule(heads[-1], nn.Identity())
    return net


def _kaiming(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            module.reset_parameters()


def _download(name: str, recipe: dict) -> dict[str, Tensor]:
    """The state dict of the library's own pretrained weights."""
    torchvisions = recipe["library"] == "torchvision"
    host = "download.pytorch.org" if torchvisions else "huggingface.co"
    try:
        if torchvisions:
            return _torchvision_weights(name).get_state_dict(progress=False, check_hash=True)
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # each library has its own family of network errors
        raise FileNotFoundError(
            f"the pretrained weights of {name!r} are not packaged, and {recipe['library']} could"
            f" not get them from https://{host} ({type(error).__name__}:"
            f" {str(error).partition(chr(10))[0][:200]}). With internet access run this again;"
            f" without it, put {name}.safetensors and its recipe {name}.json (iaside.save_weights"
            " writes both) into a folder of your own outside data/ (the pipeline may restore"
            f" data/weights) and give weights='../own/{name}.safetensors', or take another model:"
            " tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2 and squeezenet1_1"
            " are packaged."
        ) from error


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
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
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
