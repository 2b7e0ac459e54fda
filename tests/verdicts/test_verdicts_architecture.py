"""Verdicts on architectures, in planted populations whose answer is known."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from iaside.estimate.intervals import interval
from iaside.score import robustness_score, spectral_importance
from iaside.verdicts import architecture as verdicts

M, N = 4, 30


def values(lean, seed, n=N, scatter=0.2):
    """Values of photographs in a network that leans to low bands by `lean`, from 0 to 1."""
    rng = np.random.default_rng(seed)
    return ((1 - lean) ** np.arange(M))[:, None] * (1 + scatter * rng.normal(size=(M, n)))


def group(leans, name, seed=0):
    return {f"{name}{k}": values(lean, seed + k) for k, lean in enumerate(leans)}


def own_families(*groups):
    return {name: name for group in groups for name in group}


def signed(mean):
    return robustness_score(spectral_importance(mean), 0.75, signed=True, norm="tight")


APART = group([0.7, 0.72, 0.68, 0.71], "vit"), group([0.3, 0.32, 0.28, 0.31, 0.29], "conv", 9)


def test_transformers_that_lean_low_are_more_robust_and_a_cluster():
    for judge in (verdicts.transformers_more_robust, verdicts.transformers_cluster):
        record = judge(*APART, own_families(*APART))
        assert record["verdict"] == "supported" and record["unit"] == "networks", judge
        assert record["n"] == 4, "the smaller group"
        assert "4 transformers of 4 families, 5 ConvNets of 5" in record["note"]
    record = verdicts.transformers_more_robust(*APART[::-1], own_families(*APART))
    assert record["verdict"] == "contradicted"
    means = [np.mean([signed(v.mean(1)) for v in side.values()]) for side in APART]
    expected = verdicts.transformers_more_robust(*APART, own_families(*APART))["value"]
    assert expected == pytest.approx(means[0] - means[1])


def test_three_transformers_decide_nothing_however_far_apart():
    three = dict(list(APART[0].items())[:3])
    for judge in (verdicts.transformers_more_robust, verdicts.transformers_cluster):
        record = judge(three, APART[1], own_families(*APART))
        assert record["verdict"] == "undecided" and record["value"] > 0, judge
        assert "n = 3 networks, 4 are needed" in record["note"]


def test_sizes_of_one_design_are_one_network():
    families = own_families(*APART) | {"vit0": "vit", "vit1": "vit"}
    for judge in (verdicts.transformers_more_robust, verdicts.transformers_cluster):
        record = judge(*APART, families)
        assert record["verdict"] == "undecided" and record["n"] == 3, judge
        assert "4 transformers of 3 families" in record["note"]


def test_networks_that_scatter_as_much_as_groups_differ_decide_nothing():
    first, second = group([0.9, 0.3, 0.5, 0.7], "vit"), group([0.8, 0.2, 0.4, 0.6], "conv", 9)
    for judge in (verdicts.transformers_more_robust, verdicts.transformers_cluster):
        assert judge(first, second, own_families(first, second))["verdict"] == "undecided", judge
    ends = dict(enumerate(np.repeat(np.eye(M)[..., None], N, 2)))  # each on a band of its own
    middle = {4 + k: values(0, k, scatter=0.02) - ends[k] for k in range(4)}  # on the others
    record = verdicts.transformers_cluster(ends, middle, own_families(ends, middle))
    assert record["verdict"] == "contradicted", "every one is closer to the ConvNets"


def test_the_silhouette_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    points = rng.random((9, M))
    labels = np.array([1] * 4 + [0] * 5)
    distances = np.abs(points[:, None] - points[None]).sum(-1)
    first, second = points[labels == 1][..., None], points[labels == 0][..., None]
    own, others = verdicts.silhouette(first, second), verdicts.silhouette(second, first)
    expected = silhouette_score(distances, labels, metric="precomputed")
    assert (4 * own + 5 * others) / 9 == pytest.approx(expected)
    assert np.isnan(verdicts.silhouette(points[:1, :, None], points[1:, :, None]))


def test_one_network_against_others_is_judged_photograph_by_photograph():
    light, others = values(0.7, 0), group([0.2, 0.4, 0.3, 0.35], "net", 5)
    record = verdicts.shufflenet_robust(light, others)
    assert record["verdict"] == "supported" and (record["n"], record["unit"]) == (N, "photographs")
    found = signed(light.mean(1)) - np.mean([signed(v.mean(1)) for v in others.values()])
    assert record["value"] == pytest.approx(found)
    alone = interval(light, signed, n_resamples=20_000)
    assert record["high"] - record["low"] < 3 * (alone.high - alone.low)
    worse = verdicts.shufflenet_robust(light[::-1], others)
    assert worse["verdict"] == "contradicted"
    with pytest.warns(RuntimeWarning, match="at least 5 photographs"):
        few = verdicts.shufflenet_robust(light[:, :4], {k: v[:, :4] for k, v in others.items()})
    assert few["verdict"] == "undecided" and "5 are needed" in few["note"]


def test_alike_within_the_margin_is_comparable_and_beyond_it_is_not():
    three = group([0.5, 0.5, 0.5], "vit", 3)
    alike = verdicts.efficientnet_comparable(values(0.5, 1), three)
    assert alike["verdict"] == "supported" and "transformers: vit0, vit1, vit2" in alike["note"]
    apart = verdicts.efficientnet_comparable(values(0.5, 1)[::-1], three)
    assert apart["verdict"] == "contradicted"


def test_each_older_network_has_to_be_beaten():
    older = {"alexnet": values(0.5, 1)[::-1], "resnet18": values(0.5, 2)}
    assert verdicts.efficientnet_over_older(values(0.8, 0), older)["verdict"] == "supported"
    record = verdicts.efficientnet_over_older(values(0.3, 0, scatter=0.02), older)
    assert record["verdict"] == "contradicted" and "worst of 2: resnet18" in record["note"]


def test_attacks_are_judged_relative_to_the_clean_probability():
    """Twice the change at three times the probability is less."""
    rng = np.random.default_rng(0)
    clean = np.full(N, 0.9), np.full(N, 0.3)
    own = [0.4 + 0.02 * rng.random(N), clean[0]]
    other = [0.2 + 0.02 * rng.random(N), clean[1]]
    record = verdicts.shufflenet_adversarial({"fgsm": [own, other, other], "pgd": [own, other]})
    assert record["verdict"] == "supported"
    assert record["value"] == pytest.approx(0.41 / 0.9 - 0.21 / 0.3, abs=0.01)
    turned = verdicts.shufflenet_adversarial({"fgsm": [other, own], "pgd": [own, other]})
    assert turned["verdict"] == "contradicted"
