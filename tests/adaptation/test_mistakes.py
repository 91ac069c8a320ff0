"""What a user can get wrong is told in one line that names the thing, its value, and what to do."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from adawm_planner.adaptation.harness import measured_with
from adawm_planner.adaptation.mismatch import measure_baseline
from adawm_planner.adaptation.scores import BASELINE_FILE, Tally, write_baseline
from adawm_planner.adaptation.source_file import source_file
from adawm_planner.cli.main import adawm
from adawm_planner.config.adaptation import ADAPTATION_FILE, AdaptationConfig
from adawm_planner.policy.agent import Agent, load_agent
from adawm_planner.pretraining.dataset import save_chunk
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.runtime.model_files import WEIGHTS_FILE, digest
from adawm_planner.simulator.tasks import TASKS_DIR
from tests.adaptation.conftest import random_episodes

Mistake = Callable[..., str]


@pytest.fixture(scope="session")
def measured_once(exported: Path, config: AdaptationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a baseline and a cache of source rollouts, all from random episodes."""
    folder = tmp_path_factory.mktemp("measured")
    model = Path(shutil.copytree(exported / "model", folder / "model"))
    agent, name, episodes = load_agent(model), digest(model), random_episodes(8, 1)
    replay = Replay(agent.world_model.encoder, episodes, config.fit.discount)
    origin = {"settings": measured_with(config)}
    write_baseline(model / BASELINE_FILE, measure_baseline(agent, replay, Tally(0, 8), config, name, origin))
    save_chunk(source_file(name, config, folder / "data/adaptation"), episodes, {"outcomes": ["success"] * 8})
    return folder


@pytest.fixture
def measured(measured_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the working directory, to be spoilt."""
    monkeypatch.chdir(shutil.copytree(measured_once, tmp_path, dirs_exist_ok=True))
    return tmp_path / "model"


@pytest.fixture
def mistake(measured: Path) -> Mistake:
    """Call a command that has to fail; return its last line."""

    def call(*words: str, model: Path = measured) -> str:
        result = CliRunner().invoke(adawm, [*words, "--preset", "debug", "--model-dir", str(model)])
        assert isinstance(result.exception, SystemExit) and result.exit_code in (1, 2), result.output
        error = result.output[result.output.index("Error: ") :]
        assert error.count("\n") == 1, error
        return error

    return call


def edited(name: str, value: Any) -> str:
    """A copy of the packaged configuration with one value, by dotted name, changed in it and in its debug preset."""
    content = yaml.safe_load(ADAPTATION_FILE.read_text())
    *path, leaf = name.split(".")
    for section in (content, content["presets"]["debug"]):
        for key in path:
            section = section.setdefault(key, {})
        section[leaf] = value
    Path("edited.yaml").write_text(yaml.safe_dump(content))
    return "edited.yaml"


def test_unknown_task_and_vehicle_before_anything_is_driven(mistake: Mistake) -> None:
    assert "task 'nowhere' is neither a file nor built in; built in are" in mistake("adapt", "--task", "nowhere")
    assert "vehicle 'flying' is neither a file nor built in" in mistake("adapt", "--vehicle", "flying")
    assert "task 'x'" in mistake("benchmark", "table", "--shift", "x:nominal")
    assert "'x' is not TASK:VEHICLE" in mistake("benchmark", "table", "--shift", "x")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("entry", "value", "said"), [("map", "nowhere", "does not exist"), ("route", ["south_in", "moon"], "no connection")]
)
def test_a_task_that_does_not_fit_its_net_before_anything_is_driven(
    mistake: Mistake, entry: str, value: Any, said: str
) -> None:
    task = yaml.safe_load((TASKS_DIR / "right_turn_moderate.yaml").read_text())
    (task if entry in task else task["ego"])[entry] = value
    Path("mine.yaml").write_text(yaml.safe_dump(task))
    assert said in mistake("adapt", "--task", "mine.yaml")
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", [("adapt",), ("benchmark", "table"), ("benchmark", "identify")])
def test_baselines(mistake: Mistake, measured: Path, command: tuple[str, ...], agent: Agent) -> None:
    without = measured.with_name("without")
    shutil.copytree(measured, without)
    (without / BASELINE_FILE).unlink()
    assert f"run `adawm baseline --model-dir {without}`" in mistake(*command, model=without)
    other = measured.with_name("other")
    shutil.copytree(measured, other)
    (other / "planner.onnx").write_bytes(b"another model")
    assert "made for another model" in mistake(*command, model=other)
    folds = edited("mismatch.folds", 7)
    wrong = mistake(*command, "--config", folds)
    assert f"this run has 7; copy {measured}, run `adawm baseline --model-dir COPY` with this run's --preset" in wrong


def test_more_steps_than_anybody_drives(mistake: Mistake) -> None:
    assert "is not in the range 1<=x<=1000000000" in mistake("adapt", "--steps", "1" + "0" * 300)


def test_models(mistake: Mistake, measured: Path) -> None:
    assert "Directory 'nothing' does not exist" in mistake("adapt", model=Path("nothing"))
    (measured / WEIGHTS_FILE).write_bytes((measured / WEIGHTS_FILE).read_bytes()[:1000])
    assert "weights.safetensors: weights do not fit config.yaml" in mistake("adapt")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fit.dynamics_rate", float("nan"), "dynamics_rate is nan, must be a finite number"),
        ("fit.entropy", float("inf"), "entropy is inf, must be a finite number"),
        ("rollouts.train_seeds", [0, "abc"], "train_seeds[1] is 'abc', must be of type int"),
        ("rollouts.train_seeds", [0], "train_seeds is [0], must be a list of 2 values"),
        ("rollouts.source_seeds", [3999, 4999], "[3999, 4999), must not overlap rollouts.train_seeds, [0, 4000)"),
        ("fit.batch", 16.5, "batch is 16.5, must be of type int"),
        ("mismatch.burn_in", 100000, "mismatch.burn_in is 100000, must be at most 59: two episodes among the 120"),
        ("fit.length", 100000, "fit.length is 100000, must be at most rollouts.source_decisions, 200"),
        ("lora.alpha", 10**400, "must be at most 2048, 1024 times the rank"),
        ("trial.episodes", 4001, "trial.episodes is 4001, must be at most 4000, as many as there are seeds"),
        ("scoring.seed", 100, "scoring.seed is 100, must be at least 5000"),
        ("scoring.curve_seed", 100, "scoring.curve_seed is 100, must be at least 4000"),
        ("subunits.radius", 0.0, "subunits.radius is 0.0, must be above 0"),
        ("lora.targets", ["rssm.input"], "no Linear layer is called 'rssm.input', there are"),
        ("fit.speed", 1.0, "unknown entry 'speed'"),
    ],
)
def test_configurations(mistake: Mistake, name: str, value: Any, said: str) -> None:
    assert said in mistake("adapt", "--config", edited(name, value))
    assert not Path("runs").exists()


def test_a_file_that_is_no_yaml(mistake: Mistake) -> None:
    Path("edited.yaml").write_text("threads: [")
    assert "edited.yaml: cannot be read as YAML" in mistake("adapt", "--config", "edited.yaml")


def test_a_damaged_cache(mistake: Mistake, measured: Path, config: AdaptationConfig) -> None:
    path = source_file(digest(measured), config, Path("data/adaptation"))
    path.write_bytes(path.read_bytes()[:2000])
    assert "not a chunk of driving data (File is not a zip file); remove it, then" in mistake("adapt", "--run", "one")
    assert "its seed is 0 and not 1; choose another --run or remove" in mistake("adapt", "--run", "one", "--seed", "1")


def test_a_run_in_two_processes(mistake: Mistake, measured: Path) -> None:
    Path("one").mkdir()
    with Path("one/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "one: another process works on this run" in mistake("adapt", "--run", "one")


@pytest.mark.parametrize("sizes", ["a", "2,", "1", "-3"])
def test_sizes_of_trials(mistake: Mistake, sizes: str) -> None:
    assert f"'--sizes': '{sizes}' must be whole numbers of at least 2" in mistake(
        "benchmark", "identify", "--sizes", sizes
    )
