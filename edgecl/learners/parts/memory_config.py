"""Settings of a memory layer, and what they alone determine: sizes, first values, how an input becomes a key.

Shared by the two implementations, NumPy (`memory_numpy`) and torch (`memory_linear`), which are tested to take the same steps.
Papers: Memory Head for Pre-Trained Backbones in Continual Learning, CoLLAs 2024 (MH);
Continual Neural Computation, ECML-PKDD 2024 (CNU).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError

CHOICES: Mapping[str, tuple[str, ...]] = {
    "distance": ("cosine", "dot_scaled", "euclidean"),
    "psi": ("identity", "sign", "resize1d", "resize2d", "resize2d_sign"),
    "upd_m": ("WTA", "none"),
    "upd_k": ("ad_hoc_WTA", "grad_WTA", "none"),
    "timing": ("after_backward", "before_blend"),
}


@dataclass(frozen=True)
class MemoryConfig:
    """How many units, how they are chosen, blended and learned. The papers' symbols name the fields.

    The defaults avoid what the released code gets wrong; `tau_on_scaled_similarity`, `promote_scrambled` and `divide_by_std`
    bring it back where a published figure depends on it. The numbers were chosen on the validation parts of MODES and MOONS
    (`docs/benchmarks.md`), for inputs within -1..1.
    """

    m: int = 32  # keys, and memory units, of each key set
    delta: int = 2  # units that an input attends to
    gamma: float = 50.0  # inverse temperature of the attention
    distance: str = "euclidean"
    sigma_eu: float = 1.0  # width of the euclidean similarity, in sqrt(d)
    psi: str = "identity"  # input -> key space
    key_size: int = 0  # d; 0: as long as the input
    picture: tuple[int, ...] = ()  # (channels, height, width) of an input that is resized in two dimensions
    bias: bool = True
    shared_keys: bool = True  # one key set for the whole layer, else one for each output
    upd_m: str = "WTA"  # which attended units learn: the winner, or ("none") all of them
    upd_k: str = "ad_hoc_WTA"  # keys follow their inputs, or learn by gradient: by the winner's weight, or all
    beta: float = 0.1  # step of the keys, ad_hoc_WTA
    scramble: bool = True  # a key that is hardly used gives way to an input that no key resembles
    tau_alpha: float = 0.97  # similarity below which an input is new
    tau_mu: float = 10.0  # wins below which a key may be replaced
    tau_eta: float = 100.0  # steps since its last win from which on it may be
    timing: str = "after_backward"  # when keys follow: MH; before_blend (CNU): before units are read
    tau_on_scaled_similarity: bool = False  # MH: compares with cosine / sqrt(d), which never reaches tau_alpha
    promote_scrambled: bool = True  # a new key wins at once, and learns; MH: the old winner does, the new key goes next
    fresh_memories: bool = False  # a new key's unit is drawn afresh instead of copied from the winner
    layer_norm: bool = False  # of the input, with scale and shift inside each unit
    divide_by_std: bool = True  # MH and CNU: by the variance

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name, least in (("m", 1), ("delta", 1), ("key_size", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("gamma", "beta", "tau_alpha", "tau_mu", "tau_eta", "sigma_eu"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name} must be finite, got {getattr(self, name)}")
        if self.sigma_eu <= 0:
            raise ConfigError(f"sigma_eu must be above 0, got {self.sigma_eu}")
        if self.upd_m == "WTA" and self.upd_k == "none":
            raise ConfigError("upd_m WTA needs a rule for the keys, but upd_k is none; take another, or upd_m none")
        if self.scramble and self.upd_k != "ad_hoc_WTA":
            raise ConfigError(f"scrambling needs upd_k ad_hoc_WTA, got {self.upd_k}; set scramble to false")

    def key_width(self, n_in: int) -> int:
        """d for inputs (n_in,). Raises ConfigError where psi cannot give keys of that length."""
        d = self.key_size or n_in
        if self.psi in ("identity", "sign") and d != n_in:
            raise ConfigError(f"psi {self.psi} keeps the input's length {n_in}, but key_size is {d}; take a resizing psi")
        if self.psi.startswith("resize2d"):
            if len(self.picture) != 3 or min(self.picture) < 1:
                raise ConfigError(f"psi {self.psi} needs picture = (channels, height, width), got {self.picture}")
            channels = self.picture[0]
            if math.prod(self.picture) != n_in:
                raise ConfigError(f"picture {self.picture} has {math.prod(self.picture)} values, but the input has {n_in}")
            if d % channels or math.isqrt(d // channels) ** 2 * channels != d:
                raise ConfigError(f"psi {self.psi} gives {channels} squares, and key_size {d} is not {channels} times a square")
        return d

    def key_sets(self, n_out: int) -> int:
        """q."""
        return 1 if self.shared_keys else n_out

    def unit_size(self, n_in: int, n_out: int) -> int:
        """u: weights that one unit holds."""
        rows = n_out if self.shared_keys else 1
        return rows * (n_in + self.bias) + (2 * n_in if self.layer_norm else 0)

    def new_below(self, d: int) -> float:
        """The similarity, as it is computed (cosines are divided by sqrt(d)), below which an input is new."""
        rescale = self.distance == "cosine" and not self.tau_on_scaled_similarity
        return self.tau_alpha / math.sqrt(d) if rescale else self.tau_alpha


class Draws:
    """The numbers that torch's generator draws, without torch: the seeds of published figures keep their meaning on a board.

    Both are MT19937, seeded alike; torch makes a float32 from the low 24 bits of each number.
    """

    LARGEST: ClassVar[int] = 2**32 - 1

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed & self.LARGEST)

    def uniform(self, bound: float, shape: Sequence[int]) -> NDArray[np.float32]:
        """In [-bound, bound)."""
        raw = self._state.randint(0, 2**32, tuple(shape), np.uint32) & np.uint32(0xFFFFFF)
        low, span = np.float32(-bound), np.float32(bound) - np.float32(-bound)
        out: NDArray[np.float32] = (raw * 2.0**-24 * np.float64(span) + np.float64(low)).astype(np.float32)
        return out


def initial(config: MemoryConfig, n_in: int, n_out: int, seed: int) -> dict[str, NDArray[Any]]:
    """A layer's state before it has seen anything, in the released code's order of draws: keys, then units.

    keys (q, m, d) and units (q, m, u) float32; mu (wins) and eta (steps since the last win, so that every key starts weak)
    (q, m) float64; scrambles (q,) int64.
    """
    q, d, u = config.key_sets(n_out), config.key_width(n_in), config.unit_size(n_in, n_out)
    draws = Draws(seed)
    keys = draws.uniform(1 / math.sqrt(d), (q, config.m, d))
    if config.distance == "cosine":
        keys /= np.maximum(np.sqrt((keys * keys).sum(2, keepdims=True)), np.float32(1e-12))
    units = draws.uniform(1 / math.sqrt(u), (q, config.m, u))
    if config.layer_norm:
        units[:, :, -2 * n_in : -n_in], units[:, :, -n_in:] = 1, 0
    return {
        "keys": keys,
        "units": units,
        "mu": np.zeros((q, config.m)),
        "eta": np.full((q, config.m), float(config.tau_eta)),
        "scrambles": np.zeros(q, np.int64),
    }


def fresh_unit(config: MemoryConfig, n_in: int, n_out: int, seed: int, at: tuple[int, int]) -> NDArray[np.float32]:
    """A unit (u,) for a replaced key. at: (key set, its replacements so far); no state to keep, so learning can be resumed."""
    mixed = int(np.random.SeedSequence([seed & Draws.LARGEST, *at]).generate_state(1)[0])
    u = config.unit_size(n_in, n_out)
    unit = Draws(mixed).uniform(1 / math.sqrt(u), (u,))
    if config.layer_norm:
        unit[-2 * n_in : -n_in], unit[-n_in:] = 1, 0
    return unit
