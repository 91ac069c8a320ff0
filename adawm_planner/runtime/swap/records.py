"""Records of what drove when nothing was tried, kept across restarts: one for each set of adapters.

Without its record a planner would ask of the next adapter what the configuration says, which a vehicle that fails more
often never reaches, however good the adapter is.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from adawm_planner.adapters.strict_json import canonical, parse_canonical
from adawm_planner.adapters.verify import Context
from adawm_planner.config.checks import finite
from adawm_planner.durable import replacing
from adawm_planner.runtime.swap.probation import Record, Results

_log = logging.getLogger(__name__)

RECORD_FILE = "record.json"
SCHEMA = "adawm.record/1"

KEEP = 8
"""Records kept, the newest: those of the sets of adapters that a roll back can lead to, and of another start's."""

Key = tuple[str, str | None, tuple[str, ...]]
"""Whose record it is: base model, vehicle id, digests of the adapters in order."""


class Records:
    """The file of them. What cannot be read or written costs the record at a restart, and nothing else."""

    def __init__(self, folder: Path, context: Context) -> None:
        """Read what was kept.

        Args:
            folder: of the store, which only this process has open.
            context: says which base model and vehicle the records from now on are of.
        """
        self._path, self._base, self._vehicle = folder / RECORD_FILE, context.base.digest, context.vehicle
        self._untold = True  # that it cannot be written
        self._kept: dict[Key, Results] = {}  # the newest last
        try:
            self._kept = _parse(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            _log.warning("%s: the records of earlier driving cannot be used (%s) and begin anew", self._path, error)

    def of(self, adapters: Collection[str]) -> Record:
        """The record of a set of adapters with this base model in this vehicle; empty when none was kept."""
        return Record(self._kept.get(self._key(adapters), ()))

    def keep(self, adapters: Collection[str], record: Record) -> None:
        """Replace the record of a set of adapters, durably where the disk takes it."""
        key = self._key(adapters)
        self._kept.pop(key, None)
        self._kept = dict([*self._kept.items(), (key, record.results)][-KEEP:])
        try:
            with replacing(self._path, self._path.with_name(f".{RECORD_FILE}.part")) as staged:
                staged.write_bytes(_content(self._kept))
        except OSError as error:
            if self._untold:
                _log.warning("%s: %s: a restart would lose the newest episodes of the record", self._path, error)
            self._untold = False
        else:
            self._untold = True

    def _key(self, adapters: Collection[str]) -> Key:
        return self._base, self._vehicle, tuple(sorted(adapters))


def _content(kept: dict[Key, Results]) -> bytes:
    records = [
        {"base": base, "vehicle": vehicle, "adapters": adapters, "results": results}
        for (base, vehicle, adapters), results in kept.items()
    ]
    return canonical({"schema": SCHEMA, "records": records, "sha256": _digest(records)})


def _digest(records: Any) -> str:
    return hashlib.sha256(canonical(records)).hexdigest()


def _parse(content: bytes) -> dict[Key, Results]:
    """Raises ValueError for content of another version, or damaged."""
    try:
        values = parse_canonical(content)
        if values["schema"] != SCHEMA or values["sha256"] != _digest(values["records"]):
            raise ValueError("its sha256 or its schema is another")
        return {
            (each["base"], each["vehicle"], tuple(each["adapters"])): tuple(map(_result, each["results"]))
            for each in values["records"]
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"of another version, {error!r}") from error


def _result(value: Any) -> tuple[bool, float]:
    success, total = value
    if not isinstance(success, bool) or not finite(total):
        raise ValueError("an episode is not its success and its return")
    return success, float(total)
