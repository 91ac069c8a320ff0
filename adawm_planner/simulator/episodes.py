"""A world and a first seed in, one episode after another out, each with its score.

Seeds count up from the first; the figures are those of evaluation/episode.py, so that driving over topics
and driving in process report the same.
"""

from __future__ import annotations

from typing import Any

from adawm_planner.data_types import Command
from adawm_planner.evaluation.episode import EpisodeRecorder
from adawm_planner.simulator.world import World, WorldFrame


class Episodes:
    """Runs and scores episodes; `begin` and `tick` are the only things that move the world.

    Args:
        count: how many episodes, 0 = endless.
    """

    def __init__(self, world: World, seed: int, count: int) -> None:
        if count < 0:
            raise ValueError(f"episodes is {count}, must be at least 0 (0 = endless)")
        self._world, self._seed, self._count = world, seed, count
        self._begun = self._missed = 0
        self._ended = False
        self._recorder: EpisodeRecorder | None = None

    @property
    def all_begun(self) -> bool:
        """Whether no further episode is to come."""
        return 0 < self._count <= self._begun

    def begin(self) -> WorldFrame:
        """Reset the world to the next seed; returns its first frame."""
        seed = self._seed + self._begun
        self._begun += 1
        self._missed, self._ended = 0, False
        self._recorder = EpisodeRecorder(seed)
        frame = self._world.reset(seed)
        self._recorder.add(frame)
        return frame

    def tick(self, command: Command, in_time: bool) -> WorldFrame:
        """Advance one frame.

        Args:
            in_time: whether a command for the frame before had come before this call.
        """
        self._missed += not in_time
        frame = self._world.tick(command)
        if self._recorder is not None:
            self._recorder.add(frame)
            self._ended = frame.outcome is not None
        return frame

    def score(self) -> dict[str, Any] | None:
        """The episode's figures as JSON values, once, after its last frame; None before and afterwards."""
        if self._recorder is None or not self._ended:
            return None
        result = self._recorder.result().to_json()
        self._recorder = None
        return {**result, "missed_ticks": self._missed}
