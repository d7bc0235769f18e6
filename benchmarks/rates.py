"""What the operations of a device cost on this machine: the constants of firmware_sim/rates.py.

    python benchmarks/rates.py TASKS --rom ROM [--home FOLDER]

One thread, the best of some rounds: other programs only ever make it slower. --home: a folder on a real disk, or nothing is
read off about what the bank writes. Peak memory is that of this process, which learns one task after the other.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from edgecl import learning
from edgecl.device import EdgeDevice
from edgecl.pictures.decode import decode
from edgecl.rom.base import Rom
from edgecl.rom.opening import open_rom
from edgecl.sharing.trust import Peer
from edgecl.streams.folders import find_tasks
from edgecl.types import Task

ROUNDS = 5
SIZES = ((100, 5), (200, 10), (400, 10), (400, 40), (800, 10), (800, 40), (1600, 10))  # pictures, classes


def best(operation: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the quickest of `rounds`."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        operation()
        taken.append(time.perf_counter() - started)
    return min(taken)


def written() -> int:
    """Bytes that this process has sent to a disk (Linux)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synthetic(n: int, k: int, width: int) -> Task:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    features = np.maximum(rng.normal(size=(n, width)), 0) + rng.random((k, width))[labels] + 0.01
    return Task("synthetic", tuple(map(str, range(k))), features.astype(np.float32), labels, tuple(range(n)))


def network(rom: Rom) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, rom.image.preprocess.size, rom.image.preprocess.size, 3), np.uint8)
    rom.features(noise)
    print(f"network: {best(lambda: rom.features(noise)) / 32 * 1e3:.2f} ms a picture in 32", end=", ")
    print(f"{best(lambda: rom.features(noise[:1]), 30) * 1e3:.2f} ms alone")


def learn(rom: Rom, device: EdgeDevice, root: Path) -> None:
    for task in find_tasks(root):
        report = device.learn_pictures(task.name, task.train, task.train_labels, task.classes)
        parts = ", ".join(f"{name} {seconds:.3f}" for name, seconds in report.seconds.items())
        print(f"learn {task.name}: {report.pictures} pictures, {len(report.classes)} classes, {report.bytes} bytes; {parts} s")
    print(f"peak memory {peak_mb():.0f} MB after learning")
    for n, k in SIZES:
        task = synthetic(n, k, rom.width)
        parts = min((learning.fit(task, rom, "linear", learning.settings("linear"))[2] for _ in range(2)), key=str)
        print(f"fit {n} pictures, {k} classes: head {parts['head']:.3f}, anchors {parts['anchors']:.3f} s")
    bundle = device.bundle(next(iter(device.bank.current().values())))
    print(f"sign and pack: {best(lambda: device.trust.sign(bundle).to_bytes()) * 1e3:.2f} ms")


def answer(device: EdgeDevice, root: Path) -> None:
    paths = find_tasks(root)[0].train[:32]
    shape = device.rom.image.preprocess
    print(f"decode: {best(lambda: [decode(path, shape) for path in paths]) / 32 * 1e3:.2f} ms a picture")
    features = device.rom.features([decode(path, shape) for path in paths])
    device.answer_features(features)
    print(f"mapper and head: {best(lambda: device.answer_features(features[:1]), 30) * 1e3:.2f} ms a picture")


def take(rom: Rom, author: EdgeDevice, folder: Path) -> None:
    bundles = [author.export(task) for task in author.tasks]
    for name, runs in (("one by one", [[data] for data in bundles]), ("at once", [bundles])):
        with closing(EdgeDevice(folder / name, rom=rom)) as device:
            device.trust.trust(Peer("author", author.trust.signer.key))
            before, mapped, started = written(), 0.0, time.perf_counter()
            for run in runs:
                device.import_bundles(run)
                at = time.perf_counter()
                _ = device.mapper
                mapped += time.perf_counter() - at
            took = time.perf_counter() - started - mapped
        ratio = (written() - before) / sum(map(len, bundles))
        head_ms, mapper_ms = (seconds / len(bundles) * 1e3 for seconds in (took, mapped))
        print(f"take {name}: {head_ms:.2f} ms a head and {mapper_ms:.2f} for the mapper", end="; ")
        print(f"{ratio:.2f} bytes to the disk for each of the bundles")
    started = time.perf_counter()
    with closing(EdgeDevice(folder / "at once", rom=rom)) as device:
        _ = device.mapper
    print(f"open a home with {len(bundles)} heads: {(time.perf_counter() - started) * 1e3:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--rom", type=Path, required=True)
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.home) as name:
        folder = Path(name)
        started = time.perf_counter()
        rom = open_rom(chosen.rom, "onnxruntime", "cpu", 1, folder / "sessions", 64)
        print(f"open the ROM: {time.perf_counter() - started:.2f} s")
        with closing(EdgeDevice(folder / "author", rom=rom, feature_cache_mb=0)) as device:
            network(rom)
            learn(rom, device, chosen.tasks)
            answer(device, chosen.tasks)
            take(rom, device, folder)
        rom.close()


if __name__ == "__main__":
    main()
