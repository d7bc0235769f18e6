"""What a bank's file lies on, as far as the bank asks. A simulator puts another in its place, with limits and faults."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path


class Disk:
    """The disk that the operating system shows."""

    def free(self, folder: Path) -> int:
        """Bytes that can still be written in `folder`. Raises OSError."""
        return shutil.disk_usage(folder).free

    def opened(self, db: sqlite3.Connection) -> None:
        """Told of each connection to the bank's file, before anything is asked of it. What it raises ends the opening."""
