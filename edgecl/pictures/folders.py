"""Which pictures make up a task, and which pictures an argument on the command line means.

Nothing is decoded here. Orders are by name, so that the same folder gives the same task on every machine. What is left
out is never left out in silence: it is in `TaskFiles.notes`, or an error in the place of the picture.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from edgecl.errors import DataError, EmptyTask, PictureError
from edgecl.pictures.decode import DecodeLimits, open_regular, read
from edgecl.text import printable

_WEB = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif")
SUFFIXES = frozenset((*_WEB, ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"))
_LONGEST_NAME = 1 << 20  # bytes on standard input without a separator: no list of names
MAX_CLASSES = 10_000
_CLASS_NAME = 200  # characters; a name travels inside every bundle of the task
_UNREADABLE = "left out, folder that cannot be read"
_NAMED = 5  # files that a note names before it only counts
_CSV = DecodeLimits(max_bytes=256 * 2**20)

# What people call the parts of a data set. Asked for "test", a validation part serves where there is no test part.
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "picture")
_LABEL_COLUMNS = ("label", "class", "category", "class_name")
_SPLIT_COLUMNS = ("split", "subset", "part")


@dataclass(frozen=True)
class TaskFiles:
    """The pictures of one part of a task, and what was passed over.

    classes: sorted names (NFC).   files: n paths.   labels: n indices into `classes`.
    notes: sentences for the user, safe to print.   splits: the parts that are there, of "train", "val", "test".
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train",)

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each class, also where there are none."""
        counted = Counter(self.labels)
        return {name: counted[i] for i, name in enumerate(self.classes)}


def scan(path: Path | str, split: str = "train", classes: Sequence[str] | None = None) -> TaskFiles:
    """The pictures of a task: a folder per class; or train/ and test/ or val/ with such folders inside; or a CSV.

    A CSV has the columns path and label, and perhaps split (train, val, test); a header is optional; comma, tab or
    semicolon; relative paths start at the CSV's folder. Absolute paths and `..` are allowed: the user wrote it.
    Pictures are looked for in all folders below a class's; links are followed, loops are not.

    split: "train", "val" or "test"; for "test" a val part serves where there is no other.
    classes: index labels by these names, so that a test part agrees with what was learned; other classes are left out
    and noted. By default the names found.
    Raises DataError, or EmptyTask where there is no picture. A single class, or few pictures, is left to `learn`.
    """
    path = Path(path)
    if split not in ("train", "val", "test"):
        raise DataError(f"there is no split {printable(split)!r}; ask for train, val or test")
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = "no such folder or CSV" if isinstance(error, FileNotFoundError) else _reason(error)
        raise DataError(f"{printable(path)}: {reason}; give a folder with one folder a class, or a CSV") from None
    if stat.S_ISDIR(mode):
        notes = _Notes()
        found, splits = _scan_folder(path, split, notes)
    elif stat.S_ISREG(mode):
        if path.suffix.lower() in SUFFIXES:
            raise DataError(f"{printable(path)}: is one picture; to learn a task, give a folder with one folder a class")
        notes = _Notes()
        found, splits = _scan_csv(path, split, notes)
    else:
        raise DataError(f"{printable(path)}: is neither a folder nor a file; give a folder with one folder a class")
    if not any(found.values()):
        raise EmptyTask(f"{printable(path)}: no picture found in {len(found)} classes. {'; '.join(notes.sentences())}".strip())
    if len(found) > MAX_CLASSES:
        raise DataError(f"{printable(path)}: {len(found)} classes, at most {MAX_CLASSES} make a task; split it up")
    if classes is None:
        names = tuple(sorted(name for name, files in found.items() if files))
        for name in sorted(set(found) - set(names)):
            notes.add("left out, class folder without a picture", name)
    else:
        names = tuple(classes)
        for name in sorted(set(found) - set(names)):
            notes.add("left out, class that was not learned", name)
    pairs = [(file, label) for label, name in enumerate(names) for file in found.get(name, ())]
    files, labels = zip(*pairs, strict=True) if pairs else ((), ())
    return TaskFiles(names, files, labels, notes.sentences(), splits)


def expand(arguments: Iterable[str], stdin: BinaryIO | None = None) -> Iterator[Path | PictureError]:
    """The pictures that command-line arguments mean, in order; where an argument means none, the error that says so.

    An argument is a file, a folder (all pictures below it, sorted), a glob that the shell left alone, or `-`: a list of
    files and folders on `stdin`, one a line, or separated by NUL (as `find -print0` writes) if one comes in the first
    piece read. The list is answered as it arrives, so an endless one works.
    """
    for argument in arguments:
        if argument == "-":
            empty = True
            for name in _names(stdin) if stdin else ():
                empty = False
                yield from _pictures(name)
            if empty:
                yield PictureError("-: the list on standard input names no picture; give one name a line", "-")
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            yield from _pictures(argument)
        else:
            matches = sorted(glob.glob(argument, recursive=True))
            if not matches:
                yield PictureError(
                    f"{printable(argument)}: nothing matches; check the pattern and the working directory", argument
                )
            for match in matches:
                if not os.path.isdir(match):
                    yield Path(match)
                elif "**" not in argument:  # `**` names what is inside a folder too
                    yield from _pictures(match)


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in a folder and those below it, by their names' endings, sorted; what cannot be listed is passed over."""
    return _walk(folder, _Notes())


def digest(path: Path | str) -> str:
    """SHA-256 of a picture's bytes, hex, read in pieces. Raises PictureError like `decode.open_regular`."""
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PictureError(f"{printable(path)}: cannot be read ({_reason(error)}); check the disk") from None


def duplicates(
    digests: Sequence[str],
    labels: Sequence[int] | npt.NDArray[np.int64],
    classes: Sequence[str],
    names: Sequence[str | Path] | None = None,
) -> tuple[str, ...]:
    """A sentence for each set of classes that hold the same picture, byte by byte: at most one of its labels is right.

    digests: of n pictures, "" where there is none.   labels: n indices into `classes`.   names: of n pictures, to be
    named.
    """
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for i, value in enumerate(digests):
        if value:
            holders[value].append(i)
    shared: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for group in holders.values():
        among = tuple(sorted({int(labels[i]) for i in group}))
        if len(among) > 1:
            shared[among].append(group[0])
    sentences = []
    for among, firsts in sorted(shared.items()):
        where = ", ".join(f"'{printable(classes[label])}'" for label in among[:_NAMED]) + (", ..." if among[_NAMED:] else "")
        which = f" ({_some([printable(names[i]) for i in firsts])})" if names is not None else ""
        sentences.append(f"the same {_count(len(firsts), 'picture')} in the classes {where}{which}: keep each in one class")
    return tuple(sentences)


@dataclass
class _Notes:
    """What was passed over, gathered by kind, so that ten thousand bad lines make one sentence."""

    kinds: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, what: str | Path) -> None:
        self.kinds[kind].append(printable(what))

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{kind}: {len(what)} ({_some(what)})" for kind, what in self.kinds.items())


# -- folders


def _scan_folder(path: Path, split: str, notes: _Notes) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Class name -> its pictures, and the splits that are there."""
    try:
        folders, files = _listed(path, _Notes())
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be listed ({_reason(error)}); make it readable") from None
    parts: dict[str, list[Path]] = {}
    for folder in folders:
        if folder.name.casefold() in _SPLITS:
            parts.setdefault(_SPLITS[folder.name.casefold()], []).append(folder)
    # "train" may be a class beside "bus": it is a part when another part stands beside it, or nothing else does.
    if "train" not in parts or not (len(parts) > 1 or len(folders) == 1) or not _has_folders(parts["train"]):
        if split != "train":
            raise DataError(f"{printable(path)}: has no {split} part; put the pictures for it into {split}/CLASS/")
        return _classes([path], notes), ("train",)
    for folder in folders:
        if folder.name.casefold() not in _SPLITS:
            notes.add("left out, folder beside train/", folder.name)
    for file in files:
        if file.suffix.lower() in SUFFIXES:
            notes.add("left out, picture beside the class folders", file.name)
    return _classes(parts[_served(split, parts, path, notes)], notes), tuple(sorted(parts))


def _classes(roots: list[Path], notes: _Notes) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    loose: list[Path] = []
    tables: list[Path] = []
    for root in roots:
        try:
            folders, files = _listed(root, notes)
        except OSError as error:
            raise DataError(f"{printable(root)}: cannot be listed ({_reason(error)}); make it readable") from None
        loose += [file for file in files if file.suffix.lower() in SUFFIXES]
        tables += [file for file in files if file.suffix.lower() in (".csv", ".tsv")]
        if len(folders) > MAX_CLASSES:
            raise DataError(f"{printable(root)}: {len(folders)} class folders, at most {MAX_CLASSES} make a task; split it up")
        for folder in folders:
            name = class_name(folder.name, f"the folder {printable(folder)}")
            found.setdefault(name, []).extend(_walk(folder, notes))
    if not found:
        table = f", or give the CSV: --data {printable(tables[0])}" if tables else ""
        raise EmptyTask(
            f"{printable(roots[0])}: found {_count(len(loose), 'picture')} but no class folders; make one folder "
            f"a class: {printable(roots[0] / 'CLASS' / (loose[0].name if loose else 'picture.jpg'))}{table}"
        )
    for file in loose:
        notes.add("left out, picture beside the class folders", file.name)
    return found


def _walk(top: Path, notes: _Notes) -> list[Path]:
    """All pictures below a folder, sorted by path. What is passed over goes into the notes."""
    pictures: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            entry = os.stat(folder)
            # A link back to a parent, or a second link to the same folder: its pictures are counted once.
            if (entry.st_dev, entry.st_ino) in seen:
                notes.add("left out, link to a folder that was read already", folder)
                continue
            seen.add((entry.st_dev, entry.st_ino))
            folders, files = _listed(folder, notes)
        except OSError as error:
            notes.add(_UNREADABLE, f"{folder} ({_reason(error)})")
            continue
        waiting += reversed(folders)
        for file in files:
            if file.suffix.lower() not in SUFFIXES:
                notes.add("left out, no picture by its name", file)
            elif not file.is_file():
                notes.add("left out, broken link, pipe or device", file)
            else:
                pictures.append(file)
    return sorted(pictures)


def _listed(folder: Path, notes: _Notes) -> tuple[list[Path], list[Path]]:
    """Folders and other entries, sorted by name; hidden ones are only noted. Raises OSError."""
    folders: list[Path] = []
    files: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":  # the ghosts that macOS leaves in archives
                notes.add("left out, hidden", entry.name)
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that leads in a circle
                is_folder = False
            (folders if is_folder else files).append(folder / entry.name)
    return sorted(folders), sorted(files)


def _has_folders(roots: list[Path]) -> bool:
    for root in roots:
        try:
            if _listed(root, _Notes())[0]:
                return True
        except OSError:
            return True  # it is said by name when it is read
    return False


def _served(split: str, parts: Iterable[str], path: Path, notes: _Notes) -> str:
    """The part that answers for `split`."""
    if split in parts:
        return split
    if split == "test" and "val" in parts:
        notes.add("used as the test part", "val")
        return "val"
    there = ", ".join(sorted(parts)) or "none"
    raise DataError(f"{printable(path)}: has no {split} part (there is: {there}); add it, or ask for one that is there")


def class_name(name: str, where: str) -> str:
    """The name as it is kept: NFC, so that 'é' typed on two systems is one class.

    Raises DataError for a name that cannot be shown as it is; where: what holds it.
    """
    name = unicodedata.normalize("NFC", name)
    if not name.isprintable() or not 0 < len(name) <= _CLASS_NAME:
        raise DataError(
            f"{where} gives no class name: '{printable(name, 60)}' holds control or invisible characters or has "
            f"more than {_CLASS_NAME} letters; rename it"
        )
    return name


# -- CSV


def _scan_csv(path: Path, split: str, notes: _Notes) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Class name -> its pictures, and the splits that are there."""
    found: dict[str, list[Path]] = {}
    taken: set[tuple[str, str]] = set()
    parts: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for line, name, label, part in _rows(path, notes):
        parts[part].append((line, name, label))
    if not parts:
        raise EmptyTask(
            f"{printable(path)}: names no picture; write one line a picture: path,label. " + "; ".join(notes.sentences())
        )
    for line, name, label in parts[_served(split, parts, path, notes)]:
        label = class_name(label, f"{printable(path)}, line {line},")
        found.setdefault(label, [])
        if len(found) > MAX_CLASSES:
            raise DataError(
                f"{printable(path)}: more than {MAX_CLASSES} classes; is '{printable(label, 60)}' a label? split it up"
            )
        file = path.parent / name
        try:
            regular = stat.S_ISREG(os.stat(file).st_mode)
        except (OSError, ValueError):
            regular = False
        if not regular:
            notes.add("left out, line whose file is not there", f"line {line} {name}")
        elif (name, label) in taken:
            notes.add("left out, line that repeats another", f"line {line} {name}")
        else:
            taken.add((name, label))
            found[label].append(file)
    return {label: sorted(files) for label, files in found.items()}, tuple(sorted(parts))


def _rows(path: Path, notes: _Notes) -> Iterator[tuple[int, str, str, str]]:
    """Line number, path, label and split of each usable line."""
    text = _decoded(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((d for d in "\t,;" if len(next(csv.reader([first], delimiter=d), [])) > 1), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[int, int, int | None] | None = None
    try:
        for row in reader:
            row = [cell.strip() for cell in row]
            if not any(row):
                continue
            if columns is None:
                columns = _header(row)
                if columns is not None:
                    continue
                columns = (0, 1, 2 if len(row) > 2 and row[2].casefold() in _SPLITS else None)
            at_path, at_label, at_split = columns
            part = row[at_split] if at_split is not None and at_split < len(row) else "train"
            if max(at_path, at_label) >= len(row) or not row[at_path] or not row[at_label]:
                notes.add("left out, line without a path or a label", f"line {reader.line_num}")
            elif part.casefold() not in _SPLITS:
                notes.add("left out, line with an unknown split", f"line {reader.line_num} {part}")
            else:
                yield reader.line_num, row[at_path], row[at_label], _SPLITS[part.casefold()]
    except csv.Error as error:
        raise DataError(f"{printable(path)}, line {reader.line_num}: no valid CSV ({error}); write path,label") from None


def _header(row: list[str]) -> tuple[int, int, int | None] | None:
    """Where path, label and split stand, or None when the row is no header."""
    names = [cell.casefold() for cell in row]

    def place(known: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    path, label = place(_PATH_COLUMNS), place(_LABEL_COLUMNS)
    return None if path is None or label is None else (path, label, place(_SPLIT_COLUMNS))


def _decoded(path: Path) -> str:
    try:
        data = read(path, _CSV)
    except PictureError as error:
        raise DataError(str(error)) from None
    # Excel's "Unicode text" is UTF-16 with a mark in front; its CSV has the mark of UTF-8.
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{printable(path)}: is no UTF-8 text (byte {error.start}); save it as 'CSV UTF-8', or give a folder"
        ) from None


# -- arguments


def _pictures(name: str) -> Iterator[Path | PictureError]:
    """One file or folder that was named: its pictures, or the error that says why there is none."""
    path = Path(name)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        yield PictureError(f"{printable(name)}: no such file or folder; check the name and the working directory", name)
        return
    except (OSError, ValueError) as error:
        yield PictureError(f"{printable(name)}: cannot be opened ({_reason(error)})", name)
        return
    if not stat.S_ISDIR(mode):
        yield path  # decode says what is wrong with a file that is no picture: it was named
        return
    notes = _Notes()
    pictures = _walk(path, notes)
    yield from pictures
    unreadable = notes.kinds.get(_UNREADABLE, [])
    for folder in unreadable:
        yield PictureError(f"{folder}: the folder cannot be read; make it readable for this user", name)
    if not pictures and not unreadable:
        yield PictureError(f"{printable(name)}: the folder holds no picture ({', '.join(sorted(SUFFIXES)[:4])}, ...)", name)


def _names(stdin: BinaryIO) -> Iterator[str]:
    """Names from a list, as they arrive. A name may hold a newline only where NUL separates."""
    take = getattr(stdin, "read1", stdin.read)
    held = b""
    separator = b""
    while piece := take(65536):
        held += piece
        if not separator and (b"\0" in held or b"\n" in held):
            separator = b"\0" if b"\0" in held else b"\n"
        if not separator and len(held) > _LONGEST_NAME:
            raise PictureError(
                f"-: the list on standard input has a name of over {_LONGEST_NAME:,} bytes; give one a line", "-"
            )
        if separator:
            *whole, held = held.split(separator)
            yield from _cleaned(whole, separator)
    yield from _cleaned([held], separator)


def _cleaned(names: list[bytes], separator: bytes) -> Iterator[str]:
    for name in names:
        if separator != b"\0":
            name = name.removesuffix(b"\r")
        if name:
            yield os.fsdecode(name)


# -- words


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _some(what: Sequence[str]) -> str:
    return ", ".join(what[:_NAMED]) + (f" and {len(what) - _NAMED} more" if len(what) > _NAMED else "")
