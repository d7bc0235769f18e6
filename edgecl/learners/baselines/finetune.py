"""Fine-tuning: a step on each batch as it comes, and nothing against forgetting. The lower bound."""

from __future__ import annotations

from edgecl.learners.baselines.networks import NetLearner
from edgecl.learners.parts.nets import NetConfig as Config

__all__ = ["Config", "FineTune"]


class FineTune(NetLearner):
    """Cross-entropy, one step a batch."""
