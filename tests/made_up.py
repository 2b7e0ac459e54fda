"""Reports on made-up measurements, and those of trained networks: files as 69 writes them."""

import contextlib
import csv
import json
import warnings
import zlib
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from smoke import ROOT

from iaside.shapley import coalitions
from iaside.tables import Worths
from iaside.training.plans import networks


def write_profiles(root, plans, values, accuracy, epochs=6, n=40, held_out=300):
    """Write results/profiles/tables and results/training/networks of every network of some plans.

    values, accuracy: functions (settings, epoch) -> mean values of the bands in nats, (M,), and
    the share of correct answers. Networks of a plan with ``every`` have checkpoints, as trained
    ones do; seeds and photographs scatter around both by about a tenth.
    """
    for name, settings in networks(plans).items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        every = settings["every"] or epochs
        measured = [*range(every, epochs, every), epochs]
        folder = Path(root) / "results/profiles/tables" / settings["plan"] / name
        own = 1 + 0.05 * rng.normal(size=len(values(settings, epochs)))  # what the seed did
        scatter, ease = rng.normal(size=(n, len(own))), rng.random(held_out)
        for epoch in measured:
            psi = np.asarray(values(settings, epoch)) * own + 0.2 * scatter
            table = -7 + coalitions(len(own)).astype(float) @ psi.T
            about = {"values": ["log_likelihood"], "precision": "float32", "device": "cpu"}
            file = "final.npz" if epoch == epochs else f"epoch-{epoch:03d}.npz"
            Worths({"log_likelihood": table}, about).save(folder / file)
        np.savez(
            folder / "answers.npz",
            epochs=np.array(measured),
            chosen=np.arange(n) * 2,
            correct=np.stack([ease < accuracy(settings, epoch) for epoch in measured]),
        )
        log = Path(root) / "results/training/networks" / settings["plan"] / name / "log.csv"
        log.parent.mkdir(parents=True)
        with log.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["epoch", "updates", "loss", "train_accuracy", "held_out_accuracy"])
            for epoch in range(1, epochs + 1):
                share = accuracy(settings, epoch)
                rows.writerow([epoch, 62 * epoch, 2 * (1 - share), share, share])


def report(root, notebook, **parameters):
    """Run the cells of a reporting notebook; returns its records by claim and its metrics.

    In this process: a kernel and a page each take as long as the report itself, and the pipeline's
    own test has them.
    """
    matplotlib.use("Agg")
    space = {}
    with contextlib.chdir(root), warnings.catch_warnings():
        for cell in json.loads((ROOT / f"notebooks/{notebook}.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), notebook, "exec"), space)
            if "parameters" in cell["metadata"].get("tags", []):
                assert set(parameters) <= set(space)
                space |= parameters
    plt.close("all")
    folder = root / "results" / notebook.partition("_")[2]
    claims = folder / "claims.json"
    found = json.loads(claims.read_text())["claims"] if claims.is_file() else []
    return {row["id"]: row for row in found}, json.loads((folder / "metrics.json").read_text())
