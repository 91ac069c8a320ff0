"""Flows and a random generator in, the vehicles of one episode out.

Platoons follow one another along each flow's route for as long as an episode can last; those already on
the first edge at the start stand there, the others enter when they would have reached it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np

from adawm_planner.simulator.tasks import Flow, Task, TrafficDriver
from adawm_planner.simulator.vehicle import VehiclePreset

EGO = "ego"
LENGTH_M = 4.5
WIDTH_M = 1.8
SPAWN_CLEARANCE_M = 14.0
"""No vehicle starts nearer than this to the ego [m]."""

PHASE_M = 300.0
"""Random phase of a flow, longer than any platoon with its gap [m]."""


@dataclass(frozen=True)
class Departure:
    """One vehicle of the traffic."""

    number: int  # actor id, counts from 1
    flow: int  # index into the task's flows
    decoy: bool
    time: float  # s after the episode's start
    position: float  # m along the first lane, of the front bumper
    speed: float  # m/s, desired


def departures(flows: tuple[Flow, ...], lane_lengths: list[float], seconds: float, seed: int) -> list[Departure]:
    """Draw all vehicles of an episode of at most `seconds` [s], ordered by time.

    Args:
        lane_lengths: length of each flow's first lane [m].
    """
    rng = np.random.default_rng([seed, 1])
    drawn = [
        one
        for index, (flow, length) in enumerate(zip(flows, lane_lengths, strict=True))
        for one in _stream(index, flow, length, seconds, rng)
    ]
    drawn.sort(key=lambda one: (one[2], one[0], -one[3]))
    return [Departure(number, *one) for number, one in enumerate(drawn, start=1)]


def _stream(
    index: int, flow: Flow, length: float, seconds: float, rng: np.random.Generator
) -> list[tuple[int, bool, float, float, float]]:
    """Vehicles of one flow, from the one nearest the junction backwards."""
    vehicles: list[tuple[int, bool, float, float, float]] = []
    # Distance of the next front bumper behind the end of the first lane. The pattern begins well past that
    # end (those vehicles have left), so that its phase at the junction is uniform.
    behind = -rng.uniform(PHASE_M, 2.0 * PHASE_M)
    time = 0.0
    while time < seconds:
        speed = rng.uniform(*flow.speed)
        for _ in range(rng.integers(int(flow.vehicles[0]), int(flow.vehicles[1]) + 1)):
            decoy = bool(flow.decoy_route) and rng.random() < flow.decoy_share
            time = max(0.0, (behind - length + LENGTH_M) / speed)
            if behind > 0.0:
                vehicles.append((index, decoy, time, max(length - behind, LENGTH_M), speed))
            behind += LENGTH_M + rng.uniform(*flow.headway_m)
        behind += rng.uniform(*flow.gap_s) * speed
    return vehicles


def route_xml(task: Task, ego: VehiclePreset, ego_position: float, traffic: list[Departure]) -> str:
    """SUMO route file of one episode: types, routes, the ego and the traffic in order of departure.

    Args:
        ego_position: of the ego's front bumper on its first lane [m].
    """
    root = ET.Element("routes")
    ET.SubElement(root, "vType", id=EGO, length=str(ego.length), width=str(ego.width))
    ET.SubElement(root, "route", id=EGO, edges=" ".join(task.ego.route))
    for i, flow in enumerate(task.flows):
        ET.SubElement(root, "route", id=f"flow{i}", edges=" ".join(flow.route))
        if flow.decoy_route:
            ET.SubElement(root, "route", id=f"flow{i}_decoy", edges=" ".join(flow.decoy_route))
    _add_vehicle(root, EGO, EGO, EGO, 0.0, task.ego.lane, ego_position, 0.0)
    for one in traffic:
        route = f"flow{one.flow}{'_decoy' if one.decoy else ''}"
        lane = task.flows[one.flow].lane
        kind = f"type{one.number}"  # a wished speed is an attribute of the type
        ET.SubElement(root, "vType", _type_attributes(task.driver, kind, one.speed))
        _add_vehicle(root, str(one.number), kind, route, one.time, lane, one.position, one.speed)
    return ET.tostring(root, encoding="unicode")


def _type_attributes(driver: TrafficDriver, name: str, speed: float) -> dict[str, str]:
    values = {
        "id": name,
        "length": LENGTH_M,
        "width": WIDTH_M,
        "accel": driver.acceleration,
        "decel": driver.deceleration,
        "emergencyDecel": driver.emergency_deceleration,
        "tau": driver.tau,
        "sigma": driver.sigma,
        "minGap": 1.5,
        "lcStrategic": -1,  # vehicles keep their lane: the expert knows their paths
        "lcSpeedGain": 0,
        "lcKeepRight": 0,
        "lcCooperative": -1,
        "maxSpeed": f"{speed:.4f}",
    }
    if not driver.yields:
        values |= {"jmIgnoreFoeProb": 1, "jmIgnoreFoeSpeed": 30, "jmIgnoreJunctionFoeProb": 1}
    return {name: str(value) for name, value in values.items()}


def _add_vehicle(
    root: ET.Element, name: str, kind: str, route: str, time: float, lane: int, position: float, speed: float
) -> None:
    attributes = {
        "id": name,
        "type": kind,
        "route": route,
        "depart": f"{time:.3f}",
        "departLane": str(lane),
        "departPos": f"{position:.3f}",
        "departSpeed": f"{speed:.3f}",
        "insertionChecks": "none",
    }
    ET.SubElement(root, "vehicle", attributes)
