"""A data set by what is written on a command line: a name, a folder of pictures, a file of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from edgecl import registry
from edgecl.errors import ConfigError, DataError, UnknownName
from edgecl.pictures.reading import Progress, silent
from edgecl.rom.base import Rom
from edgecl.rom.feature_cache import FeatureCache
from edgecl.streams import arrays
from edgecl.streams.base import Dataset
from edgecl.streams.folders import folder_pictures
from edgecl.streams.labelled import TEST, TRAIN, VAL, LabelledPictures, hold_out, read
from edgecl.text import printable

POINTS = ("modes", "moons")
FORMS: Mapping[str, str] = {  # for people: what `load` understands
    "modes, moons": "points in the plane, generated",
    "cifar100[:FOLDER]": "the original files, or train.npz and test.npz; the working directory where no folder is named",
    "finegrained:FOLDER": "ImageNet and five fine-grained data sets, read when asked for; for networks: cpg and its kin",
    "faces:FOLDER": "verification, gender, expression and age (five folds) of faces, read likewise",
    "ns:FOLDER": "pictures of a folder in three domains of growing noise",
    "FOLDER": "a folder of tasks, each with train/ and test/; or one with train/ and test/ of classes",
    "FILE.npz": "arrays x_train, y_train, group_train (may be left out), x_test, ...",
}
_TASK_FOLDERS = {"finegrained": ("finegrained", "finegrained"), "faces": ("face_tasks", "face_tasks")}
_SIDES = (8, 1024)  # pixels


def load(
    data: str,
    *,
    rom: Rom | None = None,
    cache: FeatureCache | None = None,
    size: int | None = None,
    progress: Progress = silent,
    seed: int = 0,
    val_share: float = 0.0,
) -> Dataset:
    """The data set that `data` names, in one of FORMS. What was passed over is in its notes.

    rom: pictures become its features (n, d) float32; `cache` keeps them. Without one they become (n, s, s, 3) uint8, where
    size: is the side s; None leaves it to the data set (32 for CIFAR-100, 84 for ns, 64 for folders).
    seed: of the noise in ns, and of what is held out.   val_share: part of the training samples that becomes the validation
    part where the data set has none; 0 takes none away, so that there is no validation part.
    Raises DataError, ConfigError, UnknownName for what cannot be a data set, MissingDependency.
    """
    if not 0 <= val_share < 1:
        raise ConfigError(f"the share held out for validation must lie between 0 and 1, got {val_share:g}")
    if size is not None and not _SIDES[0] <= size <= _SIDES[1]:
        raise ConfigError(f"the side of pictures must lie between {_SIDES[0]} and {_SIDES[1]} pixels, got {size}")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"the seed must lie between 0 and 2^63 - 1, got {seed}")
    if data in POINTS:
        _no_pictures(data, rom, size)
        points: Callable[[], Dataset] = import_module(f"edgecl.streams.datasets.{data}").load
        return points()
    if (kind := data.partition(":")[0]) in _TASK_FOLDERS and ":" in data:
        return _task_folders(kind, data.partition(":")[2], rom, size)
    if data.endswith(".npz"):
        return hold_out(_arrays(Path(data), rom, cache, size, progress), val_share, seed)
    return hold_out(read(_pictures(data, seed, size), rom, cache, size, progress), val_share, seed)


def _task_folders(kind: str, folder: str, rom: Rom | None, size: int | None) -> Dataset:
    if rom is not None:
        raise ConfigError(f"the pictures of {kind} are for networks of their own; leave out the ROM")
    module, name = _TASK_FOLDERS[kind]
    found = import_module(f"edgecl.streams.datasets.{module}")
    made: Dataset = getattr(found, name)(Path(folder or "."), size or found.SIDE)
    return made


def _pictures(data: str, seed: int, size: int | None) -> LabelledPictures:
    kind, _, folder = data.partition(":")
    if kind == "cifar100":
        from edgecl.streams.datasets import cifar100

        return cifar100.pictures(Path(folder or "."))
    if kind == "ns":
        from edgecl.streams.datasets import noisy

        if not folder:
            raise ConfigError("ns needs a folder of pictures: ns:FOLDER")
        return noisy.noisy(folder_pictures(Path(folder)), seed, size or noisy.SIDE)
    path = Path(data)
    if not path.is_dir():
        try:
            registry.check("data set", (*POINTS, "cifar100", "ns:FOLDER", "FOLDER", "FILE.npz"), data)
        except UnknownName as error:
            raise UnknownName(f"{error}. And there is no folder '{printable(data, 60)}' here") from None
    return folder_pictures(path)


def _arrays(path: Path, rom: Rom | None, cache: FeatureCache | None, size: int | None, progress: Progress) -> Dataset:
    """The arrays as they are; where a ROM or a size is given, as pictures that have to be read."""
    found = arrays.dataset(path)
    if lost := set(found.test.y.tolist()) - set(found.train.y.tolist()):
        raise DataError(f"{found.name}: the class '{found.classes[min(lost)]}' is in y_test, but not in y_train")
    if rom is None and size is None:
        return found
    shape = found.train.shape
    if found.train.x.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        _no_pictures(f"{found.name} {shape} {found.train.x.dtype}", rom, size)
    parts = (found.train, found.val, found.test)
    sources = [x for part in parts for x in part.x]
    y, group = (np.concatenate([getattr(part, name) for part in parts]) for name in ("y", "group"))
    part = np.repeat([TRAIN, VAL, TEST], [len(p) for p in parts])
    pictures = LabelledPictures(found.name, found.classes, found.groups, sources, y, group, part, side=shape[0])
    return replace(read(pictures, rom, cache, size, progress), name=found.name)


def _no_pictures(what: str, rom: Rom | None, size: int | None) -> None:
    if rom or size:
        raise ConfigError(f"{what} are no pictures, so {'no ROM looks at them' if rom else 'they have no size'}; leave it out")
