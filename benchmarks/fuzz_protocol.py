"""Mutated messages and streams against a device that serves: none may be believed, crash it, hang it, or leave anything behind.

    python -m benchmarks.fuzz_protocol [--count 200000] [--seed 0]

The mutants are those of a real conversation: each message and stream of a push and a pull is changed, blindly or in its JSON,
and said by a trusted peer in the state in which it was said. Bank, trust, inbox and conversation are those of a device; there
is no ROM behind them. A mutant may be harmless (a glance at something else): what counts is that nothing but the original
bundle is ever kept, that every answer is a message, and that the device still takes the original in the end.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.fuzz_bundles import ODD, blind
from edgecl.bank.bank import HeadBank
from edgecl.errors import EdgeclError
from edgecl.sharing import protocol
from edgecl.sharing.bundle import digest, from_bytes
from edgecl.sharing.chunks import Want, parts
from edgecl.sharing.inbox import Inbox
from edgecl.sharing.peer import Host, Responder
from edgecl.sharing.protocol import Answer, Ask, Done, Glance, Hello, Offers, Wants
from edgecl.sharing.signing import Signer
from edgecl.sharing.succession import Succession, hand_over
from edgecl.sharing.trust import Offer, Peer, judge
from edgecl.sharing.trust_store import TrustStore, offer_of

SLOW = 2.0  # seconds for a message of a kilobyte: a hang
GOLDEN = Path(__file__).parents[1] / "tests/edgecl/sharing/golden/bundle-1.safetensors"


def changed(rng: random.Random, message: bytes) -> bytes:
    """A message with something else at one place of its JSON."""
    value = json.loads(message)
    inside: Any = value
    while True:
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        if not keys:
            break
        key = rng.choice(list(keys))
        if isinstance(inside[key], (dict, list)) and inside[key] and rng.random() < 0.8:
            inside = inside[key]
            continue
        way = rng.randrange(4)
        if way == 0:
            inside[key] = rng.choice(ODD)
        elif way == 1 and isinstance(inside[key], int):
            inside[key] += rng.choice((-1, 1, 1 << 31, 1 << 48, -(1 << 63)))
        elif way == 2 and isinstance(inside, list):
            inside.extend([inside[key]] * rng.choice((1, 2, 300)))
        elif isinstance(inside, dict):
            inside[str(rng.choice(ODD))] = inside.pop(key)
        break
    return json.dumps(value).encode("utf-8", "replace")


class Keeper(Host):
    """A device without a network of its own: it believes one signer, and keeps what that one has signed."""

    def __init__(self, home: Path, signer: str, rom_id: str) -> None:
        self.bank = HeadBank(home / "bank.sqlite")
        self.trust = TrustStore(home, self.bank)
        self.trust.trust(Peer("friend", signer))
        self.image: Any = SimpleNamespace(rom_id=rom_id, backbone="", precision="")
        self.kept = 0

    def chain(self) -> Sequence[Succession]:
        return ()

    def meet(self, sender: str, chain: Sequence[Succession]) -> None:
        self.trust.succeed(chain)

    def require(self, sender: str) -> None:
        pass

    def offers(self) -> list[Offer]:
        found = [self.bank.get(name) for name in self.bank.current().values()]
        return [offer_of(from_bytes(data), data) for data in found]

    def data(self, digest: str) -> bytes:
        return self.bank.get(digest)

    def answers(self, offers: Sequence[Offer]) -> list[Answer]:
        standing = self.trust.standing(self.image, None)
        judged = [judge(offer, standing) for offer in offers]
        return [Answer("want") if e is None else Answer("refused", None, str(e.reason), str(e)) for e in judged]

    def relatives(self, task: str) -> list[bytes]:
        return [self.bank.get(name) for name in self.bank.current().values()]

    def take(self, bundles: Sequence[bytes]) -> list[Done]:
        done = []
        for data in bundles:
            try:
                bundle = self.trust.admit(data, self.trust.standing(self.image, None))
                self.bank.put(bundle.task, data, "import", bundle.mark)
                self.kept += 1
                done.append(Done(digest(data), "taken"))
            except EdgeclError as error:
                done.append(Done(digest(data), "refused", str(getattr(error, "reason", "")), str(error)))
        return done

    def stamp(self) -> object:
        return self.bank.version()


def _signer(number: int) -> Signer:
    """The same for a number in every run."""
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))


def main() -> None:
    """Say the mutants, and look what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, whole = random.Random(given.seed), GOLDEN.read_bytes()
    original = from_bytes(whole)
    offer = offer_of(original, whole)
    told: Counter[str] = Counter()
    slowest, started = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        host = Keeper(Path(place), original.signer, original.head.rom_id)
        box = Inbox(Path(place) / "incoming")
        full = Keeper(Path(place) / "full", original.signer, original.head.rom_id)
        full.take([whole])
        offers = protocol.encode(Offers((offer,)))
        messages = [
            protocol.encode(Glance(protocol.summary([offer.digest]))),
            offers,
            protocol.encode(Ask()),
            protocol.encode(Hello((hand_over(_signer(1), _signer(2), 1), hand_over(_signer(2), _signer(3), 2)))),
        ]
        wants = protocol.encode(Wants({offer.digest: Want(4, "0" * 32, frozenset(["1" * 32]))}))
        stream = b"".join(parts(whole, Want()))
        for number in range(given.count):
            far = Responder(host, box, original.signer)
            began = time.perf_counter()
            if number % 4 == 3:
                mutant = blind(rng, stream)
                far.answer(offers)
                try:
                    with far.receive() as receiver:
                        for at in range(0, len(mutant), 1000):
                            receiver.feed(mutant[at : at + 1000])
                        told[receiver.end()[0].state] += 1
                except EdgeclError as error:
                    told[type(error).__name__] += 1
            else:
                message = wants if number % 4 == 2 else rng.choice(messages)
                mutant = changed(rng, message) if rng.random() < 0.5 else blind(rng, message)
                if number % 4 == 2:
                    far = Responder(full, box, original.signer)
                    far.answer(protocol.encode(Ask()))
                    try:
                        told["sent" if sum(map(len, far.stream(mutant))) else "sent nothing"] += 1
                    except EdgeclError as error:
                        told[type(error).__name__] += 1
                else:
                    told[type(protocol.decode(far.answer(mutant))).__name__] += 1
            slowest = max(slowest, time.perf_counter() - began)
            if slowest > SLOW:
                raise SystemExit(f"mutant {number} of seed {given.seed} took {slowest:.1f} s")
            if set(host.bank.current().values()) - {offer.digest}:
                raise SystemExit(f"mutant {number} of seed {given.seed} was kept")
        far = Responder(host, box, original.signer)
        far.answer(offers)
        with far.receive() as receiver:
            for part in parts(whole, Want()):
                receiver.feed(part)
            if receiver.end()[0].state != "taken":
                raise SystemExit("the original is not taken any more")
        if problems := host.bank.verify():
            raise SystemExit(f"the bank is damaged: {problems}")
    print(f"{given.count:,} mutants in {time.perf_counter() - started:.0f} s: nothing of them was kept; ", end="")
    print(", ".join(f"{kind} {n:,}" for kind, n in told.most_common()) + f"; slowest {1e3 * slowest:.0f} ms")


if __name__ == "__main__":
    main()
