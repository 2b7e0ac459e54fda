"""Verdicts on mending, on planted gains; and the table that they are read from."""

import numpy as np
import pytest

from iaside.tables import Condition
from iaside.training.mend_study import fine_tunings
from iaside.training.plans import BANDS, FACTORS
from iaside.training.remedies import ARMS, Diagnosis, Mending
from iaside.verdicts import mend

N = 200
DEPLOYMENTS = [Condition("fog", 5.0), Condition("shot_noise", 5.0)]


def mending(seed, right, place=(0.1, 0.7), architecture="a"):
    """right: arm -> the share of right answers at the deployment that was diagnosed; one for all
    deployments, or one for each."""
    rng = np.random.default_rng(seed)
    d, ease = len(DEPLOYMENTS), rng.random(N)
    correct = np.ones((len(ARMS), d, 1 + d, N), bool)
    for k, arm in enumerate(ARMS):
        for at in range(d):
            share = np.broadcast_to(right.get(arm, 0.5), d)[at]
            correct[k, at, 1 + at] = ease < share + 0.01 * rng.normal()
    zeros = np.zeros((d, BANDS))
    return Mending(
        DEPLOYMENTS,
        correct,
        np.zeros(correct.shape, np.float32),
        np.ones((1 + d, N), bool),
        np.zeros((1 + d, N), np.float32),
        np.zeros(BANDS),
        zeros,
        zeros,
        np.zeros(d, int),
        np.full(d, 7),
        np.array(place),
        np.ones((len(ARMS), d, 2), int),
        {
            "seed": seed,
            "architecture": architecture,
            "network": f"a-seed{seed}",
            "diagnosis_passes": 9,
        },
    )


def trainings(n=3, **right):
    return [mending(seed, right) for seed in range(n)]


@pytest.mark.parametrize(
    ("targeted", "generic", "verdict"),
    [(0.9, 0.5, "supported"), (0.3, 0.9, "contradicted"), (0.5, 0.5, "undecided")],
)
def test_targeted_against_generic(targeted, generic, verdict):
    row = mend.targeted_beats_generic(trainings(augmentation=targeted, adversarial=generic))
    assert row["verdict"] == verdict and (row["n"], row["unit"]) == (3, "trainings")
    assert [p["part"] for p in row["parts"]] == ["fog", "shot_noise"]


def test_what_beats_no_remedy_has_not_beaten_the_generic_one():
    row = mend.targeted_beats_generic(trainings(augmentation=0.9, adversarial=0.9))
    assert row["verdict"] == "undecided"


def test_each_part_is_of_its_own_deployment():
    found = trainings(augmentation=(0.9, 0.3), penalty=(0.9, 0.3))
    values = [p["value"] for p in mend.targeted_beats_generic(found)["parts"]]
    assert values == pytest.approx([0.4, -0.2], abs=0.05)
    values = [p["value"] for p in mend.penalty_mends(found)["parts"]]
    assert values == pytest.approx([0.4, 0.4, -0.2, -0.2], abs=0.05)


def test_a_gain_is_of_the_images_that_are_asked_about():
    found = trainings(augmentation=0.9)  # at the deployment alone; all is right elsewhere
    asked = {under: mend.gain(found, "augmentation", "none", 0, under)(0.95) for under in (None, 0)}
    assert asked[None] == asked[0] and asked[None].value == pytest.approx(0.4, abs=0.05)
    for elsewhere in (-1, 1):
        assert mend.gain(found, "augmentation", "none", 0, elsewhere)(0.95).value == 0


def test_architectures_are_averaged_seed_by_seed():
    found = [
        mending(seed, {"augmentation": share}, architecture=name)
        for name, share in (("a", 0.9), ("b", 0.5))
        for seed in range(3)
    ]
    mean = mend.gain(found, "augmentation", "none", 0)(0.95)
    assert mean.n == 3 and mean.value == pytest.approx(0.2, abs=0.03)


def test_a_penalty_has_to_beat_none_and_the_same_elsewhere():
    assert mend.penalty_mends(trainings(penalty=0.9))["verdict"] == "supported"
    anywhere = mend.penalty_mends(trainings(penalty=0.9, penalty_elsewhere=0.9))
    assert anywhere["verdict"] == "undecided"
    assert len(anywhere["parts"]) == 4


def test_two_trainings_decide_nothing():
    row = mend.targeted_beats_generic(trainings(2, augmentation=0.9))
    assert row["verdict"] == "undecided" and "2 trainings, 3 are needed" in row["note"]
    assert mend.targeted_beats_generic([]) is None and mend.penalty_mends([]) is None


def test_trainings_of_different_deployments_are_refused():
    other = mending(1, {})
    other.deployments = DEPLOYMENTS[::-1]
    with pytest.raises(ValueError, match="different deployments"):
        mend.targeted_beats_generic([mending(0, {}), other])


def test_the_table_is_kept_whole(tmp_path):
    one = mending(0, {"penalty": 0.8})
    one.save(tmp_path / "one.npz")
    again = Mending.load(tmp_path / "one.npz")
    assert again.deployments == DEPLOYMENTS and again.opposite(0) == 1
    for arm in ARMS:
        assert np.array_equal(again.gain(arm, "none", 1), one.gain(arm, "none", 1))
    one.correct = one.correct[:, :1]
    one.save(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="correct"):
        Mending.load(tmp_path / "two.npz")


def test_arms_begin_alike_make_as_many_updates_and_share_networks():
    base = FACTORS | {"architecture": "a", "seed": 2, "epochs": 9, "augment": True, "lr": 1.0}
    base |= {"key": "k", "files": {}, "plan": "p", "every": 1, "warm_up": 0}
    base |= {"adversary": "fgsm", "noise": 0.2, "penalty": "jafr", "strength": 0.1}
    same = Diagnosis(*[np.zeros(BANDS)] * 3, 5, 0)
    tuning = {"epochs": 2, "lr": 0.1, "strengths": dict(augmentation=0.3, dropout=0.4, penalty=2)}
    one, two = (fine_tunings(base, "w", tuning, [same] * k) for k in (1, 2))
    assert one == two and len(one) == len(ARMS)
    fixed = ("start", "epochs", "lr", "seed", "augment", "schedule")
    alike = {tuple(s[name] for name in fixed) for s in one.values()}
    assert alike == {("w", 2, 0.1, 2, True, "cosine")}
    assert {s["adversary"] for k, s in one.items() if k != "pgd"} == {"none"}
    assert one["pgd"]["adversary"] == "pgd" and {s["noise"] for s in one.values()} == {0}
    strengths = {(s["penalty"], s["strength"]) for s in one.values()}
    assert strengths == {
        ("none", 0.0), ("white_noise", 0.3), ("coalition_dropout", 0.4), ("band_share", 2.0)
    }  # fmt: skip
    assert all("key" not in s and s["every"] == 0 for s in one.values())
    assert {s["band"] for s in one.values()} == {None, 5, 0}
