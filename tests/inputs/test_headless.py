"""Networks without their classifier: the head on the features gives the logits."""

import pytest
import torch
from torch import nn

import iaside as ia
from iaside.inputs.classifier import untrained

SMALL = dict(input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
SMALL |= dict(interpolation="bilinear")


def classifier(net, classes, **more):
    return ia.Classifier(net.eval(), SMALL | {"num_classes": classes} | more, "mine")


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet18", "fc"), ("tf_efficientnet_lite0", "classifier"), ("mobilenet_v2", "classifier.1")],
)
def test_the_head_on_the_features_gives_the_logits(name, head):
    model = ia.load_model(name, pretrained=False, packaged=False)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features = ia.without_head(model)(x)
    torch.testing.assert_close(model.net.get_submodule(head)(features), model(x))
    assert model(x).shape == (1, 1000), "the network itself keeps its head"


def test_small_networks_and_what_they_give():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 7), nn.ReLU(), nn.Linear(7, 5), nn.Softmax(1))
    bare = ia.without_head(classifier(net, 5, outputs="probabilities"))
    bare.net[-1] = nn.Identity()
    assert bare(torch.rand(2, 3, 32, 32)).shape == (2, 7) and "outputs" not in bare.recipe
    assert ia.without_head(bare) is bare
    with pytest.raises(ValueError, match="last layer has 5 outputs and the recipe 4 classes"):
        ia.without_head(classifier(net, 4))
    with pytest.raises(ValueError, match="no linear layer and no convolution"):
        ia.without_head(classifier(nn.Flatten(), 3072))
    with pytest.raises(TypeError, match="without_head takes a Classifier"):
        ia.without_head(net)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "small_cnn"])
def test_it_is_saved_and_loaded_as_any_network(name, tmp_path):
    if name == "small_cnn":
        model = untrained(name, num_classes=10, side=32, seed=0)
    else:
        model = ia.load_model(name, pretrained=False, packaged=False)
    bare = ia.without_head(model)
    ia.save_weights(bare, tmp_path / "bare.safetensors")
    x = torch.rand(1, 3, *bare.input_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ia.load_model("bare", weights=tmp_path / "bare.safetensors")(x), bare(x))
