"""Attacks by what a bundle says or holds. Each is offered as something that the victim would want, and really sent."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from edgecl.sharing.bundle import MAX_BYTES, MAX_SEQUENCE, Bundle
from firmware_sim.agents import seeded_signer
from firmware_sim.foes.foe import Attack, Far, Foe, Line, catalogue, plain_offer
from firmware_sim.foes.forgery import own_bundle, poisoned_bundle, signed, signed_raw, with_arrays, with_header

ESCAPES = ("\x1b]0;owned\x07", "\u202egpj.exe", "a\nb", "\x1b[2J")
PATHS = ("../../peers.toml", "/etc/passwd", "..", "a/../../b", "C:\\x", "con\x00")


def _own(foe: Foe, rng: random.Random, name: str = "own") -> Bundle:
    """A sound head of the foe's own, each time of another task."""
    return own_bundle(foe.one(rng), f"{foe.name[:40]} {name} {rng.getrandbits(32):08x}", rng.getrandbits(32))


def _line(foe: Foe, far: Far) -> Line:
    return far.line(foe.signer.key)


def _as_own(foe: Foe, far: Far, data: bytes, task: str = "new") -> None:
    """Offer it as a head of the foe's for the right ROM, whatever its card says, and send it."""
    rom = plain_offer(foe.loot[0])
    _line(foe, far).push(data, task=task, key=foe.signer.key, sequence=1, rom_id=rom.rom_id, backbone=rom.backbone)


def unsigned(foe: Foe, far: Far, rng: random.Random) -> None:
    _as_own(foe, far, replace(_own(foe, rng), signer="", signature="").to_bytes())


def unknown_signer(foe: Foe, far: Far, rng: random.Random) -> None:
    """Of a key that nobody has trusted: told, and passed off as the foe's own."""
    data = signed(_own(foe, rng), seeded_signer(foe.name, "nobody", rng.random()))
    _line(foe, far).push(data)
    _as_own(foe, far, data)


def byte_altered(foe: Foe, far: Far, rng: random.Random) -> None:
    """In the length, in the header and in the arrays."""
    data = rng.choice(foe.loot)
    body = 8 + int.from_bytes(data[:8], "little")
    for low, high in ((0, 8), (8, body), (body, len(data))):
        altered = bytearray(data)
        altered[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
        _as_own(foe, far, bytes(altered))


def mix_and_match(foe: Foe, far: Far, rng: random.Random) -> None:
    """The card of an honest bundle with other arrays, offered as what the card says."""
    one = foe.one(rng)
    mixed = with_arrays(one, {name: value[::-1] for name, value in one.head.arrays.items()})
    _as_own(foe, far, mixed.to_bytes())


def rollback(foe: Foe, far: Far, rng: random.Random) -> None:
    """An older one of its own, then another under the number of the newest, as its offer says and as another's."""
    own = _own(foe, rng, "line")
    newest = MAX_SEQUENCE - rng.randrange(10, 1000)
    _line(foe, far).push(signed(own, foe.signer, newest))
    for number in (newest - 1, newest):
        data = signed(replace(own, report={"again": number}), foe.signer, number)
        _line(foe, far).push(data)
        _line(foe, far).push(data, task="new", sequence=1)


def fast_forward(foe: Foe, far: Far, rng: random.Random) -> None:
    """A number that nothing could follow: in the offer, and in the card of what was offered with a small one."""
    data = signed_raw(_own(foe, rng), foe.signer, 1 << 63)
    _line(foe, far).push(data, key=foe.signer.key, rom_id=plain_offer(foe.loot[0]).rom_id, sequence=1 << 63)
    _as_own(foe, far, data)


def wrong_rom(foe: Foe, far: Far, rng: random.Random) -> None:
    own = _own(foe, rng)
    other = replace(own, head=replace(own.head, rom_id=f"{rng.getrandbits(256):064x}"), provenance={})
    data = signed(other, foe.signer)
    _line(foe, far).push(data)
    _as_own(foe, far, data)


def wrong_precision(foe: Foe, far: Far, rng: random.Random) -> None:
    own = _own(foe, rng)
    said = own.provenance.get("rom")
    rom = {**(said if isinstance(said, dict) else {}), "precision": "int8-of-another-kind"}
    head = replace(own.head, rom_id=f"{rng.getrandbits(256):064x}")
    data = signed(replace(own, head=head, provenance={**own.provenance, "rom": rom}), foe.signer)
    _line(foe, far).push(data)
    _as_own(foe, far, data)


def hostile_names(foe: Foe, far: Far, rng: random.Random) -> None:
    """Paths and terminal escapes: as the task in an offer, in a card, and as classes."""
    own = _own(foe, rng)
    true = plain_offer(signed(own, foe.signer))
    for name in (*PATHS, *ESCAPES):
        _line(foe, far).offer(replace(true, task=name))
    _as_own(foe, far, signed_raw(replace(own, task=rng.choice(PATHS)), foe.signer))
    for name in ESCAPES:
        classes = (name, *own.head.classes[1:])
        _as_own(foe, far, signed_raw(replace(own, head=replace(own.head, classes=classes)), foe.signer))


def non_finite(foe: Foe, far: Far, rng: random.Random) -> None:
    """NaN and infinity in the head and in the anchors, under a good signature."""
    own = _own(foe, rng)
    for number in (np.nan, np.inf, -np.inf):
        head = {k: _with(v, number, rng) for k, v in own.head.arrays.items() if v.dtype.kind == "f"}
        _as_own(foe, far, signed_raw(with_arrays(own, head), foe.signer))
        _as_own(foe, far, signed_raw(with_arrays(own, limit=np.array([number], np.float32)), foe.signer))


def _with(array: np.ndarray, number: float, rng: random.Random) -> np.ndarray:  # type: ignore[type-arg]
    changed = array.copy()
    changed.flat[rng.randrange(changed.size)] = number
    return changed


def huge_norms(foe: Foe, far: Far, rng: random.Random) -> None:
    """Numbers that are finite, and that no picture gives: in the head, the anchors' means, their scatter and a threshold."""
    own = _own(foe, rng)
    wide = {k: np.full(v.shape, 3e38, np.float32) for k, v in own.head.arrays.items() if v.dtype.kind == "f"}
    anchors = next(iter(own.anchors.values()))
    variances = np.full(len(anchors["directions"]), 99.0, np.float32)
    for evil in (
        with_arrays(own, wide),
        with_arrays(own, means_step=np.full(len(anchors["means"]), 1e30, np.float32)),
        with_arrays(own, variances=variances),
        with_arrays(own, limit=np.array([-1], np.float32)),
    ):
        _as_own(foe, far, signed_raw(evil, foe.signer))


def shape_bombs(foe: Foe, far: Far, rng: random.Random) -> None:
    """Shapes that do not fit the classes or each other, empty ones, and one that would need all memory there is."""
    own = _own(foe, rng)
    name, array = max(own.head.arrays.items(), key=lambda item: item[1].size)
    anchors = next(iter(own.anchors.values()))
    for evil in (
        with_arrays(own, {name: array[:-1]}),
        with_arrays(own, {name: array[None]}),
        with_arrays(own, {name: array[:, :0] if array.ndim > 1 else array[:0]}),
        with_arrays(own, means=anchors["means"][:, :-1]),
        with_arrays(own, directions=np.zeros((0, 0), np.int8)),
    ):
        _as_own(foe, far, signed_raw(evil, foe.signer))
    vast = f'"head/{name}":{{"dtype":"F32","shape":[4294967296,4294967296],'.encode()
    cut = f'"head/{name}":{{'.encode()
    sound = signed(own, foe.signer)
    _as_own(foe, far, with_header(sound, lambda h: vast + h.split(cut, 1)[1] if h.startswith(cut) else h.replace(cut, vast, 1)))


def header_bombs(foe: Foe, far: Far, rng: random.Random) -> None:
    """A header longer than all, one nested beyond any stack, a card nested too deep; no bundle at all, and an empty one."""
    own = _own(foe, rng)
    data = signed(own, foe.signer)
    deep: object = 0
    for _ in range(100):
        deep = [deep]
    nested = b'{"__metadata__":' + b"[" * 100_000
    for evil in (
        (1 << 62).to_bytes(8, "little") + data[8:],
        with_header(data, lambda header: nested),
        signed_raw(replace(own, extra={"deep": deep}), foe.signer),
        rng.randbytes(500),
        b"\0",
    ):
        _as_own(foe, far, evil)
    _line(foe, far).offer(replace(plain_offer(data), size=MAX_BYTES + 1))


def duplicate_keys(foe: Foe, far: Far, rng: random.Random) -> None:
    """A key twice, in the header and in the card; and bytes that mean the same bundle in another form."""
    data = signed(_own(foe, rng), foe.signer)
    for change in (
        lambda header: b'{"__metadata__":{"edgecl":"{}"},' + header[1:],
        lambda header: header.replace(rb"\"format\":1", rb"\"format\":1,\"format\":1", 1),
        lambda header: header + b" " * 8,
    ):
        _as_own(foe, far, with_header(data, change))


def duplicate_classes(foe: Foe, far: Far, rng: random.Random) -> None:
    own = _own(foe, rng)
    classes = (own.head.classes[1], *own.head.classes[1:])
    _as_own(foe, far, signed_raw(replace(own, head=replace(own.head, classes=classes)), foe.signer))


def not_allowed(foe: Foe, far: Far, rng: random.Random) -> None:
    """A task that the victim does not take from this foe: told, and offered under the name of its own heads."""
    data = signed(_own(foe, rng, "forbidden"), foe.signer)
    _line(foe, far).push(data)
    _line(foe, far).push(data, task=f"{foe.name[:40]} own")


def quota(foe: Foe, far: Far, rng: random.Random) -> None:
    """Forty offers at once, each as large as one may be."""
    true = plain_offer(signed(_own(foe, rng), foe.signer))
    names = [(f"{foe.name[:40]} {n}", f"{rng.getrandbits(256):064x}") for n in range(40)]
    _line(foe, far).offer(*(replace(true, task=task, digest=digest, size=MAX_BYTES) for task, digest in names))


def _poison(how: str, foe: Foe, far: Far, rng: random.Random) -> None:
    for data in foe.loot:
        _line(foe, far).push(poisoned_bundle(data, foe.signer, rng.randrange(1, 1000), how, rng.getrandbits(32)))


def collision(foe: Foe, far: Far, rng: random.Random) -> None:
    """Copies of heads under other names: they would take their pictures."""
    _poison("collision", foe, far, rng)


def blinding(foe: Foe, far: Far, rng: random.Random) -> None:
    """Heads that take no picture, and whose anchors make those of other tasks look alike."""
    _poison("blinding", foe, far, rng)


def squat(foe: Foe, far: Far, rng: random.Random) -> None:
    """Other devices' heads as the foe's own, in their places."""
    _poison("squat", foe, far, rng)


def _of(*words: str) -> frozenset[str]:
    return frozenset(words)


_FIRST = "what nobody has brought before is the foe's own head, and taken; its author's is refused until a person decides"

ATTACKS = catalogue(
    unsigned=Attack(unsigned, _of("unknown-signer")),
    unknown_signer=Attack(unknown_signer, _of("unknown-signer")),
    byte_altered=Attack(byte_altered, _of("malformed", "bad-signature")),
    mix_and_match=Attack(mix_and_match, _of("bad-signature")),
    rollback=Attack(rollback, _of("rollback", "replay"), "the newest of its own line is a sound head, and taken"),
    fast_forward=Attack(fast_forward, _of("ProtocolError", "malformed")),
    wrong_rom=Attack(wrong_rom, _of("wrong-rom")),
    wrong_precision=Attack(wrong_precision, _of("wrong-precision")),
    hostile_names=Attack(hostile_names, _of("ProtocolError", "malformed")),
    non_finite=Attack(non_finite, _of("non-finite")),
    huge_norms=Attack(huge_norms, _of("malformed")),
    shape_bombs=Attack(shape_bombs, _of("malformed")),
    header_bombs=Attack(header_bombs, _of("malformed", "too-large")),
    duplicate_keys=Attack(duplicate_keys, _of("malformed")),
    duplicate_classes=Attack(duplicate_classes, _of("duplicate-classes")),
    not_allowed=Attack(not_allowed, _of("not-allowed")),
    quota=Attack(quota, _of("quota")),
    collision=Attack(collision, _of("collision"), _FIRST),
    blinding=Attack(blinding, _of("collision"), "where it makes the victim mistake less than collision_limit, it is taken"),
    squat=Attack(squat, _of("collision"), _FIRST),
)
