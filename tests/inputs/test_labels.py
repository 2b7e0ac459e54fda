"""Labels and pictures as data sets have them: what has one meaning is taken, the rest is named."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import tv_tensors

import iaside as ia
from iaside.inputs.images import load_images
from iaside.inputs.labels import class_labels
from iaside.shapley import coalitions
from iaside.spectral import band_masks

Y = [2, 0, 1, 2]
HOT = np.eye(3)[Y]


def backwards(array):
    """The same numbers in memory that is read from its end."""
    return np.array(array)[::-1].copy()[::-1]


def read_only(array):
    array.flags.writeable = False
    return array


SAME = {
    "list": Y,
    "tuple": tuple(Y),
    "numbers of NumPy": [np.uint8(y) for y in Y],
    "tensors": [torch.tensor(y) for y in Y],
    "tensors of one": [torch.tensor([y]) for y in Y],
    "uint8": np.array(Y, np.uint8),
    "uint64": np.array(Y, np.uint64),
    "torch.uint64": torch.tensor(Y, dtype=torch.uint64),
    "int32": torch.tensor(Y).int(),
    "big-endian": np.array(Y, ">i4"),
    "backwards": backwards(Y),
    "every other": np.repeat(Y, 2)[::2],
    "read-only": read_only(np.array(Y)),
    "object": np.array(Y, object),
    "column": np.array(Y)[:, None],
    "column of floats": torch.tensor(Y)[:, None].float(),
    "2.0": [float(y) for y in Y],
    "float16": torch.tensor(Y).half(),
    "series": pd.Series(Y, index=[3, 2, 1, 0]),
    "nullable series": pd.Series(Y, dtype="Int64"),
    "index": pd.Index(Y),
    "categories": pd.Series(pd.Categorical(Y)),
    "gradient": torch.tensor(Y).float().requires_grad_(),
    "parameter": nn.Parameter(torch.tensor(Y).float()),
    "subclass": torch.tensor(Y).as_subclass(tv_tensors.Mask),
    "sparse": torch.tensor(Y).to_sparse(),
}
ONE_HOT = {
    "floats": HOT,
    "integers": HOT.astype(int),
    "truths": HOT == 1,
    "lists": HOT.tolist(),
    "tensor": torch.tensor(HOT),
    "frame": pd.DataFrame(HOT),
    "big-endian": HOT.astype(">f8"),
    "tensors": [torch.tensor(row) for row in HOT],
    "arrays": [*HOT],
}


@pytest.mark.parametrize("labels", SAME.values(), ids=SAME)
@pytest.mark.parametrize("soft", [False, True])
def test_class_indices_are_taken_from_whatever_holds_them(labels, soft):
    found = class_labels(labels, 4, soft)
    assert type(found) is torch.Tensor and found.dtype == torch.int64 and found.tolist() == Y
    assert not found.requires_grad


def test_truths_are_two_classes():
    for labels in ([True, False], np.array([True, False]), torch.tensor([True, False])):
        assert class_labels(labels, 2).tolist() == [1, 0]


@pytest.mark.parametrize("labels", ONE_HOT.values(), ids=ONE_HOT)
def test_one_hot_labels_are_the_classes_they_name(labels):
    assert class_labels(labels, 4).tolist() == Y
    soft = class_labels(labels, 4, soft=True)
    assert soft.is_floating_point() and np.array_equal(soft.numpy(), HOT)


def test_probabilities_stay_as_they_are():
    for rows in (torch.full((4, 3), 1 / 3), torch.full((4, 3), 1 / 3, dtype=torch.float64)):
        soft = class_labels(rows, 4, soft=True)
        assert soft.dtype == rows.dtype and torch.equal(soft, rows)
    assert class_labels([[0.5, 0.5]], 1, soft=True).dtype == torch.float32


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([2, 0, 1.7, 2], r"label of image 2 is 1\.7; class indices must be integers"),
        (torch.tensor([0, 1, 2, 1e30]), "label of image 3 is 1e.30; class indices"),
        (np.array([0, np.nan, 1, 2]), "label of image 1 is nan; class indices must be"),
        (np.ma.masked_array([0, 1, 2, 0], [0, 0, 1, 0]), "label of image 2 is nan"),
        ([[1, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]], "image 0 are not one-hot: several labels"),
        ([[1, 0], [0, 0], [1, 0], [1, 0]], "image 1 are not one-hot: several labels .or none"),
        ([[3, 5], [1, 2], [0, 1], [4, 4]], "image 0 are not one-hot: several labels"),
        ([[2], [0, 1], [1], [2]], "are several labels an image; give one"),
        ([torch.tensor([2]), torch.tensor([0, 1])] * 2, "are several labels an image; give one"),
        ([{"boxes": 1}] * 4, "are no numbers"),
        ({"a": 1}, "are no numbers"),
        ({2, 0, 1}, "are no numbers"),
        ((y for y in Y), "are no numbers"),
        (["cat", "dog", "cat", "cat"], "are no numbers"),
        (["2", "0", "1", "2"], "are no numbers"),
        ([2, None, 1, 2], "are no numbers"),
        (pd.Series([2, None, 1, 2], dtype="Int64"), "are no numbers|image 1 is nan"),
        ([2, 0, 1.0000001, 2.0], r"label of image 2 is 1\.0000001\d*; class indices"),
        (np.array([2, 0, 1 + 1e-9, 2]), r"label of image 2 is 1\.000000001; class indices"),
        (np.array([2, 0, 1, 2], complex), "are no numbers"),
        (torch.tensor([2, 0, 1, 2]).cfloat(), "labels are torch.complex64; give real"),
        (np.array(["2026-01-01"] * 4, "datetime64[D]"), "are no numbers"),
        ([2, 0, 1, 10**30], "are no numbers"),
        (np.array([Y]), "1 labels for 4 images"),
        (3, "labels=3 is one number"),
        (torch.zeros(4, 2, 2), "4 labels for 4 images"),
    ],
)
def test_what_names_no_class_is_refused_in_one_line(labels, text, soft):
    with pytest.raises((TypeError, ValueError), match=text) as error:
        class_labels(labels, 4, soft)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")  # torch's, of what is young or old in it
def test_tensors_that_are_no_arrays_are_refused_in_one_line():
    for odd, kind in [
        (torch.nested.nested_tensor([torch.ones(1)] * 4), "nested"),
        (torch.quantize_per_tensor(torch.ones(4), 1.0, 0, torch.quint8), "torch.quint8"),
    ]:
        with pytest.raises(TypeError, match=f"labels are {kind}; give real numbers in an ordinary"):
            class_labels(odd, 4)


def test_probabilities_are_refused_where_one_class_is_needed():
    with pytest.raises(ValueError, match=r"probabilities are not taken here.*labels.argmax\(1\)"):
        class_labels([[0.9, 0.1]] * 4, 4)


class Net(nn.Module):
    """Three logits of the means of the channels."""

    def forward(self, x):
        return 3 * x.mean((2, 3))


GAME = {"batch_size": 4, "progress": False}
MASKS = band_masks(3, (16, 16))


@pytest.fixture
def x():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_hot_labels_give_what_classes_give(x):
    hot, net = np.eye(3)[Y].tolist(), Net().eval()
    right = ia.coalition_worths(net, x, torch.tensor(Y), MASKS, **GAME)
    assert np.allclose(ia.coalition_worths(net, x, hot, MASKS, **GAME).table, right.table)
    attacked = ia.perturb(x, "fgsm", model=net, labels=torch.tensor(Y), eps=0.1)
    assert torch.equal(ia.perturb(x, "fgsm", model=net, labels=hot, eps=0.1), attacked)
    with pytest.raises(ValueError, match="soft labels have 4 classes and the model 3"):
        ia.coalition_worths(net, x, np.eye(4)[Y], MASKS, **GAME)


# -- pictures --------------------------------------------------------------------------------------


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
FLOATS = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
PICTURES = {
    "PIL": Image.fromarray(PIXELS),
    "RGBA": Image.fromarray(PIXELS).convert("RGBA"),
    "tensor": FLOATS,
    "double": FLOATS.double(),
    "bytes": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "array": FLOATS.numpy(),
    "bytes in an array": PIXELS.transpose(2, 0, 1),
    "(H, W, C)": PIXELS,
    "(H, W, C) tensor": FLOATS.permute(1, 2, 0),
    "mirrored": PIXELS[:, ::-1].copy()[:, ::-1],
    "from BGR": PIXELS[..., ::-1].copy()[..., ::-1],
    "read-only": read_only(PIXELS.copy()),
    "big-endian": FLOATS.numpy().astype(">f4"),
    "gradient": FLOATS.clone().requires_grad_(),
    "parameter": nn.Parameter(FLOATS.clone()),
    "tv_tensors": tv_tensors.Image(FLOATS),
    "tv_tensors of bytes": tv_tensors.Image(torch.from_numpy(PIXELS).permute(2, 0, 1)),
    "lists": FLOATS.tolist(),
    "sparse": FLOATS.to_sparse(),
    "long double": FLOATS.numpy().astype(np.longdouble),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_pictures_are_taken_from_whatever_holds_them(picture):
    found, labels = load_images([(picture, 1)])
    assert type(found) is torch.Tensor and found.dtype == torch.float32 and not found.requires_grad
    assert torch.allclose(found[0], FLOATS, atol=1e-6) and labels.tolist() == [1]


def test_grey_pictures_need_no_channel():
    grey = FLOATS[0]
    for picture in (grey, grey.numpy()[:, ::-1].copy()[:, ::-1], grey[None], grey[..., None]):
        assert torch.equal(load_images([(picture, 0)])[0][0], grey.expand(3, -1, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "PA"])
def test_modes_of_pil_become_rgb_as_pil_does_it(mode):
    picture = (
        Image.fromarray(PIXELS)
        .convert("L" if mode == "PA" else "RGB")
        .convert("P" if mode == "PA" else mode)
        .convert(mode)
    )
    right = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255
    assert torch.equal(load_images([(picture, 0)])[0][0], right)


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        (FLOATS[None], r"an image must be \(3, H, W\).*got \(1, 3, 6, 10\)"),  # a batch
        (torch.rand(4, 6, 10), r"got \(4, 6, 10\)"),
        (torch.rand(3, 0, 0), r"got \(3, 0, 0\)"),
        (FLOATS * torch.nan, r"pixels in \[0, 1\], got .* from nan to nan"),
        ((FLOATS * 255).long(), r"uint16 or have pixels in \[0, 1\], got .* from 0 to 249: divide"),
        ("a.png", r"cannot be read \(.*No such file"),
        (None, "pixels of an image are a NoneType"),
        (np.zeros((3, 6, 10), complex), "pixels of an image are an array of complex128"),
        (FLOATS.cfloat(), "pixels of an image are torch.complex64; give real"),
        (np.ma.masked_array(FLOATS.numpy(), FLOATS.numpy() > 0.5), "pixels .* are masked"),
        (torch.zeros(3, 6, 10, device="meta"), "pixels of an image are on the meta device"),
        ([[0.1, 0.2], [0.3]], "pixels of an image have rows of different lengths"),
        (Image.new("RGB", (0, 9)), r"got \(3, 9, 0\)|got \(9, 0, 3\)"),
        (Image.new("La", (8, 8)), "La pixels are none that Pillow turns into RGB"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(picture, text):
    with pytest.raises((TypeError, ValueError), match=text) as error:
        load_images([(picture, 0)])
    assert "\n" not in str(error.value)


def test_labels_of_data_sets_may_be_one_hot(tmp_path):
    data = [(FLOATS, row) for row in torch.eye(3)[Y]]
    assert load_images(data)[1].tolist() == Y
    assert load_images([(FLOATS, (label,)) for label in Y])[1].tolist() == Y
    images = np.stack([PIXELS] * 4)
    for k, labels in enumerate((HOT, np.array(Y, float), np.array(Y, np.uint64))):
        np.savez(tmp_path / f"{k}.npz", images=images, labels=labels)
        assert load_images(tmp_path / f"{k}.npz")[1].tolist() == Y
    np.savez(tmp_path / "odd.npz", images=images, labels=[0, 1.7, 1, 2])
    with pytest.raises(ValueError, match=r"odd.npz: labels must be 4 whole .*image 1 is 1\.7"):
        load_images(tmp_path / "odd.npz")


@pytest.mark.parametrize(
    "rows", [torch.eye(3)[:2].tolist() + [[1, 1, 0]], [[0, 1], [1, 0], [0, 0, 1]], [[1], [1, 0], 2]]
)
def test_several_labels_a_picture_are_refused(rows):
    with pytest.raises(ValueError, match="the label of item . of this list is .*one for a picture"):
        load_images([(FLOATS, row) for row in rows])


# -- pictures with gradients, in all calls that take them ------------------------------------------


CALLS = {  # all public calls that take pictures
    "band_masks": lambda x, net: ia.band_masks(2, (16, 16), "linf", "equal_energy", x),
    "split_bands": lambda x, net: ia.split_bands(x, MASKS),
    "esd": lambda x, net: ia.esd(x),
    "spectral_snr": lambda x, net: ia.spectral_snr(x, x.flip(0)),
    "coalition_worths": lambda x, net: ia.coalition_worths(net, x, Y, MASKS, **GAME).table,
    "coalition_images": lambda x, net: ia.coalition_images(x, MASKS, coalitions(3)),
    "members": lambda x, net: ia.coalition_images(x, MASKS, coalitions(3)[::-1], "mean"),
    "masks": lambda x, net: ia.coalition_images(x, MASKS.clone().requires_grad_(), coalitions(3)),
    "sampled_worths": lambda x, net: ia.sampled_worths(net, x, Y, MASKS, budget=60, **GAME).image,
    "explain": lambda x, net: ia.explain(net, x, Y, 2, **GAME).values,
    "published_worths": lambda x, net: ia.published_worths(net, x, Y, 2),
    "noise": lambda x, net: ia.perturb(x, "white_noise", sigma=0.1),
    "attack": lambda x, net: ia.perturb(x, "fgsm", model=net, labels=Y, eps=0.1),
    "match_energy": lambda x, net: ia.match_energy(x, x.flip(0), 0.1),
    "responses": lambda x, net: ia.responses(net, x, Y, [ia.Condition("fgsm", 0.1)], MASKS).tables[
        "correct"
    ],
    "attribute": lambda x, net: ia.attribute(net, x, Y),
    "explore": lambda x, net: ia.explore(net, x, Y).attribution,
    "insertion": lambda x, net: ia.insertion(net, x, Y, x, steps=4),
    "deletion": lambda x, net: ia.deletion(net, x, Y, x, steps=4),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.slow
def test_pictures_that_ask_for_gradients_are_pictures(call, x):
    net = Net().eval()
    right = call(x, net)
    for same in (x.clone().requires_grad_(), nn.Parameter(x.clone()), tv_tensors.Image(x)):
        found = torch.as_tensor(call(same, net)).detach()  # sums of the pixels may pass gradients
        assert torch.allclose(found, torch.as_tensor(right), equal_nan=True) and same.grad is None


def test_members_are_of_these_bands(x):
    with pytest.raises(ValueError, match=r"coalitions are \(4, 2\), and there are 3 bands"):
        ia.coalition_images(x, MASKS, coalitions(2))
