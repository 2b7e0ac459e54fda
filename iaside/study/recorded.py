"""Keep a finished run for good, small enough for git: results/recorded/<name>/."""

from __future__ import annotations

import base64
import datetime
import html
import io
import os
import re
from pathlib import Path

from iaside.backend.files import (
    content_hash,
    put,
    read_json,
    reading,
    replacing,
    temporary_folder,
    write_text,
)
from iaside.card import record as scores
from iaside.study.notebook import commit, save_json
from iaside.study.parameters import UsageError, image_sources, read_yaml

# The rules of verdicts are imported where they are needed: the runner of every stage imports this
# module, and with them SciPy and pandas, two seconds.
NAME = re.compile(r"[a-z0-9_]+")


def record(root: Path, name: str, title: str) -> Path:
    """Copy the reports that params.yaml lists under `claims` to results/recorded/<name>/.

    Kept are each report's page (its figures in 256 colours), metrics, claims and tables, the
    params.yaml they were made with (of paths outside the project the last two parts only), date,
    commit and the sha256 of weights and images, and a README.md with the verdicts. An earlier run
    of that name is replaced whole.
    title: one line that says what the run is.
    Errors: UsageError for a name that is no plain word, or a report that is not there yet.
    """
    from iaside.verdicts.rules import gather

    if not NAME.fullmatch(name):
        raise UsageError(f"--record {name!r}: small letters, digits and _ only")
    params = (root / "params.yaml").read_text(encoding="utf-8")
    study = read_yaml(params, "params.yaml")
    nouns = study["claims"]["reports"]
    for noun in nouns:
        if not (root / "results" / noun / "report.html").is_file():
            raise UsageError(f"no report of {noun!r} to record: run `dvc repro {noun}` first")
    about = {
        "title": title,
        "date": datetime.date.today().isoformat(),
        "commit": commit("params.yaml"),  # it is recorded too
        "reports": nouns,
        "sha256": {
            _without_places(path, params): found
            for path in _files(study)
            if (found := content_hash(root / path))
        },
    }
    documents = [
        claims(root / "results" / noun / "claims.json", f"run `dvc repro -f {noun}`")
        for noun in nouns
    ]
    target = root / "results" / "recorded" / name
    with temporary_folder(target.parent) as temporary:
        new = temporary / "new"
        for noun in nouns:
            source = root / "results" / noun
            page = (source / "report.html").read_text(encoding="utf-8")
            page = _marked(_without_places(page, params), about)
            write_text(new / f"{noun}.html", _smaller(page))
            write_text(new / f"{noun}.claims.json", (source / "claims.json").read_text("utf-8"))
            for table in (source / "metrics.json", *sorted(source.glob("*.csv"))):
                with replacing(new / f"{noun}.{table.name}") as file:
                    file.write(table.read_bytes())
        write_text(new / "params.yaml", _without_places(params, params))
        write_text(new / "README.md", _readme(about, gather(documents)))
        save_json(new / "run.json", about)
        new.chmod(0o755)
        put(new, target)
    if (target / "importance.metrics.json").is_file():
        scores.put_on_record(name, _scored(root, study, target))
    if (target / "mend_report.claims.json").is_file():
        scores.put_remedies(name, _helping(study, target))
    return target


def runs(root: Path, names: list[str]) -> dict[str, dict]:
    """What was recorded under these names: `run.json`, and `rows`, its tested claims.

    Errors: UsageError for a name under which nothing was recorded.
    """
    from iaside.verdicts.page import is_tested
    from iaside.verdicts.rules import gather

    found = {}
    for name in names:
        folder = root / "results" / "recorded" / name
        if not (folder / "run.json").is_file():
            there = sorted(path.parent.name for path in folder.parent.glob("*/run.json"))
            raise UsageError(
                f"nothing is recorded as {name!r} (`claims: recorded:` in params.yaml); "
                f"there is: {', '.join(there) or 'nothing'}"
            )
        remedy = f"get it back with `git checkout {os.path.relpath(folder, root)}`"
        about = read_json(folder / "run.json", "a record of a run", remedy)
        with reading(folder / "run.json", "a record of a run", remedy):
            nouns = list(map(str, about["reports"]))
            about = {**about, "title": about["title"], "date": about["date"]}
        documents = [claims(folder / f"{noun}.claims.json", remedy) for noun in nouns]
        rows = [row for row in gather(documents) if is_tested(row)]
        found[name] = about | {"rows": rows}
    return found


def _scored(root: Path, study: dict, run: Path) -> list[dict]:
    """What a card compares with: the signed score of each network, where it is given."""
    found = read_json(run / "importance.metrics.json", "metrics", "record the run again")
    rows = []
    for name, model in study["models"].items():
        recipe = read_json(root / model["recipe"], "a recipe", "run `dvc repro data`")
        if score := found[name]["score"].get("signed"):
            side = min(recipe["input_size"][1:])
            rows.append({"network": name, "side": side, "score": score["value"]})
    return rows


def _helping(study: dict, run: Path) -> list[dict]:
    """What a card may name: the claims on remedies that a run supports."""
    from iaside.card.advice import REMEDY

    found = claims(run / "mend_report.claims.json", "record the run again")["claims"]
    fields = ("data", "n", "value", "low", "high")
    return [
        {"claim": row["id"], "side": study["training"]["side"]} | {key: row[key] for key in fields}
        for row in found
        if row["verdict"] == "supported" and row["id"] in REMEDY
    ]


def _files(study: dict) -> list[str]:
    """The weights and the images that a study names."""
    weights = [model["weights"] for model in (study.get("models") or {}).values()]
    return weights + sorted({i for section in study.values() for i in image_sources(section)})


def claims(path: Path, remedy: str) -> dict:
    """A claims.json, as ``gather`` takes it. Errors: DamagedError."""
    from iaside.verdicts.rules import gather

    document = read_json(path, "claims", remedy)
    with reading(path, "claims", remedy):
        gather([document])
    return document


def _marked(page: str, about: dict) -> str:
    """A report's page with a first line that says that it is a record."""
    note = (
        f'<p class="lead" style="padding: .6rem 1.2rem">Recorded on {html.escape(about["date"])} '
        f"(commit {html.escape(about['commit'])}): {html.escape(about['title'])}. Kept as it was; "
        '<code>make repro</code> does not make it again. Settings: <a href="params.yaml">'
        "params.yaml</a>.</p>"
    )
    page = page.replace('href="../index.html"', 'href="../../index.html"', 1)
    return page.replace("<body>\n", f"<body>\n{note}\n", 1)


def _smaller(page: str) -> str:
    """Figures in 256 colours: a third of the bytes, and no difference to be seen in a plot."""
    from PIL import Image

    def reduced(match):
        image = Image.open(io.BytesIO(base64.b64decode(match[1]))).convert("RGB")
        with io.BytesIO() as file:
            image.quantize(256).save(file, "PNG", optimize=True)
            return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

    return re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", reduced, page)


def _without_places(text: str, params: str) -> str:
    """Of every absolute path in `params` the last two parts: where a folder lay helps nobody.

    >>> _without_places("own = /disk/own/net.pt", "weights: /disk/own/net.pt")
    'own = .../own/net.pt'
    """
    for path in set(re.findall(r"(?<![\w.])/(?:[^\s/,}\]]+/)+[^\s/,}\]]+", params)):
        text = text.replace(path, f".../{'/'.join(path.split('/')[-2:])}")
    return text


def _readme(about: dict, rows: list[dict]) -> str:
    from iaside.verdicts.page import is_tested, measured
    from iaside.verdicts.rules import NOT_TESTED, count_verdicts

    counts = count_verdicts(rows)
    tested = [row for row in rows if is_tested(row)]
    said = ", ".join(f"{counts[v]} {v}" for v in counts if v != NOT_TESTED)
    pages = ", ".join(f"`{noun}.html`" for noun in about["reports"])
    lines = [
        f"# {about['title']}",
        "",
        f"Recorded on {about['date']} (commit {about['commit']}) with the settings in "
        f"`params.yaml`. Reports, as they were: {pages}. Claims: {said if tested else 'none'}.",
    ]
    if tested:
        lines += ["", "| verdict | claim | measured | claimed | data |", "|---|---|---|---|---|"]
    for row in tested:
        cells = row["verdict"], row["statement"], measured(row), row["claimed"], row["data"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return html.escape("\n".join(lines), quote=False) + "\n"  # Markdown would take tags as such
