"""World frame in, Command out, by the world-model planner.

Runs `drive_step` frame by frame, exactly as the planner node does.
"""

from __future__ import annotations

from pathlib import Path

from adawm_planner.adapters.factors import Factors
from adawm_planner.data_types import Command
from adawm_planner.runtime.drive_step import DriveConfig, DriveState, drive_step
from adawm_planner.runtime.engine import Engine, OnnxEngine
from adawm_planner.simulator.world import World, WorldFrame


class ModelPilot:
    """The world-model planner."""

    def __init__(self, engine: Engine) -> None:
        """Drive with this engine's model."""
        self.digest: str | None = engine.digest
        self._engine, self._config = engine, DriveConfig()

    def reset(self, seed: int) -> None:
        """Start from the model's initial state; nothing here is random."""
        self._state = DriveState.initial(self._engine)

    def command(self, world: World, frame: WorldFrame) -> Command:
        """One call of drive_step."""
        command, self._state, _ = drive_step(world.scene(frame), self._state, self._engine, self._config)
        return command


def open_model_pilot(model_dir: Path, provider: str, factors: Factors | None = None) -> ModelPilot:
    """Load a model for driving; one thread, because episodes run in parallel processes.

    Raises:
        ValueError: the model, the provider or the factors of its adapters cannot be used.
    """
    return ModelPilot(OnnxEngine(model_dir, provider, threads=1, factors=factors))
