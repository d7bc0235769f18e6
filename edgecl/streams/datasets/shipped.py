"""What the data sets share: finding a file inside an installed package, and drawing pictures from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from edgecl.errors import MissingDependency
from edgecl.streams.base import TaskPictures
from edgecl.types import Ints, Pixels

CONTRAST = 16  # of 255: between the darkest and the brightest value of a square that shows something


def shipped(package: str, distribution: str, *parts: str) -> Path:
    """A file or folder inside an installed package, which is not imported.

    Raises MissingDependency, naming the extra, where the package is absent or (a version without it) lacks the file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *parts)
        if path.exists():
            return path
    lacks = f"the installed {distribution} has no {'/'.join(parts)}" if spec else f"{distribution} is not installed"
    raise MissingDependency(f"{lacks}; the pictures of the demo come with: pip install --upgrade 'edgecl[demo]'")


def draw(labels: Ints, train: int, test: int, seed: int) -> tuple[Ints, Ints]:
    """Indices of `train` and of `test` other pictures, evenly over the classes, in random order.

    labels: (n,) int64; counts are rounded down to a multiple of the classes. A class with too few pictures gives what
    it has, in the proportion asked for.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(labels)
    a, b = train // len(names), test // len(names)
    first, second = [], []
    for name in names:
        own = rng.permutation(np.flatnonzero(labels == name))
        cut = min(a, len(own) * a // max(a + b, 1))
        first.append(own[:cut])
        second.append(own[cut : cut + b])
    return rng.permutation(np.concatenate(first)), rng.permutation(np.concatenate(second))


def stack(
    name: str, classes: Sequence[str], pictures: Sequence[Pixels], labels: Ints, parts: tuple[Ints, Ints]
) -> TaskPictures:
    """The task made of `pictures` (n) and `labels` (n,), of which `parts` says who trains and who tests."""
    train, test = parts
    return TaskPictures(
        name,
        tuple(classes),
        tuple(pictures[i] for i in train),
        tuple(int(labels[i]) for i in train),
        tuple(pictures[i] for i in test),
        tuple(int(labels[i]) for i in test),
    )


def patches(name: str, files: Iterable[tuple[str, Path]], side: int, train: int, test: int, seed: int) -> TaskPictures:
    """A task made of large pictures, one a class, cut into squares that do not overlap.

    The parts are regions: squares to the left train, squares to the right test, and a strip at least half a square wide
    between the two is left out, so that no test square continues a training square. Squares that show nothing, such as
    the black around a retina, are left out: they say nothing of their class, and one looks like another.

    files: class name and picture.   side: of a square, pixels.   train, test: of all classes together, at most.
    """
    rng = np.random.default_rng(seed)
    classes: list[str] = []
    parts: tuple[list[tuple[Pixels, int]], list[tuple[Pixels, int]]] = ([], [])
    chosen = tuple(files)
    for label, (kind, path) in enumerate(chosen):
        classes.append(kind)
        with Image.open(path) as opened:
            picture = np.asarray(opened if opened.mode in ("L", "RGB") else opened.convert("RGB"))
        height, width = picture.shape[:2]
        columns = (2 * width - side) // (2 * side)  # with half a square to spare
        right = max(1, round(columns * test / (train + test)))
        tops = range(0, height - side + 1, side)
        regions = (
            [(top, left * side) for top in tops for left in range(columns - right)],
            [(top, width - (left + 1) * side) for top in tops for left in range(right)],
        )
        for part, corners, count in zip(parts, regions, (train, test), strict=True):
            squares = [picture[top : top + side, left : left + side] for top, left in corners]
            squares = [square for square in squares if np.ptp(square) >= CONTRAST]
            for i in rng.permutation(len(squares))[: count // len(chosen)]:
                part.append((np.ascontiguousarray(squares[i]), label))
    shuffled = [[part[i] for i in rng.permutation(len(part))] for part in parts]
    (x, y), (u, v) = (tuple(zip(*part, strict=True)) for part in shuffled)
    return TaskPictures(name, tuple(classes), x, y, u, v)
