"""How the finetuner keeps experience, cuts it into episodes, and decides that an update may leave."""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.config.checks import above, not_negative, share

STRATEGIES = ("none", "model", "policy", "alternate", "adawm")
"""Names in adaptation.strategies of what a vehicle may do: all but `full`, whose update cannot be an adapter."""

TRAINING_PACKAGES = ("torch", "peft", "scipy")
"""What the worker imports beyond what the planner needs; the extra `train` of this package installs it."""


@dataclass(frozen=True)
class ReplayConfig:
    """Size of the replay on disk."""

    chunk_decisions: int = 100
    """Decisions in one file, and so the most that a kill can lose: 20 s of driving."""

    most_bytes: int = 1 << 30
    """Size of all chunks and quarantined files together [bytes]; a decision takes about 0.5 kB."""

    def __post_init__(self) -> None:
        above("replay", self, 0, "chunk_decisions")
        # A chunk that cannot be compressed must fit twice, or the newest one would have to go.
        above("replay", self, 16_384 * self.chunk_decisions, "most_bytes")


@dataclass(frozen=True)
class SplitConfig:
    """What of the experience becomes training data."""

    step_error: float = 0.5
    """Share by which the time between two decisions may differ from dims.DECISION_S; beyond it the clock jumped."""

    least_rows: int = 10
    """Rows (decisions) of an incomplete episode below which it is dropped: too short for the filter to settle."""

    held_out: float = 0.2
    """Share of the episodes that is for validation only."""

    most_overruled: int = 50
    """Decisions in a row that the safety gate or a driver overruled; beyond it nothing is kept: the vehicle is held."""

    def __post_init__(self) -> None:
        above("split", self, 0.0, "step_error")
        above("split", self, 1, "least_rows")
        above("split", self, 0, "most_overruled")
        if not self.step_error < 1.0:
            raise ValueError(f"split.step_error is {self.step_error}, must be below 1")
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"split.held_out is {self.held_out}, must be in 0..1 and below 1")


@dataclass(frozen=True)
class UpdateGateConfig:
    """When an update may leave, see `finetuning.gate`."""

    confidence: float = 0.95
    """Of every statement that something is better, or not worse."""

    least_episodes: int = 5
    """Held-out episodes below which nothing passes; with a held-out share of 0.2 that takes about 25 episodes. Of four,
    all gain by pure chance in 1 of 16 trials, which is more than 1 - confidence."""

    least_prediction: float = 0.02
    """Fall of the prediction error, in units of its mean on source data, that counts as better: noise on the weights
    makes a model really better or worse by a little, and many episodes would show it. Recorded rounds gained 0.06 to 6.
    """

    least_return: float = 0.05
    """The same for the imagined return, in deviations of imagined action values; recorded rounds gained 1 to 15."""

    moved_by_dynamics: float = 0.15
    """Mean total variation by which a dynamics update may move the policy's decisions, new task and home."""

    moved_by_policy: float = 0.5
    """The same for a policy update on the new task; single rounds of `adawm adapt` moved them by 0.15 to 0.42."""

    moved_at_home: float = 0.3
    """The same for a policy update on source-task states; single rounds moved them by 0.09 to 0.22."""

    worse_part: float = 0.05
    """Rise of one part of the prediction error, in units of its mean on source data, that still counts as no worse."""

    worse_at_home: float = 1.0
    """The same for the whole prediction error at home: it may double. A model of worn brakes cannot predict new ones as
    well as before (0.57 in the first round of `adawm adapt`); what must not change at home are the decisions."""

    worse_return: float = 2.0
    """Fall of the imagined return at home that still counts as no worse, in deviations of imagined action values."""

    states: int = 16
    """States per episode from which futures are imagined."""

    samples: int = 8
    """Imagined futures per state."""

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1.0:
            raise ValueError(f"gate.confidence is {self.confidence}, must be above 0.5 and below 1")
        above("gate", self, 1, "least_episodes")
        above("gate", self, 0, "states", "samples")
        not_negative("gate", self, "least_prediction", "least_return")
        above("gate", self, 0.0, "worse_part", "worse_at_home", "worse_return")
        share("gate", self, "moved_by_dynamics", "moved_by_policy", "moved_at_home")


@dataclass(frozen=True)
class RoundConfig:
    """What one round takes from the replay."""

    decisions: int = 1000
    """New decisions after which a round is due, and the newest training decisions of the acting policy it takes."""

    least_decisions: int | None = None
    """Of those it takes, the fewest that it needs; None: all. A round that somebody asks for begins with less."""

    least_episodes: int = 4
    """Training episodes of the acting policy that a round needs: fewer give no standard error worth its name."""

    window: int = 20_000
    """Newest decisions of the replay that are read; older ones are kept on disk and not trained on."""

    held_out_episodes: int = 40
    """Newest held-out episodes that the gate looks at."""

    burn_in: int = 3
    """Rows at the start of an episode that give no score, `mismatch.burn_in` of the adaptation's configuration."""

    def __post_init__(self) -> None:
        above("round", self, 0, "decisions", "held_out_episodes")
        above("round", self, -1, "burn_in")
        above("round", self, 1, "least_episodes")
        if self.least_decisions is not None and not 0 < self.least_decisions <= self.decisions:
            raise ValueError(
                f"round.least_decisions is {self.least_decisions}, must be in 1..round.decisions ({self.decisions})"
            )
        if self.decisions > self.most_decisions:
            raise ValueError(
                f"round.decisions is {self.decisions}, must be at most {self.most_decisions}, half of round.window: "
                "beside them, the window holds held-out and overruled driving"
            )

    @property
    def most_decisions(self) -> int:
        """Limit of `decisions`. A fifth of the window is held out, and what the gate overruled or another policy drove
        does not count: a round that needed nearly all of it would never begin."""
        return self.window // 2

    @property
    def needed(self) -> int:
        """Training decisions of the acting policy below which there is no round."""
        return self.decisions if self.least_decisions is None else self.least_decisions
