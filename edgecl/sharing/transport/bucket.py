"""A bucket as the place: S3 and what speaks like it, or another object store that fsspec knows.

Bundles and notes on keys lie as on a stick, in `PREFIX/edgecl-heads/`: a bucket copied to a stick is a stick. Only object
stores are taken, because there an object is whole or not there; on a file system far away a broken line would leave half.
Credentials come from the store's own places (environment, profile, instance), never from the URL, and no message quotes what
a store answers: it may repeat them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Protocol

from edgecl.errors import ConfigError, EdgeclError, MissingDependency, TransferError
from edgecl.sharing.transport.base import MOST_LISTED, Entry, Transport
from edgecl.text import printable

_INSIDE, _END, _NOTE = "edgecl-heads", ".bundle", ".succession"
_S3 = ("s3", "s3a")
_STORES = (*_S3, "gs", "gcs", "az", "abfs", "abfss", "memory")
_CODE = re.compile(r"[A-Za-z0-9.]{1,60}")
_STRANGERS = 2  # other objects beside the bundles that a listing walks past, in multiples of MOST_LISTED
_SET = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL where the store is not Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
}
_FAMILY = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
_PACKAGE = {"gs": "gcsfs", "az": "adlfs"}
_REFUSED = ("NoCredentials", "PartialCredentials", "CredentialRetrieval", "Token", "SSO", "ProfileNotFound", "Unauthorized")
_AWAY = ("Connect", "Timeout", "Endpoint", "ProxyConnection", "HTTPClient", "SSL", "ClientOSError", "ServerDisconnected")


class Store(Protocol):
    """What a bucket needs of a store. Names are keys under the bucket's prefix; any exception may come."""

    def names(self) -> Iterator[tuple[str, int]]:
        """Name and size of each object, page by page."""

    def read(self, name: str, most: int) -> bytes:
        """Its first bytes, not more than `most`."""

    def write(self, name: str, data: bytes) -> None:
        """All of it or nothing."""

    def md5(self, name: str) -> tuple[int, str]:
        """Its size, and the MD5 (hexadecimal) that the store itself took of what it received, "" where it does not say."""


class Bucket(Transport):
    """url: s3://bucket/prefix, gs://..., az://..., memory://... ; patience: seconds that S3 may keep silent."""

    def __init__(self, url: str, patience: float = 20.0) -> None:
        """Nothing is asked of the store yet. Raises ConfigError for a URL that is no bucket, MissingDependency."""
        scheme, path = _checked(url)
        self.where, self._family = printable(url), _FAMILY.get(scheme, scheme)
        inside = f"{scheme}://{path}/{_INSIDE}"
        try:
            if scheme in _S3:
                from edgecl.sharing.transport.s3 import S3

                self._store: Store = S3(inside, patience)
            else:
                self._store = _Any(inside)
        except ImportError as error:
            packages = f"'edgecl[bucket]' {_PACKAGE.get(self._family, '')}".rstrip()
            raise MissingDependency(f"{self.where} needs packages that are not here: pip install {packages}") from error

    def _list(self) -> Iterator[Entry]:
        with self._explained("listed"):
            for count, (name, size) in enumerate(self._store.names(), 1):
                if count > _STRANGERS * MOST_LISTED:
                    raise TransferError(
                        f"{self.where} has more than {_STRANGERS * MOST_LISTED:,} objects in {_INSIDE}/; remove what is not "
                        f"edgecl's, or take another prefix"
                    )
                if name.endswith(_END):
                    yield Entry(name.removesuffix(_END), size)

    def _read(self, digest: str, most: int) -> bytes:
        with self._explained("read", digest):
            return self._store.read(f"{digest}{_END}", most)

    def _write(self, digest: str, data: bytes) -> None:
        with self._explained("written"):
            self._store.write(f"{digest}{_END}", data)

    def _read_note(self, key: str, most: int) -> bytes | None:
        with self._explained("read", key):
            try:
                return self._store.read(f"{key}{_NOTE}", most)
            except (FileNotFoundError, PermissionError):  # as for `_has`
                return None

    def _write_note(self, key: str, data: bytes) -> None:
        with self._explained("written"):
            self._store.write(f"{key}{_NOTE}", data)

    def _has(self, digest: str, data: bytes) -> bool:
        """By the store's own MD5 of what it received, else by reading.

        What an uploader wrote beside it would prove nothing. Nobody but a bundle's signer could make other bytes of its MD5.
        """
        with self._explained("read", digest):
            try:
                size, md5 = self._store.md5(f"{digest}{_END}")
            except (FileNotFoundError, PermissionError):  # not there; or who may write here may not look
                return False
        if size != len(data):
            return False
        return md5 == hashlib.md5(data, usedforsecurity=False).hexdigest() or super()._has(digest, data)

    @contextlib.contextmanager
    def _explained(self, what: str, digest: str = "") -> Iterator[None]:
        """Turns whatever a client library raises into a TransferError with a sentence."""
        try:
            yield
        except EdgeclError:
            raise
        except Exception as error:
            raise self._reason(error, what, digest) from error

    def _reason(self, error: Exception, what: str, digest: str) -> TransferError:
        code, name = _code(error), type(error).__name__
        settings = _SET.get(self._family, "what its fsspec package documents")
        if code == "RequestTimeTooSkewed":
            return TransferError(f"{self.where} refuses requests from this device's clock ({code}): set the clock")
        if isinstance(error, PermissionError) or name.startswith(_REFUSED):
            return TransferError(f"{self.where} cannot be {what}: it refuses this device ({code}); set {settings}")
        if isinstance(error, FileNotFoundError) and digest and code != "NoSuchBucket":
            return TransferError(f"bundle {digest[:12]} is not in {self.where}")
        if isinstance(error, FileNotFoundError):
            return TransferError(f"{self.where}: there is no such bucket ({code}); make it, or set {settings}")
        if isinstance(error, TimeoutError) or any(word in name for word in _AWAY):
            return TransferError(
                f"{self.where} does not answer, or not as a store does ({code}): check the network, and {settings}"
            )
        return TransferError(f"{self.where} cannot be {what} ({code}); what was there is still there. Check {settings}")


class _Any:
    """A store by fsspec's common words; how long it may take is for its own package to bound."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        # An instance of its own that remembers no listing: others write there too.
        self._fs, self._path = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)

    def names(self) -> Iterator[tuple[str, int]]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._path, detail=True)
        except FileNotFoundError:  # nothing was shared there yet
            return
        for entry in found:
            if entry["type"] == "file":
                yield entry["name"].rpartition("/")[2], int(entry["size"] or 0)

    def read(self, name: str, most: int) -> bytes:
        data: bytes = self._fs.cat_file(f"{self._path}/{name}", start=0, end=most)
        return data[:most]

    def write(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(f"{self._path}/{name}", data)

    def md5(self, name: str) -> tuple[int, str]:
        self._fs.invalidate_cache()
        return int(self._fs.info(f"{self._path}/{name}")["size"]), ""


def _checked(url: str) -> tuple[str, str]:
    """Scheme and path of a URL that can be meant. Raises ConfigError, which does not repeat a URL that may hold a secret."""
    scheme, _, path = url.partition("://")
    scheme = scheme.lower()
    if (":" in path.partition("@")[0] and "@" in path) or "?" in path or "#" in path:
        raise ConfigError(
            f"the address of a place must not hold a user, a password or options; give them as the store's own settings, for "
            f"S3 {_SET['s3']}"
        )
    if scheme in ("file", "local"):
        raise ConfigError(f"'{printable(url, 80)}' is a folder: give its path alone, without {scheme}://")
    if scheme in ("http", "https"):
        raise ConfigError(
            f"'{printable(url, 80)}' is no place for bundles; for a bucket of a store at that address: "
            f"AWS_ENDPOINT_URL={printable(url, 80)}, and s3://BUCKET/PREFIX"
        )
    if scheme not in _STORES or "::" in url:
        known = ", ".join(f"{one}://" for one in _STORES)
        raise ConfigError(f"'{printable(url, 80)}' is no place that edgecl knows; it knows folders, and {known}")
    path = path.strip("/")
    if not path or not path.isprintable():
        raise ConfigError(f"'{printable(url, 80)}' names no bucket; write {scheme}://BUCKET/PREFIX")
    return scheme, path


def _code(error: BaseException) -> str:
    """The store's word for what is wrong, if it is a word, else the exception's name."""
    for one in (error, error.__cause__):
        answer = getattr(one, "response", None)
        said = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
        if isinstance(said, str) and _CODE.fullmatch(said):
            return said
    return type(error).__name__
