"""What operators ask for: an earlier adapter, a pin, a list. Each is answered once, in the swap's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.flips import Flips
from adawm_planner.runtime.swap.good import GoodAdapters
from adawm_planner.runtime.swap.intake import Intake
from adawm_planner.runtime.swap.trial import Trials


class Services:
    """Carries out each wish on what waits, is tried, is good and drives; keeps nothing of its own."""

    def __init__(
        self,
        store: AdapterStore,
        intake: Intake,
        trials: Trials,
        good: GoodAdapters,
        flips: Flips,
        now_unix_s: Callable[[], int],
    ) -> None:
        self._store, self._intake, self._trials, self._good, self._flips = store, intake, trials, good, flips
        self._now = now_unix_s

    def roll_back(self, event: m.RollBack) -> None:
        """Have an earlier adapter drive, and withdraw what is on its way. Raises OSError on a disk that is full."""
        if event.part not in ("", *PARTS):
            event.answer(_unknown(event.part))
            return
        self._good.clear(self._trials.going_on)  # or the step back would be from what drives no longer
        parts = [part for part in PARTS if event.part in ("", part)]
        leaving = [part for part in parts if self._trials.is_leaving(part) or part in self._good.late]
        changed = [part for part in parts if self._drives(part) and (event.to_base or part not in leaving)]
        withdrawn = self._withdraw(parts, changed)
        self._step_back(changed, event.to_base)
        late = [self._good.late[part] for part in parts if part in self._good.late]
        if late:
            text = "what the store has now cannot be loaded yet, and drives once it can; or roll back to the base model"
            event.answer(m.Reply(False, f"{text} ({'; '.join(late)})"))
        elif changed or leaving:
            self._flips.answer_later(event.answer)
        elif withdrawn:
            event.answer(m.Reply(True, "withdrawn before it drove"))
        else:
            event.answer(m.Reply(False, "the base model drives already, so there is nothing to roll back"))

    def pin(self, event: m.Pin) -> None:
        """Keep what drives in a part, or no longer. Raises OSError on a disk that is full."""
        self._good.clear(self._trials.going_on)  # or it would be taken for what drives
        part = self._part_of(event.what)
        if part is None:
            text = f"'{event.what}' does not drive; give the digest of what does, or its part ({', '.join(PARTS)})"
            event.answer(m.Reply(False, text))
            return
        if event.pinned and self._store.part(part).active is not None:
            text = f"an adapter of part {part} is on probation; wait until it is committed, or roll it back first"
            event.answer(m.Reply(False, text))
            return
        if event.pinned and part in self._good.late:
            text = f"what the store has for part {part} cannot be loaded yet; wait until it drives"
            event.answer(m.Reply(False, f"{text} ({self._good.late[part]})"))
            return
        if event.pinned:
            self._good.drop_above(part)
        self._store.pin(part, event.pinned, self._now())
        if event.pinned and self._trials.part == part:
            self._trials.give_up(
                Refusal(
                    Reason.PINNED,
                    "the part must not be pinned",
                    f"{part} is pinned",
                    "not pinned",
                    "Unpin it if updates are wanted again",
                )
            )
        event.answer(self._pinned(part, event.pinned))

    def list_all(self, event: m.ListAll) -> None:
        """Tell every bundle ever accepted."""
        if event.part not in ("", *PARTS):
            event.answer(_unknown(event.part))
            return
        found = tuple(each for each in self._store.entries() if event.part in ("", each.bundle.part))
        event.answer(m.Reply(True, f"{len(found)} bundles", found))

    def _pinned(self, part: str, pinned: bool) -> m.Reply:
        good = self._good.of_part(part)
        what = "the base model" if good is None else good.digest
        entries = () if good is None else self._store.entries_of([good.digest])
        return m.Reply(True, f"{part} is {'pinned to' if pinned else 'free to leave'} {what}", entries)

    def _drives(self, part: str) -> bool:
        """Whether an adapter of the part drives, or would after a restart."""
        driving = {each.manifest.part for each in self._flips.driving}
        return self._store.part(part).current is not None or part in driving

    def _withdraw(self, parts: Sequence[str], changed: Sequence[str]) -> bool:
        """Drop what is on its way in these parts, or was tried beside one that changes; tell whether there was any."""
        refusal = Refusal(
            Reason.OPERATOR,
            "nobody must object",
            "an operator rolled it back",
            "none",
            "Push a newer bundle if it is wanted again",
        )
        waited = self._intake.withdraw(parts, refusal)
        tried = self._trials.withdraw(parts, changed, refusal)
        return waited or tried

    def _step_back(self, parts: Sequence[str], to_base: bool) -> None:
        """Take a step back in the store, and settle on what it then holds, on a disk that is full half-way too."""
        before = self._good.digests
        try:
            for part in parts:
                self._good.step_back(part, to_base)
        finally:
            self._good.reload({*parts, *self._good.late})
            if self._good.digests != before:
                self._flips.withdraw()  # what is on its way is no longer what is good

    def _part_of(self, what: str) -> str | None:
        """The part of that name, or in which the adapter of that digest drives."""
        if what in PARTS:
            return what
        drives = {each.digest: each.manifest.part for each in self._good.adapters}
        drives |= {state.active: part for part in PARTS if (state := self._store.part(part)).active is not None}
        return drives.get(what)


def _unknown(part: str) -> m.Reply:
    return m.Reply(False, f"part '{part}' is unknown; choose {', '.join(PARTS)}, or none for both")
