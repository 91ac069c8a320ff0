"""Driven frames and decisions in, Experience out: one per decision, and one more that ends each episode.

An Experience carries the reward gathered since the one before it, by the function that scores the
simulator. The finetuner learns from these alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from adawm_planner.config.observation import ObservationConfig
from adawm_planner.data_types import Experience, RewardTerms, Scene
from adawm_planner.observation.assemble import observe
from adawm_planner.observation.route import RouteProjection, project
from adawm_planner.reward import RewardWeights, frame_reward
from adawm_planner.runtime.drive_step import Decision


@dataclass(frozen=True)
class EpisodeRules:
    """When an episode on the vehicle ends, and how its frames are scored."""

    weights: RewardWeights = RewardWeights()
    goal_before_end_m: float = 20.0  # m, the goal lies this far before the route's last point
    off_lane_m: float = 3.0  # m from the route

    def __post_init__(self) -> None:
        if not self.goal_before_end_m >= 0.0:
            raise ValueError(f"goal_before_end_m is {self.goal_before_end_m}, must be at least 0 m")
        if not self.off_lane_m > 0.0:
            raise ValueError(f"off_lane_m is {self.off_lane_m}, must be greater than 0 m")


class ExperienceRecorder:
    """Gathers one episode at a time; silent from an episode's end until the next `begin`."""

    def __init__(self, rules: EpisodeRules, config: ObservationConfig) -> None:
        self._rules, self._config = rules, config
        self._open = False
        self._sequence = 0
        self.episode = 0
        self._reward = RewardTerms()
        self._intervention = ""
        self._scene: Scene | None = None
        self._decision: Decision | None = None
        self._s: float | None = None

    def begin(self) -> None:
        """Start a new episode."""
        self.episode += 1
        self._open, self._reward, self._intervention = True, RewardTerms(), ""
        self._scene = self._decision = self._s = None

    def may_begin(self, scene: Scene, at: RouteProjection) -> bool:
        """Whether an episode could go on from here: off the lane or at the goal it would end with its first frame."""
        return not (self._has_reached(scene, at) or self._has_left(at))

    def intervened(self, rule: str) -> None:
        """Note that a rule of the gate has changed a command; the first since the latest experience is kept."""
        self._intervention = self._intervention or rule

    def frame(self, scene: Scene, collided: bool, decision: Decision | None) -> list[Experience]:
        """Score one driven frame; return what it completes: nothing, a decision, or the episode's end."""
        if not self._open:
            return []
        terminal = self._score(scene, collided)
        self._scene = scene
        if decision is not None:
            self._decision = decision
        if terminal:
            return self._close(terminal=True, decision=decision)
        return [] if decision is None else [self._make(scene, decision, is_last=False, is_terminal=False)]

    def interrupt(self, collided: bool) -> list[Experience]:
        """End the episode at its latest frame: another one begins, or the inputs cannot be trusted."""
        if not self._open:
            return []
        if collided and self._scene is not None:
            self._score(self._scene, True)
        return self._close(terminal=collided, decision=None)

    def _score(self, scene: Scene, collided: bool) -> bool:
        """Add the frame's reward; return whether the episode ends with it for good."""
        at = project(scene.route, scene.ego.x, scene.ego.y, scene.near)
        advanced = 0.0 if self._s is None else at.s - self._s
        reached = self._has_reached(scene, at)
        self._s = at.s
        reward = frame_reward(scene.ego, at, advanced, collided, reached and not collided, self._rules.weights)
        self._reward = self._reward + reward
        return collided or reached or self._has_left(at)

    def _has_reached(self, scene: Scene, at: RouteProjection) -> bool:
        return at.s >= max(scene.route.length - self._rules.goal_before_end_m, 0.5 * scene.route.length)

    def _has_left(self, at: RouteProjection) -> bool:
        return abs(at.lateral) > self._rules.off_lane_m

    def _close(self, terminal: bool, decision: Decision | None) -> list[Experience]:
        self._open = False
        last, scene = decision or self._decision, self._scene
        if last is None or scene is None:
            return []
        if decision is None:
            observation = observe(scene, last.action.acceleration, self._config)
            last = replace(last, observation=observation, first=False)
        return [self._make(scene, last, is_last=True, is_terminal=terminal)]

    def _make(self, scene: Scene, decision: Decision, is_last: bool, is_terminal: bool) -> Experience:
        # Nothing was commanded in this episode before its first decision: what the gate does then is of the last one.
        reward, intervention = (RewardTerms(), "") if decision.first else (self._reward, self._intervention)
        self._reward, self._intervention = RewardTerms(), ""
        self._sequence += 1
        return Experience(
            stamp_s=scene.stamp,
            sequence=self._sequence - 1,
            episode=self.episode - 1,
            observation=decision.observation,
            action=decision.action,
            value=decision.value,
            reward=reward,
            is_first=decision.first,
            is_last=is_last,
            is_terminal=is_terminal,
            adapter_digests=decision.adapter_digests,
            intervention=intervention,
        )
