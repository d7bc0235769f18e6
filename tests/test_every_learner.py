"""Each registered learner x each check that fits its kind; a new one is covered by its name alone."""

from __future__ import annotations

import sys

import pytest

from edgecl import registry
from edgecl.checks import learners
from edgecl.learners.base import Learner

SMALL = {  # of what would otherwise take long
    "joint": {"iterations": 40},
    "gdumb": {"buffer": 80, "epochs": 8},
    "ranpac": {"projections": 120, "held_out": 50},
    **{name: {"scale": 0.03} for name in ("packnet", "piggyback", "independent")},
    **{name: {"scale": 0.03, "levels": (0.5,), "least_train_accuracy": 0.0, "goal": "none"} for name in ("cpg", "pae")},
    **{name: {"buffer": 50} for name in ("er", "er_random", "mir", "agem")},
}
UNBOUNDED = ("joint", "cpg", "packnet", "piggyback", "pae", "independent")  # keeps the whole stream; a head a task
BLIND = ("ncm", "slda")


def ids(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in registry.LEARNERS for check in learners.CHECKS]
    + [(name, check) for name in registry.LEARNERS if name not in UNBOUNDED for check in learners.BOUNDED]
    + [(name, check) for name in BLIND for check in learners.BLIND],
    ids=ids,
)
def test_learner(name: str, check: learners.Check) -> None:
    pytest.importorskip("torch", reason="learners with a network need PyTorch: pip install 'edgecl[learn]'")
    method = registry.load("learner", registry.LEARNERS, name)
    config = sys.modules[method.__module__].Config(**SMALL.get(name, {}))

    def make(shape: tuple[int, ...], k: int, seed: int) -> Learner:
        return method(shape, k, seed, config)

    check(make)


def test_every_check_is_listed() -> None:
    listed = learners.CHECKS + learners.BOUNDED + learners.BLIND
    assert {name for name in vars(learners) if name.startswith("check_")} == {check.__name__ for check in listed}
