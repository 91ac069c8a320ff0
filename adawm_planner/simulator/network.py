"""SUMO network: plain XML, a finished net or OpenDRIVE in, lane paths and OpenDRIVE out.

Nets are authored as plain XML (a folder with one `*.nod.xml`, `*.edg.xml` and optionally `*.con.xml`) or as OpenDRIVE,
and built once by netconvert; the results are kept in the user's cache under the digest of their input.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np

from adawm_planner.data_types import DrivableMap, Float64
from adawm_planner.observation.drivable import drivable_from_opendrive
from adawm_planner.paths import netconvert

NETS_DIR = Path(__file__).parent / "nets"

_OPTIONS = (
    "--offset.disable-normalization=true",  # keep the authored coordinates: they are the map frame
    "--no-turnarounds=true",
    "--junctions.corner-detail=8",
    "--junctions.internal-link-detail=10",
    "--xml-validation=never",
)

_GEOREFERENCE = (
    "<geoReference><![CDATA[+proj=tmerc +lat_0=49 +lon_0=8 +k=1 +x_0=0 +y_0=0 +datum=WGS84]]></geoReference>"
)


@dataclass(frozen=True)
class LanePath:
    """Centre line along consecutive lanes, junction lanes included."""

    x: Float64  # (M,) m, map
    y: Float64  # (M,) m, map
    s: Float64  # (M,) m, s[0] = 0
    junction_entry_s: float  # m, end of the first edge, where the first junction begins
    junction_exit_s: float  # m, start of the last edge

    def at(self, s: Float64 | float) -> tuple[Float64, Float64]:
        """Position (x, y) [m, map] at arc length `s` [m]; clipped to the ends."""
        return np.asarray(np.interp(s, self.s, self.x)), np.asarray(np.interp(s, self.s, self.y))


class Network:
    """One SUMO net: files for SUMO and OpenDRIVE, and the geometry of its lanes."""

    def __init__(self, net_file: Path, opendrive_file: Path) -> None:
        self.net_file = net_file
        self.opendrive = opendrive_file.read_text()
        self._lanes: dict[str, tuple[tuple[float, float], ...]] = {}
        self._limits: dict[str, float] = {}
        self._links: dict[tuple[str, str, int], tuple[str, int]] = {}
        self._read(ET.parse(net_file).getroot())

    def _read(self, root: ET.Element) -> None:
        for lane in root.iter("lane"):
            pairs = (point.split(",") for point in lane.attrib["shape"].split())
            self._lanes[lane.attrib["id"]] = tuple((float(p[0]), float(p[1])) for p in pairs)
            self._limits[lane.attrib["id"]] = float(lane.attrib["speed"])
        for link in root.iter("connection"):
            key = (link.attrib["from"], link.attrib["to"], int(link.attrib["fromLane"]))
            self._links.setdefault(key, (link.attrib.get("via", ""), int(link.attrib["toLane"])))

    @cached_property
    def drivable(self) -> DrivableMap | None:
        """Drivable bitmap of the exported OpenDRIVE map, or None without the carla wheel."""
        return drivable_from_opendrive(self.opendrive)

    def speed_limit(self, edge: str, lane: int) -> float:
        """Highest speed [m/s] on a lane that the map has."""
        return self._limits[f"{edge}_{lane}"]

    def path(self, edges: list[str], lane: int) -> LanePath:
        """Centre line along `edges`, starting on lane index `lane` (0 = rightmost).

        Raises:
            ValueError: an edge is unknown or two consecutive edges are not connected from that lane.
        """
        points, marks = [*self._shape(edges[0], lane)], [0]
        for here, there in zip(edges, edges[1:], strict=False):
            marks.append(len(points) - 1)
            via, lane_next = self._link(here, there, lane)
            while via:
                points += self._lanes[via]
                via, _ = self._links.get((via.rsplit("_", 1)[0], there, int(via.rsplit("_", 1)[1])), ("", 0))
            lane = lane_next
            last_start = len(points)
            points += self._shape(there, lane)
        xy = np.array(points)
        s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
        entry = s[marks[1]] if len(edges) > 1 else s[-1]
        leave = s[last_start] if len(edges) > 1 else s[-1]
        return LanePath(xy[:, 0], xy[:, 1], s, float(entry), float(leave))

    def _shape(self, edge: str, lane: int) -> tuple[tuple[float, float], ...]:
        try:
            return self._lanes[f"{edge}_{lane}"]
        except KeyError:
            edges = [name.rsplit("_", 1)[0] for name in self._lanes if not name.startswith(":")]
            if edge in edges:
                there = f"has {edges.count(edge)} lanes on edge '{edge}', numbered from 0, and no lane {lane}"
            else:
                there = f"has no edge '{edge}'; it has {', '.join(sorted(set(edges)))}"
            raise ValueError(f"the map {there}") from None

    def _link(self, here: str, there: str, lane: int) -> tuple[str, int]:
        try:
            return self._links[(here, there, lane)]
        except KeyError:
            raise ValueError(f"the map has no connection from {here} lane {lane} to {there}") from None


def load_network(source: Path) -> Network:
    """Open a map: a SUMO net (`*.net.xml`), an OpenDRIVE file (`*.xodr`) or a folder of plain XML.

    Raises:
        ValueError: the path does not exist, netconvert is missing or rejects the input.
    """
    if source.is_dir():
        inputs = [one for pattern in ("*.nod.xml", "*.edg.xml", "*.con.xml") for one in sorted(source.glob(pattern))]
        if len(inputs) < 2:
            raise ValueError(f"net folder {source} needs one *.nod.xml and one *.edg.xml")
        arguments = [f"--{_KIND[one.name.split('.')[-2]]}={one}" for one in inputs]
    elif source.is_file():
        kind = "opendrive-files" if source.suffix.lower() == ".xodr" else "sumo-net-file"
        inputs, arguments = [source], [f"--{kind}={source}"]
    else:
        raise ValueError(f"net {source} does not exist; give a *.net.xml or *.xodr file, or a folder of plain XML")
    return Network(*_built(inputs, arguments))


_KIND = {"nod": "node-files", "edg": "edge-files", "con": "connection-files"}


def _built(inputs: list[Path], arguments: list[str]) -> tuple[Path, Path]:
    """Build (or find in the cache) the net and its OpenDRIVE export."""
    netconvert = _netconvert()
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in inputs) + repr((_OPTIONS, _GEOREFERENCE)).encode())
    digest.update(netconvert.encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "adawm_planner" / "nets"
    folder = cache / digest.hexdigest()[:16]
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=cache))
        try:
            outputs = [f"--output-file={work / 'map.net.xml'}", f"--opendrive-output={work / 'map.xodr'}"]
            run = subprocess.run([netconvert, *arguments, *_OPTIONS, *outputs], capture_output=True, text=True)
            if run.returncode != 0:
                raise ValueError(f"netconvert rejects {inputs[0]}: {_reason(run)}")
            _finish_opendrive(work / "map.xodr")
            with suppress(OSError):  # another process was faster
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder / "map.net.xml", folder / "map.xodr"


def _reason(run: subprocess.CompletedProcess[str]) -> str:
    """The first error that netconvert told, in one line: those after it follow from it, the last says that it quits."""
    lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
    first = next((index for index, line in enumerate(lines) if line.startswith("Error:")), None)
    if first is None:
        return lines[-1]
    more = takewhile(lambda line: line.startswith(" "), lines[first + 1 :])
    return " ".join([lines[first].removeprefix("Error:").strip(), *(line.strip() for line in more)])


def _finish_opendrive(file: Path) -> None:
    """Drop netconvert's comment (it names this machine) and give the map a place on earth, as GNSS needs one."""
    text = re.sub(r"<!--.*?-->\s*", "", file.read_text(), flags=re.DOTALL)
    if "<geoReference>" not in text:
        text = re.sub(r"(<header[^>]*?)/?>(\s*</header>)?", rf"\1>{_GEOREFERENCE}</header>", text, count=1)
    file.write_text(text)


def _netconvert() -> str:
    found = netconvert()
    if found is None:
        raise ValueError("netconvert is not installed; install the 'sim' extra (eclipse-sumo)")
    return found
