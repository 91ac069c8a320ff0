"""Verified adapters in; after any restart, exactly the committed ones out.

A folder with `bundles/DIGEST/`, `log.jsonl` and `lock`. The log is the whole truth: each change is one durable line, so
it has happened or it has not, whenever the process is killed. Bundles are written before the line that names them;
what no line names is removed when the store is opened. What somebody else put there is not: it is told of.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from adawm_planner.adapters.bundle import BUNDLE_FILES, read_bundle
from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.log import AppendLog, read_log
from adawm_planner.adapters.manifest import HEX
from adawm_planner.adapters.refusal import Reason, Refusal, Refused, refuse
from adawm_planner.adapters.store_state import Event, Installed, PartState, Status, StoreState, replay
from adawm_planner.adapters.verify import Context, Seen, VerifiedAdapter, verify
from adawm_planner.durable import create_folder, lock, remove, sync

_log = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
LOCK_FILE = "lock"
BUNDLES = "bundles"
STAGING = "staging"
FINETUNER_FILE = "state.json"
"""What `finetuning/memory` keeps in its folder, which has `bundles/` too."""

OF_THIS_START = {
    Reason.OTHER_BASE,
    Reason.OTHER_VEHICLE,
    Reason.NO_VEHICLE,
    Reason.RANK,
    Reason.NORM,
    Reason.UNREADABLE,
    Reason.PROBE,
}
"""Refusals that a planner started with other parameters, rights, or another provider would not give."""

KEEP = 16
"""Bundles whose files are kept; committed ones and the active one always are."""

_OURS = re.compile(rf"{STAGING}|{BUNDLES}/{HEX.pattern}")


@dataclass(frozen=True)
class Entry:
    """A bundle of the store, for lists."""

    bundle: Installed
    status: Status
    pinned: bool  # it drives, and its part is pinned


class AdapterStore:
    """The store of one planner, open for writing. Use as a context manager, or `close` it."""

    def __init__(self, root: Path, now_unix_s: int, keep: int = KEEP) -> None:
        """Open or create the store, and tidy up after a process that was killed; `notes` has what was found and logged.

        An adapter that was on probation is rolled back: only committed ones survive a restart. On a full disk the line
        about it is written later, before any other: the planner drives meanwhile.

        Args:
            root: folder of the store.
            now_unix_s: wall clock, s since 1970, noted in the log.
            keep: number of bundles whose files are kept.

        Raises:
            ValueError: the log is damaged or lost, the folder is somebody else's, or another process has it open.
            OSError: the folder cannot be written.
        """
        if keep < 1:
            raise ValueError(f"keep is {keep}, must be at least 1 bundle")
        _check_whose(root)
        self.root, self.keep, self.notes = root, keep, list[str]()
        self._owed: list[dict[str, Any]] = []  # records that count already and are not on disk yet
        (root / BUNDLES).mkdir(parents=True, exist_ok=True)
        self._lock = _take(root)
        with ExitStack() as opened:
            opened.callback(os.close, self._lock)
            self._log = AppendLog(root / LOG_FILE)
            opened.callback(self._log.close)
            self._state = replay(self._log.records)
            self._tidy(now_unix_s)
            opened.pop_all()  # from here on `close` closes them

    def __enter__(self) -> AdapterStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the store to the next process."""
        self._log.close()
        os.close(self._lock)

    def seen(self) -> Seen:
        """What `verify` needs to know of earlier bundles."""
        return self._state.seen()

    def part(self, part: str) -> PartState:
        """What drives in a part. Raises ValueError for an unknown part."""
        return self._state.part(_known_part(part))

    def is_rolled_back(self, digest: str) -> bool:
        """Whether a bundle was rolled back, by whomever, and does not drive again since."""
        return digest in self._state.rolled_back

    def entries(self) -> list[Entry]:
        """Every bundle ever accepted, the newest first."""
        return entries(self._state)

    def entries_of(self, digests: Collection[str]) -> tuple[Entry, ...]:
        """Those of these bundles, the newest first."""
        return tuple(each for each in self.entries() if each.bundle.digest in digests)

    def install(self, adapter: VerifiedAdapter, now_unix_s: int) -> None:
        """Keep a verified bundle; it does not drive yet. From now on its counter is the highest seen of its part.

        Raises:
            Refused: DUPLICATE when it is known already.
            OSError: it cannot be written; the store is as before.
        """
        manifest, digest = adapter.manifest, adapter.digest
        if digest in self._state.bundles:
            refuse(
                Reason.DUPLICATE, "a bundle is taken once", digest, "a new one", "Nothing to do: it is known already"
            )
        names = ("name", "base", "parent", "counter", "created_unix_s", "expires_unix_s")
        described = {name: getattr(manifest, name) for name in names}
        folder = self._folder(digest)
        if folder.exists():
            shutil.rmtree(folder)  # no line names it: it could not be removed when its own could not be written
        try:
            create_folder(folder, adapter.files, self.root / STAGING)
            self._note(Event.INSTALLED, manifest.part, digest, now_unix_s, bundle=described)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            self._make_room(now_unix_s)
        except OSError as error:  # this bundle is installed all the same; the next one makes room again
            _log.warning("%s: %s: the files of old bundles stay for now; free some disk", self.root, error)

    def activate(self, digest: str, now_unix_s: int) -> None:
        """Begin an installed bundle's probation.

        Raises:
            Refused: UNKNOWN_BUNDLE, PINNED, or BUSY when another bundle of the part is on probation.
        """
        bundle = self._bundle(digest)
        state = self._state.part(bundle.part)
        if state.pinned:
            refuse(
                Reason.PINNED,
                "the part must not be pinned",
                f"{bundle.part} is pinned",
                "not pinned",
                "Unpin it if updates are wanted again",
            )
        if state.active is not None and state.active != digest:
            refuse(
                Reason.BUSY,
                "one adapter of a part is tried at a time",
                state.active,
                "none on probation",
                "Wait until it is committed, or roll it back",
            )
        self._note(Event.ACTIVATED, bundle.part, digest, now_unix_s)

    def commit(self, part: str, now_unix_s: int) -> str:
        """Make the adapter on probation the one that comes back after a restart, and return its digest.

        Raises ValueError when none of the part is on probation.
        """
        active = self.part(part).active
        if active is None:
            raise ValueError(f"no adapter of part {part} is on probation, so there is nothing to commit")
        self._note(Event.COMMITTED, part, active, now_unix_s)
        return active

    def rollback(self, part: str, now_unix_s: int, why: str, to_base: bool = False) -> str | None:
        """Go back: from an adapter on probation to the committed one, from that to the last good one, then the base.

        Args:
            part: dynamics or policy.
            now_unix_s: wall clock, s since 1970.
            why: noted in the log.
            to_base: go back to the base model at once.

        Returns:
            Digest of what drives afterwards, None for the base model.

        Raises:
            ValueError: the base model drives already.
        """
        state = self.part(part)
        if state.current is None:
            raise ValueError(f"part {part} drives with the base model already, so there is nothing to roll back")
        leaving = [state.current]
        if to_base:
            # What drives goes last: killed half-way, the store still has either it or the base.
            leaving = list(state.held)
        for digest in leaving:
            self._note(Event.ROLLED_BACK, part, digest, now_unix_s, why=why)
        return self.part(part).current

    def pin(self, part: str, pinned: bool, now_unix_s: int) -> None:
        """Keep what drives in a part, base model included, until it is unpinned. Raises ValueError as `part`."""
        if self.part(part).pinned != pinned:
            event = Event.PINNED if pinned else Event.UNPINNED
            self._note(event, part, self.part(part).current or "", now_unix_s)

    def load(self, digest: str, context: Context, now_unix_s: int) -> VerifiedAdapter | Refusal:
        """Read an installed bundle again and verify all of it but what is about accepting updates."""
        try:
            self._bundle(digest)
            files = read_bundle(self._folder(digest), context.limits)
        except Refused as refused:
            return refused.refusal
        return verify(files, context, now_unix_s, expected_digest=digest, fresh=False)

    def restore(
        self,
        part: str,
        context: Context,
        now_unix_s: int,
        unfit: Callable[[VerifiedAdapter], Refusal | None] = lambda adapter: None,
    ) -> tuple[VerifiedAdapter | None, list[Refusal]]:
        """What a part drives with after a restart: the committed adapter, else the last good one, else the base.

        Args:
            part: dynamics or policy.
            context: what bundles are checked against.
            now_unix_s: wall clock, s since 1970.
            unfit: says why a verified adapter does not act here as it should.

        Returns:
            The adapter, None for the base model; and why newer ones were refused. That rolls them back, unless it says
            more of this start than of the bundle (another model, vehicle, limit or provider): then it stays for the
            next one.
        """
        refusals: list[Refusal] = []
        for digest in reversed(self.part(part).good):
            found = self.load(digest, context, now_unix_s)
            if isinstance(found, VerifiedAdapter):
                refusal = unfit(found)
                if refusal is None:
                    return found, refusals
                found = refusal
            refusals.append(found)
            if self.part(part).current == digest and not _is_of_this_start(found, context):
                self._roll_back_at_start(part, digest, now_unix_s, f"refused at start: {found.reason.value}")
        return None, refusals

    def _bundle(self, digest: str) -> Installed:
        if digest not in self._state.bundles or digest in self._state.removed:
            refuse(
                Reason.UNKNOWN_BUNDLE,
                "the bundle must be in the store",
                digest,
                "an installed digest",
                f"`adawm adapter list {self.root}` shows them",
            )
        return self._state.bundles[digest]

    def _folder(self, digest: str) -> Path:
        return self.root / BUNDLES / digest

    def _note(self, event: Event, part: str, digest: str, now_unix_s: int, **more: Any) -> None:
        self._write({"event": event.value, "part": part, "digest": digest, "time_unix_s": now_unix_s, **more})

    def _write(self, values: dict[str, Any]) -> None:
        while self._owed:
            self._log.append(self._owed[0])
            self._owed.pop(0)
        self._state.apply(self._log.append(values))

    def _roll_back_at_start(self, part: str, digest: str, now_unix_s: int, why: str) -> None:
        """Roll back on a full disk too: what is not written yet, the next start would find and roll back again."""
        values = {
            "event": Event.ROLLED_BACK.value,
            "part": part,
            "digest": digest,
            "time_unix_s": now_unix_s,
            "why": why,
        }
        try:
            self._write(values)
        except OSError as error:
            _log.warning("%s: %s: that %s is rolled back is written later; free some disk", self.root, error, digest)
            self._owed.append(values)
            self._state.apply(values)

    def _make_room(self, now_unix_s: int) -> None:
        """Remove the files of the oldest bundles that neither drive nor may come back."""
        held = [digest for digest in self._state.bundles if digest not in self._state.removed]
        used = {each for state in self._state.parts.values() for each in state.held}
        spare = [digest for digest in held[:-1] if digest not in used]
        for digest in spare[: max(0, len(held) - self.keep)]:
            self._note(Event.REMOVED, self._state.bundles[digest].part, digest, now_unix_s)
            shutil.rmtree(self._folder(digest), ignore_errors=True)

    def _tidy(self, now_unix_s: int) -> None:
        if self._log.torn:
            self._tell(f"{LOG_FILE}: {self._log.torn} bytes of a line that was never finished were cut off")
        held = set(self._state.bundles) - self._state.removed
        strays = [path for path in (self.root / BUNDLES).iterdir() if path.name not in held]
        for path in [*strays, *self.root.glob(STAGING)]:
            place = path.relative_to(self.root)
            if not _made_here(path, str(place)):
                self._tell(f"{place}: was not made by this store and stays; move it to another folder")
                continue
            why = remove(path)
            done = f"cannot be removed ({why}); remove it by hand" if why else "removed"
            self._tell(f"{place}: of no adapter in the store, {done}")
        sync(self.root / BUNDLES)
        for part, state in list(self._state.parts.items()):
            if state.active is not None:
                self._roll_back_at_start(part, state.active, now_unix_s, "not committed before the restart")
                self._tell(f"{part}: {state.active[:12]} was on probation, rolled back")

    def _tell(self, note: str) -> None:
        self.notes.append(note)
        _log.warning("%s: %s", self.root, note)


def read_state(root: Path) -> StoreState:
    """State of a store that another process may have open.

    Raises ValueError when the folder is no store, or its log is damaged.
    """
    if not (root / LOG_FILE).is_file():
        raise ValueError(f"{root}: no adapter store ({LOG_FILE} is missing)")
    return replay(read_log(root / LOG_FILE).records)


def entries(state: StoreState) -> list[Entry]:
    """Every bundle of a state, the newest first."""
    return [
        Entry(
            each,
            state.status(each.digest),
            state.part(each.part).pinned and state.part(each.part).current == each.digest,
        )
        for each in reversed(state.bundles.values())
    ]


def _is_of_this_start(refusal: Refusal, context: Context) -> bool:
    """Whether the same bundle may well pass at the next start."""
    return refusal.reason in OF_THIS_START or (refusal.reason is Reason.UNTRUSTED_KEY and not context.trust)


def _known_part(part: str) -> str:
    if part not in PARTS:
        raise ValueError(f"part '{part}' is unknown; choose {' or '.join(PARTS)}")
    return part


def _check_whose(root: Path) -> None:
    """Raises ValueError for a folder that is somebody else's, or a store that has lost its log.

    Taken for a new store, it would lose its bundles; and without its log, counters, pins and committed adapters.
    """
    if (root / FINETUNER_FILE).exists():
        raise ValueError(
            f"{root}: holds {FINETUNER_FILE}, so it is a finetuner's state_dir; name another adapters.store"
        )
    # The log is made before any bundle, so it is looked for last: another process may be making both.
    left = min((str(path.relative_to(root)) for path in (*root.glob(f"{BUNDLES}/*"), *root.glob(STAGING))), default="")
    if left and not (root / LOG_FILE).exists():
        raise ValueError(
            f"{root}: holds {left} but no {LOG_FILE}. If this folder is not the planner's own, name another "
            f"adapters.store; if it is, restore {LOG_FILE}, or move the folder away: the planner then starts with the "
            "base model"
        )


def _made_here(path: Path, place: str) -> bool:
    """Whether a stray is a folder such as `install` makes; `place` is its path in the store."""
    if not _OURS.fullmatch(place) or path.is_symlink() or not path.is_dir():
        return False
    with suppress(OSError):  # a folder that cannot be read is left alone as well
        return {each.name for each in path.iterdir()} <= set(BUNDLE_FILES)
    return False


def _take(root: Path) -> int:
    taken = lock(root / LOCK_FILE)
    if taken is None:
        raise ValueError(f"{root}: another process has this adapter store open")
    return taken
