"""What a study lacks for a claim to be decided: the `requires:` of claims.yaml, put to the test.

An entry of `requires:` is one of

* `section.setting: 5`, at least that number: of a list or a mapping, so many entries. `*` stands
  for any one key: `convergence.networks.*.n_images`;
* `section.setting: photographs`, at least the rules' minimum of that unit, or for a correlation;
* `section.setting: [0.1, 0.2]`, each of these among the values;
* `groups: section.setting`, the networks in `models` that this list names and those it does not:
  two groups, each with the rules' minimum;
* `trainings: [{adversary: pgd}, {adversary: none}]`, cells of trainings that differ in these
  factors only, each with the rules' minimum; `recommended` stands for the lambdas under
  `jafr.recommended`, `-recommended` for those below 0, and `<` and `>` compare;
* `levels: {noise: 3}`, trainings at so many values of one factor that differ in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from iaside.intervals import LEAST
from iaside.robustness import MIN_MODELS
from iaside.verdicts import rules
from iaside.zoo import FACTORS, networks

MINIMA = LEAST | {"correlation": MIN_MODELS}  # by the words that `requires:` may have for them


def unmet(claim: rules.Claim, study: Mapping) -> list[str]:
    """What a study lacks for a claim, by the rules' own minima, a line for each; none: nothing.

    study: a parsed params.yaml. Which of its settings count is the claim's `requires`.
    Errors: ValueError for a requirement that is none of those above, naming the claim.
    Source: methods 9.2 (minima).

    >>> unmet(rules.find("low_energy_majority"), {"bands": {"n_images": 3}})
    ['bands.n_images is 3, below 5 (photographs)']
    """
    found = []
    for what, wanted in claim.requires.items():
        try:
            if what == "groups":
                found += _groups(wanted, study)
            elif what == "trainings":
                found += _trainings(wanted, study)
            elif what == "levels":
                found += _levels(wanted, study)
            else:
                found += _setting(what, wanted, study)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"claim {claim.id!r} requires {what}: {wanted!r}, which cannot be read "
                f"({error}); the kinds of requirements are in iaside/verdicts/needs.py"
            ) from error
    return found


def _setting(path: str, wanted, study: Mapping) -> list[str]:
    found = [study]
    for name in path.split("."):
        maps = [node for node in found if isinstance(node, Mapping)]
        found = [value for node in maps for k, value in node.items() if name in ("*", k)]
    if not found:
        return [f"there is no {path}"]
    if isinstance(wanted, list):
        there = [item for value in found for item in _items(value)]
        missing = [item for item in wanted if not any(_same(item, other) for other in there)]
        return [f"{path} has no {', '.join(map(str, missing))}"] if missing else []
    least, unit = (MINIMA[wanted], f" ({wanted})") if wanted in MINIMA else (wanted, "")
    most = max(len(v) if isinstance(v, (list, Mapping)) else v for v in found)
    return [f"{path} is {most:g}, below {least:g}{unit}"] if most < least else []


def _items(value) -> Iterable:
    return value if isinstance(value, (list, Mapping)) else [value]


def _same(one, other) -> bool:
    numbers = all(isinstance(v, (int, float)) for v in (one, other))
    return math.isclose(one, other, rel_tol=1e-4) if numbers else one == other


def _groups(path: str, study: Mapping) -> list[str]:
    section, name = path.split(".")
    listed, models = study.get(section, {}).get(name, []), study.get("models", {})
    sizes = {name: sum(m in listed for m in models), "others": sum(m not in listed for m in models)}
    least = MINIMA["networks"]
    return [
        f"{size} {name} in models, below {least}" for name, size in sizes.items() if size < least
    ]


FREE = ("architecture", "images", "augment", "seed")  # of all others a comparison has the default


def _trained(study: Mapping, apart: Iterable[str]) -> list[list[dict]]:
    """The trainings of a study, in groups that differ in the factors `apart` and seeds only."""
    plain = set(FACTORS) - {*FREE, *apart}
    plans = study.get("training", {}).get("plans", {})
    usual = [s for s in networks(plans).values() if all(s[f] == FACTORS[f] for f in plain)]
    return _alike(usual, apart)


def _alike(trained: Iterable[dict], apart: Iterable[str]) -> list[list[dict]]:
    shared = set(FACTORS) - {"seed", *apart}
    found: dict[tuple, list[dict]] = {}
    for settings in trained:
        found.setdefault(tuple(settings[name] for name in sorted(shared)), []).append(settings)
    return list(found.values())


def _trainings(cells: list[Mapping], study: Mapping) -> list[str]:
    """What the cells lack, of the trainings alike but for them that come closest."""
    apart = {name for cell in cells for name in cell}
    lambdas = study.get("jafr", {}).get("recommended", [])
    least = MINIMA["trainings"]
    closest = [0] * len(cells)
    for trained in _trained(study, apart):
        of = [_alike([s for s in trained if _is(s, cell, lambdas)], ()) for cell in cells]
        sizes = [min(least, max(map(len, same), default=0)) for same in of]
        closest = max(closest, sizes, key=sum)
    return [
        f"{size} trainings with {_words(cell)}, below {least}"
        for cell, size in zip(cells, closest, strict=True) if size < least
    ]  # fmt: skip


def _words(cell: Mapping) -> str:
    return ", ".join(f"{name} {value}" for name, value in cell.items())


def _is(settings: Mapping, cell: Mapping, lambdas: list[float]) -> bool:
    return all(_holds(settings[name], value, lambdas) for name, value in cell.items())


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda value, limit: value < limit,
    ">": lambda value, limit: value > limit,
    "": math.isclose,
}


def _holds(value, wanted, lambdas: list[float]) -> bool:
    if not isinstance(wanted, str) or isinstance(value, str):
        return value == wanted
    sign = wanted[0] if wanted[0] in "<>" else ""
    word = wanted.removeprefix(sign).strip()
    limits = {"recommended": lambdas, "-recommended": [-v for v in lambdas]}.get(word)
    compare = COMPARE[sign]
    if limits is None:
        return compare(value, float(word))
    return (all if sign else any)(compare(value, limit) for limit in limits)


def _levels(wanted: Mapping[str, int], study: Mapping) -> list[str]:
    ((factor, least),) = wanted.items()
    levels = max((len({s[factor] for s in some}) for some in _trained(study, [factor])), default=0)
    if levels >= least:
        return []
    return [f"{levels} values of {factor} in trainings alike but for it, below {least}"]
