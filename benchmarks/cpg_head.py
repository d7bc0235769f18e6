"""What a head with weights of its own costs when it answers: baked, and in the session that heads share, against the plain ROM.

    python benchmarks/cpg_head.py [--rom ROM] [--threads 1] [--rounds 100] [-o FILE]

The head is drawn, not learned: picks in the deepest seven tenths of the convolutions, a gain and a shift for each of their
channels, and a weight in each free place that is picked, on a compacted ROM. Calls take turns, so whatever else the machine
does meets all of them; a ratio is the median over rounds of the two times of a round, given for the clock on the wall and for
the processor's own time, which says more where other work waits for the same cores. Afterwards the plain ROM is asked again:
its answers are compared bit for bit with those of before the head came.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgecl.bench.conditions import conditions
from edgecl.config import home, load
from edgecl.heads.parts.recipe import choose
from edgecl.rom.baking import bake
from edgecl.rom.image import GRAPH, RomImage
from edgecl.rom.opening import open_rom
from edgecl.rom.preprocess import normalise
from edgecl.rom.sockets import Plugs

BATCHES = (1, 8)


def drawn(image: RomImage, seed: int) -> Plugs:
    """A head as CPG leaves one: one weight in twenty is not used."""
    rng, some = np.random.default_rng(seed), choose(image.sockets, "deep")
    used = {s.name: rng.random(image.free[s.name].shape) < 0.95 for s in some}
    own = {name: rng.normal(0, 0.01, int((image.free[name] & bits).sum())).astype(np.float32) for name, bits in used.items()}
    small = [{s.name: rng.normal(0, 0.05, s.channels).astype(np.float32) for s in some} for _ in range(2)]
    return Plugs(shift=small[0], gain=small[1], used=used, own={name: v for name, v in own.items() if v.size})


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, (rounds, 2): by the wall, of the processor. Two more rounds before do not count."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name in list(calls)[:: 1 if number % 2 else -1]:  # none always follows the same one
            began = time.perf_counter(), time.process_time()
            calls[name]()
            seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {name: np.array(values[2:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rom", type=Path, help="default: the home's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with open_rom(options.rom or Path(load(home()).rom), threads=options.threads) as rom:
        plugs, size = drawn(rom.image, 0), rom.preprocess.size
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        plain, baked = (
            ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
            for graph in (rom.image.read(GRAPH), bake(rom.image, plugs))
        )
        taken = conditions(rom.runtime, rom.provider, options.threads) | {"rom_id": rom.rom_id}
        for n in BATCHES:
            pixels = np.random.default_rng(n).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
            feeds = {plain.get_inputs()[0].name: normalise(pixels, rom.preprocess)}
            before, with_head = rom.features(pixels), rom.features(pixels, plugs)
            if not np.array_equal(before, rom.features(pixels)):
                raise SystemExit("the plain ROM answers otherwise once a head is installed")
            if not np.array_equal(with_head, baked.run(None, feeds)[0]):
                raise SystemExit("the shared session and the baked one differ")
            calls = {
                "plain session": lambda feeds=feeds: plain.run(None, feeds),
                "baked session": lambda feeds=feeds: baked.run(None, feeds),
                "plain ROM": lambda pixels=pixels: rom.features(pixels),
                "ROM with the head": lambda pixels=pixels: rom.features(pixels, plugs),
            }
            seconds = timed(calls, max(10, options.rounds // n))
            pairs = {"baked": ("baked session", "plain session"), "shared": ("ROM with the head", "plain ROM")}
            ratios = {k: np.median(seconds[one] / seconds[other], axis=0).tolist() for k, (one, other) in pairs.items()}
            ms = {name: (1e3 * np.median(values, axis=0)).tolist() for name, values in seconds.items()}
            found[str(n)] = {"ms": ms, "ratio": ratios}
            print(f"batch {n}: " + ", ".join(f"{name} {wall:.2f} ms ({cpu:.2f})" for name, (wall, cpu) in ms.items()))
            for name, (wall, cpu) in ratios.items():
                print(f"  {name} {wall:.3f} x the plain one by the wall, {cpu:.3f} x in processor time", flush=True)
    print("old answers are bit-identical with the head installed; shared and baked answers are the same bits")
    if options.output:
        record = {"conditions": taken, "rounds": options.rounds, "batches": found}
        options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
