"""CPG over the ROM: a task as a set of picked ROM weights, and a few weights of its own in places that the ROM left free.

Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning, NeurIPS 2019. The ROM is the first task. A
head holds one bit for each weight of the convolutions it acts in, its own weights where the ROM was compacted (`edgecl
export --free`), and the convolutions' batch norms, which fold into a factor and a shift per channel. A score per weight starts
above the threshold and learns with the gradient straight through it; own weights start at 0, as many as the head's size does
not allow are given back by magnitude, layer by layer, and the others go on learning.
We depart in what scores and weights descend (`parts.crossfit`), in the map on top, which is in closed form and also reads the
plain features (`parts.plugged`), in that the norms' statistics stay the ROM's, and in that heads are overlays: each carries
what it puts into the free places, so that two heads may fill the same ones, and none depends on another, unless it is asked to
(`over`): then it finds the own weights of older heads in those places, picks among them as among the ROM's, and fills what they
have left, as the published tasks do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecl.errors import ConfigError
from edgecl.heads.base import QUIET, Base, Head, Learned, Session
from edgecl.heads.parts import plugged
from edgecl.heads.parts.checkpoint import of_step
from edgecl.heads.parts.overlays import PICKS
from edgecl.heads.parts.plugged import check, plugs, scores, width
from edgecl.heads.parts.recipe import Recipe, choose
from edgecl.rom.base import Rom
from edgecl.rom.overlay import Below
from edgecl.types import Task

__all__ = ["Config", "check", "learn", "plugs", "scores", "width"]


_GROWTH = (5, 15)  # convolutions, before the deepest seven tenths and all


@dataclass(frozen=True)
class Config:
    recipe: str = "default"
    seed: int = 0
    false_reject: float = 0.02  # share of a class's own pictures that may be called "unknown class"
    sockets: str = "deep"  # all, last:N, or deep: the deepest seven tenths
    epochs: int = 0  # at most; 0: the recipe's own number
    size: int = 700_000  # bytes of the head, at most: what is left beside map and picks goes to own weights
    goal: float = 0.0  # accuracy on held-out pictures, 0..1: the smallest head that meets it; 0: none
    over: tuple[Base, ...] = ()  # heads whose own weights it may pick too, bottom first; the last of them is `previous`

    def __post_init__(self) -> None:
        if self.recipe != "default":
            raise ConfigError(f"cpg has no recipe '{self.recipe}', only default; the published runs are learners of streams")
        if not 0 < self.false_reject < 0.5 or self.epochs < 0 or self.size < 1:
            raise ConfigError("cpg: false_reject must lie between 0 and 0.5, epochs must not be negative, and size above 0")
        if not 0 <= self.goal <= 1:
            raise ConfigError(f"cpg: a goal is an accuracy from 0 to 1, got {self.goal:g}")
        Recipe(sockets=self.sockets)


def learn(task: Task, rom: Rom, config: Config, previous: Head | None = None, session: Session = QUIET) -> Learned:
    """Learn picks, own weights and a map, starting from the plain ROM, or from the weights that `config.over` puts above it.

    previous: the last of `config.over`, with what it stands on; ignored where that is empty.

    With a goal: the head begins with the few deepest convolutions and grows into more of them until the accuracy on held-out
    pictures meets it; then own weights are given back as far as it still does. One that misses it all the same is the best of
    those tried, and its report says so.
    """
    started = session.clock()
    below = _below(task, rom, config, previous)
    if not config.goal:
        return _learn(task, rom, config, config.sockets, session, below)
    steps = [config.sockets] if config.sockets != "deep" else _steps(rom)
    best: Learned | None = None
    tried: dict[str, float] = {}
    for number, step in enumerate(steps):
        left = None if session.budget is None else session.budget - (session.clock() - started)
        place = of_step(session.checkpoint, number) if session.checkpoint else None
        try:
            found = _learn(task, rom, config, step, replace(session, budget=left, checkpoint=place), below)
        except ConfigError as error:  # no time or no room to grow into
            if best is None:
                raise
            session.say(f"'{task.name}': it grows no further: {error}")
            break
        tried[step] = found.report["validation_accuracy"]
        if best is None or tried[step] > best.report["validation_accuracy"]:
            best = found
        if tried[step] >= config.goal or found.report["training"]["stopped_early"]:
            break
    assert best is not None
    met = best.report["validation_accuracy"] >= config.goal
    if not met:
        session.say(
            f"'{task.name}': the goal of {config.goal:g} is missed: {best.report['validation_accuracy']:.3f} is the best of "
            f"{', '.join(tried)}"
        )
    return replace(best, report={**best.report, "goal": {"asked": config.goal, "met": met, "tried": tried}})


def _steps(rom: Rom) -> list[str]:
    """The sizes that a head grows through: convolutions that it acts in."""
    count = len(rom.image.sockets)
    deep = len(choose(rom.image.sockets, "deep"))
    return [f"last:{n}" for n in sorted({*(n for n in _GROWTH if n < deep), deep, count})]


def _below(task: Task, rom: Rom, config: Config, previous: Head | None) -> Below | None:
    """What the heads of `config.over` have put into the ROM. Raises ConfigError where that is nothing."""
    if not config.over:
        return None
    below = None if previous is None else previous.ground(rom)
    if below is None or not below.taken:
        raise ConfigError(
            f"'{task.name}' cannot be learned over {config.over[-1]}: a {config.over[-1].method} head without weights of its "
            f"own gives nothing to pick from. Learn it over the ROM alone, or over a cpg head on a compacted ROM (edgecl "
            f"export --free)"
        )
    return below


def _learn(task: Task, rom: Rom, config: Config, sockets: str, session: Session, below: Below | None) -> Learned:
    room = config.size if session.head_bytes is None else min(config.size, session.head_bytes)
    sides = {socket.name: PICKS for socket in choose(rom.image.sockets, sockets)}
    free = sum(int((below.left(name) if below else rom.image.free[name]).sum()) for name in sides)
    left = room - plugged.smallest(len(task.classes), rom, sides)
    own = min(1.0, max(0, left) / free) if free else 0.0
    recipe = Recipe(sockets=sockets, epochs=config.epochs, own=own, goal=config.goal)
    bounded = replace(session, head_bytes=room)
    learned = plugged.learn(task, rom, "cpg", recipe, sides, config.seed, config.false_reject, bounded, below)
    if not config.over:
        return learned
    declared = {**learned.head.settings, "over": [[base.task, base.method, base.digest] for base in config.over]}
    return replace(learned, head=replace(learned.head, settings=declared, below=below))
