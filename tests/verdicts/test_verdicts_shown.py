"""The tables of verdicts say what was measured, of how many of what, and on which data."""

from iaside.estimate.estimate import Estimate
from iaside.verdicts.rules import decide
from iaside.verdicts.shown import data_words, parts_table, verdict_table


def test_a_verdict_is_shown_with_its_limits_its_n_and_its_data():
    fine = Estimate(0.25, 0.03, 0.125, 0.5, 3, "trainings")
    few = Estimate.unsure(0.5, 2, "trainings")
    data = data_words("data/images/mnist_5k.npz", "data/images/mnist_5k.npz", "x/birds")
    parts = {"standard": lambda level: fine, "FGSM": lambda level: few}
    whole = decide("jafr_corruptions", lambda _: fine)
    records = [decide("jafr_high_gain", parts, data=data), whole]
    shown = verdict_table(records)
    assert shown["measured"].tolist() == [
        "0.5 (no interval), n = 2 trainings",
        "0.25 [0.125, 0.5], n = 3 trainings",
    ]
    assert shown["verdict"].tolist() == ["undecided", "supported"]
    assert shown["data"].tolist() == ["MNIST digits, images of birds", ""]
    assert "n = 2 trainings, 3 are needed" in shown["note"][0]
    rows = parts_table(records)
    assert rows["part"].tolist() == ["standard", "FGSM"], "one part alone is the claim itself"
    assert rows["measured"][0] == "0.25 [0.125, 0.5], n = 3 trainings"
    assert verdict_table([]).empty and parts_table([whole]) is None, "a notebook shows no None"
