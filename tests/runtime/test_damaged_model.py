"""A model folder with a damaged file is refused with the file's name, and nothing of it drives."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adawm_planner.data_types import Observation
from adawm_planner.dims import BEV_SHAPE, STATE_SIZE
from adawm_planner.policy.agent import load_agent
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.model_files import (
    CONFIG_FILE,
    IMAGINE_FILE,
    MODEL_FILES,
    PLANNER_FILE,
    WEIGHTS_FILE,
    private_copy,
)

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
pytestmark = pytest.mark.skipif(not (BASE / PLANNER_FILE).exists(), reason="no base model in this checkout")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to damage; links are enough for what stays whole."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in MODEL_FILES:
        (folder / name).symlink_to(BASE / name)
    return folder


def damage(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).write_bytes(change(content))


def whole(folder: Path) -> None:
    """Copies instead of links: onnxruntime looks for the weights beside the real file."""
    for name in MODEL_FILES:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(content)


def refused(load: Callable[[], object], *words: str) -> None:
    with pytest.raises(ValueError) as error:
        load()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


KILLED = """
import os, signal, sys
from pathlib import Path
from adawm_planner.runtime.model_files import private_copy

with private_copy(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_copy_of_a_process_that_was_killed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, str(BASE)]
        subprocess.run(command, cwd=BASE.parents[1], env=environment, check=False)
        assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "adawm_model_kept").mkdir()
    with private_copy(BASE) as one, private_copy(BASE) as other:
        assert {path.name for path in tmp_path.iterdir()} == {one.name, other.name, "adawm_model_kept"}
        assert (one / PLANNER_FILE).is_file()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", [PLANNER_FILE, IMAGINE_FILE, WEIGHTS_FILE])
def test_a_truncated_file_is_refused_by_name(folder: Path, name: str, share: float) -> None:
    whole(folder)
    damage(folder, name, lambda content: content[: int(share * len(content))])
    refused(lambda: OnnxEngine(folder, "cpu"), str(folder / name))
    if name == WEIGHTS_FILE:
        refused(lambda: load_agent(folder), str(folder / name))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(folder: Path, value: float) -> None:
    whole(folder)
    tensors = dict(load_file(folder / WEIGHTS_FILE))
    name = "world_model.rssm.input_layer.weight"
    tensors[name] = tensors[name].copy()
    tensors[name][0, 0] = value
    save_file(tensors, folder / WEIGHTS_FILE)
    for load in (lambda: OnnxEngine(folder, "cpu"), lambda: load_agent(folder)):
        refused(load, str(folder / WEIGHTS_FILE), name, "1 values that are NaN or infinite")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("deter:", "deter: x #", "world_model.deter is 'x', must be a whole number"),
        ("deter:", "deter: -1 #", "world_model.deter is -1"),
        ("deter:", "deter: true #", "world_model.deter is True"),
        ("deter:", "other: 3 #", "world_model.deter is None"),
        ("groups:", "groups: 7 #", "input z is"),
        ("classes:", "classes: [1] #", "world_model.classes is [1]"),
        ("schema:", "schema: 2 #", "schema is 2"),
    ],
)
def test_a_config_that_does_not_fit_names_the_entry(folder: Path, old: str, new: str, words: str) -> None:
    whole(folder)
    damage(folder, CONFIG_FILE, lambda content: content.decode().replace(old, new, 1).encode())
    refused(lambda: OnnxEngine(folder, "cpu"), str(folder), words)
    if "input" not in words:
        refused(lambda: load_agent(folder), str(folder / CONFIG_FILE), words)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a: [", b"3"])
def test_a_config_that_is_none_is_refused_by_name(folder: Path, content: bytes) -> None:
    damage(folder, CONFIG_FILE, lambda _: content)
    refused(lambda: OnnxEngine(folder, "cpu"), str(folder / CONFIG_FILE))


@pytest.mark.parametrize(("source", "target"), [(IMAGINE_FILE, PLANNER_FILE), (PLANNER_FILE, IMAGINE_FILE)])
def test_files_in_each_others_place_are_refused(folder: Path, source: str, target: str) -> None:
    whole(folder)
    shutil.copy(folder / source, folder / target)
    refused(lambda: OnnxEngine(folder, "cpu"), str(folder))


def test_what_happens_to_the_files_of_a_model_that_drives_changes_nothing(folder: Path) -> None:
    """In place, through the mapping that onnxruntime would have of the file itself."""
    whole(folder)
    engine = OnnxEngine(folder, "cpu")
    seen = Observation(np.full(BEV_SHAPE, 200, np.uint8), np.full(STATE_SIZE, 0.3, np.float32))
    before = engine.step(engine.initial(), seen, True)
    for name in MODEL_FILES:
        with (folder / name).open("r+b") as file:
            file.write(b"\xff" * (folder / name).stat().st_size)
    after = engine.step(engine.initial(), seen, True)
    for old, new in ((before[0].h, after[0].h), (before[1].probabilities, after[1].probabilities)):
        np.testing.assert_array_equal(old, new)


def test_no_room_for_the_copy_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    refused(lambda: OnnxEngine(folder, "cpu"), str(folder), "No space left on device")
