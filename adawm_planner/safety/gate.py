"""The gate's table of contents: what it hears at one frame in, exactly one command out.

hear -> judge (inputs, proposal, route, speed, others) -> state -> command within every limit. Pure: what it
remembers goes in and comes out. Works without a planner; imports neither its model nor ROS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from adawm_planner.config.control import ControlConfig
from adawm_planner.config.gate import CommandLimits, GateConfig
from adawm_planner.control.pure_pursuit import steering
from adawm_planner.data_types import Command, EgoState, Objects, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import project
from adawm_planner.safety.braking import judge_braking
from adawm_planner.safety.following import judge_following
from adawm_planner.safety.inputs import Proposal, Reading, judge_inputs, judge_proposal, judge_route
from adawm_planner.safety.limits import Wanted, into_range, judge_speed, within_limits
from adawm_planner.safety.own_path import others_along, own_path
from adawm_planner.safety.states import STOPS, Event, State, advance
from adawm_planner.safety.verdict import Response, Rule, Verdict, strictest

DRIVES = frozenset({State.PASSING, State.RESPONDING})
"""States in which the planner drives, braked or not."""

GENTLE = frozenset({State.RESPONDING, State.COMFORTABLE_STOP})
"""States whose comfortable braking sets in gradually, so that a hiccup is no jolt."""

LEAVES_ROUTE = frozenset({Rule.ROUTE_DEPARTURE, Rule.ROUTE_HEADING})
"""Rules whose stop is not steered by the planner that broke them."""

_STEERING = ControlConfig()


@dataclass(frozen=True)
class Heard:
    """Everything the gate knows at one step."""

    reading: Reading
    proposal: Proposal | None
    elapsed_s: float  # since the step before, by the clock that the vehicle lives by
    overridden: bool = False  # a person drives
    release: bool = False  # somebody asks to leave a stop


@dataclass(frozen=True)
class Memory:
    """What the gate remembers from step to step."""

    state: State = State.STANDBY
    sent: Wanted = Wanted(0.0, 0.0)  # the command before
    fault_s: float = 0.0  # how long a fault that calls for a stop has lasted
    recurrent_s: float = 0.0  # of all such faults while it drives, less what is forgiven
    danger: Verdict | None = None  # latest danger
    calm_s: float = 0.0  # since that
    standing_s: float = 0.0  # how long the vehicle has stood
    cause: Verdict | None = None  # of the running stop


@dataclass(frozen=True)
class Answer:
    """What the gate does at one step."""

    command: Command
    memory: Memory
    verdict: Verdict | None  # the one that decided; None: the proposal passed unchanged
    verdicts: tuple[Verdict, ...]  # everything that was found
    time_to_collision_s: float  # inf where nothing is met on the own path

    @property
    def state(self) -> State:
        """The state that the command comes from."""
        return self.memory.state


def step(heard: Heard, memory: Memory, config: GateConfig) -> Answer:
    """Give the one command that answers a frame, or the want of one."""
    blind = judge_inputs(heard.reading, config.stop)
    unable = judge_proposal(heard.proposal, config.watch, config.stop)
    pace = 0.0 if unable or heard.proposal is None else _pace(heard.proposal, config.command)
    seen, ttc = ([], math.inf) if blind else _judge_motion(heard.reading, pace, config)
    found = (*blind, *unable, *seen)
    memory = _remember(found, memory, heard, config)
    if memory.danger is not None and 0.0 < memory.calm_s < config.path.clear_s:
        found = (*found, memory.danger)
    worst = strictest(found)
    if blind:
        heard = replace(heard, release=False)  # nobody knows that the vehicle stands
    memory = _next_state(heard, memory, worst, _fault(found), config)
    if blind:
        wanted, cut = _blind(worst, memory, config), list[Verdict]()
    else:
        wanted, cut = _wanted(heard, found, bool(unable), memory, config)
    speed = 0.0 if blind else _ego(heard.reading).speed
    allowed, cuts = within_limits(wanted, memory.sent, speed, None if blind else heard.reading.vehicle, config.command)
    limits = (*cut, *cuts)
    command = allowed.command(config.command)
    decided = memory.cause if memory.state in STOPS else worst or strictest(limits)
    return Answer(command, replace(memory, sent=allowed), decided, (*found, *limits), ttc)


def new_episode(memory: Memory, release: bool) -> Memory:
    """Forget the last episode, where the vehicle has been placed somewhere else.

    Args:
        release: whether whoever placed it has also looked after what caused a stop, as a simulator does with a fresh
            vehicle. Without it a stop is kept, and the last command: the vehicle still has that, and the next one
            must not jump from it.
    """
    if release:
        return Memory()
    if memory.state in STOPS:
        return Memory(memory.state, memory.sent, cause=memory.cause)
    return Memory(sent=memory.sent)


def _ego(reading: Reading) -> EgoState:
    assert reading.ego is not None  # a reading without it was judged
    return reading.ego


def _world(reading: Reading) -> tuple[VehicleInfo, Objects]:
    assert reading.vehicle is not None and reading.objects is not None  # likewise
    return reading.vehicle, reading.objects


def _pace(proposal: Proposal, limits: CommandLimits) -> float:
    """Speed [m/s] that a vehicle which stands is about to have: one frame of what it may accelerate, if it is to."""
    wanted = Wanted.of(into_range(proposal.command)[0], limits)
    return limits.acceleration_mps2 * FRAME_S if wanted.acceleration > 0.0 else 0.0


def _judge_motion(reading: Reading, pace: float, config: GateConfig) -> tuple[list[Verdict], float]:
    """Judge a reading that can be trusted; also return the time to collision [s].

    Args:
        pace: what the vehicle is judged by where it is slower [m/s]: to one who stands nobody would be in the way.
    """
    ego, (vehicle, objects) = _ego(reading), _world(reading)
    verdicts = judge_route(ego, reading.route, reading.near, config.watch, config.stop)
    verdicts += judge_speed(ego.speed, config.command, config.stop.comfortable_mps2)
    path = own_path(ego, vehicle)
    others = others_along(path, ego, vehicle, objects)
    speed = max(ego.speed, pace)
    ahead = judge_braking(speed, path, vehicle, others, objects.id, config.path, config.stop.emergency_mps2)
    verdicts += judge_following(speed, others, ahead.met, objects.id, config.rss)
    if ahead.verdict is not None:
        verdicts.append(ahead.verdict)
    return verdicts, ahead.time_to_collision_s


def _fault(found: tuple[Verdict, ...]) -> Verdict | None:
    """Return the strictest verdict that asks for a stop: danger only asks for brakes while it lasts."""
    return strictest(each for each in found if each.response in (Response.COMFORTABLE, Response.EMERGENCY))


def _remember(found: tuple[Verdict, ...], memory: Memory, heard: Heard, config: GateConfig) -> Memory:
    """Note how long faults have lasted, the latest danger, and how long the vehicle has stood."""
    elapsed_s, watch, fault = heard.elapsed_s, config.watch, _fault(found) is not None
    danger = strictest(each for each in found if each.response is Response.BRAKE)
    # What a stop was for, or standby, is not held against the drive that follows.
    recurrent = memory.recurrent_s + (elapsed_s if fault else -watch.forgiven * elapsed_s)
    return replace(
        memory,
        fault_s=memory.fault_s + elapsed_s if fault else 0.0,
        recurrent_s=max(recurrent, 0.0) if memory.state in DRIVES else 0.0,
        danger=danger or memory.danger,
        calm_s=0.0 if danger else memory.calm_s + elapsed_s,
        standing_s=memory.standing_s + elapsed_s if heard.reading.stands(config.stop.standstill_mps) else 0.0,
    )


def _next_state(
    heard: Heard, memory: Memory, worst: Verdict | None, fault: Verdict | None, config: GateConfig
) -> Memory:
    """Tell the state machine what has happened, in order of weight; a stop that begins keeps the fault that it is for.

    Danger in the same frame makes it an emergency stop and is no cause of one: it ends by itself, the stop does not.
    """
    events = [Event.OVERRIDE if heard.overridden else Event.OVERRIDE_ENDS]
    moves = heard.reading.ego is not None and not heard.reading.stands(config.stop.standstill_mps)
    if heard.release and heard.reading.stands(config.stop.standstill_mps):
        events.append(Event.RELEASE)
    if memory.fault_s > config.watch.latch_s or memory.recurrent_s > config.watch.recurrent_s:
        events.append(Event.FAULT)
    if worst is None:
        events.append(Event.CLEAR)
    else:
        events.append(Event.DANGER if worst.deceleration > config.stop.comfortable_mps2 else Event.CAUTION)
    if memory.standing_s >= config.stop.standstill_s:
        events.append(Event.STANDSTILL)
    elif moves:
        events.append(Event.MOVING)
    state = memory.state
    for event in events:
        state = advance(state, event)
    begins = state in STOPS and memory.state not in STOPS
    return replace(memory, state=state, cause=fault if begins else memory.cause)


def _blind(worst: Verdict | None, memory: Memory, config: GateConfig) -> Wanted:
    """Return what one who sees nothing asks for: to brake, and to hold the wheel.

    While a person drives the wheel is theirs, and goes back to its middle here: what was last sent is long over when
    they hand back.
    """
    return Wanted(-_braking(worst, memory, config), 0.0 if memory.state is State.OVERRIDDEN else memory.sent.steer)


def _wanted(
    heard: Heard, found: tuple[Verdict, ...], unable: bool, memory: Memory, config: GateConfig
) -> tuple[Wanted, list[Verdict]]:
    """Return what the state asks for, and what of the proposal had to be cut into its range.

    In a stop the gate steers itself, as the planner may be what it is for.
    """
    brake = _braking(strictest(found), memory, config)
    if unable or heard.proposal is None:
        return Wanted(-brake, _own_steer(heard.reading, memory)), []
    command, cut = into_range(heard.proposal.command)
    proposed = Wanted.of(command, config.command)
    if brake > 0.0:
        proposed = replace(proposed, acceleration=min(proposed.acceleration, -brake))
    if memory.state in STOPS or any(each.rule in LEAVES_ROUTE for each in found):
        proposed = replace(proposed, steer=_own_steer(heard.reading, memory))
    return proposed, cut


def _braking(worst: Verdict | None, memory: Memory, config: GateConfig) -> float:
    """Deceleration [m/s2] that state and rules ask for together."""
    brake = max(_brake(memory.state, config), 0.0 if worst is None else worst.deceleration)
    if memory.state in GENTLE and brake <= config.stop.comfortable_mps2:
        brake = min(brake, max(-memory.sent.acceleration, 0.0) + config.stop.comfortable_jerk_mps3 * FRAME_S)
    return brake


def _own_steer(reading: Reading, memory: Memory) -> float:
    """Without a proposal the gate keeps to the route itself; without that it holds the wheel."""
    if reading.route is None:
        return memory.sent.steer
    ego, (vehicle, _) = _ego(reading), _world(reading)
    at = project(reading.route, ego.x, ego.y, reading.near)
    return steering(ego, reading.route, vehicle, at.s, _STEERING)


def _brake(state: State, config: GateConfig) -> float:
    """Deceleration [m/s2] that a state asks for by itself."""
    stop = config.stop
    return {
        State.STANDBY: stop.hold_mps2,
        State.PASSING: 0.0,
        State.RESPONDING: 0.0,
        State.COMFORTABLE_STOP: stop.comfortable_mps2,
        State.EMERGENCY_STOP: stop.emergency_mps2,
        State.HOLD: stop.hold_mps2,
        State.OVERRIDDEN: stop.hold_mps2,
    }[state]
