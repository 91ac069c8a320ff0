"""Points the CMake files of the ROS wheels at this interpreter.

The wheels carry two folders of the machine that built them: Python's include folder and numpy's. They are
rewritten in place under the environment's share/*/cmake; a second run finds nothing left to do.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

NUMPY_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_?core/include")
PYTHON_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")


def fix(prefix: Path) -> int:
    """Rewrite the baked paths under `prefix`/share; returns the number of files changed."""
    changed = 0
    for file in prefix.glob("share/*/cmake/*.cmake"):
        before = file.read_text(encoding="utf-8")
        after = NUMPY_INCLUDE.sub(np.get_include(), before)
        after = PYTHON_INCLUDE.sub(sysconfig.get_paths()["include"], after)
        if after != before:
            file.write_text(after, encoding="utf-8")
            changed += 1
    return changed


if __name__ == "__main__":
    print(f"CMake files rewritten: {fix(Path(sys.prefix))}")
