"""Plans stand for networks: by cross product, each once, found by its factors, read or missed."""

import re

import numpy as np
import pytest

from iaside.tables import CLEAN, TABLES, Responses, Worths
from iaside.training.plans import FACTORS, Profile, load_profiles, networks, select

PLANS = {
    "noise": {"architecture": ["a", "b"], "noise": [0, 0.4], "seed": [0, 1], "every": 5},
    "jafr": {
        "architecture": "a",
        "adversary": ["none", "pgd"],
        "penalty": "jafr",
        "strength": [-0.001, 0.001],
    },
    "own": {"architecture": "a", "images": "data/x.npz", "epochs": 3, "augment": True},
}


DROPOUT = {"penalty": "coalition_dropout"}


def profiles(plans=PLANS):
    return {name: Profile(name, settings) for name, settings in networks(plans).items()}


def test_a_plan_is_the_cross_product_of_its_lists():
    found = networks(PLANS)
    assert len(found) == 8 + 4 + 1
    assert {
        "a-seed0",
        "b-noise0.4-seed1",
        "a-jafr-0.001-seed0",
        "a-pgd-jafr0.001-seed0",
        "a-x-augment-seed0",
    } <= set(found)
    assert found["b-noise0.4-seed1"] == FACTORS | {
        "architecture": "b",
        "noise": 0.4,
        "seed": 1,
        "plan": "noise",
        "every": 5,
    }
    assert found["a-x-augment-seed0"]["epochs"] == 3 and "epochs" not in found["a-seed0"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"nois": 0.1}, "'q' sets 'nois'.*did you mean 'noise'"),
        ({"noise": [0, 1.5]}, r"noise: 1.5; it must be a share of the labels, from 0 to 1"),
        ({"noise": "much"}, "noise: 'much'; it must be a share"),
        ({"fraction": 0}, "fraction: 0; it must be"),
        ({"adversary": "cw"}, "'cw'; it must be one of none, fgsm, pgd"),
        ({"penalty": "jfr", "strength": 1}, "penalty: 'jfr'"),
        ({"penalty": "jafr"}, "penalty 'jafr' with strength 0"),
        ({"strength": 0.1}, "penalty 'none' with strength 0.1"),
        ({"penalty": "coalition_dropout", "strength": 2}, "between 0 and 1"),
        (DROPOUT | {"strength": [[0.5] * 7 + [0.1, 0]]}, r"of each of the 8 bands"),
        (DROPOUT | {"strength": [[0] * 7 + [1.1]]}, r"strength \[0.0, .*, 1.1\]: .* from 0 to 1"),
        (DROPOUT | {"strength": [[0.5] * 8]}, "the same strength in every band.*give the one"),
        (DROPOUT | {"strength": [[0] * 7 + ["a"]]}, "a list of 8 in the list of strengths"),
        (DROPOUT | {"strength": [[0] * 7 + [1]], "band": 3}, "band 3: only coalition_dropout with"),
        ({"penalty": "white_noise", "strength": [[0] * 7 + [1]]}, "only coalition_dropout without"),
        ({"strength": [[0] * 7 + [1]]}, "penalty 'none' with strength"),
        ({"augment": 1}, "augment: 1; it must be true or false"),
        ({"seed": [0, -1]}, "seed: -1"),
        ({"seed": []}, "an empty list for seed"),
        ({"seed": [0, 0]}, "a-seed0 is in plan 'q' and again in 'q'"),
        ({"epochs": [1, 2]}, "a list for 'epochs': only factors may vary"),
        ({"architecture": ""}, "architecture: ''"),
    ],
)
def test_what_no_plan_may_say(plan, message):
    with pytest.raises(ValueError, match=message):
        networks({"q": {"architecture": "a"} | plan})


def test_a_strength_for_each_band_is_one_value_of_the_list():
    by_band = [0, 0, 0, 0, 0.25, 0.5, 1, 1]
    found = networks({"q": {"architecture": "a", **DROPOUT, "strength": [0.5, by_band]}})
    one, other = found.values()
    assert one["strength"] == 0.5 and other["strength"] == tuple(by_band)
    assert list(found)[1] == "a-coalition_dropout0_0_0_0_0.25_0.5_1_1-seed0"


def test_a_network_is_trained_once():
    again = {"other": {"architecture": "a", "noise": 0.4}}
    message = "a-noise0.4-seed0 is in plan 'noise' and again in 'other'"
    with pytest.raises(ValueError, match=message):
        networks(PLANS | again)
    with pytest.raises(ValueError, match="'q' names no architecture"):
        networks({"q": {"noise": 0.1}})


def test_select_keeps_all_other_factors_at_their_default():
    found = profiles()
    assert set(select(found)) == {f"{a}-seed{s}" for a in "ab" for s in (0, 1)}
    assert set(select(found, architecture="a", seed=1)) == {"a-seed1"}
    assert len(select(found, noise=[0, 0.4])) == 8
    assert set(select(found, noise={0.4}, architecture=("b",), seed=0)) == {"b-noise0.4-seed0"}
    jafr = select(found, penalty="jafr", strength=0.001, adversary=["none", "pgd"])
    assert set(jafr) == {"a-jafr0.001-seed0", "a-pgd-jafr0.001-seed0"}
    assert select(found, penalty="jafr") == {}  # strength stays 0
    with pytest.raises(ValueError, match="'nois' is no factor"):
        select(found, nois=0.1)


def test_profiles_are_read_as_written_and_missed_by_name(tmp_path):
    plans = {"p": {"architecture": "a", "every": 2}}
    measured, logs = tmp_path / "profiles", tmp_path / "training"
    with pytest.raises(
        FileNotFoundError,
        match=re.escape("network a-seed0 of plan 'p'; run `dvc repro training@p`"),
    ):
        load_profiles(plans, measured, logs)
    (logs / "p/a-seed0").mkdir(parents=True)
    (logs / "p/a-seed0/log.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n3,0.125\n")
    with pytest.raises(FileNotFoundError, match="run `dvc repro profiles@p`"):
        load_profiles(plans, measured, logs)
    folder = measured / "p/a-seed0"
    for k, name in enumerate(("epoch-002", "final")):
        worths = Worths({"log_likelihood": np.full((4, 3), k)}, {"values": ["log_likelihood"]})
        worths.save(folder / f"{name}.npz")
    np.savez(folder / "answers.npz", epochs=np.array([2, 3]), correct=np.ones((2, 5), bool))
    profile = load_profiles(plans, measured, logs)["a-seed0"]
    assert profile.epochs == [2, 3] and profile.responses is None
    assert profile.worths[2].table.max() == 0 and profile.final.table.min() == 1
    assert profile.answers["correct"].shape == (2, 5)
    assert profile.log[2] == {"epoch": 3, "loss": 0.125}
    table = {t: np.ones((1, 3)) for t in TABLES}
    Responses([CLEAN], table, np.ones((2, 3)), np.zeros((1, 2, 3)), {}).save(
        folder / "responses.npz"
    )
    assert load_profiles(plans, measured, logs)["a-seed0"].responses.rows("clean") == [0]
