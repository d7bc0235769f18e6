"""Devices over real HTTPS on loopback: both ends proven, and what a network can do to them."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="serving peers needs the extra: pip install 'edgecl[serve]'")
import httpx
import uvicorn

from edgecl.device import EdgeDevice
from edgecl.errors import IdentityError, PeerRefused, ProtocolError, TransferError
from edgecl.peering import Station, fetch, give, inbox, pull_from, share_to
from edgecl.serve.guard import Limits
from edgecl.serve.peers import PeerApp, listener, peers_socket
from edgecl.serve.service import server
from edgecl.sharing.bundle import from_bytes
from edgecl.sharing.chunks import Want, parts
from edgecl.sharing.protocol import MAX_MESSAGE, Ask, Offers, Refusal, Wants, decode, encode
from edgecl.sharing.signing import Signer, fingerprint
from edgecl.sharing.transport import tls
from edgecl.sharing.transport.https import Https, NewKey
from edgecl.sharing.transport.tls import client_context, first_look, server_context
from edgecl.sharing.trust import Peer

QUICK = Limits(
    body=1 << 50,
    held=1 << 60,
    connections=8,
    handshake_seconds=3.0,
    head_seconds=0.5,
    body_seconds=0.5,
    body_rate=100_000,
    write_seconds=0.5,
    idle_seconds=5.0,
    linger_seconds=0.2,
)


@pytest.fixture
def a(device: Callable[..., EdgeDevice], tmp_path: Path, pictures_task: Any) -> EdgeDevice:
    edge = device(tmp_path / "a", threads=1)
    edge.learn("shapes", pictures_task["shapes"])
    return edge


@pytest.fixture
def b(device: Callable[..., EdgeDevice], tmp_path: Path, a: EdgeDevice) -> EdgeDevice:
    edge = device(tmp_path / "b", threads=1)
    _ = edge.rom
    edge.trust.trust(Peer("a", a.trust.signer.key))
    a.trust.trust(Peer("b", edge.trust.signer.key))
    return edge


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Starts servers: serving(device) gives HOST:PORT."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(edge: EdgeDevice, context: ssl.SSLContext | None = None, limits: Limits = QUICK, **more: Any) -> str:
        sock = peers_socket("127.0.0.1", 0)
        one = listener(PeerApp(Station(edge), inbox(edge), **more), edge, sock, limits)
        running_one = server(one if context is None else replace(one, tls=context))
        thread = threading.Thread(target=running_one.run, args=([sock],), daemon=True)
        thread.start()
        while not running_one.started and thread.is_alive():
            threading.Event().wait(0.01)
        running.append((running_one, thread))
        return f"127.0.0.1:{sock.getsockname()[1]}"

    yield start
    for one, thread in running:
        one.should_exit = True
        thread.join(20)


def https(address: str, near: EdgeDevice | Signer, *keys: str, **more: Any) -> Https:
    return Https(address, near if isinstance(near, Signer) else near.trust.signer, keys, **more)


def raw(address: str, near: EdgeDevice, key: str) -> ssl.SSLSocket:
    """A connection of a trusted peer that then says what it likes."""
    host, _, port = address.partition(":")
    plain = socket.create_connection((host, int(port)), 10)
    return client_context(near.trust.signer, [key]).wrap_socket(plain)


def until_closed(connection: ssl.SSLSocket) -> bytes:
    connection.settimeout(20)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def test_heads_go_over_and_come_back(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], pictures_task: Any) -> None:
    at, key = serving(b), b.trust.signer.key
    assert first_look(*_parts(at)) == key
    with https(at, a, key) as channel:
        assert [o.state for o in give(a, channel)] == ["shared"]
        assert channel.key == key
        assert [o.state for o in give(a, channel)] == ["known"]
    b.learn("colours", pictures_task["colours"])
    with https(at, a, key) as channel:
        assert sorted((o.task, o.state) for o in fetch(a, channel)) == [("colours", "taken"), ("shapes", "known")]
    files = sorted(pictures_task["shapes"].glob("test/*/*"))
    assert a.infer(files) == b.infer(files)


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)


def test_a_man_in_the_middle_with_another_certificate(
    a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], tmp_path: Path
) -> None:
    """He has a key that b trusts even, but not b's: nothing is sent to him."""
    (tmp_path / "mallory").mkdir()
    at = serving(b, context=server_context(tmp_path / "mallory", b.trust.believed))
    with https(at, a, b.trust.signer.key) as channel, pytest.raises(TransferError, match="shows another key than") as refused:
        give(a, channel)
    assert fingerprint(b.trust.signer.key) in str(refused.value)


def test_a_certificate_that_names_another_key_is_not_believed(
    a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]
) -> None:
    """A trusted peer signs a certificate for a key of its own, under b's name: the key is what counts."""
    from cryptography.hazmat.primitives.serialization import Encoding

    mallory, inner = Signer.fresh(), Signer.fresh()
    a.trust.trust(Peer("mallory", mallory.key))
    leaf = mallory.certify(tls._builder(inner.key, b.trust.signer.key, mallory.key, ca=False))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(inner.to_pem() + leaf.public_bytes(Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    at = serving(b, context=context)
    with https(at, a, b.trust.signer.key, mallory.key) as channel, pytest.raises(TransferError):
        give(a, channel)


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_new_key_is_met_before_anything_else_is_said(
    a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], way: str
) -> None:
    """A key that a trusted one vouches for gets through the handshake: it hears nothing but a hello until it is known."""
    old = b.trust.signer.key
    b.trust.rotate()
    new = b.trust.signer.key
    asked: list[tuple[str, int]] = []
    at = serving(b, ended=lambda way, status: asked.append((way, status)))
    with https(at, a, old) as channel, pytest.raises(NewKey):
        give(a, channel)
    assert channel.key == new and asked == []
    if way == "push":
        assert [o.state for o in share_to(a, at)] == ["shared"]
    else:
        assert pull_from(a, at) == []
    assert a.trust.peers["b"].line == (old, new)
    a.trust.rotate()  # and the other way round: the server meets who speaks to it
    assert [o.state for o in share_to(a, at)] == ["shared"]
    assert b.trust.peers["a"].key == a.trust.signer.key


@pytest.mark.parametrize("year", [1951, 2200])
def test_dates_mean_nothing(
    year: int, a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board that wakes up in 1970 sees certificates of the future, and one whose clock runs ahead sees old ones."""
    monkeypatch.setattr(tls, "_FIRST", datetime.datetime(year, 1, 1))
    monkeypatch.setattr(tls, "_LAST", datetime.datetime(year, 1, 2))
    _serves(a, b, serving(b))


def test_a_stranger_does_not_get_through_the_handshake(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    at, stranger = serving(b), Signer.fresh()
    with (
        https(at, stranger, b.trust.signer.key) as channel,
        pytest.raises(TransferError, match="does not trust this device") as no,
    ):
        give(a, channel)
    assert fingerprint(stranger.key) in str(no.value)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    with closing(bare.wrap_socket(socket.create_connection(_parts(at)))) as connection:
        connection.sendall(b"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n" + encode(Ask()))
        assert until_closed(connection) == b""


def test_trust_and_its_end_need_no_restart(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    b.trust.revoke("a")
    at, key = serving(b), b.trust.signer.key
    with https(at, a, key) as channel, pytest.raises(TransferError, match="does not trust"):
        give(a, channel)
    b.trust.trust(Peer("a", a.trust.signer.key))
    with https(at, a, key) as channel:
        assert [o.state for o in give(a, channel)] == ["shared"]
        b.trust.revoke("a")
        with pytest.raises(PeerRefused, match="revoked") as refused:  # on the connection that is open
            give(a, channel)
    assert refused.value.reason == "revoked"


def test_nobody_is_let_in_while_nobody_can_tell_who_is_trusted(
    a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    at, file = serving(b), b.home / "peers.toml"
    sound = file.read_bytes()
    file.write_text("[[[")
    for _ in range(2):
        with https(at, a, b.trust.signer.key) as channel, pytest.raises(TransferError):
            give(a, channel)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "no peer is let in" in said[0] and "peers.toml cannot be read" in said[0]
    file.write_bytes(sound)
    _serves(a, b, at)


def test_where_no_file_can_be_written_the_sentence_says_so(a: EdgeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(a.home / "not there"))
    with pytest.raises(IdentityError, match="cannot show its key"):
        https("127.0.0.1:1", a, a.trust.signer.key)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/ask"), ("POST", "/v1/infer"), ("POST", "/"), ("POST", "/v1/ask/../../x"), ("DELETE", "/v1/send")],
)
def test_peers_have_three_ways_and_no_other(
    a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], method: str, path: str
) -> None:
    at = serving(b)
    context = client_context(a.trust.signer, [b.trust.signer.key])
    with httpx.Client(base_url=f"https://{at}", verify=context, trust_env=False) as client:
        answer = client.request(method, path, content=encode(Ask()) if method == "POST" else None)
    assert answer.status_code == 400 and isinstance(decode(answer.content), Refusal)


def test_an_endless_message_is_cut_off(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    at = serving(b)
    context = client_context(a.trust.signer, [b.trust.signer.key])
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1000 * MAX_MESSAGE:
            sent += 1 << 20
            yield b" " * (1 << 20)

    with httpx.Client(base_url=f"https://{at}", verify=context, trust_env=False) as client, suppress(httpx.HTTPError):
        assert client.post("/v1/ask", content=endless()).status_code in (400, 413)
    assert sent < 1000 * MAX_MESSAGE
    _serves(a, b, at)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"POST /v1/ask HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{",
        b"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"\x00" * 1000,
        b"GET / HTTP/0.9\r\n\r\n",
        b"POST /v1/ask HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
    ],
    ids=["silent", "half a head", "half a body", "smuggled", "zeros", "old", "a bomb of headers"],
)
def test_slow_loris_and_other_bad_manners_end(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], said: bytes) -> None:
    """A trusted peer that says that and then nothing: it is closed, and others are served meanwhile."""
    at = serving(b)
    with closing(raw(at, a, b.trust.signer.key)) as connection:
        connection.sendall(said)
        _serves(a, b, at)
        answer = until_closed(connection)
    assert b" 200 " not in answer.split(b"\r\n")[0]
    _serves(a, b, at)


def test_a_sender_that_trickles_is_cut_off(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    at = serving(b)
    with closing(raw(at, a, b.trust.signer.key)) as connection:
        connection.sendall(b"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        connection.settimeout(0.05)
        for _ in range(400):
            try:
                connection.sendall(b" ")
                if not connection.recv(1000):
                    break
            except TimeoutError:
                continue
            except (ConnectionError, ssl.SSLError):
                break
        else:
            pytest.fail("it was never cut off")
    _serves(a, b, at)


def test_a_receiver_that_does_not_read_is_cut_off(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    """A pull whose answer nobody reads holds no connection."""
    import dataclasses

    bundle = from_bytes(a.export("shapes"))
    for number in range(6):  # more than sockets hold
        large = a.trust.sign(dataclasses.replace(bundle, task=f"large-{number}", extra={"note": "x" * 3_000_000}))
        b.bank.put(large.task, large.to_bytes(), "import", large.mark)
    at = serving(b)
    with closing(raw(at, a, b.trust.signer.key)) as connection:
        connection.sendall(b"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n" + encode(Ask()))
        connection.settimeout(20)
        heard = b""
        while b'"offers"' not in heard or not heard.endswith(b"}}"):
            heard += connection.recv(65536)
        said = decode(heard.partition(b"\r\n\r\n")[2])
        assert isinstance(said, Offers)
        body = encode(Wants({head.digest: Want() for head in said.heads}))
        connection.sendall(b"POST /v1/fetch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        threading.Event().wait(3)
        assert len(until_closed(connection)) < 18_000_000
    _serves(a, b, at)


def test_a_peer_that_is_revoked_while_it_is_sent_heads(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    """It is hung up on, in the middle of the answer; and the service goes on."""
    at = serving(b)
    bundle = from_bytes(a.export("shapes"))
    for number in range(4):  # more than sockets hold
        large = a.trust.sign(replace(bundle, task=f"large-{number}", extra={"note": "x" * 3_000_000}))
        b.bank.put(large.task, large.to_bytes(), "import", large.mark)
    with https(at, a, b.trust.signer.key) as channel:
        said = decode(channel.ask(encode(Ask())))
        assert isinstance(said, Offers)
        stream = channel.fetch(encode(Wants({head.digest: Want() for head in said.heads})))
        seen = len(next(stream))
        b.trust.revoke("a")
        with pytest.raises(TransferError, match="broke off"):
            seen += sum(map(len, stream))
    assert seen < 12_000_000
    b.trust.trust(Peer("a", a.trust.signer.key))
    _serves(a, b, at)


def test_who_hangs_up_does_not_close_what_is_being_written(a: EdgeDevice, b: EdgeDevice) -> None:
    """A request is cancelled when its peer has gone. The thread that writes for it cannot be: it is waited for."""
    inside, go = threading.Event(), threading.Event()

    class Slow(Station):
        def require(self, sender: str) -> None:
            super().require(sender)
            if threading.current_thread() is not threading.main_thread() and armed:
                inside.set()
                assert go.wait(20)

    armed = False
    data = a.export("shapes")
    box = inbox(b)
    app = PeerApp(Slow(b), box)
    responder = app.responder(a.trust.signer.key)
    responder.answer(encode(Offers(tuple(Station(a).offers()))))
    stream = b"".join(parts(data, Want()))[:-10]

    async def run() -> None:
        nonlocal armed
        messages = [{"type": "http.request", "body": stream, "more_body": False}]

        async def receive() -> dict[str, Any]:
            nonlocal armed
            armed = True
            return messages.pop()

        async def send(message: Any) -> None:
            pytest.fail("nobody is there to be answered")

        scope = {"path": "/v1/send", "method": "POST", "edgecl.responder": responder}
        task = asyncio.create_task(app(scope, receive, send))
        await asyncio.to_thread(inside.wait, 20)
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    (left,) = (b.home / "incoming").iterdir()
    assert data.startswith(left.read_bytes()) and left.stat().st_size > len(data) - 100 and not box._open


def test_a_server_that_is_gone_and_one_that_is_none(a: EdgeDevice, b: EdgeDevice) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        at = f"127.0.0.1:{nobody.getsockname()[1]}"
        with https(at, a, b.trust.signer.key, patience=0.5) as channel, pytest.raises(TransferError):
            give(a, channel)
        with pytest.raises(TransferError, match="does not answer as a device"):
            first_look(*_parts(at), patience=0.5)
    with https(at, a, b.trust.signer.key) as channel, pytest.raises(TransferError, match="cannot be reached"):
        give(a, channel)


def test_a_server_that_answers_for_ever(a: EdgeDevice, b: EdgeDevice) -> None:
    """It has the right key, and sends: bounded by size, and by pace on a clock that the test moves."""
    context = server_context(b.home, b.trust.believed)

    def answer(listener: socket.socket, head: bytes, body: bytes) -> None:
        with closing(listener.accept()[0]) as plain, closing(context.wrap_socket(plain, server_side=True)) as connection:
            connection.recv(65536)
            connection.sendall(head)
            try:
                for _ in range(2000):
                    connection.sendall(body)
            except OSError:
                pass

    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    now = iter(range(0, 10**9, 30))
    for body, clock, words in ((b" " * 65536, None, "more than"), (b" ", lambda: float(next(now)), "slower than")):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=answer, args=(listener, head, body), daemon=True)
            thread.start()
            more = {"clock": clock} if clock else {}
            at = f"127.0.0.1:{listener.getsockname()[1]}"
            with (
                https(at, a, b.trust.signer.key, **more) as channel,
                pytest.raises((TransferError, ProtocolError), match=words),
            ):
                channel.ask(encode(Ask()))
            thread.join(20)


@pytest.mark.parametrize("why", ["there are others", "the time is up"])
def test_strangers_who_say_nothing_keep_nobody_out(why: str, a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    """They never begin TLS, so no server knows of them; else they would take every file handle of the process."""
    many = why == "there are others"
    at = serving(b, limits=replace(QUICK, handshake_seconds=600.0) if many else QUICK)
    strangers = [socket.create_connection(_parts(at)) for _ in range(4 * QUICK.connections if many else 3)]
    try:
        for stranger in strangers[: 3 * QUICK.connections]:
            stranger.settimeout(20)
            assert stranger.recv(1) == b""
        _serves(a, b, at)
    finally:
        for stranger in strangers:
            stranger.close()
    _serves(a, b, at)


def test_one_peer_does_not_take_the_places_of_all(
    a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str], device: Callable[..., EdgeDevice], tmp_path: Path
) -> None:
    c = device(tmp_path / "c", threads=1)
    b.trust.trust(Peer("c", c.trust.signer.key))
    at = serving(b, limits=replace(QUICK, connections=64, head_seconds=600.0))
    opened = []
    try:
        for _ in range(70):
            with suppress(OSError):
                opened.append(raw(at, c, b.trust.signer.key))
        closed = 0
        for connection in opened:
            connection.settimeout(0.2)
            try:
                closed += connection.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                closed += 1
        assert closed >= len(opened) - 8
        _serves(a, b, at)
    finally:
        for connection in opened:
            connection.close()


def test_a_key_of_another_kind_is_sent_away(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    """A trusted peer signs a certificate for it, so TLS lets it in; no device has such a key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    other = generate_private_key(SECP256R1())
    signer = a.trust.signer
    own = tls._builder(signer.key, "edgecl", signer.key, ca=False)
    leaf = signer.certify(
        x509.CertificateBuilder(own._issuer_name, own._subject_name, other.public_key(), 1, tls._FIRST, tls._LAST)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tempfile.NamedTemporaryFile() as file:
        key = other.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        file.write(key + leaf.public_bytes(form.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    at = serving(b)
    with closing(context.wrap_socket(socket.create_connection(_parts(at)))) as connection:
        with suppress(OSError):
            connection.sendall(b"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n" + encode(Ask()))
        assert until_closed(connection) == b""
    _serves(a, b, at)


def test_ten_times_more_connections_than_are_served(a: EdgeDevice, b: EdgeDevice, serving: Callable[..., str]) -> None:
    at = serving(b)
    opened = []
    try:
        for _ in range(10 * QUICK.connections):
            try:
                opened.append(raw(at, a, b.trust.signer.key))
            except OSError:
                break
    finally:
        for connection in opened:
            connection.close()
    threading.Event().wait(0.2)
    _serves(a, b, at)


def test_a_clock_at_1970_is_no_matter(
    device: Callable[..., EdgeDevice], tmp_path: Path, serving: Callable[..., str], pictures_task: Any
) -> None:
    """Boards without a clock share, and what they have is newer by number; certificates hold at any date, and none is asked."""
    from cryptography import x509

    a, b = (device(tmp_path / name, threads=1, clock=lambda: 0.0) for name in "ab")
    a.trust.trust(Peer("b", b.trust.signer.key))
    b.trust.trust(Peer("a", a.trust.signer.key))
    at = serving(b)
    for seed in (0, 1):
        a.learn("shapes", pictures_task["shapes"], seed=seed)
        with https(at, a, b.trust.signer.key) as channel:
            assert [o.state for o in give(a, channel)] == ["shared"]
    context = client_context(a.trust.signer, [b.trust.signer.key])
    assert context.verify_flags & 0x20_0000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME
    with closing(raw(at, a, b.trust.signer.key)) as connection:
        shown = x509.load_der_x509_certificate(connection.getpeercert(True) or b"")
    assert shown.not_valid_before_utc.year == 1950 and shown.not_valid_after_utc.year == 9999


def _serves(a: EdgeDevice, b: EdgeDevice, at: str) -> None:
    with https(at, a, b.trust.signer.key) as channel:
        assert [o.state for o in give(a, channel)] in (["shared"], ["known"], ["older"])
