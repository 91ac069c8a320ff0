"""A malformed map is refused in one line; the reader behind it would crash, hang or compute nonsense."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adawm_planner.observation import opendrive
from adawm_planner.observation.drivable import drivable_from_opendrive
from adawm_planner.observation.opendrive import check_opendrive
from adawm_planner.simulator.lane_map import LaneMap

ROAD = """<road name="" length="{length}" id="{id}" junction="-1">
  <link><successor elementType="road" elementId="{next}" contactPoint="start"/></link>
  <planView><geometry s="0" x="{x}" y="0" hdg="0" length="{length}"><line/></geometry></planView>
  <lanes><laneSection s="0">
    <center><lane id="0" type="none" level="true"/></center>
    <right><lane id="-1" type="{kind}" level="true"><width sOffset="0" a="{width}" b="0" c="0" d="0"/></lane></right>
  </laneSection></lanes></road>"""
HEADER = '<header revMajor="1" revMinor="4"><geoReference>+proj=tmerc +lat_0=0 +lon_0=0</geoReference></header>'


def road(**values: object) -> str:
    default = {"length": 50.0, "id": 1, "next": 2, "x": 0.0, "kind": "driving", "width": 3.5}
    return ROAD.format(**{**default, **values})


def opendrive_map(*roads: str) -> str:
    return f'<?xml version="1.0"?><OpenDRIVE>{HEADER}{"".join(roads)}</OpenDRIVE>'


WHOLE = opendrive_map(road(id=1, next=2), road(id=2, next=1, x=50.0))
"""Two roads, each the other's successor: a cycle, which is fine."""

MALFORMED = {
    "nothing": ("", "cannot be read"),
    "text": ("hello", "cannot be read"),
    "half": (WHOLE[: len(WHOLE) // 2], "cannot be read"),
    "nul": (WHOLE[:100] + "\0" + WHOLE[100:], "cannot be read"),
    "deep": ("<a>" * 100_000, "cannot be read"),
    "other root": ("<html></html>", "root element 'html', must be 'OpenDRIVE'"),
    "entities": ('<!DOCTYPE a [<!ENTITY x "y">]>' + WHOLE, "remove its DOCTYPE"),
    "no road": (opendrive_map(), "has no road"),
    "same id twice": (opendrive_map(road(), road()), "road id 1 is given twice"),
    "id of letters": (opendrive_map(road(id="A5")), "road id is 'A5', must be a whole number"),
    "no id": (opendrive_map(road(id="")), "road id is '', must be a whole number"),
    "length nan": (opendrive_map(road(length="nan")), "road 1: length is nan, must lie in"),
    "length below 0": (opendrive_map(road(length=-5)), "road 1: length is -5"),
    "length 0": (opendrive_map(road(length=0)), "road 1 has length 0, must be above 0"),
    "length of letters": (opendrive_map(road(length="long")), "road 1: length is 'long', must be a number"),
    "length endless": (opendrive_map(road(length=1e9)), "road 1: length is 1e\\+09"),
    "roads endless": (opendrive_map(road(id=1, length=9e5), road(id=2, length=9e5)), "1800000 m of road, at most"),
    "x inf": (opendrive_map(road(x="inf")), "road 1: x is inf"),
    "x far": (opendrive_map(road(x=1e12)), "road 1: x is 1e\\+12, must lie in -1e\\+07..1e\\+07"),
    "width nan": (opendrive_map(road(width="nan")), "road 1: lane width: a is nan"),
    "width below 0": (opendrive_map(road(width=-3)), "road 1: lane width: a is -3"),
    "width huge": (opendrive_map(road(width=1e7)), "road 1: lane width: a is 1e\\+07, must lie in -0.001..100"),
    "no geometry": (re.sub(r"<planView>.*?</planView>", "", WHOLE, flags=re.S), "road 1 has no planView"),
    "no lanes": (re.sub(r"<lanes>.*?</lanes>", "", WHOLE, flags=re.S), "road 1 has no lanes"),
    "nan polynomial": (WHOLE.replace('b="0"', 'b="nan"'), "width: b is nan, must be finite"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_map_is_refused_and_says_why(name: str) -> None:
    text, words = MALFORMED[name]
    with pytest.raises(ValueError, match=words) as refused:
        check_opendrive(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("read", [drivable_from_opendrive, LaneMap.open])
@pytest.mark.parametrize("name", MALFORMED)
def test_both_readers_look_before_they_read(name: str, read) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("carla")
    with pytest.raises(ValueError, match=MALFORMED[name][1]):
        read(MALFORMED[name][0])


@pytest.mark.parametrize("text", [WHOLE, WHOLE.replace('elementId="2"', 'elementId="99"'), opendrive_map(road(next=1))])
def test_a_cycle_or_a_successor_that_is_not_there_is_read(text: str) -> None:
    pytest.importorskip("carla")
    drivable = drivable_from_opendrive(text)
    assert drivable is not None and drivable.mask.max() == 255
    lanes = LaneMap.open(text)
    assert lanes is not None and lanes.nearest(10.0, 0.0).width == pytest.approx(3.5)


@pytest.mark.parametrize("read", [drivable_from_opendrive, LaneMap.open])
def test_a_map_without_a_driving_lane_is_refused(read) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("carla")
    with pytest.raises(ValueError, match="has no driving lane"):
        read(opendrive_map(road(kind="sidewalk")))


def test_a_text_that_is_too_long_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opendrive, "MAX_CHARACTERS", 10)
    with pytest.raises(ValueError, match=f"has {len(WHOLE)} characters, at most 10"):
        check_opendrive(WHOLE)


@settings(max_examples=60)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 40), st.text('0123456789.-e"<>/ nai', max_size=6))
def test_a_damaged_map_is_read_or_refused_and_nothing_else(at: int, length: int, instead: str) -> None:
    damaged = WHOLE[:at] + instead + WHOLE[at + length :]
    try:
        drivable = drivable_from_opendrive(damaged)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert drivable is None or drivable.mask.any()
