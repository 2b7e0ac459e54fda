"""Images in the forms that people have them in: always the same pixels and labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from iaside.inputs.images import load_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), dtype=np.uint8)
X = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
Y = [0, 1] * 3
NAMES = ["cat", "dog"] * 3
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS]


class Unlabelled(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, k):
        return X[k]


class Rows(Unlabelled):
    def __getitem__(self, k):
        return {"image": PICTURES[k], "label": Y[k]}


@pytest.fixture
def paths(tmp_path):
    for k, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"{k}.png")
    return [tmp_path / f"{k}.png" for k in range(len(PICTURES))]


LABELLED = {
    "loader": lambda p: DataLoader(TensorDataset(X, torch.tensor(Y)), batch_size=2),
    "uint8, list": lambda p: (PIXELS, Y),
    "uint8, names": lambda p: (PIXELS, np.array(NAMES)),
    "uint8, series": lambda p: (PIXELS, pd.Series(NAMES)),
    "floats": lambda p: (PIXELS / 255, Y),
    "tensor, one-hot": lambda p: (X, np.eye(2)[Y]),
    "paths": lambda p: (p, NAMES),
    "paths as text": lambda p: ([str(path) for path in p], np.array(Y)),
    "PIL": lambda p: (PICTURES, NAMES),
    "pairs": lambda p: list(zip(p, NAMES, strict=True)),
    "rows": lambda p: [{"img": str(a), "label": b} for a, b in zip(p, NAMES, strict=True)],
    "rows of bytes": lambda p: [
        {"image": {"bytes": a.read_bytes(), "path": None}, "label": b}
        for a, b in zip(p, Y, strict=True)
    ],
    "data set of rows": lambda p: Rows(),
}
ALONE = {
    "folder": lambda p: p[0].parent,
    "uint8": lambda p: PIXELS,
    "tensor": lambda p: X,
    "paths": lambda p: p,
    "PIL": lambda p: PICTURES,
    "data set": lambda p: Unlabelled(),
    "loader": lambda p: DataLoader(Unlabelled()),
    "data set of one": lambda p: TensorDataset(X),
    "rows": lambda p: [{"image": picture} for picture in PICTURES],
    "with labels all the same": lambda p: (p, NAMES),
}


@pytest.mark.parametrize("form", LABELLED)
def test_labelled_images_are_the_same_in_every_form(form, paths):
    images, labels = load_images(LABELLED[form](paths))
    assert torch.allclose(images, X, atol=1e-6) and labels.tolist() == Y


@pytest.mark.parametrize("form", ALONE)
def test_images_alone_are_the_same_in_every_form(form, paths):
    assert torch.allclose(load_images(ALONE[form](paths), labels=False), X, atol=1e-6)
    few = load_images(ALONE[form](paths), labels=False, n=3)
    assert len(few) == 3
