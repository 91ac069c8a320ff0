"""Sealed decisions in, the bytes of one chunk file out, and back with every seal checked.

A chunk is a compressed npz archive of columns, one row per decision. Its name carries place, length and checksum,
so that a listing tells what a file must be before it is opened.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.finetuning.captured import Captured, check, is_unchanged

SCHEMA = "adawm.replay/1"
"""Of chunks and of the store that holds them."""

_NAME = re.compile(r"chunk-(\d{8,})-(\d+)-([0-9a-f]{64})\.npz")


class DamagedChunkError(ValueError):
    """A chunk is not what was written; it must not be trained on."""


@dataclass(frozen=True)
class ChunkFile:
    """One closed chunk, by its name."""

    path: Path
    index: int  # counts chunks since the store was made
    count: int  # decisions
    digest: str  # sha256 of the file, hex

    @staticmethod
    def of(path: Path) -> ChunkFile | None:
        """What a file's name says; None for other names."""
        match = _NAME.fullmatch(path.name)
        return None if match is None else ChunkFile(path, int(match[1]), int(match[2]), match[3])


def chunk_name(index: int, count: int, data: bytes) -> str:
    """File name of a chunk."""
    return f"chunk-{index:08d}-{count}-{hashlib.sha256(data).hexdigest()}.npz"


def encode(decisions: Sequence[Captured]) -> bytes:
    """The bytes of a chunk."""
    ones = [one.experience for one in decisions]
    columns: dict[str, Any] = {
        "schema": np.array(SCHEMA.encode()),
        "stamp_s": np.array([one.stamp_s for one in ones], np.float64),
        "sequence": np.array([one.sequence for one in ones], np.int64),
        "episode": np.array([one.episode for one in ones], np.int64),
        "bev": np.stack([one.observation.bev for one in ones]),
        "state": np.stack([one.observation.state for one in ones]),
        "action": np.array([one.action.index for one in ones], np.uint16),
        "acceleration": np.array([one.action.acceleration for one in ones], np.float32),
        "probabilities": np.stack([one.action.probabilities for one in ones]),
        "value": np.array([one.value for one in ones], np.float32),
        "reward": np.array([astuple(one.reward) for one in ones], np.float32),
        "flags": np.array([(one.is_first, one.is_last, one.is_terminal) for one in ones], np.bool_),
        "base": np.array([one.base_digest.encode() for one in decisions]),
        "adapters": np.array([",".join(one.adapter_digests).encode() for one in decisions]),
        "intervention": np.array([one.intervention.encode() for one in ones]),
        "latency_ms": np.array([one.latency_ms for one in decisions], np.float32),
        "seal": np.stack([np.frombuffer(one.seal, np.uint8) for one in decisions]),
    }
    target = io.BytesIO()
    np.savez_compressed(target, **columns)
    return target.getvalue()


def read(file: ChunkFile) -> list[Captured]:
    """The decisions of a chunk, all of them as they were captured.

    Raises:
        DamagedChunkError: the file is not the one that was written, a decision is not the one that was captured, or
            it is one that is refused today, though it was taken when it was captured.
        OSError: the file cannot be read; FileNotFoundError when it was evicted meanwhile.
    """
    if file.path.is_symlink():
        raise DamagedChunkError(f"{file.path.name} is a link, must be a file")
    data = file.path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != file.digest:
        raise DamagedChunkError(f"{file.path.name} holds {len(data)} bytes with sha256 {found}, must be {file.digest}")
    try:
        decisions = _decode(data)
    except (KeyError, ValueError, IndexError, EOFError, BadZipFile, zlib.error) as error:
        raise DamagedChunkError(f"{file.path.name} is no chunk ({error})") from error
    if len(decisions) != file.count:
        raise DamagedChunkError(f"{file.path.name} holds {len(decisions)} decisions, must hold {file.count}")
    for row, one in enumerate(decisions):
        if not is_unchanged(one):
            raise DamagedChunkError(
                f"{file.path.name}: decision {row} (sequence {one.experience.sequence}) is not what was captured: "
                f"its seal is {one.seal.hex()}"
            )
        try:
            check(one.experience, one.base_digest, one.latency_ms)
        except ValueError as error:
            where = f"{file.path.name}: decision {row} (sequence {one.experience.sequence})"
            raise DamagedChunkError(f"{where} cannot be one of this planner: {error}") from error
    return decisions


def _decode(data: bytes) -> list[Captured]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        columns = {name: archive[name] for name in archive.files}
    schema = bytes(columns["schema"]).decode(errors="replace")
    if schema != SCHEMA:
        raise ValueError(f"schema is {schema}, must be {SCHEMA}")
    for name in ("bev", "state", "probabilities"):
        columns[name].setflags(write=False)  # what happened is not to be changed by who reads it
    return [_row(columns, row) for row in range(len(columns["sequence"]))]


def _row(columns: dict[str, Any], row: int) -> Captured:
    first, last, terminal = (bool(flag) for flag in columns["flags"][row])
    adapters = columns["adapters"][row].decode()
    action = Action(int(columns["action"][row]), float(columns["acceleration"][row]), columns["probabilities"][row])
    experience = Experience(
        stamp_s=float(columns["stamp_s"][row]),
        sequence=int(columns["sequence"][row]),
        episode=int(columns["episode"][row]),
        observation=Observation(columns["bev"][row], columns["state"][row]),
        action=action,
        value=float(columns["value"][row]),
        reward=RewardTerms(*(float(term) for term in columns["reward"][row])),
        is_first=first,
        is_last=last,
        is_terminal=terminal,
        adapter_digests=tuple(adapters.split(",")) if adapters else (),
        # Chunks that were written before there was a gate do not have the column.
        intervention=columns["intervention"][row].decode() if "intervention" in columns else "",
    )
    return Captured(
        experience,
        columns["base"][row].decode(),
        float(columns["latency_ms"][row]),
        columns["seal"][row].tobytes(),
    )
