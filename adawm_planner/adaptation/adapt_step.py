"""The table of contents of adaptation: one round of AdaWM.

Drive with the current policy, measure what no longer fits, choose the part, repair that part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adawm_planner.adaptation.fit import FitReport, fit_dynamics, fit_policy
from adawm_planner.adaptation.mismatch import Mismatch, measure_mismatch
from adawm_planner.adaptation.rollouts import Progress, Rollouts
from adawm_planner.adaptation.scores import Baseline, Failures
from adawm_planner.adaptation.select_part import Evidence, Part, Selection, select_next, select_part
from adawm_planner.adaptation.strategies import Strategy
from adawm_planner.adaptation.student import Student
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.pretraining.dataset import join
from adawm_planner.pretraining.trainer import Replay


@dataclass(frozen=True)
class Setting:
    """What every round has in common."""

    strategy: Strategy
    source: Replay  # the base model's own driving
    baseline: Baseline  # its scores there
    config: AdaptationConfig


@dataclass(frozen=True)
class Past:
    """What the rounds before leave to a round."""

    last: Part  # repaired first in the round before
    unrepaired: Sequence[Rollouts] = ()
    """Of the rounds just before that repaired nothing: the same student drove them, and what one round is too short to
    show, several together may."""
    outcomes: Sequence[str] = ()  # of all episodes before those, oldest first


@dataclass(frozen=True)
class Step:
    """One look at the rollouts: what was measured, chosen and repaired."""

    mismatch: Mismatch
    selection: Selection
    fits: tuple[FitReport, ...]

    @property
    def repaired(self) -> Part:
        """The part that was chosen and repaired."""
        return self.selection.part if self.selection.part.value in {fit.part for fit in self.fits} else Part.NOTHING


@dataclass(frozen=True)
class Round:
    """What one round saw, decided and did."""

    index: int  # from 1
    rollouts: Rollouts
    failures: Failures  # as `Failures.seen` in these rollouts and those before
    steps: tuple[Step, ...]  # the first is measured on rollouts that nothing was fitted to yet


FITS = {Part.DYNAMICS: fit_dynamics, Part.POLICY: fit_policy}


def adapt_step(
    index: int,
    student: Student,
    rollouts: Rollouts,
    replay: Replay,
    setting: Setting,
    past: Past,
    seed: int,
    show: Progress,
) -> Round:
    """One round on `rollouts`, driven by the student as it is, with `replay` of everything so far to learn from.

    The rollouts are looked at `config.steps` times, each time with the student as the step before left it: a policy is
    best improved in a model that was just repaired, and whether it had to be is asked first.

    Args:
        index: of the round, from 1.
        student: who drove and is repaired.
        rollouts: new in this round.
        replay: source rollouts and those of earlier rounds; the new ones are added.
        setting: what every round has in common.
        past: what the rounds before leave to this one.
        seed: of what is drawn.
        show: progress.
    """
    config, source, baseline = setting.config, setting.source, setting.baseline
    replay.add(rollouts.episodes)
    replay.newest = len(replay) - len(source)
    evidence = [*past.unrepaired, rollouts]
    new = Replay(student.agent.world_model.encoder, join([one.episodes for one in evidence]), config.fit.discount)
    now = [outcome for one in evidence for outcome in one.outcomes]
    failures = Failures.seen(now, past.outcomes, config.select.recovery, baseline.driving)
    steps = list[Step]()
    for number in range(config.steps):
        mismatch = measure_mismatch(student.merged(), new, source, baseline, config, seed)
        repaired = steps[-1].repaired if steps else Part.NOTHING
        seen = Evidence(mismatch.dynamics, mismatch.policy, failures)
        if repaired is Part.NOTHING:
            selection = select_part(seen, past.last, config.select)
        else:
            selection = select_next(seen, repaired, config.select)
        parts = setting.strategy.parts((index - 1) * config.steps + number, selection.part)
        updates = config.fit.updates // (config.steps * max(1, len(parts)))
        fits = [FITS[part](student, replay, config, updates, config.steps * seed + number, show) for part in parts]
        if not student.low_rank:
            new.embed_again()
            if config.mismatch.estimator == "visitation":  # only it reads the source's embeddings, and they are many
                source.embed_again()
        steps.append(Step(mismatch, selection, tuple(fits)))
        if not fits:  # the next look would see the same
            break
    return Round(index, rollouts, failures, tuple(steps))
