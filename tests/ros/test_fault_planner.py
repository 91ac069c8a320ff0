"""The planner with planted faults: eager whatever its model says, failing only when told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from adawm_planner.data_types import Command, Observation
from adawm_planner.dims import ACCELERATION_BINS, BEV_SHAPE, STATE_SIZE
from adawm_planner.faults.table import PROPOSAL_SIGNAL, SIGNALS, Kind
from adawm_planner.ros import convert
from adawm_planner.ros.fault_planner import EagerEngine, FaultyOutputs, Planted, PlantedFault, proposal_stream
from tests.runtime.fake_engine import FakeEngine

NOTHING = Observation(np.zeros(BEV_SHAPE, np.float32), np.zeros(STATE_SIZE, np.float32))


@pytest.fixture
def planted() -> Iterator[Planted]:
    before = {number: signal.getsignal(number) for number in (*SIGNALS.values(), PROPOSAL_SIGNAL)}
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


def test_only_faults_of_proposals_make_a_stream_of_them() -> None:
    assert proposal_stream("") is None and proposal_stream("planner_kill") is None
    assert proposal_stream("proposal_freeze") is not None
    with pytest.raises(ValueError, match="no fault 'proposal_tired'"):
        proposal_stream("proposal_tired")


class Sent:
    """A publisher that keeps what is published."""

    def __init__(self) -> None:
        self.stamps: list[int] = []

    def publish(self, message: Any) -> None:
        self.stamps.append(convert.stamp_to_ns(message.header.stamp))


def test_proposals_are_sound_until_the_signal_comes(planted: Planted) -> None:
    stream = proposal_stream("proposal_freeze")
    assert stream is not None
    outputs = FaultyOutputs.__new__(FaultyOutputs)  # without the topics
    outputs._stream, outputs._planted, outputs._control = stream, planted, Sent()
    for stamp_ns in (1, 2):
        outputs.command(Command(), stamp_ns)
    os.kill(os.getpid(), PROPOSAL_SIGNAL)
    for stamp_ns in (3, 4):
        outputs.command(Command(), stamp_ns)
    assert outputs._control.stamps == [1, 2, 2, 2]
