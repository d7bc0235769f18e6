"""Is a ROM of a lower precision good enough? Asked twice: of its features, and of heads and a mapper learned on them.

Accuracy is measured on labelled pictures where a folder of tasks is given. Without one, tasks are made of what comes with
scikit-learn: its digits, and telling the regions of its two photographs apart. That is a proxy, and is called one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl import registry
from edgecl.errors import DataError
from edgecl.pictures.folders import scan
from edgecl.pictures.reading import read_features
from edgecl.rom.base import Rom
from edgecl.rom.parity import compare
from edgecl.types import Floats, Ints, Pixels, Task, task_name

SHARE = 12  # of a proxy's pictures: per class, to learn from; as many to test with


@dataclass(frozen=True)
class Bounds:
    """What is asked of a precision. cosines: of its features with those of FP32, picture by picture.

    loss: of the joint accuracy, 0..1; one standard error of the paired difference is allowed on top, since with few test
    pictures a single one weighs more than the bound.   proxy_loss: the same on the stand-ins, which are harder and few.
    """

    mean_cosine: float
    cosine: float
    loss: float
    proxy_loss: float


BOUNDS = {"fp16": Bounds(0.9999, 0.999, 0.002, 0.01), "int8": Bounds(0.97, 0.85, 0.010, 0.03)}


@dataclass(frozen=True)
class Labelled:
    """A task with test pictures; pictures are paths or uint8 arrays."""

    name: str
    classes: tuple[str, ...]
    train: Sequence[Any]
    train_labels: Sequence[int]
    test: Sequence[Any]
    test_labels: Sequence[int]


@dataclass(frozen=True)
class Accuracy:
    """Test accuracies, mean over tasks, and for each test picture of each task whether task and class were found."""

    oracle: float
    mapper: float
    joint: float
    right: tuple[Floats, ...]

    def to_dict(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 4) for name in ("oracle", "mapper", "joint")}


@dataclass(frozen=True)
class Verdict:
    """Figures of the lower precision against FP32. proxy: the labelled pictures are stand-ins of ours."""

    precision: str
    pictures: int
    max_abs_difference: float
    scale: float
    cosine: float
    mean_cosine: float
    tasks: str
    proxy: bool
    reference: Mapping[str, float]
    reduced: Mapping[str, float]
    loss: float
    error: float
    test_pictures: int

    def failures(self, bounds: Bounds | None = None) -> list[str]:
        """What is out of bounds, as phrases; empty when the gate holds."""
        b = bounds or BOUNDS[self.precision]
        found = []
        if not self.mean_cosine >= b.mean_cosine:
            found.append(f"mean cosine of the features {self.mean_cosine:.5f}, asked {b.mean_cosine}")
        if not self.cosine >= b.cosine:
            found.append(f"smallest cosine {self.cosine:.5f}, asked {b.cosine}")
        loss = b.proxy_loss if self.proxy else b.loss
        if not self.loss <= loss + self.error:
            found.append(
                f"joint accuracy{' (proxy)' if self.proxy else ''} falls by {100 * self.loss:.2f} points, allowed "
                f"{100 * loss:.1f} and the standard error {100 * self.error:.2f}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the manifest."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"features: mean cosine {self.mean_cosine:.5f}, smallest {self.cosine:.5f} over {self.pictures} pictures; joint "
            f"accuracy {self.reference['joint']:.4f} -> {self.reduced['joint']:.4f} ({0 - 100 * self.loss:+.2f} points, "
            f"standard error {100 * self.error:.2f}; oracle {self.reference['oracle']:.4f} -> {self.reduced['oracle']:.4f}) on "
            f"{self.test_pictures} test pictures of {self.tasks}"
            + ("; this is a PROXY, give labelled pictures with --gate" if self.proxy else "")
        )


def judge(
    precision: str, reference: Rom, reduced: Rom, pictures: Pixels, tasks: Sequence[Labelled], proxy: bool, before: Accuracy
) -> Verdict:
    """Compare two ROMs.

    pictures: (n, s, s, 3) uint8, for the features.   before: `accuracy(reference, tasks)`, which serves several calls.
    """
    a, b = reference.features(pictures), reduced.features(pictures)
    parity, after = compare(a, b), accuracy(reduced, tasks)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    changed = [x - y for x, y in zip(before.right, after.right, strict=True)]
    error = float(np.sqrt(sum((c**2).mean() / len(c) for c in changed))) / len(changed)
    return Verdict(
        precision=precision,
        pictures=len(pictures),
        max_abs_difference=parity.max_abs_difference,
        scale=parity.scale,
        cosine=parity.cosine,
        mean_cosine=float(((a * b).sum(1) / np.maximum(norms, 1e-30)).mean()),
        tasks="digits and regions of photographs" if proxy else f"{len(tasks)} tasks of the user",
        proxy=proxy,
        reference=before.to_dict(),
        reduced=after.to_dict(),
        loss=before.joint - after.joint,
        error=error,
        test_pictures=sum(len(c) for c in changed),
    )


def accuracy(rom: Rom, tasks: Sequence[Labelled], progress: Callable[[str, int, int], None] | None = None) -> Accuracy:
    """Learn a linear head and an anchor for every task on `rom`, then ask about every test picture without naming its task."""
    # By name: the lab knows the contracts of heads and mappers, not the modules.
    method = registry.load("head method", registry.HEADS, "linear")
    mapper = registry.load("mapper", registry.MAPPERS, registry.DEFAULT_MAPPERS[0])(rom.width)
    heads, tests = {}, {}
    for i, task in enumerate(tasks):
        x, y = _read(rom, task, task.train, task.train_labels)
        tests[task.name] = _read(rom, task, task.test, task.test_labels)
        with threadpool_limits(1, "blas"):
            heads[task.name] = method.learn(Task(task.name, task.classes, x, y), rom, method.Config()).head
            mapper.add(task.name, mapper.anchor(x, y))
        if progress:
            progress("learning on labelled pictures", i + 1, len(tasks))
    owns, founds, rights = [], [], []
    for name, (x, y) in tests.items():
        own = heads[name].scores(x).argmax(1) == y
        found = mapper.assign(x).task == mapper.tasks.index(name)
        owns.append(own.mean())
        founds.append(found.mean())
        rights.append((own & found).astype(np.float32))
    return Accuracy(float(np.mean(owns)), float(np.mean(founds)), float(np.mean([r.mean() for r in rights])), tuple(rights))


def _read(rom: Rom, task: Labelled, pictures: Sequence[Any], labels: Sequence[int]) -> tuple[Floats, Ints]:
    reading = read_features(rom, pictures)
    if not len(reading.kept):
        raise DataError(f"no picture of task '{task.name}' can be read; give other pictures with --gate")
    return reading.features, np.asarray(labels, np.int64)[reading.kept]


def labelled(folder: Path | None) -> tuple[list[Labelled], bool]:
    """The tasks in `folder` (TASK/train/CLASS/, TASK/test/CLASS/), or stand-ins without one; and whether they are stand-ins."""
    if folder is None:
        return [_digits(), _regions()], True
    found = []
    for place in [folder] if (folder / "train").is_dir() else sorted(path.parent for path in folder.glob("*/train")):
        train = scan(place, "train")
        test = scan(place, "test", train.classes)
        name = task_name(place.resolve().name)
        found.append(Labelled(name, train.classes, train.files, train.labels, test.files, test.labels))
    if not found:
        raise DataError(f"{folder} has no task to gate with; --gate takes a folder of tasks, each with train/ and test/ inside")
    return found, False


def _digits() -> Labelled:
    """Scikit-learn's handwritten digits, 8 x 8, enlarged."""
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = [np.flatnonzero(data.target == c)[: 2 * SHARE] for c in range(10)]

    def part(rows: slice) -> tuple[list[Pixels], list[int]]:
        picked = [int(i) for own in chosen for i in own[rows]]
        grey = [np.kron(np.pad(data.images[i] * 15.9, 2), np.ones((16, 16))).astype(np.uint8) for i in picked]
        return [np.repeat(g[:, :, None], 3, 2) for g in grey], [int(data.target[i]) for i in picked]

    return Labelled("digits", tuple("0123456789"), *part(slice(SHARE)), *part(slice(SHARE, None)))


def _regions() -> Labelled:
    """From which sixth of which photograph is this crop? Size, place and brightness vary."""
    from sklearn.datasets import load_sample_images

    photographs, rng = load_sample_images().images, np.random.default_rng(1)
    crops: dict[str, tuple[list[Pixels], list[int]]] = {"train": ([], []), "test": ([], [])}
    places = [(photo, row, column) for photo in range(len(photographs)) for row in range(2) for column in range(3)]
    for label, (photo, row, column) in enumerate(places):
        height, width = photographs[photo].shape[0] // 2, photographs[photo].shape[1] // 3
        region = photographs[photo][row * height : (row + 1) * height, column * width : (column + 1) * width]
        for i in range(2 * SHARE):
            side = int(min(height, width) * rng.uniform(0.4, 0.9))
            top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
            crop = np.clip(region[top : top + side, left : left + side] * rng.uniform(0.6, 1.3), 0, 255).astype(np.uint8)
            pictures, labels = crops["test" if i % 2 else "train"]
            pictures.append(crop)
            labels.append(label)
    return Labelled("regions", tuple(f"{p} {r} {c}" for p, r, c in places), *crops["train"], *crops["test"])
