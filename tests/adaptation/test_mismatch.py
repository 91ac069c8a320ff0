"""Scores: zero where nothing changed, high where something did, and honest about their error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adawm_planner.adaptation import mismatch as module
from adawm_planner.adaptation.improvement import (
    action_values,
    imagined_advantages,
    imagined_step,
    own_advantages,
    pick_states,
    returns_step,
    tilt,
)
from adawm_planner.adaptation.mismatch import NULL_EPISODES, Measure, measure_baseline, measure_mismatch, pair_of
from adawm_planner.adaptation.scores import (
    DIRECT,
    VISITATION,
    Baseline,
    Sample,
    Scales,
    Score,
    Tally,
    read_baseline,
    to_document,
    write_baseline,
)
from adawm_planner.adaptation.visitation import visitation_distance
from adawm_planner.adaptation.visited import Visited, visit
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.data_types import Int64
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.world_model.rssm import most_probable
from tests.adaptation.conftest import random_episodes
from tests.pretraining.remembering import GOING, PAY, VALUE, Remembering, at


def test_filtering_equals_one_step_at_a_time(agent: Agent) -> None:
    replay = Replay(agent.world_model.encoder, random_episodes(5, 0), 0.99)
    visited = visit(agent, replay, burn_in=3)
    rssm, state, row = agent.world_model.rssm, agent.initial(1), 0
    with torch.no_grad():
        for row in range(30):
            first = torch.full((1, 1), float(replay.episodes.first[row]))
            embedding, action = (
                torch.from_numpy(replay.embedding[row])[None],
                torch.from_numpy(replay.action[row])[None],
            )
            kept = 1.0 - first
            h = rssm.advance(type(state)(state.h * kept, state.z * kept), action * kept)
            posterior, prior = rssm.posterior(h, embedding), rssm.prior(h)
            state = type(state)(h, most_probable(posterior))
            expected = 0.5 * (posterior.exp() - prior.exp()).abs().sum(-1).mean()
            assert visited.surprise[row] == pytest.approx(float(expected), abs=1e-5)
            torch.testing.assert_close(visited.state.h[row], h[0], rtol=0, atol=1e-5)
    assert visited.episodes == 5
    assert not visited.scored[np.flatnonzero(replay.episodes.first)].any()


def test_a_score_is_an_excess_with_both_errors() -> None:
    score = Score.above(Sample.of([0.5, 0.7]), Sample.of([0.1, 0.2, 0.3]))
    assert score.value == pytest.approx(0.4)
    assert score.error == pytest.approx(np.hypot(0.1, 0.1 / np.sqrt(3)))
    assert 1.0 < score.freedom < 3.0


def test_a_task_is_named_by_what_the_egos_own_error_does_not_explain(agent: Agent, config: AdaptationConfig) -> None:
    replay = Replay(agent.world_model.encoder, random_episodes(8, 0), 0.99)
    visited, rng = visit(agent, replay, 0), np.random.default_rng(0)
    baseline = {"world": Sample(1.0, 0.5, 8)}

    def task(ego: np.ndarray, slope: float, added: float, episodes: np.ndarray | None = None) -> np.ndarray:
        seen = replace(visited, ego_error=ego, world_error=1.0 + slope * ego + added)
        return Measure(agent, replay, seen, config, rng).cause_task(baseline, episodes)

    calm = 0.1 * rng.random(len(replay))
    home = task(calm, 2.0, 0.0)
    np.testing.assert_allclose(home, 1.0 / 0.5)
    np.testing.assert_allclose(task(10.0 * calm, 5.0, 0.0), home)  # a vehicle: its error is all of the world's
    np.testing.assert_allclose(task(10.0 * calm, 5.0, 0.25), home + 0.5)  # a task as well, in deviations
    np.testing.assert_allclose(task(0.0 * calm, 5.0, 0.25), home + 0.5)  # an ego without any error
    some = np.arange(3)
    np.testing.assert_allclose(task(calm, 2.0, 0.0, some), home)


def test_a_vehicle_is_named_by_what_a_task_does_not_add_to_the_egos_error(
    agent: Agent, config: AdaptationConfig
) -> None:
    replay = Replay(agent.world_model.encoder, random_episodes(8, 0), 0.99)
    visited, every = visit(agent, replay, 0), np.ones(len(replay))
    baseline = {"ego": Sample(1.0, 0.5, 8), "world": Sample(2.0, 4.0, 8)}
    leaking = replace(config, mismatch=replace(config.mismatch, leak_to_ego=0.25))

    def vehicle(ego: float, world: float) -> np.ndarray:
        """Of errors that lie this many source deviations above their means."""
        seen = replace(visited, ego_error=(1.0 + 0.5 * ego) * every, world_error=(2.0 + 4.0 * world) * every)
        return Measure(agent, replay, seen, leaking, np.random.default_rng(0)).cause_vehicle(baseline)

    np.testing.assert_allclose(vehicle(0.0, 0.0), 0.0, atol=1e-9)
    np.testing.assert_allclose(vehicle(3.0, 0.0), 3.0)
    np.testing.assert_allclose(vehicle(1.0, 4.0), 0.0, atol=1e-9)  # a task alone: all of it is the leak
    np.testing.assert_allclose(vehicle(3.0, 4.0), 2.0)


def test_returns_speak_only_of_actions_that_were_carried_out(agent: Agent, config: AdaptationConfig) -> None:
    episodes = random_episodes(8, 0)
    overruled = (np.arange(len(episodes)) % 3 == 0) & ~episodes.first
    replay = Replay(agent.world_model.encoder, replace(episodes, overruled=overruled), 0.99)
    visited = visit(agent, replay, 0)
    chosen = np.flatnonzero(visited.acted)
    np.testing.assert_array_equal(visited.carried_out[chosen], ~overruled[chosen + 1])
    assert not visited.carried_out[visited.ended].any()
    scored = {"carried_out": visited.carried_out, "acted": visited.acted}
    taken, advantage = own_advantages(agent, replay.episodes, visited, config.fit)
    scales = Scales(1.0, float(advantage.std()))
    eta = config.mismatch.temperature * scales.returns
    means = {
        name: visited.by_episode(rows, returns_step(taken[rows], advantage[rows], eta)) for name, rows in scored.items()
    }
    found = Measure(agent, replay, visited, config, np.random.default_rng(0)).policy_returns(scales)
    np.testing.assert_allclose(found, means["carried_out"])
    assert not np.allclose(means["carried_out"], means["acted"])


def test_what_the_gate_did_is_no_error_of_the_model(agent: Agent, config: AdaptationConfig) -> None:
    episodes = random_episodes(8, 0)
    overruled = (np.arange(len(episodes)) % 3 == 0) & ~episodes.first
    replay = Replay(agent.world_model.encoder, replace(episodes, overruled=overruled), 0.99)
    visited = visit(agent, replay, 0)
    error, baseline = np.where(overruled, 9.0, 1.0), {"world": Sample(1.0, 0.5, 8)}
    seen = replace(visited, ego_error=error, world_error=1.0 + error, surprise=error)
    measure = Measure(agent, replay, seen, config, np.random.default_rng(0))
    for score in (measure.ego(), measure.divergence(), measure.world() - 1.0):
        np.testing.assert_allclose(score, 1.0)
    np.testing.assert_allclose(measure.cause_task(baseline), 2.0 / 0.5)
    assert seen.acted[overruled & ~visited.ended].all(), "the policy decided there all the same"


def test_few_episodes_need_a_larger_excess() -> None:
    few, many = (Score.above(Sample(0.35, 0.1 * n**0.5, n), Sample(0.0, 0.0, 100)) for n in (8, 400))
    assert few.z == many.z == pytest.approx(3.5)
    assert many.significant(3.0) and not few.significant(3.0)
    assert few.freedom == pytest.approx(7.0)
    assert not few.significant(2.6) and few.significant(2.5)  # of t with 7 degrees of freedom: 3.55 and 3.34


def test_one_episode_gives_no_score() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Sample.of([0.5, float("nan")])


def test_states_are_picked_from_episodes_that_outlive_the_burn_in(agent: Agent) -> None:
    replay = Replay(agent.world_model.encoder, random_episodes(3, 0), 0.99)
    rows = pick_states(visit(agent, replay, 5), 6, np.random.default_rng(0))
    np.testing.assert_array_equal((np.cumsum(replay.episodes.first) - 1)[rows], [0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match=r"none of the 3 episodes outlived mismatch.burn_in"):
        pick_states(visit(agent, replay, 50), 6, np.random.default_rng(0))


@pytest.mark.parametrize("episodes", [25, 50])
def test_a_baseline_looks_at_as_many_states_of_an_episode_as_a_round(
    agent: Agent, config: AdaptationConfig, episodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its standard error, which every round's score has a part of, is that of one state per episode."""
    asked = []

    def picked(visited: Visited, count: int, rng: np.random.Generator) -> Int64:
        asked.append(count / visited.episodes)
        return pick_states(visited, count, rng)

    monkeypatch.setattr(module, "pick_states", picked)
    config = replace(config, mismatch=replace(config.mismatch, states=4 * NULL_EPISODES))
    source = Replay(agent.world_model.encoder, random_episodes(episodes, 1), 0.99)
    measure_baseline(agent, source, Tally(0, 40), config, "x", {})
    assert asked[-1] == 4.0


def test_each_action_has_the_return_that_follows_it(config: AdaptationConfig) -> None:
    """With a policy that always takes action 1 afterwards, so that the returns can be written down."""
    agent: Any = Remembering(torch.eye(5)[1])
    worth = torch.tensor([1.0, 2.0, 0.5])
    state = at(torch.tensor([3, 0, 2]), worth)
    mismatch = replace(config.mismatch, horizon=1, samples=2)
    one = worth[:, None] * PAY + 0.9 * GOING * VALUE
    torch.testing.assert_close(action_values(agent, state, mismatch, 0.9), one)
    two = worth[:, None] * PAY + 0.9 * GOING * one[:, 1:2]
    torch.testing.assert_close(action_values(agent, state, replace(mismatch, horizon=2), 0.9), two)


def test_the_advantage_of_an_action_is_over_what_the_policy_does(config: AdaptationConfig) -> None:
    policy = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])
    agent: Any = Remembering(policy)
    visited: Any = SimpleNamespace(state=at(torch.tensor([3, 0, 2]), torch.tensor([1.0, 2.0, 0.5])))
    mismatch = replace(config.mismatch, horizon=1, samples=2)
    probabilities, advantage = imagined_advantages(agent, visited, np.array([2, 1]), mismatch, 0.0)
    torch.testing.assert_close(probabilities, policy.expand(2, 5))
    worth = torch.tensor([[0.5], [2.0]])
    torch.testing.assert_close(advantage, worth * (PAY - (policy * PAY).sum()))
    assert advantage.argmax(-1).tolist() == [3, 3] and advantage.argmin(-1).tolist() == [1, 1]


def test_a_good_action_is_raised() -> None:
    policy = torch.tensor([[0.25, 0.25, 0.5]])
    raised = tilt(policy, torch.tensor([[1.0, 0.0, 0.0]]), eta=0.5)
    assert raised[0, 0] > 0.6
    assert raised.sum() == pytest.approx(1.0)
    assert imagined_step(policy, torch.zeros(1, 3), 0.5) == pytest.approx(0.0)
    assert imagined_step(policy, torch.tensor([[1e6, 0.0, 0.0]]), 0.5) == pytest.approx(0.75)


def test_only_the_taken_action_speaks_in_returns() -> None:
    step = returns_step(np.array([0.5, 0.5, 1.0]), np.array([0.0, 100.0, -100.0]), eta=1.0)
    np.testing.assert_allclose(step, [0.0, 0.5, 0.0], atol=1e-6)


def test_own_advantages_follow_the_rewards(agent: Agent, config: AdaptationConfig) -> None:
    replay = Replay(agent.world_model.encoder, random_episodes(6, 3), 0.99)
    visited = visit(agent, replay, 0)
    fit = replace(config.fit, trace=1.0, discount=1.0)
    _, advantage = own_advantages(agent, replay.episodes, visited, fit)
    with torch.no_grad():
        value = agent.critic(visited.state.latent()).numpy()
    for number in range(visited.episodes):
        rows = np.flatnonzero(visited.episode == number)
        end = 0.0 if replay.episodes.terminal[rows[-1]] else value[rows[-1]]
        expected = replay.episodes.reward[rows[1:]].sum() + end - value[rows[0]]
        assert advantage[rows[0]] == pytest.approx(expected, abs=1e-4)
        assert advantage[rows[-1]] == 0.0


def test_visitation_tells_two_sets_apart_only_where_they_differ() -> None:
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(30), 20)
    here, there = (torch.from_numpy(rng.normal(0.0, 1.0, (600, 4))).float() for _ in range(2))
    same = visitation_distance(here, episode, there, episode, folds=3, ridge=1e-2)
    apart = visitation_distance(here, episode, there + 3.0, episode, folds=3, ridge=1e-2)
    assert abs(same.mean) < 4.0 * same.error
    assert apart.mean > 0.95


def test_episodes_are_not_remembered() -> None:
    """Points that tell their episode but not their set: without a cross-fit by episode the distance would be 1."""
    rng = np.random.default_rng(0)
    centres = torch.from_numpy(rng.normal(0.0, 10.0, (40, 60))).float()
    episode = np.repeat(np.arange(20), 10)
    new, old = centres[:20][episode], centres[20:][episode]
    assert abs(visitation_distance(new, episode, old, episode, folds=4, ridge=1e-3).mean) < 0.5


def test_the_same_data_shows_no_mismatch_and_other_data_does(agent: Agent, config: AdaptationConfig) -> None:
    config = replace(config, mismatch=replace(config.mismatch, states=200))
    encoder = agent.world_model.encoder
    source = Replay(encoder, random_episodes(40, 1), 0.99)
    baseline = measure_baseline(agent, source, Tally(0, 40), config, "x", {})
    same = measure_mismatch(
        agent, Replay(encoder, random_episodes(40, 2), 0.99), source, baseline, config, 0, every=True
    )
    other = measure_mismatch(
        agent, Replay(encoder, random_episodes(40, 2, 3.0), 0.99), source, baseline, config, 0, every=True
    )
    assert set(same.scores) == set(baseline.samples) == set(other.scores)
    for name, score in same.scores.items():
        assert abs(score.z) < 4.0, name
    assert other.scores["visit_state"].z > 5.0
    assert other.scores["ego"].z > 5.0
    assert set(other.seconds) == {"filter", *other.scores}


def test_the_pair_follows_the_configuration(config: AdaptationConfig) -> None:
    assert pair_of(config) == ("dynamics_prediction", "policy_imagined")
    own = replace(config, mismatch=replace(config.mismatch, dynamics_evidence="divergence", policy_evidence="returns"))
    assert pair_of(own) == ("dynamics_divergence", "policy_returns")
    paper = replace(config, mismatch=replace(config.mismatch, estimator="visitation"))
    assert pair_of(paper) == ("visit_state_action", "visit_state")


def test_a_baseline_belongs_to_its_model(agent: Agent, config: AdaptationConfig, tmp_path: Path) -> None:
    source = Replay(agent.world_model.encoder, random_episodes(8, 1), 0.99)
    baseline = measure_baseline(agent, source, Tally(1, 8), config, "digest", {"task": "t"})
    write_baseline(tmp_path / "b.json", baseline)
    assert json.loads((tmp_path / "b.json").read_text()) == to_document(baseline)
    assert read_baseline(tmp_path / "b.json", "digest") == baseline
    with pytest.raises(ValueError, match="another model"):
        read_baseline(tmp_path / "b.json", "other")
    with pytest.raises(ValueError, match="adawm baseline"):
        read_baseline(tmp_path / "missing.json", "digest")


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("samples.ego", None, "samples.ego is None, must be a mapping"),
        ("samples.visit_state", None, "samples.visit_state is None, must be a mapping"),
        ("samples.policy_imagined.mean", float("nan"), "samples.policy_imagined.mean is nan, must be a finite number"),
        ("samples.policy_imagined.mean", "0.1", "samples.policy_imagined.mean is '0.1', must be a finite number"),
        ("samples.world.deviation", -0.1, "samples.world.deviation is -0.1, must be a finite number of at least 0"),
        ("samples.world.deviation", 0.0, "must both be above 0"),
        ("samples.cause_task.episodes", 1, "samples.cause_task.episodes is 1, must be a whole number of at least 2"),
        ("samples.cause_task.episodes", 9.5, "samples.cause_task.episodes is 9.5, must be a whole number"),
        ("scales.returns", float("inf"), "scales.returns is inf, must be a finite number of at least 0"),
        ("scales", None, "scales is None, must be a mapping"),
        ("driving", None, "driving is None, must be a mapping"),
        ("driving.episodes", 1, "driving.episodes is 1, must be a whole number of at least 2"),
        ("driving.failed", 9, r"driving.failed is 9, must be a whole number of 0 to driving.episodes \(8\)"),
        ("driving.failed", 0.5, "driving.failed is 0.5, must be a whole number"),
        ("source", [], r"source is \[\], must be a mapping"),
    ],
)
def test_a_damaged_baseline_is_refused_by_file_and_field(tmp_path: Path, entry: str, value: Any, said: str) -> None:
    path = tmp_path / "b.json"
    samples = {name: Sample(1.0, 0.5, 8) for name in (*DIRECT, *VISITATION)}
    write_baseline(path, Baseline("digest", {}, Tally(0, 8), samples, Scales(1.0, 1.0)))
    values = json.loads(path.read_text())
    *way, leaf = entry.split(".")
    part = values
    for key in way:
        part = part[key]
    part[leaf] = value
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"^{path}: not a mismatch baseline \(.*{said}.*run `adawm baseline"):
        read_baseline(path, "digest")
