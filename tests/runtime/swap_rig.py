"""A real small model that drives on stub frames, and a hot swap beside it: in step, or on its own thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adawm_planner.adapters.bundle import MANIFEST_FILE
from adawm_planner.adapters.manifest import bundle_digest
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.data_types import Carry, Observation, PolicyOutput
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.planner_core import Answer, PlannerConfig, PlannerCore
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.hot_swap import HotSwap
from adawm_planner.runtime.swap.probation import EpisodeOutcome
from adawm_planner.runtime.swap.thread import SwapThread
from tests.adapters.conftest import NOW, Maker
from tests.runtime.inputs import TOPICS, VEHICLE, frame, others, straight_route

OPEN = SwapConfig(shadow_decisions=3, shadow_disagreement=1.0, shadow_variation=1.0, probation_episodes=3)
"""Nothing but NaN is refused in shadow."""


class InStep(SwapThread):
    """Handles each event at once, in the driving thread."""

    def post(self, event: m.Event) -> None:
        self._swap.handle(event)


class Rig:
    """A planner with a store; `drive` sends it frames."""

    def __init__(self, maker: Maker, root: Path, config: SwapConfig = OPEN, threaded: bool = False) -> None:
        self.maker, self.base = maker, OnnxEngine(maker.model_dir, "cpu")
        self.store = AdapterStore(root, NOW)
        context = replace(maker.context, seen=maker.context.seen)
        self.swap = HotSwap(self.base, self.store, context, config, lambda: self.core.history, lambda: NOW)
        self.core = PlannerCore(self.swap.restored, InputMonitor(InputLimits(), TOPICS), PlannerConfig())
        self.core.set_vehicle(VEHICLE)
        self.core.set_route(straight_route(2000))
        self.loop = PlannerLoop(self.core, want_map=False)
        self.thread = (SwapThread if threaded else InStep)(self.swap, self.loop)
        self.rng, self.k = np.random.default_rng(0), 0

    def frame(self, spoilt: bool = False) -> Answer:
        """One frame, with traffic that changes."""
        self.k += 1
        x = 1.0 + 0.25 * self.k + self.rng.uniform(15.0, 40.0)
        answer = self.core.answer(
            frame(
                self.k, objects=others(self.k, (x, 2.0, 0.0, 1.0, 0.0, 4.0, 1.8), frame_id="odom" if spoilt else "map")
            )
        )
        self.thread.after_answer(Outgoing(answer, self.k, 0.0, is_frame=True))
        return answer

    def decide_unseen(self, decisions: int) -> None:
        """Tell the swap of decisions without letting the driving side flip."""
        for _ in range(4 * decisions):
            self.k += 1
            answer = self.core.answer(frame(self.k))
            if answer.decision is not None:
                self.swap.handle(m.Decided(self.core.history, answer.scene))

    def drive(self, decisions: int) -> list[Answer]:
        """So many decisions, each with its three frames after it."""
        return [self.frame() for _ in range(4 * decisions)]

    def push(self, files: dict[str, bytes], digest: str | None = None) -> None:
        self.thread.post(m.Push(lambda: (list(files.items()), digest or digest_of(files))))

    def ask(self, kind: Any, *arguments: Any) -> m.Reply:
        """Answer of a service; only without a thread."""
        replies: list[m.Reply] = []
        self.thread.post(kind(*arguments, replies.append))
        self.thread.between_ticks()
        assert len(replies) == 1
        return replies[0]

    def episodes(self, *successes: bool) -> None:
        """Whole episodes of what drives."""
        for success in successes:
            why = "goal" if success else "collision"
            self.thread.post(m.EpisodeEnded(EpisodeOutcome(self.core.engine.adapter_digests, True, success, why, 1.0)))
        self.thread.between_ticks()

    @property
    def stage(self) -> str | None:
        swap = self.swap.report.swap
        return None if swap is None else swap.stage.value

    def close(self) -> None:
        self.thread.close()


def digest_of(files: dict[str, bytes]) -> str:
    return bundle_digest(files[MANIFEST_FILE])


def outputs(engine: Any, carry: Carry, seen: Sequence[Observation]) -> list[PolicyOutput]:
    """What an engine answers on a fixed sequence."""
    found, first = [], True
    for each in seen:
        carry, output = engine.step(carry, each, first)
        found.append(output)
        first = False
    return found


def same(left: PolicyOutput, right: PolicyOutput) -> bool:
    """Bit for bit."""
    return left.probabilities.tobytes() == right.probabilities.tobytes() and left.value == right.value
