"""The competitors of the memory head on MODES, as the released code was measured: 25 tanh units, Adam .001, batch 1."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")

from edgecl import registry
from edgecl.learners.running import run
from edgecl.metrics.continual import average_accuracy
from edgecl.streams.datasets import modes
from edgecl.streams.scenarios.cdi import cdi

MLP = {"net": "mlp", "hidden": 25, "space": "plain"}
SEEDS = (1234, 123456, 12346578)


def accuracies(name: str, seeds: tuple[int, ...] = SEEDS, **options: object) -> np.ndarray:
    stream, method = cdi(modes.load()), registry.load("learner", registry.LEARNERS, name)
    config = sys.modules[method.__module__].Config(**MLP, **options)
    return np.array([average_accuracy(run(method((2,), 4, seed, config), stream).accuracy) for seed in seeds])


def test_fine_tuning_forgets() -> None:
    found = accuracies("finetune")
    assert abs(found.mean() - 0.316) < 0.04 and found.max() < 0.4


def test_balanced_memory_keeps_half() -> None:
    assert np.allclose(accuracies("gdumb", SEEDS[:1], buffer=100, batch=4, epochs=10), 0.49, atol=0.015)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("er", {"buffer": 8, "replay": 1, "counted_before": True}, [0.25, 0.27, 0.29]),
        ("er", {"buffer": 100, "replay": 4, "counted_before": True}, [0.25, 0.34, 0.37]),
        ("er_random", {"buffer": 8, "replay": 1}, [0.34, 0.36, 0.32]),
        ("agem", {"buffer": 100, "replay": 4, "counted_before": True}, [0.25, 0.26, 0.25]),
        ("ensemble", {"members": 5}, [0.35, 0.34, 0.34]),
    ],
)
def test_competitors(name: str, options: dict, published: list[float]) -> None:
    """Their draws are others, so means agree and single seeds need not."""
    assert abs(accuracies(name, **options).mean() - np.mean(published)) < max(0.02, np.std(published, ddof=1))


@pytest.mark.slow
def test_a_real_pool_makes_mir_better_than_er() -> None:
    options = {"buffer": 100, "replay": 4}
    assert accuracies("mir", **options, candidates=50).min() > accuracies("er", **options).max() + 0.1
