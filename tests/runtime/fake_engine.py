"""A tiny real engine: it drives by one rule, and counts its own steps in the recurrent state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adawm_planner.data_types import Carry, Observation, PolicyOutput
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, BEV_SHAPE
from adawm_planner.runtime.engine import Imagined

GO = ACCELERATION_BINS.index(2.5)


class FakeEngine:
    """Always takes the same action; `carry.h` counts the steps since the last `first`."""

    digest = "f" * 64
    adapter_digests: tuple[str, ...] = ()
    provider = "CPUExecutionProvider"

    def __init__(self, action: int = GO) -> None:
        self.action = action
        self.firsts: list[bool] = []
        self.observations: list[Observation] = []
        self.fail = False

    def initial(self) -> Carry:
        """An empty state."""
        one = np.zeros((1, 1), dtype=np.float32)
        return Carry(one, one.copy(), np.zeros((1, ACTION_COUNT), dtype=np.float32))

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        """Count, remember what was asked, answer with the one action."""
        if self.fail:
            raise RuntimeError("planted")
        self.firsts.append(first)
        self.observations.append(observation)
        h = np.zeros_like(carry.h) if first else carry.h + 1.0
        probabilities = np.full(ACTION_COUNT, 0.1 / (ACTION_COUNT - 1), dtype=np.float32)
        probabilities[self.action] = 0.9
        return replace(carry, h=h), PolicyOutput(probabilities, 1.5)

    def imagine(self, carry: Carry) -> Imagined:
        """Fifteen steps at 5 m/s through an empty world."""
        uniform = np.full((15, ACTION_COUNT), 1.0 / ACTION_COUNT, dtype=np.float32)
        return Imagined(np.full(15, 5.0, np.float32), np.zeros((15, *BEV_SHAPE), np.uint8), uniform)
