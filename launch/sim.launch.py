"""The planner in SUMO traffic: the simulator bridge speaks carla_ros_bridge's topics.

ros2 launch adawm_planner sim.launch.py task:=right_turn_moderate episodes:=20 seed:=5000

With the finetuner, whose adapters the planner then trusts (docs/finetuning.md says how to make key and rollouts):
ros2 launch adawm_planner sim.launch.py finetuner:=true signing_key:=keys/finetuner.pem source_dir:=data/adaptation \\
    adapters.store:=data/adapters adapters.trust:=keys/finetuner.pub
"""

from launch import LaunchDescription
from launch.substitutions import IfElseSubstitution, LaunchConfiguration

from adawm_planner.ros.launch_actions import VehicleSize, arguments, drivers, guards, rviz, sidecars
from adawm_planner.ros.node_table import STACKS


def generate_launch_description() -> LaunchDescription:
    """Simulator bridge, planner and gate, on request the finetuner.

    `ros2 launch adawm_planner sim.launch.py --show-args` lists the arguments.
    """
    nodes = STACKS["sim"]
    size = {"vehicle.length_m": VehicleSize("length"), "vehicle.width_m": VehicleSize("width")}
    # The world waits for its clients and, unless it is paced, stands still meanwhile; it starts its episodes where it
    # likes.
    wait_s = IfElseSubstitution(LaunchConfiguration("realtime"), if_value="0.2", else_value="0.8")
    gate = guards(nodes, await_planner=True, release_on_new_episode=True, wait_s=wait_s)
    started = [*drivers(nodes), *gate, *sidecars(nodes), *rviz()]
    return LaunchDescription([*arguments(nodes, use_gate=True, **size), *started])
