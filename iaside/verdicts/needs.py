"""What a study lacks for a claim to be decided: checks of `requires:` in claims.yaml.

An entry of `requires:` is one of

* `section.setting: 5`, at least that number: of a list or a mapping, so many entries. `*` stands
  for any one key: `convergence.networks.*.n_images`;
* `section.setting: photographs`, at least the rules' minimum of that unit;
* `section.setting: [0.1, 0.2]`, each of these among the values;
* `independent: networks`, networks in `models` enough for a correlation within designs (of which
  each family takes one; `networks given accuracy` one more), and `independent: families`, designs
  enough for one over designs;
* `groups: section.setting`, the networks in `models` that this list names and those it does not:
  two groups of families, each with the rules' minimum;
* `trainings: [{adversary: pgd}, {adversary: none}]`, cells of trainings that differ in these
  factors only, with the rules' minimum of seeds that all of them have; `recommended` stands for
  the lambdas under `jafr.recommended`, `-recommended` for those below 0, and `<` and `>` compare;
* `wins: [...]`, the same with six of each, for a share that a sign test of trainings decides;
* `levels: {noise: 3}`, the same of so many values of one factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product

from iaside.estimate.correlation import MIN_MODELS, independent
from iaside.estimate.families import families_of, several
from iaside.estimate.resampling import LEAST
from iaside.training.plans import FACTORS, networks
from iaside.verdicts import rules

OF_SIGNS = 6  # trainings: five that all win are 1 in 16, which a sign test does not reject


def unmet(claim: rules.Claim, study: Mapping) -> list[str]:
    """What a study lacks for a claim by the minima of the rules, a line for each; none: nothing.

    study: a parsed params.yaml. Which of its settings count is the claim's `requires`.
    Errors: ValueError for a requirement that is none of those above, naming the claim.
    Source: docs/methods.md, Verdicts (minima).

    >>> unmet(rules.find("low_energy_majority"), {"bands": {"n_images": 3}})
    ['bands.n_images is 3, below 5 (photographs)']
    """
    kinds = {
        "independent": _independent,
        "groups": _groups,
        "trainings": _trainings,
        "wins": partial(_trainings, least=OF_SIGNS),
        "levels": _levels,
    }
    found = []
    for what, wanted in claim.requires.items():
        try:
            found += (kinds[what] if what in kinds else partial(_setting, what))(wanted, study)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
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
    least, unit = (LEAST[wanted], f" ({wanted})") if wanted in LEAST else (wanted, "")
    most = max(len(v) if isinstance(v, (list, Mapping)) else v for v in found)
    return [f"{path} is {most:g}, below {least:g}{unit}"] if most < least else []


def _items(value) -> Iterable:
    return value if isinstance(value, (list, Mapping)) else [value]


def _same(one, other) -> bool:
    numbers = all(isinstance(v, (int, float)) for v in (one, other))
    return math.isclose(one, other, rel_tol=1e-4) if numbers else one == other


def _designs(study: Mapping, *names: str) -> list[str]:
    """The family of each of these models, of all without any."""
    models = study.get("models", {})
    some = {name: models[name] for name in names or models}
    return families_of(some, study.get("designs") or {})


def _independent(what: str, study: Mapping) -> list[str]:
    """As `verdicts.correlation` and `verdicts.match` count them."""
    designs = _designs(study)
    within = independent(len(designs), several(designs))
    count = {
        "families": len(set(designs)),
        "networks": within,
        "networks given accuracy": within - 1,
    }[what]
    if count >= MIN_MODELS:
        return []
    return [f"{count} independent {what} in models, below {MIN_MODELS}"]


def _groups(path: str, study: Mapping) -> list[str]:
    section, setting = path.split(".")
    listed = study.get(section, {}).get(setting, [])
    models = study.get("models", {})
    groups = {
        setting: [m for m in models if m in listed],
        "others": [m for m in models if m not in listed],
    }
    sizes = {name: len(set(_designs(study, *some))) if some else 0 for name, some in groups.items()}
    least = LEAST["networks"]
    return [
        f"{size} families of {name} in models, below {least}"
        for name, size in sizes.items()
        if size < least
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


def _trainings(cells: list[Mapping], study: Mapping, least: int = LEAST["trainings"]) -> list[str]:
    """How many seeds all cells have, of the trainings alike but for them that come closest."""
    apart = {name for cell in cells for name in cell}
    lambdas = study.get("jafr", {}).get("recommended", [])
    seeds = 0
    for trained in _trained(study, apart):
        of = [_alike([s for s in trained if _is(s, cell, lambdas)], ()) for cell in cells]
        seeds = max([seeds, *(_shared_seeds(each) for each in product(*of))])
    return _few_seeds(seeds, "; ".join(map(_words, cells)), least)


def _levels(wanted: Mapping[str, int], study: Mapping) -> list[str]:
    ((factor, least),) = wanted.items()
    found = [(0, 0)]
    for some in _trained(study, [factor]):
        cells = _alike(some, ())
        found.append((len(cells), _shared_seeds(cells)))
    levels, seeds = max(found, key=lambda each: (each[0] >= least, each[1], each[0]))
    if levels < least:
        return [f"{levels} values of {factor} in trainings alike but for it, below {least}"]
    return _few_seeds(seeds, f"{levels} values of {factor}")


def _shared_seeds(cells: Iterable[list[Mapping]]) -> int:
    """What differs between cells is taken seed by seed: a seed that one lacks does not count."""
    return len(set.intersection(*({s["seed"] for s in some} for some in cells)))


def _few_seeds(seeds: int, cells: str, least: int = LEAST["trainings"]) -> list[str]:
    if seeds >= least:
        return []
    return [f"{seeds} seeds that were trained with all of {cells}, below {least}"]


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
