"""The doctor finds what is missing, says what to do, and needs next to nothing itself."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from adawm_planner import paths
from adawm_planner.cli import doctor
from adawm_planner.diagnosis.check import Check, wrong
from adawm_planner.runtime import model_files
from adawm_planner.runtime.model_files import UNFINISHED

ROOT = Path(__file__).resolve().parents[2]


def test_it_runs_with_nothing_but_click_and_rich() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'yaml', 'cv2', 'onnxruntime', 'libsumo', 'rclpy', 'torch'): sys.modules[name] = None\n"
        "from adawm_planner.cli.doctor import run; print(len(run()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(doctor.CHECKS)


def test_every_failed_check_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (doctor.model, doctor.domain, doctor.compiler))
    monkeypatch.setattr(paths, "models_dir", lambda: tmp_path)
    monkeypatch.setenv("ROS_DOMAIN_ID", "500")
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = CliRunner().invoke(doctor.doctor, ["--json", str(tmp_path / "out.json")])
    assert result.exit_code == 1
    # A compiler is only for building, and an untested version only a warning.
    assert re.search(r"2 of \d+ checks failed: base model, ROS domain$", result.output, re.MULTILINE)
    checks = {one["name"]: one for one in json.loads((tmp_path / "out.json").read_text())["checks"]}
    named = ("base model", "ROS domain", "C++ compiler")
    assert not any(checks[name]["ok"] for name in named)
    assert [checks[name]["level"] for name in named] == ["error", "error", "warning"]
    assert "export ROS_DOMAIN_ID" in checks["ROS domain"]["fix"] and "500" in checks["ROS domain"]["found"]
    assert "apt-get install g++" in checks["C++ compiler"]["fix"]


@pytest.mark.parametrize("check", doctor.CHECKS, ids=lambda check: check.__name__)
def test_each_check_can_fail_and_says_what_to_do(
    check: Callable[[], Check], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is installed, in a domain that is none, with a Python of tomorrow."""
    monkeypatch.setattr(doctor, "_probe", lambda *_, **__: doctor._Probe(False, "no module"))
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    monkeypatch.setattr(doctor, "NEWEST_PYTHON", (3, 9))
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(paths, "models_dir", lambda: tmp_path)
    monkeypatch.setenv("ROS_DOMAIN_ID", "500")
    found = check()
    assert not found.ok and found.fix and found.expected and found.found


def test_a_probe_that_hangs_is_given_up() -> None:
    found = doctor._probe("import time; time.sleep(600)", timeout_s=0.5)
    assert not found.ok and "no answer within" in found.text


@pytest.mark.parametrize(("value", "ok"), [("", True), ("0", True), ("101", True), ("102", False), ("mine", False)])
def test_domains_that_dds_can_use(monkeypatch: pytest.MonkeyPatch, value: str, ok: bool) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", value)
    assert doctor.domain().ok is ok


def test_model_is_complete_with_all_the_files_the_runtime_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(doctor.MODEL_FILES) == set(model_files.MODEL_FILES)
    monkeypatch.setattr(paths, "models_dir", lambda: tmp_path)
    (tmp_path / "base").mkdir()
    for name in doctor.MODEL_FILES:
        assert not doctor.model().ok
        (tmp_path / "base" / name).write_bytes(b"")
    assert doctor.model().ok and "config.yaml e3b0c44298fc" in doctor.model().found
    (tmp_path / "base" / UNFINISHED).touch()
    assert not doctor.model().ok and "was interrupted" in doctor.model().found


@pytest.mark.parametrize("broken", doctor.INTERFACES)
def test_a_package_whose_type_support_cannot_be_loaded_is_named(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, kind in doctor.INTERFACES.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "msg.py").write_text(
            "class Meta(type):\n"
            "    _TYPE_SUPPORT = None\n"
            "    @classmethod\n"
            f"    def __import_type_support__(cls): cls._TYPE_SUPPORT = {'None' if package == broken else '1'}\n"
            f"class {kind}(metaclass=Meta): pass\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = doctor.interfaces()
    assert not found.ok and found.found == f"{broken}: its type support cannot be loaded"


@pytest.mark.ros
def test_the_interfaces_of_a_whole_installation_are_importable() -> None:
    pytest.importorskip("adawm_msgs")
    assert doctor.interfaces().ok and doctor.interfaces().found == "all importable"


def test_a_compiler_may_be_called_through_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", f"{sys.executable} g++")
    assert doctor.compiler().ok


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ModuleNotFoundError: No module named 'libsumo'", "[sim]'"),
        ("ImportError: libXrender.so.1: cannot open shared object file: No such file", "apt-get install libx11-6"),
    ],
)
def test_libsumo_without_its_libraries_has_another_remedy(
    monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda code: doctor._Probe(False, said))
    found = doctor.sumo()
    assert not found.ok and words in found.fix


def test_a_role_that_is_no_name_is_refused() -> None:
    result = CliRunner().invoke(doctor.doctor, ["--graph", "--role-name", ""])
    assert result.exit_code == 2 and "--role-name: '' must be a letter or underscore" in result.output


def test_a_check_that_cannot_import_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(ROOT / "scripts" / "setup.sh"))
    found = doctor.rclpy()
    assert not found.ok and found.found.endswith("say what to set up: drive, story or develop")


def test_the_table_keeps_the_brackets_of_an_extra() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(doctor.table([doctor.Check("x", False, "[found]", "y", "pip install 'adawm_planner[sim]'")]))
    shown = console.export_text()
    assert "adawm_planner[sim]" in shown and "[found]" in shown


def test_versions_cover_the_matrix_and_the_interfaces() -> None:
    subjects = [one.subject for one in doctor.versions()]
    assert subjects == [*doctor.TESTED, "message types"]


@pytest.mark.ros
@pytest.mark.skipif("ROS_DISTRO" in os.environ, reason="a sourced ROS 2 has versions of its own")
def test_the_wheels_are_a_tested_version() -> None:
    pytest.importorskip("adawm_msgs")
    checks = {one.subject: one for one in doctor.versions()}
    for part in ("rclpy", "rmw", "carla_msgs", "derived_object_msgs"):
        assert checks[part].found.endswith(", tested"), checks[part]
    assert checks["message types"].ok and "30 of 30" in checks["message types"].found


def test_an_error_on_the_graph_makes_the_command_fail_and_a_warning_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "run", list)
    monkeypatch.setattr(doctor, "versions", list)
    seen: list[Check] = [wrong("clock_paused", "/clock", "the world is paused", "a time that advances")]
    monkeypatch.setattr(doctor, "on_graph", lambda role, seconds, namespace: seen)
    assert CliRunner().invoke(doctor.doctor, ["--graph"]).exit_code == 0
    seen.append(wrong("qos_durability", "/a", "/b offers volatile", "transient local, as /c asks for"))
    file = tmp_path / "out.json"
    result = CliRunner().invoke(doctor.doctor, ["--graph", "--json", str(file)])
    assert result.exit_code == 1 and "1 of 2 checks failed: qos_durability /a" in result.output
    levels = [(one["name"], one["level"]) for one in json.loads(file.read_text())["checks"]]
    assert levels == [("clock_paused", "warning"), ("qos_durability", "error")]


@pytest.mark.parametrize(("given", "used"), [("", ""), ("car7", "car7"), ("/fleet/car7", "fleet/car7")])
def test_the_namespace_is_handed_on_without_slashes_around_it(
    given: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "run", list)
    monkeypatch.setattr(doctor, "versions", list)
    asked = list[str]()
    monkeypatch.setattr(doctor, "on_graph", lambda role, seconds, namespace: asked.append(namespace) or [])
    assert CliRunner().invoke(doctor.doctor, ["--graph", "--namespace", given]).exit_code == 0
    assert asked == [used]


def test_a_namespace_that_is_none_is_refused_by_name() -> None:
    result = CliRunner().invoke(doctor.doctor, ["--graph", "--namespace", "car-7"])
    assert result.exit_code == 2 and "'car-7': each part must be a letter or underscore" in result.output
