"""Bundles that stand on others: these come with them, and stay for as long as they do."""

import hashlib

import pytest

from edgecl.bank.bank import HeadBank
from edgecl.errors import BankError


def name(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def bank(tmp_path):
    with HeadBank(tmp_path / "bank.sqlite") as opened:
        yield opened


def test_what_is_missing_lets_nothing_in(bank):
    with pytest.raises(BankError, match="does not hold"):
        bank.put("leaves", b"top", "import", below={name(b"base"): None})
    assert bank.current() == {} and bank.size() == 0


def test_bases_come_with_it_in_their_order_and_answer_for_no_task(bank):
    below = {name(data): data for data in (b"second", b"first")}
    there = bank.put("leaves", b"top", "import", below=below)
    assert list(bank.below(there.digest)) == list(below) and bank.current() == {"leaves": there.digest}
    assert bank.get(name(b"first")) == b"first" and bank.generations() == [("leaves", there.digest)]
    assert bank.size() == len(b"secondfirsttop")


def test_gc_keeps_what_is_stood_on_and_no_more(bank):
    base = bank.put("letters", b"1", "learn").digest
    middle = bank.put("digits", b"2", "learn", below={base: None}).digest
    bank.put("leaves", b"3", "learn", below={base: None, middle: None})
    bank.put("letters", b"4", "learn")
    bank.put("digits", b"5", "learn")
    assert bank.above("letters") == bank.above("digits") == ["leaves"]
    bank.gc(keep=0)
    assert bank.get(base) == b"1" and bank.get(middle) == b"2" and bank.size() == 5
    assert len(bank.history("letters")) == 1, "it is kept as a base, not as a generation"
    bank.remove("leaves")
    bank.gc(keep=0)
    assert bank.size() == 2 and bank.above("letters") == [] and bank.verify() == []


def test_the_same_base_again_repairs_it(bank):
    bank.put("leaves", b"top", "import", below={name(b"base"): b"base"})
    bank._all("UPDATE bundles SET data = x'00' WHERE digest = ?", name(b"base"))
    assert not bank.sound(name(b"base"))
    bank.put("leaves", b"top", "import", below={name(b"base"): b"base"})
    assert bank.sound(name(b"base"))
