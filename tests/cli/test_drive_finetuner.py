"""When `adawm drive` starts a finetuner, and the one line where it does not."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from rich.console import Console

pytest.importorskip("libsumo")

from adawm_planner import stack
from adawm_planner.adapters.keys import generate_key, read_private_key
from adawm_planner.cli import drive
from adawm_planner.cli.drive import wants_finetuner
from adawm_planner.processes import ChildDied, Children
from adawm_planner.stack import SOURCE_DIR, finetuner_settings, key_of


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that a finetuner needs is in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drive, "find_spec", lambda name: object())
    SOURCE_DIR.mkdir(parents=True)
    (SOURCE_DIR / "source-0123.npz").touch()
    Path("finetuner.pem").touch()
    return Path("finetuner.pem")


def test_it_is_started_where_all_is_there_unless_told_otherwise(key: Path) -> None:
    console = Console(record=True)
    assert wants_finetuner(None, key, console) and wants_finetuner(True, key, console)
    assert wants_finetuner(None, None, console)  # one is made
    assert not wants_finetuner(False, None, console)
    assert console.export_text() == ""


@pytest.mark.parametrize("missing", ["key", "source", "training"])
def test_what_is_missing_is_one_line_and_an_error_if_asked_for(
    key: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "training":
        monkeypatch.setattr(drive, "find_spec", lambda name: None if name == "peft" else object())
    elif missing == "key":
        key.unlink()
    else:
        (SOURCE_DIR / "source-0123.npz").unlink()
    told = {
        "key": "no key finetuner.pem",
        "source": r"no source rollouts in data/adaptation (`adawm baseline --rollouts-only` drives them)",
        "training": "peft not installed",
    }[missing]
    console = Console(record=True, width=60)
    if missing != "key":
        assert not wants_finetuner(None, None, console)
        text = console.export_text()
        assert text.startswith(f"no finetuner: {told}") and text.count("\n") == 1
        assert missing != "training" or "[train]'" in text  # which looks like markup
    for asked in (True, None):  # who names a key wants the finetuner
        with pytest.raises(click.ClickException, match=re.escape(told)):
            wants_finetuner(asked, key, console)


def test_a_key_for_a_finetuner_that_is_not_to_run_is_refused(key: Path) -> None:
    with pytest.raises(click.UsageError, match="--signing-key is the finetuner's"):
        wants_finetuner(False, key, Console())


def test_a_key_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    made = key_of(None, tmp_path / "state")
    assert made.is_relative_to(tmp_path / "state") and made.stat().st_mode & 0o777 == 0o600
    content = made.read_bytes()
    assert key_of(None, tmp_path / "state") == made and made.read_bytes() == content
    assert read_private_key(made) and made.with_suffix(".pub").is_file()
    public = made.with_suffix(".pub").read_bytes()
    made.with_suffix(".pub").unlink()  # as if a kill had left the private one alone
    assert key_of(None, tmp_path / "state") == made and made.with_suffix(".pub").read_bytes() == public


def test_a_key_of_one_s_own_is_read_before_anything_is_started(tmp_path: Path) -> None:
    made = key_of(None, tmp_path / "state")
    mine = tmp_path / "mine.pem"
    mine.write_bytes(made.read_bytes())
    mine.chmod(0o600)
    assert key_of(mine, tmp_path / "other") == mine  # its public key is made, which the planner trusts
    assert mine.with_suffix(".pub").read_bytes() == made.with_suffix(".pub").read_bytes()
    generate_key(tmp_path / "others")
    mine.with_suffix(".pub").write_bytes((tmp_path / "others.pub").read_bytes())
    with pytest.raises(ValueError, match=r"mine\.pub: is not the public key of .*mine\.pem; move it away"):
        key_of(mine, tmp_path / "other")
    for wrong, said in ((made.with_suffix(".pub"), "this is the public key"), (tmp_path / "bad.pem", "no unencrypted")):
        if not wrong.exists():
            wrong.write_text("x")
            wrong.chmod(0o600)
        with pytest.raises(ValueError, match=said):
            finetuner_settings(wrong, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="folder /proc/x cannot be made"):
        finetuner_settings(None, Path("/proc/x"))


class Ending:
    """Processes of which the finetuner has ended; keeps what it is asked."""

    log_dir = Path("logs")

    def __init__(self) -> None:
        self.started: list[str] = []
        self.checked: list[tuple[frozenset[str], frozenset[str]]] = []

    def start(self, name: str, *_: object) -> None:
        self.started.append(name)

    def check(self, may_end: frozenset[str], may_die: frozenset[str]) -> None:
        self.checked.append((may_end, may_die))

    def ended(self, name: str) -> str:
        return f"{name} ended with exit code 9"


class Listening:
    """An episode listener that has heard all after three looks."""

    report, report_at, adapters, looks = None, math.inf, (), 0

    @property
    def done(self) -> bool:
        return self.looks >= 3

    def spin(self, seconds: float) -> None:
        self.looks += 1

    def take(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("use_gate", [True, False])
@pytest.mark.parametrize("finetuner", [True, False])
def test_the_stack_drives_on_without_its_finetuner_and_only_without_that(
    use_gate: bool, finetuner: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy")
    monkeypatch.setattr("adawm_planner.ros.episode_listener.EpisodeListener", Listening)
    monkeypatch.setattr(stack, "node_command", lambda *_: [])
    monkeypatch.setattr(drive, "account", lambda _: {})
    monkeypatch.setattr(drive, "await_last_report", lambda _: None)
    run, children = drive.Run("t", "v", {"use_gate": use_gate}, finetuner=finetuner), Ending()
    drive.drive_stack(run, children, Console())  # type: ignore[arg-type]
    expected = {"sim_bridge", "adawm_planner"} | set(["adawm_gate"] * use_gate + ["adawm_finetuner"] * finetuner)
    assert set(children.started) == expected
    assert {may_die for _, may_die in children.checked} == {frozenset({"adawm_finetuner"})}
    assert [may_end for may_end, _ in children.checked] == [frozenset(), frozenset(), frozenset({"sim_bridge"})]
    told = "driving on without a finetuner: adawm_finetuner ended with exit code 9"
    assert capsys.readouterr().out.count(told) == 1


def test_a_planner_that_says_nothing_is_given_up() -> None:
    for report, limit in ((None, stack.START_LIMIT_S), (object(), stack.SILENCE_LIMIT_S)):
        listener: Any = SimpleNamespace(report=report, report_at=time.monotonic() - limit + 30.0)
        stack.check_alive(listener, Path("logs"))
        listener.report_at -= 31.0
        with pytest.raises(ChildDied, match=f"silent for .* \\(limit {limit:.0f} s\\); see the logs in logs"):
            stack.check_alive(listener, Path("logs"))


def test_a_sidecar_may_die(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("sidecar", ["false"], {"PATH": "/usr/bin:/bin"})
        while children.ended("sidecar") is None:
            pass
        children.check(may_die=frozenset({"sidecar"}))
        assert "sidecar ended with exit code 1" in str(children.ended("sidecar"))
        assert children.ended("nobody") is None
