"""Lines with a path and a label, and folders in which pictures appear: what is given, when, and what is passed over."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecl.errors import DataError
from edgecl.pictures.labelled import LONGEST_LINE, Labelled, Watch, lines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reading and writing end; a test may close the latter."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def read_all(pipe: tuple[int, int], data: bytes) -> list[Labelled]:
    os.write(pipe[1], data)
    os.close(pipe[1])
    return [one for one in lines(pipe[0]) if one is not None]


def test_both_forms_of_a_line_are_read(pipe: tuple[int, int]) -> None:
    data = b'{"path": "a b.jpg", "label": "great tit", "time": 3}\n\n  \nc\td.png\trobin\r\n{"path": "e", "label": "e\xcc\x81"}'
    found = read_all(pipe, data)
    assert [(str(one.path), one.label) for one in found] == [("a b.jpg", "great tit"), ("c\td.png", "robin"), ("e", "é")]
    assert all(one.error is None for one in found)


@pytest.mark.parametrize(
    "line",
    [
        b"no label",
        b"\tlabel",
        b"path\t",
        b"{",
        b'{"path": 1, "label": "x"}',
        b'{"path": "x"}',
        b'{"path": "x", "label": ["a"]}',
        b'{"path": "x", "label": ""}',
        b'{"path": "x", "label": "a\\u0007"}',
        b'{"path": "x", "label": "' + b"l" * 300 + b'"}',
        b"\xff\xfe\tx",
        b'{"a":' * 20_000,
        b"x" * (LONGEST_LINE - 2) + b"\tlab",
    ],
)
def test_a_bad_line_is_named_by_its_number_and_the_next_is_read(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "list").write_bytes(b"a\tx\n" + line + b"\nb\ty\n")
    with (tmp_path / "list").open("rb") as file:
        first, bad, last = (one for one in lines(file.fileno()) if one is not None)
    assert (first.label, last.label) == ("x", "y")
    assert bad.error is not None and "line 2" in str(bad.error) and len(str(bad.error)) < 400
    assert "\x07" not in str(bad.error)


def test_an_endless_line_is_not_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"x" * (40 * LONGEST_LINE) + b"\nb\ty\n")
    with (tmp_path / "list").open("rb") as file:
        bad, good = (one for one in lines(file.fileno()) if one is not None)
    assert "more than 65,536 bytes" in str(bad.error) and good.label == "y"


def test_a_line_is_given_as_soon_as_it_is_whole_and_none_while_nothing_comes(pipe: tuple[int, int]) -> None:
    found = lines(pipe[0], wait=0.01)
    os.write(pipe[1], json.dumps({"path": "a", "label": "x"}).encode() + b"\nb\t")
    first = next(found)
    assert first is not None and first.label == "x"
    assert next(found) is None  # half a line is none
    os.write(pipe[1], b"y\n")
    second = next(found)
    assert second is not None and second.label == "y"
    os.close(pipe[1])
    assert list(found) == []


def test_a_watch_gives_a_picture_once_when_nobody_writes_it_any_more(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    assert watch.look() == []
    (tmp_path / "tit").mkdir()
    growing, whole = tmp_path / "tit" / "b.jpg", tmp_path / "tit" / "a.png"
    growing.write_bytes(b"12")
    whole.write_bytes(b"1")
    assert watch.look() == []  # seen, and perhaps half-written
    growing.write_bytes(b"1234")
    assert watch.look() == [Labelled(whole, "tit")]
    assert watch.look() == [Labelled(growing, "tit")]
    assert watch.look() == []
    growing.write_bytes(b"another")
    watch.look()
    assert watch.look() == [Labelled(growing, "tit")]  # it was changed: another picture
    growing.unlink()
    assert watch.look() == []


def test_a_watch_leaves_alone_what_is_no_picture_and_names_a_folder_that_is_no_class_once(tmp_path: Path) -> None:
    for name in ("ok", "bad\x07name", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"1")
    (tmp_path / "ok" / ".part.jpg").write_bytes(b"1")
    (tmp_path / "ok" / "note.txt").write_bytes(b"1")
    (tmp_path / "loose.jpg").write_bytes(b"1")
    (tmp_path / "ok" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "ok" / "pipe.jpg")
    watch = Watch(tmp_path)
    (bad,) = watch.look()
    assert bad.error is not None and "gives no class name" in str(bad.error)
    assert watch.look() == [Labelled(tmp_path / "ok" / "a.jpg", "ok")]
    with pytest.raises(DataError, match="cannot be watched"):
        Watch(tmp_path / "nowhere").look()
