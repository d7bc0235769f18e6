"""The trace: in the order of time whatever order it was told in, and read back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecl.errors import DataError
from firmware_sim.trace import Trace, read


def test_events_come_in_the_order_of_time_then_of_agents_then_as_told(tmp_path: Path) -> None:
    heard = []
    with Trace(tmp_path / "t.jsonl", heard.append) as trace:
        trace.emit(2.0, 0, "a", "late")
        trace.emit(1.0, 1, "b", "second")
        trace.emit(1.0, 0, "a", "first")
        trace.emit(1.0, 1, "b", "third")
        trace.flush(2.0)
        assert [event["event"] for event in heard] == ["first", "second", "third"]
        trace.emit(2.0, 0, "a", "last", **{"from": "b"})
    events = list(read(tmp_path / "t.jsonl"))
    assert [event["event"] for event in events] == ["first", "second", "third", "late", "last"] and events == heard
    assert events[-1] == {"t": 2.0, "agent": "a", "event": "last", "from": "b"}


def test_times_are_rounded_to_microseconds(tmp_path: Path) -> None:
    with Trace(tmp_path / "t.jsonl") as trace:
        trace.emit(1 / 3, 0, "a", "x")
    assert next(read(tmp_path / "t.jsonl"))["t"] == 0.333333


def test_a_line_that_was_cut_off_is_left_out_and_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"event":"a"}\n{"event":"b"')
    assert [event["event"] for event in read(path)] == ["a"]
    for text in ("[]\n", '{"t":1}\n', "no\n", '{"event":3}\n'):
        path.write_text(text)
        with pytest.raises(DataError):
            list(read(path))
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError):
        list(read(path))
    with pytest.raises(DataError):
        list(read(tmp_path / "none"))
