"""What the gate hears, typed, and what it makes of missing, old and impossible values.

The gate reads the vehicle's and the world's topics itself; nothing here comes from the planner but the proposal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from adawm_planner.angles import wrap_angle
from adawm_planner.config.gate import StopLimits, WatchLimits
from adawm_planner.data_types import Command, EgoState, Objects, Route, VehicleInfo
from adawm_planner.observation.route import course, distance_to, project
from adawm_planner.safety.verdict import Rule, Verdict


@dataclass(frozen=True)
class Late:
    """An input that did not come in time."""

    name: str
    age_s: float  # of its newest message, inf if none ever came
    limit_s: float  # how long it was waited for


@dataclass(frozen=True)
class Reading:
    """One frame as the gate reads it."""

    ego: EgoState | None  # None: never received
    objects: Objects | None
    vehicle: VehicleInfo | None
    route: Route | None
    late: tuple[Late, ...] = ()  # inputs that did not come in time
    faults: tuple[str, ...] = ()  # what else is wrong with it, one line each
    wheel_speed: float = 0.0  # m/s, unsigned, as the vehicle itself reports it
    near: int | None = None  # index of the latest projection onto the route; None: not on it yet

    def stands(self, standstill_mps: float) -> bool:
        """Whether everybody says so; an odometry that was just refused would not do."""
        return self.ego is not None and abs(self.ego.speed) < standstill_mps and self.wheel_speed < standstill_mps


@dataclass(frozen=True)
class Proposal:
    """What the planner wants."""

    command: Command
    age_s: float = 0.0  # since it was received
    frames: int = 0  # since the frame it answers


def judge_inputs(reading: Reading, stop: StopLimits) -> list[Verdict]:
    """Return a verdict for every input that is missing, late or impossible."""
    brake = stop.emergency_mps2
    needed = (("odometry", reading.ego), ("objects", reading.objects), ("vehicle_info", reading.vehicle))
    never = (Late(name, math.inf, 0.0) for name, value in needed if value is None)
    verdicts = [
        Verdict(Rule.INPUT_STALE, each.age_s, each.limit_s, brake, each.name) for each in (*reading.late, *never)
    ]
    wrong = [*reading.faults, *_impossible(reading)]
    if wrong:
        verdicts.append(Verdict(Rule.INPUT_INVALID, float(len(wrong)), 0.0, brake, wrong[0]))
    return verdicts


def _impossible(reading: Reading) -> Iterable[str]:
    for name, value in (("odometry", reading.ego), ("vehicle_info", reading.vehicle)):
        for each in () if value is None else fields(value):
            number = getattr(value, each.name)
            if not math.isfinite(number):
                yield f"{name}: {each.name} is {number}"
            elif name == "vehicle_info" and number <= 0.0:
                yield f"{name}: {each.name} is {number:g}, must be above 0"
    if reading.objects is not None:
        yield from _impossible_objects(reading.objects)


def _impossible_objects(objects: Objects) -> Iterable[str]:
    o = objects
    columns = (o.x, o.y, o.yaw, o.vx, o.vy, o.yaw_rate, o.length, o.width)
    finite = np.isfinite(np.stack(columns)).all(axis=0)
    if not finite.all():
        yield f"objects: object {objects.id[int(np.argmin(finite))]} has a value that is not finite"
    sized = ~((objects.length <= 0.0) | (objects.width <= 0.0))
    if not sized.all():
        yield f"objects: object {objects.id[int(np.argmin(sized))]} has no size"


def judge_proposal(proposal: Proposal | None, watch: WatchLimits, stop: StopLimits) -> list[Verdict]:
    """Return a verdict for a proposal that cannot be followed: none, too old, not finite, or backwards."""
    brake = stop.comfortable_mps2
    if proposal is None:
        return [Verdict(Rule.PROPOSAL_MISSING, math.inf, watch.proposal_s, brake)]
    verdicts, command = [], proposal.command
    if not proposal.age_s <= watch.proposal_s:
        verdicts.append(Verdict(Rule.PROPOSAL_MISSING, proposal.age_s, watch.proposal_s, brake))
    if proposal.frames > watch.proposal_frames:
        verdicts.append(Verdict(Rule.PROPOSAL_REPEATED, proposal.frames, watch.proposal_frames, brake))
    broken = sum(not math.isfinite(value) for value in (command.throttle, command.brake, command.steer))
    if broken:
        verdicts.append(Verdict(Rule.PROPOSAL_NOT_FINITE, broken, 0.0, brake))
    if command.reverse:
        verdicts.append(Verdict(Rule.PROPOSAL_REVERSE, 1.0, 0.0, brake))
    return verdicts


def judge_route(
    ego: EgoState, route: Route | None, near: int | None, watch: WatchLimits, stop: StopLimits
) -> list[Verdict]:
    """Return a verdict where the vehicle is off its route, or has none; `near` as `project` takes it."""
    brake = stop.comfortable_mps2
    if route is None:
        return [Verdict(Rule.ROUTE_MISSING, 0.0, 1.0, brake)]
    at = project(route, ego.x, ego.y, near)
    verdicts = []
    away = abs(at.lateral) if at.s < route.length else distance_to(route, ego.x, ego.y, near)  # past its end too
    if away > watch.route_m:
        verdicts.append(Verdict(Rule.ROUTE_DEPARTURE, away, watch.route_m, brake))
    off = abs(wrap_angle(ego.yaw - course(route, at.s)))
    if off > watch.heading_rad:
        verdicts.append(Verdict(Rule.ROUTE_HEADING, off, watch.heading_rad, brake))
    return verdicts
