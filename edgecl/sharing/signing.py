"""Ed25519 signatures over bundles, and the key that is a device's identity.

The key lies in the home as PKCS #8 (`identity.pem`), readable by its owner only, under a passphrase where one is set. It is
made on first use. What people compare over the phone is its fingerprint, five groups of four characters.
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
from edgecl.files import write_once, write_whole

PASSPHRASE = "EDGECL_PASSPHRASE"  # the environment's variable
KEY_FILE = "identity.pem"
PUBLIC_FILE = "identity.pub"
_DOMAIN = b"edgecl bundle 1\0"  # what is signed for one purpose means nothing for another


def fingerprint(key: str) -> str:
    """A public key for people: 100 bits of its SHA-256, like "K7QA-9XTM-2V4C-H3PN-WD6Z"."""
    text = base64.b32encode(hashlib.sha256(bytes.fromhex(key)).digest()).decode()[:20]
    return "-".join(text[at : at + 4] for at in range(0, 20, 4))


def verify(key: str, digest: bytes, signature: str) -> bool:
    """Whether `signature` (128 hexadecimal digits) over a bundle's digest was made with the private half of `key` (64)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), _DOMAIN + digest)
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

    def sign(self, digest: bytes) -> str:
        """The signature over a bundle's digest, 128 hexadecimal digits; the same digest gives the same signature."""
        signature: bytes = self._private.sign(_DOMAIN + digest)
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
    with contextlib.suppress(OSError, UnicodeDecodeError):
        key = (home / PUBLIC_FILE).read_text().strip()
        if re.fullmatch(r"[0-9a-f]{64}", key):
            return key
    return identity(home).key


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
        public = home / PUBLIC_FILE
        if not public.exists() or public.read_bytes() != f"{signer.key}\n".encode():
            with contextlib.suppress(OSError):  # it can be told from the other
                write_whole(public, f"{signer.key}\n".encode())
        return signer
    except OSError as error:
        raise IdentityError(f"the key of this device, {path}, cannot be used: {error.strerror}") from error


def _keeps_modes(folder: Path) -> bool:
    """Whether files there can be kept from others at all: FAT and some network drives know no owner."""
    with tempfile.NamedTemporaryFile(prefix=".edgecl-", dir=folder) as probe:
        os.chmod(probe.name, 0o600)
        return not os.stat(probe.name).st_mode & 0o077
