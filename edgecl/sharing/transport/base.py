"""The contract of a transport: a place where bundles lie under their digests. It moves bytes and believes nothing."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from edgecl.errors import TransferError

MOST_LISTED = 10_000  # bundles that one place may show
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A bundle that a place says it has. size: bytes, as it says."""

    digest: str
    size: int


class Transport(ABC):
    """A leaf implements `_list`, `_read` and `_write`, and for notes on keys `_read_note` and `_write_note`; they raise
    TransferError. where: for messages.
    """

    where: str

    def ls(self) -> list[Entry]:
        """What is there, by digest; names that are no digests are passed over. Raises TransferError."""
        found = {}
        for entry in self._list():
            if _DIGEST.fullmatch(entry.digest):
                found[entry.digest] = entry
                if len(found) > MOST_LISTED:
                    raise TransferError(f"{self.where} has more than {MOST_LISTED:,} bundles; take them from several places")
        return [found[digest] for digest in sorted(found)]

    def get(self, digest: str, limit: int) -> bytes:
        """The bundle of that digest. Raises TransferError for more than `limit` bytes, or for bytes of another digest."""
        data = self._read(digest, limit + 1)
        if len(data) > limit:
            raise TransferError(f"bundle {digest[:12]} in {self.where} has more than the {limit:,} bytes that are accepted")
        if hashlib.sha256(data).hexdigest() != digest:
            raise TransferError(f"bundle {digest[:12]} in {self.where} is damaged or cut off; share it there again")
        return data

    def put(self, data: bytes) -> bool:
        """Have the bundle there, durably and whole; False when it was there before. Raises TransferError."""
        digest = hashlib.sha256(data).hexdigest()
        if self._has(digest, data):
            return False
        self._write(digest, data)
        return True

    def _has(self, digest: str, data: bytes) -> bool:
        """Whether those bytes are there, whole. A leaf that can tell without fetching them all overrides this."""
        try:
            self.get(digest, len(data))
        except TransferError:  # it is not there, or damaged
            return False
        return True

    def note(self, key: str, limit: int) -> bytes | None:
        """What is noted there of the device with that public key; None: nothing. Raises TransferError, for a long one too."""
        data = self._read_note(key, limit + 1)
        if data is not None and len(data) > limit:
            raise TransferError(f"the note on {key[:12]} in {self.where} has more than the {limit:,} bytes that are accepted")
        return data

    def put_note(self, key: str, data: bytes) -> None:
        """Note that of the device with that public key, in place of what was noted. Raises TransferError."""
        try:
            there = self._read_note(key, len(data) + 1)
        except TransferError:  # it is damaged
            there = None
        if there != data:
            self._write_note(key, data)

    @abstractmethod
    def _read_note(self, key: str, most: int) -> bytes | None:
        """The bytes noted under that key, not more than `most` of them; None: nothing."""

    @abstractmethod
    def _write_note(self, key: str, data: bytes) -> None:
        """All of it or nothing, in place of what is there; it is on the medium when this returns."""

    @abstractmethod
    def _list(self) -> Iterator[Entry]:
        """Whatever is there."""

    @abstractmethod
    def _read(self, digest: str, most: int) -> bytes:
        """The bytes under that digest, not more than `most` of them."""

    @abstractmethod
    def _write(self, digest: str, data: bytes) -> None:
        """All of it or nothing, in place of what is there; it is on the medium when this returns."""
