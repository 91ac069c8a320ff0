#!/usr/bin/env bash
# Runs a command in the environment of scripts/ros_env.sh: scripts/with_ros.sh COMMAND [ARGUMENT...]
# It runs on this checkout: a copy that colcon once installed in the workspace may be older.
source "$(dirname "${BASH_SOURCE[0]}")/ros_env.sh"
PYTHONPATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "$@"
