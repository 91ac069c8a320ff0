"""What has become of bundles: how many were refused, the newest refusal, and how the newest way ended."""

from __future__ import annotations

import logging

from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.runtime.swap.state import Swap

_log = logging.getLogger(__name__)


class Ledger:
    """Counts and tells; decides nothing."""

    def __init__(self) -> None:
        self.refusals = 0  # bundles refused, or rolled back by the planner
        self.last_refusal = ""
        self.latest: Swap | None = None  # the newest one that is over

    def note(self, refusal: Refusal, count: int = 1) -> None:
        """Note that `count` bundles were refused, all for this reason."""
        self.refusals, self.last_refusal = self.refusals + count, str(refusal)
        _log.warning("adapter refused%s: %s", f", {count} of them" if count > 1 else "", refusal)

    def end(self, swap: Swap) -> None:
        """Note that a bundle's way is over."""
        self.latest = swap


def fault(text: str) -> Refusal:
    """Refuse for an error of the planner or of its disk."""
    return Refusal(
        Reason.FAULT,
        "nothing must go wrong while an adapter is tried",
        text,
        "no error",
        "See the log; push a newer bundle once the cause is found",
    )
