"""Replayed rollouts in, a repaired part out: the dynamics by its losses on sequences, the policy by imagination.

Both updates use the losses of pretraining with its weights. What differs: no oversampling of crashes (else the model
turns pessimistic and the policy freezes), a frozen encoder with its embeddings cached, and no labels, because a vehicle
has no expert.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from adawm_planner.adaptation.composed import ComposedLinear, share_factors
from adawm_planner.adaptation.rollouts import Progress, quiet
from adawm_planner.adaptation.student import Student
from adawm_planner.adaptation.subunits import propose_subunits
from adawm_planner.adaptation.visited import visit
from adawm_planner.config.adaptation import AdaptationConfig, FitConfig
from adawm_planner.policy.agent import Agent
from adawm_planner.policy.critic import follow
from adawm_planner.pretraining.fit import step_generator
from adawm_planner.pretraining.losses import (
    Sequences,
    actor_loss,
    alive,
    lambda_returns,
    model_losses,
    picture_loss,
    scaled_advantage,
)
from adawm_planner.pretraining.trainer import Replay, RunningRms, imagine
from adawm_planner.world_model.model import WorldModel
from adawm_planner.world_model.rssm import State

SHOW_EVERY = 10

RATES = ("dynamics_rate", "actor_lora_rate", "subunit_rate", "actor_rate")
"""Learning rates of what drives: all but the critic's."""

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class FitReport:
    """What the update of one part did."""

    part: str
    updates: int
    seconds: float
    trainable: int  # numbers trained, critic excepted
    metrics: dict[str, float]  # of the last updates, averaged


def _repeat(part: str, updates: int, step: Callable[[int], Metrics], trainable: int, show: Progress) -> FitReport:
    """Run `step` with each update's number."""
    begun, history = time.monotonic(), list[Metrics]()
    for number in range(updates):
        history.append(step(number))
        if number % SHOW_EVERY == 0 or number == updates - 1:
            show(number + 1, " ".join(f"{key} {value:.3f}" for key, value in history[-1].items()))
    last = history[-max(1, updates // 5) :]
    metrics = {key: float(np.mean([each[key] for each in last])) for key in last[0]} if last else {}
    return FitReport(part, updates, time.monotonic() - begun, trainable, metrics)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, clip: float) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()


def _count(parameters: list[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def at_round(config: AdaptationConfig, index: int) -> AdaptationConfig:
    """The configuration with the rates of this round of a run, from 1."""
    scale = min(1.0, config.fit.full_rate_rounds / index)
    return replace(config, fit=replace(config.fit, **{name: scale * getattr(config.fit, name) for name in RATES}))


# ---------------------------------------------------------------- dynamics


def fit_dynamics(
    student: Student, replay: Replay, config: AdaptationConfig, updates: int, seed: int, show: Progress = quiet
) -> FitReport:
    """Fit the world model to replayed sequences.

    Low rank: the encoder stands still, cached embeddings are read, and what the policy does about them is kept. Full:
    everything is trained, encoder and decoder too, and the replay is embedded anew afterwards.
    """
    fit, agent, parameters = config.fit, student.agent, student.dynamics_parameters()
    loss_of, rate, layers = full_loss, fit.actor_rate, list[ComposedLinear]()
    if student.low_rank:
        loss_of, rate, agent = low_rank_loss, fit.dynamics_rate, student.merged()
        layers = share_factors(agent, student.agent, "world_model")
    optimizer, before = torch.optim.Adam(parameters, rate), Before.of(agent, replay)

    def step(number: int) -> Metrics:
        loss, metrics = loss_of(agent, replay, before, fit, step_generator(seed, "dynamics", number))
        _descend(optimizer, loss, fit.gradient_clip)
        for layer in layers:
            layer.compose()
        return metrics

    report = _repeat("dynamics", updates, step, _count(parameters), show)
    if not student.low_rank:
        replay.embed_again()
    return report


def recent_share(replay: Replay, fresh: float) -> float:
    """What `Replay.draw` has to take from the new task so that, with what it draws from all, a share `fresh` is new."""
    new = replay.newest / len(replay)
    return 0.0 if new >= fresh else (fresh - new) / (1.0 - new)


@dataclass(frozen=True)
class Before:
    """A replay filtered once, by the agent as it is before a dynamics update.

    Windows begin in these states instead of in nothing, so short ones will do, and short ones cost less: their steps
    are in sequence. DreamerV3 keeps its latents in the replay for the same reason. During the update they grow stale by
    what it changes.
    """

    state: State  # h (N, D), z (N, G * N) after each row
    acting: Tensor  # (N, A) probabilities of the policy at each row, at the posterior's most probable latent

    @staticmethod
    @torch.no_grad()
    def of(agent: Agent, replay: Replay) -> Before:
        """Filter every episode."""
        state = visit(agent, replay, 0).state
        return Before(state, agent.actor(state.latent()))

    def start(self, replay: Replay, batch: Sequences) -> tuple[Sequences, State]:
        """The windows with their true `first` flags, and the states (B, ...) they begin in."""
        begin = batch.rows[:, 0]
        first = batch.first.clone()
        first[:, 0] = torch.from_numpy(replay.episodes.first[begin.numpy()])
        earlier = (begin - 1).clamp(min=0)  # not read where an episode begins, as it does at row 0
        return replace(batch, first=first), State(self.state.h[earlier], self.state.z[earlier])


def low_rank_loss(
    agent: Agent, replay: Replay, before: Before, fit: FitConfig, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch on cached embeddings.

    One term more than in pretraining: the policy reads latents, so moving them moves what it does. Its decisions
    before the update are kept on what was really observed; only then does a repaired model drive no worse until the
    policy's own turn comes. `policy_moved` is the KL divergence from what the policy does at the most probable latents,
    as when it drives, to what it does at the sampled ones of this batch. So it also contains what sampling a latent
    does to the decision, and is above 0 before the first update; minimised, it makes decisions depend less on that too.
    """
    drawn = replay.draw(fit.batch, fit.length, 0, recent_share(replay, fit.fresh), rng)
    batch, state = before.start(replay, drawn)
    total, latent, metrics = sequence_loss(agent.world_model, batch, batch.embedding, state, fit)
    acting, now = before.acting[batch.rows], agent.actor(latent)
    moved = (acting * (acting.log() - now.log())).sum(-1).mean()
    return total + fit.keep_policy * moved, metrics | {"policy_moved": float(moved.detach())}


def full_loss(
    agent: Agent, replay: Replay, before: Before, fit: FitConfig, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch through encoder and decoder."""
    drawn = replay.draw(fit.batch, fit.length, fit.batch * fit.length, recent_share(replay, fit.fresh), rng)
    batch, state = before.start(replay, drawn)
    model, order = agent.world_model, torch.argsort(batch.picture_rows)
    pictures = batch.pictures[order]
    embedding = model.encoder(pictures, batch.state.flatten(0, 1)).view_as(batch.embedding)
    total, latent, metrics = sequence_loss(model, batch, embedding, state, fit)
    some = batch.picture_rows[: fit.image_samples]
    image = picture_loss(model.decoder(latent.flatten(0, 1)[some]), pictures[some])
    return total + fit.image_weight * image, metrics | {"image": float(image.detach())}


def sequence_loss(
    model: WorldModel, batch: Sequences, embedding: Tensor, state: State, fit: FitConfig
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """World-model loss without labels.

    Args:
        model: with or without factors.
        batch: windows of rollouts.
        embedding: (B, T, E) of the windows, with gradient where the encoder is trained.
        state: (B, ...) before their first rows.
        fit: weights of the terms.

    Returns:
        The scalar loss, the latents (B, T, D + G * N), and the terms by name.
    """
    seen = model.rssm.observe(embedding, batch.action, batch.first, state)
    latent = seen.latent()
    parts, _ = model_losses(model, batch, embedding.detach(), seen, latent, fit)
    # What came where the gate overruled the action is not what it leads to, and its gradient would reach h, which is
    # made from that action. Only an end counts: the action was not what prevented it.
    counted = 1.0 - batch.overruled * (1.0 - batch.terminal)
    means = {name: (counted * part).mean() for name, part in parts.items()}
    total = torch.stack(list(means.values())).sum()
    return total, latent, {name: float(mean.detach()) for name, mean in means.items()}


# ---------------------------------------------------------------- policy


@dataclass(frozen=True)
class Behaviour:
    """Imagined futures with what actor and critic learn from them; K decisions, B futures."""

    latent: Tensor  # (K, B, D + G * N)
    action: Tensor  # (K, B)
    returns: Tensor  # (K, B) lambda-returns
    value: Tensor  # (K, B)
    weight: Tensor  # (K, B) probability that nothing had ended the episode before

    def advantage(self, running: RunningRms, clip: float) -> Tensor:
        """Advantages (K, B) in units of their running root mean square."""
        rms = running.update(self.returns - self.value, self.weight)
        return scaled_advantage(self.returns, self.value, rms, clip)


@dataclass(frozen=True)
class Starts:
    """States that imagined futures start from: all of a replay, filtered once, because the model stands still while
    the policy is fitted."""

    state: State  # h (N, D), z (N, G * N)
    newest: int  # rows of the new task, at the end

    @staticmethod
    def of(agent: Agent, replay: Replay) -> Starts:
        """Filter every episode of a replay with the model as it is now; nothing starts where an episode ended."""
        state, rows = visit(agent, replay, 0).state, np.flatnonzero(replay.ended == 0.0)
        chosen = torch.from_numpy(rows)
        newest = int((rows >= len(replay) - replay.newest).sum())
        return Starts(State(state.h[chosen], state.z[chosen]), newest)

    def draw(self, count: int, fresh: float, rng: np.random.Generator) -> State:
        """`count` states, a share `fresh` of them from the new task; all alike where there is only one kind."""
        total, new = len(self.state.h), round(count * fresh)
        border = total - self.newest
        if 0 < border < total:
            rows = np.concatenate([rng.integers(border, total, new), rng.integers(0, border, count - new)])
        else:
            rows = rng.integers(0, total, count)
        chosen = torch.from_numpy(rows)
        return State(self.state.h[chosen], self.state.z[chosen])


@torch.no_grad()
def dream(agent: Agent, starts: Starts, fit: FitConfig, rng: np.random.Generator) -> Behaviour:
    """Imagine from some of these states."""
    future = imagine(agent, starts.draw(fit.starts, fit.fresh, rng), torch.ones(fit.starts), fit.horizon)
    slow = agent.slow_critic(future.latent)
    returns = lambda_returns(future.reward, future.going[1:], slow[1:], fit.discount, fit.trace)
    before = future.latent[:-1]
    return Behaviour(before, future.action, returns, agent.critic(before), alive(future))


def policy_loss(agent: Agent, seen: Behaviour, running: RunningRms, fit: FitConfig) -> tuple[Tensor, Tensor]:
    """Policy-gradient loss of the actor and its mean entropy."""
    advantage = seen.advantage(running, fit.advantage_clip)
    return actor_loss(agent.actor(seen.latent), seen.action, advantage, seen.weight, fit.entropy)


def policy_gradients(student: Student, starts: Starts, config: AdaptationConfig, seed: int) -> dict[str, Tensor]:
    """Gradient (out, in) of each of the actor's matrices at the policy that acts now, by layer name.

    It is the sum over `subunits.gradients` imagined batches: only its direction is used.
    """
    plain = student.merged()
    plain.actor.requires_grad_(True)
    for number in range(config.subunits.gradients):
        behaviour = dream(plain, starts, config.fit, step_generator(seed, "gradients", number))
        policy_loss(plain, behaviour, student.rms, config.fit)[0].backward()  # type: ignore[no-untyped-call]
    layers = [(name, module) for name, module in plain.named_modules() if isinstance(module, nn.Linear)]
    return {name: layer.weight.grad for name, layer in layers if layer.weight.grad is not None}


def fit_policy(
    student: Student, replay: Replay, config: AdaptationConfig, updates: int, seed: int, show: Progress = quiet
) -> FitReport:
    """Improve the policy in the current model; the critic is fitted along with it, first of all alone.

    What leaves is the mean of the trained numbers over the last `averaged` of the updates (stochastic weight averaging,
    Izmailov et al. 2018): single updates follow noisy gradients, and where a step happens to end should not matter.
    With LoRA these are the factors A and B, each averaged by itself, whose product is not the mean of the products.

    With sub-units there is no mean, and every `subunits.updates` updates their sum is folded in and new ones are
    proposed along the policy gradient as it is then: directions chosen once per step are used up long before the step
    is.
    """
    begun, fit, (agent, layers) = time.monotonic(), config.fit, _on_still_model(student)
    critic, starts = torch.optim.Adam(agent.critic.parameters(), fit.critic_rate, eps=1e-6), Starts.of(agent, replay)
    mean, last = AveragedModel(agent.actor), 0 if student.subunits else round(fit.averaged * updates)

    def evaluate_policy(number: int) -> Metrics:
        rng = step_generator(seed, "warmup", number)
        return {"critic": _fit_critic(agent, dream(agent, starts, fit, rng), critic, fit)}

    _repeat("critic", fit.warmup, evaluate_policy, 0, quiet)
    actor = _actor_optimizer(student, fit)

    def step(number: int) -> Metrics:
        nonlocal actor
        if student.subunits and number % config.subunits.updates == 0:
            student.fold()
            propose_subunits(agent, policy_gradients(student, starts, config, seed + number), config.subunits)
            actor = _actor_optimizer(student, fit)
        behaviour = dream(agent, starts, fit, step_generator(seed, "policy", number))
        loss, entropy = policy_loss(agent, behaviour, student.rms, fit)
        _descend(actor, loss, fit.gradient_clip)
        for layer in layers:
            layer.compose()
        error = _fit_critic(agent, behaviour, critic, fit)
        if number >= updates - last:
            mean.update_parameters(agent.actor)
        imagined = float(behaviour.returns[0].mean())
        return {"imagined_return": imagined, "entropy": float(entropy), "critic": error}

    report = _repeat("policy", updates, step, 0, show)
    trainable = _count(student.policy_parameters())
    if last:
        agent.actor.load_state_dict(mean.module.state_dict())
    student.fold()
    return replace(report, seconds=time.monotonic() - begun, trainable=trainable)


def _on_still_model(student: Student) -> tuple[Agent, list[ComposedLinear]]:
    """The student's own policy and critics on its model without factors beside the weights, which imagines faster; and
    the policy's layers, to be composed after every change."""
    agent = student.merged()
    agent.critic, agent.slow_critic = student.agent.critic, student.agent.slow_critic
    if student.low_rank and not student.subunits:
        return agent, share_factors(agent, student.agent, "actor")
    agent.actor = student.agent.actor
    return agent, []


def _actor_optimizer(student: Student, fit: FitConfig) -> torch.optim.Adam:
    """A fresh optimiser: momentum along sub-units that are gone means nothing."""
    rate = fit.subunit_rate if student.subunits else fit.actor_lora_rate if student.low_rank else fit.actor_rate
    return torch.optim.Adam(student.policy_parameters(), rate, eps=1e-6)


def _fit_critic(agent: Agent, seen: Behaviour, optimizer: torch.optim.Optimizer, fit: FitConfig) -> float:
    loss = (seen.weight * agent.critic.loss(seen.latent, seen.returns)).mean()
    _descend(optimizer, loss, fit.gradient_clip)
    follow(agent.slow_critic, agent.critic, fit.slow_rate)
    return float(loss.detach())
