"""Ed25519 keys: made, read, trusted. The private key is in one file of mode 0600 and never in a message or a log.

Signing and checking are `cryptography`'s (OpenSSL).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from adawm_planner.durable import create_whole

PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".pem", ".pub"
KEY_ID_DIGITS = 16
LARGEST_KEY_FILE = 16 * 2**10
"""Bytes; a PEM file of an Ed25519 key has about 120."""

PUBLIC_LABEL = b"-----BEGIN PUBLIC KEY-----"
"""First line of a public key in a PEM file (RFC 7468, section 13)."""

SIGNATURE_BYTES = 64

Trust = Mapping[str, Ed25519PublicKey]
"""Key id -> key."""


def key_id(key: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the sha256 of the raw public key: a name, not a proof."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:KEY_ID_DIGITS]


def generate_key(stem: Path) -> tuple[Path, Path, str]:
    """Write STEM.pem (private, mode 0600) and then STEM.pub, each at once; return both paths and the key id.

    Raises:
        ValueError: the stem is no name or has a key's suffix already, or one of the files exists; nothing is
            overwritten.
        OSError: the folder cannot be written.
    """
    if stem.name in ("", ".."):
        raise ValueError(f"'{stem}' is no name for a key; keys/me makes keys/me.pem and keys/me.pub")
    if stem.suffix in (PRIVATE_SUFFIX, PUBLIC_SUFFIX):
        raise ValueError(f"{stem}: give the name without {stem.suffix}, which is added: {stem.with_suffix('')}")
    private, public = stem.with_name(stem.name + PRIVATE_SUFFIX), stem.with_name(stem.name + PUBLIC_SUFFIX)
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise ValueError(f"{path}: exists, and a key is never overwritten; choose another name or move it away")
    stem.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    create_whole(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return private, complete_pair(private), key_id(key.public_key())


def complete_pair(private: Path) -> Path:
    """The public key's file beside a private one, written if it is missing, as after a kill between the two.

    Raises:
        ValueError: as `read_private_key`.
        OSError: the folder cannot be written.
    """
    public, key = private.with_suffix(PUBLIC_SUFFIX), read_private_key(private).public_key()
    if not public.exists():
        create_whole(public, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    elif key_id(read_public_key(public)) != key_id(key):
        raise ValueError(f"{public}: is not the public key of {private}; move it away, then it is written anew")
    return public


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        ValueError: the file is readable by others, or holds no unencrypted Ed25519 private key; the message never
            holds any of its content.
    """
    content = _content(path)
    if PUBLIC_LABEL in content:
        raise ValueError(f"{path}: this is the public key; the private one is in the {PRIVATE_SUFFIX} file beside it")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ValueError(f"{path}: mode is {mode:04o}, others could read the private key; run chmod 600 {path}")
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: the library's message may quote the content.
        raise ValueError(f"{path}: holds no unencrypted private key; `adawm adapter keygen` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: holds a key of another kind, Ed25519 is needed; `adawm adapter keygen` makes one")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key. Raises ValueError when the file holds no Ed25519 public key."""
    content = _content(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path}: holds no public key; trust the .pub file, never the .pem") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path}: holds a key of another kind, Ed25519 is needed")
    return key


def read_trust(paths: Sequence[Path]) -> dict[str, Ed25519PublicKey]:
    """The keys whose bundles are accepted.

    Args:
        paths: public key files, or folders of which every *.pub is taken.

    Raises:
        ValueError: a path does not exist, a folder holds no *.pub, or a file holds no Ed25519 public key.
    """
    trust: dict[str, Ed25519PublicKey] = {}
    for path in paths:
        files = sorted(path.glob(f"*{PUBLIC_SUFFIX}")) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"{path}: holds no *{PUBLIC_SUFFIX} file; `adawm adapter keygen` makes one")
        for key in map(read_public_key, files):
            trust[key_id(key)] = key
    return trust


def is_signed_by(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    """Whether the signature of the content is by this key."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None
    if len(content) > LARGEST_KEY_FILE:
        raise ValueError(f"{path}: larger than {LARGEST_KEY_FILE} bytes, no key file")
    return content
