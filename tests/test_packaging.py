"""The package installs complete, from a checkout and as a wheel, and finds its files in both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest

import adawm_planner
from adawm_planner import paths
from tests.patience import HANG_S

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "ros2_ws" / "src"
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


def setup_py(*arguments: str) -> str:
    command = [sys.executable, "setup.py", "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_version_is_the_same_everywhere() -> None:
    assert MANIFEST.findtext("version") == adawm_planner.__version__
    assert setup_py("--version").split()[-1] == adawm_planner.__version__


def test_manifest_is_format_3_of_an_ament_python_package() -> None:
    assert MANIFEST.get("format") == "3" and MANIFEST.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / "adawm_planner").is_file()
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["develop"]["script_dir"] == config["install"]["install_scripts"] == "$base/lib/adawm_planner"


def test_workspace_links_to_the_root_and_depends_on_all_it_builds() -> None:
    assert os.readlink(SOURCES / "adawm_planner") == "../.."
    built = {folder.name for folder in SOURCES.iterdir() if not folder.is_symlink()}
    assert built <= {element.text for element in MANIFEST.iter("exec_depend")}
    setup_sh = (ROOT / "scripts" / "setup.sh").read_text()
    listed = re.search(r"^INTERFACES=\((.*)\)$", setup_sh, re.MULTILINE)
    assert listed is not None and set(listed[1].split()) == built


def test_packages_of_messages_that_the_code_imports_are_declared() -> None:
    imported = {
        name
        for file in (ROOT / "adawm_planner" / "ros").glob("*.py")
        for name in re.findall(r"^from (\w+)\.(?:msg|srv) import", file.read_text(), re.MULTILINE)
    }
    assert imported and imported <= {element.text for element in MANIFEST.iter("exec_depend")}


@pytest.mark.parametrize("entry", metadata.distribution("adawm_planner").entry_points.select(group="console_scripts"))
def test_entry_point_names_a_function(entry: metadata.EntryPoint) -> None:
    module, function = entry.value.split(":")
    source = ROOT / (module.replace(".", "/") + ".py")
    assert re.search(rf"^def {function}\(", source.read_text(), re.MULTILINE)


def test_every_requirement_is_pinned() -> None:
    pins = (ROOT / "requirements" / "constraints.txt").read_text().lower().replace("_", "-")
    required = metadata.requires("adawm_planner") or []
    names = {re.split(r"[ =<>;\[]", line)[0].lower().replace("_", "-") for line in required}
    unpinned = {name for name in names if not re.search(rf"^{re.escape(name)}==", pins, re.MULTILINE)}
    assert unpinned <= {"onnxruntime-gpu"}  # replaces onnxruntime; its version follows the machine's CUDA


def installed_files(prefix: Path) -> set[str]:
    """Install without dependencies as colcon does, all of it below `prefix`; paths relative to it."""
    build = ["build", "--build-base", str(prefix / "build"), "egg_info", "--egg-base", str(prefix)]
    setup_py(
        *build,
        "install",
        "--prefix",
        str(prefix / "install"),
        "--single-version-externally-managed",
        "--record",
        str(prefix / "record"),
    )
    strays = [line for line in (prefix / "record").read_text().splitlines() if not line.startswith(str(prefix))]
    assert not strays
    return {str(file.relative_to(prefix / "install")) for file in (prefix / "install").rglob("*") if file.is_file()}


@pytest.mark.slow
def test_an_install_holds_all_data_and_finds_it(tmp_path: Path) -> None:
    files = installed_files(tmp_path)
    tracked = [*ROOT.glob("models/base/*"), *ROOT.glob("launch/*.py"), *ROOT.glob("launch/params/*")]
    assert {f"share/adawm_planner/{file.relative_to(ROOT)}" for file in tracked} <= files
    assert "share/ament_index/resource_index/packages/adawm_planner" in files
    data = [file for suffix in ("yaml", "xml", "json") for file in (ROOT / "adawm_planner").rglob(f"*.{suffix}")]
    assert data and all(any(name.endswith(str(file.relative_to(ROOT))) for name in files) for file in data)
    assert not [name for name in files if "ros2_ws" in name or "tests/" in name]
    library = next(tmp_path.rglob("install/**/adawm_planner/paths.py")).parents[1]
    code = "from adawm_planner import paths; print(paths.models_dir())"
    environment = {**os.environ, "PYTHONPATH": str(library)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "install" / "share" / "adawm_planner" / "models"


def test_a_checkout_finds_its_own_files() -> None:
    assert paths.share_dir() == ROOT
    assert paths.launch_dir() == ROOT / "launch" and paths.launch_dir().is_dir()


def test_files_are_found_below_a_sourced_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share = tmp_path / "prefix" / "share" / "adawm_planner"
    share.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "lib" / "adawm_planner" / "paths.py"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'prefix'}")
    with pytest.raises(FileNotFoundError, match="adawm_planner"):
        paths.share_dir()
    (share / "package.xml").touch()
    assert paths.models_dir() == share / "models"


def test_set_up_says_in_one_line_what_is_wrong_with_the_interpreter(tmp_path: Path) -> None:
    too_old = tmp_path / "python3"
    too_old.write_text("#!/bin/sh\nexit 1\n")
    too_old.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(too_old)}
    command = [ROOT / "scripts" / "setup.sh", "drive"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "is not a working Python 3.10, 3.11 or 3.12" in done.stderr


def small_checkout(folder: Path) -> Path:
    """A folder with the set-up and what it reads, and an interpreter that only notes what it is asked for."""
    for name in ("scripts/setup.sh", "requirements", "setup.py", "setup.cfg", "adawm_planner/__init__.py"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    (folder / "ros2_ws" / "src").mkdir(parents=True)
    python = folder / "python"
    python.write_text(
        """#!/bin/sh
echo "$*" >> "$NOTES"
case "$1 $2" in
  "-c import sys; print(sys.executable)") echo "$0" ;;
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; [ ! -e "$KILLED" ] ;;
  "-m pip") [ -e "$INSTALLS" ] ;;
  "-c import libsumo") echo "Traceback"; echo "ImportError: libGL.so.1: cannot open shared object file"; exit 1 ;;
esac
"""
    )
    python.chmod(0o755)
    return python


def set_up(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PYTHON": str(folder / "python")}
    given |= {name: str(folder / name.lower()) for name in ("NOTES", "KILLED", "INSTALLS")}
    clean = {key: value for key, value in os.environ.items() if key not in ("CC", "CXX", "ROS_DISTRO")}
    command = [folder / "scripts" / "setup.sh", "drive"]
    return subprocess.run(
        command, env=clean | given | environment, capture_output=True, text=True, check=False, timeout=HANG_S
    )


def test_a_command_with_ros_runs_on_the_checkout_and_not_on_an_older_copy_of_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name, text in (
        (".venv/bin/activate", "VIRTUAL_ENV=$PWD/.venv"),
        ("ros2_ws/install/local_setup.bash", "export PYTHONPATH=/installed/by/colcon:$PYTHONPATH"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    command = [tmp_path / "scripts" / "with_ros.sh", "printenv", "PYTHONPATH"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=HANG_S)
    assert done.stdout.split(":")[:2] == [str(tmp_path), "/installed/by/colcon"]


def test_extras_are_installed_from_the_checkout_and_not_by_a_name_that_may_be_anothers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert paths.install_extra("train") == f"pip install -e '{ROOT}[train]'"
    monkeypatch.setattr(paths, "__file__", "/opt/site-packages/adawm_planner/paths.py")
    assert paths.install_extra("train") == "pip install '.[train]' in a checkout of adawm_planner"


def test_an_interrupted_environment_is_made_anew(tmp_path: Path) -> None:
    small_checkout(tmp_path)
    (tmp_path / "killed").touch()
    assert "could not create" in set_up(tmp_path).stderr
    assert (tmp_path / ".venv" / "bin" / "python").exists()  # as Ctrl-C leaves it: no pip in it yet
    (tmp_path / "killed").unlink()
    assert "creating .venv" in set_up(tmp_path).stdout
    assert "creating .venv" not in set_up(tmp_path).stdout
    assert (tmp_path / "notes").read_text().count("-m venv") == 2


def test_somebodys_own_environment_is_kept(tmp_path: Path) -> None:
    python = small_checkout(tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(python, tmp_path / ".venv" / "bin" / "python")
    assert "creating .venv" not in set_up(tmp_path).stdout


def test_a_missing_compiler_is_told_before_anything_is_downloaded(tmp_path: Path) -> None:
    small_checkout(tmp_path)
    for name, words in (("CXX", "a C++ compiler is missing"), ("CC", "a C compiler is missing")):
        done = set_up(tmp_path, **{name: "nowhere/cc -O2"})
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert "-m" not in (tmp_path / "notes").read_text()
    assert "could not install Python packages" in set_up(tmp_path, CXX="env c++").stderr


def test_a_library_that_sumo_needs_is_told_with_its_package(tmp_path: Path) -> None:
    small_checkout(tmp_path)
    (tmp_path / "installs").touch()
    (tmp_path / "scripts" / "fix_wheel_paths.py").touch()
    done = set_up(tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "SUMO cannot be loaded: ImportError: libGL.so.1" in done.stderr and "libgl1" in done.stderr
    assert not (tmp_path / ".venv" / ".drive").exists()


@pytest.mark.parametrize(
    ("made_of", "sourced", "told"),
    [
        ("jazzy", None, "made with ROS 2 jazzy, this shell has no ROS 2 sourced: source ROS 2 jazzy first"),
        ("jazzy", "kilted", "made with ROS 2 jazzy, this shell has ROS 2 kilted sourced: source ROS 2 jazzy first"),
        ("wheels", "jazzy", "made with ROS 2 from wheels, this shell has ROS 2 jazzy sourced: use a shell without"),
    ],
)
def test_an_environment_of_another_ros_is_kept_and_told(
    tmp_path: Path, made_of: str, sourced: str | None, told: str
) -> None:
    folder, environment = tmp_path / "a checkout", tmp_path / "a checkout" / ".venv"
    (folder / "scripts").mkdir(parents=True)
    (environment / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    (folder / "rclpy.py").touch()  # what a sourced ROS would bring
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / ".made_from").write_text(f"/usr/bin/python3 {made_of} {folder}\n")
    own = {name: value for name, value in os.environ.items() if name != "ROS_DISTRO"}
    own |= {"PYTHON": sys.executable, "PYTHONPATH": str(folder)} | ({"ROS_DISTRO": sourced} if sourced else {})
    command = ["bash", str(folder / "scripts" / "setup.sh"), "drive"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and told in done.stderr, done.stderr
    assert (environment / ".made_from").exists()
