"""Both ends of a connection prove the key that is their identity; whom to believe is decided by key, not by name or date.

A device's certificate holds its Ed25519 key and is signed by it. The other side makes, of each key that it trusts, a root
certificate of its own, so OpenSSL's ordinary check refuses all others in the handshake, before a byte of HTTP. TLS 1.3 only.
Dates are not looked at: boards wake up in 1970. `peer_key` then says who is there, which the caller compares again.
"""

from __future__ import annotations

import datetime
import logging
import os
import secrets
import ssl
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edgecl.errors import EdgeclError, IdentityError, TransferError
from edgecl.sharing.signing import Signer, crossings, identity, public_key

_log = logging.getLogger("edgecl.sharing")
SOCKET_BUFFER = 16 << 10  # bytes, at either end: what lies in them when the power goes is sent again; a chunk, with all else
_NO_CHECK_TIME = 0x20_0000  # X509_V_FLAG_NO_CHECK_TIME, which Python's ssl does not name
_FIRST, _LAST = datetime.datetime(1950, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59)


def server_context(home: Path, believed: Callable[[], tuple[object, Iterable[str]]]) -> ssl.SSLContext:
    """For a server with the key of `home` that only the keys in `believed` get to speak to.

    believed: (stamp, keys), asked at each new connection; all is made anew when the stamp or the home's key differs, and only
    then the keys are looked at.
    Connections that are open already are the caller's to judge. Raises IdentityError.
    """

    def stamped() -> tuple[object, Iterable[str]]:
        stamp, keys = believed()
        return (stamp, public_key(home)), keys

    def made(keys: Iterable[str]) -> ssl.SSLContext:
        return _context(ssl.PROTOCOL_TLS_SERVER, identity(home), keys, crossings(home))

    stamp, keys = stamped()
    now = (stamp, made(keys))
    outer = made(())
    told = ""

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        nonlocal now, told
        try:
            stamp, keys = stamped()
            if stamp != now[0]:
                now = (stamp, made(keys))
        except EdgeclError as error:  # nobody can tell who is trusted: then nobody is
            if str(error) != told:
                _log.error("no peer is let in: %s", error)
            told = str(error)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = now[1]
        return None

    outer.sni_callback = choose  # OpenSSL asks it for every connection, with a name or without
    return outer


def client_context(signer: Signer, keys: Iterable[str], vouched: bytes = b"") -> ssl.SSLContext:
    """For a client that speaks to nobody but these keys, and those that they vouch for. vouched: its own `crossings`."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, signer, keys, vouched)


def crossing(old: Signer, new: str) -> bytes:
    """A certificate (PEM) by which a former key vouches for the one that has taken its place."""
    from cryptography.hazmat.primitives.serialization import Encoding

    data: bytes = old.certify(_builder(new, new, old.key, ca=True)).public_bytes(Encoding.PEM)
    return data


def peer_key(connection: Any) -> str:
    """The key of whom an `ssl` connection (or object) is with, 64 hexadecimal digits. Raises TransferError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = x509.load_der_x509_certificate(connection.getpeercert(True)).public_key()
    except (ValueError, TypeError, AttributeError) as error:
        raise TransferError(f"the other side shows no certificate that can be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TransferError("the other side is no edgecl device: its key is not Ed25519")
    raw: bytes = key.public_bytes_raw()
    return raw.hex()


def first_look(host: str, port: int, patience: float = 10.0) -> str:
    """The key of whoever answers there; it is proven, and nothing is known about whose it is. Raises TransferError."""
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), patience) as plain, context.wrap_socket(plain) as connection:
            return peer_key(connection)
    except OSError as error:
        raise TransferError(f"{host}:{port} does not answer as a device: {error}; is `edgecl serve` running there?") from error


def _context(side: Any, signer: Signer, keys: Iterable[str], vouched: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.set_ecdh_curve("X25519")  # one round trip, and no kilobyte of post-quantum key for a chat of two kilobytes
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # a resumed session would outlive a revocation
    _present(context, signer, vouched)
    if roots := b"".join(_root(key) for key in keys):
        context.load_verify_locations(cadata=roots)
    return context


def _present(context: ssl.SSLContext, signer: Signer, vouched: bytes) -> None:
    """Load certificate and key. OpenSSL reads files only: the key lies in one for a moment, under a passphrase of its own."""
    from cryptography.hazmat.primitives.serialization import Encoding

    phrase = secrets.token_hex(16)
    leaf = signer.certify(_builder(signer.key, "edgecl", signer.key, ca=False))
    try:
        handle, path = tempfile.mkstemp()
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(signer.to_pem(phrase) + leaf.public_bytes(Encoding.PEM) + vouched)
            context.load_cert_chain(path, password=phrase)
        finally:
            os.unlink(path)
    except OSError as error:
        raise IdentityError(
            f"this device cannot show its key: {error.strerror or error}; a file for temporary use is needed for a moment, in "
            f"$TMPDIR or the system's place"
        ) from error


def _root(key: str) -> bytes:
    """A root certificate for that key. Its signature is by nobody: of a root, OpenSSL believes the key."""
    from cryptography.hazmat.primitives.serialization import Encoding

    data: bytes = Signer.fresh().certify(_builder(key, key, key, ca=True)).public_bytes(Encoding.DER)
    return data


def _builder(key: str, subject: str, issuer: str, ca: bool) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    def named(text: str) -> Any:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)))
        .serial_number(1)
        .not_valid_before(_FIRST)
        .not_valid_after(_LAST)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
