"""Files are written whole or not at all, and no byte of a damaged one is believed."""

import io
import json
import os
import re
import shutil
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from smoke import ROOT

import iaside as ia
from iaside.attribution.examination_table import QUANTITIES, Examination
from iaside.attribution.examine import examine
from iaside.backend import batch, files, resume
from iaside.backend.files import DamagedError, read_json, replacing, write_text
from iaside.game.published import published_worths
from iaside.game.samples import SampledWorths
from iaside.inputs.classifier import save_weights, untrained
from iaside.inputs.images import load_images
from iaside.inputs.probe import probe
from iaside.inputs.weights import read_state
from iaside.robustness.responses import corrupt_all, responses
from iaside.robustness.snr import perturbation_spectra
from iaside.study import recorded
from iaside.study.notebook import save_json
from iaside.study.run import main
from iaside.tables import CLEAN, TABLES, Condition, Responses, Worths, save_table
from iaside.training import plans, training

SIDE = 8

# -- written ---------------------------------------------------------------------------------------


def test_a_file_is_on_the_disk_before_it_has_the_name_and_the_name_after(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        at = os.fstat(handle)
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else at.st_size)
        fsync(handle)

    def replaced(source, target):
        steps.append(f"{target}")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", replaced)
    write_text(tmp_path / "a.txt", "12345")
    if os.path.isdir("/proc/self/fd"):
        assert steps == [5, str(tmp_path / "a.txt"), "folder"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def net():
    return untrained("small_cnn", 2, 32, 0)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_json(path, {"a": 1}),
        lambda path: save_table(path, {}, {"a": np.zeros(3)}),
        lambda path: save_weights(net(), path.with_suffix(".safetensors")),
        lambda path: ia.Worths({"accuracy": np.zeros((2, 3))}, {"values": ["accuracy"]}).save(path),
    ],
    ids=["json", "table", "weights", "worths"],
)
def test_what_is_written_takes_the_one_way(write, tmp_path, monkeypatch):
    moved, move = [], files.move
    monkeypatch.setattr(
        files, "move", lambda source, target: moved.append(target) or move(source, target)
    )
    write(tmp_path / "new" / "x.npz")
    assert {str(p) for p in (tmp_path / "new").iterdir()} == {str(p) for p in moved}


def test_no_module_writes_files_of_its_own():
    """But stages, into a copy that is thrown away, and what processes share while they run."""
    way = r"os\.(?:replace|rename)\(|TemporaryFile|mkstemp|\.write_(?:text|bytes)\(|save_file\("
    way += r"|copyfile|\.to_csv\([^)]*path|open\([^)]*[\"']w"
    found = {
        path.stem for path in (ROOT / "iaside").rglob("*.py") if re.search(way, path.read_text())
    }
    assert found == {"files", "stages", "notebook", "sending", "photographs"}
    source = (ROOT / "iaside/study/notebook.py").read_text()
    assert re.findall(way, source) == [".write_text("], "only its doctest"
    # what is fetched is built in a temporary folder: it is its way from there that must be the one
    for path in (ROOT / "data").glob("*.py"):
        own = r"os\.(?:replace|rename|fsync)\(|shutil\.move|mkstemp|\.write_text\(|ruamel"
        assert not re.findall(own, path.read_text()), path.name


# -- results that a report reads: one line --------------------------------------------------------


def saved_worths(path):
    w = Worths({"accuracy": np.arange(12.0).reshape(4, 3)}, {"values": ["accuracy"]})
    w.save(path)


def saved_sample(path):
    image = np.repeat(np.arange(3), 4)
    SampledWorths(
        image,
        image,
        image.astype(np.uint64),
        {"accuracy": 1.0 + image},
        {"values": ["accuracy"], "n_bands": 3},
    ).save(path)


def saved_responses(path):
    tables = {t: np.arange(1.0, 7).reshape(2, 3) for t in TABLES}
    Responses(
        [CLEAN, Condition("fog", 1.0)], tables, np.ones((2, 3)), np.ones((2, 2, 3)), {"seed": 0}
    ).save(path)


def saved_examination(path):
    about = {"quantities": QUANTITIES, "variants": {"a": {}, "b": {}}, "rows": ["a", "b"]}
    tables = {q: np.arange(1.0, 7).reshape(2, 3) for q in QUANTITIES}
    Examination(about["variants"], tables, about, np.ones((2, 1, 4, 4), np.float16)).save(path)


def saved_images(path):
    images = np.arange(1, 1 + 4 * SIDE * SIDE * 3).astype(np.uint8).reshape(4, SIDE, SIDE, 3)
    np.savez(path, images=images, labels=np.arange(4))


def saved_answers(path):
    np.savez(path, epochs=np.array([1]), correct=np.ones((1, 40), bool))


def load_answers(path):
    log = path.parent / "logs" / "p" / "n"
    log.mkdir(parents=True, exist_ok=True)
    (log / "log.csv").write_text("epoch\n1\n")
    saved_worths(path.parent / "final.npz")
    place = path.parent / "p" / "n"
    place.mkdir(parents=True, exist_ok=True)
    for file in ("answers.npz", "final.npz"):
        (place / file).write_bytes((path if file[0] == "a" else path.parent / file).read_bytes())
    return plans._load("n", {"plan": "p"}, path.parent, path.parent / "logs")


LOADERS = {
    "worths": (saved_worths, Worths.load, "accuracy"),
    "sampled": (saved_sample, SampledWorths.load, "accuracy"),
    "responses": (saved_responses, Responses.load, "correct"),
    "examination": (saved_examination, Examination.load, "insertion"),
    "images": (saved_images, load_images, "images"),
    "answers": (saved_answers, load_answers, "correct"),
}


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(name, array):
    """A damage: a member replaced by another array, or left out."""

    def damage(path, first):
        parts = members(path)
        own = first if name is None else name
        if array is None:
            del parts[f"{own}.npy"]
        else:
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=True)
            parts[f"{own}.npy"] = buffer.getvalue()
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in parts.items():
                archive.writestr(member, data)

    return damage


def huge(compression):
    def damage(path, first):
        parts = members(path)
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "<f8", "fortran_order": False, "shape": (2**10, 2**20)}
        )
        parts[f"{first}.npy"] = buffer.getvalue() + bytes(96)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for member, data in parts.items():
                archive.writestr(member, data)

    return damage


def zeroed(path, first):
    """All numbers of the first table are 0, as on a disk that lost a block."""
    data, numbers = path.read_bytes(), members(path)[f"{first}.npy"]
    start = data.index(numbers) + 128
    end = start + len(numbers) - 128
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])


def cut(share):
    return lambda path, first: os.truncate(path, int(share * path.stat().st_size))


DAMAGES = {
    **{f"cut to {k}/8": cut(k / 8) for k in range(1, 8)},
    "a byte short": lambda path, first: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path, first: path.write_bytes(b""),
    "all zeros": lambda path, first: path.write_bytes(bytes(path.stat().st_size)),
    "zeroed data": zeroed,
    "text": lambda path, first: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "objects": changed(None, np.array([{}, None], dtype=object)),
    "no member": changed(None, None),
    "8 GiB": huge(zipfile.ZIP_STORED),
    "8 GiB, packed": huge(zipfile.ZIP_DEFLATED),
    "words": changed(None, np.array(["a", "b"])),
    "another shape": changed(None, np.zeros((5, 5, 5, 5, 5))),
}
NOTES = {
    "broken JSON": changed("provenance", np.array('{"values": [')),
    "a JSON list": changed("provenance", np.array("[1, 2]")),
    "JSON null": changed("provenance", np.array("null")),
    "no note": changed("provenance", None),
}


@pytest.mark.parametrize("what", LOADERS)
def test_a_damaged_result_is_one_line_with_its_path_and_a_remedy(what, tmp_path):
    save, load, first = LOADERS[what]
    path = tmp_path / "answers.npz"
    noted = what not in ("images", "answers")  # these have no notes
    for damage, harm in (DAMAGES | (NOTES if noted else {})).items():
        save(path)
        load(path)
        harm(path, first)
        tracemalloc.start()
        with pytest.raises(ValueError) as error:
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        text = str(error.value)
        assert "answers.npz" in text and "\n" not in text and len(text) > 40, damage
        assert peak < 2**26, f"{damage}: nothing is allocated for what is not there"
        if what != "images":
            assert re.search("measure|make repro|dvc repro", text), damage


ROW = np.zeros(12, np.uint64)
NO_ROWS = {
    "image": ROW[:0].astype(int),
    "draw": ROW[:0].astype(int),
    "coalition": ROW[:0],
    "accuracy": np.zeros(0),
}
IMPOSSIBLE = {
    "a coalition of a band too many": ("sampled", {"coalition": ROW + 8}, "more than 3 bands"),
    "no row": ("sampled", NO_ROWS, "no coalition"),
    **{
        f"{n} bands": (
            "sampled",
            {"provenance": np.array(json.dumps({"values": ["accuracy"], "n_bands": n}))},
            "n_bands is",
        )
        for n in (0, 1, 65, "3", 3.0, None)
    },
    "no number of bands": (
        "sampled",
        {"provenance": np.array('{"values": ["accuracy"]}')},
        "has no 'n_bands'",
    ),
    "no image": ("worths", {"accuracy": np.zeros((4, 0))}, "no image"),
    "no number": ("worths", {"accuracy": np.full((4, 3), np.nan)}, "no number"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_tables_that_no_measurement_can_give_are_refused(case, tmp_path):
    what, arrays, message = IMPOSSIBLE[case]
    save, load, first = LOADERS[what]
    path = tmp_path / "x.npz"
    save(path)
    for name, array in arrays.items():
        changed(name, array)(path, first)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value) and "measure" in str(error.value)


def test_a_missing_result_names_what_makes_it(tmp_path):
    for name, (_, load, _) in list(LOADERS.items())[:4]:
        with pytest.raises(FileNotFoundError, match=r"no .* at .*x\.npz; measure") as error:
            load(tmp_path / "x.npz")
        assert "\n" not in str(error.value), name


def test_no_table_keeps_objects(tmp_path):
    with pytest.raises(TypeError, match="maps holds Python objects"):
        save_table(tmp_path / "x.npz", {}, {"maps": None})
    assert not list(tmp_path.iterdir())


NO_JSON = ["", "{", "null", "[]", "3", "\x00" * 20, '{"stage": 1}', '{"stage": "a", "claims": [1]}']


@pytest.mark.parametrize("text", NO_JSON)
def test_a_damaged_record_is_one_line(text, tmp_path):
    folder = tmp_path / "results/recorded/old"
    about = {"reports": ["bands"], "title": "t", "date": "d"}
    for broken in ("run.json", "bands.claims.json"):
        write_text(folder / "run.json", json.dumps(about))
        write_text(folder / "bands.claims.json", json.dumps({"stage": "bands", "claims": []}))
        assert recorded.runs(tmp_path, ["old"])["old"]["rows"] == []
        write_text(folder / broken, text)
        with pytest.raises(DamagedError, match=rf"{broken} cannot be read as .*git checkout"):
            recorded.runs(tmp_path, ["old"])


@pytest.mark.parametrize("text", NO_JSON[:6])
def test_damaged_claims_and_settings_are_one_line(text, tmp_path):
    write_text(tmp_path / "x.json", text)
    with pytest.raises(DamagedError, match=r"x\.json cannot be read as claims: .*; do it again"):
        read_json(tmp_path / "x.json", "claims", "do it again")
    if text != "[]":
        with pytest.raises(DamagedError, match="dvc repro -f claims"):
            recorded.claims(tmp_path / "x.json", "run `dvc repro -f claims`")


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_weights_cut_at_any_byte_are_one_line(ending, tmp_path):
    weights, path = {"a": torch.rand(3, 4), "b": torch.arange(5)}, tmp_path / f"mine.{ending}"
    if ending == "pt":  # the format before the present one: its damages look worse
        torch.save(weights, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(safetensors.torch.save(weights))
    data = path.read_bytes()
    assert set(read_state(path)) == {"a", "b"}
    for n in range(0, len(data), 5):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match=rf"mine\.{ending} .*(damaged|incomplete)"):
            read_state(path)


def test_what_is_fetched_is_on_the_disk_before_it_has_its_place(fetch, tmp_path, monkeypatch):
    write_text(tmp_path / "built/set/a.png", "a")
    steps, replace = [], os.replace
    for module in (fetch, files):
        monkeypatch.setattr(module, "sync", lambda path: steps.append(path.name))
    monkeypatch.setattr(fetch.os, "replace", lambda a, b: steps.append("move") or replace(a, b))
    fetch.place(tmp_path / "built/set", tmp_path / "images/set")
    assert steps == ["set", "a.png", "move", "images"]


@pytest.mark.parametrize("text", ["", "epoch,lr\n", "epoch,lr\n1,0.1\n2,", "epoch,lr\n1,0.1\n2"])
def test_a_cut_log_is_one_line(text, tmp_path):
    write_text(tmp_path / "log.csv", text)
    with pytest.raises(DamagedError, match=r"log\.csv cannot be read as the log of a training"):
        plans.load_log(tmp_path / "log.csv")


def test_a_damaged_file_ends_a_command_with_one_line(tmp_path, monkeypatch, capsys):
    def page(root):
        return read_json(tmp_path / "x.json", "claims", "do it again")

    write_text(tmp_path / "x.json", "[]")
    monkeypatch.setattr("iaside.study.run.write_index", page)
    monkeypatch.chdir(ROOT)
    assert main(["--index"]) == 2
    assert re.fullmatch(r"error: .*x\.json cannot .*; do it again\n", capsys.readouterr().err)


# -- what is kept in between: made again, with a word ---------------------------------------------


class Line(torch.nn.Module):
    """Counts the images it is shown."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(2, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(1))
        self.weight, self.seen = torch.nn.Parameter(weight), 0

    def forward(self, x):
        self.seen += len(x)
        return x.flatten(1) @ self.weight.T


X = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 2
MASKS = ia.band_masks(3, (SIDE, SIDE))
QUIET = {"progress": False}
RESUMED = {  # a measurement that keeps what it has in a folder -> its numbers
    "worths": lambda net, at: (
        ia.coalition_worths(net, X, Y, MASKS, resume=at, batch_size=8, **QUIET).table
    ),
    "sampled": lambda net, at: ia.sampled_worths(
        net, X, Y, ia.band_masks(4, (SIDE, SIDE)), budget=60, resume=at, batch_size=8, **QUIET
    ).tables["log_likelihood"],
    "published": lambda net, at: published_worths(net, X.repeat(1, 1, 2, 2), Y, 2, resume=at),
    "responses": lambda net, at: responses(
        net,
        X,
        Y,
        [Condition("white_noise", 0.1), Condition("fgsm", 0.02)],
        MASKS,
        resume=at,
        **QUIET,
    ).tables["confidence"],
    "attributions": lambda net, at: np.concatenate(
        [
            t.ravel()
            for t in (lambda e: (*e.tables.values(), e.maps))(
                examine(
                    net,
                    X[:2],
                    Y[:2],
                    {"a": {"method": "saliency"}, "clean": {"method": "clean"}},
                    steps=4,
                    n_shown=1,
                    resume=at,
                    **QUIET,
                )
            )
        ]
    ),
    "snr": lambda net, at: perturbation_spectra(
        probe(net, X, Y),
        X,
        Y,
        {"fgsm": (range(6), {"name": "fgsm", "eps": 0.02})},
        0.1,
        MASKS,
        0,
        {},
        resume=at,
        **QUIET,
    ),
}


class Wide(Line):
    def __init__(self):
        super().__init__()
        weight = torch.randn(2, 3 * 4 * SIDE * SIDE, generator=torch.Generator().manual_seed(1))
        self.weight = torch.nn.Parameter(weight)


MEASURED_BY = {
    "worths": "game.exact game.game",  # the latter the clean pass
    "sampled": "game.sampling",
    "published": "game.published",
    "snr": "robustness.snr",
    "responses": "robustness.responses",
    "attributions": "attribution.examine",
}


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=pytest.mark.slow) if w == "responses" else w for w in RESUMED]
)
def test_what_other_code_has_kept_is_not_gone_on_with(what, tmp_path, monkeypatch):
    fresh = Wide if what == "published" else Line
    first, again, other = (fresh().eval() for _ in range(3))
    whole = RESUMED[what](first, tmp_path)
    modules = {f"iaside.{name}" for name in MEASURED_BY[what].split()}
    before = resume.code_hash
    monkeypatch.setattr(
        resume, "code_hash", lambda *names: before(*names) + "x" * bool(modules & set(names))
    )
    assert np.array_equal(RESUMED[what](other, tmp_path), whole, equal_nan=True)
    assert other.seen == first.seen, "all of it is measured by this code"
    assert np.array_equal(RESUMED[what](again, tmp_path), whole, equal_nan=True)
    assert again.seen < first.seen


SPOILT = {
    "cut to half": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "empty": lambda data: b"",
    "all zeros": lambda data: bytes(len(data)),
    "zeroed data": lambda data: data[: len(data) // 4] + bytes(3 * len(data) // 4),
    "text": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("what", RESUMED)
@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.slow
def test_what_was_kept_and_is_damaged_is_measured_again_with_a_word(what, spoilt, tmp_path):
    fresh = Wide if what == "published" else Line
    whole = RESUMED[what](fresh().eval(), tmp_path)
    first = fresh().eval()
    assert np.array_equal(RESUMED[what](first, tmp_path), whole, equal_nan=True)
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(SPOILT[spoilt](path.read_bytes()))
    again = fresh().eval()
    with pytest.warns(RuntimeWarning, match="made again") as caught:
        found = RESUMED[what](again, tmp_path)
    assert np.array_equal(found, whole, equal_nan=True)
    copied = (what, spoilt) == ("sampled", "a byte short")  # of a coalition that is drawn twice
    assert copied or again.seen > first.seen, "it was measured, not believed"
    named = {path for path in kept for w in caught if str(path) in str(w.message)}
    assert len(named) == len(kept), "each file is named"
    last = fresh().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert np.array_equal(RESUMED[what](last, tmp_path), whole, equal_nan=True)
    assert last.seen == first.seen, "what was made again is kept"


@pytest.mark.slow
def test_damaged_corrupted_images_are_made_again(tmp_path):
    pytest.importorskip("imagecorruptions")
    x, made = torch.rand(2, 3, 32, 32), [Condition("contrast", 1.0)]
    corrupt_all(x, made, tmp_path, workers=1, progress=False)
    [path] = tmp_path.rglob("contrast-1.npz")
    whole = path.read_bytes()
    for spoil in SPOILT.values():
        path.write_bytes(spoil(whole))
        with pytest.warns(RuntimeWarning, match=r"contrast-1\.npz cannot be read .*made again"):
            corrupt_all(x, made, tmp_path, workers=1, progress=False)
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "3",
        "",
        "{",
        "\x00\x00",
        '{"%": null}',
        '{"%": 0}',
        '{"%": "8"}',
        '{"%": true}',
        '{"%": [4]}',
        '{"%": 1000000000000}',
        '{"%": 1025}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_damaged_memory_of_batch_sizes_is_measured_anew(text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, x = Line().eval(), X[:1]
    path, _, key = batch._batch_sizes(model, x, "float32")
    write_text(path, text.replace("%", key))
    if text.startswith('{"'):
        assert batch.remembered_batch_size(model, x, "float32") is None
    else:
        with pytest.warns(RuntimeWarning, match=r"fastest_batch\.json holds no batch sizes"):
            assert batch.remembered_batch_size(model, x, "float32") is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        size = batch.fastest_batch_size(lambda batch: 1e-2 * len(batch), model, x, "float32")
    assert size == 1 and json.loads(path.read_text()) == {key: 1}


# what a training wrote -> how it is spoilt: torn, gone, empty, or zeros where the numbers were
SPOILT_TRAININGS = {
    "settings.json torn": ("settings.json", lambda data: data[:-3]),
    "settings.json a list": ("settings.json", lambda data: b"[]"),
    "settings.json without files": ("settings.json", lambda data: b'{"key": "k"}'),
    "weights torn": ("final.safetensors", lambda data: data[:-1]),
    "weights zero": ("final.safetensors", lambda data: data[:-40] + bytes(40)),
    "weights gone": ("final.safetensors", None),
    "checkpoint zero": ("epoch-001.safetensors", lambda data: data[:-40] + bytes(40)),
    "recipe empty": ("final.json", lambda data: b""),
    "recipe gone": ("final.json", None),
    "log empty": ("log.csv", lambda data: b""),
}


@pytest.fixture(scope="module")
def a_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for name in ("final", "epoch-001"):
        save_weights(net(), folder / f"{name}.safetensors")
    write_text(folder / "log.csv", "epoch\n1\n")
    hashes = {path.name: files.content_hash(path) for path in folder.iterdir()}
    write_text(folder / "settings.json", json.dumps({"key": "k", "files": hashes}))
    return folder


@pytest.mark.parametrize("spoilt", SPOILT_TRAININGS)
def test_a_damaged_training_is_not_finished(spoilt, a_training, tmp_path):
    folder = shutil.copytree(a_training, tmp_path / "n")
    assert training._finished(folder, "k") and not training._finished(folder, "other")
    name, spoil = SPOILT_TRAININGS[spoilt]
    path = folder / name
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=rf"{name} cannot be believed .*made again"):
        assert not training._finished(folder, "k")
