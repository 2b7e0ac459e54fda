"""Measure trained networks on held-out images: game, responses and gradients of checkpoints."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.device import channels_last, own_device, pick_device
from iaside.backend.executors import failing, in_one_thread
from iaside.backend.files import as_object, reading
from iaside.backend.fingerprints import fingerprint, fingerprint_model
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic
from iaside.game.exact import coalition_passes, coalition_worths
from iaside.inputs.classifier import Classifier, load_model
from iaside.inputs.folding import FOLD, folded
from iaside.inputs.splits import stratified_order
from iaside.robustness.responses import corrupt_all, pictures_of, response_passes, responses
from iaside.spectral import band_masks
from iaside.tables import CORRUPTIONS, Condition, save_table
from iaside.training.data import load_data
from iaside.training.penalties import input_gradient, low_frequency_bias

VALUES = ("log_likelihood", "accuracy", "probability")
ATTACKS = ("fgsm", "pgd", "pgd_restarts")
AT_ONCE = 100  # images attacked, or asked for a gradient, at a time


def checkpoints(folder: str | os.PathLike) -> dict[int, Path]:
    """Epoch -> weights of a trained network, the final one last.

    Errors: FileNotFoundError where no finished network is.
    """
    folder = Path(folder)
    if not (folder / "settings.json").is_file():
        raise FileNotFoundError(f"no finished network in {folder}; train it first (68_training)")
    last = settings_of(folder)["epochs"]
    early = {int(p.stem[6:]): p for p in sorted(folder.glob("epoch-*.safetensors"))}
    return dict(sorted(early.items())) | {last: folder / "final.safetensors"}


def settings_of(folder: Path) -> dict:
    """The settings of a training. Errors: ValueError for a damaged file, naming it."""
    path, remedy = folder / "settings.json", "delete it and train again (68_training)"
    with reading(path, "settings of a training", remedy):
        settings = as_object(path.read_text(encoding="utf-8"))
        return settings | {name: settings[name] for name in ("images", "epochs")}


def conditions_of(settings: Mapping) -> list[Condition]:
    """The conditions that final networks are measured under besides clean images.

    settings: attack_eps, strong_eps, noise_sigma, severities (lists), band_noise, band_eps,
    n_bands.
    """
    bands = range(settings["n_bands"])
    return [
        *(Condition(name, severity) for name in CORRUPTIONS for severity in settings["severities"]),
        *(Condition("white_noise", sigma) for sigma in settings["noise_sigma"]),
        *(Condition("white_noise", settings["band_noise"], band) for band in bands),
        *(Condition(name, eps) for name in ("fgsm", "pgd") for eps in settings["attack_eps"]),
        *(Condition("pgd", settings["band_eps"], band) for band in bands),
        *(Condition("pgd_restarts", eps) for eps in settings["strong_eps"]),
    ]


@torch.no_grad()
def answers(
    model: Classifier, images: Tensor, labels: Tensor, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is classified correctly, (N,) bool, and log Q(y|x) in nats, (N,).

    Shapes: images uint8 (N, 3, H, W), labels (N,).
    """
    device, found = model.mean.device, []
    for x, y in zip(images.split(500), labels.split(500), strict=True):
        x = channels_last(x.to(device).float() / 255)
        with arithmetic(precision, device):
            logits = model(x)
        found.append((logits.float().log_softmax(1).cpu(), y))
    log_p = torch.cat([log_p for log_p, _ in found])
    return (
        (log_p.argmax(1) == labels).numpy(),
        log_p.gather(1, labels[:, None])[:, 0].double().numpy(),
    )


def gradient_spectra(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """|rfft2| of each image's input gradient of the cross-entropy, the mean over channels.

    Shapes: images uint8 (N, 3, H, W), labels (N,); returns (N, H, W // 2 + 1), in float64.
    """
    device, spectra = model.mean.device, []
    for x, y in zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
        gradient = input_gradient(model, x.to(device).float() / 255, y.to(device), reduction="sum")
        spectra.append(torch.fft.rfft2(gradient).abs().mean(1).cpu().double())
    return torch.cat(spectra)


def bias_of(spectra: Tensor) -> Tensor:
    """B (`low_frequency_bias`) of each spectrum (..., H, W // 2 + 1), whatever its scale; nan for
    zeros."""
    return low_frequency_bias(spectra / spectra.mean((-2, -1), keepdim=True))


def measure_network(common, name, trained, out, partial, settings, device, report) -> None:
    """Measure one network: a file per checkpoint, answers.npz, responses.npz of the final one.

    trained, out, partial: its folders, the last in one of the plan, beside which corruptions are
    kept;  settings: of the section, with ``seed``;  common: images -> its held-out half.
    Equal networks and settings give equal bytes.
    """
    of, device = settings_of(Path(trained)), own_device(device)
    held, held_labels = common[of["images"]]
    chosen = _chosen(held_labels, settings)
    x, y = held[chosen].float() / 255, held_labels[chosen]
    masks = band_masks(settings["n_bands"], tuple(x.shape[-2:]), settings["metric"])
    precision = settings["precision"]
    epochs = checkpoints(trained)
    rows = []
    for epoch, weights in epochs.items():
        model = folded(load_model(name, weights=weights)).to(device)
        rows.append(answers(model, held, held_labels, precision))
        worths = coalition_worths(
            model,
            x,
            y,
            masks,
            VALUES,
            precision=precision,
            batch_size=settings["batch_size"],
            resume=partial,
            progress=False,
            workers=1,
            engine=settings["engine"],
        )
        final = weights.stem == "final"
        worths.save(Path(out) / ("final.npz" if final else f"epoch-{epoch:03d}.npz"))
        report(name, f"epoch {epoch}")
    spectra = gradient_spectra(model, held, held_labels)
    provenance = {
        "model": fingerprint_model(model, model(x[:1].to(device))),
        "images": fingerprint(held),
        "labels": fingerprint(held_labels),
        "precision": precision,
        "device": device.type,
    }
    save_table(
        Path(out) / "answers.npz",
        provenance,
        {
            "epochs": np.array(list(epochs)),
            "correct": np.stack([correct for correct, _ in rows]),
            "log_likelihood": np.stack([log_p for _, log_p in rows]),
            "chosen": np.array(chosen),
            "gradient": spectra.mean(0).numpy(),
            "bias": bias_of(spectra).numpy(),
            "bias_pooled": bias_of(spectra.mean(0)).numpy(),
        },
    )
    few, conditions = range(settings["n_attack"]), conditions_of(settings)
    responses(
        model,
        x,
        y,
        conditions,
        masks,
        {c.source: few for c in conditions if c.source in ATTACKS},
        seed=settings["seed"],
        precision=precision,
        batch_size=settings["batch_size"],
        resume=partial,
        cache=Path(partial).parents[1],
        progress=False,
        attack_batch=AT_ONCE,
        workers=1,
        engine=settings["engine"],
    ).save(Path(out) / "responses.npz")
    report(name, "robustness")


def profile_passes(
    settings: Mapping, held: int, n_checkpoints: int, cut: bool = False
) -> np.ndarray:
    """Images that ``measure_network`` shows a network, and gradients it asks of it, (2,) int64.

    settings: of the section;  held: held-out images, all of which give an answer and a gradient;
    cut: whether other pictures than the images are corrupted, as of ``response_passes``.
    """
    n, few = settings["n_images"], settings["n_attack"]
    game = FOLD + held + coalition_passes(settings["n_bands"], n)
    counts = Counter(condition.source for condition in conditions_of(settings))
    final = response_passes(counts, n, dict.fromkeys(ATTACKS, few), cut)
    return n_checkpoints * np.array([game, 0]) + np.array([held + 1, held]) + final


def _chosen(labels: Tensor, settings: Mapping) -> list[int]:
    """The held-out images that are measured, so that any first few of them are stratified."""
    n, few = settings["n_images"], settings["n_attack"]
    if not few <= n <= len(labels):
        raise ValueError(
            f"n_attack={few} of n_images={n} of {len(labels)} held-out images: take fewer"
        )
    return stratified_order(labels.tolist(), settings["seed"])[:n]


def measure_plan(
    names: list[str],
    trained: str | os.PathLike,
    out: str | os.PathLike,
    partial: str | os.PathLike,
    settings: Mapping,
    device: str = "auto",
    workers: object = None,
    progress: bool = True,
) -> None:
    """Measure the networks of a plan.

    names: of the networks;  trained, out: folders that hold, or get, one of each name;  partial:
    keeps what a kill must not lose;  settings: of the section, with ``seed`` and ``batch_size``
    (None: 256).  workers: who measures, each a network at a time, as ``training.train_plan``.

    Errors: FileNotFoundError for a network that is not trained; ValueError for more images than
    are held out; RuntimeError naming the network that failed in a worker.
    """
    device = pick_device(device)
    pool = executor(workers, device)
    settings = {**settings, "batch_size": settings["batch_size"] or 256}
    total = sum(len(checkpoints(Path(trained) / name)) + 1 for name in names)
    held = {}
    for name in names:
        of = settings_of(Path(trained) / name)
        if of["images"] not in held:
            data = load_data(of, settings["seed"])
            held[of["images"]] = data.held_images, data.held_labels
            x = data.held_images[_chosen(data.held_labels, settings)].float() / 255
            corruptions = [c for c in conditions_of(settings) if c.source in CORRUPTIONS]
            pictures, shared = pictures_of(x), Path(partial).parent
            corrupt_all(pictures, corruptions, shared, settings["seed"], workers, progress)
    jobs = [
        (name, Path(trained) / name, Path(out) / name, Path(partial) / name, settings, device)
        for name in names
    ]
    with tqdm(total=total, unit="part", disable=not progress) as bar:

        def report(name: str, what: str) -> None:
            bar.set_postfix_str(f"{name}: {what}")
            bar.update()

        for _ in in_one_thread(pool).each(_measure_one, held, jobs, device, report):
            pass


def _measure_one(held, name, *how) -> None:
    with failing(name):
        measure_network(held, name, *how)
