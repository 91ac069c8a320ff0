"""How the finetuner keeps experience and cuts it into episodes."""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.config.checks import above


@dataclass(frozen=True)
class ReplayConfig:
    """Size of the replay on disk."""

    chunk_decisions: int = 100
    """Decisions in one file, and so the most that a kill can lose: 20 s of driving."""

    most_bytes: int = 1 << 30
    """Size of all chunks and quarantined files together [bytes]; a decision takes about 0.5 kB."""

    def __post_init__(self) -> None:
        above("replay", self, 0, "chunk_decisions")
        # A chunk that cannot be compressed must fit twice, or the newest one would have to go.
        above("replay", self, 16_384 * self.chunk_decisions, "most_bytes")


@dataclass(frozen=True)
class SplitConfig:
    """What of the experience becomes training data."""

    step_error: float = 0.5
    """Share by which the time between two decisions may differ from dims.DECISION_S; beyond it the clock jumped."""

    least_rows: int = 10
    """Rows (decisions) of an incomplete episode below which it is dropped: too short for the filter to settle."""

    held_out: float = 0.2
    """Share of the episodes that is for validation only."""

    def __post_init__(self) -> None:
        above("split", self, 0.0, "step_error")
        above("split", self, 1, "least_rows")
        if not self.step_error < 1.0:
            raise ValueError(f"split.step_error is {self.step_error}, must be below 1")
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"split.held_out is {self.held_out}, must be in 0..1 and below 1")
