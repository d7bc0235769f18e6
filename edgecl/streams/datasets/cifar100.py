"""CIFAR-100: 32 x 32 in colour, 100 classes, five of each of 20 superclasses, which are the groups.

Two forms are read: the original files, by torchvision, which compares their digests before it reads them; and two .npz, train
and test, of PNG files one after another (`png`, `offset`) with their `fine` and `coarse` labels. Nothing is downloaded.
Krizhevsky: Learning multiple layers of features from tiny images, technical report, University of Toronto, 2009.
"""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import DataError, MissingDependency
from edgecl.streams.arrays import read_arrays
from edgecl.streams.labelled import TEST, TRAIN, LabelledPictures
from edgecl.text import printable

SIDE = 32
SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
_OWNER = {name: i for i, names in enumerate(SUPERCLASSES.values()) for name in names.split()}
CLASSES = tuple(sorted(_OWNER))
COARSE_OF_FINE = np.array([_OWNER[name] for name in CLASSES])
_ORIGINAL = "cifar-100-python"


def pictures(folder: Path) -> LabelledPictures:
    """What lies in `folder`: cifar-100-python/, or train.npz and test.npz. Raises DataError where neither does."""
    if (folder / _ORIGINAL).is_dir():
        lots = _original(folder)
    elif all((folder / f"{part}.npz").is_file() for part in ("train", "test")):
        lots = [_packed(folder / f"{part}.npz") for part in ("train", "test")]
    else:
        raise DataError(
            f"{printable(folder)} holds neither {_ORIGINAL}/ nor train.npz and test.npz; name the folder: cifar100:FOLDER"
        )
    y = np.concatenate([labels for _, labels in lots]).astype(np.int64)
    sources = [source for some, _ in lots for source in some]
    part = np.repeat([TRAIN, TEST], [len(labels) for _, labels in lots])
    return LabelledPictures("cifar100", CLASSES, tuple(SUPERCLASSES), sources, y, COARSE_OF_FINE[y], part, SIDE)


def _original(folder: Path) -> list[tuple[Any, NDArray[np.int64]]]:
    try:
        import_module("edgecl.rom.torch_compat")  # before torchvision: it declares what a CPU-only torch lacks
        original = import_module("torchvision.datasets").CIFAR100
    except ImportError as error:
        raise MissingDependency(
            f"the original files of CIFAR-100 are read by torchvision; there is no {error.name}: pip install 'edgecl[learn]'"
        ) from None
    try:
        parts = [original(str(folder), train=train, download=False) for train in (True, False)]
    except RuntimeError:
        raise DataError(
            f"{printable(folder / _ORIGINAL)}: a file is missing or differs from the published digest; unpack it again"
        ) from None
    return [(part.data, np.asarray(part.targets, np.int64)) for part in parts]


def _packed(path: Path) -> tuple[list[bytes], NDArray[np.int64]]:
    arrays = read_arrays(path)
    where = printable(path)
    if lacking := {"png", "offset", "fine"} - set(arrays):
        raise DataError(f"{where}: lacks {', '.join(sorted(lacking))}; it is no part of CIFAR-100")
    png, offset, fine = (arrays[name] for name in ("png", "offset", "fine"))
    if png.ndim != 1 or png.dtype != np.uint8 or offset.ndim != 1 or offset.dtype.kind != "i" or fine.dtype.kind not in "iu":
        raise DataError(f"{where}: png, offset and fine are not of the types that a part of CIFAR-100 has")
    ordered = len(offset) > 1 and offset[0] == 0 and offset[-1] == len(png) and (np.diff(offset) > 0).all()
    if not ordered or fine.shape != (len(offset) - 1,):
        raise DataError(f"{where}: offset does not divide {len(png)} bytes of png into one file for each of {fine.size} labels")
    if int(fine.min()) < 0 or int(fine.max()) >= len(CLASSES):
        raise DataError(f"{where}: fine goes from {fine.min()} to {fine.max()}; CIFAR-100 has the labels 0 to 99")
    ends = offset.tolist()
    return [png[a:b].tobytes() for a, b in pairwise(ends)], fine.astype(np.int64)
