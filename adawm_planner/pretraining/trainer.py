"""The training stages: clone, world model, actor-critic by imagination.

Each takes driven episodes and modules, builds the batches, and hands an update function to `fit`. `pipeline` puts
the stages in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.config.pretraining import CloningConfig, DynamicsConfig, ImaginationConfig
from adawm_planner.data_types import Float32, Int64
from adawm_planner.policy.actor import one_hot
from adawm_planner.policy.agent import Agent
from adawm_planner.policy.critic import follow
from adawm_planner.pretraining.clone import HAZARD_HORIZONS, Clone
from adawm_planner.pretraining.dataset import Episodes, join, sequence_starts
from adawm_planner.pretraining.fit import FitReport, Metrics, Run, Stage, fit, step_generator
from adawm_planner.pretraining.losses import (
    Dream,
    Sequences,
    actor_loss,
    alive,
    label_loss,
    lambda_returns,
    scaled_advantage,
    world_model_loss,
)
from adawm_planner.world_model.encoder import Encoder
from adawm_planner.world_model.rssm import Observed, State

HELD_OUT_BATCHES = 6
ENCODE_BATCH = 1024


def _ended(episodes: Episodes) -> Float32:
    """1.0 on the last row of each episode (N,)."""
    return np.append(episodes.first[1:], True).astype(np.float32)


# ---------------------------------------------------------------- clone


def train_clone(
    clone: Clone, episodes: Episodes, config: CloningConfig, updates: int, name: str, run: Run
) -> FitReport:
    """Clone the expert's labels of every state that is not an episode's end."""
    held_out = np.flatnonzero(episodes.held_out & (_ended(episodes) == 0.0))
    train = np.flatnonzero(~episodes.held_out & (_ended(episodes) == 0.0))
    if not len(held_out) or not len(train):
        raise ValueError(f"{name}: {len(train)} training and {len(held_out)} held-out decisions, both are needed")
    crash = episodes.crash_ahead(HAZARD_HORIZONS)
    optimizer = torch.optim.AdamW(clone.parameters(), config.learning_rate, weight_decay=config.weight_decay)

    def update(step: int) -> Metrics:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _decay(step, updates)
        rows = step_generator(run.seed, name, step).choice(train, config.batch)
        loss, metrics = clone.loss(*_labelled(episodes, rows), torch.from_numpy(crash[rows]), config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return metrics

    def validate() -> Metrics:
        entropy, right, hazard = 0.0, 0.0, 0.0
        with torch.inference_mode():
            for rows in np.array_split(held_out, len(held_out) // ENCODE_BATCH + 1):
                bev, state, label = _labelled(episodes, rows)
                embedding = clone.encoder(bev, state)
                logits, ahead = clone.head(embedding), torch.from_numpy(crash[rows])
                entropy += float(functional.cross_entropy(logits, label, reduction="sum"))
                right += float((logits.argmax(-1) == label).sum())
                missed = functional.binary_cross_entropy_with_logits(clone.hazard(embedding), ahead, reduction="sum")
                hazard += float(missed) / len(HAZARD_HORIZONS)
        label_part, hazard_part = entropy / len(held_out), hazard / len(held_out)
        loss = label_part + config.hazard * hazard_part
        return {"loss": loss, "label": label_part, "hazard": hazard_part, "accuracy": right / len(held_out)}

    stage = Stage(
        name,
        update,
        validate,
        {"clone": clone},
        {"adam": optimizer},
        updates,
        config.minutes,
        config.validate_every,
        config.patience,
    )
    return fit(stage, run)


def _decay(step: int, updates: int) -> float:
    """Learning-rate factor: constant, then linear to a tenth over the second half."""
    return 1.0 - 0.9 * max(0.0, 2.0 * step / updates - 1.0)


def _labelled(episodes: Episodes, rows: Int64) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(episodes.bev[rows]),
        torch.from_numpy(episodes.state[rows]),
        torch.from_numpy(episodes.label[rows]),
    )


# ---------------------------------------------------------------- sequences


class Replay:
    """Driven episodes with their embeddings cached, ready to be cut into windows."""

    def __init__(self, encoder: Encoder, episodes: Episodes, discount: float) -> None:
        """Embed every observation once: the encoder is frozen from here on."""
        self._encoder, self._discount = encoder, discount
        self.newest = 0  # decisions of the last `add`
        self._set(episodes, _embed(encoder, episodes))

    def __len__(self) -> int:
        return len(self.episodes)

    def add(self, episodes: Episodes) -> None:
        """Append newly driven episodes."""
        self.newest = len(episodes)
        embedding = np.concatenate([self.embedding, _embed(self._encoder, episodes)])
        self._set(join([self.episodes, episodes]), embedding)

    def embed_again(self) -> None:
        """Embed everything anew, after the encoder has changed."""
        self._set(self.episodes, _embed(self._encoder, self.episodes))

    def _set(self, episodes: Episodes, embedding: Float32) -> None:
        self.episodes, self.embedding = episodes, embedding
        self.action, self.ended = episodes.previous_action(), _ended(episodes)
        self.returns, self.over = episodes.returns(self._discount), episodes.over().astype(np.float32)

    def draw(self, batch: int, length: int, pictures: int, fresh: float, rng: np.random.Generator) -> Sequences:
        """A batch of windows; see `sequence_starts` for `fresh`."""
        starts = sequence_starts(len(self), length, batch, fresh, self.newest, rng)
        rows = starts[:, None] + np.arange(length)  # (B, T)
        chosen = rng.choice(batch * length, pictures, replace=False)
        first = self.episodes.first[rows].astype(np.float32)
        first[:, 0] = 1.0  # the state before a window is not known
        return Sequences(
            rows=torch.from_numpy(rows),
            embedding=torch.from_numpy(self.embedding[rows]),
            action=torch.from_numpy(self.action[rows]),
            first=torch.from_numpy(first),
            state=torch.from_numpy(self.episodes.state[rows]),
            reward=torch.from_numpy(self.episodes.reward[rows]),
            terminal=torch.from_numpy(self.episodes.terminal[rows].astype(np.float32)),
            ended=torch.from_numpy(self.ended[rows]),
            overruled=torch.from_numpy(self.episodes.overruled[rows].astype(np.float32)),
            label=torch.from_numpy(self.episodes.label[rows]),
            returns=torch.from_numpy(self.returns[rows]),
            over=torch.from_numpy(self.over[rows]),
            picture_rows=torch.from_numpy(chosen),
            pictures=torch.from_numpy(self.episodes.bev[rows.reshape(-1)[chosen]]),
        )


@torch.inference_mode()
def _embed(encoder: Encoder, episodes: Episodes) -> Float32:
    parts = []
    for begin in range(0, len(episodes), ENCODE_BATCH):
        rows = np.arange(begin, min(begin + ENCODE_BATCH, len(episodes)))
        bev, state, _ = _labelled(episodes, rows)
        parts.append(encoder(bev, state).numpy())
    return np.concatenate(parts)


# ---------------------------------------------------------------- world model


def dynamics_parameters(agent: Agent) -> list[nn.Parameter]:
    """Weights of the world model without its encoder."""
    named = agent.world_model.named_parameters()
    return [parameter for name, parameter in named if not name.startswith("encoder.")]


def train_world_model(agent: Agent, train: Replay, held_out: Replay, config: DynamicsConfig, run: Run) -> FitReport:
    """Fit recurrent model and heads to replayed windows."""
    name, parameters = "world_model", dynamics_parameters(agent)
    optimizer = torch.optim.Adam(parameters, config.learning_rate, eps=1e-8)

    def update(step: int) -> Metrics:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _decay(step, config.updates)
        rng = step_generator(run.seed, name, step)
        batch = train.draw(config.batch, config.length, config.image_samples, 0.0, rng)
        loss, _, metrics = world_model_loss(agent.world_model, batch, config)
        _descend(optimizer, loss, parameters, config.gradient_clip)
        return metrics

    def validate() -> Metrics:
        return held_out_loss(agent, held_out, config, run.seed)

    stage = Stage(
        name,
        update,
        validate,
        {"world_model": agent.world_model},
        {"adam": optimizer},
        config.updates,
        config.minutes,
        config.validate_every,
        config.patience,
    )
    return fit(stage, run)


@torch.no_grad()
def held_out_loss(agent: Agent, held_out: Replay, config: DynamicsConfig, seed: int) -> dict[str, float]:
    """Mean loss and its parts on windows that are the same at every call; the most probable z is taken."""
    total: dict[str, float] = {}
    for index in range(HELD_OUT_BATCHES):
        rng = step_generator(seed, "held_out", index)
        batch = held_out.draw(config.batch, config.length, config.image_samples, 0.0, rng)
        loss, _, metrics = world_model_loss(agent.world_model, batch, config, sample=False)
        for key, value in {"loss": float(loss), **metrics}.items():
            total[key] = total.get(key, 0.0) + value / HELD_OUT_BATCHES
    return total


def _descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter], clip: float | None = None
) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()


# ---------------------------------------------------------------- actor on latents


def clone_actor_critic(
    agent: Agent,
    train: Replay,
    held_out: Replay,
    dynamics: DynamicsConfig,
    config: ImaginationConfig,
    run: Run,
) -> FitReport:
    """Actor cloned from the expert's labels, critic from the returns that followed; the world model stands still.

    The critic learns nothing from an episode that a limit of time cut: what would have followed is not known.

    A critic that starts at 0 takes thousands of imagined updates to see past the horizon, and until then waiting
    for a gap looks worthless: the policy would unlearn it first.
    """
    parameters = [*agent.actor.parameters(), *agent.critic.parameters()]
    optimizer = torch.optim.Adam(parameters, config.clone_rate)

    def losses(replay: Replay, rng: np.random.Generator, sample: bool) -> tuple[Tensor, dict[str, float]]:
        batch = replay.draw(dynamics.batch, dynamics.length, 1, 0.0, rng)
        latent = filtered(agent, batch, sample).latent()
        probabilities, count = agent.actor(latent), (1.0 - batch.ended).sum().clamp(min=1.0)
        right = ((probabilities.argmax(-1) == batch.label) * (1.0 - batch.ended)).sum() / count
        label = label_loss(torch.log(probabilities), batch.label, batch.ended).sum() / count
        value = (agent.critic.loss(latent, batch.returns) * batch.over).sum() / batch.over.sum().clamp(min=1.0)
        return label + value, {"label": float(label.detach()), "value": float(value.detach()), "accuracy": float(right)}

    def update(step: int) -> Metrics:
        loss, metrics = losses(train, step_generator(run.seed, "clone_actor", step), sample=True)
        _descend(optimizer, loss, parameters)
        return metrics

    @torch.no_grad()
    def validate() -> Metrics:
        total: dict[str, float] = {}
        for k in range(HELD_OUT_BATCHES):
            loss, metrics = losses(held_out, step_generator(run.seed, "clone_held", k), sample=False)
            for key, value in {"loss": float(loss), **metrics}.items():
                total[key] = total.get(key, 0.0) + value / HELD_OUT_BATCHES
        return total

    modules = {"actor": agent.actor, "critic": agent.critic}
    stage = Stage(
        "clone_actor",
        update,
        validate,
        modules,
        {"adam": optimizer},
        config.clone_updates,
        dynamics.minutes,
        dynamics.validate_every,
        dynamics.patience,
    )
    return fit(stage, run)


@torch.no_grad()
def filtered(agent: Agent, batch: Sequences, sample: bool) -> Observed:
    """Windows filtered by the world model as it is, without gradient."""
    rssm = agent.world_model.rssm
    return rssm.observe(batch.embedding, batch.action, batch.first, rssm.initial(len(batch.reward)), sample)


# ---------------------------------------------------------------- imagination


@torch.no_grad()
def imagine(agent: Agent, start: State, going: Tensor, horizon: int) -> Dream:
    """Roll the policy out in the world model.

    Args:
        start: states (B, ...) to start from.
        going: (B,) 1.0 where the episode really goes on after the start.
        horizon: K, decisions.
    """
    latents, actions, state = [start.latent()], [], start
    for _ in range(horizon):
        action = torch.multinomial(agent.actor(latents[-1]), 1).squeeze(-1)
        state = agent.world_model.rssm.imagine_step(state, one_hot(action), sample=True)
        actions.append(action)
        latents.append(state.latent())
    latent = torch.stack(latents)
    following = latent[1:]
    on = torch.cat([going[None], agent.world_model.continuation(following)])
    return Dream(latent, torch.stack(actions), agent.world_model.reward(following), on)


@dataclass
class ActorCritic:
    """Optimisers of actor, critic and world model, and the running size of the advantages."""

    agent: Agent
    dynamics: DynamicsConfig
    config: ImaginationConfig

    def __post_init__(self) -> None:
        self.actor_optimizer = torch.optim.Adam(self.agent.actor.parameters(), self.config.learning_rate, eps=1e-6)
        self.critic_optimizer = torch.optim.Adam(self.agent.critic.parameters(), self.config.critic_rate, eps=1e-6)
        self.model_parameters = dynamics_parameters(self.agent)
        self.model_optimizer = torch.optim.Adam(self.model_parameters, self.config.dynamics_rate)
        self.rms = RunningRms()

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All optimisers by name, for checkpoints."""
        return {"actor": self.actor_optimizer, "critic": self.critic_optimizer, "model": self.model_optimizer}

    def modules(self) -> dict[str, nn.Module]:
        """Everything that training changes, for checkpoints."""
        return {"agent": self.agent, "spread": self.rms}  # by the name that checkpoints have always had

    def update(self, replay: Replay, learn_actor: bool, learn_model: bool, rng: np.random.Generator) -> Metrics:
        """One update of the critic and, where asked, of actor and world model."""
        batch = replay.draw(
            self.dynamics.batch, self.dynamics.length, self.dynamics.image_samples, self.config.fresh, rng
        )
        metrics: dict[str, float] = {}
        if learn_model:
            loss, seen, parts = world_model_loss(self.agent.world_model, batch, self.dynamics)
            _descend(self.model_optimizer, loss, self.model_parameters, self.dynamics.gradient_clip)
            metrics |= {"kl": parts["plain_kl"], "reward": parts["reward"]}
        else:
            seen = filtered(self.agent, batch, sample=True)
        return {**metrics, **self._behave(seen, batch, learn_actor, rng)}

    def _behave(self, seen: Observed, batch: Sequences, learn_actor: bool, rng: np.random.Generator) -> Metrics:
        config, agent = self.config, self.agent
        chosen = torch.from_numpy(rng.choice(batch.reward.numel(), config.starts, replace=False))
        start = State(seen.h.detach().flatten(0, 1)[chosen], seen.z.detach().flatten(0, 1)[chosen])
        dream = imagine(agent, start, 1.0 - batch.ended.flatten()[chosen], config.horizon)
        with torch.no_grad():
            slow = agent.slow_critic(dream.latent)
            returns = lambda_returns(dream.reward, dream.going[1:], slow[1:], config.discount, config.trace)
            value, weight = agent.critic(dream.latent[:-1]), alive(dream)
        metrics = {"return": float(returns[0].mean()), "value": float(value[0].mean())}
        if learn_actor:
            metrics.update(self._improve(dream, returns, value, weight, seen, batch))
        critic_loss = (weight * agent.critic.loss(dream.latent[:-1], returns)).mean()
        _descend(self.critic_optimizer, critic_loss, list(agent.critic.parameters()), self.dynamics.gradient_clip)
        follow(agent.slow_critic, agent.critic, config.slow_rate)
        return metrics | {"critic": float(critic_loss.detach())}

    def _improve(
        self, dream: Dream, returns: Tensor, value: Tensor, weight: Tensor, seen: Observed, batch: Sequences
    ) -> Metrics:
        config = self.config
        rms = self.rms.update(returns - value, weight)
        advantage = scaled_advantage(returns, value, rms, config.advantage_clip)
        probabilities = self.agent.actor(dream.latent[:-1])
        loss, entropy = actor_loss(probabilities, dream.action, advantage, weight, config.entropy)
        if config.clone_weight > 0.0:
            likely = torch.log(self.agent.actor(seen.latent().detach()))
            loss = loss + config.clone_weight * label_loss(likely, batch.label, batch.ended).mean()
        _descend(self.actor_optimizer, loss, list(self.agent.actor.parameters()), self.dynamics.gradient_clip)
        return {"entropy": float(entropy), "advantage_rms": rms}


class RunningRms(nn.Module):
    """Running root mean square of the advantages; a module so that checkpoints keep it.

    It is no standard deviation: no mean is taken off, so a critic that is too low or too high everywhere makes it
    larger, and steps smaller.
    """

    square: Tensor
    RATE = 0.02

    def __init__(self) -> None:
        """Unknown until the first update."""
        super().__init__()
        self.register_buffer("square", torch.tensor(-1.0))

    @torch.no_grad()
    def update(self, advantage: Tensor, weight: Tensor) -> float:
        """Take in advantages (K, B) with weights (K, B); the root mean square [return units]."""
        now = (weight * advantage**2).sum() / weight.sum().clamp(min=1e-6)
        self.square.copy_(now if self.square < 0.0 else torch.lerp(self.square, now, self.RATE))
        return float(self.square.sqrt())


def train_policy(
    learner: ActorCritic, replay: Replay, updates: int, name: str, run: Run, warmup: bool = False
) -> FitReport:
    """Updates of one round, without early stop: rounds are scored by driving. With `warmup` only the critic learns."""

    def update(step: int) -> Metrics:
        rng = step_generator(run.seed, name, step)
        model_too = not warmup and step % learner.config.dynamics_every == 0
        return learner.update(replay, not warmup, model_too, rng)

    def validate() -> Metrics:
        return {"loss": float("-inf")}

    stage = Stage(
        name, update, validate, learner.modules(), learner.optimizers(), updates, learner.config.minutes, updates, 2
    )
    return fit(stage, run)
