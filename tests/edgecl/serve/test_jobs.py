"""Learning through the API: a process of its own, from the line to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgecl.serve.jobs import Job, LearnRequest, _error, _progress

Serving = Callable[..., Any]
ENDED = ("done", "failed", "cancelled")


@pytest.fixture
def pictures(home: Path, pictures_task: Mapping[str, Path]) -> Path:
    """pictures/ in the home, with the three tasks and one that cannot be learned."""
    root = home / "pictures"
    root.mkdir(parents=True)
    for name, folder in pictures_task.items():
        os.symlink(folder, root / name)
    (home / "config.toml").write_text(f'data_root = "{next(iter(pictures_task.values())).parent}"\n')
    return next(iter(pictures_task.values())).parent


def learn(url: str, **request: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/learn", json=request)


def until(url: str, job: str, *states: str) -> dict[str, Any]:
    """The job, once it is in one of `states`."""
    for _ in range(6000):
        said: dict[str, Any] = httpx.get(f"{url}/v1/jobs/{job}").json()
        if said["state"] in states:
            return said
        assert said["state"] not in ENDED, said
        time.sleep(0.02)
    raise AssertionError(said)


def test_a_job_learns_and_its_head_answers(serving: Serving, pictures: Path) -> None:
    url = serving().url
    taken = learn(url, task="colours")
    assert taken.status_code == 202 and taken.json()["state"] in ("queued", "running")
    job = until(url, taken.headers["location"].rpartition("/")[2], "done")
    assert job["report"]["task"] == "colours" and job["report"]["generation"] == 1
    assert job["progress"]["done"] == job["progress"]["total"] > 0 and job["error"] is None
    assert [j["id"] for j in httpx.get(f"{url}/v1/jobs").json()] == [job["id"]]
    red = (pictures / "colours" / "test" / "red" / "01.jpg").read_bytes()
    assert httpx.post(f"{url}/v1/infer", content=red, headers={"content-type": "image/jpeg"}).json()["class"] == "red"


def test_a_job_that_fails_says_why_and_the_next_one_runs(serving: Serving, home: Path, tmp_path: Path) -> None:
    (home / "pictures" / "single" / "only").mkdir(parents=True)
    url = serving().url
    first, second = learn(url, task="single").json()["id"], learn(url, task="again", data="single").json()["id"]
    job = until(url, first, "failed")
    assert job["error"]["kind"] in ("EmptyTask", "DataError") and "single" in job["error"]["error"]
    assert until(url, second, "failed")["report"] is None
    assert httpx.get(f"{url}/v1/heads").json() == []


def test_a_job_is_cancelled_in_the_line_and_while_it_runs(serving: Serving, pictures: Path) -> None:
    running = serving()
    url = running.url
    first, second = (learn(url, task=task).json()["id"] for task in ("colours", "stripes"))
    assert httpx.delete(f"{url}/v1/jobs/{second}").json()["state"] == "cancelled"
    until(url, first, "running")
    assert httpx.delete(f"{url}/v1/jobs/{first}").status_code in (200, 202)
    job = until(url, first, "cancelled", "done")  # done where it was quicker
    assert job["interrupted"] and (job["state"] == "done") == (job["report"] is not None)
    heads = [head["task"] for head in httpx.get(f"{url}/v1/heads").json()]
    assert heads == (["colours"] if job["state"] == "done" else [])
    assert httpx.delete(f"{url}/v1/jobs/{first}").status_code == 200  # asked again, it stays as it is


def test_a_job_that_is_killed_hurts_nobody(serving: Serving, pictures: Path) -> None:
    running = serving()
    name = learn(running.url, task="colours").json()["id"]
    until(running.url, name, "running")
    process = None
    while process is None:
        process = running.call(lambda: running.service.jobs.get(name).process)
    os.kill(process.pid, signal.SIGKILL)
    job = until(running.url, name, "failed", "done")
    assert job["state"] == "done" or job["error"]["kind"] == "Killed"
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_the_line_is_bounded(serving: Serving, pictures: Path) -> None:
    url = serving().url
    said = [learn(url, task="colours") for _ in range(12)]
    refused = [one for one in said if one.status_code == 503]
    assert 2 <= len(refused) <= 4 and all(int(one.headers["retry-after"]) >= 1 for one in refused)
    for one in said:
        if one.status_code == 202:
            httpx.delete(f"{url}/v1/jobs/{one.json()['id']}")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({}, 400),
        ({"task": "../x"}, 400),
        ({"task": "--data=/etc"}, 400),
        ({"task": 5}, 400),
        ({"task": "colours", "method": "liner"}, 400),
        ({"task": "colours", "seed": -1}, 400),
        ({"task": "colours", "seed": True}, 400),
        ({"task": "colours", "budget": "3m; rm"}, 400),
        ({"task": "colours", "budget": 0}, 400),
        ({"task": "colours", "max_bytes": 1.5}, 400),
        ({"task": "colours", "rom": "/elsewhere"}, 400),
        ({"task": "colours", "data": "/etc"}, 403),
        ({"task": "colours", "data": "../.."}, 403),
        ({"task": "nowhere"}, 404),
        (["task"], 400),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_process_is_started(
    serving: Serving, pictures: Path, request_: Any, status: int
) -> None:
    url = serving().url
    said = httpx.post(f"{url}/v1/learn", json=request_)
    assert said.status_code == status, said.text
    assert httpx.get(f"{url}/v1/jobs").json() == []


def test_a_body_that_is_not_said_to_be_json_is_refused_as_a_foreign_page_would_send_it(
    serving: Serving, pictures: Path
) -> None:
    url = serving().url
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        said = httpx.post(f"{url}/v1/learn", content=b'{"task": "colours"}', headers={"content-type": media})
        assert said.status_code == 415
    json_ = {"content-type": "application/json"}
    assert httpx.post(f"{url}/v1/learn", content=b"{" * 60_000, headers=json_).status_code == 400
    assert httpx.post(f"{url}/v1/learn", content=b" " * 70_000, headers=json_).status_code == 413


def test_a_service_that_is_stopped_stops_its_job_and_leaves_nothing_half(home: Path, tiny_rom: Path, pictures: Path) -> None:
    command = [sys.executable, "-m", "edgecl", "serve", "--listen", "off", "--api", "127.0.0.1:0", "--rom", str(tiny_rom)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert service.stdout
    url = service.stdout.readline().removeprefix("ready ").strip()
    until(url, learn(url, task="colours").json()["id"], "running", "done")
    service.send_signal(signal.SIGTERM)
    _, said = service.communicate(timeout=90)
    assert service.returncode == 0 and "Traceback" not in said
    done = subprocess.run([sys.executable, "-m", "edgecl", "heads", "verify"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_values_never_become_options() -> None:
    words = LearnRequest("a", Path("/x/--budget=1"), "linear", 3, 90.5, 200).arguments()
    assert words == ["--task=a", "--data=/x/--budget=1", "--method=linear", "--seed=3", "--budget=90.500s", "--max-bytes=200"]


def test_what_a_job_says_is_read_with_care() -> None:
    assert _progress('{"stage": "reading", "done": 3, "total": 9}') == ("reading", 3, 9)
    for line in ("", "{", '{"stage"', '{"stage": 1}', '{"stage": "x", "done": "y", "total": 1}', "warning: x"):
        assert _progress(line) is None
    job = Job(LearnRequest("a", Path("x")))
    assert _error(job, 9)["kind"] == "EdgeclError"
    job.said.append("DataError: 'a' has a single class")
    assert _error(job, 4) == {"error": "'a' has a single class", "kind": "DataError", "reason": ""}
