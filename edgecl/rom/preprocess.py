"""Pixels to network input: pure functions, the same at learn and infer time and on every runtime.

Two steps, because what lies between them is what can be kept and compared: `pixels` gives one picture's (size, size, 3)
uint8, `normalise` turns a stack of them into the float array that a runtime reads.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgecl.errors import ConfigError, PictureError, RomError

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """What a backbone wants to see. It belongs to the ROM: another value here gives other features.

    Raises ConfigError, naming the value, when one is out of range.
    """

    size: int = 224  # side of the square network input, pixels
    crop: float = 0.875  # side of the centre square, as a part of the picture's shorter side
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of red, green, blue in 0..1
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        # The bounds keep an untrusted manifest from asking for gigabytes, and a division from giving no number.
        if type(self.size) is not int or not 8 <= self.size <= 2048:
            raise ConfigError(f"preprocess size is {reprlib.repr(self.size)}; use a whole number of pixels from 8 to 2048")
        if not _is_number(self.crop) or not 0.1 <= self.crop <= 1:  # refuses NaN too
            raise ConfigError(f"preprocess crop is {reprlib.repr(self.crop)}; use a number from 0.1 to 1")
        if not isinstance(self.interpolation, str) or self.interpolation not in _FILTERS:
            raise ConfigError(
                f"preprocess interpolation is {reprlib.repr(self.interpolation)}; known are {', '.join(_FILTERS)}"
            )
        for name, values, low in (("mean", self.mean, -10.0), ("std", self.std, 1e-3)):
            good = isinstance(values, tuple) and len(values) == 3
            if not good or not all(_is_number(v) and low <= v <= 10 for v in values):
                raise ConfigError(f"preprocess {name} is {reprlib.repr(values)}; use three numbers from {low:g} to 10")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; equal settings give equal dicts, so that a digest over them is one too."""
        return {
            "size": self.size,
            "crop": float(self.crop),
            "interpolation": self.interpolation,
            "mean": [float(v) for v in self.mean],
            "std": [float(v) for v in self.std],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of `to_dict`. A manifest is untrusted: all keys must be there, and no other.

        Raises RomError that says which key or value is wrong.
        """
        if not isinstance(values, Mapping):
            raise RomError(f"preprocess of the ROM is a {type(values).__name__}, not a table; export the ROM again")
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            wrong = sorted(map(reprlib.repr, set(values) ^ known))
            raise RomError(f"preprocess of the ROM lacks or does not know: {', '.join(wrong)}; export the ROM again")
        try:
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**plain)
        except ConfigError as error:
            raise RomError(f"{error}; this stands in the ROM's manifest, export the ROM again") from None


def pixels(image: Image.Image | npt.NDArray[np.uint8], p: Preprocess) -> npt.NDArray[np.uint8]:
    """The centre square of a picture at network size, (size, size, 3) uint8.

    Equal in meaning to timm's "resize the shorter side to size / crop, then cut the centre", in one `Image.resize`:
    only what the network sees is computed, and the square is not rounded to whole pixels twice.

    image: a PIL image of any 8-bit mode, or (h, w, 3), (h, w, 1) or (h, w) uint8. Transparency, 16-bit modes and EXIF
    orientation are `pictures.decode`'s work. Raises PictureError for an array of another shape or dtype.
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(resample(image, p).convert("RGB"))


def resample(image: Image.Image, p: Preprocess, extent: tuple[float, float] | None = None) -> Image.Image:
    """The centre square at network size, in the image's own mode (which Pillow must be able to resample).

    extent: width and height of the picture inside `image`, in its pixels, where they differ from `image.size`: a JPEG
    decoded at 1/8 of 1001 pixels has 126 columns, the last of which is an eighth full.
    """
    width, height = extent or image.size
    side = min(width, height) * p.crop
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    return image.resize((p.size, p.size), _FILTERS[p.interpolation], box=box)


def normalise(pixels: npt.NDArray[np.uint8], p: Preprocess) -> npt.NDArray[np.float32]:
    """(pixels / 255 - mean) / std as the network reads it: (n, s, s, 3) uint8 to (n, 3, s, s) float32, C-contiguous.

    One picture at a time, so that its 600 kB stay in the cache over the three passes; a picture's values do not depend
    on the batch that it came in. (A lookup table was measured too, and was slower: 0.12 against 0.08 ms a picture.)
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise PictureError(f"pixels must be (n, s, s, 3) uint8, got {pixels.shape} {pixels.dtype}")
    n, height, width, _ = pixels.shape
    scale = (1 / (255 * np.array(p.std))).astype(np.float32)[:, None, None]
    offset = (-np.array(p.mean) / np.array(p.std)).astype(np.float32)[:, None, None]
    out = np.empty((n, 3, height, width), np.float32)
    for picture, planes in zip(pixels, out, strict=True):
        planes[...] = picture.transpose(2, 0, 1)
        planes *= scale
        planes += offset
    return out


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise PictureError(f"a picture must be (h, w, 3) or (h, w) uint8 and not empty, got {array.shape} {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
