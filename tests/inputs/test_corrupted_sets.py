"""ImageNet-C and CIFAR-10-C as they are published: stand-ins in their formats."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import iaside as ia
from iaside.inputs.images import load_images
from iaside.robustness.corruptions import CUT
from iaside.robustness.measures import corruption_error
from iaside.tables import CLEAN, CLEAN_CUT, CORRUPTIONS, Condition

WNIDS = ("n01440764", "n01443537", "n01484850")
ARCHIVES = {"fog": "weather", "contrast": "digital"}  # as its archives are unpacked
SIDE, N = 32, 10


class Bright(nn.Module):
    """Two classes by the mean brightness, at any size."""

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, x):
        z = 40 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([z, -z], 1)


def grey_of(corruption, severity, k):
    return 10 * (list(ARCHIVES).index(corruption) + 1) + 7 * k + severity


@pytest.fixture
def imagenet(tmp_path):
    """Clean photographs of three classes, and the same under two corruptions, of 224 pixels."""
    for k in range(6):
        wnid, name = WNIDS[k % 3], f"ILSVRC2012_val_{k + 1:08d}.JPEG"
        clean = tmp_path / "val" / wnid
        clean.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 260), (30 * k + 40,) * 3).save(clean / name)
        for corruption, archive in ARCHIVES.items():
            for severity in (1, 5):
                place = tmp_path / "ImageNet-C" / archive / corruption / str(severity) / wnid
                place.mkdir(parents=True, exist_ok=True)
                grey = (grey_of(corruption, severity, k),) * 3
                Image.new("RGB", (224, 224), grey).save(place / name, quality=95)
    return tmp_path / "ImageNet-C", tmp_path / "val"


def greys(x):
    return x[:, 0, 100, 100].tolist()


@pytest.mark.parametrize("n", [None, 3, 4])
def test_files_are_those_of_the_photographs_that_are_drawn(imagenet, n):
    folder, val = imagenet
    clean = load_images(val, like=CUT, n=n, seed=1, labels=False)
    which = [round((grey * 255 - 40) / 30) for grey in greys(clean)]
    found = ia.corrupted_set(folder, val, n, seed=1)
    assert len(found) == len(clean)
    for c in ARCHIVES:
        for severity in (1, 5):
            shown = greys(found.pictures(c, severity, range(len(found))))
            assert shown == [grey_of(c, severity, k) for k in which]


def test_a_flat_set_of_photographs_finds_them_by_name(imagenet):
    """In one folder they lie in another order than in one for each class."""
    folder, val = imagenet
    flat = val.parent / "flat"
    flat.mkdir()
    for file in val.rglob("*.JPEG"):
        file.rename(flat / file.name)
    names = sorted(file.name for file in flat.iterdir())
    (flat / "val.txt").write_text("".join(f"{name} {k % 3}\n" for k, name in enumerate(names)))
    found = ia.corrupted_set(folder, flat)
    assert greys(found.pictures("fog", 5, [1, 3])) == [grey_of("fog", 5, k) for k in (1, 3)]


def test_published_files_are_measured_beside_the_clean_cut(imagenet):
    folder, val = imagenet
    masks = ia.band_masks(2, (64, 64))
    images, _ = load_images(val, input_size=64)
    pictures = load_images(val, like=CUT, labels=False)
    published = ia.corrupted_set(folder, val)
    r = ia.responses(
        Bright(),
        images,
        torch.tensor([0, 1, 0, 1, 0, 1]),
        [Condition("fog", 5.0)],
        masks,
        pictures=pictures,
        published=published,
        progress=False,
    )
    assert (
        r.conditions == [CLEAN, CLEAN_CUT, Condition("fog", 5.0)]
        and r.partner(r.conditions[2]) == 1
    )
    order = [k for wnid in range(3) for k in (wnid, wnid + 3)]
    grey = torch.tensor([grey_of("fog", 5, k) for k in order]) / 255
    by_hand = torch.stack([40 * (grey - 0.5), -40 * (grey - 0.5)], 1).log_softmax(1)
    wanted = by_hand[range(6), [0, 1, 0, 1, 0, 1]]
    np.testing.assert_allclose(r.tables["log_likelihood"][2], wanted, atol=1e-3)
    assert "as published at 224 x 224 pixels, then resized to 64 x 64" in r.corrupted_as()


@pytest.fixture
def cifar(tmp_path):
    """Test pictures, and arrays of all corruptions, of which those of severity 2 are ours."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
    images = (images * 0.2 + draw.uniform(20, 180, (N, 1, 1, 1))).astype(np.uint8)
    labels = np.arange(N) % 2
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for c in CORRUPTIONS:
        array = np.zeros((5 * N, SIDE, SIDE, 3), np.uint8)
        made = ia.perturb(x, c, severity=2, seed=0)
        array[N : 2 * N] = (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        np.save(folder / f"{c}.npy", array)
    np.save(folder / "labels.npy", np.tile(labels, 5))
    return folder, tmp_path / "test.npz"


def measured(source, published=None, conditions=CORRUPTIONS, n=None):
    x, y = load_images(source, n=n)
    wanted = [Condition(c, 2.0) for c in conditions]
    masks = ia.band_masks(2, (SIDE, SIDE))
    return ia.responses(Bright(), x, y, wanted, masks, published=published, progress=False)


def test_arrays_of_what_is_made_here_give_the_same_answers(cifar, tmp_path):
    folder, source = cifar
    here, theirs = measured(source), measured(source, ia.corrupted_set(folder, source))
    for name, table in here.tables.items():
        assert np.array_equal(table, theirs.tables[name]), name
    assert np.array_equal(here.change_energy, theirs.change_energy)
    assert corruption_error(theirs).value == corruption_error(here).value > 0
    assert "as published at 32 x 32 pixels" in theirs.corrupted_as()
    assert "published" in theirs.provenance["corruptions"]
    assert "version" not in theirs.provenance["corruptions"]


def test_some_of_the_photographs_are_those_of_the_source(cifar):
    folder, source = cifar
    whole = measured(source, ia.corrupted_set(folder, source), ["fog"])
    some = measured(source, ia.corrupted_set(folder, source, 4), ["fog"], n=4)
    rows = ia.corrupted_set(folder, source, 4).rows
    assert len(rows) == 4 < N
    assert np.array_equal(some.tables["confidence"], whole.tables["confidence"][:, rows])


def test_mce_is_that_of_the_published_pictures(cifar):
    folder, source = cifar
    y = np.load(folder / "labels.npy")[:N]
    errors = {}
    for c in CORRUPTIONS:
        shown = torch.from_numpy(np.load(folder / f"{c}.npy")[N : 2 * N]).permute(0, 3, 1, 2) / 255
        errors[c] = (Bright()(shown).argmax(1).numpy() != y).mean()
    r = measured(source, ia.corrupted_set(folder, source))
    assert corruption_error(r).value == pytest.approx(ia.mean_corruption_error(errors))


def test_the_example_of_the_documentation_runs(cifar, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs/benchmarks.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    for old, new in (("500", str(N)), ('"cifar-10"', '"test.npz"'), ("like=model", "like=None")):
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(cifar[1].parent)
    monkeypatch.setattr(ia, "load_model", lambda name: Bright())
    exec(compile(code, page.name, "exec"), {})
    said = capsys.readouterr().out
    assert "as published at 32 x 32" in said and f"n = {N} photographs" in said


def test_other_contents_are_another_measurement(cifar):
    folder, source = cifar
    digests = []
    for grey in (1, 2):
        array = np.load(folder / "fog.npy")
        array[N, 0, 0] = grey
        np.save(folder / "fog.npy", array)
        published = ia.corrupted_set(folder, source)
        digests.append(measured(source, published, ["fog"]).provenance["corruptions"]["published"])
    assert digests[0] != digests[1]


class Never:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


def test_what_does_not_fit_is_named(cifar, imagenet, tmp_path):
    folder, source = cifar
    with pytest.raises(ValueError, match=r"val holds no corrupted pictures: it must be <corrupt"):
        ia.corrupted_set(imagenet[1], imagenet[1])
    other = tmp_path / "other.npz"
    x, y = load_images(source)
    np.savez(other, images=x.permute(0, 2, 3, 1).numpy(), labels=1 - y.numpy())
    with pytest.raises(ValueError, match="picture 0 has the label 1 in .* and 0 in .*own order"):
        ia.corrupted_set(folder, other)
    np.savez(other, images=x[:7].permute(0, 2, 3, 1).numpy(), labels=y[:7].numpy())
    with pytest.raises(ValueError, match="has 50 labels and .* 7 pictures: give the whole test"):
        ia.corrupted_set(folder, other)
    published = ia.corrupted_set(folder, source)
    with pytest.raises(ValueError, match="published are 10 pictures of 4 images; ask for both"):
        measured(source, published, ["fog"], n=4)
    np.save(folder / "fog.npy", np.zeros((N, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"fog.npy is uint8 \(10, 32, 32, 3\), not uint8 \(50, H"):
        measured(source, published, ["fog"])
    (folder / "fog.npy").unlink()
    with pytest.raises(FileNotFoundError, match="fog.npy: put the published file there"):
        measured(source, published, ["fog"])
    (folder / "fog.npy").write_bytes(pickle.dumps(Never()))
    with pytest.raises(ValueError, match="fog.npy is no array of numbers"):
        measured(source, published, ["fog"])
    with pytest.raises(FileNotFoundError, match="no images at '.*nowhere'"):
        ia.corrupted_set(tmp_path / "nowhere", source)


def test_files_that_do_not_fit_are_named(imagenet):
    folder, val = imagenet
    x, y = load_images(val, input_size=64)
    y = torch.arange(6) % 2
    ask = lambda c, severity: ia.responses(  # noqa: E731
        Bright(),
        x,
        y,
        [Condition(c, severity)],
        ia.band_masks(2, (64, 64)),
        published=ia.corrupted_set(folder, val),
        progress=False,
    )
    with pytest.raises(ValueError, match="pictures of 224x224 pixels, and .* 64x64: give pictures"):
        ask("fog", 1.0)
    with pytest.raises(FileNotFoundError, match="no .*fog.2.n01440764.*JPEG: .* complete it"):
        ask("fog", 2.0)
    next(val.rglob("*.JPEG")).rename(val / WNIDS[0] / "mine.JPEG")
    with pytest.raises(ValueError, match="mine.JPEG is not in .*: give the clean files"):
        ia.corrupted_set(folder, val)
