"""Ed25519 signatures over bundles, and the key that is a device's identity.

The key lies in the home as PKCS #8 (`identity.pem`), readable by its owner only, under a passphrase where one is set. It is
made on first use. What people compare over the phone is its fingerprint, five groups of four characters.

A key that has taken another's place has two lines before its PEM, where such files have room for notes: the public half, and
the successions that lead to it. One file can be exchanged whole, so no power cut parts the two.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from edgecl.errors import IdentityError
from edgecl.files import half_written, private_file, sync_folder, write_once, write_whole

PASSPHRASE = "EDGECL_PASSPHRASE"  # the environment's variable
KEY_FILE = "identity.pem"
PUBLIC_FILE = "identity.pub"
_DOMAIN = b"edgecl bundle 1\0"  # what is signed for one purpose means nothing for another
_NOTES = re.compile(rb"key ([0-9a-f]{64})\nsuccessions ([^\n]*)\n-----BEGIN ")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,4000}-----END CERTIFICATE-----\n")


def fingerprint(key: str) -> str:
    """A public key for people: 100 bits of its SHA-256, like "K7QA-9XTM-2V4C-H3PN-WD6Z"."""
    text = base64.b32encode(hashlib.sha256(bytes.fromhex(key)).digest()).decode()[:20]
    return "-".join(text[at : at + 4] for at in range(0, 20, 4))


def verify(key: str, digest: bytes, signature: str, domain: bytes = _DOMAIN) -> bool:
    """Whether `signature` (128 hexadecimal digits) over a bundle's digest was made with the private half of `key` (64).

    domain: of what else is signed, with `digest` for its bytes.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), domain + digest)
    except (InvalidSignature, ValueError):
        return False
    return True


class Signer:
    """A device's key pair.

    key: the public half, 64 hexadecimal digits: the device's identity everywhere.
    """

    def __init__(self, private: Any) -> None:
        self._private = private
        self.key: str = private.public_key().public_bytes_raw().hex()

    @classmethod
    def fresh(cls) -> Signer:
        """A new key pair, kept nowhere."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    def sign(self, digest: bytes, domain: bytes = _DOMAIN) -> str:
        """The signature over a bundle's digest, 128 hexadecimal digits; the same digest gives the same signature.

        domain: of what else is signed, with `digest` for its bytes.
        """
        signature: bytes = self._private.sign(domain + digest)
        return signature.hex()

    def certify(self, builder: Any) -> Any:
        """The X.509 certificate of a `cryptography` builder, signed with this key."""
        return builder.sign(self._private, None)

    def to_pem(self, passphrase: str = "") -> bytes:
        """The private key as PKCS #8, encrypted where there is a passphrase."""
        from cryptography.hazmat.primitives import serialization as form

        how = form.BestAvailableEncryption(passphrase.encode()) if passphrase else form.NoEncryption()
        data: bytes = self._private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, how)
        return data

    @classmethod
    def from_pem(cls, data: bytes, passphrase: str = "") -> Signer:
        """The inverse. Raises IdentityError."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(data, passphrase.encode() or None)
        except TypeError as error:  # a passphrase too many or too few
            need = "has no passphrase, but one is set: unset" if passphrase else "needs a passphrase: set"
            raise IdentityError(f"the key of this device {need} {PASSPHRASE}") from error
        except Exception as error:
            raise IdentityError(
                f"the key of this device cannot be read: {error}; check {PASSPHRASE}, or restore the file from a copy"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise IdentityError(
                f"the key of this device is {type(private).__name__}, not Ed25519; restore the file from a copy"
            )
        return cls(private)


def public_key(home: Path) -> str:
    """The public half of the key in that home, which needs no passphrase to be known; "" where there is none yet."""
    if not (home / KEY_FILE).exists():
        return ""
    if noted := notes(home):
        return noted[0]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        key = (home / PUBLIC_FILE).read_text().strip()
        if re.fullmatch(r"[0-9a-f]{64}", key):
            return key
    return identity(home).key


def notes(home: Path) -> tuple[str, bytes] | None:
    """The key in that home and the successions that lead to it, as `replace_key` was given them; None for a first key."""
    try:
        found = _NOTES.match((home / KEY_FILE).read_bytes())
    except OSError:  # another user's look at this home, who may read the public half alone
        return None
    return (found[1].decode(), found[2]) if found else None


def crossings(home: Path) -> bytes:
    """Certificates (PEM), newest first, by which each former key of that home vouches for the next in a TLS handshake."""
    try:
        return b"".join(_CERTIFICATE.findall((home / KEY_FILE).read_bytes()))
    except OSError:
        return b""


def identity(home: Path, passphrase: str | None = None) -> Signer:
    """The key in `home`, made on first use. passphrase: None takes $EDGECL_PASSPHRASE.

    Raises IdentityError when it cannot be read or written, or when others could read it.
    """
    path, phrase = home / KEY_FILE, os.environ.get(PASSPHRASE, "") if passphrase is None else passphrase
    try:
        if not path.exists():
            write_once(path, Signer.fresh().to_pem(phrase))
        if os.name == "posix" and path.stat().st_mode & 0o077 and _keeps_modes(home):
            raise IdentityError(
                f"others than its owner may read {path}; mend that (chmod 600). If somebody may have read it, delete it: a new "
                f"one is made, which others must trust anew"
            )
        signer = Signer.from_pem(path.read_bytes(), phrase)
        if (noted := notes(home)) and noted[0] != signer.key:
            raise IdentityError(f"the key of this device, {path}, is not the one named before it; restore the file from a copy")
        _publish(home, signer)
        return signer
    except OSError as error:
        raise IdentityError(f"the key of this device, {path}, cannot be used: {error.strerror}") from error


def replace_key(home: Path, signer: Signer, successions: bytes, crossing: bytes = b"", passphrase: str | None = None) -> None:
    """Put `signer` in place of the key in `home`, with the successions that lead to it (one line): both or neither.

    crossing: a certificate (PEM) of the new key by the former one, put before those that are there.

    The former key's file is no longer there afterwards. Its bytes may be, until the disk uses them again: on flash nothing can
    be overwritten in place. passphrase: None takes $EDGECL_PASSPHRASE. Raises IdentityError; the former key is then as it was.
    """
    path, phrase = home / KEY_FILE, os.environ.get(PASSPHRASE, "") if passphrase is None else passphrase
    notes_ = b"key %s\nsuccessions %s\n" % (signer.key.encode(), successions)
    data = notes_ + signer.to_pem(phrase) + crossing + crossings(home)
    if not _NOTES.match(data):
        raise ValueError("successions must be one line")
    try:
        for left in half_written(path):  # of an attempt that was cut off: a key that nobody has heard of
            left.unlink()
        with private_file(path, data) as temporary:
            temporary.replace(path)
        sync_folder(home)
    except OSError as error:
        raise IdentityError(f"the new key cannot be written to {path}: {error.strerror}; the former one is kept") from error
    _publish(home, signer)


def _publish(home: Path, signer: Signer) -> None:
    """Have the public half there too; where that fails, it can be told from the other."""
    public, line = home / PUBLIC_FILE, f"{signer.key}\n".encode()
    with contextlib.suppress(OSError):
        if not public.exists() or public.read_bytes() != line:
            write_whole(public, line)


def _keeps_modes(folder: Path) -> bool:
    """Whether files there can be kept from others at all: FAT and some network drives know no owner."""
    with tempfile.NamedTemporaryFile(prefix=".edgecl-", dir=folder) as probe:
        os.chmod(probe.name, 0o600)
        return not os.stat(probe.name).st_mode & 0o077
