"""Results are compared, hashed, found in lists, copied and sent to other processes."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import typing
from dataclasses import replace

import numpy as np
import pytest
import torch

import iaside
from iaside.attribution.examination_table import Examination
from iaside.attribution.explorers import Exploration
from iaside.estimate.estimate import Estimate
from iaside.explanation import Explanation, compare
from iaside.game.samples import Controls, SampledWorths
from iaside.game.surrogate import Estimates
from iaside.tables import CLEAN, Condition, Responses, Worths
from iaside.training.plans import Profile


def game(seed=0):
    return Worths({"v": np.random.default_rng(seed).normal(size=(4, 9))}, {})


def sampled():
    rows = [np.zeros(2, np.int64), np.zeros(2, np.int64), np.array([0, 3], np.uint64)]
    return SampledWorths(*rows, {"v": np.arange(2.0)}, {"n_bands": 2})


def explanation():
    return Explanation(game())


ITSELF = {
    "Explanation": explanation,
    "Worths": game,
    "SampledWorths": sampled,
    "Controls": lambda: Controls([sampled()], [1.0]),
    "Responses": lambda: Responses(
        [CLEAN], {"correct": np.ones((1, 3))}, np.ones((2, 3)), np.zeros((1, 2, 3)), {}
    ),
    "Examination": lambda: Examination({"a": {}}, {"insertion": np.ones((1, 2))}, {}, None),
    "Profile": lambda: Profile("a", {}, [1], {1: game()}),
}
BY_CONTENT = {
    "Estimate": lambda: Estimate(np.arange(3.0), np.full(3, np.nan), *np.eye(2, 3), 9, "networks"),
    "a number's Estimate": lambda: Estimate(0.5, float("nan"), 0.0, 1.0, 9, "networks"),
    "Comparison": lambda: compare(explanation(), Explanation(game(1))),
    "Exploration": lambda: Exploration(
        *(torch.arange(6.0).reshape(1, 6).requires_grad_() for _ in range(6)), torch.tensor([1])
    ),
    "Estimates": lambda: Estimates(np.eye(2), np.eye(2)),
    "Condition": lambda: Condition("fgsm", 0.1, 2),
}


@pytest.mark.parametrize("make", ITSELF.values(), ids=ITSELF)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tables_are_equal_to_themselves_alone(make):
    one, other = make(), make()
    assert one == one and one != other and one in [other, one] and one not in [other]
    assert len({one, other, one}) == 2 and {one: 1}[one] == 1 and [other, one].index(one) == 1
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert type(same) is type(one) and vars(same).keys() == vars(one).keys()


@pytest.mark.parametrize("make", BY_CONTENT.values(), ids=BY_CONTENT)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_unpacks_is_equal_by_content(make):
    one, other = make(), make()
    assert one == other and not one != other and hash(one) == hash(other)
    assert one in [other] and len({one, other}) == 1
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same == one and type(same) is type(one)
    assert len([*one]) == (4 if isinstance(one, Estimate) else len(one._fields))


def test_equality_sees_shape_content_and_length():
    one = Estimate(np.zeros(2), np.zeros(2), np.zeros(2), np.ones(2), 9, "networks")
    assert one != replace(one, high=np.ones(3)) and one != replace(one, high=1.0)
    assert one != replace(one, high=np.array([1.0, np.nextafter(1, 2)]))
    assert one != replace(one, n=8) and one != replace(one, unit="trainings")
    assert one != tuple(one) and one != "interval" and one != None  # noqa: E711
    zero = Estimate(0.5, 0.1, 0.0, 1.0, 9, "networks")
    assert {zero: 1}[replace(zero, low=-0.0, high=1)] == 1
    drawn = Estimates(np.zeros(2), np.ones(2))
    assert drawn == (np.zeros(2), np.ones(2)) and drawn != (np.zeros(2), np.ones(3))


def test_no_result_of_the_package_compares_arrays_by_truth():
    """Of all classes that would: a dataclass with the equality of its fields, a plain tuple."""
    for module in pkgutil.walk_packages(iaside.__path__, "iaside."):
        module = importlib.import_module(module.name)
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ != module.__name__ or name.startswith("_"):
                continue
            if dataclasses.is_dataclass(kind) and not kind.__dataclass_params__.frozen:
                assert kind.__eq__ is object.__eq__ and kind.__hash__ is object.__hash__, name
            if typing.NamedTuple in getattr(kind, "__orig_bases__", ()):
                arrays = any(
                    w in str(a)
                    for a in kind.__annotations__.values()
                    for w in ("ndarray", "Tensor", "Estimate")
                )
                assert (
                    not arrays
                    or "Callable" in str(kind.__annotations__)
                    or (kind.__eq__ is not tuple.__eq__)
                ), name


def test_arrays_have_no_order_and_numbers_have():
    a, b = Condition("fgsm", 0.2, 2), Condition("fgsm", 0.1, 2)
    assert sorted([a, b]) == [b, a] and a > b and a >= b and not a < b and not a <= b
    for make in (BY_CONTENT["Exploration"], BY_CONTENT["Estimates"]):
        with pytest.raises(TypeError, match="holds arrays, which have no order"):
            sorted([make(), make()])


def test_an_estimate_of_arrays_is_written_entry_by_entry():
    limits = np.array([[0.25, 1.0], [0.1, np.nan], [0.0, np.nan], [0.5, np.nan]])
    many = Estimate(*limits, 24, "photographs")
    assert f"{many:.1f}" == "0.2 [0.0, 0.5], 1.0 (no interval), n = 24 photographs"
