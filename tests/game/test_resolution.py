"""One game at several numbers of bands: what nests, what is refused, and the report's verdicts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import report

from iaside.backend.fingerprints import fingerprint
from iaside.game.exact import coalition_worths
from iaside.game.resolution import pooled_values
from iaside.game.samples import SampledWorths
from iaside.game.surrogate import draw_pairs, members, whole
from iaside.inputs.classifier import load_model
from iaside.inputs.images import load_images
from iaside.shapley import coalitions, owen_values, shapley_values
from iaside.spectral import band_masks
from iaside.tables import Worths

ROOT = Path(__file__).resolve().parents[2]
N, SIZE = 16, (32, 32)
EXACT = {
    "classes": 10,
    "n_bands": 8,
    "images": "these",
    "labels": "their",
    "precision": "float32",
    "absence": "zero",
    "values": ["log_likelihood"],
    "temperature": 1.0,
    "masks": fingerprint(band_masks(8, SIZE)),
    "device": "cpu",
}
SAMPLED = EXACT | {
    "n_bands": 16,
    "metric": "linf",
    "input_size": list(SIZE),
    "stopped": "budget",
    "message": "the budget is spent",
    "budget": 999,
}


@pytest.mark.parametrize(
    ("metric", "size"),
    [("linf", (224, 224)), ("linf", (75, 131)), ("l2", (240, 240)), ("l2_corner", (240, 240))],
)
def test_bands_of_equal_width_nest_exactly(metric, size):
    wide = band_masks(4, size, metric)
    for n_bands in (8, 12, 32):
        parts = band_masks(n_bands, size, metric).reshape(4, -1, *wide.shape[1:])
        assert torch.equal(parts.sum(1), wide)


def test_finer_values_are_added_up_within_wider_bands():
    fine = np.arange(24.0).reshape(12, 2)
    assert pooled_values(fine, 3).tolist() == [fine[k : k + 4].sum(0).tolist() for k in (0, 4, 8)]
    with pytest.raises(ValueError, match="12 bands do not nest in 8: .*multiples of 8"):
        pooled_values(fine, 8)


@pytest.mark.slow
def test_coalitions_of_whole_bands_are_the_coarse_game_and_owen_values_add_up_to_it(data):
    """On a real network: the coarse table is that of the unions, so its values are their sums."""
    net = load_model("squeezenet1_1")
    x, y = load_images("photographs", like=net, n=1, seed=0)
    how = dict(batch_size=16, progress=False)
    fine = coalition_worths(net, x, y, band_masks(6, net.input_size), **how).table
    coarse = coalition_worths(net, x, y, band_masks(3, net.input_size), **how).table
    unions = np.arange(6) // 2
    rows = coalitions(3)[:, unions] @ 2 ** np.arange(6)
    np.testing.assert_allclose(fine[rows], coarse, atol=1e-3)
    owen = pooled_values(owen_values(fine, unions), 3)
    np.testing.assert_allclose(owen, shapley_values(fine[rows]), atol=1e-12)
    assert np.abs(pooled_values(shapley_values(fine), 3) - owen).max() > 1e-3, "Shapley's do not"


def write(root, name, game, n_bands=16, strength=None):
    """Tables of one game, exact at 8 bands and sampled at more; game: members (K, M) -> worths."""
    fine_of_coarse = np.repeat(coalitions(8), n_bands // 8, axis=1)
    if strength is None:
        strength = 1 + 0.1 * np.random.default_rng(0).normal(size=N)
    table = -7 + game(fine_of_coarse.astype(float))[:, None] * strength
    path = root / f"results/worths/tables/{name}-trained.npz"
    Worths({"log_likelihood": table}, EXACT).save(path)
    ends = np.array([0, whole(n_bands)], np.uint64)
    pairs = [draw_pairs(n_bands, 24, np.random.default_rng(k)) for k in range(N)]
    codes = np.stack([np.r_[ends, p] for p in pairs])
    worths = -7 + game(members(codes, n_bands).astype(float)) * strength[:, None]
    image, column = np.indices(codes.shape).reshape(2, -1)
    tables = {"log_likelihood": worths.ravel()}
    sampled = SampledWorths(image, column // 2, codes.ravel(), tables, SAMPLED)
    sampled.save(root / f"results/resolution/tables/{name}/{n_bands}.npz")
    return table


@pytest.mark.slow
def test_planted_games_are_judged(tmp_path):
    """Bands that add up: alike at every M. Three that only work together, two of them in one of
    eight bands: 2/3 and 1/3 by finer bands, halves by the eight, an L1 distance of 1/3."""
    falling = 0.6 ** np.arange(16)
    table = write(tmp_path, "additive", lambda x: x @ falling)
    write(tmp_path, "together", lambda x: 6 * x[..., 0] * x[..., 1] * x[..., 2])
    shutil.copytree(ROOT / "notebooks", tmp_path / ".build/notebooks")
    study = {
        "seed": 0,
        "models": {name: {"name": name} for name in ("additive", "together")},
        "worths": {"images": "photographs"},
        "resolution": {"bands": [16]},
        "resolution_report": {"beta": 0.75, "n_draws": 5},
    }
    (tmp_path / "params.yaml").write_text(json.dumps(study))
    command = [sys.executable, "-m", "iaside.study.run", "67_resolution_report"]
    command += ["--take", "bands", "resolution.bands", "--take", "images", "worths.images"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results/resolution_report"
    rows = json.loads((folder / "claims.json").read_text())["claims"]
    found = {row["id"]: row for row in rows}
    parts = {p["part"]: p for p in found["m8_suffices"]["parts"]}
    assert parts["additive, M = 16"]["verdict"] == "supported"
    assert parts["together, M = 16"]["verdict"] == "contradicted"
    assert parts["together, M = 16"]["value"] == pytest.approx(1 / 3, abs=0.02)
    assert found["m8_suffices"]["verdict"] == "contradicted" and found["m8_suffices"]["n"] == N
    assert found["sampling_inaccurate"]["verdict"] == "contradicted", "sampling is accurate here"
    metrics = json.loads((folder / "metrics.json").read_text())["additive"]
    for n_bands, row in metrics["bands"].items():
        assert len(row["psi"]["value"]) == int(n_bands) and row["n"] == N
        whole_image = (table[-1] - table[0]).mean()
        assert sum(row["psi"]["value"]) == pytest.approx(whole_image, abs=1e-4), "they add up"
    # the lowest of two parts of band 0, of a game in which its value is known
    assert metrics["lowest_part"]["value"] == pytest.approx(1 / 1.6, abs=0.02)
    page = (folder / "report.html").read_text()
    assert (
        f"Of 2 distances (n = {N} photographs) 1 has 95 % limits inside the margin of 0.1; 1 lies "
        "beyond it, for all 2 together (95 %); none is undecided."
    ) in page


@pytest.mark.slow
def test_no_share_is_told_of_what_may_be_worth_nothing(tmp_path, monkeypatch):
    """Of a network whose photographs cancel, beside two that rank alike, whose last band is clearly
    the weakest: where it is not, no min-max score is told either."""
    said = []
    monkeypatch.setattr("IPython.display.Markdown", lambda text: said.append(text) or text)
    strength = {"steep": None, "flat": None, "blind": np.r_[np.ones(8), -np.ones(8)] + 1e-3}
    for name, of_image in strength.items():
        falling = (0.6**0.5 if name == "flat" else 0.6) ** np.arange(16)
        falling[-1] = -0.3
        write(tmp_path, name, lambda x, f=falling: x @ f, strength=of_image)
    (tmp_path / "params.yaml").write_text("")
    models = {name: {"name": name} for name in strength}
    how = dict(bands=[16], n_draws=2)
    found, metrics = report(tmp_path, "67_resolution_report", models=models, **how)
    assert metrics["blind"]["lowest_part"] is None
    assert metrics["steep"]["lowest_part"]["value"] == pytest.approx(1 / 1.6, abs=0.02)
    text = "\n".join(said)
    assert "of the band's value cannot be told, which may be 0" in text
    assert "Without plain shares, because v(all) - v(none) may be 0: blind." in text
    plain, printed = (
        next(line for line in text.splitlines() if line.startswith(f"**{kind}**"))
        for kind in ("the same, of plain shares", "SRC as printed")
    )
    for line in (plain, printed):
        assert "steep, flat at M = 8 and 16" in line and "blind" not in line
    assert "**blind**, M = 16: no min-max score, the two weakest bands are " in text
    assert "steep**, M =" not in text and "flat**, M =" not in text
    said.clear()
    report(tmp_path, "67_resolution_report", models={"blind": models["blind"]}, **how)
    assert "A study of one network has no ranks." in said
