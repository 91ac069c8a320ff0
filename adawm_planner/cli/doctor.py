"""`adawm doctor`: looks at this installation and says what is missing or wrong, and what to do about it.

Each check of the installation is a function that returns one Check; what is wrong on a live graph is found by
diagnosis/. Together they become a table, or JSON. Imports only click and rich, since everything else may be missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from xml.etree import ElementTree

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adawm_planner import paths
from adawm_planner.cli.main import LIBRARIES_FIX, NO_LIBRARY
from adawm_planner.cli.options import FiniteRange, json_option
from adawm_planner.config.checks import NAME_RULE, is_name
from adawm_planner.diagnosis.check import Check
from adawm_planner.diagnosis.versions import TESTED, judge_interfaces, judge_versions, known_hashes
from adawm_planner.processes import HIGHEST_DOMAIN_ID, is_domain
from adawm_planner.result_file import write_json

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)
INTERFACES = {
    "adawm_msgs": "Experience",
    "carla_msgs": "CarlaEgoVehicleControl",
    "carla_waypoint_types": "CarlaWaypoint",
    "derived_object_msgs": "ObjectArray",
    "tf2_msgs": "TFMessage",
}
"""Message packages, and a type of each that is imported."""

IMPORT_INTERFACES = """
import importlib, sys
for name in sys.argv[1:]:
    package, kind = name.split(".")
    meta = type(getattr(importlib.import_module(package + ".msg"), kind))
    meta.__import_type_support__()  # a library that cannot be loaded may be passed over in silence
    if meta._TYPE_SUPPORT is None:
        sys.exit(package + ": its type support cannot be loaded")
print("all importable")
"""
MODEL_FILES = ("config.yaml", "weights.safetensors", "planner.onnx", "imagine.onnx")
UNFINISHED = "export.unfinished"
PROBE_TIMEOUT_S = 60.0


def run() -> list[Check]:
    """All checks of the installation, in the order in which their fixes are best applied."""
    return [check() for check in CHECKS]


@click.command()
@click.option("--graph", is_flag=True, help="Also listen to the running ROS graph: who publishes what, time, frames.")
@click.option("--role-name", default="ego_vehicle", show_default=True, help="Whose topics to look for.")
@click.option("--namespace", default="", help="Of the stack's nodes, as the launch files take it.  [default: none]")
@click.option(
    "--seconds",
    type=FiniteRange(0.5, 600.0),
    default=3.0,
    show_default=True,
    help="How long to listen to the graph [s]; signs are judged only while the vehicle turns.",
)
@json_option
def doctor(graph: bool, role_name: str, namespace: str, seconds: float, json_file: Path | None) -> None:
    """Say what is missing or wrong in this installation, and on the running ROS graph."""
    if not is_name(role_name):
        raise click.BadParameter(f"'{role_name}' {NAME_RULE}", param_hint="--role-name")
    space = namespace.strip("/")
    if space and not all(map(is_name, space.split("/"))):
        raise click.BadParameter(f"'{namespace}': each part {NAME_RULE}", param_hint="--namespace")
    checks = run() + versions() + (on_graph(role_name, seconds, space) if graph else [])
    Console().print(table(checks))
    found = [{**asdict(one), "level": one.level} for one in checks]
    write_json(json_file, {"schema": "adawm.doctor/1", "checks": found})
    wrong = [f"{one.name} {one.subject}".strip() for one in checks if one.level == "error"]
    if wrong:
        raise click.ClickException(f"{len(wrong)} of {len(checks)} checks failed: {', '.join(wrong)}")


def versions() -> list[Check]:
    """The version matrix: what is installed, and whether the tests ran with it."""
    return judge_versions(installed_versions()) + judge_interfaces(installed_hashes())


def on_graph(role_name: str, seconds: float, namespace: str) -> list[Check]:
    """What is wrong on the running graph, looked at by a process that may import ROS."""
    code = "from adawm_planner.ros.graph_check import main; main()"
    probe = _probe(code, role_name, str(seconds), namespace, timeout_s=PROBE_TIMEOUT_S + seconds)
    if not probe.ok:
        return [Check("ROS graph", False, probe.text, "a ROS environment", "source scripts/ros_env.sh")]
    return [Check(**one) for one in json.loads(probe.text)]


def table(checks: list[Check]) -> Table:
    """The checks for people; what is wrong comes with what to do."""
    out = Table("")
    for heading in ("check", "found", "what to do"):
        out.add_column(heading, overflow="fold")  # a long topic or path stays readable
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for one in checks:
        advice = "" if one.ok else f"{one.fix} (expected: {one.expected})"
        name = f"{one.name}: {one.subject}" if one.subject else one.name
        # Text: brackets are no markup.
        out.add_row(Text(one.level, colours[one.level]), Text(name), Text(one.found), Text(advice))
    return out


def installation_table() -> str:
    """CHECKS as a Markdown table, for docs/doctor.md."""
    rows = ["| check | looks at |", "|---|---|"]
    return "\n".join(rows + [f"| `{check.__name__}` | {(check.__doc__ or '').rstrip('.')} |" for check in CHECKS])


def python_version() -> Check:
    """The interpreter's version."""
    ok = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    return Check("python", ok, platform.python_version(), "3.10 to 3.12", "make clean setup PYTHON=python3.11")


def compiler() -> Check:
    """A C++ compiler; needed only to build interfaces."""
    words = os.environ.get("CXX", "").split() or ["c++"]  # as in CXX="ccache g++"
    return _program("C++ compiler", words[0], "apt-get install g++, or point CXX at another compiler")


def cmake() -> Check:
    """CMake; needed only to build interfaces."""
    return _program("cmake", "cmake", "apt-get install cmake")


def rclpy() -> Check:
    """ROS 2's Python client, imported in a process of its own, since a broken one can end the process."""
    where = os.environ.get("ROS_DISTRO", "wheels")
    found = _probe("import rclpy; print(rclpy.__file__)")
    fix = "make setup, then source scripts/ros_env.sh; or source your ROS 2 first"
    return Check("rclpy", found.ok, f"{where}: {found.text}", "importable", fix)


def interfaces() -> Check:
    """The message packages, a type of each imported with its type support."""
    missing = [name for name in INTERFACES if util.find_spec(name) is None]
    fix = "make setup, then source scripts/ros_env.sh"
    expected = ", ".join(INTERFACES)
    if missing:
        return Check("interfaces", False, f"missing: {', '.join(missing)}", expected, fix)
    found = _probe(IMPORT_INTERFACES, *(f"{package}.{kind}" for package, kind in INTERFACES.items()))
    return Check("interfaces", found.ok, found.text, expected, fix)


def domain() -> Check:
    """ROS_DOMAIN_ID: a number that DDS can use, and not silently shared with the neighbours."""
    value = os.environ.get("ROS_DOMAIN_ID", "")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    found = f"{value or '0 (not set)'}, discovery range {reach}"
    fix = "export ROS_DOMAIN_ID=<number>; vehicle and planner need the same, other projects another"
    return Check("ROS domain", is_domain(value), found, f"0 to {HIGHEST_DOMAIN_ID}", fix)


def sumo() -> Check:
    """libsumo, and netconvert of the same installation."""
    library = _probe("import libsumo; print(libsumo.getVersion()[1])")
    program = paths.netconvert()
    found = f"libsumo: {library.text}; netconvert: {program or 'missing'}"
    fix = LIBRARIES_FIX if NO_LIBRARY in library.text else f"{paths.install_extra('sim')} (or make setup)"
    return Check("SUMO", library.ok and program is not None, found, "libsumo and netconvert", fix, required=False)


def carla() -> Check:
    """The carla wheel, which reads OpenDRIVE; no server is needed."""
    found = _probe("import carla; from importlib import metadata; print(metadata.version('carla'))")
    fix = f"{paths.install_extra('sim')}; without it the drivable area comes from the route alone"
    return Check("carla wheel", found.ok, found.text, "0.9.16", fix, required=False)


def onnxruntime() -> Check:
    """onnxruntime and what it can run on."""
    found = _probe("import onnxruntime as o; print(o.__version__, ', '.join(o.get_available_providers()))")
    fix = (
        "make setup; for CUDA or TensorRT instead of it: pip uninstall -y onnxruntime onnxruntime-gpu, "
        "then pip install onnxruntime-gpu"
    )
    return Check("onnxruntime", found.ok, found.text, "CPUExecutionProvider at least", fix)


def torch() -> Check:
    """torch; needed only to train and adapt."""
    version = _version("torch")
    fix = f"{paths.install_extra('train')} (or make setup)"
    return Check("torch", version is not None, version or "missing", "2.13.0, for training only", fix, required=False)


def model() -> Check:
    """The base model's files, with the start of each digest."""
    fix = "git checkout models/base, or adawm pretrain and adawm export --overwrite"
    try:
        folder = paths.default_model_dir()
    except FileNotFoundError as error:
        return Check("base model", False, str(error), ", ".join(MODEL_FILES), fix)
    found = [f"{name} {_digest(folder / name)}" for name in MODEL_FILES if (folder / name).is_file()]
    text = ", ".join(found) or f"nothing in {folder}"
    unfinished = (folder / UNFINISHED).exists()
    if unfinished:
        text = f"an export into {folder} was interrupted"
    return Check("base model", len(found) == len(MODEL_FILES) and not unfinished, text, ", ".join(MODEL_FILES), fix)


CHECKS: tuple[Callable[[], Check], ...] = (
    python_version,
    compiler,
    cmake,
    rclpy,
    interfaces,
    domain,
    sumo,
    carla,
    onnxruntime,
    torch,
    model,
)


@dataclass(frozen=True)
class _Probe:
    """Whether a probe ran, and the last line it printed."""

    ok: bool
    text: str


def _probe(code: str, *arguments: str, timeout_s: float = PROBE_TIMEOUT_S) -> _Probe:
    """Run code in another interpreter and keep its last line."""
    command = [sys.executable, "-c", code, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return _Probe(False, f"no answer within {timeout_s:.0f} s")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return _Probe(done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}")


def installed_versions() -> dict[str, str]:
    """Version of every part of the matrix that is installed."""
    found = {name: _version(name) or _ros_version(name) for name in TESTED}
    found["python"] = platform.python_version()
    rmw = _probe("import rclpy.utilities as u; print(u.get_rmw_implementation_identifier())")
    found["rmw"] = f"{rmw.text} {_ros_version(rmw.text)}".strip() if rmw.ok else ""
    return {name: version for name, version in found.items() if version}


def installed_hashes() -> dict[str, str]:
    """Type -> REP-2011 hash of the installed interfaces; none where the distribution describes no types."""
    found: dict[str, str] = {}
    for name in known_hashes():
        package, kind, type_name = name.split("/")
        file = _shared(f"{package}/{kind}/{type_name}.json")
        if file is not None:
            described = json.loads(file.read_text())["type_hashes"]
            found |= {one["type_name"]: one["hash_string"] for one in described if one["type_name"] == name}
    return found


def _ros_version(package: str) -> str:
    """Version that a ROS package's manifest tells, empty where it is not installed."""
    manifest = _shared(f"{package}/package.xml")
    return "" if manifest is None else (ElementTree.parse(manifest).findtext("version") or "").strip()


def _shared(file: str) -> Path | None:
    """The first of the sourced prefixes' share/`file` that is there."""
    prefixes = [Path(one) for one in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if one]
    return next((one / "share" / file for one in prefixes if (one / "share" / file).is_file()), None)


def _program(name: str, program: str, fix: str) -> Check:
    """Whether a program of the system is there."""
    where = shutil.which(program)
    return Check(name, where is not None, where or "missing", program, fix, required=False)


def _version(distribution: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _digest(file: Path) -> str:
    """First twelve digits of a file's sha256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
