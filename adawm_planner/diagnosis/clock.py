"""What was heard of /clock in, findings out: silent, paused, stopped or gone back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adawm_planner.diagnosis.check import Check, fine, wrong

CLOCK = "/clock"


@dataclass(frozen=True)
class ClockFacts:
    """What was heard of time."""

    offered: bool  # somebody publishes /clock
    times_s: Sequence[float] = ()  # simulated, in the order of arrival
    listened_s: float = 0.0  # wall time
    paused: bool = False  # newest /carla/status: stepped and not running
    simulated: Mapping[str, bool] = field(default_factory=dict)  # node -> its use_sim_time, of those that answered


def judge_clock(facts: ClockFacts) -> list[Check]:
    """What is wrong with time; nothing is, where no clock is offered and nobody wants one."""
    found = [
        wrong("clock_ignored", node, "use_sim_time is false", "use_sim_time true, since /clock is published")
        for node, simulated in facts.simulated.items()
        if facts.offered and not simulated
    ]
    if not facts.offered or (facts.simulated and not any(facts.simulated.values())):
        return found
    return found + _running(facts)


def _running(facts: ClockFacts) -> list[Check]:
    times, wanted = facts.times_s, "a time that advances"
    back = [(a, b) for a, b in zip(times, times[1:], strict=False) if b < a]
    if back:
        before, after = back[-1]
        text = f"from {before:.3f} s back to {after:.3f} s, {len(back)} times in {facts.listened_s:.1f} s"
        return [wrong("clock_backwards", CLOCK, text, wanted)]
    if len(set(times)) > 1:
        rate = (times[-1] - times[0]) / facts.listened_s if facts.listened_s > 0.0 else 0.0
        return [fine(CLOCK, f"runs, {rate:.2f} simulated seconds per second")]
    if facts.paused:
        return [wrong("clock_paused", CLOCK, "the world is paused (/carla/status)", wanted)]
    if not times:
        return [wrong("clock_silent", CLOCK, f"no message in {facts.listened_s:.1f} s", wanted)]
    if len(times) == 1:
        return [wrong("clock_silent", CLOCK, f"one message in {facts.listened_s:.1f} s", wanted)]
    return [wrong("clock_stopped", CLOCK, f"{len(times)} messages, all {times[0]:.3f} s", wanted)]
