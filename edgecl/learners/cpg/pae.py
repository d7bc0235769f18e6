"""PAE, CPG's predecessor: every older weight is used, nothing is picked, and the network may double.

Hung et al., Increasingly Packing Multiple Facial-Informatics Modules in A Unified Deep-Learning Model via Lifelong Learning,
ICMR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecl.learners.cpg.cpg import Cpg
from edgecl.learners.cpg.settings import Config as CpgConfig


@dataclass(frozen=True)
class Config(CpgConfig):
    """CPG's without picks and without the phase that picks again."""

    mask_lr: float = 0.0
    repick: bool = False
    m_max: float = 2.0
    goal: str = "fine_max"


class Pae(Cpg):
    """CPG under these settings."""

    kind: ClassVar[str] = "pae"
