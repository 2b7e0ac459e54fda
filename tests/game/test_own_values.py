"""Regression, several labels, segmentation and detection, through a value of one's own."""

import numpy as np
import torch

import iaside as ia

N, SIDE = 6, 16
IMAGES = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def explained(model, labels, value):
    found = ia.explain(model, IMAGES, labels, 2, value=value, progress=False, batch_size=4)
    whole = value(model(IMAGES), torch.as_tensor(labels)).double().numpy()
    none = value(model(0 * IMAGES), torch.as_tensor(labels)).double().numpy()
    np.testing.assert_allclose(found.gain, whole - none, atol=1e-5)
    assert found.labels is None
    return found


def minus_error(outputs, targets):
    return -(outputs[:, 0] - targets).abs()


def minus_cross_entropy(outputs, targets):
    each = torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return -each.mean(1)


def mean_log_likelihood_of_pixels(outputs, classes):
    return outputs.log_softmax(1).gather(1, classes[:, None]).mean((1, 2, 3))


def test_a_regression():
    explained(lambda x: x.mean((1, 2, 3))[:, None], torch.linspace(0.1, 0.9, N), minus_error)


def test_several_labels_an_image():
    labels = torch.tensor([[1.0, 1.0, 0.0]] * 3 + [[0.0, 0.0, 0.0]] * 3)
    explained(lambda x: 4 * x.mean((2, 3)), labels, minus_cross_entropy)


def test_a_segmentation():
    classes = (IMAGES.mean(1) > 0.5).long()
    two = torch.nn.Conv2d(3, 2, 3, padding=1).eval().requires_grad_(False)
    explained(two, classes, mean_log_likelihood_of_pixels)
