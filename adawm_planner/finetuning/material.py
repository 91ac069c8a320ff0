"""Stretches of driving in, what one round may learn from and be judged on out, or why there is no round yet.

Who drives is who is adapted: the acting policy is the one of the newest stretch, and a round's rollouts are the newest
stretches of that policy alone. Driving of earlier policies on the same base teaches the model as well and stays in the
replay; driving of another base model is left out. Held-out episodes are never among what is trained on.

Wherever episodes are counted, the stretches of one episode are one; only the standard errors of `adaptation/mismatch`
take each for an episode of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adawm_planner.config.finetuning import RoundConfig, UpdateGateConfig
from adawm_planner.data_types import Int64
from adawm_planner.finetuning.episodes import Policy, Stretch
from adawm_planner.pretraining.dataset import Episodes, join


@dataclass(frozen=True)
class HeldOut:
    """Driving that nothing was trained on."""

    episodes: Episodes
    unit: Int64  # (stretches,) which episode each stretch is a part of, from 0: what differences are averaged over

    @property
    def count(self) -> int:
        """Number of episodes."""
        return int(self.unit[-1]) + 1


@dataclass(frozen=True)
class Material:
    """What a round works on."""

    policy: Policy  # who drove the rollouts, and so who is adapted
    rollouts: Episodes  # newest training episodes of that policy
    outcomes: tuple[str, ...]  # of each of them, once per episode: how its newest stretch ended
    older: Episodes | None  # training episodes before those, of any policy on the same base
    held_out: HeldOut | None  # newest held-out episodes, of any policy on the same base; None: there is none
    recent: HeldOut | None  # those of them as new as the rollouts, or as few as the gate needs: the same world
    digest: str  # sha256 over sequence numbers, stamps and actions of all of the above, hex


@dataclass(frozen=True)
class NotYet:
    """Why there is no round yet."""

    reason: str


def material_of(stretches: Sequence[Stretch], base: str, config: RoundConfig) -> Material | NotYet:
    """Choose what a round works on.

    Args:
        stretches: the newest of the replay, in the order in which they were driven.
        base: digest of the model that is adapted.
        config: how much a round needs, and how much it takes.
    """
    if not stretches:
        return NotYet("no episode yet")
    acting = stretches[-1].policy
    if acting.base_digest != base:
        return NotYet(
            f"the planner drives base model {acting.base_digest[:12]}, this finetuner adapts {base[:12]}; "
            "give both the same model_dir"
        )
    ours = [one for one in stretches if one.policy.base_digest == base and _tells(one, config)]
    train = [one for one in ours if not one.episodes.held_out[0]]
    chosen = _newest_of(acting, train, config)
    # Of an episode in several stretches the last one says how it ended; it may have been cut, and then says nothing.
    outcomes = {train[k].unit: train[k].outcome for k in chosen}
    rows, episodes = sum(_carried_out(train[k]) for k in chosen), len(outcomes)
    if rows < config.needed or episodes < config.least_episodes:
        return NotYet(
            f"the acting policy carried out {rows} training decisions in {episodes} episodes, a round needs "
            f"{config.needed} in {config.least_episodes}"
        )
    rollouts = [train[k] for k in chosen]
    older = [one for k, one in enumerate(train) if k not in set(chosen)]
    held = [one for one in ours if one.episodes.held_out[0]]
    begin = next(k for k, one in enumerate(ours) if one is rollouts[0])
    recent = _held_out([one for one in ours[begin:] if one.episodes.held_out[0]], config.held_out_episodes)
    least = UpdateGateConfig().least_episodes
    return Material(
        policy=acting,
        rollouts=join([one.episodes for one in rollouts]),
        outcomes=tuple(outcomes.values()),
        older=join([one.episodes for one in older]) if older else None,
        held_out=_held_out(held, config.held_out_episodes),
        recent=recent if recent is not None and recent.count >= least else _held_out(held, least),
        digest=_digest(ours),
    )


def _newest_of(policy: Policy, train: list[Stretch], config: RoundConfig) -> list[int]:
    """Places of the newest stretches of a policy that a round takes, in order; all of them where there are fewer."""
    places, units, rows = list[int](), set[int](), 0
    for k in reversed(range(len(train))):
        if rows >= config.decisions and len(units) >= config.least_episodes:
            break
        if train[k].policy == policy:
            places.append(k)
            units.add(train[k].unit)
            rows += _carried_out(train[k])
    return places[::-1]


def _tells(stretch: Stretch, config: RoundConfig) -> bool:
    """Whether it gives a score: beyond the burn-in some decision was carried out."""
    return bool((~stretch.episodes.overruled[config.burn_in :]).any())


def _carried_out(stretch: Stretch) -> int:
    """Decisions that the gate did not overrule: a vehicle that it holds gathers nothing for a round."""
    return int((~stretch.episodes.overruled).sum())


def _held_out(stretches: list[Stretch], most: int) -> HeldOut | None:
    """The newest `most` held-out episodes; None where there is none."""
    if not stretches:
        return None
    kept = set(np.unique([one.unit for one in stretches])[-most:])
    chosen = [one for one in stretches if one.unit in kept]
    _, unit = np.unique([one.unit for one in chosen], return_inverse=True)
    return HeldOut(join([one.episodes for one in chosen]), unit.astype(np.int64))


def _digest(stretches: list[Stretch]) -> str:
    total = hashlib.sha256()
    for one in stretches:
        for array in (one.sequence, one.stamp_s, one.episodes.action):
            total.update(array.tobytes())
    return total.hexdigest()
