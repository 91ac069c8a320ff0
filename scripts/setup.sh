#!/usr/bin/env bash
# Makes this checkout ready to run: virtual environment, pinned packages, ROS 2, interface packages.
# Usage: scripts/setup.sh drive|story|develop
# (drive: what driving needs; story: training as well, so that it can adapt; develop: tests and lint as well)
# Everything is keyed by content, so a second call only compares hashes. PYTHON names the interpreter to use.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"
WORKSPACE="$ROOT/ros2_ws"
INTERFACES=(adawm_msgs carla_msgs carla_waypoint_types derived_object_msgs tf2_msgs)
LOG="$VENV/setup.log"
SUPPORTED='import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
digest() { sha256sum | cut -c1-64; }
ros_is_sourced() { [ -n "${ROS_DISTRO:-}" ]; }

# The interpreter of the environment: PYTHON, else the first suitable one that runs.
find_python() {
  local candidate needs=$SUPPORTED
  local candidates=(python3.11 python3.12 python3.10 python3)
  if ros_is_sourced; then
    needs+='; import rclpy'
    candidates=(python3 python3.12 python3.10 python3.11)
  fi
  for candidate in ${PYTHON:-"${candidates[@]}"}; do
    if "$candidate" -c "$needs" 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  if [ -n "${PYTHON:-}" ]; then
    fail "PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12 with the venv module${ROS_DISTRO:+ and rclpy of ROS 2 $ROS_DISTRO}"
  elif ros_is_sourced; then
    fail "no Python 3.10-3.12 with the venv module can import rclpy of ROS 2 $ROS_DISTRO (try: apt-get install python3-venv)"
  fi
  fail "no Python 3.10, 3.11 or 3.12 with the venv module found (try: apt-get install python3 python3-venv, or set PYTHON)"
}

# An environment of another ROS 2 than this shell's is somebody's work of minutes, and no mistake of theirs: it stays.
keep_other_ros() {
  if [ "$1" = "${ROS_DISTRO:-wheels}" ]; then return; fi
  local made="ROS 2 $1" now="has ROS 2 ${ROS_DISTRO:-} sourced" same="source ROS 2 $1 first"
  if [ "$1" = wheels ]; then made="ROS 2 from wheels" same="use a shell without a sourced ROS 2"; fi
  if ! ros_is_sourced; then now="has no ROS 2 sourced"; fi
  fail ".venv was made with $made, this shell $now: $same, or remove .venv with 'make clean' to have it made anew"
}

make_environment() {
  local described="$1 ${ROS_DISTRO:-wheels} $ROOT"
  if [ ! -e "$VENV/.unfinished" ] && "$VENV/bin/python" -c "$SUPPORTED" 2>/dev/null; then
    if [ ! -e "$VENV/.made_from" ]; then echo "$described" > "$VENV/.made_from"; fi # somebody's own: kept
    if [ "$(< "$VENV/.made_from")" = "$described" ]; then return; fi
    keep_other_ros "$(sed -E 's#^.* ([a-z]+) /.*$#\1#' "$VENV/.made_from")"
  fi
  say "creating .venv with $1"
  rm -rf "$VENV"
  mkdir "$VENV"
  : > "$VENV/.unfinished" # whoever is interrupted leaves this, and no environment that looks like somebody's own
  local options=()
  if ros_is_sourced; then options+=(--system-site-packages); fi
  "$1" -m venv "${options[@]}" "$VENV" || fail "could not create $VENV (try: apt-get install python3-venv)"
  echo "$described" > "$VENV/.made_from"
  rm "$VENV/.unfinished"
}

# Bytecode is made of what is imported, when it is: of all 18,000 files it takes a minute.
pip_install() {
  if "$VENV/bin/python" -m pip install --quiet --no-input --no-compile --disable-pip-version-check --retries 2 \
      --constraint "$ROOT/requirements/constraints.txt" "$@" >> "$LOG" 2>&1; then
    return
  fi
  if grep -qE 'NewConnectionError|NameResolutionError|Temporary failure|unreachable|ConnectTimeout|refused|ProxyError' "$LOG"; then
    fail "could not download Python packages: no network, or the package index cannot be reached (details: $LOG)"
  fi
  fail "could not install Python packages: $(grep -m1 ERROR "$LOG" || tail -n1 "$LOG") (details: $LOG)"
}

# Packages of the given kind, unless the environment already holds exactly these versions.
install_packages() {
  local kind=$1 extras=sim key done kinds
  key=$(cat "$ROOT"/requirements/*.txt "$ROOT"/setup.{py,cfg} "$ROOT/adawm_planner/__init__.py" "$VENV/.made_from" | digest)
  case "$kind" in # a larger kind holds the smaller ones
    drive) kinds=(drive story develop) ;;
    story) kinds=(story develop) extras=sim,train ;;
    develop) kinds=(develop) extras=sim,train,dev ;;
  esac
  for done in "${kinds[@]}"; do
    if grep -qsx "$key" "$VENV/.$done"; then return; fi
  done
  say "installing Python packages [$extras] (a few minutes the first time)"
  : > "$LOG"
  pip_install setuptools wheel
  local ros=(--requirement "$ROOT/requirements/ros.txt")
  if ros_is_sourced; then ros=(); fi
  pip_install --no-build-isolation "${ros[@]}" --editable "$ROOT[$extras]"
  if ! ros_is_sourced; then "$VENV/bin/python" "$ROOT/scripts/fix_wheel_paths.py" >> "$LOG"; fi
  check_sumo
  echo "$key" > "$VENV/.$kind"
}

# SUMO's wheel brings everything but the libraries of the X Window System and OpenGL, which a server may not have.
check_sumo() {
  local said
  if said=$("$VENV/bin/python" -c 'import libsumo' 2>&1); then return; fi
  fail "SUMO cannot be loaded: ${said##*$'\n'} (try: apt-get install libx11-6 libxext6 libxrender1 libgl1)"
}

# Prefixes that the interface packages are built on; never the workspace's own.
underlay() {
  if ros_is_sourced; then
    tr ':' '\n' <<< "${AMENT_PREFIX_PATH:-}" | grep -vF "$WORKSPACE/install" | paste -sd:
  else
    echo "$VENV"
  fi
}

# The interface packages that no underlay provides.
missing_interfaces() {
  local package prefix
  for package in "${INTERFACES[@]}"; do
    for prefix in ${1//:/ }; do
      if [ -e "$prefix/share/ament_index/resource_index/packages/$package" ]; then continue 2; fi
    done
    echo "$package"
  done
}

check_build_tools() {
  local tool cxx cc
  read -ra cxx <<< "${CXX:-c++}" # may be "ccache g++"
  read -ra cc <<< "${CC:-cc}"
  for tool in cmake make; do
    command -v "$tool" > /dev/null || fail "$tool is missing; it builds the ROS interfaces (try: apt-get install $tool)"
  done
  command -v "${cxx[0]}" > /dev/null || fail "a C++ compiler is missing; it builds the ROS interfaces (try: apt-get install g++)"
  command -v "${cc[0]}" > /dev/null || fail "a C compiler is missing; it builds the ROS interfaces (try: apt-get install gcc)"
}

build_interfaces() {
  local python=$1 prefixes packages key
  prefixes=$(underlay)
  mapfile -t packages < <(missing_interfaces "$prefixes")
  key=$({ cd "$WORKSPACE/src" && find . -type f -print0 | sort -z | xargs -0 sha256sum
          cat "$VENV/.made_from"; echo "$prefixes ${packages[*]}"; cat "$ROOT/requirements/ros.txt"; } | digest)
  if grep -qsx "$key" "$WORKSPACE/install/.interfaces" && [ -e "$WORKSPACE/install/adawm_msgs/share" ]; then return; fi
  if ! ros_is_sourced; then source "$VENV/bin/activate"; python="$VENV/bin/python"; fi
  check_build_tools
  command -v colcon > /dev/null || fail "colcon is missing (try: apt-get install python3-colcon-common-extensions)"
  say "building the ROS interfaces ${packages[*]} (one to three minutes, once)"
  rm -f "$WORKSPACE/install/.interfaces"
  for package in "${INTERFACES[@]}"; do rm -rf "$WORKSPACE"/{build,install}/"$package"; done
  (cd "$WORKSPACE" && AMENT_PREFIX_PATH=$prefixes CMAKE_PREFIX_PATH=$prefixes colcon build --packages-select \
    "${packages[@]}" --parallel-workers 2 --cmake-args "-DPython3_EXECUTABLE=$python" -DBUILD_TESTING=OFF \
    -DCMAKE_BUILD_TYPE=Release --no-warn-unused-cli) > "$VENV/colcon.log" 2>&1 \
    || fail "building the ROS interfaces failed: $(grep -m1 -iE 'error|failed' "$VENV/colcon.log") (details: $VENV/colcon.log)"
  echo "$key" > "$WORKSPACE/install/.interfaces"
}

main() {
  case "${1:-}" in drive | story | develop) ;; *) fail "say what to set up: drive, story or develop" ;; esac
  exec 9< "${BASH_SOURCE[0]}"
  flock 9 # two calls at once wait for each other
  local python
  python=$(find_python)
  # Before anything is downloaded; a later change of the interfaces asks again.
  if [ ! -e "$WORKSPACE/install/.interfaces" ]; then check_build_tools; fi
  make_environment "$python"
  install_packages "$1"
  build_interfaces "$python"
}

main "$@"
