"""A drive told through Experience gives the rows that collection gives for the same drive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("libsumo")

from adawm_planner.data_types import Action, Carry, Experience, Observation, PolicyOutput
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT
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

GO, BRAKE = ACCELERATION_BINS.index(2.5), ACCELERATION_BINS.index(-2.0)
ENV: dict[str, DrivingEnv] = {}


def pattern(k: int) -> int:
    """What is done at decision k: mostly accelerate, sometimes brake."""
    return BRAKE if k % 7 == 5 else GO


class PatternEngine(FakeEngine):
    """The planner's side of `pattern`."""

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        self.action = pattern(0 if first else int(carry.h[0, 0]) + 1)
        return super().step(carry, observation, first)


class PatternDriver:
    """The collection's side of `pattern`."""

    def reset(self, seed: int) -> None:
        self._k = -1

    def act(self, world: Any, frame: Any) -> int:
        self._k += 1
        return pattern(self._k)


def collected(env: DrivingEnv, seed: int) -> tuple[Episodes, str]:
    driven = drive_episode(Rig(env, {"blind": PatternDriver()}), Job(seed, "blind", label=False), None)
    return driven.episodes, driven.outcome


def told(env: DrivingEnv, seed: int) -> Stretch:
    """The same drive by the planner, its experience cut into episodes."""
    world, gained = env.world, list[Experience]()
    core = PlannerCore(PatternEngine(), InputMonitor(InputLimits(), TOPICS), PlannerConfig())
    core.set_vehicle(world.vehicle_info)
    frame = world.reset(seed)
    core.set_map(world.scene(frame).drivable)
    core.set_route(frame.route)
    for _ in range(1600):
        if frame.collision_id is not None:
            core.note_collision()
        answer = core.answer(inputs_of(frame))
        assert answer.faults == ()
        gained += answer.experiences
        if gained and gained[-1].is_last:
            break
        frame = world.tick(answer.command)
    sent = [capture(as_on_the_wire(one), FakeEngine.digest, (), 1.0) for one in gained]
    [stretch] = split(sent)
    return stretch


def as_on_the_wire(one: Experience) -> Experience:
    """The decision with single-precision numbers."""
    from dataclasses import astuple, replace

    from adawm_planner.data_types import RewardTerms

    reward = RewardTerms(*(float(np.float32(term)) for term in astuple(one.reward)))
    action = Action(one.action.index, float(np.float32(one.action.acceleration)), one.action.probabilities)
    return replace(one, reward=reward, action=action, value=float(np.float32(one.value)))


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_same_drive_gives_the_same_rows(seed: int) -> None:
    env = DrivingEnv("right_turn_moderate")
    theirs, outcome = collected(env, seed)
    stretch = told(env, seed)
    env.close()
    ours = stretch.episodes
    print(seed, outcome, stretch.outcome, len(ours), len(theirs))
    n=min(len(ours),len(theirs))
    for name in ("bev","state","action","reward","first","terminal"):
        a,b=getattr(ours,name)[:n],getattr(theirs,name)[:n]
        bad=[i for i in range(n) if not np.array_equal(a[i],b[i])]
        print(name,len(bad),bad[:5], np.abs(a.astype(float)-b.astype(float)).max())
        if name=="reward": print([(i,a[i],b[i]) for i in bad if abs(a[i]-b[i])>1e-5])
    for i in range(n):
        for j in np.flatnonzero(ours.state[i]!=theirs.state[i]): print(i,j,ours.state[i,j],theirs.state[i,j]) 
    assert 0
