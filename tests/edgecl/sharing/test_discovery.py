"""Devices find each other over multicast DNS on the loopback interface; then records of strangers, who may send anything."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from edgecl.cli.main import app
from edgecl.errors import MissingDependency, TransferError
from edgecl.sharing import peers
from edgecl.sharing.discovery import Announcer, Found, scan
from edgecl.sharing.sightings import SERVICE, Sightings
from edgecl.sharing.signing import Signer, fingerprint, identity
from edgecl.sharing.trust import Peer

pytest.importorskip("zeroconf", reason="needs zeroconf: pip install 'edgecl[serve]'")
import zeroconf
from zeroconf import DNSAddress, DNSOutgoing, DNSPointer, DNSService, DNSText

LOOPBACK = ["127.0.0.1"]
ROM = "ab" * 32
FP, OTHER = "AAAA-BBBB-CCCC-DDDD-2345", "ZZZZ-BBBB-CCCC-DDDD-2345"
RESPONSE, UNIQUE, IN = 0x8400, 0x8001, 1
A, PTR, TXT, AAAA, SRV = 1, 12, 16, 28, 33


@pytest.fixture(scope="module", autouse=True)
def multicast() -> None:
    """Some containers have none."""
    try:
        scan(0.01, LOOPBACK)
    except TransferError as error:
        pytest.skip(f"no multicast on this machine's loopback: {error}")


def mine(found: Sequence[Found], *keys: str) -> list[Found]:
    """Those of this test: other programs on this machine may announce devices too."""
    return [one for one in found if one.fingerprint in {fingerprint(key) for key in keys}]


def text(**values: str | None) -> bytes:
    given = {"v": "1", "fp": FP, "rom": "0123456789abcdef", **values}
    return b"".join(bytes([len(e)]) + e for e in (f"{k}={v}".encode() for k, v in given.items() if v is not None))


def records(
    name: str = "cam",
    host: str = "h.local.",
    port: int = 7433,
    addresses: Sequence[str] = ("10.0.0.7",),
    ttl: int = 120,
    txt: bytes | None = None,
) -> list[zeroconf.DNSRecord]:
    """What a device says of itself."""
    full = f"{name}.{SERVICE}"
    packed = [(ip, socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)) for ip in addresses]
    return [
        DNSPointer(SERVICE, PTR, IN, ttl, full),
        DNSService(full, SRV, UNIQUE, ttl, 0, 0, port, host),
        DNSText(full, TXT, UNIQUE, ttl, text() if txt is None else txt),
        *(DNSAddress(host, AAAA if ":" in ip else A, UNIQUE, ttl, data) for ip, data in packed),
    ]


def packets(*some: zeroconf.DNSRecord) -> list[bytes]:
    out = DNSOutgoing(RESPONSE)
    for record in some:
        out.add_answer_at_time(record, 0)
    return out.packets()


def heard(*said: tuple[str, list[zeroconf.DNSRecord]], most: int = 256, scope: str = "") -> Sightings:
    """What is kept after each of those senders has said that, all at second 0."""
    sightings = Sightings(most)
    for source, some in said:
        for packet in packets(*some):
            sightings.hear(packet, source, scope, 0.0)
    return sightings


# -- over real sockets


def test_a_device_is_found_while_it_is_there() -> None:
    key = Signer.fresh().key
    with Announcer("hall 1", 7433, key, ROM, interfaces=LOOPBACK) as here:
        expected = Found("hall 1", "127.0.0.1:7433", fingerprint(key), ROM[:16], 1)
        assert here.name == "hall 1" and mine(scan(1, LOOPBACK), key) == [expected]
    assert mine(scan(0.5, LOOPBACK), key) == []
    here.stop()


def test_two_of_one_name_are_two() -> None:
    first, second = Signer.fresh().key, Signer.fresh().key
    with (
        Announcer("cam." + "x" * 80, 7433, first, ROM, interfaces=LOOPBACK) as one,
        Announcer("cam." + "x" * 80, 7434, second, ROM, interfaces=LOOPBACK) as two,
    ):
        assert two.name == f"{one.name}-2"
        found = mine(scan(1.5, LOOPBACK), first, second)
        assert [(f.name, f.address, f.contested) for f in found] == [
            (one.name, "127.0.0.1:7433", False),
            (two.name, "127.0.0.1:7434", False),
        ]


def test_it_starts_and_stops_inside_an_event_loop() -> None:
    key = Signer.fresh().key

    async def serve() -> list[Found]:
        announcer = Announcer("loop", 7433, key, ROM, interfaces=LOOPBACK)
        await asyncio.to_thread(announcer.start)
        try:
            return await asyncio.to_thread(scan, 1, LOOPBACK)
        finally:
            announcer.stop()  # also from the loop's own thread

    assert len(mine(asyncio.run(serve()), key)) == 1


def test_ten_thousand_records_of_a_stranger_hide_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real packets, from another address of this machine, while a device is looked for."""
    key, kept = Signer.fresh().key, []
    hear = Sightings.hear

    def counted(self: Sightings, *packet: object) -> None:
        hear(self, *packet)
        kept.append(len(self))

    monkeypatch.setattr(Sightings, "hear", counted)
    flood = [
        packet
        for start in range(0, 2_500, 5)
        for packet in packets(*(r for i in range(start, start + 5) for r in records(f"bad {i}", f"h{i}.local.")))
    ]
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sent = iter(flood)

        def clock() -> float:
            for packet in islice(sent, 2):  # whenever the scan looks at the clock, and so as fast as it listens
                stranger.sendto(packet, ("224.0.0.251", 5353))
            return time.monotonic()

        with Announcer("honest", 7433, key, ROM, interfaces=LOOPBACK):
            found = scan(1.5, LOOPBACK, clock=clock)
    assert len(mine(found, key)) == 1 and len(found) <= 256
    assert len(kept) > 64 and 64 <= max(kept) <= 256, "the flood arrived, and little of it was kept"


# -- what is believed of whom


def test_what_is_heard_is_found_once_for_each_address() -> None:
    device = records(addresses=["10.0.0.7", "fd00::7"])
    assert heard(("10.0.0.7", device), ("fd00::7", device)).found(1) == [
        Found("cam", "10.0.0.7:7433", FP, "0123456789abcdef", 1),
        Found("cam", "[fd00::7]:7433", FP, "0123456789abcdef", 1),
    ]


@pytest.mark.parametrize(
    "evil",
    [
        records(addresses=["10.0.0.9"]),
        records(port=1),
        records("other"),
        records(addresses=["10.0.0.7", "10.0.0.9"]),
    ],
    ids=["elsewhere", "another port", "another name", "there too"],
)
def test_two_that_claim_one_key_are_both_shown_and_marked(evil: list[zeroconf.DNSRecord]) -> None:
    found = heard(("10.0.0.7", records()), ("10.0.0.9", evil)).found(1)
    assert all(one.contested for one in found) and "10.0.0.7:7433" in {one.address for one in found}


def test_two_devices_with_keys_of_their_own_are_not_marked() -> None:
    other = records(addresses=["10.0.0.9"], txt=text(fp=OTHER))
    found = heard(("10.0.0.7", records()), ("10.0.0.9", other)).found(1)
    assert [(one.address, one.contested) for one in found] == [("10.0.0.7:7433", False), ("10.0.0.9:7433", False)]


def test_what_expires_or_says_goodbye_is_gone() -> None:
    sightings = heard(("10.0.0.7", records(ttl=100)))
    assert sightings.found(99.9) and not sightings.found(100.1)
    for packet in packets(*records(ttl=0)):
        sightings.hear(packet, "10.0.0.7", "", 1.0)
    assert not sightings.found(2) and len(sightings) == 0


@pytest.mark.parametrize(
    "evil",
    [
        records(ttl=0),
        records(host="evil.local.", port=1, addresses=()),
        records(txt=b"\x03v=9"),
        records(txt=text(fp=OTHER)),
    ],
    ids=["goodbye", "host", "empty text", "another key"],
)
def test_nobody_says_goodbye_for_another_or_changes_what_it_said(evil: list[zeroconf.DNSRecord]) -> None:
    found = heard(("10.0.0.7", records()), ("10.0.0.9", evil)).found(1)
    assert Found("cam", "10.0.0.7:7433", FP, "0123456789abcdef", 1) in found


def test_no_believed_time_is_endless() -> None:
    sightings = heard(("10.0.0.7", records(ttl=2**31 - 1)))
    assert sightings.found(4_000) and not sightings.found(5_000)


@pytest.mark.parametrize(
    "txt",
    [
        b"",
        b"\xff",
        b"\x05fp=AB",
        text(fp=None),
        text(fp=FP.lower()),
        text(fp=FP + "-AAAA"),
        text(fp="\x1b[2J"),
        text(v=None),
        text(v="0"),
        text(v="9" * 200),
        text(v="+1"),
        text(fp="x") + text(),
        bytes(3) + text(fp="\udcff".encode("utf-8", "surrogatepass").decode("latin1")),
    ],
)
def test_a_text_that_is_not_ours_is_no_device(txt: bytes) -> None:
    assert heard(("10.0.0.7", records(txt=txt))).found(1) == []


@pytest.mark.parametrize("rom", [None, "", "ABCDEF0123456789", "0" * 15, "0" * 17, "../../etc/passwd"])
def test_a_rom_that_is_none_is_left_blank(rom: str | None) -> None:
    assert [one.rom for one in heard(("10.0.0.7", records(txt=text(rom=rom)))).found(1)] == [""]


@pytest.mark.parametrize(
    ("address", "source", "scope", "shown"),
    [
        ("127.0.0.1", "10.0.0.7", "", ""),
        ("127.0.0.1", "127.0.0.1", "", "127.0.0.1:7433"),
        ("::1", "fe80::7", "eth0", ""),
        ("0.0.0.0", "10.0.0.7", "", ""),
        ("255.255.255.255", "10.0.0.7", "", ""),
        ("224.0.0.251", "10.0.0.7", "", ""),
        ("ff02::fb", "fe80::7", "eth0", ""),
        ("::ffff:127.0.0.1", "10.0.0.7", "", ""),
        ("::ffff:10.0.0.7", "10.0.0.7", "", "10.0.0.7:7433"),
        ("fe80::7", "fe80::7", "eth0", "[fe80::7%eth0]:7433"),
        ("fe80::7", "10.0.0.7", "", ""),
        ("169.254.3.4", "169.254.3.4", "", "169.254.3.4:7433"),
    ],
)
def test_addresses_are_those_a_device_can_have(address: str, source: str, scope: str, shown: str) -> None:
    found = heard((source, records(addresses=[address])), scope=scope).found(1)
    assert [one.address for one in found] == ([shown] if shown else [])


def test_port_zero_is_no_port() -> None:
    assert heard(("10.0.0.7", records(port=0))).found(1) == []


@pytest.mark.parametrize("name", ["\x1b[2J\x07", "‮moc", "a" * 63, "x\ny", "=1+1"])
def test_names_are_printable_and_bounded(name: str) -> None:
    (found,) = heard(("10.0.0.7", records(name))).found(1)
    assert found.name.isprintable() and 0 < len(found.name) <= 60


def test_records_of_other_services_leave_nothing() -> None:
    other = "printer._ipp._tcp.local."
    some = [
        DNSPointer("_ipp._tcp.local.", PTR, IN, 120, other),
        DNSPointer(SERVICE, PTR, IN, 120, other),
        DNSPointer(SERVICE, PTR, IN, 120, SERVICE),
        DNSService(other, SRV, UNIQUE, 120, 0, 0, 631, "p.local."),
        DNSText(other, TXT, UNIQUE, 120, text()),
        DNSAddress("p.local.", A, UNIQUE, 120, socket.inet_aton("10.0.0.9")),
    ]
    sightings = heard(("10.0.0.9", some))
    assert len(sightings) == 0 and not sightings._senders and not sightings.unclear(1)


def test_a_flood_keeps_a_bounded_number_whoever_sends_it() -> None:
    """One sender fills a quarter of the places; many fill all, and what has expired makes room."""
    one = heard(("10.0.0.7", records()), *(("10.0.0.9", records(f"bad {i}", f"h{i}.local.")) for i in range(1_000)), most=40)
    assert len(one) == 11 and "10.0.0.7:7433" in {found.address for found in one.found(1)}
    many = heard(*((f"10.{i >> 8}.{i & 255}.1", records(f"bad {i}", f"h{i}.local.", ttl=50)) for i in range(10_000)), most=40)
    assert len(many) == len(many._senders) == 40 and len(many.found(1)) <= 40 and len(many.unclear(1)) <= 32
    for packet in packets(*records("late")):
        many.hear(packet, "10.0.0.7", "", 60.0)
    assert [one.name for one in many.found(60)] == ["late"]


def test_hosts_with_many_addresses_are_cut() -> None:
    some = [record for i in range(200) for record in records(addresses=[f"10.0.1.{i}"])]
    assert len(heard(("10.0.0.7", some)).found(1)) == 8


def test_what_is_not_whole_is_asked_for() -> None:
    pointer, service, txt, address = records()
    assert set(heard(("10.0.0.7", [pointer])).unclear(1)) == {(f"cam.{SERVICE}", SRV), (f"cam.{SERVICE}", TXT)}
    assert set(heard(("10.0.0.7", [pointer, service, txt])).unclear(1)) == {("h.local.", A), ("h.local.", AAAA)}
    assert heard(("10.0.0.7", [pointer, service, txt, address])).unclear(1) == []


def test_bytes_that_are_no_packet_are_nothing() -> None:
    (whole,) = packets(*records())
    sightings = Sightings()
    for at in range(len(whole)):
        sightings.hear(whole[:at], "10.0.0.7", "", 0.0)
        sightings.hear(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :], "10.0.0.8", "", 0.0)
    for packet in (b"", bytes(12), b"\xff" * 9_000, b"\0\0\x84\0" + b"\xff\xff" * 4 + b"\xc0\x0c" * 100):
        sightings.hear(packet, "10.0.0.9", "", 0.0)
    assert len(sightings) <= 256 and all(one.name.isprintable() for one in sightings.found(1))


# -- where there is no network, or no zeroconf


@pytest.mark.parametrize(
    "act", [lambda: scan(0.1, ["192.0.2.1"]), Announcer("x", 1, "ab" * 32, ROM, interfaces=["192.0.2.1"]).start]
)
def test_an_interface_that_is_not_there_is_a_sentence(act: Callable[[], object]) -> None:
    with pytest.raises(TransferError, match="address"):
        act()


def test_without_zeroconf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    for act in (lambda: scan(0.1), Announcer("x", 1, "ab" * 32, ROM).start):
        with pytest.raises(MissingDependency, match=r"edgecl\[serve\].*HOST:PORT"):
            act()


# -- edgecl peers scan


@pytest.fixture
def devices(home: Path) -> Iterator[dict[str, str]]:
    """Announced: this device, a trusted one, a revoked one, and one that nobody knows; name -> key."""
    keys = {"own": identity(home).key, **{name: Signer.fresh().key for name in ("friend", "foe", "stranger")}}
    peers.store(home, Peer("friend", keys["friend"]))
    peers.store(home, Peer("foe", keys["foe"], trusted=False))
    opened = [Announcer(name, 7400 + at, keys[name], ROM, interfaces=LOOPBACK) for at, name in enumerate(keys)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(Announcer.start, opened))
    yield keys
    for one in opened:
        one.stop()


def edgecl(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    app(["peers", "scan", "--interface", "127.0.0.1", "--seconds", "1.5", *words], standalone_mode=False)
    return capsys.readouterr().out


def test_scan_tells_whom_this_device_knows(devices: dict[str, str], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["fingerprint"]: row for row in json.loads(edgecl(capsys, "--json"))}
    states = {name: rows[fingerprint(key)]["state"] for name, key in devices.items()}
    assert states == {"own": "this device", "friend": "trusted", "foe": "revoked", "stranger": "unknown"}
    assert {rows[fingerprint(key)]["same_rom"] for key in devices.values()} == {None}, (
        "without a ROM there is nothing to compare"
    )
    assert not (home / "rom").exists() and not (home / "bank.sqlite").exists()
    shown = edgecl(capsys)
    assert f"127.0.0.1:7401           {fingerprint(devices['friend'])}  trusted as 'friend'" in shown


def test_scan_says_which_have_the_same_rom(home: Path, tiny_rom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgecl.rom.image import RomImage

    home.mkdir()
    (home / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    same, other = Signer.fresh().key, Signer.fresh().key
    with (
        Announcer("same", 7433, same, RomImage.open(tiny_rom).rom_id, interfaces=LOOPBACK),
        Announcer("other", 7434, other, ROM, interfaces=LOOPBACK),
    ):
        rows = {row["fingerprint"]: row["same_rom"] for row in json.loads(edgecl(capsys, "--json"))}
    assert (rows[fingerprint(same)], rows[fingerprint(other)]) == (True, False)


def test_scan_with_words_that_cannot_be_meant_is_a_sentence(home: Path) -> None:
    command = [sys.executable, "-m", "edgecl.cli.main", "peers", "scan", "--interface", "eth0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("ConfigError: --interface takes an IP address")
