"""Where devices really run: one open ROM, and the homes of agents opened as they are needed.

Every operation takes and gives plain JSON values, and depends on nothing but those, the scenario and what lies in the homes:
so any host of a run may do it, and does it alike. What an operation is to cost in virtual time comes from the board's rates.
"""

from __future__ import annotations

import contextlib
import random
import resource
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgecl.bank.bank import HeadBank
from edgecl.device import EdgeDevice
from edgecl.errors import BankError, EdgeclError, TransferError
from edgecl.judging import Plugged
from edgecl.peering import Station, give, inbox
from edgecl.rom.opening import open_rom
from edgecl.sharing.inbox import Inbox
from edgecl.sharing.peer import Dealt, Responder
from edgecl.sharing.protocol import Done
from edgecl.text import printable
from edgecl.types import Task
from firmware_sim import agents, damage, rates
from firmware_sim.board import Profile
from firmware_sim.flash import BANK, LOG, Flash, PowerCut, cut_in_commit, put_back
from firmware_sim.foes.attacks import possible
from firmware_sim.foes.attacks import run as run_attack
from firmware_sim.foes.foe import Foe
from firmware_sim.foes.forgery import poisoned_bundle
from firmware_sim.invariants import invariants
from firmware_sim.line import Broken, Line, Quality
from firmware_sim.link import Link, PowerLost
from firmware_sim.scenario import Scenario, from_dict
from firmware_sim.skill import examine, score_digests
from firmware_sim.world import World

_SOON = 300.0  # virtual seconds: a power cut that is nearer may come inside the bank
OPEN = 64  # devices that are kept open; each holds its heads and a few files
CACHE_MB = 2048  # of the features that all devices share
STEPS = 400  # of SQLite's machine, about, while a bundle is taken in
EPOCH = 1_767_225_600.0  # what the clocks of boards say at virtual second 0: 2026-01-01

Json = dict[str, Any]


@dataclass
class Running:
    """A device that is on."""

    device: EdgeDevice
    flash: Flash
    epoch: int
    clock: list[float]  # one number: what its clock says
    station: SimulatedStation
    inbox: Inbox
    dealt: dict[str, Dealt] = field(default_factory=dict)


class SimulatedStation(Station):
    """The device as a host whose work takes virtual time, and may be ended by its power."""

    def __init__(self, device: EdgeDevice, name: str, profile: Profile) -> None:
        super().__init__(device)
        self._name, self._profile = name, profile
        self.line: Line | None = None
        self.cut: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext

    def take(self, bundles: Sequence[bytes]) -> list[Done]:
        if self.line is None:
            return super().take(bundles)
        size = sum(map(len, bundles))
        flash = self._profile.sync_ms / 1e3 + 2 * size / (self._profile.write_mb_s * 1e6)  # into the log, and from there
        try:
            self.line.spend(rates.take_seconds(self._profile, size, len(bundles)) + flash)
        except Broken as broken:
            if broken.who == self._name:
                with self.cut():
                    super().take(bundles)
            else:
                super().take(bundles)  # it has come, and is kept; that is never heard of
            raise
        return super().take(bundles)


class Host:
    """settings: `scenario`, `run` (folder of the run), `rom` (folder of the image), `cache`."""

    def __init__(self, settings: Json) -> None:
        self.scenario: Scenario = from_dict(settings["scenario"])
        self.run, self.cache = Path(settings["run"]), Path(settings["cache"])
        self.rom = open_rom(Path(settings["rom"]), self.scenario.runtime, self.scenario.device, settings.get("threads", 0))
        self.world = World(self.scenario, self.rom.width)
        self._running: OrderedDict[int, Running] = OrderedDict()
        self._profiles = {i: self.world.profile(i) for i in range(self.world.total)}
        self._tests: list[Task] | None = None
        self._plugged: Plugged = {}
        self._struck: list[int] = []  # agents whose power went inside their bank, in this operation

    # -- devices

    def home(self, agent: int) -> Path:
        """The folder that an agent's device lives in."""
        return self.run / "homes" / self.world.names[agent]

    def _on(self, agent: int, epoch: int, now: float | None = None, offset: float = 0.0) -> Running:
        """The device, switched on; one whose files were changed under it since (another epoch) is started anew.

        now, offset: virtual second, and how far its clock is wrong; None leaves it where it stands.
        """
        found = self._running.get(agent)
        if found is not None and found.epoch != epoch:
            self._off(agent)
            found = None
        if found is None:
            home = self.home(agent)
            _tidy(home)
            flash, clock = Flash(home, self.world.flash_bytes(agent)), [EPOCH]
            device = EdgeDevice(
                home,
                rom=self.rom,
                cache=self.cache,
                clock=lambda: clock[0],
                stopwatch=lambda: 0.0,
                disk=flash,
                feature_cache_mb=CACHE_MB,
                heads_mb=max(1, int(min(self._profiles[agent].bank_mb, 1 << 20))),
                threads=self.rom.threads,
            )
            station = SimulatedStation(device, self.world.names[agent], self._profiles[agent])
            found = self._running[agent] = Running(device, flash, epoch, clock, station, inbox(device))
            while len(self._running) > OPEN:
                self._off(next(iter(self._running)))
        if now is not None:
            found.clock[0] = EPOCH + now + offset
        self._running.move_to_end(agent)
        return found

    def _off(self, agent: int) -> None:
        found = self._running.pop(agent, None)
        if found is not None:
            found.device.close()

    @contextlib.contextmanager
    def _cut(self, agent: int, seed: int) -> Iterator[None]:
        """The power of an agent goes while its bank is written, at a moment drawn with `seed`.

        Its files as they were then lie aside, until `restore`: other hosts may have its bank open, and must close it first.
        """
        draw = random.Random(seed)
        flash = self._running[agent].flash
        torn = draw.random() < 0.3
        cut = cut_in_commit(flash, 1 + draw.randrange(2), seed) if torn else PowerCut(flash, 1 + draw.randrange(STEPS))
        with cut:
            yield
        if cut.struck:
            self._off(agent)
            self._struck.append(agent)

    # -- operations

    def provision(self, agents_: list[int]) -> Json:
        """Make the homes."""
        for agent in agents_:
            own = self.world.signer(agent)
            trusted, revoked = self.world.trusts(agent)
            agents.provision(self.home(agent), self.rom.image.folder.absolute(), own, trusted, revoked)
        return {}

    def learn(self, agent: int, epoch: int, now: float, offset: float, lesson: int, cut: int | None = None) -> Json:
        """Learn lesson number `lesson` of the world. cut: seed, where the power goes while it is kept."""
        if cut is not None:
            self._off(agent)
        running = self._on(agent, epoch, now, offset)
        before = running.flash.written
        self._struck = []
        try:
            with contextlib.nullcontext() if cut is None else self._cut(agent, cut):
                report = self.world.teach(running.device, lesson)
                digest = self._poisoned(agent, running.device, report.task) or report.digest
                made = [report.digest, digest]
                return {
                    "task": report.task,
                    "made": made,
                    "digest": digest,
                    "bytes": report.bytes,
                    "accuracy": round(report.validation_accuracy, 6),
                    "written": running.flash.written - before,
                }
        except EdgeclError as error:
            return {"why": f"{type(error).__name__}: {printable(str(error), 200)}"}
        finally:
            if cut is not None:
                self._off(agent)
        return {"why": "power", "struck": self._struck}  # the cut has ended what was in the block above

    def _poisoned(self, agent: int, device: EdgeDevice, task: str) -> str:
        """Where the agent is one that does so: a head under its good signature whose classes are mixed up; its digest."""
        if agent not in self.world.poisoners:
            return ""
        signer = device.trust.signer
        number = device.bank.next_sequence(signer.key)
        data = poisoned_bundle(device.export(task), signer, number, "swapped-classes", agent)
        return device.import_bundle(data).digest

    def attack(self, foe: int, agent: int, epoch: int, name: str, seed: int) -> Json:
        """An attack on an agent by a foe that has overheard what the victim knows."""
        victim = self._on(agent, epoch).device
        loot = tuple(victim.bank.get(d) for d in victim.bank.current().values() if victim.bank.sound(d))
        who = Foe(self.world.names[foe], self.world.signer(foe), loot)
        outcome, before = None, set(victim.bank.verify())
        if loot and name in possible(who, victim):
            outcome = run_attack(name, who, victim, seed)
        return {
            "made": outcome is not None,
            "refused": outcome.refused if outcome else "",
            "bytes": outcome.bytes_sent if outcome else 0,
            "took": [list(pair) for pair in outcome.taken] if outcome else [],
            "problems": [line for line in outcome.problems if line not in before] if outcome else [],
            "knows": self._sound(victim.bank),
        }

    def meet(
        self,
        a: int,
        b: int,
        epochs: list[int],
        offsets: list[float],
        start: float,
        quality: list[float],
        seed: int,
        ends: list[list[Any]],
    ) -> Json:
        """Each gives the other what it lacks, `a` speaking first.

        ends: [virtual second, name] of what breaks the line, "" for itself.
        """
        names = self.world.names[a], self.world.names[b]
        soon = {who for at, who in ends if at < start + _SOON}
        for agent, name in zip((a, b), names, strict=True):
            if name in soon:  # where in SQLite's work the power goes must not depend on what this process had open before
                self._off(agent)
        near, far = (
            self._on(agent, epoch, start, offset) for agent, epoch, offset in zip((a, b), epochs, offsets, strict=True)
        )
        line = Line(Quality(*quality), start, seed, [(at, who) for at, who in ends])
        log: list[tuple[str, int]] = []
        self._struck, written = [], [one.flash.written for one in (near, far)]
        outcome: Json = {"given": [], "taken": [], "refused": [], "known": 0, "broken": None}
        for one, agent in ((near, a), (far, b)):
            one.station.line, one.dealt = line, {}
            near_end = self.world.names[agent] in soon
            one.station.cut = partial(self._cut, agent, seed) if near_end else contextlib.nullcontext
        try:
            self._converse(near, far, names, line, log, outcome, False)
            self._converse(far, near, names[::-1], line, log, outcome, True)
        except Broken as broken:
            outcome["broken"] = [broken.at, broken.who]
        finally:
            for one in (near, far):
                one.station.line = None
        outcome |= {"end": line.now, "out": line.bytes["out"], "in": line.bytes["in"], "again": None, "messages": len(log)}
        outcome["written"] = [one.flash.written - before for one, before in zip((near, far), written, strict=True)]
        outcome["struck"] = self._struck
        if outcome["broken"] or outcome["given"] or outcome["taken"]:  # who dies after a commit cannot tell of it
            outcome["knows"] = [
                {} if agent in self._struck else self._sound(one.device.bank)
                for one, agent in zip((near, far), (a, b), strict=True)
            ]
        if outcome["broken"]:
            for agent, name in zip((a, b), names, strict=True):
                if name == outcome["broken"][1]:
                    self._off(agent)
        elif not outcome["given"] and not outcome["taken"]:
            outcome["again"] = self._again(near, far, names)
        return outcome

    def _converse(
        self,
        near: Running,
        far: Running,
        names: Sequence[str],
        line: Line,
        log: list[tuple[str, int]],
        outcome: Json,
        back: bool,
    ) -> None:
        """`near` gives; what became of it is noted. Raises Broken."""
        responder = Responder(far.station, far.inbox, near.device.trust.own_key, far.dealt)
        link = Link(line, names[0], responder, far.device.trust.own_key, names[1], log, back)
        try:
            link.connect()
            for done in give(near.device, link, station=near.station):
                if done.state == "shared":
                    outcome["taken" if back else "given"].append([done.task, done.digest])
                elif done.state == "known":
                    outcome["known"] += not back
                elif done.state != "older":
                    outcome["refused"].append([names[1], done.task, done.reason or done.state])
        except PowerLost:
            assert link.broken is not None
            raise link.broken from None
        except TransferError as error:
            if link.broken:
                raise link.broken from None
            outcome["refused"].append([names[1], "", str(getattr(error, "reason", "") or "") or type(error).__name__])
        except EdgeclError as error:  # of its own bank
            outcome["refused"].append([names[0], "", type(error).__name__])

    def _again(self, near: Running, far: Running, names: Sequence[str]) -> list[list[Any]]:
        """What goes over the line when the two meet once more with nothing new: as long as that is so, always the same."""
        log: list[tuple[str, int]] = []
        for one, other, who, back in ((near, far, names, False), (far, near, names[::-1], True)):
            line = Line(Quality(0.0, 1e12), 0.0, 0, [])
            self._converse(one, other, who, line, log, {"given": [], "taken": [], "refused": [], "known": 0}, back)
        return [list(entry) for entry in log]

    def inspect(self, agent: int, epoch: int) -> Json:
        """Which tasks it has in force that are sound, by digest; what `edgecl heads verify` says of the bank."""
        bank = self._on(agent, epoch).device.bank
        return {"knows": self._sound(bank), "problems": bank.verify()}

    @staticmethod
    def _sound(bank: HeadBank) -> dict[str, str]:
        """Task -> digest of the heads in force that can be read."""
        return {task: digest for task, digest in bank.current().items() if bank.sound(digest)}

    def look(self, agent: int, epoch: int, made: dict[str, list[str]], sound: bool) -> Json:
        """What must hold on any device and does not; and what it has in force."""
        device = self._on(agent, epoch).device
        trusted, _ = self.world.trusts(agent)
        keys = {*trusted.values(), self.world.signer(agent).key}
        return {"problems": invariants(device, made, keys, sound), "knows": self._sound(device.bank)}

    def corrupt(self, agent: int, epoch: int, seed: int) -> Json:
        """Damage a sector of the bank at rest; a bank that cannot be read any more is begun anew, as its owner would."""
        home = self.home(agent)
        self._off(agent)
        if not (home / BANK).exists():
            return {"knows": {}, "problems": [], "lost": False}
        _tidy(home)
        damage.corrupt_sector(home, random.Random(seed))
        lost = damage.look(home) is damage.Damage.BANK
        if lost:
            saved = damage.rebuild(home)
            self._on(agent, epoch + 1).device.import_bundles(saved)
        return self.inspect(agent, epoch + 1) | {"lost": lost}

    def revoke(self, agent: int, epoch: int, who: str) -> Json:
        """`edgecl peers revoke`: the tasks that went out of force."""
        device = self._on(agent, epoch).device
        if who not in device.trust.peers:
            return {"tasks": [], "known": False}
        return {"tasks": device.trust.revoke(who), "known": True}

    def restore(self, agent: int, epoch: int) -> Json:
        """Put in place what the power cut has left of an agent's files; what that is."""
        put_back(self.home(agent))
        return self.inspect(agent, epoch)

    def prints(self, agent: int, epoch: int, tasks: list[str]) -> dict[str, str]:
        """Task -> digest of the scores of its head, which this agent has learned, on its test pictures."""
        device = self._on(agent, epoch).device
        return score_digests(device, [test for test in self._tests_by(device) if test.name in tasks])

    def evaluate(self, agent: int, epoch: int, prints: dict[str, str]) -> Json:
        """Let it answer all test pictures. prints: of the authors."""
        device = self._on(agent, epoch).device
        return examine(device, self._tests_by(device), prints, self._plugged)

    def _tests_by(self, device: EdgeDevice) -> list[Task]:
        """The test pictures of all tasks, read once by whichever device is asked first: the ROM is the same."""
        if self._tests is None:
            self._tests = self.world.tests(device)
        return self._tests

    def usage(self) -> Json:
        """The most memory that this process has held."""
        return {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}

    def forget(self, homes: list[str]) -> None:
        """Close what is open there: the files are about to be exchanged. SQLite deletes a log by its name, not by its file."""
        for agent, running in list(self._running.items()):
            if str(running.device.home) in homes:
                self._off(agent)

    def close(self) -> None:
        """Switch all off."""
        for agent in list(self._running):
            self._off(agent)
        self.rom.close()


def _tidy(home: Path) -> None:
    """Take what is in a log into its file, where nobody has the bank open, as the last one to close it does.

    A process that was killed leaves its logs. They lose nothing, but pages are read from them first: they would hide damage to
    the file, and shift the steps at which a power cut strikes.
    """
    if (home / LOG).exists():
        with contextlib.suppress(BankError):
            HeadBank(home / BANK).close()
