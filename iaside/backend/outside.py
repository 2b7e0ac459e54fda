"""The stack level of the caller outside this package, for warnings to point at."""

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
