"""What is claimed, and the run that it is held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgecl.errors import DataError
from edgecl.learners.figures import figures
from edgecl.streaming.record import Run
from edgecl.text import printable

PUBLISHED_SEEDS = (1234, 123456, 12346578)
TEN_SEEDS = tuple(range(10))
_PRINTED = 0.005  # what two decimals hide: a standard deviation printed as .00 may be so much
TASK = "task: "  # begins a figure that is of one experience
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

    data: as `--data` takes it; "" where the person must name it.   figure: of `learners.figures`, or "task: NAME", the accuracy
    at the end on the experience of that name, or of that name and a digit.   statistic: of the seeds.
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
    def same_run(self) -> str:
        """Equal for cells that are figures of one run."""
        return json.dumps({name: value for name, value in self.run.items() if name not in ("figure", "statistic")}, default=str)

    def value(self, run: Run) -> float:
        """The figure of one seed's run. Raises DataError where there is no experience of that name."""
        if not self.figure.startswith(TASK):
            return figures(run.result)[self.figure]
        wanted = self.figure.removeprefix(TASK)
        for at, name in enumerate(run.experiences):
            if wanted in (name, name.rstrip("0123456789")):
                return float(run.result.accuracy[-1, at])
        raise DataError(f"the data have no task '{wanted}', but {printable(', '.join(run.experiences), 200)}")

    @property
    def told(self) -> str:
        """Its name, and which figure it is where it is not the mean accuracy."""
        more = [
            word
            for word, usual in ((self.figure.removeprefix(TASK), "accuracy"), (_STATISTICS[self.statistic], "mean"))
            if word != usual
        ]
        return f"{self.name} ({', '.join(more)})" if more else self.name


@dataclass(frozen=True)
class Size:
    """A published task: pictures to learn from and to be judged on, classes."""

    name: str
    train: int
    test: int
    classes: int


@dataclass(frozen=True)
class Row:
    """A line of a published table, or a claim of several figures.

    id: what is typed.   needs: what only the person can give.   weights: what file `--weights` names, for cells with an option
    `pretrained`.   note: a sentence for the page.

    To say how long it takes without the data: shape of a picture, and sizes of the published tasks; where these are not known,
    how many tasks there are.
    """

    id: str
    title: str
    cells: tuple[Cell, ...]
    needs: str = ""
    weights: str = ""
    sizes: tuple[Size, ...] = ()
    shape: tuple[int, ...] = ()
    tasks: int = 0
    note: str = ""
