"""What heads that act inside the network cost: against the plain ROM, when changing from one to the next, and mixed.

Plugs are small random numbers from a seed: nothing here depends on what a head has learned.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module

import numpy as np

from edgecl.bench import footprint
from edgecl.bench.conditions import conditions
from edgecl.bench.latency import Turns, summarise, take_turns
from edgecl.bench.report import Figure, Report, Target
from edgecl.bench.suite import FEW, MIXED, Place, measured, take
from edgecl.pictures.reading import Progress, silent
from edgecl.rom.base import Rom
from edgecl.rom.lru import give_back
from edgecl.rom.opening import open_rom
from edgecl.rom.sockets import Plugs
from edgecl.types import Floats, Pixels

HOT = 16  # heads that a device changes between
COLD = 200.0  # ms that the first answer of a head may take


@dataclass(frozen=True)
class HeadSettings:
    """How much is measured. heads: of each kind, all kept at once."""

    heads: int = 64
    openings: int = 5  # of a ROM, for heads that nothing is ready for
    turns: Turns = field(default_factory=lambda: Turns(rounds=120))
    heavy: Turns = field(default_factory=lambda: Turns(rounds=8, calls=2))


QUICK = HeadSettings(
    heads=4, openings=1, turns=Turns(rounds=2, calls=2, pause=0), heavy=Turns(rounds=1, calls=1, warm=0, pause=0)
)


def run(place: Place, settings: HeadSettings, progress: Progress = silent) -> Report:
    """Measure all of it, on the ROM and runtime of `place`. progress: takes (what is measured, steps done, steps there are)."""
    state = conditions(place.runtime, place.device, place.threads)
    with open_rom(place.rom, place.runtime, place.device, place.threads) as rom:
        bench = HeadBench(rom, place, settings)
        steps = (bench.memory, bench.one_head, bench.switching, bench.mixed, bench.cold)
        take(steps, progress)
        return Report(state | {"provider": rom.provider}, measured(rom), asdict(settings), bench.figures, bench.notes)


class HeadBench:
    """The state that the steps share; each step appends to `figures`."""

    def __init__(self, rom: Rom, place: Place, settings: HeadSettings) -> None:
        self.rom, self.place, self.settings = rom, place, settings
        self.figures: list[Figure] = []
        self.notes = ["heads hold random plugs; pictures are noise, already decoded"]
        count = max(settings.heads, FEW)
        self.bb = [synthetic_plugs(rom, seed) for seed in range(count)]
        self.clr = [synthetic_plugs(rom, seed, kernels=True) for seed in range(count)]
        side = rom.preprocess.size
        self.pixels: Pixels = np.random.default_rng(0).integers(0, 256, (MIXED, side, side, 3), np.uint8)
        self._turn = itertools.cycle(self.pixels[:, None])

    def memory(self) -> None:
        """First of all, while this process holds nothing but the ROM."""
        rom, n = self.rom, self.settings.heads
        one, bound = self.pixels[:1], rom.session_cache
        rom.features(one)
        with contextlib.suppress(ImportError):
            import_module("onnx")  # its code is not what heads hold
        give_back()
        before = footprint.resident()
        for name, heads in (("BB", self.bb[:1]), ("CLR", self.clr[:1]), (f"{n} BB and {n} CLR", self.bb[:n] + self.clr[:n])):
            for plugs in heads:
                rom.features(one, plugs)
            grown = footprint.resident() - before
            held = self._held()
            self.figures.append(
                Figure(
                    f"kept for heads, {name}",
                    held,
                    "bytes",
                    target=Target("value", bound),
                    note=f"bound {bound / 1e6:.0f} MB; the process has grown by {grown / 1e6:.1f} MB since before the first",
                )
            )
        rom.session_cache = small = held * 2 // 3
        for plugs in self.bb[:n] + self.clr[:n]:
            rom.features(one, plugs)
        grown = footprint.resident() - before
        self.figures.append(
            Figure(
                f"kept for heads, {n} BB and {n} CLR, in two thirds of that",
                self._held(),
                "bytes",
                target=Target("value", small),
                note=f"bound {small / 1e6:.0f} MB; the process has grown by {grown / 1e6:.1f} MB since before the first",
            )
        )
        rom.session_cache = bound

    def one_head(self) -> None:
        """Batch 1, staying on one head."""
        bb, clr = self.bb[0], self.clr[0]
        times = self._times({"plain": self._each(None), "BB": self._each(bb), "CLR": self._each(clr)}, self.settings.turns)
        self._compare("plain ROM, batch 1", times["plain"], None)
        self._compare("BB head, batch 1", times["BB"], times["plain"], Target("ratio", 1.05), note="floor: the plain ROM")
        kernels = f"floor: the plain ROM; kernels in {len(clr.kernel)} of {len(self.rom.image.sockets)} sockets"
        self._compare("CLR head, batch 1", times["CLR"], times["plain"], Target("ratio", 1.5), note=kernels)

    def switching(self) -> None:
        """Batch 1, another head for every picture, against staying on one of them."""
        for kind, heads in (("BB", self.bb), ("CLR", self.clr)):
            for n in sorted({min(HOT, self.settings.heads), self.settings.heads}):
                one, switch = self._each(heads[0]), self._each(*heads[:n])
                times = self._times({"one": one, "switch": switch}, self.settings.turns)
                target = Target("ratio", 1.05) if n == HOT else None
                self._compare(f"switching among {n} hot {kind} heads", times["switch"], times["one"], target)

    def mixed(self) -> None:
        """Pictures of several heads in one call, against one head for all of them."""
        for kind, heads in (("BB", self.bb[:FEW]), ("CLR", self.clr[:FEW])):
            plugs = [heads[i % len(heads)] for i in range(MIXED)]
            one, several = partial(self.rom.features, self.pixels, heads[0]), partial(self.rom.features, self.pixels, plugs)
            times = self._times({"one": one, "mixed": several}, self.settings.heavy)
            target = Target("ratio", 1.25) if kind == "BB" else None  # 0.8 x the throughput
            name, note = f"mixed batch of {MIXED} over {FEW} {kind} heads", "floor: the same pictures with one head"
            self._compare(name, times["mixed"], times["one"], target, items=MIXED, note=note)

    def cold(self) -> None:
        """The first answer of a head: by a ROM that has had none of its form, and by one that has."""
        p, found = self.place, {"BB": self.bb, "CLR": self.clr}
        for kind, heads in found.items():
            fresh: list[int] = []
            known: list[int] = []
            for _ in range(self.settings.openings):
                with open_rom(p.rom, p.runtime, p.device, p.threads) as rom:
                    rom.features(self.pixels[:1])
                    fresh.append(_elapsed(partial(rom.features, self.pixels[:1], heads[0])))
                    known += [_elapsed(partial(rom.features, self.pixels[:1], plugs)) for plugs in heads[1:FEW]]
            first = "nothing ready for heads of this form, no cache on disk; the picture's own time included"
            self._compare(f"cold {kind} head, the first", fresh, None, Target("value", COLD), note=first)
            self._compare(f"cold {kind} head, a further one", known, None, Target("value", COLD))

    # -- inside

    def _each(self, *heads: Plugs | None) -> Callable[[], object]:
        """A call that takes the next picture and the next of `heads` each time."""
        turn = itertools.cycle(heads)
        return lambda: self.rom.features(next(self._turn), next(turn))

    def _held(self) -> int:
        return int(getattr(self.rom, "held", 0))

    @staticmethod
    def _times(contenders: Mapping[str, Callable[[], object]], turns: Turns) -> dict[str, list[int]]:
        for call in contenders.values():
            call()
        return take_turns(contenders, turns)

    def _compare(
        self,
        name: str,
        ours: Sequence[int],
        theirs: Sequence[int] | None,
        target: Target | None = None,
        *,
        items: int = 1,
        note: str = "",
    ) -> None:
        timing, below = summarise(ours, items), summarise(theirs, items) if theirs else None
        ratio = timing.p50 / below.p50 if below else None
        self.figures.append(Figure(name, timing.p50, "ms", timing, below, ratio, target, note))


def synthetic_plugs(rom: Rom, seed: int, kernels: bool = False) -> Plugs:
    """Plugs of the size that learning makes: a shift in every socket; with kernels, 3x3 behind every wide convolution."""
    rng = np.random.default_rng([seed, kernels])

    def drawn() -> Iterator[tuple[str, Floats, Floats | None]]:
        for s in rom.image.sockets:
            kernel = rng.normal(0, 0.02, (s.channels, 3, 3)).astype(np.float32) if kernels and s.side > 1 else None
            yield s.name, rng.normal(0, 0.02, s.channels).astype(np.float32), kernel

    found = list(drawn())
    return Plugs({name: shift for name, shift, _ in found}, {name: k for name, _, k in found if k is not None})


def _elapsed(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start
