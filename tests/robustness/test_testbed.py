"""The table of published robustness: its mCE, and which networks it knows."""

import json

import numpy as np
import pytest
from smoke import ROOT

from iaside.robustness import testbed
from iaside.robustness.measures import mean_corruption_error
from iaside.study.pages.architecture import DASH, bench
from iaside.tables import CLEAN, CORRUPTIONS, TABLES, Condition, Responses


@pytest.fixture(scope="module")
def table():
    return testbed.read()


def test_mce_is_that_of_the_papers(table):
    """As others computed it from this table; published are those of Hendrycks' own AlexNet."""
    mce = testbed.published_mce(table)
    for name, here, published in (
        ("resnet50", 76.5, 76.7),
        ("resnet18", 84.5, 84.7),
        ("vgg19_bn", 81.8, 81.6),
    ):
        assert mce[name] == pytest.approx(here, abs=0.05)
        assert mce[name] == pytest.approx(published, abs=0.3)
    assert mce["alexnet"] == 100 and len(table) == 335 and mce.notna().sum() == 200


def test_alexnet_of_another_table_would_be_another_scale(table):
    errors = {name: 1 - table.loc["alexnet", f"on_disk_{name}"] / 100 for name in CORRUPTIONS}
    assert mean_corruption_error(errors) == pytest.approx(102.3, abs=0.05)


def test_a_corruption_that_is_missing_leaves_no_mce(table):
    some = table.copy()
    some.loc["resnet50", "on_disk_fog"] = np.nan
    assert np.isnan(testbed.published_mce(some)["resnet50"])
    assert testbed.published_mce(some)["resnet18"] == testbed.published_mce(table)["resnet18"]


def test_another_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("name,mce\nresnet50,76.7\n")
    with pytest.raises(ValueError, match="t.csv is no table of the ImageNet testbed, it lacks"):
        testbed.read(tmp_path / "t.csv")


def entry(folder, name, **recipe):
    (folder / f"{name}.json").write_text(json.dumps(recipe))
    return {"name": name, "weights": "x.safetensors", "recipe": str(folder / f"{name}.json")}


def test_networks_join_by_their_weights_and_never_by_a_name(table, tmp_path):
    models = {
        "mine": entry(tmp_path, "resnet50", architecture="resnet50"),
        "other": entry(tmp_path, "other", weights="torchvision:resnet50.IMAGENET1K_V2"),
        "a": entry(tmp_path, "a", weights="torchvision:resnet18.IMAGENET1K_V1"),
        "b": entry(tmp_path, "b", weights="timm:tf_efficientnet_b0.in1k"),
        "to_be_trained": {"name": "alexnet", "weights": "x", "recipe": str(tmp_path / "none.json")},
        "bare": {"name": "vgg19_bn"},
    }
    found = testbed.join(models, table)
    assert list(found.index) == ["a", "b"] and found.loc["a", "row"] == "resnet18"
    assert found.loc["a", "mCE"] == pytest.approx(84.5, abs=0.05)
    assert found.loc["a", 2.0] == table.loc["resnet18", "pgd_linf_eps2"]
    assert list(found) == ["row", "mCE", 0.5, 2.0]
    none = testbed.join({"bare": models["bare"]}, table)
    assert none.empty and list(none) == list(found)


def test_torchvisions_numbers_are_of_the_very_weights(tmp_path):
    models = {
        "mine": entry(tmp_path, "resnet18", architecture="resnet18", library="torchvision"),
        "a": entry(tmp_path, "a", weights="torchvision:resnet18.IMAGENET1K_V1"),
        "newer": entry(tmp_path, "newer", weights="torchvision:resnet50.IMAGENET1K_V2"),
        "b": entry(tmp_path, "b", weights="timm:tf_efficientnet_b0.in1k"),
        "later": entry(tmp_path, "later", weights="torchvision:resnet18.IMAGENET9K_V9"),
        "other": entry(tmp_path, "other", weights="torchvision:no_such_net.IMAGENET1K_V1"),
    }
    found = testbed.of_torchvision(models)
    assert found.loc["a"].tolist() == [69.758, 11689512]  # as its page of models says
    assert found.loc["newer", "top-1"] == 80.858 and list(found.index) == ["a", "newer"]
    assert testbed.of_torchvision({}).empty


def some_answers(n=20, seed=0):
    conditions = [CLEAN, *(Condition(name, 1.0) for name in CORRUPTIONS)]
    right = (np.random.default_rng(seed).random((len(conditions), n)) < 0.7).astype(float)
    tables = dict.fromkeys(TABLES, right)
    energy = np.ones((len(conditions), 2, n))
    return Responses(conditions, tables, energy[0], energy, {})


def test_the_bench_has_a_dash_where_nothing_is_published(table, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    models = {
        "resnet18": entry(tmp_path, "a", weights="torchvision:resnet18.IMAGENET1K_V1"),
        "tf_efficientnet_b0": entry(tmp_path, "b", weights="timm:tf_efficientnet_b0.aa_in1k"),
        "mine": entry(tmp_path, "mine", architecture="resnet18"),
    }
    answers = {m: some_answers() for m in models}
    found = bench(models, answers, [11.69, 5.29, 11.69])
    theirs = found.loc["resnet18"]
    assert theirs["top-1, torchvision"] == "69.8 %"
    assert theirs["parameters, here"] == theirs["parameters, torchvision"] == "11.69 M"
    assert theirs["mCE, testbed"] == "84.5"
    mce = mean_corruption_error(
        {c: 1 - answers["mine"].tables["correct"][k].mean() for k, c in enumerate(CORRUPTIONS, 1)}
    )
    assert found.loc["mine", "mCE, here"].startswith(f"{mce:.0f} [")
    published = [name for name in found if "torchvision" in name or "testbed" in name]
    assert len(published) == 5 and (found.loc["mine", published] == DASH).all()
    assert found.loc["tf_efficientnet_b0", ["top-1, torchvision"]].tolist() == [DASH]


def test_every_row_of_weights_is_there_once(table):
    joins = table["joins"].dropna()
    assert joins.is_unique and joins.str.match(r"(torchvision|timm):[\w.]+$").all()


def test_packaged_networks_join_nothing(table, data):
    """SqueezeNet 1.1 is Caffe's: torchvision's of this name is another network."""
    files = sorted((data / "weights").glob("*.json"))
    models = {p.stem: {"name": p.stem, "recipe": str(p)} for p in files}
    assert "squeezenet1_1" in models and testbed.join(models, table).empty
    assert "torchvision:squeezenet1_1.IMAGENET1K_V1" in set(table["joins"])


def test_the_table_goes_with_its_source_and_licence():
    text = testbed.TABLE.read_text()
    head = " ".join(line for line in text.splitlines() if line.startswith("#"))
    readme = (ROOT / "data/README.md").read_text()
    for part in ("0170eec658d664289d9f61de8f90f967f49abca0", "MIT", "imagenet-testbed"):
        assert part in head and part in readme.partition("## Published")[2].partition("\n## ")[0]
