"""Any picture to the network's pixels, or PictureError with one sentence: never a hang, a crash or a silent guess.

Rules, each of which changes features, so that they are the same for every picture and every device:
- A JPEG that is larger than needed is decoded at 1/2, 1/4 or 1/8 (libjpeg scales inside the DCT), as long as the
  square that the network sees keeps `REDUCED_AT_LEAST` of the network's size. 640x480 for 224 px is decoded at
  320x240: a 210 px square, enlarged by 1.07. Measured: docs/benchmarks.md.
- Transparent pictures lie on white. Cut-outs, logos, sketches and scans are drawn for paper, and black lines on a
  transparent ground are common; on black they would vanish. (What is drawn in white vanishes instead.)
- 16-bit grey: 0..65535 becomes 0..255; a picture that stays below 4096 is taken for a 12-bit camera's, 0..4095.
- 32-bit integers within 0..65535 follow the 16-bit rule. 32-bit floats within 0..1 or 0..255 are taken at their word.
  Everything else of those two kinds has no stated range and is stretched from its own minimum to its maximum.
- Animations and multi-page files: the first frame. EXIF orientation is honoured.

Pillow's own guard against decompression bombs is a process-wide setting and a warning; to change either would reach
into the application that embeds us, and `warnings.catch_warnings` is not safe with threads. So the format's plugin is
asked directly (`Image.OPEN`, where plugins register), which reads the header only, and `DecodeLimits` decides before
any pixel is decoded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from edgecl.errors import PictureError
from edgecl.rom.preprocess import Preprocess, pixels, resample
from edgecl.text import printable

REDUCED_AT_LEAST = 0.9  # of the network's size; see the head of this file
_SCANS = 500  # of a progressive JPEG; real ones have about ten, each costs a pass over the whole picture

# What is accepted, by its first bytes. Formats that run programs (EPS), hold scripts or nest other formats stay out.
_FORMATS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("JPEG", (b"\xff\xd8\xff",)),  # also MPO, the stereo and burst format of cameras
    ("PNG", (b"\x89PNG\r\n\x1a\n",)),
    ("WEBP", (b"RIFF",)),
    ("GIF", (b"GIF87a", b"GIF89a")),
    ("BMP", (b"BM",)),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("PPM", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")),
)
_PLUGINS = {name: f"PIL.{name.capitalize()}ImagePlugin" for name, _ in _FORMATS} | {
    "WEBP": "PIL.WebPImagePlugin",
}
_importing = threading.Lock()


@dataclass(frozen=True)
class DecodeLimits:
    """What one picture may cost. Checked before decoding; beyond it the picture is refused by name."""

    # Pixels that are held in memory at once, 4 bytes each in Pillow (8 with transparency): after a JPEG's reduction, so
    # 100 MP from a camera count as 1.6 MP. A progressive JPEG counts whole: libjpeg keeps all its coefficients.
    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 2**20  # of the file


DEFAULT_LIMITS = DecodeLimits()


def decode(
    source: Path | str | bytes | Image.Image | npt.NDArray[Any],
    p: Preprocess,
    limits: DecodeLimits = DEFAULT_LIMITS,
    *,
    name: str | Path | None = None,
) -> npt.NDArray[np.uint8]:
    """The picture as the network's pixels, (size, size, 3) uint8.

    source: a regular file, the bytes of one, a PIL image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) of
    uint8, uint16 or bool. name: what to call it in messages; a path names itself.
    Raises PictureError, with the escaped name, for whatever cannot or may not be decoded. Thread-safe.
    """
    label = printable(name) if name is not None else "the picture"
    if isinstance(source, str | Path):
        label = printable(source) if name is None else label
        source = read(source, limits)
    with _named(label):
        if isinstance(source, np.ndarray):
            return _from_array(source, p)
        if isinstance(source, bytes | bytearray | memoryview):
            with _opened(bytes(source)) as image:
                return _from_file(image, bytes(source), p, limits)
        if isinstance(source, Image.Image):
            _check_pixels(source.size, limits)
            source.load()
            return _oriented(_to_pixels(source, p, None), _orientation(source))
    raise PictureError(f"{label}: a {type(source).__name__} is no picture; give a path, bytes, a PIL image or an array")


def decode_whole(path: Path | str, shorter: int = 0, limits: DecodeLimits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """All of a picture file, upright, (h, w, 3) uint8, transparent parts on white.

    shorter: pixels; a JPEG whose shorter side has many more is decoded at a half, a quarter or an eighth, not below this.
    Raises PictureError, as `decode` does, and for grey of 16 or 32 bits. Thread-safe.
    """
    data = read(path, limits)
    with _named(printable(path)), _opened(data) as image:
        scale = next((k for k in (8, 4, 2) if shorter and min(image.size) >= k * shorter), 0)
        _check_scans(image, data, limits)
        if scale and image.format in ("JPEG", "MPO"):
            image.draft("", (image.size[0] // scale, image.size[1] // scale))
        _check_pixels(image.size, limits)
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            raise PictureError("grey of 16 or 32 bits is not read here; convert it to 8 bits")
        ground = Image.new("RGBA", image.size, "white")
        shown = Image.alpha_composite(ground, image.convert("RGBA")) if image.has_transparency_data else image
        return _oriented(np.asarray(shown.convert("RGB")), _orientation(image))


@contextlib.contextmanager
def _named(label: str) -> Iterator[None]:
    """Whatever goes wrong inside is a PictureError that begins with the name.

    Pillow meets hostile bytes with many kinds of exception (OSError, SyntaxError, ValueError, struct.error, zlib.error,
    MemoryError, ...): for the caller they all mean that this one picture cannot be read.
    """
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{label}: {error}") from None
    except Exception as error:
        reason = printable(" ".join(str(error).split()) or type(error).__name__)
        raise PictureError(f"{label}: damaged or cut short ({reason}); replace the file or leave it out") from error


def read(path: Path | str, limits: DecodeLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of one picture file, for a digest and `decode` from one reading. Raises PictureError like `decode`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            # One byte more than allowed: the file may grow while it is read.
            data = file.read(limits.max_bytes + 1) if size <= limits.max_bytes else b""
        except OSError as error:
            raise PictureError(f"{printable(path)}: cannot be read ({error.strerror}); check the disk") from None
    if max(size, len(data)) > limits.max_bytes:
        raise PictureError(
            f"{printable(path)}: the file has {max(size, len(data)) / 2**20:.0f} MiB, at most "
            f"{limits.max_bytes / 2**20:.0f} MiB are read; shrink it or leave it out"
        )
    return data


def open_regular(path: Path | str) -> io.BufferedReader:
    """The file, opened for reading. Never blocks: a FIFO, socket or device is refused before it is opened.

    Raises PictureError that names the file and says whether it is missing, forbidden, a folder or no regular file.
    """
    label = printable(path)
    try:
        _require_regular(os.stat(path).st_mode, label)
        # It may have been exchanged since: without O_NONBLOCK, opening a FIFO waits for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            _require_regular(os.fstat(handle).st_mode, label)
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise
    except FileNotFoundError:
        raise PictureError(f"{label}: no such file; check the name and the working directory") from None
    except PermissionError:
        raise PictureError(f"{label}: permission denied; make it readable for this user") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"{label}: cannot be opened ({printable(reason)}); check the name and the disk") from None


def _require_regular(mode: int, label: str) -> None:
    if stat.S_ISDIR(mode):
        raise PictureError(f"{label}: is a folder; name a picture inside it")
    if not stat.S_ISREG(mode):
        raise PictureError(f"{label}: is a pipe, socket or device; only regular files are read")


def _opened(data: bytes) -> ImageFile.ImageFile:
    """The picture with its header read, no pixel decoded."""
    if not data:
        raise PictureError("the file is empty (0 bytes); replace it or leave it out")
    for format_, starts in _FORMATS:
        if data.startswith(starts) and (format_ != "WEBP" or data[8:12] == b"WEBP"):
            if format_ not in Image.OPEN:
                with _importing:
                    importlib.import_module(_PLUGINS[format_])
            factory, _ = Image.OPEN[format_]
            return factory(io.BytesIO(data), "")
    known = ", ".join(name for name, _ in _FORMATS)
    raise PictureError(f"not a picture of a known format ({known}); convert it or leave it out")


def _from_file(image: ImageFile.ImageFile, data: bytes, p: Preprocess, limits: DecodeLimits) -> npt.NDArray[np.uint8]:
    _check_scans(image, data, limits)
    extent = _reduce(image, p) if image.format in ("JPEG", "MPO") else None
    _check_pixels(image.size, limits)
    image.load()
    return _oriented(_to_pixels(image, p, extent), _orientation(image))


def _check_scans(image: ImageFile.ImageFile, data: bytes, limits: DecodeLimits) -> None:
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        _check_pixels(image.size, limits)
        if data.count(b"\xff\xda") > _SCANS:
            raise PictureError(f"a progressive JPEG of more than {_SCANS} scans is refused: it costs hours to decode")


def _reduce(image: ImageFile.ImageFile, p: Preprocess) -> tuple[float, float] | None:
    """Ask libjpeg for the smallest scale that still shows enough; the picture's extent in reduced pixels, if any."""
    width, height = image.size
    for scale in (8, 4, 2):
        if min(width, height) * p.crop / scale >= REDUCED_AT_LEAST * p.size:
            drafted = image.draft("", (width // scale, height // scale))
            return drafted and drafted[1][2:]
    return None


def _check_pixels(size: tuple[int, int], limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise PictureError(
            f"{width} x {height} pixels are more than the {limits.max_pixels / 1e6:.0f} million that are decoded at "
            f"once; scale it down, or save it as a baseline JPEG, which can be decoded at 1/8"
        )
    if not width or not height:
        raise PictureError(f"{width} x {height} pixels are no picture; replace it or leave it out")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or the metadata is damaged (the pixels may be sound)."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _oriented(square: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Upright. A centred square stays centred under every turn, so the small result is turned, not the picture."""
    if orientation not in range(2, 9):
        return square
    turned = square.transpose(1, 0, 2) if orientation >= 5 else square
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(turned[::rows, ::columns])


def _to_pixels(image: Image.Image, p: Preprocess, extent: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    """Any mode to (size, size, 3). What is linear is resized before it is converted: that touches far fewer pixels."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(_stretched(image, p))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        # With premultiplied colours, resize-then-composite equals composite-then-resize.
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy of 64 MP is 256 MB
        small = np.asarray(resample(rgba.convert("RGBa"), p, extent)).astype(np.uint16)
        on_white = np.minimum(small[:, :, :3] + (255 - small[:, :, 3:]), 255)
        return np.asarray(on_white, np.uint8)
    if image.mode != "RGB":
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    return np.asarray(resample(image, p, extent).convert("RGB"))


def _stretched(image: Image.Image, p: Preprocess) -> npt.NDArray[np.uint8]:
    """A 16- or 32-bit grey picture as (size, size) uint8, by the rules at the head of this file."""
    values = image.convert("F")
    array = np.asarray(values)
    if not np.isfinite(array).all():
        raise PictureError("some pixels are not finite numbers (NaN, infinity); replace them or leave the picture out")
    low, high = float(array.min()), float(array.max())
    if low >= 0 and image.mode != "F" and high <= 65535:
        low, high = 0.0, 4095.0 if high < 4096 else 65535.0
    elif low >= 0 and image.mode == "F" and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    # float64: the difference of two float32 may overflow.
    small = np.asarray(resample(values, p), np.float64)
    return np.clip(np.rint((small - low) * (255 / ((high - low) or 1.0))), 0, 255).astype(np.uint8)


def _from_array(array: npt.NDArray[Any], p: Preprocess) -> npt.NDArray[np.uint8]:
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype == np.uint16:
        array = np.rint(array / 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PictureError(f"an array of {array.dtype} has no stated range; scale it to 0..255 and make it uint8")
    if array.ndim == 3 and array.shape[2] == 4 and array.size:
        return _to_pixels(Image.fromarray(np.ascontiguousarray(array)), p, None)
    return pixels(array, p)
