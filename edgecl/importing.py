"""Bundles from elsewhere, many at once: judged, checked for collisions together, and kept in one transaction.

A person may keep one under a name of its own, as a *second opinion*: it is asked beside the task's head (`infer --opinions`),
or by its name, but does not take part in finding the task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgecl import collisions
from edgecl.bank.bank import Generation, HeadBank
from edgecl.errors import BundleError, ConfigError, EdgeclError, Reason, RomMismatch
from edgecl.rom.base import Rom
from edgecl.sharing.bases import stand
from edgecl.sharing.bundle import Bundle, digest, from_bytes
from edgecl.sharing.trust import Seen, Standing
from edgecl.sharing.trust_store import TrustStore, require_sound
from edgecl.types import task_name

OPINION = "opinion"  # the action of a generation that is one


@dataclass(frozen=True)
class Imported:
    """What became of one bundle.

    task: the name that it is kept under, or was to be; "?" where it cannot be read.   generation: None where it was refused;
    `error` says why.   takes: task -> share in 0..1 of its pictures that this one takes from it, where that is not 0.
    notes: sentences for a person that stop nothing.   bases: digests of what it stands on.
    """

    digest: str
    task: str
    generation: Generation | None = None
    error: EdgeclError | None = None
    takes: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()


@dataclass
class _Candidate:
    """One bundle on its way. below: what it stands on, as `HeadBank.put` takes it."""

    data: bytes
    result: Imported
    bundle: Bundle | None = None  # None: refused
    below: dict[str, bytes | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that it and what comes with it take."""
        return len(self.data) + sum(len(data or b"") for data in self.below.values())

    def refuse(self, error: EdgeclError) -> None:
        self.bundle, self.result = None, dataclasses.replace(self.result, error=error)


@dataclass(frozen=True)
class Wishes:
    """What a person has said about bundles that are taken in.

    older: though a newer one of the signer is known.   unsigned: though nobody signed it.   replace: also in place of another
    signer's head.   anyway: though it takes other tasks' pictures.   names: digest -> name to keep it under, as an opinion.
    """

    older: bool = False
    unsigned: bool = False
    replace: bool = False
    anyway: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receiver:
    """What a device is to this module.

    quota: bytes of all bundles, or None.   limit: share of a task's pictures that a new one may take.   known_tasks: the tasks
    that it answers for, and their classes, as they are now.   bundle: reads one from the bank by its digest.
    mapper: name of the one that serves.
    """

    bank: HeadBank
    trust: TrustStore
    rom: Rom
    quota: int | None
    limit: float
    known_tasks: Callable[[], tuple[dict[str, collisions.Known], dict[str, tuple[str, ...]]]]
    bundle: Callable[[str], Bundle]
    mapper: str

    def standing(self) -> Standing:
        """What bundles from elsewhere are judged by, as it is now."""
        return self.trust.standing(self.rom.image, self.quota)


def take_in(
    device: Receiver, bundles: Sequence[bytes], wishes: Wishes, fetch: Callable[[str], bytes] | None = None
) -> list[Imported]:
    """What becomes of each bundle, in their order; those that may be kept are put in force. See `EdgeDevice.import_bundles`."""
    wishes = dataclasses.replace(wishes, names={of: task_name(name) for of, name in wishes.names.items()})
    candidates: dict[str, _Candidate] = {}
    standing, current = device.standing(), device.bank.current()
    given = {digest(data): data for data in bundles}
    for name, data in given.items():
        candidates[name] = _Candidate(data, Imported(name, "?"))
        _judge(device, candidates[name], standing, current, wishes, given, fetch)
    _one_for_a_place(device, _left(candidates), wishes)
    _require_own_places(device, _left(candidates), wishes)
    looked = device.bank.version()
    _check(device, _left(candidates), wishes)
    if _left(candidates):
        with device.bank.exclusive():
            if device.bank.version() != looked:  # another process has changed something meanwhile
                _require_own_places(device, _left(candidates), wishes)
                _check(device, _left(candidates), wishes)
            _keep(device, _left(candidates), wishes)
    return [candidates[digest(data)].result for data in bundles]


def _left(candidates: Mapping[str, _Candidate]) -> list[tuple[_Candidate, Bundle]]:
    """Those that nothing has refused yet."""
    return [(one, one.bundle) for one in candidates.values() if one.bundle is not None]


def _judge(
    device: Receiver,
    one: _Candidate,
    standing: Standing,
    current: Mapping[str, str],
    wishes: Wishes,
    given: Mapping[str, bytes],
    fetch: Callable[[str], bytes] | None,
) -> None:
    """Everything that concerns this bundle alone, and what it stands on. current: task -> digest in force."""

    def base(of: str) -> bytes:
        if device.bank.sound(of):
            one.below[of] = None
            return device.bank.get(of)
        if of in given or fetch is None:
            data = given[of] if of in given else device.bank.get(of)
        else:
            data = fetch(of)
        one.below[of] = data
        return data

    try:
        bundle = from_bytes(one.data)
        one.result = dataclasses.replace(one.result, task=wishes.names.get(one.result.digest, bundle.task))
        require_sound(bundle)
        device.trust.require(bundle, one.data, _room(standing, current, one), wishes.older, wishes.unsigned)
        bundle.require_width(device.rom.width)
        one.result = dataclasses.replace(one.result, bases=tuple(base.digest for base in bundle.head.over))
        bundle = stand(bundle, device.rom, base, device.trust.barred())
        if bundle.head.over and standing.room is not None and one.size > standing.room and not _again(current, one):
            raise BundleError(
                f"'{bundle.task}' and what it stands on have {one.size:,} bytes, the quota for heads has "
                f"{max(0, standing.room):,} left; remove some, then edgecl heads gc",
                Reason.QUOTA,
            )
        device.rom.require(bundle.head.plugs)
        if bundle.head.plugs:  # numbers that blow up inside the network would silence every batch with such a picture in it
            s = device.rom.preprocess.size
            device.rom.features(np.full((1, s, s, 3), 127, np.uint8), bundle.head.plugs)
        one.bundle = bundle
    except EdgeclError as error:
        one.refuse(error)


def _again(current: Mapping[str, str], one: _Candidate) -> bool:
    """Whether it is in force there already: nothing new to be decided, but its bytes may be damaged, and are repaired."""
    return current.get(one.result.task) == one.result.digest


def _room(standing: Standing, current: Mapping[str, str], one: _Candidate) -> Standing:
    """What that one is judged by: in its own place it takes no more room than it has."""
    return dataclasses.replace(standing, room=None) if _again(current, one) else standing


def _one_for_a_place(device: Receiver, candidates: Sequence[tuple[_Candidate, Bundle]], wishes: Wishes) -> None:
    """Of several for one place, only the newest of one signer: of whom has it now, else none where there are two."""
    places: dict[str, list[tuple[_Candidate, Bundle]]] = {}
    for one, bundle in candidates:
        places.setdefault(one.result.task, []).append((one, bundle))
    for task, rivals in places.items():
        if len(rivals) == 1:
            continue
        signers = {bundle.signer for _, bundle in rivals}
        if len(signers) > 1 and not wishes.replace and (here := device.bank.current().get(task)):
            whose = device.trust.newest_key(_signer(device, here) or "")
            signers = {whose} if whose in signers else signers
        newest = max(rivals, key=lambda rival: (rival[1].signer in signers, rival[1].sequence))[0]
        for one, bundle in rivals:
            if len(signers) > 1:
                one.refuse(_several(task, len(signers)))
            elif one is not newest and bundle.signer in signers:
                one.refuse(BundleError(f"'{task}' comes together with a newer one of its signer", Reason.ROLLBACK))


def _several(task: str, count: int) -> BundleError:
    return BundleError(
        f"{count} devices that are trusted here have learned '{task}': say in peers.toml, by `tasks`, whose is meant; or take "
        f"them one by one, the second with --as NAME or --merge",
        Reason.COLLISION,
    )


def _signer(device: Receiver, here: str) -> str | None:
    """The key that has signed the bundle of that digest, "" for none; of a damaged one, as the bank remembers it, or None."""
    try:
        return device.bundle(here).signer
    except EdgeclError:
        return device.bank.taken_from(here)  # else a damaged head could not be followed by its device's next one


def _require_own_places(device: Receiver, candidates: Sequence[tuple[_Candidate, Bundle]], wishes: Wishes) -> None:
    """Refuse what would silently take the place of something else: two opinions are not one after the other."""
    current, actions = device.bank.current(), device.bank.actions()
    for one, bundle in candidates:
        task, digest_ = one.result.task, one.result.digest
        if current.get(task) == digest_ and (actions[task] == OPINION) == (digest_ in wishes.names):
            continue
        try:
            if digest_ in wishes.names:
                _require_place_for_opinion(device, task, bundle, current, actions)
            elif task in current and not wishes.replace:
                require_own_place(device, task, bundle.signer, current[task], actions[task])
        except EdgeclError as error:
            one.refuse(error)


def require_own_place(device: Receiver, task: str, signer: str, here: str, action: str) -> None:
    """Raise BundleError where a head of another device, or an opinion, has the place of what `signer` has signed.

    here, action: digest in force for the task, and how it came to be.
    """
    known = _signer(device, here)
    holder = device.trust.holders().get(known or "")
    whose = holder.name if holder else "somebody" if known is None else "a stranger" if known else "nobody"
    if action == OPINION:
        why = f"'{task}' is the name of a second opinion here"
    elif known is None or device.trust.newest_key(known) != device.trust.newest_key(signer):
        why = f"'{task}' is known here as learned by {whose}"
    else:
        return
    raise BundleError(
        f"{why}. To put this one in its place: --replace (edgecl heads rollback {task} undoes it); to ask both: --as NAME, "
        f"a second opinion; to make one head of both: --merge",
        Reason.COLLISION,
    )


def _require_place_for_opinion(
    device: Receiver, name: str, bundle: Bundle, current: Mapping[str, str], actions: Mapping[str, str]
) -> None:
    if name == bundle.task:
        raise ConfigError(f"a second opinion on '{name}' needs a name of its own: --as NAME")
    if name in current and (actions[name] != OPINION or device.bundle(current[name]).task != bundle.task):
        raise ConfigError(f"'{name}' is the name of something else here; keep the second opinion under another: --as NAME")


def _check(device: Receiver, candidates: Sequence[tuple[_Candidate, Bundle]], wishes: Wishes) -> None:
    """Whose pictures each would take, once for all of them; refuse those that take too much."""
    there, classes = device.known_tasks()
    new: dict[str, collisions.Known] = {}
    for one, bundle in candidates:
        if one.result.digest in wishes.names:
            continue
        try:
            maker = device.trust.newest_key(bundle.signer)
            new[one.result.task] = collisions.known(bundle, None, device.rom.width, maker, device.mapper)
        except EdgeclError as error:
            one.refuse(error)
    limit, current = 1.0 if wishes.anyway else device.limit, device.bank.current()
    found = collisions.check(there, new, limit, device.rom.width, device.mapper)
    for one, bundle in candidates:
        task = one.result.task
        if task not in found or one.bundle is None:
            continue
        takes = found[task]
        others = {name: names for name, names in classes.items() if name != task}
        notes = collisions.overlaps(bundle.head.classes, others)
        if takes and (coarse := sorted(name for name in takes if not (there.get(name) or new[name]).seen)):
            notes.append(f"no pictures were learned here of {', '.join(coarse[:5])}: those shares are from anchors, and rough")
        one.result = dataclasses.replace(one.result, takes=takes, notes=tuple(notes))
        if max(takes.values(), default=0.0) > limit and not _again(current, one):
            one.refuse(collisions.refusal(task, takes, limit))


def _keep(device: Receiver, candidates: Sequence[tuple[_Candidate, Bundle]], wishes: Wishes) -> None:
    """Put them in force, each judged once more by what is known now, when nobody else can change it."""
    standing, current = device.standing(), device.bank.current()
    seen = dict(standing.seen)
    standing = dataclasses.replace(standing, seen=seen)
    for one, bundle in candidates:
        action = OPINION if one.result.digest in wishes.names else "import"
        try:
            device.trust.require(bundle, one.data, _room(standing, current, one), wishes.older, wishes.unsigned)
            there = device.bank.put(one.result.task, one.data, action, bundle.mark, signed_for=bundle.task, below=one.below)
        except (BundleError, RomMismatch) as error:
            one.refuse(error)
            continue
        one.result = dataclasses.replace(one.result, generation=there)
        if bundle.mark:
            seen[bundle.signer, bundle.task, bundle.head.rom_id] = Seen(bundle.sequence, there.digest)
        if standing.room is not None and not _again(current, one):
            standing = dataclasses.replace(standing, room=standing.room - one.size)
