"""The ROM image on disk: a folder with a manifest, an ONNX graph and the weights. Written once, checked on every open.

`rom_id` is a digest over what determines the outputs (backbone, weights, preprocessing, precision, and what was quantised to
which numbers), not over the files, whose bytes change with the exporter's version: two machines that export the same
backbone get the same id.
The manifest is untrusted until its fields have been checked and its `rom_id` has been computed again from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError, RomError, RomTampered
from edgecl.rom.preprocess import Preprocess
from edgecl.rom.sockets import Socket
from edgecl.types import Arrays

FORMAT = 3  # 2 added the sockets and precisions besides fp32; 3 the free places, and is written only where there are any
PRECISIONS = ("fp32", "fp16", "int8")
MANIFEST, GRAPH, WEIGHTS, FREE = "manifest.json", "rom.onnx", "weights.safetensors", "free.safetensors"
_MAX_MANIFEST = 1 << 20
_MAX_SOCKETS = 5_000


def weights_digest(weights: Arrays) -> str:
    """sha256 over names, shapes, dtypes and values in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name])
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def compute_rom_id(
    backbone: str, features: int, preprocess: Preprocess, precision: str, weights: str, quantised: str = "", free: str = ""
) -> str:
    """Digest over all that determines the ROM's outputs.

    weights: `weights_digest`.   quantised: digest of the quantised graph's numbers, which depend on the pictures that it was
    calibrated with; "" for precisions that follow from the weights alone.   free: digest of the free places, which decide what
    a head's own weights mean; "" where there are none.
    """
    parts = [backbone, features, preprocess.to_dict(), precision, weights, *([quantised] if quantised else [])]
    parts += [{"free": free}] if free else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class RomImage:
    """An opened image: its manifest has been checked; a file is checked against its digest when it is first read."""

    folder: Path
    rom_id: str
    backbone: str
    features: int
    preprocess: Preprocess
    precision: str
    weights: str  # digest of the weights' values
    files: Mapping[str, Mapping[str, Any]]
    parity: Mapping[str, Any]
    made_with: Mapping[str, str]
    sockets: tuple[Socket, ...] = ()
    quantised: Mapping[str, Any] = field(default_factory=dict)  # int8: digest of its numbers, calibration, layers kept
    compacted: Mapping[str, Any] = field(default_factory=dict)  # free places: their digest, share, how it was made

    @classmethod
    def open(cls, folder: str | Path) -> RomImage:
        """Read and check the manifest. Raises RomError, or RomTampered where it contradicts itself."""
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_MANIFEST + 1)
        except FileNotFoundError:
            raise RomError(
                f"there is no ROM image at {folder} ({MANIFEST} is missing); make one: edgecl export -o {folder}"
            ) from None
        except OSError as error:
            raise RomError(f"{path} cannot be read: {error.strerror}") from error
        try:
            if len(text) > _MAX_MANIFEST:
                raise ValueError(f"larger than {_MAX_MANIFEST} bytes")
            raw = json.loads(text)
            if type(raw["format"]) is not int or not 1 <= raw["format"] <= FORMAT:
                raise RomError(
                    f"{path} has format {reprlib.repr(raw['format'])}, this reads up to {FORMAT}; update edgecl, or export "
                    f"again"
                )
            if any(Path(name).name != name or name in ("", "..") or not name.isprintable() for name in raw["files"]):
                raise ValueError("a file is listed that does not lie in the image's own folder")
            image = cls(
                folder=folder,
                rom_id=str(raw["rom_id"]),
                backbone=str(raw["backbone"]),
                features=int(raw["features"]),
                preprocess=Preprocess.from_dict(raw["preprocess"]),
                precision=str(raw["precision"]),
                weights=str(raw["weights"]),
                files={name: {"sha256": str(f["sha256"]), "bytes": int(f["bytes"])} for name, f in raw["files"].items()},
                parity=dict(raw["parity"]),
                made_with={str(k): str(v) for k, v in raw["made_with"].items()},
                sockets=_sockets(raw["sockets"]) if raw["format"] > 1 else (),
                quantised=dict(raw.get("quantised", {})),
                compacted=dict(raw.get("compacted", {})) if raw["format"] > 2 else {},
            )
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            raise RomError(f"{path} is no ROM manifest: {type(error).__name__}: {str(error)[:200]}") from error
        if not 0 < image.features <= 1 << 16:
            raise RomError(f"{path}: feature width {image.features} is out of range")
        if image.precision not in PRECISIONS:
            raise RomError(
                f"{path} has precision {image.precision[:20]!r}, this reads {', '.join(PRECISIONS)}; update edgecl, or export "
                f"again"
            )
        digest = image.quantised.get("digest", "")
        if not isinstance(digest, str) or bool(digest) != (image.precision == "int8"):
            raise RomError(f"{path} has precision {image.precision} and says otherwise of what was quantised; export again")
        free = image.compacted.get("digest", "")
        if not isinstance(free, str) or bool(free) != (FREE in image.files):
            raise RomError(f"{path} lists {FREE} and says otherwise of free places, or the reverse; export again")
        found = compute_rom_id(image.backbone, image.features, image.preprocess, image.precision, image.weights, digest, free)
        if found != image.rom_id:
            raise RomTampered(f"{path} was changed: it names ROM {image.rom_id[:12]} but describes {found[:12]}; export again")
        for name in (GRAPH, WEIGHTS):
            if name not in image.files:
                raise RomError(f"{path} does not list {name}; export again")
        return image

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, after its size and digest have been compared. Raises RomTampered naming the file."""
        path, listed = self.folder / name, self.files[name]
        try:
            if path.stat().st_size != listed["bytes"]:
                raise RomTampered(
                    f"{path} has {path.stat().st_size:,} bytes, the manifest says {listed['bytes']:,}: truncated or "
                    f"replaced; export again"
                )
            data = path.read_bytes()
        except FileNotFoundError:
            raise RomTampered(f"{path} is missing; export again") from None
        except OSError as error:
            raise RomError(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != listed["sha256"]:
            raise RomTampered(f"{path} differs from its digest in the manifest: tampered or damaged; export again")
        return data

    def _arrays(self, name: str) -> Arrays:
        """What a file of arrays holds. Raises RomTampered where it is none: digests of the manifest can be put right."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            return dict(load(self.read(name)))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RomTampered(f"{self.folder / name} is no file of arrays: {str(error)[:120]}; export again") from error

    @cached_property
    def free(self) -> Mapping[str, NDArray[np.bool_]]:
        """Socket -> which of its convolution's weights are free for heads, (C, C_in / groups, k, k); nowhere, for most ROMs.

        Raises RomTampered where the file is not what `rom_id` speaks of, or declares a weight free that the ROM uses.
        """
        weights = self._arrays(WEIGHTS)
        shapes = {s.name: weights[f"{s.name}.weight"].shape for s in self.sockets if f"{s.name}.weight" in weights}
        out = {name: np.zeros(shape, np.bool_) for name, shape in shapes.items()}
        if FREE not in self.files:
            return out
        packed = self._arrays(FREE)
        bad = weights_digest(packed) != self.compacted["digest"] or not set(packed) <= set(out)
        for name, bits in packed.items() if not bad else ():
            size = out[name].size
            if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):
                bad = True
                break
            out[name] = np.unpackbits(bits, count=size).astype(np.bool_).reshape(out[name].shape)
            bad = bad or bool(weights[f"{name}.weight"][out[name]].any())
        if bad:
            raise RomTampered(f"{self.folder / FREE} declares other places free than ROM {self.rom_id[:12]} has; export again")
        return out

    def verify(self) -> None:
        """Check every file, and that the weights are those `rom_id` speaks of. Raises RomTampered."""
        for name in set(self.files) - {WEIGHTS, FREE}:
            self.read(name)
        if weights_digest(self._arrays(WEIGHTS)) != self.weights:
            raise RomTampered(
                f"{self.folder / WEIGHTS} holds other weights than ROM {self.rom_id[:12]} is made of; export again"
            )
        _ = self.free


def _sockets(raw: Any) -> tuple[Socket, ...]:
    """Sockets from an untrusted manifest. Raises ValueError."""
    if not isinstance(raw, list) or len(raw) > _MAX_SOCKETS:
        raise ValueError(f"sockets must be a list of at most {_MAX_SOCKETS}")
    sockets = tuple(Socket.from_dict(one) for one in raw)
    if len({s.name for s in sockets}) != len(sockets):
        raise ValueError("a socket is listed twice")
    return sockets


def write(
    folder: Path,
    *,
    backbone: str,
    features: int,
    preprocess: Preprocess,
    precision: str,
    graph: bytes,
    weights: Arrays,
    parity: Mapping[str, Any],
    made_with: Mapping[str, str],
    sockets: Sequence[Socket] = (),
    quantised: Mapping[str, Any] | None = None,
    free: Mapping[str, NDArray[np.bool_]] | None = None,
    compacted: Mapping[str, Any] | None = None,
) -> RomImage:
    """Write an image so that `folder` holds all of it or nothing: into a neighbour first, then one rename.

    free: socket -> places of its weights that are free, and zero.   compacted: what the manifest says of how they became so.
    An image already there is kept when it has the same rom_id, and refused otherwise (RomError).
    """
    from safetensors.numpy import save

    digest = weights_digest(weights)
    contents = {GRAPH: graph, WEIGHTS: save({k: np.ascontiguousarray(v) for k, v in weights.items()})}
    declared: dict[str, Any] = {}
    if free:
        packed = {name: np.packbits(places.ravel()) for name, places in free.items()}
        contents[FREE] = save(packed)
        declared = {**(compacted or {}), "digest": weights_digest(packed)}
    numbers = (quantised or {}).get("digest", "")
    manifest = {
        "format": FORMAT if free else 2,
        "rom_id": compute_rom_id(backbone, features, preprocess, precision, digest, numbers, declared.get("digest", "")),
        "backbone": backbone,
        "features": features,
        "preprocess": preprocess.to_dict(),
        "precision": precision,
        "weights": digest,
        "files": {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in contents.items()},
        "parity": dict(parity),
        "made_with": dict(made_with),
        "sockets": [socket.to_dict() for socket in sockets],
        **({"quantised": dict(quantised)} if quantised else {}),
        **({"compacted": declared} if free else {}),
    }
    if (folder / MANIFEST).exists():
        return _same_or_refuse(folder, str(manifest["rom_id"]))
    staging: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name, content in {**contents, MANIFEST: json.dumps(manifest, indent=2).encode()}.items():
            with (staging / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        staging.chmod(0o755)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        staging.rename(folder)
    except OSError as error:
        if (folder / MANIFEST).exists():  # another process was quicker
            return _same_or_refuse(folder, str(manifest["rom_id"]))
        raise RomError(
            f"{folder} cannot be written: {error.strerror}; give an empty or a new folder, on a disk with room"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return RomImage.open(folder)


def _same_or_refuse(folder: Path, rom_id: str) -> RomImage:
    try:
        there = RomImage.open(folder)
        if there.rom_id == rom_id:
            there.verify()
            return there
    except RomError as error:
        raise type(error)(f"{folder} already holds an image, and a damaged one; remove it, then export. {error}") from error
    raise RomError(f"{folder} already holds ROM {there.rom_id[:12]}, not {rom_id[:12]}; give another folder, or remove it")
