"""Teaching a task one labelled picture at a time: each is learned once, and every few are committed as a bundle.

    with device.teach("birds") as teaching:
        taught = teaching.observe("tit.jpg", "tit")   # what the head would have said, before it was told
                                                      # committed every 50 pictures or 30 s, on leaving, and on Ctrl-C
A commit writes the state first (see `teaching.state`), then puts the bundle in force in one transaction. Killed at any moment,
the device has its last commit, and the next teaching goes on from there, to the same bits once it is given again what was not
committed. A picture that it knows already by its bytes and label is not learned twice, so everything may be given again.

A teaching owns one generation, which each of its commits moves on (`HeadBank.put`, `instead_of`): in the history a teaching is
one step, which one rollback undoes, and the bank does not grow with every fifty pictures. The state behind the generation that
it began with is kept too, so that after a rollback learning goes on from exactly what was known then.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgecl import learning
from edgecl.collisions import per_class
from edgecl.errors import BankError, BundleError, ConfigError, DataError, EdgeclError, Reason
from edgecl.importing import OPINION
from edgecl.learning import MIN_PER_CLASS, Fitted, LearnReport
from edgecl.mapping import sketch
from edgecl.metrics.accuracy import softmax
from edgecl.pictures.decode import decode, read
from edgecl.pictures.folders import MAX_CLASSES, class_name
from edgecl.pictures.reading import Progress, digest_of, silent
from edgecl.sharing.bundle import Bundle
from edgecl.teaching.base import Pupil, Taught, lineage, mark_of, ready, uninterrupted
from edgecl.teaching.state import State, TaskFolder, name_of
from edgecl.text import printable
from edgecl.types import Arrays, Floats, Task

MOST_REMEMBERED = 1 << 18  # pictures that are known again, the newest: 2 MB of state


class Teaching:
    """One task being taught, from `with` to its end. Not safe for several threads."""

    def __init__(
        self,
        pupil: Pupil,
        task: str,
        method: str,
        every: int | None,
        seconds: float | None,
        seed: int,
        max_bytes: int | None,
    ) -> None:
        """every, seconds: pictures or time after which what is new is committed; None: only on leaving, or when asked to."""
        if (every is not None and every < 1) or (seconds is not None and not seconds > 0):
            raise ConfigError(
                f"'{task}': a commit comes every 1 or more pictures and after more than 0 s, not {every}, {seconds}"
            )
        if max_bytes is not None and not max_bytes > 0:
            raise ConfigError(f"'{task}': max_bytes must be above 0, got {max_bytes}")
        self.task, self.method = task, method
        self._pupil, self._every, self._seconds, self._max_bytes = pupil, every, seconds, max_bytes
        self._module = learning.learner_on(method)
        self._config = learning.settings(method, seed=seed, false_reject=pupil.config.class_false_reject)
        self._folder = TaskFolder(pupil.folder / task)
        self._held = contextlib.ExitStack()
        self._memory: Any = None
        self._whole = False  # the memory is not in the middle of a picture
        self._stuck = False  # the last commit failed
        self._pending = 0  # pictures that are neither in the bank nor in the state
        self._since = 0.0  # when the first of them came
        self.waiting = ""
        self._count = 0  # pictures learned in this teaching
        self._own: int | None = None  # the generation of this teaching, once there is one

    # -- from the beginning to the end

    def __enter__(self) -> Teaching:
        self._held.enter_context(self._folder.locked(self.task))
        try:
            self._open()
        except BaseException:
            self._held.close()
            raise
        return self

    def _open(self) -> None:
        bank, name = self._pupil.bank, self.task
        self._here = bank.current().get(name)
        if bank.actions().get(name) == OPINION:
            raise BankError(f"'{name}' is the name of a second opinion here; teach the task that it is on")
        bundle = self._pupil.bundle(self._here) if self._here else None
        if bundle is not None:
            bundle.head.require_rom(self._pupil.rom.rom_id, name)
            bundle.require_width(self._pupil.rom.width)
            if why := self._pupil.why_barred(bundle):
                raise BundleError(f"'{name}' is not taught on: {why}. Roll back, or learn it afresh", Reason.REVOKED)
        self._head = None if bundle is None else ready(bundle.head)
        self._anchors: dict[str, Arrays] = {} if bundle is None else dict(bundle.anchors)
        self._lineage = {} if bundle is None else lineage(bundle, self._pupil.own_key)
        self._base = self._state = name_of(bundle)
        self._known: dict[int, None] = {}
        state = self._folder.read(self._state)
        if state is None or not self._resume(state):
            self._begin(bundle)
        self._whole = True

    def _resume(self, state: State) -> bool:
        if (state.method, state.rom_id) != (self.method, self._pupil.rom.rom_id):
            return False
        width = self._pupil.rom.width
        try:  # it was written by this device, but perhaps by another version
            config = self._module.Config(**{**state.settings, "false_reject": self._pupil.config.class_false_reject})
            self._memory = self._module.Memory.resume(width, config, state.classes, state.arrays)
        except (EdgeclError, TypeError, ValueError, KeyError, IndexError):
            return False
        self._config, self._known = config, dict.fromkeys(state.taught.tolist())
        return True

    def _begin(self, bundle: Bundle | None) -> None:
        width = self._pupil.rom.width
        if bundle is None:
            if self._folder.has(self._state):
                self._pupil.say(f"'{self.task}': the state of what was waiting here cannot be gone on from; it begins anew")
            self._memory = self._module.Memory(width, self._config)
            return
        counts = per_class(bundle)
        if counts is None:  # a bundle need not say; few, so that what is taught now soon weighs more
            counts = np.full(len(bundle.head.classes), MIN_PER_CLASS, np.int64)
        anchor = bundle.anchor("mahalanobis")
        self._memory = self._module.Memory.continued(width, self._config, bundle.head, anchor, counts)
        self._pupil.say(
            f"'{self.task}': no teaching's state lies behind this head, learned by {printable(bundle.head.method, 40)}; it "
            f"goes on from the head and its anchor, and does not know pictures again that it has learned"
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        failed = error
        try:
            if not self._whole:
                self._pupil.say(f"'{self.task}': a picture was learned in part only; {self._lost()}")
            elif not (self._stuck and kind):  # what made a commit fail would make it fail again
                self.commit()
        except EdgeclError as again:
            failed = again
            raise
        finally:
            if self._whole and self._pending and self._lost() not in str(failed):
                self._pupil.say(f"'{self.task}': {self._lost()}")
            self._held.close()
            self._memory = None

    # -- pictures

    @property
    def classes(self) -> tuple[str, ...]:
        """Known so far."""
        return tuple(self._memory.classes)

    @property
    def generation(self) -> int | None:
        """That this teaching has put in force; None before its first commit."""
        return self._own

    def observe(self, picture: Any, label: str) -> Taught:
        """Learn one picture (a path, encoded bytes, a PIL image or a uint8 array), and commit where it is time.

        Raises PictureError or DataError for a picture or label that cannot be learned: nothing has changed then. BankError and
        its kin when a commit fails: the picture is learned all the same, and the next commit has it.
        """
        name = self._class(label)
        data = read(picture) if isinstance(picture, (str, Path)) else picture
        mark = mark_of(digest_of(data), name) if isinstance(data, (bytes, np.ndarray)) else None
        if mark in self._known:
            return self._taught(name, None, 0.0, known=True)
        pixels = decode(data, self._pupil.rom.preprocess, name=picture if isinstance(picture, (str, Path)) else None)
        return self.observe_features(self._pupil.rom.features(pixels[None])[0], name, mark)

    def observe_features(self, x: Floats, label: str, mark: int | None = None) -> Taught:
        """`observe` for the plain features (d,) of this device's ROM. mark: of the picture, by `mark_of`, to know it again."""
        name = self._class(label)
        if x.shape != (self._pupil.rom.width,) or not np.isfinite(x).all():
            raise DataError(f"'{self.task}': a picture has {self._pupil.rom.width} finite features, got {x.dtype} {x.shape}")
        if mark is not None and mark in self._known:
            return self._taught(name, None, 0.0, known=True)
        answer, sure = self._answer(x)
        with uninterrupted():
            self._whole = False
            try:
                self._memory.observe(x, name)
            except DataError:  # it was refused before anything changed
                self._whole = True
                raise
            self._whole = True
            if not self._pending:
                self._since = self._pupil.stopwatch()
            self._pending += 1
            self._count += 1
            if mark is not None:
                self._known[mark] = None
                if len(self._known) > MOST_REMEMBERED:
                    del self._known[next(iter(self._known))]
        self.commit_if_due()
        return self._taught(name, answer, sure, known=False)

    def learn(self, task: Task, seed: int, skipped: int = 0, progress: Progress = silent) -> LearnReport:
        """Learn all of a task at once, in an order drawn by the seed, and commit it.

        Raises DataError or EmptyTask, before anything is learned, where a head could not be made of it and what is known.
        """
        counts = self._counts()
        for label in task.labels:
            counts[task.classes[label]] = counts.get(task.classes[label], 0) + 1
        if self._lacks(counts):
            learning.check_learnable(self.task, tuple(counts), np.repeat(np.arange(len(counts)), list(counts.values())))
        for at, i in enumerate(np.random.default_rng(seed).permutation(len(task)), 1):
            label = task.classes[task.labels[i]]
            mark = mark_of(task.digests[i], label) if task.digests and task.digests[i] else None
            self.observe_features(task.features[i], label, mark)
            progress("learning the head", at, len(task) + 1)
        report = self.commit(even_if_unchanged=True, skipped=skipped)
        assert report is not None
        progress("learning the head", len(task) + 1, len(task) + 1)
        return report

    def _class(self, label: str) -> str:
        """The class that a label names, if it can be taught now."""
        if self._memory is None or not self._whole:
            raise BankError(f"'{self.task}': this teaching has ended; begin another")
        name = class_name(label, "the label")
        if len(self._memory.classes) >= MAX_CLASSES and name not in self._memory.classes:
            raise DataError(f"'{self.task}' has {MAX_CLASSES} classes, and takes no more; split it up")
        return name

    def _answer(self, x: Floats) -> tuple[str | None, float]:
        if self._head is None:
            return None, 0.0
        (probabilities,) = softmax(self._head.scores(x[None]))
        best = int(probabilities.argmax())
        return self._head.classes[best], float(probabilities[best])

    def _taught(self, label: str, answer: str | None, sure: float, known: bool) -> Taught:
        committed = not self._pending and not self.waiting
        return Taught(label, answer, sure, known, committed, self.waiting, self._own if committed else None)

    # -- commits

    def commit_if_due(self) -> LearnReport | None:
        """`commit`, if enough pictures or seconds have gone by; for a loop that waits for pictures."""
        if not self._pending:
            return None
        late = self._seconds is not None and self._pupil.stopwatch() - self._since >= self._seconds
        return self.commit() if late or (self._every is not None and self._pending >= self._every) else None

    def commit(self, even_if_unchanged: bool = False, skipped: int = 0) -> LearnReport | None:
        """Put what was taught in force; None where nothing is new, or where it only goes into the state: see `Taught.waiting`.

        skipped: pictures that could not be learned, for the report. Raises BankFull, BankReadOnly, BankBusy, or BankError when
        another process has changed the task meanwhile; ConfigError when the bundle has more than `max_bytes`. The bank is then
        as it was.
        """
        if not self._pending and not even_if_unchanged:
            return None
        with uninterrupted():
            self._stuck = True
            try:
                report = self._commit(skipped)
            except ConfigError:  # its bundle may not be as large as it is: the next teaching, told otherwise, goes on from here
                self._folder.write(self._state, self._frozen())
                self._pending = 0
                raise
            self._stuck, self._pending = False, 0
        return report

    def _commit(self, skipped: int) -> LearnReport | None:
        rom, clock, memory = self._pupil.rom, self._pupil.stopwatch, self._memory
        reason = self._lacks(self._counts())
        if reason:
            self._require_same()
            self._folder.write(self._state, self._frozen())
            if reason != self.waiting:
                self._pupil.say(f"'{self.task}' waits for {reason}; what was taught is kept until then")
            self.waiting = reason
            return None
        started = clock()
        x, y = memory.sample()
        sample = Task(self.task, self.classes, x, y)
        with threadpool_limits(1, "blas"):
            anchors = learning.make_anchors(
                sample, (self._pupil.config.mapper,), self._pupil.config.false_reject, self._config.seed
            )
            if memory.made_up:  # they lie nearer than pictures do: a limit that those of the head in force had stays
                anchors = {name: _with_limit(anchor, self._anchors.get(name, {})) for name, anchor in anchors.items()}
            anchored = clock()
            learned = memory.learned(rom.rom_id, self._most_keys(sample, anchors))
        seconds = {"head": clock() - anchored, "anchors": anchored - started}
        more = {"skipped": skipped, "seconds": {part: round(value, 3) for part, value in seconds.items()}}
        provenance = learning.origin(rom, self.method, self._config, self.classes, memory.counts) | self._lineage
        bundle = Bundle(self.task, learned.head, anchors, {**learned.report, **more}, provenance)
        fitted = Fitted(
            bundle=bundle,
            sketch=sketch.draw(x, y, self._config.seed),
            skipped=(),
            warnings=(),
            pictures=self._count,
            seconds=seconds,
            ran_on=f"{rom.runtime} {rom.provider}",
        )
        new = name_of(bundle)
        self._folder.write(new, self._frozen())
        try:
            report = self._pupil.keep(fitted, self._max_bytes, require=self._require_same, instead_of=self._own)
        except BaseException:
            self._folder.drop(new)
            raise
        self._state, self._here, self._own, self.waiting = new, report.digest, report.generation, ""
        self._head, self._anchors = ready(learned.head), dict(anchors)
        self._folder.keep(new, self._base)
        return report

    def _most_keys(self, sample: Task, anchors: dict[str, Arrays]) -> int | None:
        """Keys of a class for which there is room in the bundle; None: for all. Raises ConfigError where there is none."""
        if self._max_bytes is None:
            return None
        left = self._max_bytes - learning.anchor_bytes(anchors) - learning.card_bytes(sample)
        most: int = self._module.keys_within(left, self.task, len(sample.classes), self._pupil.rom.width)
        return most

    @staticmethod
    def _lacks(counts: dict[str, int]) -> str:
        """What a head of classes with that many pictures would still need, in words; "" for nothing.

        Two classes that can be told apart and judged; a further one may begin with a single picture.
        """
        if len(counts) < 2:
            return "a second class"
        if sum(n >= MIN_PER_CLASS for n in counts.values()) < 2:
            return f"{MIN_PER_CLASS} pictures in each of two classes"
        return ""

    def _counts(self) -> dict[str, int]:
        return {name: int(n) for name, n in zip(self._memory.classes, self._memory.counts, strict=True)}

    def _frozen(self) -> State:
        taught = np.fromiter(self._known, np.int64, len(self._known))
        settings, memory = dataclasses.asdict(self._config), self._memory
        return State(self.method, self._pupil.rom.rom_id, settings, memory.classes, memory.state(), taught)

    def _require_same(self) -> None:
        if self._pupil.bank.current().get(self.task) != self._here:
            raise BankError(f"'{self.task}' was changed by another process meanwhile; {self._lost()}")

    def _lost(self) -> str:
        return f"the last {self._pending} pictures are not kept. Begin again, and teach them again"


def _with_limit(anchor: Arrays, before: Arrays) -> Arrays:
    """The anchor, with the looser limit of the two where both have one."""
    if "limit" not in anchor or "limit" not in before:
        return anchor
    return {**anchor, "limit": np.maximum(anchor["limit"], before["limit"])}
