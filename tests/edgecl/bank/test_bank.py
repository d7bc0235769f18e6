"""The bank: history, several processes at once, and what it does when disk or file are not as they should be."""

import contextlib
import hashlib
import multiprocessing
import os
import random
import shutil
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgecl.bank.bank import FORMAT, HeadBank
from edgecl.errors import BankBusy, BankCorrupt, BankError, BankFull, BankReadOnly, BankTooNew, UnknownTask
from firmware_sim.faults import cut_after, read_only, small_disk

fork = multiprocessing.get_context("fork")
LARGE = 300_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "bank.sqlite"


@pytest.fixture
def bank(path):
    with HeadBank(path, clock=lambda: 0.0) as bank:
        yield bank


def in_child(task, *arguments):
    """Do it in a process of its own, to the end."""
    child = fork.Process(target=task, args=arguments)
    child.start()
    child.join()
    assert child.exitcode == 0


def put(path, task, data):
    with HeadBank(path) as bank:
        bank.put(task, data, "learn")


def numbers(bank, task):
    return [g.number for g in bank.history(task)], [g.number for g in bank.history(task) if g.current]


# -- history


def test_put_appends_a_generation_and_keeps_the_old_one(bank):
    first = bank.put("birds", b"one", "learn")
    second = bank.put("birds", b"two", "import")
    assert (first.number, first.current, second.number, second.action) == (1, True, 2, "import")
    assert numbers(bank, "birds") == ([1, 2], [2])
    assert [bank.get(g.digest) for g in bank.history("birds")] == [b"one", b"two"]
    assert bank.current() == {"birds": hashlib.sha256(b"two").hexdigest()}
    assert bank.size() == 6


def test_put_instead_of_an_earlier_generation_takes_it_out_of_history_and_leaves_its_bundle_to_readers(bank):
    for data in (b"before", b"first", b"second", b"third"):
        last = bank.history("birds")[-1].number if bank.current() else None
        bank.put("birds", data, "learn", instead_of=last if data in (b"second", b"third") else None, sketch=data)
    assert [(g.number, g.current) for g in bank.history("birds")] == [(1, False), (4, True)]
    assert bank.get(hashlib.sha256(b"second").hexdigest()) == b"second"  # somebody may have looked it up just now
    with pytest.raises(BankError):
        bank.get(hashlib.sha256(b"first").hexdigest())
    assert bank.rollback("birds").number == 1
    assert bank.verify() == []
    bank.rollback("birds", 4)
    bank.gc(keep=0)
    assert bank.size() == len(b"third")


def test_put_of_the_same_bytes_changes_nothing(bank):
    first = bank.put("birds", b"one", "learn")
    version = bank.version()
    assert bank.put("birds", b"one", "import") == first
    assert bank.version() == version


def test_bundle_of_two_tasks_is_stored_once(bank):
    assert bank.put("a", b"same", "learn").digest == bank.put("b", b"same", "learn").digest
    assert bank.size() == 4


def test_rollback_goes_back_one_by_one_or_to_a_number(bank):
    for data in (b"1", b"2", b"3"):
        bank.put("birds", data, "learn")
    assert bank.rollback("birds").number == 2
    assert bank.rollback("birds").number == 1
    with pytest.raises(BankError, match=r"no generation before 1; kept: generation 1, 2, 3"):
        bank.rollback("birds")
    with pytest.raises(BankError, match="no generation 9"):
        bank.rollback("birds", 9)
    assert numbers(bank, "birds") == ([1, 2, 3], [1])
    assert bank.rollback("birds", 3).number == 3


def test_rollback_after_remove_brings_back_what_was_removed(bank):
    """Not the newest one: that had been rolled back from."""
    for data in (b"1", b"2", b"3"):
        bank.put("birds", data, "learn")
    bank.rollback("birds")
    bank.remove("birds")
    assert bank.current() == {}
    assert numbers(bank, "birds") == ([1, 2, 3], [])
    assert bank.rollback("birds").number == 2


def test_unknown_task_is_refused_with_the_known_ones(bank):
    with pytest.raises(UnknownTask, match="empty"):
        bank.remove("birds")
    bank.put("leaves", b"x", "learn")
    for ask in (bank.remove, bank.rollback, bank.history):
        with pytest.raises(UnknownTask, match="'birds'; it knows leaves"):
            ask("birds")
    with pytest.raises(BankError, match="no bundle 0000"):
        bank.get("0" * 64)


def test_gc_keeps_what_is_in_force_and_the_generations_before_it(bank):
    for data in (b"1", b"2", b"3", b"4"):
        bank.put("birds", data, "learn")
    bank.put("gone", b"55", "learn")
    bank.remove("gone")
    bank.rollback("birds")
    assert bank.gc(keep=1) == 4  # generation 1, 4 which was rolled back from, and "gone"
    assert numbers(bank, "birds") == ([2, 3], [3])
    with pytest.raises(UnknownTask):
        bank.history("gone")
    assert bank.gc(keep=0) == 1
    assert bank.gc(keep=0) == 0
    assert numbers(bank, "birds") == ([3], [3])
    with pytest.raises(BankError, match="-1"):
        bank.gc(keep=-1)


def test_gc_shrinks_the_file(bank, path):
    for seed in range(6):
        bank.put("birds", random.Random(seed).randbytes(LARGE), "learn")
    bank.gc(keep=0)
    assert LARGE < sum(file.stat().st_size for file in path.parent.glob("*[!m]")) < 1.2 * LARGE
    assert bank.verify() == []


def test_gc_that_cannot_shrink_says_that_the_heads_are_gone_all_the_same(path):
    with HeadBank(path, patience=0.05) as bank, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        bank.put("birds", bytes(LARGE), "learn")
        bank.put("birds", b"2", "learn")

        def take_the_lock(statement):
            if "incremental_vacuum" in statement and not other.in_transaction:
                other.execute("BEGIN IMMEDIATE")

        bank._db.set_trace_callback(take_the_lock)
        with pytest.raises(BankBusy, match="forgotten, but the file has not shrunk"):
            bank.gc(keep=0)
        bank._db.set_trace_callback(None)
        other.execute("ROLLBACK")
        assert numbers(bank, "birds") == ([2], [2])
        bank.gc(keep=0)
        assert path.stat().st_size < LARGE


class AgainstADict(RuleBasedStateMachine):
    """Whatever is done in whatever order, the bank tells what a dictionary of lists would."""

    tasks = st.sampled_from(["a", "b", "c"])

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bank = HeadBank(self.folder / "bank.sqlite")
        self.kept = {}  # task -> {number: data}
        self.pointer = {}  # task -> number
        self.removed = set()

    def teardown(self):
        self.bank.close()
        shutil.rmtree(self.folder)

    def in_force(self):
        return {t: self.kept[t][n] for t, n in self.pointer.items() if t not in self.removed}

    @rule(task=tasks, data=st.binary(max_size=2), times=st.integers(1, 3000))
    def put(self, task, data, times):
        data *= times
        if self.in_force().get(task) != data:
            kept = self.kept.setdefault(task, {})
            self.pointer[task] = max(kept, default=0) + 1
            kept[self.pointer[task]] = data
        self.removed.discard(task)
        assert self.bank.put(task, data, "learn").number == self.pointer[task]

    @rule(task=tasks)
    def remove(self, task):
        if task not in self.in_force():
            with pytest.raises(UnknownTask):
                self.bank.remove(task)
            return
        self.bank.remove(task)
        self.removed.add(task)

    @rule(task=tasks, to=st.none() | st.integers(1, 4))
    def rollback(self, task, to):
        there = self.kept.get(task, {})
        if (to is None and task in there) or (to is None and task in self.removed):
            to = self.pointer[task]
        elif to is None:
            to = max((n for n in there if n < self.pointer[task]), default=None)
        if to not in there:
            with pytest.raises(BankError):
                self.bank.rollback(task, to)
            return
        assert self.bank.rollback(task, to).number == to
        self.pointer[task] = to
        self.removed.discard(task)

    @rule(keep=st.integers(0, 2))
    def gc(self, keep):
        for task in self.removed:
            del self.kept[task], self.pointer[task]
        self.removed.clear()
        for task, now in self.pointer.items():
            stay = [n for n in sorted(self.kept[task]) if n <= now][-keep - 1 :]
            self.kept[task] = {n: self.kept[task][n] for n in stay}
        self.bank.gc(keep)

    @rule()
    def reopen(self):
        self.bank.close()
        self.bank = HeadBank(self.folder / "bank.sqlite")

    @invariant()
    def tells_the_same(self):
        assert {t: self.bank.get(d) for t, d in self.bank.current().items()} == self.in_force()
        for task, kept in self.kept.items():
            assert {g.number: self.bank.get(g.digest) for g in self.bank.history(task)} == kept
        assert self.bank.size() == sum(map(len, {d for kept in self.kept.values() for d in kept.values()}))
        assert self.bank.verify() == []


AgainstADict.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAgainstADict = AgainstADict.TestCase


# -- several processes


def test_version_changes_with_every_change_here_or_elsewhere_and_not_without(bank, path):
    seen = [bank.version()]
    assert bank.version() == seen[0]
    bank.put("birds", b"1", "learn")
    seen.append(bank.version())
    in_child(put, path, "birds", b"2")
    seen.append(bank.version())
    bank.remove("birds")
    seen.append(bank.version())
    bank.gc(0)
    seen.append(bank.version())
    assert len(set(seen)) == 5
    bank.current(), bank.size(), bank.verify()
    assert bank.version() == seen[-1]


@pytest.mark.parametrize("attempt", range(5))
def test_processes_that_create_the_bank_at_once_all_get_it(path, attempt):
    ready = fork.Barrier(6)

    def create(name):
        ready.wait()
        put(path, name, name.encode())

    children = [fork.Process(target=create, args=(f"task{i}",)) for i in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 6
    with HeadBank(path) as bank:
        assert list(bank.current()) == [f"task{i}" for i in range(6)]
        assert bank._all("PRAGMA journal_mode") == [("wal",)]
        assert bank._all("PRAGMA auto_vacuum") == [(2,)]


def test_bank_cut_before_its_switch_to_wal_waits_for_readers_and_then_switches(path):
    """SQLite itself does not wait there, whatever its timeout."""
    put(path, "birds", b"1")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN")
        other.execute("SELECT * FROM current").fetchall()
        with pytest.raises(BankBusy):
            HeadBank(path, patience=0.05)
        soon = threading.Timer(0.1, other.execute, ["COMMIT"])
        soon.start()
        with HeadBank(path, patience=30) as bank:
            assert bank._all("PRAGMA journal_mode") == [("wal",)]
        soon.join()


def test_two_processes_that_learn_the_same_task_lose_nothing(path):
    def learn(name):
        with HeadBank(path) as bank:
            for i in range(25):
                assert bank.put("birds", f"{name} {i}".encode(), "learn").current

    children = [fork.Process(target=learn, args=(name,)) for name in ("left", "right")]
    for child in children:
        child.start()
    for child in children:
        child.join()
    with HeadBank(path) as bank:
        history = bank.history("birds")
        assert [g.number for g in history] == list(range(1, 51))
        assert {bank.get(g.digest) for g in history} == {f"{n} {i}".encode() for n in ("left", "right") for i in range(25)}


def test_threads_share_a_bank(bank):
    def learn(name):
        for i in range(10):
            assert bank.put(name, f"{name} {i}".encode(), "learn").number == i + 1
            assert bank.get(bank.current()[name]) == f"{name} {i}".encode()

    threads = [threading.Thread(target=learn, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [g.number for name in "abcd" for g in bank.history(name)] == list(range(1, 11)) * 4


def test_reader_sees_a_whole_state_at_every_moment_of_100_writes(bank, path):
    def write():
        with HeadBank(path) as writer:
            for i in range(1, 101):
                writer.put("birds", i.to_bytes(2, "big") * (LARGE // 2 if i % 10 == 0 else 2500), "learn")

    writer = fork.Process(target=write)
    writer.start()
    seen = []
    while not seen or seen[-1] < 100:
        for digest in bank.current().values():
            data = bank.get(digest)
            assert data == data[:2] * (len(data) // 2)
            seen.append(int.from_bytes(data[:2], "big"))
        if not writer.is_alive() and (not seen or seen[-1] < 100):
            seen.append(int.from_bytes(bank.get(bank.current()["birds"])[:2], "big"))
            break
    writer.join()
    assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert len(set(seen)) > 2


def test_second_writer_waits_and_then_says_that_another_writes(path):
    with HeadBank(path, patience=0.1) as bank, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        with pytest.raises(BankBusy, match="nothing was changed"):
            bank.put("birds", b"1", "learn")
        assert time.monotonic() - begin >= 0.1
        assert bank.current() == {}  # readers do not wait
        other.execute("ROLLBACK")
        assert bank.put("birds", b"1", "learn").number == 1


def test_what_is_reported_as_done_is_synced(bank):
    """The level on which the promise about power cuts rests; 2 is FULL."""
    assert bank._all("PRAGMA synchronous") == [(2,)]
    assert bank._all("PRAGMA journal_mode") == [("wal",)]
    assert bank._all("PRAGMA foreign_keys") == [(1,)]


# -- files that are not as they should be


def test_damaged_bundle_is_found_named_and_repaired_by_the_same_bundle(bank, path):
    data = random.Random(0).randbytes(LARGE)
    digest = bank.put("birds", data, "learn").digest
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE bundles SET data = ?", (data[:-1] + bytes([data[-1] ^ 1]),))
    with pytest.raises(BankCorrupt, match=digest[:12]):
        bank.get(digest)
    assert [f"bundle {digest[:12]} (birds generation 1) differs from its digest"] == bank.verify()
    assert bank.put("birds", data, "import").number == 1
    assert bank.get(digest) == data
    assert bank.verify() == []


def test_flipped_bytes_give_an_error_or_the_right_bundle_but_never_a_wrong_one(path):
    right = {random.Random(i).randbytes(3000) for i in range(4)}
    for data in right:
        put(path, "birds", data)
    whole = path.read_bytes()
    random_ = random.Random(0)
    found = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in random_.sample(range(len(whole)), 20):
            damaged[at] ^= 1 << random_.randrange(8)
        path.write_bytes(damaged)
        try:
            with HeadBank(path) as bank:
                found += bool(bank.verify())
                for digest in bank.current().values():
                    assert bank.get(digest) in right
                bank.history("birds")
        except BankError:
            found += 1
    assert found > 200


def test_newer_format_is_refused_and_untouched(bank, path):
    bank.put("birds", b"1", "learn")
    bank._all(f"PRAGMA user_version = {FORMAT + 1}")
    bank.close()
    before = path.read_bytes()
    with pytest.raises(BankTooNew, match=f"format {FORMAT + 1}.*up to {FORMAT}"):
        HeadBank(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_other_sqlite_file_is_refused_and_untouched(tmp_path):
    path = tmp_path / "bank.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    with pytest.raises(BankError, match="no edgecl bank"):
        HeadBank(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no", b"not a database at all, but long enough " * 200, bytes(5000)])
def test_file_that_is_no_database_is_refused_and_untouched(tmp_path, content):
    path = tmp_path / "bank.sqlite"
    path.write_bytes(content)
    with pytest.raises(BankError, match=r"bank\.sqlite.*(damaged|no edgecl bank)"):
        HeadBank(path)
    assert path.read_bytes() == content


def test_truncated_file_is_refused_at_any_length(path):
    put(path, "birds", random.Random(0).randbytes(20_000))
    whole = path.read_bytes()
    for length in (2, 50, 99, 100, 511, 1000, 4096, 8192, 20_000, len(whole) - 4096):
        path.write_bytes(whole[:length])
        with pytest.raises(BankCorrupt, match="damaged"):
            HeadBank(path)
    path.write_bytes(whole[:-1])  # SQLite counts whole pages, but the bundle's digest misses the byte
    with HeadBank(path) as bank:
        assert len(bank.verify()) == 1


def test_empty_file_becomes_a_bank(tmp_path):
    """What is left when the power goes between making the file and its first page."""
    (tmp_path / "bank.sqlite").touch()
    put(tmp_path / "bank.sqlite", "birds", b"1")


def test_folder_in_its_place_is_refused(tmp_path):
    (tmp_path / "bank.sqlite").mkdir()
    with pytest.raises(BankError, match="is a folder"):
        HeadBank(tmp_path / "bank.sqlite")


def test_file_in_the_place_of_its_folder_is_refused(tmp_path):
    (tmp_path / "home").touch()
    with pytest.raises(BankReadOnly, match=r"folder .* cannot be used: (File exists|Not a directory)"):
        HeadBank(tmp_path / "home" / "bank.sqlite")


@pytest.mark.parametrize("name", ["bank#1?x=y.sqlite", "bänk %41 \n.sqlite"])
def test_any_file_name_is_taken_as_it_is(tmp_path, name):
    put(tmp_path / name, "birds", b"1")
    assert os.listdir(tmp_path) == [name]


# -- disks that are not as they should be


def test_read_only_bank_is_read_and_says_that_it_cannot_be_written(path):
    put(path, "birds", b"1")
    with read_only(path.parent), HeadBank(path) as bank:
        assert [bank.get(digest) for digest in bank.current().values()] == [b"1"]
        assert bank.verify() == []
        for change in (lambda: bank.put("birds", b"2", "learn"), lambda: bank.remove("birds"), bank.gc):
            with pytest.raises(BankReadOnly, match=r"cannot be written.*nothing was changed"):
                change()
    assert os.listdir(path.parent) == [path.name]


def test_bank_cannot_be_made_on_a_read_only_disk(tmp_path):
    with read_only(tmp_path):
        for path in (tmp_path / "bank.sqlite", tmp_path / "home" / "bank.sqlite"):
            with pytest.raises(BankReadOnly):
                HeadBank(path)


def test_read_only_bank_with_changes_in_its_log_shows_them_or_nothing(path):
    """Never the older state that the file without its log would show."""

    def put_into_the_log():
        bank = HeadBank(path)
        bank._all("PRAGMA wal_autocheckpoint = 0")
        bank.put("birds", b"1", "learn")

    assert not cut_after(60).strikes(put_into_the_log)
    with read_only(path.parent), HeadBank(path) as bank:
        assert [bank.get(digest) for digest in bank.current().values()] == [b"1"]
    (path.parent / "bank.sqlite-shm").unlink()
    with read_only(path.parent), pytest.raises(BankReadOnly):
        HeadBank(path)
    with HeadBank(path) as bank:
        assert list(bank.current()) == ["birds"]


def put_until_full(bank):
    for seed in range(1, 100):
        try:
            bank.put("birds", random.Random(seed).randbytes(LARGE), "learn")
        except BankFull as error:
            assert "nothing was changed. Free some space: delete" in str(error) and "edgecl heads gc" in str(error)
            return seed - 1
    pytest.fail("the disk was never full")


def check_old_state(bank, written):
    assert written >= 2
    assert bank.verify() == []
    assert numbers(bank, "birds") == (list(range(1, written + 1)), [written])
    assert bank.get(bank.current()["birds"]) == random.Random(written).randbytes(LARGE)


@pytest.mark.parametrize("size", range(2_900_000, 3_900_000, 170_000))
@pytest.mark.parametrize("real", [True, False])
def test_full_disk_keeps_the_old_state_and_gc_makes_room(path, real, size):
    if real and os.geteuid():
        pytest.skip("mounting a small disk needs root")
    path.parent.mkdir()
    with small_disk(path.parent, size, real), HeadBank(path) as bank:
        written = put_until_full(bank)
        check_old_state(bank, written)
        assert bank.gc(keep=0) == LARGE * (written - 1)
        assert bank.put("birds", b"and on", "learn").number == written + 1
        assert put_until_full(bank) >= 2
        assert bank.verify() == []


@pytest.mark.parametrize("size", range(1_500_000, 2_500_000, 70_000))
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_disk_that_others_fill_in_the_middle_of_a_write_keeps_the_old_state(path, size, monkeypatch):
    """As if the space had been there at the look: SQLite itself then meets the full disk, in the log or in the file."""
    path.parent.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, 1 << 40))
    with small_disk(path.parent, size, real=True):
        with HeadBank(path) as bank:
            written = put_until_full(bank)
            check_old_state(bank, written)
        with HeadBank(path) as bank:
            check_old_state(bank, written)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_disk_that_is_full_before_the_bank_is_made(path):
    path.parent.mkdir()
    for free in (0, 4096, 12_288, 40_960, 500_000):
        with small_disk(path.parent, 2_000_000, real=True):
            (path.parent / "other").write_bytes(bytes(1_990_000 - free))
            with pytest.raises((BankFull, BankReadOnly), match=r"full|space"), HeadBank(path) as bank:
                bank.put("birds", bytes(50_000), "learn")
            (path.parent / "other").unlink()
            put(path, "birds", b"1")


def test_folder_that_is_gone_is_an_error_with_a_sentence(bank, path):
    shutil.rmtree(path.parent)
    with pytest.raises(BankError, match=r"bank\.sqlite.*nothing was changed"):
        bank.put("birds", b"1", "learn")


@pytest.mark.parametrize("column", ["digest", "action"])
def test_damage_that_leaves_a_number_where_a_word_was_is_told(tmp_path: Path, column: str) -> None:
    """As a bad sector does that SQLite itself does not notice."""
    path = tmp_path / "bank.sqlite"
    with HeadBank(path) as bank:
        bank.put("birds", b"bundle", "learn")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')')")
        db.commit()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(f"UPDATE generations SET {column} = CAST(x'07' AS BLOB)")
        db.commit()
    with HeadBank(path) as bank, pytest.raises(BankCorrupt, match="is no text"):
        bank.current() if column == "digest" else bank.actions()


def test_a_table_whose_definition_was_damaged_is_told_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "bank.sqlite"
    with HeadBank(path) as bank:
        bank.put("birds", b"bundle", "learn", sketch=b"sketch")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'sha256 TEXT', 'sha257 TEXT') WHERE name = 'sketches'")
        db.commit()
    with HeadBank(path) as bank, pytest.raises(BankCorrupt, match="no such column"):
        bank.sketch(bank.current()["birds"])
