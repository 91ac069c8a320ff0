"""The planner scores what it drives as the simulator does, decision by decision."""

from __future__ import annotations

import pytest

pytest.importorskip("libsumo")

from adawm_planner.data_types import Command, Experience, Outcome, RewardTerms
from adawm_planner.runtime.frame_inputs import FrameInputs, ObjectsInput, OdometryInput, StatusInput
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.planner_core import PlannerConfig, PlannerCore
from adawm_planner.simulator.sensors import map_acceleration
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World, WorldFrame
from tests.runtime.fake_engine import GO, FakeEngine
from tests.runtime.inputs import TOPICS

TERMS = ("progress", "speed", "collision", "lateral")


def inputs_of(frame: WorldFrame) -> FrameInputs:
    ego, stamp = frame.ego, round(frame.time * 1e9)
    motion = (ego.x, ego.y, ego.yaw, 1.0, ego.speed, ego.lateral_speed, 0.0, ego.yaw_rate)
    status = StatusInput(stamp, "map", abs(ego.speed), *map_acceleration(ego))
    return FrameInputs(
        stamp, 0.0, OdometryInput(stamp, "map", *motion), status, ObjectsInput(stamp, "map", frame.objects)
    )


def drive(world: World, seed: int) -> tuple[list[Experience], list[RewardTerms], WorldFrame]:
    """One episode; the experience of the planner and the world's own reward between decisions."""
    core = PlannerCore(FakeEngine(GO), InputMonitor(InputLimits(), TOPICS), PlannerConfig())
    core.set_vehicle(world.vehicle_info)
    frame = world.reset(seed)
    core.set_route(frame.route)
    gained, scored, total = [], [], RewardTerms()
    for _ in range(1600):
        if frame.collision_id is not None:
            core.note_collision()
        answer = core.answer(inputs_of(frame))
        assert answer.faults == ()
        total = total + frame.reward
        for one in answer.experiences:
            gained.append(one)
            scored.append(RewardTerms() if one.is_first else total)
            total = RewardTerms()
        if frame.outcome is not None or (gained and gained[-1].is_last):
            break
        frame = world.tick(answer.command)
    if frame.outcome is None:
        # The planner knows the goal from the route alone, to within the length of a frame.
        frame = world.tick(Command(throttle=0.5))
    return gained, scored, frame


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_reward_per_decision_equals_the_worlds(seed: int) -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    gained, scored, last = drive(world, seed)
    world.close()
    assert len(gained) > 5
    for ours, theirs in zip(gained, scored, strict=True):
        for term in TERMS:
            assert getattr(ours.reward, term) == pytest.approx(getattr(theirs, term), abs=1e-9), (ours.sequence, term)
    assert gained[-1].is_last and gained[-1].is_terminal
    assert (gained[-1].reward.destination > 0.0) == (last.outcome is Outcome.SUCCESS)
    assert (gained[-1].reward.collision < 0.0) == (last.outcome is Outcome.COLLISION)
