"""What a round's workshop needs, and the refusal of what it cannot use."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from adawm_planner.adaptation.source_file import source_file
from adawm_planner.finetuning.round import home_of
from adawm_planner.pretraining.dataset import Episodes, save_chunk
from tests.finetuning.workplace import CONFIG, random_episodes


def test_source_rollouts_of_too_few_episodes_are_refused_by_their_number(tmp_path: Path) -> None:
    path, nine = source_file("base", CONFIG, tmp_path), random_episodes(9, seed=1)
    nothing = Episodes(**{field.name: getattr(nine, field.name)[:0] for field in fields(Episodes)})
    for episodes, count in ((nine, 9), (nothing, 0)):
        assert int(np.sum(episodes.first)) == count
        save_chunk(path, episodes, {})
        with pytest.raises(ValueError, match=f"{path.name}: holds {count} episodes, at least 10 are needed; run"):
            home_of("base", CONFIG, tmp_path, tmp_path)
