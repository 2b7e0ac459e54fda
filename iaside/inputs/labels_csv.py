"""Folders with a labels.csv, as written by spreadsheets and pandas."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

from iaside.inputs.image_files import find_images, warn_left_out
from iaside.inputs.numbering import Labelled, Numbering

_FILE_COLUMNS = ("file", "filename", "path", "image")
_LABEL_COLUMNS = ("label", "class")
_NUMBER = re.compile(r"[-+]?[.,]?[0-9][0-9.,]*(e[-+]?[0-9]+)?", re.IGNORECASE)


def labelled_files(folder: Path, numbering: Numbering) -> Labelled:
    """Images and a labels.csv."""
    table = folder / "labels.csv"
    rows = _rows(table)
    images, left_out = find_images(folder)
    on_disk = {_place(path): path for path in images}
    name_of = {}
    for file, label in rows:
        # Windows writes backslashes.
        path = folder / (file if (folder / file).is_file() else file.replace("\\", "/"))
        name_of[on_disk.get(_place(path), path)] = label
    if len(name_of) < len(rows):
        raise ValueError(f"{table} names some file twice: keep one row per file.")
    if absent := [p.name for p in name_of if not p.is_file()]:
        raise FileNotFoundError(
            f"{table} names {len(absent)} files that are not there: "
            f"{', '.join(absent[:3])}. Add them or remove their rows."
        )
    if unlabelled := [p.name for p in images if p not in name_of]:
        raise ValueError(
            f"{len(unlabelled)} images in {folder} have no row in labels.csv: "
            f"{', '.join(unlabelled[:3])}. Add file,label rows or remove the files."
        )
    known = Counter(p.suffix.lower() or "without an ending" for p in set(name_of) - set(images))
    warn_left_out(folder, left_out - known - Counter([table.suffix]))
    files = sorted(name_of)
    numbers = _given_indices(name_of, table) if numbering.classes in (None, "numbers") else {}
    index = numbers or numbering.index(sorted(set(name_of.values())), table)
    return Labelled(files, [index[name_of[p]] for p in files], None if numbers else index)


def _place(path: Path) -> str:
    """The same for all ways to write a path: from here or from the root, e with its accent or e
    and an accent, as the files of a Mac come."""
    return unicodedata.normalize("NFC", os.path.abspath(path))


def _given_indices(name_of: dict[Path, str], table: Path) -> dict[str, int]:
    """The class indices that labels.csv gives as its labels; nothing where these are names."""
    # 3.0: as pandas writes whole numbers of a column in which some were missing; 3,0: Excel's
    numbers = {
        name: int(re.split("[.,]", name)[0])
        for name in sorted(set(name_of.values()))
        if re.fullmatch(r"[0-9]{1,18}([.,]0+)?", name)
    }
    numeric = any(map(_NUMBER.fullmatch, name_of.values()))
    odd = [(path, name) for path, name in name_of.items() if name not in numbers]
    if odd and (numeric or "" in name_of.values()):
        path, name = next(((p, n) for p, n in odd if not n), odd[0])
        raise ValueError(
            f"{table}: the label of {path.name!r} is {name!r:.40}, it must be a class index "
            "(0, 1, ...), or all labels be names."
        )
    return numbers


def read_text(table: Path) -> str:
    content = table.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            why = f"{table} is damaged UTF-16 ({error.reason}): save it again."
            raise ValueError(why) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # Excel's, in the west


def _rows(table: Path) -> list[tuple[str, str]]:
    """(file, label) of each row, whatever program wrote the table."""
    text = read_text(table)
    delimiters = ",;\t"
    if said := re.match(r"sep=(.)\r?\n", text, re.IGNORECASE):  # Excel's own first line
        delimiters, text = said[1], text[said.end() :]
    for delimiter in delimiters:
        try:
            cells = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)]
        except csv.Error as error:
            raise ValueError(f"{table} cannot be read ({error}): look at its quotes.") from error
        header, *rows = cells or [[]]
        places = {name.strip().lower(): k for k, name in reversed([*enumerate(header)])}
        columns = [
            next((places[name] for name in names if name in places), None)
            for names in (_FILE_COLUMNS, _LABEL_COLUMNS)
        ]
        rows = [[cell.strip() for cell in row] for row in rows if any(row)]
        if None not in columns and rows:
            if short := [row for row in rows if len(row) <= max(columns)]:
                raise ValueError(f"{table}: the row {short[0]} lacks a file or a label.")
            if long := [row for row in rows if any(row[len(header) :])]:
                raise ValueError(
                    f"{table}: the row {long[0]} has more cells than the header; put names with "
                    f"a {delimiter!r} into quotes."
                )
            return [(row[columns[0]], row[columns[1]]) for row in rows]
    columns = re.split("[,;\t]", text.partition("\n")[0].strip()[:200])
    raise ValueError(
        f"{table} must have a header with the columns file,label (or "
        f"{', '.join(_FILE_COLUMNS[1:])}; {', '.join(_LABEL_COLUMNS[1:])}) and at least one row; "
        f"its columns are {', '.join(columns) or 'none'}."
    )
