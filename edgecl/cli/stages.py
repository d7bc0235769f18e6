"""What is under way as one line of text: how far each stage is, and how long the outermost will still take."""

from __future__ import annotations

from dataclasses import dataclass

from edgecl.text import duration


@dataclass
class _Stage:
    begun: float  # seconds on the caller's clock, when it was first told of
    first: int  # what was done of it by then
    done: int
    total: int


class Stages:
    """Stages that begin inside others: one that is told of again has ended those that began after it."""

    def __init__(self) -> None:
        self._stages: dict[str, _Stage] = {}  # the outermost first

    def tell(self, name: str, done: int, total: int, now: float) -> None:
        """now: seconds on a clock that only goes forward."""
        if name in self._stages and self._stages[name].total == total and self._stages[name].done <= done:
            names = list(self._stages)
            for later in names[names.index(name) + 1 :]:
                del self._stages[later]
            self._stages[name].done = done
        else:
            self._stages = {other: stage for other, stage in self._stages.items() if other != name and stage.done < stage.total}
            self._stages[name] = _Stage(now, done, done, total)

    def line(self, now: float) -> str:
        """Such as "learning from the stream: 3 of 15, about 12 min 5 s left; learning a task: 31 of 60"."""
        parts = [f"{name}: {stage.done} of {stage.total}" for name, stage in self._stages.items()]
        outer = next(iter(self._stages.values()), None)
        if outer is not None and outer.first < outer.done < outer.total:
            left = (now - outer.begun) * (outer.total - outer.done) / (outer.done - outer.first)
            parts[0] += f", about {duration(left)} left"
        return "; ".join(parts)
