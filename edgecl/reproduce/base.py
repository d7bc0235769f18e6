"""What is claimed, and the run that it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PUBLISHED_SEEDS = (1234, 123456, 12346578)
TEN_SEEDS = tuple(range(10))
_PRINTED = 0.005  # what two decimals hide: a standard deviation printed as .00 may be so much
_STATISTICS = {"mean": "mean", "lowest": "lowest seed", "highest": "highest seed"}


@dataclass(frozen=True)
class Claim:
    """A figure and how near to it, or on which side of it, ours must lie.

    sense: "about", within `within` either way; "at least" or "below", where `within` is the slack.   source: who says so.
    """

    value: float
    source: str
    sense: str = "about"
    within: float = 0.0

    def holds(self, figure: float) -> bool:
        """Whether ours is as claimed."""
        if self.sense == "at least":
            return figure >= self.value - self.within
        if self.sense == "below":
            return figure < self.value + self.within
        return abs(figure - self.value) <= self.within

    def __str__(self) -> str:
        if self.sense == "about":
            return f"{self.value:.3f} ± {self.within:.3f}"
        return f"{self.sense} {self.value:.3f}" + (f" - {self.within:.3f}" if self.within else "")


def measured(mean: float, std: float, source: str) -> Claim:
    """A mean that was measured with this standard deviation over seeds: ours must lie within one of them."""
    return Claim(mean, source, within=max(std, _PRINTED))


@dataclass(frozen=True)
class Cell:
    """One figure of a row.

    data: as `--data` takes it; "" where the person must name it.   figure: of `learners.figures`.   statistic: of the seeds.
    claim: None where a figure is only reported.   short: options that the short form has in place of these.
    """

    name: str
    learner: str
    options: Mapping[str, Any]
    data: str
    scenario: str
    claim: Claim | None
    seeds: tuple[int, ...] = PUBLISHED_SEEDS
    figure: str = "accuracy"
    statistic: str = "mean"
    scenario_options: Mapping[str, Any] = field(default_factory=dict)
    short: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.statistic not in _STATISTICS:
            raise ValueError(f"statistic is one of {', '.join(_STATISTICS)}, got {self.statistic}")

    @property
    def run(self) -> dict[str, Any]:
        """What is run, without what is claimed of it: a record of another run says nothing about this cell."""
        return {
            name: list(value) if name == "seeds" else value
            for name, value in asdict(self).items()
            if name not in ("name", "claim", "short")
        }

    @property
    def told(self) -> str:
        """Its name, and which figure it is where it is not the mean accuracy."""
        more = [word for word, usual in ((self.figure, "accuracy"), (_STATISTICS[self.statistic], "mean")) if word != usual]
        return f"{self.name} ({', '.join(more)})" if more else self.name


@dataclass(frozen=True)
class Row:
    """A line of a published table, or a claim of several figures. id: what is typed.   needs: what only the person can give."""

    id: str
    title: str
    cells: tuple[Cell, ...]
    needs: str = ""
