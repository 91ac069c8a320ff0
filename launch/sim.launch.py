"""The planner in SUMO traffic: the simulator bridge speaks carla_ros_bridge's topics.

ros2 launch adawm_planner sim.launch.py task:=right_turn_moderate episodes:=20 seed:=5000

With the finetuner, whose adapters the planner then trusts (docs/finetuning.md says how to make key and rollouts):
ros2 launch adawm_planner sim.launch.py finetuner:=true signing_key:=keys/finetuner.pem source_dir:=data/adaptation \\
    adapters.store:=data/adapters adapters.trust:=keys/finetuner.pub
"""

from launch import LaunchDescription

from adawm_planner.ros.launch_actions import arguments, drivers, guards, rviz, sidecars
from adawm_planner.ros.node_table import STACKS


def generate_launch_description() -> LaunchDescription:
    """Simulator bridge, planner and gate, on request the finetuner.

    `ros2 launch adawm_planner sim.launch.py --show-args` lists the arguments.
    """
    nodes = STACKS["sim"]
    # The world waits for its clients and stands still meanwhile, and starts its episodes where it likes.
    gate = guards(nodes, await_planner=True, release_on_new_episode=True, wait_s=0.8)
    started = [*drivers(nodes), *gate, *sidecars(nodes), *rviz()]
    return LaunchDescription([*arguments(nodes, use_gate=True), *started])
