"""A net that is none is refused by name, before anything is kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("libsumo")

from adawm_planner.simulator.network import NETS_DIR, load_network

SOURCE = NETS_DIR / "intersection"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copied(folder: Path, name: str, content: str) -> Path:
    folder.mkdir()
    for file in SOURCE.iterdir():
        (folder / file.name).write_text(content if file.name == name else file.read_text())
    return folder


def kept(cache: Path) -> list[Path]:
    return list(cache.rglob("map.*"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "invalid document structure In file .*intersection.nod.xml"),
        ("no xml", "invalid document structure In file .*intersection.nod.xml"),
        ("<nodes>", "unterminated|input ended"),
        ("<nodes/>", "No nodes loaded|not known"),
        ('<nodes><node id="a"/></nodes>', r"Missing position \(at node ID='a'\)"),
    ],
)
def test_plain_xml_that_netconvert_rejects_is_told_with_its_reason(
    tmp_path: Path, cache: Path, content: str, reason: str
) -> None:
    folder = copied(tmp_path / "net", "intersection.nod.xml", content)
    with pytest.raises(ValueError, match=f"netconvert rejects .*net/intersection.nod.xml: .*({reason})") as refused:
        load_network(folder)
    assert "\n" not in str(refused.value) and "Quitting" not in str(refused.value) and not kept(cache)


@pytest.mark.parametrize("content", ["", "no xml", "<net>", "<net/>", "<other/>"])
def test_a_finished_net_that_is_none_is_named(tmp_path: Path, cache: Path, content: str) -> None:
    file = tmp_path / "some.net.xml"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"some\.net\.xml"):
        load_network(file)
    assert not kept(cache)


@pytest.mark.parametrize("step", ["subprocess.run", "_finish_opendrive"])
def test_a_conversion_that_breaks_off_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"adawm_planner.simulator.network.{step}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_network(SOURCE)
    assert list((cache / "adawm_planner" / "nets").iterdir()) == []


def test_a_path_that_is_not_there_and_a_folder_without_edges_are_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_network(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="needs one \\*.nod.xml and one \\*.edg.xml"):
        load_network(tmp_path)


def test_an_opendrive_file_is_the_map_that_it_was_made_of(tmp_path: Path, cache: Path) -> None:
    net = load_network(SOURCE)
    file = tmp_path / "town.XODR"
    file.write_text(net.opendrive)
    found = load_network(file)
    edges = [name.removesuffix("_0") for name in found._lanes if not name.startswith(":")]
    for way in (["south_in", "east_out"], ["south_in", "west_out"]):
        ours = net.path(way, 0)
        ends = [net.path([edge], 0) for edge in way]
        named = [
            next(edge for edge in edges if np.hypot(*np.subtract(found.path([edge], 0).at(0.0), there.at(0.0))) < 0.1)
            for there in ends
        ]
        theirs = found.path(named, 0)
        assert theirs.s[-1] == pytest.approx(ours.s[-1], abs=0.5)
        at = np.linspace(0.0, ours.s[-1], 50)
        assert np.hypot(*np.subtract(theirs.at(at), ours.at(at))).max() < 0.5


def test_an_opendrive_file_that_is_none_is_named(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "town.xodr"
    file.write_text("<net/>")
    with pytest.raises(ValueError, match=r"town\.xodr"):
        load_network(file)
    assert not kept(cache)


def test_an_unknown_edge_names_those_there_are(cache: Path) -> None:
    net = load_network(SOURCE)
    with pytest.raises(ValueError, match="no edge 'nowhere'; it has .*south_in"):
        net.path(["nowhere"], 0)
    with pytest.raises(ValueError, match="has 1 lanes on edge 'south_in', numbered from 0, and no lane 7"):
        net.path(["south_in"], 7)
    with pytest.raises(ValueError, match="no connection from east_out lane 0 to south_in"):
        net.path(["east_out", "south_in"], 0)
