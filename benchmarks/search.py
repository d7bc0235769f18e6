"""How often the mapper's two-stage search agrees with the exact one, on real pictures among many tasks.

    python benchmarks/search.py TASKS --known 1000 [--mapper mahalanobis|gmmc]

TASKS is a folder of tasks, as for `edgecl evaluate`. Their anchors are real; further ones are made from them by shifting all
means of a task together and each a little, until `--known` tasks are known. The queries are the real test pictures, which lie
among many shifted twins of their own task: harder than tasks drawn at random.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgecl import EdgeDevice, registry
from edgecl.mapping import index as mapping_index
from edgecl.mapping.local import LocalMapper
from edgecl.pictures.reading import read_features
from edgecl.streams.folders import find_tasks

TOGETHER, EACH = 12, 6  # steps of the 8-bit means by which a made task's means are shifted, standard deviations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--known", type=int, default=1000)
    parser.add_argument("--mapper", default="mahalanobis")
    options = parser.parse_args()
    kind = registry.load("mapper", registry.MAPPERS, options.mapper)
    anchors, queries = [], []
    with EdgeDevice(say=print) as device:
        cache = device.feature_cache()
        for task in find_tasks(options.tasks):
            train = read_features(device.rom, task.train, cache)
            anchors.append(kind.anchor(train.features, np.asarray(task.train_labels)[train.kept]))
            queries.append(read_features(device.rom, task.test, cache).features)
        width = device.rom.width
    features = np.concatenate(queries)
    quick = build(kind(width), anchors, options.known)
    started = time.perf_counter()
    quick.assign(features[:1])
    print(f"{options.mapper}, {options.known} tasks, {quick.search}, built in {time.perf_counter() - started:.1f} s")
    seconds = []
    for row in features[::5]:
        started = time.perf_counter()
        quick.assign(row[None])
        seconds.append(time.perf_counter() - started)
    found = quick.assign(features).task
    mapping_index.EXACT = 10**9  # from here on, every search is exact
    exact = build(kind(width), anchors, options.known).assign(features).task
    agree = (found == exact).mean()
    print(f"p50 {np.median(seconds) * 1e3:.2f} ms a query; agrees with the exact search on {agree:.2%} of {len(features)}")


def build(mapper: LocalMapper, real: list[dict[str, Any]], known: int) -> LocalMapper:
    rng = np.random.default_rng(0)
    for i in range(known):
        anchor = dict(real[i % len(real)])
        if i >= len(real):
            means = anchor["means"]
            moved = means + rng.normal(0, TOGETHER, (1, means.shape[1])) + rng.normal(0, EACH, means.shape)
            anchor["means"] = np.clip(np.rint(moved), -127, 127).astype(np.int8)
        mapper.add(f"task{i:06}", anchor)
    return mapper


if __name__ == "__main__":
    main()
