"""Errors of ours while a frame is answered: the vehicle brakes for them, and the log has each in full once."""

from __future__ import annotations

import logging


class OwnErrors:
    """Logs an error when it is another one than at the frame before that had one."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._last = log, ""

    def text(self, error: Exception, stamp_s: float) -> str:
        """Log the error that is being handled, unless it is the last one again; say what it is.

        Args:
            error: being handled.
            stamp_s: of the frame [s].
        """
        text = f"{type(error).__name__}: {error}; see the log, and report it"
        if text != self._last:  # the same error at every frame is logged once
            self._log.exception("frame at %.3f s", stamp_s)
        self._last = text
        return text
