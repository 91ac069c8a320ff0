"""Figures of the latency benchmark from round trips and stages that are known, and what is counted of a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("libsumo")

from adawm_planner.runtime.stages import Durations, Histogram
from benchmarks.latency import MOST_WARM_UP, WARM_UP, Recorded, Samples, means, measure, period, stage_figures


@dataclass(frozen=True)
class Trip:
    sent_s: float
    answered_s: float

    @property
    def ms(self) -> float:
        return 1e3 * (self.answered_s - self.sent_s)


def durations(*milliseconds: float) -> Durations:
    histogram = Histogram()
    for each in milliseconds:
        histogram.add(1e-3 * each)
    return histogram.durations()


@dataclass
class FakeProbe:
    """Answers the planner's frames in 2 ms and the echo's in 1 ms; a node tells at every `every`-th frame."""

    every: int
    now: float = 0.0
    sent: int = 0
    silent: tuple[int, ...] = ()
    told: dict[str, dict[str, Durations]] = field(default_factory=dict)
    histogram: Histogram = field(default_factory=Histogram)

    def round_trip(self, name: str, frame: Any, first: bool) -> Trip | None:
        if name == "planner":
            self.sent += 1
            self.histogram.add(0.5e-3)
            if self.every and self.sent % self.every == 0:
                self.told = {"planner": {"receive": self.histogram.durations()}}
        self.now += 0.01
        lost = name == "planner" and self.sent in self.silent
        return None if lost else Trip(self.now, self.now + (0.002 if name == "planner" else 0.001))

    def idle(self, seconds: float) -> None:
        """Time is not waited for."""

    def await_told(self, nodes: Collection[str]) -> dict[str, dict[str, Durations]]:
        return {name: {"receive": self.histogram.durations()} for name in nodes}


def run(probe: FakeProbe, frames: int, check: Any = lambda: None) -> Samples:
    recorded = (Recorded(SimpleNamespace(), k) for k in range(MOST_WARM_UP + frames))  # type: ignore[arg-type]
    return measure(probe, recorded, frames, ("planner",), False, check)  # type: ignore[arg-type]


@pytest.mark.parametrize(("every", "warm_up"), [(1, WARM_UP + 1), (50, 50), (0, MOST_WARM_UP)])
def test_frames_up_to_the_nodes_first_account_are_not_counted(every: int, warm_up: int) -> None:
    probe = FakeProbe(every)
    samples = run(probe, 20)
    assert probe.sent == warm_up + 20
    assert (len(samples.planner), len(samples.echo), samples.lost) == (20, 20, 0)
    assert samples.decides == [k % 4 == 0 for k in range(warm_up, warm_up + 20)]
    assert samples.stages["planner"]["receive"].count == 20


def test_frames_without_an_answer_are_lost_and_the_nodes_are_looked_after() -> None:
    looked = []
    samples = run(FakeProbe(1, silent=(WARM_UP + 3, WARM_UP + 5)), 20, lambda: looked.append(1))
    assert (len(samples.planner), len(samples.echo), samples.lost, len(looked)) == (18, 18, 2, 2)


def test_ratio_is_that_of_the_two_chains() -> None:
    figures = run(FakeProbe(1), 20).figures()
    assert figures["ratio"]["p99"] == pytest.approx(2.0) and figures["ratio"]["p99.9"] == pytest.approx(2.0)
    assert figures["stages_ms"]["planner"]["receive"]["count"] == 20
    assert figures["mean_ms"] == pytest.approx({"planner receive": 0.5, "between the nodes": 1.5, "round trip": 2.0})


def test_means_are_per_frame_and_add_up() -> None:
    planner = {"receive": durations(1.0, 1.0, 1.0, 1.0), "inference": durations(8.0)}
    gate = {"receive": durations(100.0, 100.0), "gate": durations(0.5, 0.5)}
    found = means({"planner": planner, "gate": gate}, 6.0)
    assert found == pytest.approx(
        {
            "planner receive": 1.0,
            "planner inference": 2.0,
            "gate gate": 0.5,
            "between the nodes": 2.5,
            "round trip": 6.0,
        }
    )
    assert list(found)[-2:] == ["between the nodes", "round trip"]


def test_stages_have_their_levels_in_milliseconds() -> None:
    found = stage_figures({"gate": durations(1.0, 1.0, 5.0), "publish": durations()})
    assert found["gate"]["p50"] == pytest.approx(1.0, rel=0.01) and found["gate"]["max"] == 5.0
    assert found["publish"] == {"p50": 0.0, "p99": 0.0, "p99.9": 0.0, "max": 0.0, "mean": 0.0, "count": 0}


def test_period_is_measured_in_frames() -> None:
    assert period([0.0, 0.05, 0.1, 0.15]) == pytest.approx({"mean_error": 0.0, "rsd": 0.0, "largest_gap": 1.0})
    late = period([0.0, 0.05, 0.12, 0.15])
    assert late["mean_error"] == pytest.approx(0.0) and late["largest_gap"] == pytest.approx(1.4)
    assert late["rsd"] == pytest.approx((2 * 0.02**2 / 3) ** 0.5 / 0.05)
    assert period([0.0, 0.06, 0.12])["mean_error"] == pytest.approx(0.2)
