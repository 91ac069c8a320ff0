"""Task, vehicle and strategy in, the document "adawm.adaptation/1" out.

Source data, evaluation and the budget of decisions and updates are the same for every strategy; `strategies` says what
is not. Everything a round made is on disk when the next one begins, so that a killed run, called again, goes on where
it was and ends with the same result.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import yaml

from adawm_planner.adaptation.adapt_step import Past, Round, Setting, Step, adapt_step
from adawm_planner.adaptation.fit import at_round
from adawm_planner.adaptation.mismatch import measure_baseline
from adawm_planner.adaptation.rollouts import Place, Rollouts, check_place, drive, evaluate, source_rollouts, stored
from adawm_planner.adaptation.scores import BASELINE_FILE, Baseline, Tally, read_baseline, write_baseline
from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.source_file import source_file
from adawm_planner.adaptation.strategies import strategy_of
from adawm_planner.adaptation.student import Student, factor_tensors
from adawm_planner.adaptation.trial import sequential_halving, students_of
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.config.mapping import to_mapping
from adawm_planner.config.yaml_file import read_mapping
from adawm_planner.dims import FRAMES_PER_DECISION
from adawm_planner.durable import replace_json
from adawm_planner.evaluation.report import MEASURES, to_document
from adawm_planner.place_key import own_net, place_key
from adawm_planner.policy.agent import Agent, load_agent, write_weights
from adawm_planner.pretraining.fit import Run, lock_run
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.result_file import write_text
from adawm_planner.runtime.export import adaptable_layers
from adawm_planner.runtime.model_files import digest

SCHEMA = "adawm.adaptation/1"
ADAPTER_FILE = "adapter_factors.safetensors"

NOT_COMPARED = {"estimator", "dynamics_evidence", "policy_evidence", "states"}
"""Fields of MismatchConfig that change no score, only which of them is looked at or how precisely."""


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    task: str
    vehicle: str
    strategy: str
    seed: int

    def __post_init__(self) -> None:
        strategy_of(self.strategy)

    @property
    def name(self) -> str:
        """Fit for a folder; a task or vehicle given by path keeps its file name."""
        return "-".join([Path(self.task).stem, Path(self.vehicle).stem, self.strategy, str(self.seed)])


class Adaptation:
    """One run."""

    def __init__(self, cell: Cell, config: AdaptationConfig, model_dir: Path, cache: Path, folder: Path) -> None:
        """Load the base model and its baseline, and take the folder until `execute` ends.

        Args:
            cell: what to run.
            config: how.
            model_dir: the base model with its mismatch baseline.
            cache: where source rollouts are kept between runs.
            folder: of this run.

        Raises:
            ValueError: a file does not fit, `folder` holds a run of another configuration, or another process is
                working on it.
        """
        self.cell, self.config, self.folder, self.strategy = cell, config, folder, strategy_of(cell.strategy)
        torch.set_num_threads(config.threads)
        check_place(cell.task, cell.vehicle)
        check_place(config.rollouts.source_task, config.rollouts.source_vehicle)
        self.base, self.digest = load_agent(model_dir), digest(model_dir)
        self.baseline = baseline_of(model_dir, self.digest, config)
        self.student = Student(self.base, config, self.strategy.low_rank, cell.seed)
        # Only now, because a folder must not be taken by a run that cannot begin.
        self._claim = _claim(folder, settings_of(cell, self.digest, config))
        self.run = Run(folder, cell.seed, config.threads, 1)
        self.encoder = self.student.agent.world_model.encoder
        self.cache = cache
        self.rounds: list[dict[str, Any]] = []
        self.outcomes: list[str] = []  # of all rounds but these:
        self.unrepaired: list[Rollouts] = []  # of the newest rounds, since something was repaired

    def execute(self) -> dict[str, Any]:
        """Run to the end, give the folder back, and return the document."""
        with self._claim:
            return self._execute()

    def _execute(self) -> dict[str, Any]:
        rollouts = source_of(self.base, self.digest, self.config, self.cache, self.run)
        self.source = Replay(self.encoder, rollouts.episodes, self.config.fit.discount)
        self.replay = Replay(self.encoder, self.source.episodes, self.config.fit.discount)
        with Place(self.cell.task, self.cell.vehicle) as place:
            before = self._scored("before", place, self.config.scoring.seed, self.config.scoring.episodes)
            self._curve(place, 0)
            for index in range(1, self.config.rounds + 1):
                self._round(place, index)
                if index % self.config.scoring.curve_every == 0 or index == self.config.rounds:
                    self._curve(place, index)
            trial = self._keep_best(place)
            after = self._scored("after", place, self.config.scoring.seed, self.config.scoring.episodes)
        with Place(self.config.rollouts.source_task, self.config.rollouts.source_vehicle) as place:
            source = self._scored("source_after", place, self.config.scoring.seed, self.config.scoring.episodes)
        return self._document(before, trial, after, source)

    def _round(self, place: Place, index: int) -> None:
        """One round, or what is on disk of it."""
        record, state = self.folder / f"round-{index:02d}.json", self._state(index)
        seed = 1000 * self.cell.seed + index
        rollouts = self._rollouts(place, index, seed)
        if record.exists():
            self.student.load(state)
            self.replay.add(rollouts.episodes)
            if not self.strategy.low_rank:
                self.replay.embed_again()
                if self.config.mismatch.estimator == "visitation":  # as in `adapt_step`
                    self.source.embed_again()
            self._keep(_read(record), rollouts)
            return
        begun = time.monotonic()
        with self.run.progress(f"adapt {index}", self.config.fit.updates) as show:
            setting = Setting(self.strategy, self.source, self.baseline, at_round(self.config, index))
            past = Past(self._last(), self.unrepaired, self.outcomes)
            done = adapt_step(index, self.student, rollouts, self.replay, setting, past, seed, show)
        self.student.save(state)
        steps = sum(each["decisions"] for each in self.rounds) + len(rollouts.episodes)
        seconds = rollouts.seconds + time.monotonic() - begun
        values = round_document(done, steps) | {"seconds_driving": rollouts.seconds, "seconds": seconds}
        replace_json(record, values)
        self._keep(values, rollouts)
        self._log(values)

    def _keep(self, values: dict[str, Any], rollouts: Rollouts) -> None:
        """Remember a round that is over."""
        self.rounds.append(values)
        self.unrepaired.append(rollouts)
        if values["updated"]:
            self.outcomes += [outcome for one in self.unrepaired for outcome in one.outcomes]
            self.unrepaired = []

    def _rollouts(self, place: Place, index: int, seed: int) -> Rollouts:
        """What the student as it is drives in this round, or drove before the run was killed."""
        config, path = self.config.rollouts, self.folder / f"rollouts-{index:02d}.npz"
        with self.run.progress(f"drive {index}", config.decisions) as show:
            agent = self.student.merged()
            rollouts = stored(
                path, lambda: drive(place, agent, config.decisions, config.sampled, config.train_seeds, seed, show)
            )
            show(len(rollouts.episodes), "")
        return rollouts

    def _last(self) -> Part:
        """What was repaired first in the round before."""
        if not self.rounds:
            return Part.NOTHING
        step = self.rounds[-1]["steps"][0]
        return Part(step["selected"]) if step["selected"] in step["updated"] else Part.NOTHING

    def _log(self, values: dict[str, Any]) -> None:
        scores = {name: score["value"] for name, score in values["steps"][0]["mismatch"]["scores"].items()}
        self.run.log("mismatch", scores, values["env_steps"])
        self.run.log("rollouts", {"success": values["rollout_success"]}, values["env_steps"])

    def _state(self, index: int) -> Path:
        """File of the student after a round."""
        return self.folder / f"round-{index:02d}.safetensors"

    def _keep_best(self, place: Place) -> dict[str, Any]:
        """End with the student that drives best in a trial; what of it was driven."""
        budget, (low, high) = self.config.trial.episodes, self.config.rollouts.train_seeds
        students, steps = students_of(self.rounds), list[int]()
        most = max(budget, len(students))  # each of its fewer phases drives one episode at least
        seed = low + int(np.random.default_rng([self.cell.seed, 37]).integers(max(high - low - most, 0) + 1))

        def drive(student: int, first: int, count: int) -> Tally:
            self.student.load(self._state(student))
            driven = self._scored(f"trial-{student:02d}-{first:03d}", place, seed + first, count)
            steps.append(_decisions(driven))
            return Tally(count - round(driven["success_rate"] * count), count)

        tried = sequential_halving(students, budget, drive) if len(students) > 1 else students
        if tried:
            self.student.load(self._state(tried[-1].round))
        return {
            "first_seed": seed,
            "students": [each.to_json() for each in sorted(tried, key=lambda each: each.round)],
            "env_steps": sum(steps),
            "chosen": tried[-1].round if tried else 0,
        }

    def _curve(self, place: Place, index: int) -> None:
        scoring = self.config.scoring
        self._scored(f"curve-{index:02d}", place, scoring.curve_seed, scoring.curve_episodes)

    def _scored(self, name: str, place: Place, seed: int, episodes: int) -> dict[str, Any]:
        """Evaluation of the student as it is now, kept on disk under its name.

        The same agent at the same place is evaluated once for all runs of a cache: before adaptation all are equal.
        """
        path = self.folder / f"evaluation-{name}.json"
        if not path.exists():
            agent = self.student.merged()
            agent_digest = _digest_of(agent)
            shared = evaluation_file(self.cache, agent_digest, place, seed, episodes)
            if not shared.exists():
                with self.run.progress(name, episodes) as show:
                    result = evaluate(place, agent, agent_digest, seed, episodes, show)
                shared.parent.mkdir(parents=True, exist_ok=True)
                replace_json(shared, to_document(result))
            replace_json(path, _read(shared))
        return _read(path)

    def _document(
        self, before: dict[str, Any], trial: dict[str, Any], after: dict[str, Any], source: dict[str, Any]
    ) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            **asdict(self.cell),
            "model_digest": self.digest,
            "config": to_mapping(self.config),
            "before": before,
            "trial": trial,
            "after": after,
            "source_after": source,
            "curve": self._curve_points(),
            "rounds": self.rounds,
            "env_steps": sum(each["decisions"] for each in self.rounds),
            "updates": sum(fit["updates"] for each in self.rounds for step in each["steps"] for fit in step["fits"]),
            "adapter": self._write_adapter(),
            "wall_s": sum(each["seconds"] for each in self.rounds),
        }
        replace_json(self.folder / "adaptation.json", document)
        return document

    def _curve_points(self) -> list[dict[str, Any]]:
        points = []
        paths = {int(path.stem.rpartition("-")[2]): path for path in self.folder.glob("evaluation-curve-*.json")}
        for index, path in sorted(paths.items()):  # by number: as names, 100 comes before 96
            values = _read(path)
            steps = sum(each["decisions"] for each in self.rounds[:index])
            kept = {key: values[key] for key in ("success_rate", "collision_rate", "timeout_rate", "episodes")}
            points.append({"env_steps": steps, "round": index, **kept})
        return points

    def _write_adapter(self) -> str | None:
        """File of the factors that the runtime's graph takes, None for a full update.

        The heads' factors stay behind: no decision reads the heads.
        """
        if not self.strategy.low_rank:
            return None
        path = self.folder / ADAPTER_FILE
        known = adaptable_layers(self.base)
        kept = {name: pair for name, pair in self.student.factors().items() if name in known}
        write_weights(path, factor_tensors(kept), {"base": self.digest})
        return path.name


def round_document(done: Round, env_steps: int) -> dict[str, Any]:
    """What a round saw, decided and did, as plain values; its scores are those of its first step."""
    steps = [step_document(step) for step in done.steps]
    return {
        "round": done.index,
        "env_steps": env_steps,
        "decisions": len(done.rollouts.episodes),
        "episodes": len(done.rollouts.outcomes),
        "rollout_success": done.rollouts.success,
        "dynamics_mismatch": steps[0]["dynamics_mismatch"],
        "policy_mismatch": steps[0]["policy_mismatch"],
        "failures": done.failures.to_json(),
        "updated": [part for step in steps for part in step["updated"]],
        "steps": steps,
    }


def step_document(step: Step) -> dict[str, Any]:
    """One step of a round as plain values."""
    return {
        "dynamics_mismatch": step.mismatch.dynamics.value,
        "policy_mismatch": step.mismatch.policy.value,
        "selected": step.selection.part.value,
        "reason": step.selection.reason,
        "updated": [fit.part for fit in step.fits],
        "fits": [asdict(fit) for fit in step.fits],
        "mismatch": step.mismatch.to_json(),
    }


def source_of(base: Agent, name: str, config: AdaptationConfig, cache: Path, run: Run) -> Rollouts:
    """Source rollouts of the base model, driven once per model and configuration."""
    with run.progress("source", config.rollouts.source_decisions) as show:
        rollouts = source_rollouts(base, config.rollouts, source_file(name, config, cache), show)
        show(len(rollouts.episodes), "")
    return rollouts


def make_source(model_dir: Path, config: AdaptationConfig, cache: Path, run: Run) -> None:
    """Drive the source rollouts of a model, unless they are there. Raises ValueError for a damaged file."""
    torch.set_num_threads(config.threads)
    source_of(load_agent(model_dir), digest(model_dir), config, cache, run)


def evaluation_file(cache: Path, agent: str, place: Place, seed: int, episodes: int) -> Path:
    """Where the evaluation of an agent (its digest) at a place is kept, with the figures as they are defined now.

    Task and vehicle count with all their values, and the task's net with its content where it is not a built-in one.
    """
    world = place.rig.env.world
    net = own_net(world.task.folder, world.task.map)
    key = hashlib.sha256(f"{agent}{world.task}{world.vehicle}{seed} {episodes} {MEASURES}{net}".encode()).hexdigest()
    return cache / "evaluations" / f"{key[:24]}.json"


def baseline_of(model_dir: Path, name: str, config: AdaptationConfig) -> Baseline:
    """Mismatch baseline of a model (its digest). Raises ValueError when it does not fit the model or `config`."""
    baseline = read_baseline(model_dir / BASELINE_FILE, name)
    measured, wanted = baseline.source.get("settings", {}), measured_with(config)
    for key in sorted(wanted):
        if measured.get(key) != wanted[key]:
            raise ValueError(
                f"{model_dir / BASELINE_FILE}: measured with {key} {measured.get(key)}, this run has "
                f"{wanted[key]}; copy {model_dir}, run `adawm baseline --model-dir COPY` with this run's --preset and "
                "--config, and use the copy: a baseline is overwritten"
            )
    return baseline


def measured_with(config: AdaptationConfig) -> dict[str, Any]:
    """Every setting that the scores of a baseline depend on, by its name in the configuration.

    Raises ValueError as `place_key`.
    """
    mismatch = {key: value for key, value in to_mapping(config.mismatch).items() if key not in NOT_COMPARED}
    return {
        **{f"mismatch.{key}": value for key, value in mismatch.items()},
        "fit.discount": config.fit.discount,
        "fit.trace": config.fit.trace,
        "rollouts.sampled": config.rollouts.sampled,
        "rollouts.source_task": place_key(config.rollouts.source_task),
        "rollouts.source_vehicle": place_key(config.rollouts.source_vehicle),
    }


def make_baseline(model_dir: Path, config: AdaptationConfig, cache: Path, run: Run) -> Baseline:
    """Measure and write the mismatch baseline of a model."""
    torch.set_num_threads(config.threads)
    base, name = load_agent(model_dir), digest(model_dir)
    rollouts = source_of(base, name, config, cache, run)
    origin = {
        "task": config.rollouts.source_task,
        "vehicle": config.rollouts.source_vehicle,
        "seeds": list(config.rollouts.source_seeds),
        "decisions": len(rollouts.episodes),
        "settings": measured_with(config),
    }
    torch.manual_seed(0)
    replay = Replay(base.world_model.encoder, rollouts.episodes, config.fit.discount)
    baseline = measure_baseline(base, replay, Tally.of(rollouts.outcomes), config, name, origin)
    write_baseline(model_dir / BASELINE_FILE, baseline)
    return baseline


def settings_of(cell: Cell, model: str, config: AdaptationConfig) -> dict[str, Any]:
    """What a run on a model (its digest) is started with; tasks and vehicles of one's own count with their content."""
    values = {**asdict(cell), "model": model, **to_mapping(config)}
    values |= {key: place_key(values[key]) for key in ("task", "vehicle")}
    rollouts = values["rollouts"]
    values["rollouts"] = rollouts | {key: place_key(rollouts[key]) for key in ("source_task", "source_vehicle")}
    return values


def _claim(folder: Path, settings: dict[str, Any]) -> TextIO:
    """Keep the settings with the run and lock its folder until the returned file is closed.

    A run is never continued with other settings, nor by two processes at a time.
    """
    path, lock = folder / "run.yaml", lock_run(folder)
    if path.exists():
        difference = first_difference(read_mapping(path), settings)
        if difference:
            raise ValueError(f"{folder}: holds another run, {difference}; choose another --run or remove the folder")
    else:
        write_text(path, yaml.safe_dump(settings, sort_keys=False))
    return lock


def first_difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first setting in which two runs differ, in words; None when they are the same."""
    before, now = _flat(before), _flat(now)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            return f"its {key} is {before.get(key)} and not {now.get(key)}"
    return None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _decisions(evaluation: dict[str, Any]) -> int:
    """How many decisions an evaluation drove; each episode begins with one."""
    return sum(-(-each["frames"] // FRAMES_PER_DECISION) for each in evaluation["detail"])


def _read(path: Path) -> dict[str, Any]:
    """What `_write` wrote. Raises ValueError for a damaged file."""
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); remove it, then it is made again") from error
    return values


def _digest_of(agent: Agent) -> str:
    """sha256 over all weights, hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in agent.state_dict().items():
        total.update(name.encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
