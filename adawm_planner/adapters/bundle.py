"""A bundle as {file name: bytes}: made from factors, signed, written as a directory, read from one.

The directory and the wire carry the same files; `verify` checks both.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adawm_planner.adapters.factors import Factors
from adawm_planner.adapters.keys import KEY_ID_DIGITS, SIGNATURE_BYTES, key_id
from adawm_planner.adapters.manifest import FileEntry, LayerEntry, Manifest, parse_manifest
from adawm_planner.adapters.onnx_file import ONNX_FILE, onnx_adapter
from adawm_planner.adapters.peft_files import CONFIG_FILE, TENSOR_FILE, peft_config, peft_tensors
from adawm_planner.adapters.probe import make_probe
from adawm_planner.adapters.refusal import Reason, refuse, shown
from adawm_planner.adapters.strict_json import canonical, parse_canonical
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.durable import create_folder

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"
SIGNATURE_SCHEMA = "adawm.signature/1"
KEY_ID = re.compile(rf"[0-9a-f]{{{KEY_ID_DIGITS}}}")
DATA_FILES = (CONFIG_FILE, TENSOR_FILE, ONNX_FILE)
"""What the manifest holds the digests of."""

BUNDLE_FILES = (*DATA_FILES, MANIFEST_FILE, SIGNATURE_FILE)
TEXT_FILES = (CONFIG_FILE, MANIFEST_FILE, SIGNATURE_FILE)

Files = Mapping[str, bytes]
"""File name -> content."""


@dataclass(frozen=True)
class Draft:
    """What the maker of a bundle says about it; fields as Manifest's."""

    name: str
    part: str
    base: str
    counter: int
    created_unix_s: int
    parent: str | None = None
    expires_unix_s: int | None = None
    vehicle: str | None = None
    mismatch: Mapping[str, float] = field(default_factory=dict)
    data_sha256: str | None = None
    gate: Mapping[str, Any] = field(default_factory=dict)
    acting: tuple[str, ...] | None = None


def build_bundle(draft: Draft, factors: Factors, session: Any, limits: AdapterLimits) -> dict[str, bytes]:
    """The files of an unsigned bundle.

    Args:
        draft: what the manifest says.
        factors: of the draft's part alone, float32.
        session: of the base's planner.onnx, which runs the probe.
        limits: its probe tolerance is the least effect that an adapter must have.

    Raises:
        ValueError: no factors, a field of the draft has the wrong form, or the adapter has no effect.
    """
    if not factors:
        raise ValueError(f"no factors of part {draft.part}: nothing was adapted in it")
    layers = {
        name: LayerEntry(down.shape[0], up.shape[1], down.shape[1], str(down.dtype))
        for name, (down, up) in factors.items()
    }
    data = {
        CONFIG_FILE: peft_config(draft.part, layers),
        TENSOR_FILE: peft_tensors(draft.part, factors),
        ONNX_FILE: onnx_adapter(factors),
    }
    entries = {name: FileEntry(hashlib.sha256(content).hexdigest(), len(content)) for name, content in data.items()}
    probe = make_probe(session, factors, draft.counter, limits.probe_tolerance)
    manifest = Manifest(**vars(draft), layers=layers, files=entries, probe=probe).to_bytes()
    parse_manifest(manifest)  # the maker is held to the same rules as everybody else
    return {**data, MANIFEST_FILE: manifest}


def sign_bundle(files: Files, key: Ed25519PrivateKey) -> dict[str, bytes]:
    """The files with signature.json: Ed25519 over the bytes of manifest.json; an earlier signature is replaced."""
    signature = {
        "schema": SIGNATURE_SCHEMA,
        "key_id": key_id(key.public_key()),
        "signature": key.sign(files[MANIFEST_FILE]).hex(),
    }
    return {**files, SIGNATURE_FILE: canonical(signature)}


def parse_signature(content: bytes) -> tuple[str, bytes]:
    """Key id and signature of signature.json. Raises ValueError for any other form than `sign_bundle`'s."""
    values = parse_canonical(content)
    if not isinstance(values, dict) or set(values) != {"schema", "key_id", "signature"}:
        raise ValueError("must hold schema, key_id and signature, and nothing else")
    if values["schema"] != SIGNATURE_SCHEMA:
        raise ValueError(f"schema must be {SIGNATURE_SCHEMA}")
    if not all(isinstance(each, str) for each in values.values()):
        raise ValueError("key_id and signature must be texts")
    if not KEY_ID.fullmatch(values["key_id"]):
        found = shown(values["key_id"])
        raise ValueError(f"key_id is '{found}', must be {KEY_ID_DIGITS} lower-case hexadecimal digits")
    signature = bytes.fromhex(values["signature"])
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"signature has {len(signature)} bytes, must have {SIGNATURE_BYTES}")
    return values["key_id"], signature


def write_bundle(folder: Path, files: Files) -> None:
    """Write a bundle's files as a new directory, which appears whole or not at all.

    Raises:
        ValueError: the directory exists and is not empty.
        OSError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=folder.parent) as staging:
        create_folder(folder, files, Path(staging) / "files")


def read_bundle(folder: Path, limits: AdapterLimits) -> dict[str, bytes]:
    """Read a directory as a bundle: only the known names, regular files, no links, nothing beyond the size limits.

    Raises:
        Refused: the directory is not a bundle.
    """
    remedy = "Give a folder that `adawm adapter sign` or the finetuner wrote"
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        reason = Reason.SYMLINK if os.path.islink(folder) else Reason.UNREADABLE
        refuse(reason, "a bundle must be a folder", f"{folder}: {error.strerror}", "a folder, no link", remedy)
    try:
        with os.scandir(descriptor) as entries:
            # One more than allowed is enough to refuse; a folder may hold millions.
            names = [entry.name for entry, _ in zip(entries, range(len(BUNDLE_FILES) + 1), strict=False)]
        check_names(names)
        return {name: _read(descriptor, name, size_limit(name, limits)) for name in names}
    except OSError as error:
        refuse(
            Reason.UNREADABLE,
            "the disk must give what it holds",
            f"{folder}: {error.strerror}",
            "no error",
            "Check the disk; fetch the bundle again",
        )
    finally:
        os.close(descriptor)


def check_names(names: list[str]) -> None:
    """Raises Refused for a name that no bundle has; what is missing is for `verify` to say."""
    for name in names:
        if name != os.path.basename(name) or name in ("", ".", ".."):
            refuse(Reason.FILE_NAME, "files must have plain names", repr(name), "no folder", "Do not trust its sender")
        if name not in BUNDLE_FILES:
            refuse(
                Reason.EXTRA_FILE,
                "a bundle must hold no other file",
                name,
                ", ".join(BUNDLE_FILES),
                "Remove the file, or fetch the bundle again",
            )


def size_limit(name: str, limits: AdapterLimits) -> int:
    """Largest size of a file of a bundle in bytes."""
    return limits.largest_text if name in TEXT_FILES else limits.largest_file


def _read(folder: int, name: str, limit: int) -> bytes:
    """Content of a regular file, never more than one byte beyond the limit."""
    remedy = "Fetch the bundle again as plain files"
    try:
        # Not blocking, because opening a named pipe would wait for its writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        reason = Reason.SYMLINK if error.errno == errno.ELOOP else Reason.UNREADABLE
        refuse(reason, "files must be plain files", f"{name}: {error.strerror}", "no links", remedy)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            refuse(Reason.NOT_A_FILE, "files must be plain files", name, "no folders, pipes or devices", remedy)
        check_size(name, status.st_size, limit)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
        check_size(name, len(content), limit)
        return content
    finally:
        os.close(descriptor)


def check_size(name: str, size: int, limit: int) -> None:
    """Raises Refused for a file larger than its limit."""
    if size > limit:
        refuse(
            Reason.FILE_SIZE,
            f"{name} must not be larger than its limit",
            f"{size} bytes",
            f"{limit} bytes",
            "No adapter of this model is that large: do not trust its sender",
        )
