"""Tables that outlive a kill, and are equal bytes where they are equal."""

import json

import numpy as np
import pytest

from iaside.tables import open_table, save_table, settings_key


def test_an_unfinished_table_is_found_again_by_its_settings_and_no_others(tmp_path):
    def path(**settings):
        return tmp_path / "partial" / f"{settings_key({'seed': 0} | settings)}.npy"

    table = open_table(path(eps=4), (2, 3))
    assert np.isnan(table).all()
    table[1, 2] = 7  # and no flush: the process may be killed at any time
    again = open_table(path(eps=4), (2, 3))
    assert again[1, 2] == 7 and np.isnan(again).sum() == 5
    assert np.isnan(open_table(path(eps=8), (2, 3))).all()
    assert np.isnan(open_table(None, (2, 3))).all()


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
