"""The gradient through the pick."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="learning picks needs PyTorch: pip install 'edgecl[learn]'")

from edgecl.heads.parts.picking import keep_old, keep_own, pick  # noqa: E402


@pytest.mark.parametrize(
    ("score", "ternary", "result", "to_weight"), [(0.01, False, 2.0, 3.0), (0.005, False, 0.0, 0.0), (-0.1, True, -2.0, -3.0)]
)
def test_the_threshold_counts_as_the_identity(score: float, ternary: bool, result: float, to_weight: float) -> None:
    """W = 2, L = 3 * Weff: dL/dM is 6 whether or not the weight is picked."""
    weight, scores = torch.tensor([2.0], requires_grad=True), torch.tensor([score], requires_grad=True)
    found = pick(weight, scores, ternary=ternary)
    (3 * found).sum().backward()
    assert (found.item(), weight.grad.item(), scores.grad.item()) == (result, to_weight, 6.0)


def test_others_weights_get_no_gradient_and_no_decay() -> None:
    weight, grad = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 1.0, 1.0])
    keep_own(grad, weight, torch.tensor([True, False, True]), decay=0.5)
    assert grad.tolist() == [1.5, 0.0, 3.0]
    keep_old(grad, torch.tensor([False, True, True]))
    assert grad.tolist() == [0.0, 0.0, 3.0]
