"""What each measuring notebook asks of the networks of a study: passes, images, tables.

How many passes a loop makes is counted beside the loop (``coalition_passes``, ``attack_passes``,
...); here stands which loops a notebook runs with its parameters. ``plan`` makes times of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from iaside.attribution.examination_table import QUANTITIES, examination_passes
from iaside.attribution.maps import map_passes
from iaside.attribution.variants import attribution_variants, grid_variants
from iaside.game.absence import ABSENCES
from iaside.game.controls import ONE_BATCH, control_passes
from iaside.game.exact import coalition_passes
from iaside.game.published import published_passes
from iaside.game.sampling import sampled_passes
from iaside.game.surrogate import passes_per_image
from iaside.game.values import OF_EMBEDDINGS, VALUES, clean_looks
from iaside.inputs.folding import FOLD
from iaside.inputs.probe import PROBE
from iaside.robustness.conditions import heat_cells
from iaside.robustness.corruptions import strengths_for
from iaside.robustness.perturb import attack_passes
from iaside.robustness.responses import ATTACK_BATCH, response_passes
from iaside.robustness.rivals import GRADIENTS, octaves, rival_passes
from iaside.spectral import METRICS, SPACINGS
from iaside.study.parts import SIDE, Network, Part, Study
from iaside.tables import CORRUPTIONS, FOURIER
from iaside.training.mend_study import asking_passes, most_fine_tunings
from iaside.training.plans import BANDS
from iaside.training.profiles import AT_ONCE, profile_passes
from iaside.training.remedies import ARMS, REMEDIES
from iaside.training.training import checkpoint_count, training_passes

NUMBER, HALF = 8, 2  # bytes of an entry of a table, and of a heat map
LOOK = 1  # a pass of one image, by which a notebook knows the network


def _forward(n: int) -> np.ndarray:
    return np.array([n, 0])


def _asked(
    p: dict, study: Study, forward: int, bands: int = 0, disk: int = 0, images: int = 0
) -> Part:
    """One network of a section that is shown pictures, without gradients."""
    network, batch = study.network(p["model"]), p["batch_size"]
    return Part(network, _forward(forward), p["precision"], batch, 0, images, bands, disk)


def _snr(p: dict, study: Study) -> list[Part]:
    n, attacked, sparse = p["n_images"], p["n_attack"], p["n_sparse"]
    passes = _forward(FOLD + LOOK + PROBE + n + 5 * n + 3 * attacked + 2 * sparse)  # the answers
    attacks = {"fgsm": attacked, "pgd": 2 * attacked, "sparsefool": sparse, "pixle": sparse}
    for name, times in attacks.items():
        steps = p["steps"] if name in ("pgd", "sparsefool") else None
        passes = passes + times * attack_passes(name, steps=steps, at_once=None)
    disk = NUMBER * 10 * n * round(SIDE * 0.71 + p["n_bands"])  # spectra of ten sources
    return [Part(study.network(p["model"]), passes, "float32", 1, 1, n, p["n_bands"], disk)]


def _worths(p: dict, study: Study) -> list[Part]:
    recorded = {*p["values"], "log_likelihood", "accuracy", "probability"}
    twins = p["n_initialisations"] * ("untrained" in p["variants"])
    looks = LOOK + FOLD * (1 + twins)
    parts = [_asked(p, study, looks)]
    n, bands, tables = p["n_images"], p["n_bands"], len(recorded)
    for v in p["variants"]:
        if v == "trained":
            passes = coalition_passes(bands, n, recorded)
            disk = tables * 2**bands * n
        elif v == "published":
            passes = published_passes(bands, p["n_control"])
            disk = 2**bands * p["n_control"]
        else:
            passes = sampled_passes(bands, n, n * passes_per_image(bands))
            passes += 2 * n * clean_looks(recorded)  # a second round begins with what is left
            passes *= twins if v == "untrained" else 1
            disk = (3 + tables) * passes
        parts.append(
            parts[0]._replace(
                passes=_forward(passes),
                images=p["n_control"] if v == "published" else 0,
                bands=bands,
                disk=NUMBER * disk,
            )
        )
    if twins:
        parts.append(
            parts[0]._replace(
                passes=_forward(twins * control_passes(n)),
                precision="float32",
                batch=min(n, ONE_BATCH),
                images=min(n, ONE_BATCH),
            )
        )
    return parts


def _player_worths(p: dict, study: Study) -> list[Part]:
    n, bands = p["n_images"], p["n_bands"]
    games = [bands] * 3 + [4, 4, 4, 2, 5]  # players of each, in the order of the notebook's cells
    cells = (bands - 1) * p["grid"] ** 2
    passes = FOLD + sum(coalition_passes(k, n) for k in games)
    passes += sampled_passes(cells, 1, p["budget"])
    return [_asked(p, study, passes, bands, NUMBER * n * sum(2**k for k in games), n)]


def _embedding_worths(p: dict, study: Study) -> list[Part]:
    """At most: a network may have no classifier."""
    n, bands = p["n_images"], p["n_bands"]
    passes = 2 * FOLD + coalition_passes(bands, n, OF_EMBEDDINGS) + coalition_passes(bands, n)
    return [_asked(p, study, passes + LOOK, bands, NUMBER * 3 * 2**bands * n, n)]


def _robustness(p: dict, study: Study) -> list[Part]:
    eps, bands, severities = len(p["attack_eps"]), p["n_bands"], len(p["severities"])
    counts = {
        "fgsm": eps,
        "pgd": eps + len(p["band_eps"]) * bands,
        "pgd_restarts": len(p["strong_eps"]),
        "white_noise": len(p["noise_sigma"]) + bands,
        "gaussian_blur": len(p["blur_kernels"]),
        FOURIER: len(heat_cells(p["heat_grid"])),
        **dict.fromkeys(CORRUPTIONS, severities),
    }
    few = dict.fromkeys(("fgsm", "pgd", "pgd_restarts"), p["n_attack"]) | {FOURIER: p["n_heat"]}
    n = p["n_images"]
    network = study.network(p["model"])
    cut = strengths_for(network.input_side(), network.input_side()) == SIDE
    passes = _forward(FOLD) + response_passes(counts, n, few, cut)
    pixels = n * severities * (SIDE if cut else network.input_side()) ** 2
    return [
        Part(
            network,
            passes,
            p["precision"],
            p["batch_size"] or 32,
            ATTACK_BATCH,
            n,
            bands,
            NUMBER * (1 + cut + sum(counts.values())) * (4 + bands) * n,
            corrupt=((p["images"], n, p["seed"], cut), pixels),
        )
    ]


def _rivals(p: dict, study: Study) -> list[Part]:
    n, bands, levels = p["n_images"], p["n_bands"], len(p["noise_sd"])
    network = study.network(p["model"])
    size = (network.input_side(),) * 2
    passes = _forward(FOLD) + rival_passes(*size, levels, n)
    disk = NUMBER * n * (2 * len(octaves(*size)[0]) * (1 + levels) + bands)
    return [Part(network, passes, p["precision"], p["batch_size"] or 8, GRADIENTS, n, bands, disk)]


def _choices(p: dict, study: Study) -> list[Part]:
    n, bands = p["n_images"], p["n_bands"]
    games = len(ABSENCES) - 1 + 1 + len(METRICS) - 1 + len(SPACINGS) - 1  # besides the reference
    games += 1  # of soft labels, which are answers to the photographs
    passes = FOLD + PROBE + n + coalition_passes(bands, n, VALUES)
    passes += games * coalition_passes(bands, n)
    passes += published_passes(bands, n)
    tables = len(VALUES) + games + 1
    return [_asked(p, study, passes, bands, NUMBER * tables * 2**bands * n, n)]


def _convergence(p: dict, study: Study) -> list[Part]:
    n, bands = p["n_images"], p["n_bands"]
    return [_asked(p, study, FOLD + coalition_passes(bands, n), bands, NUMBER * 2 * 2**bands * n)]


def _resolution(p: dict, study: Study) -> list[Part]:
    passes = FOLD + sum(sampled_passes(M, p["n_images"], p["budget"]) for M in p["bands"])
    return [_asked(p, study, passes, max(p["bands"]), NUMBER * 4 * passes)]


def _training(p: dict, study: Study) -> list[Part]:
    found = study.trained({p["item"]: p["plan"]}).values()
    return [part for trained in found for part in _one_training(*trained)]


def _one_training(settings: Mapping, network: Network, n: int, held: int) -> list[Part]:
    passes = training_passes(settings, n, held)
    plain = training_passes({**settings, "penalty": "none"}, n, held)
    precision = settings["precision"]
    part = Part(
        network,
        plain,
        precision,
        settings["batch"],
        settings["batch"],
        (n + held) // 4,  # as bytes, a quarter of what pixels take
        checkpoints=1 + checkpoint_count(settings),
        alone=True,
        trains=True,
        gradients=precision,
    )
    # Penalties are computed in float32 whatever the precision is.
    penalty = part._replace(
        passes=passes - plain, precision="float32", gradients="float32", images=0, checkpoints=0
    )
    return [part, penalty] if penalty.passes.any() else [part]


def _mend(p: dict, study: Study) -> list[Part]:
    """At most: deployments may share a band, and so the networks that are fine-tuned in it."""
    plan, name = Path(p["model"]["weights"]).parts[3:5]
    base, network, n, held = study.trained({plan: study.params["training"]["plans"][plan]})[name]
    tuning = p | {
        "strengths": dict(zip(REMEDIES, (p["noise"], p["dropout"], p["weight"]), strict=True))
    }
    networks = most_fine_tunings(base, tuning)
    parts = [part for s in networks.values() for part in _one_training(s, network, n, held)]
    asked = p["n_images"] + p["n_judged"]
    passes = asking_passes(p["deployments"], p["n_images"], asked, len(networks))
    disk = NUMBER * 2 * len(ARMS) * len(p["deployments"]) * (1 + len(p["deployments"])) * asked
    severities = len(p["deployments"]) / len(CORRUPTIONS)
    return [
        *parts,
        Part(
            network,
            _forward(passes),
            p["precision"],
            p["batch_size"] or 256,
            images=asked,
            bands=BANDS,
            disk=disk,
            corrupt=(
                (base["images"], asked, p["seed"], tuple(p["deployments"])),
                round(asked * severities * network.input_side() ** 2),
            ),
        ),
    ]


def _profiles(p: dict, study: Study) -> list[Part]:
    n, bands, severities = p["n_images"], p["n_bands"], len(p["severities"])
    parts = []
    for settings, network, _, held in study.trained({p["item"]: p["plan"]}).values():
        kept, side = checkpoint_count(settings), network.input_side()
        cut = strengths_for(side, side) == SIDE != side  # as pictures_of has it
        parts.append(
            Part(
                network,
                profile_passes(p, held, kept, cut),
                p["precision"],
                p["batch_size"] or 256,
                AT_ONCE,
                n + held // 4,
                bands,
                NUMBER * kept * (3 * 2**bands * n + 2 * held),
                alone=True,
                corrupt=(
                    (settings["images"], n, p["seed"], cut),
                    n * severities * (SIDE if cut else side) ** 2,
                ),
            )
        )
    return parts


def _attributions(p: dict, study: Study) -> list[Part]:
    attack = {"steps": p["steps"], "samples": p["samples"], "eps": p["eps"] / 255}
    of_fampe = {name: p[name] for name in ("alpha", "kappa", "alphas", "path_steps")}
    others = {"classes": p["classes"], "steps": p["class_steps"]}
    variants, second = attribution_variants(p["methods"], attack, other_classes=others, **of_fampe)
    coarse = variants["fampe"] | {"steps": p["grid_steps"], "samples": p["grid_samples"]}
    grid = grid_variants(coarse, p["grid_alphas"], p["grid_kappas"])
    n, bands, judges = p["n_images"], p["n_bands"], len(p["networks"])
    only = dict.fromkeys(second, n) | dict.fromkeys(grid, p["n_grid"])
    passes = examination_passes(
        variants | second | grid,
        n,
        judges,
        only,
        p["n_twin"],
        p["insertion_steps"],
        p["infidelity_samples"],
    )
    game = n + coalition_passes(bands, n)  # with what is predicted
    twin = FOLD + control_passes(n) if p["n_twin"] else 0
    passes = passes + _forward(FOLD * (1 + judges) + twin + game)
    if "deeplift" in p["methods"]:  # tried on one photograph, for the class that is predicted
        passes = passes + map_passes("deeplift") + _forward(1)
    rows = len(variants) + len(only)
    disk = NUMBER * n * (rows * (len(QUANTITIES) + judges) + 2**bands)
    return [
        Part(
            study.network(p["model"]),
            passes,
            p["precision"],
            16,
            10,
            n,
            bands,
            disk + HALF * rows * p["n_shown"] * SIDE**2,
            gradients=p["precision"],
        )
    ]


COSTS: dict[str, Callable[[dict, Study], list[Part]]] = {
    "snr": _snr,
    "worths": _worths,
    "player_worths": _player_worths,
    "embedding_worths": _embedding_worths,
    "robustness": _robustness,
    "rivals": _rivals,
    "choices": _choices,
    "convergence": _convergence,
    "resolution": _resolution,
    "training": _training,
    "profiles": _profiles,
    "mend": _mend,
    "attributions": _attributions,
}
# Where attacks or sampling may end early, or training images turn out to be held out as well.
AT_MOST = {
    "snr",
    "worths",
    "player_worths",
    "embedding_worths",
    "robustness",
    "resolution",
    "training",
    "mend",
    "attributions",
}
