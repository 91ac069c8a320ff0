"""The table of contents of adaptation: one round of AdaWM.

Drive with the current policy, measure what no longer fits, choose the part, repair that part alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.adaptation.fit import FitReport, fit_dynamics, fit_policy
from adawm_planner.adaptation.mismatch import Mismatch, measure_mismatch
from adawm_planner.adaptation.rollouts import Progress, Rollouts
from adawm_planner.adaptation.scores import Baseline
from adawm_planner.adaptation.select_part import Last, Part, Selection, select_part
from adawm_planner.adaptation.strategies import Strategy
from adawm_planner.adaptation.student import Student
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.pretraining.trainer import Replay


@dataclass(frozen=True)
class Round:
    """What one round saw, decided and did."""

    index: int
    rollouts: Rollouts
    mismatch: Mismatch
    selection: Selection
    fits: tuple[FitReport, ...]


FITS = {Part.DYNAMICS: fit_dynamics, Part.POLICY: fit_policy}


def adapt_step(
    index: int, student: Student, strategy: Strategy, rollouts: Rollouts, source: Replay, replay: Replay,
    baseline: Baseline, last: Last, config: AdaptationConfig, seed: int, show: Progress,
) -> Round:  # fmt: skip
    """One round on `rollouts`, driven by the student as it is, with `replay` of everything so far to learn from."""
    replay.add(rollouts.episodes)
    replay.newest = len(replay) - len(source)
    new = Replay(student.agent.world_model.encoder, rollouts.episodes, config.fit.discount)
    mismatch = measure_mismatch(student.merged(), new, source, baseline, config, seed)
    selection = select_part(mismatch.dynamics, mismatch.policy, last, config.select)
    parts = strategy.parts(index, selection.part)
    fits = [FITS[part](student, replay, config, config.fit.updates // len(parts), seed, show) for part in parts]
    return Round(index, rollouts, mismatch, selection, tuple(fits))
