"""Studies as overlays: what differs, what is shared, and the params.yaml that is made of them."""

import itertools
import random
import re
import shutil
import subprocess

import pytest
from smoke import ROOT
from sweeps import few

from iaside.study import check, overlays, plan, sections
from iaside.study.overlays import made_of, merged, read_study, study_file, use, written_out
from iaside.study.parameters import UsageError, read_sections, read_yaml

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
STUDIES.sort(key=lambda path: path.stem not in ("default", "smoke"))  # these in a quick run
each_study = pytest.mark.parametrize("path", few(STUDIES), ids=lambda p: p.stem)
MINE = """\
base: caltech101
models:
  own: &own {name: own, weights: ../own.safetensors, recipe: ../own.json}
game: {n_images: 9, metric: l2}
rivals: {n_images: 5}
choices: {networks: {own: *own}}
training: {plans: {few: {architecture: small_cnn, seed: [3]}}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the studies of this one, and one that is somebody's own."""
    for name in ("data", "notebooks", "dvc.yaml", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "studies/mine.yaml").write_text(MINE)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def test_each_name_of_an_overlay_takes_the_place_of_the_bases():
    """Of random studies, against the rule said once more: the last that has it."""
    draw = random.Random(0)

    def study():
        sections = {s: {n: draw.random() for n in "abc" if draw.random() < 0.5} for s in "xyz"}
        return sections | {"seed": draw.random(), "models": {draw.choice("mn"): {}}}

    for _ in range(50):
        below, above = study(), study()
        found = merged(below, above)
        assert found["models"] == above["models"] and found["seed"] == above["seed"]
        for s, n in itertools.product("xyz", "abc"):
            has = [layer[s][n] for layer in (above, below) if n in layer[s]]
            assert found[s].get(n) == (has[0] if has else None)
        assert merged(found, above) == found == merged(merged(below, {}), above)


def test_what_sections_share_stands_once(project):
    before, study = read_study(ROOT / "studies/caltech101.yaml"), read_study(project / MINE_FILE)
    assert "game" not in study and "base" not in study
    for section in ("snr", "worths", "robustness", "resolution"):
        assert study[section]["n_images"] == 9 and study[section]["metric"] == "l2"
    assert study["rivals"]["n_images"] == 5 and study["rivals"]["metric"] == "l2"
    assert study["bands"]["n_images"] == 70, "what a section of the base says itself stays"
    assert study["match"]["metric"] == "l2" and "n_images" not in study["match"]
    assert "images" not in study["choices_report"], "which takes those of another section"
    assert list(study["models"]) == list(study["choices"]["networks"]) == ["own"]
    assert list(study["training"]["plans"]) == ["few"], "what is not listed is left out"
    untouched = {"seed", "designs", "importance", "claims", "runtime", "dynamics", "bands"}
    assert {s for s in study if study[s] == before[s]} >= untouched
    assert study["training"] == before["training"] | {"plans": study["training"]["plans"]}


MINE_FILE = "studies/mine.yaml"


@each_study
def test_a_study_is_written_out_as_it_is_read(path):
    study, text = read_study(path), written_out(path)
    found = read_yaml(text, path.name)
    assert found == study and repr(found) == repr(study | {}), "with its order, and 1 not 1.0"
    assert "\n# sha256 " in text and max(map(len, text.splitlines()[:5])) <= 100


@each_study
def test_an_overlay_says_nothing_that_is_so_without_it(path, monkeypatch):
    declared = overlays._declared(ROOT)
    monkeypatch.setattr(overlays, "_declared", lambda root: declared)
    *layers, last = [read_sections(p) for p in reversed(overlays._layers(path, ROOT))]
    base = {}
    for layer in layers:
        base = merged(base, layer)

    def resolved(overlay):
        study = merged(base, overlay)
        return overlays.inherited({k: v for k, v in study.items() if k != "base"}, ROOT)

    whole = resolved(last)
    for section, values in last.items() if layers else ():
        if section in (*overlays.WHOLE, "base"):
            assert section == "base" or base[section] != values, section
            continue
        for name in values:
            less = last | {section: {k: v for k, v in values.items() if k != name}}
            assert resolved(less) != whole, f"{section}.{name}"


def test_a_params_yaml_edited_by_hand_is_a_study_too(project):
    text = (project / "params.yaml").read_text()
    edited = text.replace("mosaic_bands: 4", "mosaic_bands: 5")
    (project / "studies/edited.yaml").write_text(edited)
    assert read_study(project / "studies/edited.yaml") == read_yaml(edited, "edited")
    assert made_of(project / "params.yaml") == "default"
    for change in (edited, text + "\n", text.replace("# The study `default`", "# The study `x`")):
        (project / "params.yaml").write_text(change)
        assert made_of(project / "params.yaml") is None


def test_comments_come_with_the_values(project):
    lines = written_out(project / MINE_FILE).splitlines()
    section = lines[lines.index(next(line for line in lines if line.startswith("rivals:"))) :]
    assert "# 42_rivals: masking by octaves" in section[0]
    assert section[1] == "  images: data/images/photographs   # a packaged set, or your folder"
    assert "  n_images: 5          # drawn by `seed`, the same for every network" in section


WRONG = [
    ("worths: {n_bnads: 3}", "sets 'n_bnads'.*did you mean 'n_bands'"),
    ("wroths: {n_bands: 3}", "no notebook is called 'wroths'.*did you mean 'worths'"),
    ("game: {n_image: 3}", "`game` sets 'n_image'.*did you mean 'n_images'"),
    ("game: {metric: l3}", "snr.metric is 'l3'"),
    ("runtime: {worker: 2}", "`runtime` sets 'worker'.*did you mean 'workers'"),
    ("resolution: {metric: l2}", "resolution.metric is 'l2', but must be 'linf', as in `worths`"),
    ("robustness: {metric: l2}", "robustness.metric is 'l2', but must be 'linf', as in `worths`"),
    ("match: {metric: l2}", "match.metric is 'l2', but must be 'linf', as in `worths`"),
    ("game: {spacing: log2}", "worths.spacing is 'log2', but must be linear"),
    ("worths: {absence: mean}", "worths.absence is 'mean', but must be zero"),
    ("worths: {values: [margin]}", r"worths.values is \['margin'\], but must be log_likelihood"),
    ("base: smok", "`base` of mine.yaml: no study 'smok'.*did you mean 'smoke'"),
    ("base: mine", "`base` of mine.yaml is 'mine', which is based on it"),
    ("worths: 5", "`worths` must hold"),
    ("[1]", "holds a list"),
    ("a: [", "mine.yaml is not YAML"),
]


@pytest.mark.parametrize(("text", "words"), few(WRONG, 4), ids=lambda w: w[:24])
def test_a_wrong_overlay_is_refused_by_its_file(text, words, project, data, monkeypatch, capsys):
    (project / MINE_FILE).write_text(text)
    monkeypatch.setattr(plan, "costs", lambda *a: pytest.fail("it was not checked"))
    calls = [lambda: check.main([MINE_FILE]), lambda: plan.main(["mine"])]
    try:
        use("mine")  # what can be written out is refused when params.yaml is checked
        calls.append(lambda: check.main([]))
    except UsageError as error:
        assert "mine.yaml" in str(error)
    for call in calls:
        assert call() == 2
        said = capsys.readouterr().err
        assert re.search(words, said), said
        assert "(studies/mine.yaml)" in said and said.count("\n") == 1


def test_a_study_without_resolution_may_space_its_bands(project, data):
    (project / MINE_FILE).write_text("game: {spacing: log2}\nclaims: {reports: [importance]}\n")
    check.check(read_study(project / MINE_FILE), project)


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("with_git", [True, False])
def test_switching_studies_never_loses_edits(tmp_path, monkeypatch, with_git):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    params = tmp_path / "params.yaml"
    (tmp_path / "studies").mkdir()
    for name in ("default", "smoke"):
        (tmp_path / f"studies/{name}.yaml").write_text(f"name: {name}")
    with pytest.raises(UsageError, match="no study 'smok'.*did you mean 'smoke'"):
        use("smok")
    assert "now the study 'default'" in use("default")
    if with_git:
        git(tmp_path, "init")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-m", "x")
    assert "now the study 'smoke'" in use("smoke")  # not committed, but nothing is lost
    assert "already" in use("smoke")
    (tmp_path / "studies/smoke.yaml").write_text("name: smoke\nn: 1")
    assert "now the study 'smoke'" in use("smoke"), "what was made of it before is no edit"
    params.write_text(params.read_text().replace("n: 1", "n: 2"))
    with pytest.raises(UsageError, match="cp params.yaml studies/mine.yaml"):
        use("default")
    assert params.read_text().endswith("n: 2\n")
    if with_git:
        git(tmp_path, "commit", "-am", "x")
        use("default")
        assert read_sections(params) == {"name": "default"}


def test_a_study_is_known_by_its_name(project):
    assert study_file("mine", project) == project / MINE_FILE
    with pytest.raises(UsageError, match="no study 'mien'.*did you mean 'mine'"):
        study_file("mien", project)


def test_a_report_that_is_left_out_is_asked_nothing_and_needs_nothing(project):
    (project / "studies/mine.yaml").write_text("without: [jafr, attribution_report]\n")
    study, default = (read_study(study_file(name, project)) for name in ("mine", "default"))
    kept = [n for n in default["claims"]["reports"] if n not in ("jafr", "attribution_report")]
    assert study["claims"]["reports"] == kept and study["jafr"] == default["jafr"]
    check.check(study, project)
    assert sections.reports_asked(default, project) == []
    asked = sections.reports_asked(study, project)
    assert asked == [
        n for n in sections.reports_listed(project) if n in (*kept, "summaries", "plans")
    ]
    use("mine")
    assert read_study(project / "params.yaml") == study
    (project / "studies/mine.yaml").write_text("base: cifar10_zoo\nwithout: [match]\n")
    fewer = read_study(study_file("mine", project))
    zoo = read_study(study_file("cifar10_zoo", project))["claims"]["reports"]
    assert sections.reports_asked(fewer, project) == [n for n in zoo if n != "match"]


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("[attributions]", "'attributions', which is no report"),
        ("jafr", "list"),
        ("[claims]", "no report"),
    ],
)
def test_only_reports_can_be_left_out(left, said, project):
    (project / "studies/mine.yaml").write_text(f"without: {left}\n")
    with pytest.raises(UsageError, match=said):
        check.check(read_study(study_file("mine", project)), project)
