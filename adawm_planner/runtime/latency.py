"""Durations in, percentiles over the newest ones out; what is timed in the planner's tick."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from adawm_planner.data_types import Carry, Observation, PolicyOutput
from adawm_planner.runtime.engine import Engine, Imagined
from adawm_planner.runtime.stages import INFERENCE, OBSERVATION, PLANNER_STAGES, Stages


class LatencyWindow:
    """The newest durations of one stage."""

    def __init__(self, size: int = 1200) -> None:
        """Keep `size` durations; 1200 frames are a minute."""
        self._seconds: deque[float] = deque(maxlen=size)
        self.newest = 0.0  # s

    def add(self, seconds: float) -> None:
        """Note one duration [s]."""
        self.newest = seconds
        self._seconds.append(seconds)

    def percentiles_ms(self) -> tuple[float, float, float]:
        """Return median, 99th percentile and maximum [ms]; zeros while nothing was measured."""
        if not self._seconds:
            return 0.0, 0.0, 0.0
        p50, p99, top = np.percentile(np.fromiter(self._seconds, dtype=np.float64), (50.0, 99.0, 100.0)) * 1e3
        return float(p50), float(p99), float(top)


@dataclass(frozen=True)
class PlannerTimes:
    """Everything that is timed in the planner's tick."""

    latency: LatencyWindow = field(default_factory=LatencyWindow)  # frame's last part to command sent
    inference: LatencyWindow = field(default_factory=LatencyWindow)
    stages: Stages = field(default_factory=lambda: Stages(PLANNER_STAGES))


class TimedEngine:
    """An engine whose steps are timed, and with them what led to each."""

    def __init__(self, engine: Engine, times: PlannerTimes) -> None:
        self._engine, self._times = engine, times
        self.digest, self.provider = engine.digest, engine.provider

    @property
    def adapter_digests(self) -> tuple[str, ...]:
        """As the engine's."""
        return self._engine.adapter_digests

    def initial(self) -> Carry:
        """As the engine's."""
        return self._engine.initial()

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        """As the engine's."""
        self._times.stages.cut(OBSERVATION)
        result = self._engine.step(carry, observation, first)
        self._times.inference.add(self._times.stages.cut(INFERENCE))
        return result

    def imagine(self, carry: Carry) -> Imagined:
        """As the engine's."""
        return self._engine.imagine(carry)
