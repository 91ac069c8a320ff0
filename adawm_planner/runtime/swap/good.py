"""What the planner goes back to: the adapters that drive when none is tried, their engine, and their record.

The store says the same to the next start. Where it could not be written in time it is brought in line here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.probe import check_probe, session_runner
from adawm_planner.adapters.refusal import Refusal
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.verify import Context, VerifiedAdapter
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.runtime.active_adapters import load_adapters
from adawm_planner.runtime.engine import AdaptableEngine
from adawm_planner.runtime.swap.ledger import Ledger
from adawm_planner.runtime.swap.probation import EpisodeOutcome, Record, Results
from adawm_planner.runtime.swap.records import Records

_log = logging.getLogger(__name__)


class GoodAdapters:
    """The committed adapters that fit this start, at most one of each part."""

    def __init__(
        self,
        base: AdaptableEngine,
        store: AdapterStore,
        context: Context,
        config: SwapConfig,
        now_unix_s: Callable[[], int],
        ledger: Ledger,
    ) -> None:
        """Take what the store had committed.

        Args:
            base: engine of the base model.
            store: open.
            context: what bundles are checked against.
            config: limits of the record.
            now_unix_s: wall clock, s since 1970.
            ledger: told of what does not pass any more.
        """
        self._base, self._store, self._context, self._config = base, store, context, config
        self._now, self._ledger = now_unix_s, ledger
        self._adapters: dict[str, VerifiedAdapter] = {}
        self.late: dict[str, str] = {}  # part -> why what the store has for it cannot be loaded yet
        self._records = Records(store.root, context)
        self.reload(PARTS)
        self._record = self._known_record()
        self._engine = self.load(self.adapters)

    @property
    def adapters(self) -> tuple[VerifiedAdapter, ...]:
        """All of them."""
        return tuple(self._adapters.values())

    @property
    def digests(self) -> set[str]:
        """Of all of them."""
        return {each.digest for each in self._adapters.values()}

    @property
    def record(self) -> Record:
        """Their newest episodes, those before a restart, a roll back or a trial of another adapter too."""
        return self._record

    def of_part(self, part: str) -> VerifiedAdapter | None:
        """The adapter of a part, None for the base model's."""
        return self._adapters.get(part)

    def beside(self, adapter: VerifiedAdapter) -> tuple[VerifiedAdapter, ...]:
        """All of them, with another one in its part."""
        return tuple({**self._adapters, adapter.manifest.part: adapter}.values())

    def engine(self) -> AdaptableEngine:
        """The engine with all of them; mostly it has stayed loaded, and going back to it needs no disk."""
        if set(self._engine.adapter_digests) != self.digests:
            self._engine = self.load(self.adapters)
        return self._engine

    def load(self, adapters: Sequence[VerifiedAdapter]) -> AdaptableEngine:
        """An engine with any adapters."""
        return self._base.with_adapters(load_adapters(adapters))

    def probe(self, adapter: VerifiedAdapter) -> Refusal | None:
        """Why an adapter does not act here as where it was made."""
        session, alone = self._base.planner_session, load_adapters([adapter])
        run, limits = session_runner(session, options=alone.options), self._context.limits
        return check_probe(adapter.manifest.probe, session, run, limits.probe_tolerance)

    def add(self, outcome: EpisodeOutcome) -> None:
        """Put an episode on record if these adapters drove all of it."""
        if outcome.whole and set(outcome.adapters) == self.digests:
            self._take(self._record.add(outcome, self._config))

    def commit(self, adapter: VerifiedAdapter, engine: AdaptableEngine, results: Results) -> None:
        """Take what has passed its probation, with its engine; its episodes are the record. Raises OSError."""
        self._store.commit(adapter.manifest.part, self._now())
        self._adapters[adapter.manifest.part], self._engine = adapter, engine
        self._take(Record(results[-2 * self._config.record_episodes :]))

    def reload(self, parts: Iterable[str]) -> None:
        """Take from the store what drives in these parts; what does not pass any more gives way to the one before.

        Where that fails for want of memory, say, the part keeps what it had, and is `late` until it is reloaded.
        """
        before = self.digests
        for part in tuple(parts):
            try:
                found, refusals = self._store.restore(part, self._context, self._now(), self.probe)
            except Exception as error:  # onnxruntime's share no other base
                if part not in self.late:
                    _log.exception("what the store has for the %s cannot be loaded yet", part)
                self.late[part] = f"{part}: {error}"
                continue
            self.late.pop(part, None)
            for refusal in refusals:
                self._ledger.note(refusal)
            self._adapters.pop(part, None)
            if found is not None:
                self._adapters[part] = found
        if self.digests != before:
            self._record = self._known_record()

    def _take(self, record: Record) -> None:
        self._record = record
        self._records.keep(self.digests, record)

    def _known_record(self) -> Record:
        """What was kept of these adapters, of which a start with other limits may use fewer episodes."""
        return Record(self._records.of(self.digests).results[-2 * self._config.record_episodes :])

    def step_back(self, part: str, to_base: bool) -> None:
        """Take a step back in the store; `reload` then settles on what it holds. Raises OSError."""
        self.drop_above(part)
        if self._store.part(part).current is not None:
            self._store.rollback(part, self._now(), "operator", to_base)

    def drop_above(self, part: str) -> None:
        """Roll back what is committed above what drives: it did not fit this start, and would drive after another."""
        drives = self._adapters.get(part)
        while self._store.part(part).active is None and self._store.part(part).current is not None:
            if drives is not None and self._store.part(part).current == drives.digest:
                return
            self._store.rollback(part, self._now(), "operator")

    def forget(self, adapter: VerifiedAdapter) -> None:
        """Take an adapter's probation out of the store. Where that fails, `clear` does it later, or the next start."""
        part = adapter.manifest.part
        if self._store.part(part).active != adapter.digest:
            return
        try:
            self._store.rollback(part, self._now(), "refused")
        except OSError:
            _log.exception("the adapter store cannot be written; %s is rolled back in it later", adapter.digest)

    def clear(self, tried: str | None) -> None:
        """Take out of the store what was given up while its disk was full.

        Args:
            tried: digest of what is on probation there rightly.

        Raises:
            OSError: it still is.
        """
        for part in PARTS:
            active = self._store.part(part).active
            if active is not None and active != tried:
                self._store.rollback(part, self._now(), "refused")
