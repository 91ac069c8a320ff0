"""Adapters where temporary files, memory or file descriptors are short."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adawm_planner.runtime.swap import messages as m
from tests.adapters.conftest import Maker
from tests.runtime import swap_rig
from tests.runtime.swap_rig import Rig, digest_of


@pytest.fixture
def files(maker: Maker) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Two policies, one committed after the other."""
    return maker.files(), maker.files(counter=8, name="second", factors=maker.factors(seed=5))


@pytest.fixture
def rig(maker: Maker, tmp_path: Path, files: tuple[dict[str, bytes], ...]) -> Iterator[Rig]:
    made = Rig(maker, tmp_path / "store")
    for each in files:
        committed(made, each)
    yield made
    made.close()


def committed(rig: Rig, files: dict[str, bytes]) -> None:
    rig.push(files)
    rig.drive(4)
    rig.episodes(True, True, True)
    assert rig.stage == "committed"


@contextmanager
def no_memory() -> Iterator[None]:
    def none(*arguments: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "memfd_create", none)
        yield


def drives(rig: Rig) -> list[str]:
    return list(rig.core.engine.adapter_digests)


def test_adapters_need_no_room_among_the_temporary_files(
    rig: Rig, maker: Maker, tmp_path: Path, files: tuple[dict[str, bytes], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    third = maker.files(counter=9, name="third")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match="none"), tempfile.TemporaryFile():
        pass
    assert rig.ask(m.RollBack, "policy", False).success and drives(rig) == [digest_of(files[0])]
    committed(rig, third)
    rig.thread.close()
    monkeypatch.setattr(swap_rig, "OnnxEngine", lambda *more: rig.base)  # the base model was opened before
    again = Rig(maker, tmp_path / "store")
    assert drives(again) == [digest_of(third)]
    rig.thread, rig.store = again.thread, again.store


def test_a_roll_back_that_cannot_be_loaded_keeps_what_drove_and_is_tried_again(
    rig: Rig, maker: Maker, files: tuple[dict[str, bytes], ...]
) -> None:
    one, two = map(digest_of, files)
    with no_memory():
        for _ in range(2):  # asked again it is the same roll back
            reply = rig.ask(m.RollBack, "policy", False)
            assert not reply.success and "Too many open files" in reply.message
            rig.drive(2)
            assert rig.store.part("policy").good == (one,)
            assert drives(rig) == [two] == [each.digest for each in rig.swap.report.adapters]
            assert "Too many open files" in rig.swap.report.trouble and rig.swap.watching
        assert "cannot be loaded yet" in rig.ask(m.Pin, "policy", True).message
    rig.drive(2)
    assert drives(rig) == [one] and rig.store.part("policy").good == (one,)
    assert rig.swap.report.trouble == "" and not rig.swap.watching
    committed(rig, maker.files(counter=9, name="third"))


def test_a_roll_back_to_the_base_model_needs_nothing(rig: Rig) -> None:
    with no_memory():
        assert not rig.ask(m.RollBack, "policy", False).success
        assert rig.ask(m.RollBack, "policy", True).success
        assert drives(rig) == [] and rig.swap.report.trouble == ""


def test_asked_again_once_it_can_be_loaded_the_roll_back_goes_no_further(
    rig: Rig, files: tuple[dict[str, bytes], ...]
) -> None:
    with no_memory():
        assert not rig.ask(m.RollBack, "policy", False).success
    assert rig.ask(m.RollBack, "policy", False).success
    assert drives(rig) == [digest_of(files[0])]


def test_both_parts_go_back_once_they_can(rig: Rig, maker: Maker, files: tuple[dict[str, bytes], ...]) -> None:
    world = maker.files(part="dynamics", name="world", counter=1)
    committed(rig, world)
    with no_memory():
        assert not rig.ask(m.RollBack, "", False).success
        rig.drive(1)
        assert rig.store.part("dynamics").current is None, "of which the base model needs no loading"
        assert drives(rig) == [digest_of(world), digest_of(files[1])], "the other engine would"
    rig.drive(2)
    assert drives(rig) == [digest_of(files[0])]


def test_a_start_that_cannot_load_drives_with_the_base_model_until_it_can(
    rig: Rig, maker: Maker, tmp_path: Path, files: tuple[dict[str, bytes], ...]
) -> None:
    rig.thread.close()
    with no_memory():
        again = Rig(maker, tmp_path / "store")
        assert "Too many open files" in again.swap.report.trouble
        again.drive(2)
        assert drives(again) == []
    again.drive(2)
    assert drives(again) == [digest_of(files[1])] and again.swap.report.trouble == ""
    rig.thread, rig.store = again.thread, again.store
