"""One topic's messages in, what is published instead out: kill, freeze, slow, delay, duplicate, reorder, lose, edit.

Pure: knows nothing of the messages; one call per frame. Gap tells from when losses are to be braked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from adawm_planner.faults.table import Kind
from adawm_planner.runtime.frame_inputs import FRAME_PARTS

Message = TypeVar("Message")

EDITS = (Kind.NAN, Kind.WRONG_FRAME, Kind.TIME_FORWARD, Kind.TIME_BACKWARD, Kind.PLACE, Kind.STUCK, Kind.PAUSED)
"""Kinds that change the message itself."""

GAP_FRAMES = 3
"""Frames in a row that lack a part which the gate needs, from which braking is due: row 3 of docs/reliability.md."""


class Gap:
    """Counts frames in a row that lack a part which the gate needs."""

    def __init__(self) -> None:
        """Begin with none."""
        self._frames = 0

    def is_due(self, sent: Mapping[str, Sequence[object]]) -> bool:
        """Whether braking is due from this frame on, given what was published of each topic.

        A frame without /clock or /carla/status does not count: the gate needs neither.
        """
        self._frames = 0 if all(sent[part] for part in FRAME_PARTS) else self._frames + 1
        return self._frames >= GAP_FRAMES


class Stream(Generic[Message]):
    """A topic with one fault."""

    def __init__(self, kind: Kind, amount: float, edit: Callable[[Message], Message], seed: int = 0) -> None:
        """Take the fault.

        Args:
            kind: what goes wrong.
            amount: period or delay in frames, or chance of a loss, as the kind has it.
            edit: changes a message, for the kinds in EDITS.
            seed: of the losses.

        Raises:
            ValueError: the kind is no fault of a topic.
        """
        table: dict[Kind, Callable[[Message], tuple[Message, ...]]] = {
            Kind.KILL: lambda _: (),
            Kind.FREEZE: lambda _: () if self._last is None else (self._last,),
            Kind.SLOW: self._slow,
            Kind.DELAY: self._delay,
            Kind.DUPLICATE: lambda message: (message, message),
            Kind.REORDER: self._reorder,
            Kind.LOSS: lambda message: () if self._rng.random() < amount else (message,),
            **{each: lambda message: (edit(message),) for each in EDITS},
        }
        if kind not in table:
            raise ValueError(f"{kind.value} is no fault of a topic")
        self._fault, self._amount, self._rng = table[kind], amount, np.random.default_rng(seed)
        self._last: Message | None = None
        self._held: deque[Message] = deque()
        self._count = 0

    def healthy(self, message: Message) -> tuple[Message, ...]:
        """What is published before the fault, and after it."""
        self._last = message
        return (message,)

    def faulty(self, message: Message) -> tuple[Message, ...]:
        """What is published of this frame's message while the fault lasts."""
        self._count += 1
        return self._fault(message)

    def _slow(self, message: Message) -> tuple[Message, ...]:
        return (message,) if self._count % int(self._amount) == 0 else ()

    def _delay(self, message: Message) -> tuple[Message, ...]:
        self._held.append(message)
        return (self._held.popleft(),) if len(self._held) > int(self._amount) else ()

    def _reorder(self, message: Message) -> tuple[Message, ...]:
        """Hold one message of a period back, and send it after its successor."""
        if self._held:
            return (message, self._held.popleft())
        if self._count % int(self._amount) == 1:
            self._held.append(message)
            return ()
        return (message,)
