"""Options of attribution methods and their allowed values."""

from __future__ import annotations

from numbers import Integral, Real

from iaside.backend.checks import check_values, is_number

PRODUCTS = ("gradient", "update")  # what the moves of FAMPE and AttEXplore are multiplied with


def is_count(value: object) -> bool:
    return is_number(Integral, value) and value >= 1


def _share(value: object) -> bool:
    return is_number(Real, value) and 0 <= value <= 1


def _above_0(value: object) -> bool:
    return _share(value) and value > 0


_ALLOWED = {  # option -> (what is allowed, in words and as a test)
    **dict.fromkeys(("steps", "samples", "classes", "path_steps"), ("an integer from 1", is_count)),
    **dict.fromkeys(
        ("sigma", "rho", "momentum"), ("a number from 0", lambda v: is_number(Real, v) and v >= 0)
    ),
    "alpha": ("from 0 (high frequencies) to 1 (low)", _share),
    "kappa": ("a share of the energy, above 0 and at most 1", _above_0),
    "eps": (
        "above 0 and at most 1, as pixels are: 16/255, not 16 (big: a list of such)",
        lambda v: bool(v) and all(map(_above_0, v if isinstance(v, list | tuple) else [v])),
    ),
    "diversity": ("a probability from 0 to 1", _share),
    "fraction": ("above 0 and at most 1", _above_0),
    "max_dist": ("above 0 and at most 1", _above_0),
    "spatial_range": ("a number from 1", lambda v: is_number(Real, v) and v >= 1),
    "mode": ("multiplicative or additive", lambda v: v in ("multiplicative", "additive")),
    "product": (" or ".join(PRODUCTS), lambda v: v in PRODUCTS),
    "compat": ("None or 'published'", lambda v: v in (None, "published")),
    "variant": ("sharp or smooth", lambda v: v in ("sharp", "smooth")),
    "smooth": ("True or False", lambda v: isinstance(v, bool)),
    "include_dc": ("True or False", lambda v: isinstance(v, bool)),
}


def check_options(options: dict) -> None:
    """Refuse options of attribution methods that are not allowed."""
    check_values(options, _ALLOWED)
