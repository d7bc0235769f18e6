"""What teaching one picture costs beyond reading it and the ROM's pass over it, in the same run; and what a commit costs.

    python benchmarks/teach.py --rom DIR [--classes 2,20,142] [--pictures 300]

JPEGs made here, a label in turn. For each number of classes a task is taught until every class has a few pictures and a first
head is in force, so that each picture is answered before it is told; then each picture's whole time in `Teaching.observe` is
taken, and apart from it what of that went into opening and decoding the file and into the ROM. Commits are made apart.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.bench.pictures import made
from edgecl.device import EdgeDevice
from edgecl.teaching import session

_FIRST = 6  # pictures of each class before anything is measured


def now() -> NDArray[np.float64]:
    """Seconds of the wall clock, and of this thread at work: on a busy machine the second is what the work itself takes."""
    return np.array([time.perf_counter(), time.thread_time()])


class Timed:
    """A function that adds up the seconds it takes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, np.zeros(2)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        started = now()
        try:
            return self.function(*arguments, **named)
        finally:
            self.seconds = self.seconds + now() - started

    def taken(self) -> NDArray[np.float64]:
        """Seconds since the last time this was asked."""
        seconds, self.seconds = self.seconds, np.zeros(2)
        return seconds


def measure(device: EdgeDevice, k: int, files: list[Path]) -> str:
    """What a task of k classes takes, in words."""
    rng = np.random.default_rng(k)
    rom, decode, read = device.rom, Timed(session.decode), Timed(session.read)
    features = Timed(rom.features)
    around = rng.gamma(1.0, 0.3, (k, rom.width)).astype(np.float32)
    with device.teach(f"of {k}", every=None, seconds=None) as taught:
        for i in range(_FIRST * k):
            taught.observe_features(around[i % k] * rng.uniform(0.5, 1.5, rom.width).astype(np.float32), f"class {i % k}")
        taught.commit()
        session.decode, session.read, rom.features = decode, read, features  # type: ignore[method-assign,assignment]
        beyond, floor, commits = [], [], []
        for i, file in enumerate(files):
            for one in (decode, read, features):
                one.taken()
            started = now()
            taught.observe(file, f"class {i % k}")
            whole = now() - started
            floor.append(decode.taken() + read.taken() + features.taken())
            beyond.append(whole - floor[-1])
        session.decode, session.read, rom.features = decode.function, read.function, features.function  # type: ignore[method-assign]
        for _ in range(5):
            started = now()
            report = taught.commit(even_if_unchanged=True)
            commits.append(now() - started)
    assert report is not None
    (state,) = (p for p in (device.home / "teaching" / f"of {k}").glob("*.safetensors") if p.name != "waiting.safetensors")
    lines = [f"{k} classes: state {state.stat().st_size:,} bytes, bundle {report.bytes:,} bytes"]
    for clock, name in enumerate(("wall", "at work")):
        ms = 1e3 * np.array(beyond)[:, clock]
        p50, p99 = np.percentile(ms, (50, 99))
        rom_ms, commit_ms = (1e3 * np.median(np.array(what)[:, clock]) for what in (floor, commits))
        lines.append(
            f"  {name:8} reading and ROM p50 {rom_ms:.2f} ms; beyond them p50 {p50:.3f}, p99 {p99:.3f}, "
            f"most {ms.max():.2f} ms; a commit {commit_ms:.0f} ms"
        )
    return "\n".join(lines)


def main() -> None:
    """Print it for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rom", required=True)
    parser.add_argument("--classes", default="2,20,142")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, EdgeDevice(place, rom=given.rom, threads=given.threads) as device:
        files = []
        for i, data in enumerate(made(given.pictures)):
            files.append(Path(place) / f"{i}.jpg")
            files[-1].write_bytes(data)
        device.rom.features(np.zeros((1, *[device.rom.preprocess.size] * 2, 3), np.uint8))
        gc.collect()
        for k in given.classes.split(","):
            print(measure(device, int(k), files), flush=True)


if __name__ == "__main__":
    main()
