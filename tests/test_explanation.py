"""The one-call path: it ties the parts together and loses nothing on the way."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from readers import MASKS, Net, band_reader, some_images, some_labels

import iaside as ia
from iaside.backend.fingerprints import fingerprint, look
from iaside.explanation import Explanation
from iaside.shapley import coalitions
from iaside.tables import Worths

ROOT = Path(__file__).resolve().parents[1]
ARGS = dict(n_bands=3, batch_size=8, progress=False)


def planted(n=12, **settings):
    return ia.explain(band_reader(1), some_images(n), some_labels(n), **ARGS | settings)


def test_the_parts_agree_with_each_other_and_with_the_functions():
    e = planted(bias="none")  # two bands are worth nothing, but for the rounding of the pictures
    psi = ia.shapley_values(e.worths.table)
    assert np.array_equal(e.values, psi) and np.allclose(e.psi.estimate, psi.mean(1))
    assert np.allclose(e.sid.estimate, ia.spectral_importance(psi.mean(1)))
    assert np.isclose(e.score.estimate, ia.robustness_score(e.sid.estimate))
    assert np.allclose(e.psi.se, psi.std(1, ddof=1) / 12**0.5)
    assert (e.psi.low <= e.psi.estimate).all() and (e.psi.estimate <= e.psi.high).all()
    assert np.allclose(e.sid_per_image().sum(0), 1)
    frame = e.to_frame()
    assert list(frame.columns) == [
        "band",
        "psi",
        "psi_se",
        "psi_low",
        "psi_high",
        "sid",
        "sid_se",
        "sid_low",
        "sid_high",
    ]
    assert np.array_equal(frame["sid"], e.sid.estimate)


def test_it_prints_every_band_the_score_and_the_size_of_the_sample():
    text = str(planted(score_kind="signed"))
    assert "12 images, 3 bands, float32; v(all) - v(none) = " in text
    assert len(text.splitlines()) == 4 + 3 + 1 + ("may be 0" in text)
    last = (str(e).splitlines()[-1] for e in (planted(score_kind="signed"), planted(bias="none")))
    assert next(last).startswith("SRC (signed, beta 0.75, SID minmax): SID and score not given: ")
    assert next(last).startswith("SRC (paper, beta 0.75, SID minmax) ")


def clear(n=12):
    """Values of three bands that all photographs order alike."""
    worth = np.array([0.0, 5.0, 3.0, 8.0, 1.0, 6.0, 4.0, 9.0])  # additive: 5, 3 and 1
    noise = np.random.default_rng(0).normal(size=(3, n)) * 0.3
    return Worths({"v": worth[:, None] + coalitions(3).astype(float) @ noise}, {})


def tied(n=12):
    """The same, but the second band is worth what the third is."""
    w = clear(n)
    return Worths({"v": w.table - 2.0 * coalitions(3)[:, [1]]}, {})


@pytest.mark.parametrize("kind", ["paper", "tight", "signed"])
def test_a_score_is_given_where_the_weakest_band_is_clear(kind):
    e = Explanation(clear(), score_kind=kind)
    assert e.score == ia.score_estimate(e.values, kind=kind) and e.sid == ia.sid_estimate(e.values)
    assert str(e).splitlines()[-1].startswith(f"SRC ({kind}, beta 0.75, SID minmax) 0.")
    assert "SID  [95% interval]" in str(e) and e.plot()[0].get_ylabel().startswith("spectral imp")


def test_where_two_bands_are_equally_weak_values_and_shares_are_given_and_the_reason():
    e = Explanation(tied())
    assert e.sid is None and e.score is None and e.src("signed") is None
    assert e.src(beta=np.array([0.5, 0.9])) is None
    said = str(e).splitlines()
    assert re.search(
        r"SID and score not given: the two weakest bands are [01]\.\d standard errors "
        r"apart \(2 are needed\)$",
        said[-1],
    )
    assert "share  [95% interval]" in said[1] and "SID  [" not in said[1]
    assert np.allclose(e.shares.value, e.values.mean(1) / e.values.mean(1).sum())
    assert e.to_frame()[["sid", "sid_low"]].isna().all(axis=None)
    assert e.to_frame()["psi"].notna().all()
    assert e.plot()[0].get_ylabel().startswith("Shapley value")
    with pytest.raises(ValueError, match="the SID is not given: the two weakest.*value='psi'"):
        e.plot("sid")


def test_the_plain_score_is_there_for_what_was_published():
    e = Explanation(tied(), bias="none")
    mean = ia.shapley_values(tied().table).mean(1)
    assert np.allclose(e.sid.value, ia.spectral_importance(mean))
    assert np.isclose(e.score.value, ia.robustness_score(e.sid.value))
    assert np.array_equal(e.src(beta=np.array([0.75])).value, [e.score.value])


def test_other_shares_subtract_no_minimum_and_are_always_given():
    for normalise in ("share", "positive", "softmax"):
        e = Explanation(tied(), normalise)
        assert e == e and e.sid is not None and e.score is not None


def test_a_sign_that_is_not_known_is_not_dropped():
    weight = 0.75 ** np.arange(3) - (0.75 ** np.arange(3)).mean()
    mean = np.array([1.0, 0.0, 0.0])
    mean[2] = -weight[0] / weight[2]  # so that the signed score is 0
    noise = np.random.default_rng(1).normal(size=(3, 24)) * 0.3
    noise -= noise.mean(1, keepdims=True)
    w = Worths({"v": coalitions(3).astype(float) @ (mean[:, None] + noise)}, {})
    signed, dropped = Explanation(w, score_kind="signed"), Explanation(w)
    assert abs(signed.score.value) < 1e-12 and signed.score.low < 0 < signed.score.high
    assert dropped.score is None and dropped.sid == signed.sid
    assert "score not given: before the sign is dropped it is 0.0 standard errors" in str(dropped)
    several = dropped.src(beta=np.array([0.3, 0.75]))
    assert np.isfinite([*several][0][0]) and np.isnan([*several][2][1])


def test_no_difference_of_what_is_not_given():
    a, b = Explanation(clear()), Explanation(tied())
    assert ia.compare(a, b).score is None and ia.compare(b, a).sid is None
    assert ia.compare(a, b).psi.value[1] == pytest.approx(2.0)
    plain = [Explanation(w, bias="none") for w in (clear(), tied())]
    assert ia.compare(*plain).score.value == pytest.approx(
        plain[0].score.value - plain[1].score.value
    )
    with pytest.raises(ValueError, match="bias is 'corrected' in one explanation and 'none'"):
        ia.compare(a, plain[1])


def test_a_class_gets_its_own_distribution_from_five_images_on():
    labels = torch.tensor([0] * 5 + [1] * 4 + [2] * 6) % 2
    labels[:5], labels[5:9], labels[9:] = 0, 1, 0
    e = ia.explain(Net().eval(), some_images(15), labels, **ARGS, bias="none")
    assert list(e.per_class()) == [0]
    e.labels = np.array([0] * 5 + [1] * 4 + [2] * 6)
    classes = e.per_class()
    assert list(classes) == [0, 2]
    assert np.allclose(classes[2].estimate, ia.spectral_importance(e.values[:, 9:].mean(1)))
    assert Explanation(tied(), labels=np.zeros(12, int)).per_class() == {0: None}
    e.labels = None
    with pytest.raises(ValueError, match="no labels; pass labels="):
        e.per_class()


def test_saving_brings_everything_back(tmp_path):
    e = planted()
    e.save(tmp_path / "mine.npz")
    again = Explanation(Worths.load(tmp_path / "mine.npz"))
    assert str(again) == str(e)
    assert (tmp_path / "mine.csv").read_text().count("\n") == 4
    names = ["mine.csv", "mine.explanation.json", "mine.npz"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    tight = Explanation(e.worths, score_kind="tight", beta=0.5, labels=np.arange(e.psi.n) % 2)
    tight.save(tmp_path / "mine.npz")
    again = Explanation.load(tmp_path / "mine.npz")
    assert str(again) == str(tight) != str(e) and again.to_dict() == tight.to_dict()
    (tmp_path / "mine.explanation.json").write_text("{}")
    with pytest.raises(ValueError, match="mine.explanation.json cannot be read as an explanation"):
        Explanation.load(tmp_path / "mine.npz")


def test_an_explanation_shows_itself_and_a_comparison_prints_itself():
    e = planted()
    assert json.loads(json.dumps(e.to_dict()))["bands"][0]["band"] == 0
    page = e._repr_html_()
    assert "<pre>" in page and 'src="data:image/png' in page and "alt=" in page
    said = str(ia.compare(e, e))
    assert said.startswith("band     psi, first - second (12 photographs)") and "SRC" in said


def test_names_with_a_dot_do_not_overwrite_each_other(tmp_path):
    for name in ("resnet18.a1_in1k", "resnet18.tv_in1k"):
        planted().save(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_subset_keeps_its_labels():
    net, labels = Net().eval(), torch.arange(12) % 2
    e = ia.explain(net, some_images(12), labels, **ARGS, subset=list(range(0, 12, 2)))
    assert list(e.per_class()) == [0] and e.values.shape[1] == 6
    with pytest.raises(TypeError, match="images must be a tensor"):
        ia.explain(net, [1, 2], labels, **ARGS)


def test_a_numpy_model_needs_two_lines():
    """The wrapper of the README, around something that knows nothing of torch."""
    weight = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    model = lambda x: torch.from_numpy(x.numpy().mean((2, 3)) @ weight)  # noqa: E731
    e = ia.explain(model, some_images(6), some_labels(6), **ARGS)
    assert np.isfinite(e.values).all()


def test_plotting_returns_axes_with_one_bar_per_band():
    axes = planted().plot()
    assert len(axes[0].patches) == 3


def test_a_comparison_is_paired():
    """Two models whose difference does not vary over images: no interval is left."""
    table = np.random.default_rng(0).normal(size=(8, 20)).cumsum(0)
    shift = np.arange(8)[:, None] * 0.1
    a, b = (Explanation(Worths({"v": t}, {})) for t in (table + shift, table))
    difference = ia.compare(a, b).psi
    assert np.allclose(difference.estimate, ia.shapley_values(shift[:, 0]))
    assert np.allclose(difference.low, difference.high)
    assert (a.psi.high - a.psi.low).min() > 0.1


def test_masks_may_be_given_and_spacings_named():
    own = planted(masks=MASKS)
    assert np.array_equal(own.values, planted().values)
    assert not np.array_equal(own.values, planted(spacing="log2").values)


@pytest.mark.parametrize("normalise", ["minmax", "share", "positive", "softmax"])
@pytest.mark.parametrize("kind", ["paper", "tight", "signed"])
def test_limits_hold_the_estimate_and_stay_possible(normalise, kind):
    table = np.random.default_rng(0).normal(size=(16, 24)).cumsum(0)
    e = Explanation(Worths({"v": table}, {}), normalise, score_kind=kind, bias="none")
    several = e.src(beta=np.array([0.5, 0.9]))
    for found in (e.score, e.sid, several):
        assert (found.low <= found.estimate).all() and (found.estimate <= found.high).all()
    if normalise != "share":
        lowest = ia.robustness_score(np.eye(4)[3], signed=True, norm="tight")
        assert e.score.high <= 1 and e.score.low >= (lowest if kind == "signed" else 0)
        assert (e.sid.low >= 0).all() and (e.sid.high <= 1).all()
    assert np.allclose(several.estimate[0], e.src(beta=0.5).estimate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(normalise="min-max"), "got 'min-max'"),
        (dict(normalise="none"), "gives no distribution"),
        (dict(beta=1.5), "beta must lie between 0 and 1"),
        (dict(level=95), "level=95 must lie between"),
        (dict(score_kind="best"), "score_kind='best' is not known"),
        (dict(bias="some"), "bias='some' is not known; choose 'corrected'.*or 'none'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_measured(settings, message):
    net = Net().eval()
    with pytest.raises(ValueError, match=message):
        ia.explain(net, some_images(4), some_labels(4), **ARGS | settings)
    assert net.seen == 0


RECIPES = {  # of networks of the kit and of others
    "tf_efficientnet_lite0": (224, 0.875, "bicubic"),
    "tf_efficientnet_lite1": (240, 0.882, "bicubic"),
    "tf_efficientnet_lite2": (260, 0.89, "bicubic"),
    "squeezenet1_1": (224, 0.875, "bilinear"),
    "another crop": (288, 1.0, "bicubic"),
}


def about(source, side, crop, how, **more):
    recipe = {"input_size": [3, side, side], "crop_pct": crop, "interpolation": how}
    like = SimpleNamespace(recipe=recipe)
    x, y = ia.load_images(source, like=like, **more)
    note = {"images": fingerprint(x), "look": look(x), "labels": fingerprint(y)}
    return Explanation(Worths({"v": np.random.default_rng(0).normal(size=(8, len(x)))}, note))


@pytest.mark.parametrize("n", [2, 24])
@pytest.mark.slow
def test_the_same_photographs_are_known_at_every_size_and_crop(data, n):
    found = [about(data / "images/photographs", *r, n=n) for r in RECIPES.values()]
    assert len({e.worths.provenance["images"] for e in found}) == len(found)
    for a, b in itertools.combinations(found, 2):
        ia.compare(a, b)


@pytest.mark.parametrize("n", [1, 2, 24])
@pytest.mark.slow
def test_other_photographs_with_the_same_labels_are_refused(data, tmp_path, n):
    """Half of the packaged ones, under the labels of the other half."""
    files = sorted((data / "images/photographs").glob("*.*g"))
    for name, part in (("one", files[:n]), ("two", files[-n:])):
        (tmp_path / name).mkdir()
        rows = [f"{k:02d}{p.suffix},{k}" for k, p in enumerate(part)]
        (tmp_path / name / "labels.csv").write_text("\n".join(["file,label", *rows]))
        for row, p in zip(rows, part, strict=True):
            shutil.copy(p, tmp_path / name / row.partition(",")[0])
    for side in (224, 240):
        one = about(tmp_path / "one", 224, 0.875, "bicubic")
        two = about(tmp_path / "two", side, 0.875, "bicubic")
        assert one.worths.provenance["labels"] == two.worths.provenance["labels"]
        with pytest.raises(ValueError, match="different photographs.*same source"):
            ia.compare(one, two)


def test_incomparable_explanations_are_refused():
    e = planted()
    with pytest.raises(ValueError, match="beta is 0.75 in one explanation and 0.5 in the other"):
        ia.compare(e, planted(beta=0.5))
    with pytest.raises(ValueError, match="worths are log_likelihood and margin"):
        ia.compare(e, planted(value="margin"))
    with pytest.raises(ValueError, match="different labels"):
        ia.compare(e, ia.explain(Net().eval(), some_images(12), 1 - some_labels(12), **ARGS))
    with pytest.raises(ValueError, match="absent bands are zero and mean"):
        ia.compare(e, planted(absence="mean"))
    with pytest.raises(ValueError, match="different photographs"):
        others = torch.rand(12, *some_images(1).shape[1:], generator=torch.manual_seed(9))
        ia.compare(e, ia.explain(band_reader(1), others, some_labels(12), **ARGS))


def test_nothing_to_share_is_said_before_the_game():
    seen = []

    def constant(x):
        seen.append(len(x))
        return torch.zeros(len(x), 2)

    with pytest.raises(ValueError, match="share.*no more than the empty one"):
        ia.explain(constant, some_images(6), some_labels(6), **ARGS, normalise="share")
    assert sum(seen) < 6 * 2**3, "two passes an image, and a look at one"


def brightness(x):
    return torch.stack([9 * x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)


def test_shares_of_probabilities_are_those_of_the_logits_after_one_look():
    x, y, seen = some_images(6), torch.zeros(6).long(), []

    def likely(x):
        seen.append(len(x))
        return brightness(x).softmax(1)

    how = {**ARGS, "normalise": "share"}
    said = ia.explain(likely, x, y, **how, outputs="probabilities")
    assert sum(seen) == 6 + 6 + 6 * 2**3, "one look, the images without bands, the game"
    assert np.allclose(
        said.sid.estimate, ia.explain(brightness, x, y, **how).sid.estimate, atol=1e-4
    )
    binary = ia.explain(lambda x: -brightness(x)[:, :1], x, y, **how, outputs="binary")
    assert np.allclose(binary.sid.estimate, said.sid.estimate, atol=1e-4)
    again = ia.explain(brightness, x, y, **how, subset=[3, 4, 5], value="probability")
    assert again.values.shape == (3, 3)


def test_a_worth_that_may_be_zero_is_not_shared_and_nothing_is_said_twice():
    x, seen = some_images(8), []
    y = torch.tensor([0, 1] * 4)  # what is gained by some images is lost by the others

    def model(x):
        seen.append(len(x))
        return brightness(x)

    with warnings.catch_warnings(), pytest.raises(ValueError, match="of 8 images and not clearly"):
        warnings.simplefilter("error")
        ia.explain(model, x, y, **ARGS, normalise="share")
    assert sum(seen) == 6 + 2 * 8
    y[:7] = 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ia.explain(lambda x: brightness(x).sigmoid() * 0.9, x, y, **ARGS, normalise="share")
    assert len([w for w in told if "as those of a sigmoid" in str(w.message)]) == 1


def test_noise_is_announced():
    table = np.random.default_rng(0).normal(size=(8, 10))
    with pytest.warns(RuntimeWarning, match="dominated by noise"):
        Explanation(Worths({"v": table}, {}), bias="none")


def test_a_constant_classifier_is_worth_nothing_and_says_so():
    with pytest.warns(RuntimeWarning, match="no difference between the bands|dominated by noise"):
        e = ia.explain(
            lambda x: torch.zeros(len(x), 2), some_images(6), some_labels(6), **ARGS, bias="none"
        )
    assert np.array_equal(e.values, np.zeros((3, 6)))
    assert np.allclose(e.sid.estimate, 1 / 3)
    assert Explanation(e.worths).sid is None


def test_every_public_name_is_there_and_documented():
    for name in ia.__all__:
        assert getattr(ia, name).__doc__, name


@pytest.mark.slow
def test_importing_the_package_is_cheap_and_explain_stays_a_function():
    script = (
        "import sys, iaside as ia; assert 'torch' not in sys.modules;"
        "from iaside.explanation import Explanation; assert callable(ia.explain)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="No iaside attribute explian"):
        ia.explian  # noqa: B018
