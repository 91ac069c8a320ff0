"""World frames of one episode in, its EpisodeResult out; used in process and by the bridge node alike.

Next stage: report.py puts many results into one document. Imports neither torch nor ROS nor a simulator.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from adawm_planner.data_types import EgoState, Outcome, RewardTerms
from adawm_planner.dims import FRAME_S
from adawm_planner.evaluation.metrics import Comfort, comfort, driving_score

if TYPE_CHECKING:
    from adawm_planner.simulator.world import WorldFrame

STAMP_DIGITS = 6
"""Digits of a second that mean something in a duration: 7.7 s is told as 7.7, not as 7.700000000000001."""


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode."""

    seed: int
    outcome: Outcome
    duration_s: float  # simulated, from the first to the last frame
    frames: int  # ticks, without the first frame
    ttc_min_s: float  # smallest time to collision of all frames, inf where nothing ever closed
    route_completion: float  # 0..1 of the way from the start pose to the goal, or from where the route was last planned
    distance_m: float
    mean_speed_mps: float
    driving_score: float  # 0..100, metrics.DRIVING_SCORE_FORMULA
    reward: RewardTerms  # sum over the episode
    comfort: Comfort
    collision_id: int | None  # the other vehicle
    interventions: dict[str, int] = field(default_factory=dict)  # frames by rule of the gate; empty without one

    def to_json(self) -> dict[str, Any]:
        """This episode as plain JSON values; an infinite TTC becomes null, since JSON has no infinity."""
        values = asdict(self)
        values["outcome"] = self.outcome.value
        values["ttc_min_s"] = self.ttc_min_s if math.isfinite(self.ttc_min_s) else None
        values["comfortable"] = self.comfort.comfortable
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> EpisodeResult:
        """The episode that `to_json` wrote.

        Raises:
            ValueError: a field is missing, unknown or not of its kind.
        """
        try:
            fields = {key: value for key, value in values.items() if key != "comfortable"}
            fields["outcome"] = Outcome(fields["outcome"])
            fields["ttc_min_s"] = math.inf if fields["ttc_min_s"] is None else float(fields["ttc_min_s"])
            fields["reward"] = RewardTerms(**fields["reward"])
            fields["comfort"] = Comfort(**fields["comfort"])
            return EpisodeResult(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an episode: {error}") from error


class EpisodeRecorder:
    """Takes every frame of one episode, the first (reset) and the last included, and scores it."""

    def __init__(self, seed: int) -> None:
        """Start an episode of this seed."""
        self.seed = seed
        self._frames: list[int] = []
        self._egos: list[EgoState] = []
        self._route_s: list[float] = []
        self._ttc_min = math.inf
        self._reward = RewardTerms()
        self._last: WorldFrame | None = None

    def add(self, frame: WorldFrame) -> None:
        """Take the next frame.

        Raises:
            ValueError: the episode had already ended.
        """
        if self._last is not None and self._last.outcome is not None:
            raise ValueError(f"episode {self.seed} already ended with {self._last.outcome.value}")
        if self._last is not None:  # the first frame belongs to no tick and earned nothing
            self._reward = self._reward + frame.reward
            if frame.route is not self._last.route:
                self._route_s.clear()  # arc lengths of two routes cannot be compared
        self._frames.append(frame.frame)
        self._egos.append(frame.ego)
        self._route_s.append(frame.route_s)
        self._ttc_min = min(self._ttc_min, frame.ttc)
        self._last = frame

    def result(self) -> EpisodeResult:
        """Score the episode.

        Raises:
            ValueError: it has not ended, or it has fewer than two frames.
        """
        last = self._last
        if last is None or last.outcome is None:
            raise ValueError(f"episode {self.seed} has not ended")
        # Counted from the first frame: the world's own stamps depend in their last bits on what ran before.
        time = FRAME_S * (np.asarray(self._frames) - self._frames[0])
        speed = np.asarray([ego.speed for ego in self._egos])
        duration = round(float(time[-1]), STAMP_DIGITS)
        steps = np.diff(time)
        distance = float((0.5 * np.abs(speed[1:] + speed[:-1]) * steps).sum())
        completion = 1.0 if last.outcome is Outcome.SUCCESS else self._completion(last.goal_s)
        motion = comfort(
            time,
            speed,
            np.asarray([ego.yaw for ego in self._egos]),
            np.asarray([ego.acceleration for ego in self._egos]),
        )
        return EpisodeResult(
            seed=self.seed,
            outcome=last.outcome,
            duration_s=duration,
            frames=len(steps),
            ttc_min_s=self._ttc_min,
            route_completion=completion,
            distance_m=distance,
            mean_speed_mps=distance / duration,
            driving_score=driving_score(completion, int(last.outcome is Outcome.COLLISION)),
            reward=self._reward,
            comfort=motion,
            collision_id=last.collision_id,
        )

    def _completion(self, goal_s: float) -> float:
        """Share of the way from the route's first frame to the goal that was reached, 0..1."""
        start = self._route_s[0]
        return min(max((max(self._route_s) - start) / max(goal_s - start, 1e-6), 0.0), 1.0)
