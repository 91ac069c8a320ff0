"""Episodes count up from the first seed and report what evaluation reports."""

from __future__ import annotations

import pytest

from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import track
from adawm_planner.data_types import Command
from adawm_planner.dims import ACCELERATION_BINS
from adawm_planner.evaluation.episode import EpisodeRecorder, EpisodeResult
from adawm_planner.simulator.episodes import Episodes
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World

FIRST_SEED = 5000


@pytest.fixture(scope="module")
def world() -> World:
    return World(load_task("right_turn_moderate"), load_vehicle("nominal"))


def drive(world: World, episodes: Episodes, late: int = 0) -> dict[str, object]:
    """Drive one episode at full throttle; the first `late` frames come without a command in time."""
    frame, control, count = episodes.begin(), ControlConfig(), 0
    while (score := episodes.score()) is None:
        command = track(world.scene(frame), ACCELERATION_BINS[-1], control)
        frame = episodes.tick(command, in_time=count >= late)
        count += 1
    return score


def test_the_score_is_the_recorders(world: World) -> None:
    score = drive(world, Episodes(world, FIRST_SEED, 1))
    recorder, control = EpisodeRecorder(FIRST_SEED), ControlConfig()
    frame = world.reset(FIRST_SEED)
    recorder.add(frame)
    while frame.outcome is None:
        frame = world.tick(track(world.scene(frame), ACCELERATION_BINS[-1], control))
        recorder.add(frame)
    expected = recorder.result().to_json()
    assert score == {**expected, "missed_ticks": 0}
    assert EpisodeResult.from_json({k: v for k, v in score.items() if k != "missed_ticks"}).seed == FIRST_SEED


def test_seeds_count_up_and_end(world: World) -> None:
    episodes = Episodes(world, FIRST_SEED, 2)
    seeds = [drive(world, episodes)["seed"], drive(world, episodes, late=3)["seed"]]
    assert seeds == [FIRST_SEED, FIRST_SEED + 1]
    assert episodes.all_begun


def test_missed_ticks_are_counted_per_episode(world: World) -> None:
    episodes = Episodes(world, FIRST_SEED, 0)
    assert drive(world, episodes, late=3)["missed_ticks"] == 3
    assert drive(world, episodes)["missed_ticks"] == 0
    assert not episodes.all_begun


def test_the_score_is_given_once_and_the_world_may_go_on(world: World) -> None:
    episodes = Episodes(world, FIRST_SEED, 1)
    drive(world, episodes)
    assert episodes.score() is None
    assert episodes.tick(Command(brake=1.0), in_time=True).outcome is not None


def test_a_negative_count_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="-1"):
        Episodes(world, 0, -1)
