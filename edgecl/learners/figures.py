"""The figures of a run, by name: what tables, plots and the record show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgecl.learners.running import Result
from edgecl.metrics import continual


@dataclass(frozen=True)
class Figure:
    """One column. short: its heading.   meaning: for people.   better: 1 where more is better, -1 where less is."""

    short: str
    meaning: str
    better: int


FIGURES: Mapping[str, Figure] = {
    "accuracy": Figure("accuracy", "mean accuracy over the experiences at the end, each counting alike (GEM, 2017)", 1),
    "forgetting": Figure("forgets", "mean loss from an experience's best earlier accuracy (Riemannian walk, 2018)", -1),
    "backward": Figure("backward", "mean change from just after learning an experience to the end (GEM, 2017)", 1),
    "forward": Figure("forward", "mean gain over the untrained learner just before an experience (GEM, 2017)", 1),
    "incremental": Figure("incr.", "mean over the stream of the accuracy on all so far, by samples (iCaRL, 2017)", 1),
    "area": Figure("area", "mean height of the learning curve over the samples (A-GEM, 2019)", 1),
    "last": Figure("last", "accuracy at the end over all test samples, large experiences counting more", 1),
    "anytime": Figure("anytime", "mean accuracy over the moments of looking (Caccia et al., 2022)", 1),
    "top5": Figure("top 5", "as last, with the class among the five best", 1),
    "bytes": Figure("bytes", "held at the end, to answer and to go on learning", -1),
    "peak_memory": Figure("peak", "bytes that the process grew by at most, learning and judging", -1),
    "seconds": Figure("learn s", "seconds of learning; judging not counted", -1),
    "samples_per_second": Figure("per s", "samples learned in a second", 1),
}


def figures(result: Result) -> dict[str, float]:
    """Every figure of FIGURES; top5 only where there are classes enough."""
    r, counts, curve = result.accuracy, result.test_counts, np.array(result.curve)
    seconds = result.seconds["learning"]
    found = {
        "accuracy": continual.average_accuracy(r),
        "forgetting": continual.average_forgetting(r),
        "backward": continual.backward_transfer(r),
        "forward": continual.forward_transfer(r, result.untrained),
        "incremental": continual.average_incremental_accuracy(r, counts),
        "area": continual.learning_curve_area(curve),
        "last": continual.last_accuracy(r, counts),
        "anytime": continual.anytime_accuracy(curve),
        "top5": float(np.average(result.top5, weights=counts)),
        "bytes": float(result.bytes_held[-1]),
        "peak_memory": float(result.peak_memory),
        "seconds": seconds,
        "samples_per_second": result.samples / seconds if seconds else 0.0,
    }
    return {name: value for name, value in found.items() if not np.isnan(value)}
