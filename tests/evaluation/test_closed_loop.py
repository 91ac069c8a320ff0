"""Closed loop in process: the seed alone decides, whoever runs it; the command reports it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from adawm_planner.cli.main import adawm
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.closed_loop import CutShort, EvaluationConfig, evaluate
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.evaluation.report import SCHEMA, Evaluation, read_json, to_document, write_evaluations
from adawm_planner.origin import checkout
from adawm_planner.simulator.tasks import TASKS_DIR
from tests.patience import HANG_S

pytest.importorskip("libsumo")

ROOT = Path(__file__).resolve().parents[2]
TASK = "right_turn_moderate"


def test_results_do_not_depend_on_the_number_of_workers_or_on_what_ran_before() -> None:
    alone = evaluate(EvaluationConfig(TASK, driver="blind", episodes=1, seed=5003))
    here = evaluate(EvaluationConfig(TASK, driver="blind", episodes=4, seed=5000))
    spread = evaluate(EvaluationConfig(TASK, driver="blind", episodes=4, seed=5000, workers=2))
    assert [episode.seed for episode in here.episodes] == [5000, 5001, 5002, 5003]
    assert here.episodes == spread.episodes
    assert here.episodes[3] == alone.episodes[0]


def test_outcomes_and_their_measures_agree() -> None:
    evaluation = evaluate(EvaluationConfig(TASK, driver="blind", episodes=6, seed=5000))
    for episode in evaluation.episodes:
        assert episode.duration_s == round(0.05 * episode.frames, 6)
        assert (episode.collision_id is not None) == (episode.outcome is Outcome.COLLISION)
        assert (episode.route_completion == 1.0) == (episode.outcome is Outcome.SUCCESS)
    assert {episode.outcome for episode in evaluation.episodes} == {Outcome.SUCCESS, Outcome.COLLISION}


def test_every_episode_is_announced() -> None:
    seen: list[int] = []
    evaluate(EvaluationConfig(TASK, driver="random", episodes=2, seed=11), lambda episode: seen.append(episode.seed))
    assert seen == [11, 12]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"driver": "clever"}, "driver 'clever'"), ({"episodes": 0}, "episodes is 0"), ({"workers": 0}, "workers is 0")],
)
def test_nonsense_is_refused_by_name(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EvaluationConfig(**{"task": TASK, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["evaluate", "drive"])
@pytest.mark.parametrize(
    ("seed", "episodes", "status", "words"),
    [
        ("2147483648", "1", 2, "'--seed': 2147483648 is not in the range 0<=x<=2147483647"),
        ("2147483647", "2", 2, "seed 2147483647 with 2 episodes ends at 2147483648, highest is 2147483647"),
    ],
)
def test_seeds_beyond_the_simulators_are_refused_before_the_drive(
    command: str, seed: str, episodes: str, status: int, words: str
) -> None:
    result = CliRunner().invoke(adawm, [command, "--seed", seed, "--episodes", episodes])
    assert result.exit_code == status and words in result.output


def test_the_highest_seed_drives() -> None:
    evaluation = evaluate(EvaluationConfig(TASK, driver="blind", seed=2**31 - 1))
    assert [episode.seed for episode in evaluation.episodes] == [2**31 - 1]


def test_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["evaluate", "--driver", "blind", "--episodes", "2", "--seed", "5000"]
    result = CliRunner().invoke(adawm, [*words, "--driver", "expert", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "blind, nominal" in result.output and "expert, nominal" in result.output
    documents = read_json(file)
    assert [document["driver"] for document in documents] == ["blind", "expert"]
    for document in documents:
        assert document["schema"] == SCHEMA and document["commit"] == checkout()["commit"]
        assert document["command"][0] == "adawm" and document["machine"]["cores"] and document["packages"]["libsumo"]
    again = CliRunner().invoke(adawm, [*words, "--compare", str(file)])
    assert "same outcome for 2 of 2 seeds" in again.output


def test_a_comparison_without_a_common_seed_is_refused_before_the_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "earlier.json"
    write_evaluations(file, [to_document(evaluate(EvaluationConfig(TASK, driver="blind", episodes=2, seed=11)))])
    monkeypatch.setattr("adawm_planner.cli.evaluate.with_progress", lambda config: pytest.fail("it drives"))
    words = ["evaluate", "--driver", "blind", "--episodes", "2", "--compare", str(file)]
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 1 and len(result.output.splitlines()) == 1
    assert "seeds 5000 to 5001" in result.output and "give --seed 11" in result.output


def test_what_cannot_be_compared_after_an_interruption_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, file = tmp_path / "earlier.json", tmp_path / "result.json"
    write_evaluations(earlier, [to_document(evaluate(EvaluationConfig(TASK, driver="blind", seed=12)))])
    monkeypatch.setattr(
        "adawm_planner.cli.evaluate.with_progress",
        lambda config: replace(evaluate(replace(config, episodes=1)), requested=config.episodes),
    )
    words = ["evaluate", "--driver", "blind", "--episodes", "2", "--seed", "11", "--compare", str(earlier)]
    result = CliRunner().invoke(adawm, [*words, "--json", str(file)])
    assert result.exit_code == 130 and "is not compared: the two runs" in result.output
    assert [episode["seed"] for episode in read_json(file)[0]["detail"]] == [11]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--task", "fly_to_moon"], "fly_to_moon"), (["--vehicle", "tank"], "tank"), (["--episodes", "0"], "--episodes")],
)
def test_mistakes_are_one_clear_line(words: list[str], message: str) -> None:
    result = CliRunner().invoke(adawm, ["evaluate", "--driver", "blind", *words])
    assert result.exit_code != 0
    assert message in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("words", [["--task", "fly_to_moon"], ["--driver", "world_model", "--model-dir"]])
def test_a_mistake_in_the_last_of_several_is_told_before_the_first_is_driven(words: list[str], tmp_path: Path) -> None:
    words = [*words, str(tmp_path)] if words[-1] == "--model-dir" else words
    result = CliRunner().invoke(adawm, ["evaluate", "--task", TASK, "--driver", "blind", "--episodes", "1", *words])
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1 and result.output.startswith("Error: ")


def test_what_was_driven_before_an_error_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies_later(config: EvaluationConfig) -> Evaluation:
        if config.driver == "random":
            raise ValueError("a worker process ended abruptly")
        return evaluate(config)

    monkeypatch.setattr("adawm_planner.cli.evaluate.with_progress", dies_later)
    file = tmp_path / "result.json"
    words = ["evaluate", "--driver", "blind", "--driver", "random", "--episodes", "1", "--json", str(file)]
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 1 and result.output.endswith("Error: a worker process ended abruptly\n")
    assert [document["driver"] for document in read_json(file)] == ["blind"]


def test_episodes_before_an_error_are_reported_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import libsumo

    step = libsumo.simulationStep

    def fails_in_the_second(episode: EpisodeResult) -> None:
        def failing() -> None:
            raise libsumo.FatalTraCIError("Departure speed for vehicle '22' is too high.")

        monkeypatch.setattr(libsumo, "simulationStep", failing)

    config = EvaluationConfig(TASK, driver="blind", episodes=3, seed=5000)
    monkeypatch.setattr("adawm_planner.simulator.world._sumo_is_lost", False)
    with pytest.raises(CutShort, match=f"task {TASK}: SUMO cannot go on: Departure speed") as cut:
        evaluate(config, fails_in_the_second)
    assert [episode.seed for episode in cut.value.evaluation.episodes] == [5000]
    with pytest.raises(ValueError, match="start a new process"):
        evaluate(config)
    monkeypatch.setattr(libsumo, "simulationStep", step)
    monkeypatch.setattr("adawm_planner.simulator.world._sumo_is_lost", False)
    file = tmp_path / "result.json"
    monkeypatch.setattr(
        "adawm_planner.cli.evaluate.with_progress", lambda config: evaluate(config, fails_in_the_second)
    )
    words = ["evaluate", "--driver", "blind", "--episodes", "3", "--seed", "5000", "--json", str(file)]
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 1 and "blind, nominal" in result.output
    assert result.output.splitlines()[-1].startswith(f"Error: task {TASK}: SUMO cannot go on: Departure speed")
    (document,) = read_json(file)
    assert [each["seed"] for each in document["detail"]] == [5000] and document["episodes_requested"] == 3


def test_a_console_that_fails_leaves_the_json_with_its_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    earlier, file = tmp_path / "earlier.json", tmp_path / "result.json"
    evaluation = evaluate(EvaluationConfig(TASK, driver="blind", seed=5000))
    write_evaluations(earlier, [to_document(evaluation)])
    monkeypatch.setattr("adawm_planner.cli.evaluate.with_progress", lambda config: evaluation)
    monkeypatch.setattr(Console, "print", full)
    words = ["evaluate", "--driver", "blind", "--episodes", "1", "--compare", str(earlier), "--json", str(file)]
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 1 and "No space left" in result.output
    assert read_json(file)[0]["comparison"]["seeds"] == 1


def test_a_name_with_brackets_is_shown_as_it_is(tmp_path: Path) -> None:
    content = yaml.safe_load((TASKS_DIR / f"{TASK}.yaml").read_text())
    task, file = tmp_path / "my [bold] turn.yaml", tmp_path / "result.json"
    task.write_text(yaml.safe_dump({**content, "name": "my turn [/v2]"}))
    words = ["evaluate", "--driver", "blind", "--episodes", "1", "--seed", "5000", "--gate", "--task", str(task)]
    first = CliRunner().invoke(adawm, [*words, "--json", str(file)])
    again = CliRunner().invoke(adawm, [*words, "--compare", str(file)])
    assert first.exit_code == again.exit_code == 0, first.output + again.output
    assert "my turn [/v2]" in first.output
    assert "my [bold] turn.yaml" in first.stderr.replace("\n", "")
    assert "my turn [/v2]: same outcome for 1 of 1 seeds" in again.output


def heed_ctrl_c() -> None:
    """A shell starts what runs in its background, these tests too, with SIGINT ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_reports_what_is_finished_and_leaves_no_process(workers: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["evaluate", "--driver", "blind", "--episodes", "100000", "--workers", workers, "--json", str(file)]
    command = [sys.executable, "-m", "adawm_planner.cli.main", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, start_new_session=True, preexec_fn=heed_ctrl_c
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if b"success" in line:  # the first episode is finished
                break
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        run.communicate(timeout=HANG_S)
    assert run.returncode == 130
    document = json.loads(file.read_text())
    assert 0 < document["episodes"] < document["episodes_requested"] == 100000
    with pytest.raises(ProcessLookupError):
        for _ in range(200):  # multiprocessing's resource tracker ends a moment after its parent
            os.killpg(run.pid, 0)
            time.sleep(0.05)
