"""Episodes of a given outcome."""

from __future__ import annotations

from adawm_planner.data_types import Outcome, RewardTerms
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.evaluation.metrics import Comfort
from adawm_planner.story.events import Drove


def episode(success: bool, seed: int = 0) -> EpisodeResult:
    return EpisodeResult(
        seed=seed,
        outcome=Outcome.SUCCESS if success else Outcome.COLLISION,
        duration_s=10.0,
        frames=200,
        ttc_min_s=1.0,
        route_completion=1.0,
        distance_m=50.0,
        mean_speed_mps=5.0,
        driving_score=100.0,
        reward=RewardTerms(),
        comfort=Comfort(*(0.0,) * len(Comfort.__dataclass_fields__)),
        collision_id=None,
    )


def drove(success: bool, *adapters: str, seed: int = 0, waited: int = 0) -> Drove:
    return Drove(episode(success, seed), adapters, waited)
