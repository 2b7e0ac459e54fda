"""Made-up worths and robustness tables of nine networks with a planted answer."""

import json
import math
import shutil

import numpy as np
from smoke import ROOT

from iaside.backend.files import write_text
from iaside.robustness.conditions import heat_cells
from iaside.shapley import coalitions
from iaside.tables import CLEAN, CORRUPTIONS, FOURIER, Condition, Responses, Rivals, Worths

M, N = 4, 12
NAMES = [
    "alexnet",
    "resnet18",
    "vgg11",
    "shufflenet_v2_x0_5",
    "mobilenet_v2",
    "efficientnet_v2_s",
    "vit_b_16",
    "swin_b",
    "maxvit_t",
]
MODELS = {name: {"name": name, "recipe": f"recipes/{name}.json"} for name in NAMES}
PLAIN = [Condition(s, e) for s in ("fgsm", "pgd") for e in (0.03, 0.1, 0.2)]
PLAIN += [Condition("white_noise", 0.1), Condition("gaussian_blur", 5.0)]
PLAIN += [Condition("white_noise", 0.03, b) for b in range(M)]
PLAIN += [Condition("pgd", 8 / 255, b) for b in range(M)]
WAVES = [Condition(FOURIER, 2.0, cell) for cell in heat_cells(3)]


def write(root, k, name):
    """Network k leans more to low bands than network k - 1, and loses less under everything."""
    rng = np.random.default_rng(k)
    lean = 0.2 + 0.6 * k / len(NAMES)
    values = 6 * (1 - lean) ** np.arange(M) * (1 + 0.05 * rng.normal(size=(N, M)))
    table = -7 + coalitions(M).astype(float) @ values.T
    about = {
        "values": ["log_likelihood", "accuracy"],
        "precision": "float32",
        "device": "cpu",
        "parameters": 1e6 * (k + 1),
        "labels": "the same",
        "absence": "zero",
        "classes": 1000,
    }
    tables = {"log_likelihood": table, "accuracy": (table > -3).astype(float)}
    Worths(tables, about).save(root / f"results/worths/tables/{name}-trained.npz")

    conditions = [CLEAN, *PLAIN, *WAVES, *(Condition(c, 1.0) for c in CORRUPTIONS)]
    strength = np.array([0.0] + [0.7] * (len(conditions) - 1))
    loss = strength[:, None] * (4 - 3.5 * lean) * (1 + 0.1 * rng.random((len(conditions), N)))
    for row, c in enumerate(conditions):  # high bands are the fragile ones, in all networks
        loss[row] *= 1 + max(c.place, 0) * (c.source != FOURIER)
    log_p = math.log(0.9) - loss
    answers = {
        "log_likelihood": log_p,
        "probability_t2": np.exp(log_p) ** 0.5,
        "correct": (rng.random(log_p.shape) < np.exp(log_p)).astype(float),
        "confidence": np.exp(log_p),
        "no_gradient": np.zeros_like(log_p),
    }
    energy = np.ones((M, N)) / (1 + np.arange(M))[:, None]
    change = strength[:, None, None] * rng.random((len(conditions), M, 1)) * energy
    about = {"n_images": N, "precision": "float32", "device": "cpu", "size": [32, 32]}
    about["heat_grid"] = 3
    responses = Responses(conditions, answers, energy, change, about)
    responses.save(root / f"results/robustness/tables/{name}.npz")

    octaves, sd = 1.75 * 2.0 ** np.arange(4), np.array([0, 0.02, 0.04, 0.08, 0.16])
    place = np.exp(-0.5 * (np.arange(4) - 3 + 2 * lean) ** 2)  # of the filter: low where it leans
    steps = 4.2 - 3 * place[:, None, None] - np.arange(5)[:, None]
    right = (rng.random((4, 5, N)) < np.clip(steps, 0.05, 0.95)).astype(float)
    right[:, 0] = np.arange(N) > 1
    about = {"precision": "float32", "size": [32, 32], "n_images": N}
    shares = values.T / values.sum(1)
    tables = {"log_likelihood": np.log(0.1 + 0.8 * right), "correct": right}
    Rivals(octaves, sd, tables, shares, about).save(root / f"results/rivals/tables/{name}.npz")


def make_networks(root):
    """The tables of all of them, in a folder that notebooks take for the project."""
    for k, name in enumerate(NAMES):
        write(root, k, name)
        weights = f"torchvision:{name}.IMAGENET1K_V1"  # five of them are in the published table
        write_text(root / f"recipes/{name}.json", json.dumps({"weights": weights}))
    shutil.copytree(ROOT / "data/published", root / "data/published")
    (root / "data/images/photographs").mkdir(parents=True)
    (root / "params.yaml").write_text("")
    return root
