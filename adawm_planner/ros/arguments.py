"""A node's command line: what rcl does not read of it, which is all that stands outside `--ros-args ... --`.

rcl would take `role_name:=hero` for a remapping of an old kind, warn, and let the node start with its defaults.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

BEGIN, END = "--ros-args", "--"
HELP_WORDS = ("-h", "--help")


def usage(program: str) -> str:
    """How a node is started."""
    return (
        f"usage: {program} [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO] ... [--]]\n"
        "The node's page in docs/ lists its parameters; `ros2 param describe` tells of each in a node that runs."
    )


def strays(words: Iterable[str]) -> list[str]:
    """Words outside `--ros-args ... --`; the program itself is not among `words`."""
    found, inside = [], False
    for word in words:
        if inside or word == BEGIN:
            inside = word != END
        else:
            found.append(word)
    return found


def refuse_strays(found: list[str]) -> None:
    """Raise ValueError where something stands outside, with the right call for what looks like a parameter."""
    if not found:
        return
    given = [word for word in found if ":=" in word and word[0].isalpha()] or ["NAME:=VALUE"]
    call = " ".join([BEGIN, *(f"-p {shlex.quote(word)}" for word in given)])
    raise ValueError(f"{shlex.join(found)} is not understood; parameters go as `{call}`")
