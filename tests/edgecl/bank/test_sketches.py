"""Sketches in the bank: with their bundle or not at all, and banks of earlier formats taken up."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from edgecl.bank.bank import FORMAT, HeadBank
from edgecl.errors import BankError
from firmware_sim.faults import count, cut_at_call, cut_at_instruction, read_only

DOWN_TO = {
    1: "DROP TABLE stands_on; DROP TABLE sketches; DROP TABLE accepted;",
    2: "DROP TABLE stands_on; DROP TABLE sketches;",
    3: "DROP TABLE stands_on;",
}


def of_format(path, number):
    """A bank as an earlier edgecl left it, with one task."""
    with HeadBank(path) as bank:
        bank.put("birds", b"1", "learn", ("k", "rom", 7))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{DOWN_TO[number]} PRAGMA user_version = {number}; PRAGMA wal_checkpoint(TRUNCATE);")
    return path


def test_a_sketch_lies_beside_its_bundle_and_goes_with_it(tmp_path):
    with HeadBank(tmp_path / "bank.sqlite") as bank:
        first = bank.put("birds", b"1", "learn", sketch=b"one")
        second = bank.put("birds", b"2", "learn")
        assert (bank.sketch(first.digest), bank.sketch(second.digest)) == (b"one", None)
        size = bank.size()
        bank.put("birds", b"2", "learn", sketch=b"two")
        assert bank.sketch(second.digest) == b"two" and bank.size() == size, "the quota is of bundles"
        bank.gc(keep=0)
        assert (bank.sketch(first.digest), bank.sketch(second.digest)) == (None, b"two")
        assert bank._all("SELECT count(*) FROM sketches") == [(1,)] and bank.verify() == []


@pytest.mark.parametrize("number", DOWN_TO)
def test_a_bank_of_an_earlier_format_is_taken_up_with_all_it_holds(tmp_path, number):
    path = of_format(tmp_path / "bank.sqlite", number)
    with read_only(path.parent), HeadBank(path) as bank:
        assert bank.sketch(bank.current()["birds"]) is None and bank.verify() == []
    with HeadBank(path) as bank:
        assert bank._all("PRAGMA user_version") == [(FORMAT,)] and bank.verify() == []
        assert bool(bank.accepted()) == (number >= 2), "the counters stay, where there were any"
        there = bank.put("birds", b"2", "learn", sketch=b"s")
        assert bank.sketch(there.digest) == b"s" and [g.number for g in bank.history("birds")] == [1, 2]


@pytest.mark.parametrize("number", DOWN_TO)
def test_a_power_cut_while_a_bank_is_taken_up_loses_nothing(tmp_path, number):
    """At every system call of opening a bank of an earlier format, and at instructions between."""
    old = of_format(tmp_path / "old.sqlite", number)

    def copy(name):
        (tmp_path / name).mkdir()
        return shutil.copy(old, tmp_path / name / "bank.sqlite")

    def opened(path):
        HeadBank(tmp_path / path / "bank.sqlite").close()

    copy("count")
    cuts = [cut_at_call(k) for k in range(1, count(cut_at_call, lambda: opened("count")) + 1)]
    copy("count again")
    last = count(cut_at_instruction, lambda: opened("count again"))
    cuts += [cut_at_instruction(k) for k in range(1, last + 1, max(1, last // 20))]
    died = 0
    for k, cut in enumerate(cuts):
        copy(str(k))
        died += cut.strikes(lambda k=k: opened(str(k)))
        with HeadBank(tmp_path / str(k) / "bank.sqlite") as bank:
            assert bank.current().keys() == {"birds"} and bank.verify() == []
            assert bank.sketch(bank.put("new", b"2", "learn", sketch=b"s").digest) == b"s"
    assert died > 50


def test_changes_inside_one_transaction_stay_together_and_a_failed_one_undoes_only_itself(tmp_path):
    def refuses():
        raise BankError("not this one")

    with HeadBank(tmp_path / "bank.sqlite") as bank:
        with bank.exclusive():
            bank.put("a", b"1", "import")
            with pytest.raises(BankError, match="not this one"):
                bank.put("b", b"2", "import", require=refuses)
            bank.put("c", b"3", "import", sketch=b"s")
            with HeadBank(tmp_path / "bank.sqlite") as other:
                assert other.current() == {}
        assert list(bank.current()) == ["a", "c"] and bank.verify() == []
        with pytest.raises(ZeroDivisionError), bank.exclusive():
            bank.put("d", b"4", "import", sketch=b"s")
            raise ZeroDivisionError
        assert list(bank.current()) == ["a", "c"] and bank.size() == 2
