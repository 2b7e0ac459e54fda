"""Which attribution methods a study examines, with which settings: rows of `examine`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

GUIDED_IG = (
    "Look at no single map of `guided_ig` in a network with max-pooling: its path begins at "
    "black, where rounding picks the pixels that get a gradient. Maps of SqueezeNet 1.1 in "
    "float32 and in float64 correlate by 0.29 to 0.83 (median 0.71, 8 photographs), and no "
    "better in float64 where only the order of sums differs (0.30 to 0.83)."
)


def attribution_variants(
    methods: Iterable[str],
    attack: Mapping,
    *,
    alpha: float,
    kappa: float,
    alphas: Sequence[float],
    path_steps: int,
    other_classes: Mapping,
) -> tuple[dict[str, dict], dict[str, dict]]:
    """The methods, FAMPE with either product and at further alphas, and what judges are shown.

    attack: steps, samples and eps (of pixels in [0, 1]) of FAMPE and AttEXplore;  other_classes:
    classes and steps of AGI and LA. Returns name -> method and options: what gets every measure,
    and the same attacks with the other product, which get insertion curves alone.

    >>> attack = {"steps": 2, "samples": 2, "eps": 0.1}
    >>> how = dict(alpha=0.1, kappa=0.9, alphas=[0.5], path_steps=3, other_classes={})
    >>> full, updates = attribution_variants(["saliency"], attack, **how)
    >>> list(full), list(updates)
    (['saliency', 'fampe', 'fampe, update', 'fampe alpha=0.5', 'clean', 'pgd'], \
['fampe alpha=0.5, update'])
    """
    steps = {"steps": path_steps}
    options = {
        "smoothgrad": {"samples": path_steps},
        "integrated_gradients": steps,
        "mfaba": steps,
        "big": steps | {"path_steps": path_steps, "eps": [attack["eps"]]},
        "agi": other_classes,
        "la": other_classes,
        "attexplore": attack,
    }
    fampe = {"method": "fampe", "alpha": alpha, "kappa": kappa, **attack}
    further = {f"fampe alpha={a:g}": fampe | {"alpha": a} for a in alphas}
    variants = {m: {"method": m, **options.get(m, {})} for m in methods}
    variants |= {"fampe": fampe} | with_updates({"fampe": fampe}) | further
    variants |= {"clean": {"method": "clean"}}
    variants |= {"pgd": {"method": "pgd", "eps": attack["eps"], "steps": attack["steps"]}}
    return variants, with_updates(further)


def grid_variants(
    coarse: Mapping, alphas: Sequence[float], kappas: Sequence[float]
) -> dict[str, dict]:
    """A coarse FAMPE at every alpha and cutoff, with either product.

    >>> list(grid_variants({"method": "fampe"}, [0.1], [0.9]))
    ['grid alpha=0.1 kappa=0.9', 'grid alpha=0.1 kappa=0.9, update']
    """
    grid = {
        f"grid alpha={a:g} kappa={k:g}": {**coarse, "alpha": a, "kappa": k}
        for a in alphas
        for k in kappas
    }
    return grid | with_updates(grid)


def with_updates(variants: Mapping[str, Mapping]) -> dict[str, dict]:
    """The same attacks, of which the steps are multiplied with the update."""
    return {f"{v}, update": {**how, "product": "update"} for v, how in variants.items()}
