"""The gate: an update that changes nothing passes rarely, a better one passes, a worse one never does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import yaml

from adawm_planner.adaptation.fit import fit_dynamics
from adawm_planner.adaptation.select_part import Part
from adawm_planner.config.finetuning import UpdateGateConfig
from adawm_planner.finetuning.gate import GateReport, Trial, better, judge, lower_bound, no_worse, sign_flip
from adawm_planner.finetuning.material import HeldOut
from adawm_planner.finetuning.round import Workshop
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import Episodes
from adawm_planner.world_model.rssm import State
from tests.adaptation.conftest import random_episodes
from tests.finetuning.workplace import CONFIG, Workplace

TRIALS = 4000


@pytest.fixture(scope="module")
def workshop(shared_place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    place = replace(shared_place, state_dir=tmp_path_factory.mktemp("gate"))
    return Workshop(place.settings())


def held_out(episodes: Episodes) -> HeldOut:
    return HeldOut(episodes, np.arange(int(episodes.first.sum())))


def shaken(agent: Agent, part: str, size: float, seed: int) -> Agent:
    """The agent with noise on the weights of one part: worse where the noise is large, and nothing where it is tiny."""
    other, rng = copy.deepcopy(agent), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.startswith(part) and not name.startswith("world_model.encoder"):
                parameter += size * parameter.std(correction=0) * torch.randn(parameter.shape, generator=rng)
    return other


def trial(workshop: Workshop, part: Part, before: Agent, after: Agent, seed: int = 0, **gate: object) -> Trial:
    return Trial(part, before, after, workshop.baseline, CONFIG, UpdateGateConfig(**gate), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("episodes", [5, 8, 20])
@pytest.mark.parametrize("shape", ["normal", "heavy", "few", "coin"])
def test_differences_of_nothing_pass_in_at_most_one_of_twenty(shape: str, episodes: int) -> None:
    """Before and after can be exchanged: differences are symmetric, whatever else they are."""
    rng = np.random.default_rng(episodes)
    sizes = {
        "normal": rng.normal(size=(TRIALS, episodes)),
        "heavy": rng.standard_t(2, (TRIALS, episodes)),
        "few": rng.normal(size=(TRIALS, episodes)) * (rng.random((TRIALS, episodes)) < 0.3),
        "coin": rng.choice([-1.0, 1.0], (TRIALS, episodes)) * (1.0 + 0.01 * rng.random((TRIALS, episodes))),
    }[shape]
    passed = np.mean([better("x", row, 0.0, 0.95).passed for row in sizes])
    limit = 0.05 + 3.0 * np.sqrt(0.05 * 0.95 / TRIALS)
    assert passed <= limit, passed


def test_sign_flips_are_counted_exactly() -> None:
    assert sign_flip(np.ones(5)) == 1 / 32 and sign_flip(-np.ones(5)) == 1.0
    assert sign_flip(np.array([1.0, 2.0])) == 1 / 4 and sign_flip(np.zeros(6)) == 1.0
    heads = np.array([1.0] * 14 + [-1.0] * 6)  # of 20 coins: Student's test is fooled by them, P(14 and more) is 5.8 %
    assert lower_bound(heads, 0.95) > 0.0 and not better("x", heads, 0.0, 0.95).passed


def test_a_clear_gain_passes_and_a_clear_loss_never() -> None:
    rng = np.random.default_rng(0)
    gains = [better("x", rng.normal(1.0, 1.0, 20), 0.0, 0.95).passed for _ in range(200)]
    losses = [better("x", rng.normal(-1.0, 1.0, 20), 0.0, 0.95).passed for _ in range(200)]
    assert np.mean(gains) > 0.95 and not any(losses)
    worse = [no_worse("x", rng.normal(-1.0, 1.0, 20), 0.5, 0.95).passed for _ in range(200)]
    same = [no_worse("x", rng.normal(0.0, 1.0, 20), 1.0, 0.95).passed for _ in range(200)]
    assert np.mean(worse) < 0.05 and np.mean(same) > 0.95


@pytest.mark.parametrize("gain", [[], [1.0], [np.nan] * 5, [np.inf] * 5, [0.0] * 5])
def test_what_cannot_be_computed_and_what_is_nothing_does_not_pass(gain: list[float]) -> None:
    check = better("x", np.array(gain), 0.0, 0.95)
    assert not check.passed and np.isfinite(check.measured)
    assert lower_bound(np.array([0.5, 0.5]), 0.95) == 0.5


@pytest.mark.parametrize("part", [Part.DYNAMICS, Part.POLICY])
def test_an_update_that_changes_nothing_passes_in_at_most_one_of_twenty(workshop: Workshop, part: Part) -> None:
    """The real gate, with two agents that differ by noise of the same size: neither is the better one."""
    module, count = {Part.DYNAMICS: "world_model", Part.POLICY: "actor"}[part], 60
    passed = 0
    for seed in range(count):
        before, after = (shaken(workshop.agent, module, 0.02, 2 * seed + k) for k in (0, 1))
        driving = held_out(random_episodes(8, seed=1000 + seed))
        if part is Part.POLICY:
            after.critic.load_state_dict(before.critic.state_dict())
        passed += judge(trial(workshop, part, before, after, seed, states=4, samples=4), driving, workshop.home).passed
    assert passed <= 0.05 * count + 3.0 * np.sqrt(0.05 * 0.95 * count), passed
    same = judge(trial(workshop, part, workshop.agent, workshop.agent), held_out(random_episodes(8, 7)), workshop.home)
    assert not same.passed and same.checks[0].measured == 0.0


@pytest.fixture(scope="module")
def repaired(workshop: Workshop) -> Agent:
    """The base model after a dynamics update for other driving, of recurrent model and heads together."""
    student, replay = workshop.student(), copy.copy(workshop.source)
    replay.add(random_episodes(40, 5, level=1.0))
    replay.newest = len(replay) - len(workshop.source)
    fit_dynamics(student, replay, workshop.config, workshop.config.fit.updates, seed=1)
    return student.merged()


def forgetful(agent: Agent, seed: int, size: float = 1.0) -> Agent:
    """The agent with a head that always expects something else."""
    bad = copy.deepcopy(agent)
    last = [layer for layer in bad.world_model.embedding_head.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias += size * torch.randn(last.bias.shape, generator=torch.Generator().manual_seed(seed))
    return bad


def failed(report: GateReport) -> list[str]:
    return [check.name for check in report.checks if not check.passed]


def test_a_better_model_passes_and_a_worse_one_is_refused(workshop: Workshop, repaired: Agent) -> None:
    for seed, count in ((6, 5), (7, 8), (8, 10)):
        driving = held_out(random_episodes(count, seed, level=1.0))
        good = judge(trial(workshop, Part.DYNAMICS, workshop.agent, repaired), driving, workshop.home)
        assert good.passed, good.reason
        worse = judge(trial(workshop, Part.DYNAMICS, repaired, workshop.agent), driving, workshop.home)
        assert "held_out_prediction" in failed(worse)
    for seed in range(5):
        bad = forgetful(workshop.agent, seed, 1.0 + seed)
        worse = judge(trial(workshop, Part.DYNAMICS, workshop.agent, bad), driving, workshop.home)
        assert not worse.passed and not worse.checks[0].passed


def test_an_update_whose_heads_alone_are_better_is_refused(workshop: Workshop, repaired: Agent) -> None:
    """Heads stay in the finetuner: what would leave is nothing, or noise."""
    driving = held_out(random_episodes(10, seed=3))
    for seed in range(5):
        before, after = forgetful(workshop.agent, seed), shaken(workshop.agent, "world_model.rssm", 0.01, seed)
        found = judge(trial(workshop, Part.DYNAMICS, before, after), driving, workshop.home)
        assert failed(found) == ["shipped_prediction"], found.reason
    heads = copy.deepcopy(repaired)
    heads.world_model.rssm.load_state_dict(workshop.agent.world_model.rssm.state_dict())
    driving = held_out(random_episodes(10, seed=8, level=1.0))
    found = judge(trial(workshop, Part.DYNAMICS, workshop.agent, heads), driving, workshop.home)
    assert failed(found) == ["shipped_prediction"]
    assert "shipped_prediction: gain 0.0000" in found.reason


def test_a_model_that_moves_the_decisions_is_refused(workshop: Workshop) -> None:
    driving = held_out(random_episodes(10, seed=3))
    moved = shaken(workshop.agent, "world_model.rssm", 1.0, 0)
    found = judge(trial(workshop, Part.DYNAMICS, moved, workshop.agent, moved_by_dynamics=0.01), driving, workshop.home)
    assert {"decisions_moved", "decisions_moved_at_home"} <= set(failed(found))


def test_each_part_of_the_prediction_is_held_to_its_limit(workshop: Workshop) -> None:
    """A model that predicts one of the two worse is refused for that one, however good the other may be."""
    driving = held_out(random_episodes(8, seed=3))
    for head, name in (("state_head", "held_out_ego"), ("embedding_head", "held_out_world")):
        after = shaken(workshop.agent, f"world_model.{head}", 3.0, 0)
        found = failed(judge(trial(workshop, Part.DYNAMICS, workshop.agent, after), driving, workshop.home))
        assert {"held_out_ego", "held_out_world"} & set(found) == {name}
        wide = judge(trial(workshop, Part.DYNAMICS, workshop.agent, after, worse_part=1e6), driving, workshop.home)
        assert name not in failed(wide)


def test_what_an_update_does_at_home_is_held_to_its_limits(workshop: Workshop, repaired: Agent) -> None:
    """Good for the new driving is not enough: each limit at home refuses alone, with what was measured there."""
    driving = held_out(random_episodes(8, seed=7, level=1.0))
    dynamics = trial(workshop, Part.DYNAMICS, workshop.agent, repaired)
    here, home = (
        {check.name: check.measured for check in judge(dynamics, driving, workshop.home).checks}[name]
        for name in ("decisions_moved", "decisions_moved_at_home")
    )
    assert here < home
    limit = replace(dynamics, gate=UpdateGateConfig(moved_by_dynamics=0.5 * (here + home)))
    assert failed(judge(limit, driving, workshop.home)) == ["decisions_moved_at_home"]
    for margin, refused in ((0.05, True), (5.0, False)):
        back = trial(workshop, Part.DYNAMICS, repaired, workshop.agent, worse_at_home=margin)
        assert ("home_prediction" in failed(judge(back, driving, workshop.home))) is refused


class Greedy(torch.nn.Module):
    """A policy that takes more often what the model values: the critic's value of the most probable next state."""

    def __init__(self, agent: Agent, by: float) -> None:
        super().__init__()
        self.agent, self.by = agent, by

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.agent.actor(latent)
        rssm, count = self.agent.world_model.rssm, probabilities.shape[-1]
        state = State(*latent.split([rssm.config.deter, rssm.config.stochastic], -1))
        choices = torch.eye(count)[:, None].expand(-1, len(latent), -1)
        after = [rssm.imagine_step(state, choice, sample=False).latent() for choice in choices]
        values = [self.agent.world_model.reward(each) + self.agent.critic(each) for each in after]
        return (probabilities.log() + self.by * torch.stack(values, -1)).softmax(-1)


def test_a_policy_that_is_better_in_the_model_passes_and_the_one_before_it_does_not(workshop: Workshop) -> None:
    after, driving = copy.deepcopy(workshop.agent), held_out(random_episodes(8, seed=7))
    after.actor = Greedy(workshop.agent, 10.0)  # type: ignore[assignment]
    far = {"moved_by_policy": 1.0, "moved_at_home": 1.0}
    good = judge(trial(workshop, Part.POLICY, workshop.agent, after, **far), driving, workshop.home)
    assert good.passed, good.reason
    worse = judge(trial(workshop, Part.POLICY, after, workshop.agent, **far), driving, workshop.home)
    assert failed(worse) == ["imagined_return"]
    home = judge(trial(workshop, Part.POLICY, after, workshop.agent, worse_return=0.05, **far), driving, workshop.home)
    assert failed(home) == ["imagined_return", "imagined_return_at_home"]
    for limit, name in (("moved_by_policy", "decisions_moved"), ("moved_at_home", "decisions_moved_at_home")):
        near = judge(trial(workshop, Part.POLICY, workshop.agent, after, **far | {limit: 0.1}), driving, workshop.home)
        assert failed(near) == [name]


def test_a_policy_of_noise_is_refused(workshop: Workshop) -> None:
    """It gains nothing in the model, and moves too far."""
    bad = shaken(workshop.agent, "actor", 5.0, 0)
    found = judge(
        trial(workshop, Part.POLICY, workshop.agent, bad, moved_by_policy=0.1),
        held_out(random_episodes(10, seed=3)),
        workshop.home,
    )
    assert {"imagined_return", "decisions_moved"} <= set(failed(found))


def test_too_few_held_out_episodes_are_a_refusal_with_that_reason(workshop: Workshop) -> None:
    for driving, count in ((None, 0), (held_out(random_episodes(3, seed=3)), 3)):
        found = judge(trial(workshop, Part.DYNAMICS, workshop.agent, workshop.agent), driving, workshop.home)
        assert not found.passed
        assert found.reason == f"held-out episodes: {count}, at least 5 are needed to judge an update; drive on"


class Spoiled(torch.nn.Module):
    """A head that gives a value that is not finite on the later ones of 20 episodes filtered together."""

    def __init__(self, head: torch.nn.Module, value: float) -> None:
        super().__init__()
        self.head, self.value = head, value

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(latent).clone()
        if len(found) == 20:
            found[6:] = self.value
        return found


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_cannot_predict_some_episodes_is_not_judged_by_the_others(
    workshop: Workshop, repaired: Agent, value: float
) -> None:
    """On the 6 others it is much better than the one before it."""
    driving = held_out(random_episodes(20, seed=3, level=1.0))
    assert judge(trial(workshop, Part.DYNAMICS, workshop.agent, repaired), driving, workshop.home).passed
    after = copy.deepcopy(repaired)
    after.world_model.embedding_head = Spoiled(after.world_model.embedding_head, value)
    found = judge(trial(workshop, Part.DYNAMICS, workshop.agent, after), driving, workshop.home)
    assert not found.passed and not found.checks[0].passed and found.held_out_episodes == 20


def test_a_policy_that_gives_no_distribution_is_refused(workshop: Workshop) -> None:
    after = copy.deepcopy(workshop.agent)
    with torch.no_grad():
        next(after.actor.parameters()).fill_(np.nan)
    driving = held_out(random_episodes(8, seed=3))
    found = judge(trial(workshop, Part.POLICY, workshop.agent, after), driving, workshop.home)
    assert not found.passed and "decisions_moved: 1e+30" in found.reason


def test_episodes_without_a_decision_to_judge_by_do_not_count(workshop: Workshop) -> None:
    """The gate or a driver carried out another one throughout: six episodes are four."""
    driving = held_out(random_episodes(6, seed=3))
    driving.episodes.overruled[: np.flatnonzero(driving.episodes.first)[2]] = True
    found = judge(trial(workshop, Part.DYNAMICS, workshop.agent, workshop.agent), driving, workshop.home)
    assert found.reason.startswith("held-out episodes with a decision to judge by: 4, at least 5 are needed")
    assert not found.passed and found.held_out_episodes == 4
    found = judge(trial(workshop, Part.POLICY, workshop.agent, workshop.agent), driving, workshop.home)
    assert found.held_out_episodes == 6


def test_parts_of_one_episode_are_one_unit(workshop: Workshop) -> None:
    """Episodes cut in two are no more evidence than whole ones."""
    driving = HeldOut(random_episodes(6, seed=3), np.array([0, 0, 1, 1, 2, 2]))
    found = judge(trial(workshop, Part.DYNAMICS, workshop.agent, workshop.agent), driving, workshop.home)
    assert found.held_out_episodes == 3 and "held-out episodes: 3" in found.reason


@pytest.mark.parametrize(("name", "value"), [("confidence", 1.0), ("least_episodes", 1), ("moved_at_home", 1.5)])
def test_a_gate_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"gate.{name} is {value}"):
        UpdateGateConfig(**{name: value})  # type: ignore[arg-type]


def test_a_configuration_that_fits_no_student_is_refused_at_the_start(place: Workplace, tmp_path: Path) -> None:
    """In a round it would be held against the driving, which is set aside for ever then."""
    values = yaml.safe_load(Path(place.settings().config_file).read_text())
    values["presets"]["debug"]["lora"]["targets"] = ["rsm"]
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"^lora\.targets: no Linear layer is called 'rsm'"):
        Workshop(place.settings(config_file=str(tmp_path / "typo.yaml")))


def test_missing_source_rollouts_are_told_with_what_makes_them(place: Workplace, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"source-\w+.npz: the base model's source rollouts .* `adawm baseline --rollouts-only --preset debug",
    ):
        Workshop(place.settings(source_dir=str(tmp_path)))
