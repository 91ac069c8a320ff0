"""Spawning and destroying follow the real bridge's rules for what exists."""

from __future__ import annotations

import cmath
import math

import pytest

from adawm_planner.simulator import actors
from adawm_planner.simulator.actors import EGO_ID, ActorRegistry, Mount
from adawm_planner.simulator.sensor_attributes import camera_config, lidar_config


def paths(registry: ActorRegistry) -> list[str]:
    return [registry.path(one) for one in registry.actors.values()]


def test_the_full_set_has_the_stand_in_minimum() -> None:
    registry = ActorRegistry("hero", all_sensors=True)
    registry.activate()
    found = paths(registry)
    assert found[:5] == ["traffic_lights", "objects", "actor_list", "markers", "map"]
    assert found[5] == "hero"
    for name in ("odometry", "objects", "speedometer", "collision", "lane_invasion", "imu", "gnss", "tf", "control"):
        assert f"hero/{name}" in found
    assert "hero/rgb_view/control" in found
    assert len(set(found)) == len(found)


def test_without_sensors_only_the_ego_is_there() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    registry.activate()
    assert paths(registry) == ["hero"]


def test_spawned_objects_become_active_at_the_next_tick() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    registry.activate()
    made = registry.spawn(actors.ODOM, "odometry", EGO_ID, Mount(), {})
    assert made >= actors.PSEUDO_IDS_FROM and made not in registry.actors
    new, gone = registry.activate()
    assert [one.id for one in new] == [made] and gone == []
    assert registry.path(registry.actors[made]) == "hero/odometry"


def test_what_is_there_already_is_handed_over() -> None:
    registry = ActorRegistry("hero", all_sensors=True)
    registry.activate()
    first = registry.spawn(actors.LIDAR, "lidar", EGO_ID, Mount(), {})
    assert first in registry.actors
    assert registry.activate() == ([], [])


def test_the_ego_is_adopted_and_survives_its_destruction() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    registry.activate()
    assert registry.spawn("vehicle.lincoln.mkz", "hero", 0, Mount(), {}) == EGO_ID
    child = registry.spawn(actors.IMU, "imu", EGO_ID, Mount(), {})
    registry.activate()
    assert set(registry.destroy(EGO_ID)) == {EGO_ID, child}
    assert registry.activate() == ([], [child])
    assert EGO_ID in registry.actors


def test_destroying_a_parent_destroys_its_children() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    camera = registry.spawn(actors.CAMERA, "view", EGO_ID, Mount(), {})
    control = registry.spawn(actors.CONTROL, "control", camera, Mount(), {})
    registry.activate()
    assert set(registry.destroy(camera)) == {camera, control}


def test_what_was_not_spawned_through_the_bridge_is_not_destroyed() -> None:
    registry = ActorRegistry("hero", all_sensors=True)
    new, _ = registry.activate()
    assert registry.destroy(new[-1].id) == []
    assert registry.destroy(424242) == []


def test_destroyed_before_the_tick_never_appears() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    registry.activate()
    made = registry.spawn(actors.IMU, "imu", EGO_ID, Mount(), {})
    registry.destroy(made)
    assert registry.activate() == ([], [])


@pytest.mark.parametrize(
    ("kind", "role", "parent", "reason"),
    [
        ("sensor.lidar.ray_cast_semantic", "s", EGO_ID, "does not exist here"),
        (actors.IMU, "imu", 0, "must be attached"),
        (actors.IMU, "imu", 555, "Parent actor 555 not found"),
        ("vehicle.tesla.model3", "other", 0, "one ego"),
        ("vehicle.tesla.model3", "hero", 3, "cannot be attached"),
    ],
)
def test_impossible_requests_are_refused(kind: str, role: str, parent: int, reason: str) -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    with pytest.raises(ValueError, match=reason):
        registry.spawn(kind, role, parent, Mount(), {})


def test_blueprints_filter_and_sort() -> None:
    assert actors.blueprints("") == sorted(actors.BLUEPRINTS)
    assert actors.blueprints("sensor.other.*") == sorted(
        [actors.IMU, actors.GNSS, actors.COLLISION, actors.LANE_INVASION]
    )
    assert actors.blueprints("walker.*") == []


def test_attributes_shape_the_sensor() -> None:
    camera = camera_config({"image_size_x": "320", "image_size_y": "240", "fov": "60.0", "gamma": "2.2"})
    assert (camera.width, camera.height, camera.fov) == (320, 240, 60.0)
    lidar = lidar_config({"channels": "16", "range": "30", "noise_stddev": "0.0"}, 1.8)
    assert (lidar.channels, lidar.range, lidar.mount_height) == (16, 30.0, 1.8)
    assert lidar.points_per_second == 320_000


@pytest.mark.parametrize(
    ("kind", "attributes", "reason"),
    [
        (actors.CAMERA, {"fov": "wide"}, "fov is 'wide'"),
        (actors.CAMERA, {"image_size_x": "99999"}, "99999"),
        (actors.CAMERA, {"image_size_x": "inf"}, "image_size_x is 'inf', must be finite"),
        (actors.LIDAR, {"channels": "0"}, "channels is 0"),
        (actors.LIDAR, {"channels": "inf"}, "channels is 'inf', must be finite"),
        (actors.LIDAR, {"range": "nan"}, "range is 'nan', must be finite"),
        (actors.LIDAR, {"points_per_second": "1e15"}, "must be at most 1000000 points a turn"),
        (actors.LIDAR, {}, "mount_height"),
    ],
)
def test_wrong_attributes_are_refused_when_spawning(kind: str, attributes: dict[str, str], reason: str) -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    with pytest.raises(ValueError, match=reason):
        registry.spawn(kind, "x", EGO_ID, Mount((0.0, 0.0, 2.0)) if attributes else Mount(), attributes)


def rotation(roll: float = 0.0, pitch: float = 0.0, yaw: float = 0.0) -> tuple[float, float, float, float]:
    """Quaternion x, y, z, w of fixed-axis angles [rad]."""
    half = [cmath.exp(0.5j * angle) for angle in (roll, pitch, yaw)]
    (cr, sr), (cp, sp), (cy, sy) = ((one.real, one.imag) for one in half)
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )


def test_a_mount_s_yaw_and_tilt_are_its_rotation_s() -> None:
    mount = Mount(rotation=rotation(yaw=-2.5))
    assert (mount.yaw, mount.tilt) == (pytest.approx(-2.5), pytest.approx(0.0, abs=1e-7))
    assert Mount(rotation=rotation(roll=0.3, yaw=1.0)).tilt == pytest.approx(0.3)
    assert Mount(rotation=rotation(pitch=-0.2, yaw=2.0)).tilt == pytest.approx(0.2)


@pytest.mark.parametrize("kind", [actors.LIDAR, actors.IMU])
@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        (Mount((0.0, 0.0, 2.0), rotation(roll=0.1)), "roll and pitch tilt it by 0.100 rad, must be 0"),
        (Mount((0.0, 0.0, 2.0), rotation(pitch=-0.2, yaw=1.0)), "tilt it by 0.200 rad"),
        (Mount((0.0, 0.0, 2.0), (0.0, 0.0, 0.0, 0.0)), "tilt it by nan rad"),
        (Mount((math.nan, 0.0, 2.0)), "must be finite"),
    ],
)
def test_what_is_not_level_is_refused_when_spawning(kind: str, mount: Mount, reason: str) -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    with pytest.raises(ValueError, match=reason):
        registry.spawn(kind, "x", EGO_ID, mount, {})
    assert registry.spawn(kind, "x", EGO_ID, Mount((1.0, -0.5, 2.0), rotation(yaw=3.0)), {})


@pytest.mark.parametrize("position", [(0.0, 1e10, 0.0), (0.0, math.nan, 0.0)])
def test_a_mount_beyond_any_map_is_refused_when_spawning(position: tuple[float, float, float]) -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    with pytest.raises(ValueError, match=r"sensor\.other\.gnss: its position .* at most 1e\+07 m"):
        registry.spawn(actors.GNSS, "x", EGO_ID, Mount(position), {})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("two words", "two words"),
        ("2nd", "must be a letter"),
        ("a/b", "must be a letter"),
        ("lidar", "taken by"),
        ("vehicle_status", "the bridge itself"),
    ],
)
def test_names_that_make_no_topic_or_are_taken_are_refused(name: str, reason: str) -> None:
    registry = ActorRegistry("hero", all_sensors=True)
    with pytest.raises(ValueError, match=reason):
        registry.spawn(actors.IMU, name, EGO_ID, Mount(), {})


@pytest.mark.parametrize(
    ("parent", "name", "reason"),
    [
        (0, "control", "the bridge itself"),
        (actors.CAMERA, "image", "a topic of sensor.camera.rgb"),
        (actors.CAMERA, "camera_info", "a topic of sensor.camera.rgb"),
        (actors.MARKERS, "static", "a topic of sensor.pseudo.markers"),
        (actors.TRAFFIC_LIGHTS, "info", "a topic of sensor.pseudo.traffic_lights"),
        (actors.TRAFFIC_LIGHTS, "status", "a topic of sensor.pseudo.traffic_lights"),
        (actors.CONTROL, "set_transform", "a topic of actor.pseudo.control"),
        (actors.CONTROL, "set_target_velocity", "a topic of actor.pseudo.control"),
    ],
)
def test_names_of_the_topics_that_an_actor_has_below_it_are_refused(parent: int | str, name: str, reason: str) -> None:
    registry = ActorRegistry("hero", all_sensors=True)
    registry.activate()
    above = next((one.id for one in registry.actors.values() if one.type == parent), 0)
    with pytest.raises(ValueError, match=f"id '{name}' is taken by {reason}"):
        registry.spawn(actors.OBJECTS, name, above, Mount(), {})
    assert registry.spawn(actors.OBJECTS, f"my_{name}", above, Mount(), {})


def test_a_withdrawn_actor_takes_what_it_carries_along() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    camera = registry.spawn(actors.CAMERA, "view", EGO_ID, Mount(), {})
    control = registry.spawn(actors.CONTROL, "control", camera, Mount(), {})
    registry.activate()
    registry.withdraw(camera)
    assert not {camera, control} & registry.actors.keys()
    assert registry.destroy(camera) == [] and registry.activate() == ([], [])


def test_a_sensor_without_a_name_gets_one_that_makes_a_topic() -> None:
    registry = ActorRegistry("hero", all_sensors=False)
    made = registry.spawn(actors.IMU, "", EGO_ID, Mount(), {})
    registry.activate()
    assert registry.actors[made].role == f"id_{made}"


def test_a_destroyed_camera_takes_its_control_with_it() -> None:
    registry = ActorRegistry("hero", all_sensors=True)
    registry.activate()
    camera = registry.spawn(actors.CAMERA, "rgb_view", EGO_ID, Mount(), {})
    (control,) = [one.id for one in registry.actors.values() if one.parent == camera]
    assert registry.destroy(camera) == [camera, control]
    assert set(registry.activate()[1]) == {camera, control}
    assert "hero/odometry" in paths(registry)
