"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.config.presets import load_pretraining
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.evaluation.closed_loop import EvaluationConfig

ONE = ["evaluate", "--driver", "blind", "--episodes", "1", "--json"]


def test_json_goes_into_a_folder_that_is_made_first(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "result.json"
    assert CliRunner().invoke(adawm, [*ONE, str(file)]).exit_code == 0
    assert file.is_file()


def test_json_that_cannot_be_written_is_refused_before_the_run() -> None:
    result = CliRunner().invoke(adawm, [*ONE, "/proc/nowhere/result.json"])
    assert result.exit_code == 2
    assert "folder /proc/nowhere cannot be made" in result.output
    assert "closed-loop evaluation" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["collect", "--seed", 26 * "9"],
        ["collect", "--round", 26 * "9"],
        ["evaluate", "--episodes", "1000001"],
        ["evaluate", "--seed", str(2**31)],
        ["adapt", "--seed", str(2**31)],
        ["faults", "--seed", str(2**31)],
        ["story", "--seed", str(2**31)],
    ],
)
def test_numbers_beyond_their_range_are_refused_with_it(words: list[str]) -> None:
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 2 and f"'{words[1]}'" in result.output and "not in the range" in result.output


@pytest.mark.parametrize("command", ["story", "faults"])
def test_the_last_seed_of_a_run_is_told_before_it_begins(command: str) -> None:
    result = CliRunner().invoke(adawm, [command, "--seed", str(2**31 - 1)])
    assert result.exit_code == 2 and "Invalid value for '--seed': seed 2147483647 with " in result.output
    assert "highest is 2147483647" in result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "--provider", "foo"], "'foo' is not one of 'auto'"),
        (["drive", "--provider", "foo"], "'foo' is not one of 'auto'"),
        (["evaluate", "--adapter", "."], "give --trust with the signer's .pub, or --allow-unsigned"),
        (["faults", "--fault", "nosuch"], "Invalid value for '--fault': no fault 'nosuch'"),
        (["evaluate", "--model-dir", "/nonexist"], "'/nonexist' does not exist"),
        (["evaluate", "--compare", "/nonexist.json"], "'/nonexist.json' does not exist"),
        (["adapt", "--config", "/nonexist"], "'/nonexist' does not exist"),
        (["baseline", "--cache", "/proc/foo"], "/proc/foo"),
    ],
)
def test_what_is_refused_while_the_call_is_read_is_status_2(words: list[str], told: str) -> None:
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 2 and told in result.output, result.output


@pytest.mark.parametrize("command", ["evaluate", "drive"])
def test_driving_for_a_score_begins_where_nothing_was_trained(command: str) -> None:
    loaded = adawm.get_command(click.Context(adawm), command)
    assert loaded is not None
    default = {each.name: each.default for each in loaded.params}["seed"]
    assert default == EVALUATION_SEED == EvaluationConfig("right_turn_moderate").seed
    collection = load_pretraining().collection
    assert default >= max(*collection.train_seeds, *collection.validation_seeds)


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "1e400"])
@pytest.mark.parametrize(
    "words",
    [
        ["faults", "--speed"],
        ["doctor", "--seconds"],
        ["benchmark", "picture", "--time"],
        ["benchmark", "soak", "--minutes"],
        ["benchmark", "soak", "--warm-up"],
        ["benchmark", "soak", "--every"],
        ["benchmark", "swap", "--tick-ms"],
        ["benchmark", "throughput", "--seconds"],
    ],
)
def test_what_is_no_finite_number_is_in_no_range(words: list[str], value: str) -> None:
    result = CliRunner().invoke(adawm, [*words, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{words[-1]}': " in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["baseline", "--rollouts-only", "--json", "{}/new.json"], "--rollouts-only measures nothing"),
        (["evaluate", "--trust", "{}"], "give --adapter DIR as well"),
        (["evaluate", "--allow-unsigned"], "give --adapter DIR as well"),
        (["export", "--agent", "{}", "--output", "{}/new", "--scores", "{}/scores.json"], "give --run as well"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words: list[str], told: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("")
    result = CliRunner().invoke(adawm, [word.format(tmp_path) for word in words])
    assert result.exit_code == 2 and told in result.output
    assert [each.name for each in tmp_path.iterdir()] == ["scores.json"]
