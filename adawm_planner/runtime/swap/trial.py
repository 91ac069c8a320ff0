"""The bundle that is tried, from its probe to its commit or refusal: loaded, in shadow, ready, on probation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adawm_planner.adapters.refusal import Refusal, Refused
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.verify import VerifiedAdapter
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.runtime.engine import AdaptableEngine
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap import probation, shadow
from adawm_planner.runtime.swap.flips import Flips
from adawm_planner.runtime.swap.good import GoodAdapters
from adawm_planner.runtime.swap.intake import Candidate
from adawm_planner.runtime.swap.ledger import Ledger, fault
from adawm_planner.runtime.swap.probation import EpisodeOutcome, Probation
from adawm_planner.runtime.swap.shadow import ShadowCounts
from adawm_planner.runtime.swap.state import Stage, Step, Swap
from adawm_planner.runtime.warm import History, Warm, follow, rewarm


@dataclass
class Trial:
    """A bundle on its way, from SHADOW on, with what it needs there."""

    swap: Swap
    adapter: VerifiedAdapter
    engine: AdaptableEngine  # with it
    warm: Warm  # where that engine is beside the live one
    counts: ShadowCounts = ShadowCounts()
    probation: Probation = Probation(0.0)

    def decide(self, event: m.Decided) -> bool:
        """Decide as well, and compare; False for a decision that does not count."""
        moved = follow(self.warm, event.history)
        if moved is None:
            return False
        self.warm, output = moved
        if event.drove:
            self.counts = self.counts.add(event.history.steps[-1], output, event.scene)
        return event.drove

    def figures(self) -> dict[str, str]:
        """What shadow and probation have found, for diagnostics."""
        counts, test = self.counts, self.probation
        return {
            "shadow_decisions": str(counts.decisions),
            "shadow_disagreements": str(counts.disagreements),
            "shadow_variation": f"{counts.variation / max(counts.decisions, 1):.3f}",
            "shadow_violations": str(counts.violations),
            "probation_episodes": str(test.episodes),
            "probation_successes": str(test.successes),
            "probation_bound": f"{test.bound:.3f}",
            "probation_evidence": f"{test.evidence:.3g}",
        }


class Trials:
    """Tries one bundle at a time. `current` may be read in the driving thread."""

    def __init__(
        self,
        good: GoodAdapters,
        flips: Flips,
        store: AdapterStore,
        config: SwapConfig,
        history: Callable[[], History],
        now_unix_s: Callable[[], int],
        ledger: Ledger,
    ) -> None:
        """Wait for the first bundle.

        Args:
            good: what a bundle is tried beside, and what it becomes.
            flips: what drives.
            store: keeps what is tried.
            config: limits.
            history: tells the newest decisions.
            now_unix_s: wall clock, s since 1970.
            ledger: told of what is refused, and of each end.
        """
        self._good, self._flips, self._store, self._config = good, flips, store, config
        self._history, self._now, self._ledger = history, now_unix_s, ledger
        self.current: Trial | None = None

    @property
    def digest(self) -> str | None:
        """Of the bundle that is tried, or on its way back."""
        return None if self.current is None else self.current.adapter.digest

    @property
    def part(self) -> str | None:
        """Part of the bundle that is tried, or on its way back."""
        return None if self.current is None else self.current.swap.part

    @property
    def going_on(self) -> str | None:
        """Digest of the bundle that is tried and not on its way back."""
        trial = self.current
        return None if trial is None or trial.swap.stage is Stage.REVERTING else trial.adapter.digest

    @property
    def drives(self) -> bool:
        """Whether the bundle that is tried drives, or is about to; not in shadow: then it is the good ones' turn."""
        return self.current is not None and self.current.swap.stage in (Stage.READY, Stage.PROBATION)

    def is_leaving(self, part: str) -> bool:
        """Whether an adapter of the part is on its way back already, which a roll back then means and no more."""
        trial = self.current
        return trial is not None and trial.swap.stage is Stage.REVERTING and trial.swap.part == part

    def begin(self, candidate: Candidate, adapter: VerifiedAdapter) -> None:
        """Load, probe, install; from then on it runs in shadow.

        Args:
            candidate: whose turn it is.
            adapter: its own, verified just now.

        Raises:
            Refused: it fails its probe, or the store knows it.
            OSError: it cannot be kept.
        """
        engine = self._good.load(self._good.beside(adapter))
        loaded = candidate.swap.after(Step.PASSED)
        refusal = self._good.probe(adapter)
        if refusal is not None:
            raise Refused(refusal)
        probed = loaded.after(Step.PASSED)
        self._store.install(adapter, self._now())
        self.current = Trial(probed.after(Step.PASSED), adapter, engine, rewarm(engine, self._history()))

    # -- on its way

    def decided(self, event: m.Decided) -> None:
        """Let the bundle in shadow decide as well; once every limit has held for long enough, offer it."""
        trial = self.current
        if trial is None or trial.swap.stage is not Stage.SHADOW:
            return
        # Beside what was given up, and has yet to leave, there is nothing to compare with.
        if not trial.decide(replace(event, drove=event.drove and not self._flips.astray)):
            return
        refusal = shadow.verdict(trial.counts, self._config)
        if refusal is not None:
            self.give_up(refusal)
        elif trial.counts.decisions >= self._config.shadow_decisions:
            # On disk before it drives: killed now, a restart finds it on probation and rolls it back.
            self._store.activate(trial.adapter.digest, self._now())
            trial.swap = trial.swap.after(Step.PASSED)
            self._flips.order(trial.warm, self._good.beside(trial.adapter), forward=True)

    def arrived(self, forward: bool) -> None:
        """Take note that the engine which was asked for drives."""
        trial = self.current
        if forward and trial is not None:
            trial.swap = trial.swap.after(Step.FLIPPED)
            record = self._good.record
            trial.probation = Probation(record.bound(self._config), record.floor(self._config))
        elif trial is not None and trial.swap.stage is Stage.REVERTING:
            self._end(trial, Step.FLIPPED)

    def ended(self, outcome: EpisodeOutcome) -> None:
        """Judge the adapter on probation by one more episode, or keep the record of what is good."""
        trial = self.current
        if trial is None or trial.adapter.digest not in outcome.adapters:
            self._good.add(outcome)
        elif trial.swap.stage is Stage.PROBATION:
            trial.probation = trial.probation.add(outcome)
            self._judge(trial)

    def _judge(self, trial: Trial) -> None:
        refusal = probation.verdict(trial.probation, self._config)
        if refusal is not None:
            self.give_up(refusal)
        elif trial.probation.is_over(self._config):
            self._good.commit(trial.adapter, trial.engine, trial.probation.results)
            self._end(trial, Step.PASSED)

    def faulted(self, text: str) -> None:
        """Give up what drives on probation for an error while driving."""
        if self.current is not None and self.current.swap.stage is Stage.PROBATION:
            self.give_up(fault(text))

    # -- the ways out

    def give_up(self, refusal: Refusal) -> None:
        """End the bundle on its way: before it drives it is dropped, afterwards the last good one drives again.

        Without one the refusal is only noted.
        """
        trial = self.current
        if trial is None:
            self._ledger.note(refusal)
        elif trial.swap.stage is Stage.PROBATION:
            self._revert(trial, refusal)
            self._good.forget(trial.adapter)
        elif trial.swap.stage is not Stage.REVERTING:
            self._flips.withdraw()
            self._ledger.note(refusal)
            self._good.forget(trial.adapter)
            self._end(trial, Step.FAILED, refusal)

    def withdraw(self, parts: Sequence[str], changed: Sequence[str], refusal: Refusal) -> bool:
        """End what is tried in one of some parts, or beside a part that changes; tell whether there was any.

        Args:
            parts: that an operator rolls back.
            changed: those of them in which the store takes a step back, after this.
            refusal: the reason.
        """
        trial = self.current
        if trial is None or not (changed or trial.swap.part in parts):
            return False
        if trial.swap.stage is not Stage.PROBATION:
            self.give_up(refusal)
            return True
        self._revert(trial, refusal)
        if trial.swap.part not in changed:
            self._good.forget(trial.adapter)
        return True

    def _revert(self, trial: Trial, refusal: Refusal) -> None:
        self._ledger.note(refusal)
        trial.swap = trial.swap.after(Step.FAILED, refusal)

    def _end(self, trial: Trial, step: Step, refusal: Refusal | None = None) -> None:
        trial.swap = trial.swap.after(step, refusal)
        self._ledger.end(trial.swap)
        self.current = None
