"""The planner in CARLA, through carla_ros_bridge.

ros2 launch adawm_planner carla.launch.py                      # beside a bridge that already runs
ros2 launch adawm_planner carla.launch.py bridge:=true town:=Town03   # starts the bridge, ego and route as well
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import IfElseSubstitution, LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from adawm_planner.ros.launch_actions import arguments, drivers, guards, rviz, sidecars
from adawm_planner.ros.node_table import STACKS

SERVER = {"host": "localhost", "port": "2000", "timeout": "10"}
"""Where CARLA is, as all three packages of the bridge take it."""


def included(package: str, **settings: object) -> IncludeLaunchDescription:
    """Launch file of the same name in one of the bridge's packages; looked for only if it is to run."""
    file = PathJoinSubstitution([FindPackageShare(package), f"{package}.launch.py"])
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file),
        launch_arguments=list(settings.items()),
        condition=IfCondition(LaunchConfiguration("bridge")),
    )


def generate_launch_description() -> LaunchDescription:
    """Planner and gate, on request the finetuner, and carla_ros_bridge with an ego vehicle and its route."""
    nodes, role = STACKS["carla"], LaunchConfiguration("role_name")
    server = {name: LaunchConfiguration(name) for name in SERVER}
    # The bridge started here waits for each command with the world at a stand: a busy machine is no reason to brake.
    bridge = LaunchConfiguration("bridge")
    wait_s = IfElseSubstitution(bridge, if_value="0.8", else_value="0.2")
    return LaunchDescription(
        [
            *arguments(nodes, use_gate=True),
            DeclareLaunchArgument("bridge", default_value="false", description="also start carla_ros_bridge"),
            DeclareLaunchArgument("town", default_value="Town03", description="CARLA map, with bridge:=true"),
            *(DeclareLaunchArgument(name, default_value=value) for name, value in SERVER.items()),
            included(
                "carla_ros_bridge",
                **server,
                town=LaunchConfiguration("town"),
                # The default is a list that launch joins into one text, in which any part of a name matches.
                ego_vehicle_role_name=role,
                synchronous_mode="True",
                synchronous_mode_wait_for_vehicle_control_command="True",
                fixed_delta_seconds="0.05",
            ),
            included("carla_spawn_objects"),
            included("carla_waypoint_publisher", **server, role_name=role),
            *drivers(nodes),
            *guards(nodes, await_planner=bridge, wait_s=wait_s),
            *sidecars(nodes),
            *rviz(),
        ]
    )
