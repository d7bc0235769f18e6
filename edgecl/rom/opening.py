"""Opening a ROM by path and runtime, and making the default one on first need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edgecl import registry
from edgecl.errors import MissingDependency, RomError
from edgecl.rom.base import Rom
from edgecl.rom.image import MANIFEST, RomImage

DEFAULT_BACKBONE = "tf_efficientnet_lite0"


def open_rom(
    folder: Path,
    runtime: str = "onnxruntime",
    device: str = "cpu",
    threads: int = 0,
    cache: Path | None = None,
    session_cache_mb: int | None = None,
) -> Rom:
    """The ROM image in `folder` on the runtime asked for; never another one in its place.

    session_cache_mb: bound of what is kept in memory for heads with plugs; None leaves the runtime's own.
    """
    image = RomImage.open(folder)
    rom: Rom = registry.load("runtime", registry.RUNTIMES, runtime)(image, device=device, threads=threads, cache=cache)
    if session_cache_mb is not None:
        rom.session_cache = session_cache_mb << 20
    return rom


def rom_folder(configured: str, home: Path, say: Callable[[str], None]) -> Path:
    """Where the ROM image lies: as configured, else the default one in the home, which is made on first need."""
    return Path(configured).expanduser() if configured else ensure_default(home / "rom", say)


def ensure_default(folder: Path, say: Callable[[str], None]) -> Path:
    """`folder`, holding the default ROM; it is exported there when it is not yet.

    The export runs in a process of its own: it needs torch, which must not weigh on the device's process afterwards.
    say: takes the progress lines.   Raises MissingDependency where the packages for the export are not installed.
    """
    if (folder / MANIFEST).exists():
        return folder
    say(f"making the default ROM from {DEFAULT_BACKBONE}, once; about 20 seconds ...")
    # -P: the working directory is the user's; a file export.py there is none of ours.
    command = [sys.executable, "-P", "-m", "export", "--backbone", DEFAULT_BACKBONE, "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no message"]
        if done.returncode == MissingDependency.exit_code:
            raise MissingDependency(
                f"there is no ROM image yet and it cannot be made here: {reason[0]} Or copy an image made elsewhere to {folder}"
            )
        raise RomError(f"the default ROM could not be made: {reason[0]}")
    say(done.stdout.strip().splitlines()[-1])
    return folder
