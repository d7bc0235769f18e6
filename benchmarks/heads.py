"""Head methods side by side: learn every TASK/train by each, test every TASK/test, task given and not given.

    python benchmarks/heads.py TASKS [--methods linear,bb,clr] [--finetune aerial,cars] [-o FILE]

`auto` is judged without learning again: what it tries, and what it keeps, is a function of the others' held-out pictures. The
mapper is the default one; it is the same for every method, because it reads plain features.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from edgecl import learning, registry
from edgecl.bench.conditions import conditions
from edgecl.config import home
from edgecl.device import EdgeDevice
from edgecl.heads import auto
from edgecl.heads.base import Session
from edgecl.learners.finetune import FineTuned
from edgecl.pictures.decode import decode
from edgecl.pictures.reading import read_features
from edgecl.streams.folders import find_tasks
from edgecl.types import Task


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--methods", default="linear,bb,clr")
    parser.add_argument("--only", default="", help="tasks to learn, by comma; default: all")
    parser.add_argument("--finetune", default="", help="tasks to fine-tune a whole network for as well, by comma")
    parser.add_argument("--rate", type=float, default=None, help="of the fine-tuning")
    parser.add_argument("--rom", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    methods, tuned = options.methods.split(","), [t for t in options.finetune.split(",") if t]
    tasks = [t for t in find_tasks(options.tasks) if not options.only or t.name in options.only.split(",")]
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    anchors, tests = {}, {}
    with tempfile.TemporaryDirectory() as place, EdgeDevice(place, rom=options.rom, cache=home() / "cache", say=say) as device:
        rom = device.rom
        for one in tasks:
            with closing(device.feature_cache()) as cache:
                train, test = (read_features(rom, pictures, cache) for pictures in (one.train, one.test))
            train, _ = train.without_repetitions(np.asarray(one.train_labels))
            y, y_test = np.asarray(one.train_labels)[train.kept], np.asarray(one.test_labels)[test.kept]
            pixels = [decode(one.test[i], rom.preprocess) for i in test.kept]
            task = Task(one.name, one.classes, train.features, y, tuple(one.train[i] for i in train.kept))
            learned, rights, own = {}, {}, rows.setdefault(one.name, {})
            for method in methods:
                config = learning.settings(method, seed=options.seed, false_reject=0.02)
                began = time.perf_counter()
                bundle, learned[method], _ = learning.fit(task, rom, method, config, session=Session(say=say))
                seconds = time.perf_counter() - began
                scores = bundle.head.answer(rom, pixels, test.features)
                rights[method] = scores.argmax(1) == y_test
                own[method] = {
                    "oracle": float(rights[method].mean()),
                    "validation": float(learned[method].report["validation_accuracy"]),
                    "seconds": round(seconds, 1),
                    "bytes": len(bundle.to_bytes()),
                    "head_bytes": bundle.head.nbytes,
                }
                anchors[one.name] = bundle.anchors["mahalanobis"]
            if "linear" in learned and len(learned) > 1:
                tried = {"linear": learned["linear"]}
                for method in [m for m in auto.Config().candidates() if m in learned]:
                    tried[method] = learned[method]
                    if auto.choose(tried, y, options.seed).gain >= auto.CONVINCING:
                        break
                choice = auto.choose(tried, y, options.seed)
                rights["auto"] = rights[choice.winner]
                own["auto"] = {
                    **own[choice.winner],
                    "seconds": round(sum(own[m]["seconds"] for m in tried), 1),
                    "chose": choice.winner,
                    "gains": {m: r["expected_gain"] for m, r in choice.rows.items()},
                }
            if one.name in tuned:
                began = time.perf_counter()
                network = FineTuned(task, rom, options.seed, **({"rate": options.rate} if options.rate else {}))
                seconds = time.perf_counter() - began
                rights["finetune"] = network.scores(test.features, network.features(pixels)).argmax(1) == y_test
                own["finetune"] = {
                    "oracle": float(rights["finetune"].mean()),
                    "seconds": round(seconds, 1),
                    "bytes": network.nbytes,
                }
            tests[one.name] = test.features, rights
            say(f"{one.name}: " + ", ".join(f"{m} {r['oracle']:.3f} ({r['seconds']:.0f} s)" for m, r in own.items()))
        mapper = registry.load("mapper", registry.MAPPERS, "mahalanobis")(rom.width)
        for name, anchor in anchors.items():
            mapper.add(name, anchor)
        for name, (x, rights) in tests.items():
            found = np.array(mapper.tasks)[mapper.assign(x).task] == name
            for method, right in rights.items():
                rows[name][method]["joint"] = float((found & right).mean())
        result = {
            "conditions": conditions(rom.runtime, rom.provider, 0) | {"rom_id": rom.rom_id},
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "tasks": rows,
        }
    columns = list(dict.fromkeys(m for own in rows.values() for m in own))
    print(f"{'':16s}" + "".join(f"{m:>18s}" for m in columns))
    for name, own in rows.items():
        print(f"{name:16s}" + "".join(f"{own[m]['oracle']:>18.3f}" if m in own else f"{'':>18s}" for m in columns))
    for figure in ("oracle", "joint", "seconds", "bytes"):
        line = [np.mean([own[m][figure] for own in rows.values() if m in own]) for m in columns]
        print(f"mean {figure:11s}" + "".join(f"{v:>18.4f}" if v < 2 else f"{v:>18.1f}" for v in line))
    print(f"peak memory {result['peak_memory_mb']} MB")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
