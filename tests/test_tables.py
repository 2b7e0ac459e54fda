"""Tables that outlive a kill, and are equal bytes where they are equal."""

import contextlib
import json
import tracemalloc
import warnings

import numpy as np
import pytest

from iaside.backend.resume import Table, settings_key
from iaside.tables import save_table


def test_an_unfinished_table_is_found_again_by_its_settings_and_no_others(tmp_path):
    def path(**settings):
        return tmp_path / "partial" / f"{settings_key({'seed': 0} | settings)}"

    table = Table(path(eps=4), (2, 3))
    assert np.isnan(table.values).all()
    table[1, 2] = 7  # and no flush: the process may be killed at any time
    again = Table(path(eps=4), (2, 3))
    assert again[1, 2] == 7 and np.isnan(again.values).sum() == 5
    assert np.isnan(Table(path(eps=8), (2, 3)).values).all()
    assert np.isnan(Table(None, (2, 3)).values).all()


def test_equal_tables_are_equal_bytes_and_a_failure_leaves_the_old_file(tmp_path):
    tables = {"esd": np.arange(6.0).reshape(2, 3), "correct": np.array([True, False])}
    for name, about in {"a": {"seed": 0, "n": 2}, "b": {"n": 2, "seed": 0}}.items():
        save_table(tmp_path / "new" / f"{name}.npz", about, tables)
    bytes_of = (tmp_path / "new" / "a.npz").read_bytes()
    assert bytes_of == (tmp_path / "new" / "b.npz").read_bytes()
    with np.load(tmp_path / "new" / "a.npz", allow_pickle=False) as saved:
        assert json.loads(str(saved["provenance"])) == {"seed": 0, "n": 2}
        assert all((saved[name] == values).all() for name, values in tables.items())
    with pytest.raises(TypeError):
        save_table(tmp_path / "new" / "a.npz", {"seed": object()}, tables)
    assert (tmp_path / "new" / "a.npz").read_bytes() == bytes_of
    assert len(list((tmp_path / "new").iterdir())) == 2


INDICES = [
    (slice(None), np.array([0, 2]), slice(1, 3)),
    (1,),
    (0, 2),
    (1, 2, 3),
    (slice(None), 1),
    (slice(None), np.array([0, 1, 2]), np.array([3, 0, 0])),
    (..., 1),
    (np.array([True, False]),),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_what_is_assigned_is_found_where_numpy_would_put_it(index, tmp_path):
    table, plain = Table(tmp_path, (2, 3, 4)), np.full((2, 3, 4), np.nan)
    for place in (index, (0, 0, 0), index):
        table[place] = plain[place] = np.random.default_rng(len(place)).random(plain[place].shape)
    assert np.array_equal(Table(tmp_path, (2, 3, 4)).values, plain, equal_nan=True)


def three_rows(folder):
    table, ends = Table(folder, (3, 2)), []
    for k in range(3):
        table[k] = [k + 1, np.nan if k == 1 else -k - 1]
        ends.append(table.file.stat().st_size)
    return table, ends


def test_a_kill_at_any_byte_loses_the_record_in_progress_and_nothing_else(tmp_path):
    table, ends = three_rows(tmp_path)
    data = table.file.read_bytes()
    for n in range(len(data)):
        table.file.write_bytes(data[:n])
        done = sum(end <= n for end in ends)
        whole = n in (ends[0], ends[1], ends[0] - (ends[1] - ends[0]))
        with contextlib.nullcontext() if whole else pytest.warns(RuntimeWarning, match="made ag"):
            again = Table(tmp_path, (3, 2))
        expected = np.where(np.arange(3)[:, None] < done, table.values, np.nan)
        assert np.array_equal(again.values, expected, equal_nan=True), n
        again[2] = [8, 9]  # and it goes on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert Table(tmp_path, (3, 2))[2].tolist() == [8, 9]
        again.file.unlink()


def test_no_changed_byte_is_believed(tmp_path):
    table, ends = three_rows(tmp_path)
    data = table.file.read_bytes()
    for n in range(len(data)):
        for wrong in {0, data[n] ^ 1, data[n] ^ 128} - {data[n]}:
            for path in tmp_path.iterdir():  # what was taken over of the last one, too
                path.unlink()
            table.file.write_bytes(data[:n] + bytes([wrong]) + data[n + 1 :])
            with pytest.warns(RuntimeWarning, match="made again"):
                found = Table(tmp_path, (3, 2)).values
            right = np.isnan(found) | (found == table.values)
            assert right.all() and np.isnan(found).sum() > np.isnan(table.values).sum(), n


def test_a_record_that_is_damaged_leaves_those_behind_it(tmp_path):
    table, ends = three_rows(tmp_path)
    data = bytearray(table.file.read_bytes())
    data[ends[0] - 1] ^= 1
    table.file.write_bytes(data)
    with pytest.warns(RuntimeWarning, match="damaged"):
        found = Table(tmp_path, (3, 2)).values
    assert np.isnan(found[0]).all() and found[2].tolist() == [3, -3]


def test_a_table_of_another_shape_is_not_believed(tmp_path):
    for shape in ((2, 3), (3, 3), (6,)):
        three_rows(tmp_path)
        with pytest.warns(RuntimeWarning, match=r"holds no rows of a table \("):
            assert np.isnan(Table(tmp_path, shape).values).all()


def test_a_batch_costs_what_it_holds_and_not_the_table(tmp_path):
    table = Table(tmp_path, (64, 4096))
    tracemalloc.start()
    table[:, 7] = np.arange(64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.file.stat().st_size < 2000 and peak < 100_000


def test_two_writers_at_one_table_do_not_disturb_each_other(tmp_path):
    one, two = Table(tmp_path, (4, 3)), Table(tmp_path, (4, 3))
    one[0] = two[1] = one[2] = 5
    two[0] = 5
    assert np.isnan(Table(tmp_path, (4, 3)).values).sum() == 3


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: d[:-1] + b"?", lambda d: b"[]"])
def test_a_damaged_file_is_spoken_of_once_and_what_is_good_of_it_outlives_that(spoil, tmp_path):
    table, _ = three_rows(tmp_path)
    table.file.write_bytes(spoil(table.file.read_bytes()))
    with pytest.warns(RuntimeWarning, match="made again"):
        found = Table(tmp_path, (3, 2)).values
    assert table.file.with_suffix(".damaged").is_file() and not table.file.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(Table(tmp_path, (3, 2)).values, found, equal_nan=True)
        table[2] = [3, -3]  # its writer may still live
        assert Table(tmp_path, (3, 2))[2].tolist() == [3, -3]


def test_a_folder_in_the_place_of_a_file_is_put_aside(tmp_path):
    three_rows(tmp_path)
    (tmp_path / "a.rows").mkdir()
    with pytest.warns(RuntimeWarning, match=r"a\.rows is a folder: .*made again"):
        assert Table(tmp_path, (3, 2))[0].tolist() == [1, -1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Table(tmp_path, (3, 2))[2].tolist() == [3, -3]
