"""The bridge node's parameters: one table in, one checked value out."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node

from adawm_planner.config.seeds import EVALUATION_SEED, HIGHEST_SEED, episode_seeds
from adawm_planner.dims import FRAME_S
from adawm_planner.ros.input_parameters import role_problem
from adawm_planner.ros.parameters import Parameter, declare, read
from adawm_planner.simulator.handshake import COMMAND_WAIT_S

PARAMETERS = (
    Parameter(
        "role_name", str, "ego_vehicle", "role name of the ego, part of its topics and frames", check=role_problem
    ),
    Parameter("task", str, "right_turn_moderate", "built-in task or path of a task file"),
    Parameter("vehicle", str, "nominal", "built-in vehicle preset or path of a preset file"),
    Parameter("seed", int, EVALUATION_SEED, "seed of the first episode; later ones count up", low=0, high=HIGHEST_SEED),
    Parameter("episodes", int, 0, "how many episodes to run, 0 = endless", low=0, high=1_000_000),
    Parameter("reset_at_end", bool, True, "begin the next episode when one has ended; false lets the world go on"),
    Parameter("synchronous_mode", bool, True, "the bridge steps the world; false runs it in real time on its own"),
    Parameter(
        "synchronous_mode_wait_for_vehicle_control_command",
        bool,
        False,
        f"after each frame wait up to {COMMAND_WAIT_S:g} s of wall time for the ego's command",
    ),
    Parameter("fixed_delta_seconds", float, FRAME_S, "period of one frame", "s", low=FRAME_S, high=FRAME_S),
    Parameter("register_all_sensors", bool, True, "all sensors exist from the start; false waits for spawn_object"),
    Parameter("realtime", bool, False, "one frame per period of wall time; false steps as fast as possible"),
    Parameter(
        "start_timeout",
        float,
        30.0,
        "longest wait, before each episode, for a client that reads odometry and sends commands; only while"
        " waiting for commands is on; 0 does not wait",
        "s",
        low=0.0,
        high=3600.0,
    ),
    Parameter(
        "command_timeout",
        float,
        0.0,
        "simulated time without a command after which the bridge brakes; 0 holds the last command for ever,"
        " as the real bridge does",
        "s",
        low=0.0,
        high=60.0,
    ),
)


@dataclass(frozen=True)
class BridgeSettings:
    """Values of PARAMETERS, by name."""

    role_name: str
    task: str
    vehicle: str
    seed: int
    episodes: int
    reset_at_end: bool
    synchronous_mode: bool
    synchronous_mode_wait_for_vehicle_control_command: bool
    fixed_delta_seconds: float
    register_all_sensors: bool
    realtime: bool
    start_timeout: float
    command_timeout: float

    @property
    def waits(self) -> bool:
        """Whether every frame waits for the ego's command."""
        return self.synchronous_mode and self.synchronous_mode_wait_for_vehicle_control_command

    @property
    def paced(self) -> bool:
        """Whether frames keep to wall time."""
        return self.realtime or not self.synchronous_mode


def read_settings(node: Node) -> BridgeSettings:
    """Declare and read all parameters.

    Raises:
        ValueError: a value is of the wrong type or out of range; names the parameter.
    """
    declare(node, PARAMETERS)
    settings = BridgeSettings(**read(node, PARAMETERS))
    episode_seeds(settings.seed, max(settings.episodes, 1))
    return settings
