"""What a rule says: its name, what it measured, its limit, what it asks for; the stricter verdict wins.

Every rule of the gate is a row of RULES; the table in docs/gate.md is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum


class Response(IntEnum):
    """What a verdict asks for."""

    LIMIT = 1  # the command passes with a value cut
    BRAKE = 2  # brake while the danger lasts
    COMFORTABLE = 3  # brake gently; once it has lasted, a comfortable stop that is not taken back
    EMERGENCY = 4  # brake hard; once it has lasted, an emergency stop that is not taken back


@dataclass(frozen=True)
class RuleRow:
    """One rule."""

    response: Response
    unit: str  # of what is measured and of its limit
    measures: str
    action: str  # what whoever reads the line can do


class Rule(Enum):
    """The rules; each value is the name in messages, its row is in RULES."""

    PROPOSAL_MISSING = "proposal_missing"
    PROPOSAL_NOT_FINITE = "proposal_not_finite"
    PROPOSAL_REPEATED = "proposal_repeated"
    PROPOSAL_REVERSE = "proposal_reverse"
    COMMAND_RANGE = "command_range"
    ACCELERATION = "acceleration"
    JERK = "jerk"
    STEER_RATE = "steer_rate"
    LATERAL_ACCELERATION = "lateral_acceleration"
    SPEED = "speed"
    OVERSPEED = "overspeed"
    INPUT_STALE = "input_stale"
    INPUT_INVALID = "input_invalid"
    RSS_SAME_DIRECTION = "rss_same_direction"
    RSS_OPPOSITE_DIRECTION = "rss_opposite_direction"
    BRAKING_DISTANCE = "braking_distance"
    ROUTE_MISSING = "route_missing"
    ROUTE_DEPARTURE = "route_departure"
    ROUTE_HEADING = "route_heading"


RULES: dict[Rule, RuleRow] = {
    Rule.PROPOSAL_MISSING: RuleRow(
        Response.COMFORTABLE, "s", "age of the planner's newest valid proposal",
        "see the planner's log; it has ended, hangs, or is not on this domain",
    ),
    Rule.PROPOSAL_NOT_FINITE: RuleRow(
        Response.COMFORTABLE, "values", "values of the proposal that are not finite",
        "see the planner's log; its model or an adapter computes nonsense",
    ),
    Rule.PROPOSAL_REPEATED: RuleRow(
        Response.COMFORTABLE, "frames", "frames since the one the newest proposal answers",
        "see the planner's latency; it is too slow for the frame rate",
    ),
    Rule.PROPOSAL_REVERSE: RuleRow(
        Response.COMFORTABLE, "", "proposals to drive backwards, which no rule looks at",
        "drive backwards by hand, with the manual override",
    ),
    Rule.COMMAND_RANGE: RuleRow(
        Response.LIMIT, "", "distance of throttle, brake or steer from its range", "see who publishes proposals",
    ),
    Rule.ACCELERATION: RuleRow(
        Response.LIMIT, "m/s2", "commanded acceleration", "raise command.acceleration_mps2 if the vehicle may",
    ),
    Rule.JERK: RuleRow(
        Response.LIMIT, "m/s3", "change of the commanded acceleration", "raise the jerk limit if the vehicle may",
    ),
    Rule.STEER_RATE: RuleRow(
        Response.LIMIT, "1/s", "change of the steering command", "raise command.steer_rate_per_s if the vehicle may",
    ),
    Rule.LATERAL_ACCELERATION: RuleRow(
        Response.LIMIT, "m/s2", "lateral acceleration of speed and steering command",
        "lower the planner's cruise speed, or smooth the route",
    ),
    Rule.SPEED: RuleRow(Response.LIMIT, "m/s", "speed", "lower the planner's cruise speed"),
    Rule.OVERSPEED: RuleRow(Response.BRAKE, "m/s", "speed", "lower the planner's cruise speed"),
    Rule.INPUT_STALE: RuleRow(
        Response.EMERGENCY, "s", "age of an input", "see that its publisher runs and is on this domain",
    ),
    Rule.INPUT_INVALID: RuleRow(
        Response.EMERGENCY, "values", "values of an input that cannot be", "see the publisher of the input",
    ),
    Rule.RSS_SAME_DIRECTION: RuleRow(
        Response.BRAKE, "m", "gap to the vehicle ahead", "wait; the gate lets go when the distance is safe",
    ),
    Rule.RSS_OPPOSITE_DIRECTION: RuleRow(
        Response.BRAKE, "m", "gap to the oncoming vehicle", "wait; the gate lets go when the distance is safe",
    ),
    Rule.BRAKING_DISTANCE: RuleRow(
        Response.BRAKE, "m", "own way to what is on the own path", "wait; the gate lets go when the path is clear",
    ),
    Rule.ROUTE_MISSING: RuleRow(
        Response.COMFORTABLE, "routes", "routes to follow",
        "publish a path of two or more points; a refused one is told in the state `route`",
    ),
    Rule.ROUTE_DEPARTURE: RuleRow(
        Response.COMFORTABLE, "m", "distance from the route", "bring the vehicle back, or publish another route",
    ),
    Rule.ROUTE_HEADING: RuleRow(
        Response.COMFORTABLE, "rad", "angle to the route", "bring the vehicle back, or publish another route",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What one rule found."""

    rule: Rule
    measured: float
    limit: float
    deceleration: float = 0.0  # m/s2 asked for, 0 where the rule only limits
    about: str = ""  # the topic, value or object it is about

    @property
    def response(self) -> Response:
        """What the rule asks for."""
        return RULES[self.rule].response

    def line(self) -> str:
        """Return one line for people: rule, measured, limit, what to do."""
        row = RULES[self.rule]
        about = f" ({self.about})" if self.about else ""
        unit = f" {row.unit}" if row.unit else ""
        return (
            f"{self.rule.value}: {row.measures}{about} is {self.measured:.3g}{unit}, limit {self.limit:.3g}{unit}; "
            f"{row.action}"
        )


def strictest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the verdict that asks for the most: first by deceleration, then by response; the first of equals."""
    return max(verdicts, key=lambda each: (each.deceleration, each.response), default=None)


def markdown() -> str:
    """Return the table of rules for the documentation."""
    lines = ["| rule | asks for | measured | unit | what to do |", "|---|---|---|---|---|"]
    for rule, row in RULES.items():
        cells = (f"`{rule.value}`", row.response.name.lower(), row.measures, row.unit, row.action)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
