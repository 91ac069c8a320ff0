"""The whole gate, step by step: what passes, what brakes, and what a stop does until it is released."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command
from adawm_planner.dims import FRAME_S
from adawm_planner.safety.gate import Answer, Heard, Memory, new_episode, step
from adawm_planner.safety.inputs import Late, Proposal
from adawm_planner.safety.limits import Wanted
from adawm_planner.safety.states import State
from adawm_planner.safety.verdict import RULES, Response, Rule, Verdict
from tests.safety.scenes import BREACHES, THROTTLE, VEHICLE, ego, heard, objects

CONFIG = GateConfig()
LATCH_FRAMES = round(CONFIG.watch.latch_s / FRAME_S)
STANDING_FRAMES = round(CONFIG.stop.standstill_s / FRAME_S) + 1
RISE = CONFIG.stop.comfortable_jerk_mps3 * FRAME_S
FALL = CONFIG.command.falling_jerk_mps3 * FRAME_S
"""Most that comfortable and other braking may grow in a frame [m/s2]."""
DRIVING = Memory(State.PASSING, sent=Wanted(1.0, 0.0))
WALL = objects((8.0, 0.0, 0.0, 0.0))
"""A standing car that is too near at 8 m/s."""


def run(memory: Memory, what: Heard, frames: int) -> list[Answer]:
    answers = []
    for _ in range(frames):
        answers.append(step(what, memory, CONFIG))
        memory = answers[-1].memory
    return answers


def once(what: Heard, memory: Memory = DRIVING) -> Answer:
    return step(what, memory, CONFIG)


def test_a_fine_proposal_passes_unchanged() -> None:
    steered = Command(throttle=0.25, steer=np.float32(0.05).item())
    answer = once(heard(steered))
    assert answer.command == steered and answer.verdict is None and answer.verdicts == ()
    assert answer.state is State.PASSING and answer.memory.sent == Wanted(1.0, steered.steer)
    assert answer.time_to_collision_s == math.inf


def test_the_first_fine_proposal_leaves_standby_at_once() -> None:
    answer = once(heard(), Memory())
    assert answer.state is State.PASSING and answer.command == THROTTLE


def test_standby_brakes_and_never_becomes_a_stop() -> None:
    answers = run(Memory(), heard(None, ego=ego(0.0)), 3 * LATCH_FRAMES)
    assert {answer.state for answer in answers} == {State.STANDBY}
    assert answers[0].command == Command(brake=0.5)
    assert answers[-1].command == Command(brake=0.5)
    assert answers[-1].verdict is not None and answers[-1].verdict.rule is Rule.PROPOSAL_MISSING


def test_a_cut_is_told_and_nothing_more() -> None:
    answer = once(heard(Command(throttle=1.0)), replace(DRIVING, sent=Wanted(3.0, 0.0)))
    assert answer.command == Command(throttle=0.75) and answer.state is State.PASSING
    assert answer.verdict == Verdict(Rule.ACCELERATION, 4.0, 3.0) and answer.verdicts == (answer.verdict,)
    ranged = once(heard(Command(throttle=2.0)), replace(DRIVING, sent=Wanted(3.0, 0.0)))
    assert [verdict.rule for verdict in ranged.verdicts] == [Rule.COMMAND_RANGE, Rule.ACCELERATION]
    assert ranged.verdict is not None and ranged.verdict.rule is Rule.COMMAND_RANGE


def test_danger_brakes_hard_within_the_jerk_limit_and_ends_by_itself() -> None:
    first, second, third = run(DRIVING, heard(objects=WALL), 3)
    fall = CONFIG.command.falling_jerk_mps3 * FRAME_S
    assert first.state is State.RESPONDING and first.verdict is not None
    assert first.verdict.rule is Rule.BRAKING_DISTANCE and first.time_to_collision_s < 0.5
    assert first.command == Wanted(1.0 - fall, 0.0).command(CONFIG.command)
    assert second.command == third.command == Command(brake=1.0)
    answers = run(third.memory, heard(), 8)
    clear = round(CONFIG.path.clear_s / FRAME_S)
    assert [answer.state for answer in answers[: clear - 1]] == [State.RESPONDING] * (clear - 1)
    assert answers[0].command == Command(brake=1.0)
    assert answers[0].verdict is not None and answers[0].verdict.rule is Rule.BRAKING_DISTANCE
    assert {answer.state for answer in answers[clear:]} == {State.PASSING}
    assert answers[-1].command == THROTTLE and answers[-1].verdict is None


def test_danger_never_becomes_a_stop_that_must_be_released() -> None:
    answers = run(DRIVING, heard(objects=WALL), 3 * LATCH_FRAMES)
    assert {answer.state for answer in answers} == {State.RESPONDING}


def test_a_proposal_that_brakes_harder_than_asked_passes() -> None:
    closing = objects((12.0, 0.0, 0.0, 6.0))
    follow = once(heard(objects=closing, ego=ego(10.0)), replace(DRIVING, sent=Wanted(-6.0, 0.0)))
    assert follow.verdict is not None and follow.verdict.rule is Rule.RSS_SAME_DIRECTION
    assert follow.command == Command(brake=0.75)
    harder = once(heard(Command(brake=0.9), objects=closing, ego=ego(10.0)), replace(DRIVING, sent=Wanted(-6.0, 0.0)))
    assert harder.command == Command(brake=np.float32(0.9).item())
    steered = once(heard(Command(throttle=0.2, steer=0.05), objects=closing, ego=ego(10.0)), DRIVING)
    assert steered.command.steer == np.float32(0.05)


def test_the_strictest_of_several_speaks() -> None:
    answer = once(heard(ego=ego(8.0, y=3.0), objects=objects((8.0, 3.0, 0.0, 0.0))))
    rules = {verdict.rule for verdict in answer.verdicts}
    assert {Rule.ROUTE_DEPARTURE, Rule.BRAKING_DISTANCE, Rule.RSS_SAME_DIRECTION} <= rules
    assert answer.verdict is not None and answer.verdict.rule is Rule.BRAKING_DISTANCE


@pytest.mark.parametrize(
    ("what", "rule", "stop"),
    [
        (heard(None), Rule.PROPOSAL_MISSING, State.COMFORTABLE_STOP),
        (heard(proposal=Proposal(THROTTLE, age_s=1.0)), Rule.PROPOSAL_MISSING, State.COMFORTABLE_STOP),
        (heard(proposal=Proposal(THROTTLE, frames=9)), Rule.PROPOSAL_REPEATED, State.COMFORTABLE_STOP),
        (heard(Command(throttle=math.nan)), Rule.PROPOSAL_NOT_FINITE, State.COMFORTABLE_STOP),
        (heard(Command(throttle=0.3, reverse=True)), Rule.PROPOSAL_REVERSE, State.COMFORTABLE_STOP),
        (heard(route=None), Rule.ROUTE_MISSING, State.COMFORTABLE_STOP),
        (heard(ego=ego(8.0, y=4.0)), Rule.ROUTE_DEPARTURE, State.COMFORTABLE_STOP),
        (heard(ego=ego(8.0, yaw=2.0)), Rule.ROUTE_HEADING, State.COMFORTABLE_STOP),
        (heard(ego=None), Rule.INPUT_STALE, State.EMERGENCY_STOP),
        (heard(objects=None), Rule.INPUT_STALE, State.EMERGENCY_STOP),
        (heard(late=(Late("objects", 0.4, 0.1),)), Rule.INPUT_STALE, State.EMERGENCY_STOP),
        (heard(ego=ego(math.nan)), Rule.INPUT_INVALID, State.EMERGENCY_STOP),
        (heard(faults=("odometry jumped",)), Rule.INPUT_INVALID, State.EMERGENCY_STOP),
    ],
)
def test_every_fault_brakes_at_once_and_becomes_a_stop_when_it_lasts(what: Heard, rule: Rule, stop: State) -> None:
    answers = run(DRIVING, what, LATCH_FRAMES + 2)
    assert all(answer.memory.sent.acceleration < 0.0 for answer in answers)
    assert answers[0].memory.sent.acceleration == (-RISE if stop is State.COMFORTABLE_STOP else 1.0 - FALL)
    assert {answer.state for answer in answers[: LATCH_FRAMES - 1]} == {State.RESPONDING}
    last = answers[-1]
    assert last.state is stop
    assert last.verdict is not None and last.verdict.rule is rule and last.memory.cause == last.verdict
    asked = CONFIG.stop.comfortable_mps2 if stop is State.COMFORTABLE_STOP else CONFIG.stop.emergency_mps2
    assert last.memory.sent.acceleration == -asked
    still = run(last.memory, heard(), 3)[-1]
    assert still.state is stop and still.verdict == last.verdict and still.memory.sent.acceleration == -asked


def test_there_is_a_breach_of_every_rule() -> None:
    assert list(BREACHES) == list(Rule)


@pytest.mark.parametrize("rule", list(Rule))
def test_with_the_shipped_limits_nothing_that_breaks_a_rule_is_forwarded(rule: Rule) -> None:
    what = BREACHES[rule]
    answer = once(what)
    assert rule in {verdict.rule for verdict in answer.verdicts}
    assert what.proposal is not None and answer.command != what.proposal.command
    assert answer.verdict is not None and f"{answer.verdict.rule.value}: " in answer.verdict.line()
    if RULES[rule].response is Response.LIMIT:
        assert answer.state is State.PASSING
    else:
        asked = [each for each in run(DRIVING, what, 4) if each.command.throttle > 0.0 or each.command.brake == 0.0]
        assert asked == [], "it braked from the first command on, and never let go"


@pytest.mark.parametrize("rule", [rule for rule in Rule if RULES[rule].response is not Response.LIMIT])
def test_a_vehicle_is_not_let_go_while_a_rule_brakes_and_it_is_told_which(rule: Rule) -> None:
    answer = once(BREACHES[rule], Memory())
    assert answer.state is State.STANDBY and answer.command.brake > 0.0
    assert rule in {verdict.rule for verdict in answer.verdicts} and answer.verdict is not None


def test_a_fault_that_does_not_last_is_forgotten() -> None:
    memory = run(DRIVING, heard(None), LATCH_FRAMES - 1)[-1].memory
    memory = once(heard(), memory).memory
    assert memory.state is State.PASSING and memory.fault_s == 0.0
    assert run(memory, heard(None), LATCH_FRAMES - 1)[-1].state is State.RESPONDING
    assert run(memory, heard(ego=None), LATCH_FRAMES - 1)[-1].state is State.RESPONDING


def test_the_cause_of_a_stop_is_what_began_it_and_goes_with_it() -> None:
    memory = run(DRIVING, heard(None), LATCH_FRAMES - 2)[-1].memory
    assert memory.cause is None and once(heard()).memory.cause is None
    again = once(heard(ego=ego(0.0), release=True), _stopped()).memory
    later = run(replace(again, state=State.PASSING), heard(route=None), LATCH_FRAMES + 2)[-1]
    assert later.verdict is not None and later.verdict.rule is Rule.ROUTE_MISSING


def test_a_stop_that_begins_in_danger_is_for_the_fault_that_lasted() -> None:
    memory = run(DRIVING, heard(None), LATCH_FRAMES)[-1].memory
    latched = step(heard(None, objects=WALL), memory, CONFIG)
    assert latched.state is State.EMERGENCY_STOP
    assert latched.verdict is not None and latched.verdict.rule is Rule.PROPOSAL_MISSING
    assert Rule.BRAKING_DISTANCE in {verdict.rule for verdict in latched.verdicts}, "the danger is told beside it"
    assert once(heard(), latched.memory).verdict == latched.verdict
    both = step(heard(None, ego=ego(8.0, y=3.0), objects=objects((8.0, 3.0, 0.0, 0.0))), memory, CONFIG)
    assert both.verdict is not None and both.verdict.rule is Rule.PROPOSAL_MISSING, "the first of equals"


def test_comfortable_braking_sets_in_gradually_and_stays_where_it_braked_harder() -> None:
    answers = run(DRIVING, heard(None), LATCH_FRAMES + 2)
    asked = [answer.memory.sent.acceleration for answer in answers]
    most = CONFIG.stop.comfortable_mps2
    assert asked == pytest.approx([max(-(k + 1) * RISE, -most) for k in range(len(asked))])
    assert asked[LATCH_FRAMES - 1] == pytest.approx(-most) and answers[LATCH_FRAMES - 2].state is State.RESPONDING
    for before, after in ((-1.0, -1.0 - RISE), (-3.9, -most), (-6.0, -most), (0.0, -RISE)):
        for state in (State.PASSING, State.COMFORTABLE_STOP):
            given = Memory(state, sent=Wanted(before, 0.0))
            assert once(heard(None), given).memory.sent.acceleration == pytest.approx(after)


def test_braking_in_danger_and_standing_by_is_not_gradual() -> None:
    braked = replace(DRIVING, sent=Wanted(-0.4, 0.0))
    assert once(heard(None, ego=None), braked).memory.sent.acceleration == pytest.approx(-0.4 - FALL)
    for state in (State.STANDBY, State.HOLD, State.OVERRIDDEN):
        given = Memory(state, sent=Wanted(0.0, 0.0))
        what = heard(None, overridden=state is State.OVERRIDDEN, ego=ego(0.0 if state is State.HOLD else 8.0))
        assert once(what, given).memory.sent.acceleration == -CONFIG.stop.hold_mps2
    closing = objects((12.0, 0.0, 0.0, 6.0))  # RSS asks for 6 m/s2: just above the comfortable stop's, and at once
    urgent = step(heard(objects=closing, ego=ego(10.0)), braked, CONFIG)
    assert urgent.memory.sent.acceleration == -CONFIG.rss.brake_min_mps2


def flicker(memory: Memory, what: Heard, bad: int, good: int, cycles: int) -> list[Answer]:
    answers: list[Answer] = []
    for _ in range(cycles):
        answers += run(answers[-1].memory if answers else memory, what, bad)
        answers += run(answers[-1].memory, heard(), good)
    return answers


@pytest.mark.parametrize(
    ("what", "stop"),
    [(heard(None), State.COMFORTABLE_STOP), (heard(late=(Late("objects", 0.4, 0.1),)), State.EMERGENCY_STOP)],
)
def test_faults_that_come_and_go_become_a_stop_in_the_end(what: Heard, stop: State) -> None:
    """A fault of 0.2 s in every second: 0.2 s come, 0.08 s are forgiven, so it is the eighth that is one too many."""
    answers = flicker(DRIVING, what, 4, 16, 9)
    stops = [k for k, answer in enumerate(answers) if answer.state is stop]
    assert stops and stops[0] // 20 == 7
    assert {answer.state for answer in answers[: stops[0]]} == {State.PASSING, State.RESPONDING}
    assert answers[-1].state is stop and answers[-1].verdict == answers[stops[0]].verdict


def test_rare_faults_are_forgiven_for_ever() -> None:
    answers = flicker(DRIVING, heard(None), 4, 44, 40)  # 0.2 s in every 2.4 s: a twelfth of the time
    assert not any(answer.state is State.COMFORTABLE_STOP for answer in answers)
    assert max(answer.memory.recurrent_s for answer in answers) == pytest.approx(0.2)
    assert answers[-1].memory.recurrent_s == 0.0


def test_recurrent_faults_count_by_the_clock_of_the_vehicle_and_only_while_it_drives() -> None:
    seen = replace(heard(None), elapsed_s=0.25)
    assert once(seen, replace(DRIVING, recurrent_s=0.7)).memory.recurrent_s == pytest.approx(0.95)
    calm = replace(heard(), elapsed_s=0.5)
    assert once(calm, replace(DRIVING, recurrent_s=0.7)).memory.recurrent_s == pytest.approx(0.65)
    assert once(calm, replace(DRIVING, state=State.RESPONDING, recurrent_s=0.7)).memory.recurrent_s > 0.0
    for state in (State.STANDBY, State.COMFORTABLE_STOP, State.EMERGENCY_STOP, State.HOLD, State.OVERRIDDEN):
        assert once(seen, Memory(state, recurrent_s=0.7)).memory.recurrent_s == 0.0
    exactly = once(replace(seen, elapsed_s=0.5), replace(DRIVING, recurrent_s=0.5)).memory
    assert (exactly.state, exactly.recurrent_s) == (State.RESPONDING, CONFIG.watch.recurrent_s)
    assert once(seen, exactly).state is State.COMFORTABLE_STOP


def test_danger_that_comes_and_goes_is_traffic() -> None:
    answers = flicker(DRIVING, heard(objects=WALL), 10, 10, 20)
    assert {answer.state for answer in answers} == {State.PASSING, State.RESPONDING}
    assert answers[-1].memory.recurrent_s == 0.0


def test_a_gentle_verdict_is_enough_to_brake() -> None:
    braking = replace(DRIVING, sent=Wanted(-0.6, 0.0))
    gentle = replace(CONFIG, stop=replace(CONFIG.stop, comfortable_mps2=0.6))
    weak = step(heard(Command(throttle=0.5), ego=ego(23.0)), braking, gentle)
    assert weak.memory.sent.acceleration == -0.6


def test_blind_a_wheel_turned_far_is_not_turned_back_by_a_speed_nobody_knows() -> None:
    turned = replace(DRIVING, sent=Wanted(0.0, 1.0))
    nowhere = once(heard(late=(Late("odometry", 9.0, 0.1),), ego=ego(15.0)), turned)
    assert nowhere.command.steer == 1.0 and len(nowhere.verdicts) == 2  # the input, and the jerk of the brakes


def test_the_clock_of_the_vehicle_counts_not_the_steps() -> None:
    slow = replace(heard(None), elapsed_s=CONFIG.watch.latch_s)
    first, second = run(DRIVING, slow, 2)
    assert first.state is State.RESPONDING and second.state is State.COMFORTABLE_STOP


def test_a_grave_fault_that_follows_a_gentle_one_counts_from_its_own_start() -> None:
    memory = run(DRIVING, heard(None), LATCH_FRAMES - 2)[-1].memory
    after = run(memory, heard(ego=None), 4)[-1]
    assert after.state is State.EMERGENCY_STOP  # a comfortable stop was due, and danger is not to be waited for


def _stopped(what: Heard | None = None) -> Memory:
    stop = run(DRIVING, what or heard(None), LATCH_FRAMES + 2)[-1].memory
    held = run(stop, heard(ego=ego(0.05)), STANDING_FRAMES)[-1]
    assert held.state is State.HOLD
    return held.memory


def test_danger_during_a_comfortable_stop_makes_it_an_emergency_stop_for_good() -> None:
    stop = run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1]
    assert stop.state is State.COMFORTABLE_STOP
    for what in (heard(objects=WALL), heard(ego=None)):
        urgent = once(what, stop.memory)
        assert urgent.state is State.EMERGENCY_STOP
        assert once(heard(), urgent.memory).state is State.EMERGENCY_STOP
        assert urgent.verdict == stop.verdict  # the cause stays


def test_caution_does_not_escalate_a_comfortable_stop() -> None:
    stop = run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1]
    assert once(heard(ego=ego(8.0, y=3.0)), stop.memory).state is State.COMFORTABLE_STOP


def test_a_stop_ends_in_a_hold_that_only_a_release_ends() -> None:
    memory = _stopped()
    answers = run(memory, heard(ego=ego(0.0)), 20)
    assert {answer.state for answer in answers} == {State.HOLD}
    assert answers[-1].command == Command(brake=0.5)
    released = once(heard(ego=ego(0.0), release=True), memory)
    assert released.state is State.PASSING
    later = run(released.memory, heard(ego=ego(0.0)), 8)[-1]
    assert later.command == THROTTLE


def test_standing_is_slower_than_the_limit_in_either_direction() -> None:
    stop = run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1].memory
    for speed, state in ((0.1, State.COMFORTABLE_STOP), (0.099, State.HOLD), (-0.2, State.COMFORTABLE_STOP)):
        assert run(stop, heard(ego=ego(speed)), STANDING_FRAMES)[-1].state is state


def test_standstill_is_believed_after_a_while_only() -> None:
    """Under full brake wheels lock, and odometry made of them says 0 for some frames."""
    stop = run(DRIVING, heard(None, ego=None), LATCH_FRAMES + 2)[-1].memory
    for _ in range(3):
        locked = run(stop, heard(ego=ego(0.0)), STANDING_FRAMES - 2)
        assert {answer.state for answer in locked} == {State.EMERGENCY_STOP}
        stop = once(heard(ego=ego(14.0)), locked[-1].memory).memory
        assert stop.state is State.EMERGENCY_STOP and stop.sent.acceleration == -CONFIG.stop.emergency_mps2
    assert run(stop, heard(ego=ego(0.0)), STANDING_FRAMES)[-1].state is State.HOLD


def test_one_that_is_held_and_rolls_is_stopped_again_and_not_released() -> None:
    rolling = once(heard(ego=ego(6.0), release=True), _stopped())
    assert rolling.state is State.EMERGENCY_STOP and rolling.command.throttle == 0.0
    assert once(heard(ego=ego(6.0)), rolling.memory).command.brake == 1.0
    blind = once(heard(ego=None), _stopped())
    assert blind.state is State.HOLD  # nobody says that it rolls


@pytest.mark.parametrize("gap", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("size", [(4.5, 1.8), (0.5, 0.5)])
def test_who_stands_right_in_front_is_not_pushed(gap: float, size: tuple[float, float]) -> None:
    """Inch by inch neither, with a planner that wants to go for half a minute."""
    length, width = size
    front = objects((0.5 * VEHICLE.length + gap + 0.5 * length, 0.0, 0.0, 0.0))
    front = replace(front, length=np.array([length]), width=np.array([width]))
    memory, x, speed, acceleration = DRIVING, 0.0, 0.0, 0.0
    for _ in range(600):
        what = heard(Command(throttle=1.0), ego=ego(speed, x=x), objects=front, wheel_speed=speed)
        answer = step(what, memory, CONFIG)
        memory = answer.memory
        acceleration += 0.4 * (answer.memory.sent.acceleration - acceleration)  # brakes and engine take 0.1 s
        faster = max(speed + acceleration * FRAME_S, 0.0)
        x, speed = x + 0.5 * (speed + faster) * FRAME_S, faster
    assert x < gap
    away = run(memory, heard(Command(throttle=0.25), ego=ego(0.0, x=x)), 20)[-1]
    assert away.state is State.PASSING and away.command.throttle > 0.0


def test_a_vehicle_that_rolls_by_its_own_account_does_not_stand() -> None:
    stop = run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1].memory
    for speed, state in ((0.1, State.COMFORTABLE_STOP), (0.099, State.HOLD), (math.nan, State.COMFORTABLE_STOP)):
        assert run(stop, heard(ego=ego(0.0), wheel_speed=speed), STANDING_FRAMES)[-1].state is state


def test_a_release_while_the_fault_lasts_leads_to_standby_not_to_driving() -> None:
    memory = _stopped()
    for frames in (1, 2 * LATCH_FRAMES):
        what = heard(None, ego=ego(0.0), release=frames == 1)
        memory = run(memory, what, frames)[-1].memory
        assert memory.state is State.STANDBY


def test_a_release_while_moving_is_not_taken() -> None:
    stop = run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1].memory
    assert once(heard(release=True), stop).state is State.COMFORTABLE_STOP


def test_a_person_takes_over_from_every_state_and_what_he_leaves_is_standby() -> None:
    for memory in (Memory(), DRIVING, _stopped(), run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1].memory):
        driven = run(memory, heard(None, overridden=True, ego=ego(8.0, y=9.0)), 2 * LATCH_FRAMES)[-1]
        assert driven.state is State.OVERRIDDEN and driven.memory.sent.acceleration < 0.0
        assert once(heard(None), driven.memory).state is State.STANDBY
        assert once(heard(), driven.memory).state is State.PASSING


def test_blind_the_wheel_is_held() -> None:
    turning = replace(DRIVING, sent=Wanted(0.0, -0.3))
    answer = once(heard(Command(throttle=0.2, steer=0.5), ego=None), turning)
    assert answer.command.steer == np.float32(-0.3)
    assert answer.memory.sent.acceleration == -6.0


def test_without_a_proposal_the_gate_keeps_to_the_route() -> None:
    left = once(heard(None, ego=ego(8.0, y=1.0)))
    right = once(heard(None, ego=ego(8.0, y=-1.0)))
    assert left.command.steer > 0.0 > right.command.steer  # positive is right
    assert left.command.steer == pytest.approx(-right.command.steer)
    turning = replace(DRIVING, sent=Wanted(0.0, -0.3))
    assert once(heard(None, ego=ego(4.0), route=None), turning).command.steer == np.float32(-0.3)


@pytest.mark.parametrize("leaving", [{"y": CONFIG.watch.route_m + 0.5}, {"yaw": CONFIG.watch.heading_rad + 0.1}])
def test_a_stop_for_leaving_the_route_is_not_steered_by_who_left_it(leaving: dict[str, float]) -> None:
    away = heard(Command(throttle=0.2, steer=-0.05), ego=ego(8.0, **leaving))  # negative is left, and farther away
    for answer in run(DRIVING, away, 2 * LATCH_FRAMES):
        assert answer.command.steer > 0.0
    assert answer.state is State.COMFORTABLE_STOP


def test_a_stop_goes_along_the_route_whatever_it_is_for() -> None:
    stop = run(DRIVING, heard(None), LATCH_FRAMES + 2)[-1].memory
    assert once(heard(Command(throttle=0.2, steer=-0.05), ego=ego(8.0, y=1.0)), stop).command.steer > 0.0
    assert once(heard(Command(throttle=0.2, steer=-0.05), ego=ego(8.0, y=1.0)), DRIVING).command.steer < 0.0


def test_a_wheel_that_a_person_has_taken_over_is_not_where_it_was_sent_before() -> None:
    """Handed back where the gate is blind, it holds the middle, not what was right at another speed."""
    turned = replace(DRIVING, sent=Wanted(0.0, 0.3))
    far = {"ego": ego(13.9, y=30.0), "faults": ("odometry: too far from its route",)}
    driven = run(turned, heard(None, overridden=True, **far), 20)
    steers = [abs(answer.command.steer) for answer in driven]
    assert steers == sorted(steers, reverse=True) and steers[0] > 0.2 and steers[-1] == 0.0
    assert once(heard(None, **far), driven[-1].memory).command.steer == 0.0


def test_a_release_is_not_taken_by_one_who_does_not_see_the_vehicle_stand() -> None:
    for blind in (heard(ego=None, release=True), heard(ego=ego(0.0), faults=("odometry: stuck",), release=True)):
        assert once(blind, _stopped()).state is State.HOLD


def test_lateral_acceleration_and_speed_are_the_own_ones() -> None:
    fast = once(heard(Command(steer=0.1), ego=ego(19.0)), replace(DRIVING, sent=Wanted(0.0, 0.1)))
    assert fast.verdict is not None and fast.verdict.rule is Rule.LATERAL_ACCELERATION
    over = once(heard(ego=ego(21.0)))
    assert over.verdict is not None and over.verdict.rule is Rule.SPEED and over.state is State.PASSING
    far_over = once(heard(ego=ego(23.0)))
    assert far_over.verdict is not None and far_over.verdict.rule is Rule.OVERSPEED
    assert far_over.state is State.RESPONDING and far_over.memory.sent.acceleration == -RISE


def test_downhill_nothing_is_stopped() -> None:
    """On a slope the body's speed is shorter than the way over ground, and the vehicle speeds up by itself."""
    memory = DRIVING
    ahead = objects((24.0, 0.0, 0.0, 8.0))
    for k in range(200):
        downhill = ego(8.0 * math.cos(0.1), acceleration=9.81 * math.sin(0.1))
        braking = Command(brake=np.float32(0.12).item())
        answer = step(heard(braking, ego=downhill, objects=ahead), memory, CONFIG)
        memory = answer.memory
        assert answer.verdicts == () and answer.command == braking, k


def test_a_new_episode_forgets_all_but_the_last_command_and_a_stop_unless_released() -> None:
    used = replace(DRIVING, fault_s=0.3, danger=Verdict(Rule.BRAKING_DISTANCE, 1.0, 2.0, 8.0))
    assert new_episode(used, release=False) == Memory(sent=used.sent) and used.sent != Memory().sent
    held = _stopped()
    kept = new_episode(held, release=False)
    assert (kept.state, kept.cause, kept.fault_s, kept.sent) == (State.HOLD, held.cause, 0.0, held.sent)
    assert new_episode(used, release=True) == new_episode(held, release=True) == Memory()


def config(**given: Any) -> GateConfig:
    return replace(CONFIG, **{name: replace(getattr(CONFIG, name), **values) for name, values in given.items()})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stop": {"emergency_mps2": 5.0}}, "must be at least path.brake_mps2"),
        ({"path": {"brake_mps2": 4.0}}, "comfortable_mps2 is 4.0, must be below path.brake_mps2 and"),
        ({"rss": {"brake_min_mps2": 3.9}}, "rss.brake_min_mps2, 3.9: it would pass for braking in danger"),
        ({"command": {"brake_mps2": 7.5}}, "full brake cannot give it"),
        ({"stop": {"hold_mps2": 8.1}}, "hold_mps2 is 8.1, must be at most command.brake_mps2, 8.0"),
        ({"command": {"falling_jerk_mps3": 50.0}}, "gate.path.delay_s is 0.2, must be at least 0.230 s"),
        ({"rss": {"response_s": 0.1}}, "gate.rss.response_s is 0.1, must be at least 0.125 s"),
        ({"rss": {"brake_max_mps2": 5.9}}, "gate.rss.brake_max_mps2 is 5.9, must be at least rss.brake_min_mps2, 6.0"),
        ({"path": {"horizon_s": 3.8}}, "horizon_s is 3.8, must be at least 3.87 s"),
        ({"command": {"speed_mps": 25.0}}, "horizon_s is 4.0, must be at least 4.78 s"),
        ({"watch": {"latch_s": math.nan}}, "gate.watch.latch_s is nan, must lie in 0..10 s"),
        ({"rss": {"response_s": 0.0}}, "gate.rss.response_s is 0.0, must lie in 0.05..5 s"),
        ({"path": {"horizon_s": 7.0}}, "gate.path.horizon_s is 7.0, must lie in 0.5..6 s"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(given: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**given)
