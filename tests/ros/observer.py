"""A process that prints what planner and finetuner say, one JSON object a line, and one a second in any case.

Each line it reads pins a part of the planner's adapters, or with a `-` before its name unpins it.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import rclpy
from adawm_msgs.msg import AdapterUpdate, MismatchReport, PlannerStatus
from adawm_msgs.srv import PinAdapter
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from adawm_planner.ros import qos

TOLD = {"adawm_planner: adapters": "swap", "adawm_finetuner: experience": "experience"}
"""States in /diagnostics -> names in what is printed."""


def say(**values: Any) -> None:
    """Print a line."""
    print(json.dumps(values), flush=True)


def on_status(message: PlannerStatus) -> None:
    say(
        frames=message.frames,
        swaps=message.swaps,
        refusal=message.last_refusal,
        adapters=[each.digest for each in message.adapters],
    )


def on_report(message: MismatchReport) -> None:
    acting = list(message.base_and_adapter_digests)
    say(round=message.round, produced=message.produced_digest, reason=message.reason, acting=acting)


def on_diagnostics(message: DiagnosticArray) -> None:
    for status in message.status:
        if status.name in TOLD:
            say(**{TOLD[status.name]: status.message})


def pin(node: Node) -> None:
    """Do as standard input says."""
    client = node.create_client(PinAdapter, "/adawm_planner/pin_adapter")
    for line in map(str.strip, sys.stdin):
        client.wait_for_service()
        request = PinAdapter.Request(digest=line.removeprefix("-"), pinned=not line.startswith("-"))
        client.call_async(request).add_done_callback(
            lambda answer, line=line: say(pinned=line if answer.result().success else answer.result().message)
        )


def main() -> None:
    """Print until nobody reads."""
    rclpy.init()
    node = rclpy.create_node("observer")
    node.create_subscription(PlannerStatus, "/adawm_planner/status", on_status, qos.STATUS)
    node.create_subscription(MismatchReport, "/adawm_finetuner/mismatch", on_report, qos.MISMATCH)
    node.create_subscription(
        AdapterUpdate, "/adawm_finetuner/adapter", lambda message: say(offered=message.digest), qos.ADAPTER
    )
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, qos.STATUS)
    node.create_timer(1.0, lambda: say(heard=node.count_publishers("/adawm_planner/status")))
    threading.Thread(target=pin, args=(node,), daemon=True).start()
    rclpy.spin(node)


if __name__ == "__main__":
    main()
