"""Light augmentation: each picture in a few variants, run once through the part of the network that never changes.

No mirroring: letters, digits, signs and most parts have a left and a right (measured on letters: 0.954 with it, 0.971 without).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecl.rom.preprocess import Preprocess, normalise
from edgecl.rom.surgery import Tensor
from edgecl.rom.torch_compat import torch
from edgecl.types import Floats, Ints, Pixels

_AREA = 0.7  # the smallest part of a picture's area that a variant shows
_STRETCH = 0.1  # log of the aspect ratio, at most
_TURN = 0.12  # radians, about 7 degrees
_CONTRAST, _BRIGHTNESS = 0.2, 0.1  # factor about 1, and shift in units of the network's input
_CALL = 16  # pictures a pass; the layers near the picture take 20 MB for each


def vary(x: Tensor, generator: torch.Generator) -> Tensor:
    """Variants of normalised pictures (n, 3, s, s): cropped, stretched, turned, lighter or darker."""
    n = len(x)

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=generator)

    side, stretch, turn = draw(_AREA**0.5, 1), torch.exp(draw(-_STRETCH, _STRETCH)), draw(-_TURN, _TURN)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = side * stretch * torch.cos(turn), -side * torch.sin(turn)
    theta[:, 1, 0], theta[:, 1, 1] = side * torch.sin(turn), side / stretch * torch.cos(turn)
    theta[:, 0, 2], theta[:, 1, 2] = (1 - side) * draw(-1, 1), (1 - side) * draw(-1, 1)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False).to(x.device)
    y = torch.nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    contrast, light = draw(1 - _CONTRAST, 1 + _CONTRAST), draw(-_BRIGHTNESS, _BRIGHTNESS)
    return y * contrast.to(x.device)[:, None, None, None] + light.to(x.device)[:, None, None, None]


class Views:
    """Variants of a task's pictures as the upper half of the network reads them.

    Variant 0 is the picture itself. They are computed once and kept in half precision, or, where `limit` does not allow
    that, computed again whenever they are asked for: the same numbers, more time.
    """

    def __init__(
        self,
        pixels: Pixels,
        preprocess: Preprocess,
        lower: Callable[[Tensor], Tensor],
        *,
        variants: int,
        seed: int,
        limit: int,
        device: str = "cpu",
        tick: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        """pixels: (n, s, s, 3) uint8.   variants: besides the picture itself.   limit: bytes that may be kept.
        tick: told of each pass how many pictures it took.
        """
        self._pixels, self._preprocess, self._lower = pixels, preprocess, lower
        self._seed, self._device, self._tick = seed, device, tick
        one = self._compute(0, np.arange(1))
        self.bytes_each = one[0].numel() * 2
        self.variants = variants
        keeps = self.bytes_each * len(pixels) * (variants + 1) <= limit
        everyone = np.arange(len(pixels))
        self._kept = [self._all(v, everyone).half() for v in range(variants + 1)] if keeps else None

    def _all(self, variant: int, rows: Ints) -> Tensor:
        return torch.cat([self._compute(variant, rows[at : at + _CALL]) for at in range(0, len(rows), _CALL)])

    def _compute(self, variant: int, rows: Ints) -> Tensor:
        x = torch.from_numpy(normalise(self._pixels[rows], self._preprocess))
        if variant:
            # A generator for each picture, so that a variant is the same whatever else is in the batch.
            drawn = []
            for row, picture in zip(rows, x, strict=True):
                seed = np.random.SeedSequence([self._seed, variant, int(row)]).generate_state(1, np.uint64)[0]
                generator = torch.Generator().manual_seed(int(seed) >> 1)
                drawn.append(vary(picture[None], generator))
            x = torch.cat(drawn)
        with torch.no_grad():
            out = self._lower(x.to(self._device).contiguous(memory_format=torch.channels_last))
        self._tick(len(rows))
        return out

    def batch(self, variant: int, rows: Ints) -> Tensor:
        """What the upper half reads for these pictures in this variant."""
        if self._kept is None:
            return self._all(variant, rows).half().float()
        some = self._kept[variant][torch.from_numpy(rows).to(self._device)].float()
        return some.contiguous(memory_format=torch.channels_last)


def features(upper: Callable[[Tensor], Tensor], views: Views, n: int, variant: int = 0) -> Floats:
    """Features (n, d) of all pictures in one variant."""
    with torch.no_grad():
        parts = [
            upper(views.batch(variant, np.arange(at, min(at + _CALL, n)))).float().cpu().numpy() for at in range(0, n, _CALL)
        ]
    out: Floats = np.concatenate(parts)
    return out
