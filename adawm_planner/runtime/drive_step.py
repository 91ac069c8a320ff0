"""Driving in one function: Scene -> Observation -> Latent -> Action -> Command.

Called once per bridge frame; every fourth frame is a decision of the policy, the frames between hold its
target acceleration and only track. Everything remembered is in DriveState, which goes in and comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from adawm_planner.config.control import ControlConfig
from adawm_planner.config.observation import ObservationConfig
from adawm_planner.control.tracking import track
from adawm_planner.data_types import Action, Carry, Command, Float32, Observation, PolicyOutput, Scene
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, FRAMES_PER_DECISION
from adawm_planner.observation.assemble import observe
from adawm_planner.runtime.engine import Engine


@dataclass(frozen=True)
class DriveConfig:
    """Configuration of the stages that driving passes through."""

    observation: ObservationConfig = field(default_factory=ObservationConfig)
    control: ControlConfig = field(default_factory=ControlConfig)


@dataclass(frozen=True)
class DriveState:
    """What driving remembers between frames."""

    carry: Carry
    acceleration: float  # m/s2, target of the latest decision
    frames: int  # since the episode began

    @staticmethod
    def initial(engine: Engine) -> DriveState:
        """State before the first frame of an episode."""
        return DriveState(engine.initial(), 0.0, 0)


@dataclass(frozen=True)
class Decision:
    """One decision, as the planner saw it."""

    observation: Observation
    action: Action
    value: float  # expected discounted return
    first: bool  # of the episode
    adapter_digests: tuple[str, ...] = ()  # of the engine that decided


def drive_step(
    scene: Scene, state: DriveState, engine: Engine, config: DriveConfig
) -> tuple[Command, DriveState, Decision | None]:
    """Answer one frame; the decision is None on the frames between two decisions."""
    decision = None
    if state.frames % FRAMES_PER_DECISION == 0:
        first = state.frames == 0
        observation = observe(scene, state.acceleration, config.observation)
        carry, output = engine.step(state.carry, observation, first)
        action = choose(output)
        decision = Decision(observation, action, output.value, first, engine.adapter_digests)
        state = replace(state, carry=replace(carry, action=one_hot(action.index)), acceleration=action.acceleration)
    command = track(scene, state.acceleration, config.control)
    return command, replace(state, frames=state.frames + 1), decision


def choose(output: PolicyOutput) -> Action:
    """Take the most probable action: on the road nothing is left to chance.

    Raises FloatingPointError for probabilities that are not finite, of which numpy would take the first.
    """
    if not np.isfinite(output.probabilities).all():
        raise FloatingPointError(f"the policy's probabilities are {output.probabilities}, must be finite")
    index = int(np.argmax(output.probabilities))
    return Action(index, ACCELERATION_BINS[index], output.probabilities)


def one_hot(index: int) -> Float32:
    """Action as the world model takes it, (1, A)."""
    action = np.zeros((1, ACTION_COUNT), dtype=np.float32)
    action[0, index] = 1.0
    return action
