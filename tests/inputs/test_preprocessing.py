"""Pictures as the libraries' own evaluation prepares them, over many of their recipes."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import models

from iaside.inputs.libraries import recipe_of
from iaside.inputs.sizing import fitter

TIMM = (  # interpolations, crops and sizes of all kinds, one that squashes
    "resnet18.a1_in1k resnet50.a1_in1k vit_tiny_patch16_224 vit_base_patch16_clip_224.openai "
    "deit3_small_patch16_224 beit_base_patch16_224 "
    "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k swin_tiny_patch4_window7_224 "
    "swinv2_tiny_window8_256 convnext_tiny.fb_in22k efficientnet_b0.ra_in1k "
    "tf_efficientnet_b4.ns_jft_in1k tf_efficientnet_lite0 mobilenetv3_large_100 nfnet_f0 "
    "inception_v4 volo_d1_224 fastvit_t8"
).split()
TORCHVISION = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s mobilenet_v3_large "
    "resnet50 regnet_y_400mf squeezenet1_1 swin_v2_t vit_b_16"
).split()


def prepared(name):
    if name in TIMM:
        config = timm.data.resolve_data_config(
            pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()
        )
        return timm.data.create_transform(**config, is_training=False)
    weights = models.get_model_weights(name)
    return getattr(weights, "IMAGENET1K_V1", next(iter(weights))).transforms()


@pytest.mark.sweep
@pytest.mark.parametrize("name", [*TIMM, *TORCHVISION])
def test_pixels_are_those_of_the_librarys_own_evaluation(name):
    recipe, theirs = recipe_of(name), prepared(name)
    mean, std = (torch.tensor(recipe[field]).view(-1, 1, 1) for field in ("mean", "std"))
    draw = np.random.default_rng(0)
    for height, width in ((480, 641), (375, 375), (301, 223)):
        picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        ours = (fitter(recipe, None)(picture) - mean) / std
        assert (ours - theirs(picture)).abs().max() < 1e-5
