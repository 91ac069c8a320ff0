"""What adaptation does, stage by stage: one dataclass per file of `adaptation/`, in the order of the flow.

The values come from `adaptation.yaml` through `config.presets`; `adaptation.adapt_step` runs on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.config.checks import above, not_negative, share
from adawm_planner.config.presets import load_config
from adawm_planner.config.seeds import EVALUATION_SEED

ADAPTATION_FILE = Path(__file__).with_name("adaptation.yaml")

ESTIMATORS = ("direct", "visitation")
"""Names of the two pairs of mismatch estimators, see `adaptation.mismatch`."""

POLICY_ADAPTERS = ("lora", "subunits")
"""How the policy is changed at low rank: `adaptation.lora` or the paper's `adaptation.subunits`."""

DYNAMICS_EVIDENCE = ("prediction", "divergence")
"""What the `direct` dynamics mismatch measures, see `adaptation.mismatch`."""

LARGEST_SCALING = 1024
"""Most that alpha / rank may be."""

POLICY_EVIDENCE = ("imagined", "returns")
"""What the `direct` policy mismatch takes the worth of an action from, see `adaptation.improvement`."""


@dataclass(frozen=True)
class RolloutConfig:
    """Driving that adaptation learns from."""

    decisions: int  # per round, at least; episodes are driven to their end
    sampled: float  # share of the episodes whose actions are sampled instead of the most probable taken
    train_seeds: tuple[int, int]  # [from, to) of the new task
    source_task: str  # what the base model was pretrained on
    source_vehicle: str
    source_decisions: int  # of the base model on the source task, for replay and baseline
    source_seeds: tuple[int, int]  # [from, to)

    def __post_init__(self) -> None:
        above("rollouts", self, 0, "decisions", "source_decisions")
        share("rollouts", self, "sampled")
        for name in ("train_seeds", "source_seeds"):
            low, high = getattr(self, name)
            if not 0 <= low < high <= EVALUATION_SEED:
                raise ValueError(f"rollouts.{name} is [{low}, {high}), must lie in [0, {EVALUATION_SEED})")
        (low, high), (other_low, other_high) = self.source_seeds, self.train_seeds
        if low < other_high and other_low < high:
            raise ValueError(
                f"rollouts.source_seeds is [{low}, {high}), must not overlap rollouts.train_seeds, "
                f"[{other_low}, {other_high}): the baseline would be of traffic that rounds drive too"
            )


@dataclass(frozen=True)
class MismatchConfig:
    """Both pairs of mismatch estimators."""

    estimator: str  # the pair the decision is made from
    dynamics_evidence: str  # of the `direct` pair
    policy_evidence: str  # of the `direct` pair
    burn_in: int  # decisions at the start of an episode that are not scored: the state is still settling
    states: int  # visited states at which the policy is compared with an improved one
    samples: int  # imagined rollouts per state and action
    horizon: int  # K, imagined decisions
    temperature: float  # of the improved policy, in standard deviations of the advantages on source data
    folds: int  # of the cross-fitted two-sample classifier
    ridge: float  # of the classifier, per sample
    leak_to_ego: float  # deviations that a task shift adds to the `ego` score per deviation of the `world` score

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"mismatch.estimator is '{self.estimator}', must be one of {', '.join(ESTIMATORS)}")
        for name, known in (("dynamics_evidence", DYNAMICS_EVIDENCE), ("policy_evidence", POLICY_EVIDENCE)):
            if getattr(self, name) not in known:
                raise ValueError(f"mismatch.{name} is '{getattr(self, name)}', must be one of {', '.join(known)}")
        above("mismatch", self, 0, "states", "samples", "horizon", "temperature", "ridge")
        above("mismatch", self, 1, "folds")
        above("mismatch", self, -1, "burn_in")
        share("mismatch", self, "leak_to_ego")


@dataclass(frozen=True)
class SelectConfig:
    """The decision."""

    c: float  # C of the paper: the dynamics goes first when its mismatch exceeds C times the policy's
    significance: float  # standard errors above the baseline below which a score, or more failures, count as nothing
    hysteresis: float  # share by which the other part must win before the choice changes
    recovery: int  # newest episodes among which too many failures count, whatever was repaired since

    def __post_init__(self) -> None:
        above("select", self, 0, "c", "significance", "recovery")
        share("select", self, "hysteresis")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank factors of one part of the agent."""

    rank: int
    alpha: int  # what the factors add is multiplied by alpha / rank, a power of two
    targets: tuple[str, ...]  # Linear layers of the part, each a name or a prefix of names

    def check(self, section: str) -> None:
        """Raise ValueError for what cannot be used, named as a value of this section."""
        above(section, self, 0, "rank", "alpha")
        _carried(f"{section}.rank", self.rank)
        most = LARGEST_SCALING * self.rank
        if self.alpha > most:
            raise ValueError(
                f"{section}.alpha is {self.alpha} with rank {self.rank}, must be at most {most}, {LARGEST_SCALING} "
                "times the rank"
            )
        # Factors are kept with alpha / rank in them; only dividing by a power of two gives back the same bits.
        if math.frexp(self.alpha / self.rank)[0] != 0.5:
            raise ValueError(
                f"{section}.alpha is {self.alpha} with rank {self.rank}, alpha / rank must be a power of two for a "
                f"killed run to go on exactly where it was; alpha {self.rank} will do"
            )
        if not self.targets:
            raise ValueError(f"{section}.targets is empty, must name at least one layer")


def _carried(name: str, rank: int) -> None:
    """Raise ValueError for a rank whose adapter the planner would refuse."""
    limit = AdapterLimits().rank
    if rank > limit:
        raise ValueError(
            f"{name} is {rank}, must be at most {limit}, the largest rank that the planner takes by default"
        )


@dataclass(frozen=True)
class SubunitConfig:
    """Sub-units of the actor's weight matrices."""

    pairs: int  # of sub-units per matrix, each pair opposite along one rank-1 direction
    radius: float  # distance of a sub-unit from the base matrix, as a share of its largest singular value
    max_rank: int  # of what earlier rounds have folded in
    gradients: int  # imagined batches whose policy gradients, summed, give the directions
    updates: int  # after which new sub-units are proposed

    def __post_init__(self) -> None:
        above("subunits", self, 0, "pairs", "radius", "max_rank", "gradients", "updates")
        _carried("subunits.max_rank", self.max_rank)


@dataclass(frozen=True)
class FitConfig:
    """Both updates; lambda-returns, advantages and losses are those of pretraining."""

    updates: int  # per round; its steps, and both parts where a step repairs both, share them
    warmup: int  # updates of the critic alone before the policy is updated
    batch: int  # B, windows of a dynamics update
    length: int  # T, decisions of each
    fresh: float  # share of each batch from the new task, the rest is source data
    dynamics_rate: float
    actor_lora_rate: float
    subunit_rate: float
    actor_rate: float  # of `full`, which trains all weights
    critic_rate: float
    # Of a run, at the rates above; in round n after them all but the critic's are this many n-ths (Robbins and Monro
    # 1951): what a bad policy needs throws a good one about. A finetuner, whose rounds have no end, keeps the rates.
    full_rate_rounds: int
    gradient_clip: float
    kl_dynamics: float
    kl_representation: float
    free_nats: float
    embedding_weight: float
    state_weight: float
    reward_weight: float
    # Of a low-rank dynamics update: nats from the policy's decisions before it, at most probable latents, to those now
    # at sampled ones; so what sampling does to a decision is in it, too.
    keep_policy: float
    image_weight: float  # of `full`, which trains the decoder too
    image_samples: int
    starts: int  # imagined rollouts per update
    horizon: int  # K
    discount: float
    trace: float  # lambda
    entropy: float
    advantage_clip: float  # in running root mean squares of the advantages
    averaged: float  # share of a step's policy updates, the last ones, over which what is trained is averaged
    slow_rate: float

    def __post_init__(self) -> None:
        above("fit", self, 0, "updates", "batch", "length", "dynamics_rate", "actor_rate")
        above("fit", self, 0, "actor_lora_rate", "subunit_rate", "full_rate_rounds")
        above("fit", self, 0, "critic_rate", "gradient_clip", "starts", "horizon", "advantage_clip", "image_samples")
        not_negative("fit", self, "kl_dynamics", "kl_representation", "free_nats", "embedding_weight", "state_weight")
        not_negative("fit", self, "reward_weight", "keep_policy", "image_weight", "entropy", "warmup")
        share("fit", self, "fresh", "discount", "trace", "slow_rate", "averaged")


@dataclass(frozen=True)
class TrialConfig:
    """Driving that tells which of its students a run ends with; nothing is learnt from it."""

    episodes: int  # most of all students together, of `rollouts.train_seeds`

    def __post_init__(self) -> None:
        above("trial", self, 0, "episodes")


@dataclass(frozen=True)
class ScoringConfig:
    """Driving that measures; nothing is learnt from it.

    Before and after are on seeds that no training drives. The curve's may be among `rollouts.source_seeds`, whose
    episodes on the source task are replayed in training: with a shift of the vehicle alone the task is that one, and
    points of the curve can be of traffic that was also trained on.
    """

    curve_every: int  # rounds
    curve_episodes: int
    curve_seed: int  # first of the seeds of the curve, below EVALUATION_SEED
    episodes: int  # before and after
    seed: int  # first of the seeds before and after

    def __post_init__(self) -> None:
        above("scoring", self, 0, "curve_every", "curve_episodes", "episodes")
        if self.seed < EVALUATION_SEED:
            raise ValueError(
                f"scoring.seed is {self.seed}, must be at least {EVALUATION_SEED}: lower seeds are for tuning"
            )
        if self.curve_seed + self.curve_episodes > EVALUATION_SEED:
            raise ValueError(f"scoring.curve_seed is {self.curve_seed}, its episodes reach {EVALUATION_SEED}")


@dataclass(frozen=True)
class AdaptationConfig:
    """One finetuning run."""

    preset: str  # which preset the values are of, set by `load_adaptation`
    rounds: int
    steps: int  # of a round: times that its rollouts are scored and a part is chosen and repaired
    threads: int  # of torch
    policy_adapter: str
    rollouts: RolloutConfig
    mismatch: MismatchConfig
    select: SelectConfig
    lora: LoraSettings  # of the world model
    actor_lora: LoraSettings
    subunits: SubunitConfig
    fit: FitConfig
    trial: TrialConfig
    scoring: ScoringConfig

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if self.fit.updates < 2 * self.steps:
            raise ValueError(f"fit.updates is {self.fit.updates}, must be at least 2 for each of {self.steps} steps")
        if self.scoring.curve_seed < self.rollouts.train_seeds[1]:
            first, end = self.scoring.curve_seed, self.rollouts.train_seeds[1]
            raise ValueError(f"scoring.curve_seed is {first}, must be at least {end}, where rollouts.train_seeds end")
        low, high = self.rollouts.train_seeds
        if self.trial.episodes > high - low:
            raise ValueError(
                f"trial.episodes is {self.trial.episodes}, must be at most {high - low}, as many as there are seeds in "
                "rollouts.train_seeds"
            )
        most = self.rollouts.decisions // 2 - 1
        if self.mismatch.burn_in > most:
            raise ValueError(
                f"mismatch.burn_in is {self.mismatch.burn_in}, must be at most {most}: two episodes among the "
                f"{self.rollouts.decisions} decisions of a round have to outlive it (rollouts.decisions)"
            )
        if self.fit.length > self.rollouts.source_decisions:
            raise ValueError(
                f"fit.length is {self.fit.length}, must be at most rollouts.source_decisions, "
                f"{self.rollouts.source_decisions}: a window is cut from what was driven"
            )
        self.lora.check("lora")
        self.actor_lora.check("actor_lora")
        if self.policy_adapter not in POLICY_ADAPTERS:
            raise ValueError(f"policy_adapter is '{self.policy_adapter}', must be one of {', '.join(POLICY_ADAPTERS)}")


def load_adaptation(path: Path | None = None, preset: str = "default") -> AdaptationConfig:
    """Config of a finetuning run; `path` None takes the packaged file. Raises ValueError for what is wrong in it."""
    return load_config(AdaptationConfig, path or ADAPTATION_FILE, preset)


def with_steps(config: AdaptationConfig, steps: int) -> AdaptationConfig:
    """The same run over at least `steps` decisions in all, 1 or more: as many whole rounds as that takes."""
    return replace(config, rounds=-(-steps // config.rollouts.decisions))
