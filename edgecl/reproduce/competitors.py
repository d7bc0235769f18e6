"""The competitors in the released code on MODES CDI: a network of 25 tanh units, Adam .001, not tuned.

Buffer and replay as buffer/replay. What is claimed are the three seeds of the released code; ours must come within one standard
deviation of their mean, at least .02: with so few, and all near chance, less means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from edgecl.reproduce.base import Cell, Row, measured
from edgecl.reproduce.memory_head import MLP, SOURCE

_LEAST = 0.02


def _cell(name: str, learner: str, options: Mapping[str, Any], *seeds: float) -> Cell:
    claim = measured(mean(seeds), max(stdev(seeds), _LEAST), SOURCE)
    return Cell(name, learner, {**MLP, **options}, "modes", "cdi", claim)


def _memory(buffer: int, replay: int) -> dict[str, Any]:
    return {"buffer": buffer, "replay": replay, "counted_before": True}


ROWS = (
    Row(
        "competitors/modes-cdi",
        "Replay and ensembles with a network of 25 tanh units on MODES CDI",
        (
            _cell("ER, reservoir 8/1", "er", _memory(8, 1), 0.25, 0.27, 0.29),
            _cell("ER, reservoir 100/4", "er", _memory(100, 4), 0.25, 0.34, 0.37),
            _cell("ER, random 8/1", "er_random", {"buffer": 8, "replay": 1}, 0.34, 0.36, 0.32),
            _cell("MIR as released 8/1", "mir", {**_memory(8, 1), "literal": True}, 0.25, 0.27, 0.29),
            _cell("MIR as released 100/4", "mir", {**_memory(100, 4), "literal": True}, 0.25, 0.34, 0.37),
            _cell("A-GEM 100/4", "agem", _memory(100, 4), 0.25, 0.26, 0.25),
            _cell("GDumb 8, 10 epochs, batch 1", "gdumb", {"buffer": 8, "epochs": 10, "batch": 1}, 0.27, 0.25, 0.25),
            _cell("GDumb 100, 10 epochs, batch 4", "gdumb", {"buffer": 100, "epochs": 10, "batch": 4}, 0.49, 0.49, 0.50),
            _cell("ensemble of 5", "ensemble", {"members": 5}, 0.35, 0.34, 0.34),
        ),
    ),
)
