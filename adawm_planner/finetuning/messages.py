"""What the finetuner's node and its worker process tell each other: dataclasses, as JSON over a pipe.

The node says what it wants (`Settings` once, `Wish` whenever it changes and after every restart of the worker); the
worker says how far it is (`Status`), what a round gave (`RoundDone`), and why it cannot work (`Trouble`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any


class Gone(Exception):
    """The node has closed the pipe."""


class Phase(Enum):
    """Where the loop is."""

    IDLE = "idle"  # told to do nothing: the node is inactive
    PAUSED = "paused"
    COLLECTING = "collecting"  # not enough new driving for a round
    MEASURING = "measuring"
    UPDATING = "updating"
    GATING = "gating"
    BUNDLING = "bundling"


@dataclass(frozen=True)
class Settings:
    """How a worker works, from its start to its end."""

    model_dir: str
    replay_dir: str
    state_dir: str
    source_dir: str
    preset: str  # of the adaptation's configuration
    config_file: str  # adaptation's configuration; empty: the packaged one
    decisions: int  # RoundConfig.decisions
    key_file: str  # private key; empty: measure and report only
    vehicle_id: str  # empty: bundles for any vehicle
    expires_h: float  # of a bundle from its making; 0: never
    threads: int
    nice: int


@dataclass(frozen=True)
class Wish:
    """What the worker is to do from now on."""

    active: bool
    paused: bool
    strategy: str
    forced: int  # number of a request: begin a round as soon as one is possible, be anything new or not; 0: none


@dataclass(frozen=True)
class Status:
    """How far the worker is."""

    phase: str  # Phase
    text: str  # one line: what it does or waits for
    round: int  # rounds done
    fresh: int  # decisions on disk that no round has used
    done: int = 0  # of `total`, in the phase
    total: int = 0
    trouble: str = ""  # why the last round gave nothing; empty: it ended as it should
    cuts: dict[str, int] = field(default_factory=dict)  # episodes.Cut -> stretches that ended so, when last read


@dataclass(frozen=True)
class RoundDone:
    """What a round saw, decided and did; numbers as in adawm_msgs/MismatchReport."""

    round: int
    strategy: str
    decisions: int
    episodes: int
    scores: dict[str, float]  # {dynamics,policy}_{mismatch,standard_error,baseline}
    threshold: float
    selected: str  # select_part.Part
    updated: list[str]  # parts that were trained
    reason: str
    acting: list[str]  # digests of base model and adapters that drove
    gate: dict[str, Any] | None  # GateReport; None: nothing was trained
    produced: str  # digest of the bundle; empty: none
    bundle: str  # its folder in the state_dir, as `memory.told_bundle` takes it; empty: none
    forced: int = 0  # number of the request that it answers; 0: nobody asked


@dataclass(frozen=True)
class Trouble:
    """Why the worker cannot work; it ends after this."""

    text: str


Message = Settings | Wish | Status | RoundDone | Trouble
KINDS = {kind.__name__: kind for kind in (Settings, Wish, Status, RoundDone, Trouble)}


def encode(message: Message) -> bytes:
    """A message as JSON."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, allow_nan=False).encode()


def decode(data: bytes) -> Message:
    """The message of `encode`. Raises ValueError for anything else."""
    try:
        values = json.loads(data)
        kind = KINDS[values.pop("kind")]
        if set(values) - {each.name for each in fields(kind)}:
            raise ValueError(f"unknown fields of {kind.__name__}")
        return kind(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a message between node and worker ({error})") from error
