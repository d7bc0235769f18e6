"""Folders, lists and arguments: the right pictures in a stable order, and nothing passed over in silence."""

from __future__ import annotations

import hashlib
import io
import os
import queue
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecl.errors import DataError, EmptyTask, PictureError
from edgecl.pictures.decode import decode
from edgecl.pictures.folders import digest, duplicates, expand, scan
from edgecl.rom.preprocess import Preprocess


def put(root: Path, *names: str, colour: int = 0) -> None:
    """Real pictures, each of another colour."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (colour, i, 0)).save(path, "PNG")


def refusal(path: Path, split: str = "train", kind: type[DataError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        scan(path, split)
    return str(caught.value)


# -- folders


def test_a_folder_per_class_gives_sorted_classes_and_files(tmp_path: Path) -> None:
    put(tmp_path, "b/2.png", "b/10.png", "a/x.PNG", "a/deep/er/y.png")
    task = scan(tmp_path)
    assert task.classes == ("a", "b")
    assert [str(f.relative_to(tmp_path)) for f in task.files] == ["a/deep/er/y.png", "a/x.PNG", "b/10.png", "b/2.png"]
    assert task.labels == (0, 0, 1, 1) and task.counts == {"a": 2, "b": 2}
    assert task.notes == () and task.splits == ("train",)


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "Validation"])
def test_train_and_a_held_out_part_inside_are_found(held_out: str, tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/1.png", f"{held_out}/a/2.png", f"{held_out}/b/2.png")
    assert [f.name for f in scan(tmp_path).files] == ["1.png", "1.png"]
    test = scan(tmp_path, "test")
    assert [f.name for f in test.files] == ["2.png", "2.png"]
    assert len(test.splits) == 2 and (held_out == "test") == (test.notes == ())  # a val part that serves is noted


def test_test_is_preferred_to_val_and_val_can_be_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/2.png", "val/a/3.png", "docs/readme.png")
    assert [scan(tmp_path, part).files[0].name for part in ("train", "test", "val")] == ["1.png", "2.png", "3.png"]
    assert any("docs" in note for note in scan(tmp_path).notes)


def test_train_can_be_a_class_beside_bus(tmp_path: Path) -> None:
    put(tmp_path, "bus/1.png", "car/1.png", "train/1.png", "train/steam/2.png")
    assert scan(tmp_path).classes == ("bus", "car", "train")


def test_a_part_that_is_not_there_is_refused_and_the_others_named(tmp_path: Path) -> None:
    put(tmp_path, "flat/a/1.png", "flat/b/1.png", "parts/train/a/1.png", "parts/test/a/1.png")
    assert "test/CLASS/" in refusal(tmp_path / "flat", "test")
    assert "test, train" in refusal(tmp_path / "parts", "val")
    assert "train, val or test" in refusal(tmp_path / "flat", "holdout")


def test_a_test_part_is_labelled_by_the_learned_classes(tmp_path: Path) -> None:
    """Without them a class that is missing from test/ would shift every later label."""
    put(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "test/b/1.png", "test/c/1.png", "test/new/1.png")
    test = scan(tmp_path, "test", classes=scan(tmp_path).classes)
    assert test.classes == ("a", "b", "c") and test.labels == (1, 2) and test.counts["a"] == 0
    assert any("not learned" in note and "new" in note for note in test.notes)


def test_pictures_without_class_folders_are_refused_with_an_example(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    assert "found 2 pictures but no class folders" in refusal(tmp_path, kind=EmptyTask)
    (tmp_path / "labels.csv").write_text("path,label\n1.png,a\n")
    assert "labels.csv" in refusal(tmp_path)
    put(tmp_path, "parts/train/1.png", "parts/test/1.png")
    assert "no class folders" in refusal(tmp_path / "parts" / "train")


def test_what_is_no_task_is_refused_and_named(tmp_path: Path) -> None:
    put(tmp_path, "one.png")
    assert "no such folder" in refusal(tmp_path / "gone")
    assert "one picture" in refusal(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    assert "0 pictures" in refusal(tmp_path / "empty", kind=EmptyTask)
    (tmp_path / "empty" / "a").mkdir()
    assert "no picture found" in refusal(tmp_path / "empty", kind=EmptyTask)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "neither a folder nor a file" in refusal(tmp_path / "pipe")


def test_a_single_class_is_for_learn_to_refuse(tmp_path: Path) -> None:
    put(tmp_path, "only/1.png")
    assert scan(tmp_path).classes == ("only",)


def test_what_is_passed_over_is_noted_with_its_number(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/1.png", "beside.png", ".hidden/1.png", "a/._1.png")
    for i in range(8):
        (tmp_path / "a" / f"{i}.txt").write_text("x")
    (tmp_path / "b" / "broken.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "nothing").mkdir()
    task = scan(tmp_path)
    assert task.classes == ("a", "b") and len(task.files) == 2
    notes = "\n".join(task.notes)
    for words in ("no picture by its name: 8 (", "and 3 more", "hidden: 2", "broken.png", "beside.png", "nothing"):
        assert words in notes


@pytest.mark.parametrize("target", [".", "a", "a/deep"])
def test_loops_of_links_end_and_pictures_count_once(target: str, tmp_path: Path) -> None:
    """One loop a test: unguarded, the system ends it after 40 rounds and the count shows it; two would run for ever."""
    put(tmp_path, "a/1.png", "a/deep/2.png", "b/1.png")
    (tmp_path / "a" / "deep" / "loop").symlink_to(tmp_path / target)
    task = scan(tmp_path)
    from_a = [f for f, label in zip(task.files, task.labels, strict=True) if task.classes[label] == "a"]
    assert len({os.path.realpath(f) for f in from_a}) == len(from_a) >= 2
    assert any("read already" in note for note in task.notes)


def test_a_picture_that_links_to_itself_is_noted(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "x.png").symlink_to(tmp_path / "b" / "x.png")
    assert scan(tmp_path).counts == {"a": 1, "b": 1}
    assert any("x.png" in note for note in scan(tmp_path).notes)


def test_a_linked_class_folder_is_followed(tmp_path: Path) -> None:
    put(tmp_path, "store/1.png", "task/b/1.png")
    (tmp_path / "task" / "a").symlink_to(tmp_path / "store")
    assert scan(tmp_path / "task").counts == {"a": 1, "b": 1}


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A folder that cannot be listed, for root too, whom no mode bit stops."""
    scandir = os.scandir

    def refuse(path: str | Path) -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("edgecl.pictures.folders.os.scandir", refuse)


def test_an_unreadable_folder_is_noted_and_the_rest_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png", "a/locked/2.png", "b/1.png")
    deny(monkeypatch, tmp_path / "a" / "locked")
    task = scan(tmp_path)
    assert task.counts == {"a": 1, "b": 1}
    assert any("cannot be read" in note and "locked (permission denied)" in note for note in task.notes)


def test_an_unreadable_task_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, tmp_path)
    assert "permission denied" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_noted(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    (tmp_path / "c").chmod(0)
    try:
        assert scan(tmp_path).classes == ("a", "b")
    finally:
        (tmp_path / "c").chmod(0o700)


# -- names


def test_names_with_spaces_unicode_newlines_and_escapes_are_read(tmp_path: Path) -> None:
    odd = ["a b.png", "猫.png", "two\nlines.png", "\x1b[2J.png", "-rf.png", "quote'\".png"]
    put(tmp_path, *(f"class one/{name}" for name in odd), "ü/1.png")
    (tmp_path / "ü" / os.fsdecode(b"caf\xe9.png")).write_bytes((tmp_path / "ü" / "1.png").read_bytes())
    task = scan(tmp_path)
    assert task.classes == ("class one", "ü") and len(task.files) == len(odd) + 2
    assert {f.name for f in task.files} >= set(odd)
    for file in task.files:
        assert decode(file, Preprocess(size=8)).shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "rtl\u202eflip", os.fsdecode(b"caf\xe9"), "x" * 201])
def test_a_class_name_that_cannot_be_shown_is_refused_with_the_escaped_name(name: str, tmp_path: Path) -> None:
    put(tmp_path, "good/1.png")
    put(tmp_path, f"{name}/1.png")
    message = refusal(tmp_path)
    assert "rename" in message and message.isprintable()


def test_two_spellings_of_one_accent_are_one_class(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        put(tmp_path, unicodedata.normalize(form, "é") + f"/{form}.png")
    put(tmp_path, "z/1.png")
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("this file system joins the two spellings itself")
    assert scan(tmp_path).counts == {unicodedata.normalize("NFC", "é"): 2, "z": 1}


def test_more_classes_than_a_task_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecl.pictures.folders.MAX_CLASSES", 3)
    put(tmp_path, *(f"f/{i}/1.png" for i in range(4)))
    assert "4 class folders, at most 3" in refusal(tmp_path / "f")
    (tmp_path / "t.csv").write_text("".join(f"f/{i}/1.png,{i}\n" for i in range(4)))
    assert "more than 3 classes" in refusal(tmp_path / "t.csv")


# -- CSV


@pytest.mark.parametrize(
    "text",
    [
        b"path,label\nx/1.png,cat\nx/2.png,dog\n",
        b"x/1.png,cat\nx/2.png,dog",
        b"\xef\xbb\xbfpath,label\r\nx/1.png,cat\r\n\r\nx/2.png,dog\r\n",
        b'label\tfilename\ncat\tx/1.png\ndog\t"x/2.png"\n',
        b"Image;Class\nx/1.png;cat\nx/2.png;dog\n",
        b'id,path,label\n7,"x/1.png","cat"\n8,x/2.png, dog \n',
        "path\tlabel\nx/1.png\tcat\nx/2.png\tdog\n".encode("utf-16"),
    ],
)
def test_a_csv_is_read_with_or_without_header_marks_tabs_and_quotes(text: bytes, tmp_path: Path) -> None:
    put(tmp_path, "x/1.png", "x/2.png")
    (tmp_path / "t.csv").write_bytes(text)
    task = scan(tmp_path / "t.csv")
    assert task.classes == ("cat", "dog") and task.labels == (0, 1)
    assert task.files == (tmp_path / "x/1.png", tmp_path / "x/2.png")
    assert task.notes == ()


def test_a_csv_may_hold_commas_newlines_and_accents_in_quotes(tmp_path: Path) -> None:
    put(tmp_path, "a, b.png", "two\nlines.png")
    (tmp_path / "t.csv").write_text('path,label\n"a, b.png","big, red"\n"two\nlines.png",e\u0301\n', encoding="utf-8")
    assert scan(tmp_path / "t.csv").classes == ("big, red", "é")


def test_a_csv_with_splits_gives_each_part(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("path,label,split\n1.png,a,train\n2.png,b,Training\n3.png,b,test\n")
    assert scan(tmp_path / "t.csv").counts == {"a": 1, "b": 1}
    test = scan(tmp_path / "t.csv", "test")
    assert test.files == (tmp_path / "3.png",) and test.splits == ("test", "train")
    (tmp_path / "n.csv").write_text("1.png,a,train\n2.png,b,val\n")
    assert scan(tmp_path / "n.csv", "val").classes == ("b",)
    assert "has no test part" in refusal_of_plain_csv(tmp_path)


def refusal_of_plain_csv(root: Path) -> str:
    (root / "plain.csv").write_text("1.png,a\n")
    return refusal(root / "plain.csv", "test")


def test_absolute_paths_and_parents_are_the_users_own(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "lists/2.png")
    (tmp_path / "lists" / "t.csv").write_text(f"{tmp_path}/1.png,a\n../1.png,b\n2.png,b\n")
    assert scan(tmp_path / "lists" / "t.csv").counts == {"a": 1, "b": 2}


def test_bad_lines_of_a_csv_are_noted_by_number(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text(
        "path,label,split\n1.png,a\ngone.png,a,train\n1.png,,train\n1.png,a,train\n.,a,train\n1.png,a,moon\n"
    )
    task = scan(tmp_path / "t.csv")
    assert len(task.files) == 1
    notes = "\n".join(task.notes)
    for words in ("not there: 2 (line 3 gone.png, line 6 .)", "line 4", "repeats another: 1 (line 5", "line 7 moon"):
        assert words in notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "names no picture"),
        (b"path,label\n", "names no picture"),
        (b"path,label\ngone.png,a\n", "line 2 gone.png"),
        (b"path,label\n1.png,caf\xe9\n", "UTF-8"),
        (b'path,label\n1.png,"open\n', "no valid CSV"),
        (b"path,label\n1.png,\x1b[31m\n", "line 2, gives no class name"),
    ],
)
def test_a_csv_that_names_nothing_usable_is_refused(text: bytes, words: str, tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "t.csv").write_bytes(text)
    message = refusal(tmp_path / "t.csv")
    assert words in message and "t.csv" in message and message.isprintable()


# -- arguments


def expanded(arguments: list[str], stdin: bytes = b"") -> list[str]:
    """Names of files; errors as '!' and their message."""
    items = expand(arguments, io.BytesIO(stdin))
    return [f"!{item}" if isinstance(item, PictureError) else str(item) for item in items]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(tmp_path, "b.png", "a.png", "photos/2.png", "photos/1.png", "photos/deep/0.png", "photos/.x.png", "s[1].png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    (tmp_path / "text.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_folders_and_globs_come_in_order(here: Path) -> None:
    photos = ["photos/1.png", "photos/2.png", "photos/deep/0.png"]
    assert expanded(["b.png", "photos", "?.png"]) == ["b.png", *photos, "a.png", "b.png"]
    assert expanded(["**/0.png"]) == ["photos/deep/0.png"]
    assert expanded(["ph*"]) == photos
    assert expanded(["photos/**"]) == ["photos/1.png", "photos/2.png", *photos[2:], "photos/notes.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_taken_as_it_is(here: Path) -> None:
    assert expanded(["s[1].png"]) == ["s[1].png"]


def test_a_named_file_is_not_judged_by_its_suffix(here: Path) -> None:
    assert expanded(["text.txt"]) == ["text.txt"]


def test_an_argument_that_means_nothing_is_an_error_in_its_place(here: Path) -> None:
    (here / "bare").mkdir()
    items = expanded(["a.png", "gone.png", "*.gif", "bare", "b\x1b.png", "b.png"])
    assert [item[0] for item in items] == ["a", "!", "!", "!", "!", "b"]
    assert "gone.png: no such file" in items[1] and "*.gif: nothing matches" in items[2]
    assert "holds no picture" in items[3] and "b\\x1b.png" in items[4]


def test_an_unreadable_folder_is_an_error_among_its_pictures(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, Path("photos/deep"))
    items = expanded(["photos"])
    assert items[:2] == ["photos/1.png", "photos/2.png"] and items[2].startswith("!photos/deep")
    deny(monkeypatch, Path("photos"))
    assert expanded(["photos"])[0].startswith("!photos (permission denied)")


def test_loops_below_an_argument_end(here: Path) -> None:
    (here / "photos" / "up").symlink_to(here / "photos")
    (here / "loop").symlink_to(here / "loop")
    items = expanded(["photos", "loop"])
    assert items[:-1] == ["photos/1.png", "photos/2.png", "photos/deep/0.png"] and items[-1].startswith("!loop")


def test_a_list_on_stdin_is_split_by_lines_or_by_nul(here: Path) -> None:
    (here / "two\nlines.png").write_bytes((here / "a.png").read_bytes())
    assert expanded(["-"], b"a.png\r\n\nphotos/deep\ngone.png")[:2] == ["a.png", "photos/deep/0.png"]
    assert expanded(["-"], b"a.png\0two\nlines.png\0") == ["a.png", "two\nlines.png"]
    assert expanded(["-"], b"a.png\ngone.png")[1].startswith("!gone.png")
    assert "names no picture" in expanded(["-"])[0]


def test_a_list_on_stdin_is_answered_as_it_arrives(here: Path) -> None:
    """A watcher that never ends: an answer may not wait for the end of the list."""
    reading, writing = os.pipe()
    found: queue.Queue[Path | PictureError] = queue.Queue()

    def follow() -> None:
        with os.fdopen(reading, "rb") as stdin:
            for item in expand(["-"], stdin):
                found.put(item)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        os.write(writing, b"a.png\n")
        assert found.get(timeout=5) == Path("a.png")
        os.write(writing, b"b.p")
        os.write(writing, b"ng\n")
        assert found.get(timeout=5) == Path("b.png")
    finally:
        os.close(writing)
        thread.join(5)


# -- duplicates


def test_a_digest_is_sha256_of_the_bytes_and_refuses_what_decode_refuses(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    assert digest(tmp_path / "1.png") == hashlib.sha256((tmp_path / "1.png").read_bytes()).hexdigest()
    for bad in (tmp_path, tmp_path / "gone.png", Path("/dev/zero")):
        with pytest.raises(PictureError):
            digest(bad)


def test_the_same_bytes_in_two_classes_are_reported_and_in_one_class_not(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    for copy in ("b/same.png", "b/again.png", "a/own.png"):
        source = "a/2.png" if copy == "a/own.png" else "a/1.png"
        (tmp_path / copy).write_bytes((tmp_path / source).read_bytes())
    task = scan(tmp_path)
    digests = [digest(f) for f in task.files]
    (sentence,) = duplicates(digests, task.labels, task.classes, task.files)
    assert "same 1 picture in the classes 'a', 'b'" in sentence and "a/1.png" in sentence
    assert duplicates(digests, np.array(task.labels), task.classes)[0].startswith("the same 1 picture")
    assert duplicates([""] * len(digests), task.labels, task.classes) == ()
