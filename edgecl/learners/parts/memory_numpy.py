"""A memory head in NumPy: a linear map whose weights are read, input by input, from a few units found by their keys.

It learns from one labelled input at a time, with the gradient in closed form: only the winning unit moves, so that what the
others hold is not forgotten. No torch; the same steps as `edgecl.learners.parts.memory_linear`: a test holds them side by side.
Source: see `edgecl.learners.parts.memory_config`. What a step needs is allocated once: at a handful of weights the calls into
NumPy are the cost, at many it is the memory that is touched, which is that of `delta` units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError
from edgecl.learners.parts.memory_config import MemoryConfig, fresh_unit, initial

LOSSES = ("cross_entropy", "hinge")
_TINY = 1e-12  # a shorter vector is not made longer


def why_not(config: MemoryConfig) -> str:
    """What of the settings this implementation does not do; empty where it does all."""
    if (config.upd_m, config.upd_k) != ("WTA", "ad_hoc_WTA"):
        return f"upd_m {config.upd_m} with upd_k {config.upd_k}"
    if not config.shared_keys:
        return "one key set for each output"
    return "layer_norm" if config.layer_norm else ""


class Taps:
    """psi: (n, n_in) -> (n, d), before it is normalised. Resizing is linear between the two nearest values of each axis."""

    def __init__(self, config: MemoryConfig, n_in: int, dtype: Any) -> None:
        d = config.key_width(n_in)
        self._sign = config.psi.endswith("sign")
        self._at: NDArray[np.int64] | None = None
        if config.psi == "resize1d":
            self._at, share = _between(n_in, d)
        elif config.psi.startswith("resize2d"):
            channels, height, width = config.picture
            side = math.isqrt(d // channels)
            (down, by_row), (across, by_column) = _between(height, side), _between(width, side)
            plane = down[:, None, :, None] * width + across[None, :, None, :]
            shares = (by_row[:, None, :, None] * by_column[None, :, None, :]).reshape(4, 1, -1)
            share = np.broadcast_to(shares, (4, channels, side * side)).reshape(4, -1)
            offsets = (np.arange(channels) * height * width)[None, :, None]
            self._at = (plane.reshape(4, 1, -1) + offsets).reshape(4, -1)
        if self._at is not None:
            self._share = share.astype(dtype)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        if self._at is not None:
            x = (x[..., self._at] * self._share).sum(-2)
        return np.sign(x) if self._sign else x


def _between(n: int, d: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where d evenly spread points fall among n: the two neighbours (2, d) of each, and their shares."""
    at = np.clip((np.arange(d) + 0.5) * (n / d) - 0.5, 0, n - 1)
    low = at.astype(np.int64)
    return np.stack([low, np.minimum(low + 1, n - 1)]), np.stack([1 - (at - low), at - low])


class Memory:
    """A memory head under way: `scores` answers, `step` learns from one labelled input.

    state: arrays as `memory_config.initial` makes them, copied; the layer is what they say.   seed: of fresh units.
    dtype: of keys and units; float64 where traces are compared.
    keys (m, d), units (m, k, n_in + bias), mu and eta (m,), scrambles: how many keys were replaced.
    """

    def __init__(
        self,
        config: MemoryConfig,
        n_in: int,
        n_out: int,
        *,
        lr: float,
        loss: str = "cross_entropy",
        seed: int = 0,
        dtype: Any = np.float32,
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Raises ConfigError for settings that only the torch layer knows, and for a state of other sizes."""
        if lacking := why_not(config):
            raise ConfigError(f"the NumPy memory does not have {lacking}; use the torch layer")
        if loss not in LOSSES:
            raise ConfigError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        self.config, self.n_in, self.n_out, self.seed, self.lr, self.loss = config, n_in, n_out, seed, lr, loss
        first = initial(config, n_in, n_out, seed)
        for name, value in (state or {}).items():
            if name not in first or np.shape(value) != first[name].shape or not np.isfinite(value).all():
                wanted = f"finite, of the shape {first[name].shape}" if name in first else "no such array"
                raise ConfigError(f"the memory's state '{name}' is expected to be {wanted}; it is {np.shape(value)}")
        given = {**first, **(state or {})}
        d = config.key_width(n_in)
        self.keys = np.array(given["keys"][0], dtype)
        self.units = np.array(given["units"][0], dtype).reshape(config.m, n_out, n_in + config.bias)
        self.mu, self.eta = np.array(given["mu"][0], np.float64), np.array(given["eta"][0], np.float64)
        self.scrambles = int(given["scrambles"][0])
        self.psi = Taps(config, n_in, dtype)
        self._root, self._delta, self._new_below = math.sqrt(d), min(config.delta, config.m), config.new_below(d)
        self._plain = config.psi == "identity"
        self._unit = list(self.units)  # views: indexing an array costs more than a list
        self._x = np.ones(n_in + config.bias, dtype)
        self._input = self._x[:n_in]
        self._key, self._move, self._ones = np.empty(d, dtype), np.empty(d, dtype), np.ones(d, dtype)
        self._near, self._apart = np.empty(config.m, dtype), np.empty((config.m, d), dtype)
        self._out, self._part, self._step = np.empty(n_out, dtype), np.empty(n_out, dtype), np.empty_like(self.units[0])
        self._column = self._out.reshape(n_out, 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.keys.dtype

    @property
    def nbytes(self) -> int:
        """Of what it must keep to answer and to go on learning."""
        return int(self.keys.nbytes + self.units.nbytes + self.mu.nbytes + self.eta.nbytes + 8)

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies, as `memory_config.initial` names and shapes them."""
        return {
            "keys": self.keys[None].copy(),
            "units": self.units.reshape(1, self.config.m, -1).copy(),
            "mu": self.mu[None].copy(),
            "eta": self.eta[None].copy(),
            "scrambles": np.array([self.scrambles], np.int64),
        }

    def scores(self, x: NDArray[Any]) -> NDArray[Any]:
        """(n, n_in) -> (n, k). Changes nothing."""
        x = np.asarray(x, self.dtype)
        share = self._shares(self._similarities(self._project(x)))
        out = np.zeros((len(x), self.n_out), self.dtype)
        for j, unit in enumerate(self._unit):
            rows = np.flatnonzero(share[:, j])
            if len(rows):
                part = x[rows] @ unit[:, : self.n_in].T
                if self.config.bias:
                    part += unit[:, self.n_in]
                out[rows] += share[rows, j, None] * part
        return out

    def step(self, x: NDArray[Any], y: int) -> NDArray[Any]:
        """Learn that x (n_in,) is of class y. Returns the scores (k,) it gave before, valid until the next call."""
        self._input[:] = x
        key = self._input if self._plain else self.psi(self._input)
        if self.config.distance == "cosine":
            key = np.multiply(key, 1 / max(math.sqrt(np.dot(key, key)), _TINY), out=self._key)
        near = self._attend(key)
        top, s = self._top(near)
        if self.config.timing == "before_blend":
            top[0] = self._follow(key, top[0], s[0])
            s[0] = self._near_one(key, top[0])
        a = self._softmax(s)
        given = self._blend(top, a).copy()
        w = top[0] if self.config.timing == "before_blend" else self._follow(key, top[0], s[0])
        error = self._error(y)
        error *= -self.lr * a[0]
        np.multiply(self._column, self._x, out=self._step)
        self._unit[w] += self._step
        return given

    def _attend(self, key: NDArray[Any]) -> NDArray[Any]:
        """Similarities (m,) of one key-space vector to all keys."""
        near = self._near
        if self.config.distance == "euclidean":
            apart = self._apart
            np.subtract(self.keys, key, out=apart)
            np.multiply(apart, apart, out=apart)
            np.dot(apart, self._ones, out=near)
            near *= -1 / (self._root * self.config.sigma_eu)
            np.exp(near, out=near)
        else:
            np.dot(self.keys, key, out=near)
            near /= self._root
        return near

    def _near_one(self, key: NDArray[Any], w: int) -> float:
        if self.config.distance == "euclidean":
            move = np.subtract(self.keys[w], key, out=self._move)
            return math.exp(-float(np.dot(move, move)) / (self._root * self.config.sigma_eu))
        return float(np.dot(self.keys[w], key)) / self._root

    def _top(self, near: NDArray[Any]) -> tuple[list[int], list[float]]:
        """The delta most similar keys, the winner first, and their similarities; the first index on ties. Spoils `near`."""
        top, s = [], []
        for _ in range(self._delta):
            j = int(near.argmax())
            top.append(j)
            s.append(float(near[j]))
            near[j] = -np.inf
        return top, s

    def _softmax(self, s: list[float]) -> list[float]:
        gamma, first = self.config.gamma, max(s) if self.config.gamma > 0 else min(s)
        powers = [math.exp(gamma * (one - first)) for one in s]
        total = sum(powers)
        return [power / total for power in powers]

    def _blend(self, top: list[int], a: list[float]) -> NDArray[Any]:
        out, part = self._out, self._part
        np.dot(self._unit[top[0]], self._x, out=out)
        out *= a[0]
        for j, share in zip(top[1:], a[1:], strict=True):
            np.dot(self._unit[j], self._x, out=part)
            part *= share
            out += part
        return out

    def _error(self, y: int) -> NDArray[Any]:
        """dL/do, in place of the scores."""
        out = self._out
        if self.loss == "hinge":  # sum over classes of max(0, -t o), t = 1 for the right class and -1 for the others
            right = out[y]
            np.greater(out, 0, out=out)
            out[y] = -1.0 if right < 0 else 0.0
            return out
        out -= out.max()
        np.exp(out, out=out)
        out /= out.sum()
        out[y] -= 1
        return out

    def _follow(self, key: NDArray[Any], w: int, s: float) -> int:
        """Scramble, move the winning key, count. Returns the unit that learns: the winner, or that of a key just replaced."""
        config = self.config
        if config.scramble and s < self._new_below:
            weak = np.flatnonzero((self.mu < config.tau_mu) & (self.eta >= config.tau_eta))
            if len(weak):
                j = int(weak[self.eta[weak].argmax()])
                self.keys[j] = key
                if config.fresh_memories:
                    unit = fresh_unit(config, self.n_in, self.n_out, self.seed, (0, self.scrambles))
                    self._unit[j][:] = unit.reshape(self._unit[j].shape)
                else:
                    self._unit[j][:] = self._unit[w]
                self.mu[j] = 0
                self.scrambles += 1
                if config.promote_scrambled:
                    w = j
        own, move = self.keys[w], self._move
        if config.distance == "euclidean":
            np.subtract(key, own, out=move)
            move *= config.beta / (self._root * config.sigma_eu) * s
            own += move
        else:
            np.multiply(key, config.beta if config.distance == "cosine" else config.beta / self._root, out=move)
            own += move
            if config.distance == "cosine":
                own /= max(math.sqrt(np.dot(own, own)), _TINY)
        self.eta += 1
        self.eta[w] = 1
        self.mu[w] += 1
        return w

    def _project(self, x: NDArray[Any]) -> NDArray[Any]:
        key = self.psi(x)
        if self.config.distance == "cosine":
            key = key / np.maximum(np.sqrt((key * key).sum(1, keepdims=True)), _TINY)
        return key

    def _similarities(self, key: NDArray[Any]) -> NDArray[Any]:
        """(n, d) -> (n, m)."""
        if self.config.distance != "euclidean":
            return np.asarray(key @ self.keys.T / self._root)
        out = np.empty((len(key), self.config.m), key.dtype)
        for j, own in enumerate(self.keys):  # not by the squares' expansion, which cancels
            apart = key - own
            out[:, j] = np.einsum("nd,nd->n", apart, apart)
        return np.exp(out * (-1 / (self._root * self.config.sigma_eu)))

    def _shares(self, near: NDArray[Any]) -> NDArray[Any]:
        """How much of each unit each input reads: (n, m), rows that sum to 1 over delta entries."""
        top = np.argsort(-near, axis=1, kind="stable")[:, : self._delta]
        powers = self.config.gamma * np.take_along_axis(near, top, 1)
        powers = np.exp(powers - powers.max(1, keepdims=True))
        share = np.zeros_like(near)
        np.put_along_axis(share, top, powers / powers.sum(1, keepdims=True), 1)
        return share
