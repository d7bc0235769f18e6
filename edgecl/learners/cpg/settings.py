"""The settings that CPG and its relatives are made of. One file a phase uses what it takes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgecl.errors import ConfigError
from edgecl.heads.parts.masks import LEVELS, MOST_TASKS
from edgecl.learners.parts import networks
from edgecl.learners.parts.settings import flag, one_of, real, whole

GOALS = ("scratch", "fine_avg", "fine_max", "none")
NETS = ("auto", *networks.GROWING, *networks.FIXED)
NORMALISE = ("task", "published", "imagenet", "half")
EPOCHS = 100  # of a network that learns a task
T = TypeVar("T", int, float)


def at(value: T | tuple[T, ...], task: int) -> T:
    """Of a setting that is one value, or a value a task, that of `task`, counted from 1; the last holds for all that follow."""
    return value[min(task, len(value)) - 1] if isinstance(value, tuple) else value


def each(check: Callable[..., None], name: str, value: Any, *bounds: float, **more: Any) -> None:
    """`check` of a setting that is one value or one a task. Raises ConfigError."""
    if value == ():
        raise ConfigError(f"{name} is a number, or at least one a task; got none")
    for one in value if isinstance(value, tuple) else (value,):
        check(name, one, *bounds, **more)


@dataclass(frozen=True)
class Schedule:
    """Epochs over a task's samples. lr: of SGD.   drops: the lr falls to a tenth after these epochs; a list may grow meanwhile.

    mask_lr: of Adam on the pick scores; it falls to a fifth after `drops[0]`, and to 0 after `mask_stop` epochs.
    """

    epochs: int
    lr: float
    drops: Sequence[int] = ()
    mask_lr: float = 0.0
    mask_stop: int | None = None

    def scaled(self, by: float) -> Schedule:
        """With all numbers of epochs times `by`, at least 1."""
        drops = tuple(max(1, round(drop * by)) for drop in self.drops)
        stop = None if self.mask_stop is None else max(1, round(self.mask_stop * by))
        return Schedule(max(1, round(self.epochs * by)), self.lr, drops, self.mask_lr, stop)


@dataclass(frozen=True)
class Base:
    """What all of them have: the network, how samples are read, where states are kept."""

    net: str = "auto"  # vgg16_bn for pictures, cnn for small ones, mlp for vectors; or one of NETS
    width: float = 1.0  # times the network's weights, before it grows
    batch: int | tuple[int, ...] = 32  # or one a task
    scale: float = 1.0  # times the published numbers of epochs
    augment: bool = True  # pictures: moved by up to 4 pixels, turned left to right
    # By mean and deviation of the task's training samples; or constants: published, CIFAR-100's; imagenet; half, -1 to 1.
    normalise: str = "task"
    cutout: int = 0  # pixels: side of a square of each picture that is hidden while it is learned
    weighted: tuple[int, ...] = ()  # tasks, counted from 1, whose rare classes count more: (sum n - n_c) / n_c
    val_share: float = 0.1  # of the training samples, where the stream has no validation part; every decision is by them
    ref_select_on_test: bool = False  # decide by test samples, as the published figures do
    angular: tuple[int, ...] = ()  # tasks, counted from 1, with an angular-softmax head
    decay: float = 4e-5  # of shared weights only
    pretrained: str = field(default="", metadata={"file": True})  # the first task's network and head, learned elsewhere: a path
    device: str = "cpu"  # or cuda, or auto: cuda where there is a GPU
    # A folder for the states of a learning, so that it goes on after a kill; "" keeps them in memory. No result depends on it.
    states: str = field(default="", metadata={"place": True})

    def __post_init__(self) -> None:
        one_of("net", self.net, NETS)
        real("width", self.width, 0, above=True)
        each(whole, "batch", self.batch, 2)
        whole("cutout", self.cutout)
        real("scale", self.scale, 0, above=True)
        one_of("device", self.device, ("cpu", "cuda", "auto"))
        one_of("normalise", self.normalise, NORMALISE)
        real("val_share", self.val_share, 0, 0.9)
        real("decay", self.decay, 0)
        for name in ("augment", "ref_select_on_test"):
            flag(name, getattr(self, name))


@dataclass(frozen=True)
class Config(Base):
    """CPG. The defaults are those of the published runs on CIFAR-100. Where several numbers may stand, there is one a task."""

    epochs: int | tuple[int, ...] = EPOCHS  # learning a task, at most
    lr: float | tuple[float, ...] = 0.01  # learning a task, SGD
    mask_lr: float = 5e-4  # learning a task, Adam; 0 leaves every older weight picked
    # Epochs without a new best, after which the lr falls; the best epoch is kept. 0: it falls after epochs 50 and 80.
    plateau: int = 0
    m_max: float = 1.5  # largest multiplier of the weights
    grow: float = 0.5  # added to the multiplier when a task misses its goal
    goal: str = "scratch"  # accuracy of a network of its own; or fine_avg, fine_max, none
    goals: tuple[float, ...] = ()  # accuracies in place of those, task by task
    margin: float | tuple[float, ...] = 0.0  # a goal missed by less is met
    tasks: int = 20  # for which there must be room
    levels: tuple[float, ...] = LEVELS  # of pruning, tried one after another
    chosen: tuple[float, ...] = ()  # levels taken without regard to goals, task by task
    prune_epochs: int | tuple[int, ...] = 20  # of a level
    prune_lr: float | tuple[float, ...] = 0.001
    prune_every: int | tuple[int, ...] = 10  # steps between prunings
    prune_best: bool = False  # of a level the best epoch after its last pruning, not the last epoch
    least_train_accuracy: float = 0.95  # not above it a task counts as not learned, and pruning stops; 0: whatever it is
    repick: bool = True
    ref_repick_baseline: bool = False  # a re-pick need only beat the state right after its reset, not the chosen level
    ref_float32_goal: bool = False  # compare a float32 mean with the goal: 410 of 500 then misses 0.82

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "prune_epochs", "prune_every"):
            each(whole, name, getattr(self, name), 1)
        for name in ("lr", "prune_lr"):
            each(real, name, getattr(self, name), 0, above=True)
        each(real, "margin", self.margin, 0, 1)
        real("grow", self.grow, 0, above=True)
        real("mask_lr", self.mask_lr, 0)
        whole("plateau", self.plateau)
        real("m_max", self.m_max, 1)
        if self.net in networks.FIXED and self.m_max > 1:
            raise ConfigError(f"{self.net} has one width and cannot grow to {self.m_max:g} times its weights; set m_max=1")
        one_of("goal", self.goal, GOALS)
        for name in ("goals", "levels", "chosen"):
            for value in getattr(self, name):
                real(name, value, 0, 1)
        if list(self.levels) != sorted(set(self.levels)) or (self.levels and not 0 < self.levels[0] <= self.levels[-1] < 1):
            raise ConfigError(f"levels must rise between 0 and 1, got {', '.join(f'{level:g}' for level in self.levels[:20])}")
        if strange := [level for level in self.chosen if level and level not in self.levels]:
            raise ConfigError(f"chosen levels are 0 or one of levels; {strange[0]:g} is none")
        whole("tasks", self.tasks, 1)
        if self.tasks > MOST_TASKS:
            raise ConfigError(f"tasks must be at most {MOST_TASKS}, got {self.tasks}")
        real("least_train_accuracy", self.least_train_accuracy, 0, 1)
        for name in ("repick", "prune_best", "ref_repick_baseline", "ref_float32_goal"):
            flag(name, getattr(self, name))

    @property
    def picks(self) -> bool:
        """Whether a task has pick scores at all."""
        return self.mask_lr > 0

    def learning(self, task: int) -> Schedule:
        """Of phase A; with a plateau, what it starts from."""
        drops, stop = ((), None) if self.plateau else ((50, 80), 70)
        return Schedule(at(self.epochs, task), at(self.lr, task), drops, self.mask_lr, stop).scaled(self.scale)

    def pruning(self, task: int) -> Schedule:
        """Of one level of phase B."""
        return Schedule(at(self.prune_epochs, task), at(self.prune_lr, task)).scaled(self.scale)

    @property
    def ramp(self) -> float:
        """Epochs of a level in which is pruned; not whole where `scale` is small."""
        return 4 * self.scale

    @property
    def repicking(self) -> Schedule:
        """Of phase C, where `patience` epochs without a new best end it."""
        return Schedule(30, at(self.prune_lr, MOST_TASKS), (), 1e-4).scaled(self.scale)

    @property
    def patience(self) -> int:
        """Epochs of phase C without a new best."""
        return 5
