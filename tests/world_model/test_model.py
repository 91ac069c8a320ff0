"""World model: shapes, determinism, resets, and the arithmetic of two-hot and categorical latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adawm_planner.config.presets import load_pretraining
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.paths import default_model_dir
from adawm_planner.pretraining.model_card import LIMITS
from adawm_planner.world_model.heads import TwoHotHead, symexp, symlog
from adawm_planner.world_model.model import WorldModel
from adawm_planner.world_model.rssm import draw, most_probable

ROOT = Path(__file__).resolve().parents[2]
CONFIG = load_pretraining(preset="debug").world_model


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(CONFIG).eval()


def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, 256, (batch, *BEV_SHAPE), dtype=torch.uint8), torch.randn(batch, STATE_SIZE)


@pytest.mark.parametrize("batch", [1, 3])
def test_shapes(model: WorldModel, batch: int) -> None:
    state = model.rssm.initial(batch)
    after, posterior = model.observe_step(state, torch.zeros(batch, ACTION_COUNT), torch.ones(batch, 1), *inputs(batch))
    latent = after.latent()
    assert latent.shape == (batch, CONFIG.latent)
    assert posterior.shape == (batch, CONFIG.groups, CONFIG.classes)
    assert model.picture(latent).shape == (batch, *BEV_SHAPE)
    assert model.vector(latent).shape == (batch, STATE_SIZE)
    assert model.reward(latent).shape == model.continuation(latent).shape == (batch,)


def test_first_clears_everything_before(model: WorldModel) -> None:
    torch.manual_seed(2)
    seen = inputs(2)
    dirty = model.rssm.initial(2)._replace(h=torch.randn(2, CONFIG.deter), z=torch.rand(2, CONFIG.stochastic))
    action = torch.eye(ACTION_COUNT)[:2]
    ones, zeros = torch.ones(2, 1), torch.zeros(2, ACTION_COUNT)
    cleared, _ = model.observe_step(dirty, action, ones, *seen)
    fresh, _ = model.observe_step(model.rssm.initial(2), zeros, ones, *seen)
    assert torch.equal(cleared.h, fresh.h) and torch.equal(cleared.z, fresh.z)
    kept, _ = model.observe_step(dirty, action, 1.0 - ones, *seen)
    assert not torch.equal(kept.h, fresh.h)


def test_a_sequence_is_its_steps(model: WorldModel) -> None:
    torch.manual_seed(3)
    length = 5
    embedding, first = torch.randn(2, length, CONFIG.embedding), torch.zeros(2, length)
    first[:, 0], first[1, 3] = 1.0, 1.0
    action = torch.eye(ACTION_COUNT)[torch.randint(ACTION_COUNT, (2, length))]
    seen = model.rssm.observe(embedding, action, first, model.rssm.initial(2), sample=False)
    state = model.rssm.initial(2)
    for t in range(length):
        state, posterior = model.rssm.observe_step(
            state, action[:, t], first[:, t, None], embedding[:, t], sample=False
        )
        torch.testing.assert_close(seen.h[:, t], state.h, rtol=0, atol=1e-6)
        torch.testing.assert_close(seen.posterior[:, t], posterior, rtol=0, atol=1e-6)
        torch.testing.assert_close(seen.prior[:, t], model.rssm.prior(state.h), rtol=0, atol=1e-6)
        assert torch.equal(seen.z[:, t], state.z)


def test_latents_are_one_hot_and_follow_their_probabilities() -> None:
    torch.manual_seed(4)
    probabilities = torch.tensor([[[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]])
    samples = torch.cat([draw(probabilities.log()) for _ in range(4000)])
    assert torch.equal(samples.sum(-1), torch.full((4000,), 2.0))
    torch.testing.assert_close(samples.mean(0), probabilities.flatten(), rtol=0, atol=0.04)
    assert most_probable(torch.zeros(1, 1, 3)).tolist() == [[1.0, 0.0, 0.0]], "the first of equals"


def test_unimix_leaves_every_class_possible(model: WorldModel) -> None:
    floor = CONFIG.unimix / CONFIG.classes
    probabilities = model.rssm.prior(100.0 * torch.randn(4, CONFIG.deter)).exp()
    assert probabilities.min() >= 0.999 * floor
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(4, CONFIG.groups), rtol=0, atol=1e-5)


def test_straight_through_gradient_reaches_the_logits() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    draw(torch.log_softmax(logits, -1)).square().sum().backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0.0


def test_symlog_and_two_hot_keep_numbers() -> None:
    numbers = torch.tensor([-2.5, -0.04, 0.0, 0.013, 1.0, 2.9])
    torch.testing.assert_close(symexp(symlog(numbers)), numbers, rtol=1e-5, atol=1e-6)
    head = TwoHotHead(4, 8, 1, bins=127, limit=3.0)
    weights = head.two_hot(numbers)
    torch.testing.assert_close(weights.sum(-1), torch.ones(6), rtol=0, atol=1e-4)
    assert ((weights > 1e-4).sum(-1) <= 2).all()
    torch.testing.assert_close(symexp((weights * head.bins).sum(-1)), numbers, rtol=1e-4, atol=1e-4)
    assert head.two_hot(torch.tensor(99.0))[-1] == 1.0
    assert head.mean(head(torch.randn(3, 4))).abs().max() < 1e-6, "starts at 0"


def test_a_rare_cost_counts_for_less_as_the_pages_say() -> None:
    head = TwoHotHead(4, 8, 1, bins=127, limit=3.0)
    cost = torch.tensor(-1.9)
    chances = 0.7 * head.two_hot(torch.tensor(0.0)) + 0.3 * head.two_hot(cost)
    read, expected = f"{float(head.mean(chances.log())):.3f}", f"{float(0.3 * cost):.3f}"
    assert (read, expected) == ("-0.376", "-0.570")
    told = [ROOT / "docs" / "adaptation.md", default_model_dir() / "MODEL_CARD.md"]
    for text in (LIMITS, TwoHotHead.mean.__doc__ or "", *(path.read_text(encoding="utf-8") for path in told)):
        assert read in text and expected in text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"unimix": 1.0}, "unimix is 1.0, must be in"),
        ({"bins": 8}, "bins is 8, must be odd"),
        ({"groups": 0}, "groups is 0, must be at least 1"),
        ({"channels": (8,) * 6}, "channels has 6 layers"),
        ({"value_limit": 0.0}, "value_limit is 0.0, must be above 0"),
    ],
)
def test_nonsense_sizes_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(CONFIG, **change)
