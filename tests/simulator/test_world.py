"""The world: bit-identical by seed, honest about how episodes end, and open to users' own files."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium
import libsumo
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env

from adawm_planner.config.presets import load_pretraining
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.data_types import Command, Outcome
from adawm_planner.dims import ACTION_COUNT, FRAME_S
from adawm_planner.simulator.drivers import make_driver
from adawm_planner.simulator.env import DrivingEnv
from adawm_planner.simulator.network import NETS_DIR
from adawm_planner.simulator.tasks import BUILT_IN_TASKS, TASKS_DIR, load_task, load_vehicle
from adawm_planner.simulator.world import World
from tests.patience import HANG_S


def trace(seed: int, task: str = "right_turn_moderate", env: DrivingEnv | None = None) -> bytes:
    """Everything an episode of 40 random decisions shows, as bytes."""
    env = env or DrivingEnv(task)
    rng = np.random.default_rng(seed)
    seen, _ = env.reset(seed=seed)
    parts = [seen["bev"].tobytes(), seen["state"].tobytes()]
    for _ in range(40):
        seen, reward, ended, cut, _ = env.step(int(rng.integers(ACTION_COUNT)))
        parts += [seen["bev"].tobytes(), seen["state"].tobytes(), np.float64(reward).tobytes()]
        parts += [env.frame.objects.x.tobytes(), env.frame.objects.yaw.tobytes()]
        if ended or cut:
            break
    return b"".join(parts)


def _trace_elsewhere(seed: int, queue: multiprocessing.Queue) -> None:
    queue.put(trace(seed))


def test_same_seed_same_episode_bit_for_bit_also_after_others_and_elsewhere() -> None:
    env = DrivingEnv("right_turn_moderate")
    first = trace(7, env=env)
    assert trace(8, env=env) != first
    assert trace(7, env=env) == first
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_trace_elsewhere, args=(7, queue))
    child.start()
    assert queue.get(timeout=HANG_S) == first
    child.join()


def test_episodes_without_a_seed_are_of_the_training_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    env, drawn = DrivingEnv("right_turn_moderate"), []
    frame = env.world.reset(0)
    monkeypatch.setattr(env.world, "reset", lambda seed, at_line: drawn.append(seed) or frame)
    env.reset(seed=1)
    for _ in range(1000):
        env.reset()
    low, high = load_pretraining().collection.train_seeds
    assert drawn[0] == 1 and len(set(drawn)) > 500
    assert min(drawn) >= low and max(drawn) < high <= EVALUATION_SEED


@pytest.mark.parametrize("seed", [2**31 - 1, 2**31, 2**32 - 1])
def test_seeds_of_32_bits_are_episodes_of_their_own(seed: int) -> None:
    env = DrivingEnv("right_turn_moderate")
    assert trace(seed, env=env) == trace(seed, env=env) != trace(seed - 2**31 if seed >= 2**31 else 0, env=env)


def test_an_episode_times_out_at_the_same_frame_whatever_ran_before() -> None:
    task = load_task("right_turn_moderate")
    world = World(replace(task, limits=replace(task.limits, time=2.0)), load_vehicle("nominal"))

    def frames(seed: int) -> int:
        frame, count = world.reset(seed), 0
        while frame.outcome is None:
            frame, count = world.tick(Command(brake=1.0)), count + 1
        assert frame.outcome is Outcome.TIMEOUT
        return count

    assert [frames(seed) for seed in range(25)] == [40] * 25


@pytest.mark.parametrize("name", BUILT_IN_TASKS)
def test_the_expert_reaches_the_goal(name: str) -> None:
    env, driver = DrivingEnv(name), make_driver("expert")
    env.reset(seed=11)
    driver.reset(11)
    ended = cut = False
    while not (ended or cut):
        _, _, ended, cut, info = env.step(driver.act(env.world, env.frame))
    assert info["outcome"] == "success"
    assert env.frame.reward.destination == env.world.task.reward.destination


@pytest.mark.parametrize("driver_name", ["blind", "random"])
def test_drivers_that_do_not_look_crash_sometimes(driver_name: str) -> None:
    env, driver = DrivingEnv("right_turn_moderate"), make_driver(driver_name)
    outcomes = set()
    for seed in range(8):
        env.reset(seed=seed)
        driver.reset(seed)
        ended = cut = False
        while not (ended or cut):
            _, reward, ended, cut, info = env.step(driver.act(env.world, env.frame))
        outcomes.add(info["outcome"])
        assert (info["outcome"] == "collision") == (reward < -1.0)
    assert "collision" in outcomes


def test_standing_still_times_out() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    frame = world.reset(3)
    frames = 1
    while frame.outcome is None:
        frame = world.tick(Command(brake=1.0))
        frames += 1
    assert frame.outcome is Outcome.TIMEOUT
    assert frames == pytest.approx(80.0 / 0.05, abs=1)


def test_leaving_the_lane_ends_the_episode() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    frame = world.reset(3)
    while frame.outcome is None:
        frame = world.tick(Command(throttle=0.3, steer=1.0))
    assert frame.outcome is Outcome.OFF_LANE


def test_others_turn_as_their_headings_do() -> None:
    world = World(load_task("right_turn_dense"), load_vehicle("nominal"))
    for seed in (3, 4):
        frame, before, fastest = world.reset(seed), dict[int, float](), 0.0
        assert not frame.objects.yaw_rate.any()
        for _ in range(200):
            o = frame.objects
            turned = [yaw - before.get(each, yaw) for each, yaw in zip(o.id.tolist(), o.yaw.tolist(), strict=True)]
            np.testing.assert_allclose(np.sin(FRAME_S * o.yaw_rate), np.sin(turned), atol=1e-12)
            before, fastest = dict(zip(o.id.tolist(), o.yaw.tolist(), strict=True)), max(fastest, *np.abs(o.yaw_rate))
            frame = world.tick(Command(brake=1.0))
        assert 0.2 < fastest < 3.0


def test_time_and_frame_count_never_go_back() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    frames = [world.reset(1), world.tick(Command()), world.reset(2), world.tick(Command())]
    assert [one.frame for one in frames] == [1, 2, 3, 4]
    assert [round(one.time, 3) for one in frames] == [0.05, 0.1, 0.15, 0.2]


def test_starting_at_the_line_means_standing_before_the_junction() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    frame = world.reset(5, at_line=True)
    assert frame.ego.speed == 0.0
    assert world.stop_line_s - 0.5 * world.vehicle.length == pytest.approx(3.0, abs=0.1)


def test_a_teleport_and_a_new_goal_change_route_and_place() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    world.reset(5)
    before = world.route
    route = world.set_goal(-80.0, 1.75)
    assert route is not before and world.route is route
    assert np.hypot(route.x[-1] + 100.0, route.y[-1] - 1.75) < 3.0
    world.set_ego_pose(1.75, -100.0, np.pi / 2)
    assert world.tick(Command()).ego.y == pytest.approx(-100.0, abs=0.6)
    with pytest.raises(ValueError, match="no route leads|lies behind"):
        world.set_goal(1.75, -150.0)


@pytest.mark.parametrize("name", BUILT_IN_TASKS)
def test_planning_anew_to_the_goal_leaves_it_where_it_is(name: str) -> None:
    world = World(load_task(name), load_vehicle("nominal"))
    frame = world.reset(5)
    assert np.hypot(*np.subtract(world.goal, (world.route.x[-1], world.route.y[-1]))) > 10.0
    before, left = world.goal, frame.goal_s - frame.route_s
    world.set_goal(*before)
    frame = world.tick(Command())
    assert np.hypot(*np.subtract(world.goal, before)) < 0.5
    assert frame.goal_s - frame.route_s == pytest.approx(left, abs=2.0)


@pytest.mark.parametrize("name", BUILT_IN_TASKS)
def test_the_registered_environments_pass_gymnasiums_own_check(name: str) -> None:
    words = "".join(word.capitalize() for word in name.split("_"))
    check_env(gymnasium.make(f"adawm_planner.simulator:AdaWM/{words}-v0").unwrapped, skip_render_check=True)


FAST_FLOW = {
    "route": ["west_in", "east_out"],
    "vehicles": [1, 2],
    "headway_m": [5, 9],
    "gap_s": [2, 3],
    "speed": [12, 14.2],
}


def test_a_task_with_its_own_net_works_from_any_folder(tmp_path: Path) -> None:
    shutil.copytree(NETS_DIR / "intersection", tmp_path / "my_net")
    content = yaml.safe_load((TASKS_DIR / "right_turn_moderate.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, "name": "mine", "map": "my_net"}))
    env = DrivingEnv(str(tmp_path / "mine.yaml"))
    env.reset(seed=1)
    assert env.world.task.name == "mine" and len(env.frame.objects) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"map": "nowhere"}, "does not exist"),
        (
            {"ego": {"route": ["south_in", "moon"], "start_m": [30, 60], "start_speed": [4, 8], "goal_m": 40}},
            "task right_turn_moderate: ego.route: .* has no connection",
        ),
        (
            {"ego": {"route": ["sea", "moon"], "start_m": [30, 60], "start_speed": [4, 8], "goal_m": 40}},
            "task right_turn_moderate: ego.route: the map has no edge 'sea'; it has .*south_in",
        ),
        (
            {"ego": {"route": ["south_in", "east_out"], "start_m": [30, 60], "start_speed": [4, 8], "goal_m": 9000}},
            "task right_turn_moderate: ego.goal_m is 9000, edge 'east_out' has room for 228.5 m",
        ),
        (
            {"ego": {"route": ["south_in", "east_out"], "start_m": [3000, 6000], "start_speed": [4, 8], "goal_m": 40}},
            r"task right_turn_moderate: ego.start_m is \[3000, 6000\], edge 'south_in' has 149.5 m",
        ),
        (
            {"ego": {"route": ["south_in"], "start_m": [0, 60], "start_speed": [4, 8], "goal_m": 0}},
            r"task right_turn_moderate: ego.start_m is \[0, 60\], which leaves .* start_m must be more than 1.0 m",
        ),
        (
            {"flows": [FAST_FLOW]},
            r"flows\[0\].speed is \[12, 14.2\] m/s, lane 0 of edge 'west_in' allows 13.9 m/s; lower the speed",
        ),
    ],
)
def test_a_task_that_does_not_fit_its_net_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    content = yaml.safe_load((TASKS_DIR / "right_turn_moderate.yaml").read_text())
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(ValueError, match=words):
        World(load_task(str(path)), load_vehicle("nominal"))


def test_a_flow_as_fast_as_its_lane_allows_is_taken() -> None:
    task = load_task("right_turn_moderate")
    flows = tuple(replace(flow, speed=(12.0, 13.9)) for flow in task.flows)
    world = World(replace(task, flows=flows), load_vehicle("nominal"))
    frame = world.reset(5000)
    while frame.outcome is None:
        frame = world.tick(Command(brake=1.0))
    assert frame.outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("kind", [libsumo.TraCIException, libsumo.FatalTraCIError])
def test_errors_of_sumo_name_the_task_and_a_lost_sumo_is_not_started_again(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:  # in the first step, before the ego is moved: only then other tests can go on with SUMO
        raise kind("it is\nbroken.")

    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    monkeypatch.setattr("adawm_planner.simulator.world._sumo_is_lost", False)
    monkeypatch.setattr(libsumo, "simulationStep", failing)
    with pytest.raises(ValueError, match="^task right_turn_moderate: SUMO cannot go on: it is broken. Correct"):
        world.reset(0)
    with pytest.raises(ValueError, match="cannot be started in it again; start a new process"):
        world.reset(0)
