"""Where the package is left: a warning is about the line that called it, however deep it arose."""

import inspect


def outside() -> int:
    """The `stacklevel` for `warnings.warn` of the nearest caller that is not of this package.

    >>> outside() >= 1
    True
    """
    level, frame = 1, inspect.currentframe().f_back
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "iaside":
        level, frame = level + 1, frame.f_back
    return level
