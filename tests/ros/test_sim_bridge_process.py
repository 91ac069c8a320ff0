"""The bridge in its own process: episodes one after another, refused starts, and a clean end on signals."""

from __future__ import annotations

import json
import math
import signal

import pytest

from tests.patience import HANG_S

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")
pytest.importorskip("libsumo")

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl
from std_msgs.msg import String

from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.ros import qos
from adawm_planner.ros.convert import stamp_to_ns
from adawm_planner.ros.lifecycle import REFUSED
from adawm_planner.simulator.actors import EGO_ID
from tests.ros.bridge_client import BridgeClient, start_bridge
from tests.ros.spinner import end

pytestmark = pytest.mark.ros
JUMP_M = 2.0


def test_two_episodes_their_scores_and_the_end() -> None:
    bridge = start_bridge("seed:=5000", "episodes:=2", "synchronous_mode_wait_for_vehicle_control_command:=true")
    client = BridgeClient()
    episodes = client.listen(String, "/sim_bridge/episode", qos.EPISODES)
    try:
        assert client.spin_until(lambda: len(client.odometry) > 0)
        for _ in range(400):
            # Off the road as soon as possible, which ends the episode.
            client.command.publish(CarlaEgoVehicleControl(throttle=1.0, steer=-1.0))
            seen = len(client.odometry)
            client.spin_until(lambda seen=seen: len(client.odometry) > seen or len(episodes) == 3)
            if len(episodes) == 3:
                break
        assert len(episodes) == 3
        bridge.send_signal(signal.SIGTERM)
        output, _ = bridge.communicate(timeout=HANG_S)
    finally:
        end(bridge)
        client.close()
    assert bridge.returncode == 0 and "Traceback" not in output, output
    scores = [json.loads(message.data) for message in episodes.messages]
    assert scores[2] == {"done": True}
    assert [score["seed"] for score in scores[:2]] == [5000, 5001]
    for score in scores[:2]:
        assert score.pop("missed_ticks") == 0
        assert EpisodeResult.from_json(score).outcome in (Outcome.OFF_LANE, Outcome.COLLISION)
    check_route_before_frame(client)


def check_route_before_frame(client: BridgeClient) -> None:
    """The second route must have been sent before the first frame at the new start, and must begin there."""
    assert len(client.waypoints) == 2
    stamps = [stamp_to_ns(message.header.stamp) for message in client.odometry.messages]
    assert stamps == sorted(stamps)
    places = [message.pose.pose.position for message in client.odometry.messages]
    pairs = zip(places, places[1:], strict=False)
    jumps = [i + 1 for i, (a, b) in enumerate(pairs) if math.hypot(a.x - b.x, a.y - b.y) > JUMP_M]
    assert len(jumps) == 1
    assert client.odometry.sent[jumps[0] - 1] < client.waypoints.sent[1] < client.odometry.sent[jumps[0]]
    first, at = client.waypoints.messages[1].poses[0].pose.position, places[jumps[0]]
    assert math.hypot(first.x - at.x, first.y - at.y) < JUMP_M


def test_surplus_and_missing_commands_are_named() -> None:
    bridge = start_bridge("synchronous_mode_wait_for_vehicle_control_command:=true")
    client = BridgeClient()
    try:
        assert client.spin_until(lambda: client.connected() and len(client.odometry) > 0)
        client.step()
        client.next_frame()  # unanswered: the frame comes after the limit
        client.run_state.publish(CarlaControl(command=CarlaControl.PAUSE))
        client.spin_for(0.2)  # lets the pause arrive before the command
        client.command.publish(CarlaEgoVehicleControl())
        assert client.spin_until(lambda: not client.status.messages[-1].synchronous_mode_running)
        client.command.publish(CarlaEgoVehicleControl())  # nobody waits for it
        client.spin_for(0.3)
        bridge.send_signal(signal.SIGTERM)
        output, _ = bridge.communicate(timeout=HANG_S)
    finally:
        end(bridge)
        client.close()
    assert f"Missing command from actor ids [{EGO_ID}]" in output, output
    assert f"Unexpected vehicle control command received from {EGO_ID}" in output, output


def test_refused_start_is_one_clear_line() -> None:
    refused = {
        "task:=no_such_task": "no_such_task",
        "vehicle:=no_such_vehicle": "no_such_vehicle",
        "command_timeout:=-1.0": "command_timeout",
        "episodes:=many": "episodes",
        "role_name:='not a name'": "role_name",
        "tsk:=right_turn_dense": "did you mean task?",
    }
    started = [(start_bridge(parameter), word) for parameter, word in refused.items()]
    started.append((start_bridge("seed:=2147483647", "episodes:=5"), "highest is 2147483647"))
    for bridge, word in started:
        output, _ = bridge.communicate(timeout=HANG_S)
        assert bridge.returncode == REFUSED and word in output and "Traceback" not in output, output
        assert len(output.strip().splitlines()) == 1, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_waits_for_a_client(number: signal.Signals) -> None:
    bridge = start_bridge("synchronous_mode_wait_for_vehicle_control_command:=true", "start_timeout:=3600.0")
    client = BridgeClient()
    try:
        assert client.spin_until(lambda: client.command.get_subscription_count() > 0)
        bridge.send_signal(number)
        output, _ = bridge.communicate(timeout=HANG_S)
    finally:
        end(bridge)
        client.close()
    assert bridge.returncode == 0 and "Traceback" not in output, output
