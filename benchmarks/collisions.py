"""How well the collision check foresees what an imported task takes, what merging two heads gives, and what a batch costs.

    python benchmarks/collisions.py TASKS [--rom ROM] [--cache FOLDER]

Each row of the first table is a task that comes to a device which knows all the others: the share of TEST pictures of a known
task that it takes (the default mapper, and GMMC), beside what the check says before: from the sketch, from the same features
without 8-bit rounding, from the anchor alone, and from the sketch asked plainly. Colliding tasks are made of real ones: the
second half of a task's classes, and the second half of its training pictures under another name. The second table merges the
heads of such halves of the pictures. The last line imports 100 signed synthetic heads at once, against parsing them, checking
their signatures and building one mapper.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl import learning, registry
from edgecl.bench.synthetic import World
from edgecl.collisions import Known, check, known
from edgecl.device import EdgeDevice
from edgecl.heads import linear
from edgecl.mapping import sketch
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.merging import merge
from edgecl.metrics.accuracy import softmax
from edgecl.metrics.calibration import expected_calibration_error
from edgecl.pictures.reading import read_features
from edgecl.rom.base import Rom
from edgecl.sharing.bundle import Bundle, from_bytes
from edgecl.sharing.signing import Signer
from edgecl.sharing.trust import Peer
from edgecl.sharing.trust_store import require_sound
from edgecl.streams.folders import find_tasks
from edgecl.types import Floats, Ints, Task

SHOWN = 0.02  # rows of tasks that take less, by test pictures and by every check, are only counted
BATCH = 100


@dataclass(frozen=True, eq=False)
class Real:
    """A real task: training and test pictures' features and labels."""

    name: str
    x: Floats
    y: Ints
    test_x: Floats
    test_y: Ints

    def part(self, name: str, train: np.ndarray, test: np.ndarray | slice = slice(None)) -> Real:
        """Some of its pictures, with labels from 0 without gaps."""
        _, y = np.unique(self.y[train], return_inverse=True)
        _, test_y = np.unique(self.test_y[test], return_inverse=True)
        return Real(name, self.x[train], y, self.test_x[test], test_y)

    def halves(self) -> tuple[Real, Real]:
        """Every second training picture of each class, and the others; the test pictures are the same."""
        turn = np.empty(len(self.y), np.int64)
        for c in np.unique(self.y):
            turn[self.y == c] = np.arange((self.y == c).sum())
        return self.part(self.name, turn % 2 == 0), self.part(f"{self.name}, other pictures", turn % 2 == 1)

    def split(self) -> tuple[Real, Real]:
        """Every second class, and the others."""
        return tuple(
            self.part(f"{self.name}{word}", self.y % 2 == rest, self.test_y % 2 == rest)
            for rest, word in ((0, ""), (1, ", other classes"))
        )  # type: ignore[return-value]

    @cache  # noqa: B019 - they live as long as the program
    def bundle(self, rom: Rom) -> Bundle:
        """What learning it gives."""
        classes = tuple(f"class {c}" for c in range(self.y.max() + 1))
        task = Task(self.name.replace(",", ""), classes, self.x, self.y)
        return learning.fit(task, rom, "linear", linear.Config())[0]


def taken(mapper: str, there: dict[str, Bundle], name: str, new: Bundle, features: dict[str, Floats]) -> dict[str, float]:
    """Known task -> share of its pictures that go to the new one, and went to it before."""
    kind, shares = registry.load("mapper", registry.MAPPERS, mapper), {}
    before, after = (kind(next(iter(features.values())).shape[1]) for _ in range(2))
    for task, bundle in there.items():
        before.add(task, bundle.anchor(mapper))
        after.add(task, bundle.anchor(mapper))
    after.add(name, new.anchor(mapper))
    for task, x in features.items():
        had = before.assign(x).task == before.tasks.index(task)
        shares[task] = float((had & (after.assign(x).task == after.tasks.index(name))).mean())
    return shares


class Table:
    """Rows of shares, as they come."""

    columns = ("test", "test, GMMC", "sketch", "float32", "anchor", "plain")

    def __init__(self, rom: Rom) -> None:
        self._rom = rom
        self.rows: list[list[float]] = []
        print(f"| comes | known | {' | '.join(self.columns)} |\n|---|---|{'---|' * len(self.columns)}")

    def add(self, known_tasks: list[Real], new: Real, only: str = "") -> None:
        """The rows of one task that comes."""
        width, there = self._rom.width, {t.name: t.bundle(self._rom) for t in known_tasks}
        coming = new.bundle(self._rom)
        tests = {t.name: t.test_x for t in known_tasks if only in ("", t.name)}
        kept = {t.name: t.x[sketch.chosen(t.y)] for t in known_tasks}
        counts = {t.name: np.bincount(t.y)[t.y[sketch.chosen(t.y)]].astype(np.float32) for t in known_tasks}
        ways = {
            "sketch": {t.name: known(there[t.name], sketch.draw(t.x, t.y), width) for t in known_tasks},
            "float32": {t: Known(there[t].anchor("mahalanobis"), sketch.Sketch(kept[t], counts[t]), None) for t in there},
            "anchor": {t: known(there[t], None, width) for t in there},
        }
        found = [taken(mapper, there, new.name, coming, tests) for mapper in ("mahalanobis", "gmmc")]
        found += [check(way, {new.name: known(coming, None, width)}, 1.0, width)[new.name] for way in ways.values()]
        found += [taken("mahalanobis", there, new.name, coming, {t: kept[t] for t in tests})]
        for task in there:
            row = [shares.get(task, 0.0) for shares in found]
            if only in ("", task):
                self.rows.append(row)
                if only or max(row) >= SHOWN:
                    print(f"| {new.name} | {task} | {' | '.join(f'{100 * share:.1f}' for share in row)} |", flush=True)


def merged(rom: Rom, tasks: list[Real]) -> None:
    """Of test pictures: accuracy, calibration error, confidence less accuracy, shares called unknown class and task."""
    rows = []
    for task in tasks:
        a, b = (half.bundle(rom) for half in task.halves())
        b = replace(b, task=a.task)
        row = []
        for bundle in (a, b, merge(a, b), task.bundle(rom)):
            scores = bundle.head.scores(task.test_x)
            p = softmax(scores)
            right = p.argmax(1) == task.test_y
            mapper = Mahalanobis(rom.width)
            mapper.add("own", bundle.anchor("mahalanobis"))
            row.append(
                [
                    right.mean(),
                    expected_calibration_error(p.max(1), right),
                    p.max(1).mean() - right.mean(),
                    1 - bundle.head.knows(scores).mean(),
                    1 - mapper.assign(task.test_x).known.mean(),
                ]
            )
        rows.append(row)
        print(f"| {task.name} | {' | '.join(f'{one[0]:.3f}' for one in row)} |", flush=True)
    for what, values in zip(
        ("mean", "calibration error", "confidence less accuracy", "unknown class", "unknown task"),
        np.mean(rows, 0).T,
        strict=True,
    ):
        print(f"| {what} | {' | '.join(f'{value:.3f}' for value in values)} |")


def batch(rom_folder: Path | None, turns: int = 3) -> None:
    """The quickest of a few turns, each into a fresh bank."""
    signer, best = Signer.fresh(), [np.inf, np.inf]
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as place, EdgeDevice(place, rom=rom_folder, threads=1) as device:
            device.trust.trust(Peer("other", signer.key))
            world, data = World(device.rom.width, registry.DEFAULT_MAPPERS), []
            for number in range(BATCH):
                bundle = replace(world.bundle(number, device.rom.rom_id), signer=signer.key, sequence=number + 1)
                data.append(replace(bundle, signature=signer.sign(bundle.unsigned_digest())).to_bytes())
            started = time.perf_counter()
            mapper = Mahalanobis(device.rom.width)
            for one in data:
                bundle = from_bytes(one)
                require_sound(bundle)
                mapper.add(bundle.task, bundle.anchor("mahalanobis"))
            _ = mapper.tasks
            parsed = time.perf_counter()
            results = device.import_bundles(data)
            best = [min(best[0], parsed - started), min(best[1], time.perf_counter() - parsed)]
            assert not any(one.error for one in results), results
    print(
        f"{BATCH} heads of {len(data[0]):,} bytes: {best[1]:.2f} s; parsed, verified, one mapper built: {best[0]:.2f} s; "
        f"ratio {best[1] / best[0]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--rom", type=Path)
    parser.add_argument("--cache", type=Path, help="folder for the features, so that the network runs once")
    options = parser.parse_args()
    threadpool_limits(1, "blas")
    with tempfile.TemporaryDirectory() as place, EdgeDevice(place, rom=options.rom, cache=options.cache) as device:
        rom, tasks = device.rom, []
        with closing(device.feature_cache()) as kept:
            for one in find_tasks(options.tasks):
                train, test = (read_features(rom, pictures, kept) for pictures in (one.train, one.test))
                y, test_y = np.asarray(one.train_labels)[train.kept], np.asarray(one.test_labels)[test.kept]
                tasks.append(Real(one.name, train.features, y, test.features, test_y))
        table = Table(rom)
        for make in (Real.split, Real.halves):
            for task in tasks:
                first, second = make(task)
                table.add([*(t for t in tasks if t is not task), first], second, only=task.name)
        for task in tasks:
            table.add([t for t in tasks if t is not task], task)
        rows = np.array(table.rows)
        off = np.abs(rows[:, 2:] - rows[:, :1])
        print(f"\n{len(rows)} pairs; mean distance from the test share, % of pictures, over those with one above 0:")
        print(
            ", ".join(f"{name} {100 * v:.1f}" for name, v in zip(table.columns[2:], off[rows[:, 0] > 0].mean(0), strict=True))
        )
        print("\n| task | first half | second half | merged | all pictures |\n|---|---|---|---|---|")
        merged(rom, tasks)
    batch(options.rom)


if __name__ == "__main__":
    main()
