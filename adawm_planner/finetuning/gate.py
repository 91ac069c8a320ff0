"""The agent before and after an update, and held-out driving in; whether the update may leave, and why, out.

| update | must be better, with confidence | must not be worse |
|---|---|---|
| dynamics | prediction error on held-out episodes: of all, and by what leaves alone | its two parts; error at home |
| policy | imagined return from held-out states | imagined return at home |

The policy's decisions may move within a limit, on held-out and on home observations, by either update. Home is the
source task: those of the base model's own rollouts that are held out.

The unit of every test is the episode: before and after are compared on the same episode, and the differences go through
Student's one-sided paired test; for what must be better, through the sign-flip test as well. With an update that
changes nothing, before and after can be exchanged, the differences are symmetric about 0, and at most a share of
1 - confidence of such updates passes (one that changes no number never does). Two agents that differ by noise are never
quite equally good, and with many episodes that would show: so a gain counts only above a least one.

What it shows. A dynamics update that passes predicts driving that it has not seen better than before: what was
observed decides, not the model. Only its recurrent model leaves, the heads that were trained with it do not. So the
recurrent model is also compared alone: against the one before the update, both read by the heads after it. To those
the older one is strange, which makes it a weak opponent: new latents that only say the same in other words can win.
A recurrent model that stands still cannot, and one that differs by noise rarely does.

A policy update that passes does better *in the model*, from situations that were really met. On a vehicle there is no
second try of an episode, so whether it drives better on the road is not shown: it is tuned to the very model that
judges it, and where the model is wrong both are wrong together. Three things bound that: the states are real and not
trained on, the futures are short and end in the critic as it was before the update, and the decisions may move a
limited way only. The second line of defence is the planner, which watches the real outcome on probation and rolls back.

Held-out episodes serve in several rounds. Each round's test holds for itself; over many rounds an update that is no
better passes now and then.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import stats

from adawm_planner.adaptation.improvement import pick_states
from adawm_planner.adaptation.scores import Baseline
from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.visited import Visited, visit
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.config.finetuning import UpdateGateConfig
from adawm_planner.data_types import Float64, Int64
from adawm_planner.finetuning.material import HeldOut
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import Bool
from adawm_planner.pretraining.trainer import Replay, imagine
from adawm_planner.world_model.rssm import State

UNKNOWN = 1e30
"""Stands for a number that could not be computed and passes no rule: JSON knows neither NaN nor infinity."""

FLIPPED_BITS = 12
"""2 to this is the number of sign flips that are tried."""


@dataclass(frozen=True)
class Check:
    """One rule and what it found."""

    name: str
    passed: bool
    measured: float
    limit: float
    text: str  # one line


@dataclass(frozen=True)
class GateReport:
    """Why an update may leave or not."""

    part: str  # dynamics or policy
    passed: bool
    reason: str  # one line
    held_out_episodes: int  # that it was judged by
    home_episodes: int
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return asdict(self) | {"checks": [asdict(each) for each in self.checks]}


@dataclass(frozen=True)
class Ground:
    """Driving that both agents are compared on, filtered by each."""

    replay: Replay
    unit: Int64  # (stretches,) episode that each stretch is a part of
    before: Visited
    after: Visited

    @staticmethod
    def of(replay: Replay, unit: Int64, before: Agent, after: Agent, burn_in: int) -> Ground:
        """Filter with both."""
        return Ground(replay, unit, visit(before, replay, burn_in), visit(after, replay, burn_in))

    def by_episode(self, rows: Bool | Int64, values: Float64) -> Float64:
        """Mean per episode, over its stretches, of one value per chosen row.

        Only episodes without a chosen row are left out. A value that is not finite makes its episode's mean so: what an
        agent could not compute is no reason to judge it on the rest.
        """
        given = self._given(rows)
        total = np.bincount(self.unit[given], self.before.by_episode(rows, values)[given])
        count = np.bincount(self.unit[given])
        return total[count > 0] / count[count > 0]

    def episodes(self, rows: Bool | Int64) -> int:
        """Number of episodes with a chosen row."""
        return len(np.unique(self.unit[self._given(rows)]))

    def _given(self, rows: Bool | Int64) -> Int64:
        """Stretches with a chosen row, each once."""
        return np.unique(self.before.episode[rows])


@dataclass(frozen=True)
class Trial:
    """An update to be judged."""

    part: Part
    before: Agent
    after: Agent
    baseline: Baseline
    config: AdaptationConfig
    gate: UpdateGateConfig
    seed: int  # of states and imagined futures


def judge(trial: Trial, held_out: HeldOut | None, home: Replay) -> GateReport:
    """Decide whether an update may leave.

    Args:
        trial: the update.
        held_out: driving that it was not trained on; None where there is none yet, then nothing passes.
        home: held-out source rollouts of the base model.
    """
    refused = too_few(held_out, trial.part, trial.gate)
    if held_out is None or refused is not None:
        assert refused is not None
        return refused
    unit = np.arange(int(home.episodes.first.sum()), dtype=np.int64)
    replay = Replay(trial.before.world_model.encoder, held_out.episodes, trial.config.fit.discount)
    burn_in = trial.config.mismatch.burn_in
    here = Ground.of(replay, held_out.unit, trial.before, trial.after, burn_in)
    away = Ground.of(home, unit, trial.before, trial.after, burn_in)
    rows = here.before.predicted if trial.part is Part.DYNAMICS else here.before.acted
    count = here.episodes(rows)
    if count < trial.gate.least_episodes:
        return _refused("held-out episodes with a decision to judge by", count, trial.part, trial.gate)
    checks = _dynamics(trial, here, away) if trial.part is Part.DYNAMICS else _policy(trial, here, away)
    failed = [check.text for check in checks if not check.passed]
    reason = "; ".join(failed) if failed else checks[0].text
    return GateReport(trial.part.value, not failed, reason, count, len(unit), tuple(checks))


def too_few(held_out: HeldOut | None, part: Part, gate: UpdateGateConfig) -> GateReport | None:
    """The refusal of any update, where there is not enough held-out driving to judge it."""
    count = 0 if held_out is None else held_out.count
    return None if count >= gate.least_episodes else _refused("held-out episodes", count, part, gate)


def _refused(what: str, count: int, part: Part, gate: UpdateGateConfig) -> GateReport:
    least = gate.least_episodes
    text = f"{what}: {count}, at least {least} are needed to judge an update; drive on"
    return GateReport(part.value, False, text, count, 0, (Check("held_out_episodes", False, count, least, text),))


def better(name: str, gain: Float64, least: float, confidence: float) -> Check:
    """Whether gains (episodes,) are above `least` on average, by Student's one-sided paired test and by sign flips.

    Student's alone is a little too generous where all differences have the same size; flipping signs alone is exact,
    but says nothing about how much is gained.
    """
    low, chance = lower_bound(gain, confidence), sign_flip(gain - least)
    mean = float(np.mean(gain)) if len(gain) and np.isfinite(gain).all() else 0.0
    text = f"{name}: gain {mean:.4f}, with {confidence:.0%} above {low:.4f} ({least:g}), by chance in {chance:.1%}"
    return Check(name, bool(low > least and chance <= 1.0 - confidence), low, least, text)


def sign_flip(gain: Float64) -> float:
    """How often the mean would be as large if each gain (episodes,) had its sign by the toss of a coin.

    If gains are symmetric about 0, this is at most p in a share p of trials, whatever else their distribution is. All
    signs are tried where those are few, else a fixed random choice of them, the given ones included.
    """
    if len(gain) < 2 or not np.isfinite(gain).all():
        return 1.0
    if len(gain) <= FLIPPED_BITS:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(gain))[:, None] >> np.arange(len(gain)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2**FLIPPED_BITS, len(gain)))
        signs[0] = 1.0
    return float(np.mean(signs @ gain >= gain.sum() - 1e-12 * np.abs(gain).sum()))


def no_worse(name: str, gain: Float64, margin: float, confidence: float) -> Check:
    """Whether gains (episodes,) are shown to be above -margin on average."""
    low = lower_bound(gain, confidence)
    text = f"{name}: gain with {confidence:.0%} above {low:.4f} ({-margin:g})"
    return Check(name, bool(low > -margin), low, -margin, text)


def at_most(name: str, measured: float, limit: float) -> Check:
    """Whether a number is within its limit; NaN is not."""
    measured = measured if np.isfinite(measured) else UNKNOWN
    return Check(name, bool(measured <= limit), measured, limit, f"{name}: {measured:.4g} ({limit:g} at most)")


def lower_bound(gain: Float64, confidence: float) -> float:
    """One-sided lower bound of a mean by Student's t; -UNKNOWN below two values or where one is not finite.

    Where all values are equal it is that value: an update that changes nothing gains exactly 0, which is not above 0.
    """
    if len(gain) < 2 or not np.isfinite(gain).all():
        return -UNKNOWN
    error = float(gain.std(ddof=1)) / np.sqrt(len(gain))
    return float(gain.mean() - stats.t.ppf(confidence, len(gain) - 1) * error)


def _dynamics(trial: Trial, here: Ground, away: Ground) -> list[Check]:
    gate, part = trial.gate, _parts(trial, here)
    shipped, home = _parts(trial, _shipped(trial, here)), _parts(trial, away)
    return [
        better("held_out_prediction", 0.5 * (part["ego"] + part["world"]), gate.least_prediction, gate.confidence),
        better("shipped_prediction", 0.5 * (shipped["ego"] + shipped["world"]), 0.0, gate.confidence),
        *(at_most(f"held_out_{name}", -float(gain.mean()), gate.worse_part) for name, gain in part.items()),
        no_worse("home_prediction", 0.5 * (home["ego"] + home["world"]), gate.worse_at_home, gate.confidence),
        at_most("decisions_moved", _moved(trial, here), gate.moved_by_dynamics),
        at_most("decisions_moved_at_home", _moved(trial, away), gate.moved_by_dynamics),
    ]


def _policy(trial: Trial, here: Ground, away: Ground) -> list[Check]:
    gate, scale = trial.gate, trial.baseline.scales.imagined
    moved = [
        at_most("decisions_moved", _moved(trial, here), gate.moved_by_policy),
        at_most("decisions_moved_at_home", _moved(trial, away), gate.moved_at_home),
    ]
    if any(check.measured == UNKNOWN for check in moved):  # no future can be drawn from what is no distribution
        return moved
    return [
        better("imagined_return", imagined_gain(trial, here) / scale, gate.least_return, gate.confidence),
        no_worse("imagined_return_at_home", imagined_gain(trial, away) / scale, gate.worse_return, gate.confidence),
        *moved,
    ]


def _shipped(trial: Trial, ground: Ground) -> Ground:
    """The ground on which the recurrent model alone is compared, all that an adapter carries of a dynamics update.

    The heads that an update trains with it stay in the finetuner: they tell how well the latents predict, and must not
    be what makes the predictions better. So both sides predict with the heads of the agent after the update.
    """
    before = copy.deepcopy(trial.after)
    before.world_model.rssm.load_state_dict(trial.before.world_model.rssm.state_dict())
    return replace(ground, before=visit(before, ground.replay, trial.config.mismatch.burn_in))


def _parts(trial: Trial, ground: Ground) -> dict[str, Float64]:
    """By how much each prediction error (episodes,) falls, in units of its mean on source data."""
    errors: dict[str, Callable[[Visited], Float64]] = {
        "ego": lambda seen: seen.ego_error,
        "world": lambda seen: seen.world_error,
    }
    gains, rows = {}, ground.before.predicted
    for name, error in errors.items():
        with np.errstate(invalid="ignore"):  # heads that both sides share give infinity twice: NaN, which never passes
            fall = (error(ground.before) - error(ground.after))[rows]
        gains[name] = ground.by_episode(rows, fall) / trial.baseline.samples[name].mean
    return gains


@torch.no_grad()
def _moved(trial: Trial, ground: Ground) -> float:
    """Mean total variation between the decisions of both agents on what was observed."""
    was = trial.before.actor(ground.before.state.latent())
    now = trial.after.actor(ground.after.state.latent())
    distance = 0.5 * (was - now).abs().sum(-1).double().numpy()
    rows = ground.before.acted
    return float(ground.by_episode(rows, distance[rows]).mean())


def imagined_gain(trial: Trial, ground: Ground) -> Float64:
    """By how much the imagined return (episodes,) rises, return units.

    Both policies start in the same states of the model before the update, draw the same random numbers, and end in the
    critic before the update: it knows the old policy, so it does not flatter the new one.
    """
    rows = pick_states(ground.before, trial.gate.states * ground.before.episodes, np.random.default_rng(trial.seed))
    was, now = (_imagined(trial, ground.before, rows, agent) for agent in (trial.before, trial.after))
    return ground.by_episode(rows, now - was)


@torch.no_grad()
def _imagined(trial: Trial, seen: Visited, rows: Int64, acting: Agent) -> Float64:
    """Mean imagined return (rows,) of an agent's policy; a policy update leaves the model as it is."""
    torch.manual_seed(trial.seed)
    discount, chosen = trial.config.fit.discount, torch.from_numpy(rows)
    start = State(*(part[chosen].repeat_interleave(trial.gate.samples, 0) for part in seen.state))
    future = imagine(acting, start, torch.ones(len(start.h)), trial.config.mismatch.horizon)
    total, weight = torch.zeros(len(start.h)), torch.ones(len(start.h))
    for reward, going in zip(future.reward, future.going[1:], strict=True):
        total += weight * reward
        weight *= discount * going
    total += weight * trial.before.critic(future.latent[-1])
    return total.view(len(rows), -1).mean(-1).double().numpy()
