"""Task and vehicle files: YAML in, checked and typed values out.

A built-in is named (`right_turn_moderate`, `nominal`), anything else is a path to a YAML file; a map
path inside a task file is relative to that file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from adawm_planner.config.mapping import from_mapping
from adawm_planner.config.yaml_file import read_mapping
from adawm_planner.reward import RewardWeights
from adawm_planner.simulator.network import NETS_DIR
from adawm_planner.simulator.vehicle import VehiclePreset

TASKS_DIR = Path(__file__).parent / "tasks"
VEHICLES_DIR = Path(__file__).parent / "vehicles"
BUILT_IN_TASKS = (
    "right_turn_moderate",
    "right_turn_dense",
    "left_turn_moderate",
    "left_turn_dense",
    "roundabout_moderate",
)
BUILT_IN_VEHICLES = (
    "nominal",
    "heavy",
    "weak_brakes",
    "delayed_actuation",
    "low_friction",
    "overloaded",
    "worn_brakes",
    "late_brakes",
)

Range = tuple[float, float]

FASTEST_MPS = 70.0
"""Highest speed of anybody in a task [m/s]."""


@dataclass(frozen=True)
class EgoStart:
    """Where the ego begins and what it is to reach."""

    route: tuple[str, ...]  # SUMO edges in driving order
    start_m: Range  # m before the first junction
    start_speed: Range  # m/s
    goal_m: float  # m driven on the last edge when the goal is reached
    lane: int = 0  # lane index on the first edge, 0 = rightmost

    def __post_init__(self) -> None:
        _edges("ego.route", self.route)
        _range("ego.start_m", self.start_m, 0.0, 10_000.0)
        _range("ego.start_speed", self.start_speed, 0.0, FASTEST_MPS)
        _within("ego.goal_m", self.goal_m, 0.0, 10_000.0)
        _within("ego.lane", self.lane, 0, 20)


@dataclass(frozen=True)
class Flow:
    """Platoons of vehicles on one route, in endless sequence with random phase."""

    route: tuple[str, ...]
    vehicles: Range  # per platoon, whole numbers
    headway_m: Range  # m, bumper to bumper within a platoon
    gap_s: Range  # s, between the last vehicle of a platoon and the first of the next
    speed: Range  # m/s, one draw per platoon
    lane: int = 0
    decoy_route: tuple[str, ...] = ()  # leaves the stream before the conflict
    decoy_share: float = 0.0  # of the vehicles, 0..1

    def __post_init__(self) -> None:
        _edges("flow.route", self.route)
        for name, most in (("vehicles", 1000.0), ("headway_m", 1000.0), ("gap_s", 3600.0), ("speed", FASTEST_MPS)):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= most:
                raise ValueError(f"flow.{name} is [{low}, {high}], needs 0 < low <= high <= {most:g}")
        if any(value != int(value) for value in self.vehicles):
            raise ValueError(f"flow.vehicles is {list(self.vehicles)}, must be whole numbers")
        _within("flow.lane", self.lane, 0, 20)
        _within("flow.decoy_share", self.decoy_share, 0.0, 1.0)
        if self.decoy_share > 0.0 and not self.decoy_route:
            raise ValueError(f"flow.decoy_share is {self.decoy_share}, which needs a flow.decoy_route")


@dataclass(frozen=True)
class TrafficDriver:
    """SUMO's car-following parameters of the traffic (Krauss model)."""

    deceleration: float = 3.5  # m/s2
    emergency_deceleration: float = 4.5  # m/s2
    acceleration: float = 2.5  # m/s2
    tau: float = 0.5  # s
    sigma: float = 0.0  # 0..1, imperfection
    yields: bool = False  # whether traffic respects right of way in the junction

    def __post_init__(self) -> None:
        for name in ("deceleration", "emergency_deceleration", "acceleration"):
            _within(f"driver.{name}", getattr(self, name), 0.1, 20.0)
        _within("driver.tau", self.tau, 0.05, 10.0)
        _within("driver.sigma", self.sigma, 0.0, 1.0)


@dataclass(frozen=True)
class Limits:
    """When an episode ends without success."""

    time: float = 80.0  # s
    off_lane: float = 3.0  # m from the route

    def __post_init__(self) -> None:
        _within("limits.time", self.time, 0.1, 3600.0)
        _within("limits.off_lane", self.off_lane, 0.1, 100.0)


@dataclass(frozen=True)
class Task:
    """One driving task, as read from its file."""

    name: str
    map: str
    ego: EgoStart
    flows: tuple[Flow, ...]
    description: str = ""
    driver: TrafficDriver = field(default_factory=TrafficDriver)
    reward: RewardWeights = field(default_factory=RewardWeights)
    limits: Limits = field(default_factory=Limits)
    folder: Path = TASKS_DIR

    @property
    def map_source(self) -> Path:
        """The net: a built-in folder by name, else a path relative to the task file."""
        built_in = NETS_DIR / self.map
        return built_in if built_in.is_dir() else (self.folder / self.map).resolve()


def load_task(name_or_path: str) -> Task:
    """Read a task by built-in name or path.

    Raises:
        ValueError: the file is missing, is not YAML, or an entry is missing, unknown or out of range.
    """
    path = _locate(name_or_path, TASKS_DIR, "task", BUILT_IN_TASKS)
    return from_mapping(Task, {"folder": path.parent, **read_mapping(path)}, str(path))


def load_vehicle(name_or_path: str) -> VehiclePreset:
    """Read a vehicle preset by built-in name or path.

    Raises:
        ValueError: as `load_task`.
    """
    path = _locate(name_or_path, VEHICLES_DIR, "vehicle", BUILT_IN_VEHICLES)
    return from_mapping(VehiclePreset, read_mapping(path), str(path))


def _locate(name: str, folder: Path, kind: str, built_in: tuple[str, ...]) -> Path:
    if name in built_in:
        return folder / f"{name}.yaml"
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{kind} '{name}' is neither a file nor built in; built in are {', '.join(built_in)}")
    return path


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, must lie in {low:g}..{high:g}")


def _range(name: str, values: Range, low: float, high: float) -> None:
    if not low <= values[0] <= values[1] <= high:
        raise ValueError(f"{name} is {list(values)}, needs {low:g} <= low <= high <= {high:g}")


def _edges(name: str, edges: tuple[str, ...]) -> None:
    if not edges:
        raise ValueError(f"{name} is empty, needs at least one edge of the map")
