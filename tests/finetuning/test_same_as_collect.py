"""A drive told through Experience gives the rows that collection gives for the same drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("libsumo")

from adawm_planner.config.finetuning import SplitConfig
from adawm_planner.data_types import Carry, Experience, Observation, PolicyOutput, RewardTerms
from adawm_planner.dims import ACCELERATION_BINS
from adawm_planner.finetuning.captured import capture
from adawm_planner.finetuning.episodes import Stretch, split
from adawm_planner.pretraining.collect import Job, Rig, drive_episode
from adawm_planner.pretraining.dataset import Episodes
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.planner_core import PlannerConfig, PlannerCore
from adawm_planner.simulator.env import DrivingEnv
from tests.runtime.fake_engine import FakeEngine
from tests.runtime.inputs import TOPICS
from tests.runtime.test_experience_reward import inputs_of

STOP, BRAKE, GO = (ACCELERATION_BINS.index(target) for target in (-4.0, -2.0, 2.5))
Pattern = Callable[[int], int]


def careless(k: int) -> int:
    """What is done at decision k: mostly accelerate, sometimes brake."""
    return BRAKE if k % 7 == 5 else GO


def stand(k: int) -> int:
    """Never move, until the time is up."""
    return STOP


class PatternEngine(FakeEngine):
    """The planner's side of a pattern."""

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self._pattern = pattern

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        self.action = self._pattern(0 if first else int(carry.h[0, 0]) + 1)
        return super().step(carry, observation, first)


class PatternDriver:
    """The collection's side of a pattern."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern

    def reset(self, seed: int) -> None:
        self._k = -1

    def act(self, world: Any, frame: Any) -> int:
        self._k += 1
        return self._pattern(self._k)


def collected(env: DrivingEnv, seed: int, pattern: Pattern) -> tuple[Episodes, str]:
    driver = PatternDriver(pattern)
    driven = drive_episode(Rig(env, {"expert": driver, "blind": driver}), Job(seed, "blind", label=False), None)
    return driven.episodes, driven.outcome


def told(env: DrivingEnv, seed: int, pattern: Pattern) -> list[Stretch]:
    """The same drive by the planner, its experience cut into episodes."""
    world, gained = env.world, list[Experience]()
    core = PlannerCore(PatternEngine(pattern), InputMonitor(InputLimits(), TOPICS), PlannerConfig())
    core.set_vehicle(world.vehicle_info)
    frame = world.reset(seed)
    core.set_map(world.scene(frame).drivable)
    core.set_route(frame.route)
    while True:
        if frame.collision_id is not None:
            core.note_collision()
        answer = core.answer(inputs_of(frame))
        assert answer.faults == ()
        gained += answer.experiences
        if frame.outcome is not None:
            break
        frame = world.tick(answer.command)
    gained += core.brake(()).experiences  # what a new episode, or a fault, makes of one that is still open
    ones = (capture(as_on_the_wire(one), FakeEngine.digest, 1.0) for one in gained)
    return split(ones, SplitConfig(held_out=0.0))


def as_on_the_wire(one: Experience) -> Experience:
    """The decision with single-precision numbers."""
    reward = RewardTerms(*(float(np.float32(term)) for term in astuple(one.reward)))
    action = replace(one.action, acceleration=float(np.float32(one.action.acceleration)))
    return replace(one, reward=reward, action=action, value=float(np.float32(one.value)))


@pytest.mark.parametrize(
    ("task", "seed", "pattern", "outcome"),
    [
        ("right_turn_moderate", 0, careless, "collision"),
        ("right_turn_moderate", 1, careless, "success"),
        ("right_turn_moderate", 0, stand, "timeout"),
        ("left_turn_dense", 1, careless, "collision"),
        ("roundabout_moderate", 1, careless, "success"),
    ],
)
def test_the_same_drive_gives_the_same_rows(task: str, seed: int, pattern: Pattern, outcome: str) -> None:
    env = DrivingEnv(task)
    theirs, how = collected(env, seed, pattern)
    [stretch] = told(env, seed, pattern)
    env.close()
    ours = stretch.episodes
    assert how == outcome and stretch.complete
    # The planner is not told why an episode of its is cut; to the one who learns, both are ends without a reason.
    assert stretch.outcome == ("cut" if outcome == "timeout" else outcome)
    assert len(ours) == len(theirs)
    for name in ("bev", "state", "action", "label", "first", "terminal", "held_out"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    # The terms cross the wire one by one in single precision: their sum differs in the last bit.
    np.testing.assert_allclose(ours.reward, theirs.reward, rtol=0.0, atol=2e-7)
