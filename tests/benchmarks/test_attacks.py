"""Every attack is refused with its own reason while ticks go on, and the live adapter decides each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adawm_planner.adapters.refusal import Reason
from benchmarks import attacks
from benchmarks.attacks import FLOOD, besiege, broken
from benchmarks.forgery import hostile
from tests.adapters.conftest import Maker


def test_every_attack_is_refused_while_the_live_adapter_decides(maker: Maker, tmp_path: Path) -> None:
    found = besiege(maker.model_dir, tmp_path / "store", 1, 80, 5e-3, 0)
    assert found["wrong_reasons"] == [] and found["live_untouched"] and found["swaps"] == 0
    assert found["refused"] == found["sent"] == found["attacked"]["pushes"] + 80 * FLOOD
    assert set(found["reasons"]) <= {reason.value for reason in Reason} and len(found["reasons"]) >= 20
    for mode in attacks.MODES:
        assert found[mode]["ticks"] == 80 and found[mode]["decisions"] == 20 and found[mode]["mixtures"] == 0
    assert found["quiet"]["pushes"] == 0
    assert broken(found) == []


def test_another_reason_than_an_attacks_own_is_told(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = hostile

    def mistaken(*arguments: object) -> object:
        return [(Reason.RANK, files) for _, files in list(forged(*arguments))[:1]]  # type: ignore[arg-type]

    monkeypatch.setattr(attacks, "hostile", mistaken)
    found = besiege(maker.model_dir, tmp_path / "store", 1, 8, 5e-3, 0)
    assert found["wrong_reasons"] and found["wrong_reasons"][0].startswith("rank, told was: untrusted_key: ")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"wrong_reasons": ["rank, told was: x"]}, "refused for another reason than rank, told was: x"),
        ({"refused": 8}, "1 of 9 hostile updates were not refused"),
        ({"swaps": 1}, "the live adapter is not what it was (1 swaps)"),
        ({"live_untouched": False}, "the live adapter is not what it was (0 swaps)"),
        ({"flooded": {"mixtures": 2}}, "2 decisions are not those of the live adapter"),
    ],
    ids=["reason", "not refused", "swapped", "changed", "mixed"],
)
def test_a_run_fails_by_whatever_must_not_be(changed: dict[str, Any], told: str) -> None:
    good = {"wrong_reasons": [], "sent": 9, "refused": 9, "swaps": 0, "live_untouched": True}
    modes = {mode: {"mixtures": 0, "missed_ticks": 3} for mode in attacks.MODES}
    assert broken(good | modes) == []
    assert broken(good | modes | changed) == [told]
