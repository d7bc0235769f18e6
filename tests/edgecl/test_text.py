"""Foreign names never act on a terminal, and stay readable."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecl.text import duration, printable, size


@pytest.mark.parametrize("name", ["birds/a b.jpg", "Zürich/猫.png", "दिल्ली.jpg", "👩\u200d🚀.jpg", "a\\b"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines", "two\\nlines"),
        ("\x1b[2Jclear", "\\x1b[2Jclear"),
        ("\x9b31m", "\\x9b31m"),  # CSI in one character: an escape sequence without ESC
        ("safe\u202egpj.exe", "safe\\u202egpj.exe"),
        ("line\u2028end", "line\\u2028end"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("not yet a letter \ud7a4", "not yet a letter \\ud7a4"),
        ("somebody's own \ue000", "somebody's own \\ue000"),
    ],
)
def test_what_acts_on_the_screen_or_hides_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_bytes_that_are_no_utf8_are_shown_as_bytes() -> None:
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    assert printable(b"caf\xe9.jpg") == "caf\\xe9.jpg"
    assert printable(Path("a/b.jpg")) == "a/b.jpg"


def test_a_long_name_loses_its_middle_and_keeps_both_ends() -> None:
    shown = printable("start" + "x" * 5000 + "end.jpg", limit=40)
    assert len(shown) == 40
    assert shown.startswith("start") and shown.endswith("end.jpg") and "…" in shown


@given(st.text(st.characters()))
def test_whatever_comes_prints_on_one_line_within_the_limit(name: str) -> None:
    shown = printable(name, limit=60)
    assert len(shown) <= 60 and len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    shown.encode("utf-8")


def test_numbers_for_people_round_before_they_choose_the_unit() -> None:
    assert [duration(s) for s in (0, 9.94, 9.96, 59.6, 125, 3599.7, 12000)] == [
        *("0.0 s", "9.9 s", "10 s", "1 min 0 s", "2 min 5 s", "1 h 0 min", "3 h 20 min"),
    ]
    assert [size(n) for n in (0, 999, 25_600, 3e6)] == ["0 B", "999 B", "25.6 kB", "3.0 MB"]
