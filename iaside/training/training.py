"""Train the networks of a plan: label noise, less data, attacks, penalties; resumable.

Everything that is drawn at an update is drawn from (seed of the network, number of the update), so
that no random state has to be kept. A network is trained in one thread on a CPU: its bytes do not
depend on how many are trained at a time.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from iaside.backend.device import own_device, pick_device
from iaside.backend.executors import failing, in_one_thread
from iaside.backend.files import as_object, content_hash, replacing, sweep, write_text
from iaside.backend.fingerprints import fingerprint
from iaside.backend.keys import code_hash
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision
from iaside.backend.resume import measure_again, settings_key
from iaside.inputs.classifier import Classifier, load_model, save_weights, untrained
from iaside.inputs.splits import stratified_order
from iaside.training.data import Data, as_pixels, augmented, batch_of, complete, load_data, reassign
from iaside.training.penalties import PASSES
from iaside.training.updates import SCHEDULES, learning_rate, loss_of, warmup_factor

Report = Callable[[str, dict], None]


@torch.no_grad()
def evaluate(net: nn.Module, images: Tensor, labels: Tensor, precision: str) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on images uint8 (N, 3, H, W), in evaluation mode."""
    training, device = net.training, next(net.parameters()).device
    net.eval()
    losses, right = [], []
    for x, y in zip(images.split(500), labels.split(500), strict=True):
        with arithmetic(precision, device):
            logits = net(as_pixels(x.to(device))).float()
        losses.append(F.cross_entropy(logits, y.to(device), reduction="none"))
        right.append(logits.argmax(1) == y.to(device))
    net.train(training)
    return torch.cat(losses).double().mean().item(), torch.cat(right).double().mean().item()


def train_network(
    name: str,
    settings: Mapping,
    data: Data,
    folder: str | os.PathLike,
    partial: str | os.PathLike,
    device: str | torch.device = "cpu",
    report: Report = lambda name, row: None,
) -> list[dict]:
    """Train one network and write its folder; returns the log, a row per epoch.

    settings: complete ones (all factors of plans, and the shared settings of the study). Epochs
    are counted in updates of the full training set, whatever the fraction that is shown.
    ``start``: weights to begin with, else those that the seed draws.
    folder: gets final.safetensors, best.safetensors (by held-out accuracy), epoch-005.safetensors
    and so on after each ``every`` epochs, their recipes, log.csv, and relabelled.npz with label
    noise. partial: keeps what is needed to go on after a kill, from the last whole epoch; the same
    weights come out, to the byte, on the same machine. report: called with each row of the log.

    Errors: ValueError for a loss that is no number, and for settings that cannot be.
    """
    device = torch.device(device)
    folder, partial = Path(folder), Path(partial)
    folder.mkdir(parents=True, exist_ok=True)
    partial.mkdir(parents=True, exist_ok=True)
    seed, n, precision = settings["seed"], len(data.labels), settings["precision"]
    steps = updates_of(settings, n)
    check_precision(precision)
    shown = sorted(stratified_order(data.labels, seed)[: max(1, round(settings["fraction"] * n))])
    labels, moved = reassign(data.labels[shown], settings["noise"], data.n_classes, seed)
    images = data.images[shown].to(device)
    if settings["noise"]:
        relabelled = {"indices": np.array(shown)[moved], "labels": labels[moved].numpy()}
        with replacing(folder / "relabelled.npz") as file:
            np.savez(file, **relabelled)

    recipe, net = _fresh(name, settings, data.n_classes)
    net = net.to(device, memory_format=torch.channels_last)
    optimizer = sgd(net, settings)
    log = _resume(partial / "state.safetensors", net, optimizer)
    best = max((row["held_out_accuracy"] for row in log), default=-1.0)
    for row in log:
        report(name, row)
    with repeatable(device):
        for epoch in range(len(log) + 1, settings["epochs"] + 1):
            loss, penalty, accuracy = train_epoch(
                net, optimizer, images, labels, settings, epoch, steps, name
            )
            held_loss, held_accuracy = evaluate(net, data.held_images, data.held_labels, precision)
            log.append(
                {
                    "epoch": epoch,
                    "updates": epoch * steps,
                    "lr": optimizer.param_groups[0]["lr"],
                    "loss": loss,
                    "penalty": penalty,
                    "train_accuracy": accuracy,
                    "held_out_loss": held_loss,
                    "held_out_accuracy": held_accuracy,
                }
            )
            if held_accuracy > best:
                best = held_accuracy
                _save(net, recipe, name, folder / "best.safetensors")
            if settings["every"] and epoch % settings["every"] == 0 and epoch < settings["epochs"]:
                _save(net, recipe, name, folder / f"epoch-{epoch:03d}.safetensors")
            _keep(partial / "state.safetensors", net, optimizer, log)
            report(name, log[-1])
    _save(net, recipe, name, folder / "final.safetensors")
    text = io.StringIO()
    table = csv.DictWriter(text, list(log[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(log)
    write_text(folder / "log.csv", text.getvalue())
    return log


def sgd(net: nn.Module, settings: Mapping) -> torch.optim.SGD:
    """The optimizer of a training."""
    return torch.optim.SGD(
        net.parameters(),
        settings["lr"],
        settings["momentum"],
        weight_decay=settings["weight_decay"],
    )


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.SGD,
    images: Tensor,
    labels: Tensor,
    settings: Mapping,
    epoch: int,
    steps: int,
    name: str,
) -> list[float]:
    """Make the updates of one epoch, counted from 1; returns mean loss, penalty and accuracy.

    images: uint8, or pixels in [0, 1], (N, 3, H, W), on the network's device;  labels: (N,);
    settings: complete ones;  steps: updates in an epoch;  name: of the network, for errors.
    Errors: ValueError for a loss that is no number.
    """
    seed, batch, device = settings["seed"], settings["batch"], images.device
    sums = torch.zeros(3, dtype=torch.float64)
    for update in range((epoch - 1) * steps, epoch * steps):
        torch.manual_seed(2 * (seed * 1_000_003 + update))  # for dropout layers
        generator = torch.Generator().manual_seed(2 * (seed * 1_000_003 + update) + 1)
        chosen = torch.from_numpy(batch_of(update, batch, len(images), seed))
        x, y = as_pixels(images[chosen.to(device)]), labels[chosen].to(device)
        if settings["augment"]:
            x = augmented(x, settings["flip"], generator)
        for group in optimizer.param_groups:
            done = (update + 0.5) / (steps * settings["epochs"])
            group["lr"] = learning_rate(settings["schedule"], settings["lr"], done)
        warm = warmup_factor(settings["warm_up"], (update + 1) / steps)
        with arithmetic(settings["precision"], device):
            loss, penalty, logits = loss_of(net, x, y, settings, generator, warm)
        if not loss.isfinite():
            raise ValueError(
                f"the loss is {loss.item()} in epoch {epoch} of {name}: it has diverged; "
                "lower lr or the strength of the penalty"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = (logits.argmax(1) == y).float().mean()
        sums += torch.stack([loss, penalty, right]).detach().cpu().double()
    return (sums / steps).tolist()


def updates_of(settings: Mapping, n: int) -> int:
    """Updates in an epoch of n training images, whatever the fraction that is shown."""
    return max(1, n // settings["batch"])


def checkpoint_count(settings: Mapping) -> int:
    """How many epochs ``train_network`` keeps the weights of, the last one included.

    >>> checkpoint_count({"epochs": 6, "every": 1}), checkpoint_count({"epochs": 6, "every": 0})
    (6, 1)
    """
    every, epochs = settings["every"], settings["epochs"]
    return 1 + ((epochs - 1) // every if every else 0)


def training_passes(settings: Mapping, n: int, held: int) -> np.ndarray:
    """Images that ``train_network`` shows the network, and gradients it takes, (2,) int64.

    settings: complete ones;  n, held: images of both halves of the data. A gradient of a penalty's
    gradient counts as two.

    >>> settings = dict(batch=64, epochs=2, adversary="fgsm", penalty="none", steps=3)
    >>> training_passes(settings, n=640, held=100).tolist()
    [2760, 2560]
    """
    attack = {"none": 0, "fgsm": 1, "pgd": settings["steps"]}[settings["adversary"]]
    each = np.array([1, 1]) * (1 + attack) + PASSES.get(settings["penalty"], (0, 0))
    shown = updates_of(settings, n) * settings["batch"]
    return settings["epochs"] * (shown * each + np.array([held, 0]))


def _fresh(name: str, settings: Mapping, n_classes: int) -> tuple[dict, nn.Module]:
    if "start" in settings:
        model = load_model(name, weights=settings["start"])
    else:
        model = untrained(settings["architecture"], n_classes, settings["side"], settings["seed"])
    return model.recipe, model.net.train().requires_grad_(True)


def _save(net: nn.Module, recipe: dict, name: str, path: Path) -> None:
    save_weights(Classifier(copy.deepcopy(net), recipe, name), path)


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Leave torch's random state as it was, and take no algorithm that varies from run to run."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic
    cudnn.deterministic = True
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        cudnn.deterministic = before


def _keep(path: Path, net: nn.Module, optimizer: torch.optim.SGD, log: list[dict]) -> None:
    """Write the state to resume from: weights, momentum and log, atomically."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    for k, parameter in enumerate(net.parameters()):
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{k}"] = momentum
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    text = json.dumps(log)
    with replacing(path) as file:
        file.write(save(tensors, {"log": text, "checksum": _checksum(tensors, text)}))


def _checksum(tensors: Mapping[str, Tensor], log: str) -> str:
    """Of a checkpoint; the format has none of its own."""
    return settings_key({name: fingerprint(tensors[name]) for name in tensors} | {"log": log})


def _resume(path: Path, net: nn.Module, optimizer: torch.optim.SGD) -> list[dict]:
    """Put both where the checkpoint left them; returns its log, empty without a sound one."""
    if not path.is_file():
        return []
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get("checksum") != _checksum(tensors, about.get("log", "")):
            raise ValueError("its checksum does not fit")
    except (OSError, ValueError, SafetensorError) as error:
        measure_again(path, f"is no checkpoint ({error})")
        return []
    net.load_state_dict({k: tensors[f"net.{k}"] for k in net.state_dict()})
    for k, parameter in enumerate(net.parameters()):
        if f"momentum.{k}" in tensors:
            kept = torch.empty_like(parameter, requires_grad=False)
            kept.copy_(tensors[f"momentum.{k}"])
            optimizer.state[parameter]["momentum_buffer"] = kept
    return json.loads(about["log"])


def train_plan(
    networks: Mapping[str, Mapping],
    shared: Mapping,
    folder: str | os.PathLike,
    partial: str | os.PathLike,
    seed: int = 0,
    device: str = "auto",
    workers: object = None,
    progress: bool = True,
) -> list[str]:
    """Train those networks of a plan that are not there yet; returns the names of those trained.

    networks: name -> settings of plans;  shared: settings of the study;  seed: draws what
    is held out. Each gets a folder of its name in ``folder``. One is finished when its
    settings.json holds the hash of its settings, its images and the code that trained it, and every
    other file is the one whose hash stands there; folders that no network has are removed.
    workers: who trains, each a network at a time and on a CPU in one thread, as in
    ``backend.parallel.executor``: by default this process. On another machine they want the folders
    where they are here.

    Errors: those of ``train_network``; RuntimeError naming the network that failed in a worker.
    """
    folder, device = Path(folder), pick_device(device)
    pool = executor(workers, device)
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.iterdir():
        if other.is_dir() and other.name not in networks:
            shutil.rmtree(other)
    every = {name: complete(settings, shared) for name, settings in networks.items()}
    check_settings(every)
    sources = {settings["images"]: settings for settings in every.values()}
    data = {source: load_data(settings, seed) for source, settings in sources.items()}
    keys = {name: _key(s, data[s["images"]], device) for name, s in every.items()}
    todo = [name for name in every if not _finished(folder / name, keys[name])]
    jobs = []
    for name in todo:
        own = Path(partial) / f"{name}-{keys[name]}"  # of these settings: another's is no start
        note = {"key": keys[name], **every[name]}
        jobs.append((name, note, folder / name, own, device))
    with tqdm(
        total=sum(every[name]["epochs"] for name in todo),
        unit="epoch",
        disable=not progress or not todo,
    ) as bar:

        def report(name: str, row: dict) -> None:
            bar.set_postfix_str(
                f"{name} {row['epoch']}: loss {row['loss']:.3f}, train "
                f"{row['train_accuracy']:.1%}, held out {row['held_out_accuracy']:.1%}"
            )
            bar.update()

        for _ in in_one_thread(pool).each(_train_one, data, jobs, device, report):
            pass
    return todo


def check_settings(networks: Mapping[str, Mapping]) -> None:
    """Refuse what no network can be trained with. Errors: ValueError naming it and the rule."""
    rules = {
        "epochs": ("1 or more", lambda v: v >= 1),
        "batch": ("2 or more", lambda v: v >= 2),
        "every": ("0 or more", lambda v: v >= 0),
        "lr": ("above 0", lambda v: v > 0),
        "momentum": ("from 0 to below 1", lambda v: 0 <= v < 1),
        "weight_decay": ("0 or more", lambda v: v >= 0),
        "steps": ("1 or more", lambda v: v >= 1),
        "eps": ("above 0 and up to 255", lambda v: 0 < v <= 255),
        "warm_up": ("0 or more", lambda v: v >= 0),
        "schedule": (f"one of {', '.join(SCHEDULES)}", lambda v: v in SCHEDULES),
    }
    for name, settings in networks.items():
        for key, (rule, holds) in rules.items():
            if not holds(settings[key]):
                raise ValueError(f"{key}={settings[key]!r} of {name} must be {rule}")
    for architecture, side in {(s["architecture"], s["side"]) for s in networks.values()}:
        untrained(architecture, 2, side, 0)  # an unknown name says here what there is


def _key(settings: Mapping, data: Data, device: torch.device) -> str:
    return settings_key(
        {
            "settings": {k: v for k, v in settings.items() if k != "plan"},
            "data": [fingerprint(tensor) for tensor in data],
            "code": code_hash(__name__),
            "device": device.type,
            "precision": settings["precision"],
        }
        | ({"start": content_hash(Path(settings["start"]))} if "start" in settings else {})
    )


def _finished(folder: Path, key: str) -> bool:
    """Whether a network of these settings is there, each of its files as training left it."""
    path = folder / "settings.json"
    if not path.is_file():
        return False
    try:
        note = as_object(path.read_text(encoding="utf-8"))
        if note.get("key") != key:
            return False
        for name, expected in dict(note["files"]).items():
            path = folder / name
            if content_hash(path) != expected:
                raise ValueError("it is not what training wrote")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        measure_again(path, f"cannot be believed ({error})")
        return False
    return True


def _train_one(data: dict[str, Data], name, note, folder, partial, device, report: Report) -> None:
    """Train a network into a folder that holds nothing of an earlier one, and say so there."""
    if not (partial.exists() and folder.exists()):
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    with failing(name):
        train_network(name, note, data[note["images"]], folder, partial, own_device(device), report)
    sweep(folder)
    files = {path.name: content_hash(path) for path in folder.iterdir()}
    text = json.dumps({**note, "files": files}, indent=1, sort_keys=True) + "\n"
    write_text(folder / "settings.json", text)
    shutil.rmtree(partial)
