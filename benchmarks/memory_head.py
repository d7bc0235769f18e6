"""Steps a second of the memory head, batch 1 on one core, against plain linear layers in the same run.

    python benchmarks/memory_head.py [--seconds 2] [-o FILE]

A step: scores of one input, loss, gradient, change of the weights; for the memory also its keys and counters. The floors do the
same for one weight matrix: in NumPy by the closed form, in torch by `nn.Linear` and SGD.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl.bench.conditions import conditions
from edgecl.learners.memory_head import Config, MemoryHead
from edgecl.learners.parts.memory_config import MemoryConfig
from edgecl.learners.parts.memory_numpy import Memory
from edgecl.rom.torch_compat import torch

SHAPES = {"points": (2, 4, 10), "features": (1280, 142, 20)}  # inputs, classes, units
ROUNDS = 5  # the best counts: whatever else the machine does only slows


class LinearNumpy:
    def __init__(self, n_in: int, k: int) -> None:
        self.w, self.lr = np.zeros((k, n_in + 1), np.float32), np.float32(0.1)

    def step(self, x: Any, y: int) -> None:
        x1 = np.append(x, np.float32(1))
        e = self.w @ x1
        e = np.exp(e - e.max())
        e /= e.sum()
        e[y] -= 1
        self.w -= np.outer(self.lr * e, x1)


class LinearTorch:
    def __init__(self, n_in: int, k: int) -> None:
        self.layer = torch.nn.Linear(n_in, k)
        self.optimiser = torch.optim.SGD(self.layer.parameters(), lr=0.1)

    def step(self, x: Any, y: int) -> None:
        self.optimiser.zero_grad()
        torch.nn.functional.cross_entropy(self.layer(torch.from_numpy(x)[None]), torch.tensor([y])).backward()
        self.optimiser.step()


def rate(step: Callable[[Any, int], Any], x: Any, y: list[int], seconds: float) -> float:
    """Steps a second: the best of a few rounds over the samples, as long as there is time."""
    best = 0.0
    for _ in range(ROUNDS):
        done, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds / ROUNDS:
            for one, label in zip(x, y, strict=True):
                step(one, label)
            done += len(y)
        best = max(best, done / spent)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    taken = conditions("numpy, torch", "cpu", threads=1)
    found: dict[str, Any] = {}
    for name, (n_in, k, m) in SHAPES.items():
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(50, n_in)).astype(np.float32), rng.integers(0, k, 50).tolist()
        # Unit keys and inputs, so that the similarity of wide inputs does not vanish.
        settings: dict[str, Any] = {"m": m, "delta": 2, "gamma": 25.0, "distance": "euclidean" if n_in < 32 else "cosine"}
        rows = {
            "memory, NumPy": Memory(MemoryConfig(**settings), n_in, k, lr=0.1).step,
            "linear, NumPy": LinearNumpy(n_in, k).step,
            "memory, torch": MemoryHead((n_in,), k, 0, Config(**settings, core="torch")).memory.step,
            "memory, torch, sparse Adam": MemoryHead((n_in,), k, 0, Config(**settings, optimiser="sparse_adam")).memory.step,
            "linear, torch": LinearTorch(n_in, k).step,
        }
        for row, step in rows.items():
            with threadpool_limits(1):
                found[f"{name}: {row}"] = steps = round(rate(step, x, y, options.seconds))
            print(f"{name} ({n_in} -> {k}, m={m})  {row:28} {steps:9,} steps/s  {1e6 / steps:8.1f} us", flush=True)
    if options.output:
        record = {"conditions": taken, "steps_per_second": found}
        options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
