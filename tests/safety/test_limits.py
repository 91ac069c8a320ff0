"""Ranges and rates: what passes unchanged, what is cut, and by which rule."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.config.gate import CommandLimits
from adawm_planner.data_types import Command, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.safety.limits import Wanted, full_lock_share, into_range, judge_speed, within_limits
from adawm_planner.safety.verdict import Rule, Verdict
from tests.safety.scenes import VEHICLE

LIMITS = CommandLimits()
SLOW = 3.0
IDLE = Wanted(0.0, 0.0)


def cut(
    wanted: Wanted, before: Wanted = IDLE, speed: float = SLOW, vehicle: VehicleInfo | None = VEHICLE
) -> tuple[Wanted, list[Verdict]]:
    return within_limits(wanted, before, speed, vehicle, LIMITS)


@pytest.mark.parametrize("command", [Command(), Command(0.5, -1.0), Command(brake=1.0, steer=1.0), Command(1.0)])
def test_what_is_in_range_passes_as_it_is(command: Command) -> None:
    assert into_range(command) == (command, [])


@pytest.mark.parametrize(
    ("command", "into", "off"),
    [
        (Command(throttle=1.5), Command(throttle=1.0), 0.5),
        (Command(throttle=-0.2), Command(), 0.2),
        (Command(brake=3.0), Command(brake=1.0), 2.0),
        (Command(brake=-0.25), Command(), 0.25),
        (Command(steer=-1.5, throttle=1.25), Command(steer=-1.0, throttle=1.0), 0.5),
        (Command(steer=4.0, hand_brake=True), Command(steer=1.0, hand_brake=True), 3.0),
    ],
)
def test_what_is_out_of_range_is_cut_and_told(command: Command, into: Command, off: float) -> None:
    assert into_range(command) == (into, [Verdict(Rule.COMMAND_RANGE, pytest.approx(off), 0.0)])


def test_pedals_become_accelerations_and_back() -> None:
    assert Wanted.of(Command(throttle=0.5, steer=0.2), LIMITS) == Wanted(2.0, 0.2)
    assert Wanted.of(Command(brake=0.25), LIMITS) == Wanted(-2.0, 0.0)
    assert Wanted.of(Command(throttle=1.0, brake=0.5), LIMITS).acceleration == -4.0
    assert Wanted.of(Command(throttle=1.0, steer=0.5, hand_brake=True), LIMITS) == Wanted(-8.0, 0.5)
    assert Wanted(2.0, 0.25).command(LIMITS) == Command(throttle=0.5, steer=0.25)
    assert Wanted(-2.0, -0.5).command(LIMITS) == Command(brake=0.25, steer=-0.5)


@given(st.floats(0.0, 1.0, width=32), st.floats(-1.0, 1.0, width=32), st.booleans())
def test_a_command_survives_the_way_there_and_back(pedal: float, steer: float, brakes: bool) -> None:
    command = Command(brake=pedal, steer=steer) if brakes else Command(throttle=pedal, steer=steer)
    assert Wanted.of(command, LIMITS).command(LIMITS) == command


def test_commands_are_as_precise_as_their_message() -> None:
    assert Wanted(0.4, 0.1).command(LIMITS) == Command(throttle=0.10000000149011612, steer=0.10000000149011612)


def test_within_every_limit_nothing_is_cut() -> None:
    wanted = Wanted(3.0, 0.1)
    assert cut(wanted, Wanted(-2.0, 0.0)) == (wanted, [])
    assert cut(Wanted(-6.0, -0.1)) == (Wanted(-6.0, -0.1), [])


def test_acceleration_is_cut() -> None:
    assert cut(Wanted(3.5, 0.0)) == (Wanted(3.0, 0.0), [Verdict(Rule.ACCELERATION, 3.5, 3.0)])


def test_above_the_speed_limit_no_throttle_passes_but_brakes_do() -> None:
    assert cut(Wanted(1.0, 0.0), speed=20.5) == (Wanted(0.0, 0.0), [Verdict(Rule.SPEED, 20.5, 20.0)])
    assert cut(Wanted(1.0, 0.0), speed=20.0) == (Wanted(1.0, 0.0), [])
    assert cut(Wanted(-1.0, 0.0), speed=25.0) == (Wanted(-1.0, 0.0), [])
    assert cut(Wanted(0.0, 0.0), speed=25.0) == (Wanted(0.0, 0.0), [])


def test_the_commanded_acceleration_rises_and_falls_at_its_rates() -> None:
    rising, falling = LIMITS.rising_jerk_mps3, LIMITS.falling_jerk_mps3
    up, told = cut(Wanted(3.0, 0.0), Wanted(-4.0, 0.0))
    assert up.acceleration == pytest.approx(-4.0 + rising * 0.05)
    assert told == [Verdict(Rule.JERK, pytest.approx(140.0), rising)]
    down, told = cut(Wanted(-8.0, 0.0), Wanted(3.0, 0.0))
    assert down.acceleration == pytest.approx(3.0 - falling * 0.05)
    assert told == [Verdict(Rule.JERK, pytest.approx(220.0), falling)]
    at_limit = Wanted(-4.0 + rising * 0.05, 0.0)
    assert cut(at_limit, Wanted(-4.0, 0.0)) == (at_limit, [])


def test_steering_turns_at_its_rate() -> None:
    step = LIMITS.steer_rate_per_s * FRAME_S
    assert cut(Wanted(0.0, 0.5)) == (Wanted(0.0, step), [Verdict(Rule.STEER_RATE, pytest.approx(10.0), 2.0)])
    back, told = cut(Wanted(0.0, -0.5), Wanted(0.0, 0.1))
    assert back.steer == pytest.approx(0.1 - step)
    assert told == [Verdict(Rule.STEER_RATE, pytest.approx(12.0), 2.0)]
    assert cut(Wanted(0.0, step)) == (Wanted(0.0, step), [])


def test_lateral_acceleration_is_cut_at_speed() -> None:
    fast = 15.0
    allowed, told = cut(Wanted(0.0, -0.5), Wanted(0.0, -0.08), speed=fast)
    angle = math.atan(LIMITS.lateral_mps2 * VEHICLE.wheelbase / fast**2)
    assert allowed.steer == pytest.approx(-angle / VEHICLE.max_steer)
    wanted = fast**2 * math.tan(0.5 * VEHICLE.max_steer) / VEHICLE.wheelbase
    assert told == [Verdict(Rule.LATERAL_ACCELERATION, pytest.approx(wanted), LIMITS.lateral_mps2)]
    assert cut(Wanted(0.0, 0.06), speed=fast, vehicle=None) == (Wanted(0.0, 0.06), [])
    assert cut(Wanted(0.0, 0.09), speed=fast, vehicle=None) == (Wanted(0.0, 0.09), [])


@given(st.floats(0.0, 70.0))
def test_the_largest_steering_gives_the_lateral_limit_or_full_lock(speed: float) -> None:
    share = full_lock_share(speed, VEHICLE, LIMITS)
    lateral = speed**2 * math.tan(share * VEHICLE.max_steer) / VEHICLE.wheelbase
    assert 0.0 < share <= 1.0
    assert lateral == pytest.approx(LIMITS.lateral_mps2) or (share == 1.0 and lateral < LIMITS.lateral_mps2)


@given(st.floats(-8.0, 12.0), st.floats(-8.0, 4.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(0.0, 70.0))
def test_no_rate_is_ever_exceeded(wanted: float, before: float, steer: float, held: float, speed: float) -> None:
    allowed, _ = cut(Wanted(wanted, steer), Wanted(before, held), speed)
    change = allowed.acceleration - before
    assert -LIMITS.falling_jerk_mps3 * FRAME_S - 1e-9 <= change <= LIMITS.rising_jerk_mps3 * FRAME_S + 1e-9
    assert abs(allowed.steer - held) <= LIMITS.steer_rate_per_s * FRAME_S + 1e-9
    assert -1.0 <= allowed.steer <= 1.0


def test_a_speed_far_above_the_limit_calls_for_brakes() -> None:
    assert judge_speed(22.0, LIMITS, 2.5) == []
    assert judge_speed(22.1, LIMITS, 2.5) == [Verdict(Rule.OVERSPEED, 22.1, 22.0, 2.5)]
    assert judge_speed(20.5, replace(LIMITS, overspeed=1.0), 1.5) == [Verdict(Rule.OVERSPEED, 20.5, 20.0, 1.5)]
