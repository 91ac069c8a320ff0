"""Supervision: children are watched, ended in every way the parent may end, and explained."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import adawm_planner
from adawm_planner.processes import (
    ChildDied,
    Children,
    Interrupted,
    free_domain_id,
    interruptible,
    module_command,
    ros_environment,
)
from tests.patience import HANG_S

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time\n"
    "for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
    "print('ready', flush=True); time.sleep(600)",
]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _ready(log: Path) -> Callable[[], bool]:
    return lambda: log.exists() and "ready" in log.read_text()


def test_leaving_the_context_ends_a_child(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        pid = children.start("sleeper", SLEEP, os.environ)
        _until(_ready(tmp_path / "sleeper.log"))
        children.check()
        assert _alive(pid)
    assert not _alive(pid)


def test_one_child_can_be_ended_and_the_others_live_on(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        first, second = (children.start(name, SLEEP, os.environ) for name in ("first", "second"))
        for name in ("first", "second"):
            _until(_ready(tmp_path / f"{name}.log"))
        children.end("first")
        assert not _alive(first) and _alive(second)
        children.check()  # it was asked to end, so nothing is wrong
        assert children.ended("first") is None
    assert not _alive(second)


def test_a_child_that_ignores_signals_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adawm_planner.processes.GRACE_S", 0.2)
    monkeypatch.setattr("adawm_planner.processes.TERM_S", 0.2)
    with Children(tmp_path) as children:
        pid = children.start("stubborn", STUBBORN, os.environ)
        _until(_ready(tmp_path / "stubborn.log"))
        assert _alive(pid)
    assert not _alive(pid)


def test_what_a_child_started_itself_ends_with_it(tmp_path: Path) -> None:
    code = f"import subprocess; p = subprocess.Popen({SLEEP!r}); print('grandchild', p.pid, flush=True); p.wait()"
    log = tmp_path / "parent.log"
    with Children(tmp_path) as children:
        children.start("parent", [sys.executable, "-c", code], os.environ)
        _until(lambda: log.exists() and "grandchild" in log.read_text())
        grandchild = int(log.read_text().split("grandchild")[1].split()[0])
        assert _alive(grandchild)
    _until(lambda: not _alive(grandchild))


def test_death_names_the_child_the_signal_and_the_end_of_its_log(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("bystander", SLEEP, os.environ)
        pid = children.start("victim", SLEEP, os.environ)
        _until(_ready(tmp_path / "victim.log"))
        os.kill(pid, signal.SIGKILL)
        _until(lambda: not _alive(pid))
        with pytest.raises(ChildDied, match=r"(?s)victim was ended by SIGKILL.*victim\.log.*\| ready"):
            children.check()


def test_a_signal_without_a_name_is_told_by_its_number(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        pid = children.start("victim", SLEEP, os.environ)
        _until(_ready(tmp_path / "victim.log"))
        os.kill(pid, signal.SIGRTMIN + 1)
        _until(lambda: not _alive(pid))
        with pytest.raises(ChildDied, match=f"victim was ended by signal {signal.SIGRTMIN + 1};"):
            children.check()


def test_an_exit_code_is_death_unless_that_child_may_end(tmp_path: Path) -> None:
    for code, forgiven in ((0, True), (3, False)):
        with Children(tmp_path) as children:
            pid = children.start("brief", [sys.executable, "-c", f"raise SystemExit({code})"], os.environ)
            _until(lambda pid=pid: not _alive(pid))  # type: ignore[misc]
            with pytest.raises(ChildDied, match=f"brief ended with exit code {code}.*\n.*log is empty"):
                children.check()
            if forgiven:
                children.check(may_end=frozenset({"brief"}))
            else:
                with pytest.raises(ChildDied):
                    children.check(may_end=frozenset({"brief"}))


def test_children_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path\n"
        "from adawm_planner.processes import Children\n"
        f"c = Children(Path({str(tmp_path)!r}))\n"
        f"print(c.start('orphan', {SLEEP!r}, os.environ), flush=True); time.sleep(600)"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        _until(_ready(tmp_path / "orphan.log"))
        assert _alive(orphan)
        parent.kill()
    _until(lambda: not _alive(orphan))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_become_one_exception_and_handlers_come_back(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=signum.name), interruptible():
        os.kill(os.getpid(), signum)
        time.sleep(5.0)
    assert signal.getsignal(signum) == before


def test_the_users_domain_is_kept_and_otherwise_one_is_chosen() -> None:
    assert ros_environment({"ROS_DOMAIN_ID": "7"})["ROS_DOMAIN_ID"] == "7"
    chosen = ros_environment({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"})
    assert 1 <= int(chosen["ROS_DOMAIN_ID"]) <= 101
    assert chosen["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    assert ros_environment({})["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


@pytest.mark.parametrize("value", ["abc", "500", "-1", "1.5"])
def test_a_domain_that_dds_cannot_use_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match=f"^ROS_DOMAIN_ID is '{value}', must be 0 to 101; [^\n]*$"):
        ros_environment({"ROS_DOMAIN_ID": value})


def test_a_domain_with_a_participant_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adawm_planner.processes.HIGHEST_DOMAIN_ID", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 + 10))
        with pytest.raises(ValueError, match="no free ROS domain"):
            free_domain_id()
    assert free_domain_id() == 1


def test_a_module_runs_with_the_imports_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with what lies in the current directory, as `python -m` does."""
    ours, there = tmp_path / "it's ours", tmp_path / "there"
    for folder in (ours, there):
        folder.mkdir()
    for name in ("adawm_planner", "json", "shows"):
        (there / f"{name}.py").write_text("raise SystemExit('foreign code ran')")
    (ours / "shows.py").write_text(
        "import sys, adawm_planner, json\n"
        "if __name__ == '__main__':\n    print(json.dumps([sys.argv, adawm_planner.__file__]))\n    sys.exit(7)"
    )
    monkeypatch.syspath_prepend(ours)
    command = [*module_command("shows"), "-c", "two words"]
    done = subprocess.run(command, cwd=there, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout) == [[str(ours / "shows.py"), "-c", "two words"], adawm_planner.__file__]
