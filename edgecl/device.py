"""One edge device: a ROM, a bank of heads, and a mapper that finds the head for a picture.

device = EdgeDevice()
device.learn("birds", "path/to/birds")
for answer in device.infer(["image.jpg"]):
    print(answer.task, answer.label, answer.confidence)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl import collisions, learning, registry
from edgecl import config as configuration
from edgecl.bank.bank import Generation, HeadBank
from edgecl.bank.disk import Disk
from edgecl.collisions import Known
from edgecl.errors import (
    BankCorrupt,
    BankError,
    BundleError,
    ConfigError,
    DataError,
    EdgeclError,
    PictureError,
    Reason,
    RomError,
)
from edgecl.heads.base import MOST_BELOW, Base, Head, Session
from edgecl.heads.parts.checkpoint import forget
from edgecl.importing import OPINION, Imported, Receiver, Wishes, take_in
from edgecl.learning import Fitted, LearnReport
from edgecl.mapping import sketch
from edgecl.mapping.base import Mapper
from edgecl.merging import merge
from edgecl.metrics.accuracy import softmax
from edgecl.pictures.decode import open_regular
from edgecl.pictures.folders import duplicates, scan
from edgecl.pictures.reading import Progress, batches, read_features, silent
from edgecl.rom.base import Rom
from edgecl.rom.feature_cache import FeatureCache
from edgecl.rom.opening import open_rom, rom_folder
from edgecl.sharing.bases import stand
from edgecl.sharing.bundle import MAX_BYTES, Bundle, from_bytes
from edgecl.sharing.bundle import digest as bundle_digest
from edgecl.sharing.trust_store import TrustStore
from edgecl.teaching.base import Pupil
from edgecl.teaching.session import Teaching
from edgecl.teaching.state import sweep
from edgecl.text import printable
from edgecl.types import Floats, Ints, Opinion, Pixels, Prediction, Task, task_name

TOP = 3  # classes named in an answer


class EdgeDevice:
    """Learns, keeps and answers. Safe against power cuts at any moment; several processes may use the same home."""

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        rom: str | Path | Rom | None = None,
        cache: str | Path | None = None,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.perf_counter,
        disk: Disk | None = None,
        **overrides: Any,
    ) -> None:
        """home: folder of the device; None takes $EDGECL_HOME, then the platform's place.   rom: ROM image; None takes the
        configured one, else the default, made on first need. An open one is shared with whoever opened it, and left open.
        cache: folder for what can be computed again.   say: takes progress lines.   clock: of the notes in the bank.
        stopwatch: of the seconds in reports.   disk: what the bank lies on; None: the operating system's.
        overrides: fields of `DeviceConfig` that go before `config.toml`.
        """
        shared = rom if isinstance(rom, Rom) else None
        path = shared.image.folder if shared else rom
        self.home = configuration.home(home)
        self.config = configuration.load(self.home, {**overrides, "rom": str(path) if path else None})
        self.cache = Path(cache) if cache else self.home / "cache"
        self.bank = HeadBank(self.home / "bank.sqlite", clock, disk=disk)
        self.trust = TrustStore(self.home, self.bank, say)
        self._say, self._stopwatch = say, stopwatch
        self._rom, self._shared = shared, shared is not None
        self._seen: tuple[tuple[int, int], object] | None = None
        self._bundles: dict[str, Bundle] = {}  # by digest, those in force
        self._tasks: dict[str, str] = {}  # task -> digest, those in force and of this ROM
        self._opinions: dict[str, str] = {}  # name -> digest of the second opinions, likewise
        self._mapper: Mapper | None = None
        self._left_out = 0  # tasks in force that cannot serve here

    # -- the ROM

    @property
    def rom(self) -> Rom:
        """The backbone on the configured runtime, opened on first use."""
        if self._rom is None:
            c = self.config
            folder = rom_folder(c.rom, self.home, self._say)
            self._rom = open_rom(folder, c.runtime, c.device, c.threads, self.cache / "sessions", c.session_cache_mb)
        return self._rom

    # -- learning

    def learn(
        self,
        task: str,
        data: str | Path | None = None,
        *,
        method: str = "linear",
        recipe: str = "default",
        seed: int = 0,
        sockets: str | None = None,
        budget: float | None = None,
        max_bytes: int | None = None,
        resume: bool = False,
        goal: float | None = None,
        over: str | None = None,
        progress: Progress = silent,
    ) -> LearnReport:
        """Learn `task` from a folder per class, a folder with train/ inside, or a CSV; a known name makes a new generation.

        Pictures that cannot be read are named in the report and left out. Raises DataError or EmptyTask when what remains
        cannot be learned from; the bank is then as it was.
        """
        name = task_name(task)
        files = scan(self._find(name) if data is None else Path(data))
        return self.learn_pictures(
            name,
            files.files,
            files.labels,
            files.classes,
            method=method,
            recipe=recipe,
            seed=seed,
            sockets=sockets,
            budget=budget,
            max_bytes=max_bytes,
            resume=resume,
            goal=goal,
            over=over,
            notes=files.notes,
            progress=progress,
        )

    def learn_pictures(
        self,
        task: str,
        pictures: Sequence[Any],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        max_bytes: int | None = None,
        progress: Progress = silent,
        **how: Any,
    ) -> LearnReport:
        """Learn from pictures at hand and put what was learned in force: `fit_pictures`, with all that it takes, and `keep`.

        A method that learns on picture by picture goes through them once, in an order drawn by the seed, from where the head in
        force was: classes are added, and pictures that it knows already are left out.
        """
        if learning.learns_on(how.get("method", "linear")):
            return self._learn_on(task, pictures, labels, classes, max_bytes=max_bytes, progress=progress, **how)
        fitted = self.fit_pictures(task, pictures, labels, classes, max_bytes=max_bytes, progress=progress, **how)
        report = self.keep(fitted, max_bytes)
        progress("learning the head", 1, 1)
        return report

    def _learn_on(
        self,
        task: str,
        pictures: Sequence[Any],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        method: str,
        seed: int = 0,
        budget: float | None = None,
        max_bytes: int | None = None,
        resume: bool = False,
        notes: Sequence[str] = (),
        progress: Progress = silent,
        **settings: Any,
    ) -> LearnReport:
        """`learn_pictures` for a method that learns on. resume: it does so anyway.   settings: refused where it lacks them."""
        name, known = task_name(task), tuple(classes)
        all_labels = _checked_labels(name, pictures, labels, known)
        _ = learning.settings(method, seed=seed, **settings)
        if budget is not None:
            raise ConfigError(f"'{name}': a {method} head is learned in one pass, which takes no budget; leave it out")
        found, seconds, skipped, warnings = self._look(name, pictures, all_labels, known, notes, progress)
        with self.teach(name, method=method, every=None, seconds=None, seed=seed, max_bytes=max_bytes) as teaching:
            report = teaching.learn(found, seed, len(skipped), progress)
        spent = {**report.seconds, **seconds, "total": report.seconds["total"] + sum(seconds.values())}
        again = len(found) - report.pictures
        more = [f"{again} pictures were learned before; each is learned once"] if again else []
        return dataclasses.replace(report, seconds=spent, skipped=skipped, warnings=(*warnings, *more))

    def teach(
        self,
        task: str,
        *,
        method: str = "memory",
        every: int | None = 50,
        seconds: float | None = 30.0,
        seed: int = 0,
        max_bytes: int | None = None,
    ) -> Teaching:
        """`task` taught picture by picture, in a `with`; a task that is not known begins. See `edgecl.teaching.session`.

        every, seconds: pictures or time, by `stopwatch`, after which what is new is committed; None: only at the end.
        max_bytes: of the bundle, which then has fewer keys.   seed: of a memory that begins.
        """
        _ = self.trust.signer  # a key that cannot be used is better known now than at the first commit
        pupil = Pupil(
            folder=self.home / "teaching",
            bank=self.bank,
            rom=self.rom,
            config=self.config,
            own_key=self.trust.own_key,
            bundle=self.bundle,
            why_barred=self.trust.barred(),
            keep=self._keep,
            say=self._say,
            stopwatch=self._stopwatch,
        )
        return Teaching(pupil, task_name(task), method, every, seconds, seed, max_bytes)

    def gc(self, keep: int = 1) -> int:
        """`HeadBank.gc`, and with the bundles the states of teachings that led to them; returns the bytes of both."""
        return self.bank.gc(keep) + sweep(self.home / "teaching", self.bank)

    def fit_pictures(
        self,
        task: str,
        pictures: Sequence[Any],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        method: str = "linear",
        recipe: str = "default",
        seed: int = 0,
        sockets: str | None = None,
        budget: float | None = None,
        max_bytes: int | None = None,
        resume: bool = False,
        goal: float | None = None,
        over: str | None = None,
        notes: Sequence[str] = (),
        progress: Progress = silent,
    ) -> Fitted:
        """Learn, and leave the bank as it is, from pictures at hand: paths, encoded bytes, PIL images or uint8 arrays.

        labels: picture i is of classes[labels[i]].   sockets: for methods with plugs, where they may act: all, last:N or deep.
        goal: for cpg, the accuracy on held-out pictures that the smallest head shall meet, 0..1.
        over: for cpg, the task whose own weights, and those of the heads that one stands on, may be picked too.
        budget: seconds, of the whole; max_bytes: of the bundle; both are kept, or refused with ConfigError before the head is
        learned.   resume: go on with a learning that was cut off; to the same bits, as long as pictures and settings are the
        same.
        """
        name, known = task_name(task), tuple(classes)
        all_labels = _checked_labels(name, pictures, labels, known)
        learning.check_learnable(name, known, all_labels)
        base, chain = (None, None) if over is None else self._base(name, over)
        config = learning.settings(
            method,
            recipe=recipe,
            seed=seed,
            sockets=sockets,
            goal=goal,
            over=chain,
            false_reject=self.config.class_false_reject,
        )
        if (budget is not None and not budget > 0) or (max_bytes is not None and not max_bytes > 0):
            raise ConfigError(f"'{name}': budget and max_bytes must be above 0, got {budget} s and {max_bytes} bytes")
        _ = self.trust.signer  # a key that cannot be used is better known now than after the learning
        seen, seconds, skipped, warnings = self._look(name, pictures, all_labels, known, notes, progress)
        learning.check_learnable(name, known, seen.labels)
        session = Session(
            progress=progress,
            say=self._say,
            budget=None if budget is None else budget - seconds["reading"],
            checkpoint=self._checkpoint(name),
            resume=resume,
            clock=self._stopwatch,
        )
        fitted = self._fit(seen, method, config, session, max_bytes, seconds, len(skipped), base)
        return dataclasses.replace(fitted, skipped=skipped, warnings=warnings)

    def _base(self, name: str, over: str) -> tuple[Head, tuple[Base, ...]]:
        """The head that `name` shall stand on, and all that this one stands on with it, bottom first."""
        head, bottom = self.head(over), task_name(over)
        digest = self._opinions.get(bottom) or self._tasks[bottom]
        chain = (*head.over, Base(self._bundles[digest].task, head.method, digest))
        if name in {base.task for base in chain}:
            raise ConfigError(f"'{name}' would stand on itself; learn it over another task, or over the ROM alone")
        if len(chain) > MOST_BELOW:
            raise ConfigError(f"'{name}' would stand on {len(chain)} heads, accepted are {MOST_BELOW}; choose a lower one")
        return head, chain

    def _look(
        self,
        name: str,
        pictures: Sequence[Any],
        labels: Ints,
        classes: tuple[str, ...],
        notes: Sequence[str],
        progress: Progress,
    ) -> tuple[Task, dict[str, float], tuple[str, ...], tuple[str, ...]]:
        """The pictures that can be read, each once; the seconds of it; why others were skipped; and warnings."""
        rom = self.rom  # making or opening it is no part of the learning, nor of its seconds
        started = self._stopwatch()
        cache = self.feature_cache()
        try:
            reading = read_features(rom, pictures, cache, progress)
        finally:
            if cache:
                cache.close()
        seconds = {"reading": self._stopwatch() - started}
        skipped = tuple(str(error) for _, error in sorted(reading.failures.items()))
        warnings = [*notes, *(f"skipped: {line}" for line in skipped)]
        warnings += duplicates(reading.digests, labels[reading.kept], classes)
        reading, twice = reading.without_repetitions(labels)
        if twice:
            warnings.append(f"{twice} pictures are repetitions within their class; each picture is used once")
        found = tuple(pictures[i] for i in reading.kept)
        seen = Task(name, classes, reading.features, labels[reading.kept], found, reading.digests)
        return seen, seconds, skipped, tuple(warnings)

    def learn_features(
        self,
        task: Task,
        *,
        method: str = "linear",
        recipe: str = "default",
        seed: int = 0,
        max_bytes: int | None = None,
        progress: Progress = silent,
    ) -> LearnReport:
        """Learn from plain features of this device's ROM that are at hand; otherwise the same as `learn_pictures`.

        Methods that look again read `task.pictures`. Raises DataError for features of another width, or not finite.
        """
        name, labels = task_name(task.name), _checked_labels(task.name, task.labels, task.labels, task.classes)
        if not learning.learns_on(method):
            learning.check_learnable(name, task.classes, labels)
        if task.features.shape != (len(labels), self.rom.width) or not np.isfinite(task.features).all():
            raise DataError(
                f"'{name}': {len(labels)} pictures need as many rows of {self.rom.width} finite features, as this device's ROM "
                f"gives; got {task.features.dtype} {task.features.shape}. Read them with this ROM"
            )
        if max_bytes is not None and not max_bytes > 0:
            raise ConfigError(f"'{name}': max_bytes must be above 0, got {max_bytes}")
        config = learning.settings(method, recipe=recipe, seed=seed, false_reject=self.config.class_false_reject)
        _ = self.trust.signer
        session = Session(progress=progress, say=self._say, checkpoint=self._checkpoint(name), clock=self._stopwatch)
        sound = dataclasses.replace(task, name=name, features=task.features.astype(np.float32, copy=False), labels=labels)
        if learning.learns_on(method):
            with self.teach(name, method=method, every=None, seconds=None, seed=seed, max_bytes=max_bytes) as teaching:
                return teaching.learn(sound, seed, 0, progress)
        report = self.keep(self._fit(sound, method, config, session, max_bytes, {}, 0), max_bytes)
        progress("learning the head", 1, 1)
        return report

    def _fit(
        self,
        task: Task,
        method: str,
        config: Any,
        session: Session,
        max_bytes: int | None,
        spent: Mapping[str, float],
        skipped: int,
        previous: Head | None = None,
    ) -> Fitted:
        """From features to an unsigned bundle. spent: seconds before this.   skipped: pictures that are not in it."""
        rom = self.rom
        session.progress("learning the head", 0, 1)
        bundle, _, seconds = learning.fit(
            task,
            rom,
            method,
            config,
            self.config.false_reject,
            (self.config.mapper,),
            previous,
            session=session,
            max_bytes=max_bytes,
            clock=self._stopwatch,
        )
        seconds = {**spent, **seconds}
        rounded = {part: round(value, 3) for part, value in seconds.items()}
        return Fitted(
            bundle=dataclasses.replace(bundle, report={**bundle.report, "skipped": skipped, "seconds": rounded}),
            sketch=sketch.draw(task.features, task.labels, config.seed),
            skipped=(),
            warnings=(),
            pictures=len(task),
            seconds=seconds,
            ran_on=f"{rom.runtime} {rom.provider}",
        )

    def keep(self, fitted: Fitted, max_bytes: int | None = None) -> LearnReport:
        """Sign what was learned, here or in another process on the same ROM, and put it in force: a new generation.

        Raises ConfigError when the bundle has more than `max_bytes`, RomMismatch when it is of another ROM.
        """
        report = self._keep(fitted, max_bytes)
        forget(self._checkpoint(report.task))  # only now: a power cut before the commit loses no epoch
        return report

    def _keep(
        self,
        fitted: Fitted,
        max_bytes: int | None,
        require: Callable[[], None] = lambda: None,
        instead_of: int | None = None,
    ) -> LearnReport:
        """`keep` for what has no checkpoint. require, instead_of: as for `HeadBank.put`."""
        started = self._stopwatch()
        name = fitted.bundle.task
        fitted.bundle.head.require_rom(self.rom.rom_id, name)
        bundle = self.trust.sign(fitted.bundle)
        data = bundle.to_bytes()
        if max_bytes is not None and len(data) > max_bytes:
            raise ConfigError(
                f"'{name}': the bundle has {len(data):,} bytes, accepted are {max_bytes:,}; it is not kept. Allow "
                f"that many, or learn a smaller head"
            )
        below = dict.fromkeys(base.digest for base in bundle.head.over)
        there = self.bank.put(
            name, data, "learn", bundle.mark, require, sketch=fitted.sketch, instead_of=instead_of, below=below
        )
        commit = self._stopwatch() - started
        return LearnReport(
            task=name,
            method=bundle.head.method,
            generation=there.number,
            digest=there.digest,
            classes=bundle.head.classes,
            pictures=fitted.pictures,
            skipped=fitted.skipped,
            warnings=fitted.warnings,
            validation_accuracy=float(bundle.report["validation_accuracy"]),
            seconds={**fitted.seconds, "commit": commit, "total": sum(fitted.seconds.values()) + commit},
            bytes=len(data),
            ran_on=fitted.ran_on,
        )

    def _checkpoint(self, name: str) -> Path:
        return self.home / "learning" / f"{name}.safetensors"

    def _find(self, task: str) -> Path:
        places = [Path(task)] + ([Path(self.config.data_root).expanduser() / task] if self.config.data_root else [])
        for place in places:
            if place.exists():
                return place
        looked = " and ".join(str(place.absolute()) for place in places)
        raise DataError(
            f"no pictures for '{task}': looked for {looked}. Say where they are with --data, or set data_root in "
            f"{self.home / 'config.toml'}"
        )

    def feature_cache(self) -> FeatureCache | None:
        """The cache of plain features for this ROM and runtime, or None where the configuration wants none; close it."""
        if not self.config.feature_cache_mb:
            return None
        key = f"{self.rom.rom_id}/{self.rom.runtime}/{self.rom.provider}"
        return FeatureCache(self.cache / "features.sqlite", key, self.rom.width, self.config.feature_cache_mb << 20)

    # -- answering

    def infer(self, pictures: Iterable[Any], task: str | None = None, opinions: bool = False) -> list[Prediction]:
        """An answer for each picture (paths, encoded bytes, PIL images or uint8 arrays), in order.

        task: known in advance; the mapper is then not asked. A picture that cannot be read has `error` set.
        opinions: also say what the second opinions on the answer's task say.
        """
        return list(self.stream(pictures, task, opinions=opinions))

    def stream(
        self, pictures: Iterable[Any], task: str | None = None, live: bool = False, opinions: bool = False
    ) -> Iterator[Prediction]:
        """`infer` for any number of pictures: reads, decodes and answers a batch at a time.

        live: each picture as it arrives, for a source that has no end or is slow.
        """
        for batch in batches(self.rom, pictures, live):
            good = [pixels for _, pixels in batch if not isinstance(pixels, PictureError)]
            answers = iter(self.answer(good, task, opinions) if good else [])
            for source, pixels in batch:
                name = str(source) if isinstance(source, (str, Path)) else getattr(source, "source", type(source).__name__)
                if isinstance(pixels, PictureError):
                    yield Prediction(name, error=str(pixels))
                else:
                    yield dataclasses.replace(next(answers), source=name)

    def answer(self, pixels: Sequence[Pixels] | Pixels, task: str | None = None, opinions: bool = False) -> list[Prediction]:
        """Answers for decoded pictures (n, s, s, 3) uint8: one pass of the ROM, one of the mapper, one of each head used.

        Pictures whose heads have plugs take a second pass, all of them in one call, whatever their tasks.
        """
        features = self.rom.features(pixels)
        answers = self.answer_features(features, task, pixels)
        return self._with_opinions(answers, features, pixels) if opinions else answers

    def _with_opinions(
        self, answers: Sequence[Prediction], features: Floats, pixels: Sequence[Pixels] | Pixels | None
    ) -> list[Prediction]:
        """The answers, each with what the second opinions on its task say; one more pass for all of those with plugs."""
        found: list[list[Opinion]] = [[] for _ in answers]
        asked = [
            (name, self._bundles[digest].head, np.flatnonzero([a.nearest_task == self._bundles[digest].task for a in answers]))
            for name, digest in sorted(self._opinions.items())
        ]
        scored = self._scores([(head, rows) for _, head, rows in asked], features, pixels)
        for (name, head, rows), scores in zip(asked, scored, strict=True):
            probabilities, known = softmax(scores), head.knows(scores)
            for row, p, is_known in zip(rows, probabilities, known, strict=True):
                best = int(p.argmax())
                found[row].append((name, head.classes[best] if is_known else None, float(p[best])))
        return [dataclasses.replace(a, opinions=tuple(said)) for a, said in zip(answers, found, strict=True)]

    def answer_features(
        self, features: Floats, task: str | None = None, pixels: Sequence[Pixels] | Pixels | None = None
    ) -> list[Prediction]:
        """Answers for plain ROM features (n, d); pixels: the pictures themselves, for heads that act inside the ROM."""
        mapper = self.mapper
        if task is not None:
            head = self.head(task)
            (scores,) = self._scores([(head, np.arange(len(features)))], features, pixels)
            return self._predictions(task, head, scores, np.zeros(len(features), np.float32), np.ones(len(features), np.bool_))
        if not self._tasks and self._left_out:
            raise BankError(f"none of the {self._left_out} tasks in the bank can serve here; edgecl heads verify says why")
        if not self._tasks:
            if problems := self.bank.verify():
                raise BankCorrupt(f"no task can be read from the bank: {problems[0]}; restore a copy, or learn again")
            raise DataError(
                f"this device has learned nothing on ROM {self.rom.rom_id[:12]} yet; edgecl learn --task NAME --data FOLDER"
            )
        assigned = mapper.assign(features)
        answers: list[Prediction | None] = [None] * len(features)
        names = [mapper.tasks[index] for index in np.unique(assigned.task)]
        groups = [np.flatnonzero(assigned.task == index) for index in np.unique(assigned.task)]
        heads = [self._bundles[self._tasks[name]].head for name in names]
        scored = self._scores(list(zip(heads, groups, strict=True)), features, pixels)
        for name, head, rows, scores in zip(names, heads, groups, scored, strict=True):
            found = self._predictions(name, head, scores, assigned.strangeness[rows], assigned.known[rows])
            for row, answer in zip(rows, found, strict=True):
                answers[row] = answer
        return [answer for answer in answers if answer is not None]

    def _scores(
        self, groups: Sequence[tuple[Head, Ints]], features: Floats, pixels: Sequence[Pixels] | Pixels | None
    ) -> list[Floats]:
        """Each head's scores of its rows of `features`; the rows of all heads with plugs take one more pass together."""
        again = [(head.plugs, rows) for head, rows in groups if head.plugs and len(rows)]
        plugged = np.zeros_like(features)
        if again:
            if pixels is None:
                raise RomError("a head that acts inside the ROM needs the pictures, not their features; ask `answer`")
            rows = np.concatenate([rows for _, rows in again])
            plugs = [p for p, own in again for _ in own]
            plugged[rows] = self.rom.features([pixels[i] for i in rows], plugs[0] if len(again) == 1 else plugs)
        return [head.scores(features[rows], plugged[rows] if head.plugs else None) for head, rows in groups]

    @staticmethod
    def _predictions(task: str, head: Head, scores: Floats, strange: Floats, known: NDArray[np.bool_]) -> list[Prediction]:
        probabilities, known_class = softmax(scores), head.knows(scores)
        answers = []
        for row, order in enumerate(np.argsort(-scores, axis=1, kind="stable")[:, :TOP]):
            unknown = "task" if not known[row] else "class" if not known_class[row] else None
            top = tuple((head.classes[i], float(probabilities[row, i])) for i in order)
            label, confidence = top[0]
            answers.append(
                Prediction(
                    source="",
                    task=None if unknown == "task" else task,
                    label=None if unknown else label,
                    confidence=confidence,
                    strangeness=float(strange[row]),
                    unknown=unknown,
                    nearest_task=task,
                    nearest_label=label,
                    top=top,
                )
            )
        return answers

    # -- what is known

    @property
    def mapper(self) -> Mapper:
        """The mapper over all tasks in force that were learned on this ROM."""
        self.refresh()
        assert self._mapper is not None
        return self._mapper

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks this device answers for, by name."""
        self.refresh()
        return tuple(sorted(self._tasks))

    @property
    def opinions(self) -> dict[str, str]:
        """Name -> task of the second opinions: heads that are asked beside the task's own, or by name."""
        self.refresh()
        return {name: self._bundles[digest].task for name, digest in sorted(self._opinions.items())}

    def head(self, task: str) -> Head:
        """The head in force. Raises UnknownTask, or RomMismatch when it belongs to another ROM."""
        self.refresh()
        name = task_name(task)
        if name in self._opinions:
            return self._bundles[self._opinions[name]].head
        if name not in self._tasks:
            from_bytes(self.export(name)).head.require_rom(self.rom.rom_id, name)
        return self._bundles[self._tasks[name]].head

    def bundle(self, digest: str) -> Bundle:
        """The bundle of that digest, read from the bank and checked."""
        return self._bundles.get(digest) or from_bytes(self.bank.get(digest))

    def refresh(self) -> None:
        """Take up what has changed in the bank since the last look, by this process or another."""
        version = self.bank.version(), self.trust.stamp()
        if version == self._seen:
            return
        rom_id = self.rom.rom_id
        if self._mapper is None:
            self._mapper = registry.load("mapper", registry.MAPPERS, self.config.mapper)(self.rom.width)
        mapper = self._mapper
        bundles: dict[str, Bundle] = {}
        here: dict[str, str] = {}
        barred = self.trust.barred()
        current, actions = self.bank.current(), self.bank.actions()
        opinions: dict[str, str] = {}
        for task, digest in current.items():
            try:  # one task that cannot serve must not silence the others
                bundle = self.bundle(digest)
                if why := barred(bundle):
                    raise BundleError(why, Reason.REVOKED)
                bundle.head.require_rom(rom_id, task)
                bundle = stand(bundle, self.rom, self.bank.get, barred)
                self.rom.require(bundle.head.plugs)
                if actions.get(task) == OPINION:
                    bundles[digest], opinions[task] = bundle, digest
                    continue
                if self._tasks.get(task) != digest:
                    mapper.add(task, bundle.anchor(mapper.name))
            except EdgeclError as error:
                self._say(f"'{task}' is left out: {printable(str(error), 600)}")
                continue
            bundles[digest], here[task] = bundle, digest
        for task in set(self._tasks) - set(here):
            mapper.remove(task)
        self._bundles, self._tasks, self._opinions, self._seen = bundles, here, opinions, version
        self._left_out = len(current) - len(here) - len(opinions)

    # -- heads as files

    def export(self, task: str) -> bytes:
        """The bundle in force, as it lies in the bank."""
        current = self.bank.current()
        name = task_name(task)
        if name not in current:
            raise self.bank.unknown(name)
        return self.bank.get(current[name])

    @property
    def quota(self) -> int | None:
        """Bytes that all bundles may take when one comes from elsewhere; None: no bound."""
        return self.config.heads_mb << 20 if self.config.heads_mb else None

    def import_file(self, path: str | Path, **wishes: Any) -> Generation:
        """`import_bundle` for a file, which is not read past the accepted size."""
        return self.import_bundle(read_bytes(path), **wishes)

    def import_bundle(self, data: bytes, **wishes: Any) -> Generation:
        """Check a bundle and who signed it, and put it in force. Raises BundleError or RomMismatch; the bank is then as it was.

        wishes: as for `import_bundles`.
        """
        (found,) = self.import_bundles([data], **wishes)
        if found.error is not None:
            raise found.error
        assert found.generation is not None
        return found.generation

    def import_bundles(
        self,
        bundles: Sequence[bytes],
        *,
        older: bool = False,
        unsigned: bool = False,
        replace: bool = False,
        anyway: bool = False,
        names: Mapping[str, str] = MappingProxyType({}),
        fetch: Callable[[str], bytes] | None = None,
    ) -> list[Imported]:
        """What becomes of each bundle: those that may be kept are put in force, in one transaction; the others stop none.

        older: a person wants it though a newer one of its signer is known.   unsigned: though nobody has signed it.
        replace: though it takes the place of another signer's head.   anyway: though it takes other tasks' pictures, above
        `collision_limit`.   names: digest -> name under which that bundle is kept as a second opinion, which finds no task.
        fetch: bytes, by digest, of what one of them stands on, where that is neither here nor among them.
        Raises BankError or ConfigError when nothing could be kept at all; the bank is then as it was.
        """
        return take_in(self.receiver(), bundles, Wishes(older, unsigned, replace, anyway, names), fetch)

    def receiver(self) -> Receiver:
        """This device as what takes bundles in."""
        limit = self.config.collision_limit
        return Receiver(self.bank, self.trust, self.rom, self.quota, limit, self._known_tasks, self.bundle, self.config.mapper)

    def _known_tasks(self) -> tuple[dict[str, Known], dict[str, tuple[str, ...]]]:
        """What collisions are checked against, and the classes, of each task that this device answers for."""
        self.refresh()
        found: dict[str, Known] = {}
        for task, digest in self._tasks.items():
            bundle = self._bundles[digest]
            if collisions.MAPPER not in bundle.anchors:
                continue
            maker = self.trust.newest_key(bundle.signer)
            try:
                found[task] = collisions.known(bundle, self.bank.sketch(digest), self.rom.width, maker, self.config.mapper)
            except BundleError as error:  # a sketch that cannot be read is as good as none
                self._say(f"'{task}': {error}")
                found[task] = collisions.known(bundle, None, self.rom.width, maker, self.config.mapper)
        return found, {task: self._bundles[digest].head.classes for task, digest in self._tasks.items()}

    def merge(self, task: str, other: Bundle) -> Generation:
        """Make one head of `task` and `other`, learned elsewhere from other pictures, sign it and put it in force.

        other: admitted or in the bank already. Raises BundleError where the two do not add up; nothing has then changed.
        """
        name = task_name(task)
        data = self.export(name)
        mine, barred = from_bytes(data), self.trust.barred()
        for one in (mine, other):
            one.head.require_rom(self.rom.rom_id, name)
            if why := barred(one):
                raise BundleError(f"'{name}' is not merged: {why}", Reason.REVOKED)
        here = bundle_digest(data)
        merged = self.trust.sign(merge(mine, other))

        def still() -> None:
            if self.bank.current().get(name) != here:
                raise BankError(f"'{name}' was changed by another process meanwhile; nothing was merged. Try again")

        return self.bank.put(name, merged.to_bytes(), "merge", merged.mark, still, sketch=self.bank.sketch(here))

    def read_bundle(self, data: bytes) -> Bundle:
        """A bundle from elsewhere, if it might be kept here; nothing is. Raises BundleError or RomMismatch."""
        bundle = self.trust.admit(data, self.receiver().standing())
        bundle.require_width(self.rom.width)
        return bundle

    def verify(self, task: str | None = None) -> list[str]:
        """Every problem found in the bank, or in one task of it, as sentences."""
        current = self.bank.current()
        if task is not None and task_name(task) not in current:
            raise self.bank.unknown(task_name(task))
        problems = self.bank.verify() if task is None else []
        for name, digest in current.items():
            if task in (None, name):
                try:
                    bundle = from_bytes(self.bank.get(digest))
                    bundle.head.require_rom(self.rom.rom_id, name)
                    self.rom.require(stand(bundle, self.rom, self.bank.get, self.trust.barred()).head.plugs)
                    if why := self.trust.barred()(bundle):
                        raise BundleError(why, Reason.REVOKED)
                    custody = self.trust.custody(bundle)
                    if bundle.signer and not custody.trusted:
                        how = "is no longer trusted" if custody.sound else "did not sign these bytes"
                        raise BundleError(f"{custody.signer} ({custody.fingerprint}) {how}", Reason.REVOKED)
                except EdgeclError as error:
                    problems.append(f"'{name}': {error}")
        return problems

    # -- end

    def close(self) -> None:
        """Close the bank, and the ROM unless it is shared."""
        if self._rom is not None and not self._shared:
            self._rom.close()
        self.bank.close()

    def __enter__(self) -> EdgeDevice:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _checked_labels(name: str, pictures: Sized, labels: Sequence[int] | Ints, classes: tuple[str, ...]) -> Ints:
    """One label in 0..k-1 for each picture, or DataError."""
    if len(pictures) != len(labels):
        raise DataError(f"'{name}': {len(pictures)} pictures but {len(labels)} labels")
    found = np.asarray(labels, np.int64)
    if len(found) and not 0 <= found.min() <= found.max() < len(classes):
        raise DataError(f"'{name}': labels must lie in 0..{len(classes) - 1}, got {found.min()}..{found.max()}")
    return found


def read_bytes(path: str | Path) -> bytes:
    """A bundle's bytes from a file, which is not read past the accepted size. Raises BundleError."""
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, PictureError) as error:
        raise BundleError(f"{printable(path)} cannot be read as a bundle: {error}") from error
