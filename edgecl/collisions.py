"""Does a new task take pictures that known tasks answer for? Asked before a bundle from elsewhere is kept.

The pictures of a known task are its sketch, where it was learned here, else drawn from its anchor, which is coarser. Each is
judged as if its task had been learned without it (`mapping.left_out`): asked plainly, a task keeps the pictures it was
made from, and even its twin seems to take none. Whatever mapper serves, the default one judges: every bundle can have its
anchor, and tasks collide because their pictures are alike, for every mapper. Where another serves it judges too, by its own
anchors, since nothing makes a foreign bundle's anchors agree.

Tasks that came from one device are not held against each other: there they stand side by side, as their owner wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from edgecl import registry
from edgecl.errors import BundleError, Reason
from edgecl.mapping import sketch as sketches
from edgecl.mapping.left_out import LeftOut
from edgecl.mapping.local import LocalMapper
from edgecl.mapping.mahalanobis import Mahalanobis
from edgecl.sharing.bundle import Bundle
from edgecl.text import printable
from edgecl.types import Arrays, Floats, Ints

MAPPER = Mahalanobis.name
_DRAWN = 32  # pictures of a task of which there is no sketch
Answers = Callable[[Mapping[str, "Known"], Mapping[str, "Known"]], dict[str, NDArray[np.str_]]]  # tasks, those asked about
_COUNT = 20  # pictures of a class whose bundle does not say how many it had
_NAMED = 5  # tasks that a sentence names


@dataclass(frozen=True)
class Known:
    """A task, and pictures of it to ask about.

    sketch: of real ones, where there is one.   per_class: pictures that each of its classes was learned from, (k,), as its
    bundle says; None where it does not.   maker: the key of the device that it came from, as it signs today; "" for nobody.
    served: its anchor for the mapper that serves, where that is not the default one.
    """

    anchor: Arrays
    sketch: sketches.Sketch | None
    per_class: Ints | None
    maker: str = ""
    served: Arrays | None = None

    @property
    def seen(self) -> bool:
        """Whether its pictures are real ones."""
        return self.sketch is not None

    @cached_property
    def pictures(self) -> tuple[Floats, Floats]:
        """Features (n, d), and how many pictures each one's class had (n,); drawn from the anchor where there is no sketch."""
        if self.sketch is not None:
            return self.sketch.features, self.sketch.counts
        features, groups = Mahalanobis.draw(self.anchor, _DRAWN)
        fits = self.per_class is not None and len(self.per_class) == len(self.anchor["means"])
        counts = self.per_class[groups] if self.per_class is not None and fits else np.full(len(groups), _COUNT)
        return features, counts.astype(np.float32)


def known(bundle: Bundle, data: bytes | None, width: int, maker: str = "", serving: str = MAPPER) -> Known:
    """The task of a bundle. data: its sketch, where there is one.   maker: as in `Known`.   serving: the device's mapper.

    Raises BundleError for a bundle without an anchor for the default mapper, or a sketch that is none.
    """
    served = bundle.anchors.get(serving) if serving != MAPPER else None
    sketch = None if data is None else sketches.read(data, width)
    return Known(bundle.anchor(MAPPER), sketch, per_class(bundle), maker, served)


def per_class(bundle: Bundle) -> Ints | None:
    """The pictures of each class (k,) that a bundle says it was made from; None where it does not."""
    said = bundle.provenance.get("per_class")
    counts = [said.get(name) for name in bundle.head.classes] if isinstance(said, dict) else [None]
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 10**9 for n in counts):
        return None
    return np.array(counts, np.int64)


def check(
    there: Mapping[str, Known], new: Mapping[str, Known], limit: float, width: int, serving: str | None = None
) -> dict[str, dict[str, float]]:
    """New task -> task -> share in 0..1 of its pictures that the new one takes; shares of 0 are left out.

    Taken is also what goes to another known task because the new one is there: all anchors have a part in the covariance, and
    one that lies about its own makes the others look alike. Of several new ones each is given an equal part of that.
    new: in the order in which they come; the earlier ones are known to the later ones, unless they took more than `limit`
    of something. A batch that takes no more than that together is looked at once; else its halves are, one after the other.
    serving: the device's mapper; None takes the default one.
    """
    if not new:
        return {}
    found = _shares(there, new, width, serving)
    lost: dict[str, float] = {}
    for taken in found.values():
        for task, share in taken.items():
            lost[task] = lost.get(task, 0.0) + share
    if len(new) == 1 or max(lost.values(), default=0.0) <= limit:
        return found
    names = list(new)
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    found = check(there, {name: new[name] for name in first}, limit, width, serving)
    kept = {name: new[name] for name in first if max(found[name].values(), default=0.0) <= limit}
    return found | check({**there, **kept}, {name: new[name] for name in second}, limit, width, serving)


def _shares(
    there: Mapping[str, Known], new: Mapping[str, Known], width: int, serving: str | None = None
) -> dict[str, dict[str, float]]:
    """By the default mapper, and by the one that serves, where that is another: what either of them sees."""
    found = _taken(there, new, partial(_answers, width=width))
    if serving != MAPPER and serving in registry.DEFAULT_MAPPERS:  # the published forms are for comparison, and draw nothing
        here, coming = ({task: one for task, one in tasks.items() if one.served is not None} for tasks in (there, new))
        for name, shares in _taken(here, coming, partial(_served, width=width, mapper=str(serving))).items():
            found[name] = {task: max(shares.get(task, 0), found[name].get(task, 0)) for task in {**found[name], **shares}}
    return found


def _taken(there: Mapping[str, Known], new: Mapping[str, Known], answers: Answers) -> dict[str, dict[str, float]]:
    staying = {task: one for task, one in there.items() if task not in new}
    found: dict[str, dict[str, float]] = {name: {} for name in new}
    everyone = {**staying, **new}
    makers = {one.maker for one in new.values()}
    asked = {task: one for task, one in everyone.items() if makers - {one.maker} or not one.maker}
    if len(everyone) < 2 or not asked:
        return found
    before = answers(there, {task: one for task, one in staying.items() if task in asked})
    after = answers(everyone, asked)
    turn = {name: number for number, name in enumerate(new)}
    for task in after:
        own = before[task] == task if task in before else np.ones(len(after[task]), np.bool_)
        other = {name for name in new if new[name].maker != everyone[task].maker or not new[name].maker}
        rivals = [name for name in new if name in other and turn[name] > turn.get(task, -1)]
        strayed = 0.0
        if task in before:
            strayed = float((own & (after[task] != task) & ~np.isin(after[task], list(new))).mean())
        for name in rivals:
            if share := float((own & (after[task] == name)).mean()) + strayed / len(rivals):
                found[name][task] = share
    return found


def _answers(tasks: Mapping[str, Known], asked: Mapping[str, Known], width: int) -> dict[str, NDArray[np.str_]]:
    """The tasks that the default mapper over `tasks` finds for the pictures of each one asked about, each as if left out."""
    if not asked:
        return {}
    mapper = LeftOut(width)
    for task, one in tasks.items():
        mapper.add(task, one.anchor)
    owners = [task for task, one in asked.items() for _ in one.pictures[1]]
    features, counts = (np.concatenate(parts) for parts in zip(*(one.pictures for one in asked.values()), strict=True))
    names = np.array(mapper.tasks)[mapper.left_out(features, owners, counts)]
    return _divided(names, asked, [len(one.pictures[1]) for one in asked.values()])


def _served(tasks: Mapping[str, Known], asked: Mapping[str, Known], width: int, mapper: str) -> dict[str, NDArray[np.str_]]:
    """The same by another mapper, asked plainly: an anchor of its own may say what the default's does not."""
    if not asked:
        return {}
    served: LocalMapper = registry.load("mapper", registry.MAPPERS, mapper)(width)
    for task, one in tasks.items():
        served.add(task, one.served or {})
    # What the default's anchor is drawn as may look odd to another mapper; its own anchors describe what it expects.
    drawn = [one.sketch.features if one.sketch else served.draw(one.served or {}, _DRAWN)[0] for one in asked.values()]
    names = np.array(served.tasks)[served.assign(np.concatenate(drawn)).task]
    return _divided(names, asked, [len(features) for features in drawn])


def _divided(names: NDArray[np.str_], asked: Mapping[str, Known], counts: Sequence[int]) -> dict[str, NDArray[np.str_]]:
    return dict(zip(asked, np.split(names, np.cumsum(counts)[:-1]), strict=True))


def percentages(takes: Mapping[str, float]) -> str:
    """ "45 % of 'birds', 2 % of 'cars'", the most first."""
    most = sorted(takes.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{100 * share:.0f} % of '{printable(task, 64)}'" for task, share in most[:_NAMED])
    return shown + (f" and some of {len(most) - _NAMED} more" if len(most) > _NAMED else "")


def refusal(task: str, takes: Mapping[str, float], limit: float) -> BundleError:
    """What a bundle that takes too much is refused with."""
    return BundleError(
        f"'{task}' would take pictures of known tasks: {percentages(takes)} (accepted are up to {100 * limit:.0f} %, "
        f"collision_limit in config.toml). To take it all the same: --anyway; to ask it only beside the others: --as NAME",
        Reason.COLLISION,
    )


def overlaps(classes: tuple[str, ...], there: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Sentences on the classes that known tasks have too; there: task -> classes."""
    found = []
    for task, known_classes in there.items():
        if both := sorted(set(classes) & set(known_classes)):
            shown = ", ".join(f"'{printable(name, 40)}'" for name in both[:_NAMED]) + (", ..." if len(both) > _NAMED else "")
            found.append(f"'{task}' also has the {'class' if len(both) == 1 else 'classes'} {shown}")
    return found
