"""Do two runtimes say the same about the same pictures?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from edgecl.types import Floats


@dataclass(frozen=True)
class Parity:
    """How far two feature matrices lie apart.

    max_abs_difference, scale: largest |a - b| and the largest |a| beside it.   cosine: the smallest over the pictures.
    """

    pictures: int
    max_abs_difference: float
    scale: float
    cosine: float

    def holds(self, relative: float = 1e-4, cosine: float = 0.99999) -> bool:
        """True when the difference is rounding: below `relative` of the scale, and every direction kept."""
        return self.max_abs_difference <= relative * self.scale and self.cosine >= cosine

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"max |difference| {self.max_abs_difference:.2e} at scale {self.scale:.3g}, smallest cosine {self.cosine:.7f}, "
            f"{self.pictures} pictures"
        )


def compare(a: Floats, b: Floats) -> Parity:
    """Compare features (n, d) of the same n pictures from two runtimes; `a` is the reference."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    cosine = np.where(norms > 0, (a64 * b64).sum(1) / np.maximum(norms, 1e-300), (a64 == b64).all(1))
    return Parity(len(a), float(np.abs(a64 - b64).max()), float(np.abs(a64).max()), float(cosine.min()))
