"""How a scene becomes an observation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ObservationConfig:
    """Ranges of the observation; sizes and channels are fixed in `dims`."""

    route_ahead_m: float = 60.0
    """Length of route drawn into the BEV [m]."""

    object_range_m: float = 70.0
    """Objects farther than this from the ego are not drawn [m]."""

    lane_width_m: float = 3.2
    """Width of the drivable corridor drawn along the route when no map is known [m]."""

    def __post_init__(self) -> None:
        for name in ("route_ahead_m", "object_range_m", "lane_width_m"):
            value = getattr(self, name)
            if not value > 0.0:
                raise ValueError(f"observation.{name} is {value}, must be greater than 0 m")
