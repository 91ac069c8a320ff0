"""Every size, clock and feature index that two stages must agree on, in one place.

Lengths are metres, times seconds, angles radians unless a name says otherwise. Axis letters used in
shape comments throughout: B batch, T time, K imagination step, C channel, H height, W width, S state
feature, A action, D deterministic units, G latent groups, N classes per group.
"""

from typing import Final

FRAME_S: Final = 0.05
"""Period of one bridge frame [s]; one command leaves the planner per frame."""

FRAMES_PER_DECISION: Final = 4
"""Bridge frames per decision of the policy: 0.2 s, so that 15 imagined steps see 3 s ahead."""

DECISION_S: Final = FRAME_S * FRAMES_PER_DECISION
"""Period of one decision of the policy [s]."""

BEV_CHANNELS: Final = ("drivable", "route", "vehicles", "vehicles_in_1s", "vehicles_in_2s")
"""Meaning of each BEV channel, in order; the vehicle channels hold constant-velocity footprints."""

BEV_SIZE: Final = 32
"""Height and width of the BEV raster [cells]."""

BEV_CELL_M: Final = 2.5
"""Edge of one BEV cell [m]; the raster spans 80 m, the ego at its centre, x forward is up."""

STATE_FEATURES: Final = (
    "speed",  # forward speed / 10 m/s
    "acceleration",  # longitudinal acceleration / 4 m/s2
    "yaw_rate",  # left positive / 1 rad/s
    "lateral_deviation",  # left of the route positive / 2 m
    "heading_error",  # left of the route positive / 0.5 rad
    "distance_to_bend",  # along the route to the next bend, clipped to 40 m, / 40 m
    "bend_progress",  # metres driven since the last bend began, clipped to 40 m, / 40 m
    "distance_to_goal",  # along the route, clipped to 60 m, / 60 m
    "curvature_now",  # of the route, left positive / 0.2 1/m
    "curvature_10m_ahead",  # of the route, left positive / 0.2 1/m
    "last_acceleration",  # target of the previous decision / 4 m/s2
)
"""Meaning and unit of each entry of the state vector, in order."""

BEV_SHAPE: Final = (len(BEV_CHANNELS), BEV_SIZE, BEV_SIZE)
STATE_SIZE: Final = len(STATE_FEATURES)

STATE_LIMIT: Final = 5.0
"""Absolute value to which every state feature is clipped."""

ACCELERATION_BINS: Final = (-4.0, -2.0, 0.0, 1.2, 2.5)
"""Target accelerations the policy chooses from [m/s2]."""

ACTION_COUNT: Final = len(ACCELERATION_BINS)
