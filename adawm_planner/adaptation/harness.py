"""Task, vehicle and strategy in, the document "adawm.adaptation/1" out.

The same data, updates and evaluation for every strategy. Everything a round made is on disk when the next one begins,
so that a killed run, called again, goes on where it was and ends with the same result.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from adawm_planner.adaptation.adapt_step import Round, adapt_step
from adawm_planner.adaptation.mismatch import measure_baseline
from adawm_planner.adaptation.rollouts import Place, Rollouts, drive, evaluate, source_rollouts, stored
from adawm_planner.adaptation.scores import BASELINE_FILE, Baseline, read_baseline, write_baseline
from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.strategies import strategy_of
from adawm_planner.adaptation.student import Student, factor_tensors
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.config.presets import to_mapping
from adawm_planner.evaluation.report import to_document
from adawm_planner.policy.agent import Agent, load_agent, write_weights
from adawm_planner.pretraining.fit import Run
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.runtime.model_files import digest

SCHEMA = "adawm.adaptation/1"
ADAPTER_FILE = "adapter_factors.safetensors"


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
        """Load the base model, its baseline and the source rollouts.

        Args:
            cell: what to run.
            config: how.
            model_dir: the base model with its mismatch baseline.
            cache: where source rollouts are kept between runs.
            folder: of this run.

        Raises:
            ValueError: a file does not fit, or `folder` holds a run of another configuration.
        """
        self.cell, self.config, self.folder, self.strategy = cell, config, folder, strategy_of(cell.strategy)
        torch.set_num_threads(config.threads)
        _claim(folder, cell, config)
        self.digest = digest(model_dir)
        self.base = load_agent(model_dir)
        self.baseline = read_baseline(model_dir / BASELINE_FILE, self.digest)
        self.run = Run(folder, cell.seed, config.threads, 1)
        self.student = Student(self.base, config, self.strategy.low_rank, cell.seed)
        self.encoder = self.student.agent.world_model.encoder
        discount = config.fit.discount
        rollouts = source_of(self.base, self.digest, config, cache, self.run)
        self.source = Replay(self.encoder, rollouts.episodes, discount)
        self.replay = Replay(self.encoder, self.source.episodes, discount)
        self.rounds: list[dict[str, Any]] = []
        self.begun = time.monotonic()

    def execute(self) -> dict[str, Any]:
        """Run to the end; return the document."""
        with Place(self.cell.task, self.cell.vehicle) as place:
            before = self._scored("before", place, self.config.scoring.seed, self.config.scoring.episodes)
            self._curve(place, 0)
            for index in range(1, self.config.rounds + 1):
                self._round(place, index)
                if index % self.config.scoring.curve_every == 0 or index == self.config.rounds:
                    self._curve(place, index)
            after = self._scored("after", place, self.config.scoring.seed, self.config.scoring.episodes)
        with Place(self.config.rollouts.source_task, self.config.rollouts.source_vehicle) as place:
            source = self._scored("source_after", place, self.config.scoring.seed, self.config.scoring.episodes)
        return self._document(before, after, source)

    def _round(self, place: Place, index: int) -> None:
        """One round, or what is on disk of it."""
        record, state = (self.folder / f"round-{index:02d}.{kind}" for kind in ("json", "safetensors"))
        rollouts_file = self.folder / f"rollouts-{index:02d}.npz"
        if record.exists():
            rollouts = stored(rollouts_file, _absent)
            self.student.load(state)
            if not self.strategy.low_rank:
                self.replay.embed_again()
            self.replay.add(rollouts.episodes)
            self.rounds.append(json.loads(record.read_text()))
            return
        begun, config, seed = time.monotonic(), self.config.rollouts, 1000 * self.cell.seed + index
        with self.run.progress(f"drive {index}", config.decisions) as show:
            agent = self.student.merged()
            rollouts = stored(
                rollouts_file,
                lambda: drive(place, agent, config.decisions, config.sampled, config.train_seeds, seed, show),
            )
        driven = time.monotonic() - begun
        with self.run.progress(f"adapt {index}", self.config.fit.updates) as show:
            done = adapt_step(index, self.student, self.strategy, rollouts, self.source, self.replay, self.baseline,
                              self._last_part(), self.config, seed, show)  # fmt: skip
        self.student.save(state)
        steps = sum(each["decisions"] for each in self.rounds) + len(rollouts.episodes)
        values = round_document(done, steps) | {"seconds_driving": driven, "seconds": time.monotonic() - begun}
        _write(record, values)
        self.rounds.append(values)
        self._log(values)

    def _last_part(self) -> Part:
        return Part(self.rounds[-1]["selected"]) if self.rounds else Part.NOTHING

    def _log(self, values: dict[str, Any]) -> None:
        scores = {name: score["value"] for name, score in values["mismatch"]["scores"].items()}
        self.run.log("mismatch", scores, values["env_steps"])
        self.run.log("rollouts", {"success": values["rollout_success"]}, values["env_steps"])

    def _curve(self, place: Place, index: int) -> None:
        scoring = self.config.scoring
        self._scored(f"curve-{index:02d}", place, scoring.curve_seed, scoring.curve_episodes)

    def _scored(self, name: str, place: Place, seed: int, episodes: int) -> dict[str, Any]:
        """Evaluation of the student as it is now, kept on disk under its name."""
        path = self.folder / f"evaluation-{name}.json"
        if not path.exists():
            agent = self.student.merged()
            with self.run.progress(name, episodes) as show:
                result = evaluate(place, agent, _digest_of(agent), seed, episodes, show)
            _write(path, to_document(result))
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    def _document(self, before: dict[str, Any], after: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            **asdict(self.cell),
            "model_digest": self.digest,
            "config": to_mapping(self.config),
            "before": before,
            "after": after,
            "source_after": source,
            "curve": self._curve_points(),
            "rounds": self.rounds,
            "env_steps": sum(each["decisions"] for each in self.rounds),
            "updates": sum(fit["updates"] for each in self.rounds for fit in each["fits"]),
            "adapter": self._write_adapter(),
            "wall_s": sum(each["seconds"] for each in self.rounds),
        }
        _write(self.folder / "adaptation.json", document)
        return document

    def _curve_points(self) -> list[dict[str, Any]]:
        points = []
        for path in sorted(self.folder.glob("evaluation-curve-*.json")):
            index, values = int(path.stem.rpartition("-")[2]), json.loads(path.read_text())
            steps = sum(each["decisions"] for each in self.rounds[:index])
            kept = {key: values[key] for key in ("success_rate", "collision_rate", "timeout_rate", "episodes")}
            points.append({"env_steps": steps, "round": index, **kept})
        return points

    def _write_adapter(self) -> str | None:
        """File of the factors that the runtime's graph takes, None for a full update."""
        if not self.strategy.low_rank:
            return None
        path = self.folder / ADAPTER_FILE
        write_weights(path, factor_tensors(self.student.factors()), {"base": self.digest})
        return path.name


def round_document(done: Round, env_steps: int) -> dict[str, Any]:
    """What a round saw, decided and did, as plain values."""
    mismatch = done.mismatch
    return {
        "round": done.index,
        "env_steps": env_steps,
        "decisions": len(done.rollouts.episodes),
        "episodes": len(done.rollouts.outcomes),
        "rollout_success": done.rollouts.success,
        "dynamics_mismatch": mismatch.dynamics.value,
        "policy_mismatch": mismatch.policy.value,
        "selected": done.selection.part.value,
        "reason": done.selection.reason,
        "updated": [fit.part for fit in done.fits],
        "fits": [asdict(fit) for fit in done.fits],
        "mismatch": mismatch.to_json(),
    }


def source_of(base: Agent, name: str, config: AdaptationConfig, cache: Path, run: Run) -> Rollouts:
    """Source rollouts of the base model, driven once per model and configuration."""
    with run.progress("source", config.rollouts.source_decisions) as show:
        return source_rollouts(base, config.rollouts, source_file(name, config, cache), show)


def source_file(name: str, config: AdaptationConfig, cache: Path) -> Path:
    """Where the source rollouts of a model (its digest) are kept."""
    settings = json.dumps(to_mapping(config.rollouts) | {"decisions": 0, "train_seeds": 0}, sort_keys=True)
    key = hashlib.sha256(f"{name}{settings}".encode()).hexdigest()[:16]
    return cache / f"source-{key}.npz"


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
        "success": rollouts.success,
        "mismatch": to_mapping(config.mismatch),
    }
    torch.manual_seed(0)
    replay = Replay(base.world_model.encoder, rollouts.episodes, config.fit.discount)
    baseline = measure_baseline(base, replay, config, name, origin)
    write_baseline(model_dir / BASELINE_FILE, baseline)
    return baseline


def _absent() -> Rollouts:
    raise ValueError("a round's record is there but its rollouts are not; remove the run's folder and start again")


def _claim(folder: Path, cell: Cell, config: AdaptationConfig) -> None:
    """Keep the configuration with the run; a run is never continued with another one."""
    path, text = folder / "run.yaml", yaml.safe_dump(asdict(cell) | to_mapping(config), sort_keys=False)
    if path.exists() and path.read_text() != text:
        raise ValueError(f"{folder}: holds a run with another configuration; choose another --run folder or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    os.replace(part, path)


def _digest_of(agent: Agent) -> str:
    """sha256 over all weights, hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in agent.state_dict().items():
        total.update(name.encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
