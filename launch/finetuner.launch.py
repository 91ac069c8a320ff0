"""The finetuner alone, in real time, on a computer beside the vehicle's.

ros2 launch adawm_planner finetuner.launch.py signing_key:=finetuner.pem source_dir:=data/adaptation vehicle_id:=car-7
"""

from launch import LaunchDescription

from adawm_planner.ros.launch_actions import arguments, beside
from adawm_planner.ros.node_table import SIDECARS


def generate_launch_description() -> LaunchDescription:
    """The finetuner, which is started again when it dies; the launch ends where it refuses its start."""
    return LaunchDescription([*arguments(SIDECARS, use_sim_time=False), *beside()])
