"""Bytes: of this process, of files, of arrays."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np


def resident() -> int:
    """Bytes of this process that lie in memory now; the peak where the system does not say."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """The most bytes that this process has had in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM") or most * (1 if sys.platform == "darwin" else 1024)


def on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def arrays(*holders: object) -> int:
    """Bytes of the NumPy arrays that are attributes of `holders`, each counted once."""
    found = {id(value): value.nbytes for one in holders for value in vars(one).values() if isinstance(value, np.ndarray)}
    return sum(found.values())


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)
