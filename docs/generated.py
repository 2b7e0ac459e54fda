"""The two pages that are made, not written: the public names; the notebooks and their claims."""

import json
import re
from pathlib import Path

from ruamel.yaml import YAML

import iaside

ROOT = Path(__file__).parent.parent
PARTS = {  # part of the package -> what its public names are for, in the order of the story
    "inputs": "Networks and images",
    "spectral": "Bands of the spectrum",
    "players": "Other players",
    "game": "The game of bands",
    "tables": "What was measured",
    "shapley": "Values of bands",
    "score": "Distributions and scores",
    "estimate": "Estimates and correlations",
    "explanation": "All in one call",
    "card": "A page of one's own model",
    "robustness": "Perturbations and robustness",
    "attribution": "Attribution maps",
    "training": "Mending a network",
}
SUPPORTED = {
    "greater": "the limits lie above {}",
    "less": "the limits lie below {}",
    "null": "the limits lie within ±{}",
}


def write(folder: Path) -> None:
    """Write reference.md and notebooks.md into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"reference.md": reference(), "notebooks.md": notebooks()}.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:  # an unchanged page is not built again
            path.write_text(text)


def reference() -> str:
    """Every public name, by the part of the package that it is from."""
    by_part = {part: [] for part in PARTS}
    stub = Path(iaside.__file__).with_suffix(".pyi").read_text()  # in the order of the story
    for name in sorted(iaside.__all__, key=lambda name: re.search(rf"\b{name}\b", stub).start()):
        obj = getattr(iaside, name)
        part = getattr(obj, "__module__", "iaside.other").split(".")[1]
        kind = "autoclass" if isinstance(obj, type) else "autofunction"
        by_part.setdefault(part, []).append(f".. {kind}:: iaside.{name}\n")
    text = ""
    for part, names in by_part.items():
        if names:
            text += (
                f"## {PARTS.get(part, part)}\n\n```{{eval-rst}}\n" + "\n".join(names) + "```\n\n"
            )
    return text


def notebooks() -> str:
    """Every notebook of the pipeline: its question, what it reads, settings, and what decides."""
    load = YAML(typ="safe").load
    stages = load(ROOT / "dvc.yaml")["stages"]
    claims = load(ROOT / "iaside/verdicts/claims.yaml")
    text = ""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        noun = path.stem.split("_", 1)[1]
        stage = stages[noun].get("do", stages[noun])
        title, question = _head(path)
        reads = [_plain(d) for d in stage["deps"] if not d.startswith(".build")]
        text += f"## `{path.stem}`\n\n**{title}** {question}\n\n"
        text += f"* Reads: {', '.join(dict.fromkeys(reads)) or 'nothing'}\n"
        text += f"* Settings: section `{noun}` of `params.yaml`\n"
        text += f"* Run alone: `dvc repro {noun}`\n"
        decided = [c for c in claims if c["stage"] == noun]
        text += "* Decides:\n\n" if decided else "* Decides no claim.\n\n"
        for c in decided:
            text += _claim(c)
        text += "\n" if decided else ""
    return text


def _head(path: Path) -> tuple[str, str]:
    """Title and question of a notebook, from its first cell."""
    cell = "".join(json.loads(path.read_text())["cells"][0]["source"])
    title, _, rest = cell.lstrip("# ").partition("\n")
    question = next((p for p in rest.split("\n\n") if p.strip().startswith("**Question")), "")
    title = title.strip() if title.rstrip().endswith("?") else f"{title.strip()}."
    return title, question.replace("**Question.**", "").strip()


def _plain(path: str) -> str:
    """What a dependency of a stage is, in words where dvc.yaml has a setting in its place."""
    setting = re.fullmatch(r"\$\{([\w.]+)\}", path)
    if not setting:
        return f"`{path}`"
    what = setting[1].rpartition(".")[2]
    return {"weights": "the network's weights", "recipe": "its recipe"}.get(what, f"the {what}")


def _claim(claim: dict) -> str:
    threshold = claim.get("threshold", 0)
    where = SUPPORTED.get(claim["kind"], "as said").format(threshold)
    statement, statistic = (" ".join(claim[k].split()) for k in ("statement", "statistic"))
    return (
        f"  * **{statement}** ({claim['source']}) Statistic: {statistic}. "
        f"Supported where {where}; unit: {claim['unit']}. `{claim['id']}`\n"
    )
