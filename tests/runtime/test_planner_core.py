"""The core drives on trusted frames, brakes on all others, and starts anew where it has to."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adawm_planner.data_types import DrivableMap, Route
from adawm_planner.dims import FRAMES_PER_DECISION, STATE_FEATURES
from adawm_planner.observation.route import route_from_points
from adawm_planner.runtime.frame_inputs import FrameInputs
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.planner_core import Answer, Mode, PlannerConfig, PlannerCore
from tests.runtime.fake_engine import FakeEngine
from tests.runtime.inputs import TOPICS, VEHICLE, frame, odometry, status, straight_route


def make_core(engine: FakeEngine | None = None) -> PlannerCore:
    core = PlannerCore(engine or FakeEngine(), InputMonitor(InputLimits(), TOPICS), PlannerConfig())
    core.set_vehicle(VEHICLE)
    core.set_route(straight_route())
    return core


def drive(core: PlannerCore, first: int, last: int) -> list[Answer]:
    return [core.answer(frame(k)) for k in range(first, last + 1)]


def test_one_decision_per_four_frames_and_a_command_on_each() -> None:
    answers = drive(make_core(), 1, 12)
    assert [answer.decision is not None for answer in answers] == ([True] + [False] * 3) * 3
    assert all(answer.mode is Mode.DRIVING and answer.command.throttle > 0.0 for answer in answers)


@pytest.mark.parametrize("missing", ["route", "vehicle"])
def test_without_route_or_vehicle_it_waits_braking(missing: str) -> None:
    core = PlannerCore(FakeEngine(), InputMonitor(InputLimits(), TOPICS), PlannerConfig())
    if missing != "route":
        core.set_route(straight_route())
    if missing != "vehicle":
        core.set_vehicle(VEHICLE)
    answer = core.answer(frame(1))
    assert answer.mode is Mode.WAITING and answer.command.brake == 0.8 and answer.command.throttle == 0.0
    assert [fault.rule for fault in answer.faults] == ["input_missing"]


def test_fault_brakes_with_the_wheel_held_and_starts_anew() -> None:
    engine = FakeEngine()
    core = make_core(engine)
    before = core.answer(frame(1, odometry=odometry(1, y=0.5)))
    broken = core.answer(frame(2, odometry=odometry(2, x=math.nan)))
    assert before.command.steer != 0.0
    assert (broken.command.steer, broken.command.brake) == (before.command.steer, 0.8)
    assert broken.mode is Mode.BRAKING and broken.decision is None
    after = core.answer(frame(3))
    assert after.mode is Mode.DRIVING and engine.firsts == [True, True]


def test_a_place_that_is_no_number_hides_no_jump_and_is_none() -> None:
    core = make_core()
    drive(core, 1, 6)
    bad = frame(7, odometry=odometry(7, x=math.nan))
    assert core.waits_for(bad) is None
    assert [fault.rule for fault in core.answer(bad).faults] == ["not_finite"]
    assert core.waits_for(frame(8)) is None
    assert core.waits_for(frame(8, odometry=odometry(8, x=60.0))) == "waypoints"


@pytest.mark.parametrize("how", ["route", "jump", "restart"])
def test_new_episode_resets_state_and_phase(how: str) -> None:
    engine = FakeEngine()
    core = make_core(engine)
    drive(core, 1, 6)
    if how == "route":
        core.set_route(straight_route(80))
    number = {"route": 7, "jump": 7, "restart": 0}[how]
    x = 60.0 if how == "jump" else 2.0
    answer = core.answer(frame(number, odometry=odometry(number, x=x)))
    assert answer.decision is not None and answer.decision.first and engine.firsts == [True, False, True]
    assert core.episodes == 2


@pytest.mark.parametrize(
    ("how", "speed", "rerouted"), [("route", 5.0, True), ("route", 0.0, False), ("jump", 5.0, False), ("", 5.0, False)]
)
def test_an_episode_is_cut_by_a_route_under_way_alone(how: str, speed: float, rerouted: bool) -> None:
    core = make_core()
    drive(core, 1, 6)
    if how:
        core.set_route(straight_route(80))
    seen = odometry(7, speed=speed, **({"x": 60.0} if how == "jump" else {}))
    answer = core.answer(frame(7, odometry=seen, status=status(7, speed=speed)))
    assert not answer.faults and answer.rerouted == rerouted


@pytest.mark.parametrize("every", [1, 2, 20, 99])
def test_a_publisher_that_repeats_its_route_begins_nothing_anew(every: int) -> None:
    engine = FakeEngine()
    core = make_core(engine)
    for k in range(1, 300):
        if k % every == 0:
            core.set_route(straight_route())
        core.answer(frame(k))
    assert core.episodes == 1 and engine.firsts.count(True) == 1
    jumped = frame(301, odometry=odometry(301, x=2.0))
    assert core.waits_for(jumped) == "waypoints", "a vehicle that was placed anew may get another route"
    core.set_route(straight_route())
    assert core.waits_for(jumped) is None
    core.answer(jumped)
    assert core.episodes == 2


def test_the_same_route_after_a_while_is_a_new_episode() -> None:
    core = make_core()
    drive(core, 1, 120)
    core.set_route(straight_route())
    drive(core, 121, 122)
    assert core.episodes == 2


def lap_route(laps: int) -> Route:
    """Laps of 400 m around a circle, which begin eastwards at the origin."""
    angle = np.linspace(0.0, 2.0 * math.pi * laps, 400 * laps + 1)
    radius = 200.0 / math.pi
    return route_from_points(radius * np.sin(angle), radius * (1.0 - np.cos(angle)))


def on_lap(route: Route, k: int, s: float) -> FrameInputs:
    """Frame k with the vehicle at arc length s."""
    x, y, yaw = (float(np.interp(s, route.s, values)) for values in (route.x, route.y, route.yaw))
    turned = odometry(k, x=x, y=y, yaw=yaw)
    return frame(k, odometry=turned)


def test_laps_are_driven_in_order_from_the_first() -> None:
    core, route = make_core(), lap_route(2)
    core.set_route(route)
    seen = list[float]()
    for k in range(1, 3180):  # 795 of 800 m
        answer = core.answer(on_lap(route, k, 0.25 * k))
        assert answer.mode is Mode.DRIVING, answer.faults
        if answer.decision is not None:
            seen.append(float(answer.decision.observation.state[STATE_FEATURES.index("distance_to_goal")]))
    goal = np.minimum(route.length - 0.25 * np.arange(1, 3180, FRAMES_PER_DECISION), 60.0) / 60.0
    np.testing.assert_allclose(seen, goal, atol=0.02)
    assert core.episodes == 1


def features(answer: Answer) -> dict[str, float]:
    """What the decision of an answer saw of the ego, by name."""
    assert answer.decision is not None
    return dict(zip(STATE_FEATURES, answer.decision.observation.state.tolist(), strict=True))


def after_a_gap(core: PlannerCore, route: Route, k: int, s: float) -> Answer:
    """The first frame that is driven again after a gap that ends with frame k at arc length s."""
    assert [fault.rule for fault in core.answer(on_lap(route, k, s)).faults] == ["frame_gap"]
    answer = core.answer(on_lap(route, k + 1, s + 0.25))
    assert answer.mode is Mode.DRIVING and answer.decision is not None and answer.decision.first
    return answer


def test_a_vehicle_that_was_driven_far_in_a_gap_is_found_again() -> None:
    core, route = make_core(), lap_route(2)
    core.set_route(route)
    for k in range(1, 21):
        core.answer(on_lap(route, k, 0.25 * k))
    answer = after_a_gap(core, route, 420, 105.0)
    assert features(answer)["lateral_deviation"] == pytest.approx(0.0, abs=0.01)
    (one,) = answer.experiences
    assert one.is_first and not one.is_last


def test_a_gap_within_reach_does_not_lose_the_lap() -> None:
    core, route = make_core(), lap_route(2)
    core.set_route(route)
    for k in range(1, 468):
        core.answer(on_lap(route, k, 1.5 * k))
    answer = after_a_gap(core, route, 667, 745.0)
    assert features(answer)["distance_to_goal"] == pytest.approx((800.0 - 745.25) / 60.0, abs=0.02)


def test_a_vehicle_that_stands_just_behind_the_start_of_a_lap_has_not_arrived() -> None:
    core, route = make_core(), lap_route(1)
    core.set_route(route)
    for k in range(1, 5):
        still = replace(on_lap(route, k, 0.0).odometry, x=-0.8, speed=0.0)
        assert core.answer(frame(k, odometry=still, status=status(k, speed=0.0))).mode is Mode.DRIVING


def test_what_the_gate_changed_is_in_the_next_experience_and_only_there() -> None:
    core = make_core()
    drive(core, 1, 5)
    core.note_intervention("jerk")
    drive(core, 6, 6)
    core.note_intervention("braking_distance")
    drive(core, 7, 7)
    core.note_intervention("")
    later = drive(core, 8, 13)
    found = [one.intervention for answer in later for one in answer.experiences]
    assert found == ["jerk", ""]  # of two rules the first is told


def test_what_the_gate_still_changes_as_an_episode_begins_is_not_told_of_it() -> None:
    core = make_core()
    core.note_intervention("braking_distance")  # of the stop that the last episode ended with
    first = drive(core, 1, 1)
    core.note_intervention("")
    found = [one.intervention for answer in [*first, *drive(core, 2, 9)] for one in answer.experiences]
    assert found == ["", "", ""]


def test_state_goes_on_between_decisions_of_an_episode() -> None:
    core = make_core()
    drive(core, 1, 3 * FRAMES_PER_DECISION)
    assert core.state is not None and core.state.carry.h.item() == 2.0


def test_stands_at_the_end_of_the_route() -> None:
    core = make_core()
    end = odometry(1, x=99.0, speed=0.0)
    answer = core.answer(frame(1, odometry=end, status=status(1, speed=0.0)))
    assert answer.mode is Mode.ARRIVED and answer.command.throttle == 0.0 and answer.command.brake > 0.0
    again = core.answer(frame(2, odometry=odometry(2, x=97.5, speed=0.5), status=status(2, speed=0.5)))
    assert again.command.brake > 0.0, "it does not creep on"
    core.set_route(straight_route(140))
    assert core.answer(frame(3, odometry=odometry(3, x=97.5))).mode is Mode.DRIVING


def test_brakes_on_the_way_to_the_end_whatever_the_policy_says() -> None:
    x, commands = 97.0, []
    answer = make_core().answer(frame(1, odometry=odometry(1, x=x)))
    commands.append(answer.command)
    assert commands[0].brake > 0.0 and commands[0].throttle == 0.0


def test_waits_for_a_route_that_goes_with_a_jump() -> None:
    core = make_core()
    core.answer(frame(1))
    jumped = frame(2, odometry=odometry(2, x=50.0))
    assert core.waits_for(frame(2)) is None
    assert core.waits_for(jumped) == "waypoints"
    core.set_route(straight_route())
    assert core.waits_for(jumped) is None


def test_map_is_used_when_there_is_one() -> None:
    engine = FakeEngine()
    core = make_core(engine)
    core.set_map(DrivableMap(np.full((400, 400), 255, dtype=np.uint8), -100.0, -100.0, 0.5))
    core.answer(frame(1))
    core.set_map(None)
    core.set_route(straight_route(120))
    core.answer(frame(2))
    with_map, without = (int((one.bev[0] > 0).sum()) for one in engine.observations)
    assert with_map > 900 and 0 < without < 200


def test_experience_of_an_episode_is_complete_and_scored() -> None:
    core = make_core()
    first = [one for answer in drive(core, 1, 9) for one in answer.experiences]
    core.set_route(straight_route(120))
    second = core.answer(frame(10)).experiences
    assert [one.is_first for one in first] == [True, False, False]
    assert [one.is_last for one in (*first, *second)] == [False] * 3 + [True, False]
    assert [one.sequence for one in (*first, *second)] == [0, 1, 2, 3, 4]
    assert [one.episode for one in (*first, *second)] == [0, 0, 0, 0, 1]
    assert first[0].reward.total == 0.0
    assert first[1].reward.progress == pytest.approx(0.02 * 4 * 0.25, rel=1e-6)
    assert not second[0].is_terminal and second[1].is_first


def test_collision_ends_the_episode_for_good() -> None:
    core = make_core()
    drive(core, 1, 5)
    core.note_collision()
    (last,) = core.answer(frame(6)).experiences
    assert last.is_last and last.is_terminal and last.reward.collision < -1.0
    assert all(answer.experiences == () for answer in drive(core, 7, 14))


def test_collision_told_with_the_next_episode_belongs_to_the_last() -> None:
    core = make_core()
    drive(core, 1, 5)
    core.note_collision()
    core.set_route(straight_route(120))
    last, first = core.answer(frame(6)).experiences
    assert last.is_terminal and last.reward.collision < -1.0
    assert first.is_first and first.reward.collision == 0.0


def test_goal_ends_the_episode_with_its_reward() -> None:
    core = make_core()
    core.answer(frame(1, odometry=odometry(1, x=79.0)))
    core.answer(frame(2, odometry=odometry(2, x=79.9)))
    (last,) = core.answer(frame(3, odometry=odometry(3, x=80.1))).experiences
    assert last.is_terminal and last.reward.destination > 0.0


def test_a_vehicle_that_left_its_route_begins_one_episode_when_it_is_back_on_the_lane() -> None:
    engine = FakeEngine()
    core = make_core(engine)
    way = [*np.linspace(0.0, 10.8, 55), *np.linspace(10.6, 0.0, 54), *[0.0] * 41]  # m off the route
    answers = [core.answer(frame(k, odometry=odometry(k, y=y))) for k, y in enumerate(way, start=1)]
    assert {fault.rule for answer in answers for fault in answer.faults} == {"contradictory"}
    made = [one for answer in answers for one in answer.experiences]
    assert [one.is_terminal for one in made if one.is_last] == [True], "it leaves the lane once"
    assert [one.episode for one in made if one.is_first] == [0, 1] and core.episodes == 2
    again = next(k for k, answer in enumerate(answers) for one in answer.experiences if one.episode == 1)
    assert abs(way[again]) <= 3.0 < abs(way[again - 1])
    assert len([one for one in made if one.episode == 1]) == len(range(again, len(way), FRAMES_PER_DECISION))
    assert engine.firsts.count(True) == 3, "at the start, within reach of the route, and on the lane"


def test_after_a_fault_behind_the_goal_no_episode_begins() -> None:
    core = make_core()
    core.answer(frame(1, odometry=odometry(1, x=81.0)))
    core.answer(frame(2, odometry=odometry(2, x=math.nan)))
    answer = core.answer(frame(3, odometry=odometry(3, x=81.5)))
    assert answer.mode is Mode.DRIVING and answer.experiences == () and core.episodes == 0


@pytest.mark.parametrize("brake", [0.0, -0.1, 1.1, math.nan])
def test_config_refuses_a_brake_that_does_not_brake(brake: float) -> None:
    with pytest.raises(ValueError, match="fault_brake"):
        PlannerConfig(fault_brake=brake)
