"""Heads between two devices that speak to each other: what a device says and does in such a conversation.

with Https("10.0.0.7:7433", device.trust.signer, keys) as channel:
    outcomes = give(device, channel)          # edgecl share --to ...
    outcomes = fetch(device, channel)         # edgecl pull --from ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from edgecl.device import EdgeDevice
from edgecl.errors import BankError, BundleError, EdgeclError, PeerRefused, Reason, RomMismatch, UnknownTask
from edgecl.exchange import Outcome, unfit
from edgecl.sharing import peer
from edgecl.sharing.bundle import from_bytes
from edgecl.sharing.inbox import Inbox
from edgecl.sharing.peer import Channel, Host
from edgecl.sharing.protocol import Answer, Done
from edgecl.sharing.trust import Offer
from edgecl.sharing.trust_store import offer_of
from edgecl.types import task_name

Tell = Callable[[Outcome], None]


class Station(Host):
    """A device as a host. on_device: runs what needs the device's own thread, and waits for it."""

    def __init__(self, device: EdgeDevice, on_device: Callable[[Callable[[], Any]], Any] = lambda work: work()) -> None:
        self._device, self._on_device = device, on_device
        self._checked: tuple[object, dict[str, Offer | BundleError]] | None = None

    def require(self, sender: str) -> None:
        known = next((p for p in self._device.trust.peers.values() if p.key == sender), None)
        if known is None:
            raise PeerRefused("this device does not know you; somebody here must trust your key first", Reason.UNKNOWN_SIGNER)
        if not known.trusted:
            raise PeerRefused("this device's trust in you was revoked", Reason.REVOKED)

    def offers(self) -> list[Offer]:
        return [offer for offer in self.looked_at().values() if isinstance(offer, Offer)]

    def looked_at(self) -> dict[str, Offer | BundleError]:
        """What is in force here, by task: as it is offered, or why it is not."""
        if self._checked is None or self._checked[0] != self.stamp():
            stamp, device = self.stamp(), self._device
            found: dict[str, Offer | BundleError] = {}
            for task, digest in device.bank.current().items():
                data = device.bank.get(digest)
                try:
                    bundle = from_bytes(data)
                    found[task] = unfit(device, task, bundle) or offer_of(bundle, data)
                except BundleError as error:
                    found[task] = error
            self._checked = stamp, found
        return self._checked[1]

    def data(self, digest: str) -> bytes:
        return self._device.bank.get(digest)

    def answers(self, offers: Sequence[Offer]) -> list[Answer]:
        device = self._device
        current, accepted = device.bank.current(), device.bank.accepted()
        found = []
        judged = device.trust.judged(offers, device.trust.standing(device.rom.image, device.quota))
        for offer, error in zip(offers, judged, strict=True):
            seen = accepted.get((offer.key, offer.task, offer.rom_id))
            if current.get(offer.task) == offer.digest:
                found.append(Answer("known"))
            elif error is not None:
                found.append(Answer(_state(error), None, str(error.reason), str(error)))
            elif seen is not None and seen[1] == offer.digest:
                found.append(Answer("known", None, "", f"it was taken out of force here; edgecl heads rollback {offer.task}"))
            else:
                found.append(Answer("want"))
        return found

    def relatives(self, task: str) -> list[bytes]:
        digest = self._device.bank.current().get(task)
        try:
            return [] if digest is None else [self._device.bank.get(digest)]
        except BankError:
            return []

    def take(self, bundles: Sequence[bytes]) -> list[Done]:
        done = []
        for found in self._on_device(lambda: self._device.import_bundles(bundles)):
            error = found.error
            reason = str(getattr(error, "reason", "") or "")
            done.append(Done(found.digest, "taken" if error is None else _state(error), reason, str(error or "")))
        return done

    def stamp(self) -> object:
        return self._device.bank.version(), self._device.trust.stamp()


def _state(error: EdgeclError) -> str:
    reason = getattr(error, "reason", None)
    return "older" if reason is Reason.ROLLBACK else "foreign" if isinstance(error, RomMismatch) else "refused"


def give(device: EdgeDevice, channel: Channel, tasks: Iterable[str] = (), tell: Tell = lambda outcome: None) -> list[Outcome]:
    """Give the device at the other end what it lacks of the bundles in force. tasks: names, none means all.

    Raises UnknownTask, TransferError. What is refused stops none of the others.
    """
    outcomes: list[Outcome] = []

    def said(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    station = Station(device)
    found = station.looked_at()
    names = [task_name(name) for name in tasks] or list(found)
    offers = []
    for name in names:
        if name not in found:
            raise device.bank.unknown(name)
        card = found[name]
        if isinstance(card, Offer):
            offers.append(card)
        else:
            said(Outcome(name, device.bank.current()[name], 0, "refused", str(card.reason), str(card)))

    def given(offer: Offer, done: Done) -> None:
        state = "shared" if done.state == "taken" else done.state
        said(Outcome(offer.task, offer.digest, offer.size, state, done.reason, done.message))

    peer.push(station, channel, offers, given)
    return outcomes


def fetch(device: EdgeDevice, channel: Channel, tasks: Iterable[str] = (), tell: Tell = lambda outcome: None) -> list[Outcome]:
    """Take from the device at the other end what is new here. tasks: names, none means all.

    Raises UnknownTask, TransferError. What is refused stops none of the others.
    """
    wanted = {task_name(name) for name in tasks}
    outcomes: list[Outcome] = []

    def said(offer: Offer, done: Done) -> None:
        outcomes.append(Outcome(offer.task, offer.digest, offer.size, done.state, done.reason, done.message))
        tell(outcomes[-1])

    station = Station(device)
    talk, offers = peer.listed(channel)
    if missing := wanted - {offer.task for offer in offers}:
        has = ", ".join(sorted(offer.task for offer in offers)[:8]) or "nothing"
        raise UnknownTask(f"{channel.where} has no '{min(missing)}'; it has {has}")
    chosen = [offer for offer in offers if not wanted or offer.task in wanted]
    peer.pull(station, channel, talk, chosen, inbox(device), said)
    return outcomes


def inbox(device: EdgeDevice) -> Inbox:
    """Where what comes in lies until it is whole."""
    return Inbox(device.home / "incoming")
