"""LoRA factors and sub-units: bit-exact when fresh, equal to torch in onnxruntime, unchanged by a round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from adawm_planner.adaptation.lora import Factors
from adawm_planner.adaptation.student import Student, apply_factors, factor_tensors, tensor_factors
from adawm_planner.adaptation.subunits import ConvexLinear, propose_subunits, truncated
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.policy.agent import Agent
from adawm_planner.runtime.export import adaptable_layers
from adawm_planner.runtime.model_files import PLANNER_FILE

TOLERANCE = 1e-4


def trained(agent: Agent, config: AdaptationConfig, seed: int = 1) -> Student:
    """A student whose factors and sub-unit weights are far from where they started."""
    student = Student(agent, config, low_rank=True, seed=0)
    torch.manual_seed(seed)
    layers = [(n, m) for n, m in agent.named_modules() if isinstance(m, nn.Linear) and n.startswith("actor.")]
    propose_subunits(student.agent, {name: torch.randn_like(layer.weight) for name, layer in layers}, config.subunits)
    with torch.no_grad():
        for parameter in [*student.dynamics_parameters(), *student.policy_parameters()]:
            parameter.add_(0.5 * torch.randn_like(parameter))
    return student


def feeds(agent: Agent, seed: int) -> dict[str, np.ndarray]:
    rng, sizes = np.random.default_rng(seed), agent.model_config
    return {
        "bev": (255 * (rng.random((1, *BEV_SHAPE)) < 0.2)).astype(np.uint8),
        "state": rng.normal(0.0, 0.5, (1, STATE_SIZE)).astype(np.float32),
        "h": rng.normal(0.0, 0.5, (1, sizes.deter)).astype(np.float32),
        "z": np.eye(sizes.stochastic, dtype=np.float32)[:1],
        "action": np.eye(ACTION_COUNT, dtype=np.float32)[:1],
        "first": np.zeros((1, 1), np.float32),
    }


def in_runtime(agent: Agent, factors: Factors) -> dict[str, np.ndarray]:
    """What the runtime's graph takes: factors of the layers it has."""
    kept = {name: pair for name, pair in factors.items() if name in adaptable_layers(agent)}
    return {name: tensor.numpy() for name, tensor in factor_tensors(kept).items()}


def test_a_fresh_student_is_the_base_bit_for_bit(agent: Agent, config: AdaptationConfig) -> None:
    student = Student(agent, config, low_rank=True, seed=0)
    latent = torch.randn(64, agent.model_config.latent)
    h, z = latent.split([agent.model_config.deter, agent.model_config.stochastic], -1)
    assert torch.equal(student.agent.actor(latent), agent.actor(latent))
    assert torch.equal(student.agent.world_model.rssm.prior(h), agent.world_model.rssm.prior(h))
    assert torch.equal(student.agent.world_model.reward(latent), agent.world_model.reward(latent))
    for (name, ours), theirs in zip(student.merged().state_dict().items(), agent.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_adapters_change_what_the_agent_does(agent: Agent, config: AdaptationConfig) -> None:
    student = trained(agent, config)
    latent = torch.randn(64, agent.model_config.latent)
    assert not torch.allclose(student.agent.actor(latent), agent.actor(latent), atol=1e-2)
    h = latent[:, : agent.model_config.deter]
    assert not torch.allclose(student.agent.world_model.rssm.prior(h), agent.world_model.rssm.prior(h), atol=1e-2)


def test_encoder_and_decoder_stand_still(agent: Agent, config: AdaptationConfig) -> None:
    names = factor_tensors(trained(agent, config).factors())
    assert [name for name in names if "encoder" in name or "decoder" in name] == []
    assert any("posterior" in name for name in names)


def test_the_runtime_with_factors_equals_torch(agent: Agent, config: AdaptationConfig, model_dir: Path) -> None:
    student = trained(agent, config)
    session = onnxruntime.InferenceSession(str(model_dir / PLANNER_FILE), providers=["CPUExecutionProvider"])
    factors, merged = in_runtime(agent, student.factors()), student.merged()
    assert {name.rpartition(".")[0] for name in factors} >= {"world_model.rssm.gates", "actor.net.0", "actor.net.6"}
    changed = 0.0
    for seed in range(20):
        given_ = feeds(agent, seed)
        h, _, probabilities, value, _ = session.run(None, {**given_, **factors})
        tensors = {name: torch.from_numpy(array) for name, array in given_.items()}
        with torch.inference_mode():
            rssm = student.agent.world_model.rssm
            embedding = student.agent.world_model.encoder(tensors["bev"], tensors["state"])
            after = rssm.advance(type(rssm.initial(1))(tensors["h"], tensors["z"]), tensors["action"])
            posterior = rssm.posterior(after, embedding)
            z = (posterior == posterior.amax(-1, keepdim=True)).float().flatten(1)
            acted = student.agent.actor(torch.cat([after, z], -1))
            plain = merged.actor(torch.cat([after, z], -1))
        np.testing.assert_allclose(h, after.numpy(), atol=TOLERANCE)
        np.testing.assert_allclose(probabilities, acted.numpy(), atol=TOLERANCE)
        np.testing.assert_allclose(plain.numpy(), acted.numpy(), atol=TOLERANCE)
        changed = max(changed, float(np.abs(session.run(None, given_)[2] - probabilities).max()))
    assert changed > 0.05


def test_the_runtime_without_factors_is_the_base_bit_for_bit(
    agent: Agent, config: AdaptationConfig, model_dir: Path
) -> None:
    session = onnxruntime.InferenceSession(str(model_dir / PLANNER_FILE), providers=["CPUExecutionProvider"])
    before = session.run(None, feeds(agent, 0))
    session.run(None, {**feeds(agent, 0), **in_runtime(agent, trained(agent, config).factors())})
    for left, right in zip(before, session.run(None, feeds(agent, 0)), strict=True):
        assert np.array_equal(left, right)


def test_factors_there_and_back(agent: Agent, config: AdaptationConfig, tmp_path: Path) -> None:
    student = trained(agent, config)
    flat = factor_tensors(student.factors())
    again = tensor_factors(dict(flat))
    assert all(torch.equal(a, b) for name in again for a, b in zip(again[name], student.factors()[name], strict=True))
    student.save(tmp_path / "state.safetensors")
    fresh = Student(agent, config, low_rank=True, seed=5)
    fresh.load(tmp_path / "state.safetensors")
    for name, tensor in factor_tensors(fresh.factors()).items():
        assert torch.equal(tensor, flat[name]), name
    latent = torch.randn(8, agent.model_config.latent)
    torch.testing.assert_close(fresh.agent.actor(latent), student.agent.actor(latent), rtol=0, atol=1e-6)


def test_an_earlier_student_loaded_into_a_later_one_has_nothing_of_it(
    agent: Agent, config: AdaptationConfig, tmp_path: Path
) -> None:
    earlier, later = Student(agent, config, low_rank=True, seed=0), trained(agent, config)
    earlier.save(tmp_path / "earlier.safetensors")
    later.load(tmp_path / "earlier.safetensors")
    latent = torch.randn(8, agent.model_config.latent)
    assert torch.equal(later.agent.actor(latent), earlier.agent.actor(latent))
    assert torch.equal(later.merged().actor(latent), agent.actor(latent))


def test_factors_of_another_shape_are_refused(agent: Agent) -> None:
    with pytest.raises(ValueError, match="do not fit layer 'actor.net.0'"):
        apply_factors(agent, {"actor.net.0": (torch.zeros(3, 1), torch.zeros(1, 3))})
    with pytest.raises(ValueError, match="no layer 'actor.nothing'"):
        apply_factors(agent, {"actor.nothing": (torch.zeros(3, 1), torch.zeros(1, 3))})
    layer = agent.get_submodule("actor.net.0")
    assert isinstance(layer, nn.Linear)
    with pytest.raises(ValueError, match="do not fit layer 'actor.net.0'"):  # inner ranks differ
        apply_factors(agent, {"actor.net.0": (torch.zeros(layer.in_features, 2), torch.zeros(1, layer.out_features))})
    with pytest.raises(ValueError, match="do not fit layer 'actor'"):
        apply_factors(agent, {"actor": (torch.zeros(3, 1), torch.zeros(1, 3))})


def test_an_unknown_target_is_named(agent: Agent, config: AdaptationConfig) -> None:
    wrong = replace(config, lora=replace(config.lora, targets=("rssm.gate",)))
    with pytest.raises(ValueError, match="^lora.targets: no Linear layer is called 'rssm.gate'"):
        Student(agent, wrong, low_rank=True, seed=0)
    wrong = replace(config, policy_adapter="lora", actor_lora=replace(config.actor_lora, targets=("nets",)))
    with pytest.raises(ValueError, match="^actor_lora.targets: no Linear layer is called 'nets'"):
        Student(agent, wrong, low_rank=True, seed=0)


@pytest.mark.parametrize("section", ["lora", "actor_lora"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank is 0, must be above 0"),
        ({"alpha": 0}, "alpha is 0, must be above 0"),
        ({"rank": 65, "alpha": 65}, "rank is 65, must be at most 64, the largest rank that the planner takes"),
        ({"rank": 24, "alpha": 32}, "alpha is 32 with rank 24, alpha / rank must be a power of two .* alpha 24 will"),
        ({"rank": 2, "alpha": 10**400}, "alpha is 10+ with rank 2, must be at most 2048, 1024 times the rank"),
        ({"targets": ()}, "targets is empty"),
    ],
)
def test_factors_that_cannot_be_used_are_named_by_their_section(
    config: AdaptationConfig, section: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{section}.{message}"):
        replace(config, **{section: replace(getattr(config, section), **values)})


def test_what_subunits_leave_must_fit_the_planner(config: AdaptationConfig) -> None:
    replace(config.subunits, max_rank=64)
    with pytest.raises(ValueError, match=r"^subunits.max_rank is 65, must be at most 64"):
        replace(config.subunits, max_rank=65)


@pytest.mark.parametrize(("rank", "alpha"), [(3, 3), (3, 12), (12, 3)])
def test_every_scaling_that_is_accepted_survives_a_kill_bit_for_bit(
    agent: Agent, config: AdaptationConfig, tmp_path: Path, rank: int, alpha: int
) -> None:
    lora = replace(config.lora, rank=rank, alpha=alpha)
    config = replace(config, lora=lora)
    student, again = trained(agent, config), Student(agent, config, low_rank=True, seed=5)
    student.save(tmp_path / "state.safetensors")
    again.load(tmp_path / "state.safetensors")
    for ours, theirs in zip(student.dynamics_parameters(), again.dynamics_parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("low_rank", [True, False])
@pytest.mark.parametrize("lost", ["critic.", "slow_critic.", "all but finite"])
def test_a_state_that_is_not_whole_is_refused_by_name(
    agent: Agent, config: AdaptationConfig, tmp_path: Path, low_rank: bool, lost: str
) -> None:
    path = tmp_path / "state.safetensors"
    Student(agent, config, low_rank, seed=0).save(path)
    tensors = load_file(path)
    name = next(each for each in tensors if each.startswith(lost.replace("all but finite", "critic.")))
    if lost == "all but finite":
        tensors[name] = torch.full_like(tensors[name], torch.nan)
    else:
        del tensors[name]
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"^{path}: not a state of this run \(.*{name}.*remove it and state.json"):
        Student(agent, config, low_rank, seed=1).load(path)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.floats(0.1, 30.0), st.integers(0, 1000))
def test_subunits_stay_in_their_hull(pairs: int, strength: float, seed: int) -> None:
    torch.manual_seed(seed)
    layer = ConvexLinear(nn.Linear(9, 7), radius=0.5)
    left, _, right = torch.linalg.svd(torch.randn(7, 9), full_matrices=False)
    layer.propose(left[:, :pairs], right[:pairs])
    with torch.no_grad():
        layer.theta.copy_(strength * torch.randn_like(layer.theta))
        moved = torch.linalg.matrix_norm(layer.effective() - layer.weight, "nuc")
        down, up = layer.factors()
    assert float(moved) <= layer.scale * (1.0 + 1e-4)
    torch.testing.assert_close(layer.weight + (down @ up).T, layer.effective(), rtol=0, atol=1e-5)


def test_folding_keeps_the_layer_and_its_rank() -> None:
    torch.manual_seed(0)
    layer, x = ConvexLinear(nn.Linear(12, 10), radius=1.0), torch.randn(5, 12)
    for _ in range(2):
        left, _, right = torch.linalg.svd(torch.randn(10, 12), full_matrices=False)
        layer.propose(left[:, :2], right[:2])
        layer.theta.data.normal_()
        before = layer(x)
        layer.fold(max_rank=4)
        torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-5)
    assert layer.folded_in.shape == (4, 12)
    layer.fold(max_rank=3)
    assert layer.folded_in.shape == (3, 12)


def test_truncation_is_the_best_approximation() -> None:
    torch.manual_seed(0)
    down, up = torch.randn(8, 5), torch.randn(5, 6)
    values = torch.linalg.svdvals(down @ up)
    a, b = truncated(down, up, 2)
    error = torch.linalg.matrix_norm(down @ up - a @ b)
    assert float(error) == pytest.approx(float(values[2:].square().sum().sqrt()), rel=1e-4)
