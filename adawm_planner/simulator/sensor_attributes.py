"""Attributes of a spawn request (text, with CARLA's names) in, checked sensor configurations out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adawm_planner.simulator.lidar import LidarConfig
from adawm_planner.simulator.render import TopDownCamera


def lidar_config(attributes: Mapping[str, str], mount_height: float) -> LidarConfig:
    """The lidar a request describes, `mount_height` [m] above the ground; unknown attributes are ignored.

    Raises:
        ValueError: a value is not a finite number or out of range.
    """
    given = {name: _number(attributes, name) for name in _LIDAR if name in attributes}
    whole = {name: int(given[name]) for name in ("channels", "points_per_second") if name in given}
    values: dict[str, Any] = dict(given) | whole
    return LidarConfig(mount_height=mount_height, **values)


def camera_config(attributes: Mapping[str, str]) -> TopDownCamera:
    """The camera a request describes: image size [px] and field of view [deg]; unknown attributes are ignored.

    Raises:
        ValueError: a value is not a finite number or out of range.
    """
    found = TopDownCamera()
    width = int(_number(attributes, "image_size_x", found.width))
    height = int(_number(attributes, "image_size_y", found.height))
    return replace(found, width=width, height=height, fov=_number(attributes, "fov", found.fov))


_LIDAR = ("channels", "points_per_second", "range", "rotation_frequency", "upper_fov", "lower_fov")


def _number(attributes: Mapping[str, str], name: str, default: float = 0.0) -> float:
    text = attributes.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"attribute {name} is '{text}', must be a number") from None
    if not math.isfinite(value):
        raise ValueError(f"attribute {name} is '{text}', must be finite")
    return value
