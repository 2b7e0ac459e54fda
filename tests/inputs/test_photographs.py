"""Pictures on the disk give what the same ones in memory give, and take the memory of a batch."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from iaside.backend.fingerprints import fingerprint, look
from iaside.game.controls import calibrated
from iaside.game.exact import coalition_worths
from iaside.game.sampling import sampled_worths
from iaside.inputs.checks import check_images
from iaside.inputs.classifier import load_model
from iaside.inputs.images import load_images
from iaside.inputs.photographs import Photographs, Writer
from iaside.robustness.responses import responses
from iaside.spectral import band_energy, band_masks
from iaside.tables import Condition

SIDE = 16


@pytest.fixture
def folder(tmp_path):
    """20 pictures of two classes, larger than they will be; the last of the files is damaged."""
    draws = np.random.default_rng(0)
    for k in range(20):
        path = tmp_path / "set" / "ab"[k % 2] / f"{k:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    (tmp_path / "set/b/20.jpg").write_bytes(b"no picture")
    return tmp_path / "set"


@pytest.fixture
def both(folder, tmp_path):
    how = dict(n=17, seed=3, input_size=SIDE, skip_unreadable=True)
    with pytest.warns(UserWarning, match="left out"):
        x, y = load_images(folder, **how)
        stored, labels = load_images(folder, **how, on_disk=tmp_path / "disk")
    assert torch.equal(y, labels)
    return x, stored, y


def network(x):
    """Answers of its own for every picture."""
    weights = torch.randn(3 * SIDE**2, 2, generator=torch.Generator().manual_seed(0))
    return (x.flatten(1) @ weights).tanh()


def test_they_are_the_same_pictures(both):
    x, stored, _ = both
    assert isinstance(stored, Photographs) and len(stored) == 17 and stored.ndim == 4
    assert (stored.shape, stored.dtype, stored.device) == (x.shape, x.dtype, x.device)
    for index in (
        0,
        -1,
        slice(None),
        slice(3, 12, 2),
        [5, 2, 2],
        np.arange(17) % 3 == 1,
        torch.tensor([4, 0]),
        slice(20, 30),
    ):
        assert torch.equal(stored[index], x[index])
    assert torch.equal(torch.stack(list(stored)), x)  # which ends, as IndexError is raised
    assert all(map(torch.equal, stored.split(5), x.split(5)))
    assert fingerprint(stored) == fingerprint(x) and look(stored) == look(x)
    masks = band_masks(2, (SIDE, SIDE), spacing="equal_energy", images=stored)
    assert torch.equal(masks, band_masks(2, (SIDE, SIDE), spacing="equal_energy", images=x))
    assert torch.equal(band_energy(stored, masks), band_energy(x, masks))


@pytest.mark.slow
def test_responses_are_the_same_to_pictures_on_the_disk(tmp_path):
    """Also of corruptions of larger pictures, and with several blocks of them in memory in turn."""
    draws = torch.Generator().manual_seed(0)
    large = (255 * torch.rand(19, 3, 40, 36, generator=draws)).round() / 255
    x = (255 * torch.rand(19, 3, 32, 32, generator=draws)).round() / 255
    weights = torch.randn(3 * 32**2, 2, generator=draws)

    def asked(images, pictures, cache):
        wanted = [("white_noise", 0.1), ("white_noise", 0.1, 1), ("fgsm", 0.1), ("fourier", 4.0, 3)]
        return responses(
            lambda x: (x.flatten(1) @ weights).tanh(),
            images,
            torch.arange(19) % 2,
            [Condition(*one) for one in [*wanted, ("brightness", 2), ("gaussian_noise", 1)]],
            band_masks(2, (32, 32)),
            subset={"fgsm": [2, 17, 18]},
            heat_grid=3,
            batch_size=4,
            attack_batch=2,
            cache=cache,
            pictures=pictures,
            progress=False,
        )

    def stored(images):
        with Writer(tmp_path, room_for=19) as written:
            for k, image in enumerate(images):
                written[k] = image
            return written.photographs()

    kept = asked(x, large, tmp_path / "cache")
    before = sorted((tmp_path / "cache").iterdir())
    found = asked(stored(x), stored(large), tmp_path / "cache")
    assert sorted((tmp_path / "cache").iterdir()) == before, "as much again as the pictures"
    assert found.provenance == kept.provenance and found.conditions == kept.conditions
    for name, table in kept.tables.items():
        assert np.array_equal(found.tables[name], table, equal_nan=True), name
    assert np.array_equal(found.change_energy, kept.change_energy, equal_nan=True)
    assert np.array_equal(found.clean_energy, kept.clean_energy)


@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement", "mean"])
@pytest.mark.parametrize("measure", [coalition_worths, sampled_worths])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.slow
def test_games_are_the_same(both, measure, absence, tmp_path):
    x, stored, y = both
    how = dict(masks=band_masks(3, (SIDE, SIDE)), absence=absence, batch_size=4, progress=False)
    how |= {} if measure is coalition_worths else {"budget": 170}
    expected = measure(network, x, y, **how)
    found = measure(network, stored, y, **how, resume=tmp_path / "resume")
    assert found.provenance == expected.provenance
    for name, table in expected.tables.items():
        np.testing.assert_array_equal(found.tables[name], table)
    if measure is coalition_worths:  # what was measured in memory goes on from the disk
        assert measure(network, x, y, **how, resume=tmp_path / "resume").forwards == 0


@pytest.mark.slow
def test_controls_are_the_same(tmp_path):
    source = [(torch.randint(0, 256, (3, 64, 64)) / 255, k % 2) for k in range(6)]
    twin = load_model("resnet18", pretrained=False)
    x, _ = load_images(source)
    stored, _ = load_images(source, on_disk=tmp_path)
    pairs = zip(
        calibrated(twin, x).parameters(), calibrated(twin, stored).parameters(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_the_file_goes_with_them(both, tmp_path):
    x, stored, _ = both
    disk = tmp_path / "disk"
    assert stored.path.stat().st_size == 17 * 3 * SIDE**2 and disk in stored.path.parents
    elsewhere = pickle.loads(pickle.dumps(stored))
    assert torch.equal(elsewhere[:], x)
    code = "import pickle, sys; x = pickle.load(sys.stdin.buffer); print(len(x[:])); del x"
    other = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(stored), capture_output=True, check=True
    )
    assert other.stdout.split() == [b"17"] and stored.path.exists()
    if (child := os.fork()) == 0:  # a copy that goes in another process leaves the file
        stored._gone()
        os._exit(0)
    os.waitpid(child, 0)
    assert stored.path.exists()
    path = stored.path
    del elsewhere
    assert path.exists()
    os.truncate(path, 100)
    with pytest.raises(OSError, match="too short"):
        stored[5]
    stored._gone()
    assert not path.exists() and not [*disk.iterdir()]


@pytest.mark.parametrize("first", [0, 3])
def test_pixels_that_are_no_bytes_stay_floats(first, tmp_path):
    source = [(torch.rand(3, 8, 8) if k >= first else torch.ones(3, 8, 8), k) for k in range(6)]
    x, _ = load_images(source)
    stored, _ = load_images(source, on_disk=tmp_path)
    assert torch.equal(stored[:], x) and stored.path.stat().st_size == 4 * x.numel()
    assert [path.name for path in stored.path.parent.iterdir()] == [stored.path.name]
    again, _ = load_images(source, on_disk=tmp_path, seed=5, n=5)
    assert torch.equal(again[:], load_images(source, seed=5, n=5)[0])


def test_what_cannot_stay_on_disk_is_refused(folder, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    with pytest.raises(ValueError, match="20.jpg cannot be read"):
        load_images(folder, input_size=8, on_disk=disk)
    with pytest.raises(ValueError, match="images of 2 sizes"):
        load_images([(torch.zeros(3, 8, k), 0) for k in (8, 9)], on_disk=disk)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="1,000 pictures take 0.2 GB, which .* has no room for"):
        load_images([(torch.zeros(3, 224, 224), 0)] * 1000, on_disk=disk)
    assert not [*disk.iterdir()]
    monkeypatch.undo()
    stored, _ = load_images([(torch.zeros(3, 8, 8), 0)], on_disk=disk)
    with pytest.raises(TypeError, match=r"all are needed here; give some, images\[:64\]"):
        check_images(stored)


GAME = """
import sys, json, torch
from iaside.inputs.images import load_images
from iaside.spectral import band_masks
from iaside.game.exact import coalition_worths
from iaside.backend.fingerprints import look

source, disk, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
x, y = load_images(source, n=n, input_size=224, on_disk=disk or None)
net = lambda x: torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)
game = coalition_worths(net, x, y, band_masks(2, (224, 224)), batch_size=16, progress=False)
with open("/proc/self/status") as file:  # not ru_maxrss, which has the peak of who started this
    peak = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
print(json.dumps([peak, game.provenance["images"], game.table.sum()]))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    # 600 files, links to twenty: what is decoded and kept is 600 pictures.
    draws = np.random.default_rng(0)
    for k in range(20):
        rough = Image.fromarray(draws.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        rough.resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / f"{k}.jpg")
    for k in range(600):
        path = tmp_path / "set" / "ab"[k % 2] / f"{k:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / f"{k % 20}.jpg", path)

    def played(n, disk):
        run = [sys.executable, "-W", "ignore", "-c", GAME, tmp_path / "set", disk, str(n)]
        done = subprocess.run(run, capture_output=True, check=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    (few, *_), (many, *found), (memory, *expected) = (
        played(100, tmp_path / "disk"),
        played(600, tmp_path / "disk"),
        played(600, ""),
    )
    print(f"peak MiB: {few:.0f} of 100 on disk, {many:.0f} of 600 on disk, {memory:.0f} in memory")
    assert found == expected
    each = (many - few) / 500  # MiB a picture, which are 0.14 in bytes and 0.57 in floats
    assert few + 49_900 * each < 4096
    assert memory - many > 600 * 0.5
