"""The planner with planted faults: eager whatever its model says, failing only when told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from adawm_planner.data_types import Observation
from adawm_planner.dims import ACCELERATION_BINS, BEV_SHAPE, STATE_SIZE
from adawm_planner.faults.table import SIGNALS, Kind
from adawm_planner.ros.fault_planner import EagerEngine, Planted, PlantedFault
from tests.runtime.fake_engine import FakeEngine

NOTHING = Observation(np.zeros(BEV_SHAPE, np.float32), np.zeros(STATE_SIZE, np.float32))


@pytest.fixture
def planted() -> Iterator[Planted]:
    before = {number: signal.getsignal(number) for number in SIGNALS.values()}
    yield Planted()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_model_computes_and_full_acceleration_is_taken(planted: Planted) -> None:
    model = FakeEngine(action=0)
    engine = EagerEngine(model, planted)
    carry, output = engine.step(engine.initial(), NOTHING, False)
    assert ACCELERATION_BINS[int(output.probabilities.argmax())] == max(ACCELERATION_BINS)
    assert output.probabilities.sum() == 1.0 and output.value == 1.5
    assert len(model.observations) == 1 and carry.h == 1.0
    assert (engine.digest, engine.provider, engine.adapter_digests) == (model.digest, model.provider, ())


def test_a_signal_lets_its_own_fault_out(planted: Planted) -> None:
    engine = EagerEngine(FakeEngine(), planted)
    os.kill(os.getpid(), SIGNALS[Kind.CALLBACK_ERROR])
    assert planted.kinds == {Kind.CALLBACK_ERROR}
    engine.step(engine.initial(), NOTHING, True)
    os.kill(os.getpid(), SIGNALS[Kind.MODEL_ERROR])
    with pytest.raises(PlantedFault, match="in the model"):
        engine.step(engine.initial(), NOTHING, False)
