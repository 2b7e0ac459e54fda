"""The page to open: what each report answers, the central question first."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path

from iaside.backend.files import as_object, reading, write_text
from iaside.study import recorded
from iaside.study.notebook import save_json
from iaside.study.overlays import read_study
from iaside.study.page import markdown, page
from iaside.study.report import outputs_of_study, title_of
from iaside.study.sections import reports_asked, reports_listed

CENTRAL = "correlation"  # does the score predict robustness?


def index_html(root: Path) -> str:
    """The page of all reports of the present study, in the order in which its stage names them.

    Only what the present dvc.yaml and params.yaml name is listed, never whatever lies in results/.
    """
    pages: dict[str, list[Path]] = {}
    for out in outputs_of_study(root, reports_asked(read_study(root / "params.yaml"), root)):
        if out.suffix == ".html" and out.parts[0] == "results" and len(out.parts) == 3:
            if (root / out).is_file():
                pages.setdefault(out.parts[1], []).append(out)
    reports = [noun for noun in reports_listed(root) if noun in pages]
    parts = ["<h1>What was found</h1>"]
    for noun in reports:
        found = _section(root, pages[noun][0])
        if noun == CENTRAL:
            found = f'<section class="lead">{found}{_central(root)}</section>'
        parts.append(found)
    if "claims" in pages:
        parts.append(_section(root, pages["claims"][0]))
        parts.append(_recorded(root))
    if measured := [noun for noun in pages if noun not in (*reports, "claims")]:
        parts.append("<h2>What was measured, page by page</h2>")
        parts += [_measured(root, pages[noun]) for noun in measured]
    if not pages:
        parts.append("<p>No report yet: run <code>make repro</code>.</p>")
    return page("iaside: what was found", "\n".join(parts))


def write_index(root: Path) -> None:
    """Write results/index.html, and beside it what `dvc metrics diff` shows of a change."""
    write_text(root / "results/index.html", index_html(root))
    save_json(root / "results/metrics.json", headline(root))


def keep_runs(root: Path) -> None:
    """Put the runs of the present study into DVC's cache of runs, from which another clone, or a
    return to older settings, takes them. DVC itself does so only where every output is cached by
    it or a metric, and the numbers that git holds are neither."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        for stage in repo.index.stages:
            of_git = [out for out in stage.outs if not out.use_cache and not out.is_metric]
            as_run = (o.exists and o.hash_info and not o.changed_checksum() for o in of_git)
            if of_git and all(as_run):
                repo.stage_cache.save(stage)


def headline(root: Path) -> dict:
    """The numbers to compare two studies by: each network's signed score, with its limits; the
    coefficient of the score with the mCE; how many claims got which verdict."""

    asked = reports_asked(read_study(root / "params.yaml"), root)

    def read(noun: str, file: str):
        path = root / "results" / noun / file
        if not path.is_file() or (asked and noun not in (*asked, "claims")):
            return {}
        with reading(path, "results", f"run `dvc repro -f {noun}`"):
            return json.loads(path.read_text(encoding="utf-8"))

    limits = ("value", "low", "high")
    found, correlation = {}, read(CENTRAL, "metrics.json")
    networks = correlation.get("models", {})
    shown = limits if len(networks) <= 10 else ("value",)
    for name, network in networks.items():
        found[name] = {f"signed SRC, {each}": network["signed_src"][each] for each in shown}
    if rho := correlation.get("signed_src_mce_within_families"):
        found["all networks"] = {f"signed SRC with mCE, {each}": rho[each] for each in limits}
    verdicts = [row["verdict"].partition(":")[0] for row in read("claims", "claims.json")]
    return found | {
        "claims": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    }


def _section(root: Path, out: Path) -> str:
    """A report in two lines: its title, and the first sentence of what it answers."""
    title, said = _head(root, out)
    link = html.escape(out.relative_to("results").as_posix())
    return f'<h2><a href="{link}">{html.escape(title)}</a></h2>\n{markdown(said)}'


def _measured(root: Path, outs: list[Path]) -> str:
    """The pages of a measurement, one for each network or plan."""
    links = " · ".join(
        f'<a href="{html.escape(out.relative_to("results").as_posix())}">'
        f"{html.escape(out.stem)}</a>"
        for out in outs
    )
    return f"<p>{html.escape(_head(root, outs[0])[0])}: {links}</p>"


def _head(root: Path, out: Path) -> tuple[str, str]:
    """Title of a report, and the first sentence of its answer, or of its question without one."""
    source = root / out.with_suffix(".ipynb")
    with reading(source, "a report", f"run `dvc repro -f {out.parts[1]}`"):
        notebook = as_object(source.read_text(encoding="utf-8"))
        title, lead = title_of(notebook)
        said = (answer_of(notebook) or lead).removeprefix("**Answer.** ")
    return title, first_sentence(said)


def answer_of(notebook: Mapping) -> str:
    """What an executed notebook shows first as its answer, as Markdown; "" where it has none."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            text = "".join(output.get("data", {}).get("text/markdown", ""))
            if text.startswith("**Answer.**"):
                return text
    return ""


def first_sentence(text: str) -> str:
    """The first sentence of a text; a line, a colon before a list and a paragraph end one, too.

    >>> first_sentence("It is 0.5 in size. More follows."), first_sentence("So it is:\\n\\n* one")
    ('It is 0.5 in size.', 'So it is:')
    """
    return re.split(r"(?<=[.?!]) (?=[A-Z*])|\s*\n", text.strip())[0]


def _central(root: Path) -> str:
    """What became of the claims about the score over networks, here and in each recorded run."""
    path = root / "results" / CENTRAL / "claims.json"
    rows = recorded.claims(path, f"run `dvc repro -f {CENTRAL}`")["claims"]
    rows = [row for row in rows if row["unit"] == "networks"]
    kept = {name: run for name, run in _runs(root).items() if CENTRAL in run["reports"]}
    places = [
        {row["id"]: row for row in found} for found in (rows, *(r["rows"] for r in kept.values()))
    ]
    links = [f'<a href="recorded/{name}/{CENTRAL}.html">{name}</a>' for name in kept]
    head = "".join(f"<th>{each}</th>" for each in ("claim", "here", *links))
    lines = [
        f"<tr><td>{html.escape(row['statement'])}</td>"
        + "".join(f"<td>{_verdict(place.get(row['id']))}</td>" for place in places)
        + "</tr>"
        for row in rows
    ]
    table = f'<table class="text"><thead><tr>{head}</tr></thead>\n{chr(10).join(lines)}\n</table>'
    return f'<div class="scroll">{table}</div>' if rows else ""


def _verdict(row: Mapping | None) -> str:
    """A verdict with its number, or nothing for a claim that a run did not test."""
    from iaside.verdicts.shown import measured  # with pandas: the runner imports this module

    return html.escape(f"{row['verdict']}: {measured(row).partition(';')[0]}") if row else ""


def _runs(root: Path) -> dict[str, dict]:
    """The runs in results/recorded that params.yaml names."""
    claims = read_study(root / "params.yaml").get("claims") or {}
    return recorded.runs(root, claims.get("recorded", []))


def _recorded(root: Path) -> str:
    """Links to the recorded runs, and what they found."""
    from iaside.verdicts.rules import count_verdicts  # with SciPy, as above

    parts = []
    for name, run in _runs(root).items():
        links = " · ".join(
            f'<a href="{html.escape(f"recorded/{name}/{noun}.html")}">{html.escape(noun)}</a>'
            for noun in map(str, run["reports"])
        )
        counts = count_verdicts(run["rows"])
        found = html.escape(", ".join(f"{n} {v}" for v, n in counts.items() if n))
        title, date = (html.escape(str(run[key])) for key in ("title", "date"))
        parts.append(f"<p><b>{name}</b> ({date}): {title}. Claims: {found}. {links}</p>")
    said = "Kept with fields renamed only; <code>make repro</code> does not make them again."
    return "\n".join([f"<h2>Recorded runs</h2>\n<p>{said}</p>", *parts]) if parts else ""
