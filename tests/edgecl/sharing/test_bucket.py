"""Heads through a bucket on a real S3-compatible server; then what strangers in it, and a bad server, can do: nothing."""

from __future__ import annotations

import hashlib
import re
import socket
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from edgecl.errors import ConfigError, TransferError
from edgecl.exchange import pull, share
from edgecl.sharing.transport import base
from edgecl.sharing.transport.bucket import Bucket
from edgecl.sharing.transport.folder import Folder
from edgecl.sharing.transport.opening import open_place
from edgecl.sharing.trust import Peer

SECRETS = ("very-secret-word", "test-key")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def key(data: bytes, prefix: str = "a/b/") -> str:
    return f"{prefix}edgecl-heads/{digest(data)}.bundle"


def noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@contextmanager
def endpoint(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that lets `handle` do with each connection what it likes; its address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client went away, as it should
                handle(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address, block_on_close = True, True, False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def request(connection: socket.socket) -> bytes:
    """The head of the next request."""
    got = b""
    while b"\r\n\r\n" not in got and (piece := connection.recv(65536)):
        got += piece
    return got


# -- the way it is meant


def test_what_a_has_learned_b_can_do(s3: Any, device, tmp_path, pictures_task) -> None:
    a, b = (device(tmp_path / name, threads=1) for name in "ab")
    a.learn("shapes", pictures_task["shapes"])
    b.trust.trust(Peer("a", a.trust.signer.key))
    where = "s3://floor/line 3/"
    assert [o.state for o in share(a, open_place(where))] == ["shared"]
    assert [o.state for o in share(a, open_place(where))] == ["known"]
    assert [o.state for o in pull(b, open_place(where))] == ["taken"]
    assert b.export("shapes") == a.export("shapes")


def test_a_new_key_is_followed_over_a_bucket_and_nothing_is_fetched_twice(
    s3: Any, device, tmp_path, pictures_task, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (device(tmp_path / name, threads=1) for name in "ab")
    a.learn("shapes", pictures_task["shapes"])
    b.trust.trust(Peer("a", a.trust.signer.key))
    share(a, open_place("s3://floor"))
    pull(b, open_place("s3://floor"))
    a.trust.rotate()
    share(a, open_place("s3://floor"))
    assert sorted(o.state for o in pull(b, open_place("s3://floor"))) == ["older", "taken"]
    assert b.trust.peers["a"].key == a.trust.signer.key and b.export("shapes") == a.export("shapes")
    fetched: list[str] = []
    get = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, digest, limit: fetched.append(digest) or get(self, digest, limit))
    assert sorted(o.state for o in pull(b, open_place("s3://floor"))) == ["known", "older"] and fetched == []


def test_a_bucket_copied_to_a_stick_is_a_stick(s3: Any, tmp_path) -> None:
    data = noise(1_000)
    Bucket("s3://floor").put(data)
    for entry in s3.list_objects_v2(Bucket="floor")["Contents"]:
        path = tmp_path / entry["Key"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(s3.get_object(Bucket="floor", Key=entry["Key"])["Body"].read())
    assert Folder(tmp_path).ls() == Bucket("s3://floor").ls() and Folder(tmp_path).get(digest(data), 1_000) == data


def test_prefixes_are_places_of_their_own(s3: Any) -> None:
    Bucket("s3://floor/a").put(b"1")
    assert Bucket("s3://floor").ls() == Bucket("s3://floor/a/b").ls() == []
    assert [entry.digest for entry in Bucket("s3://floor/a/").ls()] == [digest(b"1")]


def test_to_share_again_costs_little(s3: Any, s3_address: str, aws: pytest.MonkeyPatch) -> None:
    """A head that is there already is asked for, not fetched; what a first share sends is the head and next to nothing more."""
    moved = [0]
    to = urlsplit(s3_address)

    def relay(connection: socket.socket) -> None:
        with socket.create_connection((to.hostname, to.port)) as server:

            def copy(source: socket.socket, sink: socket.socket) -> None:
                while piece := source.recv(65536):
                    moved[0] += len(piece)
                    sink.sendall(piece)
                sink.shutdown(socket.SHUT_WR)

            back = threading.Thread(target=copy, args=(server, connection), daemon=True)
            back.start()
            copy(connection, server)
            back.join()

    data = noise(150_000)
    with endpoint(relay) as address:
        aws.setenv("AWS_ENDPOINT_URL", address)
        place = Bucket("s3://floor")
        assert place.put(data)
        first, moved[0] = moved[0], 0
        assert not place.put(data)
        print(f"{first} bytes moved for {len(data)}, {moved[0]} the second time")
        assert first < 1.03 * len(data) and moved[0] < 2_000


def test_a_store_that_gives_no_md5_is_read_instead(s3: Any) -> None:
    """As where it encrypts, or puts together what came in parts: its mark is no digest then."""
    data = noise(6 << 20)
    upload = s3.create_multipart_upload(Bucket="floor", Key=key(data))["UploadId"]
    parts = []
    for number, part in enumerate((data[: 5 << 20], data[5 << 20 :]), 1):
        mark = s3.upload_part(Bucket="floor", Key=key(data), UploadId=upload, PartNumber=number, Body=part)["ETag"]
        parts.append({"PartNumber": number, "ETag": mark})
    place = Bucket("s3://floor/a/b")
    assert place.ls() == [], "what is not yet complete is not there"
    s3.complete_multipart_upload(Bucket="floor", Key=key(data), UploadId=upload, MultipartUpload={"Parts": parts})
    assert not place.put(data) and place.get(digest(data), len(data)) == data


# -- strangers who may write into the bucket


def test_of_a_long_object_only_as_much_is_read_as_may_come(s3: Any) -> None:
    s3.put_object(Bucket="floor", Key=key(b"x"), Body=bytes(3_000_000))
    place = Bucket("s3://floor/a/b")
    assert len(place._read(digest(b"x"), 1_001)) == 1_001
    with pytest.raises(TransferError, match="more than the 1,000 bytes"):
        place.get(digest(b"x"), 1_000)


def test_an_object_that_is_replaced_after_the_listing_is_refused_and_repaired(s3: Any) -> None:
    place, data = Bucket("s3://floor/a/b"), noise(1_000)
    place.put(data)
    (entry,) = place.ls()
    s3.put_object(Bucket="floor", Key=key(data), Body=noise(999) + b"!", Metadata={"sha256": digest(data)})
    with pytest.raises(TransferError, match="damaged"):
        place.get(entry.digest, 1_000)
    assert place.put(data) and place.get(digest(data), 1_000) == data


def test_an_object_that_goes_between_listing_and_reading_is_a_sentence(s3: Any) -> None:
    place = Bucket("s3://floor/a/b")
    place.put(b"1")
    (entry,) = place.ls()
    s3.delete_object(Bucket="floor", Key=key(b"1"))
    with pytest.raises(TransferError, match="is not in s3://floor/a/b"):
        place.get(entry.digest, 10)
    assert place.ls() == [] and place.put(b"1")


def test_a_listing_ends_in_pages(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles up to the bound of every place; strangers' objects up to twice that, however many pages they take."""
    place = Bucket("s3://floor/a/b")
    monkeypatch.setattr("edgecl.sharing.transport.s3._PAGE", 3)
    monkeypatch.setattr("edgecl.sharing.transport.bucket.MOST_LISTED", 8)
    monkeypatch.setattr(base, "MOST_LISTED", 8)
    for number in range(8):
        place.put(bytes([number]))
    assert len(place.ls()) == 8
    for number in range(8):
        s3.put_object(Bucket="floor", Key=f"a/b/edgecl-heads/{number}", Body=b"")
        s3.put_object(Bucket="floor", Key=f"a/b/edgecl-heads/inside/{number}.bundle", Body=b"")
    assert len(place.ls()) == 8
    s3.put_object(Bucket="floor", Key="a/b/edgecl-heads/one more", Body=b"")
    with pytest.raises(TransferError, match="more than 16 objects"):
        place.ls()
    s3.delete_object(Bucket="floor", Key="a/b/edgecl-heads/one more")
    place.put(b"nine")
    with pytest.raises(TransferError, match=r"more than (8 bundles|16 objects)"):
        place.ls()


# -- what is not there, and servers that are none


def all_three(place: Bucket) -> Iterator[Exception]:
    """What listing, reading and writing raise."""
    for act in (place.ls, lambda: place.get(digest(b"1"), 10), lambda: place.put(b"1")):
        with pytest.raises(TransferError) as caught:
            act()
        yield caught.value


def test_a_bucket_that_is_not_there_is_named(s3: Any) -> None:
    for error in all_three(Bucket("s3://other-floor/a")):
        assert re.search(r"s3://other-floor/a: there is no such bucket \(NoSuchBucket\).*AWS_ENDPOINT_URL", str(error))


def test_without_credentials_it_says_what_to_set(s3: Any, aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    for error in all_three(Bucket("s3://floor")):
        assert "AWS_PROFILE" in str(error) and "NoCredentials" in str(error)
    aws.setenv("AWS_PROFILE", "nobody")
    for error in all_three(Bucket("s3://floor")):
        assert "AWS_PROFILE" in str(error) and "ProfileNotFound" in str(error)


REFUSED = b"""<Error><Code>%s</Code><Message>very-secret-word test-key</Message></Error>"""


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (b"403 Forbidden", b"SignatureDoesNotMatch", "refuses this device.*AWS_PROFILE"),
        (b"403 Forbidden", b"InvalidAccessKeyId", "refuses this device.*AWS_PROFILE"),
        (b"403 Forbidden", b"RequestTimeTooSkewed", "set the clock"),
        (b"400 Bad Request", b"\x1b[2J<b>", "cannot be"),
        (b"500 Oops", b"InternalError", "cannot be"),
    ],
    ids=["signature", "key", "clock", "terminal escape", "internal"],
)
def test_what_a_server_says_is_not_repeated(status: bytes, code: bytes, said: str, aws: pytest.MonkeyPatch) -> None:
    body = REFUSED % code

    def refuse(connection: socket.socket) -> None:
        said = b"" if request(connection).startswith(b"HEAD") else body
        connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(said), said))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    pytest.importorskip("s3fs")
    with endpoint(refuse) as address:
        aws.setenv("AWS_ENDPOINT_URL", address)
        for error in all_three(Bucket("s3://floor", patience=2)):
            assert str(error).isprintable() and not any(secret in str(error) for secret in SECRETS)
            assert re.search(said, str(error))


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def closing(connection: socket.socket) -> None:
    request(connection)


def garbage(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(noise(2_000))


def html(connection: socket.socket) -> None:
    while request(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>")


def endless_head(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")


def endless_body(connection: socket.socket) -> None:
    """Of an object: it claims to be short, and goes on and on."""
    head = request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not head.startswith(b"HEAD"):
        connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def dripping(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    pause = threading.Event()
    while True:
        connection.sendall(b"<")
        pause.wait(0.1)


@pytest.mark.parametrize("behaviour", [silent, closing, garbage, endless_head], ids=lambda f: f.__name__)
def test_a_server_that_is_none_is_a_sentence_in_bounded_time(behaviour: Callable, aws: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    with endpoint(behaviour) as address:
        aws.setenv("AWS_ENDPOINT_URL", address)
        for error in all_three(Bucket("s3://floor", patience=0.3)):
            assert "s3://floor" in str(error) and "AWS_ENDPOINT_URL" in str(error)


@pytest.mark.parametrize("behaviour", [html, endless_body, dripping], ids=lambda f: f.__name__)
def test_an_object_that_never_ends_is_cut_off(behaviour: Callable, aws: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    with endpoint(behaviour) as address:
        aws.setenv("AWS_ENDPOINT_URL", address)
        place = Bucket("s3://floor", patience=0.3)
        with pytest.raises(TransferError):
            place.get(digest(b"1"), 100_000)
        if behaviour is html:
            assert place.ls() == []  # a page without entries says as little as an empty bucket


def test_where_nobody_answers_it_says_so(aws: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        for error in all_three(Bucket("s3://floor", patience=1)):
            assert re.search("does not answer.*check the network.*AWS_ENDPOINT_URL", str(error))


@pytest.mark.parametrize("address", ["no address", "ftp://x", "http://[::1"])
def test_an_endpoint_that_cannot_be_meant_is_a_sentence(address: str, aws: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    aws.setenv("AWS_ENDPOINT_URL", address)
    for error in all_three(Bucket("s3://floor", patience=1)):
        assert "AWS_ENDPOINT_URL" in str(error)


# -- words that are no bucket


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("file:///media/stick", "give its path alone"),
        ("https://store.example/floor", "AWS_ENDPOINT_URL"),
        ("ftp://host/x", "no place that edgecl knows"),
        ("simplecache::s3://floor/x", "no place that edgecl knows"),
        ("s3://", "names no bucket"),
        ("s3:///", "names no bucket"),
        ("s3://floor/\x1b[2J", "names no bucket"),
    ],
)
def test_words_that_are_no_bucket(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_place(word)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "word", ["s3://KEY:hush@floor/x", "s3://floor/x?secret=hush", "https://me:hush@host/x", "s3://floor#hush"]
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(ConfigError, match="must not hold") as caught:
        open_place(word)
    assert "hush" not in "".join(traceback.format_exception(caught.value))
