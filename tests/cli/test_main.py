"""The command group: lazy, and one line per mistake."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import COMMANDS, LazyGroup, adawm

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from adawm_planner.cli.main import adawm\n"
        "result = CliRunner().invoke(adawm, ['--help']); print(result.output)\n"
        "heavy = {'torch', 'rclpy', 'libsumo', 'carla', 'onnxruntime', 'gymnasium'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy or result.exit_code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_an_installation_that_only_drives_tells_of_every_command() -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('torch', 'peft', 'scipy', 'safetensors'))\n"
        "from click.testing import CliRunner; from adawm_planner.cli.main import COMMANDS, adawm\n"
        "failed = {name: CliRunner().invoke(adawm, [name, '--help']) for name in COMMANDS}\n"
        "sys.exit('\\n'.join(f'{name}: {each.output}' for name, each in failed.items() if each.exit_code) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_shows_its_help(name: str) -> None:
    command = adawm.get_command(click.Context(adawm), name)
    assert command is not None and command.name == name
    result = CliRunner().invoke(adawm, [name, "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"adapter", "benchmark", "doctor"}))
def test_results_can_be_written_as_json(name: str) -> None:
    assert "--json" in CliRunner().invoke(adawm, [name, "--help"]).output


def advised() -> list[str]:
    """Every `adawm ...` in backticks that a module of the package says, without what it fills in."""
    texts = []
    for file in sorted((ROOT / "adawm_planner").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return sorted({found for text in texts for found in re.findall(r"`(adawm (?!X)[^`]+)`", text)})


@pytest.mark.parametrize("line", advised())
def test_a_command_that_a_message_advises_exists_with_all_its_options(line: str) -> None:
    group, words = adawm, line.split()[1:]
    command: click.Command = group
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{line}: there is no '{words[0]}'"
        command, words = found, words[1:]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, line


def test_there_are_commands_that_messages_advise() -> None:
    assert len(advised()) > 20


def test_unknown_command_is_one_line() -> None:
    result = CliRunner().invoke(adawm, ["fly"])
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.output


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("cruise_speed is -1, needs > 0"), "cruise_speed is -1"),
        (FileNotFoundError(2, "No such file", "task.yaml"), "task.yaml"),
        (ModuleNotFoundError("x", name="torch.nn"), "[train]'"),
        (ModuleNotFoundError("x", name="rclpy"), "scripts/with_ros.sh"),
        (ModuleNotFoundError("x", name="nonsense"), "adawm doctor"),
        (ImportError("libX11.so.6: cannot open shared object file", name="libsumo"), "apt-get install libx11-6"),
    ],
)
def test_user_errors_are_one_line_and_tracebacks_only_on_request(error: Exception, words: str) -> None:
    class Failing(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            def fail() -> None:
                raise error

            return click.Command("fail", callback=fail)

    group = Failing("adawm", params=list(adawm.params), callback=lambda debug: None)
    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and words in result.output and result.output.count("\n") == 1
    assert CliRunner().invoke(group, ["--debug", "fail"]).exception is error
