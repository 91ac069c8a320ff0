"""The expert as an autopilot: world frames in, one command per frame out.

Stands in for CARLA's traffic manager when a client enables the ego's autopilot.
"""

from __future__ import annotations

from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import track
from adawm_planner.data_types import Command
from adawm_planner.dims import ACCELERATION_BINS, FRAMES_PER_DECISION
from adawm_planner.simulator.drivers import make_driver
from adawm_planner.simulator.world import World, WorldFrame


class Autopilot:
    """Decides every FRAMES_PER_DECISION frames from its first call on, steers in every frame."""

    def __init__(self, world: World) -> None:
        self._world, self._control = world, ControlConfig()
        self._driver = make_driver("expert")
        self._driver.reset(0)
        self._frames, self._acceleration = 0, 0.0

    def command(self, frame: WorldFrame) -> Command:
        """The command that follows this frame."""
        if self._frames % FRAMES_PER_DECISION == 0:
            self._acceleration = ACCELERATION_BINS[self._driver.act(self._world, frame)]
        self._frames += 1
        return track(self._world.scene(frame), self._acceleration, self._control)
