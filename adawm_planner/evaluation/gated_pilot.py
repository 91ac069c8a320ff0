"""World frame in, Command out: a pilot under the rules of the safety gate, in process.

The rules hear what the gate node tells them. Left out is what surrounds them there: the input monitor, the check of
odometry's way, the watchdog and the wait for the proposal. Here every frame is whole and true, and answered at once.
"""

from __future__ import annotations

from collections import Counter

from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command
from adawm_planner.dims import FRAME_S
from adawm_planner.evaluation.pilots import Pilot
from adawm_planner.safety.gate import Heard, Memory, step
from adawm_planner.safety.inputs import Proposal, Reading
from adawm_planner.simulator.world import World, WorldFrame


class GatedPilot:
    """Proposes with a pilot and lets the gate decide."""

    def __init__(self, pilot: Pilot) -> None:
        """Put a gate behind a pilot."""
        self.digest: str | None = pilot.digest
        self._pilot, self._config = pilot, GateConfig()
        self._memory = Memory()
        self.interventions: Counter[str] = Counter()

    def reset(self, seed: int) -> None:
        """Start the episode of this seed; the gate begins in standby."""
        self._pilot.reset(seed)
        self._memory = Memory()
        self.interventions = Counter()

    def command(self, world: World, frame: WorldFrame) -> Command:
        """Propose, and let it pass or not; counts the frames in which a rule changed the command."""
        proposed = self._pilot.command(world, frame)
        reading = Reading(
            frame.ego,
            frame.objects,
            world.vehicle_info,
            frame.route,
            wheel_speed=abs(frame.ego.speed),
            near=world.scene(frame).near,
        )
        answer = step(Heard(reading, Proposal(proposed), FRAME_S), self._memory, self._config)
        self._memory = answer.memory
        if answer.verdict is not None and answer.command != proposed:
            self.interventions[answer.verdict.rule.value] += 1
        return answer.command
