"""Every fault that is injected, as typed values: where, what, and what the stack promises then.

The campaign, its documentation and its tests read FAULTS; nothing else says what is due.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum

from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE

INPUT_LIMIT_S = 0.3
"""From a fault of an input to the first braking command [s]; row 3 of docs/reliability.md."""

PLANNER_LIMIT_S = 0.25
"""The same from the end of the planner [s]: `watch.proposal_s`, and the frame that notices."""

DECISION_LIMIT_S = 0.5
"""The same where the fault shows only at the planner's next decision, 0.2 s later at most [s]."""

CLOCK, WORLD, EVERYTHING = "clock", "world_status", "everything"
STREAMS = (CLOCK, WORLD, STATUS, ODOMETRY, OBJECTS)
"""Topics with a message per frame, in the bridge's order."""

OVERRIDE, PROPOSALS = "manual_override", "proposal"
LATCHED = (ROUTE, VEHICLE)
"""Topics whose message is sent once and kept for whoever comes later."""

PLANNER, FINETUNER, DISK, MODEL, NOTHING = "planner", "finetuner", "disk", "model", "nothing"
PROCESSES = (PROPOSALS, PLANNER, FINETUNER, DISK, MODEL)
"""What a fault can be in that is not in the bridge."""

WHERE = (NOTHING, ODOMETRY, OBJECTS, STATUS, *LATCHED, OVERRIDE, CLOCK, WORLD, EVERYTHING, *PROCESSES)
"""What a fault is injected into."""


class Kind(Enum):
    """What goes wrong."""

    NONE = "none"
    KILL = "kill"
    FREEZE = "freeze"
    STUCK = "stuck"
    SLOW = "slow"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    LOSS = "loss"
    NAN = "nan"
    WRONG_FRAME = "wrong_frame"
    TIME_FORWARD = "time_forward"
    TIME_BACKWARD = "time_backward"
    PLACE = "place"
    PAUSED = "paused"
    ON = "on"
    LATE = "late"
    STOP = "sigstop"
    BUSY = "busy_loop"
    MODEL_ERROR = "model_error"
    CALLBACK_ERROR = "callback_error"
    OUT_OF_MEMORY = "out_of_memory"
    FULL = "full"
    DELETED = "deleted"
    REPLACED = "replaced"
    CUT = "cut"
    OVERWRITTEN = "overwritten"


SIGNALS = {
    Kind.MODEL_ERROR: signal.SIGRTMIN,
    Kind.CALLBACK_ERROR: signal.SIGRTMIN + 1,
    Kind.BUSY: signal.SIGRTMIN + 2,
}
"""Which signal lets out which fault that is planted in the planner."""

PROPOSAL_SIGNAL = signal.SIGRTMIN + 3
"""Lets out the fault of the planner's proposals whose name is in FAULT_VARIABLE."""

FAULT_VARIABLE = "ADAWM_FAULT"
"""Variable of the planner's environment: the fault that is injected."""


class Due(Enum):
    """What the stack owes after a fault."""

    STOP = "stop"  # a braking command within the limit, a stop that is not taken back, standstill
    BRAKE = "brake"  # a braking command within the limit; it may drive on when the cause has gone
    DRIVE = "drive"  # no stop, no standstill; the planner drives at the end
    YIELD = "yield"  # no stop; a person drives to the end, and the gate's commands, which do not count, brake


CALM = (Due.DRIVE, Due.YIELD)
"""Where no braking command is due."""


@dataclass(frozen=True)
class Promise:
    """What is owed, and how soon."""

    due: Due
    limit_s: float = 0.0  # from the fault to the first braking command; 0 where none is due

    def __post_init__(self) -> None:
        if (self.due in CALM) != (self.limit_s == 0.0) or self.limit_s < 0.0:
            raise ValueError(f"a promise to {self.due.value} has a limit of {self.limit_s} s")


@dataclass(frozen=True)
class Fault:
    """One row of the campaign."""

    where: str  # one of WHERE
    kind: Kind
    injected: str  # for people
    promise: Promise
    amount: float = 0.0  # what `injected` says: frames, seconds, metres or a share
    lasts_s: float | None = None  # None: for the rest of the run
    on_vehicle: bool = False  # `use_world_status` is false, as vehicle.launch.py has it

    def __post_init__(self) -> None:
        if self.where not in WHERE:
            raise ValueError(f"fault in {self.where!r}, must be in one of {', '.join(WHERE)}")

    @property
    def name(self) -> str:
        """As on the command line."""
        more = f"_{self.amount:g}" if self.kind in (Kind.DELAY, Kind.SLOW) else ""
        return f"{self.where}_{self.kind.value}{more}" + ("_passing" if self.lasts_s is not None else "")

    @property
    def in_bridge(self) -> bool:
        """Whether it is in the bridge's topics: then it begins with a frame."""
        return self.where not in PROCESSES


STOPS = Promise(Due.STOP, INPUT_LIMIT_S)
BRAKES = Promise(Due.BRAKE, INPUT_LIMIT_S)
DRIVES = Promise(Due.DRIVE)
STOPS_FOR_PLANNER = Promise(Due.STOP, PLANNER_LIMIT_S)


def _frame_part(where: str, place: str, place_promise: Promise) -> tuple[Fault, ...]:
    """Faults of a topic that every frame needs."""
    return (
        Fault(where, Kind.KILL, "publisher gone", STOPS),
        Fault(where, Kind.FREEZE, "its last message again at every frame", STOPS),
        Fault(where, Kind.SLOW, "one message in 10 comes", STOPS, 10.0),
        Fault(where, Kind.SLOW, "one message in 4 comes", BRAKES, 4.0),
        Fault(where, Kind.DELAY, "every message 10 frames late", STOPS, 10.0),
        Fault(where, Kind.DELAY, "every message a frame late", DRIVES, 1.0),
        Fault(where, Kind.DUPLICATE, "every message twice", DRIVES),
        Fault(where, Kind.REORDER, "two messages in the wrong order, once a second", DRIVES, 20.0),
        Fault(where, Kind.NAN, "a value is not a number", STOPS),
        Fault(where, Kind.WRONG_FRAME, "frame_id is base_link", STOPS),
        Fault(where, Kind.TIME_FORWARD, "its stamps are 10 s ahead", STOPS, 10.0),
        Fault(where, Kind.TIME_BACKWARD, "its stamps are 10 s behind", STOPS, 10.0),
        Fault(where, Kind.PLACE, place, place_promise),
        Fault(where, Kind.KILL, "nothing for 0.5 s", BRAKES, lasts_s=0.5),
    )


def _beside_frames(where: str) -> tuple[Fault, ...]:
    """Faults of a topic with a message per frame that no frame needs."""
    return (
        Fault(where, Kind.SLOW, "one message in 10 comes", DRIVES, 10.0),
        Fault(where, Kind.DELAY, "every message 10 frames late", DRIVES, 10.0),
        Fault(where, Kind.DUPLICATE, "every message twice", DRIVES),
        Fault(where, Kind.REORDER, "two messages in the wrong order, once a second", DRIVES, 20.0),
    )


FAULTS: tuple[Fault, ...] = (
    Fault(NOTHING, Kind.NONE, "nothing: what the machine itself does to the figures", DRIVES),
    *_frame_part(ODOMETRY, "50 m to the left, at once", STOPS),
    Fault(ODOMETRY, Kind.STUCK, "place stays as it was, stamps and speed go on", STOPS),
    *_frame_part(OBJECTS, "the vehicle ahead is 8 m ahead, at once", BRAKES),
    *_frame_part(STATUS, "velocity 10 m/s more than odometry's", STOPS),
    Fault(ROUTE, Kind.KILL, "publisher gone, the route is known", DRIVES),
    Fault(ROUTE, Kind.DUPLICATE, "the same route at every frame", DRIVES),
    Fault(ROUTE, Kind.NAN, "a route with a value that is not a number", STOPS),
    Fault(ROUTE, Kind.WRONG_FRAME, "a route in base_link", STOPS),
    Fault(ROUTE, Kind.PLACE, "a route 50 m to the left", STOPS),
    Fault(ROUTE, Kind.TIME_FORWARD, "the same route, stamped 10 s ahead of the one before", DRIVES, 10.0),
    Fault(ROUTE, Kind.TIME_BACKWARD, "the same route, stamped 10 s behind the one before", DRIVES, 10.0),
    Fault(ROUTE, Kind.LATE, "comes 3 s after the vehicle", BRAKES, 3.0),
    Fault(VEHICLE, Kind.KILL, "publisher gone, the vehicle is known", DRIVES),
    Fault(VEHICLE, Kind.DUPLICATE, "the same description at every frame", DRIVES),
    Fault(VEHICLE, Kind.NAN, "a description with a value that is not a number", DRIVES),
    Fault(VEHICLE, Kind.PLACE, "a description whose axles are 100 m further apart", DRIVES),
    Fault(OVERRIDE, Kind.ON, "a person takes over", Promise(Due.YIELD)),
    Fault(OVERRIDE, Kind.ON, "a person drives for 1 s", DRIVES, lasts_s=1.0),
    Fault(CLOCK, Kind.KILL, "publisher gone", DRIVES),
    Fault(CLOCK, Kind.FREEZE, "time stands still, frames go on", DRIVES),
    *_beside_frames(CLOCK),
    Fault(CLOCK, Kind.TIME_FORWARD, "10 s ahead of the frames", DRIVES, 10.0),
    Fault(CLOCK, Kind.TIME_BACKWARD, "10 s behind the frames", DRIVES, 10.0),
    Fault(WORLD, Kind.KILL, "publisher gone", DRIVES),
    Fault(WORLD, Kind.FREEZE, "its last message again at every frame", DRIVES),
    *_beside_frames(WORLD),
    Fault(WORLD, Kind.PAUSED, "says that the world is paused, frames go on", DRIVES),
    Fault(EVERYTHING, Kind.KILL, "no topic of the bridge any more", STOPS),
    Fault(
        EVERYTHING, Kind.PAUSED,
        "only /carla/status goes on, and says that the world is paused; `use_world_status` is false", STOPS,
        on_vehicle=True,
    ),
    Fault(EVERYTHING, Kind.FREEZE, "all last messages again at every frame", STOPS),
    Fault(EVERYTHING, Kind.SLOW, "one frame in 10 comes", STOPS, 10.0),
    Fault(EVERYTHING, Kind.DELAY, "all topics 10 frames late: braked for until the first comes", BRAKES, 10.0),
    Fault(EVERYTHING, Kind.DELAY, "all topics a frame late", DRIVES, 1.0),
    Fault(EVERYTHING, Kind.DUPLICATE, "every message twice", DRIVES),
    Fault(EVERYTHING, Kind.REORDER, "two frames in the wrong order, once a second", DRIVES, 20.0),
    Fault(EVERYTHING, Kind.TIME_FORWARD, "clock and stamps jump 10 s ahead", BRAKES, 10.0),
    Fault(EVERYTHING, Kind.TIME_BACKWARD, "clock and stamps jump 10 s back", BRAKES, 10.0),
    Fault(EVERYTHING, Kind.LOSS, "20 % of messages lost; counts from 3 frames that lack a needed part", BRAKES, 0.2),
    Fault(EVERYTHING, Kind.KILL, "nothing for 0.5 s", BRAKES, lasts_s=0.5),
    Fault(PROPOSALS, Kind.FREEZE, "its last message again at every frame", STOPS_FOR_PLANNER),
    Fault(PROPOSALS, Kind.SLOW, "one proposal in 10 comes", STOPS_FOR_PLANNER, 10.0),
    Fault(PROPOSALS, Kind.SLOW, "one proposal in 3 comes", DRIVES, 3.0),
    Fault(PROPOSALS, Kind.DELAY, "every proposal 10 frames late", STOPS_FOR_PLANNER, 10.0),
    Fault(PROPOSALS, Kind.DELAY, "every proposal a frame late", DRIVES, 1.0),
    Fault(PROPOSALS, Kind.DUPLICATE, "every proposal twice", DRIVES),
    Fault(PROPOSALS, Kind.REORDER, "two proposals in the wrong order, once a second", DRIVES, 20.0),
    Fault(PROPOSALS, Kind.NAN, "throttle is not a number", STOPS_FOR_PLANNER),
    Fault(PROPOSALS, Kind.WRONG_FRAME, "frame_id is base_link: a pedal has no place", DRIVES),
    Fault(PROPOSALS, Kind.TIME_FORWARD, "its stamps are 10 s ahead", STOPS_FOR_PLANNER, 10.0),
    Fault(PROPOSALS, Kind.TIME_BACKWARD, "its stamps are 10 s behind", STOPS_FOR_PLANNER, 10.0),
    Fault(PLANNER, Kind.KILL, "SIGKILL", STOPS_FOR_PLANNER),
    Fault(PLANNER, Kind.STOP, "SIGSTOP", STOPS_FOR_PLANNER),
    Fault(PLANNER, Kind.STOP, "SIGSTOP for 0.1 s", DRIVES, lasts_s=0.1),
    Fault(PLANNER, Kind.BUSY, "endless loop in its one thread", STOPS_FOR_PLANNER),
    Fault(PLANNER, Kind.CALLBACK_ERROR, "exception in a callback", Promise(Due.STOP, INPUT_LIMIT_S)),
    Fault(PLANNER, Kind.MODEL_ERROR, "exception in the model, from now on", Promise(Due.BRAKE, DECISION_LIMIT_S)),
    Fault(PLANNER, Kind.LATE, "discovered 3 s after the vehicle", Promise(Due.BRAKE, INPUT_LIMIT_S), 3.0),
    Fault(FINETUNER, Kind.OUT_OF_MEMORY, "SIGKILL, as by the kernel's OOM killer", DRIVES),
    Fault(DISK, Kind.FULL, "no file of planner and gate may grow", DRIVES),
    Fault(MODEL, Kind.DELETED, "the model's files are deleted", DRIVES),
    Fault(MODEL, Kind.REPLACED, "the model's files are replaced by broken ones, by renaming", DRIVES),
    Fault(MODEL, Kind.CUT, "the model's files are cut", DRIVES),
    Fault(MODEL, Kind.OVERWRITTEN, "the model's files are overwritten in place", DRIVES),
)  # fmt: skip


def find(name: str) -> Fault:
    """Return the fault of this name.

    Raises:
        ValueError: there is none; names those that look like it.
    """
    found = {fault.name: fault for fault in FAULTS}
    if name not in found:
        near = [each for each in found if each.startswith(name.split("_", maxsplit=1)[0])] or list(found)
        raise ValueError(f"no fault {name!r}; there are {', '.join(near)}")
    return found[name]
