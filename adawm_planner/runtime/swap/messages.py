"""What the swap is told and what it tells: plain immutable values between the driving thread and the swap's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adawm_planner.adapters.refusal import Refusal
from adawm_planner.adapters.store import Entry
from adawm_planner.adapters.verify import VerifiedAdapter
from adawm_planner.data_types import Scene
from adawm_planner.runtime.engine import Engine
from adawm_planner.runtime.swap.probation import EpisodeOutcome
from adawm_planner.runtime.swap.state import Swap
from adawm_planner.runtime.warm import History, Warm


@dataclass(frozen=True)
class Reply:
    """The answer to an operator."""

    success: bool
    message: str
    entries: tuple[Entry, ...] = ()  # bundles that the answer is about


Answered = Callable[[Reply], None]
"""Takes the one answer; called in the swap's thread."""

Unpack = Callable[[], tuple[Sequence[tuple[str, bytes]], str]]
"""Files of a message, and the digest that it announces; raises Refused for a message that is none."""


@dataclass(frozen=True)
class Push:
    """A bundle came over the wire. It is unpacked in the swap's thread: it may be large, and hostile."""

    unpack: Unpack


@dataclass(frozen=True)
class Load:
    """An operator wants the bundle in a folder."""

    folder: Path
    digest: str | None  # that it must have; None: any
    answer: Answered


@dataclass(frozen=True)
class RollBack:
    """An operator wants an earlier adapter."""

    part: str  # dynamics, policy, or empty for both
    to_base: bool
    answer: Answered


@dataclass(frozen=True)
class Pin:
    """An operator wants what drives to stay, or no longer."""

    what: str  # digest of the adapter that drives, or the name of its part; only the part names the base model
    pinned: bool
    answer: Answered


@dataclass(frozen=True)
class ListAll:
    """An operator wants to know."""

    part: str  # empty: both
    answer: Answered


@dataclass(frozen=True)
class Decided:
    """The live engine decided."""

    history: History  # up to this decision
    scene: Scene | None
    drove: bool = True  # False: the gate stopped the vehicle meanwhile, so that nobody's decision is what happened


@dataclass(frozen=True)
class EpisodeEnded:
    """An episode of one set of adapters is over."""

    outcome: EpisodeOutcome


@dataclass(frozen=True)
class Faulted:
    """Driving raised an error."""

    text: str


@dataclass(frozen=True)
class Flipped:
    """The planner drives with the engine that was ready."""

    ready: Ready
    seconds: float  # that the flip took
    before: Engine | None = None  # what drove until then


@dataclass(frozen=True)
class Missed:
    """The engine that was ready was too far behind."""

    ready: Ready


@dataclass(frozen=True)
class Turned:
    """Pushes that were not even looked at."""

    refusal: Refusal  # of the newest
    count: int = 1


Event = Push | Load | RollBack | Pin | ListAll | Decided | EpisodeEnded | Faulted | Flipped | Missed | Turned


@dataclass(frozen=True)
class Ready:
    """An engine for the driving thread to take between two ticks."""

    number: int  # counts the engines that were to drive; a newer recurrent state of the same one has the same number
    warm: Warm
    adapters: tuple[VerifiedAdapter, ...]  # of the engine
    forward: bool  # not while braking; back is always allowed


@dataclass(frozen=True)
class Report:
    """Everything that status and diagnostics tell."""

    adapters: tuple[VerifiedAdapter, ...] = ()  # that drive
    pinned: frozenset[str] = frozenset()  # parts
    swap: Swap | None = None  # on its way, or the latest one
    swaps: int = 0  # flips, forward and back
    refusals: int = 0  # bundles refused or rolled back by the planner
    last_refusal: str = ""
    swap_ms: float = 0.0  # newest flip
    figures: Mapping[str, str] = field(default_factory=dict)  # of shadow or probation
    trouble: str = ""  # why what must be done is not; empty: it is
