"""World frame in, Command out: the world-model planner and the reference drivers behind one interface.

A reference driver decides every FRAMES_PER_DECISION frames and the tracking controller steers at every frame, as
in the planner; model_pilot.py holds the world model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from adawm_planner.adapters.factors import Factors
from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import track
from adawm_planner.data_types import Command
from adawm_planner.dims import ACCELERATION_BINS, FRAMES_PER_DECISION
from adawm_planner.paths import default_model_dir
from adawm_planner.simulator.drivers import DRIVERS, Driver, make_driver
from adawm_planner.simulator.world import World, WorldFrame

WORLD_MODEL = "world_model"
PILOTS = (WORLD_MODEL, *DRIVERS)
"""Everything that can drive, by name."""


class Pilot(Protocol):
    """Drives one episode after another, one command per frame."""

    digest: str | None
    """sha256 of the model files, None for a driver without a model."""

    def reset(self, seed: int) -> None:
        """Forget the last episode."""

    def command(self, world: World, frame: WorldFrame) -> Command:
        """The command that answers this frame."""


class DriverPilot:
    """A reference driver with the tracking controller."""

    digest: str | None = None

    def __init__(self, driver: Driver) -> None:
        """Drive with this driver's decisions."""
        self._driver, self._control = driver, ControlConfig()

    def reset(self, seed: int) -> None:
        """Start the driver's episode of this seed at a decision."""
        self._driver.reset(seed)
        self._frames, self._acceleration = 0, 0.0

    def command(self, world: World, frame: WorldFrame) -> Command:
        """Decide where a decision is due, and track."""
        if self._frames % FRAMES_PER_DECISION == 0:
            self._acceleration = ACCELERATION_BINS[self._driver.act(world, frame)]
        self._frames += 1
        return track(world.scene(frame), self._acceleration, self._control)


def make_pilot(name: str, model_dir: Path | None, provider: str, factors: Factors | None = None) -> Pilot:
    """Make a pilot by name; `model_dir` None takes the shipped base model, `factors` are those of its adapters.

    Raises:
        ValueError: the name is not one of PILOTS, or the model cannot be loaded.
    """
    if name == WORLD_MODEL:
        # Only here, so that the reference drivers need no onnxruntime.
        from adawm_planner.evaluation.model_pilot import open_model_pilot

        return open_model_pilot(model_dir or default_model_dir(), provider, factors)
    return DriverPilot(make_driver(name))
