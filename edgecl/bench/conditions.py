"""What a measurement was taken under: without it a figure says nothing. Nothing here is measured, only read."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgecl import __version__

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "faiss-cpu", "faiss-gpu-cu12", "torch", "timm")
# Conditions under which two runs may differ and still be compared without a warning.
VARYING = ("date", "load", "clocks_mhz")


def conditions(runtime: str, provider: str, threads: int, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """Machine, system, versions and state. threads: as asked for; 0 leaves it to the runtime.

    Read it first: `load` is the machine's before anything is measured.
    """
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock())),
        "cpu": _cpu(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": _memory(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "runtime": runtime,
        "provider": provider,
        "threads": threads,
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", ""),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clocks_mhz": _clocks(),
        "board": _read("/proc/device-tree/model"),
        "power_mode": _power_mode(),
    }
    return found | {"versions": _versions()}


def _versions() -> dict[str, str]:
    """By the packages' metadata: importing them would cost seconds and memory that are then measured."""
    found = {"edgecl": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _cpu() -> str:
    # ARM kernels give no model name; a board's name stands in `board`.
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _clocks() -> list[int]:
    """Of each core now, MHz; empty where the system does not say."""
    cores = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    return [int(text) // 1000 for text in map(_read, sorted(cores)) if text.isdigit()]


def _power_mode() -> str:
    """A Jetson's power mode, such as "NV Power Mode: MAXN"; empty on other machines."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return ""
    try:
        said = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(said.split())
