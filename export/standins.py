"""Pictures for a fit where the user gives none: photographs cut up and recoloured, and drawings, of no data set at all.

A convolution is fitted to what it gives on them, so what counts is that they stir the network in as many ways as pictures of
tasks do. Two photographs alone do not: flat ground, strokes and odd colours are in none of them.
(Drawn pictures in place of a data set: Kataoka et al., Pre-training without natural images, ACCV 2020; overlapping leaves and
shaped noise: Baradad et al., Learning to see by looking at noise, NeurIPS 2021.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from edgecl.rom.preprocess import Preprocess, pixels
from edgecl.types import Pixels

SOURCE = "stand-ins: crops of scikit-learn's two photographs, recoloured, and drawings"
_SIDE = 256  # of a drawing
Picture = Any  # (h, w, 3) uint8


def standins(preprocess: Preprocess, count: int) -> Pixels:
    """`count` pictures (n, s, s, 3) uint8, the same ones every time."""
    from sklearn.datasets import load_sample_images

    photographs, rng = load_sample_images().images, np.random.default_rng(0)
    out = []
    for i in range(count):
        picture = _KINDS[i % len(_KINDS)](photographs, rng)
        out.append(pixels(Image.fromarray(np.ascontiguousarray(_recoloured(picture, rng))), preprocess))
    return np.stack(out)


def _crop(photographs: list[Picture], rng: np.random.Generator) -> Picture:
    """Any part of a photograph, down to a fifth of its height."""
    picture = photographs[rng.integers(len(photographs))]
    side = int(min(picture.shape[:2]) * rng.uniform(0.2, 1))
    top, left = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
    part = picture[top : top + side, left : left + side][:, :: -1 if rng.random() < 0.5 else 1]
    return np.rot90(part, int(rng.integers(4)))


def _leaves(photographs: list[Picture], rng: np.random.Generator) -> Picture:
    """Round and square leaves over one another, small ones in greater number, each of a colour or of a photograph's texture."""
    image = Image.fromarray(np.full((_SIDE, _SIDE, 3), rng.integers(0, 256, 3), np.uint8))
    for _ in range(int(rng.integers(5, 120))):
        size = int(np.clip(12 * (1 - rng.random()) ** -0.7, 6, 160))
        x, y = (int(v) for v in rng.integers(-size // 2, _SIDE, 2))
        mask = Image.new("L", (size, size))
        shape = ImageDraw.Draw(mask)
        (shape.ellipse if rng.random() < 0.6 else shape.rectangle)(
            (0, 0, size - 1, int(size * rng.uniform(0.5, 1)) - 1), fill=255
        )
        if rng.random() < 0.3:
            leaf = Image.fromarray(np.ascontiguousarray(_crop(photographs, rng))).resize((size, size))
        else:
            leaf = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(0, 256, 3)))
        image.paste(leaf, (x, y), mask.rotate(float(rng.uniform(0, 360))))
    return np.asarray(image)


def _strokes(photographs: list[Picture], rng: np.random.Generator) -> Picture:
    """Lines, arcs and outlines on an even ground, as in writing, signs and sketches."""
    ground, ink = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
    image = Image.new("RGB", (_SIDE, _SIDE), ground)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 14))):
        width, points = int(rng.integers(2, 24)), [tuple(int(v) for v in rng.integers(16, _SIDE - 16, 2)) for _ in range(4)]
        kind = rng.integers(3)
        if kind == 0:
            draw.line(points, fill=ink, width=width, joint="curve")
        elif kind == 1:
            (x0, y0), (x1, y1) = points[:2]
            box = (min(x0, x1), min(y0, y1), max(x0, x1) + 8, max(y0, y1) + 8)
            draw.arc(box, int(rng.integers(0, 180)), int(rng.integers(180, 480)), fill=ink, width=width)
        else:
            draw.polygon(points, outline=ink, width=max(1, width // 3))
    return np.asarray(image)


def _noise(photographs: list[Picture], rng: np.random.Generator) -> Picture:
    """Noise whose strength falls with its frequency, as that of photographs does, or stripes of one direction."""
    f = np.fft.fftfreq(_SIDE)
    across, along = np.meshgrid(f, f)
    angle, narrow = rng.uniform(0, np.pi), rng.uniform(1, 8)
    radius = np.hypot(across, along) + 1 / _SIDE
    turned = np.hypot(across * np.cos(angle) + along * np.sin(angle), narrow * (along * np.cos(angle) - across * np.sin(angle)))
    strength = radius ** -rng.uniform(0.5, 2) * (radius / (turned + 1 / _SIDE))
    planes = []
    for _ in range(3):
        plane = np.fft.ifft2(strength * np.exp(2j * np.pi * rng.random((_SIDE, _SIDE)))).real
        planes.append((plane - plane.mean()) / plane.std())
    planes[1:] = [(planes[0] + mix * p) / (1 + mix) for mix, p in zip(rng.uniform(0, 1, 2), planes[1:], strict=True)]
    return np.clip(128 + 50 * np.stack(planes, -1), 0, 255).astype(np.uint8)


def _recoloured(picture: Picture, rng: np.random.Generator) -> Picture:
    """One in three as it is; the others grey, negative, with channels changed round, or of another contrast."""
    x = picture.astype(np.float64)
    kind = rng.integers(6)
    if kind == 0:
        x = np.repeat(x.mean(-1, keepdims=True), 3, -1)
    elif kind == 1:
        x = 255 - x
    elif kind == 2:
        x = x[..., rng.permutation(3)]
    elif kind == 3:
        x = (x - x.mean()) * rng.uniform(0.4, 1.6) + x.mean() + rng.uniform(-40, 40)
    return np.clip(x, 0, 255).astype(np.uint8)


_KINDS: tuple[Callable[[list[Picture], np.random.Generator], Picture], ...] = (_crop, _leaves, _crop, _strokes, _crop, _noise)
