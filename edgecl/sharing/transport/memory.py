"""A dictionary as the place: for tests, and for devices that live in one process."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from edgecl.errors import TransferError
from edgecl.sharing.transport.base import Entry, Transport


class Memory(Transport):
    """bundles: digest -> bytes, and KEY.succession -> notes; kept by whoever wants others to see the same place."""

    where = "memory"

    def __init__(self, bundles: MutableMapping[str, bytes] | None = None) -> None:
        self.bundles = {} if bundles is None else bundles

    def _list(self) -> Iterator[Entry]:
        for digest, data in self.bundles.items():
            yield Entry(digest, len(data))

    def _read(self, digest: str, most: int) -> bytes:
        if digest not in self.bundles:
            raise TransferError(f"bundle {digest[:12]} is not in {self.where}")
        return self.bundles[digest][:most]

    def _write(self, digest: str, data: bytes) -> None:
        self.bundles[digest] = bytes(data)

    def _read_note(self, key: str, most: int) -> bytes | None:
        found = self.bundles.get(f"{key}.succession")
        return None if found is None else found[:most]

    def _write_note(self, key: str, data: bytes) -> None:
        self.bundles[f"{key}.succession"] = bytes(data)
