"""From the word that a person gives to the place that is meant."""

from __future__ import annotations

from pathlib import Path

from edgecl.sharing.transport.base import Transport


def open_place(word: str) -> Transport:
    """A folder, or where the word has `://`, a bucket. Raises ConfigError, TransferError, MissingDependency."""
    if "://" in word:
        from edgecl.sharing.transport.bucket import Bucket

        return Bucket(word)
    from edgecl.sharing.transport.folder import Folder

    return Folder(Path(word).expanduser())
