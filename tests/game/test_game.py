"""The public game: equal to the exact table in every way of asking, and what others ask it."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended import pretended_game
from readers import MASKS, SIDE, M, Net, some_images, some_labels
from sweeps import few
from torch._subclasses import FakeTensorMode

import iaside as ia
from iaside.game.game import Settings
from iaside.game.sampling import visit
from iaside.game.values import finite
from iaside.shapley import coalitions, shapley_values
from iaside.spectral import band_masks, split_bands

ALL = coalitions(M)
FIVE = band_masks(5, (SIDE, SIDE))
pytestmark = pytest.mark.filterwarnings("ignore:the first answers lie between 0 and 1")
DOCUMENT = Path(__file__).parents[2] / "docs/game.md"


def a_game(model=None, n=4, **settings):
    model = Net().eval() if model is None else model
    settings = {"masks": MASKS, "batch_size": 8} | settings
    return ia.Game(model, some_images(n), some_labels(n), **settings)


@pytest.mark.parametrize("batch_size", few([3, 20, 1, 8, 64]))
@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement", "mean"])
def test_all_coalitions_are_the_exact_table(absence, batch_size):
    how = dict(absence=absence, batch_size=batch_size, value=["log_likelihood", "embedding"])
    table = ia.exact(a_game(**how), progress=False).table
    game = a_game(**how)
    assert np.array_equal(game.per_image(ALL), table), "to the last bit"
    assert np.array_equal(game(ALL), table.mean(1))
    order = np.random.default_rng(0).permutation(len(ALL))[:5]
    assert np.allclose(game.per_image(ALL[order]), table[order], rtol=0, atol=1e-6)
    assert np.allclose(game(ALL[order[0]]), table[order[0]].mean(), rtol=0, atol=1e-6), "one alone"


def test_exact_and_coalition_worths_are_one_thing():
    worths = ia.exact(a_game(absence="mean", subset=[2, 0]), progress=False)
    settings = dict(masks=MASKS, batch_size=8, absence="mean", subset=[2, 0], progress=False)
    other = ia.coalition_worths(Net().eval(), some_images(), some_labels(), **settings)
    assert np.array_equal(worths.table, other.table)
    whole = ia.exact(a_game(absence="mean"), progress=False).table
    assert np.array_equal(worths.table, whole[:, [2, 0]])
    assert worths.provenance == other.provenance and worths.forwards == other.forwards
    one = ia.sample(a_game(masks=FIVE, n=9), budget=72, progress=False)
    settings = dict(masks=FIVE, batch_size=8, budget=72, progress=False)
    two = ia.sampled_worths(Net().eval(), some_images(9), some_labels(9), **settings)
    assert np.array_equal(one.tables["log_likelihood"], two.tables["log_likelihood"])
    assert one.provenance == two.provenance


def test_everything_that_a_game_takes_can_be_given_to_explain():
    own = {"self", "model", "images", "labels", "masks"}
    assert set(Settings.__annotations__) == set(inspect.signature(ia.Game).parameters) - own


def test_a_model_is_probed_once_and_shown_each_coalition_once():
    net = Net().eval()
    game = a_game(net, batch_size=None)
    assert net.seen == 6, "the probe; how large a batch is measured when it is needed"
    game.batch_size = 8
    game.per_image(np.repeat(ALL[[5, 2]], 3, axis=0))
    assert net.seen == 6 + 2 * 4, "asked three times, shown once"
    rows = game.per_image(ALL[[7, 2, 7, 5, 2]])
    assert np.array_equal(rows[0], rows[2]) and np.array_equal(rows[1], rows[4])
    assert not np.array_equal(rows[1], rows[3])
    net.seen = 0
    assert np.array_equal(game.per_image(ALL[[7]]), rows[:1])
    assert net.seen == 0, "the images themselves are known"
    worths = ia.exact(game, progress=False)
    assert net.seen == worths.forwards == 7 * 4


def test_what_was_asked_before_changes_no_table():
    fresh = ia.exact(a_game(), progress=False)
    used = a_game()
    used(ALL[[7, 1]]), used.per_image(ALL)
    again = ia.exact(used, progress=False)
    assert np.array_equal(again.table, fresh.table) and again.provenance == fresh.provenance


def test_a_game_goes_on_where_another_was_killed(tmp_path):
    net = Net().eval()
    whole = ia.exact(a_game(net), progress=False).table

    def die(module, args):
        if module.seen >= 22:
            raise KeyboardInterrupt

    net.seen = 0
    hook = net.register_forward_pre_hook(die)
    with pytest.raises(KeyboardInterrupt):
        ia.exact(a_game(net), resume=tmp_path, progress=False)
    hook.remove()
    worths = ia.exact(a_game(net), resume=tmp_path, progress=False)
    assert 0 < worths.forwards < 32 and np.array_equal(worths.table, whole)
    assert ia.exact(a_game(net), resume=tmp_path, progress=False).forwards == 0


def test_masks_may_be_a_callable():
    as_callable = a_game(masks=lambda x: split_bands(x, MASKS))
    assert as_callable.n_players == M
    assert np.array_equal(as_callable.per_image(ALL), a_game().per_image(ALL))


def test_a_value_of_ones_own_and_the_first_of_several():
    def double(outputs, labels):
        return 2 * outputs[:, 0]

    net = Net().eval()
    game = a_game(net, value=[double, "accuracy"])
    x, y = some_images(), some_labels()
    shown = ia.coalition_images(x, MASKS, ALL)
    expected = 2 * torch.stack([net(pictures)[:, 0] for pictures in shown]).detach()
    assert np.allclose(game.per_image(ALL), expected, atol=1e-5)
    with pytest.raises(ValueError, match="cannot tell one version of the function 'double'"):
        ia.exact(game, resume="x")
    with pytest.raises(ValueError, match="cannot tell one version of the function 'double'"):
        ia.sample(a_game(masks=FIVE, value=double), budget=99, resume="x")
    assert str(game) == "Game(3 bands, 4 images, double, accuracy, absence zero, float32 on cpu)"
    assert np.array_equal(
        ia.Game(net, x, y, MASKS, "accuracy", batch_size=9)(ALL) % 0.25, 0 * ALL[:, 0]
    )


def test_more_bands_than_a_table_has_room_for():
    """Bands of an additive game: each adds what it is worth, whatever stands beside it."""
    share = torch.arange(1, 65.0) / (64 * 65 / 2)
    game = ia.Game(
        lambda x: x.mean((2, 3)),
        torch.ones(2, 2, 8, 8),
        torch.zeros(2),
        lambda x: share.view(64, 1, 1, 1, 1) * x,
        value=lambda outputs, labels: outputs[:, 0],
        batch_size=8,
    )
    asked = np.random.default_rng(0).random((9, 64)) < 0.5
    assert game.n_players == 64 and np.allclose(game(asked), asked @ share.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="at most 14 bands, or sample them"):
        ia.exact(game)


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        (ALL[:, :2], ValueError, r"coalitions are \(8, 2\), and there are 3 bands: give \(K, 3\)"),
        (np.zeros(4, bool), ValueError, r"coalitions are \(1, 4\), and there are 3 bands"),
        (ALL[None], ValueError, r"coalitions are \(1, 8, 3\)"),
        (np.array(True), ValueError, r"coalitions are \(\), and there are 3 bands"),
        (ALL.astype(int), TypeError, "coalitions are int64; give booleans"),
        (torch.ones(2, 3), TypeError, "coalitions are float32; give booleans"),
        (["ab"], TypeError, "coalitions are <U2; give booleans"),
        ([], TypeError, "coalitions are float64"),
    ],
)
def test_what_is_no_coalition_is_refused(asked, error, match):
    net = Net().eval()
    game = a_game(net)
    for ask in (game, game.per_image, lambda c: ia.coalition_images(some_images(), MASKS, c)):
        with pytest.raises(error, match=match):
            ask(asked)
    assert net.seen == 6


def test_no_coalition_and_tensors_and_lists_of_booleans():
    game = a_game()
    assert game.per_image(ALL[:0]).shape == (0, 4) and game(ALL[:0]).shape == (0,)
    rows = game.per_image(ALL[:2])
    for asked in (torch.from_numpy(ALL[:2]), ALL[:2].tolist()):
        assert np.array_equal(game.per_image(asked), rows)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("absence", few(["zero", "mean", "replacement"], 1))
def test_placement_on_a_gpu(monkeypatch, absence, precision):
    """Without a GPU: pictures, answers and scores stay on a pretended one, until they are known."""
    seen = []

    def known(scores, images):
        seen.append((scores.device.type, scores.dtype))
        return np.zeros(scores.shape)

    def net_of(dtypes):
        net = Net().eval()
        net.register_forward_hook(lambda module, args, out: dtypes.append((args[0], out)))
        return net

    for module in ("game", "sampling"):
        monkeypatch.setattr(f"iaside.game.{module}.finite", known)
    shown = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, y = torch.rand(6, 3, SIDE, SIDE), torch.zeros(6, dtype=torch.long)
        with torch.device("cuda"):
            net = net_of(shown)
        game = pretended_game(
            monkeypatch,
            net,
            x,
            y,
            MASKS,
            value=["log_likelihood", "probability", "margin", "embedding"],
            absence=absence,
            precision=precision,
            device="cuda",
        )
        assert game.per_image(ALL).shape == (8, 6)
        codes = np.array([0, 5, 7], np.uint64)
        batch = np.array([0, 0, 3]), np.arange(3), codes
        for _, _, scores in visit(game, np.array([0, 3]), [batch]):
            assert scores.shape == (5, 3), (
                "accuracy, too, of what says whether it knows its classes"
            )
    assert set(seen) == {("cuda", torch.float32)}
    wanted = torch.bfloat16 if precision == "bfloat16" else torch.float32
    for pictures, out in shown:
        assert pictures.device.type == out.device.type == "cuda" and out.dtype == wanted
        assert pictures.is_contiguous(memory_format=torch.channels_last)


def test_scores_that_are_none_end_it():
    with pytest.raises(ValueError, match="nan or infinite worths for images 4, 6; check its"):
        finite(torch.tensor([[0, 1, torch.inf, torch.nan, 2, 3]]), np.array([4, 5, 6]))
    breaks = lambda x: x.flatten(1)[:, :2] / x.flatten(1).abs().sum(1, keepdim=True)  # noqa: E731
    with pytest.raises(ValueError, match="nan or infinite worths for images 0, 1;"):
        a_game(breaks)(ALL[:2])


# -- estimators of others --------------------------------------------------------------------------


def approximators():
    """Those of shapiq that estimate Shapley values of any game."""
    shapiq = pytest.importorskip("shapiq")
    kinds = "KernelSHAP PermutationSamplingSV SVARM StratifiedSamplingSV UnbiasedKernelSHAP"
    return {kind: getattr(shapiq.approximator, kind) for kind in kinds.split()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # shapiq's, about budgets it cannot use up
def test_approximators_of_shapiq_take_a_game_as_it_is():
    """With room for all coalitions they are at or near the exact values."""
    game = a_game(n=2, batch_size=32)
    exact = shapley_values(ia.exact(game, progress=False).table).mean(1)
    for name, kind in approximators().items():
        found = kind(n=game.n_players, random_state=0).approximate(40, game)
        values = [found[(i,)] for i in range(game.n_players)]
        near = 0.2 if name in ("PermutationSamplingSV", "StratifiedSamplingSV") else 1e-5
        assert np.abs(values - exact).max() < near * np.abs(exact).max(), name


def test_shapiq_computes_the_same_exact_values():
    shapiq = pytest.importorskip("shapiq")
    game = a_game(n=2)
    found = shapiq.ExactComputer(game, game.n_players)("SV", 1)
    exact = shapley_values(ia.exact(game, progress=False).table).mean(1)
    assert np.allclose([found[(i,)] for i in range(M)], exact, atol=1e-6)


def documented(part):
    """What a block of the document computes, after those before it."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    names = {}
    for block in [blocks[0], *[b for b in blocks[1:] if part in b]]:
        exec(block, names)
    return names


def test_the_document_shows_shapiq_at_work():
    pytest.importorskip("shapiq")
    names = documented("shapiq")
    assert np.abs(names["exact"]).max() > 0.01
    assert np.allclose(names["values"], names["exact"], atol=1e-9), "all 16 coalitions"


def test_the_document_shows_sage_at_work():
    pytest.importorskip("sage", reason="needs `pip install sage-importance`")
    names = documented("sage")
    off = np.abs(names["values"] - names["exact"])
    assert (off < 5 * names["errors"] + 1e-9).all() and off.max() < 0.1 * np.abs(
        names["exact"]
    ).max()
