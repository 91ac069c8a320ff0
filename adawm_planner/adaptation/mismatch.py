"""New rollouts, source rollouts and the current agent in, mismatch scores of dynamics and policy out.

`direct` estimates what AdaWM's theory is about, `visitation` the proxies its paper uses; each score is an excess over
the same quantity on pretraining data, with a standard error over episodes. `select_part` decides from one pair and
from how driving ended.

Total variation between posterior and prior finds a new vehicle or task at once. But training pulls the prior to the
posterior wherever the data is, so after the first update it says that all is well while predictions are still wrong.
`dynamics_prediction` is measured in what the encoder sees and the ego feels; it is the default. At low rank the encoder
is frozen and no update can move either. A full update trains the encoder too, so its `world` is measured in a space
that it moved itself, in units of the base model's.

| score | of | unit |
|---|---|---|
| `dynamics_divergence` | posterior against prior, averaged over groups: how badly predictions explain what came | TV |
| `dynamics_prediction` | mean of `ego` and `world`, each in units of its mean on source data | share |
| `ego` | error of the predicted acceleration, for which mostly the vehicle answers | state feature |
| `world` | error of the predicted embedding, for which mostly road and traffic answer | embedding, squared |
| `cause_vehicle`, `cause_task` | `ego` and `world` without each other's share, see `Measure` | source deviations |
| `policy_imagined`, `policy_returns` | acting policy against an improved one, see `improvement` | TV |
| `visit_state_action`, `visit_state` | new against source visitation, see `visitation` | TV |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from adawm_planner.adaptation.improvement import (
    imagined_advantages,
    imagined_step,
    own_advantages,
    pick_states,
    returns_step,
)
from adawm_planner.adaptation.scores import CAUSES, DIRECT, VISITATION, Baseline, Sample, Scales, Score, Tally
from adawm_planner.adaptation.visitation import halves, state_action_points, state_points, visitation_distance
from adawm_planner.adaptation.visited import Visited, visit
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.data_types import Float64, Int64
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import Bool
from adawm_planner.pretraining.trainer import Replay

NULL_EPISODES = 12
"""Episodes on one side of the null of the visitation estimators: about one round."""


@dataclass(frozen=True)
class Mismatch:
    """All scores of one round."""

    scores: dict[str, Score]
    seconds: dict[str, float]  # what each estimate cost; `filter` is shared by all
    pair: tuple[str, str]  # names of the scores the decision is made from

    @property
    def dynamics(self) -> Score:
        """The score that speaks for repairing the dynamics."""
        return self.scores[self.pair[0]]

    @property
    def policy(self) -> Score:
        """The score that speaks for repairing the policy."""
        return self.scores[self.pair[1]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        scores = {name: score.to_json() for name, score in self.scores.items()}
        return {"scores": scores, "pair": list(self.pair), "seconds": self.seconds}


def pair_of(config: AdaptationConfig) -> tuple[str, str]:
    """Names of the two scores that the configured estimator decides from."""
    if config.mismatch.estimator == "visitation":
        return "visit_state_action", "visit_state"
    return f"dynamics_{config.mismatch.dynamics_evidence}", f"policy_{config.mismatch.policy_evidence}"


def measure_baseline(
    agent: Agent, source: Replay, driving: Tally, config: AdaptationConfig, digest: str, origin: dict[str, Any]
) -> Baseline:
    """Every quantity on the base model's own source rollouts, stored with the model by `adawm baseline`."""
    visited = visit(agent, source, config.mismatch.burn_in)
    scales = Measure(agent, source, visited, config, np.random.default_rng(0)).scales()
    measure = Measure(agent, source, visited, enough_states(config, visited), np.random.default_rng(0))
    samples: dict[str, Sample] = {}
    for name in DIRECT:  # in this order: the others need the samples of ego and world
        samples[name] = Sample.of(measure.direct(name, samples, scales))
    last, others = (rows & visited.acted for rows in halves(visited, NULL_EPISODES))
    for name in VISITATION:
        samples[name] = measure.visitation(name, last, measure, others)
    return Baseline(digest, origin, driving, samples, scales)


def enough_states(config: AdaptationConfig, visited: Visited) -> AdaptationConfig:
    """As many states per episode as a round of adaptation looks at, however many episodes there are."""
    each = max(1, config.mismatch.states // NULL_EPISODES)
    return replace(config, mismatch=replace(config.mismatch, states=each * visited.episodes))


def measure_mismatch(
    agent: Agent,
    new: Replay,
    source: Replay,
    baseline: Baseline,
    config: AdaptationConfig,
    seed: int,
    every: bool = False,
) -> Mismatch:
    """Scores of one round.

    Args:
        agent: world model and policy as they are now.
        new: the round's rollouts, driven by this policy.
        source: the base model's rollouts on the source task.
        baseline: of the base model.
        config: how, and which pair of scores decides.
        every: compute the visitation scores too where they do not decide; they cost most.
        seed: of the states looked at and the futures imagined.
    """
    torch.manual_seed(seed)
    pair, seconds = pair_of(config), dict[str, float]()
    begun = time.monotonic()
    visited = visit(agent, new, config.mismatch.burn_in)
    seconds["filter"] = time.monotonic() - begun
    measure = Measure(agent, new, visited, config, np.random.default_rng(seed))

    def direct(name: str) -> Sample:
        return Sample.of(measure.direct(name, baseline.samples, baseline.scales))

    wanted: dict[str, Callable[[], Sample]] = {name: partial(direct, name) for name in DIRECT}
    if every or config.mismatch.estimator == "visitation":
        old = Measure(agent, source, visit(agent, source, config.mismatch.burn_in), config, np.random.default_rng(seed))
        for name in VISITATION:
            wanted[name] = partial(measure.visitation, name, visited.acted, old, old.visited.acted)
    scores = {}
    for name, sample in wanted.items():
        begun = time.monotonic()
        scores[name] = Score.above(sample(), baseline.samples[name])
        seconds[name] = time.monotonic() - begun
    return Mismatch(scores, seconds, pair)


@dataclass(frozen=True)
class Measure:
    """One set of rollouts, measured: one number per episode, NaN where an episode gives none."""

    agent: Agent
    replay: Replay
    visited: Visited
    config: AdaptationConfig
    rng: np.random.Generator

    def direct(self, name: str, baseline: Mapping[str, Sample], scales: Scales) -> Float64:
        """The `direct` score of this name."""
        if name in CAUSES:
            return self.cause_vehicle(baseline) if name == "cause_vehicle" else self.cause_task(baseline)
        if name.startswith("policy"):
            return self.policy_imagined(scales) if name == "policy_imagined" else self.policy_returns(scales)
        if name == "dynamics_prediction":
            return self.prediction(baseline)
        return {"dynamics_divergence": self.divergence, "ego": self.ego, "world": self.world}[name]()

    def divergence(self) -> Float64:
        """Surprise: total variation between posterior and prior."""
        return self._per_episode(self.visited.surprise)

    def ego(self) -> Float64:
        """Absolute error of the predicted acceleration."""
        return self._per_episode(self.visited.ego_error)

    def world(self) -> Float64:
        """Squared error of the predicted embedding."""
        return self._per_episode(self.visited.world_error)

    def prediction(self, baseline: Mapping[str, Sample]) -> Float64:
        """How wrong one-step predictions are, 1 as on source data."""
        return 0.5 * (self.ego() / baseline["ego"].mean + self.world() / baseline["world"].mean)

    def cause_vehicle(self, baseline: Mapping[str, Sample]) -> Float64:
        """What speaks for a changed vehicle: the ego's error without what a changed task adds to it.

        On another road or in other traffic accelerations are harder to predict too, in a nearly fixed proportion to
        the world's error (`leak_to_ego`) when both are counted in deviations over source episodes.
        """
        ego = (self.ego() - baseline["ego"].mean) / baseline["ego"].deviation
        world = (self.world() - baseline["world"].mean) / baseline["world"].deviation
        return ego - self.config.mismatch.leak_to_ego * world

    def cause_task(self, baseline: Mapping[str, Sample], episodes: Int64 | None = None) -> Float64:
        """What speaks for a changed task: the world's error without what the ego's own error explains of it.

        A vehicle that does not move as predicted shifts everything it sees, so its error is in the world's as well. How
        much of it is read from these very rollouts: the slope of the world's error over the ego's, from decision to
        decision (ordinary least squares). What is left is the error at decisions in which the ego moves as predicted.

        Args:
            baseline: of the base model; only the world's deviation is used, as the unit.
            episodes: numbers of those that the slope is read from; None: all.
        """
        rows = (
            self.visited.predicted
            if episodes is None
            else self.visited.predicted & np.isin(self.visited.episode, episodes)
        )
        ego, world = self.visited.ego_error[rows], self.visited.world_error[rows]
        spread = float(ego.var())
        slope = float(np.mean((ego - ego.mean()) * world)) / spread if spread > 0.0 else 0.0
        return (self.world() - slope * self.ego()) / baseline["world"].deviation

    def _per_episode(self, error: Float64) -> Float64:
        return self.visited.by_episode(self.visited.predicted, error[self.visited.predicted])

    def policy_imagined(self, scales: Scales) -> Float64:
        """Distance to the policy that the current model would rather have."""
        config = self.config.mismatch
        rows = pick_states(self.visited, config.states, self.rng)
        policy, advantage = imagined_advantages(self.agent, self.visited, rows, config, self.config.fit.discount)
        step = imagined_step(policy, advantage, config.temperature * scales.imagined)
        return self.visited.by_episode(rows, step)

    def policy_returns(self, scales: Scales) -> Float64:
        """Distance to the policy that the rollouts' own returns would rather have."""
        rows = self.visited.carried_out
        taken, advantage = own_advantages(self.agent, self.replay.episodes, self.visited, self.config.fit)
        step = returns_step(taken[rows], advantage[rows], self.config.mismatch.temperature * scales.returns)
        return self.visited.by_episode(rows, step)

    def visitation(self, name: str, rows: Bool, old: Measure, old_rows: Bool) -> Sample:
        """Distance between where these rollouts and the old ones go."""
        new_points, old_points = self._points(name), old._points(name)
        return visitation_distance(
            new_points[torch.from_numpy(rows)],
            self.visited.episode[rows],
            old_points[torch.from_numpy(old_rows)],
            old.visited.episode[old_rows],
            self.config.mismatch.folds,
            self.config.mismatch.ridge,
        )

    def scales(self) -> Scales:
        """Deviations that fix temperature and units."""
        config = self.config
        rows = pick_states(self.visited, 4 * config.mismatch.states, self.rng)
        policy, advantage = imagined_advantages(self.agent, self.visited, rows, config.mismatch, config.fit.discount)
        own = own_advantages(self.agent, self.replay.episodes, self.visited, config.fit)[1][self.visited.carried_out]
        spread = float((policy * advantage**2).sum(-1).mean().sqrt())
        return Scales(spread, float(own.std()))

    def _points(self, name: str) -> torch.Tensor:
        if name == "visit_state":
            return state_points(self.visited)
        return state_action_points(self.visited, self.replay.episodes)
