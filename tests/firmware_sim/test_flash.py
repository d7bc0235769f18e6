"""A power cut inside one process leaves what a killed process would: the state before a change, or the one after it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecl.bank.bank import HeadBank
from edgecl.device import EdgeDevice
from edgecl.errors import BankError, BankFull, UnknownTask
from edgecl.sharing.bundle import from_bytes
from edgecl.sharing.trust import Peer
from firmware_sim.flash import BANK, Flash, PowerCut, cut_in_commit

SMALL, LARGE = 5_000, 300_000


def bundle(seed: object, size: int) -> bytes:
    return random.Random(str(seed)).randbytes(size)


def open_bank(flash: Flash) -> HeadBank:
    return HeadBank(flash.home / BANK, clock=lambda: 0.0, disk=flash)


def change_learn(bank: HeadBank) -> None:
    bank.put("birds", bundle("new", SMALL), "learn", ("a" * 64, "b" * 64, 7), sketch=bundle("sketch", LARGE))


def change_batch(bank: HeadBank) -> None:
    with bank.exclusive():
        for task in ("birds", "new", "leaves"):
            bank.put(task, bundle(task, SMALL), "import")


def change_import(bank: HeadBank) -> None:
    bank.put("new", bundle("import", LARGE), "import")


def change_rm(bank: HeadBank) -> None:
    bank.remove("leaves")


def change_gc(bank: HeadBank) -> None:
    bank.gc(keep=0)


CHANGES = [change_learn, change_batch, change_import, change_rm, change_gc]


def state(home: Path) -> tuple[Any, ...]:
    """All that the bank tells of itself."""
    with HeadBank(home / BANK, clock=lambda: 0.0) as bank:
        assert bank.verify() == []
        histories = {}
        for task in ("birds", "leaves", "gone", "new"):
            try:
                histories[task] = bank.history(task)
            except UnknownTask:
                continue
        bytes_ = {g.digest: bank.get(g.digest) for history in histories.values() for g in history}
        return histories, bank.current(), bytes_, bank.accepted()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where possible: a disk's syncs would only cost time here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home whose bank was "closed", and one as a cut has left it: with its last commit in the "log" alone."""
    homes = {name: tmp_path_factory.mktemp("homes") / name for name in ("closed", "log")}
    flash = Flash(homes["closed"])
    with open_bank(flash) as bank:
        for i, size in enumerate((LARGE, SMALL, LARGE, SMALL)):
            bank.put(("birds", "leaves", "gone", "birds")[i], bundle(i, size), "learn", sketch=bundle(-i, SMALL))
        bank.remove("gone")
    (flash.home / "peers.toml").write_text("# nobody\n")
    step = 0
    for _ in range(2):  # counted, then cut at its last step, which is the one behind the commit
        log = Flash(Path(shutil.copytree(flash.home, homes["log"], dirs_exist_ok=True)))
        with PowerCut(log, step) as cut, open_bank(log) as bank:
            try:
                bank.put("leaves", bundle("log", LARGE), "learn")
            finally:
                step = cut.steps
    cut.restore()
    assert (homes["log"] / f"{BANK}-wal").stat().st_size > LARGE
    return homes


class Board:
    """A home that is changed under power cuts, from the same beginning each time."""

    def __init__(self, origin: Path, folder: Path, change: Callable[[HeadBank], None]) -> None:
        self.origin, self.home, self.change = origin, folder / "home", change
        self.old = self.reset() or state(self.home)
        self.reset()
        with open_bank(Flash(self.home)) as bank:
            change(bank)
        self.new = state(self.home)
        self.outcomes: Counter[str] = Counter()

    def reset(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.origin, self.home)

    def cut(self, make: Callable[[Flash], PowerCut], already_open: bool = False) -> PowerCut:
        self.reset()
        flash = Flash(self.home)
        opened = open_bank(flash) if already_open else None
        with make(flash) as cut:
            bank = opened or open_bank(flash)
            try:
                self.change(bank)
                assert not cut.struck, "a cut lets nothing pass"
            finally:
                if opened is None:
                    bank.close()
        if opened is not None:
            opened.close()
        cut.restore()
        if cut.struck:
            left = state(self.home)
            assert left in (self.old, self.new), f"{self.change.__name__}: neither the old nor the new state"
            self.outcomes["new" if left == self.new else "old"] += 1
            assert (self.home / "peers.toml").read_text() == "# nobody\n" and not self.home.with_name(".home-cut").exists()
            with open_bank(flash) as bank:  # which has no more cuts
                assert bank.get(bank.put("birds", b"after", "learn").digest) == b"after"
        return cut


@pytest.mark.parametrize("origin", ["closed", "log"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_cut_at_any_step_leaves_the_old_or_the_new_state(
    filled: dict[str, Path], tmp_path: Path, origin: str, change: Callable[[HeadBank], None]
) -> None:
    board = Board(filled[origin], tmp_path, change)
    last = board.cut(lambda flash: PowerCut(flash, 0)).steps
    for step in sorted({1 + i * (last - 1) // 19 for i in range(20)}):
        assert board.cut(lambda flash, step=step: PowerCut(flash, step)).struck
    assert board.outcomes["old"] and board.outcomes["new"], board.outcomes


def test_a_cut_reaches_a_bank_that_is_open_already(filled: dict[str, Path], tmp_path: Path) -> None:
    board = Board(filled["closed"], tmp_path, change_import)
    steps = [board.cut(lambda flash, step=step: PowerCut(flash, step), already_open=True).steps for step in (1, 20, 0)]
    assert steps[:2] == [1, 20] and board.outcomes["old"] == 2


@pytest.mark.parametrize("origin", ["closed", "log"])
@pytest.mark.parametrize("change", [change_learn, change_batch, change_import, change_rm])
def test_a_torn_commit_leaves_the_old_or_the_new_state(
    filled: dict[str, Path], tmp_path: Path, origin: str, change: Callable[[HeadBank], None]
) -> None:
    board = Board(filled[origin], tmp_path, change)
    for seed in range(40):
        assert board.cut(lambda flash, seed=seed: cut_in_commit(flash, 1, seed), already_open=seed % 2 > 0).struck
    assert board.outcomes["old"] > 5 and board.outcomes["new"] > 5, board.outcomes


def test_the_same_seed_tears_at_the_same_places(filled: dict[str, Path], tmp_path: Path) -> None:
    """What is in the log differs from run to run, because SQLite draws its salts; which state is left must not."""
    outcomes = []
    for _ in range(2):
        board = Board(filled["closed"], tmp_path, change_import)
        found = []
        for seed in range(20):
            board.cut(lambda flash, seed=seed: cut_in_commit(flash, 1, seed))
            found.append(board.outcomes.copy())
        outcomes.append(found)
    assert outcomes[0] == outcomes[1]


def test_nothing_is_acknowledged_once_the_power_is_gone(filled: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(filled["closed"], tmp_path / "home")
    flash = Flash(home)
    with open_bank(flash) as bank, PowerCut(flash, 5) as cut:
        with pytest.raises(BankError, match="interrupted"):
            change_import(bank)
        for work in (bank.current, bank.version, lambda: bank.remove("birds")):
            with pytest.raises(BankError):
                work()
    assert cut.struck and cut.steps == 5


def test_a_cut_that_does_not_strike_changes_nothing(filled: dict[str, Path], tmp_path: Path) -> None:
    flash = Flash(shutil.copytree(filled["closed"], tmp_path / "home"))
    with PowerCut(flash, 10_000) as cut, open_bank(flash) as bank:
        change_import(bank)
    cut.restore()
    assert not cut.struck and "new" in state(flash.home)[1]


# -- the real device


@pytest.fixture
def sender(rom: Any, tmp_path: Path, pictures_task: Any) -> Iterator[EdgeDevice]:
    with EdgeDevice(tmp_path / "sender", rom=rom, feature_cache_mb=0) as edge:
        for task in ("colours", "shapes", "stripes"):
            edge.learn(task, pictures_task[task])
        yield edge


@pytest.fixture
def knows_one(rom: Any, tmp_path: Path, sender: EdgeDevice) -> Path:
    """The home of a device that trusts the sender and has one head of it."""
    with EdgeDevice(tmp_path / "origin", rom=rom) as edge:
        edge.trust.trust(Peer("sender", sender.trust.signer.key))
        edge.import_bundle(sender.export("colours"))
    return tmp_path / "origin"


@pytest.mark.parametrize("kind", ["at a step", "in a commit"])
def test_a_device_that_is_cut_off_while_it_imports_has_all_of_a_batch_or_none(
    rom: Any, sender: EdgeDevice, knows_one: Path, tmp_path: Path, kind: str
) -> None:
    batch = [sender.export(task) for task in ("shapes", "stripes")]
    outcomes: Counter[tuple[str, ...]] = Counter()
    flash = Flash(Path(shutil.copytree(knows_one, tmp_path / "whole")))
    with PowerCut(flash, 0) as cut, EdgeDevice(flash.home, rom=rom, disk=flash) as device:
        device.import_bundles(batch)
        last = cut.steps
    for moment in range(1, 17):
        home = Path(shutil.copytree(knows_one, tmp_path / f"home-{moment}"))
        flash = Flash(home)
        cut = PowerCut(flash, moment * last // 16) if kind == "at a step" else cut_in_commit(flash, 1, moment)
        with cut, EdgeDevice(home, rom=rom, disk=flash) as device:
            device.import_bundles(batch)
            assert not cut.struck, "a cut lets nothing pass"
        cut.restore()
        with EdgeDevice(home, rom=rom) as device:
            outcomes[device.tasks] += 1
            assert device.verify() == [] and all(device.export(task) == sender.export(task) for task in device.tasks)
            assert all(found.error is None for found in device.import_bundles(batch))
    assert set(outcomes) == {("colours",), ("colours", "shapes", "stripes")}, outcomes


# -- room


def test_a_full_flash_refuses_loses_nothing_and_goes_on_after_gc(rom: Any, sender: EdgeDevice, knows_one: Path) -> None:
    flash = Flash(knows_one)
    with EdgeDevice(knows_one, rom=rom, disk=flash) as device:
        device.import_bundle(sender.export("stripes"))
        device.bank.remove("stripes")
        need = 2 * len(sender.export("shapes")) + (1 << 20)  # as HeadBank.put asks for
        flash.size = flash.taken() + need - 1
        before = device.bank.current(), device.bank.accepted()
        with pytest.raises(BankFull, match="heads gc"):
            device.import_bundle(sender.export("shapes"))
        assert (device.bank.current(), device.bank.accepted()) == before and device.verify() == []
        assert device.bank.gc(keep=0) > 0
        device.import_bundle(sender.export("shapes"))
        assert device.tasks == ("colours", "shapes") and device.verify() == []


def test_sqlite_itself_meets_the_end_of_the_flash(rom: Any, tmp_path: Path) -> None:
    """Each of a batch would fit; all of them do not, and then none is kept."""
    flash = Flash(tmp_path, size=2 << 20)
    with open_bank(flash) as bank:
        bank.put("old", bundle("old", SMALL), "learn")
        with pytest.raises(BankFull, match="nothing was changed"), bank.exclusive():
            for i in range(20):
                bank.put(f"task {i}", bundle(i, LARGE), "import")
        assert set(bank.current()) == {"old"} and bank.verify() == []
        assert bank._all("PRAGMA auto_vacuum") == [(2,)]  # which is settled before the first table is made
        bank.put("one", bundle(0, LARGE), "import")


def test_a_flash_without_bound_shows_the_disk(tmp_path: Path) -> None:
    assert abs(Flash(tmp_path).free(tmp_path) - shutil.disk_usage(tmp_path).free) < 1 << 30


# -- wear


def kernel() -> int:
    """Bytes that this process has handed to the kernel in writes."""
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if "wchar" in line).split()[1])


@pytest.mark.parametrize("change", [change_learn, change_batch, change_import, change_rm])
def test_bytes_written_are_those_that_the_kernel_counts(
    filled: dict[str, Path], tmp_path: Path, change: Callable[[HeadBank], None]
) -> None:
    found = []
    for name in ("one", "two"):
        flash = Flash(shutil.copytree(filled["closed"], tmp_path / name))
        with open_bank(flash) as bank:
            before, kernels = flash.written, kernel()
            change(bank)
            assert flash.written - before == pytest.approx(kernel() - kernels, rel=0.2)
        found.append(flash.written)
    assert found[0] == found[1]


def test_bytes_written_by_a_device_that_imports(rom: Any, sender: EdgeDevice, knows_one: Path) -> None:
    data = sender.export("shapes")
    flash = Flash(knows_one)
    with EdgeDevice(knows_one, rom=rom, disk=flash) as device:
        device.refresh()
        before, kernels = flash.written, kernel()
        device.import_bundle(data)
        written = flash.written - before
        assert written == pytest.approx(kernel() - kernels, rel=0.2)
    assert written > 2 * len(data) and from_bytes(data).task == "shapes"
