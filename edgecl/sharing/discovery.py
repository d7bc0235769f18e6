"""Devices that are near: they announce themselves by multicast DNS (`_edgecl._tcp`), and a scan listens for a few seconds.

A name, an address and a fingerprint found here are what somebody on the network says. They save typing, nothing more: the
connection proves the key, and trust is a person's decision. Without multicast, as in most containers, an address does as well.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from edgecl.errors import MissingDependency, TransferError
from edgecl.sharing.sightings import SERVICE, Found, Sightings
from edgecl.sharing.signing import fingerprint
from edgecl.text import printable

__all__ = ["VERSION", "Announcer", "Found", "scan"]

VERSION = 1  # of what is spoken at the announced address
_GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
_THROUGH = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_MULTICAST_IF),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF),
}
_PORT = 5353
_PACKET = 9_000  # bytes, as multicast DNS has them at most
_AT_ONCE = 32  # packets of one socket before the others have their turn, and time is looked at
_ASK_AT = (0.0, 0.4, 1.2, 2.5, 5.0, 10.0, 20.0, 40.0)  # seconds after the start
_NAME_BYTES = 56  # of 63: a name that is taken gets a number


class Announcer:
    """Says on the network that this device is here, while it is started.

    name: for people; where another device has it, `-2` and so on is added (`name` says so).   port: where the device answers.
    key: its public key.   rom_id: of its ROM.   interfaces: this machine's IP addresses to announce; None: all IPv4.
    """

    def __init__(
        self, name: str, port: int, key: str, rom_id: str, version: int = VERSION, interfaces: Sequence[str] | None = None
    ) -> None:
        self.name, self.port, self.fingerprint = _label(name), port, fingerprint(key)
        self._text = {"v": str(version), "fp": self.fingerprint, "rom": rom_id[:16]}
        self._interfaces = None if interfaces is None else list(interfaces)
        self._zeroconf: Any = None

    def start(self) -> None:
        """Announce; takes about a second, so from an event loop: `await asyncio.to_thread(announcer.start)`.

        Raises MissingDependency, or TransferError where this machine has no network that takes multicast.
        """
        zeroconf = _zeroconf()

        def announce() -> None:
            addresses = self._interfaces or [ip for ip in zeroconf.get_all_addresses() if not ip.startswith("127.")]
            running = zeroconf.Zeroconf(**({"interfaces": self._interfaces} if self._interfaces else {}))
            try:
                info = zeroconf.ServiceInfo(
                    SERVICE,
                    f"{self.name}.{SERVICE}",
                    port=self.port,
                    properties=self._text,
                    parsed_addresses=addresses,
                    # Of its own, so that of two devices with one name neither leads to the other.
                    server=f"edgecl-{self.fingerprint.lower()}.local.",
                )
                running.register_service(info, allow_name_change=True)
            except BaseException:
                running.close()
                raise
            self.name, self._zeroconf = info.name.removesuffix(f".{SERVICE}"), running

        self.stop()
        try:
            _aside(announce)
        except (OSError, RuntimeError, ValueError, zeroconf.Error) as error:
            raise TransferError(
                f"this device cannot be announced on the network ({_why(error)}); others reach it by its address"
            ) from error

    def stop(self) -> None:
        """Say goodbye. Does nothing when not started."""
        running, self._zeroconf = self._zeroconf, None
        if running is not None:
            with contextlib.suppress(OSError, RuntimeError, _zeroconf().Error):  # the network is gone, and so is the name
                _aside(running.close)

    def __enter__(self) -> Announcer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def scan(
    seconds: float = 3.0,
    interfaces: Sequence[str] | None = None,
    most: int = 256,
    clock: Callable[[], float] = time.monotonic,
) -> list[Found]:
    """The devices that were heard within that time. interfaces: this machine's IP addresses to listen at; None: all.

    Raises MissingDependency, or TransferError where this machine cannot listen.
    """
    zeroconf, heard = _zeroconf(), Sightings(most)
    with _sockets(zeroconf, interfaces) as (ears, *mouths):
        start = clock()
        asks = [at for at in _ASK_AT if at < seconds]
        while (passed := clock() - start) < seconds:
            if asks and passed >= asks[0]:
                _ask(zeroconf, mouths, heard.unclear(clock()), first=asks.pop(0) == 0, number=len(asks) + 1)
            wait = (asks[0] if asks else seconds) - passed
            for ear in select.select(ears, (), (), max(0.0, wait))[0]:
                with contextlib.suppress(OSError):  # no more, or the network's answer to what was sent before
                    for _ in range(_AT_ONCE):
                        packet, source = ear.recvfrom(_PACKET)
                        heard.hear(packet, *_source(source), clock())
        return heard.found(clock())


def _ask(
    zeroconf: Any, mouths: Sequence[Sequence[socket.socket]], unclear: Sequence[tuple[str, int]], first: bool, number: int
) -> None:
    """Send the question, and those for what is unclear. Raises TransferError when the first goes out nowhere.

    mouths: those at the common port, and those at ports of their own, whose questions have a number: responders take two
    that are equal for one.
    """
    sent, reason = 0, OSError("no interface")
    for some, out in zip(mouths, (zeroconf.DNSOutgoing(0), zeroconf.DNSOutgoing(0, False, number)), strict=True):
        for name, kind in ((SERVICE, 12), *unclear):
            out.add_question(zeroconf.DNSQuestion(name, kind, 1))
        for packet in out.packets():
            for mouth in some:
                try:
                    sent += mouth.sendto(packet, (_GROUPS[mouth.family], _PORT))
                except OSError as error:
                    reason = error
    if first and not sent:
        raise _deaf(reason)


@contextlib.contextmanager
def _sockets(zeroconf: Any, interfaces: Sequence[str] | None) -> Iterator[tuple[list[socket.socket], ...]]:
    """Where to listen; where to ask at the common port; where to ask at ports of their own."""
    kinds = zeroconf.IPVersion
    wanted: list[tuple[Any, Any]]
    if interfaces is None:  # with IPv6, or where this machine has none, without
        wanted = [(zeroconf.InterfaceChoice.All, kinds.All), (zeroconf.InterfaceChoice.All, kinds.V4Only)]
    else:
        has = {ipaddress.ip_address(ip).version for ip in interfaces}
        wanted = [(list(interfaces), kinds.All if len(has) == 2 else kinds.V6Only if has == {6} else kinds.V4Only)]
    reason: Exception = OSError("no interface")
    for where, version in wanted:
        try:
            ear, mouths = zeroconf.create_sockets(where, ip_version=version)
        except (OSError, RuntimeError) as error:
            reason = error
            continue
        break
    else:
        raise _deaf(reason)
    every = [one for one in dict.fromkeys([ear, *mouths]) if one is not None]
    try:
        if not mouths:
            raise _deaf(reason)
        own = []
        for mouth in mouths:
            with contextlib.suppress(OSError):  # the common port may do without
                own.append(_own_port(mouth))
        every += own
        for one in every:
            one.setblocking(False)
        yield every, mouths, own
    finally:
        for one in every:
            one.close()


def _own_port(mouth: socket.socket) -> socket.socket:
    """A second socket at that interface. What it asks is answered to itself, at once (RFC 6762, 6.7), also where other
    programs of this machine listen at the port of multicast DNS; firewalls let through the one or the other.
    """
    own = socket.socket(mouth.family, socket.SOCK_DGRAM)
    level, option = _THROUGH[mouth.family]
    try:
        own.bind((mouth.getsockname()[0], 0, *mouth.getsockname()[2:]))
        own.setsockopt(level, option, mouth.getsockopt(level, option, 4))
    except OSError:
        own.close()
        raise
    return own


def _deaf(error: Exception) -> TransferError:
    return TransferError(
        f"this machine cannot look for devices on its network ({_why(error)}); give the address instead, HOST:PORT"
    )


def _why(error: BaseException) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__, 120)


def _source(source: Any) -> tuple[str, str]:
    """Address and scope of a sender, as a socket gives them."""
    ip = ipaddress.ip_address(source[0].partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        return str(ip.ipv4_mapped), ""
    scope = source[3] if len(source) > 3 else 0
    return str(ip), socket.if_indextoname(scope) if scope else ""


def _label(name: str) -> str:
    """A name as multicast DNS can carry it."""
    shown = printable(name.strip()).replace(".", "-") or "edgecl"
    return shown.encode()[:_NAME_BYTES].decode("utf-8", "ignore")


def _aside(act: Callable[[], None]) -> None:
    """Run it in a thread of its own: zeroconf would hang itself into an event loop that runs in this one, and wait for it."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(act).result()


def _zeroconf() -> Any:
    try:
        import zeroconf
    except ImportError as error:
        raise MissingDependency(
            "to find devices on the network, zeroconf is needed: pip install 'edgecl[serve]'; or give an address, HOST:PORT"
        ) from error
    return zeroconf
