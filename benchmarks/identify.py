"""Planted causes of mismatch, and what the estimators say of them.

Only the vehicle changed, only the task, both, or nothing: the base model drives each, and its episodes are cut into
disjoint trials. A trial is right when it names the planted cause from its own episodes alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from adawm_planner.adaptation.harness import baseline_of
from adawm_planner.adaptation.mismatch import Measure, enough_states, pair_of
from adawm_planner.adaptation.rollouts import Place, drive_seeds, source_rollouts, stored
from adawm_planner.adaptation.scores import DIRECT, VISITATION, Baseline, Failures, Sample, Score, Tally
from adawm_planner.adaptation.select_part import Evidence, Part, select_part
from adawm_planner.adaptation.source_file import source_file
from adawm_planner.adaptation.visited import visit
from adawm_planner.cli.adapt import run_options
from adawm_planner.cli.options import SEED, json_option
from adawm_planner.config.adaptation import AdaptationConfig, load_adaptation
from adawm_planner.data_types import Float64, Int64
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.policy.agent import Agent, load_agent
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.result_file import write_json, write_text
from adawm_planner.runtime.model_files import digest
from adawm_planner.simulator.tasks import load_task, load_vehicle
from benchmarks.record import ROOT, with_origin

CAUSES = ("none", "vehicle", "task", "both")
SOURCE = "right_turn_moderate"
PLANTED: dict[str, tuple[tuple[str, str], ...]] = {
    "none": ((SOURCE, "nominal"),),
    "vehicle": tuple(
        (SOURCE, name)
        for name in ("heavy", "weak_brakes", "delayed_actuation", "overloaded", "worn_brakes", "late_brakes")
    ),
    "task": tuple(
        (name, "nominal")
        for name in ("right_turn_dense", "left_turn_moderate", "left_turn_dense", "roundabout_moderate")
    ),
    "both": (
        ("right_turn_dense", "worn_brakes"),
        ("left_turn_moderate", "overloaded"),
        ("left_turn_dense", "late_brakes"),
        ("roundabout_moderate", "delayed_actuation"),
        ("right_turn_dense", "late_brakes"),
        ("right_turn_dense", "overloaded"),
        ("left_turn_moderate", "worn_brakes"),
        ("roundabout_moderate", "worn_brakes"),
    ),
}
"""Cause -> task and vehicle of each condition; low_friction is left out, see docs/adaptation.md."""

RESULT = ROOT / "benchmarks" / "results" / "adaptation" / "identify.json"
EVERYTHING = 10**9
FIRST_SEED = 100_000
"""Of the first episode; on the seeds from 5000 it was seen what the rule of `cause_task` missed, and it was changed."""
LOOKS = 16
"""Rounds of a run, as `adawm adapt` has."""


@dataclass(frozen=True)
class Pool:
    """Episodes of one condition, measured."""

    cause: str
    condition: tuple[str, str]
    outcomes: tuple[str, ...]  # one per episode
    values: dict[str, Float64]  # `direct` score -> one number per episode
    measure: Measure

    @property
    def success(self) -> float:
        """Share of the episodes that succeeded."""
        return 1.0 - self.tally(np.arange(len(self.outcomes))).failed / len(self.outcomes)

    def tally(self, chosen: Int64) -> Tally:
        """How episodes of these numbers ended."""
        return Tally.of([self.outcomes[number] for number in chosen])

    def trials(self, episodes: int, count: int) -> Iterator[np.ndarray]:
        """Numbers of the episodes of up to `count` disjoint trials."""
        for trial in range(min(count, self.measure.visited.episodes // episodes)):
            yield np.arange(trial * episodes, (trial + 1) * episodes)


@click.command()
@click.option("--trials", type=click.IntRange(min=1), default=48, show_default=True, help="Per cause.")
@click.option("--clean", type=click.IntRange(min=1), default=100, show_default=True, help="Trials without any cause.")
@click.option("--episodes", type=click.IntRange(min=2), default=12, show_default=True, help="Rollouts per trial.")
@click.option(
    "--sizes",
    default="2,4,8,12",
    show_default=True,
    callback=lambda context, option, text: parse_sizes(text),
    help="Rollouts per trial to compare.",
)
@click.option("--seed", type=SEED, default=FIRST_SEED, show_default=True, help="First episode seed.")
@click.option(
    "--estimator",
    type=click.Choice(["direct", "both"]),
    default="both",
    show_default=True,
    help="The visitation estimator takes most of the time.",
)
@run_options
@json_option
def identify(
    trials: int,
    clean: int,
    episodes: int,
    sizes: list[int],
    seed: int,
    estimator: str,
    preset: str,
    config_file: Path | None,
    model_dir: Path,
    cache: Path,
    json_file: Path | None,
) -> None:
    """Plant causes of mismatch and count how often the estimators name them."""
    config, base, name = load_adaptation(config_file, preset), load_agent(model_dir), digest(model_dir)
    torch.set_num_threads(config.threads)
    baseline = baseline_of(model_dir, name, config)
    pools = measured_pools(base, baseline, config, cache / name[:12], trials, clean, episodes, seed)
    judge = Judge(baseline, config)
    rows = [each for pool in pools for each in judge.direct(pool, episodes, per_condition(pool.cause, trials, clean))]
    result: dict[str, Any] = {
        "episodes_per_trial": episodes,
        "first_seed": seed,
        "conditions": [
            {"cause": p.cause, "task": p.condition[0], "vehicle": p.condition[1], "success": p.success} for p in pools
        ],
        "direct": verdict(rows),
        "direct_by_rollouts": by_size(pools, judge, sizes, trials, clean),
        "false_repairs": false_repairs(pools[0], judge, episodes),
    }
    if estimator == "both":
        source = source_measure(base, config, cache, name)
        result["visitation"] = verdict(list(judge.visitation_all(pools, source, episodes, trials, clean)))
    show(result, Console())
    if preset != "default" and json_file is None:  # only the default's figures are the project's
        return
    path = json_file or RESULT
    write_json(path, with_origin("identify", result, ("torch", "libsumo")))
    if path.is_file():  # nothing lies beside /dev/stdout
        write_text(path.with_suffix(".md"), to_markdown(result) + "\n")


def parse_sizes(text: str) -> list[int]:
    """Numbers of rollouts. Raises BadParameter for what is none, or too few for a standard error."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) >= 2 for word in words):
        raise click.BadParameter(f"'{text}' must be whole numbers of at least 2 with commas between")
    return [int(word) for word in words]


def per_condition(cause: str, trials: int, clean: int) -> int:
    """Trials of each condition of a cause, so that the cause gets at least as many as asked for."""
    return clean if cause == "none" else -(-trials // len(PLANTED[cause]))


def measured_pools(
    base: Agent,
    baseline: Baseline,
    config: AdaptationConfig,
    folder: Path,
    trials: int,
    clean: int,
    episodes: int,
    seed: int,
) -> list[Pool]:
    """Drive and measure every condition; what was driven is kept in `folder`."""
    pools, encoder = [], base.world_model.encoder
    conditions = [(cause, condition) for cause in CAUSES for condition in PLANTED[cause]]
    for number, (cause, (task, vehicle)) in enumerate(track(conditions, description="driving")):
        count, first = episodes * per_condition(cause, trials, clean), seed + number * 2500

        def make(
            task: str = task, vehicle: str = vehicle, count: int = count, first: int = first, number: int = number
        ) -> Any:
            seeds = range(first, first + count)
            with Place(task, vehicle) as place:
                return drive_seeds(place, base, seeds, EVERYTHING, config.rollouts.sampled, number)

        driven = f"{load_task(task)}{load_vehicle(vehicle)}{number} {first} {count} {config.rollouts.sampled}"
        key = hashlib.sha256(driven.encode()).hexdigest()[:16]
        rollouts = stored(folder / f"identify-{task}-{vehicle}-{key}.npz", make)
        replay = Replay(encoder, rollouts.episodes, config.fit.discount)
        visited = visit(base, replay, config.mismatch.burn_in)
        torch.manual_seed(number)
        scaled = enough_states(config, visited)
        measure = Measure(base, replay, visited, scaled, np.random.default_rng(number))
        values = {score: measure.direct(score, baseline.samples, baseline.scales) for score in DIRECT}
        pools.append(Pool(cause, (task, vehicle), rollouts.outcomes, values, measure))
    return pools


def source_measure(base: Agent, config: AdaptationConfig, cache: Path, name: str) -> Measure:
    """The source rollouts that visitation is compared with."""
    rollouts = source_rollouts(base, config.rollouts, source_file(name, config, cache))
    replay = Replay(base.world_model.encoder, rollouts.episodes, config.fit.discount)
    return Measure(base, replay, visit(base, replay, config.mismatch.burn_in), config, np.random.default_rng(0))


@dataclass(frozen=True)
class Judgement:
    """What one trial said."""

    cause: str
    named: str
    part: Part
    condition: tuple[str, str]


@dataclass(frozen=True)
class Judge:
    """Names causes from scores."""

    baseline: Baseline
    config: AdaptationConfig

    def direct(self, pool: Pool, episodes: int, trials: int) -> Iterator[Judgement]:
        """Vehicle and task by the two attributed scores, the part by the rule of `select_part`."""
        for chosen in pool.trials(episodes, trials):
            values = {**pool.values, "cause_task": pool.measure.cause_task(self.baseline.samples, chosen)}
            scores = {name: self._score(name, Sample.of(each[chosen])) for name, each in values.items()}
            dynamics, policy = (scores[name] for name in pair_of(self.config))
            part = self._part(dynamics, policy, pool.tally(chosen))
            yield Judgement(pool.cause, self._name(scores["cause_vehicle"], scores["cause_task"]), part, pool.condition)

    def repairs(self, pool: Pool, chosen: Int64) -> bool:
        """Whether the rule repairs something after these episodes, none of them repaired after."""
        dynamics, policy = (self._score(name, Sample.of(pool.values[name][chosen])) for name in pair_of(self.config))
        seen = Failures.seen(
            [pool.outcomes[number] for number in chosen], (), self.config.select.recovery, self.baseline.driving
        )
        return select_part(Evidence(dynamics, policy, seen), Part.NOTHING, self.config.select).part is not Part.NOTHING

    def visitation_all(
        self, pools: Sequence[Pool], source: Measure, episodes: int, trials: int, clean: int
    ) -> Iterator[Judgement]:
        """Task by state visitation, vehicle by what state-action visitation adds to it."""
        for pool in track(pools, description="visitation"):
            for chosen in pool.trials(episodes, per_condition(pool.cause, trials, clean)):
                rows = pool.measure.visited.acted & np.isin(pool.measure.visited.episode, chosen)
                both, state = (
                    self._score(name, pool.measure.visitation(name, rows, source, source.visited.acted))
                    for name in VISITATION
                )
                added = Score(
                    both.value - state.value,
                    float(np.hypot(both.error, state.error)),
                    state.episodes,
                    min(both.freedom, state.freedom),
                )
                yield Judgement(
                    pool.cause, self._name(added, state), self._part(both, state, pool.tally(chosen)), pool.condition
                )

    def _score(self, name: str, sample: Sample) -> Score:
        return Score.above(sample, self.baseline.samples[name])

    def _name(self, vehicle: Score, task: Score) -> str:
        limit = self.config.select.significance
        flags = vehicle.significant(limit), task.significant(limit)
        return {(False, False): "none", (True, False): "vehicle", (False, True): "task", (True, True): "both"}[flags]

    def _part(self, dynamics: Score, policy: Score, driving: Tally) -> Part:
        seen = Evidence(dynamics, policy, Failures(driving, self.baseline.driving))
        return select_part(seen, Part.NOTHING, self.config.select).part


def verdict(rows: Sequence[Judgement]) -> dict[str, Any]:
    """Confusion matrix, share of right trials with intervals, and the parts chosen."""
    matrix = {cause: dict(Counter(each.named for each in rows if each.cause == cause)) for cause in CAUSES}
    right = {cause: matrix[cause].get(cause, 0) for cause in CAUSES}
    total = {cause: sum(matrix[cause].values()) for cause in CAUSES}
    planted = [cause for cause in CAUSES if cause != "none"]
    conditions = dict.fromkeys(each.condition for each in rows)
    return {
        "confusion": matrix,
        "identified": {cause: _share(right[cause], total[cause]) for cause in CAUSES},
        "identified_planted": {
            **_share(sum(right[c] for c in planted), sum(total[c] for c in planted)),
            "ci95_conditions": over_conditions(rows),
        },
        "nothing_is_wrong": _share(
            sum(each.part is Part.NOTHING for each in rows if each.cause == "none"), total["none"]
        ),
        "parts": {cause: dict(Counter(each.part.value for each in rows if each.cause == cause)) for cause in CAUSES},
        "by_condition": {
            f"{task}, {vehicle}": dict(Counter(each.named for each in rows if each.condition == (task, vehicle)))
            for task, vehicle in conditions
        },
    }


def _share(successes: int, trials: int) -> dict[str, Any]:
    if not trials:
        return {"trials": 0}
    return {"share": successes / trials, "ci95": list(wilson_interval(successes, trials)), "trials": trials}


def over_conditions(rows: Sequence[Judgement], draws: int = 10_000) -> list[float]:
    """95 % interval of the share of planted trials named, had other conditions been planted.

    Trials of one condition mostly end alike, so counting trials as independent flatters the interval. Here conditions
    are drawn again, with replacement, among those of the same cause (cluster bootstrap, percentiles).
    """
    named = {
        cause: np.array(
            [
                np.mean([each.named == cause for each in rows if each.condition == condition])
                for condition in dict.fromkeys(each.condition for each in rows if each.cause == cause)
            ]
        )
        for cause in CAUSES[1:]
    }
    rng = np.random.default_rng(0)
    shares = [rng.choice(each, (draws, len(each))).mean(1) for each in named.values() if len(each)]
    return [float(bound) for bound in np.quantile(np.mean(shares, axis=0), (0.025, 0.975))]


def false_repairs(home: Pool, judge: Judge, episodes: int, runs: int = 1000) -> dict[str, Any]:
    """Share of runs in which something is repaired though nothing is wrong, by the number of rounds so far.

    A run looks again in every round, at all that it has driven, so it errs more often than one look. The runs are put
    together from the episodes of the pool, drawn with replacement.
    """
    rng = np.random.default_rng(0)
    wrong = np.zeros(LOOKS)
    for _ in range(runs):
        drawn = rng.integers(len(home.outcomes), size=episodes * LOOKS)
        first = next((look for look in range(LOOKS) if judge.repairs(home, drawn[: episodes * (look + 1)])), LOOKS)
        wrong[first:] += 1
    return {"episodes": episodes, "runs": runs, "share_by_round": [float(each) for each in wrong / runs]}


def by_size(
    pools: Sequence[Pool], judge: Judge, sizes: Sequence[int], trials: int, clean: int
) -> dict[str, Mapping[str, Any]]:
    """Share identified for each number of rollouts per trial."""
    found: dict[str, Mapping[str, Any]] = {}
    for size in sizes:
        rows = [each for p in pools for each in judge.direct(p, size, per_condition(p.cause, trials, clean))]
        one = verdict(rows)
        found[str(size)] = {key: one[key] for key in ("identified", "identified_planted", "nothing_is_wrong")}
    return found


def to_markdown(result: Mapping[str, Any]) -> str:
    """Confusion matrix of each estimator for people: planted cause in rows, named cause in columns."""
    lines = ["| planted | " + " | ".join(f"{name}: {cause}" for name in _estimators(result) for cause in CAUSES) + " |"]
    lines.append("|---" * (1 + len(CAUSES) * len(_estimators(result))) + "|")
    for cause in CAUSES:
        counts = [result[name]["confusion"][cause].get(other, 0) for name in _estimators(result) for other in CAUSES]
        lines.append(f"| {cause} | " + " | ".join(map(str, counts)) + " |")
    for name in _estimators(result):
        verdicts = (
            ("planted cause named", "identified_planted"),
            ("nothing is wrong, of clean trials", "nothing_is_wrong"),
        )
        for text, key in verdicts:
            low, high = result[name][key]["ci95"]
            share = f"{result[name][key]['share']:.3f} ({low:.3f}-{high:.3f}, {result[name][key]['trials']} trials)"
            if "ci95_conditions" in result[name][key]:
                low, high = result[name][key]["ci95_conditions"]
                share += f"; over conditions, {low:.2f}-{high:.2f}"
            lines += ["", f"`{name}`, {text}: {share}."]
    return "\n".join(lines)


def _estimators(result: Mapping[str, Any]) -> list[str]:
    return [name for name in ("direct", "visitation") if name in result]


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print both confusion matrices."""
    for name in _estimators(result):
        console.print(f"\n{name}: planted cause (rows) against named cause", highlight=False)
        for cause in CAUSES:
            named = result[name]["confusion"][cause]
            cells = "  ".join(f"{other} {named.get(other, 0):4d}" for other in CAUSES)
            console.print(f"  {cause:8s} {cells}   parts {result[name]['parts'][cause]}", highlight=False)
        low, high = result[name]["identified_planted"]["ci95"]
        console.print(f"  identified {result[name]['identified_planted']['share']:.3f} [{low:.3f}, {high:.3f}]")
        clean = result[name]["nothing_is_wrong"]
        console.print(f"  nothing is wrong {clean['share']:.3f} of {clean['trials']} clean trials", highlight=False)
