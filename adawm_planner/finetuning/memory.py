"""What the finetuner knows across restarts: counters, bundles, and the student behind each bundle.

Everything a round made is on disk before `state.json` names it, and `state.json` is replaced at once: a finetuner
killed at any moment finds either the round as if it had never begun, or all of it. What a killed round left behind is
removed when the memory is opened, and was never published. `state.json` is there before anything else is, so that
bundles or students without it are a loss, which is told and never swept away.

| in the folder | what |
|---|---|
| `state.json` | rounds done, last chunk used, counters, bundles |
| `students/base.safetensors` | the student before its first update |
| `students/DIGEST.safetensors` | the student that the bundle of this digest was made of, critic included |
| `bundles/PART-COUNTER/` | signed bundles |
| `student.safetensors` | the student that the last round began with |
| `paused` | there while an operator's pause holds; written by the node, all else by its worker |
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adawm_planner.adapters.store import FINETUNER_FILE, LOG_FILE
from adawm_planner.durable import left_behind, remove, replace_json, replacing, sync

SCHEMA = "adawm.finetuner/1"
STATE_FILE = FINETUNER_FILE
BEGUN_FILE = "student.safetensors"
PAUSED_FILE = "paused"
STUDENTS, BUNDLES = "students", "bundles"
BASE = "base"
KEPT_BUNDLES = 32
"""Newest bundles whose files and students are kept, beside those that drove in the last round."""

ANEW = "a new one needs a new adapters.store of the planner too, because counters begin again"


@dataclass(frozen=True)
class Made:
    """A bundle that was made here."""

    digest: str  # sha256, hex
    part: str  # dynamics or policy
    counter: int
    student: str = ""  # sha256 of the student's file, hex; empty: made before it was noted


@dataclass(frozen=True)
class Known:
    """What state.json holds."""

    base: str  # digest of the base model
    round: int = 0  # rounds done
    last_chunk: int = -1  # index of the newest chunk of the replay that a round has used
    last_part: str = "nothing"  # what the last round repaired, as select_part.Part
    counters: Mapping[str, int] = field(default_factory=dict)  # part -> highest counter used
    made: tuple[Made, ...] = ()  # oldest first
    report: Mapping[str, Any] | None = None  # of the last round, as messages.RoundDone
    aside: int = -1  # index of the newest chunk that no round reads any more: one failed on what was there
    failed: str = ""  # how the last round that was begun failed, and what was set aside; empty: it did not


class Memory:
    """The folder of one finetuner, used by one process."""

    def __init__(self, folder: Path, base: str) -> None:
        """Open or make it; what a killed round left is removed.

        Raises:
            ValueError: state.json is lost, damaged, of another version, or of another base model; or the folder is a
                planner's store.
            OSError: the folder cannot be made or written.
        """
        self.folder, known = folder, read_known(folder, base)
        for name in (STUDENTS, BUNDLES):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if known is None:
            self.keep(Known(base))
        else:
            self.known = known
            self._sweep()

    def student(self, name: str) -> Path:
        """File of the student behind a bundle's digest, or of BASE."""
        return self.folder / STUDENTS / f"{name}.safetensors"

    def made(self, digest: str) -> Made | None:
        """The bundle of this digest, if it was made here and is still kept."""
        return next((one for one in self.known.made if one.digest == digest), None)

    def keep(self, known: Known) -> None:
        """Make this the truth; of the bundles beyond the newest KEPT_BUNDLES, those that do not drive are forgotten.

        One part may be repaired again and again while an old adapter of the other still drives: without its student no
        later round could begin.
        """
        driving = () if known.report is None else known.report["acting"]
        old, newest = known.made[:-KEPT_BUNDLES], known.made[-KEPT_BUNDLES:]
        known = replace(known, made=(*(one for one in old if one.digest in driving), *newest))
        replace_json(self.folder / STATE_FILE, {"schema": SCHEMA, **asdict(known)})
        self.known = known
        self._sweep()

    def _sweep(self) -> None:
        """Remove what state.json does not name, and what a writer that was killed left."""
        students = {f"{one.digest}.safetensors" for one in self.known.made} | {f"{BASE}.safetensors"}
        bundles = {bundle_folder(self.folder, one).name for one in self.known.made}
        strays = [each for name in (STATE_FILE, BEGUN_FILE) for each in left_behind(self.folder / name)]
        for folder, named in ((self.folder / STUDENTS, students), (self.folder / BUNDLES, bundles)):
            strays += [path for path in folder.iterdir() if path.name not in named]
        for path in strays:
            why = remove(path)
            if why:
                print(f"{path}: is of no round and cannot be removed ({why}); remove it by hand", file=sys.stderr)


def bundle_folder(folder: Path, made: Made) -> Path:
    """Where the bundle lies in the folder of a memory."""
    return folder / BUNDLES / f"{made.part}-{made.counter:06d}"


def told_bundle(folder: Path, told: str) -> Path:
    """Where the bundle of a report lies in the folder of a memory, which may have been moved since.

    Reports of before hold the whole path that the bundle had when it was made.
    """
    return folder / BUNDLES / Path(told).name


def read_known(folder: Path, base: str) -> Known | None:
    """What state.json of a folder holds; None where nothing has been made yet.

    Raises:
        ValueError: it is damaged, of another version, or of another base model than `base`; or it is lost, though what
            it names is there; or the folder is a planner's store.
    """
    path = folder / STATE_FILE
    if (folder / LOG_FILE).exists():
        raise ValueError(f"{folder}: holds {LOG_FILE}, so it is a planner's adapters.store; name another state_dir")
    if not path.exists():
        left = _left(folder)
        if left:
            raise ValueError(
                f"{path}: is missing, though {left} is there; restore it, or name another state_dir: {ANEW}"
            )
        return None
    try:
        values = json.loads(path.read_text())
        if values.pop("schema") != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        made = tuple(Made(**one) for one in values.pop("made"))
        known = Known(**values, made=made)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{path}: not a finetuner's state ({error}); restore it, or name another state_dir: {ANEW}"
        ) from error
    if known.base != base:
        raise ValueError(
            f"{path}: is of base model {known.base[:12]}, model_dir holds {base[:12]}; name another state_dir: {ANEW}"
        )
    return known


def read_paused(folder: Path) -> bool:
    """Whether a pause is kept in the folder of a memory. Raises OSError when the disk does not tell.

    That the file is there says it, whatever it holds: a damaged one still means that somebody paused. To train and push
    an adapter against an operator's will cannot be undone; a pause too many costs time, and one call ends it.
    """
    try:
        (folder / PAUSED_FILE).lstat()
    except FileNotFoundError:
        return False
    return True


def keep_paused(folder: Path, paused: bool) -> None:
    """Keep a pause, or its end, across restarts; for the one process that has the folder's replay open.

    Raises:
        OSError: it cannot be kept; then what was kept before still holds, or this does and may be lost with the power.
    """
    path = folder / PAUSED_FILE
    if paused:
        # One name for all processes: what a killed one left is overwritten.
        with replacing(path, folder / f".{PAUSED_FILE}.part") as staged:
            staged.write_text("paused by ~/pause; ~/resume removes this file\n")
    else:
        path.unlink(missing_ok=True)  # which a full disk does not forbid
        sync(folder)


def _left(folder: Path) -> str:
    """One bundle or student of a folder, as its place in there; empty where there is none."""
    bundles = (path for path in folder.glob(f"{BUNDLES}/*") if path.is_dir())  # others put files there too
    found = [*bundles, *folder.glob(f"{STUDENTS}/*.safetensors")]
    return min((str(path.relative_to(folder)) for path in found if path.name != f"{BASE}.safetensors"), default="")


def acting(memory: Memory, digests: Sequence[str]) -> dict[str, Made] | str:
    """The bundles that drive by part, or why nobody here can tell what drives."""
    found: dict[str, Made] = {}
    for digest in digests:
        one = memory.made(digest)
        if one is None:
            return (
                f"the planner drives with adapter {digest[:12]}, which was not made here; "
                "roll it back, or let the finetuner that made it go on"
            )
        found[one.part] = one
    return found
