"""The search: exact is exact; two-stage agrees with it on tasks as they come."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import pytest

from edgecl.checks import synthetic
from edgecl.mapping import gmmc, mahalanobis
from edgecl.mapping.base import Mapper
from edgecl.mapping.index import EXACT, Index
from edgecl.space import unit_sqrt

WIDTH, CLASSES = 64, 10


def rows(m: int, d: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(m, d)).astype(np.float32)
    return centres, -0.5 * (centres**2).sum(1), centres


def test_exact_search_is_the_argmax() -> None:
    r, bias, centres = rows(500)
    queries = np.random.default_rng(1).normal(size=(64, 16)).astype(np.float32)
    index = Index(r, bias, centres, lambda points: points)
    assert index.kind == "exact"
    assert np.array_equal(index.search(queries, queries), (queries @ r.T + bias).argmax(1))
    assert index.search(queries[:0], queries[:0]).shape == (0,)


def test_search_does_not_change_its_rows() -> None:
    """The bias is added in place to scores, not to what is kept."""
    r, bias, centres = rows(50)
    before = r.copy(), bias.copy()
    index = Index(r, bias, centres, lambda points: points)
    first = index.search(centres, centres)
    assert np.array_equal(first, index.search(centres, centres)) and np.array_equal(first, np.arange(50))
    assert np.array_equal(r, before[0]) and np.array_equal(bias, before[1])


def test_past_the_crossover_the_search_is_two_stage_and_finds_the_nearest() -> None:
    pytest.importorskip("faiss", reason="two-stage search needs FAISS: pip install 'edgecl[cpu]'")
    r, bias, centres = rows(EXACT + 1)
    index = Index(r, bias, centres, lambda points: points)
    assert index.kind == "two-stage"
    near = centres[::7] + 0.05 * np.random.default_rng(2).normal(size=centres[::7].shape).astype(np.float32)
    assert np.array_equal(index.search(near, near), np.arange(0, len(centres), 7))


@pytest.mark.parametrize("module", [mahalanobis, gmmc], ids=lambda module: module.__name__.rsplit(".")[-1])
def test_two_stage_agrees_with_exact_on_tasks_as_they_come(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """More classes than the crossover, by tiling a hundred real anchors into slightly different ones."""
    pytest.importorskip("faiss", reason="two-stage search needs FAISS: pip install 'edgecl[cpu]'")
    kind: type[Mapper] = module.Mahalanobis if module is mahalanobis else module.Gmmc
    tasks, spread = 100, 0.6
    anchors = [kind.anchor(*synthetic.features(t, CLASSES, 8, WIDTH, spread)) for t in range(tasks)]
    copies = EXACT // sum(len(a["means"]) for a in anchors) + 1
    rng, built = np.random.default_rng(0), [kind(WIDTH), kind(WIDTH)]
    for copy in range(copies):
        for t, anchor in enumerate(anchors):
            wobble = rng.integers(-12, 13, anchor["means"].shape) if copy else 0
            moved = {**anchor, "means": np.clip(anchor["means"] + wobble, -127, 127).astype(np.int8)}
            for one in built:
                one.add(f"task-{t}-{copy}", moved)
    x = np.concatenate([synthetic.features(t, CLASSES, 1, WIDTH, spread, seed=1)[0] for t in range(tasks)])
    quick = built[0].assign(x).task
    monkeypatch.setattr(module, "Index", functools.partial(Index, exact=10**9))
    exact = built[1].assign(x).task
    assert built[0].search.startswith("two-stage") and built[1].search.startswith("exact")
    assert (quick == exact).mean() >= 0.99
    assert len(np.unique(exact)) > tasks / 2, "the answers must be spread over the tasks for this to mean anything"


def test_two_stage_answers_are_repeatable() -> None:
    pytest.importorskip("faiss", reason="two-stage search needs FAISS: pip install 'edgecl[cpu]'")
    r, bias, centres = rows(600)
    queries = unit_sqrt(np.random.default_rng(1).normal(size=(50, 16)).astype(np.float32))
    first, second = (Index(r, bias, centres, lambda p: p, exact=10).search(queries, queries) for _ in range(2))
    assert np.array_equal(first, second)


def test_without_faiss_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from edgecl.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "faiss", None)  # what Python itself does for a module that cannot be imported
    r, bias, centres = rows(20)
    with pytest.raises(MissingDependency, match="edgecl\\[cpu\\]"):
        Index(r, bias, centres, lambda points: points, exact=10)
