"""The head bank: one SQLite file with every bundle a device has, whole or not at all, and its history.

Rules of the file
- A bundle is a blob under its sha256; it is never changed, only written and, when nothing refers to it, collected.
- A task has numbered generations; `current` points at one of them and says whether it is in force. Learning appends a
  generation, rolling back moves the pointer, removing takes it out of force. So no step loses anything before `gc`, but
  one: a teaching, which commits every few pictures, puts each generation in the place of its own last one.
- Every change is one transaction, in WAL mode with synchronous=FULL: after a kill or a power cut the file holds the
  state before or after it, and what was reported as done is on the disk.
- A bundle may stand on others (`stands_on`): these come with it, and stay for as long as it does, in whatever generation or in
  none; so what `gc` forgets of a task, and what it is followed by, changes no answer of another.
- A bundle that was learned here may have a sketch: what is left of its pictures, under its digest. It comes in the transaction
  that brings the bundle and goes with it; it never leaves the device.
- `accepted` has the newest sequence number taken from each signer for each task and ROM, in the transaction that takes the
  bundle; `gc` does not forget it. Under the empty task it has the last number this device has signed with.
- Times are notes for people. No decision depends on them: boards may wake up in 1970.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from edgecl.bank.disk import Disk
from edgecl.errors import BankBusy, BankCorrupt, BankError, BankFull, BankReadOnly, BankTooNew, UnknownTask

FORMAT = 4  # 1: without `accepted`; 2: without `sketches`; 3: without `stands_on`; what lacks is added on the first writing
APPLICATION_ID = 0x6564_636C  # "edcl", so that `file` and other tools know the file
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = 1;
CREATE TABLE bundles (digest TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE generations (
    task TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    digest TEXT NOT NULL REFERENCES bundles (digest),
    action TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (task, number)
) STRICT;
CREATE INDEX generations_by_digest ON generations (digest);
CREATE TABLE current (
    task TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    in_force INTEGER NOT NULL CHECK (in_force IN (0, 1)),
    FOREIGN KEY (task, number) REFERENCES generations (task, number)
) STRICT;
"""
_TO_2 = """
CREATE TABLE IF NOT EXISTS accepted (
    signer TEXT NOT NULL,
    task TEXT NOT NULL,
    rom_id TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    digest TEXT NOT NULL,
    PRIMARY KEY (signer, task, rom_id)
) STRICT;
PRAGMA user_version = 2;
"""
_TO_3 = """
CREATE TABLE IF NOT EXISTS sketches (
    digest TEXT PRIMARY KEY REFERENCES bundles (digest) ON DELETE CASCADE,
    sha256 TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
PRAGMA user_version = 3;
"""
_TO_4 = """
CREATE TABLE IF NOT EXISTS stands_on (
    digest TEXT NOT NULL REFERENCES bundles (digest) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    base TEXT NOT NULL REFERENCES bundles (digest),
    PRIMARY KEY (digest, place)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 4;
"""
# A bundle names all that it stands on, so one step finds all that is needed.
_FORGET_BUNDLES = (
    "DELETE FROM bundles WHERE digest NOT IN (SELECT digest FROM generations) AND digest NOT IN "
    "(SELECT base FROM stands_on WHERE digest IN (SELECT digest FROM generations))"
)
_RESTORE = "Restore a copy, or move it away to start afresh"
_SHRINK_PAGES = 128  # that `gc` gives back at once: about 0.5 MB, and as much of the log meanwhile
_NO_ROOM_FOR_INDEX = (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_WRITE)
_RESERVE = 1 << 20  # bytes that `put` leaves free on the disk: `gc` needs some to free more


@dataclass(frozen=True)
class Generation:
    """One state a task has had. `current` says whether it is the one in force."""

    task: str
    number: int
    digest: str
    action: str
    at: float
    bytes: int
    current: bool


class HeadBank:
    """The store at `path`, made on first use.

    Safe for several processes: any number of readers, one writer at a time; a second writer waits up to `patience`
    seconds and then gets BankBusy. Safe for threads of one process; not to be carried over a fork.
    A bank that this user cannot write is read as it is when opened.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, patience: float = 30.0, disk: Disk | None = None
    ) -> None:
        """disk: what the file lies on; None: the operating system's.

        Raises BankReadOnly, BankFull, BankBusy, BankCorrupt, BankTooNew, or BankError (it is something else).
        """
        self.path = path
        self._clock, self._disk = clock, disk or Disk()
        self._sound: set[str] = set()
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise BankError(f"{path} is a folder, not a bank; give another home, or move it away")
        except OSError as error:
            raise BankReadOnly(f"the folder of the bank {path} cannot be used: {error.strerror}") from error
        with self._explained():
            try:
                self._db = self._connect(patience)
            except sqlite3.OperationalError as error:
                # A disk without room for SQLite's index file (-shm): what is known can still be read, and so answered for.
                full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL or error.sqlite_errorcode in _NO_ROOM_FOR_INDEX
                if not full or not path.exists() or self._log_size():
                    raise
                self._db = self._connect(patience, read_only=True)

    def _log_size(self) -> int:
        wal = self.path.with_name(self.path.name + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    def _connect(self, patience: float, read_only: bool = False) -> sqlite3.Connection:
        writable = not read_only and (
            not self.path.exists() or all(os.access(p, os.W_OK) for p in (self.path, self.path.parent))
        )
        # SQLite reads a WAL database beside which it cannot make files only when told that nobody else writes it. With
        # changes still in the WAL that would show an older state: then it needs the writer's own index.
        how = "mode=rwc" if writable else "mode=ro" if self._log_size() else "immutable=1"
        uri = f"{self.path.absolute().as_uri()}?{how}"
        db = sqlite3.connect(uri, timeout=patience, isolation_level=None, check_same_thread=False, uri=True)
        try:
            self._disk.opened(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            # Move every commit from the log into the file at once: writes are rare, and a log that stays small leaves
            # room on a small disk, and little to lose when it is damaged.
            db.execute("PRAGMA wal_autocheckpoint = 1")
            # Else freed pages are written once more, which wears flash and fails on a full disk.
            db.execute("PRAGMA secure_delete = OFF")
            self._create_or_check(db, writable)
            if writable:
                self._use_wal(db, time.monotonic() + patience)
        except BaseException:
            db.close()
            raise
        return db

    def _create_or_check(self, db: sqlite3.Connection, writable: bool) -> None:
        def look() -> tuple[int, int, int]:
            marks = "application_id, user_version, (SELECT count(*) FROM sqlite_master)"
            row = db.execute(f"SELECT {marks} FROM pragma_application_id, pragma_user_version").fetchall()[0]
            return row[0], row[1], row[2]

        if look() == (0, 0, 0):
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("BEGIN IMMEDIATE")
            if look() == (0, 0, 0):  # no other process was quicker between the look and the lock
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
            db.execute("COMMIT")
        application, format_, _ = look()
        if application != APPLICATION_ID:
            raise BankError(f"{self.path} is an SQLite file, but no edgecl bank; give another home, or move it away")
        if format_ > FORMAT:
            raise BankTooNew(
                f"{self.path} has bank format {format_}, this edgecl reads up to {FORMAT}; update edgecl. Nothing was changed"
            )
        if format_ < FORMAT and writable:
            db.execute("BEGIN IMMEDIATE")
            for before, script in ((1, _TO_2), (2, _TO_3), (3, _TO_4)):
                if look()[1] == before:
                    for statement in script.split(";"):
                        db.execute(statement)
            db.execute("COMMIT")

    @staticmethod
    def _use_wal(db: sqlite3.Connection, deadline: float) -> None:
        # The switch is made once in the life of a file. SQLite does not wait for others there, whatever the timeout.
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL").fetchall()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    # -- reading

    def current(self) -> dict[str, str]:
        """Task -> digest of the bundle in force, by task name."""
        return self._words("digest")

    def get(self, digest: str) -> bytes:
        """The bundle of that digest, checked against it. Raises BankCorrupt when it was damaged on the disk."""
        self._sound.discard(digest)
        rows = self._all("SELECT CAST(data AS BLOB) FROM bundles WHERE digest = ?", digest)
        if not rows:
            raise BankError(f"the bank {self.path} holds no bundle {digest[:12]}")
        data: bytes = rows[0][0]
        if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != digest:
            raise BankCorrupt(
                f"bundle {digest[:12]} in {self.path} is damaged; `edgecl heads verify` names its task. "
                f"Import that bundle again to repair it, or roll back"
            )
        self._sound.add(digest)
        return data

    def sound(self, digest: str) -> bool:
        """Whether that bundle is here and whole, by the last look at it; it is read for that at most once while it is."""
        if digest not in self._sound:
            with contextlib.suppress(BankError):
                self.get(digest)
        return digest in self._sound

    def taken_from(self, digest: str) -> str | None:
        """Who has signed that bundle, as is remembered beside it: its bytes may be damaged. None where nothing is."""
        return next((signer for (signer, _, _), (_, of) in self.accepted().items() if of == digest), None)

    def actions(self) -> dict[str, str]:
        """Task -> the action that brought the generation in force, such as "learn", "import" or "opinion"."""
        return self._words("action")

    def _words(self, column: str) -> dict[str, str]:
        """Task -> what its generation in force has in that column. Raises BankCorrupt where that is no text."""
        sql = f"SELECT task, {column} FROM current JOIN generations USING (task, number) WHERE in_force ORDER BY task"
        rows = self._all(sql)
        if not all(isinstance(word, str) for row in rows for word in row):
            raise BankCorrupt(f"the bank {self.path} is damaged (a {column} is no text). {_RESTORE}")
        return dict(rows)

    def sketch(self, digest: str) -> bytes | None:
        """What was put beside that bundle; None where there is nothing, or nothing sound: a sketch can be done without."""
        if not self._has("sketches"):
            return None
        rows = self._all("SELECT sha256, CAST(data AS BLOB) FROM sketches WHERE digest = ?", digest)
        sound = rows and isinstance(rows[0][1], bytes) and hashlib.sha256(rows[0][1]).hexdigest() == rows[0][0]
        return rows[0][1] if sound else None

    def below(self, digest: str) -> dict[str, None]:
        """What that bundle stands on, bottom first, as `put` takes it."""
        if not self._has("stands_on"):
            return {}
        return {base: None for (base,) in self._all("SELECT base FROM stands_on WHERE digest = ? ORDER BY place", digest)}

    def above(self, task: str) -> list[str]:
        """The tasks in force that stand on some generation of `task`, by name."""
        if not self._has("stands_on"):
            return []
        found = self._all(
            "SELECT DISTINCT task FROM current JOIN generations USING (task, number) JOIN stands_on USING (digest) "
            "WHERE in_force AND base IN (SELECT digest FROM generations WHERE task = ?) ORDER BY task",
            task,
        )
        return [name for (name,) in found]

    def history(self, task: str) -> list[Generation]:
        """Every generation of a task that is still kept, oldest first. Raises UnknownTask."""
        rows = self._all(
            "SELECT g.task, g.number, g.digest, g.action, g.at, length(b.data), g.number = c.number AND c.in_force "
            "FROM generations g JOIN bundles b USING (digest) JOIN current c USING (task) WHERE task = ? "
            "ORDER BY g.number",
            task,
        )
        if not rows:
            raise self.unknown(task)
        return [
            Generation(name, number, digest, action, at, bytes_, bool(current))
            for name, number, digest, action, at, bytes_, current in rows
        ]

    def generations(self) -> list[tuple[str, str]]:
        """(task, digest) of every generation that is kept, also of tasks out of force; by task, oldest first."""
        return [(task, digest) for task, digest in self._all("SELECT task, digest FROM generations ORDER BY task, number")]

    def accepted(self) -> dict[tuple[str, str, str], tuple[int, str]]:
        """(signer, task, rom_id) -> sequence number and digest of the newest bundle that was taken from that signer."""
        if not self._has("accepted"):
            return {}
        return {(s, t, r): (n, d) for s, t, r, n, d in self._all("SELECT * FROM accepted WHERE task <> ''")}

    def version(self) -> tuple[int, int]:
        """A value that differs after any change to the bank, by this process or another: time to look again."""
        with self._lock:
            return self._all("PRAGMA data_version")[0][0], self._db.total_changes

    def size(self) -> int:
        """Bytes of all bundles held, history included."""
        return int(self._all("SELECT coalesce(sum(length(data)), 0) FROM bundles")[0][0])

    def verify(self) -> list[str]:
        """Every damage found, as sentences; an empty list when the file and all bundles are sound."""
        found = []
        try:
            with self._lock, self._explained():
                found += [f"{self.path}: {row[0]}" for row in self._all("PRAGMA integrity_check") if row[0] != "ok"]
                dangling = self._all("PRAGMA foreign_key_check")
                found += [f"{self.path}: a row of {table} refers to nothing" for table, *_ in dangling]
                owners = "SELECT digest, group_concat(task || ' generation ' || number, ', ') FROM generations"
                names = dict(self._all(f"{owners} GROUP BY digest"))
                for digest, data in self._db.execute("SELECT digest, CAST(data AS BLOB) FROM bundles"):
                    if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != digest:
                        found.append(f"bundle {str(digest)[:12]} ({names.get(digest, 'no task')}) differs from its digest")
                if self._has("sketches"):
                    for digest, of, data in self._db.execute("SELECT digest, sha256, CAST(data AS BLOB) FROM sketches"):
                        if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != of:
                            found.append(f"the sketch beside bundle {str(digest)[:12]} is damaged; it is not used any more")
        except BankCorrupt as error:
            found.append(str(error))
        return found

    # -- changing

    def next_sequence(self, signer: str, above: int = 0) -> int:
        """A number that this device has never signed with, higher than all before it and than `above`. Unused, it is lost."""
        with self._transaction() as db:
            ((last,),) = self._all("SELECT coalesce(max(sequence), 0) FROM accepted WHERE signer = ?", signer)
            number = max(int(last), above) + 1
            db.execute("INSERT OR REPLACE INTO accepted VALUES (?, '', '', ?, '')", (signer, number))
            return number

    def put(
        self,
        task: str,
        data: bytes,
        action: str,
        signed: tuple[str, str, int] | None = None,
        require: Callable[[], None] = lambda: None,
        *,
        sketch: bytes | None = None,
        signed_for: str | None = None,
        instead_of: int | None = None,
        below: Mapping[str, bytes | None] = MappingProxyType({}),
    ) -> Generation:
        """Append a generation of `task` holding `data` and put it in force. The same bytes again change nothing.

        A damaged copy of the same bytes is repaired. action: the word for the history, such as "learn" or "import".
        signed: signer, ROM and sequence number of the bundle, which are remembered with it.   require: asked inside the
        transaction, where nobody else can change the bank; what it raises leaves everything as it was.
        sketch: to be kept beside the bundle, and to be collected with it.   signed_for: the task that the signer's number
        counts for, where that is not `task`.   instead_of: number of an earlier generation that leaves the history for
        this one. Its bundle can be read until the next one leaves, or `gc`: somebody may just have looked its digest up.
        below: digest -> what the bundle stands on, bottom first; None for what the bank holds.
        Raises BankFull, BankReadOnly, BankBusy, and BankError where a base is missing; nothing has then changed.
        """
        digest = hashlib.sha256(data).hexdigest()
        with self._transaction() as db:
            require()
            # Once for the log, once for the file: a commit for which the file has no room would be stuck in the log.
            size = sum(len(part or b"") for part in (data, sketch, *below.values()))
            if self._disk.free(self.path.parent) < 2 * size + _RESERVE:
                raise self._full("nothing was changed")
            for name, content in {**below, digest: data}.items():
                if content is not None:
                    db.execute(
                        "INSERT INTO bundles VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET data = excluded.data "
                        "WHERE data <> excluded.data",
                        (name, content),
                    )
            for place, base in enumerate(below):
                if not self._all("SELECT 1 FROM bundles WHERE digest = ?", base):
                    raise BankError(f"'{task}' stands on bundle {base[:12]}, which the bank {self.path} does not hold any more")
                db.execute("INSERT OR IGNORE INTO stands_on VALUES (?, ?, ?)", (digest, place, base))
            if sketch is not None:
                self._put_sketch(digest, sketch)
            if self.current().get(task) != digest:
                ((last,),) = self._all("SELECT coalesce(max(number), 0) FROM generations WHERE task = ?", task)
                row = (task, last + 1, digest, action, self._clock())
                db.execute("INSERT INTO generations VALUES (?, ?, ?, ?, ?)", row)
                self._put_in_force(task, last + 1)
                if instead_of is not None:
                    db.execute(_FORGET_BUNDLES)
                    db.execute("DELETE FROM generations WHERE task = ? AND number = ?", (task, instead_of))
            if signed is not None:
                db.execute(
                    "INSERT INTO accepted VALUES (?, ?, ?, ?, ?) ON CONFLICT (signer, task, rom_id) DO UPDATE SET "
                    "sequence = excluded.sequence, digest = excluded.digest WHERE excluded.sequence > sequence",
                    (signed[0], signed_for or task, signed[1], signed[2], digest),
                )
            return self._in_force(task)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """One transaction: nobody else changes the bank inside, nor whatever else is only changed in here.

        One's own changes inside are kept together at its end, or not at all; one that fails alone undoes only itself.
        """
        with self._transaction():
            yield

    def remove(self, task: str, digest: str | None = None) -> None:
        """Take `task` out of force; its generations stay for rollback until `gc`. Raises UnknownTask.

        digest: only if that is in force.
        """
        with self._transaction() as db:
            if digest is not None and self.current().get(task) != digest:
                return
            if not db.execute("UPDATE current SET in_force = 0 WHERE task = ? AND in_force", (task,)).rowcount:
                raise self.unknown(task)

    def rollback(self, task: str, to: int | None = None) -> Generation:
        """Put an earlier generation in force: `to`, else the one before the current; after a removal, the one removed.

        Raises UnknownTask, or BankError when there is no such generation; nothing has then changed.
        """
        with self._transaction() as db:
            numbers = [g.number for g in self.history(task)]
            now, in_force = db.execute("SELECT number, in_force FROM current WHERE task = ?", (task,)).fetchall()[0]
            if to is None:
                to = max((n for n in numbers if n < now), default=None) if in_force else now
            if to not in numbers:
                what = f"generation before {now}" if to is None else f"generation {to}"
                raise BankError(f"'{task}' has no {what}; kept: generation {', '.join(map(str, numbers))}")
            self._put_in_force(task, to)
            return self._in_force(task)

    def gc(self, keep: int = 1) -> int:
        """Forget removed tasks, and of every other task all but the generation in force and the `keep` before it.

        Generations that were rolled back from go too. Returns the bytes of bundles that were freed; the file shrinks by
        them. When only the shrinking fails (BankFull, BankBusy), the message says so: they are forgotten all the same,
        and their place in the file is used again.
        """
        if keep < 0:
            raise BankError(f"gc keeps 0 or more earlier generations, got {keep}")
        with self._transaction() as db:
            before = self.size()
            db.execute("DELETE FROM current WHERE NOT in_force")
            db.execute(
                "DELETE FROM generations WHERE (task, number) NOT IN (SELECT task, number FROM ("
                "SELECT g.task, g.number, row_number() OVER (PARTITION BY g.task ORDER BY g.number DESC) AS age "
                "FROM generations g JOIN current c ON c.task = g.task AND g.number <= c.number) WHERE age <= ? + 1)",
                (keep,),
            )
            # With them go their sketches, by ON DELETE CASCADE.
            db.execute(_FORGET_BUNDLES)
            freed = before - self.size()
        with self._lock, self._explained("the old heads are forgotten, but the file has not shrunk yet"):
            while self._all("PRAGMA freelist_count")[0][0]:
                # As a script: `execute` would stop after the first page.
                self._db.executescript(f"PRAGMA incremental_vacuum({_SHRINK_PAGES}); PRAGMA wal_checkpoint(TRUNCATE)")
        return freed

    def close(self) -> None:
        """Close the file; the bank cannot be used afterwards."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> HeadBank:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- inside

    def _has(self, table: str) -> bool:
        """False where a bank of an earlier format can only be read."""
        return bool(self._all("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def _put_sketch(self, digest: str, sketch: bytes) -> None:
        row = digest, hashlib.sha256(sketch).hexdigest(), sketch
        self._all(
            "INSERT INTO sketches VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET sha256 = excluded.sha256, "
            "data = excluded.data WHERE data <> excluded.data",
            *row,
        )

    def _put_in_force(self, task: str, number: int) -> None:
        self._all("INSERT OR REPLACE INTO current VALUES (?, ?, 1)", task, number)

    def _in_force(self, task: str) -> Generation:
        return next(g for g in self.history(task) if g.current)

    def unknown(self, task: str) -> UnknownTask:
        """The error for a task that is not there, with those that are."""
        known = list(self.current())
        shown = f"knows {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}" if known else "is empty"
        return UnknownTask(f"the bank has no task '{task}'; it {shown}")

    def _full(self, outcome: str) -> BankFull:
        return BankFull(
            f"no space left for the bank {self.path}; {outcome}. Free some space: delete "
            f"{self.path.parent / 'cache'}, which is made again, or run `edgecl heads gc`"
        )

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._explained():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            inner = self._db.in_transaction  # of this thread: the lock is held throughout
            self._db.execute("SAVEPOINT part" if inner else "BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("RELEASE part" if inner else "COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls all back when the disk is full
                    for statement in ("ROLLBACK TO part", "RELEASE part") if inner else ("ROLLBACK",):
                        self._db.execute(statement)
                raise

    @contextlib.contextmanager
    def _explained(self, outcome: str = "nothing was changed") -> Iterator[None]:
        """SQLite's errors as this module's, each with what to do."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:  # a text may be damaged, the folder gone
            extended = getattr(error, "sqlite_errorcode", 0)
            code = extended & 0xFF
            bank = f"the bank {self.path}"
            if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
                raise self._full(outcome) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                advice = "Check the rights of file and folder, and that the disk is neither mounted read-only nor full"
                raise BankReadOnly(f"{bank} cannot be written ({error}); {outcome}. {advice}") from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL):
                raise BankBusy(f"another process is writing to {bank}; {outcome}. Try again when it is done") from error
            lost = str(error).startswith(("no such table", "no such column"))  # of a schema that was there when it was opened
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or lost or "UTF-8" in str(error).upper():
                raise BankCorrupt(f"{bank} is damaged ({error}); {outcome}. {_RESTORE}") from error
            raise BankError(f"{bank} failed: {error}; {outcome}") from error
