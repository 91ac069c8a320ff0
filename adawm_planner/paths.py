"""Where the files shipped beside the code are: models, launch files, parameters.

They are found in a source checkout (also one installed with `pip install -e` or `colcon build
--symlink-install`) and below share/adawm_planner of an install prefix (pip or colcon).
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

NAME = "adawm_planner"
PREFIX_VARIABLE = "AMENT_PREFIX_PATH"


def share_dir() -> Path:
    """Folder that holds package.xml, launch/ and models/; FileNotFoundError says where it was looked for."""
    looked = list(dict.fromkeys(_candidates(Path(__file__).resolve())))
    for folder in looked:
        if (folder / "package.xml").is_file():
            return folder
    places = ", ".join(map(str, looked[:1] + looked[-2:]))
    raise FileNotFoundError(f"the files of {NAME} (models, launch) were not found, looked in {places} and others")


def models_dir() -> Path:
    """Folder of the shipped models."""
    return share_dir() / "models"


def default_model_dir() -> Path:
    """Folder of the base model that this installation ships."""
    return models_dir() / "base"


def launch_dir() -> Path:
    """Folder of the launch files; parameters are in params/."""
    return share_dir() / "launch"


def install_extra(extra: str) -> str:
    """The command that installs one of setup.py's extras; by path, as the name on an index may be another's."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "setup.py").is_file():
        return f"pip install -e '{checkout}[{extra}]'"
    return f"pip install '.[{extra}]' in a checkout of {NAME}"


def user_path(text: str) -> Path:
    """A path that somebody wrote, with ~ as a shell reads it: that of an unknown user stays as it is.

    `Path.expanduser` raises RuntimeError for one instead.
    """
    return Path(os.path.expanduser(text))


def _candidates(module: Path) -> Iterator[Path]:
    """The checkout, then share/ of each folder above the module, then of each sourced ROS prefix."""
    yield module.parents[1]
    for folder in module.parents[1:]:
        yield folder / "share" / NAME
    for prefix in os.environ.get(PREFIX_VARIABLE, "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / NAME


def netconvert() -> str | None:
    """The program that builds SUMO nets: the eclipse-sumo wheel's, else the one on PATH."""
    bundled = Path(sysconfig.get_path("purelib")) / "sumo" / "bin" / "netconvert"
    return str(bundled) if bundled.is_file() else shutil.which("netconvert")
