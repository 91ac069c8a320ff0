"""What every look of the doctor gives: one line that says what, measured, wanted, and what to do.

The rules are the whole list of what can be found on a live graph; docs/doctor.md holds it as a table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What one look at the installation or the graph found."""

    name: str  # of the part of the installation, or of the rule
    ok: bool
    found: str  # what was measured
    expected: str  # what is wanted
    fix: str  # what to do when it is not ok
    required: bool = True  # False: it only deserves attention, or only some commands need it
    subject: str = ""  # topic, frame or node that it is about

    @property
    def level(self) -> str:
        """`ok`, `warning` or `error`; an error makes the command fail."""
        return "ok" if self.ok else "error" if self.required else "warning"


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong on a live graph, or with what it is made of."""

    wrong: str  # what it means
    fix: str  # what to do
    required: bool = True  # False: a warning


RULES: dict[str, Rule] = {
    "endpoint_missing": Rule(
        "nobody publishes a topic that the planner needs, nobody commands the vehicle though the planner runs, or "
        "nobody listens to commands or proposals",
        "start what has it (the gate, where only proposals come), with the same ROS_DOMAIN_ID and role name, or remap "
        "the topic",
    ),
    "wrong_role": Rule(
        "none of the role's topics is published, but those of another role are",
        "give planner and bridge the same role_name (`adawm doctor --role-name` looks for another one)",
    ),
    "type_differs": Rule("a topic has another message type than is needed", "publish the type that is wanted"),
    "interface_differs": Rule(
        "the type has the right name but another definition (REP-2011 hash), so nothing arrives",
        "build both sides with the same version of the message package, and start them anew",
    ),
    "several_publishers": Rule("a topic that must have one source has several", "leave one of them running"),
    "several_controllers": Rule(
        "several nodes publish the commands of one vehicle, which obeys whichever came last",
        "stop all but one; to put the gate in between, start the planner with use_gate:=true beside adawm_gate",
    ),
    "qos_reliability": Rule(
        "a best-effort publisher never reaches a reliable subscription", "publish reliable, or subscribe best effort"
    ),
    "qos_durability": Rule(
        "a volatile publisher never reaches a transient-local subscription",
        "publish transient local (ros2 topic pub: --qos-durability transient_local), or subscribe volatile",
    ),
    "qos_deadline": Rule(
        "a publisher promises messages less often than a subscription's deadline asks for, so none arrives",
        "offer a deadline at most as long as the one asked for, or ask for none",
    ),
    "qos_liveliness": Rule(
        "a publisher's liveliness is weaker, or its lease longer, than a subscription asks for, so none arrives",
        "offer at least the liveliness that is asked for, or ask for automatic without a lease",
    ),
    "clock_silent": Rule(
        "somebody offers /clock and no time comes, so no simulated timer fires",
        "look whether the bridge hangs, or was paused before this look: publish CarlaControl PLAY on /carla/control",
    ),
    "clock_paused": Rule(
        "the world says that it is paused; /clock stands still on purpose",
        "to go on, publish CarlaControl PLAY on /carla/control",
        required=False,
    ),
    "clock_stopped": Rule(
        "/clock comes and always tells the same time", "look for the world's own error: its physics does not advance"
    ),
    "clock_backwards": Rule(
        "/clock went back: another world was loaded, a recording starts again, or two sources take turns",
        "leave one source of /clock running; after a restart of the world start its clients anew",
    ),
    "clock_ignored": Rule(
        "/clock runs, but a node takes wall time, so that its stamps and ages mean nothing",
        "start the node with use_sim_time:=true",
        required=False,
    ),
    "frame_differs": Rule(
        "a header names another frame than carla_ros_bridge's interface says", "publish in the frame that is wanted"
    ),
    "frame_not_in_tf": Rule(
        "a header names a frame that no transform leads to; RViz cannot show it",
        "spawn the sensor.pseudo.tf of the ego, or publish the transform",
        required=False,
    ),
    "pose_differs": Rule(
        "/tf and odometry place the ego differently at the same stamp", "let one source of the pose make both"
    ),
    "heading_differs": Rule(
        "vehicle_status and odometry give the ego another heading at the same stamp",
        "turn both by the same rule: yaw counter-clockwise from map x (CARLA's own yaw is clockwise)",
    ),
    "twist_in_map_axes": Rule(
        "odometry's linear twist is not in the body frame: the pose moves another way than it says",
        "give twist.linear in the child frame: x forward, y left",
    ),
    "twist_not_filled": Rule(
        "odometry's twist is 0 in every message though the pose is driven, so that the vehicle seems to stand, or "
        "not to turn",
        "fill in twist.linear (x forward, y left, m/s) and twist.angular.z (rad/s, positive to the left)",
    ),
    "yaw_mirrored": Rule(
        "odometry's yaw turns against its own yaw rate: one of them is left-handed",
        "negate the left-handed one: yaw and yaw rate are positive to the left",
    ),
    "imu_mirrored": Rule(
        "the IMU's yaw rate has the other sign than odometry's: one of them is left-handed",
        "negate the left-handed one: angular_velocity.z is positive to the left",
    ),
    "steer_mirrored": Rule(
        "the vehicle turns against its applied steering: positive steer is right, positive yaw rate left",
        "negate steer, or the pose, where it crosses from CARLA's axes to ROS's",
    ),
    "yaw_rate_unit": Rule("a yaw rate is many times what the heading does", "publish rad/s, not degrees per second"),
    "version_untested": Rule(
        "the tests of this repository did not run with this version",
        "it may work; when something is odd, try a tested version first",
        required=False,
    ),
}
"""Name -> what it means and what to do, in the order of looking."""


def wrong(rule: str, subject: str, found: str, expected: str) -> Check:
    """A finding of one of RULES about `subject`: what was measured, what is wanted."""
    one = RULES[rule]
    return Check(rule, False, found, expected, one.fix, one.required, subject)


def fine(subject: str, found: str) -> Check:
    """A look at `subject` that found nothing wrong, and what it saw."""
    return Check("graph", True, found, "", "", subject=subject)


def rule_table() -> str:
    """RULES as a Markdown table, for docs/doctor.md."""
    rows = ["| finding | level | what is wrong | what to do |", "|---|---|---|---|"]
    for name, rule in RULES.items():
        rows.append(f"| `{name}` | {'error' if rule.required else 'warning'} | {rule.wrong} | {rule.fix} |")
    return "\n".join(rows)
