"""Heads between two devices that speak to each other, and between a device and whatever place a person names.

share_to(device, "shop-floor-2")               # edgecl share --to ...: a peer's name, HOST:PORT, a folder, a bucket
pull_from(device, "10.0.0.7:7433", ["birds"])  # edgecl pull birds --from ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from edgecl import exchange
from edgecl.device import EdgeDevice
from edgecl.errors import (
    BankError,
    BundleError,
    ConfigError,
    EdgeclError,
    PeerRefused,
    Reason,
    RomMismatch,
    TransferError,
    UnknownTask,
)
from edgecl.exchange import Outcome, Tell, known, to_be_shared, unfit, with_bases
from edgecl.importing import Imported, Wishes, require_own_place
from edgecl.sharing import peer
from edgecl.sharing.bundle import card_only
from edgecl.sharing.inbox import Inbox
from edgecl.sharing.peer import Channel, Host
from edgecl.sharing.protocol import Answer, Done
from edgecl.sharing.signing import crossings
from edgecl.sharing.succession import Succession
from edgecl.sharing.transport.opening import open_place
from edgecl.sharing.trust import Offer, judge
from edgecl.sharing.trust_store import offer_of
from edgecl.text import printable
from edgecl.types import task_name

if TYPE_CHECKING:
    from edgecl.sharing.transport.https import Https

Said = TypeVar("Said")
_ADDRESS = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.%a-z]{2,60}\]):([0-9]{1,5})")


class Station(Host):
    """A device as a host.

    on_device: runs what needs the device's own thread, and waits for it.   wishes: of the person at this device, when it is the
    one that pulls; nothing that comes over a network has any.
    """

    def __init__(
        self,
        device: EdgeDevice,
        on_device: Callable[[Callable[[], Any]], Any] = lambda work: work(),
        wishes: Wishes | None = None,
    ) -> None:
        self._device, self._on_device, self._wishes = device, on_device, wishes or Wishes()
        self._checked: tuple[object, dict[str, Offer | EdgeclError]] | None = None
        self.imported: dict[str, Imported] = {}  # by digest, what was looked at closely

    def chain(self) -> Sequence[Succession]:
        return self._device.trust.successions()

    def meet(self, sender: str, chain: Sequence[Succession]) -> None:
        if chain and chain[-1].new == sender:  # nobody else's
            self._device.trust.succeed(chain)

    def require(self, sender: str) -> None:
        holder = self._device.trust.holders().get(sender)
        if holder is None:
            raise PeerRefused("this device does not know you; somebody here must trust your key first", Reason.UNKNOWN_SIGNER)
        if not holder.trusted:
            raise PeerRefused("this device's trust in you was revoked", Reason.REVOKED)
        if holder.key != sender:
            raise PeerRefused("that key has been replaced by another", Reason.REVOKED)

    def offers(self) -> list[Offer]:
        found = self.looked_at()
        return [offer for task in to_be_shared(self._device, ()) if isinstance(offer := found.get(task), Offer)]

    def looked_at(self) -> dict[str, Offer | EdgeclError]:
        """What is in force here, by task: as it is offered, or why it is not."""
        stamp = self.stamp()
        if self._checked is None or self._checked[0] != stamp:
            device = self._device
            found: dict[str, Offer | EdgeclError] = {}
            barred = device.trust.barred()
            for task, digest in device.bank.current().items():
                try:  # one that is damaged keeps none of the others here
                    data = device.bank.get(digest)
                    bundle = card_only(data)
                    found[task] = unfit(device, task, bundle, barred) or offer_of(bundle, data)
                except (BundleError, BankError) as error:
                    found[task] = error
            self._checked = stamp, found
        return self._checked[1]

    def data(self, digest: str) -> bytes:
        return self._device.bank.get(digest)

    def answers(self, offers: Sequence[Offer]) -> list[Answer]:
        device, wishes, found = self._device, self._wishes, []
        receiver, current, actions = device.receiver(), device.bank.current(), device.bank.actions()
        standing = receiver.standing()
        for offer in offers:
            again = current.get(offer.task) == offer.digest
            damaged = again and not device.bank.sound(offer.digest)
            error: EdgeclError | None = judge(offer, replace(standing, room=None) if again else standing)
            in_force = offer.digest in current.values() and not damaged
            why = known(device, offer.task, offer.digest, offer.key, offer.rom_id, wishes) if error is None else None
            if error is None and why is None and offer.task in current and not (again or wishes.replace or wishes.names):
                try:
                    require_own_place(receiver, offer.task, offer.key, current[offer.task], actions[offer.task])
                except BundleError as collision:
                    error = collision
            if in_force or why is not None:
                found.append(Answer("known", None, "", why or ""))
            elif error is not None:
                found.append(Answer(_state(error), None, str(getattr(error, "reason", "")), str(error)))
            else:
                found.append(Answer("want"))
                if standing.room is not None and not again:  # for all that will come, together
                    standing = replace(standing, room=standing.room - offer.size)
        return found

    def relatives(self, task: str) -> list[bytes]:
        digest = self._device.bank.current().get(task)
        try:
            return [] if digest is None else [self._device.bank.get(digest)]
        except BankError:
            return []

    def take(self, bundles: Sequence[bytes]) -> list[Done]:
        w = self._wishes
        done = []
        for found in self._on_device(
            lambda: self._device.import_bundles(bundles, replace=w.replace, anyway=w.anyway, names=w.names)
        ):
            self.imported[found.digest] = found
            error = found.error
            reason = str(getattr(error, "reason", "") or "")
            done.append(Done(found.digest, "taken" if error is None else _state(error), reason, str(error or "")))
        return done

    def stamp(self) -> object:
        return self._device.bank.version(), self._device.trust.stamp()


def _state(error: EdgeclError) -> str:
    reason = getattr(error, "reason", None)
    return "older" if reason is Reason.ROLLBACK else "foreign" if isinstance(error, RomMismatch) else "refused"


# -- over a channel


def give(
    device: EdgeDevice,
    channel: Channel,
    tasks: Iterable[str] = (),
    tell: Tell = lambda outcome: None,
    station: Station | None = None,
) -> list[Outcome]:
    """Give the device at the other end what it lacks of the bundles in force. tasks: names, none means all.

    station: of the device, where one is kept that remembers what it has looked at.

    Raises UnknownTask, TransferError. What is refused stops none of the others.
    """
    outcomes: list[Outcome] = []

    def said(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    station = station or Station(device)
    found, current = station.looked_at(), device.bank.current()
    offers, unfit_ = [], []
    for name in with_bases(device, to_be_shared(device, tasks)):
        card = found.get(name)  # another process may have changed something meanwhile
        if isinstance(card, Offer):
            offers.append(card)
        elif card is not None:
            reason = str(getattr(card, "reason", ""))
            unfit_.append(Outcome(name, current.get(name, ""), 0, "refused", reason, str(card)))

    def given(offer: Offer, done: Done) -> None:
        state = "shared" if done.state == "taken" else done.state
        said(Outcome(offer.task, offer.digest, offer.size, state, done.reason, done.message))

    peer.push(station, channel, offers, given)
    for outcome in unfit_:
        said(outcome)
    return outcomes


def fetch(
    device: EdgeDevice,
    channel: Channel,
    tasks: Iterable[str] = (),
    tell: Tell = lambda outcome: None,
    wishes: Wishes | None = None,
    name: str | None = None,
) -> list[Outcome]:
    """Take from the device at the other end what is new here. tasks: names, none means all.

    wishes: of the person here.   name: under which the one that is named is kept, as a second opinion.
    Raises UnknownTask, TransferError. What is refused stops none of the others. What one of them stands on is taken too.
    """
    wanted = {task_name(task) for task in tasks}
    outcomes: list[Outcome] = []
    talk, offers = peer.listed(channel)
    if missing := wanted - {offer.task for offer in offers}:
        has = ", ".join(sorted(offer.task for offer in offers)[:8]) or "nothing"
        raise UnknownTask(f"{channel.where} has no '{min(missing)}'; it has {has}")
    chosen = [offer for offer in offers if not wanted or offer.task in wanted]
    named = {offer.digest: name for offer in chosen} if name else {}
    station = Station(device, wishes=replace(wishes or Wishes(), names=named))
    again: list[Offer] = []

    def said(offer: Offer, done: Done) -> None:
        if done.reason == Reason.MISSING_BASE and offer not in again and bases(offer):
            again.append(offer)
            return
        close = station.imported.get(offer.digest)
        outcome = Outcome(offer.task, offer.digest, offer.size, done.state, done.reason, done.message)
        outcomes.append(replace(outcome, takes=dict(close.takes), notes=close.notes) if close else outcome)
        tell(outcomes[-1])

    def bases(offer: Offer) -> list[Offer]:
        """What the head stands on, as far as it is offered and was not asked for: only the head's own bytes name it."""
        digests = station.imported[offer.digest].bases
        return [base for base in offers if base.digest in digests and base not in chosen]

    peer.pull(station, channel, talk, chosen, inbox(device), said)
    if again:
        below = dict.fromkeys(base for offer in again for base in bases(offer))
        peer.pull(station, channel, talk, [*below, *again], inbox(device), said)
    return outcomes


def inbox(device: EdgeDevice) -> Inbox:
    """Where what comes in lies until it is whole."""
    return Inbox(device.home / "incoming")


# -- by a word


def share_to(device: EdgeDevice, word: str, tasks: Iterable[str] = (), tell: Tell = lambda outcome: None) -> list[Outcome]:
    """Share with a trusted device or into a place. word: a peer's name, HOST:PORT, a folder, or a bucket's URL.

    Raises UnknownTask, TransferError, ConfigError, MissingDependency.
    """
    names = tuple(tasks)
    if (there := _device_at(device, word)) is None:
        return exchange.share(device, open_place(word), names, tell)
    return _conversing(device, *there, lambda channel: give(device, channel, names, tell))


def pull_from(
    device: EdgeDevice,
    word: str,
    tasks: Iterable[str] = (),
    tell: Tell = lambda outcome: None,
    wishes: Wishes | None = None,
    name: str | None = None,
) -> list[Outcome]:
    """Take from a trusted device or a place, as `fetch` and `exchange.pull` do. word: as for `share_to`."""
    names, wish = tuple(tasks), wishes or Wishes()
    if (there := _device_at(device, word)) is None:
        place = open_place(word)
        return exchange.pull(device, place, names, wish.replace, tell, anyway=wish.anyway, name=name)
    return _conversing(device, *there, lambda channel: fetch(device, channel, names, tell, wish, name))


def listing(device: EdgeDevice, word: str) -> list[tuple[Offer, Answer]]:
    """What a trusted device offers, and what would become of it here. Nothing is transferred. Raises as `pull_from`."""
    if (there := _device_at(device, word)) is None:
        raise ConfigError(f"'{printable(word, 80)}' is no peer's name and no HOST:PORT; a device is asked for its list")

    def asked(channel: Channel) -> list[tuple[Offer, Answer]]:
        _, offers = peer.listed(channel)
        return list(zip(offers, Station(device).answers(offers), strict=True))

    return _conversing(device, *there, asked)


def address(word: str) -> tuple[str, int] | None:
    """The host and port in "HOST:PORT" or "[IPV6]:PORT"; None for what is no such word."""
    found = _ADDRESS.fullmatch(word)
    if not found or not 0 < int(found[2]) < 65536:
        return None
    return found[1].strip("[]"), int(found[2])


def _device_at(device: EdgeDevice, word: str) -> tuple[str, list[str]] | None:
    """(HOST:PORT, keys that may be there) of the device that a word means; None where it means a place."""
    peers = device.trust.peers
    if word in peers:
        one = peers[word]
        if not one.trusted:
            raise PeerRefused(f"'{word}' was revoked here; nothing is said to it", Reason.REVOKED)
        return one.address or _found_by_name(word, one.key), [one.key]
    if address(word) is None:
        return None
    keys = [one.key for one in peers.values() if one.trusted]
    if not keys:
        raise TransferError(
            f"this device trusts nobody yet, so nothing is said to {word}; first: edgecl peers trust NAME {word}"
        )
    return word, keys


def _found_by_name(name: str, key: str) -> str:
    """Where the network says that the device of that key is; the connection proves it."""
    from edgecl.sharing.discovery import scan
    from edgecl.sharing.signing import fingerprint

    found = [one.address for one in scan() if one.fingerprint == fingerprint(key)]
    if not found:
        raise TransferError(
            f"'{name}' has no address in peers.toml, and is not found on this network. Give it as HOST:PORT, or: edgecl peers "
            f"trust {name} HOST:PORT"
        )
    return found[0]


def _conversing(device: EdgeDevice, where: str, keys: list[str], say: Callable[[Https], Said]) -> Said:
    """What `say` returns of a connection to that device, which may have a new key that a known one vouches for."""
    from edgecl.sharing.transport.https import Https, NewKey

    def connection(keys: Iterable[str]) -> Https:
        return Https(where, device.trust.signer, keys, crossings(device.home))

    try:
        with connection(keys) as channel:
            return say(channel)
    except (NewKey, PeerRefused) as error:
        if isinstance(error, PeerRefused) and (error.reason != Reason.UNKNOWN_SIGNER or not device.trust.successions()):
            raise
    with connection(keys) as channel, channel.hailing():
        peer.greet(Station(device), channel)
        met = channel.key
    Station(device).require(met)
    with connection([met]) as channel:
        return say(channel)
