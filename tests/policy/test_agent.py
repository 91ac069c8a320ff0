"""Actor, critic, and the agent's files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from adawm_planner.config.presets import load_pretraining
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.policy.actor import one_hot
from adawm_planner.policy.agent import Agent, load_agent, save_agent, write_weights
from adawm_planner.policy.critic import follow
from tests.full_disk import no_larger_file

CONFIG = load_pretraining(preset="debug")


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return Agent(CONFIG.world_model, CONFIG.policy).eval()


def test_probabilities_never_rule_an_action_out(agent: Agent) -> None:
    probabilities = agent.actor(100.0 * torch.randn(50, CONFIG.world_model.latent))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(50), rtol=0, atol=1e-5)
    assert probabilities.min() >= 0.999 * CONFIG.policy.unimix / ACTION_COUNT


def test_one_hot() -> None:
    assert one_hot(torch.tensor([2, 0])).tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]


def test_weights_that_cannot_be_written_are_an_error_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"small": torch.zeros(1)})
    before = path.read_bytes()
    with no_larger_file(10_000), pytest.raises(OSError, match="File too large"):
        write_weights(path, {"large": torch.zeros(10_000)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_slow_critic_follows(agent: Agent) -> None:
    for parameter in agent.critic.parameters():
        parameter.data += 1.0
    gap = [
        (a - b).abs().max().item()
        for a, b in zip(agent.critic.parameters(), agent.slow_critic.parameters(), strict=True)
    ]
    follow(agent.slow_critic, agent.critic, 0.25)
    pairs = zip(agent.critic.parameters(), agent.slow_critic.parameters(), strict=True)
    for (fast, slow), before in zip(pairs, gap, strict=True):
        assert (fast - slow).abs().max().item() == pytest.approx(0.75 * before, rel=1e-3)


def test_an_agent_comes_back_bit_for_bit(agent: Agent, tmp_path: Path) -> None:
    save_agent(agent, tmp_path)
    loaded = load_agent(tmp_path)
    assert loaded.model_config == agent.model_config and loaded.policy_config == agent.policy_config
    for (name, left), (_, right) in zip(agent.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(left, right), name


def test_files_that_do_not_fit_are_refused(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no model, config.yaml is missing"):
        load_agent(tmp_path)
    save_agent(agent, tmp_path)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**values, "acceleration_bins": [-1.0, 1.0]}))
    with pytest.raises(ValueError, match=r"acceleration_bins is \[-1.0, 1.0\], this installation needs"):
        load_agent(tmp_path)
    values["world_model"]["hidden"] += 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"weights.safetensors: weights do not fit"):
        load_agent(tmp_path)
