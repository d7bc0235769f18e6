"""Data sets that are arrays already: an .npz of inputs, labels and perhaps groups. What stands in the file is not trusted."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import DataError, PictureError
from edgecl.pictures.decode import open_regular
from edgecl.pictures.folders import MAX_CLASSES
from edgecl.streams.base import Dataset, Samples
from edgecl.text import printable, size
from edgecl.types import Ints

PARTS = ("train", "val", "test")
_MOST_BYTES = 8 << 30  # of all arrays of a file together
_LARGEST = 1e6  # of an input: learners work in float32, where the squares and sums of larger ones overflow
_LONGEST = 200  # characters of a class's name
_MALFORMED = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, NotImplementedError, RuntimeError)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz, by name. Raises DataError where it is none, holds objects, or would not fit in memory."""
    found: dict[str, NDArray[Any]] = {}
    left, where = _MOST_BYTES, printable(path)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if not name.endswith(".npy"):
                    continue
                with archive.open(name) as member:
                    left -= _stated_bytes(member)
                if left < 0:
                    raise DataError(f"{where}: its arrays have more than {size(_MOST_BYTES)} together; make a part of it")
                with archive.open(name) as member:
                    found[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    except PictureError as error:
        raise DataError(str(error)) from None
    except _MALFORMED as error:
        reason = printable(str(error), 120)
        raise DataError(f"{where}: is no .npz of plain arrays ({reason}); write it with numpy.savez") from None
    return found


def dataset(path: Path) -> Dataset:
    """The data set of an .npz with x_train, y_train, x_test, y_test; perhaps x_val, y_val; perhaps group_train and so on.

    x: (n, ...) uint8, float32 or float64, finite.   y, group: (n,) whole numbers from 0.   classes, groups: names, where they
    are there.   Raises DataError that names the array.
    """
    arrays = read_arrays(path)
    where = printable(path)
    parts = train, val, test = [_part(arrays, part, where) for part in PARTS]
    for name, part in zip(PARTS, parts, strict=True):
        if len(part) and (part.shape != train.shape or part.x.dtype != train.x.dtype):
            raise DataError(
                f"{where}: x_{name} holds {part.shape} {part.x.dtype}, x_train {train.shape} {train.x.dtype}; make them alike"
            )
    classes = _names(arrays, "classes", "class", [part.y for part in parts], where)
    groups = _names(arrays, "groups", "group", [part.group for part in parts], where)
    return Dataset(printable(path.stem, 60), classes, groups, train, val if len(val) else train[:0], test)


def _stated_bytes(member: Any) -> int:
    """Bytes of the array that begins here, by its header. Raises ValueError for objects and for formats of the future."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version[0]}.{version[1]}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return math.prod(shape) * dtype.itemsize


def _part(arrays: Mapping[str, NDArray[Any]], part: str, where: str) -> Samples:
    if f"x_{part}" not in arrays or f"y_{part}" not in arrays:
        if part == "val":
            return Samples.of(np.zeros((0,)), [])
        raise DataError(f"{where}: lacks x_{part} or y_{part}; it has {printable(', '.join(sorted(arrays))) or 'nothing'}")
    x = arrays[f"x_{part}"]
    if x.ndim < 2 or not all(x.shape[1:]) or x.dtype not in (np.uint8, np.float32, np.float64):
        raise DataError(f"{where}: x_{part} is {x.shape} {x.dtype}; it must be (n, ...) uint8, float32 or float64")
    if x.dtype != np.uint8 and not np.isfinite(x).all():
        raise DataError(f"{where}: x_{part} holds numbers that are not finite; replace them")
    if len(x) and max(-float(x.min()), float(x.max())) > _LARGEST:
        raise DataError(f"{where}: x_{part} goes from {x.min():g} to {x.max():g}; scale it to {_LARGEST:g} at most")
    if part != "val" and not len(x):
        raise DataError(f"{where}: x_{part} is empty")
    y = _numbers(arrays[f"y_{part}"], f"y_{part}", len(x), where)
    group = arrays.get(f"group_{part}")
    return Samples(x, y, np.zeros(len(x), np.int64) if group is None else _numbers(group, f"group_{part}", len(x), where))


def _numbers(values: NDArray[Any], name: str, n: int, where: str) -> Ints:
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise DataError(f"{where}: {name} is {values.shape} {values.dtype}; it must be ({n},) whole numbers, one an input")
    if n and (int(values.min()) < 0 or int(values.max()) >= MAX_CLASSES):
        raise DataError(f"{where}: {name} goes from {values.min()} to {values.max()}; use 0 to at most {MAX_CLASSES - 1}")
    return values.astype(np.int64)


def _names(arrays: Mapping[str, NDArray[Any]], key: str, word: str, used: list[Ints], where: str) -> tuple[str, ...]:
    count = 1 + max(int(numbers.max(initial=0)) for numbers in used)
    given = arrays.get(key)
    if given is None:
        return tuple(f"{word} {i}" for i in range(count))
    if given.ndim != 1 or given.dtype.kind != "U" or not count <= len(given) <= MAX_CLASSES:
        raise DataError(f"{where}: {key} is {given.shape} {given.dtype}; it must be at least {count} names")
    names = tuple(str(name) for name in given)
    if len(set(names)) < len(names) or not all(name.isprintable() and 0 < len(name) <= _LONGEST for name in names):
        raise DataError(f"{where}: {key} must be different names of 1 to {_LONGEST} visible characters")
    return names
