"""The same pictures as another camera would take them: darker, blurred, turned, noisy, tinted, or nearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from PIL import Image, ImageFilter

from edgecl.errors import ConfigError
from edgecl.pictures.decode import decode
from edgecl.rom.preprocess import Preprocess
from edgecl.types import Pixels

VIEWS = ("darker", "blurred", "turned", "noisy", "tinted", "nearer")

# A picture of any size becomes this before it is changed: what a network of 224 pixels, which cuts away the rim, starts from.
_SEEN = Preprocess(size=256, crop=1.0, interpolation="bicubic")


@dataclass(frozen=True)
class View:
    """One camera's way of seeing. strength: 0..1, from hardly to clearly; seed: of the noise and of the tint."""

    kind: str
    strength: float
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in VIEWS or not 0 <= self.strength <= 1:
            raise ConfigError(f"no view '{self.kind}' of strength {self.strength}; known are {', '.join(VIEWS)}, from 0 to 1")

    def __call__(self, picture: Any, index: int) -> Pixels:
        """What this camera sees of a picture (whatever `decode` takes): its centre square, (256, 256, 3) uint8.

        index: of the picture, so that each has noise of its own. Raises PictureError as `decode` does.
        """
        return self._change(decode(picture, _SEEN), index)

    def _change(self, pixels: Pixels, index: int) -> Pixels:
        side = len(pixels)
        if self.kind == "darker":
            return _rounded((1 - 0.3 - 0.4 * self.strength) * pixels)
        if self.kind == "noisy":
            rng = np.random.default_rng([self.seed, 42, index])
            return _rounded(pixels + (10 + 25 * self.strength) * rng.standard_normal(pixels.shape, np.float32))
        if self.kind == "tinted":
            cast = np.random.default_rng([self.seed, 43]).uniform(-1, 1, 3)
            return _rounded(pixels * (1 + (0.2 + 0.3 * self.strength) * cast / np.abs(cast).max()))
        image = Image.fromarray(pixels)
        if self.kind == "blurred":
            return np.asarray(image.filter(ImageFilter.GaussianBlur(1 + 2 * self.strength)))
        if self.kind == "turned":
            # The square inside the turned square: no corner is invented.
            angle = np.deg2rad(8 + 17 * self.strength)
            margin = side * (1 - 1 / (np.cos(angle) + np.sin(angle))) / 2
            image = image.rotate(float(np.rad2deg(angle)), Image.Resampling.BICUBIC)
        else:
            margin = side * (0.1 + 0.15 * self.strength)
        box = (float(margin), float(margin), float(side - margin), float(side - margin))
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box))


def view_of(agent: int, seed: int) -> View:
    """The view of that agent: kinds in turn, strength by seed."""
    rng = np.random.default_rng([seed, 41, agent])
    return View(VIEWS[agent % len(VIEWS)], float(rng.random()), int(rng.integers(2**31)))


@dataclass(frozen=True)
class Selected(Sequence[Any]):
    """Some of many pictures, in a given order, seen through a view or as they are; nothing is read before one is taken."""

    pictures: Sequence[Any]
    rows: tuple[int, ...]
    view: View | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        row = self.rows[index]
        picture = self.pictures[row]
        return picture if self.view is None else self.view(picture, row)


def _rounded(values: Any) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels
