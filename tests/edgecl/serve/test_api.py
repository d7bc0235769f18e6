"""The local API as its clients meet it: through a socket, over a device with two tasks."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import IdentityError, RequestRefused
from edgecl.serve.api import allowed_folder
from edgecl.serve.batching import BatchSettings
from edgecl.serve.guard import Limits
from edgecl.serve.token import api_token, matches

Serving = Callable[..., Any]
JPEG = {"content-type": "image/jpeg"}


def ask(url: str, data: bytes, **query: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/infer", content=data, headers=JPEG, params=query, timeout=60)


def test_an_answer_is_what_the_device_says(serving: Serving, learned: EdgeDevice, picture: bytes) -> None:
    url = serving().url
    (truth,) = learned.infer([picture])
    said = ask(url, picture)
    assert said.status_code == 200
    assert said.json() == {name: json.loads(json.dumps(v)) for name, v in truth.to_dict().items() if name != "picture"}
    assert said.json()["class"] == "red"
    assert ask(url, picture, task="stripes").json()["nearest_task"] == "stripes"


def test_what_is_wrong_with_a_request_is_said_in_json(serving: Serving, learned: EdgeDevice, picture: bytes) -> None:
    url = serving().url
    cases = [
        (ask(url, b"no picture"), 422, "PictureError"),
        (ask(url, picture[:200]), 422, "PictureError"),
        (ask(url, b""), 422, "PictureError"),
        (ask(url, picture, task="birds"), 404, "UnknownTask"),
        (ask(url, picture, task="../x"), 400, "ConfigError"),
        (ask(url, picture, taks="colours"), 400, "RequestRefused"),
        (httpx.post(f"{url}/v1/infer", content=picture, headers={"content-type": "text/html"}), 415, "RequestRefused"),
        (httpx.post(f"{url}/v1/infer", content=picture, headers={**JPEG, "content-encoding": "gzip"}), 415, "RequestRefused"),
        (httpx.get(f"{url}/v1/infer"), 405, "RequestRefused"),
        (httpx.get(f"{url}/v2"), 404, "RequestRefused"),
        (httpx.get(f"{url}/v1/heads/birds"), 404, "UnknownTask"),
        (httpx.get(f"{url}/v1/jobs/0"), 404, "RequestRefused"),
        (httpx.get(f"{url}/health", headers={"host": "evil.example"}), 421, "RequestRefused"),
    ]
    for response, status, kind in cases:
        assert (response.status_code, response.json()["kind"]) == (status, kind), response.text
        assert response.headers["content-type"] == "application/json"
        assert set(response.json()) == {"error", "kind", "reason"} and response.json()["error"]


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "a%0d%0aSet-Cookie:%20x=1", "a%00b", "%ff%fe", "a%1b[2J", "%252e%252e", "n" * 70],
)
def test_smuggling_through_a_task_name_reaches_nothing(serving: Serving, learned: EdgeDevice, name: str) -> None:
    with socket.create_connection(("127.0.0.1", serving().port), timeout=20) as sock:
        sock.sendall(f"GET /v1/heads/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while chunk := sock.recv(4096):
            said += chunk
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    assert b"cookie" not in head.lower() and b"\x1b" not in body and json.loads(body)["kind"]


def test_a_picture_that_cannot_be_read_hits_only_itself(serving: Serving, learned: EdgeDevice, picture: bytes) -> None:
    url = serving(batch=BatchSettings(max_batch=8, delay=0.2)).url
    bodies = [picture, b"rubbish", picture, picture[:300], picture]
    found: dict[int, int] = {}
    threads = [
        threading.Thread(target=lambda i=i, body=body: found.update({i: ask(url, body).status_code}))
        for i, body in enumerate(bodies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(5)] == [200, 422, 200, 422, 200]


def test_a_device_that_has_learned_nothing_says_so_and_is_healthy(serving: Serving, picture: bytes) -> None:
    url = serving().url
    assert ask(url, picture).status_code == 409
    health = httpx.get(f"{url}/health")
    assert health.status_code == 200 and health.json()["tasks"] == []


def test_what_another_process_learns_or_removes_answers_at_once(
    serving: Serving, learned: EdgeDevice, home: Path, tiny_rom: Path, pictures_task: Mapping[str, Path]
) -> None:
    url = serving().url
    disc = (pictures_task["shapes"] / "test" / "discs" / "01.jpg").read_bytes()
    assert ask(url, disc, task="shapes").status_code == 404
    command = [sys.executable, "-m", "edgecl", "learn", "--task", "shapes", "--data", str(pictures_task["shapes"])]
    subprocess.run([*command, "--rom", str(tiny_rom)], check=True, capture_output=True)
    assert ask(url, disc).json()["task"] == "shapes"
    assert "shapes" in httpx.get(f"{url}/health").json()["tasks"]
    bundle = learned.export("shapes")
    learned.bank.remove("shapes")
    assert ask(url, disc, task="shapes").status_code == 404
    (home / "shapes.bundle").write_bytes(bundle)
    (home / "config.toml").write_text(f'rom = "{tiny_rom}"\n')
    command = [sys.executable, "-m", "edgecl", "heads", "import", "--older", str(home / "shapes.bundle")]
    subprocess.run(command, check=True, capture_output=True)
    assert ask(url, disc).json()["class"] == "discs"


def test_the_token_is_asked_for_everywhere_but_for_the_bare_health(
    serving: Serving, learned: EdgeDevice, home: Path, picture: bytes
) -> None:
    token = api_token(home)
    url = serving(token=token).url
    wrong = [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {token}"}, {"authorization": f"Bearer {token}x"}]
    for headers in wrong:
        for method, path in (("POST", "/v1/infer"), ("POST", "/v1/learn"), ("GET", "/v1/heads"), ("GET", "/metrics"),
                             ("DELETE", "/v1/jobs/1"), ("GET", "/openapi.json")):  # fmt: skip
            refused = httpx.request(method, f"{url}{path}", headers=headers)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert token not in refused.text
        assert httpx.get(f"{url}/health", headers=headers).json() == {"status": "ok"}
    right = {"authorization": f"Bearer {token}"}
    assert httpx.post(f"{url}/v1/infer", content=picture, headers={**JPEG, **right}).status_code == 200
    assert httpx.get(f"{url}/health", headers={**right, "host": "edge-7.local"}).json()["tasks"] == ["colours", "stripes"]


def test_the_token_is_made_once_for_its_owners_eyes(home: Path) -> None:
    token = api_token(home)
    path = home / "api-token"
    assert api_token(home) == token and len(token) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="others"):
        api_token(home)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(IdentityError, match="no token"):
        api_token(home)
    assert matches(f"Bearer {token}".encode(), token) and not matches(b"Bearer ", token) and not matches(b"", token)


def test_overload_gives_503_with_retry_after_and_nothing_else(serving: Serving, learned: EdgeDevice, picture: bytes) -> None:
    running = serving(batch=BatchSettings(max_batch=2, max_queue=3))
    seen: list[tuple[int, str]] = []

    def client() -> None:
        with httpx.Client(timeout=60) as one:
            for _ in range(8):
                said = one.post(f"{running.url}/v1/infer", content=picture, headers=JPEG)
                seen.append((said.status_code, said.headers.get("retry-after", "")))

    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 96 and {status for status, _ in seen} == {200, 503}
    assert all(int(after) >= 1 for status, after in seen if status == 503)
    assert running.call(lambda: running.service.batcher.queued) == 0
    assert ask(running.url, picture).status_code == 200


def test_clients_that_go_away_leave_the_queue(serving: Serving, learned: EdgeDevice, picture: bytes) -> None:
    running = serving(batch=BatchSettings(max_batch=1, max_queue=4))
    busy, release = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        release.wait(30)

    running.service._worker.submit(hold)  # the device is busy with something long
    assert busy.wait(20)
    head = f"POST /v1/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(4)]
    for one in clients:
        one.sendall(head.encode() + picture)
    wait_for(lambda: running.call(lambda: running.service.batcher.queued) == 4)
    assert ask(running.url, picture).status_code == 503
    for one in clients:
        one.close()
    wait_for(lambda: running.call(lambda: running.service.batcher.queued) == 0)
    release.set()
    assert ask(running.url, picture).status_code == 200


def test_a_body_over_the_limit_is_refused(serving: Serving, learned: EdgeDevice, picture: bytes) -> None:
    url = serving(limits=Limits(body=1000)).url
    assert ask(url, picture + b"x" * 1000).status_code == 413


def test_metrics_count_requests_by_route_and_never_by_what_a_client_wrote(
    serving: Serving, learned: EdgeDevice, picture: bytes
) -> None:
    url = serving().url
    ask(url, picture)
    httpx.get(f"{url}/secret-path-of-a-client")
    httpx.request("BREW", f"{url}/v1/infer")
    said = httpx.get(f"{url}/metrics")
    assert said.headers["content-type"].startswith("text/plain")
    assert 'edgecl_requests_total{method="POST",route="/v1/infer",status="200"} 1.0' in said.text
    assert "edgecl_tasks 2.0" in said.text and 'edgecl_batch_pictures_bucket{le="1.0"} 1.0' in said.text
    assert "edgecl_queue_pictures 0.0" in said.text and 'edgecl_jobs{state="running"} 0.0' in said.text
    assert "secret" not in said.text and "BREW" not in said.text


def test_heads_are_listed_and_shown(serving: Serving, learned: EdgeDevice) -> None:
    url = serving().url
    heads = httpx.get(f"{url}/v1/heads").json()
    assert [(head["task"], head["serves"]) for head in heads] == [("colours", True), ("stripes", True)]
    card = httpx.get(f"{url}/v1/heads/colours").json()
    assert card["digest"] == heads[0]["digest"] and card["signer"] == "this device" and "red" in card["classes"]


def test_only_folders_below_the_pictures_may_be_learned_from(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    (root / "birds").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "way-out").symlink_to(tmp_path / "secret")
    (root / "file").write_bytes(b"")
    (root / "loop").symlink_to(root / "loop")
    assert allowed_folder("birds", "", tmp_path) == allowed_folder("birds", str(root), tmp_path / "x") == root / "birds"
    assert allowed_folder(str(root / "birds"), "", tmp_path) == root / "birds"
    for data in ("../secret", "way-out", "/etc", str(tmp_path / "secret"), "birds/../../secret", "/nowhere", "../nowhere"):
        with pytest.raises(RequestRefused) as refused:
            allowed_folder(data, "", tmp_path)
        assert (refused.value.status, refused.value.reason) == (403, "outside-data-root")
    for data, status in (("file", 404), ("nothing", 404), ("a\0b", 400), ("loop", 404), ("x" * 5000, 404)):
        with pytest.raises(RequestRefused) as refused:
            allowed_folder(data, "", tmp_path)
        assert refused.value.status in (status, 400)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_service_that_is_stopped_answers_what_it_is_working_on(
    home: Path, tiny_rom: Path, learned: EdgeDevice, picture: bytes
) -> None:
    """As a process, with SIGTERM in the middle of a load: every request begun is answered, or never was taken."""
    command = [
        sys.executable,
        "-m",
        "edgecl",
        "serve",
        "--listen",
        "off",
        "--api",
        "127.0.0.1:0",
        "--rom",
        str(tiny_rom),
        "--threads",
        "1",
    ]
    ready = home / "ready"
    process = subprocess.Popen(
        [*command, "--ready-file", str(ready)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout
    url = process.stdout.readline().removeprefix("ready ").strip()
    assert ready.read_text() == f"{url}\n"
    statuses: list[int] = []
    begun = threading.Event()

    def client() -> None:
        with httpx.Client(timeout=60) as one:
            while True:
                try:
                    statuses.append(one.post(f"{url}/v1/infer", content=picture, headers=JPEG).status_code)
                    begun.set()
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    return

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    process.terminate()
    _, said = process.communicate(timeout=60)
    for thread in threads:
        thread.join()
    assert process.returncode == 0 and "Traceback" not in said
    assert set(statuses) == {200}
