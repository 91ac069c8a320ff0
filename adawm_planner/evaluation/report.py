"""Many EpisodeResults in; the document "adawm.evaluation/1", its check, and the table for people out.

The document is the JSON of `evaluate` and `drive` (docs/evaluation.md); the two differ in the "ros" block alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from adawm_planner import result_file
from adawm_planner.config.checks import finite
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.evaluation.metrics import DRIVING_SCORE_FORMULA, mean_finite, wilson_interval

SCHEMA = "adawm.evaluation/1"

MEASURES = 2
"""Counts the definitions of the measured figures: raised whenever a figure of the document changes its meaning, so that
evaluations kept for reuse are driven again. The document does not say it. 2: time to collision is the first overlap of
boxes, within 10 s."""


@dataclass(frozen=True)
class Evaluation:
    """One driver on one task with one vehicle, over consecutive seeds."""

    task: str
    vehicle: str
    driver: str
    adapters: tuple[str, ...]
    seed: int  # the first episode's; the others follow by 1
    requested: int  # episodes asked for; fewer are here only after an interruption
    wall_s: float
    episodes: tuple[EpisodeResult, ...]  # in order of their seeds
    model_digest: str | None = None  # of the world model's files, None for the other drivers
    ros: dict[str, Any] = field(default_factory=dict)  # only of `drive`
    gate: bool = False  # whether the safety gate decided what reached the vehicle

    def __post_init__(self) -> None:
        if not self.episodes:
            raise ValueError(f"no finished episode of {self.task} to report on")

    def rate(self, outcome: Outcome) -> float:
        """Share of the episodes that ended this way, 0..1."""
        return self.count(outcome) / len(self.episodes)

    def count(self, outcome: Outcome) -> int:
        """Number of the episodes that ended this way."""
        return sum(episode.outcome is outcome for episode in self.episodes)

    def interventions(self) -> dict[str, dict[str, int]]:
        """How often each rule of the gate changed a command: in frames, and in how many episodes."""
        rules = sorted({rule for episode in self.episodes for rule in episode.interventions})
        frames = {rule: [episode.interventions.get(rule, 0) for episode in self.episodes] for rule in rules}
        return {rule: {"frames": sum(each), "episodes": sum(map(bool, each))} for rule, each in frames.items()}

    def mean(self, value: Callable[[EpisodeResult], float]) -> float:
        """Mean of a value over the episodes."""
        return sum(value(episode) for episode in self.episodes) / len(self.episodes)


def to_document(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as "adawm.evaluation/1"; checked before it is returned."""
    episodes = evaluation.episodes
    ttc = [episode.ttc_min_s for episode in episodes]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "task": evaluation.task,
        "vehicle": evaluation.vehicle,
        "driver": evaluation.driver,
        "adapters": list(evaluation.adapters),
        "model_digest": evaluation.model_digest,
        "episodes": len(episodes),
        "episodes_requested": evaluation.requested,
        "seed": evaluation.seed,
        "gate": evaluation.gate,
        "success_rate": evaluation.rate(Outcome.SUCCESS),
        "success_ci95": list(wilson_interval(evaluation.count(Outcome.SUCCESS), len(episodes))),
        "collision_rate": evaluation.rate(Outcome.COLLISION),
        "off_lane_rate": evaluation.rate(Outcome.OFF_LANE),
        "timeout_rate": evaluation.rate(Outcome.TIMEOUT),
        "ttc_min_mean_s": _finite_or_none(mean_finite(ttc)),
        "ttc_episodes": sum(math.isfinite(value) for value in ttc),
        "route_completion": evaluation.mean(lambda e: e.route_completion),
        "mean_speed_mps": evaluation.mean(lambda e: e.mean_speed_mps),
        "mean_duration_s": evaluation.mean(lambda e: e.duration_s),
        "driving_score": evaluation.mean(lambda e: e.driving_score),
        "driving_score_formula": DRIVING_SCORE_FORMULA,
        "reward": evaluation.mean(lambda e: e.reward.total),
        "comfort": evaluation.mean(lambda e: float(e.comfort.comfortable)),
        "comfort_bounds": "nuplan",
        "comfort_detail": _comfort_detail(episodes),
        "wall_s": evaluation.wall_s,
        "detail": [episode.to_json() for episode in episodes],
    }
    if evaluation.gate:
        document["interventions"] = evaluation.interventions()
    if evaluation.ros:
        document["ros"] = evaluation.ros
    check_document(document)
    return document


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _comfort_detail(episodes: Sequence[EpisodeResult]) -> dict[str, float]:
    """Share of the episodes within each bound."""
    within = [episode.comfort.within() for episode in episodes]
    return {name: sum(each[name] for each in within) / len(within) for name in within[0]}


def write_evaluations(path: Path, documents: Sequence[dict[str, Any]]) -> None:
    """Write one document as itself, several as a list; raises ValueError where the file cannot be written."""
    result_file.write_json(path, documents[0] if len(documents) == 1 else list(documents))


def read_json(path: Path) -> list[dict[str, Any]]:
    """Every evaluation in a file that `write_evaluations` wrote.

    Raises:
        ValueError: not JSON, or not this schema; the message names file and field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        documents = content if isinstance(content, list) else [content]
        if not documents:
            raise ValueError("holds no evaluation")
        for document in documents:
            check_document(document)
    except RecursionError:
        raise ValueError(f"{path}: cannot be read as JSON: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        remedy = "it must be the --json of `adawm evaluate` or `adawm drive`"
        raise ValueError(f"{path}: {' '.join(str(error).split())}; {remedy}") from error
    return documents


def check_document(document: Any) -> None:
    """Check a document against "adawm.evaluation/1".

    Raises:
        ValueError: naming the first field that is missing or wrong.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"field 'schema' is not {SCHEMA!r}")
    _check_fields(document, DOCUMENT_FIELDS, "")
    if "ros" in document:
        _check_fields(document["ros"], ROS_FIELDS, "ros.")
        _check_fields(document["ros"]["latency_ms"], LATENCY_FIELDS, "ros.latency_ms.")
    for i, episode in enumerate(document["detail"]):
        _check_fields(episode, EPISODE_FIELDS, f"detail[{i}].")
    if len(document["detail"]) != document["episodes"]:
        raise ValueError(f"field 'episodes' is {document['episodes']}, but 'detail' has {len(document['detail'])}")


def _check_fields(values: Any, fields: dict[str, Callable[[Any], bool]], prefix: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"field '{prefix.rstrip('.')}' is not an object")
    for name, accepts in fields.items():
        if name not in values:
            raise ValueError(f"field '{prefix}{name}' is missing")
        if not accepts(values[name]):
            raise ValueError(f"field '{prefix}{name}' has a wrong value: {values[name]!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: Any) -> bool:
    return finite(value) and 0.0 <= value <= 1.0


def _is_ttc(value: Any) -> bool:
    return value is None or (finite(value) and value >= 0.0)


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_share, value)) and value[0] <= value[1]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


DOCUMENT_FIELDS: dict[str, Callable[[Any], bool]] = {
    "task": _is_text,
    "vehicle": _is_text,
    "driver": _is_text,
    "adapters": _is_texts,
    "episodes": _is_count,
    "seed": _is_count,
    "success_rate": _is_share,
    "success_ci95": _is_interval,
    "collision_rate": _is_share,
    "off_lane_rate": _is_share,
    "timeout_rate": _is_share,
    "ttc_min_mean_s": _is_ttc,
    "route_completion": _is_share,
    "mean_speed_mps": finite,
    "driving_score": finite,
    "driving_score_formula": _is_text,
    "comfort": _is_share,
    "wall_s": finite,
    "detail": lambda value: isinstance(value, list),
}

EPISODE_FIELDS: dict[str, Callable[[Any], bool]] = {
    "seed": _is_count,
    "outcome": lambda value: _is_text(value) and value in {outcome.value for outcome in Outcome},
    "duration_s": finite,
    "ttc_min_s": _is_ttc,
    "route_completion": _is_share,
    "driving_score": finite,
}

ROS_FIELDS: dict[str, Callable[[Any], bool]] = {
    "latency_ms": lambda value: isinstance(value, dict),
    "missed_ticks": _is_count,
    "adapters_swapped": _is_count,
}

LATENCY_FIELDS: dict[str, Callable[[Any], bool]] = {"p50": finite, "p99": finite, "max": finite}


def table(documents: Sequence[dict[str, Any]]) -> Table:
    """Two lines per evaluation, for people; fits 80 columns."""
    view = Table(title="closed-loop evaluation", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    view.add_column("task\ndriver, vehicle", overflow="fold", min_width=19)
    headers = ("n", "success %\n95 % CI", "coll.\n%", "lane\n%", "time\n%", "TTC\ns", "took\ns", "score\n", "comf.\n%")
    for header in headers:
        view.add_column(header, justify="right", no_wrap=True)
    for document in documents:
        view.add_row(*_row(document))
    view.caption = (
        "coll., lane, time: ended by collision, off lane, timeout; TTC: mean smallest\n"
        f"score: {DRIVING_SCORE_FORMULA}; comf.: within all nuPlan bounds"
    )
    return view


def _row(document: dict[str, Any]) -> list[str]:
    low, high = document["success_ci95"]
    ttc = document["ttc_min_mean_s"]
    rates = [f"{100.0 * document[name]:.1f}" for name in ("collision_rate", "off_lane_rate", "timeout_rate")]
    adapters = "".join(f" +{Path(adapter).name}" for adapter in document["adapters"])
    return [
        escape(f"{document['task']}\n{document['driver']}{adapters}, {document['vehicle']}"),
        str(document["episodes"]),
        f"{100.0 * document['success_rate']:.1f}\n{_percent(low)}-{_percent(high)}",
        *rates,
        "-" if ttc is None else f"{ttc:.2f}",
        f"{document['mean_duration_s']:.1f}",
        f"{document['driving_score']:.1f}",
        f"{100.0 * document['comfort']:.0f}",
    ]


def _percent(share: float) -> str:
    """Per cent with one decimal, but "100" without, which keeps the table within 80 columns."""
    return "100" if share == 1.0 else f"{100.0 * share:.1f}"


def episode_line(episode: EpisodeResult) -> str:
    """One finished episode in one line of rich markup."""
    colour = "green" if episode.outcome is Outcome.SUCCESS else "red"
    ttc = f"{episode.ttc_min_s:.2f} s" if math.isfinite(episode.ttc_min_s) else "-"
    return (
        f"seed {episode.seed}  [{colour}]{episode.outcome.value:<9}[/]  {episode.duration_s:5.1f} s  "
        f"route {100.0 * episode.route_completion:3.0f} %  min TTC {ttc}  {episode.mean_speed_mps:.1f} m/s"
    )
