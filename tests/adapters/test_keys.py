"""Keys are made once, kept to their owner, and never shown."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from adawm_planner.adapters.keys import (
    complete_pair,
    generate_key,
    is_signed_by,
    key_id,
    read_private_key,
    read_public_key,
    read_trust,
)


def test_a_pair_signs_and_checks(tmp_path: Path) -> None:
    old = os.umask(0)  # the mode must not depend on it
    try:
        private, public, name = generate_key(tmp_path / "keys" / "me")
    finally:
        os.umask(old)
    assert private.stat().st_mode & 0o777 == 0o600
    key = read_private_key(private)
    assert key_id(key.public_key()) == name and len(name) == 16 and set(read_trust([public])) == {name}
    signature = key.sign(b"content")
    assert is_signed_by(read_public_key(public), signature, b"content")
    assert not is_signed_by(read_public_key(public), signature, b"Content")


@pytest.mark.parametrize("taken", ["me.pem", "me.pub"])
def test_nothing_is_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ValueError, match=f"{taken}: exists, and a key is never overwritten"):
        generate_key(tmp_path / "me")
    assert [path.name for path in tmp_path.iterdir()] == [taken] and (tmp_path / taken).read_text() == "mine"


class Killed(BaseException):
    """The process ended here."""


def test_killed_at_any_step_on_the_disk_it_leaves_whole_files_and_a_pair_that_can_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "link")}
    for step in range(100):
        left = [step]

        def counted(name: str, left: list[int] = left) -> Any:
            def act(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    if name == "write":
                        real[name](arguments[0], bytes(arguments[1])[:20])
                    raise Killed
                return real[name](*arguments, **options)

            return act

        stem = tmp_path / f"keys{step}" / "me"
        with monkeypatch.context() as patched:
            for name in real:
                patched.setattr(os, name, counted(name))
            patched.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # it does not come to that
            with contextlib.suppress(Killed):
                generate_key(stem)
        private, public = stem.with_name("me.pem"), stem.with_name("me.pub")
        if private.exists():
            assert complete_pair(private) == public
        else:
            assert not public.exists() and generate_key(stem)[:2] == (private, public)
        name = key_id(read_private_key(private).public_key())
        assert set(read_trust([public.parent])) == {name} and private.stat().st_mode & 0o777 == 0o600
        if left[0] >= 0:
            break
    assert 8 < step < 99


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "me.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="exists"):
        generate_key(tmp_path / "me")
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    private, _, _ = generate_key(tmp_path / "me")
    private.chmod(0o640)
    with pytest.raises(ValueError, match="mode is 0640, others could read the private key; run chmod 600"):
        read_private_key(private)


@pytest.mark.parametrize("suffix", [".pem", ".pub"])
def test_a_name_that_has_the_suffix_already_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=f"me{suffix}: give the name without {suffix}, which is added: .*/me$"):
        generate_key(tmp_path / f"me{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stem", ["", "/", ".."])
def test_a_name_that_is_none_is_refused(stem: str) -> None:
    with pytest.raises(ValueError, match="is no name for a key; keys/me makes keys/me.pem"):
        generate_key(Path(stem))


def test_the_public_key_in_place_of_the_private_one_is_told(tmp_path: Path) -> None:
    _, public, _ = generate_key(tmp_path / "me")
    with pytest.raises(ValueError, match="me.pub: this is the public key; the private one is in the .pem file"):
        read_private_key(public)


def test_files_that_are_no_key_are_named_and_not_quoted(tmp_path: Path) -> None:
    private, public, _ = generate_key(tmp_path / "me")
    secret = private.read_text().splitlines()[1]
    broken = tmp_path / "broken.pem"
    broken.write_text(private.read_text().replace("-----END", "-----"))
    broken.chmod(0o600)
    with pytest.raises(ValueError, match=r"broken.pem: holds no unencrypted private key") as caught:
        read_private_key(broken)
    assert secret not in str(caught.value) and caught.value.__cause__ is None
    with pytest.raises(ValueError, match=r"me.pem: holds no public key; trust the .pub file") as caught:
        read_public_key(private)
    assert secret not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_private_key(tmp_path / "nowhere.pem")
    (tmp_path / "large.pub").write_bytes(bytes(20_000))
    with pytest.raises(ValueError, match="larger than"):
        read_public_key(tmp_path / "large.pub")


def test_keys_of_another_kind(tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    file = tmp_path / "other.pem"
    file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    with pytest.raises(ValueError, match="another kind, Ed25519 is needed"):
        read_private_key(file)
    (tmp_path / "other.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ValueError, match="another kind, Ed25519 is needed"):
        read_trust([tmp_path])


def test_a_trust_list_is_files_and_folders_and_never_silently_empty(tmp_path: Path) -> None:
    names = {generate_key(tmp_path / "a" / "one")[2], generate_key(tmp_path / "a" / "two")[2]}
    third = generate_key(tmp_path / "three")
    assert set(read_trust([tmp_path / "a", third[1]])) == {*names, third[2]}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: holds no \*.pub file"):
        read_trust([tmp_path / "empty"])
    with pytest.raises(ValueError, match="cannot be read"):
        read_trust([tmp_path / "nowhere"])
