"""How surely a photograph is found again by its embedding: planted answers and an oracle."""

import numpy as np
import pytest
import torch
from readers import MASKS, M, Net, band_reader, some_images

import iaside as ia
from iaside.game.exact import coalition_passes
from iaside.game.values import TEMPERATURE, retrieval
from iaside.shapley import coalitions
from iaside.spectral import split_bands

HOW = dict(batch_size=8, progress=False)
BAND = 1


def embedding(x):
    """The pixels of one band, which are all that it sees."""
    seen = split_bands(x.float().contiguous(), MASKS)[BAND].flatten(1)
    return (1e4 * seen).round()  # rounding errors have a direction, too


def worths(net, x, value="retrieval", **how):
    return ia.coalition_worths(net, x, None, MASKS, value, **HOW | how)


def test_it_is_the_cross_entropy_of_cosines():
    draw = torch.Generator().manual_seed(0)
    shown, clean = torch.randn(2, 6, 5, generator=draw)
    cosines = torch.cosine_similarity(shown[:, None], clean[None], dim=-1)
    log_p = -torch.nn.functional.cross_entropy(
        cosines / TEMPERATURE, torch.arange(6), reduction="none"
    )
    torch.testing.assert_close(retrieval(shown, clean), log_p, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(retrieval(3 * shown, 0.1 * clean), log_p, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        retrieval(shown[2:4], clean[2:4], clean), log_p[2:4], rtol=1e-5, atol=1e-5
    )


def test_of_an_embedding_of_one_band_that_band_alone_has_all_the_worth():
    x = some_images(6)
    e = ia.explain(embedding, x, None, masks=MASKS, value="retrieval", **HOW)
    there = coalitions(M)[:, BAND]
    assert np.allclose(e.worths.table[~there], -np.log(6), atol=1e-5)  # nothing is known
    assert np.allclose(e.worths.table[there], e.worths.table[-1], atol=1e-4)
    assert e.gain.min() > 1 and np.allclose(e.values[BAND], e.gain, atol=1e-4)
    assert np.allclose(np.delete(e.values, BAND, 0), 0, atol=1e-4)
    assert "retrieval" in str(e) and "classes" not in str(e)


def test_its_images_are_found_among_the_whole_set(tmp_path):
    x, net = some_images(6), Net(classes=8).eval()
    whole = worths(net, x).table
    some = worths(net, x, subset=[4, 1])
    assert np.allclose(some.table, whole[:, [4, 1]], atol=1e-4)
    alone = worths(net, x[[4, 1]])
    assert (alone.table > some.table + 0.1).all(), "among fewer it is found more surely"
    assert some.provenance["among"] != alone.provenance["among"]
    kept = worths(net, x, resume=tmp_path).table
    assert np.array_equal(worths(net, x, resume=tmp_path).table, kept)
    there = ia.load_images([(one, 0) for one in x], labels=False, on_disk=tmp_path / "pixels")
    assert np.allclose(worths(net, there).table, whole, atol=1e-2)  # bytes of pixels


@pytest.mark.parametrize("values", [["retrieval"], ["retrieval", "embedding"], ["embedding"]])
def test_the_passes_are_those_that_are_announced(values):
    net = Net(classes=8).eval()
    worths(net, some_images(5), values)
    assert net.seen == coalition_passes(M, 5, values)


def test_a_sample_finds_the_same():
    x, net = some_images(6), Net(classes=8).eval()
    table = worths(net, x).table
    sampled = ia.sampled_worths(net, x, None, MASKS, budget=48, value="retrieval", **HOW)
    found = table[sampled.coalition.astype(int), sampled.image]
    assert np.allclose(sampled.tables["retrieval"], found, atol=1e-4)


def test_one_number_is_no_embedding_and_labels_are_for_classes():
    x = some_images()
    with pytest.raises(ValueError, match="value='retrieval' compares the directions"):
        worths(lambda x: x.mean((1, 2, 3))[:, None], x)
    with pytest.raises(ValueError, match="'embedding' and 'retrieval' only; give labels"):
        ia.explain(band_reader(0), x, None, masks=MASKS, **HOW)
    both = ia.coalition_worths(
        band_reader(BAND), x, [0, 1, 0, 1], MASKS, ["log_likelihood", "retrieval"], **HOW
    )
    assert both.tables["retrieval"].shape == both.table.shape == (2**M, 4)
