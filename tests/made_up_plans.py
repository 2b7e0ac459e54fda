"""Made-up tables of a training study with planted answers, and a project around them.

Every network leans to low frequencies by as much as its training says (`lean`). The more it does,
the better it is under corruptions of high frequencies and under PGD, the worse under those of low
ones: what the papers expect, by construction.
"""

import numpy as np

from iaside.shapley import coalitions
from iaside.tables import CLEAN, CORRUPTIONS, Condition, Responses, Worths
from iaside.training.plans import networks

M, N, HELD_OUT, SIDE = 4, 40, 60, 16
PITCH = {name: (7 * k % 15) / 14 for k, name in enumerate(CORRUPTIONS)}  # 0 low ... 1 high
SHIFT = {"none": 0.0, "fgsm": 0.05, "pgd": 0.25}  # what an adversary adds to the lean


def lean(settings):
    """From 0 (all bands alike) to 1 (the lowest band alone)."""
    jafr = 0.15 * np.sign(settings["strength"]) * (settings["penalty"] == "jafr")
    return (
        0.4
        + jafr
        + SHIFT[settings["adversary"]]
        + 0.1 * settings["augment"]
        - 0.3 * settings["noise"]
        + 0.01 * (settings["seed"] - 0.5)
    )


def quality(settings):
    """Probability of the true class of a clean image."""
    lost = 0.4 * settings["noise"] + 0.1 * (1 - settings["fraction"])
    return 0.95 - lost - 0.15 * (settings["strength"] > 0.003)


def _answers(shares, n):
    """Right answers to n images, (conditions, n), of which each condition has its share.

    Under each condition some images are the harder ones for all networks, as in real life.
    """
    hardness = np.random.default_rng(1).permuted(np.tile(np.arange(n), (len(shares), 1)), axis=1)
    return (hardness < np.round(np.multiply(shares, n))[:, None]).astype(float)


def write(root, name, settings):
    """The four files of one network."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    low, clean = lean(settings), quality(settings)
    profiles = root / f"results/profiles/tables/{settings['plan']}/{name}"
    values = (4 * clean * (1 - low) ** np.arange(M))[:, None]
    values = values * (1 + 0.1 * rng.normal(size=(M, N)))
    table = -7 + coalitions(M).astype(float) @ values
    about = {"precision": "float32", "device": "cpu", "labels": "the same", "absence": "zero"}
    about |= {"values": ["log_likelihood", "accuracy"]}
    tables = {"log_likelihood": table, "accuracy": (table > -3).astype(float)}
    Worths(tables, about).save(profiles / "final.npz")

    [correct] = _answers([clean], HELD_OUT)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    bias = 2 + 10 * low
    np.savez(
        profiles / "answers.npz",
        epochs=np.array([3]),
        correct=correct[None] > 0,
        log_likelihood=np.log(0.1 + 0.8 * correct)[None],
        bias_pooled=np.array(bias),
        gradient=np.maximum(radius, 1 / SIDE) ** -low,
        bias=bias + 0.2 * rng.normal(size=HELD_OUT),
    )

    conditions = [CLEAN, Condition("fgsm", 0.1), Condition("pgd", 0.1), Condition("pgd", 0.1, 0)]
    conditions += [Condition(c, float(s)) for c in CORRUPTIONS for s in (1, 3)]
    bands = np.arange(M) / (M - 1)
    images = np.random.default_rng(0).random((M, N)) / (1 + np.arange(M))[:, None]
    share, change = [], []
    for c in conditions:
        pitch = PITCH.get(c.source, 1.0)
        lost = 0.0 if c == CLEAN else 0.35 + 0.8 * (0.5 - low) * (2 * pitch - 1)
        share.append(clean * (1 - np.clip(lost, 0.02, 0.98)))
        change.append(np.exp(-(((bands - pitch) / 0.4) ** 2)) * (c != CLEAN))
    p = np.clip(np.array(share)[:, None] + 0.02 * rng.normal(size=(len(share), N)), 0.02, 0.98)
    answers = {
        "log_likelihood": np.log(p),
        "probability_t2": p**0.5,
        "confidence": p,
        "correct": _answers(share, N),
        "no_gradient": np.zeros_like(p),
    }
    energy = np.array(change)[:, :, None] * images
    about = {"n_images": N, "precision": "float32", "device": "cpu", "size": [SIDE, SIDE]}
    Responses(conditions, answers, images, energy, about).save(profiles / "responses.npz")

    log = root / f"results/training/networks/{settings['plan']}/{name}/log.csv"
    log.parent.mkdir(parents=True)
    log.write_text("epoch,loss\n1,1.0\n2,0.5\n3,0.25\n")


def make_project(root, plans):
    """Tables of all networks of some plans, in a folder that notebooks take for the project."""
    for name, settings in networks(plans).items():
        write(root, name, settings)
    (root / "params.yaml").write_text("")
    return root
