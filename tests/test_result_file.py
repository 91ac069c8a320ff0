"""Results reach the file that the user named, and nothing that is none is replaced by one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.cli.options import writable
from adawm_planner.result_file import check_folder, check_writable, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def test_a_file_is_written_whole_into_a_folder_that_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "result.json"
    check_writable(file)
    assert names(file.parent) == set()
    write_json(file, {"a": 1})
    assert json.loads(file.read_text()) == {"a": 1} and names(file.parent) == {"result.json"}
    write_json(None, {"a": 1})


def test_what_cannot_be_written_leaves_the_earlier_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("earlier")
    file.chmod(0o640)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    assert file.read_text() == "earlier" and names(tmp_path) == {"result.json"}
    write_text(file, "later")
    assert file.read_text() == "later" and stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link, dangling = tmp_path / "far" / "target.json", tmp_path / "link.json", tmp_path / "dangling.json"
    target.write_text("earlier")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "far" / "new.json")
    for each in (link, dangling):
        check_writable(each)
        write_text(each, "later")
        assert each.is_symlink() and each.resolve().read_text() == "later"
    assert names(tmp_path / "far") == {"target.json", "new.json"}


def test_a_pipe_and_a_device_are_written_to_and_stay(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "told")
    assert os.read(reader, 100) == b"told" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)
    full = Path("/dev/full")
    check_writable(full)
    with pytest.raises(ValueError, match="/dev/full cannot be written .No space left"):
        write_text(full, "too much")
    assert stat.S_ISCHR(full.stat().st_mode)


@pytest.mark.parametrize("redirected", [False, True])
def test_standard_output_gets_the_result_behind_what_was_printed(redirected: bool, tmp_path: Path) -> None:
    code = "from pathlib import Path; from adawm_planner.result_file import write_text; print('table', flush=True); "
    command = [sys.executable, "-c", code + "write_text(Path('/dev/stdout'), 'result\\n')"]
    with (tmp_path / "output").open("wb") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file if redirected else subprocess.PIPE, check=True)
    told = (tmp_path / "output").read_bytes() if redirected else done.stdout
    assert told == b"table\nresult\n" and names(tmp_path) == {"output"}


@pytest.mark.parametrize(
    ("name", "words"),
    [("/proc/x.json", "/proc/x.json cannot be written"), ("{}", "is a folder"), ("{}/file/x.json", "cannot be made")],
)
def test_a_place_that_takes_no_file_is_told_before_the_work(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=words):
        check_writable(Path(name.format(tmp_path)))


@pytest.mark.parametrize(
    "words", [["evaluate", "--driver", "blind"], ["adapter", "list", "store"], ["benchmark", "promises"], ["doctor"]]
)
def test_every_command_tries_its_json_before_it_prints(words: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(adawm, [*words, "--json", "/proc/x.json"])
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].endswith("/proc/x.json cannot be written (No such file or directory)")
    assert result.output.splitlines()[0].startswith("Usage")


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        words = (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, words)
        else:
            yield " ".join(words), command


def test_every_json_of_every_command_is_tried_alike() -> None:
    found = {
        words: param.callback
        for words, command in commands(adawm)
        for param in command.params
        if "--json" in param.opts
    }
    assert len(found) > 25 and {words for words, callback in found.items() if callback is not writable} == set()


def test_a_folder_that_is_tried_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "there/new", "new/and/newer"):
        check_folder(tmp_path / name)
    assert names(tmp_path) == {"there"} and names(tmp_path / "there") == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [("/proc", "/proc cannot be written"), ("{}/file/x", "cannot be made"), ("{}/file", "cannot be made")],
)
def test_a_place_that_is_no_folder_is_told_before_the_work(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=words):
        check_folder(Path(name.format(tmp_path)))
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize(
    "words",
    [
        ["collect", "--output", "/proc/c1"],
        ["baseline", "--rollouts-only", "--cache", "/proc/c1"],
        ["pretrain", "--output", "/proc/c1"],
        ["pretrain", "--data", "/proc/c1"],
        ["pretrain", "--run", "/proc/c1"],
        ["adapt", "--run", "/proc/c1"],
        ["export", "--output", "/proc/c1"],
        ["drive", "--log-dir", "/proc/c1"],
        ["story", "--run", "/proc/c1"],
        ["faults", "--runs", "/proc/c1"],
        ["adapter", "keygen", "/proc/c1/key"],
    ],
)
def test_every_command_tries_its_folder_before_it_works(words: list[str]) -> None:
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].endswith("folder /proc/c1 cannot be made (No such file or directory)")
