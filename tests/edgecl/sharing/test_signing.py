"""Keys, fingerprints and signatures."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from edgecl.errors import IdentityError
from edgecl.sharing import signing
from edgecl.sharing.signing import Signer, fingerprint, identity, verify
from firmware_sim.faults import count, cut_at_call

DIGEST = bytes(range(32))
# RFC 8032, section 7.1, test 1: the key pair that anyone can check this against.
SECRET = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.fixture
def known() -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SECRET)))


def test_a_key_signs_as_anybody_elses_ed25519_does(known: Signer) -> None:
    """The same digest has one signature, for ever; it is over "edgecl bundle 1", a zero byte, and the digest."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    assert known.key == PUBLIC
    signature = known.sign(DIGEST)
    assert signature == known.sign(DIGEST) and verify(PUBLIC, DIGEST, signature)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(PUBLIC)).verify(bytes.fromhex(signature), b"edgecl bundle 1\0" + DIGEST)


def test_no_altered_bit_of_signature_digest_or_key_is_accepted(known: Signer) -> None:
    signature = bytes.fromhex(known.sign(DIGEST))
    for place, whole in (("signature", signature), ("digest", DIGEST), ("key", bytes.fromhex(PUBLIC))):
        for bit in range(8 * len(whole)):
            other = bytearray(whole)
            other[bit // 8] ^= 1 << bit % 8
            parts = {"signature": signature, "digest": DIGEST, "key": bytes.fromhex(PUBLIC), place: bytes(other)}
            assert not verify(parts["key"].hex(), parts["digest"], parts["signature"].hex()), f"bit {bit} of the {place}"


def test_a_signature_cannot_be_respelled(known: Signer) -> None:
    """Adding the group's order to s gives a number that a lax verifier takes for the same signature."""
    raw = bytes.fromhex(known.sign(DIGEST))
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(raw[32:], "little") + order
    assert not verify(PUBLIC, DIGEST, (raw[:32] + s.to_bytes(32, "little")).hex())


def test_the_fingerprint_is_short_and_for_the_ear(known: Signer) -> None:
    groups = fingerprint(PUBLIC).split("-")
    assert [len(g) for g in groups] == [4] * 5
    assert set("".join(groups)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert fingerprint(PUBLIC) == fingerprint(PUBLIC) != fingerprint(Signer.fresh().key)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = identity(home)
    assert identity(home).key == first.key and verify(first.key, DIGEST, identity(home).sign(DIGEST))
    assert (home / signing.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in home.iterdir()) == [signing.KEY_FILE, signing.PUBLIC_FILE]
    assert signing.public_key(home) == first.key


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    keys: list[str] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        keys.append(identity(tmp_path).key)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8 and len(set(keys)) == 1


def test_a_power_cut_while_the_key_is_made_leaves_a_whole_key_or_none(tmp_path: Path) -> None:
    """At every system call of it, cryptography loaded beforehand."""
    identity(tmp_path / "warm")
    calls = count(cut_at_call, lambda: identity(tmp_path / "count"))
    died = 0
    for k in range(1, calls + 1):
        home = tmp_path / f"home{k}"
        died += cut_at_call(k).strikes(lambda home=home: identity(home))
        there = (home / signing.KEY_FILE).exists()
        key = identity(home).key
        assert identity(home).key == key == signing.public_key(home)
        assert not there or (home / signing.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert died > 10


def test_a_passphrase_is_asked_for_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signing.PASSPHRASE, "open sesame")
    key = identity(tmp_path).key
    assert b"ENCRYPTED" in (tmp_path / signing.KEY_FILE).read_bytes()
    assert identity(tmp_path).key == key
    for wrong, words in (("", "needs a passphrase"), ("open barley", signing.PASSPHRASE)):
        monkeypatch.setenv(signing.PASSPHRASE, wrong)
        with pytest.raises(IdentityError, match=words):
            identity(tmp_path)
        assert signing.public_key(tmp_path) == key
    identity(tmp_path / "other", passphrase="")
    with pytest.raises(IdentityError, match="unset"):
        identity(tmp_path / "other", passphrase="open sesame")


def test_a_file_system_without_owners_is_no_reason_not_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a file's mode is what it is, whoever changes it."""
    change = os.chmod
    key = identity(tmp_path).key
    (tmp_path / signing.KEY_FILE).chmod(0o644)
    with pytest.raises(IdentityError, match="may read"):
        identity(tmp_path)
    probe = signing.tempfile.NamedTemporaryFile

    def open_to_all(**named: Any) -> Any:
        file = probe(**named)
        os.chmod(file.name, 0o644)
        return file

    monkeypatch.setattr(signing.tempfile, "NamedTemporaryFile", open_to_all)
    monkeypatch.setattr(signing.os, "chmod", lambda *rest: change(*rest) if rest[1] == 0o644 else None)
    assert identity(tmp_path).key == key


@pytest.mark.parametrize("damage", ["cut", "empty", "other kind", "readable", "folder"])
def test_a_key_that_cannot_be_used_is_named_and_not_replaced(damage: str, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    identity(tmp_path)
    path = tmp_path / signing.KEY_FILE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other kind":
        path.write_bytes(Signer(X25519PrivateKey.generate()).to_pem())
    elif damage == "readable":
        path.chmod(0o644)
    else:
        path.unlink()
        path.mkdir(mode=0o700)
    before = None if damage == "folder" else path.read_bytes()
    with pytest.raises(IdentityError, match=r"key of this device|may read"):
        identity(tmp_path)
    assert damage == "folder" or path.read_bytes() == before


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match="cannot be used"):
        identity(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
