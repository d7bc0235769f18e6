"""CI: class after class, whatever their groups. Source: Tiezzi et al., Continual Neural Computation, ECML-PKDD 2024."""

from __future__ import annotations

from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.parts import cut


def ci(dataset: Dataset, seed: int = 0) -> Stream:
    """An experience a class, its samples as they lie in the data set; validation samples for the first half of the classes.

    seed: nothing is drawn.
    """
    return cut(dataset, "ci", lambda s: s.y, lambda c: dataset.classes[c], early_val=True)
