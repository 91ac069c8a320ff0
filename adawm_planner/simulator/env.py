"""The driving world as a Gymnasium environment: one step is one decision of 0.2 s.

`gymnasium.make("adawm_planner.simulator:AdaWM/RightTurnModerate-v0")`. The action is an
acceleration bin; the tracking controller steers at every frame, as it does in the planner.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from adawm_planner.config.control import ControlConfig
from adawm_planner.config.observation import ObservationConfig
from adawm_planner.config.presets import load_pretraining
from adawm_planner.control.tracking import track
from adawm_planner.data_types import Outcome, RewardTerms
from adawm_planner.dims import (
    ACCELERATION_BINS,
    ACTION_COUNT,
    BEV_SHAPE,
    FRAMES_PER_DECISION,
    STATE_LIMIT,
    STATE_SIZE,
)
from adawm_planner.observation.assemble import observe
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World, WorldFrame

Observed = dict[str, Any]


class DrivingEnv(gymnasium.Env[Observed, np.int64]):
    """One task with one vehicle; `world` and `frame` are open to privileged drivers."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, task: str = "right_turn_moderate", vehicle: str = "nominal", render_mode: str | None = None):
        """Open a task and a vehicle by built-in name or path.

        Raises:
            ValueError: either file is wrong, or the net cannot be built.
        """
        self.world = World(load_task(task), load_vehicle(vehicle))
        self.observation_space = spaces.Dict(
            {
                "bev": spaces.Box(0, 255, BEV_SHAPE, np.uint8),
                "state": spaces.Box(-STATE_LIMIT, STATE_LIMIT, (STATE_SIZE,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(ACTION_COUNT)
        self.render_mode = render_mode
        self._control, self._observing = ControlConfig(), ObservationConfig()
        self._drawn_seeds = load_pretraining().collection.train_seeds
        self.frame: WorldFrame

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Start an episode; `options={"start": "at_line"}` begins standing at the junction.

        A seed is the episode's own, whichever it is; without one an episode of the training seeds is drawn, so that
        training never meets an episode of evaluation.
        """
        super().reset(seed=seed)
        episode = int(self.np_random.integers(*self._drawn_seeds)) if seed is None else seed
        self.frame = self.world.reset(episode, at_line=(options or {}).get("start") == "at_line")
        self._last_acceleration = 0.0
        return self._observe(), self._info(RewardTerms())

    def step(self, action: np.int64 | int) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Hold one acceleration bin for one decision, or until the episode ends."""
        acceleration = ACCELERATION_BINS[int(action)]
        reward = RewardTerms()
        for _ in range(FRAMES_PER_DECISION):
            command = track(self.world.scene(self.frame), acceleration, self._control)
            self.frame = self.world.tick(command)
            reward = reward + self.frame.reward
            if self.frame.outcome is not None:
                break
        self._last_acceleration = acceleration
        timed_out = self.frame.outcome is Outcome.TIMEOUT
        ended = self.frame.outcome is not None and not timed_out
        return self._observe(), reward.total, ended, timed_out, self._info(reward)

    def render(self) -> np.ndarray:
        """BEV as an image (H, W, 3) uint8: vehicles red, route green, drivable area grey."""
        bev = self._observe()["bev"].astype(np.int64)
        grey = bev[0] // 3
        return (
            np.stack([grey + bev[2] // 2 + bev[3] // 8, grey + bev[1] // 2, grey], axis=-1)
            .clip(0, 255)
            .astype(np.uint8)
        )

    def close(self) -> None:
        """End the simulation."""
        self.world.close()

    def _observe(self) -> Observed:
        seen = observe(self.world.scene(self.frame), self._last_acceleration, self._observing)
        return {"bev": seen.bev, "state": seen.state}

    def _info(self, reward: RewardTerms) -> dict[str, Any]:
        outcome = self.frame.outcome
        return {
            "outcome": None if outcome is None else outcome.value,
            "route_s": self.frame.route_s,
            "ttc_s": self.frame.ttc,
            "reward_terms": reward,
        }
