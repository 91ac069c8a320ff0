# Sets up a shell for running nodes by hand; to be sourced by bash: source scripts/ros_env.sh
# A ROS 2 that is already sourced is kept as the underlay; otherwise the virtual environment is the ROS prefix.
_adawm_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$_adawm_root/.venv/bin/activate"
if [ -z "${ROS_DISTRO:-}" ]; then
  export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
fi
if [ -f "$_adawm_root/ros2_ws/install/local_setup.bash" ]; then
  source "$_adawm_root/ros2_ws/install/local_setup.bash"
fi
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
unset _adawm_root
