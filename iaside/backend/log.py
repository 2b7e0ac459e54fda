"""What the library says while it works: the logger ``iaside``, which writes to stderr."""

from __future__ import annotations

import logging
import sys


class _Stderr(logging.Handler):
    """The stderr of the moment, which notebooks and tests exchange."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


log = logging.getLogger("iaside")
if not log.handlers:  # whoever has given it one keeps that
    log.addHandler(_Stderr())
    log.setLevel(logging.INFO)
    log.propagate = False
