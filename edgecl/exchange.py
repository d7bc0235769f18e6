"""Sharing heads through a place, and taking them from there: what is new goes over, and what is refused stops nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from edgecl.device import EdgeDevice
from edgecl.errors import (
    BankCorrupt,
    BankError,
    BundleError,
    ConfigError,
    EdgeclError,
    Reason,
    RomMismatch,
    TransferError,
    UnknownTask,
)
from edgecl.importing import OPINION, Wishes
from edgecl.merging import parts
from edgecl.sharing.bundle import MAX_BYTES, Bundle, digest, from_bytes
from edgecl.sharing.succession import MAX_BYTES as MAX_CHAIN
from edgecl.sharing.succession import from_json, to_json
from edgecl.sharing.transport.base import Transport
from edgecl.sharing.trust_store import require_sound
from edgecl.types import task_name

_BATCH = MAX_BYTES  # bytes of bundles that are held and judged together


@dataclass(frozen=True)
class Outcome:
    """What became of one bundle.

    state: "shared", "taken", "known" (it was there already), "older" (a newer one of its device is there or here), "foreign"
    (for another ROM, where one for this ROM is there too) or "refused".
    reason: of a refusal, in a word; "" where it has none.   message: a sentence.
    takes, notes: as of `Imported`, for what was looked at closely.
    """

    task: str
    digest: str
    size: int
    state: str
    reason: str = ""
    message: str = ""
    takes: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Tell = Callable[[Outcome], None]


def share(device: EdgeDevice, to: Transport, tasks: Iterable[str] = (), tell: Tell = lambda outcome: None) -> list[Outcome]:
    """Put the bundles in force there; tasks: names, none means all. Raises UnknownTask, TransferError.

    What nobody would take, because nobody has signed it, it is not trusted here or it is damaged, is refused and stops none of
    the others.
    """
    chain = device.trust.successions()
    for link in chain:  # first: without them, nobody who trusts a former key would believe the heads
        to.put_note(link.old, to_json(chain))
    current, barred = device.bank.current(), device.trust.barred()
    found = []
    for name in to_be_shared(device, tasks):
        data, below = b"", []
        error: EdgeclError | None
        try:
            data = device.export(name)
            below = [device.bank.get(base) for base in device.bank.below(current[name])]  # also what is in force no more
            error = unfit(device, name, from_bytes(data), barred)
        except (BankCorrupt, BundleError) as damage:
            error = damage
        if error is None:
            for base in below:
                to.put(base)
            found.append(Outcome(name, current[name], len(data), "shared" if to.put(data) else "known"))
        else:
            reason = str(getattr(error, "reason", ""))
            found.append(Outcome(name, current[name], len(data), "refused", reason, str(error)))
        tell(found[-1])
    return found


def to_be_shared(device: EdgeDevice, tasks: Iterable[str]) -> list[str]:
    """The tasks that are named; where none is, all but second opinions, which are others' heads. Raises UnknownTask."""
    actions = device.bank.actions()
    names = list(dict.fromkeys(map(task_name, tasks)))
    if unknown := [name for name in names if name not in actions]:
        raise device.bank.unknown(unknown[0])
    return names or [name for name, action in actions.items() if action != OPINION]


def with_bases(device: EdgeDevice, names: Iterable[str]) -> list[str]:
    """The tasks, each behind those in force that its head stands on."""
    current = device.bank.current()
    of = {digest: task for task, digest in current.items()}
    below = {name: [of[base] for base in device.bank.below(current[name]) if base in of] for name in names if name in current}
    return list(dict.fromkeys(one for name in names for one in (*below.get(name, ()), name)))


def unfit(device: EdgeDevice, task: str, bundle: Bundle, barred: Callable[[Bundle], str]) -> BundleError | None:
    """Why a bundle of this device is of no use to others, or None. Its signature was checked when it was kept.

    bundle: its card is enough.   barred: of the device's trust store.
    """
    if not bundle.signer:
        return BundleError(f"'{task}' is not signed, so no device would take it; learn it again", Reason.UNKNOWN_SIGNER)
    who = device.trust.custody(bundle, sound=True)
    if who.former:
        own = bundle.signer in device.trust.here.former
        do = "edgecl peers rotate signs it again" if own else "pull it from there again"
        return BundleError(
            f"'{task}' is signed with a former key of {who.signer}, which others take no more; {do}", Reason.REVOKED
        )
    if not who.trusted or barred(bundle):
        return BundleError(f"'{task}' was learned by {who.signer}, who is not trusted here", Reason.REVOKED)
    return None


@dataclass(frozen=True, order=True)
class _Found:
    """A sound bundle in a place: what is needed to choose among them without keeping their bytes.

    turn: which of its device's keys signed it; each counts anew, so a later key's bundle is the newer one.
    """

    turn: int
    sequence: int
    digest: str
    task: str
    size: int
    signer: str
    rom_id: str

    def outcome(self, state: str, error: EdgeclError | str = "") -> Outcome:
        """`state`, with what `error` says."""
        return Outcome(self.task, self.digest, self.size, state, str(getattr(error, "reason", "")), str(error))


def pull(
    device: EdgeDevice,
    source: Transport,
    tasks: Sequence[str] = (),
    replace: bool = False,
    tell: Tell = lambda outcome: None,
    *,
    anyway: bool = False,
    name: str | None = None,
) -> list[Outcome]:
    """Take what is there and new, of each device, task and ROM the newest. tasks: names, none means all.

    Before that, the new keys of devices whose former ones are trusted.

    replace: also in place of a head of another signer, and what a person here had taken out of force.   anyway: also what takes
    known tasks' pictures.   name: under which the one that is there is kept, as a second opinion. Raises UnknownTask for a
    task that is not there, TransferError when the place cannot be read at all. A refused bundle stops none of the others.
    """
    wanted, wishes = {task_name(task) for task in tasks}, Wishes(replace=replace, anyway=anyway)
    outcomes: list[Outcome] = []

    def said(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    for refused in _renew(device, source):
        said(refused)
    holders = device.trust.holders()
    newest: dict[tuple[str, str, str], _Found] = {}
    there: set[str] = set()
    unreadable = 0
    for entry in source.ls():
        try:
            bundle = from_bytes(_bytes_of(device, source, entry.digest))
            require_sound(bundle)  # else a forged number would keep the newest true one from being taken
        except EdgeclError as error:
            unreadable += 1
            if not wanted:  # nobody can say which task it was
                said(_Found(0, 0, entry.digest, "?", entry.size, "", "").outcome("refused", error))
            continue
        there.add(bundle.task)
        if wanted and bundle.task not in wanted:
            continue
        line = (bundle.signer,) if bundle.signer not in holders else holders[bundle.signer].line
        key = (line[-1], bundle.task, bundle.head.rom_id)
        turn = line.index(bundle.signer)
        found = _Found(turn, bundle.sequence, entry.digest, bundle.task, entry.size, bundle.signer, bundle.head.rom_id)
        older, newest[key] = sorted((found, newest[key])) if key in newest else (None, found)
        if older is not None:
            said(older.outcome("older"))
    if missing := wanted - there:
        has = ", ".join(sorted(there)[:8]) or "nothing that can be read"
        damaged = f"; {unreadable} bundles there are damaged or forged" if unreadable else ""
        raise UnknownTask(f"{source.where} has no '{min(missing)}'; it has {has}{damaged}")
    peers = {peer.key: peer for peer in device.trust.peers.values() if peer.trusted}
    mine = device.trust.own_key
    fitting = {
        f.task
        for f in newest.values()
        if f.rom_id == device.rom.rom_id and (f.signer == mine != "" or (f.signer in peers and peers[f.signer].allows(f.task)))
    }
    coming = []
    for f in sorted(newest.values(), key=lambda f: f.task):
        why = known(device, f.task, f.digest, f.signer, f.rom_id, wishes)
        if why is None:
            coming.append(f)
        else:
            said(f.outcome("known", why))
    if name is not None and len(coming) > 1:
        raise ConfigError(f"there are {len(coming)} heads that --as could name; say which task, and from whom by peers.toml")
    for batch in _batches(coming):
        _take(device, source, batch, fitting, dataclasses.replace(wishes, names={f.digest: name for f in batch if name}), said)
    return outcomes


def _bytes_of(device: EdgeDevice, source: Transport, digest: str) -> bytes:
    """A bundle that lies there; one that is here already is not fetched again."""
    with contextlib.suppress(BankError):  # it is not here, or damaged
        return device.bank.get(digest)
    return source.get(digest, MAX_BYTES)


def _renew(device: EdgeDevice, source: Transport) -> Iterator[Outcome]:
    """Take the new keys of devices that are known here. Yields what was refused."""
    heard = {b""}
    for key in device.trust.holders():
        data = b""
        try:
            data = source.note(key, MAX_CHAIN) or b""
            if data not in heard:
                heard.add(data)
                device.trust.succeed(from_json(data))
        except (BundleError, TransferError) as error:
            yield Outcome("?", digest(data), len(data), "refused", str(getattr(error, "reason", "")), str(error))


def known(device: EdgeDevice, task: str, digest: str, signer: str, rom_id: str, wishes: Wishes) -> str | None:
    """Why nothing is to be done about a bundle, in a sentence; "" where it is in force; None where it is to be judged.

    One in force that was damaged on the disk is judged too: taken again, it is repaired.
    """
    current = device.bank.current()
    if current.get(task) == digest and not device.bank.sound(digest):
        return None
    if digest in current.values():
        return ""
    here = current.get(task)
    with contextlib.suppress(EdgeclError):  # damaged: what it was made from, nobody can tell
        if here is not None and digest in parts(device.bundle(here)):
            return "it is part of the merged head here"
    seen = device.bank.accepted().get((signer, task, rom_id))
    if seen is not None and seen[1] == digest and not wishes.replace:
        return f"it was taken out of force here; edgecl heads rollback {task}, or pull --replace"
    return None


def _batches(coming: Sequence[_Found]) -> Iterator[list[_Found]]:
    """Of about _BATCH bytes; those of one task together, because they are judged side by side."""
    batch: list[_Found] = []
    for _, of_task in groupby(coming, key=lambda f: f.task):
        rivals = list(of_task)
        if batch and sum(f.size for f in batch + rivals) > _BATCH:
            yield batch
            batch = []
        batch += rivals
    if batch:
        yield batch


def _take(
    device: EdgeDevice,
    source: Transport,
    batch: Sequence[_Found],
    fitting: Collection[str],
    wishes: Wishes,
    said: Tell,
) -> None:
    """Get them, import them together, and say what became of each. fitting: tasks of which there is one for this ROM."""
    here: list[tuple[_Found, bytes]] = []
    for found in batch:
        try:
            here.append((found, _bytes_of(device, source, found.digest)))
        except EdgeclError as error:
            said(found.outcome("refused", error))
    try:
        datas = [data for _, data in here]
        results = device.import_bundles(
            datas,
            replace=wishes.replace,
            anyway=wishes.anyway,
            names=wishes.names,
            fetch=lambda digest: source.get(digest, MAX_BYTES),
        )
    except EdgeclError as error:  # the bank could keep none of them
        for found, _ in here:
            said(found.outcome("refused", error))
        return
    for (found, _), result in zip(here, results, strict=True):
        state, why = "taken", result.error
        if why is not None:
            # Sticks keep what was put on them: an older one, or one for another ROM, is no alarm.
            old = getattr(why, "reason", None) is Reason.ROLLBACK
            foreign = isinstance(why, RomMismatch) and found.task in fitting
            state = "older" if old else "foreign" if foreign else "refused"
        outcome = found.outcome(state, why or "")
        said(dataclasses.replace(outcome, takes=dict(result.takes), notes=result.notes))
