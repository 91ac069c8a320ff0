"""The planner on a vehicle computer: real time, and every topic can be given another name.

ros2 launch adawm_planner vehicle.launch.py control_topic:=/vehicle/command odometry:=/localization/odometry
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration

from adawm_planner.ros.launch_actions import arguments, guards, node_action, rviz, sidecars
from adawm_planner.ros.node_table import STACKS

INPUTS = ("odometry", "objects", "vehicle_status", "vehicle_info", "waypoints", "collision")
"""Topics below /carla/<role_name> that the planner reads; each is a launch argument."""


def generate_launch_description() -> LaunchDescription:
    """Planner alone, on wall time."""
    nodes = STACKS["vehicle"]
    bridge_names = {name: ["/carla/", LaunchConfiguration("role_name"), f"/{name}"] for name in INPUTS}
    renamed = [
        DeclareLaunchArgument(name, default_value=default, description=f"topic of {name}")
        for name, default in bridge_names.items()
    ]
    remappings = [(default, LaunchConfiguration(name)) for name, default in bridge_names.items()]
    return LaunchDescription(
        [
            *arguments(nodes, use_sim_time=False, use_gate=True),
            *renamed,
            *(node_action(node, remappings) for node in nodes),
            *guards(nodes, remappings),
            *sidecars(nodes),
            *rviz(),
        ]
    )
