"""Optimisers that leave rows without a gradient alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="these optimisers need torch: pip install 'edgecl[learn]'")

from edgecl.errors import ConfigError  # noqa: E402
from edgecl.learners.parts.memory_config import MemoryConfig  # noqa: E402
from edgecl.learners.parts.memory_linear import MemoryLinear  # noqa: E402
from edgecl.learners.parts.row_optim import RowAdam, RowSGD  # noqa: E402

KINDS = [
    (RowSGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.03}),
    (RowSGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (RowAdam, torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.03}),
]


def gradients(seed: int = 0, steps: int = 8) -> torch.Tensor:
    return torch.randn(steps, 2, 3, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("ours", "theirs", "options"), KINDS)
def test_a_row_moves_as_if_it_were_alone(ours: type, theirs: type, options: dict) -> None:
    """torch's optimiser on that row, given only the steps in which it has a gradient."""
    start = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    winners = torch.randint(0, 6, (8,), generator=torch.Generator().manual_seed(2))
    whole = torch.nn.Parameter(start.clone())
    optimiser = ours([whole], **options)
    alone = [torch.nn.Parameter(row.clone()) for row in start.view(6, 5)]
    each = [theirs([row], **options) for row in alone]
    for gradient, w in zip(gradients(), winners.tolist(), strict=True):
        whole.grad = torch.zeros_like(whole)
        whole.grad.view(6, 5)[w] = gradient.view(6, 5)[w]
        alone[w].grad = gradient.view(6, 5)[w].clone()
        optimiser.step()
        each[w].step()
    assert torch.allclose(whole.view(6, 5), torch.stack([row.detach() for row in alone]), atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs", "options"), KINDS)
def test_losing_units_keep_their_bits_where_the_usual_optimiser_moves_them(ours: type, theirs: type, options: dict) -> None:
    moved = []
    for kind in (ours, theirs):
        layer = MemoryLinear(4, 3, MemoryConfig(m=6, delta=3, scramble=False), seed=3)
        optimiser = kind(layer.parameters(), **options)
        x = torch.randn(12, 4, generator=torch.Generator().manual_seed(4))
        strays = 0
        for one in x:
            before, wins = layer.units.detach().clone(), layer.mu.clone()
            optimiser.zero_grad()
            layer(one[None]).square().sum().backward()
            optimiser.step()
            losers = (layer.mu == wins)[0]
            strays += int((layer.units[0, losers] != before[0, losers]).any(1).sum())
        moved.append(strays)
    assert moved[0] == 0 < moved[1]


def test_a_row_that_holds_something_else_starts_afresh() -> None:
    values = torch.nn.Parameter(torch.zeros(2, 3))
    optimiser = RowAdam([values], lr=0.1)
    for _ in range(3):
        values.grad = torch.ones(2, 3)
        optimiser.step()
    optimiser.forget(values, [1])
    state = optimiser.state[values]
    assert [float(v[0].abs().sum()) > 0 for v in state.values()] == [True] * 3
    assert [float(v[1].abs().sum()) for v in state.values()] == [0.0] * 3


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": 0.1, "weight_decay": -1.0}])
def test_settings_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError):
        RowSGD([torch.nn.Parameter(torch.zeros(2, 2))], **options)
