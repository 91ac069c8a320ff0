"""Task or vehicle in, what stands for its content out: by it what was driven there is found again.

A built-in never changes and is its name. A file of one's own is edited, so its content counts and not where it lies.
Nothing here needs the simulator: the finetuner's node looks too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from adawm_planner.config.yaml_file import read_mapping

SIMULATOR = Path(__file__).parent / "simulator"
NET_FILES = ("*.nod.xml", "*.edg.xml", "*.con.xml")
DIGITS = 12


def place_key(name: str) -> str:
    """A built-in name as it is; a file by name and content, that of a net of its own included.

    Raises ValueError for a file that cannot be read.
    """
    path = Path(name)
    if _built_in(name) or not path.is_file():
        return name
    net = own_net(path.parent, str(read_mapping(path).get("map", "")))
    return f"{path.name} (sha256 {_digest([path])}{', net ' * bool(net)}{net})"


def own_net(folder: Path, name: str) -> str:
    """Digest of the net of a task in `folder` whose `map` is `name`; empty for a built-in one or none."""
    net = folder / name
    if not name or (SIMULATOR / "nets" / name).is_dir() or not net.exists():
        return ""
    return _digest([net] if net.is_file() else sorted(file for kind in NET_FILES for file in net.glob(kind)))


def _built_in(name: str) -> bool:
    return any(name == file.stem for kind in ("tasks", "vehicles") for file in (SIMULATOR / kind).glob("*.yaml"))


def _digest(files: list[Path]) -> str:
    """First digits of the sha256 of these files' contents; of one file, those that sha256sum prints."""
    try:
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:DIGITS]
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error
