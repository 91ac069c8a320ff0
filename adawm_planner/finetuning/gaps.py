"""Sequence numbers of decisions in the order in which they arrive, how many are missing out."""

from __future__ import annotations

NEAR = 100
"""Sequence numbers that an out-of-order message may be off: as many as the queue of the topic holds."""


class Gaps:
    """Counts the decisions that a planner sent and that did not arrive.

    Numbers begin anew with the planner, which is no loss: one that goes back is of another run, unless it is near and
    its stamp is not newer. Then it is late, or came twice, and changes nothing: what was counted as missing stays so,
    because a late decision is out of its place in the replay and ends the episode as a lost one does. (A planner and a
    simulation's clock that both begin anew within NEAR decisions look the same, and losses in those are not seen.)
    """

    def __init__(self) -> None:
        self.missing = 0  # decisions, since this was made
        self._newest: int | None = None  # sequence number
        self._stamp_s = 0.0  # of the newest decision that was whole

    def forget(self) -> None:
        """Begin with the next decision, because those before it were not listened for; the count stays."""
        self._newest = None

    def take(self, sequence: int, stamp_s: float) -> int:
        """Note a decision; returns how many are missing before it.

        Args:
            sequence: its number.
            stamp_s: of what it was made from [s].
        """
        step = 1 if self._newest is None else sequence - self._newest
        if -NEAR <= step <= 0 and stamp_s <= self._stamp_s:
            return 0
        self._newest, self._stamp_s = sequence, stamp_s
        return self._count(step)

    def take_malformed(self, sequence: int) -> int:
        """Note a decision that arrived and was dropped; returns as `take`.

        Its number may be what is wrong with it, so it is believed only where it is near.
        """
        if self._newest is None or not 0 < sequence - self._newest <= NEAR:
            return 0
        step, self._newest = sequence - self._newest, sequence
        return self._count(step)

    def _count(self, step: int) -> int:
        lost = max(step - 1, 0)
        self.missing += lost
        return lost
