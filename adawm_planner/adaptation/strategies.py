"""What each strategy repairs in a step of a round, given the decision of `select_part`.

All are given the same rule of decision, the same source data, and the same budget of decisions to drive and of updates.
The rollouts are driven by what each has become, so from the second round on the data differ and with them the scores.
A step that repairs nothing makes no updates, so `none` makes none and `adawm` fewer where it chooses nothing. The
critic's own updates before each of the policy's (`fit.warmup`) are not counted, nor is the trial at a run's end, which
all but `none` get. `none`, `model`, `policy` and `alternate` are the paper's baselines, `full` trains all weights of
both parts, `adawm` obeys the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adawm_planner.adaptation.select_part import Part

Parts = tuple[Part, ...]

BOTH: Parts = (Part.DYNAMICS, Part.POLICY)


@dataclass(frozen=True)
class Strategy:
    """One way to adapt."""

    name: str
    parts: Callable[
        [int, Part], Parts
    ]  # of a step, from its number in the run and the decision; they share its updates
    low_rank: bool = True  # else all weights


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("none", lambda index, chosen: ()),
        Strategy("model", lambda index, chosen: (Part.DYNAMICS,)),
        Strategy("policy", lambda index, chosen: (Part.POLICY,)),
        Strategy("alternate", lambda index, chosen: (BOTH[index % 2],)),
        Strategy("full", lambda index, chosen: BOTH, low_rank=False),
        Strategy("adawm", lambda index, chosen: () if chosen is Part.NOTHING else (chosen,)),
    )
}
"""By name, in the order of the tables."""


def strategy_of(name: str) -> Strategy:
    """The strategy of this name. Raises ValueError for an unknown one."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy '{name}' is unknown; known are {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
