"""Lanes are found in the map frame, and crossing a marking is reported once, by its type."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.simulator.lane_map import LaneMap, LaneWatch

pytest.importorskip("carla")

# One straight road from (0, 0) to (100, 0): a left lane against the direction, two right lanes along it.
XODR = """<?xml version="1.0"?>
<OpenDRIVE>
 <header revMajor="1" revMinor="4" name="" version="1.00" date="" north="0" south="0" east="0" west="0"/>
 <road name="" length="100" id="7" junction="-1">
  <planView><geometry s="0" x="0" y="0" hdg="0" length="100"><line/></geometry></planView>
  <elevationProfile/><lateralProfile/>
  <lanes><laneSection s="0">
   <left><lane id="1" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
    <roadMark sOffset="0" type="solid" weight="standard" color="standard" width="0.13"/></lane></left>
   <center><lane id="0" type="none" level="false">
    <roadMark sOffset="0" type="solid" weight="standard" color="standard" width="0.13"/></lane></center>
   <right>
    <lane id="-1" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
     <roadMark sOffset="0" type="broken" weight="standard" color="standard" width="0.13"/></lane>
    <lane id="-2" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
     <roadMark sOffset="0" type="solid" weight="standard" color="standard" width="0.13"/></lane>
   </right>
  </laneSection></lanes>
 </road>
</OpenDRIVE>"""
BROKEN, SOLID = 1, 2


@pytest.fixture(scope="module")
def lanes() -> LaneMap:
    found = LaneMap.open(XODR)
    assert found is not None
    return found


def corners(y: float, x: float = 50.0) -> np.ndarray:
    """Corners of a 4 m by 2 m vehicle heading east."""
    return np.array([[x + 2, y + 1], [x + 2, y - 1], [x - 2, y - 1], [x - 2, y + 1]])


def test_the_nearest_lane_is_found_in_map_axes(lanes: LaneMap) -> None:
    right = lanes.nearest(40.0, -1.0)
    assert (right.road_id, right.lane_id, right.is_junction) == (7, -1, False)
    assert (right.x, right.y) == pytest.approx((40.0, -1.75), abs=1e-3)
    assert right.yaw == pytest.approx(0.0, abs=1e-6)
    left = lanes.nearest(40.0, 2.0)
    assert left.lane_id == 1 and left.y == pytest.approx(1.75, abs=1e-3)
    assert abs(math.remainder(left.yaw - math.pi, 2 * math.pi)) < 1e-6


def test_lateral_is_left_positive(lanes: LaneMap) -> None:
    assert lanes.nearest(40.0, -1.0).lateral(40.0, -1.0) == pytest.approx(0.75, abs=1e-3)


def test_staying_in_the_lane_crosses_nothing(lanes: LaneMap) -> None:
    watch = LaneWatch(lanes)
    assert [watch.step(corners(-1.75, x)) for x in (10.0, 20.0, 30.0)] == [[], [], []]


def test_changing_lane_crosses_the_broken_line_once(lanes: LaneMap) -> None:
    watch = LaneWatch(lanes)
    found = [watch.step(corners(y)) for y in (-1.75, -2.2, -2.6, -2.7)]
    assert found == [[], [], [BROKEN], []]


def test_leaving_the_road_crosses_its_edge(lanes: LaneMap) -> None:
    watch = LaneWatch(lanes)
    assert [watch.step(corners(y)) for y in (-5.25, -6.5)] == [[], [SOLID]]


def test_crossing_to_the_oncoming_lane_crosses_the_centre_line(lanes: LaneMap) -> None:
    watch = LaneWatch(lanes)
    assert [watch.step(corners(y)) for y in (-1.75, -0.5)] == [[], [SOLID]]


def test_reset_forgets(lanes: LaneMap) -> None:
    watch = LaneWatch(lanes)
    watch.step(corners(-1.75))
    watch.reset()
    assert watch.step(corners(-5.25)) == []


def test_samples_cover_every_lane(lanes: LaneMap) -> None:
    rows = lanes.samples(2.0)
    assert set(np.round(rows[:, 1], 2)) == {1.75, -1.75, -5.25}
    assert np.allclose(rows[:, 4], 3.5)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="OpenDRIVE"):
        LaneMap.open("no map")
