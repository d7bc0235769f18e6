"""Sharing heads through a place, and taking them from there: what is new goes over, and what is refused stops nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgecl.device import EdgeDevice
from edgecl.errors import BundleError, EdgeclError, Reason, RomMismatch, TransferError, UnknownTask
from edgecl.sharing.bundle import MAX_BYTES, Bundle, digest, from_bytes
from edgecl.sharing.succession import MAX_BYTES as MAX_CHAIN
from edgecl.sharing.succession import from_json, to_json
from edgecl.sharing.transport.base import Transport
from edgecl.sharing.trust_store import require_sound
from edgecl.types import task_name


@dataclass(frozen=True)
class Outcome:
    """What became of one bundle.

    state: "shared", "taken", "known" (it was there already), "older" (a newer one of its device is there or here), "foreign"
    (for another ROM, where one for this ROM is there too) or "refused".
    reason: of a refusal, in a word; "" where it has none.   message: a sentence.
    """

    task: str
    digest: str
    size: int
    state: str
    reason: str = ""
    message: str = ""


def share(device: EdgeDevice, to: Transport, tasks: Iterable[str] = ()) -> list[Outcome]:
    """Put the bundles in force there; tasks: names, none means all. Raises UnknownTask, TransferError.

    What nobody would take, because nobody has signed it or it is not trusted here, is refused and stops none of the others.
    """
    chain = device.trust.successions()
    for link in chain:  # first: without them, nobody who trusts a former key would believe the heads
        to.put_note(link.old, to_json(chain))
    current = device.bank.current()
    names = [task_name(name) for name in tasks] or list(current)
    found = []
    for name in names:
        data = device.export(name)
        error = unfit(device, name, from_bytes(data))
        if error is None:
            found.append(Outcome(name, current[name], len(data), "shared" if to.put(data) else "known"))
        else:
            found.append(Outcome(name, current[name], len(data), "refused", str(error.reason), str(error)))
    return found


def unfit(device: EdgeDevice, task: str, bundle: Bundle) -> BundleError | None:
    """Why a bundle of this device is of no use to others, or None."""
    if not bundle.signer:
        return BundleError(f"'{task}' is not signed, so no device would take it; learn it again", Reason.UNKNOWN_SIGNER)
    who = device.trust.custody(bundle)
    if who.former:
        own = bundle.signer in device.trust.here.former
        do = "edgecl peers rotate signs it again" if own else "pull it from there again"
        return BundleError(
            f"'{task}' is signed with a former key of {who.signer}, which others take no more; {do}", Reason.REVOKED
        )
    if not who.trusted or device.trust.barred()(bundle):
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
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Take what is there and new, of each device, task and ROM the newest. tasks: names, none means all.

    Before that, the new keys of devices whose former ones are trusted.

    replace: also in place of a head of another signer, and what a person here had taken out of force. Raises UnknownTask for a
    task that is not there, TransferError when the place cannot be read at all. A refused bundle stops none of the others.
    """
    wanted = {task_name(name) for name in tasks}
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
            bundle = from_bytes(source.get(entry.digest, MAX_BYTES))
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
    fitting = [
        f
        for f in newest.values()
        if f.rom_id == device.rom.rom_id and (f.signer == mine != "" or (f.signer in peers and peers[f.signer].allows(f.task)))
    ]
    for found in newest.values():
        said(_taken(device, source, found, [f for f in fitting if f.task == found.task], replace))
    return outcomes


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


def _taken(device: EdgeDevice, source: Transport, found: _Found, fitting: Sequence[_Found], replace: bool) -> Outcome:
    """What becomes of one that is the newest of its signer. fitting: what believed signers have of that task for this ROM."""
    if device.bank.current().get(found.task) == found.digest:
        return found.outcome("known")
    seen = device.bank.accepted().get((found.signer, found.task, found.rom_id))
    if seen is not None and seen[1] == found.digest and not replace:
        return found.outcome("known", f"it was taken out of force here; edgecl heads rollback {found.task}, or pull --replace")
    try:
        if found in fitting and len(fitting) > 1:
            raise BundleError(
                f"{len(fitting)} devices that are trusted here have learned '{found.task}': say in peers.toml, by `tasks`, "
                f"whose is meant",
                Reason.COLLISION,
            )
        data = source.get(found.digest, MAX_BYTES)
        if not replace and found.signer in {f.signer for f in fitting}:
            _require_own_place(device, from_bytes(data))
        device.import_bundle(data)
    except RomMismatch as error:
        return found.outcome("foreign" if fitting else "refused", error)
    except EdgeclError as error:
        old = getattr(error, "reason", None) is Reason.ROLLBACK  # as sticks are: they keep what was put on them
        return found.outcome("older" if old else "refused", error)
    return found.outcome("taken")


def _require_own_place(device: EdgeDevice, bundle: Bundle) -> None:
    """Raise BundleError where a head of another signer answers for the task: two opinions are not one after the other."""
    held = device.bank.current().get(bundle.task)
    if held is None:
        return
    here = device.bundle(held)
    holder = device.trust.holders().get(here.signer)
    if bundle.signer not in (holder.line if holder else (here.signer,)):
        raise BundleError(
            f"'{bundle.task}' is known here as learned by {device.trust.custody(here).signer}; to put this one in its place: "
            f"--replace (edgecl heads rollback {bundle.task} undoes it)",
            Reason.COLLISION,
        )
