"""An ensemble learned online: several networks from different starts, the mean of their scores learned jointly."""

from __future__ import annotations

from dataclasses import dataclass

from edgecl.learners.baselines.networks import NetLearner
from edgecl.learners.parts.nets import NetConfig, build, nn, optimiser
from edgecl.learners.parts.settings import whole


@dataclass(frozen=True)
class Config(NetConfig):
    members: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("members", self.members, 1)


class Mean(nn.Module):
    """The mean of the members' outputs."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return sum(member(x) for member in self.members) / len(self.members)


class Ensemble(NetLearner):
    """One loss on the mean, so that the members are not independent."""

    def _renew(self) -> None:
        self._net = Mean([build(self.shape, self.k, self.config, self._draw) for _ in range(self.config.members)])
        self._optimiser = optimiser(self._net, self.config)
