"""Bundles in, verified ones that wait for their turn out: at most one of each part, the newest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adawm_planner.adapters.bundle import read_bundle
from adawm_planner.adapters.refusal import Reason, Refusal, Refused, refuse
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify, verify_message
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.ledger import Ledger
from adawm_planner.runtime.swap.state import Step, Swap


@dataclass(frozen=True)
class Candidate:
    """A verified bundle that waits for its turn."""

    swap: Swap
    adapter: VerifiedAdapter
    pushed: bool  # by a finetuner; False: an operator loads it
    answer: m.Answered | None = None  # of the operator who has none yet


class Intake:
    """Verifies what comes and keeps what waits. Of its store it only reads."""

    def __init__(self, store: AdapterStore, context: Context, now_unix_s: Callable[[], int], ledger: Ledger) -> None:
        """Wait for the first bundle.

        Args:
            store: tells what was seen.
            context: what bundles are checked against.
            now_unix_s: wall clock, s since 1970.
            ledger: told of what is refused.
        """
        self._store, self._context, self._now, self._ledger = store, context, now_unix_s, ledger
        self._waiting: dict[str, Candidate] = {}  # by part, the longest waiting first

    def push(self, event: m.Push, tried: str | None) -> None:
        """Let a bundle that came over the wire wait, or refuse it.

        Args:
            tried: digest of the bundle that is on its way already.
        """
        try:
            files, digest = event.unpack()
            found = verify_message(files, self._fresh(), self._now(), digest)
            adapter = self._admit(found, tried, pushed=True)
        except Refused as refused:
            self._ledger.note(refused.refusal)
            return
        self._displace(adapter)
        self._wait(adapter, pushed=True, answer=None)

    def load(self, event: m.Load, tried: str | None, waits_for: str) -> None:
        """Let an operator's bundle wait, or refuse it. Answered at once unless its turn is now.

        Args:
            tried: digest of the bundle that is on its way already.
            waits_for: what must be over before its turn; empty: its turn is now.
        """
        try:
            files = read_bundle(event.folder, self._context.limits)
            found = verify(files, self._fresh(), self._now(), event.digest)
            adapter = self._admit(found, tried, pushed=False)
        except Refused as refused:
            self._ledger.note(refused.refusal)
            event.answer(m.Reply(False, str(refused.refusal)))
            return
        self._displace(adapter)
        if waits_for:
            event.answer(m.Reply(True, f"verified: waits until {waits_for}"))
        self._wait(adapter, pushed=False, answer=None if waits_for else event.answer)

    def next(self) -> Candidate | None:
        """Take out the bundle that has waited longest."""
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None

    def verify_again(self, candidate: Candidate) -> VerifiedAdapter:
        """What is left to try of a candidate.

        While it waited, its part may have been pinned, its counter overtaken, or what it was made from rolled back.

        Raises:
            Refused: it does not pass any more.
        """
        found = _passed(verify(candidate.adapter.files, self._fresh(), self._now(), candidate.adapter.digest))
        if candidate.pushed:
            self._check_origin(found)
        return found

    def withdraw(self, parts: Sequence[str], refusal: Refusal) -> bool:
        """Drop what waits in these parts; tell whether there was any."""
        waiting = [part for part in self._waiting if part in parts]
        for part in waiting:
            self.drop(self._waiting.pop(part), refusal)
        return bool(waiting)

    def drop(self, candidate: Candidate, refusal: Refusal) -> None:
        """Refuse a bundle that was never tried."""
        self._ledger.note(refusal)
        self._ledger.end(candidate.swap.after(Step.FAILED, refusal))
        if candidate.answer is not None:
            candidate.answer(m.Reply(False, str(refusal)))

    def _fresh(self) -> Context:
        return replace(self._context, seen=self._store.seen())

    def _admit(self, verified: VerifiedAdapter | Refusal, tried: str | None, pushed: bool) -> VerifiedAdapter:
        """What may wait; raises Refused. Nothing of what waits has changed then."""
        found = _passed(verified)
        if found.digest == tried or any(found.digest == each.adapter.digest for each in self._waiting.values()):
            refuse(
                Reason.DUPLICATE,
                "a bundle is taken once",
                found.digest,
                "a new one",
                "Nothing to do: it is on its way already",
            )
        if pushed:
            self._check_origin(found)
        waiting = self._waiting.get(found.manifest.part)
        if waiting is not None and found.manifest.counter <= waiting.adapter.manifest.counter:
            # Of neither has the store seen a counter yet.
            refuse(
                Reason.COUNTER,
                "the counter must be above that of the bundle that waits",
                str(found.manifest.counter),
                f"above {waiting.adapter.manifest.counter}",
                "Nothing to do: the newer one is tried",
            )
        return found

    def _check_origin(self, found: VerifiedAdapter) -> None:
        """Refuse a pushed bundle that carries on what was rolled back, whoever did: its maker could not yet know.

        What never came here did not drive here either: such a bundle is of another vehicle, or of a store that is gone.
        Of another part too: a policy was learnt, and judged offline, in the dynamics that drove beside it. An operator
        who loads one knows; shadow and probation judge it then as any other.
        """
        parent, acting = found.manifest.parent, found.manifest.acting or ()
        if parent is not None and self._store.is_rolled_back(parent):
            refuse(
                Reason.PARENT,
                "a pushed bundle must not be trained on top of one that was rolled back",
                parent,
                "what drives, or the base model",
                "Nothing to do: the next round starts from what drives; an operator may load this one",
            )
        known = self._store.seen().known
        for each in acting:
            if each not in known or self._store.is_rolled_back(each):
                refuse(
                    Reason.ACTING,
                    "a pushed bundle must be made beside adapters that drove here and were not rolled back",
                    f"{each}, {'rolled back' if each in known else 'never accepted here'}",
                    "what drives, or the base model",
                    "Nothing to do: the next round starts from what drives; an operator may load this one",
                )

    def _displace(self, newer: VerifiedAdapter) -> None:
        """Drop what waits in the part of a newer bundle."""
        older = self._waiting.pop(newer.manifest.part, None)
        if older is not None:
            self.drop(older, _superseded(newer.digest))

    def _wait(self, found: VerifiedAdapter, pushed: bool, answer: m.Answered | None) -> None:
        part = found.manifest.part
        self._waiting[part] = Candidate(Swap(found.digest, part).after(Step.PASSED), found, pushed, answer)


def _passed(found: VerifiedAdapter | Refusal) -> VerifiedAdapter:
    if isinstance(found, Refusal):
        raise Refused(found)
    return found


def _superseded(digest: str) -> Refusal:
    return Refusal(
        Reason.BUSY,
        "one bundle of a part waits at a time",
        f"a newer one, {digest}",
        "none",
        "Nothing to do: the newer one is tried instead",
    )
