"""A linear layer whose weights are read, input by input, from a few memory units found by their keys: every mode of the papers.

A drop-in replacement of `nn.Linear`. What a step does to keys, counters and replaced units follows the rules of
`edgecl.learners.parts.memory_config`, where the papers are named; `memory_numpy` does the same without torch, and much
quicker, for the proposed settings.
"""

from __future__ import annotations

import math
from typing import Any

from edgecl.errors import MissingDependency
from edgecl.learners.parts.memory_config import MemoryConfig, fresh_unit, initial

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ModuleNotFoundError as error:
    raise MissingDependency("the memory layer needs torch: pip install 'edgecl[learn]'") from error


class _Read(torch.autograd.Function):
    """units (q, m, u), rows (b, q) -> (b, q, u). The gradient goes to what `rows` says when it comes: a key replaced after the
    forward pass may have become the winner."""

    @staticmethod
    def forward(ctx: Any, units: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.shape = rows, units.shape
        return units[torch.arange(units.shape[0]), rows]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        q, m, u = ctx.shape
        flat = (ctx.rows + torch.arange(q) * m).reshape(-1)
        out = gradient.new_zeros(q * m, u).index_add_(0, flat, gradient.reshape(-1, u))
        return out.view(q, m, u), None


class MemoryLinear(torch.nn.Module):
    """(..., n_in) -> (..., n_out).

    keys (q, m, d): a buffer, or a parameter where keys learn by gradient.   units (q, m, u): a parameter.
    mu, eta (q, m), scrambles (q,): buffers, part of the state dict under the same names in every mode.

    In training mode, and only there, keys and counters follow the inputs. With the timing after_backward they do so when the
    gradient of this very output comes, so several forward passes before one backward each count with their own inputs; a pass
    without a gradient counts for nothing. `freeze` stops all of it.
    """

    def __init__(self, n_in: int, n_out: int, config: MemoryConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config, self.n_in, self.n_out, self.seed = config or MemoryConfig(), n_in, n_out, seed
        first = {name: torch.from_numpy(value) for name, value in initial(self.config, n_in, n_out, seed).items()}
        self.units = torch.nn.Parameter(first.pop("units"))
        if self.config.upd_k != "ad_hoc_WTA":
            self.keys = torch.nn.Parameter(first.pop("keys"))
        for name, value in first.items():
            self.register_buffer(name, value.float() if name in ("mu", "eta") else value)
        self.frozen = False
        self.replaced: list[tuple[int, int]] = []  # (set, row) of the last update: an optimiser's memory of them is void
        d = self.config.key_width(n_in)
        self._root, self._delta, self._new_below = math.sqrt(d), min(self.config.delta, self.config.m), self.config.new_below(d)
        self._sets = torch.arange(self.config.key_sets(n_out))

    def extra_repr(self) -> str:
        return f"{self.n_in}, {self.n_out}, {self.config}"

    def freeze(self) -> None:
        """Nothing of this layer changes any more: units, keys, counters; whatever mode it is put into afterwards."""
        self.frozen = True
        self.requires_grad_(False)
        for parameter in self.parameters():
            parameter.grad = None  # a gradient left over would still be stepped along

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[:-1]
        x = x.reshape(-1, self.n_in)
        own = self.config.upd_k
        learns = self.training and not self.frozen
        keys = self.keys
        if own != "ad_hoc_WTA" and self.config.distance == "cosine":
            if learns:
                with torch.no_grad():
                    keys.copy_(functional.normalize(keys, dim=2, eps=1e-12))
            else:
                keys = functional.normalize(keys, dim=2, eps=1e-12)
        at = self._project(x.detach() if own == "ad_hoc_WTA" or (own == "grad_WTA" and self.config.distance != "cosine") else x)
        near, top = self._top(self._similarities(at, keys))
        if learns and own == "ad_hoc_WTA" and self.config.timing == "before_blend":
            near, top, _ = self._follow(at, near, top)
        winner = top[..., 0].clone()
        out = self._map(x, self._blend(near, top, winner))
        if learns and own == "ad_hoc_WTA" and self.config.timing == "after_backward" and out.requires_grad:
            near = near.detach()

            def after(gradient: Tensor) -> None:
                if not self.frozen:
                    winner.copy_(self._follow(at, near, top)[2])

            out.register_hook(after)
        return out.reshape(*lead, self.n_out)

    def _project(self, x: Tensor) -> Tensor:
        psi, d = self.config.psi, self.keys.shape[2]
        if psi == "resize1d":
            x = functional.interpolate(x[:, None], size=d, mode="linear")[:, 0]
        elif psi.startswith("resize2d"):
            side = math.isqrt(d // self.config.picture[0])
            x = functional.interpolate(x.reshape(-1, *self.config.picture), size=(side, side), mode="bilinear").flatten(1)
        if psi.endswith("sign"):
            x = x.sign()
        return functional.normalize(x, dim=1, eps=1e-12) if self.config.distance == "cosine" else x

    def _similarities(self, at: Tensor, keys: Tensor) -> Tensor:
        """(b, d), (q, m, d) -> (b, q, m)."""
        if self.config.distance == "euclidean":
            apart = (at[:, None, None] - keys).square().sum(3)
            return torch.exp(-apart / (self._root * self.config.sigma_eu))
        return torch.einsum("bd,qmd->bqm", at, keys) / self._root

    def _top(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """The delta largest, the winner first, the first index on ties: (b, q, delta) similarities and rows."""
        near, rows = near.sort(dim=2, descending=True, stable=True)
        return near[..., : self._delta], rows[..., : self._delta]

    def _blend(self, near: Tensor, top: Tensor, winner: Tensor) -> Tensor:
        """-> weights (b, q, u)."""
        share = torch.softmax(self.config.gamma * near, 2)[..., None]
        if self.config.upd_m == "none":
            return (share * self.units[self._sets[:, None], top]).sum(2)
        rest = self.units.detach()[self._sets[:, None], top[..., 1:]]
        others = share[..., 1:, :].detach() if self.config.upd_k == "grad_WTA" else share[..., 1:, :]
        weights: Tensor = share[..., 0, :] * _Read.apply(self.units, winner) + (others * rest).sum(2)
        return weights

    def _map(self, x: Tensor, weights: Tensor) -> Tensor:
        n_in, bias = self.n_in, self.config.bias
        if self.config.layer_norm:
            weights, scale, shift = weights.split([weights.shape[2] - 2 * n_in, n_in, n_in], 2)
        weights = weights.reshape(len(x), self.n_out, n_in + bias)
        w = weights[..., :n_in]
        b = weights[..., n_in] if bias else weights.new_zeros(())
        if self.config.layer_norm:
            spread = x.var(1, keepdim=True) + 1e-5
            x = (x - x.mean(1, keepdim=True)) / (spread.sqrt() if self.config.divide_by_std else spread)
            w = scale * w
            b = b + (w * shift).sum(2)
        return torch.einsum("boi,bi->bo", w, x) + b

    @torch.no_grad()
    def _follow(self, at: Tensor, near: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scramble, move the winning keys, count; at most one replacement in each key set.

        at: (b, d), near and top: (b, q, delta), of the forward pass. Returns the two anew, and the rows (b, q) that learn.
        """
        config, (b, q, _) = self.config, top.shape
        winner, at_winner = top[..., 0].clone(), near[..., 0]
        if config.scramble:
            self._scramble(at, at_winner, winner)
        flat = (winner + self._sets * config.m).reshape(-1)
        keys = self.keys.view(q * config.m, -1)
        if config.distance == "euclidean":
            pull = (config.beta / (self._root * config.sigma_eu) * at_winner)[..., None]
            move = pull * (at[:, None] - keys[flat].view(b, q, -1))
        else:
            beta = config.beta if config.distance == "cosine" else config.beta / self._root
            move = (beta * at)[:, None].expand(b, q, -1)
        keys.index_add_(0, flat, move.reshape(b * q, -1))
        if config.distance == "cosine":
            moved = flat if b == 1 else slice(None)
            keys[moved] = functional.normalize(keys[moved], dim=1, eps=1e-12)
        wins = winner
        if b == 1:  # only the winner's similarity has changed, and only what is blended now asks for it
            top, near = top.clone(), near.clone()
            top[..., 0] = winner
            if config.timing == "before_blend":
                near[..., 0] = self._similarities(at, self.keys)[0].gather(1, winner.T).T
        else:
            near, top = self._top(self._similarities(at, self.keys))
            wins = top[..., 0]
        flat = (wins + self._sets * config.m).reshape(-1)
        self.eta.view(-1)[flat] = 0
        self.eta += b
        self.mu.view(-1).index_add_(0, flat, torch.ones_like(flat, dtype=self.mu.dtype))
        return near, top, winner

    def _scramble(self, at: Tensor, near: Tensor, winner: Tensor) -> None:
        """near, winner: (b, q). A replaced key's input takes it for its winner, in `winner`, where settings say so."""
        self.replaced = []
        lowest, which = near.min(0)
        weak = (self.mu < self.config.tau_mu) & (self.eta >= self.config.tau_eta)
        for s in torch.nonzero((lowest < self._new_below) & weak.any(1)).flatten().tolist():
            h = int(which[s])
            j = int(torch.where(weak[s], self.eta[s], -torch.inf).argmax())
            self.keys[s, j] = at[h]
            if self.config.fresh_memories:
                unit = fresh_unit(self.config, self.n_in, self.n_out, self.seed, (s, int(self.scrambles[s])))
                self.units[s, j] = torch.from_numpy(unit).to(self.units)
            else:
                self.units[s, j] = self.units[s, winner[h, s]]
            self.mu[s, j] = 0
            self.scrambles[s] += 1
            self.replaced.append((s, j))
            if self.config.promote_scrambled:
                winner[h, s] = j
