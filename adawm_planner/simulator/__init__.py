"""A driving world on SUMO traffic; importing it registers the Gymnasium environments."""

from __future__ import annotations

try:
    import gymnasium
except ImportError:
    pass
else:
    for _task in (
        "right_turn_moderate",
        "right_turn_dense",
        "left_turn_moderate",
        "left_turn_dense",
        "roundabout_moderate",
    ):
        _name = f"AdaWM/{''.join(word.capitalize() for word in _task.split('_'))}-v0"
        if _name not in gymnasium.registry:
            gymnasium.register(_name, "adawm_planner.simulator.env:DrivingEnv", kwargs={"task": _task})
