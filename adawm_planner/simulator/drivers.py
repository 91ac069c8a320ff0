"""Reference drivers: a world and its frame in, the index of an acceleration bin out.

`expert` sees where every vehicle will go, `blind` drives its route as if alone, `random` stops at the
line and goes at a random moment. A task is worth having when only the expert does it reliably.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from adawm_planner.dims import ACCELERATION_BINS
from adawm_planner.simulator.expert import ExpertDriver, stop_at
from adawm_planner.simulator.world import World, WorldFrame

FULL_THROTTLE = len(ACCELERATION_BINS) - 1


class Driver(Protocol):
    """Chooses one acceleration bin per decision."""

    def reset(self, seed: int) -> None:
        """Forget the last episode; `seed` decides everything random."""

    def act(self, world: World, frame: WorldFrame) -> int:
        """Index into dims.ACCELERATION_BINS for the next decision."""


class BlindDriver:
    """Drives its route at target speed and never looks."""

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, world: World, frame: WorldFrame) -> int:
        """Always the strongest acceleration; the governor keeps the target speed."""
        return FULL_THROTTLE


class RandomMomentDriver:
    """Stops at the line, waits a random time, then goes whatever comes."""

    LONGEST_WAIT_S = 8.0

    def reset(self, seed: int) -> None:
        """Draw this episode's waiting time."""
        self._wait = np.random.default_rng([seed, 2]).uniform(0.0, self.LONGEST_WAIT_S)
        self._stopped_at: float | None = None

    def act(self, world: World, frame: WorldFrame) -> int:
        """Brake for the line until the waiting time after standstill is over."""
        if self._stopped_at is None and frame.ego.speed < 0.3:
            self._stopped_at = frame.time
        if self._stopped_at is not None and frame.time - self._stopped_at >= self._wait:
            return FULL_THROTTLE
        return stop_at(world, frame)


DRIVERS: dict[str, type[Driver]] = {"expert": ExpertDriver, "blind": BlindDriver, "random": RandomMomentDriver}


def make_driver(name: str) -> Driver:
    """Make a reference driver by name.

    Raises:
        ValueError: the name is not one of DRIVERS.
    """
    if name not in DRIVERS:
        raise ValueError(f"driver '{name}' is unknown; known are {', '.join(DRIVERS)}")
    return DRIVERS[name]()
