"""Sharing heads through a place, and taking them from there: what is new goes over, and what is refused stops nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgecl.device import EdgeDevice
from edgecl.errors import BundleError, EdgeclError, Reason, UnknownTask
from edgecl.sharing.bundle import MAX_BYTES, Bundle, from_bytes
from edgecl.sharing.transport.base import Transport
from edgecl.sharing.trust_store import require_sound
from edgecl.types import task_name


@dataclass(frozen=True)
class Outcome:
    """What became of one bundle.

    state: "shared", "taken", "known" (it was there already), "older" (a newer one of its signer is there) or "refused".
    reason: of a refusal, in a word; "" where it has none.   message: a sentence.
    """

    task: str
    digest: str
    size: int
    state: str
    reason: str = ""
    message: str = ""


def share(device: EdgeDevice, to: Transport, tasks: Iterable[str] = ()) -> list[Outcome]:
    """Put the bundles in force there; tasks: names, none means all. Raises UnknownTask, TransferError."""
    current = device.bank.current()
    names = [task_name(name) for name in tasks] or list(current)
    found = []
    for name in names:
        data = device.export(name)
        new = to.put(data)
        found.append(Outcome(name, current[name], len(data), "shared" if new else "known"))
    return found


def pull(
    device: EdgeDevice,
    source: Transport,
    tasks: Sequence[str] = (),
    replace: bool = False,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Take what is there and new, of each signer and task the newest. tasks: names, none means all.

    replace: also in place of a head of another signer. Raises UnknownTask for a task that is not there, TransferError when
    the place cannot be read at all. A refused bundle stops none of the others.
    """
    wanted = {task_name(name) for name in tasks}
    outcomes: list[Outcome] = []

    def said(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    have = set(device.bank.current().values())
    newest: dict[tuple[str, str], _Found] = {}
    there: set[str] = set()
    for entry in source.ls():
        try:
            bundle = from_bytes(source.get(entry.digest, MAX_BYTES))
            require_sound(bundle)  # else a forged number would keep the newest true one from being taken
        except EdgeclError as error:
            if not wanted:  # nobody can say which task it was
                said(_refused("?", entry.digest, entry.size, error))
            continue
        there.add(bundle.task)
        if wanted and bundle.task not in wanted:
            continue
        found = _Found(bundle.sequence, entry.digest, bundle.task, entry.size)
        key = (bundle.signer, bundle.task)
        older, newest[key] = sorted((found, newest[key])) if key in newest else (None, found)
        if older is not None:
            said(Outcome(older.task, older.digest, older.size, "older"))
    if missing := wanted - there:
        has = ", ".join(sorted(there)[:8]) or "nothing that can be read"
        raise UnknownTask(f"{source.where} has no '{min(missing)}'; it has {has}")
    for found in newest.values():
        if found.digest in have:
            said(Outcome(found.task, found.digest, found.size, "known"))
            continue
        try:
            data = source.get(found.digest, MAX_BYTES)
            if not replace:
                _require_own_place(device, from_bytes(data))
            device.import_bundle(data)
        except EdgeclError as error:
            said(_refused(found.task, found.digest, found.size, error))
            continue
        said(Outcome(found.task, found.digest, found.size, "taken"))
    return outcomes


@dataclass(frozen=True, order=True)
class _Found:
    sequence: int
    digest: str
    task: str
    size: int


def _require_own_place(device: EdgeDevice, bundle: Bundle) -> None:
    """Raise BundleError where a head of another signer answers for the task: two opinions are not one after the other."""
    digest = device.bank.current().get(bundle.task)
    if digest is None:
        return
    here = device.trust.custody(device.bundle(digest))
    if device.bundle(digest).signer != bundle.signer:
        raise BundleError(
            f"'{bundle.task}' is known here as learned by {here.signer}; to put this one in its place: --replace (edgecl heads "
            f"rollback {bundle.task} undoes it)",
            Reason.COLLISION,
        )


def _refused(task: str, digest: str, size: int, error: EdgeclError) -> Outcome:
    return Outcome(task, digest, size, "refused", str(getattr(error, "reason", "")), str(error))
