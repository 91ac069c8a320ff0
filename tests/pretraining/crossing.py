"""A tiny crossing with the driving environment's interface: a real world to learn in, without a simulator.

The ego drives straight towards a line behind which one stream of cars passes; it has to stop and go in a gap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adawm_planner.dims import ACCELERATION_BINS, BEV_SHAPE, BEV_SIZE, DECISION_S, STATE_SIZE
from adawm_planner.pretraining.collect import Rig

LINE_M, GOAL_M, TOP_SPEED, LONGEST = 20.0, 30.0, 8.0, 60
STOP, GO = 0, len(ACCELERATION_BINS) - 1


class CrossingEnv:
    """The ego at `x` [m] before a crossing that is blocked in every other period of `gap` decisions."""

    def __init__(self) -> None:
        self.world = self
        self.frame = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        rng = np.random.default_rng(seed)
        self.x = LINE_M - 2.0 if options else float(rng.uniform(0.0, 8.0))
        self.speed = 0.0 if options else float(rng.uniform(2.0, 6.0))
        self.gap, self.phase, self.frame = int(rng.integers(8, 16)), int(rng.integers(0, 16)), 0
        return self._observe(), {"outcome": None}

    def blocked(self) -> bool:
        return (self.frame + self.phase) // self.gap % 2 == 0

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, Any]:
        self.speed = float(np.clip(self.speed + ACCELERATION_BINS[action] * DECISION_S, 0.0, TOP_SPEED))
        before, self.x = self.x, self.x + self.speed * DECISION_S
        self.frame += 1
        crashed = before < LINE_M <= self.x and self.blocked()
        arrived, late = self.x >= GOAL_M, self.frame >= LONGEST
        outcome = "collision" if crashed else "success" if arrived else "timeout" if late else None
        reward = 0.01 * (self.x - before) - 1.0 * crashed + 1.0 * arrived
        return self._observe(), reward, crashed or arrived, late and outcome == "timeout", {"outcome": outcome}

    def _observe(self) -> dict[str, Any]:
        bev = np.zeros(BEV_SHAPE, np.uint8)
        bev[0] = 255
        if self.blocked():
            row = int(np.clip(BEV_SIZE // 2 - (LINE_M - self.x) / 2.5, 0, BEV_SIZE - 1))
            bev[2, row] = 255
        state = np.zeros(STATE_SIZE, np.float32)
        state[:3] = self.speed / 10.0, (LINE_M - self.x) / 20.0, float(self.blocked())
        return {"bev": bev, "state": state}


class CrossingDriver:
    """Goes always, or only while the crossing is free."""

    def __init__(self, looks: bool) -> None:
        self.looks = looks

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, world: CrossingEnv, frame: int) -> int:
        stopping = world.speed**2 / (2.0 * 4.0) + 2.5
        near = LINE_M - stopping <= world.x < LINE_M
        return STOP if self.looks and near and world.blocked() else GO


def crossing_rig() -> Rig:
    looking, blind = CrossingDriver(True), CrossingDriver(False)
    return Rig(CrossingEnv(), {"expert": looking, "blind": blind, "random": blind})
