"""What happens in a story, as plain immutable values: from the topics and services in, to phases and the record out."""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.evaluation.episode import EpisodeResult


@dataclass(frozen=True)
class Drove:
    """An episode ended."""

    result: EpisodeResult
    adapters: tuple[str, ...]  # names of those that drove at its end, by the planner's newest status (1 Hz)
    waited: int  # frames of it for which the bridge waited in vain for a command


@dataclass(frozen=True)
class Measured:
    """The finetuner finished a round."""

    round: int
    dynamics: float  # mismatch in excess of the baseline; units as in MismatchReport
    dynamics_error: float  # standard error
    policy: float
    policy_error: float
    trained: str  # nothing, dynamics or policy
    reason: str
    produced: str  # digest of the bundle; empty: none


@dataclass(frozen=True)
class Offered:
    """The finetuner published a bundle."""

    name: str
    part: str
    digest: str
    size_bytes: int  # of its files


@dataclass(frozen=True)
class Moved:
    """A bundle came to another stage in the planner."""

    part: str
    digest: str  # the first digits
    stage: str  # runtime.swap.state.Stage
    figures: tuple[tuple[str, str], ...]  # of shadow or probation


@dataclass(frozen=True)
class Refused:
    """The planner refused a bundle or went back from it."""

    count: int  # since the planner was configured
    text: str  # reason: rule, measured, limit, remedy


@dataclass(frozen=True)
class Driving:
    """Other adapters drive than before."""

    adapters: tuple[str, ...]  # names
    swaps: int  # flips since the planner was configured


@dataclass(frozen=True)
class Operated:
    """The operator called a service and has the answer."""

    service: str
    request: str
    success: bool
    message: str


Event = Drove | Measured | Offered | Moved | Refused | Driving | Operated
