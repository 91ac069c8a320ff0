"""The finetuning loop.

```
idle ◀─▶ collecting ──▶ measuring ──▶ updating ──▶ gating ──▶ bundling ──▶ collecting
             ▲ enough new driving        │ the part that was chosen; nothing to repair goes back to collecting
           paused ◀──────────────────────┘ (an update under way stands still until it is resumed)
```

Run by `worker_process`. It reads the replay that its node writes, and keeps what it learned in a `memory`: killed at
any moment, it goes on with the round that it was in.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from adawm_planner.config.finetuning import RoundConfig
from adawm_planner.finetuning.episodes import Cut, split
from adawm_planner.finetuning.material import Material, NotYet, material_of
from adawm_planner.finetuning.memory import Known, Made, Memory, acting
from adawm_planner.finetuning.messages import (
    Gone,
    Message,
    Phase,
    RoundDone,
    Settings,
    Status,
    Wish,
    decode,
    encode,
)
from adawm_planner.finetuning.replay_store import chunk_files, read_decisions
from adawm_planner.finetuning.round import LostStudentError, Workshop, run_round

POLL_S = 0.2
"""Longest wait before what the node wants takes effect while there is no round [s]."""

LOOK_S = 1.0
"""Time between two looks at the replay [s]."""

STATUS_S = 1.0
"""Time between two reports while nothing changes [s]."""

NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc", "Failed to allocate memory")
"""What torch and onnxruntime say in errors of no class of its own when memory is short."""


@dataclass(frozen=True)
class Seen:
    """What the replay held at the last look."""

    newest: int  # index of the newest chunk; -1: there is none
    fresh: int  # decisions in chunks that no round has used


class Worker:
    """The loop of one process."""

    def __init__(self, settings: Settings, channel: Connection) -> None:
        """Load what all rounds share. Raises ValueError as Workshop and Memory."""
        self._settings, self._channel = settings, channel
        self._wish = Wish(active=False, paused=False, strategy="none", forced=0)
        self._told_at = 0.0
        self._seen = Seen(-1, 0)
        self._seen_at = 0.0
        # What there was when it was too little, which round was asked for, and why it was too little.
        self._too_little: tuple[Seen, int, str] | None = None
        self._cuts: dict[str, int] = {}  # in what was read for the newest round that was begun or could not begin
        self._phase = Phase.IDLE
        self.workshop = Workshop(settings)
        self.memory = Memory(Path(settings.state_dir), self.workshop.base.digest)
        if self.memory.known.report is not None:  # its node may not have heard of it before the last worker died
            self._send(RoundDone(**self.memory.known.report))

    def run(self) -> None:
        """Work until the node closes the pipe. Raises Gone then."""
        while True:
            self._hear(POLL_S)
            if not self._wish.active:
                self._tell(Phase.IDLE, "the node is inactive")
            elif self._wish.paused:
                self._tell(Phase.PAUSED, "paused; call ~/resume")
            else:
                self._collect()

    def _collect(self) -> None:
        """Begin a round if there is enough for one."""
        self._look()
        wanted = 0 if self._wish.forced else self._settings.decisions
        if self._seen.fresh < wanted:
            self._tell(Phase.COLLECTING, "waits for new driving", self._seen.fresh, wanted)
            return
        if self._too_little is not None and self._too_little[:2] == (self._seen, self._wish.forced):
            self._tell(Phase.COLLECTING, self._too_little[2], self._seen.fresh, wanted)
            return
        found, newest = self._material(), self._seen.newest
        if isinstance(found, NotYet):
            self._too_little = self._seen, self._wish.forced, found.reason
            self._tell(Phase.COLLECTING, found.reason, self._seen.fresh, wanted)
            return
        known = self.memory.known
        try:
            self._work(*found, newest)
        except (Gone, LostStudentError, OSError, MemoryError):  # nothing that other driving would change
            raise
        except Exception as error:
            if any(text in str(error) for text in NO_MEMORY):
                raise
            self._set_aside(known, newest, error)

    def _work(self, material: Material, driving: dict[str, Made], newest: int) -> None:
        """Do a round on material from the chunks up to `newest`, and report it."""
        forced = self._wish.forced
        report = run_round(
            self.workshop,
            self.memory,
            material,
            driving,
            self._wish.strategy,
            newest,
            self._newest_chunk,
            self._begin,
            self._show,
            forced,
        )
        if self._wish.forced == forced:  # one that was asked for while another was under way is still to come
            self._wish = replace(self._wish, forced=0)
        self._seen_at = 0.0
        self._send(report)

    def _set_aside(self, known: Known, newest: int, error: Exception) -> None:
        """Go on without the driving that a round failed on: it is on disk, so a new start would fail on it again."""
        traceback.print_exc()
        why = " ".join(f"{type(error).__name__}: {error}".split())
        failed = (
            f"round {known.round + 1} failed on its driving ({why}): chunks up to {newest} of "
            f"{self._settings.replay_dir} are set aside, and rounds go on with what comes after them; the finetuner's "
            "log has more"
        )
        print(failed, file=sys.stderr)
        self.memory.keep(replace(known, last_chunk=newest, aside=newest, failed=failed))
        self._seen_at = 0.0

    def _look(self) -> None:
        """See what the replay holds, from its file names, at most once a second."""
        now = time.monotonic()
        if now - self._seen_at < LOOK_S:
            return
        files, known = chunk_files(Path(self._settings.replay_dir)), self.memory.known
        if files and files[-1].index < known.last_chunk:
            # Somebody removed the replay, and it counts from 0 again: nothing of it is used. Kept at once, because when
            # it has counted as far as before, nobody could tell any more.
            self.memory.keep(replace(known, last_chunk=-1, aside=-1, failed=""))
        last = self.memory.known.last_chunk
        fresh = sum(file.count for file in files if file.index > last)
        self._seen, self._seen_at = Seen(files[-1].index if files else -1, fresh), now

    def _newest_chunk(self) -> int:
        self._seen_at = 0.0
        self._look()
        return self._seen.newest

    def _material(self) -> tuple[Material, dict[str, Made]] | NotYet:
        """What a round would work on now, and the bundles that drove it."""
        config = RoundConfig(
            decisions=self._settings.decisions,
            least_decisions=1 if self._wish.forced else None,
            burn_in=self.workshop.config.mismatch.burn_in,
        )
        decisions = read_decisions(
            Path(self._settings.replay_dir), config.window, self._damaged, self.memory.known.aside
        )
        cuts = Counter[Cut]()
        stretches = split(decisions, cuts=cuts)
        self._cuts = {cut.value: count for cut, count in cuts.items()}
        found = material_of(stretches, self.workshop.base.digest, config)
        if isinstance(found, NotYet):
            return found
        driving = acting(self.memory, found.policy.adapter_digests)
        return NotYet(driving) if isinstance(driving, str) else (found, driving)

    def _damaged(self, reason: str) -> None:
        print(f"left out: {reason}", file=sys.stderr)

    def _begin(self, phase: Phase) -> None:
        self._tell(phase, f"round {self.memory.known.round + 1}")

    def _show(self, done: int, text: str) -> None:
        """Progress of an update; a pause takes effect here."""
        self._hear(0.0)
        while self._wish.paused or not self._wish.active:
            self._tell(Phase.PAUSED, f"round {self.memory.known.round + 1} stands still in its update")
            self._hear(POLL_S)
        self._tell(
            Phase.UPDATING, f"round {self.memory.known.round + 1}: {text}", done, self.workshop.config.fit.updates
        )

    def _hear(self, wait_s: float) -> None:
        """Take what the node wants now."""
        try:
            while self._channel.poll(wait_s):
                message = decode(self._channel.recv_bytes())
                assert isinstance(message, Wish), message
                self._wish, wait_s = message, 0.0
        except (EOFError, OSError) as error:
            raise Gone from error

    def _tell(self, phase: Phase, text: str, done: int = 0, total: int = 0) -> None:
        """Report once a second, and at once when the phase changes."""
        now = time.monotonic()
        if phase is self._phase and now - self._told_at < STATUS_S:
            return
        self._phase, self._told_at = phase, now
        known = self.memory.known
        self._send(Status(phase.value, text, known.round, self._seen.fresh, done, total, known.failed, self._cuts))

    def _send(self, message: Message) -> None:
        try:
            self._channel.send_bytes(encode(message))
        except OSError as error:
            raise Gone from error
