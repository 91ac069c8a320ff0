"""What the pretraining pipeline does, stage by stage.

One dataclass per stage, in the order in which the stages run; the values come from `pretraining.yaml`
through `config.presets`.
"""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.config.checks import above, not_negative, share
from adawm_planner.config.policy import PolicyConfig
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.config.world_model import WorldModelConfig


@dataclass(frozen=True)
class CollectionConfig:
    """Stage 1: episodes driven by somebody, labelled by the expert."""

    task: str
    vehicle: str
    workers: int  # processes; 0 runs in this one
    first_decisions: int  # in round 0: expert with perturbations, blind and random drivers
    rounds: int  # further rounds, driven by the clone (DAgger)
    round_decisions: int
    at_line: float  # share of the episodes that start standing at the line
    bad_drivers: float  # share of the episodes of round 0 driven by the blind or random driver
    later_bad_drivers: float  # the same of all other rounds: crashes must never become rare in the data
    noise: float  # chance per decision that a random action begins
    noise_decisions: int  # longest a random action is held
    noisy_episodes: float  # share of the episodes with such noise
    validation: float  # share of the episodes held out, from seeds of their own
    train_seeds: tuple[int, int]  # [from, to)
    validation_seeds: tuple[int, int]  # [from, to)

    def __post_init__(self) -> None:
        above("collection", self, 0, "first_decisions", "round_decisions", "noise_decisions")
        not_negative("collection", self, "workers", "rounds")
        share("collection", self, "at_line", "bad_drivers", "later_bad_drivers", "noise", "noisy_episodes")
        if not 0.0 < self.validation < 1.0:
            raise ValueError(
                f"collection.validation is {self.validation}, must be above 0 and below 1: episodes are needed to "
                "train on and to stop by"
            )
        for name in ("train_seeds", "validation_seeds"):
            low, high = getattr(self, name)
            if not 0 <= low < high <= EVALUATION_SEED:
                raise ValueError(f"collection.{name} is [{low}, {high}), must lie in [0, {EVALUATION_SEED})")
        (low, high), (other_low, other_high) = self.train_seeds, self.validation_seeds
        if low < other_high and other_low < high:
            raise ValueError("collection.train_seeds and collection.validation_seeds overlap")


@dataclass(frozen=True)
class CloningConfig:
    """Stage 2: encoder and a small head cloned from the expert's labels."""

    round_updates: int  # after each DAgger round
    final_updates: int  # after the last round
    minutes: float  # limit of each call
    batch: int
    learning_rate: float
    weight_decay: float
    reconstruction: float  # weight of the auxiliary BEV reconstruction
    hazard: float  # weight of the auxiliary prediction of a crash ahead
    validate_every: int
    patience: int  # validations without improvement before the stop

    def __post_init__(self) -> None:
        above("cloning", self, 0, "round_updates", "final_updates", "minutes", "batch", "learning_rate")
        above("cloning", self, 0, "validate_every", "patience")
        not_negative("cloning", self, "weight_decay", "reconstruction", "hazard")


@dataclass(frozen=True)
class DynamicsConfig:
    """Stage 3: recurrent model and heads on the frozen encoder's embeddings."""

    updates: int
    minutes: float
    batch: int  # B
    length: int  # T
    learning_rate: float
    gradient_clip: float
    kl_dynamics: float
    kl_representation: float
    free_nats: float
    image_samples: int  # latents per update that the BEV decoder sees
    image_weight: float
    embedding_weight: float
    state_weight: float
    label_weight: float
    reward_weight: float
    validate_every: int
    patience: int

    def __post_init__(self) -> None:
        above("dynamics", self, 0, "updates", "minutes", "batch", "length", "learning_rate", "gradient_clip")
        above("dynamics", self, 0, "validate_every", "patience", "image_samples")
        not_negative("dynamics", self, "kl_dynamics", "kl_representation", "free_nats", "image_weight")
        not_negative("dynamics", self, "embedding_weight", "state_weight", "label_weight", "reward_weight")
        if self.image_samples > self.decisions:
            raise ValueError(
                f"dynamics.image_samples is {self.image_samples}, must be at most {self.decisions}, dynamics.batch "
                "times dynamics.length: they are drawn from the decisions of a batch"
            )

    @property
    def decisions(self) -> int:
        """In one batch, B * T."""
        return self.batch * self.length


@dataclass(frozen=True)
class ImaginationConfig:
    """Stage 4: the actor cloned on latents, then actor-critic by imagination with fresh data."""

    clone_updates: int
    clone_rate: float  # learning rate of the clone
    warmup_updates: int  # of the critic alone
    rounds: int  # of fresh data from the policy itself
    round_decisions: int
    round_updates: int  # of actor and critic, per round
    dynamics_every: int  # policy updates per update of the world model
    minutes: float  # limit of all rounds
    starts: int  # imagined rollouts per update
    horizon: int  # K, imagined decisions
    discount: float
    trace: float  # lambda of the returns
    learning_rate: float
    critic_rate: float
    dynamics_rate: float
    entropy: float
    clone_weight: float  # of the expert's labels beside the policy gradient
    advantage_clip: float  # in running root mean squares of the advantages
    slow_rate: float  # of the slow critic towards the critic, per update
    fresh: float  # share of each batch drawn from the newest rounds
    score_episodes: int  # greedy episodes on validation seeds after each round; the best round is kept

    def __post_init__(self) -> None:
        above("imagination", self, 0, "starts", "horizon", "learning_rate", "critic_rate", "advantage_clip")
        above("imagination", self, 0, "round_decisions", "minutes", "dynamics_rate", "score_episodes", "dynamics_every")
        above("imagination", self, 0, "clone_rate")
        not_negative("imagination", self, "clone_updates", "warmup_updates", "rounds", "round_updates")
        not_negative("imagination", self, "entropy", "clone_weight")
        share("imagination", self, "discount", "trace", "slow_rate", "fresh")


@dataclass(frozen=True)
class PretrainingConfig:
    """The whole pipeline."""

    preset: str  # name of the patch that was applied
    seed: int
    threads: int  # of torch in the training process
    checkpoint_every: int  # updates
    world_model: WorldModelConfig
    policy: PolicyConfig
    collection: CollectionConfig
    cloning: CloningConfig
    dynamics: DynamicsConfig
    imagination: ImaginationConfig

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("threads", 1), ("checkpoint_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")
        if self.imagination.starts > self.dynamics.decisions:
            raise ValueError(
                f"imagination.starts is {self.imagination.starts}, must be at most {self.dynamics.decisions}, "
                "dynamics.batch times dynamics.length: they are drawn from the decisions of a batch"
            )
        low, high = self.collection.validation_seeds
        if self.imagination.score_episodes > high - low:
            raise ValueError(
                f"imagination.score_episodes is {self.imagination.score_episodes}, must be at most {high - low}, the "
                "number of collection.validation_seeds: the episodes that choose a round have seeds of their own"
            )
