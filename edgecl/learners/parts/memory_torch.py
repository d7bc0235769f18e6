"""A memory layer with an optimiser of torch, as the learner uses it: one labelled input at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import MissingDependency
from edgecl.learners.parts.memory_config import MemoryConfig

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingDependency("the torch memory needs torch: pip install 'edgecl[learn]'") from error

from edgecl.learners.parts.memory_linear import MemoryLinear
from edgecl.learners.parts.row_optim import RowAdam, Rows, RowSGD
from edgecl.rom.torch_compat import limited

OPTIMISERS: Mapping[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "sparse_sgd": RowSGD, "sparse_adam": RowAdam}
ROWS = 32  # scored at once: each reads weights of its own


class TorchMemory:
    """The interface of `edgecl.learners.parts.memory_numpy.Memory`, with every mode and optimiser."""

    def __init__(
        self,
        config: MemoryConfig,
        n_in: int,
        n_out: int,
        *,
        lr: float,
        loss: str,
        optimiser: str,
        momentum: float,
        weight_decay: float,
        seed: int,
        dtype: Any,
    ) -> None:
        self.layer = MemoryLinear(n_in, n_out, config, seed=seed).to(getattr(torch, np.dtype(dtype).name))
        options = {"momentum": momentum} if optimiser.endswith("sgd") else {}
        self._optimiser = OPTIMISERS[optimiser](self.layer.parameters(), lr=lr, weight_decay=weight_decay, **options)
        self._loss = loss

    @property
    def nbytes(self) -> int:
        """Layer and optimiser."""
        own = list(self.layer.state_dict().values())
        own += [v for state in self._optimiser.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        return sum(v.numel() * v.element_size() for v in own)

    @property
    def scrambles(self) -> int:
        return int(self.layer.scrambles.sum())

    def scores(self, x: NDArray[Any]) -> NDArray[Any]:
        self.layer.eval()
        with limited(1), torch.no_grad():
            rows = torch.as_tensor(x, dtype=self.layer.units.dtype).split(ROWS)
            out: NDArray[Any] = torch.cat([self.layer(some) for some in rows]).numpy()
        return out

    def step(self, x: NDArray[Any], y: int) -> NDArray[Any]:
        with limited(1):  # a second thread for one sample takes longer to wake than its work
            return self._step(x, y)

    def _step(self, x: NDArray[Any], y: int) -> NDArray[Any]:
        self.layer.train()
        self._optimiser.zero_grad()
        out = self.layer(torch.as_tensor(x, dtype=self.layer.units.dtype)[None])
        if self._loss == "hinge":
            sign = torch.full_like(out, -1.0)
            sign[0, y] = 1.0
            torch.relu(-sign * out).sum().backward()
        else:
            torch.nn.functional.cross_entropy(out, torch.tensor([y])).backward()
        if isinstance(self._optimiser, Rows) and self.layer.replaced:
            m = self.layer.config.m
            self._optimiser.forget(self.layer.units, [s * m + j for s, j in self.layer.replaced])
        self._optimiser.step()
        scores: NDArray[Any] = out.detach()[0].numpy()
        return scores
