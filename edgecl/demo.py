"""The whole story on one device, on real pictures: learn task after task, lose power, forget nothing, answer untold.

    result = run(Path("a/new/folder"), learned(), unseen(), tell=print)

Every figure is measured in the run itself, on pictures that were not learned from; the misses are shown with the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgecl.config import DeviceConfig
from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError, EdgeclError
from edgecl.learning import LearnReport
from edgecl.metrics.accuracy import macro
from edgecl.pictures.reading import Progress, read_features, silent
from edgecl.streams.base import TaskPictures
from edgecl.streams.datasets import digits, faces, instruments, mnist, snapshots, solar_cells, textures
from edgecl.text import printable
from edgecl.types import Floats, Prediction

QUICK = {"train": 60, "test": 40}
CHILD = "import sys; from edgecl.demo import learn_aloud; learn_aloud(*sys.argv[1:])"

Tell = Callable[[str], None]
Watch = Callable[[], AbstractContextManager[Progress]]


def learned(quick: bool = False) -> list[TaskPictures]:
    """The tasks that the demo learns, in their order. Raises MissingDependency without the extra `demo`."""
    if quick:
        return [part.load(**QUICK) for part in (faces, mnist, textures)]
    return [faces.load(), mnist.load(300, 100), textures.load(), solar_cells.load(300, 100), instruments.load()]


def unseen(quick: bool = False) -> list[TaskPictures]:
    """The tasks that it is only asked about."""
    parts = (snapshots, digits)
    return [part.load(**QUICK) if quick else part.load() for part in parts]


@dataclass(frozen=True)
class Row:
    """How one task went; shares are of its test pictures, in 0..1.

    oracle: right class when the task is given.   mapper: right task found.   joint: both, untold.
    Then the answer as a user gets it, which may be "unknown"; these add up to 1: right, unknown (task or class), wrong.
    """

    task: str
    classes: int
    train: int
    test: int
    seconds: float  # to learn it
    bytes: int  # of its bundle
    oracle: float
    mapper: float
    joint: float
    right: float
    unknown: float
    wrong: float


@dataclass(frozen=True)
class Unseen:
    """A task that was never learned: `unknown` is the right answer, and any other is `wrong`."""

    task: str
    test: int
    unknown: float
    wrong: float
    taken_for: Mapping[str, int]  # task -> pictures that it claimed


@dataclass(frozen=True)
class Step:
    """What was found of the earlier tasks after something happened."""

    after: str
    digests: Mapping[str, str]  # earlier task -> SHA-256 of its scores
    identical: bool  # equal, to the bit, to the scores when it had just been learned
    unchanged: bool  # bundles in the bank
    problems: Sequence[str]  # found by `verify`

    @property
    def held(self) -> bool:
        return self.identical and self.unchanged and not self.problems


@dataclass(frozen=True)
class Example:
    """One answer, and what the picture shows."""

    truth: str
    known: bool  # of a task that was learned
    answer: Prediction


@dataclass(frozen=True)
class Result:
    """The outcome; `held`: nothing that was claimed failed."""

    rows: Sequence[Row]
    unseen: Sequence[Unseen]
    steps: Sequence[Step]
    examples: Sequence[Example]
    answer_ms: float  # per picture, from pixels in memory to the answer
    conditions: Mapping[str, Any]
    seconds: float

    @property
    def held(self) -> bool:
        return all(step.held for step in self.steps)

    @property
    def summary(self) -> dict[str, float]:
        """Unweighted means over the learned tasks, and over the unseen ones."""
        names = ("oracle", "mapper", "joint", "right", "unknown", "wrong")
        means = {name: macro([getattr(row, name) for row in self.rows]) for name in names}
        return means | {"unseen_unknown": macro([row.unknown for row in self.unseen])}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"held": self.held, "summary": self.summary, **dataclasses.asdict(self)}


def vacant(home: Path) -> None:
    """Raises ConfigError when `home` is anything but a new or an empty folder."""
    if home.exists() and not (home.is_dir() and not any(home.iterdir())):
        raise ConfigError(f"{printable(home)} is there already and not empty; the demo wants a new folder for its device")


def prepare(home: Path, config: DeviceConfig) -> None:
    """A new device in `home` with the ROM and settings of another. Raises ConfigError when the folder is in use."""
    vacant(home)
    settings = dataclasses.asdict(config) | {"rom": str(Path(config.rom).absolute())}
    try:
        home.mkdir(parents=True, exist_ok=True)
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in settings.items()]
        (home / "config.toml").write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the demo cannot write into {printable(home)}: {error.strerror}") from error


def run(
    home: Path,
    tasks: Sequence[TaskPictures],
    strangers: Sequence[TaskPictures],
    *,
    tell: Tell = lambda line: None,
    watch: Watch = lambda: nullcontext(silent),
    started: float | None = None,
) -> Result:
    """Play the story on a new device in `home`, which stays behind with the heads and a few pictures in it.

    tell: takes the lines of the story.   watch: opens what shows the progress of one step.
    started: where the total time counts from, by `time.perf_counter`; None: from here.
    """
    started = time.perf_counter() if started is None else started
    memory = _Memory()
    reports: list[LearnReport] = []
    steps: list[Step] = []
    with EdgeDevice(home, say=tell) as device:
        rom, total = device.rom, len(tasks)
        tell(f"One frozen network, {rom.image.backbone}, on {rom.runtime} {rom.provider}.")
        tell("")
        tell("It learns one task after another. After each, every earlier head is asked again")
        tell("about its test pictures: the scores (shown by their SHA-256) must be the same to")
        tell("the last bit.")
        tell("")
        for number, task in enumerate(tasks[:-1], 1):
            with watch() as progress:
                aloud = staged(task.name, progress)
                report = device.learn_pictures(task.name, task.train, task.train_labels, task.classes, progress=aloud)
                step = memory.compare(device, report.task)
                memory.add(device, task, report, aloud)
            tell(report_line(number, total, report))
            _tell_step(step, tell)
            reports.append(report)
            steps.append(step)
    last = tasks[-1]
    folder = home / "pictures" / "learn" / last.name
    tell("")
    tell(f"Power cut: a process learning '{last.name}' is killed in the middle (SIGKILL).")
    with watch() as progress:
        _write_folder(folder, last)
        stage = _cut(home, last.name, folder, staged(last.name, progress))
    with EdgeDevice(home, say=tell) as device:  # a new start, as after a power cut
        there = last.name in device.tasks
        with watch() as progress:
            step = memory.compare(device, "the power cut", again=staged("asking every head again", progress))
        steps.append(step)
        state = "is there, whole" if there else "is not there"
        tell(f"      It was {stage}. After the restart '{last.name}' {state}.")
        tell("      The earlier tasks' test pictures go through network and heads again:")
        _tell_step(step, tell)
        tell("")
        with watch() as progress:
            report = device.learn(last.name, folder, progress=staged(last.name, progress))
            step = memory.compare(device, report.task)
            memory.add(device, last, report, staged(last.name, progress))
        tell(report_line(total, total, report) + " (*)")
        reports.append(report)
        steps.append(step)
        _tell_step(step, tell)
        count = sum(len(task.test) for task in [*tasks, *strangers])
        tell("")
        tell(f"Now it is asked about {count} test pictures, of these {total} tasks and of {len(strangers)} that it never")
        tell("saw, shuffled, and is not told which task a picture is from.")
        with watch() as progress:
            answers, seconds = _ask(device, [*tasks, *strangers], progress)
        rows = [
            _row(task, report, float(memory.right[task.name]), own)
            for task, report, own in zip(tasks, reports, answers, strict=False)
        ]
        others = [_stranger(task, own) for task, own in zip(strangers, answers[total:], strict=True)]
        kept = _keep(home, [*tasks, *strangers], answers, total)
        conditions = {
            "backbone": rom.image.backbone,
            "rom_id": device.rom.rom_id,
            "ran_on": f"{device.rom.runtime} {device.rom.provider}",
            "mapper": device.mapper.name,
            "stated_false_reject": device.config.false_reject,
            "stated_class_false_reject": device.config.class_false_reject,
            "killed_while": stage,
        }
    examples = _examples(kept)
    return Result(rows, others, steps, examples, 1e3 * seconds / count, conditions, time.perf_counter() - started)


def learn_aloud(home: str, task: str, folder: str) -> None:
    """Learn in a process of its own, and say on stdout, a line each, how far it is. The demo kills it."""
    with EdgeDevice(home) as device:
        device.learn(task, folder, progress=lambda stage, done, total: print(stage, done, total, sep="\t", flush=True))


class _Memory:
    """What each head answered when it had just been learned."""

    def __init__(self) -> None:
        self.right: dict[str, float] = {}  # task -> share right when the task is given
        self._tasks: dict[str, TaskPictures] = {}
        self._features: dict[str, Floats] = {}
        self._scores: dict[str, str] = {}
        self._bundles: dict[str, str] = {}

    def add(self, device: EdgeDevice, task: TaskPictures, report: LearnReport, progress: Progress) -> None:
        features = _features(device, task, progress)
        scores = device.head(task.name).scores(features)
        self.right[task.name] = float((scores.argmax(1) == np.asarray(task.test_labels)).mean())
        self._tasks[task.name], self._features[task.name] = task, features
        self._scores[task.name], self._bundles[task.name] = _sha256(scores), report.digest

    def compare(self, device: EdgeDevice, after: str, again: Progress | None = None) -> Step:
        """again: the pictures go through the network anew, not only their features through the heads."""
        now = {}
        for name, features in self._features.items():
            if again is not None:
                features = _features(device, self._tasks[name], again)
            now[name] = _sha256(device.head(name).scores(features))
        current = device.bank.current()
        unchanged = all(current.get(name) == digest for name, digest in self._bundles.items())
        return Step(after, now, now == self._scores, unchanged, device.verify())


def _features(device: EdgeDevice, task: TaskPictures, progress: Progress) -> Floats:
    reading = read_features(device.rom, task.test, None, progress)  # no cache: what is compared is computed
    if reading.failures:
        raise EdgeclError(f"'{task.name}': {len(reading.failures)} test pictures of the demo cannot be read")
    return reading.features


def _sha256(scores: Floats) -> str:
    return hashlib.sha256(scores.tobytes()).hexdigest()


def staged(name: str, progress: Progress) -> Progress:
    """`progress` with the task's name before each stage."""
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)


def report_line(number: int, total: int, report: LearnReport) -> str:
    """What learning a task gave, on one line."""
    return (
        f"[{number}/{total}] {report.task}: {len(report.classes)} classes, {report.pictures} pictures, "
        f"{report.seconds['total']:.1f} s, {report.bytes / 1000:.0f} kB"
    )


def _tell_step(step: Step, tell: Tell) -> None:
    if not step.digests:
        return
    digests = ", ".join(f"{name} {digest[:6]}" for name, digest in step.digests.items())
    verdict = "all bit-identical" if step.identical else "NOT ALL BIT-IDENTICAL"
    bundles = "bundles unchanged" if step.unchanged else "BUNDLES CHANGED"
    bank = "DAMAGED: " + "; ".join(step.problems) if step.problems else "verified"
    tell(f"      {digests}")
    tell(f"      {verdict}; {bundles}; bank {bank}")


def _cut(home: Path, task: str, folder: Path, progress: Progress) -> str:
    """Let another process learn, and kill it when it begins to make the head; what it was doing."""
    command = [sys.executable, "-P", "-c", CHILD, str(home), task, str(folder)]
    stage = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        for line in child.stdout:
            stage, done, total = line.rstrip("\n").split("\t")
            progress(stage, int(done), int(total))
            if stage != "reading features":
                child.kill()
                return stage
        reason = child.stderr.read().strip() or "it said nothing"
    raise EdgeclError(f"the process that was to be killed ended by itself while {stage or 'starting'}: {reason}")


def _ask(device: EdgeDevice, tasks: Sequence[TaskPictures], progress: Progress) -> tuple[list[list[Prediction]], float]:
    """The answers about all test pictures, asked in random order and sorted by task again; and the seconds it took."""
    places = [(t, i) for t, task in enumerate(tasks) for i in range(len(task.test))]
    order = np.random.default_rng(0).permutation(len(places))
    found: dict[tuple[int, int], Prediction] = {}
    begun = time.perf_counter()
    for k, answer in zip(order, device.stream(tasks[places[k][0]].test[places[k][1]] for k in order), strict=True):
        found[places[k]] = answer
        progress("answering", len(found), len(places))
    seconds = time.perf_counter() - begun
    return [[found[t, i] for i in range(len(task.test))] for t, task in enumerate(tasks)], seconds


def _row(task: TaskPictures, report: LearnReport, oracle: float, answers: Sequence[Prediction]) -> Row:
    truth = [task.classes[label] for label in task.test_labels]
    found = [a.nearest_task == task.name for a in answers]
    joint = [f and a.nearest_label == label for f, a, label in zip(found, answers, truth, strict=True)]
    unknown = [a.unknown is not None for a in answers]
    right = [j and not u for j, u in zip(joint, unknown, strict=True)]
    n = len(answers)
    return Row(
        task=task.name,
        classes=len(task.classes),
        train=report.pictures,
        test=n,
        seconds=round(report.seconds["total"], 3),
        bytes=report.bytes,
        oracle=oracle,
        mapper=sum(found) / n,
        joint=sum(joint) / n,
        right=sum(right) / n,
        unknown=sum(unknown) / n,
        wrong=(n - sum(right) - sum(unknown)) / n,
    )


def _stranger(task: TaskPictures, answers: Sequence[Prediction]) -> Unseen:
    claimed = [str(a.task) for a in answers if a.unknown is None]
    n = len(answers)
    counts = {name: claimed.count(name) for name in sorted(set(claimed))}
    return Unseen(task.name, n, (n - len(claimed)) / n, len(claimed) / n, counts)


def _keep(home: Path, tasks: Sequence[TaskPictures], answers: Sequence[Sequence[Prediction]], known: int) -> list[Example]:
    """Write two test pictures of each task into home/pictures: a typical one, and a miss where there is one.

    known: how many of `tasks`, the first, were learned; for the others "unknown" is right.
    """
    kept = []
    (home / "pictures").mkdir(parents=True, exist_ok=True)
    for t, (task, own) in enumerate(zip(tasks, answers, strict=True)):
        truth = [task.classes[label] for label in task.test_labels]
        good = [
            (a.task, a.label) == (task.name, label) if t < known else a.unknown is not None
            for a, label in zip(own, truth, strict=True)
        ]
        order = sorted(range(len(own)), key=lambda i: (not good[i], own[i].unknown is None))
        for number, i in enumerate((order[0], order[-1]), 1):
            path = home / "pictures" / f"{task.name}-{number}.png"
            Image.fromarray(task.test[i]).save(path)
            answer = dataclasses.replace(own[i], source=path.name)
            kept.append(Example(f"{task.name} / {truth[i]}", t < known, answer))
        if t >= known:  # so that it can be taught next
            _write_folder(home / "pictures" / "learn" / task.name, task)
    return kept


def _examples(kept: Sequence[Example]) -> list[Example]:
    """Of the known and of the unseen tasks each a right answer and, where there is one, a wrong one."""
    given = [e for e in kept if e.answer.unknown is None]
    right = [e for e in given if f"{e.answer.task} / {e.answer.label}" == e.truth]
    wrong = [e for e in given if e.known and e not in right]
    refused = [e for e in kept if e.answer.unknown and not e.known]
    claimed = [e for e in given if not e.known]
    return right[:1] + wrong[-1:] + refused[:1] + claimed[-1:]


def _write_folder(folder: Path, task: TaskPictures) -> None:
    """The training pictures as a folder per class, the way `edgecl learn` takes them."""
    for number, (picture, label) in enumerate(zip(task.train, task.train_labels, strict=True)):
        place = folder / task.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number:04}.png", compress_level=1)
