"""The default Mahalanobis mapper: its linear form, its covariance, and the algebra it is computed with."""

from __future__ import annotations

import numpy as np
import pytest

from edgecl.checks import synthetic
from edgecl.mapping.mahalanobis import SHRINK, Mahalanobis, _whiten, solver
from edgecl.space import unit_sqrt, unpack

WIDTH = 40


@pytest.mark.parametrize("rank", [0, 1, 12, 39, 40, 90])
def test_solve_equals_the_direct_inverse(rank: int) -> None:
    """Woodbury's form below full rank, the plain one above."""
    rng = np.random.default_rng(rank)
    roots, x = rng.normal(size=(rank, WIDTH)).astype(np.float32), rng.normal(size=(7, WIDTH)).astype(np.float32)
    expected = x.astype(np.float64) @ np.linalg.inv(roots.T.astype(np.float64) @ roots + 0.5 * np.eye(WIDTH))
    np.testing.assert_allclose(solver(roots, 0.5)(x), expected, rtol=2e-4, atol=2e-5)


def test_whitened_distance_is_mahalanobis_distance() -> None:
    rng = np.random.default_rng(0)
    roots, points = rng.normal(size=(9, WIDTH)).astype(np.float32), rng.normal(size=(6, WIDTH)).astype(np.float32)
    p = np.linalg.inv(roots.T.astype(np.float64) @ roots + 0.5 * np.eye(WIDTH))
    white = _whiten(roots, 0.5, points).astype(np.float64)
    gap = (points[:, None] - points).astype(np.float64)
    np.testing.assert_allclose(
        ((white[:, None] - white) ** 2).sum(2), np.einsum("abd,de,abe->ab", gap, p, gap), rtol=1e-3, atol=1e-3
    )


def anchors(count: int = 3, spread: float = 1.5) -> list[dict]:
    return [Mahalanobis.anchor(*synthetic.features(t, 3, 20, WIDTH, spread)) for t in range(count)]


def pooled(some: list[dict]) -> np.ndarray:
    """The covariance as the docstrings describe it: each task's directions and rest, averaged, drawn to the identity."""
    total = np.zeros((WIDTH, WIDTH))
    for a in some:
        v = unpack(a["directions"], a["directions_step"]).astype(np.float64)
        total += v.T @ np.diag(a["variances"].astype(np.float64) - a["rest"][0]) @ v + a["rest"][0] * np.eye(WIDTH)
    total /= len(some)
    return (1 - SHRINK) * total + SHRINK * np.trace(total) / WIDTH * np.eye(WIDTH)


def test_linear_form_gives_the_argmax_of_the_quadratic_form() -> None:
    built, known = Mahalanobis(WIDTH), anchors()
    for t, anchor in enumerate(known):
        built.add(f"t{t}", anchor)
    x = np.concatenate([synthetic.features(t, 3, 30, WIDTH, 1.5, seed=1)[0] for t in range(3)])
    z, p = unit_sqrt(x).astype(np.float64), np.linalg.inv(pooled(known))
    means = np.concatenate([unpack(a["means"], a["means_step"]) for a in known]).astype(np.float64)
    gap = z[:, None] - means
    quadratic = np.einsum("nmd,de,nme->nm", gap, p, gap)
    by_task = quadratic.reshape(len(z), 3, 3).min(2)
    ordered = np.sort(by_task, 1)
    clear = ordered[:, 1] - ordered[:, 0] > 1e-2 * ordered[:, 0]
    assert clear.mean() > 0.8 and np.array_equal(built.assign(x).task[clear], by_task.argmin(1)[clear])


def test_stored_covariance_is_close_to_the_one_of_the_pictures() -> None:
    """What the compact form (16 directions and a mean for the rest) keeps of a task's scatter."""
    x, y = synthetic.features(0, 3, 200, WIDTH)
    anchor = Mahalanobis.anchor(x, y)
    z = unit_sqrt(x).astype(np.float64)
    r = z - np.stack([z[y == c].mean(0) for c in range(3)])[y]
    full = r.T @ r / (len(z) - 3)
    v = unpack(anchor["directions"], anchor["directions_step"]).astype(np.float64)
    compact = v.T @ np.diag(anchor["variances"] - anchor["rest"][0]) @ v + anchor["rest"][0] * np.eye(WIDTH)
    assert np.trace(compact) == pytest.approx(np.trace(full), rel=0.02)
    assert np.linalg.norm(compact - full) < 0.1 * np.linalg.norm(full)


def test_covariance_pools_the_tasks_and_not_their_pictures() -> None:
    """A task counts once, however many pictures it has: scatter of a large one must not drown that of the others."""
    few, many = synthetic.features(0, 3, 10, WIDTH), synthetic.features(1, 3, 300, WIDTH)
    built = Mahalanobis(WIDTH)
    known = [Mahalanobis.anchor(*few), Mahalanobis.anchor(*many)]
    for t, anchor in enumerate(known):
        built.add(f"t{t}", anchor)
    built.assign(few[0])
    roots, rest = built._covariance(known)
    ours = roots.T.astype(np.float64) @ roots + rest * np.eye(WIDTH)
    np.testing.assert_allclose(ours, pooled(known), atol=2e-3 * np.abs(ours).max())
