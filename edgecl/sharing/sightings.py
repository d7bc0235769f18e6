"""What was heard of devices on the network: who says to be where. Bounded, and no sender can speak for another. No I/O.

Records come from anybody. They are kept by the address that sent them, so that nobody takes a neighbour's records away,
changes them or fills his place; each sender has a share of the places, and all together have `most`. What is found is a hint
where to connect to: the connection proves the key.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from edgecl.text import printable

SERVICE = "_edgecl._tcp.local."
_END = f".{SERVICE}"
_TEXT = {
    "v": re.compile(r"[1-9][0-9]{0,2}"),
    "fp": re.compile(r"[A-Z2-7]{4}(?:-[A-Z2-7]{4}){4}"),
    "rom": re.compile(r"[0-9a-f]{16}"),
}
_LONGEST = 60  # characters of a name
_ADDRESSES = 8  # of one host
_SWEEP = 1.0  # seconds between two looks for what has expired, however many ask for room
_TTL = 4_500  # seconds that anything is believed at most
_ASKED = 32  # names in one question
_A, _PTR, _TXT, _AAAA, _SRV = 1, 12, 16, 28, 33


@dataclass(frozen=True, order=True)
class Found:
    """A device as it presents itself.

    name: for people, printable.   address: "host:port", an IPv6 host in brackets.   fingerprint: of the key it says to have.
    rom: first 16 digits of its ROM's id, or "".   version: of the protocol it speaks.
    contested: others say to have the same key, or it says to be elsewhere too: at most one of them is right.
    """

    name: str
    address: str
    fingerprint: str
    rom: str
    version: int
    contested: bool = False


@dataclass
class _Claim:
    """What one sender says of one name. until: by the listener's clock."""

    label: str
    host: str = ""
    port: int = 0
    text: dict[str, str] = field(default_factory=dict)
    until: float = 0.0
    text_until: float = 0.0

    def whole(self, now: float) -> bool:
        return bool(self.port and "fp" in self.text and "v" in self.text) and now < min(self.until, self.text_until)


@dataclass
class _Sender:
    claims: dict[str, _Claim] = field(default_factory=dict)
    hosts: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))  # host -> address -> until


class Sightings:
    """most: names that are kept, of all senders; one sender has a quarter of them."""

    def __init__(self, most: int = 256) -> None:
        self._most, self._each = most, max(1, most // 4)
        self._senders: dict[str, _Sender] = {}  # by address, with its scope; none without a claim
        self._count, self._swept = 0, -_SWEEP

    def __len__(self) -> int:
        """Names that are kept."""
        return self._count

    def hear(self, packet: bytes, source: str, scope: str, now: float) -> None:
        """Take a packet from that address. scope: interface it came by, where that matters.   now: seconds, of any clock."""
        from zeroconf import DNSIncoming  # type: ignore[attr-defined]

        try:
            message: Any = DNSIncoming(packet, (source, 5353), None, now * 1000)
            answers = message.answers() if message.valid and message.is_response() else []
        except Exception:  # its parser catches what it knows of; whatever else a packet brings about must not end the listening
            return
        who = f"{source}%{scope}"
        for record in answers:
            if record.type in (_PTR, _SRV, _TXT):
                self._claimed(who, record, now)
        sender = self._senders.get(who)
        for record in answers:
            if sender is not None and record.type in (_A, _AAAA):
                self._placed(sender, record, now)

    def found(self, now: float) -> list[Found]:
        """Whole and valid claims, by name; a device with several addresses once for each."""
        claims: dict[tuple[str, str], Found] = {}
        stories: dict[str, set[object]] = defaultdict(set)
        for who, sender in self._senders.items():
            source, _, scope = who.partition("%")
            for claim in sender.claims.values():
                if not claim.whole(now):
                    continue
                listed = sorted(ip for ip, until in sender.hosts.get(claim.host, {}).items() if now < until)
                fingerprint = claim.text["fp"]
                if listed:
                    stories[fingerprint].add((claim.label, claim.port, *listed))
                for ip in listed:
                    if host := _reachable(ip, scope, ipaddress.ip_address(source).is_loopback):
                        address = f"{host}:{claim.port}"
                        rom, version = claim.text.get("rom", ""), int(claim.text["v"])
                        claims.setdefault((fingerprint, address), Found(claim.label, address, fingerprint, rom, version))
        marked = (
            Found(f.name, f.address, f.fingerprint, f.rom, f.version, len(stories[f.fingerprint]) > 1) for f in claims.values()
        )
        return sorted(marked)[: self._most]

    def unclear(self, now: float) -> list[tuple[str, int]]:
        """Names and types to ask for, because what was heard is not whole; a bounded number."""
        asked = []
        for sender in self._senders.values():
            for name, claim in sender.claims.items():
                if not claim.whole(now):
                    asked += [(name, _SRV), (name, _TXT)]
                elif not sender.hosts.get(claim.host):
                    asked += [(claim.host, _A), (claim.host, _AAAA)]
        return list(dict.fromkeys(asked))[:_ASKED]

    def _claimed(self, who: str, record: Any, now: float) -> None:
        is_pointer = record.type == _PTR
        if is_pointer and record.name.lower() != SERVICE:
            return
        full = str(record.alias if is_pointer else record.name)
        name = full.lower()
        if not name.endswith(_END) or name == _END:
            return
        until = now + min(record.ttl, _TTL)
        if record.ttl == 0:  # it says goodbye, for itself
            if who in self._senders and name in self._senders[who].claims:
                del self._senders[who].claims[name]
                self._count -= 1
                if not self._senders[who].claims:
                    del self._senders[who]
            return
        claim = self._claim(who, name, printable(full[: -len(_END)], _LONGEST), now)
        if claim is None:
            return
        if record.type == _SRV:
            claim.host, claim.port, claim.until = record.server.lower(), record.port, until
        else:
            claim.until = claim.until or until
        if record.type == _TXT:
            claim.text, claim.text_until = _text(record.text), until

    def _claim(self, who: str, name: str, label: str, now: float) -> _Claim | None:
        """The claim of that name, made where there is room."""
        sender = self._senders.get(who)
        if sender is not None and name in sender.claims:
            return sender.claims[name]
        if not self._room(who) and now - self._swept >= _SWEEP:
            self._forget_expired(now)
        if not self._room(who):
            return None
        self._count += 1
        claim = self._senders.setdefault(who, _Sender()).claims[name] = _Claim(label)
        return claim

    def _room(self, who: str) -> bool:
        return self._count < self._most and (who not in self._senders or len(self._senders[who].claims) < self._each)

    def _forget_expired(self, now: float) -> None:
        self._swept = now
        for who, sender in list(self._senders.items()):
            sender.claims = {name: claim for name, claim in sender.claims.items() if now < claim.until}
            if not sender.claims:
                del self._senders[who]
        self._count = sum(len(sender.claims) for sender in self._senders.values())

    def _placed(self, sender: _Sender, record: Any, now: float) -> None:
        name, ip = record.name.lower(), str(ipaddress.ip_address(record.address))
        if record.ttl == 0:
            sender.hosts.get(name, {}).pop(ip, None)
            return
        if name not in sender.hosts and len(sender.hosts) >= self._each:
            return
        addresses = sender.hosts[name]
        if ip in addresses or len(addresses) < _ADDRESSES:
            addresses[ip] = now + min(record.ttl, _TTL)


def _text(raw: bytes) -> dict[str, str]:
    """The values that have the form they must have; the first of each key counts (RFC 6763, 6.4)."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    at = 0
    while at < len(raw):
        entry, at = raw[at + 1 : at + 1 + raw[at]], at + 1 + raw[at]
        key, _, value = entry.decode("ascii", "replace").partition("=")
        if key in _TEXT and key not in seen:
            seen.add(key)
            if _TEXT[key].fullmatch(value):
                found[key] = value
    return found


def _reachable(ip: str, scope: str, from_here: bool) -> str:
    """The address as it is connected to, or "" for one that no device can have here."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return _reachable(str(address.ipv4_mapped), scope, from_here)
        if address.is_link_local:
            return f"[{address}%{scope}]" if scope else ""
    if address.is_loopback:
        usable = from_here  # of another machine it would be this one
    else:
        usable = not (address.is_multicast or address.is_unspecified or address.is_reserved)
    if not usable:
        return ""
    return f"[{address}]" if address.version == 6 else str(address)
