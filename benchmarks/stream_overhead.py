"""What the runner costs beside its learner: `run` against a bare loop over observe and predict of the same learner.

    python benchmarks/stream_overhead.py [--samples 20000] [--width 1280] [--classes 100] [--rounds 7]

The learner is about the cheapest there is at batch 1, a running mean a class: one that does more hides the runner's share
better. Both do the same calls in the same order and count right answers; they take turns, and the best of the rounds of each,
in seconds of the processor, is compared. Beside it the same at a width of 2, where a step is little more than the call, and
with a look at every 100 samples.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from edgecl.learners import making
from edgecl.learners.base import Learner
from edgecl.learners.running import ROWS, run
from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.streams.scenarios.making import make

LEARNER, EXPERIENCES, TARGET = "ncm", 10, 0.02


def data(samples: int, width: int, classes: int) -> Dataset:
    """Random points; nothing is to be learned, only counted."""
    rng = np.random.default_rng(0)

    def part(n: int) -> Samples:
        return Samples.of(rng.normal(size=(n, width)).astype(np.float32), np.arange(n) % classes)

    names = tuple(map(str, range(classes)))
    return Dataset("random", names, ("one",), part(samples), part(0), part(samples // 5))


def bare(learner: Learner, stream: Stream, every: int | None) -> None:
    """The runner's calls of the learner, right answers counted, and nothing else: no matrix, no clock, no memory."""

    def ask(some: Stream) -> None:
        for e in some:
            for at in range(0, len(e.test), ROWS):
                int((learner.predict(e.test.x[at : at + ROWS]).argmax(1) == e.test.y[at : at + ROWS]).sum())

    ask(stream)
    for i, e in enumerate(stream):
        learner.begin_task(None)
        x, y = e.train.x, e.train.y
        for at in range(len(y)):
            learner.observe(x[at : at + 1], y[at : at + 1])
            if every and (at + 1) % every == 0 and at + 1 < len(y):
                ask(stream[: i + 1])
        learner.end_task()
        ask(stream)


def best(rounds: int, *operations: Callable[[], object]) -> list[float]:
    """Seconds of the processor in the quickest round of each; they take turns, so that a slow minute meets all."""
    taken = [[float("inf")] for _ in operations]
    for _ in range(rounds):
        for seconds, operation in zip(taken, operations, strict=True):
            began = time.process_time()
            operation()
            seconds.append(time.process_time() - began)
    return [min(seconds) for seconds in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    a = parser.parse_args()
    config = making.config(LEARNER, {})
    print(f"{LEARNER}, batch 1, {a.samples} samples, {a.classes} classes; target: at most {TARGET:.0%}")
    for width, every in ((a.width, None), (2, None), (a.width, 100)):
        stream = make("class", data(a.samples, width, a.classes), classes_per_task=a.classes // EXPERIENCES)

        def new(stream: Stream = stream) -> Learner:
            return making.make(LEARNER, stream.shape, len(stream.classes), 0, config)

        loop, runner = best(
            a.rounds, lambda s=stream, e=every: bare(new(), s, e), lambda s=stream, e=every: run(new(), s, every=e)
        )
        looks = f", a look every {every}" if every else ""
        print(f"width {width:4}{looks}: loop {loop:.3f} s, run() {runner:.3f} s, overhead {runner / loop - 1:+.2%}")


if __name__ == "__main__":
    main()
