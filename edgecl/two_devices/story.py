"""The story of two devices, on real pictures: what A has learned B can do at once, and nobody else can make it do anything.

    result = run(Path("a/new/folder"), learned(), settings, tell=print)

A is this process. B is `edgecl serve` in another, and is asked over its local API. Between the two is HTTPS on loopback, over a
cable that counts, and can be cut. Every figure is measured in the run itself.
"""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from edgecl.config import DeviceConfig
from edgecl.demo import Tell, Watch, prepare, report_line, staged
from edgecl.device import EdgeDevice
from edgecl.errors import DataError, PeerRefused, Reason, TransferError
from edgecl.learning import LearnReport
from edgecl.peering import Station, share_to
from edgecl.pictures.reading import silent
from edgecl.sharing.bundle import from_bytes
from edgecl.sharing.peer import push
from edgecl.sharing.protocol import Ask, Done, encode
from edgecl.sharing.signing import Signer, fingerprint
from edgecl.sharing.transport.https import Https
from edgecl.sharing.transport.tls import first_look
from edgecl.sharing.trust import Peer
from edgecl.sharing.trust_store import offer_of
from edgecl.streams.base import TaskPictures
from edgecl.two_devices.cable import Cable
from edgecl.two_devices.served import WORDS, Served

WIDTH = 80
_NOTHING = 409  # HTTP's status of "nothing learned"
_TALK = 8 << 10  # bytes that a connection takes beside the bundles: handshake, certificates, questions
_INTRODUCTION = """\
A is this process; B is another, edgecl serve. Each has a home, a key and a bank of its own; both have the same frozen network.
They speak HTTPS on loopback, over a cable (a relay) that counts bytes, cannot read them, and can be cut. At the right: seconds
since the start."""

Answer = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Something that this is said to do, what was measured of it, and whether it held."""

    claim: str
    measured: str
    held: bool


@dataclass(frozen=True)
class Row:
    """How B does on a task that it never saw; shares are of the test pictures, in 0..1, and add up to 1."""

    task: str
    classes: int
    train: int  # pictures that A learned from
    bytes: int  # of the bundle
    test: int
    right: float
    unknown: float
    wrong: float
    same: int  # answers of B that are A's in every field


@dataclass(frozen=True)
class Result:
    """The outcome; `held`: nothing that was claimed failed.   figures: milliseconds, bytes, by name."""

    claims: Sequence[Claim]
    rows: Sequence[Row]
    figures: Mapping[str, float]
    conditions: Mapping[str, Any]
    seconds: float

    @property
    def held(self) -> bool:
        return all(claim.held for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"held": self.held, **dataclasses.asdict(self)}


def run(
    folder: Path,
    tasks: Sequence[TaskPictures],
    config: DeviceConfig,
    *,
    tell: Tell = lambda line: None,
    watch: Watch = lambda: nullcontext(silent),
    started: float | None = None,
) -> Result:
    """Play the story with two new devices in `folder`, A/ and B/, which stay behind with a few pictures. At least two tasks.

    tell, watch, started: as for `edgecl.demo.run`. Raises ConfigError when the folder is in use, EdgeclError when B does not
    start. B's process is gone afterwards, also where this is left by an error, Ctrl-C or SIGTERM.
    """
    started = time.perf_counter() if started is None else started
    for name in "AB":
        prepare(folder / name, config)
    for line in textwrap.wrap(_INTRODUCTION, WIDTH):
        tell(line)
    with (
        _terminable(),
        EdgeDevice(folder / "A", say=tell) as a,
        Cable() as cable,
        Served(folder / "B") as b,
    ):
        story = _Story(a, b, cable, tasks, tell, watch, started)
        story.play()
        (folder / "pictures").mkdir()
        for name, pictures in story.pictures.items():
            (folder / "pictures" / f"{name}.png").write_bytes(pictures[0])
        image = a.rom.image
        conditions = {"backbone": image.backbone, "rom_id": a.rom.rom_id, "ran_on": f"{a.rom.runtime} {a.rom.provider}"}
        if known := a.trust.peers.get("B"):
            a.trust.trust(replace(known, address=""))  # the cable's, which is gone
        return Result(story.claims, story.rows, story.figures, conditions, time.perf_counter() - started)


class _Story:
    def __init__(
        self, a: EdgeDevice, b: Served, cable: Cable, tasks: Sequence[TaskPictures], tell: Tell, watch: Watch, started: float
    ) -> None:
        self.a, self.b, self.cable, self._tell, self._watch = a, b, cable, tell, watch
        # The largest head last: it is cut in the middle, and what comes in is written to disk in blocks.
        self.tasks = sorted(tasks, key=lambda task: len(task.classes))
        self.pictures = {task.name: [_png(picture) for picture in task.test] for task in tasks}
        self.claims: list[Claim] = []
        self.rows: list[Row] = []
        self.figures: dict[str, float] = {}
        self._reports: dict[str, LearnReport] = {}
        self._number, self._started = 0, started

    def play(self) -> None:
        *first, last = self.tasks
        self._start()
        self._learn(first)
        self._meet()
        answers = self._share(first)
        self._cut(first, last, answers)
        self._attack(self.tasks[0])
        self._revoke()

    # -- the steps

    def _start(self) -> None:
        self._step("B starts")
        self._lines(f"$ edgecl {' '.join(WORDS)}")
        self._serve("start_s")
        self._told(f"It answers after {self.figures['start_s']:.1f} s, and shows its fingerprint {self.b.shown}.")
        self._told(f"Asked over its local API about a picture of each of {_names(self.tasks)}, it says:")
        replies = [self.b.ask(pictures[0]) for pictures in self.pictures.values()]
        self._quote(replies[0][1].get("error", replies[0][1]))
        self._claim("B, new, knows nothing", *self._silent(replies))

    def _learn(self, tasks: Sequence[TaskPictures]) -> None:
        self._step("A learns")
        for task in tasks:
            self._learned(task)

    def _meet(self) -> None:
        """First contact: nothing goes either way before both are trusted."""
        a, b, cable, own = self.a, self.b, self.cable, fingerprint(self.a.trust.signer.key)
        self._step("First contact")
        self._lines(f"$ edgecl share --to {cable.address}")
        refused, sent = self._tried(cable.address)
        self._claim("A sends nothing to whom it does not trust", f"{sent} bytes", refused and not sent)
        host, _, port = cable.address.partition(":")
        key = first_look(host, int(port))
        self._told(
            "Whoever is to trust B compares what B shows with what the connection to it proves. Two people do that over the "
            "phone; here the demo does:"
        )
        self._lines(f"B shows  {b.shown}", f"proven   {fingerprint(key)}")
        if fingerprint(key) != b.shown:
            raise PeerRefused("the connection to B proves another key than B shows: somebody stands between the two")
        a.trust.trust(Peer("B", key, address=cable.address))
        self._told("A trusts B now. But B does not know A:")
        self._lines("$ edgecl share --to B")
        refused, sent = self._tried("B")
        self._told(f"The handshake ended there; {sent:,} bytes had gone out, none of a head.")
        heard = b.heard()
        kept_out = refused and not heard and not b.heads() and sent < _TALK
        self._claim("B lets in nobody whom it does not trust", f"{_count(heard, 'request')} heard", kept_out)
        self._told("B is given A's key, and the fingerprint that A shows; edgecl compares the two:")
        self._lines(f"$ edgecl peers trust A {a.trust.signer.key[:8]}... --fingerprint {own}")
        said = b.command("peers", "trust", "A", a.trust.signer.key, "--fingerprint", own)
        self._quote(said)
        self._claim("both fingerprints are what the other shows", f"{b.shown[:9]}..., {own[:9]}...", own in said)

    def _share(self, tasks: Sequence[TaskPictures]) -> dict[str, list[Answer]]:
        """Returns B's answers, by task."""
        names = [task.name for task in tasks]
        self._step("A shares what it has learned")
        mine = self._answers_of_a(names)
        picture, expected = self._sure(tasks, mine)
        self._lines("$ edgecl share --to B")
        self.cable.clear()
        begun = time.perf_counter()
        outcomes = share_to(self.a, "B")
        shared = time.perf_counter()
        answer = self.b.ask(picture)[1]
        ms, first_ms = (shared - begun) * 1e3, (time.perf_counter() - shared) * 1e3
        size, went = sum(outcome.size for outcome in outcomes), self.cable.out + self.cable.back
        self.figures |= {"share_ms": ms, "share_bytes": size, "share_cable_bytes": went, "first_answer_ms": first_ms}
        self._told(
            f"{_count(len(outcomes), 'head')}, {size:,} bytes, in {ms:.0f} ms: sent, checked, on B's disk. Over the cable went "
            f"{went:,} bytes, handshake and both ways: {went / max(size, 1):.3f} x."
        )
        taken = all(outcome.state == "shared" for outcome in outcomes) and self.b.heads() == self.a.bank.current()
        self._claim("heads of a trusted peer are taken", f"{size / 1e3:.0f} kB in {ms:.0f} ms", taken)
        self._told(f"The first question is asked as soon as that is said. B answers {first_ms:.0f} ms later:")
        self._quote(_sentence(answer))
        self._claim("B answers right at once", f"{first_ms:.0f} ms after the push", answer == expected)
        theirs = self._answers_of_b(names)
        self.rows += [_row(task, self._reports[task.name], theirs[task.name], mine[task.name]) for task in tasks]
        self._compared(mine, theirs, "B answers as A does, in every field")
        return theirs

    def _cut(self, known: Sequence[TaskPictures], last: TaskPictures, before: Mapping[str, Sequence[Answer]]) -> None:
        """B is killed while a head comes in."""
        a, b, cable, name = self.a, self.b, self.cable, last.name
        self._step("B is killed while a head comes in")
        self._learned(last)
        size, heads, lying = self._reports[name].bytes, b.heads(), 0

        def strike() -> None:
            nonlocal lying
            lying = b.lying()
            b.kill()

        cable.cut_after(size * 7 // 8, strike)
        self._lines(f"$ edgecl share {name} --to B")
        broken, sent = self._tried("B", [name])
        self._told(f"B got SIGKILL when {sent:,} bytes had gone out; {lying:,} of the bundle's {size:,} lie on its disk.")
        self._serve("restart_s")
        kept, (same, total) = b.heads(), _same(before, self._answers_of_b([task.name for task in known]))
        self._told(
            f"Started again, it answers after {self.figures['restart_s']:.1f} s. It has {_list(kept)}; {same} of {total} "
            f"answers are as before, to the last digit."
        )
        there = len(heads.items() & kept.items())
        measured = f"{there} of {len(heads)} heads, {same} of {total} same"
        self._claim("killed, B loses nothing it acknowledged", measured, kept == heads and same == total)
        self._lines(f"$ edgecl share {name} --to B")
        cable.clear()
        begun = time.perf_counter()
        outcomes = share_to(a, "B", [name])
        ms, went = (time.perf_counter() - begun) * 1e3, cable.out
        twice = sent + went - size
        self.figures |= {"resume_ms": ms, "resume_was_there": lying, "resume_sent": went, "resume_twice_at_most": twice}
        self._told(
            f"{went:,} bytes go out, in {ms:.0f} ms. Both times together that is {twice:,} more than the bundle has: two "
            f"handshakes, and what was in memory only when B was killed."
        )
        resumed = [outcome.state for outcome in outcomes] == ["shared"] and went < size - lying + _TALK
        measured = f"{lying / 1e3:.0f} of {size / 1e3:.0f} kB were there"
        self._claim("the transfer goes on where it stopped", measured, broken and lying > 0 and resumed)
        names = [task.name for task in self.tasks]
        mine, theirs = self._answers_of_a(names), self._answers_of_b(names)
        self.rows.append(_row(last, self._reports[name], theirs[name], mine[name]))
        self._compared(mine, theirs, "and B answers as A does, as to all tasks")

    def _attack(self, task: TaskPictures) -> None:
        """A, trusted, sends what it should not; then somebody whom B does not know tries."""
        a, b, cable, name = self.a, self.b, self.cable, task.name
        self._step("Attacks")
        old = a.export(name)
        with self._watch() as progress:
            a.learn_pictures(name, task.train, task.train_labels, task.classes, seed=1, progress=staged(name, progress))
        cable.clear()
        share_to(a, "B", [name])
        self._told(f"A learns {name} anew and shares it: {cable.out:,} bytes, since B has some of the {len(old):,} already.")
        self.figures["again_sent"] = cable.out
        heads, new = b.heads(), from_bytes(a.export(name))
        tampered = replace(new, head=replace(new.head, classes=new.head.classes[::-1])).to_bytes()
        self._told(
            "Then A, which B trusts, sends it with the names of its classes exchanged, under the same signature. B says:"
        )
        self._pressed(tampered, "a trusted peer's tampered bundle", Reason.BAD_SIGNATURE)
        self._told("And the head before it, which it really has signed, as though it were the newest:")
        self._pressed(old, "a trusted peer's older bundle", Reason.ROLLBACK)
        heard, stranger = b.heard(), Signer.fresh()
        self._told(f"A stranger, {fingerprint(stranger.key)}, asks what B has:")
        with Https(cable.address, stranger, [a.trust.peers["B"].key]) as channel:
            error = _refused(lambda: channel.ask(encode(Ask())))
        self._quote(_briefly(error))
        requests = b.heard() - heard
        kept_out = error is not None and not isinstance(error, PeerRefused) and not requests
        self._claim("a stranger stops at the handshake", f"{_count(requests, 'request')} heard", kept_out)
        after = b.heads()
        changed = len(dict(heads.items() ^ after.items()))
        self._told(f"After all that B has {_count(len(after), 'head')}; {changed} of them changed.")
        self._claim("nothing of the attacks is kept", f"{changed} of {len(heads)} heads changed", not changed)

    def _revoke(self) -> None:
        b = self.b
        self._step("B trusts A no longer")
        self._lines("$ edgecl peers revoke A")
        self._quote(b.command("peers", "revoke", "A"))
        begun = time.perf_counter()
        replies = [b.ask(pictures[0]) for pictures in self.pictures.values()]
        ms = (time.perf_counter() - begun) * 1e3
        self._told(f"B was not stopped for that. Asked about a picture of each task, {ms:.0f} ms in all, it says:")
        self._quote(replies[0][1].get("error") or _sentence(replies[0][1]))
        self._claim("a revoked peer's heads answer no more", *self._silent(replies))
        self._lines("$ edgecl share --to B")
        before = b.heard()
        refused, sent = self._tried("B")
        heard = b.heard() - before
        kept_out = refused and not heard and not b.heads() and sent < _TALK
        self._claim("nor is it let in any more", f"{_count(heard, 'request')} heard", kept_out)

    # -- what they consist of

    def _serve(self, figure: str) -> None:
        self.figures[figure] = self.b.start()
        self.cable.plug(self.b.port)

    def _silent(self, replies: Sequence[tuple[int, Answer]]) -> tuple[str, bool]:
        """How many of these B answered, and whether it really knew of none."""
        answered = sum(status != _NOTHING for status, _ in replies)
        return f"{answered} of {len(replies)} answered", not answered and not self.b.heads()

    def _learned(self, task: TaskPictures) -> None:
        with self._watch() as progress:
            report = self.a.learn_pictures(
                task.name, task.train, task.train_labels, task.classes, progress=staged(task.name, progress)
            )
        self._reports[task.name] = report
        self._lines(report_line(len(self._reports), len(self.tasks), report))

    def _answers_of_a(self, names: Sequence[str]) -> dict[str, list[Answer]]:
        """A picture at a time, as B is asked; as JSON gives them back."""
        return self._answers("A answers", names, lambda picture: _plain(self.a.infer([picture])[0].to_dict()))

    def _answers_of_b(self, names: Sequence[str]) -> dict[str, list[Answer]]:
        return self._answers("B answers", names, lambda picture: self.b.ask(picture)[1])

    def _answers(self, stage: str, names: Sequence[str], ask: Callable[[bytes], Answer]) -> dict[str, list[Answer]]:
        found: dict[str, list[Answer]] = {name: [] for name in names}
        total, done = sum(len(self.pictures[name]) for name in names), 0
        with self._watch() as progress:
            for name in names:
                for picture in self.pictures[name]:
                    found[name].append(ask(picture))
                    progress(stage, done := done + 1, total)
        return found

    def _sure(self, tasks: Sequence[TaskPictures], answers: Mapping[str, Sequence[Answer]]) -> tuple[bytes, Answer]:
        """A picture that A gets right, with its answer. Raises DataError when there is none: nobody could be right at once."""
        for task in tasks:
            for label, picture, answer in zip(task.test_labels, self.pictures[task.name], answers[task.name], strict=True):
                if (answer["task"], answer["class"]) == (task.name, task.classes[label]):
                    return picture, answer
        raise DataError(
            f"of the test pictures of {_names(tasks)} A gets none right; that is a matter of the ROM or the pictures"
        )

    def _compared(self, mine: Mapping[str, Sequence[Answer]], theirs: Mapping[str, Sequence[Answer]], claim: str) -> None:
        same, total = _same(mine, theirs)
        self._told(
            f"B and A are asked about {total} test pictures, untold which task each is of: in {same} of {total} answers every "
            f"field is the same, to the last digit."
        )
        self._claim(claim, f"{same} of {total} answers", same == total)

    def _tried(self, word: str, tasks: Sequence[str] = ()) -> tuple[bool, int]:
        """A shares, which should fail, and what it says is shown: whether it did, and the bytes that went out."""
        self.cable.clear()
        error = _refused(lambda: share_to(self.a, word, tasks))
        self._quote(_briefly(error))
        return error is not None, self.cable.out

    def _pressed(self, data: bytes, what: str, reason: Reason) -> None:
        """Offer a bundle under a number that would be new, send it when B wants it, and show what B says."""
        offer = offer_of(from_bytes(data), data)
        found: list[Done] = []
        with Https(self.cable.address, self.a.trust.signer, [self.a.trust.peers["B"].key]) as channel:
            newest = replace(offer, sequence=offer.sequence + 1000)
            push(_Liar(self.a, data), channel, [newest], lambda offer, done: found.append(done))
        (done,) = found
        self._quote(f"{done.state} ({done.reason}): {done.message.partition('. ')[0]}" if done.reason else done.state)
        self._claim(f"{what} is refused", done.reason or done.state, done.state != "taken" and done.reason == reason)

    # -- telling

    def _step(self, words: str) -> None:
        self._number += 1
        self._tell("")
        at = f"{time.perf_counter() - self._started:.1f} s"
        self._tell(f"{self._number}. {words:<{WIDTH - len(at) - 5}}  {at}")

    def _told(self, words: str) -> None:
        self._lines(*textwrap.wrap(words, WIDTH - 3, break_on_hyphens=False))

    def _quote(self, words: object) -> None:
        """What a device said, in its own words."""
        self._lines(*textwrap.wrap(str(words), WIDTH - 5, initial_indent="| ", subsequent_indent="| ", break_on_hyphens=False))

    def _lines(self, *lines: str) -> None:
        for line in lines:
            self._tell(f"   {line}")

    def _claim(self, claim: str, measured: str, held: bool) -> None:
        self.claims.append(Claim(claim, measured, held))
        if not held:
            self._lines(f"FAILED: {claim.upper()}")


class _Liar(Station):
    """Sends what it was given, whatever was asked for."""

    def __init__(self, device: EdgeDevice, bytes_: bytes) -> None:
        super().__init__(device)
        self._bytes = bytes_

    def data(self, digest: str) -> bytes:
        return self._bytes


def _refused(work: Callable[[], object]) -> TransferError | None:
    """The error that `work` ends with, where it does."""
    try:
        work()
    except TransferError as error:
        return error
    return None


def _png(picture: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=1)
    return data.getvalue()


def _same(some: Mapping[str, Sequence[Answer]], others: Mapping[str, Sequence[Answer]]) -> tuple[int, int]:
    """How many answers are equal in every field, and how many there are."""
    pairs = [pair for name in some for pair in zip(some[name], others[name], strict=True)]
    return sum(x == y for x, y in pairs), len(pairs)


def _plain(answer: Answer) -> Answer:
    """As a local API gives it."""
    found: Answer = json.loads(json.dumps({name: value for name, value in answer.items() if name != "picture"}))
    return found


def _row(task: TaskPictures, report: LearnReport, theirs: Sequence[Answer], mine: Sequence[Answer]) -> Row:
    truth = [(task.name, task.classes[label]) for label in task.test_labels]
    n, unknown = len(theirs), sum(bool(answer.get("unknown")) for answer in theirs)
    right = sum((a.get("task"), a.get("class")) == t for a, t in zip(theirs, truth, strict=True))
    same = sum(x == y for x, y in zip(theirs, mine, strict=True))
    wrong = (n - right - unknown) / n
    return Row(task.name, len(task.classes), report.pictures, report.bytes, n, right / n, unknown / n, wrong, same)


def _briefly(error: TransferError | None) -> str:
    """The first sentence of what it says."""
    return "NOTHING: IT WAS LET THROUGH" if error is None else str(error).partition(". ")[0]


def _sentence(answer: Answer) -> str:
    if answer.get("task") is None or answer.get("class") is None:
        return f"unknown {answer.get('unknown', '')}: {answer.get('error', '')}"
    return f"{answer['task']} / {answer['class']}, {answer['confidence']:.0%} sure"


def _names(tasks: Sequence[TaskPictures]) -> str:
    return _list([task.name for task in tasks])


def _list(names: Iterable[str]) -> str:
    *most, last = list(names) or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends what is in here as Ctrl-C does, so that B does not outlive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
