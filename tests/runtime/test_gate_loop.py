"""The gate's loop: one command per frame, whatever the planner does, by the clock that the vehicle lives by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command, Objects, Route, VehicleInfo
from adawm_planner.observation.route import route_from_points
from adawm_planner.runtime import gate_loop
from adawm_planner.runtime.frame_inputs import (
    OBJECTS,
    ODOMETRY,
    ROUTE,
    STATUS,
    VEHICLE,
    ObjectsInput,
    OdometryInput,
    Part,
    StatusInput,
)
from adawm_planner.runtime.gate_loop import GateLoop, GateOutgoing, GateTimes
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.watchdog import WorldClock
from adawm_planner.safety.states import State
from adawm_planner.safety.verdict import Rule

FRAME_NS = 50_000_000
SPEED = 5.0
GO = Command(throttle=0.25)
ROUTE_X = route_from_points(np.arange(0.0, 200.0), np.zeros(200))
NOBODY = Objects(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(8)))
TIMES = GateTimes()


class Drive:
    """A vehicle at 5 m/s in front of a gate; frames and proposals come when the test says."""

    def __init__(self, stepped: bool = True, release: bool = False) -> None:
        topics = {name: name for name in (ODOMETRY, OBJECTS, STATUS, ROUTE, VEHICLE)}
        self.loop = GateLoop(GateConfig(), InputMonitor(InputLimits(), topics), TIMES, release)
        self.now, self.k, self.speed, self.offset, self.x = 100.0, 0, SPEED, 0.0, 5.0
        self.moves = True  # the place does as the speed says
        self.sent: list[GateOutgoing] = []
        self.stepped = stepped
        self.at: dict[str, Part] = {}  # the newest frame's parts
        self.loop.on_vehicle(VehicleInfo(0.61, 2.8, 4.7, 1.85, 1600.0))
        self.loop.on_route(ROUTE_X)

    def frame(self, without: str = "") -> None:
        """The next frame comes, after 50 ms."""
        self.send(*(part for name, part in self.parts().items() if name != without))

    def send(self, *parts: Part) -> None:
        """These parts come now."""
        for part in parts:
            self.sent += self.loop.on_part(part, self.now)

    def parts(self) -> dict[str, Part]:
        """The next frame's parts, after 50 ms."""
        self.now, self.k = self.now + 0.05, self.k + 1
        self.loop.on_world(WorldClock(self.k, self.stepped, True), self.now)
        self.x += 0.05 * self.speed * self.moves
        stamp, x = self.k * FRAME_NS, self.offset + self.x
        self.at = {
            STATUS: StatusInput(stamp, "map", abs(self.speed), 0.0, 0.0),
            ODOMETRY: OdometryInput(stamp, "map", x, 0.0, 0.0, 1.0, self.speed, 0.0, 0.0, 0.0),
            OBJECTS: ObjectsInput(stamp, "map", NOBODY),
        }
        return dict(self.at)

    def propose(self, command: Command = GO, k: int | None = None) -> None:
        """The planner answers a frame, the newest unless told."""
        self.sent += self.loop.on_proposal(command, (self.k if k is None else k) * FRAME_NS, self.now)

    def drive_at(self, route: Route, s: float) -> None:
        """Send the next frame from a place on a route, `s` metres along it, and what the planner proposes there."""
        self.drive_to(*(float(np.interp(s, route.s, values)) for values in (route.x, route.y, route.yaw)))

    def drive_to(self, x: float, y: float, yaw: float, speed: float = SPEED) -> None:
        """Send the next frame from a pose, and what the planner proposes there."""
        self.speed = speed
        parts = self.parts()
        odometry = parts[ODOMETRY]
        assert isinstance(odometry, OdometryInput)
        parts[ODOMETRY] = replace(odometry, x=x, y=y, yaw=yaw)
        self.send(*parts.values())
        self.propose()

    def wait(self, seconds: float) -> None:
        """Only the timer runs."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += 0.02
            self.sent += self.loop.on_timer(self.now)

    def drive(self, frames: int) -> None:
        """Frames that the planner answers."""
        for _ in range(frames):
            self.frame()
            self.propose()

    @property
    def last(self) -> GateOutgoing:
        return self.sent[-1]

    def brakes(self) -> bool:
        command = self.last.answer.command
        return command.brake > 0.0 and command.throttle == 0.0


@pytest.mark.parametrize("stepped", [True, False])
def test_every_frame_gets_its_proposal_unchanged_and_nothing_else_leaves(stepped: bool) -> None:
    car = Drive(stepped)
    car.drive(40)
    assert [out.stamp_ns for out in car.sent] == [k * FRAME_NS for k in range(1, 41)]
    assert all(out.answer.command == GO and out.is_frame and not out.intervened for out in car.sent)
    assert car.loop.counters.proposals == car.loop.counters.commands == 40
    assert car.loop.counters.limited == car.loop.counters.braked == 0


def test_a_proposal_may_come_before_its_frame_is_whole() -> None:
    car = Drive()
    car.drive(3)
    car.k += 1
    car.propose()
    car.k -= 1
    car.frame()
    assert len(car.sent) == 4 and car.last.answer.command == GO


@pytest.mark.parametrize("stepped", [True, False])
def test_a_dead_planner_is_answered_for_within_a_quarter_of_a_second(stepped: bool) -> None:
    car = Drive(stepped)
    car.drive(10)
    died = car.now
    car.frame()
    while len(car.sent) == 10:
        car.wait(0.02)
    assert car.brakes() and car.now - died <= 0.05 + 0.25 - 0.02
    assert car.last.answer.verdict is not None and car.last.answer.verdict.rule is Rule.PROPOSAL_MISSING


def test_frames_go_on_without_a_planner_until_the_stop_is_final_then_are_answered_at_once() -> None:
    car = Drive()
    car.drive(10)
    for _ in range(12):
        car.frame()
        car.wait(TIMES.wait_s + 0.02)
    assert len(car.sent) == 22
    assert car.last.answer.state is State.COMFORTABLE_STOP
    car.frame()
    assert len(car.sent) == 23 and car.brakes()


def test_a_stepped_world_that_took_somebody_elses_command_gets_none_too_many() -> None:
    car = Drive()
    car.drive(10)
    car.frame()  # another node answers this one, so that the world goes on
    car.drive(5)
    assert [out.stamp_ns // FRAME_NS for out in car.sent] == [*range(1, 11), *range(12, 17)]
    assert not any(out.intervened for out in car.sent)


def test_a_world_that_runs_ahead_of_a_stopped_gate_is_caught_up_with() -> None:
    car = Drive()
    car.drive(10)
    for _ in range(12):
        car.frame()
        car.wait(TIMES.wait_s + 0.02)
    assert car.last.answer.state is State.COMFORTABLE_STOP  # from here on whole frames are answered at once
    sent, overtaken, newer = len(car.sent), car.parts(), car.parts()
    car.send(overtaken[STATUS], *newer.values(), overtaken[ODOMETRY], overtaken[OBJECTS])
    assert [out.stamp_ns // FRAME_NS for out in car.sent[sent:]] == [car.k]  # one command fewer than frames
    car.drive(3)
    assert len(car.sent) == sent + 4


def test_a_stepped_world_that_waits_for_nobody_is_answered_however_slow_the_planner() -> None:
    car = Drive()
    car.drive(10)
    for _ in range(8):
        car.frame()
    answered = [out.stamp_ns // FRAME_NS for out in car.sent]
    assert answered == [*range(1, 11), *range(12, 18)]
    assert car.brakes()


def test_in_real_time_the_next_frame_answers_the_one_that_waits() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    car.frame()
    car.frame()  # the planner is late: the first is answered with the proposal before
    assert len(car.sent) == 11 and car.last.answer.command == GO and not car.last.intervened
    car.propose()
    assert len(car.sent) == 12
    for _ in range(5):
        car.frame()
    assert car.brakes()
    rules = {verdict.rule for verdict in car.last.answer.verdicts}
    assert rules & {Rule.PROPOSAL_REPEATED, Rule.PROPOSAL_MISSING}
    assert [out.stamp_ns for out in car.sent] == [k * FRAME_NS for k in range(1, len(car.sent) + 1)]


def test_before_the_planner_was_heard_the_wait_is_longer_and_ends_in_brakes() -> None:
    car = Drive()
    car.frame()
    car.wait(TIMES.standby_wait_s - 0.04)
    assert car.sent == []
    car.wait(0.06)
    assert car.brakes() and car.last.answer.state is State.STANDBY
    car.drive(1)
    assert car.last.answer.command == GO


def test_only_a_stepped_world_is_waited_for_longer_than_silence_is_borne() -> None:
    car = Drive(stepped=False)
    car.frame()
    car.wait(InputLimits().stale_s + 0.02)
    assert car.sent[0].is_frame and car.last.answer.state is State.STANDBY
    assert car.brakes() and not car.last.is_frame, "that nothing follows is noticed, too"


def test_an_old_or_a_future_proposal_answers_no_frame() -> None:
    car = Drive()
    car.drive(5)
    car.frame()
    car.propose(k=3)
    car.propose(k=9)
    assert len(car.sent) == 5
    car.wait(TIMES.wait_s + 0.02)
    assert len(car.sent) == 6 and car.brakes()


@pytest.mark.parametrize("stepped", [True, False])
def test_a_proposal_that_overtakes_the_frame_before_its_own_leaves_that_its_own(stepped: bool) -> None:
    car = Drive(stepped)
    car.drive(5)
    one, two = Command(throttle=0.2), Command(throttle=0.3)
    car.propose(one, k=6)
    car.propose(two, k=7)
    car.frame()
    assert len(car.sent) == 6 and car.last.proposed == one and not car.brakes()
    car.frame()
    assert len(car.sent) == 7 and car.last.proposed == two and not car.brakes()
    assert car.loop.counters.braked == 0


def test_of_two_proposals_for_one_frame_the_later_counts_and_an_earlier_ones_does_not() -> None:
    car = Drive()
    car.drive(5)
    late = Command(throttle=0.2)
    for command, k in ((Command(throttle=0.3), 6), (late, 6), (Command(throttle=0.1), 4)):
        car.propose(command, k=k)
    car.frame()
    assert car.last.proposed == late and len(car.sent) == 6


@pytest.mark.parametrize("missing", [ODOMETRY, OBJECTS, STATUS])
@pytest.mark.parametrize("stepped", [True, False])
def test_a_missing_part_brakes_and_is_named(missing: str, stepped: bool) -> None:
    car = Drive(stepped)
    car.drive(10)
    car.frame(without=missing)
    car.wait(0.6 if stepped else 0.14)
    assert len(car.sent) == 11 and car.brakes() and not car.last.is_frame
    assert car.last.stamp_ns == 11 * FRAME_NS
    verdict = car.last.answer.verdict
    assert verdict is not None and verdict.rule is Rule.INPUT_STALE and verdict.about == missing


@pytest.mark.parametrize("missing", [ODOMETRY, OBJECTS, STATUS])
def test_a_stepped_world_that_is_slow_with_part_of_a_frame_is_braked_for_and_no_more(missing: str) -> None:
    """carla_ros_bridge waits for each of its sensors, up to a second, with the world standing still."""
    car = Drive()
    car.drive(10)
    for _ in range(5):
        parts = car.parts()
        car.send(*(part for name, part in parts.items() if name != missing))
        car.wait(1.1)
        assert car.brakes()
        car.send(parts[missing])
        car.drive(3)
        assert car.last.answer.state is State.PASSING and car.last.answer.command.brake == 0.0


def test_a_stepped_world_that_takes_seconds_between_two_frames_is_braked_for_and_no_more() -> None:
    car = Drive()
    car.drive(10)
    car.wait(7.0)
    assert len(car.sent) == 11 and car.brakes()
    car.drive(4)
    assert car.last.answer.state is State.PASSING and car.last.answer.command.brake == 0.0


@pytest.mark.parametrize("missing", [ODOMETRY, OBJECTS, STATUS])
def test_a_stepped_world_that_goes_on_without_part_of_its_frames_is_stopped_in_for_good(missing: str) -> None:
    car = Drive()
    car.drive(10)
    for k in range(14):
        car.frame(without=missing)
        car.wait(0.6)
        assert car.brakes()
        if k < 8:
            assert car.last.answer.state is State.RESPONDING, "less than half a second of the world's time"
    assert car.last.answer.state is State.EMERGENCY_STOP


def test_a_stepped_world_that_goes_on_unheard_is_stopped_in_for_good() -> None:
    car = Drive()
    car.drive(10)
    for k in range(1, 40):
        car.loop.on_world(WorldClock(10 + k, True, True), car.now)
        car.wait(0.02)
    assert car.last.answer.state is State.EMERGENCY_STOP


def test_a_lap_is_followed_in_order() -> None:
    """Where a second lap goes over the first one, and where its end crosses its start."""
    angle = np.linspace(0.0, 2.0 * math.pi, 800)
    eight = route_from_points(120.0 * np.sin(angle), 60.0 * np.sin(2.0 * angle))
    car = Drive()
    car.loop.on_route(eight)
    for s in np.arange(1.0, eight.length - 1.0, 0.25):
        car.drive_at(eight, s)
        found = {verdict.rule for verdict in car.last.answer.verdicts}
        assert not found & {Rule.ROUTE_HEADING, Rule.ROUTE_DEPARTURE}, s


def test_the_same_lap_sent_again_is_entered_anew() -> None:
    angle = np.linspace(0.0, 2.0 * math.pi, 400)
    lap = route_from_points(60.0 * np.sin(angle), 60.0 * (1.0 - np.cos(angle)))
    car = Drive()
    for _ in range(2):
        car.loop.on_route(lap)
        for s in np.arange(1.0, lap.length, 0.25):
            car.drive_at(lap, s)
            assert Rule.ROUTE_DEPARTURE not in {verdict.rule for verdict in car.last.answer.verdicts}, s


def test_silence_brakes_again_and_again_in_real_time_and_becomes_an_emergency_stop() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    car.wait(0.3)
    assert len(car.sent) == 11 and car.brakes()
    car.wait(1.5)
    assert car.last.answer.state is State.EMERGENCY_STOP and len(car.sent) > 14


def test_in_a_silence_the_brakes_of_one_that_accelerated_are_full_after_two_frame_periods() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    for _ in range(3):
        car.frame()
        car.propose(Command(throttle=0.75))
    gone, times = car.now, []
    while len(car.sent) < 18:
        known = len(car.sent)
        car.wait(0.02)
        times += [car.now - gone] * (len(car.sent) - known)
    asked = [out.answer.memory.sent.acceleration for out in car.sent[13:]]
    assert asked == [-3.0, -8.0, -8.0, -8.0, -8.0], "at most 120 m/s3, then all there is"
    apart = np.diff(times)
    assert 0.05 <= apart[0] < 0.08 and (apart[1:] >= InputLimits().repeat_s - 1e-9).all()


def test_a_stepped_world_gets_one_command_for_a_silence_and_none_for_the_frame_after_it() -> None:
    car = Drive()
    car.drive(10)
    car.wait(3.0)
    assert len(car.sent) == 11
    car.frame()
    car.propose()
    assert len(car.sent) == 11  # the bridge has already taken this frame's
    car.frame()
    car.propose()
    assert len(car.sent) == 12


def test_a_jump_in_the_silence_of_a_stepped_world_is_seen_after_it() -> None:
    car = Drive()
    car.drive(10)
    car.wait(2.5)
    car.offset = 50.0
    car.frame()  # the command in the silence was this frame's
    car.frame()
    car.propose()
    assert car.brakes() and jumped(car) and car.last.answer.state is State.RESPONDING


def test_nothing_is_commanded_before_a_vehicle_is_heard_and_while_the_world_is_paused() -> None:
    car = Drive(stepped=False)
    car.wait(1.0)
    assert car.sent == [] and car.loop.last(car.now) is None
    car = Drive()
    car.drive(3)
    car.loop.on_world(WorldClock(3, True, False), car.now)
    car.wait(5.0)
    assert len(car.sent) == 3


def test_the_last_command_brakes() -> None:
    car = Drive()
    car.drive(3)
    last = car.loop.last(car.now)
    assert last is not None and last.stamp_ns == 3 * FRAME_NS
    config = GateConfig()
    hardest = config.stop.emergency_mps2 / config.command.brake_mps2
    assert last.answer.command.brake == pytest.approx(hardest) and last.answer.command.throttle == 0.0
    assert car.loop.memory.sent.acceleration == -config.stop.emergency_mps2, "it goes on from what was sent"


ROUTE_Y = route_from_points(np.arange(0.0, 200.0), np.full(200, 30.0))
"""Beside the other one, 30 m away."""


def jumped(car: Drive) -> bool:
    return any("jumped" in verdict.about for verdict in car.last.answer.verdicts)


def place(car: Drive, route: Route) -> None:
    """The vehicle is where another route begins, and is told that one."""
    car.loop.on_route(route)
    car.drive_at(route, 5.0)


@pytest.mark.parametrize("metres", [1.2, 1.9, 2.2, 5.0, 30.0])
def test_a_jump_without_a_new_route_is_stopped_for_however_far_it_went(metres: float) -> None:
    """Which of the two places is true nobody knows."""
    car = Drive()
    car.drive(10)
    car.offset = metres
    car.drive(1)
    assert car.brakes() and car.last.answer.state is State.RESPONDING
    car.drive(10)
    assert car.brakes() and car.last.answer.state is State.EMERGENCY_STOP
    car.drive(20)
    assert not any(verdict.rule is Rule.INPUT_INVALID for verdict in car.last.answer.verdicts), "it is believed again"


@pytest.mark.parametrize("metres", [1.3, 30.0])
def test_a_place_that_is_wrong_once_is_braked_for_once(metres: float) -> None:
    car = Drive()
    car.drive(30)
    car.offset = metres
    car.drive(1)
    assert car.brakes() and car.last.answer.state is State.RESPONDING
    car.offset = 0.0
    braked = 0
    for _ in range(30):
        car.drive(1)
        braked += car.brakes()
    assert braked <= 2 and car.last.answer.command == GO, "the way back may be a jump, and brakes take a frame to go"


def test_a_jump_with_a_new_route_is_braked_for_and_begins_in_standby() -> None:
    car = Drive()
    car.drive(10)
    place(car, ROUTE_Y)
    assert car.brakes() and jumped(car) and car.last.answer.state is State.STANDBY
    car.drive_at(ROUTE_Y, 5.25)
    assert car.last.answer.state is State.PASSING and car.last.answer.verdict is not None
    car.drive_at(ROUTE_Y, 5.5)
    assert car.last.answer.command == GO


def test_a_jump_with_a_new_route_breaks_no_rate() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    for k in range(8):
        car.frame()
        car.propose(Command(brake=1.0, steer=-0.05 * k))
    limits, before = GateConfig().command, car.last.answer.memory.sent
    assert before.acceleration == -limits.brake_mps2 and before.steer == pytest.approx(-0.35)
    car.loop.on_route(ROUTE_Y)
    for k in range(2):
        car.drive_at(ROUTE_Y, 5.0 + 0.25 * k)
        sent = car.last.answer.memory.sent
        assert sent.acceleration - before.acceleration <= limits.rising_jerk_mps3 * 0.05
        assert abs(sent.steer - before.steer) <= limits.steer_rate_per_s * 0.05 + 1e-9
        before = sent


def test_a_fresh_vehicle_of_a_simulator_begins_at_once() -> None:
    car = Drive(release=True)
    car.drive(10)
    car.frame()
    car.propose(Command(brake=1.0))
    place(car, ROUTE_Y)
    assert car.last.answer.command == GO and car.last.answer.verdict is None


def test_a_place_that_stands_still_while_the_speed_does_not_is_a_fault() -> None:
    car = Drive()
    car.drive(30)
    assert car.last.answer.command == GO
    car.moves = False
    car.drive(5)
    assert car.brakes() and any("place moved" in verdict.about for verdict in car.last.answer.verdicts)
    car.drive(11)
    assert car.last.answer.state is State.EMERGENCY_STOP


def test_a_route_that_is_said_again_and_again_hides_no_jump() -> None:
    car = Drive()
    for offset in (0.0,) * 10 + (30.0,):
        car.offset = offset
        car.loop.on_route(ROUTE_X)
        car.drive(1)
    assert car.brakes() and any("jumped" in verdict.about for verdict in car.last.answer.verdicts)


def test_a_route_that_is_cut_as_the_vehicle_advances_hides_no_jump() -> None:
    car = Drive()
    for k in range(40):
        x = np.arange(float(k // 2), 150.0 + k // 2)
        car.loop.on_route(route_from_points(x, np.zeros(150)))
        car.offset = 25.0 if k >= 30 else 0.0
        car.drive(1)
        assert jumped(car) == (k == 30), k
        if k == 30:
            assert car.brakes() and car.last.answer.state is State.RESPONDING, "it is no new episode"


def test_a_route_after_a_place_that_is_no_number_is_taken() -> None:
    car = Drive()
    car.drive(5)
    parts = car.parts()
    odometry = parts[ODOMETRY]
    assert isinstance(odometry, OdometryInput)
    car.send(parts[STATUS], parts[OBJECTS], replace(odometry, x=math.nan))
    car.propose()
    car.loop.on_route(ROUTE_Y)
    car.drive_at(ROUTE_Y, 5.0)
    assert car.last.answer.state is State.STANDBY


def test_a_route_that_is_lost_while_driving_stops_for_good() -> None:
    car = Drive()
    car.drive(10)
    car.loop.on_route(None)
    car.drive(15)
    assert car.last.answer.state is State.COMFORTABLE_STOP and car.brakes()
    car.loop.on_route(ROUTE_X)
    car.drive(5)
    assert car.last.answer.state is State.COMFORTABLE_STOP


def test_inputs_that_contradict_each_other_are_braked_for_without_a_route_too() -> None:
    car = Drive()
    car.drive(10)
    car.loop.on_route(None)
    parts = car.parts()
    parts[STATUS] = replace(parts[STATUS], speed=14.0)
    car.send(*parts.values())
    car.propose()
    assert {verdict.rule for verdict in car.last.answer.verdicts} >= {Rule.INPUT_INVALID}


def test_a_part_that_does_not_come_is_told_with_its_own_age() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    car.frame(without=ODOMETRY)
    car.wait(0.14)
    verdict = car.last.answer.verdict
    assert verdict is not None and verdict.limit == InputLimits().incomplete_s
    assert 0.05 + verdict.limit <= verdict.measured < 0.05 + verdict.limit + 0.03, "its last came a frame before"


@pytest.mark.parametrize("stepped", [True, False])
def test_a_silence_is_told_with_the_limit_that_it_broke(stepped: bool) -> None:
    car, limits = Drive(stepped), InputLimits()
    car.drive(10)
    limit = limits.stepped_stale_s if stepped else limits.stale_s
    car.wait(limit + 0.04)
    verdict = car.last.answer.verdict
    assert verdict is not None and verdict.limit == limit < verdict.measured < limit + 0.05


def test_a_world_that_went_on_unheard_is_told_with_the_limit_of_its_own_time() -> None:
    car, limit = Drive(), InputLimits().stale_s
    car.drive(10)
    car.loop.on_world(WorldClock(20, True, True), car.now)
    car.wait(0.02)
    verdict = car.last.answer.verdict
    assert verdict is not None and verdict.rule is Rule.INPUT_STALE and verdict.limit == limit < verdict.measured


def stopped(release: bool) -> Drive:
    car = Drive(release=release)
    car.drive(3)
    for _ in range(14):
        car.frame()
        car.wait(TIMES.wait_s)
    car.speed = 0.0
    car.drive(11)
    assert car.last.answer.state is State.HOLD
    return car


def test_a_release_waits_for_a_look_at_the_vehicle() -> None:
    car = stopped(release=False)
    assert car.loop.last(car.now) is not None
    assert "not seen to stand" in car.loop.release()
    car.drive(5)
    assert car.loop.release() == ""
    assert car.loop.last(car.now) is not None
    assert car.loop.memory.state is State.HOLD, "nobody sees that it stands"
    car.drive(3)
    assert car.last.answer.state is State.PASSING


def test_a_stop_is_left_by_a_release_only() -> None:
    car = stopped(release=False)
    car.drive(5)
    car.loop.on_route(ROUTE_X)
    car.drive(5)
    assert car.last.answer.state is State.HOLD and car.brakes()
    assert car.loop.release() == ""
    car.drive(6)
    assert car.last.answer.state is State.PASSING and car.last.answer.command == GO
    assert "only a vehicle that is held" in car.loop.release()


def test_where_a_simulator_starts_episodes_a_new_route_releases() -> None:
    car = stopped(release=True)
    car.loop.on_route(ROUTE_X)
    car.drive(4)
    assert car.last.answer.state is State.PASSING


def test_a_person_overrides_and_gives_back() -> None:
    car = Drive()
    car.drive(3)
    car.loop.on_override(True)
    car.drive(2)
    assert car.last.answer.state is State.OVERRIDDEN and car.brakes()
    car.loop.on_override(False)
    car.drive(6)
    assert car.last.answer.command == GO


def test_a_person_may_cut_a_way_short_and_gives_back_further_on() -> None:
    """Round a block the route comes back to the same street, 370 m on; he goes straight along that."""
    legs = [(np.arange(0.0, 150.0), 0.0), (150.0, np.arange(0.0, 150.0)), (np.arange(150.0, 40.0, -1.0), 150.0)]
    x, y = (np.concatenate(each) for each in zip(*map(np.broadcast_arrays, *zip(*legs, strict=True)), strict=True))
    block = route_from_points(np.append(x, [40.0] * 250), np.append(y, np.arange(150.0, 400.0)))
    car = Drive(stepped=False)
    car.loop.on_route(block)
    for s in np.arange(5.0, 40.0, 0.25):
        car.drive_at(block, s)
    assert car.last.answer.state is State.PASSING
    car.loop.on_override(True)
    for yaw in np.arange(0.0, 0.5 * np.pi, 0.05):
        car.drive_to(40.0, 0.0, float(yaw), speed=0.0)
    for north in np.arange(0.0, 200.0, 0.25):
        car.drive_to(40.0, float(north), 0.5 * np.pi)
    car.loop.on_override(False)
    for north in np.arange(200.0, 202.0, 0.25):
        car.drive_to(40.0, float(north), 0.5 * np.pi)
    assert car.last.answer.state is State.PASSING


def away(car: Drive, seconds: float) -> None:
    """The gate is deactivated and activated again; meanwhile the world goes on without it."""
    assert car.loop.last(car.now) is not None
    car.now, car.k = car.now + seconds, car.k + round(seconds / 0.05)
    car.x += seconds * car.speed
    car.loop.on_world(WorldClock(car.k, car.stepped, True), car.now)
    car.loop.begin(car.now)


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize("seconds", [0.4, 2.0, 10.0])
def test_a_gate_that_is_activated_again_drives_as_a_new_one(stepped: bool, seconds: float) -> None:
    car = Drive(stepped)
    car.drive(20)
    away(car, seconds)
    car.wait(0.04)
    assert len(car.sent) == 20, "nothing is braked for, and nothing is answered late"
    car.drive(20)
    assert [out.stamp_ns for out in car.sent[20:]] == [k * FRAME_NS for k in range(car.k - 19, car.k + 1)]
    assert not any(verdict.deceleration for out in car.sent[20:] for verdict in out.answer.verdicts)
    assert car.last.answer.state is State.PASSING and car.last.answer.command == GO


@pytest.mark.parametrize("stepped", [True, False])
def test_a_frame_that_waited_when_the_gate_was_deactivated_is_not_answered_later(stepped: bool) -> None:
    car = Drive(stepped)
    car.drive(20)
    car.frame()
    away(car, 5.0)
    car.wait(0.1)
    assert len(car.sent) == 20
    car.propose(k=21)
    assert len(car.sent) == 20


def test_a_gate_that_is_activated_again_goes_on_from_the_command_that_it_ended_with() -> None:
    car = Drive()
    car.drive(5)
    away(car, 1.0)
    car.drive(1)
    command, config = car.last.answer.command, GateConfig()
    rise = config.command.rising_jerk_mps3 * 0.05
    assert command.brake * config.command.brake_mps2 == pytest.approx(config.stop.emergency_mps2 - rise)


def test_a_stop_outlives_a_deactivation_and_a_release_meanwhile_counts() -> None:
    car = stopped(release=False)
    cause = car.loop.memory.cause
    away(car, 5.0)
    car.drive(5)
    assert car.last.answer.state is State.HOLD and car.brakes() and car.loop.memory.cause == cause
    assert car.loop.release() == ""
    away(car, 5.0)
    car.drive(6)
    assert car.last.answer.state is State.PASSING


def test_an_emergency_stop_under_way_goes_on_after_a_deactivation() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    car.wait(1.5)
    away(car, 1.0)
    car.drive(5)
    assert car.last.answer.state is State.EMERGENCY_STOP and car.brakes()


def test_a_person_who_drives_is_still_known_after_a_deactivation() -> None:
    car = Drive()
    car.drive(3)
    car.loop.on_override(True)
    car.drive(1)
    away(car, 1.0)
    car.drive(1)
    assert car.last.answer.state is State.OVERRIDDEN


def test_inputs_that_are_gone_when_the_gate_is_activated_again_are_braked_for() -> None:
    car = Drive(stepped=False)
    car.drive(10)
    away(car, 5.0)
    car.wait(0.3)
    assert car.brakes() and car.last.answer.verdict is not None
    assert car.last.answer.verdict.rule is Rule.INPUT_STALE
    assert car.loop.last(car.now) is not None


@pytest.mark.parametrize("broken", ["project", "step"])
def test_an_error_of_ours_brakes_for_that_frame_and_is_told_and_logged_once(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    car = Drive()
    car.drive(10)
    sound, calls = getattr(gate_loop, broken), 0

    def fails(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2:  # the answer to the error is judged by the same rules
            raise RuntimeError("planted")
        return sound(*args)

    monkeypatch.setattr(gate_loop, broken, fails if broken == "step" else Mock(side_effect=RuntimeError("planted")))
    car.drive(3)
    assert [out.stamp_ns for out in car.sent] == [k * FRAME_NS for k in range(1, 14)]
    verdict = car.last.answer.verdict
    assert car.brakes() and verdict is not None and verdict.rule is Rule.INPUT_INVALID
    assert "internal error, RuntimeError: planted" in verdict.line()
    assert car.last.answer.command.brake == pytest.approx(1.0)
    assert [record.message for record in caplog.records] == ["frame at 0.550 s"]
    monkeypatch.setattr(gate_loop, broken, sound)
    car.drive(6)
    assert car.last.answer.state is State.PASSING and car.last.answer.command == GO


def test_an_error_at_every_frame_becomes_an_emergency_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    car = Drive()
    car.drive(10)
    monkeypatch.setattr(gate_loop, "project", Mock(side_effect=RuntimeError("planted")))
    car.drive(15)
    assert car.last.answer.state is State.EMERGENCY_STOP and len(car.sent) == 25


FAR = 72_000
"""Frames that another clock is ahead by: an hour."""


def stray(car: Drive, name: str = ODOMETRY) -> None:
    """One part comes with the stamp of another clock."""
    car.send(replace(car.at[name], stamp_ns=(car.k + FAR) * FRAME_NS))


@pytest.mark.parametrize("name", [ODOMETRY, OBJECTS, STATUS])
@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize("often", [1, 60])
def test_a_part_of_another_clock_costs_no_frame_its_command(name: str, stepped: bool, often: int) -> None:
    car = Drive(stepped)
    car.drive(10)
    for k in range(60):
        if k < often:
            stray(car, name)
        for part in car.parts().values():
            car.wait(0.002)
            car.send(part)
        if k < often:
            stray(car, name)  # while the frame waits for its proposal
        car.propose()
    assert [out.stamp_ns // FRAME_NS for out in car.sent] == [*range(1, 71)]
    assert all(out.answer.command == GO for out in car.sent)


@pytest.mark.parametrize("name", [ODOMETRY, OBJECTS, STATUS])
@pytest.mark.parametrize("stepped", [True, False])
def test_an_input_whose_stamps_go_back_is_braked_for_and_named(name: str, stepped: bool) -> None:
    car = Drive(stepped)
    car.k = 300
    car.drive(10)
    while len(car.sent) == 10:
        parts = car.parts()
        parts[name] = replace(parts[name], stamp_ns=(car.k - 200) * FRAME_NS)
        car.send(*parts.values())
        car.wait(0.04)
    assert car.brakes() and car.k - 310 <= (4 if stepped else 2), "a stepped world may have gone on from the first"
    assert car.last.answer.verdict is not None and car.last.answer.verdict.about == name


@pytest.mark.parametrize("stepped", [True, False])
def test_a_clock_that_goes_back_is_braked_for_in_one_frame(stepped: bool) -> None:
    car = Drive(stepped)
    car.k = 300
    car.drive(10)
    car.k = 100
    car.drive(1)
    assert len(car.sent) == 11 and car.brakes() and jumped(car)
    car.drive(6)
    assert len(car.sent) == 17 and car.last.answer.command == GO


@pytest.mark.parametrize("missing", [ODOMETRY, OBJECTS, STATUS])
@pytest.mark.parametrize("stepped", [True, False])
def test_a_part_that_is_missing_after_the_clock_jumped_ahead_is_braked_for(missing: str, stepped: bool) -> None:
    car = Drive(stepped)
    car.drive(10)
    car.k += FAR
    car.frame(without=missing)
    car.wait(0.6 if stepped else 0.14)
    assert len(car.sent) == 11 and car.brakes() and car.last.stamp_ns == car.k * FRAME_NS
    assert car.last.answer.verdict is not None and car.last.answer.verdict.about == missing


@pytest.mark.parametrize("missing", [ODOMETRY, OBJECTS, STATUS])
def test_a_missing_part_is_braked_for_among_parts_of_another_clock(missing: str) -> None:
    car = Drive(stepped=False)
    car.drive(10)
    went = car.now
    while len(car.sent) == 10:
        car.frame(without=missing)
        stray(car, STATUS)
        car.wait(0.04)
    assert car.brakes() and car.now - went <= 0.3
    assert car.last.answer.verdict is not None and car.last.answer.verdict.about == missing


def test_cuts_and_brakes_are_counted() -> None:
    car = Drive()
    car.drive(2)
    car.frame()
    car.propose(Command(throttle=1.0))
    assert car.last.intervened and car.loop.counters.limited == 1
    car.frame()
    car.propose(Command(throttle=math.nan))
    assert car.last.intervened and car.loop.counters.braked == 1


def test_a_person_who_drives_is_not_limited() -> None:
    car = Drive()
    car.drive(2)
    car.loop.on_override(True)
    car.drive(5)
    assert car.last.answer.state is State.OVERRIDDEN and car.last.intervened and car.loop.counters.limited == 0


@pytest.mark.parametrize(("wait", "standby"), [(0.0, 0.8), (0.9, 0.8), (math.nan, 0.8)])
def test_waits_that_cannot_be_are_refused(wait: float, standby: float) -> None:
    with pytest.raises(ValueError, match="wait_s is"):
        replace(TIMES, wait_s=wait, standby_wait_s=standby)


def test_every_frame_passes_through_its_stages() -> None:
    car = Drive()
    car.drive(5)
    car.frame()
    car.wait(1.0)
    counts = {name: durations.count for name, durations in car.loop.stages.durations().items()}
    assert counts == {"receive": 6, "gate": 6, "publish": 0}, "publishing is the node's, and a frame waits at most once"
