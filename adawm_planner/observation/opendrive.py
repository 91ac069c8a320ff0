"""OpenDRIVE text in, one line for what its reader would crash, hang or compute nonsense on.

The carla wheel's reader trusts its input: a road without a plan view ends the process, a length of NaN never returns.
A map comes over a topic while the vehicle drives, so everything the reader relies on is looked at here first.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

MAX_CHARACTERS = 100_000_000
"""Longest text that is parsed; CARLA's largest town has about a tenth."""

MAX_ROADS_M = 1_000_000.0
"""Length of all roads together [m]: the reader lists a point per metre and lane."""

MAX_COORDINATE_M = 1e7
"""Largest coordinate [m]; a quarter of the earth's circumference, beyond it float32 has lost the metres."""

ROUNDING_M = 1e-3
"""How far below 0 a width or position may lie [m]: map editors fit polynomials."""

MAX_LANE_M = 100.0
"""Largest lane width [m]."""


def check_opendrive(xml: str) -> None:
    """Look at a map before it is read.

    Args:
        xml: the map as text.

    Raises:
        ValueError: the text is too long or no XML with a root OpenDRIVE, or a road lacks what the reader needs or has a
            value outside its limits; names road, attribute, value and limit.
    """
    if len(xml) > MAX_CHARACTERS:
        raise ValueError(f"OpenDRIVE map has {len(xml)} characters, at most {MAX_CHARACTERS} are read")
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ValueError("OpenDRIVE map defines XML entities, which no map needs; remove its DOCTYPE")
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"OpenDRIVE map of {len(xml)} characters cannot be read: {error}") from None
    if root.tag != "OpenDRIVE":
        raise ValueError(f"OpenDRIVE map has the root element '{root.tag[:80]}', must be 'OpenDRIVE'")
    roads = root.findall("road")
    if not roads:
        raise ValueError(f"OpenDRIVE map of {len(xml)} characters has no road")
    seen: set[str] = set()
    total = 0.0
    for road in roads:
        total += _check_road(road, seen)
    if total > MAX_ROADS_M:
        raise ValueError(f"OpenDRIVE map has {total:.0f} m of road, at most {MAX_ROADS_M:.0f} m are read")


def _check_road(road: ElementTree.Element, seen: set[str]) -> float:
    """One road; returns its length [m]."""
    name = road.get("id", "")
    if not (name.isascii() and name.isdigit()) or int(name) >= 2**32:
        raise ValueError(f"OpenDRIVE road id is '{name[:80]}', must be a whole number below 2**32")
    if name in seen:
        raise ValueError(f"OpenDRIVE road id {name} is given twice")
    seen.add(name)
    where = f"road {name}"
    length = _number(road, "length", where, 0.0, MAX_ROADS_M)
    if length == 0.0:
        raise ValueError(f"OpenDRIVE {where} has length 0, must be above 0")
    pieces = road.findall("planView/geometry")
    if not pieces:
        raise ValueError(f"OpenDRIVE {where} has no planView with a geometry")
    for piece in pieces:
        _number(piece, "s", where, -ROUNDING_M, MAX_ROADS_M)
        _number(piece, "length", where, 0.0, MAX_ROADS_M)
        for axis in ("x", "y"):
            _number(piece, axis, where, -MAX_COORDINATE_M, MAX_COORDINATE_M)
        _number(piece, "hdg", where, -1e6, 1e6)
    _finite(piece for piece in road.iterfind("planView/geometry/*"))
    sections = road.findall("lanes/laneSection")
    if not sections:
        raise ValueError(f"OpenDRIVE {where} has no lanes with a laneSection")
    for width in road.iterfind("lanes/laneSection//lane/width"):
        _number(width, "a", f"{where}: lane width", -ROUNDING_M, MAX_LANE_M)
    _finite(road.iterfind("lanes//*"))
    _finite(road.iterfind("elevationProfile/*"))
    return length


def _number(element: ElementTree.Element, name: str, where: str, low: float, high: float) -> float:
    text = element.get(name)
    try:
        value = float("" if text is None else text)
    except ValueError:
        raise ValueError(f"OpenDRIVE {where}: {name} is {text!r}, must be a number") from None
    if not low <= value <= high:
        raise ValueError(f"OpenDRIVE {where}: {name} is {value:g}, must lie in {low:g}..{high:g}")
    return value


def _finite(elements: Iterator[ElementTree.Element]) -> None:
    """Raises ValueError for an attribute that says nan or inf; which attributes are numbers depends on the element."""
    for element in elements:
        for name, text in element.attrib.items():
            try:
                value = float(text)
            except ValueError:
                continue
            if not math.isfinite(value):
                raise ValueError(f"OpenDRIVE {element.tag}: {name} is {text}, must be finite")
