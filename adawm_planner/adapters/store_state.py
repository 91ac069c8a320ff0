"""The records of a store's log in, what is installed, on probation, committed and pinned out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from adawm_planner.adapters.verify import Seen

GOOD = 2
"""Committed adapters kept per part: the current one and the last good one."""


class Event(Enum):
    """What a record says happened."""

    INSTALLED = "installed"
    ACTIVATED = "activated"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    REMOVED = "removed"  # its files made room for newer ones


class Status(Enum):
    """Where a bundle stands."""

    INSTALLED = "installed"
    ACTIVE = "active"  # drives on probation, not committed
    COMMITTED = "committed"  # drives unless another one is active, and comes back after a restart
    LAST_GOOD = "last_good"  # committed before, and next when the committed one is rolled back
    ROLLED_BACK = "rolled_back"
    REMOVED = "removed"


@dataclass(frozen=True)
class Installed:
    """A bundle that was accepted; fields as Manifest's."""

    digest: str
    part: str
    name: str
    base: str
    parent: str | None
    counter: int
    created_unix_s: int
    expires_unix_s: int | None


@dataclass(frozen=True)
class PartState:
    """One part."""

    active: str | None = None  # digest on probation
    good: tuple[str, ...] = ()  # committed digests, the newest last, at most GOOD; empty: the base model
    pinned: bool = False

    @property
    def held(self) -> tuple[str, ...]:
        """Digests of what drives or may come back."""
        return (*self.good, *([self.active] if self.active else []))

    @property
    def current(self) -> str | None:
        """Digest of what drives, None for the base model."""
        return self.active or (self.good[-1] if self.good else None)


@dataclass
class StoreState:
    """Everything a store knows."""

    bundles: dict[str, Installed] = field(default_factory=dict)
    parts: dict[str, PartState] = field(default_factory=dict)
    rolled_back: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def part(self, part: str) -> PartState:
        """State of a part."""
        return self.parts.get(part, PartState())

    def status(self, digest: str) -> Status:
        """Where an accepted bundle stands."""
        state = self.part(self.bundles[digest].part)
        if digest == state.active:
            return Status.ACTIVE
        if digest in state.good:
            return Status.COMMITTED if digest == state.good[-1] else Status.LAST_GOOD
        if digest in self.removed:
            return Status.REMOVED
        return Status.ROLLED_BACK if digest in self.rolled_back else Status.INSTALLED

    def seen(self) -> Seen:
        """What `verify` needs to know."""
        counters: dict[str, int] = {}
        for each in self.bundles.values():
            counters[each.part] = max(counters.get(each.part, 0), each.counter)
        # Only what drives or may come back: were the clock ahead when a bundle was made and taken, rolling that bundle
        # back would else not end the refusals. Counters and digests of the others count all the same.
        held = [self.bundles[digest] for state in self.parts.values() for digest in state.held]
        latest = max(held, key=lambda each: each.created_unix_s, default=None)
        return Seen(
            counters,
            frozenset(self.bundles),
            frozenset(part for part, state in self.parts.items() if state.pinned),
            latest.created_unix_s if latest is not None else 0,
            f"{latest.part} adapter {latest.name}, digest {latest.digest[:12]}" if latest is not None else "",
        )

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take one more record into account."""
        event, part, digest = Event(record["event"]), record["part"], record["digest"]
        before = self.part(part)
        if event is Event.INSTALLED:
            self.bundles[digest] = Installed(digest=digest, part=part, **record["bundle"])
        elif event is Event.ACTIVATED:
            self.rolled_back.discard(digest)
            self.parts[part] = replace(before, active=digest)
        elif event is Event.COMMITTED:
            kept = tuple(each for each in before.good if each != digest)
            self.parts[part] = replace(before, active=None, good=(*kept, digest)[-GOOD:])
        elif event is Event.ROLLED_BACK:
            self.rolled_back.add(digest)
            good = tuple(each for each in before.good if each != digest)
            self.parts[part] = replace(before, active=None if digest == before.active else before.active, good=good)
        elif event is Event.REMOVED:
            self.removed.add(digest)
        else:
            self.parts[part] = replace(before, pinned=event is Event.PINNED)


def replay(records: Iterable[Mapping[str, Any]]) -> StoreState:
    """The state after these records. Raises ValueError for a record of another version."""
    state = StoreState()
    for number, record in enumerate(records, 1):
        try:
            state.apply(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"record {number} of the store's log is of another version ({error!r})") from error
    return state
