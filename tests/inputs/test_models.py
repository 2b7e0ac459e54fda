import builtins
import copy
import json
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from iaside.inputs import libraries, project, weights
from iaside.inputs.classifier import Classifier, load_model, save_weights
from iaside.inputs.images import load_images

RECIPE = {
    "library": "torchvision",
    "architecture": "squeezenet1_1",
    "num_classes": 7,
    "input_size": [3, 64, 64],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "crop_pct": 0.875,
    "interpolation": "bilinear",
}


@pytest.fixture
def nothing_packaged(monkeypatch, tmp_path):
    monkeypatch.setattr(project, "PROJECT", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, right",
    [
        ("tf_efficientnet_lite0", 58),
        ("tf_efficientnet_lite1", 57),
        ("tf_efficientnet_lite2", 56),
        ("squeezenet1_1", 46),
    ],
)
def test_top1_on_the_photographs(data, name, right):
    # fp32, all 70: the number depends on every step from package file to crop
    model = load_model(name)
    images, labels = load_images("photographs", like=model)
    assert images.shape == (70, 3, *model.input_size) and images.dtype == torch.float32
    logits = torch.cat([model(batch) for batch in images.split(10)])
    assert int((logits.argmax(1) == labels).sum()) == right


def test_classifier_normalises_freezes_and_passes_gradients():
    net = nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(12, 2))
    model = Classifier(net, RECIPE | {"input_size": (3, 2, 2)}, "planted")
    x = torch.rand(4, 3, 2, 2, requires_grad=True)
    by_hand = (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.25, 0.3]
    ).view(3, 1, 1)
    torch.testing.assert_close(model(x), net[2](by_hand.flatten(1)))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert (model.name, model.input_size, model.net) == ("planted", (2, 2), net)
    model(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_normalisation_stays_exact_in_low_precision():
    model = load_model("x", recipe=RECIPE, pretrained=False)
    low = copy.deepcopy(model).to(torch.bfloat16)
    assert torch.equal(low.mean, model.mean) and torch.equal(low.std, model.std)
    seen = []
    low.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, 64, 64)
    assert low(x).dtype == torch.bfloat16
    assert torch.equal(seen[0], ((x - model.mean) / model.std).to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_placement_on_a_device_this_machine_lacks(dtype):
    # fake tensors carry device and dtype without storage, so that mixing devices fails here too
    with FakeTensorMode():
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, device="cuda", dtype=dtype),
            nn.Flatten(),
            nn.Linear(4 * 36, 2, device="cuda", dtype=dtype),
        )
        model = Classifier(net, RECIPE, "placed")
        logits = model(torch.rand(2, 3, 8, 8, device="cuda"))
        assert (logits.device.type, logits.dtype) == ("cuda", dtype)
        assert (model.mean.device.type, model.mean.dtype) == ("cuda", torch.float32)
        with pytest.raises(RuntimeError, match="device"):
            model(torch.rand(2, 3, 8, 8))
        with torch.device("cuda"):  # a default device moves neither network nor normalisation
            elsewhere = load_model("x", recipe=RECIPE, pretrained=False)
        assert {t.device.type for t in (*elsewhere.parameters(), *elsewhere.buffers())} == {"cpu"}


@pytest.mark.slow
def test_untrained_control_is_kaiming_and_a_function_of_the_seed():
    before = torch.get_rng_state()
    first, again, other = (load_model("resnet18", pretrained=False, seed=s) for s in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert not torch.equal(first.net.conv1.weight, other.net.conv1.weight)
    weight = first.net.layer3[0].conv2.weight  # He 2015: variance 2 / fan_in
    assert float(weight.std()) == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.02)
    linear = first.net.fc
    assert float(linear.weight.std()) == pytest.approx((2 / linear.in_features) ** 0.5, rel=0.02)
    assert not linear.bias.any() and (first.net.bn1.weight == 1).all()


def test_untrained_control_is_normalised_with_imagenets_mean_and_std(tmp_path):
    recipe = RECIPE | {"std": [1 / 255] * 3, "crop_pct": 0.5}  # weights made for pixels up to 255
    before = copy.deepcopy(recipe)
    control = load_model("x", recipe=recipe, pretrained=False)
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert control.recipe == recipe | imagenet and recipe == before
    assert control.mean.flatten().tolist() == pytest.approx(imagenet["mean"])
    assert control.std.flatten().tolist() == pytest.approx(imagenet["std"])
    torch.save(control.net.state_dict(), tmp_path / "w.pt")
    trained = load_model("x", weights=tmp_path / "w.pt", recipe=recipe)
    assert trained.recipe == recipe  # only the control's


def test_untrained_control_covers_parameters_without_a_rule_of_ours():
    one, two, other = (
        load_model("vit_tiny_patch16_224", pretrained=False, seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(one.net.pos_embed, two.net.pos_embed) and one.net.pos_embed.any()
    assert not torch.equal(one.net.pos_embed, other.net.pos_embed)


@pytest.mark.parametrize("name", ["efficientnet_v2_s", "vit_b_16", "squeezenet1_0"])
def test_torchvision_recipe_gives_its_own_preset(nothing_packaged, name):
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    model_recipe = libraries.recipe_of(name)
    image = torchvision.transforms.functional.to_pil_image(
        torch.rand(3, 391, 517, generator=torch.Generator().manual_seed(0))
    )
    like = type("Like", (), {"recipe": model_recipe})
    ours, _ = load_images([(image, 0)], like=like)
    mean, std = (torch.tensor(model_recipe[k]).view(3, 1, 1) for k in ("mean", "std"))
    torch.testing.assert_close((ours[0] - mean) / std, weights.transforms()(image))


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite1",
        "resnet18.a1_in1k",
        "vit_tiny_patch16_224",
        "eva02_tiny_patch14_336.mim_in22k_ft_in1k",
    ],
)
def test_timm_recipe_gives_its_own_transform(nothing_packaged, name):
    recipe = libraries.recipe_of(name)
    net = timm.create_model(name)
    config = timm.data.resolve_model_data_config(net)
    image = torchvision.transforms.functional.to_pil_image(
        torch.rand(3, 391, 517, generator=torch.Generator().manual_seed(0))
    )
    ours, _ = load_images([(image, 0)], like=type("Like", (), {"recipe": recipe}))
    mean, std = (torch.tensor(recipe[k]).view(3, 1, 1) for k in ("mean", "std"))
    theirs = timm.data.create_transform(**config, is_training=False)(image)
    torch.testing.assert_close((ours[0] - mean) / std, theirs)
    assert recipe["num_classes"] == net.num_classes


def test_names_that_both_libraries_know(nothing_packaged):
    assert libraries.recipe_of("resnet18")["library"] == "torchvision"
    assert libraries.recipe_of("resnet18.a1_in1k")["library"] == "timm"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.slow
def test_transform_input_is_folded_into_the_recipe(nothing_packaged, name):
    theirs = torchvision.models.get_model(
        name, weights=None, init_weights=False, aux_logits=True, transform_input=True
    ).eval()
    recipe = libraries.recipe_of(name)
    net = libraries.build(recipe)
    weights.load_state(net, theirs.state_dict(), name)  # its auxiliary heads are left out
    preset = torchvision.models.get_model_weights(name).IMAGENET1K_V1.transforms()
    x = torch.rand(1, 3, 299, 299)
    normalised = torchvision.transforms.functional.normalize(x, preset.mean, preset.std)
    seen = []  # what reaches the first convolution: random networks forget their input later on
    for network in (net, theirs):
        first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        torch.testing.assert_close(Classifier(net, recipe, name)(x), theirs(normalised))
    torch.testing.assert_close(*seen)


@pytest.mark.parametrize("name", ["mnasnet1_0", "squeezenet1_1", "vit_tiny_patch16_224"])
@pytest.mark.slow
def test_save_and_load_give_the_same_network(tmp_path, name):
    model = load_model(name, pretrained=False, seed=5)
    path = tmp_path / "new" / "mine.safetensors"
    save_weights(model, path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["mine.json", "mine.safetensors"]
    again = load_model("mine", weights=path)
    x = torch.rand(1, 3, *model.input_size)
    assert torch.equal(again(x), model(x)) and again.name == "mine"
    torch.save(model.net.state_dict(), tmp_path / "mine.pth")
    assert torch.equal(
        load_model("m", weights=tmp_path / "mine.pth", recipe=model.recipe)(x), model(x)
    )
    untrained = load_model("mine", weights=path, pretrained=False, seed=6)
    assert untrained.recipe == model.recipe and not torch.equal(untrained(x), model(x))


def test_the_recipe_may_be_a_file_anywhere(nothing_packaged, tmp_path, monkeypatch):
    model = load_model("x", recipe=RECIPE, pretrained=False, seed=5)
    torch.save(model.net.state_dict(), tmp_path / "x.pth")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "r.json").write_text(json.dumps(RECIPE))
    (tmp_path / "x.json").write_text(json.dumps(RECIPE | {"num_classes": 9}))  # not asked for
    x = torch.rand(1, 3, 64, 64)
    entry = {"name": "mine", "weights": "x.pth", "recipe": "elsewhere/r.json"}  # in the project
    loaded = load_model(**entry)
    assert loaded.recipe == RECIPE and torch.equal(loaded.net(x), model.net(x))
    control = load_model(**entry, pretrained=False, seed=5)
    assert torch.equal(control(x), model(x)) and control.name == "mine"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_model("x", weights="x.pth", recipe="r.json").recipe == RECIPE
    absolute = tmp_path / "elsewhere" / "r.json"
    assert load_model("x", recipe=absolute, pretrained=False).recipe == control.recipe

    with pytest.raises(FileNotFoundError, match="no recipe file 'gone.json'"):
        load_model("x", weights="x.pth", recipe="gone.json")
    absolute.write_text("{}")  # must not fall back on the one beside the weights
    with pytest.raises(ValueError, match="recipe .*r.json lacks library"):
        load_model("x", weights="x.pth", recipe="r.json")
    absolute.write_text("resnet18")
    with pytest.raises(ValueError, match="r.json is not JSON"):
        load_model("x", weights="x.pth", recipe="r.json")


def test_stored_weights_are_taken_or_passed_over(nothing_packaged, tmp_path, monkeypatch):
    stored = load_model("s", recipe=RECIPE | {"architecture": "squeezenet1_0"}, pretrained=False)
    save_weights(stored, tmp_path / "data" / "weights" / "squeezenet1_1.safetensors")
    theirs = load_model("squeezenet1_1", pretrained=False, packaged=False, seed=8)
    assert theirs.recipe["num_classes"] == 1000  # the library's network, nothing downloaded
    monkeypatch.setattr(libraries, "download", lambda name, recipe: theirs.net.state_dict())
    assert load_model("squeezenet1_1").recipe == stored.recipe
    x = torch.rand(1, 3, 224, 224)
    library = load_model("squeezenet1_1", packaged=False)
    assert torch.equal(library.net(x), theirs.net(x))
    assert library.recipe == libraries.recipe_of("squeezenet1_1")


@pytest.mark.parametrize(
    "library, architecture, features",
    [
        ("torchvision", "resnet18", 512),
        ("torchvision", "squeezenet1_1", 512),
        ("torchvision", "mobilenet_v2", 1280),
        ("timm", "vit_tiny_patch16_224", 192),
    ],
)
def test_headless_networks_give_features(library, architecture, features):
    recipe = RECIPE | {"library": library, "architecture": architecture, "num_classes": 0}
    model = load_model("headless", recipe=recipe, pretrained=False)
    assert model(torch.rand(2, 3, *model.input_size)).shape == (2, features)


@pytest.mark.slow
def test_own_weights_with_a_recipe_beside_them(data, own_weights):
    vit = load_model("mine", weights=own_weights / "vit_tiny_patch16_224.safetensors")
    images, labels = load_images("photographs", like=vit, n=32)
    assert int((vit(images).argmax(1) == labels).sum()) >= 20
    # An independent conversion of the packaged SqueezeNet, rounded to half precision and with the
    # scale in its recipe instead of its first layer: the same function, up to that rounding.
    theirs = load_model("theirs", weights=own_weights / "squeezenet1_1.safetensors")
    ours = load_model("squeezenet1_1")
    x = load_images("photographs", like=ours, n=4)[0]
    assert ours(x).std() > 2
    torch.testing.assert_close(theirs(x), ours(x), atol=0.3, rtol=0)


# --- errors ---------------------------------------------------------------------------------------


def test_unknown_name_shows_close_ones():
    with pytest.raises(ValueError, match=r"no model 'resnet81'.*Close: .*resnet18"):
        load_model("resnet81")
    with pytest.raises(ValueError, match="no model 'resnet18.bogus'"):
        load_model("resnet18.bogus")


@pytest.mark.parametrize(
    "name, host", [("resnet18", "download.pytorch.org"), ("resnet18.a1_in1k", "huggingface.co")]
)
def test_no_network_says_where_to_put_the_file(nothing_packaged, monkeypatch, name, host):
    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda n, pretrained=False, **k: refuse() if pretrained else create(n, **k),
    )
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", "nowhere")
    monkeypatch.setattr("os.makedirs", lambda *a, **k: None)
    with pytest.raises(
        FileNotFoundError, match=rf"{host}.*Name or service.*outside data/.*'../own/{name}.safet"
    ):
        load_model(name)


def test_weights_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file .*nothing.pt"):
        load_model("x", weights=tmp_path / "nothing.pt")
    (tmp_path / "a.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(
        ValueError, match="no recipe: put a a.json beside it.*library, architecture"
    ):
        load_model("x", weights=tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_model("x", weights=tmp_path / "a.safetensors", recipe=RECIPE)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="a.json is not JSON"):
        load_model("x", weights=tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text(json.dumps({"library": "timm", "mean": [0, 0, 0]}))
    with pytest.raises(
        ValueError, match="lacks architecture, num_classes, input_size, std, crop_pct"
    ):
        load_model("x", weights=tmp_path / "a.safetensors")
    (tmp_path / "a.h5").touch()
    with pytest.raises(ValueError, match="must end in .safetensors, .pt, .pth"):
        load_model("x", weights=tmp_path / "a.h5", recipe=RECIPE)
    with pytest.raises(ValueError, match="a recipe describes a weights file"):
        load_model("x", recipe=RECIPE)
    with pytest.raises(ValueError, match="writes .safetensors"):
        save_weights(load_model("x", recipe=RECIPE, pretrained=False), tmp_path / "a.pth")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"library": "keras"}, "'keras' must be 'timm', 'torchvision' or 'iaside'"),
        ({"architecture": "squeezenet9"}, "no classifier 'squeezenet9'"),
        ({"library": "iaside"}, "iaside has no architecture 'squeezenet1_1'; it has small_cnn"),
        ({"library": "timm", "architecture": "squeezenet1_1"}, "no architecture 'squeezenet1_1'"),
        ({"architecture": 18}, "architecture must be the name of a network; got 18"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, .*; got 'cubic'"),
        ({"interpolation": ["bicubic"]}, r"interpolation must be .*; got \['bicubic'\]"),
        ({"crop_mode": "border"}, "crop_mode must be 'center' or 'squash'; got 'border'"),
        *(
            (
                {"mean": mean},
                rf"mean must be three numbers in \[0, 1\].*; got {re.escape(repr(mean))}",
            )
            for mean in (
                None,
                0.5,
                [0.5] * 2,
                ["0.5"] * 3,
                [float("nan")] * 3,
                [True] * 3,
                [-0.1] * 3,
            )
        ),
        ({"mean": [123.675, 116.28, 103.53]}, r"divide it by 255\); got \[123.675"),
        ({"std": [58.395, 57.12, 57.375]}, r"divide it by 255; 1/255 each .*; got \[58.395"),
        *(
            ({"std": std}, rf"std must be three numbers from 1e-6 .*; got {re.escape(repr(std))}")
            for std in (0.5, None, [1, 0, 1], *([v] * 3 for v in (np.nan, 1e-300, np.inf)), "0.5")
        ),
        *(
            (
                {"input_size": size},
                rf"input_size must be \(3, H, W\) .*; got {re.escape(repr(size))}",
            )
            for size in (
                224,
                "224",
                [224],
                [99, 224, 224],
                [3, 0, 224],
                [3, 10**6, 10**6],
                [3, 224.0, 224.0],
                [3, 224],
                None,
            )
        ),
        *(
            ({"num_classes": n}, f"num_classes must be a whole number up to 1,0.*; got {n!r}")
            for n in ("1000", -1, 10.0, True, None, 10**12)
        ),
        *(
            ({"crop_pct": share}, rf"crop_pct must be a number from 0.1 to 1.2, .*; got {share!r}")
            for share in ("1.0", 87.5, 0, 1e-9, True, None, float("nan"))
        ),
        ({"crop_Mode": "squash"}, "a field 'crop_Mode', .*: write 'crop_mode' if"),
        ({"output": "binary"}, "a field 'output', .*: write 'outputs' if"),
        ({"Interpolation": "nearest"}, "a field 'Interpolation', .*: write 'interpolation' if"),
        ({"input-size": 32}, "a field 'input-size', .*: write 'input_size' if"),
    ],
)
def test_recipe_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        load_model("x", recipe=RECIPE | wrong, pretrained=False)


def test_recipes_in_other_numbers_than_floats_and_for_pixels_up_to_255():
    recipe = RECIPE | {"mean": (0, 1, np.float32(0.5)), "std": (1 / 255, 1, 1), "crop_pct": 1}
    assert load_model("x", recipe=recipe, pretrained=False)
    notes = {"factory": "wide.py", "notes": "mine", "args": [], "graph": {}, "tensors": {}}
    model = Classifier(nn.Flatten(), recipe | {"input_size": (np.int64(8), 8)} | notes, "x")
    assert notes.items() <= model.recipe.items()


def test_state_dict_that_does_not_fit(tmp_path):
    state = load_model("x", recipe=RECIPE, pretrained=False).net.state_dict()
    state["stray.weight"] = state.pop("features.0.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="1 missing: features.0.bias; 1 unexpected: stray.weight"):
        load_model("x", weights=tmp_path / "w.pt", recipe=RECIPE)
    torch.save(load_model("x", recipe=RECIPE, pretrained=False).net.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"classifier.1.weight \(7, .* instead of \(8, "):
        load_model("x", weights=tmp_path / "w.pt", recipe=RECIPE | {"num_classes": 8})


def test_no_code_runs_from_a_checkpoint(tmp_path):
    class Evil:
        def __reduce__(self):
            return (builtins.print, ("pwned",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="may run any code|is damaged"):
        load_model("x", weights=tmp_path / "evil.pth", recipe=RECIPE)
