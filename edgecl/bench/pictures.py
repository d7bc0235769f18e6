"""Pictures to measure with: a folder of the user's, or made here, so that a bench runs where there is no data set.

Made ones are like photographs in what costs time: 640 x 480, JPEG at quality 90 with subsampled colour, a spectrum that
falls with the frequency, a few hard edges, and sensor noise; about 100 kB each.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecl.errors import DataError
from edgecl.pictures.decode import read
from edgecl.pictures.folders import expand

WIDTH, HEIGHT, QUALITY = 640, 480, 90
_SCENES = 16  # drawn from noise; further pictures are these, shifted, mirrored and in another light


def made(count: int, seed: int = 0) -> list[bytes]:
    """`count` different JPEGs; the same count and seed give the same pictures."""
    rng = np.random.default_rng(seed)
    scenes = [_scene(rng) for _ in range(min(count, _SCENES))]
    found = []
    for i in range(count):
        scene = scenes[i % len(scenes)]
        if i >= len(scenes):
            scene = np.roll(scene, (int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))), (0, 1))[:, :: rng.choice((-1, 1))]
            scene = scene * rng.uniform(0.7, 1.2, 3).astype(np.float32)
        file = io.BytesIO()
        Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        found.append(file.getvalue())
    return found


def of_folder(folder: Path, count: int) -> list[bytes]:
    """Up to `count` pictures of `folder`, encoded as they are. Raises DataError when there is none."""
    found = []
    for path in expand([str(folder)]):
        if isinstance(path, Path):
            found.append(read(path))
        if len(found) == count:
            break
    if not found:
        raise DataError(f"{folder} holds no picture to measure with; leave --pictures out, and some are made")
    return found


def _scene(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    fall = np.maximum(np.hypot(y, x), 1 / WIDTH) ** -1.2
    planes = [np.fft.irfft2(fall * np.fft.rfft2(rng.normal(size=(HEIGHT, WIDTH))), (HEIGHT, WIDTH)) for _ in range(3)]
    scene = np.stack([planes[0] + 0.15 * plane for plane in planes], 2)
    scene = 128 + 40 * scene / scene.std()
    for _ in range(12):  # things with edges, each of one colour shift
        top, left = int(rng.integers(HEIGHT - 40)), int(rng.integers(WIDTH - 40))
        tall, wide = rng.integers(20, 200, 2)
        scene[top : top + tall, left : left + wide] += rng.normal(0, 40, 3)
    out: NDArray[np.float32] = (scene + rng.normal(0, 1.5, scene.shape)).astype(np.float32)
    return out
