#!/usr/bin/env bash
# Runs a command in the environment of scripts/ros_env.sh: scripts/with_ros.sh COMMAND [ARGUMENT...]
source "$(dirname "${BASH_SOURCE[0]}")/ros_env.sh"
exec "$@"
