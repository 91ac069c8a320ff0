"""Per-episode numbers in, a score with its standard error over episodes out.

Decisions within an episode resemble each other, so the episode is the unit of every standard error here. The
baseline of each score is stored with the model (`mismatch_baseline.json`); `mismatch` fills both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adawm_planner.config.checks import finite
from adawm_planner.data_types import Float64, Outcome
from adawm_planner.durable import replace_json

CAUSES = ("cause_vehicle", "cause_task")
DIRECT = ("ego", "world", *CAUSES, "dynamics_prediction", "dynamics_divergence", "policy_imagined", "policy_returns")
VISITATION = ("visit_state_action", "visit_state")
"""Names of all scores."""

UNITS = ("ego", "world")
"""Scores whose mean and deviation on source data others are divided by."""

BASELINE_FILE = "mismatch_baseline.json"
SCHEMA = "adawm.mismatch_baseline/1"


@dataclass(frozen=True)
class Sample:
    """What was measured over some episodes."""

    mean: float
    deviation: float  # standard deviation over the episodes
    episodes: int

    @staticmethod
    def of(values: Float64 | Sequence[float]) -> Sample:
        """Sample of one number per episode; NaN where an episode gave none. Raises ValueError for fewer than two."""
        given = np.asarray(values, np.float64)
        given = given[np.isfinite(given)]
        if len(given) < 2:
            raise ValueError(f"{len(given)} episodes give no standard error, at least 2 are needed")
        return Sample(float(given.mean()), float(given.std(ddof=1)), len(given))

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / math.sqrt(self.episodes)


@dataclass(frozen=True)
class Score:
    """A mismatch: how far the mean over new episodes lies above the mean over pretraining episodes."""

    value: float  # excess, total variation unless its estimator says otherwise
    error: float  # standard error, of both means together
    episodes: int  # new ones
    freedom: float  # degrees of freedom of the error

    @staticmethod
    def above(new: Sample, baseline: Sample) -> Score:
        """Excess of `new` over `baseline`; their deviations may differ (Welch 1947)."""
        error = math.hypot(new.error, baseline.error)
        spread = new.error**4 / (new.episodes - 1) + baseline.error**4 / (baseline.episodes - 1)
        freedom = error**4 / spread if spread > 0.0 else new.episodes - 1.0
        return Score(new.mean - baseline.mean, error, new.episodes, freedom)

    @property
    def z(self) -> float:
        """Excess in standard errors."""
        return self.value / max(self.error, 1e-9)

    def significant(self, errors: float) -> bool:
        """Whether the excess is as unlikely by chance as this many standard errors of a normal distribution.

        A dozen episodes make a rough standard error, so Student's t asks for more of them: 3.8 instead of 3.
        """
        stats = _stats()
        return bool(stats.t.sf(self.z, self.freedom) < stats.norm.sf(errors))

    def __str__(self) -> str:
        return f"{self.value:.4f} +- {self.error:.4f}"

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {"value": self.value, "standard_error": self.error, "episodes": self.episodes, "z": self.z}


@dataclass(frozen=True)
class Tally:
    """How episodes ended."""

    failed: int
    episodes: int

    @staticmethod
    def of(outcomes: Sequence[str], newest: int | None = None) -> Tally:
        """Count: whatever is no success has failed, but an episode that was not seen to end (`cut`) says nothing.

        Of those that say something, the last `newest` are counted; None for all.
        """
        ended = [outcome for outcome in outcomes if outcome != "cut"]
        ended = ended if newest is None else ended[-newest:]
        return Tally(sum(outcome != Outcome.SUCCESS.value for outcome in ended), len(ended))

    def __str__(self) -> str:
        return f"{self.failed} of {self.episodes}"


@dataclass(frozen=True)
class Failures:
    """How often driving failed, beside the base model's own driving at home.

    A score is a mean over decisions: one failure in ten episodes, which everyone in the vehicle remembers, moves none.
    """

    new: Tally
    source: Tally

    @staticmethod
    def seen(now: Sequence[str], before: Sequence[str], recovery: int, source: Tally) -> Failures:
        """What speaks more against the driving: these episodes, or the newest `recovery` of all so far.

        That driving began to fail is seen in the new episodes. That it has recovered is not: what still fails in one
        episode of twenty hardly shows in ten. So until as many as `recovery` have been driven well, the earlier ones
        count, whatever was repaired since.

        Args:
            now: outcomes of the episodes that are looked at, which are the last of all.
            before: outcomes of all before them, oldest first.
            recovery: episodes.
            source: of the base model's own driving.
        """
        new, lately = Tally.of(now), Tally.of([*before, *now], recovery)
        return min((Failures(tally, source) for tally in (new, lately)), key=lambda each: each.chance)

    @property
    def chance(self) -> float:
        """Probability of as many failures or more if driving failed as often as at home (Fisher's exact test)."""
        failed, episodes = self.new.failed + self.source.failed, self.new.episodes + self.source.episodes
        return float(_stats().hypergeom.sf(self.new.failed - 1, episodes, failed, self.new.episodes))

    def significant(self, errors: float) -> bool:
        """Whether there are more, as unlikely by chance as this many standard errors of a normal distribution."""
        return bool(self.chance < _stats().norm.sf(errors))

    def __str__(self) -> str:
        return f"{self.new} episodes failed, {self.source} at home"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "chance": self.chance}


@dataclass(frozen=True)
class Baseline:
    """What every score is on pretraining data, and what scales them."""

    model_digest: str
    source: dict[str, Any]  # task, vehicle, decisions
    driving: Tally  # of the source rollouts
    samples: dict[str, Sample]  # by name of the score
    scales: Scales


@dataclass(frozen=True)
class Scales:
    """Standard deviations on source data that make scores comparable between models."""

    imagined: float  # of imagined action values about the policy's own, return units
    returns: float  # of the rollouts' own advantages, return units


def to_document(baseline: Baseline) -> dict[str, Any]:
    """The baseline as `read_baseline` takes it from a file."""
    return {"schema": SCHEMA, **asdict(baseline)}


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the baseline; the file is either whole or the old one."""
    replace_json(path, to_document(baseline))


def read_baseline(path: Path, model_digest: str) -> Baseline:
    """Read a baseline. Raises ValueError when it is missing, damaged, of another kind, or of another model."""
    remedy = f"run `adawm baseline --model-dir {path.parent}`"
    try:
        values = json.loads(path.read_text())
        if values.pop("schema") != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        samples, scales = (_mapping(name, values.get(name)) for name in ("samples", "scales"))
        baseline = Baseline(
            values["model_digest"],
            _mapping("source", values.get("source")),
            _tally(_mapping("driving", values.get("driving"))),
            {name: _sample(name, samples.get(name)) for name in (*DIRECT, *VISITATION)},
            Scales(*(_number(f"scales.{name}", scales.get(name), 0.0) for name in ("imagined", "returns"))),
        )
    except OSError as error:
        raise ValueError(
            f"{path}: the model's mismatch baseline cannot be read ({error.strerror}); {remedy}"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a mismatch baseline ({error}); {remedy}") from error
    if baseline.model_digest != model_digest:
        raise ValueError(f"{path}: made for another model than the one beside it; {remedy}")
    return baseline


def _mapping(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{field} is {value!r}, must be a mapping")
    return value


def _number(field: str, value: Any, least: float = -math.inf) -> float:
    if not finite(value) or value < least:
        limit = f" of at least {least:g}" if math.isfinite(least) else ""
        raise ValueError(f"{field} is {value!r}, must be a finite number{limit}")
    return float(value)


def _tally(given: Mapping[str, Any]) -> Tally:
    """How the source rollouts ended. Raises ValueError that names the field."""
    failed, episodes = given.get("failed"), given.get("episodes")
    if type(episodes) is not int or episodes < 2:
        raise ValueError(f"driving.episodes is {episodes!r}, must be a whole number of at least 2")
    if type(failed) is not int or not 0 <= failed <= episodes:
        raise ValueError(f"driving.failed is {failed!r}, must be a whole number of 0 to driving.episodes ({episodes})")
    return Tally(failed, episodes)


def _sample(name: str, given: Any) -> Sample:
    """Sample of the score of this name. Raises ValueError that names the field."""
    at = f"samples.{name}"
    values = _mapping(at, given)
    mean = _number(f"{at}.mean", values.get("mean"))
    deviation = _number(f"{at}.deviation", values.get("deviation"), 0.0)
    if name in UNITS and not min(mean, deviation) > 0.0:
        raise ValueError(f"{at} has mean {mean:g} and deviation {deviation:g}, must both be above 0")
    episodes = values.get("episodes")
    if type(episodes) is not int or episodes < 2:
        raise ValueError(f"{at}.episodes is {episodes!r}, must be a whole number of at least 2")
    return Sample(mean, deviation, episodes)


def _stats() -> Any:
    """scipy's distributions, read where a score is judged: what only drives names the strategies without them."""
    from scipy import stats

    return stats
