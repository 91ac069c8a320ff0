"""Episodes of a task in real time without any fault in, the gate's stops in them out.

Whatever it stops for that is an input or the planner is needless then. Braking for others and for the route is counted
beside that, by rule.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adawm_planner.faults.outcome import Said
from adawm_planner.processes import ChildDied, Children, interruptible
from adawm_planner.ros.node_table import GUARDS, SIM_BRIDGE, STACKS, START_LIMIT_S, node_command
from adawm_planner.safety.states import STOPS, State

SILENT_S = 60.0
"""Longest time without an episode's end before a run is given up, beside START_LIMIT_S [s]."""

NEVER_PASSED = "never_passed"
"""Counted like a rule, where the gate never let the planner drive."""

NEEDLESS = ("input_", "proposal_", NEVER_PASSED)
"""Rules that speak of inputs and the planner, with which nothing is wrong in a normal episode."""


@dataclass
class Account:
    """What the gate did in the episodes."""

    episodes: int = 0
    needless: int = 0  # episodes with a stop for an input or the planner
    stops: Counter[str] = field(default_factory=Counter)  # episodes with a stop, by rule
    responses: Counter[str] = field(default_factory=Counter)  # episodes in which it braked, by rule


def count(account: Account, said: list[Said]) -> None:
    """Add one episode's reports; those before the gate let the first proposal pass do not count, nor the planner's."""
    said = [each for each in said if each.node == "gate"]
    drives = [State(each.state) for each in said]
    passed = State.PASSING in drives
    first = drives.index(State.PASSING) if passed else len(said)
    stops = {each.rule for each in said[first:] if State(each.state) in STOPS and each.rule}
    stops |= set() if passed else {NEVER_PASSED}
    brakes = {each.rule for each in said[first:] if State(each.state) is State.RESPONDING and each.rule}
    account.episodes += 1
    account.needless += any(rule.startswith(NEEDLESS) for rule in stops)
    account.stops.update(stops)
    account.responses.update(brakes)


def drive_normally(task: str, seed: int, episodes: int, folder: Path) -> Account:
    """Drive, and count.

    Raises:
        ChildDied: a process ended, or no episode did.
    """
    settings = {
        "task": task,
        "seed": seed,
        "episodes": episodes,
        "realtime": True,
        "provider": "cpu",
        "use_gate": True,
        "await_planner": True,
        "release_on_new_episode": True,
        "wait_s": 0.2,
    }
    account = Account()
    with Children(folder) as children:
        for node in (*STACKS["sim"], *GUARDS):
            children.start(node.name, node_command(node, node.name, settings, folder), os.environ)
        from adawm_planner.ros.gate_listener import NormalListener  # after the children, forked from here

        listener = NormalListener()
        try:
            deadline = time.monotonic() + START_LIMIT_S + SILENT_S
            while account.episodes < episodes:
                listener.spin(0.1)
                for _ in listener.take():
                    count(account, listener.gate.take())
                    deadline = time.monotonic() + SILENT_S
                children.check(frozenset({SIM_BRIDGE.name}))
                if time.monotonic() > deadline:
                    raise ChildDied(f"no episode ended within {SILENT_S:g} s; see the logs in {folder}")
        finally:
            listener.close()
    return account


def main(words: list[str]) -> int:
    """Drive in this process and write the account: TASK, SEED, EPISODES, FOLDER of logs, FILE."""
    task, seed, episodes, folder, file = words
    with interruptible():
        account = drive_normally(task, int(seed), int(episodes), Path(folder))
    document: dict[str, Any] = {
        "task": task,
        "seed": int(seed),
        "episodes": account.episodes,
        "needless": account.needless,
        "stops": dict(account.stops),
        "responses": dict(account.responses),
    }
    Path(file).write_text(json.dumps(document), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ChildDied as error:
        sys.exit(str(error))
