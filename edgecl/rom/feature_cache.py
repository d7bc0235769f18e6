"""Features already read, by ROM and picture digest. A cache: it may be lost, emptied or damaged without loss.

One SQLite file, bounded in bytes; the least recently used pictures go first. Features are kept as float32, so that a head
learned from the cache is the head learned from the pictures.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgecl.types import Floats

_SPARE = 32 << 20  # bytes that the cache leaves free on its disk


class FeatureCache:
    """Features of one ROM on one runtime, kept in `path`.

    key: what the features depend on besides the picture, such as `rom_id/runtime/provider`.
    """

    def __init__(self, path: Path, key: str, width: int, max_bytes: int) -> None:
        self._key, self._width, self._max_rows = key, width, max_bytes // (4 * width + 100)
        self._folder = path.parent
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._open(path)
        except (sqlite3.OperationalError, OSError):
            self._db = self._open(":memory:")  # locked, read-only, no folder: the learning goes on without what was kept
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    Path(f"{path}{suffix}").unlink()
            self._db = self._open(path)

    @staticmethod
    def _open(path: Path | str) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=10, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # a cache may lose its last rows
        db.execute("PRAGMA wal_autocheckpoint = 100")  # a short log leaves room on a small disk
        db.execute(
            "CREATE TABLE IF NOT EXISTS features "
            "(key TEXT, picture TEXT, used INTEGER, x BLOB, PRIMARY KEY (key, picture)) WITHOUT ROWID"
        )
        db.execute("CREATE INDEX IF NOT EXISTS features_used ON features (used)")
        return db

    def get(self, pictures: Sequence[str]) -> dict[str, Floats]:
        """Digest -> (d,) features, for those of `pictures` (sha256, hexadecimal) that are kept."""
        found: dict[str, Floats] = {}
        with contextlib.suppress(sqlite3.Error):
            for picture in dict.fromkeys(pictures):
                row = self._db.execute("SELECT x FROM features WHERE key = ? AND picture = ?", (self._key, picture)).fetchone()
                if row and len(row[0]) == 4 * self._width + 4 and _checksum(row[0][:-4]) == row[0][-4:]:
                    found[picture] = np.frombuffer(row[0][:-4], np.float32)
            self._touch(list(found))
        self._end()
        return found

    def put(self, features: Mapping[str, Floats]) -> None:
        """Keep features (d,) by picture digest, and forget the least recently used past the bound."""
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._folder).free < _SPARE:
                return  # the bank comes first
        with contextlib.suppress(sqlite3.Error):  # a full disk costs the cache, not the learning
            age = self._db.execute("SELECT coalesce(max(used), 0) + 1 FROM features").fetchone()[0]
            self._db.execute("BEGIN IMMEDIATE")
            blobs = {picture: x.astype(np.float32).tobytes() for picture, x in features.items()}
            rows = [(self._key, picture, age, blob + _checksum(blob)) for picture, blob in blobs.items()]
            self._db.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)
            over = self._db.execute("SELECT count(*) FROM features").fetchone()[0] - self._max_rows
            if over > 0:
                self._db.execute(
                    "DELETE FROM features WHERE (key, picture) IN (SELECT key, picture FROM features ORDER BY used LIMIT ?)",
                    (over,),
                )
            self._db.execute("COMMIT")
        self._end()

    def _end(self) -> None:
        """Give up a transaction that an error has left open: it would keep other processes from writing."""
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _touch(self, pictures: list[str]) -> None:
        age = self._db.execute("SELECT coalesce(max(used), 0) + 1 FROM features").fetchone()[0]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "UPDATE features SET used = ? WHERE key = ? AND picture = ?", [(age, self._key, p) for p in pictures]
        )
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


def _checksum(blob: bytes) -> bytes:
    return zlib.crc32(blob).to_bytes(4, "little")
