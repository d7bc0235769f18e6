"""The faults are real: the child dies by the signal at that point, the disk is full, the folder cannot be written."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from firmware_sim.faults import (
    PowerCut,
    count,
    cut_after,
    cut_at_byte,
    cut_at_call,
    cut_at_instruction,
    read_only,
    small_disk,
)


def write(path, times=10):
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(bytes(1000))


def insert(path):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS t (x)")
    db.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(10)])


def test_cut_at_call_stops_between_two_writes(tmp_path):
    file = tmp_path / "file"
    sizes = set()
    for k in range(1, count(cut_at_call, lambda: write(file)) + 1):
        file.unlink(missing_ok=True)
        assert cut_at_call(k).strikes(lambda: write(file))
        sizes.add(file.stat().st_size if file.exists() else None)
    assert sizes == {None, *range(0, 10_001, 1000)}  # every state there is, and no other


def test_cut_at_call_beyond_the_last_does_not_strike(tmp_path):
    file = tmp_path / "file"
    assert not cut_at_call(1 + count(cut_at_call, lambda: write(file))).strikes(lambda: write(file))
    assert file.stat().st_size == 10_000


def test_cut_at_call_passes_other_deaths_and_signals_on():
    assert cut_at_call(10**6).strikes(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildProcessError, match=f"ended with -{signal.SIGTERM:d}"):
        cut_at_call(10**6).strikes(lambda: os.kill(os.getpid(), signal.SIGTERM))
    heard = []
    signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))

    def hear():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard

    assert not cut_at_call(10**6).strikes(hear)


def test_cut_at_instruction_strikes_up_to_the_count_and_not_after(tmp_path):
    last = count(cut_at_instruction, lambda: insert(tmp_path / "a"))
    assert last > 10
    assert cut_at_instruction(last).strikes(lambda: insert(tmp_path / "b"))
    assert not cut_at_instruction(last + 1).strikes(lambda: insert(tmp_path / "c"))


def test_cut_at_instruction_comes_later_with_larger_k(tmp_path):
    rows = []
    for k in range(5, count(cut_at_instruction, lambda: insert(tmp_path / "count")), 5):
        path = tmp_path / str(k)
        assert cut_at_instruction(k).strikes(lambda path=path: insert(path))
        db = sqlite3.connect(path)
        try:
            rows.append(db.execute("SELECT count(*) FROM t").fetchone()[0])
        except sqlite3.OperationalError:  # the table was not made yet
            rows.append(-1)
        db.close()
    assert rows == sorted(rows)
    assert len(set(rows)) > 5


@pytest.mark.parametrize("offset", [1, 999, 1000, 1001, 5432])
def test_cut_at_byte_tears_the_write_there(tmp_path, offset):
    assert cut_at_byte(offset).strikes(lambda: write(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_size == offset


def test_cut_after_strikes_a_sleeping_process_in_time():
    begin = time.monotonic()
    assert cut_after(0.05).strikes(lambda: time.sleep(30))
    assert 0.05 <= time.monotonic() - begin < 10


def test_cut_leaves_this_process_alone(tmp_path):
    connect, before = sqlite3.connect, signal.getsignal(signal.SIGXFSZ)
    for cut in (cut_at_instruction(1), cut_at_byte(1)):
        assert cut.strikes(lambda: insert(tmp_path / "file"))
    assert sqlite3.connect is connect
    assert signal.getsignal(signal.SIGXFSZ) == before


def test_operation_that_fails_of_itself_is_no_power_cut(capfd):
    with pytest.raises(ChildProcessError, match="ended with 1"):
        cut_after(30).strikes(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_death_by_another_signal_is_no_power_cut():
    with pytest.raises(ChildProcessError):
        cut_after(30).strikes(lambda: os.kill(os.getpid(), signal.SIGTERM))


@pytest.mark.parametrize("cut", ["cut_at_call(2_000)", "cut_at_byte(100)", "cut_after(0.2)"])
def test_arm_works_in_a_fresh_interpreter(tmp_path, cut):
    """The way for operations with threads, which must not be forked."""
    file = str(tmp_path / "file")
    code = f"from firmware_sim.faults import *\n{cut}.arm()\nwhile True: open({file!r}, 'wb').write(bytes(999))"
    made: PowerCut = eval(cut)
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -made.signal


@pytest.mark.parametrize("real", [True, False])
def test_small_disk_fills_up_and_is_gone_afterwards(tmp_path, real):
    if real and os.geteuid():
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "before").touch()
    with small_disk(folder, 200_000, real) as kind:
        assert kind == ("tmpfs" if real else "max_page_count")
        db = sqlite3.connect(folder / "db", isolation_level=None)
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (zeroblob(50000))")
        with pytest.raises(sqlite3.OperationalError) as error:
            db.execute("INSERT INTO t VALUES (zeroblob(300000))")
        assert error.value.sqlite_errorcode == sqlite3.SQLITE_FULL
        db.close()
        if real:
            with pytest.raises(OSError, match="No space left"):
                (folder / "file").write_bytes(bytes(300_000))
    assert (folder / "before").exists()
    db = sqlite3.connect(folder / "db", isolation_level=None)
    db.execute("CREATE TABLE u (x)")
    db.execute("INSERT INTO u VALUES (zeroblob(300000))")
    db.close()


def test_read_only_refuses_writes_and_ends(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with read_only(tmp_path) as kind:
        assert kind == ("mode" if os.geteuid() else "mount")
        assert (tmp_path / "file").read_bytes() == b"old"
        for change in (lambda: (tmp_path / "file").write_bytes(b"new"), lambda: (tmp_path / "other").touch()):
            with pytest.raises(OSError, match=r"Read-only|Permission"):
                change()
    (tmp_path / "file").write_bytes(b"new")
