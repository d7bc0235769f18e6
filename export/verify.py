"""Is the sealed image the network it was made from? Asked on real pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from edgecl.errors import DataError, PictureError
from edgecl.pictures.decode import decode
from edgecl.rom.preprocess import Preprocess, pixels
from edgecl.types import Pixels


def sample_pictures(preprocess: Preprocess, folder: Path | None = None, count: int = 16) -> Pixels:
    """Real pictures for the comparison: from `folder`, or crops of the two photographs that scikit-learn carries.

    Returns (n, s, s, 3) uint8, n <= count.
    """
    if folder is not None:
        from edgecl.pictures.folders import expand

        found = [path for path in expand([str(folder)]) if isinstance(path, Path)]
        if not found:
            raise DataError(f"there is no picture in {folder} to compare the export with; give another folder with --pictures")
        read = spread(preprocess, found, count)
        if not len(read):
            raise DataError(f"no picture in {folder} can be read; give another folder with --pictures")
        return read
    from sklearn.datasets import load_sample_images

    photographs: Sequence[Pixels] = load_sample_images().images
    out = []
    for i in range(count):
        picture = photographs[i % len(photographs)]
        side = min(picture.shape[:2]) * (8 - i // 2 % 6) // 8
        top, left = (picture.shape[0] - side) * (i % 3) // 2, (picture.shape[1] - side) * (i % 5) // 4
        out.append(pixels(Image.fromarray(picture[top : top + side, left : left + side]), preprocess))
    return np.stack(out)


def spread(preprocess: Preprocess, files: Sequence[Path], count: int) -> Pixels:
    """Up to `count` pictures, (n, s, s, 3) uint8, taken at equal steps from `files`; those that cannot be read are left out."""
    read = []
    for path in files[:: max(1, len(files) // count)]:
        with contextlib.suppress(PictureError):  # one that cannot be read proves nothing about the export
            read.append(decode(path, preprocess))
        if len(read) == count:
            break
    return np.stack(read) if read else np.zeros((0, preprocess.size, preprocess.size, 3), np.uint8)
