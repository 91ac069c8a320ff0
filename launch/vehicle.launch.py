"""The planner on a vehicle computer: real time, and every topic below /carla/<role_name> can be given another name.

/carla/world_info, which a vehicle need not have, keeps its name; /carla/status is not read, so that nobody can say
that the world is paused.

ros2 launch adawm_planner vehicle.launch.py control_topic:=/vehicle/command odometry:=/localization/odometry
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration

from adawm_planner.ros.launch_actions import arguments, drivers, guards, rviz, sidecars
from adawm_planner.ros.node_table import STACKS

INPUTS = (
    "odometry",
    "objects",
    "vehicle_status",
    "vehicle_info",
    "waypoints",
    "collision",
    "vehicle_control_manual_override",
)
"""Topics below /carla/<role_name> that planner and gate read; each is a launch argument."""


def generate_launch_description() -> LaunchDescription:
    """Planner and gate on wall time, on request the finetuner."""
    nodes = STACKS["vehicle"]
    bridge_names = {name: ["/carla/", LaunchConfiguration("role_name"), f"/{name}"] for name in INPUTS}
    renamed = [
        DeclareLaunchArgument(name, default_value=default, description=f"topic of {name}")
        for name, default in bridge_names.items()
    ]
    remappings = [(default, LaunchConfiguration(name)) for name, default in bridge_names.items()]
    return LaunchDescription(
        [
            *arguments(nodes, use_sim_time=False, use_gate=True, use_world_status=False),
            *renamed,
            *drivers(nodes, remappings),
            *guards(nodes, remappings),
            *sidecars(nodes),
            *rviz(),
        ]
    )
