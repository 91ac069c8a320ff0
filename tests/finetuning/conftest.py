"""Workplaces: the model is made once, the state is each test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.finetuning.workplace import Workplace, make_workplace


@pytest.fixture(scope="session")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    pytest.importorskip("torch")
    return make_workplace(tmp_path_factory.mktemp("workplace"))


@pytest.fixture
def place(shared_place: Workplace, tmp_path: Path) -> Workplace:
    return replace(shared_place, state_dir=tmp_path / "state")
