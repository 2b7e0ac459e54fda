"""The reports about the trained networks, on made-up tables with a planted answer."""

import pytest
from made_up_zoo import make_project, report

STANDARD = {"architecture": "small_cnn", "seed": [0, 1]}
PLANS = {
    "plain": STANDARD | {"adversary": ["none", "fgsm", "pgd"]},
    "jafr": STANDARD | {"adversary": ["none", "fgsm", "pgd"], "penalty": "jafr",
                        "strength": [-0.001, 0.001]},
    "strong": STANDARD | {"penalty": "jafr", "strength": 0.004},
    "augmented": STANDARD | {"augment": True},
    "noise": STANDARD | {"noise": [0.4, 0.8]},
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("zoo")
    return make_project(
        root, PLANS, jafr={"strength": 0.001, "beta": 0.75}, zoo={"beta": 0.75}
    )
