"""A process that prints what planner and finetuner say, one JSON object a line, and one a second in any case."""

from __future__ import annotations

import json
from typing import Any

import rclpy
from adawm_msgs.msg import MismatchReport, PlannerStatus

from adawm_planner.ros import qos


def main() -> None:
    """Print until nobody reads."""
    rclpy.init()
    node = rclpy.create_node("observer")

    def say(**values: Any) -> None:
        print(json.dumps(values), flush=True)

    def on_status(message: PlannerStatus) -> None:
        say(
            frames=message.frames,
            swaps=message.swaps,
            refusal=message.last_refusal,
            adapters=[each.digest for each in message.adapters],
        )

    def on_report(message: MismatchReport) -> None:
        say(round=message.round, produced=message.produced_digest, reason=message.reason)

    node.create_subscription(PlannerStatus, "/adawm_planner/status", on_status, qos.STATUS)
    node.create_subscription(MismatchReport, "/adawm_finetuner/mismatch", on_report, qos.STATUS)
    node.create_timer(1.0, lambda: say(heard=node.count_publishers("/adawm_planner/status")))
    rclpy.spin(node)


if __name__ == "__main__":
    main()
