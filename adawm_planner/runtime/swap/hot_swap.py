"""Bundles, decisions and operators' wishes in, engines that are ready to drive out.

`HotSwap.handle` is the whole of it: one event at a time, in a thread that does not drive (thread.py), so that
verifying, loading, probing and re-warming cost no tick. The driving thread sees `ready` and `report`, immutable values
behind one pointer each. Stages and their order are state.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from adawm_planner.adapters.bundle import read_bundle
from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.probe import check_probe, session_runner
from adawm_planner.adapters.refusal import Reason, Refusal, Refused
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify, verify_message
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.runtime.active_adapters import load_adapters
from adawm_planner.runtime.engine import AdaptableEngine
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap import probation, shadow
from adawm_planner.runtime.swap.probation import Probation, Record
from adawm_planner.runtime.swap.shadow import ShadowCounts
from adawm_planner.runtime.swap.state import Stage, Step, Swap
from adawm_planner.runtime.warm import History, Warm, follow, rewarm

_log = logging.getLogger(__name__)


ABOUT_TRIAL = (m.Decided, m.EpisodeEnded, m.Faulted, m.Flipped, m.Missed, m.RollBack)
"""Events whose failure is that of the bundle on its way; a pushed message must not end another one's trial."""


@dataclass
class Trial:
    """A bundle on its way, with what it needs there."""

    swap: Swap
    adapter: VerifiedAdapter
    pushed: bool  # by a finetuner; False: an operator loads it
    answer: m.Answered | None = None  # of the operator, until it is given
    engine: AdaptableEngine | None = None  # with it, from SHADOW on
    warm: Warm | None = None  # where that engine is beside the live one
    counts: ShadowCounts = field(default_factory=ShadowCounts)
    probation: Probation = field(default_factory=lambda: Probation(0.0))


class HotSwap:
    """The swap's logic: one bundle on its way at a time, one more per part waiting for its turn."""

    def __init__(
        self,
        base: AdaptableEngine,
        store: AdapterStore,
        context: Context,
        config: SwapConfig,
        history: Callable[[], History],
        now_unix_s: Callable[[], int],
    ) -> None:
        """Take the store; what it had committed is in `restored` and drives from the start.

        Args:
            base: engine of the base model.
            store: open; only this object uses it from now on.
            context: what bundles are checked against; what was seen is taken from the store.
            config: limits.
            history: tells the newest decisions; may be called in any thread.
            now_unix_s: wall clock, s since 1970.
        """
        self._base, self._store, self._context, self._config = base, store, context, config
        self._history, self._now = history, now_unix_s
        self._good: dict[str, VerifiedAdapter] = {}
        self._settled = base  # with what is good
        self._trial: Trial | None = None
        self._waiting: dict[str, Trial] = {}
        self._numbers, self._swaps, self._refusals = 0, 0, 0
        self._swap_ms, self._last_refusal = 0.0, ""
        self._record = Record()
        self._latest: Swap | None = None
        self._driving: tuple[VerifiedAdapter, ...] = ()
        self._back: list[m.Answered] = []  # operators who wait for an earlier adapter to drive
        self._trouble = ""  # why the planner cannot go back; empty: it can, or need not
        self.ready: m.Ready | None = None
        self.report = m.Report()
        self._restore()
        self.restored = self._settled

    @property
    def watching(self) -> bool:
        """Whether decisions must be told."""
        trial = self._trial
        in_shadow = trial is not None and trial.swap.stage is Stage.SHADOW
        return self.ready is not None or in_shadow or bool(self._trouble)

    @property
    def episode_decisions(self) -> int:
        """Decisions without an end that count as an episode that failed."""
        return self._config.episode_decisions

    def close(self) -> None:
        """Give the store back; operators who still wait are told."""
        self.dismiss("the planner was closed before it drove again")
        self._store.close()

    def dismiss(self, why: str) -> None:
        """Tell the operators who wait for an earlier adapter to drive why they wait no longer."""
        self._answer_back(m.Reply(False, why))

    def handle(self, event: m.Event) -> None:
        """Take one event. An error of ours ends the bundle that the event is about, never the swap."""
        try:
            self._dispatch(event)
            self._go_back()
            self._next()
        except Exception as error:
            _log.exception("%s", type(event).__name__)
            self._failed(event, f"{type(error).__name__}: {error}")
            self._go_back()
        self._tell()

    def _failed(self, event: m.Event, text: str) -> None:
        """End what the event is about. What fails here as well is only logged: the next event finds it as it is."""
        try:
            if isinstance(event, ABOUT_TRIAL):
                self._give_up(_fault(text))
            else:
                self._refused(_fault(text))
            answer = getattr(event, "answer", None)
            if answer is not None:
                answer(m.Reply(False, text))
        except Exception:
            _log.exception("after %s: %s", type(event).__name__, text)

    def _dispatch(self, event: m.Event) -> None:
        match event:
            case m.Decided():
                self._decided(event)
            case m.Push():
                self._push(event)
            case m.Load():
                self._load(event)
            case m.Flipped():
                self._flipped(event)
            case m.Missed():
                self._missed(event)
            case m.EpisodeEnded():
                self._ended(event)
            case m.Faulted():
                self._faulted(event)
            case m.RollBack():
                self._roll_back(event)
            case m.Pin():
                self._pin(event)
            case m.ListAll():
                self._list(event)
            case m.Turned():
                self._refused(event.refusal, event.count)

    # -- from a bundle to an engine that runs in shadow

    def _push(self, event: m.Push) -> None:
        try:
            files, digest = event.unpack()
        except Refused as refused:
            self._refused(refused.refusal)
            return
        found = verify_message(files, self._fresh(), self._now(), digest)
        self._take(found, None)

    def _load(self, event: m.Load) -> None:
        try:
            files = read_bundle(event.folder, self._context.limits)
        except Refused as refused:
            self._take(refused.refusal, event.answer)
            return
        self._take(verify(files, self._fresh(), self._now(), event.digest), event.answer)

    def _take(self, found: VerifiedAdapter | Refusal, answer: m.Answered | None) -> None:
        """Queue a verified bundle, or refuse."""
        if isinstance(found, VerifiedAdapter) and self._knows(found.digest):
            found = Refusal(Reason.DUPLICATE, "a bundle is taken once", found.digest, "a new one",
                            "Nothing to do: it is on its way already")  # fmt: skip
        if isinstance(found, VerifiedAdapter) and answer is None:
            found = self._of_good_parent(found)
        if isinstance(found, Refusal):
            self._refused(found)
            if answer is not None:
                answer(m.Reply(False, str(found)))
            return
        part = found.manifest.part
        waiting = self._waiting.get(part)
        if waiting is not None and found.manifest.counter <= waiting.adapter.manifest.counter:
            # Of neither has the store seen a counter yet.
            older = Refusal(Reason.COUNTER, "the counter must be above that of the bundle that waits",
                            str(found.manifest.counter), f"above {waiting.adapter.manifest.counter}",
                            "Nothing to do: the newer one is tried")  # fmt: skip
            self._refused(older)
            if answer is not None:
                answer(m.Reply(False, str(older)))
            return
        if waiting is not None:
            self._abort(self._waiting.pop(part), _superseded(found.digest))
        pushed = answer is None
        if answer is not None and (self._trial is not None or self.ready is not None):
            answer(m.Reply(True, "verified: waits until the bundle on its way is committed or dropped"))
            answer = None
        self._waiting[part] = Trial(Swap(found.digest, part).after(Step.PASSED), found, pushed, answer)

    def _knows(self, digest: str) -> bool:
        trials = [*self._waiting.values(), *([self._trial] if self._trial else [])]
        return digest in {each.adapter.digest for each in trials}

    def _of_good_parent(self, found: VerifiedAdapter) -> VerifiedAdapter | Refusal:
        """Refuse a pushed bundle that carries on what was rolled back, whoever did: its maker could not yet know.

        An operator who loads one knows; shadow and probation judge it then as any other.
        """
        parent = found.manifest.parent
        if parent is None or not self._store.is_rolled_back(parent):
            return found
        return Refusal(Reason.PARENT, "a pushed bundle must not be trained on top of one that was rolled back", parent,
                       "what drives, or the base model", "Nothing to do: the next round starts from what drives; "
                       "an operator may load this one")  # fmt: skip

    def _clear(self) -> None:
        """Take out of the store what was given up while its disk was full. Raises OSError when it still is."""
        trial = self._trial
        tried = None if trial is None or trial.swap.stage is Stage.REVERTING else trial.adapter.digest
        for part in PARTS:
            active = self._store.part(part).active
            if active is not None and active != tried:
                self._store.rollback(part, self._now(), "refused")

    def _next(self) -> None:
        """Begin with the next bundle that waits, when nothing else is going on."""
        while self._trial is None and self.ready is None and not self._trouble and self._waiting:
            trial = self._waiting.pop(next(iter(self._waiting)))
            try:
                self._begin(trial)
            except Refused as refused:
                self._abort(trial, refused.refusal)
            except Exception as error:  # onnxruntime's share no other base
                _log.exception("bundle %s", trial.adapter.digest)
                self._abort(trial, _fault(f"{type(error).__name__}: {error}"))

    def _begin(self, trial: Trial) -> None:
        """Load, probe, install; from then on it runs in shadow. Raises Refused, or OSError when it cannot be kept."""
        # Before it is installed, which uses up its counter: beside what is left over it could never drive.
        self._clear()
        # Verified again: while it waited, its part may have been pinned, its counter overtaken or its parent
        # rolled back.
        found = verify(trial.adapter.files, self._fresh(), self._now(), trial.adapter.digest)
        if isinstance(found, VerifiedAdapter) and trial.pushed:
            found = self._of_good_parent(found)
        if isinstance(found, Refusal):
            raise Refused(found)
        engine = self._engine(self._with(found))
        trial.swap = trial.swap.after(Step.PASSED)
        refusal = self._probe(found)
        if refusal is not None:
            raise Refused(refusal)
        trial.swap = trial.swap.after(Step.PASSED)
        self._store.install(found, self._now())
        trial.engine, trial.warm = engine, rewarm(engine, self._history())
        trial.swap = trial.swap.after(Step.PASSED)
        self._trial = trial
        if trial.answer is not None:
            text = f"accepted: runs beside the live one for {self._config.shadow_decisions} decisions, then drives"
            trial.answer(m.Reply(True, text, self._store.entries_of([found.digest])))

    def _probe(self, adapter: VerifiedAdapter) -> Refusal | None:
        """Why an adapter does not act here as where it was made."""
        session, alone = self._base.planner_session, load_adapters([adapter])
        run, limits = session_runner(session, options=alone.options), self._context.limits
        return check_probe(adapter.manifest.probe, session, run, limits.probe_tolerance)

    # -- beside the live one

    def _decided(self, event: m.Decided) -> None:
        trial = self._trial
        if trial is not None and trial.swap.stage is Stage.SHADOW:
            self._shadow(trial, event)
        ready = self.ready
        if ready is not None and (moved := follow(ready.warm, event.history)) is not None:
            self.ready = replace(ready, warm=moved[0])

    def _shadow(self, trial: Trial, event: m.Decided) -> None:
        """Let the candidate decide as well; once every limit has held for long enough, offer it."""
        assert trial.warm is not None
        moved = follow(trial.warm, event.history)
        if moved is None:
            return
        trial.warm, output = moved
        if not event.drove:
            return
        trial.counts = trial.counts.add(event.history.steps[-1], output, event.scene)
        refusal = shadow.verdict(trial.counts, self._config)
        if refusal is not None:
            self._give_up(refusal)
        elif trial.counts.decisions >= self._config.shadow_decisions:
            # On disk before it drives: killed now, a restart finds it on probation and rolls it back.
            self._store.activate(trial.adapter.digest, self._now())
            trial.swap = trial.swap.after(Step.PASSED)
            self._order(trial.warm, self._with(trial.adapter), forward=True)

    # -- flips

    def _order(self, warm: Warm, adapters: Sequence[VerifiedAdapter], forward: bool) -> None:
        """Have the driving thread take an engine."""
        self._numbers += 1
        self.ready = m.Ready(self._numbers, warm, tuple(adapters), forward)

    def _go_back(self) -> None:
        """Where the planner drives with what is neither good nor tried, have it go back.

        An engine may fail for a moment: then each later event tries again, and the report says so until it is done.
        """
        if not self._must_go_back():
            self._trouble = ""
            return
        try:
            if set(self._settled.adapter_digests) != self._good_digests():
                self._settled = self._engine(tuple(self._good.values()))
            # Mostly loaded since they were settled on: going back then needs no disk.
            self._order(rewarm(self._settled, self._history()), tuple(self._good.values()), forward=False)
        except Exception as error:
            if not self._trouble:
                _log.exception("the last good adapters cannot drive again yet")
            self._trouble = f"the last good adapters cannot drive again yet, it is tried again ({error})"
        else:
            self._trouble = ""

    def _must_go_back(self) -> bool:
        trial = self._trial
        if self.ready is not None or (trial is not None and trial.swap.stage is not Stage.REVERTING):
            return False
        return bool(self._back) or {each.digest for each in self._driving} != self._good_digests()

    def _flipped(self, event: m.Flipped) -> None:
        self._driving = event.ready.adapters
        self._swaps, self._swap_ms = self._swaps + 1, 1e3 * event.seconds
        if self.ready is not None and self.ready.number == event.ready.number:  # not withdrawn just when it was taken
            self.ready = None
            self._arrived(event.ready.forward)

    def _arrived(self, forward: bool) -> None:
        """The engine that was asked for drives."""
        trial = self._trial
        if forward and trial is not None:
            trial.swap = trial.swap.after(Step.FLIPPED)
            trial.probation = Probation(self._record.bound(self._config), self._record.floor(self._config))
        elif trial is not None and trial.swap.stage is Stage.REVERTING:
            self._end(trial, Step.FLIPPED)
        self._answer_back(m.Reply(True, "drives now", self._store.entries_of([each.digest for each in self._driving])))

    def _answer_back(self, reply: m.Reply) -> None:
        """Tell the operators who wait for an earlier adapter to drive."""
        waiting, self._back = self._back, []
        for answer in waiting:
            answer(reply)

    def _missed(self, event: m.Missed) -> None:
        ready = self.ready
        if ready is None or ready.number != event.ready.number:
            return
        self.ready = None  # on the way back it is ordered anew, as often as that takes
        if ready.forward:
            self.ready = replace(ready, warm=rewarm(ready.warm.engine, self._history()))

    # -- probation

    def _ended(self, event: m.EpisodeEnded) -> None:
        outcome, trial = event.outcome, self._trial
        if trial is not None and trial.adapter.digest in outcome.adapters:
            if trial.swap.stage is Stage.PROBATION:
                trial.probation = trial.probation.add(outcome)
                self._judge(trial)
        elif outcome.whole and set(outcome.adapters) == self._good_digests():
            self._record = self._record.add(outcome, self._config)

    def _judge(self, trial: Trial) -> None:
        test = trial.probation
        refusal = probation.verdict(test, self._config)
        if refusal is not None:
            self._give_up(refusal)
        elif test.is_over(self._config):
            self._store.commit(trial.swap.part, self._now())
            assert trial.engine is not None
            self._good[trial.swap.part], self._settled = trial.adapter, trial.engine
            self._record = Record(test.results[-2 * self._config.record_episodes :])
            self._end(trial, Step.PASSED)

    def _faulted(self, event: m.Faulted) -> None:
        if self._trial is not None and self._trial.swap.stage is Stage.PROBATION:
            self._give_up(_fault(event.text))

    # -- the ways out

    def _give_up(self, refusal: Refusal) -> None:
        """End the bundle on its way: before it drives it is dropped, afterwards the last good one drives again."""
        trial = self._trial
        if trial is None:
            self._refused(refusal)
        elif trial.swap.stage is Stage.PROBATION:
            self._refused(refusal)
            trial.swap = trial.swap.after(Step.FAILED, refusal)
            self._forget(trial)
        elif trial.swap.stage is not Stage.REVERTING:
            self.ready = None
            self._abort(trial, refusal)

    def _abort(self, trial: Trial, refusal: Refusal) -> None:
        """Drop a bundle that does not drive."""
        self._refused(refusal)
        self._forget(trial)
        self._end(trial, Step.FAILED, refusal)
        if trial.answer is not None and trial.engine is None:
            trial.answer(m.Reply(False, str(refusal)))

    def _forget(self, trial: Trial) -> None:
        """Take a bundle's probation out of the store. Where that fails, `_clear` does it later, or the next start."""
        if self._store.part(trial.swap.part).active != trial.adapter.digest:
            return
        try:
            self._store.rollback(trial.swap.part, self._now(), "refused")
        except OSError:
            _log.exception("the adapter store cannot be written; %s is rolled back in it later", trial.adapter.digest)

    def _end(self, trial: Trial, step: Step, refusal: Refusal | None = None) -> None:
        self._latest = trial.swap = trial.swap.after(step, refusal)
        self._trial = None if self._trial is trial else self._trial

    def _refused(self, refusal: Refusal, count: int = 1) -> None:
        self._refusals, self._last_refusal = self._refusals + count, str(refusal)
        _log.warning("adapter refused%s: %s", f", {count} of them" if count > 1 else "", refusal)

    # -- operators

    def _roll_back(self, event: m.RollBack) -> None:
        if event.part not in ("", *PARTS):
            event.answer(m.Reply(False, f"part '{event.part}' is unknown; choose {', '.join(PARTS)}, or none for both"))
            return
        self._clear()  # or the step back would be from what drives no longer
        parts = [part for part in PARTS if event.part in ("", part)]
        changed = [part for part in parts if self._drives(part) and (event.to_base or not self._leaves(part))]
        withdrawn = self._withdraw(parts, changed)
        self._step_back(changed, event.to_base)
        if changed or any(self._leaves(part) for part in parts):
            self._back.append(event.answer)
        elif withdrawn:
            event.answer(m.Reply(True, "withdrawn before it drove"))
        else:
            event.answer(m.Reply(False, "the base model drives already, so there is nothing to roll back"))

    def _leaves(self, part: str) -> bool:
        """Whether an adapter of the part is on its way back already, which a roll back then means and no more."""
        trial = self._trial
        return trial is not None and trial.swap.stage is Stage.REVERTING and trial.swap.part == part

    def _step_back(self, parts: Sequence[str], to_base: bool) -> None:
        """Take a step back in the store, and settle on what it then holds, on a disk that is full half-way too."""
        before = self._good_digests()
        try:
            for part in parts:
                self._drop_above(part)
                if self._store.part(part).current is not None:
                    self._store.rollback(part, self._now(), "operator", to_base)
        finally:
            for part in parts:
                self._reload(part)
            if self._good_digests() != before:
                self._record, self.ready = Record(), None  # what is on its way is no longer what is good

    def _drop_above(self, part: str) -> None:
        """Roll back what is committed above what drives: it did not fit this start, and would drive after another."""
        drives = self._good.get(part)
        while self._store.part(part).active is None and self._store.part(part).current is not None:
            if drives is not None and self._store.part(part).current == drives.digest:
                return
            self._store.rollback(part, self._now(), "operator")

    def _good_digests(self) -> set[str]:
        return {each.digest for each in self._good.values()}

    def _drives(self, part: str) -> bool:
        """Whether an adapter of the part drives, or would after a restart."""
        return self._store.part(part).current is not None or part in {each.manifest.part for each in self._driving}

    def _withdraw(self, parts: Sequence[str], changed: Sequence[str]) -> bool:
        """Drop what is on its way in these parts, or was tried beside one that changes; tell whether there was any."""
        refusal = Refusal(Reason.OPERATOR, "nobody must object", "an operator rolled it back", "none",
                          "Push a newer bundle if it is wanted again")  # fmt: skip
        waiting = [part for part in self._waiting if part in parts]
        for part in waiting:
            self._abort(self._waiting.pop(part), refusal)
        trial = self._trial
        if trial is None or not (changed or trial.swap.part in parts):
            return bool(waiting)
        if trial.swap.stage is Stage.PROBATION:
            self._refused(refusal)
            trial.swap = trial.swap.after(Step.FAILED, refusal)
            if trial.swap.part not in changed:
                self._forget(trial)
        else:
            self._give_up(refusal)
        return True

    def _list(self, event: m.ListAll) -> None:
        if event.part not in ("", *PARTS):
            event.answer(m.Reply(False, f"part '{event.part}' is unknown; choose {', '.join(PARTS)}, or none for both"))
            return
        found = tuple(each for each in self._store.entries() if event.part in ("", each.bundle.part))
        event.answer(m.Reply(True, f"{len(found)} bundles", found))

    def _pin(self, event: m.Pin) -> None:
        self._clear()  # or it would be taken for what drives
        drives = {each.digest: part for part, each in self._good.items()}
        drives |= {state.active: part for part in PARTS if (state := self._store.part(part)).active is not None}
        part = event.what if event.what in PARTS else drives.get(event.what)
        if part is None:
            text = f"'{event.what}' does not drive; give the digest of what does, or its part ({', '.join(PARTS)})"
            event.answer(m.Reply(False, text))
            return
        if event.pinned and self._store.part(part).active is not None:
            text = f"an adapter of part {part} is on probation; wait until it is committed, or roll it back first"
            event.answer(m.Reply(False, text))
            return
        if event.pinned:
            self._drop_above(part)
        self._store.pin(part, event.pinned, self._now())
        trial = self._trial
        if event.pinned and trial is not None and trial.swap.part == part:
            self._give_up(Refusal(Reason.PINNED, "the part must not be pinned", f"{part} is pinned", "not pinned",
                                  "Unpin it if updates are wanted again"))  # fmt: skip
        digest = self._good[part].digest if part in self._good else None
        text = f"{part} is {'pinned to' if event.pinned else 'free to leave'} {digest or 'the base model'}"
        event.answer(m.Reply(True, text, self._store.entries_of([digest] if digest else [])))

    # -- what is where

    def _restore(self) -> None:
        for part in PARTS:
            self._reload(part)
        self._driving = tuple(self._good.values())
        self._settled = self._engine(self._driving)
        self._tell()

    def _reload(self, part: str) -> None:
        """Take from the store what drives in a part; what does not pass any more gives way to the one before."""
        self._good.pop(part, None)
        found, refusals = self._store.restore(part, self._context, self._now(), self._probe)
        for refusal in refusals:
            self._refused(refusal)
        if found is not None:
            self._good[part] = found

    def _with(self, adapter: VerifiedAdapter) -> tuple[VerifiedAdapter, ...]:
        return tuple({**self._good, adapter.manifest.part: adapter}.values())

    def _engine(self, adapters: Sequence[VerifiedAdapter]) -> AdaptableEngine:
        return self._base.with_adapters(load_adapters(adapters))

    def _fresh(self) -> Context:
        return replace(self._context, seen=self._store.seen())

    def _tell(self) -> None:
        trial = self._trial
        self.report = m.Report(
            adapters=self._driving,
            pinned=self._store.seen().pinned,
            swap=self._latest if trial is None else trial.swap,
            swaps=self._swaps,
            refusals=self._refusals,
            last_refusal=self._last_refusal,
            swap_ms=self._swap_ms,
            figures={} if trial is None else _figures(trial),
            trouble=self._trouble,
        )


def _figures(trial: Trial) -> dict[str, str]:
    counts, test = trial.counts, trial.probation
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


def _fault(text: str) -> Refusal:
    return Refusal(Reason.FAULT, "nothing must go wrong while an adapter is tried", text, "no error",
                   "See the log; push a newer bundle once the cause is found")  # fmt: skip


def _superseded(digest: str) -> Refusal:
    return Refusal(Reason.BUSY, "one bundle of a part waits at a time", f"a newer one, {digest}", "none",
                   "Nothing to do: the newer one is tried instead")  # fmt: skip
