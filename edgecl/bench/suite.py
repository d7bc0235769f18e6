"""What is measured: every step of an answer alone, the whole against the floor, learning, starting, and bytes.

Everything is done by the code that serves: real bundles in a real bank in a home of its own, which is gone afterwards. The
device that asks for a bench is not touched.
"""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from edgecl import registry
from edgecl.bench import footprint, pictures, synthetic
from edgecl.bench.conditions import conditions
from edgecl.bench.floor import floor, raw_runtime
from edgecl.bench.latency import Turns, summarise, take_turns
from edgecl.bench.report import Figure, Report, Target
from edgecl.device import EdgeDevice
from edgecl.errors import EdgeclError
from edgecl.mapping import gmmc, mahalanobis
from edgecl.mapping.base import Mapper
from edgecl.mapping.index import Index
from edgecl.pictures.decode import decode
from edgecl.pictures.reading import Progress, silent
from edgecl.rom.base import BATCH, Rom
from edgecl.rom.preprocess import Preprocess, normalise
from edgecl.space import unit_sqrt
from edgecl.types import Floats

FEW = 14  # tasks of the small device, as many as the shared ones
MIXED = 64  # pictures of the mixed batch


@dataclass(frozen=True)
class Settings:
    """How much is measured. Figures whose size is part of a target are held against it only at that size."""

    tasks: int = 100  # synthetic ones, on the large device
    batches: tuple[int, ...] = (1, 8, 32)
    mapper_tasks: int = 0  # for the mapper alone; 0: not measured
    queries: int = 1000  # to compare the mapper's search with the exact one
    learn: int = 100  # pictures
    starts: int = 3  # of a fresh process by each runtime
    start_floor: bool = True  # compare them with the PyTorch runtime's, which take some seconds each
    turns: Turns = field(default_factory=lambda: Turns(rounds=30))
    heavy: Turns = field(default_factory=lambda: Turns(rounds=8, calls=2))  # for calls of many pictures
    learning: Turns = field(default_factory=lambda: Turns(rounds=2, calls=1, warm=0))


QUICK = Settings(
    tasks=20,
    batches=(1, 4),
    queries=50,
    learn=24,
    starts=1,
    start_floor=False,
    turns=Turns(rounds=2, calls=2, pause=0),
    heavy=Turns(rounds=1, calls=1, pause=0),
    learning=Turns(rounds=1, calls=1, warm=0, pause=0),
)
TARGETS = Settings(
    tasks=1000,
    batches=(1,),
    mapper_tasks=10_000,
    queries=4000,
    learn=400,
    starts=5,
    turns=Turns(rounds=60),
    heavy=Turns(rounds=15, calls=2),
    learning=Turns(rounds=3, calls=1, warm=0),
)


@dataclass(frozen=True)
class Place:
    """Which ROM on which runtime, and what to show it. pictures: encoded; too few are used again, None makes some."""

    rom: Path
    runtime: str = "onnxruntime"
    device: str = "cpu"
    threads: int = 0
    mapper: str = "mahalanobis"
    pictures: Sequence[bytes] | None = None


def run(place: Place, settings: Settings, progress: Progress = silent) -> Report:
    """Measure all of it. progress: takes (what is measured, steps done, steps there are)."""
    state = conditions(place.runtime, place.device, place.threads)
    with tempfile.TemporaryDirectory(prefix="edgecl-bench-") as folder:
        bench = Bench(place, settings, Path(folder))
        try:
            steps = (bench.steps, bench.few, bench.mixed, bench.many, bench.mapper_alone, bench.learn, bench.start, bench.bytes)
            take(steps, progress)
            return Report(
                state | {"provider": bench.rom.provider}, measured(bench.rom), asdict(settings), bench.figures, bench.notes
            )
        finally:
            bench.close()


def take(steps: Sequence[Callable[[], None]], progress: Progress) -> None:
    """Run the steps, saying which one it is."""
    for number, step in enumerate(steps):
        progress(f"measuring: {step.__name__.replace('_', ' ')}", number, len(steps))
        step()
    progress("measuring: done", len(steps), len(steps))


def measured(rom: Rom) -> dict[str, Any]:
    """What a report says of the ROM that it speaks of."""
    image = rom.image
    return {
        "rom_id": rom.rom_id,
        "backbone": image.backbone,
        "features": rom.width,
        "size": rom.preprocess.size,
        "precision": image.precision,
        "bytes": footprint.on_disk(image.folder),
    }


class Bench:
    """The state that the steps share; each step appends to `figures`, or says in `notes` why it does not."""

    def __init__(self, place: Place, settings: Settings, folder: Path) -> None:
        self.place, self.settings, self.folder = place, settings, folder
        self.figures: list[Figure] = []
        self.notes: list[str] = []
        self._devices: list[EdgeDevice] = []
        self.small = self._device("few")
        self.rom: Rom = self.small.rom
        self.raw = raw_runtime(self.rom, place.threads)
        wanted = max(MIXED, *settings.batches)
        found = list(place.pictures or pictures.made(wanted))
        self.pictures = [found[i % len(found)] for i in range(max(wanted, len(found)))]
        self.pixels = np.stack([decode(data, self.rom.preprocess) for data in self.pictures])
        self.features = self.rom.features(self.pixels)
        self.world = synthetic.World(self.rom.width, (place.mapper, *registry.DEFAULT_MAPPERS))

    def _device(self, name: str) -> EdgeDevice:
        p = self.place
        device = EdgeDevice(
            self.folder / name, rom=p.rom, runtime=p.runtime, device=p.device, threads=p.threads, mapper=p.mapper
        )
        self._devices.append(device)
        return device

    def _sibling(self, name: str) -> EdgeDevice:
        """Another device on the small one's runtime session: a second one would compete with it for the cores."""
        device = self._device(name)
        device._rom = self.rom
        return device

    def close(self) -> None:
        for device in self._devices:
            device.close()

    # -- the steps

    def steps(self) -> None:
        """Each step of an answer alone."""
        p = self.rom.preprocess
        self._time(
            "decode + resize, a picture",
            _each(self.pictures, lambda data: decode(data, p)),
            _each(self.pictures, lambda data: pillow(data, p)),
            target=Target("ratio", 0.6),
            note="floor: Pillow's full decode, bicubic resize of the shorter side, crop",
        )
        self._time("normalise, a picture", _each(self.pixels[:, None], lambda x: normalise(x, p)))
        for size in self.settings.batches:
            stacks = [self.pixels[i : i + size] for i in range(0, len(self.pixels) - size + 1, size)]
            self._time(
                f"ROM, batch {size}",
                _each(stacks, self.rom.features),
                _each(stacks, lambda x: [self.raw(normalise(x[at : at + BATCH], p)) for at in range(0, len(x), BATCH)]),
                items=size,
                note="floor: normalise + the raw runtime",
            )

    def few(self) -> None:
        """The small device: its tasks' class means are features of the pictures, so that all tasks answer."""
        self._fill(self.small, FEW, [self.features[t::FEW] for t in range(FEW)])
        queries = self.features[:, None]
        self._time(f"mapper, {FEW} tasks", _each(queries, self.small.mapper.assign), note=self._search(self.small.mapper))
        head = self.small.head(synthetic.name(0))
        self._time("head (linear), a picture", _each(queries, head.scores))
        for size in self.settings.batches:
            target = Target("ratio", 1.10) if size == 1 else None
            self._whole(f"infer, {FEW} tasks, batch {size}", self.small, size, target)

    def mixed(self) -> None:
        """A batch over many heads against the same batch over one."""
        one = self._sibling("one")
        self._fill(one, 1, [self.features])
        batch = self.pixels[:MIXED]
        used = len({answer.nearest_task for answer in self.small.answer(batch)})
        self._time(
            f"mixed batch of {MIXED}",
            lambda: self.small.answer(batch),
            lambda: one.answer(batch),
            items=MIXED,
            turns=self.settings.heavy,
            target=Target("ratio", 1.05),
            note=f"decoded pictures over {used} heads; floor: the same over one head, one task",
        )

    def many(self) -> None:
        """The large device, and whether its search finds what an exact one does."""
        n = self.settings.tasks
        large = self._sibling("many")
        self._fill(large, n)
        mapper = large.mapper
        tasks = np.random.default_rng(0).integers(0, n, self.settings.queries)
        queries = self.world.pictures(tasks)
        self._time(f"mapper, {n} tasks", _each(queries[:, None], mapper.assign), note=self._search(mapper))
        self._whole(f"infer, {n} tasks, batch 1", large, 1, Target("ratio", 1.20) if n == 1000 else None)
        with exact_search():
            exact = registry.load("mapper", registry.MAPPERS, self.place.mapper)(self.rom.width)
            for task, digest in large.bank.current().items():
                exact.add(task, large.bundle(digest).anchors[exact.name])
            theirs = exact.assign(queries).task
        ours = mapper.assign(queries).task
        self._value(
            f"mapper, {n} tasks: agreement with exact search",
            float(np.mean(ours == theirs)),
            "share",
            Target("value", 0.995, at_most=False),
            f"{len(queries)} queries, one in ten of them between two tasks; right task {np.mean(ours == tasks):.2%}",
        )

    def mapper_alone(self) -> None:
        """Far more tasks than a bank is filled with here: anchors straight into the mapper."""
        n = self.settings.mapper_tasks
        if not n:
            self.notes.append("the mapper over 10,000 tasks is not measured in this run; --targets does")
            return
        before = footprint.resident()
        mapper: Mapper = registry.load("mapper", registry.MAPPERS, self.place.mapper)(self.rom.width)
        for task in range(n):
            mapper.add(synthetic.name(task), self.world.anchors(task)[mapper.name])
        assert len(mapper.tasks) == n  # builds the search
        held = footprint.resident() - before
        queries = self.world.pictures(np.random.default_rng(1).integers(0, n, 200))
        self._time(
            f"mapper, {n} tasks",
            _each(queries[:, None], mapper.assign),
            target=Target("value", 1.0) if n == 10_000 else None,
            note=f"{self._search(mapper)}; {held / 1e6:.0f} MB held, {footprint.peak() / 1e6:.0f} MB the process's peak",
        )
        self._value(f"memory of the mapper, {n} tasks", held, "bytes")

    def learn(self) -> None:
        """A task of ten classes, on a device that has no feature of its pictures."""
        n = self.settings.learn
        found = list(self.place.pictures or ())
        if 0 < len(found) < n:
            self.notes.append(f"learning is measured on made pictures: {len(found)} were given, it takes {n}")
        shown = found[:n] if len(found) >= n else pictures.made(n, seed=1)
        labels = [i * synthetic.CLASSES // n for i in range(n)] if n >= 3 * synthetic.CLASSES else [i % 2 for i in range(n)]
        names = [f"class {number}" for number in range(max(labels) + 1)]
        pupil = self._sibling("pupil")

        def once() -> None:
            for path in pupil.cache.glob("features.sqlite*"):
                path.unlink()
            pupil.learn_pictures("learned", shown, labels, names)

        self._time(
            f"learn, {n} pictures",
            once,
            lambda: floor(self.rom, self.raw, shown),
            items=n,
            turns=self.settings.learning,
            target=Target("ratio", 1.4) if n == 400 else None,
            note="floor: decode + the raw runtime in batches of 32, one after the other",
        )

    def start(self) -> None:
        """`edgecl infer` from a process that has to start."""
        path = self.folder / "picture.jpg"
        path.write_bytes(self.pictures[0])
        p = self.place

        def command(runtime: str, program: tuple[str, ...] = ("-m", "edgecl.cli.main")) -> subprocess.CompletedProcess[str]:
            options = ("--rom", str(p.rom), "--mapper", p.mapper, "--threads", str(p.threads), "--json")
            return self._process(*program, "infer", str(path), *options, "--runtime", runtime, "--device", p.device)

        turns = Turns(rounds=self.settings.starts, calls=1, warm=0)
        name = "edgecl infer, fresh process"
        command(p.runtime)  # reads everything from the disk once, keeps the optimised session
        if p.runtime == "pytorch":
            self._time(name, lambda: command("pytorch"), turns=turns)
            return
        other = self.settings.start_floor and all(find_spec(package) for package in ("torch", "timm"))
        if other:
            command("pytorch")
        else:
            why = "torch or timm is not installed" if self.settings.start_floor else "a quick run leaves it out"
            self.notes.append(f"the start is not compared with the PyTorch runtime's: {why}")
        self._time(
            name,
            lambda: command(p.runtime),
            (lambda: command("pytorch")) if other else None,
            turns=turns,
            target=Target("ratio", 0.35) if other else None,
            note="floor: the same with --runtime pytorch" if other else "",
        )
        said = command(p.runtime, ("-c", _TELL_TORCH)).stderr
        self._value(f"{name}: torch imported", float("torch: True" in said), "count", Target("value", 0))

    def bytes(self) -> None:
        """On the disk and in memory; memory in processes of their own, which hold nothing but a device."""
        n = self.settings.tasks
        self._value("ROM image on disk", footprint.on_disk(self.rom.image.folder), "bytes")
        self._value("bundle, a task", self._devices_bank("many").size() / n, "bytes", note="linear head of 10 classes, anchors")
        self._value(f"bank on disk, {n} tasks", footprint.on_disk(self.folder / "many" / "bank.sqlite"), "bytes")
        few, many = self._resident("few"), self._resident("many")
        self._value(f"memory of a process, {FEW} tasks open", few, "bytes")
        self._value(f"memory of a process, {n} tasks open", many, "bytes")
        if n >= 1000:  # from fewer, what building the search takes once would be counted many times over
            self._value("memory, 1,000 tasks", (many - few) / (n - FEW) * 1000, "bytes", note=f"from {FEW} to {n} tasks")

    # -- inside

    def _fill(self, device: EdgeDevice, count: int, own: Sequence[Floats] = ()) -> None:
        """Put synthetic tasks into a bank; the first class means of task t are own[t], where given."""
        for task in range(count):
            means = None
            if task < len(own):
                means = np.concatenate([unit_sqrt(own[task]), self.world.means(task)])[: synthetic.CLASSES]
            bundle = self.world.bundle(task, self.rom.rom_id, means)
            device.bank.put(bundle.task, bundle.to_bytes(), "import")

    def _whole(self, name: str, device: EdgeDevice, size: int, target: Target | None) -> None:
        groups = [self.pictures[i : i + size] for i in range(0, len(self.pictures) - size + 1, size)]
        self._time(
            name,
            _each(groups, device.infer),
            _each(groups, lambda some: floor(self.rom, self.raw, some)),
            items=size,
            turns=self.settings.turns if size < 8 else self.settings.heavy,
            target=target,
            note="from encoded bytes; floor: decode, normalise, the raw runtime" if size == 1 else "",
        )

    def _time(
        self,
        name: str,
        ours: Callable[[], object],
        theirs: Callable[[], object] | None = None,
        *,
        items: int = 1,
        turns: Turns | None = None,
        target: Target | None = None,
        note: str = "",
    ) -> None:
        contenders = {"floor": theirs} if theirs else {}
        times = take_turns({**contenders, "ours": ours}, turns or self.settings.turns)
        timing, below = summarise(times["ours"], items), summarise(times["floor"], items) if theirs else None
        ratio = timing.p50 / below.p50 if below else None
        self.figures.append(Figure(name, timing.p50, "ms", timing, below, ratio, target, note))

    def _value(self, name: str, value: float, unit: str, target: Target | None = None, note: str = "") -> None:
        self.figures.append(Figure(name, value, unit, target=target, note=note))

    @staticmethod
    def _search(mapper: Mapper) -> str:
        return str(getattr(mapper, "search", ""))

    def _devices_bank(self, name: str) -> Any:
        return next(device.bank for device in self._devices if device.home.name == name)

    def _process(self, *arguments: str, home: str = "few") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EDGECL_HOME": str(self.folder / home)}
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise EdgeclError(f"a process that was to be measured ended with {done.returncode} and said: {said}")
        return done

    def _resident(self, home: str) -> int:
        p = self.place
        arguments = (str(p.rom), p.runtime, p.device, str(p.threads), p.mapper)
        return int(self._process("-c", _TELL_MEMORY, *arguments, home=home).stdout)


_TELL_TORCH = """
import sys
from edgecl.cli.main import main
try:
    main()
finally:
    print("torch:", "torch" in sys.modules, file=sys.stderr)
"""
_TELL_MEMORY = """
import os, sys
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
from edgecl import EdgeDevice
from edgecl.bench.footprint import resident
rom, runtime, device, threads, mapper = sys.argv[1:]
edge = EdgeDevice(rom=rom, runtime=runtime, device=device, threads=int(threads), mapper=mapper)
size = edge.rom.preprocess.size
edge.answer(np.zeros((1, size, size, 3), np.uint8))
print(resident())
"""


def pillow(data: bytes, p: Preprocess) -> Any:
    """What a program without us does: decode all of it, shorter side to size / crop by a bicubic resize, cut the centre."""
    image: Image.Image = Image.open(io.BytesIO(data)).convert("RGB")
    side = round(p.size / p.crop)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - p.size) // 2, (image.height - p.size) // 2
    return np.asarray(image.crop((left, top, left + p.size, top + p.size)))


@contextmanager
def exact_search() -> Iterator[None]:
    """Mappers built inside search exactly, however many rows they have."""
    exact = partial(Index, exact=sys.maxsize)
    with mock.patch.object(mahalanobis, "Index", exact), mock.patch.object(gmmc, "Index", exact):
        yield


def _each(values: Sequence[Any] | Any, call: Callable[[Any], object]) -> Callable[[], object]:
    """A call that takes the next of `values` each time, round and round."""
    turn = itertools.cycle(list(values))
    return lambda: call(next(turn))


def with_options(settings: Settings, tasks: int | None, batches: Sequence[int]) -> Settings:
    """`settings` with what the user asked for."""
    return replace(settings, tasks=tasks or settings.tasks, batches=tuple(batches) or settings.batches)
